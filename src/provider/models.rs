//! What a model server tells without a token being spent: that it is there, that it takes the key,
//! and which models it has.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;

use super::error::{Asked, ProviderError};
use super::settings::{Api, ProviderKind, ProviderSettings};
use crate::http::{Agent, Body, Call, Cause, Failure, Obstacle};
use crate::json;
use crate::secret::Secret;
use crate::text::Problem;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a list. OpenRouter's, with its hundreds of models, is far below it.
const LIST: u64 = 8 << 20;

/// Why there is no list of models.
#[derive(Debug)]
pub enum NoModels {
    /// The settings cannot be used.
    Settings(Problem),
    Unreachable(Obstacle),
    /// The key may not list models, which says nothing about answers.
    Restricted,
    /// The server is there and has no such list.
    NoList,
    /// It wants a key and was given none.
    WantsKey(ProviderError),
    Refused(ProviderError),
}

/// The ids of the models of the server that the settings name; none for a provider without a server.
pub fn models(settings: &ProviderSettings) -> Result<Vec<String>, NoModels> {
    let ProviderKind::Server { api, name, base } = &settings.kind else {
        return Ok(Vec::new());
    };
    let is_anthropic = *api == Api::Anthropic;
    let agent = Agent::new(settings.ca_file.as_deref()).map_err(NoModels::Settings)?;
    let key = settings.api_key.as_ref().map(Secret::reveal);
    let bearer = key.map(|key| format!("Bearer {key}"));
    let mut headers = Vec::new();
    if is_anthropic {
        headers.push(("anthropic-version", super::anthropic::VERSION));
        headers.extend(key.map(|key| ("x-api-key", key)));
    } else {
        headers.extend(
            bearer
                .as_ref()
                .map(|bearer| ("Authorization", bearer.as_str())),
        );
    }
    let asked = Asked {
        name,
        key: key.unwrap_or_default(),
        key_variable: &settings.key_variable,
        conversation: &[],
    };
    let get = |path: &str| get(&agent, &format!("{base}{path}"), &headers, &asked);
    if is_anthropic {
        return get("/v1/models").map(|list| ids(&list));
    }
    // OpenRouter tells its models to anybody.
    if name == "openrouter"
        && let Err(refused @ NoModels::Refused(_)) = get("/key")
    {
        return Err(refused);
    }
    let has_path = base
        .split_once("://")
        .is_some_and(|(_, rest)| rest.contains('/'));
    match get("/models") {
        Err(NoModels::NoList) if !has_path => get("/v1/models").map(|list| ids(&list)),
        list => list.map(|list| ids(&list)),
    }
}

/// Whether `model` is among `models`, under one of the names that servers take for the same.
pub fn has_model(models: &[String], model: &str) -> bool {
    models.iter().any(|id| {
        let id = id.strip_prefix("models/").unwrap_or(id);
        id == model || id.strip_suffix(":latest") == Some(model)
    })
}

fn get(
    agent: &Agent,
    url: &str,
    headers: &[(&'static str, &str)],
    asked: &Asked,
) -> Result<Value, NoModels> {
    let response = agent.call(&Call {
        method: "GET",
        url,
        headers,
        body: Body::None,
        timeout: TIMEOUT,
    });
    let response = response.map_err(|failure| match failure {
        Failure::TooLarge => NoModels::NoList,
        Failure::Unreachable(obstacle) => NoModels::Unreachable(obstacle),
        Failure::Unclear(what) => NoModels::Unreachable(Obstacle {
            cause: Cause::Other,
            problem: Problem::new(what, ""),
        }),
    })?;
    let (status, after) = (response.status, response.retry_after());
    let mut body = String::new();
    let read = response.reader(LIST).read_to_string(&mut body);
    let list = json::parse_slice(body.as_bytes()).ok();
    match (status, list) {
        (200, Some(list)) if read.is_ok() && !super::error::is_error(&list) => Ok(list),
        (200, None) | (404 | 405 | 501, _) => Err(NoModels::NoList),
        (401 | 403, _) if body.to_lowercase().contains("missing scopes") => {
            Err(NoModels::Restricted)
        }
        (401, _) if asked.key.is_empty() => {
            Err(NoModels::WantsKey(asked.refused(status, &body, after)))
        }
        _ => Err(NoModels::Refused(asked.refused(status, &body, after))),
    }
}

/// The ids in `{data: [{id}]}` or in a bare array.
fn ids(list: &Value) -> Vec<String> {
    let items = list.get("data").unwrap_or(list).as_array();
    let items = items.into_iter().flatten();
    items
        .filter_map(|item| Some(item.get("id")?.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn models_are_listed_in_several_shapes_and_known_under_several_names() {
        let cases = [
            (json!({"data": [{"id": "m"}]}), true),
            (json!([{"id": "m:latest"}]), true),
            (json!({"data": [{"id": "models/m"}]}), true),
            (json!({"data": [{"id": "m2"}, {}]}), false),
            (json!({"data": null}), false),
            (json!("m"), false),
        ];
        for (list, expected) in cases {
            assert_eq!(has_model(&ids(&list), "m"), expected, "{list}");
        }
    }
}
