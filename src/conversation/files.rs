//! Reads the files of the posts that the model is told, one piece at a time: texts whole, or their
//! beginning and end; of pictures as much as tells what they are. What is for the worker is not read.

use std::collections::VecDeque;
use std::time::Duration;

use log::debug;

use super::excerpt::Excerpt;
use super::shown::{Enclosure, NO_ROOM, Purpose, Shown, allot};
use super::text::{self, Kind};
use crate::desk::FileReader;
use crate::mattermost::FileInfo;
use crate::mattermost::client::{ApiError, Client, FilePiece};
use crate::sorted::Map;

/// The most bytes of a file that are asked for at once.
pub(super) const PIECE: usize = 1 << 20;
/// How long all files of a question together may take.
pub(super) const TIME: Duration = Duration::from_secs(20);
/// The most files that are read for a question.
const COUNT: usize = 50;
/// As many bytes say what a picture is.
const HEAD: usize = 64;
/// Pictures that are wider or larger are told by the server's smaller copy.
const WIDE: u64 = 1920;
const LARGE: u64 = 1_000_000;
/// Programs are not given larger files, in bytes.
pub(crate) const FOR_PROGRAMS: u64 = 16 << 20;
const UNREADABLE: &str = "it could not be read";

/// How much is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    /// Of all texts together; 0: none.
    pub(super) file_chars: usize,
    /// 0: none.
    pub(super) max_images: usize,
    /// In bytes, for each.
    pub(super) max_image_size: u64,
    /// What makes text of files, by MIME type or by the name's ending with its dot.
    pub(super) programs: Map<String, Vec<String>>,
}

/// Reads files in the order in which they are given: the question's, then those of earlier posts, the
/// newest first.
#[derive(Default)]
pub(super) struct Reader {
    files: VecDeque<FileInfo>,
    /// How many of them belong to the question.
    of_question: usize,
    limits: Limits,
    began: Option<Duration>,
    reading: Reading,
    /// How often the request that is due has failed.
    failures: u32,
    shown: Vec<Shown>,
    /// Of the texts read, in characters.
    chars: usize,
    pictures: usize,
}

/// What is known of the file that is being read.
#[derive(Default)]
enum Reading {
    /// Nothing.
    #[default]
    Nothing,
    Text {
        /// What is to be read yet.
        pieces: VecDeque<Piece>,
        start: Vec<u8>,
        end: Vec<u8>,
    },
    /// It is a picture; the server may have a smaller copy. What it is itself, if models take that.
    Preview(Option<Enclosure>),
}

/// A part of a file, to be asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    from: u64,
    length: usize,
    /// It follows a part that is left out, or another that does.
    is_end: bool,
}

impl Reader {
    pub(super) fn new(files: Vec<FileInfo>, of_question: usize, limits: Limits) -> Reader {
        Reader {
            files: files.into(),
            of_question,
            limits,
            ..Reader::default()
        }
    }

    /// Makes at most one request. Whether it made one: if not, all is read.
    pub(super) fn step(&mut self, client: &Client, now: Duration) -> bool {
        while let Some(file) = self.files.front() {
            if let Some(shown) = self.without_request(file, now) {
                self.finish(shown);
                continue;
            }
            self.began.get_or_insert(now);
            let (is_preview, piece) = self.due(file);
            match client.file_piece(&file.id, is_preview, piece.from, piece.length) {
                Ok(read) => {
                    let size = file.size;
                    self.failures = 0;
                    self.take(piece, read, size);
                }
                Err(error) => {
                    debug!("file {} cannot be read: {error}", file.id);
                    self.failed(&error);
                }
            }
            return true;
        }
        false
    }

    /// What came of each file, in their order, the texts cut to the room that there is.
    pub(super) fn shown(self) -> Vec<Shown> {
        let mut shown = self.shown;
        allot(&mut shown, self.of_question, self.limits.file_chars);
        shown
    }

    fn finish(&mut self, shown: Shown) {
        match &shown {
            Shown::Text(text) => self.chars += text.length(),
            Shown::Enclosed(Enclosure { purpose, .. }) => match purpose {
                Purpose::Show(_) => self.pictures += 1,
                Purpose::Read(reader) => self.chars += reader.chars,
            },
            Shown::Not(_) | Shown::Named => {}
        }
        self.shown.push(shown);
        self.files.pop_front();
        self.reading = Reading::Nothing;
        self.failures = 0;
    }

