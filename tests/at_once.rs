//! Several answers at once, in simulated time: whose turn it is, what people see meanwhile, and what
//! becomes of an answer whose worker, question, channel or server is lost.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use log::LevelFilter;
use prx::commands::run::Session;
use prx::provider::Message;
use serde_json::{Value, json};

use crate::support::bot::{ECHO, Stage};
use crate::support::clock::EPOCH_MS;
use crate::support::desk::{Play, Start, question, says};
use crate::support::lines;
use crate::support::mattermost::picture::gif;
use crate::support::mattermost::{Act, Fault, Joining, Logged, RateLimit, api_path};

const SECOND: u64 = 1000;

/// A bot that has looked at everything once; everybody is allowed.
fn at_work(more: &str) -> (Stage, Session) {
    let stage = Stage::simulated();
    stage.configure(ECHO, &format!("allowed_users = [\"*\"]\n{more}"));
    stage.clock.advance(5 * SECOND);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    stage.world().log.clear();
    (stage, session)
}

fn ask(stage: &Stage, text: &str) -> String {
    stage.clock.advance(1);
    stage.world().post(&stage.ann.id, &stage.channel, text)
}

fn ask_as(stage: &Stage, person: &str, text: &str) -> String {
    stage.clock.advance(1);
    stage.world().post(person, &stage.channel, text)
}

fn reply_to(stage: &Stage, root: &str, text: &str) -> String {
    stage.clock.advance(1);
    let mut world = stage.world();
    world
        .draft(&stage.ann.id, &stage.channel, text)
        .root(root)
        .post()
}

/// People who are in the channel.
fn people(stage: &Stage, count: usize) -> Vec<String> {
    let mut world = stage.world();
    let people = (0..count).map(|number| {
        let person = world.add_user(&format!("person{number}")).id;
        world.join_team(&stage.team, &person);
        world.add_member(&stage.channel, &person, Joining::Silently);
        person
    });
    people.collect()
}

/// When a question got its answer, in milliseconds after it was asked.
fn waited(stage: &Stage, question: &str) -> u64 {
    let world = stage.world();
    let asked = world.post_by_id(question).create_at;
    let answers = world.own_answers(&stage.bot.id, question);
    assert_eq!(answers.len(), 1, "answers to {question}");
    answers[0].create_at - asked
}

fn typings(stage: &Stage) -> Vec<(u64, String)> {
    let world = stage.world();
    let calls = world
        .log
        .iter()
        .filter(|call| call.target.ends_with("/typing"));
    let place = |call: &Logged| {
        let body: Value = serde_json::from_str(&call.body).expect("JSON");
        body["parent_id"].as_str().unwrap_or_default().to_owned()
    };
    calls.map(|call| (call.at_ms, place(call))).collect()
}

#[test]
fn eight_people_at_once_wait_for_one_answer_or_two() {
    for (at_once, most_ms, beside) in [(8, 6_500, 8), (4, 11_000, 4), (1, 42_000, 1)] {
        let (stage, mut session) = at_work(&format!("answers_at_once = {at_once}"));
        stage.desk.takes(5_000);
        let questions: Vec<String> = people(&stage, 8)
            .iter()
            .map(|person| ask_as(&stage, person, "what is new?"))
            .collect();
        stage.run_for(&mut session, 60);
        let slowest = questions
            .iter()
            .map(|question| waited(&stage, question))
            .max();
        assert!(slowest <= Some(most_ms), "{at_once}: {slowest:?}");
        let starts = stage.desk.starts();
        let most = starts.iter().map(|start| start.beside.len() + 1).max();
        assert_eq!(most, Some(beside), "{at_once}");
        let world = stage.world();
        let looks = |end| {
            world
                .log
                .iter()
                .filter(move |it| it.target.ends_with(end))
                .count()
        };
        assert!(looks("/posts/ids") > 0);
        // Where one alone is at work, its own address tells.
        let several = looks("/posts/ids/reactions");
        assert!(beside == 1 || several > 0 && looks("/reactions") <= several + 1);
    }
}

#[test]
fn everybody_who_waits_sees_typing_in_the_channel_and_in_the_thread() {
    // More people than a round has places wait for those that are at work.
    for (count, at_once) in [(6, 2), (12, 1), (20, 1)] {
        let (stage, mut session) = at_work(&format!("answers_at_once = {at_once}"));
        stage.desk.takes(9_000);
        let people = people(&stage, count);
        let begun = EPOCH_MS + stage.clock.elapsed_ms();
        let questions: Vec<String> = people
            .iter()
            .map(|person| ask_as(&stage, person, "what is new?"))
            .collect();
        stage.run_for(&mut session, 200);
        let typings = typings(&stage);
        let typed_in = |place: &str| -> Vec<u64> {
            let there = typings.iter().filter(|(_, to)| to == place);
            there.map(|(at, _)| *at).collect()
        };
        for place in questions.iter().chain([&String::new()]) {
            let at = typed_in(place);
            assert!(
                at[0] < begun + 6_000 || count > 6,
                "{place:?}: first at {}",
                at[0] - begun
            );
            let apart = at.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(apart <= Some(6_000), "{place:?}: {apart:?} apart");
        }
        for start in stage.desk.starts() {
            let late = EPOCH_MS + start.at_ms + 3_000;
            let typed = typed_in(&start.post);
            let last = typed.last().expect("typing");
            assert!(*last > late, "nothing was typed for what was at work");
        }
        for second in 0..60 {
            let from = begun + second * SECOND;
            let count = typings
                .iter()
                .filter(|(at, _)| (from..from + SECOND).contains(at))
                .count();
            // One pair of "typing" for each answer taken up comes on top of the five.
            assert!(count <= 5 + 2 * at_once, "{count} in second {second}");
        }
    }
}

