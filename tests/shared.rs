//! Channels that other servers are connected to, in simulated time: posts that come late, with times
//! long past, of which only the channel's count tells.

use log::LevelFilter;
use prx::commands::run::Session;

use crate::support::bot::{ECHO, Stage};
use crate::support::lines;
use crate::support::mattermost::{Account, Joining};

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

/// A bot that has been in a connected channel for an hour, and a person of the other server.
fn connected(more: &str) -> (Stage, Session, Account) {
    let stage = Stage::simulated();
    let more = match more {
        "one" => format!("channel_id = \"{}\"", stage.channel),
        more => more.to_owned(),
    };
    stage.configure(ECHO, &format!("allowed_users = [\"*\"]\n{more}"));
    let mut world = stage.world();
    world.share(&stage.channel);
    let bea = world.add_remote_user("bea", "north");
    world.add_member(&stage.channel, &bea.id, Joining::Silently);
    world.post(&stage.eve.id, &stage.channel, "before the bot");
    drop(world);
    stage.clock.advance(5 * SECOND);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    stage.clock.advance(HOUR);
    // The newest change that was read is no longer the first one.
    let newest = stage.world().post(&stage.ann.id, &stage.channel, "newest");
    stage.run_for(&mut session, 90);
    stage.world().react(&stage.eve.id, &newest, "eyes");
    stage.world().log.clear();
    (stage, session, bea)
}

fn late(stage: &Stage, bea: &Account, text: &str, ms_ago: u64) -> String {
    stage.clock.advance(1);
    let mut world = stage.world();
    world.remote_post(&bea.id, &stage.channel, text, ms_ago)
}

fn count(stage: &Stage, part: &str) -> usize {
    let world = stage.world();
    let calls = world.log.iter();
    calls.filter(|call| call.target.contains(part)).count()
}

#[test]
fn a_post_that_comes_late_from_a_connected_server_is_answered_once() {
    for more in ["", "one", "mention_only = true"] {
        let (stage, mut session, bea) = connected(more);
        let question = late(&stage, &bea, "@prxbot why?", 600 * SECOND);
        stage.run_for(&mut session, 70);
        assert_eq!(stage.answers(&question), ["You said: why?"], "{more}");
        // One in a thread, of a moment before the other.
        stage.clock.advance(1);
        let mut world = stage.world();
        let draft = world.draft(&bea.id, &stage.channel, "@prxbot and how?");
        let reply = draft.root(&question).created_ms_ago(700 * SECOND).post();
        drop(world);
        stage.run_for(&mut session, 70);
        assert_eq!(stage.answers(&reply).len(), 1, "{more}");
        // One while the bot is down, and one just after it.
        drop(session);
        let third = late(&stage, &bea, "@prxbot how many?", 1200 * SECOND);
        let mut session = stage.start();
        stage.run_for(&mut session, 70);
        let fourth = late(&stage, &bea, "@prxbot how much?", 1300 * SECOND);
        stage.run_for(&mut session, 70);
        for question in [&question, &reply, &third, &fourth] {
            assert_eq!(stage.answers(question).len(), 1, "{more}");
        }
    }
}

#[test]
fn a_late_post_is_found_among_the_newest_2000_or_said_to_be_missing() {
    lines::keep(LevelFilter::Info);
    for (newer, found) in [(1900, true), (2100, false)] {
        let (stage, mut session, bea) = connected("mention_only = true");
        let eve = stage.eve.id.clone();
        stage.world().post_many(&eve, &stage.channel, newer, 10);
        stage.run_for(&mut session, 90);
        stage.clock.advance(60 * SECOND);
        let question = late(&stage, &bea, "@prxbot why?", 1800 * SECOND);
        lines::taken();
        stage.run_for(&mut session, 90);
        assert_eq!(stage.answers(&question).len(), usize::from(found));
        let told = lines::taken();
        let told = told.iter().filter(|line| line.contains("cannot be found"));
        assert_eq!(told.count(), usize::from(!found), "{newer}");
    }
}

