//! The config file that the answers make.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Answers;
use super::model::Model;

/// The file's text.
pub(super) fn text(answers: &Answers) -> String {
    let mut text = "# `prx channel doctor` says what is wrong with this file.\n".to_owned();
    text += &model(&answers.model);
    text += &format!(
        "\n[channels_config.mattermost]\nurl = {}\n# Of @{}.\nbot_token = {}\n",
        toml(&answers.url),
        comment(&answers.bot),
        toml(answers.token.reveal())
    );
    if let Some(file) = &answers.ca_file {
        text += &format!("ca_file = {}\n", toml(&absolute(file).to_string_lossy()));
    }
    text += &match &answers.channel {
        Some((id, title)) => format!(
            "# Only {}; without this line, everywhere it is.\nchannel_id = {}\n",
            comment(title),
            toml(id.as_str())
        ),
        None => "# Everywhere it is; to answer in one channel only:\n# channel_id = \"…\"\n".into(),
    };
    let ids: Vec<String> = answers.people.ids.iter().map(|id| toml(id)).collect();
    text + &format!(
        "# Who may talk to it: {}.\nallowed_users = [{}]\n# true: only when @{} is mentioned.\n\
         mention_only = {}\n",
        comment(&answers.people.names),
        ids.join(", "),
        comment(&answers.bot),
        answers.mention_only,
    )
}

fn model(model: &Model) -> String {
    if model.provider.is_empty() {
        return "# default_provider = \"ollama\"\n# default_model = \"qwen3\"\n".into();
    }
    let mut text = format!("default_provider = {}\n", toml(&model.provider));
    if !model.api_url.is_empty() {
        text += &format!("api_url = {}\n", toml(&model.api_url));
    }
    text += &format!("default_model = {}\n", toml(&model.model));
    if let Some(key) = &model.key {
        text += &format!("api_key = {}\n", toml(key.reveal()));
    }
    text
}

/// Names come from the server, and a comment ends with its line.
fn comment(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// `text` as a TOML string, whose escapes differ from Rust's.
fn toml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Writes the file for its owner's eyes only; a failure leaves what was there.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&name)?;
    // A file that was left behind keeps its old mode.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, path)
}

#[cfg(test)]
mod tests {
    use super::super::People;
    use super::*;
    use crate::mattermost::ChannelId;
    use crate::secret::Secret;

    #[test]
    fn a_name_from_the_server_stays_in_its_comment() {
        let answers = Answers {
            url: "https://chat.example.com".into(),
            ca_file: None,
            token: Secret::new("token"),
            bot: "bot\nevil = 1".into(),
            channel: Some((ChannelId("c".into()), "title\nevil = 2".into())),
            mention_only: true,
            people: People {
                ids: Vec::new(),
                names: "ann\nevil = 3".into(),
            },
            model: Model::default(),
        };
        let text = text(&answers);
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    }

    #[test]
    fn every_text_reads_back_from_the_file_as_it_was() {
        for text in [
            "",
            "plain",
            "a\"b\\c",
            "e\u{301}\u{200d}\u{feff}",
            "\t\n\u{1b}\u{7f}\u{9f}",
        ] {
            let line = format!("key = {}", toml(text));
            let table = ::toml::de::DeTable::parse(&line)
                .expect("TOML")
                .into_inner();
            let value = table.get("key").and_then(|value| value.get_ref().as_str());
            assert_eq!(value, Some(text), "{line}");
        }
    }
}
