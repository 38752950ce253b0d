//! From a host's name to its addresses: by the system's look-up, and where that fails for want of an
//! IPv6 address by a question of our own.
//!
//! musl asks for A and AAAA at once and fails as a whole when a name server answers AAAA with an
//! error or not at all, as routers and company servers do.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::{SLICE, beat};

/// Which name servers are asked.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long a name server has for an answer, and how often it is asked.
const ANSWER_TIME: Duration = Duration::from_secs(1);
const TRIES: usize = 2;
/// A look-up that takes longer waits for an answer that does not come.
const SLOW: Duration = Duration::from_secs(1);
/// As many name servers and search domains as other resolvers take from `resolv.conf`.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;
/// What a server may send by UDP: RFC 1035, section 4.2.1.
const DATAGRAM: usize = 512;
const HEADER: usize = 12;

/// ureq looks names up before it looks for a kept connection, at every request, and with a timeout
/// in a thread of its own: this leaves it to `Tcp`.
#[derive(Debug)]
pub(super) struct Later;

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

thread_local! {
    /// The host whose address only our own question found, or the system's look-up found late: ours is
    /// asked first from then on. glibc waits for 15 s where AAAA is not answered at all.
    static OWN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The addresses of `address`, a host and a port. Only our own question ends at `until`.
pub(super) fn addresses(address: &str, until: Instant) -> Result<Vec<SocketAddr>, ureq::Error> {
    let system = || Ok(address.to_socket_addrs()?.collect());
    let own = |host: &str| Servers::read(Path::new(RESOLV_CONF))?.look_up(host, until);
    find(address, &system, &own)
}

fn find(
    address: &str,
    system: &dyn Fn() -> io::Result<Vec<SocketAddr>>,
    own: &dyn Fn(&str) -> Result<Vec<Ipv4Addr>, Trouble>,
) -> Result<Vec<SocketAddr>, ureq::Error> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = port.parse().map_err(|_| ureq::Error::HostNotFound)?;
    let ours = || -> Result<Vec<SocketAddr>, Trouble> {
        let found = own(host)?;
        Ok(found
            .into_iter()
            .map(|found| (found, port).into())
            .collect())
    };
    if OWN.with_borrow(|own| own == host)
        && let Ok(found) = ours()
    {
        return Ok(found);
    }
    let begun = Instant::now();
    let error = match system() {
        Ok(found) => {
            if begun.elapsed() >= SLOW {
                OWN.set(host.to_owned());
            }
            return Ok(found);
        }
        Err(error) => error.to_string(),
    };
    // EAI_AGAIN in the words of glibc and of musl.
    let silent = error.contains("Temporary failure") || error.contains("Try again");
    match ours() {
        Ok(found) => {
            OWN.set(host.to_owned());
            Ok(found)
        }
        Err(Trouble::NoServers) => Err(io::Error::other(format!(
            "no such host; there is no {RESOLV_CONF} that names a name server"
        ))
        .into()),
        Err(Trouble::Silent) if silent => {
            Err(io::Error::other("the name service does not answer").into())
        }
        Err(_) => Err(ureq::Error::HostNotFound),
    }
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// No name server is known.
    NoServers,
    /// No name server gave an answer that settles it.
    Silent,
    NotFound,
    /// The answer does not fit into a datagram; TCP has all of it.
    Truncated,
}

/// What `resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
struct Servers {
    servers: Vec<SocketAddr>,
    /// The domains to look for names in that have fewer dots than `dots`.
    search: Vec<String>,
    dots: usize,
}

impl Servers {
    fn read(path: &Path) -> Result<Servers, Trouble> {
        let text = std::fs::read_to_string(path).map_err(|_| Trouble::NoServers)?;
        Some(Servers::parse(&text))
            .filter(|servers| !servers.servers.is_empty())
            .ok_or(Trouble::NoServers)
    }

