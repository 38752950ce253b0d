//! One question to one model server over HTTP: asked again at once where the server names what it
//! does not take, and its body read into a `Stream`.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::ask::{Ear, Facts};
use super::error::{Asked, Class, ProviderError, names_word, numbers, status_of};
use super::harmless::one_line;
use super::learned::FactKind;
use super::request::{Body, LIMITS, Shape, has_images, headers, limit};
use super::settings::{Api, ProviderSettings, is_local, question_url, second_base};
use super::stream::{End, Ended, Outcome, Stream};
use super::wait::Wait;
use super::{Image, Message, Role};
use crate::http::{self, Agent, Call, Cause, Failure, Obstacle, Response, failure};

/// Bytes of a whole stream. A token costs a stream a few hundred bytes.
const STREAM: u64 = 64 << 20;
/// Bytes of an error's body.
const ERROR: u64 = 64 << 10;
/// The longest pause in an answer that has begun. Keep-alives do not count: a stream was seen open
/// on them for 17 minutes after its answer.
const IDLE: Duration = Duration::from_secs(120);
/// How long more is waited for once the model said that it stopped.
const AFTER_FINISH: Duration = Duration::from_secs(2);
/// In tokens. A smaller number in a refusal is something else.
const SMALLEST_CONTEXT: u32 = 1024;
/// How often a model may pause within one answer.
const PAUSES: usize = 3;

/// A question, and what it is asked with.
pub(super) struct Attempt<'a> {
    pub(super) settings: &'a ProviderSettings,
    pub(super) api: Api,
    pub(super) base: &'a str,
    pub(super) model: &'a str,
    pub(super) conversation: &'a [Message],
    pub(super) images: &'a [Image<'a>],
    /// The bot's name, if it may stand before the answer.
    pub(super) bot_name: &'a str,
    pub(super) agent: &'a Agent,
    /// What is left of the time, from `begun` on.
    pub(super) time_left: Duration,
    pub(super) begun: Instant,
    /// The answer must begin by then, as another provider could be asked.
    pub(super) begin_by: Option<Instant>,
}

/// An answer; the listener has heard its text.
#[derive(Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) cut: bool,
    pub(super) tokens: Option<(u64, u64)>,
    pub(super) unseen_images: bool,
}

/// No answer, and as much of one as came.
pub(super) struct Failed {
    pub(super) error: ProviderError,
    pub(super) partial: String,
}

impl From<ProviderError> for Failed {
    fn from(error: ProviderError) -> Failed {
        Failed {
            error,
            partial: String::new(),
        }
    }
}

