//! Reading a channel: what changed since the mark, or, where that is more than one answer holds, page
//! by page from an anchor on.

use std::collections::{BTreeMap, BTreeSet};

use log::{debug, info};

use super::pages::{Walk, find_anchor, is_entry};
use super::record::{answered, collect_parts, complete};
use super::{Inbox, Waiting, Wanted};
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, PostList, ServerTime};
use crate::state::{ChannelState, State};

/// From this many ids on, an answer to `since` may have left posts out.
pub const SINCE_LIMIT: usize = 1000;

/// A channel with more to read than one answer holds is walked forward, page by page.
#[derive(Debug)]
pub struct Behind {
    walk: Walk,
    /// What the whole way ahead shows as answered.
    answered: BTreeSet<PostId>,
    /// What the server showed when the walk began.
    shown: (ServerTime, u64),
    /// How many posts on the way were not known.
    found: usize,
}

impl Inbox {
    pub(super) fn read_channel(
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
        let cap = cap(present, channel);
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
        let grown = watch
            .read_at
            .map(|(_, count)| shown.1.saturating_sub(count));
        let grew = grown.is_some_and(|grown| grown > watch.early);
        watch.early = grown.map_or(0, |grown| (found as u64).saturating_sub(grown));
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
        watch.live = true;
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
        let mut first = Vec::new();
        let mut after = channel.anchor.clone();
        if !after.is_empty() && from >= cutoff {
            let (known, _) = Walk::new(after.clone()).next(client, id)?;
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
        let start = Walk::new(after);
        let mut own = BTreeMap::new();
        let mut walk = start.clone();
        loop {
            let (page, more) = walk.next(client, id)?;
            collect_parts(&page.posts, &self.scope.bot, &mut own);
            for post in page
                .posts
                .iter()
                .filter(|post| is_entry(post, &self.scope.bot))
            {
                channel.floor = channel.floor.max(post.create_at);
            }
            if !more {
                break;
            }
        }
        let answered = complete(own);
        self.take(client, channel, id, first, &answered, wanted);
        if let Some(watch) = self.watched.get_mut(id) {
            debug!("channel {} ({id}) is read page by page", watch.name);
            watch.behind = Some(Behind {
                walk: start,
                answered,
                shown: watch.shown,
                found: 0,
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
        let Some(mut behind) = watch.behind.take() else {
            return Ok(());
        };
        let (page, more) = match behind.walk.next(client, id) {
            Ok(page) => page,
            Err(error) => {
                watch.behind = Some(behind);
                return Err(error);
            }
        };
        let cap = cap(client.date_ms().map(ServerTime), channel);
        let newest = page.posts.iter().map(|post| post.create_at);
        let newest = newest.filter(|time| *time <= cap).max().unwrap_or_default();
        behind.found += self.take(client, channel, id, page.posts, &behind.answered, wanted);
        if let Some(watch) = self.watched.get_mut(id) {
            watch.newest = watch.newest.max(newest);
            // What became visible late is found by another read; a way on which nothing was new is
            // a complete one.
            watch.read_at = None;
            if more {
                watch.behind = Some(behind);
                self.walked = true;
            } else if behind.found == 0 {
                watch.read_at = Some(behind.shown);
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
            if answer && !watch.live && post.create_at < cutoff {
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
    pub(super) fn advance(&self, channel: &mut ChannelState, id: &ChannelId) {
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

/// The mark may not pass this: after the server's clock went back, the present, until the present has
/// caught up with the times that were given out before.
fn cap(present: Option<ServerTime>, channel: &mut ChannelState) -> ServerTime {
    match present {
        Some(present) if present < channel.ahead => present,
        _ => {
            channel.ahead = ServerTime(0);
            ServerTime(u64::MAX)
        }
    }
}
