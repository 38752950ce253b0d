//! The record on the server: which questions the bot's own posts answer.

use super::pages::Walk;
use super::read::SINCE_LIMIT;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::sorted::{Map, Set};

/// Stands among the parts for a post in which an answer grew and which took no last edit.
const GROWN: u32 = u32::MAX;

/// By question, which parts of how many the bot has posted.
pub(super) type Parts = Map<PostId, (u32, Set<u32>)>;

pub(super) fn collect_parts(posts: &[Post], bot: &UserId, parts: &mut Parts) {
    // A part that somebody deleted was posted all the same.
    for post in posts.iter().filter(|post| post.user_id == *bot) {
        if let Some(question) = &post.props.growing_for {
            let entry = parts.or_default(question.clone());
            entry.1.insert(GROWN);
        }
        if let Some(prx) = &post.props.prx {
            let entry = parts.or_default(prx.in_reply_to.clone());
            // The later part knows better: what follows may have been split or cut short meanwhile.
            let last = entry.1.iter().rfind(|part| **part != GROWN);
            if last.is_none_or(|last| *last <= prx.part) {
                entry.0 = prx.of;
            }
            entry.1.insert(prx.part);
        }
    }
}

/// Which questions the bot's own posts answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Those whose every part is there.
    pub whole: Set<PostId>,
    /// Those of which later parts are missing, and how many are there.
    pub half: Map<PostId, u32>,
}

pub(super) fn sorted_out(parts: Parts) -> Record {
    let mut record = Record::default();
    for (question, (of, there)) in parts {
        // A post that grew and took no last edit does not bear the mark of part 0: a later part tells.
        let grown = of > 1 && there.contains(&GROWN);
        let last = there.iter().rfind(|part| **part != GROWN);
        if of == 0 {
            continue;
        }
        if (0..of).all(|part| there.contains(&part) || (part == 0 && grown)) {
            record.whole.insert(question);
        } else if let Some(last) = last {
            record.half.insert(question, last + 1);
        }
    }
    record
}

/// The questions that the bot's own posts among `posts` answer.
pub(crate) fn answered(posts: &[Post], bot: &UserId) -> Record {
    let mut parts = Parts::new();
    collect_parts(posts, bot, &mut parts);
    sorted_out(parts)
}

/// Which parts of the answer to `question` the server shows.
pub(crate) fn parts_of(
    client: &Client,
    bot: &UserId,
    channel: &ChannelId,
    question: &PostId,
    created: ServerTime,
) -> Result<Set<u32>, ApiError> {
    let mut parts = parts_since(client, bot, channel, question, created)?;
    let mut there = parts.remove(question).map(|(_, there)| there);
    there.as_mut().map(|there| there.remove(&GROWN));
    Ok(there.unwrap_or_default())
}

/// The post in which the answer to `question` grows, the oldest of several.
pub(crate) fn growing_post(
    client: &Client,
    bot: &UserId,
    channel: &ChannelId,
    question: &PostId,
    created: ServerTime,
) -> Result<Option<PostId>, ApiError> {
    let mut oldest: Option<(ServerTime, PostId)> = None;
    read_since(client, channel, question, created, |posts| {
        let mine = posts.iter().filter(|post| {
            post.user_id == *bot
                && post.delete_at.0 == 0
                && post.props.growing_for.as_ref() == Some(question)
        });
        let mine = mine.map(|post| (post.create_at, post.id.clone()));
        oldest = oldest.take().into_iter().chain(mine).min();
    })?;
    Ok(oldest.map(|(_, post)| post))
}

/// What the server shows of the answers since `question`, and of the one to it.
pub(crate) fn record_since(
    client: &Client,
    bot: &UserId,
    question: &Post,
) -> Result<Record, ApiError> {
    let (channel, created) = (&question.channel_id, question.create_at);
    let parts = parts_since(client, bot, channel, &question.id, created)?;
    Ok(sorted_out(parts))
}

/// The parts of all answers since `question`.
fn parts_since(
    client: &Client,
    bot: &UserId,
    channel: &ChannelId,
    question: &PostId,
    created: ServerTime,
) -> Result<Parts, ApiError> {
    let mut parts = Parts::new();
    let collect = |posts: &[Post]| collect_parts(posts, bot, &mut parts);
    read_since(client, channel, question, created, collect)?;
    Ok(parts)
}

/// Shows `visit` every post since `question`, list by list. A busy channel's newest posts may lie far
/// after an answer, so it is read from the question on.
fn read_since(
    client: &Client,
    channel: &ChannelId,
    question: &PostId,
    created: ServerTime,
    mut visit: impl FnMut(&[Post]),
) -> Result<(), ApiError> {
    match client.posts_since(channel, ServerTime(created.0.saturating_sub(1).max(1))) {
        Ok(list) if list.order.len() < SINCE_LIMIT => visit(&list.posts),
        Ok(_) | Err(ApiError::TooLarge) => {
            // From the post before the question on: pages leave out their first millisecond.
            let before = client.posts_before(channel, question, 1)?.order;
            let before = before.into_iter().next();
            let mut walk = Walk::new(before.unwrap_or_else(|| question.clone()));
            let mut more = true;
            while more {
                let page;
                (page, more) = walk.next(client, channel)?;
                visit(&page.posts);
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
