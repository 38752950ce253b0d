//! How a call goes: one request, what its status means, and its body.

use std::io;
use std::time::Duration;

use log::debug;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::error::{ApiError, refusal};
use super::{BODY_LIMIT, Client};
use crate::http::{self, Body, Call, Response};
use crate::json;
use crate::times::Step;

/// The longest pause that a 429 may ask for in seconds.
const PLAUSIBLE_PAUSE_S: u64 = 15 * 60;
/// The longest that it may ask for in any other way.
const PAUSE: Duration = Duration::from_secs(60);

impl Client {
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.get_within(path, BODY_LIMIT)
    }

    pub(super) fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: u64,
    ) -> Result<T, ApiError> {
        parse(self.send("GET", path, None, &[], self.times.call)?, limit)
    }

    /// Sends `body` as JSON.
    pub(super) fn tell<T: DeserializeOwned>(
        &self,
        method: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let body =
            serde_json::to_vec(body).map_err(|error| ApiError::unclear(error.to_string(), ""))?;
        let response = self.send(method, path, Some(&body), &[], self.times.call)?;
        parse(response, BODY_LIMIT)
    }

    /// Sends one request and sorts out every status but 200, 201, 206 and 304.
    pub(super) fn send(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&[u8]>,
        headers: &[(&'static str, &str)],
        timeout: Duration,
    ) -> Result<Response, ApiError> {
        let url = format!("{}{path}", self.base);
        let mut all: Vec<(&'static str, &str)> = vec![("Authorization", &self.authorization)];
        all.extend_from_slice(headers);
        self.times.clock.checkpoint(Step::BeforeRequest);
        let started = self.times.clock.now();
        let result = self.agent.call(&Call {
            method,
            url: &url,
            headers: &all,
            body: body.map_or(Body::None, Body::Json),
            timeout,
        });
        self.times.clock.checkpoint(Step::AfterResponse);
        let took = (self.times.clock.now() - started).as_millis();
        match &result {
            Ok(response) => debug!("{method} {path}: {} in {took} ms", response.status),
            Err(failure) => debug!("{method} {path}: {failure} after {took} ms"),
        }
        let response = result?;
        self.date_ms.set(response.date_ms());
        match response.status {
            200 | 201 | 206 | 304 => {
                self.served.set(self.served.get().wrapping_add(1));
                Ok(response)
            }
            429 => Err(ApiError::RateLimited(pause(&response))),
            status => Err(refusal(status, method, path, response)),
        }
    }
}

/// How long a 429 asks to wait. In seconds and plausible it is believed; a date, or a number that is
/// one, counts for a minute at most, for clocks differ.
fn pause(response: &Response) -> Option<Duration> {
    let seconds = |name| response.header(name)?.trim().parse().ok();
    let plausible = ["Retry-After", "X-RateLimit-Reset"]
        .into_iter()
        .filter_map(seconds)
        .find(|seconds| *seconds <= PLAUSIBLE_PAUSE_S);
    let asked = || response.header("X-RateLimit-Reset").map(|_| PAUSE);
    plausible
        .map(Duration::from_secs)
        .or_else(|| Some(response.retry_after().or_else(asked)?.min(PAUSE)))
}

/// Parses a body as it arrives, to its end, so that the connection can be used again.
pub(in crate::mattermost) fn parse<T: DeserializeOwned>(
    response: Response,
    limit: u64,
) -> Result<T, ApiError> {
    json::parse(response.reader(limit)).map_err(|error| {
        if error.is_io() {
            http::failure(io::Error::from(error)).into()
        } else {
            ApiError::unclear(
                "the server's answer is not Mattermost's JSON",
                "is a proxy in between, or url wrong?",
            )
        }
    })
}
