//! What is wrong with the settings, and what is only odd.

use std::cell::RefCell;
use std::fmt;

use crate::text::Problem;

/// Why there are no settings: all that was found, what is fatal first. It never holds a secret.
#[derive(Debug)]
pub struct ConfigError(pub(crate) Vec<Finding>);

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> ConfigError {
        ConfigError(vec![Finding {
            problem,
            weight: Weight::Fatal,
            position: LAST,
        }])
    }
}

/// A line each.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|finding| match finding.weight {
            Weight::Fatal => finding.to_string(),
            _ => format!("warning: {finding}"),
        });
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Something that is wrong or odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The place, what is odd there, and what to write instead.
    pub problem: Problem,
    pub(crate) weight: Weight,
    position: (usize, usize),
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Nothing can run with it.
    Fatal,
    Odd,
    /// It is odd, and the doctor says more of it once it knows the server: the right id or name.
    ToldLater,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

/// The position of what stands in no line of a file.
pub(super) const LAST: (usize, usize) = (usize::MAX, 0);

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings(RefCell<Vec<Finding>>);

impl Findings {
    /// Keeps a finding, once; of a value that is wrong nothing else is said. `position`: the file and
    /// the byte, for the order in which findings are told.
    pub(super) fn add(&self, position: (usize, usize), weight: Weight, problem: Problem) {
        let mut findings = self.0.borrow_mut();
        let mut known = findings.iter();
        let is_told = known.any(|known| {
            let is_wrong = known.weight == Weight::Fatal && known.position != LAST;
            known.problem == problem || is_wrong && known.position == position
        });
        if !is_told {
            findings.push(Finding {
                problem,
                weight,
                position,
            });
        }
    }

    /// All findings in the order of the file, what is fatal first; an error if anything is.
    pub(super) fn take(&self) -> Result<Vec<Finding>, ConfigError> {
        let mut findings = self.0.take();
        findings.sort_by_key(|finding| (finding.weight != Weight::Fatal, finding.position));
        match findings.first() {
            Some(first) if first.weight == Weight::Fatal => Err(ConfigError(findings)),
            _ => Ok(findings),
        }
    }
}

/// `problem` with its place in front.
pub(super) fn at(place: impl fmt::Display, problem: Problem) -> Problem {
    Problem {
        what: format!("{place}: {}", problem.what),
        fix: problem.fix,
    }
}
