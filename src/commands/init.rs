//! `prx init`: asks for what is needed, tries each answer at once, and writes a short config file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::check::{Report, WIDTH};
use super::doctor::{self, model, place};
use super::{Exit, lookup, print};
use crate::config;
use crate::http::Agent;
use crate::mattermost::client::Client;
use crate::mattermost::{ChannelId, User, UserId};
use crate::nearest::nearest;
use crate::provider::settings::custom;
use crate::provider::{self, Api, ProviderKind, ProviderSettings, models};
use crate::secret::Secret;
use crate::text::{shell_quoted, wrap};
use crate::times::Times;
use crate::url::http_url;

/// So many choices are shown.
const SHOWN: usize = 20;

/// Reads one line without showing it; the question comes once it is hidden. The shell puts the echo
/// back also when Ctrl-C ends both.
const READ_HIDDEN: &str = "stty -echo 2>/dev/null || exit 99; trap 'stty echo' EXIT; \
                           trap 'exit 130' INT TERM HUP; printf %s \"$1\" >&2; \
                           IFS= read -r line || exit 98; printf %s \"$line\"";

/// Asks, writes the file, and looks whether the bot works with it.
pub fn run(config_path: Option<&Path>) -> Result<(), Exit> {
    let path = config::find(config_path, &|name| std::env::var(name).ok())?;
    let (mut asker, report) = (Asker, &mut Report::new(false));
    let shown = path.display();
    print(&format!(
        "This asks a few questions and writes {shown}.\nCtrl-C ends it; nothing is kept then.\n\n"
    ))?;
    if path.exists() {
        let answer = asker.ask(
            &format!("{shown} is there already. Replace it? (yes or no)"),
            "no",
        )?;
        if !answer.to_lowercase().starts_with('y') {
            return print("It stays as it is.\n");
        }
    }
    let server = ask_server(&mut asker, report)?;
    let (client, token, me) = ask_token(&mut asker, report, &server)?;
    let channel = ask_channel(&mut asker, &client, &me)?;
    let people = ask_people(&mut asker, &client, channel.as_ref().map(|(id, _)| id))?;
    let model = ask_model(&mut asker, report)?;
    let text = text(&server, &token, &me, channel.as_ref(), &people, &model);
    let failed = |error: io::Error| Exit::Failure(format!("cannot write {shown}: {error}"));
    write(&path, &text).map_err(failed)?;
    let path = fs::canonicalize(&path).map_err(failed)?;
    print(&format!("\nWrote {}.\n\n", path.display()))?;
    let result = doctor::run(Some(&path), false, false);
    let program = std::env::current_exe().unwrap_or_else(|_| "prx".into());
    print(&format!(
        "\nTo have it run always, add this line with `crontab -e`:\n  * * * * * {} --config {} >>{} 2>&1\n",
        shell_quoted(&program),
        shell_quoted(&path),
        shell_quoted(&path.with_extension("log")),
    ))?;
    result
}

/// Where the server is.
struct Server {
    url: String,
    ca_file: Option<PathBuf>,
    agent: Agent,
}

fn ask_server(asker: &mut Asker, report: &mut Report) -> Result<Server, Exit> {
    let mut ca_file: Option<PathBuf> = None;
    let mut url = String::new();
    loop {
        let answer = asker.ask(
            "Address of the Mattermost server, such as https://chat.example.com",
            &url,
        )?;
        let answer = answer.split(['?', '#']).next().unwrap_or_default();
        let with_scheme = match answer.contains("://") {
            true => answer.to_owned(),
            false => format!("https://{answer}"),
        };
        url = match http_url(&with_scheme) {
            Ok(url) => url,
            Err(problem) => {
                print(&format!("That {problem}.\n"))?;
                continue;
            }
        };
        let agent = match Agent::new(ca_file.as_deref()) {
            Ok(agent) => agent,
            Err(error) => {
                print(&format!("{error}\n"))?;
                ca_file = None;
                continue;
            }
        };
        match lookup::ping(&agent, &url) {
            Err(lookup::NoPong::Other(_, Some(found))) => url = found,
            Err(lookup::NoPong::Unreachable(problem))
                if problem.what.contains("known authority") =>
            {
                doctor::server(report, &agent, &url, ca_file.as_deref());
                ca_file = Some(asker.ask("File of that certificate", "")?.into());
                continue;
            }
            _ => {}
        }
        if doctor::server(report, &agent, &url, ca_file.as_deref()) {
            return Ok(Server {
                url,
                ca_file,
                agent,
            });
        }
    }
}

