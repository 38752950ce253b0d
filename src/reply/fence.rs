//! Code fences: which lines of a text are code, and how an open fence is closed and opened again.

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
#[derive(Default)]
pub struct Scan<'a> {
    pub fence: Option<Fence<'a>>,
}

impl<'a> Scan<'a> {
    /// Takes the next line.
    pub fn line(&mut self, line: &'a str) {
        if let Some(fence) = self.fence {
            if fence.content(line).is_some() {
                if fence.closed_by(line) {
                    self.fence = None;
                }
                return;
            }
            self.fence = None;
        }
        let (quote, opening) = split_quote(line);
        let indent = indentation(opening);
        let run = fence_run(&opening[indent..]);
        if run > 0 && indent <= 3 && !opening[indent + run..].contains('`') {
            self.fence = Some(Fence {
                quote,
                opening,
                indent,
                marker: &opening[indent..indent + run],
            });
        }
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
