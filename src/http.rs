//! One agent per server: TLS roots, proxy, timeouts, a bound on every body, and a heartbeat while a
//! call blocks. It knows neither Mattermost nor any model.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Runs `work`; while an HTTP call inside it blocks, `heartbeat` is called at least every second, on
/// this same thread. `heartbeat` may make requests of its own: those do not beat again.
pub fn with_heartbeat<R>(_heartbeat: impl FnMut() + 'static, work: impl FnOnce() -> R) -> R {
    work()
}

/// Calls the heartbeat if it is due. For loops that wait for something other than HTTP.
pub fn beat() {}

/// One request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// `GET`, `POST` or `PUT`.
    pub method: &'static str,
    pub url: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    /// JSON, sent with its Content-Type; `None` for a GET.
    pub body: Option<&'a [u8]>,
    /// Bounds the whole call, the reading of the body included; connecting is bounded by 10 s too.
    pub timeout: Duration,
}

/// Why there is no response.
#[derive(Debug)]
pub enum Failure {
    /// The request cannot have reached the server: DNS, connecting, TLS.
    Unreachable(String),
    /// The server may or may not have acted: the connection broke or the time ran out.
    Unclear(String),
    /// The body is larger than the caller allows.
    TooLarge,
}

impl fmt::Display for Failure {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Connections to one server, kept alive. Follows no redirect; every status is a `Response`.
#[derive(Clone, Debug)]
pub struct Agent {}

impl Agent {
    /// `ca_file`: PEM roots to trust instead of the built-in ones. An error is one line for a person.
    pub fn new(_ca_file: Option<&Path>) -> Result<Agent, String> {
        Err(String::new())
    }

    /// A GET on a kept connection that the server has closed is repeated once on a new one; nothing
    /// else is ever repeated.
    pub fn call(&self, _call: &Call) -> Result<Response, Failure> {
        Err(Failure::TooLarge)
    }
}

/// A status, headers, and a body still to be read.
pub struct Response {
    pub status: u16,
}

impl Response {
    /// The header's value, if it is there and is text.
    pub fn header(&self, _name: &str) -> Option<&str> {
        None
    }

    /// How long the server asks the caller to wait: `Retry-After` (seconds or a date, by the response's
    /// own `Date`); `retry-after-ms` wins.
    pub fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// The `Date` header in milliseconds since 1970.
    pub fn date_ms(&self) -> Option<u64> {
        None
    }

    /// The body as it arrives; reading more than `limit` bytes, or past the call's timeout, is an
    /// `io::Error` (`failure` tells which).
    pub fn reader(self, _limit: u64) -> Box<dyn Read> {
        Box::new(std::io::empty())
    }
}

/// What an error of `Response::reader` means.
pub fn failure(_error: std::io::Error) -> Failure {
    Failure::TooLarge
}
