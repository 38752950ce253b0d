//! `prx send`: a text from the shell → posts. It works beside a running bot, takes no lock, and
//! nothing that it posts counts as an answer.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::lookup::{self, Found};
use super::run::introduce;
use super::{Exit, connect, print};
use crate::config::{Config, MattermostSettings};
use crate::mattermost::client::{ApiError, Client, Mark, NewPost, NewProps};
use crate::mattermost::{ChannelId, Post, PostId, PrxProps, User, UserId};
use crate::outbox::{Outbox, is_it};
use crate::reply::{self, ReplyOptions};
use crate::times::{Calendar, Sleep, SystemClock, Times};

/// The longest text, in bytes: a hundred posts or so.
const TEXT_LIMIT: u64 = 1 << 20;
/// Channels that are named when none is found, at most.
const LISTED: usize = 10;
/// Before the first repeat of a part; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What to post, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Letter {
    /// By id, name or link; `None`: that of the configuration.
    pub channel: Option<String>,
    /// A post of the thread, by id or link.
    pub thread: Option<String>,
    /// `None`: what comes on standard input.
    pub text: Option<String>,
}

/// Posts `letter` and prints the id of each post.
#[inline(never)]
pub fn run(config_path: Option<&Path>, letter: &Letter) -> Result<(), Exit> {
    let (config, client) = connect(config_path)?;
    deliver(
        &config,
        &client,
        &Times::default(),
        &SystemClock::default(),
        letter,
    )
}

/// `run`, on any clock.
pub fn deliver(
    config: &Config,
    client: &Client,
    times: &Times,
    clock: &dyn Sleep,
    letter: &Letter,
) -> Result<(), Exit> {
    let settings = &config.mattermost;
    let (channel, thread) = (letter.channel.as_deref(), letter.thread.as_deref());
    let place = find_place(client, settings, channel, thread)?;
    let text = match &letter.text {
        Some(text) => text.clone(),
        None => read_input()?,
    };
    let (me, limit) = introduce(client, &mut None)?;
    let options = ReplyOptions {
        allow_unsafe_links: settings.allow_unsafe_links,
    };
    let parts = reply::parts(&text, limit, &options);
    if parts.is_empty() {
        return Err(Exit::Failure(
            "there is nothing to send: the text is blank".into(),
        ));
    }
    let sender = Sender {
        client,
        repeat_within: times.repeat_within,
        clock,
        me: &me,
        place: &place,
        generated_by: None,
        links: (!settings.allow_unsafe_links).then_some("true"),
    };
    // No post has this id: the parts belong together, and answer nothing.
    let name = format!("send:{}", Outbox::nonce());
    sender.post_all(&name, &parts, |post| print(&format!("{post}\n")))
}

/// Where to post.
pub(super) struct Place {
    pub(super) channel: ChannelId,
    /// The thread's first post; empty: the channel's root.
    pub(super) root: PostId,
}

/// Looks up the channel and the thread that a command names; without either it is the channel of the
/// configuration.
pub(super) fn find_place(
    client: &Client,
    settings: &MattermostSettings,
    channel: Option<&str>,
    thread: Option<&str>,
) -> Result<Place, Exit> {
    let wrong = |why: &str| Err(Exit::Config(why.into()));
    let configured = settings.channel_id.as_ref().map(ChannelId::as_str);
    let root = thread.map(|thread| find_root(client, thread)).transpose()?;
    let named = channel.or(configured.filter(|_| root.is_none()));
    let channel = match (named, &root) {
        (Some(channel), _) => find_channel(client, channel)?,
        (None, Some(root)) => root.channel_id.clone(),
        (None, None) => {
            return wrong(
                "which channel? Name one with --channel, by its name, its link or its id",
            );
        }
    };
    if root.as_ref().is_some_and(|root| root.channel_id != channel) {
        return wrong(
            "the post of --thread is not in the channel of --channel; leave --channel out",
        );
    }
    let root = root.map(|root| root.id).unwrap_or_default();
    Ok(Place { channel, root })
}

