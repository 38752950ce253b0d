//! A channel with more to read than one answer holds: it is walked forward, page by page, after all
//! that lies ahead was gone over once.

use std::collections::BTreeSet;

use log::{debug, info};

use super::cursor::Counters;
use super::pages::{AnchorSearch, Walk, is_entry};
use super::read::Take;
use super::record::{Parts, collect_parts, complete};
use super::{Inbox, Wanted};
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, ServerTime};
use crate::state::State;

/// With so many posts waiting no further page is read.
const WAITING: usize = 50;

/// A walk and how far it has come: one request per step.
pub struct Behind {
    stage: Stage,
    /// The counters when the walk began.
    shown: Counters,
    /// Posts on the way that were not known.
    found: usize,
}

enum Stage {
    /// Is the post known from which on the walk can begin?
    TryAnchor(PostId),
    Search(AnchorSearch),
    /// What of all that lies ahead is answered already, and where the bot came in.
    Survey {
        start: Walk,
        walk: Walk,
        own: Parts,
        /// Posts that the walk leaves out.
        first: Vec<Post>,
    },
    Read {
        walk: Walk,
        answered: BTreeSet<PostId>,
    },
}

impl Inbox {
    /// Begins to walk through a channel.
    pub(super) fn fall_behind(&mut self, client: &Client, state: &State, id: &ChannelId) {
        let Some(cursor) = state.channels.get(id) else {
            return;
        };
        let (from, cutoff) = (self.walk_from(state, id), self.cutoff(client));
        let anchor = Some(&cursor.anchor).filter(|anchor| !anchor.is_empty() && from >= cutoff);
        if from < cutoff {
            info!(
                "channel {id}: posts from before the last {} s are not answered (catch_up_secs)",
                self.scope.catch_up.as_secs()
            );
        }
        let stage = match anchor {
            Some(anchor) => Stage::TryAnchor(anchor.clone()),
            None => Stage::Search(AnchorSearch::new(from.max(cutoff))),
        };
        let shown = cursor.progress.shown;
        let found = 0;
        self.behind.insert(
            id.clone(),
            Behind {
                stage,
                shown,
                found,
            },
        );
    }

    fn walk_from(&self, state: &State, id: &ChannelId) -> ServerTime {
        state.channels.get(id).map_or(ServerTime(0), |cursor| {
            cursor
                .mark
                .before(self.scope.times.window)
                .max(cursor.floor)
        })
    }

    /// Whether a walk may go on: its next page would only fill up memory while many posts wait.
    pub(super) fn may_walk(&self, behind: &Behind) -> bool {
        !matches!(behind.stage, Stage::Read { .. }) || self.waiting.len() < WAITING
    }

    /// Goes on with a walk by one request. After an error it is where it was.
    pub(super) fn walk_on(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        wanted: &Wanted,
    ) -> Result<(), ApiError> {
        let Some(mut behind) = self.behind.remove(id) else {
            return Ok(());
        };
        match self.walk_step(client, state, id, &mut behind, wanted) {
            Ok(true) => {
                self.behind.insert(id.clone(), behind);
            }
            Ok(false) => {
                // What became visible late is found by another read; a way on which nothing was new
                // is a complete one.
                if let Some(cursor) = state.channels.get_mut(id) {
                    cursor.progress.read_at = Some(behind.shown).filter(|_| behind.found == 0);
                }
            }
            Err(error) => {
                self.behind.insert(id.clone(), behind);
                return Err(error);
            }
        }
        self.advance(state, id);
        Ok(())
    }

    /// Whether there is more.
    fn walk_step(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        behind: &mut Behind,
        wanted: &Wanted,
    ) -> Result<bool, ApiError> {
        let next = match &mut behind.stage {
            Stage::TryAnchor(anchor) => {
                let (known, _) = Walk::new(anchor.clone()).next(client, id)?;
                if known.order.is_empty() {
                    Stage::Search(AnchorSearch::new(self.walk_from(state, id)))
                } else {
                    survey(anchor.clone(), Vec::new())
                }
            }
            Stage::Search(search) => match search.next(client, id)? {
                None => return Ok(true),
                Some((anchor, first)) => survey(anchor, first),
            },
            Stage::Survey {
                start,
                walk,
                own,
                first,
            } => {
                let (page, more) = walk.next(client, id)?;
                collect_parts(&page.posts, &self.scope.bot, own);
                self.note_strangers(state, id, &page.posts);
                let entries = page
                    .posts
                    .iter()
                    .filter(|post| is_entry(post, &self.scope.bot));
                if let (Some(entry), Some(cursor)) = (
                    entries.map(|post| post.create_at).max(),
                    state.channels.get_mut(id),
                ) {
                    cursor.enter(entry);
                }
                if more {
                    return Ok(true);
                }
                debug!(
                    "channel {} ({id}) is read page by page",
                    self.name(state, id)
                );
                let answered = complete(std::mem::take(own));
                let (walk, posts) = (start.clone(), std::mem::take(first));
                self.take(
                    client,
                    state,
                    id,
                    Take {
                        posts,
                        answered: &answered,
                        wanted,
                    },
                );
                Stage::Read { walk, answered }
            }
            Stage::Read { walk, answered } => {
                let (page, more) = walk.next(client, id)?;
                let present = client.date_ms().map(ServerTime);
                let newest = page.posts.iter().map(|post| post.create_at);
                let newest = newest.collect::<Vec<_>>();
                let taken = Take {
                    posts: page.posts,
                    answered,
                    wanted,
                };
                behind.found += self.take(client, state, id, taken);
                if let Some(cursor) = state.channels.get_mut(id) {
                    let cap = cursor.cap(present);
                    let newest = newest.into_iter().filter(|time| *time <= cap).max();
                    let newest = newest.unwrap_or_default();
                    cursor.progress.newest = cursor.progress.newest.max(newest);
                    cursor.progress.read_at = None;
                }
                return Ok(more);
            }
        };
        behind.stage = next;
        Ok(true)
    }
}

fn survey(anchor: PostId, first: Vec<Post>) -> Stage {
    let start = Walk::new(anchor);
    Stage::Survey {
        walk: start.clone(),
        start,
        own: Parts::new(),
        first,
    }
}
