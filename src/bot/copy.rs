//! Copies of threads from elsewhere: a question is compared with its thread where that shows an answer
//! that may be its own, once before it is taken up and once more before anything is posted.

use log::info;

use super::Bot;
use crate::answers::{Answer, Stage};
use crate::copies::Check;
use crate::filter::Verdict;
use crate::inbox::Waiting;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outage::Trouble;

const COPY: &str = "it is a copy of a thread that was moved here, with its answer";

impl Bot {
    /// Goes on comparing one of the posts that wait: whether there was one.
    pub(super) fn compare_waiting(&mut self) -> Result<bool, Trouble> {
        if self.inbox.strangers().is_empty() {
            return Ok(false);
        }
        let now = self.now();
        let strangers = self.inbox.strangers();
        let is_due = |it: &&Waiting| {
            let newest = strangers.newest(&it.post);
            it.due <= now && it.check.doubts(newest) && self.is_open(&it.post.channel_id)
        };
        let Some(waiting) = self.inbox.waiting().find(is_due) else {
            return Ok(false);
        };
        let post = waiting.post.clone();
        let waiting = self.inbox.waiting_mut(&post);
        let mut check = waiting.map_or_else(Check::default, |it| std::mem::take(&mut it.check));
        check.doubt(self.inbox.strangers().newest(&post));
        let is_over = match self.compare(&mut check, &post) {
            Ok(_) => Ok(false),
            Err(error) => self.put_off_waiting(&post, error),
        };
        if let Ok(true) = is_over {
            check.clear();
        }
        if let Some(waiting) = self.inbox.waiting_mut(&post) {
            waiting.check = check;
        }
        is_over.map(|_| true)
    }

    /// Goes on comparing a question that is answered, while nothing of that was posted: whether there
    /// was something to do.
    pub(super) fn compare_begun(&mut self, id: &PostId) -> Result<bool, Trouble> {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(false);
        };
        let is_posted = match &answer.live.stage {
            Stage::Deliver(progress) => !progress.asked || !progress.posted.is_empty(),
            _ => false,
        };
        let is_posted = is_posted || answer.grows();
        let Some(question) = answer.live.question.clone().filter(|_| !is_posted) else {
            return Ok(false);
        };
        let check = &mut answer.live.check;
        check.doubt(self.inbox.strangers().newest(&question));
        if !check.is_due() {
            return Ok(false);
        }
        let mut check = std::mem::take(check);
        let compared = self.compare(&mut check, &question);
        if compared.is_err() && self.patience_is_over(id) {
            check.clear();
        }
        self.update(id, |answer| answer.live.check = check);
        match compared {
            Ok(Some(true)) => self.give_up(id, COPY),
            Ok(_) => {}
            Err(error) => self.put_off(id, error)?,
        }
        Ok(true)
    }

    /// Goes on comparing the thread of `question`: whether that is a copy; nothing if another step is
    /// needed. Posts that wait in the same thread are decided along with it.
    fn compare(&mut self, check: &mut Check, question: &Post) -> Result<Option<bool>, ApiError> {
        let is_question = |post: &Post| !matches!(self.verdict(post), Verdict::Ignore(_));
        let compared = check.step(&self.client, question, &self.me.id, &is_question)?;
        let Some(compared) = compared else {
            return Ok(None);
        };
        let waiting = self.inbox.waiting().map(|waiting| &waiting.post);
        let there = waiting.filter(|post| compared.copies.contains_key(&post.id));
        for post in there.cloned().collect::<Vec<_>>() {
            if compared.is_copy(&post.id) {
                info!("post {} gets no answer: {COPY}", post.id);
                self.drop_waiting(&post);
            } else if let Some(waiting) = self.inbox.waiting_mut(&post) {
                waiting.check.clear_to(compared.doubt);
            }
        }
        Ok(Some(compared.is_copy(&question.id)))
    }

    /// A question as it was read by itself: replies to it may be its answer, come along with it.
    pub(super) fn doubt(&mut self, id: &PostId, fresh: &Post) {
        if fresh.root_id.is_empty() && fresh.reply_count > 0 {
            self.update(id, |answer| answer.live.check.doubt(Some(fresh.update_at)));
        }
    }

    /// Whether posts that came along with a fresh answer's question may still be unread, so that
    /// nothing may be posted yet: a copy's answer comes after it. In a thread that has copies already,
    /// the next look may show it.
    pub(super) fn is_unread(&self, answer: &Answer) -> bool {
        let began = answer.live.began.unwrap_or_default();
        let question = answer.live.question.as_ref();
        let has_copies = question.is_some_and(|question| self.inbox.strangers().touch(question));
        let has_news = || self.inbox.has_news(&self.store.state, &answer.channel);
        if has_copies {
            return self.inbox.looked_at() <= began || has_news();
        }
        self.now().saturating_sub(began) <= self.times.stale && has_news()
    }
}
