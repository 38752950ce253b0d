//! An answer → parts that fit a post: split where it reads best, code kept code, mass mentions made
//! harmless. Posting them is the outbox's business.

/// What may leave with an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplyOptions {
    /// The post will not carry `props.unsafe_links`, so clients load the images in it: they become
    /// plain links.
    pub allow_unsafe_links: bool,
}

/// The words that notify everybody when they follow an `@`, in any case.
const MASS_MENTIONS: [&str; 3] = ["all", "channel", "here"];

/// No letter, number or part of a name to the server, and invisible: `@` and what follows it become
/// two words.
const ZERO_WIDTH_SPACE: char = '\u{200B}';

/// Quote markers longer than this are not trusted: servers stop nesting at some depth.
const TRUSTED_QUOTE: usize = 16;

/// The parts of `answer`, each at most `limit` characters and none blank; a blank answer has none.
///
/// An answer that fits is one part, as it is but for trailing white space, control characters,
/// which servers refuse, and what [`ReplyOptions`] and mass mentions ask for. `limit` is at least
/// 20.
pub fn parts(answer: &str, limit: usize, options: &ReplyOptions) -> Vec<String> {
    let text = printable(answer);
    let text = text.trim_end();
    if characters(text) <= limit {
        let whole = harmless(text, options);
        if characters(&whole) <= limit {
            return if whole.is_empty() {
                Vec::new()
            } else {
                vec![whole]
            };
        }
    }
    let mut parts = Vec::new();
    let mut rest = without_blank_lines(text);
    let mut head = String::new();
    while !rest.is_empty() {
        let part = next_part(&head, rest, limit, options);
        if !part.text.is_empty() {
            parts.push(part.text);
        }
        head = part.next_head;
        rest = &rest[part.used..];
    }
    parts
}

/// Whether `answer` has no part.
pub fn is_blank(answer: &str) -> bool {
    printable(answer).trim().is_empty()
}

