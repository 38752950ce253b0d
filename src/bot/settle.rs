//! Settling: what workers report becomes a draft, an apology, or another try.

use std::time::Duration;

use log::warn;

use super::{Bot, Unsaved};
use crate::desk::News;
use crate::mattermost::PostId;
use crate::provider::{Answer, Class};
use crate::reply;

/// Between two lines of the log about a provider that is out.
const TOLD_EVERY: Duration = Duration::from_secs(60);

impl Bot {
    /// Takes in all that workers have reported. No request is made here.
    pub(super) fn settle(&mut self) {
        for (worker, news) in self.desk.hear() {
            if news != News::Grew {
                self.starts.freed();
            }
            let mut answers = self.store.state.answers.iter();
            let of_worker = answers.find(|(_, answer)| answer.worker() == Some(worker));
            if let Some(id) = of_worker.map(|(id, _)| id.clone()) {
                self.settle_one(&id, news);
            }
        }
    }

    fn settle_one(&mut self, id: &PostId, news: News) {
        if news != News::Grew {
            self.update(id, |answer| answer.live.feeding = None);
        }
        match news {
            News::Grew => self.update(id, |answer| {
                answer.live.grew = true;
                if !answer.grows() {
                    answer.live.growth.due = Duration::ZERO;
                }
            }),
            News::Done(answer) => self.answered(id, answer),
            News::Failed(failure) => {
                warn!("no answer to post {id}: {}", failure.line);
                self.apologize(id, &failure.person);
            }
            News::TimedOut => {
                warn!("no answer to post {id}: it took longer than message_timeout_secs");
                self.apologize(id, Class::TimedOut.for_person());
            }
            News::Died(how, counts) => {
                warn!("the worker that made the answer to post {id} ended: {how}");
                self.update(id, |answer| {
                    answer.attempts += u32::from(counts);
                    answer.live.wait_again();
                });
                self.changed(Unsaved::BeforeNext);
            }
        }
    }

    /// Says in the log, once a minute, that another than the first provider answers.
    fn tell_fallback(&mut self, id: &PostId, by: &str) {
        let now = self.now();
        let quiet = |told| now < told + TOLD_EVERY;
        if let Some(first) = self
            .question(id)
            .map(|question| self.describe_model(question))
            && by != first
            && !self.fallback_told.is_some_and(quiet)
        {
            warn!("{first} is out; {by} answers in its place");
            self.fallback_told = Some(now);
        }
    }

    fn answered(&mut self, id: &PostId, answer: Answer) {
        if reply::is_blank(&answer.text) {
            warn!(
                "no answer to post {id}: {}: nothing in the answer can be shown",
                answer.by
            );
            self.apologize(id, Class::Empty.for_person());
            return;
        }
        self.tell_fallback(id, &answer.by);
        let facts = self.footer_facts(id, &answer.by, answer.tokens);
        let mut parts = self.parts(&reply::with_remarks(answer));
        reply::add_footer(&mut parts, &facts, self.post_limit);
        self.draft(id, parts, false);
    }

    /// What the small print below an answer says that was made just now (`footer`): who wrote it, how
    /// long that took, what it cost.
    fn footer_facts(&self, id: &PostId, by: &str, tokens: Option<(u64, u64)>) -> Vec<String> {
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
}
