//! Settling: what workers report becomes a draft, an apology, or another try.

use std::time::Duration;

use log::warn;

use super::{Bot, Unsaved};
use crate::answers::Stage;
use crate::desk::{News, WorkerId};
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
                self.settle_one(&id, worker, news);
            }
        }
    }

    fn settle_one(&mut self, id: &PostId, worker: WorkerId, news: News) {
        if news != News::Grew
            && let Some(answer) = self.store.state.answers.get_mut(id)
        {
            answer.live.feeding = None;
        }
        match news {
            News::Grew => {
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.live.grew = true;
                    if !answer.grows() {
                        answer.live.growth.due = Default::default();
                    }
                }
            }
            News::Done(answer) => {
                self.desk.stop(worker);
                self.answered(id, answer);
            }
            News::Failed(failure) => {
                self.desk.stop(worker);
                warn!("no answer to post {id}: {}", failure.line);
                self.apologize(id, &failure.person);
            }
            News::TimedOut => {
                warn!("no answer to post {id}: it took longer than message_timeout_secs");
                self.apologize(id, Class::TimedOut.for_person());
            }
            News::Died(how, counts) => {
                warn!("the worker that made the answer to post {id} ended: {how}");
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.attempts += u32::from(counts);
                    answer.live.stage = Stage::Ready;
                    answer.live.began = None;
                }
                self.changed(Unsaved::BeforeNext);
            }
        }
    }

    /// Says in the log, once a minute, that another than the first provider answers.
    fn tell_fallback(&mut self, id: &PostId, by: &str) {
        let now = self.now();
        let model = self.model_of(id);
        let provider = &self.config.provider;
        let first = provider.described_with(model.as_deref().unwrap_or(&provider.model));
        let quiet = self
            .fallback_told
            .is_some_and(|told| now < told + TOLD_EVERY);
        if by != first && !quiet {
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
        self.draft(id, &reply::with_remarks(answer), false);
        self.add_footer(id, &facts);
    }
}
