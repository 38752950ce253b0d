//! A program as the model. The conversation is JSON on its standard input,
//! `{"messages": [{"role": "system" | "user" | "assistant", "content": "…"}, …]}`; the answer is what
//! it prints. It runs without a shell and without the bot's secrets, and is killed when its time is up.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::json;

use super::error::Asked;
use super::server::{ANSWER, append};
use super::settings::file_name;
use super::{Answer, Class, KNOWN, Provider, ProviderError, Question, chat};
use crate::http::beat;
use crate::pipes;

/// Between two looks at the program.
const LOOK: Duration = Duration::from_millis(20);

/// How many programs that answer started each other; `prx answer` may be one.
pub const DEPTH: &str = "PRX_DEPTH";

/// Bytes kept of what it says on standard error.
const COMPLAINT: usize = 4096;

pub struct Program {
    /// The program and its arguments.
    words: Vec<String>,
    /// Its file name, for people. Arguments may hold secrets and are not shown.
    name: String,
}

impl Program {
    pub fn new(words: &[String]) -> Program {
        Program {
            words: words.to_vec(),
            name: file_name(words),
        }
    }
}

impl Provider for Program {
    fn answer(&self, question: &Question) -> Result<Answer, ProviderError> {
        let asked = Asked {
            name: &self.name,
            key: "",
            key_variable: "",
            conversation: question.conversation,
        };
        let never =
            |what: &str, said: &str| ProviderError::new(Class::Never, asked.line(what, said));
        let mut run = Run::start(&self.words).map_err(|error| {
            never(
                "the program of provider_command does not start",
                &error.to_string(),
            )
        })?;
        let input = json!({ "messages": question.conversation }).to_string();
        let end = run.wait(input.as_bytes(), question.time_left);

        let complaint = String::from_utf8_lossy(&run.complaint);
        if let Some(last) = complaint.lines().rfind(|line| !line.trim().is_empty()) {
            log::debug!("{}", asked.line("standard error", last));
        }
        match end {
            Ok(End::Exited(status)) if !status.success() => {
                return Err(never(&format!("the program failed with {status}"), ""));
            }
            Ok(End::Exited(_) | End::TooMuch) => {}
            Ok(End::TimedOut) => {
                let what = "the program took longer than message_timeout_secs and was stopped";
                return Err(ProviderError::new(Class::TimedOut, asked.line(what, "")));
            }
            Err(error) => return Err(never("the program cannot be spoken to", &error.to_string())),
        }
        let mut text = String::new();
        let cut = !append(&mut text, &String::from_utf8_lossy(&run.answer));
        match chat::without_reasoning(&text) {
            text if text.is_empty() => Err(ProviderError::new(
                Class::Empty,
                asked.line("the program printed nothing", ""),
            )),
            text => Ok(Answer {
                text,
                cut,
                ..Answer::default()
            }),
        }
    }
}

/// The `DEPTH` of this process.
pub fn depth() -> u32 {
    let depth = std::env::var(DEPTH).ok();
    depth.and_then(|depth| depth.parse().ok()).unwrap_or(0)
}

/// How a run came to its end.
enum End {
    Exited(ExitStatus),
    TooMuch,
    TimedOut,
}

/// A running program and what it said so far. Dropped, it is killed; the programs that it started
/// itself are not: they only lose their output.
struct Run {
    child: pipes::Program,
    /// `None`: everything is said, or the program does not listen.
    input: Option<File>,
    output: File,
    errors: File,
    answer: Vec<u8>,
    complaint: Vec<u8>,
}

impl Run {
    fn start(words: &[String]) -> io::Result<Run> {
        let (input, our_input) = io::pipe()?;
        let (our_output, output) = io::pipe()?;
        let (our_errors, errors) = io::pipe()?;
        let (program, arguments) = words.split_first().ok_or(ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(input)
            .stdout(output)
            .stderr(errors);
        command.env_remove("MATTERMOST_BOT_TOKEN");
        command.env(DEPTH, (depth() + 1).to_string());
        for variable in KNOWN.iter().flat_map(|known| known.key_variables) {
            command.env_remove(variable);
        }
        Ok(Run {
            input: Some(without_blocking(&our_input, File::options().write(true))?),
            output: without_blocking(&our_output, File::options().read(true))?,
            errors: without_blocking(&our_errors, File::options().read(true))?,
            child: pipes::Program::start(&mut command)?,
            answer: Vec::new(),
            complaint: Vec::new(),
        })
    }

    /// Says `unsent` and listens, all on this thread: neither side can wait for the other for ever.
    fn wait(&mut self, mut unsent: &[u8], time_left: Duration) -> io::Result<End> {
        let begun = Instant::now();
        loop {
            // Before the reading: what an ended program printed is in the pipe by then.
            let ended = self.child.try_wait()?;
            if let Some(input) = &mut self.input
                && write_some(input, &mut unsent)?
            {
                self.input = None;
            }
            read_some(&mut self.output, &mut self.answer, ANSWER + 1)?;
            read_some(&mut self.errors, &mut self.complaint, usize::MAX)?;
            let old = self.complaint.len().saturating_sub(COMPLAINT);
            self.complaint.drain(..old);

            if let Some(status) = ended {
                return Ok(End::Exited(status));
            }
            if self.answer.len() > ANSWER {
                return Ok(End::TooMuch);
            }
            if begun.elapsed() >= time_left {
                return Ok(End::TimedOut);
            }
            beat();
            std::thread::sleep(LOOK);
        }
    }
}

/// Linux on every processor that the program is built for.
const O_NONBLOCK: i32 = 0o4000;

/// Our end of a pipe, opened a second time: blocking belongs to the opening, so the program's end
/// stays as programs expect theirs. (A socket pair would be simpler, but `/dev/stdin` and
/// `/dev/stderr` cannot be opened when they are sockets.)
fn without_blocking(end: &impl AsRawFd, options: &mut OpenOptions) -> io::Result<File> {
    options
        .custom_flags(O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", end.as_raw_fd()))
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
fn read_some(output: &mut File, text: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let mut buffer = [0; 8192];
    for _ in 0..32 {
        let room = buffer.len().min(limit.saturating_sub(text.len()));
        match output.read(&mut buffer[..room]) {
            Ok(0) => return Ok(()),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
