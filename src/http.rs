//! One agent per server: TLS roots, proxy, timeouts, a bound on every body, and a heartbeat while a
//! call blocks. It knows neither Mattermost nor any model.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Request, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    RustlsConnector, Transport,
};
use ureq::{AsSendBody, Proxy, ProxyProtocol, SendBody, Timeout};

/// Bounds connecting: TCP, a proxy's CONNECT and the TLS handshake together. A name lookup cannot
/// be bounded without a thread.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait in one system call, and the heartbeat's period: its gaps stay below twice this.
const SLICE: Duration = Duration::from_millis(450);
/// What is read at once. A response's status line and headers must fit.
const INPUT_BYTES: usize = 16 * 1024;
/// What is written at once. A request's line and headers must fit.
const OUTPUT_BYTES: usize = 8 * 1024;
/// What is read and written at once below TLS, which has buffers of its own.
const CIPHERTEXT_BYTES: usize = 4 * 1024;
/// Polls may be minutes apart.
const MAX_IDLE: Duration = Duration::from_secs(15 * 60);
/// One for the call at hand and one for the heartbeat's.
const MAX_IDLE_CONNECTIONS: usize = 2;
/// A longer timeout would overflow the clock's arithmetic.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

struct Heartbeat {
    last: Instant,
    beat: Box<dyn FnMut()>,
}

thread_local! {
    static HEARTBEAT: RefCell<Option<Heartbeat>> = const { RefCell::new(None) };
    static PROGRESS: Cell<Progress> = const { Cell::new(Progress::NONE) };
}

/// Runs `work`; while an HTTP call inside it blocks, `heartbeat` is called at least every second,
/// on this same thread. `heartbeat` may make requests of its own: those do not beat again.
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
    // It is out while it runs, so its own requests find none.
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Unreachable(text) | Failure::Unclear(text) => text,
            Failure::TooLarge => "the answer is larger than allowed",
        })
    }
}

impl std::error::Error for Failure {}

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
        let (mut nothing, mut bytes) = ((), call.body.unwrap_or_default());
        let body: SendBody = match call.body {
            None if call.method == "GET" => nothing.as_body(),
            _ => {
                request = request.header("content-type", "application/json");
                bytes.as_body()
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

/// The roots to trust: those in `ca_file`, else in `$SSL_CERT_FILE`, else Mozilla's.
fn roots(
    ca_file: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<RootCerts, String> {
    let from_environment = || {
        variable("SSL_CERT_FILE")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let (path, setting) = match ca_file {
        Some(path) => (path.to_owned(), "ca_file"),
        None => match from_environment() {
            Some(path) => (path, "SSL_CERT_FILE"),
            None => return Ok(RootCerts::WebPki),
        },
    };
    let pem = std::fs::read(&path).map_err(|error| {
        format!(
            "{setting} {}: {error}; name a readable file of PEM certificates",
            path.display()
        )
    })?;
    // Bundles hold the odd certificate that cannot be read; it costs only itself.
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!(
            "{setting} {}: there is no certificate in it; it must hold the CA's certificate as PEM \
             (-----BEGIN CERTIFICATE-----)",
            path.display()
        ));
    }
    Ok(RootCerts::from(certificates))
}

/// The proxy that the environment names, in ureq's order: one for http and https.
fn proxy(variable: &dyn Fn(&str) -> Option<String>) -> Option<Proxy> {
    [
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
    ]
    .into_iter()
    .find_map(|name| match Proxy::new(&variable(name)?) {
        Ok(proxy) if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) => {
            Some(proxy)
        }
        _ => {
            log::warn!("{name} does not name an http:// or https:// proxy: ignored");
            None
        }
    })
}

/// Whether `host` is reached without the proxy: it is this machine (as in Go's
/// `ProxyFromEnvironment`), or `no_proxy`, a list with commas, has `*`, the host, or a domain that
/// it is in.
fn bypasses_proxy(host: &str, no_proxy: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    if host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
    {
        return true;
    }
    no_proxy.split(',').any(|entry| {
        let entry = entry.trim().trim_matches(['[', ']']).to_ascii_lowercase();
        let domain = entry.trim_start_matches('*').trim_start_matches('.');
        match host.strip_suffix(domain) {
            _ if domain.is_empty() => entry == "*",
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    })
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
fn reason(error: &ureq::Error, timeout: Duration) -> String {
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

/// rustls' words (its types cannot be named from here) in those of a person who has to mend it.
fn tls_reason(text: &str) -> String {
    const UNKNOWN: &str =
        "the certificate is not signed by a known authority; set ca_file to the CA's certificate";
    const REASONS: [(&str, &str); 7] = [
        ("UnknownIssuer", UNKNOWN),
        // Another CA of the same name: one that was made anew.
        ("BadSignature", UNKNOWN),
        (
            "certificate not valid for",
            "the certificate is for other names",
        ),
        (
            "certificate expired",
            "the certificate has expired, or this machine's clock is wrong",
        ),
        (
            "certificate not valid yet",
            "the certificate is not valid yet, or this machine's clock is wrong",
        ),
        (
            "CaUsedAsEndEntity",
            "the certificate is a CA's own (CA:TRUE), not a server's; issue one without it",
        ),
        (
            "InvalidContentType",
            "the server does not speak TLS on this port",
        ),
    ];
    match REASONS.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, reason)) => (*reason).into(),
        None => format!("TLS: {text}"),
    }
}

/// A status, headers, and a body still to be read.
pub struct Response {
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

impl Response {
    /// The header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
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
        Box::new(Body {
            reader: self.body.into_with_config().limit(limit).reader(),
            host: self.host,
            timeout: self.timeout,
        })
    }
}

/// A body whose errors are `Failure`s.
struct Body {
    reader: ureq::BodyReader<'static>,
    host: String,
    timeout: Duration,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            io::Error::other(match ureq::Error::from(error) {
                ureq::Error::BodyExceedsLimit(_) => Failure::TooLarge,
                error => {
                    Failure::Unclear(format!("{}: {}", self.host, reason(&error, self.timeout)))
                }
            })
        })
    }
}

