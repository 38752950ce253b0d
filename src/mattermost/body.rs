//! What is sent when a post is made or edited.

use serde::Serialize;

use super::types::{ChannelId, PostId, PrxProps, UserId};

/// What `POST posts` takes.
#[derive(Debug, Serialize)]
pub(crate) struct NewPost<'a> {
    /// Where it is posted.
    pub channel_id: &'a ChannelId,
    /// The text, in Markdown.
    pub message: &'a str,
    /// Empty: a top-level post.
    pub root_id: &'a PostId,
    /// A repeat with the same value within 30 s of the first try makes no second post, whoever sent
    /// the first: it must be unguessable.
    pub pending_post_id: &'a str,
    /// Its properties.
    pub props: NewProps<'a>,
}

/// The properties that go with a post.
#[derive(Debug, Serialize)]
pub(crate) struct NewProps<'a> {
    /// What it is to this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prx: Option<Mark<'a>>,
    /// `"true"`: the server fetches no preview and clients show links as plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsafe_links: Option<&'static str>,
    /// Whose model wrote it: clients show that. The server takes no person's id but the poster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ai_generated_by: Option<&'a UserId>,
}

/// What this program puts on its own posts, as `props.prx`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Mark<'a> {
    /// A part of an answer.
    Answer(&'a PrxProps),
    /// An answer that is being written.
    Growing {
        /// The question.
        growing_for: &'a PostId,
    },
}

/// What `PUT posts/{post}/patch` takes. The server replaces the properties whole.
#[derive(Debug, Serialize)]
pub(crate) struct Patch<'a> {
    /// The text, in Markdown.
    pub message: &'a str,
    /// All properties: an edit replaces them.
    pub props: PatchProps<'a>,
}

/// All properties of a post of the bot's.
#[derive(Debug, Serialize)]
pub(crate) struct PatchProps<'a> {
    /// This program's own.
    #[serde(flatten)]
    pub new: NewProps<'a>,
    /// `"true"`: the server does not put it back.
    pub from_bot: &'static str,
}
