//! `prx::http` against servers and proxies that behave, misbehave, or are not there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::lines;
use crate::support::net::{Authority, Tunnels, file, server_chain, server_config};
use crate::support::wire::{Reply, Request, Wire, lock};
use prx::http::{Agent, Body, Call, Failure, Obstacle, Response, beat, failure, with_heartbeat};
use prx::mattermost::client::{ApiError, Client};
use prx::secret::Secret;
use prx::times::Times;
use rcgen::{CertificateParams, IsCa, KeyPair};
use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use socket2::{Domain, Socket, Type};

/// Longer than any of these tests takes: a call that is to succeed never runs into it.
const AMPLE: Duration = Duration::from_secs(60);
/// For the calls that are to run into it.
const SHORT: Duration = Duration::from_millis(600);
/// No call that is to end after `SHORT`, and no beat, may take this long, however busy the machine.
const TOO_LATE: Duration = Duration::from_secs(10);

fn agent() -> Agent {
    Agent::with_environment(None, &|_| None).expect("no file to read")
}

fn agent_in(environment: &[(&str, &str)]) -> Agent {
    Agent::with_environment(None, &variables(environment)).expect("a valid environment")
}

fn variables(environment: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
    let map: BTreeMap<String, String> = environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    move |name| map.get(name).map(OsString::from)
}

/// A call that has ample time.
fn call_of<'a>(
    method: &'static str,
    url: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Body<'a>,
) -> Call<'a> {
    Call {
        method,
        url,
        headers,
        body,
        timeout: AMPLE,
    }
}

fn get(agent: &Agent, url: &str, timeout: Duration) -> Result<String, Failure> {
    let call = Call {
        timeout,
        ..call_of("GET", url, &[], Body::None)
    };
    text(agent.call(&call)?)
}

fn post(agent: &Agent, url: &str, timeout: Duration) -> Result<String, Failure> {
    let call = Call {
        timeout,
        ..call_of("POST", url, &[], Body::Json(b"{}"))
    };
    text(agent.call(&call)?)
}

fn text(response: Response) -> Result<String, Failure> {
    let mut text = String::new();
    response
        .reader(1 << 30)
        .read_to_string(&mut text)
        .map_err(failure)?;
    Ok(text)
}

fn ok(body: &str) -> Reply {
    Reply::Full {
        status: 200,
        headers: Vec::new(),
        body: body.into(),
    }
}

fn raw(write: impl FnOnce(&mut dyn Write) -> std::io::Result<bool> + Send + 'static) -> Reply {
    Reply::Raw(Box::new(write))
}

/// A channel whose receiver many handlers may hold.
fn gate() -> (Sender<()>, Arc<Mutex<Receiver<()>>>) {
    let (sender, receiver) = mpsc::channel();
    (sender, Arc::new(Mutex::new(receiver)))
}

fn wait(gate: &Mutex<Receiver<()>>) {
    let _ = lock(gate).recv();
}

#[track_caller]
fn assert_unclear<T: std::fmt::Debug>(result: Result<T, Failure>, sign: &str) {
    match result {
        Err(Failure::Unclear(problem)) if problem.to_string().contains(sign) => {}
        other => panic!("not unclear because of {sign:?}: {other:?}"),
    }
}

/// Why the server was not reached.
#[track_caller]
fn obstacle<T: std::fmt::Debug>(result: Result<T, Failure>) -> Obstacle {
    match result {
        Err(Failure::Unreachable(obstacle)) => obstacle,
        other => panic!("not unreachable: {other:?}"),
    }
}

#[track_caller]
fn assert_unreachable<T: std::fmt::Debug>(result: Result<T, Failure>, expected: &str) {
    assert_eq!(obstacle(result).problem.to_string(), expected);
}

/// A port of this machine on which something listens, and its URL.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

// Requests and responses

#[test]
fn a_request_says_who_asks_and_for_what() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let wire = Wire::start(move |request| {
        lock(&record).push(request);
        ok("{}")
    });
    let (agent, url) = (agent(), format!("{}/api/v4/users/me?x=1", wire.url()));
    let headers = [
        ("Authorization", "Bearer secret"),
        ("Accept", "text/event-stream"),
    ];
    let call = call_of("GET", &url, &headers, Body::None);
    text(agent.call(&call).expect("a response")).expect("a body");
    for (method, body) in [
        ("POST", Body::Json(b"{\"a\":1}")),
        ("PUT", Body::Pieces(&[b"", b"[", b"]", b""])),
        ("POST", Body::None),
        ("POST", Body::Pieces(&[])),
    ] {
        let call = call_of(method, &url, &[], body);
        text(agent.call(&call).expect("a response")).expect("a body");
    }

    let seen = lock(&seen);
    let header = |request: &Request, name: &str| request.headers.get(name).cloned();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].target.as_str()),
        ("GET", "/api/v4/users/me?x=1")
    );
    assert_eq!(
        header(&seen[0], "authorization").as_deref(),
        Some("Bearer secret")
    );
    assert_eq!(
        header(&seen[0], "accept").as_deref(),
        Some("text/event-stream")
    );
    assert_eq!(header(&seen[0], "content-type"), None);
    for (request, (method, body)) in seen[1..].iter().zip([
        ("POST", "{\"a\":1}"),
        ("PUT", "[]"),
        ("POST", ""),
        ("POST", ""),
    ]) {
        assert_eq!(
            (request.method.as_str(), &request.body[..]),
            (method, body.as_bytes())
        );
        assert_eq!(
            header(request, "accept").as_deref(),
            Some("application/json")
        );
        assert_eq!(
            header(request, "content-type").as_deref(),
            Some("application/json")
        );
        assert_eq!(
            header(request, "content-length"),
            Some(body.len().to_string())
        );
    }
    for request in seen.iter() {
        let agent = concat!("prx/", env!("CARGO_PKG_VERSION"));
        assert_eq!(header(request, "user-agent").as_deref(), Some(agent));
        assert_eq!(header(request, "accept-encoding"), None);
    }
}

