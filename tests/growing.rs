//! Answers that grow in their post while they are written, and answers that are stopped, in simulated
//! time.

use std::fs;
use std::sync::{Arc, Mutex};

use crate::support::bot::{ECHO, Stage};
use crate::support::clock;
use crate::support::desk::{Play, question, words, writes};
use crate::support::mattermost::{Act, Fault, Post, Version, api_path};
use prx::commands::run::Session;

const SECOND: u64 = 1000;

fn at_work(more: &str) -> (Stage, Session) {
    let stage = Stage::simulated();
    start(stage, more)
}

fn start(stage: Stage, more: &str) -> (Stage, Session) {
    let settings = format!("allowed_users = [\"*\"]\nstream_mode = \"partial\"\n{more}");
    stage.configure(ECHO, &settings);
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

/// All that stands there of the bot, oldest first.
fn own_posts(stage: &Stage) -> Vec<Post> {
    let world = stage.world();
    let posts = world.posts_in(&stage.channel);
    let own =
        |post: &Post| post.user_id == stage.bot.id && post.kind.is_empty() && post.delete_at == 0;
    posts.into_iter().filter(|post| own(post)).collect()
}

/// The texts of one whole answer and of nothing else.
fn assert_whole(stage: &Stage, question: &str, expected: &str, what: &str) {
    let posts = own_posts(stage);
    let texts: Vec<&str> = posts.iter().map(|post| post.message.as_str()).collect();
    assert_eq!(texts.join(" "), expected, "{what}");
    for (part, post) in posts.iter().enumerate() {
        let prx = &post.props["prx"];
        assert_eq!(prx["in_reply_to"], *question, "{what}: {prx}");
        assert_eq!(prx["part"], part, "{what}: {prx}");
        assert_eq!(prx["of"], posts.len(), "{what}: {prx}");
        assert_eq!(post.props["from_bot"], "true", "{what}");
    }
    assert!(
        !fs::read_to_string(stage.state_path())
            .expect("a state")
            .contains("answers"),
        "{what}"
    );
}

fn edits(stage: &Stage) -> usize {
    let world = stage.world();
    world
        .log
        .iter()
        .filter(|call| call.target.ends_with("/patch") && call.status == 200)
        .count()
}

#[test]
fn an_answer_of_a_minute_is_seen_to_grow_and_costs_at_most_twelve_edits() {
    let (stage, mut session) = at_work("");
    let text = words("w", 600);
    let told = text.clone();
    stage.desk.script(move |_| Some(writes(&told, 60)));
    let question = ask(&stage, "tell me all");
    let mut seen = Vec::new();
    for _ in 0..70 {
        stage.run_for(&mut session, 1);
        if let Some(post) = own_posts(&stage).first() {
            seen.push(post.message.clone());
        }
    }
    seen.dedup();
    assert!(seen.len() >= 8, "{} versions", seen.len());
    for version in &seen {
        assert!(
            text.starts_with(version.as_str()),
            "half a word: {version:?}"
        );
    }
    let count = edits(&stage);
    assert!(count <= 12, "{count} edits");
    assert_whole(&stage, &question, &text, "");
}

#[test]
fn without_the_setting_an_answer_is_posted_once_when_it_is_whole() {
    let (stage, mut session) = at_work("");
    drop(session);
    stage.configure(ECHO, "allowed_users = [\"*\"]");
    session = stage.start();
    stage.desk.script(|_| Some(writes(&words("w", 300), 20)));
    let question = ask(&stage, "tell me all");
    stage.run_for(&mut session, 15);
    assert!(own_posts(&stage).is_empty());
    stage.run_for(&mut session, 15);
    assert_eq!(edits(&stage), 0);
    assert_whole(&stage, &question, &words("w", 300), "");
}

#[test]
fn an_answer_of_several_parts_grows_in_its_first() {
    for limit in [300, 900] {
        let (stage, session) = at_work("");
        drop(session);
        stage.world().knobs.max_post_size = limit;
        let mut session = stage.start();
        let text = words("w", 300);
        let told = text.clone();
        stage.desk.script(move |_| Some(writes(&told, 20)));
        let question = ask(&stage, "tell me all");
        stage.run_for(&mut session, 60);
        assert!(own_posts(&stage).len() > 1);
        assert_whole(&stage, &question, &text, &limit.to_string());
    }
}

/// What happens to the requests of one growing answer.
fn play(what: &str, version: Version, trouble: impl FnOnce(&Stage)) {
    let time = clock::SimClock::new();
    let stage = Stage::new(clock::Time::Sim(time.clone()), time, version);
    let (stage, mut session) = start(stage, "");
    let text = words("w", 300);
    let told = text.clone();
    stage.desk.script(move |_| Some(writes(&told, 20)));
    trouble(&stage);
    let question = ask(&stage, "tell me all");
    stage.run_for(&mut session, 300);
    assert_whole(&stage, &question, &text, what);
}

#[test]
fn whatever_request_of_a_growing_answer_is_lost_there_is_one_whole_answer() {
    let lost = || Fault::Html(502);
    for version in [Version::V11_6, Version::V5_37] {
        for acted in [true, false] {
            let act = move || {
                if acted {
                    Act::ServeThen(lost())
                } else {
                    Act::Instead(lost())
                }
            };
            for (name, method, path) in [
                ("the first post", "POST", "posts$"),
                ("an edit", "PUT", "posts/"),
            ] {
                for count in 1..=4 {
                    let what = format!("{name}, {count} times, acted {acted}, {version:?}");
                    play(&what, version, |stage| {
                        stage.world().plan(count, method, path, act())
                    });
                }
            }
        }
    }
}

#[test]
fn an_answer_stopped_at_any_moment_is_one_answer_whatever_is_lost_and_whenever_the_bot_dies() {
    let troubles = [
        None,
        Some(("POST", "posts$")),
        Some(("PUT", "posts/")),
        Some(("GET", "posts/")),
    ];
    for (number, trouble) in troubles.into_iter().enumerate() {
        for stop_at in (0..22).step_by(3) {
            // Before the stop, with it, and after it; and not at all.
            for die_at in [stop_at / 2, stop_at, stop_at + 3, 400] {
                let what = format!("trouble {number}, stopped at {stop_at}, killed at {die_at}");
                let (stage, mut session) = at_work("");
                let mut run = 0;
                stage.desk.script(move |_| {
                    run += 1;
                    Some(writes(&words(&format!("g{run}-"), 300), 20))
                });
                let question = ask(&stage, "tell me all");
                for second in 0..300 {
                    if second == stop_at {
                        if let Some((method, path)) = trouble {
                            let act = Act::ServeThen(Fault::Html(502));
                            stage.world().plan(1, method, path, act);
                        }
                        stage.world().react(&stage.ann.id, &question, "x");
                    }
                    if second == die_at {
                        drop(session);
                        session = stage.start();
                    }
                    stage.run_for(&mut session, 1);
                }
                let posts = own_posts(&stage);
                let texts: Vec<&str> = posts.iter().map(|post| post.message.as_str()).collect();
                let text = texts.join(" ");
                assert_whole(&stage, &question, &text, &what);
                let mut runs: Vec<&str> = text
                    .split_whitespace()
                    .filter_map(|word| Some(word.strip_prefix('g')?.split_once('-')?.0))
                    .collect();
                runs.dedup();
                assert!(runs.len() <= 1, "{what}: of several workers: {text}");
                let is_stopped = text == "Stopped." || text.ends_with("*(Stopped.)*");
                assert!(is_stopped || stop_at >= 17, "{what}: {text}");
            }
        }
    }
}

#[test]
fn an_edit_that_lands_after_the_last_one_is_undone() {
    for late_ms in [2 * SECOND, 20 * SECOND, 45 * SECOND] {
        play(&format!("{late_ms} ms late"), Version::V11_6, |stage| {
            stage.world().plan(
                1,
                "PUT",
                "posts/",
                Act::ServeLate(late_ms, Fault::Html(504)),
            );
        });
    }
}

#[test]
fn an_edit_that_lands_after_the_last_one_is_undone_by_the_next_run() {
    let (stage, mut session) = at_work("");
    let text = words("w", 300);
    let told = text.clone();
    stage.desk.script(move |_| Some(writes(&told, 20)));
    let question = ask(&stage, "tell me all");
    stage.run_for(&mut session, 8);
    let late = Act::ServeLate(45 * SECOND, Fault::Html(504));
    stage.world().plan(1, "PUT", "posts/", late);
    stage.run_for(&mut session, 17);
    assert_eq!(own_posts(&stage)[0].message, text);
    drop(session);
    let mut session = stage.start();
    stage.run_for(&mut session, 150);
    assert_whole(&stage, &question, &text, "");
}

#[test]
fn a_growing_post_that_the_bot_may_not_delete_is_left_and_costs_no_more_requests() {
    let (stage, mut session) = at_work("thread_replies = false");
    stage.desk.script(|_| Some(writes(&words("w", 300), 60)));
    let question = ask(&stage, "tell me all");
    stage.run_for(&mut session, 12);
    stage.world().knobs.role_lacks = vec!["delete_post"];
    stage.world().delete(&question);
    stage.run_for(&mut session, 60);
    assert_eq!(own_posts(&stage).len(), 1);
    let state = fs::read_to_string(stage.state_path()).expect("a state");
    assert!(!state.contains("answers"), "{state}");
    let world = stage.world();
    let tries = world.log.iter().filter(|call| call.method == "DELETE");
    assert_eq!(tries.count(), 1);
}

#[test]
fn an_edited_question_in_a_channel_that_is_closed_for_a_while_gets_one_answer() {
    let (stage, mut session) = at_work("");
    stage.desk.script(|job| {
        let mark = if question(job) == "tell me all" {
            "w"
        } else {
            "v"
        };
        Some(writes(&words(mark, 300), 30))
    });
    let asked = ask(&stage, "tell me all");
    stage.run_for(&mut session, 10);
    stage.world().edit(&asked, "tell me more");
    let closed = Fault::Error(403, "api.context.permissions.app_error");
    stage.fail(closed.clone(), |request| {
        api_path(request) == "users/me/typing"
    });
    stage.run_for(&mut session, 30);
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 240);
    assert_whole(&stage, &asked, &words("v", 300), "");
}

