//! The bot from outside: the built binary in real time.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::bot::{Bot, ECHO, Stage, binary_at, binary_path};
use crate::support::clock::{SimClock, Time};
use crate::support::mattermost::{
    Act, Fault, Joining, Kind, Logged, Post, Version, World, api_path,
};
use crate::support::model::{Model, ModelReply};
use crate::support::net::{Authority, Tunnels};
use crate::support::wire::Wire;
use serde_json::{Value, json};

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

    fn start_with(stage: Stage, top: &str, more: &str, change: impl FnOnce(&mut Command)) -> Play {
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

    /// The answer; what is posted next is younger by the server's clock.
    fn wait_for_answer(&self, question: &str) -> String {
        let answer = self.stage.wait_for_answer(question);
        self.tick();
        answer
    }

    /// The posts that answer `question`, oldest first.
    fn answered_by(&self, question: &str) -> Vec<Post> {
        self.world().own_answers(&self.stage.bot, question)
    }

    /// Returns when everything posted so far was dealt with.
    fn settle(&self) {
        self.settle_in(&self.channel);
    }

    fn settle_in(&self, channel: &str) {
        self.tick();
        let last = self.world().post(&self.ann, channel, "@prxbot that is all");
        self.wait_for_answer(&last);
        let created = self.world().post_by_id(&last).create_at;
        // The mark passes nothing that waits or is being answered.
        let path = self.stage.state_path();
        self.wait("everything before it", |_| {
            let state = fs::read(&path).ok();
            let state = state.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let mark = |state: Value| state["channels"][channel]["mark"].as_u64();
            state.and_then(mark) >= Some(created)
        });
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
    #[rustfmt::skip] // A table.
    let channels = [
        ("the default one", world.channel_named(&stage.team, "town-square")),
        ("another team's", world.channel_named(&team, "off-topic")),
        ("a private one", private),
        ("a direct one", world.direct_channel(&stage.ann, &stage.bot)),
        ("a group", world.group_channel(&[&stage.ann, &stage.eve, &stage.bot])),
    ];
    drop(world);
    let play = Play::start(stage, ECHO, "");
    let mut world = play.world();
    let posts = channels
        .each_ref()
        .map(|(what, channel)| (*what, world.post(&play.ann, channel, "hello")));
    drop(world);
    let expected = posts
        .each_ref()
        .map(|(what, post)| (*what, post.as_str(), true));
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
    let alone = play
        .world()
        .post(&play.ann, &direct, "no mention is needed");
    let posts: Vec<String> = {
        let mut world = play.world();
        let texts = rows
            .iter()
            .map(|row| row["message"].as_str().expect("text"));
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
        let by_eve = play
            .world()
            .post(&play.eve, &play.channel, "question by eve");
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
        let draft = world
            .draft(&ann, &channel, "automatic")
            .prop(property, "true");
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
    let play = Play::asking(&model, "mention_only = true\nanswers_at_once = 1");
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
    const COUNT: u64 = 300;
    let play = Play::echo("");
    // Each a millisecond after the other, and none from before the bot.
    play.world().clock_offset_ms += COUNT as i64;
    let posts = play.world().post_many(&play.ann, &play.channel, COUNT, 1);
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

#[test]
fn without_a_provider_the_answer_says_what_to_add() {
    let play = Play::start(Stage::real(), "", "");
    let answer = play.ask("hello");
    assert!(answer.contains("default_provider = "), "{answer}");
    assert!(answer.contains("default_model = "), "{answer}");
}

#[test]
fn every_kind_of_provider_answers_streamed_or_not() {
    let whole = json!({"choices": [{
        "message": {"role": "assistant", "content": "in one piece"},
        "finish_reason": "stop",
    }]});
    let anthropic_whole = json!({
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "in one piece"}],
        "stop_reason": "end_turn",
    });
    let no_stream = json!({"error": {"message": "stream is not supported by this model"}});
    let ok = |body: &Value| ModelReply::status(200, &body.to_string());
    #[rustfmt::skip] // A table.
    let cases = [
        ("OpenAI's, streamed", false, vec![ModelReply::text("in one piece")]),
        ("OpenAI's, whole", false, vec![ok(&whole)]),
        (
            "OpenAI's, which cannot stream",
            false,
            vec![
                ModelReply::status(400, &no_stream.to_string()),
                ModelReply::text("in one piece"),
            ],
        ),
        ("Anthropic's, streamed", true, vec![ModelReply::text("in one piece")]),
        ("Anthropic's, whole", true, vec![ok(&anthropic_whole)]),
    ];
    for (what, is_anthropic, replies) in cases {
        let model = Model::start();
        let (count, top) = match is_anthropic {
            true => (replies.len(), anthropic(&model)),
            false => (replies.len(), openai(&model)),
        };
        replies.into_iter().for_each(|reply| model.then(reply));
        let play = Play::start(Stage::real(), &top, "");
        assert_eq!(play.ask("hello"), "in one piece", "{what}");
        let requests = model.requests();
        assert_eq!(requests.len(), count, "{what}");
        let request = &requests[count - 1];
        let (header, value) = match is_anthropic {
            true => ("x-api-key", KEY.to_owned()),
            false => ("authorization", format!("Bearer {KEY}")),
        };
        assert_eq!(request.headers[header], value, "{what}");
        assert_eq!(model.bodies()[0]["model"], "little", "{what}");
        assert!(
            conversation(&model).contains(&"user: hello".into()),
            "{what}"
        );
    }
}

#[test]
fn a_program_answers_and_gets_no_secret() {
    let program = "printf 'It got: '; cat; env";
    let top = format!(
        "default_provider = \"command\"\nprovider_command = [\"/bin/sh\", \"-c\", \"{program}\"]"
    );
    let stage = Stage::real();
    let token = stage.bot.token.clone();
    let play = Play::start_with(stage, &top, "", |command| {
        command.env("MATTERMOST_BOT_TOKEN", &token);
        command.env("OPENAI_API_KEY", KEY);
    });
    let answer = play.ask("hello");
    assert!(answer.starts_with("It got: {\"messages\":["), "{answer}");
    assert!(answer.contains("\"content\":\"hello\""), "{answer}");
    for secret in [token.as_str(), KEY] {
        assert!(!answer.contains(secret), "{answer}");
    }
}

#[test]
fn the_model_is_given_what_allowed_people_and_the_bot_said_in_the_thread() {
    let stage = Stage::real();
    let ben = stage.world().add_user("ben");
    stage
        .world()
        .add_member(&stage.channel, &ben, Joining::Silently);
    let list = format!("allowed_users = [\"{}\", \"{}\"]", stage.ann.id, ben.id);
    let model = Model::start();
    let play = Play::start(stage, &openai(&model), &list);
    play.says("not in the thread");
    play.settle();
    model.then(ModelReply::text("Blue."));
    let root = play.says("@prxbot which colour?");
    play.wait_for_answer(&root);
    assert_eq!(conversation(&model), ["user: which colour?"]);
    {
        let mut world = play.world();
        let draft = world.draft(&play.eve, &play.channel, "by one who is not allowed");
        draft.root(&root).post();
        let webhook = world.draft(&play.ann, &play.channel, "by a webhook");
        webhook.root(&root).prop("from_webhook", "true").post();
        let deleted = world
            .draft(&play.ann, &play.channel, "taken back")
            .root(&root);
        let deleted = deleted.post();
        world.delete(&deleted);
    }
    play.settle();
    model.then(ModelReply::text("Grey."));
    play.wait_for_answer(&play.replies(&root, "and the sky, @prxbot?"));
    assert_eq!(
        conversation(&model),
        [
            "user: which colour?",
            "assistant: Blue.",
            "user: [Quotation: the program ann posted this]\n> by a webhook\n\nand the sky,?"
        ]
    );
    let by_ben = {
        let mut world = play.world();
        let draft = world.draft(&ben, &play.channel, "and the sea?").root(&root);
        draft.post()
    };
    play.wait_for_answer(&by_ben);
    assert_eq!(
        conversation(&model),
        [
            "user: ann: which colour?",
            "assistant: Blue.",
            "user: [Quotation: the program ann posted this]\n> by a webhook\n\nann: and the sky,?",
            "assistant: Grey.",
            "user: ben: and the sea?"
        ]
    );
    assert!(system_prompt(&model).contains("begin with their names"));
}

#[test]
fn in_a_direct_channel_and_without_threads_the_channels_last_posts_are_the_context() {
    let stage = Stage::real();
    let direct = stage.world().direct_channel(&stage.ann, &stage.bot);
    let model = Model::start();
    let play = Play::start(stage, &openai(&model), "thread_replies = false");
    for channel in [&direct, &play.channel] {
        for (question, answer) in [("one", "1"), ("two", "2")] {
            model.then(ModelReply::text(answer));
            let question = play.world().post(&play.ann, channel, question);
            play.wait_for_answer(&question);
            play.tick();
        }
        assert_eq!(
            conversation(&model),
            ["user: one", "assistant: 1", "user: two"]
        );
        // Both at once: the second is told how the first was answered.
        let last = {
            let mut world = play.world();
            model.then(ModelReply::text("3"));
            world.post(&play.ann, channel, "three");
            world.clock_offset_ms += 1;
            world.post(&play.ann, channel, "four")
        };
        play.wait_for_answer(&last);
        let told = conversation(&model);
        assert_eq!(
            told[told.len() - 3..],
            ["user: three", "assistant: 3", "user: four"]
        );
    }
}

#[test]
fn the_system_prompt_tells_the_channel_and_the_date_and_can_be_set() {
    let today = || prx::times::date(SystemTime::now());
    let model = Model::start();
    let play = Play::asking(&model, "");
    let before = today();
    play.ask("hello");
    let prompt = system_prompt(&model);
    assert!(
        prompt.contains("The channel is called \"talk\""),
        "{prompt}"
    );
    assert!(
        prompt.contains(&before) || prompt.contains(&today()),
        "{prompt}"
    );
    assert!(prompt.contains("@prxbot"), "{prompt}");
    let direct = play.world().direct_channel(&play.ann, &play.stage.bot);
    let question = play.world().post(&play.ann, &direct, "hello");
    play.wait_for_answer(&question);
    assert!(!system_prompt(&model).contains("channel is called"));
    drop(play);

    let play = Play::asking(&model, "system_prompt = \"You are a pirate.\"");
    play.ask("hello");
    let prompt = system_prompt(&model);
    assert!(prompt.starts_with("system: You are a pirate."), "{prompt}");
    assert!(!prompt.contains("helpful assistant"), "{prompt}");
}

#[test]
fn a_channel_may_have_settings_of_its_own() {
    let stage = Stage::real();
    let other = stage.world().channel_named(&stage.team, "off-topic");
    let model = Model::start();
    let more = format!(
        "system_prompt = \"Everywhere.\"\nallowed_users = [\"{}\"]\n[channels_config.mattermost.channels.{other}]\n\
         system_prompt = \"Only here.\"\nmodel = \"large\"\nmention_only = true\n\
         thread_replies = false\nallowed_users = [\"{}\"]",
        stage.ann.id, stage.eve.id
    );
    let play = Play::start(stage, &openai(&model), &more);
    let here = play.says("hello");
    play.wait_for_answer(&here);
    assert_eq!(play.answered_by(&here)[0].root_id, here);
    assert_eq!(model.bodies()[0]["model"], "little");
    assert!(system_prompt(&model).starts_with("system: Everywhere."));

    let mut world = play.world();
    let by_ann = world.post(&play.ann, &other, "@prxbot hello");
    let unmentioned = world.post(&play.eve, &other, "hello");
    let by_eve = world.post(&play.eve, &other, "@prxbot hello");
    let by_eve_here = world.post(&play.eve, &play.channel, "@prxbot hello");
    drop(world);
    play.wait_for_answer(&by_eve);
    assert_eq!(play.answered_by(&by_eve)[0].root_id, "");
    assert_eq!(model.bodies()[1]["model"], "large");
    assert!(system_prompt(&model).starts_with("system: Only here."));
    play.assert_answered(&[
        ("not allowed there", &by_ann, false),
        ("not mentioned there", &unmentioned, false),
        ("not allowed here", &by_eve_here, false),
    ]);
}

#[test]
fn a_bot_whose_model_takes_12_seconds_shows_typing_all_the_time_without_a_second_thread() {
    let model = Model::start();
    let release = hold(&model, "at last");
    let arrived = Arc::new(Mutex::new(0));
    let arrival = arrived.clone();
    model.on_arrival(move |_| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        *arrival.lock().expect("no panic") = since.expect("after 1970").as_millis() as u64;
    });
    let play = Play::asking(&model, "");
    let question = play.says("think hard");
    for count in 1..=4 {
        play.wait("more typing", |world| world.typing.len() >= 2 * count);
        assert_eq!(play.bot.threads(), 1);
    }
    drop(release);
    assert_eq!(play.wait_for_answer(&question), "at last");
    let typing = play.world().typing.clone();
    for shown in &typing {
        assert_eq!(shown.channel_id, play.channel);
        assert_eq!(shown.user_id, play.stage.bot.id);
    }
    // In the thread that the question opens, and in the channel, where its author looks.
    for place in [question.as_str(), ""] {
        let times = typing.iter().filter(|shown| shown.parent_id == place);
        let mut times: Vec<u64> = times.map(|typing| typing.at_ms).collect();
        assert!(times[0] <= *arrived.lock().expect("no panic"));
        times.push(play.answered_by(&question)[0].create_at);
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap <= 6000), "{gaps:?}");
        // No more of it than clients need.
        assert!(
            gaps.iter().rev().skip(1).all(|gap| *gap >= 2000),
            "{gaps:?}"
        );
    }
}

