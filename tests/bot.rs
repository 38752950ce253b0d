//! The bot from outside: the built binary in real time.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::bot::{Bot, Stage, binary};
use support::clock::{SimClock, Time};
use support::mattermost::{Act, Fault, Joining, Kind, Logged, Mattermost, Post, Version, api_path};
use support::model::{Model, ModelReply};
use support::net::{Authority, Tunnels};
use support::wire::Wire;

const ECHO: &str = "default_provider = \"echo\"";
const KEY: &str = "sk-not-for-the-log-0123456789";
const MENTIONS: &str = include_str!("recordings/mentions.json");

/// The bot at work on its stage.
struct Play {
    bot: Bot,
    stage: Stage,
}

impl Deref for Play {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl Play {
    /// With `-v`; returns once it has seen the server for the first time: what is posted from here
    /// on is for it.
    fn start(stage: Stage, top: &str, more: &str) -> Play {
        Play::start_with(stage, top, more, |command| {
            command.arg("-v");
        })
    }

    fn start_with(
        stage: Stage,
        top: &str,
        more: &str,
        change: impl FnOnce(&mut Command),
    ) -> Play {
        configure(&stage, top, more);
        let bot = stage.spawn_with(change);
        wait_for_first_look(&stage);
        Play { bot, stage }
    }

    /// A bot that repeats what it is asked.
    fn echo(more: &str) -> Play {
        Play::start(Stage::real(), ECHO, more)
    }

    /// A bot that asks `model`, as a server with OpenAI's API.
    fn asking(model: &Model, more: &str) -> Play {
        Play::start(Stage::real(), &openai(model), more)
    }

    /// kill -9, and another start with the config as it is then.
    fn restart(&mut self) {
        self.bot.kill();
        self.bot = self.stage.spawn();
    }

    /// Ann says `text` in the channel.
    fn says(&self, text: &str) -> String {
        self.stage.world().post(&self.ann, &self.channel, text)
    }

    /// Ann says `text` in the thread of `root`.
    fn replies(&self, root: &str, text: &str) -> String {
        let mut world = self.stage.world();
        let channel = world.post_by_id(root).channel_id;
        world.draft(&self.ann, &channel, text).root(root).post()
    }

    /// Ann says `text`: the answer.
    fn ask(&self, text: &str) -> String {
        self.wait_for_answer(&self.says(text))
    }

    /// The posts that answer `question`, oldest first.
    fn answered_by(&self, question: &str) -> Vec<Post> {
        self.world().own_answers(&self.stage.bot, question)
    }

    /// Returns when everything posted so far was dealt with: posts are answered oldest first, and
    /// this one is the youngest.
    fn settle(&self) {
        self.settle_in(&self.channel);
    }

    fn settle_in(&self, channel: &str) {
        self.tick();
        let last = self
            .world()
            .post(&self.ann, channel, "@prxbot that is all");
        self.wait_for_answer(&last);
    }

    /// Returns when the server stamps something later than what it has stamped so far.
    fn tick(&self) {
        let now = self.world().now();
        self.wait("the next millisecond", |world| world.now() > now);
    }

    /// Whether each of these was answered, once everything was dealt with.
    fn assert_answered(&self, expected: &[(&str, &str, bool)]) {
        self.settle();
        for (what, post, answered) in expected {
            let count = self.answered_by(post).len();
            assert_eq!(count, usize::from(*answered), "{what}");
        }
    }
}

fn configure(stage: &Stage, top: &str, more: &str) {
    stage.configure(top, &format!("poll_interval_secs = 0.05\n{more}"));
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(stage.config_path(), mode).expect("a file of one's own");
}

fn wait_for_first_look(stage: &Stage) {
    let state = stage.state_path();
    stage.wait("the first look", |_| state.exists());
}

fn openai(model: &Model) -> String {
    format!(
        "default_provider = \"custom:{}/v1\"\ndefault_model = \"little\"\napi_key = \"{KEY}\"",
        model.url()
    )
}

fn anthropic(model: &Model) -> String {
    format!(
        "default_provider = \"anthropic-custom:{}\"\ndefault_model = \"little\"\napi_key = \"{KEY}\"",
        model.url()
    )
}

/// The conversation that the model was given in its last request, a line for each message.
fn told(model: &Model) -> Vec<String> {
    let body = model.bodies().pop().expect("a request");
    let messages = body["messages"].as_array().expect("messages");
    messages
        .iter()
        .map(|message| {
            let role = message["role"].as_str().expect("a role");
            let content = message["content"].as_str().expect("text");
            format!("{role}: {content}")
        })
        .collect()
}

/// The same without the system prompt.
fn conversation(model: &Model) -> Vec<String> {
    let mut lines = told(model);
    lines.retain(|line| !line.starts_with("system: "));
    lines
}

fn system_prompt(model: &Model) -> String {
    let first = told(model).remove(0);
    assert!(first.starts_with("system: "), "{first}");
    first
}

#[test]
fn a_message_is_answered_in_its_thread() {
    let play = Play::echo("");
    let question = play.says("hello there");
    assert_eq!(play.wait_for_answer(&question), "You said: hello there");
    play.settle();
    let replies = play.world().replies_to(&question);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].root_id, question);
    assert_eq!(play.bot.threads(), 1);
}

