//! Copies: a thread that was moved or copied from another channel comes as new posts, its questions
//! with their answers. Which of them need no other answer is decided here.

use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::sorted::{Map, Set};
use crate::text::fnv1a;

/// Threads whose answers from elsewhere are remembered.
const THREADS: usize = 1000;
/// Posts that are asked for at once.
const PAGE: usize = 200;
/// Posts of a thread that are compared at most, from the newest on.
const DEPTH: usize = 10_000;

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

    /// Whether there is one in the thread of `question`.
    pub(crate) fn touch(&self, question: &Post) -> bool {
        self.0.contains_key(question.thread_root())
    }

    /// The newest in the thread of `question`, if it may be an answer to that.
    pub(crate) fn newest(&self, question: &Post) -> Option<ServerTime> {
        let newest = self.0.get(question.thread_root()).copied();
        newest.filter(|newest| *newest >= question.create_at)
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
        self.clear_to(self.doubt);
    }

    /// Notes that nothing up to the moment `at` is the question's answer.
    pub(crate) fn clear_to(&mut self, at: ServerTime) {
        (self.cleared, self.look) = (self.cleared.max(at), None);
    }

    /// Compares all questions of the thread of `question`, by one request at most; nothing if another
    /// step is needed. `is_question`: whether the bot answers such a post.
    pub(crate) fn step(
        &mut self,
        client: &Client,
        question: &Post,
        bot: &UserId,
        is_question: &dyn Fn(&Post) -> bool,
    ) -> Result<Option<Compared>, ApiError> {
        let look = self.look.get_or_insert_with(|| Look {
            doubt: self.doubt,
            size: PAGE,
            ..Look::default()
        });
        let is_over = match look.missing {
            None => look.read(client, question.thread_root(), bot, is_question)?,
            Some(_) => look.ask(client, &question.channel_id)?,
        };
        if !is_over {
            return Ok(None);
        }
        let served = served(&look.rows, &look.here);
        let questions = look.rows.iter().filter(|row| row.asked().is_some());
        let compared = Compared {
            doubt: look.doubt,
            copies: questions
                .map(|row| (row.id.clone(), served.contains(&row.id)))
                .collect(),
        };
        self.clear_to(compared.doubt);
        Ok(Some(compared))
    }
}

/// What comparing the questions of a thread came to.
pub(crate) struct Compared {
    /// All that the thread showed up to this moment was looked at.
    pub doubt: ServerTime,
    /// By question, whether it is a copy whose answer came along.
    pub copies: Map<PostId, bool>,
}

impl Compared {
    pub(crate) fn is_copy(&self, question: &PostId) -> bool {
        self.copies.get(question).is_some_and(|is_copy| *is_copy)
    }
}

/// A thread while it is read page by page, newest first, and then the questions that it shows only the
/// answers to.
#[derive(Default)]
struct Look {
    doubt: ServerTime,
    size: usize,
    rows: Vec<Row>,
    /// The questions still to be asked for; nothing before the whole thread was read.
    missing: Option<Vec<PostId>>,
    /// Those of them that are posts of the channel, deleted or not.
    here: Set<PostId>,
}

/// What of a post is needed: a thread may have thousands.
struct Row {
    id: PostId,
    at: ServerTime,
    what: What,
}

enum What {
    /// With what `asked` gives of it.
    Question(String),
    /// The bot's, with the question that it answers and what was asked; empty: by version 0.1.
    Answer(PostId, String),
    Other,
}

impl Row {
    fn new(post: Post, bot: &UserId, is_question: &dyn Fn(&Post) -> bool) -> Row {
        let what = if is_question(&post) {
            What::Question(asked(&post))
        } else {
            match post.props.prx {
                Some(prx) if post.user_id == *bot => What::Answer(prx.in_reply_to, prx.asked),
                _ => What::Other,
            }
        };
        let (id, at) = (post.id, post.create_at);
        Row { id, at, what }
    }

    /// What a question asks.
    fn asked(&self) -> Option<&str> {
        match &self.what {
            What::Question(asked) => Some(asked),
            _ => None,
        }
    }
}

