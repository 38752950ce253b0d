//! `prx answer`: what is said on standard input → the model's answer. It speaks to no Mattermost.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{Exit, print};
use crate::config;
use crate::json;
use crate::provider::{self, DEPTH, Listener, Message, Question, Role};
use crate::worker;

/// The most that is read, in bytes.
const INPUT: u64 = 64 << 20;
/// From this depth on of programs that answer by starting each other, no more is started.
const TOO_DEEP: u32 = 3;

/// What is on standard input, and what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A person's text; the answer is printed.
    Text,
    /// `{"messages": [...]}`, as programs of `provider_command` get it; the answer is printed.
    Json,
    /// The loop's: see `worker`.
    Worker,
}

/// Answers what standard input says.
#[inline(never)]
pub(crate) fn run(config_path: Option<&Path>, mode: Mode) -> Result<(), Exit> {
    check_depth()?;
    if mode == Mode::Worker {
        return worker::run();
    }
    let (settings, timeout) = config::load_provider(config_path, &|name| std::env::var(name).ok())?;
    let conversation = conversation(mode)?;
    let question = Question::new(&conversation, timeout);
    let answer = provider::ask(&settings, &[], &question, &mut Patience::default())
        .map_err(Exit::failure)?;
    if answer.cut {
        log::warn!("the model stopped at its length limit; the answer is not whole");
    }
    if answer.broke_off {
        log::warn!("the connection broke; the answer is not whole");
    }
    print(&format!("{}\n", answer.text))
}

/// Refuses to be one more of the programs that answer by starting each other.
pub(super) fn check_depth() -> Result<(), Exit> {
    let depth = provider::depth();
    if depth >= TOO_DEEP {
        return Err(Exit::Failure(format!(
            "{DEPTH}={depth}: provider_command starts prx, which starts prx again; name another program",
        )));
    }
    Ok(())
}

fn conversation(mode: Mode) -> Result<Vec<Message>, Exit> {
    #[derive(Deserialize)]
    struct Said {
        messages: Vec<Message>,
    }
    let fail = |what: &str| Err(Exit::Failure(format!("standard input: {what}")));
    let mut text = String::new();
    if let Err(error) = io::stdin().lock().take(INPUT).read_to_string(&mut text) {
        return fail(&error.to_string());
    }
    if mode == Mode::Json {
        return match json::parse_slice::<Said>(text.as_bytes()) {
            Ok(said) if !said.messages.is_empty() => Ok(said.messages),
            _ => fail(
                "is not {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}]}; without --json it \
                 may be plain text",
            ),
        };
    }
    match text.trim() {
        "" => fail("says nothing; try `echo Hi | prx answer`"),
        text => Ok(vec![Message::new(Role::User, text)]),
    }
}

/// Waits for the whole answer. A person at a shell is told once why it takes so long.
#[derive(Default)]
pub(super) struct Patience {
    noted: String,
    told: bool,
}

impl Listener for Patience {
    fn note(&mut self, line: &str) {
        log::debug!("{line}");
        line.clone_into(&mut self.noted);
    }

    fn wait(&mut self, duration: Duration) {
        if !std::mem::replace(&mut self.told, true) {
            log::warn!("{}", self.noted);
        }
        std::thread::sleep(duration);
    }
}
