//! `prx answer`: from a shell, as another prx's program, and as a worker.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::bot::{Ran, Stage, binary, binary_path, run};
use crate::support::model::{Model, ModelReply};
use prx::desk::{Desk, Job, News, Processes};
use prx::provider::{Api, Message, ProviderKind, ProviderSettings, Role};
use prx::secret::Secret;
use prx::times::{Clock, SystemClock};
use serde_json::json;
use tempfile::TempDir;

/// Longer than any machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with config files, none of which has a Mattermost section.
struct Shell(TempDir);

impl Shell {
    fn new(config: &str) -> Shell {
        let shell = Shell(TempDir::new().expect("a folder"));
        shell.configure("config.toml", config);
        shell
    }

    fn configure(&self, name: &str, config: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, config).expect("a config file");
        path
    }

    fn answer(&self, arguments: &[&str], input: &str) -> Ran {
        self.answer_as(binary(), arguments, input)
    }

    fn answer_as(&self, mut command: Command, arguments: &[&str], input: &str) -> Ran {
        command.arg("answer").args(arguments);
        command
            .arg("--config")
            .arg(self.0.path().join("config.toml"));
        run(&mut command, input)
    }
}

fn server(model: &Model) -> String {
    let url = model.url();
    format!(
        "default_provider = \"custom:{url}/v1\"\ndefault_model = \"m\"\napi_key = \"sk-secret\"\n"
    )
}

/// A program that starts prx with another config file.
fn program(config: &Path) -> String {
    let words = json!([binary_path(), "answer", "--json", "--config", config]);
    format!("default_provider = \"command\"\nprovider_command = {words}\n")
}

#[test]
fn a_text_is_answered_without_a_mattermost() {
    let shell = Shell::new("default_provider = \"echo\"\n");
    let ran = shell.answer(&[], "Hi there\n");
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (Some(0), "You said: Hi there\n", "")
    );
}

#[test]
fn a_model_is_asked_with_the_text_alone() {
    let model = Model::start();
    model.answers("Good day!");
    let ran = Shell::new(&server(&model)).answer(&[], "Hi\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Good day!\n"));
    assert_eq!(
        model.bodies()[0]["messages"],
        json!([{"role": "user", "content": "Hi"}])
    );
}

#[test]
fn the_json_of_a_program_is_answered() {
    let model = Model::start();
    model.answers("Good day!");
    let messages = json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "{\"messages\": []}"},
    ]);
    let input = json!({"messages": messages, "more": 1}).to_string();
    let ran = Shell::new(&server(&model)).answer(&["--json"], &input);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Good day!\n"));
    assert_eq!(model.bodies()[0]["messages"], messages);
}

