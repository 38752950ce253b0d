//! The doctor's look at the model: no token is spent but with `--ask`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use super::{LOCALHOST, authority_fix, is_local};
use crate::commands::answer::Patience;
use crate::commands::check::Report;
use crate::config::Config;
use crate::http::{Cause, Obstacle};
use crate::nearest::nearest;
use crate::provider::models::{self, NoModels};
use crate::provider::{self, Api, Image, Message, ProviderKind, ProviderSettings, Question, Role};
use crate::sorted::Set;
use crate::text::{Problem, shell_quoted};
use crate::url::authority;

/// A red square of 64 by 64: some models take no smaller picture.
const SQUARE: Image = Image {
    media_type: "image/png",
    base64: "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAS0lEQVR42u3PQQkAAAgAsetfWiP4FgYrsKZe\
             S0BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEDgsqnc8OJg6Ln3AAAAAElF\
             TkSuQmCC",
};

/// Whether the provider is there, takes the key and has the models, and the programs that make text
/// of files can be run.
pub(crate) fn check(report: &mut Report, config: &Config) {
    check_provider(report, config);
    for (kind, words) in &config.mattermost.read_files {
        let program = words.first().map_or("", String::as_str);
        if let Some(Problem { what, fix }) = why_not(program) {
            let detail = format!("{program}, for {kind}, is not a program that can be run: {what}");
            report.warn("read_files", &detail, &fix);
        }
    }
}

fn check_provider(report: &mut Report, config: &Config) {
    let first = &config.provider;
    let channels = config.mattermost.channels.values();
    let more = first.model_fallbacks.values().flatten().map(String::as_str);
    let wanted = channels
        .filter_map(|channel| channel.model.as_deref())
        .chain(config.mattermost.models.iter().map(String::as_str))
        .chain(more);
    check_one(report, first, Place::Top, &wanted.collect::<Vec<_>>());
    for fallback in &first.fallbacks {
        check_one(report, fallback, Place::Fallback, &[]);
    }
}

/// Where a provider's settings stand in the config file.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Top,
    Fallback,
}

impl Place {
    /// Where a line is written.
    fn description(self) -> &'static str {
        match self {
            Place::Top => "at the top of the config file",
            Place::Fallback => "below [fallback.NAME], with the NAME that fallback_providers has",
        }
    }

    /// What the provider's model is called there.
    fn model(self) -> &'static str {
        match self {
            Place::Top => "default_model",
            Place::Fallback => "model",
        }
    }
}

/// `models`: those that are wanted besides the provider's own.
fn check_one(report: &mut Report, settings: &ProviderSettings, place: Place, models: &[&str]) {
    if let Err(problem) = provider::check(settings) {
        return report.fail("provider", &problem.what, &problem.fix);
    }
    match &settings.kind {
        ProviderKind::None => report.warn(
            "provider",
            "none: every answer says that there is no language model yet",
            "write at the top of the config file, for example:\n  default_provider = \"ollama\"\n  default_model = \"qwen3\"",
        ),
        ProviderKind::Echo => report.ok("provider", "echo: repeats what it is told"),
        ProviderKind::Command(words) => {
            let program = &words[0];
            match why_not(program) {
                None => report.ok("provider", &format!("the program {program}")),
                Some(Problem { what, fix }) => {
                    let detail = format!("{program} is not a program that can be run: {what}");
                    report.fail("provider", &detail, &fix);
                }
            }
        }
        _ => {
            check_models(report, settings, place, models);
            lint(report, settings, place);
        }
    }
}

/// Why the program of that name or path cannot be run, and what to do; nothing if it can.
fn why_not(program: &str) -> Option<Problem> {
    let is_file = |file: &fs::Metadata| file.is_file();
    let can_run = |file: &fs::Metadata| is_file(file) && file.permissions().mode() & 0o111 != 0;
    if !program.contains('/') {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
        let is_there = places.any(|place| fs::metadata(place).is_ok_and(|file| can_run(&file)));
        let fix = "install it, or write its whole path as the first word";
        return (!is_there).then(|| Problem::new("there is none in the folders of $PATH", fix));
    }
    let write = "write the whole path of a program as the first word";
    match fs::metadata(program) {
        Ok(file) if can_run(&file) => None,
        Ok(file) if is_file(&file) => Some(Problem::new(
            "nobody may execute it",
            format!(
                "make it executable:\n  chmod +x {}",
                shell_quoted(Path::new(program))
            ),
        )),
        Ok(_) => Some(Problem::new("it is no file", write)),
        Err(error) => Some(Problem::new(error.to_string(), write)),
    }
}

