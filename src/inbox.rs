//! Which posts are new: where to look, how far each channel was read, and what waits to be answered.
//!
//! Counters say when to look, identity says what is new, the server says what is answered.

mod look;
mod pages;
mod read;
mod record;
pub(crate) mod shared;
mod walk;

use std::time::Duration;

use log::{info, warn};

use crate::answers::Patience;
use crate::copies::{Check, Strangers};
use crate::cursor::Cursor;
use crate::cursor::watch::Watch;
use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::sorted::Map;
use crate::state::State;
use crate::times::{Calendar, Times};
use crate::words::Word;
use look::Lists;
pub(crate) use record::{answered, growing_post, parts_of, record_since};
use shared::Shared;
use walk::Behind;

/// Waiting posts above which no further channel is read.
const WAITING: usize = 1000;

/// What the inbox is told once.
pub(crate) struct Scope {
    /// The one channel to read; `None`: every channel the bot is in.
    pub channel: Option<ChannelId>,
    pub bot: UserId,
    /// Missed posts that are older than this are not answered.
    pub catch_up: Duration,
    pub times: Times,
}

/// What the filter says of a new post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Drop,
    Answer,
    /// It is answered if the bot wrote in its thread before: that is found out later.
    IfFollowed,
    /// It is a command.
    Word(Word),
}

/// Says of a new post what is to become of it. The flag: whether its channel is a direct one.
pub(crate) type Wanted<'a> = dyn Fn(&Post, bool) -> Wish + 'a;

/// A post that waits for its answer.
pub(crate) struct Waiting {
    pub post: Post,
    /// By the clock of `Times`.
    pub since: Duration,
    /// Whether it is sure that it is to be answered.
    pub decided: bool,
    /// The command that it is: it waits for no turn.
    pub word: Option<Word>,
    /// How many parts of an answer to it are there, from a run that this state knows nothing of.
    pub half: Option<u32>,
    /// How requests about it failed, and until when it is left alone for that.
    pub patience: Patience,
    pub due: Duration,
    /// Whether it is a copy whose answer came along.
    pub check: Check,
}

impl Waiting {
    /// A post that is sure to be answered.
    pub(crate) fn decided(post: Post, since: Duration) -> Waiting {
        Waiting {
            post,
            since,
            decided: true,
            word: None,
            half: None,
            patience: Patience::default(),
            due: Duration::ZERO,
            check: Check::default(),
        }
    }

    /// A post that was read.
    fn wished(post: Post, since: Duration, wish: Wish) -> Waiting {
        match wish {
            Wish::IfFollowed => Waiting::undecided(post, since),
            Wish::Word(word) => Waiting {
                word: Some(word),
                ..Waiting::decided(post, since)
            },
            Wish::Answer | Wish::Drop => Waiting::decided(post, since),
        }
    }

    /// A post that is answered if the bot wrote in its thread before.
    pub(crate) fn undecided(post: Post, since: Duration) -> Waiting {
        Waiting {
            decided: false,
            ..Waiting::decided(post, since)
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
    /// By question, the post in which an answer to it was growing in a run that this state knows
    /// nothing of.
    growing: Map<PostId, PostId>,
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
            growing: Map::new(),
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

    /// Takes note of the answers among a channel's posts whose questions are none of its own.
    fn note_strangers(&mut self, state: &State, channel: &ChannelId, posts: &[Post]) {
        let waiting = &self.waiting;
        let handled = state.channels.get(channel).map(|cursor| &cursor.handled);
        let knows = |id: &PostId| {
            state.answers.contains_key(id)
                || handled.is_some_and(|handled| handled.contains_key(id))
                || posts.iter().any(|post| post.id == *id)
                || waiting.values().any(|waiting| waiting.post.id == *id)
        };
        self.strangers.note(posts, &self.scope.bot, knows);
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
    pub(crate) fn waiting_mut(
        &mut self,
        created: ServerTime,
        post: &PostId,
    ) -> Option<&mut Waiting> {
        self.waiting.get_mut(&(created, post.clone()))
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

    /// The post in which an answer to `question` was growing in a run that this state knows nothing of.
    pub(crate) fn take_growing(&mut self, question: &PostId) -> Option<PostId> {
        self.growing.remove(question)
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
        self.growing.remove(post);
        if let Some(cursor) = state.channels.get_mut(channel) {
            cursor.handled(post, created);
        }
        self.advance(state, channel);
    }

    /// Leaves a channel alone for a while: the server refused to let the bot read or write there. That
    /// is said once, until it is open again.
    pub(crate) fn close(&mut self, state: &mut State, channel: &ChannelId, why: &str) {
        let recheck = self.scope.times.recheck;
        self.close_for(state, channel, why, recheck);
    }

    fn close_for(&mut self, state: &mut State, id: &ChannelId, why: &str, pause: Duration) {
        self.quiet = false;
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
        let (now, times) = (self.now(), &self.scope.times);
        if let Some(watch) = watch_mut(state, channel) {
            watch.pause = (watch.pause * 2).clamp(times.poll, times.backoff_max);
            watch.closed_until = Some(now + watch.pause);
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
        watch(state, channel).is_some_and(|watch| watch.direct)
    }

    /// The channel's name, as in links; empty if it is not watched.
    pub(crate) fn name<'a>(&self, state: &'a State, channel: &ChannelId) -> &'a str {
        watch(state, channel).map_or("", |watch| &watch.name)
    }

    /// Moves a channel's mark as far as nothing in it waits or is being answered.
    pub(crate) fn advance(&self, state: &mut State, channel: &ChannelId) {
        let mut waiting = self
            .waiting
            .values()
            .filter(|it| it.post.channel_id == *channel);
        let waiting = waiting.next().map(|waiting| waiting.post.create_at);
        let answers = state.answers.values().filter(|it| it.channel == *channel);
        let answered = answers.map(|answer| answer.create_at).min();
        let oldest = waiting.into_iter().chain(answered).min();
        let whole = !self.behind.contains_key(channel) && !self.shared.is_searching(channel);
        if let Some(cursor) = state.channels.get_mut(channel)
            && cursor.watch.is_some()
        {
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
