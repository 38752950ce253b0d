//! All that knows language models: what is asked, how an answer is read, and the way to one through
//! failures that pass, conversations that are too long, and providers that have no answer.

mod ask;
mod chat;
mod command;
mod echo;
mod error;
mod harmless;
mod learned;
mod lenient;
pub mod models;
mod request;
mod server;
pub mod settings;
mod shown;
mod sse;
mod stream;
mod wait;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use ask::ask;
pub(crate) use ask::check;
pub(crate) use command::{DEPTH, depth};
pub use error::{Class, ProviderError};
pub use learned::{Fact, FactKind, Learned};
pub use settings::{Api, KNOWN, ProviderKind, ProviderSettings};

/// Who said something, as models name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the model is told to be.
    System,
    /// A person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// The text.
    pub content: String,
    /// The pictures that belong to it: indices into `Question::images`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<usize>,
}

impl Message {
    /// A turn without pictures.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message {
            role,
            content: content.into(),
            images: Vec::new(),
        }
    }
}

/// A picture, as it goes to the model's server.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// `image/png` and its kin.
    pub media_type: &'a str,
    /// Its bytes in base64, without line ends.
    pub base64: &'a str,
}

/// What a provider is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// At most one system message, first; the last is the user's.
    pub conversation: &'a [Message],
    /// The pictures that the messages name.
    pub images: &'a [Image<'a>],
    /// Overrides the model of the first provider.
    pub model: Option<&'a str>,
    /// The name that a model may put before its answer, as others do in the conversation.
    pub bot_name: &'a str,
    /// Several people speak in the conversation, so that names stand before what they say.
    pub several_speakers: bool,
    /// The answer is worth nothing after this.
    pub time_left: Duration,
}

impl<'a> Question<'a> {
    /// A text for the first provider's own model.
    pub fn new(conversation: &'a [Message], time_left: Duration) -> Question<'a> {
        Question {
            conversation,
            images: &[],
            model: None,
            bot_name: "",
            several_speakers: false,
            time_left,
        }
    }
}

/// What the asker does while an answer is made. One that waits for the whole answer hears no text.
pub trait Listener {
    /// Takes a further piece of the answer: text that will be in it. All pieces together are the
    /// answer's text.
    fn text(&mut self, _piece: &str) {}
    /// All text so far is void: the answer begins anew.
    fn start_over(&mut self) {}
    /// Something about the server was found out that the next question should know.
    fn learned(&mut self, _fact: Fact) {}
    /// A line for the log at debug level.
    fn note(&mut self, line: &str);
    /// Waits, at most a second: the only way in which providers pause between tries.
    fn wait(&mut self, duration: Duration);
}

/// What a provider said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Never blank.
    pub text: String,
    /// The model stopped at its length limit.
    pub cut: bool,
    /// The connection broke, in every try: this is the longest text that came.
    pub broke_off: bool,
    /// Who answered: `openai gpt-4o`.
    pub by: String,
    /// Tokens of the prompt and of the answer, if the server counted them.
    pub tokens: Option<(u64, u64)>,
    /// The model takes no pictures: it was told that there were some.
    pub unseen_images: bool,
}
