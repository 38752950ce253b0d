//! Which model answers: what a provider's name stands for (API, base URL, key variables), and the
//! settings of one, as the configuration and a worker's input hold them.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::harmless::{SECRET, shown};
use crate::nearest::nearest;
use crate::secret::Secret;
use crate::sorted;
use crate::text::Problem;
use crate::url::{host, http_url};

/// A provider, its model, and those that are asked when it has none to offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderSettings {
    /// What is asked.
    pub kind: ProviderKind,
    /// `default_model`; empty: none was named.
    pub model: String,
    /// Sent only to this provider's own server.
    #[serde(with = "revealed")]
    pub api_key: Option<Secret>,
    /// The environment variable that can hold the key; empty: none.
    pub key_variable: String,
    /// `default_temperature`.
    pub temperature: Option<f64>,
    /// Sent to Anthropic's API only, where it is required.
    pub max_tokens: u32,
    /// Roots for the model's server.
    pub ca_file: Option<PathBuf>,
    /// How often a failure that may pass is tried again.
    pub retries: u32,
    /// Merged into the request's body.
    pub parameters: Map<String, Value>,
    /// Further request headers: names and values.
    #[serde(with = "revealed_values")]
    pub headers: Vec<(String, Secret)>,
    /// Model → the models of the same server that are tried next.
    pub model_fallbacks: sorted::Map<String, Vec<String>>,
    /// Asked in turn when this one's tries are used up; they have no fallbacks of their own.
    pub fallbacks: Vec<ProviderSettings>,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        ProviderSettings {
            kind: ProviderKind::None,
            model: String::new(),
            api_key: None,
            key_variable: String::new(),
            temperature: None,
            max_tokens: 16_384,
            ca_file: None,
            retries: 2,
            parameters: Map::new(),
            headers: Vec::new(),
            model_fallbacks: sorted::Map::new(),
            fallbacks: Vec::new(),
        }
    }
}

/// How to speak to a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderKind {
    /// Nothing is configured: a short text says what to add.
    None,
    /// Repeats what it was told.
    Echo,
    /// `provider_command`: a program and its arguments.
    Command(Vec<String>),
    /// A server. `name` is one of `KNOWN`, `custom` or `anthropic-custom`; `base` has no trailing
    /// slash and nothing of what the API appends to it.
    Server {
        /// The shape of its requests.
        api: Api,
        /// As the configuration has it.
        name: String,
        /// What its addresses begin with.
        base: String,
    },
}

/// The shape of requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Api {
    /// `/chat/completions` is appended to the base.
    OpenAi,
    /// `/v1/messages` is appended to the base.
    Anthropic,
}

impl ProviderSettings {
    /// For people: what answers, and with which model.
    pub fn describe(&self) -> String {
        self.described_with(&self.model)
    }

    /// The same, with another model.
    pub(crate) fn described_with(&self, model: &str) -> String {
        match &self.kind {
            ProviderKind::None => "no language model".into(),
            ProviderKind::Echo => "echo".into(),
            ProviderKind::Command(words) => format!("command {}", file_name(words)),
            ProviderKind::Server { name, .. } => {
                format!("{} {model}", shown(name)).trim_end().to_owned()
            }
        }
    }

    /// The API, the name and the base URL of its server, if it is one.
    pub(crate) fn server(&self) -> Option<(Api, &str, &str)> {
        match &self.kind {
            ProviderKind::Server { api, name, base } => Some((*api, name, base)),
            _ => None,
        }
    }

    /// What its server is told and no log may hold: the key, and each word of the further headers.
    pub(super) fn secrets(&self) -> Vec<&str> {
        let key = self.api_key.iter().map(Secret::reveal);
        // A cookie's name and value are words of their own.
        let is_break = |c: char| c.is_whitespace() || "=;,".contains(c);
        let headers = self.headers.iter();
        let words = headers.flat_map(|(_, value)| value.reveal().split(is_break));
        key.chain(words)
            .filter(|secret| secret.len() >= SECRET)
            .collect()
    }

