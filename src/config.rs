//! File and environment → checked settings, with errors that say what to write instead.

mod layers;
mod provider;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Map;

use self::layers::{File, Table, Value, line_at};
use crate::mattermost::{ChannelId, UserId};
use crate::nearest::nearest;
use crate::provider::ProviderSettings;

/// Files of `config.d` beside the config file that are merged over it, in this order, as PRX does.
const MERGED: [&str; 2] = ["config.d/channels.toml", "config.d/routing.toml"];

/// The largest file that is read, in bytes: nobody's settings are longer.
const MAX_FILE: u64 = 1 << 20;

/// The keys that are read, table by table; PRX's files have many more.
const TOP_KEYS: [&str; 14] = [
    "default_provider",
    "default_model",
    "api_key",
    "api_url",
    "default_temperature",
    "max_tokens",
    "ca_file",
    "provider_command",
    "multimodal",
    "channels_config",
    "reliability",
    "fallback",
    "model_parameters",
    "model_headers",
];
const MULTIMODAL_KEYS: [&str; 2] = ["max_images", "max_image_size_mb"];
const CHANNELS_CONFIG_KEYS: [&str; 2] = ["message_timeout_secs", "mattermost"];
const MATTERMOST_KEYS: [&str; 29] = [
    "url",
    "bot_token",
    "bot_token_file",
    "channel_id",
    "allowed_users",
    "thread_replies",
    "mention_only",
    "poll_interval_secs",
    "follow_threads",
    "history_posts",
    "history_chars",
    "catch_up_secs",
    "file_chars",
    "system_prompt",
    "allow_unsafe_links",
    "ca_file",
    "state_dir",
    "answers_at_once",
    "stream_mode",
    "draft_update_interval_ms",
    "daily_limit",
    "daily_limit_all",
    "chat_commands",
    "models",
    "footer",
    "read_programs",
    "channel_context",
    "read_files",
    "channels",
];
const CHANNEL_KEYS: [&str; 7] = [
    "system_prompt",
    "model",
    "mention_only",
    "thread_replies",
    "allowed_users",
    "stream_mode",
    "model_parameters",
];

const EXAMPLE: &str = r#"
    [channels_config.mattermost]
    url = "https://mattermost.example.com"
    bot_token = "the bot's access token"
    channel_id = "the id of the bot's channel"
    allowed_users = ["the id of each user to answer"]"#;

/// A token or key. Shows as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Without the white space around it (files and variables end in a newline), and without the
    /// quotes that an env file of Docker leaves in.
    pub fn new(text: &str) -> Secret {
        let text = text.trim();
        let quoted = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
        let inner = quoted('"').or_else(|| quoted('\''));
        Secret(inner.unwrap_or(text).to_owned())
    }

    /// The secret itself, for the header of a request to the server it belongs to.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whose messages are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `"*"` is in the list.
    Everybody,
    These(Vec<UserId>),
}

impl Allowed {
    pub fn allows(&self, user: &UserId) -> bool {
        match self {
            Allowed::Everybody => true,
            Allowed::These(users) => users.contains(user),
        }
    }
}

/// Everything the program was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// The state file that belongs to it.
    pub state_path: PathBuf,
    pub mattermost: MattermostSettings,
    pub provider: ProviderSettings,
    /// The longest an answer may take.
    pub message_timeout: Duration,
    /// What was odd but not wrong, a line each.
    pub warnings: Vec<String>,
    /// The files that were read: the config file, those merged over it, the token's.
    pub sources: Vec<PathBuf>,
    /// The environment variables that took the place of something, or of nothing, in the file.
    pub from_environment: Vec<&'static str>,
}

