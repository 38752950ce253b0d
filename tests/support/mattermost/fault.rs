//! What may go wrong between a server and its client.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::refusal;
use super::picture::gzip;
use super::{api_path, date};
use crate::support::wire::{Reply, Request, encode};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Act {
    Serve,
    /// The server never sees it.
    Instead(Fault),
    /// The server acts, and its answer is lost or spoilt.
    ServeThen(Fault),
    /// The client gets the fault now; the server sees the request this many milliseconds later, as
    /// if it had been held up on its way.
    ServeLate(u64, Fault),
}

/// The next `left` requests of a method to a path suffer `act`.
#[derive(Debug)]
pub(super) struct Plan {
    pub method: &'static str,
    /// How the path after `/api/v4/` begins; `*` stands for any one segment, a `$` for the end.
    pub path: &'static str,
    pub left: usize,
    pub act: Act,
}

impl Plan {
    fn is_for(&self, request: &Request) -> bool {
        let path = api_path(request).split('?').next().unwrap_or_default();
        let (planned, whole) = match self.path.strip_suffix('$') {
            Some(whole) => (whole, true),
            None => (self.path, false),
        };
        let (mut asked, mut planned) = (path.split('/'), planned.split('/').peekable());
        let mut same = self.method == request.method;
        while let Some(segment) = planned.next() {
            let asked = asked.next().unwrap_or_default();
            let is_last = planned.peek().is_none();
            same &= match segment {
                "*" => true,
                segment if is_last && !whole => asked.starts_with(segment),
                segment => asked == segment,
            };
        }
        same && !(whole && asked.next().is_some())
    }
}

/// What the first plan that a request fits says of it.
pub(super) fn planned(plans: &mut Vec<Plan>, request: &Request) -> Act {
    let Some(index) = plans.iter().position(|plan| plan.is_for(request)) else {
        return Act::Serve;
    };
    plans[index].left -= 1;
    match plans[index].left {
        0 => plans.remove(index).act,
        _ => plans[index].act.clone(),
    }
}

/// What the client gets in place of the answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection ends without a byte.
    Close,
    /// The same, with a reset.
    Reset,
    /// Nothing, until the client gives up.
    Hang,
    /// Nothing for this many milliseconds of the server's time, then the connection ends: how a
    /// client in simulated time sees a request that hangs until it gives up.
    Silence(u64),
    /// These headers and this body.
    Status(u16, Vec<(String, String)>, Vec<u8>),
    /// A proxy's error or login page.
    Html(u16),
    /// An error of the API: a status and an error id.
    Error(u16, &'static str),
    /// JSON that is well formed, with status 200.
    Json(Value),
    /// JSON that breaks off, with status 200.
    BrokenJson,
    /// To this address.
    Redirect(String),
    /// 429, with this many seconds in `Retry-After`.
    RateLimited(u64),
    /// The whole answer, and then the end of a connection that promised to stay.
    CloseAfter,
    /// The answer breaks off in the middle of its body.
    Truncated,
    /// The answer comes a byte at a time, this far apart.
    Trickle(Duration),
    /// The answer is packed though nobody asked for that.
    Packed,
    /// A body without an end, as fast as it is read.
    Endless,
}

impl Fault {
    /// Refusals for too many requests, with headers as servers and proxies really send them, each
    /// with a name.
    pub fn strange_rate_limits() -> Vec<(&'static str, Fault)> {
        #[rustfmt::skip] // A table.
        let headers: [(&str, &[(&str, &str)]); 11] = [
            ("no header", &[]),
            ("no wait", &[("Retry-After", "0")]),
            ("a negative wait", &[("Retry-After", "-1")]),
            ("a fraction", &[("Retry-After", "1.5")]),
            ("a wait for years", &[("Retry-After", "99999999999")]),
            ("an overlong number", &[("Retry-After", "99999999999999999999999999")]),
            ("a past date", &[("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")]),
            ("words", &[("Retry-After", "later"), ("X-RateLimit-Reset", "soon")]),
            ("nothing in it", &[("Retry-After", "")]),
            ("a reset as a date", &[("X-RateLimit-Reset", "1795392000")]),
            ("a reset in milliseconds", &[("X-RateLimit-Reset", "1795392000000")]),
        ];
        let faults = headers.map(|(name, headers)| {
            let headers = headers.iter();
            let headers = headers.map(|(name, value)| ((*name).into(), (*value).into()));
            let body = b"limit exceeded\n".to_vec();
            (name, Fault::Status(429, headers.collect(), body))
        });
        faults.into()
    }

