//! What the program costs: a tap between it and its servers, and the process as the operating system
//! counts it. Here are the rows that hold on any machine; `bench.rs` adds those that take time.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use serde_json::json;

use super::bot::{Stage, binary};
use super::mattermost::{Joining, Kind};
use super::net::Authority;
use super::wire::{Reply, Request, Wire, lock};

/// Longer than any machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// The shortest that the configuration allows is half of it.
pub const POLL: Duration = Duration::from_millis(100);

/// One line of the table.
pub struct Row {
    pub what: &'static str,
    pub unit: &'static str,
    /// Or why there is none.
    pub measured: Result<f64, String>,
    pub goal: Goal,
    /// What it compares to, measured in the same run; empty: nothing.
    pub beside: String,
}

#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub fn at_most(what: &'static str, unit: &'static str, goal: f64, measured: f64) -> Row {
        Row {
            what,
            unit,
            measured: Ok(measured),
            goal: Goal::AtMost(goal),
            beside: String::new(),
        }
    }

    pub fn beside(mut self, beside: String) -> Row {
        self.beside = beside;
        self
    }

    /// What could not be measured has not met its goal.
    pub fn is_met(&self) -> bool {
        match (&self.measured, self.goal) {
            (Ok(measured), Goal::AtMost(goal)) => *measured <= goal,
            (Ok(measured), Goal::AtLeast(goal)) => *measured >= goal,
            (Err(_), _) => false,
        }
    }
}

/// The rows that count instead of timing: the same on every machine, and but for the binary's size
/// the same for every build.
pub fn counts() -> Vec<Row> {
    let mut rows = idle();
    rows.extend(idle_in_one_channel());
    rows.extend(requests_per_answer());
    rows
}

/// The binary's size in bytes. A static one is held to the release's bound, another one to that of
/// a plain `cargo build --release`.
pub fn size() -> Row {
    let path = binary().get_program().to_owned();
    let bytes = fs::read(&path).expect("the binary");
    let is_static = !names_a_loader(&bytes);
    let (what, goal) = if is_static {
        ("binary, static", 2_075_000.0)
    } else {
        ("binary, cargo build --release", 2_495_000.0)
    };
    Row::at_most(what, "bytes", goal, bytes.len() as f64)
}

