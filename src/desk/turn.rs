//! The turn order: which waiting post is taken up next, if any. It knows no clock and no process.

use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::sorted::Set;

/// From this many attempts on an answer is made alone: if its worker dies again, nothing else can
/// have been the cause.
const SUSPECT: u32 = 2;

/// What is answered one post at a time, so that each answer knows the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Conversation {
    /// A direct channel, or the root of one without threads.
    Channel(ChannelId),
    /// By its root.
    Thread(PostId),
}

impl Conversation {
    /// Where `post` belongs. With `thread_replies` a post at the channel's root opens a thread.
    pub(crate) fn of(post: &Post, is_direct: bool, thread_replies: bool) -> Conversation {
        if is_direct {
            Conversation::Channel(post.channel_id.clone())
        } else if !post.root_id.is_empty() {
            Conversation::Thread(post.root_id.clone())
        } else if thread_replies {
            Conversation::Thread(post.id.clone())
        } else {
            Conversation::Channel(post.channel_id.clone())
        }
    }

    /// Its name in the state: an id.
    pub(crate) fn key(&self) -> &str {
        match self {
            Conversation::Channel(channel) => channel.as_str(),
            Conversation::Thread(root) => root.as_str(),
        }
    }
}

/// A post that waits for its answer, or whose answer was begun and is not at work.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    /// Where it is asked.
    pub conversation: Conversation,
    /// Who asks.
    pub person: &'a UserId,
    /// The question.
    pub post: &'a PostId,
    /// When it was written.
    pub created: ServerTime,
    /// Taken up before, and not at work.
    pub begun: bool,
    /// How many attempts ended with a death.
    pub attempts: u32,
}

/// An answer that a worker is making.
#[derive(Clone, Debug)]
pub(crate) struct AtWork<'a> {
    /// Where it is asked.
    pub conversation: Conversation,
    /// Who asks.
    pub person: &'a UserId,
    /// How many attempts ended with a death.
    pub attempts: u32,
}

/// The index of the candidate to take up now. `last_start`: a number that grows with each answer taken
/// up, as it was at the person's last one; 0: none yet. `limit`: `answers_at_once`. `drafts`: answers
/// that are made and wait for the server to take them.
pub(crate) fn next(
    candidates: &[Candidate],
    at_work: &[AtWork],
    last_start: &dyn Fn(&UserId) -> u64,
    limit: usize,
    drafts: usize,
) -> Option<usize> {
    let alone = at_work.iter().any(|work| work.attempts >= SUSPECT);
    // An outage of the server must not buy answer after answer from the model.
    if alone || at_work.len() >= limit || drafts >= limit {
        return None;
    }
    let chosen = eligible(candidates, at_work)
        .into_iter()
        .min_by_key(|&index| {
            let candidate = &candidates[index];
            let of_person = at_work
                .iter()
                .filter(|work| work.person == candidate.person)
                .count();
            let last = last_start(candidate.person);
            let age = (candidate.created, candidate.post);
            (!candidate.begun, of_person, last, age)
        })?;
    // A suspect whose turn it is keeps the others out: under steady load it would never be alone.
    let must_wait = candidates[chosen].attempts >= SUSPECT && !at_work.is_empty();
    (!must_wait).then_some(chosen)
}

