//! The loop: inbox → filter → conversation → provider → reply → outbox, one message at a time.

mod message;
mod patience;

use std::rc::Rc;
use std::time::Duration;

use crate::answer::Answerer;
use crate::config::Config;
use crate::filter::{self, Verdict};
use crate::inbox::{Inbox, Scope};
use crate::mattermost::client::Client;
use crate::mattermost::{Post, PostId, User, UserId};
use crate::outbox::{Outbox, Trouble};
use crate::state::{Journal, Store};
use crate::times::Times;
use message::{may_last, tell_ignored};
use patience::Patience;

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
    patience: Patience,
    /// What the journal said of a post that an earlier run began, while it says something of another.
    earlier: Option<Journal>,
    /// Answers that were made and may not be posted where they belong: few, one in a channel.
    held: Vec<Journal>,
    name_checked: Duration,
}

/// What came of a round.
pub struct Round {
    /// There is more to read at once.
    pub more: bool,
    /// Something was taken up or passed. Where nothing was, reading at once may bring the same again.
    pub moved: bool,
}

impl Bot {
    /// `me`: the bot's own account. `post_limit`: the server's longest post, in characters.
    pub fn new(
        config: Config,
        client: Client,
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
            answerer: Answerer::new(config.clone(), client.clone(), times.clone()),
            outbox: Outbox::new(times.clone(), me.id.clone(), settings.allow_unsafe_links),
            name_checked: times.clock.now(),
            asked: None,
            patience: Patience::default(),
            earlier: None,
            held: Vec::new(),
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
        let mut unread = None;
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
            unread = self
                .inbox
                .read(&self.client, &mut self.store.state, &wanted)?;
        }
        let all_read = unread.is_none() && !self.inbox.is_due();
        let begun = self.begun_before(all_read);
        let mut failed = 0;
        while let Some(waiting) = self.inbox.next(begun.as_ref()) {
            answered = true;
            let channel = waiting.post.channel_id.clone();
            match self.answer(waiting) {
                // One question in trouble does not hold up the other channels, unless its answer is
                // on its way; a server in trouble ends this.
                Err(Trouble::Api(error))
                    if may_last(&error) && !self.is_delivering() && failed < 3 =>
                {
                    failed += 1;
                    unread = Some(error);
                    self.inbox.pass_over(&channel);
                }
                result => result?,
            }
        }
        if busy || answered {
            self.store.save()?;
        }
        if let Some(error) = unread {
            return Err(error.into());
        }
        Ok(Round {
            more: self.inbox.is_due(),
            moved: answered || self.inbox.walked(),
        })
    }

    /// Whether the journal holds an answer.
    fn is_delivering(&self) -> bool {
        let journal = self.store.state.journal.as_ref();
        journal.is_some_and(|journal| journal.draft.is_some())
    }

    /// The post whose answer an earlier run began and did not finish. `all_read`: if it does not wait,
    /// it was deleted meanwhile, or is answered.
    fn begun_before(&mut self, all_read: bool) -> Option<PostId> {
        let post = self.store.state.journal.as_ref()?.post.clone();
        if self.inbox.waits(&post) {
            return Some(post);
        }
        if all_read {
            self.store.state.journal = None;
        }
        None
    }

    /// Mentions are by name, and names change.
    fn refresh_name(&mut self) -> Result<(), Trouble> {
        let now = self.times.clock.now();
        if self.config.mattermost.mentions_matter() && now - self.name_checked > self.times.recheck
        {
            self.me.username = self.client.me()?.username;
            self.name_checked = now;
        }
        Ok(())
    }
}
