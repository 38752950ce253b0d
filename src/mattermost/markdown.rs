//! The text of a message as Mattermost's server reads its Markdown: what remains when code, link
//! targets and addresses are left out. Neither a full CommonMark nor the clients' reading: headings,
//! rules, HTML and emphasis are plain text here, and the server's oddities are kept.

use std::ops::Range;

/// Deeper quotes and lists than this are text, as on current servers. It also bounds the work.
const MAX_NESTING: usize = 32;

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

/// A character of the text.
pub(crate) struct Letter {
    pub char: char,
    /// Where the message has it, in bytes: more than the character if it is escaped or a reference.
    pub source: Range<usize>,
    /// Whether the server's present versions begin a word here at the latest. Older ones do not.
    pub cut: bool,
    /// Whether the server reads a piece of text of its own from here; inside links these stay apart.
    begins_piece: bool,
}

/// The text of `message`. Where the server sees something else than text (a block's or a link's end,
/// a line break, code, an emoji) stands a line feed.
pub(crate) fn text(message: &str) -> Vec<Letter> {
    read(message).0
}

/// What the server takes for code in `message`: spans, and the lines of blocks, fences included. In
/// bytes and in order.
pub(crate) fn code(message: &str) -> Vec<Range<usize>> {
    let mut code = read(message).1;
    code.sort_by_key(|range| range.start);
    code
}

/// The fenced code blocks of `message`, in order.
pub(crate) fn fences(message: &str) -> Vec<Fence> {
    Document::read(message).fences
}

/// A fenced code block.
pub(crate) struct Fence {
    /// Its first line, from the beginning of that to the next, in bytes.
    pub opening: Range<usize>,
    /// Where the line after its last begins.
    pub end: usize,
    /// By how many columns the list items that it stands in indent its lines, within the innermost
    /// quote.
    pub indent: usize,
    /// Its last line closes it; else it ends with what it stands in, or with the message.
    pub closed: bool,
}

fn read(message: &str) -> (Vec<Letter>, Vec<Range<usize>>) {
    let mut document = Document::read(message);
    let mut letters = Vec::with_capacity(message.len());
    for lines in &document.paragraphs {
        let code = &mut document.code;
        Paragraph::new(message, lines, &document.labels, &mut letters, code).read();
    }
    (letters, document.code)
}

/// What the blocks of a message come to.
#[derive(Default)]
struct Document {
    /// The lines of each paragraph, without what quotes and lists put before them.
    paragraphs: Vec<Vec<Range<usize>>>,
    /// The labels of all link definitions, as [`folded`].
    labels: Vec<String>,
    /// The lines of code blocks, then the code spans.
    code: Vec<Range<usize>>,
    fences: Vec<Fence>,
    /// Where the line at hand begins.
    at: usize,
}

/// A block that the next line may continue.
enum Block {
    Quote,
    List,
    Item {
        indent: usize,
        empty: bool,
    },
    Paragraph(Vec<Range<usize>>),
    Code,
    Fence {
        mark: char,
        length: usize,
        closed: bool,
    },
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
}

impl Document {
    fn read(message: &str) -> Document {
        let mut document = Document::default();
        let mut open: Vec<Block> = Vec::new();
        while document.at < message.len() {
            let at = document.at;
            let length = line_length(&message[at..]);
            let mut line = Line {
                text: &message[at..at + length],
                at,
                indent: 0,
            };
            document.read_line(message, &mut open, &mut line);
            document.at += length;
        }
        document.close(message, &mut open, 0);
        document
    }

