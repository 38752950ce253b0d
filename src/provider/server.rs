//! One model server over HTTP: requests without what it is known to refuse, and its event streams.
//! It knows no API's shapes.

use std::cell::RefCell;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::error::{Asked, shown};
use super::sse::{Decoder, Event};
use super::{Answer, Class, Fact, FactKind, ProviderError, ProviderSettings, Question, chat};
use crate::http::{Agent, Body, Call, Failure, Response, failure};
use crate::secret::Secret;

/// Bytes of an answer; what comes after is cut off.
pub const ANSWER: usize = 1 << 20;
/// Bytes of a whole stream. A token costs a stream a few hundred bytes.
const STREAM: u64 = 64 << 20;
/// Bytes of an error's body.
const ERROR: u64 = 64 << 10;
/// The longest pause in an answer that has begun. Keep-alives do not count: a stream was seen open
/// on them for 17 minutes after its answer.
const IDLE: Duration = Duration::from_secs(120);

/// A server and what was learnt about it.
pub struct Server {
    agent: Agent,
    /// As configured.
    name: String,
    model: String,
    key: Option<Secret>,
    key_variable: String,
    base: String,
    /// What was known before.
    facts: Vec<Fact>,
    /// What was found out.
    pub learned: RefCell<Vec<Fact>>,
}

/// A response that is no answer.
pub struct Rejected {
    /// 0: there was no response.
    pub status: u16,
    pub error: ProviderError,
}

impl Server {
    pub fn new(
        name: &str,
        base: &str,
        settings: &ProviderSettings,
        facts: &[Fact],
    ) -> Result<Server, String> {
        Ok(Server {
            agent: Agent::new(settings.ca_file.as_deref())
                .map_err(|problem| problem.to_string())?,
            name: name.to_owned(),
            model: settings.model.clone(),
            key: settings.api_key.clone(),
            key_variable: settings.key_variable.clone(),
            base: base.to_owned(),
            facts: facts.to_vec(),
            learned: RefCell::default(),
        })
    }

    /// Whether this is known of `model`; empty: of the whole server.
    pub fn knows(&self, model: &str, kind: FactKind) -> bool {
        let learned = self.learned.borrow();
        let mut facts = self.facts.iter().chain(learned.iter());
        facts.any(|fact| fact.base == self.base && fact.model == model && fact.kind == kind)
    }

    pub fn learn(&self, model: &str, kind: FactKind) {
        let (base, model) = (self.base.clone(), model.to_owned());
        self.learned.borrow_mut().push(Fact { base, model, kind });
    }

    pub fn key(&self) -> Option<&str> {
        self.key.as_ref().map(Secret::reveal)
    }

    /// What belongs to one answer. Its time begins to run.
    pub fn exchange<'a>(&'a self, question: &Question<'a>) -> Exchange<'a> {
        Exchange {
            server: self,
            asked: Asked {
                name: &self.name,
                key: self.key().unwrap_or_default(),
                key_variable: &self.key_variable,
                conversation: question.conversation,
            },
            model: question.model.unwrap_or(&self.model),
            begun: Instant::now(),
            time_left: question.time_left,
        }
    }
}

/// What an event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing that says that the model is at work.
    Nothing,
    /// A part of the answer, or of the reasoning before it.
    Content,
    /// The end of the answer.
    End,
}

/// One question to one server, until its time is up.
pub struct Exchange<'a> {
    server: &'a Server,
    pub asked: Asked<'a>,
    pub model: &'a str,
    begun: Instant,
    time_left: Duration,
}

