//! A growing answer: when its post is made and edited, and what of it. Pure; `bot/grow.rs` does it.

use std::time::Duration;

/// The post is made at this many characters, or this long after the first.
const FIRST_CHARS: usize = 200;
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// The longest pause between two edits; the first is a second, and it doubles. An answer of a minute
/// has at most 12 edits.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What this run knows of a growing post. Durations are by the clock of `Times`.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// When the first text came.
    pub began: Option<Duration>,
    /// What the post shows, as it was last sent and taken.
    pub text: String,
    /// How often the post was made or edited.
    pub edits: u32,
    /// No edit before this.
    pub due: Duration,
    /// An edit may be on its way until then: edits do not commute, so there are no more but the last
    /// one, and that is looked at afterwards.
    pub unsettled_until: Option<Duration>,
    /// The server takes no more edits.
    pub refused: bool,
}

impl Growth {
    /// Whether the post is to be made, with `chars` characters to show.
    pub(crate) fn may_open(&mut self, chars: usize, now: Duration) -> bool {
        let began = *self.began.get_or_insert(now);
        chars > 0
            && !self.refused
            && now >= self.due
            && (chars >= FIRST_CHARS || now.saturating_sub(began) >= FIRST_WAIT)
    }

    /// When the post is to be made at the latest.
    pub(crate) fn opens_at(&self) -> Option<Duration> {
        self.began.map(|began| began + FIRST_WAIT)
    }

    /// Whether an edit may be made now.
    pub(crate) fn may_edit(&self, now: Duration) -> bool {
        !self.refused && self.unsettled_until.is_none() && now >= self.due
    }

    /// Notes that `text` was taken, by the first post or an edit. `least`: the shortest pause.
    pub(crate) fn shows(&mut self, text: String, now: Duration, least: Duration) {
        let pause = Duration::from_secs(1 << self.edits.min(10)).min(LONGEST_PAUSE);
        self.edits += 1;
        self.due = now + pause.max(least);
        self.text = text;
    }
}

/// What is left of `parts` where `shown` stands and takes no edit, as parts of their own; nothing: it
/// does not begin this answer.
pub(crate) fn rest(parts: &[String], shown: &str) -> Option<Vec<String>> {
    let (first, others) = parts.split_first()?;
    let rest = first.strip_prefix(shown)?.trim_start();
    if shown.is_empty() {
        return None;
    }
    let rest = (!rest.is_empty()).then(|| rest.to_owned());
    Some(rest.into_iter().chain(others.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_post_is_made_early_and_edited_ever_more_rarely() {
        let secs = Duration::from_secs;
        let mut growth = Growth::default();
        assert!(!growth.may_open(0, secs(10)));
        assert!(!growth.may_open(20, secs(11)));
        assert!(growth.may_open(200, secs(11)));
        assert!(growth.may_open(20, secs(13)));
        let mut now = secs(13);
        let mut at = Vec::new();
        while now < secs(73) {
            if growth.may_edit(now) {
                growth.shows("text".into(), now, secs(1));
                at.push(now.as_secs() - 13);
            }
            now += secs(1);
        }
        assert_eq!(at, [0, 1, 3, 7, 15, 23, 31, 39, 47, 55]);
        growth.unsettled_until = Some(secs(200));
        assert!(!growth.may_edit(secs(300)));
    }

    #[test]
    fn what_takes_no_edit_is_gone_on_with_only_if_it_begins_the_answer() {
        let parts = |list: &[&str]| list.iter().map(|part| part.to_string()).collect::<Vec<_>>();
        for (shown, whole, left) in [
            ("one", &["one two"][..], Some(&["two"][..])),
            ("one", &["one"], Some(&[])),
            ("one", &["one two", "three"], Some(&["two", "three"])),
            ("other", &["one two"], None),
            ("", &["one"], None),
            ("one two", &["one", "two"], None),
        ] {
            assert_eq!(rest(&parts(whole), shown), left.map(parts), "{shown}");
        }
    }
}
