//! Providers as the library shows them, against a scripted model on real sockets.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::lines;
use crate::support::model::{Model, ModelReply};
use crate::support::wire::{Reply, Wire};
use prx::http::with_heartbeat;
use prx::provider::{
    self, Answer, Class, Fact, FactKind, Image, KNOWN, Listener, Message, ProviderError,
    ProviderKind, ProviderSettings, Question, Role,
};
use prx::secret::Secret;
use serde_json::{Value, json};

const KEY: &str = "sk-test-0123456789abcdef";
const LONG: Duration = Duration::from_secs(300);

fn settings(kind: ProviderKind) -> ProviderSettings {
    ProviderSettings {
        kind,
        model: "test-model".into(),
        api_key: Some(Secret::new(KEY)),
        key_variable: "OPENAI_API_KEY".into(),
        ..ProviderSettings::default()
    }
}

/// The provider that a configuration's `default_provider` and `api_url` would mean.
fn named(name: &str, url: &str) -> ProviderSettings {
    settings(provider::settings::server(name, url).unwrap().0)
}

fn custom(url: &str) -> ProviderSettings {
    named(&format!("custom:{url}"), "")
}

fn openai(model: &Model) -> ProviderSettings {
    named("openai", &format!("{}/v1", model.url()))
}

fn anthropic(model: &Model) -> ProviderSettings {
    named("anthropic", &model.url())
}

fn command(words: &[&str]) -> ProviderSettings {
    settings(ProviderKind::Command(
        words.iter().map(|word| word.to_string()).collect(),
    ))
}

fn shell(script: &str) -> ProviderSettings {
    command(&["sh", "-c", script])
}

/// `"u:hello"` is a user's message, `s:` the system's, `a:` the assistant's.
fn conversation(short: &[&str]) -> Vec<Message> {
    let message = |short: &&str| {
        let (role, content) = short.split_once(':').unwrap();
        let role = match role {
            "s" => Role::System,
            "u" => Role::User,
            _ => Role::Assistant,
        };
        Message::new(role, content)
    };
    short.iter().map(message).collect()
}

fn question<'a>(conversation: &'a [Message], model: Option<&'a str>) -> Question<'a> {
    Question {
        conversation,
        images: &[],
        model,
        bot_name: "prxbot",
        several_speakers: false,
        time_left: LONG,
    }
}

/// Waits in no time, and keeps what it hears.
#[derive(Default)]
struct Ear {
    text: String,
    taken_back: Vec<String>,
    facts: Vec<Fact>,
    notes: Vec<String>,
    waits: Vec<Duration>,
    on_wait: Option<Box<dyn Fn(Duration)>>,
}

impl Listener for Ear {
    fn text(&mut self, piece: &str) {
        self.text += piece;
    }
    fn start_over(&mut self) {
        self.taken_back.push(std::mem::take(&mut self.text));
    }
    fn learned(&mut self, fact: Fact) {
        self.facts.push(fact);
    }
    fn note(&mut self, line: &str) {
        log::debug!("{line}");
        self.notes.push(line.to_owned());
    }
    fn wait(&mut self, duration: Duration) {
        self.waits.push(duration);
        if let Some(on_wait) = &self.on_wait {
            on_wait(duration);
        }
    }
}

/// A provider, and who listens to it: what one question finds out, the next one knows.
struct Asker {
    settings: ProviderSettings,
    ear: RefCell<Ear>,
}

impl Asker {
    fn new(settings: &ProviderSettings) -> Asker {
        Asker {
            settings: settings.clone(),
            ear: RefCell::default(),
        }
    }

    fn ask(&self, short: &[&str]) -> Result<Answer, ProviderError> {
        self.ask_within(LONG, short)
    }

    fn ask_within(&self, time_left: Duration, short: &[&str]) -> Result<Answer, ProviderError> {
        let conversation = conversation(short);
        self.put(&Question {
            time_left,
            ..question(&conversation, None)
        })
    }

    fn put(&self, question: &Question) -> Result<Answer, ProviderError> {
        let mut ear = self.ear.borrow_mut();
        ear.text.clear();
        let facts = ear.facts.clone();
        let answer = provider::ask(&self.settings, &facts, question, &mut *ear);
        if let Ok(answer) = &answer {
            assert_eq!(ear.text, answer.text, "what was heard is the answer");
        }
        answer
    }

    /// How long it was waited so far.
    fn slept(&self) -> Duration {
        self.ear.borrow().waits.iter().sum()
    }
}

fn ask(settings: &ProviderSettings, short: &[&str]) -> Result<Answer, ProviderError> {
    Asker::new(settings).ask(short)
}

fn text(answer: Result<Answer, ProviderError>) -> String {
    answer.unwrap().text
}

fn class(error: &ProviderError) -> &'static str {
    match error.class {
        Class::Again => "again",
        Class::TooLong => "too long",
        Class::TimedOut => "timed out",
        Class::Refused => "refused",
        Class::Filtered => "filtered",
        Class::Empty => "empty",
        Class::Never => "never",
    }
}

/// The answer's text, or the error's class in brackets.
fn outcome(result: &Result<Answer, ProviderError>) -> String {
    match result {
        Ok(answer) if answer.cut => format!("{} (cut)", answer.text),
        Ok(answer) => answer.text.clone(),
        Err(error) => format!("<{}>", class(error)),
    }
}

// Names, addresses and keys.

#[test]
fn every_named_provider_has_its_address_and_its_key() {
    let table: Vec<_> = KNOWN
        .iter()
        .map(|known| {
            (
                known.name,
                known.base,
                known.key_variables.join(" "),
                known.needs_key,
            )
        })
        .collect();
    let row =
        |name, base, variables: &str, needs_key| (name, base, variables.to_owned(), needs_key);
    assert_eq!(
        table,
        [
            row(
                "openrouter",
                "https://openrouter.ai/api/v1",
                "OPENROUTER_API_KEY",
                true
            ),
            row(
                "openai",
                "https://api.openai.com/v1",
                "OPENAI_API_KEY",
                true
            ),
            row(
                "anthropic",
                "https://api.anthropic.com",
                "ANTHROPIC_API_KEY",
                true
            ),
            row("ollama", "http://localhost:11434/v1", "", false),
            row(
                "groq",
                "https://api.groq.com/openai/v1",
                "GROQ_API_KEY",
                true
            ),
            row(
                "mistral",
                "https://api.mistral.ai/v1",
                "MISTRAL_API_KEY",
                true
            ),
            row(
                "deepseek",
                "https://api.deepseek.com/v1",
                "DEEPSEEK_API_KEY",
                true
            ),
            row("xai", "https://api.x.ai/v1", "XAI_API_KEY", true),
            row(
                "together",
                "https://api.together.xyz/v1",
                "TOGETHER_API_KEY",
                true
            ),
            row(
                "gemini",
                "https://generativelanguage.googleapis.com/v1beta/openai",
                "GEMINI_API_KEY GOOGLE_API_KEY",
                true,
            ),
            row("lmstudio", "http://localhost:1234/v1", "", false),
            row(
                "llamacpp",
                "http://localhost:8080/v1",
                "LLAMACPP_API_KEY",
                false
            ),
            row("vllm", "http://localhost:8000/v1", "VLLM_API_KEY", false),
            row(
                "litellm",
                "http://localhost:4000/v1",
                "LITELLM_API_KEY",
                false
            ),
        ]
    );
}

#[test]
fn the_path_is_completed_and_never_doubled() {
    let model = Model::start();
    let url = model.url();
    let custom = |path: &str| custom(&format!("{url}{path}"));
    let anthropic = |path: &str| named(&format!("anthropic-custom:{url}{path}"), "");
    for (settings, target) in [
        (custom("/v1"), "/v1/chat/completions"),
        (custom("/openai/v1/"), "/openai/v1/chat/completions"),
        (custom("/v1/chat/completions"), "/v1/chat/completions"),
        (named("ollama", &url), "/v1/chat/completions"),
        (
            named("Ollama", &format!("{url}/v1")),
            "/v1/chat/completions",
        ),
        (anthropic(""), "/v1/messages"),
        (anthropic("/v1"), "/v1/messages"),
        (anthropic("/v1/messages"), "/v1/messages"),
        (anthropic("/claude"), "/claude/v1/messages"),
    ] {
        assert_eq!(text(ask(&settings, &["u:hi"])), "Hello!");
        assert_eq!(model.requests().last().unwrap().target, target);
    }
}

#[test]
fn a_base_with_a_version_that_is_not_found_is_left_alone() {
    let model = Model::start();
    let result = ask(&custom(&format!("{}/api/v3", model.url())), &["u:hi"]);
    assert_eq!(outcome(&result), "<never>");
    assert_eq!(model.requests().len(), 1);
}

#[test]
fn a_base_whose_path_lacks_the_version_is_completed() {
    let model = Model::start();
    let settings = custom(&format!("{}/openai", model.url()));
    assert_eq!(text(ask(&settings, &["u:hi"])), "Hello!");
    let targets: Vec<_> = model
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(
        targets,
        ["/openai/chat/completions", "/openai/v1/chat/completions"]
    );
}

