//! The settings of the model: `default_provider` and its kin, `[reliability]`, `[fallback.NAME]`,
//! `[model_parameters]` and `[model_headers]`.

use serde_json::{Map, Number, Value as Json};
use toml::de::DeValue;

use super::error::at;
use super::layers::{Table, Value};
use super::read::{Reader, program};
use super::{ConfigError, Secret};
use crate::provider::settings::{self, KindError, ProviderKind, ProviderSettings, known};
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
pub(super) fn read(reader: &mut Reader, top: &Table) -> Result<ProviderSettings, ConfigError> {
    let reliability = top.table("reliability")?;
    reader.check_keys(&reliability);
    let mut settings = ProviderSettings {
        model: top.text("default_model")?.unwrap_or_default().to_owned(),
        api_key: reader.secret_value(top, "api_key")?,
        temperature: top.number("default_temperature")?,
        max_tokens: top.whole("max_tokens")? as u32,
        ca_file: top.text("ca_file")?.map(|file| reader.expand(file)),
        retries: reliability.whole("provider_retries")? as u32,
        parameters: parameters(top)?,
        headers: headers(top)?,
        model_fallbacks: model_fallbacks(&reliability)?,
        ..ProviderSettings::default()
    };
    kind(reader, top, &mut settings)?;
    if settings.server().is_some() {
        if settings.model.is_empty() {
            let problem = Problem::new(
                "missing, and most providers answer nothing without a model's name",
                "write default_model = \"…\" above the first [table]",
            );
            reader.note(top.at("default_model", problem), true);
        }
    } else {
        let problem = Problem::new(
            "has no effect with this default_provider",
            "delete the line",
        );
        reader.warn(top, "api_url", problem);
    }
    settings.fallbacks = fallbacks(reader, top, &reliability, &settings)?;
    Ok(settings)
}

/// What `default_provider` names, and its key.
fn kind(
    reader: &mut Reader,
    top: &Table,
    settings: &mut ProviderSettings,
) -> Result<(), ConfigError> {
    settings.kind = match top.text("default_provider")?.unwrap_or_default() {
        "echo" => ProviderKind::Echo,
        "command" => ProviderKind::Command(command(top)?),
        "" if settings.api_key.is_none() => ProviderKind::None,
        name => {
            // PRX takes a key without a provider as OpenRouter's.
            let name = if name.is_empty() { "openrouter" } else { name };
            let api_url = top.text("api_url")?.unwrap_or_default();
            let kind = server(reader, name, api_url, "above the first [table]", settings);
            let kind = kind.map_err(|(setting, problem)| match setting {
                "" => ConfigError::Wrong(problem),
                setting => top.error(setting, problem),
            })?;
            warn_of_path(reader, top, name, api_url);
            kind
        }
    };
    Ok(())
}

fn warn_of_path(reader: &mut Reader, table: &Table, name: &str, api_url: &str) {
    let (key, url) = match api_url {
        "" => ("default_provider", name),
        url => ("api_url", url),
    };
    if url.trim_end_matches('/').ends_with("/models") {
        let problem = Problem::new("ends in /models", "write the URL without it");
        reader.warn(table, key, problem);
    }
}

/// What is wrong with a provider, and with which of its settings; empty: the problem names its place.
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
            let key = key.map_err(|problem| ("", at(format!("${variable}"), problem)))?;
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
fn command(top: &Table) -> Result<Vec<String>, ConfigError> {
    const WRITE: &str = "write provider_command = [\"program\", \"argument\"]";
    match top.get("provider_command") {
        Some(value) => program(value, WRITE),
        None => Err(top.error("provider_command", Problem::new("missing", WRITE))),
    }
}

/// `model_fallbacks = { model = ["next", …] }`.
fn model_fallbacks(table: &Table) -> Result<sorted::Map<String, Vec<String>>, ConfigError> {
    let table = table.table("model_fallbacks")?;
    let entries = table.entries();
    entries
        .map(|(model, next)| Ok((model, next.texts()?)))
        .collect()
}

