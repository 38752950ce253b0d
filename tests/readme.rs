//! What the README says of settings, commands and providers is so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use prx::config::table::{SECTIONS, VARIABLES};
use prx::config::{self, Config};
use prx::exit::CODES;
use prx::provider::KNOWN;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::support::bot::binary;

const README: &str = include_str!("../README.md");

/// The config `text`, with what it lacks of the address and the token in the environment.
fn load(folder: &Path, text: &str) -> Result<Config, String> {
    let path = folder.join("config.toml");
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner");
    let has_token = text.contains("\nbot_token =") || text.contains("\nbot_token_file =");
    let environment = |name: &str| match name {
        "MATTERMOST_URL" if !text.contains("\nurl =") => Some("http://localhost".to_owned()),
        "MATTERMOST_BOT_TOKEN" if !has_token => Some("token".to_owned()),
        "CREDENTIALS_DIRECTORY" => Some(folder.display().to_string()),
        "OPENAI_API_KEY" => Some("key".to_owned()),
        _ => None,
    };
    config::load(Some(&path), &environment).map_err(|error| error.to_string())
}

fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("token"), "token\n").expect("a file");
    folder
}

/// The text of each block of code in this language.
fn blocks(language: &str) -> Vec<String> {
    let opening = format!("```{language}");
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while lines.any(|line| line == opening) {
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(block.join("\n"));
    }
    blocks
}

/// The cells of each row of the tables below the heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = README.split_once(&format!("\n{heading}\n")).expect(heading);
    let lines = section.lines().take_while(|line| !line.starts_with('#'));
    let rows = lines.filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// A setting as the table tells it.
struct Setting {
    /// Its table's header; empty: the top of the file.
    section: &'static str,
    name: &'static str,
    default: &'static str,
    range: &'static str,
}

impl Setting {
    /// A config in which `name` has this value.
    fn config(&self, name: &str, value: &str) -> String {
        let section = self.section.replace("ID", "4xp9fdt77pncbef59f4k1qe83o");
        format!("{section}\n{name} = {value}\n")
    }
}

fn settings() -> Vec<Setting> {
    let mut section = "";
    let mut settings = Vec::new();
    for row in rows("## Settings") {
        match row[0].strip_prefix("**") {
            Some(header) => {
                let header = header.trim_end_matches("**").trim_matches('`');
                section = if header.starts_with('[') { header } else { "" };
            }
            None => settings.push(Setting {
                section,
                name: row[0].trim_matches('`'),
                default: row[1],
                range: row[2],
            }),
        }
    }
    settings
}

#[test]
fn every_config_in_it_loads_without_a_warning() {
    let folder = folder();
    let blocks = blocks("toml");
    assert!(blocks.len() >= 5);
    for block in blocks {
        let config = load(folder.path(), &block).unwrap_or_else(|error| panic!("{error}\n{block}"));
        let mut warnings = config.warnings;
        // An example of something else.
        warnings.retain(|warning| !warning.problem.what.contains("so nobody is answered"));
        assert!(warnings.is_empty(), "{warnings:?}\n{block}");
    }
}

/// The README's tables that are made from the program's own: each with the line above its rows.
fn generated() -> Vec<(&'static str, String)> {
    let mut settings = String::new();
    for section in SECTIONS {
        let header = match section.header {
            "" => "top of the file".to_owned(),
            header => format!("`[{header}]`"),
        };
        settings += &row(&[&format!("**{header}**"), "", "", section.note]);
        for setting in section.settings {
            let name = format!("`{}`", setting.name);
            settings += &row(&[&name, &setting.default(), &setting.range(), setting.meaning]);
        }
    }
    let variables = VARIABLES
        .iter()
        .map(|(names, meaning)| row(&[names, meaning]));
    let codes = CODES
        .iter()
        .map(|(code, meaning)| row(&[&code.to_string(), meaning]));
    vec![
        (
            "| name | default | range | meaning |\n|---|---|---|---|\n",
            settings,
        ),
        ("| variable | meaning |\n|---|---|\n", variables.collect()),
        ("| code | meaning |\n|---|---|\n", codes.collect()),
    ]
}

fn row(cells: &[&str]) -> String {
    let cells = cells.iter().map(|cell| match *cell {
        "" => " |".to_owned(),
        cell => format!(" {cell} |"),
    });
    format!("|{}\n", cells.collect::<String>())
}

