//! Which posts are new: where to look, how far each channel was read, and what waits to be answered.
//!
//! Counters say when to look, identity says what is new, the server says what is answered.

mod pages;
mod read;
mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use log::{debug, info, warn};

use crate::mattermost::client::{ApiError, ChannelList, Client};
use crate::mattermost::{Channel, ChannelId, Post, PostId, ServerTime, TeamId, UserId};
use crate::state::{ChannelState, State};
use crate::times::{self, Times};
use pages::find_entry;
use read::Behind;
pub use record::{answered, parts_of};

/// With so many posts waiting no further channel is read.
const WAITING: usize = 1000;

/// What the inbox is told once.
pub struct Scope {
    /// The one channel to read; `None`: every channel the bot is in.
    pub channel: Option<ChannelId>,
    pub bot: UserId,
    /// Missed posts that are older than this are not answered.
    pub catch_up: Duration,
    pub times: Times,
}

/// A channel that is watched.
#[derive(Debug, Default)]
struct Watch {
    name: String,
    direct: bool,
    team: TeamId,
    /// `last_post_at` and `total_msg_count` at the last complete read; `None`: read it in any case.
    read_at: Option<(ServerTime, u64)>,
    /// How many more posts that read found than the counters told of: they will tell.
    early: u64,
    /// What the server shows at present.
    shown: (ServerTime, u64),
    /// Whether it was read since the bot was last out of touch: nothing in it was missed since.
    live: bool,
    /// The newest change that was read: the mark once nothing waits.
    newest: ServerTime,
    behind: Option<Behind>,
    /// Neither read nor answered before this.
    closed_until: Option<Duration>,
    /// That it is closed was said.
    closed_told: bool,
}

/// A post that waits for its answer.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub post: Post,
    /// By the clock of `Times`.
    pub since: Duration,
}

/// The channels, and the posts in them that wait.
pub struct Inbox {
    scope: Scope,
    teams: Vec<(TeamId, Option<String>)>,
    teams_due: Duration,
    /// After a change: until when, at least and once after, and when next, the lists are asked for
    /// without their ETags. Zero: not at all.
    relist_until: Duration,
    relist_due: Duration,
    /// When the bot was last in touch with the server.
    looked_at: Duration,
    /// Whether this run saw all lists once.
    looked: bool,
    /// Since when some list is refused.
    refused_since: Option<Duration>,
    /// Whether looking changed the state.
    changed: bool,
    /// The newest moment that a list showed since all of them were seen together.
    listing: ServerTime,
    watched: BTreeMap<ChannelId, Watch>,
    /// No channel is due before a list says so: an idle poll need not go through them all.
    quiet: bool,
    /// Whether the last read went on to a further page of a walk.
    walked: bool,
    waiting: BTreeMap<(ServerTime, PostId), Waiting>,
}

/// What `Inbox::look` saw.
pub struct Looked {
    /// The state has floors of channels that are new: to be saved before anything else.
    pub changed: bool,
    /// There is something to read.
    pub due: bool,
}

/// Whether a new post is to be answered: the filter, as the bot applies it.
/// The flag: whether its channel is a direct one.
pub type Wanted<'a> = dyn Fn(&Post, bool) -> bool + 'a;

impl Inbox {
    pub fn new(scope: Scope) -> Inbox {
        Inbox {
            teams: Vec::new(),
            teams_due: Duration::ZERO,
            relist_until: Duration::ZERO,
            relist_due: Duration::ZERO,
            looked_at: Duration::ZERO,
            looked: false,
            refused_since: None,
            changed: false,
            listing: ServerTime(0),
            watched: BTreeMap::new(),
            quiet: false,
            walked: false,
            waiting: BTreeMap::new(),
            scope,
        }
    }

    /// Asks the server, with one small request (per team), whether there is something to read.
    pub fn look(&mut self, client: &Client, state: &mut State) -> Result<Looked, ApiError> {
        let now = self.now();
        if now.saturating_sub(self.looked_at) > self.scope.times.recheck {
            for watch in self.watched.values_mut() {
                watch.live = false;
            }
        }
        match self.scope.channel.clone() {
            Some(channel) => self.look_at_one(client, state, &channel)?,
            None => self.look_at_all(client, state)?,
        }
        self.looked_at = now;
        Ok(Looked {
            changed: std::mem::take(&mut self.changed),
            due: self.is_due(),
        })
    }