fn check_models(report: &mut Report, settings: &ProviderSettings, place: Place, more: &[&str]) {
    let name = settings.server().map_or("", |(_, name, _)| name);
    let provider = settings.describe();
    let write = format!("write {}:\n  {}", place.description(), place.model());
    let Ok(models) = list(report, settings, place, &provider) else {
        return;
    };
    if settings.model.is_empty() {
        let example = models.first().map_or("…", String::as_str);
        return report.warn(
            "provider",
            &format!("{provider}: no model is named"),
            &format!("{write} = \"{example}\""),
        );
    }
    let wanted: Set<&str> = more
        .iter()
        .copied()
        .chain([settings.model.as_str()])
        .collect();
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|model| !models::has_model(&models, model))
        .collect();
    for model in &missing {
        let detail = format!("{name}: has no model {model:?}");
        if name == "ollama" {
            // Ollama's list is complete.
            report.fail(
                "provider",
                &detail,
                &format!("get it:\n  ollama pull {model}"),
            );
            continue;
        }
        let meant = nearest(model, models.iter().map(String::as_str), 4)
            .or(models.first().map(String::as_str));
        let fix = meant.map_or(
            "look at the provider's page for its models".to_owned(),
            |meant| {
                if *model == settings.model {
                    format!("an alias may work all the same; else {write} = \"{meant}\"")
                } else {
                    format!("an alias may work all the same; else write \"{meant}\" in its place")
                }
            },
        );
        report.warn("provider", &detail, &fix);
    }
    if missing.is_empty() {
        report.ok(
            "provider",
            &format!("{provider}: reachable, and it has the model"),
        );
    }
}

/// Asks the provider's server for its models; reports why it does not tell.
pub(crate) fn list(
    report: &mut Report,
    settings: &ProviderSettings,
    place: Place,
    provider: &str,
) -> Result<Vec<String>, NoModels> {
    let base = settings.server().map_or("", |(_, _, base)| base);
    let result = models::models(settings);
    match &result {
        Ok(_) => {}
        Err(NoModels::Known(problem)) => report.fail("provider", &problem.what, &problem.fix),
        Err(NoModels::Unreachable(obstacle)) => {
            let fix = not_there_fix(settings, place, obstacle);
            report.fail("provider", &obstacle.problem.what, &fix);
        }
        Err(NoModels::Restricted) => report.warn(
            "provider",
            &format!("{provider}: the key is a restricted one that may not list models"),
            "it may answer all the same; this asks it one question:\n  prx channel doctor --ask",
        ),
        Err(NoModels::NoList) => report.warn(
            "provider",
            &format!("{provider}: it is there, but has no list of models at {base}/models"),
            "if the URL is wrong, correct it; this asks it one question:\n  prx channel doctor --ask",
        ),
        Err(NoModels::WantsKey(error)) => report.fail(
            "provider",
            &error.to_string(),
            &format!("write its key {}:\n  api_key = \"…\"", place.description()),
        ),
        Err(NoModels::Refused(error)) => report.fail("provider", &error.to_string(), "what the server says in brackets tells more; look at api_key and at the provider's page"),
    }
    result
}

/// What to do when the provider's server is not there.
fn not_there_fix(settings: &ProviderSettings, place: Place, obstacle: &Obstacle) -> String {
    let (name, base) = settings
        .server()
        .map_or(("", ""), |(_, name, base)| (name, base));
    match (obstacle.cause, name, is_local(base)) {
        (Cause::Authority, ..) if settings.ca_file.is_none() => {
            let place = "write at the top of the config file, above the first [table]:";
            authority_fix(authority(base), place)
        }
        (Cause::Authority | Cause::Tls, ..) if !obstacle.problem.fix.is_empty() => {
            obstacle.problem.fix.clone()
        }
        (_, "ollama", true) => format!(
            "start it (https://ollama.com shows how to install it):\n  ollama serve\n{}",
            LOCALHOST.trim()
        ),
        (_, _, true) => format!(
            "start that server; if it is another port, write {}:\n  \
             api_url = \"http://localhost:PORT/v1\"\n{}",
            place.description(),
            LOCALHOST.trim()
        ),
        _ if !obstacle.problem.fix.is_empty() => obstacle.problem.fix.clone(),
        _ => {
            let setting = match place {
                Place::Top => "default_provider",
                Place::Fallback => "its entry in fallback_providers",
            };
            format!("is {setting} (or api_url) written right, and the server reachable from here?")
        }
    }
}

