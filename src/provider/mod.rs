//! All that knows language models: one file per kind of API, and the way to an answer through
//! failures that pass, conversations that are too long, and providers that have no answer.

mod anthropic;
mod chat;
mod command;
mod echo;
mod error;
mod learned;
pub mod models;
mod openai;
mod server;
pub mod settings;
mod sse;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use command::{DEPTH, depth};
pub use error::{Class, ProviderError};
pub use learned::{Fact, FactKind, Learned};
pub use settings::{Api, KNOWN, Known, ProviderKind, ProviderSettings, known};

use server::Server;

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

/// What the asker does while an answer is made.
pub trait Listener {
    /// Takes a further piece of the answer: text that will be in it. All pieces together are the
    /// answer's text.
    fn text(&mut self, piece: &str);
    /// All text so far is void: the answer begins anew.
    fn start_over(&mut self);
    /// Something about the server was found out that the next question should know.
    fn learned(&mut self, fact: Fact);
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

/// Something that answers.
trait Provider {
    /// One try; `ask` makes more. Blocks for no longer than `question.time_left`, and beats.
    fn answer(&self, question: &Question) -> Result<Answer, ProviderError>;

    /// What was found out since the last call.
    fn learned(&self) -> Vec<Fact> {
        Vec::new()
    }
}

fn from_settings(
    settings: &ProviderSettings,
    facts: &[Fact],
) -> Result<Box<dyn Provider>, ProviderError> {
    let failed = |line| ProviderError::new(Class::Never, line);
    Ok(match &settings.kind {
        ProviderKind::None => Box::new(Unconfigured),
        ProviderKind::Echo => Box::new(echo::Echo),
        ProviderKind::Command(words) => Box::new(command::Program::new(words)),
        ProviderKind::Server { api, name, base } => {
            let server = Server::new(name, base, settings, facts).map_err(failed)?;
            match api {
                Api::OpenAi => Box::new(openai::OpenAi::new(server, base, settings)),
                Api::Anthropic => Box::new(anthropic::Anthropic::new(server, base, settings)),
            }
        }
    })
}

/// Whether the settings can be used: an error is one line for a person.
pub fn check(settings: &ProviderSettings) -> Result<(), String> {
    match from_settings(settings, &[]) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The first pause between two tries; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest that `Listener::wait` is asked to wait at once.
const SLICE: Duration = Duration::from_millis(500);

/// The answer to `question`: after further tries for a failure that may pass, from the fallbacks when
/// those are used up, and with as much of the conversation as the model takes. Ends when
/// `question.time_left` is over.
pub fn ask(
    settings: &ProviderSettings,
    facts: &[Fact],
    question: &Question,
    listener: &mut dyn Listener,
) -> Result<Answer, ProviderError> {
    let mut time = Time::new(question.time_left);
    let mut known = facts.to_vec();
    let mut conversation = question.conversation.to_vec();
    let (mut retries, mut pause) = (settings.retries, PAUSE);
    loop {
        let provider = from_settings(settings, &known)?;
        let tried = provider.answer(&Question {
            conversation: &conversation,
            time_left: time.left(),
            ..*question
        });
        for fact in provider.learned() {
            known.push(fact.clone());
            listener.learned(fact);
        }
        let error = match tried {
            Ok(answer) => {
                listener.text(&answer.text);
                let by = settings.described_with(question.model.unwrap_or(&settings.model));
                return Ok(Answer { by, ..answer });
            }
            Err(error) => error,
        };
        match error.class {
            Class::TooLong if !time.left().is_zero() => match halved(&conversation) {
                Some(shorter) => conversation = shorter,
                None => return Err(error),
            },
            Class::Again if retries > 0 => {
                let wait = error.after.unwrap_or_default().max(pause);
                if wait >= time.left() {
                    return Err(error);
                }
                listener.note(&format!("{error}; trying again in {} ms", wait.as_millis()));
                time.wait(wait, listener);
                retries -= 1;
                pause *= 2;
            }
            _ => return Err(error),
        }
    }
}

/// How much of a question's time is left. What the listener waits counts in full, also where a test
/// makes it pass in no time.
struct Time {
    limit: Duration,
    begun: Instant,
    waited: Duration,
    /// How long the waiting took by the clock.
    passed: Duration,
}

impl Time {
    fn new(limit: Duration) -> Time {
        Time {
            limit,
            begun: Instant::now(),
            waited: Duration::ZERO,
            passed: Duration::ZERO,
        }
    }

    fn left(&self) -> Duration {
        let elapsed = self.begun.elapsed().saturating_sub(self.passed) + self.waited;
        self.limit.saturating_sub(elapsed)
    }

    fn wait(&mut self, duration: Duration, listener: &mut dyn Listener) {
        let begun = Instant::now();
        let mut left = duration;
        while !left.is_zero() {
            let slice = left.min(SLICE);
            listener.wait(slice);
            left -= slice;
        }
        self.waited += duration;
        self.passed += begun.elapsed();
    }
}

/// Half of the conversation, the newest part; `None` when only the question is left. The system
/// message stays, and the first message of a thread as long as there is any other to leave out.
fn halved(conversation: &[Message]) -> Option<Vec<Message>> {
    let system = conversation
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    let (system, turns) = conversation.split_at(system);
    let (question, before) = turns.split_last()?;
    let (root, middle) = match before {
        [] => return None,
        [_] => (&[][..], &[][..]),
        [first, ..] if first.role == Role::User => before.split_at(1),
        _ => before.split_at(0),
    };
    let newest = &middle[middle.len().div_ceil(2)..];
    Some([system, root, newest, std::slice::from_ref(question)].concat())
}

/// Stands in when no provider is configured.
struct Unconfigured;

impl Provider for Unconfigured {
    fn answer(&self, _question: &Question) -> Result<Answer, ProviderError> {
        let text = "This channel works: I can read it and write to it. I have no language model yet. \
                    Add two lines at the top of my config file, for example:\n\
                    ```\n\
                    default_provider = \"ollama\"\n\
                    default_model = \"qwen3\"\n\
                    ```\n\
                    A hosted one, such as `openai` or `anthropic`, also needs `api_key = \"…\"`.";
        Ok(Answer {
            text: text.into(),
            ..Answer::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_leaves_out_the_oldest_until_only_the_question_is_left() {
        let message = |short: &str| {
            let role = match short.as_bytes()[0] {
                b's' => Role::System,
                b'u' => Role::User,
                _ => Role::Assistant,
            };
            Message::new(role, short)
        };
        let messages = |list: &str| list.split_whitespace().map(message).collect::<Vec<_>>();
        for (before, after) in [
            ("s u1 a1 u2 a2 u3 a3 u4", Some("s u1 u3 a3 u4")),
            ("s u1 u3 a3 u4", Some("s u1 a3 u4")),
            ("s u1 a3 u4", Some("s u1 u4")),
            ("s u1 u4", Some("s u4")),
            ("s u4", None),
            ("u4", None),
            ("a1 u1 a2 u2", Some("a2 u2")),
            ("a2 u2", Some("u2")),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(halved(&messages(before)), after.map(messages), "{before}");
        }
    }
}
