//! The smallest HTTP/1.1 server that a test can bend: real sockets, keep-alive, a thread per
//! connection, and replies that may break the protocol at any byte.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

/// One request, read whole.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// A function that writes the reply itself; `Ok(true)` keeps the connection.
pub type Writer = Box<dyn FnOnce(&mut dyn Write) -> io::Result<bool> + Send>;

/// What to answer.
pub enum Reply {
    /// A whole response with its Content-Length, or in chunks if its headers say so.
    Full {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Bytes on the wire: streams, trickles, half bodies.
    Raw(Writer),
    /// The connection is closed without a byte.
    Close,
    /// The connection is reset without a byte.
    Reset,
    /// No byte until the client leaves.
    Hang,
}

impl Reply {
    pub fn json(status: u16, body: &serde_json::Value) -> Reply {
        Reply::Full {
            status,
            headers: vec![("Content-Type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }
}

type Handler = dyn Fn(Request) -> Reply + Send + Sync;

/// The connections that are open, so that stopping the server ends them.
type Connections = Arc<Mutex<HashMap<u64, Arc<TcpStream>>>>;

/// A listening server; it stops when dropped.
pub struct Wire {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
    /// Keeps the port of a stopped server from others: bound, it refuses connections.
    held: Mutex<Option<socket2::Socket>>,
}

/// What the server's threads share.
struct Shared {
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
    accepted: AtomicUsize,
    handshakes: Mutex<Vec<HandshakeKind>>,
}

struct Running {
    stop: Arc<AtomicBool>,
    listener: JoinHandle<()>,
    connections: Connections,
}

impl Wire {
    /// Listens on a free port of the loopback interface.
    pub fn start(handler: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Wire {
        Wire::start_on(listen(), None, handler)
    }

    /// The same over TLS.
    pub fn start_tls(
        config: ServerConfig,
        handler: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> Wire {
        Wire::start_on(listen(), Some(Arc::new(config)), handler)
    }

    pub fn start_on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> Wire {
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            accepted: AtomicUsize::default(),
            handshakes: Mutex::default(),
        });
        let running = Mutex::new(Some(accept(listener, shared.clone())));
        Wire {
            address,
            shared,
            running,
            held: Mutex::default(),
        }
    }

    /// How many connections were made.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How each TLS connection that got that far was set up.
    pub fn handshakes(&self) -> Vec<HandshakeKind> {
        lock(&self.shared.handshakes).clone()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Refuses new connections from here on and drops the open ones.
    pub fn stop(&self) {
        let Some(running) = lock(&self.running).take() else {
            return;
        };
        running.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which closes its port as it ends.
        let _ = TcpStream::connect(self.address);
        let _ = running.listener.join();
        drop_all(&running.connections);
        *lock(&self.held) = hold(self.address).ok();
    }

    /// Drops the open connections and goes on listening.
    pub fn drop_connections(&self) {
        if let Some(running) = lock(&self.running).as_ref() {
            drop_all(&running.connections);
        }
    }

    /// Listens again on the same port.
    pub fn restart(&self) {
        self.stop();
        *lock(&self.held) = None;
        let mut listener = TcpListener::bind(self.address);
        for _ in 0..100 {
            if listener.is_ok() {
                break;
            }
            // Somebody's outgoing connection may hold the port for a moment.
            std::thread::sleep(Duration::from_millis(20));
            listener = TcpListener::bind(self.address);
        }
        let listener = listener.expect("the same port again");
        *lock(&self.running) = Some(accept(listener, self.shared.clone()));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The guard, also after a test's panic: what it held is looked at, not continued.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hold(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn accept(listener: TcpListener, shared: Arc<Shared>) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let connections = Connections::default();
    let (stopped, open) = (stop.clone(), connections.clone());
    let listener = std::thread::spawn(move || {
        for (number, stream) in (0u64..).zip(listener.incoming()) {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream.map(Arc::new) else {
                continue;
            };
            lock(&open).insert(number, stream.clone());
            shared.accepted.fetch_add(1, Ordering::SeqCst);
            let (shared, open) = (shared.clone(), open.clone());
            std::thread::spawn(move || {
                let _end = End(number, open);
                let _ = stream.set_nodelay(true);
                let ended = match &shared.tls {
                    Some(tls) => converse_tls(&stream, tls.clone(), &shared),
                    None => converse(BufReader::new(&*stream), &*stream, &shared.handler),
                };
                if ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
                    let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                }
            });
        }
    });
    Running {
        stop,
        listener,
        connections,
    }
}

fn drop_all(connections: &Connections) {
    for connection in lock(connections).values() {
        let _ = connection.shutdown(Shutdown::Both);
    }
}

/// Forgets a connection when its thread ends, also by a panic: a socket closes with its last handle.
struct End(u64, Connections);

impl Drop for End {
    fn drop(&mut self) {
        lock(&self.1).remove(&self.0);
    }
}

/// Serves one connection until either side ends it. `ConnectionReset`: the caller is to reset it.
fn converse(mut reader: impl BufRead, mut writer: impl Write, handler: &Handler) -> io::Result<()> {
    while let Some(request) = read_request(&mut reader)? {
        let keep = match handler(request) {
            Reply::Full {
                status,
                headers,
                body,
            } => {
                writer.write_all(&encode(status, &headers, &body))?;
                writer.flush()?;
                true
            }
            Reply::Raw(write) => write(&mut writer)?,
            Reply::Close => false,
            Reply::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            Reply::Hang => {
                io::copy(&mut reader, &mut io::sink())?;
                false
            }
        };
        if !keep {
            return Ok(());
        }
    }
    Ok(())
}

fn converse_tls(
    mut stream: &TcpStream,
    config: Arc<ServerConfig>,
    shared: &Shared,
) -> io::Result<()> {
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    if let Some(kind) = connection.handshake_kind() {
        lock(&shared.handshakes).push(kind);
    }
    let stream = Both(Rc::new(RefCell::new(StreamOwned::new(connection, stream))));
    converse(BufReader::new(stream.clone()), stream, &shared.handler)
}

/// A stream that cannot be cloned, as its own reader and writer.
#[derive(Clone)]
struct Both<'a>(Rc<RefCell<StreamOwned<ServerConnection, &'a TcpStream>>>);

impl Read for Both<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

/// A response as it stands on the wire.
pub fn encode(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} X\r\n").into_bytes();
    let mut chunked = false;
    for (name, value) in headers {
        chunked |= name.eq_ignore_ascii_case("transfer-encoding");
        out.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    if status == 304 || status == 204 {
        out.extend(b"\r\n");
    } else if chunked {
        out.extend(format!("\r\n{:x}\r\n", body.len()).into_bytes());
        out.extend(body);
        out.extend(b"\r\n0\r\n\r\n");
    } else {
        out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
        out.extend(body);
    }
    out
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
    {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding.contains("chunked"))
    {
        read_chunks(reader, &mut body)?;
    }
    Ok(Some(Request {
        method,
        target,
        headers,
        body,
    }))
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}
