//! The stand-in Mattermost against the recordings of real servers, and its traps.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use prx::times::{Clock, Step};
use serde_json::{Value, json};
use support::clock::{SimClock, Time};
use support::mattermost::{
    Account, Act, Fault, Joining, Kind, Mattermost, RateLimit, Version, Weaken,
};

/// How many exchanges were recorded of each server. All are replayed.
const RECORDED: [(Version, &str, usize); 2] =
    [(Version::V11_6, "11.6", 74), (Version::V5_37, "5.37", 60)];

/// Fields that need only be of the same type.
const LOOSE: [&str; 5] = [
    "request_id",
    "invite_id",
    "mention_count",
    "mention_count_root",
    "DiagnosticId",
];

struct Response {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn id(&self) -> String {
        self.json()["id"].as_str().expect("an id").into()
    }

    fn order(&self) -> Vec<String> {
        serde_json::from_value(self.json()["order"].clone()).expect("a list of posts")
    }
}

/// A plain client.
struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    fn new(server: &Mattermost) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false);
        Client {
            agent: config.build().into(),
            url: server.url(),
        }
    }

    fn try_send(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(String, String)],
    ) -> Result<Response, ureq::Error> {
        let url = format!("{}{path}", self.url);
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = match body {
            Value::Null => self.agent.run(request.body(()).expect("a request"))?,
            body => {
                let request = request.header("Content-Type", "application/json");
                self.agent
                    .run(request.body(body.to_string()).expect("a request"))?
            }
        };
        let headers = response.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
        Ok(Response {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response
                .body_mut()
                .with_config()
                .limit(10_000_000)
                .read_to_vec()?,
        })
    }

    fn send(&self, token: &str, method: &str, path: &str, body: Value) -> Response {
        let path = format!("/api/v4/{path}");
        self.try_send(Some(token), method, &path, &body, &[])
            .expect("a response")
    }

    fn get(&self, token: &str, path: &str) -> Response {
        self.send(token, "GET", path, Value::Null)
    }

    fn get_unless(&self, token: &str, path: &str, etag: &str) -> Response {
        let headers = [("If-None-Match".to_owned(), etag.to_owned())];
        let path = format!("/api/v4/{path}");
        let response = self.try_send(Some(token), "GET", &path, &Value::Null, &headers);
        response.expect("a response")
    }

    fn create(&self, token: &str, body: Value) -> Response {
        self.send(token, "POST", "posts", body)
    }
}

/// Sends recorded requests to the stand-in and compares what comes back. Ids are matched one to one:
/// a recorded id stands for the same thing wherever it turns up. Times need only be set or not set.
struct Replay {
    folder: PathBuf,
    server: Mattermost,
    clock: SimClock,
    client: Client,
    ids: HashMap<String, String>,
    times: HashMap<u64, u64>,
    etags: HashMap<String, String>,
    covered: BTreeSet<String>,
    differences: Vec<String>,
}

impl Replay {
    fn new(version: Version, folder: &str) -> Replay {
        let clock = SimClock::new();
        let server = Mattermost::start(version, Time::Sim(clock.clone()));
        Replay {
            folder: PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("tests/recordings")
                .join(folder),
            client: Client::new(&server),
            server,
            clock,
            ids: HashMap::new(),
            times: HashMap::new(),
            etags: HashMap::new(),
            covered: BTreeSet::new(),
            differences: Vec::new(),
        }
    }

    fn names(&self) -> BTreeSet<String> {
        let files = std::fs::read_dir(&self.folder).expect("recordings");
        let names = files.map(|file| file.expect("a file").path());
        let names = names.map(|path| path.file_stem().expect("a name").to_string_lossy().into());
        names.collect()
    }

