//! The chat's commands: what is answered to them, by a post or by a reaction.

use log::debug;

use super::{Bot, Unsaved};
use crate::answers::{Answer, Stage};
use crate::filter::Verdict;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outage::Trouble;
use crate::words::Word;

/// How often a reaction is tried that fails for itself: it is worth no more.
const TRIES: u32 = 4;
/// Says that a command was carried out.
const DONE: &str = "white_check_mark";

impl Bot {
    /// The command to take up next. It waits for no turn and for no worker.
    pub(super) fn next_word(&self) -> Option<PostId> {
        if self.closing {
            return None;
        }
        let (now, state) = (self.now(), &self.store.state);
        let is_answered = |stage: &Stage| matches!(stage, Stage::Deliver(_) | Stage::React { .. });
        let answers = state.answers.values();
        let under_way = answers
            .filter(|answer| is_answered(&answer.live.stage) && self.is_open(&answer.channel));
        let has_room = under_way.count() < self.config.mattermost.answers_at_once;
        let waiting = self.inbox.waiting().filter_map(|it| match it.verdict {
            Verdict::Word(word) => Some((&it.post, it.due, word)),
            _ => None,
        });
        // One that an earlier run began and did not carry out.
        let begun = state.answers.values().filter_map(|answer| {
            let is_ready = matches!(answer.live.stage, Stage::Ready) && answer.live.began.is_none();
            let post = answer.live.question.as_ref().filter(|_| is_ready)?;
            Some((post, answer.live.due, self.word_of(post)?))
        });
        // What a stop is to end may have been begun by an earlier run and not been looked at since.
        let is_found = |post: &Post| {
            let mut answers = state.answers.values();
            answers.any(|answer| {
                matches!(answer.live.stage, Stage::Found | Stage::Seen { .. })
                    && answer.channel == post.channel_id
                    && answer.create_at <= post.create_at
            })
        };
        let next = begun.chain(waiting).find(|(post, due, word)| {
            let may_go = match word {
                Word::Stop => !is_found(post),
                _ => has_room,
            };
            may_go && *due <= now && self.is_open(&post.channel_id)
        });
        next.map(|(post, ..)| post.id.clone())
    }

    /// The command that a post is.
    pub(super) fn word_of(&self, post: &Post) -> Option<Word> {
        match self.verdict(post) {
            Verdict::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Answers a command that was taken up.
    pub(super) fn answer_word(&mut self, id: &PostId, word: Word) -> Result<(), Trouble> {
        match word {
            Word::Help => self.say(id, |bot, question| bot.help(question)),
            Word::Model => self.say(id, |bot, question| bot.model_word(question)),
            Word::New => {
                self.begin_anew(id);
                self.begin_reaction(id, DONE);
            }
            Word::Stop => {
                self.stop_word(id)?;
                self.begin_reaction(id, DONE);
            }
        }
        Ok(())
    }

    /// Notes that nothing from before this word is told any more in its conversation. The word itself
    /// may be farther back than what is read for a later question.
    fn begin_anew(&mut self, id: &PostId) {
        let Some(word) = self.question(id) else {
            return;
        };
        let (conversation, at) = (self.conversation(word), word.create_at);
        self.store.state.models.begin(conversation.key(), at);
        self.changed(Unsaved::BeforeNext);
    }

    /// Ends what the word's author asked before it in the same conversation: what waits gets nothing.
    fn stop_word(&mut self, id: &PostId) -> Result<(), Trouble> {
        let Some(word) = self.question(id) else {
            return Ok(());
        };
        let conversation = self.conversation(word);
        let is_older = |post: &Post| {
            post.user_id == word.user_id
                && (post.create_at, &post.id) < (word.create_at, &word.id)
                && self.conversation(post) == conversation
        };
        let answers = self.store.state.answers.iter();
        let questions = answers.filter_map(|(id, answer)| {
            let question = answer.live.question.as_ref()?;
            let ends = is_older(question)
                && self.word_of(question).is_none()
                && !matches!(answer.live.stage, Stage::React { .. });
            ends.then(|| id.clone())
        });
        let begun: Vec<PostId> = questions.collect();
        let waiting = self.inbox.waiting();
        let waiting = waiting.filter(|it| !matches!(it.verdict, Verdict::Word(_)));
        let waiting = waiting.map(|waiting| &waiting.post);
        let waiting: Vec<Post> = waiting.filter(|post| is_older(post)).cloned().collect();
        for post in waiting {
            self.drop_waiting(&post);
        }
        for id in begun {
            self.stop(&id)?;
        }
        Ok(())
    }

    /// Posts what is no model's answer.
    fn say(&mut self, id: &PostId, text: fn(&mut Bot, &Post) -> String) {
        let Some(question) = self.question(id).cloned() else {
            return;
        };
        let text = text(self, &question);
        self.draft(id, self.parts(&text), true);
        self.changed(Unsaved::BeforeNext);
    }

    /// Answers a post by a reaction alone.
    pub(super) fn begin_reaction(&mut self, id: &PostId, emoji: &'static str) {
        let answer = self.store.state.answers.get(id);
        // It was edited into a command while its answer grew.
        if answer.is_some_and(Answer::grows) {
            return self.withdraw(id);
        }
        self.set_stage(id, Stage::React { emoji, tries: 0 });
    }

    /// Tries a reaction; with it its post is handled. Done again after a crash it changes nothing.
    pub(super) fn react(
        &mut self,
        id: &PostId,
        emoji: &'static str,
        tries: u32,
    ) -> Result<(), Trouble> {
        let tries = tries + 1;
        self.set_stage(id, Stage::React { emoji, tries });
        match self.client.react(&self.me.id, id, emoji) {
            Ok(()) => self.handled(id),
            Err(error) if error.may_last() && tries < TRIES => self.put_off(id, error)?,
            Err(error @ (ApiError::Refused { .. } | ApiError::Unclear(_) | ApiError::TooLarge)) => {
                debug!("post {id} gets no reaction: {error}");
                self.handled(id);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
