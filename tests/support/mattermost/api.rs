//! The REST API v4: what each call answers, and whom it refuses.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::{Map, Value, json};

use super::Version;
use super::render::List;
use super::world::{Channel, Kind, Pending, Post, Typing, World, whole_props};
use crate::support::wire::Request;

/// An answer before it is put on the wire.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the API's own handlers made it: they add their `X-Version-Id`.
    pub by_handler: bool,
}

impl Answer {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.into(), value.into()));
    }
}

/// What the server does with a request.
pub(super) enum Served {
    Answer(Answer),
    /// The answer follows once this time (since the beginning) has come.
    Later(u64, Box<dyn FnOnce(&mut World) -> Answer + Send>),
}

/// An error, thrown from anywhere.
pub(super) type Result<T> = std::result::Result<T, Answer>;

/// The server stops looking for changed posts at this many.
const SINCE_LIMIT: usize = 1000;
/// How long a `pending_post_id` is known, from the first attempt.
const PENDING_MS: u64 = 30_000;
const POSTS_BY_IDS_MAX: usize = 1000;
const PER_PAGE: usize = 60;
const PER_PAGE_MAX: usize = 200;

/// The user whose token the request carries.
pub(super) fn user_of(world: &World, request: &Request) -> Option<String> {
    let token = request
        .headers
        .get("authorization")?
        .strip_prefix("Bearer ")?;
    let user = world.tokens.get(token)?;
    (world.users[user].delete_at == 0).then(|| user.clone())
}

pub(super) fn serve(world: &mut World, request: &Request, user: Option<&str>) -> Served {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let path = path.strip_prefix(world.knobs.sub_path);
    let Some(path) = path.and_then(|path| path.strip_prefix("/api/v4/")) else {
        return Served::Answer(web_app());
    };
    let segments: Vec<&str> = path.split('/').collect();
    world.viewer = user.unwrap_or_default().into();
    let mut call = Call {
        world,
        request,
        query,
        user: user.unwrap_or_default(),
    };
    let served = match call.route(&segments) {
        Ok(served) => served,
        Err(refusal) => Served::Answer(refusal),
    };
    match served {
        Served::Answer(answer) => Served::Answer(call.not_modified(answer)),
        later => later,
    }
}

/// What is served outside of the API, whatever the path: the page that browsers load.
fn web_app() -> Answer {
    Answer {
        status: 200,
        headers: vec![("Content-Type".into(), "text/html; charset=utf-8".into())],
        body: b"<!doctype html><html><head><title>Mattermost</title></head></html>".into(),
        by_handler: false,
    }
}

/// The body every refusal of the API has.
pub fn refusal(status: u16, id: &str, message: &str) -> Answer {
    let body = json!({
        "id": id, "message": message, "detailed_error": "",
        "request_id": "zow87yh5rtbzuenibu5o1ro9gc", "status_code": status,
    });
    answer(status, &body)
}

fn answer(status: u16, body: &impl Display) -> Answer {
    Answer {
        status,
        headers: vec![("Content-Type".into(), "application/json".into())],
        body: body.to_string().into_bytes(),
        by_handler: true,
    }
}

pub(super) fn session_expired() -> Answer {
    let message = "Invalid or expired session, please login again.";
    refusal(401, "api.context.session_expired.app_error", message)
}

pub(super) fn forbidden() -> Answer {
    let message = "You do not have the appropriate permissions.";
    refusal(403, "api.context.permissions.app_error", message)
}

fn bad_body(what: &str) -> Answer {
    let message = format!("Invalid or missing {what} in request body.");
    refusal(400, "api.context.invalid_body_param.app_error", &message)
}

pub(super) fn no_such_post() -> Answer {
    refusal(404, "app.post.get.app_error", "Unable to get the post.")
}

fn no_such_user() -> Answer {
    refusal(
        404,
        "app.user.missing_account.const",
        "Unable to find the user.",
    )
}

fn no_such_team() -> Answer {
    refusal(
        404,
        "app.team.get.find.app_error",
        "Unable to find the existing team.",
    )
}

fn no_such_channel_name() -> Answer {
    refusal(
        404,
        "app.channel.get_by_name.missing.app_error",
        "Channel does not exist.",
    )
}

fn bad_root() -> Answer {
    refusal(
        400,
        "api.post.create_post.root_id.app_error",
        "Invalid RootId parameter.",
    )
}

pub(super) fn done() -> Served {
    Served::Answer(answer(200, &json!({ "status": "OK" })))
}

pub(super) fn ok(body: impl Display) -> Result<Served> {
    Ok(Served::Answer(answer(200, &body)))
}

fn ok_tagged(etag: String, body: impl Display) -> Result<Served> {
    let mut answer = answer(200, &body);
    answer.headers.push(("Etag".into(), etag));
    Ok(Served::Answer(answer))
}

/// One request being served.
pub(super) struct Call<'a> {
    pub world: &'a mut World,
    pub request: &'a Request,
    query: &'a str,
    pub user: &'a str,
}

