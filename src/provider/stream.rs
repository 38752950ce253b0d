//! The body of a response → an answer: one accumulator for every API, streamed or whole. It is pure,
//! and what it says at the end decides, not the first sign on the way.

use serde_json::Value;

use super::error::is_error;
use super::lenient::{self, Brackets, Glue};
use super::shown::{News, Shown};
use super::sse::{Decoder, Event};

/// How the body came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As HTTP has it, or because nothing more was waited for.
    Clean,
    /// The connection broke, or less came than was promised.
    Broken,
}

/// What the body was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer; `cut`: the model stopped at its length limit.
    Answer { cut: bool },
    /// The model wants to go on where it stopped.
    Paused,
    /// Nothing for the reader; `thought`: all there was is reasoning.
    Empty { thought: bool },
    /// The length limit was reached before the answer began.
    EmptyCut,
    /// A content filter stopped it.
    Filtered,
    /// The model declined.
    Refused,
    /// The server's own error, as JSON or text.
    Error(String),
    /// The server says that it broke the answer off, or it just did.
    BrokenOff,
    /// Something in the stream is no JSON: this.
    NotJson(String),
    /// It is JSON, and of something else.
    NotChat,
    /// It is no JSON at all, such as a page for people.
    Page(String),
}

/// Everything that is known at the end of a body.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// The answer, as far as it came.
    pub(super) text: String,
    /// What of it was not handed on yet.
    pub(super) news: News,
}

/// What reasons for a stop have in their names, in lower case.
const CUT: &[&str] = &["length", "max_", "limit", "context_window"];
const FILTERED: &[&str] = &[
    "filter",
    "safety",
    "prohibited",
    "blocklist",
    "recitation",
    "sensitive",
    "spii",
    "guardrail",
    "moderation",
    "policy",
];
const BROKEN_OFF: &[&str] = &[
    "error",
    "insufficient_system_resource",
    "abort",
    "cancel",
    "unavailable",
    "fail",
    "timeout",
];

/// A body as far as it has come.
#[derive(Default)]
pub(super) struct Stream {
    decoder: Decoder,
    shown: Shown,
    glue: Glue,
    /// The text of whole messages, used where no delta brought any.
    whole: String,
    has_deltas: bool,
    /// Why the model stopped, in the API's words in lower case; empty: it has not, or did not say.
    finish: String,
    /// Text came after a finish: this server does not mean it.
    finish_lies: bool,
    /// The role of what comes is the assistant's.
    is_ours: bool,
    thought: bool,
    refused: bool,
    /// Something was part of an answer.
    is_chat: bool,
    /// Some JSON was part of none.
    has_other: bool,
    done: bool,
    error: Option<String>,
    not_json: Option<String>,
    sources: Sources,
    tokens: (Option<u64>, Option<u64>),
}

impl Stream {
    /// `name` and `unopened` as for `Shown::new`.
    pub(super) fn new(name: &str, unopened: bool) -> Stream {
        Stream {
            shown: Shown::new(name, unopened),
            is_ours: true,
            ..Stream::default()
        }
    }