    fn recording(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.folder.join(format!("{name}.json"))).ok()?;
        Some(serde_json::from_str(&text).expect("a recording"))
    }

    /// The recorded response's body.
    fn recorded(&self, name: &str) -> Value {
        self.recording(name).expect("a recording")["response"]["body"].take()
    }

    /// Says which of the stand-in's ids a recorded one is.
    fn bind(&mut self, recorded: &Value, ours: &str) {
        let recorded = recorded.as_str().expect("an id").to_owned();
        self.ids.insert(recorded, ours.to_owned());
    }

    /// What a recorded text is here: its ids and times exchanged.
    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (recorded, ours) in &self.ids {
            text = text.replace(recorded.as_str(), ours);
        }
        if let Some((before, since)) = text.clone().split_once("since=")
            && let Ok(since) = since.parse::<u64>()
        {
            let at = self.times.get(&since).copied();
            let just_before = || self.times.get(&(since + 1)).map(|time| time - 1);
            let later = || self.server.world().now() + 1000;
            let since = at.or_else(just_before).unwrap_or_else(later);
            text = format!("{before}since={since}");
        }
        text
    }

    /// Replays the exchanges of these names, if this server has them, as the user of the token.
    fn check(&mut self, token: &str, names: &[&str]) {
        for name in names {
            let Some(recording) = self.recording(name) else {
                continue;
            };
            self.clock.advance(5);
            let (request, recorded) = (&recording["request"], &recording["response"]);
            let path = self.here(request["path"].as_str().expect("a path"));
            let body = self.here(&request["body"].to_string());
            let body = serde_json::from_str(&body).expect("JSON");
            let headers = request["headers"].as_object().expect("headers").iter();
            let headers: Vec<(String, String)> = headers
                .map(|(name, value)| {
                    let value = value.as_str().expect("text");
                    (name.clone(), self.etags[value].clone())
                })
                .collect();
            let method = request["method"].as_str().expect("a method");
            let token = Some(token).filter(|token| !token.is_empty());
            let response = self.client.try_send(token, method, &path, &body, &headers);
            let response = response.expect("a response");
            self.compare_response(name, recorded, &response);
            self.covered.insert(name.to_string());
        }
    }

    fn compare_response(&mut self, name: &str, recorded: &Value, ours: &Response) {
        if recorded["status"] != ours.status {
            self.differ(name, &recorded["status"], &ours.status.into());
        }
        match &recorded["body"] {
            Value::String(text) => {
                if text.as_bytes() != ours.body {
                    self.differ(name, &recorded["body"], &ours.body.len().into());
                }
            }
            body => match serde_json::from_slice(&ours.body) {
                Ok(ours) => self.compare_body(name, body, &ours),
                Err(error) => self.differences.push(format!("{name}: {error}")),
            },
        }
        let wanted = recorded["headers"].as_object().expect("headers");
        for (header, value) in wanted {
            let value = value.as_str().expect("text");
            let have = ours
                .headers
                .get(&header.to_lowercase())
                .cloned()
                .unwrap_or_default();
            let same = match header.as_str() {
                // How a body is framed depends on its length.
                "Content-Length" | "Transfer-Encoding" => true,
                "Etag" => {
                    self.etags.insert(value.into(), have.clone());
                    self.timeless(&self.here(value)) == self.timeless(&have)
                }
                _ => value == have,
            };
            if !same {
                self.differ(&format!("{name} {header}"), &value.into(), &have.into());
            }
        }
        if ours.headers.contains_key("etag") && !wanted.contains_key("Etag") {
            self.differ(name, &"no Etag".into(), &"an Etag".into());
        }
    }

    fn timeless(&self, etag: &str) -> Vec<String> {
        let parts = etag.split('.').map(|part| match part.parse::<u64>() {
            Ok(number) if number > 1_000_000_000_000 => "time".to_owned(),
            _ => part.to_owned(),
        });
        parts.collect()
    }

    fn compare_body(&mut self, name: &str, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            // Lists of channels are in an order that depends on random ids.
            (Value::Array(recorded), Value::Array(ours)) if name.starts_with("channels") => {
                let key = if name == "channels-me" {
                    "id"
                } else {
                    "display_name"
                };
                assert!(
                    ours.is_sorted_by_key(|channel| channel[key].as_str()),
                    "{name}"
                );
                assert!(
                    recorded.is_sorted_by_key(|channel| channel[key].as_str()),
                    "{name}"
                );
                if recorded.len() != ours.len() {
                    self.differ(name, &recorded.len().into(), &ours.len().into());
                }
                for channel in recorded {
                    let id = channel["id"].as_str().and_then(|id| self.ids.get(id));
                    let same = ours
                        .iter()
                        .find(|ours| ours["id"].as_str() == id.map(|id| id.as_str()));
                    self.compare(name, channel, same.unwrap_or(&Value::Null));
                }
            }
            (Value::Object(_), Value::Object(_)) if recorded.get("order").is_some() => {
                let sorted = !name.starts_with("thread");
                let (recorded, ours) = (settled(recorded, sorted), settled(ours, sorted));
                // Before the posts: their ids are bound by their places.
                self.compare(&format!("{name}/order"), &recorded["order"], &ours["order"]);
                self.compare(name, &recorded, &ours);
            }
            _ => self.compare(name, recorded, ours),
        }
    }

    fn compare(&mut self, place: &str, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::Object(recorded), Value::Object(ours)) => {
                let mut left: BTreeSet<&String> = ours.keys().collect();
                for (key, value) in recorded {
                    let key = self.ids.get(key).unwrap_or(key).clone();
                    left.remove(&key);
                    match ours.get(&key) {
                        Some(ours) => self.compare(&format!("{place}/{key}"), value, ours),
                        None => self.differ(&format!("{place}/{key}"), value, &"absent".into()),
                    }
                }
                if !left.is_empty() {
                    self.differ(place, &"nothing more".into(), &json!(left));
                }
            }
            (Value::Array(recorded), Value::Array(ours)) => {
                if recorded.len() != ours.len() {
                    self.differ(place, &recorded.len().into(), &ours.len().into());
                }
                for (recorded, ours) in recorded.iter().zip(ours) {
                    self.compare(&format!("{place}[]"), recorded, ours);
                }
            }
            (Value::String(text), Value::String(have)) => {
                if prx::mattermost::is_id(text) && !self.ids.contains_key(text) {
                    self.ids.insert(text.clone(), have.clone());
                }
                let mut here = self.here(text);
                if let Some((first, second)) = here.split_once("__")
                    && first > second
                {
                    here = format!("{second}__{first}");
                }
                if !is_loose(place) && here != *have {
                    self.differ(place, recorded, ours);
                }
            }
            (Value::Number(number), Value::Number(have)) => {
                let (number, have) = (number.as_u64(), have.as_u64());
                if number > Some(1_000_000_000_000) && have > Some(1_000_000_000_000) {
                    let known = self.times.entry(number.unwrap_or_default());
                    known.or_insert(have.unwrap_or_default());
                } else if !is_loose(place) && number != have {
                    self.differ(place, recorded, ours);
                }
            }
            _ if recorded == ours => {}
            _ => self.differ(place, recorded, ours),
        }
    }

    fn differ(&mut self, place: &str, recorded: &Value, ours: &Value) {
        let short = |value: &Value| value.to_string().chars().take(80).collect::<String>();
        let difference = format!("{place}: {} but here {}", short(recorded), short(ours));
        self.differences.push(difference);
    }
}

fn is_loose(place: &str) -> bool {
    let field = place.rsplit('/').next().unwrap_or_default();
    LOOSE.contains(&field)
}

