//! The lists of channels, one per team: what they show, and when they are asked for whole.

use std::time::Duration;

use log::debug;

use super::Inbox;
use crate::cursor::watch::Watch;
use crate::mattermost::client::{ApiError, ChannelList};
use crate::mattermost::{Channel, ChannelId, TeamId};
use crate::sorted::{Map, Set};
use crate::state::State;

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
    /// Since when some list, or the one channel, is refused.
    pub refused_since: Option<Duration>,
    /// The one channel of the configuration, while no list showed it.
    pub refused: Option<Watch>,
}

impl Lists {
    /// Has every list sent whole at the next look.
    pub(super) fn forget_etags(&mut self) {
        self.teams.iter_mut().for_each(|(_, etag)| *etag = None);
    }
}

impl Inbox {
    pub(super) fn look_at_all(&mut self, state: &mut State) -> Result<(), ApiError> {
        let now = self.now();
        if now >= self.lists.teams_due {
            self.look_up_teams(state)?;
        }
        // The lists' ETags are blind to what is committed late, and to anything while the server's clock
        // is behind what it was.
        let recent = !self.lists.relist_until.is_zero();
        let newest = state.listed_at.before(self.scope.times.window);
        let hidden = self.present().is_some_and(|present| present < newest);
        let relist = (recent || hidden) && now >= self.lists.relist_due;
        if relist {
            let times = &self.scope.times;
            self.lists.relist_due = now + if recent { times.relist } else { times.recheck };
        }
        let shown = self.fetch_lists(state, relist)?;
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

    fn look_up_teams(&mut self, state: &mut State) -> Result<(), ApiError> {
        let teams = self.scope.client.teams()?;
        self.lists.teams_due = self.now() + self.scope.times.recheck;
        let etags: Map<_, _> = self.lists.teams.drain(..).collect();
        let etag = |team: &TeamId| etags.get(team).cloned().flatten();
        let known: Set<TeamId> = teams.iter().map(|team| team.id.clone()).collect();
        let teams = teams.into_iter().map(|team| (etag(&team.id), team.id));
        self.lists.teams = teams.map(|(etag, team)| (team, etag)).collect();
        self.forget(state, |_, watch| {
            !watch.team.is_empty() && !known.contains(&watch.team)
        });
        Ok(())
    }

    /// Takes in every list: whether none was refused.
    fn fetch_lists(&mut self, state: &mut State, relist: bool) -> Result<bool, ApiError> {
        let now = self.now();
        let mut shown = true;
        if self.lists.teams.is_empty() {
            // Servers before 6.0 do not have this call.
            match self.scope.client.my_channels() {
                Err(ApiError::Refused { .. }) => shown = false,
                channels => {
                    self.take_list(state, &TeamId::default(), &channels?)?;
                }
            }
        }
        for at in 0..self.lists.teams.len() {
            let (team, etag) = self.lists.teams[at].clone();
            let known = etag.as_deref().filter(|_| !relist);
            match self.scope.client.team_channels(&team, known) {
                Ok(ChannelList::Unchanged) => {}
                Ok(ChannelList::Changed { channels, etag }) => {
                    // Another ETag is a change, even one that no counter shows: a start in the midst of
                    // things, or a channel that is still empty.
                    let changed = self.take_list(state, &team, &channels)?;
                    if changed || etag != self.lists.teams[at].1 {
                        self.lists.relist_until = now + self.scope.times.window;
                        self.lists.relist_due = now + self.scope.times.relist;
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

    /// Takes one list of channels in: whether any of them shows something new.
    fn take_list(
        &mut self,
        state: &mut State,
        team: &TeamId,
        channels: &[Channel],
    ) -> Result<bool, ApiError> {
        let mut changed = false;
        for channel in channels {
            match self.admit(state, channel) {
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
            let channels = state.channels.iter();
            let unseen = channels.filter(|(_, cursor)| cursor.watch.is_none());
            let unseen: Vec<ChannelId> = unseen.map(|(id, _)| id.clone()).collect();
            self.changed |= !unseen.is_empty();
            for channel in unseen {
                state.leave(&channel, self.scope.times.entry_margin());
            }
        }
    }
}
