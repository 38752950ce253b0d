//! `prx channel doctor`: what keeps the bot from answering, and what to do about it. It posts nothing,
//! changes nothing and spends no tokens (but one question's with `--ask`).

pub(crate) mod model;
pub(crate) mod place;

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::check::{Report, Status};
use super::lookup::{self, Leads, NoPong};
use super::{Exit, print};
use crate::config::{self, ChannelSettings, Config, ConfigError, Finding, Weight};
use crate::http::{Agent, Cause, Obstacle};
use crate::mattermost::User;
use crate::mattermost::client::{ApiError, Client, Denial};
use crate::state::{Lock, LockError};
use crate::text::counted;
use crate::times::Times;
use crate::url::{authority, host};
use place::Place;

/// Where most settings stand.
pub(crate) const BELOW: &str = "write below [channels_config.mattermost] in the config file:";
/// What to do about a line of the config file that nothing better is known of.
const CORRECT: &str = "correct that line of the config file";
/// Names shown of a list, at most.
const NAMES: usize = 5;

/// Checks everything in the order in which it is needed.
#[inline(never)]
pub(crate) fn run(config_path: Option<&Path>, json: bool, ask: bool) -> Result<(), Exit> {
    let mut report = Report::new(json);
    let environment = |name: &str| std::env::var(name).ok();
    let config = match config::load(config_path, &environment) {
        Ok(config) => config,
        Err(ConfigError(findings)) => {
            tell(&mut report, &findings);
            report.finish()?;
            return Err(Exit::Config("the configuration cannot be used".into()));
        }
    };
    check_config(&mut report, &config, config_path.is_none());
    let is_running = check_state(&mut report, &config);
    if let Some(client) = check_server(&mut report, &config)
        && let Some(me) = check_token(&mut report, &config, &client)
    {
        let mut place = Place {
            report: &mut report,
            config: &config,
            client: &client,
            me: &me,
        };
        place.check();
        report.ok("replies", &replies(&config, &me.username));
    }
    model::check(&mut report, &config);
    if ask {
        model::ask(&mut report, &config);
    }
    report.finish()?;
    let lines = |count, sign| match count {
        1 => format!("the line with {sign}"),
        count => format!("the {count} lines with {sign}"),
    };
    let failures = report.count(Status::Failure);
    if failures > 0 {
        let why = format!("the bot would not work: see {}", lines(failures, '✗'));
        if !json {
            print("\n")?;
        }
        return Err(Exit::Failure(why));
    }
    let well = match report.count(Status::Warning) {
        0 => "All is well: the bot works with this".to_owned(),
        odd => format!("The bot runs with this, but see {}", lines(odd, '!')),
    };
    let next = if is_running {
        ", and is running."
    } else {
        ". Start it with `prx run`."
    };
    if json {
        Ok(())
    } else {
        print(&format!("\n{well}{next}\n"))
    }
}

/// What is to be said about the config file.
fn tell<'a>(report: &mut Report, findings: impl IntoIterator<Item = &'a Finding>) {
    for Finding {
        problem, weight, ..
    } in findings
    {
        let fix = match problem.fix.as_str() {
            "" => CORRECT,
            fix => fix,
        };
        match weight {
            Weight::Fatal => report.fail("config", &problem.what, fix),
            _ => report.warn("config", &problem.what, fix),
        }
    }
}

fn check_config(report: &mut Report, config: &Config, path_is_found: bool) {
    let merged = config.sources.iter().skip(1);
    let merged: String = merged
        .map(|source| format!(", with {}", source.display()))
        .collect();
    report.ok("config", &format!("{}{merged}", config.path.display()));
    let warnings = config.warnings.iter();
    tell(report, warnings.filter(|odd| odd.weight == Weight::Odd));
    for name in &config.from_environment {
        let fix = "write its value into the config file, or into the crontab:";
        warn_of_variable(report, name, &format!("{fix}\n  {name}=…"));
    }
    if path_is_found && std::env::var_os("OPENPRX_CONFIG_DIR").is_some() {
        report.warn(
            "environment",
            "OPENPRX_CONFIG_DIR says where the config file is, which cron does not know",
            &format!(
                "in the crontab, call:\n  prx --config {}",
                config.path.display()
            ),
        );
    }
}

