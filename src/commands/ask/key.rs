//! The record of a key: a lock for the calls that have it in common, a file that says what is to be
//! posted and whether it was, and the post that carries it.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::super::send::Place;
use super::Exit;
use crate::answers::{Answer, Draft, Progress, Stage};
use crate::mattermost::client::paged;
use crate::mattermost::client::{ApiError, Client};
use crate::mattermost::{ChannelId, Post, PostId, ServerTime, UserId};
use crate::outage::Trouble;
use crate::outbox::{Delivery, Outbox};
use crate::secret::Secret;
use crate::sorted::Set;
use crate::state::Store;
use crate::text::fnv1a;
use crate::times::Clock;

/// How long a key is remembered on disk, and how far back it is looked for in the channel.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most posts that are looked at.
const POSTS: usize = 2000;
/// The most posts that are asked for at once.
const PAGE: usize = 200;

/// One key in one channel and thread. The file is a state file with the one answer; an answer without
/// parts is one that nothing is left to do for.
pub(super) struct Record {
    store: Store,
    channel: ChannelId,
    /// Stands where an answer's posts name their question: no post has such an id.
    pub(super) name: PostId,
    _lock: File,
}

impl Record {
    /// Waits for other calls with the same key, and reads what they left.
    pub(super) fn open(
        state: &Path,
        place: &Place,
        key: &str,
        bot: &UserId,
        clock: Rc<dyn Clock>,
    ) -> Result<Record, Exit> {
        let name = format!("ask:{}:{key}", place.root);
        let hash = fnv1a(format!("{} {name}", place.channel).as_bytes());
        let path = with_suffix(state, &format!("{PREFIX}{hash:016x}"));
        forget_old(state);
        let failed = |error| unusable("use", &path, &error);
        let lock = lock(&with_suffix(&path, LOCK)).map_err(failed)?;
        let store = Store::open(&path, bot, &ChannelId::default(), clock).map_err(failed)?;
        Ok(Record {
            store,
            channel: place.channel.clone(),
            name: PostId(name),
            _lock: lock,
        })
    }

    pub(super) fn draft(&self) -> Option<&Draft> {
        self.store.state.answers.get(&self.name)?.draft.as_ref()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.draft().is_some_and(|draft| draft.parts.is_empty())
    }

    /// The name of the posts for the server: the same in all calls of one build with this key, wherever
    /// they run, and unknown to all who do not have the token.
    pub(super) fn nonce(&self, token: &Secret) -> String {
        let half = |number: u8| {
            let mut hasher = DefaultHasher::new();
            let key = (number, token.reveal(), &self.channel, &self.name);
            key.hash(&mut hasher);
            hasher.finish()
        };
        format!("{:016x}{:016x}", half(0), half(1))
    }

    /// Puts the draft on disk; from then on it may be on its way. `since`: nothing of it is older.
    pub(super) fn keep(&mut self, draft: Draft, since: ServerTime) -> Result<(), Exit> {
        let answer = Answer {
            channel: self.channel.clone(),
            create_at: since,
            draft: Some(draft),
            ..Answer::default()
        };
        self.store.state.answers.insert(self.name.clone(), answer);
        self.save()
    }

    /// Notes what is known of the draft on the server.
    pub(super) fn begin(&mut self, progress: Progress, since: ServerTime) {
        if let Some(answer) = self.store.state.answers.get_mut(&self.name) {
            answer.create_at = since;
            answer.live.stage = Stage::Deliver(progress);
        }
    }

    pub(super) fn step(&mut self, outbox: &Outbox, client: &Client) -> Result<Delivery, Trouble> {
        outbox.step(client, &mut self.store, &self.name)
    }

    /// Nothing is to be posted with this key any more.
    pub(super) fn finish(&mut self) -> Result<(), Exit> {
        self.keep(Draft::default(), ServerTime::default())
    }

