//! Whom a message mentions, by the server's own rule: `mention_parser_standard.go` over the text of
//! its Markdown. The recordings in `mentions.json` are the arbiter.

use std::ops::Range;

use super::markdown::{self, Letter};

/// The names that notify a whole channel.
const MASS: [&str; 3] = ["all", "channel", "here"];

/// Whether the server takes `message` to mention the user `username` (lower case, without `@`).
pub fn mentions(message: &str, username: &str) -> bool {
    !find(&markdown::text(message), &[username], Reading::Exact).is_empty()
}

/// The first word of `message` that mentions `username`, as it is written.
pub(crate) fn mention<'a>(message: &'a str, username: &str) -> Option<&'a str> {
    let found = find(&markdown::text(message), &[username], Reading::Exact);
    found
        .first()
        .and_then(|mention| message.get(mention.sign.start..mention.end))
}

/// `message` without its mentions of `username` and the white space that they leave over; a `:` or
/// `,` after a mention that opens the message goes too. Code, indentation and line breaks elsewhere
/// stay as they are. Empty if there was nothing else.
pub fn without_mention(message: &str, username: &str) -> String {
    let mut message = message.to_owned();
    loop {
        // More than once, as the text may be other Markdown without the mention.
        let found = find(&markdown::text(&message), &[username], Reading::Exact);
        if found.is_empty() {
            return message;
        }
        message = cut_out(&message, &found);
    }
}

/// Whether `message` begins by mentioning somebody other than `username`. A whole channel is not
/// somebody.
pub fn opens_with_other(message: &str, username: &str) -> bool {
    let Some(rest) = message.trim_start().strip_prefix('@') else {
        return false;
    };
    let in_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let after = rest.trim_start_matches(in_name);
    let name = &rest[..rest.len() - after.len()];
    let known = |suffix: usize| {
        let name = &name[..name.len() - suffix];
        let is_it = |known: &str| name.eq_ignore_ascii_case(known);
        is_it(username) || MASS.into_iter().any(is_it)
    };
    let suffixes = name.len() - name.trim_end_matches(['.', '-', '_']).len();
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !after.starts_with(|c| c != ':' && is_in_word(c))
        && !(0..=suffixes).any(known)
}

/// Where `message` has the `@` of each word that notifies a whole channel, in bytes, in order. An
/// escaped `@` is given with its backslash, and one that is a character reference as a whole. Words
/// that only older servers take for such are among them, and those beside a letter outside ASCII.
/// A message in which they are changed is other Markdown, and wants to be looked at again.
pub fn mass_mentions(message: &str) -> Vec<Range<usize>> {
    let text = markdown::text(message);
    let mut signs: Vec<_> = [Reading::Exact, Reading::Older, Reading::Ascii]
        .into_iter()
        .flat_map(|reading| find(&text, &MASS, reading))
        .map(|mention| mention.sign)
        .collect();
    signs.sort_by_key(|sign| sign.start);
    signs.dedup();
    signs
}

/// A mention in a message: the bytes of its `@`, and where its name ends.
struct Mention {
    sign: Range<usize>,
    end: usize,
}

/// What words are taken to be.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    /// As current servers do.
    Exact,
    /// As servers do that do not end a word where a piece of text ends.
    Older,
    /// As if there were no letters outside ASCII, for it is not always known what is one.
    Ascii,
}

