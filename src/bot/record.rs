//! The records of answers and channels: what all steps note in them.

use log::info;

use super::{Bot, Unsaved};
use crate::answers::{Answer, Stage};
use crate::cursor::Own;
use crate::desk::WorkerId;
use crate::mattermost::client::ApiError;
use crate::mattermost::{ChannelId, Post, PostId, ServerTime};
use crate::outage::Trouble;

impl Bot {
    /// The question of an answer, once it is known.
    pub(super) fn question(&self, id: &PostId) -> Option<&Post> {
        self.store.state.answers.get(id)?.live.question.as_ref()
    }

    /// Whether the bot may read and write in a channel at present.
    pub(super) fn is_open(&self, channel: &ChannelId) -> bool {
        self.inbox.is_open(&self.store.state, channel)
    }

    /// Ends with a post that needs nothing more.
    pub(super) fn handled(&mut self, id: &PostId) {
        if let Some(answer) = self.store.state.answers.remove(id) {
            self.stop_worker(answer.worker());
            let state = &mut self.store.state;
            self.inbox
                .done(state, id, &answer.channel, answer.create_at);
            self.changed(Unsaved::BeforeRest);
        }
    }

    /// Ends with a post that gets no answer though it should have had one.
    pub(super) fn give_up(&mut self, id: &PostId, why: &str) {
        info!("post {id} gets no answer: {why}");
        self.withdraw(id);
    }

    /// Changes the record of an answer, if there is one.
    pub(super) fn update(&mut self, id: &PostId, change: impl FnOnce(&mut Answer)) {
        self.store.state.answers.get_mut(id).map(change);
    }

    /// A request failed: an error that may concern it alone is noted, and the loop goes on.
    pub(super) fn go_on_after(&mut self, error: ApiError) -> Result<(), Trouble> {
        if !error.may_last() {
            return Err(error.into());
        }
        self.outage.note(&error.into());
        Ok(())
    }

    /// A request for one answer failed: what may be this answer's trouble alone puts it off.
    pub(super) fn put_off(&mut self, id: &PostId, error: ApiError) -> Result<(), Trouble> {
        self.go_on_after(error)?;
        let now = self.now();
        self.update(id, |Answer { live, .. }| {
            live.due = now + live.patience.fails(now);
        });
        Ok(())
    }

    /// The same of a post that waits: whether patience with it is over.
    pub(super) fn put_off_waiting(
        &mut self,
        post: &Post,
        error: ApiError,
    ) -> Result<bool, Trouble> {
        self.go_on_after(error)?;
        let now = self.now();
        let waiting = self.inbox.waiting_mut(post);
        Ok(waiting.is_some_and(|waiting| {
            waiting.due = now + waiting.patience.fails(now);
            waiting.patience.is_over(now)
        }))
    }

    /// The post as it is at present; nothing if it was deleted. A 403 is an error: the channel is closed.
    pub(super) fn look_again(&self, id: &PostId) -> Result<Option<Post>, ApiError> {
        match self.client.post(id) {
            Err(error) if error.is_closed() && !error.is_forbidden() => Ok(None),
            post => Ok(Some(post?).filter(|post| post.delete_at.0 == 0)),
        }
    }

    pub(super) fn patience_is_over(&self, id: &PostId) -> bool {
        let answer = self.store.state.answers.get(id);
        answer.is_some_and(|answer| answer.live.patience.is_over(self.now()))
    }

    /// Notes that a question was looked at just now: as it is, if it could be read.
    pub(super) fn saw(&mut self, id: &PostId, fresh: Option<Post>) {
        let now = self.now();
        self.update(id, |Answer { live, .. }| {
            live.seen = now;
            live.question = fresh.or(live.question.take());
        });
    }

    pub(super) fn set_stage(&mut self, id: &PostId, stage: Stage) {
        self.update(id, |answer| answer.live.stage = stage);
    }

    /// Takes note of a post of the bot's own, or of the edit of one: at that moment.
    pub(super) fn note_own(&mut self, channel: &ChannelId, at: ServerTime, own: Own) {
        if let Some(cursor) = self.store.state.channels.get_mut(channel) {
            cursor.note_own(at, own);
        }
    }

    /// Ends with a post that waits: it gets no answer.
    pub(super) fn drop_waiting(&mut self, post: &Post) {
        let (id, channel) = (&post.id, &post.channel_id);
        let state = &mut self.store.state;
        self.inbox.done(state, id, channel, post.create_at);
        self.changed(Unsaved::BeforeRest);
    }

    /// Ends the worker that makes an answer, if there is one.
    pub(super) fn stop_worker(&mut self, worker: Option<WorkerId>) {
        if let Some(worker) = worker {
            self.desk.stop(worker);
        }
    }
}
