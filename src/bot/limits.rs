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
        let Some(answer) = state.answers.get(id).filter(|answer| !answer.counted) else {
            return;
        };
        let Some(question) = answer.live.question.clone() else {
            return;
        };
        if self.word_of(&question).is_some() {
            return;
        }
        let state = &mut self.store.state;
        let room = state
            .days
            .take(&question.user_id, question.create_at, limits);
        self.changed(Unsaved::BeforeNext);
        if room != Room::Free {
            info!("post {id} gets no answer: a daily limit is reached");
        }
        let spent = match room {
            Room::Free => {
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.counted = true;
                }
                return;
            }
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
        let Some(answer) = state.answers.get_mut(id) else {
            return;
        };
        if let Some(question) = &answer.live.question
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
