//! A program and pipes to it, spoken to and listened to on one thread: neither side can wait for the
//! other for ever.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{self, Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Between two looks at a program.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Bytes kept of what a program says on standard error.
const COMPLAINT: usize = 4096;
/// Linux on every processor that the program is built for.
const O_NONBLOCK: i32 = 0o4000;

thread_local! {
    /// The program that runs: there is one at a time.
    static RUNNING: RefCell<Option<Child>> = const { RefCell::new(None) };
}

/// A running program that is told a text and listened to. It is killed when this is dropped, and by
/// `leave`.
pub(crate) struct Run {
    /// `None`: everything is said, or the program does not listen.
    input: Option<File>,
    /// `None`: nobody listens any more.
    output: Option<File>,
    errors: File,
    complaint: Vec<u8>,
}

/// How a run came to its end.
pub(crate) enum End {
    Exited(ExitStatus),
    /// The listener had enough.
    TooMuch,
    TimedOut,
}

impl Run {
    /// Starts a program with its arguments, without a shell. `prepare` sets its environment.
    pub(crate) fn start(words: &[String], prepare: impl FnOnce(&mut Command)) -> io::Result<Run> {
        let (program, arguments) = words.split_first().ok_or(ErrorKind::NotFound)?;
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let (errors, stderr) = io::pipe()?;
        let input = without_blocking(input.into(), File::options().write(true))?;
        let output = without_blocking(output.into(), File::options().read(true))?;
        let errors = without_blocking(errors.into(), File::options().read(true))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        prepare(&mut command);
        kill();
        RUNNING.set(Some(command.spawn()?));
        Ok(Run {
            input: Some(input),
            output: Some(output),
            errors,
            complaint: Vec::new(),
        })
    }

    /// Says `unsent` and listens for `time` at most. `hear` takes what was printed since the last
    /// look, perhaps nothing; true: it has enough.
    pub(crate) fn wait(
        &mut self,
        mut unsent: &[u8],
        time: Duration,
        hear: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<End> {
        let begun = Instant::now();
        loop {
            // Before the reading: what an ended program printed is in the pipe by then.
            let ended = self.try_wait()?;
            if let Some(input) = &mut self.input
                && write_some(input, &mut unsent)?
            {
                self.input = None;
            }
            let mut printed = Vec::new();
            if let Some(output) = &mut self.output {
                read_some(output, &mut printed)?;
            }
            let is_enough = hear(&printed);
            read_some(&mut self.errors, &mut self.complaint)?;
            let old = self.complaint.len().saturating_sub(COMPLAINT);
            self.complaint.drain(..old);
            if let Some(status) = ended {
                return Ok(End::Exited(status));
            }
            if is_enough {
                return Ok(End::TooMuch);
            }
            if begun.elapsed() >= time {
                return Ok(End::TimedOut);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The last line that it said on standard error.
    pub(crate) fn complaint(&self) -> Option<String> {
        let complaint = String::from_utf8_lossy(&self.complaint);
        let last = complaint.lines().rfind(|line| !line.trim().is_empty());
        last.map(str::to_owned)
    }

    /// Closes its input and its output.
    pub(crate) fn let_go(&mut self) {
        (self.input, self.output) = (None, None);
    }

    /// How it ended, if it did.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        RUNNING.with_borrow_mut(|running| match running {
            Some(child) => child.try_wait(),
            None => Err(ErrorKind::NotFound.into()),
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        kill();
    }
}

/// Ends this process, and the program that it runs with it.
pub(crate) fn leave() -> ! {
    kill();
    process::exit(1)
}

fn kill() {
    if let Some(mut child) = RUNNING.take() {
        // It may have ended by itself: then there is nothing to kill or to wait for.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Our end of a pipe, opened a second time: blocking belongs to the opening, so the program's end
/// stays as programs expect theirs. (A socket pair would be simpler, but `/dev/stdin` and
/// `/dev/stderr` cannot be opened when they are sockets.)
fn without_blocking(end: OwnedFd, options: &mut OpenOptions) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    let file = options.custom_flags(O_NONBLOCK).open(&path);
    file.map_err(|error| match error.kind() {
        ErrorKind::NotFound => io::Error::other(format!("{path}: {error}; is /proc mounted?")),
        _ => error,
    })
}

/// Writes what the pipe takes; true: there is no more to write, or nobody who reads it.
fn write_some(input: &mut File, unsent: &mut &[u8]) -> io::Result<bool> {
    while !unsent.is_empty() {
        match input.write(unsent) {
            Ok(count) => *unsent = &unsent[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads what is in the pipe, no more than one look's worth: the other side may write without end.
fn read_some(output: &mut File, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 8192];
    for _ in 0..32 {
        match output.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
