//! A text for the model that is cut in its middle, and says so.

use super::text::size;

/// A text of which something may be left out after its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// All of the text, if nothing is left out.
    pub(super) start: String,
    /// In bytes.
    pub(super) left_out: u64,
    pub(super) end: String,
}

impl Excerpt {
    /// A text of which nothing is left out.
    pub(super) fn whole(text: String) -> Excerpt {
        Excerpt {
            start: text,
            ..Excerpt::default()
        }
    }

    /// In characters.
    pub(super) fn length(&self) -> usize {
        self.start.chars().count() + self.end.chars().count()
    }

    /// At most `room` characters of it, half from its start and half from its end, at the ends of
    /// lines where they are near.
    pub(super) fn cut(self, room: usize) -> Excerpt {
        if self.length() <= room {
            return self;
        }
        let (start, rest) = if self.left_out == 0 {
            let start = first(&self.start, room / 2);
            (start, &self.start[start.len()..])
        } else {
            // What one half does not need is the other's.
            let (starts, ends) = (self.start.chars().count(), self.end.chars().count());
            let half = (room / 2).max(room.saturating_sub(ends)).min(starts);
            (first(&self.start, half), self.end.as_str())
        };
        let end = last(rest, room - start.chars().count());
        let more = self.start.len() - start.len() + self.end.len() - end.len();
        Excerpt {
            start: start.to_owned(),
            left_out: self.left_out + more as u64,
            end: end.to_owned(),
        }
    }

    /// As the model is told it.
    pub(super) fn told(&self) -> String {
        if self.left_out == 0 {
            return self.start.trim_end().to_owned();
        }
        let (start, end) = (self.start.trim_end(), self.end.trim_end());
        let size = size(self.left_out);
        format!("{start}\n[… {size} are left out here …]\n{end}")
            .trim()
            .to_owned()
    }
}

/// The first `room` characters of `text`, or up to the end of the last line in them if that is near.
fn first(text: &str, room: usize) -> &str {
    let head = match text.char_indices().nth(room) {
        Some((end, _)) => &text[..end],
        None => return text,
    };
    let line_end = head.rfind('\n').map_or(0, |newline| newline + 1);
    &head[..if line_end > head.len() / 4 * 3 {
        line_end
    } else {
        head.len()
    }]
}

/// The last `room` characters of `text`, or from the first line on that begins in them if it is near.
fn last(text: &str, room: usize) -> &str {
    if room == 0 {
        return "";
    }
    let tail = match text.char_indices().nth_back(room - 1) {
        Some((start, _)) => &text[start..],
        None => return text,
    };
    let line = tail.find('\n').map_or(tail.len(), |newline| newline + 1);
    &tail[if line < tail.len() / 4 { line } else { 0 }..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_shows_its_beginning_its_end_and_what_is_missing() {
        let text = |start: &str, left_out, end: &str| Excerpt {
            start: start.into(),
            left_out,
            end: end.into(),
        };
        let lines: String = (0..100).map(|line| format!("line {line:02}\n")).collect();
        for (what, whole, room, expected) in [
            ("it fits", text("short", 0, ""), 5, text("short", 0, "")),
            (
                "one line",
                text("0123456789", 0, ""),
                6,
                text("012", 4, "789"),
            ),
            (
                "letters of several bytes",
                text("ääää", 0, ""),
                2,
                text("ä", 4, "ä"),
            ),
            ("no room", text("0123", 0, ""), 0, text("", 4, "")),
            (
                "read in part",
                text("aaaa", 100, "zzzz"),
                4,
                text("aa", 104, "zz"),
            ),
            (
                "an empty start",
                text("", 100, "zzzz"),
                3,
                text("", 101, "zzz"),
            ),
            (
                "an empty end",
                text("aaaa", 100, ""),
                3,
                text("aaa", 101, ""),
            ),
        ] {
            assert_eq!(whole.cut(room), expected, "{what}");
        }
        let told = text(&lines, 0, "").cut(50).told();
        let expected = "line 00\nline 01\nline 02\n[… 752 bytes are left out here …]\nline 97\nline 98\nline 99";
        assert_eq!(told, expected);
    }
}
