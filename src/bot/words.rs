//! The chat's commands: what is answered to them, by a post or by a reaction.

use log::debug;

use super::{Bot, Unsaved};
use crate::answers::{Reaction, Stage};
use crate::filter::Verdict;
use crate::mattermost::client::ApiError;
use crate::mattermost::{Post, PostId};
use crate::outbox::Trouble;
use crate::words::{self, Word};

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
        let is_answered = |stage: &Stage| matches!(stage, Stage::Deliver(_) | Stage::React(_));
        let answers = state.answers.values();
        let under_way = answers
            .filter(|answer| is_answered(&answer.live.stage) && self.is_open(&answer.channel));
        let has_room = under_way.count() < self.config.mattermost.answers_at_once;
        let mut waiting = self.inbox.waiting();
        // What a stop is to end may have been begun by an earlier run and not been looked at since.
        let is_found = |post: &Post| {
            let mut answers = state.answers.values();
            answers.any(|answer| {
                matches!(answer.live.stage, Stage::Found | Stage::Seen { .. })
                    && answer.channel == post.channel_id
                    && answer.create_at <= post.create_at
            })
        };
        let next = waiting.find(|it| {
            let may_go = match it.verdict {
                Verdict::Word(Word::Stop) => !is_found(&it.post),
                Verdict::Word(_) => has_room,
                _ => false,
            };
            may_go && it.due <= now && self.is_open(&it.post.channel_id)
        });
        next.map(|waiting| waiting.post.id.clone())
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
                && !matches!(answer.live.stage, Stage::React(_));
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
        self.draft(id, &text, true);
        self.changed(Unsaved::BeforeNext);
    }

    fn help(&mut self, question: &Post) -> String {
        let settings = &self.config.mattermost;
        let direct = self
            .inbox
            .is_direct(&self.store.state, &question.channel_id);
        let name = &self.me.username;
        let opening = if direct {
            String::new()
        } else {
            format!("@{name} ")
        };
        let choice = if settings.models.is_empty() {
            String::new()
        } else {
            format!(
                "\n- `{opening}model NAME`: another model answers in this conversation: {}",
                list(&settings.models)
            )
        };
        format!(
            "I am `@{name}`, and answer with a language model: **{}**.\n\n\
             I can read {}.\n{}\n\n\
             Commands, as the whole message:\n\
             - `{opening}help`: this text\n\
             - `{opening}new`, in a thread or direct channel: I forget what was said there before\n\
             - `{opening}stop`: I stop what I am writing for you here\n\
             - `{opening}model`: which model answers here{choice}",
            self.describe_model(question),
            self.readable(),
            self.limits(),
        )
    }

    /// What goes with a question.
    fn readable(&self) -> String {
        let settings = &self.config.mattermost;
        let mut reads = vec!["what was said here before".to_owned()];
        if settings.file_chars > 0 {
            reads.push(format!("{} characters of text files", settings.file_chars));
        }
        if !settings.read_files.is_empty() {
            let kinds: Vec<&str> = settings.read_files.keys().map(String::as_str).collect();
            reads.push(format!("the text of {} files", kinds.join(", ")));
        }
        if settings.max_images > 0 {
            let (count, mb) = (settings.max_images, settings.max_image_size >> 20);
            reads.push(format!(
                "{count} pictures of {mb} MB each, if the model takes pictures"
            ));
        }
        enumerate(&reads)
    }

    fn limits(&self) -> String {
        let settings = &self.config.mattermost;
        let mut limits = Vec::new();
        if settings.daily_limit > 0 {
            limits.push(format!("{} answers per person", settings.daily_limit));
        }
        if settings.daily_limit_all > 0 {
            limits.push(format!("{} answers to all", settings.daily_limit_all));
        }
        let day = if limits.is_empty() {
            String::new()
        } else {
            format!("A day (UTC) has {}. ", enumerate(&limits))
        };
        let seconds = self.config.message_timeout.as_secs();
        format!("{day}An answer may take {seconds} seconds.")
    }

    /// Says which model answers in the conversation of `question`, and changes it if that names one.
    fn model_word(&mut self, question: &Post) -> String {
        let named = words::model_named(question, &self.me);
        let models = &self.config.mattermost.models;
        let list = list(models);
        let is_named = |model: &&String| model.eq_ignore_ascii_case(&named);
        let exact = models.iter().find(|model| **model == named);
        let chosen = exact.or_else(|| models.iter().find(is_named)).cloned();
        let configured = self.configured_model(question).to_owned();
        let is_configured = chosen.is_none() && !named.is_empty() && named == configured;
        if let Some(model) = chosen.or(is_configured.then(String::new)) {
            let conversation = self.conversation_key(question);
            let choices = &mut self.store.state.models;
            choices.choose(&conversation, &model, question.create_at);
            let model = self.describe_model(question);
            return format!("From now on **{model}** answers in this conversation.");
        }
        let model = self.describe_model(question);
        match (named.is_empty(), list.is_empty()) {
            (true, true) => format!("**{model}** answers here."),
            (true, false) => format!(
                "**{model}** answers here. The command `model NAME` chooses another: {list}."
            ),
            (false, true) => format!("**{model}** answers here; there is no other to choose."),
            (false, false) => format!(
                "There is no model {} to choose, only {list}. **{model}** answers here.",
                code(&named)
            ),
        }
    }

    /// The model that is to answer `question`, if it is not the provider's own.
    fn model_for(&self, question: &Post) -> Option<String> {
        let chosen = self
            .store
            .state
            .models
            .get(&self.conversation_key(question));
        let settings = &self.config.mattermost;
        let offered = |model: &&str| settings.models.iter().any(|offered| offered == model);
        let chosen = chosen.filter(offered).map(str::to_owned);
        chosen.or_else(|| settings.channel(&question.channel_id).model.clone())
    }

    /// The same, of an answer.
    pub(super) fn model_of(&self, id: &PostId) -> Option<String> {
        self.model_for(self.question(id)?)
    }

    fn configured_model(&self, question: &Post) -> &str {
        let channel = self.config.mattermost.channel(&question.channel_id);
        channel
            .model
            .as_deref()
            .unwrap_or(&self.config.provider.model)
    }

    fn describe_model(&self, question: &Post) -> String {
        let mut provider = self.config.provider.clone();
        if let Some(model) = self.model_for(question) {
            provider.model = model;
        }
        provider.describe()
    }

    fn conversation_key(&self, question: &Post) -> String {
        self.conversation(question).key().to_owned()
    }

    /// Answers a post by a reaction alone.
    pub(super) fn begin_reaction(&mut self, id: &PostId, emoji: &'static str) {
        let answer = self.store.state.answers.get(id);
        // It was edited into a command while its answer grew.
        if answer.is_some_and(|answer| answer.shown.is_some() || answer.opening.is_some()) {
            return self.withdraw(id);
        }
        self.set_stage(id, Stage::React(Reaction { emoji, tries: 0 }));
    }

    /// Tries a reaction; with it its post is handled. Done again after a crash it changes nothing.
    pub(super) fn react(&mut self, id: &PostId, reaction: Reaction) -> Result<(), Trouble> {
        let Reaction { emoji, tries } = reaction;
        let tries = tries + 1;
        self.set_stage(id, Stage::React(Reaction { emoji, tries }));
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

/// Names in code, which show nothing else than they are.
fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| code(name)).collect();
    names.join(", ")
}

fn code(name: &str) -> String {
    format!("`{}`", name.replace('`', "'"))
}

/// `a, b and c`.
fn enumerate(items: &[String]) -> String {
    match items {
        [items @ .., last] if !items.is_empty() => format!("{} and {last}", items.join(", ")),
        items => items.concat(),
    }
}
