//! One file per command, and what they share. The commands beside the bot stay out of line
//! (`#[inline(never)]`): `.ci/layout.ld` lays their code aside, so that a bot at rest does not have it in
//! memory.

pub(crate) mod answer;
pub mod ask;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod lookup;
pub mod run;
pub mod send;
pub(crate) mod why;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;

use log::Level;

use crate::config::{self, Config, ConfigError};
use crate::exit::Exit;
use crate::http::Agent;
use crate::mattermost::client::{ApiError, Client, Denial};
use crate::text::Problem;
use crate::times::Times;

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Exit {
        Exit::Config(error.to_string().replace('\n', "\nprx: "))
    }
}

impl From<ApiError> for Exit {
    fn from(error: ApiError) -> Exit {
        match error {
            ApiError::Unauthorized(_) => Exit::Token(error.to_string()),
            error => Exit::failure(error),
        }
    }
}

/// What an error of the API means for a person, and what to do.
fn problem(error: &ApiError) -> Problem {
    match error {
        ApiError::Unauthorized(Denial::Token) => Problem::new(
            "the server refuses the token",
            "a system admin makes a new one: Integrations > Bot Accounts > the bot > Create New Token",
        ),
        ApiError::Unauthorized(denial) => denial.problem(),
        ApiError::Unreachable(problem) | ApiError::Unclear(problem) if !problem.fix.is_empty() => {
            problem.clone()
        }
        ApiError::RateLimited(_) => Problem::new(
            "the server, or a proxy in front of it, asks for fewer requests (429)",
            "wait a minute; if it stays so, raise poll_interval_secs, or have the server's limit raised",
        ),
        error => Problem::new(
            error.to_string(),
            "try again in a minute; if it stays so, look at the server's log",
        ),
    }
}

/// The configuration and its Mattermost, for a command beside the bot.
fn connect(config_path: Option<&Path>) -> Result<(Config, Client), Exit> {
    let config = config::load(config_path, &|name| std::env::var(name).ok())?;
    let settings = &config.mattermost;
    let agent = Agent::new(settings.ca_file.as_deref()).map_err(Exit::config)?;
    let client = Client::new(agent, &settings.url, &settings.token, Times::default());
    Ok((config, client))
}

/// The level of what only a person at a terminal wants to know: cron would send it by mail.
fn at_terminal(level: Level) -> Level {
    if io::stderr().is_terminal() {
        level
    } else {
        Level::Debug
    }
}

/// Writes `text` to standard output. That nobody reads it is no failure.
pub(crate) fn print(text: &str) -> Result<(), Exit> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Exit::Failure(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}
