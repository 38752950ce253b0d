//! The parts of an answer → posts, each exactly once, whatever the server or this process does.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use log::{debug, warn};

use crate::inbox;
use crate::mattermost::client::{ApiError, Client, NewPost, NewProps};
use crate::mattermost::{Post, PostId, PrxProps, UserId};
use crate::state::{Journal, Store};
use crate::times::Times;

/// So often somebody else may have posted with an answer's pending id before it counts as unclear
/// whether the server takes it.
const TAKEN: u32 = 3;

/// How a draft ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// All parts are on the server.
    Posted,
    /// The server takes no answer to that post: its thread or its channel is gone.
    Gone(String),
    /// The server takes nothing in that channel for now, and why.
    Closed(String),
    /// The server does not take this answer, and why.
    Refused(String),
    /// A part is longer than the server takes.
    TooLong,
    /// Nothing is being delivered.
    Nothing,
}

/// Why a delivery did not end: call again.
#[derive(Debug)]
pub enum Trouble {
    Api(ApiError),
    /// The state file cannot be written.
    Disk(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Api(error) => error.fmt(f),
            Trouble::Disk(error) => write!(
                f,
                "the state file cannot be written: {error}; no answer is begun until it can be"
            ),
        }
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Trouble::Api(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Disk(error)
    }
}

/// Delivers drafts from the journal.
pub struct Outbox {
    times: Times,
    bot: UserId,
    allow_unsafe_links: bool,
    /// When this run first heard from the server: all that an earlier one sent was sent before.
    started: Duration,
    /// Of the draft with this nonce; of a draft from an earlier run only `unsent` is known.
    progress: Option<Progress>,
}

#[derive(Default)]
struct Progress {
    nonce: String,
    posted: BTreeSet<u32>,
    unclear: Option<Unclear>,
    /// How often a post came back that is not the bot's.
    taken: u32,
}

/// There was a try of the next part, and nobody knows how it went.
#[derive(Clone, Copy)]
struct Unclear {
    /// Up to here the server is sure to know a repeat for one.
    repeat_until: Duration,
    /// Nothing can be on its way any more after this.
    settled: Duration,
}

impl Outbox {
    pub fn new(times: Times, bot: UserId, allow_unsafe_links: bool) -> Outbox {
        Outbox {
            started: times.clock.now(),
            times,
            bot,
            allow_unsafe_links,
            progress: None,
        }
    }

    /// A string that nobody can guess: the server takes it as the name of a post.
    pub fn nonce() -> String {
        format!(
            "{:016x}{:016x}",
            RandomState::new().hash_one(0),
            RandomState::new().hash_one(1)
        )
    }

    /// Notes that no part of the draft with this nonce is there: the server need not be asked.
    pub fn begin(&mut self, nonce: &str) {
        let nonce = nonce.to_owned();
        self.progress = Some(Progress {
            nonce,
            ..Progress::default()
        });
    }

    /// How many parts of the last draft are known to be there.
    pub fn posted(&self) -> usize {
        let progress = self.progress.as_ref();
        progress.map_or(0, |progress| progress.posted.len())
    }

    /// Posts what is missing of the journal's draft. On `Trouble` nothing is lost: call again after a
    /// pause, in this run or the next.
    pub fn deliver(&mut self, client: &Client, store: &mut Store) -> Result<Delivery, Trouble> {
        let Some(mut journal) = store.state.journal.clone() else {
            return Ok(Delivery::Nothing);
        };
        let Some(draft) = &journal.draft else {
            return Ok(Delivery::Nothing);
        };
        let mut progress = match self.progress.take() {
            Some(progress) if progress.nonce == draft.nonce => progress,
            // When an earlier run tried it no clock tells: this machine's may have jumped since, and
            // the server's `Date` is a proxy's. So a repeat may come too late to be known for one.
            _ if !draft.unsent => Progress {
                nonce: draft.nonce.clone(),
                unclear: Some(Unclear {
                    repeat_until: Duration::ZERO,
                    settled: self.started + self.times.ask_after,
                }),
                ..Progress::default()
            },
            _ => Progress {
                nonce: draft.nonce.clone(),
                posted: self.ask(client, &journal).inspect_err(|_| {
                    // It need not be made again, should this run end here.
                    let _ = store.save();
                })?,
                ..Progress::default()
            },
        };
        let result = self.post_missing(client, store, &mut journal, &mut progress);
        // Much may have happened by the time a channel is open again: then the server is asked.
        if !matches!(result, Ok(Delivery::Closed(_))) {
            self.progress = Some(progress);
        }
        result
    }