/// Warns of variables that decide how the servers are reached: cron lacks them.
fn check_variables(report: &mut Report, variables: &[&str]) {
    for name in variables {
        let fix = match *name {
            "SSL_CERT_FILE" => {
                let file = std::env::var(name).unwrap_or_default();
                format!(
                    "write it into the config file, for the model's server above the first [table], \
                     for Mattermost below [channels_config.mattermost]:\n  ca_file = {file:?}"
                )
            }
            name => {
                format!("write it into the crontab, above the line that starts prx:\n  {name}=…")
            }
        };
        warn_of_variable(report, name, &fix);
    }
}

fn warn_of_variable(report: &mut Report, name: &str, fix: &str) {
    let detail = format!("{name} comes from the environment, where cron does not find it");
    report.warn("environment", &detail, fix);
}

/// Whether an instance is running.
fn check_state(report: &mut Report, config: &Config) -> bool {
    let path = &config.state_path;
    let folder = path.parent().unwrap_or(path);
    let (probe, shown) = (path.with_extension("json.doctor"), folder.display());
    let mut options = OpenOptions::new();
    let written = options.create(true).write(true).truncate(true).open(&probe);
    if let Err(error) = written.and_then(|_| fs::remove_file(&probe)) {
        let fix = if folder.exists() {
            format!(
                "give it to whoever runs the bot, or name another with state_dir:\n  chown $USER {shown}"
            )
        } else {
            format!("make it, or name another with state_dir:\n  mkdir -p {shown}")
        };
        report.fail(
            "state",
            &format!("{shown} cannot be written: {error}"),
            &fix,
        );
        return false;
    }
    let lock = Lock::look(path);
    let is_running = matches!(lock, Err(LockError::Taken(_)));
    let instance = match lock {
        Ok(()) => "no instance is running".to_owned(),
        Err(LockError::Taken(Some(id))) => format!("the bot is running as process {id}"),
        Err(LockError::Taken(None)) => "the bot is running".to_owned(),
        Err(LockError::Io(lock, error)) => {
            let lock = lock.display();
            report.fail(
                "state",
                &format!("{lock} cannot be opened: {error}"),
                &format!("give it to whoever runs the bot:\n  chown $USER {lock}"),
            );
            return false;
        }
    };
    report.ok("state", &format!("{}; {instance}", path.display()));
    is_running
}