#[test]
fn nobody_sees_typing_where_the_channel_is_closed_or_the_thread_may_be_none_of_the_bots() {
    let (stage, mut session) = at_work("mention_only = true\nfollow_threads = true");
    let root = ask(&stage, "among us");
    stage.run_for(&mut session, 5);
    stage.fail(Fault::Html(502), |request| {
        api_path(request).contains("/thread")
    });
    reply_to(&stage, &root, "is it so?");
    stage.run_for(&mut session, 20);
    assert_eq!(typings(&stage), []);

    let (stage, mut session) = at_work("answers_at_once = 2");
    stage.desk.script(|job| {
        let secs = if question(job) == "slow" { 60 } else { 2 };
        Some(says("done", secs * SECOND))
    });
    for text in ["slow", "quick", "waiting"] {
        ask(&stage, text);
    }
    let refused = Fault::Error(403, "api.context.permissions.app_error");
    stage.fail(refused, |request| {
        request.method == "POST" && api_path(request) == "posts"
    });
    stage.run_for(&mut session, 6);
    stage.world().log.clear();
    stage.run_for(&mut session, 20);
    assert_eq!(typings(&stage), []);
    assert_eq!(stage.desk.starts().len(), 2);
}

#[test]
fn a_reply_is_typed_for_in_its_thread_only() {
    let (stage, mut session) = at_work("");
    let root = stage
        .world()
        .post(&stage.eve.id, &stage.channel, "a root by another");
    stage.run_for(&mut session, 10);
    stage.world().log.clear();
    stage.desk.takes(9_000);
    reply_to(&stage, &root, "what is new?");
    stage.run_for(&mut session, 20);
    let typings = typings(&stage);
    assert!(typings.len() >= 3, "{typings:?}");
    assert!(
        typings.iter().all(|(_, place)| *place == root),
        "{typings:?}"
    );
}

#[test]
fn a_conversation_is_answered_one_question_after_the_other_and_tells_the_later_one_the_earlier() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(5_000);
    let root = ask(&stage, "first");
    stage.run_for(&mut session, 2);
    let second = reply_to(&stage, &root, "second");
    let elsewhere = ask(&stage, "elsewhere");
    stage.run_for(&mut session, 30);
    let starts = stage.desk.starts();
    let order: Vec<&str> = starts.iter().map(|start| start.post.as_str()).collect();
    assert_eq!(order, [root.as_str(), &elsewhere, &second]);
    assert_eq!(starts[1].beside, [root.as_str()]);
    assert!(waited(&stage, &elsewhere) < 7_000);
    assert!(stage.answers(&second)[0].contains("second"));
}

#[test]
fn nobody_waits_for_people_who_ask_a_lot() {
    for at_once in [1, 2, 4] {
        let (stage, mut session) = at_work(&format!("answers_at_once = {at_once}"));
        stage.desk.takes(5_000);
        let people = people(&stage, at_once + 1);
        let many = people[..at_once].iter();
        let many: Vec<String> = many
            .flat_map(|person| (0..6).map(|_| ask_as(&stage, person, "and this?")))
            .collect();
        let other = ask_as(&stage, &people[at_once], "one question");
        stage.run_for(&mut session, 60);
        // Those who ask a lot have had one answer each by then.
        assert!(waited(&stage, &other) < 12_000, "{at_once}");
        many.iter().for_each(|question| {
            waited(&stage, question);
        });
    }
}

#[test]
fn the_polling_goes_on_while_answers_are_made_also_where_typing_fails() {
    for fault in [
        None,
        Some(Fault::Reset),
        Some(Fault::Html(502)),
        Some(Fault::RateLimited(9)),
    ] {
        let (stage, mut session) = at_work("");
        stage.desk.takes(60_000);
        ask(&stage, "a long one");
        stage.run_for(&mut session, 2);
        if let Some(fault) = fault.clone() {
            stage.fail(fault, |request| api_path(request).ends_with("/typing"));
        }
        stage.run_for(&mut session, 48);
        let world = stage.world();
        let polls = world.log.iter();
        let polls = polls.filter(|call| call.target.ends_with("/channels"));
        let polls: Vec<u64> = polls.map(|call| call.at_ms).collect();
        let apart = polls.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(
            polls.len() >= 48 && apart <= Some(1_100),
            "{fault:?}: {} polls, {apart:?}",
            polls.len()
        );
    }
}

