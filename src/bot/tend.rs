//! Tending: "typing" for what is at work and what waits, and a look at the questions at work.

use std::collections::VecDeque;
use std::time::Duration;

use log::{debug, info};

use super::Bot;
use super::read::tell_ignored;
use crate::answers::Stage;
use crate::filter::Verdict;
use crate::inbox::Waiting;
use crate::mattermost::client::ApiError;
use crate::mattermost::{ChannelId, Post, PostId, Reaction};
use crate::outbox::Trouble;

/// Between two "typing" events: at most five a second.
const APART: Duration = Duration::from_millis(200);
/// Places that get a "typing" in each round: more would not fit between two rounds.
const PLACES: usize = 16;
/// How often an answer is made anew because its question was edited.
const EDITS: u32 = 3;

/// Reactions of an asker that stop an answer.
const STOP: [&str; 6] = [
    "octagonal_sign",
    "stop_sign",
    "x",
    "no_entry",
    "hand",
    "raised_hand",
];

/// A channel, and the thread in it, or nothing for the channel itself.
type Place = (ChannelId, PostId);

/// What is left of a round.
#[derive(Default)]
pub(super) struct Tender {
    next_round: Option<Duration>,
    places: VecDeque<Place>,
    next_typing: Duration,
    /// Questions to look at.
    questions: Vec<PostId>,
    /// Posts whose reactions are to be looked at: questions, and what is shown of their answers.
    reactions: Vec<PostId>,
    /// In this round the server refused to show the reactions of several posts at once.
    singly: bool,
    /// Questions that the server left out of several: their own address tells.
    missing: Vec<PostId>,
    /// The server has no call for several posts at once.
    one_by_one: bool,
    /// The last step was one of these, before its time in the order.
    had_a_turn: bool,
}

impl Tender {
    /// When there is something to do; nothing while nothing is at work and nothing waits.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.places.is_empty() {
            self.next_round
        } else {
            Some(self.next_typing)
        }
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
                Stage::Deliver(_) | Stage::Withdraw { .. } | Stage::React(_)
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
        self.tender.reactions = self.posts_to_watch(&questions);
        self.tender.questions = questions;
    }

    fn posts_to_watch(&self, questions: &[PostId]) -> Vec<PostId> {
        let answers = &self.store.state.answers;
        let shown = questions
            .iter()
            .filter_map(|id| answers.get(id)?.shown.clone());
        questions.iter().cloned().chain(shown).collect()
    }

    /// Where the author of `post` looks for "typing". A post at a channel's root opens a thread, which
    /// its author may not have opened yet: clients show "typing" only where it was sent to.
    fn places_of(&self, post: &Post) -> Vec<Place> {
        let thread = super::deliver::root(&self.config, post);
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

    /// Looks at the questions of a round: all of them in one request where the server can do that.
    fn look_at_questions(&mut self) -> Result<(), Trouble> {
        if !self.tender.one_by_one {
            let asked = std::mem::take(&mut self.tender.questions);
            match self.client.posts_by_ids(&asked.iter().collect::<Vec<_>>()) {
                Ok(posts) => {
                    for id in asked {
                        match posts.iter().find(|post| post.id == id) {
                            Some(post) => self.look_at_question(&id, post.clone()),
                            None => self.tender.missing.push(id),
                        }
                    }
                    return Ok(());
                }
                // Servers before 6.0.
                Err(ApiError::Refused { status: 404, .. }) => {
                    self.tender.one_by_one = true;
                    self.tender.questions = asked;
                }
                Err(error) => return self.not_seen(error),
            }
        }
        match self.tender.questions.pop() {
            Some(id) => self.look_at_one(&id),
            None => Ok(()),
        }
    }

    fn look_at_one(&mut self, id: &PostId) -> Result<(), Trouble> {
        match self.look_again(id) {
            Ok(Some(post)) => self.look_at_question(id, post),
            Ok(None) => self.give_up(id, "it was deleted, or cannot be read any more"),
            Err(error) => self.not_seen(error)?,
        }
        Ok(())
    }

    /// Looks whether an asker stops the answer by a reaction. The posts' own metadata do not tell: an
    /// edit at the same moment hides a reaction there.
    fn look_at_reactions(&mut self) -> Result<(), Trouble> {
        let watched = std::mem::take(&mut self.tender.reactions);
        let several = watched.len() > 1 && !self.tender.one_by_one && !self.tender.singly;
        let result = if several {
            self.client.reactions(&watched.iter().collect::<Vec<_>>())
        } else {
            let (first, rest) = watched.split_first().unzip();
            self.tender.reactions = rest.map_or(Vec::new(), <[PostId]>::to_vec);
            first.map_or(Ok(Vec::new()), |post| self.client.reactions_of(post))
        };
        match result {
            Ok(reactions) => {
                for reaction in reactions {
                    if STOP.contains(&reaction.emoji_name.as_str()) {
                        self.stop_by_reaction(&reaction)?;
                    }
                }
                Ok(())
            }
            // Servers before 6.0; and one post that cannot be read has all of them refused.
            Err(error) if error.is_closed() && several => {
                self.tender.reactions = watched;
                self.tender.singly = true;
                Ok(())
            }
            // It is gone, or its channel closed: the look at the questions tells.
            Err(error) if error.is_closed() => Ok(()),
            Err(error) => self.not_seen(error),
        }
    }

    fn stop_by_reaction(&mut self, reaction: &Reaction) -> Result<(), Trouble> {
        let mut answers = self.store.state.answers.iter();
        let stopped = answers.find(|(id, answer)| {
            let question = answer.live.question.as_ref();
            let asker = question.map(|question| &question.user_id);
            let on = *id == reaction.post_id || answer.shown.as_ref() == Some(&reaction.post_id);
            on && asker == Some(&reaction.user_id)
        });
        match stopped.map(|(id, _)| id.clone()) {
            Some(id) => self.stop(&id),
            None => Ok(()),
        }
    }

    /// A look that fails is made again in the next round.
    fn not_seen(&mut self, error: ApiError) -> Result<(), Trouble> {
        self.tender.questions.clear();
        if !error.may_last() {
            return Err(error.into());
        }
        self.outage.note(&error.into());
        Ok(())
    }

    /// A question at work as it is at present: deleted, edited, or as it was.
    fn look_at_question(&mut self, id: &PostId, post: Post) {
        let Some(answer) = self.store.state.answers.get(id) else {
            return;
        };
        let (Some(known), false) = (&answer.live.question, answer.draft.is_some()) else {
            return;
        };
        if post.delete_at.0 > 0 {
            self.give_up(id, "it was deleted while its answer was made");
            return;
        }
        // `update_at` moves for many reasons.
        let edited = post.message != known.message || post.file_ids != known.file_ids;
        if !edited || answer.live.edits >= EDITS {
            self.saw(id, None);
            return;
        }
        match self.verdict(&post) {
            Verdict::Ignore(reason) => {
                tell_ignored(&post, reason);
                self.withdraw(id);
            }
            Verdict::IfFollowed if self.was_addressed(id) => self.wait_undecided(id, post),
            _ => self.ask_anew(id, post),
        }
    }

    /// A question was edited while its answer was made.
    fn ask_anew(&mut self, id: &PostId, post: Post) {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let worker = answer.worker();
        answer.live.edits += 1;
        answer.live.stage = Stage::Ready;
        answer.live.feeding = None;
        self.stop_worker(worker);
        info!("post {id} was edited while its answer was made; it is answered anew");
        self.saw(id, Some(post));
    }
}
