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

/// How a draft ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// All parts are on the server.
    Posted,
    /// The server will never take it, and why.
    Refused { closed: bool, why: String },
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
    /// Of the draft with this nonce; nothing is known of a draft from an earlier run.
    progress: Option<Progress>,
}

struct Progress {
    nonce: String,
    posted: BTreeSet<u32>,
    /// The first and the last try of the next part, if nobody knows how they went.
    unclear: Option<(Duration, Duration)>,
}

impl Outbox {
    pub fn new(times: Times, bot: UserId, allow_unsafe_links: bool) -> Outbox {
        Outbox {
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

    /// Notes that the journal's draft is this run's own and no part of it was tried: the server need
    /// not be asked.
    pub fn begin(&mut self, nonce: &str) {
        let nonce = nonce.to_owned();
        self.progress = Some(Progress {
            nonce,
            posted: BTreeSet::new(),
            unclear: None,
        });
    }

    /// Posts what is missing of the journal's draft. On `Trouble` nothing is lost: call again after a
    /// pause, in this run or the next.
    pub fn deliver(&mut self, client: &Client, store: &mut Store) -> Result<Delivery, Trouble> {
        let Some(mut journal) = store.state.journal.clone() else {
            return Ok(Delivery::Nothing);
        };
        let Some(draft) = journal.draft.as_mut() else {
            return Ok(Delivery::Nothing);
        };
        // The draft is on disk before the server hears of it.
        if draft.parts.len() > 1 {
            store.save_durably()?
        } else {
            store.save()?
        }
        let mut progress = match self.progress.take() {
            Some(progress) if progress.nonce == draft.nonce => progress,
            _ => Progress {
                nonce: draft.nonce.clone(),
                posted: self.ask(client, &journal)?,
                unclear: None,
            },
        };
        let result = self.post_missing(client, store, &mut journal, &mut progress);
        self.progress = Some(progress);
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
            if let Some((first, last)) = progress.unclear {
                // A server that was restarted, or another one of a cluster, does not know the pending
                // id, and shows what it took.
                progress.posted.extend(self.ask(client, journal)?);
                if !progress.posted.contains(&part)
                    && self.times.clock.now() - first >= self.times.repeat_within
                {
                    // Any server may have forgotten it: only asking is safe, once it is sure that
                    // nothing of the last try is still on its way.
                    let rest = (last + self.times.ask_after).saturating_sub(self.times.clock.now());
                    debug!(
                        "waiting {} s before asking for part {part} of the answer",
                        rest.as_secs()
                    );
                    self.times.clock.sleep(rest);
                    progress.posted.extend(self.ask(client, journal)?);
                    progress.unclear = None;
                    renew(store, journal, progress)?;
                }
                if progress.posted.contains(&part) {
                    progress.unclear = None;
                    continue;
                }
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
                Ok(post) => {
                    warn!(
                        "somebody else posted {} with the id meant for an answer; trying another",
                        post.id
                    );
                    renew(store, journal, progress)?;
                }
                Err(error @ (ApiError::Unclear(_) | ApiError::TooLarge)) => {
                    let first = progress.unclear.map_or(tried, |(first, _)| first);
                    progress.unclear = Some((first, self.times.clock.now()));
                    return Err(error.into());
                }
                Err(ApiError::Refused { id, .. }) if id.contains(".root_id.") => {
                    match root_of(client, &draft.root)? {
                        Some(root) => draft.root = root,
                        None => return Ok(refused(false, "its thread was deleted")),
                    }
                    renew(store, journal, progress)?;
                }
                // `model.post.is_valid.message_length.app_error`
                Err(ApiError::Refused { id, .. }) if id.contains(".message_length.") => {
                    return Ok(Delivery::TooLong);
                }
                Err(error @ ApiError::Refused { status, .. }) => {
                    return Ok(refused(status == 403, &error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Delivery::Posted)
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

/// Gives the draft another nonce, on disk before the server hears of it.
fn renew(store: &mut Store, journal: &mut Journal, progress: &mut Progress) -> io::Result<()> {
    if let Some(draft) = journal.draft.as_mut() {
        draft.nonce = Outbox::nonce();
        progress.nonce.clone_from(&draft.nonce);
    }
    store.state.journal = Some(journal.clone());
    store.save()
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

fn refused(closed: bool, why: &str) -> Delivery {
    Delivery::Refused {
        closed,
        why: why.to_owned(),
    }
}
