//! The loop: inbox → filter → conversation → provider → reply → outbox, one message at a time.

use std::rc::Rc;
use std::time::Duration;

use log::{debug, info, warn};

use crate::answer::{self, Answerer, Generated};
use crate::config::Config;
use crate::context;
use crate::filter::{self, Reason, Verdict};
use crate::inbox::{Inbox, Scope, Waiting};
use crate::mattermost::client::Client;
use crate::mattermost::{Post, PostId, User, UserId};
use crate::outbox::{Delivery, Outbox, Trouble};
use crate::provider::Provider;
use crate::reply::{self, ReplyOptions};
use crate::state::{Draft, Journal, Store};
use crate::times::Times;

/// A bot that polls and answers.
pub struct Bot {
    config: Rc<Config>,
    client: Rc<Client>,
    store: Store,
    times: Times,
    me: User,
    inbox: Inbox,
    answerer: Answerer,
    outbox: Outbox,
    /// The longest post, in characters.
    post_limit: usize,
    /// Whose post is being answered, and since when; unknown after a restart.
    asked: Option<(UserId, Duration)>,
    name_checked: Duration,
}

/// What came of a round.
pub struct Round {
    /// There is more to read at once.
    pub more: bool,
    /// Something was taken up. Where nothing was, reading at once may bring the same again.
    pub answered: bool,
}

impl Bot {
    /// `me`: the bot's own account. `post_limit`: the server's longest post, in characters.
    pub fn new(
        config: Config,
        client: Client,
        provider: Box<dyn Provider>,
        store: Store,
        times: Times,
        me: User,
        post_limit: usize,
    ) -> Bot {
        let (config, client) = (Rc::new(config), Rc::new(client));
        let settings = &config.mattermost;
        Bot {
            inbox: Inbox::new(Scope {
                channel: settings.channel_id.clone(),
                bot: me.id.clone(),
                catch_up: Duration::from_secs(settings.catch_up_secs),
                times: times.clone(),
            }),
            answerer: Answerer::new(config.clone(), client.clone(), provider, times.clone()),
            outbox: Outbox::new(times.clone(), me.id.clone(), settings.allow_unsafe_links),
            name_checked: times.clock.now(),
            asked: None,
            post_limit,
            config,
            client,
            store,
            times,
            me,
        }
    }

    /// One poll, and the answers to all that it brought.
    pub fn round(&mut self) -> Result<Round, Trouble> {
        let mut answered = false;
        let mut busy = self.store.state.journal.is_some();
        self.resume()?;
        let looked = self.inbox.look(&self.client, &mut self.store.state)?;
        if looked.changed {
            self.store.save()?;
        }
        if looked.due {
            busy = true;
            self.refresh_name()?;
            let (bot, settings) = (&self.me, &self.config.mattermost);
            let wanted = |post: &Post, direct| match filter::verdict(post, direct, bot, settings) {
                Verdict::Ignore(reason) => {
                    tell_ignored(post, reason);
                    false
                }
                _ => true,
            };
            self.inbox
                .read(&self.client, &mut self.store.state, &wanted)?;
        }
        let begun = self.begun_before();
        while let Some(waiting) = self.inbox.next(begun.as_ref()) {
            answered = true;
            self.answer(waiting)?;
        }
        if busy || answered {
            self.store.save()?;
        }
        Ok(Round {
            more: self.inbox.is_due(),
            answered,
        })
    }

    /// The post whose answer an earlier run began and did not finish.
    fn begun_before(&mut self) -> Option<PostId> {
        let post = self.store.state.journal.as_ref()?.post.clone();
        if !self.inbox.waits(&post) {
            // It was deleted meanwhile, or is answered.
            self.store.state.journal = None;
            return None;
        }
        Some(post)
    }

    /// Posts an answer that was held up, unless its question is gone.
    fn resume(&mut self) -> Result<(), Trouble> {
        if let Some(journal) = self.store.state.journal.as_ref()
            && journal.draft.is_some()
            && self.look_again(&journal.post)?.is_none()
        {
            let question = Post {
                id: journal.post.clone(),
                channel_id: journal.channel.clone(),
                create_at: journal.create_at,
                ..Post::default()
            };
            return self.give_up(&question, "it was deleted while its answer waited");
        }
        self.deliver()
    }

