//! Code fences: which lines of a text are code, and how an open fence is closed and opened again.

/// Quote markers longer than this are not trusted: servers stop nesting at some depth.
const TRUSTED_QUOTE: usize = 16;

/// An open code fence.
#[derive(Clone, Copy)]
pub struct Fence<'a> {
    /// The quote's marker before it, such as `> `.
    pub quote: &'a str,
    /// Its first line after that, with indentation and info string.
    pub opening: &'a str,
    indent: usize,
    /// The backticks or tildes.
    marker: &'a str,
}

impl Fence<'_> {
    pub fn closing(&self) -> String {
        format!(
            "{}{}{}",
            self.quote,
            &self.opening[..self.indent],
            self.marker
        )
    }

    /// What stands in the fence on `line`, unless the quote that holds it has ended.
    pub fn content<'b>(&self, line: &'b str) -> Option<&'b str> {
        if self.quote.is_empty() {
            return Some(line);
        }
        let content = line.strip_prefix(self.quote.trim_end())?;
        Some(content.strip_prefix(' ').unwrap_or(content))
    }

    /// As the server sees it: the marker, then no more than its own kind.
    pub fn closed_by(&self, line: &str) -> bool {
        self.content(line).is_some_and(|content| {
            let marks = content.trim_start_matches(' ').strip_prefix(self.marker);
            let more = marks.map(|marks| marks.trim().trim_start_matches(&self.marker[..1]));
            indentation(content) <= 3 && more == Some("")
        })
    }
}

/// Follows code fences from line to line.
pub struct Scan<'a> {
    pub fence: Option<Fence<'a>>,
    /// Whether every reading of the lines agrees on what is code: a fence in a list ends with its
    /// item, and where the item ends depends on more than is looked at here.
    pub certain: bool,
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
    pub fn line(&mut self, line: &'a str) -> bool {
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

pub fn open_fence(text: &str) -> Option<Fence<'_>> {
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
pub fn fence_run(text: &str) -> usize {
    let run = |marker: char| text.len() - text.trim_start_matches(marker).len();
    let longest = run('`').max(run('~'));
    if longest >= 3 { longest } else { 0 }
}

/// A line's quote markers with their spaces, and what follows them.
pub fn split_quote(line: &str) -> (&str, &str) {
    let mut rest = line;
    while indentation(rest) <= 3
        && let Some(quoted) = rest.trim_start_matches(' ').strip_prefix('>')
    {
        rest = quoted.strip_prefix(' ').unwrap_or(quoted);
    }
    line.split_at(line.len() - rest.len())
}
