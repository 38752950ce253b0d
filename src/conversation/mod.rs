//! Thread or channel history → the messages a model is given: which posts, whose words, how much.
//! It reads nothing itself; `fetch` does.

mod fetch;

pub use fetch::{Gathering, Names, Place, Told, wrote_in_thread};

use std::collections::BTreeSet;

use crate::mattermost::{FileInfo, Post, PostId, ServerTime, UserId};
use crate::provider::{Message, Role};
use crate::reply::is_blank;

/// The longest channel name that is told, in characters.
const CHANNEL_NAME_CHARS: usize = 64;

/// The question of a bare mention. In a thread, what was said there is the question.
const ANSWER_THE_ABOVE: &str = "Please answer what was said above.";
const ANSWER_NOTHING: &str = "(I mentioned you without saying anything else.)";

/// Everything a conversation is chosen from.
struct Input<'a> {
    /// In any order, also twice or later than the question; in a thread, the thread.
    posts: &'a [Post],
    /// The post to answer. A copy of it in `posts` that was edited since takes its place.
    question: &'a Post,
    bot_id: &'a UserId,
    /// The bot's username.
    bot_name: &'a str,
    /// A person's username, if it is known.
    names: &'a dyn Fn(&UserId) -> Option<String>,
    /// The filter's verdict on a person's post but for the mention: what it refuses is not told.
    allowed: &'a dyn Fn(&Post) -> bool,
    /// Takes the bot's mention out of a person's text.
    clean: &'a dyn Fn(&str) -> String,
    /// The most messages before the question; a split answer is one, a thread's root is among them.
    history_posts: usize,
    /// The most characters over all messages but the system one. The question stays whole.
    history_chars: usize,
    /// The thread's root outlives what is between it and the newest posts.
    in_thread: bool,
    channel_name: Option<&'a str>,
    /// In the place of the built-in persona.
    system_prompt: Option<&'a str>,
    /// As `2026-11-22`.
    today: &'a str,
    /// The question's text files.
    files: &'a [FileText],
}

/// What was read of a file that belongs to the question.
struct FileText {
    name: String,
    /// The text, or why there is none.
    text: Result<String, String>,
}

/// The system's message, what was said before the question, and last the question, the user's.
fn build(input: &Input) -> Told {
    let question = input
        .posts
        .iter()
        .filter(|post| post.id == input.question.id)
        .chain([input.question])
        .max_by_key(|post| post.update_at)
        .unwrap_or(input.question);
    let mut asked = Turn {
        speaker: Some(&question.user_id),
        is_root: false,
        text: question_text(question, input),
    };
    let earlier = turns(input);
    let several = speakers(earlier.iter().chain([&asked])) > 1;
    let is_bare = asked.text.is_empty();
    if is_bare {
        asked.text = ANSWER_THE_ABOVE.to_owned();
    }
    let room = input
        .history_chars
        .saturating_sub(asked.length(several, input));
    let mut chosen = choose(earlier, room, several, input);
    if is_bare && chosen.is_empty() {
        asked.text = ANSWER_NOTHING.to_owned();
    }
    chosen.push(asked);
    let several = speakers(&chosen) > 1;
    let mut messages = vec![Message::new(Role::System, system_text(input, several))];
    messages.extend(chosen.into_iter().map(|turn| turn.message(several, input)));
    Told {
        messages,
        several_speakers: several,
    }
}

/// What one speaker said at once.
struct Turn<'a> {
    /// `None`: the bot.
    speaker: Option<&'a UserId>,
    is_root: bool,
    text: String,
}

impl Turn<'_> {
    /// What stands before the text when several people speak.
    fn prefix(&self, several: bool, input: &Input) -> String {
        match self.speaker {
            Some(id) if several => {
                let name = (input.names)(id).unwrap_or_else(|| id.to_string());
                format!("{name}: ")
            }
            _ => String::new(),
        }
    }

    /// In characters.
    fn length(&self, several: bool, input: &Input) -> usize {
        characters(&self.prefix(several, input)) + characters(&self.text)
    }

    fn message(&self, several: bool, input: &Input) -> Message {
        let role = match self.speaker {
            Some(_) => Role::User,
            None => Role::Assistant,
        };
        Message::new(role, self.prefix(several, input) + &self.text)
    }
}

