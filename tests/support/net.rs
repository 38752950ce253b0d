//! Ways to a server: TLS with a CA of the test's own, and an HTTP proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A CA of one's own and a server's key and certificate for some names.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub fn server(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("valid names");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        server_config(certificate.der().clone(), &key, rustls::ALL_VERSIONS)
    }

    /// A server for `localhost` whose certificate is signed by one in between, which it sends or not.
    pub fn server_in_between(&self, sends_it: bool) -> ServerConfig {
        let named = |name: &str, names: Vec<String>| {
            let mut params = CertificateParams::new(names).expect("valid names");
            let common = rcgen::DnType::CommonName;
            params.distinguished_name.push(common, name);
            params
        };
        let key = || KeyPair::generate().expect("a key");
        let mut params = named("in between", Vec::new());
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let between_key = key();
        let signed = params.signed_by(&between_key, &self.issuer);
        let between = signed.expect("a certificate").der().clone();
        let (issuer, key) = (Issuer::new(params, between_key), key());
        let signed = named("server", vec!["localhost".into()]).signed_by(&key, &issuer);
        let mut chain = vec![signed.expect("a certificate").der().clone()];
        chain.extend(sends_it.then_some(between));
        server_chain(chain, &key.serialize_der(), rustls::ALL_VERSIONS)
    }

    /// The CA's certificate as a file, made for the test of that name.
    pub fn file(&self, name: &str) -> PathBuf {
        file(name, self.pem.as_bytes())
    }
}

pub fn server_config(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    server_chain(vec![certificate], &key.serialize_der(), versions)
}

/// `key`: its PKCS #8 form.
pub fn server_chain(
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let key = PrivatePkcs8KeyDer::from(key.to_vec());
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions that ring has")
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .expect("a key that fits")
}

/// A file in the build's folder.
pub fn file(name: &str, contents: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, contents).expect("a file in the build's folder");
    path
}

/// A proxy that takes every name for `target`: it opens tunnels, and forwards other requests as they
/// are.
pub struct Tunnels {
    pub address: SocketAddr,
    /// The heads of the requests.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    /// `answer` is its first line: what does not begin with 200 refuses.
    pub fn to(target: SocketAddr, answer: &'static str) -> Tunnels {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Tunnels {
            address: listener.local_addr().expect("an address"),
            heads: Arc::default(),
        };
        let heads = proxy.heads.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                heads
                    .lock()
                    .expect("no panic under the lock")
                    .push(String::from_utf8(head.clone()).expect("text"));
                if answer.is_empty() {
                    // It is kept open.
                    std::mem::forget(stream);
                    continue;
                }
                let connects = head.starts_with(b"CONNECT ");
                if connects || !answer.starts_with("200") {
                    let _ = write!(stream, "HTTP/1.1 {answer}\r\n\r\n");
                }
                if answer.starts_with("200") {
                    let mut there = TcpStream::connect(target).expect("the target listens");
                    if !connects {
                        there.write_all(&head).expect("the target reads");
                    }
                    relay(stream, there);
                }
            }
        });
        proxy
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic under the lock").clone()
    }
}

/// Copies both ways until either side ends.
fn relay(here: TcpStream, there: TcpStream) {
    for (mut from, mut to) in [
        (
            here.try_clone().expect("a clone"),
            there.try_clone().expect("a clone"),
        ),
        (there, here),
    ] {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
}
