//! The text of a paragraph, without code spans, link targets, addresses and emojis.

use std::ops::Range;

use super::Letter;
use super::links::{
    folded, is_space, is_space_char, joined, label_end, leading_digits, target_end,
};

/// The address schemes that make an address in the text a link.
const SCHEMES: [&str; 5] = ["http", "https", "ftp", "mailto", "tel"];

/// The character references by name that stand for a character of a username or an `@`. All others
/// end a word, as does the `&` they are taken for here.
const NAMED: [(&str, char); 5] = [
    ("commat", '@'),
    ("lowbar", '_'),
    ("UnderBar", '_'),
    ("period", '.'),
    ("colon", ':'),
];

/// Reads one paragraph's text.
pub(super) struct Paragraph<'a> {
    /// Its lines as one.
    raw: String,
    /// For each line, where `raw` and where the message has it.
    places: Vec<(usize, usize)>,
    labels: &'a [String],
    letters: &'a mut Vec<Letter>,
    code: &'a mut Vec<Range<usize>>,
    /// How far in `raw` the reading is.
    at: usize,
    /// Where in the message the server takes the last piece of text to end.
    piece_end: usize,
    brackets: Vec<Bracket>,
    /// How many of `brackets` lie around a link: those that open links open nothing any more.
    spent: usize,
    /// The lengths of backtick runs that no further run closes.
    unclosed_ticks: Vec<usize>,
    /// Where the last host's name looked at ends, and whether an underscore ends it.
    host: (usize, bool),
    /// Where the last `)` is. It spares looking for one behind every `](`.
    last_parenthesis: usize,
}

/// A `[` or `![` that may turn out to open a link or an image.
struct Bracket {
    image: bool,
    /// The first letter and the first byte of `raw` inside.
    letter: usize,
    start: usize,
}

impl<'a> Paragraph<'a> {
    pub(super) fn new(
        message: &str,
        lines: &[Range<usize>],
        labels: &'a [String],
        letters: &'a mut Vec<Letter>,
        code: &'a mut Vec<Range<usize>>,
    ) -> Self {
        let mut length = 0;
        let place = |line: &Range<usize>| {
            length += line.len();
            (length - line.len(), line.start)
        };
        let places = lines.iter().map(place).collect();
        let raw = joined(message, lines);
        Paragraph {
            last_parenthesis: raw.rfind(')').unwrap_or(0),
            places,
            raw,
            labels,
            letters,
            code,
            at: 0,
            piece_end: 0,
            brackets: Vec::new(),
            spent: 0,
            unclosed_ticks: Vec::new(),
            host: (0, false),
        }
    }

    pub(super) fn read(mut self) {
        while let Some(byte) = self.raw.as_bytes().get(self.at) {
            match byte {
                b'\r' | b'\n' => self.leave_out(self.at + 1),
                b'\\' => self.escape(),
                b'`' => self.backticks(),
                b'&' => self.reference(),
                b'[' => self.bracket(1),
                b'!' if self.raw[self.at..].starts_with("![") => self.bracket(2),
                b']' => self.closing_bracket(),
                b'w' => match self.host_link() {
                    Some(end) => self.leave_out(end),
                    None => self.piece(1),
                },
                b':' => self.colon(),
                _ => {
                    let rest = &self.raw[self.at..];
                    let ends = ['\r', '\n', '\\', '`', '&', '!', '[', ']', 'w', 'W', ':'];
                    let next = rest.find(ends).unwrap_or(rest.len());
                    self.piece(next.max(1));
                }
            }
        }
        self.leave_out(self.at);
    }

    /// Where the message has the byte `at` of `raw`.
    fn source(&self, at: usize) -> usize {
        let line = self.places.partition_point(|(start, _)| *start <= at);
        let (start, place) = self.places[line - 1];
        place + at - start
    }

    /// Takes the next `length` bytes as a piece of text.
    fn piece(&mut self, length: usize) {
        let start = self.source(self.at);
        let end = self.at + length;
        let (mut first, mut offset) = (true, self.at);
        // A borrow of the text by itself, for the letters are pushed meanwhile.
        let raw = std::mem::take(&mut self.raw);
        for char in raw[self.at..end].chars() {
            let source = self.source(offset);
            offset += char.len_utf8();
            self.push(char, source..source + char.len_utf8(), first, start);
            first = false;
        }
        self.raw = raw;
        self.piece_end = start + length;
        self.at = end;
    }

