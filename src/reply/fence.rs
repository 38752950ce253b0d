//! Code fences: where a text has them, and how an open one is closed and opened again.

use crate::mattermost::markdown;

/// A text and its fences, as the server reads them.
pub(super) struct Fences<'a> {
    text: &'a str,
    fences: Vec<markdown::Fence>,
}

impl<'a> Fences<'a> {
    pub(super) fn of(text: &'a str) -> Fences<'a> {
        Fences {
            text,
            fences: markdown::fences(text),
        }
    }

    /// The fence that is open where the line at `at` begins, or at the text's end.
    pub(super) fn open_at(&self, at: usize) -> Option<Fence<'a>> {
        let fence = self.fences.iter().find(|fence| {
            let opened = fence.opening.end <= at;
            opened && (at < fence.end || at == self.text.len() && fence.end == at && !fence.closed)
        })?;
        let opening = self.text[fence.opening.clone()].trim_end_matches('\n');
        let (prefix, opening) = opening.split_at(opening.find(['`', '~'])?);
        let marks = fence_run(opening);
        Some(Fence {
            prefix,
            list_indent: fence.indent,
            opening,
            marker: &opening[..marks],
            closing_line: fence.closed.then(|| {
                let lines = self.text[..fence.end].trim_end_matches('\n');
                lines.rfind('\n').map_or(0, |line_feed| line_feed + 1)
            }),
        })
    }

    /// Whether the line at `at` opens a fence.
    pub(super) fn opens_at(&self, at: usize) -> bool {
        self.fences.iter().any(|fence| fence.opening.start == at)
    }
}

/// An open code fence.
pub(super) struct Fence<'a> {
    /// What its first line has before it: a quote's or a list item's marker, indentation.
    prefix: &'a str,
    /// By how many columns the list items that it stands in indent its lines.
    list_indent: usize,
    /// The rest of that line: the marker and an info string.
    opening: &'a str,
    /// The backticks or tildes.
    marker: &'a str,
    /// Where its last line begins, if that closes it.
    closing_line: Option<usize>,
}

impl Fence<'_> {
    /// The line that closes it.
    pub(super) fn closing(&self) -> String {
        let quote = self.prefix.rfind('>').map_or(0, |mark| mark + 1);
        let (quote, indent) = self.prefix.split_at(quote);
        let mut line: String = quote
            .chars()
            .map(|c| if c == '>' { c } else { ' ' })
            .collect();
        let gap = usize::from(!quote.is_empty());
        // Where it closes, it is indented by three columns at most.
        let own = indent
            .chars()
            .count()
            .saturating_sub(gap + self.list_indent);
        let own = if own > 3 { 0 } else { own };
        line += &" ".repeat(gap + self.list_indent + own);
        line + self.marker
    }

    /// Whether the line at `at` closes it.
    pub(super) fn is_closed_by(&self, at: usize) -> bool {
        self.closing_line == Some(at)
    }

    /// By how many columns its lines are indented. Opened again it is not.
    pub(super) fn indent(&self) -> usize {
        if self.quote().is_empty() {
            self.prefix.chars().count()
        } else {
            0
        }
    }

    /// What each of its lines begins with when it is opened again: a quote goes on as one.
    pub(super) fn quote(&self) -> &str {
        if self.prefix.contains('>') {
            self.prefix
        } else {
            ""
        }
    }

    /// The lines that open it again, the second without its info string.
    pub(super) fn openings(&self) -> [String; 2] {
        [self.opening, self.marker].map(|opening| format!("{}{opening}\n", self.quote()))
    }
}

/// The fence that `text` leaves open.
pub(super) fn open_fence(text: &str) -> Option<Fence<'_>> {
    Fences::of(text).open_at(text.len())
}

/// In spaces: a tab is none.
fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The number of backticks or tildes that `text` begins with, if they can be a fence, else 0.
pub(super) fn fence_run(text: &str) -> usize {
    let run = |marker: char| text.len() - text.trim_start_matches(marker).len();
    let longest = run('`').max(run('~'));
    if longest >= 3 { longest } else { 0 }
}

/// A line's quote markers with their spaces, and what follows them.
pub(super) fn split_quote(line: &str) -> (&str, &str) {
    let mut rest = line;
    while indentation(rest) <= 3
        && let Some(quoted) = rest.trim_start_matches(' ').strip_prefix('>')
    {
        rest = quoted.strip_prefix(' ').unwrap_or(quoted);
    }
    line.split_at(line.len() - rest.len())
}
