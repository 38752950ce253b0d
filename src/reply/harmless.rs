//! What an answer may not do where it is shown: notify everybody, or load an image.

use super::ReplyOptions;
use super::fence::Scan;

/// The words that notify everybody when they follow an `@`, in any case.
const MASS_MENTIONS: [&str; 3] = ["all", "channel", "here"];

/// No letter, number or part of a name to the server, and invisible: `@` and what follows it become
/// two words.
const ZERO_WIDTH_SPACE: char = '\u{200B}';

/// `text` without mass mentions and, as `options` ask, images. Code is left as it is only where it
/// is certain that the server takes it for code.
pub fn harmless(text: &str, options: &ReplyOptions) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    let mut scan = Scan::default();
    let mut spans_certain = true;
    let mut images = Images {
        defined: options.allow_unsafe_links && text.contains("]:"),
        ..Images::default()
    };
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let is_code = scan.line(line.trim_end_matches('\n'));
        if is_code && scan.certain {
            safe.push_str(line);
        } else {
            // A code span ends with its paragraph.
            spans_certain = scan.certain && (spans_certain || line.trim().is_empty());
            if options.allow_unsafe_links {
                images.look(text, offset);
            }
            let last_image = images.last.saturating_sub(offset);
            push_harmless(line, &mut spans_certain, last_image, &mut safe);
        }
        offset += line.len();
    }
    safe
}

/// Up to where a `[` can begin an image's label: when in doubt, it does. In bytes of the text.
#[derive(Default)]
struct Images {
    /// Some label has an address of its own: any brackets may then be an image's.
    defined: bool,
    last: usize,
    /// The end of the paragraph that `last` was found in.
    known_to: usize,
}

impl Images {
    /// Looks through the paragraph at `offset`, each once: the work grows with the text, not faster.
    fn look(&mut self, text: &str, offset: usize) {
        if offset < self.known_to {
            return;
        }
        let paragraph = text[offset..].split("\n\n").next().unwrap_or_default();
        self.known_to = offset + paragraph.len() + 1;
        let ends = ["](", "]["].map(|end| paragraph.rfind(end).map(|at| offset + at));
        self.last = match self.defined {
            true => text.len(),
            false => ends.into_iter().flatten().max().unwrap_or(0),
        };
    }
}

/// One line for [`harmless`]. `certain` says whether a pair of backticks is a code span for sure: it
/// is until something before it in its paragraph may have taken the first of them. A `![` before
/// `last_image` may be an image.
fn push_harmless(line: &str, certain: &mut bool, last_image: usize, safe: &mut String) {
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
                let image = rest[run..].starts_with('[') && next < last_image;
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
