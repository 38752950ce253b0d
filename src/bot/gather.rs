//! From a question whose turn it is to a worker: what the model is told, and the files it is given.

use std::time::Duration;

use log::warn;

use super::read::tell_ignored;
use super::{Bot, Unsaved};
use crate::answers::Stage;
use crate::config::StreamMode;
use crate::conversation::{FOR_PROGRAMS, Feeding, Gathering, Place, Told};
use crate::desk::{Job, WorkerId};
use crate::filter::Verdict;
use crate::inbox::Waiting;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outage::Trouble;

/// Deaths of workers or of the program after which a message gets an apology.
const ATTEMPTS: u32 = 3;
const CRASHED: &str =
    "Sorry, something went wrong each time I tried to answer this, so I have stopped trying.";

impl Bot {
    /// Looks at a question that waited, and shows "typing" for it: the gathering can begin.
    pub(super) fn open(&mut self, id: &PostId) -> Result<(), Trouble> {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        // Once is enough: a slow server would make each look stale by the next step.
        let (began, seen) = (answer.live.began, answer.live.seen);
        let looked = began.is_some_and(|began| seen >= began);
        if !looked && now.saturating_sub(seen) > self.times.stale {
            return self.look_at_waiting(id);
        }
        let Some(question) = answer.live.question.clone() else {
            return Ok(());
        };
        if let Some(word) = self.word_of(&question) {
            return self.answer_word(id, word);
        }
        let typed = answer.live.typed;
        let more = match self.type_for(&question, typed) {
            Err(error) if error.is_forbidden() => {
                let why = format!("{error}; is the bot in it, and may it post there?");
                self.wait_again(id, &why);
                return Ok(());
            }
            Err(error @ (ApiError::Unreachable(_) | ApiError::Unauthorized(_))) => {
                // By the end of the pause it may have been edited or deleted.
                self.update(id, |answer| answer.live.seen = Duration::ZERO);
                return Err(error.into());
            }
            // Whatever else is wrong with "typing" does not keep an answer.
            typed => typed.unwrap_or(false),
        };
        if more && let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.typed += 1;
        } else {
            self.begin_gathering(id, question);
        }
        Ok(())
    }

    /// Looks once more at a question that has waited.
    fn look_at_waiting(&mut self, id: &PostId) -> Result<(), Trouble> {
        let fresh = match self.look_again(id) {
            Ok(Some(fresh)) => fresh,
            Ok(None) => {
                self.give_up(id, "it was deleted");
                return Ok(());
            }
            Err(error) if error.is_forbidden() => {
                self.wait_again(id, &error.to_string());
                return Ok(());
            }
            Err(error) if error.may_last() && self.patience_is_over(id) => {
                self.saw(id, None);
                return Ok(());
            }
            Err(error) => return self.put_off(id, error),
        };
        match self.verdict(&fresh) {
            Verdict::Ignore(reason) => {
                tell_ignored(&fresh, reason);
                self.withdraw(id);
            }
            Verdict::IfFollowed if self.was_addressed(id) => self.wait_undecided(id, fresh),
            // It was edited into a question, which waits for its turn.
            Verdict::Answer | Verdict::IfFollowed if self.was_word(id) => {
                self.saw(id, Some(fresh));
                self.update(id, |answer| answer.live.began = None);
            }
            Verdict::Answer | Verdict::IfFollowed | Verdict::Word(_) => self.saw(id, Some(fresh)),
        }
        Ok(())
    }

    /// A question does not mention the bot any more, and whether its thread is followed is open.
    pub(super) fn wait_undecided(&mut self, id: &PostId, fresh: Post) {
        self.give_back(id);
        let Some(answer) = self.store.state.answers.get(id) else {
            return;
        };
        if answer.grows() {
            return self.withdraw(id);
        }
        let (worker, attempts) = (answer.worker(), answer.attempts);
        self.stop_worker(worker);
        if attempts > 0 {
            // How often it ended its worker is kept with it.
            let question = Box::new(fresh);
            let undecided = true;
            self.update(id, |answer| {
                answer.live.wait_again();
                answer.live.stage = Stage::Seen {
                    question,
                    undecided,
                };
            });
            return;
        }
        self.store.state.answers.remove(id);
        let now = self.now();
        self.inbox
            .put_back(Waiting::new(fresh, now, Verdict::IfFollowed));
        self.changed(Unsaved::BeforeRest);
    }

    /// Whether a question mentioned the bot when it was read.
    pub(super) fn was_addressed(&self, id: &PostId) -> bool {
        let verdict = self.question(id).map(|question| self.verdict(question));
        matches!(verdict, Some(Verdict::Answer | Verdict::Word(_)))
    }

    /// Whether a question was a command when it was read.
    fn was_word(&self, id: &PostId) -> bool {
        let question = self.question(id);
        question.is_some_and(|question| self.word_of(question).is_some())
    }

    /// The channel is closed to the bot: the post waits until it is open again.
    fn wait_again(&mut self, id: &PostId, why: &str) {
        self.give_back(id);
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            let channel = answer.channel.clone();
            // What was posted of it belongs to its record.
            if answer.attempts > 0 || answer.grows() {
                answer.live.wait_again();
            } else if let Some(answer) = self.store.state.answers.remove(id)
                && let Some(question) = answer.live.question
            {
                let seen = answer.live.seen;
                let waiting = Waiting::new(question, seen, Verdict::Answer);
                self.inbox.put_back(waiting);
            }
            self.inbox.close(&mut self.store.state, &channel, why);
            self.changed(Unsaved::BeforeRest);
        }
    }

    fn begin_gathering(&mut self, id: &PostId, question: Post) {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get(id) else {
            return;
        };
        if answer.attempts >= ATTEMPTS {
            warn!("post {id} ended its worker or the program {ATTEMPTS} times; it gets an apology");
            self.apologize(id, CRASHED);
            return;
        }
        let alone = answer.live.patience.is_over(now);
        if alone {
            warn!("what was said before post {id} is left out, as it cannot be read");
        }
        let state = &self.store.state;
        let gathering = Gathering::new(Place {
            direct: self.inbox.is_direct(state, &question.channel_id),
            channel_name: self.inbox.name(state, &question.channel_id).to_owned(),
            bot: self.me.clone(),
            alone,
            begins: state.models.begins(self.conversation(&question).key()),
            post: question,
        });
        self.set_stage(id, Stage::Gather(Box::new(gathering)));
    }

    pub(super) fn gather(
        &mut self,
        id: &PostId,
        mut gathering: Box<Gathering>,
    ) -> Result<(), Trouble> {
        let settings = &self.config.mattermost;
        let clock = &*self.times.clock;
        let stage = match gathering.step(&self.client, settings, &mut self.names, clock) {
            Ok(None) => Stage::Gather(gathering),
            // It is started at once, where there is room.
            Ok(Some(told)) => Stage::Told(Box::new(told)),
            Err(error) if error.is_forbidden() => {
                self.wait_again(id, &error.to_string());
                return Ok(());
            }
            Err(error) if error.is_closed() => {
                self.give_up(id, &error.to_string());
                return Ok(());
            }
            Err(error) => {
                self.set_stage(id, Stage::Gather(gathering));
                self.put_off(id, error)?;
                // From here on without what was said before, once patience is over.
                Stage::Ready
            }
        };
        self.set_stage(id, stage);
        Ok(())
    }

    /// Starts a worker.
    pub(super) fn start(&mut self, id: &PostId, told: Box<Told>) {
        let now = self.now();
        let question = self.question(id);
        let model = question.and_then(|question| self.model_for(question));
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let channel = self.config.mattermost.channel(&answer.channel);
        let job = Job {
            post: id.clone(),
            provider: self
                .config
                .provider
                .with_parameters(&channel.model_parameters),
            model,
            conversation: told.messages.clone(),
            bot_name: self.me.username.clone(),
            several_speakers: told.several_speakers,
            // Not what is left of it: a question may have waited for room.
            time_left: self.config.message_timeout,
            grow: channel.stream_mode == StreamMode::Partial,
        };
        match self.desk.start(job) {
            Ok(worker) => {
                answer.live.stage = Stage::AtWork(worker);
                answer.live.enclosed = size(&told);
                let files = told.enclosures;
                answer.live.feeding = (!files.is_empty()).then(|| Box::new(Feeding::new(files)));
                self.starts.went_well();
            }
            Err(error) => {
                answer.live.stage = Stage::Told(told);
                self.starts.failed(now, &error);
            }
        }
    }

    /// Gives a worker the next piece of a file.
    pub(super) fn feed(&mut self, id: &PostId, worker: WorkerId) {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let Some(feeding) = &mut answer.live.feeding else {
            return;
        };
        let desk = &mut self.desk;
        feeding.step(&self.client, now, &mut |piece| desk.feed(worker, piece));
        if feeding.has_failed() {
            answer.live.due = now + Feeding::PAUSE;
        }
        if feeding.is_done() {
            answer.live.feeding = None;
        }
    }

    /// Whether its pictures and its files for programs fit beside those of the answers at work.
    pub(super) fn has_room(&self, told: &Told) -> bool {
        let settings = &self.config.mattermost;
        let pictures = settings.max_images as u64 * settings.max_image_size;
        // Where no picture may be told there are yet files for programs.
        let most = if pictures > 0 { pictures } else { FOR_PROGRAMS };
        let answers = self.store.state.answers.values();
        let at_work = answers.filter(|answer| answer.worker().is_some());
        let there: u64 = at_work.map(|answer| answer.live.enclosed).sum();
        there == 0 || there + size(told) <= most
    }
}

/// Of all files that a worker is to be given, in bytes.
fn size(told: &Told) -> u64 {
    told.enclosures.iter().map(|file| file.size).sum()
}
