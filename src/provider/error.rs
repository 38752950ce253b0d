//! Why there is no answer: what a server said → what the caller must do, the line for the log and
//! the sentence for the person.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wait::{LASTING, Wait, wait};
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
    /// It is about the question, so no other provider is asked.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Class::TooLong | Class::Filtered | Class::Refused)
    }

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
    /// Of `Class::Again`: when a further try may help.
    pub(super) wait: Wait,
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl ProviderError {
    /// `line` is for the log.
    pub fn new(class: Class, line: String) -> ProviderError {
        ProviderError {
            class,
            line,
            wait: Wait::Usual,
        }
    }

    pub(super) fn waiting(self, wait: Wait) -> ProviderError {
        ProviderError { wait, ..self }
    }

    /// One error for several providers: the first one's, unless another would not help either.
    pub(super) fn and(self, later: ProviderError) -> ProviderError {
        let line = format!("{}; then {}", self.line, later.line);
        if later.class.is_final() {
            ProviderError { line, ..later }
        } else {
            ProviderError { line, ..self }
        }
    }

    /// The short message that takes the answer's place in the channel.
    pub fn for_person(&self) -> &str {
        self.class.for_person()
    }
}

// All signs are in lower case. Servers write them with spaces or underscores.

/// That something is more than it may be.
const EXCESS: &[&str] = &[
    "exceed",
    "overflow",
    "too ",
    " than",
    "must be <=",
    "at most",
    "maximum",
    "only",
    "configured",
    "reached",
    "reduce",
    "cannot",
    "过长",
];

/// With one of `EXCESS` it is the conversation.
const CONTEXT: &[&str] = &[
    "context length",
    "context size",
    "context limit",
    "context window",
    "contextwindow",
    "model len",
    "model token",
    "seq len",
    "token limit",
    "tokens limit",
    "token length",
    "total tokens",
    "number of tokens",
    "tokens in ",
    "request length",
    "上下文",
];

/// With one of `EXCESS` it is the conversation if a measure of it is named as well.
const SENT: &[&str] = &["prompt", "input", "messages", "sequence"];
const MEASURES: &[&str] = &["token", "length", "long", "characters"];

/// These say by themselves that the conversation is longer than the model takes.
const TOO_LONG: &[&str] = &[
    "trying to keep the first",
    "max context length",
    "range of input length",
    "context shift is disabled",
    "context too long",
    "string above max length",
];

/// It is about what may be sent in a time, however long the words make it.
const RATES: &[&str] = &["rate limit", "per min", "quota", "throttl", "please wait"];

const WRONG_KEY: &[&str] = &[
    "api key not valid",
    "incorrect api key",
    "invalid api key",
    "api key expired",
    "api key not found",
    "api secret key",
    "invalid token",
    "authentication",
    "authorization header",
    "unregistered callers",
    // LiteLLM without a database knows one key.
    "no db connection",
    "no connected db",
];

const NO_MONEY: &[&str] = &[
    "insufficient quota",
    "user quota",
    "credit balance is too low",
    "usage limits",
    "spending limit",
    "key limit exceeded",
    "exceeded current quota",
    "insufficient balance",
    "balance is",
    "any credits",
    "available credits",
    "out of credits",
    "billing hard limit",
    "billing not active",
    "arrearage",
    "is suspended",
    "has been disabled",
    "额度不足",
    "余额不足",
    "budget has been exceeded",
    "budget exceeded",
    "exceededbudget",
    "exceeded budget",
    "over budget",
];

const FILTERED: &[&str] = &[
    "content filter",
    "contentfilter",
    "policyviolation",
    "policy violation",
    "content violates",
    "violating our",
    "violates our",
    "requires moderation",
    "moderation blocked",
    "safety system",
    "guardrails",
    "content exists risk",
    "considered high risk",
    "inappropriate content",
    "new sensitive",
    "sensitivecontent",
    "sensitive content",
];

