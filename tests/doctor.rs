//! `prx channel doctor` from outside: each mistake that keeps a bot silent, and what is to be done.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::bot::{ECHO, Ran, Stage, binary, run};
use crate::support::clock::{SimClock, Time};
use crate::support::mattermost::{Act, Fault, Joining, Kind, Version};
use crate::support::model::{Model, ModelReply};
use crate::support::net::Authority;
use crate::support::wire::{Reply, Request, Wire};
use rcgen::CertificateParams;
use serde_json::Value;

/// The checks, as JSON.
fn checks(ran: &Ran) -> Vec<Value> {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The check that went so: what it says and what is to be done.
#[track_caller]
fn expect(ran: &Ran, check: &str, status: &str, detail: &str, fix: &str) {
    let all = checks(ran);
    let found = all.iter().any(|one| {
        let text = |key: &str| one[key].as_str().expect("a text").to_owned();
        text("check") == check
            && text("status") == status
            && text("detail").contains(detail)
            && text("fix").contains(fix)
            && (status == "ok") == text("fix").is_empty()
    });
    assert!(
        found,
        "no {check} {status} with {detail:?} and {fix:?} in\n{}",
        ran.stdout
    );
    for one in &all {
        assert_blocks_are_of_one_kind(one["fix"].as_str().expect("a text"));
    }
    let failed = all.iter().any(|one| one["status"] == "failure");
    assert_eq!(ran.code, Some(i32::from(failed)), "{}", ran.stderr);
}

/// Lines to paste that follow one another go to the same place: all into the config file, or none.
#[track_caller]
fn assert_blocks_are_of_one_kind(fix: &str) {
    let is_setting = |line: &&str| {
        let line = line.trim_start();
        line.starts_with('[') || line.split_once(" = ").is_some()
    };
    for block in fix
        .split('\n')
        .collect::<Vec<_>>()
        .split(|line| !line.starts_with("  "))
    {
        let settings = block.iter().filter(|line| is_setting(line)).count();
        assert!(settings == 0 || settings == block.len(), "{fix}");
    }
}

fn doctor(stage: &Stage) -> Ran {
    stage.run(&["channel", "doctor", "mattermost", "--json"], "")
}

/// Makes the stage's config point to another address.
fn point_to(stage: &Stage, url: &str) {
    let config = fs::read_to_string(stage.config_path()).expect("a config");
    let config = config.replace(&stage.mattermost.url(), url);
    fs::write(stage.config_path(), config).expect("a config");
}

fn private(stage: &Stage) {
    fs::set_permissions(stage.config_path(), fs::Permissions::from_mode(0o600)).expect("a mode");
}

#[test]
fn all_is_well_with_a_bot_that_works() {
    let stage = Stage::real();
    stage.configure(
        ECHO,
        &format!("channel_id = {:?}\nmention_only = true", stage.channel),
    );
    private(&stage);
    let ran = stage.run(&["doctor"], "");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(0), ""),
        "{}",
        ran.stdout
    );
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let names = [
        "config",
        "state",
        "server",
        "token",
        "channel",
        "allowed_users",
        "replies",
        "provider",
    ];
    for (line, name) in lines.iter().zip(names) {
        assert!(line.starts_with(&format!("✓ {name:<14}")), "{line}");
    }
    assert!(
        lines[2].contains("Mattermost 11.6.0, answers in "),
        "{}",
        ran.stdout
    );
    assert!(
        lines[3].ends_with("@prxbot, a bot account"),
        "{}",
        ran.stdout
    );
    assert!(lines[4].contains("~talk in "), "{}", ran.stdout);
    assert!(lines[5].ends_with("@ann"), "{}", ran.stdout);
    assert!(
        lines[6].ends_with(
            "answers in threads, only when @prxbot is mentioned; direct messages always"
        ),
        "{}",
        ran.stdout
    );
    // A look at the bot leaves the server as it was.
    let world = stage.world();
    assert!(
        world
            .log
            .iter()
            .all(|call| call.target.contains("roles/names")
                || call.target.contains("/users/ids")
                || call.method == "GET")
    );
    assert!(!stage.state_path().exists());
}

type Setting<'a> = &'a dyn Fn(&Stage) -> String;

