//! Asks on standard output and reads from standard input: a person's, or a pipe's.

use std::io::{self, BufRead, IsTerminal};
use std::process::{Command, Stdio};

use crate::commands::print;
use crate::exit::Exit;

/// Choices that are shown of a list, at most.
const SHOWN: usize = 20;

/// Reads one line without showing it; the question comes once it is hidden. The shell restores
/// the echo even when Ctrl-C ends both.
const READ_HIDDEN: &str = "stty -echo 2>/dev/null || exit 99; trap 'stty echo' EXIT; \
                           trap 'exit 130' INT TERM HUP; printf %s \"$1\" >&2; \
                           IFS= read -r line || exit 98; printf %s \"$line\"";

/// The answer, or `default` for an empty one; with an empty default, it asks until there is one.
pub(super) fn ask(question: &str, default: &str) -> Result<String, Exit> {
    loop {
        match default {
            "" => print(&format!("{question}: "))?,
            _ => print(&format!("{question} [{default}]: "))?,
        }
        let answer = read()?;
        match answer.trim() {
            "" if default.is_empty() => {}
            "" => return Ok(default.to_owned()),
            answer => return Ok(answer.to_owned()),
        }
    }
}

/// An answer that is not shown while it is typed, and may be empty.
pub(super) fn ask_secret(question: &str) -> Result<String, Exit> {
    let question = format!("{question} (it is not shown): ");
    if io::stdin().is_terminal()
        && let Ok(output) = Command::new("sh")
            .args(["-c", READ_HIDDEN, "sh", &question])
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output()
    {
        match output.status.code() {
            Some(0) => {
                print("\n")?;
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            // Without `stty`, the line is read like any other.
            Some(99 | 127) => {}
            _ => return Err(ended()),
        }
    }
    print(&question)?;
    read()
}

fn read() -> Result<String, Exit> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    if !io::stdin().is_terminal() {
        // A pipe's line ends do not appear on the screen.
        print("\n")?;
    }
    match read {
        Ok(0) => Err(ended()),
        Ok(_) => Ok(line),
        Err(error) => Err(Exit::Failure(format!("cannot read the answer: {error}"))),
    }
}

fn ended() -> Exit {
    Exit::Failure("the answers ended before the questions; nothing was written".into())
}

/// Shows numbered choices.
pub(super) fn offer(choices: impl Iterator<Item = String>) -> Result<(), Exit> {
    for (number, choice) in choices.enumerate() {
        if number == SHOWN {
            return print("   …\n");
        }
        let choice = choice.replace(char::is_control, " ");
        print(&format!("{:4}  {choice}\n", number + 1))?;
    }
    Ok(())
}

/// The choice of that number.
pub(super) fn chosen<'a, T>(choices: &'a [T], answer: &str) -> Option<&'a T> {
    let number: usize = answer.parse().ok()?;
    choices.get(number.checked_sub(1)?)
}

pub(super) fn is_number(answer: &str) -> bool {
    answer.parse::<usize>().is_ok()
}

/// For people, of a number that is none of the choices.
pub(super) fn unlisted(number: &str, what: &str) -> String {
    format!("The list has no number {number}, and there is no {what} of that name.\n")
}
