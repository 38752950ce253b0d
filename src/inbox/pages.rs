//! Pages of a channel's posts: where a walk begins, and how the bot came in.

use crate::mattermost::client::{ApiError, Client, paged};
use crate::mattermost::{ChannelId, Post, PostId, PostList, ServerTime, UserId};
use crate::sorted::Set;

/// The largest page that the server gives.
const PAGE: usize = 200;

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

/// The last time that the bot came into its channel, of those that `posts` tell of.
pub(super) fn last_entry(posts: &[Post], bot: &UserId) -> Option<ServerTime> {
    let entries = posts.iter().filter(|post| is_entry(post, bot));
    entries.map(|post| post.create_at).max()
}

/// When the bot last came into a channel, if a post created after `until` says so.
pub(super) fn find_entry(
    client: &Client,
    channel: &ChannelId,
    bot: &UserId,
    until: ServerTime,
) -> Result<Option<ServerTime>, ApiError> {
    let mut pages = Pages::new();
    loop {
        let (posts, more) = pages.next(client, channel)?;
        // An older one tells of an earlier stay.
        if let Some(entry) = last_entry(&posts, bot).filter(|entry| *entry > until) {
            return Ok(Some(entry));
        }
        let oldest = posts.iter().map(|post| post.create_at).min();
        if !more || oldest.is_none_or(|oldest| oldest <= until) {
            return Ok(None);
        }
    }
}

/// A channel's posts page by page, the newest first.
pub(super) struct Pages {
    size: usize,
    /// How many posts were seen.
    pub offset: usize,
}

impl Pages {
    pub(super) fn new() -> Pages {
        let (size, offset) = (PAGE, 0);
        Pages { size, offset }
    }

    /// The next page, and whether another may follow.
    pub(super) fn next(
        &mut self,
        client: &Client,
        channel: &ChannelId,
    ) -> Result<(Vec<Post>, bool), ApiError> {
        let offset = self.offset;
        let page = paged(&mut self.size, |count| {
            client.posts_page(channel, offset / count, count)
        })?;
        self.offset += page.order.len();
        Ok((page.posts, page.order.len() >= self.size))
    }
}

/// Looks, page by page from the newest on, for the post that a walk forward begins after: the newest one
/// created at `from` or before. Where all are newer, the channel's first post, and with it all posts of
/// its millisecond, since the walk leaves them out.
pub(super) struct AnchorSearch {
    from: ServerTime,
    pages: Pages,
    oldest: Vec<Post>,
}

impl AnchorSearch {
    pub(super) fn new(from: ServerTime) -> AnchorSearch {
        AnchorSearch {
            from,
            pages: Pages::new(),
            oldest: Vec::new(),
        }
    }

    /// Reads one page: the anchor once it is found.
    pub(super) fn next(
        &mut self,
        client: &Client,
        channel: &ChannelId,
    ) -> Result<Option<(PostId, Vec<Post>)>, ApiError> {
        let (posts, more) = self.pages.next(client, channel)?;
        let anchor = posts.iter().filter(|post| post.create_at <= self.from);
        if let Some(anchor) = anchor.max_by_key(|post| post.create_at) {
            return Ok(Some((anchor.id.clone(), Vec::new())));
        }
        for post in posts {
            let known = self.oldest.first().map(|known| known.create_at);
            if known.is_none_or(|known| post.create_at < known) {
                self.oldest = vec![post];
            } else if known == Some(post.create_at) {
                self.oldest.push(post);
            }
        }
        if more {
            return Ok(None);
        }
        let id = self.oldest.first().map(|post| post.id.clone());
        let first = std::mem::take(&mut self.oldest);
        Ok(Some((id.unwrap_or_default(), first)))
    }
}

/// A walk forward through a channel's posts, page by page.
///
/// The server orders posts by their millisecond alone. So the next page begins before the posts of
/// this page's last millisecond, through which it may have cut; only within a millisecond that fills a
/// whole page are posts counted.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// The next page is among the posts of later milliseconds than this post's.
    after: PostId,
    /// How many of them were seen.
    seen: usize,
    /// How many posts the last page was asked for, so as not to be over the bound.
    size: usize,
}

impl Walk {
    pub(super) fn new(after: PostId) -> Walk {
        Walk {
            after,
            seen: 0,
            size: PAGE,
        }
    }

    /// The next page, and whether another may follow. After an error the walk is where it was.
    pub(super) fn next(
        &mut self,
        client: &Client,
        channel: &ChannelId,
    ) -> Result<(PostList, bool), ApiError> {
        let mut size = (self.size * 2).min(PAGE);
        let page = paged(&mut size, |count| {
            client.posts_after(channel, &self.after, self.seen / count, count)
        })?;
        self.size = size;
        let more = page.order.len() >= size && self.pass(&page, self.seen / size * size);
        Ok((page, more))
    }

    /// Moves on to behind a full page that began with the post number `first`, counted from 0: whether
    /// there is a way. Roots that the page dragged along lie behind it.
    fn pass(&mut self, page: &PostList, first: usize) -> bool {
        let order: Set<&PostId> = page.order.iter().collect();
        let posts = || page.posts.iter().filter(|post| order.contains(&post.id));
        let Some(newest) = posts().map(|post| post.create_at).max() else {
            return false;
        };
        let before = posts().filter(|post| post.create_at < newest);
        match before.max_by_key(|post| post.create_at) {
            Some(post) => (self.after, self.seen) = (post.id.clone(), 0),
            None => self.seen = first + page.order.len(),
        }
        true
    }
}
