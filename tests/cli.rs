//! The built binary and its command line, from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

/// The binary, with an empty environment.
fn prx(arguments: &[&str]) -> Command {
    let built = env!("CARGO_BIN_EXE_prx").to_owned();
    let mut command = Command::new(std::env::var("PRX_BIN").unwrap_or(built));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("a run");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// What `prx run` says with this config file, without the folder's name.
fn run_with(config: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    fs::write(&path, config).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    let path = path.to_str().expect("UTF-8");
    let mut command = prx(&["--config", path]);
    command.envs(variables.iter().copied());
    let (code, stdout, stderr) = run(&mut command);
    (code, stdout, stderr.replace(path, "config.toml"))
}

#[test]
fn help_is_short_and_comes_on_standard_output() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["run", "--help"],
        &["help", "run"],
        &["channel", "doctor", "--help"],
        &["help", "doctor"],
        &["channel", "--help"],
        &["help", "channel"],
        &["why", "--help"],
        &["init", "--help"],
        &["send", "--help"],
        &["completions", "--help"],
        &["man", "--help"],
    ] {
        let (code, stdout, stderr) = run(&mut prx(arguments));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(stdout.contains("Usage: prx"), "{stdout}");
        let mut options = stdout
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'));
        assert!(options.all(|line| line.contains("  ")), "{stdout}");
        assert!(stdout.contains("Example: "), "{stdout}");
        assert!(stdout.lines().count() <= 30, "{stdout}");
        assert!(
            stdout.lines().all(|line| line.chars().count() <= 80),
            "{stdout}"
        );
    }
}

