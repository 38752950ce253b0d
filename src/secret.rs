//! Tokens and keys, which nobody is shown.

use std::fmt;

use crate::text::Problem;

/// A token or key. Shows as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Without the white space around it (files and variables end in a newline), and without the
    /// quotes that an env file of Docker leaves in.
    pub fn new(text: &str) -> Secret {
        Secret(unquoted(text.trim()).to_owned())
    }

    /// The token or key in `text`, if it can be one. A problem never quotes it.
    pub(crate) fn parse(text: &str) -> Result<Secret, Problem> {
        let secret = Secret::new(text);
        let text = secret.reveal();
        if text.is_empty() {
            Err(Problem::new("is empty", ""))
        } else if text.starts_with("enc2:") || text.starts_with("enc:") {
            Err(Problem::new(
                "was encrypted by PRX, and only PRX can read it",
                "write the plain text, or delete the line and set the environment variable",
            ))
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(Problem::new(
                "has white space or a character that no token has in it",
                "copy it again",
            ))
        } else {
            Ok(secret)
        }
    }

    /// The secret itself, for the header of a request to the server it belongs to.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// `text` without the quotes around it, if it has both.
pub(crate) fn unquoted(text: &str) -> &str {
    let between = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    between('"').or_else(|| between('\'')).unwrap_or(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_around_a_secret_are_taken_off() {
        for (text, secret) in [
            ("\"k-1\"\n", "k-1"),
            (" 'k-1' ", "k-1"),
            ("k-1", "k-1"),
            ("\"k-1", "\"k-1"),
            ("\"", "\""),
        ] {
            assert_eq!(Secret::new(text).reveal(), secret);
        }
    }
}
