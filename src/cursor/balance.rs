//! How many posts a channel's count tells of that no read has shown: a value without I/O.

use crate::mattermost::{Post, PostId};
use crate::sorted::Set;

/// The posts that `total_msg_count` leaves out.
const COMES_AND_GOES: [&str; 10] = [
    "system_join_leave",
    "system_add_remove",
    "system_join_channel",
    "system_leave_channel",
    "system_join_team",
    "system_leave_team",
    "system_add_to_channel",
    "system_remove_from_channel",
    "system_add_to_team",
    "system_remove_from_team",
];

/// How a channel's count compares with the posts that were seen.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// The count when every post was known.
    pub base: u64,
    /// Posts seen since that count.
    pub seen: u64,
    /// Posts of connected servers that this run saw and that are not handled.
    pub open: Set<PostId>,
}

impl Balance {
    /// Takes note of a post that was not known.
    pub(crate) fn see(&mut self, post: &Post) {
        self.seen += u64::from(!COMES_AND_GOES.contains(&post.kind.as_str()));
        if !post.remote_id.is_empty() {
            self.open.insert(post.id.clone());
        }
    }

    /// How many posts the count tells of that were not seen.
    pub(crate) fn missing(&self, count: u64) -> u64 {
        count.saturating_sub(self.base).saturating_sub(self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_and_not_seen_is_missing() {
        let post = |kind: &str, remote_id: &str| Post {
            id: format!("{kind}{remote_id}").as_str().into(),
            kind: kind.into(),
            remote_id: remote_id.into(),
            ..Post::default()
        };
        let ordinary = || post("", "");
        for (name, seen, count, missing) in [
            ("nothing new", vec![], 10, 0),
            ("a late post", vec![], 11, 1),
            ("all were seen", vec![ordinary(), ordinary()], 12, 0),
            ("one was not", vec![ordinary(), ordinary()], 13, 1),
            ("seen before it was counted", vec![ordinary()], 10, 0),
            (
                "a join is not counted",
                vec![post("system_join_channel", "")],
                11,
                1,
            ),
            (
                "a change of the header is",
                vec![post("system_header_change", "")],
                11,
                0,
            ),
            ("a connected server's", vec![post("", "north")], 11, 0),
        ] {
            let mut balance = Balance {
                base: 10,
                ..Balance::default()
            };
            seen.iter().for_each(|post| balance.see(post));
            assert_eq!(balance.missing(count), missing, "{name}");
            let remote = seen.iter().filter(|post| !post.remote_id.is_empty());
            assert_eq!(balance.open.len(), remote.count(), "{name}");
        }
    }
}