impl Call<'_> {
    fn route(&mut self, path: &[&str]) -> Result<Served> {
        let method = self.request.method.as_str();
        match (method, path) {
            ("GET", ["system", "ping"]) => return ok(self.ping()),
            ("GET", ["config", "client"]) => return self.client_config(),
            _ => {}
        }
        if self.user.is_empty() && self.is_known(path) {
            return Err(session_expired());
        }
        let user = self.world.users.get(self.user);
        let person = user.is_some_and(|user| !user.is_bot);
        if self.world.knobs.mfa_required && person && path != ["users", "me"] {
            let id = "api.context.mfa_required.app_error";
            let message = "Multi-factor authentication is required on this server.";
            return Err(refusal(403, id, message));
        }
        match path[0] {
            "posts" | "reactions" | "files" => self.route_posts(method, path),
            _ => self.route_places(method, path),
        }
    }

    /// People, teams and channels.
    fn route_places(&mut self, method: &str, path: &[&str]) -> Result<Served> {
        match (method, path) {
            ("GET", ["users", "me", "teams"]) => self.my_teams(),
            ("GET", ["users", "me", "channels"]) if self.world.version == Version::V11_6 => {
                self.my_channels(None)
            }
            ("GET", ["users", "me", "teams", team, "channels"]) => self.my_channels(Some(team)),
            ("POST", ["users", user, "typing"]) => self.typing(user),
            ("POST", ["users", "ids"]) => self.users_by("user_ids", |user| &user.id),
            ("POST", ["roles", "names"]) => self.roles_named(),
            ("POST", ["users", "usernames"]) => self.users_by("usernames", |user| &user.username),
            ("GET", ["users", "username", name]) => self.user_named(name),
            ("GET", ["users", id]) => self.user(id),
            ("GET", ["teams", "name", name]) => {
                let team = self.team_named(name)?;
                self.team(&team)
            }
            ("GET", ["teams", "name", team, "channels", "name", name]) => {
                let team = self.team_named(team)?;
                self.channel_named(&team, name)
            }
            ("GET", ["teams", team, "channels", "name", name]) => self.channel_named(team, name),
            ("GET", ["teams", id]) => self.team(id),
            ("GET", ["channels", id]) => self.channel(id),
            ("GET", ["channels", id, "members"]) => self.members(id),
            ("GET", ["channels", id, "members", user]) => self.member(id, user),
            ("GET", ["channels", id, "posts"]) => self.posts(id),
            ("DELETE", ["users", user, "posts", id, "reactions", name]) => {
                self.unreact(user, id, name)
            }
            ("POST", ["commands", "execute"]) => self.command(),
            _ => Err(self.no_such_call()),
        }
    }

    fn route_posts(&mut self, method: &str, path: &[&str]) -> Result<Served> {
        match (method, path) {
            ("GET", ["posts", id]) => {
                let served = self.post(id)?;
                Ok(self.after_fetches(served, |post| post.id == *id))
            }
            ("GET", ["posts", id, "thread"]) => {
                let served = self.thread(id)?;
                Ok(self.after_fetches(served, |post| post.id == *id || post.root_id == *id))
            }
            ("POST", ["posts"]) => self.create_post(),
            ("POST", ["posts", "ids"]) if self.world.version == Version::V11_6 => {
                self.posts_by_ids()
            }
            ("PUT", ["posts", id, "patch"]) => self.patch_post(id),
            ("DELETE", ["posts", id]) => self.delete_post(id),
            ("POST", ["reactions"]) => self.react(),
            ("GET", ["posts", id, "reactions"]) => self.reactions(id),
            ("POST", ["posts", "ids", "reactions"]) => self.reactions_of_many(),
            ("GET", ["files", id]) => self.file(id),
            ("GET", ["files", id, "preview"]) => self.file_preview(id),
            ("GET", ["files", id, "thumbnail"]) => self.file_thumbnail(id),
            _ => Err(self.no_such_call()),
        }
    }

    /// An unknown call is a 404 with or without a token.
    fn is_known(&self, path: &[&str]) -> bool {
        const AREAS: [&str; 8] = [
            "roles",
            "users",
            "teams",
            "channels",
            "posts",
            "reactions",
            "files",
            "commands",
        ];
        let too_new = path == ["users", "me", "channels"] && self.world.version == Version::V5_37;
        AREAS.contains(&path[0]) && !too_new
    }

    fn no_such_call(&self) -> Answer {
        let url = self.request.target.split('?').next().unwrap_or_default();
        let body = json!({
            "id": "api.context.404.app_error",
            "message": "Sorry, we could not find the page.",
            "detailed_error": format!(
                "There doesn't appear to be an api call for the url='{url}'.  \
                 Typo? are you missing a team_id or user_id as part of the url?"
            ),
            "status_code": 404,
        });
        let mut answer = answer(404, &body);
        answer.by_handler = false;
        if self.world.version == Version::V5_37 {
            answer.headers[0].1 = "text/plain; charset=utf-8".into();
        }
        answer
    }

    /// A 304 if the client has what would be sent.
    fn not_modified(&self, answer: Answer) -> Answer {
        let asked = self.request.headers.get("if-none-match");
        let etag = answer.headers.iter().find(|(name, _)| name == "Etag");
        match etag {
            Some((_, etag)) if asked == Some(etag) => Answer {
                status: 304,
                headers: vec![("Etag".into(), etag.clone())],
                body: Vec::new(),
                by_handler: true,
            },
            _ => answer,
        }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|pair| pair.0 == name)
            .map(|pair| pair.1)
            .next()
    }

    fn number(&self, name: &str, or: usize) -> usize {
        let number = self.parameter(name).and_then(|value| value.parse().ok());
        number.unwrap_or(or)
    }

    fn per_page(&self) -> usize {
        self.number("per_page", PER_PAGE).min(PER_PAGE_MAX)
    }

    pub(super) fn body(&self, what: &str) -> Result<Value> {
        serde_json::from_slice(&self.request.body).map_err(|_| bad_body(what))
    }

    /// A list of at least one name.
    pub(super) fn names(&self, what: &str) -> Result<BTreeSet<String>> {
        let names = serde_json::from_slice(&self.request.body);
        let names: BTreeSet<String> = names.map_err(|_| bad_body(what))?;
        match names.is_empty() {
            true => Err(bad_body(what)),
            false => Ok(names),
        }
    }

    fn etag(&self, rest: std::fmt::Arguments) -> String {
        format!("{}.{rest}", self.world.version.number())
    }

    pub(super) fn check_id(&self, what: &str, id: &str) -> Result<()> {
        if id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(());
        }
        let message = format!("Invalid or missing {what} parameter in request URL.");
        Err(refusal(
            400,
            "api.context.invalid_url_param.app_error",
            &message,
        ))
    }

    // System.

    fn ping(&self) -> Value {
        let mut body = json!({
            "AndroidLatestVersion": "", "AndroidMinVersion": "", "IosLatestVersion": "",
            "IosMinVersion": "", "status": "OK",
        });
        if self.world.version == Version::V5_37 {
            body["DesktopLatestVersion"] = "".into();
            body["DesktopMinVersion"] = "".into();
        } else {
            body["ActiveSearchBackend"] = "database".into();
        }
        body
    }

    fn client_config(&self) -> Result<Served> {
        if self.parameter("format") != Some("old") {
            let message = "New format for the client configuration is not supported yet.";
            return Err(refusal(
                501,
                "api.config.client.old_format.app_error",
                message,
            ));
        }
        let mut config = self.world.version.client_config();
        if self.user.is_empty() {
            // Strangers are told less.
            return ok(json!({ "Version": config["Version"], "SiteName": config["SiteName"] }));
        }
        config["MaxPostSize"] = self.world.knobs.max_post_size.to_string().into();
        if let Some(secs) = self.world.knobs.edit_time_limit_secs {
            config["PostEditTimeLimit"] = secs.to_string().into();
        }
        ok(config)
    }

    // Users.

    fn user(&self, id: &str) -> Result<Served> {
        let id = if id == "me" { self.user } else { id };
        self.check_id("user_id", id)?;
        let user = self.world.users.get(id).ok_or_else(no_such_user)?;
        let (id, update_at) = (&user.id, user.update_at);
        let etag = self.etag(format_args!("{id}.{update_at}..0.true.true.0"));
        ok_tagged(etag, self.world.user_json(user, *id == self.user))
    }

    fn user_named(&self, name: &str) -> Result<Served> {
        if name.starts_with('@') {
            return Err(self.no_such_call());
        }
        if name.contains(char::is_uppercase) {
            return Err(bad_body("username"));
        }
        let id = self.world.usernames.get(name).ok_or_else(|| {
            let message = "Unable to find an existing account matching your username for this team. \
                           This team may require an invite from the team owner to join.";
            refusal(404, "app.user.get_by_username.app_error", message)
        })?;
        self.user(id)
    }

    fn users_by(&self, what: &str, key: impl Fn(&super::world::User) -> &str) -> Result<Served> {
        let wanted = self.names(what)?;
        let users = self.world.users.values();
        let mut users: Vec<_> = users.filter(|user| wanted.contains(key(user))).collect();
        users.sort_by_key(|user| &user.username);
        let users = users
            .into_iter()
            .map(|user| self.world.user_json(user, false));
        ok(users.collect::<Value>())
    }

    /// Of each role only what a client of ours looks at.
    fn roles_named(&self) -> Result<Served> {
        let names = self.names("rolenames")?;
        let roles = names.iter().map(|name| {
            let permissions = match name.as_str() {
                "channel_user" if self.world.knobs.no_posting => vec!["read_channel"],
                "channel_user" => vec!["read_channel", "create_post"],
                _ => vec![],
            };
            json!({ "name": name, "permissions": permissions })
        });
        ok(roles.collect::<Value>())
    }

    fn typing(&mut self, user: &str) -> Result<Served> {
        let body = self.body("typing")?;
        let channel = body["channel_id"].as_str().unwrap_or_default();
        if (user != "me" && user != self.user) || !self.may_post(channel) {
            return Err(forbidden());
        }
        let event = Typing {
            at_ms: self.world.now(),
            user_id: self.user.into(),
            channel_id: channel.into(),
            parent_id: body["parent_id"].as_str().unwrap_or_default().into(),
        };
        self.world.typing.push(event);
        Ok(done())
    }

    // Teams and channels.

    fn my_teams(&self) -> Result<Served> {
        let teams = self.world.teams.values();
        let teams = teams.filter(|team| team.members.contains(self.user));
        ok(teams
            .map(|team| self.world.team_json(team))
            .collect::<Value>())
    }

    fn team_named(&self, name: &str) -> Result<String> {
        self.world.team_named(name).ok_or_else(no_such_team)
    }

    fn team(&self, id: &str) -> Result<Served> {
        self.check_id("team_id", id)?;
        let team = self.world.teams.get(id).ok_or_else(no_such_team)?;
        if !team.members.contains(self.user) {
            return Err(forbidden());
        }
        ok(self.world.team_json(team))
    }

    /// One team's channels with the direct and group ones, by display name; or all, by id.
    fn my_channels(&self, team: Option<&str>) -> Result<Served> {
        if let Some(team) = team {
            self.check_id("team_id", team)?;
            let team = self.world.teams.get(team);
            if !team.is_some_and(|team| team.members.contains(self.user)) {
                return Err(forbidden());
            }
        }
        let channels = self.world.channels.values();
        let mut channels: Vec<&Channel> = channels
            .filter(|channel| channel.delete_at == 0 && channel.members.contains_key(self.user))
            .filter(|channel| {
                team.is_none_or(|team| channel.team_id.is_empty() || channel.team_id == team)
            })
            .collect();
        if channels.is_empty() {
            let id = "app.channel.get_channels.not_found.app_error";
            return Err(refusal(404, id, "No channels were found."));
        }
        if team.is_none() {
            return ok(channels
                .iter()
                .map(|channel| self.world.listed_channel_json(channel))
                .collect::<Value>());
        }
        channels.sort_by_key(|channel| &channel.display_name);
        let (mut newest, mut moment) = ("0", 0);
        for channel in &channels {
            for at in [channel.last_post_at, channel.edited_at, channel.update_at] {
                if at > moment {
                    (newest, moment) = (&channel.id, at);
                }
            }
        }
        let etag = self.etag(format_args!("{newest}.{moment}.0.{}", channels.len()));
        if self.request.headers.get("if-none-match") == Some(&etag) {
            // The list itself would be thrown away.
            return ok_tagged(etag, Value::Null);
        }
        let list = channels
            .iter()
            .map(|channel| self.world.listed_channel_json(channel));
        ok_tagged(etag, list.collect::<Value>())
    }

    fn may_post(&self, channel: &str) -> bool {
        let locked = self.world.knobs.no_posting;
        self.is_member(channel) && !locked && !self.world.channels[channel].read_only
    }

    fn is_member(&self, channel: &str) -> bool {
        let channel = self.world.channels.get(channel);
        channel.is_some_and(|channel| channel.members.contains_key(self.user))
    }

    pub(super) fn may_read(&self, channel: &Channel) -> bool {
        self.world.may_read(self.user, channel)
    }

    fn readable(&self, channel: &str) -> Result<&Channel> {
        self.check_id("channel_id", channel)?;
        let found = self.world.channels.get(channel);
        found
            .filter(|channel| self.may_read(channel))
            .ok_or_else(forbidden)
    }

    fn channel(&self, id: &str) -> Result<Served> {
        self.check_id("channel_id", id)?;
        if !self.world.channels.contains_key(id) {
            let which = match self.world.version {
                Version::V5_37 => String::new(),
                Version::V11_6 => format!(" {id}"),
            };
            let message = format!("Unable to find the existing channel{which}.");
            return Err(refusal(404, "app.channel.get.existing.app_error", &message));
        }
        ok(self.world.channel_json(self.readable(id)?))
    }

    fn channel_named(&self, team: &str, name: &str) -> Result<Served> {
        self.check_id("team_id", team)?;
        let mut channels = self.world.channels.values();
        let found = channels.find(|channel| channel.team_id == team && channel.name == name);
        let channel = found.ok_or_else(no_such_channel_name)?;
        match (self.may_read(channel), channel.kind) {
            (true, _) => ok(self.world.channel_json(channel)),
            (false, Kind::Open) => Err(forbidden()),
            // Not even that it exists.
            (false, _) => Err(no_such_channel_name()),
        }
    }

    fn members(&self, channel: &str) -> Result<Served> {
        let channel = self.member_of(channel)?;
        let members = channel.members.keys();
        let page = self.number("page", 0) * self.per_page();
        let members = members.skip(page).take(self.per_page());
        ok(members
            .map(|user| self.world.member_json(channel, user))
            .collect::<Value>())
    }

    fn member(&self, channel: &str, user: &str) -> Result<Served> {
        let user = if user == "me" { self.user } else { user };
        let channel = self.member_of(channel)?;
        if !channel.members.contains_key(user) {
            let id = "app.channel.get_member.missing.app_error";
            return Err(refusal(
                404,
                id,
                "No channel member found for that user ID and channel ID.",
            ));
        }
        ok(self.world.member_json(channel, user))
    }

    /// The members of a channel are told to its members only, even of an open one.
    fn member_of(&self, channel: &str) -> Result<&Channel> {
        self.check_id("channel_id", channel)?;
        let found = self.world.channels.get(channel);
        let mine = found.filter(|channel| channel.members.contains_key(self.user));
        mine.ok_or_else(forbidden)
    }

    // Reading posts.

    fn posts(&mut self, channel: &str) -> Result<Served> {
        self.check_id("channel_id", channel)?;
        let since = match self.parameter("since") {
            Some(since) => since.parse().map_err(|_| bad_body("since"))?,
            None => 0,
        };
        self.readable(channel)?;
        let served = self.listed(channel, since)?;
        Ok(self.after_fetches(served, |post| post.channel_id == channel))
    }

    /// An answer that waits until the links of the posts in it are fetched.
    fn after_fetches(&self, served: Served, shows: impl Fn(&Post) -> bool) -> Served {
        let fetching = self.world.fetching.iter();
        let shown = fetching.filter(|&&(index, _)| shows(&self.world.posts[index]));
        match (served, shown.map(|&(_, until)| until).max()) {
            (Served::Answer(answer), Some(until)) if until > self.world.elapsed_ms() => {
                Served::Later(until, Box::new(move |_| answer))
            }
            (served, _) => served,
        }
    }

    fn listed(&mut self, channel: &str, since: u64) -> Result<Served> {
        if since > 0 {
            return ok(self.posts_since(channel, since));
        }
        let etag = self.posts_etag(channel);
        if self.request.headers.get("if-none-match") == Some(&etag) {
            return ok_tagged(etag, Value::Null);
        }
        let page = match (self.parameter("after"), self.parameter("before")) {
            (Some(after), _) => self.posts_around(channel, after, true),
            (None, Some(before)) => self.posts_around(channel, before, false),
            (None, None) => self.posts_page(channel),
        };
        ok_tagged(etag, self.world.list_json(&page))
    }

    fn skips_threads(&self) -> bool {
        self.parameter("skipFetchThreads") == Some("true")
    }

    /// What changed after `since`, with the roots of what changed. Over the limit it is arbitrary
    /// which of them: the database is asked for that many without an order.
    fn posts_since(&mut self, channel: &str, since: u64) -> String {
        let with_reply_counts = self.skips_threads();
        let world = &mut *self.world;
        let listed = world.channels.get_mut(channel).expect("a checked channel");
        if world.knobs.since_cache && listed.cached_update_at == Some(since) {
            return world.list_json(&List::default());
        }
        let changed = listed.updated.range((since + 1, 0)..);
        let mut changed: Vec<usize> = changed.map(|&(_, index)| index).collect();
        if changed.len() > SINCE_LIMIT {
            world.random.shuffle(&mut changed);
            changed.truncate(SINCE_LIMIT);
        }
        let newest = changed
            .iter()
            .map(|&index| world.posts[index].update_at)
            .max();
        listed.cached_update_at = newest.or(listed.cached_update_at);
        let roots = changed.iter().filter_map(|&index| {
            let root = &world.posts[index].root_id;
            world.post_index.get(root).copied()
        });
        let mut all: Vec<usize> = roots.chain(changed.iter().copied()).collect();
        all.sort_by_key(|&index| std::cmp::Reverse((world.posts[index].create_at, index)));
        all.dedup();
        let is_changed = |index: &usize| world.posts[*index].update_at > since;
        let (order, others) = all.into_iter().partition(is_changed);
        world.list_json(&List {
            order,
            others,
            with_reply_counts,
            ..List::default()
        })
    }

    fn posts_etag(&mut self, channel: &str) -> String {
        let stale = self.world.knobs.stale_page_etag;
        let channel = self
            .world
            .channels
            .get_mut(channel)
            .expect("a checked channel");
        let newest = channel
            .updated
            .last()
            .map_or(0, |&(update_at, _)| update_at);
        let cached = match channel.cached_update_at {
            Some(cached) if stale => cached,
            _ => *channel.cached_update_at.insert(newest),
        };
        self.etag(format_args!("{cached}"))
    }

    /// Newest first from the newest.
    fn posts_page(&self, channel: &str) -> List {
        let per_page = self.per_page();
        let page = self.number("page", 0);
        let timeline = self.world.channels[channel].timeline.iter().rev();
        let visible = timeline.filter(|&&index| self.world.posts[index].delete_at == 0);
        let order: Vec<usize> = visible
            .skip(page * per_page)
            .take(per_page)
            .copied()
            .collect();
        let replies = order
            .iter()
            .map(|&index| self.world.posts[index].root_id.as_str());
        let roots: BTreeSet<&str> = replies.filter(|root| !root.is_empty()).collect();
        let others = self.threads(roots.into_iter());
        List {
            next: match page {
                0 => String::new(),
                _ => self.newer_than(channel, order.first()),
            },
            previous: self.older_than(channel, order.last()),
            with_reply_counts: self.skips_threads(),
            order,
            others,
            has_next: None,
        }
    }

    /// The posts next to an anchor, which may be deleted, newest first; page 0 is next to it.
    fn posts_around(&self, channel: &str, anchor: &str, after: bool) -> List {
        let posts = &self.world.posts;
        let timeline = &self.world.channels[channel].timeline;
        let (page, per_page) = (self.number("page", 0), self.per_page());
        let mut order: Vec<usize> = match self.world.post_index.get(anchor) {
            Some(&anchor) => {
                let at = posts[anchor].create_at;
                let visible = |&&index: &&usize| posts[index].delete_at == 0;
                if after {
                    let first = timeline.partition_point(|&index| posts[index].create_at <= at);
                    let newer = timeline[first..].iter().filter(visible);
                    newer
                        .skip(page * per_page)
                        .take(per_page)
                        .copied()
                        .collect()
                } else {
                    let end = timeline.partition_point(|&index| posts[index].create_at < at);
                    let older = timeline[..end].iter().rev().filter(visible);
                    older
                        .skip(page * per_page)
                        .take(per_page)
                        .copied()
                        .collect()
                }
            }
            None => Vec::new(),
        };
        if after {
            order.reverse();
        }
        let roots = order
            .iter()
            .map(|&index| match posts[index].root_id.as_str() {
                "" => posts[index].id.as_str(),
                root => root,
            });
        let roots: BTreeSet<&str> = roots.collect();
        let others = self.threads(roots.into_iter());
        let full = order.len() == per_page;
        List {
            next: match (after, page) {
                (false, 0) => anchor.into(),
                (true, _) if !full => String::new(),
                _ => self.newer_than(channel, order.first()),
            },
            previous: match (after, page) {
                (true, 0) => anchor.into(),
                (false, _) if !full => String::new(),
                _ => self.older_than(channel, order.last()),
            },
            with_reply_counts: true,
            order,
            others,
            has_next: None,
        }
    }

    /// What a page drags along: roots, and unless it is told not to, all of their replies.
    fn threads<'b>(&self, roots: impl Iterator<Item = &'b str>) -> Vec<usize> {
        let mut others = Vec::new();
        for root in roots {
            let Some(&root) = self.world.post_index.get(root) else {
                continue;
            };
            others.push(root);
            if !self.skips_threads() {
                others.extend(&self.world.posts[root].replies);
            }
        }
        others.retain(|&index| self.world.posts[index].delete_at == 0);
        others
    }

    fn newer_than(&self, channel: &str, post: Option<&usize>) -> String {
        let posts = &self.world.posts;
        let timeline = &self.world.channels[channel].timeline;
        let Some(&post) = post else {
            return String::new();
        };
        let at = posts[post].create_at;
        let first = timeline.partition_point(|&index| posts[index].create_at <= at);
        let mut newer = timeline[first..].iter();
        let found = newer.find(|&&index| posts[index].delete_at == 0);
        found.map_or(String::new(), |&index| posts[index].id.clone())
    }

    fn older_than(&self, channel: &str, post: Option<&usize>) -> String {
        let posts = &self.world.posts;
        let timeline = &self.world.channels[channel].timeline;
        let Some(&post) = post else {
            return String::new();
        };
        let at = posts[post].create_at;
        let end = timeline.partition_point(|&index| posts[index].create_at < at);
        let mut older = timeline[..end].iter().rev();
        let found = older.find(|&&index| posts[index].delete_at == 0);
        found.map_or(String::new(), |&index| posts[index].id.clone())
    }

    /// A committed post that is not deleted, in a channel that may be read.
    fn visible(&self, id: &str) -> Result<usize> {
        self.check_id("post_id", id)?;
        let index = self.world.post_index.get(id).copied();
        let posts = &self.world.posts;
        let visible = |&index: &usize| posts[index].committed && posts[index].delete_at == 0;
        let index = index.filter(visible).ok_or_else(no_such_post)?;
        self.readable(&posts[index].channel_id)?;
        Ok(index)
    }

    fn post(&self, id: &str) -> Result<Served> {
        let all = self.parameter("include_deleted") == Some("true");
        if all && self.world.version == Version::V11_6 {
            // For system admins only.
            return Err(forbidden());
        }
        let index = self.visible(id)?;
        let etag = self.etag(format_args!("{id}.{}", self.world.posts[index].update_at));
        ok_tagged(
            etag,
            self.world.post_json(index, self.world.reply_count(index)),
        )
    }

    fn thread(&mut self, id: &str) -> Result<Served> {
        let asked = self.visible(id)?;
        let posts = &self.world.posts;
        let root = *self
            .world
            .post_index
            .get(&posts[asked].root_id)
            .unwrap_or(&asked);
        let replies = posts[root].replies.iter().copied();
        let mut thread: Vec<usize> = replies
            .chain([root])
            .filter(|&index| posts[index].delete_at == 0)
            .collect();
        let key = |&index: &usize| (posts[index].create_at, posts[index].id.as_str());
        thread.sort_by_key(key);
        let per_page = match self.world.version {
            // Not known there: everything comes, and what was asked for comes twice.
            Version::V5_37 => 0,
            Version::V11_6 => self.number("perPage", 0),
        };
        let mut has_next = false;
        let mut order = vec![asked];
        if per_page > 0 {
            let from = self.number("fromCreateAt", 0) as u64;
            let from = (from, self.parameter("fromPost").unwrap_or_default());
            match self.parameter("direction") {
                Some("up") => {
                    thread.retain(|index| from.0 == 0 || key(index) < from);
                    thread.reverse();
                }
                Some("down") => thread.retain(|index| from.0 == 0 || key(index) > from),
                _ => self.world.random.shuffle(&mut thread),
            }
            // The root counts too, and is sent in any case if it was asked for.
            has_next = thread.len() > per_page;
            thread.truncate(per_page);
            thread.retain(|&index| index != asked);
            self.world.random.shuffle(&mut thread);
            order.extend(thread);
        } else if self.world.version == Version::V5_37 {
            order.extend(thread.into_iter().filter(|&index| index != root));
            order.push(root);
        } else {
            thread.reverse();
            order.extend(thread.into_iter().filter(|&index| index != asked));
        }
        let posts = &self.world.posts;
        let newest = order.iter().rev();
        let newest = newest.max_by_key(|&&index| posts[index].update_at);
        let newest = &posts[*newest.expect("at least what was asked for")];
        let etag = self.etag(format_args!("{id}.{}.{}", newest.id, newest.update_at));
        let list = List {
            order,
            with_reply_counts: true,
            has_next: Some(has_next),
            ..List::default()
        };
        ok_tagged(etag, self.world.list_json(&list))
    }

    // Writing posts.

    /// The order of the checks is the server's: rights, archived, seen before, root, length.
    fn create_post(&mut self) -> Result<Served> {
        let body = self.body("post")?;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (channel_id, root_id) = (text("channel_id"), text("root_id"));
        if !self.may_post(&channel_id) {
            return Err(forbidden());
        }
        if self.world.channels[&channel_id].delete_at > 0 {
            let id = "api.post.create_post.can_not_post_to_deleted.error";
            return Err(refusal(400, id, "Can not post to deleted channel."));
        }
        let pending_id = text("pending_post_id");
        if let Some(first) = self.seen_before(&pending_id)? {
            return Ok(Served::Answer(first));
        }
        if let Some(refusal) = self.unfit(&channel_id, &root_id, &text("message")) {
            return Err(refusal);
        }
        let props = body["props"].as_object().cloned().unwrap_or_default();
        let props = self.props_by(self.user, props)?;
        let fetch_ms = self.fetch_ms("", &text("message"), &props);
        let commit_ms = self.world.knobs.commit_delay_ms;
        let delay_ms = commit_ms + fetch_ms;
        let draft = self
            .world
            .draft(self.user, &channel_id, &text("message"))
            .root(&root_id);
        let draft = draft.kind(&text("type")).props(props.into());
        let index = draft
            .visible_after_ms(commit_ms)
            .slow_links_ms(fetch_ms)
            .insert();
        let now = self.world.elapsed_ms();
        if !pending_id.is_empty() {
            self.world
                .pending
                .retain(|_, pending| now < pending.first_tried_ms + PENDING_MS);
            let pending = Pending {
                first_tried_ms: now,
                post: (delay_ms == 0).then_some(index),
            };
            self.world.pending.insert(pending_id.clone(), pending);
        }
        if delay_ms == 0 {
            return Ok(Served::Answer(created(self.world, index, &pending_id)));
        }
        let remembered = pending_id.clone();
        self.world.at(delay_ms, move |world| {
            if let Some(pending) = world.pending.get_mut(&remembered) {
                pending.post = Some(index);
            }
        });
        let answer = move |world: &mut World| created(world, index, &pending_id);
        Ok(Served::Later(now + delay_ms, Box::new(answer)))
    }

    /// How long the server fetches what the new links of a text lead to. It answers only then.
    fn fetch_ms(&self, former: &str, message: &str, props: &Map<String, Value>) -> u64 {
        let unsafe_links = props.get("unsafe_links").is_some_and(|flag| flag == "true");
        if unsafe_links && self.world.version == Version::V11_6 {
            return 0;
        }
        let links = |text: &str| text.matches("://").count();
        let new = links(message).saturating_sub(links(former));
        self.world.knobs.link_delay_ms * new as u64
    }

    /// The post that already has this `pending_post_id`, whosever it is, for 30 s from the first try.
    fn seen_before(&self, pending_id: &str) -> Result<Option<Answer>> {
        let now = self.world.elapsed_ms();
        let known = self.world.pending.get(pending_id).cloned();
        let Some(pending) = known.filter(|known| now < known.first_tried_ms + PENDING_MS) else {
            return Ok(None);
        };
        let Some(index) = pending.post else {
            let id = "api.post.deduplicate_create_post.pending";
            let message = "Rejected post since another client is making the same request.";
            return Err(refusal(500, id, message));
        };
        if self.world.posts[index].delete_at > 0 {
            let id = "api.post.deduplicate_create_post.failed_to_get";
            let message = "Failed to fetch original post after deduplicating.";
            return Err(refusal(500, id, message));
        }
        let mut post = self.world.post_json(index, self.world.reply_count(index));
        post.as_object_mut().map(|post| post.remove("metadata"));
        Ok(Some(answer(201, &post)))
    }

    fn unfit(&self, channel_id: &str, root_id: &str, message: &str) -> Option<Answer> {
        if !root_id.is_empty() {
            let root = self.world.post_index.get(root_id);
            let root = root.map(|&index| &self.world.posts[index]);
            let visible = root.filter(|root| root.committed && root.delete_at == 0);
            let Some(root) = visible else {
                return Some(bad_root());
            };
            if root.channel_id != channel_id {
                let id = "api.post.create_post.channel_root_id.app_error";
                return Some(refusal(400, id, "Invalid ChannelId for RootId parameter."));
            }
            if !root.root_id.is_empty() {
                return Some(bad_root());
            }
        }
        if message.chars().count() > self.world.knobs.max_post_size {
            let (id, message) = match self.world.version {
                Version::V5_37 => ("model.post.is_valid.msg.app_error", "Invalid message."),
                Version::V11_6 => (
                    "model.post.is_valid.message_length.app_error",
                    "Post Message property is longer than the maximum permitted length.",
                ),
            };
            return Some(refusal(400, id, message));
        }
        None
    }

    /// Whether the members' role has a permission.
    pub(super) fn role_has(&self, permission: &str) -> bool {
        !self.world.knobs.role_lacks.contains(&permission)
    }

    /// One's own post, in a channel that one is in. What is not to be seen is not told from what is
    /// another's.
    fn own_post(&self, id: &str, permission: &str) -> Result<usize> {
        self.check_id("post_id", id)?;
        let index = self.visible(id).map_err(|_| forbidden())?;
        let post = &self.world.posts[index];
        let mine = post.user_id == self.user && self.is_member(&post.channel_id);
        if mine && self.role_has(permission) {
            Ok(index)
        } else {
            Err(forbidden())
        }
    }

    fn patch_post(&mut self, id: &str) -> Result<Served> {
        let patch = self.body("post")?;
        let index = self.own_post(id, "edit_post")?;
        self.check_patch(index, &patch)?;
        let former = self.world.posts[index].clone();
        let edited = self.patched(&former, &patch)?;
        let takes_ms = self.world.knobs.edit_takes_ms;
        // An edit is there before its links are fetched.
        let fetch_ms = self.fetch_ms(&former.message, &edited.message, &edited.props);
        match takes_ms {
            0 => self.world.write_back(index, former, edited),
            ms => self
                .world
                .at(ms, move |world| world.write_back(index, former, edited)),
        }
        self.world.fetch(index, fetch_ms);
        if takes_ms + fetch_ms == 0 {
            return ok(self.world.post_json(index, self.world.reply_count(index)));
        }
        let at_ms = self.world.elapsed_ms() + takes_ms + fetch_ms;
        let written =
            move |world: &mut World| answer(200, &world.post_json(index, world.reply_count(index)));
        Ok(Served::Later(at_ms, Box::new(written)))
    }

    fn check_patch(&self, index: usize, patch: &Value) -> Result<()> {
        let post = &self.world.posts[index];
        let message = patch["message"].as_str();
        if let Some(secs) = self.world.knobs.edit_time_limit_secs
            && self.world.version == Version::V11_6
            && message.is_some()
            && self.world.now() > post.create_at + secs * 1000
        {
            let id = "api.post.update_post.permissions_time_limit.app_error";
            let message = format!(
                "Post edit is only allowed for {secs} seconds. Please ask your System Administrator \
                 for details."
            );
            return Err(refusal(400, id, &message));
        }
        if self.world.channels[&post.channel_id].delete_at > 0 {
            let id = "api.post.patch_post.can_not_update_post_in_deleted.error";
            let message = "Can not update a post in a deleted channel.";
            return Err(refusal(400, id, message));
        }
        match self.unfit(&post.channel_id, "", message.unwrap_or_default()) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// What a patch makes of a post: props are replaced whole.
    fn patched(&mut self, post: &Post, patch: &Value) -> Result<Post> {
        let mut post = post.clone();
        if let Some(message) = patch["message"].as_str() {
            post.message = message.into();
        }
        if let Some(props) = patch["props"].as_object() {
            let props = self.props_by(&post.user_id, props.clone())?;
            post.props = whole_props(props);
        }
        if let Some(pinned) = patch["is_pinned"].as_bool() {
            post.is_pinned = pinned;
        }
        if let Some(files) = patch["file_ids"].as_array()
            && self.world.version == Version::V11_6
        {
            let ids = files.iter().filter_map(Value::as_str);
            post.file_ids = ids.map(str::to_owned).collect();
            self.world.attach(&mut post);
        }
        Ok(post)
    }

    /// Props that an author may set: 11.6 looks at whom he names as the one who generated the text.
    fn props_by(&self, author: &str, mut props: Map<String, Value>) -> Result<Map<String, Value>> {
        let named = props.get("ai_generated_by").and_then(Value::as_str);
        let Some(named) = named.filter(|_| self.world.version == Version::V11_6) else {
            return Ok(props);
        };
        match self.world.users.get(named) {
            _ if named.is_empty() => {}
            None => {
                props.remove("ai_generated_by");
            }
            Some(user) if user.is_bot || user.id == author => {
                props.insert(
                    "ai_generated_by_username".into(),
                    user.username.as_str().into(),
                );
            }
            Some(_) => {
                let id = "api.post.fill_in_post_props.invalid_ai_generated_user.app_error";
                let message = "The AI-generated user must be either the post creator or a bot.";
                return Err(refusal(400, id, message));
            }
        }
        Ok(props)
    }

    fn delete_post(&mut self, id: &str) -> Result<Served> {
        self.check_id("post_id", id)?;
        if self.world.version == Version::V11_6 {
            self.visible(id)?;
        }
        self.own_post(id, "delete_post")?;
        self.world.delete(id);
        Ok(done())
    }

    /// Newest first; unknown ones and those of channels that may not be read are left out, deleted
    /// ones are not.
    fn posts_by_ids(&self) -> Result<Served> {
        let ids = self.names("post_ids")?;
        if ids.len() > POSTS_BY_IDS_MAX {
            let id = "api.post.posts_by_ids.invalid_body.request_error";
            let message = format!(
                "The number of Post IDs received has exceeded the maximum size of {POSTS_BY_IDS_MAX}"
            );
            return Err(refusal(400, id, &message));
        }
        let known = ids.iter().filter_map(|id| self.world.post_index.get(id));
        let mut known: Vec<usize> = known.copied().collect();
        let posts = &self.world.posts;
        known.retain(|&index| {
            let post = &posts[index];
            post.committed && self.may_read(&self.world.channels[&post.channel_id])
        });
        known.sort_by_key(|&index| std::cmp::Reverse((posts[index].create_at, index)));
        let posts = known
            .into_iter()
            .map(|index| self.world.post_json(index, self.world.reply_count(index)));
        ok(posts.collect::<Value>())
    }

    /// Only `/me`.
    fn command(&mut self) -> Result<Served> {
        let body = self.body("command")?;
        let channel = body["channel_id"].as_str().unwrap_or_default();
        if !self.is_member(channel) {
            return Err(forbidden());
        }
        let command = body["command"].as_str().unwrap_or_default();
        let Some(said) = command.strip_prefix("/me ") else {
            return Err(refusal(
                404,
                "api.command.execute_command.not_found.app_error",
                "Unknown.",
            ));
        };
        let text = format!("*{said}*");
        let draft = self.world.draft(self.user, channel, &text);
        draft.kind("me").not_by_api().post();
        ok(json!({
            "response_type": "in_channel", "text": text, "username": "", "channel_id": "",
            "icon_url": "", "type": "me", "props": null, "goto_location": "", "trigger_id": "",
            "skip_slack_parsing": false, "attachments": null, "extra_responses": null,
        }))
    }
}

fn created(world: &mut World, index: usize, pending_id: &str) -> Answer {
    let mut post: Value = world.post_json(index, world.reply_count(index));
    post["pending_post_id"] = pending_id.into();
    answer(201, &post)
}
