//! Answers of the server with fields that nobody knows, and without those that only some versions
//! send: each message still gets exactly one answer.

use prx::commands::run::Session;
use serde_json::{Map, Value, json};

use crate::support::bot::{ECHO, Stage};
use crate::support::clock::{SimClock, Time};
use crate::support::mattermost::{Act, Fault, Rewrite, Version};

/// How the fields of an object are changed.
type Change = fn(&mut Map<String, Value>);

/// What the server's answers are made into. All but the first leave one of a channel's two counters.
const CHANGES: [(&str, Change); 5] = [
    ("unknown fields", add_unknown),
    ("null", |object| drop_fields(object, "last_post_at", false)),
    ("missing", |object| {
        drop_fields(object, "last_post_at", true)
    }),
    ("null, without the newest post", |object| {
        drop_fields(object, "total_msg_count", false);
    }),
    ("missing, without the newest post", |object| {
        drop_fields(object, "total_msg_count", true);
    }),
];

const SETTINGS: [&str; 3] = [
    "",
    "channel_id = \"{channel}\"",
    "mention_only = true\nfollow_threads = true",
];

/// One that sorts before and one that sorts after all others, of every kind of value.
fn add_unknown(object: &mut Map<String, Value>) {
    let odd = json!({"list": [1, -1.5, "two", null, {"id": 3}], "id": null, "": true});
    object.insert("0".into(), odd.clone());
    object.insert("zz_new".into(), Value::from(vec![odd; 2]));
}

/// Drops, or makes null, what changes nothing about who asked what, where and when.
fn drop_fields(object: &mut Map<String, Value>, counter: &str, whole: bool) {
    let is_post = object.contains_key("user_id") && object.contains_key("message");
    let needed = |name: &str, value: &Value| match name {
        "id" | "order" | "posts" => true,
        "user_id" | "channel_id" | "create_at" | "message" => is_post,
        // Where they are the default, they say nothing.
        "delete_at" => *value != 0,
        "root_id" => *value != "",
        "type" => !["", "O", "P"].map(Value::from).contains(value),
        "props" => value.get("prx").is_some(),
        // What these say is the person's, or this program's own.
        "prx" | "in_reply_to" | "part" | "of" | "username" => true,
        _ => name == counter,
    };
    if whole {
        object.retain(|name, value| needed(name, value));
        return;
    }
    for (name, value) in object {
        if !needed(name, value) {
            *value = Value::Null;
        }
    }
}

/// Changes every object, but for maps whose keys are ids.
fn rewrite(change: Change) -> Rewrite {
    fn walk(value: &mut Value, is_map: bool, change: Change) {
        match value {
            Value::Array(values) => values
                .iter_mut()
                .for_each(|value| walk(value, false, change)),
            Value::Object(object) => {
                if !is_map {
                    change(object);
                }
                for (name, value) in object {
                    // What was added is not looked at again.
                    if name != "0" && name != "zz_new" {
                        walk(value, !is_map && name == "posts", change);
                    }
                }
            }
            _ => {}
        }
    }
    Box::new(move |value| walk(value, false, change))
}

fn at_work(version: Version, settings: &str) -> (Stage, Session) {
    let clock = SimClock::new();
    let stage = Stage::new(Time::Sim(clock.clone()), clock, version);
    let settings = settings.replace("{channel}", &stage.channel);
    stage.configure(ECHO, &settings);
    // As where the server names no limit.
    stage.world().knobs.max_post_size = 4000;
    stage.clock.advance(5_000);
    let mut session = stage.start();
    stage.run_for(&mut session, 5);
    (stage, session)
}

