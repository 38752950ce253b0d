//! `prx ask`: a question from the shell → the model's answer, posted. It works beside a running bot,
//! and what it posts answers no post. With a key an answer is posted once, however often and whenever
//! the command is started again.

mod key;
mod told;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use log::{Level, debug, log, warn};

use self::key::Record;
pub use self::told::Input;
use super::run::introduce;
use super::send::{Place, Sender, find_place};
use super::{Exit, answer, at_terminal, connect};
use crate::answers::{Draft, Patience, Progress};
use crate::config::Config;
use crate::inbox::Record as Posted;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{PostId, User};
use crate::outage::Trouble;
use crate::outbox::{Delivery, Outbox};
use crate::provider::{self, Class, Question};
use crate::reply::{self, ReplyOptions};
use crate::times::{Sleep, SystemClock, Times};

/// What to ask, and where the answer goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// By id, name or link; `None`: that of the configuration.
    pub channel: Option<String>,
    /// A post of the thread, by id or link.
    pub thread: Option<String>,
    /// Another call with it posts nothing any more.
    pub key: Option<String>,
    /// An answer that is only this word is not posted.
    pub skip: Option<String>,
    /// Posts of people in the channel, or the thread, that the model is told.
    pub history: usize,
    /// A picture.
    pub image: Option<PathBuf>,
    /// What to do with all that.
    pub prompt: Option<String>,
}

/// Asks what `query` says of standard input, and posts the answer.
#[inline(never)]
pub fn run(config_path: Option<&Path>, query: &Query) -> Result<(), Exit> {
    answer::check_depth()?;
    let (config, client) = connect(config_path)?;
    let input = Input::read(&config.mattermost, query)?;
    let clock = Rc::new(SystemClock::default());
    let times = Times {
        clock: clock.clone(),
        ..Times::default()
    };
    deliver(&config, &client, &times, &*clock, query, &input)
}

/// `run`, on any clock, which is that of `times`.
pub fn deliver(
    config: &Config,
    client: &Client,
    times: &Times,
    clock: &dyn Sleep,
    query: &Query,
    input: &Input,
) -> Result<(), Exit> {
    let settings = &config.mattermost;
    let (channel, thread) = (query.channel.as_deref(), query.thread.as_deref());
    provider::check(&config.provider).map_err(Exit::config)?;
    let place = find_place(client, settings, channel, thread)?;
    let (me, limit) = introduce(client, &mut None)?;
    let asker = Asker {
        config,
        client,
        times,
        clock,
        query,
        input,
        place,
        me,
        limit,
    };
    match &query.key {
        Some(key) => asker.post_once(key),
        None => asker.post(),
    }
}

/// All that one call knows.
struct Asker<'a> {
    config: &'a Config,
    client: &'a Client,
    times: &'a Times,
    clock: &'a dyn Sleep,
    query: &'a Query,
    input: &'a Input,
    place: Place,
    me: User,
    /// The longest post, in characters.
    limit: usize,
}

