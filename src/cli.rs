//! Arguments → a command, the help text, and the process around a command: log and exit code.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use log::LevelFilter;

use crate::commands::{doctor, init, print, run, send, why};
use crate::nearest::nearest;
use crate::text::one_line;
use crate::times;

/// What the process was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Of this program's own lines in the log.
    pub level: LevelFilter,
    pub action: Action,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
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
}

/// What is wrong with the arguments, in one line.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Does what the arguments of the process say.
pub fn main() -> ExitCode {
    let command = match parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => return fail(2, &format!("{error}\nTry `prx --help`.")),
    };
    start_log(command.level);
    let config = command.config.as_deref();
    let result = match command.action {
        Action::Help(text) => print(&text),
        Action::Version => print(&version()),
        Action::Run { once } => run::run(config, once),
        Action::Doctor { json, ask } => doctor::run(config, json, ask),
        Action::Why(post) => why::run(config, &post),
        Action::Init => init::run(config),
        Action::Send(letter) => send::run(config, &letter),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => fail(exit.code(), exit.message()),
    }
}

/// The arguments, the program's name not among them, as a command.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let given = Given::read(arguments)?;
    let mut words: Vec<&str> = given.words.iter().map(String::as_str).collect();
    let is_help = words.first() == Some(&"help");
    while words.first() == Some(&"help") {
        words.remove(0);
    }
    let spec = if words.is_empty() {
        &COMMANDS[0]
    } else {
        let length = |spec: &Spec| spec.matched(&words);
        let spec = COMMANDS.iter().find(|spec| length(spec) > 0);
        let spec = spec.ok_or_else(|| unknown_command(&words))?;
        words.drain(..length(spec));
        spec
    };
    for (option, _) in &given.options {
        if !GLOBAL_OPTIONS
            .iter()
            .chain(spec.options)
            .any(|known| known == *option)
        {
            let (name, command) = (option.name, spec.name);
            return Err(UsageError(format!(
                "{name} is no option of `prx {command}`"
            )));
        }
    }
    let action = if is_help || given.has("--help") {
        let is_general = given.words.iter().all(|word| word == "help");
        Action::Help(if is_general { help() } else { spec.help() })
    } else if given.has("--version") {
        Action::Version
    } else if words.len() > spec.operands.len() {
        let extra = words[spec.operands.len()];
        return Err(UsageError(format!("unexpected argument {extra:?}")));
    } else {
        (spec.action)(&given, &words)?
    };
    let level = match (given.has("--quiet"), given.has("--verbose")) {
        (true, _) => LevelFilter::Error,
        (false, true) => LevelFilter::Debug,
        (false, false) => LevelFilter::Info,
    };
    Ok(Command {
        config: given.value("--config").map(PathBuf::from),
        level,
        action,
    })
}

/// A command of the command line.
struct Spec {
    name: &'static str,
    aliases: &'static [&'static str],
    /// What may follow the name.
    operands: &'static [&'static str],
    summary: &'static str,
    options: &'static [Opt],
    example: &'static str,
    /// Of the options and the operands.
    action: fn(&Given, &[&str]) -> Result<Action, UsageError>,
}

#[derive(PartialEq)]
struct Opt {
    name: &'static str,
    /// A dash and a letter, or empty.
    short: &'static str,
    /// What stands for the value in the help; empty: it takes none.
    value: &'static str,
    summary: &'static str,
}

