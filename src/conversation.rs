//! Thread or channel history → the messages a model is given: which posts, whose words, how much.
//! It reads nothing itself.

use std::collections::BTreeSet;

use crate::mattermost::{FileInfo, Post, PostId, ServerTime, UserId};
use crate::provider::{Message, Role};

/// The longest channel name that is told, in characters.
const CHANNEL_NAME_CHARS: usize = 64;

/// The question of a bare mention. In a thread, what was said there is the question.
const ANSWER_THE_ABOVE: &str = "Please answer what was said above.";
const ANSWER_NOTHING: &str = "(I mentioned you without saying anything else.)";

/// Everything a conversation is chosen from.
pub struct Input<'a> {
    /// In any order, also twice or later than the question; in a thread, the thread.
    pub posts: &'a [Post],
    /// The post to answer. A copy of it in `posts` that was edited since takes its place.
    pub question: &'a Post,
    pub bot_id: &'a UserId,
    /// The bot's username.
    pub bot_name: &'a str,
    /// A person's username, if it is known.
    pub names: &'a dyn Fn(&UserId) -> Option<String>,
    /// The filter's verdict on a person's post but for the mention: what it refuses is not told.
    pub allowed: &'a dyn Fn(&Post) -> bool,
    /// Takes the bot's mention out of a person's text.
    pub clean: &'a dyn Fn(&str) -> String,
    /// The most messages before the question; a split answer is one, a thread's root is among them.
    pub history_posts: usize,
    /// The most characters over all messages but the system one. The question stays whole.
    pub history_chars: usize,
    /// The thread's root outlives what is between it and the newest posts.
    pub in_thread: bool,
    pub channel_name: Option<&'a str>,
    /// In the place of the built-in persona.
    pub system_prompt: Option<&'a str>,
    /// As `2026-11-22`.
    pub today: &'a str,
    /// The question's text files.
    pub files: &'a [FileText],
}

/// What was read of a file that belongs to the question.
pub struct FileText {
    pub name: String,
    /// The text, or why there is none.
    pub text: Result<String, String>,
}

/// The messages: the system's, what was said before the question, and last the question, the
/// user's.
pub fn build(input: &Input) -> Vec<Message> {
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
    let mut messages = vec![Message {
        role: Role::System,
        content: system_text(input, several),
    }];
    messages.extend(chosen.into_iter().map(|turn| turn.message(several, input)));
    messages
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
        Message {
            role: match self.speaker {
                Some(_) => Role::User,
                None => Role::Assistant,
            },
            content: self.prefix(several, input) + &self.text,
        }
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
    let mut posts: Vec<&Post> = input.posts.iter().collect();
    // Of two copies of a post the newer one comes first, and stays.
    posts.sort_by_key(|post| (place(post), std::cmp::Reverse(post.update_at)));
    posts.dedup_by_key(|post| &post.id);
    posts.retain(|post| {
        place(post) < place(input.question)
            && post.id != input.question.id
            && post.delete_at == ServerTime(0)
    });
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
    if prx.apology || parts.first().is_some_and(|(_, first)| first.id != post.id) {
        return String::new();
    }
    parts.sort_by_key(|(part, _)| *part);
    parts.dedup_by_key(|(part, _)| *part);
    let texts: Vec<&str> = parts.iter().map(|(_, part)| part.message.trim()).collect();
    texts.join("\n\n")
}

/// Trimmed, and blank only if there is neither text nor file.
fn with_file_names(text: &str, files: &[FileInfo]) -> String {
    let mut lines = vec![text.trim().to_owned()];
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
            Err(why) => text.push_str(&format!("[{name} could not be read: {why}]")),
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
            break;
        }
        room_left -= length;
        chosen.push(turn);
    }
    if let Some(mut root) = root {
        let prefix = characters(&root.prefix(several, input));
        let space = (room_left + kept_for_root).saturating_sub(prefix);
        if characters(&root.text) > space {
            root.text = root.text.chars().take(space.saturating_sub(1)).collect();
            root.text.push('…');
        }
        if space > 1 {
            chosen.push(root);
        }
    }
    chosen.reverse();
    chosen
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
