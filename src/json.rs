//! JSON as it is read everywhere: by one type of reader, so that serde's code is in the binary once.

use std::io::{BufReader, Read};

use serde::de::DeserializeOwned;

/// Parses JSON as it arrives, to its end; with an error of the reader, `is_io` is true.
pub(crate) fn parse<T: DeserializeOwned>(source: Box<dyn Read + '_>) -> serde_json::Result<T> {
    serde_json::from_reader(BufReader::with_capacity(4096, source))
}

/// Parses the JSON that `bytes` hold, to their end.
pub(crate) fn parse_slice<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    parse(Box::new(bytes))
}
