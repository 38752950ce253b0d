//! The loop: look, read, take up, tend, settle, rest. It never waits for a model, and no step blocks
//! for longer than a request to Mattermost.
//!
//! | step | file |
//! |---|---|
//! | look whether the server shows something new; read it | `read` |
//! | take up what waits: whose turn it is, what the model is told, a worker | `take_up`, `turn`, `find`, `gather` |
//! | tend what is at work and what waits: "typing", edits, stops | `tend`, `watch` |
//! | settle what workers report; show it while it grows; deliver it | `settle`, `grow`, `draft`, `deliver` |
//! | rest until a worker reports or something is due | here |

mod copy;
mod deliver;
mod draft;
mod end;
mod find;
mod gather;
mod grow;
mod help;
mod limits;
mod opening;
mod read;
mod record;
mod settle;
mod start;
mod take_up;
mod tend;
mod turn;
mod watch;
mod withdraw;
mod words;

use std::rc::Rc;
use std::time::Duration;

use crate::answers::Stage;
use crate::config::Config;
use crate::conversation::Names;
use crate::desk::Desk;
use crate::exit::Exit;
use crate::inbox::{Inbox, Scope};
use crate::mattermost::User;
use crate::mattermost::client::{ApiError, Client};
use crate::outage::Outage;
use crate::outage::Trouble;
use crate::outbox::Outbox;
use crate::state::Store;
use crate::times::{Calendar, Times};
pub(crate) use end::Work;
use start::Starts;
use tend::Tender;

/// A bot that polls and answers.
pub(crate) struct Bot {
    config: Config,
    client: Rc<Client>,
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
    calendar: Calendar,
    /// After a 429 the refused request is tried once before the next look. Only once, so that looks go
    /// on as well.
    look_put_off: bool,
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
pub(crate) enum Pace {
    /// There may be more to do at once.
    Moved,
    /// Nothing is to be done before this, unless a worker reports.
    Rest(Duration),
}

impl Bot {
    /// `me`: the bot's own account, and the server's longest post, in characters.
    pub(crate) fn new(
        config: Config,
        client: Client,
        desk: Box<dyn Desk>,
        store: Store,
        times: Times,
        outage: Outage,
        (me, post_limit): (User, usize),
    ) -> Bot {
        let settings = &config.mattermost;
        let (client, now) = (Rc::new(client), times.clock.now());
        Bot {
            inbox: Inbox::new(Scope {
                client: client.clone(),
                channel: settings.channel_id.clone(),
                bot: me.id.clone(),
                catch_up: Duration::from_secs(settings.catch_up_secs),
                times: times.clone(),
            }),
            outbox: Outbox::new(times.clone(), me.id.clone(), settings.allow_unsafe_links),
            names: Names::default(),
            tender: Tender::default(),
            starts: Starts::default(),
            unsaved: if store.state.answers.is_empty() {
                Unsaved::Nothing
            } else {
                // Deaths were counted.
                Unsaved::BeforeNext
            },
            poll_due: now,
            fallback_told: None,
            edit_due: Duration::ZERO,
            held_until: Duration::ZERO,
            name_checked: now,
            calendar: Calendar::default(),
            look_put_off: false,
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
    pub(crate) fn step(&mut self) -> Result<Pace, Exit> {
        match self.next_step() {
            Ok(pace) => Ok(pace),
            Err(trouble) => {
                let pause = self.outage.failed(&trouble, self.client.served())?;
                self.held_until = self.now() + pause;
                // What was refused goes first: looks could use up all that the server lets through.
                let refused = matches!(trouble, Trouble::Api(ApiError::RateLimited(_)));
                let put_off = refused && !std::mem::replace(&mut self.look_put_off, true);
                let apart = self.times.poll.min(Duration::from_secs(put_off.into()));
                self.poll_due = self.poll_due.max(self.held_until + apart);
                Ok(Pace::Rest(self.held_until))
            }
        }
    }

    /// As `step`, for a bot that waits for no server: any trouble is an error.
    pub(crate) fn try_step(&mut self) -> Result<Pace, Exit> {
        self.next_step()
            .map_err(|trouble| Exit::Failure(trouble.to_string()))
    }

    /// What workers report is taken in at once; of all else one thing is done, mostly by one request.
    fn next_step(&mut self) -> Result<Pace, Trouble> {
        self.notice_sleep();
        self.settle();
        if self.now() < self.held_until {
            // Tried again with the next step, also where the disk is what holds all up.
            let _ = self.save(Unsaved::BeforeRest);
            return Ok(Pace::Rest(self.held_until));
        }
        self.save(Unsaved::BeforeNext)?;
        let moved = self.look()?
            || self.deliver()?
            || self.grow()?
            || self.tend_overdue()?
            || self.read()?
            || self.take_up()?
            || self.tend()?;
        if moved {
            return Ok(Pace::Moved);
        }
        self.save(Unsaved::BeforeRest)?;
        Ok(Pace::Rest(self.next_due()))
    }

    /// After a sleep of the machine, or when its calendar was set forward, no post is repeated under its
    /// old id: the server may have forgotten that.
    fn notice_sleep(&mut self) {
        if self.calendar.ran_ahead(&*self.times.clock) < Duration::from_secs(1) {
            return;
        }
        for answer in self.store.state.answers.values_mut() {
            let opening = answer.live.opening.unclear.as_mut();
            let part = match &mut answer.live.stage {
                Stage::Deliver(progress) => progress.unclear.as_mut(),
                _ => None,
            };
            for unclear in opening.into_iter().chain(part) {
                unclear.repeat_until = Duration::ZERO;
            }
        }
    }

    /// Sleeps until a worker reports, or until the time has come.
    pub(crate) fn rest(&mut self, until: Duration) {
        self.desk.rest(until);
    }

    /// When there is something to do, if no worker reports before.
    fn next_due(&self) -> Duration {
        let now = self.now();
        let answers = self.store.state.answers.values().map(|answer| {
            let grows = answer.worker().is_some() && answer.live.grew;
            if grows && answer.live.growth.unsettled_until.is_none() {
                let due = answer.live.growth.due.max(self.edit_due);
                due.max(answer.live.due)
            } else {
                answer.live.due
            }
        });
        let waiting = self.inbox.waiting().map(|waiting| waiting.due);
        let due = answers
            .chain(waiting)
            .chain(self.inbox.reopenings(&self.store.state))
            .chain(self.tender.due())
            .chain(self.starts.due());
        let later = due.filter(|due| *due > now);
        later.fold(self.poll_due, Duration::min)
    }

    fn now(&self) -> Duration {
        self.times.clock.now()
    }

    fn changed(&mut self, unsaved: Unsaved) {
        self.unsaved = self.unsaved.max(unsaved);
    }

    /// Writes the state if something is unsaved that must not stay so.
    fn save(&mut self, at_least: Unsaved) -> Result<(), Trouble> {
        if self.unsaved >= at_least {
            self.store.save()?;
            self.unsaved = Unsaved::Nothing;
        }
        Ok(())
    }
}