/// The first is what happens without a name.
const COMMANDS: &[Spec] = &[
    Spec {
        name: "run",
        aliases: &["daemon"],
        operands: &[],
        summary: "answer messages until stopped (the default)",
        options: &[flag("--once", "look once, answer what is there, and end")],
        example: "prx run --config /etc/prx/config.toml",
        action: |given, _| {
            Ok(Action::Run {
                once: given.has("--once"),
            })
        },
    },
    Spec {
        name: "channel doctor",
        aliases: &["doctor"],
        operands: &["[mattermost]"],
        summary: "find out what keeps the bot from working",
        options: &[
            flag("--ask", "ask the model one short question, too"),
            flag("--json", "print the checks as JSON"),
        ],
        example: "prx channel doctor mattermost",
        action: |given, operands| match operands {
            [other] if *other != "mattermost" => {
                Err(unknown("channel", other, ["mattermost"].into_iter()))
            }
            _ => Ok(Action::Doctor {
                json: given.has("--json"),
                ask: given.has("--ask"),
            }),
        },
    },
    Spec {
        name: "why",
        aliases: &[],
        operands: &["POST"],
        summary: "say why a post was answered, or was not",
        options: &[],
        example: "prx why https://chat.example.com/team/pl/4xp9fdt77pncbef59f4k1qe83o",
        action: |_, operands| match operands {
            [post] => Ok(Action::Why((*post).to_owned())),
            _ => Err(UsageError(
                "which post? Give its id or its link (Copy Link in the post's menu)".to_owned(),
            )),
        },
    },
    Spec {
        name: "init",
        aliases: &[],
        operands: &[],
        summary: "ask what is needed and write the config file",
        options: &[],
        example: "prx init --config ./config.toml",
        action: |_, _| Ok(Action::Init),
    },
    Spec {
        name: "send",
        aliases: &[],
        operands: &["[TEXT|-]"],
        summary: "post a text, or what comes on standard input",
        options: &[
            valued(
                "--channel",
                "CHANNEL",
                "its id, name or link; else channel_id",
            ),
            valued("--thread", "POST", "reply in this post's thread"),
        ],
        example: "df -h | prx send --channel ops -",
        action: |given, operands| {
            let text = |name| Some(given.value(name)?.to_string_lossy().into_owned());
            Ok(Action::Send(send::Letter {
                channel: text("--channel"),
                thread: text("--thread"),
                text: operands
                    .first()
                    .filter(|text| **text != "-")
                    .map(|text| (*text).to_owned()),
            }))
        },
    },
];

const fn flag(name: &'static str, summary: &'static str) -> Opt {
    valued(name, "", summary)
}

const fn valued(name: &'static str, value: &'static str, summary: &'static str) -> Opt {
    Opt {
        name,
        short: "",
        value,
        summary,
    }
}

const GLOBAL_OPTIONS: &[Opt] = &[
    Opt {
        name: "--config",
        short: "",
        value: "FILE",
        summary: "the configuration file",
    },
    Opt {
        name: "--verbose",
        short: "-v",
        value: "",
        summary: "log more",
    },
    Opt {
        name: "--quiet",
        short: "-q",
        value: "",
        summary: "log errors only",
    },
    Opt {
        name: "--version",
        short: "-V",
        value: "",
        summary: "print the version",
    },
    Opt {
        name: "--help",
        short: "-h",
        value: "",
        summary: "print this, or the help of a command",
    },
];

fn command_names() -> impl Iterator<Item = &'static str> {
    let names = COMMANDS
        .iter()
        .flat_map(|spec| [spec.name].into_iter().chain(spec.aliases.iter().copied()));
    names.chain(["help"])
}

impl Spec {
    /// How many of the first `words` are this command's name or an alias of it.
    fn matched(&self, words: &[&str]) -> usize {
        let mut names = [self.name].into_iter().chain(self.aliases.iter().copied());
        let matching = names.find_map(|name| {
            let name: Vec<&str> = name.split(' ').collect();
            words.starts_with(&name).then_some(name.len())
        });
        matching.unwrap_or(0)
    }

    fn help(&self) -> String {
        let mut text = format!("{}\n\nUsage: prx {}", self.summary, self.name);
        for operand in self.operands {
            text += &format!(" {operand}");
        }
        text += " [OPTION]...\n";
        for alias in self.aliases {
            text += &format!("       prx {alias}\n");
        }
        text += "\nOptions:\n";
        for option in self.options.iter().chain(GLOBAL_OPTIONS) {
            text += &option.line();
        }
        text + &format!("\nExample: {}\n", self.example)
    }
}

impl Opt {
    fn line(&self) -> String {
        let comma = if self.short.is_empty() { "    " } else { ", " };
        let name = format!("{}{comma}{} {}", self.short, self.name, self.value);
        format!("  {name:<20} {}\n", self.summary)
    }
}

fn help() -> String {
    let mut text = format!(
        "{}\nAn AI assistant for Mattermost that answers every message exactly once.\n\n\
         Usage: prx [COMMAND] [OPTION]...\n\nCommands:\n",
        version().trim_end()
    );
    for spec in COMMANDS {
        text += &format!("  {:<20} {}\n", spec.name, spec.summary);
    }
    text += "  help COMMAND         print the options of a command\n\nOptions:\n";
    for option in GLOBAL_OPTIONS {
        text += &option.line();
    }
    text + &format!(
        "\nThe configuration is read from --config, else from\n\
         $OPENPRX_CONFIG_DIR/config.toml, else from ~/.openprx/config.toml.\n\n\
         Example: {}\n",
        COMMANDS[0].example
    )
}

