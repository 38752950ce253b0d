//! The blocks of a message: its paragraphs, code blocks and link definitions.

use std::ops::Range;

use super::Fence;
use super::links::{
    floor_boundary, is_space_char, joined, leading_digits, line_length, link_definition,
};

/// Deeper quotes and lists than this are text, as on current servers. It also bounds the work.
const MAX_NESTING: usize = 32;

/// What the blocks of a message come to.
#[derive(Default)]
pub(super) struct Document<'a> {
    message: &'a str,
    /// The blocks that the line at hand may continue, outermost first.
    open: Vec<Block>,
    /// The lines of each paragraph, without what quotes and lists put before them.
    pub(super) paragraphs: Vec<Vec<Range<usize>>>,
    /// The labels of all link definitions, as [`super::links::folded`].
    pub(super) labels: Vec<String>,
    /// The lines of code blocks, then the code spans.
    pub(super) code: Vec<Range<usize>>,
    pub(super) fences: Vec<Fence>,
    /// Where the line at hand begins.
    at: usize,
}

/// A block that the next line may continue.
enum Block {
    Quote,
    List,
    Item { indent: usize, empty: bool },
    Paragraph(Vec<Range<usize>>),
    Code,
    Fence { mark: char, length: usize },
}

/// What is left of a line.
#[derive(Clone)]
struct Line<'a> {
    text: &'a str,
    /// Where the message has `text`.
    at: usize,
    /// The columns of white space before `text` that no block has taken yet.
    indent: usize,
}

impl Line<'_> {
    fn skip(&mut self, bytes: usize) {
        self.text = &self.text[bytes..];
        self.at += bytes;
    }

    /// Moves white space from the text to the indentation. A tab always counts four.
    fn measure_indent(&mut self) {
        let rest = self.text.trim_start_matches([' ', '\t']);
        let blank = &self.text[..self.text.len() - rest.len()];
        self.indent += blank.len() + 3 * blank.matches('\t').count();
        self.skip(blank.len());
    }

    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// Whether it ends a fenced block that began with `length` of `mark`.
    fn closes_fence(&self, mark: char, length: usize) -> bool {
        let is_mark = |c| c == mark;
        let marks = self.text.chars().take_while(|c| is_mark(*c)).count();
        // Once the fence is long enough, more may follow, also after white space.
        self.indent <= 3 && marks >= length && self.text[length..].trim().chars().all(is_mark)
    }
}

