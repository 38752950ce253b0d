//! What a worker is told, on its standard input: a line of JSON, then a line of base64 for each picture.
//! Lines of their own, because pictures come piece by piece and are used where they were read to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::json;
use crate::provider::{Fact, Image, Message, ProviderSettings};

/// The line of JSON. It holds the keys of the providers that may be asked, and no Mattermost token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Input {
    pub worker: u64,
    /// The process that listens. A worker with another parent has lost it.
    pub parent: u32,
    /// Of the lines that are reported for the log.
    pub level: String,
    pub provider: ProviderSettings,
    /// What earlier workers learned.
    pub facts: Vec<Fact>,
    pub model: Option<String>,
    pub conversation: Vec<Message>,
    pub bot_name: String,
    pub several_speakers: bool,
    /// From the worker's start on.
    pub time_left: Duration,
    /// Whether text is told while it is written, or only at the end.
    pub grow: bool,
    /// The media types of the pictures that follow, in order.
    pub images: Vec<String>,
}

impl Input {
    /// The input's first line.
    pub fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads the first line of a whole input; the rest of it is the pictures.
    pub fn read(bytes: &[u8]) -> Option<(Input, &[u8])> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let input = json::parse_slice(&bytes[..end]).ok()?;
        Some((input, &bytes[end + 1..]))
    }

    /// The pictures in what follows the first line, without a copy; `None`: not all of it arrived.
    pub fn pictures<'a>(&'a self, rest: &'a [u8]) -> Option<Vec<Image<'a>>> {
        let mut lines = str::from_utf8(rest).ok()?.split_inclusive('\n');
        let image = |media_type: &'a String| {
            Some(Image {
                media_type,
                base64: lines.next()?.strip_suffix('\n')?,
            })
        };
        self.images.iter().map(image).collect()
    }
}
