//! For how long requests that one answer needs may fail while others succeed.

use std::time::Duration;

/// The shortest time before patience ends.
const MIN_DURATION: Duration = Duration::from_secs(300);
/// The fewest failures before it does.
const MIN_FAILURES: u32 = 5;
/// The pause after the first failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What has to pause for so long does not get better soon.
pub(super) const FAILING: Duration = Duration::from_secs(8);

/// How long the requests that one answer needs have failed while others succeeded: in the end it is
/// made without what they would bring.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Duration>,
    failures: u32,
    pause: Duration,
}

impl Patience {
    /// Notes that a request failed: how long to wait before the next.
    pub(crate) fn fails(&mut self, now: Duration) -> Duration {
        self.since.get_or_insert(now);
        self.failures += 1;
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.pause
    }

    /// Whether requests have failed several times in a row.
    pub(crate) fn is_failing(&self) -> bool {
        self.pause >= FAILING
    }

    /// Whether the answer is to be made without what its requests would bring.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        let since = self.since.unwrap_or(now);
        self.failures >= MIN_FAILURES && now.saturating_sub(since) >= MIN_DURATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_after_minutes_and_several_failures() {
        let cases: [(&str, &[u64], bool); 4] = [
            ("often, but not long", &[0, 1, 3, 7, 15, 31, 63, 123], false),
            ("long, but not often", &[0, 100, 200, 900], false),
            ("both", &[0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303], true),
            ("an outage in between", &[0, 900, 960, 1020, 1080], true),
        ];
        for (name, seconds, over) in cases {
            let mut patience = Patience::default();
            let mut last = Duration::ZERO;
            for second in seconds {
                last = Duration::from_secs(*second);
                patience.fails(last);
            }
            assert_eq!(patience.is_over(last), over, "{name}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut patience = Patience::default();
        let pauses: Vec<u64> = (0..8)
            .map(|_| patience.fails(Duration::ZERO).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