#[test]
fn where_edits_are_refused_the_rest_follows_in_parts_or_all_of_it_anew() {
    // From the first on, or when some of it is shown.
    for from_secs in [0, 8] {
        let (stage, mut session) = at_work("");
        let text = words("w", 300);
        let told = text.clone();
        stage.desk.script(move |_| Some(writes(&told, 20)));
        let question = ask(&stage, "tell me all");
        stage.run_for(&mut session, from_secs);
        stage.world().knobs.role_lacks = vec!["edit_post"];
        stage.run_for(&mut session, 120);
        let posts = own_posts(&stage);
        let texts: Vec<&str> = posts.iter().map(|post| post.message.as_str()).collect();
        assert_eq!(texts.join(" "), text, "{from_secs}");
        let last = &posts[posts.len() - 1].props["prx"];
        assert_eq!(last["in_reply_to"], question, "{from_secs}");
        // Nothing of it is answered again without a state.
        drop(session);
        fs::remove_file(stage.state_path()).expect("a state file");
        let mut session = stage.start();
        stage.run_for(&mut session, 30);
        assert_eq!(own_posts(&stage).len(), posts.len(), "{from_secs}");
    }
}

#[test]
fn what_is_deleted_to_be_posted_anew_is_posted_though_the_deletion_is_unclear() {
    for killed in [false, true] {
        let (stage, mut session) = at_work("");
        stage.desk.script(|job| {
            let mark = if question(job) == "tell me all" {
                "w"
            } else {
                "v"
            };
            Some(writes(&words(mark, 300), 30))
        });
        let asked = ask(&stage, "tell me all");
        stage.run_for(&mut session, 10);
        stage.world().knobs.role_lacks = vec!["edit_post"];
        stage.world().edit(&asked, "tell me more");
        let lost = Act::ServeThen(Fault::Html(504));
        stage.world().plan(1, "DELETE", "posts/", lost);
        stage.run_for(&mut session, 40);
        assert!(stage.world().log.iter().any(|call| call.method == "DELETE"));
        if killed {
            drop(session);
            session = stage.start();
        }
        stage.run_for(&mut session, 240);
        assert_whole(&stage, &asked, &words("v", 300), &format!("{killed}"));
    }
}

