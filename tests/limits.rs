//! The daily limits, in simulated time: who gets an answer, what the others get, and what crashes do
//! to the count.

use prx::commands::run::Session;

use crate::support::bot::{ECHO, Stage};
use crate::support::desk::{Play, question, says};
use crate::support::mattermost::{Fault, api_path};

const DAY: u64 = 24 * 3_600_000;

/// A bot that has looked at everything once; everybody is allowed.
fn at_work(more: &str) -> (Stage, Session) {
    let stage = Stage::simulated();
    let more = format!("allowed_users = [\"*\"]\n{more}");
    stage.configure(ECHO, &more);
    stage.clock.advance(5_000);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    (stage, session)
}

fn post(stage: &Stage, person: &str, text: &str) -> String {
    stage.clock.advance(1);
    stage.world().post(person, &stage.channel, text)
}

/// Posts, and lets the bot do what it does about it.
fn ask(stage: &Stage, session: &mut Session, person: &str, text: &str) -> String {
    let post = post(stage, person, text);
    stage.run_for(session, 5);
    post
}

fn reactions(stage: &Stage, post: &str) -> Vec<String> {
    stage.world().reactions_by(&stage.bot.id, post)
}

#[track_caller]
fn is_answered(stage: &Stage, post: &str) {
    let answers = stage.answers(post);
    assert!(
        answers.len() == 1 && answers[0].starts_with("You said"),
        "{answers:?}"
    );
    assert!(reactions(stage, post).is_empty());
}

#[track_caller]
fn is_told(stage: &Stage, post: &str) {
    let answers = stage.answers(post);
    assert!(
        answers.len() == 1 && answers[0].contains("from 00:00 UTC"),
        "{answers:?}"
    );
    assert!(reactions(stage, post).is_empty());
}

#[track_caller]
fn is_put_off(stage: &Stage, post: &str) {
    assert!(stage.answers(post).is_empty());
    assert_eq!(reactions(stage, post), ["clock12"]);
}

/// How many answers are counted in the newest day.
fn counted(stage: &Stage) -> u64 {
    let state = stage.state();
    let days = state["days"].as_object().expect("days");
    let newest = days.values().next_back().expect("a day");
    newest["all"].as_u64().expect("a number")
}

#[test]
fn a_person_over_the_limit_is_told_once_a_day_and_then_gets_a_reaction() {
    let (stage, mut session) = at_work("daily_limit = 2");
    let (ann, eve) = (stage.ann.id.clone(), stage.eve.id.clone());
    for text in ["one", "two"] {
        is_answered(&stage, &ask(&stage, &mut session, &ann, text));
    }
    let third = ask(&stage, &mut session, &ann, "three");
    is_told(&stage, &third);
    assert!(stage.answers(&third)[0].contains("your 2 answers"));
    for text in ["four", "five"] {
        is_put_off(&stage, &ask(&stage, &mut session, &ann, text));
    }
    is_answered(&stage, &ask(&stage, &mut session, &eve, "and I?"));
    assert_eq!(stage.desk.starts().len(), 3);
    stage.clock.advance(DAY);
    stage.run_for(&mut session, 5);
    for text in ["six", "seven"] {
        is_answered(&stage, &ask(&stage, &mut session, &ann, text));
    }
    is_told(&stage, &ask(&stage, &mut session, &ann, "eight"));
    is_put_off(&stage, &ask(&stage, &mut session, &ann, "nine"));
    for _ in 0..3 {
        stage.clock.advance(DAY);
        stage.run_for(&mut session, 5);
        is_answered(&stage, &ask(&stage, &mut session, &ann, "ten"));
    }
    let days = stage.state()["days"].as_object().map(|days| days.len());
    assert_eq!(days, Some(2));
}

#[test]
fn all_people_together_have_a_limit_too() {
    let (stage, mut session) = at_work("daily_limit_all = 2");
    let (ann, eve) = (stage.ann.id.clone(), stage.eve.id.clone());
    is_answered(&stage, &ask(&stage, &mut session, &ann, "one"));
    is_answered(&stage, &ask(&stage, &mut session, &eve, "two"));
    for person in [&ann, &eve] {
        is_told(&stage, &ask(&stage, &mut session, person, "three"));
        is_put_off(&stage, &ask(&stage, &mut session, person, "four"));
    }
}

#[test]
fn commands_apologies_and_edits_are_not_counted() {
    let (stage, mut session) = at_work("daily_limit = 2");
    let ann = stage.ann.id.clone();
    stage.desk.script(|job| match question(job).as_str() {
        "fail" => Some(vec![(100, Play::TimesOut)]),
        text => Some(says(&format!("You said: {text}"), 3_000)),
    });
    let help = ask(&stage, &mut session, &ann, "@prxbot help");
    assert!(stage.answers(&help)[0].contains("2 answers per person"));
    let failed = ask(&stage, &mut session, &ann, "fail");
    assert_eq!(stage.answers(&failed).len(), 1);
    let edited = post(&stage, &ann, "one");
    stage.run_for(&mut session, 2);
    stage.world().edit(&edited, "one, rather");
    stage.run_for(&mut session, 15);
    is_answered(&stage, &edited);
    assert_eq!(counted(&stage), 1);
    is_answered(&stage, &ask(&stage, &mut session, &ann, "two"));
    is_told(&stage, &ask(&stage, &mut session, &ann, "three"));
}

#[test]
fn a_question_that_waits_again_in_a_closed_channel_is_counted_once() {
    let (stage, mut session) = at_work("daily_limit = 1");
    let ann = stage.ann.id.clone();
    stage.fail(
        Fault::Error(403, "api.context.permissions.app_error"),
        move |request| api_path(request).ends_with("/typing"),
    );
    let question = ask(&stage, &mut session, &ann, "one");
    stage.run_for(&mut session, 150);
    assert!(stage.answers(&question).is_empty());
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 90);
    is_answered(&stage, &question);
    assert_eq!(counted(&stage), 1);
}

#[test]
fn a_bot_killed_at_any_step_counts_each_answer_once_and_tells_once() {
    let mut steps = 0;
    loop {
        let (stage, session) = at_work("daily_limit = 2");
        drop(session);
        stage.desk.takes(1_000);
        let ann = stage.ann.id.clone();
        let questions: Vec<String> = ["one", "two", "three", "four"]
            .iter()
            .map(|text| post(&stage, &ann, text))
            .collect();
        let killed = stage.live(steps, 30);
        let mut session = stage.start();
        stage.run_for(&mut session, 150);
        for question in &questions[..2] {
            is_answered(&stage, question);
        }
        is_told(&stage, &questions[2]);
        is_put_off(&stage, &questions[3]);
        assert_eq!(counted(&stage), 2, "killed at step {steps}");
        assert!(stage.state().get("answers").is_none());
        if !killed {
            break;
        }
        steps += 1;
    }
    assert!(steps > 20, "{steps} steps");
}

#[test]
fn without_limits_nothing_is_counted() {
    let (stage, mut session) = at_work("");
    let ann = stage.ann.id.clone();
    is_answered(&stage, &ask(&stage, &mut session, &ann, "one"));
    assert!(stage.state().get("days").is_none());
}
