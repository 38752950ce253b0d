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
use crate::state::{Lock, LockError, Store};
use crate::times::Times;

/// What a server that names no limit allows, in characters: the limit of the oldest schemas.
const OLDEST_POST_LIMIT: usize = 4000;

/// Runs the bot until it fails for good; with `once`, for one poll and its answers. Another instance
/// with the same state file is a good reason to do nothing.
pub fn run(config_path: Option<&Path>, once: bool) -> Result<(), Exit> {
    let config = config::load(config_path, &|name| std::env::var(name).ok())?;
    run_with(config, Times::default(), once)
}

/// As `run`, with a configuration at hand and other times.
pub fn run_with(config: Config, mut times: Times, once: bool) -> Result<(), Exit> {
    let _lock = match Lock::take(&config.state_path) {
        Ok(lock) => lock,
        Err(LockError::Taken(holder)) => {
            let holder = holder.map_or(String::new(), |id| format!(" (process {id})"));
            debug!(
                "another instance{holder} is running with {}",
                config.state_path.display()
            );
            return Ok(());
        }
        Err(LockError::Io(path, error)) => {
            return Err(Exit::Failure(format!(
                "cannot open the lock file {}: {error}; make the folder writable or set state_dir",
                path.display()
            )));
        }
    };
    for warning in &config.warnings {
        warn!("{warning}");
    }
    times.poll = config.mattermost.poll_interval;
    let mut outage = Outage::new(times.clone());
    let agent = Agent::new(config.mattermost.ca_file.as_deref()).map_err(Exit::Config)?;
    let client = Client::new(
        agent,
        &config.mattermost.url,
        &config.mattermost.token,
        times.clone(),
    );
    let provider = provider::from_settings(&config.provider).map_err(Exit::Config)?;
    let (me, post_limit) = loop {
        match introduce(&client) {
            Ok(introduced) => break introduced,
            Err(error @ ApiError::Unauthorized) => return Err(Exit::Token(error.to_string())),
            Err(error) if once => return Err(Exit::Failure(error.to_string())),
            Err(error) => {
                let pause = outage.begins(&Trouble::Api(error))?;
                times.clock.sleep(pause);
            }
        }
    };
    outage.over();
    let scope = config.mattermost.channel_id.clone().unwrap_or_default();
    let store =
        Store::open(&config.state_path, &me.id, &scope, times.clock.clone()).map_err(|error| {
            Exit::Failure(format!(
                "cannot read the state file {}: {error}",
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
        "prx {} answers as @{} on {} (Mattermost {}) in {} for {}, by {}",
        env!("CARGO_PKG_VERSION"),
        me.username,
        config.mattermost.url,
        client.version(),
        place(config.mattermost.channel_id.as_ref()),
        people(&config.mattermost.defaults.allowed_users),
        provider.describe(),
    );
    Bot::new(config, client, provider, store, times, me, post_limit).run(&mut outage, once)
}

/// Who the bot is, and the longest post that the server takes.
fn introduce(client: &Client) -> Result<(User, usize), ApiError> {
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
        Allowed::Everybody => "everybody".to_owned(),
        Allowed::These(users) if users.is_empty() => "nobody (allowed_users is empty)".to_owned(),
        Allowed::These(users) => {
            let ids: Vec<&str> = users.iter().take(5).map(|user| user.as_str()).collect();
            let more = users.len() - ids.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("{}{more}", ids.join(", "))
        }
    }
}