#[test]
fn a_person_who_deletes_the_growing_post_stops_it() {
    let (stage, mut session) = at_work("");
    stage.desk.script(|_| Some(writes(&words("w", 300), 30)));
    ask(&stage, "tell me all");
    stage.run_for(&mut session, 10);
    let shown = own_posts(&stage)[0].id.clone();
    stage.world().delete(&shown);
    stage.run_for(&mut session, 200);
    assert!(own_posts(&stage).is_empty());
    assert_eq!(stage.desk.stopped(), 1);
}

#[test]
fn a_deleted_question_takes_the_growing_post_along_even_where_an_edit_brings_it_back() {
    for restarted in [false, true] {
        let (stage, mut session) = at_work("thread_replies = false");
        stage.desk.script(|_| Some(writes(&words("w", 300), 60)));
        let question = ask(&stage, "tell me all");
        stage.run_for(&mut session, 12);
        assert_eq!(own_posts(&stage).len(), 1);
        if restarted {
            drop(session);
            stage.world().delete(&question);
            session = stage.start();
        } else {
            stage.world().delete(&question);
        }
        // Until no edit can be on its way any more.
        stage.run_for(&mut session, 90);
        assert!(own_posts(&stage).is_empty(), "{restarted}");
        let state = fs::read_to_string(stage.state_path()).expect("a state");
        assert!(!state.contains("answers"), "{restarted}: {state}");
    }
}

