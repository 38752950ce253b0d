//! TLS: whom to trust, and what went wrong in the words of a person who has to mend it.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ureq::tls::{PemItem, RootCerts, parse_pem};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::{ConnectionDetails, Connector, RustlsConnector, Transport};

use super::agent::Target;
use super::resolve::Later;
use super::{Cause, Obstacle};
use crate::text::Problem;

/// Where most Linux distributions keep the certificates that the machine trusts.
const MACHINES_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The roots to trust, and the setting or variable that names their file: those in `ca_file`, else in
/// `$SSL_CERT_FILE`, else Mozilla's, which are from none.
pub(super) fn roots(
    ca_file: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(RootCerts, Option<&'static str>), Problem> {
    const VARIABLE: &str = "SSL_CERT_FILE";
    let named = variable(VARIABLE).filter(|path| !path.is_empty());
    let (path, setting) = match (ca_file, named) {
        (Some(path), _) => (path.to_owned(), "ca_file"),
        (None, Some(path)) => (PathBuf::from(path), VARIABLE),
        (None, None) => return Ok((RootCerts::WebPki, None)),
    };
    let pem = std::fs::read(&path).map_err(|error| {
        Problem::new(
            format!("{setting} {}: {error}", path.display()),
            "name a readable file of PEM certificates",
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
        let path = path.display();
        return Err(Problem::new(
            format!("{setting} {path}: there is no certificate in it"),
            "it must hold the CA's certificate as PEM (-----BEGIN CERTIFICATE-----)",
        ));
    }
    Ok((RootCerts::from(certificates), Some(setting)))
}

/// What needs no more than its name: a sign in rustls' words, what is wrong, what to do.
const PLAIN: [(&str, &str, &str); 6] = [
    (
        "certificate expired",
        "the certificate has expired, or this machine's clock is wrong",
        "have the server's certificate renewed, or set the clock",
    ),
    (
        "certificate not valid yet",
        "the certificate is not valid yet, or this machine's clock is wrong",
        "have the server's certificate renewed, or set the clock",
    ),
    (
        "InvalidContentType",
        "the server does not speak TLS on this port",
        "",
    ),
    (
        "CertificateRequired",
        "the server wants a certificate of its clients, which this program cannot give",
        "let it in without one at the proxy in front of the server",
    ),
    (
        "UnrecognisedName",
        "the server has no certificate for this name",
        "is the host in the URL right?",
    ),
    (
        "not valid for any names",
        "the certificate has no subjectAltName; a common name (CN) alone does not count",
        "have it made anew with subjectAltName=DNS: and the host's name",
    ),
];

const NOTHING_IN_COMMON: [&str; 3] = [
    "HandshakeFailure",
    "ProtocolVersion",
    "peer is incompatible",
];

/// What rustls says (its types cannot be named from here) about the server at `target`, in the words
/// of a person who has to mend it; `setting` is where the roots are from.
pub(super) fn obstacle(text: &str, target: &Target, setting: Option<&str>) -> Obstacle {
    let cause = if is_untrusted(text) {
        Cause::Authority
    } else {
        Cause::Tls
    };
    let problem = problem(text, target, setting);
    Obstacle { cause, problem }
}

fn is_untrusted(text: &str) -> bool {
    text.contains("UnknownIssuer") || text.contains("BadSignature")
}

fn problem(text: &str, target: &Target, setting: Option<&str>) -> Problem {
    let has = |sign: &str| text.contains(sign);
    let about = if has("invalid peer certificate") {
        target.host.clone()
    } else {
        format!("cannot connect to {target}")
    };
    let (what, fix) = if is_untrusted(text) {
        unknown_issuer(target, setting, has("BadSignature"))
    } else if let Some((_, what, fix)) = PLAIN.iter().find(|(sign, ..)| has(sign)) {
        ((*what).into(), (*fix).into())
    } else if has("certificate not valid for") {
        let names = text.rsplit_once("is only valid for ");
        let names = names.map_or(String::new(), |(_, names)| format!(": {}", plain(names)));
        (
            format!("the certificate is for other names{names}"),
            "use a URL whose host is one of these".into(),
        )
    } else if has("CaUsedAsEndEntity") {
        (
            "the certificate is a CA's own (CA:TRUE), not a server's".into(),
            own_certificate(target.host.trim_matches(['[', ']'])),
        )
    } else if NOTHING_IN_COMMON.into_iter().any(has) {
        (
            format!("the server has no TLS version or cipher in common with this program ({text})"),
            "it must offer TLS 1.2 or 1.3".into(),
        )
    } else {
        (format!("TLS: {text}"), String::new())
    };
    Problem::new(format!("{about}: {what}"), fix)
}

/// How a certificate is made that a server can have and `ca_file` can name.
fn own_certificate(name: &str) -> String {
    let kind = match name.parse::<IpAddr>() {
        Ok(_) => "IP",
        Err(_) => "DNS",
    };
    format!(
        "make one without it, for the server and as ca_file:\n  openssl req -x509 -newkey rsa:2048 \
         -nodes -days 3650 -keyout key.pem -out cert.pem -subj \"/CN={name}\" -addext \
         \"subjectAltName={kind}:{name}\" -addext \"basicConstraints=CA:FALSE\""
    )
}

/// A certificate that leads to no root. From the outside an authority that is not known and a
/// certificate in between that the server does not send look the same.
fn unknown_issuer(target: &Target, setting: Option<&str>, other_key: bool) -> (String, String) {
    const UNKNOWN: &str = "the certificate is not signed by a known authority";
    let Some(setting) = setting else {
        let machines = if Path::new(MACHINES_ROOTS).exists() {
            format!(", or, if this machine trusts it:\n  ca_file = \"{MACHINES_ROOTS}\"")
        } else {
            String::new()
        };
        let fix = format!("set ca_file to the CA's certificate{machines}");
        return (UNKNOWN.into(), fix);
    };
    if other_key {
        return (
            format!("{UNKNOWN}: {setting} holds one of the same name with another key"),
            format!("put the authority's present certificate into {setting}"),
        );
    }
    (
        format!(
            "{UNKNOWN}: {setting} does not hold its authority, or the server does not send the \
             intermediate certificate"
        ),
        format!(
            "this shows what it sends, which must lead from its own certificate to one that \
             {setting} holds:\n  openssl s_client -connect {target} -showcerts </dev/null"
        ),
    )
}

/// `DnsName("a.example") or DnsName("b.example")` as a person writes it.
fn plain(names: &str) -> String {
    names
        .split('"')
        .skip(1)
        .step_by(2)
        .take(4)
        .collect::<Vec<_>>()
        .join(", ")
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