impl Exchange<'_> {
    /// Posts `body`. A parameter of `optional` that a 400 or 422 names is left out of a repeated
    /// request, and of later ones to this model when that helped.
    pub fn post(
        &self,
        url: &str,
        headers: &[(&'static str, &str)],
        mut body: Value,
        optional: &[&'static str],
    ) -> Result<Response, Rejected> {
        let mut left_out = Vec::new();
        for name in optional {
            if refusal(name).is_some_and(|kind| self.server.knows(self.model, kind)) {
                remove(&mut body, name);
            }
        }
        loop {
            let response = self.send(url, headers, &body)?;
            let status = response.status;
            if (200..300).contains(&status) {
                for kind in left_out {
                    self.server.learn(self.model, kind);
                }
                return Ok(response);
            }
            let after = response.retry_after();
            let said = beginning(response);
            let refused = optional.iter().find(|name| {
                matches!(status, 400 | 422) && body.get(**name).is_some() && names(&said, name)
            });
            let Some(name) = refused else {
                return Err(Rejected {
                    status,
                    error: self.asked.refused(status, &said, after),
                });
            };
            log::debug!(
                "{} refuses {name}; going on without it",
                shown(self.asked.name)
            );
            remove(&mut body, name);
            left_out.extend(refusal(name));
        }
    }

    fn send(
        &self,
        url: &str,
        headers: &[(&'static str, &str)],
        body: &Value,
    ) -> Result<Response, Rejected> {
        let body = body.to_string();
        let timeout = self.time_left.saturating_sub(self.begun.elapsed());
        let call = Call {
            method: "POST",
            url,
            headers,
            body: Body::Json(body.as_bytes()),
            timeout,
        };
        let response = match timeout.is_zero() {
            true => Err(self.timed_out()),
            false => self
                .server
                .agent
                .call(&call)
                .map_err(|failure| self.failed(failure)),
        };
        response.map_err(|error| Rejected { status: 0, error })
    }

    /// Gives each event of the stream to `each` until that says `Seen::End`. What is returned is not
    /// `None` when the stream ended before: the lines that were no event, perhaps a plain JSON answer.
    pub fn events(
        &self,
        response: Response,
        each: &mut dyn FnMut(&Event) -> Result<Seen, ProviderError>,
    ) -> Result<Option<String>, ProviderError> {
        match read_events(&mut response.reader(STREAM), IDLE, each) {
            Ok(end) => Ok(end),
            Err(Stop::Told(error)) => Err(error),
            Err(Stop::Read(error)) => Err(self.failed(failure(error))),
            Err(Stop::Idle) => Err(self.again("the answer came to a halt")),
        }
    }

    /// The answer that `text` is, given why the model stopped (in either API's words).
    pub fn answer(&self, text: &str, stopped: &str) -> Result<Answer, ProviderError> {
        let line = |what| self.asked.line(what, "");
        let cut = match stopped {
            "length" | "max_tokens" | "model_length" | "model_context_window_exceeded" => true,
            "content_filter" => {
                return Err(ProviderError::new(
                    Class::Filtered,
                    line("a content filter stopped the answer"),
                ));
            }
            "refusal" => {
                return Err(ProviderError::new(
                    Class::Refused,
                    line("the model declined to answer"),
                ));
            }
            "error" | "insufficient_system_resource" => {
                return Err(self.again("the server broke the answer off"));
            }
            _ => false,
        };
        let text = chat::without_reasoning(text);
        match (text.is_empty(), cut) {
            (false, _) => Ok(Answer {
                text,
                cut,
                ..Answer::default()
            }),
            (true, true) => Err(ProviderError::new(
                Class::Empty,
                line(
                    "the model reached its length limit before it began to answer: raise max_tokens \
                 or its context size",
                ),
            )),
            (true, false) => Err(ProviderError::new(
                Class::Empty,
                line("the answer was empty"),
            )),
        }
    }

    /// A failure that may pass.
    pub fn again(&self, what: &str) -> ProviderError {
        ProviderError::new(Class::Again, self.asked.line(what, ""))
    }

    fn failed(&self, failure: Failure) -> ProviderError {
        // A timeout may be noticed a little before its time.
        let left = self.time_left.saturating_sub(self.begun.elapsed());
        match failure {
            Failure::TooLarge => {
                ProviderError::new(Class::Never, self.asked.line("the answer has no end", ""))
            }
            Failure::Unclear(_) if left < Duration::from_millis(100) => self.timed_out(),
            failure => ProviderError::new(
                Class::Again,
                self.asked
                    .line("no answer, is the server up?", &failure.to_string()),
            ),
        }
    }

    fn timed_out(&self) -> ProviderError {
        ProviderError::new(
            Class::TimedOut,
            self.asked.line(
                "no answer in time: raise message_timeout_secs, or use a faster model",
                "",
            ),
        )
    }
}

/// Appends to an answer; false: it has become too large, the rest is cut off.
pub fn append(text: &mut String, more: &str) -> bool {
    let mut room = ANSWER.saturating_sub(text.len()).min(more.len());
    while !more.is_char_boundary(room) {
        room -= 1;
    }
    text.push_str(&more[..room]);
    room == more.len()
}

/// Why the reading of a stream stopped.
#[derive(Debug)]
enum Stop {
    Told(ProviderError),
    Read(io::Error),
    Idle,
}

fn read_events(
    reader: &mut dyn Read,
    idle: Duration,
    each: &mut dyn FnMut(&Event) -> Result<Seen, ProviderError>,
) -> Result<Option<String>, Stop> {
    let (mut decoder, mut events) = (Decoder::default(), Vec::new());
    let mut buffer = [0; 8192];
    let mut content = None::<Instant>;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::Read(error)),
        };
        decoder.feed(&buffer[..count], &mut events);
        let mut stray = None;
        if count == 0 {
            let (last, rest) = std::mem::take(&mut decoder).end();
            events.extend(last);
            stray = Some(rest);
        }
        let mut alive = false;
        for event in events.drain(..) {
            match each(&event).map_err(Stop::Told)? {
                Seen::Nothing => {}
                Seen::Content => alive = true,
                Seen::End => return Ok(None),
            }
        }
        if stray.is_some() {
            return Ok(stray);
        }
        if alive {
            content = Some(Instant::now());
        } else if content.is_some_and(|content| content.elapsed() >= idle) {
            return Err(Stop::Idle);
        }
    }
}

/// The beginning of an error's body, as text; what breaks while it is read is left out.
fn beginning(response: Response) -> String {
    let (mut reader, mut body, mut buffer) = (response.reader(ERROR), Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        body.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// The fact that a parameter is refused.
fn refusal(name: &str) -> Option<FactKind> {
    match name {
        "temperature" => Some(FactKind::NoTemperature),
        "stream" => Some(FactKind::NoStream),
        _ => None,
    }
}

fn remove(body: &mut Value, name: &str) {
    if let Some(fields) = body.as_object_mut() {
        fields.remove(name);
    }
}

/// Whether an error is about this parameter: its name as a word of its own.
fn names(said: &str, parameter: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    said.match_indices(parameter).any(|(at, _)| {
        !said[..at].ends_with(part_of_word)
            && !said[at + parameter.len()..].starts_with(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one piece per read.
    struct Pieces(std::vec::IntoIter<&'static str>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.next().unwrap_or_default();
            buffer[..piece.len()].copy_from_slice(piece.as_bytes());
            Ok(piece.len())
        }
    }

    #[test]
    fn only_content_keeps_a_stream_alive_once_it_has_begun() {
        let (content, ping) = ("data: content\n\n", ": ping\n\n");
        for (pieces, goes_on) in [
            (vec![ping, ping, content], true),
            (vec![content, content, content], true),
            (vec![content, ping], false),
            (vec![content, "data: nothing\n\n"], false),
        ] {
            let mut each = |event: &Event| match event.data.as_str() {
                "content" => Ok(Seen::Content),
                _ => Ok(Seen::Nothing),
            };
            let mut reader = Pieces(pieces.clone().into_iter());
            let end = read_events(&mut reader, Duration::ZERO, &mut each);
            match end {
                Ok(_) => assert!(goes_on, "{pieces:?}"),
                Err(Stop::Idle) => assert!(!goes_on, "{pieces:?}"),
                Err(other) => panic!("{other:?}"),
            }
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
            assert_eq!(names(said, parameter), named, "{said}");
        }
    }

    #[test]
    fn an_answer_is_cut_at_its_bound_between_characters() {
        let mut text = "a".repeat(ANSWER - 1);
        assert!(!append(&mut text, "ü"));
        assert_eq!(text.len(), ANSWER - 1);
        assert!(append(&mut text, "b"));
    }
}
