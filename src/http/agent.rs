//! One server's agent: its configuration, its calls, and what is said when one fails.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::{Request, Uri};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::Connector;
use ureq::{AsSendBody, SendBody, Timeout};

use super::proxy::{Named, Proxies, Tunnel};
use super::resolve::Later;
use super::tls::{self, Tls, roots};
use super::transport::{Established, INPUT_BYTES, OUTPUT_BYTES, PROGRESS, Progress, Tcp};
use super::{Body, Call, Cause, Failure, Obstacle, Response};
use crate::text::Problem;

/// Bounds connecting: TCP, a proxy's CONNECT and the TLS handshake together. A name lookup cannot
/// be bounded without a thread.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that moves to another address may keep its old connections: this long after it is
/// looked up anew.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// A longer timeout would overflow the clock's arithmetic.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Connections to one server, kept alive. Follows no redirect; every status is a `Response`.
#[derive(Clone)]
pub struct Agent {
    agent: ureq::Agent,
    proxies: Proxies,
    /// The setting or variable that names the file of the trusted roots.
    roots: Option<&'static str>,
    variables: Vec<&'static str>,
    /// A body is given also if the server claims that it is compressed.
    takes_any_encoding: bool,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Agent")
    }
}

impl Agent {
    /// `ca_file`: PEM roots to trust instead of the built-in ones. An error is one line for a
    /// person.
    pub fn new(ca_file: Option<&Path>) -> Result<Agent, Problem> {
        Agent::with_environment(ca_file, &|name| std::env::var_os(name))
    }