impl Attempt<'_> {
    /// The answer. What the server turns out not to take is left out of a repeated request, and of
    /// later ones if that helped.
    pub(super) fn ask(&self, facts: &mut Facts, ear: &mut Ear) -> Result<Said, Failed> {
        let shape = Shape {
            facts: facts.of(self.base, self.model),
            blind: false,
        };
        let mut stream = self.stream(&shape);
        let said = self.ask_into(&mut stream, shape, facts, ear);
        said.map_err(|failed| match failed.partial.is_empty() {
            // The model paused, and what came before is still in the stream.
            true => Failed {
                partial: stream.end(End::Broken).text,
                ..failed
            },
            false => failed,
        })
    }

    fn ask_into(
        &self,
        stream: &mut Stream,
        mut shape: Shape,
        facts: &mut Facts,
        ear: &mut Ear,
    ) -> Result<Said, Failed> {
        let known = shape.facts.len();
        let (mut said, mut pauses) = (String::new(), 0);
        loop {
            // After a pause the answer has begun.
            let begin_by = self.begin_by.filter(|_| pauses == 0);
            let response = self.post(&shape, &said, begin_by)?;
            if !(200..300).contains(&response.status) {
                self.mend_or_fail(response, &mut shape, ear)?;
                continue;
            }
            let (end, broke) = self.read(response, begin_by, stream, ear)?;
            let mut ended = stream.end(end);
            if is_elsewhere(&ended.outcome) && self.go_below_v1(&mut shape) {
                *stream = self.stream(&shape);
                continue;
            }
            if let Outcome::Error(body) = &ended.outcome
                && self.mend(status_of(body), "", body, &mut shape, ear)
            {
                ear.start_over();
                *stream = self.stream(&shape);
                continue;
            }
            if ended.outcome == Outcome::Paused {
                ear.news(ended.news);
                (said, pauses) = (stream.raw().to_owned(), pauses + 1);
                if pauses <= PAUSES {
                    continue;
                }
                ended = stream.end(End::Clean);
            }
            if stream.is_unopened() && !shape.has(FactKind::UnopenedReasoning) {
                shape.facts.push(FactKind::UnopenedReasoning);
            }
            for kind in &shape.facts[known..] {
                self.learn(*kind, facts, ear);
            }
            return self.said(ended, stream, broke, &shape, ear);
        }
    }

    fn stream(&self, shape: &Shape) -> Stream {
        Stream::new(self.bot_name, shape.has(FactKind::UnopenedReasoning))
    }

    fn learn(&self, kind: FactKind, facts: &mut Facts, ear: &mut Ear) {
        let model = match kind {
            FactKind::BelowV1 | FactKind::Bearer => "",
            _ => self.model,
        };
        facts.learn(self.base, model, kind, ear);
    }

    fn post(
        &self,
        shape: &Shape,
        said: &str,
        begin_by: Option<Instant>,
    ) -> Result<Response, Failed> {
        let second = second_base(self.api, self.base).filter(|_| shape.has(FactKind::BelowV1));
        let url = question_url(self.api, second.as_deref().unwrap_or(self.base));
        let headers = headers(self.api, self.settings, shape.has(FactKind::Bearer));
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let body = Body::new(
            self.api,
            self.settings,
            self.model,
            self.conversation,
            self.images,
            said,
            shape,
        );
        let timeout = self.time_left.saturating_sub(self.begun.elapsed());
        if timeout.is_zero() {
            return Err(self.timed_out().into());
        }
        http::wait_until(begin_by);
        let response = self.agent.call(&Call {
            method: "POST",
            url: &url,
            headers: &headers,
            body: http::Body::Pieces(&body.pieces(self.images)),
            timeout,
        });
        http::wait_until(None);
        response.map_err(|failure| self.failed(failure, begin_by).into())
    }

    /// A status that is no answer: the request is changed so that the next one may work, or this is
    /// the error.
    fn mend_or_fail(
        &self,
        response: Response,
        shape: &mut Shape,
        ear: &mut Ear,
    ) -> Result<(), Failed> {
        let (status, after) = (response.status, response.retry_after());
        let challenge = response
            .header("www-authenticate")
            .unwrap_or_default()
            .to_lowercase();
        let body = match read(response, ERROR) {
            (_, Some(how)) => return Err(self.compressed(&how).into()),
            (body, None) => body,
        };
        // An API that misses the model is the right one.
        let is_api = body.starts_with('{') && body.contains("model");
        if matches!(status, 404 | 405) && !is_api && self.go_below_v1(shape) {
            return Ok(());
        }
        if self.mend(status, &challenge, &body, shape, ear) {
            return Ok(());
        }
        Err(self.asked().refused(status, &body, after).into())
    }

    /// Changes the request so that it lacks what a refusal names; false: it names nothing of it.
    fn mend(
        &self,
        status: u16,
        challenge: &str,
        body: &str,
        shape: &mut Shape,
        ear: &mut Ear,
    ) -> bool {
        let text = body.to_lowercase();
        let blinds =
            shape.shows_images() && has_images(self.conversation) && refuses_images(status, &text);
        if status == 401 && self.takes_bearer(shape, &format!("{challenge} {text}")) {
            shape.facts.push(FactKind::Bearer);
        } else if let Some(most) = self.takes_fewer_tokens(status, &text, shape) {
            shape.facts.push(FactKind::MaxTokens(most));
        } else if blinds && (status == 413 || is_about_one_image(&text)) {
            shape.blind = true;
        } else if blinds {
            shape.facts.push(FactKind::NoImages);
        } else if let Some(kind) = self.refused_option(status, &text, shape) {
            shape.facts.push(kind);
        } else {
            return false;
        }
        let said = self
            .asked()
            .line(&format!("HTTP {status}: asked again at once"), body);
        ear.note(&said);
        true
    }

    /// Something else answered at the base: the API may be below `/v1`.
    fn go_below_v1(&self, shape: &mut Shape) -> bool {
        let goes = !shape.has(FactKind::BelowV1) && second_base(self.api, self.base).is_some();
        shape.facts.extend(goes.then_some(FactKind::BelowV1));
        goes
    }

    /// `text` is in lower case.
    fn takes_bearer(&self, shape: &Shape, text: &str) -> bool {
        let asks = text.contains("authorization") || text.contains("bearer");
        asks && self.api == Api::Anthropic
            && !shape.has(FactKind::Bearer)
            && self.settings.api_key.is_some()
    }

    /// The limit of the answer's length that the server takes, if it refused a larger one.
    fn takes_fewer_tokens(&self, status: u16, text: &str, shape: &Shape) -> Option<u32> {
        let ours = limit(self.api, self.settings, shape)?;
        let names =
            LIMITS.iter().any(|name| text.contains(name)) || text.contains("maximum tokens");
        if !matches!(status, 400 | 422) || !names {
            return None;
        }
        let is_context = text.contains("context limit") || text.contains("context length");
        let smaller = numbers(text)
            .into_iter()
            .filter(|number| (16..ours).contains(number));
        let most = u32::try_from(smaller.max()?).ok()?;
        if is_context {
            // It is larger than the model's context, which the question needs a part of.
            (most >= SMALLEST_CONTEXT).then_some(most / 2)
        } else {
            Some(most)
        }
    }

    /// The part of the request that a refusal names, in lower case, and that can be done without: it
    /// is left out from here on.
    fn refused_option(&self, status: u16, text: &str, shape: &Shape) -> Option<FactKind> {
        let mut messages = self.conversation.iter();
        let has_system = messages.any(|message| message.role == Role::System);
        let is_own = |name: &str| !self.settings.parameters.contains_key(name);
        let has_temperature = self.settings.temperature.is_some() && is_own("temperature");
        let is_option = matches!(status, 400 | 422 | 501);
        let options = [
            (
                FactKind::NoSystem,
                has_system && refuses_system(status, text),
            ),
            (
                FactKind::NoTemperature,
                has_temperature && is_option && names_word(text, "temperature"),
            ),
            (
                FactKind::NoStream,
                is_option && (names_word(text, "stream") || names_word(text, "streaming")),
            ),
        ];
        let mut refused = options.into_iter().filter(|(_, is_refused)| *is_refused);
        let (kind, _) = refused.find(|(kind, _)| !shape.has(*kind))?;
        Some(kind)
    }

    /// Reads the body to its end; what is certain is heard as it comes. Besides how it ended: the
    /// error if it broke.
    fn read(
        &self,
        response: Response,
        begin_by: Option<Instant>,
        stream: &mut Stream,
        ear: &mut Ear,
    ) -> Result<(End, Option<ProviderError>), Failed> {
        struct Unbounded;
        impl Drop for Unbounded {
            fn drop(&mut self) {
                http::wait_until(None);
            }
        }
        let _unbounded = Unbounded;
        let encoding = response
            .header("content-encoding")
            .unwrap_or_default()
            .to_owned();
        let mut reader = response.reader(STREAM);
        let mut buffer = [0; 8192];
        let mut first = true;
        let mut silence = Silence::new(begin_by);
        loop {
            http::wait_until(silence.bound());
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok((End::Clean, None)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Ok(match silence.end(Instant::now()) {
                        Some(end) => (end, None),
                        None => {
                            let begin_by = begin_by.filter(|_| silence.content.is_none());
                            (End::Broken, Some(self.failed(failure(error), begin_by)))
                        }
                    });
                }
            };
            if std::mem::take(&mut first)
                && let Some(how) = compression(&buffer[..count], &encoding)
            {
                return Err(self.compressed(&how).into());
            }
            let is_content = stream.feed(&buffer[..count]);
            ear.news(stream.news());
            if stream.is_over() {
                return Ok((End::Clean, None));
            }
            let now = Instant::now();
            silence.heard(now, is_content, stream.has_finish());
            if let Some(end) = silence.end(now) {
                return Ok((end, None));
            }
        }
    }

    /// What came of a body.
    fn said(
        &self,
        ended: Ended,
        stream: &Stream,
        broke: Option<ProviderError>,
        shape: &Shape,
        ear: &mut Ear,
    ) -> Result<Said, Failed> {
        ear.news(ended.news);
        let mut text = ended.text;
        let Outcome::Answer { cut } = ended.outcome else {
            let error = self.no_answer(ended.outcome, broke, ear);
            return Err(Failed {
                error,
                partial: text,
            });
        };
        let sources = stream.sources();
        if !sources.is_empty() {
            let line = format!("\n\n{sources}");
            ear.text(&line);
            text += &line;
        }
        Ok(Said {
            text,
            cut,
            tokens: stream.tokens(),
            unseen_images: !shape.shows_images() && has_images(self.conversation),
        })
    }

    /// Why a body holds no answer.
    fn no_answer(
        &self,
        outcome: Outcome,
        broke: Option<ProviderError>,
        ear: &mut Ear,
    ) -> ProviderError {
        let asked = self.asked();
        let (class, what) = match outcome {
            Outcome::Error(body) => return asked.refused(200, &body, None),
            Outcome::Answer { .. } | Outcome::Paused | Outcome::Empty { thought: false } => {
                (Class::Empty, "the answer was empty")
            }
            Outcome::Empty { thought: true } => (
                Class::Empty,
                "the answer was empty: all that came is reasoning (reasoning_content)",
            ),
            Outcome::EmptyCut => {
                let what = "the model reached its length limit before it began to answer: raise \
                            max_tokens or its context size";
                let error = ProviderError::new(Class::Empty, asked.line(what, ""));
                return error.waiting(Wait::Hopeless);
            }
            Outcome::Filtered => (Class::Filtered, "a content filter stopped the answer"),
            Outcome::Refused => (Class::Refused, "the model declined to answer"),
            Outcome::BrokenOff => match broke {
                Some(error) => return error,
                None => (Class::Again, "the answer broke off"),
            },
            Outcome::NotJson(text) => {
                let what = "a part of the answer is not JSON";
                ear.note(&asked.line(what, &one_line(&text, 100)));
                (Class::Again, what)
            }
            Outcome::NotChat => (
                Class::Again,
                "the answer is not a chat completion: is the URL right?",
            ),
            Outcome::Page(text) => {
                let what = "the answer is not JSON: is the URL right?";
                return ProviderError::new(Class::Again, asked.line(what, &text));
            }
        };
        ProviderError::new(class, asked.line(what, ""))
    }

    fn asked(&self) -> Asked<'_> {
        asked(self.settings, self.conversation)
    }

    /// `begin_by`: of an answer that has not begun.
    fn failed(&self, failure: Failure, begin_by: Option<Instant>) -> ProviderError {
        // A timeout may be noticed a little before its time.
        let left = self.time_left.saturating_sub(self.begun.elapsed());
        let asked = self.asked();
        let line = asked.line("no answer, is the server up?", &failure.to_string());
        match failure {
            Failure::TooLarge => {
                ProviderError::new(Class::Never, asked.line("the answer has no end", ""))
            }
            Failure::Unclear(_) if left < Duration::from_millis(100) => self.timed_out(),
            Failure::Unclear(_) if begin_by.is_some_and(|by| Instant::now() >= by) => {
                let line = asked.line("the answer did not begin in half of the time", "");
                ProviderError::new(Class::Again, line).waiting(Wait::Hopeless)
            }
            // Nobody listens at its port: a model server that restarts.
            Failure::Unreachable(Obstacle {
                cause: Cause::Refused | Cause::Name,
                ..
            }) if asked.is_local => {
                ProviderError::new(Class::Again, line).waiting(Wait::Loading(None))
            }
            _ => ProviderError::new(Class::Again, line),
        }
    }

    fn compressed(&self, how: &str) -> ProviderError {
        ProviderError::new(
            Class::Never,
            self.asked().line(&http::compressed(how).to_string(), ""),
        )
    }

    fn timed_out(&self) -> ProviderError {
        let what = "no answer in time: raise message_timeout_secs, or use a faster model";
        ProviderError::new(Class::TimedOut, self.asked().line(what, ""))
    }
}

