//! Texts for people: what is wrong and what to do, lines that stay lines, words in the plural.

use std::fmt;
use std::path::Path;

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Without a full stop.
    pub what: String,
    /// Empty: nothing can be done. Lines that begin with two spaces are to be copied as they are.
    pub fix: String,
}

impl Problem {
    /// A problem with a way out.
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem {
            what: what.into(),
            fix: fix.into(),
        }
    }
}

/// In one line, for the log.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut separator = "; ";
        for line in self.fix.lines() {
            write!(f, "{separator}{}", line.trim())?;
            separator = " ";
        }
        Ok(())
    }
}

/// `text` with its control characters escaped: a log line stays one line, and a terminal obeys none.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// `text` in lines of at most `width` characters where its spaces allow it.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split(' ') {
        let characters = word.chars().count();
        if length > 0 && length + 1 + characters > width {
            lines.push(String::new());
            length = 0;
        }
        if let Some(line) = lines.last_mut() {
            if length > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
        length += characters + usize::from(length > 0);
    }
    lines
}

/// The path as one word of a shell.
pub(crate) fn shell_quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) {
        path.into_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

/// `1 channel`, `2 channels`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// FNV-1a, 64 bits: the same in every version, which the standard library's hash is not.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_its_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_problem_is_one_line_in_the_log() {
        let cases = [
            ("", "it is gone"),
            ("make a new one", "it is gone; make a new one"),
            ("write:\n  a = 1\n  b = 2", "it is gone; write: a = 1 b = 2"),
        ];
        for (fix, line) in cases {
            assert_eq!(Problem::new("it is gone", fix).to_string(), line);
        }
    }

    #[test]
    fn a_log_line_is_one_line() {
        assert_eq!(
            one_line("a\nb\r\x1b[2Jä \u{9b}"),
            "a\\nb\\r\\u{1b}[2Jä \\u{9b}"
        );
    }

    #[test]
    fn words_that_are_too_long_have_a_line_of_their_own() {
        assert_eq!(wrap("a bbbbbb c", 3), ["a", "bbbbbb", "c"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
