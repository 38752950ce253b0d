//! A channel with more to read than one answer holds: it is walked forward, page by page, after all
//! that lies ahead was gone over once.

use log::{debug, info};

use super::Inbox;
use super::pages::{AnchorSearch, Walk};
use super::read::Reading;
use super::record::Record;
use crate::cursor::Counters;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId, ServerTime};

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
    answered: Record,
    /// Posts that the walk leaves out.
    first: Vec<Post>,
}

impl Inbox {
    /// Begins to walk through a channel.
    pub(super) fn fall_behind(&mut self, at: &Reading) {
        let (from, cutoff) = (self.walk_from(at), self.cutoff());
        if from < cutoff {
            info!(
                "channel {}: posts from before the last {} s are not answered (catch_up_secs)",
                at.id,
                self.scope.catch_up.as_secs()
            );
        }
        let anchor = &at.cursor.anchor;
        let stage = if anchor.is_empty() || from < cutoff {
            Stage::Search(AnchorSearch::new(from.max(cutoff)))
        } else {
            Stage::TryAnchor(anchor.clone())
        };
        let behind = Behind {
            stage,
            shown: at.cursor.progress.shown,
            found: 0,
        };
        self.behind.insert(at.id.clone(), behind);
    }

    fn walk_from(&self, at: &Reading) -> ServerTime {
        let mark = at.cursor.mark.before(self.scope.times.window);
        mark.max(at.cursor.floor)
    }

    /// Whether a walk may go on: its next page would only fill up memory while many posts wait.
    pub(super) fn may_walk(&self, behind: &Behind) -> bool {
        !matches!(behind.stage, Stage::Read { .. }) || self.waiting.len() < WAITING
    }

    /// Goes on with a walk by one request. After an error it is where it was.
    pub(super) fn walk_on(&mut self, at: &mut Reading) -> Result<(), ApiError> {
        let Some(mut behind) = self.behind.remove(at.id) else {
            return Ok(());
        };
        match self.walk_step(at, &mut behind) {
            // What became visible late is found by another read; a walk that found nothing new counts as
            // a complete one.
            Ok(false) => {
                at.cursor.progress.read_at = Some(behind.shown).filter(|_| behind.found == 0);
            }
            result => {
                self.behind.insert(at.id.clone(), behind);
                result?;
            }
        }
        self.advance(at.id, at.cursor, at.answers);
        Ok(())
    }

    /// Whether there is more.
    fn walk_step(&mut self, at: &mut Reading, behind: &mut Behind) -> Result<bool, ApiError> {
        let client = self.scope.client.clone();
        behind.stage = match &mut behind.stage {
            Stage::TryAnchor(anchor) => {
                let (known, _) = Walk::new(anchor.clone()).next(&client, at.id)?;
                if known.order.is_empty() {
                    Stage::Search(AnchorSearch::new(self.walk_from(at)))
                } else {
                    Stage::Survey(Survey::new(anchor.clone(), Vec::new()))
                }
            }
            Stage::Search(search) => match search.next(&client, at.id)? {
                None => return Ok(true),
                Some((anchor, first)) => Stage::Survey(Survey::new(anchor, first)),
            },
            Stage::Survey(survey) => {
                let (page, more) = survey.walk.next(&client, at.id)?;
                survey.answered.collect(&page.posts, &self.scope.bot);
                self.note_strangers(at, &page.posts);
                self.enter(at, &page.posts);
                if more {
                    return Ok(true);
                }
                debug!(
                    "channel {} ({}) is read page by page",
                    at.cursor.name(),
                    at.id
                );
                let answered = std::mem::take(&mut survey.answered);
                self.take(at, std::mem::take(&mut survey.first), &answered);
                let walk = survey.start.clone();
                Stage::Read { walk, answered }
            }
            Stage::Read { walk, answered } => {
                let (page, more) = walk.next(&client, at.id)?;
                let times: Vec<ServerTime> = page.posts.iter().map(|post| post.create_at).collect();
                behind.found += self.take(at, page.posts, answered);
                let newest = at.cursor.newest(times.into_iter(), self.present());
                let progress = &mut at.cursor.progress;
                progress.newest = progress.newest.max(newest);
                progress.read_at = None;
                return Ok(more);
            }
        };
        Ok(true)
    }
}

impl Survey {
    fn new(anchor: PostId, first: Vec<Post>) -> Survey {
        let start = Walk::new(anchor);
        Survey {
            walk: start.clone(),
            start,
            answered: Record::default(),
            first,
        }
    }
}
