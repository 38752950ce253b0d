//! `cargo bench`: what the program costs, against its goals, in one table; with `--json` for keeping.
//! Words after `--` choose parts of it. It measures the binary of `$PRX_BIN`, else the release build.
//! It fails if a goal is missed or cannot be measured.

#[allow(dead_code)] // The tests use the rest.
#[path = "mod.rs"]
mod support;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prx::http::{Agent, Body, Call};
use serde_json::{Value, json};
use support::bot::Stage;
use support::desk::Play;
use support::footprint::{
    Goal, POLL, Process, Rig, Row, Seen, Setup, counts, processor_time, size,
};
use support::mattermost::Act;
use support::mattermost::picture::png;
use support::soak::Costs as SoakCosts;
use support::wire::lock;

/// Polls that a figure of processor time is from, and how many of them are measured together.
const POLLS: usize = 60;
const GROUP: usize = 5;
/// Polls after which musl's allocator knows its sizes, and maps and unmaps no more pages.
const SETTLED: usize = 300;

/// A part of the table.
type Part = fn() -> Vec<Row>;

fn main() {
    let as_json = std::env::args().any(|argument| argument == "--json");
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let parts: [(&str, Part); 14] = [
        ("size", || vec![size()]),
        ("memory", memory),
        ("processor", processor),
        ("calls", system_calls),
        ("counts", counts),
        ("latency", latency),
        ("workers", workers),
        ("waits", waits),
        ("pictures", pictures),
        ("growing", || vec![growing()]),
        ("backlog", backlog),
        ("growth", growth),
        ("soak", soak),
        ("lock", second_instance),
    ];
    let mut rows = Vec::new();
    for (name, part) in parts {
        if !chosen.is_empty() && !chosen.iter().any(|chosen| chosen == name) {
            continue;
        }
        for row in part() {
            if !as_json {
                print_row(&row);
            }
            rows.push(row);
        }
    }
    if as_json {
        let rows: Vec<Value> = rows.iter().map(to_json).collect();
        println!("{:#}", Value::from(rows));
    }
    let missed = rows.iter().filter(|row| !row.is_met()).count();
    if missed > 0 {
        eprintln!("{missed} of {} goals are not met", rows.len());
        std::process::exit(1);
    }
}

fn print_row(row: &Row) {
    let sign = match row.goal {
        Goal::AtMost(goal) => format!("≤ {}", number(goal)),
        Goal::AtLeast(goal) => format!("≥ {}", number(goal)),
    };
    let verdict = if row.is_met() { "" } else { "MISSED" };
    let measured = match &row.measured {
        Ok(measured) => format!("{} {}", number(*measured), row.unit),
        Err(why) => format!("not measured: {why}"),
    };
    println!(
        "{:<46} {measured:>18} {sign:>12} {verdict:<7} {}",
        row.what, row.beside
    );
}

