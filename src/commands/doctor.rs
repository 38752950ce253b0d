//! `prx channel doctor`: what keeps the bot from answering, and what to do about it. It posts nothing,
//! changes nothing and spends no tokens (but one question's with `--ask`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Instant, SystemTime};

use super::check::Report;
use super::lookup::{self, Found, NoPong};
use super::{Exit, print};
use crate::config::{self, Allowed, ChannelSettings, Config, ProviderKind, ProviderSettings};
use crate::http::Agent;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, User, UserId};
use crate::nearest::nearest;
use crate::provider::models::{self, NoModels};
use crate::provider::{self, Message, Question, Role};
use crate::state::{Lock, LockError};
use crate::times::{self, Times};

/// Where most settings stand.
const BELOW: &str = "write below [channels_config.mattermost] in the config file:";
/// So many names are shown of a list.
const NAMES: usize = 5;

/// Checks everything in the order in which it is needed.
pub fn run(config_path: Option<&Path>, json: bool, ask: bool) -> Result<(), Exit> {
    let mut report = Report::new(json);
    let environment = |name: &str| std::env::var(name).ok();
    let config = match config::load(config_path, &environment) {
        Ok(config) => config,
        Err(error) => {
            let error = error.to_string();
            // What follows a line's end is an example to copy, which `prx init` does better.
            let (detail, fix) = match error.contains('\n') {
                true => (
                    error.split("; ").next().unwrap_or_default(),
                    "answer its questions, and it is written:\n  prx init",
                ),
                false => split(&error),
            };
            report.fail("config", detail, fix);
            report.finish()?;
            return Err(Exit::Config("the configuration cannot be used".into()));
        }
    };
    check_config(&mut report, &config, config_path.is_none());
    check_state(&mut report, &config);
    if let Some(client) = check_server(&mut report, &config)
        && let Some(me) = check_token(&mut report, &config, &client)
    {
        let mut doctor = Doctor {
            report: &mut report,
            config: &config,
            client: &client,
            me: &me,
        };
        doctor.check("channel", Doctor::check_channels);
        doctor.check("allowed_users", Doctor::check_people);
        doctor.report.ok("replies", replies(&config, &me.username));
    }
    check_provider(&mut report, &config.provider, &config);
    if ask {
        check_answer(&mut report, &config);
    }
    report.finish()?;
    match report.failures() {
        0 if json => Ok(()),
        0 => print("\nAll is well: the bot works with this. Start it with `prx run`.\n"),
        1 => Err(Exit::Failure(
            "the bot would not work: see the line with ✗".into(),
        )),
        count => Err(Exit::Failure(format!(
            "the bot would not work: see the {count} lines with ✗"
        ))),
    }
}

/// What is wrong and what to do, of an error or warning that says both.
fn split(text: &str) -> (&str, &str) {
    text.split_once("; ")
        .unwrap_or((text, "correct that line of the config file"))
}

fn check_config(report: &mut Report, config: &Config, path_is_found: bool) {
    let mut merged = String::new();
    for source in config.sources.iter().skip(1) {
        merged += &format!(", with {}", source.display());
    }
    report.ok("config", format!("{}{merged}", config.path.display()));
    for warning in &config.warnings {
        // Said with the right id, or the right name, further down.
        let later = [
            "`prx channel doctor` finds it",
            "so nobody is answered",
            "default_model: missing",
        ];
        if !later.iter().any(|sign| warning.contains(sign)) {
            let (detail, fix) = split(warning);
            match fix.starts_with("chmod ") {
                true => report.warn(
                    "config",
                    detail,
                    format!("let only its owner read it:\n  {fix}"),
                ),
                false => report.warn("config", detail, fix),
            }
        }
    }
    for name in &config.from_environment {
        report.warn(
            "environment",
            format!("{name} comes from the environment, where cron does not find it"),
            format!("write its value into the config file, or into the crontab:\n  {name}=…"),
        );
    }
    if path_is_found && std::env::var_os("OPENPRX_CONFIG_DIR").is_some() {
        report.warn(
            "environment",
            "OPENPRX_CONFIG_DIR says where the config file is, which cron does not know",
            format!(
                "in the crontab, call:\n  prx --config {}",
                config.path.display()
            ),
        );
    }
}

