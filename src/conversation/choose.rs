//! Which of the posts are told, as whose words, and how much of them.

use super::quote::{self, Author};
use super::{Conversation, Input, Speaker, Turn, characters, with_file_names};
use crate::mattermost::{Post, PostId, ServerTime, UserId};
use crate::reply::{is_blank, without_footer};
use crate::sorted::Set;

/// The question of a bare mention. In a thread, what was said there is the question.
pub(super) const ANSWER_THE_ABOVE: &str = "Please answer what was said above.";
pub(super) const ANSWER_NOTHING: &str = "(I mentioned you without saying anything else.)";

/// Stands in for a thread's first post that a program wrote in the name of somebody who may not ask.
pub(super) const HIDDEN_PROGRAM: &str = "[This thread begins with a program's post that you are not shown: the \
                              account behind it is not in allowed_users.]";

/// Chooses what was said before the question, and the question.
pub(super) fn choose(input: &Input) -> Conversation {
    let question = input
        .posts
        .iter()
        .filter(|post| post.id == input.question.id)
        .chain([input.question])
        .max_by_key(|post| post.update_at)
        .unwrap_or(input.question);
    let mut asked = persons_turn(question, input);
    let earlier = turns(input);
    let several = speakers(earlier.iter().chain([&asked])) > 1;
    let is_bare = asked.text.is_empty();
    if is_bare {
        asked.text = ANSWER_THE_ABOVE.to_owned();
    }
    let room = input.history_chars.saturating_sub(asked.length(several));
    let read = earlier.len();
    let mut turns = within(earlier, room, several, input.history_posts);
    let is_cut = turns.len() < read;
    if is_bare && turns.is_empty() {
        asked.text = ANSWER_NOTHING.to_owned();
    }
    turns.push(asked);
    Conversation {
        several_speakers: speakers(&turns) > 1,
        turns,
        is_cut,
    }
}

/// Whether `question` says nothing but the bot's name.
pub(super) fn is_bare(question: &Post, clean: &dyn Fn(&str) -> String) -> bool {
    let text = clean(&question.message);
    is_blank(&text) && question.metadata.files.is_empty() && question.metadata.linked.is_empty()
}

/// How many people speak.
fn speakers<'a>(turns: impl IntoIterator<Item = &'a Turn>) -> usize {
    let person = |turn: &'a Turn| match &turn.speaker {
        Speaker::Person(id, _) => Some(id),
        _ => None,
    };
    let people: Set<&UserId> = turns.into_iter().filter_map(person).collect();
    people.len()
}

/// All that was said before the question and may be told, oldest first.
fn turns(input: &Input) -> Vec<Turn> {
    let mut posts: Vec<&Post> = input.posts.iter().collect();
    // Of two copies of a post the newer one comes first, and stays.
    posts.sort_by_key(|post| (place(post), std::cmp::Reverse(post.update_at)));
    posts.dedup_by_key(|post| &post.id);
    // An answer belongs to its question, also when others were asked in between: without it the
    // model would answer that question once more.
    let in_order = |post: &&Post| {
        let prx = post.props.prx.as_ref();
        let prx = prx.filter(|_| post.user_id == *input.bot_id);
        let asked = prx.and_then(|prx| input.posts.iter().find(|post| post.id == prx.in_reply_to));
        let (at, id) = place(asked.unwrap_or(post));
        (
            at,
            id.clone(),
            asked.is_some(),
            post.create_at,
            post.id.clone(),
        )
    };
    posts.sort_by_cached_key(in_order);
    let question = place(input.question);
    posts.retain(|post| {
        let (at, id, ..) = in_order(post);
        // A reply may have its root's millisecond.
        let is_before = (at, &id) < question || post.id == input.question.root_id;
        is_before && post.delete_at == ServerTime(0)
    });
    let turns = posts.iter().filter_map(|post| turn(post, &posts, input));
    turns.filter(|turn| !turn.text.is_empty()).collect()
}

pub(super) fn place(post: &Post) -> (ServerTime, &PostId) {
    (post.create_at, &post.id)
}

/// What `post` says, one of `posts`.
fn turn(post: &Post, posts: &[&Post], input: &Input) -> Option<Turn> {
    let root = &input.question.root_id;
    let is_root = post.id == *root;
    let mut quotations = Vec::new();
    let (speaker, text) = match (input.author)(post) {
        Author::Person => {
            return Some(Turn {
                is_root,
                ..persons_turn(post, input)
            });
        }
        Author::Bot => {
            let text = bot_text(post, posts);
            (Speaker::Bot, with_file_names(&text, &post.metadata.files))
        }
        Author::Program if input.read_programs && !root.is_empty() => {
            let name = program(post, input);
            let heading = format!("Quotation: the program {name} posted this");
            let text = quoted(&heading, post);
            quotations.push(heading);
            (Speaker::Quoted, text)
        }
        Author::HiddenProgram if input.read_programs && is_root => {
            (Speaker::Quoted, HIDDEN_PROGRAM.to_owned())
        }
        _ => return None,
    };
    Some(Turn {
        post: post.id.clone(),
        speaker,
        is_root,
        quotations,
        text,
        files: Vec::new(),
    })
}

