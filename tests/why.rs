//! `prx why` from outside: for one post in each situation, the line that decides.

use crate::support::bot::{ECHO, Stage};
use crate::support::mattermost::{Joining, Kind};

/// Lets the bot see the stage once, so that what is posted afterwards is new.
fn first_run(stage: &Stage) {
    let ran = stage.run(&["run", "--once"], "");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// Writes the config anew, with an Ann who is allowed and what `more` says.
fn stage(more: &str) -> Stage {
    let stage = Stage::real();
    stage.configure(ECHO, more);
    // With what is no channel's id, nothing is seen.
    let is_wrong = more.contains("channel_id");
    let ran = stage.run(&["run", "--once"], "");
    assert_eq!(ran.code, Some(i32::from(is_wrong)), "{ran:?}");
    stage
}

#[track_caller]
fn decides(stage: &Stage, post: &str, line: &str, check: &str) {
    let ran = stage.run(&["why", post], "");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(0), ""),
        "{}",
        ran.stdout
    );
    let (checks, last) = ran.stdout.split_once("\n\n").expect("a verdict");
    assert!(last.starts_with(line), "not {line:?}: {}", ran.stdout);
    assert!(checks.contains(check), "no {check:?} in {}", ran.stdout);
    // Nothing comes after what decides but what to do about it.
    let failed: Vec<_> = checks
        .lines()
        .skip_while(|line| !line.starts_with('✗'))
        .collect();
    assert!(
        failed
            .iter()
            .skip(1)
            .all(|line| !line.starts_with('✓') || line.contains("answered")),
        "{}",
        ran.stdout
    );
}

type Situation = fn(&Stage) -> String;

