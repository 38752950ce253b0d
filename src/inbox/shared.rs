//! Channels that other servers are connected to: their posts come late, with the times of their own
//! server, and only a channel's count tells of them. They are looked for on its pages, newest first.

use std::time::Duration;

use log::info;

use super::pages::Pages;
use super::read::{Errand, Reading};
use super::record::Record;
use super::{Inbox, Scope};
use crate::cursor::Cursor;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Channel, ChannelId, Post, PostId, ServerTime};
use crate::sorted::Map;
use crate::state::State;

/// Posts that are gone through for those that only the count tells of.
const DEPTH: usize = 2000;

/// What is to be done for the connected channels.
#[derive(Default)]
pub(super) struct Shared {
    /// When each channel's count is asked for.
    due: Map<ChannelId, Duration>,
    searches: Map<ChannelId, Search>,
}

/// A way through a channel's newest posts: one page per step.
struct Search {
    /// How many posts are looked for; nothing: it is the first look, and every post becomes known.
    missing: Option<u64>,
    /// The count when it began.
    count: u64,
    pages: Pages,
    found: Map<PostId, Post>,
    answered: Record,
}

impl Search {
    fn new(missing: Option<u64>, count: u64) -> Search {
        Search {
            missing,
            count,
            pages: Pages::new(),
            found: Map::new(),
            answered: Record::default(),
        }
    }

    /// Reads a page; `is_unknown`: whether a post has not been seen, `cutoff`: older ones are of no
    /// interest. Whether there is more to read.
    fn step(
        &mut self,
        scope: &Scope,
        channel: &ChannelId,
        cutoff: ServerTime,
        is_unknown: &dyn Fn(&Post) -> bool,
    ) -> Result<bool, ApiError> {
        let (posts, more) = self.pages.next(&scope.client, channel)?;
        self.answered.collect(&posts, &scope.bot);
        let oldest = posts.iter().map(|post| post.create_at).min();
        for post in posts {
            if post.channel_id == *channel && !post.remote_id.is_empty() && is_unknown(&post) {
                self.found.insert(post.id.clone(), post);
            }
        }
        let complete = (self.missing).is_some_and(|missing| self.found.len() as u64 >= missing);
        Ok(!complete
            && more
            && self.pages.offset < DEPTH
            && oldest.is_some_and(|oldest| oldest >= cutoff))
    }
}

impl Shared {
    pub(super) fn is_searching(&self, channel: &ChannelId) -> bool {
        self.searches.contains_key(channel)
    }

    /// Drops a channel that the bot is out of.
    pub(super) fn forget(&mut self, channel: &ChannelId) {
        self.due.remove(channel);
        self.searches.remove(channel);
    }
}

impl Inbox {
    /// Takes note of whether a channel is connected.
    pub(super) fn note_shared(&mut self, cursor: &mut Cursor, channel: &Channel) {
        let id = &channel.id;
        if !channel.shared {
            self.shared.forget(id);
            return;
        }
        if self.scope.channel.is_none() {
            let due = self.now() + self.scope.times.recheck;
            self.shared.due.or_insert(id.clone(), due);
        }
        if !cursor.has_news() {
            self.compare_count(id, cursor, 0);
        }
    }

    /// Compares a channel's count with what was seen, when all that changed was read. `early`: posts
    /// that were seen before they were counted.
    pub(super) fn compare_count(&mut self, id: &ChannelId, cursor: &mut Cursor, early: u64) {
        let is_shared = cursor.watch.as_ref().is_some_and(|watch| watch.shared);
        if !is_shared || self.shared.is_searching(id) {
            return;
        }
        let count = cursor.progress.shown.1;
        let balance = &mut cursor.progress.balance;
        let oldest = cursor.mark.before(self.scope.catch_up);
        let missing = match &mut cursor.remote {
            None => {
                (balance.base, balance.seen) = (count, early);
                None
            }
            Some(remote) => {
                remote.retain(|_, created| *created >= oldest);
                match balance.missing(count) {
                    0 => return,
                    missing => Some(missing),
                }
            }
        };
        let search = Search::new(missing, count);
        self.shared.searches.insert(id.clone(), search);
    }

    /// What is to be done next for a connected channel.
    pub(super) fn next_errand(&self, state: &State) -> Option<(ChannelId, Errand)> {
        let searches = self.shared.searches.keys().map(|id| (id, Errand::Search));
        let now = self.now();
        let due = self.shared.due.iter().filter(|(_, due)| *due <= now);
        let due = due.map(|(id, _)| (id, Errand::Count));
        let mut errands = searches.chain(due);
        let (id, errand) = errands.find(|(id, _)| self.is_open(state, id))?;
        Some((id.clone(), errand))
    }

    /// Asks for a channel's count.
    pub(super) fn ask_count(&mut self, state: &mut State, id: &ChannelId) -> Result<(), ApiError> {
        let next = self.now() + self.scope.times.recheck;
        self.shared.due.insert(id.clone(), next);
        let channel = self.scope.client.channel(id)?;
        self.admit(state, &channel)?;
        Ok(())
    }

    /// Goes on with a search by one request. After an error it is where it was.
    pub(super) fn search_on(&mut self, at: &mut Reading) -> Result<(), ApiError> {
        let Some(mut search) = self.shared.searches.remove(at.id) else {
            return Ok(());
        };
        let first = search.missing.is_none();
        let is_unknown = |post: &Post| {
            let handled = at.cursor.handled.contains_key(&post.id) && !first;
            !handled && !at.cursor.is_remote(&post.id) && !self.is_open_post(at, post)
        };
        let cutoff = self.cutoff();
        match search.step(&self.scope, at.id, cutoff, &is_unknown) {
            Ok(false) if first => {
                let known = search.found.into_values();
                let known = known.map(|post| (post.id, post.create_at));
                at.cursor.remote = Some(known.collect());
            }
            Ok(false) => self.end_search(at, search, cutoff),
            result => {
                self.shared.searches.insert(at.id.clone(), search);
                result?;
            }
        }
        self.advance(at.id, at.cursor, at.answers);
        Ok(())
    }

    /// Sorts what was found into handled and waiting.
    fn end_search(&mut self, at: &mut Reading, search: Search, cutoff: ServerTime) {
        for post in search.found.into_values() {
            let is_history = post.create_at <= at.cursor.floor || post.create_at < cutoff;
            self.sort_in(at, post, &search.answered, is_history);
        }
        let count = at.cursor.progress.shown.1;
        let missing = at.cursor.progress.balance.missing(count);
        if missing > 0 && count > search.count {
            let again = Search::new(Some(missing), count);
            self.shared.searches.insert(at.id.clone(), again);
        } else if missing > 0 {
            info!(
                "channel {} ({}): {missing} posts that came late from a connected server, or were \
                 deleted, cannot be found",
                at.cursor.name(),
                at.id
            );
            at.cursor.progress.balance.seen += missing;
        }
    }
}
