//! The proxy that the environment names, and which hosts are reached without it.

use std::net::IpAddr;

use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, Either, Transport,
};
use ureq::{Proxy, ProxyProtocol};

use super::transport::{PROGRESS, Progress};

/// The proxy that the environment names, in ureq's order: one for http and https.
pub(super) fn proxy(variable: &dyn Fn(&str) -> Option<String>) -> Option<Proxy> {
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
pub(super) fn bypasses_proxy(host: &str, no_proxy: &str) -> bool {
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
}
