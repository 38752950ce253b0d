//! The chat's commands, in simulated time: what they are answered by, and what they change.

use std::fs;
use std::sync::{Arc, Mutex};

use prx::commands::run::Session;
use serde_json::Value;

use crate::support::bot::{ECHO, Stage};
use crate::support::desk::says;
use crate::support::mattermost::{Act, Fault, api_path};

/// A bot that answers in a channel only when it is mentioned, and has looked at everything once.
fn at_work(more: &str) -> (Stage, Session) {
    let (stage, session, _) = at_work_for_two(more);
    (stage, session)
}

/// The same, and another who is allowed.
fn at_work_for_two(more: &str) -> (Stage, Session, String) {
    let stage = Stage::simulated();
    let bob = stage.world().add_user("bob").id;
    let top = "default_provider = \"echo\"\ndefault_model = \"plain\"";
    let allowed = format!("allowed_users = [\"{}\", \"{bob}\"]", stage.ann.id);
    stage.configure(top, &format!("{allowed}\nmention_only = true\n{more}"));
    stage.clock.advance(5_000);
    let mut session = stage.start();
    stage.run_for(&mut session, 90);
    (stage, session, bob)
}

/// Ann's direct channel with the bot, which has answered there once.
fn direct(stage: &Stage, session: &mut Session) -> String {
    let channel = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
    say(stage, session, &channel, "", "hello");
    channel
}

/// Posts in the stage's channel.
fn post(stage: &Stage, person: &str, root: &str, text: &str) -> String {
    post_in(stage, &stage.channel, person, root, text)
}

fn post_in(stage: &Stage, channel: &str, person: &str, root: &str, text: &str) -> String {
    stage.clock.advance(1);
    let mut world = stage.world();
    world.draft(person, channel, text).root(root).post()
}

/// Posts as Ann, and lets the bot do what it does about it.
fn say(stage: &Stage, session: &mut Session, channel: &str, root: &str, text: &str) -> String {
    let post = post_in(stage, channel, &stage.ann.id, root, text);
    stage.run_for(session, 5);
    post
}

fn reactions(stage: &Stage, post: &str) -> Vec<String> {
    stage.world().reactions_by(&stage.bot.id, post)
}

/// What every worker is told from here on but for the system's message, one text for each.
fn told(stage: &Stage) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = told.clone();
    stage.desk.script(move |job| {
        let said: Vec<&str> = job.conversation[1..]
            .iter()
            .map(|message| message.content.as_str())
            .collect();
        kept.lock().expect("a lock").push(said.join(" | "));
        Some(says("fine", 100))
    });
    told
}

fn last(told: &Mutex<Vec<String>>) -> String {
    let told = told.lock().expect("a lock");
    told.last().expect("a worker").clone()
}

/// The models that workers are started with.
fn models(stage: &Stage) -> Arc<Mutex<Vec<Option<String>>>> {
    let models = Arc::new(Mutex::new(Vec::new()));
    let kept = models.clone();
    stage.desk.script(move |job| {
        kept.lock().expect("a lock").push(job.model.clone());
        Some(says("fine", 100))
    });
    models
}

#[test]
fn help_says_who_answers_with_what_and_which_commands_there_are() {
    let (stage, mut session) = at_work("daily_limit = 7\nmodels = [\"small\", \"big\"]");
    let channel = stage.channel.clone();
    let help = say(&stage, &mut session, &channel, "", "@prxbot /HELP");
    let answers = stage.answers(&help);
    assert_eq!(answers.len(), 1, "{answers:?}");
    for expected in [
        "`@prxbot`",
        "echo",
        "text files",
        "7 answers per person",
        "`@prxbot help`",
        "`@prxbot new`",
        "`@prxbot stop`",
        "`@prxbot model NAME`",
        "`small`, `big`",
    ] {
        assert!(answers[0].contains(expected), "{expected}: {}", answers[0]);
    }
    assert!(answers[0].chars().count() < 900, "{}", answers[0].len());
    assert!(stage.desk.starts().is_empty());
    assert!(reactions(&stage, &help).is_empty());
    let direct = direct(&stage, &mut session);
    let help = say(&stage, &mut session, &direct, "", "help");
    assert!(stage.answers(&help)[0].contains("- `help`"));
}