    /// What comes of `file` if it need not be looked at any further.
    fn without_request(&self, file: &FileInfo, now: Duration) -> Option<Shown> {
        let (file_chars, max_images) = (self.limits.file_chars, self.limits.max_images);
        let program = self.program(file);
        let is_picture = file.width > 0 && program.is_none();
        // A further text of an earlier post.
        let is_full = self.shown.len() >= self.of_question && self.chars >= file_chars;
        let late = |began| now.saturating_sub(began) >= TIME;
        if is_picture && self.pictures >= max_images {
            Some(too_many(max_images))
        } else if !is_picture && file_chars == 0 {
            Some(Shown::Named)
        } else if !is_picture && is_full || self.shown.len() >= COUNT {
            Some(Shown::Not(NO_ROOM.to_owned()))
        } else if let Some(words) = program {
            Some(self.for_program(file, words))
        } else if self.began.is_some_and(late) {
            Some(Shown::Not("it could not be read in time".to_owned()))
        } else {
            None
        }
    }

    /// What makes text of `file`, if anything is configured to.
    fn program(&self, file: &FileInfo) -> Option<&Vec<String>> {
        let programs = &self.limits.programs;
        let media_type = file.mime_type.split(';').next().unwrap_or_default();
        let ending = file.name.rfind('.').map_or("", |dot| &file.name[dot..]);
        let by = |key: &str| programs.get(&key.trim().to_lowercase());
        by(ending).or_else(|| by(media_type))
    }

    fn for_program(&self, file: &FileInfo, words: &[String]) -> Shown {
        if file.size > FOR_PROGRAMS {
            let limit = text::size(FOR_PROGRAMS);
            return Shown::Not(format!("it could not be read: it is larger than {limit}"));
        }
        let purpose = Purpose::Read(FileReader {
            name: file.name.clone(),
            words: words.to_vec(),
            chars: self.limits.file_chars,
        });
        Shown::Enclosed(enclosure(file, false, file.size, purpose))
    }

    /// What is to be asked for next, and whether of the preview.
    fn due(&self, file: &FileInfo) -> (bool, Piece) {
        let head = Piece {
            from: 0,
            length: HEAD,
            is_end: false,
        };
        match &self.reading {
            Reading::Preview(_) => (true, head),
            Reading::Text { pieces, .. } => (false, pieces.front().copied().unwrap_or(head)),
            Reading::Nothing if file.width > 0 => (false, head),
            Reading::Nothing => {
                let pieces = pieces(file.size, self.limits.file_chars);
                (false, pieces.front().copied().unwrap_or(head))
            }
        }
    }

    /// `size`: what the post says of the file's.
    fn take(&mut self, piece: Piece, read: FilePiece, size: u64) {
        let size = read.total.unwrap_or(size);
        let file_chars = self.limits.file_chars;
        let (mut pieces, mut start, mut end) = match std::mem::take(&mut self.reading) {
            Reading::Text { pieces, start, end } => (pieces, start, end),
            Reading::Nothing => match text::kind(&read.bytes) {
                Kind::Text if file_chars == 0 => return self.finish(Shown::Named),
                Kind::Text => (pieces(size, file_chars), Vec::new(), Vec::new()),
                kind => return self.take_picture(kind, size),
            },
            Reading::Preview(own) => {
                let preview = match (text::kind(&read.bytes), read.total) {
                    (Kind::Picture(media_type), Some(size)) => self.picture(media_type, size, true),
                    _ => None,
                };
                return self.choose([own, preview]);
            }
        };
        // What was read to see whether it is a picture may be too little.
        let fits = |first: &Piece| first.length <= piece.length;
        if pieces.front().is_none_or(fits) {
            pieces.pop_front();
            let part = if piece.is_end { &mut end } else { &mut start };
            part.extend(read.bytes);
        }
        if !pieces.is_empty() {
            self.reading = Reading::Text { pieces, start, end };
            return;
        }
        let read = (start.len() + end.len()) as u64;
        let (start, end) = text::decode(&start, &end);
        let text = Excerpt {
            start,
            left_out: size.saturating_sub(read),
            end,
        };
        self.finish(Shown::Text(text.cut(file_chars)));
    }

