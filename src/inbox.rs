//! Which posts are new: where to look, how far each channel was read, and what waits to be answered.
//!
//! Counters say when to look, identity says what is new, the server says what is answered.

mod admit;
mod lists;
mod look;
mod pages;
mod read;
mod record;
mod shared;
mod walk;

use std::rc::Rc;
use std::time::Duration;

use log::{info, warn};

use crate::answers::{Answer, Patience};
use crate::copies::{Check, Strangers};
use crate::cursor::Cursor;
use crate::cursor::watch::Watch;
use crate::filter::Verdict;
use crate::mattermost::client::Client;
use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::sorted::Map;
use crate::state::State;
use crate::times::{Calendar, Times};
use lists::Lists;
pub(crate) use record::Record;
use shared::Shared;
use walk::Behind;

/// Waiting posts above which no further channel is read.
const WAITING: usize = 1000;

/// What the inbox is told once.
pub(crate) struct Scope {
    pub client: Rc<Client>,
    /// The one channel to read; `None`: every channel the bot is in.
    pub channel: Option<ChannelId>,
    pub bot: UserId,
    /// Missed posts that are older than this are not answered.
    pub catch_up: Duration,
    pub times: Times,
}

/// A post that waits for its answer.
pub(crate) struct Waiting {
    pub post: Post,
    /// When it was read, by the clock of `Times`.
    pub since: Duration,
    /// What the filter says of it. Whether a thread is followed is found out later.
    pub verdict: Verdict,
    /// How many parts of an answer to it are there, from a run that this state knows nothing of.
    pub half: Option<u32>,
    /// The post in which an answer to it was growing in such a run.
    pub shown: Option<PostId>,
    /// How requests about it failed, and until when it is left alone for that.
    pub patience: Patience,
    pub due: Duration,
    /// Whether it is a copy whose answer came along.
    pub check: Check,
}

impl Waiting {
    pub(crate) fn new(post: Post, since: Duration, verdict: Verdict) -> Waiting {
        Waiting {
            post,
            since,
            verdict,
            half: None,
            shown: None,
            patience: Patience::default(),
            due: Duration::ZERO,
            check: Check::default(),
        }
    }
}

/// The posts that wait, oldest first.
type Queue = Map<(ServerTime, PostId), Waiting>;

/// The lists of channels, the walks through backlogs, and the posts that wait. The channels' own
/// records are in the state.
pub(crate) struct Inbox {
    scope: Scope,
    lists: Lists,
    /// When the bot was last in touch with the server.
    looked_at: Duration,
    calendar: Calendar,
    /// Whether looking changed the state.
    changed: bool,
    /// The newest moment that a list showed since all of them were seen together.
    listing: ServerTime,
    /// No channel is due before a list says so: an idle poll need not go through them all.
    quiet: bool,
    behind: Map<ChannelId, Behind>,
    waiting: Queue,
    strangers: Strangers,
    shared: Shared,
}

impl Inbox {
    pub(crate) fn new(scope: Scope) -> Inbox {
        Inbox {
            lists: Lists::default(),
            looked_at: Duration::ZERO,
            calendar: Calendar::default(),
            changed: false,
            listing: ServerTime(0),
            quiet: false,
            behind: Map::new(),
            waiting: Map::new(),
            strangers: Strangers::default(),
            shared: Shared::default(),
            scope,
        }
    }

    /// The posts that wait, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    /// When the bot was last in touch with the server.
    pub(crate) fn looked_at(&self) -> Duration {
        self.looked_at
    }

    /// Answers of the bot's to posts that no read has shown.
    pub(crate) fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// Whether the server shows something in a channel that the next steps will read.
    pub(crate) fn has_news(&self, state: &State, channel: &ChannelId) -> bool {
        let cursor = state.channels.get(channel);
        !self.quiet
            && self.waiting.len() < WAITING
            && !self.behind.contains_key(channel)
            && self.is_open(state, channel)
            && cursor.is_some_and(Cursor::has_news)
    }

    /// A post that waits, to be changed.
    pub(crate) fn waiting_mut(&mut self, post: &Post) -> Option<&mut Waiting> {
        self.waiting.get_mut(&(post.create_at, post.id.clone()))
    }

    /// Takes a post out of the queue: whoever calls has it from now on.
    pub(crate) fn take_out(&mut self, post: &PostId) -> Option<Waiting> {
        let key = self.waiting.keys().find(|(_, id)| id == post)?.clone();
        self.waiting.remove(&key)
    }

