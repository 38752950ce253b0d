//! Delivering: drafts go out by the outbox, and what it says of each is acted upon.

use log::{info, warn};

use super::{Bot, Unsaved};
use crate::answers::{Draft, Stage};
use crate::config::Config;
use crate::copies;
use crate::cursor::Own;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outbox::{Delivery, Outbox, Trouble};
use crate::reply::{self, ReplyOptions};

/// No server's limit is shorter, in characters.
const SHORTEST_LIMIT: usize = 1000;
/// Ends an answer whose rest is lost.
const LOST: &str = "Sorry, the rest of this answer was lost. Please ask again.";

impl Bot {
    /// Brings one draft a step further: whether there was one.
    pub(super) fn deliver(&mut self) -> Result<bool, Trouble> {
        let (now, state) = (self.now(), &self.store.state);
        let due = state.answers.iter().filter(|(_, answer)| {
            let untouched = answer.draft.as_ref().is_some_and(|draft| draft.unsent);
            matches!(
                answer.live.stage,
                Stage::Deliver(_) | Stage::Withdraw { .. }
            ) && answer.live.due <= now
                && self.is_open(&answer.channel)
                && !(untouched && self.is_unread(answer))
        });
        let oldest = due.min_by_key(|(id, answer)| (answer.create_at, id));
        let Some((id, answer)) = oldest else {
            return Ok(false);
        };
        let id = id.clone();
        if let Stage::Withdraw { asked } = answer.live.stage {
            self.take_away(&id, asked)?;
            return Ok(true);
        }
        // Whether the post is there in which it grew decides where it goes.
        if answer.opening.is_some() {
            self.open_post(&id, None)?;
            return Ok(true);
        }
        // Nothing of it is there yet: the question may have been deleted meanwhile.
        let untouched = answer.draft.as_ref().is_some_and(|draft| draft.unsent);
        let is_stale = now.saturating_sub(answer.live.seen) > self.times.stale;
        if untouched && is_stale && !answer.live.looked {
            self.look_before_posting(&id)?;
            return Ok(true);
        }
        if self.compare_begun(&id)? {
            return Ok(true);
        }
        if let Some(answer) = self.store.state.answers.get_mut(&id) {
            answer.live.looked = false;
        }
        let delivery = self.outbox.step(&self.client, &mut self.store, &id)?;
        self.delivered(&id, delivery)?;
        Ok(true)
    }

