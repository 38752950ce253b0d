//! One post → the text that answers it: typing, the conversation, the model, and in the model's place
//! a short message where it fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use log::warn;

use crate::config::Config;
use crate::conversation::{Gathering, Names, Place};
use crate::http;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId};
use crate::provider::{self, Class, Fact, Learned, Listener, ProviderError, Question};
use crate::reply;
use crate::times::Times;

/// After this many attempts that ended with the process, a message gets an apology.
const ATTEMPTS: u32 = 3;
const CRASHED: &str =
    "Sorry, something went wrong each time I tried to answer this, so I have stopped trying.";

/// What became of a post.
pub enum Generated {
    Answer(String),
    /// Why there is no answer, in words for the person.
    Apology(String),
    /// The bot may not write in the channel.
    Closed(String),
    /// There is nothing to answer any more.
    Gone(String),
}

/// Asks the model.
pub struct Answerer {
    config: Rc<Config>,
    client: Rc<Client>,
    learned: RefCell<Learned>,
    times: Times,
    names: Names,
}

impl Answerer {
    pub fn new(config: Rc<Config>, client: Rc<Client>, times: Times) -> Answerer {
        Answerer {
            config,
            client,
            learned: RefCell::default(),
            times,
            names: Names::default(),
        }
    }

    /// Shows "typing" and asks the model. `attempts`: how many ended with the process. Errors: the
    /// server is in trouble, and the post is to be answered later.
    pub fn generate(&mut self, place: &Place, attempts: u32) -> Result<Generated, ApiError> {
        let (post, began) = (&place.post, self.times.clock.now());
        let root = root(&self.config, post);
        match self.client.typing(&post.channel_id, &root) {
            Err(error @ ApiError::Refused { status: 403, .. }) => {
                return Ok(Generated::Closed(format!(
                    "{error}; is the bot in it, and may it post there?"
                )));
            }
            Err(
                error @ (ApiError::Unreachable(_)
                | ApiError::Unauthorized(_)
                | ApiError::RateLimited(_)),
            ) => {
                return Err(error);
            }
            // Whatever else went wrong with "typing" does not keep an answer.
            _ => {}
        }
        if attempts >= ATTEMPTS {
            warn!(
                "post {} ended the program {attempts} times; it gets an apology",
                post.id
            );
            return Ok(Generated::Apology(CRASHED.to_owned()));
        }
        let (client, times) = (self.client.clone(), self.times.clone());
        typing_while(&client, &times, &post.channel_id, &root, || {
            let mut gathering = Gathering::new(place.clone());
            let told = loop {
                let (settings, clock) = (&self.config.mattermost, &*self.times.clock);
                match gathering.step(&self.client, settings, &mut self.names, clock) {
                    Ok(Some(told)) => break told,
                    Ok(None) => {}
                    Err(error) if error.is_closed() => {
                        return Ok(Generated::Gone(error.to_string()));
                    }
                    Err(error) => return Err(error),
                }
            };
            Ok(self.ask(post, &told.messages, began))
        })
    }

    /// `began`: when the post was taken up, from which on the answer's time runs.
    fn ask(&self, post: &Post, conversation: &[provider::Message], began: Duration) -> Generated {
        let channel = self.config.mattermost.channel(&post.channel_id);
        let question = Question {
            conversation,
            images: &[],
            model: channel.model.as_deref(),
            bot_name: "",
            several_speakers: false,
            time_left: self
                .config
                .message_timeout
                .saturating_sub(self.times.clock.now() - began),
        };
        let settings = self
            .config
            .provider
            .with_parameters(&channel.model_parameters);
        let facts = self.learned.borrow_mut().facts(self.times.clock.now());
        let answer = provider::ask(&settings, &facts, &question, &mut Waiting(self));
        let answer = answer.and_then(|answer| match reply::is_blank(&answer.text) {
            true => Err(ProviderError::new(
                Class::Empty,
                format!("{}: nothing in the answer can be shown", answer.by),
            )),
            false => Ok(answer),
        });
        match answer {
            Ok(answer) if answer.cut => {
                let mark = reply::cut_mark(&answer.text);
                Generated::Answer(answer.text + &mark)
            }
            Ok(answer) => Generated::Answer(answer.text),
            Err(error) => {
                warn!("no answer to post {}: {error}", post.id);
                Generated::Apology(error.for_person().to_owned())
            }
        }
    }
}

/// Waits for the whole answer, with the heartbeat that shows "typing".
struct Waiting<'a>(&'a Answerer);

impl Listener for Waiting<'_> {
    fn text(&mut self, _: &str) {}
    fn start_over(&mut self) {}
    fn learned(&mut self, fact: Fact) {
        let now = self.0.times.clock.now();
        self.0.learned.borrow_mut().note(fact, now);
    }
    fn note(&mut self, line: &str) {
        log::debug!("{line}");
    }
    fn wait(&mut self, duration: Duration) {
        self.0.times.clock.sleep(duration);
        http::beat();
    }
}

/// Where the answer to `post` goes: the thread's root, or nothing for the channel's.
pub fn root(config: &Config, post: &Post) -> PostId {
    if !config.mattermost.channel(&post.channel_id).thread_replies {
        PostId::default()
    } else if post.root_id.is_empty() {
        post.id.clone()
    } else {
        post.root_id.clone()
    }
}

/// Does `work` and, whenever a call in it blocks, shows "typing" in the channel or thread often enough.
pub fn typing_while<R>(
    client: &Rc<Client>,
    times: &Times,
    channel: &ChannelId,
    root: &PostId,
    work: impl FnOnce() -> R,
) -> R {
    let (client, times) = (client.clone(), times.clone());
    let (channel, root) = (channel.clone(), root.clone());
    let mut last: Duration = times.clock.now();
    let typing = move || {
        let now = times.clock.now();
        if now.saturating_sub(last) >= times.typing {
            last = now;
            let _ = client.typing(&channel, &root);
        }
    };
    http::with_heartbeat(typing, work)
}
