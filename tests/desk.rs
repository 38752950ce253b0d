//! The desk with workers that are processes: the built binary's, and scripts that say what no worker
//! of ours would.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::bot::binary_path;
use crate::support::lines;
use crate::support::wire::{Reply, Wire};
use log::LevelFilter;
use prx::desk::report::{self, Done, Report};
use prx::desk::{Desk, Job, News, Piece, Processes, WorkerId};
use prx::provider::{
    Answer, Api, Class, Fact, FactKind, Message, ProviderKind, ProviderSettings, Role,
};
use prx::times::{Clock, SystemClock};
use tempfile::TempDir;

/// Longer than any machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

fn job(kind: ProviderKind, text: &str) -> Job {
    Job {
        post: "post".into(),
        provider: ProviderSettings {
            kind,
            ..ProviderSettings::default()
        },
        model: None,
        conversation: vec![Message::new(Role::User, text)],
        bot_name: "prxbot".into(),
        several_speakers: false,
        time_left: PATIENCE,
        grow: false,
    }
}

/// A desk in a folder of its own.
struct Stage {
    desk: Processes,
    clock: Rc<SystemClock>,
    folder: TempDir,
}

impl Stage {
    /// With workers of the built binary.
    fn new() -> Stage {
        Stage::with(binary_path())
    }

    fn with(program: PathBuf) -> Stage {
        let clock = Rc::new(SystemClock::default());
        Stage {
            desk: Processes::of(&program, clock.clone()).expect("a desk"),
            clock,
            folder: TempDir::new().expect("a folder"),
        }
    }

    /// With workers that run a shell script in the stage's folder, after they read their input to
    /// `input`. `say NAME` sends a file as a datagram; `doze` does nothing for ever.
    fn script(text: &str) -> Stage {
        Stage::unread(&format!("head -n 1 > input\n{text}"))
    }

