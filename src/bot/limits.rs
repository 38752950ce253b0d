//! The daily limits: which question that is taken up gets an answer, and what the others get.

use log::info;

use super::{Bot, Unsaved};
use crate::limits::{LATER, Limits, Room};
use crate::mattermost::PostId;

impl Bot {
    /// Counts an answer that is taken up, in the same write of the state that notes it as begun; one
    /// over the limit gets a short message, or a reaction.
    pub(super) fn count(&mut self, id: &PostId) {
        let settings = &self.config.mattermost;
        let limits = Limits {
            person: settings.daily_limit,
            all: settings.daily_limit_all,
        };
        let state = &mut self.store.state;
        if limits.person == 0 && limits.all == 0 {
            state.days.clear();
            return;
        }
        let answer = state.answers.get(id).filter(|answer| !answer.counted);
        let question = answer.and_then(|answer| answer.live.question.clone());
        let Some(question) = question.filter(|question| self.word_of(question).is_none()) else {
            return;
        };
        let state = &mut self.store.state;
        let room = state
            .days
            .take(&question.user_id, question.create_at, limits);
        self.changed(Unsaved::BeforeNext);
        if room != Room::Free {
            info!("post {id} gets no answer: a daily limit is reached");
        }
        let spent = match room {
            Room::Free => return self.update(id, |answer| answer.counted = true),
            Room::Told => return self.begin_reaction(id, LATER),
            Room::Spent => format!("You have had your {} for today", answers(limits.person)),
            Room::AllSpent => format!("The {} for today are given", answers(limits.all)),
        };
        self.apologize(
            id,
            &format!("{spent}; I answer again from 00:00 UTC on. Please ask again then."),
        );
    }

    /// Takes back that an answer was counted, which there will not be.
    pub(super) fn give_back(&mut self, id: &PostId) {
        let state = &mut self.store.state;
        if let Some(answer) = state.answers.get_mut(id)
            && let Some(question) = &answer.live.question
            && std::mem::take(&mut answer.counted)
        {
            state.days.give_back(&question.user_id, question.create_at);
        }
    }
}

fn answers(count: u32) -> String {
    match count {
        1 => "one answer".to_owned(),
        count => format!("{count} answers"),
    }
}
