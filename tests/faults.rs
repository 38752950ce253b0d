//! Every request fails once in every way, whether the server acted or not: each message still gets
//! exactly one answer, and no outage makes the bot hurry.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use prx::commands::run::Session;
use prx::exit::Exit;
use prx::times::{Clock, Step, Times};
use serde_json::{Value, json};

use crate::support::bot::{ECHO, Stage};
use crate::support::clock::{SimClock, Time};
use crate::support::lines;
use crate::support::mattermost::{Act, Fault, Joining, Kind, Version, api_path};
use crate::support::model::Model;
use crate::support::wire::{Request, lock};

/// How long a call may take, in real time: what hangs costs the tests so much.
const CALL: Duration = Duration::from_millis(200);
/// More requests than this at one moment of simulated time are a loop without a pause.
const SPINNING: usize = 300;
/// So long after the answer is complete, nothing more may come.
const IDLE_MS: u64 = 180_000;
/// No answer after this: there will be none.
const GIVEN_UP_MS: u64 = 900_000;

// The bot, and what it says.

fn try_start(stage: &Stage) -> Result<Session, Exit> {
    lines::keep(log::LevelFilter::Info);
    start_as(stage, Rc::new(stage.clock.clone()), false)
}

/// Starts the configured bot by this clock, for one round or for good.
fn start_as(stage: &Stage, clock: Rc<dyn Clock>, once: bool) -> Result<Session, Exit> {
    let config = prx::config::load(Some(&stage.config_path()), &|_| None)?;
    let times = Times {
        clock,
        call: CALL,
        ..Times::default()
    };
    let session = Session::start(config, times, stage.test_desk(), once, &mut || {})?;
    Ok(session.expect("no other instance"))
}

fn start(stage: &Stage) -> Session {
    try_start(stage).expect("a start")
}

/// A stage whose bot has run before; what was said in the channel until here is history.
fn prepared(settings: &str) -> Stage {
    prepare(Stage::simulated(), settings)
}

fn prepare(stage: Stage, settings: &str) -> Stage {
    stage.configure(ECHO, &settings.replace("{channel}", &stage.channel));
    stage.clock.advance(5_000);
    stage.ask("history");
    stage.clock.advance(5_000);
    let mut session = start(&stage);
    stage.run_for(&mut session, 3);
    drop(session);
    stage.clock.advance(600_000);
    lines::taken();
    stage
}

/// The same at work, in its second run.
fn running(settings: &str) -> (Stage, Session) {
    let stage = prepared(settings);
    let mut session = start(&stage);
    stage.run_for(&mut session, 3);
    lines::taken();
    (stage, session)
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
        ("closed after", fault(Fault::CloseAfter)),
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

/// Plays one fault at the `at`th request: what is wrong, or, if it did not come to
/// that, after how many requests the answer was complete.
fn play(
    scenario: &Scenario,
    (name, trouble): &(&'static str, Trouble),
    acts: bool,
    at: usize,
) -> Result<Vec<String>, usize> {
    let settings = format!("{}\nallowed_users = [\"*\"]", scenario.settings);
    let stage = if scenario.first_run {
        let stage = Stage::simulated();
        stage.configure(ECHO, &settings.replace("{channel}", &stage.channel));
        stage.clock.advance(100_000);
        stage.ask("history");
        stage.clock.advance(100_000);
        stage
    } else {
        prepared(&settings)
    };
    lines::taken();
    let mut question = None;
    if scenario.thread {
        let mut world = stage.world();
        world.knobs.max_post_size = 1000;
        let root = world.post(&stage.bot.id, &stage.channel, "by hand");
        let (eve, channel) = (&stage.eve.id, &stage.channel);
        world
            .draft(eve, channel, "before")
            .prop("from_webhook", "true")
            .root(&root)
            .post();
        let draft = world.draft(&stage.ann.id, channel, &long_text());
        question = Some(draft.root(&root).post());
    } else if !scenario.first_run {
        question = Some(stage.ask("what is new?"));
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
        let problems = watch(&stage, scenario, &mut question, &count);
        stage.clock.no_checkpoint();
        problems
    });
    let (problems, needed) = problems;
    if count.load(Ordering::SeqCst) < at {
        return Err(needed);
    }
    let call = lock(&call).take().unwrap_or("refused call".into());
    let excused = excuse(name, &call).is_some();
    let told = format!(
        "{}: {name} at {call} ({at}{})",
        scenario.name,
        if acts { ", acted" } else { "" }
    );
    let problems = problems.into_iter();
    Ok(problems
        .filter(|problem| !(excused && problem == NO_ANSWER))
        .map(|problem| format!("{told}: {problem}\n    {}", lines::taken().join("\n    ")))
        .collect())
}

/// The troubles of a first run: those that could pass for an answer of the server's.
const FIRST_RUN: [&str; 6] = ["refused", "401", "403", "404", "200 HTML", "{}"];

const NO_ANSWER: &str = "no answer";

/// Runs the bot to the end of its story: what is wrong then, and how many requests the answer took.
fn watch(
    stage: &Stage,
    scenario: &Scenario,
    question: &mut Option<String>,
    count: &AtomicUsize,
) -> (Vec<String>, usize) {
    let mut needed = 0;
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
                Err(other) => return (vec![format!("{other:?}")], 0),
            },
            Some(session) => {
                if let Err(exit) = session.step() {
                    return (vec![format!("{exit:?}")], 0);
                }
            }
        }
        if question.is_none() && stage.state_path().exists() && now > begun + 3_000 {
            *question = Some(stage.ask("what is new?"));
        }
        let parts = if scenario.thread { 3 } else { 1 };
        let question = question.as_deref().unwrap_or_default();
        let complete = stage.answers(question).len() >= parts;
        if complete {
            if complete_since.is_none() {
                needed = count.load(Ordering::SeqCst);
            }
            let since = *complete_since.get_or_insert(now);
            // Not while the bot itself does not know yet.
            if !read_state(stage).contains("\"answers\"") {
                stage.clock.advance(30_000);
            }
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
        format!("You said: {}", long_text())
    } else {
        "You said: what is new?".to_owned()
    };
    let limit = world.knobs.max_post_size;
    let due = prx::reply::parts(&text, limit, &Default::default());
    let texts: Vec<&String> = answers.iter().map(|post| &post.message).collect();
    if texts.len() < due.len() && texts.iter().zip(&due).all(|(text, due)| *text == due) {
        problems.push(NO_ANSWER.into());
    } else if texts != due.iter().collect::<Vec<_>>() {
        problems.push(format!("answers {texts:?}"));
    }
    let answers = answers.len();
    drop(world);
    let own = own_posts(stage);
    if own != answers {
        problems.push(format!("{own} posts in all"));
    }
    let state = read_state(stage);
    if state.contains("\"answers\"") {
        problems.push(format!("an answer is left: {state}"));
    }
    (problems, needed)
}

/// How much the bot has written in the channel by itself.
fn own_posts(stage: &Stage) -> usize {
    let posts = stage.world().posts_in(&stage.channel);
    let own = posts
        .iter()
        .filter(|post| post.user_id == stage.bot.id && post.kind.is_empty());
    own.filter(|post| post.message != "by hand").count()
}

fn read_state(stage: &Stage) -> String {
    fs::read_to_string(stage.state_path()).unwrap_or_default()
}

/// Three parts with 1000 characters in each.
fn long_text() -> String {
    ["one line", "a second line", "the third one"]
        .map(|words| words.repeat(62))
        .join("\n")
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

const WORKERS: usize = 3;

/// Plays each of `troubles` at each request: what is wrong, and how many points there were.
fn fail_each<'a>(
    scenario: &Scenario,
    troubles: impl Iterator<Item = &'a (&'static str, Trouble)>,
    needed: usize,
) -> (Vec<String>, usize) {
    let mut problems = Vec::new();
    let mut count = 0;
    for trouble in troubles {
        if scenario.first_run && !FIRST_RUN.contains(&trouble.0) {
            continue;
        }
        for acts in [false, true] {
            // These say that the server did not act.
            if acts && (trouble.0 == "401" || trouble.0.starts_with("429")) {
                continue;
            }
            // And the first requests after the answer.
            for at in 1..=needed + 2 {
                let found = play(scenario, trouble, acts, at);
                problems.extend(found.expect("as many requests as without a fault"));
                count += 1;
            }
        }
    }
    (problems, count)
}