#[test]
fn every_status_is_a_response_with_its_headers() {
    for status in [200, 201, 204, 206, 304, 400, 401, 404, 429, 500, 503] {
        let wire = Wire::start(move |_| Reply::Full {
            status,
            headers: vec![
                ("Date".into(), "Sun, 06 Nov 1994 08:49:37 GMT".into()),
                ("Retry-After".into(), "Sun, 06 Nov 1994 08:49:44 GMT".into()),
                ("ETag".into(), "\"x\"".into()),
            ],
            body: b"why".to_vec(),
        });
        let url = wire.url();
        let call = call_of("GET", &url, &[], Body::None);
        let response = agent().call(&call).expect("a response");
        assert_eq!(response.status, status);
        assert_eq!(response.header("etag"), Some("\"x\""));
        assert_eq!(response.header("missing"), None);
        assert_eq!(response.date_ms(), Some(784_111_777_000));
        assert_eq!(response.retry_after(), Some(Duration::from_secs(7)));
        let body = if matches!(status, 204 | 304) {
            ""
        } else {
            "why"
        };
        assert_eq!(text(response).expect("a body"), body, "{status}");
    }
}

#[test]
fn headers_of_15_kb_are_read_and_larger_ones_are_named() {
    for (bytes, fits) in [(15_000, true), (16_500, false), (100_000, false)] {
        let wire = Wire::start(move |_| Reply::Full {
            status: 200,
            headers: vec![("X-Large".into(), "x".repeat(bytes))],
            body: b"{}".to_vec(),
        });
        let result = get(&agent(), &wire.url(), AMPLE);
        match fits {
            true => assert_eq!(result.expect("a response"), "{}"),
            false => assert_unclear(result, "the answer's headers are larger than 16 kB"),
        }
    }
}

#[test]
fn a_redirect_is_not_followed_and_a_key_does_not_reach_the_other_host() {
    let other = Wire::start(|_| ok("taken"));
    for status in [301, 302, 303, 307, 308] {
        let location = other.url();
        let wire = Wire::start(move |_| Reply::Full {
            status,
            headers: vec![("Location".into(), location.clone())],
            body: Vec::new(),
        });
        let (agent, url) = (agent(), wire.url());
        for (method, body) in [("GET", Body::None), ("POST", Body::Json(b"{}"))] {
            let headers = [("x-api-key", "secret"), ("Authorization", "Bearer secret")];
            let call = call_of(method, &url, &headers, body);
            assert_eq!(agent.call(&call).expect("a response").status, status);
        }
    }
    assert_eq!(other.accepted(), 0);
}

#[test]
fn an_endless_body_is_given_up_at_the_limit() {
    let (tell, written) = mpsc::channel();
    let wire = Wire::start(move |_| {
        let tell = tell.clone();
        raw(move |out| {
            let mut written = 0;
            let mut result =
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n");
            while result.is_ok() {
                result = out.write_all(&[b'x'; 4096]);
                written += 4096;
            }
            let _ = tell.send(written);
            Ok(false)
        })
    });
    let url = wire.url();
    let call = call_of("GET", &url, &[], Body::None);
    let mut reader = agent().call(&call).expect("a response").reader(10_000);
    let mut body = Vec::new();
    let error = reader.read_to_end(&mut body).expect_err("too much");
    assert!(matches!(failure(error), Failure::TooLarge));
    assert_eq!(body.len(), 10_000);
    drop(reader);
    // What the sockets' buffers hold.
    assert!(written.recv().expect("a count") < 64 << 20);
}

#[test]
fn a_body_of_exactly_the_limit_is_read() {
    let wire = Wire::start(|_| ok("12345"));
    let url = wire.url();
    let call = call_of("GET", &url, &[], Body::None);
    for (limit, expected) in [(5, Some("12345")), (4, None)] {
        let mut body = String::new();
        let mut reader = agent().call(&call).expect("a response").reader(limit);
        match reader.read_to_string(&mut body).map_err(failure) {
            Ok(_) => assert_eq!(Some(body.as_str()), expected),
            Err(failure) => {
                assert!(matches!(failure, Failure::TooLarge));
                assert_eq!(expected, None);
            }
        }
    }
}

// The heartbeat

/// What comes of `work` under a heartbeat that opens the gate at its third beat.
#[track_caller]
fn beating<R>(open: Sender<()>, work: impl FnOnce() -> R) -> R {
    let beats = Rc::new(Cell::new(0));
    let count = beats.clone();
    let heartbeat = move || {
        count.set(count.get() + 1);
        if count.get() == 3 {
            let _ = open.send(());
        }
    };
    let result = with_heartbeat(heartbeat, work);
    assert!(beats.get() >= 3, "{} beats", beats.get());
    result
}

#[test]
fn it_beats_while_headers_are_awaited() {
    let (open, gate) = gate();
    let wire = Wire::start(move |_| {
        wait(&gate);
        ok("late")
    });
    let result = beating(open, || get(&agent(), &wire.url(), AMPLE));
    assert_eq!(result.expect("a response"), "late");
}

#[test]
fn it_beats_while_a_body_is_awaited() {
    let (open, gate) = gate();
    let wire = Wire::start(move |_| {
        let gate = gate.clone();
        raw(move |out| {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
            wait(&gate);
            out.write_all(b"full")?;
            Ok(true)
        })
    });
    let result = beating(open, || get(&agent(), &wire.url(), AMPLE));
    assert_eq!(result.expect("a response"), "halffull");
}

#[test]
fn it_beats_while_a_body_arrives_without_a_pause() {
    let (open, gate) = gate();
    let wire = Wire::start(move |_| {
        let gate = gate.clone();
        raw(move |out| {
            out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            while lock(&gate).try_recv().is_err() {
                out.write_all(b"4\r\nmore\r\n")?;
            }
            out.write_all(b"0\r\n\r\n")?;
            Ok(true)
        })
    });
    let result = beating(open, || get(&agent(), &wire.url(), AMPLE));
    assert!(result.expect("a response").ends_with("more"));
}

