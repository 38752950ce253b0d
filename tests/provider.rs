//! Providers as the library shows them, against a scripted model on real sockets.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use prx::http::with_heartbeat;
use prx::provider::{
    self, Answer, Class, Fact, KNOWN, Listener, Message, ProviderError, ProviderKind,
    ProviderSettings, Question, Role,
};
use prx::secret::Secret;
use serde_json::{Value, json};
use support::model::{Model, ModelReply};
use support::wire::{Reply, Wire};

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
    facts: Vec<Fact>,
    notes: Vec<String>,
    waits: Vec<Duration>,
}

impl Listener for Ear {
    fn text(&mut self, piece: &str) {
        self.text += piece;
    }
    fn start_over(&mut self) {
        self.text.clear();
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
fn a_base_without_path_that_is_not_found_gets_v1_once_and_for_all() {
    let model = Model::start();
    let asker = Asker::new(&custom(&model.url()));
    assert_eq!(text(asker.ask(&["u:hi"])), "Hello!");
    assert_eq!(text(asker.ask(&["u:hi"])), "Hello!");
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
        ]
    );
}

#[test]
fn a_base_with_a_path_that_is_not_found_is_left_alone() {
    let model = Model::start();
    let result = ask(&custom(&format!("{}/api", model.url())), &["u:hi"]);
    assert_eq!(outcome(&result), "<never>");
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
    for (parameter, complaint) in [
        (
            "temperature",
            r#"{"error":{"message":"Unsupported value","param":"temperature"}}"#,
        ),
        (
            "temperature",
            r#"{"type":"error","error":{"message":"`temperature` is deprecated"}}"#,
        ),
        (
            "stream",
            r#"{"error":{"message":"You must be verified to stream this model."}}"#,
        ),
    ] {
        let model = Model::start();
        model.on_request(
            move |request| match support::model::body(request).get(parameter) {
                Some(_) => ModelReply::status(400, complaint),
                None => ModelReply::text("fine"),
            },
        );
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

/// Asks once for each stream, sent whole and byte by byte.
fn check_streams(
    settings: impl Fn(&Model) -> ProviderSettings,
    cases: &[(&str, &str, Vec<String>)],
) {
    let model = Model::start();
    let once = ProviderSettings {
        retries: 0,
        ..settings(&model)
    };
    for (name, expected, pieces) in cases {
        let bytes = pieces.concat().into_bytes();
        for pieces in [
            vec![bytes.clone()],
            bytes.chunks(1).map(<[u8]>::to_vec).collect(),
        ] {
            let split = pieces.len() > 1;
            model.then(ModelReply::Stream(pieces));
            let result = ask(&once, &["u:hi"]);
            assert_eq!(
                &outcome(&result),
                expected,
                "{name}, split: {split}, {result:?}"
            );
        }
    }
}

// A case per line.
#[rustfmt::skip]
#[test]
fn an_openai_stream_is_understood_in_all_its_forms() {
    let stop = || finish("stop");
    let usage = || "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n".to_owned();
    let role = || choice(json!({"delta": {"role": "assistant"}}));
    let parts = json!([
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a"},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": "b"},
    ]);
    let whole = json!({"choices": [{
        "message": {"role": "assistant", "content": "a", "reasoning": "hm"},
        "finish_reason": "stop",
    }]});
    let own = |text: &str| text.to_owned();
    let chunks = |texts: &[&str]| texts.iter().map(|text| delta(*text)).collect::<String>();
    check_streams(
        openai,
        &[
            ("plain", "a b", vec![delta("a "), delta("b"), stop(), own(DONE)]),
            ("CRLF", "ab", vec![chunks(&["a", "b"]).replace('\n', "\r\n"), stop(), own(DONE)]),
            ("CR", "ab", vec![chunks(&["a", "b"]).replace('\n', "\r"), own(DONE)]),
            ("many bytes per character", "日本 🎉", vec![chunks(&["日", "本 ", "🎉"]), own(DONE)]),
            ("no space after the colon", "a", vec![delta("a").replace(": ", ":"), own(DONE)]),
            ("[DONE] without blank line", "a", vec![delta("a"), own("data: [DONE]")]),
            ("[DONE] without finish", "a", vec![delta("a"), own(DONE)]),
            ("finish without [DONE]", "a", vec![delta("a"), stop()]),
            ("last event without blank line", "a", vec![delta("a"), own(stop().trim_end())]),
            ("comments", "ab", vec![own(": OPENROUTER PROCESSING\n\n"), delta("a"), own(": ping\n\n:\n"), delta("b"), stop()]),
            ("data over two lines", "a", vec![delta("a").replace(",\"fin", ",\ndata: \"fin"), stop()]),
            ("no choices", "a", vec![usage(), role(), delta("a"), stop(), usage(), own(DONE)]),
            ("content null, absent, empty", "a", vec![delta(Value::Null), choice(json!({"delta": {}})), delta(""), delta("a"), stop()]),
            ("content in parts", "ab", vec![delta(parts), stop()]),
            ("data that is not JSON", "a", vec![own("data: hello\n\n"), delta("a"), stop()]),
            ("blank lines first", "a", vec![own("\n\n\r\n"), delta("a"), stop()]),
            ("reasoning fields", "a", vec![choice(json!({"delta": {"reasoning_content": "hm", "content": null}})), choice(json!({"delta": {"reasoning": "hm"}})), delta("a"), stop()]),
            ("thought inline", "a", vec![chunks(&["<thi", "nk>hm</", "think>\n\na"]), stop()]),
            ("thought without opening", "a", vec![chunks(&["hm</thin", "k>a"]), stop()]),
            ("thought without end", "<empty>", vec![chunks(&["<think>", "hm"]), stop()]),
            ("only reasoning", "<empty>", vec![choice(json!({"delta": {"reasoning": "hm"}})), stop(), own(DONE)]),
            ("blank", "<empty>", vec![delta(" \n"), stop()]),
            ("nothing but the end", "<empty>", vec![role(), own(DONE)]),
            ("length", "a (cut)", vec![delta("a"), finish("length"), own(DONE)]),
            ("max_tokens", "a (cut)", vec![delta("a"), finish("max_tokens")]),
            ("length while thinking", "<empty>", vec![delta("<think>hm"), finish("length")]),
            ("content filter", "<filtered>", vec![delta("a"), finish("content_filter")]),
            ("refusal", "<refused>", vec![finish("refusal")]),
            ("refusal as a field", "<refused>", vec![choice(json!({"delta": {"refusal": "No."}})), stop()]),
            ("finished by an error", "<again>", vec![delta("a"), finish("error")]),
            ("tool calls after text", "a", vec![delta("a"), finish("tool_calls")]),
            ("tool calls alone", "<empty>", vec![finish("tool_calls")]),
            ("unknown finish", "a", vec![delta("a"), finish("eos")]),
            ("what follows the finish", "a", vec![delta("a"), stop(), own(": ping\n\n"), delta("b")]),
            ("truncated", "<again>", vec![delta("a")]),
            ("truncated in an event", "<again>", vec![delta("a"), own("data: {\"choi")]),
            ("nothing at all", "<again>", vec![]),
            ("error as data", "<again>", vec![delta("a"), own("data: {\"error\":{\"code\":502,\"message\":\"gone\"}}\n\n")]),
            ("error as data that will not pass", "<never>", vec![own("data: {\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no\"}}\n\n")]),
            ("error as object", "<never>", vec![own("data: {\"object\":\"error\",\"message\":\"no\",\"code\":400}\n\n")]),
            ("error as field", "<too long>", vec![own("error: {\"code\":400,\"message\":\"exceeds the available context size\"}\n\n")]),
            ("error as bare JSON in the stream", "<again>", vec![delta("a"), own("{\"error\":{\"message\":\"model runner stopped\"}}\n")]),
            ("error: null is none", "a", vec![delta("a").replace("{\"ch", "{\"error\":null,\"ch"), stop()]),
            ("a 200 that holds only an error", "<never>", vec![own("{\"error\":{\"code\":\"401\",\"message\":\"no\"}}")]),
            ("an array with an error", "<again>", vec![own("[{\"error\":{\"code\":503,\"message\":\"no\"}}]")]),
            ("plain JSON", "a", vec![whole.to_string()]),
            ("plain JSON over many lines", "a", vec![format!("\n\n{whole:#}\n")]),
            ("plain JSON of something else", "<again>", vec![own("{\"status\":\"ok\"}")]),
            ("HTML", "<again>", vec![own("<html><body>Sign in</body></html>")]),
        ],
    );
}

// A case per line.
#[rustfmt::skip]
#[test]
fn an_anthropic_stream_is_understood_in_all_its_forms() {
    let event = |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let delta = |delta: Value| event(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    let text = |text: &str| delta(json!({"type": "text_delta", "text": text}));
    let start = || event(json!({"type": "message_start", "message": {"content": []}}));
    let block = |kind: &str| {
        event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": kind}}))
    };
    let block_end = || event(json!({"type": "content_block_stop", "index": 0}));
    let stop = |reason: &str| event(json!({"type": "message_delta", "delta": {"stop_reason": reason}}));
    let end = || event(json!({"type": "message_stop"}));
    let ping = || event(json!({"type": "ping"}));
    let error = |kind: &str| event(json!({"type": "error", "error": {"type": kind, "message": "no"}}));
    let whole = json!({
        "type": "message",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}],
        "stop_reason": "max_tokens",
    });
    check_streams(
        anthropic,
        &[
            ("plain", "a ü", vec![start(), block("text"), ping(), text("a "), text("ü"), block_end(), stop("end_turn"), end()]),
            ("thinking first", "a", vec![start(), block("thinking"), delta(json!({"type": "thinking_delta", "thinking": "hm", "text": "hm"})), delta(json!({"type": "signature_delta", "signature": "x"})), block_end(), block("text"), text("a"), block_end(), stop("end_turn"), end()]),
            ("unknown events", "a", vec![event(json!({"type": "news"})), text("a"), stop("end_turn"), end()]),
            ("cut", "a (cut)", vec![text("a"), stop("max_tokens"), end()]),
            ("window full", "a (cut)", vec![text("a"), stop("model_context_window_exceeded"), end()]),
            ("refusal", "<refused>", vec![text("a"), stop("refusal"), end()]),
            ("empty end of turn", "<empty>", vec![start(), stop("end_turn"), end()]),
            ("tool use", "<empty>", vec![stop("tool_use"), end()]),
            ("truncated", "<again>", vec![start(), text("a")]),
            ("stop reason but no end", "<again>", vec![text("a"), stop("end_turn")]),
            ("overloaded", "<again>", vec![start(), text("a"), error("overloaded_error")]),
            ("an error that will not pass", "<never>", vec![error("invalid_request_error")]),
            ("plain JSON", "a (cut)", vec![format!("{whole:#}")]),
            ("plain JSON that is an error", "<never>", vec![json!({"type": "error", "error": {"type": "authentication_error", "message": "no"}}) .to_string()]),
            ("HTML", "<again>", vec!["<html>".into()]),
        ],
    );
}

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
    assert_eq!((answer.text.len(), answer.cut), (1 << 20, true));
}

