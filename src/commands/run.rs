//! `prx run`: from the configuration to a bot that answers.

use std::path::Path;
use std::time::Duration;

use log::{Level, log, warn};

use super::lookup::{Found, at_name};
use super::{Exit, at_terminal};
use crate::bot::{Bot, Pace, Work};
use crate::config::{self, Allowed, Config};
use crate::desk::{Desk, Processes};
use crate::http::Agent;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, User, UserId};
use crate::outage::Outage;
use crate::outage::Trouble;
use crate::provider;
use crate::reload::Reload;
use crate::state::{Lock, LockError, Store};
use crate::times::Times;

/// What a server that names no limit allows, in characters: the limit of the oldest schemas.
const OLDEST_POST_LIMIT: usize = 4000;
/// People named at the start, at most.
const NAMES: usize = 5;
/// How long answers at work may go on while the program is about to be started anew.
const CLOSING: Duration = Duration::from_secs(30);

/// Runs the bot until it fails for good; with `once`, for one poll and its answers. Another instance
/// with the same state file is a good reason to do nothing.
pub fn run(config_path: Option<&Path>, once: bool) -> Result<(), Exit> {
    let config = config::load(config_path, &|name| std::env::var(name).ok())?;
    let times = Times::default();
    let mut reload = Reload::new(&config, times.clock.clone());
    let desk = Processes::new(times.clock.clone());
    let desk = desk.map_err(|error| Exit::Failure(format!("cannot make a socket: {error}")))?;
    let between = &mut || {
        if reload.is_due() {
            reload.start_anew();
        }
    };
    let started = Session::start(config, times, Box::new(desk), once, between)?;
    let Some(mut session) = started else {
        return Ok(());
    };
    loop {
        match session.step() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(exit) => {
                session.end();
                return Err(exit);
            }
        }
        session.close(reload.is_due());
        if session.is_closed() {
            session.end();
            reload.start_anew();
        }
    }
}

/// A bot at work, and the lock that says so.
pub struct Session {
    bot: Bot,
    times: Times,
    once: bool,
    /// While the program is about to be started anew: how long the answers at work may still take.
    closes_at: Option<Duration>,
    _lock: Lock,
}

impl Session {
    /// Takes the lock, before any request, and finds out who the bot is; waits for a server that
    /// cannot be reached, unless `once`, and calls `between` after each try. Nothing: another instance
    /// has the lock.
    pub fn start(
        config: Config,
        mut times: Times,
        mut desk: Box<dyn Desk>,
        once: bool,
        between: &mut dyn FnMut(),
    ) -> Result<Option<Session>, Exit> {
        let Some(lock) = take_lock(&config)? else {
            return Ok(None);
        };
        for warning in &config.warnings {
            warn!("{warning}");
        }
        times.poll = config.mattermost.poll_interval;
        let settings = &config.mattermost;
        let agent = Agent::new(settings.ca_file.as_deref()).map_err(Exit::config)?;
        let client = Client::new(agent, &settings.url, &settings.token, times.clone());
        provider::check(&config.provider).map_err(Exit::config)?;
        let mut outage = Outage::new(times.clone());
        let mut known = None;
        let has_worked = config.state_path.exists();
        let (me, post_limit) = loop {
            match introduce(&client, &mut known) {
                Ok(introduced) => break introduced,
                // A token that has worked is refused for a while by a server whose database is down.
                Err(error @ ApiError::Unauthorized(_)) if once || !has_worked => {
                    return Err(Exit::Token(error.to_string()));
                }
                Err(error) if once => return Err(Exit::failure(error)),
                Err(error) => {
                    let pause = outage.failed(&Trouble::Api(error), client.served())?;
                    desk.rest(times.clock.now() + pause);
                }
            }
            between();
        };
        outage.went_well();
        let store = open_store(&config, &me, &times)?;
        tell_start(&config, &client, &me, once);
        let bot = Bot::new(
            config,
            client,
            desk,
            store,
            times.clone(),
            outage,
            (me, post_limit),
        );
        Ok(Some(Session {
            bot,
            times,
            once,
            closes_at: None,
            _lock: lock,
        }))
    }

    /// One step, and the rest after it: whether the work is done, which it is only with `once`.
    pub fn step(&mut self) -> Result<bool, Exit> {
        let pace = if self.once {
            self.bot.try_step()
        } else {
            self.bot.step()
        };
        let Pace::Rest(until) = pace? else {
            return Ok(false);
        };
        if self.once {
            let failure = match self.bot.work() {
                Work::UnderWay => None,
                Work::Done => {
                    self.bot.end();
                    return Ok(true);
                }
                Work::Failing(count) => Some(format!(
                    "{count} answers are not posted yet, as requests for them fail; the next run goes \
                     on with them"
                )),
                Work::Closed => Some(
                    "nothing is answered, as the channel of channel_id is closed to the bot; \
                     `prx channel doctor` says what to do"
                        .to_owned(),
                ),
            };
            if let Some(why) = failure {
                self.bot.end();
                return Err(Exit::Failure(why));
            }
        }
        self.bot.rest(until.min(self.closes_at.unwrap_or(until)));
        Ok(false)
    }

