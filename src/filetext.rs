//! Has programs of `read_files` make text of files: the file on standard input, the text on standard
//! output, without a shell and without secrets. It runs in the worker; what goes wrong is told to the
//! model in the text's place.

use std::time::Duration;

use crate::conversation::program_text;
use crate::desk::FileReader;
use crate::http::beat;
use crate::pipes::{End, Run};
use crate::provider::KNOWN;

/// The longest time for one file.
const TIME: Duration = Duration::from_secs(60);

/// The text that `reader` makes of `file`, as it stands below the message, or why there is none. Takes
/// at most half of `time_left`: the model needs some of it.
pub(crate) fn read(reader: &FileReader, file: &[u8], time_left: Duration) -> String {
    let time = TIME.min(time_left / 2);
    let name = reader
        .words
        .first()
        .map_or("", |word| word.rsplit('/').next().unwrap_or_default());
    let made = run(reader, file, time);
    let made = made.map_err(|why| {
        log::warn!("{}: the program {name} {why}", reader.name);
        format!("it could not be read: the program {name} {why}")
    });
    let made = made.as_deref().map_err(String::as_str);
    program_text(&reader.name, made, reader.chars)
}

/// What the program prints, at most a little more than is told of it.
fn run(reader: &FileReader, file: &[u8], time: Duration) -> Result<Vec<u8>, String> {
    let mut run = Run::start(&reader.words, |command| {
        for variable in KNOWN.iter().flat_map(|known| known.key_variables) {
            command.env_remove(variable);
        }
    })
    .map_err(|error| format!("does not start: {error}"))?;
    // No encoding has more than four bytes for a character.
    let limit = reader.chars.saturating_mul(4).saturating_add(4096);
    let mut text = Vec::new();
    let end = run.wait(file, time, &mut |printed| {
        beat();
        text.extend_from_slice(printed);
        text.len() > limit
    });
    if let Some(last) = run.complaint() {
        log::debug!("{}: standard error: {last}", reader.name);
    }
    match end.map_err(|error| format!("cannot be spoken to: {error}"))? {
        End::Exited(status) if !status.success() => Err(format!("failed ({status})")),
        End::Exited(_) | End::TooMuch => Ok(text),
        End::TimedOut => Err(format!("took longer than {} s", time.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str], file: &[u8], chars: usize) -> String {
        let reader = FileReader {
            name: "a.pdf".into(),
            words: words.iter().map(|word| word.to_string()).collect(),
            chars,
        };
        read(&reader, file, Duration::from_secs(60))
    }

    #[test]
    fn a_program_makes_text_of_a_file() {
        let large = "0123456789".repeat(100_000);
        for (what, words, file, expected) in [
            (
                "as it is",
                vec!["cat"],
                "text",
                "\n\na.pdf:\n```\ntext\n```",
            ),
            (
                "not all of it is read",
                vec!["sh", "-c", "echo done; exec <&-"],
                &large,
                "\n\na.pdf:\n```\ndone\n```",
            ),
            (
                "nothing",
                vec!["true"],
                "text",
                "\n\n[a.pdf: there is no text in it]",
            ),
            (
                "it fails",
                vec!["sh", "-c", "echo half; exit 3"],
                "text",
                "\n\n[a.pdf: it could not be read: the program sh failed (exit status: 3)]",
            ),
        ] {
            assert_eq!(told(&words, file.as_bytes(), 100), expected, "{what}");
        }
        let missing = told(&["/no/such-program"], b"", 100);
        assert!(
            missing.contains("the program such-program does not start"),
            "{missing}"
        );
        let cut = told(&["cat"], large.as_bytes(), 100);
        assert!(
            cut.contains("are left out here") && cut.len() < 300,
            "{cut}"
        );
        // It prints without end.
        let endless = told(&["yes"], b"", 100);
        assert!(
            endless.contains("y\ny\ny") && endless.len() < 300,
            "{endless}"
        );
    }

    #[test]
    fn a_program_has_half_of_the_time() {
        let reader = FileReader {
            name: "a.pdf".into(),
            words: vec!["sleep".into(), "100".into()],
            chars: 100,
        };
        let told = read(&reader, b"", Duration::from_secs(2));
        let expected = "\n\n[a.pdf: it could not be read: the program sleep took longer than 1 s]";
        assert_eq!(told, expected);
    }
}
