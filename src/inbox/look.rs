//! Looking: one small request (per team) that says which channels show something new.

use super::Inbox;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Channel, ChannelId};
use crate::state::State;

impl Inbox {
    /// Asks the server, with one small request (per team), whether there is something to read. True:
    /// the state has floors of channels that are new, to be saved before anything else.
    pub(crate) fn look(&mut self, state: &mut State) -> Result<bool, ApiError> {
        self.notice_absence(state);
        match self.scope.channel.clone() {
            Some(channel) => self.look_at_one(state, &channel)?,
            None => self.look_at_all(state)?,
        }
        self.looked_at = self.now();
        Ok(std::mem::take(&mut self.changed))
    }

    fn look_at_one(&mut self, state: &mut State, id: &ChannelId) -> Result<(), ApiError> {
        let now = self.now();
        let shown = super::watch(state, id);
        let known = shown.or(self.lists.refused.as_ref());
        if known.is_some_and(|watch| watch.closed_told && watch.is_closed(now)) {
            return Ok(());
        }
        // An open channel can be read by anybody: only its members tell whether the bot is in it.
        let check_membership = shown.is_none_or(|watch| watch.closed_until.is_some());
        let channel = match self.scope.client.channel(id) {
            Err(error) if error.is_closed() => {
                let why = format!(
                    "{error}; `prx channel doctor` finds the right channel_id, and the bot must be in \
                     the channel"
                );
                self.refuse(state, id, None, &why);
                return Ok(());
            }
            result => result?,
        };
        if check_membership && !self.scope.client.is_member(id)? {
            let why = "the bot is not in it; add it with /invite in the channel";
            self.refuse(state, id, Some(&channel), why);
            return Ok(());
        }
        self.lists.refused_since = None;
        let refused = self.lists.refused.take();
        self.admit(state, &channel)?;
        if let (Some(refused), Some(watch)) = (refused, super::watch_mut(state, id)) {
            watch.closed_told = refused.closed_told;
        }
        self.begin(state);
        state.listed_at = state.listed_at.max(self.listing);
        if channel.delete_at.0 > 0 {
            self.close(state, id, "it is archived");
        } else if check_membership {
            reopen(state, id);
        }
        Ok(())
    }

    /// The one channel is closed. After a first refusal it is soon looked at again; only a second one
    /// closes it for longer. `outside`: the channel, where the bot is not in it.
    fn refuse(&mut self, state: &mut State, id: &ChannelId, outside: Option<&Channel>, why: &str) {
        let now = self.now();
        // What a refusal says about floors is believed when it is said again.
        let is_confirmed = *self.lists.refused_since.get_or_insert(now) < now;
        if !is_confirmed {
            return self.close_for(state, id, why, self.scope.times.relist);
        }
        if let Some(channel) = outside {
            self.leave(state, channel);
        }
        self.begin(state);
        self.close(state, id, why);
    }

    /// The bot is not in the one channel: what is said there until it comes is history.
    fn leave(&mut self, state: &mut State, channel: &Channel) {
        state.listed_at = state.listed_at.max(channel.last_post_at);
        if let Some(cursor) = state.leave(&channel.id, self.scope.times.entry_margin()) {
            self.lists.refused = cursor.watch;
        }
        self.waiting.clear();
        self.behind.clear();
        self.shared.forget(&channel.id);
    }
}

fn reopen(state: &mut State, channel: &ChannelId) {
    if let Some(cursor) = state.channels.get_mut(channel)
        && let Some(watch) = &mut cursor.watch
        && watch.closed_until.take().is_some()
    {
        // How the bot came back stands in the channel.
        cursor.progress.read_at = None;
    }
}