fn check_state(report: &mut Report, config: &Config) {
    let path = &config.state_path;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let (probe, shown) = (path.with_extension("json.doctor"), folder.display());
    let written = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&probe);
    if let Err(error) = written.and_then(|_| fs::remove_file(&probe)) {
        let fix = match folder.exists() {
            true => format!(
                "give it to whoever runs the bot, or name another with state_dir:\n  chown $USER {shown}"
            ),
            false => format!("make it, or name another with state_dir:\n  mkdir -p {shown}"),
        };
        return report.fail("state", format!("{shown} cannot be written: {error}"), fix);
    }
    let instance = match Lock::take(path) {
        Ok(_) => "no instance is running".to_owned(),
        Err(LockError::Taken(Some(id))) => format!("the bot is running as process {id}"),
        Err(LockError::Taken(None)) => "the bot is running".to_owned(),
        Err(LockError::Io(lock, error)) => {
            return report.fail(
                "state",
                format!("{} cannot be opened: {error}", lock.display()),
                format!(
                    "give it to whoever runs the bot:\n  chown $USER {}",
                    lock.display()
                ),
            );
        }
    };
    report.ok("state", format!("{}; {instance}", path.display()));
}

fn check_server(report: &mut Report, config: &Config) -> Option<Client> {
    let settings = &config.mattermost;
    let agent = match Agent::new(settings.ca_file.as_deref()) {
        Ok(agent) => agent,
        Err(error) => {
            let (detail, fix) = split(&error);
            report.fail("server", detail, fix);
            return None;
        }
    };
    if !server(report, &agent, &settings.url, settings.ca_file.as_deref()) {
        return None;
    }
    Some(Client::new(
        agent,
        &settings.url,
        &settings.token,
        Times::default(),
    ))
}

/// Whether a Mattermost answers at `url`; says so, or what else there is.
pub fn server(report: &mut Report, agent: &Agent, url: &str, ca_file: Option<&Path>) -> bool {
    match lookup::ping(agent, url) {
        Ok(pong) => {
            let (version, took) = (pong.version, pong.took.as_millis());
            report.ok("server", format!("{url}: Mattermost {version}, answers in {took} ms"));
            return true;
        }
        Err(NoPong::Unreachable(what)) => {
            let fix = unreachable_fix(&what, url, ca_file);
            // The sentence about `ca_file` is in the fix, with more to it.
            report.fail("server", split(&what).0, fix);
        }
        Err(NoPong::Other(what, Some(found))) => report.fail(
            "server",
            format!("{url} gives {what}, but Mattermost is at {found}"),
            format!("{BELOW}\n  url = \"{found}\""),
        ),
        Err(NoPong::Other(what, None)) => report.fail(
            "server",
            format!("{url} gives {what}, not Mattermost's API"),
            "is that the address in the browser, up to the team's name? If a proxy asks for a login \
             first, it must let /api/v4/ pass without. This should say \"status\":\"OK\":\n  "
                .to_owned()
                + &format!("curl -i {url}/api/v4/system/ping"),
        ),
    }
    false
}

fn unreachable_fix(what: &str, url: &str, ca_file: Option<&Path>) -> String {
    let authority = url.split("://").nth(1).unwrap_or(url);
    let authority = authority.split('/').next().unwrap_or_default();
    let with_port = match authority
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .parse::<u16>()
    {
        Ok(_) => authority.to_owned(),
        Err(_) => format!("{authority}:443"),
    };
    let has = |sign: &str| what.contains(sign);
    if has("not signed by a known authority") {
        let trusted = ca_file.map_or(String::new(), |file| {
            format!("only what {} holds is trusted. ", file.display())
        });
        format!(
            "{trusted}Get the certificate of the authority that signed the server's (who runs the \
             server has it; its name is the issuer that the first line below shows), save it as a \
             PEM file, and name that file below [channels_config.mattermost]:\n  \
             openssl s_client -connect {with_port} </dev/null | openssl x509 -noout -issuer\n  \
             ca_file = \"/etc/ssl/private-ca.pem\""
        )
    } else if has("has expired") || has("not valid yet") {
        let today = times::date(SystemTime::now());
        format!("have the server's certificate renewed; if today is not {today}, set the clock")
    } else if has("is for other names") {
        format!(
            "write url with a name that the certificate has; this shows them:\n  openssl s_client \
             -connect {with_port} </dev/null | openssl x509 -noout -ext subjectAltName"
        )
    } else if has("CA:TRUE") {
        "have the server's certificate made anew, signed by that one".into()
    } else if has("no such host") {
        "is the host in url written right? If so, look at this machine's /etc/resolv.conf".into()
    } else if has("refused") {
        "is the server running, and the port in url right?".into()
    } else if has("proxy") {
        "look at HTTPS_PROXY and NO_PROXY in the environment".into()
    } else {
        format!("is there a firewall in between? Try:\n  curl -i {url}/api/v4/system/ping")
    }
}

