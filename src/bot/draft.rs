//! Drafts: what is posted of an answer, an apology, or of what was written when it was stopped.

use std::time::Duration;

use log::{info, warn};

use super::deliver::SHORTEST_LIMIT;
use super::{Bot, Unsaved};
use crate::answers::{Draft, Stage};
use crate::config::Config;
use crate::copies;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outage::Trouble;
use crate::outbox::Outbox;
use crate::reply::{self, ReplyOptions};

/// Ends an answer whose rest is lost.
const LOST: &str = "Sorry, the rest of this answer was lost. Please ask again.";

impl Bot {
    pub(super) fn reply_options(&self) -> ReplyOptions {
        ReplyOptions {
            allow_unsafe_links: self.config.mattermost.allow_unsafe_links,
        }
    }

    pub(super) fn parts(&self, text: &str) -> Vec<String> {
        reply::parts(text, self.post_limit, &self.reply_options())
    }

    /// Makes `parts` the answer to a post.
    pub(super) fn draft(&mut self, id: &PostId, parts: Vec<String>, apology: bool) {
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
        answer.live.due = Duration::ZERO;
        answer.draft = Some(draft);
        // A model's answer is dear, and in an outage the first request may be far.
        self.changed(Unsaved::BeforeRest);
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
        self.draft(id, self.parts(&text), false);
        let saved = self.store.save();
        self.stop_worker(worker);
        Ok(saved?)
    }

    /// Has a person told, in one short message, why there is no answer.
    pub(super) fn apologize(&mut self, id: &PostId, text: &str) {
        self.give_back(id);
        self.draft(id, self.parts(text), true);
    }

    /// `half` parts of an answer are posted, but the state file is older and does not know the rest. A
    /// new answer would not go on where they end, so a last part says so.
    pub(super) fn end_half(&mut self, id: &PostId, half: u32) {
        warn!("post {id} has half an answer that the state knows nothing of: it gets no other");
        // Only the last of these is posted.
        self.draft(id, vec![LOST.to_owned(); half as usize + 1], true);
        self.changed(Unsaved::BeforeNext);
        self.update(id, |answer| {
            // What shows its beginning is a part of it by now.
            (answer.shown, answer.opening) = (None, None);
            if let Some((_, progress)) = answer.progress() {
                progress.posted = (0..half).collect();
            }
        });
    }

    /// The server does not take the answer: the person gets a short message that says why, after the
    /// parts that are there. `why` is for the log, `told` for the person.
    pub(super) fn excuse(&mut self, id: &PostId, why: &str, told: &str) {
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
            draft.unsent = progress.unclear.is_none();
            progress.asked = true;
        }
    }

    /// The server's limit is lower than it was at the start: splits anew what is missing.
    pub(super) fn split_again(&mut self, id: &PostId) -> Result<(), Trouble> {
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
            draft.unsent = progress.unclear.is_none();
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
