//! The loop: look, read, take up, tend, settle, rest. It never waits for a model, and no step blocks
//! for longer than a request to Mattermost.

mod copy;
mod deliver;
mod footer;
mod grow;
mod limits;
mod settle;
mod start;
mod take_up;
mod tend;
mod words;

use std::collections::HashMap;
use std::time::Duration;

use log::{debug, info};

use crate::answers::Stage;
use crate::config::Config;
use crate::conversation::Names;
use crate::desk::Desk;
use crate::exit::Exit;
use crate::filter::{self, Reason, Verdict};
use crate::inbox::{Inbox, Scope, Wish};
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{Post, PostId, User, UserId};
use crate::outage::Outage;
use crate::outbox::{Outbox, Trouble};
use crate::reply::{self, ReplyOptions};
use crate::state::Store;
use crate::times::Times;
use start::Starts;
use tend::Tender;

/// A bot that polls and answers.
pub struct Bot {
    config: Config,
    client: Client,
    store: Store,
    times: Times,
    me: User,
    inbox: Inbox,
    desk: Box<dyn Desk>,
    outbox: Outbox,
    outage: Outage,
    names: Names,
    tender: Tender,
    starts: Starts,
    /// The longest post, in characters.
    post_limit: usize,
    poll_due: Duration,
    /// When the log last said that another than the first provider answers.
    fallback_told: Option<Duration>,
    /// No growing answer is edited before this.
    edit_due: Duration,
    /// After a failure: no request before this.
    held_until: Duration,
    name_checked: Duration,
    /// The state was changed: by something that has to be on disk before the next step, or by
    /// something that the server shows as well.
    unsaved: Unsaved,
    /// No new answer is taken up: the program is about to be started anew.
    closing: bool,
    polled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unsaved {
    Nothing,
    BeforeRest,
    BeforeNext,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// There may be more to do at once.
    Moved,
    /// Nothing is to be done before this, unless a worker reports.
    Rest(Duration),
}

/// Whether anything is left to do, for a bot that is to end when nothing is.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    UnderWay,
    Done,
    /// What is left fails again and again: so many answers.
    Failing(usize),
}

impl Bot {
    /// `me`: the bot's own account, and the server's longest post, in characters.
    pub fn new(
        config: Config,
        client: Client,
        desk: Box<dyn Desk>,
        store: Store,
        times: Times,
        outage: Outage,
        (me, post_limit): (User, usize),
    ) -> Bot {
        let settings = &config.mattermost;
        let now = times.clock.now();
        Bot {
            inbox: Inbox::new(Scope {
                channel: settings.channel_id.clone(),
                bot: me.id.clone(),
                catch_up: Duration::from_secs(settings.catch_up_secs),
                times: times.clone(),
            }),
            outbox: Outbox::new(times.clone(), me.id.clone(), settings.allow_unsafe_links),
            names: Names::default(),
            tender: Tender::default(),
            starts: Starts::default(),
            unsaved: match store.state.answers.is_empty() {
                true => Unsaved::Nothing,
                // Deaths were counted.
                false => Unsaved::BeforeNext,
            },
            poll_due: now,
            fallback_told: None,
            edit_due: Duration::ZERO,
            held_until: Duration::ZERO,
            name_checked: now,
            closing: false,
            polled: false,
            desk,
            outage,
            post_limit,
            config,
            client,
            store,
            times,
            me,
        }
    }

    /// Does the next thing. An error means that there is no use in going on.
    pub fn step(&mut self) -> Result<Pace, Exit> {
        match self.next_step() {
            Ok(pace) => Ok(pace),
            Err(trouble) => {
                let pause = self.outage.failed(&trouble)?;
                self.held_until = self.now() + pause;
                self.poll_due = self.poll_due.max(self.held_until);
                Ok(Pace::Rest(self.held_until))
            }
        }
    }

    /// As `step`, for a bot that waits for no server: any trouble is an error.
    pub fn try_step(&mut self) -> Result<Pace, Exit> {
        self.next_step()
            .map_err(|trouble| Exit::Failure(trouble.to_string()))
    }

