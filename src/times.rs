//! Every duration the program waits for, and the clock it waits on, as one value: tests run months
//! in seconds by passing another.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// What the loop and all that it decides ask of time. Where sockets and child processes are waited for
/// (`http`, `provider`, a worker, programs), `Instant` counts real time: no test's clock moves those.
pub trait Clock {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;
    /// The calendar's time: it tells the model today's date, and the loop that
    /// the machine has slept.
    fn today(&self) -> SystemTime;
    /// Called around every step that outlives the process. A test's clock ends the process here.
    fn checkpoint(&self, _step: Step) {}
}

/// A clock that can be slept on. The loop's has no such thing: only its desk rests.
pub trait Sleep: Clock {
    /// Blocks for `duration`.
    fn sleep(&self, duration: Duration);
}

/// A moment at which a crash leaves something behind for the next run to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A request is about to be sent.
    BeforeRequest,
    /// Its response was read.
    AfterResponse,
    /// The new state file is written and not in its place.
    BeforeRename,
    /// It is in its place.
    AfterRename,
}

/// The operating system's clock.
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn today(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl Sleep for SystemClock {
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Notices that the machine slept: its clock stands still meanwhile, and its calendar goes on.
#[derive(Default)]
pub(crate) struct Calendar(Option<Duration>);

impl Calendar {
    /// How far the calendar ran ahead of the clock since the last call: how long the machine slept, or
    /// by how much its calendar was set forward. Zero at the first call.
    pub(crate) fn ran_ahead(&mut self, clock: &dyn Clock) -> Duration {
        let today = clock.today().duration_since(SystemTime::UNIX_EPOCH);
        let ahead = today.unwrap_or_default().saturating_sub(clock.now());
        let known = self.0.replace(ahead).unwrap_or(ahead);
        ahead.saturating_sub(known)
    }
}

/// The day of `time` in UTC, as `2026-11-22`.
pub fn date(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Days in eras of 400 years that begin in March, so that leap days come last.
    let days = since.as_secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `time` in UTC to the second, as `2026-11-22T19:18:38Z`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let second = since.unwrap_or_default().as_secs() % 86_400;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{}T{hour:02}:{minute:02}:{:02}Z", date(time), second % 60)
}

/// The durations. `Default` is what the program runs with; the configuration sets only `poll`.
#[derive(Clone)]
pub struct Times {
    /// What tells the time.
    pub clock: Rc<dyn Clock>,
    /// Between two polls.
    pub poll: Duration,
    /// How long after its `create_at` a post may still become visible. Link previews delay a
    /// commit by 5 s each; 10 s was measured.
    pub window: Duration,
    /// How often the channel list is asked for without its ETag for `window` after a change.
    pub relist: Duration,
    /// Between two looks at which teams the bot is in, and whether a closed channel is open again.
    pub recheck: Duration,
    /// The longest pause between two tries while the server cannot be reached.
    pub backoff_max: Duration,
    /// Bounds any call but "typing", in real time. A server that fetches link previews before it answers
    /// keeps what it has fetched: a repeat gets through.
    pub call: Duration,
    /// Between two "typing" events: clients show one for 5 s.
    pub typing: Duration,
    /// A post that waited, or whose answer took, longer than this is looked at once more.
    pub stale: Duration,
    /// The server knows a `pending_post_id` for 30 s from the first try; a repeat is safe within this.
    pub repeat_within: Duration,
    /// After the last unclear try, how long until the server can be asked whether it took the post.
    pub ask_after: Duration,
    /// A 401 for longer than this while running means the token, not the server's database.
    pub unauthorized: Duration,
}

impl Times {
    /// How much older than the newest post of all lists the post may be by which the bot came into a
    /// channel that no list showed yet: a team is listed once it was looked up.
    pub(crate) fn entry_margin(&self) -> Duration {
        self.window + self.recheck
    }
}

impl Default for Times {
    fn default() -> Self {
        Times {
            clock: Rc::new(SystemClock::default()),
            poll: Duration::from_secs(1),
            window: Duration::from_secs(60),
            relist: Duration::from_secs(5),
            recheck: Duration::from_secs(60),
            backoff_max: Duration::from_secs(60),
            call: Duration::from_secs(10),
            typing: Duration::from_secs(4),
            stale: Duration::from_secs(2),
            repeat_within: Duration::from_secs(25),
            ask_after: Duration::from_secs(60),
            unauthorized: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_leaves_time_for_what_must_come_soon() {
        let times = Times::default();
        assert_eq!(times.call, Duration::from_secs(10));
        // Between two looks at the server, and for a repeat of a post.
        assert!(times.call + times.poll <= Duration::from_secs(11));
        assert!(times.call * 2 <= times.repeat_within);
        // As long as clients show it.
        assert!(times.typing < Duration::from_secs(5));
    }

    #[test]
    fn days_have_their_dates() {
        let cases = [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_709_251_200, "2024-03-01"),
            (1_795_392_000, "2026-11-23"),
            (4_107_542_400, "2100-03-01"),
        ];
        for (seconds, expected) in cases {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(date(time), expected);
        }
    }

    #[test]
    fn moments_have_their_timestamps() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_375_118);
        assert_eq!(timestamp(time), "2026-11-22T19:18:38Z");
    }
}
