//! Reading a channel: what changed since the newest change that was read, less the window.

use std::time::{Duration, SystemTime};

use log::{info, warn};

use super::pages::last_entry;
use super::record::Record;
use super::{Inbox, Waiting};
use crate::answers::Answer;
use crate::cursor::{Cursor, Read};
use crate::filter::Verdict;
use crate::mattermost::client::ApiError;
use crate::mattermost::{ChannelId, Post, PostId, ServerTime};
use crate::sorted::Map;
use crate::state::State;
use crate::times;

/// From this many ids on, an answer to `since` may have left posts out.
pub(super) const SINCE_LIMIT: usize = 1000;

/// Says of a new post what is to become of it, in a direct channel or not; nothing: it needs nothing.
pub(crate) type Wanted<'a> = dyn Fn(&Post, bool) -> Option<Verdict> + 'a;

/// What a channel is read for.
pub(super) enum Errand {
    /// What changed.
    Changes,
    /// The next page of its walk.
    Walk,
    /// Its count, where it is connected: no list's ETag moves for a late post.
    Count,
    /// The next page of the search for such posts.
    Search,
}

/// The channel that is being read.
pub(super) struct Reading<'a> {
    pub id: &'a ChannelId,
    pub cursor: &'a mut Cursor,
    pub answers: &'a Map<PostId, Answer>,
    pub wanted: &'a Wanted<'a>,
}

impl Inbox {
    /// Reads one of the channels that show something new, by one request: whether there was one. What
    /// `wanted` refuses is handled at once; the rest waits. An error that may be this channel's alone
    /// has put it off already.
    pub(crate) fn read(&mut self, state: &mut State, wanted: &Wanted) -> Result<bool, ApiError> {
        let next = self.next_due(state).or_else(|| self.next_errand(state));
        let Some((id, errand)) = next else {
            return Ok(false);
        };
        match self.run(state, &id, errand, wanted) {
            Ok(()) => {
                if let Some(watch) = super::watch_mut(state, &id) {
                    (watch.pause, watch.closed_until) = (Duration::ZERO, None);
                }
            }
            Err(error) if error.is_closed() => self.close(state, &id, &error.to_string()),
            Err(error) => {
                if error.may_last() {
                    self.put_off(state, &id);
                }
                return Err(error);
            }
        }
        Ok(true)
    }

    /// The channel to read next for what a list shows of it.
    pub(super) fn next_due(&self, state: &State) -> Option<(ChannelId, Errand)> {
        let now = self.now();
        let mut channels = state.channels.iter();
        channels.find_map(|(id, cursor)| {
            let watch = cursor.watch.as_ref();
            watch.filter(|watch| !watch.is_closed(now))?;
            let errand = match self.behind.get(id) {
                Some(behind) => self.may_walk(behind).then_some(Errand::Walk),
                None => cursor.has_news().then_some(Errand::Changes),
            };
            errand.map(|errand| (id.clone(), errand))
        })
    }

    fn run(
        &mut self,
        state: &mut State,
        id: &ChannelId,
        errand: Errand,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        if let Errand::Count = errand {
            return self.ask_count(state, id);
        }
        let Some(cursor) = state.channels.get_mut(id) else {
            return Ok(());
        };
        let mut at = Reading {
            id,
            cursor,
            answers: &state.answers,
            wanted,
        };
        match errand {
            Errand::Walk => self.walk_on(&mut at),
            Errand::Search => self.search_on(&mut at),
            Errand::Changes | Errand::Count => self.read_changes(&mut at),
        }
    }