/// Warns of settings that are likely wrong though no server has refused them.
fn lint(report: &mut Report, settings: &ProviderSettings, place: Place) {
    let is_anthropic = matches!(settings.server(), Some((Api::Anthropic, ..)));
    let key = settings.api_key.as_ref().map_or("", |key| key.reveal());
    if key.starts_with("sk-ant-") && !is_anthropic {
        report.warn(
            "provider",
            "api_key looks like one of Anthropic's, and the provider is another",
            match place {
                Place::Top => {
                    "write the provider's own key, or:\n  default_provider = \"anthropic\""
                }
                Place::Fallback => {
                    "write the provider's own key, or name anthropic in fallback_providers"
                }
            },
        );
    }
    let model = settings.model.rsplit('/').next().unwrap_or_default();
    if settings.temperature.is_some() && refuses_temperature(model) {
        report.warn(
            "provider",
            &format!("{model} takes no default_temperature; the bot goes on without it once it is refused"),
            "delete the line default_temperature from the config file",
        );
    }
}

/// OpenAI's reasoning models, and Claude from 4.7 on.
fn refuses_temperature(model: &str) -> bool {
    let claude = model.strip_prefix("claude-").is_some_and(|rest| {
        let mut numbers = rest
            .split(['-', '.'])
            .filter_map(|word| word.parse::<u32>().ok());
        let version = (numbers.next(), numbers.next().filter(|minor| *minor < 100));
        version >= (Some(4), Some(7))
    });
    claude
        || ["gpt-5", "o1", "o3", "o4"]
            .iter()
            .any(|prefix| model.starts_with(prefix))
}

/// Asks one real question, with a picture if the bot may show any. A model that refuses it is asked
/// without, as by the bot; what it refused cost nothing.
pub(crate) fn ask(report: &mut Report, config: &Config) {
    let (text, images) = if config.provider.server().is_some() && config.mattermost.max_images > 0 {
        (
            "Which colour has this picture? Answer with one short sentence.",
            &[SQUARE][..],
        )
    } else {
        ("Are you there? Answer with one short sentence.", &[][..])
    };
    let conversation = [Message {
        images: (0..images.len()).collect(),
        ..Message::new(Role::User, text)
    }];
    let question = Question {
        images,
        ..Question::new(&conversation, config.message_timeout)
    };
    let started = Instant::now();
    // A person waits at a shell: what fails is told at once, and no other model hides it.
    let settings = ProviderSettings {
        retries: 0,
        model_fallbacks: Default::default(),
        fallbacks: Vec::new(),
        ..config.provider.clone()
    };
    match provider::ask(&settings, &[], &question, &mut Patience::default()) {
        Ok(answer) => {
            let took = started.elapsed().as_millis();
            let text: String = answer.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let text: String = text.chars().take(60).collect();
            report.ok(
                "answer",
                &format!("after {}.{} s: {text}", took / 1000, took % 1000 / 100),
            );
            if answer.unseen_images {
                report.warn(
                    "pictures",
                    &format!("{} takes no pictures; people are told that it has not seen them", answer.by),
                    "name a model that does, or show it none; write at the end of the config file:\n  \
                     [multimodal]\n  max_images = 0",
                );
            }
        }
        Err(error) => report.fail(
            "answer",
            &error.to_string(),
            match config.provider.kind {
                ProviderKind::Command(_) => "run the program of provider_command by hand; this shows what it is told and gives:\n  echo Hi | prx answer -v",
                _ => "look at default_model, api_key and the provider's page",
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_take_no_temperature_are_known() {
        let cases = [
            ("gpt-5-mini", true),
            ("o3", true),
            ("claude-opus-4-7", true),
            ("claude-sonnet-5", true),
            ("claude-opus-4-6", false),
            ("claude-sonnet-4-20250514", false),
            ("claude-3-5-haiku", false),
            ("gpt-4o", false),
            ("qwen3", false),
        ];
        for (model, expected) in cases {
            assert_eq!(refuses_temperature(model), expected, "{model}");
        }
    }
}
