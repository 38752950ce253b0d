//! The smallest HTTP/1.1 server that a test can bend: real sockets, keep-alive, a thread per
//! connection, and replies that may break the protocol at any byte.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    Full { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
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
}

impl Wire {
    /// Listens on a free port of the loopback interface.
    pub fn start(handler: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let (handler, stopped) = (Arc::new(handler), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let handler = handler.clone();
                std::thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    let Ok(writer) = stream.try_clone() else { return };
                    let _ = converse(BufReader::new(stream), writer, &*handler);
                });
            }
        });
        Wire { address, stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
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
            Reply::Full { status, headers, body } => {
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
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        read_chunks(reader, &mut body)?;
    }
    Ok(Some(Request { method, target, headers, body }))
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
