//! What an earlier run began: its question, and what the server shows of its answer.

use super::Bot;
use super::read::tell_ignored;
use crate::answers::Stage;
use crate::conversation;
use crate::filter::{Reason, Verdict};
use crate::inbox::Record;
use crate::mattermost::{Post, PostId};
use crate::outage::Trouble;

impl Bot {
    /// Looks at a question that an earlier run began.
    pub(super) fn find(&mut self, id: &PostId) -> Result<(), Trouble> {
        let post = match self.client.post(id) {
            // What a closed channel holds is looked at when it is open again, or dropped when the bot
            // is out of it.
            Err(error) if error.is_forbidden() => {
                let until = self.now() + self.times.recheck;
                self.update(id, |answer| answer.live.due = until);
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
        let is_unwritten = answer.draft.is_none() && !answer.grows();
        if answer.grows() {
            self.outbox.find_growing(&mut answer.live);
        }
        answer.live.stage = Stage::Seen {
            question: Box::new(post),
            undecided: is_unwritten && matches!(verdict, Verdict::IfFollowed),
        };
        Ok(())
    }

    /// It does not mention the bot: it did when that run began it, or its thread is one where the bot
    /// wrote.
    pub(super) fn find_followed(
        &mut self,
        id: &PostId,
        question: Box<Post>,
    ) -> Result<(), Trouble> {
        match conversation::wrote_in_thread(&self.client, &question, &self.me) {
            Ok(true) => {
                let undecided = false;
                self.set_stage(
                    id,
                    Stage::Seen {
                        question,
                        undecided,
                    },
                );
            }
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
    pub(super) fn find_answer(&mut self, id: &PostId, post: Post) -> Result<(), Trouble> {
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
