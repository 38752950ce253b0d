//! Repeats what was said: for trying everything but a model.

use super::{Answer, Provider, ProviderError, Question, Role};

pub struct Echo;

impl Provider for Echo {
    fn answer(&self, question: &Question) -> Result<Answer, ProviderError> {
        let said = question
            .conversation
            .iter()
            .rfind(|message| message.role == Role::User);
        match said.map(|message| message.content.trim()) {
            None | Some("") => Err(ProviderError::Empty("echo: nothing was said".into())),
            Some(said) => Ok(Answer {
                text: format!("You said: {said}"),
                cut: false,
            }),
        }
    }

    fn describe(&self) -> String {
        "echo".into()
    }
}