    fn read_line(&mut self, message: &str, open: &mut Vec<Block>, line: &mut Line) {
        line.measure_indent();
        let mut kept = 0;
        while kept < open.len() && open[kept].continues(line) {
            line.measure_indent();
            kept += 1;
        }
        let in_paragraph = matches!(open.last(), Some(Block::Paragraph(_)));
        let inner = open[..kept].last();
        if !matches!(inner, Some(Block::Code | Block::Fence { .. })) {
            let started = start_blocks(line.clone(), inner, in_paragraph, kept + 1);
            if !started.is_empty() {
                let end = line.range().end;
                if let Some(Block::Code | Block::Fence { .. }) = started.last() {
                    self.code.push(line.range());
                }
                let opening = matches!(started.last(), Some(Block::Fence { .. }));
                self.attach(message, open, kept, started);
                if opening {
                    let within = open.iter().rev();
                    let indent = within
                        .take_while(|block| !matches!(block, Block::Quote))
                        .map(|block| match block {
                            Block::Item { indent, .. } => *indent,
                            _ => 0,
                        })
                        .sum();
                    self.fences.push(Fence {
                        opening: self.at..end,
                        end,
                        indent,
                        closed: false,
                    });
                }
                return;
            }
        }
        if !line.is_blank()
            && let Some(Block::Paragraph(lines)) = open.last_mut()
        {
            return lines.push(line.range());
        }
        self.close(message, open, kept);
        if let Some(Block::Code | Block::Fence { .. }) = open.last() {
            self.code.push(line.range());
        }
        match open.last_mut() {
            Some(Block::Code) => {}
            Some(Block::Fence {
                mark,
                length,
                closed,
            }) => {
                let is_mark = |c| c == *mark;
                let marks = line.text.chars().take_while(|c| is_mark(*c)).count();
                // Once the fence is long enough, more may follow, also after white space.
                *closed = line.indent <= 3
                    && marks >= *length
                    && line.text[*length..].trim().chars().all(is_mark);
                if let Some(fence) = self.fences.last_mut() {
                    fence.end = line.range().end;
                    fence.closed = *closed;
                }
            }
            _ if line.is_blank() => {}
            _ => {
                let paragraph = Block::Paragraph(vec![line.range()]);
                self.attach(message, open, kept, vec![paragraph]);
            }
        }
    }