/// What to append to an answer that stopped at the model's length limit.
pub fn cut_mark(answer: &str) -> String {
    let mut mark = String::new();
    if let Some(fence) = open_fence(answer) {
        mark.push('\n');
        mark.push_str(&fence.closing());
    }
    mark.push_str("\n\n*(The answer was cut off at the model's length limit.)*");
    mark
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

fn without_blank_lines(mut text: &str) -> &str {
    while let Some((line, rest)) = text.split_once('\n')
        && line.trim().is_empty()
    {
        text = rest;
    }
    if text.trim().is_empty() { "" } else { text }
}

struct Part {
    /// Empty if there was nothing but white space to take.
    text: String,
    /// How much of the rest it took, in bytes.
    used: usize,
    /// What the part after it begins with: the open fence, the quote's marker.
    next_head: String,
}

/// The first part of `rest`, which goes on with what `head` opens.
fn next_part(head: &str, rest: &str, limit: usize, options: &ReplyOptions) -> Part {
    let window = char_offset(rest, limit + 1);
    let whole = head.to_owned() + &rest[..window];
    let mut room = limit;
    let mut close = true;
    loop {
        let end = cut(&whole, head.len(), room);
        let taken = whole[..end].trim_end();
        let mut text = taken.to_owned();
        if close && let Some(fence) = open_fence(taken) {
            text.push('\n');
            text.push_str(&fence.closing());
        }
        let text = harmless(&text, options);
        let over = characters(&text).saturating_sub(limit);
        if over == 0 {
            let blank = whole[head.len()..end].trim().is_empty();
            let (used, next_head) = continuation(rest, end - head.len(), &whole[..end], limit);
            return Part {
                text: if blank { String::new() } else { text },
                used,
                next_head,
            };
        }
        if room > over + characters(head) {
            room -= over;
        } else if !head.is_empty() {
            return next_part("", rest, limit, options);
        } else {
            // A fence that does not fit twice stays open.
            close = false;
            room = limit - limit / 4;
        }
    }
}

/// Where the rest goes on after a part that took it up to `end`, `so_far` being that part before it
/// was closed, and with which head.
fn continuation(rest: &str, end: usize, so_far: &str, limit: usize) -> (usize, String) {
    let spaces = |c: char| c != '\n' && c.is_whitespace();
    let mut after = rest[end..].trim_start_matches(spaces);
    let within_line = !after.is_empty() && !after.starts_with('\n');
    let mut fence = open_fence(so_far);
    if !within_line {
        let next = after.strip_prefix('\n').unwrap_or(after);
        fence = fence.filter(|fence| fence.content(first_line(next)).is_some());
        after = without_blank_lines(next);
    }
    let heads = match fence {
        Some(fence) if !within_line && fence.closed_by(first_line(after)) => {
            let line_end = first_line(after).len();
            after = without_blank_lines(&after[line_end..]);
            Vec::new()
        }
        Some(fence) => {
            let quote = if within_line { fence.quote } else { "" };
            vec![
                format!("{}{}\n{quote}", fence.quote, fence.opening),
                format!("{}\n{quote}", fence.closing()),
            ]
        }
        None if within_line => {
            let line = so_far.rsplit('\n').next().unwrap_or_default();
            vec![split_quote(line).0.to_owned()]
        }
        None => Vec::new(),
    };
    let head = heads
        .into_iter()
        .find(|head| characters(head) <= limit / 2)
        .unwrap_or_default();
    (rest.len() - after.len(), head)
}

fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// The byte at which the character number `count` begins, or the end.
fn char_offset(text: &str, count: usize) -> usize {
    text.char_indices()
        .nth(count)
        .map_or(text.len(), |(offset, _)| offset)
}

/// Where to end a part of at most `room` characters: after `from`, at the end of a paragraph, a
/// line, a sentence or a word, whichever is the first of these to fill a quarter of the room.
fn cut(text: &str, from: usize, room: usize) -> usize {
    let window = char_offset(text, room);
    if window == text.len() {
        return window;
    }
    let enough = from + (window - from) / 4;
    let (paragraph, line) = last_line_ends(text, from, window);
    if let Some(end) = [paragraph, line]
        .into_iter()
        .flatten()
        .find(|&end| end >= enough)
    {
        return end;
    }
    let line_start = text[..window]
        .rfind('\n')
        .map_or(from, |newline| from.max(newline + 1));
    let positions = || {
        text[line_start..window]
            .char_indices()
            .map(|(offset, _)| line_start + offset)
            .chain([window])
            .filter(|&end| end > from)
    };
    // Text before a cut and after it must not become a fence, or close one, by standing alone.
    let lead = text[line_start..window].trim_start_matches([' ', '>']);
    let first_end = if fence_run(lead) > 0 {
        window - lead.len() + fence_run(lead) + 1
    } else {
        window - lead.len() + 1
    };
    let spaces = |c: char| c != '\n' && c.is_whitespace();
    let allowed = |end: usize| {
        let after = text[end..].trim_start_matches(spaces);
        end >= first_end
            && fence_run(after) == 0
            && is_boundary(text, end)
            && !after.starts_with(extends)
    };
    let at_space = |end: usize| text[end..].starts_with(char::is_whitespace);
    let at_sentence = |end: usize| {
        text[..end].ends_with(['。', '！', '？'])
            || text[..end].ends_with(['.', '!', '?', '…']) && at_space(end)
    };
    let last = |fits: &dyn Fn(usize) -> bool| positions().rev().find(|&end| fits(end));
    last(&|end| end >= enough && at_sentence(end) && allowed(end))
        .or_else(|| last(&|end| at_space(end) && allowed(end)))
        .or(line)
        .or_else(|| last(&allowed))
        .or_else(|| last(&|end| is_boundary(text, end)))
        .unwrap_or(window)
}

/// The last ends, up to `window`, of a paragraph or of a code block as a whole, and of any line.
fn last_line_ends(text: &str, from: usize, window: usize) -> (Option<usize>, Option<usize>) {
    let (mut paragraph, mut any) = (None, None);
    let mut scan = Scan::default();
    let mut start = 0;
    for line in text.split('\n') {
        let end = start + line.len();
        if end > window || end == text.len() {
            break;
        }
        let was_open = scan.fence.is_some();
        scan.line(line);
        let is_open = scan.fence.is_some();
        // A fence's opening line is not left behind alone.
        if end > from && !text[from..end].trim().is_empty() && (was_open || !is_open) {
            any = Some(end);
            let next = first_line(&text[end + 1..]);
            let next_opens = || {
                let mut scan = Scan::default();
                scan.line(next);
                scan.fence.is_some()
            };
            if !is_open && (was_open || next.trim().is_empty() || next_opens()) {
                paragraph = any;
            }
        }
        start = end + 1;
    }
    (paragraph, any)
}

/// Whether a reader sees two characters at `offset`, not the inside of one.
fn is_boundary(text: &str, offset: usize) -> bool {
    let (before, after) = text.split_at(offset);
    let (Some(last), Some(next)) = (before.chars().next_back(), after.chars().next()) else {
        return true;
    };
    let flag_letter = |c: &char| matches!(c, '\u{1F1E6}'..='\u{1F1FF}');
    if flag_letter(&last) && flag_letter(&next) {
        return before.chars().rev().take_while(flag_letter).count() % 2 == 0;
    }
    last != '\u{200D}' && (!extends(next) || last == '\n')
}

/// Whether `c` belongs to the character before it: combining marks of the common scripts, joiners,
/// variation selectors, skin tones, tags.
fn extends(c: char) -> bool {
    matches!(c,
        '\u{0300}'..='\u{036F}' | '\u{0483}'..='\u{0489}' | '\u{0591}'..='\u{05BD}'
        | '\u{0610}'..='\u{061A}' | '\u{064B}'..='\u{065F}' | '\u{0900}'..='\u{0903}'
        | '\u{093A}'..='\u{094F}' | '\u{0981}'..='\u{0983}' | '\u{09BC}'..='\u{09CD}'
        | '\u{0B82}' | '\u{0BBE}'..='\u{0BCD}' | '\u{0E31}' | '\u{0E33}'..='\u{0E3A}'
        | '\u{0E47}'..='\u{0E4E}' | '\u{1160}'..='\u{11FF}' | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}' | '\u{200D}' | '\u{20D0}'..='\u{20FF}'
        | '\u{302A}'..='\u{302F}' | '\u{3099}' | '\u{309A}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{FE20}'..='\u{FE2F}' | '\u{1F3FB}'..='\u{1F3FF}' | '\u{E0020}'..='\u{E007F}'
        | '\u{E0100}'..='\u{E01EF}')
}