/// What a log line must know of the server of these settings.
pub(super) fn asked<'a>(settings: &'a ProviderSettings, conversation: &'a [Message]) -> Asked<'a> {
    let (name, base) = settings
        .server()
        .map_or(("", ""), |(_, name, base)| (name, base));
    Asked {
        name,
        secrets: settings.secrets(),
        key_variable: &settings.key_variable,
        is_local: is_local(base),
        conversation,
        parameters: Some(&settings.parameters),
    }
}

/// How long a body's next bytes are waited for. The moments are absolute: keep-alives extend none.
struct Silence {
    /// When the answer must have begun.
    begin_by: Option<Instant>,
    /// When the last content came.
    content: Option<Instant>,
    /// When nothing more is waited for, as the model said that it stopped.
    over: Option<Instant>,
}

impl Silence {
    fn new(begin_by: Option<Instant>) -> Silence {
        Silence {
            begin_by,
            content: None,
            over: None,
        }
    }

    /// Something came at `now`.
    fn heard(&mut self, now: Instant, is_content: bool, has_finish: bool) {
        if is_content {
            self.content = Some(now);
        }
        if has_finish && (is_content || self.over.is_none()) {
            self.over = Some(now + AFTER_FINISH);
        }
    }

    /// When the waiting ends.
    fn bound(&self) -> Option<Instant> {
        let idle = self.content.map(|content| content + IDLE);
        self.over.or(idle).or(self.begin_by)
    }

