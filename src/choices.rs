//! The models that people chose in the chat, by conversation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mattermost::ServerTime;

/// So many conversations are remembered; of more, those whose choice is the oldest are forgotten.
const COUNT: usize = 1000;

/// By conversation: the id of its thread's root or of its channel.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Choices(BTreeMap<String, Choice>);

#[derive(Deserialize, Serialize)]
struct Choice {
    /// Empty: the configured one again.
    model: String,
    /// When the choice was written.
    at: ServerTime,
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
        let known = self.0.get(conversation);
        if known.is_some_and(|known| known.at > at) {
            return;
        }
        let model = model.to_owned();
        self.0.insert(conversation.to_owned(), Choice { model, at });
        while self.0.len() > COUNT {
            let oldest = self.0.iter().min_by_key(|(_, choice)| choice.at);
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
    fn the_oldest_choices_are_forgotten() {
        let mut choices = Choices::default();
        for number in 0..COUNT as u64 + 5 {
            choices.choose(&format!("c{number}"), "m", ServerTime(number));
        }
        assert_eq!(choices.0.len(), COUNT);
        assert_eq!((choices.get("c4"), choices.get("c5")), (None, Some("m")));
    }
}