#[test]
fn a_question_deleted_while_its_answer_is_made_ends_the_worker_and_gets_nothing() {
    // On a server that shows several posts at once, and on one that does not.
    for version in [
        crate::support::mattermost::Version::V11_6,
        crate::support::mattermost::Version::V5_37,
    ] {
        let clock = crate::support::clock::SimClock::new();
        let time = crate::support::clock::Time::Sim(clock.clone());
        let stage = Stage::new(time, clock, version);
        stage.configure(ECHO, "");
        let mut session = stage.start();
        stage.run_for(&mut session, 90);
        stage.desk.takes(60_000);
        let question = ask(&stage, "never mind");
        let kept = ask(&stage, "this one stays");
        stage.run_for(&mut session, 10);
        stage.world().delete(&question);
        stage.run_for(&mut session, 6);
        assert_eq!(stage.desk.stopped(), 1);
        stage.run_for(&mut session, 90);
        assert!(stage.answers(&question).is_empty());
        assert_eq!(stage.answers(&kept).len(), 1);
    }
}

#[test]
fn a_question_edited_while_its_answer_is_made_is_answered_as_it_is_then() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(20_000);
    let question = ask(&stage, "what is the capitol?");
    stage.run_for(&mut session, 10);
    stage.world().edit(&question, "what is the capital?");
    // A reaction moves `update_at` as well.
    stage.run_for(&mut session, 10);
    stage.world().react(&stage.eve.id, &question, "eyes");
    stage.run_for(&mut session, 40);
    assert_eq!(stage.answers(&question), ["You said: what is the capital?"]);
    let asked: Vec<String> = stage
        .desk
        .starts()
        .into_iter()
        .map(|start| start.asked)
        .collect();
    assert_eq!(asked, ["what is the capitol?", "what is the capital?"]);
}

#[test]
fn a_question_edited_out_of_its_mention_gets_no_answer_in_a_thread_of_others() {
    for follow_threads in [true, false] {
        let (stage, mut session) = at_work(&format!(
            "mention_only = true\nfollow_threads = {follow_threads}"
        ));
        stage.desk.takes(20 * SECOND);
        let root = ask(&stage, "among us");
        let question = reply_to(&stage, &root, "@prxbot is it so?");
        stage.run_for(&mut session, 5);
        assert_eq!(stage.desk.starts().len(), 1);
        stage.world().edit(&question, "is it so?");
        stage.run_for(&mut session, 60);
        assert!(stage.answers(&question).is_empty());
        assert_eq!(stage.desk.starts().len(), 1);
    }
}

#[test]
fn a_question_with_another_file_is_asked_anew_and_one_whose_answer_is_made_is_not() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(20 * SECOND);
    let question = ask(&stage, "what is this?");
    stage.run_for(&mut session, 5);
    stage.world().edit_files(&question, &[]);
    stage.run_for(&mut session, 5);
    assert_eq!(stage.desk.starts().len(), 1, "nothing was changed");
    let file = {
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "another's");
        let with_file = draft.file("a.txt", "text/plain", b"text").post();
        world.post_by_id(&with_file).file_ids
    };
    stage.world().edit_files(&question, &file);
    stage.run_for(&mut session, 5);
    let of_question = |start: &Start| start.post == question;
    let starts = || {
        stage
            .desk
            .starts()
            .iter()
            .filter(|it| of_question(it))
            .count()
    };
    assert_eq!(starts(), 2);
    stage.fail(Fault::Html(502), |request| {
        request.method == "POST" && api_path(request) == "posts"
    });
    stage.run_for(&mut session, 25);
    stage.world().edit(&question, "what is that?");
    stage.run_for(&mut session, 10);
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 120);
    assert_eq!(stage.answers(&question).len(), 1);
    assert_eq!(starts(), 2);
}

#[test]
fn a_question_that_is_edited_again_and_again_is_asked_anew_three_times() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(20_000);
    let question = ask(&stage, "text 0");
    for number in 1..8 {
        stage.run_for(&mut session, 8);
        stage.world().edit(&question, &format!("text {number}"));
    }
    stage.run_for(&mut session, 60);
    assert_eq!(stage.desk.starts().len(), 4);
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn a_worker_that_dies_is_replaced_and_after_three_deaths_there_is_an_apology() {
    for (deaths, counts, apology) in [
        (1, true, false),
        (2, true, false),
        (3, true, true),
        (9, false, false),
    ] {
        let (stage, mut session) = at_work("");
        let mut left = deaths;
        stage.desk.script(move |job| match question(job).as_str() {
            "poison" if left > 0 => {
                left -= 1;
                Some(vec![(100, Play::Dies(counts))])
            }
            text => Some(says(&format!("You said: {text}"), 3_000)),
        });
        let poison = ask(&stage, "poison");
        let other = ask(&stage, "harmless");
        stage.run_for(&mut session, 60);
        let answer = stage.answers(&poison).concat();
        assert_eq!(
            answer.contains("I have stopped trying"),
            apology,
            "{deaths} {counts}: {answer}"
        );
        assert_eq!(stage.answers(&other), ["You said: harmless"]);
        let alone = stage.desk.starts();
        let alone = alone.iter().filter(|start| start.post == poison).nth(2);
        assert!(
            alone.is_none_or(|start| start.beside.is_empty() || !counts),
            "{deaths}"
        );
    }
}

