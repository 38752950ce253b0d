//! The smallest HTTP/1.1 server that a test can bend: real sockets, keep-alive, a thread per
//! connection, and replies that may break the protocol at any byte.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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
    /// A whole response with its Content-Length.
    Full {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Bytes on the wire: streams, trickles, half bodies.
    Raw(Writer),
    /// The connection is closed without a byte.
    Close,
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

/// A listening server; it stops accepting when dropped.
pub struct Wire {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    handshakes: Arc<Mutex<Vec<HandshakeKind>>>,
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
        let wire = Wire {
            address: listener.local_addr().expect("an address"),
            stop: Arc::default(),
            accepted: Arc::default(),
            handshakes: Arc::default(),
        };
        let (stop, accepted) = (wire.stop.clone(), wire.accepted.clone());
        let (handler, handshakes) = (Arc::new(handler), wire.handshakes.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepted.fetch_add(1, Ordering::SeqCst);
                let (handler, tls, handshakes) = (handler.clone(), tls.clone(), handshakes.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    let _ = match tls {
                        Some(tls) => converse_tls(stream, tls, &handshakes, &*handler),
                        None => converse(BufReader::new(&stream), &stream, &*handler),
                    };
                });
            }
        });
        wire
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were made.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How each TLS connection that got that far was set up.
    pub fn handshakes(&self) -> Vec<HandshakeKind> {
        self.handshakes
            .lock()
            .expect("no panic under the lock")
            .clone()
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves one connection until either side ends it.
pub fn converse(
    mut reader: impl BufRead,
    mut writer: impl Write,
    handler: &(dyn Fn(Request) -> Reply + Send + Sync),
) -> io::Result<()> {
    while let Some(request) = read_request(&mut reader)? {
        let keep = match handler(request) {
            Reply::Full {
                status,
                headers,
                body,
            } => {
                let mut out = format!("HTTP/1.1 {status} X\r\n").into_bytes();
                for (name, value) in headers {
                    out.extend(format!("{name}: {value}\r\n").into_bytes());
                }
                if status != 304 && status != 204 {
                    out.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
                }
                out.extend(b"\r\n");
                if status != 304 && status != 204 {
                    out.extend(body);
                }
                writer.write_all(&out)?;
                writer.flush()?;
                true
            }
            Reply::Raw(write) => write(&mut writer)?,
            Reply::Close => false,
        };
        if !keep {
            return Ok(());
        }
    }
    Ok(())
}

fn converse_tls(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    handshakes: &Mutex<Vec<HandshakeKind>>,
    handler: &(dyn Fn(Request) -> Reply + Send + Sync),
) -> io::Result<()> {
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    if let Some(kind) = connection.handshake_kind() {
        handshakes
            .lock()
            .expect("no panic under the lock")
            .push(kind);
    }
    let stream = Both(Rc::new(RefCell::new(StreamOwned::new(connection, stream))));
    converse(BufReader::new(stream.clone()), stream, handler)
}

/// A stream that cannot be cloned, as its own reader and writer.
#[derive(Clone)]
struct Both(Rc<RefCell<StreamOwned<ServerConnection, TcpStream>>>);

impl Read for Both {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
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
