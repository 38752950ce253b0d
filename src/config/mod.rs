//! File and environment → checked settings, with errors that say what to write instead.

mod error;
mod files;
mod layers;
mod provider;
mod read;
pub mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Map;

pub(crate) use error::{ConfigError, Finding, Weight};
pub(crate) use files::expand;
pub(crate) use files::find;

use self::error::Findings;
use self::layers::{File, Table};
use self::read::Reader;
use crate::mattermost::{ChannelId, UserId};
use crate::provider::ProviderSettings;
use crate::secret::Secret;
use crate::sorted;

/// The value of an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the settings from the file at `path`, else from `$OPENPRX_CONFIG_DIR/config.toml`, else from
/// `~/.openprx/config.toml`, from the files of `config.d` beside it, and from the environment.
pub fn load(path: Option<&Path>, environment: Environment) -> Result<Config, ConfigError> {
    let (mut config, warnings) = read_files(path, environment, |reader, top| reader.config(top))?;
    config.warnings = warnings;
    Ok(config)
}

/// Reads from the same places only which model answers and how long that may take; there need be no
/// Mattermost section.
pub(crate) fn load_provider(
    path: Option<&Path>,
    environment: Environment,
) -> Result<(ProviderSettings, Duration), ConfigError> {
    let (settings, _) = read_files(path, environment, |mut reader, top| {
        let settings = provider::read(&mut reader, top);
        (
            settings,
            read::message_timeout(&top.table("channels_config")),
        )
    })?;
    Ok(settings)
}

/// What `read` makes of all files, and what was odd in them.
fn read_files<T>(
    path: Option<&Path>,
    environment: Environment,
    read: impl FnOnce(Reader, &Table) -> T,
) -> Result<(T, Vec<Finding>), ConfigError> {
    let path = files::find(path, environment)?;
    let texts = files::read_all(&path, environment)?;
    let findings = Findings::default();
    let files = File::parse_all(&texts, &findings);
    findings.take()?;
    let reader = Reader::new(environment, &path, &texts, &findings);
    let settings = read(reader, &Table::top(&files));
    Ok((settings, findings.take()?))
}

/// Whose messages are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `"*"` is in the list.
    Everybody,
    /// These people; nobody if there is none.
    These(Vec<UserId>),
}

/// Nobody.
impl Default for Allowed {
    fn default() -> Self {
        Allowed::These(Vec::new())
    }
}

impl Allowed {
    /// Whether this user is answered.
    pub(crate) fn allows(&self, user: &UserId) -> bool {
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
    /// `[channels_config.mattermost]` and `[multimodal]`.
    pub mattermost: MattermostSettings,
    /// Which model answers.
    pub provider: ProviderSettings,
    /// The longest an answer may take.
    pub message_timeout: Duration,
    /// What was odd but not wrong.
    pub warnings: Vec<Finding>,
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
    /// The bot's access token.
    pub token: Secret,
    /// Only this channel; `None`: every channel the bot is in.
    pub channel_id: Option<ChannelId>,
    /// The pause between two looks.
    pub poll_interval: Duration,
    /// How far back a missed post may lie and still be answered, in seconds.
    pub catch_up_secs: u64,
    /// Earlier posts that the model is told, at most.
    pub history_posts: usize,
    /// Of question and history together, at most, in characters.
    pub history_chars: usize,
    /// Characters of text files given to the model per message; 0: none.
    pub file_chars: usize,
    /// Whether links in answers can be clicked and are previewed.
    pub allow_unsafe_links: bool,
    /// Whether threads where the bot wrote need no further mention.
    pub follow_threads: bool,
    /// PEM roots in place of the built-in ones.
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
    pub read_files: sorted::Map<String, Vec<String>>,
    /// Images told to the model per question, at most; 0: none.
    pub max_images: usize,
    /// In bytes; larger images are left out.
    pub max_image_size: u64,
    /// What holds in every channel that `channels` does not name.
    pub defaults: ChannelSettings,
    /// `[channels_config.mattermost.channels.ID]`, already merged over `defaults`.
    pub channels: sorted::Map<ChannelId, ChannelSettings>,
}

impl MattermostSettings {
    /// What a state file is for: its one channel, or an empty id for every channel.
    pub(crate) fn scope(&self) -> ChannelId {
        self.channel_id.clone().unwrap_or_default()
    }

    /// Whether a mention decides anything in any channel.
    pub(crate) fn mentions_matter(&self) -> bool {
        self.defaults.mention_only || self.channels.values().any(|channel| channel.mention_only)
    }

    /// What holds in `channel`.
    pub(crate) fn channel(&self, channel: &ChannelId) -> &ChannelSettings {
        self.channels.get(channel).unwrap_or(&self.defaults)
    }
}

/// What may differ from channel to channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Who is answered.
    pub allowed_users: Allowed,
    /// Whether answers go into the thread; else always into the channel itself.
    pub thread_replies: bool,
    /// Whether only posts that mention the bot are answered.
    pub mention_only: bool,
    /// Whether an answer is shown while it grows.
    pub stream_mode: StreamMode,
    /// Who the model is; `None`: the built-in text.
    pub system_prompt: Option<String>,
    /// Takes the place of `ProviderSettings::model`.
    pub model: Option<String>,
    /// Laid over `ProviderSettings::parameters`.
    pub model_parameters: Map<String, serde_json::Value>,
}

/// When an answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamMode {
    /// Once it is whole.
    #[default]
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

#[cfg(test)]
mod tests;
