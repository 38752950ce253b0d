//! The command line: arguments, help, completions, man page, and the process around a command (log
//! and exit code).

mod completions;
mod help;
mod man;
mod parse;
mod table;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use log::LevelFilter;

use crate::commands::{answer, ask, doctor, init, print, run, send, why};
use crate::text::one_line;
use crate::times;

/// What the process was asked to do.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    /// `--config`.
    config: Option<PathBuf>,
    /// The level of this program's own log lines.
    level: LevelFilter,
    action: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    /// The text to print.
    Help(String),
    Version,
    Run {
        once: bool,
    },
    Doctor {
        json: bool,
        ask: bool,
    },
    /// The post, by id or link.
    Why(String),
    Init,
    Send(send::Letter),
    Ask(ask::Query),
    Answer(answer::Mode),
    /// Of the shell.
    Completions(&'static str),
    Man,
}

/// Does what the arguments of the process say.
pub fn main() -> ExitCode {
    let command = match parse::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => return fail(2, &format!("{error}\nTry `prx --help`.")),
    };
    // A worker reports its log lines to the loop.
    if command.action != Action::Answer(answer::Mode::Worker) {
        start_log(command.level);
    }
    let config = command.config.as_deref();
    let result = match command.action {
        Action::Help(text) => print(&text),
        Action::Version => print(&help::version()),
        Action::Run { once } => run::run(config, once),
        Action::Doctor { json, ask } => doctor::run(config, json, ask),
        Action::Why(post) => why::run(config, &post),
        Action::Init => init::run(config),
        Action::Send(letter) => send::run(config, &letter),
        Action::Ask(query) => ask::run(config, &query),
        Action::Answer(mode) => answer::run(config, mode),
        Action::Completions(shell) => print(&completions::script(shell)),
        Action::Man => print(&man::page()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => fail(exit.code(), exit.message()),
    }
}

/// Log lines go to standard error, one line each: time in UTC, level, message. `$RUST_LOG` wins over
/// `level`; what the libraries say is shown from warnings on.
fn start_log(level: LevelFilter) {
    let filter = env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty());
    let libraries = level.min(LevelFilter::Warn);
    let filter = filter.unwrap_or_else(|| format!("{libraries},prx={level}"));
    env_logger::Builder::new()
        .parse_filters(&filter)
        .format(|buffer, record| {
            let time = times::timestamp(SystemTime::now());
            writeln!(
                buffer,
                "{time} {:<5} {}",
                record.level(),
                one_line(&record.args().to_string())
            )
        })
        .init();
}

/// Says what went wrong on standard error, if anybody listens there.
fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "prx: {message}");
    ExitCode::from(code)
}
