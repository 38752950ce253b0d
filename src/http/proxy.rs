//! The proxies that the environment names, and which hosts are reached without one: as curl has it.

use std::net::IpAddr;

use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, Either, Transport,
};
use ureq::{Proxy, ProxyProtocol};

use super::agent::Target;
use super::transport::{PROGRESS, Progress};
use crate::base64::encode;
use crate::text::Problem;

/// Which proxy a call goes through.
#[derive(Clone)]
pub(super) struct Proxies {
    http: Option<Named>,
    https: Option<Named>,
    /// Hosts that are reached directly.
    no_proxy: String,
}

/// A proxy and the variable that names it.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) proxy: Proxy,
    variable: &'static str,
}

impl Proxies {
    /// Each scheme has a variable of its own, and `ALL_PROXY` is for what has none. Notes in `used`
    /// which of them count.
    pub(super) fn read(
        variable: &dyn Fn(&str) -> Option<String>,
        used: &mut Vec<&'static str>,
    ) -> Proxies {
        let all = named(&["all_proxy", "ALL_PROXY"], variable);
        let proxies = Proxies {
            https: named(&["https_proxy", "HTTPS_PROXY"], variable).or_else(|| all.clone()),
            http: named(&["http_proxy", "HTTP_PROXY"], variable).or(all),
            no_proxy: ["NO_PROXY", "no_proxy"]
                .into_iter()
                .find_map(variable)
                .unwrap_or_default(),
        };
        for Named { variable, .. } in proxies.https.iter().chain(&proxies.http) {
            if !used.contains(variable) {
                used.push(variable);
            }
        }
        if !used.is_empty() && !proxies.no_proxy.is_empty() {
            used.push("NO_PROXY");
        }
        proxies
    }

    /// The proxy to `target`, unless that is reached directly.
    pub(super) fn to(&self, target: &Target) -> Option<&Named> {
        let proxy = if target.secure {
            &self.https
        } else {
            &self.http
        };
        proxy.as_ref().filter(|_| !self.bypasses(target))
    }

    /// Whether `target` is this machine (as in Go's `ProxyFromEnvironment`) or listed, by commas or
    /// white space: `*`, a host, a domain with or without a dot before it, an address, a network
    /// (`10.0.0.0/8`), each but that with a port if it is for this one only.
    fn bypasses(&self, target: &Target) -> bool {
        let host = bare(&target.host);
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let separates = |c: char| c == ',' || c.is_whitespace();
        self.no_proxy.split(separates).any(|entry| {
            let (entry, port) = without_port(entry);
            let entry = bare(entry);
            if port.is_some_and(|port| port != target.port) {
                return false;
            }
            match (address, entry.split_once('/')) {
                _ if entry == "*" => true,
                (Some(address), Some((network, bits))) => is_within(address, network, bits),
                (Some(address), None) => entry.parse() == Ok(address),
                (None, _) => is_in_domain(&host, &entry),
            }
        })
    }
}

/// The first of the variables `names` that is set, and is an HTTP proxy.
fn named(names: &[&'static str], variable: &dyn Fn(&str) -> Option<String>) -> Option<Named> {
    names
        .iter()
        .find_map(|name| match Proxy::new(variable(name)?.trim()) {
            Ok(proxy) if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) => {
                Some(Named {
                    proxy,
                    variable: name,
                })
            }
            _ => {
                log::warn!("{name} does not name an http:// or https:// proxy: ignored");
                None
            }
        })
}

/// In lower case, without brackets and a last dot.
fn bare(host: &str) -> String {
    let host = host.trim_matches(['[', ']']);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// `entry` and the port at its end. An IPv6 address has one only after brackets.
fn without_port(entry: &str) -> (&str, Option<u16>) {
    let split = entry.rsplit_once(':').and_then(|(host, port)| {
        let is_one = host.ends_with(']') || !host.contains(':');
        Some((host, port.parse().ok().filter(|_| is_one)?))
    });
    split.map_or((entry, None), |(host, port)| (host, Some(port)))
}

/// Whether `address` has the first `bits` bits of `network`.
fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (differing, length) = match (address, network.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) => {
            (u128::from(address.to_bits() ^ network.to_bits()), 32)
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) => {
            (address.to_bits() ^ network.to_bits(), 128)
        }
        _ => return false,
    };
    bits.parse::<u32>()
        .is_ok_and(|bits| bits <= length && differing.checked_shr(length - bits).unwrap_or(0) == 0)
}