fn version() -> String {
    let environment = if cfg!(target_env = "musl") {
        "-musl"
    } else {
        ""
    };
    let (version, os) = (env!("CARGO_PKG_VERSION"), env::consts::OS);
    format!("prx {version} ({}-{os}{environment})\n", env::consts::ARCH)
}

/// The arguments, sorted into options and words.
struct Given {
    options: Vec<(&'static Opt, OsString)>,
    words: Vec<String>,
}

impl Given {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Result<Given, UsageError> {
        let mut given = Given {
            options: Vec::new(),
            words: Vec::new(),
        };
        let mut only_words = false;
        while let Some(argument) = arguments.next() {
            if only_words || argument == "-" || !argument.as_bytes().starts_with(b"-") {
                given.words.push(argument.to_string_lossy().into_owned());
                continue;
            }
            if argument == "--" {
                only_words = true;
                continue;
            }
            let mut parts = argument.as_bytes().splitn(2, |byte| *byte == b'=');
            let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
            let value = parts
                .next()
                .map(|value| OsStr::from_bytes(value).to_owned());
            let option = all_options()
                .find(|option| option.name == name || option.short == name)
                .ok_or_else(|| unknown("option", &name, all_options().map(|option| option.name)))?;
            let value = match (option.value, value) {
                ("", None) => OsString::new(),
                ("", Some(_)) => return Err(UsageError(format!("{} takes no value", option.name))),
                (_, Some(value)) => value,
                (metavar, None) => arguments.next().ok_or_else(|| {
                    UsageError(format!("{0} needs a value: {0} {metavar}", option.name))
                })?,
            };
            given.options.push((option, value));
        }
        Ok(given)
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of the option; of several, the last.
    fn value(&self, name: &str) -> Option<&OsStr> {
        let mut options = self.options.iter().rev();
        Some(&options.find(|(option, _)| option.name == name)?.1)
    }
}

/// An option means the same wherever it is allowed.
fn all_options() -> impl Iterator<Item = &'static Opt> {
    GLOBAL_OPTIONS
        .iter()
        .chain(COMMANDS.iter().flat_map(|spec| spec.options))
}

/// A name of two words may be missing its second, or have a typo in either.
fn unknown_command(words: &[&str]) -> UsageError {
    let both = words[..words.len().min(2)].join(" ");
    let longer = command_names().find(|name| name.split(' ').next() == Some(words[0]));
    match longer.or_else(|| nearest(&both, command_names(), 2)) {
        Some(meant) => UsageError(format!("unknown command {both:?}, did you mean {meant}?")),
        None => unknown("command", words[0], command_names()),
    }
}

fn unknown(what: &str, word: &str, known: impl Iterator<Item = &'static str>) -> UsageError {
    UsageError(match nearest(word, known, 2) {
        Some(meant) => format!("unknown {what} {word:?}, did you mean {meant}?"),
        None => format!("unknown {what} {word:?}"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_become_commands() {
        let run = |once| Action::Run { once };
        let doctor = |json, ask| Action::Doctor { json, ask };
        let send = |channel: Option<&str>, thread: Option<&str>, text: Option<&str>| {
            let [channel, thread, text] =
                [channel, thread, text].map(|text| text.map(str::to_owned));
            Action::Send(send::Letter {
                channel,
                thread,
                text,
            })
        };
        let cases = [
            ("", None, LevelFilter::Info, run(false)),
            ("run", None, LevelFilter::Info, run(false)),
            ("daemon --once", None, LevelFilter::Info, run(true)),
            ("--once -v", None, LevelFilter::Debug, run(true)),
            (
                "--config a run -q",
                Some("a"),
                LevelFilter::Error,
                run(false),
            ),
            (
                "run --config=a=b --quiet",
                Some("a=b"),
                LevelFilter::Error,
                run(false),
            ),
            (
                "--config a --config b",
                Some("b"),
                LevelFilter::Info,
                run(false),
            ),
            (
                "--config --once",
                Some("--once"),
                LevelFilter::Info,
                run(false),
            ),
            ("-v -- run", None, LevelFilter::Debug, run(false)),
            ("--version", None, LevelFilter::Info, Action::Version),
            ("run -V", None, LevelFilter::Info, Action::Version),
            (
                "channel doctor mattermost --json",
                None,
                LevelFilter::Info,
                doctor(true, false),
            ),
            (
                "--ask channel doctor",
                None,
                LevelFilter::Info,
                doctor(false, true),
            ),
            ("doctor", None, LevelFilter::Info, doctor(false, false)),
            (
                "why abc",
                None,
                LevelFilter::Info,
                Action::Why("abc".into()),
            ),
            ("init", None, LevelFilter::Info, Action::Init),
            (
                "send --channel ops --thread abc hi",
                None,
                LevelFilter::Info,
                send(Some("ops"), Some("abc"), Some("hi")),
            ),
            (
                "send --channel=ops -",
                None,
                LevelFilter::Info,
                send(Some("ops"), None, None),
            ),
            ("send", None, LevelFilter::Info, send(None, None, None)),
            ("help", None, LevelFilter::Info, Action::Help(help())),
            ("help help", None, LevelFilter::Info, Action::Help(help())),
            ("-h", None, LevelFilter::Info, Action::Help(help())),
            (
                "--once --help",
                None,
                LevelFilter::Info,
                Action::Help(help()),
            ),
            (
                "help daemon",
                None,
                LevelFilter::Info,
                Action::Help(COMMANDS[0].help()),
            ),
            (
                "run x --help",
                None,
                LevelFilter::Info,
                Action::Help(COMMANDS[0].help()),
            ),
        ];
        for (line, config, level, action) in cases {
            let config = config.map(PathBuf::from);
            assert_eq!(
                parsed(line),
                Ok(Command {
                    config,
                    level,
                    action
                }),
                "{line}"
            );
        }
    }

    #[test]
    fn a_config_path_need_not_be_text() {
        for arguments in [vec![&b"--config"[..], b"\xff"], vec![b"--config=\xff"]] {
            let arguments = arguments
                .into_iter()
                .map(|bytes| OsStr::from_bytes(bytes).to_owned());
            let command = parse(arguments).expect("a command");
            assert_eq!(
                command.config,
                Some(PathBuf::from(OsStr::from_bytes(b"\xff")))
            );
        }
    }

    #[test]
    fn wrong_arguments_are_answered_with_what_was_meant() {
        let cases = [
            ("rum", "unknown command \"rum\", did you mean run?"),
            ("deamon", "unknown command \"deamon\", did you mean daemon?"),
            ("hepl", "unknown command \"hepl\", did you mean help?"),
            ("frobnicate", "unknown command \"frobnicate\""),
            ("help frobnicate", "unknown command \"frobnicate\""),
            (
                "channel",
                "unknown command \"channel\", did you mean channel doctor?",
            ),
            (
                "chanel docter",
                "unknown command \"chanel docter\", did you mean channel doctor?",
            ),
            ("dcotor", "unknown command \"dcotor\", did you mean doctor?"),
            (
                "channel doctor matermost",
                "unknown channel \"matermost\", did you mean mattermost?",
            ),
            ("channel doctor slack", "unknown channel \"slack\""),
            (
                "send --chanel ops",
                "unknown option \"--chanel\", did you mean --channel?",
            ),
            ("run --json", "--json is no option of `prx run`"),
            (
                "why",
                "which post? Give its id or its link (Copy Link in the post's menu)",
            ),
            (
                "--cofnig x",
                "unknown option \"--cofnig\", did you mean --config?",
            ),
            ("--onec", "unknown option \"--onec\", did you mean --once?"),
            ("run --frobnicate", "unknown option \"--frobnicate\""),
            ("-x", "unknown option \"-x\""),
            ("--once=1", "--once takes no value"),
            ("run --config", "--config needs a value: --config FILE"),
            ("run twice", "unexpected argument \"twice\""),
        ];
        for (line, expected) in cases {
            assert_eq!(parsed(line), Err(expected.to_owned()));
        }
    }

    #[test]
    fn every_help_text_fits_a_terminal_and_has_an_example() {
        let texts = COMMANDS.iter().map(Spec::help).chain([help()]);
        for text in texts {
            assert!(text.lines().count() <= 24, "{text}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{text}"
            );
            assert!(
                text.contains("Example: ") && text.contains("prx "),
                "{text}"
            );
        }
    }
}
