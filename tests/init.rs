//! `prx init` from outside: answers through a pipe and through a terminal, to a bot that answers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::bot::{Ran, Stage, binary, run};
use crate::support::mattermost::{Fault, Joining, Kind};
use crate::support::model::Model;
use crate::support::net::Authority;
use crate::support::wire::{Reply, Wire};
use rexpect::session::{PtySession, spawn_command};
use serde_json::json;

/// How long a terminal is waited for, in milliseconds: longer than any machine is slow.
const PATIENCE: u64 = 60_000;

/// Without an Ollama of this machine.
fn init(stage: &Stage, ollama: &str) -> Command {
    let mut command = binary();
    command.args(["init", "--config"]).arg(stage.config_path());
    command.env("OLLAMA_HOST", ollama);
    command
}

const NO_OLLAMA: &str = "127.0.0.1:1";

fn answered(stage: &Stage, ollama: &str, answers: &[&str]) -> Ran {
    run(&mut init(stage, ollama), &(answers.join("\n") + "\n"))
}

fn config(stage: &Stage) -> String {
    fs::read_to_string(stage.config_path()).expect("a config file")
}

/// The number before a choice that ends so.
fn number(output: &str, choice: &str) -> String {
    let line = output.lines().find(|line| line.ends_with(choice));
    let line = line.unwrap_or_else(|| panic!("no {choice:?} in {output}"));
    line.split_whitespace().next().expect("a number").to_owned()
}

/// Starts the bot and has a question answered.
fn assert_answers(stage: &Stage, expected: &str) {
    let _bot = stage.spawn();
    stage.wait("the first poll", |world| {
        world
            .log
            .iter()
            .any(|call| call.target.contains("/members/me") && call.method == "GET")
            && stage.state_path().exists()
    });
    let question = stage
        .world()
        .post(&stage.ann.id, &stage.channel, "hello there");
    let answer = stage.wait_for_answer(&question);
    assert!(answer.contains(expected), "{answer}");
}

#[test]
fn piped_answers_lead_to_a_bot_that_answers() {
    let stage = Stage::real();
    let model = Model::start();
    model.answers("Good day.");
    let url = stage.mattermost.url();
    let custom = format!("custom:{}/v1", model.url());
    let (channel, who) = ("talk", "ann");
    let answers = [
        url.as_str(),
        &stage.bot.token,
        channel,
        who,
        &custom,
        "model-key",
        "",
    ];
    let ran = answered(&stage, NO_OLLAMA, &answers);
    assert_eq!(ran.code, Some(0), "{ran:?}");

    let mode = fs::metadata(stage.config_path())
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = config(&stage);
    for line in [
        format!("default_provider = \"{custom}\""),
        "default_model = \"test-model\"".into(),
        "api_key = \"model-key\"".into(),
        format!("url = \"{url}\""),
        format!("bot_token = \"{}\"", stage.bot.token),
        format!("channel_id = \"{}\"", stage.channel),
        format!("allowed_users = [\"{}\"]", stage.ann.id),
    ] {
        assert!(
            config.lines().any(|one| one == line),
            "no {line} in {config}"
        );
    }
    for secret in [stage.bot.token.as_str(), "model-key"] {
        assert!(
            !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
            "{ran:?}"
        );
    }
    assert!(ran.stdout.contains("✓ replies"), "{ran:?}");
    assert!(ran.stdout.contains("All is well"), "{ran:?}");
    let cron = ran.stdout.lines().last().expect("a line");
    assert!(
        cron.starts_with("  * * * * * /") && cron.contains("--config /"),
        "{cron}"
    );
    assert!(!ran.stdout.contains("others can read"), "{ran:?}");
    assert_answers(&stage, "Good day.");
}

#[test]
fn what_is_there_is_offered_by_number() {
    let stage = Stage::real();
    let model = Model::start();
    let url = stage.mattermost.url();
    let host = model.url().replace("http://", "");
    let nothing = [url.as_str(), &stage.bot.token];
    let first = answered(&stage, &host, &nothing);
    assert_eq!(first.code, Some(1), "{first:?}");
    assert!(first.stderr.contains("nothing was written"), "{first:?}");
    assert!(!stage.config_path().exists());

    let talk = number(&first.stdout, "~talk in Team");
    let second = answered(&stage, &host, &[&url, &stage.bot.token, &talk]);
    let who = format!(
        "{},{}",
        number(&second.stdout, "@ann"),
        number(&second.stdout, "@eve")
    );
    assert!(!second.stdout.contains("@prxbot\n"), "{second:?}");

    let ran = answered(
        &stage,
        &host,
        &[&url, &stage.bot.token, &talk, &who, "", "1"],
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("ollama runs on this machine"),
        "{ran:?}"
    );
    let config = config(&stage);
    assert!(config.contains("default_provider = \"ollama\""), "{config}");
    assert!(
        config.contains(&format!("api_url = \"{}/v1\"", model.url())),
        "{config}"
    );
    assert!(
        config.contains("default_model = \"test-model\""),
        "{config}"
    );
    assert!(
        config.contains(&format!(
            "allowed_users = [\"{}\", \"{}\"]",
            stage.ann.id, stage.eve.id
        )),
        "{config}"
    );
}