fn matrix(scenario: &Scenario) {
    let nothing = ("nothing", Trouble::Restart);
    let needed = play(scenario, &nothing, false, usize::MAX).expect_err("no fault");
    let troubles = troubles();
    // Side by side, since some of them wait in real time.
    let (problems, count) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|first| {
                let share = troubles.iter().skip(first).step_by(WORKERS);
                scope.spawn(move || fail_each(scenario, share, needed))
            })
            .collect();
        let mut all = (Vec::new(), 0);
        for worker in workers {
            let (problems, count) = worker.join().expect("a bot that does not spin");
            all.0.extend(problems);
            all.1 += count;
        }
        all
    });
    println!("fault matrix, {}: {count} points", scenario.name);
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(count >= 100, "{count} points");
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
    for (name, settings) in FIRST_RUNS {
        matrix(&Scenario {
            name,
            settings,
            first_run: true,
            thread: false,
        });
    }
}

// The matrix with three questions at work.

/// A fault, and how much longer the answers that it does not hit may take, in milliseconds.
const AT_ONCE: [(&str, Fault, u64); 4] = [
    ("reset", Fault::Reset, 1_500),
    ("hang", Fault::Silence(10_000), 11_500),
    ("500", Fault::Error(500, "app.some.db.app_error"), 1_500),
    ("502", Fault::Html(502), 1_500),
];
/// How long a worker takes.
const WORK_MS: u64 = 2_000;

/// Which question a request is about, if it is about one.
fn subject(request: &Request, questions: &[String]) -> Option<usize> {
    let text = format!(
        "{} {}",
        request.target,
        String::from_utf8_lossy(&request.body)
    );
    let mut named = (0..questions.len()).filter(|&number| text.contains(&questions[number]));
    named.next().filter(|_| named.next().is_none())
}

/// One of the requests that three answers take suffers: what it was and which question it was about,
/// and when the answers came, in milliseconds after they were asked for. Nothing if there were less.
fn play_at_once(fault: &Fault, acts: bool, at: usize) -> Option<(String, Option<usize>, Vec<u64>)> {
    let stage = prepared("answers_at_once = 3\nallowed_users = [\"*\"]");
    stage.desk.takes(WORK_MS);
    let begun = stage.clock.elapsed_ms();
    let questions = ["one", "two", "three"].map(|text| stage.ask(text));
    let mut requests = 0;
    let hit = Arc::new(Mutex::new(None));
    let (noted, asked, fault) = (hit.clone(), questions.clone(), fault.clone());
    stage.mattermost.on_request(move |request, _| {
        requests += 1;
        if requests != at {
            return Act::Serve;
        }
        *lock(&noted) = Some((shape(request), subject(request, &asked)));
        if acts {
            Act::ServeThen(fault.clone())
        } else {
            Act::Instead(fault.clone())
        }
    });
    let mut session = start(&stage);
    let is_answered = |question: &String| !stage.answers(question).is_empty();
    let mut came = vec![None; questions.len()];
    let mut complete_since = None;
    let is_over = |since: Option<u64>, now| since.is_some_and(|since| now > since + IDLE_MS);
    while !is_over(complete_since, stage.clock.elapsed_ms()) {
        session.step().expect("no reason to exit");
        let now = stage.clock.elapsed_ms();
        for (came, _) in came
            .iter_mut()
            .zip(&questions)
            .filter(|(_, it)| is_answered(it))
        {
            came.get_or_insert(now - begun);
        }
        if came.iter().all(Option::is_some) && lock(&hit).is_none() && at < usize::MAX {
            return None;
        }
        if came.iter().all(Option::is_some) {
            complete_since.get_or_insert(now);
            if !read_state(&stage).contains("\"answers\"") {
                stage.clock.advance(30_000);
            }
        }
        assert!(now < begun + GIVEN_UP_MS, "{:?}: {came:?}", lock(&hit));
    }
    for question in &questions {
        assert_eq!(stage.answers(question).len(), 1, "{:?}", lock(&hit));
    }
    assert_eq!(own_posts(&stage), questions.len(), "{:?}", lock(&hit));
    let (call, about) = lock(&hit).take().unwrap_or_default();
    Some((call, about, came.into_iter().flatten().collect()))
}

#[test]
fn a_fault_at_any_request_of_three_answers_at_once_keeps_only_its_own_waiting() {
    let (_, _, usual) = play_at_once(&Fault::Reset, false, usize::MAX).expect("no fault");
    let usual = usual.into_iter().max().expect("answers");
    let mut posts = 0;
    for (name, fault, longer) in &AT_ONCE {
        for acts in [false, true] {
            let plays = (1..).map_while(|at| play_at_once(fault, acts, at));
            for (at, (call, about, came)) in plays.enumerate() {
                let others = (0..came.len()).filter(|number| about.is_some_and(|it| it != *number));
                let longest = others.map(|number| came[number]).max().unwrap_or_default();
                let told = format!("{name} at {call} ({at}), acted {acts}: {came:?}");
                assert!(longest <= usual + longer, "{told}");
                posts += usize::from(call == "POST posts");
            }
        }
    }
    assert_eq!(posts, 3 * 2 * AT_ONCE.len(), "each answer's post");
}

const FIRST_RUNS: [(&str, &str); 2] = [
    ("a first run", ""),
    ("a first run in one channel", "channel_id = \"{channel}\""),
];

#[test]
fn a_first_look_that_is_refused_by_mistake_brings_no_history() {
    let scenario = Scenario {
        name: FIRST_RUNS[1].0,
        settings: FIRST_RUNS[1].1,
        first_run: true,
        thread: false,
    };
    for refusal in troubles()
        .iter()
        .filter(|(name, _)| matches!(*name, "403" | "404"))
    {
        let problems = play(&scenario, refusal, false, 3).expect("a third request");
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}

#[test]
fn a_list_that_is_refused_by_mistake_forgets_no_floor() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "");
    let mut world = stage.world();
    world.leave_team(&stage.team, &stage.bot.id);
    let direct = world.direct_channel(&stage.ann.id, &stage.bot.id);
    let history = world.post(&stage.ann.id, &direct, "history");
    drop(world);
    let mut session = start(&stage);
    stage.run_for(&mut session, 3);
    drop(session);
    let refused = Act::Instead(Fault::Error(404, "app.some.missing.app_error"));
    stage.mattermost.once("GET", "users/me/channels", refused);
    let mut session = start(&stage);
    stage.run_for(&mut session, 60);
    assert!(stage.answers(&history).is_empty());
}

// Outages.

/// Whether the server is out, as the test decides.
fn out_while(stage: &Stage, from_ms: u64, for_ms: u64, fault: Fault) {
    let begin = stage.clock.elapsed_ms() + from_ms;
    let (clock, end) = (stage.clock.clone(), begin + for_ms);
    stage.mattermost.on_request(move |_, _| {
        if (begin..end).contains(&clock.elapsed_ms()) {
            Act::Instead(fault.clone())
        } else {
            Act::Serve
        }
    });
}

#[test]
fn an_outage_of_any_kind_costs_few_requests_and_two_lines() {
    for (name, trouble) in troubles() {
        let Trouble::Fault(fault) = trouble else {
            continue;
        };
        // A channel that is refused is closed, not out.
        if matches!(name, "403" | "404") {
            continue;
        }
        let (stage, mut session) = running("");
        out_while(&stage, 0, 240_000, fault);
        let question = stage.ask("anybody?");
        let before = stage.world().request_count;
        stage.run_for(&mut session, 240);
        let requests = stage.world().request_count - before;
        assert!(requests <= 20, "{name}: {requests} requests in 4 minutes");
        stage.run_for(&mut session, 120);
        assert_eq!(stage.answers(&question).len(), 1, "{name}");
        let lines = lines::taken();
        let outage: Vec<&String> = lines
            .iter()
            .filter(|line| !line.contains("answered post"))
            .collect();
        assert_eq!(outage.len(), 2, "{name}: {lines:#?}");
        assert!(outage[0].contains("trying again"), "{name}: {lines:#?}");
        assert!(outage[1].contains("well again"), "{name}: {lines:#?}");
    }
}