    fn next_step(&mut self) -> Result<Pace, Trouble> {
        self.settle();
        let now = self.now();
        if now < self.held_until {
            return Ok(Pace::Rest(self.held_until));
        }
        self.save(Unsaved::BeforeNext)?;
        let moved = if now >= self.poll_due {
            self.look()?;
            true
        } else {
            self.deliver()? || self.grow()? || self.read()? || self.take_up()? || self.tend()?
        };
        if moved {
            return Ok(Pace::Moved);
        }
        self.save(Unsaved::BeforeRest)?;
        Ok(Pace::Rest(self.next_due()))
    }

    /// Sleeps until a worker reports, or until the time has come.
    pub fn rest(&mut self, until: Duration) {
        self.desk.rest(until);
    }

    /// Asks the server whether there is something to read.
    fn look(&mut self) -> Result<(), Trouble> {
        let changed = self.inbox.look(&self.client, &mut self.store.state)?;
        self.polled = true;
        self.poll_due = self.now() + self.times.poll;
        self.outage.went_well();
        if changed {
            self.drop_strays();
            self.store.save()?;
        }
        if self.inbox.is_due(&self.store.state) {
            self.refresh_name()?;
        }
        Ok(())
    }

    /// Reads one channel that shows something new: whether there was one.
    fn read(&mut self) -> Result<bool, Trouble> {
        if !self.inbox.is_due(&self.store.state) {
            return Ok(false);
        }
        let (bot, settings) = (&self.me, &self.config.mattermost);
        let wanted = |post: &Post, direct| match filter::verdict(post, direct, bot, settings) {
            Verdict::Answer => Wish::Answer,
            Verdict::IfFollowed => Wish::IfFollowed,
            Verdict::Word(word) => Wish::Word(word),
            Verdict::Ignore(reason) => {
                tell_ignored(post, reason);
                Wish::Drop
            }
        };
        let state = &mut self.store.state;
        match self.inbox.read(&self.client, state, &wanted) {
            Ok(channel) => {
                self.changed(Unsaved::BeforeRest);
                self.drop_strays();
                Ok(channel.is_some())
            }
            Err(error) if error.may_last() => {
                self.outage.note(&error.into());
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends what belongs to channels that the bot has left, or to the time before it came into them.
    fn drop_strays(&mut self) {
        let channels = &self.store.state.channels;
        let is_stray = |answer: &crate::answers::Answer| {
            let known = channels.get(&answer.channel);
            known.is_none_or(|cursor| answer.create_at <= cursor.floor)
        };
        let answers = self.store.state.answers.iter();
        let strays = answers.filter(|(_, answer)| is_stray(answer));
        let strays: Vec<PostId> = strays.map(|(id, _)| id.clone()).collect();
        for id in strays {
            if let Some(answer) = self.store.state.answers.remove(&id) {
                info!("post {id} gets no answer: the bot is not in its channel any more");
                answer
                    .worker()
                    .into_iter()
                    .for_each(|worker| self.desk.stop(worker));
            }
        }
    }

    /// Mentions are by name, and names change.
    fn refresh_name(&mut self) -> Result<(), Trouble> {
        let now = self.now();
        if self.config.mattermost.mentions_matter() && now - self.name_checked > self.times.recheck
        {
            self.me.username = self.client.me()?.username;
            self.name_checked = now;
        }
        Ok(())
    }

    /// When there is something to do, if no worker reports before.
    fn next_due(&self) -> Duration {
        let now = self.now();
        let answers = self.store.state.answers.values().map(|answer| {
            let grows = answer.worker().is_some() && answer.live.grew;
            match grows && answer.live.growth.unsettled_until.is_none() {
                true => answer.live.growth.due.max(self.edit_due),
                false => answer.live.due,
            }
        });
        let waiting = self.inbox.waiting().map(|waiting| waiting.due);
        let due = answers
            .chain(waiting)
            .chain(self.tender.due())
            .chain(self.starts.due());
        let later = due.filter(|due| *due > now);
        later.fold(self.poll_due, Duration::min)
    }

    /// Ends with a post that needs nothing more.
    fn handled(&mut self, id: &PostId) {
        if let Some(answer) = self.store.state.answers.remove(id) {
            answer
                .worker()
                .into_iter()
                .for_each(|worker| self.desk.stop(worker));
            let state = &mut self.store.state;
            self.inbox
                .done(state, id, &answer.channel, answer.create_at);
            self.changed(Unsaved::BeforeRest);
        }
    }

    /// Ends with a post that gets no answer though it should have had one.
    fn give_up(&mut self, id: &PostId, why: &str) {
        info!("post {id} gets no answer: {why}");
        self.withdraw(id);
    }

    /// A request for one answer failed: what may be this answer's trouble alone puts it off.
    fn put_off(&mut self, id: &PostId, error: ApiError) -> Result<(), Trouble> {
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
    fn look_again(&self, id: &PostId) -> Result<Option<Post>, ApiError> {
        match self.client.post(id) {
            Ok(post) if post.delete_at.0 == 0 => Ok(Some(post)),
            Ok(_) => Ok(None),
            Err(error) if error.is_closed() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn reply_options(&self) -> ReplyOptions {
        ReplyOptions {
            allow_unsafe_links: self.config.mattermost.allow_unsafe_links,
        }
    }

    fn parts(&self, text: &str) -> Vec<String> {
        reply::parts(text, self.post_limit, &self.reply_options())
    }

    fn now(&self) -> Duration {
        self.times.clock.now()
    }

    fn changed(&mut self, unsaved: Unsaved) {
        self.unsaved = self.unsaved.max(unsaved);
    }

    /// Writes the state if something is unsaved that must not stay so.
    fn save(&mut self, at_least: Unsaved) -> Result<(), Trouble> {
        if self.unsaved >= at_least && self.unsaved > Unsaved::Nothing {
            self.store.save()?;
            self.unsaved = Unsaved::Nothing;
        }
        Ok(())
    }

    /// Whether anything is left to do.
    pub fn work(&mut self) -> Work {
        if !self.polled || self.inbox.is_due(&self.store.state) || self.now() < self.held_until {
            return Work::UnderWay;
        }
        let state = &self.store.state;
        let is_open = |channel| self.inbox.is_open(state, channel);
        let mut failing = 0;
        for answer in state
            .answers
            .values()
            .filter(|answer| is_open(&answer.channel))
        {
            if !answer.is_failing() {
                return Work::UnderWay;
            }
            failing += 1;
        }
        for waiting in self
            .inbox
            .waiting()
            .filter(|waiting| is_open(&waiting.post.channel_id))
        {
            if waiting.due <= self.now() {
                return Work::UnderWay;
            }
            failing += 1;
        }
        match failing {
            0 => Work::Done,
            failing => Work::Failing(failing),
        }
    }

    /// Takes up nothing new, so that the program can be started anew; or goes on after all.
    pub fn close(&mut self, closing: bool) {
        self.closing = closing;
    }

    /// Whether a worker is making an answer.
    pub fn is_at_work(&self) -> bool {
        let answers = &mut self.store.state.answers.values();
        answers.any(|answer| matches!(answer.live.stage, Stage::AtWork(_)))
    }

    /// Ends on purpose: the workers with it. What was begun is begun again by the next run.
    pub fn end(&mut self) {
        self.desk.stop_all();
        self.store.state.orderly = true;
        if let Err(error) = self.store.save() {
            debug!("the state cannot be written at the end: {error}");
        }
    }
}

/// By person, when the last answer to them was begun: a number that grows.
type LastStart = HashMap<UserId, u64>;

/// Most posts are not for the bot: that is no news.
fn tell_ignored(post: &Post, reason: Reason) {
    debug!(
        "post {} by {} gets no answer: {reason}",
        post.id, post.user_id
    );
}
