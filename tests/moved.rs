//! Threads that are moved to another channel, in simulated time: their questions come again as new
//! posts, and their answers with them.

use prx::commands::run::Session;
use serde_json::json;

use crate::support::bot::{ECHO, Stage};
use crate::support::desk::{Play, question};

const SECOND: u64 = 1000;

/// A bot that has looked at both channels.
fn at_work(more: &str) -> (Stage, Session, String) {
    let stage = Stage::simulated();
    stage.configure(ECHO, more);
    let other = stage.add_channel("other");
    stage.clock.advance(5 * SECOND);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    stage.world().log.clear();
    (stage, session, other)
}

fn ask(stage: &Stage, channel: &str, root: &str, text: &str) -> String {
    stage.clock.advance(1);
    let mut world = stage.world();
    let draft = world.draft(&stage.ann.id, channel, text);
    draft.root(root).post()
}

fn move_to(stage: &Stage, root: &str, other: &str, apart_ms: u64) -> Vec<String> {
    stage.clock.advance(1);
    let mut world = stage.world();
    world.move_thread(root, other, &stage.ann.id, apart_ms)
}

/// A thread of questions that were answered before this run, by version 0.1: their ids.
fn answered_thread(stage: &Stage, texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut questions: Vec<String> = Vec::new();
    for text in texts {
        let root = questions.first().cloned().unwrap_or_default();
        let question = ask(stage, &stage.channel, &root, &text);
        questions.push(question.clone());
        stage.clock.advance(SECOND);
        let props = json!({ "prx": { "in_reply_to": question, "part": 0, "of": 1 } });
        let mut world = stage.world();
        let draft = world.draft(&stage.bot.id, &stage.channel, "because");
        draft.root(&questions[0]).props(props).post();
    }
    stage.clock.advance(5 * SECOND);
    questions
}

/// The bot's posts in a channel.
fn own_posts(stage: &Stage, channel: &str) -> usize {
    let posts = stage.world().posts_in(channel);
    let own = posts.iter().filter(|post| post.user_id == stage.bot.id);
    own.filter(|post| post.kind.is_empty()).count()
}

fn count(stage: &Stage, part: &str) -> usize {
    let world = stage.world();
    let calls = world.log.iter();
    calls.filter(|call| call.target.contains(part)).count()
}

#[test]
fn a_moved_thread_that_holds_its_answers_is_not_answered_again() {
    let grows = "stream_mode = \"partial\"";
    // How far apart its posts come, how long an answer takes, the longest post, and a setting.
    for (apart_ms, takes_ms, max_post_size, more) in [
        (0, 0, 16383, ""),
        (20, 1_500, 16383, ""),
        (20, 5_000, 400, ""),
        (300, 5_000, 16383, ""),
        (1_500, 9_000, 16383, ""),
        (300, 5_000, 16383, grows),
        (1_500, 9_000, 16383, grows),
    ] {
        let case = format!("{apart_ms} {takes_ms} {more}");
        let (stage, mut session, other) = at_work(more);
        stage.world().knobs.max_post_size = max_post_size;
        drop(session);
        session = stage.start();
        stage.desk.takes(100);
        let text = "why? ".repeat(100);
        let root = ask(&stage, &stage.channel, "", &text);
        stage.run_for(&mut session, 5);
        ask(&stage, &stage.channel, &root, "and why else?");
        stage.run_for(&mut session, 60);
        let own = own_posts(&stage, &stage.channel);
        stage.desk.script(move |job| {
            let text = Play::Text(format!("You said: {}", question(job)));
            Some(vec![(takes_ms * 4 / 5, text), (takes_ms, Play::Done)])
        });
        let starts = stage.desk.starts().len();
        // Between two polls, so that the whole of a fast move is read at once.
        stage.clock.advance(200);
        let copies = move_to(&stage, &root, &other, apart_ms);
        stage.run_for(&mut session, 120);
        assert_eq!(own_posts(&stage, &other), own, "{case}");
        // A poll fell in between where there is time for one.
        let begun = stage.desk.starts().len() > starts;
        assert_eq!(begun, apart_ms > 0, "{case}");
        let again = ask(&stage, &other, &copies[0], "and why else?");
        stage.run_for(&mut session, 30);
        assert_eq!(stage.answers(&again).len(), 1, "{case}");
        assert!(stage.answers(&copies[0]).is_empty(), "{case}");
    }
}

#[test]
fn a_moved_question_that_never_had_an_answer_gets_one() {
    let (stage, mut session, other) = at_work("");
    let root = ask(&stage, &stage.channel, "", "why?");
    stage.run_for(&mut session, 5);
    drop(session);
    ask(&stage, &stage.channel, &root, "why?");
    let open = ask(&stage, &stage.channel, &root, "and how?");
    let copies = move_to(&stage, &root, &other, 0);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    let answers: Vec<usize> = copies
        .iter()
        .map(|copy| stage.answers(copy).len())
        .collect();
    assert_eq!(answers, [0, 0, 1, 1], "the root, its answer, and two more");
    assert!(stage.answers(&open).is_empty());
}

