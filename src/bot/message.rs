//! One message, from its turn to its answer on the server.

use log::{debug, info, warn};

use super::Bot;
use crate::answer::{self, Generated};
use crate::conversation::{self, Place};
use crate::filter::{self, Reason, Verdict};
use crate::inbox::Waiting;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outbox::{Delivery, Outbox, Trouble};
use crate::reply::{self, ReplyOptions};
use crate::state::{Draft, Journal};

/// No server's limit is shorter, in characters.
const SHORTEST_LIMIT: usize = 1000;

impl Bot {
    /// Posts an answer that was held up, unless its question is gone.
    pub(super) fn resume(&mut self) -> Result<(), Trouble> {
        if let Some(journal) = self.store.state.journal.as_ref()
            && journal.draft.is_some()
        {
            let question = Post {
                id: journal.post.clone(),
                channel_id: journal.channel.clone(),
                create_at: journal.create_at,
                ..Post::default()
            };
            let seen = self.look_again(&question);
            if self.note_failure(&question.id, seen)?.is_none() {
                return self.give_up(&question, "it was deleted while its answer waited");
            }
        }
        self.deliver()
    }

    pub(super) fn answer(&mut self, waiting: Waiting) -> Result<(), Trouble> {
        let post = waiting.post.id.clone();
        let prepared = self.prepare(waiting);
        self.note_failure(&post, prepared)?;
        self.deliver()
    }

    /// Notes for how long the requests for `post` have failed.
    fn note_failure<T>(&mut self, post: &PostId, result: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(Trouble::Api(error)) = &result
            && may_last(error)
            && self.patience.fails(post, self.times.clock.now())
        {
            warn!("what belongs to post {post} is left out, as it cannot be read: {error}");
        }
        result
    }

    /// Leaves an answer in the journal, if the post is to have one.
    fn prepare(&mut self, waiting: Waiting) -> Result<(), Trouble> {
        let began = self.times.clock.now();
        let mut post = waiting.post;
        if began.saturating_sub(waiting.since) > self.times.stale {
            match self.look_again(&post)? {
                Some(fresh) => post = fresh,
                None => return self.give_up(&post, "it was deleted or cannot be read any more"),
            }
        }
        let direct = self.inbox.is_direct(&post.channel_id);
        match filter::verdict(&post, direct, &self.me, &self.config.mattermost) {
            Verdict::Answer => {}
            Verdict::IfFollowed if self.wrote_in_thread(&post)? => {}
            Verdict::IfFollowed => return self.ignore(&post, Reason::NotAddressed),
            Verdict::Ignore(reason) => return self.ignore(&post, reason),
        }
        self.asked = Some((post.user_id.clone(), began));
        let mut before = self.store.state.journal.take();
        if before
            .as_ref()
            .is_some_and(|journal| journal.post != post.id)
        {
            self.earlier = before.take();
        }
        if let Some(at) = self.position_held(&post.id) {
            self.store.state.journal = Some(self.held.swap_remove(at));
            return Ok(());
        }
        if let Err(trouble) = self.draft(&post, direct, before.as_ref()) {
            // An attempt that ended with an error is not one that ended with the process, neither for
            // this run nor for the next. If that cannot be written, it counts as one.
            self.store.state.journal = before.or(self.earlier.take());
            let _ = self.store.save();
            return Err(trouble);
        }
        Ok(())
    }