    fn parse(text: &str) -> Servers {
        let mut conf = Servers {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // An address with a zone (`fe80::1%eth0`) is none to the standard library.
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers
                        .extend(address.map(|address| SocketAddr::from((address, 53))));
                }
                Some("search" | "domain") => {
                    conf.search = words.map(str::to_owned).take(MOST_DOMAINS).collect();
                }
                Some("options") => {
                    let dots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    conf.dots = dots.unwrap_or(conf.dots);
                }
                _ => {}
            }
        }
        conf.servers.truncate(MOST_SERVERS);
        conf
    }

    /// The IPv4 addresses of `host`.
    fn look_up(&self, host: &str, until: Instant) -> Result<Vec<Ipv4Addr>, Trouble> {
        let within = |domain: &String| format!("{host}.{}", domain.trim_matches('.'));
        let mut names: Vec<String> = if host.ends_with('.') {
            Vec::new()
        } else {
            self.search.iter().map(within).collect()
        };
        let has_dots = host.matches('.').count() >= self.dots;
        names.insert(if has_dots { 0 } else { names.len() }, host.to_owned());
        for name in names {
            match self.ask_all(&name, until) {
                Err(Trouble::NotFound) => {}
                // With a name server that is silent each further name would take as long.
                settled => return settled,
            }
        }
        Err(Trouble::NotFound)
    }

    fn ask_all(&self, name: &str, until: Instant) -> Result<Vec<Ipv4Addr>, Trouble> {
        let id = RandomState::new().hash_one(name) as u16;
        let question = question(name, id).ok_or(Trouble::NotFound)?;
        for server in [&self.servers[..]; TRIES].concat() {
            let time = (until.saturating_duration_since(Instant::now())).min(ANSWER_TIME);
            if time.is_zero() {
                break;
            }
            // A server in trouble is like one that is silent: the next may know.
            if let Ok(answer @ (Ok(_) | Err(Trouble::NotFound))) = ask(server, &question, time) {
                return answer;
            }
        }
        Err(Trouble::Silent)
    }
}

/// What one server says to the question within `time`.
fn ask(
    server: SocketAddr,
    question: &[u8],
    time: Duration,
) -> io::Result<Result<Vec<Ipv4Addr>, Trouble>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let (socket, started) = (UdpSocket::bind((any, 0))?, Instant::now());
    // Connected, it receives from this server only, and is told that nobody listens there.
    socket.connect(server)?;
    socket.set_read_timeout(Some(SLICE.min(time)))?;
    socket.send(question)?;
    let mut buffer = [0; DATAGRAM];
    while started.elapsed() < time {
        beat();
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if super::transport::passed(&error) => continue,
            Err(error) => return Err(error),
        };
        match answer(&buffer[..length], question) {
            Some(Err(Trouble::Truncated)) => {
                let message = by_tcp(server, question, started + time)?;
                return Ok(answer(&message, question).unwrap_or(Err(Trouble::Silent)));
            }
            Some(answer) => return Ok(answer),
            // A stray one, or one for an earlier question.
            None => {}
        }
    }
    Ok(Err(Trouble::Silent))
}

/// The whole answer, by TCP.
fn by_tcp(server: SocketAddr, question: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    let left = until.saturating_duration_since(Instant::now());
    let mut stream = TcpStream::connect_timeout(&server, left)?;
    stream.set_read_timeout(Some(SLICE.min(left)))?;
    stream.set_write_timeout(Some(left))?;
    let length = question.len() as u16;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    read_by(&mut stream, &mut length, until)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    read_by(&mut stream, &mut message, until)?;
    Ok(message)
}

/// Fills the buffer before `until`, also if the bytes come one by one.
fn read_by(stream: &mut TcpStream, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        beat();
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if super::transport::passed(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A message that asks for the IPv4 addresses of `name`, if that can be a name: RFC 1035.
fn question(name: &str, id: u16) -> Option<Vec<u8>> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length = u8::try_from(label.len()).ok();
        message.push(length.filter(|length| (1..64).contains(length))?);
        message.extend(label.as_bytes());
    }
    // Its end; type A, class IN.
    message.extend([0, 0, 1, 0, 1]);
    (message.len() <= HEADER + 255 + 4).then_some(message)
}

