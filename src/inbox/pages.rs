//! Pages of a channel's posts: where a walk begins, and how the bot came in.

use std::collections::BTreeSet;

use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, PostList, ServerTime, UserId};

/// The largest page that the server gives.
pub const PAGE: usize = 200;

/// Whether the post says that the bot came into its channel: someone added it, or it joined the
/// channel or the team.
pub fn is_entry(post: &Post, bot: &UserId) -> bool {
    match post.kind.as_str() {
        "system_add_to_channel" | "system_add_to_team" => {
            post.props.added_user_id.as_ref() == Some(bot)
        }
        "system_join_channel" | "system_join_team" => post.user_id == *bot,
        _ => false,
    }
}

/// When the bot last came into a channel, if a post created after `until` says so.
pub fn find_entry(
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
        // An older one tells of an earlier stay.
        let entries = page.posts.iter().filter(|post| is_entry(post, bot));
        let entries = entries.map(|post| post.create_at);
        if let Some(entry) = entries.filter(|entry| *entry > until).max() {
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
pub fn find_anchor(
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
/// page may have cut through them. Roots that the page dragged along lie behind it.
pub fn next_anchor(page: &PostList) -> Option<PostId> {
    let order: BTreeSet<&PostId> = page.order.iter().collect();
    let posts = || page.posts.iter().filter(|post| order.contains(&post.id));
    let newest = posts().max_by_key(|post| post.create_at)?;
    let before = posts().filter(|post| post.create_at < newest.create_at);
    let anchor = before.max_by_key(|post| post.create_at).unwrap_or(newest);
    Some(anchor.id.clone())
}

/// Asks with ever smaller pages while the answer is over the bound.
pub fn paged(
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