#[test]
fn only_a_whole_message_to_the_bot_from_someone_allowed_is_a_command() {
    let (stage, mut session) = at_work("");
    let channel = stage.channel.clone();
    let question = say(&stage, &mut session, &channel, "", "@prxbot help me");
    assert_eq!(stage.answers(&question), ["You said: help me"]);
    let unaddressed = say(&stage, &mut session, &channel, "", "help");
    assert!(stage.answers(&unaddressed).is_empty());
    let denied = stage.world().post(&stage.eve.id, &channel, "@prxbot help");
    stage.run_for(&mut session, 5);
    assert!(stage.answers(&denied).is_empty());
    let root = say(&stage, &mut session, &channel, "", "@prxbot new");
    assert_eq!(stage.answers(&root), ["You said: new"]);
    assert!(reactions(&stage, &root).is_empty());
}

#[test]
fn without_chat_commands_they_are_questions() {
    let (stage, mut session) = at_work("chat_commands = false");
    let channel = direct(&stage, &mut session);
    for word in ["help", "new", "stop", "model", "model x"] {
        let question = say(&stage, &mut session, &channel, "", word);
        assert_eq!(stage.answers(&question), [format!("You said: {word}")]);
        assert!(reactions(&stage, &question).is_empty());
    }
}

#[test]
fn after_new_the_model_is_told_nothing_from_before() {
    let (stage, mut session) = at_work("");
    let channel = direct(&stage, &mut session);
    let told = told(&stage);
    say(&stage, &mut session, &channel, "", "the secret is 7");
    assert!(last(&told).contains("hello"), "{}", last(&told));
    let new = say(&stage, &mut session, &channel, "", "New");
    assert_eq!(reactions(&stage, &new), ["white_check_mark"]);
    assert!(stage.answers(&new).is_empty());
    say(&stage, &mut session, &channel, "", "what is it?");
    assert_eq!(last(&told), "what is it?");
    say(&stage, &mut session, &channel, "", "really?");
    assert_eq!(last(&told), "what is it? | fine | really?");

    let root = say(&stage, &mut session, &stage.channel, "", "@prxbot a thread");
    say(&stage, &mut session, &stage.channel, &root, "@prxbot new");
    say(
        &stage,
        &mut session,
        &stage.channel,
        &root,
        "@prxbot and now?",
    );
    assert_eq!(last(&told), "and now?");
}

#[test]
fn a_new_holds_though_more_was_said_since_than_is_read() {
    let (stage, mut session) = at_work("history_posts = 5");
    let direct = direct(&stage, &mut session);
    let told = told(&stage);
    let channel = stage.channel.clone();
    let root = say(
        &stage,
        &mut session,
        &channel,
        "",
        "@prxbot the secret is 7",
    );
    for (channel, root, name) in [(&channel, root.as_str(), "@prxbot "), (&direct, "", "")] {
        say(&stage, &mut session, channel, root, &format!("{name}new"));
        {
            let mut world = stage.world();
            for number in 0..60 {
                stage.clock.advance(1);
                let text = format!("note {number}");
                // What a person tells another is no question.
                let author = if name.is_empty() {
                    &stage.bot
                } else {
                    &stage.ann
                };
                world.draft(&author.id, channel, &text).root(root).post();
            }
        }
        drop(session);
        session = stage.start();
        say(
            &stage,
            &mut session,
            channel,
            root,
            &format!("{name}what is it?"),
        );
        let last = last(&told);
        assert!(last.contains("note 59 | what is it?"), "{last}");
        assert!(
            !last.contains("secret") && !last.contains("hello"),
            "{last}"
        );
    }
}

