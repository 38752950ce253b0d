//! What a failed round means: how long to pause, what to log, and when to give up.

use std::fmt;
use std::io;
use std::time::Duration;

use log::{info, warn};

use crate::exit::Exit;
use crate::mattermost::client::ApiError;
use crate::times::Times;

/// A server may ask for any pause; after this one it is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(900);
/// What fails again within this after an outage belongs to it: a server of which every second request
/// fails is one outage, and two lines in the log.
const SETTLED: Duration = Duration::from_secs(60);

/// Why the loop cannot go on at present. Nothing is lost.
#[derive(Debug)]
pub(crate) enum Trouble {
    Api(ApiError),
    /// The state file cannot be written.
    Disk(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Api(error) => error.fmt(f),
            Trouble::Disk(error) => write!(
                f,
                "the state file cannot be written: {error}; no answer is begun until it can be"
            ),
        }
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Trouble::Api(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Disk(error)
    }
}

/// One outage at most is under way. It is logged when it begins and when it is sure to have ended.
pub(crate) struct Outage {
    times: Times,
    since: Option<Duration>,
    /// Since when all is well.
    well: Option<Duration>,
    failures: u32,
    pause: Duration,
    /// How many requests had been served when the last failure came.
    served: u32,
    /// Since when the server refuses the token without a pause.
    unauthorized: Option<Duration>,
}

impl Outage {
    /// No failure so far.
    pub(crate) fn new(times: Times) -> Outage {
        Outage {
            pause: times.poll.min(times.backoff_max),
            served: 0,
            times,
            since: None,
            well: None,
            failures: 0,
            unauthorized: None,
        }
    }

    /// A look went well.
    pub(crate) fn went_well(&mut self) {
        if let Some(since) = self.since {
            let now = self.times.clock.now();
            let well = *self.well.get_or_insert(now);
            if now.saturating_sub(well) >= SETTLED {
                let (lasted, failures) = (well.saturating_sub(since).as_secs(), self.failures);
                info!(
                    "all is well again, for {} s now, after {lasted} s and {failures} failed tries",
                    SETTLED.as_secs()
                );
                self.since = None;
            }
        }
        self.pause = self.shortest();
        self.unauthorized = None;
    }

    fn shortest(&self) -> Duration {
        self.times.poll.min(self.times.backoff_max)
    }

    /// Something failed that does not hold up the rest.
    pub(crate) fn note(&mut self, trouble: &Trouble) {
        self.well = None;
        if self.since.is_none() {
            self.since = Some(self.times.clock.now());
            self.failures = 0;
            warn!("{trouble}; trying again");
        }
        self.failures += 1;
    }

    /// The server cannot be asked: how long to wait before the next, or that there is no use in going on.
    /// `served`: how many requests got through so far. While a rate limit lets some through, its pauses
    /// stay short.
    pub(crate) fn failed(&mut self, trouble: &Trouble, served: u32) -> Result<Duration, Exit> {
        let now = self.times.clock.now();
        match trouble {
            Trouble::Api(error @ ApiError::Unauthorized(_)) => {
                // A server whose database is down says the same.
                let since = *self.unauthorized.get_or_insert(now);
                if now.saturating_sub(since) >= self.times.unauthorized {
                    return Err(Exit::Token(error.to_string()));
                }
            }
            _ => self.unauthorized = None,
        }
        self.note(trouble);
        if let Trouble::Api(ApiError::RateLimited(_)) = trouble
            && served != self.served
        {
            self.pause = self.shortest();
        }
        self.served = served;
        let pause = match trouble {
            Trouble::Api(ApiError::RateLimited(Some(wait))) => {
                self.pause.max((*wait).min(LONGEST_WAIT))
            }
            _ => self.pause,
        };
        self.pause = (self.pause * 2).min(self.times.backoff_max);
        Ok(pause)
    }
}
