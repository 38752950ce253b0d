//! Gives a worker the pictures that it is to show the model, and the files that programs are to read,
//! one request to Mattermost at a time, so that the loop holds no more of them than a piece.

use std::collections::VecDeque;
use std::time::Duration;

use log::debug;

use super::files::{PIECE, TIME};
use super::shown::{Enclosure, Purpose};
use super::text::{self, Kind};
use crate::desk::Piece;
use crate::mattermost::client::{ApiError, Client};

/// How often one request is made, with `Feeding::PAUSE` in between: a server may be starting anew.
const TRIES: u32 = 5;

/// The files of one question that are yet to be given.
#[derive(Default)]
pub struct Feeding {
    files: VecDeque<Enclosure>,
    /// Bytes of the first that were given.
    given: u64,
    /// When the first request was made.
    began: Option<Duration>,
    /// How often the request that is due has failed.
    failures: u32,
}

impl Feeding {
    /// After a failed request.
    pub(crate) const PAUSE: Duration = Duration::from_secs(1);

    /// Of `Told::enclosures`, in their order.
    pub fn new(files: Vec<Enclosure>) -> Feeding {
        Feeding {
            files: files.into(),
            ..Feeding::default()
        }
    }

    /// Whether the last request failed and is to be made again, after `PAUSE`.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Whether all is given.
    pub fn is_done(&self) -> bool {
        self.files.is_empty()
    }

    /// Makes at most one request and hands what it brought to `give`. `now`: by the clock of `Times`.
    pub fn step(&mut self, client: &Client, now: Duration, give: &mut dyn FnMut(Piece)) {
        let Some(file) = self.files.front() else {
            return;
        };
        let began = *self.began.get_or_insert(now);
        if now.saturating_sub(began) >= TIME {
            return self.leave_out("could not be read in time", give);
        }
        let wanted = (file.size - self.given).min(PIECE as u64) as usize;
        match client.file_piece(&file.file, file.is_preview, self.given, wanted) {
            Ok(read) if self.is_expected(&read.bytes, wanted) => self.take(&read.bytes, give),
            Ok(_) => self.failed("is not what it was", false, give),
            Err(error) => {
                debug!("file {} cannot be read: {error}", file.file);
                let is_final = matches!(error, ApiError::Refused { .. });
                self.failed("could not be read", is_final, give);
            }
        }
    }

    /// Whether these can be the next bytes of the file that was found.
    fn is_expected(&self, bytes: &[u8], wanted: usize) -> bool {
        let purpose = self.files.front().map(|file| &file.purpose);
        let is_picture = |media_type| text::kind(bytes) == Kind::Picture(media_type);
        bytes.len() == wanted
            && match purpose {
                Some(Purpose::Show(media_type)) => self.given > 0 || is_picture(media_type),
                _ => true,
            }
    }

    fn take(&mut self, bytes: &[u8], give: &mut dyn FnMut(Piece)) {
        self.failures = 0;
        self.given += bytes.len() as u64;
        give(Piece::Bytes(bytes));
        if let Some(file) = self.files.front()
            && self.given >= file.size
        {
            match &file.purpose {
                Purpose::Show(media_type) => give(Piece::Whole { media_type }),
                Purpose::Read(reader) => give(Piece::Read(reader)),
            }
            self.next();
        }
    }

    fn failed(&mut self, why: &str, for_ever: bool, give: &mut dyn FnMut(Piece)) {
        self.failures += 1;
        if for_ever || self.failures >= TRIES {
            self.leave_out(why, give);
        }
    }

    fn leave_out(&mut self, why: &str, give: &mut dyn FnMut(Piece)) {
        if let Some(file) = self.files.front() {
            let name = super::one_line(&file.name);
            give(Piece::Missing(&format!("[{name}: it {why}]")));
        }
        self.next();
    }

    fn next(&mut self) {
        self.files.pop_front();
        (self.given, self.failures) = (0, 0);
    }
}
