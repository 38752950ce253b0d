//! `prx send` from outside: what comes to stand in the channel, whatever the server does.

use std::rc::Rc;

use crate::support::bot::{ECHO, Ran, Stage};
use crate::support::mattermost::{Act, Fault, Kind, api_path};
use prx::commands::send::{Letter, deliver};
use prx::http::Agent;
use prx::mattermost::client::Client;
use prx::times::Times;
use serde_json::json;

fn stage() -> Stage {
    let stage = Stage::real();
    stage.configure(ECHO, "poll_interval_secs = 0.05");
    stage
}

/// The bot's posts in the stage's channel, oldest first: ids and texts.
fn sent(stage: &Stage) -> Vec<(String, String)> {
    let posts = stage.world().posts_in(&stage.channel);
    let own = posts
        .into_iter()
        .filter(|post| post.user_id == stage.bot.id && post.kind.is_empty());
    own.map(|post| (post.id, post.message)).collect()
}

#[track_caller]
fn assert_sent(stage: &Stage, ran: &Ran, expected: &[&str]) {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let (ids, texts): (Vec<_>, Vec<_>) = sent(stage).into_iter().unzip();
    assert_eq!(texts, expected);
    let printed: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(printed, ids);
}

#[test]
fn a_text_is_posted_to_a_channel_by_name_id_or_link() {
    let stage = stage();
    let link = format!("{}/team/channels/talk", stage.mattermost.url());
    let id = stage.channel.clone();
    let mut texts = Vec::new();
    for (name, text) in [
        ("talk", "one"),
        ("~talk", "two"),
        (&id, "three"),
        (&link, "four"),
    ] {
        let ran = stage.run(&["send", "--channel", name, text], "");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        texts.push(text);
    }
    let ran = stage.run(&["send", "--channel=talk", "-"], "  from\n a pipe \n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    texts.push("  from\n a pipe");
    let ran = stage.run(&["send", "--channel=talk"], "no dash");
    assert_eq!(ran.stdout.trim_end(), sent(&stage).pop().expect("a post").0);
    texts.push("no dash");
    let posted: Vec<String> = sent(&stage).into_iter().map(|(_, text)| text).collect();
    assert_eq!(posted, texts);
}

#[test]
fn a_long_text_becomes_several_posts_in_order() {
    let stage = stage();
    stage.world().knobs.max_post_size = 40;
    let text = "the first line of it all\n\nthe second line of it all\n\nand @all the rest";
    let ran = stage.run(&["send", "--channel", "talk", "-"], text);
    let expected = [
        "the first line of it all",
        "the second line of it all",
        "and @\u{200b}all the rest",
    ];
    assert_sent(&stage, &ran, &expected);
}

#[test]
fn a_reply_goes_to_the_root_of_the_thread_whichever_post_is_named() {
    let stage = stage();
    let root = stage.world().post(&stage.ann.id, &stage.channel, "root");
    let reply = stage
        .world()
        .draft(&stage.ann.id, &stage.channel, "reply")
        .root(&root)
        .post();
    let link = format!("{}/team/pl/{reply}", stage.mattermost.url());
    for thread in [&root, &reply, &link] {
        let ran = stage.run(&["send", "--thread", thread, "here"], "");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    assert_eq!(stage.world().replies_to(&root).len(), 4);
}

#[test]
fn what_goes_wrong_for_a_moment_is_repeated_and_posted_once() {
    type Make = fn() -> Act;
    let faults: [(&str, Make); 7] = [
        ("500", || {
            Act::Instead(Fault::Error(500, "app.post.save.app_error"))
        }),
        ("502", || Act::Instead(Fault::Html(502))),
        ("429", || Act::Instead(Fault::RateLimited(0))),
        ("lost question", || Act::Instead(Fault::Close)),
        ("lost reply", || Act::ServeThen(Fault::Close)),
        ("reset reply", || Act::ServeThen(Fault::Reset)),
        ("spoilt reply", || Act::ServeThen(Fault::Truncated)),
    ];
    for (name, fault) in faults {
        let stage = stage();
        stage.mattermost.once("POST", "posts", fault());
        let ran = stage.run(&["send", "--channel", "talk", "hello"], "");
        println!("{name}");
        assert_sent(&stage, &ran, &["hello"]);
        let world = stage.world();
        let tries = world
            .log
            .iter()
            .filter(|call| call.method == "POST" && call.target.ends_with("/posts"));
        let pending: Vec<_> = tries.map(|call| call.body.clone()).collect();
        assert_eq!(pending.len(), 2, "{name}");
        assert_eq!(pending[0], pending[1], "{name}");
    }
}

#[test]
fn a_post_without_its_props_is_not_sent_again() {
    let stage = stage();
    let bare = json!({
        "id": "p".repeat(26),
        "user_id": stage.bot.id,
        "channel_id": stage.channel,
        "message": "hello",
    });
    let act = Act::ServeThen(Fault::Json(bare));
    stage.mattermost.once("POST", "posts", act);
    let ran = stage.run(&["send", "--channel", "talk", "hello"], "");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(sent(&stage).len(), 1);
}

#[test]
fn what_goes_wrong_for_long_is_given_up_while_a_repeat_is_still_safe() {
    let anothers = json!({"id": "p", "user_id": "somebody"});
    let cases: [(Fault, bool); 4] = [
        // Whether the server may have taken it.
        (Fault::Error(500, "app.post.save.app_error"), true),
        (Fault::Close, true),
        (Fault::Json(anothers), true),
        (Fault::RateLimited(1), false),
    ];
    for (fault, unclear) in cases {
        let stage = Stage::simulated();
        stage.configure(ECHO, "");
        let config = prx::config::load(Some(&stage.config_path()), &|_| None).expect("a config");
        let times = Times {
            clock: Rc::new(stage.clock.clone()),
            ..Times::default()
        };
        let (settings, agent) = (&config.mattermost, Agent::new(None).expect("an agent"));
        let client = Client::new(agent, &settings.url, &settings.token, times.clone());
        stage.fail(fault.clone(), |request| api_path(request) == "posts");
        let letter = Letter {
            channel: Some("talk".into()),
            thread: None,
            text: Some("hello".into()),
        };
        let error =
            deliver(&config, &client, &times, &stage.clock, &letter).expect_err("a failure");
        assert_eq!(error.code(), 1);
        assert_eq!(
            error.message().contains("it may be there all the same"),
            unclear,
            "{error:?}"
        );
        let world = stage.world();
        let tries = world
            .log
            .iter()
            .filter(|call| call.target.ends_with("/posts"));
        let at: Vec<u64> = tries.map(|call| call.at_ms).collect();
        let lasted = at[at.len() - 1] - at[0];
        assert!((10_000..25_000).contains(&lasted), "{at:?}");
    }
}

#[test]
fn what_cannot_be_posted_is_said_with_what_is_there() {
    let stage = stage();
    stage.world().knobs.max_post_size = 20;
    let mut posts = 0;
    stage.mattermost.on_request(move |request, _| {
        let is_post = request.method == "POST" && api_path(request) == "posts";
        posts += usize::from(is_post);
        match is_post && posts > 2 {
            true => Act::Instead(Fault::Error(403, "api.context.permissions.app_error")),
            false => Act::Serve,
        }
    });
    let ran = stage.run(
        &["send", "--channel", "talk", "-"],
        "one one one one\n\ntwo two two two\n\nthree three three",
    );
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("part 3 of 3: "), "{ran:?}");
    assert!(ran.stderr.contains("known to be there: 2 of 3"), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 2);
}

#[test]
fn what_is_not_there_is_named() {
    let stage = stage();
    stage
        .world()
        .add_channel(&stage.team, "closed", Kind::Private);
    let open = stage.world().add_channel(&stage.team, "open", Kind::Open);
    let question = stage.ask("hello");
    #[rustfmt::skip] // A table.
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--channel", "tolk", "hi"], 1, "no channel \"tolk\" that the bot can see"),
        (&["--channel", "closed", "hi"], 1, "no channel \"closed\""),
        (&["--channel", &open, "hi"], 1, "/invite @prxbot"),
        (&["--channel", "4xp9fdt77pncbef59f4k1qe83o", "hi"], 1, "the server refused"),
        (&["--channel", "talk", "--thread", "x", "hi"], 1, "no post \"x\""),
        (&["--channel", "town-square", "--thread", &question, "hi"], 2, "is not in the channel of --channel; leave"),
        (&["--channel", "talk", " "], 1, "the text is blank"),
        (&["--channel", "talk", "two", "words"], 2, "unexpected argument \"words\""),
        (&["hi"], 2, "which channel?"),
    ];
    for (arguments, code, expected) in cases {
        let ran = stage.run(&[&["send"], *arguments].concat(), "");
        assert_eq!(ran.code, Some(*code), "{arguments:?} {ran:?}");
        assert!(ran.stderr.contains(expected), "{arguments:?} {ran:?}");
        assert_eq!(ran.stdout, "");
    }
    assert!(sent(&stage).is_empty());
}

