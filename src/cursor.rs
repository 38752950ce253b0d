//! How far a channel was read, and which of its posts are known: a value without I/O.
//!
//! Counters say when to look, identity says what is new. Every moment is one that the server gave.

pub(crate) mod balance;
pub(crate) mod watch;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mattermost::{Post, PostId, ServerTime};
use crate::sorted::Map;
use balance::Balance;
use watch::Watch;

/// A channel's counters: `last_post_at` and `total_msg_count`.
pub(crate) type Counters = (ServerTime, u64);

/// One channel's record. What is not skipped is on disk.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Cursor {
    /// Only posts created after this are answered.
    pub floor: ServerTime,
    /// Everything that changed up to here was read and handled.
    pub mark: ServerTime,
    /// The counters when everything in the channel was handled.
    pub last_post_at: ServerTime,
    pub total_msg_count: u64,
    /// Not zero after the server's clock went back: the false mark from the time it was ahead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: ServerTime,
    /// The newest handled post that is not in `handled` any more: where a walk forward begins.
    #[serde(default, skip_serializing_if = "PostId::is_empty")]
    pub anchor: PostId,
    /// The handled posts created after `mark` less the window, and when they were created.
    pub handled: Map<PostId, ServerTime>,
    /// In a channel that other servers are connected to, the handled posts of theirs, and when they
    /// were created: they come late, however old they are. Nothing before a first look at them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Map<PostId, ServerTime>>,
    #[serde(skip)]
    pub progress: Progress,
    /// What the server shows of the channel; nothing until a list of this run showed it.
    #[serde(skip)]
    pub watch: Option<Watch>,
}

fn is_zero(time: &ServerTime) -> bool {
    time.0 == 0
}

/// What this run read.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The counters at the last complete read; `None`: read the channel in any case.
    pub read_at: Option<Counters>,
    /// The counters that the server shows at present.
    pub shown: Counters,
    /// The newest change that was read: the mark once nothing is open.
    pub newest: ServerTime,
    /// The counters before the bot's own newest change, of which they may not tell yet: `GET
    /// channels/{id}` does not tell of an edit before the next post.
    before: Option<Counters>,
    /// Posts the last read returned beyond `total_msg_count`; the next count will include them.
    pub early: u64,
    pub balance: Balance,
    /// Whether the channel was read since the bot was last out of touch: nothing was missed since.
    pub live: bool,
}

/// What a complete read found out.
pub(crate) struct Read {
    /// The counters that the server showed before the read.
    pub shown: Counters,
    /// The newest change in it.
    pub newest: ServerTime,
    /// Posts that were not known.
    pub found: usize,
    /// The server's present, if its answer told.
    pub present: Option<ServerTime>,
}

impl Cursor {
    /// A channel that no state knows. `read_at`: the counters up to which all is history.
    pub(crate) fn starting(floor: ServerTime, read_at: Counters) -> Cursor {
        Cursor {
            floor,
            mark: floor,
            last_post_at: read_at.0,
            total_msg_count: read_at.1,
            ..Cursor::default()
        }
    }

    /// The channel's name, as in links; empty if it is not watched.
    pub(crate) fn name(&self) -> &str {
        self.watch.as_ref().map_or("", |watch| &watch.name)
    }