#[test]
fn an_old_server_is_served_as_well() {
    let stage = Stage::new(Time::real(), SimClock::new(), Version::V5_37);
    let direct = stage.world().direct_channel(&stage.ann, &stage.bot);
    let model = Model::start();
    let mut play = Play::start(stage, &openai(&model), "mention_only = true");
    let ignored = play.says("hello");
    let root = play.says("@prxbot hello");
    play.wait_for_answer(&root);
    let reply = play.replies(&root, "@prxbot go on");
    play.wait_for_answer(&reply);
    assert_eq!(
        conversation(&model),
        ["user: hello", "assistant: Hello!", "user: go on"]
    );
    let alone = play.world().post(&play.ann, &direct, "alone");
    play.wait_for_answer(&alone);
    play.bot.kill();
    let missed = play.says("@prxbot missed");
    play.bot = play.stage.spawn();
    play.assert_answered(&[
        ("ignored", &ignored, false),
        ("root", &root, true),
        ("reply", &reply, true),
        ("alone", &alone, true),
        ("missed", &missed, true),
    ]);
}

#[test]
fn a_long_answer_is_split_into_posts_in_order_and_loses_nothing() {
    let line = |number: usize| format!("line {number:04} of an answer that is far too long");
    let numbers: Vec<usize> = (0..950).collect();
    let text = |numbers: &[usize]| -> String {
        let lines: Vec<String> = numbers.iter().map(|number| line(*number)).collect();
        lines.join("\n")
    };
    // 40,000 characters, most of them one block of code.
    let (plain, code) = numbers.split_at(200);
    let answer = format!("{}\n\n```rust\n{}\n```", text(plain), text(code));
    assert!(answer.len() > 40_000);
    for (limit, least) in [(16_383, 3), (4_000, 11)] {
        let stage = Stage::real();
        stage.world().knobs.max_post_size = limit;
        let model = Model::start();
        model.answers(&answer);
        let play = Play::start(stage, &openai(&model), "history_chars = 100000");
        let question = play.says("tell me everything");
        play.settle();
        let posts = play.answered_by(&question);
        assert!(posts.len() >= least, "{}", posts.len());
        let mut said = Vec::new();
        for (number, post) in posts.iter().enumerate() {
            assert!(post.message.chars().count() <= limit);
            assert_eq!(post.root_id, question);
            let prx = json!({"in_reply_to": question, "part": number, "of": posts.len()});
            for (name, value) in prx.as_object().expect("an object") {
                assert_eq!(post.props["prx"][name], *value);
            }
            let fences = post.message.lines().filter(|line| line.starts_with("```"));
            assert_eq!(fences.count() % 2, 0, "{}", post.message);
            let (fences, lines): (Vec<_>, Vec<_>) = post
                .message
                .lines()
                .filter(|line| !line.is_empty())
                .partition(|line| line.starts_with("```"));
            assert!(fences.iter().step_by(2).all(|fence| *fence == "```rust"));
            said.extend(lines.into_iter().map(str::to_owned));
        }
        let expected: Vec<String> = numbers.iter().map(|number| line(*number)).collect();
        assert_eq!(said, expected);
        // To the next question it is one message.
        play.wait_for_answer(&play.replies(&question, "shorter"));
        let told = conversation(&model);
        assert_eq!(told.len(), 3);
        assert!(told[1].contains(&line(0)) && told[1].contains(&line(949)));
    }
}