/// A list of posts whose equally old posts are in an order that does not vary.
fn settled(list: &Value, sorted: bool) -> Value {
    let mut list = list.clone();
    let posts = list["posts"].clone();
    let order = list["order"].as_array_mut().expect("an order");
    if sorted {
        let key = |id: &Value| {
            let post = &posts[id.as_str().expect("an id")];
            (
                std::cmp::Reverse(post["create_at"].as_u64()),
                post["delete_at"].as_u64(),
            )
        };
        assert!(order.is_sorted_by_key(|id| key(id).0), "newest first");
        order.sort_by_key(key);
    }
    list
}

#[test]
fn every_recorded_exchange_is_answered_as_the_real_server_did() {
    for (version, folder, count) in RECORDED {
        let mut replay = Replay::new(version, folder);
        replay_session(&mut replay);
        let missing: Vec<_> = replay
            .names()
            .difference(&replay.covered)
            .cloned()
            .collect();
        println!(
            "{folder}: {} of {count} exchanges replayed",
            replay.covered.len()
        );
        assert!(missing.is_empty(), "{folder}: not replayed: {missing:?}");
        assert_eq!(replay.covered.len(), count, "{folder}");
        assert!(
            replay.differences.is_empty(),
            "{folder}:\n{}",
            replay.differences.join("\n")
        );
    }
}

/// What was done when the recordings were made, in that order.
fn replay_session(replay: &mut Replay) {
    let [bot, alice, admin, bob] = people(replay);
    // The recordings happen to come from fresh caches.
    replay.server.world().knobs.since_cache = false;
    let (direct, group) = {
        let mut world = replay.server.world();
        let direct = world.direct_channel(&alice, &bot);
        (direct, world.group_channel(&[&alice, &bob, &bot]))
    };
    let recorded_direct = replay.recorded("channel-direct");
    for _ in 0..recorded_direct["total_msg_count"]
        .as_u64()
        .expect("a count")
    {
        replay.server.world().post(&alice, &direct, "earlier");
    }
    replay.bind(&recorded_direct["id"], &direct);
    let recorded_group = replay.recorded("channel-group");
    replay.bind(&recorded_group["id"], &group);
    let name = recorded_group["name"].as_str().expect("a name");
    replay.server.world().channel_mut(&group).name = name.into();
    let mut list = replay.recorded("channels-me-team");
    let list = list.as_array_mut().expect("a list");
    list.sort_by_key(|channel| {
        channel["update_at"]
            .as_u64()
            .max(channel["last_post_at"].as_u64())
    });
    for recorded in list {
        add_recorded_channel(replay, recorded, &bot, &admin);
    }
    let [private, archived] = ["channel-not-member", "channel-archived"].map(|name| {
        let path = replay.recording(name).expect("a recording")["request"]["path"].take();
        path.as_str()
            .expect("a path")
            .rsplit('/')
            .next()
            .expect("an id")
            .to_owned()
    });
    {
        let mut world = replay.server.world();
        let team = world.team_named("lab").expect("the team");
        let secret = world.add_channel(&team, "secret", Kind::Private);
        let gone = world.add_channel(&team, "gone", Kind::Open);
        let recorded = replay.recorded("channel-archived");
        let channel = world.channel_mut(&gone);
        channel.name = recorded["name"].as_str().expect("a name").into();
        channel.display_name = "Archived".into();
        channel.creator_id = admin.id.clone();
        world.add_member(&gone, &bot, Joining::AddedBy(&admin));
        world.archive(&gone, &admin);
        drop(world);
        replay.bind(&json!(private), &secret);
        replay.bind(&json!(archived), &gone);
    }
    let town = replay.recorded("channel")["id"].take();
    let town = replay.ids[town.as_str().expect("an id")].clone();
    for person in [&alice, &bob] {
        let mut world = replay.server.world();
        world.add_member(&town, person, Joining::Silently);
    }

    replay.check("no-such-token", &["users-me-bad-token"]);
    replay.check("", &["users-me-no-token", "ping"]);
    replay.check(&alice.token, &["users-me-person"]);
    #[rustfmt::skip] // A table.
    replay.check(&bot.token, &[
        "client-config", "not-found", "users-me", "teams-me", "users-by-ids", "users-by-usernames",
        "channel", "channel-bad-id", "channel-unknown", "channel-not-member", "channel-archived",
        "channel-direct", "channel-group", "channel-member-me",
        "channels-me", "channels-me-team", "channels-me-team-etag",
    ]);
    replay.check(&alice.token, &["post-create-person"]);
    #[rustfmt::skip] // A table.
    replay.check(&bot.token, &[
        "post-create-bot", "post-create-reply", "post-create-reply-to-reply",
        "post-create-unknown-root", "post-create-root-elsewhere", "post-create-not-member",
        "post-create-bad-channel", "post-create-archived", "post-create-empty", "post-create-blank",
        "post-create-max", "post-create-too-long", "post-create-pending-first",
        "post-create-pending-again", "post-create-markup", "posts-since",
    ]);

    let question = replay.ids[replay.recorded("post-create-person")["id"]
        .as_str()
        .expect("an id")]
    .clone();
    let late = step(replay, |world| {
        world
            .draft(&alice, &town, "a late reply")
            .root(&question)
            .post()
    });
    // The moment that the recorded `since` speaks of is this reply's.
    let recorded = replay.recorded("posts-since-late-reply");
    remember_newest(replay, &recorded, &late);
    replay.check(&bot.token, &["posts-since-late-reply"]);
    step(replay, |world| world.edit(&late, "a late reply, edited"));
    replay.check(&bot.token, &["posts-since-edited"]);
    let deleted = step(replay, |world| world.post(&alice, &town, "to be deleted"));
    step(replay, |world| world.delete(&deleted));
    let recorded = replay.recorded("posts-since-deleted");
    remember_newest(replay, &recorded, &deleted);
    replay.check(&bot.token, &["posts-since-deleted"]);
    step(replay, |world| world.react(&alice, &question, "eyes"));
    #[rustfmt::skip] // A table.
    replay.check(&bot.token, &[
        "posts-since-reaction", "posts-since-quiet", "posts-bad-since", "posts-not-member",
        "posts-after", "posts-after-unknown", "posts-page",
        "thread", "thread-by-reply", "thread-unknown",
        "typing", "typing-root", "typing-not-member", "typing-other-user",
    ]);
    step(replay, |world| world.remove_member(&town, &bob, &admin));
    step(replay, |world| {
        world.add_member(&town, &bob, Joining::AddedBy(&admin))
    });
    replay.check(&bot.token, &["posts-system"]);
    let private_word = step(replay, |world| {
        world.post(&alice, &direct, "a direct message")
    });
    let recorded = replay.recorded("posts-direct");
    remember_newest(replay, &recorded, &private_word);
    #[rustfmt::skip] // A table.
    replay.check(&bot.token, &[
        "posts-direct", "post-patch", "post-patch-other", "reaction-add", "post",
    ]);
    if version_of(replay) == Version::V5_37 {
        return;
    }

    let deleted = step(replay, |world| world.post(&alice, &town, "to be deleted"));
    step(replay, |world| world.delete(&deleted));
    let path = replay
        .recording("thread-deleted-root")
        .expect("a recording")["request"]["path"]
        .take();
    let id = path
        .as_str()
        .and_then(|path| path.split('/').nth(4))
        .map(Value::from);
    replay.bind(&id.expect("an id"), &deleted);
    replay.check(
        &bot.token,
        &["thread-deleted-root", "post-create-deleted-root"],
    );
    step(replay, |world| {
        let draft = world
            .draft(&admin, &town, "from a webhook @prxbot")
            .not_by_api();
        draft
            .prop("from_webhook", "true")
            .prop("webhook_display_name", "ci")
            .post()
    });
    replay.check(&bot.token, &["posts-webhook"]);
    replay.check(&alice.token, &["command-me"]);
    replay.check(&bot.token, &["posts-me"]);
    step(replay, |world| {
        let (kind, bytes) = (
            "text/plain; charset=utf-8",
            b"three lines\nof plain\ntext\n",
        );
        world
            .draft(&alice, &town, "")
            .file("notes.txt", kind, bytes)
            .post()
    });
    replay.check(&bot.token, &["posts-attachment", "file"]);
    step(replay, |world| world.remove_member(&town, &bot, &admin));
    #[rustfmt::skip] // A table.
    replay.check(&bot.token, &[
        "posts-since-removed", "channel-member-me-removed", "post-create-removed", "typing-removed",
    ]);
    step(replay, |world| {
        world.add_member(&town, &bot, Joining::AddedBy(&admin))
    });
    replay.check(&bot.token, &["posts-added"]);
    let limit = RateLimit {
        per_sec: 2,
        max_burst: 5,
    };
    replay.server.world().knobs.rate_limit = Some(limit);
    for _ in 0..6 {
        replay.client.get(&bot.token, "users/me");
    }
    replay.check(&bot.token, &["rate-limited"]);
}