fn is_in_domain(host: &str, entry: &str) -> bool {
    let domain = entry.strip_prefix('*').unwrap_or(entry);
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    match host.strip_suffix(domain) {
        _ if domain.is_empty() => false,
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    }
}

impl Named {
    /// Whether a request to an `http://` URL is given to the proxy as it is, with its whole URL: a
    /// tunnel to port 80 is what proxies refuse.
    pub(super) fn forwards(&self, target: &Target) -> bool {
        !target.secure && self.proxy.protocol() == ProxyProtocol::Http
    }

    /// `Proxy-Authorization`, if the variable has a name and a password.
    pub(super) fn authorization(&self) -> Option<String> {
        let name = self.proxy.username()?;
        let password = self.proxy.password().unwrap_or_default();
        let mut basic = b"Basic ".to_vec();
        encode(format!("{name}:{password}").as_bytes(), &mut basic);
        String::from_utf8(basic).ok()
    }

    /// What a person reads when the proxy is the reason why `place` cannot be reached.
    pub(super) fn is_gone(&self, place: &str, reason: &str) -> Problem {
        Problem::new(
            format!("cannot connect to {place}: the proxy {self} cannot be reached: {reason}"),
            format!("look at {} and NO_PROXY in the environment", self.variable),
        )
    }

    /// The same for what it said, if anything.
    pub(super) fn refuses(&self, place: &str, status: Option<u16>) -> Problem {
        let variable = self.variable;
        let (reason, fix) = match status {
            Some(status @ (401 | 407)) if self.proxy.username().is_some() => (
                format!("it refuses the name and the password ({status})"),
                format!(
                    "look at those in {variable}; signs like @ and / are written as %40 and %2F"
                ),
            ),
            Some(407) => (
                "it wants a name and a password (407)".into(),
                format!("put them into {variable}:\n  http://NAME:PASSWORD@{self}"),
            ),
            Some(status @ (403 | 405)) => (
                format!("it does not allow that ({status})"),
                "have whoever runs the proxy allow it, or name the host in NO_PROXY".into(),
            ),
            Some(status) => (
                format!("it cannot do that ({status})"),
                format!("look at the proxy's log, or at {variable} and NO_PROXY"),
            ),
            None => (
                "it closed the connection".into(),
                format!("is {variable} an HTTP proxy?"),
            ),
        };
        Problem::new(
            format!("cannot connect to {place} through the proxy {self}: {reason}"),
            fix,
        )
    }
}

/// Host and port: never the name and the password.
impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.proxy.host(), self.proxy.port())
    }
}

/// Whether the request of these details is one that the proxy forwards.
pub(super) fn forwarding<'a>(details: &'a ConnectionDetails) -> Option<&'a Proxy> {
    let proxy = details.config.proxy()?;
    let plain = details.uri.scheme_str() == Some("http");
    (plain && proxy.protocol() == ProxyProtocol::Http).then_some(proxy)
}

/// Asks the proxy, if there is one, for a tunnel. What went to the proxy did not go to the server.
#[derive(Debug, Default)]
pub(super) struct Tunnel(ConnectProxyConnector);