    /// Has the answer generated, and journals it.
    fn draft(
        &mut self,
        post: &Post,
        direct: bool,
        before: Option<&Journal>,
    ) -> Result<(), Trouble> {
        let attempts = before
            .filter(|journal| journal.post == post.id)
            .map_or(0, |journal| journal.attempts);
        let journal = Journal {
            post: post.id.clone(),
            channel: post.channel_id.clone(),
            create_at: post.create_at,
            attempts: attempts + 1,
            draft: None,
        };
        self.store.state.journal = Some(journal.clone());
        self.store.save()?;
        let began = self.times.clock.now();
        let place = Place {
            post: post.clone(),
            bot: self.me.clone(),
            direct,
            channel_name: self.inbox.name(&post.channel_id).to_owned(),
            alone: self.patience.is_over(&post.id),
        };
        let (text, apology) = match self.answerer.generate(&place, attempts)? {
            Generated::Answer(text) => (text, false),
            Generated::Apology(text) => (text, true),
            Generated::Gone(why) => return self.give_up(post, &why),
            Generated::Closed(why) => {
                self.store.state.journal = self.earlier.take();
                self.inbox.close(&post.channel_id, &why);
                return Ok(());
            }
        };
        let took = self.times.clock.now() - began;
        if took > self.times.stale && self.look_again(post)?.is_none() {
            return self.give_up(
                post,
                "it was deleted, or cannot be read any more, while its answer was made",
            );
        }
        let options = self.reply_options();
        let draft = Draft {
            root: answer::root(&self.config, post),
            parts: reply::parts(&text, self.post_limit, &options),
            nonce: Outbox::nonce(),
            apology,
            unsent: true,
        };
        // Of several parts some may be there, from a run that this state knows nothing of.
        if draft.parts.len() == 1 {
            self.outbox.begin(&draft.nonce);
        }
        self.store.state.journal = Some(Journal {
            draft: Some(draft),
            ..journal
        });
        Ok(())
    }

    /// Posts what the journal holds, if it holds an answer.
    fn deliver(&mut self) -> Result<(), Trouble> {
        let Some(journal) = &self.store.state.journal else {
            return Ok(());
        };
        let Some(draft) = &journal.draft else {
            return Ok(());
        };
        let (post, channel, created) = (
            journal.post.clone(),
            journal.channel.clone(),
            journal.create_at,
        );
        let (root, apology) = (draft.root.clone(), draft.apology);
        let (outbox, store, client) = (&mut self.outbox, &mut self.store, &self.client);
        let deliver = || outbox.deliver(client, store);
        let delivery = match answer::typing_while(client, &self.times, &channel, &root, deliver) {
            // The server may never take it, nor say what it took: the other channels go on.
            Err(Trouble::Api(error)) if may_last(&error) && self.gives_up_on(&post) => {
                Delivery::Closed(error.to_string())
            }
            delivery => delivery?,
        };
        match delivery {
            Delivery::Posted => {
                self.inbox.opened(&channel);
                let place = self.inbox.name(&channel);
                match self.asked.take() {
                    Some((user, began)) => {
                        let took = (self.times.clock.now() - began).as_millis();
                        info!("answered post {post} by {user} in {place} ({channel}) in {took} ms");
                    }
                    None => info!("answered post {post} in {channel}, begun in an earlier run"),
                }
            }
            Delivery::Nothing => return Ok(()),
            Delivery::TooLong if self.post_limit > SHORTEST_LIMIT => return self.split_again(),
            Delivery::TooLong if !apology => {
                return self.excuse("it is too long", "it is too long");
            }
            Delivery::Refused(why) if !apology => {
                return self.excuse(&why, "the server refuses it");
            }
            Delivery::TooLong => warn!("post {post} in {channel} gets no answer: it is too long"),
            Delivery::Refused(why) | Delivery::Gone(why) => {
                warn!("post {post} in {channel} gets no answer: {why}");
            }
            Delivery::Closed(why) => {
                self.inbox.close(&channel, &why);
                let journal = std::mem::replace(&mut self.store.state.journal, self.earlier.take());
                self.held.extend(journal);
                return Ok(());
            }
        }
        self.store.state.journal = self.earlier.take();
        self.inbox
            .done(&mut self.store.state, &post, &channel, created);
        Ok(())
    }

    /// The server does not take the journal's answer: the person gets a short message that says why,
    /// after the parts that are there. `why` is for the log, `told` for the person.
    fn excuse(&mut self, why: &str, told: &str) -> Result<(), Trouble> {
        let (limit, options) = (self.post_limit, self.reply_options());
        if let Some(journal) = &mut self.store.state.journal
            && let Some(draft) = &mut journal.draft
        {
            let (post, channel) = (&journal.post, &journal.channel);
            warn!("the answer to post {post} in {channel} is not taken: {why}");
            let text = format!("Sorry, my answer cannot be posted here: {told}.");
            draft.parts.truncate(self.outbox.posted());
            draft.parts.extend(reply::parts(&text, limit, &options));
            draft.nonce = Outbox::nonce();
            draft.apology = true;
            draft.unsent = true;
        }
        self.deliver()
    }