/// Whether an ELF file of 64 bits asks for a dynamic loader: it has a program header `PT_INTERP`.
fn names_a_loader(elf: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    let number = |at: usize, length: usize| {
        let bytes = elf[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (table, entry, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|index| number(table + index * entry, 4) == PT_INTERP)
}

fn idle() -> Vec<Row> {
    let rig = Rig::new(&Setup::default());
    let process = rig.spawn();
    rig.settle();
    let before = (rig.files(), process.written_bytes());
    rig.server.take();
    let started = Instant::now();
    std::thread::sleep(POLL * 20);
    let polls = started.elapsed().as_secs_f64() / POLL.as_secs_f64();
    let seen = rig.server.take();
    let after = (rig.files(), process.written_bytes());
    let bodies: usize = seen.iter().map(|seen| seen.body_bytes).sum();
    let writes = match (before, after) {
        ((files, Some(bytes)), (files_after, Some(bytes_after))) if files == files_after => {
            Ok((bytes_after - bytes) as f64)
        }
        ((_, Some(_)), _) => Ok(f64::INFINITY),
        _ => Err("the operating system does not count what a process writes".into()),
    };
    vec![
        Row::at_most("threads", "", 1.0, process.threads()),
        // Two of them are the doorbell.
        Row::at_most("files open, idle", "", 8.0, process.files()),
        Row::at_most(
            "requests per idle poll and team",
            "",
            1.05,
            seen.len() as f64 / polls,
        ),
        Row::at_most("body bytes per idle poll", "bytes", 0.0, bodies as f64),
        Row {
            measured: writes,
            ..Row::at_most("written to disk while idle", "bytes", 0.0, 0.0)
        },
    ]
}

fn idle_in_one_channel() -> Vec<Row> {
    let rig = Rig::new(&Setup {
        one_channel: true,
        ..Setup::default()
    });
    let _process = rig.spawn();
    rig.settle();
    rig.server.take();
    let started = Instant::now();
    std::thread::sleep(POLL * 20);
    let polls = started.elapsed().as_secs_f64() / POLL.as_secs_f64();
    let seen = rig.server.take();
    let bodies: usize = seen.iter().map(|seen| seen.body_bytes).sum();
    let requests = seen.len() as f64;
    vec![
        Row::at_most(
            "requests per idle poll, channel_id",
            "",
            1.05,
            requests / polls,
        ),
        Row::at_most(
            "body bytes per idle poll, channel_id",
            "bytes",
            700.0,
            bodies as f64 / requests.max(1.0),
        ),
    ]
}

/// Mattermost requests per answer beside the probe and the read, over TLS.
fn requests_per_answer() -> Vec<Row> {
    let rig = Rig::new(&Setup {
        tls: true,
        model: true,
        ..Setup::default()
    });
    let _process = rig.spawn();
    rig.settle();
    let ask = |root: Option<&str>| {
        rig.server.take();
        let question = rig.ask(root);
        rig.stage.wait_for_answer(&question);
        // The probe after the answer, and the read that it leads to.
        rig.wait_polls(3);
        let seen = rig.server.take();
        let others = seen.iter().filter(|seen| !seen.is_probe_or_read());
        (question, others.count() as f64)
    };
    let (root, top_level) = ask(None);
    let (_, in_thread) = ask(Some(&root));
    *lock(&rig.model_takes) = Duration::from_millis(2200);
    let (_, slow) = ask(None);
    vec![
        Row::at_most(
            "requests per answer, top level (typing twice, post)",
            "",
            3.0,
            top_level,
        ),
        Row::at_most("requests per answer, in a thread", "", 3.0, in_thread),
        Row::at_most("requests per answer that took over 2 s", "", 6.0, slow),
    ]
}

/// One exchange with a server.
pub struct Seen {
    pub request: Request,
    pub status: u16,
    pub body_bytes: usize,
    /// The request was read whole.
    pub arrived: Instant,
    /// The response is about to be written.
    pub answered: Instant,
}

impl Seen {
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.request.method == method && self.request.target.contains(part)
    }

    pub fn is_probe(&self) -> bool {
        let path = self.request.target.split('?').next().unwrap_or_default();
        self.request.method == "GET"
            && (path.ends_with("/channels")
                || path.contains("/channels/") && !path.contains("/posts"))
    }

    pub fn is_probe_or_read(&self) -> bool {
        // Which teams the bot is in is asked once a minute.
        self.is_probe() || self.is("GET", "/posts?") || self.is("GET", "/users/me/teams")
    }
}

/// `$PRX_TEST_HOST`, a name of this machine in `/etc/hosts`, or `localhost`.
fn host() -> String {
    std::env::var("PRX_TEST_HOST").unwrap_or("localhost".into())
}

/// A server, with a note of every exchange.
pub struct Tap {
    pub wire: Wire,
    seen: Arc<Mutex<Vec<Seen>>>,
    scheme: &'static str,
}

impl Tap {
    pub fn new(
        tls: Option<ServerConfig>,
        handler: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> Tap {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let notes = seen.clone();
        let tapped = move |request: Request| {
            let (arrived, kept) = (Instant::now(), request.clone());
            let reply = handler(request);
            let (status, body_bytes) = match &reply {
                Reply::Full { status, body, .. } => (*status, body.len()),
                _ => (0, 0),
            };
            lock(&notes).push(Seen {
                request: kept,
                status,
                body_bytes,
                arrived,
                answered: Instant::now(),
            });
            reply
        };
        let (scheme, wire) = match tls {
            Some(config) => ("https", Wire::start_tls(config, tapped)),
            None => ("http", Wire::start(tapped)),
        };
        Tap { wire, seen, scheme }
    }

    /// By name: looking it up is a part of the cost.
    pub fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme, host(), self.wire.address.port())
    }

    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *lock(&self.seen))
    }

    /// Whether nothing was asked since the last `take`.
    pub fn is_silent(&self) -> bool {
        lock(&self.seen).is_empty()
    }

    pub fn polls(&self) -> usize {
        lock(&self.seen)
            .iter()
            .filter(|seen| seen.is_probe())
            .count()
    }
}

/// A stage whose servers are tapped.
pub struct Rig {
    pub stage: Stage,
    pub server: Tap,
    pub model: Tap,
    /// When the last byte of each of the model's answers was written.
    pub model_ends: Arc<Mutex<Vec<Instant>>>,
    /// How long the model thinks.
    pub model_takes: Arc<Mutex<Duration>>,
    pub channels: Vec<String>,
}

pub struct Setup {
    pub tls: bool,
    /// A model that streams this many characters, over HTTP; else "echo", inside the program.
    pub model: bool,
    pub answer_chars: usize,
    pub channels: usize,
    /// With `channel_id`.
    pub one_channel: bool,
    pub poll: Duration,
    /// `answers_at_once`.
    pub at_once: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            tls: false,
            model: false,
            answer_chars: 200,
            channels: 1,
            one_channel: false,
            poll: POLL,
            at_once: 4,
        }
    }
}

