//! What a model server tells without a token being spent: that it is there, that it takes the key,
//! and which models it has.

use std::time::Duration;

use serde_json::Value;

use super::error::{Asked, ProviderError, is_error};
use super::request::headers;
use super::server::{asked, read};
use super::settings::{Api, ProviderSettings, second_base};
use crate::http::{Agent, Body, Call, Cause, Failure, Obstacle, compressed};
use crate::json;
use crate::text::Problem;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a list. OpenRouter's, with its hundreds of models, is far below it.
const LIST: u64 = 8 << 20;

/// Why there is no list of models.
#[derive(Debug)]
pub enum NoModels {
    /// The settings cannot be used, or the answer cannot be read, and it is known why.
    Known(Problem),
    /// It cannot be reached.
    Unreachable(Obstacle),
    /// The key may not list models, which says nothing about answers.
    Restricted,
    /// The server is there and has no such list.
    NoList,
    /// It wants a key and was given none.
    WantsKey(ProviderError),
    /// It answered, and with an error.
    Refused(ProviderError),
}

/// The ids of the models of the server that the settings name; none for a provider without a server.
pub fn models(settings: &ProviderSettings) -> Result<Vec<String>, NoModels> {
    let Some((api, name, base)) = settings.server() else {
        return Ok(Vec::new());
    };
    let server = Server {
        agent: Agent::new(settings.ca_file.as_deref())
            .map_err(NoModels::Known)?
            .taking_any_encoding(),
        settings,
        api,
    };
    if api == Api::Anthropic {
        return server.get(base, "/v1/models").map(|list| ids(&list));
    }
    // OpenRouter tells its models to anybody.
    if name == "openrouter"
        && let Err(refused @ NoModels::Refused(_)) = server.get(base, "/key")
    {
        return Err(refused);
    }
    // The rule by which questions find their address.
    let list = match (server.get(base, "/models"), second_base(api, base)) {
        (Err(NoModels::NoList), Some(second)) => server.get(&second, "/models"),
        (list, _) => list,
    };
    list.map(|list| ids(&list))
}

/// Whether `model` is among `models`, under one of the names that servers take for the same.
pub(crate) fn has_model(models: &[String], model: &str) -> bool {
    models.iter().any(|id| {
        let id = id.strip_prefix("models/").unwrap_or(id);
        id == model || id.strip_suffix(":latest") == Some(model)
    })
}

struct Server<'a> {
    agent: Agent,
    settings: &'a ProviderSettings,
    api: Api,
}

impl Server<'_> {
    fn get(&self, base: &str, path: &str) -> Result<Value, NoModels> {
        self.get_with(base, path, false)
    }

    /// `bearer`: the key goes into `Authorization` whatever the API.
    fn get_with(&self, base: &str, path: &str, bearer: bool) -> Result<Value, NoModels> {
        let headers = headers(self.api, self.settings, bearer);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let response = self.agent.call(&Call {
            method: "GET",
            url: &format!("{base}{path}"),
            headers: &headers,
            body: Body::None,
            timeout: TIMEOUT,
        });
        let response = response.map_err(|failure| match failure {
            Failure::TooLarge => NoModels::NoList,
            Failure::Unreachable(obstacle) => NoModels::Unreachable(obstacle),
            Failure::Unclear(problem) => NoModels::Unreachable(Obstacle {
                cause: Cause::Other,
                problem,
            }),
        })?;
        let (status, after) = (response.status, response.retry_after());
        if status == 401 && self.api == Api::Anthropic && !bearer {
            // As for questions: some servers with this API want the key elsewhere.
            return self.get_with(base, path, true);
        }
        let asked = Asked {
            parameters: None,
            ..asked(self.settings, &[])
        };
        let (body, unread) = read(response, LIST);
        if let Some(how) = unread {
            let Problem { what, fix } = compressed(&how);
            return Err(NoModels::Known(Problem::new(asked.line(&what, ""), fix)));
        }
        let list: Option<Value> = json::parse_slice(body.as_bytes()).ok();
        let text = body.to_lowercase();
        match (status, list) {
            (200, Some(list)) if !is_error(&list) && is_list(&list, path) => Ok(list),
            (200, Some(list)) if is_error(&list) && !text.contains("unexpected endpoint") => {
                Err(NoModels::Refused(asked.refused(status, &body, after)))
            }
            (200 | 404 | 405 | 501, _) => Err(NoModels::NoList),
            (401 | 403, _) if text.contains("missing scopes") => Err(NoModels::Restricted),
            (401, _) if self.settings.api_key.is_none() => {
                Err(NoModels::WantsKey(asked.refused(status, &body, after)))
            }
            _ => Err(NoModels::Refused(asked.refused(status, &body, after))),
        }
    }
}

/// Whether this is what was asked for; a key's own page has no list.
fn is_list(json: &Value, path: &str) -> bool {
    json.is_array() || json.get("data").is_some() || !path.ends_with("/models")
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