    /// These settings with a channel's own `model_parameters` over the general ones.
    pub fn with_parameters(&self, more: &Map<String, Value>) -> ProviderSettings {
        let mut settings = self.clone();
        for (name, value) in more {
            settings.parameters.insert(name.clone(), value.clone());
        }
        settings
    }
}

/// A program's name without its folder. Its arguments may hold secrets and are not shown.
pub(super) fn file_name(words: &[String]) -> String {
    let first = words.first().map_or("", String::as_str);
    first.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Which of the two texts that name a server is wrong, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub enum KindError {
    /// The provider's name, or the URL in it.
    Name(Problem),
    /// `api_url`.
    Url(Problem),
}

/// The server that a provider's name and `api_url` (empty: none) stand for, with the entry of
/// `KNOWN` if it has one. `name` is neither empty nor `echo` nor `command`.
pub fn server(
    name: &str,
    api_url: &str,
) -> Result<(ProviderKind, Option<&'static Known>), KindError> {
    let (known, api, plain, own) = match custom(name) {
        Some((prefix, url)) => {
            let api = match prefix {
                "anthropic-custom" => Api::Anthropic,
                _ => Api::OpenAi,
            };
            let url = base(url, api).map_err(KindError::Name)?;
            (None, api, prefix, url)
        }
        None => {
            let known = known(name).ok_or_else(|| KindError::Name(unknown_provider(name)))?;
            (Some(known), known.api, known.name, known.base.to_owned())
        }
    };
    let mut base = match api_url {
        "" => own,
        url => base(url, api).map_err(KindError::Url)?,
    };
    // Ollama's own API is at the root, the compatible one below /v1.
    if plain == "ollama" && !base.ends_with("/v1") {
        for own in ["/chat", "/generate", "/api"] {
            base.truncate(base.strip_suffix(own).unwrap_or(&base).len());
        }
        base.push_str("/v1");
    }
    let name = plain.to_owned();
    Ok((ProviderKind::Server { api, name, base }, known))
}

/// A URL that people wrote, as a base: without the paths that are appended to it.
fn base(url: &str, api: Api) -> Result<String, Problem> {
    if let Some(instead) = azure(url) {
        return Err(instead);
    }
    let mut base = http_url(url)?;
    for appended in [
        "/chat/completions",
        "/completions",
        "/responses",
        "/v1/messages",
        "/messages",
    ] {
        if let Some(rest) = base.strip_suffix(appended) {
            base.truncate(rest.trim_end_matches('/').len());
        }
    }
    if api == Api::Anthropic
        && let Some(rest) = base.strip_suffix("/v1")
    {
        base.truncate(rest.len());
    }
    Ok(base)
}

/// What to write instead of an address of Azure's first API, which has the deployment in its path
/// and the version in its query.
fn azure(url: &str) -> Option<Problem> {
    let (_, rest) = url.trim().split_once("://")?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = path.split_once('/').unwrap_or((path, ""));
    let deployment = path
        .split_once("openai/deployments/")
        .map(|(_, after)| after);
    if deployment.is_none() && !query.contains("api-version=") {
        return None;
    }
    let host = host.rsplit('@').next().unwrap_or_default();
    let model = match deployment.and_then(|after| after.split('/').next()) {
        None | Some("") => String::new(),
        Some(model) => format!(" and default_model = {model:?}"),
    };
    Some(Problem::new(
        "is an address of Azure's older API",
        format!("write default_provider = \"custom:https://{host}/openai/v1\"{model}"),
    ))
}

/// Where the questions of a server with this base go.
pub(super) fn question_url(api: Api, base: &str) -> String {
    match api {
        Api::OpenAi => format!("{base}/chat/completions"),
        Api::Anthropic => format!("{base}/v1/messages"),
    }
}

/// Where else a server is looked for that is not found at `base`: many addresses lack their `/v1`.
pub(super) fn second_base(api: Api, base: &str) -> Option<String> {
    let is_version = |part: &str| {
        let digits = part.strip_prefix(['v', 'V']);
        digits.is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut parts = base.split('/').skip(3);
    (api == Api::OpenAi && !parts.any(is_version)).then(|| format!("{base}/v1"))
}

/// Whether a base is on this machine or in a private network: a model server that somebody restarts.
pub(super) fn is_local(base: &str) -> bool {
    let host = host(base);
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            let [first, second, ..] = ip.octets();
            // The last one is shared address space, which private overlay networks use.
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || (first == 100 && second & 0xC0 == 64)
        }
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        Err(_) => {
            let ends = [".localhost", ".local", ".lan", ".internal", ".home.arpa"];
            !host.contains('.') || ends.iter().any(|end| host.ends_with(end))
        }
    }
}

