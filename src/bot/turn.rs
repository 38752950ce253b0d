//! Whose turn it is: which of the posts that wait is taken up, and its record from then on.

use log::warn;

use super::read::tell_ignored;
use super::{Bot, Unsaved};
use crate::answers::{Answer, Live, Stage};
use crate::conversation;
use crate::desk::turn::{self, AtWork, Candidate, Conversation};
use crate::filter::{Reason, Verdict};
use crate::inbox::Waiting;
use crate::mattermost::{Post, PostId, UserId};
use crate::outage::Trouble;

impl Bot {
    /// Finds out of one post whether the bot already wrote in its thread.
    pub(super) fn decide(&mut self) -> Result<bool, Trouble> {
        let now = self.now();
        let undecided = |it: &&Waiting| {
            let is_open = || self.is_open(&it.post.channel_id);
            it.verdict == Verdict::IfFollowed && it.due <= now && is_open()
        };
        let Some(waiting) = self.inbox.waiting().find(undecided) else {
            return Ok(false);
        };
        let post = waiting.post.clone();
        match conversation::wrote_in_thread(&self.client, &post, &self.me) {
            Ok(true) => {
                if let Some(waiting) = self.inbox.waiting_mut(&post) {
                    waiting.verdict = Verdict::Answer;
                }
            }
            Ok(false) => {
                tell_ignored(&post, Reason::NotAddressed);
                self.drop_waiting(&post);
            }
            Err(error) => {
                let why = format!("its thread cannot be read: {error}");
                // For long, it is none that the bot follows.
                if self.put_off_waiting(&post, error)? {
                    warn!("post {} is left out, as {why}", post.id);
                    self.drop_waiting(&post);
                }
            }
        }
        Ok(true)
    }

    /// The post whose turn it is.
    pub(super) fn next_turn(&self) -> Option<PostId> {
        if self.closing {
            return None;
        }
        let now = self.now();
        let (mut at_work, mut posting, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        // What a closed channel holds keeps nobody else waiting.
        let mut drafts = 0;
        for (id, answer) in &self.store.state.answers {
            let Some(question) = &answer.live.question else {
                continue;
            };
            let conversation = self.conversation(question);
            let person = &question.user_id;
            let attempts = answer.attempts;
            if let Stage::Deliver(_) | Stage::Withdraw { .. } = answer.live.stage {
                drafts += usize::from(self.is_open(&answer.channel));
                posting.push(conversation);
            } else if let Stage::React { .. } = answer.live.stage {
                continue;
            } else if answer.live.began.is_some() {
                at_work.push(AtWork {
                    conversation,
                    person,
                    attempts,
                });
            } else if answer.live.due <= now && self.is_open(&answer.channel) {
                candidates.push(Candidate {
                    conversation,
                    person,
                    post: id,
                    created: answer.create_at,
                    begun: true,
                    attempts,
                });
            }
        }
        let open = |it: &&Waiting| {
            let is_open = || self.is_open(&it.post.channel_id);
            it.verdict == Verdict::Answer && it.due <= now && is_open()
        };
        candidates.extend(self.inbox.waiting().filter(open).map(|waiting| Candidate {
            conversation: self.conversation(&waiting.post),
            person: &waiting.post.user_id,
            post: &waiting.post.id,
            created: waiting.post.create_at,
            begun: false,
            attempts: 0,
        }));
        // An answer on its way to the server belongs to what the next one is told.
        candidates.retain(|candidate| !posting.contains(&candidate.conversation));
        let limit = self.config.mattermost.answers_at_once;
        let last = |person: &UserId| self.starts.last(person);
        let next = turn::next(&candidates, &at_work, &last, limit, drafts)?;
        Some(candidates[next].post.clone())
    }

    /// What a post belongs to.
    pub(super) fn conversation(&self, post: &Post) -> Conversation {
        let direct = self.inbox.is_direct(&self.store.state, &post.channel_id);
        let settings = self.config.mattermost.channel(&post.channel_id);
        Conversation::of(post, direct, settings.thread_replies)
    }

    /// Takes a post up: the state on disk says so before anything else is done for it.
    pub(super) fn begin(&mut self, id: &PostId) {
        let now = self.now();
        if !self.store.state.answers.contains_key(id) {
            let Some(answer) = self.inbox.take_out(id).map(|it| self.answer_to(it)) else {
                return;
            };
            self.store.state.answers.insert(id.clone(), answer);
            self.changed(Unsaved::BeforeNext);
        }
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            (answer.live.began, answer.live.typed) = (Some(now), 0);
            if let Some(question) = &answer.live.question {
                self.starts.begin(&question.user_id);
            }
            if let Some(half) = answer.live.half.take() {
                return self.end_half(id, half);
            }
        }
        self.count(id);
    }

    /// The record of a post that is taken up for the first time.
    fn answer_to(&mut self, waiting: Waiting) -> Answer {
        let mut answer = Answer {
            channel: waiting.post.channel_id.clone(),
            create_at: waiting.post.create_at,
            shown: waiting.shown,
            live: Live {
                stage: Stage::Ready,
                question: Some(waiting.post),
                seen: waiting.since,
                patience: waiting.patience,
                check: waiting.check,
                half: waiting.half,
                ..Live::default()
            },
            ..Answer::default()
        };
        if answer.shown.is_some() {
            self.outbox.find_growing(&mut answer.live);
        }
        answer
    }
}