fn number(value: f64) -> String {
    match value {
        _ if value == value.round() => format!("{value}"),
        _ if value < 10.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

fn to_json(row: &Row) -> Value {
    let (at_most, at_least) = match row.goal {
        Goal::AtMost(goal) => (Some(goal), None),
        Goal::AtLeast(goal) => (None, Some(goal)),
    };
    json!({
        "what": row.what,
        "unit": row.unit,
        "measured": row.measured.as_ref().ok(),
        "not_measured": row.measured.as_ref().err(),
        "at_most": at_most,
        "at_least": at_least,
        "met": row.is_met(),
        "beside": row.beside,
    })
}

fn megabytes(what: &'static str, goal: f64, bytes: Option<f64>) -> Row {
    let measured = bytes.map(|bytes| bytes / 1e6);
    Row {
        measured: measured.ok_or_else(|| "/proc does not tell".into()),
        ..Row::at_most(what, "MB", goal, 0.0)
    }
}

fn memory() -> Vec<Row> {
    let after_answers = |what, goal, channels| {
        let rig = Rig::new(&Setup {
            tls: true,
            model: true,
            channels,
            poll: POLL / 2,
            ..Setup::default()
        });
        let process = rig.spawn();
        rig.settle();
        let fresh = process.resident().unwrap_or_default() / 1e6;
        for round in 0..100 {
            // What was handled more than a minute before is forgotten.
            rig.stage.world().clock_offset_ms += 61_000;
            let mut last = String::new();
            for number in 0..10 {
                let channel = &rig.channels[(round * 10 + number) % rig.channels.len()];
                let text = format!("message {round} {number}");
                last = rig.stage.world().post(&rig.stage.ann.id, channel, &text);
            }
            rig.stage.wait_for_answer(&last);
        }
        rig.wait_polls(5);
        let file = size().measured.unwrap_or_default() / 1e6;
        megabytes(what, goal, process.resident()).beside(format!(
            "{fresh:.2} before the first message; the file, which is mapped whole: {file:.2}"
        ))
    };
    vec![
        after_answers("resident, TLS, after 1000 answers, 10 a minute", 1.95, 1),
        after_answers("the same in 200 channels", 2.3, 200),
        peak(),
    ]
}

fn peak() -> Row {
    let rig = Rig::new(&Setup {
        tls: true,
        model: true,
        answer_chars: 16_000,
        ..Setup::default()
    });
    let root = rig.ask(None);
    let mut world = rig.stage.world();
    for author in [&rig.stage.ann.id, &rig.stage.bot.id].repeat(8) {
        let draft = world.draft(author, &rig.stage.channel, &"word ".repeat(200));
        draft.root(&root).post();
    }
    drop(world);
    let process = rig.spawn();
    rig.settle();
    let question = rig.ask(Some(&root));
    rig.stage.wait_for_answer(&question);
    let asked = rig.model.take();
    let asked = asked.last().map_or(0, |seen| seen.request.body.len());
    megabytes(
        "peak, a thread of 16,000 characters, streamed",
        4.0,
        process.peak(),
    )
    .beside(format!("the model was asked with {asked} bytes"))
}

/// Per idle poll at the default interval: of the program, and of a bare socket that sends the same
/// bytes as often, at the same time.
fn processor() -> Vec<Row> {
    const WHAT: &str = "processor time per idle poll, in a bare socket's";
    const INTERVAL: Duration = Duration::from_secs(1);
    let setup = Setup {
        poll: INTERVAL,
        ..Setup::default()
    };
    let rig = Rig::new(&setup);
    let process = rig.spawn();
    rig.settle();
    let bytes = raw_request(&rig.server.take().pop().expect("a poll"));
    let other = Rig::new(&setup);
    let both = std::thread::scope(|scope| {
        let raw = scope.spawn(|| raw_polls(&other, &bytes, INTERVAL));
        let poll = idle_poll(&rig, &process);
        (poll, raw.join().expect("no panic"))
    });
    let (Some(poll), Some(raw)) = both else {
        return vec![missing(WHAT, 2.5)];
    };
    let ratio = poll.as_secs_f64() / raw.as_secs_f64();
    vec![Row::at_most(WHAT, "", 2.5, ratio).beside(format!("{poll:.0?} against {raw:.0?}"))]
}

fn missing(what: &'static str, goal: f64) -> Row {
    Row {
        measured: Err("/proc/PID/schedstat does not tell".into()),
        ..Row::at_most(what, "", goal, 0.0)
    }
}

/// The processor time of an idle poll: the median of several groups' means, since one poll of many
/// is not idle: it asks for the whole list, or the machine had something else to do.
fn idle_poll(rig: &Rig, process: &Process) -> Option<Duration> {
    let mut means = Vec::new();
    for _ in 0..POLLS / GROUP {
        rig.server.take();
        let before = process.processor()?;
        rig.wait_polls(GROUP);
        let spent = process.processor()? - before;
        means.push(spent / rig.server.polls() as u32);
    }
    Some(median(means))
}

fn raw_polls(rig: &Rig, request: &[u8], interval: Duration) -> Option<Duration> {
    let mut stream = TcpStream::connect(rig.server.wire.address).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; 16 * 1024];
    let time = || {
        let path = "/proc/thread-self/schedstat";
        processor_time(&std::fs::read_to_string(path).ok()?)
    };
    let mut means = Vec::new();
    for _ in 0..POLLS / GROUP {
        let before = time()?;
        for _ in 0..GROUP {
            stream.write_all(request).ok()?;
            let count = stream.read(&mut buffer).ok()?;
            assert!(count > 0, "the stand-in answers");
            std::thread::sleep(interval);
        }
        means.push((time()? - before) / GROUP as u32);
    }
    Some(median(means))
}

/// A request as it stood on the wire, but for its headers' order.
fn raw_request(seen: &Seen) -> Vec<u8> {
    let request = &seen.request;
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend(&request.body);
    bytes
}

/// By `strace`'s count, with a host that has to be looked up.
fn system_calls() -> Vec<Row> {
    const WHAT: &str = "system calls per idle poll";
    let rig = Rig::new(&Setup {
        poll: POLL / 2,
        ..Setup::default()
    });
    let process = rig.spawn();
    rig.wait_polls(SETTLED);
    let table = rig.stage.folder.path().join("strace.txt");
    let strace = Command::new("strace")
        .args(["-c", "-f", "-o"])
        .arg(&table)
        .args(["-p", &process.id().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut strace = match strace {
        Ok(strace) => strace,
        Err(error) => {
            return vec![Row {
                measured: Err(format!("strace: {error}")),
                ..Row::at_most(WHAT, "", 8.0, 0.0)
            }];
        }
    };
    // Attached: the first poll after this is counted.
    rig.wait_polls(5);
    rig.server.take();
    rig.wait_polls(30);
    let polls = rig.server.polls() as f64 + 5.0;
    let _ = Command::new("kill")
        .args(["-INT", &strace.id().to_string()])
        .status();
    let _ = strace.wait();
    let text = std::fs::read_to_string(&table).unwrap_or_default();
    let total = text
        .lines()
        .rev()
        .find(|line| line.trim_end().ends_with("total"));
    // % time, seconds, usecs/call, calls, errors, syscall
    let calls = total.and_then(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok());
    let names: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(|c: char| c == ' ' || c.is_ascii_digit()))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    vec![
        Row {
            measured: calls
                .map(|calls| calls / polls)
                .ok_or_else(|| "strace counted nothing; may it trace?".into()),
            ..Row::at_most(WHAT, "", 8.0, 0.0)
        }
        .beside(names.join(" ")),
    ]
}

fn latency() -> Vec<Row> {
    let mut rows = vec![
        first_request("start to first request, http", false),
        first_request("start to first request, TLS", true),
    ];
    let rig = Rig::new(&Setup {
        model: true,
        poll: POLL / 2,
        ..Setup::default()
    });
    let _process = rig.spawn();
    rig.settle();
    let (mut to_typing, mut to_post) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        // What was said more than a minute before is not read again.
        rig.stage.world().clock_offset_ms += 61_000;
        rig.server.take();
        let question = rig.ask(None);
        rig.stage.wait_for_answer(&question);
        rig.wait_polls(2);
        let end = lock(&rig.model_ends).last().copied();
        let seen = rig.server.take();
        let typing = seen
            .iter()
            .position(|seen| seen.is("POST", "/users/me/typing"))
            .expect("typing is shown");
        let poll = seen[..typing]
            .iter()
            .rposition(Seen::is_probe)
            .expect("a poll");
        // The read in between is the server's time, not the program's.
        let reads = seen[poll + 1..typing]
            .iter()
            .map(|seen| seen.answered - seen.arrived)
            .sum();
        let between = seen[typing].arrived - seen[poll].answered;
        to_typing.push(between.saturating_sub(reads));
        let post = seen.iter().find(|seen| seen.is("POST", "/posts"));
        to_post.push(post.expect("an answer").arrived - end.expect("a model's answer"));
    }
    let round_trip = round_trip(&rig);
    rows.push(
        milliseconds("poll's response to typing, with the read", 1.0, to_typing)
            .beside(format!("a bare socket's exchange takes {round_trip:.0?}")),
    );
    rows.push(
        milliseconds("model's last byte to the post", 2.0, to_post)
            .beside(format!("a bare socket's exchange takes {round_trip:.0?}")),
    );
    rows
}

/// How long the model takes where several ask at once.
const MODEL_TAKES: Duration = Duration::from_secs(5);

/// Several answers at once: how long the last person waits, and what a worker costs.
fn workers() -> Vec<Row> {
    vec![
        last_of_eight("8 ask at once, 8 answered at once: last to one", 1.3, 8),
        last_of_eight("8 ask at once, 4 answered at once: last to one", 2.2, 4),
        worker_start(),
        worker_memory(),
        loop_peak(),
    ]
}

fn last_of_eight(what: &'static str, goal: f64, at_once: usize) -> Row {
    let rig = Rig::new(&Setup {
        model: true,
        at_once,
        ..Setup::default()
    });
    *lock(&rig.model_takes) = MODEL_TAKES;
    let _process = rig.spawn();
    rig.settle();
    let answered = |questions: &[String]| {
        let begun = Instant::now();
        for question in questions {
            rig.stage.wait_for_answer(question);
        }
        begun.elapsed().as_secs_f64()
    };
    let one = answered(&[rig.ask(None)]);
    let questions: Vec<String> = (0..8).map(|_| rig.ask(None)).collect();
    Row::at_most(what, "", goal, answered(&questions) / one).beside(format!("one takes {one:.1} s"))
}

/// From the request that shows "typing", before which the conversation is known, to the model.
fn worker_start() -> Row {
    let rig = Rig::new(&Setup {
        model: true,
        poll: POLL / 2,
        ..Setup::default()
    });
    let _process = rig.spawn();
    rig.settle();
    let times = (0..20).map(|_| {
        rig.server.take();
        rig.model.take();
        let question = rig.ask(None);
        rig.stage.wait_for_answer(&question);
        let seen = rig.server.take();
        let typing = seen
            .iter()
            .rfind(|seen| seen.is("POST", "/users/me/typing"));
        let asked = rig.model.take();
        let arrived = asked.first().expect("a question").arrived;
        arrived.saturating_duration_since(typing.expect("typing is shown").answered)
    });
    milliseconds(
        "typing to the worker's request at the model, http",
        5.0,
        times.collect(),
    )
}

fn worker_memory() -> Row {
    const WHAT: &str = "a worker at work, TLS: memory of its own";
    let rig = Rig::new(&Setup {
        tls: true,
        model: true,
        ..Setup::default()
    });
    *lock(&rig.model_takes) = MODEL_TAKES;
    let process = rig.spawn();
    rig.settle();
    let question = rig.ask(None);
    let end = Instant::now() + MODEL_TAKES;
    while rig.model.is_silent() && Instant::now() < end {
        std::thread::sleep(POLL / 10);
    }
    let private = process.children().first().and_then(Process::private);
    rig.stage.wait_for_answer(&question);
    let kb = private.map(|bytes| bytes / 1000.0);
    Row {
        measured: kb.ok_or_else(|| "/proc does not tell".into()),
        ..Row::at_most(WHAT, "kB", 700.0, 0.0)
    }
}

fn loop_peak() -> Row {
    let rig = Rig::new(&Setup {
        tls: true,
        model: true,
        answer_chars: 100_000,
        at_once: 8,
        ..Setup::default()
    });
    let process = rig.spawn();
    rig.settle();
    let questions: Vec<String> = (0..8).map(|_| rig.ask(None)).collect();
    for question in &questions {
        rig.stage.wait_for_answer(question);
    }
    rig.wait_polls(20);
    megabytes(
        "peak, 8 answers of 100,000 characters at once",
        5.0,
        process.peak(),
    )
}

/// How long something may go unseen while answers are made. The worst of several is counted.
fn waits() -> Vec<Row> {
    vec![typing_gap(), death_noticed(), orphan_end(), look_gap()]
}

fn seconds(what: &'static str, goal: f64, times: impl IntoIterator<Item = Duration>) -> Row {
    let worst = times.into_iter().max().expect("a time");
    Row::at_most(what, "s", goal, worst.as_secs_f64())
}

/// Until then, but not without an end.
fn wait_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + MODEL_TAKES * 6;
    while !done() && Instant::now() < end {
        std::thread::sleep(POLL / 20);
    }
}

