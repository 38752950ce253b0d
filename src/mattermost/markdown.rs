//! The text of a message as Mattermost's server reads its Markdown: what remains when code, link
//! targets and addresses are left out. Neither a full CommonMark nor the clients' reading: headings,
//! rules, HTML and emphasis are plain text here, and the server's oddities are kept.

mod blocks;
mod links;
mod paragraph;

use std::ops::Range;

use blocks::Document;
use paragraph::Paragraph;

/// A character of the text.
pub(crate) struct Letter {
    pub char: char,
    /// Where the message has it, in bytes: more than the character if it is escaped or a reference.
    pub source: Range<usize>,
    /// Whether the server's present versions begin a word here at the latest. Older ones do not.
    pub cut: bool,
    /// Whether the server reads a piece of text of its own from here; inside links these stay apart.
    begins_piece: bool,
}

/// The text of `message`. Where the server sees something else than text (a block's or a link's end,
/// a line break, code, an emoji) stands a line feed.
pub(crate) fn text(message: &str) -> Vec<Letter> {
    read(message).0
}

/// What the server takes for code in `message`: spans, and the lines of blocks, fences included. In
/// bytes and in order.
pub(crate) fn code(message: &str) -> Vec<Range<usize>> {
    let mut code = read(message).1;
    code.sort_by_key(|range| range.start);
    code
}

/// The fenced code blocks of `message`, in order.
pub(crate) fn fences(message: &str) -> Vec<Fence> {
    Document::read(message).fences
}

/// A fenced code block.
pub(crate) struct Fence {
    /// Its first line, from the beginning of that to the next, in bytes.
    pub opening: Range<usize>,
    /// Where the line after its last begins.
    pub end: usize,
    /// By how many columns the list items that it stands in indent its lines, within the innermost
    /// quote.
    pub indent: usize,
    /// Its last line closes it; else it ends with what it stands in, or with the message.
    pub closed: bool,
}

fn read(message: &str) -> (Vec<Letter>, Vec<Range<usize>>) {
    let mut document = Document::read(message);
    let mut letters = Vec::with_capacity(message.len());
    for lines in &document.paragraphs {
        let code = &mut document.code;
        Paragraph::new(message, lines, &document.labels, &mut letters, code).read();
    }
    (letters, document.code)
}

/// The lower case of `c` as one character.
pub(crate) fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}
