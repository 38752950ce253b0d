//! Workers as processes: they are started, fed, listened to, and ended.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use super::input::{self, Input, PictureWriter};
use super::report::{self, Report, Transcript};
use super::{Desk, Job, News, Piece, WorkerId};
use crate::mattermost::PostId;
use crate::provider::{DEPTH, Learned, ProviderKind, ProviderSettings};
use crate::sorted::Map;
use crate::times::Clock;

/// A worker knows its time and says what it waited for; only one that does not end is killed. Stopping a
/// program may take two seconds.
const GRACE: Duration = Duration::from_secs(3);
/// The longest wait for a worker to read its input.
const INPUT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker that runs a program may take to stop it. Killed at once it would leave it behind.
const STOPPING: Duration = Duration::from_secs(2);
/// Between two looks at a process that is to end.
const REAP: Duration = Duration::from_millis(20);
/// Reports taken in at once. More than a socket holds, so that all that a worker said before it
/// ended is among them; and a bound, because a worker may report without end.
const REPORTS: usize = 4096;

/// The variables that a worker, and with it a program of `provider_command`, gets from ours.
const VARIABLES: [&str; 15] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "RUST_LOG",
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    DEPTH,
];

/// Workers as processes.
pub struct Processes {
    clock: Rc<dyn Clock>,
    /// Starts a worker, whose standard output is the other end of `bell`.
    command: Command,
    bell: UnixDatagram,
    at_work: Map<WorkerId, Worker>,
    leaving: Vec<Leaving>,
    last: WorkerId,
    learned: Learned,
}

struct Worker {
    child: Child,
    post: PostId,
    grow: bool,
    /// When it is killed, by the clock.
    until: Duration,
    transcript: Transcript,
    grew: bool,
    /// What is told if it ended without a word.
    ended: Option<News>,
    /// Open while its answer is wanted.
    input: UnixStream,
    pictures: PictureWriter,
    /// Why it did not get its input.
    unread: Option<io::Error>,
    /// It may have started a program.
    runs_program: bool,
}

/// A worker that is to end and is perhaps not gone yet.
struct Leaving {
    child: Child,
    /// When it is killed, by the clock; `None`: it was.
    killed_at: Option<Duration>,
}

impl Processes {
    /// Workers of the running program.
    pub fn new(clock: Rc<dyn Clock>) -> io::Result<Processes> {
        // This is the running program even when an upgrade has replaced its file.
        let running = PathBuf::from("/proc/self/exe");
        let program = if running.exists() {
            running
        } else {
            std::env::args_os().next().unwrap_or_default().into()
        };
        Processes::of(&program, clock)
    }