/// Signs that a server which says "your fault" has a passing trouble of its own.
const BUSY: &[&str] = &[
    "rate limit",
    "rate exceeded",
    "too many requests",
    "throttl",
    "overloaded",
    "capacity exceeded",
    "try again later",
    "model unloaded",
    // Groq: what the model wrote was no answer.
    "tool use failed",
    "output parse failed",
];

/// The server has the model and cannot load it, however often it is asked.
const UNLOADABLE: &[&str] = &[
    "requires more system memory",
    "model failed to load",
    "unable to load model",
    "error loading model",
    "unknown model architecture",
];

/// The refusal of a chat template, which comes as a 500.
const TEMPLATE: &[&str] = &["jinja", "roles must alternate"];

/// What a log line must know of the server, and what it must not show.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    /// As configured.
    pub name: &'a str,
    /// What the server was told and nobody else may see: `ProviderSettings::secrets`.
    pub secrets: Vec<&'a str>,
    /// Empty: none.
    pub key_variable: &'a str,
    /// The server is on this machine or in this network.
    pub is_local: bool,
    /// What was sent: servers quote it in their errors.
    pub conversation: &'a [super::Message],
    /// The names of `[model_parameters]`.
    pub parameters: Option<&'a Map<String, Value>>,
}

impl Asked<'_> {
    /// The error for a response with `status` and `body`; status 200 is an error inside an answer.
    pub(super) fn refused(
        &self,
        status: u16,
        body: &str,
        after: Option<Duration>,
    ) -> ProviderError {
        let json = json::parse_slice::<Value>(body.as_bytes()).ok();
        // Written anew: escapes would hide both signs and quotations.
        let body = json.as_ref().map_or(body.to_owned(), Value::to_string);
        let text = body.to_lowercase();
        let said = json.as_ref().and_then(message).unwrap_or(&body);
        // A model server takes half a minute to restart, and says nothing else meanwhile.
        let restarts = self.is_local && matches!(status, 500 | 502 | 503);
        let (status, what) = match status {
            200 => (status_of(&body), "an error for an answer".into()),
            _ => (status, format!("HTTP {status}")),
        };
        let (class, advice) = self.judge(status, &text, said, &body);
        let error = ProviderError::new(class, self.line(&format!("{what}: {advice}"), said));
        match class {
            Class::Again => error.waiting(wait(status, restarts, &text, after)),
            _ => error,
        }
    }

    /// The class of an error and what to do about it. `text` is `body` in lower case.
    fn judge(&self, status: u16, text: &str, said: &str, body: &str) -> (Class, String) {
        let text = text.replace('_', " ");
        let any = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        let all = |signs: &[&str]| signs.iter().all(|sign| text.contains(sign));
        let never = |advice: &str| (Class::Never, advice.to_owned());
        let again = |advice: &str| (Class::Again, advice.to_owned());
        if self.is_too_long(status, &text, &said.to_lowercase().replace('_', " ")) {
            let advice = "the conversation is too long for the model";
            (Class::TooLong, advice.to_owned())
        } else if any(NO_MONEY) || status == 402 {
            never("no money or quota is left: look at the account")
        } else if status == 401 || (any(WRONG_KEY) && status != 407) {
            let variable = match self.key_variable {
                "" => String::new(),
                variable => format!(" or {variable}"),
            };
            never(&format!("the key is refused: correct api_key{variable}"))
        } else if any(FILTERED) {
            let advice = "a content filter stopped the question";
            (Class::Filtered, advice.to_owned())
        } else if all(&["request too large", "limit", "requested"]) {
            never("the request is over the account's limit: lower history_chars")
        } else if any(TEMPLATE) {
            never("the model's chat template fails: use another model")
        } else if any(UNLOADABLE) {
            never("the server cannot load the model: look at its log, or use a smaller model")
        } else if any(&["model not found"]) && status >= 500 {
            never("not found: correct default_model")
        } else if status == 429 && any(LASTING) {
            again("the quota is used up for today or longer: look at the account")
        } else if matches!(status, 408 | 409 | 423..=425 | 429 | 498 | 499)
            || status >= 500
            || any(BUSY)
        {
            again("the server cannot answer now: look at its status if this lasts")
        } else if let Some(name) = self.refused_parameter(status, body) {
            never(&format!(
                "the server refuses {name}: delete it from [model_parameters]"
            ))
        } else {
            never(match status {
                300..400 => "the server has moved: correct the URL",
                403 => "the key may not do this: look at its rights and at default_model",
                404 => "not found: correct default_model or the URL",
                413 => "the request is too large: lower history_chars",
                _ => "the request is refused: look at default_model and the provider's page",
            })
        }
    }

    /// `text`, and what of it is a message, are in lower case and without underscores.
    fn is_too_long(&self, status: u16, text: &str, said: &str) -> bool {
        let any = |text: &str, signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        if any(text, RATES) || matches!(status, 401 | 402) {
            return false;
        }
        let is_sent = any(said, SENT) && any(said, MEASURES) && !said.contains("max tokens");
        any(text, TOO_LONG)
            || (any(text, CONTEXT) && any(text, EXCESS))
            || (is_sent && any(said, EXCESS))
            || (status == 403 && self.name == "together")
            || (matches!(status, 400 | 413 | 422) && self.names_our_tokens(text))
    }

    /// Whether two numbers of tokens are named of which the larger may be that of what was sent.
    fn names_our_tokens(&self, text: &str) -> bool {
        let sent: usize = self
            .conversation
            .iter()
            .map(|message| message.content.chars().count())
            .sum();
        // A token is one character in some languages, and at most a dozen.
        let ours = (sent / 12).max(200) as u64..=sent as u64;
        let is_output = ["max tokens", "output token", "completion token"];
        if !text.contains("token") || is_output.iter().any(|sign| text.contains(sign)) {
            return false;
        }
        let numbers = numbers(text);
        let largest = numbers.iter().copied().max().unwrap_or_default();
        let is_limit = |number: &u64| (16..largest).contains(number);
        ours.contains(&largest) && numbers.iter().any(is_limit)
    }

    /// The parameter that the configuration adds to the request and an error is about.
    fn refused_parameter(&self, status: u16, body: &str) -> Option<&str> {
        let mut names = self.parameters?.keys();
        let name = names.find(|name| matches!(status, 400 | 422) && names_word(body, name))?;
        Some(name)
    }
}

