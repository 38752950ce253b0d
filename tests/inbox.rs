//! Which posts the bot finds and which it answers, in simulated time: the traps of the server's lists,
//! crashes, backlogs, joining and leaving, and clocks that lie.

use std::fs;
use std::sync::{Arc, Mutex};

use crate::support::bot::{ECHO, Stage};
use crate::support::clock::{SimClock, Time};
use crate::support::desk::writes;
use crate::support::lines;
use crate::support::mattermost::{
    Act, Fault, Joining, Kind, Logged, Version, Weaken, World, api_path,
};
use crate::support::model::Model;
use log::LevelFilter;
use prx::commands::run::Session;
use serde_json::{Value, json};

const SECOND: u64 = 1000;
const HOUR: u64 = 3_600_000;
const YEAR: u64 = 365 * 24 * HOUR;
/// How long after its `create_at` a post may become visible, in seconds.
const WINDOW_SECS: u64 = 60;

// The stage's shorthands.

/// A bot that has looked around, in every channel it is in.
fn at_work(more: &str) -> (Stage, Session) {
    let stage = Stage::simulated();
    stage.configure(ECHO, more);
    let session = begin(&stage);
    (stage, session)
}

/// A bot that has looked around, in one channel.
fn at_work_in_one() -> (Stage, Session) {
    let stage = Stage::simulated();
    stage.configure(ECHO, &only(&stage.channel));
    let session = begin(&stage);
    (stage, session)
}

fn only(channel: &str) -> String {
    format!("channel_id = \"{channel}\"")
}

/// The setting for the stage's channel alone, or for all.
fn scope(stage: &Stage, one: bool) -> String {
    let only = one.then(|| only(&stage.channel));
    only.unwrap_or_default()
}

/// Ann posts what others see so much later.
fn late(stage: &Stage, text: &str, ms: u64) -> String {
    let mut world = stage.world();
    let draft = world.draft(&stage.ann.id, &stage.channel, text);
    draft.visible_after_ms(ms).post()
}

/// A channel with Ann in it, and without the bot.
fn without_the_bot(stage: &Stage, kind: Kind) -> String {
    let mut world = stage.world();
    let channel = world.add_channel(&stage.team, "later", kind);
    world.add_member(&channel, &stage.ann.id, Joining::Joined);
    channel
}

fn old_server() -> Stage {
    let clock = SimClock::new();
    Stage::new(Time::Sim(clock.clone()), clock, Version::V5_37)
}

/// Starts the configured bot and lets it look around.
fn begin(stage: &Stage) -> Session {
    let mut session = stage.start();
    stage.run_for(&mut session, 3);
    session
}

/// What follows happens while no bot runs; then it runs again for `secs`.
fn while_down(stage: &Stage, session: Session, secs: u64, happens: impl FnOnce(&Stage)) -> Session {
    drop(session);
    stage.clock.advance(5 * SECOND);
    happens(stage);
    stage.clock.advance(5 * SECOND);
    let mut session = stage.start();
    stage.run_for(&mut session, secs);
    session
}

fn ask_in(stage: &Stage, channel: &str, text: &str) -> String {
    stage.world().post(&stage.ann.id, channel, text)
}

#[track_caller]
fn assert_answers<'a>(
    stage: &Stage,
    questions: impl IntoIterator<Item = &'a String>,
    expected: usize,
) {
    let world = stage.world();
    let mut wrong = Vec::new();
    for (number, question) in questions.into_iter().enumerate() {
        let found = world.own_answers(&stage.bot.id, question).len();
        if found != expected {
            wrong.push((number, world.post_by_id(question).message, found));
        }
    }
    let shown = &wrong[..wrong.len().min(10)];
    assert!(
        wrong.is_empty(),
        "expected {expected} answer(s): {} are wrong: {shown:?}",
        wrong.len()
    );
}

#[track_caller]
fn assert_once<'a>(stage: &Stage, questions: impl IntoIterator<Item = &'a String>) {
    assert_answers(stage, questions, 1);
}

#[track_caller]
fn assert_never<'a>(stage: &Stage, questions: impl IntoIterator<Item = &'a String>) {
    assert_answers(stage, questions, 0);
}

/// The questions that the bot answered, in the order of its answers.
fn answered_in_order(stage: &Stage, channels: &[&str]) -> Vec<String> {
    let world = stage.world();
    let mut answers: Vec<(u64, String)> = Vec::new();
    for channel in channels {
        for post in world.posts_in(channel) {
            if post.user_id == stage.bot.id
                && let Some(question) = post
                    .props
                    .get("prx")
                    .and_then(|prx| prx["in_reply_to"].as_str())
            {
                answers.push((post.create_at, question.to_owned()));
            }
        }
    }
    // Several answers in one millisecond keep their order within a channel.
    answers.sort_by_key(|answer| answer.0);
    answers.into_iter().map(|answer| answer.1).collect()
}

/// The bot's requests since the log was last cleared.
fn calls(stage: &Stage) -> Vec<Logged> {
    let mut calls = stage.world().clear_log();
    calls.retain(|call| call.user == "prxbot");
    calls
}

fn path(call: &Logged) -> &str {
    call.target.strip_prefix("/api/v4/").unwrap_or(&call.target)
}

fn is_list(call: &Logged) -> bool {
    path(call).starts_with("users/me/teams/") || path(call) == "users/me/channels"
}

fn reads_posts(call: &Logged) -> bool {
    path(call).starts_with("channels/") && path(call).contains("/posts?")
}

// When to look.

#[test]
fn an_idle_poll_of_one_channel_is_one_small_request() {
    let (stage, mut session) = at_work_in_one();
    stage.world().clear_log();
    stage.run_for(&mut session, 100);
    let calls = calls(&stage);
    assert_eq!(calls.len(), 100);
    for call in calls {
        assert_eq!(path(&call), format!("channels/{}", stage.channel));
        assert!(call.answer_bytes < 1000, "{call:?}");
    }
}

#[test]
fn an_idle_poll_of_all_channels_is_one_request_per_team_without_a_body() {
    let (stage, mut session) = at_work("");
    let other = {
        let mut world = stage.world();
        let other = world.add_team("other");
        world.join_team(&other, &stage.bot.id);
        other
    };
    stage.run_for(&mut session, 3 * WINDOW_SECS);
    stage.world().clear_log();
    stage.run_for(&mut session, 120);
    let calls = calls(&stage);
    for team in [&stage.team, &other] {
        let list = format!("users/me/teams/{team}/channels");
        let lists: Vec<_> = calls.iter().filter(|call| path(call) == list).collect();
        assert_eq!(lists.len(), 120);
        for call in lists {
            assert!(
                call.conditional && call.status == 304 && call.answer_bytes == 0,
                "{call:?}"
            );
        }
    }
    let others: Vec<_> = calls
        .iter()
        .filter(|call| !is_list(call))
        .map(path)
        .collect();
    assert_eq!(
        others, ["users/me/teams"; 2],
        "teams are looked up every minute"
    );
}

