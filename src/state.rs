//! What outlives the process: one small JSON file, replaced atomically, and the lock beside it.
//!
//! It is written before each step that the outside world can see, and only when it differs from what
//! is on disk. The bot's own posts on the server are the record; this file spares asking for it.

mod lock;

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use log::warn;
use serde::{Deserialize, Serialize};

use crate::answers::{Answer, Draft};
use crate::choices::Choices;
use crate::cursor::Cursor;
use crate::json;
use crate::limits::Days;
use crate::mattermost::{ChannelId, PostId, ServerTime, UserId};
use crate::sorted::Map;
use crate::times::{Clock, Step};
pub(crate) use lock::{Lock, LockError};

/// The format of the file. One from a newer version is not understood, and set aside.
const VERSION: u32 = 1;

/// Everything that is remembered between runs.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct State {
    pub version: u32,
    /// Whose state this is: another bot starts afresh.
    pub bot: UserId,
    /// The one channel of the configuration; empty: every channel the bot is in.
    pub scope: ChannelId,
    /// Whether a first complete list of this scope's channels was seen. Channels found later have
    /// their floor where the bot came in; those of the first list, where their last post was.
    pub begun: bool,
    /// The newest moment that any list of channels showed.
    pub listed_at: ServerTime,
    pub channels: Map<ChannelId, Cursor>,
    /// Channels that the bot is out of, with their floors: a join post older than that belongs to an
    /// earlier stay.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub left: Map<ChannelId, ServerTime>,
    /// The posts that were taken up and are not handled.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub answers: Map<PostId, Answer>,
    /// What people chose in the chat: models, and where conversations begin.
    #[serde(default, skip_serializing_if = "Choices::is_empty")]
    pub models: Choices,
    /// How many answers people got, for the daily limits.
    #[serde(default, skip_serializing_if = "Days::is_empty")]
    pub days: Days,
    /// The last run ended on purpose: what it had begun counts as no death.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub orderly: bool,
    /// The one answer under way, as version 0.1 wrote it; only read.
    #[serde(default, skip_serializing)]
    journal: Option<Journal>,
}

/// What version 0.1 had in the place of `answers`.
#[derive(Deserialize)]
struct Journal {
    post: PostId,
    channel: ChannelId,
    create_at: ServerTime,
    /// How often an answer was begun.
    attempts: u32,
    #[serde(default)]
    draft: Option<Draft>,
}

impl State {
    /// Notes that the bot is out of a channel: its record. Its floor is of use only where it is not far
    /// behind the newest moment of all lists: `margin`, as `Times::entry_margin`.
    pub(crate) fn leave(&mut self, channel: &ChannelId, margin: Duration) -> Option<Cursor> {
        let known = self.channels.remove(channel);
        let floor = known.as_ref().map(|known| (channel.clone(), known.floor));
        self.left.extend(floor);
        let useful = self.listed_at.before(margin);
        self.left.retain(|_, floor| *floor > useful);
        known
    }

    /// Takes over what 0.1 had under way, and counts the death of the run before: every answer that it
    /// had begun without a draft may have been its author.
    fn take_over(&mut self) {
        if let Some(journal) = self.journal.take() {
            let answer = Answer {
                channel: journal.channel,
                create_at: journal.create_at,
                attempts: journal.attempts.saturating_sub(1),
                draft: journal.draft,
                ..Answer::default()
            };
            self.answers.or_insert(journal.post, answer);
        }
        if !std::mem::take(&mut self.orderly) {
            let begun = self
                .answers
                .values_mut()
                .filter(|answer| answer.draft.is_none());
            begun.for_each(|answer| answer.attempts += 1);
        }
    }
}

/// The state and its file.
pub(crate) struct Store {
    pub state: State,
    path: PathBuf,
    written: u64,
    clock: Rc<dyn Clock>,
}

impl Store {
    /// Reads the state of `bot` for `scope` (empty: all channels). A file that is missing, broken or
    /// another bot's gives a fresh state; what is broken is kept beside it, under one fixed name.
    /// Errors: the file is there and cannot be read.
    pub(crate) fn open(
        path: &Path,
        bot: &UserId,
        scope: &ChannelId,
        clock: Rc<dyn Clock>,
    ) -> io::Result<Store> {
        check_regular(path)?;
        let mut state = match fs::read(path) {
            Ok(bytes) => match understand(&bytes) {
                Ok(state) => state,
                Err(why) => {
                    let aside = sibling(path, "corrupt");
                    warn!(
                        "{}: {why}; it is kept as {}, and the bot starts as on a first run",
                        path.display(),
                        aside.display()
                    );
                    fs::rename(path, &aside)?;
                    State::default()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error),
        };
        if state.bot != *bot {
            if !state.bot.is_empty() {
                warn!("{} belongs to another bot; starting afresh", path.display());
            }
            state = State::default();
        }
        state.take_over();
        if state.scope != *scope {
            // What the new scope leaves out is history when a later one brings it back.
            state.begun = false;
            if !scope.is_empty() {
                state.channels.retain(|channel, _| channel == scope);
                state.answers.retain(|_, answer| answer.channel == *scope);
            }
        }
        state.version = VERSION;
        state.bot = bot.clone();
        state.scope = scope.clone();
        Ok(Store {
            state,
            path: path.to_owned(),
            written: 0,
            clock,
        })
    }

    /// Writes the state if it changed: a kill leaves the old file or the new one.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        self.write(false)
    }

    /// As `save`, and a power cut leaves the same.
    pub(crate) fn save_durably(&mut self) -> io::Result<()> {
        self.write(true)
    }