#[test]
fn it_beats_while_a_request_is_sent_slowly() {
    let (open, gate) = gate();
    let (listener, url) = self::listener();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        wait(&gate);
        let mut left = 64 << 20;
        let mut buffer = [0; 65536];
        while left > 0 {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                // The head is counted with the body: enough is read to let the client go on.
                Ok(count) => left -= count.min(left),
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let body = vec![b' '; 64 << 20];
    let call = call_of("POST", &url, &[], Body::Json(&body));
    let result = beating(open, || text(agent().call(&call)?));
    assert_eq!(result.expect("a response"), "ok");
}

#[test]
fn a_heartbeat_that_waits_does_not_beat_inside_of_itself() {
    let (inside, beats) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let count = beats.clone();
    let heartbeat = move || {
        assert!(!inside.replace(true), "it beat inside of itself");
        count.set(count.get() + 1);
        // Longer than its period.
        std::thread::sleep(Duration::from_millis(500));
        beat();
        inside.set(false);
    };
    let started = Instant::now();
    with_heartbeat(heartbeat, || {
        while beats.get() < 2 && started.elapsed() < TOO_LATE {
            beat();
            std::thread::yield_now();
        }
    });
    assert_eq!(beats.get(), 2);
}

#[test]
fn a_heartbeat_that_panics_gives_way_to_the_outer_one() {
    let outer = Rc::new(Cell::new(0));
    let count = outer.clone();
    let beat_until = |done: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !done() && started.elapsed() < TOO_LATE {
            beat();
            std::thread::yield_now();
        }
    };
    with_heartbeat(
        move || count.set(count.get() + 1),
        || {
            let inner = std::panic::AssertUnwindSafe(|| {
                with_heartbeat(
                    || std::panic::resume_unwind(Box::new(())),
                    || beat_until(&|| false),
                );
            });
            assert!(std::panic::catch_unwind(inner).is_err());
            beat_until(&|| outer.get() == 1);
        },
    );
    assert_eq!(outer.get(), 1);
    assert_eq!(Rc::strong_count(&outer), 1, "the closure is dropped");
}

// Connections

#[test]
fn a_connection_is_kept() {
    let wire = Wire::start(|_| ok("{}"));
    let agent = agent();
    for _ in 0..5 {
        get(&agent, &wire.url(), AMPLE).expect("a response");
        post(&agent, &wire.url(), AMPLE).expect("a response");
    }
    assert_eq!(wire.accepted(), 1);
}

/// Answers the first request on each connection and closes it at the second; notes the methods.
fn closes_at_the_second() -> (Wire, Arc<Mutex<Vec<String>>>) {
    let methods = Arc::new(Mutex::new(Vec::new()));
    let seen = methods.clone();
    let wire = Wire::start(move |request| {
        let mut seen = lock(&seen);
        seen.push(request.method);
        if seen.len() == 2 {
            Reply::Close
        } else {
            ok("{}")
        }
    });
    (wire, methods)
}

#[test]
fn a_get_is_repeated_once_when_a_kept_connection_was_closed() {
    let (wire, methods) = closes_at_the_second();
    let agent = agent();
    get(&agent, &wire.url(), AMPLE).expect("a response");
    assert_eq!(
        get(&agent, &wire.url(), AMPLE).expect("the repeated one's"),
        "{}"
    );
    assert_eq!(*lock(&methods), ["GET", "GET", "GET"]);
    assert_eq!(wire.accepted(), 2);
}

#[test]
fn a_post_is_never_repeated() {
    let (wire, methods) = closes_at_the_second();
    let agent = agent();
    get(&agent, &wire.url(), AMPLE).expect("a response");
    assert_unclear(
        post(&agent, &wire.url(), AMPLE),
        "127.0.0.1: the connection was closed",
    );
    assert_eq!(*lock(&methods), ["GET", "POST"]);
}

#[test]
fn a_get_is_not_repeated_on_a_new_connection_nor_after_part_of_a_response() {
    let wire = Wire::start(|_| Reply::Close);
    assert_unclear(
        get(&agent(), &wire.url(), AMPLE),
        "the connection was closed",
    );
    assert_eq!(wire.accepted(), 1);

    let requests = Arc::new(Mutex::new(0));
    let count = requests.clone();
    let wire = Wire::start(move |_| {
        let mut count = lock(&count);
        *count += 1;
        match *count {
            1 => ok("{}"),
            _ => raw(|out| out.write_all(b"HTTP/1.1 20").map(|()| false)),
        }
    });
    let agent = agent();
    get(&agent, &wire.url(), AMPLE).expect("a response");
    assert_unclear(get(&agent, &wire.url(), AMPLE), "the connection was closed");
    assert_eq!(*lock(&requests), 2);
}

#[test]
fn a_connection_closed_while_idle_is_replaced_even_for_a_post() {
    let (listener, url) = self::listener();
    let (tell, closed) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
            drop(stream);
            let _ = tell.send(());
        }
    });
    let agent = agent();
    get(&agent, &url, AMPLE).expect("a response");
    closed.recv().expect("the server closes");
    assert_eq!(post(&agent, &url, AMPLE).expect("a response"), "{}");
}

#[test]
fn no_request_starts_a_thread() {
    // Threads are numbered through the process: the child runs nothing but this test.
    const URL: &str = "TEST_NETWORK_URL";
    if let Ok(url) = std::env::var(URL) {
        let number = || {
            let id = std::thread::spawn(|| ()).thread().id();
            let digits: String = format!("{id:?}")
                .chars()
                .filter(char::is_ascii_digit)
                .collect();
            digits.parse::<u64>().expect("a number")
        };
        let (agent, before) = (agent(), number());
        for _ in 0..3 {
            get(&agent, &url, AMPLE).expect("a response");
        }
        assert_eq!(number(), before + 1);
        return;
    }
    // A new connection, and so a lookup, for each request.
    let wire = Wire::start(|_| Reply::Full {
        status: 200,
        headers: vec![("Connection".into(), "close".into())],
        body: Vec::new(),
    });
    let status = crate::support::alone(module_path!(), "no_request_starts_a_thread")
        .env(URL, format!("http://localhost:{}", wire.address.port()))
        .status()
        .expect("the child runs");
    assert!(status.success());
    assert_eq!(wire.accepted(), 3);
}

#[test]
fn an_ipv6_address_is_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let wire = Wire::start_on(listener, None, |request| ok(&request.headers["host"]));
    assert!(wire.url().starts_with("http://[::1]:"));
    let host = get(&agent(), &wire.url(), AMPLE).expect("a response");
    assert_eq!(host, wire.address.to_string());
}

// Failures