#[test]
fn what_cannot_be_answered_ends_with_a_reason_and_prints_nothing() {
    let model = Model::start();
    let refusal = json!({"error": {"message": "Incorrect API key provided: sk-secret"}});
    model.on_request(move |_| ModelReply::status(401, &refusal.to_string()));
    let refused = Shell::new(&server(&model));
    let echo = Shell::new("default_provider = \"echo\"\n");
    #[rustfmt::skip] // A table.
    let cases = [
        (&refused, &[][..], "Hi", "HTTP 401"),
        (&echo, &[], " \n", "standard input: says nothing"),
        (&echo, &["--json"], "Hi", "standard input: is not {\"messages\""),
        (&echo, &["--json"], "{\"messages\": []}", "standard input: is not {\"messages\""),
        (&echo, &["--worker"], "Hi", "for the bot's own use"),
    ];
    for (shell, arguments, input, reason) in cases {
        let ran = shell.answer(arguments, input);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{input}");
        assert!(ran.stderr.contains(reason), "{}", ran.stderr);
        assert!(!ran.stderr.contains("sk-secret"), "{}", ran.stderr);
    }
    let ran = Shell::new("default_provider = \"ecko\"\n").answer(&[], "Hi");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn one_prx_can_be_the_program_of_another() {
    let shell = Shell::new("");
    let inner = shell.configure("inner.toml", "default_provider = \"echo\"\n");
    shell.configure("config.toml", &program(&inner));
    let ran = shell.answer(&[], "Hi\n");
    assert_eq!(ran.stdout, "You said: Hi\n", "{}", ran.stderr);
}

#[test]
fn a_prx_that_starts_itself_comes_to_an_end() {
    let shell = Shell::new("");
    let path = shell.0.path().join("config.toml");
    shell.configure("config.toml", &program(&path));
    let ran = shell.answer(&["-v"], "Hi\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    let mut command = binary();
    command.env("PRX_DEPTH", "3");
    let ran = shell.answer_as(command, &[], "Hi\n");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("name another program"),
        "{}",
        ran.stderr
    );
}

/// A job for `model`, with a key.
fn job(model: &Model) -> Job {
    Job {
        post: "post".into(),
        provider: ProviderSettings {
            kind: ProviderKind::Server {
                api: Api::OpenAi,
                name: "custom".into(),
                base: format!("{}/v1", model.url()),
            },
            model: "m".into(),
            api_key: Some(Secret::new("sk-secret")),
            ..ProviderSettings::default()
        },
        model: None,
        conversation: vec![Message::new(Role::User, "Hi")],
        bot_name: "prxbot".into(),
        several_speakers: false,
        time_left: PATIENCE,
        grow: false,
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The workers that a thread started, by the folder that tells of the thread.
fn workers_of(thread: &str) -> Vec<PathBuf> {
    let children = fs::read_to_string(format!("{thread}/children")).expect("a thread");
    let paths = children
        .split_whitespace()
        .map(|id| Path::new("/proc").join(id));
    let is_worker = |path: &PathBuf| {
        let line = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        line == "prx answer\0answer\0--worker\0"
    };
    paths.filter(is_worker).collect()
}

/// The only thread of a process.
fn thread_of(process: u32) -> String {
    format!("/proc/{process}/task/{process}")
}

fn kill(process: &Path) {
    let process = process.file_name().expect("a number");
    let killed = Command::new("kill").arg("-9").arg(process).status();
    assert!(killed.expect("kill").success());
}

/// Hears until there is news of any worker.
fn news(desk: &mut Processes, clock: &SystemClock) -> News {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some((_, news)) = desk.hear().pop() {
            return news;
        }
        assert!(Instant::now() < end, "nothing was told");
        desk.rest(clock.now() + Duration::from_millis(50));
    }
}

#[test]
fn a_worker_shows_no_key_and_is_missed_when_it_is_killed() {
    let (model, clock) = (Model::start(), Rc::new(SystemClock::default()));
    let mut desk = Processes::of(&binary_path(), clock.clone()).expect("a desk");
    let (release, held) = channel();
    model.then(ModelReply::Held(
        held,
        Box::new(ModelReply::text("Good day!")),
    ));
    desk.start(job(&model)).expect("a worker");
    wait_until("the question", || !model.requests().is_empty());
    let workers = workers_of("/proc/thread-self");
    assert_eq!(workers.len(), 1);
    for name in ["cmdline", "environ"] {
        let shown = fs::read(workers[0].join(name)).expect("a running process");
        assert!(
            !String::from_utf8_lossy(&shown).contains("sk-secret"),
            "{name}"
        );
    }
    let threads = fs::read_dir(workers[0].join("task")).expect("threads");
    assert_eq!(threads.count(), 1);
    drop(release);
    let News::Done(answer) = news(&mut desk, &clock) else {
        panic!("no answer");
    };
    assert_eq!(
        (answer.text.as_str(), answer.by.as_str()),
        ("Good day!", "custom m")
    );
    let headers = &model.requests()[0].headers;
    assert_eq!(headers["authorization"], "Bearer sk-secret");

    let (_release, held) = channel();
    model.then(ModelReply::Held(held, Box::new(ModelReply::Close)));
    desk.start(job(&model)).expect("a worker");
    wait_until("the question", || model.requests().len() == 2);
    let workers = workers_of("/proc/thread-self");
    kill(&workers[0]);
    assert_eq!(news(&mut desk, &clock), News::Died("signal 9".into(), true));
    assert!(workers_of("/proc/thread-self").is_empty());
}

/// Whether `word` is anywhere in the memory of the process that it can write to.
fn has_in_memory(process: &Path, word: &str) -> bool {
    let maps = fs::read_to_string(process.join("maps")).expect("a running process");
    let memory = File::open(process.join("mem")).expect("a process of ours");
    let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').expect("a range");
        let (start, end) = range.split_once('-').expect("a range");
        let (start, end) = (number(start), number(end));
        let mut bytes = vec![0; (end - start) as usize];
        rest.starts_with("rw")
            && memory.read_exact_at(&mut bytes, start).is_ok()
            && bytes
                .windows(word.len())
                .any(|part| part == word.as_bytes())
    })
}

