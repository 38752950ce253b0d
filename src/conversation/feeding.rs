//! Gives a worker the pictures that it is to show the model, one request to Mattermost at a time, so
//! that the loop holds no more of them than a piece.

use std::collections::VecDeque;
use std::time::Duration;

use log::debug;

use super::files::{PIECE, Picture, TIME};
use super::text::{self, Kind};
use crate::desk::Piece;
use crate::mattermost::client::{ApiError, Client};

/// The pictures of one question that are yet to be given.
pub struct Feeding {
    pictures: VecDeque<Picture>,
    /// The number by which the messages name the first of `pictures`, from 1.
    number: usize,
    /// Bytes of it that were given.
    given: u64,
    /// When the first request was made.
    began: Option<Duration>,
    /// How often the request that is due has failed.
    failures: u32,
}

impl Feeding {
    /// Of the pictures that were told of, in their order.
    pub fn new(pictures: Vec<Picture>) -> Feeding {
        Feeding {
            pictures: pictures.into(),
            number: 1,
            given: 0,
            began: None,
            failures: 0,
        }
    }

    /// Whether all is given.
    pub fn is_done(&self) -> bool {
        self.pictures.is_empty()
    }

    /// Makes at most one request and hands what it brought to `give`. `now`: by the clock of `Times`.
    pub fn step(&mut self, client: &Client, now: Duration, give: &mut dyn FnMut(Piece)) {
        let Some(picture) = self.pictures.front() else {
            return;
        };
        let began = *self.began.get_or_insert(now);
        if now.saturating_sub(began) >= TIME {
            return self.leave_out("could not be read in time", give);
        }
        let wanted = (picture.size - self.given).min(PIECE as u64) as usize;
        let read = match picture.is_preview {
            true => client.preview_piece(&picture.file, self.given, wanted),
            false => client.file_piece(&picture.file, self.given, wanted),
        };
        match read {
            Ok(read) if self.is_expected(&read.bytes, wanted) => self.take(&read.bytes, give),
            Ok(_) => self.failed("is not what it was", false, give),
            Err(error) => {
                debug!("picture {} cannot be read: {error}", picture.file);
                self.failed("could not be read", is_final(&error), give);
            }
        }
    }

    fn is_expected(&self, bytes: &[u8], wanted: usize) -> bool {
        let Some(picture) = self.pictures.front() else {
            return false;
        };
        let is_picture = text::kind(bytes) == Kind::Picture(picture.media_type);
        bytes.len() == wanted && (self.given > 0 || is_picture)
    }

    fn take(&mut self, bytes: &[u8], give: &mut dyn FnMut(Piece)) {
        self.failures = 0;
        self.given += bytes.len() as u64;
        give(Piece::Bytes(bytes));
        if let Some(picture) = self.pictures.front()
            && self.given >= picture.size
        {
            let media_type = picture.media_type;
            give(Piece::Whole { media_type });
            self.next();
        }
    }

    fn failed(&mut self, why: &str, for_ever: bool, give: &mut dyn FnMut(Piece)) {
        self.failures += 1;
        if for_ever || self.failures > 1 {
            self.leave_out(why, give);
        }
    }

    fn leave_out(&mut self, why: &str, give: &mut dyn FnMut(Piece)) {
        give(Piece::Missing(&format!("[picture {} {why}]", self.number)));
        self.next();
    }

    fn next(&mut self) {
        self.pictures.pop_front();
        self.number += 1;
        (self.given, self.failures) = (0, 0);
    }
}

fn is_final(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused { .. })
}