#[test]
fn workers_that_cannot_be_started_cost_nobody_an_answer_and_one_line_of_the_log() {
    let (stage, mut session) = at_work("");
    lines::keep(LevelFilter::Warn);
    stage.desk.takes(1_000);
    stage.desk.refuse(8);
    let questions = [ask(&stage, "one"), ask(&stage, "two")];
    let asked = stage.clock.elapsed_ms();
    stage.run_for(&mut session, 240);
    for question in &questions {
        assert!(stage.answers(question)[0].starts_with("You said"));
    }
    let pauses = 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60;
    let first = stage.desk.starts()[0].at_ms - asked;
    assert!(first.abs_diff(pauses * SECOND) < 1_500, "{first} ms");
    let told = lines::taken();
    let told = told.iter().filter(|line| line.contains("no worker can be"));
    assert_eq!(told.count(), 1);
}

#[test]
fn pictures_that_do_not_fit_beside_those_of_others_wait() {
    let (stage, mut session) = at_work("[multimodal]\nmax_images = 1\nmax_image_size_mb = 1");
    stage.desk.takes(5 * SECOND);
    let mut picture = gif(64, 48);
    picture.resize(600_000, 0);
    let ask_with = |has_picture: bool| {
        stage.clock.advance(1);
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, &stage.channel, "what is this?");
        if has_picture {
            draft.file("a.gif", "image/gif", &picture).post()
        } else {
            draft.post()
        }
    };
    let questions = [true, true, false].map(ask_with);
    stage.run_for(&mut session, 30);
    let beside = |question: &String| {
        let starts = stage.desk.starts();
        let start = starts.iter().find(|start| start.post == *question);
        start.expect("a worker").beside.clone()
    };
    assert_eq!(beside(&questions[2]), [questions[0].as_str()]);
    assert!(!beside(&questions[1]).contains(&questions[0]));
    questions.iter().for_each(|question| {
        waited(&stage, question);
    });
}

#[test]
fn where_one_worker_has_room_the_next_starts_when_it_ends() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(100);
    stage.desk.has_room_for(1);
    let questions: Vec<String> = (0..20).map(|_| ask(&stage, "and this?")).collect();
    stage.run_for(&mut session, 60);
    let starts = stage.desk.starts();
    assert_eq!(starts.len(), questions.len());
    // Each failed start alone would mean a pause of a second.
    let took = starts[19].at_ms - starts[0].at_ms;
    assert!(took < 19_000, "{took} ms");
    assert!(starts.iter().all(|start| start.beside.is_empty()));
}

#[test]
fn an_answer_whose_post_is_lost_again_and_again_holds_up_nobody() {
    // By a server that resets, by one that fails, and by one that hangs until it is given up.
    for (fault, most) in [
        (Fault::Reset, 4_500),
        (Fault::Html(502), 4_500),
        (Fault::Silence(10_000), 14_500),
    ] {
        let (stage, mut session) = at_work("");
        let other = stage.add_channel("other");
        stage.run_for(&mut session, 90);
        stage.desk.takes(2_000);
        let channel = stage.channel.clone();
        stage.mattermost.on_request(move |request, _| {
            let body = String::from_utf8_lossy(&request.body);
            match request.method == "POST"
                && api_path(request) == "posts"
                && body.contains(&channel)
            {
                true => Act::Instead(fault.clone()),
                false => Act::Serve,
            }
        });
        let lost = ask(&stage, "into the void");
        for _ in 0..10 {
            stage.run_for(&mut session, 20);
            let question = stage.world().post(&stage.ann.id, &other, "and here?");
            stage.run_for(&mut session, 20);
            assert!(waited(&stage, &question) < most);
        }
        stage.mattermost.serve_all();
        stage.run_for(&mut session, 130);
        assert_eq!(stage.answers(&lost).len(), 1);
    }
}

#[test]
fn an_answer_that_waits_for_a_closed_channel_keeps_nobody_else_waiting() {
    let (stage, mut session) = at_work("answers_at_once = 1");
    let other = stage.add_channel("other");
    stage.run_for(&mut session, 5);
    stage.desk.takes(5 * SECOND);
    ask(&stage, "here?");
    stage.run_for(&mut session, 2);
    let here = stage.channel.clone();
    stage.mattermost.on_request(move |request, _| {
        let body = String::from_utf8_lossy(&request.body);
        match request.method == "POST" && api_path(request) == "posts" && body.contains(&here) {
            true => Act::Instead(Fault::Error(403, "api.context.permissions.app_error")),
            false => Act::Serve,
        }
    });
    stage.run_for(&mut session, 10);
    stage.clock.advance(1);
    let elsewhere = stage.world().post(&stage.ann.id, &other, "and there?");
    let word = stage.world().post(&stage.ann.id, &other, "@prxbot help");
    stage.run_for(&mut session, 15);
    assert_eq!(stage.answers(&elsewhere).len(), 1);
    assert_eq!(stage.answers(&word).len(), 1);
}