/// What one who may ask said in `post`, with the posts that it links to; without any text for a bare
/// mention.
fn persons_turn(post: &Post, input: &Input) -> Turn {
    let files = &post.metadata.files;
    let mut texts = vec![with_file_names(&(input.clean)(&post.message), files)];
    let mut quotations = Vec::new();
    for linked in &post.metadata.linked {
        let is_unfinished = linked.props.has_prx && linked.props.prx.is_none();
        let name = match (input.author)(linked) {
            Author::Person => quote::name(&name(&linked.user_id, input)),
            Author::Bot if !is_unfinished => "you".to_owned(),
            Author::Program if input.read_programs => {
                format!("the program {}", program(linked, input))
            }
            _ => continue,
        };
        let heading = format!("Quotation: the linked post, by {name}");
        let text = quoted(&heading, linked);
        if !text.is_empty() {
            texts.push(text);
            quotations.push(heading);
        }
    }
    texts.retain(|text| !text.is_empty());
    Turn {
        post: post.id.clone(),
        quotations,
        speaker: Speaker::Person(post.user_id.clone(), name(&post.user_id, input)),
        is_root: false,
        text: texts.join("\n\n"),
        files: files.clone(),
    }
}

fn quoted(heading: &str, post: &Post) -> String {
    let text = quote::program_text(post);
    match with_file_names(without_footer(&text), &post.metadata.files) {
        text if text.is_empty() => text,
        text => quote::quotation(heading, text),
    }
}

fn name(id: &UserId, input: &Input) -> String {
    (input.names)(id).unwrap_or_else(|| id.to_string())
}

/// The name of the program that wrote `post`.
fn program(post: &Post, input: &Input) -> String {
    let shown = post.props.program_name.clone();
    quote::name(&shown.unwrap_or_else(|| name(&post.user_id, input)))
}

/// What the bot said in `post`: the whole answer if that was split and `post` is the first of its
/// parts; nothing in the others, nor in an apology, an unfinished answer or the server's own words.
fn bot_text(post: &Post, posts: &[&Post]) -> String {
    if !post.kind.is_empty() || post.props.growing_for.is_some() {
        return String::new();
    }
    let Some(prx) = &post.props.prx else {
        let is_unfinished = post.props.has_prx;
        return if is_unfinished {
            String::new()
        } else {
            post.message.clone()
        };
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
    without_footer(&texts.join("\n\n")).to_owned()
}

/// The newest `count` of `earlier` that fit in `room` characters, and in a thread its root, cut if
/// need be.
fn within(earlier: Vec<Turn>, room: usize, several: bool, count: usize) -> Vec<Turn> {
    let mut posts_left = count;
    let mut room_left = room;
    let (roots, others): (Vec<_>, Vec<_>) = earlier.into_iter().partition(|turn| turn.is_root);
    let root = roots.into_iter().next().filter(|_| posts_left > 0);
    // The root is sure of half the room; what the others leave is its own too.
    let kept_for_root = root
        .as_ref()
        .map_or(0, |root| root.length(several).min(room / 2));
    if root.is_some() {
        posts_left -= 1;
        room_left -= kept_for_root;
    }
    let mut chosen = Vec::new();
    for turn in others.into_iter().rev().take(posts_left) {
        let length = turn.length(several);
        if length > room_left {
            // Of what was said last, the beginning is better than nothing.
            if chosen.is_empty() {
                chosen.extend(shortened(turn, room_left, several));
                room_left = 0;
            }
            break;
        }
        room_left -= length;
        chosen.push(turn);
    }
    if let Some(root) = root {
        chosen.extend(shortened(root, room_left + kept_for_root, several));
    }
    chosen.reverse();
    chosen
}

/// `turn` within `room` characters, if there is room for anything of it.
fn shortened(mut turn: Turn, room: usize, several: bool) -> Option<Turn> {
    let space = room.saturating_sub(characters(&turn.prefix(several)));
    if characters(&turn.text) > space {
        turn.text = turn.text.chars().take(space.saturating_sub(1)).collect();
        turn.text.push('…');
    }
    (space > 1).then_some(turn)
}
