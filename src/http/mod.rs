//! One agent per server: TLS roots, proxy, timeouts, a bound on every body, and a heartbeat while a
//! call blocks. It knows neither Mattermost nor any model.

mod agent;
mod proxy;
mod resolve;
mod tls;
mod transport;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::HeaderMap;

pub use agent::Agent;
use agent::reason;
pub(crate) use transport::wait_until;

use crate::text::Problem;

/// The longest wait in one system call, and the heartbeat's period: its gaps stay below twice this.
const SLICE: Duration = Duration::from_millis(450);

struct Heartbeat {
    last: Instant,
    beat: Box<dyn FnMut()>,
}

thread_local! {
    static HEARTBEAT: RefCell<Option<Heartbeat>> = const { RefCell::new(None) };
}

/// Runs `work`; while an HTTP call inside it blocks, `heartbeat` is called at least every second,
/// on this same thread. It makes no call of its own.
pub fn with_heartbeat<R>(heartbeat: impl FnMut() + 'static, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<Heartbeat>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HEARTBEAT.set(self.0.take());
        }
    }
    let heartbeat = Heartbeat {
        last: Instant::now(),
        beat: Box::new(heartbeat),
    };
    let _restore = Restore(HEARTBEAT.replace(Some(heartbeat)));
    work()
}

/// Calls the heartbeat if it is due. For loops that wait for something other than HTTP.
pub fn beat() {
    // It is out while it runs: one that waits does not beat inside of itself.
    let Some(mut heartbeat) = HEARTBEAT.take() else {
        return;
    };
    if heartbeat.last.elapsed() >= SLICE {
        (heartbeat.beat)();
        heartbeat.last = Instant::now();
    }
    HEARTBEAT.set(Some(heartbeat));
}

/// One request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Absolute.
    pub url: &'a str,
    /// `("Range", "bytes=0-1023")` among them asks for a part: 206, or 200 with all of it.
    pub headers: &'a [(&'a str, &'a str)],
    /// What is sent.
    pub body: Body<'a>,
    /// Bounds the whole call, the reading of the body included; connecting is bounded by 10 s too.
    pub timeout: Duration,
}

/// What a request carries.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// Nothing; a POST or PUT sends an empty text.
    None,
    /// Sent with its Content-Type.
    Json(&'a [u8]),
    /// JSON in pieces, sent one after the other without being put together.
    Pieces(&'a [&'a [u8]]),
}

/// Why there is no response.
#[derive(Debug)]
pub enum Failure {
    /// The request cannot have reached the server: DNS, connecting, TLS.
    Unreachable(Obstacle),
    /// The server may or may not have acted: the connection broke or the time ran out.
    Unclear(Problem),
    /// The body is larger than the caller allows.
    TooLarge,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(obstacle) => obstacle.fmt(f),
            Failure::Unclear(problem) => problem.fmt(f),
            Failure::TooLarge => f.write_str("the answer is larger than allowed"),
        }
    }
}

impl std::error::Error for Failure {}

/// Why no connection came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// For a caller that can do something about it.
    pub cause: Cause,
    /// For a person.
    pub problem: Problem,
}

impl From<Problem> for Obstacle {
    fn from(problem: Problem) -> Obstacle {
        let cause = Cause::Other;
        Obstacle { cause, problem }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

/// What kind of obstacle it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host has no address.
    Name,
    /// Nothing listens there.
    Refused,
    /// The proxy, not the server.
    Proxy,
    /// The certificate leads to no authority that is trusted.
    Authority,
    /// Something else about TLS.
    Tls,
    /// Anything else.
    Other,
}

/// A status, headers, and a body still to be read.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    headers: HeaderMap,
    body: ureq::Body,
    host: String,
    timeout: Duration,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({})", self.status)
    }
}

/// What a person reads of an answer that is compressed, and so cannot be read.
pub(crate) fn compressed(how: &str) -> Problem {
    Problem::new(
        format!("the answer is compressed ({how}), which was not asked for"),
        "switch that off in the server or the proxy in front of it",
    )
}

impl Response {
    /// The header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What to say of a body that is compressed, and so cannot be read. Nobody asked for that.
    pub(crate) fn compression(&self) -> Option<Problem> {
        let encoding = self.header("content-encoding")?.trim();
        let plain = encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
        let shown: String = encoding.chars().take(20).collect();
        (!plain).then(|| compressed(&shown))
    }

