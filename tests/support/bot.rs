//! A server with a team, a channel, a person and the bot in it, and the bot itself: as the built
//! binary in real time, or in the test's own process in simulated time.

use std::fs;
use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use prx::commands::run::Session;
use prx::config;
use prx::exit::Exit;
use prx::times::Times;
use serde_json::Value;
use tempfile::TempDir;

use super::clock::{SimClock, Time};
use super::desk::{Control, TestDesk};
use super::mattermost::{Account, Act, Fault, Joining, Kind, Mattermost, Version, World};
use super::wire::Request;

/// Longer than any machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nor any server's outage in simulated time.
const DAY_MS: u64 = 24 * 3_600_000;

/// A provider that repeats the question.
pub const ECHO: &str = "default_provider = \"echo\"";

/// The stage that most tests play on.
pub struct Stage {
    pub mattermost: Mattermost,
    pub clock: SimClock,
    pub bot: Account,
    /// Allowed.
    pub ann: Account,
    /// Not allowed.
    pub eve: Account,
    pub team: String,
    pub channel: String,
    /// Where the config and the state are.
    pub folder: TempDir,
    /// The desk of the bot in this process.
    pub desk: Control,
}

impl Stage {
    /// In simulated time.
    pub fn simulated() -> Stage {
        let clock = SimClock::new();
        Stage::new(Time::Sim(clock.clone()), clock, Version::V11_6)
    }

    /// In real time.
    pub fn real() -> Stage {
        Stage::new(Time::real(), SimClock::new(), Version::V11_6)
    }

    pub fn new(time: Time, clock: SimClock, version: Version) -> Stage {
        let mattermost = Mattermost::start(version, time);
        let mut world = mattermost.world();
        let bot = world.add_bot("prxbot");
        let ann = world.add_user("ann");
        let eve = world.add_user("eve");
        let team = world.add_team("team");
        let channel = world.add_channel(&team, "talk", Kind::Open);
        for account in [&ann, &eve, &bot] {
            world.join_team(&team, &account.id);
            world.add_member(&channel, &account.id, Joining::Joined);
        }
        drop(world);
        let folder = TempDir::new().expect("a temporary folder");
        Stage {
            mattermost,
            clock,
            bot,
            ann,
            eve,
            team,
            channel,
            folder,
            desk: Control::default(),
        }
    }

    pub fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.mattermost.world()
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    pub fn state_path(&self) -> PathBuf {
        self.folder.path().join("config.state.json")
    }

    /// Writes the config: `top` before the Mattermost section, `more` in it. Ann is allowed, unless
    /// `more` says who is.
    pub fn configure(&self, top: &str, more: &str) {
        let allowed = if more.contains("allowed_users") {
            String::new()
        } else {
            format!("allowed_users = [\"{}\"]\n", self.ann.id)
        };
        let text = format!(
            "{top}\n[channels_config.mattermost]\nurl = \"{}\"\nbot_token = \"{}\"\n{allowed}{more}\n",
            self.mattermost.url(),
            self.bot.token,
        );
        fs::write(self.config_path(), text).expect("a config file");
    }

    /// The configured bot in this process and in simulated time.
    pub fn start(&self) -> Session {
        self.try_start()
            .expect("a bot that starts")
            .expect("no other instance")
    }

    pub fn try_start(&self) -> Result<Option<Session>, Exit> {
        let config = config::load(Some(&self.config_path()), &|_| None)?;
        let times = Times {
            clock: Rc::new(self.clock.clone()),
            ..Times::default()
        };
        // A server that is never understood is waited for without end.
        let begun = self.clock.elapsed_ms();
        let mut patience = || {
            assert!(
                self.clock.elapsed_ms() < begun + DAY_MS,
                "no start in a day"
            )
        };
        Session::start(config, times, self.test_desk(), false, &mut patience)
    }

    /// A desk for a bot in this process and in simulated time.
    pub fn test_desk(&self) -> Box<TestDesk> {
        Box::new(TestDesk::new(
            Rc::new(self.clock.clone()),
            self.desk.clone(),
        ))
    }

    /// Lets the bot work for `secs` of simulated time.
    pub fn run_for(&self, session: &mut Session, secs: u64) {
        let until = self.clock.elapsed_ms() + secs * 1000;
        while self.clock.elapsed_ms() < until {
            session.step().expect("no reason to exit");
        }
    }

    /// The configured bot as the built binary, in real time.
    pub fn spawn(&self) -> Bot {
        self.spawn_with(|command| {
            command.arg("-v");
        })
    }

    /// The same, with other arguments or variables.
    pub fn spawn_with(&self, change: impl FnOnce(&mut Command)) -> Bot {
        self.spawn_as(binary(), change)
    }