/// Clients show "typing" for some seconds.
fn typing_gap() -> Row {
    let rig = Rig::new(&Setup {
        model: true,
        ..Setup::default()
    });
    *lock(&rig.model_takes) = MODEL_TAKES * 4;
    let _process = rig.spawn();
    rig.settle();
    rig.server.take();
    let question = rig.ask(None);
    let asked = Instant::now();
    rig.stage.wait_for_answer(&question);
    let answered = Instant::now();
    let seen = rig.server.take();
    let typings = seen.iter().filter(|it| it.is("POST", "/users/me/typing"));
    let in_thread =
        typings.filter(|it| String::from_utf8_lossy(&it.request.body).contains(&question));
    let mut times: Vec<Instant> = in_thread.map(|it| it.arrived).collect();
    times.extend([asked, answered]);
    times.sort();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    seconds("longest without \"typing\" in 20 s of an answer", 6.0, gaps)
}

/// A rig whose bot is at work on a question, and does not poll for an hour: the bot and its worker.
fn at_work() -> (Rig, Process, Process) {
    let quick = Setup {
        model: true,
        ..Setup::default()
    };
    let rig = Rig::new(&quick);
    *lock(&rig.model_takes) = MODEL_TAKES * 4;
    let process = rig.spawn();
    rig.settle();
    drop(process);
    let poll = Duration::from_secs(3600);
    rig.configure(&Setup { poll, ..quick }, None);
    rig.ask(None);
    let process = rig.spawn();
    wait_until(|| !rig.model.is_silent());
    let worker = process.children().pop().expect("a worker");
    (rig, process, worker)
}

