//! A program and pipes to it, spoken to and listened to on one thread: neither side can wait for the
//! other for ever.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{self, Child, Command, ExitStatus};

/// Linux on every processor that the program is built for.
const O_NONBLOCK: i32 = 0o4000;

thread_local! {
    /// The program that runs: there is one at a time.
    static RUNNING: RefCell<Option<Child>> = const { RefCell::new(None) };
}

/// A running program. It is killed when this is dropped, and by `leave`.
pub(crate) struct Program(());

impl Program {
    pub(crate) fn start(command: &mut Command) -> io::Result<Program> {
        kill();
        RUNNING.set(Some(command.spawn()?));
        Ok(Program(()))
    }

    /// How it ended, if it did.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        RUNNING.with_borrow_mut(|running| match running {
            Some(child) => child.try_wait(),
            None => Err(ErrorKind::NotFound.into()),
        })
    }
}

impl Drop for Program {
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

/// A pipe for a program's standard input: its end, and ours, which does not block.
pub(crate) fn input() -> io::Result<(PipeReader, File)> {
    let (theirs, ours) = io::pipe()?;
    let ours = without_blocking(&ours, File::options().write(true))?;
    Ok((theirs, ours))
}

/// A pipe for what a program prints: its end, and ours, which does not block.
pub(crate) fn output() -> io::Result<(PipeWriter, File)> {
    let (ours, theirs) = io::pipe()?;
    let ours = without_blocking(&ours, File::options().read(true))?;
    Ok((theirs, ours))
}

/// Our end of a pipe, opened a second time: blocking belongs to the opening, so the program's end
/// stays as programs expect theirs. (A socket pair would be simpler, but `/dev/stdin` and
/// `/dev/stderr` cannot be opened when they are sockets.)
fn without_blocking(end: &impl AsRawFd, options: &mut OpenOptions) -> io::Result<File> {
    options
        .custom_flags(O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", end.as_raw_fd()))
}

/// Writes what the pipe takes; true: there is no more to write, or nobody who reads it.
pub(crate) fn write_some(input: &mut File, unsent: &mut &[u8]) -> io::Result<bool> {
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
pub(crate) fn read_some(output: &mut File, bytes: &mut Vec<u8>) -> io::Result<()> {
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