#[test]
fn a_worker_of_the_bot_never_has_the_mattermost_token() {
    let (stage, model) = (Stage::real(), Model::start());
    let (_release, held) = channel();
    model.then(ModelReply::Held(held, Box::new(ModelReply::Close)));
    stage.configure(&server(&model), "");
    let token = stage.bot.token.clone();
    let bot = stage.spawn_with(|command| {
        command.env("MATTERMOST_BOT_TOKEN", &token);
    });
    stage.wait("the first look", |_| stage.state_path().exists());
    let (ann, channel) = (&stage.ann.id, &stage.channel);
    stage.world().post(ann, channel, "hi");
    wait_until("the question", || !model.requests().is_empty());
    let workers = workers_of(&thread_of(bot.child.id()));
    assert_eq!(workers.len(), 1);
    let environment = fs::read(workers[0].join("environ")).expect("a running process");
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains(&token) && !environment.contains("MATTERMOST"));
    assert!(has_in_memory(&workers[0], "sk-secret"), "what it was told");
    assert!(!has_in_memory(&workers[0], &token));
}

#[test]
fn a_killed_worker_is_missed_also_by_a_bot_that_does_not_learn_of_its_children_nor_polls() {
    let (stage, model) = (Stage::real(), Model::start());
    let (_release, held) = channel();
    model.then(ModelReply::Held(held, Box::new(ModelReply::Close)));
    stage.configure(&server(&model), "poll_interval_secs = 3600");
    assert_eq!(stage.run(&["--once"], "").code, Some(0));
    let (ann, channel) = (&stage.ann.id, &stage.channel);
    let question = stage.world().post(ann, channel, "hi");
    let mut ignoring = Command::new("env");
    ignoring.arg("--ignore-signal=CHLD").arg(binary_path());
    let bot = stage.spawn_as(ignoring, |_| {});
    wait_until("the question", || !model.requests().is_empty());
    kill(&workers_of(&thread_of(bot.child.id()))[0]);
    // Noticed within a round of "typing", and not by the next poll.
    assert_eq!(stage.wait_for_answer(&question), "Hello!");
}

/// A loop that starts a worker, and is no more than a shell: killed when dropped.
struct Loop {
    shell: Child,
    folder: TempDir,
    /// Both outlive the shell, unless they are dropped.
    bell: UnixDatagram,
    input: Option<UnixStream>,
}

impl Loop {
    /// `job` is put to the worker as the desk puts it.
    fn start(job: Job) -> Loop {
        let folder = TempDir::new().expect("a folder");
        let input = recorded_input(job, folder.path());
        let (bell, for_worker) = UnixDatagram::pair().expect("sockets");
        let (mut own_end, workers_end) = UnixStream::pair().expect("sockets");
        let script = "exec 3<&0; \"$0\" answer --worker <&3 3<&- & echo $! > process; wait";
        let shell = Command::new("sh")
            .args(["-c", script])
            .arg(binary_path())
            .current_dir(folder.path())
            .stdin(OwnedFd::from(workers_end))
            .stdout(OwnedFd::from(for_worker))
            .spawn()
            .expect("a shell");
        let (own, parent) = (std::process::id(), shell.id());
        let told = input.replace(
            &format!("\"parent\":{own}"),
            &format!("\"parent\":{parent}"),
        );
        own_end.write_all(told.as_bytes()).expect("a reader");
        Loop {
            shell,
            folder,
            bell,
            input: Some(own_end),
        }
    }

