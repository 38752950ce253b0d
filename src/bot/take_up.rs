//! Taking up: from a post that waits to a worker that answers it, step by step.

use super::Bot;
use super::read::tell_ignored;
use crate::answers::{Answer, Stage};
use crate::conversation;
use crate::filter::{Reason, Verdict};
use crate::inbox::Record;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outbox::Trouble;

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
                    Stage::React(_) => self.is_open(&answer.channel),
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
            Stage::React(reaction) => self.react(id, reaction),
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

    /// Looks at a question that an earlier run began.
    fn find(&mut self, id: &PostId) -> Result<(), Trouble> {
        let post = match self.client.post(id) {
            // What a closed channel holds is looked at when it is open again, or dropped when the bot
            // is out of it.
            Err(ApiError::Refused { status: 403, .. }) => {
                let until = self.now() + self.times.recheck;
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.live.due = until;
                }
                return Ok(());
            }
            Err(error) if error.is_closed() => {
                self.give_up(id, "it was deleted meanwhile");
                return Ok(());
            }
            Err(error) => return self.put_off(id, error),
            Ok(post) => post,
        };
        let verdict = self.verdict(&post);
        if let Verdict::Ignore(reason) = verdict {
            tell_ignored(&post, reason);
            self.withdraw(id);
            return Ok(());
        }
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        let mut is_unwritten = answer.draft.is_none();
        if answer.grows() {
            is_unwritten = false;
            (answer.live.opening, answer.live.growth) = self.outbox.found_growing();
        }
        answer.live.stage = Stage::Seen {
            question: Box::new(post),
            undecided: is_unwritten && matches!(verdict, Verdict::IfFollowed),
        };
        Ok(())
    }

    /// It does not mention the bot: it did when that run began it, or its thread is one where the bot
    /// wrote.
    fn find_followed(&mut self, id: &PostId, question: Box<Post>) -> Result<(), Trouble> {
        match conversation::wrote_in_thread(&self.client, &question, &self.me) {
            Ok(true) => self.set_stage(
                id,
                Stage::Seen {
                    question,
                    undecided: false,
                },
            ),
            Ok(false) => {
                tell_ignored(&question, Reason::NotAddressed);
                self.withdraw(id);
            }
            Err(error) if error.may_last() && self.patience_is_over(id) => {
                self.give_up(id, "its thread cannot be read");
            }
            Err(error) => return self.put_off(id, error),
        }
        Ok(())
    }

    /// Looks at what the server shows of the answer to such a question.
    fn find_answer(&mut self, id: &PostId, post: Post) -> Result<(), Trouble> {
        let answer = self.store.state.answers.get(id);
        let is_edited =
            answer.is_some_and(|answer| answer.shown.is_some() && answer.draft.is_some());
        let mut half = None;
        let (bot, channel) = (&self.me.id, &post.channel_id);
        match Record::since(&self.client, bot, channel, id, post.create_at) {
            // An edit of that run may yet land upon the last one.
            Ok(record) if record.is_whole(id) && !is_edited => {
                self.tell_answered(id);
                self.handled(id);
                return Ok(());
            }
            Ok(record) => half = record.half(id),
            Err(error) if error.is_closed() => {}
            Err(error) => return self.put_off(id, error),
        }
        self.doubt(id, &post);
        let now = self.now();
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.stage = match &answer.draft {
                Some(draft) => Stage::Deliver(self.outbox.found(draft)),
                None => Stage::Ready,
            };
            // Its draft is what a half is gone on with.
            answer.live.half = half.filter(|_| answer.draft.is_none());
            answer.live.question = Some(post);
            answer.live.seen = now;
        }
        Ok(())
    }
}
