//! Every request fails once in every way, whether the server acted or not: each message still gets
//! exactly one answer, and no outage makes the bot hurry.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use prx::commands::Exit;
use prx::commands::run::Session;
use prx::times::{Step, Times};
use serde_json::{Value, json};

use support::bot::Stage;
use support::mattermost::{Act, Fault, World, api_path};
use support::wire::{Request, lock};

const ECHO: &str = "default_provider = \"echo\"";
/// How long a call may take, in real time: what hangs costs the tests so much.
const CALL: Duration = Duration::from_millis(80);
/// More requests than this at one moment of simulated time are a loop without a pause.
const SPINNING: usize = 300;
/// So long after the answer is complete, nothing more may come.
const IDLE_MS: u64 = 180_000;
/// No answer after this: there will be none.
const GIVEN_UP_MS: u64 = 900_000;

// The bot, and what it says.

thread_local! {
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what each thread's bot logs, from `info` on.
struct Listener;

impl log::Log for Listener {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::Level::Info && metadata.target().starts_with("prx")
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            SAID.with_borrow_mut(|said| said.push(line));
        }
    }

    fn flush(&self) {}
}

/// What this thread's bot has logged since the last call.
fn said() -> Vec<String> {
    SAID.take()
}

fn try_start(stage: &Stage) -> Result<Session, Exit> {
    let _ = log::set_logger(&Listener);
    log::set_max_level(log::LevelFilter::Info);
    let config = prx::config::load(Some(&stage.config_path()), &|_| None)?;
    let times = Times {
        clock: Rc::new(stage.clock.clone()),
        call: CALL,
        ..Times::default()
    };
    Ok(Session::start(config, times, false)?.expect("no other instance"))
}

fn start(stage: &Stage) -> Session {
    try_start(stage).expect("a start")
}

/// A stage whose bot has run before; what was said in the channel until here is history.
fn prepared(settings: &str) -> Stage {
    let stage = Stage::simulated();
    stage.configure(ECHO, &settings.replace("{channel}", &stage.channel));
    stage.world().post(&stage.ann.id, &stage.channel, "history");
    stage.clock.advance(5_000);
    let mut session = start(&stage);
    stage.run_for(&mut session, 3);
    drop(session);
    stage.clock.advance(600_000);
    said();
    stage
}

fn ask(stage: &Stage, text: &str) -> String {
    stage.world().post(&stage.ann.id, &stage.channel, text)
}

// The matrix.

/// What goes wrong with one request.
#[derive(Clone)]
enum Trouble {
    Fault(Fault),
    /// The server does not listen, for 5 s.
    Refused,
    /// The server starts anew: it drops connections and forgets what is in its memory.
    Restart,
}

fn troubles() -> Vec<(&'static str, Trouble)> {
    let fault = |fault| Trouble::Fault(fault);
    let body = |text: &str| text.as_bytes().to_vec();
    vec![
        ("refused", Trouble::Refused),
        ("restart", Trouble::Restart),
        ("reset", fault(Fault::Reset)),
        ("close", fault(Fault::Close)),
        ("hang", fault(Fault::Hang)),
        ("truncated", fault(Fault::Truncated)),
        ("trickle", fault(Fault::Trickle(Duration::from_millis(5)))),
        (
            "401",
            fault(Fault::Error(401, "api.context.session_expired.app_error")),
        ),
        (
            "403",
            fault(Fault::Error(403, "api.context.permissions.app_error")),
        ),
        (
            "404",
            fault(Fault::Error(404, "app.some.missing.app_error")),
        ),
        ("429, 5 s", fault(Fault::RateLimited(5))),
        ("429, 45 s", fault(Fault::RateLimited(45))),
        (
            "429, unsaid",
            fault(Fault::Status(429, vec![], body("limit exceeded\n"))),
        ),
        ("500", fault(Fault::Error(500, "app.some.db.app_error"))),
        ("502", fault(Fault::Html(502))),
        ("200 HTML", fault(Fault::Html(200))),
        ("{}", fault(Fault::Json(json!({})))),
        ("status", fault(Fault::Json(json!({"status": "OK"})))),
        ("[]", fault(Fault::Json(json!([])))),
        ("null", fault(Fault::Json(Value::Null))),
        ("broken JSON", fault(Fault::BrokenJson)),
        ("endless", fault(Fault::Endless)),
        (
            "redirect",
            fault(Fault::Redirect("http://localhost/login".into())),
        ),
    ]
}

