//! A machine that sleeps: the program's clock stands still, the calendar and the server's clock go on.
//! And a server whose clock was ahead when the bot began.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::bot::{ECHO, Stage};
use crate::support::lines;
use crate::support::mattermost::{Act, Fault};

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

#[test]
fn a_machine_that_slept_answers_what_a_bot_that_was_away_would() {
    for only in [true, false] {
        let stage = Stage::simulated();
        let one = format!("channel_id = \"{}\"\n", stage.channel);
        let one = if only { one } else { String::new() };
        stage.configure(ECHO, &format!("{one}catch_up_secs = 3600"));
        let mut session = stage.start();
        stage.run_for(&mut session, 90);
        stage.clock.suspend(22 * HOUR);
        let ask = |text| stage.world().post(&stage.ann.id, &stage.channel, text);
        let old = ask("while it slept");
        stage.clock.suspend(2 * HOUR);
        let recent = ask("just before it woke");
        stage.clock.suspend(600 * SECOND);
        stage.run_for(&mut session, 90);
        assert!(stage.answers(&old).is_empty(), "{only}");
        assert_eq!(stage.answers(&recent).len(), 1, "{only}");
        let awake = ask("now that it is awake");
        stage.run_for(&mut session, 10);
        assert_eq!(stage.answers(&awake).len(), 1, "{only}");
    }
}

#[test]
fn a_calendar_that_is_set_by_seconds_is_no_absence() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "catch_up_secs = 5");
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    for _ in 0..10 {
        let question = stage.world().post(&stage.ann.id, &stage.channel, "why?");
        stage.clock.suspend(30 * SECOND);
        stage.run_for(&mut session, 10);
        assert_eq!(stage.answers(&question).len(), 1);
    }
}

#[test]
fn an_answer_that_was_being_made_when_the_machine_fell_asleep_is_posted_when_it_wakes() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "catch_up_secs = 60");
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    stage.desk.takes(20_000);
    let question = stage.world().post(&stage.ann.id, &stage.channel, "why?");
    stage.run_for(&mut session, 5);
    stage.clock.suspend(48 * HOUR);
    stage.run_for(&mut session, 90);
    assert_eq!(stage.answers(&question).len(), 1);
    assert_eq!(stage.desk.starts().len(), 1);
}

#[test]
fn an_answer_that_may_have_been_posted_before_the_sleep_is_posted_once() {
    // The server takes it at once, later or not at all; and so many steps before the sleep.
    let acts = [
        (Act::ServeThen(Fault::Close), 0),
        (Act::ServeThen(Fault::Close), 9_000),
        (Act::Instead(Fault::Close), 0),
    ];
    for ((act, late_ms), steps) in acts
        .iter()
        .flat_map(|act| (1..6).map(move |steps| (act, steps)))
    {
        let stage = Stage::simulated();
        stage.world().knobs.commit_delay_ms = *late_ms;
        stage.configure(ECHO, "");
        let mut session = stage.start();
        stage.run_for(&mut session, 90);
        let posted = Arc::new(AtomicUsize::new(0));
        let (count, first) = (posted.clone(), act.clone());
        stage.mattermost.on_request(move |request, _| {
            let is_post = request.method == "POST" && request.target.ends_with("/posts");
            if is_post && count.fetch_add(1, Ordering::SeqCst) == 0 {
                first.clone()
            } else {
                Act::Serve
            }
        });
        let question = stage.world().post(&stage.ann.id, &stage.channel, "why?");
        while posted.load(Ordering::SeqCst) == 0 {
            session.step().expect("no reason to exit");
        }
        for _ in 0..steps {
            session.step().expect("no reason to exit");
        }
        stage.clock.suspend(48 * HOUR);
        stage.run_for(&mut session, 200);
        assert_eq!(
            stage.answers(&question).len(),
            1,
            "{act:?} {late_ms} {steps}"
        );
    }
}

#[test]
fn a_bot_that_began_while_the_servers_clock_was_ahead_says_why_it_is_silent() {
    for only in [true, false] {
        let stage = Stage::simulated();
        let one = format!("channel_id = \"{}\"\n", stage.channel);
        stage.configure(ECHO, if only { &one } else { "" });
        let mut session = stage.start();
        stage.run_for(&mut session, 3);
        lines::keep(log::LevelFilter::Warn);
        stage.world().clock_offset_ms = -(HOUR as i64);
        let ask = |text| stage.world().post(&stage.ann.id, &stage.channel, text);
        let early = ask("Is it early?");
        stage.run_for(&mut session, 3);
        ask("Or late?");
        stage.run_for(&mut session, 3);
        let told = lines::taken();
        let [line] = &told[..] else {
            panic!("one line: {told:?}");
        };
        assert!(line.contains("gets no answers until 20"), "{line}");
        assert!(stage.answers(&early).is_empty());
        // By whatever clock: what comes after the moment of its start is answered.
        stage.clock.advance(2 * HOUR);
        stage.run_for(&mut session, 3);
        let late = ask("And now?");
        stage.run_for(&mut session, 3);
        assert_eq!(stage.answers(&late).len(), 1, "{only}");
    }
}
