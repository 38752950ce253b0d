//! Looking and reading: which posts are new, and which of them are for the bot.

use log::{debug, info};

use super::{Bot, Unsaved};
use crate::answers::Answer;
use crate::filter::{self, Reason, Verdict};
use crate::mattermost::{Post, PostId};
use crate::outage::Trouble;

impl Bot {
    /// Asks the server whether there is something to read, once a poll is due: whether it was.
    pub(super) fn look(&mut self) -> Result<bool, Trouble> {
        if self.now() < self.poll_due {
            return Ok(false);
        }
        let changed = self.inbox.look(&mut self.store.state)?;
        self.polled = true;
        self.look_put_off = false;
        self.poll_due = self.now() + self.times.poll;
        self.outage.went_well();
        if changed {
            self.drop_strays();
            self.store.save()?;
        }
        if self.inbox.is_due(&self.store.state) {
            self.refresh_name()?;
        }
        Ok(true)
    }

    /// Reads one channel that shows something new: whether there was one.
    pub(super) fn read(&mut self) -> Result<bool, Trouble> {
        if !self.inbox.is_due(&self.store.state) {
            return Ok(false);
        }
        let (bot, settings) = (&self.me, &self.config.mattermost);
        let wanted = |post: &Post, direct| match filter::verdict(post, direct, bot, settings) {
            Verdict::Ignore(reason) => {
                tell_ignored(post, reason);
                None
            }
            verdict => Some(verdict),
        };
        match self.inbox.read(&mut self.store.state, &wanted) {
            Ok(was_due) => {
                self.changed(Unsaved::BeforeRest);
                self.drop_strays();
                Ok(was_due)
            }
            Err(error) => {
                self.go_on_after(error)?;
                Ok(true)
            }
        }
    }

    /// Ends what belongs to channels that the bot has left, or to the time before it came into them.
    fn drop_strays(&mut self) {
        let channels = &self.store.state.channels;
        let is_stray = |answer: &Answer| {
            let known = channels.get(&answer.channel);
            known.is_none_or(|cursor| answer.create_at <= cursor.floor)
        };
        let answers = self.store.state.answers.iter();
        let strays = answers.filter(|(_, answer)| is_stray(answer));
        let strays: Vec<PostId> = strays.map(|(id, _)| id.clone()).collect();
        for id in strays {
            if let Some(answer) = self.store.state.answers.remove(&id) {
                info!("post {id} gets no answer: the bot is not in its channel any more");
                self.stop_worker(answer.worker());
            }
        }
    }

    /// Mentions are by name, and names change.
    fn refresh_name(&mut self) -> Result<(), Trouble> {
        let now = self.now();
        if self.config.mattermost.mentions_matter() && now - self.name_checked > self.times.recheck
        {
            match self.client.me() {
                Ok(me) => {
                    self.me.username = me.username;
                    self.name_checked = now;
                }
                // With the name that it had.
                Err(error) => self.go_on_after(error)?,
            }
        }
        Ok(())
    }

    /// What the filter says of a post that was read by itself.
    pub(super) fn verdict(&self, post: &Post) -> Verdict {
        let direct = self.inbox.is_direct(&self.store.state, &post.channel_id);
        filter::verdict(post, direct, &self.me, &self.config.mattermost)
    }
}

/// Logs, at debug level, why a post is ignored: most posts are.
pub(super) fn tell_ignored(post: &Post, reason: Reason) {
    debug!(
        "post {} by {} gets no answer: {reason}",
        post.id, post.user_id
    );
}
