//! A channel with more to read than one answer holds: it is walked forward, page by page, after all
//! that lies ahead was gone over once.

use log::{debug, info};

use super::pages::{AnchorSearch, Walk};
use super::read::Take;
use super::record::{Parts, Record, collect_parts, sorted_out};
use super::{Inbox, Wanted};
use crate::cursor::Counters;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, ServerTime};
use crate::state::State;

/// Waiting posts above which no further page is read.
const WAITING: usize = 50;

/// A walk and how far it has come: one request per step.
pub(super) struct Behind {
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
    Survey(Survey),
    Read {
        walk: Walk,
        answered: Record,
    },
}

/// What of all that lies ahead is answered already, and where the bot came in.
struct Survey {
    start: Walk,
    walk: Walk,
    own: Parts,
    /// Posts that the walk leaves out.
    first: Vec<Post>,
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
        let behind = Behind {
            stage,
            shown: cursor.progress.shown,
            found: 0,
        };
        self.behind.insert(id.clone(), behind);
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
                // What became visible late is found by another read; a walk that found nothing new
                // counts as a complete one.
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
                    Stage::Survey(Survey::new(anchor.clone(), Vec::new()))
                }
            }
            Stage::Search(search) => match search.next(client, id)? {
                None => return Ok(true),
                Some((anchor, first)) => Stage::Survey(Survey::new(anchor, first)),
            },
            Stage::Survey(survey) => {
                if self.survey(client, state, id, survey)? {
                    return Ok(true);
                }
                let name = self.name(state, id);
                debug!("channel {name} ({id}) is read page by page");
                let answered = sorted_out(std::mem::take(&mut survey.own));
                let taken = Take {
                    posts: std::mem::take(&mut survey.first),
                    answered: &answered,
                    wanted,
                };
                self.take(client, state, id, taken);
                let walk = survey.start.clone();
                Stage::Read { walk, answered }
            }
            Stage::Read { walk, answered } => {
                let (page, more) = walk.next(client, id)?;
                behind.found += self.take_page(client, state, id, page.posts, answered, wanted);
                return Ok(more);
            }
        };
        behind.stage = next;
        Ok(true)
    }

    /// Goes over a page of what lies ahead: whether there is more.
    fn survey(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        survey: &mut Survey,
    ) -> Result<bool, ApiError> {
        let (page, more) = survey.walk.next(client, id)?;
        collect_parts(&page.posts, &self.scope.bot, &mut survey.own);
        self.note_strangers(state, id, &page.posts);
        self.enter(state, id, &page.posts);
        Ok(more)
    }

    /// Takes in a page of the walk: how many of its posts were not known.
    fn take_page(
        &mut self,
        client: &Client,
        state: &mut State,
        id: &ChannelId,
        posts: Vec<Post>,
        answered: &Record,
        wanted: &Wanted,
    ) -> usize {
        let present = client.date_ms().map(ServerTime);
        let times: Vec<ServerTime> = posts.iter().map(|post| post.create_at).collect();
        let taken = Take {
            posts,
            answered,
            wanted,
        };
        let found = self.take(client, state, id, taken);
        if let Some(cursor) = state.channels.get_mut(id) {
            let newest = cursor.newest(times.into_iter(), present);
            cursor.progress.newest = cursor.progress.newest.max(newest);
            cursor.progress.read_at = None;
        }
        found
    }
}

impl Survey {
    fn new(anchor: PostId, first: Vec<Post>) -> Survey {
        let start = Walk::new(anchor);
        Survey {
            walk: start.clone(),
            start,
            own: Parts::new(),
            first,
        }
    }
}