#[test]
fn a_truncated_body_is_unclear() {
    let heads = [
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for head in heads {
        let wire = Wire::start(move |_| {
            raw(move |out| write!(out, "HTTP/1.1 200 OK\r\n{head}").map(|()| false))
        });
        for result in [
            get(&agent(), &wire.url(), AMPLE),
            post(&agent(), &wire.url(), AMPLE),
        ] {
            assert_unclear(result, "127.0.0.1: the connection was closed");
        }
    }
}

#[test]
fn a_silent_server_is_given_up_at_the_timeout() {
    let wire = Wire::start(|_| {
        std::thread::park();
        Reply::Close
    });
    let started = Instant::now();
    for result in [
        get(&agent(), &wire.url(), SHORT),
        post(&agent(), &wire.url(), SHORT),
    ] {
        assert_unclear(result, "127.0.0.1: no complete answer within 600ms");
    }
    assert!(started.elapsed() < TOO_LATE);
}

#[test]
fn a_trickle_ends_at_the_timeout() {
    for head in [
        "HTTP/1.1 200 OK\r\nX-Trickle: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
    ] {
        let wire = Wire::start(move |_| {
            raw(move |out| {
                out.write_all(head.as_bytes())?;
                loop {
                    // The trickle's pace: well within the heartbeat's period.
                    std::thread::sleep(Duration::from_millis(20));
                    out.write_all(b"x")?;
                }
            })
        });
        let started = Instant::now();
        assert_unclear(
            get(&agent(), &wire.url(), SHORT),
            "no complete answer within 600ms",
        );
        assert!(started.elapsed() < TOO_LATE);
    }
}

#[test]
fn what_is_not_http_is_unclear() {
    let wire =
        Wire::start(|_| raw(|out| out.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").map(|()| false)));
    assert_unclear(
        get(&agent(), &wire.url(), AMPLE),
        "127.0.0.1: the answer is not HTTP/1.1",
    );
}

#[test]
fn a_refused_connection_is_unreachable() {
    let address = unused_address();
    let expected = format!("cannot connect to {address}: connection refused");
    assert_unreachable(
        get(&agent(), &format!("http://{address}"), AMPLE),
        &expected,
    );
    assert_unreachable(
        post(&agent(), &format!("https://{address}"), AMPLE),
        &expected,
    );
}

#[test]
fn a_server_that_takes_no_connection_is_given_up_at_the_timeout() {
    // Nobody accepts, and a full queue answers no further one.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("a free port");
    listener.listen(0).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let address = address.as_socket().expect("an IP address");
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(stream);
    }
    let started = Instant::now();
    let url = format!("http://{address}");
    for result in [get(&agent(), &url, SHORT), post(&agent(), &url, SHORT)] {
        assert_unreachable(
            result,
            &format!("cannot connect to {address}: no complete answer within 600ms"),
        );
    }
    assert!(started.elapsed() < TOO_LATE);
}

#[test]
fn a_server_that_does_not_read_is_given_up_at_the_timeout() {
    let (_listener, url) = listener();
    // More than any buffer between the two holds.
    let body = vec![b' '; 64 << 20];
    let call = Call {
        timeout: SHORT,
        ..call_of("POST", &url, &[], Body::Json(&body))
    };
    let started = Instant::now();
    let result = agent().call(&call).and_then(text);
    assert_unclear(result, "127.0.0.1: no complete answer within 600ms");
    assert!(started.elapsed() < TOO_LATE);
}

fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

#[test]
fn a_reset_is_unclear() {
    let (listener, url) = self::listener();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            // To close with bytes unread is to reset.
            let _ = stream.expect("a connection").read(&mut [0]);
        }
    });
    assert_unclear(post(&agent(), &url, AMPLE), "127.0.0.1: connection reset");
}

#[test]
fn an_unknown_host_is_unreachable() {
    let problem = obstacle(get(&agent(), "http://name.invalid/path", AMPLE)).problem;
    let text = problem.to_string();
    let reasons = ["no such host", "the name service does not answer"];
    let known = reasons.map(|reason| format!("cannot connect to name.invalid:80: {reason}"));
    assert!(known.contains(&text), "{text}");
}

#[test]
fn nothing_secret_is_said() {
    lines::keep_all();
    let wire = Wire::start(|_| Reply::Full {
        status: 302,
        headers: ["Set-Cookie", "Location", "X-Token"]
            .map(|name| (name.into(), "hidden".into()))
            .into(),
        body: b"hidden".to_vec(),
    });
    let url = format!("http://name:hidden@{}/hidden?hidden", wire.address);
    let headers = [("Authorization", "Bearer hidden"), ("x-api-key", "hidden")];
    let call = call_of("POST", &url, &headers, Body::Json(b"hidden"));
    text(self::agent().call(&call).expect("a response")).expect("a body");
    let address = unused_address();
    let proxy = format!("http://name:hidden@{address}");
    let agent = agent_in(&[("HTTPS_PROXY", &proxy), ("HTTP_PROXY", &proxy)]);
    let urls = [
        format!("http://name:hidden@{address}/hidden?hidden"),
        "http://name:hidden@chat.example.com/hidden?hidden".into(),
        "ftp://name:hidden@chat.example.com/hidden?hidden".into(),
        "http://name:hidden@[/hidden".into(),
        "hidden".into(),
    ];
    for url in &urls {
        for value in ["hidden", "hidden\n", "hidden\u{e9}\0"] {
            let headers = [("Authorization", value)];
            let call = call_of("GET", url, &headers, Body::None);
            let failure = agent.call(&call).expect_err("nobody listens");
            assert!(matches!(failure, Failure::Unreachable(_)), "{failure:?}");
            assert!(
                !format!("{failure} {failure:?}").contains("hidden"),
                "{failure}"
            );
        }
    }
    assert!(!format!("{agent:?}").contains("hidden"));
    let lines = lines::taken().join("\n");
    assert!(lines.contains("ureq"), "the library's lines are there");
    assert!(!lines.contains("hidden"), "{lines}");
}

// TLS

fn agent_trusting(path: &Path) -> Agent {
    Agent::with_environment(Some(path), &|_| None).expect("a readable CA")
}

fn https(wire: &Wire) -> String {
    format!("https://localhost:{}", wire.address.port())
}

