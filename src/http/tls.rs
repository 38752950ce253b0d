//! TLS: whom to trust, and what went wrong in the words of a person who has to mend it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ureq::tls::{PemItem, RootCerts, parse_pem};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::{ConnectionDetails, Connector, RustlsConnector, Transport};

use super::resolve::Later;

/// The roots to trust: those in `ca_file`, else in `$SSL_CERT_FILE`, else Mozilla's.
pub(super) fn roots(
    ca_file: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<RootCerts, String> {
    let from_environment = || {
        variable("SSL_CERT_FILE")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let (path, setting) = match ca_file {
        Some(path) => (path.to_owned(), "ca_file"),
        None => match from_environment() {
            Some(path) => (path, "SSL_CERT_FILE"),
            None => return Ok(RootCerts::WebPki),
        },
    };
    let pem = std::fs::read(&path).map_err(|error| {
        format!(
            "{setting} {}: {error}; name a readable file of PEM certificates",
            path.display()
        )
    })?;
    // Bundles hold the odd certificate that cannot be read; it costs only itself.
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!(
            "{setting} {}: there is no certificate in it; it must hold the CA's certificate as PEM \
             (-----BEGIN CERTIFICATE-----)",
            path.display()
        ));
    }
    Ok(RootCerts::from(certificates))
}

/// rustls' words (its types cannot be named from here) in those of a person who has to mend it.
pub(super) fn tls_reason(text: &str) -> String {
    const UNKNOWN: &str =
        "the certificate is not signed by a known authority; set ca_file to the CA's certificate";
    const REASONS: [(&str, &str); 7] = [
        ("UnknownIssuer", UNKNOWN),
        // Another CA of the same name: one that was made anew.
        ("BadSignature", UNKNOWN),
        (
            "certificate not valid for",
            "the certificate is for other names",
        ),
        (
            "certificate expired",
            "the certificate has expired, or this machine's clock is wrong",
        ),
        (
            "certificate not valid yet",
            "the certificate is not valid yet, or this machine's clock is wrong",
        ),
        (
            "CaUsedAsEndEntity",
            "the certificate is a CA's own (CA:TRUE), not a server's; issue one without it",
        ),
        (
            "InvalidContentType",
            "the server does not speak TLS on this port",
        ),
    ];
    match REASONS.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, reason)) => (*reason).into(),
        None => format!("TLS: {text}"),
    }
}

/// TLS for https. Every call has its own timeout and so its own configuration; for such calls ureq
/// would set TLS up anew and never resume a session. The TLS settings are always the agent's.
#[derive(Debug, Default)]
pub(super) struct Tls(RustlsConnector);

impl<In: Transport> Connector<In> for Tls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let details = ConnectionDetails {
            request_level: false,
            uri: details.uri,
            addrs: Later.empty(),
            config: details.config,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.0.connect(&details, chained)
    }
}