fn check_token(report: &mut Report, config: &Config, client: &Client) -> Option<User> {
    let environment = "MATTERMOST_BOT_TOKEN";
    let place = match config.from_environment.contains(&environment) {
        true => "set in the environment:\n  MATTERMOST_BOT_TOKEN=…".to_owned(),
        false => format!("{BELOW}\n  bot_token = \"…\""),
    };
    token(report, client, &place)
}

/// Whose token it is, if anybody's; says so. `place`: where to put another.
pub fn token(report: &mut Report, client: &Client, place: &str) -> Option<User> {
    let make =
        "a system admin makes one: Integrations > Bot Accounts > the bot > Create New Token.";
    let me = match client.me() {
        Ok(me) => me,
        Err(ApiError::Unauthorized) => {
            report.fail(
                "token",
                "refused: it is wrong or was revoked, or its account is deactivated",
                format!("{make} Then {place}"),
            );
            return None;
        }
        Err(error) => {
            fail_api(report, "token", &error);
            return None;
        }
    };
    let name = &me.username;
    if me.delete_at.0 > 0 {
        report.fail(
            "token",
            format!("@{name} is deactivated"),
            "a system admin enables it: Integrations > Bot Accounts > the bot > Enable",
        );
    } else if me.is_bot {
        report.ok("token", format!("@{name}, a bot account"));
    } else {
        report.warn(
            "token",
            format!("@{name} is a person: what that person writes is never answered, and the answers come in that person's name"),
            format!("better use a bot account's token; {make} Then {place}"),
        );
    }
    Some(me)
}

fn fail_api(report: &mut Report, check: &'static str, error: &ApiError) {
    let error = error.to_string();
    let (detail, fix) = error.split_once("; ").unwrap_or((
        &error,
        "try again in a minute; if it stays so, look at the server's log",
    ));
    report.fail(check, detail, fix);
}

struct Doctor<'a> {
    report: &'a mut Report,
    config: &'a Config,
    client: &'a Client,
    me: &'a User,
}