    /// Goes on with what is no text, or ends it.
    fn take_picture(&mut self, kind: Kind, size: u64) {
        let Limits { max_images, .. } = self.limits;
        let wide = self.files.front().is_some_and(|file| file.width > WIDE);
        match kind {
            Kind::Picture(_) | Kind::OtherPicture(_) if self.pictures >= max_images => {
                self.finish(too_many(max_images));
            }
            Kind::Picture(media_type) => {
                let own = self.picture(media_type, size, false);
                if wide || size > LARGE {
                    self.reading = Reading::Preview(own);
                } else {
                    self.choose([own, None]);
                }
            }
            Kind::OtherPicture(_) if self.files.front().is_some_and(|file| file.width > 0) => {
                self.reading = Reading::Preview(None);
            }
            Kind::OtherPicture(what) => self.finish(Shown::Not(format!(
                "it cannot be shown: it is a picture of a kind that is not read ({what})"
            ))),
            Kind::Other(what) => {
                self.finish(Shown::Not(format!("it is not a text file: it is {what}")));
            }
            Kind::Unknown | Kind::Text => {
                self.finish(Shown::Not("it is not a text file".to_owned()));
            }
        }
    }

    fn picture(&self, media_type: &'static str, size: u64, is_preview: bool) -> Option<Enclosure> {
        let purpose = Purpose::Show(media_type);
        Some(enclosure(self.files.front()?, is_preview, size, purpose))
    }

    /// The smallest of the pictures that there are, if it is small enough.
    fn choose(&mut self, pictures: [Option<Enclosure>; 2]) {
        let limit = self.limits.max_image_size;
        let smallest = pictures
            .into_iter()
            .flatten()
            .min_by_key(|picture| picture.size);
        self.finish(match smallest {
            Some(picture) if picture.size <= limit => Shown::Enclosed(picture),
            Some(_) => Shown::Not(format!(
                "it cannot be shown: it is larger than {}",
                text::size(limit)
            )),
            None => Shown::Not("it cannot be shown: pictures of its kind are not read".to_owned()),
        });
    }

    /// What was refused is not asked for again, and all else once more.
    fn failed(&mut self, error: &ApiError) {
        self.failures += 1;
        if self.failures < 2 && !error.is_closed() {
            return;
        }
        match std::mem::take(&mut self.reading) {
            Reading::Preview(own) => self.choose([own, None]),
            _ => self.finish(Shown::Not(UNREADABLE.to_owned())),
        }
    }
}

fn enclosure(file: &FileInfo, is_preview: bool, size: u64, purpose: Purpose) -> Enclosure {
    Enclosure {
        file: file.id.clone(),
        name: file.name.clone(),
        is_preview,
        size,
        purpose,
    }
}

fn too_many(max_images: usize) -> Shown {
    match max_images {
        0 => Shown::Named,
        most => Shown::Not(format!("not shown: at most {most} pictures are")),
    }
}

/// How a text of `size` bytes is read of which at most `chars` characters are told: whole, or its
/// beginning and its end; at even places, as UTF-16 needs it.
fn pieces(size: u64, chars: usize) -> VecDeque<Piece> {
    // No encoding has more than four bytes for a character.
    let wanted = (chars as u64 * 4).max(4096);
    if size == 0 {
        // The server did not say.
        return VecDeque::from([Piece {
            from: 0,
            length: wanted.min(PIECE as u64) as usize,
            is_end: false,
        }]);
    }
    let half = wanted / 4 * 2;
    let parts = if size <= wanted {
        vec![(0, size, false)]
    } else {
        vec![(0, half, false), ((size - half) & !1, size, true)]
    };
    let split = |(start, end, is_end)| {
        (start..end).step_by(PIECE).map(move |from| Piece {
            from,
            length: (end - from).min(PIECE as u64) as usize,
            is_end,
        })
    };
    parts.into_iter().flat_map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_at_both_ends() {
        let mb = PIECE as u64;
        for (what, size, chars, expected) in [
            ("small", 10, 20_000, vec![(0, 10, false)]),
            ("unknown", 0, 20_000, vec![(0, 80_000, false)]),
            (
                "as much as is told",
                80_000,
                20_000,
                vec![(0, 80_000, false)],
            ),
            (
                "more",
                100_001,
                20_000,
                vec![(0, 40_000, false), (60_000, 40_001, true)],
            ),
            (
                "in pieces",
                10 * mb,
                1_000_000,
                vec![
                    (0, PIECE, false),
                    (mb, 2_000_000 - PIECE, false),
                    (10 * mb - 2_000_000, PIECE, true),
                    (11 * mb - 2_000_000, 2_000_000 - PIECE, true),
                ],
            ),
        ] {
            let told = pieces(size, chars).into_iter();
            let told: Vec<_> = told
                .map(|piece| (piece.from, piece.length, piece.is_end))
                .collect();
            assert_eq!(told, expected, "{what}");
        }
    }
}
