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

use super::proxy::{Tunnel, bypasses_proxy, proxy};
use super::resolve::Later;
use super::tls::{Tls, roots, tls_reason};
use super::transport::{
    Established, INPUT_BYTES, OUTPUT_BYTES, PROGRESS, Progress, READ_UNTIL, Tcp,
};
use super::{Body, Call, Failure, Response};

/// Bounds connecting: TCP, a proxy's CONNECT and the TLS handshake together. A name lookup cannot
/// be bounded without a thread.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Polls may be minutes apart.
const MAX_IDLE: Duration = Duration::from_secs(15 * 60);
/// One for the call at hand and one for the heartbeat's.
const MAX_IDLE_CONNECTIONS: usize = 2;
/// A longer timeout would overflow the clock's arithmetic.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Connections to one server, kept alive. Follows no redirect; every status is a `Response`.
#[derive(Clone)]
pub struct Agent {
    agent: ureq::Agent,
    /// `$NO_PROXY`: hosts that are reached without the proxy.
    no_proxy: String,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Agent")
    }
}

impl Agent {
    /// `ca_file`: PEM roots to trust instead of the built-in ones. An error is one line for a
    /// person.
    pub fn new(ca_file: Option<&Path>) -> Result<Agent, String> {
        Agent::with_environment(ca_file, &|name| std::env::var_os(name))
    }

    /// `new`, with `variable` in the place of the process's environment: `SSL_CERT_FILE` for the
    /// roots (`ca_file` wins), `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` for the proxy, `NO_PROXY`,
    /// the last four in lower case too.
    pub fn with_environment(
        ca_file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Agent, String> {
        let text = |name: &str| {
            variable(name)?
                .into_string()
                .ok()
                .filter(|text| !text.is_empty())
        };
        let config = ureq::config::Config::builder()
            .tls_config(
                TlsConfig::builder()
                    .root_certs(roots(ca_file, variable)?)
                    .build(),
            )
            .proxy(proxy(&text))
            .user_agent(concat!("prx/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .input_buffer_size(INPUT_BYTES)
            .output_buffer_size(OUTPUT_BYTES)
            // A full buffer without the headers' end would be reported as a lost connection.
            .max_response_header_size(INPUT_BYTES - 1)
            .max_idle_age(MAX_IDLE)
            .max_idle_connections(MAX_IDLE_CONNECTIONS)
            .max_idle_connections_per_host(MAX_IDLE_CONNECTIONS)
            .build();
        let connector =
            ().chain(Tunnel::default())
                .chain(Tcp)
                .chain(Tls::default())
                .chain(Established);
        Ok(Agent {
            agent: ureq::Agent::with_parts(config, connector, Later),
            no_proxy: text("NO_PROXY")
                .or_else(|| text("no_proxy"))
                .unwrap_or_default(),
        })
    }

    /// A GET on a kept connection that the server has closed is repeated once on a new one; nothing
    /// else is ever repeated.
    pub fn call(&self, call: &Call) -> Result<Response, Failure> {
        let Some(target) = Target::of(call.url) else {
            return Err(Failure::Unreachable(
                "the URL is not a valid http:// or https:// one".into(),
            ));
        };
        let started = Instant::now();
        let (mut result, mut progress) = self.attempt(call, &target, call.timeout, MAX_IDLE);
        if call.method == "GET"
            && result
                .as_ref()
                .is_err_and(|error| progress.lost_kept(error))
        {
            let left = call.timeout.saturating_sub(started.elapsed());
            (result, progress) = self.attempt(call, &target, left, Duration::ZERO);
        }
        match result {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Ok(Response {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    body,
                    host: target.host,
                    timeout: call.timeout,
                })
            }
            Err(error) => {
                let reason = reason(&error, call.timeout);
                Err(if progress.sent {
                    Failure::Unclear(format!("{}: {reason}", target.host))
                } else {
                    Failure::Unreachable(self.unreachable(&error, &target, &reason))
                })
            }
        }
    }

    /// One try within `timeout`, on a connection that was idle for less than `max_idle`.
    fn attempt(
        &self,
        call: &Call,
        target: &Target,
        timeout: Duration,
        max_idle: Duration,
    ) -> (
        Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        Progress,
    ) {
        READ_UNTIL.set(None);
        // A heartbeat's call runs inside another one.
        let outer = PROGRESS.replace(Progress::NONE);
        let result = self.run(call, target, timeout, max_idle);
        (result, PROGRESS.replace(outer))
    }

    fn run(
        &self,
        call: &Call,
        target: &Target,
        timeout: Duration,
        max_idle: Duration,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = Request::builder().method(call.method).uri(call.url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
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
            .timeout_global(Some(timeout.min(LONGEST_TIMEOUT)))
            .max_idle_age(max_idle);
        if bypasses_proxy(&target.host, &self.no_proxy) {
            config = config.proxy(None);
        }
        self.agent.run(config.build())
    }

    /// What a person reads when no connection came about.
    fn unreachable(&self, error: &ureq::Error, target: &Target, reason: &str) -> String {
        let Target { host, port } = target;
        if reason.contains("certificate") || matches!(error, ureq::Error::Http(_)) {
            return format!("{host}: {reason}");
        }
        let through = match self.agent.config().proxy() {
            Some(proxy) if !bypasses_proxy(host, &self.no_proxy) => {
                format!(" through the proxy {}:{}", proxy.host(), proxy.port())
            }
            _ => String::new(),
        };
        format!("cannot connect to {host}:{port}{through}: {reason}")
    }
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
struct Target {
    host: String,
    port: u16,
}

impl Target {
    fn of(url: &str) -> Option<Target> {
        let uri: Uri = url.parse().ok()?;
        let default_port = match uri.scheme_str()? {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some(Target {
            host: uri.host()?.to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
        })
    }
}

/// What happened, as the end of a sentence that began with the host.
pub(super) fn reason(error: &ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Connect) => format!("no answer within {CONNECT_TIMEOUT:?}"),
        ureq::Error::Timeout(_) => format!("no complete answer within {timeout:?}"),
        ureq::Error::HostNotFound => "no such host".into(),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => "the connection was closed".into(),
            kind @ (io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable) => kind.to_string(),
            // rustls' errors arrive as these.
            io::ErrorKind::InvalidData => tls_reason(&error.to_string()),
            _ => error.to_string(),
        },
        ureq::Error::Rustls(error) => tls_reason(&error.to_string()),
        // The status stands there twice: `407/407`.
        ureq::Error::ConnectProxyFailed(reason) => {
            reason.split('/').next().unwrap_or_default().into()
        }
        ureq::Error::LargeResponseHeader(..) => "the answer's headers are larger than 16 kB".into(),
        ureq::Error::Http(_) => "a header is not valid; look for a line break in a token".into(),
        ureq::Error::Protocol(_) => "the answer is not HTTP/1.1".into(),
        // The rest cannot happen or would name the URL.
        _ => "unexpected error".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let target = Target::of(url).map(|target| format!("{}:{}", target.host, target.port));
            assert_eq!(target.as_deref(), expected, "{url}");
        }
    }
}
