//! Repeats what was said: for trying everything but a model.

use super::ask::Ear;
use super::error::{Class, ProviderError};
use super::server::{Failed, Said};
use super::{Message, Role};

/// The last thing that a person said.
pub(super) fn answer(conversation: &[Message], ear: &mut Ear) -> Result<Said, Failed> {
    let said = conversation
        .iter()
        .rfind(|message| message.role == Role::User);
    match said.map(|message| message.content.trim()) {
        None | Some("") => {
            Err(ProviderError::new(Class::Empty, "echo: nothing was said".into()).into())
        }
        Some(said) => Ok(ear.say(&format!("You said: {said}"))),
    }
}