#[test]
fn a_name_in_two_teams_asks_for_the_id() {
    let stage = stage();
    let other = stage.world().add_team("other");
    stage.world().join_team(&other, &stage.bot.id);
    let ran = stage.run(&["send", "--channel", "town-square", "hi"], "");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("more than one channel"), "{ran:?}");
    assert!(
        ran.stderr
            .contains(&stage.world().channel_named(&other, "town-square")),
        "{ran:?}"
    );
}

#[test]
fn it_works_beside_the_bot_and_is_no_answer() {
    let stage = stage();
    let _bot = stage.spawn();
    stage.wait("the first poll", |world| {
        world
            .log
            .iter()
            .any(|call| call.target.contains("/channels"))
    });
    let question = stage
        .world()
        .post(&stage.ann.id, &stage.channel, "a question");
    let ran = stage.run(&["send", "--thread", &question, "not an answer"], "");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(stage.wait_for_answer(&question).contains("a question"));
    // The bot's own words are not answered either.
    let next = stage.world().post(&stage.ann.id, &stage.channel, "another");
    stage.wait_for_answer(&next);
    assert_eq!(stage.world().replies_to(&question).len(), 2);
}

#[test]
fn a_person_in_place_of_a_channel_is_the_direct_channel_if_there_is_one() {
    let stage = stage();
    let ran = stage.run(&["send", "--channel", "@ann", "hello"], "");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = "no direct channel with \"@ann\"";
    assert!(ran.stderr.contains(told), "{ran:?}");
    let direct = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
    let ran = stage.run(&["send", "--channel", "@Ann", "hello"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let posts = stage.world().posts_in(&direct);
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0].message, "hello");
}

#[test]
fn a_channel_that_is_not_there_is_answered_with_those_that_are() {
    let stage = stage();
    let ran = stage.run(&["send", "--channel", "nosuch", "hello"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    let expected = "no channel \"nosuch\" that the bot can see; it is in ~off-topic in Team, \
                    ~talk in Team, ~town-square in Team\n";
    assert!(ran.stderr.ends_with(expected), "{}", ran.stderr);

    stage.world().leave_team(&stage.team, &stage.bot.id);
    let ran = stage.run(&["send", "--channel", "nosuch", "hello"], "");
    assert!(ran.stderr.ends_with("it is in none\n"), "{}", ran.stderr);
}

#[test]
fn words_without_quotes_are_not_posted_in_part() {
    let stage = stage();
    let ran = stage.run(&["send", "--channel", "talk", "all", "is", "well"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    let expected = "unexpected argument \"is\"; put quotes around a text of several words\n";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert_eq!(sent(&stage).len(), 0);
}