impl<'a> Document<'a> {
    pub(super) fn read(message: &'a str) -> Document<'a> {
        let mut document = Document {
            message,
            ..Document::default()
        };
        while document.at < message.len() {
            let at = document.at;
            let length = line_length(&message[at..]);
            document.read_line(Line {
                text: &message[at..at + length],
                at,
                indent: 0,
            });
            document.at += length;
        }
        document.close(0);
        document
    }

    fn read_line(&mut self, mut line: Line) {
        line.measure_indent();
        let mut kept = 0;
        while kept < self.open.len() && self.open[kept].continues(&mut line) {
            line.measure_indent();
            kept += 1;
        }
        if self.begin_blocks(kept, &line) {
            return;
        }
        if !line.is_blank()
            && let Some(Block::Paragraph(lines)) = self.open.last_mut()
        {
            return lines.push(line.range());
        }
        self.close(kept);
        match self.open.last_mut() {
            Some(Block::Code) => self.code.push(line.range()),
            Some(Block::Fence { mark, length }) => {
                let closed = line.closes_fence(*mark, *length);
                self.code.push(line.range());
                if let Some(fence) = self.fences.last_mut() {
                    fence.end = line.range().end;
                    fence.closed = closed;
                }
                if closed {
                    self.open.pop();
                }
            }
            _ if line.is_blank() => {}
            _ => self.attach(kept, vec![Block::Paragraph(vec![line.range()])]),
        }
    }

    /// Opens the blocks that `line` begins inside the first `kept` open ones: whether there are any.
    fn begin_blocks(&mut self, kept: usize, line: &Line) -> bool {
        let inner = self.open[..kept].last();
        if matches!(inner, Some(Block::Code | Block::Fence { .. })) {
            return false;
        }
        let in_paragraph = matches!(self.open.last(), Some(Block::Paragraph(_)));
        let started = start_blocks(line.clone(), inner, in_paragraph, kept + 1);
        let Some(last) = started.last() else {
            return false;
        };
        let is_fence = matches!(last, Block::Fence { .. });
        if is_fence || matches!(last, Block::Code) {
            self.code.push(line.range());
        }
        self.attach(kept, started);
        if is_fence {
            let end = line.range().end;
            self.fences.push(Fence {
                opening: self.at..end,
                end,
                indent: self.indent(),
                closed: false,
            });
        }
        true
    }

    /// By how many columns the open list items indent a line, within the innermost quote.
    fn indent(&self) -> usize {
        let within = self.open.iter().rev();
        let within = within.take_while(|block| !matches!(block, Block::Quote));
        let indents = within.map(|block| match block {
            Block::Item { indent, .. } => *indent,
            _ => 0,
        });
        indents.sum()
    }

    /// Puts `blocks` into the innermost of the first `kept` open blocks that takes them.
    fn attach(&mut self, mut kept: usize, mut blocks: Vec<Block>) {
        while kept > 0 {
            match (&mut self.open[kept - 1], &blocks[0]) {
                (Block::Quote, _) => break,
                (Block::Item { empty, .. }, _) => {
                    *empty = false;
                    break;
                }
                // Another marker makes it another list, but with the same text.
                (Block::List, Block::List) => {
                    blocks.remove(0);
                    break;
                }
                _ => kept -= 1,
            }
        }
        self.close(kept);
        self.open.append(&mut blocks);
    }

    /// Closes all but the first `kept` open blocks.
    fn close(&mut self, kept: usize) {
        for block in self.open.split_off(kept) {
            if let Block::Paragraph(mut lines) = block {
                self.close_paragraph(&mut lines);
            }
        }
    }

    /// Takes a paragraph's link definitions and its text.
    fn close_paragraph(&mut self, mut lines: &mut [Range<usize>]) {
        let message = self.message;
        while let Some(first) = lines.first_mut() {
            // The server means to drop white space from the front, and drops as much from the end.
            let text = &message[first.clone()];
            let misplaced = text.len() - text.trim_start_matches(is_space_char).len();
            first.end = floor_boundary(message, first.end - misplaced);
            if !message[first.clone()].starts_with('[') {
                break;
            }
            let Some((label, mut length)) = link_definition(&joined(message, lines)) else {
                break;
            };
            self.labels.push(label);
            while let Some(line) = lines.first_mut()
                && length >= line.len()
            {
                length -= line.len();
                lines = &mut lines[1..];
            }
            if let Some(line) = lines.first_mut() {
                line.start += length;
            }
        }
        if let Some(last) = lines.last_mut() {
            let text = &message[last.clone()];
            last.end = last.start + text.trim_end_matches(is_space_char).len();
            self.paragraphs.push(lines.to_vec());
        }
    }
}

impl Block {
    /// Whether `line` goes on with this block; takes from it what belongs to the block's frame.
    fn continues(&self, line: &mut Line) -> bool {
        let blank = line.is_blank();
        match self {
            Block::Quote => {
                let goes_on = line.indent <= 3 && line.text.starts_with('>');
                if goes_on {
                    line.skip(1);
                    line.indent = 0;
                    line.measure_indent();
                    line.indent = line.indent.saturating_sub(1);
                }
                goes_on
            }
            Block::Paragraph(_) => !blank,
            Block::Fence { .. } => true,
            Block::Item { empty: true, .. } if blank => false,
            Block::List | Block::Item { .. } | Block::Code if blank => {
                line.indent = 0;
                true
            }
            Block::List => true,
            Block::Item { indent, .. } => take_indent(line, *indent),
            Block::Code => take_indent(line, 4),
        }
    }
}

fn take_indent(line: &mut Line, columns: usize) -> bool {
    let left = line.indent.checked_sub(columns);
    line.indent = left.unwrap_or(line.indent);
    left.is_some()
}

/// The blocks that `line` begins inside the block `inner`, outermost first. `depth` is how deep the
/// first would be.
fn start_blocks(
    mut line: Line,
    mut inner: Option<&Block>,
    mut in_paragraph: bool,
    mut depth: usize,
) -> Vec<Block> {
    let mut blocks = Vec::new();
    loop {
        if line.indent <= 3 && depth < MAX_NESTING && line.text.starts_with('>') {
            line.skip(if line.text.starts_with("> ") { 2 } else { 1 });
            line.indent = 0;
            line.measure_indent();
            blocks.push(Block::Quote);
        } else if depth < MAX_NESTING
            && let Some(indent) = start_item(&mut line, inner)
        {
            blocks.push(Block::List);
            blocks.push(Block::Item {
                indent,
                empty: line.is_blank(),
            });
        } else {
            if line.indent >= 4 && !in_paragraph && !line.is_blank() {
                blocks.push(Block::Code);
            } else if let Some(fence) = start_fence(line.text) {
                blocks.push(fence);
            } else if !blocks.is_empty() && !line.is_blank() {
                blocks.push(Block::Paragraph(vec![line.range()]));
            }
            return blocks;
        }
        (inner, in_paragraph) = (None, false);
        depth += 1;
    }
}

/// Takes a list item's marker from `line`, and gives the columns by which the item's further lines
/// are indented.
fn start_item(line: &mut Line, inner: Option<&Block>) -> Option<usize> {
    if line.indent > 3 && !matches!(inner, Some(Block::List)) {
        return None;
    }
    let number = &line.text[..leading_digits(line.text)];
    let sign = *line.text.as_bytes().get(number.len())?;
    let signs: &[u8] = if number.is_empty() { b"-+*" } else { b".)" };
    if number.len() > 9 || !signs.contains(&sign) {
        return None;
    }
    let mut content = line.clone();
    content.skip(number.len() + 1);
    content.indent = 0;
    let blank = content.is_blank();
    content.measure_indent();
    let interrupts = matches!(inner, Some(Block::Paragraph(_)));
    let counts_from_one = number.is_empty() || number.parse() == Ok(1);
    if (interrupts && (blank || !counts_from_one)) || (!blank && content.indent == 0) {
        return None;
    }
    let gap = if blank || content.indent >= 5 {
        1
    } else {
        content.indent
    };
    content.indent = content.indent.saturating_sub(gap);
    let indent = line.indent + number.len() + 1 + gap;
    *line = content;
    Some(indent)
}

fn start_fence(text: &str) -> Option<Block> {
    let mark = text.chars().next().filter(|c| "`~".contains(*c))?;
    let info = text.trim_start_matches(mark);
    let length = text.len() - info.len();
    (length >= 3 && !info.contains('`')).then_some(Block::Fence { mark, length })
}