#[test]
fn a_wrong_answer_is_told_at_once_and_asked_for_again() {
    let stage = Stage::real();
    let url = stage.mattermost.url();
    let page = Wire::start(|_| Reply::Full {
        status: 200,
        headers: vec![("Content-Type".into(), "text/html".into())],
        body: b"<html>".into(),
    });
    let open = stage.world().add_channel(&stage.team, "open", Kind::Open);
    stage
        .world()
        .add_member(&open, &stage.ann.id, Joining::Joined);
    let answers = [
        "http://user:secret@host", // no URL for prx
        &page.url(),               // not Mattermost
        &format!("{url}/team/channels/talk"),
        "wr ong",
        "4xp9fdt77pncbef59f4k1qe83o",
        &stage.bot.token,
        "tolk",
        "open", // the bot is not in it
        "0",
        "3", // neither mentioned nor always
        "2",
        "bob",
        "*",
        "opnai",
        "custom:nowhere",
        "none",
    ];
    let ran = answered(&stage, NO_OLLAMA, &answers);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for expected in [
        "That has a user name or password in it",
        "a web page (200)",
        "That has white space",
        "✗ token         refused",
        "✓ token         @prxbot, a bot account",
        "sees no such channel",
        "@prxbot is not in ~open in Team yet: write there /invite @prxbot",
        "The list has no \"3\".",
        "There is no \"bob\" on this server.",
        "\"opnai\" is no provider that prx knows by name; did you mean \"openai\"?",
        "That is not a URL",
        "! provider      none",
    ] {
        assert!(
            ran.stdout.contains(expected),
            "no {expected:?} in {}",
            ran.stdout
        );
    }
    let config = config(&stage);
    assert!(config.contains(&format!("url = \"{url}\"")), "{config}");
    assert!(config.contains("allowed_users = [\"*\"]"), "{config}");
    assert!(
        !config.lines().any(|line| line.starts_with("channel_id")),
        "{config}"
    );
}