    /// Whether the channel is a direct one.
    pub(crate) fn is_direct(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.direct)
    }

    /// Begins this run's reading where the state left off.
    pub(crate) fn resume(&mut self) {
        self.progress = Progress {
            read_at: Some((self.last_post_at, self.total_msg_count)),
            newest: self.mark,
            balance: Balance {
                base: self.total_msg_count,
                ..Balance::default()
            },
            ..Progress::default()
        };
    }

    /// Notes the counters that the server shows: whether they differ from those of the last read.
    pub(crate) fn show(&mut self, shown: Counters) -> bool {
        self.progress.shown = shown;
        if self.progress.is_own(shown) {
            self.progress.read_at = Some(shown);
        }
        let news = self.progress.has_news();
        self.progress.live |= !news;
        news
    }

    /// Whether the server shows something that was not read.
    pub(crate) fn has_news(&self) -> bool {
        self.progress.has_news()
    }

    /// The `since` that the next read asks for: never 0, which is no `since` at all.
    pub(crate) fn since(&self, window: Duration) -> ServerTime {
        let from = self.progress.newest.max(self.mark);
        ServerTime(from.before(window).0.max(1))
    }

    /// Whether `post` is one that this bot has to look at, and was not handled.
    pub(crate) fn is_new(&self, post: &Post, window: Duration) -> bool {
        post.create_at > self.floor
            && post.create_at > self.mark.before(window)
            && !self.handled.contains_key(&post.id)
            && !self.is_remote(&post.id)
    }

    /// Whether a connected server's post was handled.
    pub(crate) fn is_remote(&self, post: &PostId) -> bool {
        let remote = self.remote.as_ref();
        remote.is_some_and(|remote| remote.contains_key(post))
    }

    /// The bot came into the channel at `entry`: what is older belongs to the time when it was not
    /// there. Whether that moves the floor.
    pub(crate) fn enter(&mut self, entry: ServerTime) -> bool {
        let moves = entry > self.floor;
        self.floor = self.floor.max(entry);
        moves
    }

    /// Notes that a post needs nothing more.
    pub(crate) fn handled(&mut self, post: &PostId, created: ServerTime) {
        let is_remote = self.progress.balance.open.remove(post);
        match &mut self.remote {
            Some(remote) if is_remote => remote.insert(post.clone(), created),
            _ => self.handled.insert(post.clone(), created),
        };
    }

    /// Takes note of a complete read of what changed. False: the server's clock went back, and the
    /// channel is to be read again from where its present is.
    pub(crate) fn complete(&mut self, read: &Read, window: Duration, catch_up: Duration) -> bool {
        let progress = &mut self.progress;
        let counted = progress.read_at.map(|(_, count)| count);
        let grown = counted.map(|count| read.shown.1.saturating_sub(count));
        let grew = grown.is_some_and(|grown| grown > progress.early);
        progress.early = grown.map_or(0, |grown| (read.found as u64).saturating_sub(grown));
        if let Some(present) = read.present
            && grew
            && read.found == 0
            && self.ahead.0 == 0
            && present < self.mark.before(window)
        {
            // There is a post more, and nothing to see after a mark that lies in the future: the
            // server's clock was ahead, and its posts of today lie before the mark.
            self.ahead = self.mark;
            self.mark = present.before(catch_up).max(self.floor);
            progress.newest = self.mark;
            progress.read_at = None;
            return false;
        }
        progress.newest = progress.newest.max(read.newest);
        progress.read_at = Some(read.shown);
        progress.before = None;
        progress.live = true;
        true
    }

    /// Moves the mark as far as nothing is open, and forgets the ids that it leaves behind.
    /// `oldest_open`: the oldest post of the channel that waits or is being answered. `whole`: the
    /// channel is not in the middle of a walk.
    pub(crate) fn advance(
        &mut self,
        oldest_open: Option<ServerTime>,
        whole: bool,
        window: Duration,
    ) {
        let limit = oldest_open.unwrap_or(ServerTime(u64::MAX));
        self.mark = self.mark.max(self.progress.newest.min(limit));
        if oldest_open.is_none()
            && whole
            && let Some((last_post_at, total_msg_count)) = self.progress.read_at
        {
            self.last_post_at = last_post_at;
            self.total_msg_count = total_msg_count;
        }
        let below = self.mark.before(window);
        let mut anchor = ServerTime(0);
        let anchor_id = &mut self.anchor;
        self.handled.retain(|post, created| {
            if *created > below {
                return true;
            }
            if *created > anchor {
                anchor = *created;
                anchor_id.clone_from(post);
            }
            false
        });
    }

    /// The newest moment that counts: after the server's clock went back, its present, until that has
    /// caught up with the times that were given out before.
    fn cap(&mut self, present: Option<ServerTime>) -> ServerTime {
        match present {
            Some(present) if present < self.ahead => present,
            _ => {
                self.ahead = ServerTime(0);
                ServerTime(u64::MAX)
            }
        }
    }

    /// The newest of `times` that counts.
    pub(crate) fn newest(
        &mut self,
        times: impl Iterator<Item = ServerTime>,
        present: Option<ServerTime>,
    ) -> ServerTime {
        let cap = self.cap(present);
        times.filter(|time| *time <= cap).max().unwrap_or_default()
    }

    /// A post of the bot's own was taken, or one was edited: when the counters tell of that and of
    /// nothing else, it is no reason to read. `at`: its `create_at` or `update_at`.
    pub(crate) fn note_own(&mut self, at: ServerTime, own: Own) {
        let progress = &mut self.progress;
        let posts = match own {
            Own::Edit => 0,
            // It needs nothing more, and the count will tell of it.
            Own::Post(post) => {
                self.handled.insert(post.clone(), at);
                progress.balance.seen += 1;
                1
            }
        };
        if !progress.has_news() {
            let known = progress.read_at.unwrap_or_default();
            progress.before = Some(progress.before.filter(|_| posts == 0).unwrap_or(known));
            progress.read_at = Some((at.max(known.0), known.1 + posts));
            progress.shown = (at.max(known.0), known.1 + posts);
        }
    }
}

