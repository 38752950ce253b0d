//! The channels that the server shows: what it says of each, the floor of one that is new, and the end
//! of one that the bot is out of.

use std::time::{Duration, SystemTime};

use log::{debug, info};

use super::Inbox;
use super::pages::find_entry;
use crate::cursor::Cursor;
use crate::cursor::watch::Watch;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Channel, ChannelId, ServerTime};
use crate::state::State;
use crate::times;

impl Inbox {
    /// From here on channels that are new have their floor where the bot came in.
    pub(super) fn begin(&mut self, state: &mut State) {
        self.changed |= !state.begun;
        state.begun = true;
    }

    /// Notes what the server shows of a channel, and finds the floor of one that is new: whether it
    /// shows something new.
    pub(super) fn admit(&mut self, state: &mut State, channel: &Channel) -> Result<bool, ApiError> {
        self.quiet = false;
        if !state.channels.contains_key(&channel.id) {
            let fresh = self.first_record(state, channel)?;
            debug!(
                "channel {} ({}) is answered from {} on",
                channel.name,
                channel.id,
                times::timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(fresh.floor.0))
            );
            state.channels.insert(channel.id.clone(), fresh);
            state.left.remove(&channel.id);
            self.changed = true;
        }
        let newest = channel.last_post_at.max(channel.create_at);
        self.listing = self.listing.max(newest);
        let Some(cursor) = state.channels.get_mut(&channel.id) else {
            return Ok(false);
        };
        if cursor.watch.is_none() {
            cursor.resume();
        }
        let watch = cursor.watch.get_or_insert_default();
        watch.direct = channel.is_direct();
        watch.team = channel.team_id.clone();
        watch.name.clone_from(&channel.name);
        watch.shared = channel.shared;
        let has_news = cursor.show((channel.last_post_at, channel.total_msg_count));
        self.note_shared(cursor, channel);
        Ok(has_news)
    }

    /// The record of a channel that the state does not know.
    fn first_record(&self, state: &State, channel: &Channel) -> Result<Cursor, ApiError> {
        if !state.begun {
            let shown = (channel.last_post_at, channel.total_msg_count);
            return Ok(Cursor::starting(channel.last_post_at, shown));
        }
        let floor = if matches!(channel.kind.as_str(), "D" | "G") {
            ServerTime(channel.create_at.0.saturating_sub(1))
        } else {
            // A join post older than this belongs to an earlier stay: the bot was gone in between, or
            // the channel was.
            let until = state.listed_at.before(self.scope.times.entry_margin());
            let left = state.left.get(&channel.id).copied();
            let until = until.max(left.unwrap_or_default());
            let Inbox { scope, .. } = self;
            let entry = find_entry(&scope.client, &channel.id, &scope.bot, until)?;
            entry.unwrap_or(channel.last_post_at)
        };
        Ok(Cursor::starting(floor, Default::default()))
    }

    /// Drops channels that the server does not show any more, with all that waits in them.
    pub(super) fn forget(&mut self, state: &mut State, gone: impl Fn(&ChannelId, &Watch) -> bool) {
        let is_gone = |(id, cursor): &&(ChannelId, Cursor)| {
            cursor.watch.as_ref().is_some_and(|watch| gone(id, watch))
        };
        let gone = state.channels.iter().filter(is_gone);
        let gone: Vec<ChannelId> = gone.map(|(id, _)| id.clone()).collect();
        for channel in gone {
            let left = state.leave(&channel, self.scope.times.entry_margin());
            let name = left.as_ref().map_or("", Cursor::name);
            info!("the bot is no longer in channel {name} ({channel})");
            self.changed = true;
            self.behind.remove(&channel);
            self.shared.forget(&channel);
            self.waiting
                .retain(|_, waiting| waiting.post.channel_id != channel);
        }
    }
}