#[test]
fn a_new_by_someone_who_may_not_ask_ends_nothing() {
    let (stage, mut session) = at_work("");
    let channel = stage.channel.clone();
    let root = say(&stage, &mut session, &channel, "", "@prxbot a thread");
    let told = told(&stage);
    stage.clock.advance(1);
    {
        let mut world = stage.world();
        world
            .draft(&stage.eve.id, &channel, "@prxbot new")
            .root(&root)
            .post();
    }
    say(&stage, &mut session, &channel, &root, "@prxbot and now?");
    assert_eq!(last(&told), "a thread | You said: a thread | and now?");
}

#[test]
fn commands_and_what_is_said_to_them_are_not_told_to_the_model() {
    let (stage, mut session) = at_work("models = [\"big\"]");
    let channel = direct(&stage, &mut session);
    let told = told(&stage);
    for word in ["help", "model", "model big", "stop"] {
        say(&stage, &mut session, &channel, "", word);
    }
    say(&stage, &mut session, &channel, "", "and now?");
    assert_eq!(last(&told), "hello | You said: hello | and now?");
}

#[test]
fn a_model_is_chosen_for_a_conversation_and_kept_over_a_restart() {
    let (stage, mut session) = at_work("models = [\"small\", \"Big\"]");
    let channel = stage.channel.clone();
    let direct = direct(&stage, &mut session);
    let models = models(&stage);
    let chosen = say(&stage, &mut session, &direct, "", "model big");
    assert!(stage.answers(&chosen)[0].starts_with("From now on"));
    say(&stage, &mut session, &direct, "", "one");
    say(&stage, &mut session, &channel, "", "@prxbot elsewhere");
    let unknown = say(&stage, &mut session, &direct, "", "model huge");
    let answer = stage.answers(&unknown).concat();
    assert!(
        answer.contains("`huge`") && answer.contains("`small`, `Big`"),
        "{answer}"
    );
    drop(session);
    let mut session = stage.start();
    say(&stage, &mut session, &direct, "", "two");
    say(&stage, &mut session, &direct, "", "model plain");
    say(&stage, &mut session, &direct, "", "three");
    let big = Some("Big".to_owned());
    assert_eq!(
        *models.lock().expect("a lock"),
        [big.clone(), None, big, None]
    );
}

#[test]
fn a_model_that_is_not_offered_any_more_is_not_used() {
    let (stage, mut session) = at_work("models = [\"big\"]");
    let direct = direct(&stage, &mut session);
    say(&stage, &mut session, &direct, "", "model big");
    drop(session);
    stage.configure(ECHO, "models = [\"small\"]");
    let models = models(&stage);
    let mut session = stage.start();
    say(&stage, &mut session, &direct, "", "one");
    assert_eq!(*models.lock().expect("a lock"), [None]);
}

#[test]
fn without_models_the_command_says_which_one_answers() {
    let (stage, mut session) = at_work("");
    let direct = direct(&stage, &mut session);
    let asked = say(&stage, &mut session, &direct, "", "model");
    assert_eq!(stage.answers(&asked), ["**echo** answers here."]);
    let named = say(&stage, &mut session, &direct, "", "model huge");
    assert!(stage.answers(&named)[0].contains("no other to choose"));
    let state = fs::read_to_string(stage.state_path()).expect("a state file");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    assert!(state.get("models").is_none(), "{state}");
}

#[test]
fn a_command_waits_for_no_worker() {
    let (stage, mut session) = at_work("answers_at_once = 1");
    let channel = stage.channel.clone();
    stage.desk.takes(60_000);
    let slow = say(&stage, &mut session, &channel, "", "@prxbot think");
    let help = say(&stage, &mut session, &channel, "", "@prxbot help");
    assert_eq!(stage.answers(&help).len(), 1);
    let inside = say(&stage, &mut session, &channel, &slow, "@prxbot new");
    assert_eq!(reactions(&stage, &inside), ["white_check_mark"]);
    assert!(stage.answers(&slow).is_empty());
    stage.run_for(&mut session, 60);
    assert_eq!(stage.answers(&slow).len(), 1);
}