/// The prefix and the URL of `custom:URL` and `anthropic-custom:URL`.
pub(crate) fn custom(name: &str) -> Option<(&'static str, &str)> {
    let (prefix, url) = name.split_once(':')?;
    let mut prefixes = ["custom", "anthropic-custom"].into_iter();
    let known = prefixes.find(|known| prefix.eq_ignore_ascii_case(known))?;
    Some((known, url))
}

fn unknown_provider(name: &str) -> Problem {
    // What follows a colon may be a URL with a password in it.
    let name = name.split(':').next().unwrap_or_default();
    let names = KNOWN.iter().map(|known| known.name);
    let names = names.chain(["custom", "anthropic-custom", "command", "echo"]);
    let hint = match nearest(&name.to_lowercase(), names, 2) {
        Some("anthropic-custom") => "write \"anthropic-custom:https://api.example.com\"".to_owned(),
        Some(meant) if meant != "custom" => format!("did you mean {meant:?}?"),
        _ => "write \"custom:https://api.example.com/v1\" with its full base URL".to_owned(),
    };
    Problem::new(
        format!("{name:?} is no provider that prx knows by name"),
        hint,
    )
}

/// A provider that needs no URL in the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// As the configuration has it.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// The shape of its requests.
    pub api: Api,
    /// Without a trailing slash.
    pub base: &'static str,
    /// The environment variables that can hold the key, the usual one first.
    pub key_variables: &'static [&'static str],
    /// It answers nobody without a key.
    pub needs_key: bool,
}

/// Every provider that has a name of its own.
// A provider per line.
#[rustfmt::skip]
pub const KNOWN: &[Known] = &[
    hosted("openrouter", &[], "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"]),
    hosted("openai", &[], "https://api.openai.com/v1", &["OPENAI_API_KEY"]),
    Known {
        api: Api::Anthropic,
        ..hosted("anthropic", &["claude"], "https://api.anthropic.com", &["ANTHROPIC_API_KEY"])
    },
    local("ollama", "http://localhost:11434/v1", &[]),
    hosted("groq", &[], "https://api.groq.com/openai/v1", &["GROQ_API_KEY"]),
    hosted("mistral", &[], "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"]),
    hosted("deepseek", &[], "https://api.deepseek.com/v1", &["DEEPSEEK_API_KEY"]),
    hosted("xai", &["grok"], "https://api.x.ai/v1", &["XAI_API_KEY"]),
    hosted("together", &[], "https://api.together.xyz/v1", &["TOGETHER_API_KEY"]),
    hosted(
        "gemini", &["google"], "https://generativelanguage.googleapis.com/v1beta/openai",
        &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    ),
    local("lmstudio", "http://localhost:1234/v1", &[]),
    local("llamacpp", "http://localhost:8080/v1", &["LLAMACPP_API_KEY"]),
    local("vllm", "http://localhost:8000/v1", &["VLLM_API_KEY"]),
    local("litellm", "http://localhost:4000/v1", &["LITELLM_API_KEY"]),
];

const fn hosted(
    name: &'static str,
    aliases: &'static [&'static str],
    base: &'static str,
    key_variables: &'static [&'static str],
) -> Known {
    Known {
        name,
        aliases,
        api: Api::OpenAi,
        base,
        key_variables,
        needs_key: true,
    }
}