/// `[channels_config.mattermost]`.
#[derive(Clone, Debug)]
pub struct MattermostSettings {
    /// Without trailing slashes.
    pub url: String,
    pub token: Secret,
    /// Only this channel; `None`: every channel the bot is in.
    pub channel_id: Option<ChannelId>,
    pub poll_interval: Duration,
    /// How far back a missed post may lie and still be answered, in seconds.
    pub catch_up_secs: u64,
    pub history_posts: usize,
    /// In characters.
    pub history_chars: usize,
    /// Characters of text files given to the model per message; 0: none.
    pub file_chars: usize,
    pub allow_unsafe_links: bool,
    pub follow_threads: bool,
    pub ca_file: Option<PathBuf>,
    /// Answers made at the same time, at most.
    pub answers_at_once: usize,
    /// The shortest time between two edits of a growing answer.
    pub draft_update_interval: Duration,
    /// Answers per person and day; 0: no limit.
    pub daily_limit: u32,
    /// Answers to all people together per day; 0: no limit.
    pub daily_limit_all: u32,
    /// Whether `help`, `new`, `stop` and `model` are commands.
    pub chat_commands: bool,
    /// The models that people may choose with `model NAME`.
    pub models: Vec<String>,
    /// What stands below an answer.
    pub footer: Footer,
    /// Whether the model is told what bots and webhooks posted in a thread.
    pub read_programs: bool,
    /// Posts of the channel that go with a question at its root, at most.
    pub channel_context: usize,
    /// The program and arguments that make text of a file, by MIME type or by file name's ending with
    /// its dot, both in lower case.
    pub read_files: BTreeMap<String, Vec<String>>,
    /// Images told to the model per question, at most; 0: none.
    pub max_images: usize,
    /// In bytes; larger images are left out.
    pub max_image_size: u64,
    /// What holds in every channel that `channels` does not name.
    pub defaults: ChannelSettings,
    /// `[channels_config.mattermost.channels.ID]`, already merged over `defaults`.
    pub channels: BTreeMap<ChannelId, ChannelSettings>,
}

impl MattermostSettings {
    /// Whether a mention decides anything in any channel.
    pub fn mentions_matter(&self) -> bool {
        self.defaults.mention_only || self.channels.values().any(|channel| channel.mention_only)
    }

    /// What holds in `channel`.
    pub fn channel(&self, channel: &ChannelId) -> &ChannelSettings {
        self.channels.get(channel).unwrap_or(&self.defaults)
    }
}

/// What may differ from channel to channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    pub allowed_users: Allowed,
    pub thread_replies: bool,
    pub mention_only: bool,
    pub stream_mode: StreamMode,
    pub system_prompt: Option<String>,
    /// Takes the place of `ProviderSettings::model`.
    pub model: Option<String>,
    /// Laid over `ProviderSettings::parameters`.
    pub model_parameters: Map<String, serde_json::Value>,
}

impl ChannelSettings {
    /// What holds where nothing is configured.
    fn strict() -> ChannelSettings {
        ChannelSettings {
            allowed_users: Allowed::These(Vec::new()),
            thread_replies: true,
            mention_only: false,
            stream_mode: StreamMode::Off,
            system_prompt: None,
            model: None,
            model_parameters: Map::new(),
        }
    }
}

/// When an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// Once it is whole.
    Off,
    /// From its first words on: its post grows.
    Partial,
}

/// What stands below an answer, in small print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// Who answered.
    pub model: bool,
    /// How long it took.
    pub time: bool,
    /// What it cost, if the server says so.
    pub tokens: bool,
}

/// What is wrong with the settings: one line that names the place and what to write instead. It
/// never holds a secret.
#[derive(Debug)]
pub struct ConfigError(String);

