//! JSON as model servers really write it: `NaN`, raw control characters, halves of a surrogate pair
//! and of a UTF-8 sequence are taken instead of the whole chunk being lost.

use serde_json::Value;

use crate::json;

/// Stands for a lone half of a surrogate pair until its other half comes: this plus what the half is
/// above U+D800. Nobody uses the end of the last private-use plane.
const HALVES: u32 = 0x10_F800;
/// Stands for a byte that is no UTF-8 by itself: this plus the byte.
const BYTES: u32 = 0x10_F700;

/// The JSON in `text`, mended if it must be.
pub(super) fn parse(text: &str) -> Option<Value> {
    let parsed = json::parse_slice(text.as_bytes());
    parsed
        .or_else(|_| json::parse_slice(mended(text).as_bytes()))
        .ok()
}

/// `bytes` as text; what is no UTF-8 is kept for `Glue`.
pub(super) fn decoded(mut bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    loop {
        let error = match std::str::from_utf8(bytes) {
            Ok(rest) => {
                text.push_str(rest);
                return text;
            }
            Err(error) => error,
        };
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(valid).unwrap_or_default());
        text.extend(char::from_u32(BYTES + u32::from(rest[0])));
        bytes = &rest[1..];
    }
}

/// `text` with what JSON does not allow written in a way that it does.
fn mended(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    let mut in_string = false;
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            '\\' if in_string => escape(&mut rest, &mut out),
            c if in_string && c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if !in_string && (c.is_ascii_alphanumeric() || c == '-' || c == '+') => {
                let mut word = String::from(c);
                while let Some(c) =
                    rest.next_if(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c))
                {
                    word.push(c);
                }
                out.push_str(bare(&word));
            }
            c => out.push(c),
        }
    }
    out
}

/// A word outside strings: what no JSON number can be is null.
fn bare(word: &str) -> &str {
    match word {
        "True" => "true",
        "False" => "false",
        "None" => "null",
        // Rust's own parser knows NaN and infinities by all their usual names.
        word if word.parse::<f64>().is_ok_and(|number| !number.is_finite()) => "null",
        word => word,
    }
}

/// What follows a backslash inside a string.
fn escape(rest: &mut std::iter::Peekable<std::str::Chars>, out: &mut String) {
    match rest.next() {
        Some('u') => match hex(&mut rest.clone()) {
            Some(unit @ 0xD800..=0xDFFF) => {
                rest.by_ref().take(4).for_each(drop);
                let mut after = rest.clone();
                let low = match (after.next(), after.next()) {
                    (Some('\\'), Some('u')) if unit < 0xDC00 => hex(&mut after),
                    _ => None,
                };
                match low {
                    Some(low @ 0xDC00..=0xDFFF) => {
                        rest.by_ref().take(6).for_each(drop);
                        out.push_str(&format!("\\u{unit:04x}\\u{low:04x}"));
                    }
                    _ => out.extend(char::from_u32(HALVES + u32::from(unit) - 0xD800)),
                }
            }
            Some(_) => out.push_str("\\u"),
            None => out.push_str("\\\\u"),
        },
        Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => out.extend(['\\', c]),
        Some('\'') => out.push('\''),
        Some(c) => {
            out.push_str("\\\\");
            if c < ' ' {
                out.push_str(&format!("\\u{:04x}", c as u32))
            } else {
                out.push(c)
            }
        }
        None => out.push('\\'),
    }
}

fn hex(rest: &mut dyn Iterator<Item = char>) -> Option<u16> {
    let digits: String = rest.take(4).collect();
    let all = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u16::from_str_radix(&digits, 16).ok()).flatten()
}

/// Whether brackets and strings are closed: how far a document is that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Brackets {
    depth: usize,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Brackets {
    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &str) {
        for byte in piece.bytes() {
            self.take(byte);
        }
    }

    /// Where the first document in `text` ends. Nothing after it is looked at.
    pub(super) fn first_end(text: &str) -> Option<usize> {
        let mut brackets = Brackets::default();
        let at = text.bytes().position(|byte| brackets.take(byte))?;
        Some(at + 1)
    }

    /// Takes the next byte; true: the document is whole with it.
    fn take(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                self.begun = true;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.is_whole()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }

    pub(super) fn in_string(&self) -> bool {
        self.begun && self.in_string
    }
}

/// Puts characters together again whose halves came in different chunks.
#[derive(Debug, Default)]
pub(super) struct Glue {
    /// The first half of a surrogate pair.
    high: Option<u16>,
    /// The beginning of a UTF-8 sequence.
    bytes: Vec<u8>,
}

