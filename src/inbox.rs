//! Which posts are new: where to look, how far each channel was read, and what waits to be answered.
//!
//! Counters say when to look, identity says what is new, the server says what is answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use log::{debug, info, warn};

use crate::mattermost::client::{ApiError, ChannelList, Client};
use crate::mattermost::{Channel, ChannelId, Post, PostId, PostList, ServerTime, TeamId, UserId};
use crate::state::{ChannelState, State};
use crate::times::Times;

/// From this many ids on, an answer to `since` may have left posts out.
const SINCE_LIMIT: usize = 1000;
/// The largest page that the server gives.
const PAGE: usize = 200;

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
    /// What the server shows at present.
    shown: (ServerTime, u64),
    /// The newest change that was read: the mark once nothing waits.
    newest: ServerTime,
    behind: Option<Behind>,
    /// Neither read nor answered before this.
    closed_until: Option<Duration>,
    /// That it is closed was said.
    closed_told: bool,
}

/// A channel with more to read than one answer holds is walked forward, page by page.
#[derive(Debug)]
struct Behind {
    /// The next page begins after this post.
    after: PostId,
    /// What the whole way ahead shows as answered.
    answered: BTreeSet<PostId>,
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
    /// Whether this run saw all lists once.
    looked: bool,
    /// The newest moment that a list showed since all of them were seen together.
    listing: ServerTime,
    watched: BTreeMap<ChannelId, Watch>,
    waiting: BTreeMap<(ServerTime, PostId), Waiting>,
}

/// Whether a new post is to be answered: the filter, as the bot applies it.
/// The flag: whether its channel is a direct one.
pub type Wanted<'a> = dyn Fn(&Post, bool) -> bool + 'a;

