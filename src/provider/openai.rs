//! Any server with OpenAI's chat completions API, with the oddities of those that have it.

use serde_json::{Value, json};

use super::error::is_error;
use super::server::{Exchange, Seen, Server, append};
use super::settings::{question_url, second_base};
use super::sse::Event;
use super::{
    Answer, Api, Fact, FactKind, Message, Provider, ProviderError, ProviderSettings, Question,
    Role, chat,
};
use crate::json;

/// What a model may refuse, and what works as well without.
const OPTIONAL: &[&str] = &["temperature", "stream"];

pub struct OpenAi {
    server: Server,
    url: String,
    /// To be tried when `url` is not found.
    second_url: Option<String>,
    temperature: Option<f64>,
}

impl OpenAi {
    pub fn new(server: Server, base: &str, settings: &ProviderSettings) -> OpenAi {
        let second = second_base(Api::OpenAi, base);
        OpenAi {
            server,
            url: question_url(Api::OpenAi, base),
            second_url: second.map(|base| question_url(Api::OpenAi, &base)),
            temperature: settings.temperature,
        }
    }
}

impl Provider for OpenAi {
    fn answer(&self, question: &Question) -> Result<Answer, ProviderError> {
        let exchange = self.server.exchange(question);
        let body = self.body(&exchange, question.conversation);
        let bearer = self.server.key().map(|key| format!("Bearer {key}"));
        let headers: Vec<_> = bearer
            .iter()
            .map(|bearer| ("Authorization", bearer.as_str()))
            .collect();
        let post = |url: &str, body| exchange.post(url, &headers, body, OPTIONAL);

        let response = match &self.second_url {
            Some(second) if self.server.knows("", FactKind::BelowV1) => post(second, body),
            Some(second) => match post(&self.url, body.clone()) {
                Err(rejected) if rejected.status == 404 => {
                    post(second, body).inspect(|_| self.server.learn("", FactKind::BelowV1))
                }
                first => first,
            },
            None => post(&self.url, body),
        };

        let mut reply = Reply::default();
        let response = response.map_err(|rejected| rejected.error)?;
        let end = exchange.events(response, &mut |event| reply.event(event, &exchange))?;
        if let Some(rest) = end {
            reply.plain(&rest, &exchange)?;
        }
        exchange.answer(&reply.text, &reply.stopped)
    }

    fn learned(&self) -> Vec<Fact> {
        self.server.learned.take()
    }
}

impl OpenAi {
    fn body(&self, exchange: &Exchange, conversation: &[Message]) -> Value {
        let (system, mut messages) = chat::turns(conversation);
        if let Some(content) = system {
            messages.insert(0, Message::new(Role::System, content));
        }
        let mut body = json!({ "messages": messages, "stream": true });
        if !exchange.model.is_empty() {
            body["model"] = exchange.model.into();
        }
        if let Some(temperature) = self.temperature {
            body["temperature"] = temperature.into();
        }
        body
    }
}

/// An answer as far as it has come.
#[derive(Default)]
struct Reply {
    text: String,
    /// Why the model stopped, in the API's words; empty: it has not, or did not say.
    stopped: String,
}

impl Reply {
    fn event(&mut self, event: &Event, exchange: &Exchange) -> Result<Seen, ProviderError> {
        if event.data.trim() == "[DONE]" {
            return Ok(Seen::End);
        }
        if event.name == "error" {
            return Err(exchange.asked.refused(200, &event.data, None));
        }
        match json::parse_slice(event.data.as_bytes()) {
            Ok(chunk) => self.chunk(&chunk, &event.data, exchange),
            Err(_) => Ok(Seen::Nothing),
        }
    }

    /// A chunk of a stream, or a whole answer: they differ in the name `delta` or `message`.
    fn chunk(
        &mut self,
        chunk: &Value,
        raw: &str,
        exchange: &Exchange,
    ) -> Result<Seen, ProviderError> {
        if is_error(chunk) {
            return Err(exchange.asked.refused(200, raw, None));
        }
        let choice = &chunk["choices"][0];
        let message = choice.get("delta").unwrap_or(&choice["message"]);
        let has = |field: &str| !text_of(&message[field]).is_empty();
        let content = text_of(&message["content"]);
        let fits = append(&mut self.text, &content);
        let reason = choice["finish_reason"].as_str().unwrap_or_default();
        if has("refusal") {
            self.stopped = "refusal".into();
        } else if self.stopped.is_empty() {
            self.stopped = if fits { reason } else { "length" }.into();
        }
        // Nothing of worth follows, and some servers leave the stream open.
        Ok(if !reason.is_empty() || !fits {
            Seen::End
        } else if !content.is_empty() || has("reasoning_content") || has("reasoning") {
            Seen::Content
        } else {
            Seen::Nothing
        })
    }

    /// What came in place of the rest of a stream: an answer in one piece, an error, or nothing.
    fn plain(&mut self, body: &str, exchange: &Exchange) -> Result<(), ProviderError> {
        let Ok(json) = json::parse_slice::<Value>(body.as_bytes()) else {
            return Err(exchange.again(match body.trim() {
                "" => "the answer broke off",
                _ => "the answer is not JSON: is the URL right?",
            }));
        };
        self.chunk(&json, body, exchange)?;
        match json["choices"].get(0) {
            Some(_) => Ok(()),
            None => Err(exchange.again("the answer is not a chat completion: is the URL right?")),
        }
    }
}

/// The text of a message's content: a string, or parts of which some are text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter(|part| part["type"] == "text");
            texts.filter_map(|part| part["text"].as_str()).collect()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_a_content_counts() {
        for (content, text) in [
            (json!("hi"), "hi"),
            (json!(null), ""),
            (
                json!([{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []}, {"type": "text", "text": "b"}]),
                "ab",
            ),
            (json!({"text": "no"}), ""),
        ] {
            assert_eq!(text_of(&content), text);
        }
    }
}
