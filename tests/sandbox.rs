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
            let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];
            if told.iter().any(|told| name.starts_with(told)) {
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
        "~talk ann What is a webhook?",
        "~talk bob And what is a bot?",
        "~talk ann Tell me a long story",
        "thread ann @prxbot stop",
        "prxbot reacts with :white_check_mark:",
        "15 messages, 13 answered once, 2 left alone, 0 answered twice.",
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
                 /as ann\nnobody\n@prxbot somebody\n/thread\n/as bob\nand me?";
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
        "Now eve writes, in ~talk.",
        "~talk eve psst",
        "prxbot stays silent: its author is not in allowed_users",
        "Now ann writes, in ~lobby.",
        "~lobby ann nobody",
        "prxbot stays silent: it does not mention the bot (mention_only)",
        "~lobby ann @prxbot somebody",
        "prxbot is typing…",
        "└ thread prxbot You said: somebody",
        "Now bob writes, in the thread.",
        "thread bob and me?",
        "prxbot stays silent: it does not mention the bot (mention_only)",
        "",
        "7 messages, 4 answered once, 3 left alone, 0 answered twice.",
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
fn the_settings_of_a_config_file_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    let config = "[channels_config.mattermost]\n\
                  system_prompt = \"You are Grumpy.\"\n\
                  mention_only = true\n\
                  channel_id = \"4xp9fdt77pncbef59f4k1qe83o\"\n\
                  [channels_config.mattermost.channels.talk]\n\
                  mention_only = false\n\
                  system_prompt = \"You are Chatty.\"\n";
    std::fs::write(&file, config).expect("a file");
    let file = file.to_str().expect("a path in UTF-8");
    let input = "/model told\nhello\n/channel lobby\nhello\n@prxbot hello\n/as eve\nhello\n";
    let (code, output, errors) = sandbox(&["--config", file], input);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    let told = lines(&output).join("\n");
    for expected in [
        "I was told:\n- system: You are Chatty.",
        "- user: hello\n~lobby ann hello\nprxbot stays silent: it does not mention",
        "I was told:\n- system: You are Grumpy.",
        "prxbot stays silent: its author is not in allowed_users",
    ] {
        assert!(told.contains(expected), "{expected}\n{output}");
    }
}

#[test]
fn a_stand_in_model_has_the_habits_of_real_ones() {
    let input = "/model nonsense\n/model echo\nsay it\n/model think\nwell\\nwell\n/model cut\ncode\n/model long\nlong\n\
                 /model refuse\nbad\n/model told\n/file notes.txt some notes\n/delete\n/edit new\n\
                 /picture what is this?\n/file Cargo.toml and this?\n\
                 /and one\ntwo\n/model grow\n/and go\n/react x\n@prxbot help\n/quit\nnot any more\n";
    let (code, output, errors) = sandbox(&[], input);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    let told = lines(&output).join("\n");
    for expected in [
        "There is no such habit. There are:\n",
        "/model think thinks aloud before it answers\n",
        "└ thread prxbot You said: say it\n",
        "~talk ann well\nwell\nprxbot is typing…\n└ thread prxbot It means yes.\n",
        "for word in\n```\n\n*(The answer was cut off",
        " characters)\n└ 2 of 2 prxbot ```python\nprint(",
        "└ thread prxbot The language model declined to answer this.\n",
        "- user: [file: notes.txt, 10 bytes] notes.txt: ``` some\nnotes ```\n",
        "\n[picture.png: picture 1] [a picture: image/png, 501 bytes]\n",
        "- user: and this? [file: Cargo.toml, ",
        "\n~talk ann one\n~talk ann two\nprxbot is typing…\n",
        "*(Stopped.)*",
        "\n11 messages, 11 answered once, 0 left alone, 0 answered twice.",
    ] {
        assert!(told.contains(expected), "{expected}\n{output}");
    }
}

/// A sandbox at a terminal, at its prompt; nothing where there is no terminal.
fn at_terminal() -> Option<rexpect::session::PtySession> {
    if !std::path::Path::new("/dev/ptmx").exists() {
        // Past the capture of a passing test's output.
        let why = "there is no /dev/ptmx here, so nothing at a terminal is tested";
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: {why}");
        return None;
    }
    let mut command = Command::new(executable());
    command.env("NO_COLOR", "1");
    let terminal = rexpect::session::spawn_command(command, Some(60_000));
    let mut terminal = terminal.expect("a terminal");
    terminal.exp_string("~talk").expect("a prompt");
    Some(terminal)
}

#[test]
fn what_is_typed_while_an_answer_is_awaited_is_taken_at_once() {
    let Some(mut terminal) = at_terminal() else {
        return;
    };
    for (typed, seen) in [
        ("/model grow", "its post grows"),
        ("go on", "typing"),
        ("/file /nonexistent/notes.txt here", "No such file"),
        ("/thread\n@prxbot stop", "Stopped."),
        ("/quit", "2 messages, 2 answered once"),
    ] {
        terminal.send_line(typed).expect("a sandbox that listens");
        terminal.exp_string(seen).expect(seen);
    }
    terminal.exp_eof().expect("an end");
}

#[test]
fn ctrl_c_ends_a_chat_with_its_count() {
    // At the prompt, and while an answer is waited for.
    for (typed, seen, count) in [
        ("hello", "You said: hello", "1 message, 1 answered once"),
        ("/model slow\nhello", "typing", "1 message, 0 answered once"),
    ] {
        let Some(mut terminal) = at_terminal() else {
            return;
        };
        terminal.send_line(typed).expect("a sandbox that listens");
        terminal.exp_string(seen).expect("an answer");
        terminal.send_control('c').expect("a sandbox that listens");
        terminal.exp_string(count).expect("the count");
        terminal.exp_eof().expect("an end");
    }
}

#[test]
fn the_show_is_not_played_by_a_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "").expect("a file");
    for (file, told) in [
        (file.to_str().expect("UTF-8"), "the show is played by echo"),
        ("/nonexistent/config.toml", "there is no such file"),
    ] {
        let (code, output, errors) = sandbox(&["--config", file], "");
        assert_eq!(code, Some(2), "{output}");
        assert!(errors.contains(told), "{errors}");
    }
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