#[test]
fn a_channel_is_read_only_when_its_counters_move() {
    let (stage, mut session) = at_work("");
    let quiet = stage.add_channel("quiet");
    let old = stage.ask("old");
    let seen = stage.world().post(&stage.eve.id, &stage.channel, "seen");
    stage.run_for(&mut session, 10);
    assert_once(&stage, [&old]);
    stage.world().knobs.edits_move_last_post_at = false;
    type Happens = fn(&mut World, &Stage, &str);
    let cases: [(&str, Happens, usize); 6] = [
        ("nothing", |_, _, _| {}, 0),
        (
            "a reaction",
            |world, stage, seen| world.react(&stage.ann.id, seen, "+1"),
            0,
        ),
        ("an edit", |world, _, seen| world.edit(seen, "edited"), 0),
        ("a deletion", |world, _, seen| world.delete(seen), 0),
        (
            "a post",
            |world, stage, _| {
                world.post(&stage.eve.id, &stage.channel, "hello");
            },
            1,
        ),
        (
            "a join, which moves no count",
            |world, stage, _| {
                let bob = world.add_user("bob");
                world.add_member(&stage.channel, &bob.id, Joining::Joined);
            },
            1,
        ),
    ];
    for (name, happens, expected) in cases {
        stage.world().clear_log();
        happens(&mut stage.world(), &stage, &seen);
        stage.run_for(&mut session, 10);
        let calls = calls(&stage);
        let reads: Vec<_> = calls.iter().filter(|call| reads_posts(call)).collect();
        assert_eq!(reads.len(), expected, "{name}");
        assert!(
            reads.iter().all(|call| !call.target.contains(&quiet)),
            "{name}"
        );
    }
}

#[test]
fn nothing_is_read_after_a_restart_when_nothing_changed() {
    for one in [true, false] {
        let (stage, mut session) = if one { at_work_in_one() } else { at_work("") };
        let question = stage.ask("hello");
        stage.run_for(&mut session, 10);
        stage.world().clear_log();
        drop(session);
        begin(&stage);
        assert_once(&stage, [&question]);
        let calls = calls(&stage);
        assert!(!calls.iter().any(reads_posts), "one: {one}");
    }
}

#[test]
fn a_commit_hidden_behind_a_newer_post_elsewhere_is_found_within_5_seconds() {
    for late_ms in [900, 3_300, 7_000, 10_000, 31_000, 57_500] {
        let (stage, mut session) = at_work("");
        let other = stage.add_channel("other");
        stage.run_for(&mut session, 2 * WINDOW_SECS);
        let draft_at = stage.world().now();
        let late = late(&stage, "late", late_ms);
        stage.clock.advance(500);
        stage.world().post(&stage.eve.id, &other, "newer");
        stage.run_for(&mut session, late_ms / SECOND + 8);
        let answers = stage.world().own_answers(&stage.bot.id, &late);
        assert_eq!(answers.len(), 1, "{late_ms} ms late");
        let waited = answers[0].create_at - draft_at - late_ms;
        assert!(waited <= 6 * SECOND, "found {waited} ms after its commit");
    }
}

#[test]
fn a_commit_hidden_behind_a_newer_post_is_found_after_a_restart() {
    let (stage, mut session) = at_work("");
    let other = stage.add_channel("other");
    stage.run_for(&mut session, 2 * WINDOW_SECS);
    let late = late(&stage, "late", 10 * SECOND);
    stage.clock.advance(500);
    stage.world().post(&stage.eve.id, &other, "newer");
    stage.run_for(&mut session, 3);
    drop(session);
    let mut session = stage.start();
    stage.run_for(&mut session, 20);
    assert_once(&stage, [&late]);
}

#[test]
fn the_list_is_asked_for_without_its_etag_only_for_the_window_after_a_change() {
    let (stage, mut session) = at_work("");
    stage.run_for(&mut session, 2 * WINDOW_SECS);
    stage.world().clear_log();
    let changed = stage.world().now();
    stage.world().post(&stage.eve.id, &stage.channel, "denied");
    stage.run_for(&mut session, 4 * WINDOW_SECS);
    let lists: Vec<_> = calls(&stage).into_iter().filter(is_list).collect();
    let whole: Vec<u64> = lists
        .iter()
        .filter(|call| call.status == 200)
        .map(|call| (call.at_ms - changed) / SECOND)
        .collect();
    assert!(
        whole.iter().all(|secs| *secs <= WINDOW_SECS + 6),
        "{whole:?}"
    );
    assert!((12..=15).contains(&whole.len()), "every 5 s: {whole:?}");
}

#[test]
fn a_weakened_etag_still_spares_the_list() {
    for weaken in [Weaken::No, Weaken::Prefix, Weaken::Quoted] {
        let stage = Stage::simulated();
        stage.world().knobs.weaken = weaken;
        stage.configure(ECHO, "");
        let mut session = begin(&stage);
        stage.run_for(&mut session, 2 * WINDOW_SECS);
        stage.world().clear_log();
        stage.run_for(&mut session, 20);
        let lists: Vec<_> = calls(&stage).into_iter().filter(is_list).collect();
        assert!(lists.iter().all(|call| call.status == 304), "{weaken:?}");
    }
}

#[test]
fn a_list_that_fails_drops_nothing() {
    let faults = [
        Fault::Error(500, "app.channel.get_channels.get.app_error"),
        Fault::Error(403, "api.context.permissions.app_error"),
        Fault::Error(404, "app.channel.get_channels.not_found.app_error"),
        Fault::Html(502),
        Fault::Html(200),
        Fault::Close,
    ];
    for fault in faults {
        for restart in [false, true] {
            let (stage, mut session) = at_work("");
            let before = stage.ask("before");
            stage.run_for(&mut session, 3);
            let spoilt = fault.clone();
            stage.fail(spoilt.clone(), move |request| {
                api_path(request).starts_with("users/me/teams/")
            });
            if restart {
                drop(session);
                session = stage.start();
            }
            stage.run_for(&mut session, 5);
            let during = stage.ask("during");
            stage.run_for(&mut session, 10);
            let known = stage.state()["channels"]
                .as_object()
                .map(|channels| channels.len());
            assert_eq!(known, Some(3), "{fault:?} restart {restart}");
            stage.mattermost.serve_all();
            stage.run_for(&mut session, 70);
            assert_once(&stage, [&before, &during]);
        }
    }
}

#[test]
fn teams_that_cannot_be_looked_up_drop_nothing() {
    let (stage, mut session) = at_work("");
    stage.fail(Fault::Error(500, "app.team.get_all.app_error"), |request| {
        api_path(request) == "users/me/teams"
    });
    stage.run_for(&mut session, 70);
    let during = stage.ask("during");
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 70);
    assert_once(&stage, [&during]);
}