    /// How the body has ended by its silence, if it has.
    fn end(&self, now: Instant) -> Option<End> {
        let end = match (self.over, self.content) {
            (Some(_), _) => End::Clean,
            (None, Some(_)) => End::Broken,
            (None, None) => return None,
        };
        self.bound().filter(|bound| now >= *bound).map(|_| end)
    }
}

/// Whether something else than the API answered with a 200.
fn is_elsewhere(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Page(_) | Outcome::NotChat => true,
        // LM Studio, and what web frameworks say.
        Outcome::Error(body) => {
            body.to_lowercase().contains("unexpected endpoint") || !body.contains("\"error\"")
        }
        _ => false,
    }
}

/// Whether a server has no place for a system message; templates that do not know the role take it for
/// a turn of its own. `text` is in lower case.
fn refuses_system(status: u16, text: &str) -> bool {
    let names_role = names_word(text, "system")
        && ["role", "support", "not allowed"]
            .iter()
            .any(|word| text.contains(word));
    // llama.cpp and SGLang say it with a 500.
    matches!(status, 400 | 422 | 500)
        && (names_role
            || [
                "developer instruction",
                "roles must alternate",
                "roles are supported",
            ]
            .iter()
            .any(|sign| text.contains(sign)))
}

/// Whether a server does not take pictures, or not these. `text` is in lower case.
fn refuses_images(status: u16, text: &str) -> bool {
    const SIGNS: &[&str] = &[
        "image",
        "vision",
        "multimodal",
        "multi-modal",
        "mmproj",
        "content must be a string",
        "valid string",
        "expected a string",
        "expected string",
        "should be 'text'",
        "invalid message format",
    ];
    match status {
        413 => true,
        // llama.cpp says it with a 500.
        400 | 404 | 415 | 422 | 500 | 501 => SIGNS.iter().any(|sign| text.contains(sign)),
        _ => false,
    }
}