    /// The same, with a command of `binary_at`.
    pub fn spawn_as(&self, mut command: Command, change: impl FnOnce(&mut Command)) -> Bot {
        let log = self.folder.path().join("log.txt");
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        command.arg("--config").arg(self.config_path());
        change(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        let child = loop {
            match command.spawn() {
                // Just copied, and still open in a child that another test has forked meanwhile.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
                child => break child.expect("the binary"),
            }
        };
        Bot { child, log }
    }

    /// Ann posts `text` in the channel.
    pub fn ask(&self, text: &str) -> String {
        self.world().post(&self.ann.id, &self.channel, text)
    }

    /// Ann posts `text` in the thread of `root`.
    pub fn reply(&self, root: &str, text: &str) -> String {
        let mut world = self.world();
        let draft = world.draft(&self.ann.id, &self.channel, text);
        draft.root(root).post()
    }

    /// One more channel with Ann and the bot in it.
    pub fn add_channel(&self, name: &str) -> String {
        let mut world = self.world();
        let channel = world.add_channel(&self.team, name, Kind::Open);
        for account in [&self.ann, &self.bot] {
            world.add_member(&channel, &account.id, Joining::Joined);
        }
        channel
    }

    /// From now on each request that `is_hit` fails so, without an effect.
    pub fn fail(&self, fault: Fault, is_hit: impl Fn(&Request) -> bool + Send + 'static) {
        let act = move |request: &Request, _: &mut World| match is_hit(request) {
            true => Act::Instead(fault.clone()),
            false => Act::Serve,
        };
        self.mattermost.on_request(act);
    }

    /// What the state file holds; null if there is none or it is damaged.
    pub fn state(&self) -> Value {
        let bytes = fs::read(self.state_path()).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// A life of the bot that ends, as by kill -9, after so many of its steps that outlive it, or after
    /// `secs` with the bot at work: whether it was killed.
    pub fn live(&self, steps: u64, secs: u64) -> bool {
        self.live_until(secs, move |step| step > steps)
    }

    /// The same, where `ends` says of each of those steps, counted from 1, whether it is killed there.
    pub fn live_until(
        &self,
        secs: u64,
        mut ends: impl FnMut(u64) -> bool + Send + 'static,
    ) -> bool {
        let mut steps = 0;
        self.clock.on_checkpoint(move |_| {
            steps += 1;
            if ends(steps) {
                resume_unwind(Box::new("killed"));
            }
        });
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let mut session = self.start();
            self.run_for(&mut session, secs);
        }));
        self.clock.no_checkpoint();
        lived.is_err_and(|end| {
            let killed = end.downcast_ref() == Some(&"killed");
            assert!(killed, "it ended by itself");
            killed
        })
    }

    /// The texts of the answers to `question`, in order of their parts.
    pub fn answers(&self, question: &str) -> Vec<String> {
        let world = self.world();
        world
            .own_answers(&self.bot.id, question)
            .iter()
            .map(|post| post.message.clone())
            .collect()
    }

    /// Waits, in real time, until `done`.
    pub fn wait(&self, what: &str, mut done: impl FnMut(&World) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(&self.world()) {
            assert!(Instant::now() < end, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits, in real time, for the answer to `question`.
    pub fn wait_for_answer(&self, question: &str) -> String {
        self.wait("an answer", |world| {
            !world.own_answers(&self.bot.id, question).is_empty()
        });
        self.answers(question).concat()
    }
}

/// A command of the built binary, without this machine's proxies and keys.
pub fn binary() -> Command {
    binary_at(&binary_path())
}

/// Where the built binary is.
pub fn binary_path() -> PathBuf {
    let given = std::env::var_os("PRX_BIN").map(PathBuf::from);
    given.unwrap_or_else(|| env!("CARGO_BIN_EXE_prx").into())
}

/// `binary` of a copy.
pub fn binary_at(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars() {
        let name = name.to_lowercase();
        if name.ends_with("_proxy") || name.ends_with("_key") || name.starts_with("mattermost_") {
            command.env_remove(name.to_uppercase()).env_remove(name);
        }
    }
    command
        .env_remove("RUST_LOG")
        .env_remove("SSL_CERT_FILE")
        .env("HOME", "/nonexistent");
    command
}

/// The built binary at work; killed when dropped.
pub struct Bot {
    pub child: Child,
    log: PathBuf,
}

impl Bot {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the process to end by itself: its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < end, "the process did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The most memory that was its own and in use, in bytes.
    pub fn peak_memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        kilobytes
            .expect("a peak")
            .parse::<usize>()
            .expect("a number")
            << 10
    }

    /// The number of its threads.
    pub fn threads(&self) -> usize {
        let tasks = Path::new("/proc")
            .join(self.child.id().to_string())
            .join("task");
        fs::read_dir(tasks).expect("a running process").count()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let told = log.lines().filter(|line| !line.contains(": 304 in "));
            eprintln!("--- the bot's log\n{}", told.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// How a command went.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Stage {
    /// Runs the built binary with the stage's config file to its end, with `input` on its standard input.
    pub fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = binary();
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config_path());
        run(&mut command, input)
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    // A command that does not read to the end closes its side.
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes());
    let output = child.wait_with_output().expect("an end");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