/// What an error of `Response::reader` means.
pub fn failure(error: io::Error) -> Failure {
    error
        .downcast()
        .unwrap_or_else(|error| Failure::Unclear(error.to_string()))
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

/// How far the call at hand has come; after a failure it tells what the server may know of it.
#[derive(Clone, Copy)]
struct Progress {
    /// The connection was made for this call.
    fresh: bool,
    /// A byte of the request may have been sent.
    sent: bool,
    /// A byte of the response has arrived.
    received: bool,
}

impl Progress {
    const NONE: Progress = Progress {
        fresh: false,
        sent: false,
        received: false,
    };

    /// Whether the server closed a kept connection instead of answering.
    fn lost_kept(&self, error: &ureq::Error) -> bool {
        let closed = match error {
            ureq::Error::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
            ),
            _ => false,
        };
        closed && self.sent && !self.fresh && !self.received
    }
}

/// ureq looks names up before it looks for a kept connection, at every request, and with a timeout
/// in a thread of its own: this leaves it to `Tcp`.
#[derive(Debug)]
struct Later;

impl Resolver for Later {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Asks the proxy, if there is one, for a tunnel. What went to the proxy did not go to the server.
#[derive(Debug, Default)]
struct Tunnel(ConnectProxyConnector);

impl<In: Transport> Connector<In> for Tunnel {
    type Out = Either<In, Box<dyn Transport>>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let result = self.0.connect(details, chained);
        PROGRESS.set(Progress::NONE);
        result
    }
}

/// Looks the name up and connects, unless there is a tunnel already.
#[derive(Debug)]
struct Tcp;

impl<In: Transport> Connector<In> for Tcp {
    type Out = Either<In, Sliced>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        if let Some(tunnel) = chained {
            return Ok(Some(Either::A(tunnel)));
        }
        let stream = connect(details.uri, *details.timeout.after, details.timeout.reason)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        let (input, output) = match details.uri.scheme_str() {
            Some("https") => (CIPHERTEXT_BYTES, CIPHERTEXT_BYTES),
            _ => (INPUT_BYTES, OUTPUT_BYTES),
        };
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(Either::B(Sliced {
            stream,
            buffers,
            slice: SLICE,
            answered: false,
        })))
    }
}

/// Tries the host's addresses one after the other; each gets its share of the time that is left.
fn connect(uri: &Uri, within: Duration, late: Timeout) -> Result<TcpStream, ureq::Error> {
    let address = uri
        .scheme()
        .zip(uri.authority())
        .and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority))
        .ok_or(ureq::Error::HostNotFound)?;
    let addresses: Vec<_> = match address.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            // EAI_AGAIN in the words of glibc and of musl.
            let text = error.to_string();
            return Err(
                if text.contains("Temporary failure") || text.contains("Try again") {
                    io::Error::other("the name service does not answer").into()
                } else {
                    ureq::Error::HostNotFound
                },
            );
        }
    };
    let started = Instant::now();
    let mut failure = ureq::Error::HostNotFound;
    for (tried, address) in addresses.iter().enumerate() {
        let share = within.saturating_sub(started.elapsed()) / (addresses.len() - tried) as u32;
        if share.is_zero() {
            return Err(ureq::Error::Timeout(late));
        }
        failure = match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => ureq::Error::Timeout(late),
            Err(error) => error.into(),
        };
    }
    Err(failure)
}

/// TCP that waits in slices and beats between them. The slices' length is constant until the last
/// one, so an idle poll sets no socket option.
struct Sliced {
    stream: TcpStream,
    buffers: LazyBuffers,
    /// The socket's read and write timeout.
    slice: Duration,
    /// The last wait brought something: the connection is open, there is no need to probe it when
    /// it goes back to the pool. It is probed when it is taken out.
    answered: bool,
}

impl fmt::Debug for Sliced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buffers hold tokens.
        f.write_str("Sliced")
    }
}