/// Each case: lines for the Mattermost section, made on the stage; the check, its status, what it says
/// and what to do, with `{…}` for what is on the stage.
#[test]
fn each_mistake_in_the_settings_is_named_with_what_to_do() {
    #[rustfmt::skip] // A table.
    let cases: &[(Setting, &str, &str, &str, &str)] = &[
        (
            &|_| "channel_id = \"talk\"".into(),
            "channel",
            "failure",
            "name or a link",
            "channel_id = \"{channel}\"  # ~talk in ",
        ),
        (&|_| "channel_id = \"~talk\"".into(), "channel", "failure", "name or a link", "channel_id = \"{channel}\""),
        (
            &|s| format!("channel_id = \"{}/team/channels/talk\"", s.mattermost.url()),
            "channel",
            "failure",
            "name or a link",
            "channel_id = \"{channel}\"",
        ),
        (
            &|s| {
                let post = s.world().post(&s.ann.id, &s.channel, "hi");
                format!("channel_id = \"{}/team/pl/{post}\"", s.mattermost.url())
            },
            "channel",
            "failure",
            "name or a link",
            "channel_id = \"{channel}\"",
        ),
        (
            &|_| "channel_id = \"tolk\"".into(),
            "channel",
            "failure",
            "no channel \"tolk\" that @prxbot can see",
            "channel_id = \"{channel}\"  # ~talk",
        ),
        (
            &|_| "channel_id = \"4xp9fdt77pncbef59f4k1qe83o\"".into(),
            "channel",
            "failure",
            "no channel \"4xp9fdt77pncbef59f4k1qe83o\"",
            "write below [channels_config.mattermost] in the config file:\n  channel_id = \"",
        ),
        (
            &|s| format!("channel_id = {:?}", s.ann.id),
            "channel",
            "failure",
            "the id of @ann, not of a channel",
            "channel_id = \"{channel}\"",
        ),
        (
            &|s| {
                let open = s.world().add_channel(&s.team, "open", Kind::Open);
                format!("channel_id = {open:?}")
            },
            "channel",
            "failure",
            "@prxbot is not in ~open in ",
            "/invite @prxbot",
        ),
        (
            &|s| {
                let closed = s.world().add_channel(&s.team, "closed", Kind::Private);
                format!("channel_id = {closed:?}")
            },
            "channel",
            "failure",
            "@prxbot is not in it",
            "/invite @prxbot",
        ),
        (
            &|s| {
                s.world().archive(&s.channel, &s.ann.id);
                format!("channel_id = {:?}", s.channel)
            },
            "channel",
            "failure",
            "~talk in Team is archived",
            "Unarchive Channel",
        ),
        (
            &|s| {
                s.world().knobs.no_posting = true;
                format!("channel_id = {:?}", s.channel)
            },
            "channel",
            "failure",
            "may not post there",
            "Create Posts",
        ),
        (
            &|_| "[channels_config.mattermost.channels.talk]\nmention_only = true".into(),
            "channel",
            "warning",
            "channels.\"talk\" has a name",
            "[channels_config.mattermost.channels.{channel}]",
        ),
        (
            &|_| "[channels_config.mattermost.channels.tolk]\nmention_only = true".into(),
            "channel",
            "warning",
            "channels.\"tolk\" is of no channel that @prxbot can see",
            "[channels_config.mattermost.channels.{channel}]  # ~talk in Team",
        ),
        (
            &|_| "[channels_config.mattermost.channels.4xp9fdt77pncbef59f4k1qe83o]\nmention_only = true".into(),
            "channel",
            "warning",
            "channels.\"4xp9fdt77pncbef59f4k1qe83o\" is of no channel that @prxbot can see",
            "[channels_config.mattermost.channels.{channel}]  # ~talk in Team",
        ),
        (
            &|_| "allowed_users = [\"ann\"]".into(),
            "allowed_users",
            "failure",
            "ann is a name",
            "allowed_users = [\"{ann}\"]",
        ),
        (
            &|s| format!("allowed_users = [{:?}, \"@Ann\"]", s.eve.id),
            "allowed_users",
            "failure",
            "@Ann is a name",
            "allowed_users = [\"{eve}\", \"{ann}\"]",
        ),
        (
            &|s| format!("allowed_users = [\"@Ann\", {:?}]", s.eve.id),
            "allowed_users",
            "failure",
            "@Ann is a name",
            "allowed_users = [\"{ann}\", \"{eve}\"]",
        ),
        (
            &|_| "allowed_users = [\"ann\", \"eve\"]".into(),
            "allowed_users",
            "failure",
            "ann, eve are names",
            "allowed_users = [\"{ann}\", \"{eve}\"]",
        ),
        (
            &|_| "allowed_users = []".into(),
            "allowed_users",
            "failure",
            "nobody is answered",
            "allowed_users = [\"{ann}\"]  # @ann",
        ),
        (
            &|_| "allowed_users = [\"*\"]".into(),
            "allowed_users",
            "ok",
            "everybody on this server may talk to the bot",
            "",
        ),
        (
            &|_| "allowed_users = [\"4xp9fdt77pncbef59f4k1qe83o\"]".into(),
            "allowed_users",
            "failure",
            "\"4xp9fdt77pncbef59f4k1qe83o\" is nobody on this server",
            "write a person's id",
        ),
        (
            &|s| {
                format!(
                    "allowed_users = [\"4xp9fdt77pncbef59f4k1qe83o\", {:?}]",
                    s.ann.id
                )
            },
            "allowed_users",
            "warning",
            "\"4xp9fdt77pncbef59f4k1qe83o\" is nobody",
            "write a person's id",
        ),
        (
            &|_| "allowed_users = [\"bob\"]".into(),
            "allowed_users",
            "failure",
            "\"bob\" is nobody on this server",
            "write a person's id",
        ),
        (
            &|s| format!("allowed_users = [{:?}]", s.bot.id),
            "allowed_users",
            "warning",
            "is the bot itself",
            "ids of people",
        ),
        (
            &|s| {
                s.world().deactivate(&s.eve.id);
                format!("allowed_users = [{:?}, {:?}]", s.eve.id, s.ann.id)
            },
            "allowed_users",
            "warning",
            "@eve is deactivated",
            "delete {eve}",
        ),
        (
            &|_| String::new(),
            "channel",
            "warning",
            "every message in ~off-topic in Team and ~town-square in Team, where everybody",
            "\n  mention_only = true",
        ),
        (
            &|s| {
                s.mattermost
                    .on_request(|request, _| match request.target.contains("/users/me") {
                        true => {
                            Act::Instead(Fault::Error(403, "api.context.mfa_required.app_error"))
                        }
                        false => Act::Serve,
                    });
                String::new()
            },
            "token",
            "failure",
            "multi-factor authentication",
            "bot account",
        ),
        (
            &|s| {
                s.mattermost
                    .on_request(|request, _| match request.target.contains("/channels/") {
                        true => {
                            Act::Instead(Fault::Error(403, "api.context.mfa_required.app_error"))
                        }
                        false => Act::Serve,
                    });
                format!("channel_id = {:?}", s.channel)
            },
            "channel",
            "failure",
            "multi-factor authentication",
            "bot account",
        ),
        (
            &|_| "[channels_config.mattermost.read_files]\n\".pdf\" = [\"nosuchprogram\"]".into(),
            "read_files",
            "warning",
            "nosuchprogram, for .pdf, is not a program",
            "whole path",
        ),
        (
            &|_| "state_dir = \"not/there\"".into(),
            "state",
            "failure",
            "cannot be written",
            "mkdir -p {folder}/not/there",
        ),
        (&|_| "menton_only = true".into(), "config", "warning", "unknown key", "did you mean mention_only?"),
        (
            &|_| "mention_only = true\nfollow_threads = true".into(),
            "replies",
            "ok",
            "when @prxbot is mentioned or already wrote in the thread",
            "",
        ),
        (
            &|_| "thread_replies = false".into(),
            "replies",
            "ok",
            "in the channel itself, not in threads, to every message",
            "",
        ),
    ];
    for (setting, check, status, detail, fix) in cases {
        let stage = Stage::real();
        let setting = setting(&stage);
        stage.configure(ECHO, &setting);
        private(&stage);
        let fill = |text: &str| {
            let folder = fs::canonicalize(stage.folder.path()).expect("a folder");
            text.replace("{channel}", &stage.channel)
                .replace("{ann}", &stage.ann.id)
                .replace("{eve}", &stage.eve.id)
                .replace("{folder}", folder.to_str().expect("UTF-8"))
        };
        expect(&doctor(&stage), check, status, &fill(detail), &fill(fix));
    }
}

