//! The lock beside the state file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{check_regular, sibling};

/// Held while a bot runs: one per state file. The operating system lets go of it however the process
/// ends, and no child process inherits it.
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// A child process that is just starting still has the file, until it becomes another program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process has it; its id, if it could be read.
    Taken(Option<u32>),
    Io(PathBuf, io::Error),
}

impl Lock {
    /// Whether another process has the lock, without taking it from one that starts meanwhile: an
    /// error says so.
    pub(crate) fn look(path: &Path) -> Result<(), LockError> {
        let path = sibling(path, "lock");
        let failed = |error| LockError::Io(path.clone(), error);
        check_regular(&path).map_err(failed)?;
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => judge(&path, file.map_err(failed)?.try_lock_shared()),
        }
    }

    /// Takes the lock beside the state file `path`, at once or not at all, and leaves this process's
    /// id in it.
    pub(crate) fn take(path: &Path) -> Result<Lock, LockError> {
        let path = sibling(path, "lock");
        let failed = |error| LockError::Io(path.clone(), error);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        check_regular(&path).map_err(failed)?;
        let mut file = options.open(&path).map_err(failed)?;
        judge(&path, file.try_lock())?;
        // For the person who asks which process it is; a full disk is no reason not to run.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock(file))
    }
}

/// What a try of the lock in the file at `path` came to.
fn judge(path: &Path, tried: Result<(), TryLockError>) -> Result<(), LockError> {
    tried.map_err(|error| match error {
        TryLockError::WouldBlock => {
            let holder = fs::read_to_string(path);
            LockError::Taken(holder.ok().and_then(|id| id.trim().parse().ok()))
        }
        TryLockError::Error(error) => LockError::Io(path.to_owned(), error),
    })
}