/// The first message in an error's body, whichever of the usual shapes it has; what a gateway was
/// told itself before its own words.
fn message(json: &Value) -> Option<&str> {
    match json {
        Value::Array(items) => items.iter().find_map(message),
        Value::Object(fields) => [
            "metadata",
            "raw",
            "error",
            "message",
            "msg",
            "detail",
            "errors",
            "base_resp",
            "status_msg",
            "error_msg",
        ]
        .iter()
        .find_map(|name| match fields.get(*name)? {
            Value::String(text) => (!text.is_empty()).then_some(text.as_str()),
            inner => message(inner),
        }),
        _ => None,
    }
}

/// The status that an error inside a 200 stands for.
pub(super) fn status_of(body: &str) -> u16 {
    let json = json::parse_slice::<Value>(body.as_bytes()).unwrap_or_default();
    let outer = json.get(0).unwrap_or(&json);
    let inner = outer.get("error").unwrap_or(outer);
    let codes = [&inner["code"], &outer["code"], &outer["status"]].map(number);
    let code = codes
        .into_iter()
        .flatten()
        .find(|code| (400..600).contains(code));
    match (code, inner["type"].as_str().unwrap_or_default()) {
        (Some(code), _) => code as u16,
        (_, "invalid_request_error") => 400,
        (_, "authentication_error") => 401,
        (_, "billing_error") => 402,
        (_, "permission_error") => 403,
        (_, "not_found_error") => 404,
        (_, "request_too_large") => 413,
        _ => 500,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

/// Whether an answer's JSON is an error instead.
pub(super) fn is_error(json: &Value) -> bool {
    let first = json.get(0).unwrap_or(json);
    let is_something = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    let has = |name: &str| first.get(name).is_some_and(is_something);
    let is_bare = ["choices", "content", "type", "object"]
        .iter()
        .all(|name| first.get(*name).is_none());
    let has_code = ["code", "error_code"]
        .iter()
        .any(|name| first.get(*name).is_some())
        || first["success"] == false
        || number(&first["status"]).is_some_and(|status| status >= 400);
    has("error")
        || first["object"] == "error"
        || first["type"] == "error"
        // MiniMax, Zhipu and their like.
        || first["base_resp"]["status_code"].as_i64().is_some_and(|code| code != 0)
        || (is_bare && (has("detail") || has("errors")))
        || (is_bare && has_code && ["message", "msg", "error_msg"].iter().any(|name| first[*name].is_string()))
}

/// Whether an error is about this parameter: its name as a word of its own.
pub(super) fn names_word(said: &str, parameter: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    said.match_indices(parameter).any(|(at, _)| {
        !said[..at].ends_with(part_of_word)
            && !said[at + parameter.len()..].starts_with(part_of_word)
    })
}

/// The whole numbers in `text`, thousands parted or not.
pub(super) fn numbers(text: &str) -> Vec<u64> {
    let is_part = |c: char| c.is_ascii_digit() || c == ',' || c == '_';
    let words = text
        .split(|c: char| !is_part(c))
        .map(|word| word.trim_matches([',', '_']));
    let digits = words.map(|word| word.replace([',', '_'], ""));
    digits.filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::harmless::SECRET;
    use super::*;
    use crate::provider::{Message, Role};

    pub(in crate::provider) fn asked<'a>(
        name: &'a str,
        key: &'a str,
        conversation: &'a [Message],
    ) -> Asked<'a> {
        Asked {
            name,
            secrets: [key]
                .into_iter()
                .filter(|key| key.len() >= SECRET)
                .collect(),
            key_variable: "",
            is_local: false,
            conversation,
            parameters: None,
        }
    }

    pub(in crate::provider) fn said(text: impl Into<String>) -> [Message; 1] {
        [Message::new(Role::User, text)]
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn a_wait_is_understood_in_all_its_words() {
        for (body, wait) in [
            (r#"{"error":{"details":[{"@type":"RetryInfo","retryDelay":"8.5s"}]}}"#, Wait::For(Duration::from_millis(8500))),
            ("Rate limit reached. Please try again in 6s.", Wait::For(Duration::from_secs(6))),
            ("Please try again in 1m2.5s.", Wait::For(Duration::from_millis(62_500))),
            ("Please try again in 250ms", Wait::For(Duration::from_millis(250))),
            ("Please retry in 26.6s.", Wait::For(Duration::from_millis(26_600))),
            ("retry in 5s", Wait::For(Duration::from_secs(5))),
            ("Please retry after 24 seconds.", Wait::For(Duration::from_secs(24))),
            ("try again in 2 minutes", Wait::For(Duration::from_secs(120))),
            (r#"{"error":"busy","retry_after":3}"#, Wait::For(Duration::from_secs(3))),
            (r#"{"error":{"message":"slow down","metadata":{"retry_after_seconds":12}}}"#, Wait::For(Duration::from_secs(12))),
            ("Too many requests. Please wait 30 seconds before trying again.", Wait::For(Duration::from_secs(30))),
            ("You have exhausted your capacity. Your quota will reset after 1m3s.", Wait::For(Duration::from_secs(63))),
            (r#"{"error":{"message":"Provider returned error","metadata":{"raw":"{\n \"details\": [{\"retryDelay\": \"34s\"}]}"}}}"#, Wait::For(Duration::from_secs(34))),
            ("VertexAIException - b'{\\n \"retryDelay\": \"7s\"\\n}'", Wait::For(Duration::from_secs(7))),
            ("Rate limit exceeded. Try again in about 3 seconds", Wait::For(Duration::from_secs(3))),
            ("Too many requests. Retry after: 3", Wait::For(Duration::from_secs(3))),
            ("Please wait for 3 seconds", Wait::For(Duration::from_secs(3))),
            (r#"{"error":{"message":"cooling down","reset_seconds":3}}"#, Wait::For(Duration::from_secs(3))),
            ("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day", Wait::Hopeless),
            ("You are using a Trial key, which is limited to 1000 API calls / month.", Wait::Hopeless),
            ("Monthly quota exceeded, try again in 5s", Wait::Hopeless),
            (r#"{"error":"The model is not ready for inference: it is still being loaded"}"#, Wait::Loading(None)),
            (r#"{"message":"Endpoint is starting up, retry in 30s"}"#, Wait::Loading(Some(Duration::from_secs(30)))),
            ("try again in 18000000000000000000s900000000000000000s", Wait::Usual),
            ("try again in a while", Wait::Usual),
            ("slow down", Wait::Usual),
            (r#"{"error":{"message":"Quota","details":[{"quotaId":"GenerateRequestsPerDayPerProject"}]}}"#, Wait::Hopeless),
            ("limit of tokens per day (TPD) reached, try again in 4m", Wait::Hopeless),
            (r#"{"error":{"message":"Loading model"}}"#, Wait::Loading(None)),
            (r#"{"error":"Model x is currently loading","estimated_time":20.0}"#, Wait::Loading(Some(Duration::from_secs(20)))),
        ] {
            let error = asked("x", "", &[]).refused(429, body, None);
            assert_eq!((error.class, error.wait), (Class::Again, wait), "{body}");
        }
        for (status, is_local, wait) in [
            (500, true, Wait::Loading(None)),
            (502, true, Wait::Loading(None)),
            (503, true, Wait::Loading(None)),
            (504, true, Wait::Usual),
            (429, true, Wait::Usual),
            (503, false, Wait::Usual),
        ] {
            let asked = Asked { is_local, ..asked("x", "", &[]) };
            assert_eq!(asked.refused(status, "", None).wait, wait, "{status} {is_local}");
        }
        let longer = asked("x", "", &[]).refused(429, "try again in 6s", Some(Duration::from_secs(9)));
        assert_eq!(longer.wait, Wait::For(Duration::from_secs(9)));
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn too_long_is_known_by_words_or_by_two_numbers() {
        let conversation = said("word ".repeat(1300));
        for (status, body, class) in [
            (400, "The decoder prompt (length 5300) is longer than the maximum model length of 4096.", Class::TooLong),
            (400, r#"{"error":{"code":"1261","message":"Prompt too long"}}"#, Class::TooLong),
            (400, "input length and max_tokens exceed context limit: 3000 + 16384 > 16000", Class::TooLong),
            (400, "litellm.ContextWindowExceededError: litellm.BadRequestError: Context Window exceeded for given call", Class::TooLong),
            (400, "Trying to keep the first 4532 tokens when context the overflows.", Class::TooLong),
            (400, "The input token count (1500) exceeds the maximum number of tokens allowed (1000).", Class::TooLong),
            (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1024. Given: 1400", Class::TooLong),
            (400, "ValidationException: Input is too long for requested model.", Class::TooLong),
            (200, r#"{"error":{"message":"This model's maximum context length is 1024 tokens"}}"#, Class::TooLong),
            (400, "You passed 1,301 input tokens, and the model takes 1,024.", Class::TooLong),
            (413, "too many tokens (2048 of 1024)", Class::TooLong),
            (400, "Invalid request: Your request exceeded model token limit: 8192", Class::TooLong),
            (400, r#"{"code":"InvalidParameter","message":"Range of input length should be [1, 30720]"}"#, Class::TooLong),
            (413, r#"{"error":{"code":"tokens_limit_reached","message":"Request body too large for gpt-4o model. Max size: 8000 tokens."}}"#, Class::TooLong),
            (400, r#"{"error":{"message":"prompt token count of 70000 exceeds the limit of 64000","code":"model_max_prompt_tokens_exceeded"}}"#, Class::TooLong),
            (400, r#"{"error":{"message":"Invalid 'messages[1].content': string too long.","code":"string_above_max_length"}}"#, Class::TooLong),
            (400, "Prompt length 5000 is greater than max_seq_len 4096", Class::TooLong),
            (500, "Prompt length (5000) exceeds maximum input length (4096). Set log level to info", Class::TooLong),
            (200, r#"{"base_resp":{"status_code":2013,"status_msg":"invalid params, context window exceeds limit (2013)"}}"#, Class::TooLong),
            (422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 1400", Class::TooLong),
            (400, "too many tokens: total number of tokens in the prompt cannot exceed 1000 - received 1500", Class::TooLong),
            (400, "the string is too long for a name", Class::Never),
            (400, "the request uses 1024 tokens, 2 are free", Class::Never),
            (400, "tokens 99999999 and 5000", Class::Never),
            (400, "expected 1301, got 1024", Class::Never),
            (401, "tokens 1301 of 1024", Class::Never),
            (429, "rate limit: 1301 tokens of 1024 per minute", Class::Again),
            (400, "max_tokens: 1301 > 1024 tokens", Class::Never),
        ] {
            let error = asked("x", "", &conversation).refused(status, body, None);
            assert_eq!(error.class, class, "{body}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn too_long_is_told_from_rates_and_other_limits() {
        for (status, body, class) in [
            (500, r#"{"error":{"code":500,"message":"context shift is disabled"}}"#, Class::TooLong),
            (500, "Requested tokens (5000) exceed context window of 4096", Class::TooLong),
            (400, "Too many input tokens. Max input tokens: 8192, request input token count: 9000", Class::TooLong),
            (400, "Context size has been exceeded.", Class::TooLong),
            (400, "Reached context length of 4096 tokens with model (arch: llama) that does not currently support mid-generation context overflow.", Class::TooLong),
            (400, "Input token length too long", Class::TooLong),
            (400, r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#, Class::TooLong),
            (400, r#"{"error_code":336007,"error_msg":"prompt tokens too long"}"#, Class::TooLong),
            (400, "Total tokens of image and text exceed max message tokens.", Class::TooLong),
            (400, "AiError: The estimated number of input and maximum output tokens (9000) exceeded this model context window limit (7968).", Class::TooLong),
            (400, r#"{"code":20015,"message":"length of prompt_tokens (35000) must be less than max_seq_len (32768)."}"#, Class::TooLong),
            (400, "You passed 4097 input tokens and requested 0 output tokens. However, the model's context length is only 4096 tokens", Class::TooLong),
            (400, "Request length 5000 is greater than cache_size 4096", Class::TooLong),
            (400, "Prompt has 5,958,968 tokens, but the configured context size is 256,000 tokens", Class::TooLong),
            (400, "Error code: 1210 - tokens in request more than max tokens allowed", Class::TooLong),
            (400, "Input length 131393 exceeds the maximum allowed input length of 131040 tokens.", Class::TooLong),
            (400, "Request prompt has 5000 tokens in total, larger than the model input length limit 4096.", Class::TooLong),
            (422, r#"{"detail":[{"loc":["body","messages",0,"content"],"msg":"messages: at most 20480 characters"}]}"#, Class::TooLong),
            (503, "litellm.MidStreamFallbackError: Requested token count exceeds the model's maximum context length of 131072 tokens.", Class::TooLong),
            (400, "上下文过长", Class::TooLong),
            (429, r#"{"error":{"message":"Quota exceeded for metric: free_tier_input_token_count, limit: 250000"}}"#, Class::Again),
            (429, "Throttling error: Too many tokens, please wait before trying again.", Class::Again),
            (500, "context deadline exceeded", Class::Again),
            (422, r#"{"detail":[{"loc":["body","temperature"],"msg":"Input should be less than or equal to 2","input":"a prompt that is too long"}]}"#, Class::Never),
            (400, "Input should be less than or equal to 4096 (max_tokens)", Class::Never),
            (400, "The maximum tokens you requested exceeds the model limit of 4096.", Class::Never),
            (400, "messages.0.content.1.image: image exceeds 5 MB maximum", Class::Never),
        ] {
            let error = asked("x", "", &[]).refused(status, body, None);
            assert_eq!(error.class, class, "{body}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn a_class_is_known_by_words_whatever_the_status() {
        const MONEY: &str = "look at the account";
        const KEY: &str = "correct api_key";
        const FILTER: &str = "a content filter";
        for (status, body, class, advice) in [
            (429, "Your team has used all available credits or reached its monthly spending limit.", Class::Never, MONEY),
            (403, r#"{"code":"permission-denied","error":"Your newly created teams doesn't have any credits yet."}"#, Class::Never, MONEY),
            (400, r#"{"error":{"code":"Arrearage","message":"Access denied"}}"#, Class::Never, MONEY),
            (403, r#"{"error":{"message":"用户额度不足","code":"insufficient_user_quota"}}"#, Class::Never, MONEY),
            (403, "Key limit exceeded (total limit).", Class::Never, MONEY),
            (403, r#"{"code":30001,"message":"Sorry, your account balance is insufficient"}"#, Class::Never, MONEY),
            (400, r#"{"error":{"code":"billing_hard_limit_reached"}}"#, Class::Never, MONEY),
            (412, "Account x is suspended: unpaid invoices", Class::Never, MONEY),
            (200, r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#, Class::Never, MONEY),
            (200, r#"{"base_resp":{"status_code":1004,"status_msg":"login fail: Please carry the API secret key"}}"#, Class::Never, KEY),
            (500, "litellm.AuthenticationError: Incorrect API key provided", Class::Never, KEY),
            (400, r#"{"error":{"message":"API key expired.","details":[{"reason":"API_KEY_INVALID"}]}}"#, Class::Never, KEY),
            (403, "Method doesn't allow unregistered callers. Please use API Key", Class::Never, KEY),
            (400, "Missing or invalid Authorization header.", Class::Never, KEY),
            (403, "Invalid authentication credentials", Class::Never, KEY),
            (200, r#"{"error":{"code":"invalid_token"}}"#, Class::Never, KEY),
            (407, "Proxy authentication required", Class::Never, "look at default_model"),
            (400, r#"{"error":{"code":"data_inspection_failed","message":"Input data may contain inappropriate content."}}"#, Class::Filtered, FILTER),
            (400, "Output blocked by content filtering policy", Class::Filtered, FILTER),
            (403, r#"{"error":"Content violates usage guidelines. Team: x"}"#, Class::Filtered, FILTER),
            (400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", Class::Filtered, FILTER),
            (400, r#"{"error":{"message":"Rejected as a result of our safety system.","code":"moderation_blocked"}}"#, Class::Filtered, FILTER),
            (400, r#"{"error":{"code":"InputTextSensitiveContentDetected"}}"#, Class::Filtered, FILTER),
            (200, r#"{"base_resp":{"status_code":1026,"status_msg":"input new_sensitive"}}"#, Class::Filtered, FILTER),
            (400, r#"{"contentFilter":[{"level":1,"role":"user"}],"error":{"code":"1301","message":"x"}}"#, Class::Filtered, FILTER),
            (500, r#"{"error":{"message":"litellm.ContentPolicyViolationError: blocked"}}"#, Class::Filtered, FILTER),
            (500, "OSError: exception: access violation reading 0x00", Class::Again, "cannot answer now"),
            (404, "No endpoints available matching your guardrail restrictions", Class::Never, "default_model"),
            (400, "Model names are case sensitive", Class::Never, "default_model"),
            (498, "Flex tier", Class::Again, "cannot answer now"),
            (424, r#"{"error":"Request failed during generation","error_type":"generation"}"#, Class::Again, "cannot answer now"),
            (400, r#"{"__type":"ThrottlingException","message":"Too many requests"}"#, Class::Again, "cannot answer now"),
            (200, r#"{"status":"449","msg":"You exceeded your current rate limit","body":null}"#, Class::Again, "cannot answer now"),
            (400, r#"{"error":{"message":"Tool choice is none, but model called a tool","code":"tool_use_failed"}}"#, Class::Again, "cannot answer now"),
            (400, "Model is overloaded. Please try again later", Class::Again, "cannot answer now"),
            (400, r#"{"error":"Model unloaded."}"#, Class::Again, "cannot answer now"),
            (400, r#"{"error":{"message":"","code":"unsupported_x"}}"#, Class::Never, "unsupported_x"),
            (429, r#"{"error":{"message":"Provider returned error","metadata":{"raw":"limited upstream"}}}"#, Class::Again, "limited upstream"),
            (500, r#"{"error":{"message":"model requires more system memory (5.5 GiB) than is available (3.1 GiB)"}}"#, Class::Never, "cannot load the model"),
            (500, "llama runner process has terminated: error loading model: unknown model architecture: 'x'", Class::Never, "cannot load the model"),
            (503, r#"{"error":{"code":"model_not_found","message":"No available channel"}}"#, Class::Never, "default_model"),
            (200, r#"{"status":"435","msg":"Model not support","body":null}"#, Class::Never, "default_model"),
            (200, r#"{"errors":[{"code":7003,"message":"Could not route"}],"success":false}"#, Class::Again, "Could not route"),
        ] {
            let error = asked("x", "", &[]).refused(status, body, None);
            let line = error.to_string();
            assert!(error.class == class && line.contains(advice), "{body}: {line}");
        }
    }

    #[test]
    fn errors_that_look_like_answers_are_known() {
        for (json, error) in [
            (r#"{"error":null}"#, false),
            (r#"{"error":""}"#, false),
            (r#"{"error":{}}"#, false),
            (r#"{"error":"no"}"#, true),
            (r#"{"object":"error"}"#, true),
            (r#"{"type":"error"}"#, true),
            (r#"[{"error":{"code":1}}]"#, true),
            (
                r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"},"choices":null}"#,
                true,
            ),
            (r#"{"base_resp":{"status_code":0},"choices":[]}"#, false),
            (r#"{"code":"1261","message":"Prompt too long"}"#, true),
            (r#"{"code":0,"choices":[]}"#, false),
            (r#"{"detail":"Not authenticated"}"#, true),
            (
                r#"{"errors":[{"message":"no"}],"success":false,"result":null}"#,
                true,
            ),
            (
                r#"{"status":"435","msg":"Model not support","body":null}"#,
                true,
            ),
            (r#"{"error_code":336003,"error_msg":"too long"}"#, true),
            (r#"{"success":false,"message":"no"}"#, true),
            (r#"{"errors":[],"message":"queued"}"#, false),
            (r#"{"status":"processing","message":"queued"}"#, false),
            (r#"{"status":200,"msg":"ok"}"#, false),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(is_error(&value), error, "{json}");
        }
    }

    #[test]
    fn an_error_names_a_parameter_only_as_a_word() {
        for (said, parameter, named) in [
            (
                "Unsupported value: 'temperature' does not support 0.7",
                "temperature",
                true,
            ),
            (
                "`temperature` is deprecated for this model",
                "temperature",
                true,
            ),
            (r#"{"param":"stream"}"#, "stream", true),
            ("upstream error", "stream", false),
            ("stream_options is unknown", "stream", false),
            ("bad request", "temperature", false),
        ] {
            assert_eq!(names_word(said, parameter), named, "{said}");
        }
    }
}
