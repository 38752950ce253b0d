//! Tables → settings, and what is to be said about them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::error::{Findings, LAST, Weight, at};
use super::files;
use super::layers::{Table, Value};
use super::table::SECTIONS;
use super::{
    Allowed, ChannelSettings, Config, Environment, Footer, MattermostSettings, StreamMode, provider,
};
use crate::mattermost::{ChannelId, UserId, is_id};
use crate::nearest::nearest;
use crate::secret::{Secret, unquoted};
use crate::sorted;
use crate::text::{Problem, shell_quoted};
use crate::url::http_url;

/// The longest an answer may take.
pub(super) fn message_timeout(channels_config: &Table) -> Duration {
    Duration::from_secs(channels_config.whole("message_timeout_secs"))
}

/// Makes settings of tables. What is wrong is told, and something stands in its place.
pub(super) struct Reader<'a> {
    environment: Environment<'a>,
    path: &'a Path,
    /// The config file's.
    folder: PathBuf,
    findings: &'a Findings,
    sources: Vec<PathBuf>,
    from_environment: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// `path`: the config file. `texts`: those of the files, the config file's first.
    pub(super) fn new(
        environment: Environment<'a>,
        path: &'a Path,
        texts: &[(PathBuf, String)],
        findings: &'a Findings,
    ) -> Reader<'a> {
        Reader {
            environment,
            path,
            folder: files::folder_of(path),
            findings,
            sources: texts.iter().map(|(path, _)| path.clone()).collect(),
            from_environment: Vec::new(),
        }
    }

    /// All settings; the warnings come later.
    pub(super) fn config(mut self, top: &Table) -> Config {
        let channels_config = top.table("channels_config");
        let section = channels_config.table("mattermost");
        let multimodal = top.table("multimodal");
        for table in [top, &channels_config, &section, &multimodal] {
            check_keys(table);
        }
        let mattermost = self.mattermost(&section, &multimodal);
        let provider = provider::read(&mut self, top);
        let state_dir = section.text("state_dir").map(|dir| self.expand(dir));
        Config {
            state_path: files::state_path(self.path, &self.folder, state_dir.as_deref()),
            path: self.path.to_owned(),
            mattermost,
            provider,
            message_timeout: message_timeout(&channels_config),
            warnings: Vec::new(),
            sources: self.sources,
            from_environment: self.from_environment,
        }
    }

    fn mattermost(&mut self, section: &Table, multimodal: &Table) -> MattermostSettings {
        let url = self.url(section);
        let token = self.token(section);
        let channel_id = section.text("channel_id").map(ChannelId::from);
        if let (Some(id), Some(value)) = (&channel_id, section.get("channel_id")) {
            check_id(&value, id.as_str(), "a channel's id");
        }
        let defaults = channel_settings(section, None);
        let channels = channels(section, &defaults);
        warn_of_nobody(section, &defaults, &channels);
        let poll_secs = section.number("poll_interval_secs").unwrap_or(1.0);
        let update_ms = section.whole("draft_update_interval_ms");
        MattermostSettings {
            url,
            token,
            channel_id,
            poll_interval: Duration::from_secs_f64(poll_secs),
            catch_up_secs: section.whole("catch_up_secs"),
            history_posts: section.whole("history_posts") as usize,
            history_chars: section.whole("history_chars") as usize,
            file_chars: section.whole("file_chars") as usize,
            allow_unsafe_links: section.flag("allow_unsafe_links", None),
            follow_threads: section.flag("follow_threads", None),
            ca_file: section.text("ca_file").map(|file| self.expand(file)),
            answers_at_once: section.whole("answers_at_once") as usize,
            draft_update_interval: Duration::from_millis(update_ms),
            daily_limit: section.whole("daily_limit") as u32,
            daily_limit_all: section.whole("daily_limit_all") as u32,
            chat_commands: section.flag("chat_commands", None),
            models: section.texts("models"),
            footer: footer(section),
            read_programs: section.flag("read_programs", None),
            channel_context: section.whole("channel_context") as usize,
            read_files: self.read_files(section),
            max_images: multimodal.whole("max_images") as usize,
            max_image_size: multimodal.whole("max_image_size_mb") << 20,
            defaults,
            channels,
        }
    }

    fn url(&mut self, section: &Table) -> String {
        let url = match (self.variable("MATTERMOST_URL"), section.get("url")) {
            (Some(text), _) => self.accept("$MATTERMOST_URL", http_url(&text)),
            (None, Some(value)) => value.accept(http_url(value.text())),
            (None, None) => {
                let fix = "write url = \"https://mattermost.example.com\" below \
                           [channels_config.mattermost], or set $MATTERMOST_URL";
                section.wrong("url", Problem::new("missing", fix));
                None
            }
        };
        url.unwrap_or_default()
    }

    fn token(&mut self, section: &Table) -> Secret {
        if let Some(text) = self.variable("MATTERMOST_BOT_TOKEN") {
            let token = self.accept("$MATTERMOST_BOT_TOKEN", Secret::parse(&text));
            return token.unwrap_or_default();
        }
        if let Some(token) = self.secret_value(section, "bot_token") {
            if token.reveal().bytes().all(|byte| byte == b'x') {
                let problem = Problem::new("is a placeholder", "write the bot's access token");
                section.find("bot_token", Weight::Odd, problem);
            }
            return token;
        }
        if let (Some(file), Some(value)) = (
            section.text("bot_token_file"),
            section.get("bot_token_file"),
        ) {
            return value.accept(self.token_file(file)).unwrap_or_default();
        }
        let fix = "write the bot's access token in quotes, or name a file that holds it with \
                   bot_token_file, or set $MATTERMOST_BOT_TOKEN";
        let what = match section.get("bot_token") {
            Some(_) => "is empty",
            None => "missing",
        };
        section.wrong("bot_token", Problem::new(what, fix));
        Secret::default()
    }

    /// The token in the file that `text` names. `$CREDENTIALS_DIRECTORY/` is where systemd's
    /// `LoadCredential=` puts files (systemd.exec(5)).
    fn token_file(&mut self, text: &str) -> Result<Secret, Problem> {
        let credential = text.strip_prefix("$CREDENTIALS_DIRECTORY/");
        let path = match credential {
            None => self.expand(text),
            Some(name) => match (self.environment)("CREDENTIALS_DIRECTORY") {
                Some(folder) => Path::new(&folder).join(name),
                None => {
                    return Err(Problem::new(
                        "$CREDENTIALS_DIRECTORY is not set",
                        "it is in a systemd service with LoadCredential=",
                    ));
                }
            },
        };
        let wrong = |what: String| {
            let fix = "write the bot's access token into that file, or name another";
            at(path.display(), Problem::new(what, fix))
        };
        let text = files::read(&path)?.ok_or_else(|| wrong("there is no such file".into()))?;
        let token = Secret::parse(&text).map_err(|problem| wrong(problem.what))?;
        if credential.is_none() {
            self.warn_if_readable(&path);
        }
        self.sources.push(path);
        Ok(token)
    }

    /// The programs that make text of files.
    fn read_files(&self, section: &Table) -> sorted::Map<String, Vec<String>> {
        let mut programs = sorted::Map::new();
        for (key, value) in section.table("read_files").entries() {
            if !key.starts_with('.') && !key.contains('/') {
                value.wrong(
                    "is neither a MIME type nor an ending",
                    "write \"application/pdf\" or \".pdf\"",
                );
            }
            let write = format!("write {key:?} = [\"program\", \"argument\"]");
            programs.insert(key.to_lowercase(), self.program(value, &write));
        }
        programs
    }

    /// A program, by its name or path, and its arguments; `write` says how. No shell replaces a `~/`.
    pub(super) fn program(&self, value: Value, write: &str) -> Vec<String> {
        let DeValue::Array(items) = value.value else {
            value.wrong("must be a list of texts", write);
            return Vec::new();
        };
        if items
            .first()
            .is_none_or(|item| item.get_ref().as_str() == Some(""))
        {
            value.wrong("names no program", write);
        }
        let words = value.items().into_iter().enumerate();
        let words = words.map(|(number, item)| {
            let word = item.verbatim();
            if word.starts_with("~/") || number == 0 && word.contains('/') {
                self.expand(word).to_string_lossy().into_owned()
            } else {
                word.to_owned()
            }
        });
        words.collect()
    }

    /// The secret at `key`; `None` if there is none or it is empty.
    pub(super) fn secret_value(&self, table: &Table, key: &str) -> Option<Secret> {
        let value = table.get(key)?;
        if matches!(value.value.as_str(), Some(text) if text.trim().is_empty()) {
            return None;
        }
        let secret = value.accept(Secret::parse(value.text()));
        self.warn_if_readable(value.file.path);
        Some(secret.unwrap_or_default())
    }

    /// What was made of an environment variable; nothing if that was a problem.
    fn accept<T>(&self, variable: &str, result: Result<T, Problem>) -> Option<T> {
        let result = result.map_err(|problem| at(variable, problem));
        let found = |problem| self.findings.add(LAST, Weight::Fatal, problem);
        result.map_err(found).ok()
    }

    /// An environment variable that says something, without quotes around it, and the note that it
    /// did.
    pub(super) fn variable(&mut self, name: &'static str) -> Option<String> {
        let text = (self.environment)(name)?;
        let text = unquoted(text.trim()).trim().to_owned();
        if text.is_empty() {
            return None;
        }
        self.from_environment.push(name);
        Some(text)
    }

    pub(super) fn expand(&self, text: &str) -> PathBuf {
        files::expand(&self.folder, text, self.environment)
    }

    /// Warns if somebody but the owner may read the secret in the file at `path`.
    fn warn_if_readable(&self, path: &Path) {
        let readable = fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
        if readable {
            let shown = shell_quoted(path);
            let fix = format!("let only its owner read it:\n  chmod 600 {shown}");
            let problem = Problem::new("holds a secret and others can read it", fix);
            let problem = at(path.display(), problem);
            self.findings.add(LAST, Weight::Odd, problem);
        }
    }
}