    /// Workers of another program.
    pub fn of(program: &Path, clock: Rc<dyn Clock>) -> io::Result<Processes> {
        let (bell, for_workers) = UnixDatagram::pair()?;
        bell.set_nonblocking(true)?;
        let mut command = Command::new(program);
        command
            .arg0("prx answer")
            .args(["answer", "--worker"])
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_for_workers(name)))
            .stdout(OwnedFd::from(for_workers));
        Ok(Processes {
            clock,
            command,
            bell,
            at_work: Map::new(),
            leaving: Vec::new(),
            last: 0,
            learned: Learned::default(),
        })
    }

    fn spawn(&mut self) -> io::Result<(Child, UnixStream)> {
        // A socket and not a pipe: writing to it can have an end.
        let (input, its_input) = UnixStream::pair()?;
        input.set_write_timeout(Some(INPUT_TIMEOUT))?;
        self.command.stdin(OwnedFd::from(its_input));
        let child = self.command.spawn();
        // The command's end of the socket is closed with this.
        self.command.stdin(Stdio::null());
        Ok((child?, input))
    }

    /// Takes in one datagram.
    fn take(&mut self, datagram: &[u8]) {
        let Some((worker, number, report)) = report::decode(datagram) else {
            return;
        };
        let Some(worker) = self.at_work.get_mut(&worker) else {
            return;
        };
        match report {
            Report::Line(level, line) => log::log!(level, "post {}: {line}", worker.post),
            Report::Learned(fact) => self.learned.note(fact, self.clock.now()),
            report => worker.grew |= worker.transcript.take(number, report),
        }
    }

    /// Takes in what was reported.
    fn drain(&mut self) {
        let mut buffer = [0; report::MAX + 1];
        for _ in 0..REPORTS {
            match self.bell.recv(&mut buffer) {
                Ok(length) => self.take(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for a report and takes it in; false: none came within `duration`.
    fn listen(&mut self, duration: Duration) -> io::Result<bool> {
        let mut buffer = [0; report::MAX + 1];
        self.bell.set_read_timeout(Some(duration))?;
        self.bell.set_nonblocking(false)?;
        let heard = self.bell.recv(&mut buffer);
        self.bell.set_nonblocking(true)?;
        match heard {
            Ok(length) => {
                self.take(&buffer[..length]);
                Ok(true)
            }
            Err(error) => match error.kind() {
                // A signal such as SIGCONT, or the time is over, perhaps a little early.
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Forgets the processes that are gone, and kills those that were to be gone by now.
    fn reap(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let now = self.clock.now();
        self.leaving.retain_mut(|leaving| {
            if leaving.killed_at.is_some_and(|time| time <= now) {
                leaving.kill();
            }
            matches!(leaving.child.try_wait(), Ok(None))
        });
    }
}

impl Desk for Processes {
    fn start(&mut self, job: Job) -> io::Result<WorkerId> {
        let (id, now) = (self.last + 1, self.clock.now());
        let pictures = PictureWriter::new(input::pictures(&job.conversation));
        let input = Input {
            worker: id,
            parent: std::process::id(),
            level: log::max_level().to_string(),
            facts: self.learned.facts(now),
            job,
        };
        let line = input.to_line()?;
        let job = input.job;
        let (child, stream) = self.spawn()?;
        let mut worker = Worker {
            child,
            runs_program: runs_program(&job.provider),
            post: job.post,
            grow: job.grow,
            until: now + job.time_left + GRACE,
            transcript: Transcript::default(),
            grew: false,
            ended: None,
            input: stream,
            pictures,
            unread: None,
        };
        worker.tell(|_, stream| stream.write_all(&line));
        self.at_work.insert(id, worker);
        self.last = id;
        Ok(id)
    }

    fn feed(&mut self, worker: WorkerId, piece: Piece) {
        if let Some(worker) = self.at_work.get_mut(&worker) {
            worker.runs_program |= matches!(piece, Piece::Read(_));
            worker.tell(|pictures, stream| pictures.write(piece, stream));
        }
    }

    fn text(&self, worker: WorkerId) -> &str {
        let worker = self.at_work.get(&worker);
        worker.map_or("", |worker| worker.transcript.text())
    }

    fn hear(&mut self) -> Vec<(WorkerId, News)> {
        self.reap();
        if self.at_work.is_empty() {
            return Vec::new();
        }
        // In this order: what a worker said before it ended is in the socket by now.
        for worker in self.at_work.values_mut() {
            worker.ended = match worker.child.try_wait() {
                Ok(status) => status.map(died),
                // Whoever started us ignores SIGCHLD, and so do we: nobody knows how it ended.
                Err(error) => Some(News::Died(error.to_string(), true)),
            };
        }
        self.drain();
        let now = self.clock.now();
        let mut heard = Vec::new();
        for (id, worker) in self.at_work.iter_mut() {
            heard.extend(worker.judge(now).map(|news| (*id, news)));
        }
        for (id, news) in &heard {
            if *news != News::Grew {
                self.stop(*id);
            }
        }
        heard
    }

    fn stop(&mut self, worker: WorkerId) {
        if let Some(worker) = self.at_work.remove(&worker) {
            // With this its input is closed, which it takes for a sign.
            let mut leaving = Leaving {
                child: worker.child,
                killed_at: Some(self.clock.now() + STOPPING),
            };
            if !worker.runs_program {
                leaving.kill();
            }
            self.leaving.push(leaving);
            self.reap();
        }
    }

    fn stop_all(&mut self) {
        while let Some((id, _)) = self.at_work.iter().next() {
            self.stop(*id);
        }
        let looks = STOPPING.as_millis() / REAP.as_millis();
        for _ in 0..looks {
            self.reap();
            if self
                .leaving
                .iter()
                .all(|leaving| leaving.killed_at.is_none())
            {
                break;
            }
            std::thread::sleep(REAP);
        }
        for mut leaving in self.leaving.drain(..) {
            leaving.kill();
            let _ = leaving.child.wait();
        }
    }

    fn rest(&mut self, until: Duration) {
        loop {
            self.reap();
            let first = self.at_work.values().map(|worker| worker.until).min();
            let until = first.map_or(until, |first| first.min(until));
            let mut left = until.saturating_sub(self.clock.now());
            if left.is_zero() {
                return;
            }
            if !self.leaving.is_empty() {
                left = left.min(REAP);
            }
            if self.at_work.is_empty() {
                std::thread::sleep(left);
                continue;
            }
            match self.listen(left) {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => std::thread::sleep(left.min(REAP)),
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop_all();
    }
}

impl Worker {
    /// Writes to its input. A worker that does not read it is as good as dead.
    fn tell(&mut self, write: impl FnOnce(&mut PictureWriter, &mut UnixStream) -> io::Result<()>) {
        if self.unread.is_none() {
            self.unread = write(&mut self.pictures, &mut self.input).err();
        }
    }

    /// What is to be told of it, once all its reports are taken in.
    fn judge(&mut self, now: Duration) -> Option<News> {
        let grew = std::mem::take(&mut self.grew) && self.grow;
        let unread = self.unread.as_ref();
        let unread = unread.map(|error| format!("it did not read its input: {error}"));
        self.transcript
            .end()
            .or_else(|| self.ended.take())
            .or_else(|| unread.map(|how| News::Died(how, true)))
            .or_else(|| (now >= self.until).then_some(News::TimedOut))
            .or_else(|| grew.then_some(News::Grew))
    }
}

/// How a process ended. Whoever sends SIGHUP, SIGINT or SIGTERM wants it to end, whatever it does.
fn died(status: ExitStatus) -> News {
    match (status.signal(), status.code()) {
        (Some(signal), _) => News::Died(format!("signal {signal}"), ![1, 2, 15].contains(&signal)),
        (None, Some(code)) => News::Died(format!("exit code {code}"), true),
        (None, None) => News::Died(status.to_string(), true),
    }
}

impl Leaving {
    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.killed_at = None;
    }
}

fn runs_program(settings: &ProviderSettings) -> bool {
    matches!(settings.kind, ProviderKind::Command(_)) || settings.fallbacks.iter().any(runs_program)
}

fn is_for_workers(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    VARIABLES.contains(&&*name) || name.starts_with("LC_") || name.starts_with("SSL_")
}