#[test]
fn a_server_that_fails_every_second_time_is_one_outage() {
    let (stage, mut session) = running("");
    let mut fails = false;
    stage.mattermost.on_request(move |_, _| {
        fails = !fails;
        match fails {
            true => Act::Instead(Fault::Html(502)),
            false => Act::Serve,
        }
    });
    stage.run_for(&mut session, 600);
    let lines = lines::taken();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    stage.mattermost.serve_all();
    let question = stage.ask("well?");
    stage.run_for(&mut session, 10);
    assert_eq!(stage.answers(&question).len(), 1);
    stage.run_for(&mut session, 80);
    let lines = lines::taken();
    let ends = lines.iter().filter(|line| line.contains("well again"));
    assert_eq!(ends.count(), 1, "{lines:#?}");

    // The next one has lines of its own.
    out_while(&stage, 0, 60_000, Fault::Html(502));
    stage.run_for(&mut session, 240);
    let lines = lines::taken();
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[test]
fn a_token_that_is_refused_for_five_minutes_ends_the_bot() {
    let (stage, mut session) = running("");
    let refused = Fault::Error(401, "api.context.session_expired.app_error");
    out_while(&stage, 0, 240_000, refused.clone());
    let question = stage.ask("anybody?");
    stage.run_for(&mut session, 330);
    assert_eq!(stage.answers(&question).len(), 1);

    stage.mattermost.serve_all();
    // Also one that is started meanwhile.
    drop(session);
    let meanwhile = Act::Instead(refused);
    stage.world().plan(3, "GET", "users/me$", meanwhile);
    let mut session = stage.start();
    stage.world().revoke_token(&stage.bot.token);
    let end = stage.clock.elapsed_ms() + 420_000;
    let exit = loop {
        match session.step() {
            Err(exit) => break exit,
            Ok(_) => assert!(stage.clock.elapsed_ms() < end, "the bot goes on for ever"),
        }
    };
    assert_eq!(exit.code(), 77, "{exit:?}");
    drop(session);
    let exit = try_start(&stage).err().expect("no start without a token");
    assert_eq!(exit.code(), 77, "{exit:?}");
}

#[test]
fn no_strange_refusal_for_too_many_requests_keeps_an_answer_for_longer_than_a_minute() {
    let stage = prepared("");
    let mut session = start(&stage);
    for (name, fault) in Fault::strange_rate_limits() {
        stage.run_for(&mut session, 3);
        stage.mattermost.once("POST", "posts", Act::Instead(fault));
        let question = stage.ask("still there?");
        stage.run_for(&mut session, 63);
        assert_eq!(stage.answers(&question).len(), 1, "{name}");
    }
}

#[test]
fn an_hour_out_of_reach_costs_a_request_a_minute_and_two_lines() {
    let faults = [
        // The server does not listen.
        ("refused", None),
        ("closed", Some(Fault::Close)),
        ("500", Some(Fault::Error(500, "app.some.db.app_error"))),
        ("502", Some(Fault::Html(502))),
        ("200 HTML", Some(Fault::Html(200))),
        ("429", Some(Fault::RateLimited(5))),
    ];
    for (name, fault) in faults {
        let (stage, mut session) = running("");
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        stage.clock.on_checkpoint(move |step| {
            counted.fetch_add(usize::from(step == Step::BeforeRequest), Ordering::SeqCst);
        });
        match fault {
            Some(fault) => out_while(&stage, 0, 7_200_000, fault),
            None => stage.mattermost.stop(),
        }
        stage.run_for(&mut session, 1_800);
        let question = stage.ask("anybody?");
        stage.run_for(&mut session, 1_800);
        stage.mattermost.serve_all();
        stage.mattermost.restart();
        let requests = requests.load(Ordering::SeqCst);
        assert!(requests <= 75, "{name}: {requests} requests in an hour");
        stage.run_for(&mut session, 200);
        assert_eq!(stage.answers(&question).len(), 1, "{name}");
        let lines = lines::taken();
        let signs = ["trying again", "answered post", "well again"];
        let as_expected = lines
            .iter()
            .zip(signs)
            .all(|(line, sign)| line.contains(sign));
        assert!(lines.len() == 3 && as_expected, "{name}: {lines:#?}");
    }
}

#[test]
fn a_minute_without_the_servers_database_loses_nothing_whenever_it_begins() {
    // From the poll that finds the question to those after its answer.
    for first in 0..12 {
        let (stage, mut session) = running("");
        let question = stage.ask("what is new?");
        let (clock, mut count, mut until) = (stage.clock.clone(), 0, 0);
        let (ann, channel) = (stage.ann.id.clone(), stage.channel.clone());
        stage.mattermost.on_request(move |_, world| {
            let now = clock.elapsed_ms();
            if count == first {
                until = now + 60_000;
                let (ann, channel) = (ann.clone(), channel.clone());
                world.at(30_000, move |world| {
                    world.post(&ann, &channel, "anybody?");
                });
            }
            count += 1;
            if now < until {
                Act::Instead(Fault::Error(401, "api.context.session_expired.app_error"))
            } else {
                Act::Serve
            }
        });
        stage.run_for(&mut session, 240);
        let posts = stage.world().posts_in(&stage.channel);
        let during = posts.iter().find(|post| post.message == "anybody?");
        let during = during.expect("the minute began").id.clone();
        for question in [question, during] {
            assert_eq!(stage.answers(&question).len(), 1, "from request {first} on");
        }
        let lines = lines::taken();
        let outage = lines.iter().filter(|line| !line.contains("answered post"));
        assert_eq!(outage.count(), 2, "from request {first} on: {lines:#?}");
    }
}

// Posts whose fate is unknown.

/// The calls of `POST posts` so far: when, with which pending id, and the status.
fn tries(stage: &Stage) -> Vec<(u64, String, u16)> {
    let world = stage.world();
    let posts = world.log.iter();
    let posts = posts.filter(|call| call.method == "POST" && call.target.ends_with("/posts"));
    posts
        .map(|call| {
            let body: Value = serde_json::from_str(&call.body).expect("a post");
            let id = body["pending_post_id"].as_str().expect("a pending id");
            (call.at_ms, id.to_owned(), call.status)
        })
        .collect()
}

fn is_new_post(request: &Request) -> bool {
    request.method == "POST" && api_path(request) == "posts"
}

#[test]
fn an_unclear_post_is_repeated_as_it_was_and_later_asked_for_and_posted_anew() {
    let stage = prepared("");
    let question = stage.ask("what is new?");
    let (clock, mut first) = (stage.clock.clone(), None);
    stage.mattermost.on_request(move |request, _| {
        let now = clock.elapsed_ms();
        if is_new_post(request) && now < *first.get_or_insert(now) + 40_000 {
            Act::Instead(Fault::Html(502))
        } else {
            Act::Serve
        }
    });
    let mut session = start(&stage);
    stage.run_for(&mut session, 240);
    let tries = tries(&stage);
    let (old, new): (Vec<_>, Vec<_>) = tries.iter().partition(|(_, id, _)| *id == tries[0].1);
    assert!(old.len() >= 3 && new.len() == 1, "{tries:?}");
    let last = old.last().expect("a try").0;
    assert!(last < old[0].0 + 30_000, "forgotten by then: {tries:?}");
    assert!(new[0].0 >= last + 60_000, "{tries:?}");
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn a_post_that_a_server_takes_late_is_not_posted_again_by_the_next_run() {
    let stage = prepared("");
    let question = stage.ask("what is new?");
    let (bot, mut taken) = (stage.bot.id.clone(), false);
    stage.mattermost.on_request(move |request, world| {
        if !is_new_post(request) || std::mem::replace(&mut taken, true) {
            return Act::Serve;
        }
        // Longer than the server knows the pending id.
        let (bot, body) = (bot.clone(), request.body.clone());
        world.at(45_000, move |world| {
            let post: Value = serde_json::from_slice(&body).expect("a post");
            let text = |name: &str| post[name].as_str().expect("a text").to_owned();
            let draft = world.draft(&bot, &text("channel_id"), &text("message"));
            draft
                .root(&text("root_id"))
                .props(post["props"].clone())
                .post();
        });
        Act::Instead(Fault::Close)
    });
    let mut session = start(&stage);
    while tries(&stage).is_empty() {
        session.step().expect("no reason to exit");
    }
    drop(session);
    stage.clock.advance(35_000);
    let mut session = start(&stage);
    stage.run_for(&mut session, 300);
    assert_eq!(stage.answers(&question).len(), 1);
    assert_eq!(tries(&stage).len(), 1);
}

#[test]
fn an_answer_that_was_not_on_its_way_is_posted_at_once_after_a_restart() {
    let stage = prepared("");
    let question = stage.ask("what is new?");
    stage.fail(Fault::RateLimited(5), is_new_post);
    let mut session = start(&stage);
    while tries(&stage).is_empty() {
        session.step().expect("no reason to exit");
    }
    drop(session);
    stage.mattermost.serve_all();
    let mut session = start(&stage);
    let restarted = stage.clock.elapsed_ms();
    stage.run_for(&mut session, 2);
    assert_eq!(stage.answers(&question).len(), 1);
    assert!(stage.clock.elapsed_ms() < restarted + 5_000);
}

#[test]
fn an_answer_that_was_taken_is_found_far_from_the_newest_posts() {
    for settings in ["", "thread_replies = false"] {
        let stage = prepared(settings);
        let question = stage.ask("what is new?");
        let (clock, mut taken_at) = (stage.clock.clone(), None);
        let (eve, channel) = (stage.eve.id.clone(), stage.channel.clone());
        stage.mattermost.on_request(move |request, world| {
            let now = clock.elapsed_ms();
            if is_new_post(request) && taken_at.is_none() {
                taken_at = Some(now);
                let (eve, channel) = (eve.clone(), channel.clone());
                world.at(2_000, move |world| {
                    world.post_many(&eve, &channel, 1500, 1);
                });
                Act::ServeThen(Fault::Close)
            } else if taken_at.is_some_and(|at| now < at + 5_000) {
                Act::Instead(Fault::Html(502))
            } else {
                Act::Serve
            }
        });
        let mut session = start(&stage);
        stage.run_for(&mut session, 240);
        assert_eq!(stage.answers(&question).len(), 1, "{settings}");
        assert_eq!(tries(&stage).len(), 1, "{settings}");
    }
}

#[test]
fn a_post_that_somebody_else_made_under_the_same_pending_id_is_noticed() {
    let stage = prepared("");
    let question = stage.ask("what is new?");
    let seen = Arc::new(Mutex::new(None));
    let noted = seen.clone();
    stage.mattermost.on_request(move |request, _| {
        if !is_new_post(request) || lock(&noted).is_some() {
            return Act::Serve;
        }
        let body: Value = serde_json::from_slice(&request.body).expect("a post");
        *lock(&noted) = Some(body["pending_post_id"].clone());
        Act::Instead(Fault::Close)
    });
    let mut session = start(&stage);
    while lock(&seen).is_none() {
        session.step().expect("no reason to exit");
    }
    let stolen = json!({
        "channel_id": stage.channel, "message": "mine", "pending_post_id": *lock(&seen),
    });
    post_as(&stage, &stage.eve.token, &stolen);
    stage.run_for(&mut session, 30);
    let tries = tries(&stage);
    assert_eq!(stage.answers(&question).len(), 1);
    assert_ne!(tries[0].1, tries.last().expect("a try").1, "{tries:?}");
    assert!(lines::taken().concat().contains("somebody else posted"));
}

#[test]
fn a_server_that_gives_another_post_each_time_is_not_asked_without_a_pause() {
    let stage = prepared("");
    let question = stage.ask("what is new?");
    let eve = stage.eve.id.clone();
    stage.mattermost.on_request(move |request, _| {
        if is_new_post(request) {
            let post = json!({"id": "a".repeat(26), "user_id": eve, "props": {}});
            Act::Instead(Fault::Status(201, vec![], post.to_string().into_bytes()))
        } else {
            Act::Serve
        }
    });
    let mut session = start(&stage);
    lines::taken();
    let (clock, begun) = (stage.clock.clone(), stage.clock.elapsed_ms());
    let mut requests = 0;
    stage.clock.on_checkpoint(move |_| {
        requests += usize::from(clock.elapsed_ms() == begun);
        assert!(requests < SPINNING, "requests without a pause");
    });
    stage.run_for(&mut session, 600);
    stage.clock.no_checkpoint();
    let tried = tries(&stage).len();
    assert!((4..20).contains(&tried), "{tried} tries in 10 minutes");
    let lines = lines::taken();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 180);
    assert_eq!(stage.answers(&question).len(), 1);
}

/// `POST posts` by a client of somebody's.
fn post_as(stage: &Stage, token: &str, post: &Value) {
    let url = stage.mattermost.url();
    let address = url.strip_prefix("http://").expect("a plain URL");
    let mut stream = TcpStream::connect(address).expect("the server");
    let body = post.to_string();
    let length = body.len();
    write!(
        stream,
        "POST /api/v4/posts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("a request");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 201");
}

#[test]
fn an_answer_that_somebody_else_claims_to_be_is_none() {
    let stage = prepared("allowed_users = [\"*\"]");
    let question = stage.ask("what is new?");
    let (eve, channel, asked) = (
        stage.eve.id.clone(),
        stage.channel.clone(),
        question.clone(),
    );
    let mut forged = false;
    stage.mattermost.on_request(move |request, world| {
        if !is_new_post(request) || std::mem::replace(&mut forged, true) {
            return Act::Serve;
        }
        let prx = json!({"in_reply_to": asked, "part": 0, "of": 1});
        let draft = world.draft(&eve, &channel, "forged").prop("prx", prx);
        draft.post();
        Act::Instead(Fault::Close)
    });
    let mut session = start(&stage);
    stage.run_for(&mut session, 30);
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn a_part_whose_props_a_server_takes_away_is_posted_once() {
    let stage = prepared("");
    stage.ask("what is new?");
    let bot = stage.bot.id.clone();
    stage.mattermost.on_request(move |request, _| {
        if is_new_post(request) {
            let post = json!({"id": "a".repeat(26), "user_id": bot, "props": {}});
            Act::ServeThen(Fault::Status(201, vec![], post.to_string().into_bytes()))
        } else {
            Act::Serve
        }
    });
    let mut session = start(&stage);
    stage.run_for(&mut session, 240);
    assert_eq!(tries(&stage).len(), 1);
}

// Channels that close, people who change their minds.

#[test]
fn where_the_bot_may_not_write_nothing_is_said_twice_and_the_time_between_is_history() {
    for kind in [Kind::Open, Kind::Private] {
        for settings in ["", "channel_id = \"{channel}\""] {
            let told = format!("{kind:?}, {settings}");
            let stage = prepared(settings);
            stage.world().channel_mut(&stage.channel).kind = kind;
            let mut session = start(&stage);
            stage.run_for(&mut session, 3);
            lines::taken();
            let mut world = stage.world();
            world.remove_member(&stage.channel, &stage.bot.id, &stage.ann.id);
            drop(world);
            let missed = stage.ask("while it is away");
            let before = stage.world().request_count;
            stage.run_for(&mut session, 600);
            let requests = stage.world().request_count - before;
            let most = if settings.is_empty() { 700 } else { 50 };
            assert!(requests < most, "{told}: {requests} requests");
            let lines = lines::taken();
            assert_eq!(lines.len(), 1, "{told}: {lines:#?}");
            assert!(tries(&stage).is_empty(), "{told}");

            let mut world = stage.world();
            let by = Joining::AddedBy(&stage.ann.id);
            world.add_member(&stage.channel, &stage.bot.id, by);
            drop(world);
            stage.run_for(&mut session, 2);
            let question = stage.ask("back again?");
            stage.run_for(&mut session, 120);
            assert_eq!(stage.answers(&question).len(), 1, "{told}");
            assert!(stage.answers(&missed).is_empty(), "{told}");
        }
    }
}

#[test]
fn what_was_said_between_a_removal_and_a_silent_return_to_an_idle_server_is_history() {
    for settings in ["", "channel_id = \"{channel}\""] {
        for restarts in [false, true] {
            let told = format!("{settings}, restarts: {restarts}");
            let stage = Stage::simulated();
            stage.configure(ECHO, &settings.replace("{channel}", &stage.channel));
            let mut session = start(&stage);
            stage.run_for(&mut session, 3);
            let members = |stage: &Stage, is_in: bool| {
                let mut world = stage.world();
                match is_in {
                    true => world.add_member(&stage.channel, &stage.bot.id, Joining::Silently),
                    false => {
                        let channel = world.channel_mut(&stage.channel);
                        channel.members.remove(&stage.bot.id);
                    }
                }
            };
            if restarts {
                drop(session);
                members(&stage, false);
                session = start(&stage);
            } else {
                members(&stage, false);
            }
            if !settings.is_empty() {
                // Only that it may not write there tells it.
                stage.ask("may it?");
            }
            stage.run_for(&mut session, 200);
            let missed = stage.ask("while it is away");
            stage.clock.advance(100);
            members(&stage, true);
            stage.run_for(&mut session, 70);
            let question = stage.ask("back again?");
            stage.run_for(&mut session, 70);
            assert_eq!(stage.answers(&question).len(), 1, "{told}");
            assert!(stage.answers(&missed).is_empty(), "{told}");
        }
    }
}

#[test]
fn an_archived_channel_is_left_alone_until_it_is_back() {
    for settings in ["", "channel_id = \"{channel}\""] {
        let (stage, mut session) = running(settings);
        stage.ask("last words");
        stage.world().archive(&stage.channel, &stage.ann.id);
        stage.run_for(&mut session, 300);
        let lines = lines::taken();
        assert!(lines.len() <= 2, "{settings}: {lines:#?}");
        stage.world().unarchive(&stage.channel, &stage.ann.id);
        stage.run_for(&mut session, 70);
        let question = stage.ask("open again?");
        stage.run_for(&mut session, 120);
        assert_eq!(stage.answers(&question).len(), 1, "{settings}");
    }
}

/// A stage whose model takes 10 s for each answer.
fn with_slow_model(settings: &str) -> (Stage, Model) {
    let stage = prepared("");
    let model = Model::start();
    let top = format!(
        "default_provider = \"custom:{}/v1\"\ndefault_model = \"m\"",
        model.url()
    );
    stage.configure(&top, &settings.replace("{channel}", &stage.channel));
    let clock = stage.clock.clone();
    model.on_arrival(move |_| clock.advance(10_000));
    (stage, model)
}

#[test]
fn a_question_deleted_while_its_answer_is_made_gets_none() {
    // In a thread the server would refuse the answer anyway.
    let (stage, model) = with_slow_model("thread_replies = false");
    let root = stage.ask("a root");
    let mut session = start(&stage);
    let deleted = root.clone();
    let (ann, channel) = (stage.ann.id.clone(), stage.channel.clone());
    stage
        .mattermost
        .at(5_000, move |world| world.delete(&deleted));
    stage.mattermost.at(20_000, move |world| {
        world.post(&ann, &channel, "still there?");
    });
    stage.run_for(&mut session, 60);
    assert!(stage.answers(&root).is_empty());
    assert_eq!(model.bodies().len(), 2);
    assert_eq!(own_posts(&stage), 1);
}

#[test]
fn an_answer_to_a_thread_that_is_deleted_meanwhile_is_dropped_with_a_line() {
    // A slow answer's question is looked at again; a quick one is for the server to refuse.
    for takes_ms in [10_000, 0] {
        let (stage, model) = with_slow_model("");
        let root = stage.world().post(&stage.bot.id, &stage.channel, "a root");
        let mut session = start(&stage);
        stage.run_for(&mut session, 5);
        lines::taken();
        let question = stage.reply(&root, "in the thread");
        let (clock, thinks) = (stage.clock.clone(), Arc::new(AtomicBool::new(false)));
        let begins = thinks.clone();
        model.on_arrival(move |_| {
            clock.advance(takes_ms);
            begins.store(true, Ordering::SeqCst);
        });
        stage.mattermost.on_request(move |_, world| {
            if thinks.load(Ordering::SeqCst) && world.post_by_id(&root).delete_at == 0 {
                world.delete(&root);
            }
            Act::Serve
        });
        stage.run_for(&mut session, 60);
        let after = stage.ask("and now?");
        stage.run_for(&mut session, 60);
        assert_eq!(model.bodies().len(), 2, "{takes_ms}");
        assert!(stage.answers(&question).is_empty(), "{takes_ms}");
        assert_eq!(stage.answers(&after).len(), 1, "{takes_ms}");
        let lines = lines::taken();
        let dropped = lines
            .iter()
            .filter(|line| line.contains(&question) && line.contains("gets no answer"));
        assert_eq!(dropped.count(), 1, "{takes_ms}: {lines:#?}");
    }
}

#[test]
fn where_the_bot_is_no_member_any_more_no_model_is_asked() {
    // An open channel can still be read.
    for kind in [Kind::Open, Kind::Private] {
        for settings in ["", "channel_id = \"{channel}\""] {
            // Removed while the model thinks and others wait, or a moment before the first question.
            for busy in [true, false] {
                let told = format!("{kind:?}, {settings}, {busy}");
                let (stage, model) = with_slow_model(settings);
                stage.world().channel_mut(&stage.channel).kind = kind;
                let mut session = start(&stage);
                stage.run_for(&mut session, 3);
                if busy {
                    stage.ask("one");
                    stage.ask("two");
                }
                let (ann, bot) = (stage.ann.id.clone(), stage.bot.id.clone());
                let channel = stage.channel.clone();
                stage
                    .mattermost
                    .at(if busy { 5_000 } else { 0 }, move |world| {
                        world.remove_member(&channel, &bot, &ann);
                        world.post(&ann, &channel, "three");
                    });
                stage.run_for(&mut session, 300);
                assert_eq!(model.bodies().len(), usize::from(busy), "{told}");
                assert!(
                    tries(&stage).iter().all(|(.., status)| *status != 201),
                    "{told}"
                );
            }
        }
    }
}

#[test]
fn a_question_that_waits_is_answered_as_it_is_then() {
    let (stage, model) = with_slow_model("");
    let first = stage.ask("the first");
    stage.clock.advance(10);
    let gone = stage.ask("never mind");
    stage.clock.advance(10);
    let edited = stage.ask("before the edit");
    let mut session = start(&stage);
    let (deleted, changed) = (gone.clone(), edited.clone());
    stage.mattermost.at(5_000, move |world| {
        world.delete(&deleted);
        world.edit(&changed, "after the edit");
    });
    stage.run_for(&mut session, 120);
    assert_eq!(stage.answers(&first).len(), 1);
    assert!(stage.answers(&gone).is_empty());
    assert_eq!(stage.answers(&edited).len(), 1);
    let asked = model.bodies();
    assert_eq!(asked.len(), 2);
    let text = asked[1].to_string();
    assert!(text.contains("after the edit") && !text.contains("before the edit"));
}

#[test]
fn an_answer_that_a_moderator_deletes_is_not_posted_again() {
    let stage = prepared("");
    let question = stage.ask("what is new?");
    let (bot, asked) = (stage.bot.id.clone(), question.clone());
    let mut taken = false;
    stage.mattermost.on_request(move |request, world| {
        if is_new_post(request) && !std::mem::replace(&mut taken, true) {
            let (bot, asked) = (bot.clone(), asked.clone());
            world.at(500, move |world| {
                let answer = world.own_answers(&bot, &asked)[0].id.clone();
                world.delete(&answer);
            });
            Act::ServeThen(Fault::Close)
        } else {
            Act::Serve
        }
    });
    let mut session = start(&stage);
    stage.run_for(&mut session, 240);
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn a_new_username_is_the_one_that_counts() {
    let (stage, mut session) = running("mention_only = true");
    stage.world().rename_user(&stage.bot.id, "newname");
    stage.run_for(&mut session, 90);
    let question = stage.ask("@newname hello");
    let other = stage.ask("@prxbot hello");
    stage.run_for(&mut session, 10);
    assert_eq!(stage.answers(&question).len(), 1);
    assert!(stage.answers(&other).is_empty());
}

#[test]
fn an_author_who_leaves_is_still_answered_once() {
    let stage = prepared("");
    let question = stage.ask("goodbye?");
    stage.world().deactivate(&stage.ann.id);
    let mut session = start(&stage);
    stage.run_for(&mut session, 60);
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn a_persons_new_name_is_known_after_an_hour() {
    let (stage, model) = with_slow_model("allowed_users = [\"*\"]");
    let mut session = start(&stage);
    stage.run_for(&mut session, 3);
    let root = stage.world().post(&stage.eve.id, &stage.channel, "a root");
    stage.run_for(&mut session, 30);
    let said_to_model = |session: &mut Session| {
        stage.reply(&root, "and so?");
        stage.run_for(session, 30);
        model.bodies().last().expect("a question").to_string()
    };
    assert!(said_to_model(&mut session).contains("eve: a root"));
    stage.world().rename_user(&stage.eve.id, "evelyn");
    assert!(said_to_model(&mut session).contains("eve: a root"));
    stage.run_for(&mut session, 3600);
    assert!(said_to_model(&mut session).contains("evelyn: a root"));
}

// The disk and the local clock.

#[test]
fn a_pipe_or_a_device_in_a_files_place_is_an_error_that_says_so() {
    let names = ["config.toml", "config.state.json", "config.state.json.lock"];
    for (name, code) in names.into_iter().zip([2, 1, 1]) {
        let stage = Stage::simulated();
        stage.configure(ECHO, "");
        let place = stage.folder.path().join(name);
        let _ = fs::remove_file(&place);
        let made = std::process::Command::new("mkfifo").arg(&place).status();
        assert!(made.expect("mkfifo").success());
        for target in [None, Some("/dev/null"), Some("/dev/zero")] {
            if let Some(target) = target {
                fs::remove_file(&place).expect("a pipe or a link");
                std::os::unix::fs::symlink(target, &place).expect("a link");
            }
            let exit = try_start(&stage).err().expect("no start");
            assert_eq!(exit.code(), code, "{name}: {exit:?}");
            let message = exit.message();
            assert!(message.contains("not a regular file"), "{message}");
            assert!(message.contains(name), "{message}");
        }
    }
}

#[test]
fn a_config_and_a_state_behind_links_are_used() {
    let stage = prepared("");
    for name in ["config.toml", "config.state.json"] {
        let folder = stage.folder.path();
        let (place, elsewhere) = (folder.join(name), folder.join(format!("other.{name}")));
        fs::rename(&place, &elsewhere).expect("a file");
        std::os::unix::fs::symlink(&elsewhere, &place).expect("a link");
    }
    let question = stage.ask("what is new?");
    let mut session = start(&stage);
    stage.run_for(&mut session, 10);
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn without_room_for_the_state_no_answer_is_begun() {
    let (stage, mut session) = running("");
    // Works for root too, which a folder's mode does not stop.
    let blocked = stage.folder.path().join("config.state.json.new");
    fs::create_dir(&blocked).expect("a folder");
    let typed = stage.world().typing.len();
    let question = stage.ask("what is new?");
    let before = stage.world().request_count;
    stage.run_for(&mut session, 240);
    let requests = stage.world().request_count - before;
    assert!(requests < 60, "{requests} requests");
    assert!(tries(&stage).is_empty());
    assert_eq!(stage.world().typing.len(), typed);
    let lines = lines::taken();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("the state file cannot be written"));
    fs::remove_dir(&blocked).expect("an empty folder");
    stage.run_for(&mut session, 90);
    assert_eq!(stage.answers(&question).len(), 1);
}

#[test]
fn a_folder_without_room_for_the_lock_is_an_error_that_says_so() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "");
    fs::create_dir(stage.folder.path().join("config.state.json.lock")).expect("a folder");
    let exit = try_start(&stage).err().expect("no start");
    assert_eq!(exit.code(), 1);
    assert!(exit.message().contains("state_dir"), "{exit:?}");
    assert_eq!(stage.world().request_count, 0);
}

#[test]
fn a_lost_or_broken_state_file_doubles_nothing_and_brings_no_history_back() {
    type Damage = fn(&str) -> String;
    let damages: [(&str, Damage); 7] = [
        ("lost", |_| String::new()),
        ("a list", |_| "[]".into()),
        ("not JSON", |_| "\0\0\0".into()),
        ("empty", |_| String::new()),
        ("truncated", |text| text[..text.len() / 2].into()),
        ("newer", |text| {
            text.replace("\"version\":1", "\"version\":2")
        }),
        ("another bot's", |text| {
            let mut state: Value = serde_json::from_str(text).expect("a state");
            state["bot"] = "another".into();
            state.to_string()
        }),
    ];
    for (name, damage) in damages {
        let stage = prepared("");
        let answered = stage.ask("before");
        let mut session = start(&stage);
        stage.run_for(&mut session, 10);
        drop(session);
        let text = fs::read_to_string(stage.state_path()).expect("a state file");
        match name {
            "lost" => fs::remove_file(stage.state_path()).expect("a state file"),
            _ => fs::write(stage.state_path(), damage(&text)).expect("a state file"),
        }
        lines::taken();
        let mut session = start(&stage);
        stage.run_for(&mut session, 5);
        let question = stage.ask("after");
        stage.run_for(&mut session, 120);
        assert_eq!(stage.answers(&answered).len(), 1, "{name}");
        assert_eq!(stage.answers(&question).len(), 1, "{name}");
        assert_eq!(own_posts(&stage), 2, "{name}");
        let lines = lines::taken();
        let told = lines.iter().filter(|line| line.contains("state.json"));
        let damaged = name != "lost";
        assert_eq!(told.count(), usize::from(damaged), "{name}: {lines:#?}");
        let aside = stage.folder.path().join("config.state.json.corrupt");
        let is_kept = damaged && name != "another bot's";
        assert_eq!(aside.exists(), is_kept, "{name}");
    }
}

#[test]
fn yesterdays_state_file_doubles_nothing() {
    let stage = prepared("");
    let mut session = start(&stage);
    let mut questions = vec![stage.ask("the first")];
    stage.run_for(&mut session, 90);
    let yesterdays = fs::read(stage.state_path()).expect("a state file");
    // More than one answer of the server shows, and more than the bot catches up with.
    for burst in 0..52 {
        for number in 0..12 {
            questions.push(stage.ask(&format!("{burst}, {number}")));
        }
        stage.run_for(&mut session, 5);
        stage.clock.advance(1_800_000);
    }
    drop(session);
    fs::write(stage.state_path(), yesterdays).expect("a state file");
    questions.push(stage.ask("while it was down"));
    let mut session = start(&stage);
    stage.run_for(&mut session, 90);
    questions.push(stage.ask("after"));
    stage.run_for(&mut session, 90);
    for (number, question) in questions.iter().enumerate() {
        assert_eq!(
            stage.answers(question).len(),
            1,
            "{number} of {}",
            questions.len()
        );
    }
}

/// A machine whose calendar is wrong.
struct Wrong(SimClock, Arc<AtomicI64>);

impl Clock for Wrong {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn today(&self) -> SystemTime {
        let shift = self.1.load(Ordering::SeqCst);
        let (today, days) = (self.0.today(), Duration::from_secs(shift.unsigned_abs()));
        if shift < 0 {
            today - days
        } else {
            today + days
        }
    }
}

#[test]
fn the_local_calendar_decides_nothing() {
    let stage = prepared("");
    let year = 366 * 86_400;
    let shift = Arc::new(AtomicI64::new(0));
    let wrong = Rc::new(Wrong(stage.clock.clone(), shift.clone()));
    let mut session = start_as(&stage, wrong, false).expect("a start");
    for wrong in [0, -year, year, 0] {
        shift.store(wrong, Ordering::SeqCst);
        let question = stage.ask("what day is it?");
        stage.run_for(&mut session, 90);
        assert_eq!(stage.answers(&question).len(), 1, "{wrong}");
    }
}

#[test]
fn a_channel_that_cannot_be_read_does_not_hold_up_the_others() {
    let (stage, mut session) = running("");
    let broken = stage.add_channel("broken");
    stage.run_for(&mut session, 3);
    let path = format!("/channels/{broken}/posts?since");
    stage.fail(
        Fault::Error(500, "app.post.get_posts_since.app_error"),
        move |request| request.target.contains(&path),
    );
    stage.clock.advance(10);
    let held_up = stage.world().post(&stage.ann.id, &broken, "here?");
    stage.run_for(&mut session, 30);
    let question = stage.ask("and here?");
    stage.run_for(&mut session, 90);
    assert_eq!(stage.answers(&question).len(), 1);
    stage.mattermost.serve_all();
    stage.run_for(&mut session, 90);
    assert_eq!(stage.answers(&held_up).len(), 1);
}

#[test]
fn a_question_that_cannot_be_looked_up_holds_up_the_others_for_minutes_only() {
    // What fails about it, whether it is answered all the same, and whether something is left out.
    let following = "mention_only = true\nfollow_threads = true";
    let cases = [
        ("/thread", "", true, 1),
        ("/posts?page=0", "thread_replies = false", true, 1),
        ("/posts/{question}", "", true, 0),
        ("/thread", following, false, 1),
    ];
    for (path, settings, answered, left_out) in cases {
        let (stage, mut session) = running(settings);
        let mut world = stage.world();
        let root = world.post(&stage.bot.id, &stage.channel, "by hand");
        let draft = world.draft(&stage.ann.id, &stage.channel, "here?");
        let question = match path {
            "/thread" => draft.root(&root).post(),
            _ => draft.post(),
        };
        drop(world);
        let failing = path.replace("{question}", &question);
        let mut waits = true;
        stage.mattermost.on_request(move |request, _| {
            if api_path(request) == "users/me/typing" && std::mem::take(&mut waits) {
                let id = "api.context.session_expired.app_error";
                return Act::Instead(Fault::Error(401, id));
            }
            match request.target.contains(&failing) && !request.target.contains("after=") {
                true => Act::Instead(Fault::Error(500, "app.post.get.app_error")),
                false => Act::Serve,
            }
        });
        stage.clock.advance(5_000);
        let other = stage.ask("@prxbot and here?");
        stage.run_for(&mut session, 200);
        assert!(stage.answers(&question).is_empty(), "{path}");
        stage.run_for(&mut session, 300);
        assert_eq!(!stage.answers(&question).is_empty(), answered, "{path}");
        if path != "/posts?page=0" {
            assert_eq!(stage.answers(&other).len(), 1, "{path}");
        }
        let lines = lines::taken();
        let told = lines.iter().filter(|line| line.contains("left out"));
        assert_eq!(told.count(), left_out, "{path}: {lines:#?}");
    }
}

#[test]
fn a_limit_that_was_lowered_meanwhile_splits_the_answer_anew() {
    for version in [Version::V5_37, Version::V11_6] {
        let clock = SimClock::new();
        let stage = Stage::new(Time::Sim(clock.clone()), clock, version);
        let stage = prepare(stage, "");
        let mut session = start(&stage);
        stage.run_for(&mut session, 3);
        stage.clock.advance(10);
        let question = stage.ask(&"word ".repeat(1000));
        stage.world().knobs.max_post_size = 1500;
        stage.run_for(&mut session, 30);
        let parts = stage.answers(&question);
        assert_eq!(parts.len(), 4, "{version:?}: {parts:?}");
        assert_eq!(parts.join(" ").matches("word").count(), 1000);
    }
}

/// Refuses so many posts.
fn refuse_posts(stage: &Stage, mut count: usize, status: u16, id: &'static str) {
    stage.mattermost.on_request(move |request, _| {
        if count > 0 && is_new_post(request) {
            count -= 1;
            return Act::Instead(Fault::Error(status, id));
        }
        Act::Serve
    });
}

#[test]
fn an_answer_that_the_server_does_not_take_becomes_a_short_message() {
    let (plugin, archived) = (
        "plugin.too_rude",
        "api.post.create_post.can_not_post_to_deleted.error",
    );
    // How many posts are refused, how often it is tried, and whether the person is told.
    let cases = [
        (plugin, 1, 2, true),
        (plugin, 2, 2, false),
        (archived, 1, 1, false),
    ];
    for (id, refused, tried, told) in cases {
        let stage = prepared("");
        refuse_posts(&stage, refused, 400, id);
        let question = stage.ask("what is new?");
        let mut session = start(&stage);
        stage.run_for(&mut session, 120);
        assert_eq!(tries(&stage).len(), tried, "{id}, {refused}");
        let answers = stage.answers(&question).concat();
        let expected = match told {
            true => "Sorry, my answer cannot be posted here: the server refuses it.",
            false => "",
        };
        assert_eq!(answers, expected, "{refused}");
        let next = stage.ask("and now?");
        stage.run_for(&mut session, 10);
        assert_eq!(stage.answers(&next).len(), 1, "{id}, {refused}");
    }
}

#[test]
fn an_answer_that_may_not_be_posted_for_a_while_is_kept_until_it_may() {
    for settings in ["", "channel_id = \"{channel}\""] {
        let (stage, model) = with_slow_model(settings);
        refuse_posts(&stage, 3, 403, "api.context.permissions.app_error");
        let question = stage.ask("what is new?");
        let mut session = start(&stage);
        lines::taken();
        stage.run_for(&mut session, 300);
        assert_eq!(stage.answers(&question).len(), 1, "{settings}");
        assert_eq!(model.bodies().len(), 1, "{settings}");
        let at: Vec<u64> = tries(&stage).iter().map(|(at, _, _)| *at).collect();
        let apart = at.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(apart.min() >= Some(60_000) && at.len() == 4, "{at:?}");
        let lines = lines::taken();
        assert_eq!(lines.len(), 3, "{settings}: {lines:#?}");
        assert!(lines[0].contains("is closed to the bot"), "{lines:#?}");
        assert!(lines[1].contains("is open again"), "{lines:#?}");
    }
}

#[test]
fn an_answer_that_cannot_be_delivered_holds_up_the_others_for_minutes_only() {
    // Whether the server never takes the post, or took none and does not say so.
    for listing in [false, true] {
        let stage = prepared("");
        let other = stage.add_channel("other");
        let mut session = start(&stage);
        stage.run_for(&mut session, 90);
        lines::taken();
        let (path, channel) = (
            format!("/channels/{}/posts", stage.channel),
            stage.channel.clone(),
        );
        let mut tried = false;
        stage.mattermost.on_request(move |request, _| {
            let here = String::from_utf8_lossy(&request.body).contains(&channel);
            let fails = match is_new_post(request) && here {
                true => !std::mem::replace(&mut tried, true) || !listing,
                false => tried && listing && request.target.contains(&path),
            };
            match fails {
                true => Act::Instead(Fault::Error(500, "app.post.save.app_error")),
                false => Act::Serve,
            }
        });
        stage.clock.advance(10);
        let question = stage.ask("what is new?");
        stage.run_for(&mut session, 10);
        let elsewhere = stage.world().post(&stage.ann.id, &other, "and here?");
        stage.run_for(&mut session, 500);
        assert_eq!(stage.answers(&elsewhere).len(), 1, "{listing}");
        stage.run_for(&mut session, 3600);
        let lines = lines::taken();
        assert!(lines.len() <= 5, "{listing}: {lines:#?}");
        stage.mattermost.serve_all();
        stage.run_for(&mut session, 300);
        assert_eq!(stage.answers(&question).len(), 1, "{listing}");
    }
}

#[test]
fn an_excuse_in_the_midst_of_an_answer_outlives_a_restart() {
    for fault in [Fault::RateLimited(5), Fault::Close, Fault::Html(502)] {
        let stage = prepared("");
        stage.world().knobs.max_post_size = 1500;
        let mut session = start(&stage);
        stage.run_for(&mut session, 3);
        let (mut count, name) = (0, format!("{fault:?}"));
        stage.mattermost.on_request(move |request, _| {
            count += usize::from(is_new_post(request));
            match count {
                2 if is_new_post(request) => Act::Instead(Fault::Error(400, "plugin.too_rude")),
                3 if is_new_post(request) => Act::Instead(fault.clone()),
                _ => Act::Serve,
            }
        });
        stage.clock.advance(10);
        let question = stage.ask(&"word ".repeat(1000));
        while tries(&stage).len() < 3 {
            session.step().expect("no reason to exit");
        }
        drop(session);
        let mut session = start(&stage);
        stage.run_for(&mut session, 300);
        let answers = stage.answers(&question);
        assert_eq!(answers.len(), 2, "{name}: {answers:?}");
        assert!(answers[1].starts_with("Sorry"), "{name}: {answers:?}");
        // It is the end of the answer also for a bot that has lost its state.
        drop(session);
        fs::remove_file(stage.state_path()).expect("a state file");
        let mut session = start(&stage);
        stage.run_for(&mut session, 30);
        assert_eq!(stage.answers(&question).len(), 2, "{name}");
    }
}

#[test]
fn with_once_a_question_that_cannot_be_looked_up_holds_up_its_own_channel_only() {
    let (stage, mut session) = running("");
    let other = stage.add_channel("other");
    stage.run_for(&mut session, 90);
    drop(session);
    let root = stage.world().post(&stage.bot.id, &stage.channel, "by hand");
    let question = stage.reply(&root, "here?");
    stage.fail(
        Fault::Error(500, "app.post.get.app_error"),
        move |request| request.target.contains("/thread"),
    );
    stage.clock.advance(10);
    let held_up = stage.world().post(&stage.ann.id, &other, "and here?");
    for _ in 0..60 {
        stage.clock.advance(60_000);
        let clock = Rc::new(stage.clock.clone());
        let mut session = start_as(&stage, clock, true).expect("a start");
        for _ in 0..100 {
            match session.step() {
                Ok(true) | Err(_) => break,
                Ok(false) => {}
            }
        }
    }
    assert_eq!(stage.answers(&held_up).len(), 1, "the other");
    stage.mattermost.serve_all();
    let mut session = start(&stage);
    stage.run_for(&mut session, 10);
    assert_eq!(stage.answers(&question).len(), 1, "itself");
}

#[test]
fn what_is_known_of_a_post_on_a_later_page_outlives_a_held_answer() {
    let stage = prepared("");
    let other = stage.add_channel("other");
    let mut session = start(&stage);
    stage.run_for(&mut session, 90);
    drop(session);
    let question = stage.ask("what is new?");
    stage.clock.advance(10_000);
    let many = stage.world().post_many(&stage.ann.id, &other, 1100, 5);
    // The last one ended three runs.
    let ending = stage.world().post_by_id(&many[1099]);
    let mut state: Value = serde_json::from_str(&read_state(&stage)).expect("JSON");
    state["journal"] =
        json!({"post": ending.id, "channel": other, "create_at": ending.create_at, "attempts": 3});
    fs::write(stage.state_path(), state.to_string()).expect("a state file");
    let (mut refused, clock) = (false, stage.clock.clone());
    stage.mattermost.on_request(move |request, _| {
        if is_new_post(request) {
            clock.advance(1_000);
            if !std::mem::replace(&mut refused, true) {
                return Act::Instead(Fault::Error(403, "api.context.permissions.app_error"));
            }
        }
        Act::Serve
    });
    let mut session = start(&stage);
    stage.run_for(&mut session, 1500);
    assert_eq!(stage.answers(&question).len(), 1);
    let apology = stage.answers(&ending.id).concat();
    assert!(
        apology.starts_with("Sorry, something went wrong"),
        "{apology}"
    );
}

#[test]
fn an_answer_that_was_taken_but_cannot_be_found_for_long_is_not_doubled() {
    // Of one part and of several; and whether the bot is started anew meanwhile.
    for (long, restarted) in [(false, false), (false, true), (true, false), (true, true)] {
        let stage = prepared("");
        stage.world().knobs.max_post_size = 1500;
        let other = stage.add_channel("other");
        let mut session = start(&stage);
        stage.run_for(&mut session, 90);
        let (path, channel) = (
            format!("/channels/{}/posts", stage.channel),
            stage.channel.clone(),
        );
        let mut tried = false;
        stage.mattermost.on_request(move |request, _| {
            let here = String::from_utf8_lossy(&request.body).contains(&channel);
            match is_new_post(request) && here {
                true => {
                    tried = true;
                    Act::ServeThen(Fault::Html(502))
                }
                false if tried && request.target.contains(&path) => Act::Instead(Fault::Html(502)),
                false => Act::Serve,
            }
        });
        stage.clock.advance(10);
        let question = stage.ask(&"word ".repeat(if long { 1000 } else { 1 }));
        let second = stage.ask("and what else?");
        stage.run_for(&mut session, 10);
        let elsewhere = stage.world().post(&stage.ann.id, &other, "and here?");
        stage.run_for(&mut session, 500);
        assert_eq!(stage.answers(&elsewhere).len(), 1, "{long} {restarted}");
        if restarted {
            drop(session);
            session = start(&stage);
        }
        stage.run_for(&mut session, 300);
        stage.mattermost.serve_all();
        stage.run_for(&mut session, 300);
        let answers = stage.answers(&question);
        assert_eq!(
            answers.len(),
            if long { 4 } else { 1 },
            "{long} {restarted}: {:?}",
            tries(&stage)
        );
        assert_eq!(stage.answers(&second).len(), 1, "{long} {restarted}");
    }
}

#[test]
fn a_limit_that_is_lowered_between_two_parts_repeats_no_text() {
    let stage = prepared("");
    stage.world().knobs.max_post_size = 4000;
    let mut session = start(&stage);
    stage.run_for(&mut session, 3);
    stage.clock.advance(10);
    let text: Vec<String> = (0..2000).map(|n| format!("w{n}")).collect();
    let question = stage.ask(&text.join(" "));
    let mut count = 0;
    stage.mattermost.on_request(move |request, world| {
        count += usize::from(is_new_post(request));
        if count == 2 {
            world.knobs.max_post_size = 1500;
        }
        Act::Serve
    });
    stage.run_for(&mut session, 60);
    let answer = stage.answers(&question).join(" ");
    let words: Vec<&str> = answer
        .split_whitespace()
        .filter(|word| word.starts_with('w'))
        .collect();
    assert_eq!(words, text, "{:?}", tries(&stage));
}

#[test]
fn any_row_of_refusals_lost_answers_and_restarts_leaves_one_answer_to_each_question() {
    for seed in 1..5u64 {
        let stage = prepared("");
        stage.world().knobs.max_post_size = 1500;
        let other = stage.add_channel("other");
        let mut session = start(&stage);
        stage.run_for(&mut session, 90);
        let random = Arc::new(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
        let roll = move |n: u64| {
            let mut state = random.lock().expect("a lock");
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *state % n
        };
        let dice = roll.clone();
        stage.mattermost.on_request(move |request, _| {
            let listing = request.target.contains("/posts?");
            if is_new_post(request) {
                match dice(if seed % 2 == 0 { 8 } else { 5 }) {
                    0 => Act::Instead(Fault::Error(403, "api.context.permissions.app_error")),
                    1 => Act::Instead(Fault::Error(500, "app.post.save.app_error")),
                    2 => Act::ServeThen(Fault::Html(502)),
                    3 => Act::ServeThen(Fault::Close),
                    4 => Act::Instead(Fault::RateLimited(3)),
                    _ => Act::Serve,
                }
            } else if listing && dice(8) == 0 {
                Act::Instead(Fault::Html(502))
            } else {
                Act::Serve
            }
        });
        let mut questions = Vec::new();
        for _ in 0..8 {
            stage.clock.advance(10);
            let words = if roll(3) == 0 { 600 } else { 2 };
            let channel = if roll(2) == 0 { &stage.channel } else { &other };
            let text = "word ".repeat(words);
            questions.push(stage.world().post(&stage.ann.id, channel, &text));
            stage.run_for(&mut session, roll(1200));
            if roll(2) == 0 {
                drop(session);
                session = start(&stage);
            }
        }
        stage.mattermost.serve_all();
        stage.run_for(&mut session, 600);
        for question in &questions {
            let answers = stage.answers(question);
            let long = stage.world().post_by_id(question).message.len() > 100;
            assert_eq!(
                answers.len(),
                if long { 3 } else { 1 },
                "{seed}: {:?} {answers:?}",
                questions
            );
        }
    }
}