impl Rig {
    pub fn new(setup: &Setup) -> Rig {
        let stage = Stage::real();
        let mut channels = vec![stage.channel.clone()];
        let mut world = stage.world();
        world.knobs.log_requests = false;
        for number in 1..setup.channels {
            let channel = world.add_channel(&stage.team, &format!("channel-{number}"), Kind::Open);
            for account in [&stage.ann, &stage.bot] {
                world.add_member(&channel, &account.id, Joining::Joined);
            }
            channels.push(channel);
        }
        drop(world);
        let authority = setup.tls.then(Authority::new);
        let tls = || {
            let authority = authority.as_ref()?;
            Some(authority.server(&[&host()], |_| ()))
        };
        let server = Tap::new(tls(), stage.mattermost.handler());
        let model_ends = Arc::<Mutex<Vec<Instant>>>::default();
        let model_takes = Arc::<Mutex<Duration>>::default();
        let (ends, takes, chars) = (model_ends.clone(), model_takes.clone(), setup.answer_chars);
        let model = Tap::new(tls(), move |_| stream(chars, *lock(&takes), ends.clone()));
        let rig = Rig {
            stage,
            server,
            model,
            model_ends,
            model_takes,
            channels,
        };
        rig.configure(setup, authority.map(|authority| authority.pem));
        rig
    }

    /// Writes the config; `ca`: the certificate of whoever signed that of the servers.
    pub fn configure(&self, setup: &Setup, ca: Option<String>) {
        let folder = self.stage.folder.path();
        let ca_file = ca.map_or(String::new(), |pem| {
            let path = folder.join("ca.pem");
            fs::write(&path, pem).expect("a file");
            format!("ca_file = \"{}\"\n", path.display())
        });
        let provider = if setup.model {
            format!(
                "default_provider = \"custom:{}/v1\"\ndefault_model = \"test\"\napi_key = \"key\"\n",
                self.model.url()
            )
        } else {
            "default_provider = \"echo\"\n".into()
        };
        let channel = if setup.one_channel {
            format!("channel_id = \"{}\"\n", self.stage.channel)
        } else {
            String::new()
        };
        let text = format!(
            "{provider}{ca_file}[channels_config.mattermost]\nurl = \"{}\"\nbot_token = \"{}\"\n\
             allowed_users = [\"{}\"]\npoll_interval_secs = {}\nhistory_posts = 100\nhistory_chars = 16000\n\
             answers_at_once = {}\n{channel}{ca_file}",
            self.server.url(),
            self.stage.bot.token,
            self.stage.ann.id,
            setup.poll.as_secs_f64(),
            setup.at_once,
        );
        fs::write(self.stage.config_path(), text).expect("a config file");
    }

    /// The bot, quiet: its log would be written to disk.
    pub fn spawn(&self) -> Process {
        let child = binary()
            .arg("--config")
            .arg(self.stage.config_path())
            .arg("-q")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process::Ours(child.expect("the binary"))
    }

    /// Waits until the bot has begun and polls.
    pub fn settle(&self) {
        self.wait_polls(4);
    }

