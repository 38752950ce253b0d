//! The classes of the API's failures.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::client::parse;
use crate::http::{Failure, Response};
use crate::text::Problem;

/// What stands in front of Mattermost gives pages.
const PAGE: &str = "a page instead of Mattermost's JSON";

/// Why a call gave no value, by what the caller must do about it.
#[derive(Debug)]
pub enum ApiError {
    /// The request did not reach the server: try again.
    Unreachable(Problem),
    /// The server may or may not have acted (timeout, 5xx, an answer that is not the API's): try
    /// again, but a post only by the outbox's rules.
    Unclear(Problem),
    /// Too many requests; the server did not act. Try again after this long, if it said so.
    RateLimited(Option<Duration>),
    /// The body is over the bound: ask for less.
    TooLarge,
    /// The API itself refuses the account in everything: its token is wrong, or the server's
    /// database is down (401).
    Unauthorized(Denial),
    /// The API refused. `id` is its own name for the reason, such as `api.context.permissions.app_error`.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The API's name for the reason.
        id: String,
        /// What it says to people.
        message: String,
    },
}

/// Why the API refuses an account in everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The token is wrong, expired or revoked, or its account is deactivated: servers do not tell
    /// these apart.
    Token,
    /// The server demands a second factor of people's accounts.
    SecondFactor,
    /// Too many failed logins.
    Locked,
    /// The account is deactivated.
    Inactive,
}

impl Denial {
    fn of(status: u16, id: &str) -> Option<Denial> {
        match id {
            "api.context.mfa_required.app_error" => Some(Denial::SecondFactor),
            "api.user.check_user_login_attempts.too_many.app_error" => Some(Denial::Locked),
            "api.user.login.inactive.app_error" => Some(Denial::Inactive),
            _ => (status == 401).then_some(Denial::Token),
        }
    }

    /// What is wrong, and what to do.
    pub(crate) fn problem(self) -> Problem {
        let (what, fix) = match self {
            Denial::Token => (
                "the server refused the token (401)",
                "make a new one for the bot account and put it into bot_token",
            ),
            Denial::SecondFactor => (
                "the server demands multi-factor authentication (MFA) of this account, a person's",
                "make a bot account, which needs none, and put its token into bot_token",
            ),
            Denial::Locked => (
                "the account is locked after too many failed logins",
                "a system admin unlocks it; a bot account, which has no password, cannot be locked",
            ),
            Denial::Inactive => (
                "the account is deactivated",
                "a system admin activates it: System Console > Users, or Integrations > Bot Accounts",
            ),
        };
        Problem::new(what, fix)
    }
}

impl ApiError {
    pub(crate) fn unclear(what: impl Into<String>, fix: impl Into<String>) -> ApiError {
        ApiError::Unclear(Problem::new(what, fix))
    }

    /// Whether this error can persist for one request on a healthy server.
    pub(crate) fn may_last(&self) -> bool {
        matches!(self, ApiError::Unclear(_) | ApiError::TooLarge)
    }

    /// Whether the channel is closed to the bot, and not just what was asked for in it gone.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, ApiError::Refused { status: 403, .. })
    }

    /// Whether the channel, or what was asked for in it, is closed to the bot or not there.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(
            self,
            ApiError::Refused {
                status: 400 | 403 | 404,
                ..
            }
        )
    }
}

/// What a call gave; nothing if what was asked for is closed to the bot or not there.
pub(crate) fn unless_closed<T>(result: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match result {
        Err(error) if error.is_closed() => Ok(None),
        result => result.map(Some),
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::Unreachable(problem) | ApiError::Unclear(problem) => problem.fmt(f),
            ApiError::RateLimited(_) => f.write_str(
                "the server, or a proxy in front of it, asks for fewer requests (429); raise \
                 poll_interval_secs if that goes on",
            ),
            ApiError::TooLarge => f.write_str("the server's answer is larger than the bound"),
            ApiError::Unauthorized(denial) => denial.problem().fmt(f),
            ApiError::Refused {
                status,
                id,
                message,
            } => {
                let message = plain(message);
                write!(f, "the server refused: {message} ({status} {id})")
            }
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(obstacle) => ApiError::Unreachable(obstacle.problem),
            Failure::Unclear(problem) => ApiError::Unclear(problem),
            Failure::TooLarge => ApiError::TooLarge,
        }
    }
}

/// What a status other than success means: the API's own refusals are JSON with an `id`; all else
/// comes from a proxy or a server in trouble.
pub(super) fn refusal(status: u16, method: &str, path: &str, response: Response) -> ApiError {
    let compression = response.compression();
    let login = response.header("WWW-Authenticate").is_some();
    let body = parse::<Value>(response, 64 << 10).unwrap_or_default();
    let text = |name: &str| body[name].as_str();
    let id = text("id").map(plain);
    let path = path.split('?').next().unwrap_or(path);
    match (status, id) {
        (400..=499, Some(id)) if !matches!(status, 408 | 425) => match Denial::of(status, &id) {
            Some(denial) => ApiError::Unauthorized(denial),
            None => ApiError::Refused {
                status,
                id,
                message: text("message").unwrap_or_default().to_owned(),
            },
        },
        (_, Some(id)) => ApiError::unclear(format!("{method} {path} gave {status} ({id})"), ""),
        (300..=399, _) => ApiError::unclear(
            format!("{method} {path} was redirected ({status}), which is not followed"),
            "set url to where it leads",
        ),
        _ => {
            let page = || Problem::new(PAGE, by_proxy(status, login));
            let Problem { what, fix } = compression.unwrap_or_else(page);
            ApiError::unclear(format!("{method} {path} gave {status} and {what}"), fix)
        }
    }
}

/// What a server says, as far as a line can show it.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(200).collect()
}

/// What a page with this status tells of what stands in front of Mattermost. `login`: it asks for one.
fn by_proxy(status: u16, login: bool) -> &'static str {
    match status {
        401 if login => "a proxy asks for a login of its own: it must let /api/v4/ pass without",
        401 | 403 => "a proxy or a firewall refuses: it must let this machine pass to /api/v4/",
        502..=504 => "is Mattermost down behind its proxy?",
        _ => "is a proxy in between, or url wrong?",
    }
}