/// Goes through all that a bot does: top level and threads, a file, a long answer, an edit, a
/// reaction, a direct channel, a restart, and a lost state file.
fn live(version: Version, settings: &str, change: Change) -> Vec<String> {
    let (stage, mut session) = at_work(version, settings);
    stage.world().knobs.rewrite = Some(rewrite(change));
    let mut questions = Vec::new();
    let ask = |channel: &str, root: &str, text: &str| {
        let mut world = stage.world();
        let draft = world.draft(&stage.ann.id, channel, &format!("@prxbot {text}"));
        draft
            .root(root)
            .file("notes.txt", "text/plain", b"notes")
            .post()
    };
    let first = ask(&stage.channel, "", "one");
    questions.push((first.clone(), 1));
    stage.run_for(&mut session, 70);
    questions.push((ask(&stage.channel, &first, "two"), 1));
    stage.world().edit(&first, "@prxbot one, edited");
    stage.run_for(&mut session, 70);
    stage.world().react(&stage.ann.id, &first, "tada");
    questions.push((ask(&stage.channel, "", "three"), 1));
    if !settings.contains("channel_id") {
        let direct = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
        questions.push((ask(&direct, "", "four"), 1));
    }
    stage.run_for(&mut session, 70);
    drop(session);
    questions.push((ask(&stage.channel, "", &"five ".repeat(1000)), 2));
    let mut session = stage.start();
    stage.run_for(&mut session, 10);
    questions.push((ask(&stage.channel, "", "six"), 1));
    stage.run_for(&mut session, 70);
    drop(session);
    std::fs::remove_file(stage.state_path()).expect("a state file");
    let mut session = stage.start();
    stage.run_for(&mut session, 10);
    questions.push((ask(&stage.channel, "", "seven"), 1));
    stage.run_for(&mut session, 90);
    let mut problems = Vec::new();
    for (question, parts) in questions {
        let answers = stage.answers(&question).len();
        if answers != parts {
            let text: String = stage
                .world()
                .post_by_id(&question)
                .message
                .chars()
                .take(20)
                .collect();
            problems.push(format!("{text}: {answers} of {parts}"));
        }
    }
    problems
}

#[test]
fn an_answer_with_more_or_fewer_fields_is_understood() {
    let mut problems = Vec::new();
    for version in [Version::V5_37, Version::V11_6] {
        for settings in SETTINGS {
            for (name, change) in CHANGES {
                for problem in live(version, settings, change) {
                    problems.push(format!("{version:?}, {settings}, {name}: {problem}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_refusal_with_more_or_fewer_fields_is_understood() {
    for (name, change) in CHANGES {
        let (stage, mut session) = at_work(Version::V11_6, "");
        stage.world().knobs.rewrite = Some(rewrite(change));
        // The channel is closed for a minute, and no model is asked.
        let refused = Fault::Error(403, "api.context.permissions.app_error");
        let act = Act::Instead(refused);
        stage.mattermost.once("POST", "users/me/typing", act);
        let late = stage.world().post(&stage.ann.id, &stage.channel, "late");
        stage.run_for(&mut session, 30);
        assert!(stage.answers(&late).is_empty(), "{name}");
        stage.run_for(&mut session, 90);
        assert_eq!(stage.answers(&late).len(), 1, "{name}");
        // The server will never take it.
        let refused = Fault::Error(400, "api.post.create_post.root_id.app_error");
        stage
            .mattermost
            .once("POST", "posts", Act::Instead(refused));
        let gone = stage.world().post(&stage.ann.id, &stage.channel, "gone");
        stage.run_for(&mut session, 90);
        assert!(stage.answers(&gone).is_empty(), "{name}");
        let next = stage.world().post(&stage.ann.id, &stage.channel, "next");
        stage.run_for(&mut session, 30);
        assert_eq!(stage.answers(&next).len(), 1, "{name}");

        stage.world().revoke_token(&stage.bot.token);
        let end = stage.clock.elapsed_ms() + 420_000;
        let exit = loop {
            match session.step() {
                Err(exit) => break exit,
                Ok(_) => assert!(
                    stage.clock.elapsed_ms() < end,
                    "{name}: it goes on for ever"
                ),
            }
        };
        assert_eq!(exit.code(), 77, "{name}: {exit:?}");
    }
}
