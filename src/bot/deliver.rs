//! Delivering: drafts go out by the outbox, and what it says of each is acted upon.

use log::{info, warn};

use super::Bot;
use crate::answers::Stage;
use crate::cursor::Own;
use crate::mattermost::PostId;
use crate::outage::Trouble;
use crate::outbox::Delivery;

/// No server's limit is shorter, in characters.
pub(super) const SHORTEST_LIMIT: usize = 1000;

impl Bot {
    /// Brings one draft a step further: whether there was one.
    pub(super) fn deliver(&mut self) -> Result<bool, Trouble> {
        let (now, state) = (self.now(), &self.store.state);
        let due = state.answers.iter().filter(|(_, answer)| {
            matches!(
                answer.live.stage,
                Stage::Deliver(_) | Stage::Withdraw { .. }
            ) && answer.live.due <= now
                && self.is_open(&answer.channel)
                && !(answer.is_unposted() && self.is_unread(answer))
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
        if answer.discards {
            self.discard_shown(&id)?;
            return Ok(true);
        }
        // Nothing of it is there yet: the question may have been deleted meanwhile.
        let is_stale = now.saturating_sub(answer.live.seen) > self.times.stale;
        if answer.is_unposted() && is_stale && !answer.live.looked {
            self.look_before_posting(&id)?;
            return Ok(true);
        }
        if self.compare_begun(&id)? {
            return Ok(true);
        }
        self.update(&id, |answer| answer.live.looked = false);
        let delivery = self.outbox.step(&self.client, &mut self.store, &id)?;
        self.delivered(&id, delivery)?;
        Ok(true)
    }

    /// Once for each try: with a slow server every look would be stale by the next step.
    fn look_before_posting(&mut self, id: &PostId) -> Result<(), Trouble> {
        match self.look_again(id) {
            Ok(Some(fresh)) => self.doubt(id, &fresh),
            Ok(None) => {
                self.give_up(id, "it was deleted");
                return Ok(());
            }
            Err(error) if error.is_forbidden() => {
                let channel = self
                    .question(id)
                    .map(|question| question.channel_id.clone());
                let channel = channel.unwrap_or_default();
                self.inbox
                    .close(&mut self.store.state, &channel, &error.to_string());
                return Ok(());
            }
            Err(error) if error.may_last() && self.patience_is_over(id) => {}
            Err(error) => return self.put_off(id, error),
        }
        self.saw(id, None);
        self.update(id, |answer| answer.live.looked = true);
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
            Delivery::Took(post, at) => self.note_own(&channel, at, Own::Post(&post)),
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
}
