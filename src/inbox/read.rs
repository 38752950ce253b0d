//! Reading a channel: what changed since the newest change that was read, less the window.

use std::time::Duration;

use log::info;

use super::pages::last_entry;
use super::record::{Record, answered};
use super::{Inbox, Waiting, Wanted, Wish};
use crate::cursor::Read;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostList, ServerTime};
use crate::state::State;

/// From this many ids on, an answer to `since` may have left posts out.
pub(super) const SINCE_LIMIT: usize = 1000;

/// Posts to be sorted into handled and waiting.
pub(super) struct Take<'a> {
    pub posts: Vec<Post>,
    /// The questions that the bot's own posts answer.
    pub answered: &'a Record,
    pub wanted: &'a Wanted<'a>,
}

impl Inbox {
    /// Reads one of the channels that show something new, by one request: the channel. What `wanted`
    /// refuses is handled at once; the rest waits. An error that may be this channel's alone has put
    /// it off already.
    pub(crate) fn read(
        &mut self,
        client: &Client,
        state: &mut State,
        wanted: &Wanted,
    ) -> Result<Option<ChannelId>, ApiError> {
        let (channel, result) = if let Some(channel) = self.next_due(state) {
            let result = if self.behind.contains_key(&channel) {
                self.walk_on(client, state, &channel, wanted)
            } else {
                self.read_changes(client, state, &channel, wanted)
            };
            (channel, result)
        } else if let Some((channel, errand)) = self.next_errand(state) {
            let result = self.run_errand(client, state, (&channel, errand), wanted);
            (channel, result)
        } else {
            return Ok(None);
        };
        match result {
            Ok(()) => {
                if let Some(watch) = super::watch_mut(state, &channel) {
                    (watch.pause, watch.closed_until) = (Duration::ZERO, None);
                }
            }
            Err(error) if error.is_closed() => self.close(state, &channel, &error.to_string()),
            Err(error) => {
                if error.may_last() {
                    self.put_off(state, &channel);
                }
                return Err(error);
            }
        }
        Ok(Some(channel))
    }

    /// The channel to read next.
    pub(super) fn next_due(&self, state: &State) -> Option<ChannelId> {
        let now = self.now();
        let is_due = |id: &ChannelId| {
            let Some(cursor) = state.channels.get(id) else {
                return false;
            };
            let open = cursor
                .watch
                .as_ref()
                .is_some_and(|watch| !watch.is_closed(now));
            open && match self.behind.get(id) {
                Some(behind) => self.may_walk(behind),
                None => cursor.has_news(),
            }
        };
        let mut channels = state.channels.keys();
        channels.find(|id| is_due(id)).cloned()
    }

    fn read_changes(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let Some(cursor) = state.channels.get(id) else {
            return Ok(());
        };
        match client.posts_since(id, cursor.since(self.scope.times.window)) {
            Ok(list) if list.order.len() < SINCE_LIMIT => {
                self.take_changes(client, state, id, list, wanted);
                Ok(())
            }
            Ok(_) | Err(ApiError::TooLarge) => {
                self.fall_behind(client, state, id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes in everything that changed.
    fn take_changes(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        list: PostList,
        wanted: &Wanted,
    ) {
        let present = client.date_ms().map(ServerTime);
        let Some(cursor) = state.channels.get_mut(id) else {
            return;
        };
        let shown = cursor.progress.shown;
        let changes = list.posts.iter();
        let changes = changes.map(|post| post.update_at.max(post.create_at));
        let newest = cursor.newest(changes, present);
        let taken = Take {
            answered: &answered(&list.posts, &self.scope.bot),
            posts: list.posts,
            wanted,
        };
        let read = Read {
            shown,
            newest,
            found: self.take(client, state, id, taken),
            present,
        };
        let window = self.scope.times.window;
        if let Some(cursor) = state.channels.get_mut(id)
            && !cursor.complete(&read, window, self.scope.catch_up)
        {
            let name = self.name(state, id);
            info!("the server's clock went back; reading channel {name} ({id}) again");
            return;
        }
        let early = state.channels.get(id).map(|cursor| cursor.progress.early);
        self.compare_count(state, id, early.unwrap_or_default());
        self.advance(state, id);
    }

    /// Sorts posts into handled and waiting: how many of them were not known.
    pub(super) fn take(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        taken: Take,
    ) -> usize {
        let cutoff = self.cutoff(client);
        self.note_strangers(state, id, &taken.posts);
        self.enter(state, id, &taken.posts);
        self.note_growing(state, id, &taken.posts);
        let (now, window) = (self.now(), self.scope.times.window);
        let Some(cursor) = state.channels.get_mut(id) else {
            return 0;
        };
        let mut posts = taken.posts;
        let direct = cursor.watch.as_ref().is_some_and(|watch| watch.direct);
        posts.sort_by(|a, b| (a.create_at, &a.id).cmp(&(b.create_at, &b.id)));
        let (mut found, mut too_old) = (0, 0);
        for post in posts {
            let key = (post.create_at, post.id.clone());
            if post.channel_id != *id
                || !cursor.is_new(&post, window)
                || self.waiting.contains_key(&key)
                || state.answers.contains_key(&post.id)
            {
                continue;
            }
            found += 1;
            cursor.progress.balance.see(&post);
            let wish = if taken.answered.whole.contains(&post.id) {
                Wish::Drop
            } else {
                (taken.wanted)(&post, direct)
            };
            if wish != Wish::Drop && !cursor.progress.live && post.create_at < cutoff {
                too_old += 1;
            } else if wish != Wish::Drop {
                let half = taken.answered.half.get(&post.id).copied();
                let waiting = Waiting::wished(post, now, wish);
                self.waiting.insert(key, Waiting { half, ..waiting });
                continue;
            }
            cursor.handled(&key.1, key.0);
        }
        if too_old > 0 {
            let name = self.name(state, id);
            info!(
                "channel {name} ({id}): {too_old} posts are older than {} s and not answered (catch_up_secs)",
                self.scope.catch_up.as_secs()
            );
        }
        found
    }

    /// Moves a channel's floor to where the bot last came in. What waited from before belongs to the
    /// time when it was not there.
    pub(super) fn enter(&mut self, state: &mut State, id: &ChannelId, posts: &[Post]) {
        if let Some(entry) = last_entry(posts, &self.scope.bot)
            && let Some(cursor) = state.channels.get_mut(id)
            && cursor.enter(entry)
        {
            self.waiting
                .retain(|(created, _), waiting| waiting.post.channel_id != *id || *created > entry);
        }
    }

    /// Remembers the posts in which answers that this state knows nothing of were growing.
    fn note_growing(&mut self, state: &State, id: &ChannelId, posts: &[Post]) {
        let Some(cursor) = state.channels.get(id) else {
            return;
        };
        let bot = &self.scope.bot;
        let own = posts.iter().filter(|post| post.user_id == *bot);
        for post in own.filter(|post| post.delete_at == ServerTime(0)) {
            if let Some(question) = &post.props.growing_for
                && !cursor.handled.contains_key(question)
                && !state.answers.contains_key(question)
            {
                self.growing.insert(question.clone(), post.id.clone());
            }
        }
    }

    /// Posts created before this are too old to answer.
    pub(super) fn cutoff(&self, client: &Client) -> ServerTime {
        let present = client.date_ms().map(ServerTime);
        present.map_or(ServerTime(0), |present| present.before(self.scope.catch_up))
    }
}