#[test]
fn a_team_joined_while_running_is_found_within_a_minute() {
    let (stage, mut session) = at_work("");
    stage.run_for(&mut session, 20);
    let (history, question) = {
        let mut world = stage.world();
        let team = world.add_team("other");
        let channel = world.channel_named(&team, "town-square");
        world.add_member(&channel, &stage.ann.id, Joining::WithTeam);
        let history = world.post(&stage.ann.id, &channel, "before the bot");
        stage.clock.advance(10);
        world.join_team(&team, &stage.bot.id);
        stage.clock.advance(10);
        (history, world.post(&stage.ann.id, &channel, "welcome"))
    };
    stage.run_for(&mut session, 63);
    assert_once(&stage, [&question]);
    assert_never(&stage, [&history]);
}

#[test]
fn a_bot_in_no_team_answers_in_its_direct_channels() {
    let (stage, mut session) = at_work("");
    let direct = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
    let first = ask_in(&stage, &direct, "in a team");
    stage.run_for(&mut session, 3);
    stage.world().leave_team(&stage.team, &stage.bot.id);
    stage.run_for(&mut session, 70);
    let second = ask_in(&stage, &direct, "in no team");
    stage.run_for(&mut session, 3);
    let session = while_down(&stage, session, 5, |_| {});
    let third = ask_in(&stage, &direct, "in no team after a restart");
    while_down(&stage, session, 5, |_| {});
    assert_once(&stage, [&first, &second, &third]);
}

#[test]
fn a_bot_in_no_team_of_an_old_server_waits_in_silence() {
    lines::keep(LevelFilter::Info);
    let stage = old_server();
    let direct = {
        let mut world = stage.world();
        world.leave_team(&stage.team, &stage.bot.id);
        world.direct_channel(&stage.ann.id, &stage.bot.id)
    };
    stage.configure(ECHO, "");
    let mut session = begin(&stage);
    let hidden = ask_in(&stage, &direct, "hello");
    lines::taken();
    stage.run_for(&mut session, 200);
    assert_eq!(lines::taken(), Vec::<String>::new());
    stage.world().join_team(&stage.team, &stage.bot.id);
    stage.run_for(&mut session, 70);
    assert_once(&stage, [&hidden]);
}

#[test]
fn what_was_said_before_the_first_run_stays_history_when_an_old_server_shows_no_channels_for_a_while()
 {
    let stage = old_server();
    let direct = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
    let history = ask_in(&stage, &direct, "before the first run");
    stage.clock.advance(SECOND);
    stage.configure(ECHO, "");
    let session = begin(&stage);
    let session = while_down(&stage, session, 5, |stage| {
        stage.world().leave_team(&stage.team, &stage.bot.id);
    });
    let question = ask_in(&stage, &direct, "while it sees nothing");
    while_down(&stage, session, 5, |stage| {
        stage.world().join_team(&stage.team, &stage.bot.id);
    });
    assert_never(&stage, [&history]);
    assert_once(&stage, [&question]);
}

// What is new.

#[test]
fn posts_of_one_millisecond_are_each_answered_once() {
    for late_ms in [0, 1, 2_500] {
        let (stage, mut session) = at_work("");
        let questions: Vec<String> = {
            let mut world = stage.world();
            (0..6)
                .map(|number| {
                    let draft = world.draft(&stage.ann.id, &stage.channel, &format!("{number}"));
                    draft.visible_after_ms(number % 3 * late_ms).post()
                })
                .collect()
        };
        stage.run_for(&mut session, 12);
        assert_once(&stage, &questions);
    }
}

#[test]
fn edits_reactions_and_replies_to_what_was_answered_change_nothing() {
    let stage = Stage::simulated();
    let before = stage.ask("before the first run");
    stage.clock.advance(SECOND);
    stage.configure(ECHO, "");
    let mut session = begin(&stage);
    let question = stage.ask("hello");
    stage.run_for(&mut session, 5);
    let mut replies = Vec::new();
    // Within the window, at its edge and far beyond it.
    for pause in [1, 58, 3, 300] {
        stage.run_for(&mut session, pause);
        for root in [&before, &question] {
            let mut world = stage.world();
            world.react(&stage.eve.id, root, "+1");
            world.edit(root, "edited");
            replies.push(
                world
                    .draft(&stage.ann.id, &stage.channel, "a reply")
                    .root(root)
                    .post(),
            );
            world
                .draft(&stage.eve.id, &stage.channel, "a denied reply")
                .root(root)
                .post();
        }
        stage.run_for(&mut session, 5);
    }
    assert_once(&stage, [&question]);
    assert_once(&stage, &replies);
    assert_never(&stage, [&before]);
}

#[test]
fn a_post_deleted_before_it_was_read_is_not_answered() {
    let (stage, mut session) = at_work("");
    let deleted = stage.ask("never mind");
    stage.clock.advance(10);
    stage.world().delete(&deleted);
    let question = stage.ask("hello");
    stage.run_for(&mut session, 5);
    assert_once(&stage, [&question]);
    assert_never(&stage, [&deleted]);
}

#[test]
fn a_post_is_found_though_the_server_caches_the_newest_change() {
    let (stage, mut session) = at_work_in_one();
    let mut questions = Vec::new();
    for number in 0..10 {
        // Stamped in the millisecond of the newest post, and visible after it was read.
        let now = stage.ask(&format!("{number}"));
        let later = late(&stage, "same millisecond", 1500);
        questions.extend([now, later]);
        stage.run_for(&mut session, 4);
    }
    assert_once(&stage, &questions);
}

// The mark never passes a post that is not handled.

#[test]
fn a_bot_killed_at_any_step_answers_what_waits_once() {
    for steps in 0..59 {
        let one = steps % 2 == 0;
        let (stage, session) = if one { at_work_in_one() } else { at_work("") };
        let other = if one {
            stage.channel.clone()
        } else {
            stage.add_channel("other")
        };
        drop(session);
        let mut questions: Vec<String> = (0..4)
            .map(|number| {
                stage.clock.advance(7);
                let channel = [&stage.channel, &other][number % 2];
                ask_in(&stage, channel, &format!("question {number}"))
            })
            .collect();
        questions.push(late(&stage, "late", 9 * SECOND));
        stage.live(steps, 10);
        stage.live(u64::MAX, 90);
        assert_once(&stage, &questions);
    }
}

#[test]
fn a_bot_killed_again_and_again_answers_each_post_once() {
    let (stage, session) = at_work("");
    drop(session);
    let other = stage.add_channel("other");
    let questions: Vec<String> = (0..30)
        .map(|number| {
            stage.clock.advance(500);
            let channel = [&stage.channel, &other][number % 2];
            let mut world = stage.world();
            let draft = world.draft(&stage.ann.id, channel, &format!("question {number}"));
            draft.visible_after_ms(number as u64 % 4 * 2_300).post()
        })
        .collect();
    for steps in (9..40).cycle().take(62) {
        stage.live(steps, 5);
    }
    stage.live(u64::MAX, 120);
    assert_once(&stage, &questions);
}