    /// Reads what `look` found. What `wanted` refuses is handled at once; the rest waits. Also gives
    /// the error of a channel that could not be read while others could.
    pub fn read(
        &mut self,
        client: &Client,
        state: &mut State,
        wanted: &Wanted,
    ) -> Result<Option<ApiError>, ApiError> {
        let now = self.now();
        self.walked = false;
        let due = self.watched.iter().filter(|(_, watch)| watch.is_due(now));
        let due: Vec<ChannelId> = due.map(|(channel, _)| channel.clone()).collect();
        let mut unclear = Vec::new();
        for channel in due {
            if self.waiting.len() >= WAITING {
                // What waits is in memory; the other channels are read when it is answered.
                break;
            }
            match self.read_channel(client, state, &channel, wanted) {
                Err(error) if error.is_closed() => self.close(&channel, &error.to_string()),
                // One channel in trouble does not hold up the others; a server in trouble ends this.
                Err(error @ (ApiError::Unclear(_) | ApiError::TooLarge)) if unclear.len() < 3 => {
                    unclear.push(error);
                }
                result => result?,
            }
        }
        Ok(unclear.pop())
    }

    /// Whether the last read moved on in a walk that is not at its end.
    pub fn walked(&self) -> bool {
        self.walked
    }

    /// Whether `post` waits.
    pub fn waits(&self, post: &PostId) -> bool {
        self.waiting
            .values()
            .any(|waiting| waiting.post.id == *post)
    }

    /// The oldest post that waits in an open channel; `preferred` before all others.
    pub fn next(&self, preferred: Option<&PostId>) -> Option<Waiting> {
        let now = self.now();
        let open = |waiting: &&Waiting| {
            let watch = self.watched.get(&waiting.post.channel_id);
            watch.is_some_and(|watch| !watch.is_closed(now))
        };
        let first = preferred.and_then(|id| {
            self.waiting
                .values()
                .filter(open)
                .find(|waiting| waiting.post.id == *id)
        });
        first.or_else(|| self.waiting.values().find(open)).cloned()
    }

    /// Notes that `post` needs nothing more.
    pub fn done(
        &mut self,
        state: &mut State,
        post: &PostId,
        channel: &ChannelId,
        created: ServerTime,
    ) {
        self.waiting.remove(&(created, post.clone()));
        // What is written while the bot is at work is not missed.
        self.looked_at = self.now();
        if let Some(channel_state) = state.channels.get_mut(channel) {
            channel_state.handled.insert(post.clone(), created);
            self.advance(channel_state, channel);
        }
    }

    /// Leaves a channel alone for a while: the server refused to let the bot read or write there. That
    /// is said once, until it is open again.
    pub fn close(&mut self, channel: &ChannelId, why: &str) {
        self.close_for(channel, why, self.scope.times.recheck);
    }

    /// Leaves a channel alone until the next round.
    pub fn pass_over(&mut self, channel: &ChannelId) {
        self.quiet = false;
        let until = self.now() + self.scope.times.poll;
        if let Some(watch) = self.watched.get_mut(channel) {
            watch.closed_until = Some(until);
        }
    }

    fn close_for(&mut self, channel: &ChannelId, why: &str, pause: Duration) {
        self.quiet = false;
        let now = self.now();
        if self.scope.channel.is_some() {
            self.watched.entry(channel.clone()).or_default();
        }
        let Some(watch) = self.watched.get_mut(channel) else {
            return;
        };
        watch.closed_until = Some(now + pause);
        if !std::mem::replace(&mut watch.closed_told, true) {
            let name = match watch.name.as_str() {
                "" => channel.to_string(),
                name => format!("{name} ({channel})"),
            };
            warn!(
                "channel {name} is closed to the bot: {why}; looking again every {} s",
                self.scope.times.recheck.as_secs()
            );
        }
    }

    /// Notes that the bot may write in a channel.
    pub fn opened(&mut self, channel: &ChannelId) {
        if let Some(watch) = self.watched.get_mut(channel)
            && std::mem::take(&mut watch.closed_told)
        {
            info!("channel {} ({channel}) is open again", watch.name);
        }
    }

    /// Whether there is more to read without the server showing anything new.
    pub fn is_due(&mut self) -> bool {
        if self.quiet {
            return false;
        }
        let now = self.now();
        let due = self.watched.values().any(|watch| watch.is_due(now));
        self.quiet = !due
            && self
                .watched
                .values()
                .all(|watch| watch.closed_until.is_none());
        due
    }

    pub fn is_direct(&self, channel: &ChannelId) -> bool {
        self.watched.get(channel).is_some_and(|watch| watch.direct)
    }

    /// The channel's name, as in links; empty if it is not watched.
    pub fn name(&self, channel: &ChannelId) -> &str {
        self.watched.get(channel).map_or("", |watch| &watch.name)
    }

    fn now(&self) -> Duration {
        self.scope.times.clock.now()
    }