#[test]
fn an_old_server_is_understood_too() {
    for setting in ["", "channel_id = \"talk\"", "allowed_users = [\"ann\"]"] {
        let stage = Stage::new(Time::real(), SimClock::new(), Version::V5_37);
        stage.configure(ECHO, setting);
        let ran = doctor(&stage);
        expect(&ran, "server", "ok", "Mattermost 5.37.0", "");
        expect(&ran, "token", "ok", "@prxbot, a bot account", "");
        assert_eq!(ran.code, Some(i32::from(!setting.is_empty())), "{ran:?}");
    }
}

#[test]
fn without_a_channel_the_teams_and_channels_are_counted_and_none_is_a_failure() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
    let detail = "wherever @prxbot is: 3 channels (~off-topic, ~talk, ~town-square) of 1 team, 1 direct or group channel";
    expect(&doctor(&stage), "channel", "ok", detail, "");

    let stage = Stage::real();
    stage.configure(ECHO, "");
    stage.world().leave_team(&stage.team, &stage.bot.id);
    expect(
        &doctor(&stage),
        "channel",
        "failure",
        "@prxbot is in no team and no channel",
        "/invite @prxbot",
    );
}

#[test]
fn a_token_is_said_to_be_whose_it_is() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    stage.world().revoke_token(&stage.bot.token);
    let ran = doctor(&stage);
    expect(&ran, "token", "failure", "refused", "bot_token = \"…\"");
    assert!(!checks(&ran).iter().any(|check| check["check"] == "channel"));
    // What needs no token is still checked.
    expect(&ran, "provider", "ok", "echo", "");

    let stage = Stage::real();
    stage.configure(ECHO, "");
    let config = fs::read_to_string(stage.config_path()).expect("a config");
    let config = config.replace(&stage.bot.token, &stage.ann.token);
    fs::write(stage.config_path(), config).expect("a config");
    expect(
        &doctor(&stage),
        "token",
        "warning",
        "@ann is a person",
        "Bot Accounts",
    );
}

#[test]
fn a_file_that_others_can_read_is_to_be_closed() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    fs::set_permissions(stage.config_path(), fs::Permissions::from_mode(0o644)).expect("a mode");
    let fix = format!("chmod 600 {}", stage.config_path().display());
    expect(
        &doctor(&stage),
        "config",
        "warning",
        "others can read it",
        &fix,
    );
}

#[test]
fn what_comes_from_the_environment_is_missing_under_cron() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let mut command = binary();
    command
        .args(["doctor", "--json", "--config"])
        .arg(stage.config_path());
    command.env("MATTERMOST_BOT_TOKEN", &stage.bot.token);
    let ran = run(&mut command, "");
    expect(
        &ran,
        "environment",
        "warning",
        "MATTERMOST_BOT_TOKEN comes from the environment",
        "MATTERMOST_BOT_TOKEN=…",
    );
}