#[test]
fn the_version_names_the_machine_it_was_built_for() {
    let (code, stdout, stderr) = run(&mut prx(&["--version"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let start = format!(
        "prx {} ({}-linux",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    assert!(stdout.starts_with(&start), "{stdout}");
    assert_eq!(stdout.lines().count(), 1);
}

#[test]
fn a_usage_error_is_two_lines_and_exit_code_2() {
    #[rustfmt::skip] // A table.
    let cases = [
        (&["rnu"][..], "prx: unknown command \"rnu\", did you mean run?"),
        (&["--confg", "x"], "prx: unknown option \"--confg\", did you mean --config?"),
        (&["run", "--config"], "prx: --config needs a value: --config FILE"),
        (&["run", "\u{1b}[2J"], "prx: unexpected argument \"\\u{1b}[2J\""),
    ];
    for (arguments, expected) in cases {
        let (code, stdout, stderr) = run(&mut prx(arguments));
        assert_eq!((code, stdout.as_str()), (Some(2), ""));
        assert_eq!(stderr, format!("{expected}\nTry `prx --help`.\n"));
    }
}

#[test]
fn each_configuration_error_is_one_line_and_the_exit_code_is_2() {
    let mattermost = "[channels_config.mattermost]\nallowed_users = [\"*\"]\n";
    #[rustfmt::skip] // A table.
    let cases = [
        (format!("{mattermost}bot_token = \"t\"\nurl = \"chat\"\n"), vec!["config.toml:4: channels_config.mattermost.url: is not a URL"]),
        (format!("{mattermost}bot_token = \"t\"\n"), vec!["config.toml: channels_config.mattermost.url: missing"]),
        (format!("{mattermost}url = \n"), vec!["config.toml:3: is not TOML"]),
        (
            format!("url = \"https://a.example\"\n{mattermost}bot_token = 1\nhistory_posts = 900"),
            vec![
                "config.toml:4: channels_config.mattermost.bot_token: must be a text",
                "config.toml:5: channels_config.mattermost.history_posts: must be a whole number",
                "config.toml: channels_config.mattermost.url: missing",
                "warning: config.toml:1: url: has no effect here; move it below [channels_config.mattermost]",
            ],
        ),
    ];
    for (config, expected) in cases {
        let (code, stdout, stderr) = run_with(&config, &[]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{stderr}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(&format!("prx: {expected}")), "{stderr}");
        }
    }
}

#[test]
fn without_a_config_file_one_line_says_how_to_write_it() {
    let home = tempfile::tempdir().expect("a folder");
    let (code, stdout, stderr) = run(prx(&[]).env("HOME", home.path()));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    let path = home.path().join(".openprx/config.toml");
    let path = path.display();
    let expected = format!(
        "prx: {path}: there is no such file; this asks what is needed and writes it: prx init"
    );
    assert_eq!(stderr, format!("{expected}\n"));
    let path = format!("{path}.new");
    let (_, _, stderr) = run(prx(&["--config", &path]).env("HOME", home.path()));
    assert_eq!(
        stderr,
        expected.replace("config.toml", "config.toml.new") + " --config " + &path + "\n"
    );
}

#[test]
fn no_secret_is_shown_whatever_is_wrong() {
    let secret = "hunter2hunter2";
    let variable = format!("{secret} {secret}");
    let url = format!("https://name:{secret}@chat.example.com");
    let section = format!("[channels_config.mattermost]\nurl = \"{url}\"\n");
    let good_url = section.replace(&url, "https://chat.example.com");
    #[rustfmt::skip] // A table.
    let cases = [
        (section, vec![]),
        (format!("{good_url}bot_token = \"{variable}\""), vec![]),
        (format!("{good_url}bot_token = {secret}"), vec![]),
        (good_url.clone(), vec![("MATTERMOST_BOT_TOKEN", variable.as_str())]),
        (good_url.clone(), vec![("MATTERMOST_URL", url.as_str())]),
        (format!("api_key = \"enc2:{secret}\"\n{good_url}bot_token = \"{secret}\""), vec![]),
        (format!("default_provider = \"custom:{url}\"\n{good_url}bot_token = \"{secret}\""), vec![]),
        (format!("default_provider = \"custm:{url}\"\n{good_url}bot_token = \"{secret}\""), vec![]),
        (format!("api_key = \"{secret}\"\nmax_tokens = 0\n{good_url}bot_token = \"{secret}\""), vec![]),
    ];
    for (config, mut variables) in cases {
        variables.push(("RUST_LOG", "trace"));
        let (code, stdout, stderr) = run_with(&config, &variables);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(!stderr.contains(secret), "{stderr}");
    }
}

#[test]
fn output_that_nobody_reads_is_no_crash() {
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    let status = prx(&["--help"]).stdout(closed()).status().expect("a run");
    assert_eq!(status.code(), Some(0));
    let status = prx(&["--nonsense"])
        .stderr(closed())
        .status()
        .expect("a run");
    assert_eq!(status.code(), Some(2));
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("a device");
    let (code, _, stderr) = run(prx(&["--help"]).stdout(full));
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("prx: cannot write to standard output: "),
        "{stderr}"
    );
}

/// Whether this machine has the program.
fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // `mandoc` has no such option, and says so.
    if found.is_err() {
        crate::support::skipped(&format!("there is no {program} here to try"));
    }
    found.is_ok()
}

/// A folder with the completions for this shell in a file.
fn completions(shell: &str) -> (tempfile::TempDir, String) {
    let (code, script, stderr) = run(&mut prx(&["completions", shell]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("_prx");
    fs::write(&path, script).expect("a file");
    fs::write(folder.path().join("my config.toml"), "").expect("a file");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

/// What is typed, and all that may follow.
const COMPLETED: &[(&str, &[&str])] = &[
    ("prx wh", &["why"]),
    ("prx --config x cha", &["channel"]),
    ("prx channel ", &["doctor"]),
    ("prx channel doctor matter", &["mattermost"]),
    ("prx channel doctor --a", &["--ask"]),
    ("prx channel doctor mattermost --js", &["--json"]),
    ("prx --onc", &["--once"]),
    ("prx daemon --onc", &["--once"]),
    ("prx why --onc", &[]),
    ("prx send --channel ops --th", &["--thread"]),
    ("prx send --channel ", &[]),
    ("prx completions ", &["bash", "fish", "zsh"]),
    ("prx help wh", &["why"]),
    ("prx --config my", &["my config.toml"]),
    ("prx why --verb", &["--verbose"]),
];

/// The words that a shell offered, without their descriptions, options left out unless asked for.
fn offered(output: &str, typed: &str) -> Vec<String> {
    let wants_options = typed
        .split(' ')
        .next_back()
        .is_some_and(|word| word.starts_with('-'));
    let mut words: Vec<String> = output
        .lines()
        .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
        .filter(|word| !word.is_empty() && (wants_options || !word.starts_with('-')))
        .collect();
    words.sort();
    words.dedup();
    words
}

#[test]
fn bash_completes_commands_options_and_files() {
    if !has("bash") {
        return;
    }
    let (folder, script) = completions("bash");
    for (typed, expected) in COMPLETED {
        let words: Vec<String> = typed.split(' ').map(|word| format!("'{word}'")).collect();
        let call = format!(
            "source {script}; COMP_WORDS=({}); COMP_CWORD={}; _prx; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &call])
            .current_dir(folder.path());
        let (code, stdout, stderr) = run(&mut bash);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{typed}");
        assert_eq!(offered(&stdout, typed), *expected, "{typed}");
    }
}

#[test]
fn fish_completes_commands_options_and_files() {
    if !has("fish") {
        return;
    }
    let (folder, script) = completions("fish");
    for (typed, expected) in COMPLETED {
        let call = format!("source {script}; complete -C '{typed}'");
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &call])
            .current_dir(folder.path())
            .env("HOME", folder.path());
        let (code, stdout, stderr) = run(&mut fish);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{typed}");
        let stdout = stdout.replace('\\', "");
        assert_eq!(offered(&stdout, typed), *expected, "{typed}");
    }
}

#[test]
fn zsh_completes_commands_options_and_files() {
    if !has("zsh") || !std::path::Path::new("/dev/ptmx").exists() {
        return;
    }
    let (folder, _) = completions("zsh");
    let mut zsh = Command::new("zsh");
    zsh.arg("-f").current_dir(folder.path());
    zsh.env_clear()
        .env("PATH", env!("PATH"))
        .env("TERM", "dumb");
    zsh.env("HOME", folder.path()).env("PS1", "ready>");
    let mut zsh = rexpect::session::spawn_command(zsh, Some(60_000)).expect("a terminal");
    zsh.exp_string("ready>").expect("a prompt");
    zsh.send_line("fpath=($HOME $fpath); autoload -Uz compinit; compinit -u -D; print loa''ded")
        .expect("a shell");
    zsh.exp_string("loaded").expect("completions that load");
    // A single match is put into the line, whose words are printed then, one a line.
    for (typed, expected) in COMPLETED.iter().filter(|(_, expected)| expected.len() == 1) {
        zsh.exp_string("ready>").expect("a prompt");
        zsh.send(&format!("{typed}\t\u{1}print -rl -- "))
            .expect("a shell");
        zsh.send_line("").expect("a shell");
        let shown = zsh.exp_string(&format!("\n{}\r\n", expected[0]));
        assert!(shown.is_ok(), "{typed}: {shown:?}");
    }
    // A shell at a terminal does not mind SIGTERM.
    zsh.send_line("exit").expect("a shell");
    zsh.exp_eof().expect("an end");
}

#[test]
fn the_manual_page_is_well_formed_and_tells_every_command_and_option() {
    let (code, page, stderr) = run(&mut prx(&["man"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for word in [
        "channel doctor",
        "\\-\\-once",
        "\\-\\-thread",
        "\\-q",
        "history_posts\\fR (0 to 200; default: \\fB20\\fR)",
        "[channels_config.mattermost.channels.ID]",
        "\\fBSSL_CERT_FILE\\fR",
        ".B 77",
    ] {
        assert!(page.contains(word), "no {word} in {page}");
    }
    if !has("mandoc") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prx.1");
    fs::write(&path, &page).expect("a file");
    let mut mandoc = Command::new("mandoc");
    let (code, stdout, stderr) = run(mandoc.args(["-Tlint", "-Wstyle"]).arg(&path));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "", ""));
}