/// What the bot did in a channel itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own<'a> {
    Post(&'a PostId),
    Edit,
}

impl Progress {
    fn has_news(&self) -> bool {
        self.read_at != Some(self.shown) && self.before != Some(self.shown)
    }

    /// Whether a list tells of the bot's own newest change and of nothing else: its `last_post_at` was
    /// measured up to 2 ms later.
    fn is_own(&self, shown: Counters) -> bool {
        self.before.is_some()
            && self.read_at.is_some_and(|(at, count)| {
                count == shown.1 && (at.0..=at.0 + 3).contains(&shown.0.0)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(60);
    const DAY: Duration = Duration::from_secs(86_400);

    fn post(id: &str, created: u64) -> Post {
        Post {
            id: id.into(),
            create_at: ServerTime(created),
            ..Post::default()
        }
    }

    fn read(count: u64, newest: u64, found: usize) -> Read {
        Read {
            shown: (ServerTime(newest), count),
            newest: ServerTime(newest),
            found,
            present: None,
        }
    }

    #[test]
    fn a_post_is_new_above_the_floor_and_the_window_and_until_it_is_handled() {
        let mut cursor = Cursor::starting(ServerTime(1000), (ServerTime(1000), 5));
        cursor.handled(&"known".into(), ServerTime(1500));
        cursor.mark = ServerTime(1500);
        for (id, created, is_new) in [
            ("at the floor", 1000, false),
            ("below the window", 1440, false),
            ("in the window", 1441, true),
            ("known", 1500, false),
            ("newest", 1501, true),
        ] {
            assert_eq!(cursor.is_new(&post(id, created), WINDOW), is_new, "{id}");
        }
    }

    #[test]
    fn the_mark_stays_behind_what_is_open_while_reading_goes_on_from_the_newest() {
        let mut cursor = Cursor::starting(ServerTime(1000), (ServerTime(1000), 5));
        cursor.resume();
        assert!(cursor.complete(&read(7, 2000, 2), WINDOW, DAY));
        cursor.advance(Some(ServerTime(1200)), true, WINDOW);
        assert_eq!(cursor.mark, ServerTime(1200));
        assert_eq!(cursor.since(WINDOW), ServerTime(1940));
        assert_eq!(
            (cursor.last_post_at, cursor.total_msg_count),
            (ServerTime(1000), 5)
        );
        cursor.advance(None, false, WINDOW);
        assert_eq!(cursor.total_msg_count, 5, "not in the middle of a walk");
        cursor.advance(None, true, WINDOW);
        assert_eq!(cursor.mark, ServerTime(2000));
        assert_eq!(
            (cursor.last_post_at, cursor.total_msg_count),
            (ServerTime(2000), 7)
        );
    }

    #[test]
    fn ids_are_forgotten_behind_the_window_and_the_newest_of_them_is_the_anchor() {
        let mut cursor = Cursor::starting(ServerTime(0), Default::default());
        cursor.resume();
        for created in [100, 300, 200, 990] {
            cursor.handled(&PostId(format!("p{created}")), ServerTime(created));
        }
        cursor.complete(&read(4, 1000, 4), WINDOW, DAY);
        cursor.advance(None, true, WINDOW);
        assert_eq!(cursor.anchor.as_str(), "p300");
        assert_eq!(cursor.handled.len(), 1);
    }

    #[test]
    fn a_clock_that_went_back_is_noticed_once_by_a_post_that_cannot_be_seen() {
        let mut cursor = Cursor::starting(ServerTime(0), Default::default());
        cursor.resume();
        cursor.complete(&read(1, 900_000_000, 1), WINDOW, DAY);
        cursor.advance(None, true, WINDOW);
        let hidden = Read {
            present: Some(ServerTime(100_000_000)),
            ..read(2, 0, 0)
        };
        assert!(!cursor.complete(&hidden, WINDOW, DAY));
        assert_eq!(cursor.ahead, ServerTime(900_000_000));
        assert_eq!(cursor.mark, ServerTime(100_000_000 - 86_400_000));
        assert_eq!(cursor.cap(Some(ServerTime(5))), ServerTime(5));
        assert_eq!(
            cursor.cap(Some(ServerTime(900_000_000))),
            ServerTime(u64::MAX)
        );
        assert_eq!(cursor.ahead, ServerTime(0));
    }

    #[test]
    fn a_post_that_was_read_before_its_count_is_not_missed_by_the_next_count() {
        let mut cursor = Cursor::starting(ServerTime(0), (ServerTime(0), 3));
        cursor.resume();
        // Two came, the counter told of one; then it tells of the other.
        cursor.complete(&read(4, 500, 2), WINDOW, DAY);
        let late = Read {
            present: Some(ServerTime(1)),
            ..read(5, 500, 0)
        };
        cursor.advance(None, true, WINDOW);
        assert!(cursor.complete(&late, WINDOW, DAY));
    }

    #[test]
    fn what_the_bot_does_itself_is_no_reason_to_read_and_anything_beside_it_is() {
        let id = PostId::default();
        let (post, edit) = (Own::Post(&id), Own::Edit);
        for (name, own, shown, has_news) in [
            ("its post", &[post][..], (1000, 6), false),
            ("as a list shows it", &[post], (1003, 6), false),
            ("not shown yet", &[post], (900, 5), false),
            ("two posts", &[post, post], (1000, 7), false),
            ("one of two posts", &[post, post], (1000, 6), false),
            ("none of two posts", &[post, post], (900, 5), true),
            ("its edit", &[edit], (1000, 5), false),
            ("an edit that is not shown", &[edit], (900, 5), false),
            (
                "two edits that are not shown",
                &[edit, edit],
                (900, 5),
                false,
            ),
            ("a post and an edit", &[post, edit], (1000, 6), false),
            ("another's post too", &[post], (1000, 7), true),
            ("another's post after it", &[post], (1200, 7), true),
            ("another's post instead", &[post], (950, 6), true),
            ("another's post and an edit", &[edit], (1000, 6), true),
            ("a join beside it", &[post], (1004, 6), true),
            ("nothing of its own", &[], (1000, 6), true),
        ] {
            let mut cursor = Cursor::starting(ServerTime(0), (ServerTime(900), 5));
            cursor.resume();
            cursor.show((ServerTime(900), 5));
            for change in own {
                cursor.note_own(ServerTime(1000), *change);
            }
            assert!(!cursor.has_news(), "{name}");
            let (last_post_at, count) = shown;
            cursor.show((ServerTime(last_post_at), count));
            assert_eq!(cursor.has_news(), has_news, "{name}");
        }
    }

    #[test]
    fn an_own_post_hides_no_news_that_were_there_before() {
        let mut cursor = Cursor::starting(ServerTime(0), (ServerTime(900), 5));
        cursor.resume();
        cursor.show((ServerTime(950), 6));
        cursor.note_own(ServerTime(1000), Own::Post(&PostId::default()));
        assert!(cursor.has_news());
        cursor.show((ServerTime(1000), 7));
        assert!(cursor.has_news());
    }
}
