//! The end of a run: what is left to do, and how a bot stops.

use log::debug;

use super::{Bot, Unsaved};

/// Whether anything is left to do, for a bot that is to end when nothing is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    UnderWay,
    Done,
    /// What is left fails again and again: the number of answers.
    Failing(usize),
    /// The one channel of the configuration cannot be read or written to.
    Closed,
}

impl Bot {
    /// Whether anything is left to do.
    pub(crate) fn work(&mut self) -> Work {
        if !self.polled || self.inbox.is_due(&self.store.state) || self.now() < self.held_until {
            return Work::UnderWay;
        }
        let only = &self.config.mattermost.channel_id;
        if only.as_ref().is_some_and(|only| !self.is_open(only)) {
            return Work::Closed;
        }
        let answers = self.store.state.answers.values();
        let answers = answers.filter(|answer| self.is_open(&answer.channel));
        let waiting = self.inbox.waiting();
        let waiting = waiting.filter(|waiting| self.is_open(&waiting.post.channel_id));
        let failing: Vec<bool> = answers
            .map(|answer| answer.is_failing())
            .chain(waiting.map(|waiting| waiting.patience.is_failing()))
            .collect();
        if failing.contains(&false) {
            return Work::UnderWay;
        }
        match failing.len() {
            0 => Work::Done,
            count => Work::Failing(count),
        }
    }

    /// Takes up nothing new, so that the program can be started anew; or goes on after all.
    pub(crate) fn close(&mut self, closing: bool) {
        self.closing = closing;
    }

    /// Whether a worker is making an answer.
    pub(crate) fn is_at_work(&self) -> bool {
        let answers = &mut self.store.state.answers.values();
        answers.any(|answer| answer.worker().is_some())
    }

    /// Ends on purpose: the workers with it. What was begun is begun again by the next run, or by this
    /// one if it goes on after all.
    pub(crate) fn end(&mut self) {
        self.desk.stop_all();
        self.store.state.orderly = true;
        if let Err(error) = self.store.save() {
            debug!("the state cannot be written at the end: {error}");
        }
        self.store.state.orderly = false;
        let answers = self.store.state.answers.values_mut();
        for answer in answers.filter(|answer| answer.worker().is_some()) {
            answer.live.wait_again();
        }
        self.changed(Unsaved::BeforeNext);
    }
}