    /// The same, without reading the input.
    fn unread(text: &str) -> Stage {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().display();
        let program = folder
            .path()
            .join(folder.path().file_name().expect("a name"));
        let script = format!(
            "#!/bin/sh
cd {path}
say() {{ cat \"$1\"; }}
\
             doze() {{ mkfifo never; read line < never; }}
{text}
"
        );
        fs::write(&program, script).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("a mode");
        Stage {
            folder,
            ..Stage::with(program)
        }
    }

    /// Lays a report of the first worker out for `say`.
    fn report(self, name: &str, number: u32, report: &Report) -> Stage {
        let datagram = report::encode(1, number, report).expect("a report that fits");
        self.file(name, &datagram)
    }

    fn file(self, name: &str, bytes: &[u8]) -> Stage {
        fs::write(self.folder.path().join(name), bytes).expect("a file");
        self
    }

    fn start(&mut self, job: Job) -> WorkerId {
        self.desk.start(job).expect("a worker")
    }

    /// The next thing that is told of `worker`.
    fn news(&mut self, worker: WorkerId) -> News {
        let end = Instant::now() + PATIENCE * 2;
        loop {
            let mut heard = self.desk.hear().into_iter();
            if let Some((_, news)) = heard.find(|(id, _)| *id == worker) {
                return news;
            }
            assert!(Instant::now() < end, "nothing was told");
            self.desk.rest(self.clock.now() + Duration::from_millis(50));
        }
    }

    /// How many of its scripts there are, zombies among them.
    fn processes(&self) -> usize {
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        let stats = processes.map(|process| fs::read_to_string(process.path().join("stat")));
        let name = format!("({})", self.name());
        stats.flatten().filter(|stat| stat.contains(&name)).count()
    }

    /// As the system shows its scripts.
    fn name(&self) -> String {
        let name = self.folder.path().file_name().expect("a name");
        name.to_string_lossy().into_owned()
    }

    /// The end of the only worker.
    fn end(mut self) -> News {
        let worker = self.start(job(ProviderKind::Echo, "Hi"));
        self.news(worker)
    }
}

fn done(bytes: usize) -> Report<'static> {
    Report::Done(Done {
        bytes,
        answer: Answer {
            by: "a script".into(),
            ..Answer::default()
        },
    })
}

fn text_of(news: &News) -> &str {
    match news {
        News::Done(answer) => &answer.text,
        other => panic!("no answer: {other:?}"),
    }
}

fn torn() -> News {
    News::Died("its reports did not add up".into(), true)
}

#[test]
fn a_worker_makes_the_answer() {
    let mut stage = Stage::new();
    let worker = stage.start(job(ProviderKind::Echo, "Hi"));
    let News::Done(answer) = stage.news(worker) else {
        panic!("no answer");
    };
    assert_eq!(
        (answer.text.as_str(), answer.by.as_str()),
        ("You said: Hi", "echo")
    );
    let other = stage.start(job(ProviderKind::Echo, "Ho"));
    assert_ne!(worker, other);
    assert_eq!(text_of(&stage.news(other)), "You said: Ho");
}

#[test]
fn eight_workers_answer_at_once_and_each_its_own_question() {
    let mut stage = Stage::new();
    let mut missing: Vec<_> = (0..8)
        .map(|number| {
            let text = format!("number {number}");
            (stage.start(job(ProviderKind::Echo, &text)), text)
        })
        .collect();
    let end = Instant::now() + PATIENCE;
    while !missing.is_empty() && Instant::now() < end {
        for (worker, news) in stage.desk.hear() {
            let index = missing.iter().position(|(id, _)| *id == worker);
            let (_, text) = missing.remove(index.expect("one of ours"));
            assert_eq!(text_of(&news), format!("You said: {text}"));
        }
        let soon = stage.clock.now() + Duration::from_millis(50);
        stage.desk.rest(soon);
    }
    assert!(missing.is_empty());
}

#[test]
fn a_failure_is_told_with_its_class_and_both_its_texts() {
    let mut stage = Stage::new();
    let worker = stage.start(job(ProviderKind::Echo, "  "));
    let News::Failed(failure) = stage.news(worker) else {
        panic!("no failure");
    };
    assert_eq!(failure.class, Class::Empty);
    assert_eq!(failure.line, "echo: nothing was said");
    assert_eq!(failure.person, Class::Empty.for_person());
}

#[test]
fn a_conversation_and_an_answer_of_a_million_bytes_pass() {
    let mut stage = Stage::new();
    let said = "wörd ".repeat(170_000);
    let worker = stage.start(job(ProviderKind::Echo, &said));
    let news = stage.news(worker);
    assert_eq!(text_of(&news), format!("You said: {}", said.trim()));
}

#[test]
fn text_that_grows_is_told_before_the_end() {
    let mut stage = Stage::script("say a; read line < gate; say b; read line < gate; say c; say d")
        .report("a", 0, &Report::Text("one "))
        .report("b", 1, &Report::StartOver)
        .report("c", 0, &Report::Text("two"))
        .report("d", 1, &done(3));
    let gate = stage.folder.path().join("gate");
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.expect("mkfifo").success());
    let mut job = job(ProviderKind::Echo, "Hi");
    job.grow = true;
    let worker = stage.start(job);
    for text in ["one ", ""] {
        assert_eq!(stage.news(worker), News::Grew);
        assert_eq!(stage.desk.text(worker), text);
        fs::write(&gate, "on\n").expect("a reader");
    }
    let mut news = stage.news(worker);
    if news == News::Grew {
        news = stage.news(worker);
    }
    assert_eq!(text_of(&news), "two");
    assert_eq!(stage.desk.text(worker), "", "there is no such worker now");
}

