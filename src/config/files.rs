//! Which files there are: the config file, those merged over it, the state file; and why one of them
//! cannot be read.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::at;
use super::layers::place;
use super::{ConfigError, Environment};
use crate::text::{Problem, fnv1a, shell_quoted};

/// Files of `config.d` beside the config file that are merged over it, in this order, as PRX does.
const MERGED: [&str; 2] = ["config.d/channels.toml", "config.d/routing.toml"];

/// The largest file that is read, in bytes: nobody's settings are longer.
const MAX_FILE: u64 = 1 << 20;

/// Where the config file should be.
pub(crate) fn find(path: Option<&Path>, environment: Environment) -> Result<PathBuf, ConfigError> {
    let set = |name| environment(name).filter(|value| !value.trim().is_empty());
    if let Some(path) = path {
        Ok(path.to_owned())
    } else if let Some(folder) = set("OPENPRX_CONFIG_DIR") {
        Ok(expand(Path::new(""), folder.trim(), environment).join("config.toml"))
    } else if let Some(home) = set("HOME") {
        Ok(Path::new(&home).join(".openprx/config.toml"))
    } else {
        Err(ConfigError::from(Problem::new(
            "no config file: neither $OPENPRX_CONFIG_DIR nor $HOME is set",
            "name one with --config FILE",
        )))
    }
}

/// The texts of the config file and of those merged over it.
pub(super) fn read_all(
    path: &Path,
    environment: Environment,
) -> Result<Vec<(PathBuf, String)>, ConfigError> {
    let text = read(path)?.ok_or_else(|| no_file(path, environment))?;
    let mut texts = vec![(path.to_owned(), text)];
    for name in MERGED {
        let merged = path.with_file_name(name);
        if let Some(text) = read(&merged)? {
            texts.push((merged, text));
        }
    }
    Ok(texts)
}

fn no_file(path: &Path, environment: Environment) -> Problem {
    let note = if environment("MATTERMOST_URL").is_some() {
        " (the environment alone is not enough: allowed_users has no variable)"
    } else {
        ""
    };
    let option = match find(None, environment) {
        Ok(usual) if usual == path => String::new(),
        _ => format!(" --config {}", shell_quoted(path)),
    };
    Problem::new(
        format!("{}: there is no such file{note}", path.display()),
        format!("this asks what is needed and writes it:\n  prx init{option}"),
    )
}

/// The text of the file at `path`; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, Problem> {
    let fail = |what: &str, fix: &str| Err(at(path.display(), Problem::new(what, fix)));
    // A pipe without a writer would be waited for.
    if fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir()) {
        return fail("is not a regular file", "name one");
    }
    let mut bytes = Vec::new();
    let result =
        fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    if let Err(error) = result {
        return match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Ok(None),
            ErrorKind::IsADirectory => fail("is a directory", "name the file in it"),
            ErrorKind::PermissionDenied => Err(at(path.display(), denied(path, &error))),
            _ => fail(&format!("cannot be read: {error}"), "is its disk well?"),
        };
    }
    if bytes.len() as u64 > MAX_FILE {
        return fail("is larger than 1 MiB", "name another file");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let place = place(path, error.as_bytes(), error.utf8_error().valid_up_to());
            let problem = Problem::new("is not UTF-8 text", "save the file as UTF-8");
            Err(at(place, problem))
        }
    }
}

/// Whose the file is that this process may not read, or the folder that it may not look into.
fn denied(path: &Path, error: &io::Error) -> Problem {
    let us = fs::metadata("/proc/self").map(|process| user(process.uid()));
    let us = us.unwrap_or_else(|_| "$USER".to_owned());
    match fs::metadata(path) {
        Ok(file) => {
            let (owner, mode) = (user(file.uid()), file.permissions().mode() & 0o777);
            let shown = shell_quoted(path);
            let fix = if owner == us {
                format!("let its owner read it:\n  chmod u+r {shown}")
            } else {
                format!("give it to whoever runs the bot:\n  chown {us} {shown}")
            };
            let what = format!("cannot be read by {us}: it belongs to {owner} (mode {mode:03o})");
            Problem::new(what, fix)
        }
        Err(_) => {
            let mut folders = path.ancestors().skip(1);
            let folder = folders.find_map(|folder| Some((folder, fs::metadata(folder).ok()?)));
            let Some((folder, found)) = folder else {
                return Problem::new(format!("cannot be read: {error}"), "");
            };
            let (owner, folder) = (user(found.uid()), folder.display());
            Problem::new(
                format!("cannot be read by {us}: the folder {folder} belongs to {owner}"),
                format!("move it to a folder that {us} can read, or run prx as {owner}"),
            )
        }
    }
}

/// The name of the user with this id, by /etc/passwd.
fn user(id: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("user {id}"))
}

/// The folder of the file at `path`, as one name whichever way `path` is written: two names would be
/// two state files, and two answers to each message.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())
}

/// `text` as a path: `~/` is the home folder, a relative one is relative to `folder`.
pub(crate) fn expand(folder: &Path, text: &str, environment: Environment) -> PathBuf {
    match (text.strip_prefix("~/"), environment("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(text),
    }
}

/// Where the state of the config file at `path` is kept: beside it, or in `state_dir`, where the state
/// files of other config files may be too.
pub(super) fn state_path(path: &Path, folder: &Path, state_dir: Option<&Path>) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    if state_dir.is_some() {
        let path = folder.join(path.file_name().unwrap_or_default());
        let hash = fnv1a(path.as_os_str().as_bytes());
        name.push(format!("-{:08x}", hash as u32));
    }
    name.push(".state.json");
    state_dir.unwrap_or(folder).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_file_is_named_after_the_config_file() {
        let folder = Path::new("/etc/prx");
        let cases = [
            ("config.toml", None, "/etc/prx/config.state.json"),
            ("/etc/prx/my.bot.toml", None, "/etc/prx/my.bot.state.json"),
            (
                "config.toml",
                Some("/var/lib/prx"),
                "/var/lib/prx/config-a4c7b3a2.state.json",
            ),
            (
                "../prx/config.toml",
                Some("/var/lib/prx"),
                "/var/lib/prx/config-a4c7b3a2.state.json",
            ),
            (
                "other.toml",
                Some("/var/lib/prx"),
                "/var/lib/prx/other-c8df4ed6.state.json",
            ),
        ];
        for (path, state_dir, expected) in cases {
            let state = state_path(Path::new(path), folder, state_dir.map(Path::new));
            assert_eq!(state, Path::new(expected), "{path}");
        }
    }
}
