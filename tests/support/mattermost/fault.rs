//! What may go wrong between a server and its client.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::refusal;
use super::date;
use crate::support::wire::{Reply, encode};

/// What the client gets in place of the answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection ends without a byte.
    Close,
    /// The same, with a reset.
    Reset,
    /// Nothing, until the client gives up.
    Hang,
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
    /// A body without an end, as fast as it is read.
    Endless,
}

impl Fault {
    /// Whether it is made from the answer that it takes the place of.
    pub(super) fn needs_answer(&self) -> bool {
        matches!(
            self,
            Fault::CloseAfter | Fault::Truncated | Fault::Trickle(_)
        )
    }

    /// `answer`: what the client would have got, if the server acted. `now`: for the `Date` header.
    pub(super) fn reply(self, answer: Option<Reply>, now: u64) -> Reply {
        match self {
            Fault::Close => Reply::Close,
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
            Fault::Json(value) => full(
                200,
                "Content-Type",
                "application/json",
                &value.to_string(),
                now,
            ),
            Fault::BrokenJson => full(200, "Content-Type", "application/json", "{\"id\": \"", now),
            Fault::Redirect(to) => full(302, "Location", &to, "", now),
            Fault::RateLimited(secs) => full(
                429,
                "Retry-After",
                &secs.to_string(),
                "limit exceeded\n",
                now,
            ),
            Fault::CloseAfter | Fault::Truncated => {
                let (mut bytes, body_length) = wire_bytes(answer);
                if matches!(self, Fault::Truncated) {
                    bytes.truncate(bytes.len() - body_length.div_ceil(2));
                }
                Reply::Raw(Box::new(move |out| {
                    out.write_all(&bytes)?;
                    out.flush()?;
                    Ok(false)
                }))
            }
            Fault::Trickle(apart) => {
                let (bytes, _) = wire_bytes(answer);
                Reply::Raw(Box::new(move |out| {
                    for byte in bytes {
                        out.write_all(&[byte])?;
                        out.flush()?;
                        std::thread::sleep(apart);
                    }
                    Ok(true)
                }))
            }
            Fault::Endless => Reply::Raw(Box::new(endless)),
        }
    }
}

fn full(status: u16, name: &str, value: &str, body: &str, now: u64) -> Reply {
    Reply::Full {
        status,
        headers: vec![(name.into(), value.into()), ("Date".into(), date(now))],
        body: body.into(),
    }
}

/// The answer as it stands on the wire, with a Content-Length, and the length of its body.
fn wire_bytes(answer: Option<Reply>) -> (Vec<u8>, usize) {
    let (status, mut headers, body) = match answer {
        Some(Reply::Full {
            status,
            headers,
            body,
        }) => (status, headers, body),
        _ => {
            let headers = vec![("Content-Type".into(), "application/json".into())];
            (
                200,
                headers,
                json!({ "status": "OK" }).to_string().into_bytes(),
            )
        }
    };
    headers.retain(|(name, _)| name != "Transfer-Encoding");
    (encode(status, &headers, &body), body.len())
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