/// Warns of keys that have no effect though somebody may think so: mistyped ones, and settings that
/// belong into another table.
pub(super) fn check_keys(table: &Table) {
    let settings = table.settings().iter().map(|setting| setting.name);
    let known: Vec<&str> = settings.chain(table.tables()).collect();
    for (key, value) in table.entries() {
        if known.contains(&key.as_str()) {
            continue;
        }
        let plain = key.to_lowercase().replace('-', "_");
        let problem = if let Some(place) = belongs(&value, &key) {
            Problem::new("has no effect here", format!("move it {place}"))
        } else if let Some(meant) = nearest(&plain, known.iter().copied(), 1) {
            Problem::new("unknown key", format!("did you mean {meant}?"))
        } else {
            continue;
        };
        value.find(Weight::Odd, problem);
    }
}

fn warn_of_nobody(
    section: &Table,
    defaults: &ChannelSettings,
    channels: &sorted::Map<ChannelId, ChannelSettings>,
) {
    let answers = |channel: &ChannelSettings| channel.allowed_users != Allowed::default();
    if answers(defaults) || channels.values().any(answers) {
        return;
    }
    let fix = "add user ids, or \"*\" for everybody";
    let problem = Problem::new("empty, so nobody is answered", fix);
    section.find("allowed_users", Weight::ToldLater, problem);
}

