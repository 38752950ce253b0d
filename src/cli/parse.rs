//! Arguments → a command, with a hint at what was meant.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use log::LevelFilter;

use super::help::{self, general};
use super::table::{COMMANDS, DEFAULT, Opt, Spec, Value, all_options, command_names};
use super::{Action, Command};
use crate::nearest::nearest;

/// The arguments, the program's name not among them, as a command; or what is wrong
/// with them, in one line.
pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let given = Given::read(arguments)?;
    let words: Vec<&str> = given.words.iter().map(String::as_str).collect();
    let helps = words.iter().take_while(|word| **word == "help").count();
    let asks_for_help = helps > 0 || given.has("--help");
    let (spec, operands) = find(&words[helps..], asks_for_help)?;
    for (option, _) in &given.options {
        if !spec.all_options().any(|known| known.name == option.name) {
            let (name, command) = (option.name, spec.name);
            return Err(format!("{name} is no option of `prx {command}`"));
        }
    }
    let action = if asks_for_help {
        Action::Help(if words.len() == helps {
            general()
        } else {
            help::of(spec)
        })
    } else if given.has("--version") {
        Action::Version
    } else if let Some(extra) = operands.get(spec.operands.len()) {
        return Err(match spec.hint {
            "" => format!("unexpected argument {extra:?}"),
            hint => format!("unexpected argument {extra:?}; {hint}"),
        });
    } else {
        (spec.action)(&given, operands)?
    };
    Ok(Command {
        config: given.value("--config").map(PathBuf::from),
        level: given.level(),
        action,
    })
}

/// The command that the words begin with, and the words after its name. For help the first word of a
/// name will do.
fn find<'a, 'b>(
    words: &'a [&'b str],
    asks_for_help: bool,
) -> Result<(&'static Spec, &'a [&'b str]), String> {
    if words.is_empty() {
        return Ok((DEFAULT, words));
    }
    for spec in COMMANDS {
        for name in spec.names() {
            let name: Vec<&str> = name.split(' ').collect();
            if words.starts_with(&name) || asks_for_help && words == &name[..1] {
                return Ok((spec, words.get(name.len()..).unwrap_or_default()));
            }
        }
    }
    Err(unknown_command(words))
}

/// A name of two words may be missing its second, or have a typo in either.
fn unknown_command(words: &[&str]) -> String {
    let both = words[..words.len().min(2)].join(" ");
    let longer = command_names().find(|name| name.split(' ').next() == Some(words[0]));
    match longer.or_else(|| nearest(&both, command_names(), 2)) {
        Some(meant) => format!("unknown command {both:?}, did you mean {meant}?"),
        None => unknown("command", words[0], command_names()),
    }
}

/// An error about an unknown name, with the nearest known one.
pub(super) fn unknown(what: &str, word: &str, known: impl Iterator<Item = &'static str>) -> String {
    match nearest(word, known, 2) {
        Some(meant) => format!("unknown {what} {word:?}, did you mean {meant}?"),
        None => format!("unknown {what} {word:?}"),
    }
}

/// The arguments, sorted into options and words.
pub(super) struct Given {
    options: Vec<(&'static Opt, OsString)>,
    words: Vec<String>,
}

impl Given {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Result<Given, String> {
        let mut given = Given {
            options: Vec::new(),
            words: Vec::new(),
        };
        let mut only_words = false;
        while let Some(argument) = arguments.next() {
            if only_words || argument == "-" || !argument.as_bytes().starts_with(b"-") {
                given.words.push(argument.to_string_lossy().into_owned());
            } else if argument == "--" {
                only_words = true;
            } else {
                given.options.push(option(&argument, &mut arguments)?);
            }
        }
        Ok(given)
    }

    /// Whether the option is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of the option; of several, the last.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        let mut options = self.options.iter().rev();
        Some(&options.find(|(option, _)| option.name == name)?.1)
    }

    /// The same as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        Some(self.value(name)?.to_string_lossy().into_owned())
    }

    fn level(&self) -> LevelFilter {
        match (self.has("--quiet"), self.has("--verbose")) {
            (true, _) => LevelFilter::Error,
            (false, true) => LevelFilter::Debug,
            (false, false) => LevelFilter::Info,
        }
    }
}

/// The option that `argument` is, and its value: after a `=`, or the next of `rest`.
fn option(
    argument: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<(&'static Opt, OsString), String> {
    let mut parts = argument.as_bytes().splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let value = parts
        .next()
        .map(|value| OsStr::from_bytes(value).to_owned());
    let option = all_options()
        .find(|option| option.name == name || option.short == name)
        .ok_or_else(|| unknown("option", &name, all_options().map(|option| option.name)))?;
    let value = match (option.value, value) {
        (Value::None, None) => OsString::new(),
        (Value::None, Some(_)) => {
            return Err(format!("{} takes no value", option.name));
        }
        (_, Some(value)) => value,
        (kind, None) => rest.next().ok_or_else(|| {
            let (name, value) = (option.name, kind.name());
            format!("{name} needs a value: {name} {value}")
        })?,
    };
    Ok((option, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::send::Letter;

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
            Action::Send(Letter {
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
            (
                "completions fish",
                None,
                LevelFilter::Info,
                Action::Completions("fish"),
            ),
            ("man", None, LevelFilter::Info, Action::Man),
            ("help", None, LevelFilter::Info, Action::Help(general())),
            (
                "help help",
                None,
                LevelFilter::Info,
                Action::Help(general()),
            ),
            ("-h", None, LevelFilter::Info, Action::Help(general())),
            (
                "--once --help",
                None,
                LevelFilter::Info,
                Action::Help(general()),
            ),
            (
                "help daemon",
                None,
                LevelFilter::Info,
                Action::Help(help::of(DEFAULT)),
            ),
            (
                "run x --help",
                None,
                LevelFilter::Info,
                Action::Help(help::of(DEFAULT)),
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
            (
                "send hello there",
                "unexpected argument \"there\"; put quotes around a text of several words",
            ),
            ("completions", "which shell? bash, zsh or fish"),
            (
                "completions zhs",
                "unknown shell \"zhs\", did you mean zsh?",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parsed(line), Err(expected.to_owned()));
        }
    }
}
