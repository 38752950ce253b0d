//! Why there is no answer: what a server said → what the caller must do, the line for the log and
//! the sentence for the person.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json;

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Try again later.
    Again,
    /// Try again with less of the conversation.
    TooLong,
    /// The time for the answer is used up.
    TimedOut,
    /// The model declined.
    Refused,
    /// A content filter stopped the question or the answer.
    Filtered,
    /// The model said nothing, or only thought.
    Empty,
    /// The same request would fail again.
    Never,
}

impl Class {
    /// The short message that takes the answer's place in the channel.
    pub fn for_person(self) -> &'static str {
        match self {
            Class::Again => {
                "I could not get an answer from the language model. Please try again later."
            }
            Class::TooLong => {
                "This is too long for the language model. Please send less text at once."
            }
            Class::TimedOut => "The language model did not answer in time. Please try again later.",
            Class::Refused => "The language model declined to answer this.",
            Class::Filtered => {
                "The language model's content filter stopped this. Please put it differently."
            }
            Class::Empty => "The language model gave an empty answer. Please put it differently.",
            Class::Never => {
                "I could not get an answer from the language model. \
                 Whoever runs me finds the reason in my log."
            }
        }
    }
}

/// Why there is no answer. Shows as a line for the log: what happened, at which provider, what to do
/// next; no key, no prompt, no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// What the caller must do.
    pub class: Class,
    line: String,
    /// The wait that the server asked for.
    pub(super) after: Option<Duration>,
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl ProviderError {
    /// An error without a wait. `line` is for the log.
    pub fn new(class: Class, line: String) -> ProviderError {
        ProviderError {
            class,
            line,
            after: None,
        }
    }

    /// The short message that takes the answer's place in the channel.
    pub fn for_person(&self) -> &str {
        self.class.for_person()
    }
}

/// Characters of a log line, and of what the server said in it.
const LINE: usize = 300;
const SAID: usize = 200;

/// Signs, in lower case, that the conversation is longer than the model takes, whatever the status.
const TOO_LONG: &[&str] = &[
    "prompt is too long",
    "context_length_exceeded",
    "maximum context length",
    "exceeds the context window",
    "exceeds the available context size",
    "exceed_context_size_error",
    "maximum prompt length",
    "reduce the length of the messages",
    "greater than the context length",
    "longer than the model's context length",
    "too large for model with",
    "max context length",
];

const WRONG_KEY: &[&str] = &[
    "api key not valid",
    "incorrect api key",
    "invalid api key",
    "invalid_api_key",
];

const NO_MONEY: &[&str] = &[
    "insufficient_quota",
    "credit balance is too low",
    "usage limits",
];

/// Azure, OpenRouter, DeepSeek.
const FILTERED: &[&str] = &[
    "content_filter",
    "requires moderation",
    "content exists risk",
];

/// The refusal of a chat template, which comes as a 500.
const TEMPLATE: &[&str] = &["jinja", "roles must alternate"];

/// What a log line must know of the server, and what it must not show.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// As configured.
    pub name: &'a str,
    pub key: &'a str,
    /// Empty: none.
    pub key_variable: &'a str,
    /// What was sent: servers quote it in their errors.
    pub conversation: &'a [super::Message],
}