/// Reads the answer to `question`; `None`: it is none.
fn answer(message: &[u8], question: &[u8]) -> Option<Result<Vec<Ipv4Addr>, Trouble>> {
    let (header, mut rest) = message.split_at_checked(HEADER)?;
    let is_answer = header[2] & 0x80 != 0;
    if !is_answer || header[..2] != question[..2] {
        return None;
    }
    match header[3] & 15 {
        0 => {}
        3 => return Some(Err(Trouble::NotFound)),
        // It cannot or will not answer.
        _ => return Some(Err(Trouble::Silent)),
    }
    rest = rest.strip_prefix(&question[HEADER..]).or_else(|| {
        // Some servers give the name back in another case.
        let (echo, rest) = rest.split_at_checked(question.len() - HEADER)?;
        echo.eq_ignore_ascii_case(&question[HEADER..])
            .then_some(rest)
    })?;
    if header[2] & 2 != 0 {
        return Some(Err(Trouble::Truncated));
    }
    let count = u16::from_be_bytes([header[6], header[7]]);
    let mut addresses = Vec::new();
    for _ in 0..count {
        rest = after_name(rest)?;
        let (record, data) = rest.split_at_checked(10)?;
        let length = u16::from_be_bytes([record[8], record[9]]);
        let (data, after) = data.split_at_checked(length.into())?;
        // The records of the names that the asked one stands for are among them.
        if let ([0, 1, 0, 1], [a, b, c, d]) = (&record[..4], data) {
            addresses.push(Ipv4Addr::new(*a, *b, *c, *d));
        }
        rest = after;
    }
    if addresses.is_empty() {
        return Some(Err(Trouble::NotFound));
    }
    Some(Ok(addresses))
}

