//! Taking up: from a post that waits to a worker that answers it, step by step.

use super::Bot;
use crate::answers::{Answer, Stage};
use crate::mattermost::PostId;
use crate::outage::Trouble;

impl Bot {
    /// Whether there was something to do.
    pub(super) fn take_up(&mut self) -> Result<bool, Trouble> {
        if self.compare_waiting()? || self.decide()? {
            return Ok(true);
        }
        if let Some(id) = self.next_to_prepare() {
            self.prepare(&id)?;
            return Ok(true);
        }
        let next = self.next_word().or_else(|| self.next_turn());
        if let Some(id) = &next {
            self.begin(id);
        }
        Ok(next.is_some())
    }

    /// The answer to go on with: one that a step may bring nearer to its worker.
    fn next_to_prepare(&self) -> Option<PostId> {
        let now = self.now();
        let may_start = self.starts.may_start(now);
        let is_due = |answer: &Answer| {
            answer.live.due <= now
                && match &answer.live.stage {
                    Stage::Found | Stage::Seen { .. } | Stage::Gather(_) => true,
                    Stage::Ready => answer.live.began.is_some(),
                    Stage::Told(told) => may_start && self.has_room(told),
                    Stage::AtWork(_) => answer.live.feeding.is_some(),
                    Stage::React { .. } => self.is_open(&answer.channel),
                    Stage::Deliver(_) | Stage::Withdraw { .. } => false,
                }
        };
        let answers = self.store.state.answers.iter();
        let due = answers.filter(|(_, answer)| is_due(answer));
        let oldest = due.min_by_key(|(id, answer)| (answer.create_at, id));
        oldest.map(|(id, _)| id.clone())
    }

    /// Brings an answer one step nearer to its worker.
    fn prepare(&mut self, id: &PostId) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        match std::mem::take(&mut answer.live.stage) {
            Stage::Found => self.find(id),
            Stage::Seen {
                question,
                undecided: true,
            } => self.find_followed(id, question),
            Stage::Seen { question, .. } => self.find_answer(id, *question),
            Stage::Ready => {
                answer.live.stage = Stage::Ready;
                self.open(id)
            }
            Stage::Gather(gathering) => self.gather(id, gathering),
            Stage::Told(told) => {
                self.start(id, told);
                Ok(())
            }
            Stage::React { emoji, tries } => self.react(id, emoji, tries),
            Stage::AtWork(worker) => {
                answer.live.stage = Stage::AtWork(worker);
                self.feed(id, worker);
                Ok(())
            }
            stage => {
                answer.live.stage = stage;
                Ok(())
            }
        }
    }
}
