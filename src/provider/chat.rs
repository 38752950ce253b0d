//! What every chat API shares: the order of turns that all of them take, and what of an answer is
//! not for the reader.

use super::{Message, Role};

/// Put before a conversation that begins with the assistant: many chat templates refuse that.
const BEFORE: &str = "(The conversation goes on.)";

/// The system message, if any, and turns that alternate, begin and end with the user's, and are
/// never blank: templates of Gemma and Mistral refuse anything else, Anthropic blank text and a last
/// turn of the assistant's.
pub fn turns(conversation: &[Message]) -> (Option<String>, Vec<Message>) {
    let mut system = None;
    let mut turns: Vec<Message> = Vec::new();
    for message in conversation
        .iter()
        .filter(|message| !message.content.trim().is_empty())
    {
        if message.role == Role::System {
            join(system.get_or_insert_default(), &message.content);
            continue;
        }
        if turns.is_empty() && message.role == Role::Assistant {
            turns.push(Message::new(Role::User, BEFORE));
        }
        match turns.last_mut() {
            Some(last) if last.role == message.role => join(&mut last.content, &message.content),
            _ => turns.push(message.clone()),
        }
    }
    if turns
        .last()
        .is_some_and(|last| last.role == Role::Assistant)
    {
        turns.pop();
    }
    (system, turns)
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// `text` without `<think>…</think>`, trimmed. The opening tag may be missing (chat templates put it
/// into the prompt) or the closing one (the model ran out of tokens). A tag right after a backtick is
/// one that the answer is about.
pub fn without_reasoning(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(close) = find_tag(rest, CLOSE) {
        match find_tag(&rest[..close], OPEN) {
            Some(open) => kept.push_str(&rest[..open]),
            None => kept.clear(),
        }
        rest = &rest[close + CLOSE.len()..];
    }
    kept.push_str(&rest[..find_tag(rest, OPEN).unwrap_or(rest.len())]);
    kept.trim().to_owned()
}

fn find_tag(text: &str, tag: &str) -> Option<usize> {
    text.match_indices(tag)
        .map(|(at, _)| at)
        .find(|at| !text[..*at].ends_with('`'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"u:hello"` → a user's message.
    fn messages(short: &[&str]) -> Vec<Message> {
        short
            .iter()
            .map(|message| {
                let (role, content) = message.split_once(':').unwrap();
                let role = match role {
                    "s" => Role::System,
                    "u" => Role::User,
                    _ => Role::Assistant,
                };
                Message::new(role, content)
            })
            .collect()
    }

    #[test]
    fn turns_alternate_and_begin_and_end_with_the_user() {
        let before = format!("u:{BEFORE}");
        for (conversation, system, expected) in [
            (&["u:a"] as &[_], None, &["u:a"] as &[_]),
            (&["s:S", "u:a"], Some("S"), &["u:a"]),
            (&["u:a", "u:b"], None, &["u:a\n\nb"]),
            (&["u:a", "a:b", "u:c"], None, &["u:a", "a:b", "u:c"]),
            (
                &["u:a", "a:b", "a:c", "u:d"],
                None,
                &["u:a", "a:b\n\nc", "u:d"],
            ),
            (&["a:a", "u:b"], None, &[&before, "a:a", "u:b"]),
            (&["u:a", "a:b"], None, &["u:a"]),
            (&["u:a", "a: \n", "u:b"], None, &["u:a\n\nb"]),
            (&["s:", "u:a", "u: "], None, &["u:a"]),
            (&["s:S", "u:a", "s:T", "u:b"], Some("S\n\nT"), &["u:a\n\nb"]),
            (&["a:a"], None, &[&before]),
            (&["s:S"], Some("S"), &[]),
            (&[], None, &[]),
        ] {
            let (got_system, got) = turns(&messages(conversation));
            assert_eq!(got_system.as_deref(), system, "{conversation:?}");
            assert_eq!(got, messages(expected), "{conversation:?}");
        }
    }

    #[test]
    fn reasoning_is_taken_out_of_the_answer() {
        for (text, answer) in [
            ("  plain \n", "plain"),
            ("<think>hm</think>\n\nyes", "yes"),
            ("<think></think>yes", "yes"),
            ("hm, well</think>yes", "yes"),
            ("<think>hm", ""),
            ("hm</think>", ""),
            ("yes <think>or no", "yes"),
            ("<think>a</think>one<think>b</think> two", "one two"),
            ("<think>a <think> b</think> c</think>yes", "yes"),
            ("<think>the tag `</think>` ends it</think>yes", "yes"),
            (
                "Use `<think>` and `</think>` there.",
                "Use `<think>` and `</think>` there.",
            ),
            ("a < b <thin", "a < b <thin"),
        ] {
            assert_eq!(without_reasoning(text), answer, "{text}");
        }
    }
}