/// An open code fence.
#[derive(Clone, Copy)]
struct Fence<'a> {
    /// The quote's marker before it, such as `> `.
    quote: &'a str,
    /// Its first line after that, with indentation and info string.
    opening: &'a str,
    indent: usize,
    /// The backticks or tildes.
    marker: &'a str,
}

impl Fence<'_> {
    fn closing(&self) -> String {
        format!(
            "{}{}{}",
            self.quote,
            &self.opening[..self.indent],
            self.marker
        )
    }

    /// What stands in the fence on `line`, unless the quote that holds it has ended.
    fn content<'b>(&self, line: &'b str) -> Option<&'b str> {
        if self.quote.is_empty() {
            return Some(line);
        }
        let content = line.strip_prefix(self.quote.trim_end())?;
        Some(content.strip_prefix(' ').unwrap_or(content))
    }

    /// As the server sees it: the marker, then no more than its own kind.
    fn closed_by(&self, line: &str) -> bool {
        self.content(line).is_some_and(|content| {
            let marks = content.trim_start_matches(' ').strip_prefix(self.marker);
            let more = marks.map(|marks| marks.trim().trim_start_matches(&self.marker[..1]));
            indentation(content) <= 3 && more == Some("")
        })
    }
}

/// Follows code fences from line to line.
struct Scan<'a> {
    fence: Option<Fence<'a>>,
    /// Whether every reading of the lines agrees on what is code: a fence in a list ends with its
    /// item, and where the item ends depends on more than is looked at here.
    certain: bool,
}

impl Default for Scan<'_> {
    fn default() -> Self {
        Scan {
            fence: None,
            certain: true,
        }
    }
}

impl<'a> Scan<'a> {
    /// Takes the next line; whether it is a fence or inside one.
    fn line(&mut self, line: &'a str) -> bool {
        if let Some(fence) = self.fence {
            if let Some(content) = fence.content(line) {
                let closed = fence.closed_by(line);
                let outside = indentation(content) < fence.indent && !content.trim().is_empty();
                let marks = content.trim();
                let odd = marks.starts_with(fence.marker)
                    && !(closed && marks.trim_start_matches(&fence.marker[..1]).is_empty());
                self.certain &= !outside && !odd;
                if closed {
                    self.fence = None;
                }
                return true;
            }
            self.certain &= !line.trim_start().starts_with('>');
            self.fence = None;
        }
        let (quote, opening) = split_quote(line);
        let indent = indentation(opening);
        let run = fence_run(&opening[indent..]);
        if run > 0 && indent <= 3 && !opening[indent + run..].contains('`') {
            self.certain &= quote.len() <= TRUSTED_QUOTE;
            self.fence = Some(Fence {
                quote,
                opening,
                indent,
                marker: &opening[indent..indent + run],
            });
            return true;
        }
        // Perhaps a fence all the same: in a list item, or indented in some other way.
        let block = |c: char| c.is_whitespace() || c.is_ascii_digit() || ">-*+.)".contains(c);
        self.certain &= fence_run(line.trim_start_matches(block)) == 0;
        false
    }
}

fn open_fence(text: &str) -> Option<Fence<'_>> {
    let mut scan = Scan::default();
    for line in text.split('\n') {
        scan.line(line);
    }
    scan.fence
}

/// In spaces: a tab is none, so that what it indents is not trusted.
fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The number of backticks or tildes that `text` begins with, if they can be a fence, else 0.
fn fence_run(text: &str) -> usize {
    let run = |marker: char| text.len() - text.trim_start_matches(marker).len();
    let longest = run('`').max(run('~'));
    if longest >= 3 { longest } else { 0 }
}

/// A line's quote markers with their spaces, and what follows them.
fn split_quote(line: &str) -> (&str, &str) {
    let mut rest = line;
    while indentation(rest) <= 3
        && let Some(quoted) = rest.trim_start_matches(' ').strip_prefix('>')
    {
        rest = quoted.strip_prefix(' ').unwrap_or(quoted);
    }
    line.split_at(line.len() - rest.len())
}

/// `text` without mass mentions and, as `options` ask, images. Code is left as it is only where it
/// is certain that the server takes it for code.
fn harmless(text: &str, options: &ReplyOptions) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    let mut scan = Scan::default();
    let mut spans_certain = true;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let is_code = scan.line(line.trim_end_matches('\n'));
        if is_code && scan.certain {
            safe.push_str(line);
        } else {
            // A code span ends with its paragraph.
            spans_certain = scan.certain && (spans_certain || line.trim().is_empty());
            let images = options
                .allow_unsafe_links
                .then_some(Images { text, offset });
            push_harmless(line, &mut spans_certain, images, &mut safe);
        }
        offset += line.len();
    }
    safe
}