#[test]
fn a_bot_killed_at_any_moment_finishes_the_post_that_was_growing() {
    for version in [Version::V11_6, Version::V5_37] {
        for kill_at in (0..24).chain([30]) {
            let time = clock::SimClock::new();
            let stage = Stage::new(clock::Time::Sim(time.clone()), time, version);
            let (stage, mut session) = start(stage, "");
            let generation = Arc::new(Mutex::new(0));
            let texts: Vec<String> = ["first", "second"]
                .iter()
                .map(|mark| words(mark, 200))
                .collect();
            let told = texts.clone();
            stage.desk.script(move |_| {
                let mut generation = generation.lock().expect("a lock");
                *generation += 1;
                Some(writes(&told[usize::min(*generation, 2) - 1], 20))
            });
            let question = ask(&stage, "tell me all");
            stage.run_for(&mut session, kill_at);
            drop(session);
            let mut session = stage.start();
            stage.run_for(&mut session, 200);
            let expected = match stage.desk.starts().len() > 1 {
                true => &texts[1],
                false => &texts[0],
            };
            assert_whole(
                &stage,
                &question,
                expected,
                &format!("killed after {kill_at} s, {version:?}"),
            );
        }
    }
}

#[test]
fn what_is_not_whole_yet_is_not_told_to_the_model() {
    let (stage, mut session) = at_work("thread_replies = false");
    stage.desk.script(|job| {
        let text = question(job);
        let secs = if text.contains("slow") { 40 } else { 1 };
        Some(writes(&words("unfinished", 200), secs))
    });
    let mut world = stage.world();
    let root = world.post(&stage.eve.id, &stage.channel, "a root");
    world
        .draft(&stage.ann.id, &stage.channel, "slow")
        .root(&root)
        .post();
    drop(world);
    stage.run_for(&mut session, 15);
    assert_eq!(own_posts(&stage).len(), 2);
    let told = Arc::new(Mutex::new(String::new()));
    let seen = told.clone();
    stage.desk.script(move |job| {
        *seen.lock().expect("a lock") = format!("{:?}", job.conversation);
        None
    });
    ask(&stage, "what now?");
    stage.run_for(&mut session, 10);
    let told = told.lock().expect("a lock");
    let mentions = told.matches("unfinished199").count();
    assert!(told.contains("what now?") && mentions <= 1, "{told}");
}