/// What `section` says about a channel, over what is `usual`, if it is a channel's own.
fn channel_settings(section: &Table, usual: Option<&ChannelSettings>) -> ChannelSettings {
    let mut settings = usual.cloned().unwrap_or_default();
    if let Some(value) = section.get("allowed_users") {
        settings.allowed_users = allowed(value);
    }
    let instead = usual.map(|usual| usual.thread_replies);
    settings.thread_replies = section.flag("thread_replies", instead);
    let instead = usual.map(|usual| usual.mention_only);
    settings.mention_only = section.flag("mention_only", instead);
    if let Some(value) = section.get("stream_mode") {
        settings.stream_mode = stream_mode(&value);
    }
    if section.get("system_prompt").is_some() {
        settings.system_prompt = section.text("system_prompt").map(str::to_owned);
    }
    settings
}

fn allowed(value: Value) -> Allowed {
    let items = value.items();
    let users: Vec<UserId> = items.iter().map(|item| item.text().into()).collect();
    if users.iter().any(|user| user.as_str() == "*") {
        return Allowed::Everybody;
    }
    for (item, user) in items.iter().zip(&users) {
        check_id(item, user.as_str(), "a user's id");
    }
    Allowed::These(users)
}

fn channels(
    section: &Table,
    defaults: &ChannelSettings,
) -> sorted::Map<ChannelId, ChannelSettings> {
    let table = section.table("channels");
    let mut channels = sorted::Map::new();
    for (key, value) in table.entries() {
        let channel = table.table(&key);
        check_keys(&channel);
        check_id(&value, &key, "a channel's id");
        let mut settings = channel_settings(&channel, Some(defaults));
        settings.model = channel.text("model").map(str::to_owned);
        settings.model_parameters = provider::parameters(&channel);
        channels.insert(ChannelId(key), settings);
    }
    channels
}

/// Warns of a value that is no id.
fn check_id(value: &Value, id: &str, what: &str) {
    if !is_id(id) {
        let what = format!("{id:?} is not {what}: an id is 26 lower-case letters and digits");
        let problem = Problem::new(what, "`prx channel doctor` finds it");
        value.find(Weight::ToldLater, problem);
    }
}

/// Where the setting belongs, if it has one place only. A table of the same name is PRX's.
fn belongs(value: &Value, name: &str) -> Option<String> {
    if value.value.is_table() {
        return None;
    }
    let mut places = SECTIONS
        .iter()
        .filter(|section| section.settings.iter().any(|setting| setting.name == name));
    let place = places.next()?;
    match (place.header, places.next()) {
        ("", _) => Some("above the first [table] of the file".to_owned()),
        (header, None) => Some(format!("below [{header}]")),
        _ => None,
    }
}

fn stream_mode(value: &Value) -> StreamMode {
    match value.text() {
        "off" => return StreamMode::Off,
        "partial" => return StreamMode::Partial,
        _ => value.wrong("must be \"off\" or \"partial\"", ""),
    }
    StreamMode::Off
}

fn footer(section: &Table) -> Footer {
    let mut footer = Footer::default();
    for item in section.items("footer") {
        match item.text() {
            "model" => footer.model = true,
            "time" => footer.time = true,
            "tokens" => footer.tokens = true,
            _ => item.wrong("may list \"model\", \"time\" and \"tokens\"", ""),
        }
    }
    footer
}