    /// Takes the next bytes; true: some of them were content, so the model is at work.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut events = Vec::new();
        self.decoder.feed(bytes, &mut events);
        let mut alive = false;
        for event in events {
            alive |= self.event(&event);
        }
        alive
    }

    /// Nothing that could follow would change what the body is.
    pub(super) fn is_over(&self) -> bool {
        let is_lost = self.not_json.is_some() && !self.has_ended();
        self.done || self.error.is_some() || is_lost || self.shown.overflows
    }

    /// There is an answer, and the model said that it stopped. Until text comes all the same.
    fn has_ended(&self) -> bool {
        let has_text = !self.shown.raw().is_empty() || !self.whole.is_empty();
        self.has_finish() && !self.finish_lies && has_text
    }

    /// The model said that it stopped; more may follow.
    pub(super) fn has_finish(&self) -> bool {
        !self.finish.is_empty()
    }

    /// What is new about the answer.
    pub(super) fn news(&mut self) -> News {
        self.shown.news()
    }

    /// The raw text so far, for a model that goes on from it.
    pub(super) fn raw(&self) -> &str {
        self.shown.raw()
    }

    /// Whether reasoning ended that had no opening mark.
    pub(super) fn is_unopened(&self) -> bool {
        self.shown.unopened
    }

    /// Tokens of the prompt and of the answer.
    pub(super) fn tokens(&self) -> Option<(u64, u64)> {
        self.tokens.0.zip(self.tokens.1)
    }

    /// The line of sources that belongs under the answer; empty: none were named.
    pub(super) fn sources(&self) -> String {
        self.sources.line()
    }

    /// Says what the body was. The stream may go on with another body after `Outcome::Paused`.
    pub(super) fn end(&mut self, end: End) -> Ended {
        let (events, stray) = std::mem::take(&mut self.decoder).end();
        for event in events {
            self.event(&event);
        }
        let whole = std::mem::take(&mut self.whole);
        if !std::mem::take(&mut self.has_deltas) {
            self.shown.push(&whole);
        }
        let rest = self.glue.end();
        self.shown.push(&rest);
        let (text, news) = match self.finish.as_str() {
            // The next body goes on where this one stops.
            "pause_turn" => (String::new(), self.shown.news()),
            _ => self.shown.end(),
        };
        let outcome = self.outcome(end, stray, text.is_empty());
        self.done = false;
        if outcome == Outcome::Paused {
            self.finish.clear();
        }
        Ended {
            outcome,
            text,
            news,
        }
    }

    fn outcome(&mut self, end: End, stray: String, is_empty: bool) -> Outcome {
        let has_end = self.done || (self.has_finish() && !self.finish_lies);
        if let Some(error) = self.error.take() {
            return Outcome::Error(error);
        }
        if let Some(text) = self.not_json.take().filter(|_| !has_end) {
            return Outcome::NotJson(text);
        }
        if !self.is_chat {
            return match stray.trim() {
                _ if self.done => Outcome::Empty { thought: false },
                "" if self.has_other => Outcome::NotChat,
                "" => Outcome::BrokenOff,
                _ => Outcome::Page(stray),
            };
        }
        if !has_end && !stray.trim().is_empty() {
            return Outcome::NotJson(stray);
        }
        if !has_end && end == End::Broken {
            return Outcome::BrokenOff;
        }
        let said = |words: &[&str]| words.iter().any(|word| self.finish.contains(word));
        if said(FILTERED) {
            return Outcome::Filtered;
        }
        if said(&["refus"]) {
            return Outcome::Refused;
        }
        if said(BROKEN_OFF) {
            return Outcome::BrokenOff;
        }
        if self.finish == "pause_turn" && !self.shown.raw().trim().is_empty() {
            return Outcome::Paused;
        }
        let cut = said(CUT) || self.shown.overflows;
        match (is_empty, self.refused) {
            (false, _) => Outcome::Answer { cut },
            (true, true) => Outcome::Refused,
            (true, false) if cut || self.shown.is_within() => Outcome::EmptyCut,
            (true, false) => Outcome::Empty {
                thought: self.thought,
            },
        }
    }

    /// Takes one event; true: it was content.
    fn event(&mut self, event: &Event) -> bool {
        let data = event.data.trim();
        if data.is_empty() || self.is_over() || is_ping(&event.name) || is_ping(data) {
            return false;
        }
        if is_done(data) {
            self.done = true;
            return false;
        }
        if event.name == "error" {
            self.fail(data);
            return false;
        }
        if let Some(json) = lenient::parse(data) {
            return self.json(&json);
        }
        let mut alive = false;
        for document in documents(data) {
            if is_done(document) {
                self.done = true;
            } else if let Some(json) = lenient::parse(document) {
                alive |= self.json(&json);
            } else {
                self.not_json.get_or_insert_with(|| data.to_owned());
            }
        }
        alive
    }

    fn json(&mut self, json: &Value) -> bool {
        if let Some(items) = json.as_array() {
            return items
                .iter()
                .fold(false, |alive, item| self.json(item) | alive);
        }
        // Encoded once too often.
        if let Some(inner) = json.as_str().and_then(lenient::parse)
            && inner.is_object()
        {
            return self.json(&inner);
        }
        // In a gateway's envelope, beside its own code and message.
        let mut inside = ["data", "result"].iter().map(|name| &json[*name]);
        if let Some(inner) = inside.find(|inner| inner.get("choices").is_some()) {
            return self.json(inner);
        }
        if is_error(json) {
            self.fail(&json.to_string());
            return false;
        }
        if let Some(choices) = json.get("choices") {
            self.is_chat = true;
            self.count(&json["usage"]);
            self.sources.take_list(json);
            return self.choices(choices);
        }
        match json["type"].as_str() {
            Some(kind) => self.typed(kind, json),
            None => {
                self.has_other = true;
                false
            }
        }
    }

    /// An error in place of the rest of an answer. After an answer that ended it says nothing.
    fn fail(&mut self, error: &str) {
        if self.has_ended() {
            self.done = true;
        } else {
            self.error = Some(error.to_owned());
        }
    }

    /// Of several choices only the first is the answer.
    fn choices(&mut self, choices: &Value) -> bool {
        let mut alive = false;
        let alone = std::slice::from_ref(choices);
        let choices = choices.as_array().map_or(alone, Vec::as_slice);
        for (at, choice) in choices.iter().enumerate() {
            let index = match &choice["index"] {
                Value::String(text) => text.parse().ok(),
                number => number.as_u64(),
            };
            if index.unwrap_or(at as u64) == 0 {
                alive |= self.choice(choice);
            }
        }
        alive
    }

    fn choice(&mut self, choice: &Value) -> bool {
        if is_error(choice) {
            self.fail(&choice.to_string());
            return false;
        }
        let (delta, message) = (&choice["delta"], &choice["message"]);
        let mut alive = self.part(delta);
        let content = match delta {
            Value::String(text) => text.clone(),
            delta => text_of(&delta["content"]),
        };
        alive |= self.push(&content);
        if message.is_object() {
            alive |= self.part(message);
            self.take_whole(&text_of(&message["content"]), reason(choice));
        } else if !delta.is_object() {
            alive |= self.push(&text_of(&choice["text"]));
        }
        self.stop(reason(choice));
        alive
    }

    /// What a delta and a whole message have in common besides their text.
    fn part(&mut self, part: &Value) -> bool {
        if let Some(role) = part["role"].as_str().filter(|role| !role.is_empty()) {
            let role = role.to_ascii_lowercase();
            self.is_ours = role == "assistant" || role == "model";
        }
        self.refused |= part["refusal"].as_str().is_some_and(|why| !why.is_empty());
        for annotation in part["annotations"].as_array().into_iter().flatten() {
            let citation = annotation.get("url_citation").unwrap_or(annotation);
            self.sources.add(&citation["url"]);
        }
        let is_something = |value: &Value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            value => value.is_object(),
        };
        let mut fields = part.as_object().into_iter().flatten();
        let thinks = fields.any(|(name, value)| {
            let is_thinking = ["reason", "think", "thought"]
                .iter()
                .any(|word| name.contains(word));
            is_thinking && is_something(value)
        });
        self.thought |= thinks;
        thinks
    }

    /// Anthropic's events and messages.
    fn typed(&mut self, kind: &str, json: &Value) -> bool {
        let delta = &json["delta"];
        match (kind, delta["type"].as_str()) {
            ("message_start", _) => self.count(&json["message"]["usage"]),
            ("content_block_start", _) => {
                self.is_chat = true;
                return self.block(&json["content_block"], true);
            }
            ("content_block_delta", Some("citations_delta")) => {
                self.sources.add(&delta["citation"]["url"]);
            }
            ("content_block_delta", Some("text_delta" | "text") | None) => {
                self.is_chat = true;
                return self.push(&text_of(&delta["text"]));
            }
            // Thinking, its signature, the input of a tool: a sign of life, not shown.
            ("content_block_delta", Some(kind)) => {
                self.thought |= kind.contains("thinking");
                self.is_chat = true;
                return true;
            }
            ("message_delta", _) => {
                self.stop(&delta["stop_reason"]);
                self.count(&json["usage"]);
            }
            ("message_stop", _) => self.done = true,
            ("message", _) => {
                self.count(&json["usage"]);
                for block in json["content"].as_array().into_iter().flatten() {
                    self.block(block, false);
                }
                self.take_whole(&text_of(&json["content"]), &json["stop_reason"]);
                self.stop(&json["stop_reason"]);
            }
            ("content_block_stop", _) => {}
            ("ping", _) => return false,
            _ => {
                self.has_other = true;
                return false;
            }
        }
        self.is_chat = true;
        false
    }

    /// A block of an Anthropic message; `streamed`: the first text of one that comes in pieces.
    fn block(&mut self, block: &Value, streamed: bool) -> bool {
        for citation in block["citations"].as_array().into_iter().flatten() {
            self.sources.add(&citation["url"]);
        }
        let kind = block["type"].as_str().unwrap_or_default();
        self.thought |= kind.contains("thinking");
        streamed && kind == "text" && self.push(&text_of(&block["text"]))
    }

    fn push(&mut self, text: &str) -> bool {
        if text.is_empty() || !self.is_ours {
            return false;
        }
        self.finish_lies |= self.has_finish();
        self.has_deltas |= !text.trim().is_empty();
        let text = self.glue.join(text);
        self.shown.push(&text);
        true
    }

    /// The text of a whole message: the same again, more of it, or the next piece. `reason`: why the
    /// model stopped, if it did.
    fn take_whole(&mut self, text: &str, reason: &Value) {
        /// A piece that is repeated by chance is shorter.
        const REPEATED: usize = 40;
        // The event that tells the end may tell all of the text once more.
        let is_repeated =
            text.len() >= REPEATED || (!self.has_finish() && !stop_reason(reason).is_empty());
        if !self.is_ours || (text == self.whole && is_repeated) {
            return;
        }
        if text.len() > self.whole.len() && text.starts_with(&self.whole) {
            self.whole.clear();
        }
        let text = self.glue.join(text);
        self.whole.push_str(&text);
    }

    fn stop(&mut self, reason: &Value) {
        let reason = stop_reason(reason);
        if !reason.is_empty() {
            self.finish = reason;
        }
    }

    fn count(&mut self, usage: &Value) {
        let number = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
        self.tokens.0 = number(["prompt_tokens", "input_tokens"]).or(self.tokens.0);
        self.tokens.1 = number(["completion_tokens", "output_tokens"]).or(self.tokens.1);
    }
}

