//! The small print below an answer (`footer`): who wrote it, how long that took, what it cost.

use super::Bot;
use crate::answers::Stage;
use crate::mattermost::PostId;
use crate::outbox::Outbox;
use crate::reply;

impl Bot {
    /// What the footer of an answer says that was made just now.
    pub(super) fn footer_facts(
        &self,
        id: &PostId,
        by: &str,
        tokens: Option<(u64, u64)>,
    ) -> Vec<String> {
        let wanted = self.config.mattermost.footer;
        let answer = self.store.state.answers.get(id);
        let began = answer.and_then(|answer| answer.live.began);
        let took = began.map(|began| self.now().saturating_sub(began));
        let model = (!by.is_empty()).then(|| format!("`{}`", by.replace('`', "'")));
        let time = took.map(|took| format!("{:.1} s", took.as_secs_f64()));
        let tokens = tokens.map(|(prompt, answer)| format!("{prompt} + {answer} tokens"));
        let facts = [
            model.filter(|_| wanted.model),
            time.filter(|_| wanted.time),
            tokens.filter(|_| wanted.tokens),
        ];
        facts.into_iter().flatten().collect()
    }

    /// Puts the footer below the draft of an answer: into its last part, or as one more.
    pub(super) fn add_footer(&mut self, id: &PostId, facts: &[String]) {
        let limit = self.post_limit;
        let Some(footer) = reply::footer(facts) else {
            return;
        };
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let Some(draft) = &mut answer.draft else {
            return;
        };
        let length = |text: &str| text.chars().count();
        match draft.parts.last_mut() {
            Some(last) if length(last) + 2 + length(&footer) <= limit => {
                *last = format!("{last}\n\n{footer}");
            }
            _ => draft.parts.push(footer),
        }
        answer.live.stage = Stage::Deliver(Outbox::fresh(draft));
    }
}