#[test]
fn an_answer_goes_on_when_its_channel_is_looked_at_again_however_seldom_the_bot_polls() {
    let (stage, mut session) = at_work("poll_interval_secs = 3600");
    stage.desk.takes(20 * SECOND);
    let question = ask(&stage, "what is new?");
    while stage.desk.starts().is_empty() {
        session.step().unwrap();
    }
    let closed = Act::Instead(Fault::Error(403, "api.context.permissions.app_error"));
    stage.mattermost.once("POST", "posts$", closed);
    stage.run_for(&mut session, 100);
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn a_bot_that_goes_on_after_all_makes_its_answers_anew() {
    let (stage, mut session) = at_work("answers_at_once = 1");
    stage.desk.takes(20 * SECOND);
    let question = ask(&stage, "here?");
    stage.run_for(&mut session, 5);
    // The program was to be started anew, and could not be.
    session.end();
    let later = ask(&stage, "still here?");
    stage.run_for(&mut session, 60);
    assert_eq!(stage.answers(&question).len(), 1);
    assert_eq!(stage.answers(&later).len(), 1);
    assert_eq!(stage.desk.starts().len(), 3);
}

#[test]
fn a_bot_that_closes_takes_up_nothing_and_waits_for_what_is_at_work_for_half_a_minute() {
    // How long an answer takes, and the closing.
    for (takes_s, closing_s) in [(15, 10), (100, 30)] {
        let (stage, mut session) = at_work("");
        stage.desk.takes(takes_s * SECOND);
        let question = ask(&stage, "here?");
        stage.run_for(&mut session, 5);
        // Not when a poll is due.
        stage.clock.advance(300);
        let begun = stage.clock.elapsed_ms();
        session.close(true);
        let later = [ask(&stage, "and there?"), ask(&stage, "@prxbot help")];
        while !session.is_closed() {
            session.step().expect("no reason to exit");
        }
        let took = stage.clock.elapsed_ms() - begun;
        assert!(took.abs_diff(closing_s * SECOND) < 500, "{took} ms");
        assert_eq!(stage.desk.starts().len(), 1);
        assert!(later.iter().all(|post| stage.answers(post).is_empty()));
        session.end();
        drop(session);
        assert!(stage.state()["answers"].get(&question).is_some());
        let mut session = stage.start();
        stage.run_for(&mut session, 220);
        for post in later.iter().chain([&question]) {
            waited(&stage, post);
        }
    }
}

#[test]
fn a_bot_that_dies_at_each_start_gives_up_what_it_had_begun_and_not_if_it_ended_in_order() {
    for (ends, orderly, apology) in [(2, false, false), (3, false, true), (5, true, false)] {
        let (stage, mut session) = at_work("");
        stage.desk.takes(10 * SECOND);
        let questions = [ask(&stage, "one"), ask(&stage, "two")];
        stage.run_for(&mut session, 5);
        for _ in 0..ends {
            if orderly {
                session.end();
            }
            drop(session);
            session = stage.start();
            // No further than to its first request.
            session.step().expect("no reason to exit");
        }
        stage.run_for(&mut session, 60);
        for question in &questions {
            let answer = stage.answers(question).concat();
            let gave_up = answer.contains("I have stopped trying");
            assert_eq!(gave_up, apology, "{ends} {orderly}: {answer}");
        }
    }
}

#[test]
fn typing_goes_on_while_files_are_read_that_come_slowly() {
    let (stage, mut session) = at_work("[multimodal]\nmax_images = 8");
    stage.desk.takes(60 * SECOND);
    let clock = stage.clock.clone();
    stage.mattermost.on_request(move |request, _| {
        if api_path(request).starts_with("files/") {
            clock.advance(2 * SECOND);
        }
        Act::Serve
    });
    stage.clock.advance(1);
    let mut picture = gif(64, 48);
    picture.resize(100_000, 0);
    let mut world = stage.world();
    let draft = world.draft(&stage.ann.id, &stage.channel, "what is this?");
    (0..8)
        .fold(draft, |draft, number| {
            draft.file(&format!("{number}.gif"), "image/gif", &picture)
        })
        .post();
    drop(world);
    stage.run_for(&mut session, 60);
    let world = stage.world();
    let pieces = world
        .log
        .iter()
        .filter(|call| call.target.contains("/files/"));
    assert!(pieces.count() >= 8);
    drop(world);
    let in_channel = typings(&stage)
        .into_iter()
        .filter(|(_, thread)| thread.is_empty());
    let times: Vec<u64> = in_channel.map(|(at, _)| at).collect();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().expect("typing");
    assert!(longest <= 10 * SECOND, "{longest} ms without typing");
}

#[test]
fn two_answers_whose_fate_is_unclear_are_each_posted_once() {
    let (stage, mut session) = at_work("");
    let taken = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let counted = taken.clone();
    let listing = Arc::new(AtomicBool::new(true));
    let hidden = listing.clone();
    // The server takes each post once and never says so; it shows nothing for ten minutes.
    stage.mattermost.on_request(move |request, _| {
        let is_post = request.method == "POST" && api_path(request) == "posts";
        if is_post {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            let question = body["props"]["prx"]["in_reply_to"].to_string();
            *counted.lock().expect("a lock").entry(question).or_default() += 1;
            return Act::ServeThen(Fault::Html(502));
        }
        let reads = request.method == "GET" && request.target.contains("/posts?");
        match reads && hidden.load(Ordering::SeqCst) {
            true => Act::Instead(Fault::Html(502)),
            false => Act::Serve,
        }
    });
    let questions = [ask(&stage, "one"), ask(&stage, "two")];
    // They are read before the server hides everything.
    listing.store(false, Ordering::SeqCst);
    stage.run_for(&mut session, 2);
    listing.store(true, Ordering::SeqCst);
    stage.run_for(&mut session, 600);
    listing.store(false, Ordering::SeqCst);
    stage.run_for(&mut session, 200);
    for question in &questions {
        assert_eq!(stage.answers(question).len(), 1);
    }
}

#[test]
fn an_outage_of_posting_does_not_buy_answer_after_answer() {
    let (stage, mut session) = at_work("answers_at_once = 3");
    stage.desk.takes(500);
    stage.fail(
        Fault::Error(500, "app.post.save.app_error"),
        move |request| request.method == "POST" && api_path(request) == "posts",
    );
    let people = people(&stage, 20);
    let questions: Vec<String> = people
        .iter()
        .map(|person| ask_as(&stage, person, "what is new?"))
        .collect();
    stage.run_for(&mut session, 120);
    assert!(
        stage.desk.starts().len() <= 5,
        "{}",
        stage.desk.starts().len()
    );
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 200);
    for question in &questions {
        assert_eq!(stage.answers(question).len(), 1);
    }
}