    /// Once for each try: with a slow server every look would be stale by the next step.
    fn look_before_posting(&mut self, id: &PostId) -> Result<(), Trouble> {
        match self.look_again(id) {
            Ok(Some(fresh)) => self.doubt(id, &fresh),
            Ok(None) => {
                self.give_up(id, "it was deleted, or cannot be read any more");
                return Ok(());
            }
            Err(error) if error.may_last() && self.patience_is_over(id) => {}
            Err(error) => return self.put_off(id, error),
        }
        self.saw(id, None);
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.looked = true;
        }
        Ok(())
    }

    fn delivered(&mut self, id: &PostId, delivery: Delivery) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        let channel = answer.channel.clone();
        let apology = answer.draft.as_ref().is_some_and(|draft| draft.apology);
        match delivery {
            Delivery::More => {}
            Delivery::Took(post, at) => {
                self.note_own(&channel, at, Own::Post);
                self.saw_own(&channel, &post, at);
            }
            Delivery::Edited(at) => self.note_own(&channel, at, Own::Edit),
            Delivery::NoEdit => self.go_on_without_edits(id)?,
            Delivery::Later(until) => answer.live.due = until,
            Delivery::Failed(until, error) => {
                answer.live.due = until;
                self.outage.note(&error.into());
            }
            Delivery::Posted => {
                self.inbox.opened(&mut self.store.state, &channel);
                self.tell_answered(id);
                self.handled(id);
            }
            Delivery::TooLong if self.post_limit > SHORTEST_LIMIT => self.split_again(id)?,
            Delivery::TooLong if !apology => self.excuse(id, "it is too long", "it is too long"),
            Delivery::Refused(why) if !apology => self.excuse(id, &why, "the server refuses it"),
            Delivery::TooLong => self.left_unanswered(id, "it is too long"),
            Delivery::Refused(why) | Delivery::Gone(why) => self.left_unanswered(id, &why),
            Delivery::Closed(why) => {
                self.inbox.close(&mut self.store.state, &channel, &why);
            }
        }
        Ok(())
    }

    pub(super) fn tell_answered(&self, id: &PostId) {
        let Some(answer) = self.store.state.answers.get(id) else {
            return;
        };
        let channel = &answer.channel;
        match (&answer.live.question, answer.live.began) {
            (Some(question), Some(began)) => {
                let took = self.now().saturating_sub(began).as_millis();
                let place = self.inbox.name(&self.store.state, channel);
                let user = &question.user_id;
                let apology = answer.draft.as_ref().is_some_and(|draft| draft.apology);
                let how = if apology { ", without the model" } else { "" };
                info!("answered post {id} by {user} in {place} ({channel}) in {took} ms{how}");
            }
            _ => info!("answered post {id} in {channel}, begun in an earlier run"),
        }
    }

    fn left_unanswered(&mut self, id: &PostId, why: &str) {
        if let Some(answer) = self.store.state.answers.get(id) {
            warn!("post {id} in {} gets no answer: {why}", answer.channel);
        }
        self.handled(id);
    }

    pub(super) fn reply_options(&self) -> ReplyOptions {
        ReplyOptions {
            allow_unsafe_links: self.config.mattermost.allow_unsafe_links,
        }
    }

    pub(super) fn parts(&self, text: &str) -> Vec<String> {
        reply::parts(text, self.post_limit, &self.reply_options())
    }

    /// Makes `text` the answer to a post.
    pub(super) fn draft(&mut self, id: &PostId, text: &str, apology: bool) {
        let parts = self.parts(text);
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let Some(question) = &answer.live.question else {
            return;
        };
        let draft = Draft {
            root: root(&self.config, question),
            parts,
            nonce: Outbox::nonce(),
            apology,
            asked: copies::asked(question),
            unsent: true,
        };
        answer.live.stage = Stage::Deliver(Outbox::fresh(&draft));
        answer.live.due = Default::default();
        answer.draft = Some(draft);
    }

    /// Ends an answer because its author asked for that: what was written stays. The state says so before
    /// the worker ends.
    pub(super) fn stop(&mut self, id: &PostId) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        if answer.draft.is_some() || matches!(answer.live.stage, Stage::Withdraw { .. }) {
            return Ok(());
        }
        info!("the answer to post {id} is stopped by its author");
        let worker = answer.worker();
        let written = worker.map_or("", |worker| self.desk.text(worker));
        let text = if reply::is_blank(written) {
            "Stopped.".to_owned()
        } else {
            written.to_owned() + &reply::stopped_mark(written)
        };
        self.draft(id, &text, false);
        let saved = self.store.save();
        self.stop_worker(worker);
        Ok(saved?)
    }

    /// Has a person told, in one short message, why there is no answer.
    pub(super) fn apologize(&mut self, id: &PostId, text: &str) {
        self.give_back(id);
        self.draft(id, text, true);
    }

    /// Of an answer so many parts are there, and nobody knows the rest, as the state file is from before
    /// them: another answer would not go on where they end, so a last part says that.
    pub(super) fn end_half(&mut self, id: &PostId, half: u32) {
        warn!("post {id} has half an answer that the state knows nothing of: it gets no other");
        self.draft(id, LOST, true);
        self.changed(Unsaved::BeforeNext);
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        // What shows its beginning is a part of it by now.
        (answer.shown, answer.opening) = (None, None);
        if let Some((draft, progress)) = answer.progress() {
            // Only the last of these is posted.
            draft.parts = vec![LOST.to_owned(); half as usize + 1];
            *progress = Outbox::fresh(draft);
            progress.posted = (0..half).collect();
        }
    }

    /// The server does not take the answer: the person gets a short message that says why, after the
    /// parts that are there. `why` is for the log, `told` for the person.
    fn excuse(&mut self, id: &PostId, why: &str, told: &str) {
        let parts = self.parts(&format!("Sorry, my answer cannot be posted here: {told}."));
        self.changed(Unsaved::BeforeNext);
        if let Some(answer) = self.store.state.answers.get_mut(id)
            && let channel = answer.channel.clone()
            && let Some((draft, progress)) = answer.progress()
        {
            warn!("the answer to post {id} in {channel} is not taken: {why}");
            draft.parts.truncate(progress.posted.len());
            draft.parts.extend(parts);
            draft.nonce = Outbox::nonce();
            draft.apology = true;
            draft.unsent = true;
            progress.asked = true;
        }
    }

    /// The server's limit is lower than it was at the start: splits anew what is missing.
    fn split_again(&mut self, id: &PostId) -> Result<(), Trouble> {
        let told = match self.client.max_post_size() {
            Ok(told) => told,
            Err(ApiError::Refused { .. }) => None,
            Err(error) => return self.put_off(id, error),
        };
        let told = told.filter(|limit| *limit < self.post_limit);
        self.post_limit = told.unwrap_or(self.post_limit / 2).max(SHORTEST_LIMIT);
        let (limit, options) = (self.post_limit, self.reply_options());
        if let Some(answer) = self.store.state.answers.get_mut(id)
            && let Some((draft, progress)) = answer.progress()
        {
            let posted = progress.posted.len().min(draft.parts.len());
            let missing = draft.parts.split_off(posted);
            let parts = missing
                .iter()
                .flat_map(|part| reply::parts(part, limit, &options));
            draft.parts.extend(parts);
            draft.nonce = Outbox::nonce();
            draft.unsent = true;
            progress.asked = true;
        }
        Ok(())
    }
}

/// Where the answer to `post` goes: the thread's root, or nothing for the channel's.
pub(super) fn root(config: &Config, post: &Post) -> PostId {
    if !config.mattermost.channel(&post.channel_id).thread_replies {
        PostId::default()
    } else if post.root_id.is_empty() {
        post.id.clone()
    } else {
        post.root_id.clone()
    }
}