impl Asker<'_> {
    /// Without a key nothing is kept: a call that is killed leaves nothing behind.
    fn post(&self) -> Result<(), Exit> {
        let parts = self.answer()?;
        let sender = Sender {
            client: self.client,
            repeat_within: self.times.repeat_within,
            clock: self.clock,
            me: &self.me,
            place: &self.place,
            generated_by: Some(&self.me.id),
            links: (!self.config.mattermost.allow_unsafe_links).then_some("true"),
        };
        let name = format!("ask:{}", Outbox::nonce());
        sender.post_all(&name, &parts, |post| {
            self.posted(post);
            Ok(())
        })
    }

    fn post_once(&self, key: &str) -> Result<(), Exit> {
        let (config, clock) = (self.config, self.times.clock.clone());
        let mut record = Record::open(&config.state_path, &self.place, key, &self.me.id, clock)?;
        if record.is_done() {
            log!(
                at_terminal(Level::Info),
                "the key {key:?} was used: nothing is asked"
            );
            return Ok(());
        }
        // What an earlier call sent was sent before this.
        let links = config.mattermost.allow_unsafe_links;
        let outbox = Outbox::new(self.times.clone(), self.me.id.clone(), links);
        let shown = key::search(self.client, &self.me.id, &record, self.times.window)?;
        let progress = match record.draft() {
            None if !shown.parts.is_empty() => return record.finish(),
            None => {
                let parts = self.answer()?;
                if parts.is_empty() {
                    return record.finish();
                }
                let draft = Draft {
                    root: self.place.root.clone(),
                    parts,
                    nonce: record.nonce(&config.mattermost.token),
                    ..Draft::default()
                };
                record.keep(draft, shown.newest)?;
                // The model took its time: the same may run elsewhere.
                let (client, bot, channel) = (self.client, &self.me.id, &self.place.channel);
                let name = &record.name;
                let posted = Posted::since(client, bot, channel, name, shown.newest)?;
                if !posted.parts(name).is_empty() {
                    return record.finish();
                }
                Progress {
                    asked: true,
                    ..Progress::default()
                }
            }
            Some(draft) => Progress {
                posted: shown.parts,
                ..outbox.found(draft)
            },
        };
        record.begin(progress, shown.newest);
        self.deliver(&outbox, &mut record)
    }

    /// Has the outbox post the draft.
    fn deliver(&self, outbox: &Outbox, record: &mut Record) -> Result<(), Exit> {
        let mut patience = Patience::default();
        loop {
            let now = self.clock.now();
            let error = match record.step(outbox, self.client) {
                Ok(Delivery::Posted) => return record.finish(),
                Ok(Delivery::More) => continue,
                Ok(Delivery::Took(post, _)) => {
                    self.posted(&post);
                    patience = Patience::default();
                    continue;
                }
                // Nothing grows here.
                Ok(Delivery::Edited(_)) => continue,
                Ok(Delivery::Later(until)) => {
                    self.clock.sleep(until.saturating_sub(now));
                    continue;
                }
                Ok(Delivery::Failed(_, error)) => error,
                Ok(Delivery::Closed(why)) => {
                    let name = &self.me.username;
                    return record.give_up(format!("{why}; write in the channel: /invite @{name}"));
                }
                Ok(Delivery::Gone(why) | Delivery::Refused(why)) => return record.give_up(why),
                Ok(Delivery::TooLong | Delivery::NoEdit) => {
                    let why = "the server takes no posts of this length any more: ask again";
                    return record.give_up(why.into());
                }
                Err(Trouble::Api(error)) => error,
                Err(trouble @ Trouble::Disk(_)) => return Err(Exit::Failure(trouble.to_string())),
            };
            let mut pause = patience.fails(now);
            match &error {
                ApiError::Unauthorized(_) => return Err(error.into()),
                ApiError::RateLimited(Some(asked)) => pause = pause.max(*asked),
                _ => {}
            }
            if patience.is_over(now) {
                return Err(Exit::Failure(format!(
                    "{error}; the answer is kept: the next call with this key posts it"
                )));
            }
            debug!("not posted yet: {error}");
            self.clock.sleep(pause);
        }
    }

    /// Tells a person at a terminal where a part of the answer is.
    fn posted(&self, post: &PostId) {
        let url = &self.config.mattermost.url;
        log!(at_terminal(Level::Info), "posted {url}/_redirect/pl/{post}");
    }

    /// The parts of the model's answer; none if nothing is to be posted.
    fn answer(&self) -> Result<Vec<String>, Exit> {
        let settings = &self.config.mattermost;
        let channel = settings.channel(&self.place.channel);
        let provider = &self.config.provider;
        let conversation = self.conversation()?;
        let question = Question {
            images: &self.input.images(),
            model: channel.model.as_deref(),
            bot_name: &self.me.username,
            ..Question::new(&conversation, self.config.message_timeout)
        };
        let provider = provider.with_parameters(&channel.model_parameters);
        let answer = provider::ask(&provider, &[], &question, &mut answer::Patience::default());
        let answer = match answer {
            Err(error) if error.class == Class::Empty => {
                warn!("nothing is posted: {error}");
                return Ok(Vec::new());
            }
            answer => answer.map_err(Exit::failure)?,
        };
        let skip = self.query.skip.as_ref();
        if skip.is_some_and(|word| is_only(&answer.text, word)) {
            log!(
                at_terminal(Level::Info),
                "nothing is posted: the answer is {:?}",
                answer.text
            );
            return Ok(Vec::new());
        }
        let text = reply::with_remarks(answer);
        let options = ReplyOptions {
            allow_unsafe_links: settings.allow_unsafe_links,
        };
        Ok(reply::parts(&text, self.limit, &options))
    }
}

/// Whether `text` is no more than `word`, in any case, also with a full stop or in bold.
fn is_only(text: &str, word: &str) -> bool {
    let bare = |text: &str| {
        let letters = text.trim_matches(|c: char| !c.is_alphanumeric());
        if letters.is_empty() {
            text.trim().to_owned()
        } else {
            letters.to_lowercase()
        }
    };
    bare(text) == bare(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_alone_is_known_in_any_case_and_with_marks_around_it() {
        for (text, word, expected) in [
            ("OK", "OK", true),
            (" ok\n", "OK", true),
            ("**Ok.**", "ok", true),
            ("all well", "All well!", true),
            ("OK, but", "OK", false),
            ("okay", "OK", false),
            ("-", "-", true),
            ("", "OK", false),
            (".", "-", false),
        ] {
            assert_eq!(is_only(text, word), expected, "{text:?} {word:?}");
        }
    }
}