    /// Takes `char`, which the message spells as `source`, as a piece of text that the server takes
    /// to lie at `start`.
    fn push(&mut self, char: char, source: Range<usize>, begins_piece: bool, start: usize) {
        self.letters.push(Letter {
            char,
            source,
            begins_piece,
            cut: begins_piece && start != self.piece_end,
        });
    }

    /// Goes on at `end`, past something that is no text.
    fn leave_out(&mut self, end: usize) {
        self.push('\n', 0..0, false, 0);
        self.at = end;
    }

    /// A backslash. The piece of text that begins with the escaped character does not join the one
    /// before: `@prx\_bot` mentions nobody.
    fn escape(&mut self) {
        match self.raw.as_bytes().get(self.at + 1) {
            Some(escaped) if escaped.is_ascii_punctuation() => {
                let (slash, start) = (self.source(self.at), self.source(self.at + 1));
                self.push(*escaped as char, slash..start + 1, true, start);
                self.piece_end = start + 1;
                self.at += 2;
            }
            _ => self.piece(1),
        }
    }

    fn backticks(&mut self) {
        let rest = &self.raw[self.at..];
        let count = rest.len() - rest.trim_start_matches('`').len();
        if !self.unclosed_ticks.contains(&count) {
            let mut search = count;
            while let Some(next) = rest[search..].find('`') {
                let start = search + next;
                let after = rest[start..].trim_start_matches('`');
                search = rest.len() - after.len();
                if search - start == count {
                    let span = self.source(self.at)..self.source(self.at + search - 1) + 1;
                    self.code.push(span);
                    return self.leave_out(self.at + search);
                }
            }
            self.unclosed_ticks.push(count);
        }
        self.piece(count);
    }

    /// A character reference. The text behind it does not join it, for the server takes the
    /// character to lie where the reference begins, and to be as long as it is itself.
    fn reference(&mut self) {
        let rest = &self.raw.as_bytes()[self.at + 1..];
        // The longest is `#x` and eight digits.
        let length = rest.iter().take(11).position(|b| *b == b';');
        let name = &self.raw[self.at + 1..][..length.unwrap_or(0)];
        let Some(char) = referred(name) else {
            return self.piece(1);
        };
        let start = self.source(self.at);
        let length = name.len() + 2;
        self.push(char, start..start + length, true, start);
        self.piece_end = start + char.len_utf8();
        self.at += length;
    }

    fn bracket(&mut self, length: usize) {
        self.piece(length);
        self.brackets.push(Bracket {
            image: length == 2,
            letter: self.letters.len(),
            start: self.at,
        });
    }

    /// A `]`: when it closes a link or an image, the text in it stays, in its pieces, and the rest
    /// is left out.
    fn closing_bracket(&mut self) {
        let Some(bracket) = self.brackets.pop() else {
            return self.piece(1);
        };
        let spent = self.brackets.len() < self.spent && !bracket.image;
        self.spent = self.spent.min(self.brackets.len());
        let end = if spent { None } else { self.link_end(&bracket) };
        let Some(end) = end else {
            return self.piece(1);
        };
        for letter in &mut self.letters[bracket.letter..] {
            letter.cut |= letter.begins_piece;
        }
        self.leave_out(end);
        if !bracket.image {
            self.spent = self.brackets.len();
        }
    }

    /// Where the link or image ends whose text ends here.
    fn link_end(&self, bracket: &Bracket) -> Option<usize> {
        let raw = self.raw.as_bytes();
        let next = self.at + 1;
        if next < self.last_parenthesis
            && let Some(end) = target_end(raw, next, bracket.image)
        {
            return Some(end);
        }
        let label = &self.raw[bracket.start..self.at];
        let (label, end) = match label_end(raw, next) {
            Some(end) if end > next + 2 => (&self.raw[next + 1..end - 1], end),
            Some(end) => (label, end),
            None => (label, next),
        };
        let is_it = |known: &String| folded(label).eq(known.chars());
        (!label.is_empty() && self.labels.iter().any(is_it)).then_some(end)
    }

    /// Whether a bracket is open that may still become a link or an image: no addresses there.
    fn may_be_in_link(&self) -> bool {
        self.brackets.len() > self.spent || self.brackets.iter().any(|bracket| bracket.image)
    }