impl<In: Transport> Connector<In> for Tunnel {
    type Out = Either<In, Box<dyn Transport>>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        if forwarding(details).is_some() {
            return Ok(chained.map(Either::A));
        }
        let result = self.0.connect(details, chained);
        PROGRESS.set(Progress::NONE);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("192.168.1.1", "*", true),
            ("chat.example.com", "other.org, Example.com", true),
            ("chat.example.com", "other.org example.com", true),
            ("chat.example.com", "other.org\tx,\nexample.com.", true),
            ("chat.example.com.", "example.com", true),
            ("chat.example.com", ".example.com", true),
            ("example.com", ".example.com", true),
            ("chat.example.com", "*.example.com", true),
            ("chat.example.com", "chat.example.com,x", true),
            ("chat.example.com", "ample.com", false),
            ("chat.example.com", "example.com.evil.org", false),
            ("chat.example.com", " , , .", false),
            // ports
            ("chat.example.com", "chat.example.com:443", true),
            ("chat.example.com", "example.com:443", true),
            ("chat.example.com", "chat.example.com:8443", false),
            ("[fd00::1]", "[fd00::1]:443", true),
            ("[fd00::1]", "[fd00::1]:80", false),
            ("10.1.2.3", "10.1.2.3:443", true),
            // addresses
            ("192.168.1.1", "192.168.1.1", true),
            ("192.168.1.1", "168.1.1", false),
            ("192.168.1.1", ".1", false),
            ("[fd00::1]", "fd00::1", true),
            ("[fd00::1]", "[FD00:0::1]", true),
            // networks
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("172.16.5.5", "172.16.5.4/31", true),
            ("172.16.5.6", "172.16.5.4/31", false),
            ("172.16.5.4", "172.16.5.4/32", true),
            ("172.16.5.5", "172.16.5.4/32", false),
            ("8.8.8.8", "0.0.0.0/0", true),
            ("10.1.2.3", "10.0.0.0/33", false),
            ("10.1.2.3", "10.0.0.0/", false),
            ("[fd12:3456::1]", "fd00::/8", true),
            ("[fe80::1]", "fd00::/8", false),
            ("[fe80::1]", "::/0", true),
            ("10.1.2.3", "::/0", false),
            ("chat.example.com", "0.0.0.0/0", false),
        ];
        for (host, no_proxy, expected) in cases {
            let proxies = Proxies {
                http: None,
                https: None,
                no_proxy: no_proxy.into(),
            };
            let target = Target {
                host: host.into(),
                port: 443,
                secure: true,
            };
            assert_eq!(proxies.bypasses(&target), expected, "{host} {no_proxy}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        type Case = (
            &'static [(&'static str, &'static str)],
            [Option<&'static str>; 2],
            &'static [&'static str],
        );
        const ONE: &str = "http://one.example:1";
        const TWO: &str = "two.example:2";
        let cases: &[Case] = &[
            (&[], [None, None], &[]),
            (&[("NO_PROXY", "x")], [None, None], &[]),
            (
                &[("HTTPS_PROXY", ONE)],
                [Some("one.example"), None],
                &["HTTPS_PROXY"],
            ),
            (
                &[("http_proxy", TWO)],
                [None, Some("two.example")],
                &["http_proxy"],
            ),
            (
                &[("HTTP_PROXY", TWO), ("https_proxy", ONE), ("NO_PROXY", "x")],
                [Some("one.example"), Some("two.example")],
                &["https_proxy", "HTTP_PROXY", "NO_PROXY"],
            ),
            (
                &[("ALL_PROXY", ONE), ("HTTP_PROXY", TWO)],
                [Some("one.example"), Some("two.example")],
                &["ALL_PROXY", "HTTP_PROXY"],
            ),
            (
                &[("all_proxy", ONE), ("http_proxy", "socks5://s.example:3")],
                [Some("one.example"), Some("one.example")],
                &["all_proxy"],
            ),
            (&[("ALL_PROXY", "not a proxy")], [None, None], &[]),
        ];
        for (variables, expected, expected_names) in cases {
            let mut used = Vec::new();
            let proxies = Proxies::read(
                &|name| {
                    let found = variables.iter().find(|(key, _)| *key == name);
                    found.map(|(_, value)| (*value).into())
                },
                &mut used,
            );
            let hosts = [&proxies.https, &proxies.http]
                .map(|named| named.as_ref().map(|named| named.proxy.host()));
            assert_eq!(&hosts, expected, "{variables:?}");
            assert_eq!(&used, expected_names, "{variables:?}");
        }
    }

    #[test]
    fn a_name_and_a_password_are_decoded_and_never_shown() {
        let cases = [
            ("http://bot:s3cret@p.example:3128", "Basic Ym90OnMzY3JldA=="),
            (
                "http://a%40b:c%3A%2F%25@p.example:3128",
                "Basic YUBiOmM6LyU=",
            ),
            ("http://me@p.example:3128", "Basic bWU6"),
        ];
        for (value, expected) in cases {
            let proxy = Named {
                proxy: Proxy::new(value).expect("a proxy"),
                variable: "HTTP_PROXY",
            };
            assert_eq!(proxy.authorization().as_deref(), Some(expected));
            let told = proxy.refuses("a:80", Some(407));
            assert!(told.what.contains("the proxy p.example:3128: "), "{told}");
            assert!(!told.to_string().contains("s3cret"), "{told}");
        }
    }
}
