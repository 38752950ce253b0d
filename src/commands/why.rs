//! `prx why`.

use std::path::Path;

use super::Exit;

pub fn run(_: Option<&Path>, _: &str) -> Result<(), Exit> {
    Ok(())
}
