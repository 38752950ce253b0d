//! What people write as a server's address → the start of every request's URL.

use crate::text::Problem;

/// `text` as the start of every request's URL, without trailing slashes; a problem never quotes it.
pub(crate) fn http_url(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let fail = |what: &str, fix: &str| Err(Problem::new(what, fix));
    if text.is_empty() {
        return fail("has no URL", "write one such as https://chat.example.com");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return fail("is not a URL", "it must begin with https:// or http://");
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" && scheme != "http" {
        return fail("must begin with https:// or http://", "");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return fail(
            "has a user name or password in it, which prx does not use",
            "write it without",
        );
    }
    if rest.contains(['?', '#']) {
        return fail("has a ? or # in it", "write it up to there");
    }
    if !rest
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
    {
        return fail(
            "has a character that no URL has in it",
            "write a host in ASCII (xn--…)",
        );
    }
    if !is_authority(authority) {
        return fail(
            "has no valid host and port",
            "write https://host or https://host:port",
        );
    }
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

/// `http_url` of what may lack its scheme.
pub(crate) fn with_scheme(scheme: &str, text: &str) -> Result<String, Problem> {
    if text.contains("://") {
        http_url(text)
    } else {
        http_url(&format!("{scheme}://{text}"))
    }
}

/// A URL up to the end of its host and port.
pub(crate) fn origin(url: &str) -> &str {
    let path = after_scheme(url).len() - authority(url).len();
    &url[..url.len() - path]
}

/// The host of a URL, with its port if it has one.
pub(crate) fn authority(url: &str) -> &str {
    after_scheme(url).split('/').next().unwrap_or_default()
}

/// The host of a URL: a name, or an address without the brackets of IPv6.
pub(crate) fn host(url: &str) -> &str {
    let authority = authority(url);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    host.trim_matches(['[', ']'])
}

/// Whether anything follows the host of a URL.
pub(crate) fn has_path(url: &str) -> bool {
    after_scheme(url).contains('/')
}

fn after_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// Whether `text` is a host, with or without a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address are inside brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    !host.is_empty()
        && (bracketed || !host.contains([':', '[', ']']))
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, parts) in [
            ("https://h", ("h", "h", false)),
            ("https://h:1/v1/x", ("h:1", "h", true)),
            ("http://[::1]", ("[::1]", "::1", false)),
            ("http://[fd00::1]:80/", ("[fd00::1]:80", "fd00::1", true)),
            ("h:1", ("h:1", "h", false)),
            ("", ("", "", false)),
        ] {
            assert_eq!((authority(url), host(url), has_path(url)), parts, "{url}");
        }
    }
}
