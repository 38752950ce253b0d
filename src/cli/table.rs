//! The table of commands and options: the parser, the help, the man page and the completions are made
//! from it.

use std::path::PathBuf;

use super::Action;
use super::parse::{Given, unknown};
use crate::commands::answer::Mode;
use crate::commands::ask::Query;
use crate::commands::send::Letter;

/// A command of the command line.
pub(super) struct Spec {
    /// One word or two.
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    /// What may follow the name.
    pub(super) operands: &'static [Operand],
    pub(super) summary: &'static str,
    /// Besides those of every command.
    pub(super) options: &'static [Opt],
    pub(super) example: &'static str,
    /// A hint in the error about an operand too many; empty: none.
    pub(super) hint: &'static str,
    /// Makes the action from the options and the operands.
    pub(super) action: fn(&Given, &[&str]) -> Result<Action, String>,
}

/// What may follow a command's name.
pub(super) struct Operand {
    /// In capitals, in brackets if it may be left out.
    pub(super) usage: &'static str,
    /// The words that it can be; empty: any.
    pub(super) words: &'static [&'static str],
}

/// An option. One name means the same in all commands that have it.
pub(super) struct Opt {
    pub(super) name: &'static str,
    /// A dash and a letter, or empty.
    pub(super) short: &'static str,
    pub(super) value: Value,
    pub(super) summary: &'static str,
}

impl Opt {
    /// The same, with a dash and a letter for it.
    const fn or(self, short: &'static str) -> Opt {
        Opt { short, ..self }
    }
}

/// What follows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    None,
    /// The name of a file.
    File,
    /// A text; what stands for it in the help.
    Text(&'static str),
}

impl Value {
    /// What stands for the value in the help; empty: there is none.
    pub(super) fn name(self) -> &'static str {
        match self {
            Value::None => "",
            Value::File => "FILE",
            Value::Text(name) => name,
        }
    }
}

/// The shells that completions are written for.
pub(super) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The longest key of `prx ask`, in bytes: posts carry it.
const LONGEST_KEY: usize = 200;

/// A command with nothing of its own; each entry below says what it has besides.
const PLAIN: Spec = Spec {
    name: "",
    aliases: &[],
    operands: &[],
    summary: "",
    options: &[],
    example: "",
    hint: "",
    action: |_, _| Ok(Action::Version),
};

/// The command without a name.
pub(super) const DEFAULT: &Spec = &COMMANDS[0];

/// All commands; the first is what happens without a name.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "run",
        aliases: &["daemon"],
        summary: "answer messages until stopped (the default)",
        options: &[flag("--once", "look once, answer what is there, and end")],
        example: "prx run --config /etc/prx/config.toml",
        action: |given, _| {
            Ok(Action::Run {
                once: given.has("--once"),
            })
        },
        ..PLAIN
    },
    Spec {
        name: "channel doctor",
        aliases: &["doctor"],
        operands: &[Operand {
            usage: "[mattermost]",
            words: &["mattermost"],
        }],
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
        ..PLAIN
    },
    Spec {
        name: "why",
        operands: &[operand("POST")],
        summary: "say why a post was answered, or was not",
        example: "prx why https://chat.example.com/team/pl/4xp9fdt77pncbef59f4k1qe83o",
        action: |_, operands| match operands {
            [post] => Ok(Action::Why((*post).to_owned())),
            _ => {
                Err("which post? Give its id or its link (Copy Link in the post's menu)".to_owned())
            }
        },
        ..PLAIN
    },
    Spec {
        name: "init",
        summary: "ask what is needed and write the config file",
        example: "prx init --config ./config.toml",
        action: |_, _| Ok(Action::Init),
        ..PLAIN
    },
    Spec {
        name: "send",
        operands: &[operand("[TEXT|-]")],
        summary: "post a text, or what comes on standard input",
        options: &[CHANNEL, THREAD],
        example: "df -h | prx send --channel ops -",
        hint: "put quotes around a text of several words",
        action: |given, operands| {
            let text = operands.first().filter(|text| **text != "-");
            Ok(Action::Send(Letter {
                channel: given.text("--channel"),
                thread: given.text("--thread"),
                text: text.map(|text| (*text).to_owned()),
            }))
        },
        ..PLAIN
    },
    Spec {
        name: "ask",
        operands: &[operand("[PROMPT]")],
        summary: "post the model's answer about standard input",
        options: &[
            CHANNEL,
            THREAD,
            text("--key", "KEY", "post once: not again with this key"),
            text("--skip", "WORD", "post no answer that is only this"),
            text("--history", "N", "tell the last N posts of people"),
            file("--image", "show the model a picture"),
        ],
        example: "df -h | prx ask --skip OK \"Is a disk nearly full? If not, say only OK\"",
        hint: "put quotes around a question of several words",
        action: |given, operands| Ok(Action::Ask(query(given, operands)?)),
        ..PLAIN
    },
    Spec {
        name: "answer",
        summary: "print the model's answer to standard input",
        options: &[
            flag("--json", "read the JSON that provider_command gets"),
            flag("--worker", "for the bot's own use"),
        ],
        example: "echo Hi | prx answer",
        hint: "say it on standard input",
        action: |given, _| {
            Ok(Action::Answer(if given.has("--worker") {
                Mode::Worker
            } else if given.has("--json") {
                Mode::Json
            } else {
                Mode::Text
            }))
        },
        ..PLAIN
    },
    Spec {
        name: "completions",
        operands: &[Operand {
            usage: "bash|zsh|fish",
            words: SHELLS,
        }],
        summary: "print what completes prx's words in a shell",
        example: "prx completions bash >/etc/bash_completion.d/prx",
        action: |_, operands| match operands {
            [shell] => match SHELLS.iter().find(|known| *known == shell) {
                Some(shell) => Ok(Action::Completions(shell)),
                None => Err(unknown("shell", shell, SHELLS.iter().copied())),
            },
            _ => Err("which shell? bash, zsh or fish".to_owned()),
        },
        ..PLAIN
    },
    Spec {
        name: "man",
        summary: "print the manual page",
        example: "prx man | man -l -",
        action: |_, _| Ok(Action::Man),
        ..PLAIN
    },
];