#[test]
fn the_same_question_asked_twice_is_answered_twice_and_moved_along_with_both_answers() {
    let (stage, mut session, other) = at_work("");
    let root = ask(&stage, &stage.channel, "", "why?");
    stage.run_for(&mut session, 5);
    let second = ask(&stage, &stage.channel, &root, "why?");
    let elsewhere = ask(&stage, &stage.channel, "", "why?");
    stage.run_for(&mut session, 90);
    for question in [&root, &second, &elsewhere] {
        assert_eq!(stage.answers(question).len(), 1);
    }
    stage.desk.takes(1_500);
    move_to(&stage, &root, &other, 50);
    stage.run_for(&mut session, 90);
    assert_eq!(own_posts(&stage, &other), 2);
}

#[test]
fn answers_of_an_older_version_are_known_by_their_place() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "");
    let other = stage.add_channel("other");
    let questions = answered_thread(&stage, ["why?", "how?"].map(str::to_owned).into_iter());
    ask(&stage, &stage.channel, &questions[0], "and now?");
    stage.clock.advance(5 * SECOND);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    stage.desk.takes(1_500);
    let copies = move_to(&stage, &questions[0], &other, 50);
    stage.run_for(&mut session, 90);
    let answered = copies.iter().filter(|copy| !stage.answers(copy).is_empty());
    assert_eq!(answered.collect::<Vec<_>>(), [&copies[4]]);
}

#[test]
fn a_long_thread_is_compared_as_a_whole_once() {
    // How many questions, how far apart the posts come, and whether the bot is there to see.
    for (many, apart_ms, there, requests) in
        [(120, 0, true, 4), (120, 30, true, 60), (502, 1, false, 80)]
    {
        let stage = Stage::simulated();
        stage.configure(ECHO, "");
        let other = stage.add_channel("other");
        let texts = (0..many).map(|number| format!("why {number}?"));
        let questions = answered_thread(&stage, texts);
        let mut session = stage.start();
        stage.run_for(&mut session, 10);
        stage.world().log.clear();
        // The next poll comes a second later, and finds more than the root.
        session.step().expect("no reason to exit");
        let copies = move_to(&stage, &questions[0], &other, apart_ms);
        if !there {
            drop(session);
            stage.clock.advance(5 * SECOND);
            session = stage.start();
        }
        stage.run_for(&mut session, 20);
        assert_eq!(own_posts(&stage, &other), many, "{many} {apart_ms}");
        let asked = count(&stage, "/thread") + count(&stage, "posts/ids");
        assert!(asked <= requests, "{many} {apart_ms}: {asked}");
        // The thread goes on.
        let again = ask(&stage, &other, &copies[0], "and now?");
        stage.run_for(&mut session, 3);
        assert_eq!(stage.answers(&again).len(), 1);
    }
}

#[test]
fn a_bot_that_is_started_anew_in_the_middle_of_a_move_answers_nothing_again() {
    for killed_after_ms in [1_200, 2_500, 4_500, 7_200, 8_500] {
        let (stage, mut session, other) = at_work("");
        let root = ask(&stage, &stage.channel, "", "why?");
        stage.run_for(&mut session, 5);
        ask(&stage, &stage.channel, &root, "and how?");
        stage.run_for(&mut session, 90);
        stage.desk.takes(4_000);
        move_to(&stage, &root, &other, 3_000);
        let until = stage.clock.elapsed_ms() + killed_after_ms;
        while stage.clock.elapsed_ms() < until {
            session.step().expect("no reason to exit");
        }
        drop(session);
        session = stage.start();
        stage.run_for(&mut session, 120);
        assert_eq!(own_posts(&stage, &other), 2, "{killed_after_ms}");
    }
}

#[test]
fn a_question_that_is_no_copy_costs_no_request_more() {
    let (stage, mut session, _) = at_work("");
    let root = ask(&stage, &stage.channel, "", "why?");
    stage.run_for(&mut session, 20);
    assert_eq!(stage.answers(&root).len(), 1);
    assert_eq!(count(&stage, "/thread"), 0);
    stage.world().log.clear();
    ask(&stage, &stage.channel, &root, "and how?");
    stage.run_for(&mut session, 20);
    assert_eq!(own_posts(&stage, &stage.channel), 2);
    // What was said before is told to the model.
    assert_eq!(
        (count(&stage, "/thread"), count(&stage, "posts/ids")),
        (1, 0)
    );
}

#[test]
fn why_tells_that_a_post_is_a_copy_whose_answer_came_along() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let other = stage.add_channel("other");
    let ran = stage.run(&["--once"], "");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let answer = |root: &str, question: &str| {
        let props = json!({ "prx": { "in_reply_to": question, "part": 0, "of": 1 } });
        let mut world = stage.world();
        let draft = world.draft(&stage.bot.id, &stage.channel, "because");
        draft.root(root).props(props).post();
    };
    let root = ask(&stage, &stage.channel, "", "why?");
    answer(&root, &root);
    ask(&stage, &stage.channel, &root, "and how?");
    let copies = stage.world().move_thread(&root, &other, &stage.ann.id, 0);
    // Here the answer is one to a post that was deleted.
    let open = ask(&stage, &stage.channel, "", "why?");
    let deleted = ask(&stage, &stage.channel, &open, "why?");
    answer(&open, &deleted);
    stage.world().delete(&deleted);
    let copy = "Not answered: it is a copy of a thread that was moved here";
    for (post, expected) in [
        (&copies[0], copy),
        (&copies[2], "Would be answered"),
        (&open, "Would be answered"),
    ] {
        let ran = stage.run(&["why", post], "");
        assert!(ran.stdout.contains(expected), "{ran:?}");
    }
}
