//! What a draft needs next: a value of what is known of its parts, without I/O.

use std::time::Duration;

use crate::answers::{Progress, Unclear};

/// What a draft needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask the server which parts it has.
    Ask,
    /// Post this part.
    Post(u32),
    /// Post this part under a new name: nothing of the last try can be on its way any more.
    PostAnew(u32),
    /// Edit the post in which the answer grew: it becomes part 0.
    Edit,
    /// Look whether that edit was the last one that the server acted upon.
    Verify,
    Wait(Duration),
    Done,
}

/// `of`: the number of parts. `edits`: part 0 is an edit, which may be repeated at any time.
pub(crate) fn next(progress: &Progress, of: u32, edits: bool, now: Duration) -> Next {
    if !progress.asked {
        return Next::Ask;
    }
    let Some(part) = (0..of).find(|part| !progress.posted.contains(part)) else {
        return match progress.verify_at {
            None => Next::Done,
            Some(at) if now < at => Next::Wait(at),
            Some(_) => Next::Verify,
        };
    };
    if edits && part == 0 {
        return Next::Edit;
    }
    match progress.unclear {
        None => Next::Post(part),
        // A server that was restarted, or another one of a cluster, does not know the pending id, and
        // shows what it took.
        Some(Unclear { looked: None, .. }) => Next::Ask,
        Some(unclear) if now < unclear.repeat_until => Next::Post(part),
        // Any server may have forgotten it: only asking is safe, once it is sure that nothing of the
        // last try is still on its way.
        Some(unclear) if now < unclear.settled => Next::Wait(unclear.settled),
        Some(unclear) if unclear.looked < Some(unclear.settled) => Next::Ask,
        Some(_) => Next::PostAnew(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclear_part_is_asked_for_repeated_waited_for_and_posted_anew() {
        let secs = Duration::from_secs;
        let unclear = |looked: Option<u64>| {
            Some(Unclear {
                part: Some(1),
                repeat_until: secs(25),
                settled: secs(60),
                looked: looked.map(secs),
            })
        };
        for (name, asked, posted, unclear, now, expected) in [
            ("from another run", false, 0, None, 0, Next::Ask),
            ("nothing is there", true, 0, None, 0, Next::Post(0)),
            ("one is there", true, 1, None, 0, Next::Post(1)),
            ("all are there", true, 2, None, 0, Next::Done),
            (
                "all are there after all",
                true,
                2,
                unclear(None),
                70,
                Next::Done,
            ),
            ("unclear", true, 1, unclear(None), 3, Next::Ask),
            (
                "not shown, soon",
                true,
                1,
                unclear(Some(3)),
                4,
                Next::Post(1),
            ),
            (
                "not shown, late",
                true,
                1,
                unclear(Some(25)),
                26,
                Next::Wait(secs(60)),
            ),
            ("settled", true, 1, unclear(Some(25)), 60, Next::Ask),
            (
                "not shown, settled",
                true,
                1,
                unclear(Some(60)),
                60,
                Next::PostAnew(1),
            ),
        ] {
            let progress = Progress {
                asked,
                posted: (0..posted).collect(),
                unclear,
                ..Progress::default()
            };
            assert_eq!(next(&progress, 2, false, secs(now)), expected, "{name}");
        }
    }

    #[test]
    fn a_grown_post_is_edited_whatever_is_unclear_and_looked_at_once_late_edits_are_over() {
        let secs = Duration::from_secs;
        for (name, asked, posted, verify_at, now, expected) in [
            ("from another run", false, 0, None, 0, Next::Ask),
            ("not final yet", true, 0, None, 0, Next::Edit),
            ("final", true, 1, None, 0, Next::Post(1)),
            ("whole", true, 2, None, 0, Next::Done),
            (
                "an edit may be late",
                true,
                2,
                Some(60),
                59,
                Next::Wait(secs(60)),
            ),
            ("no edit can be late", true, 2, Some(60), 60, Next::Verify),
            ("undone", true, 0, Some(60), 60, Next::Edit),
        ] {
            let progress = Progress {
                asked,
                posted: (0..posted).collect(),
                verify_at: verify_at.map(secs),
                ..Progress::default()
            };
            assert_eq!(next(&progress, 2, true, secs(now)), expected, "{name}");
        }
    }
}