    /// The end of an address that begins with `www.` here.
    fn host_link(&mut self) -> Option<usize> {
        let raw = self.raw.as_bytes();
        // The server does not look at what stands before the second byte.
        let before = if self.at > 1 { raw[self.at - 1] } else { b' ' };
        if !is_space(before) && !b"*_~)<(>".contains(&before) {
            return None;
        }
        let number = self.raw[self.at..].strip_prefix("www")?;
        let digits = leading_digits(number);
        let is_link = digits <= 3
            && number[digits..].starts_with('.')
            && number.len() > digits + 1
            && !self.may_be_in_link()
            && !self.is_bad_host(self.at);
        is_link.then(|| address_end(&self.raw, self.at))
    }

    fn colon(&mut self) {
        if let Some((start, end)) = self.scheme_link() {
            let scheme = self.at - start;
            self.letters.truncate(self.letters.len() - scheme);
            self.leave_out(end);
        } else if let Some(end) = self.emoji() {
            self.leave_out(end);
        } else {
            self.piece(1);
        }
    }

    /// The start and end of an address whose `:` is here.
    fn scheme_link(&mut self) -> Option<(usize, usize)> {
        let host = self.raw[self.at..].strip_prefix("://")?;
        let before = &self.raw[..self.at];
        let start = before
            .trim_end_matches(|c: char| c.is_ascii_alphanumeric())
            .len();
        let known = |scheme: &&str| scheme.eq_ignore_ascii_case(&before[start..]);
        if !SCHEMES.iter().any(known)
            || !host.starts_with(can_begin_host)
            || self.may_be_in_link()
            || self.is_bad_host(self.at + 3)
        {
            return None;
        }
        Some((start, address_end(&self.raw, start)))
    }

    /// Whether an underscore keeps the host's name at `start` from being one. A name may run on
    /// through many addresses, so the answer is kept for all that begin within it.
    fn is_bad_host(&mut self, start: usize) -> bool {
        if start >= self.host.0 {
            let raw = self.raw.as_bytes();
            // The server looks neither at the first nor at the text's last byte.
            let inner = raw.get(start + 1..raw.len() - 1).unwrap_or_default();
            let continues = |byte: &u8| {
                byte.is_ascii() && (b"-.".contains(byte) || can_begin_host(*byte as char))
            };
            let length = inner.iter().take_while(|byte| continues(byte)).count();
            self.host = (start + 1 + length, inner.get(length) == Some(&b'_'));
        }
        self.host.1
    }

    /// The end of an emoji's name that begins with the `:` here.
    fn emoji(&self) -> Option<usize> {
        let raw = self.raw.as_bytes();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if self.at > 1 && is_word(raw[self.at - 1]) {
            return None;
        }
        let name = &self.raw[self.at + 1..];
        let rest = name.trim_start_matches(|c: char| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || "_-+".contains(c)
        });
        let after = rest.strip_prefix(':')?;
        let ends = !after.as_bytes().first().is_some_and(|byte| is_word(*byte));
        (ends && rest.len() < name.len()).then(|| self.raw.len() - after.len())
    }
}

/// The end of an address that begins at `start`. The server leaves trailing punctuation out of it,
/// but that ends a word all the same.
fn address_end(raw: &str, start: usize) -> usize {
    let ends = |c: char| is_space_char(c) || c == '<' || c == '>';
    raw[start..].find(ends).map_or(raw.len(), |end| start + end)
}

/// Whether a host's name may begin with `c`: no white space, no punctuation.
fn can_begin_host(c: char) -> bool {
    match c {
        '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~' => true,
        '\u{80}'.. => {
            let punctuation = matches!(c, '¡' | '§' | '«' | '¶' | '·' | '»' | '¿' | '।' | '॥' |
                '\u{2010}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' |
                '\u{fffd}');
            !punctuation && !c.is_whitespace()
        }
        _ => !c.is_ascii_punctuation() && !is_space_char(c),
    }
}

/// The character that the reference `&name;` stands for.
fn referred(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        let known = NAMED.iter().find(|(known, _)| *known == name);
        return known.map(|(_, char)| *char);
    };
    let (digits, radix) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    if digits.len() > 8 || !digits.bytes().all(|b| (b as char).is_digit(radix)) {
        return None;
    }
    let code = u32::from_str_radix(digits, radix).ok()?;
    let char = char::from_u32(code).filter(|char| *char != '\0');
    Some(char.unwrap_or(char::REPLACEMENT_CHARACTER))
}