/// Until another worker asks the model.
fn death_noticed() -> Row {
    let times = (1..4).map(|number| {
        let (rig, _process, worker) = at_work();
        rig.model.take();
        std::thread::sleep(POLL * 8 * number);
        let killed = Instant::now();
        worker.kill();
        wait_until(|| !rig.model.is_silent());
        killed.elapsed()
    });
    seconds("a worker that died unheard is replaced after", 4.0, times)
}

fn orphan_end() -> Row {
    let times = (1..4).map(|number| {
        let (_rig, process, worker) = at_work();
        std::thread::sleep(POLL * 3 * number);
        let killed = Instant::now();
        drop(process);
        wait_until(|| worker.is_gone());
        killed.elapsed()
    });
    seconds("a worker whose loop was killed ends after", 2.0, times)
}

/// From the end of a look to the next, where each request takes the server 10 s; in simulated time.
fn look_gap() -> Row {
    let stage = Stage::simulated();
    let settings = "allowed_users = [\"*\"]\nanswers_at_once = 8";
    stage.configure("default_provider = \"echo\"", settings);
    stage.clock.advance(5_000);
    let mut session = stage.start();
    stage.run_for(&mut session, 3);
    stage.desk.takes(60_000);
    let looks = Arc::new(Mutex::new(Vec::new()));
    let (clock, seen) = (stage.clock.clone(), looks.clone());
    stage.mattermost.on_request(move |request, _| {
        let begun = clock.elapsed_ms();
        clock.advance(10_000);
        if request.target.contains("/teams") {
            lock(&seen).push((begun, clock.elapsed_ms()));
        }
        Act::Serve
    });
    stage.clock.advance(1);
    let questions: Vec<String> = (0..8).map(|_| stage.ask("how are you?")).collect();
    let answered = || {
        questions
            .iter()
            .all(|question| !stage.answers(question).is_empty())
    };
    let mut minutes = 0;
    while !answered() && minutes < 100 {
        stage.run_for(&mut session, 60);
        minutes += 1;
    }
    assert!(answered(), "8 answers in {minutes} minutes");
    let looks = lock(&looks);
    let gaps = looks
        .windows(2)
        .map(|pair| pair[1].0.saturating_sub(pair[0].1));
    let gaps = gaps.map(Duration::from_millis);
    seconds("between two looks, 8 answers, 10 s a request", 11.0, gaps)
        .beside(format!("{} looks in {minutes} minutes", looks.len()))
}