#[test]
fn a_message_in_a_thread_is_answered_in_that_thread() {
    let play = Play::echo("");
    let root = play.says("first");
    play.wait_for_answer(&root);
    let question = play.replies(&root, "second");
    play.wait_for_answer(&question);
    assert_eq!(play.answered_by(&question)[0].root_id, root);
    assert_eq!(play.world().replies_to(&root).len(), 3);
}

#[test]
fn without_thread_replies_answers_stand_in_the_channel() {
    let play = Play::echo("thread_replies = false");
    let root = play.says("first");
    play.wait_for_answer(&root);
    let reply = play.replies(&root, "second");
    play.wait_for_answer(&reply);
    for question in [&root, &reply] {
        assert_eq!(play.answered_by(question)[0].root_id, "");
    }
    let typing = play.world().typing.clone();
    assert!(typing.iter().all(|typing| typing.parent_id.is_empty()));
}

#[test]
fn with_a_channel_id_only_that_channel_is_answered() {
    let stage = Stage::real();
    let other = stage.world().channel_named(&stage.team, "off-topic");
    let direct = stage.world().direct_channel(&stage.ann, &stage.bot);
    let only = format!("channel_id = \"{}\"", stage.channel);
    let play = Play::start(stage, ECHO, &only);
    let elsewhere = play.world().post(&play.ann, &other, "elsewhere");
    let alone = play.world().post(&play.ann, &direct, "alone");
    let here = play.says("here");
    play.assert_answered(&[
        ("elsewhere", &elsewhere, false),
        ("direct", &alone, false),
        ("here", &here, true),
    ]);
    let lists = |call: &Logged| call.user == "prxbot" && call.target.ends_with("/channels");
    assert!(!play.world().log.iter().any(lists));
}

#[test]
fn all_channels_of_all_teams_and_direct_and_group_channels_are_answered() {
    let stage = Stage::real();
    let mut world = stage.world();
    let team = world.add_team("second");
    world.join_team(&team, &stage.bot);
    let private = world.add_channel(&stage.team, "secret", Kind::Private);
    world.add_member(&private, &stage.bot, Joining::AddedBy(&stage.ann));
    let channels = [
        ("the default one", world.channel_named(&stage.team, "town-square")),
        ("another team's", world.channel_named(&team, "off-topic")),
        ("a private one", private),
        ("a direct one", world.direct_channel(&stage.ann, &stage.bot)),
        (
            "a group",
            world.group_channel(&[&stage.ann, &stage.eve, &stage.bot]),
        ),
    ];
    drop(world);
    let play = Play::start(stage, ECHO, "");
    let mut world = play.world();
    let posts = channels
        .each_ref()
        .map(|(what, channel)| (*what, world.post(&play.ann, channel, "hello")));
    drop(world);
    let expected = posts.each_ref().map(|(what, post)| (*what, post.as_str(), true));
    play.assert_answered(&expected);
}

#[test]
fn a_bot_in_no_team_answers_in_direct_channels() {
    let stage = Stage::real();
    stage.world().leave_team(&stage.team, &stage.bot);
    let direct = stage.world().direct_channel(&stage.ann, &stage.bot);
    let play = Play::start(stage, ECHO, "");
    let question = play.world().post(&play.ann, &direct, "hello");
    play.wait_for_answer(&question);
    let later = play.world().direct_channel(&play.eve, &play.ann);
    assert_ne!(later, direct);
    play.settle_in(&direct);
}