#[test]
fn what_waits_in_a_closed_channel_is_answered_after_a_restart() {
    let (stage, mut session) = at_work("");
    let other = stage.add_channel("other");
    stage.run_for(&mut session, 3);
    let closed = stage.channel.clone();
    stage.mattermost.on_request(move |request, _| {
        let body = String::from_utf8_lossy(&request.body);
        match api_path(request) == "users/me/typing" && body.contains(&closed) {
            true => Act::Instead(Fault::Error(403, "api.context.permissions.app_error")),
            false => Act::Serve,
        }
    });
    let waits = stage.ask("into the closed channel");
    for number in 0..20 {
        ask_in(&stage, &other, &format!("elsewhere {number}"));
        stage.ask("more of it");
        stage.run_for(&mut session, 10);
    }
    assert_never(&stage, [&waits]);
    stage.mattermost.serve_all();
    while_down(&stage, session, 10, |_| {});
    assert_once(&stage, [&waits]);
}

#[test]
fn what_a_channel_that_closes_in_between_does_not_show_is_answered_later() {
    // While the conversation is gathered, and before the answer is posted.
    for path in ["posts/*/thread", "posts/*$"] {
        let (stage, mut session) = at_work("");
        let root = stage.ask("root");
        stage.run_for(&mut session, 5);
        let closed = Act::Instead(Fault::Error(403, "api.context.permissions.app_error"));
        stage.world().plan(1, "GET", path, closed);
        stage.desk.script(|_| Some(writes("slow", 20)));
        let reply = stage.reply(&root, "and this?");
        stage.run_for(&mut session, 200);
        assert_once(&stage, [&root, &reply]);
    }
}

// What is answered.

#[test]
fn an_older_state_file_doubles_nothing() {
    for (count, apart_ms) in [(1, 0), (8, 300), (8, 20_000), (40, 4_000)] {
        let (stage, mut session) = at_work("");
        let first = stage.ask("first");
        stage.run_for(&mut session, 10);
        let older = fs::read(stage.state_path()).unwrap();
        let mut questions = vec![first];
        for number in 0..count {
            questions.push(stage.ask(&format!("{number}")));
            stage.run_for(&mut session, 1 + apart_ms / SECOND);
        }
        stage.run_for(&mut session, 10);
        let mut waiting = String::new();
        while_down(&stage, session, 10, |stage| {
            fs::write(stage.state_path(), &older).unwrap();
            waiting = stage.ask("while it was down");
        });
        questions.push(waiting);
        assert_once(&stage, &questions);
    }
}

#[test]
fn another_persons_post_does_not_answer_for_the_bot() {
    let (stage, session) = at_work("");
    let mut question = String::new();
    while_down(&stage, session, 10, |stage| {
        question = stage.ask("hello");
        stage.clock.advance(5);
        let prx = json!({ "in_reply_to": question, "part": 0, "of": 1 });
        for person in [&stage.eve, &stage.ann] {
            let mut world = stage.world();
            let forged = world.draft(&person.id, &stage.channel, "forged");
            forged.prop("prx", prx.clone()).root(&question).post();
        }
    });
    assert_once(&stage, [&question]);
}

#[test]
fn only_an_answer_with_all_its_parts_is_one() {
    let cases: [(&[u32], u32, bool); 5] = [
        (&[0], 1, true),
        (&[0], 2, false),
        (&[1], 2, false),
        (&[1, 0], 2, true),
        (&[0, 2], 3, false),
    ];
    for (parts, of, whole) in cases {
        let (stage, session) = at_work("");
        let mut question = String::new();
        while_down(&stage, session, 10, |stage| {
            question = stage.ask("hello");
            for part in parts {
                stage.clock.advance(5);
                let mut world = stage.world();
                let prx = json!({ "in_reply_to": question, "part": part, "of": of });
                let posted = world.draft(&stage.bot.id, &stage.channel, "a part");
                posted.prop("prx", prx).root(&question).post();
            }
        });
        let expected = parts.len() + usize::from(!whole);
        let world = stage.world();
        let found = world.own_answers(&stage.bot.id, &question).len();
        assert_eq!(found, expected, "{parts:?} of {of}");
    }
}

// Floors.

#[test]
fn what_was_there_before_the_first_run_is_history() {
    for one in [true, false] {
        let stage = Stage::simulated();
        let direct = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
        let history = [stage.ask("before"), ask_in(&stage, &direct, "before")];
        stage.clock.advance(1);
        stage.configure(ECHO, &scope(&stage, one));
        let mut session = begin(&stage);
        let mut questions = vec![stage.ask("after")];
        if !one {
            questions.push(ask_in(&stage, &direct, "after"));
        }
        stage.run_for(&mut session, 10);
        assert_never(&stage, &history);
        assert_once(&stage, &questions);
    }
}

#[test]
fn the_floors_of_a_first_run_are_on_disk_before_anything_else_is_asked() {
    for one in [true, false] {
        let stage = Stage::simulated();
        stage.ask("before");
        stage.configure(ECHO, &scope(&stage, one));
        let (path, ann, channel) = (
            stage.state_path(),
            stage.ann.id.clone(),
            stage.channel.clone(),
        );
        let late = Arc::new(Mutex::new(Vec::new()));
        let (found, mut listed) = (late.clone(), false);
        let mut session = stage.start();
        stage.mattermost.on_request(move |request, world| {
            let asked = api_path(request).to_owned();
            let is_probe = asked.ends_with("/channels") || asked == format!("channels/{channel}");
            let is_member_check = asked.ends_with("/members/me");
            if is_probe && !listed {
                listed = true;
                // A post between the probe and whatever comes next.
                let (ann, channel) = (ann.clone(), channel.clone());
                world.at(1, move |world| {
                    world.post(&ann, &channel, "after");
                });
                return Act::Serve;
            }
            let state = fs::read(&path).unwrap_or_default();
            let state: Value = serde_json::from_slice(&state).unwrap_or_default();
            let known = !state["channels"][&channel].is_null();
            if listed && !is_member_check && !known {
                found.lock().unwrap().push(asked);
            }
            Act::Serve
        });
        stage.run_for(&mut session, 5);
        assert_eq!(*late.lock().unwrap(), Vec::<String>::new(), "one: {one}");
    }
}

/// The forms in which a server tells how somebody came into a channel.
fn joinings(stage: &Stage) -> [(&'static str, Joining<'_>); 4] {
    [
        ("added", Joining::AddedBy(&stage.ann.id)),
        ("joined", Joining::Joined),
        ("with the team", Joining::WithTeam),
        ("silently", Joining::Silently),
    ]
}

#[test]
fn in_a_channel_joined_later_only_what_follows_is_answered() {
    for down in [false, true] {
        for form in 0..4 {
            let (stage, mut session) = at_work("");
            let (name, how) = joinings(&stage)[form];
            let channel = without_the_bot(&stage, Kind::Private);
            let mut history = Vec::new();
            for number in 0..250 {
                history.push(ask_in(&stage, &channel, &format!("history {number}")));
            }
            stage.run_for(&mut session, 5);
            history.push(ask_in(&stage, &channel, "a moment before"));
            stage.clock.advance(3);
            let mut questions = Vec::new();
            let joins = |stage: &Stage| {
                stage.world().add_member(&channel, &stage.bot.id, how);
                stage.clock.advance(3);
                // Nothing says when a silent member came, until a list shows it.
                (name != "silently").then(|| ask_in(stage, &channel, "a moment after"))
            };
            if down {
                session = while_down(&stage, session, 5, |stage| questions.extend(joins(stage)));
            } else {
                questions.extend(joins(&stage));
                stage.run_for(&mut session, 5);
            }
            questions.push(ask_in(&stage, &channel, "later"));
            stage.run_for(&mut session, 10);
            assert_never(&stage, &history);
            assert_once(&stage, &questions);
        }
    }
}