/// Where to look for the rest of an image that begins on a line.
struct Images<'a> {
    text: &'a str,
    /// Of the line, in bytes.
    offset: usize,
}

impl Images<'_> {
    /// Whether what begins with the `[` at `position` of the line can be an image's label: when in
    /// doubt, it is.
    fn has_image(&self, position: usize) -> bool {
        let after = &self.text[self.offset + position..];
        let paragraph = after.split("\n\n").next().unwrap_or_default();
        paragraph.contains("](") || paragraph.contains("][") || self.text.contains("]:")
    }
}

/// One line for [`harmless`]. `certain` says whether a pair of backticks is a code span for sure: it
/// is until something before it in its paragraph may have taken the first of them.
fn push_harmless(line: &str, certain: &mut bool, images: Option<Images>, safe: &mut String) {
    /// Link targets and addresses swallow backticks; an escaped one opens nothing.
    const SWALLOWS: [&str; 6] = ["\\`", "](", "][", "]:", "://", "www"];
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        let rest = &line[at..];
        let mut next = at + c.len_utf8();
        *certain &= !SWALLOWS.iter().any(|start| rest.starts_with(start));
        match c {
            '`' => {
                let run = rest.len() - rest.trim_start_matches('`').len();
                let span = if *certain {
                    span_length(rest, run)
                } else {
                    None
                };
                *certain &= span.is_some();
                next = at + span.unwrap_or(run);
                safe.push_str(&line[at..next]);
            }
            '@' | '&' => {
                if let Some(('@', length)) = letter(rest)
                    && is_mass_mention(&rest[length..])
                {
                    next = at + length;
                    safe.push_str(&line[at..next]);
                    safe.push(ZERO_WIDTH_SPACE);
                } else {
                    safe.push(c);
                }
            }
            '!' => {
                let run = rest.len() - rest.trim_start_matches('!').len();
                next = at + run;
                let image = rest[run..].starts_with('[')
                    && images.as_ref().is_some_and(|images| images.has_image(next));
                let backslashes = line[..at].len() - line[..at].trim_end_matches('\\').len();
                let kept = if image { backslashes % 2 } else { run };
                safe.push_str(&rest[..kept]);
            }
            _ => safe.push(c),
        }
        at = next;
    }
}

/// The length of the code span that `rest` begins with, `run` being its backticks, in bytes.
fn span_length(rest: &str, run: usize) -> Option<usize> {
    let mut at = run;
    while let Some(skipped) = rest[at..].find('`') {
        at += skipped;
        let closing = rest[at..].len() - rest[at..].trim_start_matches('`').len();
        at += closing;
        if closing == run {
            return Some(at);
        }
    }
    None
}

/// Whether an `@` before `text` may be one. Only a word that goes on with an ASCII letter or digit
/// is another name for sure, and not with a `w`: in a link's text the server cuts words there, as an
/// address could begin.
fn is_mass_mention(text: &str) -> bool {
    MASS_MENTIONS.iter().any(|name| {
        let mut rest = text;
        name.chars().all(|wanted| match letter(rest) {
            Some((c, length)) if c.eq_ignore_ascii_case(&wanted) => {
                rest = &rest[length..];
                true
            }
            _ => false,
        }) && !rest.starts_with(|c: char| c.is_ascii_alphanumeric() && !matches!(c, 'w' | 'W'))
    })
}