fn version_of(replay: &Replay) -> Version {
    replay.server.world().version
}

/// Something happens a little later.
fn step<T>(replay: &Replay, happens: impl FnOnce(&mut support::mattermost::World) -> T) -> T {
    replay.clock.advance(5);
    happens(&mut replay.server.world())
}

/// Says that the newest post of a recorded list is this one, so that a recorded `since` is understood.
fn remember_newest(replay: &mut Replay, recorded: &Value, ours: &str) {
    let newest = recorded["order"][0].clone();
    let create_at = recorded["posts"][newest.as_str().expect("an id")]["create_at"].as_u64();
    replay.bind(&newest, ours);
    let here = replay.server.world().post_by_id(ours).create_at;
    replay.times.insert(create_at.expect("a time"), here);
}

fn people(replay: &mut Replay) -> [Account; 4] {
    let mut world = replay.server.world();
    let team = world.add_team("lab");
    let admin = world.add_user("admin");
    let bot = world.add_bot("prxbot");
    let alice = world.add_user("alice");
    let bob = world.add_user("bob");
    world.user_mut(&bot).first_name = "PRX".into();
    world.user_mut(&bot).bot_description = "assistant".into();
    for person in [&admin, &bot, &alice, &bob] {
        world.join_team(&team, person);
    }
    drop(world);
    for (name, account) in [("users-me", &bot), ("users-me-person", &alice)] {
        let id = replay.recorded(name)["id"].take();
        replay.bind(&id, &account.id);
    }
    let id = replay.recorded("users-by-ids")[1]["id"].take();
    replay.bind(&id, &bob.id);
    let id = replay.recorded("channel")["creator_id"].take();
    replay.bind(&id, &admin.id);
    let id = replay.recorded("teams-me")[0]["id"].take();
    replay.bind(&id, &team);
    [bot, alice, admin, bob]
}

