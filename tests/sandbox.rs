//! The first command of a newcomer, as it stands in the README.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The built example; only cargo knows where it is, and whether it is of the present source.
fn executable() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        let format = "--message-format=json-render-diagnostics";
        // What this cargo told its test: build scripts would take it for news, and build anew.
        for (name, _) in std::env::vars() {
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(name);
            }
        }
        let output = cargo.args(["build", "--example", "sandbox", format]);
        let output = output.stderr(Stdio::inherit()).output().expect("cargo");
        let told = String::from_utf8_lossy(&output.stdout);
        let artifacts = told
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut paths = artifacts
            .filter(|artifact| artifact["target"]["name"] == "sandbox")
            .filter_map(|artifact| Some(artifact["executable"].as_str()?.to_owned()));
        paths.next().expect("the built example")
    })
}

/// What the sandbox does when `input` is its standard input: exit code, output, errors.
fn sandbox(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(executable());
    command.args(arguments);
    for (name, _) in std::env::vars() {
        if name.ends_with("_API_KEY") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A sandbox that refuses its arguments reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The lines of `text`, with one space for any white space in them.
fn lines(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

#[test]
fn without_input_it_shows_what_the_bot_does() {
    let (code, output, errors) = sandbox(&[], "");
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    let told = lines(&output);
    for line in [
        "prxbot is typing…",
        "└ thread prxbot You said: Is the staging server up?",
        "└ thread prxbot You said: And the database?",
        "└ thread prxbot You said: Can we talk here?",
        "prxbot stays silent: its author is not in allowed_users",
        "prxbot stays silent: it does not mention the bot (mention_only)",
        "└ thread prxbot You said: lunch at noon?",
        "└ thread prxbot You said: Did you get this?",
        "└ thread prxbot You said: Are you there?",
        "└ thread prxbot You said: Hello?",
        "10 messages, 8 answered once, 2 left alone, 0 answered twice.",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}\n{output}");
    }
    for part in ["└ 1 of 2 prxbot", "└ 2 of 2 prxbot"] {
        assert!(told.iter().any(|told| told.starts_with(part)), "{output}");
    }
    let widest = output.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{output}");
    assert!(!output.contains('\x1b'), "{output}");
}

#[test]
fn every_line_of_the_input_is_a_message() {
    let input = "hello\n\n/dm\nhello again\n/thread\nonce more\n/restart\n/as\n/as eve\npsst\n/channel lobby\n\
                 /as ann\n/channel lobby\nnobody\n@prxbot somebody";
    let (code, output, errors) = sandbox(&[], input);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    let told = lines(&output);
    let from = told.iter().position(|line| line.starts_with("~talk"));
    let expected = [
        "~talk ann hello",
        "prxbot is typing…",
        "└ thread prxbot You said: hello",
        "@prxbot ann hello again",
        "prxbot is typing…",
        "└ thread prxbot You said: hello again",
        "thread ann once more",
        "prxbot is typing…",
        "└ thread prxbot You said: once more",
        "The bot was stopped and started.",
        "As whom? Write /as NAME.",
        "~talk eve psst",
        "prxbot stays silent: its author is not in allowed_users",
        "~lobby ann nobody",
        "prxbot stays silent: it does not mention the bot (mention_only)",
        "~lobby ann @prxbot somebody",
        "prxbot is typing…",
        "└ thread prxbot You said: somebody",
        "",
        "6 messages, 4 answered once, 2 left alone, 0 answered twice.",
    ];
    assert_eq!(told[from.unwrap_or_default()..], expected, "{output}");
}

#[test]
fn the_model_of_a_config_file_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    let config = "default_provider = \"command\"\n\
                  provider_command = [\"sh\", \"-c\", \"cat >/dev/null; echo From a program.\"]\n";
    std::fs::write(&file, config).expect("a file");
    let file = file.to_str().expect("a path in UTF-8");
    let (code, output, errors) = sandbox(&["--config", file], "hello\n");
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    let answer = "└ thread prxbot From a program.";
    assert!(lines(&output).iter().any(|line| line == answer), "{output}");
}

#[test]
fn the_show_is_not_played_by_a_model() {
    let (code, output, errors) = sandbox(&["--config", "config.toml"], "");
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert!(errors.contains("the show is played by echo"), "{errors}");
}

#[test]
fn what_it_does_not_understand_it_refuses() {
    for (arguments, told) in [
        (&["--frobnicate"][..], "what is \"--frobnicate\"?"),
        (&["--config"], "--config needs a value"),
        (&["--model", "m"], "--model needs a provider's key"),
        (
            &["--config", "/nonexistent/config.toml"],
            "there is no such file",
        ),
    ] {
        let (code, output, errors) = sandbox(arguments, "hello\n");
        assert_eq!(code, Some(2), "{arguments:?} {output}");
        assert!(errors.contains(told), "{errors}");
    }
}