fn react(stage: &Stage, person: &str, post: &str, emoji: &str) {
    stage.world().react(person, post, emoji);
}

#[test]
fn an_asker_stops_an_answer_by_a_reaction_and_what_was_written_stays() {
    for version in [Version::V11_6, Version::V5_37] {
        for (emoji, on_question) in [
            ("octagonal_sign", true),
            ("x", false),
            ("stop_sign", true),
            ("no_entry", false),
            ("hand", true),
            ("raised_hand", false),
        ] {
            let time = clock::SimClock::new();
            let stage = Stage::new(clock::Time::Sim(time.clone()), time, version);
            let (stage, mut session) = start(stage, "");
            stage.desk.script(|_| Some(writes(&words("w", 600), 60)));
            let question = ask(&stage, "tell me all");
            stage.run_for(&mut session, 15);
            let shown = own_posts(&stage)[0].id.clone();
            let on = if on_question { &question } else { &shown };
            // Another's is nothing to it, nor is another one.
            react(&stage, &stage.eve.id, on, emoji);
            react(&stage, &stage.ann.id, on, "thumbsup");
            stage.run_for(&mut session, 6);
            assert_eq!(stage.desk.stopped(), 0, "{version:?} {emoji}");
            react(&stage, &stage.ann.id, on, emoji);
            stage.run_for(&mut session, 20);
            assert_eq!(stage.desk.stopped(), 1, "{version:?} {emoji}");
            let posts = own_posts(&stage);
            assert_eq!(posts.len(), 1);
            assert!(
                posts[0].message.starts_with("w0 w1 "),
                "{}",
                posts[0].message
            );
            assert!(
                posts[0].message.ends_with("*(Stopped.)*"),
                "{}",
                posts[0].message
            );
            assert_eq!(posts[0].props["prx"]["in_reply_to"], question);
            stage.run_for(&mut session, 100);
            assert_eq!(own_posts(&stage).len(), 1);
        }
    }
}

#[test]
fn an_answer_stopped_before_any_text_says_so_once_also_across_a_kill() {
    for killed in [false, true] {
        let (stage, mut session) = at_work("");
        stage.desk.script(|_| {
            Some(vec![
                (60 * SECOND, Play::Text("late".into())),
                (61 * SECOND, Play::Done),
            ])
        });
        let question = ask(&stage, "tell me all");
        stage.run_for(&mut session, 5);
        react(&stage, &stage.ann.id, &question, "hand");
        stage.mattermost.on_request(move |request, _| {
            let refuses = killed && request.method == "POST" && api_path(request) == "posts";
            if refuses {
                Act::Instead(Fault::Html(502))
            } else {
                Act::Serve
            }
        });
        stage.run_for(&mut session, 6);
        assert_eq!(stage.desk.stopped(), 1, "{killed}");
        if killed {
            drop(session);
            session = stage.start();
            stage.mattermost.serve_all();
        }
        stage.run_for(&mut session, 130);
        let texts: Vec<String> = own_posts(&stage)
            .into_iter()
            .map(|post| post.message)
            .collect();
        assert_eq!(texts, ["Stopped."], "{killed}");
    }
}

#[test]
fn a_growing_answer_costs_few_reads() {
    let (stage, mut session) = at_work("");
    stage.desk.script(|_| Some(writes(&words("w", 600), 60)));
    ask(&stage, "tell me all");
    stage.run_for(&mut session, 70);
    let world = stage.world();
    let reads = world
        .log
        .iter()
        .filter(|call| call.target.contains("/posts?"));
    let (reads, edits) = (reads.count(), 12);
    assert!(reads <= 2 * edits, "{reads} reads");
}
