//! What the README says of settings, commands and providers is so.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use prx::config::table::{SECTIONS, VARIABLES};
use prx::config::{self, Config};
use prx::exit::CODES;
use prx::provider::KNOWN;
use tempfile::TempDir;

use support::bot::binary;

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
    // Blocks lie between pairs of empty spans; in both, a call begins a line.
    let lines = code.flat_map(str::lines).map(str::trim);
    let calls = lines.filter(|line| *line == "prx" || line.starts_with("prx "));
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