/// As many and as large pictures as the model is shown at once by default, to pass on.
fn pictures() -> Vec<Row> {
    const COUNT: usize = 4;
    const BYTES: usize = 5_000_000;
    let rig = Rig::new(&Setup {
        tls: true,
        model: true,
        ..Setup::default()
    });
    *lock(&rig.model_takes) = MODEL_TAKES;
    let process = rig.spawn();
    rig.settle();
    let question = rig.ask(None);
    rig.stage.wait_for_answer(&question);
    let before = process.peak();
    rig.model.take();
    let mut picture = png(640, 480);
    picture.resize(BYTES, 0);
    let mut world = rig.stage.world();
    let draft = world.draft(&rig.stage.ann.id, &rig.stage.channel, "What is this?");
    let question = (0..COUNT)
        .fold(draft, |draft, number| {
            // Of what has no picture's name the server makes no smaller preview.
            draft.attach(&format!("picture{number}"), &picture)
        })
        .post();
    drop(world);
    let end = Instant::now() + MODEL_TAKES * 6;
    while rig.model.is_silent() && Instant::now() < end {
        std::thread::sleep(POLL / 10);
    }
    let worker = process.children().first().and_then(Process::peak);
    rig.stage.wait_for_answer(&question);
    let after = process.peak();
    let asked = rig.model.take();
    let asked = asked.last().map_or(0, |seen| seen.request.body.len());
    let before = before.unwrap_or_default() / 1e6;
    vec![
        megabytes(
            "peak of a worker with 4 pictures of 5 MB, TLS",
            40.0,
            worker,
        )
        .beside(format!("the model was asked with {asked} bytes")),
        megabytes("peak of the loop with them", 4.0, after)
            .beside(format!("{before:.2} MB without")),
    ]
}

/// How often the post of an answer that takes a minute is edited, in simulated time.
fn growing() -> Row {
    const SECS: u64 = 60;
    let stage = Stage::simulated();
    let settings = "allowed_users = [\"*\"]\nstream_mode = \"partial\"";
    stage.configure("default_provider = \"echo\"", settings);
    stage.clock.advance(5_000);
    let mut session = stage.start();
    stage.run_for(&mut session, 3);
    stage.desk.script(|_| {
        let words = (0..SECS * 4).map(|number| (number * 250, Play::Text("a word ".into())));
        Some(words.chain([(SECS * 1000, Play::Done)]).collect())
    });
    stage.clock.advance(1);
    let question = stage
        .world()
        .post(&stage.ann.id, &stage.channel, "tell me all");
    stage.run_for(&mut session, SECS + 10);
    assert_eq!(stage.answers(&question).len(), 1);
    let world = stage.world();
    let edits = world
        .log
        .iter()
        .filter(|call| call.target.ends_with("/patch"));
    let edits = edits.count() as f64;
    Row::at_most("edits of an answer of a minute that grows", "", 12.0, edits)
}