    fn answer(&mut self, waiting: Waiting) -> Result<(), Trouble> {
        let began = self.times.clock.now();
        let mut post = waiting.post;
        if began.saturating_sub(waiting.since) > self.times.stale {
            match self.look_again(&post.id)? {
                Some(fresh) => post = fresh,
                None => return self.give_up(&post, "it was deleted while it waited"),
            }
        }
        let direct = self.inbox.is_direct(&post.channel_id);
        match filter::verdict(&post, direct, &self.me, &self.config.mattermost) {
            Verdict::Answer => {}
            Verdict::IfFollowed if context::wrote_in_thread(&self.client, &post, &self.me)? => {}
            Verdict::IfFollowed => return self.ignore(&post, Reason::NotAddressed),
            Verdict::Ignore(reason) => return self.ignore(&post, reason),
        }
        self.asked = Some((post.user_id.clone(), began));
        let before = self.store.state.journal.take();
        if let Err(trouble) = self.draft(&post, direct, before.as_ref()) {
            // An attempt that ended with an error is not one that ended with the process.
            self.store.state.journal = before;
            return Err(trouble);
        }
        self.deliver()
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
        let channel_name = self.inbox.name(&post.channel_id).to_owned();
        let (text, apology) =
            match self
                .answerer
                .generate(post, &self.me, &channel_name, direct, attempts)?
            {
                Generated::Answer(text) => (text, false),
                Generated::Apology(text) => (text, true),
                Generated::Gone(why) => return self.give_up(post, &why),
                Generated::Closed(why) => {
                    self.store.state.journal = None;
                    self.inbox.close(&post.channel_id, &why);
                    return Ok(());
                }
            };
        self.inbox.opened(&post.channel_id);
        let took = self.times.clock.now() - began;
        if took > self.times.stale && self.look_again(&post.id)?.is_none() {
            return self.give_up(post, "it was deleted while its answer was on the way");
        }
        let options = ReplyOptions {
            allow_unsafe_links: self.config.mattermost.allow_unsafe_links,
        };
        let draft = Draft {
            root: answer::root(&self.config, post),
            parts: reply::parts(&text, self.post_limit, &options),
            nonce: Outbox::nonce(),
            apology,
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
        let root = draft.root.clone();
        let (outbox, store, client) = (&mut self.outbox, &mut self.store, &self.client);
        let deliver = || outbox.deliver(client, store);
        match answer::typing_while(client, &self.times, &channel, &root, deliver)? {
            Delivery::Posted => {
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
            Delivery::Refused { closed, why } => {
                warn!("post {post} in {channel} gets no answer: {why}");
                if closed {
                    self.inbox.close(&channel, &why);
                }
            }
        }
        self.store.state.journal = None;
        self.inbox
            .done(&mut self.store.state, &post, &channel, created);
        Ok(())
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
        let state = &mut self.store.state;
        state.journal = None;
        self.inbox
            .done(state, &post.id, &post.channel_id, post.create_at);
        Ok(())
    }

    /// The post as it is at present; nothing if it was deleted or cannot be read any more.
    fn look_again(&self, post: &PostId) -> Result<Option<Post>, Trouble> {
        match self.client.post(post) {
            Ok(post) if post.delete_at.0 == 0 => Ok(Some(post)),
            Ok(_) => Ok(None),
            Err(error) if error.is_closed() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Mentions are by name, and names change.
    fn refresh_name(&mut self) -> Result<(), Trouble> {
        let now = self.times.clock.now();
        if self.config.mattermost.mentions_matter() && now - self.name_checked > self.times.recheck
        {
            self.me = self.client.me()?;
            self.name_checked = now;
        }
        Ok(())
    }
}

/// Most posts are not for the bot: that is no news.
fn tell_ignored(post: &Post, reason: Reason) {
    debug!(
        "post {} by {} gets no answer: {reason}",
        post.id, post.user_id
    );
}
