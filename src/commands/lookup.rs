//! What people write → what the API takes: channels, people and posts by id, name or link, and where a
//! server's API is.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Agent, Body, Call, Failure, Obstacle};
use crate::json;
use crate::mattermost::client::{ApiError, ChannelList, Client, unless_closed, version};
use crate::mattermost::{Channel, PostId, Team, User, UserId, is_id};
use crate::sorted::Set;
use crate::url::{authority, http_url, origin};

const PING: &str = "/api/v4/system/ping";
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Paths below which servers are often installed.
const SUB_PATHS: [&str; 2] = ["/mattermost", "/chat"];

/// A Mattermost that answers.
pub(crate) struct Pong {
    pub(crate) version: String,
    pub(crate) took: Duration,
}

/// What there is instead of a Mattermost.
pub(crate) enum NoPong {
    Unreachable(Obstacle),
    /// Something else answers, `what` it says, and Mattermost is at `at`.
    Elsewhere {
        what: String,
        at: String,
    },
    /// Something answers that is not Mattermost's API: what it says, and where it redirects to.
    Other {
        what: String,
        leads_to: Option<(String, Leads)>,
    },
}

/// What a redirect looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// The same call at another server.
    ToApi,
    /// Anything else, such as a page to log in.
    ToPage,
}

impl NoPong {
    fn other(what: impl Into<String>) -> NoPong {
        let (what, leads_to) = (what.into(), None);
        NoPong::Other { what, leads_to }
    }
}

/// Asks `url` whether it is a Mattermost, without a token.
pub(crate) fn ping(agent: &Agent, url: &str) -> Result<Pong, NoPong> {
    let answer = match ping_once(agent, url) {
        // The first call includes the name look-up and the handshakes.
        Ok(_) => ping_once(agent, url),
        answer => answer,
    };
    match answer {
        // Without TLS on that port the plain URL may work. A problem whose fix is known has another
        // cause, such as a certificate.
        Err(NoPong::Unreachable(obstacle)) if obstacle.problem.fix.is_empty() => {
            let plain = url.strip_prefix("https").map(|rest| format!("http{rest}"));
            match plain.filter(|plain| ping_once(agent, plain).is_ok()) {
                Some(at) => {
                    let what = "no TLS".into();
                    Err(NoPong::Elsewhere { what, at })
                }
                None => Err(NoPong::Unreachable(obstacle)),
            }
        }
        Err(NoPong::Other { what, leads_to }) => {
            let first = leads_to.iter().map(|(base, _)| base.clone());
            let mut others = first.chain(other_paths(url));
            match others.find(|other| ping_once(agent, other).is_ok()) {
                Some(at) => Err(NoPong::Elsewhere { what, at }),
                None => Err(NoPong::Other { what, leads_to }),
            }
        }
        answer => answer,
    }
}

fn ping_once(agent: &Agent, url: &str) -> Result<Pong, NoPong> {
    let started = Instant::now();
    let response = agent.call(&Call {
        method: "GET",
        url: &format!("{url}{PING}"),
        headers: &[],
        body: Body::None,
        timeout: PING_TIMEOUT,
    });
    let response = match response {
        Ok(response) => response,
        Err(Failure::TooLarge) => return Err(NoPong::other("too much")),
        Err(Failure::Unreachable(obstacle)) => return Err(NoPong::Unreachable(obstacle)),
        Err(Failure::Unclear(problem)) => return Err(NoPong::Unreachable(problem.into())),
    };
    let status = response.status;
    if status == 429 {
        let problem = super::problem(&ApiError::RateLimited(None));
        return Err(NoPong::Unreachable(problem.into()));
    }
    let version = version(response.header("X-Version-Id").unwrap_or_default());
    let location = response.header("Location").unwrap_or_default().to_owned();
    let is_page = response
        .header("Content-Type")
        .is_some_and(|kind| kind.starts_with("text/html"));
    let ping = json::parse::<Value>(response.reader(64 << 10));
    match ping {
        Ok(ping) if status == 200 && ping["status"].is_string() => Ok(Pong {
            version,
            took: started.elapsed(),
        }),
        _ if (300..400).contains(&status) => {
            let place = location.split(['?', '#']).next().unwrap_or_default();
            Err(NoPong::Other {
                what: format!("a redirect to {place}"),
                leads_to: redirected(url, place),
            })
        }
        _ if is_page => Err(NoPong::other(format!("a web page ({status})"))),
        _ => Err(NoPong::other(format!("HTTP {status}"))),
    }
}

