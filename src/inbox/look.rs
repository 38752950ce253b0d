//! Looking: one small request (per team) that says which channels show something new.

use std::time::{Duration, SystemTime};

use log::{debug, info};

use super::Inbox;
use super::pages::find_entry;
use crate::cursor::Cursor;
use crate::cursor::watch::Watch;
use crate::mattermost::client::{ApiError, ChannelList, Client};
use crate::mattermost::{Channel, ChannelId, ServerTime, TeamId};
use crate::sorted::{Map, Set};
use crate::state::State;
use crate::times;

/// What is known of the lists of channels.
#[derive(Default)]
pub(super) struct Lists {
    /// The bot's teams and the ETag of each one's list.
    teams: Vec<(TeamId, Option<String>)>,
    teams_due: Duration,
    /// After a change: until when, at least and once after, and when next, the lists are asked for
    /// without their ETags. Zero: not at all.
    relist_until: Duration,
    relist_due: Duration,
    /// Whether this run saw all lists once.
    seen: bool,
    /// Since when some list is refused.
    refused_since: Option<Duration>,
    /// The one channel of the configuration, while no list showed it.
    pub refused: Option<Watch>,
}

impl Lists {
    /// Has every list sent whole at the next look.
    pub(super) fn forget_etags(&mut self) {
        self.teams.iter_mut().for_each(|(_, etag)| *etag = None);
    }

    /// Whether a refusal is not the first one: what it says about floors is believed when it is
    /// said again.
    fn is_confirmed(&mut self, now: Duration) -> bool {
        *self.refused_since.get_or_insert(now) < now
    }

    fn changed(&mut self, now: Duration, times: &times::Times) {
        self.relist_until = now + times.window;
        self.relist_due = now + times.relist;
    }
}

impl Inbox {
    /// Asks the server, with one small request (per team), whether there is something to read. True:
    /// the state has floors of channels that are new, to be saved before anything else.
    pub(crate) fn look(&mut self, client: &Client, state: &mut State) -> Result<bool, ApiError> {
        self.notice_absence(state);
        match self.scope.channel.clone() {
            Some(channel) => self.look_at_one(client, state, &channel)?,
            None => self.look_at_all(client, state)?,
        }
        self.looked_at = self.now();
        Ok(std::mem::take(&mut self.changed))
    }