    fn write(&mut self, durably: bool) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self.state)?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        if hash == self.written {
            return Ok(());
        }
        let temporary = sibling(&self.path, "new");
        // One that a crash left, or somebody else's link or file, in a folder that others may write.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&bytes)?;
        if durably {
            file.sync_all()?;
        }
        drop(file);
        self.clock.checkpoint(Step::BeforeRename);
        fs::rename(&temporary, &self.path)?;
        if durably && let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.clock.checkpoint(Step::AfterRename);
        self.written = hash;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The state in the file at `path`, for a look beside the bot that runs; nothing if it cannot be read.
pub(crate) fn peek(path: &Path) -> Option<State> {
    check_regular(path).ok()?;
    understand(&fs::read(path).ok()?).ok()
}

/// A pipe would be waited for, and a device be read without an end.
fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => Err(io::Error::other("it is not a regular file")),
        _ => Ok(()),
    }
}

fn understand(bytes: &[u8]) -> Result<State, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    if let Ok(Versioned { version }) = json::parse_slice(bytes)
        && version > VERSION
    {
        return Err(format!(
            "it is from a newer version of prx (format {version})"
        ));
    }
    json::parse_slice(bytes).map_err(|error| format!("it is not a state file ({error})"))
}

/// `name.json` → `name.json.SUFFIX`, in the same folder.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::SystemClock;

    /// A state file's path in a folder that goes with the first of the two.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.state.json");
        (folder, path)
    }

    fn open(path: &Path, bot: &str, scope: &str) -> Store {
        Store::open(
            path,
            &bot.into(),
            &scope.into(),
            Rc::new(SystemClock::default()),
        )
        .unwrap()
    }

    fn with_channels(path: &Path, bot: &str, scope: &str, channels: &[&str]) {
        let mut store = open(path, bot, scope);
        store.state.begun = true;
        for channel in channels {
            store
                .state
                .channels
                .insert((*channel).into(), Cursor::default());
        }
        store.save().unwrap();
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let (_folder, path) = place();
        with_channels(&path, "bot", "", &["a", "b"]);
        let store = open(&path, "bot", "");
        assert!(store.state.begun);
        assert_eq!(store.state.channels.len(), 2);
    }

    /// What 0.1.0 wants in its state file; what it does not know it leaves out.
    #[test]
    fn an_older_version_can_read_it() {
        let (_folder, path) = place();
        with_channels(&path, "bot", "", &["a"]);
        let text = fs::read_to_string(&path).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["version"], 1);
        for name in ["bot", "scope", "begun", "listed_at", "channels"] {
            assert!(state.get(name).is_some(), "{name}");
        }
        for name in [
            "floor",
            "mark",
            "last_post_at",
            "total_msg_count",
            "handled",
        ] {
            assert!(state["channels"]["a"].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn an_unchanged_state_is_not_written() {
        let (_folder, path) = place();
        let mut store = open(&path, "bot", "");
        store.save().unwrap();
        fs::remove_file(&path).unwrap();
        store.save().unwrap();
        assert!(!path.exists());
        store.state.begun = true;
        store.save().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn only_the_owner_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = place();
        open(&path, "bot", "").save().unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn what_lies_in_the_temporary_files_place_is_neither_kept_nor_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let (folder, path) = place();
        let other = folder.path().join("other");
        let temporary = sibling(&path, "new");
        fs::write(&temporary, "left by a crash").unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).unwrap();
        let mut store = open(&path, "bot", "");
        store.save().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::write(&other, "another's").unwrap();
        symlink(&other, &temporary).unwrap();
        store.state.begun = true;
        store.save().unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read_to_string(&other).unwrap(), "another's");
    }

    #[test]
    fn a_broken_or_newer_file_is_set_aside_and_another_bots_is_not_used() {
        let cases = [
            ("broken", "{\"version\":1,", true),
            ("empty", "", true),
            ("newer", "{\"version\":2}", true),
            (
                "other",
                r#"{"version":1,"bot":"other","scope":"","begun":true,"listed_at":0,"channels":{}}"#,
                false,
            ),
        ];
        for (name, text, aside) in cases {
            let (_folder, path) = place();
            fs::write(&path, text).unwrap();
            let store = open(&path, "bot", "");
            assert!(!store.state.begun, "{name}");
            assert_eq!(
                path.with_file_name("config.state.json.corrupt").exists(),
                aside,
                "{name}"
            );
        }
    }

    #[test]
    fn a_changed_scope_begins_anew_for_what_it_adds() {
        let (_folder, path) = place();
        with_channels(&path, "bot", "", &["a", "b"]);
        let mut narrow = open(&path, "bot", "a");
        assert!(!narrow.state.begun);
        assert_eq!(narrow.state.channels.len(), 1);
        narrow.save().unwrap();
        let wide = open(&path, "bot", "");
        assert!(!wide.state.begun && wide.state.channels.contains_key(&"a".into()));
    }

    #[test]
    fn the_lock_is_taken_once_and_free_again_when_dropped() {
        let (_folder, path) = place();
        let lock = Lock::take(&path).ok().unwrap();
        let holder = match Lock::take(&path) {
            Err(LockError::Taken(holder)) => holder,
            _ => panic!("taken twice"),
        };
        assert_eq!(holder, Some(std::process::id()));
        assert!(matches!(Lock::look(&path), Err(LockError::Taken(Some(_)))));
        drop(lock);
        assert!(Lock::look(&path).is_ok());
        assert!(Lock::take(&path).is_ok());
    }
}