    /// Puts a post back that cannot be answered yet.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        let key = (waiting.post.create_at, waiting.post.id.clone());
        self.waiting.insert(key, waiting);
    }

    /// Notes that `post` needs nothing more.
    pub(crate) fn done(
        &mut self,
        state: &mut State,
        post: &PostId,
        channel: &ChannelId,
        created: ServerTime,
    ) {
        self.waiting.remove(&(created, post.clone()));
        if let Some(cursor) = state.channels.get_mut(channel) {
            cursor.handled(post, created);
            self.advance(channel, cursor, &state.answers);
        }
    }

    /// Leaves a channel alone for a while: the server refused to let the bot read or write there. That
    /// is said once, until it is open again.
    pub(crate) fn close(&mut self, state: &mut State, channel: &ChannelId, why: &str) {
        let recheck = self.scope.times.recheck;
        self.close_for(state, channel, why, recheck);
    }

    fn close_for(&mut self, state: &mut State, id: &ChannelId, why: &str, pause: Duration) {
        self.quiet = false;
        self.misses(state, id);
        let until = self.now() + pause;
        let shown = watch_mut(state, id);
        // No list may have shown the one channel of the configuration yet.
        let alone = self.scope.channel.is_some();
        let Some(watch) =
            shown.or_else(|| alone.then(|| self.lists.refused.get_or_insert_default()))
        else {
            return;
        };
        watch.closed_until = Some(until);
        if !std::mem::replace(&mut watch.closed_told, true) {
            let name = match watch.name.as_str() {
                "" => id.to_string(),
                name => format!("{name} ({id})"),
            };
            let again = self.scope.times.recheck.as_secs();
            warn!("channel {name} is closed to the bot: {why}; looking again every {again} s");
        }
    }

    /// Leaves a channel alone for a growing while, as a request for it failed that may fail for ever.
    pub(crate) fn put_off(&mut self, state: &mut State, channel: &ChannelId) {
        self.quiet = false;
        self.misses(state, channel);
        let (now, times) = (self.now(), &self.scope.times);
        if let Some(watch) = watch_mut(state, channel) {
            watch.pause = (watch.pause * 2).clamp(times.poll, times.backoff_max);
            watch.closed_until = Some(now + watch.pause);
        }
    }

    /// Notes an absence from a channel: what is written there meanwhile is missed.
    fn misses(&self, state: &mut State, channel: &ChannelId) {
        if let Some(cursor) = state.channels.get_mut(channel) {
            cursor.progress.live = false;
        }
    }

    /// Notes that the bot may write in a channel.
    pub(crate) fn opened(&mut self, state: &mut State, channel: &ChannelId) {
        if let Some(watch) = watch_mut(state, channel)
            && std::mem::take(&mut watch.closed_told)
        {
            info!("channel {} ({channel}) is open again", watch.name);
        }
    }

    /// When each channel that is closed or put off is looked at again.
    pub(crate) fn reopenings(&self, state: &State) -> impl Iterator<Item = Duration> {
        let cursors = state.channels.values();
        cursors.filter_map(|cursor| cursor.watch.as_ref()?.closed_until)
    }

    /// Whether a channel is shown to the bot and neither closed nor put off.
    pub(crate) fn is_open(&self, state: &State, channel: &ChannelId) -> bool {
        let now = self.now();
        watch(state, channel).is_some_and(|watch| !watch.is_closed(now))
    }

    /// Whether there is more to read without the server showing anything new.
    pub(crate) fn is_due(&mut self, state: &State) -> bool {
        if self.waiting.len() >= WAITING {
            return false;
        }
        if self.next_errand(state).is_some() {
            return true;
        }
        if self.quiet {
            return false;
        }
        if self.next_due(state).is_some() {
            return true;
        }
        let mut watched = state
            .channels
            .values()
            .filter_map(|cursor| cursor.watch.as_ref());
        let now = self.now();
        self.quiet = self.behind.is_empty() && watched.all(|watch| !watch.is_closed(now));
        false
    }

    /// Whether the channel is a direct one.
    pub(crate) fn is_direct(&self, state: &State, channel: &ChannelId) -> bool {
        let cursor = state.channels.get(channel);
        cursor.is_some_and(Cursor::is_direct)
    }

    /// The channel's name, as in links; empty if it is not watched.
    pub(crate) fn name<'a>(&self, state: &'a State, channel: &ChannelId) -> &'a str {
        state.channels.get(channel).map_or("", Cursor::name)
    }

    /// Moves a channel's mark as far as nothing in it waits or is being answered.
    fn advance(&self, id: &ChannelId, cursor: &mut Cursor, answers: &Map<PostId, Answer>) {
        let waiting = self.waiting.values().map(|waiting| &waiting.post);
        let waiting = waiting.filter(|post| post.channel_id == *id);
        let answers = answers.values().filter(|answer| answer.channel == *id);
        let answered = answers.map(|answer| answer.create_at);
        let oldest = waiting.map(|post| post.create_at).chain(answered).min();
        let whole = !self.behind.contains_key(id) && !self.shared.is_searching(id);
        if cursor.watch.is_some() {
            cursor.advance(oldest, whole, self.scope.times.window);
        }
    }

    fn now(&self) -> Duration {
        self.scope.times.clock.now()
    }

    /// Notes an absence: what was written meanwhile was missed.
    fn notice_absence(&mut self, state: &mut State) {
        let now = self.now();
        let recheck = self.scope.times.recheck;
        let slept = self.calendar.ran_ahead(&*self.scope.times.clock) > recheck;
        if slept || now.saturating_sub(self.looked_at) > recheck {
            for cursor in state.channels.values_mut() {
                cursor.progress.live = false;
            }
        }
        if slept {
            info!("the machine slept, or its calendar was set: what was missed is read now");
            self.lists.forget_etags();
        }
    }
}

fn watch<'a>(state: &'a State, channel: &ChannelId) -> Option<&'a Watch> {
    state.channels.get(channel)?.watch.as_ref()
}

fn watch_mut<'a>(state: &'a mut State, channel: &ChannelId) -> Option<&'a mut Watch> {
    state.channels.get_mut(channel)?.watch.as_mut()
}
