//! Which language model answers: its provider, its key, its name.

use super::asker::{ask, ask_secret, chosen, offer};
use crate::commands::check::{Report, WIDTH};
use crate::commands::doctor::model::{self, Place};
use crate::commands::print;
use crate::exit::Exit;
use crate::nearest::nearest;
use crate::provider::models::{self, NoModels};
use crate::provider::settings::{KindError, Known, custom, known, server};
use crate::provider::{KNOWN, ProviderSettings};
use crate::secret::Secret;
use crate::text::{Problem, wrap};
use crate::url::{has_path, with_scheme};

/// What goes to the top of the file.
#[derive(Default)]
pub(super) struct Model {
    /// Empty: none for the moment.
    pub(super) provider: String,
    /// Empty: the provider's own.
    pub(super) api_url: String,
    pub(super) key: Option<Secret>,
    pub(super) model: String,
}

/// Asks until there is a provider that takes the key, and a model.
pub(super) fn ask_model() -> Result<Model, Exit> {
    let default = introduce()?;
    loop {
        let name = ask("Provider", default)?;
        if name == "none" {
            return Ok(Model::default());
        }
        if let "echo" | "command" = name.as_str() {
            print(&format!(
                "{name} is written into the file by hand: see `prx man`; none for the moment\n"
            ))?;
            continue;
        }
        if let Some((model, models)) = ask_provider(name)? {
            return ask_name(model, &models);
        }
    }
}

/// Says which providers there are: the one to offer.
fn introduce() -> Result<&'static str, Exit> {
    let ollama = Model {
        provider: "ollama".into(),
        api_url: ollama_url(),
        ..Model::default()
    };
    let here = settings(&ollama)
        .is_ok_and(|settings| models::models(&settings).is_ok_and(|models| !models.is_empty()));
    print("\nWhich language model answers?\n")?;
    if here {
        print("   ollama runs on this machine\n")?;
    }
    let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    let text = format!(
        "one of {}, the URL of any other server with OpenAI's API, or none for the moment",
        names.join(", ")
    );
    for line in wrap(&text, WIDTH - 3) {
        print(&format!("   {line}\n"))?;
    }
    Ok(if here { "ollama" } else { "none" })
}