fn characters(text: &str) -> usize {
    text.chars().count()
}

fn speakers<'a>(turns: impl IntoIterator<Item = &'a Turn<'a>>) -> usize {
    let people: BTreeSet<_> = turns.into_iter().filter_map(|turn| turn.speaker).collect();
    people.len()
}

/// All that was said before the question and may be told, oldest first.
fn turns<'a>(input: &Input<'a>) -> Vec<Turn<'a>> {
    let mut posts: Vec<&'a Post> = input.posts.iter().collect();
    // Of two copies of a post the newer one comes first, and stays.
    posts.sort_by_key(|post| (place(post), std::cmp::Reverse(post.update_at)));
    posts.dedup_by_key(|post| &post.id);
    // An answer belongs to its question, also when others were asked in between: without it the
    // model would answer that question once more.
    let in_order = |post: &&'a Post| {
        let prx = post.props.prx.as_ref();
        let prx = prx.filter(|_| post.user_id == *input.bot_id);
        let asked = prx.and_then(|prx| input.posts.iter().find(|post| post.id == prx.in_reply_to));
        (place(asked.unwrap_or(post)), asked.is_some(), place(post))
    };
    posts.sort_by_cached_key(in_order);
    posts
        .retain(|post| in_order(post).0 < place(input.question) && post.delete_at == ServerTime(0));
    let mut turns = Vec::new();
    for post in &posts {
        let is_root = input.in_thread && post.id == input.question.root_id;
        let (speaker, text) = if post.user_id == *input.bot_id {
            (None, bot_text(post, &posts))
        } else if (input.allowed)(post) {
            (Some(&post.user_id), (input.clean)(&post.message))
        } else {
            continue;
        };
        let text = with_file_names(&text, &post.metadata.files);
        if !text.is_empty() {
            turns.push(Turn {
                speaker,
                is_root,
                text,
            });
        }
    }
    turns
}

fn place(post: &Post) -> (ServerTime, &PostId) {
    (post.create_at, &post.id)
}

/// What the bot said in `post`: the whole answer if that was split and `post` is the first of its
/// parts, nothing in the others, nor in an apology or the server's own words.
fn bot_text(post: &Post, posts: &[&Post]) -> String {
    if !post.kind.is_empty() {
        return String::new();
    }
    let Some(prx) = &post.props.prx else {
        return post.message.clone();
    };
    let mut parts: Vec<(u32, &Post)> = posts
        .iter()
        .filter(|other| other.user_id == post.user_id && other.kind.is_empty())
        .filter_map(|other| Some((other.props.prx.as_ref()?, *other)))
        .filter(|(other, _)| other.in_reply_to == prx.in_reply_to && !other.apology)
        .map(|(other, post)| (other.part, post))
        .collect();
    if parts.first().is_some_and(|(_, first)| first.id != post.id) {
        return String::new();
    }
    parts.sort_by_key(|(part, _)| *part);
    parts.dedup_by_key(|(part, _)| *part);
    let texts: Vec<&str> = parts.iter().map(|(_, part)| part.message.trim()).collect();
    texts.join("\n\n")
}

/// Trimmed, and blank only if there is neither text nor file.
fn with_file_names(text: &str, files: &[FileInfo]) -> String {
    let text = if is_blank(text) { "" } else { text.trim() };
    let mut lines = vec![text.to_owned()];
    for file in files {
        let (name, size) = (one_line(&file.name), file.size);
        lines.push(match size {
            0..1024 => format!("[file: {name}, {size} bytes]"),
            1024..1_048_064 => format!("[file: {name}, {} KB]", (size + 512) / 1024),
            _ => format!("[file: {name}, {} MB]", size.saturating_add(1 << 19) >> 20),
        });
    }
    lines.join("\n").trim().to_owned()
}

