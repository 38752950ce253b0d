//! Tending, in rounds: "typing" for what is at work and what waits, and what is to be looked at.

use std::collections::VecDeque;
use std::time::Duration;

use log::debug;

use super::Bot;
use super::draft::root;
use crate::answers::Stage;
use crate::filter::Verdict;
use crate::inbox::Waiting;
use crate::mattermost::client::ApiError;
use crate::mattermost::{ChannelId, Post, PostId};
use crate::outage::Trouble;

/// Between two "typing" events: at most five a second.
const APART: Duration = Duration::from_millis(200);
/// Places that get a "typing" in each round: more would not fit between two rounds.
const PLACES: usize = 16;

/// A channel, and the thread in it, or nothing for the channel itself.
type Place = (ChannelId, PostId);

/// What is left of a round.
#[derive(Default)]
pub(super) struct Tender {
    next_round: Option<Duration>,
    places: VecDeque<Place>,
    next_typing: Duration,
    /// Questions to look at.
    pub(super) questions: Vec<PostId>,
    /// Posts whose reactions are to be looked at: questions, and what is shown of their answers.
    pub(super) reactions: Vec<PostId>,
    /// In this round the server refused to show the reactions of several posts at once.
    pub(super) singly: bool,
    /// Questions that the server left out of several: their own address tells.
    pub(super) missing: Vec<PostId>,
    /// The server has no call for several posts at once.
    pub(super) one_by_one: bool,
    /// The last step was one of these, before its time in the order.
    had_a_turn: bool,
}

impl Tender {
    /// When there is something to do; nothing while nothing is at work and nothing waits.
    pub(super) fn due(&self) -> Option<Duration> {
        let typing = (!self.places.is_empty()).then_some(self.next_typing);
        self.next_round.into_iter().chain(typing).min()
    }
}

impl Bot {
    /// Tends before all that may take long, where "typing" would go out in the meantime.
    pub(super) fn tend_overdue(&mut self) -> Result<bool, Trouble> {
        // Every other step: with a slow server there would be no others.
        if std::mem::take(&mut self.tender.had_a_turn) {
            return Ok(false);
        }
        let due = self.tender.due().map(|due| due + self.times.typing / 2);
        if due.is_none_or(|due| due > self.now()) {
            return Ok(false);
        }
        self.tender.had_a_turn = true;
        self.tend()
    }

    /// Does the next thing of a round: whether there was one.
    pub(super) fn tend(&mut self) -> Result<bool, Trouble> {
        let now = self.now();
        if self.tender.next_round.is_none_or(|due| now >= due) {
            self.plan_round();
        }
        // First, since people look for it.
        if now >= self.tender.next_typing
            && let Some((channel, thread)) = self.tender.places.pop_front()
        {
            self.show_typing(&channel, &thread);
            return Ok(true);
        }
        if !self.tender.questions.is_empty() {
            self.look_at_questions()?;
            return Ok(true);
        }
        if let Some(id) = self.tender.missing.pop() {
            self.look_at_one(&id)?;
            return Ok(true);
        }
        if !self.tender.reactions.is_empty() {
            self.look_at_reactions()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// "Typing" is worth one try: it comes again in the next round.
    fn show_typing(&mut self, channel: &ChannelId, thread: &PostId) {
        self.tender.next_typing = self.now() + APART;
        if let Err(error) = self.client.typing(channel, thread) {
            debug!("no typing in {channel}: {error}");
            if let ApiError::RateLimited(_) | ApiError::Unreachable(_) = error {
                self.tender.places.clear();
            }
        }
    }

    /// Where "typing" is to be shown in this round, and which questions are to be looked at.
    fn plan_round(&mut self) {
        let state = &self.store.state;
        let mut questions = Vec::new();
        let mut places: Vec<Place> = Vec::new();
        let mut add = |post: &Post| {
            for place in self.places_of(post) {
                if places.len() < PLACES && !places.contains(&place) {
                    places.push(place);
                }
            }
        };
        for (id, answer) in &state.answers {
            let Some(question) = &answer.live.question else {
                continue;
            };
            if matches!(
                answer.live.stage,
                Stage::Deliver(_) | Stage::Withdraw { .. } | Stage::React { .. }
            ) {
                continue;
            }
            if answer.live.began.is_some() {
                questions.push(id.clone());
            }
            if self.is_open(&answer.channel) {
                add(question);
            }
        }
        let is_question =
            |it: &&Waiting| it.verdict == Verdict::Answer && self.is_open(&it.post.channel_id);
        let waiting = self.inbox.waiting().filter(is_question);
        waiting.take(PLACES).for_each(|waiting| add(&waiting.post));
        let idle = questions.is_empty() && places.is_empty();
        self.tender.next_round = (!idle).then_some(self.now() + self.times.typing);
        self.tender.places = places.into();
        self.tender.singly = false;
        let shown = |id| state.answers.get(id)?.shown.clone();
        let shown = questions.iter().filter_map(shown);
        self.tender.reactions = questions.iter().cloned().chain(shown).collect();
        self.tender.questions = questions;
    }

    /// Where the author of `post` looks for "typing". A post at a channel's root opens a thread, which
    /// its author may not have opened yet: clients show "typing" only where it was sent to.
    fn places_of(&self, post: &Post) -> Vec<Place> {
        let thread = root(&self.config, post);
        let channel = (post.channel_id.clone(), PostId::default());
        if thread.is_empty() {
            vec![channel]
        } else if post.root_id.is_empty() {
            vec![channel, (post.channel_id.clone(), thread)]
        } else {
            vec![(post.channel_id.clone(), thread)]
        }
    }

    /// Shows "typing" for a post that is taken up, in one of its places: whether there are more.
    pub(super) fn type_for(&mut self, post: &Post, number: usize) -> Result<bool, ApiError> {
        let places = self.places_of(post);
        if let Some((channel, thread)) = places.get(number) {
            self.client.typing(channel, thread)?;
        }
        let next = self.now() + self.times.typing;
        self.tender.next_round.get_or_insert(next);
        Ok(number + 1 < places.len())
    }
}