#[test]
fn a_file_that_is_there_is_replaced_only_on_request() {
    let stage = Stage::real();
    fs::write(stage.config_path(), "# mine").expect("a file");
    for answer in ["", "no", "n"] {
        let ran = answered(&stage, NO_OLLAMA, &[answer]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains("It stays as it is."), "{ran:?}");
    }
    // An end in the middle leaves it too.
    let url = stage.mattermost.url();
    let ran = answered(&stage, NO_OLLAMA, &["yes", &url]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(config(&stage), "# mine");
    let ran = answered(
        &stage,
        NO_OLLAMA,
        &["yes", &url, &stage.bot.token, "", "", "*", "none"],
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(config(&stage).contains("bot_token"));
    let names: Vec<_> = fs::read_dir(stage.folder.path())
        .expect("a folder")
        .collect();
    assert!(
        names
            .iter()
            .all(|name| !format!("{name:?}").contains(".new")),
        "{names:?}"
    );
}

#[test]
fn a_server_in_trouble_ends_it_without_a_file() {
    let stage = Stage::real();
    stage.fail(Fault::Html(502), move |request| {
        request.target.contains("/teams")
    });
    let ran = answered(
        &stage,
        NO_OLLAMA,
        &[&stage.mattermost.url(), &stage.bot.token],
    );
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("502"), "{ran:?}");
    assert!(!stage.config_path().exists());
}

#[test]
fn what_no_list_has_is_said_and_asked_for_again() {
    let stage = Stage::real();
    let model = Model::start();
    let url = stage.mattermost.url();
    let custom = format!("custom:{}/v1", model.url());
    for (answers, chosen) in [
        // What is near is offered instead.
        (&["tset-model", ""][..], "test-model"),
        (&["99", "1"], "test-model"),
        (&["an-alias", "an-alias"], "an-alias"),
        (&["an-alias", "another", "another"], "another"),
    ] {
        let before = [
            &url,
            &stage.bot.token,
            "99",
            "0",
            "",
            "99",
            "*",
            &custom,
            "key",
        ];
        let mut all = before.to_vec();
        if stage.config_path().exists() {
            all.insert(0, "yes");
        }
        all.extend(answers);
        let ran = answered(&stage, NO_OLLAMA, &all);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let config = config(&stage);
        assert!(
            config.contains(&format!("default_model = \"{chosen}\"")),
            "{config}"
        );
        for told in [
            "The list has no number 99, and there is no channel of that name.",
            "The list has no number 99, and there is no person of that name.",
            &format!("The list has no {:?}. Write it once more", answers[0]),
        ] {
            assert!(ran.stdout.contains(told), "no {told:?} in {}", ran.stdout);
        }
    }
}

#[test]
fn everywhere_it_answers_only_when_mentioned_unless_told_otherwise() {
    let stage = Stage::real();
    let url = stage.mattermost.url();
    for (answer, mention_only) in [("", true), ("1", true), ("2", false)] {
        let mut answers = vec![&url, &stage.bot.token, "0", answer, "*", "none"];
        if stage.config_path().exists() {
            answers.insert(0, "yes");
        }
        let ran = answered(&stage, NO_OLLAMA, &answers);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let line = format!("\nmention_only = {mention_only}\n");
        assert!(config(&stage).contains(&line), "{}", config(&stage));
        let warned = ran.stdout.contains("where everybody of the team is");
        assert_eq!(warned, !mention_only, "{}", ran.stdout);
    }
    // In one channel, every message is meant for it.
    let ran = answered(
        &stage,
        NO_OLLAMA,
        &["yes", &url, &stage.bot.token, "talk", "*", "none"],
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(config(&stage).contains("\nmention_only = false\n"));
}

#[test]
fn a_server_of_this_machine_is_found_at_another_port_and_asked_for_its_key() {
    let stage = Stage::real();
    let model = Wire::start(|request| {
        let key = request.headers.get("authorization").map(String::as_str);
        match key == Some("Bearer the-key") {
            true if request.target.ends_with("/models") => {
                Reply::json(200, &json!({"data": [{"id": "small"}]}))
            }
            true => {
                let message = json!({"role": "assistant", "content": "Good day."});
                let choice = json!({"message": message, "finish_reason": "stop"});
                Reply::json(200, &json!({"choices": [choice]}))
            }
            false => {
                let error = json!({"message": "No api key passed in."});
                Reply::json(401, &json!({"error": error}))
            }
        }
    });
    let host = model.url().replace("http://", "");
    let before = [&stage.mattermost.url(), &stage.bot.token, "talk", "ann"];
    let answers = [&before[..], &["litellm", &host, "the-key", ""]].concat();
    let ran = answered(&stage, NO_OLLAMA, &answers);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for line in [
        "default_provider = \"litellm\"",
        &format!("api_url = \"{}/v1\"", model.url()),
        "default_model = \"small\"",
        "api_key = \"the-key\"",
    ] {
        let config = config(&stage);
        assert!(
            config.lines().any(|one| one == line),
            "no {line} in {config}"
        );
    }
    assert_answers(&stage, "Good day.");
}

#[test]
fn a_url_alone_is_a_server_with_openais_api() {
    let stage = Stage::real();
    let model = Model::start();
    let url = format!("{}/v1", model.url());
    let answers = [
        &stage.mattermost.url(),
        &stage.bot.token,
        "talk",
        "ann",
        &url,
        "",
        "",
    ];
    let ran = answered(&stage, NO_OLLAMA, &answers);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = format!("default_provider = \"custom:{url}\"");
    assert!(config(&stage).contains(&line), "{}", config(&stage));
    assert!(!config(&stage).contains("api_key"));
}

#[test]
fn a_redirect_is_followed_and_the_file_of_an_authority_tried_at_once() {
    let stage = Stage::real();
    let authority = Authority::new();
    fs::write(stage.folder.path().join("ca.pem"), &authority.pem).expect("a file");
    let tls = Wire::start_tls(
        authority.server(&["localhost"], |_| ()),
        stage.mattermost.handler(),
    );
    let to = format!("https://localhost:{}", tls.address.port());
    let target = to.clone();
    let moved = Wire::start(move |request| Reply::Full {
        status: 301,
        headers: vec![("Location".into(), format!("{target}{}", request.target))],
        body: Vec::new(),
    });
    let answers = [
        moved.url().as_str(),
        "~/no.pem", // there is none
        "~/ca.pem",
        &stage.bot.token,
        "talk",
        "ann",
        "none",
    ]
    .join("\n");
    let mut command = init(&stage, NO_OLLAMA);
    command.env("HOME", stage.folder.path());
    let ran = run(&mut command, &(answers + "\n"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for told in [
        &format!("{} leads to {to}", moved.url()),
        "not signed by a known authority",
        "no.pem: No such file",
        "✓ server        https://localhost",
    ] {
        assert!(ran.stdout.contains(told), "no {told:?} in {}", ran.stdout);
    }
    let file = fs::canonicalize(stage.folder.path().join("ca.pem")).expect("a file");
    for line in [format!("url = {to:?}"), format!("ca_file = {file:?}")] {
        let config = config(&stage);
        assert!(
            config.lines().any(|one| one == line),
            "no {line} in {config}"
        );
    }
}

/// Runs `script` with a command as its arguments at a terminal that shows what is typed, as terminals
/// do.
fn terminal(script: &str, arguments: &Command) -> PtySession {
    let mut command = Command::new("sh");
    let script = format!("stty echo; {script}");
    command
        .args(["-c", &script, "sh"])
        .arg(arguments.get_program())
        .args(arguments.get_args());
    for (name, value) in arguments.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env_remove("NO_COLOR");
    spawn_command(command, Some(PATIENCE)).expect("a terminal")
}

/// Whether this machine has what a terminal takes.
fn has_terminals() -> bool {
    let has = Path::new("/dev/ptmx").exists() && Command::new("stty").output().is_ok();
    if !has {
        crate::support::skipped(
            "there is no /dev/ptmx or no stty here, so nothing at a terminal is tested",
        );
    }
    has
}

/// Waits until the terminal shows `text`: what it showed before.
#[track_caller]
fn until(terminal: &mut PtySession, text: &str) -> String {
    terminal
        .exp_string(text)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn answer(terminal: &mut PtySession, text: &str) {
    terminal.send_line(text).expect("a terminal that listens");
}

#[test]
fn at_a_terminal_the_token_is_not_shown_and_the_bot_answers() {
    if !has_terminals() {
        return;
    }
    let stage = Stage::real();
    let mut terminal = terminal("exec \"$@\"", &init(&stage, NO_OLLAMA));
    until(&mut terminal, "Address of the Mattermost server");
    until(&mut terminal, ": ");
    answer(&mut terminal, &stage.mattermost.url());
    until(&mut terminal, "(it is not shown): ");
    answer(&mut terminal, &stage.bot.token);
    let shown = until(&mut terminal, "@prxbot, a bot account");
    assert!(!shown.contains(&stage.bot.token), "{shown}");
    // A terminal's bytes come as characters, one each.
    assert!(
        shown.contains("\u{1b}[32m") && shown.contains("\u{1b}[0m token"),
        "{shown:?}"
    );
    until(&mut terminal, "channel's name or link [0]: ");
    answer(&mut terminal, "talk");
    // What is no secret is shown again.
    let shown = until(&mut terminal, "Numbers or names");
    assert!(shown.starts_with("talk"), "{shown:?}");
    answer(&mut terminal, "@ann");
    until(&mut terminal, "Provider [none]: ");
    answer(&mut terminal, "none");
    until(
        &mut terminal,
        "The bot runs with this, but see the line with !",
    );
    until(&mut terminal, "* * * * * /");
    terminal.exp_eof().expect("an end");
    assert_answers(&stage, "This channel works");
}

#[test]
fn ctrl_c_at_the_token_leaves_a_terminal_that_shows_what_is_typed() {
    if !has_terminals() {
        return;
    }
    if crate::support::is_ignored(2) {
        return crate::support::skipped("SIGINT is ignored here, so Ctrl-C is not tested");
    }
    let stage = Stage::real();
    let script =
        "trap : INT; \"$@\"; until stty -a | grep -q ' echo '; do :; done; echo shown again";
    let mut terminal = terminal(script, &init(&stage, NO_OLLAMA));
    until(&mut terminal, ": ");
    answer(&mut terminal, &stage.mattermost.url());
    until(&mut terminal, "(it is not shown): ");
    terminal.send_control('c').expect("a terminal that listens");
    until(&mut terminal, "shown again");
    assert!(!stage.config_path().exists());
}