#[test]
fn what_was_said_while_the_bot_was_out_of_a_channel_is_history() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum When {
        Running,
        BetweenTwoPolls,
        Down,
    }
    for one in [true, false] {
        for when in [When::Running, When::BetweenTwoPolls, When::Down] {
            for form in 0..4 {
                let (stage, mut session) = if one { at_work_in_one() } else { at_work("") };
                let (name, how) = joinings(&stage)[form];
                if name == "silently" && when != When::Running {
                    continue; // Nobody can know.
                }
                stage.run_for(&mut session, 2 * WINDOW_SECS);
                let before = stage.ask("before");
                stage.run_for(&mut session, 10);
                let mut between = Vec::new();
                let leaves = |stage: &Stage| {
                    stage.clock.advance(3);
                    stage
                        .world()
                        .remove_member(&stage.channel, &stage.bot.id, &stage.ann.id);
                    stage.clock.advance(3);
                    stage.ask("between")
                };
                let returns = |stage: &Stage| {
                    stage.clock.advance(3);
                    stage.world().add_member(&stage.channel, &stage.bot.id, how);
                    stage.clock.advance(3);
                };
                match when {
                    When::Running => {
                        between.push(leaves(&stage));
                        stage.run_for(&mut session, 130);
                        between.push(stage.ask("between too"));
                        returns(&stage);
                        if name == "silently" {
                            stage.run_for(&mut session, 70);
                        }
                    }
                    When::BetweenTwoPolls => {
                        between.push(leaves(&stage));
                        returns(&stage);
                    }
                    When::Down => {
                        session = while_down(&stage, session, 0, |stage| {
                            between.push(leaves(stage));
                            returns(stage);
                        });
                    }
                }
                let after = stage.ask("after");
                stage.run_for(&mut session, 80);
                let context = format!("one: {one}, {when:?}, {name}");
                let world = stage.world();
                let count = |question: &String| world.own_answers(&stage.bot.id, question).len();
                let between: Vec<usize> = between.iter().map(count).collect();
                assert!(
                    between.iter().all(|count| *count == 0),
                    "{context}: {between:?}"
                );
                assert_eq!((count(&before), count(&after)), (1, 1), "{context}");
            }
        }
    }
}

#[test]
fn a_channel_of_which_the_bot_becomes_a_member_later_is_answered_from_then_on() {
    for form in 0..4 {
        let stage = Stage::simulated();
        let (name, how) = joinings(&stage)[form];
        let channel = without_the_bot(&stage, Kind::Open);
        let mut history = vec![ask_in(&stage, &channel, "before the start")];
        stage.clock.advance(3);
        stage.configure(ECHO, &only(&channel));
        let mut session = begin(&stage);
        history.push(ask_in(&stage, &channel, "before the bot came"));
        stage.run_for(&mut session, 130);
        stage.world().add_member(&channel, &stage.bot.id, how);
        stage.clock.advance(3);
        if name == "silently" {
            stage.run_for(&mut session, 70);
        }
        let question = ask_in(&stage, &channel, "after");
        stage.run_for(&mut session, 70);
        let world = stage.world();
        let count = |question: &String| world.own_answers(&stage.bot.id, question).len();
        let found: Vec<usize> = history.iter().chain([&question]).map(count).collect();
        assert_eq!(found, [0, 0, 1], "{name}");
    }
}

#[test]
fn the_first_message_of_a_direct_or_group_channel_is_answered() {
    for (pause_ms, down) in [
        (0, false),
        (1, false),
        (5_000, false),
        (0, true),
        (700, true),
    ] {
        let (stage, mut session) = at_work("");
        let zoe = stage.world().add_user("zoe");
        stage.configure(
            ECHO,
            &format!("allowed_users = [\"{}\", \"{}\"]", stage.ann.id, zoe.id),
        );
        drop(session);
        session = begin(&stage);
        let mut questions = Vec::new();
        let mut opens = |stage: &Stage, session: Option<&mut Session>| {
            let channels = {
                let mut world = stage.world();
                [
                    world.direct_channel(&stage.ann.id, &stage.bot.id),
                    // In no team with the bot.
                    world.direct_channel(&zoe.id, &stage.bot.id),
                    world.group_channel(&[&stage.ann.id, &zoe.id, &stage.bot.id]),
                ]
            };
            match session {
                Some(session) if pause_ms >= SECOND => stage.run_for(session, pause_ms / SECOND),
                _ => stage.clock.advance(pause_ms),
            }
            for (channel, person) in channels.iter().zip([&stage.ann, &zoe, &zoe]) {
                questions.push(stage.world().post(&person.id, channel, "hello"));
            }
        };
        if down {
            session = while_down(&stage, session, 5, |stage| opens(stage, None));
        } else {
            opens(&stage, Some(&mut session));
        }
        stage.run_for(&mut session, 10);
        assert_once(&stage, &questions);
    }
}

#[test]
fn a_wider_scope_begins_where_it_was_widened() {
    let (stage, session) = at_work_in_one();
    let other = stage.add_channel("other");
    let direct = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
    let mut history = vec![
        ask_in(&stage, &other, "too narrow"),
        ask_in(&stage, &direct, "too narrow"),
    ];
    let mut goes_on = String::new();
    let mut session = while_down(&stage, session, 5, |stage| {
        goes_on = stage.ask("while down");
        history.push(ask_in(stage, &other, "while down"));
        stage.configure(ECHO, "");
    });
    let after = [
        stage.ask("wide"),
        ask_in(&stage, &other, "wide"),
        ask_in(&stage, &direct, "wide"),
    ];
    stage.run_for(&mut session, 10);
    assert_never(&stage, &history);
    assert_once(&stage, after.iter().chain([&goes_on]));

    // Narrower, and wide again: what the narrow scope left out is history.
    let mut session = while_down(&stage, session, 5, |stage| {
        stage.configure(ECHO, &only(&stage.channel));
    });
    let left_out = [
        ask_in(&stage, &other, "narrow"),
        ask_in(&stage, &direct, "narrow"),
    ];
    let inside = stage.ask("narrow");
    stage.run_for(&mut session, 10);
    let mut session = while_down(&stage, session, 5, |stage| stage.configure(ECHO, ""));
    let again = [
        stage.ask("wide again"),
        ask_in(&stage, &other, "wide again"),
    ];
    stage.run_for(&mut session, 10);
    assert_never(&stage, &left_out);
    assert_once(&stage, again.iter().chain([&inside]).chain(&after));
}