fn ask_token(
    asker: &mut Asker,
    report: &mut Report,
    server: &Server,
) -> Result<(Client, Secret, User), Exit> {
    loop {
        let token = asker.ask_secret("Token of the bot account")?;
        let token = match Secret::parse(&token) {
            Ok(token) => token,
            Err(problem) => {
                print(&format!("That {problem}.\n"))?;
                continue;
            }
        };
        let client = Client::new(server.agent.clone(), &server.url, &token, Times::default());
        if let Some(me) = doctor::token(report, &client, "paste it here.")
            && me.delete_at.0 == 0
        {
            return Ok((client, token, me));
        }
    }
}

/// The one channel and its title, or nothing for all.
fn ask_channel(
    asker: &mut Asker,
    client: &Client,
    me: &User,
) -> Result<Option<(ChannelId, String)>, Exit> {
    loop {
        let mut choices = lookup::channels(client)?;
        choices.retain(lookup::Found::is_in_team);
        print("\nWhere does it answer?\n")?;
        print("   0  in every channel it is in, and in direct messages\n")?;
        offer(choices.iter().map(lookup::Found::title))?;
        let answer = asker.ask("A number, or a channel's name or link", "0")?;
        if answer == "0" {
            return Ok(None);
        }
        let id = ChannelId::from(answer.as_str());
        let found = match chosen(&choices, &answer) {
            Some(found) => vec![(found.channel.id.clone(), found.title())],
            None if id.is_well_formed() => match client.channel(&id) {
                Ok(channel) => vec![(id, format!("~{}", channel.name))],
                Err(error) if error.is_closed() => Vec::new(),
                Err(error) => return Err(error.into()),
            },
            None => {
                let found = lookup::find_channels(client, &answer)?;
                let found = found.into_iter();
                found
                    .map(|found| (found.channel.id.clone(), found.title()))
                    .collect()
            }
        };
        match &found[..] {
            [] if is_number(&answer) => print(&unlisted(&answer, "channel"))?,
            [] => print(&format!(
                "@{} sees no such channel; in a private one, write /invite @{0}\n",
                me.username
            ))?,
            [(id, title)] if client.is_member(id)? => {
                return Ok(Some((id.clone(), title.clone())));
            }
            [(_, title)] => print(&format!(
                "@{} is not in {title} yet: write there /invite @{0}\nand answer again\n",
                me.username
            ))?,
            several => {
                print("There are several; give the id of one:\n")?;
                for (id, title) in several {
                    print(&format!("   {id}  {title}\n"))?;
                }
            }
        }
    }
}

/// Whose messages are answered: what goes into `allowed_users`, and the names.
struct People {
    ids: Vec<String>,
    names: String,
}

fn ask_people(
    asker: &mut Asker,
    client: &Client,
    channel: Option<&ChannelId>,
) -> Result<People, Exit> {
    let choices = place::people(client, channel)?;
    loop {
        print("\nWho may talk to it?\n")?;
        print("   *  everybody on this server\n")?;
        offer(choices.iter().map(|user| format!("@{}", user.username)))?;
        let answer = asker.ask("Numbers or names, with commas between", "")?;
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        for word in answer
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            if word == "*" {
                let names = "everybody".into();
                let ids = vec!["*".into()];
                return Ok(People { ids, names });
            }
            let id = UserId::from(word);
            let user = match chosen(&choices, word) {
                Some(user) => Some(user.clone()),
                None if id.is_well_formed() => client.users(&[&id])?.pop(),
                None => lookup::find_user(client, word)?,
            };
            match user {
                Some(user) => {
                    names.push(format!("@{}", user.username));
                    ids.push(user.id.to_string());
                }
                None => {
                    match is_number(word) {
                        true => print(&unlisted(word, "person"))?,
                        false => print(&format!("There is no {word:?} on this server.\n"))?,
                    }
                    ids.clear();
                    break;
                }
            }
        }
        if !ids.is_empty() {
            let names = names.join(", ");
            return Ok(People { ids, names });
        }
    }
}

/// What goes to the top of the file.
#[derive(Default)]
struct Model {
    provider: String,
    api_url: String,
    key: Option<Secret>,
    model: String,
}

