//! The stand-in Mattermost against the recordings of real servers, and its traps.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

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
                self.agent.run(request.body(body.to_string()).expect("a request"))?
            }
        };
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| {
            (name.to_string(), value.to_str().expect("text").to_owned())
        });
        Ok(Response {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response.body_mut().with_config().limit(100_000_000).read_to_vec()?,
        })
    }

    fn send(&self, token: &str, method: &str, path: &str, body: Value) -> Response {
        let path = format!("/api/v4/{path}");
        self.try_send(Some(token), method, &path, &body, &[]).expect("a response")
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
            folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(folder),
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
            let Some(recording) = self.recording(name) else { continue };
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
            let have = ours.headers.get(&header.to_lowercase()).cloned().unwrap_or_default();
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
                let key = if name == "channels-me" { "id" } else { "display_name" };
                assert!(ours.is_sorted_by_key(|channel| channel[key].as_str()), "{name}");
                assert!(recorded.is_sorted_by_key(|channel| channel[key].as_str()), "{name}");
                if recorded.len() != ours.len() {
                    self.differ(name, &recorded.len().into(), &ours.len().into());
                }
                for channel in recorded {
                    let id = channel["id"].as_str().and_then(|id| self.ids.get(id));
                    let same = ours.iter().find(|ours| ours["id"].as_str() == id.map(|id| id.as_str()));
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
            (std::cmp::Reverse(post["create_at"].as_u64()), post["delete_at"].as_u64())
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
        let missing: Vec<_> = replay.names().difference(&replay.covered).cloned().collect();
        println!("{folder}: {} of {count} exchanges replayed", replay.covered.len());
        assert!(missing.is_empty(), "{folder}: not replayed: {missing:?}");
        assert_eq!(replay.covered.len(), count, "{folder}");
        assert!(replay.differences.is_empty(), "{folder}:\n{}", replay.differences.join("\n"));
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
    for _ in 0..recorded_direct["total_msg_count"].as_u64().expect("a count") {
        replay.server.world().post(&alice, &direct, "earlier");
    }
    replay.bind(&recorded_direct["id"], &direct);
    let recorded_group = replay.recorded("channel-group");
    replay.bind(&recorded_group["id"], &group);
    let name = recorded_group["name"].as_str().expect("a name");
    replay.server.world().channel_mut(&group).name = name.into();
    let mut list = replay.recorded("channels-me-team");
    let list = list.as_array_mut().expect("a list");
    list.sort_by_key(|channel| channel["update_at"].as_u64().max(channel["last_post_at"].as_u64()));
    for recorded in list {
        add_recorded_channel(replay, recorded, &bot, &admin);
    }
    let [private, archived] = ["channel-not-member", "channel-archived"].map(|name| {
        let path = replay.recording(name).expect("a recording")["request"]["path"].take();
        path.as_str().expect("a path").rsplit('/').next().expect("an id").to_owned()
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

    let question = replay.ids[replay.recorded("post-create-person")["id"].as_str().expect("an id")].clone();
    let late = step(replay, |world| {
        world.draft(&alice, &town, "a late reply").root(&question).post()
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
    step(replay, |world| world.add_member(&town, &bob, Joining::AddedBy(&admin)));
    replay.check(&bot.token, &["posts-system"]);
    let private_word = step(replay, |world| world.post(&alice, &direct, "a direct message"));
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
    let path = replay.recording("thread-deleted-root").expect("a recording")["request"]["path"].take();
    let id = path.as_str().and_then(|path| path.split('/').nth(4)).map(Value::from);
    replay.bind(&id.expect("an id"), &deleted);
    replay.check(&bot.token, &["thread-deleted-root", "post-create-deleted-root"]);
    step(replay, |world| {
        let draft = world.draft(&admin, &town, "from a webhook @prxbot").not_by_api();
        draft.prop("from_webhook", "true").prop("webhook_display_name", "ci").post()
    });
    replay.check(&bot.token, &["posts-webhook"]);
    replay.check(&alice.token, &["command-me"]);
    replay.check(&bot.token, &["posts-me"]);
    step(replay, |world| {
        let (kind, bytes) = ("text/plain; charset=utf-8", b"three lines\nof plain\ntext\n");
        world.draft(&alice, &town, "").file("notes.txt", kind, bytes).post()
    });
    replay.check(&bot.token, &["posts-attachment", "file"]);
    step(replay, |world| world.remove_member(&town, &bot, &admin));
    #[rustfmt::skip] // A table.
    replay.check(&bot.token, &[
        "posts-since-removed", "channel-member-me-removed", "post-create-removed", "typing-removed",
    ]);
    step(replay, |world| world.add_member(&town, &bot, Joining::AddedBy(&admin)));
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
    let id = match text("type").as_str() {
        _ if known.is_some() => known.expect("looked at"),
        "D" => {
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
        _ if text("creator_id").is_empty() => world.channel_named(&team, &text("name")),
        kind => {
            let kind = if kind == "P" { Kind::Private } else { Kind::Open };
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
