//! Watching the questions at work: which were deleted, edited, or stopped by a reaction.

use log::info;

use super::Bot;
use super::read::tell_ignored;
use crate::answers::Stage;
use crate::filter::Verdict;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId, Reaction};
use crate::outage::Trouble;

/// How often an answer is made anew because its question was edited.
const EDITS: u32 = 3;

/// Reactions of an asker that stop an answer.
const STOP: [&str; 6] = [
    "octagonal_sign",
    "stop_sign",
    "x",
    "no_entry",
    "hand",
    "raised_hand",
];

impl Bot {
    /// Looks at the questions of a round: all of them in one request where the server can do that.
    pub(super) fn look_at_questions(&mut self) -> Result<(), Trouble> {
        if self.tender.one_by_one {
            let next = self.tender.questions.pop();
            return next.map_or(Ok(()), |id| self.look_at_one(&id));
        }
        let asked = std::mem::take(&mut self.tender.questions);
        match self.client.posts_by_ids(&asked.iter().collect::<Vec<_>>()) {
            Ok(posts) => {
                for id in asked {
                    match posts.iter().find(|post| post.id == id) {
                        Some(post) => self.look_at_question(&id, post.clone()),
                        None => self.tender.missing.push(id),
                    }
                }
            }
            // Servers before 6.0, and what stands before a server.
            Err(ApiError::Refused { .. }) => {
                self.tender.one_by_one = true;
                self.tender.questions = asked;
            }
            Err(error) => self.not_seen(error)?,
        }
        Ok(())
    }

    pub(super) fn look_at_one(&mut self, id: &PostId) -> Result<(), Trouble> {
        match self.look_again(id) {
            Ok(Some(post)) => self.look_at_question(id, post),
            Ok(None) => self.give_up(id, "it was deleted"),
            // Its channel is closed: what asks for more there is told.
            Err(error) if error.is_forbidden() => {}
            Err(error) => self.not_seen(error)?,
        }
        Ok(())
    }

    /// Looks whether an asker stops the answer by a reaction. The posts' own metadata do not tell: an
    /// edit at the same moment hides a reaction there.
    pub(super) fn look_at_reactions(&mut self) -> Result<(), Trouble> {
        let watched = std::mem::take(&mut self.tender.reactions);
        let several = watched.len() > 1 && !self.tender.one_by_one && !self.tender.singly;
        let result = if several {
            self.client.reactions(&watched.iter().collect::<Vec<_>>())
        } else {
            let (first, rest) = watched.split_first().unzip();
            self.tender.reactions = rest.map_or(Vec::new(), <[PostId]>::to_vec);
            first.map_or(Ok(Vec::new()), |post| self.client.reactions_of(post))
        };
        match result {
            Ok(reactions) => {
                for reaction in reactions {
                    if STOP.contains(&reaction.emoji_name.as_str()) {
                        self.stop_by_reaction(&reaction)?;
                    }
                }
                Ok(())
            }
            // Servers before 6.0; and one post that cannot be read has all of them refused.
            Err(error) if error.is_closed() && several => {
                self.tender.reactions = watched;
                self.tender.singly = true;
                Ok(())
            }
            // It is gone, or its channel closed: the look at the questions tells.
            Err(error) if error.is_closed() => Ok(()),
            Err(error) => self.not_seen(error),
        }
    }

    fn stop_by_reaction(&mut self, reaction: &Reaction) -> Result<(), Trouble> {
        let mut answers = self.store.state.answers.iter();
        let stopped = answers.find(|(id, answer)| {
            let question = answer.live.question.as_ref();
            let asker = question.map(|question| &question.user_id);
            let on = *id == reaction.post_id || answer.shown.as_ref() == Some(&reaction.post_id);
            on && asker == Some(&reaction.user_id)
        });
        match stopped.map(|(id, _)| id.clone()) {
            Some(id) => self.stop(&id),
            None => Ok(()),
        }
    }

    /// A look that fails is made again in the next round.
    fn not_seen(&mut self, error: ApiError) -> Result<(), Trouble> {
        self.tender.questions.clear();
        self.go_on_after(error)
    }

    /// A question at work as it is at present: deleted, edited, or as it was.
    fn look_at_question(&mut self, id: &PostId, post: Post) {
        let Some(answer) = self.store.state.answers.get(id) else {
            return;
        };
        let (Some(known), false) = (&answer.live.question, answer.draft.is_some()) else {
            return;
        };
        if post.delete_at.0 > 0 {
            self.give_up(id, "it was deleted while its answer was made");
            return;
        }
        // `update_at` moves for many reasons.
        let edited = post.message != known.message || post.file_ids != known.file_ids;
        if !edited || answer.live.edits >= EDITS {
            self.saw(id, None);
            return;
        }
        match self.verdict(&post) {
            Verdict::Ignore(reason) => {
                tell_ignored(&post, reason);
                self.withdraw(id);
            }
            Verdict::IfFollowed if self.was_addressed(id) => self.wait_undecided(id, post),
            _ => self.ask_anew(id, post),
        }
    }

    /// A question was edited while its answer was made.
    fn ask_anew(&mut self, id: &PostId, post: Post) {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let worker = answer.worker();
        answer.live.edits += 1;
        answer.live.stage = Stage::Ready;
        answer.live.feeding = None;
        self.stop_worker(worker);
        info!("post {id} was edited while its answer was made; it is answered anew");
        self.saw(id, Some(post));
    }
}