    fn read_changes(&mut self, at: &mut Reading) -> Result<(), ApiError> {
        let since = at.cursor.since(self.scope.times.window);
        match self.scope.client.posts_since(at.id, since) {
            Ok(list) if list.order.len() < SINCE_LIMIT => self.take_changes(at, list.posts),
            Ok(_) | Err(ApiError::TooLarge) => self.fall_behind(at),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes in everything that changed.
    fn take_changes(&mut self, at: &mut Reading, posts: Vec<Post>) {
        let (shown, present) = (at.cursor.progress.shown, self.present());
        let changes = posts.iter();
        let changes = changes.map(|post| post.update_at.max(post.create_at));
        let newest = at.cursor.newest(changes, present);
        let answered = Record::of(&posts, &self.scope.bot);
        let read = Read {
            shown,
            newest,
            found: self.take(at, posts, &answered),
            present,
        };
        let (window, catch_up) = (self.scope.times.window, self.scope.catch_up);
        if !at.cursor.complete(&read, window, catch_up) {
            let (name, id) = (at.cursor.name(), at.id);
            info!("the server's clock went back; reading channel {name} ({id}) again");
            let floor = at.cursor.floor;
            if present.is_some_and(|present| present < floor) {
                let when =
                    times::timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(floor.0));
                warn!(
                    "channel {name} ({id}) gets no answers until {when}: the bot came into it while the \
                     server's clock was ahead; without its state file it begins from now on"
                );
            }
            return;
        }
        let early = at.cursor.progress.early;
        self.compare_count(at.id, at.cursor, early);
        self.advance(at.id, at.cursor, at.answers);
    }

    /// Sorts posts into handled and waiting: how many of them were not known. `answered`: what the bot's
    /// own posts answer.
    pub(super) fn take(
        &mut self,
        at: &mut Reading,
        mut posts: Vec<Post>,
        answered: &Record,
    ) -> usize {
        self.note_strangers(at, &posts);
        self.enter(at, &posts);
        let (cutoff, window) = (self.cutoff(), self.scope.times.window);
        posts.sort_by(|a, b| (a.create_at, &a.id).cmp(&(b.create_at, &b.id)));
        let (mut found, mut too_old) = (0, 0);
        for post in posts {
            let is_known = !at.cursor.is_new(&post, window) || self.is_open_post(at, &post);
            if post.channel_id != *at.id || is_known {
                continue;
            }
            found += 1;
            let is_missed = !at.cursor.progress.live && post.create_at < cutoff;
            too_old += u32::from(self.sort_in(at, post, answered, is_missed) && is_missed);
        }
        if too_old > 0 {
            info!(
                "channel {} ({}): {too_old} posts are older than {} s and not answered (catch_up_secs)",
                at.cursor.name(),
                at.id,
                self.scope.catch_up.as_secs()
            );
        }
        found
    }

    /// Whether a post waits or is being answered.
    pub(super) fn is_open_post(&self, at: &Reading, post: &Post) -> bool {
        let key = (post.create_at, post.id.clone());
        at.answers.contains_key(&post.id) || self.waiting.contains_key(&key)
    }

    /// Has a new post wait, or takes it for handled, as which all `history` counts: whether it is for
    /// the bot.
    pub(super) fn sort_in(
        &mut self,
        at: &mut Reading,
        post: Post,
        answered: &Record,
        history: bool,
    ) -> bool {
        at.cursor.progress.balance.see(&post);
        let is_answered = answered.is_whole(&post.id);
        let direct = at.cursor.is_direct();
        let verdict = (!is_answered).then(|| (at.wanted)(&post, direct));
        match verdict.flatten() {
            Some(verdict) if !history => {
                let half = answered.half(&post.id);
                let shown = answered.growing(&post.id);
                let waiting = Waiting::new(post, self.now(), verdict);
                self.put_back(Waiting {
                    half,
                    shown,
                    ..waiting
                });
                true
            }
            verdict => {
                at.cursor.handled(&post.id, post.create_at);
                verdict.is_some()
            }
        }
    }

    /// Moves a channel's floor to where the bot last came in. What waited from before belongs to the
    /// time when it was not there.
    pub(super) fn enter(&mut self, at: &mut Reading, posts: &[Post]) {
        if let Some(entry) = last_entry(posts, &self.scope.bot)
            && at.cursor.enter(entry)
        {
            self.waiting.retain(|(created, _), waiting| {
                waiting.post.channel_id != *at.id || *created > entry
            });
        }
    }

    /// Takes note of the answers among a channel's posts whose questions are none of its own.
    pub(super) fn note_strangers(&mut self, at: &Reading, posts: &[Post]) {
        let waiting = &self.waiting;
        let knows = |id: &PostId| {
            at.answers.contains_key(id)
                || at.cursor.handled.contains_key(id)
                || posts.iter().any(|post| post.id == *id)
                || waiting.values().any(|waiting| waiting.post.id == *id)
        };
        self.strangers.note(posts, &self.scope.bot, knows);
    }

    /// The server's present, if its last answer told.
    pub(super) fn present(&self) -> Option<ServerTime> {
        self.scope.client.date_ms().map(ServerTime)
    }

    /// Posts created before this are too old to answer.
    pub(super) fn cutoff(&self) -> ServerTime {
        let present = self.present();
        present.map_or(ServerTime(0), |present| present.before(self.scope.catch_up))
    }
}