    fn look_at_one(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
    ) -> Result<(), ApiError> {
        let now = self.now();
        let shown = super::watch(state, id);
        let known = shown.or(self.lists.refused.as_ref());
        if known.is_some_and(|watch| watch.closed_told && watch.is_closed(now)) {
            return Ok(());
        }
        // An open channel can be read by anybody: only its members tell whether the bot is in it.
        let check_membership = shown.is_none_or(|watch| watch.closed_until.is_some());
        let channel = match client.channel(id) {
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
        if check_membership && !client.is_member(id)? {
            let why = "the bot is not in it; add it with /invite in the channel";
            self.refuse(state, id, Some(&channel), why);
            return Ok(());
        }
        self.lists.refused_since = None;
        let refused = self.lists.refused.take();
        self.admit(client, state, &channel)?;
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

    /// The one channel is closed. A second refusal is believed more than a first, after which the next
    /// look comes soon. `outside`: the channel, where the bot is not in it.
    fn refuse(&mut self, state: &mut State, id: &ChannelId, outside: Option<&Channel>, why: &str) {
        let confirmed = self.lists.is_confirmed(self.now());
        if confirmed {
            if let Some(channel) = outside {
                self.leave(state, channel);
            }
            self.begin(state);
        }
        let times = &self.scope.times;
        let pause = if confirmed {
            times.recheck
        } else {
            times.relist
        };
        self.close_for(state, id, why, pause);
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

    fn look_at_all(&mut self, client: &Client, state: &mut State) -> Result<(), ApiError> {
        let now = self.now();
        if now >= self.lists.teams_due {
            self.look_up_teams(client, state)?;
        }
        // The lists' ETags are blind to what is committed late, and to anything while the server's clock
        // is behind what it was.
        let recent = !self.lists.relist_until.is_zero();
        let newest = state.listed_at.before(self.scope.times.window);
        let hidden = client.date_ms().is_some_and(|present| present < newest.0);
        let relist = (recent || hidden) && now >= self.lists.relist_due;
        if relist {
            let times = &self.scope.times;
            self.lists.relist_due = now + if recent { times.relist } else { times.recheck };
        }
        let shown = self.fetch_lists(client, state, relist)?;
        let refused_since = *self.lists.refused_since.get_or_insert(now);
        // A list that stays refused is one of no channels.
        if shown || now >= refused_since + self.scope.times.recheck {
            self.begin(state);
        }
        if shown {
            self.all_shown(state, relist);
        }
        Ok(())
    }

    fn look_up_teams(&mut self, client: &Client, state: &mut State) -> Result<(), ApiError> {
        let teams = client.teams()?;
        self.lists.teams_due = self.now() + self.scope.times.recheck;
        let etags: Map<_, _> = self.lists.teams.drain(..).collect();
        let etag = |team: &TeamId| etags.get(team).cloned().flatten();
        let teams = teams
            .into_iter()
            .map(|team| (team.id.clone(), etag(&team.id)));
        self.lists.teams = teams.collect();
        let known = self.lists.teams.iter().map(|(team, _)| team.clone());
        let known: Set<TeamId> = known.collect();
        self.forget(state, |_, watch| {
            !watch.team.is_empty() && !known.contains(&watch.team)
        });
        Ok(())
    }

    /// Takes in every list: whether none was refused.
    fn fetch_lists(
        &mut self,
        client: &Client,
        state: &mut State,
        relist: bool,
    ) -> Result<bool, ApiError> {
        let now = self.now();
        let mut shown = true;
        if self.lists.teams.is_empty() {
            // Servers before 6.0 do not have this call.
            match client.my_channels() {
                Err(ApiError::Refused { .. }) => shown = false,
                channels => {
                    self.take_list(client, state, &TeamId::default(), &channels?)?;
                }
            }
        }
        for at in 0..self.lists.teams.len() {
            let (team, etag) = self.lists.teams[at].clone();
            match client.team_channels(&team, etag.as_deref().filter(|_| !relist)) {
                Ok(ChannelList::Unchanged) => {}
                Ok(ChannelList::Changed { channels, etag }) => {
                    // Another ETag is a change, even one that no counter shows: a start in the midst of
                    // things, or a channel that is still empty.
                    let changed = self.take_list(client, state, &team, &channels)?;
                    if changed || etag != self.lists.teams[at].1 {
                        self.lists.changed(now, &self.scope.times);
                    }
                    self.lists.teams[at].1 = etag;
                }
                // Removed from the team a moment ago, or some versions' way to say that there are none.
                Err(ApiError::Refused { .. }) => {
                    shown = false;
                    let soon = now + self.scope.times.relist;
                    self.lists.teams_due = self.lists.teams_due.min(soon);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(shown)
    }

    /// All lists were seen together.
    fn all_shown(&mut self, state: &mut State, relist: bool) {
        self.lists.refused_since = None;
        if relist && self.now() >= self.lists.relist_until {
            // Not before: an outage may take up all of the window.
            self.lists.relist_until = Duration::ZERO;
        }
        // Only now: until then a list may yet show a channel that the bot came into before.
        state.listed_at = state.listed_at.max(self.listing);
        if !std::mem::replace(&mut self.lists.seen, true) {
            // A channel that this run's first look does not show is one that the bot has left.
            let unseen = state
                .channels
                .iter()
                .filter(|(_, cursor)| cursor.watch.is_none());
            let unseen: Vec<ChannelId> = unseen.map(|(id, _)| id.clone()).collect();
            self.changed |= !unseen.is_empty();
            for channel in unseen {
                state.leave(&channel, self.scope.times.entry_margin());
            }
        }
    }

    /// From here on channels that are new have their floor where the bot came in.
    fn begin(&mut self, state: &mut State) {
        self.changed |= !state.begun;
        state.begun = true;
    }

    /// Takes one list of channels in: whether any of them shows something new.
    fn take_list(
        &mut self,
        client: &Client,
        state: &mut State,
        team: &TeamId,
        channels: &[Channel],
    ) -> Result<bool, ApiError> {
        let mut changed = false;
        for channel in channels {
            match self.admit(client, state, channel) {
                Err(error) if error.is_closed() => {
                    debug!("channel {} cannot be read: {error}", channel.id);
                }
                result => changed |= result?,
            }
        }
        let listed: Set<&ChannelId> = channels.iter().map(|channel| &channel.id).collect();
        self.forget(state, |channel, watch| {
            watch.team == *team && !team.is_empty() && !listed.contains(channel)
        });
        Ok(changed)
    }

    /// Notes what the server shows of a channel, and finds the floor of one that is new: whether it
    /// shows something new.
    pub(super) fn admit(
        &mut self,
        client: &Client,
        state: &mut State,
        channel: &Channel,
    ) -> Result<bool, ApiError> {
        self.quiet = false;
        let shown = (channel.last_post_at, channel.total_msg_count);
        if !state.channels.contains_key(&channel.id) {
            let fresh = self.first_record(client, state, channel)?;
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
        let has_news = cursor.show(shown);
        self.note_shared(state, channel);
        Ok(has_news)
    }

    /// The record of a channel that the state does not know.
    fn first_record(
        &self,
        client: &Client,
        state: &State,
        channel: &Channel,
    ) -> Result<Cursor, ApiError> {
        if !state.begun {
            let shown = (channel.last_post_at, channel.total_msg_count);
            return Ok(Cursor::starting(channel.last_post_at, shown));
        }
        if matches!(channel.kind.as_str(), "D" | "G") {
            let floor = ServerTime(channel.create_at.0.saturating_sub(1));
            return Ok(Cursor::starting(floor, Default::default()));
        }
        // A join post older than this belongs to an earlier stay: the bot was gone in between, or the
        // channel was.
        let until = state.listed_at.before(self.scope.times.entry_margin());
        let left = state.left.get(&channel.id).copied();
        let until = until.max(left.unwrap_or_default());
        let entry = find_entry(client, &channel.id, &self.scope.bot, until)?;
        Ok(Cursor::starting(
            entry.unwrap_or(channel.last_post_at),
            Default::default(),
        ))
    }

    /// Drops channels that the server does not show any more, with all that waits in them.
    fn forget(&mut self, state: &mut State, gone: impl Fn(&ChannelId, &Watch) -> bool) {
        let is_gone = |(id, cursor): &&(ChannelId, Cursor)| {
            cursor.watch.as_ref().is_some_and(|watch| gone(id, watch))
        };
        let gone: Vec<ChannelId> = state
            .channels
            .iter()
            .filter(is_gone)
            .map(|(id, _)| id.clone())
            .collect();
        for channel in gone {
            let left = state.leave(&channel, self.scope.times.entry_margin());
            let watch = left.and_then(|cursor| cursor.watch);
            let name = watch.map_or(String::new(), |watch| watch.name);
            info!("the bot is no longer in channel {name} ({channel})");
            self.changed = true;
            self.behind.remove(&channel);
            self.shared.forget(&channel);
            self.waiting
                .retain(|_, waiting| waiting.post.channel_id != channel);
        }
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