#[test]
fn answers_are_made_harmless() {
    let text = "`@all` is code. @all look, @channel and @here: ![a](http://a.example/x.png)";
    let model = Model::start();
    model.answers(&format!("<think>secret thoughts</think>{text}"));
    for (allowed, expected) in [
        ("", "![a](http://a.example/x.png)"),
        (
            "allow_unsafe_links = true",
            "and @\u{200b}here: [a](http://a.example/x.png)",
        ),
    ] {
        let play = Play::asking(&model, allowed);
        let question = play.says("hello");
        let answer = play.wait_for_answer(&question);
        assert!(answer.contains(expected), "{answer}");
        for everybody in ["@\u{200b}all look", "@\u{200b}channel", "@\u{200b}here"] {
            assert!(answer.contains(everybody), "{answer}");
        }
        assert!(!answer.contains("think"), "{answer}");
        assert!(answer.starts_with("`@all` is code"), "{answer}");
        let post = &play.answered_by(&question)[0];
        let links = post.props.get("unsafe_links");
        let expected = allowed.is_empty().then(|| json!("true"));
        assert_eq!(links, expected.as_ref());
    }
}

fn finished(text: &str, reason: &str) -> ModelReply {
    let message = json!({"role": "assistant", "content": text});
    let body = json!({"choices": [{"message": message, "finish_reason": reason}]});
    ModelReply::status(200, &body.to_string())
}