/// One of the channels that the bot was in, as its last event left it.
fn add_recorded_channel(replay: &mut Replay, recorded: &Value, bot: &Account, admin: &Account) {
    let text = |field: &str| recorded[field].as_str().expect("text").to_owned();
    let known = replay.ids.get(&text("id")).cloned();
    replay.clock.advance(5);
    let mut world = replay.server.world();
    let team = world.team_named("lab").expect("the team");
    let id = match (known, text("type").as_str()) {
        (Some(known), _) => known,
        (None, "D") => {
            let name = text("name");
            let halves = name.split("__");
            let mut others = halves.filter(|id| replay.ids.get(*id) != Some(&bot.id));
            let other = others.next().expect("another").to_owned();
            let stranger = || world.add_user("stranger").id;
            let here = replay.ids.entry(other).or_insert_with(stranger).clone();
            let id = world.direct_channel(&here, bot);
            world.channel_mut(&id).creator_id = replay.ids[&text("creator_id")].clone();
            id
        }
        (None, _) if text("creator_id").is_empty() => world.channel_named(&team, &text("name")),
        (None, kind) => {
            let kind = if kind == "P" {
                Kind::Private
            } else {
                Kind::Open
            };
            let id = world.add_channel(&team, &text("name"), kind);
            let channel = world.channel_mut(&id);
            channel.display_name = text("display_name");
            channel.creator_id = admin.id.clone();
            world.add_member(&id, bot, Joining::AddedBy(admin));
            id
        }
    };
    let number = |field: &str| recorded[field].as_u64().unwrap_or_default();
    let now = world.now();
    let channel = world.channel_mut(&id);
    channel.total_msg_count = number("total_msg_count");
    channel.total_msg_count_root = number("total_msg_count_root");
    let moment = |field: &str| if number(field) > 0 { now } else { 0 };
    (channel.create_at, channel.update_at) = (now, now);
    channel.last_post_at = moment("last_post_at");
    channel.last_root_post_at = channel.last_post_at;
    drop(world);
    replay.bind(&recorded["id"], &id);
}

/// A team with one channel that the bot and Alice are in, in simulated time.
struct Stage {
    clock: SimClock,
    server: Mattermost,
    client: Client,
    bot: Account,
    alice: Account,
    team: String,
    town: String,
}

impl Stage {
    fn new() -> Stage {
        let clock = SimClock::new();
        let server = Mattermost::start(Version::V11_6, Time::Sim(clock.clone()));
        let client = Client::new(&server);
        let mut world = server.world();
        let team = world.add_team("lab");
        let (bot, alice) = (world.add_bot("prxbot"), world.add_user("alice"));
        let town = world.add_channel(&team, "town", Kind::Open);
        world.add_member(&town, &bot, Joining::Silently);
        world.add_member(&town, &alice, Joining::Silently);
        drop(world);
        clock.advance(1000);
        Stage {
            clock,
            server,
            client,
            bot,
            alice,
            team,
            town,
        }
    }

    fn get(&self, path: &str) -> Response {
        self.client.get(&self.bot.token, path)
    }

    fn counters(&self) -> (u64, u64) {
        let channel = self.get(&format!("channels/{}", self.town)).json();
        let number = |field: &str| channel[field].as_u64().expect("a number");
        (number("last_post_at"), number("total_msg_count"))
    }

    fn posts(&self, query: &str) -> Vec<String> {
        self.get(&format!("channels/{}/posts?{query}", self.town))
            .order()
    }

    fn list_path(&self) -> String {
        format!("users/me/teams/{}/channels", self.team)
    }

    /// A post by the bot, through the API.
    fn create(&self, more: Value) -> Response {
        let mut body = json!({ "channel_id": self.town, "message": "an answer" });
        let more = more.as_object().cloned().expect("an object");
        body.as_object_mut().expect("an object").extend(more);
        self.client.create(&self.bot.token, body)
    }

    fn create_at(&self, post: &str) -> u64 {
        self.server.world().post_by_id(post).create_at
    }
}

#[test]
fn a_late_post_moves_the_counters_when_it_is_committed_and_the_etag_never() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let late = world.draft(&stage.alice, &stage.town, "with slow images");
    let late = late.visible_after_ms(10_000).post();
    drop(world);
    stage.clock.advance(1000);
    let prompt = stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "prompt");
    let etag = stage.get(&stage.list_path()).headers["etag"].clone();

    assert_eq!(stage.counters(), (stage.create_at(&prompt), 1));
    assert_eq!(stage.get(&format!("posts/{late}")).status, 404);
    let before = stage.create_at(&late) - 1;
    assert_eq!(stage.posts(&format!("since={before}")), [prompt.as_str()]);

    stage.clock.advance(9000);
    assert_eq!(stage.counters(), (stage.create_at(&prompt), 2));
    let list = stage
        .client
        .get_unless(&stage.bot.token, &stage.list_path(), &etag);
    assert_eq!(list.status, 304);
    assert_eq!(
        stage.posts(&format!("since={before}")),
        [prompt.clone(), late.clone()]
    );
    let newest = stage.create_at(&prompt);
    assert!(
        stage.posts(&format!("since={}", newest - 1)) == [prompt],
        "a cursor loses it"
    );
    assert!(stage.create_at(&late) < newest);
}

#[test]
fn joins_move_last_post_at_only_and_reactions_and_deletions_move_nothing() {
    let stage = Stage::new();
    let post = stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "hello");
    let after_post = stage.counters();
    stage.clock.advance(1000);
    stage.server.world().react(&stage.bot, &post, "eyes");
    stage.server.world().delete(&post);
    assert_eq!(stage.counters(), after_post);
    let mut world = stage.server.world();
    let bob = world.add_user("bob");
    world.add_member(&stage.town, &bob, Joining::AddedBy(&stage.alice));
    let now = world.now();
    drop(world);
    assert_eq!(stage.counters(), (now, after_post.1));
}

#[test]
fn an_unchanged_list_is_304_and_a_change_ends_that() {
    let stage = Stage::new();
    let etag = stage.get(&stage.list_path()).headers["etag"].clone();
    let status = |etag: &str| {
        stage
            .client
            .get_unless(&stage.bot.token, &stage.list_path(), etag)
            .status
    };
    assert_eq!(status(&etag), 304);
    stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "hello");
    assert_eq!(status(&etag), 200);
    for (weaken, expected) in [
        (Weaken::No, "x"),
        (Weaken::Prefix, "W/x"),
        (Weaken::Quoted, "W/\"x\""),
    ] {
        stage.server.world().knobs.weaken = Weaken::No;
        let plain = stage.get(&stage.list_path()).headers["etag"].clone();
        stage.server.world().knobs.weaken = weaken;
        let etag = stage.get(&stage.list_path()).headers["etag"].clone();
        assert_eq!(etag, expected.replace('x', &plain));
        let unchanged = if weaken == Weaken::No { 304 } else { 200 };
        assert_eq!(
            status(&etag),
            unchanged,
            "{etag}: sent back so, it matches nothing"
        );
    }
}

