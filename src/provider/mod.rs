//! All that knows language models: one trait, one file per kind, and the way to an answer through
//! failures that pass and conversations that are too long.

mod anthropic;
mod chat;
mod command;
mod echo;
mod error;
pub mod models;
mod openai;
mod server;
mod sse;

use std::time::Duration;

use serde::Serialize;

pub use error::ProviderError;

use crate::config::{ProviderKind, ProviderSettings, Secret};
use crate::http;
use crate::times::Times;

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

/// Something that answers.
pub trait Provider {
    /// One try; `ask` makes more. Blocks for no longer than `question.time_left`, and beats.
    fn answer(&self, question: &Question) -> Result<Answer, ProviderError>;

    /// For people: what answers, and with which model.
    fn describe(&self) -> String;
}

/// The provider that the configuration names. An error is one line for a person.
pub fn from_settings(settings: &ProviderSettings) -> Result<Box<dyn Provider>, String> {
    if let Some(key) = &settings.api_key {
        check_key(key, settings.key_variable)?;
    }
    let canonical = |name: &str| known(name).map_or(name.to_owned(), |known| known.name.to_owned());
    Ok(match &settings.kind {
        ProviderKind::None => Box::new(Unconfigured),
        ProviderKind::Echo => Box::new(echo::Echo),
        ProviderKind::Command(words) => Box::new(command::Program::new(words)?),
        ProviderKind::OpenAi { name, base } => {
            Box::new(openai::OpenAi::new(&canonical(name), base, settings)?)
        }
        ProviderKind::Anthropic { name, base } => {
            Box::new(anthropic::Anthropic::new(&canonical(name), base, settings)?)
        }
    })
}

/// Refuses what is no key before it leaves the machine.
fn check_key(key: &Secret, variable: &str) -> Result<(), String> {
    let key = key.reveal();
    let instead = match variable {
        "" => "write the key itself".to_owned(),
        variable => format!("write the key itself, or remove the line and set {variable}"),
    };
    if key.starts_with("enc2:") || key.starts_with("enc:") {
        return Err(format!(
            "api_key is encrypted (enc2:…), which prx cannot read: {instead}"
        ));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "api_key has a space or another character that no key has: {instead}"
        ));
    }
    Ok(())
}

/// How often a failure that may pass is tried again.
const RETRIES: u32 = 2;

/// Sleeping goes on in slices of this length, with a beat between them.
const SLICE: Duration = Duration::from_millis(500);

/// The answer to `question`, after up to `RETRIES` more tries for a failure that may pass, and with
/// as much of the conversation as the model takes. Ends when `question.time_left` is over.
pub fn ask(
    provider: &dyn Provider,
    question: &Question,
    times: &Times,
) -> Result<Answer, ProviderError> {
    let deadline = times.clock.now() + question.time_left;
    let mut conversation = question.conversation.to_vec();
    let (mut retries, mut pause) = (RETRIES, times.model_retry);
    loop {
        let time_left = deadline.saturating_sub(times.clock.now());
        let error = match provider.answer(&Question {
            conversation: &conversation,
            time_left,
            ..*question
        }) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let time_left = deadline.saturating_sub(times.clock.now());
        match &error {
            ProviderError::TooLong(_) if !time_left.is_zero() => match halved(&conversation) {
                Some(shorter) => conversation = shorter,
                None => return Err(error),
            },
            ProviderError::Again { after, .. } if retries > 0 => {
                let wait = after.unwrap_or_default().max(pause);
                if wait >= time_left {
                    return Err(error);
                }
                log::debug!("{error}; trying again in {} ms", wait.as_millis());
                sleep(wait, times);
                retries -= 1;
                pause *= 2;
            }
            _ => return Err(error),
        }
    }
}

fn sleep(duration: Duration, times: &Times) {
    let end = times.clock.now() + duration;
    loop {
        let left = end.saturating_sub(times.clock.now());
        if left.is_zero() {
            return;
        }
        times.clock.sleep(left.min(SLICE));
        http::beat();
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
            cut: false,
        })
    }

    fn describe(&self) -> String {
        "no language model".into()
    }
}