#[test]
fn each_situation_has_the_line_that_decides() {
    #[rustfmt::skip] // A table.
    let cases: &[(&str, Situation, &str, &str)] = &[
        ("", |s| s.ask("hello"), "Would be answered", "✓ mentioned     not needed: mention_only is off"),
        (
            "",
            |s| {
                let root = s.ask("root");
                let mut world = s.world();
                let draft = world.draft(&s.ann.id, &s.channel, "look");
                draft.root(&root).attach("notes.txt", b"notes").post()
            },
            "Would be answered",
            "✓ told          earlier messages: 1, by the same person\n✓ told          File notes.txt: its text (post ",
        ),
        (
            "history_posts = 2\nallowed_users = [\"*\"]",
            |s| {
                let root = s.ask("root");
                let mut world = s.world();
                let mut post = |author: &str, text| {
                    world.clock_offset_ms += 1;
                    world.draft(author, &s.channel, text).root(&root).post()
                };
                post(&s.eve.id, "one");
                post(&s.eve.id, "two");
                post(&s.ann.id, "three")
            },
            "Would be answered",
            "✓ told          earlier messages: 2, by ann, by eve; older ones are left out (history_posts, history_chars)",
        ),
        (
            "mention_only = true",
            |s| s.ask("@prxbot help"),
            "Would be answered",
            "✓ command       it is the command `help` (chat_commands), which gets a post that no model",
        ),
        (
            "mention_only = true",
            |s| s.ask("@prxbot stop"),
            "Not answered: it is the command `stop` (chat_commands), which gets a reaction alone",
            "✓ command       it is the command `stop`",
        ),
        ("mention_only = true", |s| s.ask("hey @PrxBot."), "Would be answered", "✓ mentioned     by \"@PrxBot\""),
        (
            "mention_only = true",
            |s| s.ask("hello"),
            "Not answered: it does not mention the bot (mention_only).",
            "mention_only = false",
        ),
        ("mention_only = true", |s| s.ask("`@prxbot`"), "Not answered: it does not mention the bot", "not in code"),
        (
            "mention_only = true",
            |s| {
                let direct = s.world().direct_channel(&s.ann.id, &s.bot.id);
                s.world().post(&s.ann.id, &direct, "hello")
            },
            "Would be answered",
            "✓ mentioned     not needed in a direct channel",
        ),
        (
            "mention_only = true\nfollow_threads = true",
            |s| {
                let root = s.ask("root");
                s.world()
                    .draft(&s.bot.id, &s.channel, "mine")
                    .root(&root)
                    .post();
                s.reply(&root, "and you?")
            },
            "Would be answered",
            "already wrote in this thread",
        ),
        (
            "",
            |s| s.world().post(&s.eve.id, &s.channel, "hello"),
            "Not answered: its author is not in allowed_users.",
            "✗ allowed ",
        ),
        ("", |s| s.world().post(&s.bot.id, &s.channel, "hello"), "Not answered: the bot wrote it.", "✗ written by "),
        (
            "",
            |s| {
                s.world()
                    .draft(&s.ann.id, &s.channel, "hook")
                    .prop("from_webhook", "true")
                    .post()
            },
            "Not answered: a program wrote it (props.from_webhook).",
            "✗ program ",
        ),
        (
            "",
            |s| {
                let channel = s.channel.clone();
                let mut world = s.world();
                let zoe = world.add_user("zoe");
                world.add_member(&channel, &zoe.id, Joining::Joined);
                world.posts_in(&channel).pop().expect("a post").id
            },
            "Not answered: it is a system or plugin message.",
            "✗ kind ",
        ),
        (
            "",
            |s| {
                let post = s.ask("hello");
                s.world().delete(&post);
                post
            },
            "Not answered: the bot cannot see it.",
            "it was deleted, or ",
        ),
        (
            "",
            |s| {
                let closed = s.world().add_channel(&s.team, "closed", Kind::Private);
                s.world().add_member(&closed, &s.ann.id, Joining::Joined);
                s.world().post(&s.ann.id, &closed, "hello")
            },
            "Not answered: the bot cannot see it.",
            "/invite @prxbot",
        ),
        (
            "",
            |s| {
                let open = s.world().add_channel(&s.team, "open", Kind::Open);
                s.world().add_member(&open, &s.ann.id, Joining::Joined);
                s.world().post(&s.ann.id, &open, "hello")
            },
            "Not answered: the bot is not in its channel.",
            "✗ channel       @prxbot is not in ~open in ",
        ),
        (
            "",
            |s| {
                let post = s.ask("hello");
                s.world().archive(&s.channel, &s.ann.id);
                post
            },
            "Not answered: its channel is archived.",
            "unarchive it",
        ),
        (
            "",
            |s| {
                let post = s.ask("hello");
                first_run(s);
                assert_eq!(s.answers(&post).len(), 1);
                post
            },
            "Was answered: http",
            "✓ answered      http",
        ),
        (
            "",
            |s| {
                let post = s.ask("hello");
                first_run(s);
                s.configure(ECHO, "allowed_users = []");
                post
            },
            "Was answered: http",
            "✗ allowed ",
        ),
        (
            "allowed_users = []",
            |s| {
                let post = s.ask("hello");
                first_run(s);
                s.configure(ECHO, "");
                post
            },
            "Not answered: the bot has been past it already.",
            "decided otherwise",
        ),
        (
            "mention_only = true",
            |s| {
                let post = s.ask("is it up?");
                first_run(s);
                s.world().edit(&post, "@prxbot is it up?");
                post
            },
            "Not answered: it seems that it was edited after the bot had passed it.",
            "an edited message is not a new one",
        ),
        (
            "channel_id = \"talk\"",
            |s| s.ask("hello"),
            "Not answered: channel_id has this channel's name, where its id belongs.",
            "only its id is understood there",
        ),
        (
            "channel_id = \"~town-square\"",
            |s| s.ask("hello"),
            "Not answered: the bot answers in another channel only",
            "is not the one channel",
        ),
        (
            "",
            |s| {
                let post = s.ask("hello");
                let town = s.world().channel_named(&s.team, "town-square");
                s.configure(ECHO, &format!("channel_id = {town:?}"));
                post
            },
            "Not answered: the bot answers in another channel only (channel_id).",
            "channel_id = \"",
        ),
        (
            "",
            |s| {
                let new = s.add_channel("new");
                s.world().post(&s.ann.id, &new, "hello")
            },
            "Would be answered",
            "has not looked at ~new in ",
        ),
    ];
    for (more, situation, line, check) in cases {
        let stage = stage(more);
        let post = situation(&stage);
        println!("{more}: {line}");
        decides(&stage, &post, line, check);
    }
}