#[test]
fn since_gives_an_arbitrary_thousand_and_the_roots_besides() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let roots = world.post_many(&stage.alice, &stage.town, 500, 1);
    drop(world);
    stage.clock.advance(2000);
    let mut world = stage.server.world();
    let since = world.now() - 1;
    let mut replies = Vec::new();
    for number in 0..1500 {
        let draft = world.draft(&stage.alice, &stage.town, "a reply");
        replies.push(draft.root(&roots[number % 500]).post());
    }
    drop(world);
    let path = format!("channels/{}/posts?since={since}", stage.town);
    let list = stage.get(&path).json();
    let order = list["order"].as_array().expect("an order").len();
    assert!(
        order > 1000,
        "{order} ids: 1000 rows and the roots of those that are replies"
    );
    assert_eq!(order, list["posts"].as_object().expect("posts").len());
    let has = |post: &&String| list["posts"].get(post.as_str()).is_some();
    let [first, second] =
        [&replies[..750], &replies[750..]].map(|half| half.iter().filter(has).count());
    assert!(
        first.min(second) > 100,
        "{first} of the first half, {second} of the second"
    );
    assert!(first + second < 1000);
    let again = stage.get(&path).json();
    assert_ne!(list["order"], again["order"], "another thousand each time");
}

#[test]
fn walking_forward_gives_every_post_also_from_a_deleted_one() {
    let stage = Stage::new();
    stage.clock.advance(10_000);
    let mut world = stage.server.world();
    let posts = world.post_many(&stage.alice, &stage.town, 450, 2);
    world.delete(&posts[0]);
    drop(world);
    let mut walked = Vec::new();
    for page in 0..4 {
        let query = format!(
            "after={}&page={page}&per_page=200&skipFetchThreads=true",
            posts[0]
        );
        walked.extend(stage.posts(&query).into_iter().rev());
    }
    assert_eq!(walked, posts[1..]);
    let backwards = stage.posts(&format!("before={}&per_page=3", posts[10]));
    assert_eq!(
        backwards,
        [&posts[9], &posts[8], &posts[7]].map(String::clone)
    );
    assert!(
        stage
            .posts("after=zzzzzzzzzzzzzzzzzzzzzzzzzz&per_page=200")
            .is_empty()
    );
    assert_eq!(stage.posts("page=0&per_page=9999").len(), 200);
}

#[test]
fn a_page_drags_threads_along_unless_told_not_to() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let root = world.post(&stage.alice, &stage.town, "the root");
    for _ in 0..40 {
        world
            .draft(&stage.alice, &stage.town, "a reply")
            .root(&root)
            .post();
    }
    drop(world);
    let posts = |query: &str| {
        let path = format!("channels/{}/posts?page=0&per_page=1{query}", stage.town);
        stage.get(&path).json()["posts"]
            .as_object()
            .expect("posts")
            .len()
    };
    assert_eq!((posts(""), posts("&skipFetchThreads=true")), (41, 2));
    let thread = stage
        .get(&format!("posts/{root}/thread?perPage=5&direction=up"))
        .json();
    assert_eq!(thread["posts"].as_object().expect("posts").len(), 6);
    assert_eq!(thread["has_next"], true);
    let reply = stage
        .server
        .world()
        .replies_to(&root)
        .pop()
        .expect("a reply");
    let thread = stage
        .get(&format!("posts/{}/thread?perPage=5&direction=up", reply.id))
        .json();
    assert!(
        thread["posts"].get(&root).is_none(),
        "asked by a reply, the root is missing"
    );
}

#[test]
fn since_at_the_newest_post_stays_empty_though_there_is_more() {
    let stage = Stage::new();
    let first = stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "first");
    let newest = stage.create_at(&first);
    assert_eq!(
        stage.posts(&format!("since={}", newest - 1)),
        [first.as_str()]
    );
    stage.clock.advance(1000);
    let second = stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "second");
    assert!(stage.posts(&format!("since={newest}")).is_empty());
    assert_eq!(
        stage.posts(&format!("since={}", newest - 1)),
        [second.clone(), first]
    );
    assert_eq!(
        stage.posts(&format!("since={newest}")),
        [second],
        "another read mends it"
    );
}

#[test]
fn a_stale_cache_hides_a_post_behind_the_etag_of_a_page() {
    let stage = Stage::new();
    stage.server.world().knobs.stale_page_etag = true;
    let path = format!("channels/{}/posts?page=0&per_page=1", stage.town);
    stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "first");
    let etag = stage.get(&path).headers["etag"].clone();
    stage.clock.advance(1000);
    stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "second");
    let unless = |etag: &str| {
        stage
            .client
            .get_unless(&stage.bot.token, &path, etag)
            .status
    };
    assert_eq!(unless(&etag), 304);
    stage.server.world().knobs.stale_page_etag = false;
    assert_eq!(unless(&etag), 200);
}