#[test]
fn the_way_to_the_servers_is_missing_under_cron_when_the_environment_tells_it() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let folder = fs::canonicalize(stage.folder.path()).expect("a folder");
    let roots = folder.join("roots.pem").display().to_string();
    fs::write(
        &roots,
        rcgen::generate_simple_self_signed([])
            .expect("roots")
            .cert
            .pem(),
    )
    .expect("a file");
    for (name, value, fix) in [
        (
            "https_proxy",
            "http://127.0.0.1:1",
            "into the crontab, above the line that starts prx:\n  https_proxy=…",
        ),
        ("NO_PROXY", "127.0.0.1", "\n  NO_PROXY=…"),
        ("SSL_CERT_FILE", &roots, &format!("\n  ca_file = {roots:?}")),
    ] {
        let mut command = binary();
        command
            .args(["doctor", "--json", "--config"])
            .arg(stage.config_path());
        command.env(name, value);
        if name == "NO_PROXY" {
            // Alone it decides nothing.
            command.env("HTTPS_PROXY", "http://127.0.0.1:1");
        }
        let detail = format!("{name} comes from the environment, where cron does not find it");
        expect(
            &run(&mut command, ""),
            "environment",
            "warning",
            &detail,
            fix,
        );
    }
    expect(&doctor(&stage), "server", "ok", "Mattermost", "");
    assert!(
        !checks(&doctor(&stage))
            .iter()
            .any(|check| check["check"] == "environment")
    );
}

#[test]
fn no_warning_of_default_channels_when_nobody_is_bothered_there() {
    let quiet = [
        "mention_only = true",
        "allowed_users = []",
        "channel_id = \"4xp9fdt77pncbef59f4k1qe83o\"",
    ];
    for setting in quiet {
        let stage = Stage::real();
        stage.configure(ECHO, setting);
        let ran = doctor(&stage);
        assert!(
            !ran.stdout.contains("where everybody of the team is"),
            "{}",
            ran.stdout
        );
    }
}

#[test]
fn a_running_bot_is_seen_and_left_alone() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let mut bot = stage.spawn();
    stage.wait("the first poll", |world| {
        world
            .log
            .iter()
            .any(|call| call.target.contains("/channels"))
    });
    let detail = format!("the bot is running as process {}", bot.child.id());
    expect(&doctor(&stage), "state", "ok", &detail, "");
    let ran = stage.run(&["doctor"], "");
    assert!(ran.stdout.ends_with("and is running.\n"), "{ran:?}");
    assert!(bot.child.try_wait().expect("a child").is_none());
}

#[test]
fn all_is_not_well_beside_a_line_that_warns() {
    let stage = Stage::real();
    let mention = "mention_only = true";
    for (top, more, code, end) in [
        (
            ECHO,
            mention,
            0,
            "\n\nAll is well: the bot works with this. Start it with `prx run`.\n",
        ),
        (
            "",
            mention,
            0,
            "\n\nThe bot runs with this, but see the line with !. Start it with `prx run`.\n",
        ),
        (
            "",
            "",
            0,
            "see the 2 lines with !. Start it with `prx run`.\n",
        ),
        ("", "channel_id = \"nowhere\"", 1, "\n\n"),
    ] {
        stage.configure(top, more);
        private(&stage);
        let ran = stage.run(&["doctor"], "");
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stdout.ends_with(end), "{}", ran.stdout);
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_exit_code_2() {
    let stage = Stage::real();
    let ran = doctor(&stage);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let check = &checks(&ran)[0];
    assert!(
        check["detail"]
            .as_str()
            .expect("a text")
            .ends_with("there is no such file"),
        "{check}"
    );
    assert!(
        check["fix"]
            .as_str()
            .expect("a text")
            .contains("\n  prx init --config /"),
        "{check}"
    );

    let text = "[channels_config.mattermost]\nhistroy_posts = 5\nurl = 7\nbot_token = 8";
    fs::write(stage.config_path(), text).expect("a file");
    let ran = stage.run(&["doctor"], "");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let signs = ran.stdout.lines().filter(|line| !line.starts_with(' '));
    let signs: String = signs.flat_map(|line| line.chars().next()).collect();
    assert_eq!(signs, "✗✗!!!", "{ran:?}");
    assert!(ran.stdout.contains("\n                → "), "{ran:?}");
}

/// Runs `command` as nobody, if this process may do so.
fn as_nobody(command: &mut Command) -> Option<Ran> {
    let nobody = |command: &mut Command| {
        command.uid(65_534).gid(65_534);
    };
    let mut try_first = binary();
    nobody(&mut try_first);
    // Neither may everybody become somebody else, nor is everybody let into root's folders.
    if try_first.arg("--version").output().is_err() {
        crate::support::skipped("prx cannot be run as nobody here");
        return None;
    }
    nobody(command);
    Some(run(command, ""))
}

#[test]
fn a_config_of_somebody_else_is_told_with_its_owner_and_how_to_give_it_over() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let open = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(stage.folder.path(), mode).expect("a mode");
    };
    let path = stage.config_path().display().to_string();
    let doctor = || {
        let mut command = binary();
        command.args(["doctor", "--json", "--config", &path]);
        as_nobody(&mut command)
    };
    private(&stage);
    open(0o755);
    let Some(ran) = doctor() else { return };
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let check = &checks(&ran)[0];
    let text = |key: &str| check[key].as_str().expect("a text").to_owned();
    let detail = "cannot be read by nobody: it belongs to root (mode 600)";
    assert_eq!(text("detail"), format!("{path}: {detail}"));
    assert!(
        text("fix").ends_with(&format!("\n  chown nobody {path}")),
        "{check}"
    );

    open(0o700);
    let ran = doctor().expect("a run");
    let check = &checks(&ran)[0];
    let detail = check["detail"].as_str().expect("a text");
    let folder = stage.folder.path().display();
    let expected = format!("cannot be read by nobody: the folder {folder} belongs to root");
    assert!(detail.ends_with(&expected), "{check}");
}