    fn worker(&self) -> PathBuf {
        let process = self.folder.path().join("process");
        let read = || fs::read_to_string(&process).unwrap_or_default();
        wait_until("a process", || read().ends_with('\n'));
        Path::new("/proc").join(read().trim())
    }

    fn kill(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.kill();
    }
}

fn ends_soon(worker: &Path) {
    let begun = Instant::now();
    wait_until("the worker's end", || !is_alive(worker));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

/// What the desk tells a worker, as text.
fn recorded_input(job: Job, folder: &Path) -> String {
    let program = folder.join("recorder");
    let (made, input) = (folder.join("made"), folder.join("recorded"));
    let script = format!(
        "#!/bin/sh\nhead -n 1 > {input}\ntouch {made}\n",
        input = input.display(),
        made = made.display()
    );
    fs::write(&program, script).expect("a script");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&program, executable).expect("a mode");
    let mut desk = Processes::of(&program, Rc::new(SystemClock::default())).expect("a desk");
    desk.start(job).expect("a recorder");
    wait_until("the input", || made.exists());
    fs::read_to_string(input).expect("an input")
}

/// Whether the process is there and does something; one that waits to be waited for does nothing.
fn is_alive(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

#[test]
fn a_worker_ends_soon_after_its_loop() {
    let model = Model::start();
    let (_release, held) = channel();
    model.then(ModelReply::Held(held, Box::new(ModelReply::Close)));
    let mut parent = Loop::start(job(&model));
    let worker = parent.worker();
    wait_until("the question", || !model.requests().is_empty());
    assert!(is_alive(&worker));
    parent.kill();
    ends_soon(&worker);
    parent.bell.set_nonblocking(true).expect("a socket");
    let reported = parent.bell.recv(&mut [0; 4097]);
    assert!(reported.is_err(), "nothing was reported");
}

#[test]
fn a_worker_whose_answer_does_not_grow_tells_no_text_before_the_end() {
    let model = Model::start();
    let text = "word by word, slowly";
    model.then(ModelReply::Paced(text.into(), Duration::from_millis(300)));
    let parent = Loop::start(job(&model));
    let (mut kinds, mut datagram) = (String::new(), [0; 4096]);
    while !kinds.ends_with(['d', 'f']) {
        parent.bell.recv(&mut datagram).expect("a report");
        // After the mark, the worker's id and the number.
        kinds.push(datagram[16].into());
    }
    assert!(kinds.ends_with("rd") && !kinds.contains('t'), "{kinds}");
}

#[test]
fn a_worker_ends_soon_when_its_answer_is_not_wanted_any_more() {
    let model = Model::start();
    let wait = vec![("Retry-After".to_owned(), "20".to_owned())];
    // It waits between two tries.
    model.on_request(move |_| ModelReply::Status {
        status: 429,
        headers: wait.clone(),
        body: "{}".into(),
    });
    for is_killed in [true, false] {
        let asked = model.requests().len();
        let mut parent = Loop::start(job(&model));
        let worker = parent.worker();
        wait_until("the question", || model.requests().len() > asked);
        if is_killed {
            parent.kill();
        } else {
            parent.input = None;
        }
        ends_soon(&worker);
    }
}

#[test]
fn a_worker_whose_input_breaks_off_asks_nobody() {
    let model = Model::start();
    let folder = TempDir::new().expect("a folder");
    let input = recorded_input(job(&model), folder.path());
    for length in [0, 1, input.len() / 2, input.len() - 1] {
        let mut command = binary();
        command.args(["answer", "--worker"]);
        let ran = run(&mut command, &input[..length]);
        assert_eq!(ran.code, Some(1), "{length}");
    }
    assert!(model.requests().is_empty());
}