impl Inbox {
    pub fn new(scope: Scope) -> Inbox {
        Inbox {
            scope,
            teams: Vec::new(),
            teams_due: Duration::ZERO,
            relist_until: Duration::ZERO,
            relist_due: Duration::ZERO,
            looked: false,
            listing: ServerTime(0),
            watched: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Asks the server, with one small request (per team), whether there is something to read.
    /// Floors of channels that are new stand in `state` afterwards: save it before anything else.
    pub fn look(&mut self, client: &Client, state: &mut State) -> Result<bool, ApiError> {
        match self.scope.channel.clone() {
            Some(channel) => self.look_at_one(client, state, &channel)?,
            None => self.look_at_all(client, state)?,
        }
        Ok(self.is_due())
    }

    /// Reads what `look` found. What `wanted` refuses is handled at once; the rest waits.
    pub fn read(
        &mut self,
        client: &Client,
        state: &mut State,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let now = self.now();
        let due = self.watched.iter().filter(|(_, watch)| watch.is_due(now));
        let due: Vec<ChannelId> = due.map(|(channel, _)| channel.clone()).collect();
        for channel in due {
            match self.read_channel(client, state, &channel, wanted) {
                Err(error) if error.is_closed() => self.close(&channel, &error.to_string()),
                result => result?,
            }
        }
        Ok(())
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
        if let Some(channel_state) = state.channels.get_mut(channel) {
            channel_state.handled.insert(post.clone(), created);
            self.advance(channel_state, channel);
        }
    }

    /// Leaves a channel alone for a while: the server refused to let the bot read or write there.
    /// Said once, until it is open again.
    pub fn close(&mut self, channel: &ChannelId, why: &str) {
        let until = self.now() + self.scope.times.recheck;
        let watch = self.watched.entry(channel.clone()).or_default();
        watch.closed_until = Some(until);
        if !std::mem::replace(&mut watch.closed_told, true) {
            let name = if watch.name.is_empty() {
                channel.as_str()
            } else {
                &watch.name
            };
            warn!(
                "channel {name} ({channel}) is closed to the bot: {why}; looking again every {} s",
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
    pub fn is_due(&self) -> bool {
        let now = self.now();
        self.watched.values().any(|watch| watch.is_due(now))
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
                state.begun = true;
                self.close(
                    id,
                    &format!("{error}; check channel_id and add the bot to the channel"),
                );
                return Ok(());
            }
            result => result?,
        };
        let member = !check_membership || client.is_member(id)?;
        self.admit(client, state, &channel)?;
        state.begun = true;
        state.listed_at = state.listed_at.max(self.listing);
        if channel.delete_at.0 > 0 {
            self.close(id, "it is archived");
        } else if !member {
            self.close(
                id,
                "the bot is not in it; add it with /invite in the channel",
            );
        } else if check_membership {
            self.reopen(id);
        }
        Ok(())
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
        let relist = !self.relist_until.is_zero() && now >= self.relist_due;
        if relist {
            self.relist_due = now + self.scope.times.relist;
        }
        let first_round = !state.begun;
        let mut complete = true;
        if self.teams.is_empty() {
            // Servers before 6.0 do not have this call.
            match client.my_channels() {
                Err(ApiError::Refused { .. }) => {}
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
                    // Another ETag is a change, even one that no counter shows: a start in the midst
                    // of things, or a channel that is still empty.
                    if self.take_list(client, state, &team, &channels)? || etag != self.teams[at].1
                    {
                        self.relist_until = now + self.scope.times.window;
                        self.relist_due = now + self.scope.times.relist;
                    }
                    self.teams[at].1 = etag;
                }
                // Removed from the team a moment ago.
                Err(ApiError::Refused { .. }) => {
                    complete = false;
                    self.teams_due = now;
                }
                Err(error) => return Err(error),
            }
        }
        if first_round && complete {
            state.begun = true;
        }
        if complete && relist && now >= self.relist_until {
            // Not before: an outage or a long answer may take up all of the window.
            self.relist_until = Duration::ZERO;
        }
        if complete {
            // Only now: until then a list may yet show a channel that the bot came into before.
            state.listed_at = state.listed_at.max(self.listing);
        }
        if complete && !self.looked {
            // A channel that this run's first look does not show is one that the bot has left.
            self.looked = true;
            let watched = &self.watched;
            state
                .channels
                .retain(|channel, _| watched.contains_key(channel));
        }
        Ok(())
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
                // A team is listed once it was looked up. What the bot came in by before is not how
                // it came in now: it was gone in between, or the channel was.
                let margin = self.scope.times.window + self.scope.times.recheck;
                let until = state.listed_at.before(margin);
                let entry = find_entry(client, &channel.id, bot, until)?;
                (entry.unwrap_or(channel.last_post_at), Default::default())
            };
            debug!(
                "channel {} ({}) is answered from {} on",
                channel.name, channel.id, floor.0
            );
            let fresh = ChannelState {
                floor,
                mark: floor,
                last_post_at: read_at.0,
                total_msg_count: read_at.1,
                ..ChannelState::default()
            };
            state.channels.insert(channel.id.clone(), fresh);
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
        Ok(watch.read_at != Some(shown))
    }

    /// Drops channels that the server does not show any more, with all that waits in them.
    fn forget(&mut self, state: &mut State, gone: impl Fn(&ChannelId, &Watch) -> bool) {
        self.watched.retain(|channel, watch| {
            if gone(channel, watch) {
                info!("the bot is no longer in channel {} ({channel})", watch.name);
                state.channels.remove(channel);
                self.waiting
                    .retain(|_, waiting| waiting.post.channel_id != *channel);
                return false;
            }
            true
        });
    }

    fn reopen(&mut self, channel: &ChannelId) {
        if let Some(watch) = self.watched.get_mut(channel)
            && watch.closed_until.take().is_some()
        {
            // How the bot came back stands in the channel.
            watch.read_at = None;
        }
    }

    fn read_channel(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let (Some(watch), Some(channel)) = (self.watched.get_mut(id), state.channels.get_mut(id))
        else {
            return Ok(());
        };
        watch.closed_until = None;
        let shown = watch.shown;
        if watch.behind.is_none() {
            // `since=0` would be no `since` at all.
            let since = ServerTime(channel.mark.before(self.scope.times.window).0.max(1));
            match client.posts_since(id, since) {
                Ok(list) if list.order.len() < SINCE_LIMIT => {
                    return self.take_complete(client, channel, id, list, shown, wanted);
                }
                Ok(_) | Err(ApiError::TooLarge) => self.survey(client, channel, id, wanted)?,
                Err(error) => return Err(error),
            }
        }
        self.take_page(client, channel, id, wanted)
    }

    /// Takes in everything that changed since the mark less the window.
    fn take_complete(
        &mut self,
        client: &Client,
        channel: &mut ChannelState,
        id: &ChannelId,
        list: PostList,
        shown: (ServerTime, u64),
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let present = client.date_ms().map(ServerTime);
        if present.is_some_and(|present| present >= channel.ahead) {
            channel.ahead = ServerTime(0);
        }
        let cap = present
            .filter(|_| channel.ahead.0 > 0)
            .unwrap_or(ServerTime(u64::MAX));
        let newest = list
            .posts
            .iter()
            .map(|post| post.update_at.max(post.create_at));
        let newest = newest.filter(|time| *time <= cap).max().unwrap_or_default();
        let answered = answered(&list.posts, &self.scope.bot);
        let found = self.take(client, channel, id, list.posts, &answered, wanted);

        let Some(watch) = self.watched.get_mut(id) else {
            return Ok(());
        };
        let grew = watch.read_at.is_some_and(|(_, count)| shown.1 > count);
        let window = self.scope.times.window;
        if let Some(present) = present
            && (grew && found == 0 && channel.ahead.0 == 0 && present < channel.mark.before(window))
        {
            // There is a post more, and nothing to see after a mark that lies in the future: the
            // server's clock was ahead, and its posts of today lie before the mark.
            info!(
                "the server's clock went back; reading channel {} ({id}) again",
                watch.name
            );
            channel.ahead = channel.mark;
            channel.mark = present.before(self.scope.catch_up).max(channel.floor);
            watch.newest = channel.mark;
            watch.read_at = None;
            return Ok(());
        }
        watch.newest = watch.newest.max(newest);
        watch.read_at = Some(shown);
        self.advance(channel, id);
        Ok(())
    }

    /// Goes once over all that lies ahead: what of it is answered already, where the bot came in, and
    /// where the walk begins.
    fn survey(
        &mut self,
        client: &Client,
        channel: &mut ChannelState,
        id: &ChannelId,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let window = self.scope.times.window;
        let from = channel.mark.before(window).max(channel.floor);
        let cutoff = self.cutoff(client);
        let mut first = None;
        let mut after = channel.anchor.clone();
        if !after.is_empty() && from >= cutoff {
            let known = paged(&mut PAGE.clone(), |count| {
                client.posts_after(id, &after, count)
            })?;
            if known.order.is_empty() {
                after = PostId::default();
            }
        } else {
            after = PostId::default();
        }
        if after.is_empty() {
            if from < cutoff {
                info!(
                    "channel {id}: posts from before the last {} s are not answered (catch_up_secs)",
                    self.scope.catch_up.as_secs()
                );
            }
            (after, first) = find_anchor(client, id, from.max(cutoff))?;
        }
        let start = after.clone();
        let mut own = BTreeMap::new();
        let mut size = PAGE;
        loop {
            let page = paged(&mut size, |count| client.posts_after(id, &after, count))?;
            collect_parts(&page.posts, &self.scope.bot, &mut own);
            for post in page
                .posts
                .iter()
                .filter(|post| is_entry(post, &self.scope.bot))
            {
                channel.floor = channel.floor.max(post.create_at);
            }
            match next_anchor(&page.posts) {
                Some(next) if page.order.len() >= size => after = next,
                _ => break,
            }
        }
        let answered = complete(own);
        if let Some(post) = first {
            self.take(client, channel, id, vec![post], &answered, wanted);
        }
        if let Some(watch) = self.watched.get_mut(id) {
            debug!("channel {} ({id}) is read page by page", watch.name);
            watch.behind = Some(Behind {
                after: start,
                answered,
            });
        }
        Ok(())
    }

    /// Takes in the next page of a walk, once nothing of the page before waits.
    fn take_page(
        &mut self,
        client: &Client,
        channel: &mut ChannelState,
        id: &ChannelId,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let Some(watch) = self.watched.get_mut(id) else {
            return Ok(());
        };
        let Some(behind) = watch.behind.take() else {
            return Ok(());
        };
        let mut size = PAGE;
        let page = paged(&mut size, |count| {
            client.posts_after(id, &behind.after, count)
        });
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                watch.behind = Some(behind);
                return Err(error);
            }
        };
        let newest = page
            .posts
            .iter()
            .map(|post| post.create_at)
            .max()
            .unwrap_or_default();
        let next = next_anchor(&page.posts);
        let more = page.order.len() >= size;
        self.take(client, channel, id, page.posts, &behind.answered, wanted);
        if let Some(watch) = self.watched.get_mut(id) {
            watch.newest = watch.newest.max(newest);
            // The end is read once more by time, for what became visible late.
            watch.read_at = None;
            if more && let Some(after) = next {
                watch.behind = Some(Behind {
                    after,
                    answered: behind.answered,
                });
            }
        }
        self.advance(channel, id);
        Ok(())
    }

    /// Sorts posts into handled and waiting: how many of them were not known.
    fn take(
        &mut self,
        client: &Client,
        channel: &mut ChannelState,
        id: &ChannelId,
        mut posts: Vec<Post>,
        answered: &BTreeSet<PostId>,
        wanted: &Wanted,
    ) -> usize {
        for post in posts.iter().filter(|post| is_entry(post, &self.scope.bot)) {
            if post.create_at > channel.floor {
                channel.floor = post.create_at;
                // What waited from before belongs to the time when the bot was not there.
                self.waiting.retain(|(created, _), waiting| {
                    waiting.post.channel_id != *id || *created > post.create_at
                });
            }
        }
        posts.sort_by(|a, b| (a.create_at, &a.id).cmp(&(b.create_at, &b.id)));
        let below = channel.mark.before(self.scope.times.window);
        let cutoff = self.cutoff(client);
        let now = self.now();
        let (mut found, mut too_old) = (0, 0);
        let Some(watch) = self.watched.get(id) else {
            return 0;
        };
        for post in posts {
            let key = (post.create_at, post.id.clone());
            if post.channel_id != *id
                || post.create_at <= channel.floor
                || post.create_at <= below
                || channel.handled.contains_key(&post.id)
                || self.waiting.contains_key(&key)
            {
                continue;
            }
            found += 1;
            let answer = !answered.contains(&post.id) && wanted(&post, watch.direct);
            if answer && post.create_at < cutoff {
                too_old += 1;
            } else if answer {
                self.waiting.insert(key, Waiting { post, since: now });
                continue;
            }
            channel.handled.insert(key.1, key.0);
        }
        if too_old > 0 {
            info!(
                "channel {} ({id}): {too_old} posts are older than {} s and not answered (catch_up_secs)",
                watch.name,
                self.scope.catch_up.as_secs()
            );
        }
        found
    }

    /// Moves the mark as far as nothing waits, and forgets the ids that it leaves behind.
    fn advance(&self, channel: &mut ChannelState, id: &ChannelId) {
        let Some(watch) = self.watched.get(id) else {
            return;
        };
        let oldest = self
            .waiting
            .values()
            .find(|waiting| waiting.post.channel_id == *id);
        let limit = oldest.map_or(ServerTime(u64::MAX), |waiting| waiting.post.create_at);
        channel.mark = channel.mark.max(watch.newest.min(limit));
        if oldest.is_none()
            && watch.behind.is_none()
            && let Some((last_post_at, total_msg_count)) = watch.read_at
        {
            channel.last_post_at = last_post_at;
            channel.total_msg_count = total_msg_count;
        }
        let below = channel.mark.before(self.scope.times.window);
        let mut anchor = ServerTime(0);
        channel.handled.retain(|post, created| {
            if *created > below {
                return true;
            }
            if *created > anchor {
                anchor = *created;
                channel.anchor.clone_from(post);
            }
            false
        });
    }

    /// Posts created before this are too old to answer.
    fn cutoff(&self, client: &Client) -> ServerTime {
        let present = client.date_ms().map(ServerTime);
        present.map_or(ServerTime(0), |present| present.before(self.scope.catch_up))
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

/// Whether the post says that the bot came into its channel: someone added it, or it joined the
/// channel or the team.
fn is_entry(post: &Post, bot: &UserId) -> bool {
    match post.kind.as_str() {
        "system_add_to_channel" | "system_add_to_team" => {
            post.props.added_user_id.as_ref() == Some(bot)
        }
        "system_join_channel" | "system_join_team" => post.user_id == *bot,
        _ => false,
    }
}

/// When the bot last came into a channel, if a post created after `until` says so.
fn find_entry(
    client: &Client,
    channel: &ChannelId,
    bot: &UserId,
    until: ServerTime,
) -> Result<Option<ServerTime>, ApiError> {
    let (mut size, mut offset) = (PAGE, 0);
    loop {
        let page = paged(&mut size, |count| {
            client.posts_page(channel, offset / count, count)
        })?;
        let entries = page
            .posts
            .iter()
            .filter(|post| is_entry(post, bot) && post.create_at > until);
        if let Some(entry) = entries.map(|post| post.create_at).max() {
            return Ok(Some(entry));
        }
        offset += page.order.len();
        let oldest = page.posts.iter().map(|post| post.create_at).min();
        if page.order.len() < size || oldest.is_none_or(|oldest| oldest <= until) {
            return Ok(None);
        }
    }
}

/// The newest post created at `from` or before, for a walk forward to begin after. Where all are
/// newer, the channel's first post, and that post itself, since the walk leaves it out.
fn find_anchor(
    client: &Client,
    channel: &ChannelId,
    from: ServerTime,
) -> Result<(PostId, Option<Post>), ApiError> {
    let (mut size, mut offset) = (PAGE, 0);
    let mut oldest: Option<Post> = None;
    loop {
        let page = paged(&mut size, |count| {
            client.posts_page(channel, offset / count, count)
        })?;
        offset += page.order.len();
        let full = page.order.len() >= size;
        let mut posts = page.posts;
        posts.sort_by_key(|post| post.create_at);
        if let Some(anchor) = posts.iter().rev().find(|post| post.create_at <= from) {
            return Ok((anchor.id.clone(), None));
        }
        oldest = posts.into_iter().next().or(oldest);
        if !full {
            let id = oldest
                .as_ref()
                .map(|post| post.id.clone())
                .unwrap_or_default();
            return Ok((id, oldest));
        }
    }
}

/// Where the page after this one begins: before the posts of the page's last millisecond, since the
/// page may have cut through them.
fn next_anchor(posts: &[Post]) -> Option<PostId> {
    let newest = posts.iter().max_by_key(|post| post.create_at)?;
    let before = posts
        .iter()
        .filter(|post| post.create_at < newest.create_at);
    Some(
        before
            .max_by_key(|post| post.create_at)
            .unwrap_or(newest)
            .id
            .clone(),
    )
}

/// Asks with ever smaller pages while the answer is over the bound.
fn paged(
    size: &mut usize,
    ask: impl Fn(usize) -> Result<PostList, ApiError>,
) -> Result<PostList, ApiError> {
    loop {
        match ask(*size) {
            Err(ApiError::TooLarge) if *size > 1 => *size /= 2,
            result => return result,
        }
    }
}

/// By question, which parts of how many the bot has posted.
type Parts = BTreeMap<PostId, (u32, BTreeSet<u32>)>;

fn collect_parts(posts: &[Post], bot: &UserId, parts: &mut Parts) {
    for post in posts
        .iter()
        .filter(|post| post.user_id == *bot && post.delete_at.0 == 0)
    {
        if let Some(prx) = &post.props.prx {
            let entry = parts.entry(prx.in_reply_to.clone()).or_default();
            entry.0 = prx.of;
            entry.1.insert(prx.part);
        }
    }
}

/// The questions whose every part is there.
fn complete(parts: Parts) -> BTreeSet<PostId> {
    let whole = |(of, there): &(u32, BTreeSet<u32>)| (0..*of).all(|part| there.contains(&part));
    parts
        .into_iter()
        .filter(|(_, parts)| whole(parts))
        .map(|(question, _)| question)
        .collect()
}

/// The questions that the bot's own posts among `posts` answer.
pub fn answered(posts: &[Post], bot: &UserId) -> BTreeSet<PostId> {
    let mut parts = Parts::new();
    collect_parts(posts, bot, &mut parts);
    complete(parts)
}

/// Which parts of the answer to `question` the server shows.
///
/// A busy channel's newest posts may lie far after the answer, so it is looked for from the question on.
pub fn parts_of(
    client: &Client,
    bot: &UserId,
    channel: &ChannelId,
    question: &PostId,
    created: ServerTime,
) -> Result<BTreeSet<u32>, ApiError> {
    let mut parts = Parts::new();
    match client.posts_since(channel, ServerTime(created.0.saturating_sub(1).max(1))) {
        Ok(list) if list.order.len() < SINCE_LIMIT => collect_parts(&list.posts, bot, &mut parts),
        Ok(_) | Err(ApiError::TooLarge) => {
            let (mut after, mut size) = (question.clone(), PAGE);
            loop {
                let page = paged(&mut size, |count| {
                    client.posts_after(channel, &after, count)
                })?;
                collect_parts(&page.posts, bot, &mut parts);
                match next_anchor(&page.posts) {
                    Some(next) if page.order.len() >= size => after = next,
                    _ => break,
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(parts
        .remove(question)
        .map(|(_, there)| there)
        .unwrap_or_default())
}
