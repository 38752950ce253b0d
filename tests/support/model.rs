//! A language model that a test scripts: OpenAI's and Anthropic's chat APIs, streamed or not, over

//! real sockets. What it got can be looked at afterwards.

// Every test file uses another part of it.
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Reply, Request, Wire};

/// What the model does with one question.
pub enum ModelReply {
    /// Answers, in the API and the manner (streamed or not) of the request.
    Text(String),
    /// The same, streamed, with a pause before each piece of seven characters.
    #[allow(dead_code)] // The sandbox uses it.
    Paced(String, Duration),
    /// A 200 with these bytes, each piece in a chunk of its own, and the end of the body.
    Stream(Vec<Vec<u8>>),
    /// Any response.
    Status {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// The same without the end of the body: the connection breaks.
    Broken(Vec<Vec<u8>>),
    /// The beginning of a streamed answer, and the end of the connection within the body.
    Truncated(String),
    /// The connection is closed without a byte.
    Close,
    /// Not a byte until the test sends into the channel or drops its sender; then the reply.
    Held(Receiver<()>, Box<ModelReply>),
}

impl ModelReply {
    pub fn text(text: &str) -> ModelReply {
        ModelReply::Text(text.into())
    }

    pub fn stream(bytes: &str) -> ModelReply {
        ModelReply::Stream(vec![bytes.into()])
    }

    pub fn status(status: u16, body: &str) -> ModelReply {
        ModelReply::Status {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }
}

type OnRequest = Box<dyn FnMut(&Request) -> ModelReply + Send>;
type OnArrival = Box<dyn FnMut(&Request) + Send>;

#[derive(Default)]
struct Script {
    requests: Vec<Request>,
    next: VecDeque<ModelReply>,
    on_request: Option<OnRequest>,
    elsewhere: Option<(u16, String)>,
    on_arrival: Option<OnArrival>,
}

/// The server; it stops when dropped. It answers "Hello!" until it is told otherwise.
pub struct Model {
    wire: Wire,
    script: Arc<Mutex<Script>>,
}

impl Model {
    pub fn start() -> Model {
        let script = Arc::<Mutex<Script>>::default();
        let handlers = script.clone();
        Model {
            wire: Wire::start(move |request| handle(&handlers, request)),
            script,
        }
    }

    /// Without a path: `{url}/v1` is the base of OpenAI's API, `{url}` that of Anthropic's.
    pub fn url(&self) -> String {
        self.wire.url()
    }

    /// Answers every question with `text`.
    pub fn answers(&self, text: &str) {
        let text = text.to_owned();
        self.on_request(move |_| ModelReply::Text(text.clone()));
    }

    /// Answers every question with what `reply` returns. It must not use the model itself.
    pub fn on_request(&self, reply: impl FnMut(&Request) -> ModelReply + Send + 'static) {
        lock(&self.script).on_request = Some(Box::new(reply));
    }

    /// Answers one question, before all else; several are used up in their order.
    pub fn then(&self, reply: ModelReply) {
        lock(&self.script).next.push_back(reply);
    }

    /// What any other path than the API's answers.
    pub fn elsewhere(&self, status: u16, body: &str) {
        lock(&self.script).elsewhere = Some((status, body.to_owned()));
    }

    /// Refuses connections until `restart`.
    pub fn stop(&self) {
        self.wire.stop();
    }

    pub fn restart(&self) {
        self.wire.restart();
    }

    /// Called when a question has arrived, before anything is answered: a simulated clock goes on
    /// here. It must not use the model itself.
    pub fn on_arrival(&self, arrived: impl FnMut(&Request) + Send + 'static) {
        lock(&self.script).on_arrival = Some(Box::new(arrived));
    }

    /// Every request so far, also those that found nothing.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.script).requests.clone()
    }