/// Why a question may stay without an answer after this fault; nothing if it may not.
fn excuse(trouble: &str, call: &str) -> Option<&'static str> {
    if !matches!(trouble, "403" | "404") {
        return None;
    }
    match call {
        "POST posts" => Some("the server takes no post there"),
        "GET posts/ID" => Some("the question is gone"),
        "GET posts/ID/thread" => Some("its thread is gone"),
        _ => None,
    }
}

struct Scenario {
    name: &'static str,
    /// In the config's Mattermost section.
    settings: &'static str,
    first_run: bool,
    /// In a thread, with an answer of three parts.
    thread: bool,
}

/// Plays one fault at the `at`th request: nothing if the bot was done before, else what is wrong.
fn play(
    scenario: &Scenario,
    (name, trouble): &(&'static str, Trouble),
    acts: bool,
    at: usize,
) -> Option<Vec<String>> {
    let settings = format!("{}\nallowed_users = [\"*\"]", scenario.settings);
    let stage = if scenario.first_run {
        let stage = Stage::simulated();
        stage.configure(ECHO, &settings.replace("{channel}", &stage.channel));
        stage.world().post(&stage.ann.id, &stage.channel, "history");
        stage.clock.advance(100_000);
        stage
    } else {
        prepared(&settings)
    };
    let mut question = None;
    if scenario.thread {
        let mut world = stage.world();
        world.knobs.max_post_size = 36;
        let root = world.post(&stage.bot.id, &stage.channel, "by hand");
        let (eve, channel) = (&stage.eve.id, &stage.channel);
        world
            .draft(eve, channel, "before")
            .prop("from_webhook", "true")
            .root(&root)
            .post();
        let text = "one line of a long question\nand the second line of it\nand the third";
        let draft = world.draft(&stage.ann.id, channel, text);
        question = Some(draft.root(&root).post());
    } else if !scenario.first_run {
        question = Some(ask(&stage, "what is new?"));
    }

    let call = Arc::new(Mutex::new(None));
    let count = Arc::new(AtomicUsize::new(0));
    // What cannot be done from within a request is done by this thread's side.
    let (orders, order) = mpsc::channel::<(bool, mpsc::Sender<()>)>();
    let (noted, counted) = (call.clone(), count.clone());
    let injected = trouble.clone();
    stage.mattermost.on_request(move |request, _| {
        if counted.fetch_add(1, Ordering::SeqCst) + 1 != at {
            return Act::Serve;
        }
        *lock(&noted) = Some(shape(request));
        match &injected {
            Trouble::Fault(fault) if acts => Act::ServeThen(fault.clone()),
            Trouble::Fault(fault) => Act::Instead(fault.clone()),
            _ if acts => Act::ServeThen(Fault::Close),
            _ => Act::Serve,
        }
    });
    let problems = std::thread::scope(|scope| {
        let mattermost = &stage.mattermost;
        scope.spawn(move || {
            for (listen, done) in order {
                mattermost.stop();
                if listen {
                    mattermost.restart();
                }
                let _ = done.send(());
            }
        });
        let clock = stage.clock.clone();
        let (mut step, mut moment, mut requests, mut down_since) = (0, 0, 0, None);
        let with_wire = !matches!(trouble, Trouble::Fault(_));
        let refuses = matches!(trouble, Trouble::Refused);
        stage.clock.on_checkpoint(move |checkpoint| {
            let now = clock.elapsed_ms();
            requests = if now == moment { requests + 1 } else { 0 };
            moment = now;
            assert!(requests < SPINNING, "requests without a pause");
            let order = |listen| {
                let (done, wait) = mpsc::channel();
                orders.send((listen, done)).expect("a server");
                wait.recv().expect("an answer");
            };
            if with_wire && down_since.is_some_and(|since| now > since + 5_000) {
                down_since = Some(u64::MAX - 5_000);
                order(true);
            }
            step += usize::from(checkpoint == Step::BeforeRequest);
            let due = if acts {
                Step::AfterResponse
            } else {
                Step::BeforeRequest
            };
            if with_wire && step == at && checkpoint == due {
                order(!refuses);
                down_since = refuses.then_some(now);
            }
        });
        let problems = watch(&stage, scenario, &mut question);
        stage.clock.no_checkpoint();
        problems
    });
    let reached = count.load(Ordering::SeqCst) >= at;
    let call = lock(&call).take().unwrap_or("refused call".into());
    reached.then(|| {
        let excused = excuse(name, &call).is_some() || (!acts && *name == "?");
        let told = format!(
            "{}: {name} at {call} ({at}{})",
            scenario.name,
            if acts { ", acted" } else { "" }
        );
        let problems = problems.into_iter();
        problems
            .filter(|problem| !(excused && problem == NO_ANSWER))
            .map(|problem| format!("{told}: {problem}"))
            .collect()
    })
}

const NO_ANSWER: &str = "no answer";

/// Runs the bot to the end of its story: what is wrong then.
fn watch(stage: &Stage, scenario: &Scenario, question: &mut Option<String>) -> Vec<String> {
    let begun = stage.clock.elapsed_ms();
    let mut session = None;
    let mut complete_since = None;
    loop {
        let now = stage.clock.elapsed_ms();
        match &mut session {
            // Started again each minute.
            None => match try_start(stage) {
                Ok(started) => session = Some(started),
                Err(Exit::Token(_)) => stage.clock.advance(60_000),
                Err(other) => return vec![format!("{other:?}")],
            },
            Some(session) => {
                if let Err(exit) = session.step() {
                    return vec![format!("{exit:?}")];
                }
            }
        }
        if question.is_none() && stage.state_path().exists() && now > begun + 3_000 {
            *question = Some(ask(stage, "what is new?"));
        }
        let parts = if scenario.thread { 3 } else { 1 };
        let question = question.as_deref().unwrap_or_default();
        let complete = stage.answers(question).len() >= parts;
        if complete {
            let since = *complete_since.get_or_insert(now);
            stage.clock.advance(10_000);
            if now > since + IDLE_MS {
                break;
            }
        } else if now > begun + GIVEN_UP_MS {
            break;
        }
    }
    let mut problems = Vec::new();
    let question = question.as_deref().unwrap_or_default();
    let world = stage.world();
    let answers = world.own_answers(&stage.bot.id, question);
    let text = if scenario.thread {
        "You said: one line of a long question\nand the second line of it\nand the third"
    } else {
        "You said: what is new?"
    };
    let limit = world.knobs.max_post_size;
    let due = prx::reply::parts(text, limit, &Default::default());
    let texts: Vec<&String> = answers.iter().map(|post| &post.message).collect();
    if texts.is_empty() {
        problems.push(NO_ANSWER.into());
    } else if texts != due.iter().collect::<Vec<_>>() {
        problems.push(format!("answers {texts:?}"));
    }
    let own = world.posts_in(&stage.channel);
    let own = own
        .iter()
        .filter(|post| post.user_id == stage.bot.id && post.kind.is_empty())
        .filter(|post| post.message != "by hand");
    let (own, answers) = (own.count(), answers.len());
    if own != answers {
        problems.push(format!("{own} posts in all"));
    }
    let state = fs::read_to_string(stage.state_path()).unwrap_or_default();
    if state.contains("\"journal\"") {
        problems.push(format!("a journal: {state}"));
    }
    if !problems.is_empty() {
        problems.push(said().join(" | "));
    }
    said();
    problems
}

/// A call with its ids taken out.
fn shape(request: &Request) -> String {
    let path = api_path(request).split('?').next().unwrap_or_default();
    let words: Vec<&str> = path
        .split('/')
        .map(|word| if word.len() == 26 { "ID" } else { word })
        .collect();
    format!("{} {}", request.method, words.join("/"))
}

fn matrix(scenario: &Scenario) {
    let mut problems = Vec::new();
    let mut count = 0;
    for trouble in &troubles() {
        for acts in [false, true] {
            for at in 1.. {
                let Some(found) = play(scenario, trouble, acts, at) else {
                    break;
                };
                count += 1;
                problems.extend(found);
            }
        }
    }
    println!("fault matrix, {}: {count} points", scenario.name);
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(count >= 300, "{count} points");
}

#[test]
fn any_fault_at_any_request_leaves_one_answer() {
    matrix(&Scenario {
        name: "all channels",
        settings: "",
        first_run: false,
        thread: false,
    });
}

#[test]
fn any_fault_at_any_request_in_one_channel_leaves_one_answer() {
    matrix(&Scenario {
        name: "one channel",
        settings: "channel_id = \"{channel}\"",
        first_run: false,
        thread: false,
    });
}

#[test]
fn any_fault_at_any_request_of_a_long_answer_in_a_thread_leaves_one_answer() {
    matrix(&Scenario {
        name: "a thread",
        settings: "",
        first_run: false,
        thread: true,
    });
}

#[test]
fn any_fault_in_a_first_run_leaves_history_alone() {
    for (name, settings) in [
        ("a first run", ""),
        ("a first run in one channel", "channel_id = \"{channel}\""),
    ] {
        matrix(&Scenario {
            name,
            settings,
            first_run: true,
            thread: false,
        });
    }
}
