//! Notices that the config or the program's own file was replaced, and starts the program anew in its
//! place: the same process id, nothing lost, since what is under way stands in the state file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use log::{info, warn};

use crate::config::{self, Config};
use crate::times::Clock;

/// How often to look.
const PERIOD: Duration = Duration::from_secs(5);

/// How long a change must stay as it is: a file that is still being written is left alone.
const SETTLED: Duration = Duration::from_secs(1);

/// What the program was started from.
pub(crate) struct Reload {
    program: Option<PathBuf>,
    config: PathBuf,
    files: Vec<PathBuf>,
    /// What runs.
    running: Vec<Stamp>,
    /// What the last look saw, if it differed.
    changed: Option<Vec<Stamp>>,
    last: Duration,
    /// There is something new that works.
    due: bool,
    clock: Rc<dyn Clock>,
}

/// Device, inode, size in bytes, and modification time in s and ns; nothing for no file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Reload {
    /// Takes note of the files as they are.
    pub(crate) fn new(config: &Config, clock: Rc<dyn Clock>) -> Reload {
        let program = std::env::current_exe();
        let program = program
            .inspect_err(|error| {
                warn!("changes of the config and the program are not noticed, since the program's own path is not known: {error}; is /proc mounted?");
            })
            .ok();
        let folder = config
            .path
            .parent()
            .unwrap_or(Path::new(""))
            .join("config.d");
        let mut files = config.sources.clone();
        files.extend([folder.join("channels.toml"), folder.join("routing.toml")]);
        files.extend(program.clone());
        Reload {
            program,
            config: config.path.clone(),
            running: stamps(&files),
            files,
            changed: None,
            last: clock.now(),
            due: false,
            clock,
        }
    }

    /// Whether there is something new that works. Looks at the files every few seconds, if there is a
    /// program to start.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = self.clock.now();
        let Some(program) = &self.program else {
            return false;
        };
        let pause = if self.changed.is_some() {
            SETTLED
        } else {
            PERIOD
        };
        if self.due || now.saturating_sub(self.last) < pause {
            return self.due;
        }
        self.last = now;
        let seen = stamps(&self.files);
        // It may be missing for a while, until its next version is there.
        if seen == self.running || !program.exists() {
            self.changed = None;
        } else if self.changed.as_ref() != Some(&seen) {
            self.changed = Some(seen);
        } else {
            // Whatever comes of it, these files are looked at once.
            self.running = seen;
            match config::load(Some(&self.config), &|name| std::env::var(name).ok()) {
                Ok(_) => {
                    info!("the config or the program was replaced; starting anew");
                    self.due = true;
                }
                Err(error) => {
                    for line in error.to_string().lines() {
                        warn!(
                            "the config was changed and does not load, so nothing changes: {line}"
                        );
                    }
                }
            }
        }
        self.due
    }

    /// Starts the program anew in this one's place; returns only if that fails.
    pub(crate) fn start_anew(&mut self) {
        self.due = false;
        if let Some(program) = &self.program {
            let error = Command::new(program)
                .args(std::env::args_os().skip(1))
                .exec();
            warn!("cannot start {} anew: {error}", program.display());
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let file = fs::metadata(file).ok()?;
        Some((
            file.dev(),
            file.ino(),
            file.size(),
            file.mtime(),
            file.mtime_nsec(),
        ))
    };
    files.iter().map(stamp).collect()
}