    /// Whether it is made from the answer that it takes the place of.
    pub(super) fn needs_answer(&self) -> bool {
        matches!(
            self,
            Fault::CloseAfter | Fault::Truncated | Fault::Trickle(_) | Fault::Packed
        )
    }

    /// `answer`: what the client would have got, if the server acted. `now`: for the `Date` header.
    pub(super) fn reply(self, answer: Option<Reply>, now: u64) -> Reply {
        match self {
            Fault::Close | Fault::Silence(_) => Reply::Close,
            Fault::Reset => Reply::Reset,
            Fault::Hang => Reply::Hang,
            Fault::Status(status, headers, body) => Reply::Full {
                status,
                headers,
                body,
            },
            Fault::Html(status) => {
                let page =
                    "<!doctype html><html><body><h1>Not what was asked for</h1></body></html>";
                full(status, "Content-Type", "text/html", page, now)
            }
            Fault::Error(status, id) => {
                let answer = refusal(status, id, "Something went wrong.");
                Reply::Full {
                    status,
                    headers: answer.headers,
                    body: answer.body,
                }
            }
            Fault::Json(value) => json_text(&value.to_string(), now),
            Fault::BrokenJson => json_text("{\"id\": \"", now),
            Fault::Redirect(to) => full(302, "Location", &to, "", now),
            Fault::RateLimited(secs) => {
                let secs = secs.to_string();
                full(429, "Retry-After", &secs, "limit exceeded\n", now)
            }
            Fault::CloseAfter | Fault::Truncated | Fault::Trickle(_) | Fault::Packed => {
                self.spoil(answer)
            }
            Fault::Endless => Reply::Raw(Box::new(endless)),
        }
    }

    /// Made from the answer.
    fn spoil(self, answer: Option<Reply>) -> Reply {
        let (status, mut headers, mut body) = parts(answer);
        if matches!(self, Fault::Packed) {
            headers.push(("Content-Encoding".into(), "gzip".into()));
            body = gzip(&body);
        }
        let mut bytes = encode(status, &headers, &body);
        if matches!(self, Fault::Truncated) {
            bytes.truncate(bytes.len() - body.len().div_ceil(2));
        }
        let (apart, keep) = match self {
            Fault::Trickle(apart) => (Some(apart), true),
            Fault::Packed => (None, true),
            _ => (None, false),
        };
        Reply::Raw(Box::new(move |out| {
            let Some(apart) = apart else {
                out.write_all(&bytes)?;
                out.flush()?;
                return Ok(keep);
            };
            for byte in bytes {
                out.write_all(&[byte])?;
                out.flush()?;
                std::thread::sleep(apart);
            }
            Ok(keep)
        }))
    }
}

fn json_text(text: &str, now: u64) -> Reply {
    full(200, "Content-Type", "application/json", text, now)
}

fn full(status: u16, name: &str, value: &str, body: &str, now: u64) -> Reply {
    Reply::Full {
        status,
        headers: vec![(name.into(), value.into()), ("Date".into(), date(now))],
        body: body.into(),
    }
}

/// The answer's status, headers and body, to be framed by a Content-Length.
fn parts(answer: Option<Reply>) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let (status, mut headers, body) = match answer {
        Some(Reply::Full {
            status,
            headers,
            body,
        }) => (status, headers, body),
        _ => {
            let headers = vec![("Content-Type".into(), "application/json".into())];
            let body = json!({ "status": "OK" }).to_string().into_bytes();
            (200, headers, body)
        }
    };
    headers.retain(|(name, _)| name != "Transfer-Encoding");
    (status, headers, body)
}

fn endless(out: &mut dyn Write) -> std::io::Result<bool> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    out.write_all(b"1\r\n[\r\n")?;
    let zeros = "0,".repeat(8192);
    loop {
        write!(out, "{:x}\r\n{zeros}\r\n", zeros.len())?;
    }
}
