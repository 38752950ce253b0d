//! Bytes as they arrive → server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>),
//! and what servers send in their place: events parted by one newline, doubled field names, bare JSON,
//! line ends inside strings. It knows neither the network nor any model.

use super::lenient::{Brackets, decoded};

/// One event; `name` is empty unless the server gave one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

/// What one decoder keeps at most, in bytes. Longer lines and events are cut, and so are no JSON.
const KEPT: usize = 2 << 20;

/// Takes the bytes of one body in pieces of any size.
#[derive(Default)]
pub(super) struct Decoder {
    /// The bytes of the line that has not ended: a character may still be half read.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to the same line end.
    after_cr: bool,
    name: String,
    data: Option<String>,
    /// How far the JSON in `data` is.
    data_brackets: Brackets,
    /// Blank lines that came inside a string of `data`.
    blank_lines: usize,
    /// Bare JSON that is not whole yet.
    bare: String,
    bare_brackets: Brackets,
    /// Lines that are neither fields nor JSON.
    stray: String,
}

impl Decoder {
    /// Adds the events that `bytes` complete to `events`.
    pub(super) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        for &byte in bytes {
            let second_half = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.take_line(&decoded(&line), events);
                }
                _ if self.line.len() < KEPT => self.line.push(byte),
                _ => {}
            }
        }
    }

    /// The events that the end of the stream completes, and what was neither an event nor JSON.
    pub(super) fn end(mut self) -> (Vec<Event>, String) {
        let mut events = Vec::new();
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.take_line(&decoded(&line), &mut events);
        }
        self.dispatch(&mut events);
        self.end_bare(&mut events);
        (events, self.stray)
    }

    fn take_line(&mut self, line: &str, events: &mut Vec<Event>) {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        if self.data.is_some() && self.data_brackets.in_string() {
            if self.goes_on_in_string(line) {
                return;
            }
            self.dispatch(events);
        }
        if line.is_empty() {
            if !self.bare.is_empty() {
                self.bare.push('\n');
            }
            return self.dispatch(events);
        }
        if self.take_bare(line, events) {
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        // In whatever case and however indented: a line that is passed over is a hole in an answer.
        let name = field.trim().to_ascii_lowercase();
        // The blank line between two events may be missing.
        if ["data", "event", "error"].contains(&name.as_str()) && self.has_whole_data() {
            self.dispatch(events);
        }
        match name.as_str() {
            "data" => {
                let mut value = value;
                while let Some(rest) = value.trim_start().strip_prefix("data:") {
                    value = rest.strip_prefix(' ').unwrap_or(rest);
                }
                self.append(value);
            }
            "event" => self.name = value.to_owned(),
            // Not in the standard: llama.cpp and its kin report a failure like this.
            "error" => {
                self.name = "error".to_owned();
                self.append(value);
            }
            "" | "id" | "retry" => {}
            // The standard has unknown fields ignored.
            _ if line.contains(':') && is_field_name(field) => {}
            _ if self.stray.len() + line.len() < KEPT => {
                self.stray.push_str(line);
                self.stray.push('\n');
            }
            _ => {}
        }
    }

    /// Takes a line inside a string of the event's JSON, which has a raw line end in it; false: the
    /// string was cut off, and another event begins here.
    fn goes_on_in_string(&mut self, line: &str) -> bool {
        if line.is_empty() {
            self.blank_lines += 1;
            return true;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let is_field = field == "data" || field == "event";
        if self.blank_lines > 0 && is_field {
            return false;
        }
        for _ in 0..std::mem::take(&mut self.blank_lines) {
            self.append("");
        }
        self.append(if field == "data" { value } else { line });
        true
    }

    /// Takes a line of JSON that stands by itself, and the lines that go on with it.
    fn take_bare(&mut self, line: &str, events: &mut Vec<Event>) -> bool {
        let begins = line.trim_start().starts_with(['{', '[']);
        if self.bare.is_empty() && (!begins || self.data.is_some()) {
            return false;
        }
        if line.starts_with("data:") {
            self.end_bare(events);
            return false;
        }
        if self.bare.len() + line.len() < KEPT {
            self.bare.push_str(line);
            self.bare.push('\n');
            self.bare_brackets.feed(line);
            self.bare_brackets.feed("\n");
        }
        if self.bare_brackets.is_whole() {
            self.end_bare(events);
        }
        true
    }

    fn end_bare(&mut self, events: &mut Vec<Event>) {
        self.bare_brackets = Brackets::default();
        let data = std::mem::take(&mut self.bare);
        if !data.is_empty() {
            let name = String::new();
            events.push(Event { name, data });
        }
    }

    fn has_whole_data(&self) -> bool {
        let data = self.data.as_deref();
        data.is_some_and(|data| self.data_brackets.is_whole() || data.trim().is_empty())
    }

    fn append(&mut self, value: &str) {
        match &mut self.data {
            Some(data) if data.len() + value.len() < KEPT => {
                data.push('\n');
                data.push_str(value);
                self.data_brackets.feed("\n");
            }
            Some(_) => return,
            none => *none = Some(value.to_owned()),
        }
        self.data_brackets.feed(value);
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        events.extend(self.data.take().map(|data| Event { name, data }));
        self.data_brackets = Brackets::default();
        self.blank_lines = 0;
    }
}

fn is_field_name(field: &str) -> bool {
    field.len() < 24
        && field
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
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

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn events_are_what_the_standard_says() {
        let a = || event("", "a");
        for (bytes, events) in [
            ("data: a\n\ndata: b\n\n", vec![a(), event("", "b")]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", vec![a(), event("", "b")]),
            ("data: a\r\rdata: b\r\r", vec![a(), event("", "b")]),
            ("data: a\r\ndata: b\r\n\r\n", vec![event("", "a\nb")]),
            ("data:a\n\n", vec![a()]),
            ("data:  a\n\n", vec![event("", " a")]),
            ("data: a\ndata: b\n\n", vec![event("", "a\nb")]),
            ("data\n\n", vec![event("", "")]),
            (": OPENROUTER PROCESSING\n\n: ping\ndata: a\n\n", vec![a()]),
            ("event: ping\ndata: a\nid: 7\nretry: 9\n\n", vec![event("ping", "a")]),
            ("event: ping\n\ndata: a\n\n", vec![a()]),
            ("\n\n\n\r\n\ndata: a\n\n", vec![a()]),
            ("data: [DONE]\n", vec![event("", "[DONE]")]),
            ("data: [DONE]", vec![event("", "[DONE]")]),
            ("error: {\"message\":\"no\"}\n\n", vec![event("error", "{\"message\":\"no\"}")]),
            ("\u{feff}data: a\n\n", vec![a()]),
            ("", vec![]),
        ] {
            assert_eq!(decode(&[bytes.as_bytes()]), (events, String::new()), "{bytes:?}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn what_servers_send_in_an_events_place_is_taken_for_one() {
        let (one, two) = (|| event("", "{\"a\":1}"), || event("", "{\"b\":2}"));
        for (bytes, events) in [
            ("data: {\"a\":1}\ndata: {\"b\":2}\ndata: [DONE]\n", vec![one(), two(), event("", "[DONE]")]),
            ("event: x\ndata: {\"a\":1}\nevent: y\ndata: {\"b\":2}\n", vec![event("x", "{\"a\":1}"), event("y", "{\"b\":2}")]),
            ("data: {\"a\":\ndata: 1}\n\n", vec![event("", "{\"a\":\n1}")]),
            ("data: data: {\"a\":1}\n\ndata:data:data: {\"b\":2}\n\n", vec![one(), two()]),
            ("{\"a\":1}\n{\"b\":2}\n", vec![event("", "{\"a\":1}\n"), event("", "{\"b\":2}\n")]),
            ("data: {\"a\":1}\n\n{\"b\":2}\n", vec![one(), event("", "{\"b\":2}\n")]),
            ("data: {\"a\":\"x\ny\"}\n\n", vec![event("", "{\"a\":\"x\ny\"}")]),
            ("data: {\"a\":\"x\n\n- y: z\"}\n\n", vec![event("", "{\"a\":\"x\n\n- y: z\"}")]),
            ("data: {\"a\":\"x\n\ndata: {\"b\":2}\n\n", vec![event("", "{\"a\":\"x"), two()]),
            ("{\"a\":\ndata: {\"b\":2}\n\n", vec![event("", "{\"a\":\n"), two()]),
            ("x-id: 7\ndata: {\"a\":1}\n\n", vec![one()]),
        ] {
            assert_eq!(decode(&[bytes.as_bytes()]), (events, String::new()), "{bytes:?}");
        }
    }

    #[test]
    fn a_body_of_something_else_comes_out_as_it_went_in() {
        let body = "\n\n{\n  \"error\": {\"message\": \"a: b\"},\n\n  \"data\": [\n{}\n]\n}";
        let (events, stray) = decode(&[body.as_bytes()]);
        assert_eq!((events.len(), stray.as_str()), (1, ""));
        let data: serde_json::Value = serde_json::from_str(&events[0].data).unwrap();
        assert_eq!(
            data,
            serde_json::from_str::<serde_json::Value>(body).unwrap()
        );

        let body = "<html>\n<b>Sign: in</b>\n";
        assert_eq!(decode(&[body.as_bytes()]), (Vec::new(), body.to_owned()));
    }

    #[test]
    fn any_splitting_of_the_bytes_gives_the_same_events() {
        let body = "\u{feff}: ping\r\n\r\nevent: größe\rdata: {\"text\":\"日本語 🎉\"}\rdata:ü\r\r\
                    data: a\n\n\nid: 1\r\nx-fehlt: ß\r\n\r\ndata: [DONE]";
        let bytes = body.as_bytes();
        let whole = decode(&[bytes]);
        assert_eq!(whole.0.len(), 4);
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