/// The mentions of `names` in `text`, in order.
fn find(text: &[Letter], names: &[&str], reading: Reading) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut find_in = |word: &[Letter]| {
        let matched = names.iter().any(|name| is_keyword(word, name));
        if let (true, [sign, .., last]) = (matched, word) {
            found.push(Mention {
                sign: sign.source.clone(),
                end: last.source.end,
            });
        }
        matched
    };
    let is_in = |letter: &Letter| {
        is_in_word(letter.char) && (reading != Reading::Ascii || letter.char.is_ascii())
    };
    let divides = |letter: &Letter| letter.cut && reading != Reading::Older;
    for word in text
        .chunk_by(|a, b| is_in(a) && is_in(b) && !divides(b))
        .filter(|word| is_in(&word[0]))
    {
        if word[0].char == ':' && word[word.len() - 1].char == ':' {
            continue; // an emoji
        }
        let start = word
            .iter()
            .position(|letter| !is_joint(letter))
            .unwrap_or(word.len());
        let word = &word[start..];
        let suffixes = word
            .iter()
            .rev()
            .take_while(|letter| is_joint(letter))
            .count();
        if word.first().is_some_and(|letter| letter.char == '@') {
            (0..=suffixes).any(|suffix| find_in(&word[..word.len() - suffix]));
        } else {
            for piece in word.split(|letter| letter.char != '_' && is_joint(letter)) {
                find_in(piece);
            }
        }
    }
    found
}

fn is_keyword(word: &[Letter], name: &str) -> bool {
    let same = |(letter, char): (&Letter, char)| markdown::lower(letter.char) == char;
    word.len() == name.len() + 1
        && word[0].char == '@'
        && word[1..].iter().zip(name.chars()).all(same)
}

/// Whether a letter can stand between a mention and what is not part of it.
fn is_joint(letter: &Letter) -> bool {
    matches!(letter.char, ':' | '.' | '-' | '_')
}

/// Whether words go on at `c`: at letters, numbers and some signs. For the server a letter is one by
/// its category; the standard library's "alphabetic" also has marks and enclosed letters. Of those,
/// these are told apart: the non-spacing marks (the ones that `escape_debug` escapes), the spacing
/// ones of India's, Burma's and Cambodia's scripts, and the enclosed Latin letters.
fn is_in_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || ":.-_@".contains(c);
    }
    let is_mark = match c {
        'ஃ' => false,
        '\u{900}'..='\u{d83}' => matches!(c as u32 & 0x7f, 1..=3 | 0x3e..=0x4d),
        '\u{102b}'..='\u{103e}' | '\u{17b6}'..='\u{17d1}' => true,
        '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}' => true,
        _ => false,
    };
    c.is_alphanumeric() && !is_mark && c.escape_debug().len() == 1
}

/// `message` without `mentions`, which are in order.
fn cut_out(message: &str, mentions: &[Mention]) -> String {
    let mut kept = String::with_capacity(message.len());
    let mut at = 0;
    for mention in mentions {
        kept.push_str(&message[at..mention.sign.start]);
        let mut rest = &message[mention.end..];
        if kept.trim().is_empty() {
            kept.clear();
            rest = rest.strip_prefix([':', ',']).unwrap_or(rest);
            rest = without_blank_lines(rest.trim_start_matches(BLANK));
        } else {
            let after = rest.trim_start_matches(BLANK);
            let ends_line = after.is_empty() || after.starts_with(LINE_END);
            if ends_line && kept.ends_with(LINE_END) {
                // The line is gone as a whole: left blank, it would end a paragraph.
                rest = without_line_end(after);
            } else if ends_line || after.starts_with([',', '.', ';', ':', '!', '?']) {
                kept.truncate(kept.trim_end_matches(BLANK).len());
                rest = after;
            } else if kept.ends_with(BLANK) || kept.ends_with(LINE_END) {
                rest = after;
            }
        }
        at = message.len() - rest.len();
    }
    kept.push_str(&message[at..]);
    kept.truncate(kept.trim_end().len());
    kept
}

const BLANK: [char; 2] = [' ', '\t'];
const LINE_END: [char; 2] = ['\r', '\n'];

/// `text` from its first line on that is not blank, that line's indentation included.
fn without_blank_lines(text: &str) -> &str {
    let start = text.trim_start();
    let blank = &text[..text.len() - start.len()];
    &text[blank.rfind(LINE_END).map_or(0, |end| end + 1)..]
}

fn without_line_end(text: &str) -> &str {
    let text_after = text.strip_prefix('\r').unwrap_or(text);
    text_after.strip_prefix('\n').unwrap_or(text_after)
}
