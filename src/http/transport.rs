//! What a request goes over: TCP that waits in slices, and a note of how far the call has come.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Proxy, Timeout};

use super::proxy::forwarding;
use super::resolve::addresses;
use super::{SLICE, beat};

/// What is read at once. A response's status line and headers must fit.
pub(super) const INPUT_BYTES: usize = 16 * 1024;
/// What is written at once. A request's line and headers must fit.
pub(super) const OUTPUT_BYTES: usize = 8 * 1024;
/// What is read and written at once below TLS, which has buffers of its own.
const CIPHERTEXT_BYTES: usize = 4 * 1024;

thread_local! {
    pub(super) static PROGRESS: Cell<Progress> = const { Cell::new(Progress::NONE) };
    static WAIT_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Ends every wait for a server with a failure at `moment`, whatever the call's timeout is; `None`:
/// only that counts.
pub(crate) fn wait_until(moment: Option<Instant>) {
    WAIT_UNTIL.set(moment);
}

/// How far the call at hand has come; after a failure it tells what the server may know of it.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    /// The connection was made for this call.
    fresh: bool,
    /// A byte of the request may have been sent.
    pub(super) sent: bool,
    /// A byte of the response has arrived.
    received: bool,
}

impl Progress {
    pub(super) const NONE: Progress = Progress {
        fresh: false,
        sent: false,
        received: false,
    };

    /// Whether the server closed a kept connection instead of answering.
    pub(super) fn lost_kept(&self, error: &ureq::Error) -> bool {
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

/// Looks the name up and connects, unless there is a tunnel already.
#[derive(Debug)]
pub(super) struct Tcp;

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
        let proxy = forwarding(details);
        let uri = proxy.map_or(details.uri, Proxy::uri);
        let stream = connect(uri, *details.timeout.after, details.timeout.reason)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        let (input, output) = match details.uri.scheme_str() {
            Some("https") => (CIPHERTEXT_BYTES, CIPHERTEXT_BYTES),
            _ => (INPUT_BYTES, OUTPUT_BYTES),
        };
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(Either::B(Sliced {
            socket: Socket {
                stream,
                slice: SLICE,
            },
            buffers,
            answered: false,
            origin: proxy.and_then(|_| origin(details.uri)),
            sending: false,
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
    let until = Instant::now() + within;
    let addresses = addresses(&address, until)?;
    let mut failure = ureq::Error::HostNotFound;
    for (tried, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
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

/// The scheme, host and port of a URL: without the name and the password that it may have.
fn origin(uri: &Uri) -> Option<String> {
    let port = uri.port().map_or(String::new(), |port| format!(":{port}"));
    Some(format!("{}://{}{port}", uri.scheme_str()?, uri.host()?))
}

/// TCP that waits in slices and beats between them. The slices' length is constant until the last
/// one, so an idle poll sets no socket option.
pub(super) struct Sliced {
    socket: Socket,
    buffers: LazyBuffers,
    /// The last wait brought something: the connection is open, there is no need to probe it when
    /// it goes back to the pool. It is probed when it is taken out.
    answered: bool,
    /// What a request's path is preceded by: the connection is one to a proxy that forwards.
    origin: Option<String>,
    /// Part of a request was sent.
    sending: bool,
}

impl fmt::Debug for Sliced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buffers hold tokens.
        f.write_str("Sliced")
    }
}

struct Socket {
    stream: TcpStream,
    /// Its read and write timeout.
    slice: Duration,
}

impl Socket {
    /// Makes the next system call return in time, or tells that the time is over.
    fn bound(&mut self, timeout: NextTimeout, started: Instant) -> Result<(), ureq::Error> {
        let mut left = timeout.after.saturating_sub(started.elapsed());
        if let Some(moment) = WAIT_UNTIL.get() {
            left = left.min(moment.saturating_duration_since(Instant::now()));
        }
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

    fn send(
        &mut self,
        mut bytes: &[u8],
        timeout: NextTimeout,
        started: Instant,
    ) -> Result<(), ureq::Error> {
        while !bytes.is_empty() {
            self.bound(timeout, started)?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if passed(&error) => {}
                Err(error) => return Err(error.into()),
            }
            beat();
        }
        Ok(())
    }
}

/// A slice passed, or a signal came, without anything to read or room to write.
pub(super) fn passed(error: &io::Error) -> bool {
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
        let begins = !std::mem::replace(&mut self.sending, true);
        let mut output = &self.buffers.output()[..amount];
        if let (true, Some(origin)) = (begins, &self.origin) {
            // `GET /path` becomes `GET http://host/path`.
            let path = output.iter().position(|byte| *byte == b' ');
            let (method, rest) = output.split_at(path.map_or(0, |space| space + 1));
            let head = [method, origin.as_bytes()].concat();
            self.socket.send(&head, timeout, started)?;
            output = rest;
        }
        self.socket.send(output, timeout, started)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let started = Instant::now();
        self.sending = false;
        loop {
            self.socket.bound(timeout, started)?;
            let result = self.socket.stream.read(self.buffers.input_append_buf());
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
        std::mem::take(&mut self.answered) || is_silent(&self.socket.stream).unwrap_or(false)
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

/// The last link: the connection stands, and what goes over it is the request and the response.
#[derive(Debug)]
pub(super) struct Established {
    /// How old a connection may be when it is used again: the server may have moved since.
    pub(super) lifetime: Duration,
}

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
        let until = Instant::now() + self.lifetime;
        Ok(chained.map(|transport| Exchange { transport, until }))
    }
}

/// Notes the progress of the call that uses the connection.
#[derive(Debug)]
pub(super) struct Exchange<T> {
    transport: T,
    /// No call begins on it from then on.
    until: Instant,
}

impl<T: Transport> Transport for Exchange<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        PROGRESS.set(Progress {
            sent: true,
            ..PROGRESS.get()
        });
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let received = self.transport.await_input(timeout)?;
        if received {
            PROGRESS.set(Progress {
                received,
                ..PROGRESS.get()
            });
        }
        Ok(received)
    }

    fn is_open(&mut self) -> bool {
        Instant::now() < self.until && self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}
