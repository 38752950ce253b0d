//! The words that are commands in the chat: a post that is nothing but one of them. No network, no
//! clock, no files.

use crate::mattermost::{Post, User, mention};

/// A longer message is no word, and not looked at.
const LONGEST: usize = 300;

/// A command in the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Who the bot is, what it reads, and these words.
    Help,
    /// What was said before is not told to the model any more.
    New,
    /// No answer to what is being answered.
    Stop,
    /// Which model answers here, or which one is to.
    Model,
}

impl Word {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Word::Help => "help",
            Word::New => "new",
            Word::Stop => "stop",
            Word::Model => "model",
        }
    }
}

/// The word that `post` is, if it is addressed to `bot`: it stands in a direct channel or mentions the
/// bot, and has nothing else in it. At a channel's root there is nothing that `new` could end.
pub(crate) fn word(post: &Post, direct: bool, bot: &User) -> Option<Word> {
    if post.message.len() > LONGEST || !post.file_ids.is_empty() {
        return None;
    }
    let is_addressed = || direct || mention::mentions(&post.message, &bot.username);
    let (word, _) = parse(&mention::without_mention(&post.message, &bot.username))?;
    let has_before = direct || !post.root_id.is_empty();
    ((word != Word::New || has_before) && is_addressed()).then_some(word)
}

/// The model that a post names which is the word `model`; empty if it names none.
pub(crate) fn model_named(post: &Post, bot: &User) -> String {
    let text = mention::without_mention(&post.message, &bot.username);
    parse(&text).map_or(String::new(), |(_, name)| name.to_owned())
}

/// The word that `text` is, and what follows it, which only `model` allows. A slash may stand before
/// it: clients let one through behind a mention.
fn parse(text: &str) -> Option<(Word, &str)> {
    let text = text.trim();
    let text = text.strip_prefix('/').unwrap_or(text);
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let words = [Word::Help, Word::New, Word::Stop, Word::Model];
    let word = words
        .into_iter()
        .find(|word| first.eq_ignore_ascii_case(word.name()))?;
    let is_one = match word {
        // "model down?" is a question.
        Word::Model => !rest.contains(char::is_whitespace) && !rest.ends_with('?'),
        _ => rest.is_empty(),
    };
    is_one.then_some((word, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot() -> User {
        User {
            id: "bot".into(),
            username: "prxbot".into(),
            ..User::default()
        }
    }

    #[test]
    fn a_word_is_the_whole_text() {
        use Word::*;
        let cases: &[(&str, Option<(Word, &str)>)] = &[
            ("help", Some((Help, ""))),
            ("HELP", Some((Help, ""))),
            ("  /Help\n", Some((Help, ""))),
            ("new", Some((New, ""))),
            ("stop", Some((Stop, ""))),
            ("/stop", Some((Stop, ""))),
            ("model", Some((Model, ""))),
            ("Model  GPT-4o", Some((Model, "GPT-4o"))),
            ("model gpt 4", None),
            ("model down?", None),
            ("//help", None),
            ("/ help", None),
            ("help!", None),
            ("help me", None),
            ("new idea", None),
            ("stop it", None),
            ("models", None),
            ("\"help\"", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_word_counts_only_where_it_is_addressed_to_the_bot() {
        use Word::*;
        let cases: &[(&str, &str, bool, Option<Word>)] = &[
            // message, root, direct, word
            ("@prxbot help", "", false, Some(Help)),
            ("@PrxBot: /help", "", false, Some(Help)),
            ("help @prxbot", "", false, Some(Help)),
            ("help", "", false, None),
            ("help", "r", false, None),
            ("help", "", true, Some(Help)),
            ("@prxbot help", "", true, Some(Help)),
            ("@ann help", "", true, None),
            ("@prxbot new", "", false, None),
            ("@prxbot new", "r", false, Some(New)),
            ("new", "", true, Some(New)),
            ("@prxbot stop", "r", false, Some(Stop)),
            ("@prxbot model big", "", false, Some(Model)),
            ("`@prxbot` help", "", false, None),
        ];
        for &(message, root, direct, expected) in cases {
            let post = Post {
                message: message.into(),
                root_id: root.into(),
                ..Post::default()
            };
            assert_eq!(
                word(&post, direct, &bot()),
                expected,
                "{message:?} {root:?} {direct}"
            );
        }
        let with_file = Post {
            message: "help".into(),
            file_ids: vec!["f".into()],
            ..Post::default()
        };
        assert_eq!(word(&with_file, true, &bot()), None);
    }

    #[test]
    fn the_model_is_named_behind_the_word() {
        for (message, expected) in [
            ("@prxbot model Big-1", "Big-1"),
            ("model", ""),
            ("@prxbot /model  x", "x"),
        ] {
            let post = Post {
                message: message.into(),
                ..Post::default()
            };
            assert_eq!(model_named(&post, &bot()), expected);
        }
    }
}