#[test]
fn another_bots_state_is_not_used_and_a_changed_url_changes_nothing() {
    let (stage, session) = at_work("");
    let mut history = String::new();
    let session = while_down(&stage, session, 5, |stage| {
        history = stage.ask("to the other bot");
        let mut state = stage.state();
        state["bot"] = "a".repeat(26).into();
        fs::write(stage.state_path(), state.to_string()).unwrap();
    });
    let mut question = String::new();
    while_down(&stage, session, 10, |stage| {
        question = stage.ask("by another address");
        let config = fs::read_to_string(stage.config_path()).unwrap();
        assert!(config.contains("127.0.0.1"));
        fs::write(
            stage.config_path(),
            config.replace("127.0.0.1", "localhost"),
        )
        .unwrap();
    });
    assert_never(&stage, [&history]);
    assert_once(&stage, [&question]);
}

// Much at once.

/// `count` posts, one a second, the last a moment ago: every tenth is ann's and the rest eve's, whom
/// nobody answers. Ann's.
fn backlog(stage: &Stage, channel: &str, count: u64) -> Vec<String> {
    stage.clock.advance(count * SECOND);
    let mut world = stage.world();
    let mut anns = Vec::new();
    for number in 0..count {
        let person = [&stage.ann, &stage.eve][usize::from(number % 10 != 0)];
        let draft = world.draft(&person.id, channel, &format!("message {number}"));
        let post = draft.created_ms_ago((count - 1 - number) * SECOND).post();
        if number % 10 == 0 {
            anns.push(post);
        }
    }
    anns
}

/// Lets the bot work until it has answered `count` posts of `questions`, or for an hour.
fn work_until(stage: &Stage, session: &mut Session, questions: &[String], count: usize) {
    for _ in 0..3600 {
        session.step().expect("no reason to exit");
        let world = stage.world();
        let answered = |question: &&String| !world.own_answers(&stage.bot.id, question).is_empty();
        if questions.iter().filter(answered).count() >= count {
            return;
        }
    }
}

/// What is asked for is bounded: pages without their threads, and never everything at once again and
/// again.
#[track_caller]
fn assert_bounded(calls: &[Logged]) {
    for call in calls.iter().filter(|call| reads_posts(call)) {
        let since = call.target.contains("since=");
        assert!(
            since || call.target.contains("skipFetchThreads=true"),
            "{call:?}"
        );
    }
}

#[test]
fn thousands_of_posts_are_answered_once_and_in_their_order() {
    let (stage, session) = at_work("");
    drop(session);
    let questions = backlog(&stage, &stage.channel, 2_500);
    stage.world().clear_log();
    let mut session = stage.start();
    work_until(&stage, &mut session, &questions, 250);
    stage.run_for(&mut session, 5);
    assert_once(&stage, &questions);
    assert!(
        answered_in_order(&stage, &[&stage.channel]) == questions,
        "another order"
    );
    let calls = calls(&stage);
    assert_bounded(&calls);
    let since = calls.iter().filter(|call| call.target.contains("since="));
    assert!(
        since.count() <= 8,
        "everything is asked for again and again"
    );
    let pages = calls
        .iter()
        .filter(|call| call.target.contains("per_page="));
    assert!(pages.count() <= 60, "too many pages");
}

#[test]
fn more_posts_of_one_millisecond_than_fit_a_page_are_answered_once() {
    // How many before them in the channel, how many in each, and how long: of long ones few fit a page.
    for (before, count, length) in [(220, 240, 1), (0, 60, 40_000)] {
        let (stage, session) = at_work("");
        drop(session);
        stage.clock.advance(SECOND);
        let channel = match before {
            0 => stage.world().direct_channel(&stage.ann.id, &stage.bot.id),
            _ => stage.channel.clone(),
        };
        let mut world = stage.world();
        world.post_many(&stage.eve.id, &channel, before, 0);
        let long = "x".repeat(length);
        let mut posts = Vec::new();
        for ms in [0, 1, 2] {
            stage.clock.advance(ms);
            for number in 1..=count {
                if number % (count / 3) == 0 {
                    posts.push(world.post(&stage.ann.id, &channel, "here?"));
                } else {
                    world.post(&stage.eve.id, &channel, &long);
                }
            }
        }
        drop(world);
        let mut session = stage.start();
        work_until(&stage, &mut session, &posts, 9);
        stage.run_for(&mut session, 5);
        assert_once(&stage, &posts);
    }
}

#[test]
fn posts_over_the_bound_of_a_body_are_answered_in_smaller_pages() {
    let (stage, session) = at_work("");
    drop(session);
    let mut questions = Vec::new();
    let long = "long ".repeat(3_200);
    for number in 0..136 {
        stage.clock.advance(300);
        stage.world().post(&stage.eve.id, &stage.channel, &long);
        if number % 8 == 0 {
            stage.clock.advance(1);
            questions.push(stage.ask(&format!("{number}")));
        }
    }
    let mut session = stage.start();
    work_until(&stage, &mut session, &questions, 17);
    stage.run_for(&mut session, 5);
    assert_once(&stage, &questions);
    assert!(
        answered_in_order(&stage, &[&stage.channel]) == questions,
        "another order"
    );
    assert_bounded(&calls(&stage));
}

#[test]
fn a_page_of_giant_properties_holds_up_nobody() {
    // Over the bound two at a time, and one by itself.
    for sizes in [[1_100_000, 1_100_000], [10, 2_200_000]] {
        let (stage, session) = at_work("");
        let root = stage.world().post(&stage.eve.id, &stage.channel, "root");
        let mut question = String::new();
        let mut session = while_down(&stage, session, 0, |stage| {
            for size in sizes {
                stage.clock.advance(SECOND);
                let mut world = stage.world();
                let giant = world.draft(&stage.eve.id, &stage.channel, "giant");
                giant.prop("x", "x".repeat(size)).root(&root).post();
            }
            stage.clock.advance(SECOND);
            question = stage.ask("Are you there?");
        });
        let mut left = 300;
        stage.mattermost.on_request(move |_, _| {
            left -= 1;
            match left {
                0.. => Act::Serve,
                _ => Act::Instead(Fault::Close),
            }
        });
        stage.run_for(&mut session, 3);
        assert_once(&stage, [&question]);
        stage.mattermost.serve_all();
        stage.run_for(&mut session, 1);
        let last = stage.ask("And now?");
        stage.run_for(&mut session, 3);
        assert_once(&stage, [&question, &last]);
    }
}

#[test]
fn properties_nested_ever_so_deeply_hold_up_nobody() {
    let mut nested = json!("true");
    for _ in 0..200 {
        nested = json!([{ "in_reply_to": nested }]);
    }
    for name in ["prx", "from_bot", "addedUserId", "other"] {
        let (stage, mut session) = at_work("");
        let mut world = stage.world();
        let draft = world.draft(&stage.eve.id, &stage.channel, "deep");
        draft.prop(name, nested.clone()).post();
        drop(world);
        let question = stage.ask("Are you there?");
        stage.run_for(&mut session, 3);
        assert_once(&stage, [&question]);
    }
}