/// The character that `text` begins with, as itself or as a character reference, which some servers
/// resolve before they look for mentions, and its length there in bytes.
fn letter(text: &str) -> Option<(char, usize)> {
    let first = text.chars().next()?;
    let resolved = || {
        let (reference, _) = text.strip_prefix('&')?.split_once(';')?;
        let number = reference.strip_prefix('#');
        let code = match number.map(|number| number.strip_prefix(['x', 'X']).ok_or(number)) {
            Some(Ok(hexadecimal)) => u32::from_str_radix(hexadecimal, 16).ok(),
            Some(Err(decimal)) => decimal.parse().ok(),
            None => (reference == "commat").then_some(u32::from('@')),
        };
        Some((char::from_u32(code?)?, reference.len() + 2))
    };
    Some(resolved().unwrap_or((first, first.len_utf8())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAFE: ReplyOptions = ReplyOptions {
        allow_unsafe_links: false,
    };
    const LINKS: ReplyOptions = ReplyOptions {
        allow_unsafe_links: true,
    };

    fn split(answer: &str, limit: usize) -> Vec<String> {
        parts(answer, limit, &SAFE)
    }

    fn one(answer: &str, options: &ReplyOptions) -> String {
        let parts = parts(answer, 16383, options);
        assert_eq!(parts.len(), 1, "{answer:?}");
        parts.concat()
    }

    #[test]
    fn an_answer_that_fits_stays_as_it_is_but_for_trailing_white_space() {
        for (answer, expected) in [
            ("Hello.", "Hello."),
            ("Hello.\n\n \t", "Hello."),
            ("\n  indented", "\n  indented"),
            ("```\nopen", "```\nopen"),
            ("1234567890123456789 \n", "1234567890123456789"),
            ("ééééééééééééééééé👍🏽👍", "ééééééééééééééééé👍🏽👍"),
        ] {
            assert_eq!(split(answer, 20), [expected], "{answer:?}");
        }
    }

    #[test]
    fn a_blank_answer_has_no_part() {
        for answer in [
            "",
            " \n\t",
            "\0",
            "\r\n\r\n",
            &"\n".repeat(100),
            &" ".repeat(100),
        ] {
            assert!(split(answer, 20).is_empty(), "{answer:?}");
            assert!(is_blank(answer), "{answer:?}");
        }
        assert!(!is_blank("\u{7}x"));
    }

    #[test]
    fn control_characters_are_taken_out_and_line_ends_are_made_one() {
        for (answer, expected) in [
            ("a\0b\x07c\x1b[1md\u{7f}\u{85}", "abc[1md"),
            ("a\tb\nc", "a\tb\nc"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("@\0all", "@\u{200B}all"),
        ] {
            assert_eq!(split(answer, 20), [expected], "{answer:?}");
        }
    }

    #[test]
    fn a_long_answer_is_split_where_it_reads_best() {
        for (what, answer, expected) in [
            (
                "paragraphs",
                "First one here.\nIt goes on.\n\nSecond. It is longer.\nThird",
                vec![
                    "First one here.\nIt goes on.",
                    "Second. It is longer.\nThird",
                ],
            ),
            (
                "lines",
                "First one. It goes on\nfor two lines and more words",
                vec!["First one. It goes on", "for two lines and more words"],
            ),
            (
                "sentences",
                "First one here. Then some more words without end",
                vec!["First one here.", "Then some more words without end"],
            ),
            (
                "sentences without spaces",
                "これは一つ目の文です。それは二つ目の文ですけれどもとても長いのでここで終わりません",
                vec![
                    "これは一つ目の文です。",
                    "それは二つ目の文ですけれどもとても長いのでここで終わりません",
                ],
            ),
            (
                "words",
                "one two three four five six seven eight nine ten",
                vec!["one two three four five six seven eight", "nine ten"],
            ),
            (
                "a word too long for a line of its own",
                "Look:\nabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
                vec![
                    "Look:",
                    "abcdefghijklmnopqrstuvwxyzabcdefghijklmn",
                    "opqrstuvwxyz",
                ],
            ),
            (
                "not a crumb before a long paragraph",
                "Oh.\n\nabc def ghi jkl mno pqr stu vwx yza bcdef",
                vec!["Oh.\n\nabc def ghi jkl mno pqr stu vwx yza", "bcdef"],
            ),
            (
                "not before what would become a fence",
                "aaaaaaaaaa bbbbbbbbbb ccccccccc ```dddddddddddddd eee",
                vec!["aaaaaaaaaa bbbbbbbbbb", "ccccccccc ```dddddddddddddd eee"],
            ),
            (
                "not before a mark without its letter",
                "aaaaaaaaaa bbbbbbbbbbbbbbbbbbb \u{301}ccccccccccccccc",
                vec!["aaaaaaaaaa", "bbbbbbbbbbbbbbbbbbb \u{301}ccccccccccccccc"],
            ),
            (
                "a list between its items",
                "- the first item\n- the second item\n- the third item",
                vec!["- the first item\n- the second item", "- the third item"],
            ),
            (
                "a list item's continuation at its line",
                "1. the first item is this\n   and goes on here, then\n2. ends",
                vec![
                    "1. the first item is this",
                    "   and goes on here, then\n2. ends",
                ],
            ),
        ] {
            assert_eq!(split(answer, 40), expected, "{what}");
        }
    }

    #[test]
    fn a_quote_goes_on_as_a_quote() {
        for (answer, expected) in [
            (
                "> one two three four five six seven eight nine",
                vec!["> one two three four five six seven", "> eight nine"],
            ),
            (
                "> > one two three four five six seven eight nine",
                vec!["> > one two three four five six seven", "> > eight nine"],
            ),
            (
                "> one two three four five\n> six seven eight nine",
                vec!["> one two three four five", "> six seven eight nine"],
            ),
            (
                "> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                vec!["> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "> aaaaaaaaaa"],
            ),
            (
                "a > b two three four five six seven eight nine",
                vec!["a > b two three four five six seven", "eight nine"],
            ),
        ] {
            assert_eq!(split(answer, 40), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_fence_that_is_cut_is_closed_and_opened_again() {
        for (what, answer, expected) in [
            (
                "with its info string",
                "```rust\nlet a = 1;\nlet b = 2;\nlet c = 3;\n```\nDone.",
                vec![
                    "```rust\nlet a = 1;\nlet b = 2;\n```",
                    "```rust\nlet c = 3;\n```\nDone.",
                ],
            ),
            (
                "longer ones, and tildes",
                "~~~~ c\n```\nint aaaaaaaaaaa;\n```\nint bbbbbbbbbbb;\n~~~~",
                vec![
                    "~~~~ c\n```\nint aaaaaaaaaaa;\n```\n~~~~",
                    "~~~~ c\nint bbbbbbbbbbb;\n~~~~",
                ],
            ),
            (
                "in a quote",
                "> ```sh\n> make one two\n> make three four\n> make five\n> ```",
                vec![
                    "> ```sh\n> make one two\n> ```",
                    "> ```sh\n> make three four\n> ```",
                    "> ```sh\n> make five\n> ```",
                ],
            ),
            (
                "indented",
                "  ```\n  aaaaaaaaaaaaaaa\n  bbbbbbbbbbbbbbb\n  ```\nc",
                vec![
                    "  ```\n  aaaaaaaaaaaaaaa\n  ```",
                    "  ```\n  bbbbbbbbbbbbbbb\n  ```\nc",
                ],
            ),
            (
                "within a line",
                "```\naaaaaaaaaa bbbbbbbbbb cccccccccc dddddddddd\n```",
                vec![
                    "```\naaaaaaaaaa bbbbbbbbbb cccccccccc\n```",
                    "```\ndddddddddd\n```",
                ],
            ),
            (
                "within a quoted line",
                "> ```\n> aaaaaaaaaa bbbbbbbbbb cccccccccc\n> ```",
                vec![
                    "> ```\n> aaaaaaaaaa bbbbbbbbbb\n> ```",
                    "> ```\n> cccccccccc\n> ```",
                ],
            ),
            (
                "not for its closing line alone",
                "```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```\nand so on",
                vec!["```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```", "and so on"],
            ),
            (
                "whole rather than cut",
                "Some words before it:\n```\naaaaaaaaaaa\nbbbbbbbbbbb\n```",
                vec![
                    "Some words before it:",
                    "```\naaaaaaaaaaa\nbbbbbbbbbbb\n```",
                ],
            ),
            (
                "its indentation kept",
                "```\nif aaaaaaaaaaaaaaaaaaaaaaaaa:\n    bbbbbbbbbbbb\n```",
                vec![
                    "```\nif aaaaaaaaaaaaaaaaaaaaaaaaa:\n```",
                    "```\n    bbbbbbbbbbbb\n```",
                ],
            ),
            (
                "without an info string that leaves no room",
                "```a-long-name-of-language\naaaaaaa\nbbbbb bbbbb\n```",
                vec![
                    "```a-long-name-of-language\naaaaaaa\n```",
                    "```\nbbbbb bbbbb\n```",
                ],
            ),
            (
                "at a line rather than at a blank one in it",
                "```\naaaaaaaa\n\nbbbbbbb\nccccccc\nddddddd\n```",
                vec![
                    "```\naaaaaaaa\n\nbbbbbbb\nccccccc\n```",
                    "```\nddddddd\n```",
                ],
            ),
            (
                "never empty",
                "a\n```some-language\nbbbbbbbbb bbbbbbbbbbbbb\n```",
                vec![
                    "a\n```some-language\nbbbbbbbbb\n```",
                    "```some-language\nbbbbbbbbbbbbb\n```",
                ],
            ),
            (
                "nor blank",
                "```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n                                         \
                 b\n```",
                vec!["```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```", "```\nb\n```"],
            ),
            (
                "nor for a longer closing line",
                "```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n``````\nand so on",
                vec!["```\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n```", "and so on"],
            ),
            (
                "not when its quote ends there",
                "> ```\n> aaaaaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbbbbbbbb",
                vec![
                    "> ```\n> aaaaaaaaaaaaaaaaaaaaa\n> ```",
                    "bbbbbbbbbbbbbbbbbbbbbb",
                ],
            ),
            (
                "nor when that ends with a blank line",
                "> ```\n> aaaaaaaaaaaaaaaaaaaaa\n\nbbbbbbbbbbbbbbbbbbbbbb",
                vec![
                    "> ```\n> aaaaaaaaaaaaaaaaaaaaa\n> ```",
                    "bbbbbbbbbbbbbbbbbbbbbb",
                ],
            ),
            (
                "a quote that ends ends its fence",
                "> ```\n> aaaaaaaaaaaa\nbbbbbbbbbbbbb bbbbb\nccccccccccc",
                vec!["> ```\n> aaaaaaaaaaaa\nbbbbbbbbbbbbb bbbbb", "ccccccccccc"],
            ),
        ] {
            assert_eq!(split(answer, 40), expected, "{what}");
        }
    }

    #[test]
    fn backticks_within_a_line_do_not_become_a_fence_by_a_cut() {
        for answer in [
            "Some words and then the code ```of it``` and other words",
            "Some words and some more words and ~~~~~ and other words",
            "```\nSome words and some more words ```\nand others\n```",
        ] {
            for part in split(answer, 40) {
                let inside = part.trim_start_matches("```\n");
                assert!(!inside.starts_with(['`', '~']), "{part:?}");
            }
        }
    }

    #[test]
    fn what_a_reader_sees_as_one_character_is_not_cut() {
        for one in [
            "e\u{301}\u{302}",
            "👍🏽",
            "👩\u{200D}👩\u{200D}👧\u{200D}👦",
            "❤\u{FE0F}",
            "🇩🇪",
            "1\u{FE0F}\u{20E3}",
            "ก\u{0E33}\u{0E49}",
            "क\u{094D}\u{093F}",
        ] {
            for shift in 0..8 {
                let answer = "x".repeat(shift) + &one.repeat(30);
                for part in split(&answer, 20) {
                    let part = part.trim_start_matches('x');
                    assert_eq!(part.replace(one, ""), "", "{one:?} {shift}");
                }
            }
        }
    }

    #[test]
    fn a_mark_says_that_the_answer_was_cut_outside_its_code() {
        let mark = "\n\n*(The answer was cut off at the model's length limit.)*";
        for (answer, closing) in [
            ("Words", ""),
            ("```\ncode\n```\nwords", ""),
            ("```rust\ncode", "\n```"),
            ("> ~~~~\n> code", "\n> ~~~~"),
        ] {
            assert_eq!(cut_mark(answer), closing.to_owned() + mark, "{answer:?}");
        }
    }

    #[test]
    fn mass_mentions_are_made_harmless() {
        for answer in [
            "@all",
            "@channel",
            "@here",
            "@ALL",
            "@Here's",
            "hi @all!",
            "@all.",
            "@all-",
            "@all_",
            "@all:",
            "x.@all",
            "x-@here.",
            ":@all",
            "@@all",
            "\\@all",
            "**@all**",
            "_@channel_",
            "~~@here~~",
            "[@all](x)",
            "![@all](x)",
            "[x](y \"@all\")",
            "@all,@here",
            "# @all",
            "> @all",
            "| @all |",
            "\"@all\"",
            "@all\u{200D}",
            "@allⒶ",
            "@all\u{345}",
            "@all👍",
            "` @all",
            "\\`@all`",
            "`a\n`@all`",
            "`` @all `",
            "www.x.y/` @all `",
            "&#64;@all",
            "![@allways](x)",
            ">>>>>>>>>>>>>>>>>>>> ```\n>>>>>>>>>>>>>>>>>>>> @all",
            "```\n```` ``\n@all",
            "> > ```\n>> x\n> > ```\n> > @all",
            "- a\n\n    ```\n  ```\n  @all",
            "&commat;all",
            "&#x40;here",
            "@&#97;ll",
            "@AL&#X6c;",
            "&#064;&#99;hannel",
            "&#64;all",
            "[a](b '`') @all `c`",
            "http://x/` @all `",
            "    @all",
            "``` `@all\n@here",
            "- ```\n@all\n```",
            "- a\n  ```\n@all\n  ```",
            "> ```\n@all",
            "> > ```\n> @all",
            "```\n``` ```\n@all",
            "1. a\n\n    ```\n  ```\n@all",
            "text\n    ```\n    @all",
        ] {
            let safe = one(answer, &SAFE);
            assert_eq!(mass_mentions(&safe), 0, "{answer:?} {safe:?}");
            assert_eq!(safe.replace('\u{200B}', ""), answer);
            assert_ne!(safe, answer);
        }
    }

    #[test]
    fn other_names_and_code_keep_their_at() {
        for answer in [
            "@allison",
            "@heretic @channels @all1",
            "all @ here",
            "@ all",
            "`@all`",
            "``@all` ``",
            "Write `@all` or `@here`: (`@channel`), **`@all`**",
            "```\n@all\n```",
            "~~~ x\n@all\n``` @here\n~~~",
            "> ```\n> @all\n> ```",
            "1. Run\n   ```\n   @all\n\n     @here\n   ```",
            "a `b\n\n`@all`",
        ] {
            assert_eq!(one(answer, &SAFE), answer);
        }
    }

    #[test]
    fn a_mass_mention_that_a_split_would_make_is_harmless_too() {
        for answer in [
            "The word in code: `1234567890 1234567890 @all 12345 12345`",
            "1234567890123456789012345678901234@allison",
            "12345678901234567890123456789012345@allison",
            "123456789012345678901234567890123456@channel",
        ] {
            for part in split(answer, 40) {
                assert_eq!(mass_mentions(&part), 0, "{part:?}");
            }
        }
    }

    #[test]
    fn images_become_links_where_clients_would_load_them() {
        for (answer, expected) in [
            ("![a](b)", "[a](b)"),
            ("![](b)", "[](b)"),
            ("x ![a][b] y", "x [a][b] y"),
            ("![a][]", "[a][]"),
            ("![a]\n\n[a]: b", "[a]\n\n[a]: b"),
            ("![a\nc](b)", "[a\nc](b)"),
            ("![a [b] `]` c](d)", "[a [b] `]` c](d)"),
            ("!![a](b)", "[a](b)"),
            ("[![a](b)](c)", "[[a](b)](c)"),
            ("\\![a](b)", "\\![a](b)"),
            ("\\!![a](b)", "\\![a](b)"),
            ("`![a](b)`", "`![a](b)`"),
            ("` ![a](b)", "` [a](b)"),
            ("```\n![a](b)\n```", "```\n![a](b)\n```"),
            ("vec![1] and !x! and !", "vec![1] and !x! and !"),
            ("<img src=\"x\">", "<img src=\"x\">"),
        ] {
            assert_eq!(one(answer, &LINKS), expected);
            assert_eq!(one(answer, &SAFE), answer);
        }
    }

    /// How many words of `text` are mass mentions by the server's rule, code and links not looked
    /// at.
    fn mass_mentions(text: &str) -> usize {
        let is_keyword = |word: &str| {
            let word = word.trim_end_matches(['.', '-', ':', '_']).to_lowercase();
            ["@all", "@channel", "@here"].contains(&word.as_str())
        };
        let in_word = |c: char| c.is_ascii_alphanumeric() || ":.-_@".contains(c);
        text.split(|c| !in_word(c))
            .map(|word| word.trim_start_matches([':', '.', '-', '_']))
            .filter(|word| is_keyword(word) || word.split(['.', '-', ':']).any(is_keyword))
            .count()
    }

    /// What is left of `text` when white space, fences' lines, quote markers and what makes mass
    /// mentions harmless are taken away.
    fn substance(text: &str) -> String {
        let lines = text.lines().filter(|line| {
            let line = line.trim_start_matches([' ', '>', '\t']);
            !line.starts_with("```") && !line.starts_with("~~~")
        });
        let kept = |c: &char| !c.is_whitespace() && *c != '>' && *c != '\u{200B}';
        lines.flat_map(|line| line.chars().filter(kept)).collect()
    }

    fn is_balanced(part: &str) -> bool {
        open_fence(part).is_none()
    }

    /// Words, white space and Markdown, put together at random.
    fn markdown() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => "[a-z]{1,12}",
            6 => Just(" ".to_owned()),
            4 => Just("\n".to_owned()),
            3 => Just("\n\n".to_owned()),
            2 => Just(". ".to_owned()),
            1 => Just("\n> ".to_owned()),
            1 => Just("\n- ".to_owned()),
            1 => Just("\n```rust\n".to_owned()),
            2 => Just("\n```\n".to_owned()),
            1 => Just("\n~~~~\n".to_owned()),
            1 => Just("\n> ```\n> ".to_owned()),
            1 => Just("@all".to_owned()),
            1 => Just("@Here".to_owned()),
            1 => Just("`".to_owned()),
            1 => "[äé日本👍]{1,8}",
        ];
        prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
    }

    fn config() -> ProptestConfig {
        ProptestConfig {
            cases: 512,
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn any_text_fits_any_limit(answer in "[ -~\n\t`~>@\u{301}🇩🏽\u{200D}\\PC]{0,300}", limit in 20..90usize) {
            for part in split(&answer, limit) {
                prop_assert!(characters(&part) <= limit, "{:?}", part);
                prop_assert!(!part.trim().is_empty());
            }
        }

        #[test]
        fn runs_of_anything_fit_any_limit(answer in "([`~>]{1,60}|[ \n]{1,60}|@all|x){0,20}", limit in 20..60usize) {
            for part in split(&answer, limit) {
                prop_assert!(characters(&part) <= limit, "{:?}", part);
                prop_assert!(!part.trim().is_empty());
            }
        }

        #[test]
        fn splitting_loses_nothing_and_keeps_fences_whole(answer in markdown(), limit in 40..120usize) {
            let parts = split(&answer, limit);
            prop_assert_eq!(substance(&parts.join("\n")), substance(&answer));
            for part in &parts {
                prop_assert!(characters(part) <= limit, "{:?}", part);
                prop_assert!(parts.len() == 1 || is_balanced(part), "{:?}", part);
            }
        }

        #[test]
        fn combining_marks_stay_with_their_letters(answer in "([a-z ]|[a-z][\u{300}-\u{36F}]{1,3}|👍🏽|👩\u{200D}👧|🇩🇪){0,200}") {
            let answer = answer.trim_start();
            for part in split(answer, 20) {
                prop_assert!(!part.starts_with(extends), "{:?}", part);
                prop_assert!(!part.ends_with('\u{200D}'), "{:?}", part);
                let flags = part.matches(['🇩', '🇪']).count();
                prop_assert_eq!(flags % 2, 0);
            }
        }

        #[test]
        fn no_part_outside_code_mentions_everybody(
            words in prop::collection::vec("[@.:_*\\[\\]()!x -]{0,3}@(?i:all|here|channel)[a.:_'é-]{0,2}", 0..20),
            limit in 20..200usize,
        ) {
            for part in split(&words.join(" "), limit) {
                prop_assert_eq!(mass_mentions(&part), 0, "{:?}", part);
            }
        }

        #[test]
        fn what_is_harmless_stays_as_it_is(answer in markdown(), links in any::<bool>()) {
            let options = ReplyOptions { allow_unsafe_links: links };
            let safe = harmless(&answer, &options);
            prop_assert_eq!(harmless(&safe, &options), safe);
        }
    }
}
