//! The settings of the model: `default_provider` and its kin, `[reliability]`, `[fallback.NAME]`,
//! `[model_parameters]` and `[model_headers]`.

use serde_json::{Map, Number, Value as Json};
use toml::de::DeValue;

use super::error::{Weight, at};
use super::layers::{Table, Value};
use super::read::{Reader, check_keys};
use crate::provider::settings::{self, KindError, ProviderKind, ProviderSettings, known};
use crate::secret::Secret;
use crate::sorted;
use crate::text::Problem;

/// What a request's body has anyway: `[model_parameters]` cannot set it.
const OWN_PARAMETERS: [&str; 3] = ["model", "messages", "stream"];
/// Headers that would contradict the request they are in.
const OWN_HEADERS: [&str; 5] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
];

/// Reads which model answers, and which ones instead of it.
pub(super) fn read(reader: &mut Reader, top: &Table) -> ProviderSettings {
    let reliability = top.table("reliability");
    check_keys(&reliability);
    let mut settings = ProviderSettings {
        model: top.text("default_model").unwrap_or_default().to_owned(),
        api_key: reader.secret_value(top, "api_key"),
        temperature: top.number("default_temperature"),
        max_tokens: top.whole("max_tokens") as u32,
        ca_file: top.text("ca_file").map(|file| reader.expand(file)),
        retries: reliability.whole("provider_retries") as u32,
        parameters: parameters(top),
        headers: headers(top),
        model_fallbacks: model_fallbacks(&reliability),
        ..ProviderSettings::default()
    };
    settings.fallbacks = fallbacks(reader, top, &reliability, &settings);
    let api_url = top.text("api_url").unwrap_or_default();
    let kind = match top.text("default_provider").unwrap_or_default() {
        "echo" => ProviderKind::Echo,
        "command" => ProviderKind::Command(command(reader, top)),
        "" if settings.api_key.is_none() => ProviderKind::None,
        name => {
            // PRX takes a key without a provider as OpenRouter's.
            let name = if name.is_empty() { "openrouter" } else { name };
            warn_of_path(top, name, api_url);
            match server(
                reader,
                name,
                api_url,
                "above the first [table]",
                &mut settings,
            ) {
                Ok(kind) => kind,
                Err((setting, problem)) => {
                    top.wrong(setting, problem);
                    return settings;
                }
            }
        }
    };
    settings.kind = kind;
    if settings.server().is_none() {
        if top.get("api_url").is_some() {
            let what = "has no effect with this default_provider";
            let problem = Problem::new(what, "delete the line");
            top.find("api_url", Weight::Odd, problem);
        }
    } else if settings.model.is_empty() {
        let problem = Problem::new(
            "missing, and most providers answer nothing without a model's name",
            "write default_model = \"…\" above the first [table]",
        );
        top.find("default_model", Weight::ToldLater, problem);
    }
    settings
}

fn warn_of_path(top: &Table, name: &str, api_url: &str) {
    let (key, url) = match api_url {
        "" => ("default_provider", name),
        url => ("api_url", url),
    };
    if url.trim_end_matches('/').ends_with("/models") {
        let problem = Problem::new("ends in /models", "write the URL without it");
        top.find(key, Weight::Odd, problem);
    }
}