#[test]
fn a_private_ca_is_trusted_by_setting_or_environment() {
    let authority = Authority::new();
    let wire = Wire::start_tls(authority.server(&["localhost"], |_| ()), |_| ok("private"));
    let path = authority.file("private-ca.pem");
    let other = Authority::new().file("private-ca-other.pem");
    let variable = |path: &Path| variables(&[("SSL_CERT_FILE", path.to_str().expect("UTF-8"))]);
    let unset = variables(&[("SSL_CERT_FILE", "")]);
    let trusting = [
        Agent::with_environment(Some(&path), &|_| None),
        Agent::with_environment(None, &variable(&path)),
        Agent::with_environment(Some(&path), &variable(&other)),
        Agent::with_environment(Some(&path), &variable(Path::new("/nonexistent"))),
    ];
    for agent in trusting {
        let result = get(&agent.expect("a readable CA"), &https(&wire), AMPLE);
        assert_eq!(result.expect("a response"), "private");
    }
    let unknown = "localhost: the certificate is not signed by a known authority";
    #[rustfmt::skip] // A table.
    let doubting = [
        (Agent::with_environment(None, &|_| None), "; set ca_file to the CA's certificate"),
        (Agent::with_environment(None, &unset), "; set ca_file to the CA's certificate"),
        (
            Agent::with_environment(Some(&other), &variable(&path)),
            ": ca_file holds one of the same name with another key; ",
        ),
        (
            Agent::with_environment(None, &variable(&other)),
            ": SSL_CERT_FILE holds one of the same name with another key; ",
        ),
    ];
    for (agent, expected) in doubting {
        let agent = agent.expect("a readable CA");
        for result in [
            get(&agent, &https(&wire), AMPLE),
            post(&agent, &https(&wire), AMPLE),
        ] {
            let problem = obstacle(result).problem;
            let text = problem.to_string();
            assert!(text.starts_with(&format!("{unknown}{expected}")), "{text}");
        }
    }
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_sessions_resumed() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".into()]).expect("a valid name");
        let authority = Authority::new();
        let certificate = params
            .signed_by(&key, &authority.issuer)
            .expect("a certificate");
        let config = server_config(certificate.der().clone(), &key, &[version]);
        let wire = Wire::start_tls(config, |request| Reply::Full {
            status: 200,
            headers: match request.target.as_str() {
                "/last" => vec![("Connection".into(), "close".into())],
                _ => Vec::new(),
            },
            body: b"{}".to_vec(),
        });
        let agent = agent_trusting(&authority.file(&format!("{:?}.pem", version.version)));
        for path in ["/", "/last", "/", "/last"] {
            get(&agent, &format!("{}{path}", https(&wire)), AMPLE).expect("a response");
        }
        assert_eq!(
            wire.handshakes(),
            [HandshakeKind::Full, HandshakeKind::Resumed]
        );
    }
}

/// A change of a certificate before it is signed.
type Change<'a> = &'a dyn Fn(&mut CertificateParams);

#[track_caller]
fn assert_refused(agent: &Agent, wire: &Wire, what: &str, fix: &str) {
    let problem = obstacle(get(agent, &https(wire), AMPLE)).problem;
    let expected = format!("localhost: the certificate {what}");
    assert!(problem.what.starts_with(&expected), "{problem:?}");
    assert!(problem.fix.contains(fix), "{problem:?}");
}

#[test]
fn a_bad_certificate_is_named_with_what_to_do() {
    let authority = Authority::new();
    let agent = agent_trusting(&authority.file("bad-certificate.pem"));
    let day = |year| rcgen::date_time_ymd(year, 1, 1);
    let common_name = |params: &mut CertificateParams| {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "localhost");
    };
    #[rustfmt::skip] // A table.
    let cases: [(&[&str], Change, &str, &str); 6] = [
        (
            &["localhost"],
            &|params| params.not_after = day(2001),
            "has expired, or this machine's clock is wrong",
            "renewed, or set the clock",
        ),
        (
            &["localhost"],
            &|params| params.not_before = day(3001),
            "is not valid yet, or this machine's clock is wrong",
            "renewed, or set the clock",
        ),
        (&["chat.example.com"], &|_| (), "is for other names: chat.example.com", "use a URL whose host is one of"),
        (
            &["a.example", "b.example"],
            &|_| (),
            "is for other names: a.example, b.example",
            "use a URL whose host is one of",
        ),
        (&[], &common_name, "has no subjectAltName; a common name (CN) alone", "made anew with subjectAltName=DNS:"),
        (
            &["localhost"],
            &|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
            "is a CA's own (CA:TRUE)",
            "\n  openssl req -x509 ",
        ),
    ];
    for (names, change, what, fix) in cases {
        let wire = Wire::start_tls(authority.server(names, change), |_| ok("{}"));
        assert_refused(&agent, &wire, what, fix);
    }
}

#[test]
fn a_missing_intermediate_certificate_is_named() {
    let authority = Authority::new();
    let agent = agent_trusting(&authority.file("root-only.pem"));
    for is_whole in [true, false] {
        let wire = Wire::start_tls(authority.server_in_between(is_whole), |_| ok("{}"));
        match is_whole {
            true => {
                get(&agent, &https(&wire), AMPLE).expect("a response");
            }
            false => assert_refused(
                &agent,
                &wire,
                "is not signed by a known authority: ca_file does not hold its authority, or the \
                 server does not send the intermediate certificate",
                &format!(
                    "openssl s_client -connect localhost:{} -showcerts",
                    wire.address.port()
                ),
            ),
        }
    }
}

#[test]
fn a_servers_own_certificate_as_ca_file_is_trusted_when_made_as_advised() {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("a certificate");
    let ca_file = file("self-signed.pem", certificate.pem().as_bytes());
    let config = server_config(certificate.der().clone(), &key, rustls::ALL_VERSIONS);
    let wire = Wire::start_tls(config, |_| ok("{}"));
    let advice = match get(&agent_trusting(&ca_file), &https(&wire), AMPLE) {
        Err(Failure::Unreachable(obstacle)) => obstacle.problem.fix,
        other => panic!("{other:?}"),
    };
    let command = advice.lines().find_map(|line| line.strip_prefix("  "));
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("sh")
        .args(["-c", command.expect("a line to copy")])
        .current_dir(folder.path())
        .output()
        .expect("a shell");
    if !made.status.success() {
        println!("skipped: this machine has no openssl: {made:?}");
        return;
    }
    let ca_file = folder.path().join("cert.pem");
    let chain = vec![CertificateDer::from_pem_file(&ca_file).expect("a certificate")];
    let key = PrivatePkcs8KeyDer::from_pem_file(folder.path().join("key.pem")).expect("a key");
    let config = server_chain(chain, key.secret_pkcs8_der(), rustls::ALL_VERSIONS);
    let wire = Wire::start_tls(config, |_| ok("own"));
    let result = get(&agent_trusting(&ca_file), &https(&wire), AMPLE);
    assert_eq!(result.expect("a response"), "own");
}