#[test]
fn no_secret_is_shown() {
    let stage = Stage::real();
    let key = "sk-ant-very-secret-key";
    stage.configure(
        &format!(
            "default_provider = \"openai\"\napi_key = \"{key}\"\napi_url = \"http://127.0.0.1:1\""
        ),
        "",
    );
    for arguments in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["doctor", "--ask", "-v"],
    ] {
        let ran = stage.run(arguments, "");
        let all = ran.stdout + &ran.stderr;
        assert!(
            !all.contains(key) && !all.contains(&stage.bot.token),
            "{all}"
        );
    }
}

#[test]
fn terminals_are_not_told_what_to_do_by_names() {
    let stage = Stage::real();
    stage.configure(ECHO, &format!("channel_id = {:?}", stage.channel));
    stage.world().team_mut(&stage.team).display_name = "\u{1b}[2Jteam".into();
    let ran = stage.run(&["doctor"], "");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
}

// The way to the server.

#[test]
fn a_server_that_is_not_there_is_named() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    stage.mattermost.stop();
    let ran = doctor(&stage);
    expect(
        &ran,
        "server",
        "failure",
        "connection refused",
        "is the server running",
    );
    let hint = "In a container, localhost is the container itself";
    expect(&ran, "server", "failure", "connection refused", hint);
    expect(&ran, "provider", "ok", "echo", "");

    point_to(&stage, "http://chat.invalid");
    expect(
        &doctor(&stage),
        "server",
        "failure",
        "no such host",
        "written right",
    );
}

fn html() -> Reply {
    Reply::Full {
        status: 200,
        headers: vec![("Content-Type".into(), "text/html".into())],
        body: b"<html>Please log in</html>".into(),
    }
}

#[test]
fn a_proxys_login_page_is_told_from_a_mattermost() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let proxy = Wire::start(|_| html());
    point_to(&stage, &proxy.url());
    expect(
        &doctor(&stage),
        "server",
        "failure",
        "a web page (200)",
        "/api/v4/ pass without",
    );

    stage
        .mattermost
        .on_request(|_, _| Act::Instead(Fault::Html(502)));
    point_to(&stage, &stage.mattermost.url());
    let stage_url = proxy.url();
    let config = fs::read_to_string(stage.config_path()).expect("a config");
    fs::write(
        stage.config_path(),
        config.replace(&stage_url, &stage.mattermost.url()),
    )
    .expect("a config");
    expect(&doctor(&stage), "server", "failure", "(502)", "curl -i ");
}

#[test]
fn a_wrong_path_or_scheme_finds_the_right_one() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    let serve = stage.mattermost.handler();
    // A server at /chat, whose root is something else.
    let proxy = Wire::start(move |mut request: Request| {
        let path = request.target.strip_prefix("/chat").map(str::to_owned);
        match path.filter(|path| path.starts_with("/api/")) {
            Some(path) => {
                request.target = path;
                serve(request)
            }
            None => html(),
        }
    });
    let right = format!("url = \"{}/chat\"", proxy.url());
    for path in ["", "/chat/team/channels/talk", "/team"] {
        let stage = Stage::real();
        stage.configure(ECHO, "");
        point_to(&stage, &format!("{}{path}", proxy.url()));
        expect(
            &doctor(&stage),
            "server",
            "failure",
            "but Mattermost is at ",
            &right,
        );
    }

    let to = stage.mattermost.url();
    let moved = Wire::start(move |request: Request| Reply::Full {
        status: 301,
        headers: vec![("Location".into(), format!("{to}{}", request.target))],
        body: Vec::new(),
    });
    let right = format!("url = \"{}\"", stage.mattermost.url());
    point_to(&stage, &moved.url());
    expect(&doctor(&stage), "server", "failure", "a redirect", &right);
}

#[test]
fn what_is_wrong_with_a_certificate_is_named_with_what_to_do() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    };
    let server = |name: &str| authority.server(&[name], |_| ());
    // The server, whether its authority is trusted; what is said.
    #[rustfmt::skip] // A table.
    let cases = [
        (
            server("localhost"),
            false,
            "failure",
            "not signed by a known authority",
            "ca_file = \"/etc/ssl/certs/ca-certificates.crt\"",
        ),
        (
            authority.server_in_between(false),
            true,
            "failure",
            "or the server does not send the intermediate certificate",
            "-showcerts",
        ),
        (authority.server(&["localhost"], expired), true, "failure", "has expired", "set the clock"),
        (server("chat.example.com"), true, "failure", "is for other names", "use a URL whose host is one of these"),
        (server("localhost"), true, "ok", "Mattermost 11.6.0", ""),
    ];
    for (server, trusted, status, detail, fix) in cases {
        let stage = Stage::real();
        let file = stage.folder.path().join("ca.pem");
        fs::write(&file, &authority.pem).expect("a file");
        let setting = format!("ca_file = {:?}", file.to_str().expect("UTF-8"));
        stage.configure(ECHO, if trusted { &setting } else { "" });
        let tls = Wire::start_tls(server, stage.mattermost.handler());
        point_to(&stage, &format!("https://localhost:{}", tls.address.port()));
        expect(&doctor(&stage), "server", status, detail, fix);
        if status == "failure" {
            expect_run_and_why(&stage, detail);
        }
    }
}