/// A provider that needs no URL in the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Without a trailing slash; `/chat/completions` is appended, for `anthropic` `/v1/messages`.
    pub base: &'static str,
    /// The environment variables that can hold the key, the usual one first.
    pub key_variables: &'static [&'static str],
    /// It answers nobody without a key.
    pub needs_key: bool,
}

/// Every provider that has a name of its own.
pub const KNOWN: &[Known] = &[
    hosted(
        "openrouter",
        &[],
        "https://openrouter.ai/api/v1",
        &["OPENROUTER_API_KEY"],
    ),
    hosted(
        "openai",
        &[],
        "https://api.openai.com/v1",
        &["OPENAI_API_KEY"],
    ),
    hosted(
        "anthropic",
        &["claude"],
        "https://api.anthropic.com",
        &["ANTHROPIC_API_KEY"],
    ),
    local("ollama", "http://localhost:11434/v1", &[]),
    hosted(
        "groq",
        &[],
        "https://api.groq.com/openai/v1",
        &["GROQ_API_KEY"],
    ),
    hosted(
        "mistral",
        &[],
        "https://api.mistral.ai/v1",
        &["MISTRAL_API_KEY"],
    ),
    hosted(
        "deepseek",
        &[],
        "https://api.deepseek.com/v1",
        &["DEEPSEEK_API_KEY"],
    ),
    hosted("xai", &["grok"], "https://api.x.ai/v1", &["XAI_API_KEY"]),
    hosted(
        "together",
        &[],
        "https://api.together.xyz/v1",
        &["TOGETHER_API_KEY"],
    ),
    hosted(
        "gemini",
        &["google"],
        "https://generativelanguage.googleapis.com/v1beta/openai",
        &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    ),
    local("lmstudio", "http://localhost:1234/v1", &[]),
    local(
        "llamacpp",
        "http://localhost:8080/v1",
        &["LLAMACPP_API_KEY"],
    ),
    local("vllm", "http://localhost:8000/v1", &["VLLM_API_KEY"]),
    local("litellm", "http://localhost:4000/v1", &["LITELLM_API_KEY"]),
];

const fn hosted(
    name: &'static str,
    aliases: &'static [&'static str],
    base: &'static str,
    key_variables: &'static [&'static str],
) -> Known {
    Known {
        name,
        aliases,
        base,
        key_variables,
        needs_key: true,
    }
}

const fn local(
    name: &'static str,
    base: &'static str,
    key_variables: &'static [&'static str],
) -> Known {
    Known {
        name,
        aliases: &[],
        base,
        key_variables,
        needs_key: false,
    }
}

/// The provider of this name or alias, in any case.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| {
        known.name.eq_ignore_ascii_case(name)
            || known
                .aliases
                .iter()
                .any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_leaves_out_the_oldest_until_only_the_question_is_left() {
        let message = |short: &str| Message {
            role: match short.as_bytes()[0] {
                b's' => Role::System,
                b'u' => Role::User,
                _ => Role::Assistant,
            },
            content: short.into(),
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

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for (key, good) in [
            ("sk-123", true),
            (" sk-123\n", true),
            ("enc2:0123abcd", false),
            ("enc:0123abcd", false),
            ("sk 123", false),
            ("sk-ü", false),
        ] {
            let checked = check_key(&Secret::new(key), "OPENAI_API_KEY");
            assert_eq!(checked.is_ok(), good, "{key}");
            if let Err(line) = checked {
                assert!(
                    line.contains("OPENAI_API_KEY") && !line.contains("123"),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn names_and_aliases_are_found_and_nothing_else() {
        for (asked, found) in [
            ("openai", Some("openai")),
            ("OpenAI", Some("openai")),
            ("claude", Some("anthropic")),
            ("grok", Some("xai")),
            ("google", Some("gemini")),
            ("moonshot", None),
            ("", None),
        ] {
            assert_eq!(known(asked).map(|known| known.name), found, "{asked}");
        }
    }
}