impl Asked<'_> {
    /// The error for a response with `status` and `body`; status 200 is an error inside an answer.
    pub fn refused(&self, status: u16, body: &str, after: Option<Duration>) -> ProviderError {
        let json = json::parse_slice::<Value>(body.as_bytes()).ok();
        // Written anew: escapes would hide both signs and quotations.
        let body = json.as_ref().map_or(body.to_owned(), Value::to_string);
        let text = body.to_lowercase();
        let any = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        let (status, what) = match &json {
            Some(json) if status == 200 => (status_within(json), "an error for an answer".into()),
            None if status == 200 => (500, "an error for an answer".into()),
            _ => (status, format!("HTTP {status}")),
        };
        let said = json.as_ref().and_then(message).unwrap_or(&body);
        let line = |advice: &str| self.line(&format!("{what}: {advice}"), said);
        let too_large_at_once = ["request too large", "limit", "requested"];

        if (any(TOO_LONG) && !text.contains("rate limit"))
            || (status == 403 && self.name == "together")
        {
            ProviderError::new(
                Class::TooLong,
                line("the conversation is too long for the model"),
            )
        } else if any(NO_MONEY) || status == 402 {
            ProviderError::new(
                Class::Never,
                line("no money or quota is left: look at the account"),
            )
        } else if status == 401 || (status < 500 && any(WRONG_KEY)) {
            let variable = match self.key_variable {
                "" => String::new(),
                variable => format!(" or {variable}"),
            };
            ProviderError::new(
                Class::Never,
                line(&format!("the key is refused: correct api_key{variable}")),
            )
        } else if status < 500 && any(FILTERED) {
            ProviderError::new(
                Class::Filtered,
                line("a content filter stopped the question"),
            )
        } else if too_large_at_once.iter().all(|sign| text.contains(sign)) {
            ProviderError::new(
                Class::Never,
                line("the request is over the account's limit: lower history_chars"),
            )
        } else if any(TEMPLATE) {
            ProviderError::new(
                Class::Never,
                line("the model's chat template fails: use another model"),
            )
        } else if matches!(status, 408 | 409 | 429) || status >= 500 {
            ProviderError {
                after,
                ..ProviderError::new(
                    Class::Again,
                    line("the server cannot answer now: look at its status if this lasts"),
                )
            }
        } else {
            ProviderError::new(
                Class::Never,
                line(match status {
                    300..400 => "the server has moved: correct the URL",
                    403 => "the key may not do this: look at its rights and at default_model",
                    404 => "not found: correct default_model or the URL",
                    413 => "the request is too large: lower history_chars",
                    _ => "the request is refused: look at default_model and the provider's page",
                }),
            )
        }
    }

    /// One line of at most `LINE` characters: the provider, what happened, what it said about it.
    pub fn line(&self, what: &str, said: &str) -> String {
        let said = self.harmless(said);
        let name = shown(self.name);
        let line = match said.as_str() {
            "" => format!("{name}: {what}"),
            said => format!("{name}: {what} ({said})"),
        };
        one_line(&line, LINE)
    }

    /// What a server said, without keys, and without anything of the conversation.
    fn harmless(&self, said: &str) -> String {
        // Looked for in more than is shown, so that cutting hides nothing from the search.
        let said = one_line(said, 2 * SAID);
        let once = one_line(&unescaped(&said), usize::MAX);
        let twice = one_line(&unescaped(&once), usize::MAX);
        let quoted = |content: &str| {
            let forms = [&said, &once, &twice];
            forms.into_iter().any(|said| quotes(said, content))
        };
        if self
            .conversation
            .iter()
            .any(|message| quoted(&message.content))
        {
            return "its message quotes the conversation".into();
        }
        let said: Vec<_> = said
            .split(' ')
            .map(|word| {
                if looks_like_key(word, self.key) {
                    "***"
                } else {
                    word
                }
            })
            .collect();
        one_line(&said.join(" "), SAID)
    }
}

/// A name without what a URL may carry of secrets: user, password and query.
pub fn shown(name: &str) -> String {
    let name = name.split(['?', '#']).next().unwrap_or_default();
    match name.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => name.to_owned(),
    }
}

/// The first message in an error's body, whichever of the usual shapes it has.
fn message(json: &Value) -> Option<&str> {
    match json {
        Value::Array(items) => items.iter().find_map(message),
        Value::Object(fields) => ["error", "message", "msg", "detail", "errors"]
            .iter()
            .find_map(|name| match fields.get(*name)? {
                Value::String(text) => Some(text.as_str()),
                inner => message(inner),
            }),
        _ => None,
    }
}

/// The status that an error inside a 200 stands for.
fn status_within(json: &Value) -> u16 {
    let outer = json.get(0).unwrap_or(json);
    let inner = outer.get("error").unwrap_or(outer);
    let code = [inner, outer]
        .into_iter()
        .find_map(|error| match error.get("code")? {
            Value::String(code) => code.parse().ok(),
            code => code.as_u64(),
        });
    match (code, inner["type"].as_str().unwrap_or_default()) {
        (Some(code @ 400..600), _) => code as u16,
        (_, "invalid_request_error") => 400,
        (_, "authentication_error") => 401,
        (_, "billing_error") => 402,
        (_, "permission_error") => 403,
        (_, "not_found_error") => 404,
        (_, "request_too_large") => 413,
        _ => 500,
    }
}

/// Whether an answer's JSON is an error instead.
pub fn is_error(json: &Value) -> bool {
    let first = json.get(0).unwrap_or(json);
    first.get("error").is_some_and(|error| !error.is_null())
        || first["object"] == "error"
        || first["type"] == "error"
}

/// Characters of the conversation in a row that are taken for a quotation.
const QUOTED: usize = 16;

/// Whether `said` repeats a part of `content`, or all of it when it is short.
fn quotes(said: &str, content: &str) -> bool {
    let content = one_line(content, usize::MAX);
    if content.chars().count() < QUOTED {
        return content.len() > 3 && said.contains(&content);
    }
    let starts: Vec<usize> = said
        .char_indices()
        .map(|(at, _)| at)
        .chain([said.len()])
        .collect();
    starts
        .windows(QUOTED + 1)
        .any(|window| content.contains(&said[window[0]..window[QUOTED]]))
}