#[test]
fn text_of_a_model_that_streams_grows_a_few_times_a_second() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(Some(held));
    let server = Wire::start(move |_| {
        let held = held.lock().expect("a gate").take();
        Reply::Raw(Box::new(move |writer: &mut dyn Write| {
            writer.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
            )?;
            for number in 0..50 {
                let piece = serde_json::json!({"choices": [{"delta": {"content": format!("word {number} ")}}]});
                writer.write_all(format!("data: {piece}\n\n").as_bytes())?;
                writer.flush()?;
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = held.map(|held| held.recv());
            writer.write_all(b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")?;
            Ok(false)
        }))
    });
    let mut job = job(
        ProviderKind::Server {
            api: Api::OpenAi,
            name: "custom".into(),
            base: format!("{}/v1", server.url()),
        },
        "Hi",
    );
    job.grow = true;
    let mut stage = Stage::new();
    let (worker, begun) = (stage.start(job), Instant::now());
    let whole: String = (0..50).map(|number| format!("word {number} ")).collect();
    let mut grown = 0;
    while !stage.desk.text(worker).contains("word 48") {
        assert_eq!(stage.news(worker), News::Grew);
        assert!(whole.starts_with(stage.desk.text(worker)));
        grown += 1;
    }
    // What is held back is a mark that is not whole, or white space.
    let seconds = begun.elapsed().as_secs_f64();
    assert!(
        grown >= 2 && f64::from(grown) <= seconds * 4.0 + 1.0,
        "{grown} in {seconds} s"
    );
    drop(release);
    let mut news = stage.news(worker);
    while news == News::Grew {
        news = stage.news(worker);
    }
    assert_eq!(text_of(&news), whole.trim_end());
}

#[test]
fn text_that_does_not_grow_is_told_only_at_the_end() {
    let stage = Stage::script("say a; sleep 0.3; say d")
        .report("a", 0, &Report::Text("one"))
        .report("d", 1, &done(3));
    assert_eq!(text_of(&stage.end()), "one");
}

#[test]
fn an_answer_whose_reports_do_not_add_up_is_none() {
    for (script, news) in [
        ("say b; say d2", torn()),
        ("say a; say d2", torn()),
        ("say a; say a; say d2", torn()),
        (
            "say a; say b; say d2; say d0",
            News::Done(Answer {
                text: "onetwo".into(),
                by: "a script".into(),
                ..Answer::default()
            }),
        ),
        ("say d0; say a; say b; say d2", torn()),
    ] {
        let stage = Stage::script(script)
            .report("a", 0, &Report::Text("one"))
            .report("b", 1, &Report::Text("two"))
            .report("d2", 2, &done(6))
            .report("d0", 0, &done(6));
        assert_eq!(stage.end(), news, "{script}");
    }
}

#[test]
fn a_report_that_is_cut_or_garbled_counts_for_nothing() {
    let whole = report::encode(1, 1, &done(3)).expect("a report");
    let stage = Stage::script("say a; say cut; say large; say other; exit 4")
        .report("a", 0, &Report::Text("one"))
        .file("cut", &whole[..whole.len() - 5])
        .file("large", &[&whole[..], &[b' '; 5000]].concat())
        .file("other", &report::encode(77, 1, &done(3)).expect("a report"));
    assert_eq!(stage.end(), News::Died("exit code 4".into(), true));
}

#[test]
fn stray_prints_are_no_reports() {
    let stage =
        Stage::script("echo debug; say a; printf prx; head -c 9000 /dev/zero; say d; echo bye")
            .report("a", 0, &Report::Text("one"))
            .report("d", 1, &done(3));
    assert_eq!(text_of(&stage.end()), "one");
}

#[test]
fn a_print_that_no_socket_takes_fails_at_its_writer_only() {
    let stage = Stage::script(
        "head -c 300000 /dev/zero | dd bs=300000 iflag=fullblock 2> /dev/null && exit 9\nsay d",
    )
    .report("d", 0, &done(0));
    assert_eq!(text_of(&stage.end()), "");
}