/// With `PRX_UPDATE_README` in the environment, the README's tables are made anew.
#[test]
fn its_tables_of_settings_variables_and_exit_codes_are_the_programs() {
    let mut readme = README.to_owned();
    for (head, rows) in generated() {
        let (before, after) = readme.split_once(head).expect(head);
        let end = after.find("\n\n").map_or(after.len(), |end| end + 1);
        readme = format!("{before}{head}{rows}{}", &after[end..]);
    }
    if std::env::var_os("PRX_UPDATE_README").is_some() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
        return fs::write(path, readme).expect("a file");
    }
    for (line, expected) in README.lines().zip(readme.lines()) {
        assert_eq!(line, expected, "run this test with PRX_UPDATE_README=1");
    }
    assert_eq!(README.lines().count(), readme.lines().count());
}

#[test]
fn every_setting_in_it_is_known_where_it_says() {
    let folder = folder();
    for setting in settings() {
        // Of a key one letter away from a known one, the known one is told.
        let mistyped = format!("{}_", setting.name);
        let config = load(folder.path(), &setting.config(&mistyped, "0")).expect("a config");
        let hint = format!("did you mean {}?", setting.name);
        assert!(
            config
                .warnings
                .iter()
                .any(|warning| warning.problem.fix == hint),
            "{} {}: {:?}",
            setting.section,
            setting.name,
            config.warnings
        );
    }
}

#[test]
fn the_defaults_are_the_ones_in_it() {
    let folder = folder();
    let shown = |text: &str| {
        let mut config =
            load(folder.path(), text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        config.warnings.clear();
        format!("{config:?}")
    };
    let mut checked = 0;
    for setting in settings() {
        let Some(default) = setting.default.strip_prefix('`') else {
            continue;
        };
        if setting.section.contains("ID") || setting.section.contains("NAME") {
            continue;
        }
        let default = default.trim_end_matches('`');
        let text = setting.config(setting.name, default);
        assert_eq!(shown(&text), shown(""), "{text}");
        checked += 1;
    }
    assert!(checked >= 12, "{checked}");
}

#[test]
fn the_ranges_are_the_ones_in_it() {
    let folder = folder();
    let mut checked = 0;
    for setting in settings() {
        let Some((least, most)) = setting.range.split_once(" to ") else {
            continue;
        };
        let (least, most): (f64, f64) = (least.parse().expect(least), most.parse().expect(most));
        let below = if least.fract() == 0.0 {
            least - 1.0
        } else {
            least - 0.01
        };
        for (value, good) in [
            (least, true),
            (most, true),
            (below, false),
            (most + 1.0, false),
        ] {
            let text = setting.config(setting.name, &value.to_string());
            assert_eq!(load(folder.path(), &text).is_ok(), good, "{text}");
        }
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}

/// Every call of prx in code, as words after the program's name.
fn calls() -> Vec<Vec<&'static str>> {
    let code = README.split('`').skip(1).step_by(2);
    // Blocks lie between pairs of empty spans; in both, a call begins a line or stands behind a pipe.
    let commands = code.flat_map(str::lines).flat_map(|line| line.split(" | "));
    let calls = commands
        .map(str::trim)
        .filter(|line| *line == "prx" || line.starts_with("prx "));
    calls
        .map(|call| call.split_whitespace().skip(1).collect())
        .collect()
}

#[test]
fn every_command_in_it_is_in_the_help() {
    let help = |words: &[&str]| {
        let output = binary()
            .arg("help")
            .args(words)
            .output()
            .expect("the binary");
        assert!(output.status.success(), "prx help {words:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let calls = calls();
    assert!(calls.len() >= 12, "{calls:?}");
    for call in calls {
        let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
        let name: Vec<&str> = call.iter().take_while(is_name).copied().collect();
        let help = help(&name);
        let words = call.iter().map(|word| word.trim_end_matches(','));
        for option in words.filter(|word| word.starts_with('-') && *word != "-") {
            let known = help.split([' ', ',', '\n']).any(|word| word == option);
            assert!(known, "prx {call:?}: {option}\n{help}");
        }
    }
    for option in ["--ask", "--json"] {
        assert!(help(&["channel", "doctor"]).contains(option), "{option}");
    }
    assert!(help(&["send"]).contains("--thread"));
    for option in ["--config", "-v", "-q", "--version", "--help"] {
        assert!(help(&[]).contains(option), "{option}");
    }
}

#[test]
fn every_command_of_the_help_is_in_it() {
    let output = binary().arg("--help").output().expect("the binary");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, commands) = help.split_once("\nCommands:\n").expect("commands");
    let (commands, _) = commands.split_once("\n\n").expect("an end");
    let table = rows("### Commands");
    for line in commands.lines() {
        let name = line.trim().split("  ").next().unwrap_or_default();
        if name == "help COMMAND" {
            continue;
        }
        let call = format!("`prx {name}");
        assert!(table.iter().any(|row| row[0].contains(&call)), "{name}");
    }
}

#[test]
fn the_providers_are_the_ones_in_it() {
    let rows = rows("## Providers");
    for known in KNOWN {
        let name = format!("`{}`", known.name);
        let row = rows
            .iter()
            .find(|row| row[0].split(", ").next() == Some(&name));
        let row = row.unwrap_or_else(|| panic!("{name}"));
        let names: Vec<String> = [known.name]
            .iter()
            .chain(known.aliases)
            .map(|name| format!("`{name}`"))
            .collect();
        assert_eq!(row[0], names.join(", "));
        assert_eq!(row[1], format!("`{}`", known.base));
        let variables: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        assert_eq!(variables, known.key_variables, "{name}");
        let wanted = !row[2].contains("no key") && !row[2].contains("if it wants one");
        assert_eq!(wanted, known.needs_key, "{name}");
    }
}

#[test]
fn its_links_lead_somewhere() {
    let anchors: Vec<String> = README
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|heading| {
            heading
                .trim_matches(['#', ' '])
                .to_lowercase()
                .replace(' ', "-")
        })
        .collect();
    let targets = README.split("](").skip(1);
    for target in targets.filter_map(|rest| rest.split(')').next()) {
        match target.strip_prefix('#') {
            Some(anchor) => assert!(anchors.iter().any(|known| known == anchor), "{target}"),
            None => {
                let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target);
                assert!(path.exists(), "{target}");
            }
        }
    }
}