impl ConfigError {
    fn new(place: impl fmt::Display, problem: impl fmt::Display) -> ConfigError {
        ConfigError(format!("{place}: {problem}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The value of an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the settings from the file at `path`, else from `$OPENPRX_CONFIG_DIR/config.toml`, else from
/// `~/.openprx/config.toml`, from the files of `config.d` beside it, and from the environment.
pub fn load(path: Option<&Path>, environment: Environment) -> Result<Config, ConfigError> {
    read_by(path, environment, |reader, path, files| {
        reader.config(path, files)
    })
}

/// Reads from the same places only which model answers and how long that may take; there need be no
/// Mattermost section.
pub fn load_provider(
    path: Option<&Path>,
    environment: Environment,
) -> Result<(ProviderSettings, Duration), ConfigError> {
    read_by(path, environment, |mut reader, _, files| {
        let top = Table::top(files).ok_or_else(|| ConfigError("no config file".to_owned()))?;
        let provider = provider::read(&mut reader, &top)?;
        Ok((provider, message_timeout(&top.table("channels_config")?)?))
    })
}

fn read_by<T>(
    path: Option<&Path>,
    environment: Environment,
    read: impl FnOnce(Reader, PathBuf, &[File]) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let path = find(path, environment)?;
    let texts = read_all(&path, environment)?;
    let files = texts
        .iter()
        .map(|(path, text)| File::parse(path, text))
        .collect::<Result<Vec<_>, _>>()?;
    let reader = Reader {
        environment,
        folder: folder_of(&path),
        warnings: Vec::new(),
        sources: texts.iter().map(|(path, _)| path.clone()).collect(),
        from_environment: Vec::new(),
    };
    read(reader, path, &files)
}

fn message_timeout(channels_config: &Table) -> Result<Duration, ConfigError> {
    let secs = channels_config.whole("message_timeout_secs", 300, 1..=86_400)?;
    Ok(Duration::from_secs(secs))
}

/// Where the config file should be.
pub fn find(path: Option<&Path>, environment: Environment) -> Result<PathBuf, ConfigError> {
    let set = |name| environment(name).filter(|value| !value.trim().is_empty());
    if let Some(path) = path {
        Ok(path.to_owned())
    } else if let Some(folder) = set("OPENPRX_CONFIG_DIR") {
        Ok(expand(Path::new(""), folder.trim(), environment).join("config.toml"))
    } else if let Some(home) = set("HOME") {
        Ok(Path::new(&home).join(".openprx/config.toml"))
    } else {
        Err(ConfigError(
            "no config file: neither $OPENPRX_CONFIG_DIR nor $HOME is set; name one with --config FILE"
                .to_owned(),
        ))
    }
}

/// The texts of the config file and of those merged over it.
fn read_all(path: &Path, environment: Environment) -> Result<Vec<(PathBuf, String)>, ConfigError> {
    let text = read(path)?.ok_or_else(|| no_file(path, environment))?;
    let mut texts = vec![(path.to_owned(), text)];
    for name in MERGED {
        let merged = path.with_file_name(name);
        if let Some(text) = read(&merged)? {
            texts.push((merged, text));
        }
    }
    Ok(texts)
}

fn no_file(path: &Path, environment: Environment) -> ConfigError {
    let note = if environment("MATTERMOST_URL").is_some() {
        " (the environment alone is not enough: allowed_users has no variable)"
    } else {
        ""
    };
    ConfigError(format!(
        "{}: there is no such file{note}; `prx init` writes one; or write these five lines into it, \
         or name another with --config FILE:{EXAMPLE}",
        path.display()
    ))
}

/// The text of the file at `path`; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let fail = |problem: &str| Err(ConfigError::new(path.display(), problem));
    // A pipe without a writer would be waited for.
    if fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir()) {
        return fail("is not a regular file; name one");
    }
    let mut bytes = Vec::new();
    let result =
        fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match result.map_err(|error| (error.kind(), error)) {
        Err((ErrorKind::NotFound | ErrorKind::NotADirectory, _)) => return Ok(None),
        Err((ErrorKind::IsADirectory, _)) => {
            return fail("is a directory; name the file in it");
        }
        Err((_, error)) => return fail(&format!("cannot be read: {error}")),
        Ok(_) if bytes.len() as u64 > MAX_FILE => return fail("is larger than 1 MiB"),
        Ok(_) => {}
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
            let place = format!("{}:{line}", path.display());
            Err(ConfigError::new(
                place,
                "is not UTF-8 text; save the file as UTF-8",
            ))
        }
    }
}

/// The folder of the file at `path`, as one name whichever way `path` is written: two names would be
/// two state files, and two answers to each message.
fn folder_of(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())
}