#[test]
fn a_death_is_told_with_its_way_and_whether_it_counts() {
    for (script, how, counts) in [
        ("exit 3", "exit code 3", true),
        ("exit 0", "exit code 0", true),
        ("kill -9 $$", "signal 9", true),
        ("say a; kill -6 $$", "signal 6", true),
        ("kill -15 $$", "signal 15", false),
        ("kill -2 $$", "signal 2", false),
        ("kill -1 $$", "signal 1", false),
    ] {
        // A shell that runs something in the background has it ignore some, and so do its children.
        let signal = how.strip_prefix("signal ").and_then(|it| it.parse().ok());
        if signal.is_some_and(crate::support::is_ignored) {
            crate::support::skipped(&format!(
                "{how} is ignored here, so no worker is ended by it"
            ));
            continue;
        }
        let stage = Stage::script(script).report("a", 0, &Report::Text("one"));
        assert_eq!(stage.end(), News::Died(how.into(), counts), "{script}");
    }
}

#[test]
fn a_death_after_the_last_report_takes_nothing_away() {
    // All of it is in the socket, and the process gone, before the desk looks.
    let mut stage = Stage::script("say a; say d; touch gone; kill -9 $$")
        .report("a", 0, &Report::Text("one"))
        .report("d", 1, &done(3));
    let worker = stage.start(job(ProviderKind::Echo, "Hi"));
    let gone = stage.folder.path().join("gone");
    let end = Instant::now() + PATIENCE;
    while !gone.exists() {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!(text_of(&stage.news(worker)), "one");
}

#[test]
fn a_worker_that_does_not_take_its_input_is_dead() {
    let mut stage = Stage::unread("exec < /dev/null; doze");
    let long = "word ".repeat(200_000);
    let worker = stage.start(job(ProviderKind::Echo, &long));
    let News::Died(how, true) = stage.news(worker) else {
        panic!("no death");
    };
    assert!(how.starts_with("it did not read its input: "), "{how}");
}

#[test]
fn pictures_are_fed_piece_by_piece_before_the_worker_begins() {
    let mut stage = Stage::unread("head -n 3 > input; say d").report("d", 0, &done(0));
    let mut job = job(ProviderKind::Echo, "look");
    job.conversation[0].images = vec![0, 1];
    let worker = stage.start(job);
    let large = vec![0; 1 << 20];
    for piece in [
        Piece::Bytes(&large),
        Piece::Bytes(b"end"),
        Piece::Whole {
            media_type: "image/png",
        },
        Piece::Missing("(b.gif: gone)"),
    ] {
        assert_eq!(stage.desk.hear(), []);
        stage.desk.feed(worker, piece);
    }
    stage.desk.feed(worker, Piece::Bytes(b"too late"));
    stage.desk.feed(99, Piece::Bytes(b"for nobody"));
    assert_eq!(text_of(&stage.news(worker)), "");
    let input = fs::read_to_string(stage.folder.path().join("input")).expect("an input");
    let lines: Vec<&str> = input.lines().skip(1).collect();
    // 1 MiB and three bytes are a multiple of three and one more.
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("AAAA") && lines[0].ends_with("AGVuZA== image/png"));
    assert_eq!(
        lines[0].len(),
        (large.len() + 3).div_ceil(3) * 4 + " image/png".len()
    );
    assert_eq!(lines[1], "!(b.gif: gone)");
}

#[test]
fn a_worker_that_dies_over_its_pictures_is_told_once() {
    let mut stage = Stage::unread("head -c 100000 > part; kill -9 $$");
    let mut job = job(ProviderKind::Echo, "look");
    job.conversation[0].images = vec![0];
    let worker = stage.start(job);
    let large = vec![0; 1 << 20];
    let end = Instant::now() + PATIENCE;
    let heard = loop {
        stage.desk.feed(worker, Piece::Bytes(&large));
        let heard = stage.desk.hear();
        if !heard.is_empty() {
            break heard;
        }
        assert!(Instant::now() < end);
    };
    let [(id, News::Died(_, true))] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(*id, worker);
    stage.desk.feed(worker, Piece::Bytes(&large));
    assert_eq!(stage.desk.hear(), []);
}