/// The question as it is asked, with what its files say; empty for a bare mention.
fn question_text(question: &Post, input: &Input) -> String {
    let mut text = with_file_names(&(input.clean)(&question.message), &question.metadata.files);
    for file in input.files {
        let name = one_line(&file.name);
        text.push_str("\n\n");
        match &file.text {
            Ok(content) => {
                let fence = "`".repeat(longest_backticks(content).max(2) + 1);
                let content = content.trim_end();
                text.push_str(&format!("{name}:\n{fence}\n{content}\n{fence}"));
            }
            Err(why) => text.push_str(&format!("[{name}: {why}]")),
        }
    }
    text.trim().to_owned()
}

fn longest_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Somebody's name for something, kept from looking like more than a name.
fn one_line(name: &str) -> String {
    name.replace(char::is_control, " ")
}

/// The newest of `earlier` that fit in `room` characters, and in a thread its root, cut if need be.
fn choose<'a>(earlier: Vec<Turn<'a>>, room: usize, several: bool, input: &Input) -> Vec<Turn<'a>> {
    let mut posts_left = input.history_posts;
    let mut room_left = room;
    let (roots, others): (Vec<_>, Vec<_>) = earlier.into_iter().partition(|turn| turn.is_root);
    let root = roots.into_iter().next().filter(|_| posts_left > 0);
    // The root is sure of half the room; what the others leave is its own too.
    let kept_for_root = root
        .as_ref()
        .map_or(0, |root| root.length(several, input).min(room / 2));
    if root.is_some() {
        posts_left -= 1;
        room_left -= kept_for_root;
    }
    let mut chosen = Vec::new();
    for turn in others.into_iter().rev().take(posts_left) {
        let length = turn.length(several, input);
        if length > room_left {
            // Of what was said last, the beginning is better than nothing.
            if chosen.is_empty() {
                chosen.extend(shortened(turn, room_left, several, input));
                room_left = 0;
            }
            break;
        }
        room_left -= length;
        chosen.push(turn);
    }
    if let Some(root) = root {
        chosen.extend(shortened(root, room_left + kept_for_root, several, input));
    }
    chosen.reverse();
    chosen
}

/// `turn` within `room` characters, if there is room for anything of it.
fn shortened<'a>(
    mut turn: Turn<'a>,
    room: usize,
    several: bool,
    input: &Input,
) -> Option<Turn<'a>> {
    let space = room.saturating_sub(characters(&turn.prefix(several, input)));
    if characters(&turn.text) > space {
        turn.text = turn.text.chars().take(space.saturating_sub(1)).collect();
        turn.text.push('…');
    }
    (space > 1).then_some(turn)
}

