//! The records of answers and channels: what all steps note in them.

use log::info;

use super::{Bot, Unsaved};
use crate::answers::Stage;
use crate::cursor::Own;
use crate::desk::WorkerId;
use crate::mattermost::client::ApiError;
use crate::mattermost::{ChannelId, Post, PostId, ServerTime};
use crate::outbox::Trouble;

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

    /// A request for one answer failed: what may be this answer's trouble alone puts it off.
    pub(super) fn put_off(&mut self, id: &PostId, error: ApiError) -> Result<(), Trouble> {
        if !error.may_last() {
            return Err(error.into());
        }
        let now = self.now();
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.due = now + answer.live.patience.fails(now);
        }
        self.outage.note(&error.into());
        Ok(())
    }

    /// The post as it is at present; nothing if it was deleted or cannot be read any more.
    pub(super) fn look_again(&self, id: &PostId) -> Result<Option<Post>, ApiError> {
        match self.client.post(id) {
            Ok(post) if post.delete_at.0 == 0 => Ok(Some(post)),
            Ok(_) => Ok(None),
            Err(error) if error.is_closed() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn patience_is_over(&self, id: &PostId) -> bool {
        let answer = self.store.state.answers.get(id);
        answer.is_some_and(|answer| answer.live.patience.is_over(self.now()))
    }

    /// Notes that a question was looked at just now: as it is, if it could be read.
    pub(super) fn saw(&mut self, id: &PostId, fresh: Option<Post>) {
        let now = self.now();
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.seen = now;
            if fresh.is_some() {
                answer.live.question = fresh;
            }
        }
    }

    pub(super) fn set_stage(&mut self, id: &PostId, stage: Stage) {
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.stage = stage;
        }
    }

    pub(super) fn note_own(&mut self, channel: &ChannelId, at: ServerTime, change: Own) {
        if let Some(cursor) = self.store.state.channels.get_mut(channel) {
            cursor.own_change(at, change);
        }
    }

    /// Takes note of a post of the bot's own.
    pub(super) fn saw_own(&mut self, channel: &ChannelId, post: &PostId, at: ServerTime) {
        if let Some(cursor) = self.store.state.channels.get_mut(channel) {
            cursor.saw_own(post, at);
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