/// Where a redirect of `url`'s ping leads: to an API's ping, or to some page whose host may have one.
fn redirected(url: &str, location: &str) -> Option<(String, Leads)> {
    let (scheme, _) = url.split_once("://")?;
    let whole = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", authority(url))
    } else {
        return None;
    };
    let (base, leads) = match whole.strip_suffix(PING) {
        Some(base) => (base, Leads::ToApi),
        None => (origin(&whole), Leads::ToPage),
    };
    let base = http_url(base).ok().filter(|base| base != url)?;
    Some((base, leads))
}

/// Where else on the same host the API may be: above the path, as in a link copied from the browser,
/// or below the root.
fn other_paths(url: &str) -> Vec<String> {
    let root = origin(url);
    let mut others = Vec::new();
    let mut rest = url;
    while rest != root {
        rest = rest.rsplit_once('/').map_or(root, |(above, _)| above);
        others.push(rest.to_owned());
    }
    others.extend(SUB_PATHS.map(|path| format!("{rest}{path}")));
    others
}

/// A channel and the display name of its team; empty for a direct or group channel.
pub(crate) struct Found {
    pub(crate) channel: Channel,
    pub(crate) team: String,
}

impl Found {
    /// `teams`: those that the bot is in.
    pub(crate) fn new(channel: Channel, teams: &[Team]) -> Found {
        let team = teams.iter().find(|team| team.id == channel.team_id);
        let team = team.map(|team| team.display_name.clone());
        Found {
            channel,
            team: team.unwrap_or_default(),
        }
    }

    /// How people are told of it.
    pub(crate) fn title(&self) -> String {
        match self.channel.kind.as_str() {
            "D" => "a direct channel".into(),
            "G" => format!("the group {}", self.channel.display_name),
            _ if self.team.is_empty() => format!("~{}", self.channel.name),
            _ => format!("~{} in {}", self.channel.name, self.team),
        }
    }

    /// The line of the config file that makes it the one channel, for people to paste.
    pub(crate) fn setting(&self) -> String {
        let (id, title) = (&self.channel.id, self.title());
        format!("\n  channel_id = \"{id}\"  # {title}")
    }

    pub(crate) fn is_in_team(&self) -> bool {
        !self.channel.team_id.is_empty()
    }
}

/// The channels that the bot is in.
pub(crate) fn channels(client: &Client) -> Result<Vec<Found>, ApiError> {
    let teams = client.teams()?;
    let mut channels: Vec<Channel> = Vec::new();
    for team in &teams {
        // A team without a channel for the bot is a 404.
        let list = unless_closed(client.team_channels(&team.id, None))?;
        if let Some(ChannelList::Changed { channels: more, .. }) = list {
            channels.extend(more);
        }
    }
    if teams.is_empty() {
        // Servers before 6.0 do not have this call.
        channels = unless_closed(client.my_channels())?.unwrap_or_default();
    }
    let mut known = Set::new();
    channels.retain(|channel| known.insert(channel.id.clone()));
    let found = channels.into_iter();
    Ok(found.map(|channel| Found::new(channel, &teams)).collect())
}

/// Those that are neither direct nor a group's.
pub(crate) fn team_channels(client: &Client) -> Result<Vec<Found>, ApiError> {
    let mut found = channels(client)?;
    found.retain(Found::is_in_team);
    Ok(found)
}

/// The channels that `text` may mean: `~name`, a name as it is shown, a link to the channel or to a
/// post in it, or `@name` for the direct channel with a person. An id is not looked for.
pub(crate) fn find_channels(client: &Client, text: &str) -> Result<Vec<Found>, ApiError> {
    let text = text.trim();
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let segments: Vec<&str> = if text.contains("://") {
        path.trim_end_matches('/').split('/').collect()
    } else {
        Vec::new()
    };
    let teams = client.teams()?;
    let (team, name) = match segments[..] {
        [.., "pl", post] => return of_post(client, &post.into()),
        [.., "messages", user] => return direct(client, user),
        _ if text.starts_with('@') => return direct(client, text),
        [.., team, "channels", name] | [.., team, "channels", name, _] => (team, name),
        _ => ("", text.trim_start_matches(['~', '#'])),
    };
    let mut found = Vec::new();
    let is_named = |known: &&Team| team.is_empty() || known.name == team;
    for team in teams.iter().filter(is_named) {
        let channel = client.channel_named(&team.id, &name.to_lowercase());
        found.extend(unless_closed(channel)?.map(|channel| Found::new(channel, &teams)));
    }
    if found.is_empty() {
        found = channels(client)?;
        found.retain(|known| known.channel.display_name.to_lowercase() == name.to_lowercase());
    }
    Ok(found)
}