#[test]
fn what_a_server_says_instead_of_a_handshake_is_named() {
    for (alert, what) in [
        (40, "the server has no TLS version or cipher in common"),
        (70, "the server has no TLS version or cipher in common"),
        (112, "the server has no certificate for this name"),
        (116, "the server wants a certificate of its clients"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            // A fatal alert in a record of its own: RFC 8446, sections 5.1 and 6.
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let problem = obstacle(get(&agent(), &format!("https://{address}"), AMPLE)).problem;
        let expected = format!("cannot connect to {address}: {what}");
        assert!(problem.what.starts_with(&expected), "{problem:?}");
    }
}

#[test]
fn a_ca_file_that_is_no_use_is_named_with_what_to_do() {
    let key = KeyPair::generate().expect("a key").serialize_pem();
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let none = "there is no certificate in it; it must hold the CA's certificate as PEM";
    let cases = [
        (
            folder.join("missing.pem"),
            "name a readable file of PEM certificates",
        ),
        (folder, "name a readable file of PEM certificates"),
        (file("empty.pem", b""), none),
        (file("page.pem", b"<html>Sign in</html>"), none),
        (file("key.pem", key.as_bytes()), none),
        (file("broken.pem", broken.as_bytes()), none),
    ];
    for (path, expected) in cases {
        let name = path.to_str().expect("UTF-8");
        let by_setting = Agent::new(Some(&path)).expect_err("no use");
        let by_variable = Agent::with_environment(None, &variables(&[("SSL_CERT_FILE", name)]))
            .expect_err("no use");
        for (error, setting) in [(by_setting, "ca_file"), (by_variable, "SSL_CERT_FILE")] {
            let error = error.to_string();
            assert!(error.starts_with(&format!("{setting} {name}: ")), "{error}");
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}

#[test]
fn a_bundle_is_read_past_what_cannot_be_parsed() {
    let authority = Authority::new();
    let wire = Wire::start_tls(authority.server(&["localhost"], |_| ()), |_| ok("{}"));
    let bundle = [
        "# A comment\n-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &authority.pem,
        &Authority::new().pem,
    ];
    let agent = agent_trusting(&file("bundle.pem", bundle.concat().as_bytes()));
    get(&agent, &https(&wire), AMPLE).expect("a response");
}

#[test]
fn a_systems_bundle_is_read() {
    let path = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if !path.exists() {
        println!("skipped: this machine has no bundle of CAs");
        return;
    }
    let wire = Wire::start_tls(Authority::new().server(&["localhost"], |_| ()), |_| {
        ok("{}")
    });
    let problem = obstacle(get(&agent_trusting(path), &https(&wire), AMPLE)).problem;
    assert!(problem.what.contains("known authority"), "{problem}");
}

#[test]
fn it_beats_over_tls_too() {
    let authority = Authority::new();
    let (open, gate) = gate();
    let wire = Wire::start_tls(authority.server(&["localhost"], |_| ()), move |_| {
        wait(&gate);
        ok("late")
    });
    let agent = agent_trusting(&authority.file("beats.pem"));
    let result = beating(open, || get(&agent, &https(&wire), AMPLE));
    assert_eq!(result.expect("a response"), "late");
}

#[test]
fn a_kept_tls_connection_that_was_closed_is_like_any_other() {
    let authority = Authority::new();
    let agent = agent_trusting(&authority.file("kept.pem"));
    for (method, methods) in [
        ("GET", &["GET", "GET", "GET"][..]),
        ("POST", &["GET", "POST"]),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        let wire = Wire::start_tls(authority.server(&["localhost"], |_| ()), move |request| {
            let mut record = lock(&record);
            record.push(request.method);
            if record.len() == 2 {
                Reply::Close
            } else {
                ok("{}")
            }
        });
        get(&agent, &https(&wire), AMPLE).expect("a response");
        match method {
            "GET" => assert_eq!(get(&agent, &https(&wire), AMPLE).expect("a repeat"), "{}"),
            _ => assert_unclear(
                post(&agent, &https(&wire), AMPLE),
                "the connection was closed",
            ),
        }
        assert_eq!(*lock(&seen), methods);
    }
}

#[test]
fn a_handshake_that_fails_or_hangs_is_unreachable() {
    // The server takes the first line of TLS for a request and answers in the clear.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let clear = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            let mut stream = stream.expect("a connection");
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    assert_unreachable(
        post(&agent(), &format!("https://{clear}"), AMPLE),
        &format!("cannot connect to {clear}: the server does not speak TLS on this port"),
    );
    // Nobody accepts, but the system completes the connection.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address");
    assert_unreachable(
        post(&agent(), &format!("https://{address}"), SHORT),
        &format!("cannot connect to {address}: no complete answer within 600ms"),
    );
}

// Proxies

#[test]
fn a_proxy_opens_a_tunnel_for_https_and_forwards_http() {
    let authority = Authority::new();
    let ca_file = authority.file("proxied.pem");
    let seen = |request: Request| {
        let headers = ["authorization", "proxy-authorization"];
        let [key, proxy] = headers.map(|name| request.headers.get(name).cloned());
        let (key, proxy) = (key.unwrap_or_default(), proxy.unwrap_or_default());
        ok(&format!(
            "{} {} {key} {proxy}",
            request.method, request.target
        ))
    };
    let secure = Wire::start_tls(authority.server(&["chat.example.com"], |_| ()), seen);
    let plain = Wire::start(seen);
    let basic = "Basic bmFtZTp3QHJk";
    #[rustfmt::skip] // A table.
    let cases = [
        ("HTTPS_PROXY", "https://chat.example.com/x?y", "CONNECT chat.example.com:443"),
        ("all_proxy", "https://chat.example.com/x?y", "CONNECT chat.example.com:443"),
        ("http_proxy", "http://chat.example.com:8065/x?y", "http://chat.example.com:8065/x?y"),
        ("HTTP_PROXY", "http://u:p@chat.example.com/x?y", "http://chat.example.com/x?y"),
        ("ALL_PROXY", "http://chat.example.com/x?y", "http://chat.example.com/x?y"),
    ];
    for (variable, url, line) in cases {
        let tunnel = url.starts_with("https");
        let wire = if tunnel { &secure } else { &plain };
        let proxy = Tunnels::to(wire.address, "200 OK");
        let value = format!("http://name:w%40rd@{}", proxy.address);
        let agent = Agent::with_environment(Some(&ca_file), &variables(&[(variable, &value)]))
            .expect("a valid environment");
        let headers = [("Authorization", "Bearer 1")];
        for body in [Body::Json(b"{}"), Body::None, Body::Json(&[b' '; 100_000])] {
            let call = call_of("POST", url, &headers, body);
            let answer = text(agent.call(&call).expect("a response")).expect("a body");
            match tunnel {
                true => assert_eq!(answer, "POST /x?y Bearer 1 "),
                false => assert_eq!(answer, format!("POST {line} Bearer 1 {basic}")),
            }
        }
        let heads = proxy.heads();
        assert_eq!(heads.len(), 1, "the connection is kept");
        if tunnel {
            assert!(
                heads[0].starts_with(&format!("{line} HTTP/1.1\r\n")),
                "{}",
                heads[0]
            );
            let authorization = format!("Proxy-Authorization: {basic}\r\n");
            assert!(heads[0].contains(&authorization), "{}", heads[0]);
            assert!(!heads[0].contains("Bearer"), "{}", heads[0]);
        }
        assert_eq!(agent.variables(), [variable]);
    }
}

#[test]
fn no_proxy_and_this_machine_are_reached_directly() {
    let wire = Wire::start(|_| ok("direct"));
    let proxy = Tunnels::to(wire.address, "200 OK");
    let value = format!("http://{}", proxy.address);
    let environment = [
        ("HTTP_PROXY", value.as_str()),
        ("NO_PROXY", "other.invalid, name.invalid"),
    ];
    let agent = agent_in(&environment);
    let port = wire.address.port();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{port}");
        assert_eq!(get(&agent, &url, AMPLE).expect("a response"), "direct");
    }
    let problem = obstacle(get(&agent, "http://chat.name.invalid", AMPLE)).problem;
    let expected = "cannot connect to chat.name.invalid:80: ";
    assert!(problem.what.starts_with(expected), "{problem}");
    assert_eq!(proxy.heads(), [""; 0]);
    get(&agent, "http://chat.example.com", AMPLE).expect("a response by the proxy");
    assert_eq!(proxy.heads().len(), 1);
}

#[test]
fn a_proxy_that_refuses_or_is_gone_is_named() {
    let gone = unused_address();
    let refusing = Tunnels::to(gone, "407 Proxy Authentication Required").address;
    let forbidding = Tunnels::to(gone, "403 Forbidden").address;
    let silent = Tunnels::to(gone, "").address;
    let closing = Wire::start(|_| Reply::Close);
    let cases = [
        (
            gone,
            AMPLE,
            ": the proxy ADDRESS cannot be reached: connection refused; look at HTTPS_PROXY and \
             NO_PROXY in the environment",
        ),
        (
            refusing,
            AMPLE,
            " through the proxy ADDRESS: it wants a name and a password (407); put them into \
             HTTPS_PROXY: http://NAME:PASSWORD@ADDRESS",
        ),
        (
            forbidding,
            AMPLE,
            " through the proxy ADDRESS: it does not allow that (403); have whoever runs the proxy \
             allow it, or name the host in NO_PROXY",
        ),
        (
            silent,
            SHORT,
            " through the proxy ADDRESS: no complete answer within 600ms",
        ),
        (
            closing.address,
            AMPLE,
            " through the proxy ADDRESS: it closed the connection; is HTTPS_PROXY an HTTP proxy?",
        ),
    ];
    for (proxy, timeout, reason) in cases {
        let reason = reason.replace("ADDRESS", &proxy.to_string());
        let value = format!("http://{proxy}");
        let agent = agent_in(&[("HTTPS_PROXY", &value), ("HTTP_PROXY", &value)]);
        let expected = format!("cannot connect to chat.example.com:443{reason}");
        for result in [
            get(&agent, "https://chat.example.com", timeout),
            post(&agent, "https://chat.example.com", timeout),
        ] {
            assert_unreachable(result, &expected);
        }
        if [gone, refusing].contains(&proxy) {
            let expected = expected
                .replace(".com:443", ".com:80")
                .replace("HTTPS_", "HTTP_");
            assert_unreachable(post(&agent, "http://chat.example.com", timeout), &expected);
        }
    }
    let value = format!("http://name:word@{refusing}");
    let agent = agent_in(&[("HTTPS_PROXY", &value)]);
    let problem = obstacle(get(&agent, "https://chat.example.com", AMPLE)).problem;
    assert!(
        problem.what.contains("refuses the name and the password"),
        "{problem}"
    );
}

#[test]
fn a_wrong_password_is_the_proxys_also_where_it_says_401() {
    let gone = unused_address();
    let refusing =
        "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"Tinyproxy\"\r\nContent-Length: 0";
    let proxy = Tunnels::to(gone, refusing).address;
    let agent = |user: &str| {
        let value = format!("http://{user}{proxy}");
        agent_in(&[("HTTP_PROXY", &value)])
    };
    let problem = obstacle(get(&agent("name:word@"), "http://chat.example.com", AMPLE)).problem;
    let expected = "it refuses the name and the password (401)";
    assert!(problem.what.contains(expected), "{problem}");
    // The server's own: nothing was told to the proxy, or it forwarded the answer.
    get(&agent(""), "http://chat.example.com", AMPLE).expect("a response");
    let forwarded = "401 Unauthorized\r\nVia: 1.1 p\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0";
    let proxy = Tunnels::to(gone, forwarded).address;
    let value = format!("http://name:word@{proxy}");
    let agent = agent_in(&[("HTTP_PROXY", &value)]);
    get(&agent, "http://chat.example.com", AMPLE).expect("a response");
}

// What Mattermost, or what stands in front of it, refuses

#[test]
fn what_a_server_refuses_is_told_as_what_it_is() {
    let json = |id: &str| format!(r#"{{"id":"{id}","message":"No.","status_code":0}}"#);
    let page = "<html><title>Forbidden</title></html>";
    type Headers = &'static [(&'static str, &'static str)];
    let long = "x".repeat(300);
    let cut = format!("the server refused: No. (403 {})", "x".repeat(200));
    #[rustfmt::skip] // A table.
    let cases: [(u16, Headers, String, &str); 17] = [
        (
            401,
            &[],
            json("api.context.session_expired.app_error"),
            "the server refused the token (401); make a new one for the bot account and put it into \
             bot_token",
        ),
        (
            403,
            &[],
            json("api.context.mfa_required.app_error"),
            "the server demands multi-factor authentication (MFA) of this account, a person's; make \
             a bot account, which needs none, and put its token into bot_token",
        ),
        (
            401,
            &[],
            json("api.context.mfa_required.app_error"),
            "the server demands multi-factor authentication (MFA) of this account, a person's; make \
             a bot account, which needs none, and put its token into bot_token",
        ),
        (
            401,
            &[],
            json("api.user.check_user_login_attempts.too_many.app_error"),
            "the account is locked after too many failed logins; a system admin unlocks it; a bot \
             account, which has no password, cannot be locked",
        ),
        (
            401,
            &[],
            json("api.user.login.inactive.app_error"),
            "the account is deactivated; a system admin activates it: System Console > Users, or \
             Integrations > Bot Accounts",
        ),
        (
            403,
            &[],
            json("api.context.permissions.app_error"),
            "the server refused: No. (403 api.context.permissions.app_error)",
        ),
        (403, &[], json(r"a\u001b[2J\nb"), "the server refused: No. (403 a[2Jb)"),
        (403, &[], json(&long), &cut),
        (
            401,
            &[("WWW-Authenticate", "Basic realm=\"x\"")],
            page.into(),
            "GET users/me gave 401 and a page instead of Mattermost's JSON; a proxy asks for a login \
             of its own: it must let /api/v4/ pass without",
        ),
        (
            403,
            &[],
            page.into(),
            "GET users/me gave 403 and a page instead of Mattermost's JSON; a proxy or a firewall \
             refuses: it must let this machine pass to /api/v4/",
        ),
        (
            404,
            &[],
            page.into(),
            "GET users/me gave 404 and a page instead of Mattermost's JSON; is a proxy in between, or \
             url wrong?",
        ),
        (
            502,
            &[],
            page.into(),
            "GET users/me gave 502 and a page instead of Mattermost's JSON; is Mattermost down behind \
             its proxy?",
        ),
        (
            301,
            &[("Location", "https://example.com")],
            String::new(),
            "GET users/me was redirected (301), which is not followed; set url to where it leads",
        ),
        (
            429,
            &[],
            "limit exceeded".into(),
            "the server, or a proxy in front of it, asks for fewer requests (429); raise \
             poll_interval_secs if that goes on",
        ),
        (
            200,
            &[("Content-Encoding", "gzip")],
            "\u{1f}".into(),
            "127.0.0.1: the answer is compressed (gzip), which was not asked for; switch that off in \
             the server or the proxy in front of it",
        ),
        (
            403,
            &[("Content-Encoding", "br")],
            "\u{1f}".into(),
            "GET users/me gave 403 and the answer is compressed (br), which was not asked for; switch \
             that off in the server or the proxy in front of it",
        ),
        (200, &[], page.into(), "the server's answer is not Mattermost's JSON; is a proxy in between, or url wrong?"),
    ];
    for (status, headers, body, expected) in cases {
        let error = refused(status, headers, &body);
        assert_eq!(error.to_string(), expected, "{status} {body}");
        let denied = matches!(error, ApiError::Unauthorized(_));
        let by_account = ["mfa_required", "session", "login"];
        let is_one = by_account.iter().any(|sign| body.contains(sign));
        assert_eq!(denied, is_one, "{status} {body}");
    }
}

/// What comes of `GET users/me` that is answered so.
fn refused(status: u16, headers: &[(&str, &str)], body: &str) -> ApiError {
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let body = body.as_bytes().to_vec();
    let wire = Wire::start(move |_| Reply::Full {
        status,
        headers: headers.clone(),
        body: body.clone(),
    });
    let token = Secret::new("token");
    let client = Client::new(agent(), &wire.url(), &token, Times::default());
    client.me().expect_err("it is refused")
}

#[test]
fn a_pause_is_believed_when_it_is_plausible() {
    let minute = Some(Duration::from_secs(60));
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    type Headers = &'static [(&'static str, &'static str)];
    #[rustfmt::skip] // A table.
    let cases: [(Headers, Option<Duration>); 11] = [
        (&[], None),
        (&[("Retry-After", "7")], seconds(7)),
        (&[("Retry-After", "900")], seconds(900)),
        (&[("Retry-After", "86400")], minute),
        (&[("X-RateLimit-Reset", "3")], seconds(3)),
        (&[("X-RateLimit-Reset", "1795392000")], minute),
        (&[("Retry-After", "soon")], None),
        (&[("Retry-After", "2"), ("X-RateLimit-Reset", "1795392000")], seconds(2)),
        (&[("Retry-After", "1795392000"), ("X-RateLimit-Reset", "5")], seconds(5)),
        (&[("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Retry-After", "Sun, 06 Nov 1994 08:49:44 GMT")], seconds(7)),
        (&[("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Retry-After", "Sun, 06 Nov 1994 18:49:44 GMT")], minute),
    ];
    for (headers, expected) in cases {
        match refused(429, headers, "limit exceeded") {
            ApiError::RateLimited(pause) => assert_eq!(pause, expected, "{headers:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn requests_and_answers_of_any_size_pass_through_the_buffers() {
    let authority = Authority::new();
    let echo = |request: Request| {
        let key = request.headers.get("authorization").map_or(0, String::len);
        let mut body = format!("{key} {} ", request.body.len()).into_bytes();
        body.extend(request.body);
        Reply::Full {
            status: 200,
            headers: Vec::new(),
            body,
        }
    };
    let plain = Wire::start(echo);
    let tls = Wire::start_tls(authority.server(&["localhost"], |_| ()), echo);
    let agent = agent_trusting(&authority.file("sizes.pem"));
    for url in [plain.url(), https(&tls)] {
        for key in [10, 3_900, 4_000, 4_096, 7_000, 7_900] {
            for size in [
                0, 1, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 16_384, 16_385, 70_000, 3_000_000,
            ] {
                if size > 70_000 && key > 10 {
                    continue;
                }
                let (secret, body) = ("k".repeat(key), vec![b'x'; size]);
                let (first, second) = body.split_at(size / 3);
                let (headers, pieces) = ([("authorization", &*secret)], [first, second]);
                let call = call_of("POST", &url, &headers, Body::Pieces(&pieces));
                let answer = text(agent.call(&call).expect("a response")).expect("a text");
                let head = format!("{key} {size} ");
                assert!(
                    answer.starts_with(&head),
                    "{url} {key} {size}: {}",
                    &answer[..20]
                );
                assert_eq!(answer.len(), head.len() + size, "{url} {key} {size}");
            }
        }
    }
}