    /// `new`, with `variable` in the place of the process's environment: `SSL_CERT_FILE` for the
    /// roots (`ca_file` wins), `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, the last four
    /// in lower case too.
    pub fn with_environment(
        ca_file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Agent, Problem> {
        Agent::with_lifetime(ca_file, variable, LIFETIME)
    }

    fn with_lifetime(
        ca_file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<OsString>,
        lifetime: Duration,
    ) -> Result<Agent, Problem> {
        let text = |name: &str| {
            variable(name)?
                .into_string()
                .ok()
                .filter(|text| !text.is_empty())
        };
        let (certificates, roots) = roots(ca_file, variable)?;
        let mut variables: Vec<_> = roots
            .filter(|name| *name != "ca_file")
            .into_iter()
            .collect();
        let config = ureq::config::Config::builder()
            .tls_config(TlsConfig::builder().root_certs(certificates).build())
            .proxy(None)
            .user_agent(concat!("prx/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .input_buffer_size(INPUT_BYTES)
            .output_buffer_size(OUTPUT_BYTES)
            // A full buffer without the headers' end would be reported as a lost connection.
            .max_response_header_size(INPUT_BYTES - 1)
            .max_idle_age(LIFETIME)
            // One call is made at a time. After a lost one there is none to repeat a GET on.
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .build();
        let connector =
            ().chain(Tunnel::default())
                .chain(Tcp)
                .chain(Tls::default())
                .chain(Established { lifetime });
        Ok(Agent {
            agent: ureq::Agent::with_parts(config, connector, Later),
            proxies: Proxies::read(&text, &mut variables),
            roots,
            variables,
            takes_any_encoding: false,
        })
    }

    /// Gives bodies also if the server claims that they are compressed: some only claim it.
    pub(crate) fn taking_any_encoding(self) -> Agent {
        Agent {
            takes_any_encoding: true,
            ..self
        }
    }

    /// The environment variables that count: `HTTPS_PROXY`, `SSL_CERT_FILE` and the like.
    pub fn variables(&self) -> &[&'static str] {
        &self.variables
    }

    /// A GET on a kept connection that the server has closed is repeated once on a new one; nothing
    /// else is ever repeated.
    pub fn call(&self, call: &Call) -> Result<Response, Failure> {
        let Some(target) = Target::of(call.url) else {
            let what = "the URL is not a valid http:// or https:// one";
            return Err(Failure::Unreachable(Problem::new(what, "").into()));
        };
        let started = Instant::now();
        let mut result = self.run(call, &target, call.timeout);
        let is_lost = |error: &ureq::Error| PROGRESS.get().lost_kept(error);
        if call.method == "GET" && result.as_ref().is_err_and(is_lost) {
            let left = call.timeout.saturating_sub(started.elapsed());
            result = self.run(call, &target, left);
        }
        match result {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let response = Response {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    body,
                    host: target.host.clone(),
                    timeout: call.timeout,
                };
                self.checked(response, &target)
            }
            Err(error) if PROGRESS.get().sent => {
                let what = format!("{}: {}", target.host, reason(&error, call.timeout));
                Err(Failure::Unclear(Problem::new(what, "")))
            }
            Err(error) => Err(Failure::Unreachable(self.unreachable(
                &error,
                &target,
                call.timeout,
            ))),
        }
    }

    /// `response`, unless it is the proxy's own or cannot be read.
    fn checked(&self, response: Response, target: &Target) -> Result<Response, Failure> {
        if let Some(proxy) = self.proxies.to(target)
            && is_refusal_by(proxy, &response, target)
        {
            let place = target.to_string();
            return Err(Failure::Unreachable(Obstacle {
                cause: Cause::Proxy,
                problem: proxy.refuses(&place, Some(response.status)),
            }));
        }
        match response.compression() {
            Some(problem) if (200..300).contains(&response.status) && !self.takes_any_encoding => {
                let what = format!("{}: {}", target.host, problem.what);
                Err(Failure::Unclear(Problem::new(what, problem.fix)))
            }
            _ => Ok(response),
        }
    }

    /// One try within `timeout`. `PROGRESS` tells how far it came.
    fn run(
        &self,
        call: &Call,
        target: &Target,
        timeout: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        PROGRESS.set(Progress::NONE);
        let mut request = Request::builder().method(call.method).uri(call.url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let proxy = self.proxies.to(target);
        if let Some(proxy) = proxy.filter(|proxy| proxy.forwards(target))
            && let Some(authorization) = proxy.authorization()
        {
            request = request.header("proxy-authorization", authorization);
        }
        let pieces: &[&[u8]] = match &call.body {
            Body::None => &[],
            Body::Json(bytes) => std::slice::from_ref(bytes),
            Body::Pieces(pieces) => pieces,
        };
        let mut reader = Pieces {
            current: &[],
            rest: pieces.iter(),
        };
        let mut nothing = ();
        let body = match (call.body, call.method) {
            (Body::None, "GET" | "DELETE") => nothing.as_body(),
            _ => {
                let length: usize = pieces.iter().map(|piece| piece.len()).sum();
                request = request
                    .header("content-type", "application/json")
                    .header("content-length", length);
                SendBody::from_reader(&mut reader)
            }
        };
        let mut config = self
            .agent
            .configure_request(request.body(body)?)
            .timeout_global(Some(timeout.min(LONGEST_TIMEOUT)));
        if let Some(proxy) = proxy {
            config = config.proxy(Some(proxy.proxy.clone()));
        }
        self.agent.run(config.build())
    }

    /// Why no connection came about.
    fn unreachable(&self, error: &ureq::Error, target: &Target, timeout: Duration) -> Obstacle {
        if let ureq::Error::Http(_) = error {
            let what = format!("{}: a header is not valid", target.host);
            return Problem::new(what, "look for a line break in a token").into();
        }
        if let Some(text) = tls_text(error) {
            return tls::obstacle(&text, target, self.roots);
        }
        let place = target.to_string();
        let reason = reason(error, timeout);
        let kind = match error {
            // `resolve` says in its own words why there is no such host.
            ureq::Error::HostNotFound => Some(io::ErrorKind::Other),
            ureq::Error::Io(error) => Some(error.kind()),
            _ => None,
        };
        let (cause, problem) = match (error, self.proxies.to(target)) {
            (ureq::Error::ConnectProxyFailed(said), Some(proxy)) => {
                // The status stands there twice: `407/407`.
                let status = said.rsplit('/').next().and_then(|text| text.parse().ok());
                (Cause::Proxy, proxy.refuses(&place, status))
            }
            (_, Some(proxy)) if kind.is_some_and(keeps_from_connecting) => {
                (Cause::Proxy, proxy.is_gone(&place, &reason))
            }
            (_, Some(proxy)) => {
                let what = format!("cannot connect to {place} through the proxy {proxy}: {reason}");
                (Cause::Other, Problem::new(what, ""))
            }
            (_, None) => {
                let cause = match kind {
                    Some(io::ErrorKind::Other) => Cause::Name,
                    Some(io::ErrorKind::ConnectionRefused) => Cause::Refused,
                    _ => Cause::Other,
                };
                let what = format!("cannot connect to {place}: {reason}");
                (cause, Problem::new(what, ""))
            }
        };
        Obstacle { cause, problem }
    }
}

/// Whether not even a connection came about, be it one to the proxy.
fn keeps_from_connecting(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Other
    )
}

/// Reads the pieces of a body one after the other.
struct Pieces<'a> {
    current: &'a [u8],
    rest: std::slice::Iter<'a, &'a [u8]>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.rest.next() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        self.current.read(buffer)
    }
}

/// Where a call goes, for the messages about it: never the URL itself, whose user info, path and
/// query may hold secrets.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// By https.
    pub(super) secure: bool,
}

/// Host and port.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Target {
    fn of(url: &str) -> Option<Target> {
        let uri: Uri = url.parse().ok()?;
        let (secure, default_port) = match uri.scheme_str()? {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        Some(Target {
            host: uri.host()?.to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
            secure,
        })
    }
}

