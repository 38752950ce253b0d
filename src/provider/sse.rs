//! Bytes as they arrive → server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
//! It knows neither the network nor any model.

/// One event; `name` is empty unless the server gave one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

/// What one decoder keeps at most, in bytes. Longer lines and events are cut.
const KEPT: usize = 2 << 20;

/// Takes the bytes of one body in pieces of any size.
#[derive(Default)]
pub struct Decoder {
    /// The bytes of the line that has not ended: a character may still be half read.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to the same line end.
    after_cr: bool,
    name: String,
    data: Option<String>,
    /// The lines that are no part of an event stream: the body may be plain JSON.
    stray: String,
}

impl Decoder {
    /// Adds the events that `bytes` complete to `events`.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        for &byte in bytes {
            let second_half = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.take_line(&String::from_utf8_lossy(&line), events);
                }
                _ if self.line.len() < KEPT => self.line.push(byte),
                _ => {}
            }
        }
    }

    /// The event that the end of the stream completes, if any, and what was no event.
    pub fn end(mut self) -> (Option<Event>, String) {
        let mut events = Vec::new();
        self.feed(b"\n\n", &mut events);
        (events.pop(), self.stray)
    }

    fn take_line(&mut self, line: &str, events: &mut Vec<Event>) {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            events.extend(self.data.take().map(|data| Event { name, data }));
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) if data.len() + value.len() < KEPT => {
                    data.push('\n');
                    data.push_str(value);
                }
                Some(_) => {}
                none => *none = Some(value.to_owned()),
            },
            "event" => self.name = value.to_owned(),
            // Not in the standard: llama.cpp and its kin report a failure like this.
            "error" => {
                self.name = field.to_owned();
                self.data = Some(value.to_owned());
            }
            "" | "id" | "retry" => {}
            _ if self.stray.len() + line.len() < KEPT => {
                self.stray.push_str(line);
                self.stray.push('\n');
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> (Vec<Event>, String) {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut events);
        }
        let (last, stray) = decoder.end();
        events.extend(last);
        (events, stray)
    }

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
        }
    }

    #[test]
    fn events_are_what_the_standard_says() {
        for (bytes, events) in [
            (
                "data: a\n\ndata: b\n\n",
                vec![event("", "a"), event("", "b")],
            ),
            (
                "data: a\r\n\r\ndata: b\r\n\r\n",
                vec![event("", "a"), event("", "b")],
            ),
            (
                "data: a\r\rdata: b\r\r",
                vec![event("", "a"), event("", "b")],
            ),
            ("data: a\r\ndata: b\r\n\r\n", vec![event("", "a\nb")]),
            ("data:a\n\n", vec![event("", "a")]),
            ("data:  a\n\n", vec![event("", " a")]),
            ("data: a\ndata: b\n\n", vec![event("", "a\nb")]),
            ("data\n\n", vec![event("", "")]),
            (
                ": OPENROUTER PROCESSING\n\n: ping\ndata: a\n\n",
                vec![event("", "a")],
            ),
            (
                "event: ping\ndata: a\nid: 7\nretry: 9\n\n",
                vec![event("ping", "a")],
            ),
            ("event: ping\n\ndata: a\n\n", vec![event("", "a")]),
            ("\n\n\n\r\n\ndata: a\n\n", vec![event("", "a")]),
            ("data: [DONE]\n", vec![event("", "[DONE]")]),
            ("data: [DONE]", vec![event("", "[DONE]")]),
            (
                "error: {\"message\":\"no\"}\n\n",
                vec![event("error", "{\"message\":\"no\"}")],
            ),
            ("\u{feff}data: a\n\n", vec![event("", "a")]),
            ("", vec![]),
        ] {
            assert_eq!(
                decode(&[bytes.as_bytes()]),
                (events, String::new()),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_plain_json_body_comes_out_as_it_went_in() {
        let body = "\n\n{\n  \"error\": {\"message\": \"a: b\"}\n}";
        let (events, stray) = decode(&[body.as_bytes()]);
        assert!(events.is_empty());
        assert_eq!(stray.trim(), body.trim());
    }

    #[test]
    fn any_splitting_of_the_bytes_gives_the_same_events() {
        let body = "\u{feff}: ping\r\n\r\nevent: größe\rdata: {\"text\":\"日本語 🎉\"}\rdata:ü\r\r\
                    data: a\n\n\nid: 1\r\nfehlt: ß\r\n\r\ndata: [DONE]";
        let bytes = body.as_bytes();
        let whole = decode(&[bytes]);
        assert_eq!(whole.0.len(), 3);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(decode(&pieces), whole, "{first} {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), whole);
    }

    #[test]
    fn a_line_without_end_is_kept_only_up_to_a_bound() {
        let mut decoder = Decoder::default();
        let (piece, mut events) = (vec![b'x'; 1 << 20], Vec::new());
        for _ in 0..8 {
            decoder.feed(&piece, &mut events);
        }
        assert!(decoder.line.len() <= KEPT);
    }
}
