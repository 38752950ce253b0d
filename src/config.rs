//! File and environment → checked settings, with errors that say what to write instead.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::mattermost::{ChannelId, UserId};

/// A token or key. Shows as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: &str) -> Secret {
        Secret(text.trim().to_owned())
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
    /// What holds in every channel that `channels` does not name.
    pub defaults: ChannelSettings,
    /// `[channels_config.mattermost.channels.ID]`, already merged over `defaults`.
    pub channels: BTreeMap<ChannelId, ChannelSettings>,
}

impl MattermostSettings {
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
    pub system_prompt: Option<String>,
    /// Takes the place of `ProviderSettings::model`.
    pub model: Option<String>,
}

/// Which model answers.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    pub kind: ProviderKind,
    /// `default_model`; empty: none was named.
    pub model: String,
    pub api_key: Option<Secret>,
    /// The environment variable that can hold the key; empty: none.
    pub key_variable: &'static str,
    pub temperature: Option<f64>,
    /// Sent to Anthropic only, where it is required.
    pub max_tokens: u32,
    /// Roots for the model's server.
    pub ca_file: Option<PathBuf>,
}

/// How to speak to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// Nothing is configured: a short text says what to add.
    None,
    /// Repeats what it was told.
    Echo,
    /// `provider_command`: a program and its arguments.
    Command(Vec<String>),
    /// `name` as configured, `base` without a trailing slash; `/chat/completions` is appended.
    OpenAi { name: String, base: String },
    /// `/v1/messages` is appended to `base`.
    Anthropic { name: String, base: String },
}
