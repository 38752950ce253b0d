//! All that knows language models: one trait, one file per kind.

use std::time::Duration;

use serde::Serialize;

/// Who said something, as models name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

/// What a provider is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// At most one system message, first; the last is the user's.
    pub conversation: &'a [Message],
    /// Overrides the configured model.
    pub model: Option<&'a str>,
    /// The answer is worth nothing after this.
    pub time_left: Duration,
}

/// What a provider said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Never blank.
    pub text: String,
    /// The model stopped at its length limit.
    pub cut: bool,
}