/// Whether it is this picture that is refused, not all.
fn is_about_one_image(text: &str) -> bool {
    [
        "too large",
        "too big",
        "exceed",
        "size",
        "corrupt",
        "could not process",
        "decode",
        "download",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

/// How a body is compressed, by its first bytes. One that only claims to be is read.
fn compression(start: &[u8], encoding: &str) -> Option<String> {
    let is_text =
        |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace() || *byte == 0xEF;
    match start {
        [0x1F, 0x8B, ..] => Some("gzip".to_owned()),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some("zstd".to_owned()),
        _ if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") => None,
        _ if start.iter().take(16).all(is_text) => None,
        _ => Some(one_line(encoding, 20)),
    }
}

/// The beginning of a body, as text, and how it is compressed; what breaks while it is read is left
/// out.
pub(super) fn read(response: Response, limit: u64) -> (String, Option<String>) {
    let encoding = response
        .header("content-encoding")
        .unwrap_or_default()
        .to_owned();
    let (mut reader, mut body, mut buffer) = (response.reader(limit), Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        body.extend_from_slice(&buffer[..count]);
    }
    match compression(&body, &encoding) {
        Some(how) => (String::new(), Some(how)),
        None => (String::from_utf8_lossy(&body).into_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_compressed_only_if_its_bytes_are() {
        for (start, encoding, how) in [
            (&b"\x1f\x8b\x08\0"[..], "gzip", Some("gzip")),
            (b"\x1f\x8b\x08\0", "", Some("gzip")),
            (b"\x28\xb5\x2f\xfd\0", "zstd", Some("zstd")),
            (b"\x0b\x02\x80{\"a\"", "br", Some("br")),
            (b"\x78\x9c\xab", "deflate", Some("deflate")),
            (b"data: {\"a\"", "gzip", None),
            (b"{\"a\":\"\xc3\xbc\"", "", None),
            (b"\xef\xbb\xbfdata", "", None),
            (b"", "gzip", None),
        ] {
            assert_eq!(
                compression(start, encoding).as_deref(),
                how,
                "{start:?} {encoding}"
            );
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn silence_is_bounded_by_the_last_content_and_the_finish() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (comment, content, finish, both) = ((false, false), (true, false), (false, true), (true, true));
        for (begin_by, heard, bound, end) in [
            (None, &[][..], None, None),
            (Some(150), &[], Some(150), None),
            (Some(150), &[(1, comment), (2, comment)], Some(150), None),
            (Some(150), &[(1, content)], Some(121), Some(End::Broken)),
            (None, &[(1, content), (60, comment), (119, comment)], Some(121), Some(End::Broken)),
            (None, &[(1, content), (60, content)], Some(180), Some(End::Broken)),
            (None, &[(1, content), (60, finish)], Some(62), Some(End::Clean)),
            (None, &[(60, finish), (61, finish)], Some(62), Some(End::Clean)),
            (Some(150), &[(60, finish), (61, both)], Some(63), Some(End::Clean)),
        ] {
            let mut silence = Silence::new(begin_by.map(at));
            for (second, (is_content, has_finish)) in heard {
                silence.heard(at(*second), *is_content, *has_finish);
            }
            assert_eq!(silence.bound(), bound.map(at), "{heard:?}");
            for (second, expected) in [(bound.unwrap_or(1) - 1, None), (bound.unwrap_or(500), end)] {
                assert_eq!(silence.end(at(second)), expected, "{heard:?} at {second}");
            }
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn refusals_of_a_system_message_are_known_by_their_words() {
        for (status, text, refuses) in [
            (400, "system role not supported", true),
            (500, "jinja exception: system role not supported", true),
            (400, "unsupported value: 'messages[0].role' does not support 'system' with this model.", true),
            (400, "developer instruction is not enabled for models/gemma-3-27b-it", true),
            (400, "this model doesn't support system messages. try again without a system message", true),
            (400, r#"messages: unexpected role "system""#, true),
            (400, "conversation roles must alternate user/assistant/user/assistant/...", true),
            (500, "only user and assistant roles are supported!", true),
            (400, "only user, assistant and tool roles are supported!", true),
            (400, "your request was rejected by our safety system", false),
            (500, "internal system error", false),
            (503, "system role not supported", false),
        ] {
            assert_eq!(refuses_system(status, text), refuses, "{status} {text}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn refusals_of_pictures_are_known_by_their_words() {
        for (status, text, refuses) in [
            (400, "this model does not support image input", true),
            (404, "no endpoints found that support image input", true),
            (422, "unknown variant `image_url`, expected `text`", true),
            (400, "messages[0].content must be a string", true),
            (422, "input should be a valid string", true),
            (400, "invalid type: sequence, expected a string", true),
            (500, "image input is not supported - hint: you may need to provide the mmproj", true),
            (400, "model is not multimodal", true),
            (422, r#"{"errors":[{"loc":"body -> messages -> 0 -> content -> 0 -> type","msg":"input should be 'text'"}]}"#, true),
            (400, r#"{"error":"invalid message format"}"#, true),
            (413, "", true),
            (400, "temperature is out of range", false),
            (401, "image", false),
            (503, "image", false),
        ] {
            assert_eq!(refuses_images(status, text), refuses, "{status} {text}");
        }
        assert!(is_about_one_image("image exceeds 5 mb"));
        assert!(!is_about_one_image("this model does not support image input"));
    }
}