impl Sliced {
    /// Makes the next system call return in time, or tells that the time is over.
    fn bound(&mut self, timeout: NextTimeout, started: Instant) -> Result<(), ureq::Error> {
        let left = timeout.after.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(ureq::Error::Timeout(timeout.reason));
        }
        let slice = left.min(SLICE);
        if slice != self.slice {
            self.stream.set_read_timeout(Some(slice))?;
            self.stream.set_write_timeout(Some(slice))?;
            self.slice = slice;
        }
        Ok(())
    }
}

/// A slice passed, or a signal came, without anything to read or room to write.
fn passed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

impl Transport for Sliced {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let started = Instant::now();
        let mut sent = 0;
        while sent < amount {
            self.bound(timeout, started)?;
            match self.stream.write(&self.buffers.output()[sent..amount]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
                Ok(count) => sent += count,
                Err(error) if passed(&error) => {}
                Err(error) => return Err(error.into()),
            }
            beat();
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let started = Instant::now();
        loop {
            self.bound(timeout, started)?;
            let result = self.stream.read(self.buffers.input_append_buf());
            // After a successful wait too, or a fast stream would never beat.
            beat();
            match result {
                Ok(count) => {
                    self.buffers.input_appended(count);
                    self.answered = count > 0;
                    return Ok(self.answered);
                }
                Err(error) if passed(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        std::mem::take(&mut self.answered) || is_silent(&self.stream).unwrap_or(false)
    }
}

/// Whether nothing is there to be read: neither the connection's end nor bytes that nobody asked
/// for.
fn is_silent(mut stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let silent =
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false)?;
    Ok(silent)
}

/// TLS for https. Every call has its own timeout and so its own configuration; for such calls ureq
/// would set TLS up anew and never resume a session. The TLS settings are always the agent's.
#[derive(Debug, Default)]
struct Tls(RustlsConnector);

impl<In: Transport> Connector<In> for Tls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let details = ConnectionDetails {
            request_level: false,
            uri: details.uri,
            addrs: Later.empty(),
            config: details.config,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.0.connect(&details, chained)
    }
}

/// The last link: the connection stands, and what goes over it is the request and the response.
#[derive(Debug)]
struct Established;

impl<In: Transport> Connector<In> for Established {
    type Out = Exchange<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        PROGRESS.set(Progress {
            fresh: true,
            ..Progress::NONE
        });
        Ok(chained.map(Exchange))
    }
}

/// Notes the progress of the call that uses the connection.
#[derive(Debug)]
struct Exchange<T>(T);

impl<T: Transport> Transport for Exchange<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        PROGRESS.set(Progress {
            sent: true,
            ..PROGRESS.get()
        });
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let received = self.0.await_input(timeout)?;
        if received {
            PROGRESS.set(Progress {
                received,
                ..PROGRESS.get()
            });
        }
        Ok(received)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
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

    #[test]
    fn the_machine_itself_and_listed_hosts_bypass_the_proxy() {
        let cases = [
            ("localhost", "", true),
            ("LocalHost", "", true),
            ("127.0.0.1", "", true),
            ("127.1.2.3", "", true),
            ("[::1]", "", true),
            ("chat.example.com", "", false),
            ("192.168.1.1", "", false),
            ("chat.example.com", "*", true),
            ("chat.example.com", "other.org, Example.com", true),
            ("chat.example.com", ".example.com", true),
            ("chat.example.com", "*.example.com", true),
            ("chat.example.com", "chat.example.com,x", true),
            ("chat.example.com", "ample.com", false),
            ("chat.example.com", "example.com.evil.org", false),
            ("chat.example.com", " , ,", false),
            ("192.168.1.1", "192.168.1.1", true),
            ("[fd00::1]", "fd00::1", true),
        ];
        for (host, no_proxy, expected) in cases {
            assert_eq!(
                bypasses_proxy(host, no_proxy),
                expected,
                "{host} {no_proxy}"
            );
        }
    }

    #[test]
    fn the_first_http_proxy_of_the_environment_is_used() {
        type Case = (
            &'static [(&'static str, &'static str)],
            Option<&'static str>,
        );
        let cases: [Case; 6] = [
            (&[], None),
            (
                &[("HTTPS_PROXY", "http://one.example:1")],
                Some("one.example"),
            ),
            (&[("http_proxy", "two.example:2")], Some("two.example")),
            (
                &[
                    ("HTTP_PROXY", "http://two.example:2"),
                    ("https_proxy", "http://one.example:1"),
                ],
                Some("one.example"),
            ),
            (
                &[
                    ("ALL_PROXY", "socks5://s.example:3"),
                    ("HTTP_PROXY", "http://two.example:2"),
                ],
                Some("two.example"),
            ),
            (&[("ALL_PROXY", "not a proxy")], None),
        ];
        for (variables, expected) in cases {
            let found = proxy(&|name| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).into())
            });
            assert_eq!(
                found.as_ref().map(|proxy| proxy.host()),
                expected,
                "{variables:?}"
            );
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
            let target = Target::of(url).map(|target| format!("{}:{}", target.host, target.port));
            assert_eq!(target.as_deref(), expected, "{url}");
        }
    }
}