fn refused(status: u16, message: &str) -> ModelReply {
    ModelReply::status(status, &json!({"error": {"message": message}}).to_string())
}

const BROKEN_STREAM: &str = "data: {\"choices\": [{\"delta\": {\"content\": \"\"}}]}\n\n\
     data: {\"error\": {\"message\": \"overloaded\"}}\n\n";

#[test]
fn what_a_model_does_wrong_becomes_one_short_message() {
    let model = Model::start();
    let play = Play::asking(&model, "");
    let three = |reply: fn() -> ModelReply| vec![reply(), reply(), reply()];
    #[rustfmt::skip] // A table.
    let cases = [
        ("an empty answer", vec![finished("", "stop"), finished("", "stop")], "gave an empty answer"),
        (
            "nothing but thoughts",
            vec![
                ModelReply::text("<think>hm</think>"),
                ModelReply::text("<think>hm</think>"),
            ],
            "gave an empty answer",
        ),
        ("a refusal", vec![finished("", "refusal")], "declined to answer"),
        ("a content filter", vec![finished("Once", "content_filter")], "content filter stopped"),
        ("errors inside the stream", three(|| ModelReply::stream(BROKEN_STREAM)), "Please try again later"),
        ("closed connections", three(|| ModelReply::Close), "Please try again later"),
        (
            "a wrong key",
            vec![refused(401, &format!("Incorrect API key provided: {KEY}"))],
            "finds the reason in my log",
        ),
        (
            "a question that is too long",
            vec![refused(400, "context_length_exceeded")],
            "too long for the language model",
        ),
    ];
    for (what, replies, expected) in cases {
        let (before, tries) = (model.requests().len(), replies.len());
        replies.into_iter().for_each(|reply| model.then(reply));
        let question = play.says("tell me a story");
        let answer = play.wait_for_answer(&question);
        assert!(answer.contains(expected), "{what}: {answer}");
        assert!(!answer.contains("Once"), "{what}: {answer}");
        assert!(answer.chars().count() < 150, "{what}: {answer}");
        assert_eq!(model.requests().len() - before, tries, "{what}");
        play.settle();
        assert_eq!(play.answers(&question).len(), 1, "{what}");
        let log = play.bot.log();
        let line = format!("WARN  no answer to post {question}: ");
        assert_eq!(log.matches(&line).count(), 1, "{what}: {log}");
    }
    assert!(
        play.bot
            .log()
            .contains("the key is refused: correct api_key")
    );
    assert!(!play.bot.log().contains(KEY));
    assert_eq!(play.ask("and now?"), "Hello!");
}

#[test]
fn an_answer_at_the_models_length_limit_is_kept_and_marked() {
    let model = Model::start();
    let play = Play::asking(&model, "");
    model.then(finished("Once upon a time\n```\nthere was", "length"));
    let answer = play.ask("tell me a story");
    assert_eq!(
        answer,
        "Once upon a time\n```\nthere was\n```\n\n\
         *(The answer was cut off at the model's length limit.)*"
    );
}

#[test]
fn a_model_that_is_not_there_is_an_apology_and_a_line_in_the_log() {
    let model = Model::start();
    let once = "[reliability]\nprovider_retries = 0";
    let (top, address) = (format!("{}\n{once}", openai(&model)), model.url());
    drop(model);
    let play = Play::start(Stage::real(), &top, "");
    let question = play.says("hello");
    let answer = play.wait_for_answer(&question);
    assert!(answer.contains("Please try again later"), "{answer}");
    let log = play.bot.log();
    let line = log.lines().find(|line| line.contains("no answer to post"));
    let line = line.expect("a line");
    let address = address.trim_start_matches("http://");
    assert!(line.contains(address) && line.contains("refused"), "{line}");
}

