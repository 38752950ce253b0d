//! From a host's name to its addresses.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

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

/// The addresses of `address`, a host and a port.
pub(super) fn addresses(address: &str) -> Result<Vec<SocketAddr>, ureq::Error> {
    match address.to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => {
            // EAI_AGAIN in the words of glibc and of musl.
            let text = error.to_string();
            Err(
                if text.contains("Temporary failure") || text.contains("Try again") {
                    io::Error::other("the name service does not answer").into()
                } else {
                    ureq::Error::HostNotFound
                },
            )
        }
    }
}