    /// Takes up nothing new from here on, or goes on after all.
    pub fn close(&mut self, closing: bool) {
        if closing != self.closes_at.is_some() {
            self.bot.close(closing);
            let until = self.times.clock.now() + CLOSING;
            self.closes_at = closing.then_some(until);
        }
    }

    /// Whether it is closing and has nothing at work any more, or no time left for it.
    pub fn is_closed(&self) -> bool {
        let is_over = |until| !self.bot.is_at_work() || self.times.clock.now() >= until;
        self.closes_at.is_some_and(is_over)
    }

    /// Ends on purpose, the workers with it.
    pub fn end(&mut self) {
        self.bot.end();
        self.closes_at = None;
        self.bot.close(false);
    }
}

/// The state of this bot and its channels.
fn open_store(config: &Config, me: &User, times: &Times) -> Result<Store, Exit> {
    let scope = config.mattermost.scope();
    let store = Store::open(&config.state_path, &me.id, &scope, times.clock.clone());
    store.map_err(|error| {
        Exit::Failure(format!(
            "cannot read {}: {error}; make it readable or set state_dir",
            config.state_path.display()
        ))
    })
}

/// The lock beside the state file; nothing if another instance has it.
fn take_lock(config: &Config) -> Result<Option<Lock>, Exit> {
    match Lock::take(&config.state_path) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Taken(holder)) => {
            let holder = holder.map_or(String::new(), |id| format!(" (process {id})"));
            // Cron starts one each minute, and wants no mail of it.
            let level = at_terminal(Level::Warn);
            let state = config.state_path.display();
            log!(level, "another instance{holder} runs with {state}");
            Ok(None)
        }
        Err(LockError::Io(path, error)) => Err(Exit::Failure(format!(
            "cannot open the lock file {}: {error}; make its folder writable or set state_dir",
            path.display()
        ))),
    }
}

/// The first lines of the log. A single round has nothing to say of itself.
fn tell_start(config: &Config, client: &Client, me: &User, once: bool) {
    if !me.is_bot {
        warn!(
            "@{} is a person's account, not a bot's: that person's own messages are never answered",
            me.username
        );
    }
    let settings = &config.mattermost;
    let level = if once { Level::Debug } else { Level::Info };
    // The names in it are asked for only where it is shown.
    log!(
        level,
        "prx {} answers as @{} on {} (Mattermost {}) in {}, {}, by {}",
        env!("CARGO_PKG_VERSION"),
        me.username,
        settings.url,
        client.version(),
        place(client, settings.channel_id.as_ref()),
        people(client, &settings.defaults.allowed_users),
        config.provider.describe(),
    );
}

/// Who the bot is, and the longest post that the server takes, in characters. `known`: what an
/// earlier try found out, for a server that lets one request through at a time.
pub(crate) fn introduce(
    client: &Client,
    known: &mut Option<User>,
) -> Result<(User, usize), ApiError> {
    let me = match known.take() {
        Some(me) => me,
        None => client.me()?,
    };
    let limit = match client.max_post_size() {
        Ok(limit) => limit.filter(|limit| *limit > 0),
        Err(ApiError::Refused { .. }) => None,
        Err(error) => {
            *known = Some(me);
            return Err(error);
        }
    };
    Ok((me, limit.unwrap_or(OLDEST_POST_LIMIT)))
}

/// Where it answers, for people.
fn place(client: &Client, channel: Option<&ChannelId>) -> String {
    let Some(id) = channel else {
        return "every channel it is in".to_owned();
    };
    match client.channel(id) {
        Ok(channel) => Found::new(channel, &[]).title(),
        Err(_) => format!("channel {id}"),
    }
}

/// Whom it answers, for people.
fn people(client: &Client, allowed: &Allowed) -> String {
    let Allowed::These(users) = allowed else {
        return "to everybody".to_owned();
    };
    // A text that is no well-formed id matches nobody.
    let ids: Vec<&UserId> = users.iter().filter(|id| id.is_well_formed()).collect();
    if ids.is_empty() {
        return "to nobody: allowed_users holds no user's id".to_owned();
    }
    let shown = &ids[..ids.len().min(NAMES)];
    let known = client.users(shown).unwrap_or_default();
    let names = shown.iter().map(|id| at_name(id, &known));
    let more = match ids.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("to {}{more}", names.collect::<Vec<_>>().join(", "))
}