#[test]
fn message_timeout_secs_bounds_an_answer_and_the_apology_is_left_out_later() {
    let model = Model::start();
    let top = format!(
        "{}\n[channels_config]\nmessage_timeout_secs = 1",
        openai(&model)
    );
    let play = Play::start(Stage::real(), &top, "");
    let release = hold(&model, "too late");
    let question = play.says("hello");
    let answer = play.wait_for_answer(&question);
    assert!(answer.contains("did not answer in time"), "{answer}");
    assert_eq!(model.requests().len(), 1);
    drop(release);
    play.settle();
    assert_eq!(play.answers(&question).len(), 1);
    play.wait_for_answer(&play.replies(&question, "are you there?"));
    assert_eq!(
        conversation(&model),
        ["user: hello\n\nare you there?"],
        "without the apology the person's messages are neighbours"
    );
}

#[test]
fn with_follow_threads_the_bot_goes_on_where_it_was_called_into() {
    let play = Play::echo("mention_only = true\nfollow_threads = true");
    let root = play.says("@prxbot hello");
    play.wait_for_answer(&root);
    let mut world = play.world();
    let other_root = world.post(&play.ann, &play.channel, "not for it");
    let reply = |world: &mut World, root: &str, text: &str| {
        let draft = world.draft(&play.ann, &play.channel, text);
        draft.root(root).post()
    };
    let followed = reply(&mut world, &root, "and without a mention?");
    let for_eve = reply(&mut world, &root, "@eve what do you say?");
    let both = reply(&mut world, &root, "@eve what does @prxbot say?");
    let elsewhere = reply(&mut world, &other_root, "and here?");
    let top = world.post(&play.ann, &play.channel, "and at the top?");
    drop(world);
    play.assert_answered(&[
        ("followed", &followed, true),
        ("for somebody else", &for_eve, false),
        ("for both", &both, true),
        ("in a thread without the bot", &elsewhere, false),
        ("outside of threads", &top, false),
    ]);
}

#[test]
fn text_files_are_read_and_all_files_are_named() {
    let model = Model::start();
    let post = |play: &Play, text: &str| {
        let mut world = play.world();
        let draft = world.draft(&play.ann, &play.channel, text);
        let question = draft
            .file("notes.txt", "text/plain", b"the cake is a lie")
            .file("photo.png", "image/png", &[0; 3072])
            .file("drawing.md", "text/markdown", b"\x89PNG\0\0\0")
            .post();
        drop(world);
        play.wait_for_answer(&question);
        conversation(&model).pop().expect("the question")
    };
    let play = Play::asking(&model, "");
    for text in ["what is this?", ""] {
        let asked = post(&play, text);
        assert!(asked.contains(text), "{asked}");
        assert!(
            asked.contains("notes.txt:\n```\nthe cake is a lie\n```"),
            "{asked}"
        );
        assert!(asked.contains("[file: photo.png, 3 KB]"), "{asked}");
        assert!(
            asked.contains("[drawing.md: it is not a text file: it is a damaged PNG]"),
            "{asked}"
        );
    }
    play.fail(
        Fault::Error(404, "app.file_info.get.app_error"),
        move |request| request.method == "GET" && api_path(request).starts_with("files/"),
    );
    let asked = post(&play, "what is this?");
    assert!(
        asked.contains("[notes.txt: it could not be read"),
        "{asked}"
    );
    drop(play);

    let play = Play::asking(&model, "file_chars = 0");
    let asked = post(&play, "what is this?");
    assert!(asked.contains("[file: notes.txt, 17 bytes]"), "{asked}");
    assert!(!asked.contains("cake"), "{asked}");
    let read = |call: &Logged| call.target.contains("/files/");
    assert!(!play.world().log.iter().any(read));
}

#[test]
fn whatever_people_write_is_answered() {
    let model = Model::start();
    let play = Play::asking(&model, "");
    let full = "x".repeat(16_383);
    let code = "what does this do?\n```\n@prxbot hello\n```";
    for (text, expected) in [
        ("@prxbot", "(I mentioned you without saying anything else.)"),
        ("@prxbot :smile:", ":smile:"),
        ("👍", "👍"),
        ("ما هو لون السماء؟", "ما هو لون السماء؟"),
        ("@prxbot שלום, מה שלומך?", "שלום, מה שלומך?"),
        (code, code),
        (&full, &full),
    ] {
        play.ask(text);
        assert_eq!(conversation(&model), [format!("user: {expected}")]);
    }
}

#[test]
fn many_messages_at_once_are_answered_each_and_in_order() {
    // Answers that are made at once may overtake each other.
    let play = Play::echo("answers_at_once = 1");
    let mut posts = Vec::new();
    for number in 0..10 {
        posts.push(play.says(&format!("message {number}")));
        play.tick();
    }
    let other = play.world().channel_named(&play.team, "off-topic");
    let twin = play.world().post(&play.ann, &other, "message 9");
    play.settle();
    let mut times = Vec::new();
    for (number, post) in posts.iter().enumerate() {
        assert_eq!(play.answers(post), [format!("You said: message {number}")]);
        times.push(play.answered_by(post)[0].create_at);
    }
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(play.answers(&twin), ["You said: message 9"]);
    assert_eq!(play.answered_by(&twin)[0].channel_id, other);
}

#[test]
fn a_root_id_that_is_no_root_leads_to_the_threads_root() {
    let play = Play::echo("");
    let root = play.says("root");
    let reply = play.replies(&root, "reply");
    play.settle();
    let odd = play.replies(&reply, "a reply to a reply");
    play.settle();
    assert_eq!(play.answers(&odd), ["You said: a reply to a reply"]);
    assert_eq!(play.answered_by(&odd)[0].root_id, root);
}