#[test]
fn it_is_read_in_a_quarter_of_an_hour() {
    let lines = README.lines().filter(|line| !line.starts_with('|'));
    let words: usize = lines.map(|line| line.split_whitespace().count()).sum();
    assert!(words <= 3200, "{words}");
}

/// The value of a YAML text in the part of YAML that the README uses: blocks, and plain scalars.
fn yaml(text: &str) -> Value {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let lines: Vec<_> = text
        .lines()
        .map(|line| (indent(line), line.trim()))
        .collect();
    block(&lines)
}

fn block(lines: &[(usize, &str)]) -> Value {
    let (level, first) = lines[0];
    let is_list = first.starts_with("- ");
    let (mut list, mut map) = (Vec::new(), Map::new());
    let mut rest = lines;
    while let [(indent, line), below @ ..] = rest {
        assert_eq!(*indent, level, "{line}");
        let end = below.iter().position(|(indent, _)| *indent <= level);
        let (inner, next) = below.split_at(end.unwrap_or(below.len()));
        rest = next;
        if is_list {
            let item = line.strip_prefix("- ").expect(line);
            list.push(match item.contains(": ") || item.ends_with(':') {
                true => block(&[&[(level + 2, item)], inner].concat()),
                false => scalar(item),
            });
            continue;
        }
        let (key, value) = line.split_once(':').expect(line);
        assert!(!key.contains([' ', '"', '#']), "{line}");
        assert_eq!(value.is_empty(), !inner.is_empty(), "{line}");
        let value = match inner {
            [] => scalar(value.strip_prefix(' ').expect(line)),
            inner => block(inner),
        };
        assert!(map.insert(key.to_owned(), value).is_none(), "{line}");
    }
    match is_list {
        true => list.into(),
        false => map.into(),
    }
}