/// The options that go with every command.
pub(super) const GLOBAL_OPTIONS: &[Opt] = &[
    file("--config", "the configuration file"),
    flag("--verbose", "log more").or("-v"),
    flag("--quiet", "log errors only").or("-q"),
    flag("--version", "print the version").or("-V"),
    flag("--help", "print this, or the help of a command").or("-h"),
];

const CHANNEL: Opt = text(
    "--channel",
    "CHANNEL",
    "its id, name or link; else channel_id",
);
const THREAD: Opt = text("--thread", "POST", "reply in this post's thread");

const fn operand(usage: &'static str) -> Operand {
    Operand { usage, words: &[] }
}

const fn flag(name: &'static str, summary: &'static str) -> Opt {
    option(name, Value::None, summary)
}

const fn file(name: &'static str, summary: &'static str) -> Opt {
    option(name, Value::File, summary)
}

const fn text(name: &'static str, value: &'static str, summary: &'static str) -> Opt {
    option(name, Value::Text(value), summary)
}

const fn option(name: &'static str, value: Value, summary: &'static str) -> Opt {
    Opt {
        name,
        short: "",
        value,
        summary,
    }
}

fn query(given: &Given, operands: &[&str]) -> Result<Query, String> {
    let history = match given.text("--history") {
        None => 0,
        Some(count) => count
            .parse()
            .map_err(|_| format!("--history {count:?}: write a number of posts, such as 100"))?,
    };
    let key = given.text("--key");
    if key
        .as_ref()
        .is_some_and(|key| key.trim().is_empty() || key.len() > LONGEST_KEY)
    {
        return Err(format!(
            "--key: write 1 to {LONGEST_KEY} bytes of text, such as \"disk $(date +%F)\""
        ));
    }
    Ok(Query {
        channel: given.text("--channel"),
        thread: given.text("--thread"),
        key,
        skip: given.text("--skip"),
        history,
        image: given.value("--image").map(PathBuf::from),
        prompt: operands.first().map(|prompt| (*prompt).to_owned()),
    })
}

impl Spec {
    /// The name, then the aliases.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.aliases.iter().copied())
    }

    /// The options that the command takes: its own, then every command's.
    pub(super) fn all_options(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().chain(GLOBAL_OPTIONS)
    }

    /// The name and what may follow it.
    pub(super) fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        for operand in self.operands {
            usage += &format!(" {}", operand.usage);
        }
        usage
    }
}

/// All names of all commands.
pub(super) fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(Spec::names).chain(["help"])
}

/// All options of all commands; a name may come more than once.
pub(super) fn all_options() -> impl Iterator<Item = &'static Opt> {
    GLOBAL_OPTIONS
        .iter()
        .chain(COMMANDS.iter().flat_map(|spec| spec.options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_takes_the_same_in_all_commands() {
        for option in all_options() {
            for other in all_options().filter(|other| other.name == option.name) {
                assert_eq!(other.value, option.value, "{}", option.name);
                assert_eq!(other.short, option.short, "{}", option.name);
            }
        }
    }
}
