//! What a worker tells the loop: datagrams of at most 4 KiB, and the answer that they add up to.
//! A datagram is a mark, the worker's id, a number, a kind and the rest.

use log::Level;
use serde::{Deserialize, Serialize};

use crate::json;
use crate::provider::{Answer, Class, Fact};

/// Bytes of the largest report.
pub(crate) const MAX: usize = 4096;
/// Whatever else is written to the socket, such as a stray print, does not begin with this.
const MAGIC: &[u8] = b"prx\x01";
/// The mark, the worker's id, the number and the kind.
const HEADER: usize = 4 + 8 + 4 + 1;
/// Bytes that a report has for what it tells.
pub(crate) const ROOM: usize = MAX - HEADER;
/// Bytes of the longest answer that is kept; what is longer was not written by this program.
const LONGEST: usize = 4 << 20;

/// One report.
#[derive(Clone, Debug, PartialEq)]
pub enum Report<'a> {
    /// The next piece of the answer, at most `ROOM` bytes.
    Text(&'a str),
    /// The same of an answer that is whole: the end follows at once, so there is nothing to show before.
    Rest(&'a str),
    /// All text so far is void.
    StartOver,
    /// Something about the model's server that later workers should know.
    Learned(Fact),
    /// A line for the log. What does not fit is cut off.
    Line(Level, &'a str),
    /// The answer is complete.
    Done(Done),
    /// There is no answer.
    Failed(Failure),
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Bytes of all its text.
    pub bytes: usize,
    /// Without its text, which went before.
    pub answer: Answer,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: Class,
    /// The sentence that takes the answer's place in the channel.
    pub person: String,
    /// The line for the log.
    pub line: String,
}

/// `report` as a datagram. `number`: how many texts went before since the answer began or began anew.
/// `None`: it does not fit, which happens only to names without end.
pub fn encode(worker: u64, number: u32, report: &Report) -> Option<Vec<u8>> {
    let (kind, rest) = match report {
        Report::Text(text) => (b't', text.as_bytes().to_vec()),
        Report::Rest(text) => (b'r', text.as_bytes().to_vec()),
        Report::StartOver => (b's', Vec::new()),
        Report::Learned(fact) => (b'l', serde_json::to_vec(fact).ok()?),
        Report::Line(level, line) => {
            let line = beginning(line, ROOM - 1);
            (b'n', [&[*level as u8], line.as_bytes()].concat())
        }
        Report::Done(done) => (b'd', serde_json::to_vec(done).ok()?),
        Report::Failed(failure) => (b'f', serde_json::to_vec(failure).ok()?),
    };
    let id = worker.to_le_bytes();
    let datagram = [MAGIC, &id, &number.to_le_bytes(), &[kind], &rest].concat();
    (datagram.len() <= MAX).then_some(datagram)
}

/// The worker, the number and the report in `datagram`; `None` for what no worker sends.
pub(crate) fn decode(datagram: &[u8]) -> Option<(u64, u32, Report<'_>)> {
    if datagram.len() > MAX {
        return None;
    }
    let rest = datagram.strip_prefix(MAGIC)?;
    let (worker, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let report = match kind {
        b't' => Report::Text(str::from_utf8(rest).ok()?),
        b'r' => Report::Rest(str::from_utf8(rest).ok()?),
        b's' if rest.is_empty() => Report::StartOver,
        b'l' => Report::Learned(json::parse_slice(rest).ok()?),
        b'n' => {
            let (level, line) = rest.split_first()?;
            let level = Level::iter().find(|known| *known as u8 == *level)?;
            Report::Line(level, str::from_utf8(line).ok()?)
        }
        b'd' => Report::Done(json::parse_slice(rest).ok()?),
        b'f' => Report::Failed(json::parse_slice(rest).ok()?),
        _ => return None,
    };
    Some((
        u64::from_le_bytes(*worker),
        u32::from_le_bytes(*number),
        report,
    ))
}

/// What became of a worker. After all of these but `Grew` there is no such worker any more.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// There is more text, or other text.
    Grew,
    /// It made the answer.
    Done(Answer),
    /// There is no answer.
    Failed(Failure),
    /// It ended without an answer: how (`signal 9`), and whether the question may have been the cause;
    /// somebody who stops processes in good order is none.
    Died(String, bool),
    /// It was stopped because its time was over.
    TimedOut,
}

/// The answer as far as one worker's reports have told it.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    text: String,
    texts: u32,
    torn: bool,
    end: Option<News>,
}

impl Transcript {
    /// Takes a report in; true: the text changed, and the end may be far. What comes after the end
    /// counts for nothing.
    pub(crate) fn take(&mut self, number: u32, report: Report) -> bool {
        if self.end.is_some() {
            return false;
        }
        let has_more = matches!(report, Report::Text(_));
        match report {
            Report::Text(piece) | Report::Rest(piece) => {
                self.torn |= number != self.texts || self.text.len() + piece.len() > LONGEST;
                if !self.torn {
                    self.text.push_str(piece);
                    self.texts += 1;
                }
                return has_more && !self.torn;
            }
            Report::StartOver => {
                *self = Transcript::default();
                return true;
            }
            Report::Done(done) => {
                // Else a part of the text is missing, or was never sent by this program.
                let adds_up = number == self.texts && done.bytes == self.text.len();
                self.end = Some(if adds_up && !self.torn {
                    News::Done(Answer {
                        text: std::mem::take(&mut self.text),
                        ..done.answer
                    })
                } else {
                    News::Died("its reports did not add up".into(), true)
                });
            }
            Report::Failed(failure) => self.end = Some(News::Failed(failure)),
            Report::Learned(_) | Report::Line(..) => {}
        }
        false
    }

    /// The answer's text so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The end, if it was told. Once.
    pub(crate) fn end(&mut self) -> Option<News> {
        self.end.take()
    }
}

/// The beginning of `text`, at most `most` bytes of it.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The beginning of `text` that takes at most `most` bytes as a JSON string.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let mut left = most;
    let end = text.char_indices().find(|(_, character)| {
        let length = match character {
            '"' | '\\' => 2,
            '\0'..' ' => 6,
            character => character.len_utf8(),
        };
        let fits = length <= left;
        left = left.saturating_sub(length);
        !fits
    });
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::FactKind;

    fn done(bytes: usize) -> Report<'static> {
        Report::Done(Done {
            bytes,
            answer: Answer {
                cut: true,
                by: "echo".into(),
                tokens: Some((3, 4)),
                ..Answer::default()
            },
        })
    }

    fn failure() -> Failure {
        Failure {
            class: Class::TooLong,
            person: "Too long. \"So\" \u{1f600}".into(),
            line: "server: HTTP 400".into(),
        }
    }

    fn fact(base: &str) -> Fact {
        Fact {
            base: base.into(),
            model: "m".into(),
            kind: FactKind::NoStream,
        }
    }

    #[test]
    fn every_report_arrives_as_it_was_sent() {
        let most = "ü".repeat(ROOM / 2);
        for report in [
            Report::Text("Hello, wörld"),
            Report::Text(""),
            Report::Text(&most),
            Report::Rest(&most),
            Report::StartOver,
            Report::Learned(fact("http://h")),
            Report::Line(Level::Warn, "odd"),
            Report::Line(Level::Debug, ""),
            done(7),
            Report::Failed(failure()),
        ] {
            let datagram = encode(u64::MAX - 1, 70_000, &report).unwrap();
            assert!(datagram.len() <= MAX);
            assert_eq!(decode(&datagram), Some((u64::MAX - 1, 70_000, report)));
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_or_not_sent() {
        let long = "ü".repeat(MAX);
        let datagram = encode(1, 0, &Report::Line(Level::Info, &long)).unwrap();
        let Some((_, _, Report::Line(_, line))) = decode(&datagram) else {
            panic!("no line");
        };
        assert!(line.len() > ROOM - 4 && long.starts_with(line));
        assert_eq!(encode(1, 0, &Report::Text(&long)), None);
        assert_eq!(encode(1, 0, &Report::Learned(fact(&long))), None);
        for text in [&long, &"\"".repeat(MAX), &"\u{1}".repeat(MAX)] {
            let cut = cut(text, 1000);
            let json = serde_json::to_string(cut).unwrap();
            assert!((995..=1002).contains(&json.len()), "{}", json.len());
        }
        assert_eq!(cut("short", 5), "short");
    }

    #[test]
    fn what_no_worker_sends_is_no_report() {
        let good = encode(5, 0, &Report::Text("a")).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let (mut large, kind) = (good.clone(), HEADER - 1);
        large.resize(MAX + 1, b'a');
        for (what, datagram) in [
            ("nothing", Vec::new()),
            ("a stray print", b"debug: here\n".to_vec()),
            ("the mark alone", MAGIC.to_vec()),
            ("a header without a kind", good[..kind].to_vec()),
            ("another mark", with(3, 2)),
            ("an unknown kind", with(kind, b'x')),
            ("no UTF-8", with(HEADER, 0xff)),
            ("a start over with more", with(kind, b's')),
            (
                "a line without a level",
                good[..HEADER]
                    .iter()
                    .map(|b| if *b == b't' { b'n' } else { *b })
                    .collect(),
            ),
            ("a line of no level", with(kind, b'n')),
            ("an end that is no JSON", with(kind, b'd')),
            ("a failure that is no JSON", with(kind, b'f')),
            ("a fact that is no JSON", with(kind, b'l')),
            ("too many bytes", large),
        ] {
            assert_eq!(decode(&datagram), None, "{what}");
        }
        let end = encode(5, 0, &done(1)).unwrap();
        assert_eq!(decode(&end[..end.len() - 1]), None, "cut off");
    }

    /// What a worker sends, in short: `t0:text`, `s`, `d2:5` (two texts, five bytes), `f`.
    fn played(reports: &str) -> (Option<News>, String) {
        let mut transcript = Transcript::default();
        for report in reports.split_whitespace() {
            let (number, rest) = report[1..].split_once(':').unwrap_or(("0", ""));
            let number = number.parse().unwrap();
            transcript.take(
                number,
                match &report[..1] {
                    "t" => Report::Text(rest),
                    "r" => Report::Rest(rest),
                    "s" => Report::StartOver,
                    "d" => done(rest.parse().unwrap()),
                    _ => Report::Failed(failure()),
                },
            );
        }
        let text = transcript.text().to_owned();
        (transcript.end(), text)
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        for (reports, expected) in [
            ("t0:Hel t1:lo d2:5", "Hello"),
            ("t0:Hel r1:l r2:o d3:5", "Hello"),
            ("t0:Hel r2:lo d2:5", "torn"),
            ("d0:0", ""),
            ("t0:wrong s t0:right d1:5", "right"),
            ("t0:wrong s d0:0", ""),
            // A text is missing, at the beginning, in the middle, at the end.
            ("t1:lo d2:5", "torn"),
            ("t0:H t2:o d3:3", "torn"),
            ("t0:Hel d2:5", "torn"),
            // The sums are wrong.
            ("t0:Hel d1:5", "torn"),
            ("t0:Hel d2:3", "torn"),
            // A text came twice, or from before a start over.
            ("t0:a t0:a d1:1", "torn"),
            ("t0:a t1:b s t2:c d3:3", "torn"),
            ("t1:a s t0:b d1:1", "b"),
            ("t0:a f", "failed"),
            ("t0:a f t1:b d2:2", "failed"),
            ("t0:a d1:1 t1:b s d0:0", "a"),
            ("t0:a", "nothing"),
        ] {
            let found = match played(reports).0 {
                Some(News::Done(answer)) => {
                    assert!(answer.cut && answer.by == "echo" && answer.tokens == Some((3, 4)));
                    answer.text
                }
                Some(News::Died(_, true)) => "torn".into(),
                Some(News::Failed(end)) => {
                    assert_eq!(end, failure());
                    "failed".into()
                }
                other => other.map_or("nothing".into(), |news| format!("{news:?}")),
            };
            assert_eq!(found, expected, "{reports}");
        }
        assert_eq!(played("t0:so t1:far").1, "sofar");
        assert_eq!(played("t0:so r1:far").1, "sofar");
        assert_eq!(played("t0:so s t0:far").1, "far");
    }

    #[test]
    fn what_the_end_follows_at_once_is_no_news() {
        let mut transcript = Transcript::default();
        assert!(transcript.take(0, Report::Text("a")));
        assert!(!transcript.take(1, Report::Rest("b")));
        assert!(!transcript.take(2, done(2)));
    }

    #[test]
    fn a_text_without_end_is_no_answer() {
        let piece = "a".repeat(ROOM);
        let mut transcript = Transcript::default();
        for number in 0..=(LONGEST / ROOM) as u32 {
            transcript.take(number, Report::Text(&piece));
        }
        assert!(transcript.text().len() <= LONGEST);
        transcript.take(transcript.texts, done(transcript.text().len()));
        assert!(matches!(transcript.end(), Some(News::Died(..))));
    }
}
