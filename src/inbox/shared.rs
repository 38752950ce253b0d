//! Channels that other servers are connected to: their posts come late, with the times of their own
//! server, and only a channel's count tells of them. They are looked for on its pages, newest first.

use std::time::Duration;

use log::info;

use super::record::{Parts, collect_parts, sorted_out};
use super::{Inbox, Waiting, Wanted, Wish};
use crate::mattermost::client::{ApiError, Client, paged};
use crate::mattermost::{Channel, ChannelId, Post, PostId, ServerTime};
use crate::sorted::Map;
use crate::state::State;

const PAGE: usize = 200;
/// Posts that are gone through for those that only the count tells of.
const DEPTH: usize = 10 * PAGE;

/// What is to be done for the connected channels.
#[derive(Default)]
pub(crate) struct Shared {
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
    size: usize,
    offset: usize,
    found: Map<PostId, Post>,
    own: Parts,
}

impl Search {
    fn new(missing: Option<u64>, count: u64) -> Search {
        Search {
            missing,
            count,
            size: PAGE,
            offset: 0,
            found: Map::new(),
            own: Parts::new(),
        }
    }

    /// Reads a page; `is_unknown`: whether a post has not been seen, `cutoff`: older ones are of no
    /// interest. Whether there is more to read.
    fn step(
        &mut self,
        client: &Client,
        (channel, bot): (&ChannelId, &crate::mattermost::UserId),
        cutoff: ServerTime,
        is_unknown: &dyn Fn(&Post) -> bool,
    ) -> Result<bool, ApiError> {
        let offset = self.offset;
        let page = paged(&mut self.size, |count| {
            client.posts_page(channel, offset / count, count)
        })?;
        self.offset += page.order.len();
        collect_parts(&page.posts, bot, &mut self.own);
        let oldest = page.posts.iter().map(|post| post.create_at).min();
        for post in page.posts {
            if post.channel_id == *channel && !post.remote_id.is_empty() && is_unknown(&post) {
                self.found.insert(post.id.clone(), post);
            }
        }
        let complete = (self.missing).is_some_and(|missing| self.found.len() as u64 >= missing);
        Ok(!complete
            && page.order.len() >= self.size
            && self.offset < DEPTH
            && oldest.is_some_and(|oldest| oldest >= cutoff))
    }
}

/// What is to be done for one channel.
pub(crate) enum Errand {
    /// Ask for its count: no list's ETag moves for a late post.
    Count,
    Search,
}

impl Shared {
    pub(crate) fn is_searching(&self, channel: &ChannelId) -> bool {
        self.searches.contains_key(channel)
    }

    /// Drops a channel that the bot is out of.
    pub(crate) fn forget(&mut self, channel: &ChannelId) {
        self.due.remove(channel);
        self.searches.remove(channel);
    }
}

impl Inbox {
    /// Takes note of whether a channel is connected.
    pub(super) fn note_shared(&mut self, state: &mut State, channel: &Channel) {
        let id = &channel.id;
        if !channel.shared {
            self.shared.forget(id);
            return;
        }
        if self.scope.channel.is_none() {
            let due = self.now() + self.scope.times.recheck;
            self.shared.due.or_insert(id.clone(), due);
        }
        if let Some(cursor) = state.channels.get(id)
            && !cursor.has_news()
        {
            self.compare_count(state, id, 0);
        }
    }

    /// Compares a channel's count with what was seen, when all that changed was read. `early`: posts
    /// that were seen before they were counted.
    pub(super) fn compare_count(&mut self, state: &mut State, id: &ChannelId, early: u64) {
        let Some(cursor) = state.channels.get_mut(id) else {
            return;
        };
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
        let searches = self.shared.searches.keys().map(|id| (id, true));
        let now = self.now();
        let due = self.shared.due.iter().filter(|(_, due)| *due <= now);
        let due = due.map(|(id, _)| (id, false));
        let mut errands = searches.chain(due);
        let (id, searches) = errands.find(|(id, _)| self.is_open(state, id))?;
        let errand = if searches {
            Errand::Search
        } else {
            Errand::Count
        };
        Some((id.clone(), errand))
    }

    /// Runs it, by one request.
    pub(super) fn run_errand(
        &mut self,
        client: &Client,
        state: &mut State,
        (id, errand): (&ChannelId, Errand),
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        match errand {
            Errand::Count => {
                let next = self.now() + self.scope.times.recheck;
                self.shared.due.insert(id.clone(), next);
                let channel = client.channel(id)?;
                self.admit(client, state, &channel)?;
                Ok(())
            }
            Errand::Search => self.search_on(client, state, id, wanted),
        }
    }

    fn search_on(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let Some(mut search) = self.shared.searches.remove(id) else {
            return Ok(());
        };
        let Some(cursor) = state.channels.get(id) else {
            return Ok(());
        };
        let first = search.missing.is_none();
        let is_unknown = |post: &Post| {
            let handled = cursor.handled.contains_key(&post.id) && !first;
            !handled && !cursor.is_remote(&post.id) && !self.is_open_post(state, post)
        };
        let cutoff = self.cutoff(client);
        match search.step(client, (id, &self.scope.bot), cutoff, &is_unknown) {
            Ok(false) if first => {
                if let Some(cursor) = state.channels.get_mut(id) {
                    let known = search.found.into_values();
                    let known = known.map(|post| (post.id, post.create_at));
                    cursor.remote = Some(known.collect());
                }
            }
            Ok(false) => self.end_search(state, id, search, cutoff, wanted),
            Ok(true) => {
                self.shared.searches.insert(id.clone(), search);
            }
            Err(error) => {
                self.shared.searches.insert(id.clone(), search);
                return Err(error);
            }
        }
        self.advance(state, id);
        Ok(())
    }

    /// Whether a post waits or is being answered.
    fn is_open_post(&self, state: &State, post: &Post) -> bool {
        state.answers.contains_key(&post.id)
            || self
                .waiting
                .contains_key(&(post.create_at, post.id.clone()))
    }

    /// Sorts what was found into handled and waiting.
    fn end_search(
        &mut self,
        state: &mut State,
        id: &ChannelId,
        search: Search,
        cutoff: ServerTime,
        wanted: &Wanted,
    ) {
        let (now, name) = (self.now(), self.name(state, id).to_owned());
        let Some(cursor) = state.channels.get_mut(id) else {
            return;
        };
        let direct = cursor.watch.as_ref().is_some_and(|watch| watch.direct);
        let answered = sorted_out(search.own);
        for post in search.found.into_values() {
            cursor.progress.balance.see(&post);
            let is_history = post.create_at <= cursor.floor || post.create_at < cutoff;
            let wish = if is_history || answered.whole.contains(&post.id) {
                Wish::Drop
            } else {
                wanted(&post, direct)
            };
            if wish == Wish::Drop {
                cursor.handled(&post.id, post.create_at);
                continue;
            }
            let key = (post.create_at, post.id.clone());
            let half = answered.half.get(&post.id).copied();
            let waiting = Waiting::wished(post, now, wish);
            self.waiting.insert(key, Waiting { half, ..waiting });
        }
        let count = cursor.progress.shown.1;
        let balance = &mut cursor.progress.balance;
        let missing = balance.missing(count);
        if missing > 0 && count > search.count {
            let again = Search::new(Some(missing), count);
            self.shared.searches.insert(id.clone(), again);
        } else if missing > 0 {
            info!(
                "channel {name} ({id}): {missing} posts that came late from a connected server, or were \
                 deleted, cannot be found"
            );
            balance.seen += missing;
        }
    }
}
