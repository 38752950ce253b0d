//! `prx init`: asks for what is needed, tries each answer at once, and writes a short config file.

mod asker;
mod file;
mod model;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::asker::{ask, ask_secret, chosen, is_number, offer, unlisted};
use self::model::Model;
use super::check::Report;
use super::doctor::{self, place};
use super::lookup::{self, Leads, NoPong};
use super::print;
use crate::config;
use crate::exit::Exit;
use crate::http::{Agent, Cause};
use crate::mattermost::client::{Client, unless_closed};
use crate::mattermost::{ChannelId, User, UserId};
use crate::secret::Secret;
use crate::text::shell_quoted;
use crate::times::Times;
use crate::url::with_scheme;

/// Redirects that are followed one after the other, at most.
const REDIRECTS: usize = 3;

/// All that the file is made of.
struct Answers {
    url: String,
    ca_file: Option<PathBuf>,
    token: Secret,
    /// The bot's name, without the @.
    bot: String,
    /// The one channel and its title; nothing: everywhere.
    channel: Option<(ChannelId, String)>,
    mention_only: bool,
    people: People,
    model: Model,
}

/// Asks, writes the file, and looks whether the bot works with it.
#[inline(never)]
pub(crate) fn run(config_path: Option<&Path>) -> Result<(), Exit> {
    let path = config::find(config_path, &|name| std::env::var(name).ok())?;
    let shown = path.display();
    print(&format!(
        "This asks a few questions and writes {shown}.\nCtrl-C ends it; nothing is kept then.\n\n"
    ))?;
    if path.exists() {
        let question = format!("{shown} is there already. Replace it? (yes or no)");
        let answer = ask(&question, "no")?;
        if !answer.to_lowercase().starts_with('y') {
            return print("It stays as it is.\n");
        }
    }
    let text = file::text(&ask_all()?);
    let failed = |error: io::Error| Exit::Failure(format!("cannot write {shown}: {error}"));
    file::write(&path, &text).map_err(failed)?;
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

fn ask_all() -> Result<Answers, Exit> {
    let server = ask_server()?;
    let (client, token, me) = ask_token(&server)?;
    let channel = ask_channel(&client, &me)?;
    let mention_only = match channel {
        Some(_) => false,
        None => ask_when(&me)?,
    };
    let people = ask_people(&client, channel.as_ref().map(|(id, _)| id))?;
    let model = model::ask_model()?;
    Ok(Answers {
        url: server.url,
        ca_file: server.ca_file,
        token,
        bot: me.username,
        channel,
        mention_only,
        people,
        model,
    })
}

/// Where the server is.
struct Server {
    url: String,
    ca_file: Option<PathBuf>,
    agent: Agent,
}

fn ask_server() -> Result<Server, Exit> {
    let mut usual = String::new();
    loop {
        let question = "Address of the Mattermost server, such as https://chat.example.com";
        let answer = ask(question, &usual)?;
        let answer = answer.split(['?', '#']).next().unwrap_or_default();
        match with_scheme("https", answer) {
            Ok(url) => match find_server(url.clone())? {
                Some(server) => return Ok(server),
                None => usual = url,
            },
            Err(problem) => print(&format!("That {problem}.\n"))?,
        }
    }
}

/// The server at `url`, or where that leads to, with the file of the authority that is asked for if
/// the certificate is not signed by a known one.
fn find_server(mut url: String) -> Result<Option<Server>, Exit> {
    let (mut ca_file, mut redirects) = (None::<PathBuf>, 0);
    loop {
        let agent = match Agent::new(ca_file.as_deref()) {
            Ok(agent) => agent,
            Err(problem) => {
                print(&format!("{problem}\n"))?;
                ca_file = Some(ask_file()?);
                continue;
            }
        };
        match lookup::ping(&agent, &url) {
            Err(NoPong::Elsewhere { at, .. }) => url = at,
            Err(NoPong::Other {
                leads_to: Some((leads_to, Leads::ToApi)),
                ..
            }) if redirects < REDIRECTS => {
                print(&format!("{url} leads to {leads_to}\n"))?;
                url = leads_to;
                redirects += 1;
                continue;
            }
            Err(NoPong::Unreachable(obstacle))
                if ca_file.is_none() && obstacle.cause == Cause::Authority =>
            {
                doctor::server(&mut Report::new(false), &agent, &url, None);
                ca_file = Some(ask_file()?);
                continue;
            }
            _ => {}
        }
        let is_there = doctor::server(&mut Report::new(false), &agent, &url, ca_file.as_deref());
        return Ok(is_there.then_some(Server {
            url,
            ca_file,
            agent,
        }));
    }
}

/// The file of the authority's certificate; `~/` is the home folder.
fn ask_file() -> Result<PathBuf, Exit> {
    let file = ask("File of that certificate", "")?;
    let environment = |name: &str| std::env::var(name).ok();
    Ok(config::expand(Path::new(""), &file, &environment))
}

fn ask_token(server: &Server) -> Result<(Client, Secret, User), Exit> {
    loop {
        let token = ask_secret("Token of the bot account")?;
        let token = match Secret::parse(&token) {
            Ok(token) => token,
            Err(problem) => {
                print(&format!("That {problem}.\n"))?;
                continue;
            }
        };
        let client = Client::new(server.agent.clone(), &server.url, &token, Times::default());
        if let Some(me) = doctor::token(&mut Report::new(false), &client, "paste it here.")
            && me.delete_at.0 == 0
        {
            return Ok((client, token, me));
        }
    }
}

/// The one channel and its title, or nothing for all.
fn ask_channel(client: &Client, me: &User) -> Result<Option<(ChannelId, String)>, Exit> {
    loop {
        let choices = lookup::team_channels(client)?;
        print("\nWhere does it answer?\n")?;
        print("   0  in every channel it is in, and in direct messages\n")?;
        offer(choices.iter().map(lookup::Found::title))?;
        let answer = ask("A number, or a channel's name or link", "0")?;
        if answer == "0" {
            return Ok(None);
        }
        let id = ChannelId::from(answer.as_str());
        let found = match chosen(&choices, &answer) {
            Some(found) => vec![(found.channel.id.clone(), found.title())],
            None if id.is_well_formed() => {
                let channel = unless_closed(client.channel(&id))?;
                let title = channel.map(|channel| format!("~{}", channel.name));
                title.map(|title| (id, title)).into_iter().collect()
            }
            None => lookup::find_channels(client, &answer)?
                .into_iter()
                .map(|found| (found.channel.id.clone(), found.title()))
                .collect(),
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

/// Asks whether it answers only when it is mentioned. Where it is in every channel this is the
/// default: everybody of a team is in its default channels.
fn ask_when(me: &User) -> Result<bool, Exit> {
    print("\nWhen does it answer?\n")?;
    print(&format!(
        "   1  only when @{} is mentioned, and always in direct messages\n   2  always\n",
        me.username
    ))?;
    loop {
        match ask("A number", "1")?.as_str() {
            "1" => return Ok(true),
            "2" => return Ok(false),
            other => print(&format!("The list has no {other:?}.\n"))?,
        }
    }
}

/// Whose messages are answered: what goes into `allowed_users`, and the names.
struct People {
    ids: Vec<String>,
    names: String,
}

fn ask_people(client: &Client, channel: Option<&ChannelId>) -> Result<People, Exit> {
    let choices = place::people(client, channel)?;
    loop {
        print("\nWho may talk to it?\n")?;
        print("   *  everybody on this server\n")?;
        offer(choices.iter().map(|user| format!("@{}", user.username)))?;
        let answer = ask("Numbers or names, with commas between", "")?;
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
                    if is_number(word) {
                        print(&unlisted(word, "person"))?
                    } else {
                        print(&format!("There is no {word:?} on this server.\n"))?
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
