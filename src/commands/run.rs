//! `prx run`: from the configuration to a bot that answers.

use std::path::Path;

use log::{debug, info, warn};

use super::Exit;
use crate::bot::Bot;
use crate::config::{self, Allowed, Config};
use crate::http::Agent;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, User};
use crate::outage::Outage;
use crate::outbox::Trouble;
use crate::provider;
use crate::reload::Reload;
use crate::state::{Lock, LockError, Store};
use crate::times::Times;

/// What a server that names no limit allows, in characters: the limit of the oldest schemas.
const OLDEST_POST_LIMIT: usize = 4000;

/// Runs the bot until it fails for good; with `once`, for one poll and its answers. Another instance
/// with the same state file is a good reason to do nothing.
pub fn run(config_path: Option<&Path>, once: bool) -> Result<(), Exit> {
    let config = config::load(config_path, &|name| std::env::var(name).ok())?;
    let mut reload = Reload::new(&config);
    let between = &mut || reload.look();
    let Some(mut session) = Session::start(config, Times::default(), once, between)? else {
        return Ok(());
    };
    while !session.step()? {
        reload.look();
    }
    Ok(())
}

/// A bot at work, and the lock that says so.
pub struct Session {
    bot: Bot,
    outage: Outage,
    times: Times,
    once: bool,
    _lock: Lock,
}

impl Session {
    /// Takes the lock, before any request, and finds out who the bot is; waits for a server that
    /// cannot be reached, unless `once`, and calls `between` after each try. Nothing: another instance
    /// has the lock.
    pub fn start(
        config: Config,
        mut times: Times,
        once: bool,
        between: &mut dyn FnMut(),
    ) -> Result<Option<Session>, Exit> {
        let lock = match Lock::take(&config.state_path) {
            Ok(lock) => lock,
            Err(LockError::Taken(holder)) => {
                let holder = holder.map_or(String::new(), |id| format!(" (process {id})"));
                debug!(
                    "another instance{holder} runs with {}",
                    config.state_path.display()
                );
                return Ok(None);
            }
            Err(LockError::Io(path, error)) => {
                return Err(Exit::Failure(format!(
                    "cannot open the lock file {}: {error}; make its folder writable or set state_dir",
                    path.display()
                )));
            }
        };
        for warning in &config.warnings {
            warn!("{warning}");
        }
        times.poll = config.mattermost.poll_interval;
        let settings = &config.mattermost;
        let agent = Agent::new(settings.ca_file.as_deref())
            .map_err(|problem| Exit::Config(problem.to_string()))?;
        let client = Client::new(agent, &settings.url, &settings.token, times.clone());
        provider::check(&config.provider).map_err(Exit::Config)?;
        let mut outage = Outage::new(times.clone());
        let (me, post_limit) = loop {
            match introduce(&client) {
                Ok(introduced) => break introduced,
                Err(error @ ApiError::Unauthorized(_)) => {
                    return Err(Exit::Token(error.to_string()));
                }
                Err(error) if once => return Err(Exit::Failure(error.to_string())),
                Err(error) => times.clock.sleep(outage.failed(&Trouble::Api(error))?),
            }
            between();
        };
        outage.went_well();
        let scope = settings.channel_id.clone().unwrap_or_default();
        let store = Store::open(&config.state_path, &me.id, &scope, times.clock.clone());
        let store = store.map_err(|error| {
            Exit::Failure(format!(
                "cannot read {}: {error}; make it readable or set state_dir",
                config.state_path.display()
            ))
        })?;
        if !me.is_bot {
            warn!(
                "@{} is a person's account, not a bot's: that person's own messages are never answered",
                me.username
            );
        }
        info!(
            "prx {} answers as @{} on {} (Mattermost {}) in {}, {}, by {}",
            env!("CARGO_PKG_VERSION"),
            me.username,
            settings.url,
            client.version(),
            place(settings.channel_id.as_ref()),
            people(&settings.defaults.allowed_users),
            config.provider.describe(),
        );
        let bot = Bot::new(config, client, store, times.clone(), me, post_limit);
        Ok(Some(Session {
            bot,
            outage,
            times,
            once,
            _lock: lock,
        }))
    }

    /// One round, and the pause after it: whether the work is done, which it is only with `once`.
    pub fn step(&mut self) -> Result<bool, Exit> {
        let pause = match self.bot.round() {
            Ok(round) if self.once && !round.more => return Ok(true),
            Ok(round) => {
                self.outage.went_well();
                if round.more && round.moved {
                    return Ok(false);
                }
                self.times.poll
            }
            Err(trouble) if self.once => return Err(Exit::Failure(trouble.to_string())),
            Err(trouble) => self.outage.failed(&trouble)?,
        };
        self.times.clock.sleep(pause);
        Ok(false)
    }
}

/// Who the bot is, and the longest post that the server takes, in characters.
pub fn introduce(client: &Client) -> Result<(User, usize), ApiError> {
    let me = client.me()?;
    let limit = match client.max_post_size() {
        Err(ApiError::Refused { .. }) => None,
        limit => limit?,
    };
    Ok((
        me,
        limit
            .filter(|limit| *limit > 0)
            .unwrap_or(OLDEST_POST_LIMIT),
    ))
}

fn place(channel: Option<&ChannelId>) -> String {
    channel.map_or("every channel it is in".to_owned(), |id| {
        format!("channel {id}")
    })
}

fn people(allowed: &Allowed) -> String {
    match allowed {
        Allowed::Everybody => "to everybody".to_owned(),
        Allowed::These(users) if users.is_empty() => "to nobody: allowed_users is empty".to_owned(),
        Allowed::These(users) => {
            let ids: Vec<&str> = users.iter().take(5).map(|user| user.as_str()).collect();
            let more = users.len() - ids.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("to {}{more}", ids.join(", "))
        }
    }
}