    /// The server's limit is lower than it was at the start: splits anew what is missing.
    fn split_again(&mut self) -> Result<(), Trouble> {
        let told = self.client.max_post_size()?;
        let told = told.filter(|limit| *limit < self.post_limit);
        self.post_limit = told.unwrap_or(self.post_limit / 2).max(SHORTEST_LIMIT);
        let options = self.reply_options();
        if let Some(journal) = &mut self.store.state.journal
            && let Some(draft) = &mut journal.draft
        {
            let posted = self.outbox.posted().min(draft.parts.len());
            let missing = draft.parts.split_off(posted);
            let parts = missing.iter();
            draft
                .parts
                .extend(parts.flat_map(|part| reply::parts(part, self.post_limit, &options)));
            draft.nonce = Outbox::nonce();
            draft.unsent = true;
        }
        self.deliver()
    }

    fn reply_options(&self) -> ReplyOptions {
        ReplyOptions {
            allow_unsafe_links: self.config.mattermost.allow_unsafe_links,
        }
    }

    /// Ends with a post that gets no answer though it should have had one.
    fn give_up(&mut self, post: &Post, why: &str) -> Result<(), Trouble> {
        info!("post {} by {} gets no answer: {why}", post.id, post.user_id);
        self.handled(post)
    }

    fn ignore(&mut self, post: &Post, reason: Reason) -> Result<(), Trouble> {
        tell_ignored(post, reason);
        self.handled(post)
    }

    fn handled(&mut self, post: &Post) -> Result<(), Trouble> {
        if let Some(at) = self.position_held(&post.id) {
            self.held.swap_remove(at);
        }
        let state = &mut self.store.state;
        if state
            .journal
            .as_ref()
            .is_some_and(|journal| journal.post == post.id)
        {
            state.journal = self.earlier.take();
        }
        self.inbox
            .done(state, &post.id, &post.channel_id, post.create_at);
        Ok(())
    }

    /// Where the held answer to `post` is.
    fn position_held(&self, post: &PostId) -> Option<usize> {
        self.held.iter().position(|journal| journal.post == *post)
    }

    /// The post as it is at present; nothing if it was deleted or cannot be read any more.
    fn look_again(&self, post: &Post) -> Result<Option<Post>, Trouble> {
        match self.client.post(&post.id) {
            Ok(post) if post.delete_at.0 == 0 => Ok(Some(post)),
            Ok(_) => Ok(None),
            Err(error) if error.is_closed() => Ok(None),
            Err(error) if self.is_left_out(post, &error) => Ok(Some(post.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that the answer to `post` was not delivered: whether it has failed for too long.
    fn gives_up_on(&mut self, post: &PostId) -> bool {
        self.patience.fails(post, self.times.clock.now());
        self.patience.is_over(post)
    }

    fn is_left_out(&self, post: &Post, error: &ApiError) -> bool {
        may_last(error) && self.patience.is_over(&post.id)
    }

    /// Whether the bot already wrote in the post's thread.
    fn wrote_in_thread(&self, post: &Post) -> Result<bool, Trouble> {
        match conversation::wrote_in_thread(&self.client, post, &self.me) {
            Err(error) if self.is_left_out(post, &error) => Ok(false),
            wrote => Ok(wrote?),
        }
    }
}

/// Whether one request may fail so for ever though the server is well.
pub fn may_last(error: &ApiError) -> bool {
    matches!(error, ApiError::Unclear(_) | ApiError::TooLarge)
}

/// Most posts are not for the bot: that is no news.
pub fn tell_ignored(post: &Post, reason: Reason) {
    debug!(
        "post {} by {} gets no answer: {reason}",
        post.id, post.user_id
    );
}