/// The text of a content: a text, an object with one, or parts of which some are text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        // Gateways that take each piece for JSON make a number of "4".
        Value::Number(number) => number.to_string(),
        Value::Object(fields) => {
            let kind = content["type"].as_str();
            if !matches!(kind, None | Some("text" | "output_text")) || content["thought"] == true {
                return String::new();
            }
            let mut names = ["text", "value", "content", "parts"].iter();
            let inner = names.find_map(|name| fields.get(*name));
            inner.map(text_of).unwrap_or_default()
        }
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        _ => String::new(),
    }
}

/// A sign of life in the place of an event, perhaps a comment that a gateway took for data.
fn is_ping(text: &str) -> bool {
    let word = text.trim_matches(['[', ']', '"']).to_ascii_lowercase();
    text.starts_with(':')
        || ["ping", "heartbeat", "keepalive", "keep-alive"].contains(&word.as_str())
}

fn is_done(data: &str) -> bool {
    let word = data.trim_matches(['"', '[', ']', ' ']);
    word.eq_ignore_ascii_case("done")
}

/// Where a choice says why the model stopped.
fn reason(choice: &Value) -> &Value {
    let names = ["finish_reason", "finishReason", "finish_details"];
    let mut reasons = names.iter().map(|name| &choice[*name]);
    reasons
        .find(|reason| !reason.is_null())
        .unwrap_or(&choice["finish_reason"])
}

/// Why the model stopped, in lower case; empty: it did not.
fn stop_reason(reason: &Value) -> String {
    let reason = match reason {
        Value::String(reason) => reason.trim().to_lowercase(),
        Value::Object(fields) if fields.contains_key("type") => {
            return stop_reason(&reason["type"]);
        }
        Value::Object(_) | Value::Number(_) | Value::Bool(true) => "stop".to_owned(),
        _ => String::new(),
    };
    match reason.as_str() {
        "null" | "none" | "undefined" => String::new(),
        _ => reason,
    }
}

/// The JSON documents that stand one after the other in `data`.
fn documents(data: &str) -> Vec<&str> {
    let (mut documents, mut rest) = (Vec::new(), data);
    while let Some(end) = Brackets::first_end(rest) {
        let (document, after) = rest.split_at(end);
        documents.push(document);
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        rest = rest.strip_prefix("data:").unwrap_or(rest).trim_start();
    }
    if !rest.is_empty() || documents.is_empty() {
        documents.push(rest);
    }
    documents
}

/// The pages that an answer is based on.
#[derive(Default)]
struct Sources {
    /// Numbered by the server: an answer may name the numbers.
    list: Vec<String>,
    /// In the order in which they were named.
    named: Vec<String>,
}

impl Sources {
    /// The most sources that are shown, and the most characters of each.
    const SHOWN: usize = 20;
    const LENGTH: usize = 100;

    /// Perplexity's `citations`, which every chunk repeats.
    fn take_list(&mut self, json: &Value) {
        let lists = [&json["citations"], &json["search_results"]];
        let Some(list) = lists
            .iter()
            .find_map(|list| list.as_array().filter(|list| !list.is_empty()))
        else {
            return;
        };
        let urls = list.iter().map(|item| item.get("url").unwrap_or(item));
        self.list = urls
            .map(|url| url.as_str().unwrap_or_default().to_owned())
            .collect();
    }

    fn add(&mut self, url: &Value) {
        if let Some(url) = url.as_str()
            && !self.named.iter().any(|named| named == url)
            && self.named.len() < Self::SHOWN
        {
            self.named.push(url.to_owned());
        }
    }