#[test]
fn a_pending_post_id_is_known_for_30_s_from_the_first_attempt_to_everybody() {
    let stage = Stage::new();
    let again = json!({ "pending_post_id": "one" });
    let first = stage.create(again.clone());
    assert_eq!(
        (first.status, first.json()["pending_post_id"].clone()),
        (201, json!("one"))
    );
    stage.clock.advance(29_999);
    assert_eq!(stage.create(again.clone()).id(), first.id());
    let body = json!({
        "channel_id": stage.town, "message": "something else", "pending_post_id": "one",
    });
    let others = stage.client.create(&stage.alice.token, body);
    assert_eq!((others.status, others.id()), (201, first.id()));
    assert_eq!(
        others.json()["user_id"],
        stage.bot.id,
        "the post of another"
    );
    assert_eq!(stage.server.world().posts_in(&stage.town).len(), 1);
    stage.clock.advance(1);
    assert_ne!(stage.create(again.clone()).id(), first.id());

    // Of a refused attempt nothing is remembered, and a restart forgets all.
    let refused = json!({ "pending_post_id": "two", "root_id": "zzzzzzzzzzzzzzzzzzzzzzzzzz" });
    assert_eq!(stage.create(refused).status, 400);
    let second = stage.create(json!({ "pending_post_id": "two" }));
    assert_eq!(second.status, 201);
    stage.server.restart();
    assert_ne!(
        stage.create(json!({ "pending_post_id": "two" })).id(),
        second.id()
    );
}

#[test]
fn a_slow_first_attempt_is_pending_and_later_doubled() {
    let stage = Stage::new();
    stage.server.world().knobs.commit_delay_ms = 40_000;
    stage
        .server
        .once("POST", "posts", Act::ServeThen(Fault::Close));
    let body = json!({ "channel_id": stage.town, "message": "slow", "pending_post_id": "one" });
    let lost = stage
        .client
        .try_send(Some(&stage.bot.token), "POST", "/api/v4/posts", &body, &[]);
    assert!(lost.is_err());
    stage.clock.advance(29_000);
    let pending = stage.client.create(&stage.bot.token, body.clone());
    assert_eq!(pending.status, 500);
    assert_eq!(pending.id(), "api.post.deduplicate_create_post.pending");
    assert_eq!(stage.server.world().posts_in(&stage.town).len(), 0);
    stage.clock.advance(1000);
    stage.server.world().knobs.commit_delay_ms = 0;
    assert_eq!(stage.client.create(&stage.bot.token, body).status, 201);
    stage.clock.advance(10_000);
    assert_eq!(
        stage.server.world().posts_in(&stage.town).len(),
        2,
        "doubled"
    );
}

#[test]
fn links_delay_a_post_unless_it_says_that_they_are_unsafe() {
    let stage = Stage::new();
    stage.server.world().knobs.link_delay_ms = 5000;
    let message = "see https://a.example and https://b.example";
    for (props, delay_ms) in [
        (json!({}), 10_000),
        (json!({ "unsafe_links": true }), 10_000),
        (json!({ "unsafe_links": "true" }), 0),
    ] {
        let before = stage.clock.elapsed_ms();
        let created = stage.create(json!({ "message": message, "props": props }));
        assert_eq!(created.status, 201);
        assert_eq!(stage.clock.elapsed_ms() - before, delay_ms, "{props}");
        let stamped = created.json()["create_at"].as_u64().expect("a time");
        assert_eq!(
            stage.server.world().now() - stamped,
            delay_ms,
            "stamped first"
        );
    }
}

#[test]
fn an_open_channel_of_the_team_is_read_by_those_who_may_not_write() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let open = world.add_channel(&stage.team, "open", Kind::Open);
    let private = world.add_channel(&stage.team, "private", Kind::Private);
    let direct = world.direct_channel(&stage.alice, &stage.bot);
    let elsewhere = world.add_team("elsewhere");
    let foreign = world.channel_named(&elsewhere, "town-square");
    let bob = world.add_user("bob");
    let stranger = world.direct_channel(&stage.alice, &bob);
    drop(world);
    for (channel, read, write) in [
        (&stage.town, 200, true),
        (&direct, 200, true),
        (&open, 200, false),
        (&private, 403, false),
        (&foreign, 403, false),
        (&stranger, 403, false),
    ] {
        let status = |path: &str| stage.get(&format!("channels/{channel}{path}")).status;
        assert_eq!((status(""), status("/posts?since=1")), (read, read));
        assert_eq!(status("/members/me"), if write { 200 } else { 403 });
        let body = json!({ "channel_id": channel });
        let typing = stage
            .client
            .send(&stage.bot.token, "POST", "users/me/typing", body);
        assert_eq!(typing.status, if write { 200 } else { 403 });
        let created = stage.create(json!({ "channel_id": channel }));
        assert_eq!(created.status, if write { 201 } else { 403 });
    }
    assert_eq!(stage.server.world().typing.len(), 2);
}

#[test]
fn what_was_planned_happens_in_its_order_at_its_own_time() {
    let stage = Stage::new();
    let (alice, town) = (stage.alice.clone(), stage.town.clone());
    let start = stage.server.world().now();
    for (ms, text) in [(3000, "third"), (1000, "first"), (2000, "second")] {
        let (alice, town) = (alice.clone(), town.clone());
        stage.server.at(ms, move |world| {
            world
                .draft(&alice, &town, text)
                .visible_after_ms(1500)
                .post();
        });
    }
    stage.clock.advance(3500);
    let seen = |stage: &Stage| {
        let posts = stage.server.world().posts_in(&stage.town).into_iter();
        posts
            .map(|post| (post.message, post.create_at - start))
            .collect::<Vec<_>>()
    };
    let two = [("first".to_owned(), 1000), ("second".to_owned(), 2000)];
    assert_eq!(seen(&stage), two);
    stage.server.world().clock_offset_ms = -3_600_000;
    stage.clock.advance(1000);
    assert_eq!(seen(&stage).len(), 3);
    let back = stage.server.world().now();
    assert!(back < start, "the server's clock went back an hour");
    let stamped = stage.create(json!({})).json()["create_at"].as_u64();
    assert_eq!(stamped, Some(back));
}