#[test]
fn a_channel_that_is_left_takes_its_answers_along() {
    // For good, and only for a moment: what was asked before is history then.
    for comes_back in [false, true] {
        let (stage, mut session) = at_work("");
        stage.desk.takes(30_000);
        let question = ask(&stage, "still there?");
        stage.run_for(&mut session, 5);
        let mut world = stage.world();
        world.remove_member(&stage.channel, &stage.bot.id, &stage.ann.id);
        if comes_back {
            let by_ann = Joining::AddedBy(&stage.ann.id);
            world.add_member(&stage.channel, &stage.bot.id, by_ann);
        }
        drop(world);
        stage.run_for(&mut session, 10);
        assert_eq!(stage.desk.stopped(), 1, "{comes_back}");
        assert!(stage.state().get("answers").is_none(), "{}", stage.state());
        stage.run_for(&mut session, 60);
        assert!(stage.answers(&question).is_empty());
    }
}

#[test]
fn a_slow_answer_does_not_make_every_read_reach_back_to_it() {
    let (stage, mut session) = at_work("");
    stage.desk.script(|job| {
        let ms = if question(job) == "slow" {
            250_000
        } else {
            100
        };
        Some(says("done", ms))
    });
    let slow = ask(&stage, "slow");
    stage.run_for(&mut session, 100);
    ask(&stage, "quick");
    stage.run_for(&mut session, 100);
    stage.world().log.clear();
    ask(&stage, "quick");
    stage.run_for(&mut session, 5);
    let asked = stage.world().post_by_id(&slow).create_at;
    let world = stage.world();
    let since = world
        .log
        .iter()
        .filter_map(|call| call.target.split_once("since="));
    let since = since.map(|(_, rest)| {
        rest.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    });
    let oldest = since
        .filter_map(|text| text.parse::<u64>().ok())
        .min()
        .expect("a read");
    drop(world);
    assert!(oldest > asked, "reads reach back to it");
    let mark = &stage.state()["channels"][&stage.channel]["mark"];
    let mark = mark.as_u64().expect("a mark");
    assert!(mark <= asked, "passed by {} ms", mark.saturating_sub(asked));
    stage.run_for(&mut session, 100);
    assert_eq!(stage.answers(&slow).len(), 1);
}

/// The text of an answer of so many parts, told apart by `mark`.
fn text_of(parts: usize, mark: &str) -> String {
    let part = |number: usize| format!("{mark} {number} {}", "word ".repeat(60).trim_end());
    let parts: Vec<String> = (0..parts).map(part).collect();
    parts.join("\n\n")
}