/// The providers of `fallback_providers` that can be asked. A PRX file may name others: those are
/// warned of.
fn fallbacks(
    reader: &mut Reader,
    top: &Table,
    reliability: &Table,
    first: &ProviderSettings,
) -> Result<Vec<ProviderSettings>, ConfigError> {
    let own = top.table("fallback")?;
    let mut used = Vec::new();
    let mut fallbacks = Vec::new();
    for item in reliability.items("fallback_providers")? {
        let (name, model) = name_and_model(item.text()?);
        used.push(name.to_owned());
        let table = own.table(name)?;
        match fallback(reader, top, &table, name, first)? {
            Ok(mut settings) => {
                if let Some(model) = model {
                    settings.model = model.to_owned();
                }
                fallbacks.push(settings);
            }
            Err(problem) => {
                let what = format!("{}, so it is left out", problem.what);
                reader.warn_at(&item, Problem::new(what, problem.fix));
            }
        }
    }
    for name in own.keys() {
        let table = own.table(&name)?;
        reader.check_keys(&table);
        if !used.contains(&name) {
            let problem = Problem::new(
                "has no effect",
                "name it in [reliability] fallback_providers",
            );
            reader.warn(&own, &name, problem);
        }
    }
    Ok(fallbacks)
}

/// `NAME/MODEL` of a provider known by name; anything else is a name.
fn name_and_model(entry: &str) -> (&str, Option<&str>) {
    match entry.split_once('/') {
        Some((name, model)) if known(name).is_some() && !model.is_empty() => (name, Some(model)),
        _ => (entry, None),
    }
}

/// One fallback; `Ok(Err)`: why it cannot be asked. Keys are never sent to another server than the
/// one they were written for.
fn fallback(
    reader: &mut Reader,
    top: &Table,
    table: &Table,
    name: &str,
    first: &ProviderSettings,
) -> Result<Result<ProviderSettings, Problem>, ConfigError> {
    let mut settings = ProviderSettings {
        model: table.text("model")?.unwrap_or(&first.model).to_owned(),
        api_key: reader.secret_value(table, "api_key")?,
        temperature: first.temperature,
        max_tokens: first.max_tokens,
        ca_file: first.ca_file.clone(),
        retries: first.retries,
        parameters: parameters(table)?,
        headers: headers(table)?,
        ..ProviderSettings::default()
    };
    let place = format!("below [fallback.{name}]");
    settings.kind = match name {
        "echo" => ProviderKind::Echo,
        "command" => ProviderKind::Command(command(top)?),
        name => {
            let api_url = table.text("api_url")?.unwrap_or_default();
            // A name of its own, with a URL: a server with OpenAI's API.
            let name = match known(name).is_none() && settings::custom(name).is_none() {
                true if !api_url.is_empty() => &format!("custom:{api_url}"),
                _ => name,
            };
            match server(reader, name, api_url, &place, &mut settings) {
                Ok(kind) => kind,
                Err((_, problem)) => return Ok(Err(problem)),
            }
        }
    };
    Ok(Ok(settings))
}

/// `model_parameters` of `table`, as JSON.
pub(super) fn parameters(table: &Table) -> Result<Map<String, Json>, ConfigError> {
    let table = table.table("model_parameters")?;
    let mut parameters = Map::new();
    for (name, value) in table.entries() {
        if OWN_PARAMETERS.contains(&name.as_str()) {
            return Err(value.wrong("cannot be set here", "delete the line"));
        }
        parameters.insert(name, json(&value, value.value)?);
    }
    Ok(parameters)
}

/// A TOML value as the same JSON value.
fn json(place: &Value, value: &DeValue) -> Result<Json, ConfigError> {
    Ok(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(flag) => Json::from(*flag),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Json::from)
            .map_err(|_| place.wrong("has a number that is too large", ""))?,
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(Number::from_f64);
            Json::from(number.ok_or_else(|| place.wrong("has a number that JSON cannot hold", ""))?)
        }
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(items) => {
            let mut list = Vec::new();
            for item in items.iter() {
                list.push(json(place, item.get_ref())?);
            }
            Json::from(list)
        }
        DeValue::Table(table) => {
            let mut fields = Map::new();
            for (name, value) in table.iter() {
                fields.insert(
                    name.get_ref().clone().into_owned(),
                    json(place, value.get_ref())?,
                );
            }
            Json::from(fields)
        }
    })
}

/// `model_headers` of `table`. Their values may be keys.
fn headers(table: &Table) -> Result<Vec<(String, Secret)>, ConfigError> {
    let table = table.table("model_headers")?;
    let mut headers = Vec::new();
    for (name, value) in table.entries() {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(value.wrong(
                "is no name of a header",
                "write letters, digits and hyphens",
            ));
        }
        if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(value.wrong("cannot be set here", "delete the line"));
        }
        let text = value.text()?;
        if !text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            return Err(value.wrong("has a character that no header can have", ""));
        }
        headers.push((name, Secret::new(text)));
    }
    Ok(headers)
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