fn first_request(what: &'static str, tls: bool) -> Row {
    let rig = Rig::new(&Setup {
        tls,
        ..Setup::default()
    });
    let mut times = Vec::new();
    for _ in 0..11 {
        let started = Instant::now();
        let _process = rig.spawn();
        rig.wait_polls(1);
        let seen = rig.server.take();
        times.push(seen[0].arrived - started);
    }
    milliseconds(what, 5.0, times)
}

fn milliseconds(what: &'static str, goal: f64, times: Vec<Duration>) -> Row {
    Row::at_most(what, "ms", goal, median(times).as_secs_f64() * 1000.0)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A bare socket's idle poll, its median.
fn round_trip(rig: &Rig) -> Duration {
    let seen = rig.server.take();
    let Some(request) = seen.iter().rfind(|seen| seen.is_probe()).map(raw_request) else {
        rig.wait_polls(1);
        return round_trip(rig);
    };
    let mut stream = TcpStream::connect(rig.server.wire.address).expect("a connection");
    stream.set_nodelay(true).expect("an open socket");
    let mut buffer = vec![0; 16 * 1024];
    let times = (0..40).map(|_| {
        std::thread::sleep(POLL / 10);
        let started = Instant::now();
        stream.write_all(&request).expect("an open socket");
        let _ = stream.read(&mut buffer).expect("an answer");
        started.elapsed()
    });
    median(times.collect())
}

/// What a request takes in the stand-in, in ms. A real server's takes longer.
const SERVER_TAKES_MS: u64 = 5;

/// 1000 messages that came while the program was away, answered by "echo"; then the same requests
/// once more, to a server in the same state, by the program's own HTTP client and by a bare socket.
fn backlog() -> Vec<Row> {
    const WHAT: &str = "backlog of 1000, in its requests' own speed";
    let rig = with_backlog();
    let process = rig.spawn();
    let last = rig.stage.world().posts_in(&rig.stage.channel);
    let last = last.last().expect("a backlog").id.clone();
    rig.stage.wait_for_answer(&last);
    let peak = process.peak().unwrap_or_default() / 1e6;
    drop(process);
    let seen = rig.server.take();
    let end = seen.iter().rposition(|seen| seen.is("POST", "/posts"));
    let seen = &seen[..=end.expect("answers")];
    let took = seen[seen.len() - 1].answered - seen[0].arrived;
    let answers = seen.iter().filter(|seen| seen.is("POST", "/posts")).count();
    let by_client = again(seen, by_client);
    let by_socket = again(seen, by_socket);
    let row = match (by_client, by_socket) {
        (Ok(client), Ok(socket)) => {
            let ratio = client.as_secs_f64() / took.as_secs_f64();
            let own = took.saturating_sub(client) / answers as u32;
            Row::at_most(WHAT, "", 0.0, ratio).beside(format!(
                "{own:.0?} of its own per answer, {SERVER_TAKES_MS} ms the server's per request; {answers} answers, {} requests: {took:.2?}; its client alone {client:.2?}, a bare socket {socket:.2?}; peak {peak:.2} MB",
                seen.len()
            ))
        }
        (Err(why), _) | (_, Err(why)) => Row {
            measured: Err(why),
            ..Row::at_most(WHAT, "", 0.0, 0.0)
        },
    };
    vec![Row {
        goal: Goal::AtLeast(0.9),
        ..row
    }]
}

/// Each time the same: a bot that has seen the channel, was stopped, and has 1000 posts to answer.
fn with_backlog() -> Rig {
    let rig = Rig::new(&Setup::default());
    let process = rig.spawn();
    rig.settle();
    drop(process);
    let mut world = rig.stage.world();
    world.seed(1000);
    // All of them after the bot came, over more than eight hours.
    world.clock_offset_ms += 31_000_000;
    world.knobs.request_takes_ms = SERVER_TAKES_MS;
    world.post_many(&rig.stage.ann.id, &rig.stage.channel, 1000, 30_000);
    drop(world);
    rig.server.take();
    rig
}

/// Sends a request once more: the status that it gives.
type Send = Box<dyn FnMut(&Seen) -> Result<u16, String>>;

/// The same requests back to back on one connection: how long they take.
fn again(seen: &[Seen], start: fn(&Rig) -> Send) -> Result<Duration, String> {
    let rig = with_backlog();
    let mut send = start(&rig);
    let started = Instant::now();
    for seen in seen {
        let status = send(seen)?;
        // Whether the list has changed since the last look is a matter of the moment.
        let is_same = |status| matches!(status, 200 | 304);
        if status != seen.status && !(is_same(status) && is_same(seen.status)) {
            let target = &seen.request.target;
            return Err(format!("{target} gave {status} the second time"));
        }
    }
    Ok(started.elapsed())
}

fn by_client(rig: &Rig) -> Send {
    let agent = Agent::with_environment(None, &|_| None).expect("no file to read");
    let url = rig.server.url();
    Box::new(move |seen| {
        let request = &seen.request;
        let header = |name: &'static str| Some((name, request.headers.get(name)?.as_str()));
        let headers: Vec<_> = ["authorization", "if-none-match"]
            .into_iter()
            .filter_map(header)
            .collect();
        let response = agent.call(&Call {
            method: if request.method == "GET" {
                "GET"
            } else {
                "POST"
            },
            url: &format!("{url}{}", request.target),
            headers: &headers,
            body: match request.method.as_str() {
                "GET" => Body::None,
                _ => Body::Json(&request.body),
            },
            timeout: Duration::from_secs(30),
        });
        let response = response.map_err(|failure| failure.to_string())?;
        let status = response.status;
        io::copy(&mut response.reader(16 << 20), &mut io::sink())
            .map_err(|error| error.to_string())?;
        Ok(status)
    })
}

fn by_socket(rig: &Rig) -> Send {
    let mut stream = TcpStream::connect(rig.server.wire.address).expect("a connection");
    stream.set_nodelay(true).expect("an open socket");
    let mut buffer = vec![0; 64 * 1024];
    Box::new(move |seen| {
        let failed = |error: io::Error| error.to_string();
        stream.write_all(&raw_request(seen)).map_err(failed)?;
        let mut filled = 0;
        loop {
            if filled == buffer.len() {
                buffer.resize(filled * 2, 0);
            }
            let count = stream.read(&mut buffer[filled..]).map_err(failed)?;
            filled += count;
            let got = &buffer[..filled];
            if count == 0 {
                return Err("the connection was closed".into());
            }
            if is_whole(got) {
                let status = std::str::from_utf8(&got[9..12]).unwrap_or_default();
                return status.parse().map_err(|_| "no status".into());
            }
        }
    })
}

/// Whether a response has come to its end.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    if head.contains("transfer-encoding") {
        return bytes.ends_with(b"\r\n0\r\n\r\n");
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    bytes.len() - end - 4 >= length
}

