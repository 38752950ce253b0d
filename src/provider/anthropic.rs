//! Anthropic's messages API (https://docs.anthropic.com/en/api/messages), and servers that have it.

use serde_json::{Value, json};

use super::error::is_error;
use super::server::{Exchange, Seen, Server, append};
use super::settings::question_url;
use super::sse::Event;
use super::{Answer, Api, Fact, Provider, ProviderError, ProviderSettings, Question, Role, chat};
use crate::json;

pub(super) const VERSION: &str = "2023-06-01";

/// Refused by Claude 4.7 and later.
const OPTIONAL: &[&str] = &["temperature"];

/// How often a model may pause within one answer.
const PAUSES: usize = 3;

pub struct Anthropic {
    server: Server,
    url: String,
    max_tokens: u32,
    temperature: Option<f64>,
}

impl Anthropic {
    pub fn new(server: Server, base: &str, settings: &ProviderSettings) -> Anthropic {
        Anthropic {
            server,
            url: question_url(Api::Anthropic, base),
            max_tokens: settings.max_tokens,
            temperature: settings.temperature,
        }
    }
}

impl Provider for Anthropic {
    fn answer(&self, question: &Question) -> Result<Answer, ProviderError> {
        let exchange = self.server.exchange(question);
        let (system, turns) = chat::turns(question.conversation);
        let mut body = json!({
            "model": exchange.model,
            "max_tokens": self.max_tokens,
            "messages": turns,
            "stream": true,
        });
        if let Some(system) = system {
            body["system"] = system.into();
        }
        if let Some(temperature) = self.temperature {
            body["temperature"] = temperature.into();
        }
        let mut headers = vec![("anthropic-version", VERSION)];
        headers.extend(self.server.key().map(|key| ("x-api-key", key)));

        let mut reply = Reply::default();
        for _ in 0..=PAUSES {
            let response = exchange.post(&self.url, &headers, body.clone(), OPTIONAL);
            let response = response.map_err(|rejected| rejected.error)?;
            let end = exchange.events(response, &mut |event| reply.event(event, &exchange))?;
            if let Some(rest) = end {
                reply.plain(&rest, &exchange)?;
            }
            if reply.stopped != "pause_turn" || reply.text.trim().is_empty() {
                break;
            }
            // The model goes on where its own last turn ends. That turn must not end in a space.
            let mut messages = turns.clone();
            let content = reply.text.trim_end().to_owned();
            messages.push(super::Message::new(Role::Assistant, content));
            body["messages"] = json!(messages);
        }
        exchange.answer(&reply.text, &reply.stopped)
    }

    fn learned(&self) -> Vec<Fact> {
        self.server.learned.take()
    }
}

/// An answer as far as it has come.
#[derive(Default)]
struct Reply {
    text: String,
    /// The `stop_reason`.
    stopped: String,
}

impl Reply {
    fn event(&mut self, event: &Event, exchange: &Exchange) -> Result<Seen, ProviderError> {
        let json: Value = json::parse_slice(event.data.as_bytes()).unwrap_or_default();
        if event.name == "error" || is_error(&json) {
            return Err(exchange.asked.refused(200, &event.data, None));
        }
        let delta = &json["delta"];
        Ok(match json["type"].as_str().unwrap_or_default() {
            "content_block_delta" if delta["type"] == "text_delta" => {
                self.push(delta["text"].as_str().unwrap_or_default())
            }
            // Thinking, and its signature: a sign of life, not shown.
            "content_block_delta" => Seen::Content,
            "message_delta" => {
                self.stop(&delta["stop_reason"]);
                Seen::Nothing
            }
            "message_stop" => Seen::End,
            _ => Seen::Nothing,
        })
    }

    fn push(&mut self, text: &str) -> Seen {
        if append(&mut self.text, text) {
            return Seen::Content;
        }
        self.stopped = "max_tokens".into();
        Seen::End
    }

    fn stop(&mut self, reason: &Value) {
        self.stopped = reason.as_str().unwrap_or_default().to_owned();
    }

    /// What came in place of the rest of a stream: an answer in one piece, an error, or nothing.
    fn plain(&mut self, body: &str, exchange: &Exchange) -> Result<(), ProviderError> {
        let Ok(json) = json::parse_slice::<Value>(body.as_bytes()) else {
            return Err(exchange.again(match body.trim() {
                "" => "the answer broke off",
                _ => "the answer is not JSON: is the URL right?",
            }));
        };
        if is_error(&json) {
            return Err(exchange.asked.refused(200, body, None));
        }
        let Some(blocks) = json["content"].as_array() else {
            return Err(exchange.again("the answer is not a message: is the URL right?"));
        };
        self.stop(&json["stop_reason"]);
        for block in blocks.iter().filter(|block| block["type"] == "text") {
            self.push(block["text"].as_str().unwrap_or_default());
        }
        Ok(())
    }
}