#[test]
fn a_backlog_is_walked_from_the_newest_handled_post_even_if_that_was_deleted() {
    for deleted in [false, true] {
        let (stage, mut session) = at_work("");
        for text in [
            "handled",
            "handled later",
            "and the window has passed the first",
        ] {
            stage.ask(text);
            stage.run_for(&mut session, 2 * WINDOW_SECS);
        }
        let known = stage.state()["channels"][&stage.channel]["anchor"].clone();
        let known = known.as_str().expect("an anchor").to_owned();
        drop(session);
        if deleted {
            stage.world().delete(&known);
        }
        let questions = backlog(&stage, &stage.channel, 1_100);
        stage.world().clear_log();
        let mut session = stage.start();
        work_until(&stage, &mut session, &questions, 110);
        stage.run_for(&mut session, 5);
        assert_once(&stage, &questions);
        assert!(
            calls(&stage)
                .iter()
                .any(|call| call.target.contains(&known))
        );
    }
}

#[test]
fn a_backlog_of_which_half_is_answered_is_finished_once() {
    let (stage, session) = at_work("");
    drop(session);
    let older = fs::read(stage.state_path()).unwrap();
    let questions = backlog(&stage, &stage.channel, 1_200);
    let mut session = stage.start();
    work_until(&stage, &mut session, &questions, 60);
    while_down(&stage, session, 0, |stage| {
        fs::write(stage.state_path(), &older).unwrap()
    });
    let mut session = stage.start();
    work_until(&stage, &mut session, &questions, 120);
    stage.run_for(&mut session, 5);
    assert_once(&stage, &questions);

    // With no state at all, all of it is history, and the answers stay single.
    let mut session = while_down(&stage, session, 5, |stage| {
        fs::remove_file(stage.state_path()).unwrap();
    });
    let next = stage.ask("next");
    stage.run_for(&mut session, 5);
    assert_once(&stage, questions.iter().chain([&next]));
}

#[test]
fn a_bot_killed_during_a_backlog_answers_each_post_once() {
    let (stage, session) = at_work("");
    drop(session);
    let questions = backlog(&stage, &stage.channel, 1_050);
    for steps in [12, 30, 111, 203, 304, 405] {
        stage.live(steps, 3_600);
    }
    let mut session = stage.start();
    work_until(&stage, &mut session, &questions, 105);
    stage.run_for(&mut session, 90);
    assert_once(&stage, &questions);
}

#[test]
fn two_channels_are_behind_at_once() {
    let (stage, session) = at_work("");
    let other = stage.add_channel("other");
    drop(session);
    let mut session = begin(&stage);
    stage.run_for(&mut session, 5);
    drop(session);
    let mut questions = backlog(&stage, &stage.channel, 1_010);
    questions.extend(backlog(&stage, &other, 1_010));
    let mut session = stage.start();
    work_until(&stage, &mut session, &questions, 202);
    stage.run_for(&mut session, 5);
    assert_once(&stage, &questions);
    let in_order = answered_in_order(&stage, &[&stage.channel]);
    assert!(in_order == questions[..101], "another order");
}

#[test]
fn posts_that_arrive_during_a_backlog_are_answered_once() {
    let (stage, session) = at_work("");
    drop(session);
    let mut questions = backlog(&stage, &stage.channel, 1_100);
    let mut session = stage.start();
    for number in 0..12 {
        let late = late(&stage, &format!("late {number}"), number * 900);
        questions.push(late);
        stage.run_for(&mut session, 1);
    }
    stage.run_for(&mut session, 60);
    assert_once(&stage, &questions);
}

#[test]
fn what_is_older_than_catch_up_secs_is_skipped_with_one_line() {
    for (old, recent) in [(3, 2), (300, 300), (1_200, 100), (600, 1_100)] {
        lines::keep(LevelFilter::Info);
        let (stage, session) = at_work("catch_up_secs = 3600");
        drop(session);
        let skipped = backlog(&stage, &stage.channel, old);
        stage.clock.advance(2 * HOUR);
        let questions = backlog(&stage, &stage.channel, recent);
        lines::taken();
        let mut session = stage.start();
        work_until(&stage, &mut session, &questions, questions.len());
        stage.run_for(&mut session, 5);
        assert_never(&stage, &skipped);
        assert_once(&stage, &questions);
        let mut lines = lines::taken();
        lines.retain(|line| line.contains("catch_up_secs"));
        assert_eq!(lines.len(), 1, "{old} and {recent}: {lines:?}");
    }
}

#[test]
fn a_burst_that_was_caught_up_with_is_not_read_again() {
    for one in [true, false] {
        let (stage, mut session) = if one { at_work_in_one() } else { at_work("") };
        let eve = stage.eve.id.clone();
        stage.world().post_many(&eve, &stage.channel, 1_200, 1);
        let question = stage.ask("after the burst");
        stage.run_for(&mut session, 40);
        assert_once(&stage, [&question]);
        stage.world().clear_log();
        stage.run_for(&mut session, 20);
        let reads = calls(&stage).into_iter().filter(reads_posts).count();
        assert_eq!(reads, 0, "one: {one}");
    }
}

// Order, and clocks.

#[test]
fn the_oldest_post_of_all_channels_is_answered_first() {
    let (stage, session) = at_work("");
    let channels = [
        stage.channel.clone(),
        stage.add_channel("aaa"),
        stage.add_channel("zzz"),
    ];
    drop(session);
    let mut session = begin(&stage);
    // Each answer comes at a later moment than the one before.
    stage.world().knobs.request_takes_ms = 3;
    let mut questions = Vec::new();
    while_down(&stage, session, 0, |stage| {
        for number in 0..30 {
            stage.clock.advance(20);
            let channel = &channels[number * 7 % 3];
            questions.push(ask_in(stage, channel, &format!("{number}")));
        }
    });
    session = stage.start();
    stage.run_for(&mut session, 5);
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    assert_eq!(answered_in_order(&stage, &channels), questions);
}

