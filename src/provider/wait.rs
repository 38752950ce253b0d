//! When a further try may help, as a server's refusal says it.

use std::time::Duration;

/// When a further try may help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wait {
    /// After a pause that grows.
    #[default]
    Usual,
    /// The server says how long.
    For(Duration),
    /// It is starting, or loading its model: for as long as there is time, perhaps with the pause
    /// that it asks for.
    Loading(Option<Duration>),
    /// Not today.
    Hopeless,
}

/// The model is not there yet.
const LOADING: &[&str] = &[
    "loading model",
    "model loading",
    "model is loading",
    "currently loading",
    "still loading",
    "being loaded",
    "model is not ready",
    "warming up",
    "starting up",
];

/// A quota that comes back tomorrow or later.
pub(super) const LASTING: &[&str] = &[
    "perday",
    "per day",
    "per-day",
    "daily limit",
    "daily quota",
    "weekly limit",
    "monthly",
    "per month",
    "/ month",
];

/// When a further try may help. `text` is in lower case.
pub(super) fn wait(status: u16, restarts: bool, text: &str, after: Option<Duration>) -> Wait {
    let any = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if status == 429 && any(LASTING) {
        return Wait::Hopeless;
    }
    match after.max(hint(text)) {
        after if restarts || any(LOADING) => Wait::Loading(after),
        Some(after) => Wait::For(after),
        None => Wait::Usual,
    }
}

/// The wait that an error's text, in lower case, asks for, be it in words or as a field, whose JSON may
/// be quoted in another one.
fn hint(text: &str) -> Option<Duration> {
    const BEFORE: &[&str] = &[
        "retrydelay ",
        "retryafter ",
        "retry after ",
        "retry after seconds ",
        "estimated time ",
        "try again in ",
        "try again after ",
        "retry in ",
        "reset after ",
        "resets in ",
        "reset seconds ",
        "please wait ",
    ];
    let plain = text.replace(['"', '\'', '\\', ':', '_'], " ");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut waits = BEFORE.iter().filter_map(|sign| {
        let (_, rest) = plain.split_once(sign)?;
        duration(rest.trim_start_matches("about ").trim_start_matches("for "))
    });
    waits.next()
}

/// `6s`, `1m2.5s`, `250ms`, `24 seconds`; a number alone is seconds.
fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (None, text);
    loop {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let Ok(number) = rest[..end].trim_end_matches('.').parse::<f64>() else {
            return total;
        };
        let after = rest[end..].trim_start();
        let end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let seconds = match &after[..end] {
            "ms" | "milliseconds" => number / 1000.0,
            "m" | "min" | "minute" | "minutes" => number * 60.0,
            "h" | "hour" | "hours" => number * 3600.0,
            _ => number,
        };
        let wait = Duration::try_from_secs_f64(seconds).ok()?;
        total = Some(total.unwrap_or(Duration::ZERO).checked_add(wait)?);
        rest = &after[end..];
    }
}