const fn local(
    name: &'static str,
    base: &'static str,
    key_variables: &'static [&'static str],
) -> Known {
    Known {
        needs_key: false,
        ..hosted(name, &[], base, key_variables)
    }
}

/// The provider of this name or alias, in any case.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| {
        known.name.eq_ignore_ascii_case(name)
            || known
                .aliases
                .iter()
                .any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

/// A key as its text: only a worker's input holds one like this.
mod revealed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::secret::Secret;

    pub(super) fn serialize<S: Serializer>(
        key: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        key.as_ref().map(Secret::reveal).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(|text| Secret::new(&text)))
    }
}

/// Header values as their texts, likewise.
mod revealed_values {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::secret::Secret;

    pub(super) fn serialize<S: Serializer>(
        headers: &[(String, Secret)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(headers.iter().map(|(name, value)| (name, value.reveal())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, Secret)>, D::Error> {
        let headers = Vec::<(String, String)>::deserialize(deserializer)?;
        let headers = headers.into_iter();
        Ok(headers
            .map(|(name, value)| (name, Secret::new(&value)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_and_nothing_else() {
        for (asked, found) in [
            ("openai", Some("openai")),
            ("OpenAI", Some("openai")),
            ("claude", Some("anthropic")),
            ("grok", Some("xai")),
            ("google", Some("gemini")),
            ("moonshot", None),
            ("", None),
        ] {
            assert_eq!(known(asked).map(|known| known.name), found, "{asked}");
        }
    }

    /// A name, `api_url`, and where the questions go, or what is wrong.
    #[rustfmt::skip]
    #[test]
    fn a_name_and_a_url_are_one_address() {
        for (name, api_url, address) in [
            ("openai", "", "https://api.openai.com/v1/chat/completions"),
            ("OpenAI", "https://a.example/v1/", "https://a.example/v1/chat/completions"),
            ("Claude", "", "https://api.anthropic.com/v1/messages"),
            ("anthropic", "https://a.example/v1/messages", "https://a.example/v1/messages"),
            ("anthropic", "https://a.example/v1", "https://a.example/v1/messages"),
            ("ollama", "", "http://localhost:11434/v1/chat/completions"),
            ("ollama", "http://gpu:1", "http://gpu:1/v1/chat/completions"),
            ("ollama", "http://gpu:1/v1/", "http://gpu:1/v1/chat/completions"),
            ("ollama", "http://gpu:1/api/", "http://gpu:1/v1/chat/completions"),
            ("ollama", "http://gpu:1/api/chat", "http://gpu:1/v1/chat/completions"),
            ("ollama", "http://gpu:1/x/api/generate", "http://gpu:1/x/v1/chat/completions"),
            ("custom:http://h/v1/completions", "", "http://h/v1/chat/completions"),
            ("custom:http://h/v1/responses", "", "http://h/v1/chat/completions"),
            ("custom: http://h/x// ", "", "http://h/x/chat/completions"),
            ("Custom:http://h/v1/chat/completions/", "", "http://h/v1/chat/completions"),
            ("custom:http://h:1", "", "http://h:1/chat/completions"),
            ("custom:http://h:1", "http://i/v1", "http://i/v1/chat/completions"),
            ("anthropic-custom:http://h/x", "", "http://h/x/v1/messages"),
            ("anthropic-custom:http://h/x/v1/messages", "", "http://h/x/v1/messages"),
            ("anthropic-custom:http://h/messages", "", "http://h/v1/messages"),
        ] {
            let Ok((ProviderKind::Server { api, base, .. }, _)) = server(name, api_url) else {
                panic!("{name} {api_url}");
            };
            assert_eq!(question_url(api, &base), address, "{name} {api_url}");
        }
        let problem = |text: &str| {
            let (what, fix) = text.split_once("; ").unwrap();
            Problem::new(what, fix)
        };
        let name = |text: &str| Err(KindError::Name(problem(text)));
        let url = |text: &str| Err(KindError::Url(problem(text)));
        let v1 = "is an address of Azure's older API; \
                  write default_provider = \"custom:https://r.openai.azure.com/openai/v1\"";
        let with_model = format!("{v1} and default_model = \"chat\"");
        for (provider, api_url, problem) in [
            ("custom:", "", name("has no URL; write one such as https://chat.example.com")),
            ("ollama", "h", url("is not a URL; it must begin with https:// or http://")),
            (
                "custom:https://r.openai.azure.com/openai/deployments/chat/chat/completions?api-version=2024-10-21",
                "", name(&with_model),
            ),
            ("custom:https://r.openai.azure.com/openai/deployments/chat", "", name(&with_model)),
            ("custom:https://r.openai.azure.com/openai?api-version=2024-10-21", "", name(v1)),
            ("openai", "https://r.openai.azure.com/openai/deployments/chat/", url(&with_model)),
        ] {
            assert_eq!(server(provider, api_url), problem, "{provider} {api_url}");
        }
    }

    #[test]
    fn the_key_and_the_words_of_headers_are_secrets_unless_they_are_short() {
        for (key, header, secrets) in [
            ("", "", &[][..]),
            ("ollama", "Bearer short", &[]),
            (
                "a-long-key-1",
                "Bearer c2VjcmV0cw==",
                &["a-long-key-1", "c2VjcmV0cw"],
            ),
            (
                "",
                "session=0123456789; id=abcdefgh,x",
                &["0123456789", "abcdefgh"],
            ),
        ] {
            let settings = ProviderSettings {
                api_key: Some(Secret::new(key)),
                headers: vec![("X-Key".into(), Secret::new(header))],
                ..ProviderSettings::default()
            };
            assert_eq!(settings.secrets(), secrets, "{key} {header}");
        }
    }

    #[test]
    fn only_an_address_without_a_version_may_lack_its_v1() {
        for (api, base, second) in [
            (Api::OpenAi, "http://h:1", Some("http://h:1/v1")),
            (Api::OpenAi, "http://h/api", Some("http://h/api/v1")),
            (Api::OpenAi, "http://h/vertex", Some("http://h/vertex/v1")),
            (Api::OpenAi, "http://h/openai/v1", None),
            (Api::OpenAi, "http://h/V1", None),
            (Api::OpenAi, "http://h/v1beta/openai", None),
            (Api::Anthropic, "http://h", None),
        ] {
            assert_eq!(second_base(api, base).as_deref(), second, "{base}");
        }
    }

    #[test]
    fn addresses_of_this_machine_and_network_are_known() {
        for (base, local) in [
            ("http://localhost:11434/v1", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080/v1", true),
            ("http://10.0.0.5/v1", true),
            ("http://192.168.1.9:8000/v1", true),
            ("http://172.20.0.3", true),
            ("http://100.101.102.103:1234", true),
            ("http://[fd00::1]/v1", true),
            ("http://ollama:11434/v1", true),
            ("http://gpu.lan/v1", true),
            ("https://api.openai.com/v1", false),
            ("http://8.8.8.8/v1", false),
            ("http://100.200.0.1/v1", false),
            ("http://[2001:db8::1]/v1", false),
            ("https://172.32.0.1", false),
        ] {
            assert_eq!(is_local(base), local, "{base}");
        }
    }

    #[test]
    fn settings_come_back_whole_from_a_workers_input_and_show_no_secret_elsewhere() {
        let settings = ProviderSettings {
            kind: server("openai", "").unwrap().0,
            api_key: Some(Secret::new("hunter2")),
            headers: vec![("X-Key".into(), Secret::new("hunter3"))],
            fallbacks: vec![ProviderSettings::default()],
            ..ProviderSettings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.contains("hunter2") && text.contains("hunter3"));
        assert_eq!(
            serde_json::from_str::<ProviderSettings>(&text).unwrap(),
            settings
        );
        assert!(!format!("{settings:?}").contains("hunter"));
    }
}