/// Who the model is and where.
fn system_text(input: &Input, several: bool) -> String {
    let name = input.bot_name;
    let mut text = match input.system_prompt {
        Some(prompt) => prompt.trim().to_owned(),
        None => {
            "You are a helpful assistant in a team's chat. Answer briefly and to the point; say \
                 so when you do not know."
                .to_owned()
        }
    };
    text.push_str(&format!(
        "\n\nYour name here is {name}; people write @{name}."
    ));
    if let Some(channel) = input.channel_name {
        let channel: String = one_line(channel)
            .replace('"', "'")
            .chars()
            .take(CHANNEL_NAME_CHARS)
            .collect();
        text.push_str(&format!(" The channel is called \"{channel}\"."));
    }
    text.push_str(&format!(
        " Today is {}. What you write is shown as Mattermost Markdown.",
        input.today
    ));
    if several {
        text.push_str(
            " Several people speak: their messages begin with their names, yours do not.",
        );
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mattermost::{Metadata, PrxProps};

    const BOT: &str = "prxbot";

    /// A post of its place in time, its author and its text; its id is `p` and the time.
    fn post(at: u64, author: &str, message: &str) -> Post {
        Post {
            id: PostId(format!("p{at}")),
            create_at: ServerTime(at),
            update_at: ServerTime(at),
            user_id: UserId::from(author),
            message: message.to_owned(),
            ..Post::default()
        }
    }

    fn answer(at: u64, in_reply_to: &str, part: u32, of: u32, message: &str) -> Post {
        let mut post = post(at, BOT, message);
        post.props.from = Some("from_bot");
        post.props.has_prx = true;
        post.props.prx = Some(PrxProps {
            in_reply_to: PostId::from(in_reply_to),
            part,
            of,
            apology: false,
        });
        post
    }

    fn with_files(mut post: Post, files: &[(&str, u64)]) -> Post {
        let file = |(name, size): &(&str, u64)| FileInfo {
            name: name.to_string(),
            size: *size,
            ..FileInfo::default()
        };
        post.metadata = Metadata {
            files: files.iter().map(file).collect(),
        };
        post
    }

    /// What a case changes; the rest is a channel of which everything is told, and in which mallory
    /// is not allowed.
    struct Case<'a> {
        posts: Vec<Post>,
        question: Post,
        history_posts: usize,
        history_chars: usize,
        root: &'a str,
        in_thread: bool,
        files: Vec<FileText>,
        channel_name: Option<&'a str>,
        system_prompt: Option<&'a str>,
    }

    impl Case<'_> {
        fn new(posts: Vec<Post>, question: Post) -> Self {
            Case {
                posts,
                question,
                history_posts: 20,
                history_chars: 16000,
                root: "",
                in_thread: true,
                files: Vec::new(),
                channel_name: None,
                system_prompt: None,
            }
        }

        fn messages(&self) -> Vec<Message> {
            let mut question = self.question.clone();
            question.root_id = PostId::from(self.root);
            build(&Input {
                posts: &self.posts,
                question: &question,
                bot_id: &UserId::from(BOT),
                bot_name: "prxbot",
                names: &|id| (id.as_str() != "nameless").then(|| id.to_string()),
                allowed: &|post| {
                    post.user_id.as_str() != "mallory" && ["", "me"].contains(&post.kind.as_str())
                },
                clean: &|text| text.replace("@prxbot", ""),
                history_posts: self.history_posts,
                history_chars: self.history_chars,
                in_thread: self.in_thread && !self.root.is_empty(),
                channel_name: self.channel_name,
                system_prompt: self.system_prompt,
                today: "2026-11-22",
                files: &self.files,
            })
            .messages
        }

        fn system(&self) -> String {
            self.messages().remove(0).content
        }

        /// All but the system message, a line each: `U` or `A` and the text.
        fn told(&self) -> Vec<String> {
            let messages = self.messages();
            assert_eq!(messages[0].role, Role::System);
            let line = |message: &Message| {
                let role = match message.role {
                    Role::System => "S",
                    Role::User => "U",
                    Role::Assistant => "A",
                };
                format!("{role} {}", message.content)
            };
            messages[1..].iter().map(line).collect()
        }
    }

    #[test]
    fn it_is_told_who_it_is_where_and_when() {
        let mut case = Case::new(vec![], post(9, "alice", "hi"));
        let system = case.system();
        for fact in [
            "assistant",
            "@prxbot",
            "Today is 2026-11-22",
            "Mattermost Markdown",
        ] {
            assert!(system.contains(fact), "{fact}: {system}");
        }
        assert!(!system.contains("channel"), "{system}");
        case.system_prompt = Some("  You are a pirate.\n");
        let system = case.system();
        assert!(
            system.starts_with("You are a pirate.\n\nYour name"),
            "{system}"
        );
        assert!(!system.contains("helpful"), "{system}");
        case.system_prompt = Some("");
        assert!(case.system().starts_with("Your name"));
    }

    #[test]
    fn a_channel_name_is_one_quoted_line() {
        let mut case = Case::new(vec![], post(9, "alice", "hi"));
        let long = "n".repeat(70);
        for (name, told) in [
            ("Town Square", "\"Town Square\"".to_owned()),
            ("a\nIgnore\r\"b\"", "\"a Ignore 'b'\"".to_owned()),
            (&long, format!("\"{}\"", "n".repeat(64))),
        ] {
            case.channel_name = Some(name);
            assert!(case.system().contains(&told), "{}", case.system());
        }
    }

    #[test]
    fn it_ends_at_the_question() {
        for (what, posts, told) in [
            (
                "any order",
                vec![
                    post(3, "alice", "three"),
                    post(1, "alice", "one"),
                    post(2, BOT, "two"),
                ],
                vec!["U one", "A two", "U three", "U nine"],
            ),
            (
                "later ones",
                vec![post(10, "alice", "ten"), post(8, "alice", "eight")],
                vec!["U eight", "U nine"],
            ),
            (
                "the same millisecond",
                vec![
                    Post {
                        id: PostId::from("p8"),
                        ..post(9, "alice", "before")
                    },
                    Post {
                        id: PostId::from("px"),
                        ..post(9, "alice", "after")
                    },
                ],
                vec!["U before", "U nine"],
            ),
            ("itself", vec![post(9, "alice", "nine")], vec!["U nine"]),
            (
                "itself, edited",
                vec![Post {
                    update_at: ServerTime(12),
                    ..post(9, "alice", "ninety")
                }],
                vec!["U ninety"],
            ),
            (
                "twice, once before an edit",
                vec![
                    post(1, "alice", "one"),
                    Post {
                        update_at: ServerTime(5),
                        ..post(1, "alice", "edited")
                    },
                    post(1, "alice", "one"),
                ],
                vec!["U edited", "U nine"],
            ),
            (
                "deleted",
                vec![
                    post(1, "alice", "one"),
                    Post {
                        update_at: ServerTime(5),
                        delete_at: ServerTime(5),
                        ..post(1, "alice", "one")
                    },
                ],
                vec!["U nine"],
            ),
        ] {
            let case = Case::new(posts, post(9, "alice", "@prxbot nine"));
            assert_eq!(case.told(), told, "{what}");
        }
    }

    #[test]
    fn only_the_bot_and_those_who_may_ask_are_told() {
        let system = |at, author| Post {
            kind: "system_join_channel".to_owned(),
            ..post(at, author, "joined")
        };
        let mut apology = answer(4, "p1", 0, 1, "No answer, sorry.");
        apology.props.prx.as_mut().unwrap().apology = true;
        let wave = Post {
            kind: "me".to_owned(),
            ..post(5, "alice", "*waves*")
        };
        for (what, posts, told) in [
            ("not allowed", vec![post(1, "mallory", "secret")], vec![]),
            (
                "the server's words",
                vec![system(2, "alice"), system(3, BOT)],
                vec![],
            ),
            ("apologies", vec![apology], vec![]),
            ("/me", vec![wave], vec!["U *waves*"]),
            (
                "a blank one",
                vec![post(1, "alice", " \n"), post(2, BOT, " ")],
                vec![],
            ),
            ("a bare mention", vec![post(1, "alice", "@prxbot ")], vec![]),
            (
                "the bot's mention of itself",
                vec![post(1, BOT, "I am @prxbot")],
                vec!["A I am @prxbot"],
            ),
        ] {
            let case = Case::new(posts, post(9, "alice", "q"));
            let mut expected = told;
            expected.push("U q");
            assert_eq!(case.told(), expected, "{what}");
        }
    }

    #[test]
    fn names_are_told_when_several_people_speak() {
        let bob = post(1, "bob", "hello");
        let bot = post(2, BOT, "hello bob");
        let told = Case::new(vec![bob.clone(), bot.clone()], post(9, "alice", "hi"));
        assert_eq!(told.told(), ["U bob: hello", "A hello bob", "U alice: hi"]);
        assert!(told.system().contains("names"));

        let told = Case::new(vec![bob.clone(), bot], post(9, "bob", "hi"));
        assert_eq!(told.told(), ["U hello", "A hello bob", "U hi"]);
        assert!(!told.system().contains("names"));

        let told = Case::new(vec![bob.clone()], post(9, "nameless", "hi"));
        assert_eq!(told.told(), ["U bob: hello", "U nameless: hi"]);

        let alone = Case {
            history_posts: 1,
            ..Case::new(vec![bob, post(2, "alice", "so")], post(9, "alice", "hi"))
        };
        assert_eq!(alone.told(), ["U so", "U hi"], "bob is not told");
    }

    #[test]
    fn a_split_answer_is_one_message_again() {
        let forged = Post {
            user_id: UserId::from("mallory"),
            ..answer(2, "p1", 7, 8, "forged")
        };
        let posts = vec![
            forged,
            post(1, "alice", "a"),
            answer(4, "p1", 1, 3, "two\n"),
            post(5, "alice", "b"),
            answer(3, "p1", 0, 3, "one"),
            answer(7, "p1", 1, 3, "two"),
            answer(6, "p1", 2, 3, "three"),
            answer(8, "p5", 0, 1, "four"),
        ];
        let mut case = Case::new(posts, post(9, "alice", "q"));
        let told = ["U a", "A one\n\ntwo\n\nthree", "U b", "A four", "U q"];
        assert_eq!(case.told(), told);
        case.history_posts = 3;
        assert_eq!(case.told(), told[1..], "it counts once");
    }

    #[test]
    fn an_answer_stands_after_its_question() {
        let posts = vec![
            post(1, "alice", "one"),
            post(2, "alice", "two"),
            post(3, "alice", "three"),
            // Given when the question was long there.
            answer(11, "p1", 0, 2, "first"),
            answer(12, "p1", 1, 2, "again first"),
            answer(13, "p2", 0, 1, "second"),
            answer(14, "p10", 0, 1, "to a later one"),
            answer(15, "p9", 0, 1, "to itself"),
            post(10, "alice", "later"),
        ];
        let told = [
            "U one",
            "A first\n\nagain first",
            "U two",
            "A second",
            "U three",
            "U q",
        ];
        assert_eq!(Case::new(posts, post(9, "alice", "q")).told(), told);
        let unknown = vec![
            answer(3, "p0", 0, 1, "before"),
            answer(11, "p0", 0, 1, "after"),
        ];
        let told = ["A before", "U q"];
        assert_eq!(Case::new(unknown, post(9, "alice", "q")).told(), told);
    }

    #[test]
    fn the_newest_survive() {
        let posts: Vec<Post> = (1..=6).map(|at| post(at, "alice", "12345")).collect();
        for (history_posts, history_chars, earlier) in [
            (20, 16000, 6),
            (3, 16000, 3),
            (0, 16000, 0),
            (20, 35, 6),
            (20, 34, 5),
            (20, 10, 1),
            (20, 9, 1),
            (20, 6, 0),
            (20, 1, 0),
        ] {
            let mut case = Case::new(posts.clone(), post(9, "alice", "54321"));
            (case.history_posts, case.history_chars) = (history_posts, history_chars);
            let told = case.told();
            assert_eq!(told.len(), earlier + 1, "{history_posts} {history_chars}");
            assert_eq!(told[earlier], "U 54321", "the question stays whole");
        }
        let mut gap = posts;
        gap[4].message = "1".repeat(100);
        let mut case = Case::new(gap, post(9, "alice", "q"));
        case.history_chars = 50;
        assert_eq!(case.told(), ["U 12345", "U q"], "nothing from before a gap");
        case.posts = vec![answer(3, "p1", 0, 1, &"1".repeat(100))];
        case.history_chars = 11;
        let told = ["A 111111111…", "U q"];
        assert_eq!(case.told(), told, "of a long last answer, the beginning");
    }

    #[test]
    fn names_count_as_characters() {
        let posts = vec![post(1, "bob", "12345"), post(2, "bob", "12345")];
        let mut case = Case::new(posts, post(9, "alice", "123"));
        for (history_chars, earlier) in [(30, 2), (29, 1), (20, 1), (17, 1), (16, 0)] {
            case.history_chars = history_chars;
            assert_eq!(case.told().len(), earlier + 1, "{history_chars}");
        }
    }

    #[test]
    fn a_threads_root_survives() {
        let root = post(1, "alice", "the root here");
        let mut posts: Vec<Post> = (2..=6).map(|at| post(at, "alice", "12345")).collect();
        posts.push(root.clone());
        for (what, posts, history_posts, history_chars, told) in [
            (
                "posts",
                posts.clone(),
                3,
                16000,
                vec!["U the root here", "U 12345", "U 12345", "U q"],
            ),
            (
                "only it",
                posts.clone(),
                1,
                16000,
                vec!["U the root here", "U q"],
            ),
            ("none", posts.clone(), 0, 16000, vec!["U q"]),
            (
                "characters",
                posts.clone(),
                20,
                28,
                vec!["U the root here", "U 12345", "U 12345", "U q"],
            ),
            (
                "cut to half",
                posts.clone(),
                20,
                21,
                vec!["U the root …", "U 12345", "U 12345", "U q"],
            ),
            (
                "more than half if there is room",
                vec![root.clone()],
                20,
                14,
                vec!["U the root here", "U q"],
            ),
            (
                "cut to what there is",
                vec![root.clone()],
                20,
                9,
                vec!["U the roo…", "U q"],
            ),
            ("no room", vec![root], 20, 2, vec!["U q"]),
            (
                "not allowed",
                vec![post(1, "mallory", "x")],
                20,
                16000,
                vec!["U q"],
            ),
            (
                "the bot's",
                vec![post(1, BOT, "x")],
                20,
                16000,
                vec!["A x", "U q"],
            ),
        ] {
            let case = Case {
                history_posts,
                history_chars,
                root: "p1",
                ..Case::new(posts, post(9, "alice", "q"))
            };
            assert_eq!(case.told(), told, "{what}");
        }
        let elsewhere = Case {
            history_posts: 1,
            root: "p1",
            in_thread: false,
            ..Case::new(posts, post(9, "alice", "q"))
        };
        assert_eq!(elsewhere.told(), ["U 12345", "U q"], "no thread, no root");
    }

    #[test]
    fn files_are_named_with_their_size() {
        for (size, told) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KB"),
            (3000, "3 KB"),
            (1_048_000, "1023 KB"),
            (1_048_064, "1 MB"),
            (5 << 20, "5 MB"),
            (u64::MAX, "17592186044415 MB"),
        ] {
            let posts = vec![with_files(post(1, "alice", ""), &[("a\n.txt", size)])];
            let case = Case::new(posts, post(9, "alice", "q"));
            assert_eq!(
                case.told(),
                [format!("U [file: a .txt, {told}]"), "U q".to_owned()]
            );
        }
        let posts = vec![with_files(post(1, BOT, "See:"), &[("a", 1), ("b", 2)])];
        let case = Case::new(posts, post(9, "alice", "q"));
        assert_eq!(
            case.told()[0],
            "A See:\n[file: a, 1 bytes]\n[file: b, 2 bytes]"
        );
    }

    #[test]
    fn the_questions_files_are_told_or_why_not() {
        let question = with_files(
            post(9, "alice", "Read @prxbot"),
            &[("a.md", 40), ("b.png", 9)],
        );
        let file = |name: &str, text: Result<&str, &str>| FileText {
            name: name.to_owned(),
            text: text.map(str::to_owned).map_err(str::to_owned),
        };
        let case = Case {
            files: vec![
                file("a.md", Ok("one\n````\ntwo\n````\n")),
                file("b.png", Err("it could not be read")),
            ],
            ..Case::new(vec![], question)
        };
        let told = "U Read\n[file: a.md, 40 bytes]\n[file: b.png, 9 bytes]\n\n\
                    a.md:\n`````\none\n````\ntwo\n````\n`````\n\n\
                    [b.png: it could not be read]";
        assert_eq!(case.told(), [told]);
        let plain = Case {
            files: vec![file("a", Ok("`x`"))],
            ..Case::new(vec![], post(9, "alice", ""))
        };
        assert_eq!(plain.told(), ["U a:\n```\n`x`\n```"]);
    }

    #[test]
    fn a_bare_mention_asks_about_what_was_said() {
        let before = vec![post(1, "bob", "What is 6 times 7?")];
        let bare = post(9, "alice", " @prxbot ");
        let mut case = Case::new(before, bare);
        case.root = "p1";
        assert_eq!(
            case.told(),
            [
                "U bob: What is 6 times 7?".to_owned(),
                format!("U alice: {ANSWER_THE_ABOVE}"),
            ]
        );
        case.posts.clear();
        assert_eq!(case.told(), [format!("U {ANSWER_NOTHING}")]);
        // Keyboards of right-to-left languages leave marks around a name.
        case.question.message = "\u{200F}@prxbot\u{200E}".into();
        assert_eq!(case.told(), [format!("U {ANSWER_NOTHING}")]);
        case.posts = vec![post(1, "mallory", "What is 6 times 7?")];
        assert_eq!(case.told(), [format!("U {ANSWER_NOTHING}")]);
    }
}