#[test]
fn an_api_that_misses_the_model_is_not_looked_for_elsewhere() {
    let model = Model::start();
    model.elsewhere(404, r#"{"error":{"message":"model 'x' not found"}}"#);
    let error = ask(&custom(&model.url()), &["u:hi"]).unwrap_err();
    assert!(error.to_string().contains("model 'x' not found"), "{error}");
    assert_eq!(model.requests().len(), 1);
}

#[test]
fn the_key_is_sent_as_each_api_wants_it_or_not_at_all() {
    let model = Model::start();
    let header = |settings: &ProviderSettings, name: &str| {
        ask(settings, &["u:hi"]).unwrap();
        model.requests().last().unwrap().headers.get(name).cloned()
    };
    let without = |settings| ProviderSettings {
        api_key: None,
        ..settings
    };
    let bearer = format!("Bearer {KEY}");
    assert_eq!(header(&openai(&model), "authorization"), Some(bearer));
    assert_eq!(header(&without(openai(&model)), "authorization"), None);
    assert_eq!(
        header(&anthropic(&model), "x-api-key").as_deref(),
        Some(KEY)
    );
    assert_eq!(header(&anthropic(&model), "authorization"), None);
    assert_eq!(header(&without(anthropic(&model)), "x-api-key"), None);
    let version = header(&anthropic(&model), "anthropic-version");
    assert_eq!(version.as_deref(), Some("2023-06-01"));
}

// The request.

#[test]
fn a_request_says_what_all_servers_take_and_no_more() {
    let model = Model::start();
    let said = &[
        "s:Be kind.",
        "u:Ann: hi",
        "u:Bob: hi",
        "a:Hi both.",
        "u:  ",
        "u:Bye",
    ];
    ask(&openai(&model), said).unwrap();
    ask(&anthropic(&model), said).unwrap();
    let turns = [
        json!({"role": "user", "content": "Ann: hi\n\nBob: hi"}),
        json!({"role": "assistant", "content": "Hi both."}),
        json!({"role": "user", "content": "Bye"}),
    ];
    let mut with_system = vec![json!({"role": "system", "content": "Be kind."})];
    with_system.extend(turns.clone());
    let expected = [
        json!({"model": "test-model", "stream": true, "messages": with_system}),
        json!({
            "model": "test-model",
            "stream": true,
            "messages": turns,
            "system": "Be kind.",
            "max_tokens": 16384,
        }),
    ];
    assert_eq!(model.bodies(), expected);
}

#[test]
fn the_temperature_is_sent_only_if_it_is_set() {
    let model = Model::start();
    for mut settings in [openai(&model), anthropic(&model)] {
        settings.temperature = Some(0.5);
        ask(&settings, &["u:hi"]).unwrap();
        assert_eq!(model.bodies().last().unwrap()["temperature"], 0.5);
    }
}

#[test]
fn the_question_may_name_another_model_and_none_is_fine() {
    let model = Model::start();
    let mut settings = openai(&model);
    settings.model.clear();
    let asker = Asker::new(&settings);
    let conversation = conversation(&["u:hi"]);
    for (named, sent) in [(None, Value::Null), (Some("other"), json!("other"))] {
        asker.put(&question(&conversation, named)).unwrap();
        assert_eq!(model.bodies().last().unwrap()["model"], sent);
    }
}

#[test]
fn a_refused_parameter_is_left_out_at_once_and_from_then_on() {
    #[rustfmt::skip] // A table.
    let cases = [
        ("temperature", r#"{"error":{"message":"Unsupported value","param":"temperature"}}"#),
        ("temperature", r#"{"type":"error","error":{"message":"`temperature` is deprecated"}}"#),
        ("stream", r#"{"error":{"message":"You must be verified to stream this model."}}"#),
        ("stream", r#"{"error":{"message":"Streaming is not supported"}}"#),
        ("temperature", r#"{"error":{"message":"Temperature is not supported"}}"#),
    ];
    for (parameter, complaint) in cases {
        let model = Model::start();
        model.on_request(move |request| {
            match crate::support::model::body(request).get(parameter) {
                Some(_) => ModelReply::status(400, complaint),
                None => ModelReply::text("fine"),
            }
        });
        let asker = Asker::new(&ProviderSettings {
            temperature: Some(0.5),
            ..openai(&model)
        });
        assert_eq!(text(asker.ask(&["u:hi"])), "fine", "{parameter}");
        assert_eq!(text(asker.ask(&["u:hi"])), "fine", "{parameter}");
        let sent: Vec<_> = model
            .bodies()
            .iter()
            .map(|body| body.get(parameter).is_some())
            .collect();
        assert_eq!(sent, [true, false, false], "{parameter}");
        assert_eq!(asker.slept(), Duration::ZERO);
    }
}

#[test]
fn a_parameter_is_left_out_only_for_the_model_that_refused_it() {
    let model = Model::start();
    model.then(ModelReply::status(
        400,
        r#"{"error":{"param":"temperature"}}"#,
    ));
    let settings = ProviderSettings {
        temperature: Some(0.5),
        ..anthropic(&model)
    };
    let asker = Asker::new(&settings);
    let conversation = conversation(&["u:hi"]);
    for named in [None, Some("other")] {
        asker.put(&question(&conversation, named)).unwrap();
    }
    let sent: Vec<_> = model
        .bodies()
        .iter()
        .map(|body| body.get("temperature").is_some())
        .collect();
    assert_eq!(sent, [true, false, true]);
}

#[test]
fn a_parameter_whose_absence_does_not_help_is_sent_again() {
    let model = Model::start();
    let refusal = r#"{"error":{"message":"temperature"}}"#;
    model.on_request(move |_| ModelReply::status(400, refusal));
    let asker = Asker::new(&ProviderSettings {
        temperature: Some(0.5),
        ..openai(&model)
    });
    assert_eq!(outcome(&asker.ask(&["u:hi"])), "<never>");
    assert_eq!(model.requests().len(), 2);
    assert_eq!(outcome(&asker.ask(&["u:hi"])), "<never>");
    assert_eq!(model.bodies()[2]["temperature"], 0.5);
}

// The stream.

/// A chunk whose first choice is this.
fn choice(choice: Value) -> String {
    format!("data: {}\n\n", json!({ "choices": [choice] }))
}

fn delta(content: impl Into<Value>) -> String {
    choice(json!({"delta": {"content": content.into()}, "finish_reason": null}))
}

fn finish(reason: &str) -> String {
    choice(json!({"delta": {}, "finish_reason": reason}))
}

const DONE: &str = "data: [DONE]\n\n";

#[test]
fn a_paused_turn_is_sent_back_to_go_on() {
    let model = Model::start();
    let paused = json!({
        "type": "message",
        "content": [{"type": "text", "text": "One, "}],
        "stop_reason": "pause_turn",
    });
    model.then(ModelReply::stream(&paused.to_string()));
    model.then(ModelReply::text("two."));
    assert_eq!(text(ask(&anthropic(&model), &["u:Count"])), "One, two.");
    let expected = json!([
        {"role": "user", "content": "Count"},
        {"role": "assistant", "content": "One,"},
    ]);
    assert_eq!(model.bodies()[1]["messages"], expected);
}

#[test]
fn what_came_before_a_pause_is_the_answer_when_going_on_fails() {
    let model = Model::start();
    let paused = json!({
        "type": "message",
        "content": [{"type": "text", "text": "One, "}],
        "stop_reason": "pause_turn",
    });
    model.then(ModelReply::stream(&paused.to_string()));
    model.on_request(|_| ModelReply::status(400, "no"));
    let answer = ask(&anthropic(&model), &["u:Count"]).unwrap();
    assert_eq!((answer.text.as_str(), answer.broke_off), ("One,", true));
}

#[test]
fn a_model_that_pauses_for_ever_is_not_asked_for_ever() {
    let model = Model::start();
    let paused = json!({
        "type": "message",
        "content": [{"type": "text", "text": "x"}],
        "stop_reason": "pause_turn",
    });
    model.on_request(move |_| ModelReply::stream(&paused.to_string()));
    assert_eq!(text(ask(&anthropic(&model), &["u:Count"])), "xxxx");
}

#[test]
fn an_endless_answer_is_cut() {
    let model = Model::start();
    let piece = delta("x".repeat(100_000)).into_bytes();
    model.then(ModelReply::Stream(vec![piece; 20]));
    let answer = ask(&openai(&model), &["u:hi"]).unwrap();
    assert_eq!((answer.text.len(), answer.cut), (200_000, true));
}

/// A server whose every body is what `write` writes; without a length or chunks.
fn wire(
    write: impl Fn(&mut dyn Write) -> std::io::Result<()> + Send + Sync + Clone + 'static,
) -> Wire {
    Wire::start(move |_| {
        let write = write.clone();
        Reply::Raw(Box::new(move |writer| {
            writer.write_all(b"HTTP/1.1 200 OK\r\n")?;
            write(writer)?;
            Ok(false)
        }))
    })
}

/// The same in one piece, which `headers` announce.
fn wire_with(headers: &'static str, body: impl Into<Vec<u8>>) -> Wire {
    let body = body.into();
    wire(move |writer| {
        write!(writer, "{headers}\r\n")?;
        writer.write_all(&body)
    })
}

#[test]
fn a_stream_left_open_after_its_answer_keeps_nobody_waiting() {
    for comments in [false, true] {
        let (stop, stopped) = mpsc::channel::<()>();
        let stopped = std::sync::Arc::new(Mutex::new(stopped));
        let bytes = delta("The ") + &delta("answer") + &finish("stop");
        let wire = wire(move |writer| {
            write!(writer, "\r\n{bytes}")?;
            writer.flush()?;
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped
                .lock()
                .unwrap()
                .recv_timeout(Duration::from_millis(200))
            {
                if comments {
                    write!(writer, ": ping\n\n")?;
                    writer.flush()?;
                }
            }
            Ok(())
        });
        let begun = Instant::now();
        assert_eq!(
            text(ask(&named("deepseek", &wire.url()), &["u:hi"])),
            "The answer"
        );
        let took = begun.elapsed();
        assert!(
            took < Duration::from_secs(3),
            "comments: {comments}: {took:?}"
        );
        drop(stop);
    }
}

#[test]
fn how_a_body_ends_decides_where_no_finish_does() {
    let text = delta("All ") + &delta("is well.");
    let length = |more: usize| format!("Content-Length: {}\r\n", text.len() + more);
    for (name, headers, body, broke_off) in [
        ("the connection's end", String::new(), text.clone(), false),
        ("the whole length", length(0), text.clone(), false),
        ("less than the length", length(1), text.clone(), true),
        (
            "a last chunk",
            "Transfer-Encoding: chunked\r\n".into(),
            format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()),
            false,
        ),
        (
            "no last chunk",
            "Transfer-Encoding: chunked\r\n".into(),
            format!("{:x}\r\n{text}\r\n", text.len()),
            true,
        ),
        (
            "a chunk cut short",
            "Transfer-Encoding: chunked\r\n".into(),
            format!("{:x}\r\n{text}", text.len() + 9),
            true,
        ),
    ] {
        let requests = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = requests.clone();
        let wire = Wire::start(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let (headers, body) = (headers.clone(), body.clone());
            Reply::Raw(Box::new(move |writer| {
                write!(writer, "HTTP/1.1 200 OK\r\n{headers}\r\n{body}")?;
                Ok(false)
            }))
        });
        let answer = ask(&custom(&format!("{}/v1", wire.url())), &["u:hi"]).unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.broke_off),
            ("All is well.", broke_off),
            "{name}"
        );
        let tries = if broke_off { 3 } else { 1 };
        assert_eq!(
            requests.load(std::sync::atomic::Ordering::SeqCst),
            tries,
            "{name}"
        );
    }
}

#[test]
fn a_reset_after_the_finish_is_no_failure() {
    let model = Model::start();
    let body = delta("whole") + &finish("stop");
    model.then(ModelReply::Broken(vec![body.into_bytes()]));
    assert_eq!(text(ask(&openai(&model), &["u:hi"])), "whole");
    assert_eq!(model.requests().len(), 1);
}

#[test]
fn the_longest_text_that_came_is_the_answer_when_every_try_breaks_off() {
    let model = Model::start();
    for text in ["A few", "A few more words", "A"] {
        model.then(ModelReply::Truncated(text.into()));
    }
    let asker = Asker::new(&openai(&model));
    let answer = asker.ask(&["u:hi"]).unwrap();
    assert_eq!(answer.text, "A few more words");
    assert!(answer.broke_off && !answer.cut);
    assert_eq!(model.requests().len(), 3);
}

#[test]
fn what_is_heard_early_is_taken_back_when_a_try_fails() {
    let model = Model::start();
    model.then(ModelReply::Truncated("Something else entirely".into()));
    model.then(ModelReply::text("Hello again!"));
    let asker = Asker::new(&openai(&model));
    assert_eq!(text(asker.ask(&["u:hi"])), "Hello again!");
    assert_eq!(asker.ear.borrow().taken_back, ["Something else entirely"]);
}

#[test]
fn a_name_before_the_answer_goes_only_where_several_people_speak() {
    let model = Model::start();
    #[rustfmt::skip] // A table.
    let cases = [
        ("prxbot: It takes an hour.", true, "It takes an hour."),
        ("prxbot: It takes an hour.", false, "prxbot: It takes an hour."),
        ("<think>prxbot: hm</think>@prxbot: It takes an hour.", true, "It takes an hour."),
        ("prxbot is my name.", true, "prxbot is my name."),
        ("Note: fine.", true, "Note: fine."),
    ];
    for (said, several, shown) in cases {
        model.answers(said);
        let conversation = conversation(&["u:hi"]);
        let question = Question {
            several_speakers: several,
            ..question(&conversation, None)
        };
        let answer = Asker::new(&openai(&model)).put(&question);
        assert_eq!(text(answer), shown, "{said}");
    }
}

#[test]
fn an_answer_that_is_compressed_though_nobody_asked_is_named() {
    let gzip: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    for (headers, body, outcome_expected) in [
        ("Content-Encoding: gzip\r\n", gzip.to_vec(), "<never>"),
        ("", gzip.to_vec(), "<never>"),
        (
            "Content-Encoding: gzip\r\n",
            (delta("a") + DONE).into_bytes(),
            "a",
        ),
    ] {
        let wire = wire_with(headers, body);
        let result = ask(&custom(&format!("{}/v1", wire.url())), &["u:hi"]);
        assert_eq!(outcome(&result), outcome_expected, "{result:?}");
        if let Err(error) = result {
            assert!(error.to_string().contains("compressed (gzip)"), "{error}");
        }
    }
}

#[test]
fn sources_stand_under_the_answer() {
    let model = Model::start();
    let body = json!({
        "choices": [{"message": {"content": "It rains [1]."}, "finish_reason": "stop"}],
        "citations": ["https://weather.example/today?x=1"],
        "usage": {"prompt_tokens": 7, "completion_tokens": 4},
    });
    model.then(ModelReply::stream(&body.to_string()));
    let answer = ask(&openai(&model), &["u:hi"]).unwrap();
    assert_eq!(
        answer.text,
        "It rains [1].\n\nSources: [1] weather.example/today"
    );
    assert_eq!(answer.tokens, Some((7, 4)));
    assert_eq!(answer.by, "openai test-model");
}

// Errors.

// A case per line.
#[rustfmt::skip]
#[test]
fn each_failure_is_tried_again_or_not_as_it_deserves() {
    let again = "again";
    let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}"#;
    let large = r#"{"error":{"message":"Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 9000, please reduce your message size"}}"#;
    let roles = r#"{"error":{"code":500,"message":"Conversation roles must alternate user/assistant"}}"#;
    for (status, body, expected, in_line) in [
        (408, "", again, "408"),
        (409, "", again, "409"),
        (429, r#"{"error":{"message":"slow down"}}"#, again, "slow down"),
        (500, r#"{"type":"error","error":{"type":"api_error","message":"oh"}}"#, "loading", "oh"),
        (502, "<html><h1>Bad Gateway</h1></html>", "loading", "Bad Gateway"),
        (503, r#"{"error":{"code":503,"message":"Loading model"}}"#, "loading", "Loading model"),
        (504, "", again, "504"),
        (524, "", again, "524"),
        (529, "", again, "529"),
        (400, r#"{"error":{"message":"bad","type":"x","code":null,"param":null}}"#, "never", "bad"),
        (401, "", "never", "OPENAI_API_KEY"),
        (402, "", "never", "account"),
        (403, r#"{"error":"text"}"#, "never", "text"),
        (404, r#"{"error":{"message":"model 'x' not found"}}"#, "never", "default_model"),
        (413, "", "never", "history_chars"),
        (422, r#"{"detail":[{"loc":["body"],"msg":"Extra inputs"}]}"#, "never", "Extra inputs"),
        (400, r#"{"object":"error","message":"vllm says","code":400}"#, "never", "vllm says"),
        (307, "", "never", "correct the URL"),
        (308, "", "never", "correct the URL"),
        (429, quota, "never", "no money or quota"),
        (400, r#"{"error":{"message":"Your credit balance is too low"}}"#, "never", "no money or quota"),
        (400, r#"{"error":{"message":"You have reached your usage limits"}}"#, "never", "no money or quota"),
        (400, r#"{"error":{"message":"Budget has been exceeded! Current cost: 1.2, Max budget: 1.0","type":"budget_exceeded","code":"400"}}"#, "never", "no money or quota"),
        (429, r#"{"error":{"message":"ExceededBudget: End User=ann over budget. Spend=1.2, Budget=1.0"}}"#, "never", "no money or quota"),
        (403, r#"{"error":{"message":"Your team's credits are used up: out of credits"}}"#, "never", "no money or quota"),
        (400, r#"{"error":{"message":"No connected db.","type":"no_db_connection","code":"400"}}"#, "never", "OPENAI_API_KEY"),
        (400, r#"{"code":"x","error":"Incorrect API key provided: xa***yz"}"#, "never", "OPENAI_API_KEY"),
        (400, r#"[{"error":{"code":400,"message":"API key not valid."}}]"#, "never", "OPENAI_API_KEY"),
        (429, large, "never", "history_chars"),
        (413, large, "never", "history_chars"),
        (500, r#"{"error":{"message":"Jinja Exception: no"}}"#, "never", "chat template"),
        (500, roles, "never", "chat template"),
        (400, r#"{"error":{"code":"content_filter","message":"filtered"}}"#, "filtered", "content filter"),
    ] {
        let model = Model::start();
        let headers = vec![("Location".into(), "/v1/models".into())];
        let body = body.to_owned();
        model.on_request(move |_| ModelReply::Status {
            status,
            headers: headers.clone(),
            body: body.clone(),
        });
        let asker = Asker::new(&openai(&model));
        let error = asker.ask_within(Duration::from_secs(9), &["u:hi"]).unwrap_err();
        let line = error.to_string();
        assert_eq!(class(&error), expected.replace("loading", again), "{status} {line}");
        assert!(line.contains(in_line) && line.starts_with("openai: "), "{status} {line}");
        assert!(line.chars().count() <= 300 && !line.contains('\n'), "{line}");
        let (requests, slept) = match expected {
            "again" => (3, Duration::from_millis(1500)),
            // A server of this network may be restarting: as long as there is time.
            "loading" => (5, Duration::from_secs(8)),
            _ => (1, Duration::ZERO),
        };
        assert_eq!((model.requests().len(), asker.slept()), (requests, slept), "{status} {line}");
    }
}

#[test]
fn a_connection_that_fails_is_tried_again() {
    let model = Model::start();
    model.then(ModelReply::Close);
    model.then(ModelReply::Truncated("Hel".into()));
    model.then(ModelReply::text("Hello again!"));
    // What came before the failure is not part of the answer.
    assert_eq!(text(ask(&openai(&model), &["u:hi"])), "Hello again!");
    assert_eq!(model.requests().len(), 3);

    let url = {
        let gone = Model::start();
        gone.url()
    };
    let asker = Asker::new(&named("vllm", &format!("{url}/v1")));
    let result = asker.ask_within(Duration::from_secs(25), &["u:hi"]);
    assert_eq!(outcome(&result), "<again>");
    // Nobody listens at its port: it may be restarting.
    assert_eq!(asker.slept(), Duration::from_secs(24));
}

#[test]
fn the_server_says_how_long_to_wait_unless_that_is_too_long() {
    for (header, value, slept_ms, requests) in [
        ("Retry-After", "7", 7_000, 2),
        ("Retry-After", "0", 500, 2),
        ("retry-after-ms", "2500", 2_500, 2),
        ("Retry-After", "299", 299_000, 2),
        ("Retry-After", "300", 0, 1),
        ("Retry-After", "86400", 0, 1),
    ] {
        let model = Model::start();
        let headers = vec![(header.into(), value.into())];
        model.then(ModelReply::Status {
            status: 429,
            headers,
            body: String::new(),
        });
        let asker = Asker::new(&openai(&model));
        let result = asker.ask(&["u:hi"]);
        assert_eq!(result.is_ok(), requests == 2, "{header}: {value}");
        assert_eq!(
            asker.slept(),
            Duration::from_millis(slept_ms),
            "{header}: {value}"
        );
        assert_eq!(model.requests().len(), requests, "{header}: {value}");
        let waits = &asker.ear.borrow().waits;
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
    }
}

#[test]
fn retry_after_may_be_a_date_and_its_milliseconds_win() {
    let model = Model::start();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let date = header("Date", "Wed, 21 Oct 2026 07:28:00 GMT");
    let after = header("Retry-After", "Wed, 21 Oct 2026 07:28:09 GMT");
    for headers in [
        vec![date.clone(), after.clone()],
        vec![date, after, header("retry-after-ms", "2000")],
    ] {
        model.then(ModelReply::Status {
            status: 429,
            headers,
            body: String::new(),
        });
    }
    let asker = Asker::new(&openai(&model));
    asker.ask(&["u:hi"]).unwrap();
    assert_eq!(asker.slept(), Duration::from_secs(9 + 2));
}

#[test]
fn a_conversation_that_is_too_long_is_halved_until_it_fits() {
    let model = Model::start();
    model.on_request(|request| match request.body.len() {
        ..200 => ModelReply::text("fits"),
        _ => ModelReply::status(400, r#"{"error":{"code":"context_length_exceeded"}}"#),
    });
    let long = format!("a:{}", "x".repeat(200));
    let said = [
        "s:S",
        "u:root",
        &long,
        "u:2",
        &long,
        "u:3",
        "a:last",
        "u:question",
    ];
    let asker = Asker::new(&openai(&model));
    assert_eq!(text(asker.ask(&said)), "fits");
    let last = &model.bodies().pop().unwrap()["messages"];
    assert_eq!(
        *last,
        json!([
            {"role": "system", "content": "S"},
            {"role": "user", "content": "root\n\n3"},
            {"role": "assistant", "content": "last"},
            {"role": "user", "content": "question"},
        ])
    );
    assert_eq!(asker.slept(), Duration::ZERO);
}

#[test]
fn a_question_that_is_too_long_by_itself_is_said_to_be() {
    #[rustfmt::skip] // A table.
    let cases = [
        ("openai", 400, r#"{"error":{"message":"prompt is too long: 9 tokens"}}"#),
        ("openai", 400, r#"{"error":{"code":"context_length_exceeded"}}"#),
        ("openai", 400, "This model's maximum context length is 4096 tokens."),
        ("openai", 400, "Your input exceeds the context window of this model."),
        ("llamacpp", 500, "the request exceeds the available context size"),
        ("llamacpp", 400, r#"{"error":{"type":"exceed_context_size_error"}}"#),
        ("xai", 400, r#"{"error":"This model's maximum prompt length is 9"}"#),
        ("groq", 400, "Please reduce the length of the messages or completion."),
        ("vllm", 400, "Input is greater than the context length"),
        ("vllm", 400, "The prompt is longer than the model's context length"),
        ("mistral", 400, "Prompt contains 9 tokens, too large for model with 5"),
        ("vllm", 400, "max context length"),
        ("vllm", 413, "PROMPT IS TOO LONG"),
        ("together", 403, ""),
    ];
    for (name, status, body) in cases {
        let model = Model::start();
        model.on_request(move |_| ModelReply::status(status, body));
        let base = format!("{}/v1", model.url());
        let result = ask(&named(name, &base), &["s:S", "u:1", "a:2", "u:3"]);
        assert_eq!(outcome(&result), "<too long>", "{name} {body}");
        // Whole, without the answer, the question alone.
        assert_eq!(model.requests().len(), 3, "{name} {body}");
    }
    let model = Model::start();
    let body = "rate limit: maximum context length of your plan";
    model.on_request(move |_| ModelReply::status(429, body));
    assert_eq!(outcome(&ask(&openai(&model), &["u:1", "u:2"])), "<again>");
}

// What a server turns out not to take.

#[test]
fn an_address_without_v1_is_found_below_it_whatever_says_no_there() {
    let unexpected = r#"{"error":"Unexpected endpoint or method. (POST /chat/completions)"}"#;
    for (name, status, body) in [
        ("not found", 404, "404 page not found"),
        ("another method", 405, ""),
        ("LM Studio", 200, unexpected),
        (
            "a page for people",
            200,
            "<!doctype html><title>Chat</title>",
        ),
        ("something else", 200, r#"{"status":"ok"}"#),
    ] {
        let model = Model::start();
        model.elsewhere(status, body);
        let asker = Asker::new(&custom(&model.url()));
        assert_eq!(text(asker.ask(&["u:hi"])), "Hello!", "{name}");
        assert_eq!(text(asker.ask(&["u:hi"])), "Hello!", "{name}");
        let targets: Vec<_> = model
            .requests()
            .into_iter()
            .map(|request| request.target)
            .collect();
        assert_eq!(
            targets,
            [
                "/chat/completions",
                "/v1/chat/completions",
                "/v1/chat/completions"
            ],
            "{name}: found out once"
        );
        // The doctor goes by the same rule.
        let models = provider::models::models(&custom(&model.url())).unwrap();
        assert_eq!(models, ["test-model"], "{name}");
    }
}

#[test]
fn an_address_that_is_wrong_with_and_without_v1_says_what_it_found_last() {
    let model = Model::start();
    model.elsewhere(404, "no");
    model.on_request(|_| ModelReply::status(404, r#"{"error":{"message":"model 'x' not found"}}"#));
    let error = Asker::new(&custom(&model.url()))
        .ask(&["u:hi"])
        .unwrap_err();
    assert!(error.to_string().contains("model 'x' not found"), "{error}");
}

#[test]
fn a_limit_of_the_answer_that_is_too_large_is_lowered_and_remembered() {
    #[rustfmt::skip] // A table.
    let cases = [
        (
            "anthropic",
            400,
            "max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for claude-x",
            8192,
        ),
        (
            "anthropic",
            400,
            "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower than 4096.",
            4096,
        ),
        (
            "openai",
            400,
            "max_tokens is too large: 16384. This model supports at most 4,096 completion tokens, whereas you provided 16384.",
            4096,
        ),
        ("openai", 400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("openai", 422, "`max_tokens` must be less than or equal to `8192`", 8192),
    ];
    for (api, status, complaint, most) in cases {
        let model = Model::start();
        let body = json!({"error": {"message": complaint}}).to_string();
        model.on_request(move |request| {
            match crate::support::model::body(request)["max_tokens"].as_u64() {
                Some(tokens) if tokens > most => ModelReply::status(status, &body),
                _ => ModelReply::text("fits"),
            }
        });
        let mut settings = match api {
            "anthropic" => anthropic(&model),
            _ => openai(&model),
        };
        if api == "openai" {
            settings
                .parameters
                .insert("max_tokens".into(), 16384.into());
        }
        let asker = Asker::new(&settings);
        assert_eq!(text(asker.ask(&["u:hi"])), "fits", "{complaint}");
        assert_eq!(text(asker.ask(&["u:hi"])), "fits", "{complaint}");
        let sent: Vec<_> = model
            .bodies()
            .iter()
            .map(|body| body["max_tokens"].as_u64().unwrap())
            .collect();
        assert_eq!(sent, [16384, most, most], "{complaint}");
    }
}

#[test]
fn a_limit_that_is_larger_than_the_models_context_leaves_room_for_the_question() {
    let model = Model::start();
    model.on_request(|request| {
        match crate::support::model::body(request)["max_tokens"].as_u64() {
            Some(most @ 8000..) => ModelReply::status(
                400,
                &json!({"error": {"code": 400, "message": format!(
                    "'max_tokens' or 'max_completion_tokens' is too large: {most}. This model's maximum \
                     context length is 8192 tokens and your request has 12 input tokens ({most} > 8192 - 12).",
                )}})
                .to_string(),
            ),
            _ => ModelReply::text("fits"),
        }
    });
    let asker = Asker::new(&anthropic(&model));
    for _ in 0..2 {
        assert_eq!(text(asker.ask(&["u:hi"])), "fits");
    }
    let sent: Vec<_> = model
        .bodies()
        .iter()
        .map(|body| body["max_tokens"].clone())
        .collect();
    assert_eq!(sent, [16384, 4096, 4096]);
}

#[test]
fn a_system_message_that_is_refused_goes_into_the_first_turn_and_it_is_remembered() {
    for (status, complaint) in [
        (400, r#"{"error":{"message":"System role not supported"}}"#),
        (
            500,
            r#"{"error":{"message":"Jinja Exception: Conversation roles must alternate"}}"#,
        ),
        (
            200,
            "event: error\ndata: {\"error\":{\"code\":400,\"message\":\"System role not supported\"}}\n\n",
        ),
    ] {
        let model = Model::start();
        model.on_request(move |request| {
            match crate::support::model::body(request)["messages"][0]["role"] == "system" {
                true => ModelReply::status(status, complaint),
                false => ModelReply::text("fine"),
            }
        });
        let asker = Asker::new(&openai(&model));
        for requests in [2, 3] {
            assert_eq!(
                text(asker.ask(&["s:Be kind.", "u:hi"])),
                "fine",
                "{complaint}"
            );
            assert_eq!(model.requests().len(), requests, "{complaint}");
        }
        let sent = &model.bodies()[1]["messages"];
        assert_eq!(
            *sent,
            json!([{"role": "user", "content": "Be kind.\n\nhi"}])
        );
    }
}

#[test]
fn a_key_goes_into_the_other_header_where_that_is_asked_for() {
    for (challenge, body) in [
        (
            "",
            r#"{"error":{"message":"Missing Authorization header"}}"#,
        ),
        ("Bearer realm=\"api\"", ""),
        ("", r#"{"detail":"Not authenticated: send a bearer token"}"#),
    ] {
        let model = Model::start();
        model.on_request(move |request| match request.headers.get("authorization") {
            Some(_) => ModelReply::text("fine"),
            None => ModelReply::Status {
                status: 401,
                headers: vec![("WWW-Authenticate".into(), challenge.into())],
                body: body.into(),
            },
        });
        let asker = Asker::new(&anthropic(&model));
        for _ in 0..2 {
            assert_eq!(outcome(&asker.ask(&["u:hi"])), "fine", "{challenge} {body}");
        }
        assert_eq!(model.requests().len(), 3, "found out once");
    }
    let model = Model::start();
    let body = r#"{"error":{"message":"invalid x-api-key"}}"#;
    model.on_request(move |_| ModelReply::status(401, body));
    assert_eq!(outcome(&ask(&anthropic(&model), &["u:hi"])), "<never>");
    assert_eq!(
        model.requests().len(),
        1,
        "a wrong key is not sent elsewhere"
    );
}

/// A question with one picture.
fn ask_with_picture(asker: &Asker) -> Result<Answer, ProviderError> {
    let mut conversation = conversation(&["s:S", "u:What is this?"]);
    conversation[1].images = vec![0];
    let image = Image {
        media_type: "image/png",
        base64: "iVBORw0KGgo=",
    };
    asker.put(&Question {
        images: &[image],
        ..question(&conversation, None)
    })
}

#[test]
fn pictures_are_sent_in_each_apis_shape() {
    let model = Model::start();
    let text_part = json!({"type": "text", "text": "What is this?"});
    for (settings, turn, picture) in [
        (
            openai(&model),
            1,
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}),
        ),
        (
            anthropic(&model),
            0,
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}),
        ),
    ] {
        let answer = ask_with_picture(&Asker::new(&settings)).unwrap();
        assert!(!answer.unseen_images);
        let sent = model.bodies().pop().unwrap();
        assert_eq!(
            sent["messages"][turn]["content"],
            json!([text_part, picture])
        );
        let length = &model.requests().pop().unwrap().headers["content-length"];
        assert_eq!(
            length.parse::<usize>().unwrap(),
            model.requests().pop().unwrap().body.len()
        );
    }
}

#[test]
fn a_model_that_takes_no_pictures_is_asked_without_them_and_remembered() {
    #[rustfmt::skip] // A table.
    let cases = [
        (400, r#"{"error":{"message":"This model does not support image input"}}"#),
        (404, r#"{"error":{"message":"No endpoints found that support image input"}}"#),
        (422, "Failed to deserialize: messages[1]: unknown variant `image_url`, expected `text`"),
        (400, r#"{"error":{"message":"messages[1].content must be a string"}}"#),
        (500, r#"{"error":{"message":"image input is not supported - hint: you may need to provide the mmproj"}}"#),
        (400, r#"{"error":{"message":"test-model is not a multimodal model"}}"#),
    ];
    for (status, complaint) in cases {
        let model = Model::start();
        model.on_request(move |request| {
            match request.body.windows(5).any(|part| part == b"iVBOR") {
                true => ModelReply::status(status, complaint),
                false => ModelReply::text("a cat, I guess"),
            }
        });
        let asker = Asker::new(&openai(&model));
        for requests in [2, 3] {
            let answer = ask_with_picture(&asker).unwrap();
            assert!(
                answer.unseen_images && answer.text == "a cat, I guess",
                "{complaint}"
            );
            assert_eq!(model.requests().len(), requests, "{complaint}");
        }
        assert_eq!(
            model.bodies().pop().unwrap()["messages"][1]["content"],
            "What is this?\n\n(A picture that belongs here could not be shown to you.)"
        );
    }
}

#[test]
fn a_picture_that_is_too_large_says_nothing_about_the_next_one() {
    let model = Model::start();
    model.then(ModelReply::status(413, ""));
    let asker = Asker::new(&openai(&model));
    assert!(ask_with_picture(&asker).unwrap().unseen_images);
    assert!(!ask_with_picture(&asker).unwrap().unseen_images);
}

#[test]
fn parameters_and_headers_of_the_configuration_go_along() {
    let model = Model::start();
    let mut settings = openai(&model);
    settings
        .parameters
        .insert("reasoning_effort".into(), "low".into());
    settings
        .headers
        .push(("X-Gateway".into(), Secret::new("hunter2")));
    let more = [
        ("reasoning_effort".to_owned(), json!("high")),
        ("keep_alive".to_owned(), json!(-1)),
    ];
    let channels = settings.with_parameters(&more.into_iter().collect());
    for (settings, effort) in [(&settings, "low"), (&channels, "high")] {
        ask(settings, &["u:hi"]).unwrap();
        assert_eq!(model.bodies().pop().unwrap()["reasoning_effort"], effort);
        assert_eq!(
            model.requests().pop().unwrap().headers["x-gateway"],
            "hunter2"
        );
    }
    assert_eq!(model.bodies().pop().unwrap()["keep_alive"], -1);

    let complaint = r#"{"error":{"message":"Unknown parameter: 'keep_alive'."}}"#;
    model.on_request(move |_| ModelReply::status(400, complaint));
    let error = ask(&channels, &["u:hi"]).unwrap_err();
    let line = error.to_string();
    assert!(
        line.contains("refuses keep_alive") && line.contains("[model_parameters]"),
        "{line}"
    );
}

#[test]
fn a_model_that_never_opens_its_reasoning_is_known_from_the_second_question_on() {
    let model = Model::start();
    model.answers("plan it well</think>Four.");
    let asker = Asker::new(&openai(&model));
    for _ in 0..2 {
        assert_eq!(text(asker.ask(&["u:hi"])), "Four.");
        let facts: Vec<_> = asker
            .ear
            .borrow()
            .facts
            .iter()
            .map(|fact| fact.kind)
            .collect();
        assert_eq!(facts, [FactKind::UnopenedReasoning], "found out once");
    }
}

// Waiting.

#[test]
fn a_model_that_is_loading_is_waited_for() {
    for (name, replies) in [
        (
            "llama.cpp",
            vec![
                (
                    503,
                    r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#
                );
                10
            ],
        ),
        ("a proxy in front of it", vec![(502, "Bad Gateway"); 10]),
        (
            "a server that starts",
            vec![(500, ""), (503, ""), (503, "starting up")],
        ),
        (
            "inside a stream",
            vec![
                (
                    200,
                    r#"{"error":{"code":503,"message":"The model is loading"}}"#
                );
                4
            ],
        ),
    ] {
        let model = Model::start();
        for (status, body) in &replies {
            model.then(ModelReply::status(*status, body));
        }
        let asker = Asker::new(&openai(&model));
        assert_eq!(text(asker.ask(&["u:hi"])), "Hello!", "{name}");
        assert_eq!(
            asker.slept(),
            Duration::from_secs(2) * replies.len() as u32,
            "{name}"
        );
    }
}

#[test]
fn a_server_that_restarts_is_waited_for() {
    let model = Model::start();
    model.stop();
    let asker = Asker::new(&openai(&model));
    let back = Cell::new(0);
    asker.ear.borrow_mut().on_wait = Some(Box::new(move |duration| {
        back.set(back.get() + duration.as_millis());
        if back.get() == 24_000 {
            model.restart();
        }
    }));
    assert_eq!(text(asker.ask(&["u:hi"])), "Hello!");
    assert_eq!(asker.slept(), Duration::from_secs(24));
}

#[test]
fn a_wait_in_the_body_is_kept_and_a_quota_of_the_day_is_not_waited_for() {
    let retry_info = r#"[{"error":{"code":429,"message":"Resource has been exhausted","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"8.5s"}]}}]"#;
    let per_day = r#"{"error":{"code":429,"details":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"},{"retryDelay":"8.5s"}]}}"#;
    for (body, slept_ms, requests) in [
        (retry_info, 8_500, 2),
        ("Rate limit reached. Please try again in 6s.", 6_000, 2),
        (
            r#"{"error":{"message":"Please retry in 26.6s."}}"#,
            26_600,
            2,
        ),
        ("try again in 10ms", 500, 2),
        ("Please try again in 7m12s.", 0, 1),
        (per_day, 0, 1),
    ] {
        let model = Model::start();
        model.then(ModelReply::status(429, body));
        let asker = Asker::new(&openai(&model));
        let result = asker.ask(&["u:hi"]);
        assert_eq!(result.is_ok(), requests == 2, "{body}");
        assert_eq!(asker.slept(), Duration::from_millis(slept_ms), "{body}");
        assert_eq!(model.requests().len(), requests, "{body}");
    }
}

#[test]
fn an_empty_answer_is_asked_for_once_more() {
    let role = choice(json!({"delta": {"role": "assistant"}}));
    let thought = choice(json!({"delta": {"reasoning_content": "hm"}}));
    for (name, first, requests) in [
        ("nothing but the role", role.clone() + &finish("stop"), 2),
        ("nothing at all", DONE.to_owned(), 2),
        ("only reasoning", thought.clone() + &finish("stop"), 2),
        ("a tool", role.clone() + &finish("tool_calls"), 2),
        ("cut within the reasoning", thought + &finish("length"), 1),
        (
            "cut within inline reasoning",
            delta("<think>hm") + &finish("stop"),
            1,
        ),
        ("a filter", role.clone() + &finish("content_filter"), 1),
        ("a refusal", role + &finish("refusal"), 1),
    ] {
        let model = Model::start();
        model.then(ModelReply::stream(&first));
        let asker = Asker::new(&openai(&model));
        let result = asker.ask(&["u:hi"]);
        assert_eq!(result.is_ok(), requests == 2, "{name}");
        assert_eq!(model.requests().len(), requests, "{name}");
        assert_eq!(asker.slept(), Duration::ZERO, "{name}");
    }
    let model = Model::start();
    model.answers(" ");
    assert_eq!(outcome(&ask(&openai(&model), &["u:hi"])), "<empty>");
    assert_eq!(model.requests().len(), 2);
}

/// A thread whose whole is refused by any model with this complaint.
#[test]
fn a_conversation_is_halved_whatever_the_words_for_too_long_are() {
    let turn = |from: &str| format!("{from}:{}", "word ".repeat(300));
    let turns: Vec<String> = (0..8)
        .map(|index| turn(if index % 2 == 0 { "u" } else { "a" }))
        .collect();
    let mut said: Vec<&str> = turns.iter().map(String::as_str).collect();
    said.push("u:And now?");
    #[rustfmt::skip] // A table.
    let cases = [
        (
            400,
            r#"{"object":"error","message":"The decoder prompt (length 5300) is longer than the maximum model length of 4096.","code":400}"#,
        ),
        (400, r#"{"error":{"code":"1261","message":"Prompt too long"}}"#),
        (400, r#"{"error":{"message":"input length and max_tokens exceed context limit: 3000 + 16384 > 16000"}}"#),
        (
            400,
            r#"{"error":{"message":"litellm.ContextWindowExceededError: litellm.BadRequestError: Context Window exceeded for given call","type":null,"code":"400"}}"#,
        ),
        (
            400,
            r#"{"error":"Trying to keep the first 4532 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}"#,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"The input token count (3100) exceeds the maximum number of tokens allowed (2048)."}}]"#,
        ),
        (
            422,
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3100 `inputs` tokens","error_type":"validation"}"#,
        ),
        (400, r#"{"message":"ValidationException: Input is too long for requested model."}"#),
        (400, r#"{"error":{"message":"request has 3,100 tokens; the model takes 2,048"}}"#),
        (200, r#"{"error":{"message":"context_length_exceeded"}}"#),
    ];
    for (status, complaint) in cases {
        let model = Model::start();
        model.on_request(move |request| match request.body.len() {
            ..6000 => ModelReply::text("fits"),
            _ => ModelReply::status(status, complaint),
        });
        let asker = Asker::new(&openai(&model));
        assert_eq!(text(asker.ask(&said)), "fits", "{complaint}");
        assert_eq!(model.requests().len(), 3, "{complaint}");
        let long = format!("u:{}", "word ".repeat(1500));
        let error = asker.ask(&["u:1", "a:2", &long]).unwrap_err();
        assert_eq!(class(&error), "too long", "{complaint}");
    }
}

#[test]
fn an_answer_cut_after_a_few_words_is_asked_for_with_less() {
    let long = format!("u:{}", "word ".repeat(600));
    let said = [long.as_str(), "a:yes", &long, "a:yes", "u:And now?"];
    let cut = |text: &str| delta(text) + &finish("length");
    let whole = |text: &str| delta(text) + &finish("stop");
    let refusal = ModelReply::status(400, "no");
    #[rustfmt::skip] // A table.
    let cases = [
        (
            "then whole",
            &said[..],
            vec![
                ModelReply::stream(&cut("It is")),
                ModelReply::stream(&whole("It is four.")),
            ],
            "It is four.",
            2,
        ),
        (
            "still cut, but longer",
            &said,
            vec![
                ModelReply::stream(&cut("It")),
                ModelReply::stream(&cut("It is")),
            ],
            "It is (cut)",
            2,
        ),
        (
            "still cut, and shorter",
            &said,
            vec![
                ModelReply::stream(&cut("It is")),
                ModelReply::stream(&cut("It")),
            ],
            "It is (cut)",
            2,
        ),
        ("then an error", &said, vec![ModelReply::stream(&cut("It is")), refusal], "It is (cut)", 2),
        ("a short conversation", &["u:1", "a:2", "u:3"], vec![ModelReply::stream(&cut("It is"))], "It is (cut)", 1),
        ("a long answer", &said, vec![ModelReply::stream(&cut(&"word ".repeat(300)))], "", 1),
    ];
    for (name, said, replies, expected, requests) in cases {
        let model = Model::start();
        replies.into_iter().for_each(|reply| model.then(reply));
        let asker = Asker::new(&openai(&model));
        let result = asker.ask(said);
        if !expected.is_empty() {
            assert_eq!(outcome(&result), expected, "{name}");
        }
        assert_eq!(model.requests().len(), requests, "{name}");
    }
    // A limit that the configuration sets is meant.
    let model = Model::start();
    model.then(ModelReply::stream(&cut("It is")));
    let mut settings = openai(&model);
    settings.parameters.insert("max_tokens".into(), 100.into());
    assert_eq!(outcome(&ask(&settings, &said)), "It is (cut)");
    assert_eq!(model.requests().len(), 1);
}

// Fallbacks.

/// The first provider, and one that is asked after it.
fn with_fallback(first: &Model, second: &Model) -> ProviderSettings {
    let fallback = ProviderSettings {
        model: "other-model".into(),
        api_key: Some(Secret::new("second-key-0123")),
        ..custom(&format!("{}/v1", second.url()))
    };
    ProviderSettings {
        fallbacks: vec![fallback],
        ..openai(first)
    }
}

#[test]
fn the_next_provider_answers_when_the_tries_of_one_are_used_up() {
    let broke = || ModelReply::Broken(vec![delta("A few").into_bytes()]);
    #[rustfmt::skip] // A table.
    let cases = [
        ("too many requests", ModelReply::status(429, "slow down"), 3),
        ("no money", ModelReply::status(402, ""), 1),
        ("a refused key", ModelReply::status(401, ""), 1),
        ("an unknown model", ModelReply::status(404, ""), 1),
        ("a server in trouble", ModelReply::status(504, ""), 3),
        ("a server that restarts", ModelReply::status(503, ""), 3),
        ("a long wait", ModelReply::status(429, "try again in 60s"), 1),
        ("a quota of the day", ModelReply::status(429, "requests per day"), 1),
        ("an empty answer", ModelReply::text(" "), 2),
        ("a connection that breaks", broke(), 3),
    ];
    for (name, reply, requests) in cases {
        let (first, second) = (Model::start(), Model::start());
        let reply = Mutex::new(reply);
        first.on_request(move |_| match &*reply.lock().unwrap() {
            ModelReply::Status { status, body, .. } => ModelReply::status(*status, body),
            ModelReply::Text(text) => ModelReply::text(text),
            _ => broke(),
        });
        let asker = Asker::new(&with_fallback(&first, &second));
        let answer = asker.ask(&["u:hi"]).unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.broke_off),
            ("Hello!", false),
            "{name}"
        );
        assert_eq!(answer.by, "custom other-model", "{name}");
        assert_eq!(first.requests().len(), requests, "{name}");
        let sent = second.requests().pop().unwrap();
        assert_eq!(
            sent.headers["authorization"], "Bearer second-key-0123",
            "{name}"
        );
        assert_eq!(second.bodies()[0]["model"], "other-model", "{name}");
        let notes = &asker.ear.borrow().notes;
        assert!(
            notes
                .iter()
                .any(|note| note.contains("asking the next one")),
            "{notes:?}"
        );
    }
}

#[test]
fn what_is_about_the_question_is_not_asked_elsewhere() {
    for (status, body, class) in [
        (400, "context_length_exceeded", "<too long>"),
        (400, r#"{"error":{"code":"content_filter"}}"#, "<filtered>"),
    ] {
        let (first, second) = (Model::start(), Model::start());
        first.on_request(move |_| ModelReply::status(status, body));
        let result = ask(&with_fallback(&first, &second), &["u:hi"]);
        assert_eq!(outcome(&result), class);
        assert_eq!(second.requests().len(), 0);
    }
}

#[test]
fn when_all_fail_the_log_has_every_reason_and_the_person_one_sentence() {
    let (first, second) = (Model::start(), Model::start());
    first.on_request(|_| ModelReply::status(429, "slow down"));
    second.on_request(|_| ModelReply::status(402, "no money"));
    let error = ask(&with_fallback(&first, &second), &["u:hi"]).unwrap_err();
    let line = error.to_string();
    assert!(
        line.contains("slow down") && line.contains("no money"),
        "{line}"
    );
    assert_eq!(error.for_person(), Class::Again.for_person());
}

#[test]
fn other_models_of_the_server_come_before_other_providers() {
    let (first, second) = (Model::start(), Model::start());
    first.on_request(
        |request| match crate::support::model::body(request)["model"].as_str() {
            Some("third") => ModelReply::text("third time lucky"),
            _ => ModelReply::status(404, "no such model"),
        },
    );
    let mut settings = with_fallback(&first, &second);
    settings
        .model_fallbacks
        .insert("test-model".into(), vec!["next".into(), "third".into()]);
    let answer = ask(&settings, &["u:hi"]).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.by.as_str()),
        ("third time lucky", "openai third")
    );
    assert_eq!(second.requests().len(), 0);
    // They belong to the model that is asked for, not to the provider.
    let conversation = conversation(&["u:hi"]);
    let answer = Asker::new(&settings)
        .put(&question(&conversation, Some("unknown")))
        .unwrap();
    assert_eq!(answer.by, "custom other-model");
}

#[test]
fn a_provider_that_says_nothing_leaves_time_for_the_next_one() {
    let (first, second) = (Model::start(), Model::start());
    let (release, held) = mpsc::channel();
    first.then(ModelReply::Held(held, Box::new(ModelReply::Close)));
    let asker = Asker::new(&with_fallback(&first, &second));
    let answer = asker.ask_within(Duration::from_secs(2), &["u:hi"]).unwrap();
    assert_eq!(answer.by, "custom other-model");
    drop(release);
}

/// Once it hears text it listens no more until half of the time is over.
struct SlowEar(Ear, Instant, Duration);

impl Listener for SlowEar {
    fn text(&mut self, piece: &str) {
        std::thread::sleep((self.2 / 2).saturating_sub(self.1.elapsed()));
        self.0.text(piece);
    }
    fn start_over(&mut self) {
        self.0.start_over();
    }
    fn note(&mut self, line: &str) {
        self.0.note(line);
    }
    fn wait(&mut self, duration: Duration) {
        self.0.wait(duration);
    }
}

#[test]
fn an_answer_that_breaks_off_after_half_of_the_time_has_begun_all_the_same() {
    let (first, second) = (Model::start(), Model::start());
    first.then(ModelReply::Truncated("Well, as far as I know, ".repeat(9)));
    let conversation = conversation(&["u:hi"]);
    let time_left = Duration::from_secs(4);
    let mut ear = SlowEar(Ear::default(), Instant::now(), time_left);
    let question = Question {
        time_left,
        ..question(&conversation, None)
    };
    let settings = with_fallback(&first, &second);
    let answer = provider::ask(&settings, &[], &question, &mut ear).unwrap();
    assert_eq!(answer.by, "openai test-model", "{:?}", ear.0.notes);
}

#[test]
fn a_program_that_hangs_leaves_time_for_the_next_one() {
    let second = Model::start();
    let settings = ProviderSettings {
        fallbacks: vec![openai(&second)],
        ..shell("while sleep 0.1; do echo; done")
    };
    let asker = Asker::new(&settings);
    let answer = asker.ask_within(Duration::from_secs(4), &["u:hi"]).unwrap();
    assert_eq!(answer.by, "openai test-model");
}

// Secrets.

#[test]
fn no_key_prompt_or_answer_is_ever_logged() {
    lines::keep_all();
    let prompt = "the launch code is swordfish and the moon is made of cheese";
    let answer = "the answer nobody else may read";
    let model = Model::start();
    let quoting = |words: &str| format!(r#"{{"error":{{"message":"cannot parse: {words}"}}}}"#);
    let mut errors = Vec::new();
    for (status, body) in [
        (401, quoting(&format!("key {KEY}"))),
        (
            401,
            quoting("Incorrect API key provided: sk-te***************cdef."),
        ),
        (401, format!("<html>Authorization: Bearer {KEY}</html>")),
        (400, quoting(prompt)),
        (400, quoting(&prompt[5..40])),
        (422, format!(r#"{{"detail":[{{"input":"{prompt}"}}]}}"#)),
        (503, quoting(prompt)),
    ] {
        model.on_request(move |_| ModelReply::status(status, &body));
        for settings in [openai(&model), anthropic(&model)] {
            errors.push(
                ask(&settings, &[&format!("u:{prompt}")])
                    .unwrap_err()
                    .to_string(),
            );
        }
    }
    model.answers(answer);
    for settings in [
        openai(&model),
        anthropic(&model),
        shell("cat; cat >&2 </dev/null; exit 3"),
    ] {
        errors.extend(
            ask(&settings, &[&format!("u:{prompt}")])
                .err()
                .map(|e| e.to_string()),
        );
    }
    let complaint = format!("echo '{prompt}' >&2; echo ok");
    assert_eq!(
        text(ask(&shell(&complaint), &[&format!("u:{prompt}")])),
        "ok"
    );

    let lines = lines::taken();
    assert!(
        lines.iter().any(|line| line.contains("trying again")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("standard error")),
        "{lines:?}"
    );
    for line in errors.iter().chain(&lines) {
        for secret in [
            KEY,
            "0123456789",
            "cdef",
            "swordfish",
            "launch code",
            "nobody else",
        ] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

// Time.

#[test]
fn a_server_that_says_nothing_for_long_is_waited_for_with_a_heartbeat() {
    let model = Model::start();
    let (release, held) = mpsc::channel();
    model.then(ModelReply::Held(held, Box::new(ModelReply::text("loaded"))));
    let beats = Rc::new(Cell::new(0));
    let counted = beats.clone();
    let heartbeat = move || {
        counted.set(counted.get() + 1);
        if counted.get() == 2 {
            release.send(()).unwrap();
        }
    };
    let asker = Asker::new(&openai(&model));
    assert_eq!(
        text(with_heartbeat(heartbeat, || asker.ask(&["u:hi"]))),
        "loaded"
    );
    assert_eq!(model.requests().len(), 1);
    assert!(beats.get() >= 2);
}

#[test]
fn the_time_for_the_answer_bounds_everything() {
    let model = Model::start();
    let mut releases = Vec::new();
    for settings in [openai(&model), anthropic(&model)] {
        let (release, held) = mpsc::channel();
        releases.push(release);
        model.then(ModelReply::Held(held, Box::new(ModelReply::Close)));
        let result = Asker::new(&settings).ask_within(Duration::from_millis(300), &["u:hi"]);
        assert_eq!(outcome(&result), "<timed out>");
        let line = result.unwrap_err().to_string();
        assert!(line.contains("message_timeout_secs"), "{line}");
    }
    assert_eq!(model.requests().len(), 2);
}

// A program as the model.

#[test]
fn a_program_reads_the_conversation_and_prints_the_answer() {
    let said = &["s:Be kind.", "u:größe \"1\"\n", "a:yes", "u:now"];
    let got: Value = serde_json::from_str(&text(ask(&command(&["cat"]), said))).unwrap();
    let expected = json!({"messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "größe \"1\"\n"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "now"},
    ]});
    assert_eq!(got, expected);
}

#[test]
fn programs_end_in_every_way_without_harm() {
    let long = "x".repeat(150_000);
    let echoed = format!(r#"{{"messages":[{{"content":"{long}","role":"user"}}]}}"#);
    let large = format!("u:{long}");
    for (script, question, expected) in [
        ("echo; echo ' hi '", "u:hi", "hi"),
        ("cat", &large, echoed.as_str()),
        ("exec 0<&-; echo hi", &large, "hi"),
        ("echo '<think>hm</think>hi'", "u:hi", "hi"),
        (
            "cat /dev/stdin >/dev/null; echo no >/dev/stderr; echo hi >/dev/stdout",
            "u:hi",
            "hi",
        ),
        ("head -c 1000000 /dev/zero >&2; echo hi", "u:hi", "hi"),
        ("sleep 60 & echo hi", "u:hi", "hi"),
        ("true", "u:hi", "<empty>"),
        ("echo hi; exit 3", "u:hi", "<never>"),
        ("echo hi; kill -9 $$", "u:hi", "<never>"),
    ] {
        let result = ask(&shell(script), &[question]);
        assert!(
            outcome(&result) == expected,
            "{script}: {:.200}",
            format!("{result:?}")
        );
    }
    let result = ask(
        &command(&["/nonexistent/program", "--key=secret"]),
        &["u:hi"],
    );
    assert_eq!(outcome(&result), "<never>");
    let line = result.unwrap_err().to_string();
    assert!(
        line.contains("provider_command") && !line.contains("secret"),
        "{line}"
    );
    assert_eq!(outcome(&ask(&command(&[]), &["u:hi"])), "<never>");
    let result = ask(
        &shell("echo first >&2; echo no such model >&2; exit 3"),
        &["u:hi"],
    );
    let line = result.unwrap_err().to_string();
    assert_eq!(
        line,
        "sh: the program failed with exit status: 3 (no such model)"
    );
}

#[test]
fn a_program_that_prints_without_end_is_stopped_and_its_answer_cut() {
    let answer = ask(&command(&["yes"]), &["u:hi"]).unwrap();
    assert!(answer.cut && answer.text.len() > 190_000);
}

#[test]
fn a_program_is_killed_when_its_time_is_up_even_if_it_says_nothing_more() {
    let plays = |end_of_output: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let script = format!("echo $$ >{path}; {end_of_output} exec sleep 60");
        let limit = Duration::from_secs(1);
        let result = Asker::new(&shell(&script)).ask_within(limit, &["u:hi"]);
        assert_eq!(outcome(&result), "<timed out>");
        let id = std::fs::read_to_string(file.path()).unwrap();
        assert!(!std::path::Path::new("/proc").join(id.trim()).exists());
    };
    std::thread::scope(|scope| {
        for end in ["", "exec 1>&- 2>&-;"] {
            scope.spawn(move || plays(end));
        }
    });
}

#[test]
fn what_a_program_printed_before_its_time_was_up_is_the_answer() {
    let asker = Asker::new(&shell("echo Well, so; exec sleep 60"));
    let answer = asker.ask_within(Duration::from_secs(2), &["u:hi"]).unwrap();
    assert_eq!((answer.text.as_str(), answer.broke_off), ("Well, so", true));
}

#[test]
fn a_program_does_not_see_the_secrets_of_the_environment() {
    const NAME: &str = "a_program_does_not_see_the_secrets_of_the_environment";
    let variables = KNOWN
        .iter()
        .flat_map(|known| known.key_variables)
        .chain([&"MATTERMOST_BOT_TOKEN"]);
    if std::env::var_os("PRX_TEST_SECRETS").is_none() {
        // A process's own environment cannot be changed safely: this test again, in another process.
        let mut again = crate::support::alone(module_path!(), NAME);
        again.env("PRX_TEST_SECRETS", "1");
        again.envs(variables.map(|variable| (variable, "secret")));
        let output = String::from_utf8(again.output().unwrap().stdout).unwrap();
        assert!(output.contains("1 passed"), "{output}");
        return;
    }
    let seen = text(ask(&command(&["env"]), &["u:hi"]));
    assert!(
        seen.contains("PATH=") && seen.contains("PRX_TEST_SECRETS=1"),
        "{seen}"
    );
    assert!(!seen.contains("=secret"), "{seen}");
}

#[test]
fn a_heartbeat_goes_on_while_a_program_thinks() {
    let beats = Rc::new(Cell::new(0));
    let counted = beats.clone();
    let asker = Asker::new(&shell("sleep 1; echo hi"));
    let answer = with_heartbeat(
        move || counted.set(counted.get() + 1),
        || asker.ask(&["u:hi"]),
    );
    assert_eq!(text(answer), "hi");
    assert!(beats.get() >= 1);
}

// The rest.

#[test]
fn echo_repeats_the_last_thing_said() {
    assert_eq!(
        text(ask(&settings(ProviderKind::Echo), &["u:a", "a:b", "u: c "])),
        "You said: c"
    );
    assert_eq!(
        outcome(&ask(&settings(ProviderKind::Echo), &["u: "])),
        "<empty>"
    );
}

#[test]
fn without_a_provider_the_answer_says_what_to_add() {
    let answer = text(ask(&settings(ProviderKind::None), &["u:hi"]));
    for part in [
        "default_provider = \"",
        "default_model = \"",
        "api_key = \"",
        "works",
    ] {
        assert!(answer.contains(part), "{answer}");
    }
}

#[test]
fn a_person_reads_one_sentence_without_internals() {
    let classes = [
        Class::Again,
        Class::TooLong,
        Class::TimedOut,
        Class::Refused,
        Class::Filtered,
        Class::Empty,
        Class::Never,
    ];
    for class in classes {
        let error = ProviderError::new(class, "openai: HTTP 500".into());
        let sentence = error.for_person();
        assert!(
            sentence.ends_with('.') && sentence.len() < 130,
            "{sentence}"
        );
        assert!(
            !sentence.contains("openai") && !sentence.contains("500"),
            "{sentence}"
        );
    }
}

#[test]
fn a_provider_says_what_it_is() {
    for (settings, described) in [
        (
            named("ollama", "http://localhost:11434/v1"),
            "ollama test-model",
        ),
        (
            command(&["/usr/bin/answer", "--key=secret"]),
            "command answer",
        ),
        (settings(ProviderKind::Echo), "echo"),
        (settings(ProviderKind::None), "no language model"),
    ] {
        assert_eq!(settings.describe(), described);
    }
}

/// A whole suite of these must stay quick.
#[test]
fn the_stand_in_can_advance_a_clock() {
    let model = Model::start();
    let (sender, receiver) = mpsc::channel();
    model.on_arrival(move |request| sender.send(request.target.clone()).unwrap());
    let begun = Instant::now();
    ask(&openai(&model), &["u:hi"]).unwrap();
    assert_eq!(receiver.try_recv().as_deref(), Ok("/v1/chat/completions"));
    assert!(begun.elapsed() < LONG);
}
