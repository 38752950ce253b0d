//! What people chose in the chat, by conversation: the model, and where the conversation begins.

use serde::{Deserialize, Serialize};

use crate::mattermost::ServerTime;
use crate::sorted::Map;

/// Conversations remembered at most; the oldest choice goes first.
const COUNT: usize = 1000;

/// By conversation: the id of its thread's root or of its channel.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Choices(Map<String, Choice>);

#[derive(Default, Deserialize, Serialize)]
struct Choice {
    /// Empty: the configured one.
    model: String,
    /// When the model was chosen.
    at: ServerTime,
    /// What was said up to then is not told any more; 0: all may be.
    #[serde(default, skip_serializing_if = "is_zero")]
    begins: ServerTime,
}

fn is_zero(at: &ServerTime) -> bool {
    at.0 == 0
}

impl Choices {
    /// Whether nothing was chosen.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The model that was chosen in a conversation.
    pub(crate) fn get(&self, conversation: &str) -> Option<&str> {
        let choice = self.0.get(conversation)?;
        (!choice.model.is_empty()).then_some(&choice.model)
    }

    /// Notes a choice that was written at `at`, unless a later one is known. Empty: the configured
    /// model again.
    pub(crate) fn choose(&mut self, conversation: &str, model: &str, at: ServerTime) {
        let choice = self.0.or_default(conversation.to_owned());
        if choice.at <= at {
            (choice.model, choice.at) = (model.to_owned(), at);
        }
        self.make_room();
    }

    /// The moment up to which what was said in a conversation is not told any more.
    pub(crate) fn begins(&self, conversation: &str) -> ServerTime {
        let choice = self.0.get(conversation);
        choice.map_or(ServerTime(0), |choice| choice.begins)
    }

    /// Notes that a conversation begins anew after a post written at `at`.
    pub(crate) fn begin(&mut self, conversation: &str, at: ServerTime) {
        let choice = self.0.or_default(conversation.to_owned());
        choice.begins = choice.begins.max(at);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.0.len() > COUNT {
            let age = |choice: &Choice| choice.at.max(choice.begins);
            let oldest = self.0.iter().min_by_key(|(_, choice)| age(choice));
            let Some(oldest) = oldest.map(|(conversation, _)| conversation.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_choice_of_a_conversation_holds() {
        let mut choices = Choices::default();
        choices.choose("a", "small", ServerTime(2));
        choices.choose("b", "big", ServerTime(3));
        choices.choose("a", "big", ServerTime(1));
        assert_eq!(choices.get("a"), Some("small"));
        choices.choose("a", "", ServerTime(4));
        assert_eq!((choices.get("a"), choices.get("b")), (None, Some("big")));
    }

    #[test]
    fn a_conversation_begins_after_the_newest_word_that_said_so_whatever_its_model_is() {
        let mut choices = Choices::default();
        assert_eq!(choices.begins("a"), ServerTime(0));
        choices.begin("a", ServerTime(5));
        choices.begin("a", ServerTime(3));
        choices.choose("a", "big", ServerTime(4));
        assert_eq!(
            (choices.begins("a"), choices.get("a")),
            (ServerTime(5), Some("big"))
        );
        assert_eq!(choices.begins("b"), ServerTime(0));
        let text = serde_json::to_string(&choices).unwrap();
        let read: Choices = serde_json::from_str(&text).unwrap();
        assert_eq!(read.begins("a"), ServerTime(5));
        let older = r#"{"a":{"model":"big","at":4}}"#;
        let read: Choices = serde_json::from_str(older).unwrap();
        assert_eq!(
            (read.begins("a"), read.get("a")),
            (ServerTime(0), Some("big"))
        );
    }

    #[test]
    fn the_oldest_choices_are_forgotten() {
        let mut choices = Choices::default();
        for number in 0..COUNT as u64 + 5 {
            choices.choose(&format!("c{number}"), "m", ServerTime(number));
        }
        assert_eq!(choices.0.len(), COUNT);
        assert_eq!((choices.get("c4"), choices.get("c5")), (None, Some("m")));
    }
}