impl Doctor<'_> {
    fn check(&mut self, name: &'static str, check: fn(&mut Self) -> Result<(), ApiError>) {
        if let Err(error) = check(self) {
            fail_api(self.report, name, &error);
        }
    }

    fn check_channels(&mut self) -> Result<(), ApiError> {
        match &self.config.mattermost.channel_id {
            Some(id) if id.is_well_formed() => self.check_channel(id)?,
            Some(name) => self.find_channel(name.as_str())?,
            None => self.check_all()?,
        }
        for key in self.config.mattermost.channels.keys() {
            if key.is_well_formed() {
                continue;
            }
            let found = lookup::find_channels(self.client, key.as_str())?;
            let lines = found.iter().map(|found| {
                format!(
                    "\n  [channels_config.mattermost.channels.{}]",
                    found.channel.id
                )
            });
            let fix = match found.is_empty() {
                true => "no channel that the bot can see has that name".to_owned(),
                false => format!("write its id:{}", lines.collect::<String>()),
            };
            self.report.warn(
                "channel",
                format!("the section channels.{key:?} has a name where an id belongs, so it has no effect", key = key.as_str()),
                fix,
            );
        }
        Ok(())
    }

    /// The one channel of the configuration, by its id.
    fn check_channel(&mut self, id: &ChannelId) -> Result<(), ApiError> {
        let bot = &self.me.username;
        let channel = match self.client.channel(id) {
            Ok(channel) => lookup::with_team(self.client, channel)?,
            Err(ApiError::Refused { status: 403, .. }) => {
                self.report.fail(
                    "channel",
                    format!("{id} is there, but @{bot} is not in it"),
                    format!("add @{bot} to the team (team menu > Invite People) and write in the channel:\n  /invite @{bot}"),
                );
                return Ok(());
            }
            Err(error) if error.is_closed() => return self.unknown_channel(id.as_str()),
            Err(error) => return Err(error),
        };
        self.check_membership(&channel)
    }

    fn check_membership(&mut self, found: &Found) -> Result<(), ApiError> {
        let (bot, title, channel) = (&self.me.username, found.title(), &found.channel);
        if channel.delete_at.0 > 0 {
            self.report.fail(
                "channel",
                format!("{title} is archived: nobody can write there"),
                "unarchive it (channel menu > Unarchive Channel), or name another in channel_id",
            );
            return Ok(());
        }
        let Some(roles) = self.client.roles_in(&channel.id)? else {
            self.report.fail(
                "channel",
                format!("@{bot} is not in {title}: it may read it, but not write there"),
                format!("write in the channel:\n  /invite @{bot}"),
            );
            return Ok(());
        };
        let roles: Vec<&str> = roles.split(' ').chain(self.me.roles.split(' ')).collect();
        // Servers that do not tell are given the benefit of the doubt.
        let may_post = self.client.permissions(&roles);
        if may_post.is_ok_and(|permissions| {
            !permissions
                .iter()
                .any(|name| name.starts_with("create_post"))
        }) {
            self.report.fail(
                "channel",
                format!("@{bot} is in {title}, but may not post there"),
                "a system admin allows it: System Console > User Management > Channels > the channel > Create Posts",
            );
            return Ok(());
        }
        self.report
            .ok("channel", format!("{title}; @{bot} is in it and may post"));
        Ok(())
    }

    /// The one channel of the configuration, by anything but its id.
    fn find_channel(&mut self, text: &str) -> Result<(), ApiError> {
        let found = lookup::find_channels(self.client, text)?;
        if found.is_empty() {
            return self.unknown_channel(text);
        }
        let lines = found.iter().map(|found| {
            format!(
                "\n  channel_id = \"{}\"  # {}",
                found.channel.id,
                found.title()
            )
        });
        let fix = format!("{BELOW}{}", lines.collect::<String>());
        let detail = format!("channel_id = {text:?} is a name or a link, where an id belongs");
        self.report.fail("channel", detail, fix);
        match &found[..] {
            [one] => self.check_membership(one),
            _ => Ok(()),
        }
    }

    fn unknown_channel(&mut self, text: &str) -> Result<(), ApiError> {
        let bot = &self.me.username;
        let user = UserId::from(text);
        let mut detail = format!("no channel {text:?} that @{bot} can see");
        if user.is_well_formed()
            && let Some(user) = self.client.users(&[&user])?.first()
        {
            detail = format!(
                "channel_id is the id of @{}, not of a channel",
                user.username
            );
        }
        let lines: String = lookup::channels(self.client)?
            .iter()
            .filter(|found| found.is_in_team())
            .take(NAMES)
            .map(|found| {
                format!(
                    "\n  channel_id = \"{}\"  # {}",
                    found.channel.id,
                    found.title()
                )
            })
            .collect();
        let fix = match lines.is_empty() {
            true => format!(
                "add @{bot} to the team (team menu > Invite People) and write in the channel:\n  /invite @{bot}"
            ),
            false => format!(
                "a private channel shows itself only to its members: there, write /invite @{bot}. The bot is in these:{lines}"
            ),
        };
        self.report.fail("channel", detail, fix);
        Ok(())
    }

    /// Without `channel_id`: wherever the bot is.
    fn check_all(&mut self) -> Result<(), ApiError> {
        let bot = &self.me.username;
        let found = lookup::channels(self.client)?;
        if found.is_empty() {
            self.report.fail(
                "channel",
                format!("@{bot} is in no team and no channel"),
                format!("add @{bot} to a team (team menu > Invite People), then write in a channel:\n  /invite @{bot}"),
            );
            return Ok(());
        }
        let teams: BTreeSet<&str> = found.iter().map(|found| found.team.as_str()).collect();
        let in_teams: Vec<&Found> = found.iter().filter(|found| found.is_in_team()).collect();
        let mut names: Vec<String> = in_teams
            .iter()
            .take(NAMES)
            .map(|found| format!("~{}", found.channel.name))
            .collect();
        if in_teams.len() > NAMES {
            names.push("…".into());
        }
        let others = found.len() - in_teams.len();
        self.report.ok(
            "channel",
            format!(
                "wherever @{bot} is: {}{} of {}, {}",
                counted(in_teams.len(), "channel"),
                match names.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", names.join(", ")),
                },
                counted(teams.iter().filter(|team| !team.is_empty()).count(), "team"),
                counted(others, "direct or group channel"),
            ),
        );
        Ok(())
    }

    fn check_people(&mut self) -> Result<(), ApiError> {
        let settings = &self.config.mattermost;
        let everywhere = || {
            let channels = settings.channels.values();
            std::iter::once(&settings.defaults)
                .chain(channels)
                .map(|channel| &channel.allowed_users)
        };
        let mut listed: Vec<&UserId> = Vec::new();
        for allowed in everywhere() {
            match allowed {
                Allowed::Everybody => {}
                Allowed::These(users) => listed.extend(users),
            }
        }
        listed.sort();
        listed.dedup();
        let everybody = everywhere().any(|allowed| *allowed == Allowed::Everybody);
        if everybody {
            self.report.ok(
                "allowed_users",
                match settings.defaults.allowed_users {
                    Allowed::Everybody => {
                        "everybody on this server may talk to the bot, guests too"
                    }
                    _ => "everybody may talk to the bot in some of the channels",
                },
            );
        }
        if listed.is_empty() {
            if !everybody {
                self.fail_nobody()?;
            }
            return Ok(());
        }
        self.check_list(&listed)
    }

    fn fail_nobody(&mut self) -> Result<(), ApiError> {
        let people = people(self.client, self.config.mattermost.channel_id.as_ref())?;
        let lines: String = people
            .iter()
            .take(NAMES)
            .map(|user| {
                format!(
                    "\n  allowed_users = [\"{}\"]  # @{}",
                    user.id, user.username
                )
            })
            .collect();
        self.report.fail(
            "allowed_users",
            "empty: nobody is answered",
            format!("{BELOW}{lines}\n  allowed_users = [\"*\"]  # everybody"),
        );
        Ok(())
    }

    /// Whose ids these are; names in their place find the ids.
    fn check_list(&mut self, listed: &[&UserId]) -> Result<(), ApiError> {
        let (ids, names): (Vec<&UserId>, Vec<&UserId>) =
            listed.iter().partition(|user| user.is_well_formed());
        let known: BTreeMap<UserId, User> = match ids.is_empty() {
            true => BTreeMap::new(),
            false => self
                .client
                .users(&ids)?
                .into_iter()
                .map(|user| (user.id.clone(), user))
                .collect(),
        };
        let (mut good, mut lines) = (Vec::new(), Vec::new());
        for user in known.values() {
            let name = &user.username;
            if user.delete_at.0 > 0 {
                self.report.warn(
                    "allowed_users",
                    format!("@{name} is deactivated"),
                    format!("delete {} from the list", user.id),
                );
            } else if user.id == self.me.id {
                self.report.warn(
                    "allowed_users",
                    format!("@{name} is the bot itself, which it never answers"),
                    "write the ids of people",
                );
            } else {
                good.push(format!("@{name}"));
                lines.push(user.id.to_string());
            }
        }
        let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
            match lookup::find_user(self.client, name.as_str())? {
                Some(user) => {
                    wrong.push(name.as_str());
                    lines.push(user.id.to_string());
                }
                None => unknown.push(name),
            }
        }
        if !wrong.is_empty() {
            let ids: Vec<String> = lines.iter().map(|id| format!("{id:?}")).collect();
            self.report.fail(
                "allowed_users",
                format!(
                    "{} is a name, where an id belongs, so it lets nobody in",
                    wrong.join(", ")
                ),
                format!("{BELOW}\n  allowed_users = [{}]", ids.join(", ")),
            );
        }
        unknown.extend(ids.into_iter().filter(|id| !known.contains_key(*id)));
        for user in unknown {
            let fix = "write a person's id, or a name, and the doctor finds the id";
            let detail = format!("{:?} is nobody on this server", user.as_str());
            match lines.is_empty() {
                true => self.report.fail("allowed_users", detail, fix),
                false => self.report.warn("allowed_users", detail, fix),
            }
        }
        if !good.is_empty() {
            self.report.ok("allowed_users", good.join(", "));
        } else if lines.is_empty() && !self.report.failed("allowed_users") {
            self.report.fail(
                "allowed_users",
                "nobody who can write is in it",
                "write the ids of people",
            );
        }
        Ok(())
    }
}

