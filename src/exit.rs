//! How a command ends when it does not do what it was asked, and the process's exit code.

use std::fmt;

/// The exit codes and what they mean: for the manual page and the README.
pub const CODES: &[(u8, &str)] = &[
    (0, "all is well; also: another instance is at work"),
    (1, "something failed while running"),
    (2, "the arguments or the configuration are wrong"),
    (77, "the server refuses the token"),
];

/// Why a command failed; the text is for a person.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something failed while running.
    Failure(String),
    /// The arguments or the configuration cannot be used.
    Config(String),
    /// The server refused the token: starting again changes nothing.
    Token(String),
}

impl Exit {
    /// What the arguments or the configuration have wrong.
    pub(crate) fn config(problem: impl fmt::Display) -> Exit {
        Exit::Config(problem.to_string())
    }

    /// What failed while running.
    pub(crate) fn failure(error: impl fmt::Display) -> Exit {
        Exit::Failure(error.to_string())
    }

    /// The exit code of the process. 77 is `EX_NOPERM` of sysexits.h.
    pub fn code(&self) -> u8 {
        match self {
            Exit::Failure(_) => 1,
            Exit::Config(_) => 2,
            Exit::Token(_) => 77,
        }
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        match self {
            Exit::Failure(message) | Exit::Config(message) | Exit::Token(message) => message,
        }
    }
}