/// A round of the bot and a question about a post fail with this line.
#[track_caller]
fn expect_run_and_why(stage: &Stage, line: &str) {
    for arguments in [
        &["run", "--once"][..],
        &["why", "4xp9fdt77pncbef59f4k1qe83o"],
    ] {
        let ran = stage.run(arguments, "");
        assert!(ran.stderr.contains(line), "{line:?}: {ran:?}");
        assert_ne!(ran.code, Some(0), "{ran:?}");
    }
}

/// What a server or a proxy says → what the doctor, `run` and `why` say.
#[test]
fn what_a_server_refuses_is_told_with_its_own_way_out() {
    let error = |status, id| Act::Instead(Fault::Error(status, id));
    let page = |status, headers: &[(&str, &str)]| {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Act::Instead(Fault::Status(status, headers.collect(), b"<html>".to_vec()))
    };
    let (second_factor, locked, inactive, session) = (
        "api.context.mfa_required.app_error",
        "api.user.check_user_login_attempts.too_many.app_error",
        "api.user.login.inactive.app_error",
        "api.context.session_expired.app_error",
    );
    let limited = "asks for fewer requests (429)";
    let packed = "the answer is compressed (gzip), which was not asked for";
    let switch = "switch that off in the server or the proxy in front of it";
    // Which of the doctor's checks meets it, its words and its advice; then the others' line.
    #[rustfmt::skip] // A table.
    let cases = [
        ("token", error(403, second_factor), "multi-factor authentication", "make a bot account", "needs none"),
        ("token", error(401, second_factor), "multi-factor authentication", "make a bot account", "needs none"),
        ("token", error(401, locked), "the account is locked", "a system admin unlocks it", "a system admin unlocks it"),
        ("token", error(401, inactive), "the account is deactivated", "activates it", "activates it"),
        ("token", error(401, session), "refused: it is wrong or was revoked", "Create New Token", "make a new one"),
        ("token", page(401, &[("WWW-Authenticate", "Basic")]), "gave 401 and a page", "must let /api/v4/ pass", "asks for a login of its own"),
        ("token", page(403, &[]), "gave 403 and a page", "must let this machine pass", "a firewall refuses"),
        ("token", page(502, &[]), "gave 502 and a page", "is Mattermost down", "is Mattermost down"),
        ("token", page(301, &[("Location", "/login")]), "was redirected (301)", "set url to", "set url to"),
        ("token", page(429, &[]), limited, "raise poll_interval_secs", "raise poll_interval_secs"),
        ("token", Act::ServeThen(Fault::Packed), packed, switch, switch),
        ("token", error(500, "x.app_error"), "gave 500 (x.app_error)", "look at the server's log", "(x.app_error)"),
        ("server", page(401, &[]), "HTTP 401", "/api/v4/ pass without", "a firewall refuses"),
        ("server", page(429, &[]), limited, "raise poll_interval_secs", "raise poll_interval_secs"),
        ("server", Act::ServeThen(Fault::Packed), packed, switch, switch),
    ];
    let stage = Stage::real();
    stage.configure(ECHO, "");
    for (check, act, detail, fix, line) in cases {
        stage.mattermost.on_request(move |request, _| {
            match check == "token" && request.target.ends_with("system/ping") {
                true => Act::Serve,
                false => act.clone(),
            }
        });
        expect(&doctor(&stage), check, "failure", detail, fix);
        expect_run_and_why(&stage, line);
    }
}

#[test]
fn a_ca_file_that_is_not_there_and_a_port_without_tls_are_named() {
    let stage = Stage::real();
    stage.configure(ECHO, "ca_file = \"missing.pem\"");
    expect(
        &doctor(&stage),
        "server",
        "failure",
        "missing.pem",
        "PEM certificates",
    );

    stage.configure(ECHO, "");
    let port = stage
        .mattermost
        .url()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    point_to(&stage, &format!("https://127.0.0.1:{port}"));
    expect(
        &doctor(&stage),
        "server",
        "failure",
        "gives no TLS, but Mattermost is at http://",
        "url = \"http://127.0.0.1:",
    );
}

// The model.