fn scalar(text: &str) -> Value {
    let special = text.starts_with(|c: char| "[]{}&*!|>%@`'\"#,?".contains(c));
    assert!(
        !special && !text.contains(": ") && !text.contains(" #"),
        "{text}"
    );
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// The config file that the image of the Dockerfile reads.
fn config_in_the_image() -> String {
    let [dockerfile] = &blocks("dockerfile")[..] else {
        panic!("one Dockerfile");
    };
    let known = ["FROM", "COPY", "USER", "ENTRYPOINT"];
    let instructions: Vec<_> = dockerfile
        .lines()
        .map(|line| line.split_once(' ').expect(line))
        .collect();
    let names = instructions.iter().map(|(name, _)| *name);
    assert!(names.eq(known), "{dockerfile}");
    let words: Vec<String> = serde_json::from_str(instructions[3].1).expect("a list of words");
    assert_eq!(words[..2], ["/prx", "--config"]);
    words[2].clone()
}

#[test]
fn its_compose_file_keeps_the_state_and_starts_an_init() {
    let file = yaml(&blocks("yaml")[0]);
    let service = &file["services"]["prx"];
    assert_eq!(service["init"], true);
    assert_eq!(service["restart"], "on-failure");
    let volume = service["volumes"][0].as_str().expect("a volume");
    let (_, folder) = volume.split_once(':').expect("two paths");
    assert_eq!(format!("{folder}/config.toml"), config_in_the_image());
}

#[test]
fn its_kubernetes_manifest_never_runs_two_and_keeps_the_state() {
    let manifest = yaml(&blocks("yaml")[1]);
    assert_eq!(manifest["kind"], "Deployment");
    let spec = &manifest["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["strategy"]["type"], "Recreate");
    let pod = &spec["template"];
    assert_eq!(spec["selector"]["matchLabels"], pod["metadata"]["labels"]);
    let pod = &pod["spec"];
    // What kills it is then not the first process, which the kernel shields from signals.
    assert_eq!(pod["shareProcessNamespace"], true);
    let list = |value: &Value| value.as_array().cloned().expect("a list");
    let (volumes, container) = (list(&pod["volumes"]), &pod["containers"][0]);
    for mount in list(&container["volumeMounts"]) {
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == mount["name"]);
        let volume = volume.unwrap_or_else(|| panic!("{mount}"));
        let folder = mount["mountPath"].as_str().expect("a folder");
        match folder {
            "/state" => assert!(volume["persistentVolumeClaim"]["claimName"].is_string()),
            _ => assert_eq!(format!("{folder}/config.toml"), config_in_the_image()),
        }
    }
    assert!(README.contains("`state_dir = \"/state\"`"));
}

#[test]
fn its_systemd_unit_is_one_and_stops_at_errors_that_stay() {
    let unit = &blocks("ini")[0];
    let mut section = "";
    let mut lines = Vec::new();
    for line in unit.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix('[') {
            Some(header) => section = header.trim_end_matches(']'),
            None => {
                let (key, value) = line.split_once('=').expect(line);
                assert!(key.chars().all(|c| c.is_ascii_alphabetic()), "{line}");
                lines.push((section, key, value));
            }
        }
    }
    let value = |section: &str, key: &str| {
        let mut found = lines
            .iter()
            .filter(|line| line.0 == section && line.1 == key);
        let value = found.next().unwrap_or_else(|| panic!("{key}")).2;
        assert!(found.next().is_none(), "{key}");
        value
    };
    let stays = CODES.iter().filter(|(code, _)| *code > 1);
    let stays: Vec<String> = stays.map(|(code, _)| code.to_string()).collect();
    assert_eq!(
        value("Service", "RestartPreventExitStatus"),
        stays.join(" ")
    );
    assert_eq!(value("Service", "StateDirectory"), "prx");
    // A worker that takes too much is ended alone, without a trace of what it was told.
    assert_eq!(value("Service", "OOMPolicy"), "continue");
    assert_eq!(value("Service", "LimitCORE"), "0");
    for limit in ["MemoryMax", "TasksMax"] {
        assert!(value("Service", limit).starts_with(|c: char| c.is_ascii_digit()));
    }
    assert!(value("Service", "ExecStart").starts_with("/usr/local/bin/prx --config /etc/prx/"));
    assert_eq!(value("Install", "WantedBy"), "multi-user.target");
    for (key, expected) in [
        ("PrivateMounts", "yes"),
        ("PrivateUsers", "yes"),
        ("ProcSubset", "pid"),
    ] {
        assert_eq!(value("Service", key), expected, "{key}");
    }
    let denied = ("Service", "SystemCallFilter", "~@privileged @resources");
    assert!(lines.contains(&denied));
    judged_by_systemd(unit);
}

/// systemd's own opinion, where it is: the unit is right, and its exposure level at most 1.2.
fn judged_by_systemd(unit: &str) {
    let folder = folder();
    let path = folder.path().join("prx.service");
    // The program has to be there.
    let unit = unit.replace(
        "/usr/local/bin/prx",
        &binary().get_program().to_string_lossy(),
    );
    fs::write(&path, unit).expect("a file");
    for words in [
        &["verify"][..],
        &["security", "--offline=yes", "--threshold=12"],
    ] {
        let mut command = Command::new("systemd-analyze");
        let Ok(output) = command.args(words).arg(&path).output() else {
            println!("SKIPPED: there is no systemd-analyze to judge the unit");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        // What it cannot read it leaves out, and says so.
        let is_fine = output.status.success() && !said.contains("prx.service:");
        assert!(is_fine, "{words:?}: {said}");
    }
}

#[test]
fn its_lines_for_cron_have_five_fields_and_a_command() {
    let is_time =
        |field: &str| !field.is_empty() && field.chars().all(|c| "0123456789*-/,".contains(c));
    let begins_with_one = |line: &&str| line.contains(' ') && line.split(' ').take(2).all(is_time);
    let lines: Vec<&str> = README.lines().filter(begins_with_one).collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        assert!(fields[..5].iter().all(|field| is_time(field)), "{line}");
        // cron takes a percent sign for a line's end.
        assert!(fields[5].contains("prx"), "{line}");
        assert!(!line.replace(r"\%", "").contains('%'), "{line}");
    }
}