#[test]
fn people_of_both_servers_are_told_apart_in_a_thread() {
    let (stage, mut session, bea) = connected("");
    let root = stage.world().post(&stage.ann.id, &stage.channel, "why?");
    stage.run_for(&mut session, 5);
    let mut world = stage.world();
    world
        .draft(&bea.id, &stage.channel, "and how?")
        .root(&root)
        .post();
    drop(world);
    stage.run_for(&mut session, 70);
    let asked = stage.desk.starts().pop().map(|start| start.asked);
    assert_eq!(asked.as_deref(), Some("bea:north: and how?"));
}

#[test]
fn history_and_what_is_too_old_is_not_answered_when_it_comes_late() {
    for (more, ago) in [
        ("", 2 * HOUR),
        ("catch_up_secs = 600", 900 * SECOND),
        ("mention_only = true", 600 * SECOND),
    ] {
        let (stage, mut session, bea) = connected(more);
        let question = late(&stage, &bea, "why?", ago);
        stage.run_for(&mut session, 130);
        assert!(stage.answers(&question).is_empty(), "{more:?} {ago}");
    }
}

#[test]
fn a_bot_that_is_killed_while_it_answers_a_late_post_answers_it_once() {
    for steps in 0..12 {
        let (stage, mut session, bea) = connected("");
        stage.desk.takes(5_000);
        let question = late(&stage, &bea, "why?", 600 * SECOND);
        stage.run_for(&mut session, 57);
        for _ in 0..steps {
            session.step().expect("no reason to exit");
        }
        drop(session);
        let mut session = stage.start();
        stage.run_for(&mut session, 200);
        assert_eq!(stage.answers(&question).len(), 1, "after {steps} steps");
    }
}

#[test]
fn the_bots_own_posts_do_not_stand_in_for_late_ones() {
    let (stage, mut session, bea) = connected("");
    let first = stage.world().post(&stage.ann.id, &stage.channel, "one");
    stage.run_for(&mut session, 3);
    assert_eq!(stage.answers(&first).len(), 1);
    // Read in the same round as a late one; the bot is started anew in between, or not.
    for anew in [false, true] {
        if anew {
            session.end();
            drop(session);
            session = stage.start();
        }
        let late = late(&stage, &bea, "late", 600 * SECOND);
        let second = stage.world().post(&stage.ann.id, &stage.channel, "two");
        stage.run_for(&mut session, 130);
        assert_eq!(stage.answers(&second).len(), 1);
        assert_eq!(stage.answers(&late).len(), 1, "{anew}");
    }
}

#[test]
fn a_count_that_nothing_explains_is_looked_into_once() {
    let (stage, mut session, _) = connected("");
    let eve = stage.eve.id.clone();
    stage.world().post_many(&eve, &stage.channel, 300, 10);
    stage.run_for(&mut session, 400);
    stage.world().log.clear();
    stage.world().channel_mut(&stage.channel).total_msg_count += 3;
    stage.run_for(&mut session, 600);
    let pages = count(&stage, "page=");
    assert!((1..=5).contains(&pages), "{pages}");
}

#[test]
fn only_a_connected_channel_is_asked_for_by_itself_once_a_minute() {
    let (stage, mut session, _) = connected("");
    let channel = format!("channels/{}", stage.channel);
    stage.run_for(&mut session, 600);
    let asked = count(&stage, &channel);
    assert!((9..=11).contains(&asked), "{asked}");
    stage.world().channel_mut(&stage.channel).shared = false;
    // The list tells that on the next change.
    stage.world().post(&stage.ann.id, &stage.channel, "hello");
    stage.run_for(&mut session, 90);
    stage.world().log.clear();
    stage.run_for(&mut session, 600);
    assert_eq!(count(&stage, &channel), 0);
}