    fn look_at_one(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
    ) -> Result<(), ApiError> {
        let now = self.now();
        let known = self.watched.get(id);
        if known.is_some_and(|watch| watch.is_closed(now)) {
            return Ok(());
        }
        // An open channel can be read by anybody: only its members tell whether the bot is in it.
        let check_membership = known.is_none_or(|watch| watch.closed_until.is_some());
        let channel = match client.channel(id) {
            Err(error) if error.is_closed() => {
                let why = format!(
                    "{error}; `prx channel doctor` finds the right channel_id, and the bot must be in \
                     the channel"
                );
                let confirmed = self.is_confirmed(now);
                if confirmed {
                    self.begin(state);
                }
                self.close_for(id, &why, self.pause_after_refusal(confirmed));
                return Ok(());
            }
            result => result?,
        };
        if check_membership && !client.is_member(id)? {
            let confirmed = self.is_confirmed(now);
            if confirmed {
                self.leave(state, &channel);
                self.begin(state);
            }
            self.close_for(
                id,
                "the bot is not in it; add it with /invite in the channel",
                self.pause_after_refusal(confirmed),
            );
            return Ok(());
        }
        self.refused_since = None;
        self.admit(client, state, &channel)?;
        self.begin(state);
        state.listed_at = state.listed_at.max(self.listing);
        if channel.delete_at.0 > 0 {
            self.close(id, "it is archived");
        } else if check_membership {
            self.reopen(id);
        }
        Ok(())
    }

    /// Whether a refusal is not the first one: what it says about floors is believed when it is
    /// said again.
    fn is_confirmed(&mut self, now: Duration) -> bool {
        *self.refused_since.get_or_insert(now) < now
    }

    /// After a first refusal the next look comes soon, since a second one is believed more.
    fn pause_after_refusal(&self, confirmed: bool) -> Duration {
        let times = &self.scope.times;
        if confirmed {
            times.recheck
        } else {
            times.relist
        }
    }

    fn look_at_all(&mut self, client: &Client, state: &mut State) -> Result<(), ApiError> {
        let now = self.now();
        if now >= self.teams_due {
            let teams = client.teams()?;
            self.teams_due = now + self.scope.times.recheck;
            let etags: HashMap<_, _> = self.teams.drain(..).collect();
            let etag = |team: &TeamId| etags.get(team).cloned().flatten();
            self.teams = teams
                .into_iter()
                .map(|team| (team.id.clone(), etag(&team.id)))
                .collect();
            let teams: BTreeSet<TeamId> = self.teams.iter().map(|(team, _)| team.clone()).collect();
            self.forget(state, |_, watch| {
                !watch.team.is_empty() && !teams.contains(&watch.team)
            });
        }
        // The lists' ETags are blind to what is committed late, and to anything while the server's clock
        // is behind what it was.
        let recent = !self.relist_until.is_zero();
        let newest = state.listed_at.before(self.scope.times.window);
        let hidden = client.date_ms().is_some_and(|present| present < newest.0);
        let relist = (recent || hidden) && now >= self.relist_due;
        if relist {
            let times = &self.scope.times;
            self.relist_due = now + if recent { times.relist } else { times.recheck };
        }
        let mut shown = true;
        if self.teams.is_empty() {
            // Servers before 6.0 do not have this call.
            match client.my_channels() {
                Err(ApiError::Refused { .. }) => shown = false,
                channels => {
                    self.take_list(client, state, &TeamId::default(), &channels?)?;
                }
            }
        }
        for at in 0..self.teams.len() {
            let (team, etag) = self.teams[at].clone();
            match client.team_channels(&team, etag.as_deref().filter(|_| !relist)) {
                Ok(ChannelList::Unchanged) => {}
                Ok(ChannelList::Changed { channels, etag }) => {
                    // Another ETag is a change, even one that no counter shows: a start in the midst of
                    // things, or a channel that is still empty.
                    let changed = self.take_list(client, state, &team, &channels)?;
                    if changed || etag != self.teams[at].1 {
                        let times = &self.scope.times;
                        self.relist_until = now + times.window;
                        self.relist_due = now + times.relist;
                    }
                    self.teams[at].1 = etag;
                }
                // Removed from the team a moment ago, or some versions' way to say that there are none.
                Err(ApiError::Refused { .. }) => {
                    shown = false;
                    self.teams_due = self.teams_due.min(now + self.scope.times.relist);
                }
                Err(error) => return Err(error),
            }
        }
        let refused_since = *self.refused_since.get_or_insert(now);
        if shown {
            self.refused_since = None;
        }
        // A list that stays refused is one of no channels.
        if shown || now >= refused_since + self.scope.times.recheck {
            self.begin(state);
        }
        if shown && relist && now >= self.relist_until {
            // Not before: an outage or a long answer may take up all of the window.
            self.relist_until = Duration::ZERO;
        }
        if shown {
            // Only now: until then a list may yet show a channel that the bot came into before.
            state.listed_at = state.listed_at.max(self.listing);
        }
        if shown && !self.looked {
            // A channel that this run's first look does not show is one that the bot has left.
            self.looked = true;
            let known: Vec<ChannelId> = state.channels.keys().cloned().collect();
            for channel in known {
                if !self.watched.contains_key(&channel) {
                    state.leave(&channel, self.scope.times.entry_margin());
                }
            }
        }
        Ok(())
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
        let listed: BTreeSet<&ChannelId> = channels.iter().map(|channel| &channel.id).collect();
        self.forget(state, |channel, watch| {
            watch.team == *team && !team.is_empty() && !listed.contains(channel)
        });
        Ok(changed)
    }

