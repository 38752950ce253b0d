//! The record on the server: what the bot's own posts answer.

use super::pages::Walk;
use super::read::SINCE_LIMIT;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::sorted::{Map, Set};

/// By question, what the bot posted of its answer.
#[derive(Default)]
pub(crate) struct Record(Map<PostId, Posted>);

#[derive(Default)]
struct Posted {
    /// Of how many parts; 0: no part is there.
    of: u32,
    parts: Set<u32>,
    /// There is a post in which it grew and which took no last edit, perhaps a deleted one.
    grew: bool,
    /// The oldest such post that is not deleted.
    growing: Option<(ServerTime, PostId)>,
}

impl Record {
    /// What the bot's own posts among `posts` answer.
    pub(crate) fn of(posts: &[Post], bot: &UserId) -> Record {
        let mut record = Record::default();
        record.collect(posts, bot);
        record
    }

    /// What the server shows of the answers since `question`, which was created at `created`, and of
    /// the one to it.
    pub(crate) fn since(
        client: &Client,
        bot: &UserId,
        channel: &ChannelId,
        question: &PostId,
        created: ServerTime,
    ) -> Result<Record, ApiError> {
        let mut record = Record::default();
        match client.posts_since(channel, ServerTime(created.0.saturating_sub(1).max(1))) {
            Ok(list) if list.order.len() < SINCE_LIMIT => record.collect(&list.posts, bot),
            // A busy channel's newest posts may lie far after an answer: it is read from the post before
            // the question on, since pages leave out their first millisecond.
            Ok(_) | Err(ApiError::TooLarge) => {
                let before = client.posts_before(channel, question, 1)?.order;
                let before = before.into_iter().next();
                let mut walk = Walk::new(before.unwrap_or_else(|| question.clone()));
                let mut more = true;
                while more {
                    let page;
                    (page, more) = walk.next(client, channel)?;
                    record.collect(&page.posts, bot);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(record)
    }

    /// Takes note of the bot's own among `posts`.
    pub(super) fn collect(&mut self, posts: &[Post], bot: &UserId) {
        // A part that somebody deleted was posted all the same.
        for post in posts.iter().filter(|post| post.user_id == *bot) {
            if let Some(question) = &post.props.growing_for {
                let posted = self.0.or_default(question.clone());
                posted.grew = true;
                let there = (post.delete_at.0 == 0).then(|| (post.create_at, post.id.clone()));
                posted.growing = posted.growing.take().into_iter().chain(there).min();
            }
            if let Some(prx) = &post.props.prx {
                let posted = self.0.or_default(prx.in_reply_to.clone());
                // The later part knows better: what follows may have been split or cut short meanwhile.
                if posted.parts.iter().all(|part| *part <= prx.part) {
                    posted.of = prx.of;
                }
                posted.parts.insert(prx.part);
            }
        }
    }

    /// Whether every part of the answer to `question` is there.
    pub(crate) fn is_whole(&self, question: &PostId) -> bool {
        self.0.get(question).is_some_and(Posted::is_whole)
    }

    /// Where later parts of the answer to `question` are missing: how many are there.
    pub(crate) fn half(&self, question: &PostId) -> Option<u32> {
        let posted = self.0.get(question)?;
        if posted.of == 0 || posted.is_whole() {
            return None;
        }
        posted.parts.iter().max().map(|last| last + 1)
    }

    /// Which parts of the answer to `question` are there.
    pub(crate) fn parts(&self, question: &PostId) -> Set<u32> {
        let posted = self.0.get(question);
        posted.map_or(Set::new(), |posted| posted.parts.clone())
    }

    /// The post in which the answer to `question` grows, the oldest of several.
    pub(crate) fn growing(&self, question: &PostId) -> Option<PostId> {
        let (_, post) = self.0.get(question)?.growing.as_ref()?;
        Some(post.clone())
    }
}

impl Posted {
    fn is_whole(&self) -> bool {
        // A post that grew and took no last edit does not bear the mark of part 0: a later part tells.
        let grown = self.of > 1 && self.grew;
        let is_there = |part| self.parts.contains(&part) || part == 0 && grown;
        self.of > 0 && (0..self.of).all(is_there)
    }
}
