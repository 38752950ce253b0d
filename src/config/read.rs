//! Tables → settings, and what is to be said about them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Warning, at};
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
pub(super) fn message_timeout(channels_config: &Table) -> Result<Duration, ConfigError> {
    let secs = channels_config.whole("message_timeout_secs")?;
    Ok(Duration::from_secs(secs))
}

/// Makes settings of tables, and collects what is to be said about them.
pub(super) struct Reader<'a> {
    environment: Environment<'a>,
    /// The config file's.
    folder: PathBuf,
    pub(super) warnings: Vec<Warning>,
    sources: Vec<PathBuf>,
    from_environment: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// `texts`: those of the files, the config file's first.
    pub(super) fn new(
        environment: Environment<'a>,
        path: &Path,
        texts: &[(PathBuf, String)],
    ) -> Reader<'a> {
        Reader {
            environment,
            folder: files::folder_of(path),
            warnings: Vec::new(),
            sources: texts.iter().map(|(path, _)| path.clone()).collect(),
            from_environment: Vec::new(),
        }
    }

    pub(super) fn config(mut self, path: &Path, top: &Table) -> Result<Config, ConfigError> {
        let channels_config = top.table("channels_config")?;
        let section = channels_config.table("mattermost")?;
        let multimodal = top.table("multimodal")?;
        for table in [top, &channels_config, &section, &multimodal] {
            self.check_keys(table);
        }
        let mattermost = self.mattermost(&section, &multimodal)?;
        let provider = provider::read(&mut self, top)?;
        let state_dir = section.text("state_dir")?.map(|dir| self.expand(dir));
        Ok(Config {
            state_path: files::state_path(path, &self.folder, state_dir.as_deref()),
            path: path.to_owned(),
            mattermost,
            provider,
            message_timeout: message_timeout(&channels_config)?,
            warnings: self.warnings,
            sources: self.sources,
            from_environment: self.from_environment,
        })
    }

    /// Warns of keys that have no effect though somebody may think so: mistyped ones, and settings
    /// that belong into another table.
    pub(super) fn check_keys(&mut self, table: &Table) {
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
            self.warn_at(&value, problem);
        }
    }

    fn mattermost(
        &mut self,
        section: &Table,
        multimodal: &Table,
    ) -> Result<MattermostSettings, ConfigError> {
        let url = self.url(section)?;
        let token = self.token(section)?;
        let channel_id = section.text("channel_id")?.map(ChannelId::from);
        if let (Some(id), Some(value)) = (&channel_id, section.get("channel_id")) {
            self.check_id(&value, id.as_str(), "a channel's id");
        }
        let defaults = self.channel_settings(section, None)?;
        let channels = self.channels(section, &defaults)?;
        self.warn_of_nobody(section, &defaults, &channels);
        let poll_secs = section.number("poll_interval_secs")?.unwrap_or(1.0);
        let update_ms = section.whole("draft_update_interval_ms")?;
        Ok(MattermostSettings {
            url,
            token,
            channel_id,
            poll_interval: Duration::from_secs_f64(poll_secs),
            catch_up_secs: section.whole("catch_up_secs")?,
            history_posts: section.whole("history_posts")? as usize,
            history_chars: section.whole("history_chars")? as usize,
            file_chars: section.whole("file_chars")? as usize,
            allow_unsafe_links: section.flag("allow_unsafe_links", None)?,
            follow_threads: section.flag("follow_threads", None)?,
            ca_file: section.text("ca_file")?.map(|file| self.expand(file)),
            answers_at_once: section.whole("answers_at_once")? as usize,
            draft_update_interval: Duration::from_millis(update_ms),
            daily_limit: section.whole("daily_limit")? as u32,
            daily_limit_all: section.whole("daily_limit_all")? as u32,
            chat_commands: section.flag("chat_commands", None)?,
            models: section.texts("models")?,
            footer: footer(section)?,
            read_programs: section.flag("read_programs", None)?,
            channel_context: section.whole("channel_context")? as usize,
            read_files: read_files(section)?,
            max_images: multimodal.whole("max_images")? as usize,
            max_image_size: multimodal.whole("max_image_size_mb")? << 20,
            defaults,
            channels,
        })
    }

    fn warn_of_nobody(
        &mut self,
        section: &Table,
        defaults: &ChannelSettings,
        channels: &sorted::Map<ChannelId, ChannelSettings>,
    ) {
        let answers = |channel: &ChannelSettings| channel.allowed_users != Allowed::default();
        if answers(defaults) || channels.values().any(answers) {
            return;
        }
        let problem = Problem::new(
            "empty, so nobody is answered",
            "add user ids, or \"*\" for everybody",
        );
        let problem = section.at("allowed_users", problem);
        self.note(problem, true);
    }

    fn url(&mut self, section: &Table) -> Result<String, ConfigError> {
        if let Some(text) = self.variable("MATTERMOST_URL") {
            return http_url(&text).map_err(|problem| ConfigError::new("$MATTERMOST_URL", problem));
        }
        match section.get("url") {
            Some(value) => http_url(value.text()?).map_err(|problem| value.error(problem)),
            None => Err(section.error(
                "url",
                Problem::new(
                    "missing",
                    "write url = \"https://mattermost.example.com\" below \
                     [channels_config.mattermost], or set $MATTERMOST_URL",
                ),
            )),
        }
    }

    fn token(&mut self, section: &Table) -> Result<Secret, ConfigError> {
        const VARIABLE: &str = "MATTERMOST_BOT_TOKEN";
        if let Some(text) = self.variable(VARIABLE) {
            return Secret::parse(&text)
                .map_err(|problem| ConfigError::new("$MATTERMOST_BOT_TOKEN", problem));
        }
        if let Some(token) = self.secret_value(section, "bot_token")? {
            if token.reveal().bytes().all(|byte| byte == b'x') {
                let problem = Problem::new("is a placeholder", "write the bot's access token");
                self.warn(section, "bot_token", problem);
            }
            return Ok(token);
        }
        if let Some(value) = section.get("bot_token_file")
            && !value.text()?.is_empty()
        {
            return self.token_file(&value);
        }
        let fix = "write the bot's access token in quotes, or name a file that holds it with \
                   bot_token_file, or set $MATTERMOST_BOT_TOKEN";
        let what = match section.get("bot_token") {
            Some(_) => "is empty",
            None => "missing",
        };
        Err(section.error("bot_token", Problem::new(what, fix)))
    }

    /// The token in the file that `value` names. `$CREDENTIALS_DIRECTORY/` is where systemd's
    /// `LoadCredential=` puts files (systemd.exec(5)).
    fn token_file(&mut self, value: &Value) -> Result<Secret, ConfigError> {
        let text = value.text()?;
        let credential = text.strip_prefix("$CREDENTIALS_DIRECTORY/");
        let path = match credential {
            None => self.expand(text),
            Some(name) => match (self.environment)("CREDENTIALS_DIRECTORY") {
                Some(folder) => Path::new(&folder).join(name),
                None => {
                    return Err(value.wrong(
                        "$CREDENTIALS_DIRECTORY is not set",
                        "it is in a systemd service with LoadCredential=",
                    ));
                }
            },
        };
        let missing = || Problem::new("there is no such file", "");
        let text = files::read(&path).map_err(|error| value.error(error.problem().clone()))?;
        let text = text.ok_or_else(|| value.error(at(path.display(), missing())))?;
        let token = Secret::parse(&text);
        let token = token.map_err(|problem| value.error(at(path.display(), problem)))?;
        if credential.is_none() {
            self.warn_if_readable(&path);
        }
        self.sources.push(path);
        Ok(token)
    }

    /// What `section` says about a channel, over what is `usual`, if it is a channel's own.
    fn channel_settings(
        &mut self,
        section: &Table,
        usual: Option<&ChannelSettings>,
    ) -> Result<ChannelSettings, ConfigError> {
        let mut settings = usual.cloned().unwrap_or_default();
        if let Some(value) = section.get("allowed_users") {
            settings.allowed_users = self.allowed(value)?;
        }
        let instead = usual.map(|usual| usual.thread_replies);
        settings.thread_replies = section.flag("thread_replies", instead)?;
        let instead = usual.map(|usual| usual.mention_only);
        settings.mention_only = section.flag("mention_only", instead)?;
        if let Some(value) = section.get("stream_mode") {
            settings.stream_mode = stream_mode(&value)?;
        }
        if section.get("system_prompt").is_some() {
            settings.system_prompt = section.text("system_prompt")?.map(str::to_owned);
        }
        Ok(settings)
    }

    fn allowed(&mut self, value: Value) -> Result<Allowed, ConfigError> {
        let mut users = Vec::new();
        let items = value.items()?;
        for item in &items {
            users.push(UserId::from(item.text()?));
        }
        if users.iter().any(|user| user.as_str() == "*") {
            return Ok(Allowed::Everybody);
        }
        for (item, user) in items.iter().zip(&users) {
            self.check_id(item, user.as_str(), "a user's id");
        }
        Ok(Allowed::These(users))
    }

    fn channels(
        &mut self,
        section: &Table,
        defaults: &ChannelSettings,
    ) -> Result<sorted::Map<ChannelId, ChannelSettings>, ConfigError> {
        let table = section.table("channels")?;
        let mut channels = sorted::Map::new();
        for (key, value) in table.entries() {
            let channel = table.table(&key)?;
            self.check_keys(&channel);
            self.check_id(&value, &key, "a channel's id");
            let mut settings = self.channel_settings(&channel, Some(defaults))?;
            settings.model = channel.text("model")?.map(str::to_owned);
            settings.model_parameters = provider::parameters(&channel)?;
            channels.insert(ChannelId(key), settings);
        }
        Ok(channels)
    }

    /// The secret at `key`; `None` if there is none or it is empty.
    pub(super) fn secret_value(
        &mut self,
        table: &Table,
        key: &str,
    ) -> Result<Option<Secret>, ConfigError> {
        match table.get(key) {
            Some(value) if !value.text()?.is_empty() => {
                let secret =
                    Secret::parse(value.text()?).map_err(|problem| value.error(problem))?;
                self.warn_if_readable(value.file.path);
                Ok(Some(secret))
            }
            _ => Ok(None),
        }
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

    /// Warns of the value at `key`, if there is one.
    pub(super) fn warn(&mut self, table: &Table, key: &str, problem: Problem) {
        if let Some(value) = table.get(key) {
            self.warn_at(&value, problem);
        }
    }

    /// Warns of a value.
    pub(super) fn warn_at(&mut self, value: &Value, problem: Problem) {
        self.note(value.at(problem), false);
    }

    /// Keeps a warning, once; `told_later` as in `Warning`.
    pub(super) fn note(&mut self, problem: Problem, told_later: bool) {
        let warning = Warning {
            problem,
            told_later,
        };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Warns of a value that is no id.
    fn check_id(&mut self, value: &Value, id: &str, what: &str) {
        if !is_id(id) {
            let problem = Problem::new(
                format!("{id:?} is not {what}: an id is 26 lower-case letters and digits"),
                "`prx channel doctor` finds it",
            );
            self.note(value.at(problem), true);
        }
    }

    /// Warns if somebody but the owner may read the secret in the file at `path`.
    fn warn_if_readable(&mut self, path: &Path) {
        let readable = fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
        if readable {
            let what = format!("{}: holds a secret and others can read it", path.display());
            let shown = shell_quoted(path);
            let fix = format!("let only its owner read it:\n  chmod 600 {shown}");
            self.note(Problem::new(what, fix), false);
        }
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

fn stream_mode(value: &Value) -> Result<StreamMode, ConfigError> {
    match value.text()? {
        "off" => Ok(StreamMode::Off),
        "partial" => Ok(StreamMode::Partial),
        _ => Err(value.wrong("must be \"off\" or \"partial\"", "")),
    }
}

fn footer(section: &Table) -> Result<Footer, ConfigError> {
    let mut footer = Footer::default();
    for item in section.items("footer")? {
        match item.text()? {
            "model" => footer.model = true,
            "time" => footer.time = true,
            "tokens" => footer.tokens = true,
            _ => return Err(item.wrong("may list \"model\", \"time\" and \"tokens\"", "")),
        }
    }
    Ok(footer)
}

/// The programs that make text of files.
fn read_files(section: &Table) -> Result<sorted::Map<String, Vec<String>>, ConfigError> {
    let table = section.table("read_files")?;
    let mut programs = sorted::Map::new();
    for (key, value) in table.entries() {
        if !key.starts_with('.') && !key.contains('/') {
            return Err(value.wrong(
                "is neither a MIME type nor an ending",
                "write \"application/pdf\" or \".pdf\"",
            ));
        }
        let write = format!("write {key:?} = [\"program\", \"argument\"]");
        programs.insert(key.to_lowercase(), program(value, &write)?);
    }
    Ok(programs)
}

/// A program and its arguments; `write` says how.
pub(super) fn program(value: Value, write: &str) -> Result<Vec<String>, ConfigError> {
    let empty = value.wrong("names no program", write);
    if !value.value.is_array() {
        return Err(value.wrong("must be a list of texts", write));
    }
    let mut words = Vec::new();
    for item in value.items()? {
        words.push(item.verbatim()?.to_owned());
    }
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(empty),
    }
}
