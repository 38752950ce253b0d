//! Growing: an answer is shown in its post while it is written.

use std::time::Duration;

use log::info;

use super::{Bot, Unsaved};
use crate::cursor::Own;
use crate::desk::WorkerId;
use crate::growing::{self, Growth};
use crate::mattermost::PostId;
use crate::mattermost::client::{ApiError, Mark, unless_closed};
use crate::outage::Trouble;
use crate::reply;

/// Between two edits, of whatever answers: four a second.
const APART: Duration = Duration::from_millis(250);

impl Bot {
    /// Shows what one worker wrote since: whether there was anything to do.
    pub(super) fn grow(&mut self) -> Result<bool, Trouble> {
        let now = self.now();
        if now < self.edit_due {
            return Ok(false);
        }
        let Some((id, worker)) = self.next_to_grow() else {
            return Ok(false);
        };
        let text = reply::growing(
            self.desk.text(worker),
            self.post_limit,
            &self.reply_options(),
        );
        let Some(answer) = self.store.state.answers.get_mut(&id) else {
            return Ok(false);
        };
        let growth = &mut answer.live.growth;
        if answer.shown.is_some() {
            if text.is_empty() || text == growth.text {
                // Another answer may be due.
                answer.live.grew = false;
                return Ok(true);
            }
            self.edit_due = now + APART;
            self.edit(&id, text)?;
        } else if answer.opening.is_some() || growth.may_open(text.chars().count(), now) {
            if self.compare_begun(&id)? {
                return Ok(true);
            }
            self.edit_due = now + APART;
            self.open_post(&id, Some(text))?;
        } else {
            growth.due = growth.opens_at().unwrap_or(now).max(now + APART);
        }
        Ok(true)
    }

    fn next_to_grow(&self) -> Option<(PostId, WorkerId)> {
        let (now, state) = (self.now(), &self.store.state);
        let mut answers = state.answers.iter().filter_map(|(id, answer)| {
            let worker = answer.worker().filter(|_| answer.live.grew)?;
            let due = answer.live.due <= now
                && answer.live.growth.may_edit(now)
                && self.is_open(&answer.channel)
                && (answer.shown.is_some() || !self.is_unread(answer));
            due.then(|| (id.clone(), worker))
        });
        answers.next()
    }

    /// An edit in the middle of an answer.
    fn edit(&mut self, id: &PostId, text: String) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        let Some(shown) = answer.shown.clone() else {
            return Ok(());
        };
        let channel = answer.channel.clone();
        let mark = Mark::Growing { growing_for: id };
        let patch = self.outbox.patch(&text, mark);
        let result = self.client.patch_post(&shown, &patch);
        let now = self.now();
        match result {
            Ok(post) => {
                let least = self.config.mattermost.draft_update_interval;
                self.update(id, |answer| {
                    answer.live.growth.shows(post.message, now, least);
                    answer.live.grew = false;
                });
                self.note_own(&channel, post.update_at, Own::Edit);
            }
            Err(ApiError::Refused { .. }) => self.edit_refused(id, &shown)?,
            Err(error) => {
                self.go_on_after(error)?;
                let settled = now + self.times.ask_after;
                self.update(id, |answer| {
                    answer.live.growth.unsettled_until = Some(settled)
                });
            }
        }
        Ok(())
    }

    /// The post in which an answer grows takes no edit: whether a person deleted it, which is a stop, or
    /// the server takes none.
    fn edit_refused(&mut self, id: &PostId, shown: &PostId) -> Result<(), Trouble> {
        match self.client.post(shown) {
            Err(ApiError::Refused { status: 403, .. }) | Ok(_) => {
                self.update(id, |answer| answer.live.growth.refused = true);
                Ok(())
            }
            Err(error) if error.is_closed() => {
                self.end_shown(id);
                Ok(())
            }
            Err(error) => self.put_off(id, error),
        }
    }

    /// A person deleted the post in which an answer grew: no more of it.
    fn end_shown(&mut self, id: &PostId) {
        info!("post {id} gets no answer: its beginning was deleted");
        self.handled(id);
    }

    /// The grown post does not take the last edit: what it shows stays and the rest follows in parts of
    /// its own, or it is taken away and the answer posted anew.
    pub(super) fn go_on_without_edits(&mut self, id: &PostId) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        let Some(shown) = answer.shown.clone() else {
            return Ok(());
        };
        match self.client.post(&shown) {
            Err(ApiError::Refused { status: 403, .. }) => {
                let channel = answer.channel.clone();
                let why = "an answer in it cannot be edited any more";
                self.inbox.close(&mut self.store.state, &channel, why);
                return Ok(());
            }
            Err(error) if error.is_closed() => {
                self.end_shown(id);
                return Ok(());
            }
            Err(error) => return self.put_off(id, error),
            Ok(_) => {}
        }
        let goes_on = self.store.state.answers.get_mut(id).and_then(|answer| {
            let shows = answer.live.growth.text.clone();
            let (draft, progress) = answer.progress()?;
            let rest = growing::rest(&draft.parts, &shows).filter(|rest| !rest.is_empty())?;
            draft.parts = vec![shows];
            draft.parts.extend(rest);
            progress.posted.insert(0);
            Some(())
        });
        if goes_on.is_none() {
            // Of another generation, or the whole text without its mark. The state says so before the
            // server hears of it: a post that is gone would look like one that a person deleted.
            self.update(id, |answer| answer.discards = true);
        }
        self.changed(Unsaved::BeforeNext);
        Ok(())
    }

    /// Deletes the post in which an answer grew: the answer is posted anew.
    pub(super) fn discard_shown(&mut self, id: &PostId) -> Result<(), Trouble> {
        let answer = self.store.state.answers.get(id);
        if let Some(shown) = answer.and_then(|answer| answer.shown.clone())
            && let Err(error) = unless_closed(self.client.delete_post(&shown))
        {
            return self.put_off(id, error);
        }
        self.update(id, |answer| {
            (answer.shown, answer.discards) = (None, false);
            answer.live.growth = Growth::default();
        });
        self.changed(Unsaved::BeforeNext);
        Ok(())
    }
}
