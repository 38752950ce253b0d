//! `prx run`: answers messages until it is stopped.

use std::path::Path;

use super::Exit;
use crate::config;

/// Runs the bot with the configuration at `path`, or at its usual place. `once`: one poll and its
/// answers.
pub fn run(path: Option<&Path>, _once: bool) -> Result<(), Exit> {
    let config = config::load(path, &|name| std::env::var(name).ok())?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    Ok(())
}