#[test]
fn the_first_message_of_a_new_direct_channel_is_answered() {
    let play = Play::echo("");
    let direct = play.world().direct_channel(&play.ann, &play.stage.bot);
    let question = play.world().post(&play.ann, &direct, "hello");
    assert_eq!(play.wait_for_answer(&question), "You said: hello");
}

#[test]
fn a_channel_joined_left_and_joined_again_is_answered_while_the_bot_is_in_it() {
    let play = Play::echo("");
    let mut world = play.world();
    let channel = world.add_channel(&play.team, "project", Kind::Private);
    world.add_member(&channel, &play.ann, Joining::Silently);
    drop(world);
    let before = play.world().post(&play.ann, &channel, "before it came");
    let come = || {
        play.tick();
        let joining = Joining::AddedBy(&play.ann);
        play.world().add_member(&channel, &play.stage.bot, joining);
        play.tick();
    };
    come();
    let first = play.world().post(&play.ann, &channel, "while it is there");
    play.wait_for_answer(&first);
    play.world()
        .remove_member(&channel, &play.stage.bot, &play.ann);
    play.wait("the channel's end", |_| {
        play.bot.log().contains("no longer in channel project")
    });
    let between = play.world().post(&play.ann, &channel, "while it is away");
    play.settle();
    come();
    let second = play.world().post(&play.ann, &channel, "when it is back");
    play.wait_for_answer(&second);
    play.assert_answered(&[
        ("before", &before, false),
        ("first", &first, true),
        ("between", &between, false),
        ("second", &second, true),
    ]);
}

#[test]
fn channels_joined_left_and_joined_again_while_the_bot_is_down_are_answered_from_there_on() {
    let mut play = Play::echo("");
    let known = play.says("known");
    play.wait_for_answer(&known);
    play.bot.kill();
    let bot = play.stage.bot.id.clone();
    let missed = play.says("missed");
    play.tick();
    play.world().remove_member(&play.channel, &bot, &play.ann);
    play.tick();
    let away = play.says("while it is away");
    play.tick();
    let mut world = play.world();
    world.add_member(&play.channel, &bot, Joining::AddedBy(&play.ann));
    let joined = world.add_channel(&play.team, "joined", Kind::Open);
    let left = world.channel_named(&play.team, "off-topic");
    let before = world.post(&play.ann, &joined, "before it came");
    let gone = world.post(&play.ann, &left, "before it left");
    world.remove_member(&left, &bot, &play.ann);
    drop(world);
    play.tick();
    play.world().add_member(&joined, &bot, Joining::Joined);
    play.tick();
    let back = play.says("when it is back");
    let after = play.world().post(&play.ann, &joined, "when it is there");
    play.bot = play.stage.spawn();
    play.wait_for_answer(&after);
    play.assert_answered(&[
        ("known", &known, true),
        // Nobody can say that it was there to be answered: the bot came in later.
        ("missed", &missed, false),
        ("away", &away, false),
        ("back", &back, true),
        ("before", &before, false),
        ("after", &after, true),
        ("gone", &gone, false),
    ]);
}

#[test]
fn a_team_joined_while_the_bot_is_down_is_answered_from_there_on() {
    let mut play = Play::echo("");
    play.bot.kill();
    let mut world = play.world();
    let team = world.add_team("second");
    let channel = world.channel_named(&team, "town-square");
    let before = world.post(&play.ann, &channel, "before it came");
    drop(world);
    play.tick();
    play.world().join_team(&team, &play.stage.bot);
    play.tick();
    let after = play.world().post(&play.ann, &channel, "when it is there");
    play.bot = play.stage.spawn();
    play.wait_for_answer(&after);
    play.assert_answered(&[("before", &before, false), ("after", &after, true)]);
}