    /// Puts `blocks` into the innermost of the first `kept` open blocks that takes them.
    fn attach(
        &mut self,
        message: &str,
        open: &mut Vec<Block>,
        mut kept: usize,
        mut blocks: Vec<Block>,
    ) {
        while kept > 0 {
            match (&mut open[kept - 1], &blocks[0]) {
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
        self.close(message, open, kept);
        open.append(&mut blocks);
    }

    /// Closes all but the first `kept` open blocks. A paragraph gives its link definitions and its
    /// text.
    fn close(&mut self, message: &str, open: &mut Vec<Block>, kept: usize) {
        for block in open.drain(kept..) {
            let Block::Paragraph(lines) = block else {
                continue;
            };
            let mut lines = &mut lines.clone()[..];
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
            Block::Fence { closed, .. } => !closed,
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
    (length >= 3 && !info.contains('`')).then_some(Block::Fence {
        mark,
        length,
        closed: false,
    })
}

/// Reads one paragraph's text.
struct Paragraph<'a> {
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
    fn new(
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

    fn read(mut self) {
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

/// The label and the length of a link definition at the start of `raw`, its line's end included.
fn link_definition(raw: &str) -> Option<(String, usize)> {
    let bytes = raw.as_bytes();
    let label = label_end(bytes, 0)?;
    let target = match bytes.get(label)? {
        b':' => skip_space(bytes, label + 1),
        _ => return None,
    };
    if target == bytes.len() {
        return None;
    }
    let target = destination_end(bytes, target);
    let title = skip_space(bytes, target);
    let end = (title > target)
        .then(|| title_end(bytes, title))
        .flatten()
        .and_then(|title| end_of_blank_line(raw, title))
        .or_else(|| end_of_blank_line(raw, target))?;
    Some((folded(&raw[1..label - 1]).collect(), end))
}

/// The end of a link's target and title in parentheses. An image may have its size in between.
fn target_end(raw: &[u8], at: usize, image: bool) -> Option<usize> {
    if raw.get(at) != Some(&b'(') {
        return None;
    }
    let mut at = skip_space(raw, at + 1);
    if *raw.get(at)? != b')' {
        at = destination_end(raw, at);
        let mut next = skip_space(raw, at);
        if image && next > at && raw.get(next) == Some(&b'=') {
            at = image_size_end(raw, next)?;
            next = skip_space(raw, at);
        }
        if next > at && b"\"'(".contains(raw.get(next)?) {
            next = skip_space(raw, title_end(raw, next)?);
        }
        at = next;
    }
    (raw.get(at) == Some(&b')')).then_some(at + 1)
}

/// The end of a link's target: in angle brackets, or up to white space or an unopened `)`.
fn destination_end(raw: &[u8], start: usize) -> usize {
    if raw[start] == b'<' {
        let ends = |byte: u8| byte == b'<' || byte == b'>' || is_space(byte);
        let end = find_unescaped(raw, start + 1, ends);
        if raw.get(end) == Some(&b'>') {
            return end + 1;
        }
    }
    let mut open = 0;
    find_unescaped(raw, start, |byte| {
        match byte {
            b'(' => open += 1,
            b')' if open == 0 => return true,
            b')' => open -= 1,
            _ => {}
        }
        is_space(byte)
    })
}

/// The end of a link's title in quotes or parentheses.
fn title_end(raw: &[u8], start: usize) -> Option<usize> {
    let closing = match raw.get(start)? {
        b'(' => b')',
        quote @ (b'"' | b'\'') => *quote,
        _ => return None,
    };
    let end = find_unescaped(raw, start + 1, |byte| byte == closing);
    (end < raw.len()).then_some(end + 1)
}

/// The end of a label in brackets, of fewer than 1000 characters.
fn label_end(raw: &[u8], start: usize) -> Option<usize> {
    if raw.get(start) != Some(&b'[') {
        return None;
    }
    let end = find_unescaped(raw, start + 1, |byte| byte == b'[' || byte == b']');
    let continues_char = |byte: &&u8| **byte & 0xc0 == 0x80;
    let characters = end - start - raw[start..end].iter().filter(continues_char).count();
    (raw.get(end) == Some(&b']') && characters < 1000).then_some(end + 1)
}

/// The end of an image's size: `=100x200`, `=100`, `=x200`.
fn image_size_end(raw: &[u8], start: usize) -> Option<usize> {
    let digits_end = |mut at: usize| {
        while raw.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let ends = |at: usize| {
        raw.get(at)
            .is_some_and(|byte| is_space(*byte) || *byte == b')')
    };
    let width = digits_end(start + 1);
    if ends(width) {
        return Some(width);
    }
    if !matches!(raw.get(width)?, b'x' | b'X') {
        return None;
    }
    let height = digits_end(width + 1);
    (ends(height) && height - start > 2).then_some(height)
}

/// The first byte from `at` on that is not escaped and `wanted`, or the end. An escaping backslash
/// is itself asked about.
fn find_unescaped(raw: &[u8], mut at: usize, mut wanted: impl FnMut(u8) -> bool) -> usize {
    while let Some(byte) = raw.get(at) {
        if wanted(*byte) {
            break;
        }
        let escapes = *byte == b'\\' && raw.get(at + 1).is_some_and(u8::is_ascii_punctuation);
        at += if escapes { 2 } else { 1 };
    }
    at
}

/// The start of the line after `at`, if nothing but white space lies before it.
fn end_of_blank_line(raw: &str, at: usize) -> Option<usize> {
    let end = at + line_length(&raw[at..]);
    raw[at..end].chars().all(is_space_char).then_some(end)
}

/// The length of the first line of `text` with its end: `\n`, `\r\n` or `\r`.
fn line_length(text: &str) -> usize {
    match text.find(['\r', '\n']) {
        None => text.len(),
        Some(end) if text[end..].starts_with("\r\n") => end + 2,
        Some(end) => end + 1,
    }
}

/// A label as labels are compared: without regard to case and to how white space is written. Lazy,
/// as most labels differ early.
fn folded(label: &str) -> impl Iterator<Item = char> {
    let mut was_space = false;
    label.trim().chars().filter_map(move |c| {
        let repeats = was_space && c.is_whitespace();
        was_space = c.is_whitespace();
        let folded = if was_space { ' ' } else { lower(c) };
        (!repeats).then_some(folded)
    })
}

/// The lower case of `c` as one character.
pub(crate) fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

fn joined(message: &str, lines: &[Range<usize>]) -> String {
    lines.iter().map(|line| &message[line.clone()]).collect()
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn skip_space(raw: &[u8], at: usize) -> usize {
    at + raw[at..].iter().take_while(|byte| is_space(**byte)).count()
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The white space of Markdown: space, and tab to carriage return.
fn is_space(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

fn is_space_char(c: char) -> bool {
    c.is_ascii() && is_space(c as u8)
}