    /// Notes what the server shows of a channel, and finds the floor of one that is new: whether it
    /// shows something new.
    fn admit(
        &mut self,
        client: &Client,
        state: &mut State,
        channel: &Channel,
    ) -> Result<bool, ApiError> {
        self.quiet = false;
        let shown = (channel.last_post_at, channel.total_msg_count);
        let bot = &self.scope.bot;
        if !state.channels.contains_key(&channel.id) {
            let (floor, read_at) = if !state.begun {
                (channel.last_post_at, shown)
            } else if matches!(channel.kind.as_str(), "D" | "G") {
                (
                    ServerTime(channel.create_at.0.saturating_sub(1)),
                    Default::default(),
                )
            } else {
                // What the bot came in by before is not how it came in now: it was gone in between, or
                // the channel was.
                let until = state.listed_at.before(self.scope.times.entry_margin());
                let left = state.left.get(&channel.id).copied();
                let until = until.max(left.unwrap_or_default());
                let entry = find_entry(client, &channel.id, bot, until)?;
                (entry.unwrap_or(channel.last_post_at), Default::default())
            };
            debug!(
                "channel {} ({}) is answered from {} on",
                channel.name,
                channel.id,
                times::timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(floor.0))
            );
            let fresh = ChannelState {
                floor,
                mark: floor,
                last_post_at: read_at.0,
                total_msg_count: read_at.1,
                ..ChannelState::default()
            };
            state.channels.insert(channel.id.clone(), fresh);
            state.left.remove(&channel.id);
            self.changed = true;
        }
        let newest = channel.last_post_at.max(channel.create_at);
        self.listing = self.listing.max(newest);
        let known = &state.channels[&channel.id];
        let watch = self
            .watched
            .entry(channel.id.clone())
            .or_insert_with(|| Watch {
                read_at: Some((known.last_post_at, known.total_msg_count)),
                newest: known.mark,
                ..Watch::default()
            });
        watch.direct = channel.is_direct();
        watch.team = channel.team_id.clone();
        watch.name.clone_from(&channel.name);
        watch.shown = shown;
        let unchanged = watch.read_at == Some(shown);
        watch.live |= unchanged;
        Ok(!unchanged)
    }

    /// Drops channels that the server does not show any more, with all that waits in them.
    fn forget(&mut self, state: &mut State, gone: impl Fn(&ChannelId, &Watch) -> bool) {
        self.watched.retain(|channel, watch| {
            if gone(channel, watch) {
                info!("the bot is no longer in channel {} ({channel})", watch.name);
                state.leave(channel, self.scope.times.entry_margin());
                self.changed = true;
                self.waiting
                    .retain(|_, waiting| waiting.post.channel_id != *channel);
                return false;
            }
            true
        });
    }

    /// The bot is not in the one channel: what is said there until it comes is history.
    fn leave(&mut self, state: &mut State, channel: &Channel) {
        state.listed_at = state.listed_at.max(channel.last_post_at);
        state.leave(&channel.id, self.scope.times.entry_margin());
        self.waiting.clear();
        if let Some(watch) = self.watched.get_mut(&channel.id) {
            watch.behind = None;
        }
    }

    fn reopen(&mut self, channel: &ChannelId) {
        if let Some(watch) = self.watched.get_mut(channel)
            && watch.closed_until.take().is_some()
        {
            // How the bot came back stands in the channel.
            watch.read_at = None;
        }
    }
}

impl Watch {
    fn is_closed(&self, now: Duration) -> bool {
        self.closed_until.is_some_and(|until| now < until)
    }

    fn is_due(&self, now: Duration) -> bool {
        !self.is_closed(now) && (self.behind.is_some() || self.read_at != Some(self.shown))
    }
}
