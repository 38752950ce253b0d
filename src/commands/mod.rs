//! One file per command, and how a command ends.

pub mod check;
pub mod doctor;
pub mod init;
pub mod lookup;
pub mod run;
pub mod send;
pub mod why;

use std::io::{self, ErrorKind, Write};

use std::path::Path;

use crate::config::{self, Config, ConfigError};
use crate::http::Agent;
use crate::mattermost::client::{ApiError, Client};
use crate::times::Times;

/// Why a command did not do what it was asked; the text is one line for a person.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something failed while running.
    Failure(String),
    /// The configuration cannot be used.
    Config(String),
    /// The server refused the token: starting again changes nothing.
    Token(String),
}

impl Exit {
    /// The exit code of the process. 77 is `EX_NOPERM` of sysexits.h.
    pub fn code(&self) -> u8 {
        match self {
            Exit::Failure(_) => 1,
            Exit::Config(_) => 2,
            Exit::Token(_) => 77,
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Exit::Failure(message) | Exit::Config(message) | Exit::Token(message) => message,
        }
    }
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Exit {
        Exit::Config(error.to_string())
    }
}

impl From<ApiError> for Exit {
    fn from(error: ApiError) -> Exit {
        match error {
            ApiError::Unauthorized => Exit::Token(error.to_string()),
            error => Exit::Failure(error.to_string()),
        }
    }
}

/// The configuration and its Mattermost, for a command beside the bot.
fn connect(config_path: Option<&Path>) -> Result<(Config, Client), Exit> {
    let config = config::load(config_path, &|name| std::env::var(name).ok())?;
    let settings = &config.mattermost;
    let agent = Agent::new(settings.ca_file.as_deref()).map_err(Exit::Config)?;
    let client = Client::new(agent, &settings.url, &settings.token, Times::default());
    Ok((config, client))
}

/// Writes `text` to standard output. That nobody reads it is no failure.
pub fn print(text: &str) -> Result<(), Exit> {
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