/// The candidates of free conversations, by their indices: of a thread the oldest only, of a channel all,
/// because there several people wait for each other.
fn eligible(candidates: &[Candidate], at_work: &[AtWork]) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..candidates.len()).collect();
    indices.sort_by_key(|&index| {
        let candidate = &candidates[index];
        (!candidate.begun, candidate.created, candidate.post)
    });
    let mut threads = Set::new();
    indices.retain(|&index| {
        let conversation = &candidates[index].conversation;
        let is_busy = at_work
            .iter()
            .any(|work| work.conversation == *conversation);
        let is_first = match conversation {
            Conversation::Thread(root) => threads.insert(root),
            Conversation::Channel(_) => true,
        };
        is_first && !is_busy
    });
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_a_thread_or_a_channel() {
        for (root, is_direct, thread_replies, expected) in [
            ("", true, true, "channel"),
            ("r", true, false, "channel"),
            ("", false, true, "thread p"),
            ("r", false, true, "thread r"),
            ("r", false, false, "thread r"),
            ("", false, false, "channel"),
        ] {
            let post = Post {
                id: "p".into(),
                channel_id: "c".into(),
                root_id: root.into(),
                ..Post::default()
            };
            let found = match Conversation::of(&post, is_direct, thread_replies) {
                Conversation::Channel(id) => {
                    assert_eq!(id, "c".into());
                    "channel".to_owned()
                }
                Conversation::Thread(id) => format!("thread {id}"),
            };
            assert_eq!(found, expected, "{root:?} {is_direct} {thread_replies}");
        }
    }

    struct Row {
        person: UserId,
        last_start: u64,
        conversation: Conversation,
        created: u64,
        begun: bool,
        attempts: u32,
    }

    /// `who conversation created`, the person's last start behind a `:`; a conversation in capitals is
    /// a channel. `!` marks one begun before, `?` one with two attempts.
    fn read(texts: &[&str]) -> Vec<Row> {
        let row = |text: &&str| {
            let words: Vec<&str> = text.trim_end_matches(['!', '?']).split(' ').collect();
            let (who, last) = words[0].split_once(':').unwrap_or((words[0], "0"));
            Row {
                person: who.into(),
                last_start: last.parse().unwrap(),
                conversation: match words[1] {
                    thread if thread.starts_with(char::is_lowercase) => {
                        Conversation::Thread(thread.into())
                    }
                    channel => Conversation::Channel(channel.into()),
                },
                created: words.get(2).map_or(0, |number| number.parse().unwrap()),
                begun: text.ends_with('!'),
                attempts: if text.ends_with('?') { 2 } else { 0 },
            }
        };
        texts.iter().map(row).collect()
    }

    fn chosen(waiting: &[&str], at_work: &[&str], limit: usize, drafts: usize) -> Option<usize> {
        let (waiting, at_work) = (read(waiting), read(at_work));
        let ids: Vec<PostId> = (0..waiting.len())
            .map(|index| PostId(format!("p{index}")))
            .collect();
        let candidates: Vec<_> = waiting
            .iter()
            .zip(&ids)
            .map(|(row, post)| Candidate {
                conversation: row.conversation.clone(),
                person: &row.person,
                post,
                created: ServerTime(row.created),
                begun: row.begun,
                attempts: row.attempts,
            })
            .collect();
        let works: Vec<_> = at_work
            .iter()
            .map(|row| AtWork {
                conversation: row.conversation.clone(),
                person: &row.person,
                attempts: row.attempts,
            })
            .collect();
        let last_start = |person: &UserId| {
            let row = waiting.iter().find(|row| row.person == *person);
            row.map_or(0, |row| row.last_start)
        };
        next(&candidates, &works, &last_start, limit, drafts)
    }

    #[test]
    fn the_next_answer_is_chosen_in_fairness_and_order() {
        type Case = (
            &'static str,
            &'static [&'static str],
            &'static [&'static str],
            Option<usize>,
        );
        let cases: &[Case] = &[
            ("nothing waits", &[], &[], None),
            ("the oldest", &["ann a 2", "ann b 1"], &[], Some(1)),
            (
                "at one moment, by id",
                &["ann a 1", "bob b 1"],
                &[],
                Some(0),
            ),
            (
                "whoever has fewest at work",
                &["ann a 1", "bob b 2"],
                &["ann x"],
                Some(1),
            ),
            (
                "whose last start is longest ago",
                &["ann:7 a 1", "bob:3 b 2"],
                &[],
                Some(1),
            ),
            (
                "fewest at work before the last start",
                &["ann:1 a 1", "bob:9 b 2"],
                &["ann x"],
                Some(1),
            ),
            (
                "no busy thread",
                &["ann a 1", "bob b 2"],
                &["eve a"],
                Some(1),
            ),
            ("no busy channel", &["ann C 1"], &["eve C"], None),
            (
                "in a thread the oldest, whoever asks",
                &["ann:9 a 1", "bob:1 a 2"],
                &[],
                Some(0),
            ),
            (
                "a thread waits with its oldest",
                &["ann a 1", "bob a 2", "eve b 3"],
                &["ann x"],
                Some(2),
            ),
            (
                "in a channel-wide conversation in fairness",
                &["ann:9 C 1", "bob:1 C 2"],
                &[],
                Some(1),
            ),
            (
                "an earlier run's first",
                &["bob a 1", "ann:9 b 2!"],
                &["ann x"],
                Some(1),
            ),
            (
                "an earlier run's first, in its thread too",
                &["bob a 1", "ann a 2!"],
                &[],
                Some(1),
            ),
            ("a suspect alone", &["ann a 1?"], &[], Some(0)),
            (
                "a suspect whose turn it is waits for the others, and they for it",
                &["ann a 1?", "bob b 2"],
                &["eve x"],
                None,
            ),
            (
                "a suspect whose turn it is not stops nobody",
                &["ann:5 a 1?", "bob:1 b 2"],
                &["eve x"],
                Some(1),
            ),
            (
                "nothing beside a suspect",
                &["ann a 1"],
                &["eve x 0?"],
                None,
            ),
        ];
        for (what, waiting, at_work, expected) in cases {
            assert_eq!(chosen(waiting, at_work, 4, 0), *expected, "{what}");
        }
    }

    #[test]
    fn nothing_is_taken_up_beyond_the_limit_of_workers_or_of_drafts() {
        let at_work = ["ann x", "ann y", "ann z"];
        for (working, limit, drafts, goes_on) in [
            (0, 1, 0, true),
            (1, 1, 0, false),
            (3, 4, 0, true),
            (3, 3, 0, false),
            (0, 1, 1, false),
            (0, 4, 3, true),
            (0, 4, 4, false),
        ] {
            let chosen = chosen(&["bob a 1"], &at_work[..working], limit, drafts);
            assert_eq!(chosen.is_some(), goes_on, "{working} {limit} {drafts}");
        }
    }

    #[test]
    fn nobody_starves_beside_a_person_who_asks_without_end() {
        for limit in [1, 4] {
            let mut waiting: Vec<(String, u64, String)> = (0..50)
                .map(|number| ("ann".to_owned(), number, format!("t{number}")))
                .collect();
            waiting.push(("bob".into(), 50, "tb".into()));
            waiting.push(("eve".into(), 51, "te".into()));
            let mut starts: Vec<String> = Vec::new();
            let mut at_work: Vec<(String, String)> = Vec::new();
            while !waiting.is_empty() {
                let texts: Vec<String> = waiting
                    .iter()
                    .map(|(who, created, thread)| {
                        let last = starts.iter().rposition(|started| started == who);
                        let last = last.map_or(0, |index| index + 1);
                        format!("{who}:{last} {thread} {created}")
                    })
                    .collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let busy: Vec<String> = at_work
                    .iter()
                    .map(|(who, thread)| format!("{who} {thread}"))
                    .collect();
                let busy: Vec<&str> = busy.iter().map(String::as_str).collect();
                match chosen(&texts, &busy, limit, 0) {
                    Some(index) => {
                        let (who, _, thread) = waiting.remove(index);
                        starts.push(who.clone());
                        at_work.push((who, thread));
                    }
                    None => {
                        at_work.remove(0);
                    }
                }
            }
            for who in ["bob", "eve"] {
                let place = starts.iter().position(|started| started == who);
                assert!(place.is_some_and(|place| place <= 3), "{limit} {starts:?}");
            }
        }
    }
}