#[test]
fn stop_ends_what_its_author_asked_before_in_that_conversation() {
    let (stage, mut session, bob) = at_work_for_two("answers_at_once = 1");
    let channel = stage.channel.clone();
    stage.desk.takes(60_000);
    let slow = say(&stage, &mut session, &channel, "", "@prxbot think");
    let more = say(&stage, &mut session, &channel, &slow, "@prxbot and this");
    let other = say(&stage, &mut session, &channel, "", "@prxbot elsewhere");
    let by_bob = post(&stage, &bob, &slow, "@prxbot and mine");
    let stop = post(&stage, &stage.ann.id, &slow, "@prxbot Stop");
    let after = post(&stage, &stage.ann.id, &slow, "@prxbot but this");
    stage.run_for(&mut session, 5);
    assert_eq!(stage.answers(&slow), ["Stopped."]);
    assert_eq!(reactions(&stage, &stop), ["white_check_mark"]);
    assert!(stage.answers(&stop).is_empty());
    assert_eq!(stage.desk.stopped(), 1);
    stage.run_for(&mut session, 240);
    assert_eq!(stage.answers(&other), ["You said: elsewhere"]);
    for kept in [&by_bob, &after] {
        assert_eq!(stage.answers(kept).len(), 1);
    }
    assert!(stage.answers(&more).is_empty());
    let late = say(&stage, &mut session, &channel, &slow, "@prxbot stop");
    assert_eq!(reactions(&stage, &late), ["white_check_mark"]);
}

#[test]
fn stop_ends_also_what_an_earlier_run_began_and_cannot_be_looked_at_yet() {
    let (stage, mut session) = at_work("");
    let channel = stage.channel.clone();
    stage.desk.takes(60_000);
    let slow = say(&stage, &mut session, &channel, "", "@prxbot think");
    let starts = stage.desk.starts().len();
    drop(session);
    let stop = post(&stage, &stage.ann.id, &slow, "@prxbot stop");
    let path = format!("posts/{slow}");
    let failures = Arc::new(Mutex::new(3));
    stage.mattermost.on_request(move |request, _| {
        let mut left = failures.lock().expect("a lock");
        if request.method != "GET" || api_path(request) != path || *left == 0 {
            return Act::Serve;
        }
        *left -= 1;
        Act::Instead(Fault::Html(500))
    });
    let mut session = stage.start();
    stage.run_for(&mut session, 120);
    assert_eq!(stage.answers(&slow), ["Stopped."]);
    assert_eq!(reactions(&stage, &stop), ["white_check_mark"]);
    assert_eq!(stage.desk.starts().len(), starts, "nobody is asked again");
}

/// What the bot wrote in its channel.
fn own_posts(stage: &Stage) -> Vec<String> {
    let posts = stage.world().posts_in(&stage.channel).into_iter();
    let own = posts.filter(|post| post.user_id == stage.bot.id && post.kind.is_empty());
    own.map(|post| post.message).collect()
}

#[test]
fn a_stop_is_done_once_by_a_bot_that_is_killed_at_any_step() {
    let mut stopped = 0;
    for steps in 0.. {
        let (stage, session) = at_work("poll_interval_secs = 5");
        drop(session);
        stage.desk.takes(600_000);
        let slow = post(&stage, &stage.ann.id, "", "@prxbot think");
        let (ann, channel, root) = (stage.ann.id.clone(), stage.channel.clone(), slow.clone());
        stage.mattermost.at(7_000, move |world| {
            world
                .draft(&ann, &channel, "@prxbot stop")
                .root(&root)
                .post();
        });
        let killed = stage.live(steps, 20);
        let mut session = stage.start();
        stage.run_for(&mut session, 150);
        let told = format!("killed at {steps}: {:?}", own_posts(&stage));
        // What waits when the word is read gets nothing.
        assert!(
            own_posts(&stage).iter().all(|text| text == "Stopped."),
            "{told}"
        );
        assert!(own_posts(&stage).len() <= 1, "{told}");
        stopped += stage.answers(&slow).len();
        let stop = stage.world().replies_to(&slow);
        let stop = stop.iter().find(|post| post.message == "@prxbot stop");
        let stop = &stop.expect("a word").id;
        assert_eq!(reactions(&stage, stop), ["white_check_mark"], "{told}");
        assert!(stage.state().get("answers").is_none(), "{told}");
        if !killed {
            break;
        }
    }
    assert!(stopped >= 10, "{stopped}");
}