#[test]
fn a_date_set_by_a_proxy_changes_nothing_but_whether_a_missed_post_is_too_old() {
    for offset in [-(YEAR as i64), -(HOUR as i64), HOUR as i64, YEAR as i64] {
        let too_old = offset > 24 * HOUR as i64;
        for one in [true, false] {
            let stage = Stage::simulated();
            stage.world().knobs.date_offset_ms = offset;
            stage.configure(ECHO, &scope(&stage, one));
            let mut session = begin(&stage);
            // Some posts come between the probe and the read, and are known before the counters say so.
            let (eve, channel) = (stage.eve.id.clone(), stage.channel.clone());
            let mut reads = 0;
            stage.mattermost.on_request(move |request, world| {
                reads += u32::from(request.target.contains("since="));
                if request.target.contains("since=") && reads % 3 == 1 {
                    world.post(&eve, &channel, "between");
                }
                Act::Serve
            });
            let mut questions = Vec::new();
            for number in 0..12 {
                stage.run_for(&mut session, 15);
                stage.world().post(&stage.eve.id, &stage.channel, "denied");
                stage.run_for(&mut session, 15);
                questions.push(stage.ask(&format!("{number}")));
            }
            stage.run_for(&mut session, 5);
            let session = while_down(&stage, session, 5, |stage| {
                questions.push(stage.ask("while down"));
            });
            drop(session);
            let (missed, live) = questions.split_last().unwrap();
            assert_answers(&stage, live, 1);
            assert_answers(&stage, std::slice::from_ref(missed), usize::from(!too_old));
            // Nothing long past is asked for again.
            let begun = stage.world().log[0].at_ms;
            for call in calls(&stage) {
                if let Some((_, since)) = call.target.split_once("since=") {
                    let since: u64 = since.parse().unwrap();
                    let back = call.at_ms.saturating_sub(since.max(begun));
                    assert!(
                        back < 2 * WINDOW_SECS * SECOND,
                        "{back} ms back, Date {offset} ms off"
                    );
                }
            }
        }
    }
}

#[test]
fn posts_before_during_and_after_a_jump_of_the_servers_clock_are_answered_once() {
    for jump in [HOUR as i64, -(HOUR as i64)] {
        for one in [true, false] {
            for quiet_secs in [8, 2 * WINDOW_SECS] {
                let (stage, mut session) = if one { at_work_in_one() } else { at_work("") };
                // Before the first run is history, by whatever clock.
                stage.clock.advance(2 * HOUR);
                stage.run_for(&mut session, 2);
                let mut questions = Vec::new();
                for (number, offset) in [0, jump, 0, jump, 0].into_iter().enumerate() {
                    stage.world().clock_offset_ms = offset;
                    for _ in 0..3 {
                        questions.push(stage.ask(&format!("at jump {number}")));
                        stage.run_for(&mut session, quiet_secs);
                    }
                }
                stage.run_for(&mut session, 2 * WINDOW_SECS);
                let world = stage.world();
                let count = |question: &String| world.own_answers(&stage.bot.id, question).len();
                let found: Vec<usize> = questions.iter().map(count).collect();
                assert_eq!(
                    found, [1; 15],
                    "jump {jump}, one: {one}, {quiet_secs} s apart"
                );
            }
        }
    }
}

// Denied.

#[test]
fn a_post_by_someone_not_allowed_causes_nothing_and_reaches_no_model() {
    let (stage, model) = (Stage::simulated(), Model::start());
    let top = format!(
        "default_provider = \"custom:{}/v1\"\ndefault_model = \"test-model\"",
        model.url()
    );
    for threads in [true, false] {
        stage.configure(&top, &format!("thread_replies = {threads}"));
        let mut session = begin(&stage);
        stage.world().typing.clear();
        stage.world().clear_log();
        let asked_before = model.requests().len();
        let secret = stage
            .world()
            .post(&stage.eve.id, &stage.channel, "xyzzy as a root");
        stage.run_for(&mut session, 10);
        assert!(stage.world().typing.is_empty());
        assert!(calls(&stage).iter().all(|call| call.method == "GET"));
        assert_eq!(model.requests().len(), asked_before);
        assert!(stage.world().replies_to(&secret).is_empty());

        // As context: above, beside and inside of what is answered.
        let under_hers = stage.reply(&secret, "what do you say to this?");
        let root = stage.ask("a question");
        stage.run_for(&mut session, 3);
        let again = {
            let mut world = stage.world();
            let eves = world.draft(&stage.eve.id, &stage.channel, "xyzzy as a reply");
            eves.root(&root).post();
            stage.clock.advance(3);
            let draft = world.draft(&stage.ann.id, &stage.channel, "and now?");
            draft.root(&root).post()
        };
        stage.run_for(&mut session, 10);
        assert_once(&stage, [&under_hers, &root, &again]);
        assert_eq!(model.requests().len(), asked_before + 3);
        for request in model.requests() {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            assert!(!body.contains("xyzzy"), "{body}");
        }
    }
}

#[test]
fn a_first_refusal_is_looked_at_again_soon() {
    let stage = Stage::simulated();
    let channel = without_the_bot(&stage, Kind::Open);
    stage.configure(ECHO, &only(&channel));
    // As on a real clock, no two moments are the same.
    let clock = stage.clock.clone();
    stage.mattermost.on_request(move |_, _| {
        clock.advance(20);
        Act::Serve
    });
    let mut session = stage.start();
    stage.world().log.clear();
    stage.run_for(&mut session, 10);
    let asked = |call: &Logged| path(call).ends_with(&format!("channels/{channel}"));
    assert_eq!(calls(&stage).iter().filter(|call| asked(call)).count(), 2);
}

#[test]
fn a_message_that_ended_the_process_and_is_far_ahead_is_not_begun_afresh() {
    let (stage, mut session) = at_work("");
    let town = stage.world().channel_named(&stage.team, "town-square");
    ask_in(&stage, &town, "known");
    stage.run_for(&mut session, 3);
    drop(session);
    let other = ask_in(&stage, &town, "and this?");
    stage.clock.advance(SECOND);
    backlog(&stage, &stage.channel, 1_100);
    stage.clock.advance(SECOND);
    let poison = stage.ask("poison");
    let mut state = stage.state();
    state["journal"] = json!({
        "post": poison, "channel": stage.channel, "attempts": 3,
        "create_at": stage.world().post_by_id(&poison).create_at,
    });
    fs::write(stage.state_path(), state.to_string()).expect("a state file");
    let mut session = stage.start();
    let questions = [other.clone(), poison.clone()];
    work_until(&stage, &mut session, &questions, 2);
    stage.run_for(&mut session, 5);
    assert_once(&stage, &questions);
    assert_eq!(stage.answers(&other).concat(), "You said: and this?");
    assert!(stage.answers(&poison)[0].contains("I have stopped trying"));
}

#[test]
fn pages_without_anything_to_answer_cost_no_time() {
    let (stage, session) = at_work("");
    drop(session);
    stage.clock.advance(3 * HOUR);
    let mut world = stage.world();
    world.post_many(&stage.eve.id, &stage.channel, 2_500, SECOND);
    drop(world);
    stage.clock.advance(1);
    let question = stage.ask("here?");
    let mut session = stage.start();
    stage.run_for(&mut session, 3);
    assert_once(&stage, [&question]);
}

#[test]
fn a_list_that_a_proxy_calls_unchanged_at_the_first_look_is_no_list() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "");
    let question = stage.ask("history");
    let mut session = stage.start();
    stage.fail(Fault::Status(304, vec![], vec![]), move |request| {
        request.target.ends_with("/channels")
    });
    stage.run_for(&mut session, 30);
    assert!(!stage.state_path().exists(), "{}", stage.state());
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 60);
    let other = stage.ask("new");
    stage.run_for(&mut session, 3);
    assert_never(&stage, [&question]);
    assert_once(&stage, [&other]);
}
