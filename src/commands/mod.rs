//! One file per command, and how a command ends.

pub mod check;
pub mod doctor;
pub mod init;
pub mod lookup;
pub mod run;
pub mod send;
pub mod why;

use std::io::{self, ErrorKind, Write};

use crate::config::ConfigError;

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