/// What follows the name that `bytes` begin with.
fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match bytes.split_first()? {
            (0, rest) => return Some(rest),
            // A pointer to the rest of the name.
            (192.., rest) => return rest.get(1..),
            (length, rest) => bytes = rest.get(usize::from(*length)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A name server that gives `answer` what it was asked; an empty one is not sent.
    fn server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("an address");
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = answer(&buffer[..length]);
                if !answer.is_empty() {
                    socket.send_to(&answer, from).expect("it is sent");
                }
            }
        });
        address
    }

    /// The answer to `asked` with `flags`, as the third and the fourth byte have them, and `records`.
    fn says(asked: &[u8], flags: [u8; 2], records: &[&[u8]]) -> Vec<u8> {
        let mut message = asked.to_vec();
        message[2..4].copy_from_slice(&[flags[0] | 0x80, flags[1]]);
        message[7] = records.len() as u8;
        message.extend(records.concat());
        message
    }

    /// An A record that names the asked name by a pointer.
    const A: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1];
    /// A CNAME of the name `x`, and an A record of that.
    const CNAME: &[u8] = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0];
    const A_OF_X: &[u8] = &[1, b'x', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 2];
    const AAAA: &[u8] = &[
        0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 9, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
        15, 16,
    ];

    fn look_up(host: &str, servers: Vec<SocketAddr>) -> Result<Vec<Ipv4Addr>, Trouble> {
        let conf = Servers {
            servers,
            search: vec!["corp.example".into(), "example.".into()],
            dots: 1,
        };
        conf.look_up(host, Instant::now() + Duration::from_secs(60))
    }

    fn name(asked: &[u8]) -> String {
        let labels = &asked[HEADER..asked.len() - 4];
        String::from_utf8_lossy(labels).replace(|c: char| c.is_control(), ".")
    }

    #[test]
    fn a_name_servers_answers_are_understood() {
        type Says = fn(&[u8]) -> Vec<u8>;
        type Found = Result<Vec<Ipv4Addr>, Trouble>;
        let one = Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]);
        let cases: [(&str, Says, Found); 10] = [
            ("an address", |asked| says(asked, [0, 0], &[A]), one.clone()),
            (
                "among others",
                |asked| says(asked, [0, 0], &[AAAA, A]),
                one.clone(),
            ),
            (
                "of another name",
                |asked| says(asked, [0, 0], &[CNAME, A_OF_X]),
                Ok(vec![Ipv4Addr::new(192, 0, 2, 2)]),
            ),
            (
                "in other letters",
                |asked| {
                    let name = asked[HEADER..].to_ascii_uppercase();
                    says(&[&asked[..HEADER], &name].concat(), [0, 0], &[A])
                },
                one.clone(),
            ),
            (
                "no address",
                |asked| says(asked, [0, 0], &[AAAA]),
                Err(Trouble::NotFound),
            ),
            (
                "no name",
                |asked| says(asked, [0, 3], &[]),
                Err(Trouble::NotFound),
            ),
            (
                "refused",
                |asked| says(asked, [0, 5], &[]),
                Err(Trouble::Silent),
            ),
            (
                "in trouble",
                |asked| says(asked, [0, 2], &[]),
                Err(Trouble::Silent),
            ),
            (
                "to another question",
                |asked| says(&[&[!asked[0]], &asked[1..]].concat(), [0, 0], &[A]),
                Err(Trouble::Silent),
            ),
            (
                "broken",
                |asked| says(asked, [0, 0], &[&A[..14]]),
                Err(Trouble::Silent),
            ),
        ];
        for (what, answer, expected) in cases {
            let found = look_up("chat.example.org.", vec![server(answer)]);
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn after_a_slow_look_up_of_the_system_ours_is_the_first() {
        let asked = RefCell::new(Vec::new());
        let system = || {
            asked.borrow_mut().push("system");
            std::thread::sleep(SLOW);
            Ok(vec![SocketAddr::from(([192, 0, 2, 9], 443))])
        };
        let own = |_: &str| {
            asked.borrow_mut().push("own");
            Ok(vec![Ipv4Addr::new(192, 0, 2, 1)])
        };
        for _ in 0..2 {
            find("slow.example:443", &system, &own).unwrap();
        }
        assert_eq!(asked.take(), ["system", "own"]);
    }

    #[test]
    fn the_system_is_asked_first_until_only_our_own_question_finds_the_host() {
        let asked = RefCell::new(Vec::new());
        let system = |finds: bool| {
            asked.borrow_mut().push("system");
            if finds {
                Ok(vec![SocketAddr::from(([192, 0, 2, 9], 443))])
            } else {
                Err(io::Error::other("Try again"))
            }
        };
        let own = |host: &str| {
            asked.borrow_mut().push("own");
            match host {
                "ipv4.example" => Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]),
                "silent.example" => Err(Trouble::Silent),
                "bare.example" => Err(Trouble::NoServers),
                _ => Err(Trouble::NotFound),
            }
        };
        let ours = "192.0.2.1:443";
        let steps: [(&str, bool, &str, &[&str]); 8] = [
            ("ipv4.example:443", true, "192.0.2.9:443", &["system"]),
            ("ipv4.example:443", false, ours, &["system", "own"]),
            ("ipv4.example:443", false, ours, &["own"]),
            ("other.example:443", true, "192.0.2.9:443", &["system"]),
            (
                "other.example:443",
                false,
                "host not found",
                &["system", "own"],
            ),
            (
                "silent.example:443",
                false,
                "io: the name service does not",
                &["system", "own"],
            ),
            (
                "bare.example:443",
                false,
                "io: no such host; there is no /etc",
                &["system", "own"],
            ),
            ("no-port", true, "host not found", &[]),
        ];
        for (address, finds, expected, order) in steps {
            let said = match find(address, &|| system(finds), &own) {
                Ok(found) => found[0].to_string(),
                Err(error) => error.to_string(),
            };
            assert!(said.starts_with(expected), "{address}: {said}");
            assert_eq!(asked.take(), order, "{address}");
        }
    }

    #[test]
    fn the_next_server_is_asked_when_one_is_silent_or_refuses() {
        let silent = server(|_| Vec::new());
        let refusing = server(|asked| says(asked, [0, 5], &[]));
        let closed = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let closed = closed.local_addr().expect("an address");
        let good = server(|asked| says(asked, [0, 0], &[A]));
        for first in [silent, refusing, closed] {
            let found = look_up("chat.example.org", vec![first, good]);
            assert_eq!(found, Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]));
        }
    }

    #[test]
    fn names_without_enough_dots_are_looked_for_in_the_search_domains_first() {
        let known = |asked: &[u8]| match name(asked).as_str() {
            ".chat.example." | ".a.b." => says(asked, [0, 0], &[A]),
            _ => says(asked, [0, 3], &[]),
        };
        for (host, is_found) in [
            ("chat", true),
            ("a.b", true),
            ("chat.example", true),
            ("chat.", false),
            ("other", false),
            ("..", false),
            (&"x".repeat(64), false),
        ] {
            let found = look_up(host, vec![server(known)]);
            assert_eq!(found.is_ok(), is_found, "{host}: {found:?}");
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_is_asked_for_by_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let socket = UdpSocket::bind(address).expect("the same port");
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).expect("a question");
            let truncated = says(&buffer[..length], [2, 0], &[]);
            socket.send_to(&truncated, from).expect("it is sent");
            let (mut stream, _) = listener.accept().expect("a connection");
            let length = stream.read(&mut buffer).expect("a question");
            let whole = says(&buffer[2..length], [0, 0], &[A]);
            let length = (whole.len() as u16).to_be_bytes();
            let _ = stream.write_all(&[&length, &whole[..]].concat());
        });
        let found = look_up("chat.example.org", vec![address]);
        assert_eq!(found, Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]));
    }

    #[test]
    fn a_name_server_that_drips_has_no_more_time_than_another() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            // 255 bytes are promised, and one comes every 20 ms until nobody listens.
            let mut byte = 0;
            while stream.write_all(&[byte]).is_ok() {
                byte = 255;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let question = question("chat.example.org", 7).expect("a name");
        let until = Instant::now() + Duration::from_millis(300);
        let failed = by_tcp(address, &question, until)
            .err()
            .map(|error| error.kind());
        assert_eq!(failed, Some(io::ErrorKind::TimedOut));
    }

    #[test]
    fn nothing_that_a_server_sends_is_too_strange() {
        let question = question("chat.example.org", 7).expect("a name");
        let whole = says(&question, [0, 0], &[CNAME, AAAA, A_OF_X]);
        for end in 0..whole.len() {
            answer(&whole[..end], &question);
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 63, 64, 192, 255] {
                let mut message = whole.clone();
                message[at] = byte;
                answer(&message, &question);
            }
        }
    }

    #[test]
    fn resolv_conf_is_read_as_others_read_it() {
        let text = "# comment\nnameserver 192.0.2.1\n nameserver\tfd00::1 # x\nnameserver fe80::1%eth0\n\
                    domain old.example\nsearch a.example b.example\noptions rotate ndots:2\n;x\n";
        let parsed = Servers::parse(text);
        let servers: Vec<SocketAddr> = ["192.0.2.1:53", "[fd00::1]:53"]
            .map(|address| address.parse().expect("an address"))
            .into();
        assert_eq!(parsed.servers, servers);
        assert_eq!(parsed.search, ["a.example", "b.example"]);
        assert_eq!(parsed.dots, 2);
        let missing = Servers::read(Path::new("/nonexistent/resolv.conf"));
        assert_eq!(missing, Err(Trouble::NoServers));
    }
}