#[test]
fn what_was_written_before_the_first_run_or_look_is_history() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let post = stage.ask("hello");
    decides(
        &stage,
        &post,
        "Not answered: the bot has not run yet.",
        "prx run",
    );
    first_run(&stage);
    decides(
        &stage,
        &post,
        "Not answered: it is from before the bot's first look at the channel.",
        "✗ in time ",
    );
    // Looking changed nothing.
    first_run(&stage);
    assert!(stage.answers(&post).is_empty());
}

#[test]
fn whether_the_bot_runs_is_said_when_all_else_is_well() {
    let stage = stage("poll_interval_secs = 3600");
    let post = stage.ask("hello");
    decides(
        &stage,
        &post,
        "Would be answered, but the bot is not running",
        "✓ in time ",
    );
}

#[test]
fn an_apology_is_told_with_its_text_and_a_commands_answer_is_none() {
    let stage = Stage::real();
    stage.configure(
        "default_provider = \"command\"\nprovider_command = [\"false\"]",
        "",
    );
    first_run(&stage);
    let [question, command] = ["hello", "@prxbot help"].map(|text| stage.ask(text));
    first_run(&stage);
    let apology =
        "! answered      with an apology: I could not get an answer from the language model.";
    let line = "Got an apology in place of an answer: http";
    decides(&stage, &question, line, apology);
    decides(&stage, &command, "Was answered: http", "✓ answered ");
}

#[test]
fn a_question_over_a_daily_limit_is_said_to_be_one() {
    let stage = stage("daily_limit = 1\nthread_replies = false");
    let [answered, told, put_off] = ["one", "two", "three"].map(|text| {
        let post = stage.ask(text);
        first_run(&stage);
        post
    });
    decides(&stage, &answered, "Was answered: ", "answered");
    let apology = "! answered      with an apology: You have had your one answer for today";
    decides(
        &stage,
        &told,
        "Got an apology in place of an answer: ",
        apology,
    );
    let line = "Not answered: a daily limit was reached.";
    decides(&stage, &put_off, line, "✗ in time");
}

#[test]
fn what_is_too_old_to_catch_up_with_is_said() {
    let stage = stage("catch_up_secs = 0");
    let post = stage.ask("hello");
    // `Date` has whole seconds.
    stage.world().knobs.date_offset_ms = 5000;
    decides(
        &stage,
        &post,
        "Not answered: it is too old (catch_up_secs).",
        "older than 0 s",
    );
}

#[test]
fn the_answer_that_is_linked_is_the_one() {
    let stage = stage("");
    let post = stage.ask("hello");
    first_run(&stage);
    let answer = stage.world().own_answers(&stage.bot.id, &post)[0]
        .id
        .clone();
    let link = format!("{}/team/pl/{post}", stage.mattermost.url());
    decides(
        &stage,
        &link,
        &format!(
            "Was answered: {}/_redirect/pl/{answer}\n",
            stage.mattermost.url()
        ),
        &answer,
    );
}

#[test]
fn what_is_no_post_is_a_usage_error() {
    let stage = stage("");
    for (arguments, expected) in [
        (&["why"][..], "which post?"),
        (&["why", "hello"], "\"hello\" is neither"),
    ] {
        let ran = stage.run(arguments, "");
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{ran:?}");
    }
}