#[test]
fn what_is_wrong_with_the_model_is_named_with_what_to_do() {
    let model = Model::start();
    let ollama = format!(
        "default_provider = \"ollama\"\napi_url = \"{}\"\n",
        model.url()
    );
    let custom = format!("default_provider = \"custom:{}/v1\"\n", model.url());
    let bare = format!("default_provider = \"custom:{}\"\n", model.url());
    let good = "default_model = \"test-model\"";
    #[rustfmt::skip] // A table.
    let cases: &[(String, &str, &str, &str)] = &[
        (String::new(), "warning", "no language model yet", "default_provider = \"ollama\""),
        (format!("{custom}{good}"), "ok", "reachable, and it has the model", ""),
        (format!("{bare}{good}"), "ok", "reachable, and it has the model", ""),
        (
            format!("{custom}default_model = \"test-mdel\""),
            "warning",
            "has no model \"test-mdel\"",
            "default_model = \"test-model\"",
        ),
        (custom.clone(), "warning", "no model is named", "default_model = \"test-model\""),
        (format!("{ollama}default_model = \"qwen3\""), "failure", "has no model \"qwen3\"", "ollama pull qwen3"),
        (
            "default_provider = \"ollama\"\napi_url = \"http://127.0.0.1:1\"".into(),
            "failure",
            "refused",
            "ollama serve",
        ),
        (
            "default_provider = \"custom:http://model.invalid/v1\"".into(),
            "failure",
            "no such host",
            "default_provider",
        ),
        (
            format!("{custom}{good}\napi_key = \"sk-ant-123\""),
            "warning",
            "looks like one of Anthropic's",
            "default_provider = \"anthropic\"",
        ),
        ("default_provider = \"command\"\nprovider_command = [\"cat\"]".into(), "ok", "the program cat", ""),
        (
            "default_provider = \"command\"\nprovider_command = [\"/not/there\"]".into(),
            "failure",
            "/not/there is not a program that can be run: No such file",
            "whole path",
        ),
        (
            "default_provider = \"command\"\nprovider_command = [\"~/answer\"]".into(),
            "failure",
            "/nonexistent/answer is not a program that can be run: No such file",
            "whole path",
        ),
        (
            "default_provider = \"command\"\nprovider_command = [\"/etc\"]".into(),
            "failure",
            "/etc is not a program that can be run: it is no file",
            "whole path",
        ),
        (
            "default_provider = \"command\"\nprovider_command = [\"/etc/passwd\"]".into(),
            "failure",
            "nobody may execute it",
            "chmod +x /etc/passwd",
        ),
    ];
    let stage = Stage::real();
    for (top, status, detail, fix) in cases {
        stage.configure(top, "");
        expect(&doctor(&stage), "provider", status, detail, fix);
    }
    assert!(
        model
            .requests()
            .iter()
            .all(|request| request.method == "GET")
    );
}

#[test]
fn a_model_server_that_refuses_the_key_or_has_no_list_is_told_apart() {
    let scopes = br#"{"error": {"message": "You have insufficient permissions. Missing scopes: api.model.read"}}"#;
    let wrong = br#"{"error": {"message": "Incorrect API key provided: sk-***"}}"#;
    let loading = br#"{"error": {"message": "Loading model"}}"#;
    #[rustfmt::skip] // A table.
    let cases: [(u16, &[u8], &str, &str, &str); 5] = [
        (401, wrong, "failure", "the key is refused", "api_key"),
        (401, scopes, "warning", "a restricted one", "--ask"),
        (404, b"not found", "warning", "no list of models", "--ask"),
        (503, loading, "failure", "HTTP 503", "brackets"),
        (200, b"\x1f\x8b\x08\0", "failure", "the answer is compressed (gzip)", "switch that off"),
    ];
    let stage = Stage::real();
    for (status, body, expected, detail, fix) in cases {
        let server = Wire::start(move |_| Reply::Full {
            status,
            headers: Vec::new(),
            body: body.into(),
        });
        let top = format!(
            "default_provider = \"openai\"\napi_key = \"sk-123456789\"\napi_url = \"{}/v1\"\ndefault_model = \"m\"",
            server.url()
        );
        stage.configure(&top, "");
        expect(&doctor(&stage), "provider", expected, detail, fix);
    }
}

#[test]
fn a_fallbacks_settings_are_corrected_where_they_stand() {
    let model = Model::start();
    let closed = Wire::start(|_| Reply::json(401, &serde_json::json!({"error": "who are you?"})));
    let stage = Stage::real();
    let below = "below [fallback.NAME], with the NAME that fallback_providers has:\n  ";
    let model_line = format!("{below}model = \"test-model\"");
    #[rustfmt::skip] // A table.
    let cases = [
        (closed.url(), "", "failure", "the key is refused", format!("{below}api_key = \"…\"")),
        (model.url(), "model = \"test-mdel\"", "warning", "has no model \"test-mdel\"", model_line),
        ("http://127.0.0.1:1".into(), "", "failure", "refused", format!("{below}api_url = ")),
        (
            model.url(),
            "api_key = \"sk-ant-123\"",
            "warning",
            "looks like one of Anthropic's",
            "in fallback_providers".into(),
        ),
    ];
    for (url, more, status, detail, fix) in cases {
        let top = "default_provider = \"echo\"\ndefault_model = \"test-model\"\n\
                   reliability.fallback_providers = [\"gpu\"]\n\
                   fallback.gpu.api_url = ";
        let more = more
            .replace("model =", "fallback.gpu.model =")
            .replace("api_key", "fallback.gpu.api_key");
        stage.configure(&format!("{top}\"{url}/v1\"\n{more}"), "");
        expect(&doctor(&stage), "provider", status, detail, &fix);
    }
}

#[test]
fn a_model_servers_certificate_is_judged_by_the_file_that_is_named() {
    let authority = Authority::new();
    let tls = Wire::start_tls(authority.server(&["localhost"], |_| ()), |_| html());
    let stage = Stage::real();
    let file = stage.folder.path().join("ca.pem");
    fs::write(&file, Authority::new().pem).expect("a file");
    let top = format!(
        "default_provider = \"custom:https://localhost:{}\"\n",
        tls.address.port()
    );
    for (more, fix) in [
        (
            String::new(),
            "ca_file = \"/etc/ssl/certs/ca-certificates.crt\"".to_owned(),
        ),
        (
            format!("ca_file = {file:?}"),
            "put the authority's present certificate into ca_file".to_owned(),
        ),
    ] {
        stage.configure(&format!("{top}{more}"), "");
        expect(
            &doctor(&stage),
            "provider",
            "failure",
            "not signed by a known authority",
            &fix,
        );
    }
}

