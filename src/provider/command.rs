//! A program as the model. The conversation is JSON on its standard input,
//! `{"messages": [{"role": "system" | "user" | "assistant", "content": "…"}, …]}`; the answer is what
//! it prints. It runs without a shell and without the bot's secrets. When its time is up its input is
//! closed, and soon after it is killed.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Message;
use super::ask::Ear;
use super::error::{Asked, Class, ProviderError};
use super::lenient::{Glue, decoded};
use super::request::{has_images, without_images};
use super::server::{Failed, Said};
use super::settings::{KNOWN, file_name};
use super::shown::Shown;
use crate::http::beat;
use crate::pipes::{self, read_some, write_some};

/// Between two looks at the program.
const LOOK: Duration = Duration::from_millis(20);
/// How many programs that answer started each other; `prx answer` may be one.
pub(crate) const DEPTH: &str = "PRX_DEPTH";
/// How long a program that is to stop may take for it.
const STOPPING: Duration = Duration::from_secs(2);
/// Bytes kept of what it says on standard error.
const COMPLAINT: usize = 4096;

/// What the program of `provider_command` prints about the conversation. Its arguments may hold
/// secrets and are not shown.
pub(super) fn answer(
    words: &[String],
    conversation: &[Message],
    bot_name: &str,
    time_left: Duration,
    ear: &mut Ear,
) -> Result<Said, Failed> {
    let name = file_name(words);
    let asked = Asked {
        name: &name,
        secrets: Vec::new(),
        key_variable: "",
        is_local: true,
        conversation,
        parameters: None,
    };
    let error = |class, what: &str, said: &str| ProviderError::new(class, asked.line(what, said));
    let never = |what: &str, said: &str| error(Class::Never, what, said);
    let mut run = Run::start(words, bot_name).map_err(|error| {
        let what = "the program of provider_command does not start";
        never(what, &error.to_string())
    })?;
    let input = input(conversation);
    let end = run.wait(input.as_bytes(), time_left, ear);

    let complaint = String::from_utf8_lossy(&run.complaint);
    if let Some(last) = complaint.lines().rfind(|line| !line.trim().is_empty()) {
        ear.note(&asked.line("standard error", last));
    }
    let timed_out = matches!(end, Ok(End::TimedOut));
    match end {
        Ok(End::Exited(status)) if !status.success() => {
            return Err(never(&format!("the program failed with {status}"), "").into());
        }
        Ok(End::Exited(_) | End::TooMuch | End::TimedOut) => {}
        Err(error) => {
            return Err(never("the program cannot be spoken to", &error.to_string()).into());
        }
    }
    let rest = run.glue.end();
    run.answer.push(&rest);
    let (text, news) = run.answer.end();
    ear.news(news);
    if timed_out {
        let error = error(Class::TimedOut, &too_slow(time_left), "");
        return Err(Failed {
            error,
            partial: text,
        });
    }
    if text.is_empty() {
        return Err(error(Class::Empty, "the program printed nothing", "").into());
    }
    Ok(Said {
        text,
        cut: run.answer.overflows,
        tokens: None,
        unseen_images: has_images(conversation),
    })
}

/// What is said of a program that took all of `time`.
fn too_slow(time: Duration) -> String {
    format!(
        "the program took longer than {:.0} s and was stopped: raise message_timeout_secs, or use \
         a faster one",
        time.as_secs_f64()
    )
}

/// What the program reads.
fn input(conversation: &[Message]) -> String {
    let messages = conversation.iter().map(|message| {
        let content = match message.images.len() {
            0 => message.content.clone(),
            count => without_images(&message.content, count),
        };
        json!({"role": message.role, "content": content})
    });
    json!({"messages": messages.collect::<Vec<Value>>()}).to_string()
}

/// The `DEPTH` of this process.
pub(crate) fn depth() -> u32 {
    let depth = std::env::var(DEPTH).ok();
    depth.and_then(|depth| depth.parse().ok()).unwrap_or(0)
}

/// How a run came to its end.
enum End {
    Exited(ExitStatus),
    TooMuch,
    TimedOut,
}

/// A running program and what it said so far. Dropped, it is stopped; the programs that it started
/// itself are not: they only lose their output.
struct Run {
    child: pipes::Program,
    /// `None`: everything is said, or the program does not listen.
    input: Option<File>,
    /// `None`: nobody listens any more.
    output: Option<File>,
    errors: File,
    glue: Glue,
    answer: Shown,
    complaint: Vec<u8>,
}

impl Run {
    fn start(words: &[String], bot_name: &str) -> io::Result<Run> {
        let (stdin, input) = pipes::input()?;
        let (stdout, output) = pipes::output()?;
        let (stderr, errors) = pipes::output()?;
        let (program, arguments) = words.split_first().ok_or(ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        command.env_remove("MATTERMOST_BOT_TOKEN");
        command.env(DEPTH, (depth() + 1).to_string());
        for variable in KNOWN.iter().flat_map(|known| known.key_variables) {
            command.env_remove(variable);
        }
        Ok(Run {
            input: Some(input),
            output: Some(output),
            errors,
            child: pipes::Program::start(&mut command)?,
            glue: Glue::default(),
            answer: Shown::new(bot_name, false),
            complaint: Vec::new(),
        })
    }

    /// Says `unsent` and listens, all on this thread: neither side can wait for the other for ever.
    fn wait(&mut self, mut unsent: &[u8], time_left: Duration, ear: &mut Ear) -> io::Result<End> {
        let begun = Instant::now();
        loop {
            // Before the reading: what an ended program printed is in the pipe by then.
            let ended = self.child.try_wait()?;
            if let Some(input) = &mut self.input
                && write_some(input, &mut unsent)?
            {
                self.input = None;
            }
            self.listen(ear)?;
            read_some(&mut self.errors, &mut self.complaint)?;
            let old = self.complaint.len().saturating_sub(COMPLAINT);
            self.complaint.drain(..old);

            if let Some(status) = ended {
                return Ok(End::Exited(status));
            }
            if self.answer.overflows {
                return Ok(End::TooMuch);
            }
            if begun.elapsed() >= time_left {
                return Ok(End::TimedOut);
            }
            beat();
            std::thread::sleep(LOOK);
        }
    }

    /// Takes what it printed since the last look.
    fn listen(&mut self, ear: &mut Ear) -> io::Result<()> {
        let mut bytes = Vec::new();
        if let Some(output) = &mut self.output {
            read_some(output, &mut bytes)?;
        }
        if !bytes.is_empty() {
            let text = self.glue.join(&decoded(&bytes));
            self.answer.push(&text);
            ear.news(self.answer.news());
        }
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        (self.input, self.output) = (None, None);
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < STOPPING {
            beat();
            std::thread::sleep(LOOK);
        }
    }
}