impl Glue {
    /// `piece` after what came before it; a half at its end is kept for the next one.
    pub(super) fn join(&mut self, piece: &str) -> String {
        let is_half = |c: char| c as u32 >= BYTES;
        if self.high.is_none() && self.bytes.is_empty() && !piece.contains(is_half) {
            return piece.to_owned();
        }
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            match (c as u32).checked_sub(BYTES) {
                Some(byte @ 0x80..=0xFF) => {
                    self.end_pair(&mut out);
                    self.bytes.push(byte as u8);
                    if std::str::from_utf8(&self.bytes).is_ok() || self.bytes.len() == 4 {
                        self.end_bytes(&mut out);
                    }
                }
                Some(unit @ 0x100..=0x8FF) => {
                    self.end_bytes(&mut out);
                    let unit = (unit - 0x100 + 0xD800) as u16;
                    match self.high.take() {
                        Some(high) if unit >= 0xDC00 => {
                            out.push_str(&String::from_utf16_lossy(&[high, unit]));
                        }
                        pending => {
                            self.high = pending;
                            self.end_pair(&mut out);
                            if unit < 0xDC00 {
                                self.high = Some(unit)
                            } else {
                                out.push(char::REPLACEMENT_CHARACTER)
                            }
                        }
                    }
                }
                _ => {
                    self.end_pair(&mut out);
                    self.end_bytes(&mut out);
                    out.push(c);
                }
            }
        }
        out
    }

    /// What is left of halves whose other half never came.
    pub(super) fn end(&mut self) -> String {
        let mut out = String::new();
        self.end_pair(&mut out);
        self.end_bytes(&mut out);
        out
    }

    fn end_pair(&mut self, out: &mut String) {
        if self.high.take().is_some() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn end_bytes(&mut self, out: &mut String) {
        if !self.bytes.is_empty() {
            out.push_str(&String::from_utf8_lossy(&self.bytes));
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn what_json_forbids_costs_no_chunk() {
        for (text, same) in [
            (r#"{"a":NaN,"b":-Infinity,"c":[Infinity,nan]}"#, r#"{"a":null,"b":null,"c":[null,null]}"#),
            (r#"{"a":1e999,"b":-1.5e3}"#, r#"{"a":null,"b":-1.5e3}"#),
            (r#"{"a":None,"b":True,"c":False}"#, r#"{"a":null,"b":true,"c":false}"#),
            ("{\"a\":\"x\ty\nz\u{1}\"}", r#"{"a":"x\ty\nz\u0001"}"#),
            (r#"{"a":"don\'t"}"#, r#"{"a":"don't"}"#),
            (r#"{"a":"C:\dir \u12"}"#, r#"{"a":"C:\\dir \\u12"}"#),
            (r#"{"a":"NaN \ud83d\ude00","b":NaN}"#, r#"{"a":"NaN 😀","b":null}"#),
        ] {
            assert_eq!(parse(text), Some(serde_json::from_str(same).unwrap()), "{text}");
        }
        for text in ["", "{", "hello", "{'a': 1}", r#"{"a":"x}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn halves_of_characters_find_each_other_across_chunks() {
        let content = |raw: &[u8]| {
            let text = decoded(raw);
            parse(&text).unwrap()["c"].as_str().unwrap().to_owned()
        };
        for (chunks, joined) in [
            (
                &[r#"{"c":"a\ud83d"}"#.as_bytes(), br#"{"c":"\ude00b"}"#] as &[&[u8]],
                "a😀b",
            ),
            (&[br#"{"c":"a\ud83d"}"#, br#"{"c":"b"}"#], "a\u{fffd}b"),
            (
                &[br#"{"c":"a\ud83d"}"#, br#"{"c":"\ud83d\ude00"}"#],
                "a\u{fffd}😀",
            ),
            (&[br#"{"c":"\ude00a"}"#], "\u{fffd}a"),
            (&[br#"{"c":"a\ud83d"}"#], "a\u{fffd}"),
            (
                &[b"{\"c\":\"a\xf0\x9f\"}", b"{\"c\":\"\x98\x80b\"}"],
                "a😀b",
            ),
            (
                &[b"{\"c\":\"gr\xc3\"}", b"{\"c\":\"\xbc\xc3\x9fe\"}"],
                "grüße",
            ),
            (&[b"{\"c\":\"a\xff\"}", b"{\"c\":\"b\"}"], "a\u{fffd}b"),
            (
                &[b"{\"c\":\"a\xc3\"}", br#"{"c":"\ud83d"}"#],
                "a\u{fffd}\u{fffd}",
            ),
        ] {
            let mut glue = Glue::default();
            let mut text: String = chunks.iter().map(|raw| glue.join(&content(raw))).collect();
            text += &glue.end();
            assert_eq!(text, joined);
        }
    }

    #[test]
    fn a_document_ends_where_its_brackets_do() {
        for (text, whole, in_string) in [
            ("{}", true, false),
            (r#"{"a":"}"}"#, true, false),
            (r#"{"a":"\"}"#, false, true),
            ("{[}", false, false),
            ("\"x\"", false, false),
            ("hello", false, false),
            ("", false, false),
        ] {
            let mut brackets = Brackets::default();
            brackets.feed(text);
            assert_eq!(
                (brackets.is_whole(), brackets.in_string()),
                (whole, in_string),
                "{text}"
            );
        }
        assert_eq!(Brackets::first_end("{} {}"), Some(2));
        assert_eq!(Brackets::first_end("{ {}"), None);
    }
}