/// The provider of that name or URL with the key it takes, and its models; nothing if it has to be
/// asked for anew.
fn ask_provider(name: String) -> Result<Option<(Model, Vec<String>)>, Exit> {
    let provider = if name.starts_with("http://") || name.starts_with("https://") {
        format!("custom:{name}")
    } else {
        name
    };
    let known = known(&provider);
    let mut model = Model {
        provider,
        ..Model::default()
    };
    if known.is_some_and(|known| known.name == "ollama") {
        model.api_url = ollama_url();
    }
    let mut key = match known {
        Some(known) if known.needs_key && from_variable(known).is_none() => Key::Needed,
        Some(_) => Key::Not,
        None => Key::Perhaps,
    };
    if let Err(problem) = settings(&model) {
        // The problem of a name quotes it, that of a URL does not.
        let that = if custom(&model.provider).is_some() {
            "That "
        } else {
            ""
        };
        print(&format!("{that}{problem}\n"))?;
        return Ok(None);
    }
    loop {
        if !ask_key(key, &mut model)? {
            return Ok(None);
        }
        let Ok(mut settings) = settings(&model) else {
            return Ok(None);
        };
        if settings.api_key.is_none() {
            settings.api_key = known.and_then(from_variable);
        }
        let name = known.map_or("the server", |known| known.name);
        match model::list(&mut Report::new(false), &settings, Place::Top, name) {
            Ok(models) => return Ok(Some((model, models))),
            Err(NoModels::Restricted | NoModels::NoList) => return Ok(Some((model, Vec::new()))),
            Err(NoModels::WantsKey(_)) if !matches!(key, Key::Needed) => key = Key::Needed,
            Err(NoModels::Unreachable(_)) if known.is_some_and(|known| !known.needs_key) => {
                key = Key::Not;
                if !ask_url(&settings, &mut model)? {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
    }
}

/// Whether a provider is asked for its key.
#[derive(Clone, Copy)]
enum Key {
    Not,
    /// It may be empty.
    Perhaps,
    Needed,
}

/// Asks for the key; false: what was answered is none.
fn ask_key(key: Key, model: &mut Model) -> Result<bool, Exit> {
    let question = match key {
        Key::Not => return Ok(true),
        Key::Perhaps => "Key of the provider, empty if it needs none",
        Key::Needed => "Key of the provider",
    };
    let answer = ask_secret(question)?;
    match Secret::parse(&answer) {
        Ok(key) => model.key = Some(key),
        Err(_) if answer.trim().is_empty() && matches!(key, Key::Perhaps) => {}
        Err(problem) => {
            print(&format!("That {problem}.\n"))?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// Asks where a server of this machine is that is not at its usual place; false: nowhere else.
fn ask_url(settings: &ProviderSettings, model: &mut Model) -> Result<bool, Exit> {
    let Some((_, _, base)) = settings.server() else {
        return Ok(false);
    };
    loop {
        let answer = ask("Its URL, if it is another", base)?;
        if answer == base {
            return Ok(false);
        }
        match with_scheme("http", &answer) {
            Ok(url) => {
                // Like the usual places, which all have this path.
                let version = if has_path(&url) { "" } else { "/v1" };
                model.api_url = format!("{url}{version}");
                return Ok(true);
            }
            Err(problem) => print(&format!("That {problem}.\n"))?,
        }
    }
}

/// The settings that the answers make.
fn settings(model: &Model) -> Result<ProviderSettings, Problem> {
    match server(&model.provider, &model.api_url) {
        Ok((kind, _)) => Ok(ProviderSettings {
            kind,
            api_key: model.key.clone(),
            ..ProviderSettings::default()
        }),
        Err(KindError::Name(problem) | KindError::Url(problem)) => Err(problem),
    }
}

/// The key in the first of the provider's variables that has one.
fn from_variable(known: &Known) -> Option<Secret> {
    let mut variables = known.key_variables.iter();
    variables.find_map(|name| Secret::parse(&std::env::var(name).ok()?).ok())
}

/// Which of the models; one that is not in the list is asked for twice.
fn ask_name(mut model: Model, models: &[String]) -> Result<Model, Exit> {
    let mut models = models.to_vec();
    models.retain(|model| !model.contains(char::is_control));
    print("\nWhich of its models?\n")?;
    offer(models.iter().cloned())?;
    let mut default = models.first().map_or("", String::as_str);
    loop {
        let answer = ask("A number or a name", default)?;
        let answer = chosen(&models, &answer).cloned().unwrap_or(answer);
        // An alias may work without being in the list.
        let again = std::mem::replace(&mut model.model, answer) == model.model;
        let name = &model.model;
        if again || models.is_empty() || models::has_model(&models, name) {
            return Ok(model);
        }
        print(&format!(
            "The list has no {name:?}. Write it once more to use it all the same.\n"
        ))?;
        let near = nearest(name, models.iter().map(String::as_str), 4);
        default = near.unwrap_or(default);
    }
}

/// Where Ollama is on this machine: `$OLLAMA_HOST`, as Ollama itself reads it; empty: at its usual
/// place.
fn ollama_url() -> String {
    let host = std::env::var("OLLAMA_HOST").unwrap_or_default();
    let host = host
        .trim()
        .trim_end_matches('/')
        .replace("0.0.0.0", "127.0.0.1");
    if host.is_empty() {
        return host;
    }
    let port = if host.contains(':') { "" } else { ":11434" };
    let usual = known("ollama").map_or("", |known| known.base);
    match with_scheme("http", &format!("{host}{port}")).map(|url| format!("{url}/v1")) {
        Ok(url) if url != usual => url,
        _ => String::new(),
    }
}