/// `text` without the escapes of a JSON or Python string: `\n`, `\"`, `\u00fc`, `\xfc`.
fn unescaped(text: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let escape = (c == '\\').then(|| rest.next()).flatten();
        let digits = match escape {
            Some('u') => 4,
            Some('x') => 2,
            _ => 0,
        };
        let code: String = rest.clone().take(digits).collect();
        match (u16::from_str_radix(&code, 16), escape) {
            (Ok(unit), _) => {
                units.push(unit);
                rest.by_ref().take(digits).for_each(drop);
            }
            (_, Some('n' | 'r' | 't')) => units.push(u16::from(b' ')),
            (_, escaped) => {
                units.extend_from_slice(escaped.unwrap_or(c).encode_utf16(&mut [0; 2]));
            }
        }
    }
    String::from_utf16_lossy(&units)
}

/// Servers quote the key they refuse, whole or with its middle masked.
fn looks_like_key(word: &str, key: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '*');
    if !key.is_empty() && word.contains(key) {
        return true;
    }
    let shares_an_end = key.len() > 8
        && key.is_ascii()
        && (word.starts_with(&key[..5]) || word.ends_with(&key[key.len() - 4..]));
    word.len() >= 8
        && (shares_an_end
            || word.contains("***")
            || ["sk-", "gsk_", "xai-", "AIza"]
                .iter()
                .any(|prefix| word.starts_with(prefix)))
}

/// White space and control characters become single spaces; cut to `limit` characters.
pub fn one_line(text: &str, limit: usize) -> String {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let mut line = String::new();
    let mut characters = 0;
    for (index, word) in words.enumerate() {
        let space = (index > 0).then_some(' ');
        for c in space.into_iter().chain(word.chars()) {
            if characters == limit {
                line.pop();
                line.push('…');
                return line;
            }
            line.push(c);
            characters += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Message, Role};

    #[test]
    fn words_that_look_like_keys_are_known_and_others_left_alone() {
        let key = "abcde-0123456789";
        for (word, is_key) in [
            ("abcde-0123456789", true),
            ("key=abcde-0123456789.", true),
            ("'abcde*****'", true),
            ("...........6789", false),
            ("xxxxxxxx6789", true),
            ("xa***********zz", true),
            ("sk-proj-something", true),
            ("gsk_something", true),
            ("provided", false),
            ("sk-x", false),
            ("", false),
        ] {
            assert_eq!(looks_like_key(word, key), is_key, "{word}");
        }
        assert!(!looks_like_key("provided:", ""));
        assert!(
            looks_like_key("<ab1>", "ab1"),
            "a short key counts only whole"
        );
        assert!(!looks_like_key("abundance", "ab1"));
    }

    #[test]
    fn a_log_line_is_one_line_of_bounded_length() {
        let asked = Asked {
            name: "x",
            key: "",
            key_variable: "",
            conversation: &[],
        };
        let line = asked
            .refused(500, &"ü\r\n\t\u{1b} ".repeat(1000), None)
            .to_string();
        assert!(
            line.chars().count() <= LINE && !line.contains(char::is_control),
            "{line}"
        );
        for (text, limit, cut) in [
            ("a  b", 9, "a b"),
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("", 3, ""),
            (" \n", 3, ""),
        ] {
            assert_eq!(one_line(text, limit), cut);
        }
    }

    #[test]
    fn a_quotation_is_noticed_through_escapes() {
        let content = "pin: 1\npw: \"sesame\"\nGrüße \u{1F600} Пароль: сезам, откройся";
        let conversation = [Message::new(Role::User, content)];
        let asked = Asked {
            name: "x",
            key: "",
            key_variable: "",
            conversation: &conversation,
        };
        for said in [
            r#"input: 'pin: 1\npw: "sesame"\n'"#,
            r#"input: {\"content\":\"pin: 1\\npw: \\\"sesame\\\"\\n\"}"#,
            r"'\n\u041f\u0430\u0440\u043e\u043b\u044c: \u0441\u0435\u0437\u0430\u043c, \u043e'",
            r"\nGr\xfc\xdfe \ud83d\ude00 \u041f\u0430\u0440\u043e\u043b\u044c: \u0441",
        ] {
            assert!(asked.line("", said).contains("quotes the"), "{said}");
        }
        let said = r"C:\new\x \u12 \ud83d \";
        assert!(asked.line("", said).contains(said), "left as it is");
    }

    #[test]
    fn a_quotation_of_the_conversation_is_noticed() {
        for (said, content, quoted) in [
            (
                "bad: my secret plan is this",
                "so my secret plan\nis this one",
                true,
            ),
            ("bad: my secret", "so my secret plan is this", false),
            ("cannot read 'ring'", "ring", true),
            ("no", "no", false),
            ("", "some words of a conversation", false),
        ] {
            assert_eq!(quotes(said, content), quoted, "{said}");
        }
    }
}