#[test]
fn nothing_that_anybody_said_and_no_secret_is_in_the_log() {
    let model = Model::start();
    let stage = Stage::real();
    let token = stage.bot.token.clone();
    let direct = stage.world().direct_channel(&stage.ann, &stage.bot);
    let more = "system_prompt = \"PROMPTWORD\"\nmention_only = true";
    let mut play = Play::start(stage, &openai(&model), more);
    model.answers("ANSWERWORD");
    play.says("UNMENTIONEDWORD");
    let root = play.says("@prxbot QUESTIONWORD");
    play.wait_for_answer(&root);
    let mut world = play.world();
    let draft = world.draft(&play.ann, &direct, "DIRECTWORD");
    let draft = draft.file("FILENAMEWORD.txt", "text/plain", b"FILEWORD");
    let with_file = draft.post();
    drop(world);
    play.wait_for_answer(&with_file);
    for failure in [
        refused(401, &format!("Incorrect API key provided: {KEY}")),
        refused(400, "cannot read '@prxbot SECONDWORD of mine'"),
        finished("HALFWORD", "content_filter"),
    ] {
        model.then(failure);
        play.wait_for_answer(&play.replies(&root, "@prxbot SECONDWORD of mine"));
    }
    play.restart();
    play.settle();
    play.mattermost.once(
        "POST",
        "posts",
        Act::Instead(Fault::Error(500, "app.post.save")),
    );
    play.settle();
    let log = play.bot.log();
    assert!(log.contains(&root) && log.contains(" DEBUG "), "{log}");
    for hidden in [
        token.as_str(),
        KEY,
        "sk-not",
        "WORD",
        "Bearer",
        "that is all",
    ] {
        assert!(!log.contains(hidden), "{hidden}");
    }
    let state = fs::read_to_string(play.state_path()).expect("a state");
    assert!(!state.contains(&token) && !state.contains(KEY));
}

/// Of log lines: each begins with the time, as `2026-11-22T10:00:00Z `.
fn assert_stamped(log: &str) {
    for line in log.lines() {
        let shape: String = line
            .chars()
            .take(21)
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z ", "{line}");
    }
}

#[test]
fn the_log_has_a_line_at_the_start_and_one_for_each_answer_and_is_silent_while_idle() {
    let stage = Stage::real();
    let more = format!(
        "mention_only = true\nfollow_threads = true\nchannel_id = {:?}",
        stage.channel
    );
    let play = Play::start_with(stage, ECHO, &more, |_| {});
    let other = play.says("not for it");
    play.replies(&other, "nor this");
    let question = play.says("@prxbot hello");
    play.settle();
    play.wait("three lines", |_| play.bot.log().lines().count() >= 3);
    let log = play.bot.log();
    assert_stamped(&log);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(
        lines[0].contains(" INFO  prx ") && lines[0].contains("@prxbot"),
        "{log}"
    );
    assert!(lines[0].contains(" in ~talk, to @ann, by "), "{log}");
    let (ann, channel) = (&play.ann.id, &play.channel);
    let answered = format!(" INFO  answered post {question} by {ann} in talk ({channel}) in ");
    assert!(
        lines[1].contains(&answered) && lines[1].ends_with(" ms"),
        "{log}"
    );
    let polls = play.world().request_count;
    play.wait("idle polls", |world| world.request_count > polls + 20);
    assert_eq!(play.bot.log(), log);
}

#[test]
fn the_start_line_names_people_and_a_single_round_has_it_only_when_asked() {
    let stage = Stage::real();
    let (ann, stranger) = (&stage.ann.id, "s".repeat(26));
    for (allowed, told) in [
        ("*".to_owned(), "to everybody".to_owned()),
        (
            "@ann".into(),
            "to nobody: allowed_users holds no user's id".into(),
        ),
        (format!("@eve\", \"{ann}"), "to @ann".into()),
        (
            format!("{stranger}\", \"{ann}"),
            format!("to {stranger}, @ann"),
        ),
    ] {
        configure(&stage, ECHO, &format!("allowed_users = [\"{allowed}\"]"));
        let told = format!(" in every channel it is in, {told}, by echo");
        let log = |verbose: &[&str]| {
            stage
                .run(&[&["run", "--once"], verbose].concat(), "")
                .stderr
        };
        assert!(log(&["-v"]).contains(&told), "{told}: {}", log(&["-v"]));
        assert!(!log(&[]).contains("answers as"), "{}", log(&[]));
    }
}

#[test]
fn one_round_in_a_channel_that_is_closed_to_the_bot_is_a_failure() {
    let stage = Stage::real();
    let [outside, archived] = ["outside", "archived"]
        .map(|name| stage.world().add_channel(&stage.team, name, Kind::Open));
    stage
        .world()
        .add_member(&archived, &stage.bot.id, Joining::Joined);
    stage.world().archive(&archived, &stage.ann.id);
    for (id, why) in [
        (outside.as_str(), "the bot is not in it"),
        (&archived, "it is archived"),
        (
            "4xp9fdt77pncbef59f4k1qe83o",
            "`prx channel doctor` finds the right channel_id",
        ),
    ] {
        configure(
            &stage,
            ECHO,
            &format!("allowed_users = [\"*\"]\nchannel_id = {id:?}"),
        );
        let ran = stage.run(&["run", "--once"], "");
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(why), "{ran:?}");
        let last = "prx: nothing is answered, as the channel of channel_id is closed to the bot";
        assert!(
            ran.stderr
                .lines()
                .last()
                .is_some_and(|line| line.starts_with(last)),
            "{ran:?}"
        );
    }
}