/// The people, not bots, who are in `channel`, or else in the first channels that the bot is in.
pub fn people(client: &Client, channel: Option<&ChannelId>) -> Result<Vec<User>, ApiError> {
    let channels = match channel {
        Some(id) => vec![id.clone()],
        None => lookup::channels(client)?
            .into_iter()
            .take(NAMES)
            .map(|found| found.channel.id)
            .collect(),
    };
    let mut ids = BTreeSet::new();
    for channel in channels {
        match client.members(&channel) {
            Err(error) if error.is_closed() => {}
            members => ids.extend(members?),
        }
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut people = client.users(&ids.iter().collect::<Vec<_>>())?;
    people.retain(|user| !user.is_bot && user.delete_at.0 == 0);
    Ok(people)
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Where and when it answers, as a sentence.
fn replies(config: &Config, bot: &str) -> String {
    let settings = &config.mattermost;
    let sentence = |channel: &ChannelSettings| {
        let place = match channel.thread_replies {
            true => "in threads",
            false => "in the channel itself, not in threads",
        };
        match (channel.mention_only, settings.follow_threads) {
            (false, _) => format!("answers {place}, to every message"),
            (true, false) => {
                format!("answers {place}, only when @{bot} is mentioned; direct messages always")
            }
            (true, true) => format!(
                "answers {place}, when @{bot} is mentioned or already wrote in the thread; direct messages always"
            ),
        }
    };
    let usual = sentence(&settings.defaults);
    let others = settings
        .channels
        .values()
        .filter(|channel| sentence(channel) != usual)
        .count();
    match others {
        0 => usual,
        _ => format!("{usual} (another way in {})", counted(others, "channel")),
    }
}

fn check_provider(report: &mut Report, settings: &ProviderSettings, config: &Config) {
    let provider = match provider::from_settings(settings) {
        Ok(provider) => provider.describe(),
        Err(error) => {
            let (detail, fix) = split(&error);
            return report.fail("provider", detail, fix);
        }
    };
    match &settings.kind {
        ProviderKind::None => report.warn(
            "provider",
            "none: every answer says that there is no language model yet",
            "write at the top of the config file, for example:\n  default_provider = \"ollama\"\n  default_model = \"qwen3\"",
        ),
        ProviderKind::Echo => report.ok("provider", "echo: repeats what it is told"),
        ProviderKind::Command(words) => check_program(report, &words[0]),
        _ => {
            check_models(report, settings, &provider, config);
            lint(report, settings);
        }
    }
}

fn check_program(report: &mut Report, program: &str) {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = match program.contains('/') {
        true => is_program(Path::new(program)),
        false => std::env::split_paths(&path).any(|folder| is_program(&folder.join(program))),
    };
    match found {
        true => report.ok("provider", format!("the program {program}")),
        false => report.fail(
            "provider",
            format!("{program} is not a program that can be run"),
            "write its whole path as the first word of provider_command, and make it executable:\n  chmod +x …",
        ),
    }
}

fn check_models(report: &mut Report, settings: &ProviderSettings, provider: &str, config: &Config) {
    let (name, base) = match &settings.kind {
        ProviderKind::OpenAi { name, base } | ProviderKind::Anthropic { name, base } => {
            (name, base)
        }
        _ => return,
    };
    let models = match models::models(settings) {
        Ok(models) => models,
        Err(NoModels::Settings(error)) => {
            let (detail, fix) = split(&error);
            return report.fail("provider", detail, fix);
        }
        Err(NoModels::Unreachable(what)) => {
            let local = ["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .any(|host| base.contains(host));
            let fix = match (name.as_str(), local) {
                ("ollama", true) => "start it (https://ollama.com shows how to install it):\n  ollama serve".to_owned(),
                (_, true) => "start that server; if it is another port, write at the top of the config file:\n  api_url = \"http://localhost:PORT/v1\"".to_owned(),
                _ if what.contains("certificate") => "name the CA's certificate at the top of the config file, above the first [table]:\n  ca_file = \"/etc/ssl/private-ca.pem\"".to_owned(),
                _ => "is default_provider (or api_url) written right, and the server reachable from here?".to_owned(),
            };
            return report.fail("provider", split(&what).0, fix);
        }
        Err(NoModels::Restricted) => {
            return report.warn(
                "provider",
                format!("{provider}: the key is a restricted one that may not list models"),
                "it may answer all the same; this asks it one question:\n  prx channel doctor --ask",
            );
        }
        Err(NoModels::NoList) => {
            return report.warn(
                "provider",
                format!("{provider}: it is there, but has no list of models at {base}/models"),
                "if the URL is wrong, correct it; this asks it one question:\n  prx channel doctor --ask",
            );
        }
        Err(NoModels::Refused(error)) => {
            let error = error.to_string();
            return report.fail("provider", error, "what the server says in brackets tells more; look at api_key and at the provider's page");
        }
    };
    if settings.model.is_empty() {
        let example = models.first().map_or("…", String::as_str);
        return report.warn(
            "provider",
            format!("{provider}: no model is named"),
            format!("write at the top of the config file:\n  default_model = \"{example}\""),
        );
    }
    let channels = config.mattermost.channels.values();
    let wanted: BTreeSet<&str> = channels
        .filter_map(|channel| channel.model.as_deref())
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
                detail,
                format!("get it:\n  ollama pull {model}"),
            );
            continue;
        }
        let meant = nearest(model, models.iter().map(String::as_str), 4)
            .or(models.first().map(String::as_str));
        let fix = meant.map_or("look at the provider's page for its models".to_owned(), |meant| {
            format!("an alias may work all the same; else write at the top of the config file:\n  default_model = \"{meant}\"")
        });
        report.warn("provider", detail, fix);
    }
    if missing.is_empty() {
        report.ok(
            "provider",
            format!("{provider}: reachable, and it has the model"),
        );
    }
}

