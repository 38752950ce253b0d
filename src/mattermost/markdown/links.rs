//! Links in Markdown: their definitions, targets, titles and labels; and white space as the server
//! takes it.

use std::ops::Range;

use super::lower;

/// The label and the length of a link definition at the start of `raw`, its line's end included.
pub(super) fn link_definition(raw: &str) -> Option<(String, usize)> {
    let bytes = raw.as_bytes();
    let label = label_end(bytes, 0)?;
    let target = match bytes.get(label)? {
        b':' => skip_space(bytes, label + 1),
        _ => return None,
    };
    if target == bytes.len() {
        return None;
    }
    let target = destination_end(bytes, target);
    let title = skip_space(bytes, target);
    let end = (title > target)
        .then(|| title_end(bytes, title))
        .flatten()
        .and_then(|title| end_of_blank_line(raw, title))
        .or_else(|| end_of_blank_line(raw, target))?;
    Some((folded(&raw[1..label - 1]).collect(), end))
}

/// The end of a link's target and title in parentheses. An image may have its size in between.
pub(super) fn target_end(raw: &[u8], at: usize, image: bool) -> Option<usize> {
    if raw.get(at) != Some(&b'(') {
        return None;
    }
    let mut at = skip_space(raw, at + 1);
    if *raw.get(at)? != b')' {
        at = destination_end(raw, at);
        let mut next = skip_space(raw, at);
        if image && next > at && raw.get(next) == Some(&b'=') {
            at = image_size_end(raw, next)?;
            next = skip_space(raw, at);
        }
        if next > at && b"\"'(".contains(raw.get(next)?) {
            next = skip_space(raw, title_end(raw, next)?);
        }
        at = next;
    }
    (raw.get(at) == Some(&b')')).then_some(at + 1)
}

/// The end of a link's target: in angle brackets, or up to white space or an unopened `)`.
fn destination_end(raw: &[u8], start: usize) -> usize {
    if raw[start] == b'<' {
        let ends = |byte: u8| byte == b'<' || byte == b'>' || is_space(byte);
        let end = find_unescaped(raw, start + 1, ends);
        if raw.get(end) == Some(&b'>') {
            return end + 1;
        }
    }
    let mut open = 0;
    find_unescaped(raw, start, |byte| {
        match byte {
            b'(' => open += 1,
            b')' if open == 0 => return true,
            b')' => open -= 1,
            _ => {}
        }
        is_space(byte)
    })
}

/// The end of a link's title in quotes or parentheses.
fn title_end(raw: &[u8], start: usize) -> Option<usize> {
    let closing = match raw.get(start)? {
        b'(' => b')',
        quote @ (b'"' | b'\'') => *quote,
        _ => return None,
    };
    let end = find_unescaped(raw, start + 1, |byte| byte == closing);
    (end < raw.len()).then_some(end + 1)
}

/// The end of a label in brackets, of fewer than 1000 characters.
pub(super) fn label_end(raw: &[u8], start: usize) -> Option<usize> {
    if raw.get(start) != Some(&b'[') {
        return None;
    }
    let end = find_unescaped(raw, start + 1, |byte| byte == b'[' || byte == b']');
    let continues_char = |byte: &&u8| **byte & 0xc0 == 0x80;
    let characters = end - start - raw[start..end].iter().filter(continues_char).count();
    (raw.get(end) == Some(&b']') && characters < 1000).then_some(end + 1)
}

/// The end of an image's size: `=100x200`, `=100`, `=x200`.
fn image_size_end(raw: &[u8], start: usize) -> Option<usize> {
    let digits_end = |mut at: usize| {
        while raw.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let ends = |at: usize| {
        raw.get(at)
            .is_some_and(|byte| is_space(*byte) || *byte == b')')
    };
    let width = digits_end(start + 1);
    if ends(width) {
        return Some(width);
    }
    if !matches!(raw.get(width)?, b'x' | b'X') {
        return None;
    }
    let height = digits_end(width + 1);
    (ends(height) && height - start > 2).then_some(height)
}

/// The first byte from `at` on that is not escaped and `wanted`, or the end. An escaping backslash
/// is itself asked about.
fn find_unescaped(raw: &[u8], mut at: usize, mut wanted: impl FnMut(u8) -> bool) -> usize {
    while let Some(byte) = raw.get(at) {
        if wanted(*byte) {
            break;
        }
        let escapes = *byte == b'\\' && raw.get(at + 1).is_some_and(u8::is_ascii_punctuation);
        at += if escapes { 2 } else { 1 };
    }
    at
}

/// The start of the line after `at`, if nothing but white space lies before it.
fn end_of_blank_line(raw: &str, at: usize) -> Option<usize> {
    let end = at + line_length(&raw[at..]);
    raw[at..end].chars().all(is_space_char).then_some(end)
}

/// The length of the first line of `text` with its end: `\n`, `\r\n` or `\r`.
pub(super) fn line_length(text: &str) -> usize {
    match text.find(['\r', '\n']) {
        None => text.len(),
        Some(end) if text[end..].starts_with("\r\n") => end + 2,
        Some(end) => end + 1,
    }
}

/// A label as labels are compared: without regard to case and to how white space is written. Lazy,
/// as most labels differ early.
pub(super) fn folded(label: &str) -> impl Iterator<Item = char> {
    let mut was_space = false;
    label.trim().chars().filter_map(move |c| {
        let repeats = was_space && c.is_whitespace();
        was_space = c.is_whitespace();
        let folded = if was_space { ' ' } else { lower(c) };
        (!repeats).then_some(folded)
    })
}

pub(super) fn joined(message: &str, lines: &[Range<usize>]) -> String {
    lines.iter().map(|line| &message[line.clone()]).collect()
}

pub(super) fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn skip_space(raw: &[u8], at: usize) -> usize {
    at + raw[at..].iter().take_while(|byte| is_space(**byte)).count()
}

pub(super) fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The white space of Markdown: space, and tab to carriage return.
pub(super) fn is_space(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

pub(super) fn is_space_char(c: char) -> bool {
    c.is_ascii() && is_space(c as u8)
}