/// What is wrong with a provider, and with which of its settings.
type Unfit = (&'static str, Problem);

/// The server that `name` and `api_url` stand for. Without a key in `settings` it is taken from the
/// first of the provider's variables that is set; `place`: where else it is written.
fn server(
    reader: &mut Reader,
    name: &str,
    api_url: &str,
    place: &str,
    settings: &mut ProviderSettings,
) -> Result<ProviderKind, Unfit> {
    let (kind, known) = settings::server(name, api_url).map_err(|error| match error {
        KindError::Name(problem) => ("default_provider", problem),
        KindError::Url(problem) => ("api_url", problem),
    })?;
    let Some(known) = known else {
        return Ok(kind);
    };
    let usual = known.key_variables.first().copied().unwrap_or_default();
    settings.key_variable = usual.to_owned();
    for variable in known.key_variables {
        if settings.api_key.is_none()
            && let Some(text) = reader.variable(variable)
        {
            let key = Secret::parse(&text);
            let key = key.map_err(|problem| ("api_key", at(format!("${variable}"), problem)))?;
            settings.api_key = Some(key);
            settings.key_variable = (*variable).to_owned();
        }
    }
    if known.needs_key && settings.api_key.is_none() {
        let (name, variable) = (known.name, &settings.key_variable);
        let fix = format!("write api_key = \"…\" {place}, or set ${variable}");
        let problem = Problem::new(format!("{name} needs a key"), fix);
        return Err(("default_provider", problem));
    }
    Ok(kind)
}

/// The program and the arguments of `provider_command`.
fn command(reader: &Reader, top: &Table) -> Vec<String> {
    const WRITE: &str = "write provider_command = [\"program\", \"argument\"]";
    if let Some(value) = top.get("provider_command") {
        return reader.program(value, WRITE);
    }
    top.wrong("provider_command", Problem::new("missing", WRITE));
    Vec::new()
}

/// `model_fallbacks = { model = ["next", …] }`.
fn model_fallbacks(table: &Table) -> sorted::Map<String, Vec<String>> {
    let table = table.table("model_fallbacks");
    let models = table.keys().into_iter();
    models
        .map(|model| (model.clone(), table.texts(&model)))
        .collect()
}

/// The providers of `fallback_providers` that can be asked. A PRX file may name others: those are
/// warned of.
fn fallbacks(
    reader: &mut Reader,
    top: &Table,
    reliability: &Table,
    first: &ProviderSettings,
) -> Vec<ProviderSettings> {
    let own = top.table("fallback");
    let mut used = Vec::new();
    let mut fallbacks = Vec::new();
    for item in reliability.items("fallback_providers") {
        let (name, model) = name_and_model(item.text());
        used.push(name.to_owned());
        let table = own.table(name);
        match fallback(reader, top, &table, name, first) {
            Ok(mut settings) => {
                if let Some(model) = model {
                    settings.model = model.to_owned();
                }
                fallbacks.push(settings);
            }
            Err(problem) => {
                let what = format!("{}, so it is left out", problem.what);
                item.find(Weight::Odd, Problem::new(what, problem.fix));
            }
        }
    }
    for (name, value) in own.entries() {
        check_keys(&own.table(&name));
        if !used.contains(&name) {
            let fix = "name it in [reliability] fallback_providers";
            value.find(Weight::Odd, Problem::new("has no effect", fix));
        }
    }
    fallbacks
}

/// `NAME/MODEL` of a provider known by name; anything else is a name.
fn name_and_model(entry: &str) -> (&str, Option<&str>) {
    match entry.split_once('/') {
        Some((name, model)) if known(name).is_some() && !model.is_empty() => (name, Some(model)),
        _ => (entry, None),
    }
}

/// One fallback, or why it cannot be asked. Keys are never sent to another server than the one they
/// were written for.
fn fallback(
    reader: &mut Reader,
    top: &Table,
    table: &Table,
    name: &str,
    first: &ProviderSettings,
) -> Result<ProviderSettings, Problem> {
    let mut settings = ProviderSettings {
        model: table.text("model").unwrap_or(&first.model).to_owned(),
        api_key: reader.secret_value(table, "api_key"),
        temperature: first.temperature,
        max_tokens: first.max_tokens,
        ca_file: first.ca_file.clone(),
        retries: first.retries,
        parameters: parameters(table),
        headers: headers(table),
        ..ProviderSettings::default()
    };
    let place = format!("below [fallback.{name}]");
    settings.kind = match name {
        "echo" => ProviderKind::Echo,
        "command" => ProviderKind::Command(command(reader, top)),
        name => {
            let api_url = table.text("api_url").unwrap_or_default();
            // A name of its own, with a URL: a server with OpenAI's API.
            let name = match known(name).is_none() && settings::custom(name).is_none() {
                true if !api_url.is_empty() => &format!("custom:{api_url}"),
                _ => name,
            };
            let kind = server(reader, name, api_url, &place, &mut settings);
            kind.map_err(|(_, problem)| problem)?
        }
    };
    Ok(settings)
}

/// `model_parameters` of `table`, as JSON.
pub(super) fn parameters(table: &Table) -> Map<String, Json> {
    let mut parameters = Map::new();
    for (name, value) in table.table("model_parameters").entries() {
        if OWN_PARAMETERS.contains(&name.as_str()) {
            value.wrong("cannot be set here", "delete the line");
        }
        parameters.insert(name, json(&value, value.value));
    }
    parameters
}

/// A TOML value as the same JSON value; null where there is none.
fn json(place: &Value, value: &DeValue) -> Json {
    match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(flag) => Json::from(*flag),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
            if number.is_none() {
                place.wrong("has a number that is too large", "");
            }
            Json::from(number)
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(Number::from_f64);
            if number.is_none() {
                place.wrong("has a number that JSON cannot hold", "");
            }
            Json::from(number)
        }
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| json(place, item.get_ref()));
            items.collect()
        }
        DeValue::Table(table) => {
            let entries = table.iter();
            let entries =
                entries.map(|(name, value)| (name.to_string(), json(place, value.get_ref())));
            entries.collect()
        }
    }
}