/// `text` as a path: `~/` is the home folder, a relative one is relative to `folder`.
fn expand(folder: &Path, text: &str, environment: Environment) -> PathBuf {
    match (text.strip_prefix("~/"), environment("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(text),
    }
}

/// Makes settings of tables, and collects what is to be said about them.
struct Reader<'a> {
    environment: Environment<'a>,
    /// The config file's.
    folder: PathBuf,
    warnings: Vec<String>,
    sources: Vec<PathBuf>,
    from_environment: Vec<&'static str>,
}

impl Reader<'_> {
    fn config(mut self, path: PathBuf, files: &[File]) -> Result<Config, ConfigError> {
        let top = Table::top(files).ok_or_else(|| ConfigError("no config file".to_owned()))?;
        let channels_config = top.table("channels_config")?;
        let section = channels_config.table("mattermost")?;
        self.check_keys(&top, &TOP_KEYS);
        self.check_keys(&channels_config, &CHANNELS_CONFIG_KEYS);
        self.check_keys(&section, &MATTERMOST_KEYS);
        let multimodal = top.table("multimodal")?;
        self.check_keys(&multimodal, &MULTIMODAL_KEYS);
        let mattermost = self.mattermost(&section, &multimodal)?;
        let provider = provider::read(&mut self, &top)?;
        let state_dir = section.text("state_dir")?.map(|dir| self.expand(dir));
        Ok(Config {
            state_path: state_path(&path, &self.folder, state_dir.as_deref()),
            path,
            mattermost,
            provider,
            message_timeout: message_timeout(&channels_config)?,
            warnings: self.warnings,
            sources: self.sources,
            from_environment: self.from_environment,
        })
    }

    /// Warns of keys that have no effect though somebody may think so: mistyped ones, and settings of
    /// the top level that were written below a table's header.
    fn check_keys(&mut self, table: &Table, known: &[&str]) {
        for (file, layer) in &table.layers {
            for key in layer.keys() {
                let name: &str = key.get_ref();
                if known.contains(&name) {
                    continue;
                }
                let problem = if TOP_KEYS.contains(&name) {
                    "has no effect here; move it above the first [table] of the file".to_owned()
                } else {
                    let plain = name.to_lowercase().replace('-', "_");
                    match nearest(&plain, known.iter().copied(), 1) {
                        None => continue,
                        Some(meant) => format!("unknown key, did you mean {meant}?"),
                    }
                };
                let name = format!("{}{}", table.name, name.escape_debug());
                let place = file.place(key.span().start);
                self.warnings.push(format!("{place}: {name}: {problem}"));
            }
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
        if let (Some(id), Some(value)) = (&channel_id, section.get("channel_id"))
            && !id.is_well_formed()
        {
            self.warn_of_id(&value, id.as_str(), "a channel's id");
        }
        let defaults = self.channel_settings(section, &ChannelSettings::strict())?;
        let channels = self.channels(section, &defaults)?;
        self.warn_of_nobody(section, &defaults, &channels);
        let poll_secs = section.number("poll_interval_secs", 0.05..=3600.0, "from 0.05 to 3600")?;
        let update_ms = section.whole("draft_update_interval_ms", 1000, 250..=60_000)?;
        Ok(MattermostSettings {
            url,
            token,
            channel_id,
            poll_interval: Duration::from_secs_f64(poll_secs.unwrap_or(1.0)),
            catch_up_secs: section.whole("catch_up_secs", 86_400, 0..=31_536_000)?,
            history_posts: section.whole("history_posts", 20, 0..=200)? as usize,
            history_chars: section.whole("history_chars", 16_000, 100..=10_000_000)? as usize,
            file_chars: section.whole("file_chars", 20_000, 0..=1_000_000)? as usize,
            allow_unsafe_links: section.flag("allow_unsafe_links", false)?,
            follow_threads: section.flag("follow_threads", false)?,
            ca_file: section.text("ca_file")?.map(|file| self.expand(file)),
            answers_at_once: section.whole("answers_at_once", 4, 1..=32)? as usize,
            draft_update_interval: Duration::from_millis(update_ms),
            daily_limit: section.whole("daily_limit", 0, 0..=1_000_000)? as u32,
            daily_limit_all: section.whole("daily_limit_all", 0, 0..=1_000_000)? as u32,
            chat_commands: section.flag("chat_commands", true)?,
            models: section.texts("models")?,
            footer: footer(section)?,
            read_programs: section.flag("read_programs", true)?,
            channel_context: section.whole("channel_context", 0, 0..=200)? as usize,
            read_files: read_files(section)?,
            max_images: multimodal.whole("max_images", 4, 0..=16)? as usize,
            max_image_size: multimodal.whole("max_image_size_mb", 5, 0..=50)? << 20,
            defaults,
            channels,
        })
    }

    fn warn_of_nobody(
        &mut self,
        section: &Table,
        defaults: &ChannelSettings,
        channels: &BTreeMap<ChannelId, ChannelSettings>,
    ) {
        let nobody = Allowed::These(Vec::new());
        if std::iter::once(defaults)
            .chain(channels.values())
            .any(|channel| channel.allowed_users != nobody)
        {
            return;
        }
        let warning = "empty, so nobody is answered; add user ids, or \"*\" for everybody";
        let warning = match section.get("allowed_users") {
            Some(value) => value.line(warning),
            None => section.missing("allowed_users", warning).0,
        };
        self.warnings.push(warning);
    }

    fn url(&mut self, section: &Table) -> Result<String, ConfigError> {
        if let Some(text) = self.variable("MATTERMOST_URL") {
            return http_url(&text).map_err(|problem| ConfigError::new("$MATTERMOST_URL", problem));
        }
        match section.get("url") {
            Some(value) => http_url(value.text()?).map_err(|problem| value.error(problem)),
            None => Err(section.missing(
                "url",
                "missing; write url = \"https://mattermost.example.com\" below \
                 [channels_config.mattermost], or set $MATTERMOST_URL",
            )),
        }
    }

    fn token(&mut self, section: &Table) -> Result<Secret, ConfigError> {
        const VARIABLE: &str = "MATTERMOST_BOT_TOKEN";
        if let Some(text) = self.variable(VARIABLE) {
            return secret(&text)
                .map_err(|problem| ConfigError::new("$MATTERMOST_BOT_TOKEN", problem));
        }
        if let Some(token) = self.secret_value(section, "bot_token")? {
            if token.reveal().bytes().all(|byte| byte == b'x') {
                let warning = "is a placeholder; write the bot's access token";
                self.warn(section, "bot_token", warning);
            }
            return Ok(token);
        }
        if let Some(value) = section.get("bot_token_file")
            && !value.text()?.is_empty()
        {
            return self.token_file(&value);
        }
        let problem = "missing; write the bot's access token in quotes, or name a file that holds it \
                       with bot_token_file, or set $MATTERMOST_BOT_TOKEN";
        Err(match section.get("bot_token") {
            Some(value) => value.error(problem.replace("missing", "is empty")),
            None => section.missing("bot_token", problem),
        })
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
                    let problem = "$CREDENTIALS_DIRECTORY is not set; \
                                   it is in a systemd service with LoadCredential=";
                    return Err(value.error(problem));
                }
            },
        };
        let text = read(&path)
            .map_err(|error| value.error(error))?
            .ok_or_else(|| value.error(format!("{}: there is no such file", path.display())))?;
        let token = secret(&text)
            .map_err(|problem| value.error(format!("{}: {problem}", path.display())))?;
        if credential.is_none() {
            self.warn_if_readable(&path);
        }
        self.sources.push(path);
        Ok(token)
    }

    /// What `section` says about a channel, over `defaults`.
    fn channel_settings(
        &mut self,
        section: &Table,
        defaults: &ChannelSettings,
    ) -> Result<ChannelSettings, ConfigError> {
        Ok(ChannelSettings {
            allowed_users: match section.get("allowed_users") {
                Some(value) => self.allowed(value)?,
                None => defaults.allowed_users.clone(),
            },
            thread_replies: section.flag("thread_replies", defaults.thread_replies)?,
            mention_only: section.flag("mention_only", defaults.mention_only)?,
            stream_mode: stream_mode(section)?.unwrap_or(defaults.stream_mode),
            system_prompt: match section.get("system_prompt") {
                Some(_) => section.text("system_prompt")?.map(str::to_owned),
                None => defaults.system_prompt.clone(),
            },
            model: defaults.model.clone(),
            model_parameters: defaults.model_parameters.clone(),
        })
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
            if !user.is_well_formed() {
                self.warn_of_id(item, user.as_str(), "a user's id");
            }
        }
        Ok(Allowed::These(users))
    }

    fn channels(
        &mut self,
        section: &Table,
        defaults: &ChannelSettings,
    ) -> Result<BTreeMap<ChannelId, ChannelSettings>, ConfigError> {
        let table = section.table("channels")?;
        let mut channels = BTreeMap::new();
        for key in table.layers.iter().flat_map(|(_, layer)| layer.keys()) {
            let id = ChannelId::from(key.get_ref().as_ref());
            if channels.contains_key(&id) {
                continue;
            }
            let channel = table.table(id.as_str())?;
            self.check_keys(&channel, &CHANNEL_KEYS);
            if let Some(value) = table.get(id.as_str())
                && !id.is_well_formed()
            {
                self.warn_of_id(&value, id.as_str(), "a channel's id");
            }
            let mut settings = self.channel_settings(&channel, defaults)?;
            settings.model = channel.text("model")?.map(str::to_owned);
            settings.model_parameters = provider::parameters(&channel)?;
            channels.insert(id, settings);
        }
        Ok(channels)
    }

    /// The secret at `key`; `None` if there is none or it is empty.
    fn secret_value(&mut self, table: &Table, key: &str) -> Result<Option<Secret>, ConfigError> {
        match table.get(key) {
            Some(value) if !value.text()?.is_empty() => {
                let secret = secret(value.text()?).map_err(|problem| value.error(problem))?;
                self.warn_if_readable(value.file.path);
                Ok(Some(secret))
            }
            _ => Ok(None),
        }
    }

    /// An environment variable that says something, and the note that it did.
    fn variable(&mut self, name: &'static str) -> Option<String> {
        let text = (self.environment)(name)?.trim().to_owned();
        if text.is_empty() {
            return None;
        }
        self.from_environment.push(name);
        Some(text)
    }

    fn expand(&self, text: &str) -> PathBuf {
        expand(&self.folder, text, self.environment)
    }

    fn warn(&mut self, table: &Table, key: &str, warning: &str) {
        self.warnings
            .extend(table.get(key).map(|value| value.line(warning)));
    }

    fn warn_of_id(&mut self, value: &Value, id: &str, what: &str) {
        self.warnings.push(value.line(format!(
            "{id:?} is not {what}: an id is 26 lower-case letters and digits; \
             `prx channel doctor` finds it"
        )));
    }

    /// Warns if somebody but the owner may read the secret in the file at `path`.
    fn warn_if_readable(&mut self, path: &Path) {
        let readable = fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
        let path = path.display();
        let warning = format!("{path}: holds a secret and others can read it; chmod 600 {path}");
        if readable && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

fn stream_mode(section: &Table) -> Result<Option<StreamMode>, ConfigError> {
    let Some(value) = section.get("stream_mode") else {
        return Ok(None);
    };
    match value.text()? {
        "off" => Ok(Some(StreamMode::Off)),
        "partial" => Ok(Some(StreamMode::Partial)),
        _ => Err(value.error("must be \"off\" or \"partial\"")),
    }
}

fn footer(section: &Table) -> Result<Footer, ConfigError> {
    let mut footer = Footer::default();
    for item in section.items("footer")? {
        match item.text()? {
            "model" => footer.model = true,
            "time" => footer.time = true,
            "tokens" => footer.tokens = true,
            _ => return Err(item.error("may list \"model\", \"time\" and \"tokens\"")),
        }
    }
    Ok(footer)
}

/// The programs that make text of files.
fn read_files(section: &Table) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let table = section.table("read_files")?;
    let mut programs = BTreeMap::new();
    for key in table.layers.iter().flat_map(|(_, layer)| layer.keys()) {
        let key: &str = key.get_ref();
        let Some(value) = table.get(key) else {
            continue;
        };
        if !key.starts_with('.') && !key.contains('/') {
            return Err(value.error(
                "is neither a MIME type nor an ending; write \"application/pdf\" or \".pdf\"",
            ));
        }
        let write = format!("write {key:?} = [\"program\", \"argument\"]");
        programs.insert(key.to_lowercase(), program(value, &write)?);
    }
    Ok(programs)
}