#[test]
fn quiet_shows_only_errors_and_rust_log_decides_over_all() {
    let quiet = Play::start_with(Stage::real(), ECHO, "", |command| {
        command.arg("-q");
    });
    quiet.settle();
    assert_eq!(quiet.bot.log(), "");
    let bad = Stage::real();
    configure(&bad, ECHO, "");
    bad.world().revoke_token(&bad.bot.token);
    let mut bot = bad.spawn_with(|command| {
        command.arg("-q");
    });
    assert_eq!(bot.wait(), Some(77));
    assert!(bot.log().contains("bot_token"), "{}", bot.log());

    let loud = Play::start_with(Stage::real(), ECHO, "", |command| {
        command.env("RUST_LOG", "prx=debug").arg("-q");
    });
    loud.settle();
    assert!(loud.bot.log().contains(" DEBUG "), "{}", loud.bot.log());
    assert_stamped(&loud.bot.log());
}

/// A bot that reaches the server of `stage` at `url`.
fn start_at(stage: Stage, url: &str, more: &str, change: impl FnOnce(&mut Command)) -> Play {
    Play::start_with(stage, ECHO, more, |command| {
        command.arg("-v").env("MATTERMOST_URL", url);
        change(command);
    })
}

#[test]
fn a_server_at_a_sub_path_is_reached_and_nothing_beside_it() {
    let stage = Stage::real();
    stage.world().knobs.sub_path = "/chat";
    let url = format!("{}/chat/", stage.mattermost.url());
    let play = start_at(stage, &url, "", |_| {});
    play.wait_for_answer(&play.says("hello"));
    let world = play.world();
    assert!(
        world
            .log
            .iter()
            .all(|call| call.target.starts_with("/chat/api/v4/"))
    );
}

#[test]
fn a_server_with_a_ca_of_its_own_is_trusted_by_setting_or_variable_only() {
    let authority = Authority::new();
    let file = authority.file("bot.pem");
    let path = file.display().to_string();
    for (more, variable) in [
        (format!("ca_file = \"{path}\""), ""),
        (String::new(), &path),
    ] {
        let stage = Stage::real();
        let tls = authority.server(&["localhost"], |_| ());
        let wire = Wire::start_tls(tls, stage.mattermost.handler());
        let url = format!("https://localhost:{}", wire.address.port());
        let play = start_at(stage, &url, &more, |command| {
            if !variable.is_empty() {
                command.env("SSL_CERT_FILE", variable);
            }
        });
        play.wait_for_answer(&play.says("hello"));
    }
    let stage = Stage::real();
    let tls = authority.server(&["localhost"], |_| ());
    let wire = Wire::start_tls(tls, stage.mattermost.handler());
    let url = format!("https://localhost:{}", wire.address.port());
    configure(&stage, ECHO, "");
    let mut bot = stage.spawn_with(|command| {
        command.args(["run", "--once"]).env("MATTERMOST_URL", &url);
    });
    assert_eq!(bot.wait(), Some(1));
    assert!(bot.log().contains("ca_file"), "{}", bot.log());
    assert_eq!(stage.world().request_count, 0);
}

#[test]
fn a_proxy_is_used_when_a_variable_names_it_and_no_proxy_does_not_forbid_it() {
    let stage = Stage::real();
    let url = "http://chat.example.invalid";
    // A proxy is asked for the whole URL, and asks the server for its path.
    let serve = stage.mattermost.handler();
    let wire = Wire::start(move |mut request| {
        request.target = request.target.replacen(url, "", 1);
        serve(request)
    });
    let proxy = Tunnels::to(wire.address, "200 OK");
    let value = format!("http://{}", proxy.address);
    let play = start_at(stage, url, "", |command| {
        command.env("HTTP_PROXY", &value);
        command.env("NO_PROXY", "model.example.invalid");
    });
    play.wait_for_answer(&play.says("hello"));
    let heads = proxy.heads();
    assert!(
        heads[0].starts_with("GET http://chat.example.invalid/api/v4/"),
        "{heads:?}"
    );

    configure(&play, ECHO, "state_dir = \"elsewhere\"");
    fs::create_dir(play.folder.path().join("elsewhere")).expect("a folder");
    let mut bot = play.spawn_with(|command| {
        command.args(["run", "--once"]).env("MATTERMOST_URL", url);
        command.env("HTTP_PROXY", &value);
        command.env("NO_PROXY", ".example.invalid");
    });
    assert_eq!(bot.wait(), Some(1));
    assert!(
        bot.log().contains("cannot connect to chat.example.invalid"),
        "{}",
        bot.log()
    );
    assert_eq!(proxy.heads().len(), heads.len());
}

#[test]
fn an_answer_of_which_nothing_can_be_shown_is_an_empty_answer() {
    let model = Model::start();
    let play = Play::asking(&model, "");
    model.answers("\u{0}\u{7}\u{1b}");
    let question = play.says("hello");
    let answer = play.wait_for_answer(&question);
    assert!(answer.contains("gave an empty answer"), "{answer:?}");
}

#[test]
fn a_followed_thread_that_is_deleted_troubles_nobody() {
    let play = Play::echo("mention_only = true\nfollow_threads = true");
    let root = play.says("@prxbot hello");
    play.wait_for_answer(&root);
    let thread = root.clone();
    // It is deleted just before the bot looks whether it wrote in it.
    play.mattermost.on_request(move |request, world| {
        let looks = api_path(request).starts_with(&format!("posts/{thread}/thread"));
        if looks && world.post_by_id(&thread).delete_at == 0 {
            world.delete(&thread);
        }
        Act::Serve
    });
    let reply = play.replies(&root, "go on");
    play.settle();
    assert_eq!(play.answers(&reply), [""; 0]);
    assert!(play.world().post_by_id(&root).delete_at > 0);
    let log = play.bot.log();
    assert!(!log.contains("trying again"), "{log}");
}