fn ask_model(asker: &mut Asker, report: &mut Report) -> Result<Model, Exit> {
    let ollama = ollama_base();
    let here = settings("ollama", &ollama, None);
    let here = models::models(&here)
        .ok()
        .filter(|models| !models.is_empty());
    print("\nWhich language model answers?\n")?;
    if here.is_some() {
        print("   ollama runs on this machine\n")?;
    }
    let names: Vec<&str> = provider::KNOWN.iter().map(|known| known.name).collect();
    let text = format!(
        "one of {}, custom:URL (any server with OpenAI's API), or none for the moment",
        names.join(", ")
    );
    for line in wrap(&text, WIDTH - 3) {
        print(&format!("   {line}\n"))?;
    }
    let default = if here.is_some() { "ollama" } else { "none" };
    loop {
        let name = asker.ask("Provider", default)?;
        let mut answer = Model {
            provider: name.clone(),
            ..Model::default()
        };
        let mut from_environment = None;
        let (name, base, needs_key) = if name == "none" {
            return Ok(Model::default());
        } else if let Some((prefix, url)) = custom(&name) {
            match http_url(url) {
                Ok(url) => (prefix, url, true),
                Err(problem) => {
                    print(&format!("That {problem}.\n"))?;
                    continue;
                }
            }
        } else if let Some(known) = provider::known(&name) {
            if known.name == "ollama" && ollama != known.base {
                answer.api_url.clone_from(&ollama);
            }
            let mut variables = known.key_variables.iter();
            from_environment = variables.find_map(|name| {
                std::env::var(name)
                    .ok()
                    .filter(|key| !key.trim().is_empty())
            });
            let base = match known.name {
                "ollama" => ollama.clone(),
                _ => known.base.to_owned(),
            };
            (
                known.name,
                base,
                known.needs_key && from_environment.is_none(),
            )
        } else {
            print(&format!("{name:?} is not one of them.\n"))?;
            continue;
        };
        if needs_key {
            let key = asker.ask_secret("Key of the provider, empty if it needs none")?;
            match Secret::parse(&key) {
                Ok(key) => answer.key = Some(key),
                Err(_) if key.trim().is_empty() && name == "custom" => {}
                Err(problem) => {
                    print(&format!("That {problem}.\n"))?;
                    continue;
                }
            }
        }
        let failures = report.failures();
        let key = answer.key.clone();
        let key = key.or(from_environment.map(|key| Secret::new(&key)));
        let settings = settings(name, &base, key);
        let mut models = model::list(report, &settings, name).unwrap_or_default();
        if report.failures() > failures {
            continue;
        }
        models.retain(|model| !model.contains(char::is_control));
        print("\nWhich of its models?\n")?;
        offer(models.iter().cloned())?;
        let mut default = models.first().map_or("", String::as_str);
        loop {
            let model = asker.ask("A number or a name", default)?;
            let model = chosen(&models, &model).cloned().unwrap_or(model);
            // An alias may work without being in the list.
            let again = std::mem::replace(&mut answer.model, model) == answer.model;
            let model = &answer.model;
            if again || models.is_empty() || models::has_model(&models, model) {
                return Ok(answer);
            }
            print(&format!(
                "{name} lists no {model:?}. Write it once more to use it all the same.\n"
            ))?;
            let near = nearest(model, models.iter().map(String::as_str), 4);
            default = near.unwrap_or(default);
        }
    }
}

fn settings(name: &str, base: &str, api_key: Option<Secret>) -> ProviderSettings {
    let api = match name.contains("anthropic") {
        true => Api::Anthropic,
        false => Api::OpenAi,
    };
    ProviderSettings {
        kind: ProviderKind::Server {
            api,
            name: name.to_owned(),
            base: base.to_owned(),
        },
        api_key,
        ..ProviderSettings::default()
    }
}

/// Where Ollama is on this machine: `$OLLAMA_HOST`, as Ollama itself reads it, or its usual place.
fn ollama_base() -> String {
    let host = std::env::var("OLLAMA_HOST").unwrap_or_default();
    let host = host
        .trim()
        .trim_end_matches('/')
        .replace("0.0.0.0", "127.0.0.1");
    let usual = provider::known("ollama").map_or("", |known| known.base);
    if host.is_empty() {
        return usual.to_owned();
    }
    let with_scheme = match host.contains("://") {
        true => host,
        false if host.contains(':') => format!("http://{host}"),
        false => format!("http://{host}:11434"),
    };
    http_url(&with_scheme).map_or(usual.to_owned(), |url| format!("{url}/v1"))
}

