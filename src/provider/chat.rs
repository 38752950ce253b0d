//! The order of turns that every chat API takes.

use super::{Message, Role};

/// Put before a conversation that begins with the assistant: many chat templates refuse that.
const BEFORE: &str = "(The conversation goes on.)";

/// The system message, if any, and turns that alternate, begin and end with the user's, and are
/// never blank: templates of Gemma and Mistral refuse anything else, Anthropic blank text and a last
/// turn of the assistant's. `with_system`: the system message stands for itself; else it begins the
/// first turn, as templates without such a role want it.
pub(super) fn turns(conversation: &[Message], with_system: bool) -> (Option<String>, Vec<Message>) {
    let mut system = None;
    let mut turns: Vec<Message> = Vec::new();
    for message in conversation
        .iter()
        .filter(|message| !message.content.trim().is_empty() || !message.images.is_empty())
    {
        if message.role == Role::System {
            join(system.get_or_insert_default(), &message.content);
            continue;
        }
        if turns.is_empty() && message.role == Role::Assistant {
            turns.push(Message::new(Role::User, BEFORE));
        }
        match turns.last_mut() {
            Some(last) if last.role == message.role => {
                join(&mut last.content, &message.content);
                last.images.extend(&message.images);
            }
            _ => turns.push(message.clone()),
        }
    }
    if turns
        .last()
        .is_some_and(|last| last.role == Role::Assistant)
    {
        turns.pop();
    }
    if let (false, Some(system), Some(first)) = (with_system, &mut system, turns.first_mut()) {
        join(system, &first.content);
        first.content = std::mem::take(system);
        return (None, turns);
    }
    (system, turns)
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
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
            let (got_system, got) = turns(&messages(conversation), true);
            assert_eq!(got_system.as_deref(), system, "{conversation:?}");
            assert_eq!(got, messages(expected), "{conversation:?}");
        }
    }

    #[test]
    fn a_system_message_that_may_not_stand_for_itself_begins_the_first_turn() {
        for (conversation, expected) in [
            (
                &["s:S", "u:a", "a:b", "u:c"] as &[_],
                &["u:S\n\na", "a:b", "u:c"] as &[_],
            ),
            (&["u:a"], &["u:a"]),
        ] {
            let expected = (None, messages(expected));
            assert_eq!(
                turns(&messages(conversation), false),
                expected,
                "{conversation:?}"
            );
        }
    }
}