#[test]
fn all_parts_of_an_answer_are_of_one_generation_whatever_happens_between_them() {
    // How many parts the second model's answer would have, and whether the bot is killed or started
    // anew in between.
    for second in [4, 3, 2, 1] {
        for killed in [true, false] {
            let (stage, mut session) = at_work("");
            stage.world().knobs.max_post_size = 400;
            drop(session);
            session = stage.start();
            let mut answers = vec![text_of(second, "second"), text_of(3, "first")];
            stage.desk.script(move |_| {
                let text = answers.pop().unwrap_or_else(|| "no more".into());
                Some(says(&text, 1_000))
            });
            let (mut posts, refusing) = (0, Arc::new(AtomicBool::new(true)));
            let refuses = refusing.clone();
            stage.mattermost.on_request(move |request, _| {
                if request.method == "POST" && api_path(request) == "posts" {
                    posts += 1;
                    if posts > 1 && refuses.load(Ordering::SeqCst) {
                        return Act::Instead(Fault::Error(
                            403,
                            "api.context.permissions.app_error",
                        ));
                    }
                }
                Act::Serve
            });
            let question = ask(&stage, "tell me");
            stage.run_for(&mut session, 20);
            assert_eq!(stage.answers(&question).len(), 1);
            if !killed {
                session.end();
            }
            drop(session);
            session = stage.start();
            stage.run_for(&mut session, 100);
            refusing.store(false, Ordering::SeqCst);
            stage.run_for(&mut session, 300);
            let answer = stage.answers(&question);
            assert_eq!(answer.len(), 3, "{second} {killed}: {answer:?}");
            assert!(
                answer.iter().all(|part| part.starts_with("first")),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn what_an_older_version_had_under_way_is_taken_over() {
    let draft = |unsent: bool| {
        json!({"root": "", "parts": ["from before"], "nonce": "0123456789abcdef", "apology": false,
               "unsent": unsent})
    };
    for (name, attempts, draft, expected) in [
        ("begun", 1, Value::Null, "You said: what is new?"),
        ("begun twice", 2, Value::Null, "You said: what is new?"),
        ("begun three times", 3, Value::Null, "I have stopped trying"),
        ("made", 1, draft(true), "from before"),
        ("perhaps sent", 1, draft(false), "from before"),
    ] {
        let (stage, session) = at_work("");
        drop(session);
        let question = ask(&stage, "what is new?");
        let mut state = stage.state();
        state["journal"] = json!({
            "post": question, "channel": stage.channel, "attempts": attempts,
            "create_at": stage.world().post_by_id(&question).create_at,
        });
        if !draft.is_null() {
            state["journal"]["draft"] = draft;
        }
        fs::write(stage.state_path(), state.to_string()).expect("a state file");
        let mut session = stage.start();
        stage.run_for(&mut session, 90);
        let answers = stage.answers(&question);
        assert_eq!(answers.len(), 1, "{name}");
        assert!(answers[0].contains(expected), "{name}: {answers:?}");
        let state = stage.state();
        assert!(
            state.get("journal").is_none() && state.get("answers").is_none(),
            "{name}: {state}"
        );
    }
}

#[test]
fn a_question_that_is_gone_when_the_bot_comes_back_is_left_alone() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(30_000);
    let question = ask(&stage, "never mind");
    stage.run_for(&mut session, 5);
    drop(session);
    stage.world().delete(&question);
    let mut session = stage.start();
    stage.run_for(&mut session, 60);
    assert!(stage.answers(&question).is_empty());
    assert!(stage.state().get("answers").is_none());
    assert_eq!(stage.desk.starts().len(), 1);
}

#[test]
fn a_question_that_is_none_any_more_when_the_bot_comes_back_gets_no_answer() {
    let settings = "mention_only = true\nfollow_threads = true";
    for (what, answers) in [
        ("as it was", 1),
        ("edited", 0),
        ("edited, but in a thread where the bot wrote", 1),
        ("its author is not allowed", 0),
    ] {
        let (stage, mut session) = at_work(settings);
        let root = ask(&stage, "@prxbot and others");
        let other = ask(&stage, "among us");
        stage.run_for(&mut session, 5);
        stage.desk.takes(20 * SECOND);
        let thread = if what.ends_with("wrote") {
            &root
        } else {
            &other
        };
        let question = reply_to(&stage, thread, "@prxbot is it so?");
        stage.run_for(&mut session, 5);
        drop(session);
        if what.starts_with("edited") {
            stage.world().edit(&question, "is it so?");
        }
        if what.starts_with("its author") {
            let eve = &stage.eve.id;
            stage.configure(ECHO, &format!("allowed_users = [\"{eve}\"]\n{settings}"));
        }
        let mut session = stage.start();
        stage.run_for(&mut session, 60);
        assert_eq!(stage.answers(&question).len(), answers, "{what}");
        assert_eq!(stage.desk.starts().len(), 2 + answers, "{what}");
        assert!(stage.state().get("answers").is_none(), "{what}");
    }
}

/// Eight people in threads of their own, each with four pictures.
fn all_ask_with_pictures(stage: &Stage) -> Vec<String> {
    let picture = gif(64, 48);
    let ask = |person: &String| {
        stage.clock.advance(1);
        let mut world = stage.world();
        let draft = world.draft(person, &stage.channel, "what is this?");
        let names = (0..4).map(|number| format!("{number}.gif"));
        let with = names.fold(draft, |draft, name| {
            draft.file(&name, "image/gif", &picture)
        });
        with.post()
    };
    people(stage, 8).iter().map(ask).collect()
}

#[test]
fn between_two_looks_at_a_slow_server_there_is_one_request() {
    for (which, slow_ms) in [("", 9 * SECOND), ("files/", 10 * SECOND), ("", 1)] {
        let (stage, mut session) = at_work("answers_at_once = 8\n[multimodal]\nmax_images = 8");
        stage.desk.takes(60 * SECOND);
        let looks = Arc::new(Mutex::new(Vec::new()));
        let (clock, seen) = (stage.clock.clone(), looks.clone());
        stage.mattermost.on_request(move |request, _| {
            let begun = clock.elapsed_ms();
            if api_path(request).starts_with(which) {
                clock.advance(slow_ms);
            }
            if request.target.contains("/teams") {
                seen.lock().unwrap().push((begun, clock.elapsed_ms()));
            }
            Act::Serve
        });
        let questions = all_ask_with_pictures(&stage);
        let until = stage.clock.elapsed_ms() + 80 * 60 * SECOND;
        while stage.clock.elapsed_ms() < until
            && questions
                .iter()
                .any(|question| stage.answers(question).is_empty())
        {
            let before = stage.world().log.len();
            session.step().unwrap();
            let world = stage.world();
            let targets = world.log[before..].iter().map(|call| &call.target);
            // A look asks for teams and their channels.
            let asked: Vec<_> = targets
                .filter(|target| !target.contains("/teams"))
                .collect();
            assert!(asked.len() <= 1, "{asked:?}");
        }
        for question in &questions {
            assert_eq!(stage.answers(question).len(), 1, "{which} {slow_ms}");
        }
        let looks = looks.lock().unwrap();
        let gaps = looks.windows(2).map(|pair| pair[1].0 - pair[0].1);
        let longest = gaps.max().unwrap_or_default();
        assert!(longest <= 11 * SECOND, "{which} {slow_ms}: {longest} ms");
    }
}

#[test]
fn an_answer_that_is_there_when_the_bot_comes_back_is_not_made_again() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(10 * SECOND);
    let question = ask(&stage, "what is new?");
    stage.run_for(&mut session, 5);
    let begun = fs::read(stage.state_path()).expect("a state file");
    stage.run_for(&mut session, 20);
    drop(session);
    fs::write(stage.state_path(), begun).expect("a state file");
    let mut session = stage.start();
    stage.run_for(&mut session, 60);
    assert_eq!(stage.answers(&question).len(), 1);
    assert_eq!(stage.desk.starts().len(), 1);
}

#[test]
fn a_backlog_is_read_on_while_few_posts_wait() {
    let (stage, session) = at_work("");
    drop(session);
    stage.clock.advance(3600 * SECOND);
    let people = people(&stage, 1);
    stage
        .world()
        .post_many(&people[0], &stage.channel, 1_300, 100);
    stage.desk.takes(100);
    let mut session = stage.start();
    stage.run_for(&mut session, 400);
    let world = stage.world();
    let questions = world.posts_in(&stage.channel);
    let questions = questions.iter().filter(|post| post.user_id == people[0]);
    let answered = questions.filter(|post| world.own_answers(&stage.bot.id, &post.id).len() == 1);
    assert_eq!(answered.count(), 1_300);
}

#[test]
fn a_server_that_takes_seconds_for_each_request_gets_its_answers_all_the_same() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(5_000);
    stage.world().knobs.request_takes_ms = 3_000;
    let questions = [ask(&stage, "one"), ask(&stage, "two")];
    stage.run_for(&mut session, 300);
    for question in &questions {
        assert_eq!(stage.answers(question).len(), 1);
    }
}

#[test]
fn a_server_that_takes_one_request_a_second_gets_its_answers_within_a_minute() {
    for (max_burst, silent) in [(0, true), (10, true), (0, false)] {
        let stage = Stage::simulated();
        stage.configure(ECHO, "allowed_users = [\"*\"]");
        stage.world().knobs.rate_limit = Some(RateLimit {
            per_sec: 1,
            max_burst,
            silent,
        });
        let mut session = stage.start();
        stage.run_for(&mut session, 30);
        let questions: Vec<String> = people(&stage, 8)
            .iter()
            .map(|person| ask_as(&stage, person, "what is new?"))
            .collect();
        stage.run_for(&mut session, 90);
        for question in &questions {
            let waited = waited(&stage, question);
            assert!(waited < 60_000, "{max_burst} {silent}: {waited} ms");
        }
    }
}

#[test]
fn a_server_that_refuses_all_for_too_many_requests_is_left_alone_while_answers_are_made() {
    let (stage, mut session) = at_work("");
    stage.desk.takes(1_200 * SECOND);
    let question = ask(&stage, "what is new?");
    stage.run_for(&mut session, 5);
    let refused = Arc::new(Mutex::new(0));
    let count = refused.clone();
    stage.mattermost.on_request(move |_, _| {
        *count.lock().expect("a lock") += 1;
        Act::Instead(Fault::RateLimited(5))
    });
    stage.run_for(&mut session, 1_800);
    let refused = *refused.lock().expect("a lock");
    assert!(refused < 120, "{refused} requests in half an hour");
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 90);
    waited(&stage, &question);
}