    /// The bodies of all requests so far.
    pub fn bodies(&self) -> Vec<Value> {
        self.requests().iter().map(body).collect()
    }
}

/// A request's body as JSON; null if it has none.
pub fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

/// A test that panics in a hook must not hide its own message.
fn lock(script: &Mutex<Script>) -> std::sync::MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(script: &Mutex<Script>, request: Request) -> Reply {
    lock(script).requests.push(request.clone());
    let path = request.target.split('?').next().unwrap_or_default();
    if path.ends_with("/v1/models") {
        return Reply::json(
            200,
            &json!({"object": "list", "data": [{"id": "test-model"}]}),
        );
    }
    let api = if path.ends_with("/v1/chat/completions") {
        Api::OpenAi
    } else if path.ends_with("/v1/messages") {
        Api::Anthropic
    } else {
        return match lock(script).elsewhere.clone() {
            None => Reply::json(404, &json!({"error": {"message": "no such path"}})),
            Some((status, body)) => Reply::Full {
                status,
                headers: Vec::new(),
                body: body.into_bytes(),
            },
        };
    };
    let reply = {
        let mut script = lock(script);
        if let Some(arrived) = &mut script.on_arrival {
            arrived(&request);
        }
        match (script.next.pop_front(), &mut script.on_request) {
            (Some(reply), _) => reply,
            (None, Some(on_request)) => on_request(&request),
            (None, None) => ModelReply::text("Hello!"),
        }
    };
    let streamed = body(&request)["stream"] == true;
    play(reply, api, streamed)
}

#[derive(Clone, Copy)]
enum Api {
    OpenAi,
    Anthropic,
}

fn play(reply: ModelReply, api: Api, streamed: bool) -> Reply {
    match reply {
        ModelReply::Text(text) if streamed => {
            let mut pieces = beginning(api, &text);
            pieces.extend(end(api));
            stream(pieces, true)
        }
        ModelReply::Text(text) => Reply::json(200, &whole(api, &text)),
        ModelReply::Paced(text, pause) => {
            let mut pieces = beginning(api, &text);
            pieces.extend(end(api));
            paced(pieces, true, pause)
        }
        ModelReply::Stream(pieces) => stream(pieces, true),
        ModelReply::Broken(pieces) => stream(pieces, false),
        ModelReply::Truncated(text) => stream(beginning(api, &text), false),
        ModelReply::Status {
            status,
            headers,
            body,
        } => Reply::Full {
            status,
            headers,
            body: body.into_bytes(),
        },
        ModelReply::Close => Reply::Close,
        ModelReply::Held(release, reply) => {
            let _ = release.recv();
            play(*reply, api, streamed)
        }
    }
}

/// A body in chunks; without its `end` it breaks off.
fn stream(pieces: Vec<Vec<u8>>, end: bool) -> Reply {
    paced(pieces, end, Duration::ZERO)
}

/// The same with a pause before each piece.
fn paced(pieces: Vec<Vec<u8>>, end: bool, pause: Duration) -> Reply {
    Reply::Raw(Box::new(
        move |writer: &mut dyn Write| -> io::Result<bool> {
            writer.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                  Transfer-Encoding: chunked\r\n\r\n",
            )?;
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                std::thread::sleep(pause);
                write!(writer, "{:x}\r\n", piece.len())?;
                writer.write_all(piece)?;
                writer.write_all(b"\r\n")?;
                writer.flush()?;
            }
            if end {
                writer.write_all(b"0\r\n\r\n")?;
            }
            Ok(end)
        },
    ))
}

/// The events up to the text's last one; the text comes in pieces of a few characters.
fn beginning(api: Api, text: &str) -> Vec<Vec<u8>> {
    let characters: Vec<char> = text.chars().collect();
    let parts = characters
        .chunks(7)
        .map(|part| part.iter().collect::<String>());
    match api {
        Api::OpenAi => {
            let first = json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]});
            let parts = parts.map(|part| json!({"choices": [{"delta": {"content": part}}]}));
            [first]
                .into_iter()
                .chain(parts)
                .map(|chunk| event("", &chunk))
                .collect()
        }
        Api::Anthropic => {
            let first = [
                event(
                    "message_start",
                    &json!({"type": "message_start", "message": {}}),
                ),
                event(
                    "content_block_start",
                    &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                ),
            ];
            let parts = parts.map(|part| {
                let delta = json!({"type": "text_delta", "text": part});
                event(
                    "content_block_delta",
                    &json!({"type": "content_block_delta", "index": 0, "delta": delta}),
                )
            });
            first.into_iter().chain(parts).collect()
        }
    }
}

fn end(api: Api) -> Vec<Vec<u8>> {
    match api {
        Api::OpenAi => vec![
            event(
                "",
                &json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
            ),
            b"data: [DONE]\n\n".to_vec(),
        ],
        Api::Anthropic => vec![
            event(
                "content_block_stop",
                &json!({"type": "content_block_stop", "index": 0}),
            ),
            event(
                "message_delta",
                &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            ),
            event("message_stop", &json!({"type": "message_stop"})),
        ],
    }
}

fn whole(api: Api, text: &str) -> Value {
    match api {
        Api::OpenAi => json!({"choices": [{
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }]}),
        Api::Anthropic => json!({
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
        }),
    }
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    match name {
        "" => format!("data: {data}\n\n").into_bytes(),
        name => format!("event: {name}\ndata: {data}\n\n").into_bytes(),
    }
}