/// What more channels cost.
fn growth() -> Vec<Row> {
    let mut rows = vec![idle_growth()];
    rows.extend(message_growth());
    rows
}

/// Both at the same time: a processor that is hardly used takes its time, now more, now less.
fn idle_growth() -> Row {
    const WHAT: &str = "idle poll with 1000 channels, in that with 1";
    let rigs = [1, 1000].map(|channels| {
        Rig::new(&Setup {
            channels,
            ..Setup::default()
        })
    });
    let processes = rigs.each_ref().map(Rig::spawn);
    rigs.iter().for_each(Rig::settle);
    let polls = std::thread::scope(|scope| {
        let one = scope.spawn(|| idle_poll(&rigs[0], &processes[0]));
        (
            idle_poll(&rigs[1], &processes[1]),
            one.join().expect("no panic"),
        )
    });
    let (Some(many), Some(one)) = polls else {
        return missing(WHAT, 1.25);
    };
    Row::at_most(WHAT, "", 1.25, many.as_secs_f64() / one.as_secs_f64())
        .beside(format!("{many:.0?} against {one:.0?}"))
}

fn message_growth() -> Vec<Row> {
    const LINEAR: &str = "message per list byte, 1000 channels by 500";
    let costs: Vec<_> = [1, 10, 100, 500, 1000].map(costs_with).into();
    let Some(costs) = costs.into_iter().collect::<Option<Vec<_>>>() else {
        return vec![missing(LINEAR, 1.5)];
    };
    let messages: Vec<String> = costs
        .iter()
        .map(|cost| format!("{} kB {:.1?}", cost.list_bytes / 1000, cost.message))
        .collect();
    let (one, half, all) = (&costs[0], &costs[3], &costs[4]);
    let slope = |from: &Costs, to: &Costs| {
        let more = to.message.as_secs_f64() - from.message.as_secs_f64();
        more / (to.list_bytes - from.list_bytes) as f64
    };
    vec![
        Row::at_most(LINEAR, "", 1.5, slope(half, all) / slope(one, half))
            .beside(messages.join(", ")),
    ]
}