    /// How long the server asks the caller to wait: `Retry-After` (seconds or a date, by the
    /// response's own `Date`); `retry-after-ms` wins.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(
            self.header("retry-after-ms"),
            self.header("retry-after"),
            self.date_ms(),
        )
    }

    /// The `Date` header in milliseconds since 1970.
    pub fn date_ms(&self) -> Option<u64> {
        http_date_ms(self.header("date")?)
    }

    /// The body as it arrives; reading more than `limit` bytes, or past the call's timeout, is an
    /// `io::Error` (`failure` tells which).
    pub fn reader(self, limit: u64) -> Box<dyn Read> {
        Box::new(Incoming {
            reader: self.body.into_with_config().limit(limit).reader(),
            host: self.host,
            timeout: self.timeout,
        })
    }
}

/// A body whose errors are `Failure`s.
struct Incoming {
    reader: ureq::BodyReader<'static>,
    host: String,
    timeout: Duration,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            io::Error::other(match ureq::Error::from(error) {
                ureq::Error::BodyExceedsLimit(_) => Failure::TooLarge,
                error => {
                    let what = format!("{}: {}", self.host, reason(&error, self.timeout));
                    Failure::Unclear(Problem::new(what, ""))
                }
            })
        })
    }
}

/// What an error of `Response::reader` means.
pub fn failure(error: io::Error) -> Failure {
    error
        .downcast()
        .unwrap_or_else(|error| Failure::Unclear(Problem::new(error.to_string(), "")))
}

/// The wait that a response's headers ask for. A date needs the response's own: the local clock is
/// never compared with the server's.
fn retry_after(
    millis: Option<&str>,
    value: Option<&str>,
    date_ms: Option<u64>,
) -> Option<Duration> {
    let number = |text: &str| Duration::try_from_secs_f64(text.trim().parse().ok()?).ok();
    if let Some(wait) = millis.and_then(number) {
        return Some(wait / 1000);
    }
    let value = value?;
    number(value).or_else(|| {
        Some(Duration::from_millis(
            http_date_ms(value)?.saturating_sub(date_ms?),
        ))
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 section 5.6.7) in milliseconds since
/// 1970.
fn http_date_ms(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, rest) = text.trim().split_once(", ")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next().filter(|month| month.len() == 3)?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words
        .next()?
        .splitn(3, ':')
        .map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // 60 is a leap second.
    let in_range = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range || words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    // Years that begin in March end with the leap day; 153 is the days of five months from then on.
    // https://howardhinnant.github.io/date_algorithms.html#days_from_civil
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read_strictly() {
        let cases = [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799_000)),
            ("Wed, 01 Mar 2000 00:00:00 GMT", Some(951_868_800_000)),
            ("Sun, 28 Feb 2100 12:00:00 GMT", Some(4_107_499_200_000)),
            ("Mon, 01 Mar 2100 12:00:00 GMT", Some(4_107_585_600_000)),
            ("Fri, 31 Dec 2026 23:59:60 GMT", Some(1_798_761_600_000)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT x", None),
            ("Sun, 06 anF 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(http_date_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_wait_is_read_from_milliseconds_seconds_or_a_date() {
        let date = http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT");
        let later = Some("Sun, 06 Nov 1994 08:50:07 GMT");
        let cases = [
            (None, None, date, None),
            (None, Some("7"), None, Some(7_000)),
            (None, Some(" 1.5 "), None, Some(1_500)),
            (Some("250"), Some("7"), None, Some(250)),
            (Some("soon"), Some("7"), None, Some(7_000)),
            (None, later, date, Some(30_000)),
            (None, later, None, None),
            (None, Some("Sun, 06 Nov 1994 08:00:00 GMT"), date, Some(0)),
            (None, Some("-1"), date, None),
            (None, Some("inf"), date, None),
            (None, Some("1e300"), date, None),
            (None, Some("NaN"), date, None),
            (None, Some("soon"), date, None),
        ];
        for (millis, value, date_ms, expected) in cases {
            let wait = retry_after(millis, value, date_ms);
            assert_eq!(
                wait,
                expected.map(Duration::from_millis),
                "{millis:?} {value:?}"
            );
        }
    }
}