#[test]
fn while_posts_are_refused_for_too_many_requests_others_are_seen_all_the_same() {
    let (stage, mut session) = at_work("poll_interval_secs = 3600");
    ask(&stage, "what is new?");
    stage.run_for(&mut session, 3_700);
    let looks = Arc::new(Mutex::new(0));
    let count = looks.clone();
    stage.mattermost.on_request(move |request, _| {
        *count.lock().expect("a lock") += i32::from(request.target.ends_with("/channels"));
        match (request.method.as_str(), request.target.ends_with("/posts")) {
            ("POST", true) => Act::Instead(Fault::RateLimited(5)),
            _ => Act::Serve,
        }
    });
    ask(&stage, "and now?");
    stage.run_for(&mut session, 4 * 3_600);
    let looks = *looks.lock().expect("a lock");
    assert!(looks >= 3, "{looks} looks in four hours");
}

/// What a worker is told is what a job holds: nothing of it is the token.
#[test]
fn no_worker_is_told_the_bots_token() {
    let (stage, mut session) = at_work("");
    let seen = Arc::new(Mutex::new(String::new()));
    let told = seen.clone();
    stage.desk.script(move |job| {
        let texts: Vec<&str> = job
            .conversation
            .iter()
            .map(|it: &Message| it.content.as_str())
            .collect();
        *told.lock().expect("a lock") = format!("{job:?} {}", texts.concat());
        None
    });
    ask(&stage, "what is new?");
    stage.run_for(&mut session, 5);
    let seen = seen.lock().expect("a lock");
    assert!(
        seen.contains("what is new?") && !seen.contains(&stage.bot.token),
        "{seen}"
    );
}