/// The config file.
fn text(
    server: &Server,
    token: &Secret,
    me: &User,
    channel: Option<&(ChannelId, String)>,
    people: &People,
    model: &Model,
) -> String {
    // Names come from the server, and a comment ends with its line.
    let comment = |text: &str| text.replace(char::is_control, " ");
    let mut text = "# `prx channel doctor` says what is wrong with this file.\n".to_owned();
    if model.provider.is_empty() {
        text += "# default_provider = \"ollama\"\n# default_model = \"qwen3\"\n";
    } else {
        text += &format!("default_provider = {}\n", toml(&model.provider));
        if !model.api_url.is_empty() {
            text += &format!("api_url = {}\n", toml(&model.api_url));
        }
        text += &format!("default_model = {}\n", toml(&model.model));
        if let Some(key) = &model.key {
            text += &format!("api_key = {}\n", toml(key.reveal()));
        }
    }
    text += &format!(
        "\n[channels_config.mattermost]\nurl = {}\n# Of @{}.\nbot_token = {}\n",
        toml(&server.url),
        me.username,
        toml(token.reveal())
    );
    if let Some(file) = &server.ca_file {
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        text += &format!("ca_file = {}\n", toml(&file.to_string_lossy()));
    }
    match channel {
        Some((id, title)) => {
            let title = comment(title);
            text += &format!(
                "# Only {title}; without this line, everywhere it is.\nchannel_id = {}\n",
                toml(id.as_str())
            );
        }
        None => {
            text += "# Everywhere it is; to answer in one channel only:\n# channel_id = \"…\"\n"
        }
    }
    let ids: Vec<String> = people.ids.iter().map(|id| toml(id)).collect();
    text + &format!(
        "# Who may talk to it: {}.\nallowed_users = [{}]\n# true: only when @{} is mentioned.\nmention_only = false\n",
        comment(&people.names),
        ids.join(", "),
        me.username,
    )
}

/// `text` as a TOML string: Rust's own escapes are others.
fn toml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Writes the file for its owner's eyes only; a failure leaves what was there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&name)?;
    // It may have been there before.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, path)
}

/// Shows numbered choices.
fn offer(choices: impl Iterator<Item = String>) -> Result<(), Exit> {
    for (number, choice) in choices.enumerate() {
        if number == SHOWN {
            return print("   …\n");
        }
        let choice = choice.replace(char::is_control, " ");
        print(&format!("{:4}  {choice}\n", number + 1))?;
    }
    Ok(())
}

/// The choice of that number.
fn chosen<'a, T>(choices: &'a [T], answer: &str) -> Option<&'a T> {
    let number: usize = answer.parse().ok()?;
    choices.get(number.checked_sub(1)?)
}

fn is_number(answer: &str) -> bool {
    answer.parse::<usize>().is_ok()
}

/// For people, of a number that is none of the choices.
fn unlisted(number: &str, what: &str) -> String {
    format!("The list has no number {number}, and there is no {what} of that name.\n")
}

/// Asks on standard output and reads from standard input: a person's, or a pipe's.
struct Asker;

impl Asker {
    /// The answer, or `default` for an empty one; with an empty default, it asks until there is one.
    fn ask(&mut self, question: &str, default: &str) -> Result<String, Exit> {
        loop {
            match default {
                "" => print(&format!("{question}: "))?,
                _ => print(&format!("{question} [{default}]: "))?,
            }
            let answer = self.read()?;
            match answer.trim() {
                "" if default.is_empty() => {}
                "" => return Ok(default.to_owned()),
                answer => return Ok(answer.to_owned()),
            }
        }
    }

    /// An answer that is not shown while it is typed, and may be empty.
    fn ask_secret(&mut self, question: &str) -> Result<String, Exit> {
        let question = format!("{question} (it is not shown): ");
        if io::stdin().is_terminal()
            && let Ok(output) = Command::new("sh")
                .args(["-c", READ_HIDDEN, "sh", &question])
                .stdin(Stdio::inherit())
                .stderr(Stdio::inherit())
                .output()
        {
            match output.status.code() {
                Some(0) => {
                    print("\n")?;
                    return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
                }
                // Without `stty`, the line is read like any other.
                Some(99 | 127) => {}
                _ => return Err(ended()),
            }
        }
        print(&question)?;
        self.read()
    }

    fn read(&mut self) -> Result<String, Exit> {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        if !io::stdin().is_terminal() {
            // The answer's own line end is not on the screen.
            print("\n")?;
        }
        match read {
            Ok(0) => Err(ended()),
            Ok(_) => Ok(line),
            Err(error) => Err(Exit::Failure(format!("cannot read the answer: {error}"))),
        }
    }
}

fn ended() -> Exit {
    Exit::Failure("the answers ended before the questions; nothing was written".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_reads_back_from_the_file_as_it_was() {
        for text in [
            "",
            "plain",
            "a\"b\\c",
            "e\u{301}\u{200d}\u{feff}",
            "\t\n\u{1b}\u{7f}\u{9f}",
        ] {
            let line = format!("key = {}", toml(text));
            let table = ::toml::de::DeTable::parse(&line)
                .expect("TOML")
                .into_inner();
            let value = table.get("key").and_then(|value| value.get_ref().as_str());
            assert_eq!(value, Some(text), "{line}");
        }
    }
}