fn read_input() -> Result<String, Exit> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(TEXT_LIMIT + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| Exit::Failure(format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(Exit::Failure("the text is larger than 1 MiB".into()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The channel that `text` names.
fn find_channel(client: &Client, text: &str) -> Result<ChannelId, Exit> {
    let id = ChannelId::from(text);
    if id.is_well_formed() {
        return Ok(id);
    }
    let found = lookup::find_channels(client, text)?;
    match &found[..] {
        [one] => Ok(one.channel.id.clone()),
        [] if text.starts_with('@') => Err(Exit::Failure(format!(
            "the bot has no direct channel with {text:?}: it has one as soon as that person opens it \
             in Mattermost; otherwise name a channel, such as ~town-square"
        ))),
        [] => Err(no_channel(client, text)?),
        several => {
            let several = several.iter();
            let several = several.map(|found| format!("{} ({})", found.channel.id, found.title()));
            let several = several.collect::<Vec<_>>().join(", ");
            Err(Exit::Failure(format!(
                "{text:?} is the name of more than one channel; write the id: {several}"
            )))
        }
    }
}

/// The error that no channel has that name, with those that the bot is in.
fn no_channel(client: &Client, text: &str) -> Result<Exit, ApiError> {
    let found = lookup::team_channels(client)?;
    let titles: Vec<String> = found.iter().take(LISTED).map(Found::title).collect();
    let more = if found.len() > LISTED {
        " and others"
    } else {
        ""
    };
    Ok(Exit::Failure(match &titles[..] {
        [] => format!("no channel {text:?} that the bot can see: it is in none"),
        titles => format!(
            "no channel {text:?} that the bot can see; it is in {}{more}",
            titles.join(", ")
        ),
    }))
}

/// The first post of the thread that `text` is a post of.
fn find_root(client: &Client, text: &str) -> Result<Post, Exit> {
    let missing = || Exit::Failure(format!("no post {text:?} that the bot can see"));
    let get = |id: &PostId| match client.post(id) {
        Err(error) if error.is_closed() => Err(missing()),
        post => Ok(post?),
    };
    let post = get(&lookup::post_id(text).ok_or_else(missing)?)?;
    if post.root_id.is_empty() {
        Ok(post)
    } else {
        get(&post.root_id)
    }
}

/// Posts while a repeat is known for one, and keeps nothing on disk.
pub(super) struct Sender<'a> {
    pub(super) client: &'a Client,
    pub(super) repeat_within: Duration,
    pub(super) clock: &'a dyn Sleep,
    pub(super) me: &'a User,
    pub(super) place: &'a Place,
    /// Whose model wrote it, if one did.
    pub(super) generated_by: Option<&'a UserId>,
    /// `props.unsafe_links`.
    pub(super) links: Option<&'static str>,
}

impl Sender<'_> {
    /// Posts all parts, which `name` holds together, and tells of each.
    pub(super) fn post_all(
        &self,
        name: &str,
        parts: &[String],
        tell: impl Fn(&PostId) -> Result<(), Exit>,
    ) -> Result<(), Exit> {
        for part in 0..parts.len() {
            match self.post(name, part, parts) {
                Ok(post) => tell(&post)?,
                Err(error) if parts.len() == 1 => return Err(Exit::Failure(error)),
                Err(error) => {
                    let of = parts.len();
                    return Err(Exit::Failure(format!(
                        "part {} of {of}: {error}; known to be there: {part} of {of}",
                        part + 1
                    )));
                }
            }
        }
        Ok(())
    }

    /// Posts one part. A failed request is repeated while the server still recognises the repeat as
    /// the same post. An error says whether the part may be there.
    fn post(&self, name: &str, part: usize, parts: &[String]) -> Result<PostId, String> {
        let clock = self.clock;
        let prx = PrxProps {
            in_reply_to: name.into(),
            part: part as u32,
            of: parts.len() as u32,
            apology: false,
            asked: String::new(),
        };
        let (mut pending, first) = (Outbox::nonce(), clock.now());
        let mut calendar = Calendar::default();
        calendar.ran_ahead(clock);
        let (mut pause, mut unclear) = (FIRST_PAUSE, false);
        loop {
            let result = self.client.create_post(&NewPost {
                channel_id: &self.place.channel,
                message: &parts[part],
                root_id: &self.place.root,
                pending_post_id: &pending,
                props: NewProps {
                    prx: Some(Mark::Answer(&prx)),
                    ai_generated_by: self.generated_by,
                    unsafe_links: self.links,
                },
            });
            let mut wait = pause;
            let error = match result {
                Ok(post) if is_it(&post, &self.me.id, &prx) => return Ok(post.id),
                Ok(post) => {
                    pending = Outbox::nonce();
                    ApiError::unclear(format!("the server gave another post, {}", post.id), "")
                }
                Err(error @ (ApiError::Refused { .. } | ApiError::Unauthorized(_))) => {
                    return Err(format!("{error}{}", self.hint(&error)));
                }
                Err(error) => error,
            };
            match &error {
                ApiError::RateLimited(Some(asked)) => wait = wait.max(*asked),
                ApiError::Unclear(_) | ApiError::TooLarge => unclear = true,
                _ => {}
            }
            // The server forgets what it knows a repeat by, also while this machine sleeps.
            let slept = calendar.ran_ahead(clock) >= Duration::from_secs(1);
            let late = clock.now().saturating_add(wait) >= first + self.repeat_within;
            if late || (unclear && slept) {
                return Err(if unclear {
                    format!("{error}; it may be there all the same: look before you repeat it")
                } else {
                    error.to_string()
                });
            }
            clock.sleep(wait);
            pause *= 2;
        }
    }

    fn hint(&self, error: &ApiError) -> String {
        match error {
            ApiError::Refused { status: 403, .. } => {
                format!("; write in the channel: /invite @{}", self.me.username)
            }
            _ => String::new(),
        }
    }
}