/// The channel of a post.
fn of_post(client: &Client, post: &PostId) -> Result<Vec<Found>, ApiError> {
    let channel = client
        .post(post)
        .and_then(|post| client.channel(&post.channel_id));
    let found = unless_closed(channel)?.map(|channel| with_team(client, channel));
    found.into_iter().collect()
}

/// The direct channel with a person.
fn direct(client: &Client, user: &str) -> Result<Vec<Found>, ApiError> {
    let Some(user) = find_user(client, user)? else {
        return Ok(Vec::new());
    };
    let mut found = channels(client)?;
    found
        .retain(|known| known.channel.is_direct() && known.channel.name.contains(user.id.as_str()));
    Ok(found)
}

/// The channel with its team's name.
pub(crate) fn with_team(client: &Client, channel: Channel) -> Result<Found, ApiError> {
    Ok(Found::new(channel, &client.teams()?))
}

/// The person of that name, with or without `@`.
pub(crate) fn find_user(client: &Client, name: &str) -> Result<Option<User>, ApiError> {
    let name = name.trim().trim_start_matches('@').to_lowercase();
    Ok(client.users_named(&[&name])?.into_iter().next())
}

/// A person's name with its `@`, if it is among the `known`; else the id.
pub(crate) fn at_name(id: &UserId, known: &[User]) -> String {
    let user = known.iter().find(|user| user.id == *id);
    user.map_or_else(|| id.to_string(), |user| format!("@{}", user.username))
}

/// The post that an id or a link to it names.
pub(crate) fn post_id(text: &str) -> Option<PostId> {
    let text = text.trim().split(['?', '#']).next()?;
    let last = text.trim_end_matches('/').rsplit('/').next()?;
    is_id(last).then(|| last.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_named_by_its_id_or_its_link() {
        let id = "4xp9fdt77pncbef59f4k1qe83o";
        let cases = [
            (id.to_owned(), true),
            (format!(" https://chat.example.com/team/pl/{id}\n"), true),
            (
                format!("https://chat.example.com/chat/_redirect/pl/{id}/?x=1#y"),
                true,
            ),
            ("town-square".to_owned(), false),
            (String::new(), false),
        ];
        for (text, found) in cases {
            let expected = found.then(|| PostId::from(id));
            assert_eq!(post_id(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_server() {
        let cases = [
            (
                "https://h/api/v4/system/ping",
                Some(("https://h", Leads::ToApi)),
            ),
            (
                "https://h/chat/api/v4/system/ping",
                Some(("https://h/chat", Leads::ToApi)),
            ),
            (
                "//i:8/api/v4/system/ping",
                Some(("http://i:8", Leads::ToApi)),
            ),
            (
                "/chat/api/v4/system/ping",
                Some(("http://h/chat", Leads::ToApi)),
            ),
            ("https://h/", Some(("https://h", Leads::ToPage))),
            (
                "https://sso.example/login",
                Some(("https://sso.example", Leads::ToPage)),
            ),
            ("http://h/login", None),
            ("login", None),
            ("ftp://h/api/v4/system/ping", None),
        ];
        for (location, expected) in cases {
            let found = redirected("http://h", location);
            let expected = expected.map(|(base, leads)| (base.to_owned(), leads));
            assert_eq!(found, expected, "{location}");
        }
    }

    #[test]
    fn the_api_is_looked_for_above_a_path_and_below_the_root() {
        let cases = [
            ("https://h", vec!["https://h/mattermost", "https://h/chat"]),
            (
                "https://h/team/channels",
                vec![
                    "https://h/team",
                    "https://h",
                    "https://h/mattermost",
                    "https://h/chat",
                ],
            ),
        ];
        for (url, expected) in cases {
            assert_eq!(other_paths(url), expected);
        }
    }
}
