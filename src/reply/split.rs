//! Splitting an answer: where it reads best, with code kept code.

use super::fence::{Fences, fence_run, open_fence, split_quote};
use super::harmless::harmless;
use super::{ReplyOptions, char_offset, characters, closing, formula, is_invisible, printable};
use crate::mattermost::markdown;

/// The parts of `answer`, each at most `limit` characters and none blank; a blank answer has none.
///
/// An answer that fits is one part, as it is but for trailing white space, control characters,
/// which servers refuse, and what [`ReplyOptions`] and mass mentions ask for. `limit` is at least
/// 20.
pub fn parts(answer: &str, limit: usize, options: &ReplyOptions) -> Vec<String> {
    let text = formula::as_blocks(&printable(answer));
    let text = text.trim_end();
    if is_invisible(text) {
        return Vec::new();
    }
    if characters(text) <= limit {
        let whole = harmless(text, options);
        if characters(&whole) <= limit {
            return vec![whole];
        }
    }
    let mut parts = Vec::new();
    let mut rest = without_blank_lines(text).to_owned();
    let mut head = String::new();
    while !rest.is_empty() {
        let part = next_part(&head, &rest, limit, options);
        if !part.text.is_empty() {
            parts.push(part.text);
        }
        rest = shifted(&rest[part.used..], part.shift, part.within_line);
        head = part.next_head;
    }
    parts
}

/// `text` with its lines moved to the left by `shift` columns, as long as each of them is indented by
/// as many: what was inside a list goes on at the level of its own. `within_line`: the first of them
/// is the rest of one.
fn shifted(text: &str, shift: usize, within_line: bool) -> String {
    let mut shifting = shift > 0;
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let (indent, blank) = (indentation(line), line.trim().is_empty());
        let is_rest = number == 0 && within_line;
        shifting &= is_rest || blank || indent >= shift;
        let moved = shifting && !is_rest && indent >= shift;
        out.push_str(if moved { &line[shift..] } else { line });
    }
    out
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

struct Part {
    /// Empty if there was nothing but white space to take.
    text: String,
    /// How much of the rest it took, in bytes.
    used: usize,
    /// What the part after it begins with: the open fence, the quote's marker.
    next_head: String,
    /// By how many columns the lines of the rest are to be moved to the left.
    shift: usize,
    /// Whether it ends before its line does.
    within_line: bool,
}

/// The first part of `rest`, which goes on with what `head` opens.
fn next_part(head: &str, rest: &str, limit: usize, options: &ReplyOptions) -> Part {
    // With the beginning of what follows: it tells whether that is indented.
    let beyond = rest[char_offset(rest, limit + 1)..].trim_start();
    let window = rest.len() - beyond.len() + char_offset(beyond, 1);
    let full = head.to_owned() + rest;
    let whole = &full[..head.len() + window];
    let mut room = limit;
    let mut close = true;
    loop {
        let end = cut(whole, head.len(), room);
        let taken = whole[..end].trim_end();
        let mut text = taken.to_owned();
        if close {
            text += &closing(taken);
        }
        let text = harmless(&text, options);
        let over = characters(&text).saturating_sub(limit);
        if over == 0 {
            let blank = is_invisible(&whole[head.len()..end]);
            let text = if blank { String::new() } else { text };
            return continuation(&full, head.len(), end, limit, text);
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

/// The part `text`, which took `full` from `from` up to `end`, with where and how that goes on.
fn continuation(full: &str, from: usize, end: usize, limit: usize, text: String) -> Part {
    let spaces = |c: char| c != '\n' && c.is_whitespace();
    let mut after = full[end..].trim_start_matches(spaces);
    let within_line = !after.is_empty() && !after.starts_with('\n');
    let place = |after: &str| full.len() - after.len();
    let fences = Fences::of(full);
    let fence = if within_line {
        open_fence(&full[..end])
    } else {
        let next = after.strip_prefix('\n').unwrap_or(after);
        after = without_blank_lines(next);
        fences.open_at(place(next))
    };
    let heads = match &fence {
        Some(fence) if !within_line && fence.is_closed_by(place(after)) => {
            after = without_blank_lines(&after[first_line(after).len()..]);
            Vec::new()
        }
        Some(fence) => {
            let quote = if within_line { fence.quote() } else { "" };
            fence.openings().map(|opening| opening + quote).into()
        }
        None if within_line => {
            let line = full[..end].rsplit('\n').next().unwrap_or_default();
            vec![split_quote(line).0.to_owned()]
        }
        None => Vec::new(),
    };
    let in_fence = fence.filter(|_| !heads.is_empty());
    let next_head = heads
        .into_iter()
        .find(|head| characters(head) <= limit / 2)
        .unwrap_or_default();
    Part {
        text,
        used: place(after) - from,
        next_head,
        shift: match in_fence {
            Some(fence) => fence.indent(),
            None => indent_at(full, place(after), within_line),
        },
        within_line,
    }
}

/// By how much what follows `at` is indented, if it is not code. `within_line`: its next line.
fn indent_at(text: &str, at: usize, within_line: bool) -> usize {
    let line = if within_line {
        at + first_line(&text[at..]).len()
    } else {
        at
    };
    let next = text[line..].trim_start_matches('\n');
    let indent = indentation(next);
    let place = text.len() - next.len() + indent;
    let is_code = || {
        markdown::code(text)
            .iter()
            .any(|code| code.contains(&place))
    };
    if indent == 0 || is_code() { 0 } else { indent }
}

fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

fn without_blank_lines(mut text: &str) -> &str {
    while let Some((line, rest)) = text.split_once('\n')
        && line.trim().is_empty()
    {
        text = rest;
    }
    if text.trim().is_empty() { "" } else { text }
}

/// Where to end a part of at most `room` characters: after `from`, at the end of a paragraph, a
/// line, a sentence or a word, whichever is the first of these to fill a quarter of the room.
fn cut(text: &str, from: usize, room: usize) -> usize {
    let window = char_offset(text, room);
    if window == text.len() {
        return window;
    }
    let enough = from + (window - from) / 4;
    let ends = last_line_ends(text, from, window);
    let line = ends[3];
    if let Some(end) = ends.into_iter().flatten().find(|&end| end >= enough) {
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

/// The last ends, up to `window`, of a paragraph or of a code block as a whole and of any line: first
/// those before a line that is not indented, so that a list is split at its top level.
fn last_line_ends(text: &str, from: usize, window: usize) -> [Option<usize>; 4] {
    let mut ends = [None; 4];
    let fences = Fences::of(text);
    let mut start = 0;
    for line in text.split('\n') {
        let end = start + line.len();
        if end > window || end == text.len() {
            break;
        }
        let [was_open, is_open] = [start, end + 1].map(|at| fences.open_at(at).is_some());
        // A fence's opening line is not left behind alone.
        if end > from && !text[from..end].trim().is_empty() && (was_open || !is_open) {
            let following = without_blank_lines(&text[end + 1..]);
            let indented = !is_open && following.starts_with([' ', '\t']);
            ends[3] = Some(end);
            if !indented {
                ends[1] = Some(end);
            }
            let next = first_line(&text[end + 1..]);
            let apart = was_open || next.trim().is_empty() || fences.opens_at(end + 1);
            if !is_open && apart {
                ends[if indented { 2 } else { 0 }] = Some(end);
            }
        }
        start = end + 1;
    }
    ends
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
pub(super) fn extends(c: char) -> bool {
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