#[test]
fn a_stream_left_open_after_its_answer_keeps_nobody_waiting() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(Some(held));
    let bytes = delta("a") + &finish("stop");
    let wire = Wire::start(move |_| {
        let (bytes, held) = (bytes.clone(), held.lock().unwrap().take());
        Reply::Raw(Box::new(move |writer| {
            write!(writer, "HTTP/1.1 200 OK\r\n\r\n{bytes}")?;
            writer.flush()?;
            let _ = held.map(|held| held.recv());
            Ok(false)
        }))
    });
    assert_eq!(text(ask(&named("deepseek", &wire.url()), &["u:hi"])), "a");
    drop(release);
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
        (500, r#"{"type":"error","error":{"type":"api_error","message":"oh"}}"#, again, "oh"),
        (502, "<html><h1>Bad Gateway</h1></html>", again, "Bad Gateway"),
        (503, r#"{"error":{"code":503,"message":"Loading model"}}"#, again, "Loading model"),
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
        let error = asker.ask(&["u:hi"]).unwrap_err();
        let line = error.to_string();
        assert_eq!(class(&error), expected, "{status} {line}");
        assert!(line.contains(in_line) && line.starts_with("openai: "), "{status} {line}");
        assert!(line.chars().count() <= 300 && !line.contains('\n'), "{line}");
        let (requests, slept) = match expected {
            "again" => (3, Duration::from_millis(1500)),
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
    assert_eq!(outcome(&asker.ask(&["u:hi"])), "<again>");
    assert_eq!(asker.slept(), Duration::from_millis(1500));
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
            status: 503,
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
    for (name, status, body) in [
        (
            "openai",
            400,
            r#"{"error":{"message":"prompt is too long: 9 tokens"}}"#,
        ),
        (
            "openai",
            400,
            r#"{"error":{"code":"context_length_exceeded"}}"#,
        ),
        (
            "openai",
            400,
            "This model's maximum context length is 4096 tokens.",
        ),
        (
            "openai",
            400,
            "Your input exceeds the context window of this model.",
        ),
        (
            "llamacpp",
            500,
            "the request exceeds the available context size",
        ),
        (
            "llamacpp",
            400,
            r#"{"error":{"type":"exceed_context_size_error"}}"#,
        ),
        (
            "xai",
            400,
            r#"{"error":"This model's maximum prompt length is 9"}"#,
        ),
        (
            "groq",
            400,
            "Please reduce the length of the messages or completion.",
        ),
        ("vllm", 400, "Input is greater than the context length"),
        (
            "vllm",
            400,
            "The prompt is longer than the model's context length",
        ),
        (
            "mistral",
            400,
            "Prompt contains 9 tokens, too large for model with 5",
        ),
        ("vllm", 400, "max context length"),
        ("vllm", 413, "PROMPT IS TOO LONG"),
        ("together", 403, ""),
    ] {
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

// Secrets.

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what this thread logs, at every level.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        LINES.with_borrow_mut(|lines| lines.push(format!("{} {}", record.target(), record.args())));
    }

    fn flush(&self) {}
}

#[test]
fn no_key_prompt_or_answer_is_ever_logged() {
    let _ = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Trace);
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

    let lines = LINES.take();
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
    let long = "x".repeat(500_000);
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
}

#[test]
fn a_program_that_prints_without_end_is_stopped_and_its_answer_cut() {
    let answer = ask(&command(&["yes"]), &["u:hi"]).unwrap();
    assert!(answer.cut && answer.text.len() >= (1 << 20) - 1);
}

#[test]
fn a_program_is_killed_when_its_time_is_up_even_if_it_says_nothing_more() {
    for (index, end_of_output) in ["", "exec 1>&- 2>&-;"].into_iter().enumerate() {
        let name = format!("prx-provider-{}-{index}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let script = format!("echo $$ >{}; {end_of_output} exec sleep 60", path.display());
        let limit = Duration::from_secs(1);
        let result = Asker::new(&shell(&script)).ask_within(limit, &["u:hi"]);
        assert_eq!(outcome(&result), "<timed out>");
        let id = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!std::path::Path::new("/proc").join(id.trim()).exists());
    }
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
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", NAME]).env("PRX_TEST_SECRETS", "1");
        again.envs(variables.map(|variable| (variable, "secret")));
        let output = again.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
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