/// What rustls says, if it does.
fn tls_text(error: &ureq::Error) -> Option<String> {
    match error {
        ureq::Error::Rustls(error) => Some(error.to_string()),
        // So they arrive from within the handshake.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Some(error.to_string())
        }
        _ => None,
    }
}

/// What happened, as the end of a sentence that began with the host.
pub(super) fn reason(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Connect) => format!("no answer within {CONNECT_TIMEOUT:?}"),
        ureq::Error::Timeout(_) => format!("no complete answer within {:?}", tenths(timeout)),
        ureq::Error::HostNotFound => "no such host".into(),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => "the connection was closed".into(),
            kind @ (io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable) => kind.to_string(),
            _ => error.to_string(),
        },
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::LargeResponseHeader(..) => "the answer's headers are larger than 16 kB".into(),
        ureq::Error::Protocol(_) => "the answer is not HTTP/1.1".into(),
        // The rest cannot happen or would name the URL.
        _ => "unexpected error".into(),
    }
}

/// To a tenth of a second; a shorter time as it is.
fn tenths(time: Duration) -> Duration {
    match u64::try_from(time.as_millis() / 100) {
        Ok(count @ 1..) => Duration::from_millis(count * 100),
        _ => time,
    }
}

/// Whether the proxy itself wants another name or password. tinyproxy says 401 to a wrong password, as
/// the server would; but what a proxy forwards has passed a `Via`.
fn is_refusal_by(proxy: &Named, response: &Response, target: &Target) -> bool {
    let wants_basic = || {
        let challenge = response.header("www-authenticate").unwrap_or_default();
        challenge.to_ascii_lowercase().starts_with("basic") && response.header("via").is_none()
    };
    match response.status {
        407 => true,
        401 => proxy.forwards(target) && proxy.authorization().is_some() && wants_basic(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_name_that_leads_elsewhere_is_looked_up_again_within_five_minutes() {
        assert!(LIFETIME <= Duration::from_secs(300));
    }

    #[test]
    fn a_connection_is_not_used_again_after_its_lifetime() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                });
            }
        });
        for (lifetime, connections) in [(LIFETIME, 1), (Duration::ZERO, 3)] {
            let agent = Agent::with_lifetime(None, &|_| None, lifetime).expect("no file to read");
            let before = accepted.load(Ordering::SeqCst);
            for method in ["GET", "POST", "GET"] {
                let call = Call {
                    method,
                    url: &url,
                    headers: &[],
                    body: Body::None,
                    timeout: Duration::from_secs(60),
                };
                agent.call(&call).expect("a response");
            }
            assert_eq!(accepted.load(Ordering::SeqCst) - before, connections);
        }
    }

    #[test]
    fn what_keeps_a_connection_from_coming_about_has_its_cause() {
        let kind = |kind: io::ErrorKind| ureq::Error::Io(kind.into());
        let cases = [
            (ureq::Error::HostNotFound, Cause::Name),
            // `resolve`'s: no name server is known, or none answers.
            (io::Error::other("no such host").into(), Cause::Name),
            (kind(io::ErrorKind::ConnectionRefused), Cause::Refused),
            (kind(io::ErrorKind::NetworkUnreachable), Cause::Other),
            (ureq::Error::Timeout(Timeout::Connect), Cause::Other),
        ];
        let agent = Agent::with_environment(None, &|_| None).expect("no file to read");
        let target = Target::of("http://chat.example.com").expect("a target");
        for (error, cause) in cases {
            let obstacle = agent.unreachable(&error, &target, CONNECT_TIMEOUT);
            assert_eq!(obstacle.cause, cause, "{error}");
        }
    }

    #[test]
    fn a_time_is_told_to_a_tenth_of_a_second() {
        for (nanos, told) in [
            (299_482_937_112, "299.4s"),
            (600_000_000, "600ms"),
            (10_000_000_000, "10s"),
            (1_500_000, "1.5ms"),
        ] {
            let told_now = format!("{:?}", tenths(Duration::from_nanos(nanos)));
            assert_eq!(told_now, told);
        }
    }

    #[test]
    fn a_target_names_host_and_port_and_nothing_else() {
        let cases = [
            (
                "https://user:secret@chat.example.com/path?token=secret",
                Some("chat.example.com:443"),
            ),
            ("http://chat.example.com", Some("chat.example.com:80")),
            ("http://[::1]:8065/x", Some("[::1]:8065")),
            ("ftp://chat.example.com", None),
            ("chat.example.com", None),
            ("", None),
        ];
        for (url, expected) in cases {
            let target = Target::of(url).map(|target| target.to_string());
            assert_eq!(target.as_deref(), expected, "{url}");
        }
    }
}