    /// `Sources: [1] host/path …`; a source without a readable URL is left out.
    fn line(&self) -> String {
        let sources = if self.list.is_empty() {
            &self.named
        } else {
            &self.list
        };
        let mut line = String::new();
        for (at, url) in sources.iter().enumerate().take(Self::SHOWN) {
            let url = url.split(['?', '#']).next().unwrap_or_default();
            let plain = url
                .split_once("://")
                .map_or("", |(_, rest)| rest)
                .trim_end_matches('/');
            let is_readable =
                |c: char| !c.is_whitespace() && !c.is_control() && !"<>`*[]()|@".contains(c);
            if !plain.is_empty() && plain.chars().all(is_readable) {
                let plain: String = plain.chars().take(Self::LENGTH).collect();
                line += &format!(" [{}] {plain}", at + 1);
            }
        }
        if line.is_empty() {
            line
        } else {
            format!("Sources:{line}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What the pieces of a body come to; what was heard on the way is the answer.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, end: End) -> String {
        let mut stream = Stream::new("", false);
        let mut heard = String::new();
        let mut hear = |news: News| {
            if news.start_over {
                heard.clear();
            }
            heard += &news.text;
        };
        for piece in pieces {
            stream.feed(piece);
            hear(stream.news());
            if stream.is_over() {
                break;
            }
        }
        let ended = stream.end(end);
        hear(ended.news);
        let sources = stream.sources();
        if ended.outcome == (Outcome::Answer { cut: false }) {
            assert_eq!(heard, ended.text, "what was heard is the answer");
        }
        match ended.outcome {
            Outcome::Answer { cut } => {
                let cut = if cut { " (cut)" } else { "" };
                let line = if sources.is_empty() {
                    String::new()
                } else {
                    format!("\n{sources}")
                };
                format!("{}{cut}{line}", ended.text)
            }
            other => {
                let name = format!("{other:?}");
                let word = name.split(['(', '{']).next().unwrap_or_default().trim();
                format!("<{word}>")
            }
        }
    }

    /// Whole, byte by byte, and in pieces of seven bytes: always the same.
    fn outcome_of(body: &[u8], end: End) -> String {
        let whole = read([body], end);
        for size in [1, 7] {
            assert_eq!(
                read(body.chunks(size), end),
                whole,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        whole
    }

    fn outcome(body: &str) -> String {
        outcome_of(body.as_bytes(), End::Clean)
    }

    fn event(json: Value) -> String {
        format!("data: {json}\n\n")
    }

    fn choice(choice: Value) -> String {
        event(json!({ "choices": [choice] }))
    }

    fn c(text: &str) -> String {
        choice(json!({"index": 0, "delta": {"content": text}, "finish_reason": null}))
    }

    fn with(text: &str, finish: &str) -> String {
        choice(json!({"index": 0, "delta": {"content": text}, "finish_reason": finish}))
    }

    fn finish(reason: &str) -> String {
        choice(json!({"index": 0, "delta": {}, "finish_reason": reason}))
    }

    const DONE: &str = "data: [DONE]\n\n";

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn a_finish_is_noted_and_not_acted_upon() {
        let thought = choice(json!({"delta": {"reasoning_content": "plan"}, "finish_reason": "stop"}));
        for (name, body, expected) in [
            ("in every chunk", with("The backup ", "stop") + &with("runs at 02:00 ", "stop") + &with("every night.", "stop") + DONE, "The backup runs at 02:00 every night."),
            ("in every chunk, without DONE", with("a ", "stop") + &with("b", "stop"), "a b"),
            ("in reasoning first", thought.clone() + &with("a ", "stop") + &with("b", "stop") + DONE, "a b"),
            ("before the text", finish("stop") + &c("a") + DONE, "a"),
            ("the text null", with("a ", "null") + &with("b", "null") + DONE, "a b"),
            ("the text None", with("a ", "None") + &with("b", "none") + DONE, "a b"),
            ("an empty text", with("a ", "") + &with("b", "") + DONE, "a b"),
            ("an unknown word", c("a") + &finish("eos_token"), "a"),
            ("the last one counts", with("a ", "stop") + &with("b", "length") + DONE, "a b (cut)"),
            ("in capitals", c("a") + &finish("MAX_TOKENS"), "a (cut)"),
            ("the text undefined", with("a ", "undefined") + &with("b", "undefined") + DONE, "a b"),
            ("a flag in every chunk", choice(json!({"delta": {"content": "a "}, "finish_reason": false})) + &choice(json!({"delta": {"content": "b"}, "finish_reason": true})), "a b"),
            ("in a chunk without a delta", c("a") + &choice(json!({"finish_reason": "length"})) + DONE, "a (cut)"),
            ("a filter's late verdict after it", c("a") + &finish("stop") + &choice(json!({"finish_reason": null, "content_filter_offsets": {"end_offset": 1}})) + DONE, "a"),
            ("DONE as a text", c("a") + "data: \"[DONE]\"\n\n", "a"),
            ("DONE twice, and without brackets", c("a") + "data: done\n\n" + DONE, "a"),
            ("comments after it, and no end", c("a") + &finish("stop") + ": keep-alive\n\n: keep-alive\n\n", "a"),
            ("a usage chunk after it", c("a") + &finish("stop") + &event(json!({"choices": [], "usage": {"total_tokens": 3}})), "a"),
            ("never, at a clean end", c("All ") + &c("is well."), "All is well."),
            ("never, with DONE", c("a") + DONE, "a"),
            ("nothing after DONE", c("a") + DONE + &c("b"), "a"),
            ("an error after a whole answer", c("a") + &finish("stop") + &event(json!({"error": {"message": "closed"}})), "a"),
            ("an error before the end", with("a ", "stop") + &with("b", "stop") + &event(json!({"error": {"message": "x"}})), "<Error>"),
            ("a filter", c("a") + &finish("content_filter"), "<Filtered>"),
            ("a filter by another name", c("a") + &finish("SAFETY"), "<Filtered>"),
            ("a refusal", finish("refusal"), "<Refused>"),
            ("a refusal in a field", choice(json!({"delta": {"refusal": "No."}})) + &finish("stop"), "<Refused>"),
            ("an error as the reason", c("a") + &finish("error"), "<BrokenOff>"),
            ("tools after text", c("a") + &finish("tool_calls"), "a"),
            ("Gemini's own name for it", c("a") + &choice(json!({"delta": {}, "finishReason": "MAX_TOKENS"})), "a (cut)"),
            ("details in its place", c("a") + &choice(json!({"delta": {}, "finish_details": {"type": "max_tokens"}})), "a (cut)"),
            ("an object", c("a") + &choice(json!({"delta": {}, "finish_reason": {"type": "length", "length": 9}})), "a (cut)"),
            ("an object of an abort", c("a") + &choice(json!({"delta": {}, "finish_reason": {"type": "abort", "message": "x"}})), "<BrokenOff>"),
            ("a limit by other names", c("a") + &finish("max_output_tokens") + DONE, "a (cut)"),
            ("a limit of tokens", c("a") + &finish("token_limit") + DONE, "a (cut)"),
            ("a filter and what it saw", finish("content_filter: SAFETY"), "<Filtered>"),
            ("a filter of a gateway", finish("guardrail_intervened"), "<Filtered>"),
            ("a failure by another name", c("a") + &finish("server_error"), "<BrokenOff>"),
            ("words after it", c("a") + &finish("stop") + "data: end of stream\n\n", "a"),
            ("words after it, and text", with("a ", "stop") + "data: oops\n\n" + &with("b", "stop"), "<NotJson>"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
        for (name, body, expected) in [
            ("after the finish", c("a") + &finish("stop"), "a"),
            ("after DONE", c("a") + DONE, "a"),
            ("before the finish", c("a"), "<BrokenOff>"),
            ("after finishes that did not count", with("a", "stop") + &with("b", "stop"), "<BrokenOff>"),
            ("before anything", String::new(), "<BrokenOff>"),
        ] {
            assert_eq!(outcome_of(body.as_bytes(), End::Broken), expected, "broken {name}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn no_chunk_vanishes() {
        let (done, stop) = (DONE, finish("stop"));
        let raw = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{text}}}}}]}}\n\n");
        let beside = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"score\":NaN}}]}}\n\n");
        for (name, body, expected) in [
            ("NaN", c("Do ") + &beside("not ") + &c("press it.") + &stop + done, "Do not press it."),
            ("infinity", c("a ") + &raw("\"b\",\"logprob\":-Infinity") + &stop, "a b"),
            ("a number without end", c("a ") + &raw("\"b\",\"logprob\":-1e999") + &stop, "a b"),
            ("Python's words", c("a ") + &raw("\"b\",\"logprobs\":None,\"last\":False") + &stop, "a b"),
            ("halves of a pair", raw(r#""Well done \ud83d""#) + &raw(r#""\ude00, see you""#) + done, "Well done 😀, see you"),
            ("half a pair", raw(r#""a\ud83d""#) + &c("b") + done, "a\u{fffd}b"),
            ("half a pair at the end", raw(r#""a\ud83d""#) + done, "a\u{fffd}"),
            ("a raw tab", raw("\"a\tb\"") + done, "a\tb"),
            ("a raw line end", raw("\"a\nb\"") + done, "a\nb"),
            ("a raw paragraph", raw("\"a\n\nb: c\"") + done, "a\n\nb: c"),
            ("a control character", raw("\"a\u{1}b\"") + done, "a\u{1}b"),
            ("one newline between events", c("a ").trim_end().to_owned() + "\n" + c("b").trim_end() + "\n" + done, "a b"),
            ("doubled field names", format!("data: {}", c("a ")) + &format!("data: {}", c("b")) + done, "a b"),
            ("bare JSON lines", c("a ").replace("data: ", "") + &c("b").replace("data: ", "") + done, "a b"),
            ("two documents in an event", c("a ").trim_end().to_owned() + c("b").trim_start_matches("data: ") + done, "a b"),
            ("DONE right behind", c("a").trim_end().to_owned() + "[DONE]\n\n", "a"),
            ("what is no JSON", c("a") + "data: hello\n\n" + &c("b") + done, "<NotJson>"),
            ("Python's quotes", c("a") + "data: {'choices': []}\n\n" + done, "<NotJson>"),
            ("an event cut off", c("a") + "data: {\"choi", "<NotJson>"),
            ("an event cut off in a string, and more", c("a") + "data: {\"choices\":[{\"delta\":{\"content\":\"b\n\n" + &c("c") + done, "<NotJson>"),
            ("a line of text", c("a") + "Internal Server Error", "<NotJson>"),
            ("a line of text after the end", c("a") + &stop + "Bye", "a"),
            ("pings as data", c("a ") + "data: ping\n\ndata: [KEEPALIVE]\n\ndata: : PROCESSING\n\n" + &c("b") + done, "a b"),
            ("markup behind a whole answer", json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}).to_string() + "<br>", "a"),
            ("pings that are no JSON", c("a ") + "event: ping\ndata: 12:00\n\n" + "data:\n\n" + &c("b") + done, "a b"),
            ("unknown fields", c("a ") + "x-time: 12\n" + &c("b") + done, "a b"),
            ("a number as the content", c("It is ") + &raw("4") + &c(".") + done, "It is 4."),
            ("one choice that stands in no array", c("a ") + &event(json!({"choices": {"delta": {"content": "b"}}})) + done, "a b"),
            ("a chunk as a text", c("a ") + &event(json!(json!({"choices": [{"delta": {"content": "b"}}]}).to_string())) + done, "a b"),
            ("a field name that is indented", c("a ") + " " + &c("b") + done, "a b"),
            ("a field name in capitals", c("a ") + &c("b").replace("data", "Data") + done, "a b"),
            ("two events in a line", c("a ").trim_end().to_owned() + &c("b") + done, "a b"),
            ("an array over many lines", format!("[{},\r\n{}\n]", c("a ").replace("data: ", "").trim(), c("b").replace("data: ", "").trim()), "a b"),
            ("a mark of the byte order in each event", format!("\u{feff}{}\u{feff}{}", c("a "), c("b")) + done, "a b"),
            ("an array of chunks", format!("data: [{}]\n\n", c("a").trim_start_matches("data: ").trim()) + done, "a"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
        let bytes = [&b"data: {\"choices\":[{\"delta\":{\"content\":\"gr\xc3\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\xbcn\"}}]}\n\n"[..]].concat();
        assert_eq!(outcome_of(&bytes, End::Clean), "grün", "half a character in each chunk");
    }

    #[test]
    fn an_event_with_a_million_documents_is_read_once() {
        assert_eq!(documents(&"{}".repeat(1_000_000)).len(), 1_000_000);
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn a_whole_message_is_taken_where_no_delta_brought_text() {
        let whole = |text: &str| json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
        let beside = |delta: Value, text: &str| json!({"choices": [{"delta": delta, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]});
        for (name, body, expected) in [
            ("after deltas", c("Hello ") + &c("world.") + &choice(whole("Hello world.")), "Hello world."),
            ("alone", choice(whole("Hello world.")), "Hello world."),
            ("twice", choice(whole("Hello world, this is a sentence of its own.")) + &choice(whole("Hello world, this is a sentence of its own.")), "Hello world, this is a sentence of its own."),
            ("again at its end", choice(json!({"message": {"content": "a"}, "finish_reason": null})) + &choice(whole("a")) + DONE, "a"),
            ("growing", choice(whole("Hello")) + &choice(whole("Hello world.")), "Hello world."),
            ("in pieces", choice(whole("ha")) + &choice(whole("ha")) + &choice(whole("!")), "haha!"),
            ("beside each delta, its text", choice(json!({"delta": {"content": "a "}, "message": {"content": "a "}})) + &choice(json!({"delta": {"content": "b"}, "message": {"content": "b"}})) + DONE, "a b"),
            ("beside each delta, all so far", choice(json!({"delta": {"content": "a "}, "message": {"content": "a "}})) + &choice(json!({"delta": {"content": "b"}, "message": {"content": "a b"}})) + DONE, "a b"),
            ("after reasoning", choice(json!({"delta": {"reasoning_content": "x"}})) + &choice(whole("a")), "a"),
            ("a message that is null", choice(json!({"delta": {"content": "a"}, "message": null})) + DONE, "a"),
            ("after blank deltas", c("") + &c(" ") + &choice(whole("a")), "a"),
            ("beside an empty delta", beside(json!({}), "a").to_string(), "a"),
            ("beside a null delta", beside(json!(null), "a").to_string(), "a"),
            ("beside a null content", beside(json!({"content": null}), "a").to_string(), "a"),
            ("plain", json!({"choices": [whole("a")]}).to_string(), "a"),
            ("plain, over many lines", format!("\n\n{:#}\n", json!({"choices": [whole("a\n\nb")]})), "a\n\nb"),
            ("as text", json!({"choices": [{"text": "a", "index": 0, "finish_reason": "stop"}]}).to_string(), "a"),
            ("as text, streamed", choice(json!({"text": "a ", "index": 0})) + &choice(json!({"text": "b"})) + DONE, "a b"),
            ("cut", json!({"choices": [{"message": {"content": "a"}, "finish_reason": "length"}]}).to_string(), "a (cut)"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn only_the_first_choice_of_the_assistant_is_the_answer() {
        let at = |index: Value, text: &str| choice(json!({"index": index, "delta": {"content": text}}));
        let role = |role: Value, text: Value| choice(json!({"delta": {"role": role, "content": text}}));
        let two = event(json!({"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "x"}}]}));
        for (name, body, expected) in [
            ("another index between", at(json!(0), "a ") + &at(json!(1), "x") + &at(json!(0), "b") + DONE, "a b"),
            ("an index as text", at(json!("0"), "a ") + &at(json!("1"), "x") + &at(json!(0), "b") + DONE, "a b"),
            ("without an index", two + DONE, "a"),
            ("the last index first", event(json!({"choices": [{"index": 1, "delta": {"content": "x"}}, {"index": 0, "delta": {"content": "a"}}]})) + DONE, "a"),
            ("the user's words", role(json!("user"), json!("x")) + &role(json!("assistant"), json!("a")) + DONE, "a"),
            ("a tool's words, in pieces", role(json!("tool"), json!("x")) + &c("y") + &role(json!("assistant"), json!(null)) + &c("a") + DONE, "a"),
            ("the role is null or empty", role(json!(null), json!("a ")) + &role(json!(""), json!("b")) + DONE, "a b"),
            ("an index that is null", at(json!(null), "a ") + &at(json!(2), "x") + &at(json!(null), "b") + DONE, "a b"),
            ("Gemini's word for the role", role(json!("model"), json!("a")) + DONE, "a"),
            ("a role in every chunk", role(json!("assistant"), json!("a ")) + &role(json!("assistant"), json!("b")) + DONE, "a b"),
            ("the role in capitals", role(json!("Assistant"), json!("a")) + DONE, "a"),
            ("only the user's words", role(json!("user"), json!("x")) + DONE, "<Empty>"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn a_content_has_several_shapes_and_reasoning_is_none() {
        let content = |content: Value| choice(json!({"delta": {"content": content}, "finish_reason": "stop"}));
        for (name, body, expected) in [
            ("output_text", content(json!([{"type": "output_text", "text": "Four."}])), "Four."),
            ("parts", content(json!([{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}, {"type": "text", "text": "a"}, {"type": "reference", "text": "x"}, {"type": "text", "text": "b"}])), "ab"),
            ("parts without a type", content(json!([{"text": "a"}, "b"])), "ab"),
            ("an object", content(json!({"type": "text", "text": "a"})), "a"),
            ("an object in it", content(json!([{"type": "text", "text": {"value": "a"}}])), "a"),
            ("an object with another name", content(json!({"type": "text", "content": "a"})), "a"),
            ("Gemini's parts", content(json!({"parts": [{"text": "a "}, {"text": "x", "thought": true}, {"text": "b"}]})), "a b"),
            ("an object that is reasoning", content(json!({"type": "thinking", "text": "x"})) + &c("a") + DONE, "a"),
            ("parts of reasoning by other names", content(json!([{"type": "reasoning", "text": "x"}, {"type": "summary_text", "text": "x"}, {"type": "text", "text": "a"}])), "a"),
            ("a picture", content(json!([{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "a"}])), "a"),
            ("a delta that is a text", choice(json!({"delta": "a"})) + DONE, "a"),
            ("null and absent", content(json!(null)) + &choice(json!({"delta": {}})) + &c("a") + DONE, "a"),
            ("reasoning fields", choice(json!({"delta": {"reasoning": "x", "content": null}})) + &c("a") + DONE, "a"),
            ("only reasoning", choice(json!({"delta": {"reasoning_content": "x"}})) + &finish("stop"), "<Empty>"),
            ("reasoning cut off", choice(json!({"delta": {"reasoning_content": "x"}})) + &finish("length"), "<EmptyCut>"),
            ("reasoning without an end", c("<think>hm") + &finish("stop"), "<EmptyCut>"),
            ("role only", choice(json!({"delta": {"role": "assistant"}})) + &finish("stop"), "<Empty>"),
            ("blank", c(" \n") + &finish("stop"), "<Empty>"),
            ("DONE only", DONE.to_owned(), "<Empty>"),
            ("no choices", event(json!({"choices": null})) + DONE, "<Empty>"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn errors_and_other_things_in_an_answers_place_are_known() {
        for (name, body, expected) in [
            ("an error event", c("a") + &event(json!({"error": {"code": 502, "message": "gone"}})), "<Error>"),
            ("an error as a text", json!({"error": "no"}).to_string(), "<Error>"),
            ("an error as an object", event(json!({"object": "error", "message": "no"})), "<Error>"),
            ("an error as a field", c("a") + "error: {\"message\":\"no\"}\n\n", "<Error>"),
            ("an error in a choice", c("a") + &choice(json!({"delta": {"content": ""}, "error": {"code": 502, "message": "gone"}, "finish_reason": "error"})), "<Error>"),
            ("an error beside a part of a message", json!({"choices": [{"message": {"content": "a"}, "error": {"code": 502}}]}).to_string(), "<Error>"),
            ("an error behind a whole answer", json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}).to_string() + "\n{\"error\":\"closed\"}", "a"),
            ("a gateway's envelope", json!({"code": 0, "msg": "ok", "data": {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}}).to_string(), "a"),
            ("an envelope of each chunk", event(json!({"result": {"choices": [{"delta": {"content": "a"}}]}, "success": true})) + DONE, "a"),
            ("a detail", c("a") + &event(json!({"detail": "Internal error"})), "<Error>"),
            ("an error by the event's name", c("a") + "event: error\ndata: upstream gone\n\n", "<Error>"),
            ("a bare error in a stream", c("a") + "{\"error\":{\"message\":\"no\"}}\n", "<Error>"),
            ("an array with one", json!([{"error": {"code": 503}}]).to_string(), "<Error>"),
            ("a code and a message", json!({"code": "1261", "message": "Prompt too long"}).to_string(), "<Error>"),
            ("a base_resp", json!({"base_resp": {"status_code": 1004, "status_msg": "no"}}).to_string(), "<Error>"),
            ("an error that is null", c("a").replace("{\"ch", "{\"error\":null,\"ch") + DONE, "a"),
            ("something else", json!({"status": "ok"}).to_string(), "<NotChat>"),
            ("a page", "<html>\n<body>Sign in</body>".to_owned(), "<Page>"),
            ("nothing", String::new(), "<BrokenOff>"),
            ("only comments", ": ping\n\n: ping\n\n".to_owned(), "<BrokenOff>"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn anthropics_shapes_are_understood_by_the_same_rules() {
        let event = |json: Value| format!("event: {}\ndata: {json}\n\n", json["type"].as_str().unwrap());
        let delta = |delta: Value| event(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        let text = |text: &str| delta(json!({"type": "text_delta", "text": text}));
        let start = || event(json!({"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 7}}}));
        let stop = |reason: &str| event(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}));
        let end = || event(json!({"type": "message_stop"}));
        let block = |block: Value| event(json!({"type": "content_block_start", "index": 0, "content_block": block}));
        let message = |content: Value, reason: &str| json!({"type": "message", "role": "assistant", "content": content, "stop_reason": reason}).to_string();
        for (name, body, expected) in [
            ("plain", start() + &block(json!({"type": "text", "text": ""})) + &event(json!({"type": "ping"})) + &text("a ") + &text("ü") + &stop("end_turn") + &end(), "a ü"),
            ("without message_stop", start() + &text("a") + &stop("end_turn"), "a"),
            ("without any end", start() + &text("a"), "a"),
            ("text at a block's start", start() + &block(json!({"type": "text", "text": "a "})) + &text("b") + &end(), "a b"),
            ("one newline between events", (start() + &text("a ") + &text("b") + &stop("end_turn") + &end()).replace("\n\n", "\n"), "a b"),
            ("without names", (start() + &text("a") + &stop("end_turn") + &end()).lines().filter(|line| !line.starts_with("event")).collect::<Vec<_>>().join("\n"), "a"),
            ("thinking first", start() + &delta(json!({"type": "thinking_delta", "thinking": "x", "text": "x"})) + &delta(json!({"type": "signature_delta"})) + &text("a") + &stop("end_turn") + &end(), "a"),
            ("thinking in the text", text("<think>x</think>a") + &stop("end_turn"), "a"),
            ("cut", text("a") + &stop("max_tokens") + &end(), "a (cut)"),
            ("a window that is full", text("a") + &stop("model_context_window_exceeded") + &end(), "a (cut)"),
            ("a refusal", text("a") + &stop("refusal") + &end(), "<Refused>"),
            ("empty", start() + &stop("end_turn") + &end(), "<Empty>"),
            ("a tool", stop("tool_use") + &end(), "<Empty>"),
            ("a pause", text("a") + &stop("pause_turn") + &end(), "<Paused>"),
            ("a finish, and text after it", text("a ") + &stop("end_turn") + &text("b") + &stop("end_turn") + &end(), "a b"),
            ("a stop that is null", text("a ") + &event(json!({"type": "message_delta", "delta": {"stop_reason": null}})) + &text("b") + &end(), "a b"),
            ("a tool's input between", text("a ") + &delta(json!({"type": "input_json_delta", "partial_json": "{"})) + &text("b") + &end(), "a b"),
            ("another name for text", text("a ") + &delta(json!({"type": "text", "text": "b"})) + &end(), "a b"),
            ("a number as the text", text("It is ") + &delta(json!({"type": "text_delta", "text": 4})) + &end(), "It is 4"),
            ("whole in a stream", event(serde_json::from_str(&message(json!([{"type": "text", "text": "a"}]), "end_turn")).unwrap()), "a"),
            ("overloaded", text("a") + &event(json!({"type": "error", "error": {"type": "overloaded_error"}})), "<Error>"),
            ("whole", message(json!([{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a "}, {"type": "text", "text": "b"}]), "end_turn"), "a b"),
            ("whole and cut", message(json!([{"type": "text", "text": "a"}]), "max_tokens"), "a (cut)"),
            ("unknown events", event(json!({"type": "news"})) + &text("a") + &end(), "a"),
            ("OpenAI's shape", c("a") + &finish("stop") + DONE, "a"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
        let mut stream = Stream::new("", false);
        stream.feed((start() + &text("a") + &stop("end_turn")).as_bytes());
        assert_eq!(stream.tokens(), Some((7, 3)));
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn sources_become_a_line() {
        let listed = |urls: Value| event(json!({"choices": [{"delta": {"content": "a"}}], "citations": urls}));
        let noted = |url: &str| choice(json!({"delta": {"content": "", "annotations": [{"type": "url_citation", "url_citation": {"url": url, "title": "x"}}]}}));
        let cited = |url: &str| event(json!({"type": "content_block_delta", "delta": {"type": "citations_delta", "citation": {"url": url}}}));
        let block = json!({"type": "message", "content": [{"type": "text", "text": "a", "citations": [{"url": "https://h/z"}]}], "stop_reason": "end_turn"});
        for (name, body, expected) in [
            ("citations, repeated", listed(json!(["https://h/x", "https://i/"])) + &listed(json!(["https://h/x", "https://i/"])) + DONE, "aa\nSources: [1] h/x [2] i"),
            ("citations keep their numbers", listed(json!(["not a url", "http://i/y?q=1#z"])) + DONE, "a\nSources: [2] i/y"),
            ("objects", listed(json!([{"title": "t", "url": "https://h/x"}])) + DONE, "a\nSources: [1] h/x"),
            ("search results", event(json!({"choices": [{"delta": {"content": "a"}}], "search_results": [{"title": "t", "url": "https://h/x", "date": null}]})) + DONE, "a\nSources: [1] h/x"),
            ("flat annotations of a whole message", json!({"choices": [{"message": {"content": "a", "annotations": [{"type": "url_citation", "url": "https://h/x", "start_index": 0}]}}]}).to_string(), "a\nSources: [1] h/x"),
            ("citations without an answer", event(json!({"choices": [], "citations": ["https://h/x"]})) + DONE, "<Empty>"),
            ("annotations", c("a") + &noted("https://h/x") + &noted("https://h/x") + &noted("https://h/y") + DONE, "a\nSources: [1] h/x [2] h/y"),
            ("Anthropic's", event(json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}})) + &cited("https://h/x"), "a\nSources: [1] h/x"),
            ("Anthropic's, whole", block.to_string(), "a\nSources: [1] h/z"),
            ("what would be markup", listed(json!(["https://h/[x](javascript:y)", "https://h/@all"])) + DONE, "a"),
            ("none", listed(json!([])) + DONE, "a"),
        ] {
            assert_eq!(outcome(&body), expected, "{name}");
        }
    }

    mod any_stream {
        use super::*;
        use proptest::prelude::*;

        /// Text as models write it, with pieces of marks.
        fn text() -> impl Strategy<Value = String> {
            let piece = prop_oneof![
                "[a-z .,`*#]{0,9}",
                "[äß日😀\u{fffd}]{1,3}",
                Just("\n\n```\n".to_owned()),
                Just("<think>".to_owned()),
                Just("</think>".to_owned()),
                Just("</s>".to_owned()),
                Just("<|im_end|>".to_owned()),
                Just("[/THINK]".to_owned()),
                Just("<|channel|>final".to_owned()),
                Just("prxbot: ".to_owned()),
            ];
            proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
        }

        /// A chunk with `text`, its optional fields in one order or the other.
        fn chunk(text: &str, style: u8) -> String {
            let content = match style % 4 {
                0 => json!(text).to_string(),
                1 => json!([{"type": "text", "text": text}]).to_string(),
                2 => json!({"text": text}).to_string(),
                _ => format!(
                    "\"{}\"",
                    text.encode_utf16()
                        .map(|unit| format!("\\u{unit:04x}"))
                        .collect::<String>()
                ),
            };
            let fields = match style / 4 % 4 {
                0 => format!("\"delta\":{{\"content\":{content}}},\"finish_reason\":null"),
                1 => format!(
                    "\"score\":NaN,\"finish_reason\":\"stop\",\"delta\":{{\"role\":\"assistant\",\"content\":{content}}},\"index\":0"
                ),
                2 => format!("\"index\":0,\"delta\":{{\"reasoning\":null,\"content\":{content}}}"),
                _ => format!(
                    "\"delta\":{{\"content\":{content},\"refusal\":null}},\"logprobs\":null"
                ),
            };
            let end = if style & 16 == 0 { "\n\n" } else { "\n" };
            format!("data: {{\"id\":1,\"choices\":[{{{fields}}}]}}{end}")
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(100))]

            #[test]
            fn any_cutting_and_order_gives_the_same_text_as_whole(
                text in text(),
                cuts in proptest::collection::vec((0usize..100, any::<u8>()), 0..6),
                size in 1usize..60,
            ) {
                let whole = json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).to_string();
                let expected = read([whole.as_bytes()], End::Clean);
                let letters: Vec<char> = text.chars().collect();
                let mut body = String::new();
                let mut from = 0;
                for (cut, style) in cuts {
                    let to = (from + cut).min(letters.len());
                    body += &chunk(&letters[from..to].iter().collect::<String>(), style);
                    from = to;
                }
                body += &chunk(&letters[from..].iter().collect::<String>(), 0);
                body += &finish("stop");
                body += DONE;
                prop_assert_eq!(read(body.as_bytes().chunks(size), End::Clean), expected);
            }

            #[test]
            fn any_bytes_end_without_a_panic_and_the_same_in_any_pieces(
                parts in proptest::collection::vec(prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..20),
                    Just(b"data: ".to_vec()), Just(b"\n\n".to_vec()), Just(b"{\"choices\":[{\"delta\":{\"content\":\"".to_vec()),
                    Just(b"a\"}}]}".to_vec()), Just(b"\\ud83d".to_vec()), Just(b"<think>".to_vec()), Just(b"\"".to_vec()),
                    Just(b"[DONE]".to_vec()), Just(b"event: error\n".to_vec()), Just(b"\r".to_vec()), Just(b"NaN".to_vec()),
                ], 0..24),
                size in 1usize..9,
                broken in any::<bool>(),
            ) {
                let bytes = parts.concat();
                let end = if broken { End::Broken } else { End::Clean };
                let whole = read([&bytes[..]], end);
                prop_assert_eq!(read(bytes.chunks(size), end), whole);
            }

            /// A chunk that is damaged so that it is no JSON never leaves an answer with a hole in it.
            #[test]
            fn a_damaged_chunk_fails_the_try(
                texts in proptest::collection::vec("[a-z ]{1,9}", 2..5),
                damaged in 0usize..4,
                at in 1usize..30,
            ) {
                let damaged = damaged % texts.len();
                let mut body = String::new();
                for (index, text) in texts.iter().enumerate() {
                    let chunk = c(text);
                    if index == damaged { body += &format!("{}\n\n", &chunk[..(6 + at).min(chunk.len() - 4)]) } else { body += &chunk }
                }
                body += DONE;
                prop_assert_eq!(read([body.as_bytes()], End::Clean), "<NotJson>");
            }
        }
    }
}
