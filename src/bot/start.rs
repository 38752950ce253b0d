//! The start of workers: who was served when, and the pause after a start that failed.

use std::time::Duration;

use log::warn;

use crate::mattermost::UserId;
use crate::sorted::Map;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two lines of the log. Where only few can be started at once, every second start fails.
const TOLD_EVERY: Duration = Duration::from_secs(600);
/// People whose last start is remembered.
const PEOPLE: usize = 10_000;

/// By person, when the last answer to them was begun: a number that grows.
type LastStart = Map<UserId, u64>;

/// What the turn order and the desk need to know of earlier starts.
#[derive(Default)]
pub(super) struct Starts {
    count: u64,
    last: LastStart,
    /// After a start that failed (too many processes, no memory).
    pause: Duration,
    due: Option<Duration>,
    /// When the log was told of it.
    told: Option<Duration>,
}

impl Starts {
    /// Notes that an answer to `person` is taken up.
    pub(super) fn begin(&mut self, person: &UserId) {
        if self.last.len() >= PEOPLE {
            self.last.clear();
        }
        self.count += 1;
        self.last.insert(person.clone(), self.count);
    }

    /// A number that grows with each answer taken up, as it was at the person's last one; 0: none.
    pub(super) fn last(&self, person: &UserId) -> u64 {
        self.last.get(person).copied().unwrap_or(0)
    }

    /// A worker was started.
    pub(super) fn went_well(&mut self) {
        (self.pause, self.due) = (Duration::ZERO, None);
    }

    /// No worker could be started: the next try is later, one line in the log.
    pub(super) fn failed(&mut self, now: Duration, error: &std::io::Error) {
        if self.told.is_none_or(|told| now >= told + TOLD_EVERY) {
            warn!("no worker can be started: {error}; trying again, at most a minute apart");
            self.told = Some(now);
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.due = Some(now + self.pause);
    }

    /// A worker ended. Its memory and descriptors may be what the next one lacked.
    pub(super) fn freed(&mut self) {
        self.due = None;
    }

    /// When the next start may be tried; nothing: at any time.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Whether a worker may be started now.
    pub(super) fn may_start(&self, now: Duration) -> bool {
        self.due.is_none_or(|due| now >= due)
    }
}