    /// The server does not take the draft: the next call asks anew, unless some of it may be there.
    pub(super) fn give_up(&mut self, why: String) -> Result<(), Exit> {
        let answer = self.store.state.answers.get_mut(&self.name);
        let untouched = answer.is_some_and(|answer| match answer.progress() {
            Some((draft, progress)) => draft.unsent && progress.posted.is_empty(),
            None => false,
        });
        if untouched {
            self.store.state.answers.remove(&self.name);
        }
        self.save()?;
        Err(Exit::Failure(why))
    }

    fn save(&mut self) -> Result<(), Exit> {
        let saved = self.store.save_durably();
        saved.map_err(|error| unusable("write", self.store.path(), &error))
    }
}

fn unusable(what: &str, path: &Path, error: &io::Error) -> Exit {
    let path = path.display();
    Exit::Failure(format!(
        "cannot {what} {path}: {error}; make its folder writable or set state_dir"
    ))
}

/// What the channel shows of a key.
pub(super) struct Shown {
    pub(super) parts: Set<u32>,
    /// What is posted from now on is not older.
    pub(super) newest: ServerTime,
}

/// Looks through the channel for posts that carry the record's key. `window`: how long after its time
/// a post may still become visible.
pub(super) fn search(
    client: &Client,
    bot: &UserId,
    record: &Record,
    window: Duration,
) -> Result<Shown, ApiError> {
    let mut parts = Set::new();
    let mut newest = ServerTime::default();
    walk(client, &record.channel, &mut |page| {
        let times = || page.iter().map(|post| post.create_at);
        newest = times().max().unwrap_or_default().max(newest);
        let now = client.date_ms().map_or(newest, ServerTime);
        let own = page.iter().filter(|post| post.user_id == *bot);
        let marks = own.filter_map(|post| post.props.prx.as_ref());
        let marks = marks.filter(|prx| prx.in_reply_to == record.name);
        parts.extend(marks.map(|prx| prx.part));
        times().min().is_none_or(|oldest| oldest < now.before(KEPT))
    })?;
    Ok(Shown {
        parts,
        newest: newest.before(window),
    })
}

/// Reads the channel's posts page by page, the newest first, until `take` has enough.
pub(super) fn walk(
    client: &Client,
    channel: &ChannelId,
    take: &mut dyn FnMut(Vec<Post>) -> bool,
) -> Result<(), ApiError> {
    let (mut size, mut offset) = (PAGE, 0);
    while offset < POSTS {
        let page = paged(&mut size, |count| {
            client.posts_page(channel, offset / count, count)
        })?;
        let count = page.order.len();
        offset += count;
        if take(page.posts) || count < size {
            break;
        }
    }
    Ok(())
}

/// Between the state file's name and a key's hash.
const PREFIX: &str = ".ask-";
/// What a record's lock has behind the record's name.
const LOCK: &str = ".lock";

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Waits for the lock. The operating system lets go of it however the process ends.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path)?;
        file.lock()?;
        // The one that had it may have taken the file away.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Takes away the records that are older than a key is kept.
fn forget_old(state: &Path) {
    let prefix = with_suffix(state, PREFIX);
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy();
    let files = state.parent().map(fs::read_dir);
    for file in files.into_iter().flatten().flatten().flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        let Some(record) = name.strip_suffix(LOCK) else {
            continue;
        };
        if record.starts_with(&*prefix) {
            forget_if_old(&file.path().with_file_name(record), &file.path());
        }
    }
}

fn forget_if_old(record: &Path, lock: &Path) {
    let is_old = || {
        let file = fs::metadata(record).or_else(|_| fs::metadata(lock));
        let age = file.and_then(|file| file.modified()).map(|at| at.elapsed());
        matches!(age, Ok(Ok(age)) if age > KEPT)
    };
    if is_old()
        && let Ok(file) = File::open(lock)
        && file.try_lock().is_ok()
        && is_at(&file, lock)
        && is_old()
    {
        let _ = fs::remove_file(record);
        let _ = fs::remove_file(lock);
    }
}