/// What is likely wrong though nothing refused it yet.
fn lint(report: &mut Report, settings: &ProviderSettings) {
    let is_anthropic = matches!(settings.kind, ProviderKind::Anthropic { .. });
    let key = settings.api_key.as_ref().map_or("", |key| key.reveal());
    if key.starts_with("sk-ant-") && !is_anthropic {
        report.warn(
            "provider",
            "api_key looks like one of Anthropic's, and the provider is another",
            "write the provider's own key, or:\n  default_provider = \"anthropic\"",
        );
    }
    let model = settings.model.rsplit('/').next().unwrap_or_default();
    if settings.temperature.is_some() && refuses_temperature(model) {
        report.warn(
            "provider",
            format!("{model} takes no default_temperature; the bot goes on without it once it is refused"),
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

fn check_answer(report: &mut Report, config: &Config) {
    let Ok(provider) = provider::from_settings(&config.provider) else {
        return;
    };
    let conversation = [Message {
        role: Role::User,
        content: "Are you there? Answer with one short sentence.".into(),
    }];
    let question = Question {
        conversation: &conversation,
        model: None,
        time_left: config.message_timeout,
    };
    let started = Instant::now();
    match provider::ask(&*provider, &question, &Times::default()) {
        Ok(answer) => {
            let took = started.elapsed().as_millis();
            let text: String = answer.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let text: String = text.chars().take(60).collect();
            report.ok(
                "answer",
                format!("after {}.{} s: {text}", took / 1000, took % 1000 / 100),
            );
        }
        Err(error) => report.fail(
            "answer",
            error.to_string(),
            "look at default_model, api_key and the provider's page",
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
