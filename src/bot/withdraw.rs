//! Withdrawing: what was shown of an answer is taken away where there will be none.

use std::time::Duration;

use log::warn;

use super::{Bot, Unsaved};
use crate::answers::Stage;
use crate::mattermost::PostId;
use crate::outage::Trouble;

/// After a deletion, until it is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(2);

impl Bot {
    /// Ends with a post that gets no answer: what was shown of one is taken away first.
    pub(super) fn withdraw(&mut self, id: &PostId) {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        if !answer.grows() {
            return self.handled(id);
        }
        let worker = answer.worker();
        answer.draft = None;
        answer.live.stage = Stage::Withdraw { asked: false };
        answer.live.feeding = None;
        answer.live.due = Default::default();
        self.stop_worker(worker);
        self.changed(Unsaved::BeforeNext);
    }

    /// Takes the post away in which an answer grew, and looks whether it is gone: an edit that was on its
    /// way may undo the deletion.
    pub(super) fn take_away(&mut self, id: &PostId, asked: bool) -> Result<(), Trouble> {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        if answer.opening.is_some() {
            return self.open_post(id, None);
        }
        let Some(shown) = answer.shown.clone() else {
            self.handled(id);
            return Ok(());
        };
        let result = if asked {
            self.client.post(&shown).map(|post| post.delete_at.0 == 0)
        } else {
            self.client.delete_post(&shown).map(|()| true)
        };
        let is_there = match result {
            Ok(is_there) => is_there,
            Err(error) if error.is_forbidden() && !asked => {
                warn!("post {shown}, the beginning of an answer to post {id}, stays: {error}");
                self.handled(id);
                return Ok(());
            }
            Err(error) if error.is_closed() => !asked,
            Err(error) => return self.put_off(id, error),
        };
        if !is_there {
            self.handled(id);
        } else if let Some(answer) = self.store.state.answers.get_mut(id) {
            let late = answer.live.growth.unsettled_until.unwrap_or(now);
            let look = late.max(now + LOOK_AFTER);
            answer.live.due = if asked { now } else { look };
            answer.live.stage = Stage::Withdraw { asked: !asked };
        }
        Ok(())
    }
}