#[test]
fn faults_reach_the_client_whether_or_not_the_server_acted() {
    let stage = Stage::new();
    let faults = [
        (Fault::CloseAfter, Some(201)),
        (Fault::Close, None),
        (Fault::Reset, None),
        (Fault::Truncated, None),
        (Fault::Endless, None),
        (Fault::Html(502), Some(502)),
        (Fault::Error(503, "some.error"), Some(503)),
        (Fault::Json(json!([])), Some(200)),
        (Fault::BrokenJson, Some(200)),
        (Fault::Redirect("http://127.0.0.1:1/".into()), Some(302)),
        (Fault::RateLimited(7), Some(429)),
        (Fault::Trickle(Duration::ZERO), Some(201)),
        (Fault::Status(204, vec![], vec![]), Some(204)),
    ];
    let body = json!({ "channel_id": stage.town, "message": "hello" });
    let send = || {
        // On a new connection: one that the fault before closed may still look open.
        let client = Client::new(&stage.server);
        let token = Some(stage.bot.token.as_str());
        let sent = client.try_send(token, "POST", "/api/v4/posts", &body, &[]);
        sent.ok().map(|response| response.status)
    };
    let posts = || stage.server.world().posts_in(&stage.town).len();
    for (acted, (fault, expected)) in (1..).zip(faults) {
        stage
            .server
            .once("POST", "posts", Act::ServeThen(fault.clone()));
        assert_eq!(send(), expected, "{fault:?}");
        assert_eq!(posts(), acted, "{fault:?}");
        if expected != Some(201) {
            stage
                .server
                .once("POST", "posts", Act::Instead(fault.clone()));
            assert_eq!(send(), expected, "{fault:?}");
            assert_eq!(posts(), acted, "{fault:?}");
        }
    }
    assert_eq!(stage.server.world().clear_log().len(), 24);
}

#[test]
fn a_client_that_gives_up_on_a_silent_server_is_served_the_next_time() {
    let stage = Stage::new();
    stage
        .server
        .once("GET", "users/me", Act::Instead(Fault::Hang));
    let impatient = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_millis(50)))
        .build();
    let url = format!("{}/api/v4/users/me", stage.server.url());
    assert!(impatient.new_agent().get(url).call().is_err());
    assert_eq!(stage.get("users/me").status, 200);
}

#[test]
fn a_stopped_server_refuses_connections_and_comes_back_with_its_posts() {
    let stage = Stage::new();
    stage
        .server
        .world()
        .post(&stage.alice, &stage.town, "hello");
    assert_eq!(stage.get("users/me").status, 200);
    stage.server.drop_connections();
    let fresh = Client::new(&stage.server);
    assert_eq!(fresh.get(&stage.bot.token, "users/me").status, 200);
    stage.server.stop();
    let path = "/api/v4/users/me";
    for _ in 0..2 {
        let token = Some(stage.bot.token.as_str());
        let refused = stage.client.try_send(token, "GET", path, &Value::Null, &[]);
        assert!(refused.is_err());
    }
    stage.server.restart();
    assert_eq!(stage.posts("page=0").len(), 1);
}

#[test]
fn a_server_behind_a_path_is_only_there() {
    let stage = Stage::new();
    stage.server.world().knobs.sub_path = "/chat";
    let get = |path: &str| {
        let token = Some(stage.bot.token.as_str());
        stage
            .client
            .try_send(token, "GET", path, &Value::Null, &[])
            .expect("a response")
    };
    assert_eq!(get("/chat/api/v4/users/me").json()["username"], "prxbot");
    let page = get("/api/v4/users/me");
    assert_eq!(
        (page.status, page.headers["content-type"].as_str()),
        (200, "text/html; charset=utf-8")
    );
}

#[test]
fn a_simulated_clock_moves_by_sleeping_and_can_end_the_program_at_a_checkpoint() {
    let clock = SimClock::new();
    let program = clock.clone();
    let steps = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = steps.clone();
    clock.on_checkpoint(move |step| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert_ne!(step, Step::BeforeRename, "a crash");
    });
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        program.sleep(Duration::from_secs(86_400));
        program.checkpoint(Step::BeforeRequest);
        program.checkpoint(Step::BeforeRename);
        program.sleep(Duration::from_secs(1));
    }));
    assert!(ended.is_err());
    assert_eq!(clock.now(), Duration::from_secs(86_400));
    clock.checkpoint(Step::AfterRename);
    assert_eq!(steps.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[test]
fn a_revoked_token_and_a_deactivated_account_are_401() {
    let stage = Stage::new();
    stage.server.world().deactivate(&stage.bot);
    assert_eq!(
        stage.get("users/me").id(),
        "api.context.session_expired.app_error"
    );
    stage.server.world().reactivate(&stage.bot);
    assert_eq!(stage.get("users/me").status, 200);
    stage.server.world().revoke_token(&stage.bot.token);
    assert_eq!(stage.get("users/me").status, 401);
}

#[test]
fn answers_are_found_by_the_question_that_they_name() {
    let stage = Stage::new();
    let question = stage.server.world().post(&stage.alice, &stage.town, "why?");
    let props = json!({ "prx": { "in_reply_to": question, "part": 0, "of": 1 } });
    let answer = stage
        .create(json!({ "root_id": question, "props": props }))
        .id();
    let world = stage.server.world();
    let answers = world.own_answers(&stage.bot, &question);
    assert_eq!(
        answers.iter().map(|post| &post.id).collect::<Vec<_>>(),
        [&answer]
    );
    assert!(world.own_answers(&stage.alice, &question).is_empty());
    assert_eq!(world.replies_to(&question).len(), 1);
}