#[test]
fn a_worker_over_its_time_is_killed() {
    let mut stage = Stage::script("doze");
    let mut job = job(ProviderKind::Echo, "Hi");
    job.time_left = Duration::from_millis(100);
    let begun = Instant::now();
    let worker = stage.start(job);
    assert_eq!(stage.news(worker), News::TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    stage.desk.stop_all();
    assert_eq!(stage.processes(), 0);
}

#[test]
fn reports_without_end_keep_nobody_from_being_heard_or_stopped() {
    let mut stage = Stage::script("exec yes").report("d", 0, &done(0));
    let mut endless = job(ProviderKind::Echo, "Hi");
    endless.time_left = Duration::from_millis(300);
    let endless = stage.start(endless);
    let begun = Instant::now();
    assert_eq!(stage.news(endless), News::TimedOut);
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn a_stopped_worker_is_gone_and_says_no_more() {
    let mut stage = Stage::script("say a; doze").report("a", 0, &Report::Text("one"));
    let mut job = job(ProviderKind::Echo, "Hi");
    job.grow = true;
    let worker = stage.start(job);
    assert_eq!(stage.news(worker), News::Grew);
    stage.desk.stop(worker);
    stage.desk.stop(worker);
    stage.desk.stop(99);
    assert_eq!(stage.desk.hear(), []);
    assert_eq!(stage.desk.text(worker), "");
    stage
        .desk
        .rest(stage.clock.now() + Duration::from_millis(100));
    assert_eq!(stage.processes(), 0);
}

#[test]
fn a_program_that_a_stopped_worker_runs_ends_with_it() {
    let mut stage = Stage::new();
    let pid = stage.folder.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 60", pid.display());
    let words = ["sh", "-c", &script].map(str::to_owned);
    let worker = stage.start(job(ProviderKind::Command(words.to_vec()), "Hi"));
    let end = Instant::now() + PATIENCE;
    let read = || fs::read_to_string(&pid).unwrap_or_default();
    while !read().ends_with('\n') {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    let program = format!("/proc/{}", read().trim());
    assert!(fs::exists(&program).expect("an answer"));
    let begun = Instant::now();
    stage.desk.stop(worker);
    stage.desk.stop_all();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(!fs::exists(&program).expect("an answer"));
}

#[test]
fn a_stopped_worker_that_does_not_end_its_program_is_killed_after_two_seconds() {
    let mut stage = Stage::script("doze");
    let worker = stage.start(job(ProviderKind::Command(vec!["x".into()]), "Hi"));
    let begun = Instant::now();
    stage.desk.stop(worker);
    while stage.processes() > 0 {
        assert!(begun.elapsed() < PATIENCE);
        stage
            .desk
            .rest(stage.clock.now() + Duration::from_millis(50));
    }
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[test]
fn nothing_is_left_of_the_workers_of_a_desk_that_is_dropped() {
    let mut stage = Stage::script("doze");
    for _ in 0..3 {
        stage.start(job(ProviderKind::Echo, "Hi"));
    }
    let end = Instant::now() + PATIENCE;
    while stage.processes() < 3 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    stage.desk = Processes::of(&binary_path(), stage.clock.clone()).expect("another desk");
    assert_eq!(stage.processes(), 0);
}

#[test]
fn a_program_that_does_not_start_is_an_error() {
    let mut stage = Stage::with("/nonexistent/prx".into());
    assert!(stage.desk.start(job(ProviderKind::Echo, "Hi")).is_err());
    assert!(stage.desk.hear().is_empty());
}

#[test]
fn what_one_worker_learned_the_next_is_told() {
    let fact = Fact {
        base: "http://h".into(),
        model: "m".into(),
        kind: FactKind::NoStream,
    };
    let mut stage = Stage::script("say l; say d; exit 0")
        .report("l", 0, &Report::Learned(fact.clone()))
        .report("d", 0, &done(0));
    let input = |stage: &Stage| -> serde_json::Value {
        let text = fs::read_to_string(stage.folder.path().join("input")).expect("an input");
        serde_json::from_str(&text).expect("JSON")
    };
    let worker = stage.start(job(ProviderKind::Echo, "Hi"));
    stage.news(worker);
    assert_eq!(input(&stage)["facts"], serde_json::json!([]));
    let worker = stage.start(job(ProviderKind::Echo, "Hi"));
    stage.news(worker);
    assert_eq!(input(&stage)["facts"], serde_json::json!([fact]));
}

/// Keeps what is logged.
#[test]
fn log_lines_of_a_worker_are_logged_with_its_question() {
    lines::keep(LevelFilter::Debug);
    let mut job = job(ProviderKind::Echo, "Hi");
    job.post = "thepost".into();
    // The built binary's own line: the program says something and fails.
    let words = ["sh", "-c", "echo no luck >&2; exit 1"].map(str::to_owned);
    job.provider.kind = ProviderKind::Command(words.to_vec());
    let mut stage = Stage::new();
    let worker = stage.start(job);
    assert!(matches!(stage.news(worker), News::Failed(_)));
    let lines = lines::taken();
    let mut of_post = lines.iter().filter(|line| line.contains("post thepost: "));
    let line = of_post.next().expect("a line");
    assert!(
        line.starts_with("DEBUG ") && line.contains("no luck"),
        "{line}"
    );
}

#[test]
fn a_worker_has_little_of_the_environment_and_a_name_of_its_own() {
    let mut stage = Stage::script("env > env; tr '\\0' '\\n' < /proc/$$/cmdline > line; say d")
        .report("d", 0, &done(0));
    let worker = stage.start(job(ProviderKind::Echo, "Hi"));
    stage.news(worker);
    let read = |name| fs::read_to_string(stage.folder.path().join(name)).expect("a file");
    // The shell sets some of its own.
    let known = [
        "PATH=",
        "HOME=",
        "LANG=",
        "LC_",
        "TZ=",
        "TMPDIR=",
        "RUST_LOG=",
        "SSL_",
    ];
    let of_shell = ["PWD=", "OLDPWD=", "SHLVL=", "_="];
    for line in read("env").lines() {
        let lower = line.to_lowercase();
        let name = lower.split('=').next().unwrap_or_default();
        let is_known = known
            .iter()
            .chain(&of_shell)
            .any(|known| line.starts_with(known));
        assert!(
            is_known || name.ends_with("_proxy") || name == "prx_depth",
            "{line}"
        );
    }
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "a variable to be left out"
    );
    assert!(read("line").ends_with("answer\n--worker\n"));
}

#[test]
fn rest_lasts_until_its_time_or_a_report() {
    let mut stage = Stage::script("sleep 0.2; say t; doze").report("t", 0, &Report::Text("a"));
    let rest = |stage: &mut Stage, duration| {
        let begun = Instant::now();
        stage.desk.rest(stage.clock.now() + duration);
        begun.elapsed()
    };
    let (short, long) = (Duration::from_millis(30), PATIENCE * 10);
    let alone = rest(&mut stage, short);
    assert!(alone >= short, "{alone:?}");
    stage.desk.rest(Duration::ZERO);
    stage.start(job(ProviderKind::Echo, "Hi"));
    assert!(rest(&mut stage, short) >= short);
    assert!(rest(&mut stage, long) < PATIENCE, "a report rings");
    stage.desk.hear();
    assert!(rest(&mut stage, short) >= short);
}

#[test]
fn a_signal_does_not_end_the_rest() {
    let mut stage = Stage::script("sleep 0.1; kill -STOP $PPID; kill -CONT $PPID; doze");
    stage.start(job(ProviderKind::Echo, "Hi"));
    let (begun, duration) = (Instant::now(), Duration::from_millis(600));
    stage.desk.rest(stage.clock.now() + duration);
    assert!(begun.elapsed() >= duration);
}
