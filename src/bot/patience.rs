//! How long the requests that one message needs may fail, while others succeed, until it is done
//! without what they would bring.

use std::time::Duration;

use crate::mattermost::PostId;

/// Patience lasts at least so long.
const MIN_DURATION: Duration = Duration::from_secs(300);
/// And at least so many failures.
const MIN_FAILURES: u32 = 5;

/// The message that is in trouble, if there is one, and how long it has been.
#[derive(Default)]
pub struct Patience {
    post: PostId,
    since: Duration,
    failures: u32,
    over: bool,
}

impl Patience {
    /// Notes that a request for `post` failed: whether patience ends with that.
    pub fn fails(&mut self, post: &PostId, now: Duration) -> bool {
        if self.post != *post {
            *self = Patience {
                post: post.clone(),
                since: now,
                ..Patience::default()
            };
        }
        self.failures += 1;
        let over = self.failures >= MIN_FAILURES && now.saturating_sub(self.since) >= MIN_DURATION;
        over && !std::mem::replace(&mut self.over, true)
    }

    /// Whether `post` is to be done without what its requests would bring.
    pub fn is_over(&self, post: &PostId) -> bool {
        self.over && self.post == *post
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_once_after_minutes_and_several_failures_of_one_post() {
        let cases: [(&str, &[u64], usize); 4] = [
            ("often, but not long", &[0, 1, 3, 7, 15, 31, 63, 123], 0),
            ("long, but not often", &[0, 100, 200, 900], 0),
            (
                "both",
                &[0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363],
                1,
            ),
            ("an outage in between", &[0, 900, 960, 1020, 1080], 1),
        ];
        for (name, seconds, ends) in cases {
            let (post, mut patience) = ("a".into(), Patience::default());
            let now = |second: &u64| Duration::from_secs(*second);
            let over = seconds
                .iter()
                .filter(|second| patience.fails(&post, now(second)));
            assert_eq!(over.count(), ends, "{name}");
            assert_eq!(patience.is_over(&post), ends > 0, "{name}");
            assert!(!patience.is_over(&"b".into()), "{name}");
            patience.fails(&"b".into(), Duration::from_secs(9_999));
            assert!(!patience.is_over(&post), "{name}");
        }
    }
}
