//! `prx send`.

use std::path::Path;

use super::Exit;

/// What to post, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Letter {
    pub channel: Option<String>,
    pub thread: Option<String>,
    pub text: Option<String>,
}

pub fn run(_: Option<&Path>, _: &Letter) -> Result<(), Exit> {
    Ok(())
}