impl Look {
    /// Reads the next older page: whether there is nothing to compare.
    fn read(
        &mut self,
        client: &Client,
        root: &PostId,
        bot: &UserId,
        is_question: &dyn Fn(&Post) -> bool,
    ) -> Result<bool, ApiError> {
        let replies = self.rows.iter().filter(|row| row.id != *root);
        let oldest = replies.map(|row| (row.at, row.id.clone())).min();
        let page = match client.thread_before(root, self.size, oldest.as_ref()) {
            Err(ApiError::TooLarge) if self.size > 1 => {
                self.size /= 2;
                return Ok(false);
            }
            Err(error) if error.is_closed() => Vec::new(),
            page => page?.posts,
        };
        // The root comes with every page, and all of the thread from servers that know no pages.
        let is_new = |post: &Post| match &oldest {
            Some((at, id)) => post.id != *root && (post.create_at, &post.id) < (*at, id),
            None => true,
        };
        let known = self.rows.len();
        let rows = page.into_iter().filter(is_new);
        self.rows
            .extend(rows.map(|post| Row::new(post, bot, is_question)));
        let found = self.rows.len() - known;
        if found > 0 && found + 1 >= self.size && self.rows.len() < DEPTH {
            return Ok(false);
        }
        let missing = missing(&self.rows);
        let is_over = missing.is_empty();
        self.missing = Some(missing);
        Ok(is_over)
    }

    /// Asks for some of the missing questions: whether those were the last.
    fn ask(&mut self, client: &Client, channel: &ChannelId) -> Result<bool, ApiError> {
        let Some(missing) = &mut self.missing else {
            return Ok(true);
        };
        let rest = missing.len().saturating_sub(PAGE);
        let asked: Vec<&PostId> = missing[rest..].iter().collect();
        match client.posts_by_ids(&asked) {
            // Servers before 6.0.
            Err(ApiError::Refused { .. }) => {}
            posts => {
                let mut posts = posts?;
                posts.retain(|post| post.channel_id == *channel);
                self.here.extend(posts.into_iter().map(|post| post.id));
            }
        }
        missing.truncate(rest);
        Ok(missing.is_empty())
    }
}

/// The questions that a thread shows the answers to, and not themselves.
fn missing(thread: &[Row]) -> Vec<PostId> {
    let there: Set<&PostId> = thread.iter().map(|row| &row.id).collect();
    let answers = answers(thread).into_keys();
    let missing = answers.filter(|id| id.is_well_formed() && !there.contains(id));
    missing.cloned().collect()
}

/// By question, when its answer was posted in `thread`, and what was asked.
fn answers(thread: &[Row]) -> Map<&PostId, (ServerTime, Option<&str>)> {
    let mut answers = Map::new();
    for row in thread {
        if let What::Answer(question, asked) = &row.what {
            let asked = Some(asked.as_str()).filter(|asked| !asked.is_empty());
            let answer = answers.or_insert(question, (row.at, asked));
            *answer = (answer.0.min(row.at), answer.1.or(asked));
        }
    }
    answers
}

/// The posts of `thread` whose answers came along with them. `here`: posts of the same channel,
/// deleted or not, that are not in the thread: their answers are no copies.
fn served(thread: &[Row], here: &Set<PostId>) -> Set<PostId> {
    let there: Set<&PostId> = thread.iter().map(|row| &row.id).collect();
    let mut served = Set::new();
    let mut copied = Vec::new();
    let answers = answers(thread);
    for (question, answer) in &answers {
        if there.contains(question) {
            served.insert((*question).clone());
        } else if question.is_well_formed() && !here.contains(question) {
            copied.push(*answer);
        }
    }
    copied.sort();
    let mut questions: Vec<&Row> = thread.iter().filter(|row| row.asked().is_some()).collect();
    questions.sort_by_key(|row| (row.at, &row.id));
    // An answer that tells what was asked serves the oldest such question.
    copied.retain(|(at, asked)| {
        let fits =
            |row: &&&Row| row.asked() == *asked && row.at <= *at && !served.contains(&row.id);
        let question = asked.and_then(|_| questions.iter().find(fits));
        question.is_none_or(|question| !served.insert(question.id.clone()))
    });
    // One of version 0.1, or to a question that was edited since, serves the last one before it.
    for (at, _) in copied {
        let fits = |row: &&&Row| row.at <= at && !served.contains(&row.id);
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

    fn rows(thread: &[Post]) -> Vec<Row> {
        let is_question = |post: &Post| post.user_id.as_str() != BOT;
        let rows = thread.iter().cloned();
        rows.map(|post| Row::new(post, &BOT.into(), &is_question))
            .collect()
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
            let served = served(&rows(&thread), &here);
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
        let thread = rows(&[person("p1", 10, "why?"), sent]);
        assert!(missing(&thread).is_empty());
        let served = served(&thread, &Set::new());
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