#[test]
fn openrouter_is_asked_about_the_key_since_it_shows_its_models_to_anybody() {
    let server = Wire::start(|request| match request.target.as_str() {
        "/api/v1/models" => Reply::json(200, &serde_json::json!({"data": [{"id": "m"}]})),
        _ => Reply::json(
            401,
            &serde_json::json!({"error": {"message": "User not found."}}),
        ),
    });
    let stage = Stage::real();
    let top = format!(
        "api_key = \"sk-or-123456\"\napi_url = \"{}/api/v1\"\ndefault_model = \"m\"",
        server.url()
    );
    stage.configure(&top, "");
    expect(
        &doctor(&stage),
        "provider",
        "failure",
        "the key is refused",
        "api_key",
    );
}

#[test]
fn one_question_is_asked_only_on_request() {
    let model = Model::start();
    model.answers("I am here.");
    let stage = Stage::real();
    stage.configure(
        &format!(
            "default_provider = \"custom:{}/v1\"\ndefault_model = \"test-model\"",
            model.url()
        ),
        "",
    );
    let ran = stage.run(&["doctor", "--json", "--ask"], "");
    expect(&ran, "answer", "ok", "s: I am here.", "");
    model.on_request(|_| ModelReply::status(402, "{\"error\": \"no money\"}"));
    let ran = stage.run(&["doctor", "--json", "--ask"], "");
    expect(&ran, "answer", "failure", "no money", "default_model");
    stage.configure(
        "default_provider = \"command\"\nprovider_command = [\"false\"]",
        "",
    );
    let ran = stage.run(&["doctor", "--json", "--ask"], "");
    expect(&ran, "answer", "failure", "exit status: 1", "prx answer -v");
    let second = Model::start();
    let (first, next) = (model.url(), second.url());
    stage.configure(
        &format!(
            "default_provider = \"custom:{first}/v1\"\ndefault_model = \"test-model\"\n\
             reliability.fallback_providers = [\"custom:{next}/v1\"]\n\
             reliability.model_fallbacks = {{ test-model = [\"other\"] }}"
        ),
        "",
    );
    let ran = stage.run(&["doctor", "--json", "--ask"], "");
    expect(&ran, "answer", "failure", "no money", "default_model");
    assert!(
        second
            .requests()
            .iter()
            .all(|request| request.method == "GET")
    );
    let asked = model.requests();
    assert_eq!(
        asked
            .iter()
            .filter(|request| request.method == "POST")
            .count(),
        3
    );
}

#[test]
fn the_question_shows_a_picture_to_a_model_that_takes_them() {
    let model = Model::start();
    let stage = Stage::real();
    let configure = |more: &str| {
        let url = model.url();
        let top = format!("default_provider = \"custom:{url}/v1\"\ndefault_model = \"test-model\"");
        stage.configure(&top, more);
    };
    let refusal = r#"{"error":{"message":"This model does not support image input"}}"#;
    for (more, takes_them, requests) in [
        ("", true, 1),
        ("", false, 2),
        ("\n[multimodal]\nmax_images = 0", false, 1),
    ] {
        configure(more);
        let before = model.bodies().len();
        model.on_request(move |request| {
            let shown = String::from_utf8_lossy(&request.body).contains("image_url");
            match shown && !takes_them {
                true => ModelReply::status(400, refusal),
                false => ModelReply::text("Red."),
            }
        });
        let ran = stage.run(&["doctor", "--json", "--ask"], "");
        expect(&ran, "answer", "ok", "s: Red.", "");
        let told = checks(&ran).iter().any(|one| one["check"] == "pictures");
        assert_eq!(told, requests == 2, "{more}: {}", ran.stdout);
        if told {
            let detail = "custom test-model takes no pictures";
            expect(&ran, "pictures", "warning", detail, "max_images = 0");
        }
        let bodies = model.bodies().split_off(before);
        let asked: Vec<_> = bodies.iter().filter(|body| body.is_object()).collect();
        assert_eq!(asked.len(), requests, "{more}");
        let shown = asked[0]["messages"][0]["content"][1]["image_url"]["url"].as_str();
        let bytes = shown.map(|url| url.starts_with("data:image/png;base64,iVBORw0KGgo"));
        assert_eq!(bytes, more.is_empty().then_some(true), "{more}");
    }
}

#[test]
fn members_who_came_by_any_way_are_members() {
    let stage = Stage::real();
    let channel = stage
        .world()
        .add_channel(&stage.team, "closed", Kind::Private);
    stage
        .world()
        .add_member(&channel, &stage.bot.id, Joining::Joined);
    stage.configure(ECHO, &format!("channel_id = {channel:?}"));
    expect(
        &doctor(&stage),
        "channel",
        "ok",
        "~closed in Team; @prxbot is in it and may post",
        "",
    );
}

#[test]
fn people_are_listed_in_the_order_of_the_config() {
    let stage = Stage::real();
    let mut people: Vec<(String, String)> = ["zoe", "bob", "kim", "abe"]
        .map(|name| (stage.world().add_user(name).id, format!("@{name}")))
        .into();
    for _ in 0..2 {
        let ids: Vec<&str> = people.iter().map(|(id, _)| id.as_str()).collect();
        let setting = format!("allowed_users = {ids:?}");
        stage.configure(ECHO, &setting);
        let names: Vec<&str> = people.iter().map(|(_, name)| name.as_str()).collect();
        expect(
            &doctor(&stage),
            "allowed_users",
            "ok",
            &names.join(", "),
            "",
        );
        people.reverse();
    }
}
