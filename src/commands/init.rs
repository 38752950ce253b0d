//! `prx init`.

use std::path::Path;

use super::Exit;

pub fn run(_: Option<&Path>) -> Result<(), Exit> {
    Ok(())
}
