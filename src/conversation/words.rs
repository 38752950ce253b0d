//! What the chat's commands leave of what was said before a question: neither they nor what stands
//! before the newest `new` is told.

use super::choose::place;
use crate::mattermost::{Post, PostId, ServerTime, UserId};
use crate::sorted::Set;
use crate::words::Word;

/// Those of `posts` that may be told before `question`. `begins`: what was said up to then is not
/// told, since there was a `new`, which need not be among `posts`. `word`: the command that a post is,
/// if it is one.
pub(super) fn without_words(
    posts: Vec<Post>,
    question: &Post,
    bot: &UserId,
    begins: ServerTime,
    word: &dyn Fn(&Post) -> Option<Word>,
) -> Vec<Post> {
    let mut words: Set<PostId> = Set::new();
    let begins = (begins, PostId::default());
    let is_earlier = begins.0 > ServerTime(0) && begins.0 < question.create_at;
    let mut cut = is_earlier.then_some(begins);
    for post in posts.iter().filter(|post| place(post) < place(question)) {
        let Some(word) = word(post) else {
            continue;
        };
        words.insert(post.id.clone());
        if word == Word::New {
            let at = (post.create_at, post.id.clone());
            cut = cut.max(Some(at));
        }
    }
    let is_left_out = |post: &&Post| {
        let is_earlier = |(at, id): &(ServerTime, PostId)| place(post) <= (*at, id);
        cut.as_ref().is_some_and(is_earlier) || words.contains(&post.id)
    };
    let left_out = posts.iter().filter(is_left_out);
    let left_out: Set<PostId> = left_out.map(|post| post.id.clone()).collect();
    let known: Set<PostId> = posts.iter().map(|post| post.id.clone()).collect();
    // An answer belongs to its question, also one that came after the `new`.
    let is_told = |post: &Post| match &post.props.prx {
        Some(prx) if post.user_id == *bot => {
            let asked = &prx.in_reply_to;
            let may_be_told = known.contains(asked) || cut.is_none();
            *asked == question.id || may_be_told && !left_out.contains(asked)
        }
        _ => !left_out.contains(&post.id),
    };
    posts.into_iter().filter(is_told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mattermost::PrxProps;

    fn post(id: &str, text: &str) -> Post {
        Post {
            id: id.into(),
            create_at: ServerTime(id.bytes().map(u64::from).sum()),
            user_id: "ann".into(),
            message: text.into(),
            ..Post::default()
        }
    }

    fn answer(id: &str, question: &str) -> Post {
        let mut post = post(id, "an answer");
        post.user_id = "bot".into();
        post.props.prx = Some(PrxProps {
            in_reply_to: question.into(),
            part: 0,
            of: 1,
            apology: false,
            asked: String::new(),
        });
        post
    }

    #[test]
    fn the_conversation_begins_after_the_newest_new() {
        let word = |post: &Post| match post.message.as_str() {
            "new" => Some(Word::New),
            "help" => Some(Word::Help),
            _ => None,
        };
        let told = |posts: Vec<Post>| {
            let none = ServerTime(0);
            let told = without_words(posts, &post("q", "and?"), &"bot".into(), none, &word);
            told.iter().map(|post| post.id.as_str()).collect::<String>()
        };
        let cases = [
            ("no word", vec![post("a", "hi"), answer("b", "a")], "ab"),
            (
                "another word",
                vec![
                    post("a", "hi"),
                    post("b", "help"),
                    answer("c", "b"),
                    post("d", "so"),
                ],
                "ad",
            ),
            (
                "new",
                vec![
                    post("a", "hi"),
                    answer("b", "a"),
                    post("c", "new"),
                    post("d", "so"),
                ],
                "d",
            ),
            (
                "two of them",
                vec![
                    post("a", "new"),
                    post("b", "hi"),
                    post("c", "new"),
                    post("d", "so"),
                ],
                "d",
            ),
            (
                "an answer that came after it",
                vec![
                    post("a", "hi"),
                    post("b", "new"),
                    answer("c", "a"),
                    answer("d", "unknown"),
                ],
                "",
            ),
            (
                "an answer to what was asked after it",
                vec![post("b", "new"), post("c", "so"), answer("d", "c")],
                "cd",
            ),
            (
                "one after the question",
                vec![post("a", "hi"), post("x", "new")],
                "ax",
            ),
            (
                "an answer to what is not there",
                vec![post("b", "help"), answer("d", "z")],
                "d",
            ),
        ];
        for (name, posts, expected) in cases {
            assert_eq!(told(posts), expected, "{name}");
        }
    }

    #[test]
    fn a_new_holds_that_is_not_among_the_posts() {
        let posts = || {
            vec![
                post("a", "hi"),
                answer("b", "a"),
                post("d", "so"),
                answer("e", "d"),
                answer("f", "unknown"),
            ]
        };
        for (begins, expected) in [
            ("b", "de"),
            ("c", "de"),
            ("e", ""),
            ("q", "abdef"),
            ("", "abdef"),
        ] {
            let at = ServerTime(begins.bytes().map(u64::from).sum());
            let question = post("q", "and?");
            let told = without_words(posts(), &question, &"bot".into(), at, &|_| None);
            let told: String = told.iter().map(|post| post.id.as_str()).collect();
            assert_eq!(told, expected, "{begins}");
        }
    }
}