#[test]
fn a_stop_is_too_late_for_an_answer_that_is_made_and_cannot_be_posted_yet() {
    for acted in [false, true] {
        let (stage, mut session) = at_work("");
        let channel = stage.channel.clone();
        stage.desk.takes(2_000);
        stage.mattermost.on_request(move |request, _| {
            let fault = Fault::Html(502);
            match (request.method.as_str(), api_path(request)) {
                ("POST", "posts") if acted => Act::ServeThen(fault),
                ("POST", "posts") => Act::Instead(fault),
                ("GET", path) if path.contains("/posts?") && path.contains("page=") => {
                    Act::Instead(fault)
                }
                _ => Act::Serve,
            }
        });
        let slow = say(&stage, &mut session, &channel, "", "@prxbot think");
        let stop = say(&stage, &mut session, &channel, &slow, "@prxbot stop");
        stage.mattermost.serve_all();
        stage.run_for(&mut session, 200);
        assert_eq!(own_posts(&stage), ["You said: think"], "{acted}");
        assert_eq!(reactions(&stage, &stop), ["white_check_mark"], "{acted}");
    }
}

#[test]
fn a_reaction_that_fails_is_tried_a_few_times_and_keeps_nothing_back() {
    for (failures, shown) in [(2, true), (u32::MAX, false)] {
        let (stage, mut session) = at_work("");
        let direct = direct(&stage, &mut session);
        let tried = Arc::new(Mutex::new(0));
        let counted = tried.clone();
        stage.mattermost.on_request(move |request, _| {
            if api_path(request) != "reactions" {
                return Act::Serve;
            }
            let mut count = counted.lock().expect("a lock");
            *count += 1;
            match *count > failures {
                true => Act::Serve,
                false => Act::Instead(Fault::Html(502)),
            }
        });
        let new = say(&stage, &mut session, &direct, "", "new");
        let next = say(&stage, &mut session, &direct, "", "and now?");
        assert_eq!(stage.answers(&next).len(), 1);
        stage.run_for(&mut session, 120);
        assert_eq!(reactions(&stage, &new).len(), usize::from(shown));
        let tried = *tried.lock().expect("a lock");
        assert!(tried <= 4, "{tried} tries");
        let state = fs::read_to_string(stage.state_path()).expect("a state file");
        assert!(!state.contains("\"answers\""), "{state}");
    }
}

#[test]
fn a_command_that_is_edited_into_a_question_gets_an_answer_and_a_question_edited_into_one_none() {
    let (stage, mut session) = at_work("");
    let channel = stage.channel.clone();
    stage.desk.takes(20_000);
    let question = say(&stage, &mut session, &channel, "", "@prxbot think");
    stage.world().edit(&question, "@prxbot help");
    stage.run_for(&mut session, 10);
    assert!(stage.answers(&question)[0].contains("Commands"));
    assert_eq!(stage.desk.stopped(), 1);
    drop(session);
    let help = stage.world().post(&stage.ann.id, &channel, "@prxbot help");
    stage.world().edit(&help, "@prxbot what is new?");
    let mut session = stage.start();
    stage.run_for(&mut session, 60);
    assert_eq!(stage.answers(&help), ["You said: what is new?"]);
}
