//! Copies: a thread that was moved or copied from another channel comes as new posts, its questions
//! with their answers. Which of them need no other answer is decided here.

use crate::mattermost::client::{ApiError, Client, paged};
use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::sorted::{Map, Set};
use crate::text::fnv1a;

/// Threads whose answers from elsewhere are remembered.
const THREADS: usize = 1000;
/// Replies that are looked at, from the newest on.
const REPLIES: usize = 200;

/// By what the answers to `question` know it again in whatever channel: FNV-1a 64 of its author's id
/// and its text.
pub(crate) fn asked(question: &Post) -> String {
    let author = question.user_id.as_str().as_bytes();
    let hash = fnv1a(&[author, &[0], question.message.as_bytes()].concat());
    format!("{hash:016x}")
}

/// The answers among the bot's own posts whose question no read has shown, by thread: the newest one's
/// `create_at`. Nearly always none.
#[derive(Default)]
pub(crate) struct Strangers(Map<PostId, ServerTime>);

impl Strangers {
    /// Takes note of those among `posts`. `knows`: whether a post is one of their channel's.
    pub(crate) fn note(&mut self, posts: &[Post], bot: &UserId, knows: impl Fn(&PostId) -> bool) {
        for post in posts.iter().filter(|post| post.user_id == *bot) {
            let question = post.props.prx.as_ref().map(|prx| &prx.in_reply_to);
            let is_strange = question.is_some_and(|id| id.is_well_formed() && !knows(id));
            if is_strange && post.delete_at.0 == 0 && !post.root_id.is_empty() {
                let newest = self.0.or_default(post.root_id.clone());
                *newest = post.create_at.max(*newest);
            }
        }
        while self.0.len() > THREADS {
            let oldest = self.0.iter().min_by_key(|(_, at)| *at);
            let Some(oldest) = oldest.map(|(root, _)| root.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest in the thread of `question`, if it may be an answer to that.
    pub(crate) fn newest(&self, question: &Post) -> Option<ServerTime> {
        let newest = self.0.get(root(question)).copied();
        newest.filter(|newest| *newest >= question.create_at)
    }
}

fn root(post: &Post) -> &PostId {
    if post.root_id.is_empty() {
        &post.id
    } else {
        &post.root_id
    }
}

/// How far a question was compared with its thread.
#[derive(Default)]
pub(crate) struct Check {
    /// The thread shows something that may be the question's answer, of this moment.
    doubt: ServerTime,
    /// Up to here nothing in the thread is.
    cleared: ServerTime,
    look: Option<Look>,
}

/// A thread, and questions that it shows only the answers to.
struct Look {
    thread: Vec<Post>,
    missing: Vec<PostId>,
}

impl Check {
    /// Notes that the thread shows something of the moment `at`.
    pub(crate) fn doubt(&mut self, at: Option<ServerTime>) {
        self.doubt = self.doubt.max(at.unwrap_or_default());
    }

    /// Whether something of the moment `at` would be a reason to compare.
    pub(crate) fn doubts(&self, at: Option<ServerTime>) -> bool {
        self.doubt.max(at.unwrap_or_default()) > self.cleared
    }

    /// Whether the question has to be compared with its thread.
    pub(crate) fn is_due(&self) -> bool {
        self.doubt > self.cleared
    }

    /// Gives up on comparing.
    pub(crate) fn clear(&mut self) {
        (self.cleared, self.look) = (self.doubt, None);
    }

    /// Compares, by one request at most: whether `question` is a copy whose answer came along; nothing
    /// if another step is needed. `is_question`: whether the bot answers such a post.
    pub(crate) fn step(
        &mut self,
        client: &Client,
        question: &Post,
        bot: &UserId,
        is_question: &dyn Fn(&Post) -> bool,
    ) -> Result<Option<bool>, ApiError> {
        let Some(look) = &self.look else {
            let mut size = REPLIES;
            let thread = paged(&mut size, |count| client.thread(root(question), count));
            let thread = match thread {
                Err(error) if error.is_closed() => Vec::new(),
                list => list?.posts,
            };
            let missing = missing(&thread, bot);
            if missing.is_empty() {
                self.clear();
                return Ok(Some(false));
            }
            self.look = Some(Look { thread, missing });
            return Ok(None);
        };
        let here = match client.posts_by_ids(&look.missing.iter().collect::<Vec<_>>()) {
            // Servers before 6.0.
            Err(ApiError::Refused { .. }) => Set::new(),
            posts => of_channel(posts?, &question.channel_id),
        };
        let served = served(&look.thread, bot, &here, is_question);
        let is_copy = served.contains(&question.id);
        self.clear();
        Ok(Some(is_copy))
    }
}

/// The questions that `thread` shows the answers to, and not themselves.
fn missing(thread: &[Post], bot: &UserId) -> Vec<PostId> {
    let there: Set<&PostId> = thread.iter().map(|post| &post.id).collect();
    let answers = answers(thread, bot).into_keys();
    let missing = answers.filter(|id| id.is_well_formed() && !there.contains(id));
    missing.cloned().collect()
}

fn of_channel(posts: Vec<Post>, channel: &ChannelId) -> Set<PostId> {
    let posts = posts.into_iter();
    let here = posts.filter(|post| post.channel_id == *channel);
    here.map(|post| post.id).collect()
}

/// By question, when its answer was posted in `thread`, and what was asked.
fn answers<'a>(thread: &'a [Post], bot: &UserId) -> Map<&'a PostId, (ServerTime, Option<&'a str>)> {
    let mut answers = Map::new();
    for post in thread.iter().filter(|post| post.user_id == *bot) {
        if let Some(prx) = &post.props.prx {
            let asked = Some(prx.asked.as_str()).filter(|asked| !asked.is_empty());
            let answer = answers.or_insert(&prx.in_reply_to, (post.create_at, asked));
            *answer = (answer.0.min(post.create_at), answer.1.or(asked));
        }
    }
    answers
}

/// The posts of `thread` whose answers came along with them. `here`: posts of the same channel, deleted or not,
/// that are not in the thread: their answers are no copies.
fn served(
    thread: &[Post],
    bot: &UserId,
    here: &Set<PostId>,
    is_question: &dyn Fn(&Post) -> bool,
) -> Set<PostId> {
    let there: Set<&PostId> = thread.iter().map(|post| &post.id).collect();
    let mut served = Set::new();
    let mut copied = Vec::new();
    let answers = answers(thread, bot);
    for (question, answer) in &answers {
        if there.contains(question) {
            served.insert((*question).clone());
        } else if question.is_well_formed() && !here.contains(question) {
            copied.push(*answer);
        }
    }
    copied.sort();
    let mut questions: Vec<&Post> = thread.iter().filter(|post| is_question(post)).collect();
    questions.sort_by_key(|post| (post.create_at, &post.id));
    // An answer that tells what was asked serves the oldest such question.
    copied.retain(|(at, asked)| {
        let fits = |post: &&&Post| {
            post.create_at <= *at
                && !served.contains(&post.id)
                && *asked == Some(&*self::asked(post))
        };
        let question = asked.and_then(|_| questions.iter().find(fits));
        question.is_none_or(|question| !served.insert(question.id.clone()))
    });
    // One of version 0.1, or to a question that was edited since, serves the last one before it.
    for (at, _) in copied {
        let fits = |post: &&&Post| post.create_at <= at && !served.contains(&post.id);
        if let Some(question) = questions.iter().rev().find(fits) {
            served.insert(question.id.clone());
        }
    }
    // What is answered here is no copy's affair: it may be half an answer, to be gone on with.
    served.retain(|question| !answers.contains_key(question));
    served
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mattermost::{Props, PrxProps};

    const BOT: &str = "bot";

    fn id(name: &str) -> PostId {
        PostId(format!("{name:0<26}"))
    }

    fn person(name: &str, at: u64, text: &str) -> Post {
        Post {
            id: id(name),
            create_at: ServerTime(at),
            user_id: "ann".into(),
            message: text.into(),
            ..Post::default()
        }
    }

    /// An answer to `to`, which said `text`; nothing: by version 0.1.
    fn answer(to: &str, at: u64, text: Option<&str>) -> Post {
        let prx = PrxProps {
            in_reply_to: id(to),
            part: 0,
            of: 1,
            apology: false,
            asked: text.map_or(String::new(), |text| asked(&person("", 0, text))),
        };
        Post {
            id: id(&format!("a{at}")),
            create_at: ServerTime(at),
            user_id: BOT.into(),
            props: Props {
                prx: Some(prx),
                has_prx: true,
                ..Props::default()
            },
            ..Post::default()
        }
    }

    #[test]
    fn a_question_is_known_by_its_author_and_its_text() {
        let why = person("p", 1, "why?");
        assert_eq!(asked(&why), asked(&person("q", 2, "why?")));
        assert_ne!(asked(&why), asked(&person("p", 1, "why")));
        let other = Post {
            user_id: "bob".into(),
            ..why.clone()
        };
        assert_ne!(asked(&why), asked(&other));
        // Answers of every version must agree on it.
        assert_eq!(asked(&why), "fcd3910994b95b97");
    }

    #[test]
    fn each_answer_that_came_along_serves_one_question() {
        let (p1, p2) = (person("p1", 10, "why?"), person("p2", 20, "why?"));
        let other = person("p2", 20, "and now?");
        let why = Some("why?");
        let cases: [(&str, Vec<Post>, &[&str]); 15] = [
            ("no answer", vec![p1.clone()], &[]),
            (
                "its answer",
                vec![p1.clone(), answer("x", 12, why)],
                &["p1"],
            ),
            ("an older one", vec![p1.clone(), answer("x", 9, why)], &[]),
            (
                "of the same moment",
                vec![p1.clone(), answer("x", 10, why)],
                &["p1"],
            ),
            (
                "asked twice, answered once",
                vec![p1.clone(), p2.clone(), answer("x", 25, why)],
                &["p1"],
            ),
            (
                "asked twice, answered twice",
                vec![
                    p1.clone(),
                    answer("x", 12, why),
                    p2.clone(),
                    answer("y", 25, why),
                ],
                &["p1", "p2"],
            ),
            (
                "two parts of one answer",
                vec![
                    p1.clone(),
                    p2.clone(),
                    answer("x", 25, why),
                    answer("x", 26, why),
                ],
                &["p1"],
            ),
            (
                "the second never had one",
                vec![p1.clone(), answer("x", 12, why), other.clone()],
                &["p1"],
            ),
            (
                "the first never had one",
                vec![p1.clone(), other.clone(), answer("x", 25, Some("and now?"))],
                &["p2"],
            ),
            (
                "one of 0.1",
                vec![p1.clone(), other.clone(), answer("x", 25, None)],
                &["p2"],
            ),
            (
                "two of 0.1",
                vec![
                    p1.clone(),
                    answer("x", 12, None),
                    other.clone(),
                    answer("y", 25, None),
                ],
                &["p1", "p2"],
            ),
            (
                "edited since",
                vec![p1.clone(), answer("x", 12, Some("how?")), other.clone()],
                &["p1"],
            ),
            (
                "an answer in the thread to a post of it",
                vec![p1.clone(), p2.clone(), answer("p1", 25, why)],
                &[],
            ),
            (
                "half an answer here beside one that came along",
                vec![
                    p1.clone(),
                    answer("p1", 15, why),
                    other.clone(),
                    answer("x", 25, Some("and now?")),
                ],
                &["p2"],
            ),
            (
                "an answer to a post of the channel",
                vec![p1.clone(), answer("here", 12, why)],
                &[],
            ),
        ];
        let here = Set::from_iter([id("here")]);
        for (name, thread, expected) in cases {
            let is_question = |post: &Post| post.user_id.as_str() != BOT;
            let served = served(&thread, &BOT.into(), &here, &is_question);
            let expected: Set<PostId> = expected.iter().map(|name| id(name)).collect();
            assert_eq!(served, expected, "{name}");
        }
    }

    #[test]
    fn what_programs_posted_under_a_name_answers_nothing() {
        let mut sent = answer("x", 12, None);
        if let Some(prx) = &mut sent.props.prx {
            prx.in_reply_to = "send-0123456789".into();
        }
        let thread = [person("p1", 10, "why?"), sent];
        assert!(missing(&thread, &BOT.into()).is_empty());
        let served = served(&thread, &BOT.into(), &Set::new(), &|_| true);
        assert!(!served.contains(&id("p1")));
    }

    #[test]
    fn only_an_answer_to_an_unknown_post_raises_a_doubt() {
        let reply = |to: &str, at| Post {
            root_id: id("root"),
            ..answer(to, at, None)
        };
        let mut strangers = Strangers::default();
        let question = Post {
            root_id: id("root"),
            ..person("p", 20, "why?")
        };
        strangers.note(&[reply("known", 30)], &BOT.into(), |post| {
            *post == id("known")
        });
        strangers.note(&[reply("x", 30)], &"another bot".into(), |_| false);
        assert!(strangers.is_empty());
        strangers.note(&[reply("x", 19)], &BOT.into(), |_| false);
        assert_eq!(strangers.newest(&question), None);
        strangers.note(&[reply("x", 21), reply("y", 20)], &BOT.into(), |_| false);
        assert_eq!(strangers.newest(&question), Some(ServerTime(21)));

        let mut check = Check::default();
        check.doubt(strangers.newest(&question));
        assert!(check.is_due());
        check.clear();
        check.doubt(strangers.newest(&question));
        assert!(!check.is_due());
    }
}
