//! What is known of a channel while this run watches it; none of it outlives the process.

use std::time::Duration;

use crate::mattermost::TeamId;

/// A channel that the server shows to the bot.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub name: String,
    pub direct: bool,
    /// Other servers are connected to it.
    pub shared: bool,
    pub team: TeamId,
    /// Neither read nor answered before this.
    pub closed_until: Option<Duration>,
    /// That it is closed was said.
    pub closed_told: bool,
    /// The pause after the last read that failed; zero after one that went well.
    pub pause: Duration,
}

impl Watch {
    pub(crate) fn is_closed(&self, now: Duration) -> bool {
        self.closed_until.is_some_and(|until| now < until)
    }
}
