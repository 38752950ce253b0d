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