#[test]
fn with_mention_only_what_mentions_the_bot_by_the_servers_own_rule_is_answered() {
    let rows: Vec<Value> = serde_json::from_str(MENTIONS).expect("a recording");
    assert_eq!(rows.len(), 155);
    let play = Play::echo("mention_only = true");
    let direct = play.world().direct_channel(&play.ann, &play.stage.bot);
    let alone = play.world().post(&play.ann, &direct, "no mention is needed");
    let posts: Vec<String> = {
        let mut world = play.world();
        let texts = rows.iter().map(|row| row["message"].as_str().expect("text"));
        texts
            .map(|text| world.post(&play.ann, &play.channel, text))
            .collect()
    };
    play.wait_for_answer(&alone);
    play.settle();
    for (row, post) in rows.iter().zip(&posts) {
        let count = play.answered_by(post).len();
        let expected = usize::from(row["mentions"] == true);
        assert_eq!(count, expected, "{}", row["message"]);
    }
}

#[test]
fn a_renamed_bot_is_not_mentioned_by_its_old_name() {
    let mut play = Play::echo("mention_only = true");
    let old = play.says("@prxbot hello");
    play.wait_for_answer(&old);
    play.bot.kill();
    play.world().rename_user(&play.stage.bot, "helper");
    let old = play.says("@prxbot hello");
    let new = play.says("@helper hello");
    play.bot = play.stage.spawn();
    assert_eq!(play.wait_for_answer(&new), "You said: hello");
    let last = play.says("@helper that is all");
    play.wait_for_answer(&last);
    assert_eq!(play.answers(&old), [""; 0]);
}

#[test]
fn only_allowed_users_are_answered_and_others_cause_nothing_at_all() {
    for (list, ann, eve) in [
        ("[]", false, false),
        ("[\"ANN\"]", true, false),
        ("[\"*\"]", true, true),
    ] {
        let stage = Stage::real();
        let list = list.replace("ANN", &stage.ann);
        let model = Model::start();
        let judge = stage.world().channel_named(&stage.team, "off-topic");
        // A channel with a list of its own shows when the others were dealt with.
        let more = format!(
            "allowed_users = {list}\n[channels_config.mattermost.channels.{judge}]\nallowed_users = [\"{}\"]",
            stage.ann.id
        );
        let play = Play::start(stage, &openai(&model), &more);
        let by_ann = play.says("question by ann");
        let by_eve = play.world().post(&play.eve, &play.channel, "question by eve");
        play.settle_in(&judge);
        assert_eq!(play.answers(&by_ann).len(), usize::from(ann), "{list}");
        assert_eq!(play.answers(&by_eve).len(), usize::from(eve), "{list}");
        let asked = model.bodies();
        let asked_for = |text: &str| asked.iter().any(|body| body.to_string().contains(text));
        assert_eq!(asked_for("question by ann"), ann, "{list}");
        assert_eq!(asked_for("question by eve"), eve, "{list}");
        let world = play.world();
        let typing = |root: &str| world.typing.iter().any(|typing| typing.parent_id == root);
        assert_eq!(typing(&by_ann), ann, "{list}");
        assert_eq!(typing(&by_eve), eve, "{list}");
    }
}

#[test]
fn posts_that_no_person_wrote_are_not_answered() {
    let play = Play::echo("allowed_users = [\"*\"]");
    let bot = play.stage.bot.id.clone();
    let mut world = play.world();
    let colleague = world.add_bot("other");
    world.add_member(&play.channel, &colleague, Joining::Silently);
    let (ann, channel) = (play.ann.id.clone(), play.channel.clone());
    let mut posts = vec![
        ("the bot's own", world.post(&bot, &channel, "mine"), false),
        (
            "another bot's",
            world.post(&colleague, &channel, "beep"),
            false,
        ),
    ];
    for property in ["from_bot", "from_webhook", "from_plugin", "from_oauth_app"] {
        let draft = world.draft(&ann, &channel, "automatic").prop(property, "true");
        posts.push((property, draft.post(), false));
    }
    let other_prx = json!({"prx": {"in_reply_to": ann, "part": 0, "of": 1}});
    let draft = world.draft(&ann, &channel, "an answer").props(other_prx);
    posts.push(("another prx's", draft.post(), false));
    for kind in ["system_header_change", "system_join_channel", "custom_poll"] {
        let draft = world.draft(&ann, &channel, "something changed").kind(kind);
        posts.push((kind, draft.post(), false));
    }
    let waves = world.draft(&ann, &channel, "*waves*").kind("me").post();
    posts.push(("/me", waves, true));
    drop(world);
    let expected: Vec<_> = posts
        .iter()
        .map(|(what, post, answered)| (*what, post.as_str(), *answered))
        .collect();
    play.assert_answered(&expected);
}