/// `model_headers` of `table`. Their values may be keys.
fn headers(table: &Table) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, value) in table.table("model_headers").entries() {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
        let is_sendable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        let text = value.text();
        if name.is_empty() || !name.bytes().all(is_token) {
            value.wrong(
                "is no name of a header",
                "write letters, digits and hyphens",
            );
        } else if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            value.wrong("cannot be set here", "delete the line");
        } else if !text.bytes().all(is_sendable) {
            value.wrong("has a character that no header can have", "");
        }
        headers.push((name, Secret::new(text)));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Setup, config, error};
    use super::*;

    /// A whole file whose top is this and whose last table is that.
    fn file(top: &str, tables: &str) -> String {
        format!(
            "{top}\n[channels_config.mattermost]\nurl = \"http://h\"\nbot_token = \"t\"\n\
             allowed_users = [\"*\"]\n{tables}"
        )
    }

    const OLLAMA: &str = "default_provider = \"ollama\"\ndefault_model = \"qwen3\"";

    #[test]
    fn parameters_and_headers_are_taken_as_they_are() {
        let text = file(
            OLLAMA,
            "[model_parameters]\nreasoning_effort = \"low\"\nkeep_alive = -1\ntop_p = 0.5\n\
             web_search_options = { user = [true, 0x10] }\n\
             [model_headers]\nX-Gateway-Key = \"hunter2\"\n",
        );
        let provider = config(&text).provider;
        assert_eq!(
            Json::from(provider.parameters),
            serde_json::json!({
                "reasoning_effort": "low", "keep_alive": -1, "top_p": 0.5,
                "web_search_options": {"user": [true, 16]},
            })
        );
        assert_eq!(
            provider.headers,
            [("X-Gateway-Key".to_owned(), Secret::new("hunter2"))]
        );
        assert!(!format!("{:?}", provider.headers).contains("hunter2"));
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn what_cannot_be_sent_is_an_error() {
        for (tables, problem) in [
            ("[model_parameters]\nmodel = \"x\"", "7: model_parameters.model: cannot be set here; delete the line"),
            ("[model_parameters]\nmessages = []", "7: model_parameters.messages: cannot be set here; delete the line"),
            ("[model_parameters]\nstream = false", "7: model_parameters.stream: cannot be set here; delete the line"),
            ("[model_parameters]\nx = nan", "7: model_parameters.x: has a number that JSON cannot hold"),
            ("[channels_config.mattermost.channels.x.model_parameters]\nmodel = \"x\"", "7: channels_config.mattermost.channels.x.model_parameters.model: cannot be set here; delete the line"),
            ("[model_headers]\nHost = \"x\"", "7: model_headers.Host: cannot be set here; delete the line"),
            ("[model_headers]\n\"a b\" = \"x\"", "7: model_headers.a b: is no name of a header; write letters, digits and hyphens"),
            ("[model_headers]\na = \"x\\ny\"", "7: model_headers.a: has a character that no header can have"),
            ("[reliability]\nprovider_retries = 11", "7: reliability.provider_retries: must be a whole number from 0 to 10, without quotes"),
        ] {
            assert_eq!(error(&file(OLLAMA, tables)).replace("config.toml:", ""), problem.replace("7:", "8:"), "{tables}");
        }
    }

    #[test]
    fn fallbacks_have_their_own_models_and_keys() {
        let tables = "[reliability]\nprovider_retries = 1\n\
             fallback_providers = [\"groq/llama\", \"anthropic\", \"backup\", \"custom:http://h/v1\"]\n\
             model_fallbacks = { qwen3 = [\"qwen2\", \"phi4\"] }\n\
             [fallback.anthropic]\napi_key = \"file\"\nmodel = \"claude\"\n\
             [fallback.backup]\napi_url = \"http://backup/v1\"\nmodel_parameters = { top_k = 1 }\n";
        let provider = Setup::new(&file(&format!("{OLLAMA}\napi_key = \"own\""), tables))
            .set("GROQ_API_KEY", "variable")
            .load()
            .unwrap()
            .provider;
        assert_eq!(provider.retries, 1);
        assert_eq!(
            provider.model_fallbacks.get("qwen3").unwrap(),
            &["qwen2", "phi4"]
        );
        let fallbacks = provider.fallbacks.iter().map(|fallback| {
            let ProviderKind::Server { base, .. } = &fallback.kind else {
                panic!("{fallback:?}");
            };
            let key = fallback.api_key.as_ref().map_or("", Secret::reveal);
            (base.as_str(), fallback.model.as_str(), key)
        });
        assert_eq!(
            fallbacks.collect::<Vec<_>>(),
            [
                ("https://api.groq.com/openai/v1", "llama", "variable"),
                ("https://api.anthropic.com", "claude", "file"),
                ("http://backup/v1", "qwen3", ""),
                ("http://h/v1", "qwen3", ""),
            ]
        );
        assert_eq!(provider.fallbacks[2].parameters["top_k"], 1);
    }

    #[test]
    fn a_fallback_that_cannot_be_asked_is_left_out_with_a_warning() {
        let tables = "[reliability]\nfallback_providers = [\"moonshot\", \"openai\", \"claude\", \"echo\"]\n\
                      [fallback.opnai]\nmodel = \"x\"\n";
        let config = config(&file(OLLAMA, tables));
        assert_eq!(config.provider.fallbacks.len(), 1);
        let place = |problem: &str| format!("8: reliability.fallback_providers: {problem}");
        let warnings = config.warnings.iter();
        assert_eq!(
            warnings
                .map(|line| line
                    .to_string()
                    .split_once("config.toml:")
                    .unwrap()
                    .1
                    .to_owned())
                .collect::<Vec<_>>(),
            [
                place(
                    "\"moonshot\" is no provider that prx knows by name, so it is left out; write \"custom:https://api.example.com/v1\" with its full base URL"
                ),
                place(
                    "openai needs a key, so it is left out; write api_key = \"…\" below [fallback.openai], or set $OPENAI_API_KEY"
                ),
                place(
                    "anthropic needs a key, so it is left out; write api_key = \"…\" below [fallback.claude], or set $ANTHROPIC_API_KEY"
                ),
                "9: fallback.opnai: has no effect; name it in [reliability] fallback_providers"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn an_older_address_of_azure_is_answered_with_the_one_that_works() {
        let top = "default_provider = \"custom:https://r.openai.azure.com/openai/deployments/chat/chat/completions?api-version=2024-10-21\"";
        let line = error(&file(top, ""));
        assert!(
            line.contains("default_provider = \"custom:https://r.openai.azure.com/openai/v1\" and default_model = \"chat\""),
            "{line}"
        );
    }
}
