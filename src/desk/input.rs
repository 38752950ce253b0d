//! What a worker is told, on its standard input: a line of JSON, then a line for each picture that its
//! messages name, or file that a program is to make text of. Lines of their own, because they come piece
//! by piece, and are used where they were read to: a picture in base64 is in memory once. It stays open
//! while the answer is wanted.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};

use super::Job;
use crate::base64::{decode, encode};
use crate::json;
use crate::provider::{Fact, Image, Message};

/// The line of JSON. It holds the keys of the providers that may be asked, and no Mattermost token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Input {
    /// Its id, for its reports.
    pub worker: u64,
    /// The process that listens. A worker with another parent has lost it.
    pub parent: u32,
    /// Of the lines that are reported for the log.
    pub level: String,
    /// What earlier workers learned.
    pub facts: Vec<Fact>,
    /// What is to be made.
    pub job: Job,
}

impl Input {
    /// The input's first line.
    pub(crate) fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads an input, and no further: the first line, and the lines of the pictures as they are.
    /// `None`: not all of it arrived.
    pub(crate) fn read(from: &mut dyn BufRead) -> Option<(Input, Vec<u8>)> {
        let (mut line, mut rest) = (Vec::new(), Vec::new());
        from.read_until(b'\n', &mut line).ok()?;
        let input: Input = json::parse_slice(line.strip_suffix(b"\n")?).ok()?;
        for _ in 0..pictures(&input.job.conversation) {
            from.read_until(b'\n', &mut rest).ok()?;
        }
        Some((input, rest))
    }

    /// What follows the first line. A picture that is missing is told in the messages that name it, and
    /// an empty one stands in its place, as in that of a file. `None`: not all of the input arrived.
    pub(crate) fn enclosed<'a>(&mut self, rest: &'a [u8]) -> Option<Enclosed<'a>> {
        let mut lines = str::from_utf8(rest).ok()?.split_inclusive('\n');
        let mut enclosed = Enclosed::default();
        for index in 0..pictures(&self.job.conversation) {
            let line = lines.next()?.strip_suffix('\n')?;
            let (base64, rest) = line.split_at(line.find([WHOLE, READ, MISSING])?);
            let mut image = Image {
                media_type: "",
                base64: "",
            };
            if let Some(media_type) = rest.strip_prefix(WHOLE) {
                image = Image { media_type, base64 };
            } else if let Some(reader) = rest.strip_prefix(READ) {
                let reader = json::parse_slice(reader.as_bytes()).ok()?;
                enclosed.files.push((index, reader, decode(base64)?));
            } else {
                let note = format!("\n{}", &rest[MISSING.len_utf8()..]);
                put(&mut self.job.conversation, index, &note);
            }
            enclosed.images.push(image);
        }
        Some(enclosed)
    }
}

/// Puts `text` in the place of a picture or file, at the end of the messages that name it.
pub(crate) fn put(conversation: &mut [Message], index: usize, text: &str) {
    for message in conversation {
        let before = message.images.len();
        message.images.retain(|image| *image != index);
        if message.images.len() < before {
            message.content.push_str(text);
        }
    }
}

/// What was given beside the messages, by the index with which they name it.
#[derive(Debug, Default)]
pub(crate) struct Enclosed<'a> {
    /// The pictures, in the order in which messages number them.
    pub images: Vec<Image<'a>>,
    /// What is to be made text of, with its bytes.
    pub files: Vec<(usize, FileReader, Vec<u8>)>,
}

/// How a program makes text of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReader {
    /// The file's name.
    pub name: String,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The most characters of what it prints that are told.
    pub chars: usize,
}

/// How many pictures `conversation` names.
pub(crate) fn pictures(conversation: &[Message]) -> usize {
    let indices = conversation.iter().flat_map(|message| &message.images);
    indices.max().map_or(0, |last| last + 1)
}

