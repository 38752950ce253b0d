//! An answer → parts that fit a post: split where it reads best, code kept code, mass mentions made
//! harmless. Posting them is the outbox's business.

mod fence;
mod footer;
mod formula;
mod harmless;
mod split;
#[cfg(test)]
mod tests;

pub use footer::{add_footer, without_footer};
pub use split::parts;

use fence::open_fence;
use harmless::harmless;

use crate::mattermost::markdown;
use crate::provider::Answer;

/// What may leave with an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplyOptions {
    /// The post will not carry `props.unsafe_links`, so clients load the images in it: they become
    /// plain links.
    pub allow_unsafe_links: bool,
}

/// Whether `answer` has no part.
pub fn is_blank(answer: &str) -> bool {
    is_invisible(&printable(answer))
}

/// Whether `text` shows nothing: white space, zero-width spaces and joiners, direction marks.
fn is_invisible(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_whitespace()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}')
    })
}

/// What of an answer that is still being written can be shown already, in at most `limit`
/// characters; empty if nothing can.
///
/// The longest beginning that ends at white space, so never within an address or a name, and not
/// within a code span that shows a name: what is a name or a mention there is one in the whole
/// answer. Open fences are closed, and it is as harmless as [`parts`] are.
pub fn growing(text: &str, limit: usize, options: &ReplyOptions) -> String {
    let text = formula::as_blocks(&printable(text));
    let mut room = limit;
    loop {
        let end = char_offset(&text, room);
        let words = if text[end..].starts_with(char::is_whitespace) {
            end
        } else {
            text[..end].rfind(char::is_whitespace).unwrap_or(0)
        };
        let whole = text[..open_span(&text[..words])].trim_end();
        let shown = harmless(&(whole.to_owned() + &closing(whole)), options);
        let over = characters(&shown).saturating_sub(limit);
        if over == 0 {
            return if is_invisible(&shown) {
                String::new()
            } else {
                shown
            };
        }
        room = characters(whole).saturating_sub(over);
    }
}

/// Where a code span of the last paragraph begins that is not closed yet and shows a name, or the
/// end.
fn open_span(text: &str) -> usize {
    let paragraph = text.rfind("\n\n").map_or(0, |end| end + 2);
    let letters = markdown::text(text);
    let tick = letters.iter().find(|letter| {
        letter.char == '`' && letter.source.len() == 1 && letter.source.start >= paragraph
    });
    match tick {
        Some(tick) if text[tick.source.start..].contains('@') => tick.source.start,
        _ => text.len(),
    }
}

/// A model's answer, and below it what people have to know of how it was made.
pub(crate) fn with_remarks(answer: Answer) -> String {
    let mut text = answer.text;
    if answer.unseen_images {
        text += &remark(
            &text,
            "The model does not take pictures, so it has not seen yours.",
        );
    }
    if answer.cut {
        text += &remark(&text, "The answer was cut off at the model's length limit.");
    } else if answer.broke_off {
        text += &remark(&text, "The model's answer broke off here.");
    }
    text
}

/// What to append to an answer that was stopped.
pub fn stopped_mark(answer: &str) -> String {
    remark(answer, "Stopped.")
}

/// A remark under `answer`, whose fence it closes.
fn remark(answer: &str, remark: &str) -> String {
    closing(answer) + "\n\n*(" + remark + ")*"
}

/// What closes the fence that is open at the end of `text`, on a line of its own; empty: none is.
fn closing(text: &str) -> String {
    open_fence(text).map_or(String::new(), |fence| format!("\n{}", fence.closing()))
}

/// `text` without control characters, its lines ended by `\n` alone.
fn printable(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace('\r', "\n")
        .replace(|c: char| c.is_control() && c != '\n' && c != '\t', "")
}

fn characters(text: &str) -> usize {
    text.chars().count()
}

/// The byte at which the character number `count` begins, or the end.
fn char_offset(text: &str, count: usize) -> usize {
    text.char_indices()
        .nth(count)
        .map_or(text.len(), |(offset, _)| offset)
}
