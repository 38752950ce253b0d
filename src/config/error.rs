//! What is wrong with the settings, and what is only odd.

use std::fmt;

use crate::text::Problem;

/// Why there are no settings: the place and what to write instead. It never holds a secret.
#[derive(Debug)]
pub enum ConfigError {
    /// There is no config file.
    NoFile(Problem),
    /// A file cannot be read, or something in it or in the environment cannot be used.
    Wrong(Problem),
}

impl ConfigError {
    /// A problem at a place: a file, its line, a setting.
    pub(super) fn new(place: impl fmt::Display, problem: Problem) -> ConfigError {
        ConfigError::Wrong(at(place, problem))
    }

    /// What is wrong, and what to do about it.
    pub(crate) fn problem(&self) -> &Problem {
        match self {
            ConfigError::NoFile(problem) | ConfigError::Wrong(problem) => problem,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

impl std::error::Error for ConfigError {}

/// Something that is odd but not wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The place, what is odd there, and what to write instead.
    pub problem: Problem,
    /// The doctor says more of it once it knows the server: the right id or name.
    pub told_later: bool,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

/// `problem` with its place in front.
pub(super) fn at(place: impl fmt::Display, problem: Problem) -> Problem {
    Problem {
        what: format!("{place}: {}", problem.what),
        fix: problem.fix,
    }
}