struct Costs {
    list_bytes: usize,
    message: Duration,
}

fn costs_with(channels: usize) -> Option<Costs> {
    let rig = Rig::new(&Setup {
        channels,
        ..Setup::default()
    });
    let process = rig.spawn();
    rig.settle();
    let poll = idle_poll(&rig, &process)?;
    let mut messages = Vec::new();
    let mut list_bytes = 0;
    for _ in 0..15 {
        rig.server.take();
        let before = process.processor()?;
        let question = rig.ask(None);
        rig.stage.wait_for_answer(&question);
        rig.wait_polls(3);
        let spent = process.processor()? - before;
        let seen = rig.server.take();
        let polls = seen.iter().filter(|seen| seen.status == 304).count();
        let bodies = seen.iter().filter(|seen| seen.is_probe());
        list_bytes = bodies.map(|seen| seen.body_bytes).max()?.max(list_bytes);
        messages.push(spent.saturating_sub(poll * polls as u32));
    }
    Some(Costs {
        list_bytes,
        message: median(messages),
    })
}

/// A year of messages in simulated time and in this process, with kills and faults; and many answers
/// in a row by one process of the program.
fn soak() -> Vec<Row> {
    const MESSAGES: u64 = 100_000;
    const DAYS: u64 = 365;
    let soak = support::soak::soak(1, MESSAGES, DAYS, 4);
    let (first, last) = (soak.tenths[0], soak.tenths[soak.tenths.len() - 1]);
    let requests = |costs: SoakCosts| costs.requests as f64 / costs.messages as f64;
    let largest = soak.tenths.iter().map(|costs| costs.state_bytes).max();
    vec![
        Row::at_most(
            "soak of 100,000: messages lost or doubled",
            "",
            0.0,
            (soak.unanswered + soak.answered_twice + soak.spoilt) as f64,
        )
        .beside(format!(
            "{} days, {} kills, {} faults, {} of {} workers died",
            soak.days, soak.kills, soak.faults, soak.deaths, soak.workers
        )),
        Row::at_most(
            "requests per message, last tenth in first",
            "",
            1.1,
            requests(last) / requests(first),
        )
        .beside(format!("{:.2}, {:.2}", requests(first), requests(last))),
        Row::at_most(
            "largest state file, last tenth in first",
            "",
            1.25,
            last.state_bytes as f64 / first.state_bytes as f64,
        )
        .beside(format!(
            "{}, {} bytes for 4 channels, {} ever",
            first.state_bytes,
            last.state_bytes,
            largest.unwrap_or_default()
        )),
        steady(),
    ]
}

/// What one process holds after many answers, by what it held after a tenth of them.
fn steady() -> Row {
    const WHAT: &str = "resident after 10,000 answers, in that after 1000";
    let rig = Rig::new(&Setup {
        poll: POLL / 2,
        ..Setup::default()
    });
    let process = rig.spawn();
    rig.settle();
    let mut resident = Vec::new();
    for round in 1..=200 {
        // A minute and more for the server, so that what was handled can be forgotten.
        rig.stage.world().clock_offset_ms += 61_000;
        let questions: Vec<String> = (0..50).map(|_| rig.ask(None)).collect();
        rig.stage.wait_for_answer(&questions[49]);
        rig.server.take();
        if round == 20 || round == 200 {
            rig.wait_polls(5);
            resident.extend(process.resident());
        }
    }
    let Some([first, last]) = resident.first_chunk() else {
        return Row {
            measured: Err("/proc does not tell".into()),
            ..Row::at_most(WHAT, "", 1.1, 0.0)
        };
    };
    Row::at_most(WHAT, "", 1.1, last / first).beside(format!(
        "{:.2} MB, {:.2} MB",
        first / 1e6,
        last / 1e6
    ))
}

/// As cron starts it every minute.
fn second_instance() -> Vec<Row> {
    let rig = Rig::new(&Setup::default());
    let _first = rig.spawn();
    rig.settle();
    let times = (0..21).map(|_| {
        let started = Instant::now();
        assert!(rig.spawn().succeeds());
        started.elapsed()
    });
    let times = times.collect();
    vec![milliseconds("second instance, start to exit", 10.0, times)]
}