    pub fn wait_polls(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        let goal = self.server.polls() + count;
        while self.server.polls() < goal {
            assert!(Instant::now() < end, "the bot does not poll");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A question by Ann, in the thread of `root`.
    pub fn ask(&self, root: Option<&str>) -> String {
        let mut world = self.stage.world();
        let draft = world.draft(&self.stage.ann.id, &self.stage.channel, "How are you?");
        match root {
            Some(root) => draft.root(root).post(),
            None => draft.post(),
        }
    }

    /// The names and times of all files beside the config: a file that was written is another one.
    fn files(&self) -> Vec<(PathBuf, std::time::SystemTime)> {
        let folder = fs::read_dir(self.stage.folder.path()).expect("a folder");
        let mut files: Vec<_> = folder
            .flatten()
            .map(|entry| {
                let changed = entry.metadata().and_then(|data| data.modified());
                (entry.path(), changed.expect("a time"))
            })
            .collect();
        files.sort();
        files
    }
}

/// An OpenAI stream of `chars` characters, in pieces of 4.
fn stream(chars: usize, takes: Duration, ends: Arc<Mutex<Vec<Instant>>>) -> Reply {
    Reply::Raw(Box::new(
        move |writer: &mut dyn Write| -> io::Result<bool> {
            writer.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
            std::thread::sleep(takes);
            let piece = json!({"choices": [{"delta": {"content": "word"}}]});
            let stop = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
            for _ in 0..chars / 4 {
                chunk(writer, &format!("data: {piece}\n\n"))?;
            }
            chunk(writer, &format!("data: {stop}\n\n"))?;
            chunk(writer, "data: [DONE]\n\n")?;
            // The time first: the program may be quicker than this thread.
            lock(&ends).push(Instant::now());
            writer.write_all(b"0\r\n\r\n")?;
            writer.flush()?;
            Ok(true)
        },
    ))
}

fn chunk(writer: &mut dyn Write, text: &str) -> io::Result<()> {
    writer.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
    writer.flush()
}

/// The program at work, as the operating system counts it; killed when dropped.
pub enum Process {
    /// Killed when dropped.
    Ours(Child),
    Other(u32),
}

impl Process {
    pub fn id(&self) -> u32 {
        match self {
            Process::Ours(child) => child.id(),
            Process::Other(id) => *id,
        }
    }

    fn read(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.id());
        fs::read_to_string(path).unwrap_or_default()
    }

    pub fn threads(&self) -> f64 {
        entries(&format!("/proc/{}/task", self.id())).len() as f64
    }

    /// Its open files and connections, without those that this process leaves to any child.
    pub fn files(&self) -> f64 {
        const CLOSED_ON_EXEC: u64 = 0o2_000_000;
        let inherited = entries("/proc/self/fdinfo").into_iter().filter(|number| {
            let about = fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
            let flags = about
                .unwrap_or_default()
                .lines()
                .find_map(|line| u64::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
            !matches!(number.as_str(), "0" | "1" | "2")
                && flags.is_some_and(|flags| flags & CLOSED_ON_EXEC == 0)
        });
        let inherited = inherited.count();
        (entries(&format!("/proc/{}/fd", self.id())).len() - inherited) as f64
    }

    /// Bytes sent to the disk, or meant for it; nothing if it is not counted here.
    pub fn written_bytes(&self) -> Option<u64> {
        field(&self.read("io"), "write_bytes:")
    }

    /// Waits for its end: whether that is a good one.
    pub fn succeeds(&mut self) -> bool {
        match self {
            Process::Ours(child) => child.wait().is_ok_and(|status| status.success()),
            Process::Other(_) => false,
        }
    }

    /// kill -9 for one that is not ours.
    pub fn kill(&self) {
        let status = Command::new("kill")
            .args(["-9", &self.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }

    /// Whether it runs no more, reaped or not.
    pub fn is_gone(&self) -> bool {
        self.read("cmdline").is_empty()
    }

    /// Its children, whichever of its threads started them.
    pub fn children(&self) -> Vec<Process> {
        let threads = format!("/proc/{}/task", self.id());
        let listed = entries(&threads).into_iter().map(|thread| {
            let path = format!("{threads}/{thread}/children");
            fs::read_to_string(path).unwrap_or_default()
        });
        listed
            .collect::<String>()
            .split_whitespace()
            .filter_map(|id| id.parse().ok())
            .map(Process::Other)
            .collect()
    }

    /// Memory that is its own and nobody else's, in bytes.
    pub fn private(&self) -> Option<f64> {
        let text = self.read("smaps_rollup");
        let parts = ["Private_Clean:", "Private_Dirty:"].map(|name| field(&text, name));
        Some(parts.into_iter().flatten().sum::<u64>() as f64 * 1024.0)
    }

    /// Resident memory in bytes, exactly.
    pub fn resident(&self) -> Option<f64> {
        field(&self.read("smaps_rollup"), "Rss:").map(|kb| kb as f64 * 1024.0)
    }

    /// The most that was ever resident, in bytes.
    pub fn peak(&self) -> Option<f64> {
        field(&self.read("status"), "VmHWM:").map(|kb| kb as f64 * 1024.0)
    }

    /// Processor time of its one thread.
    pub fn processor(&self) -> Option<Duration> {
        processor_time(&self.read("schedstat"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Process::Ours(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The names in a folder of `/proc`.
fn entries(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a running process").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Of a `schedstat` of Linux, whose first number is nanoseconds on a processor.
pub fn processor_time(schedstat: &str) -> Option<Duration> {
    let nanos = schedstat.split_whitespace().next()?;
    Some(Duration::from_nanos(nanos.parse().ok()?))
}

/// The number after `name` in one of Linux's tables.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
