//! Repeats what was said: for trying everything but a model.

use super::{Answer, Class, Provider, ProviderError, Question, Role};

pub struct Echo;

impl Provider for Echo {
    fn answer(&self, question: &Question) -> Result<Answer, ProviderError> {
        let said = question
            .conversation
            .iter()
            .rfind(|message| message.role == Role::User);
        match said.map(|message| message.content.trim()) {
            None | Some("") => Err(ProviderError::new(
                Class::Empty,
                "echo: nothing was said".into(),
            )),
            Some(said) => Ok(Answer {
                text: format!("You said: {said}"),
                ..Answer::default()
            }),
        }
    }
}
