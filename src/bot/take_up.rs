//! Taking up: from a post that waits to a worker that answers it, one request per step.

use std::time::Duration;

use log::{info, warn};

use super::{Bot, Unsaved, tell_ignored};
use crate::answers::{Answer, Live, Stage};
use crate::config::{Config, StreamMode};
use crate::conversation::{self, Feeding, Gathering, Place, Told};
use crate::desk::turn::{self, AtWork, Candidate, Conversation};
use crate::desk::{Job, WorkerId};
use crate::filter::{self, Reason, Verdict};
use crate::inbox::Waiting;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId, UserId};
use crate::outbox::Trouble;

/// After so many deaths of workers or of the program a message gets an apology.
const ATTEMPTS: u32 = 3;
const CRASHED: &str =
    "Sorry, something went wrong each time I tried to answer this, so I have stopped trying.";

impl Bot {
    /// Whether there was something to do.
    pub(super) fn take_up(&mut self) -> Result<bool, Trouble> {
        if self.compare_waiting()? || self.decide()? {
            return Ok(true);
        }
        if let Some(id) = self.next_to_prepare() {
            self.prepare(&id)?;
            return Ok(true);
        }
        match self.next_word().or_else(|| self.next_turn()) {
            Some(id) => {
                self.begin(&id);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Finds out of one post whether the bot already wrote in its thread.
    fn decide(&mut self) -> Result<bool, Trouble> {
        let (now, state) = (self.now(), &self.store.state);
        let undecided = |it: &&Waiting| {
            !it.decided && it.due <= now && self.inbox.is_open(state, &it.post.channel_id)
        };
        let Some(waiting) = self.inbox.waiting().find(undecided) else {
            return Ok(false);
        };
        let (id, created) = (waiting.post.id.clone(), waiting.post.create_at);
        let wrote = conversation::wrote_in_thread(&self.client, &waiting.post, &self.me);
        match wrote {
            Ok(true) => {
                if let Some(waiting) = self.inbox.waiting_mut(created, &id) {
                    waiting.decided = true;
                }
            }
            Ok(false) => {
                tell_ignored(&waiting.post, Reason::NotAddressed);
                let channel = waiting.post.channel_id.clone();
                self.inbox
                    .done(&mut self.store.state, &id, &channel, created);
                self.changed(Unsaved::BeforeRest);
            }
            Err(error) if error.may_last() => {
                if let Some(waiting) = self.inbox.waiting_mut(created, &id) {
                    let pause = waiting.patience.fails(now);
                    // A thread that cannot be read for long is none that the bot follows.
                    waiting.due = now + pause;
                    if waiting.patience.is_over(now) {
                        let channel = waiting.post.channel_id.clone();
                        warn!("post {id} is left out, as its thread cannot be read: {error}");
                        self.inbox
                            .done(&mut self.store.state, &id, &channel, created);
                        self.changed(Unsaved::BeforeRest);
                    }
                }
                self.outage.note(&error.into());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// The answer to go on with: one that a step may bring nearer to its worker.
    fn next_to_prepare(&self) -> Option<PostId> {
        let (now, state) = (self.now(), &self.store.state);
        let may_start = self.starts.may_start(now);
        let is_due = |answer: &Answer| {
            answer.live.due <= now
                && match answer.live.stage {
                    Stage::Found => true,
                    Stage::Ready => answer.live.began.is_some(),
                    Stage::Gather(_) => true,
                    Stage::Told(ref told) => may_start && self.has_room(told),
                    Stage::AtWork(_) => answer.live.feeding.is_some(),
                    Stage::React(_) => self.inbox.is_open(state, &answer.channel),
                    Stage::Deliver(_) | Stage::Withdraw { .. } => false,
                }
        };
        let due = state.answers.iter().filter(|(_, answer)| is_due(answer));
        let oldest = due.min_by_key(|(id, answer)| (answer.create_at, *id));
        oldest.map(|(id, _)| id.clone())
    }

    /// Brings an answer one step nearer to its worker.
    fn prepare(&mut self, id: &PostId) -> Result<(), Trouble> {
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return Ok(());
        };
        match std::mem::take(&mut answer.live.stage) {
            Stage::Found => self.find(id),
            Stage::Ready => {
                answer.live.stage = Stage::Ready;
                self.open(id)
            }
            Stage::Gather(gathering) => self.gather(id, gathering),
            Stage::Told(told) => {
                self.start(id, told);
                Ok(())
            }
            Stage::React(reaction) => self.react(id, reaction),
            Stage::AtWork(worker) => {
                answer.live.stage = Stage::AtWork(worker);
                self.feed(id, worker);
                Ok(())
            }
            stage => {
                answer.live.stage = stage;
                Ok(())
            }
        }
    }

    /// Gives a worker the next piece of a file.
    fn feed(&mut self, id: &PostId, worker: WorkerId) {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let Some(feeding) = &mut answer.live.feeding else {
            return;
        };
        let desk = &mut self.desk;
        feeding.step(&self.client, now, &mut |piece| desk.feed(worker, piece));
        if feeding.is_done() {
            answer.live.feeding = None;
        }
    }

    /// Whether the pictures that are told fit beside those of the answers at work.
    fn has_room(&self, told: &Told) -> bool {
        let settings = &self.config.mattermost;
        let most = settings.max_images as u64 * settings.max_image_size;
        let answers = self.store.state.answers.values();
        let at_work = answers.filter(|answer| answer.worker().is_some());
        let there: u64 = at_work.map(|answer| answer.live.enclosed).sum();
        there == 0 || there + size(told) <= most
    }

    /// Looks at a question that an earlier run began, and at what the server shows of its answer.
    fn find(&mut self, id: &PostId) -> Result<(), Trouble> {
        let post = match self.client.post(id) {
            // What a closed channel holds is looked at when it is open again, or dropped when the bot
            // is out of it.
            Err(ApiError::Refused { status: 403, .. }) => {
                let until = self.now() + self.times.recheck;
                if let Some(answer) = self.store.state.answers.get_mut(id) {
                    answer.live.due = until;
                }
                return Ok(());
            }
            Err(error) if error.is_closed() => {
                self.give_up(id, "it was deleted meanwhile");
                return Ok(());
            }
            Err(error) => return self.put_off(id, error),
            Ok(post) => post,
        };
        let direct = self.inbox.is_direct(&self.store.state, &post.channel_id);
        let verdict = filter::verdict(&post, direct, &self.me, &self.config.mattermost);
        if let Verdict::Ignore(reason) = verdict {
            tell_ignored(&post, reason);
            self.withdraw(id);
            return Ok(());
        }
        let bot = &self.me.id;
        let shown = crate::inbox::is_answered(&self.client, bot, &post);
        match shown {
            Ok(true) => {
                self.tell_answered(id);
                self.handled(id);
            }
            Ok(false) => {}
            Err(error) if error.is_closed() => {}
            Err(error) => return self.put_off(id, error),
        }
        self.doubt(id, &post);
        let now = self.now();
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.stage = match &answer.draft {
                Some(draft) => Stage::Deliver(self.outbox.found(draft)),
                None => Stage::Ready,
            };
            if answer.shown.is_some() || answer.opening.is_some() {
                (answer.live.opening, answer.live.growth) = self.outbox.found_growing();
            }
            answer.live.question = Some(post);
            answer.live.seen = now;
        }
        Ok(())
    }

    /// The post whose turn it is.
    fn next_turn(&self) -> Option<PostId> {
        if self.closing {
            return None;
        }
        let (now, state) = (self.now(), &self.store.state);
        let mut at_work = Vec::new();
        let mut posting = Vec::new();
        let mut candidates = Vec::new();
        let mut drafts = 0;
        for (id, answer) in &state.answers {
            let Some(question) = &answer.live.question else {
                continue;
            };
            let conversation = self.conversation(question);
            let person = &question.user_id;
            let attempts = answer.attempts;
            if let Stage::Deliver(_) | Stage::Withdraw { .. } = answer.live.stage {
                drafts += 1;
                posting.push(conversation);
            } else if let Stage::React(_) = answer.live.stage {
                continue;
            } else if answer.live.began.is_some() {
                at_work.push(AtWork {
                    conversation,
                    person,
                    attempts,
                });
            } else if answer.live.due <= now && self.inbox.is_open(state, &answer.channel) {
                let created = answer.create_at;
                let begun = true;
                candidates.push(Candidate {
                    conversation,
                    person,
                    post: id,
                    created,
                    begun,
                    attempts,
                });
            }
        }
        let open = |it: &&Waiting| {
            let is_question = it.decided && it.word.is_none();
            is_question && it.due <= now && self.inbox.is_open(state, &it.post.channel_id)
        };
        candidates.extend(self.inbox.waiting().filter(open).map(|waiting| Candidate {
            conversation: self.conversation(&waiting.post),
            person: &waiting.post.user_id,
            post: &waiting.post.id,
            created: waiting.post.create_at,
            begun: false,
            attempts: 0,
        }));
        // An answer on its way to the server belongs to what the next one is told.
        candidates.retain(|candidate| !posting.contains(&candidate.conversation));
        let limit = self.config.mattermost.answers_at_once;
        let last = |person: &UserId| self.starts.last(person);
        let next = turn::next(&candidates, &at_work, &last, limit, drafts)?;
        Some(candidates[next].post.clone())
    }

    pub(super) fn conversation(&self, post: &Post) -> Conversation {
        let direct = self.inbox.is_direct(&self.store.state, &post.channel_id);
        let settings = self.config.mattermost.channel(&post.channel_id);
        Conversation::of(post, direct, settings.thread_replies)
    }

    /// Takes a post up: the state on disk says so before anything else is done for it.
    fn begin(&mut self, id: &PostId) {
        let now = self.now();
        let known = self
            .store
            .state
            .answers
            .get(id)
            .map(|answer| answer.create_at);
        if known.is_none() {
            let waiting = self.inbox.waiting().find(|waiting| waiting.post.id == *id);
            let Some(created) = waiting.map(|waiting| waiting.post.create_at) else {
                return;
            };
            let Some(Waiting {
                post,
                since,
                patience,
                check,
                ..
            }) = self.inbox.take_out(created, id)
            else {
                return;
            };
            let mut answer = Answer {
                channel: post.channel_id.clone(),
                create_at: post.create_at,
                live: Live {
                    stage: Stage::Ready,
                    question: Some(post),
                    seen: since,
                    patience,
                    check,
                    ..Live::default()
                },
                ..Answer::default()
            };
            if let Some(shown) = self.inbox.take_growing(id) {
                answer.shown = Some(shown);
                (answer.live.opening, answer.live.growth) = self.outbox.found_growing();
            }
            self.store.state.answers.insert(id.clone(), answer);
            self.changed(Unsaved::BeforeNext);
        }
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.began = Some(now);
            if let Some(question) = &answer.live.question {
                self.starts.begin(&question.user_id);
            }
        }
        self.count(id);
    }

    /// Looks at a question that waited, and shows "typing" for it: the gathering can begin.
    fn open(&mut self, id: &PostId) -> Result<(), Trouble> {
        let now = self.now();
        let Some(answer) = self.store.state.answers.get(id) else {
            return Ok(());
        };
        // Once is enough: a slow server would make each look stale by the next step.
        let looked = answer
            .live
            .began
            .is_some_and(|began| answer.live.seen >= began);
        if !looked && now.saturating_sub(answer.live.seen) > self.times.stale {
            return self.look_at_waiting(id);
        }
        let Some(question) = answer.live.question.clone() else {
            return Ok(());
        };
        if let Some(word) = self.word_of(&question) {
            return self.answer_word(id, word);
        }
        if let Err(error) = self.type_for(&question) {
            return match error {
                ApiError::Refused { status: 403, .. } => {
                    let why = format!("{error}; is the bot in it, and may it post there?");
                    self.wait_again(id, &why);
                    Ok(())
                }
                ApiError::Unreachable(_) | ApiError::Unauthorized(_) | ApiError::RateLimited(_) => {
                    // By the end of the pause it may have been edited or deleted.
                    if let Some(answer) = self.store.state.answers.get_mut(id) {
                        answer.live.seen = Duration::ZERO;
                    }
                    Err(error.into())
                }
                // Whatever else is wrong with "typing" does not keep an answer.
                _ => {
                    self.begin_gathering(id, question);
                    Ok(())
                }
            };
        }
        self.begin_gathering(id, question);
        Ok(())
    }

    fn begin_gathering(&mut self, id: &PostId, question: Post) {
        let now = self.now();
        let state = &self.store.state;
        let place = Place {
            direct: self.inbox.is_direct(state, &question.channel_id),
            channel_name: self.inbox.name(state, &question.channel_id).to_owned(),
            bot: self.me.clone(),
            alone: false,
            post: question,
        };
        let Some(answer) = self.store.state.answers.get_mut(id) else {
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
        let gathering = Gathering::new(Place { alone, ..place });
        answer.live.stage = Stage::Gather(Box::new(gathering));
    }

    /// Looks once more at a question that has waited.
    fn look_at_waiting(&mut self, id: &PostId) -> Result<(), Trouble> {
        let now = self.now();
        let fresh = match self.look_again(id) {
            Ok(Some(fresh)) => fresh,
            Ok(None) => {
                self.give_up(id, "it was deleted or cannot be read any more");
                return Ok(());
            }
            Err(error) if error.may_last() && self.patience_is_over(id) => {
                self.saw(id, None);
                return Ok(());
            }
            Err(error) => return self.put_off(id, error),
        };
        let direct = self.inbox.is_direct(&self.store.state, &fresh.channel_id);
        let verdict = filter::verdict(&fresh, direct, &self.me, &self.config.mattermost);
        match verdict {
            Verdict::Ignore(reason) => {
                tell_ignored(&fresh, reason);
                self.withdraw(id);
            }
            // It does not mention the bot any more, and whether its thread is followed is open.
            Verdict::IfFollowed if self.was_addressed(id) => {
                let since = now;
                self.give_back(id);
                self.store.state.answers.remove(id);
                self.inbox.put_back(Waiting::undecided(fresh, since));
            }
            // It was edited into a question, which waits for its turn.
            Verdict::Answer | Verdict::IfFollowed if self.was_word(id) => {
                self.saw(id, Some(fresh));
                self.wait_for_turn(id);
            }
            Verdict::Answer | Verdict::IfFollowed | Verdict::Word(_) => self.saw(id, Some(fresh)),
        }
        Ok(())
    }

    /// Whether a question mentioned the bot when it was read.
    fn was_addressed(&self, id: &PostId) -> bool {
        let answer = self.store.state.answers.get(id);
        let question = answer.and_then(|answer| answer.live.question.as_ref());
        question.is_some_and(|question| {
            let direct = self
                .inbox
                .is_direct(&self.store.state, &question.channel_id);
            let verdict = filter::verdict(question, direct, &self.me, &self.config.mattermost);
            matches!(verdict, Verdict::Answer | Verdict::Word(_))
        })
    }

    /// Whether a question was a command when it was read.
    fn was_word(&self, id: &PostId) -> bool {
        let answer = self.store.state.answers.get(id);
        let question = answer.and_then(|answer| answer.live.question.as_ref());
        question.is_some_and(|question| self.word_of(question).is_some())
    }

    fn wait_for_turn(&mut self, id: &PostId) {
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.began = None;
        }
    }

    pub(super) fn patience_is_over(&self, id: &PostId) -> bool {
        let answer = self.store.state.answers.get(id);
        answer.is_some_and(|answer| answer.live.patience.is_over(self.now()))
    }

    /// Notes that a question was looked at just now: as it is, if it could be read.
    pub(super) fn saw(&mut self, id: &PostId, fresh: Option<Post>) {
        let now = self.now();
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.seen = now;
            if fresh.is_some() {
                answer.live.question = fresh;
            }
        }
    }

    /// The channel is closed to the bot: the post waits until it is open again.
    fn wait_again(&mut self, id: &PostId, why: &str) {
        self.give_back(id);
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            let channel = answer.channel.clone();
            if answer.attempts > 0 {
                (answer.live.stage, answer.live.began) = (Stage::Ready, None);
            } else if let Some(answer) = self.store.state.answers.remove(id)
                && let Some(question) = answer.live.question
            {
                self.inbox
                    .put_back(Waiting::decided(question, answer.live.seen));
            }
            self.inbox.close(&mut self.store.state, &channel, why);
            self.changed(Unsaved::BeforeRest);
        }
    }

    fn gather(&mut self, id: &PostId, mut gathering: Box<Gathering>) -> Result<(), Trouble> {
        let settings = &self.config.mattermost;
        let clock = &*self.times.clock;
        let step = gathering.step(&self.client, settings, &mut self.names, clock);
        let stage = match step {
            Ok(None) => Stage::Gather(gathering),
            // It is started at once, where there is room.
            Ok(Some(told)) => Stage::Told(Box::new(told)),
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

    pub(super) fn set_stage(&mut self, id: &PostId, stage: Stage) {
        if let Some(answer) = self.store.state.answers.get_mut(id) {
            answer.live.stage = stage;
        }
    }

    /// Starts a worker.
    fn start(&mut self, id: &PostId, told: Box<Told>) {
        let now = self.now();
        let model = self.model_of(id);
        let Some(answer) = self.store.state.answers.get_mut(id) else {
            return;
        };
        let began = answer.live.began.unwrap_or(now);
        let channel = self.config.mattermost.channel(&answer.channel);
        let timeout = self.config.message_timeout;
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
            time_left: timeout.saturating_sub(now.saturating_sub(began)),
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
}

/// Of all files that a worker is to be given, in bytes.
fn size(told: &Told) -> u64 {
    told.enclosures.iter().map(|file| file.size).sum()
}

/// Where the answer to `post` goes: the thread's root, or nothing for the channel's.
pub(super) fn root(config: &Config, post: &Post) -> PostId {
    if !config.mattermost.channel(&post.channel_id).thread_replies {
        PostId::default()
    } else if post.root_id.is_empty() {
        post.id.clone()
    } else {
        post.root_id.clone()
    }
}

impl Bot {
    /// Says that a post was edited out of what is for the bot.
    pub(super) fn tell_edited(&self, id: &PostId) {
        info!("post {id} was edited while its answer was made; it is answered anew");
    }
}