#[test]
fn an_edit_makes_no_second_answer_and_a_deleted_post_gets_none() {
    let model = Model::start();
    let play = Play::asking(&model, "mention_only = true");
    let question = play.says("@prxbot one");
    play.wait_for_answer(&question);
    let plain = play.says("nothing for it");
    play.settle();
    play.world().edit(&question, "@prxbot two");
    play.world().edit(&plain, "@prxbot after all");
    play.settle();
    assert_eq!(play.answers(&question).len(), 1);
    assert_eq!(play.answers(&plain).len(), 0);

    // One is deleted while the model thinks about it, the other while it waits behind it.
    let release = hold(&model, "too late");
    let asked = model.requests().len();
    let (first, second) = (play.says("@prxbot three"), play.says("@prxbot four"));
    play.wait("the question", |_| model.requests().len() > asked);
    play.world().delete(&first);
    play.world().delete(&second);
    drop(release);
    play.settle();
    for post in [&first, &second] {
        assert_eq!(play.answers(post), [""; 0]);
    }
}

/// The model's next answer is `text`, once the sender is dropped.
fn hold(model: &Model, text: &str) -> Sender<()> {
    let (release, held) = mpsc::channel();
    model.then(ModelReply::Held(held, Box::new(ModelReply::text(text))));
    release
}

#[test]
fn history_is_left_alone_at_the_first_run_and_after_a_wider_scope() {
    let stage = Stage::real();
    let other = stage.world().channel_named(&stage.team, "off-topic");
    let old = stage.world().post(&stage.ann, &stage.channel, "old");
    let only = format!("channel_id = \"{}\"", stage.channel);
    let mut play = Play::start(stage, ECHO, &only);
    let elsewhere = play.world().post(&play.ann, &other, "elsewhere");
    play.settle();
    play.bot.kill();
    let missed = play.says("missed");
    let late = play.world().post(&play.ann, &other, "elsewhere, and late");
    configure(&play, ECHO, "");
    play.restart();
    play.wait_for_answer(&missed);
    let after = play.world().post(&play.ann, &other, "in scope");
    play.wait_for_answer(&after);
    play.assert_answered(&[
        ("old", &old, false),
        ("elsewhere", &elsewhere, false),
        ("late", &late, false),
        ("missed", &missed, true),
        ("after", &after, true),
    ]);
}

#[test]
fn a_restarted_bot_goes_on_where_it_was() {
    let mut play = Play::echo("");
    let before: Vec<String> = (0..3).map(|n| play.says(&format!("before {n}"))).collect();
    play.settle();
    play.bot.kill();
    let during: Vec<String> = (0..3).map(|n| play.says(&format!("during {n}"))).collect();
    play.bot = play.stage.spawn();
    play.settle();
    for post in before.iter().chain(&during) {
        assert_eq!(play.answers(post).len(), 1);
    }
}

#[test]
fn very_many_posts_at_once_are_all_answered_once() {
    const COUNT: u64 = 1200;
    let play = Play::echo("");
    // Each a millisecond after the other, and none from before the bot.
    play.world().clock_offset_ms += COUNT as i64;
    let posts = play
        .world()
        .post_many(&play.ann, &play.channel, COUNT, 1);
    play.settle();
    let world = play.world();
    for (number, post) in posts.iter().enumerate() {
        let answers = world.own_answers(&play.stage.bot, post);
        assert_eq!(answers.len(), 1, "{number}");
        assert_eq!(answers[0].message, format!("You said: message {number}"));
    }
}

#[test]
fn once_answers_what_is_there_and_ends() {
    let stage = Stage::real();
    configure(&stage, ECHO, "");
    let once = || {
        let mut bot = stage.spawn_with(|command| {
            command.args(["run", "--once"]);
        });
        assert_eq!(bot.wait(), Some(0), "{}", bot.log());
    };
    let old = stage.world().post(&stage.ann, &stage.channel, "old");
    once();
    let posts: Vec<String> = (0..3)
        .map(|_| stage.world().post(&stage.ann, &stage.channel, "new"))
        .collect();
    once();
    once();
    assert_eq!(stage.answers(&old).len(), 0);
    for post in posts {
        assert_eq!(stage.answers(&post), ["You said: new"]);
    }
}