// A new config, a new program.

/// Side by side: each waits for the next look at its file, of which there is one every 5 s.
#[test]
fn a_new_config_or_program_takes_effect_in_place() {
    let stories = [
        a_changed_config,
        a_config_mended_while_the_bot_waits_for_a_server_that_is_not_there,
        a_replaced_program,
    ];
    std::thread::scope(|scope| stories.map(|story| scope.spawn(story)).map(drop));
}

/// How often the log has the line of a start.
fn starts(bot: &Bot) -> usize {
    bot.log().matches(" answers as @").count()
}

/// Takes effect in place, and a broken one changes nothing.
fn a_changed_config() {
    let play = Play::echo("");
    let process = play.bot.child.id();
    let good = fs::read_to_string(play.config_path()).unwrap();
    fs::write(play.config_path(), good.replace("url =", "url = 7 #")).unwrap();
    play.wait("a word about the config", |_| {
        play.bot.log().contains("does not load")
    });
    let first = play.world().post(&play.ann.id, &play.channel, "first");
    play.wait_for_answer(&first);
    assert_eq!(
        (play.world().replies_to(&first).len(), starts(&play.bot)),
        (1, 1)
    );

    fs::write(
        play.config_path(),
        format!("{good}thread_replies = false\n"),
    )
    .unwrap();
    play.wait("another start", |_| starts(&play.bot) == 2);
    let second = play.world().post(&play.ann.id, &play.channel, "second");
    play.wait_for_answer(&second);
    assert!(play.world().replies_to(&second).is_empty());
    assert_eq!(play.answers(&first).len(), 1);
    assert_eq!(play.bot.child.id(), process);
    assert!(std::path::Path::new(&format!("/proc/{process}")).exists());
}

fn a_config_mended_while_the_bot_waits_for_a_server_that_is_not_there() {
    let stage = Stage::real();
    stage.configure(ECHO, "poll_interval_secs = 0.05");
    let good = fs::read_to_string(stage.config_path()).unwrap();
    let wrong = good.replace(&stage.mattermost.url(), "http://127.0.0.1:1");
    assert_ne!(wrong, good);
    fs::write(stage.config_path(), wrong).unwrap();
    let bot = stage.spawn();
    stage.wait("an outage", |_| bot.log().contains("trying again"));
    fs::write(stage.config_path(), good).unwrap();
    stage.wait("a start", |_| starts(&bot) == 1);
}

#[test]
fn a_name_that_nobody_has_is_an_outage_with_one_line() {
    let stage = Stage::real();
    stage.configure(ECHO, "poll_interval_secs = 0.05");
    let config = fs::read_to_string(stage.config_path()).unwrap();
    let config = config.replace(&stage.mattermost.url(), "http://name.invalid");
    fs::write(stage.config_path(), config).unwrap();
    let mut bot = stage.spawn();
    let tries = |bot: &Bot| bot.log().matches("GET users/me: cannot connect").count();
    stage.wait("a few tries", |_| tries(&bot) >= 4);
    assert_eq!(
        bot.log().matches("trying again").count(),
        1,
        "{}",
        bot.log()
    );
    assert!(bot.child.try_wait().unwrap().is_none(), "{}", bot.log());
}

/// What is at work is waited for.
fn a_replaced_program() {
    let (stage, model) = (Stage::real(), Model::start());
    configure(&stage, &openai(&model), "");
    let program = stage.folder.path().join("prx");
    fs::copy(binary_path(), &program).unwrap();
    let bot = stage.spawn_as(binary_at(&program), |_| {});
    wait_for_first_look(&stage);
    let (release, held) = mpsc::channel();
    model.then(ModelReply::Held(
        held,
        Box::new(ModelReply::text("from before")),
    ));
    let first = stage.world().post(&stage.ann.id, &stage.channel, "first");
    stage.wait("the question", |_| model.requests().len() == 1);
    let newer = stage.folder.path().join("prx.new");
    fs::copy(binary_path(), &newer).unwrap();
    fs::rename(&newer, &program).unwrap();
    stage.wait("a look at the files", |_| {
        bot.log().contains("was replaced")
    });
    let second = stage.world().post(&stage.ann.id, &stage.channel, "second");
    release.send(()).unwrap();
    stage.wait("another start", |_| starts(&bot) == 2);
    stage.wait_for_answer(&second);
    assert_eq!(stage.answers(&first), ["from before"]);
    assert_eq!(model.requests().len(), 2);
}

#[test]
fn a_little_memory_and_few_files_are_enough() {
    let stage = Stage::real();
    stage.configure(ECHO, "poll_interval_secs = 0.05");
    // In kB of address space. A debug build maps itself and its libraries as well.
    let program = fs::metadata(binary_path()).unwrap().len() / 1024;
    let memory = if program < 4096 {
        16_384
    } else {
        program + 32_768
    };
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        &format!("ulimit -v {memory}; ulimit -n 12; exec \"$0\" \"$@\""),
    ]);
    limited.arg(binary_path());
    let bot = stage.spawn_as(limited, |_| {});
    wait_for_first_look(&stage);
    let long = "word ".repeat(3000);
    let questions: Vec<String> = (0..100)
        .map(|_| stage.world().post(&stage.ann.id, &stage.channel, &long))
        .collect();
    // In no order: some bear the same millisecond.
    stage.wait("every answer", |world| {
        let answered = |question: &&String| !world.own_answers(&stage.bot.id, question).is_empty();
        questions.iter().filter(answered).count() == questions.len()
    });
    for question in &questions {
        assert_eq!(stage.answers(question).len(), 1, "{}", bot.log());
    }
}