/// A program and its arguments; `write` says how.
fn program(value: Value, write: &str) -> Result<Vec<String>, ConfigError> {
    let empty = value.error(format!("names no program; {write}"));
    if !value.value.is_array() {
        return Err(value.error(format!("must be a list of texts; {write}")));
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

/// The token or key in `text`, if it can be one.
pub fn secret(text: &str) -> Result<Secret, &'static str> {
    let secret = Secret::new(text);
    let text = secret.reveal();
    if text.is_empty() {
        Err("is empty")
    } else if text.starts_with("enc2:") || text.starts_with("enc:") {
        Err(
            "was encrypted by PRX, and only PRX can read it; write the plain text, or delete the \
             line and set the environment variable",
        )
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("has white space or a character that no token has in it; copy it again")
    } else {
        Ok(secret)
    }
}

/// `text` as the start of every request's URL, without trailing slashes; an error never quotes it.
pub fn http_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fail = |problem: &str| Err(problem.to_owned());
    if text.is_empty() {
        return fail("has no URL; write one such as https://chat.example.com");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return fail("is not a URL; it must begin with https:// or http://");
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" && scheme != "http" {
        return fail("must begin with https:// or http://");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return fail(
            "has a user name or password in it, which prx does not use; \
                     write it without",
        );
    }
    if rest.contains(['?', '#']) {
        return fail("has a ? or # in it; write it up to there");
    }
    if !rest
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
    {
        return fail("has a character that no URL has in it; write a host in ASCII (xn--…)");
    }
    if !is_authority(authority) {
        return fail("has no valid host and port; write https://host or https://host:port");
    }
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

/// Whether `text` is a host, with or without a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address are inside brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    !host.is_empty()
        && (bracketed || !host.contains([':', '[', ']']))
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Where the state of the config file at `path` is kept: beside it, or in `state_dir`, where the state
/// files of other config files may be too.
fn state_path(path: &Path, folder: &Path, state_dir: Option<&Path>) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    if state_dir.is_some() {
        let path = folder.join(path.file_name().unwrap_or_default());
        let hash = fnv1a(path.as_os_str().as_bytes());
        name.push(format!("-{:08x}", hash as u32));
    }
    name.push(".state.json");
    state_dir.unwrap_or(folder).join(name)
}

/// FNV-1a, 64 bits: the same in every version, which the standard library's hash is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
