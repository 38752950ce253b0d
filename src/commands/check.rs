//! What a command finds out, one line each: how it went, what it is about, and what to do.

use std::io::{self, IsTerminal};

use serde::Serialize;

use super::{Exit, print};
use crate::text::wrap;

/// The column in which details begin.
const INDENT: usize = 16;
/// Prose is wrapped here on a terminal, whose real width only the terminal knows.
pub(crate) const WIDTH: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    Warning,
    Failure,
}

#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    detail: String,
    /// Lines that begin with two spaces are to be pasted; empty: there is nothing to do.
    fix: String,
}

/// The checks so far: printed as they come, or at the end as JSON.
pub(crate) struct Report {
    checks: Vec<Check>,
    json: bool,
    width: usize,
    colour: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Report {
        let terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Report {
            checks: Vec::new(),
            json,
            width: if terminal { WIDTH } else { usize::MAX },
            colour: terminal && !no_colour,
        }
    }

    pub(crate) fn ok(&mut self, check: &'static str, detail: &str) {
        self.add(check, Status::Ok, detail, "");
    }

    pub(crate) fn warn(&mut self, check: &'static str, detail: &str, fix: &str) {
        self.add(check, Status::Warning, detail, fix);
    }

    pub(crate) fn fail(&mut self, check: &'static str, detail: &str, fix: &str) {
        self.add(check, Status::Failure, detail, fix);
    }

    fn add(&mut self, check: &'static str, status: Status, detail: &str, fix: &str) {
        // Names come from the server: a terminal obeys none of them.
        let harmless = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        let check = Check {
            check,
            status,
            detail: detail.chars().map(harmless).collect(),
            fix: fix.chars().map(harmless).collect(),
        };
        if !self.json {
            // A report that nobody reads still has its exit code.
            let _ = print(&self.text(&check));
        }
        self.checks.push(check);
    }

    /// Ends the report, as JSON if that was asked for.
    pub(crate) fn finish(&self) -> Result<(), Exit> {
        if !self.json {
            return Ok(());
        }
        let json = serde_json::to_string_pretty(&self.checks).map_err(Exit::failure)?;
        print(&(json + "\n"))
    }

    /// How many checks went so.
    pub(crate) fn count(&self, status: Status) -> usize {
        let same = |check: &&Check| check.status == status;
        self.checks.iter().filter(same).count()
    }

    fn text(&self, check: &Check) -> String {
        let (sign, colour) = match check.status {
            Status::Ok => ("✓", "32"),
            Status::Warning => ("!", "33"),
            Status::Failure => ("✗", "31"),
        };
        let sign = if self.colour {
            format!("\x1b[{colour}m{sign}\x1b[0m")
        } else {
            sign.to_owned()
        };
        let mut text = format!("{sign} {:<width$}", check.check, width = INDENT - 2);
        for (number, line) in wrap(&check.detail, self.width - INDENT).iter().enumerate() {
            let indent = if number == 0 { 0 } else { INDENT };
            text += &format!("{:indent$}{line}\n", "");
        }
        let mut arrow = "→ ";
        for line in check.fix.lines() {
            let lines = if line.starts_with("  ") {
                vec![line.to_owned()]
            } else {
                wrap(line, self.width - INDENT - 2)
            };
            for line in lines {
                text += &format!("{:INDENT$}{arrow}{line}\n", "");
                arrow = "  ";
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_to_paste_are_never_wrapped_and_prose_is() {
        let report = Report {
            checks: Vec::new(),
            json: false,
            width: 40,
            colour: false,
        };
        let check = Check {
            check: "channel",
            status: Status::Failure,
            detail: "one two three four five six".into(),
            fix: "seven eight nine ten eleven\n  one two three four five six seven".into(),
        };
        let expected = "\
✗ channel       one two three four five
                six
                → seven eight nine ten
                  eleven
                    one two three four five six seven
";
        assert_eq!(report.text(&check), expected);
    }
}
