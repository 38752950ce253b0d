//! A program as the model. The conversation is JSON on its standard input,
//! `{"messages": [{"role": "system" | "user" | "assistant", "content": "…"}, …]}`; the answer is what
//! it prints. It runs without a shell and without the bot's secrets. When its time is up its input is
//! closed, and soon after it is killed.

use std::io;
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
use crate::pipes::{End, LOOK, Run};

/// How many programs that answer started each other; `prx answer` may be one.
pub(crate) const DEPTH: &str = "PRX_DEPTH";
/// How long a program that is to stop may take for it.
const STOPPING: Duration = Duration::from_secs(2);

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
    let asked = asked(&name, conversation);
    let error = |class, what: &str, said: &str| ProviderError::new(class, asked.line(what, said));
    let never = |what: &str, said: &str| error(Class::Never, what, said);
    let mut run = start(words).map_err(|error| {
        let what = "the program of provider_command does not start";
        never(what, &error.to_string())
    })?;
    let (mut glue, mut answer) = (Glue::default(), Shown::new(bot_name, false));
    let input = input(conversation);
    let end = run.0.wait(input.as_bytes(), time_left, &mut |printed| {
        beat();
        if !printed.is_empty() {
            answer.push(&glue.join(&decoded(printed)));
            ear.news(answer.news());
        }
        answer.overflows
    });
    let complaint = run.0.complaint().unwrap_or_default();
    if !complaint.is_empty() {
        ear.note(&asked.line("standard error", &complaint));
    }
    let timed_out = matches!(end, Ok(End::TimedOut));
    match end {
        Ok(End::Exited(status)) if !status.success() => {
            return Err(never(&format!("the program failed with {status}"), &complaint).into());
        }
        Ok(End::Exited(_) | End::TooMuch | End::TimedOut) => {}
        Err(error) => {
            return Err(never("the program cannot be spoken to", &error.to_string()).into());
        }
    }
    answer.push(&glue.end());
    let (text, news) = answer.end();
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
        cut: answer.overflows,
        tokens: None,
        unseen_images: has_images(conversation),
    })
}

/// What a log line about the program must know.
fn asked<'a>(name: &'a str, conversation: &'a [Message]) -> Asked<'a> {
    Asked {
        name,
        secrets: Vec::new(),
        key_variable: "",
        is_local: true,
        conversation,
        parameters: None,
    }
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

/// Starts the program, without the bot's secrets in its environment.
fn start(words: &[String]) -> io::Result<Stopping> {
    let run = Run::start(words, |command| {
        command.env_remove("MATTERMOST_BOT_TOKEN");
        command.env(DEPTH, (depth() + 1).to_string());
        for variable in KNOWN.iter().flat_map(|known| known.key_variables) {
            command.env_remove(variable);
        }
    })?;
    Ok(Stopping(run))
}

/// A run that has time to stop by itself when it is dropped, and then is killed. The programs that
/// it started itself are not: they only lose their output.
struct Stopping(Run);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.let_go();
        let begun = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begun.elapsed() < STOPPING {
            beat();
            std::thread::sleep(LOOK);
        }
    }
}