fn check_server(report: &mut Report, config: &Config) -> Option<Client> {
    let settings = &config.mattermost;
    let agent = match Agent::new(settings.ca_file.as_deref()) {
        Ok(agent) => agent,
        Err(problem) => {
            report.fail("server", &problem.what, &problem.fix);
            return None;
        }
    };
    check_variables(report, agent.variables());
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
pub(crate) fn server(
    report: &mut Report,
    agent: &Agent,
    url: &str,
    ca_file: Option<&Path>,
) -> bool {
    match lookup::ping(agent, url) {
        Ok(pong) => {
            let (version, took) = (pong.version, pong.took.as_millis());
            report.ok("server", &format!("{url}: Mattermost {version}, answers in {took} ms"));
            return true;
        }
        Err(NoPong::Unreachable(obstacle)) => {
            let fix = unreachable_fix(&obstacle, url, ca_file);
            report.fail("server", &obstacle.problem.what, &fix);
        }
        Err(NoPong::Elsewhere { what, at }) => report.fail(
            "server",
            &format!("{url} gives {what}, but Mattermost is at {at}"),
            &format!("{BELOW}\n  url = \"{at}\""),
        ),
        Err(NoPong::Other {
            what,
            leads_to: Some((leads_to, Leads::ToApi)),
        }) => report.fail(
            "server",
            &format!("{url} gives {what}"),
            &format!("if Mattermost is there, {BELOW}\n  url = \"{leads_to}\""),
        ),
        Err(NoPong::Other { what, .. }) => report.fail(
            "server",
            &format!("{url} gives {what}, not Mattermost's API"),
            &format!(
                "is that the address in the browser, up to the team's name? If a proxy asks for a \
                 login first, it must let /api/v4/ pass without. This should say \"status\":\"OK\":\n  \
                 curl -i {url}/api/v4/system/ping"
            ),
        ),
    }
    false
}

/// What to do when no connection comes about.
fn unreachable_fix(obstacle: &Obstacle, url: &str, ca_file: Option<&Path>) -> String {
    match obstacle.cause {
        Cause::Name => {
            "is the host in url written right? If so, look at this machine's /etc/resolv.conf"
                .into()
        }
        Cause::Refused => {
            let inside = if is_local(url) { LOCALHOST } else { "" };
            format!("is the server running, and the port in url right?{inside}")
        }
        Cause::Authority if ca_file.is_none() => authority_fix(authority(url), BELOW),
        _ if !obstacle.problem.fix.is_empty() => obstacle.problem.fix.clone(),
        _ => format!("is there a firewall in between? Try:\n  curl -i {url}/api/v4/system/ping"),
    }
}

/// Where to find the certificate of an authority that is not trusted, and where to name it.
fn authority_fix(authority: &str, place: &str) -> String {
    let port = authority.rsplit(':').next().unwrap_or_default();
    let with_port = match port.parse::<u16>() {
        Ok(_) => authority.to_owned(),
        Err(_) => format!("{authority}:443"),
    };
    format!(
        "get the certificate of the authority that signed the server's (who runs the server has \
         it); this shows that authority's name:\n  \
         openssl s_client -connect {with_port} </dev/null | openssl x509 -noout -issuer\n\
         Save it as a PEM file, and {place}\n  ca_file = \"/etc/ssl/private-ca.pem\"\n\
         If this machine trusts that authority already, its own file will do:\n  \
         ca_file = \"/etc/ssl/certs/ca-certificates.crt\""
    )
}

/// A hint for when a server on the same machine is not there.
pub(crate) const LOCALHOST: &str = " (In a container, localhost is the container itself: write the \
                                    host's name, for Docker host.docker.internal, and start it with \
                                    --add-host=host.docker.internal:host-gateway.)";

/// Whether a URL's host is this machine.
fn is_local(url: &str) -> bool {
    let host = host(url);
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

fn check_token(report: &mut Report, config: &Config, client: &Client) -> Option<User> {
    let environment = "MATTERMOST_BOT_TOKEN";
    let place = if config.from_environment.contains(&environment) {
        "set in the environment:\n  MATTERMOST_BOT_TOKEN=…".to_owned()
    } else {
        format!("{BELOW}\n  bot_token = \"…\"")
    };
    token(report, client, &place)
}

/// Whose token it is, if anybody's; says so. `place`: where to put another.
pub(crate) fn token(report: &mut Report, client: &Client, place: &str) -> Option<User> {
    let make =
        "a system admin makes one: Integrations > Bot Accounts > the bot > Create New Token.";
    let me = match client.me() {
        Ok(me) => me,
        Err(ApiError::Unauthorized(Denial::Token)) => {
            report.fail(
                "token",
                "refused: it is wrong or was revoked, or its account is deactivated",
                &format!("{make} Then {place}"),
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
            &format!("@{name} is deactivated"),
            "a system admin enables it: Integrations > Bot Accounts > the bot > Enable",
        );
    } else if me.is_bot {
        report.ok("token", &format!("@{name}, a bot account"));
    } else {
        report.warn(
            "token",
            &format!("@{name} is a person: what that person writes is never answered, and the answers come in that person's name"),
            &format!("better use a bot account's token; {make} Then {place}"),
        );
    }
    Some(me)
}

fn fail_api(report: &mut Report, check: &'static str, error: &ApiError) {
    let problem = super::problem(error);
    report.fail(check, &problem.what, &problem.fix);
}

/// Where and when it answers, as a sentence.
fn replies(config: &Config, bot: &str) -> String {
    let settings = &config.mattermost;
    let sentence = |channel: &ChannelSettings| {
        let place = if channel.thread_replies {
            "in threads"
        } else {
            "in the channel itself, not in threads"
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
