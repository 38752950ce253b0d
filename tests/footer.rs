//! What an answer carries besides its text, in simulated time: the mark that a model wrote it, remarks,
//! and the footer; and what the log says of who wrote it.

use std::sync::{Arc, Mutex};

use log::LevelFilter;
use prx::commands::run::Session;
use prx::provider::Answer;

use crate::support::bot::{ECHO, Stage};
use crate::support::desk::Play;
use crate::support::lines;

fn at_work(more: &str) -> (Stage, Session) {
    let stage = Stage::simulated();
    stage.configure(ECHO, more);
    stage.clock.advance(5_000);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    (stage, session)
}

fn ask(stage: &Stage, session: &mut Session, root: &str, text: &str) -> String {
    stage.clock.advance(1);
    let post = stage.reply(root, text);
    stage.run_for(session, 10);
    post
}

/// Has every worker be done after 1 s with `text` and this.
fn done_as(stage: &Stage, text: &str, answer: Answer) {
    let text = text.to_owned();
    stage.desk.script(move |_| {
        let text = Play::Text(text.clone());
        Some(vec![(1_000, text), (1_000, Play::DoneAs(answer.clone()))])
    });
}

/// Has every worker say `text` after 2.5 s, by a server that says what it cost or not.
fn answers(stage: &Stage, text: &str, tokens: Option<(u64, u64)>) {
    let text = text.to_owned();
    stage.desk.script(move |_| {
        let answer = Answer {
            by: "openai gpt-4o".into(),
            tokens,
            ..Answer::default()
        };
        Some(vec![
            (2_500, Play::Text(text.clone())),
            (2_500, Play::DoneAs(answer)),
        ])
    });
}

#[test]
fn answers_say_that_a_model_wrote_them_and_apologies_do_not() {
    for grows in [false, true] {
        let mode = if grows { "partial" } else { "off" };
        let (stage, mut session) = at_work(&format!("stream_mode = \"{mode}\""));
        answers(&stage, "fine", None);
        let question = ask(&stage, &mut session, "", "hello");
        let help = ask(&stage, &mut session, "", "@prxbot help");
        let world = stage.world();
        let answer = &world.own_answers(&stage.bot.id, &question)[0];
        assert_eq!(answer.props["ai_generated_by"], stage.bot.id.as_str());
        let help = &world.own_answers(&stage.bot.id, &help)[0];
        assert!(help.props.get("ai_generated_by").is_none());
    }
}

#[test]
fn a_person_is_told_that_the_model_has_not_seen_a_picture() {
    let remark = "*(The model does not take pictures, so it has not seen yours.)*";
    for (text, unseen_images, cut, shown) in [
        ("fine", false, false, "fine".to_owned()),
        ("fine", true, false, format!("fine\n\n{remark}")),
        // A remark is not part of the code that a model left open.
        ("```\nx", true, false, format!("```\nx\n```\n\n{remark}")),
        (
            "fine",
            true,
            true,
            format!("fine\n\n{remark}\n\n*(The answer was cut off at the model's length limit.)*"),
        ),
    ] {
        for mode in ["off", "partial"] {
            let (stage, mut session) = at_work(&format!("stream_mode = \"{mode}\""));
            let answer = Answer {
                unseen_images,
                cut,
                ..Answer::default()
            };
            done_as(&stage, text, answer);
            let question = ask(&stage, &mut session, "", "what is this?");
            assert_eq!(stage.answers(&question), [shown.as_str()], "{mode}");
        }
    }
}

#[test]
fn the_log_says_once_a_minute_who_answers_in_place_of_the_first() {
    let by = |by: &str| Answer {
        by: by.into(),
        ..Answer::default()
    };
    let (stage, mut session) = at_work("");
    lines::keep(LevelFilter::Info);
    let mut told = |author: &str, wait_secs| {
        done_as(&stage, "fine", by(author));
        ask(&stage, &mut session, "", "hello");
        stage.run_for(&mut session, wait_secs);
        let mut lines = lines::taken();
        lines.retain(|line| line.contains("is out"));
        lines
    };
    let line = |by: &str| format!("WARN echo is out; {by} answers in its place");
    assert_eq!(told("echo", 0), [""; 0], "the first one answers");
    assert_eq!(told("ollama qwen3", 20), [line("ollama qwen3")]);
    assert_eq!(told("openai gpt-4o", 35), [""; 0], "within a minute");
    assert_eq!(told("openai gpt-4o", 0), [line("openai gpt-4o")]);
    assert_eq!(told("echo", 70), [""; 0], "it is back");
}

#[test]
fn the_footer_says_what_is_asked_for_and_known() {
    let all = "footer = [\"model\", \"time\", \"tokens\"]";
    for (more, tokens, expected) in [
        (
            all,
            Some((812, 240)),
            "fine\n\n*\u{2060}`openai gpt-4o` · 2.5 s · 812 + 240 tokens*",
        ),
        (all, None, "fine\n\n*\u{2060}`openai gpt-4o` · 2.5 s*"),
        ("footer = [\"tokens\"]", None, "fine"),
        ("footer = [\"time\"]", None, "fine\n\n*\u{2060}2.5 s*"),
        ("", Some((812, 240)), "fine"),
    ] {
        let (stage, mut session) = at_work(more);
        answers(&stage, "fine", tokens);
        let question = ask(&stage, &mut session, "", "hello");
        assert_eq!(stage.answers(&question), [expected], "{more}");
    }
}

#[test]
fn the_footer_is_not_told_to_the_model() {
    let (stage, mut session) = at_work("footer = [\"model\"]");
    answers(&stage, "fine", None);
    let root = ask(&stage, &mut session, "", "hello");
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = told.clone();
    stage.desk.script(move |job| {
        let said = job.conversation[1..].iter();
        *kept.lock().expect("a lock") = said.map(|message| message.content.clone()).collect();
        None
    });
    ask(&stage, &mut session, &root, "and now?");
    assert_eq!(*told.lock().expect("a lock"), ["hello", "fine", "and now?"]);
}

#[test]
fn a_footer_that_does_not_fit_is_a_part_of_its_own() {
    let (stage, session) = at_work("footer = [\"model\"]");
    stage.world().knobs.max_post_size = 60;
    drop(session);
    let mut session = stage.start();
    answers(&stage, &"word ".repeat(11), None);
    let question = ask(&stage, &mut session, "", "hello");
    stage.run_for(&mut session, 90);
    let answers = stage.answers(&question);
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[1], "*\u{2060}`openai gpt-4o`*");
}
