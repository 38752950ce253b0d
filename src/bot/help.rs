//! What the commands `help` and `model` say, and which model answers where.

use super::Bot;
use crate::mattermost::Post;
use crate::words;

impl Bot {
    pub(super) fn help(&mut self, question: &Post) -> String {
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
    pub(super) fn model_word(&mut self, question: &Post) -> String {
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
    pub(super) fn model_for(&self, question: &Post) -> Option<String> {
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

    fn configured_model(&self, question: &Post) -> &str {
        let channel = self.config.mattermost.channel(&question.channel_id);
        channel
            .model
            .as_deref()
            .unwrap_or(&self.config.provider.model)
    }

    /// Who answers `question`.
    pub(super) fn describe_model(&self, question: &Post) -> String {
        let (provider, model) = (&self.config.provider, self.model_for(question));
        provider.described_with(model.as_deref().unwrap_or(&provider.model))
    }

    fn conversation_key(&self, question: &Post) -> String {
        self.conversation(question).key().to_owned()
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