/// Between a picture's base64 and its media type.
const WHOLE: char = ' ';
/// Between a file's base64 and the `FileReader` that makes text of it.
const READ: char = '|';
/// Between what there is of a picture and what is said instead.
const MISSING: char = '!';

/// What becomes of a picture that a job's messages name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Its next bytes.
    Bytes(&'a [u8]),
    /// That was all of it.
    Whole {
        /// `image/png` and its kin.
        media_type: &'a str,
    },
    /// That was all of a file, of which a program is to make text.
    Read(&'a FileReader),
    /// It is not to be had; the model is told this instead.
    Missing(&'a str),
}

/// Writes pictures, one after the other, as they come.
#[derive(Debug)]
pub(crate) struct PictureWriter {
    /// How many are to come, the one at hand among them.
    left: usize,
    /// Bytes that do not make three yet.
    rest: Vec<u8>,
}

impl PictureWriter {
    /// For this number of pictures.
    pub(crate) fn new(count: usize) -> PictureWriter {
        PictureWriter {
            left: count,
            rest: Vec::new(),
        }
    }

    /// Whether all pictures are written.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Writes `piece` of the picture at hand.
    pub(crate) fn write(&mut self, piece: Piece, to: &mut dyn Write) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let end = match piece {
            Piece::Bytes(bytes) => return self.bytes(bytes, to),
            Piece::Whole { media_type } => format!("{WHOLE}{}\n", one_line(media_type)),
            Piece::Read(reader) => format!("{READ}{}\n", serde_json::to_string(reader)?),
            Piece::Missing(note) => format!("{MISSING}{}\n", one_line(note)),
        };
        self.left -= 1;
        let mut line = Vec::new();
        encode(&std::mem::take(&mut self.rest), &mut line);
        line.extend_from_slice(end.as_bytes());
        to.write_all(&line)
    }

    fn bytes(&mut self, bytes: &[u8], to: &mut dyn Write) -> io::Result<()> {
        // A part of it at a time: the loop's memory is small.
        for part in bytes.chunks(48 * 1024) {
            self.rest.extend_from_slice(part);
            let whole = self.rest.len() / 3 * 3;
            let mut line = Vec::with_capacity(whole / 3 * 4);
            encode(&self.rest[..whole], &mut line);
            self.rest.drain(..whole);
            to.write_all(&line)?;
        }
        Ok(())
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64::ENCODED;
    use crate::provider::{ProviderSettings, Role};
    use std::time::Duration;

    fn input(images: &[&[usize]]) -> Input {
        let message = |images: &&[usize]| Message {
            images: images.to_vec(),
            ..Message::new(Role::User, "look")
        };
        Input {
            worker: 1,
            parent: 2,
            level: "WARN".into(),
            facts: Vec::new(),
            job: Job {
                post: "post".into(),
                provider: ProviderSettings::default(),
                model: None,
                conversation: images.iter().map(message).collect(),
                bot_name: "bot\nname".into(),
                several_speakers: true,
                time_left: Duration::from_millis(1500),
                grow: false,
            },
        }
    }

    #[test]
    fn bytes_are_written_in_base64_however_they_are_cut() {
        for (bytes, base64) in ENCODED {
            for size in 1..=7 {
                let (mut writer, mut written) = (PictureWriter::new(1), Vec::new());
                for piece in bytes.as_bytes().chunks(size) {
                    writer.write(Piece::Bytes(piece), &mut written).unwrap();
                }
                let end = Piece::Whole { media_type: "a/b" };
                writer.write(end, &mut written).unwrap();
                let expected = format!("{base64} a/b\n");
                assert_eq!(String::from_utf8(written).unwrap(), expected, "{size}");
                assert_eq!(decode(base64).as_deref(), Some(bytes.as_bytes()));
            }
        }
        let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let (mut writer, mut written) = (PictureWriter::new(1), Vec::new());
        writer.write(Piece::Bytes(&all), &mut written).unwrap();
        let mut at_once = Vec::new();
        encode(&all[..99_999], &mut at_once);
        assert_eq!(written, at_once);
        assert!(written.contains(&b'+') && written.contains(&b'/'));
    }

    #[test]
    fn what_was_written_is_read_without_a_copy() {
        let mut written = input(&[&[0], &[], &[2, 1]]).to_line().unwrap();
        let mut writer = PictureWriter::new(3);
        for piece in [
            Piece::Bytes(b"one"),
            Piece::Whole {
                media_type: "image/png",
            },
            Piece::Bytes(b"tw"),
            Piece::Missing("(b.png: it broke\noff!)"),
            Piece::Whole {
                media_type: "image/gif",
            },
            Piece::Bytes(b"one too many"),
        ] {
            assert_eq!(
                writer.is_done(),
                matches!(piece, Piece::Bytes(b"one too many"))
            );
            writer.write(piece, &mut written).unwrap();
        }
        written.extend_from_slice(b"not ours");
        let mut unread = &written[..];
        let (mut read, rest) = Input::read(&mut unread).unwrap();
        assert_eq!(unread, b"not ours");
        let images = read.enclosed(&rest).unwrap().images;
        let found: Vec<_> = images.iter().map(|i| (i.media_type, i.base64)).collect();
        assert_eq!(found, [("image/png", "b25l"), ("", ""), ("image/gif", "")]);
        assert!(rest.as_ptr_range().contains(&images[0].base64.as_ptr()));
        let told: Vec<_> = read
            .job
            .conversation
            .iter()
            .map(|m| (m.content.as_str(), m.images.clone()))
            .collect();
        assert_eq!(
            told,
            [
                ("look", vec![0]),
                ("look", vec![]),
                ("look\n(b.png: it broke off!)", vec![2])
            ]
        );
        assert_eq!(
            (read.job.bot_name.as_str(), read.job.time_left.as_millis()),
            ("bot\nname", 1500)
        );
    }

    #[test]
    fn a_file_for_a_program_is_read_as_it_was_written() {
        let reader = FileReader {
            name: "a\n! |.pdf".into(),
            words: vec!["pdftotext".into(), "-".into()],
            chars: 7,
        };
        let file: Vec<u8> = (0..=255).collect();
        let mut written = input(&[&[0]]).to_line().unwrap();
        let mut writer = PictureWriter::new(1);
        for piece in [Piece::Bytes(&file), Piece::Read(&reader)] {
            writer.write(piece, &mut written).unwrap();
        }
        let (mut read, rest) = Input::read(&mut &written[..]).unwrap();
        let enclosed = read.enclosed(&rest).unwrap();
        assert_eq!(enclosed.files, [(0, reader, file)]);
        put(&mut read.job.conversation, 0, "\n\ntext");
        assert_eq!(
            read.job.conversation,
            [Message::new(Role::User, "look\n\ntext")]
        );
    }

    #[test]
    fn an_input_that_did_not_arrive_whole_is_none() {
        let mut whole = input(&[&[1, 0]]).to_line().unwrap();
        let line = whole.len();
        whole.extend_from_slice(b"Zg== image/png\n!gone\n");
        for (length, complete) in [
            (0, false),
            (line - 1, false),
            (line, false),
            (line + 3, false),
            (line + 15, false),
            (whole.len() - 1, false),
            (whole.len(), true),
        ] {
            let read = Input::read(&mut &whole[..length]);
            let read = read.is_some_and(|(mut input, rest)| input.enclosed(&rest).is_some());
            assert_eq!(read, complete, "{length}");
        }
        let text = input(&[]).to_line().unwrap();
        let (mut input, rest) = Input::read(&mut &text[..]).unwrap();
        assert_eq!(
            input.enclosed(&rest).map(|enclosed| enclosed.images.len()),
            Some(0)
        );
    }
}