    fn post_missing(
        &self,
        client: &Client,
        store: &mut Store,
        journal: &mut Journal,
        progress: &mut Progress,
    ) -> Result<Delivery, Trouble> {
        let of = journal
            .draft
            .as_ref()
            .map_or(0, |draft| draft.parts.len() as u32);
        let mut part = 0;
        while part < of {
            if progress.posted.contains(&part) {
                part += 1;
                continue;
            }
            if let Some(unclear) = progress.unclear {
                // A server that was restarted, or another one of a cluster, does not know the pending
                // id, and shows what it took.
                progress.posted.extend(self.ask(client, journal)?);
                if !progress.posted.contains(&part)
                    && self.times.clock.now() >= unclear.repeat_until
                {
                    // Any server may have forgotten it: only asking is safe, once it is sure that
                    // nothing of the last try is still on its way.
                    let rest = unclear.settled.saturating_sub(self.times.clock.now());
                    debug!(
                        "waiting {} s before asking for part {part} of the answer",
                        rest.as_secs()
                    );
                    self.times.clock.sleep(rest);
                    progress.posted.extend(self.ask(client, journal)?);
                    progress.unclear = None;
                    renew(journal, progress);
                }
                if progress.posted.contains(&part) {
                    progress.unclear = None;
                    continue;
                }
            }
            note_unsent(store, journal, false);
            // The draft is on disk before the server hears of it.
            if of > 1 {
                store.save_durably()?
            } else {
                store.save()?
            }
            let Some(draft) = journal.draft.as_mut() else {
                return Ok(Delivery::Nothing);
            };
            let prx = PrxProps {
                in_reply_to: journal.post.clone(),
                part,
                of,
                apology: draft.apology,
            };
            let tried = self.times.clock.now();
            let result = client.create_post(&NewPost {
                channel_id: &journal.channel,
                message: &draft.parts[part as usize],
                root_id: &draft.root,
                pending_post_id: &format!("{}:{part}", draft.nonce),
                props: NewProps {
                    prx: Some(&prx),
                    unsafe_links: (!self.allow_unsafe_links).then_some("true"),
                },
            });
            match result {
                Ok(post) if is_it(&post, &self.bot, &prx) => {
                    progress.unclear = None;
                    progress.posted.insert(part);
                }
                Ok(_) if progress.taken >= TAKEN => {
                    progress.unclear = Some(self.unclear(Duration::ZERO));
                    let why = "the server gives other posts for the one that was sent";
                    return Err(ApiError::Unclear(why.to_owned()).into());
                }
                Ok(post) => {
                    progress.taken += 1;
                    warn!(
                        "somebody else posted {} with the id meant for an answer; trying another",
                        post.id
                    );
                    renew(journal, progress);
                }
                Err(error @ (ApiError::Unclear(_) | ApiError::TooLarge)) => {
                    let first = tried + self.times.repeat_within;
                    let until = progress.unclear.map_or(first, |known| known.repeat_until);
                    progress.unclear = Some(self.unclear(until));
                    return Err(error.into());
                }
                Err(ApiError::Refused { id, .. }) if id.contains(".root_id.") => {
                    match root_of(client, &draft.root)? {
                        Some(root) => draft.root = root,
                        None => return Ok(Delivery::Gone("its thread was deleted".to_owned())),
                    }
                    renew(journal, progress);
                }
                // `model.post.is_valid.message_length.app_error`, and its name in old versions.
                Err(ApiError::Refused { id, .. })
                    if id.contains(".message_length.") || id.contains(".is_valid.msg.") =>
                {
                    return Ok(Delivery::TooLong);
                }
                Err(ref error @ ApiError::Refused { status, ref id, .. }) => {
                    // Nothing of it is on its way, unless an earlier try of it is.
                    note_unsent(store, journal, progress.unclear.is_none());
                    return Ok(refused(status, id, error.to_string()));
                }
                Err(error) => {
                    if progress.unclear.is_none() {
                        // It did not reach the server: the next run need not wait for it.
                        note_unsent(store, journal, true);
                        let _ = store.save();
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(Delivery::Posted)
    }

    fn unclear(&self, repeat_until: Duration) -> Unclear {
        Unclear {
            repeat_until,
            settled: self.times.clock.now() + self.times.ask_after,
        }
    }

    /// Which parts the server shows.
    fn ask(&self, client: &Client, journal: &Journal) -> Result<BTreeSet<u32>, ApiError> {
        let parts = inbox::parts_of(
            client,
            &self.bot,
            &journal.channel,
            &journal.post,
            journal.create_at,
        );
        match parts {
            // A channel that cannot be read cannot be posted to either: that decides.
            Err(error) if error.is_closed() => Ok(BTreeSet::new()),
            parts => parts,
        }
    }
}

/// Whether `post`, which the server gave for one that was sent with `prx`, is that one: a pending id
/// may bring somebody else's. A plugin may have taken the props away: an own post without them is it.
pub fn is_it(post: &Post, bot: &UserId, prx: &PrxProps) -> bool {
    post.user_id == *bot && post.props.prx.as_ref().is_none_or(|posted| posted == prx)
}

/// Gives the draft another nonce.
fn renew(journal: &mut Journal, progress: &mut Progress) {
    if let Some(draft) = journal.draft.as_mut() {
        draft.nonce = Outbox::nonce();
        progress.nonce.clone_from(&draft.nonce);
    }
}

/// Notes in the state whether it is sure that nothing of the draft is on its way.
fn note_unsent(store: &mut Store, journal: &mut Journal, unsent: bool) {
    if let Some(draft) = journal.draft.as_mut() {
        draft.unsent = unsent;
    }
    store.state.journal = Some(journal.clone());
}

/// The root of the thread that `post` is a reply in; nothing if it is a root or not there.
fn root_of(client: &Client, post: &PostId) -> Result<Option<PostId>, ApiError> {
    match client.post(post) {
        Ok(post) if !post.root_id.is_empty() => Ok(Some(post.root_id)),
        Ok(_) => Ok(None),
        Err(error) if error.is_closed() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the refusal of a post means.
fn refused(status: u16, id: &str, why: String) -> Delivery {
    match status {
        403 | 404 => Delivery::Closed(why),
        // `api.post.create_post.can_not_post_to_deleted.error`: an archived channel.
        _ if id.contains(".can_not_post_to_deleted.") => Delivery::Gone(why),
        _ => Delivery::Refused(why),
    }
}
