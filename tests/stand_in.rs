//! The stand-in Mattermost against the recordings of real servers, and its traps.

mod first;
mod replay;
mod scenes;
use std::collections::HashMap;
use std::time::Duration;

use self::replay::Replay;
use crate::support::clock::{SimClock, Time};
use crate::support::mattermost::{Account, Act, Fault, Joining, Kind, Mattermost, Version, Weaken};
use prx::times::{Clock, Sleep, Step};
use serde_json::{Value, json};

/// How many exchanges were recorded of each server. All are replayed.
const RECORDED: [(Version, &str, usize); 2] =
    [(Version::V11_6, "11.6", 308), (Version::V5_37, "5.37", 288)];

#[test]
fn every_recorded_exchange_is_answered_as_the_real_server_did() {
    for (version, folder, count) in RECORDED {
        let mut replay = Replay::new(version, folder);
        scenes::play_all(&mut replay);
        let missing: Vec<_> = replay
            .names()
            .difference(&replay.covered)
            .cloned()
            .collect();
        println!(
            "{folder}: {} of {count} exchanges replayed",
            replay.covered.len()
        );
        assert!(
            replay.differences.is_empty(),
            "{folder}:\n{}",
            replay.differences.join("\n")
        );
        assert!(missing.is_empty(), "{folder}: not replayed: {missing:?}");
        assert_eq!(replay.covered.len(), count, "{folder}");
    }
}

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
                let body = match body {
                    Value::String(raw) => raw.clone(),
                    body => body.to_string(),
                };
                self.agent.run(request.body(body).expect("a request"))?
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
        Stage::of(Version::V11_6)
    }

    fn of(version: Version) -> Stage {
        let clock = SimClock::new();
        let server = Mattermost::start(version, Time::Sim(clock.clone()));
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

    /// A request whose answer does not come.
    fn lose(&self, method: &str, path: &str, body: &Value) {
        let (token, path) = (Some(self.bot.token.as_str()), format!("/api/v4/{path}"));
        // On a new connection: the fault ends it.
        let lost = Client::new(&self.server).try_send(token, method, &path, body, &[]);
        assert!(lost.is_err(), "an answer came");
    }

    fn list_etag(&self) -> String {
        self.get(&self.list_path()).headers["etag"].clone()
    }

    fn patch(&self, post: &str, body: Value) -> Response {
        let path = format!("posts/{post}/patch");
        self.client.send(&self.bot.token, "PUT", &path, body)
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
fn an_edit_moves_the_list_and_its_etag_and_not_the_channel_by_itself_until_the_next_post() {
    let stage = Stage::new();
    let answer = stage.create(json!({})).id();
    let (before, etag) = (stage.counters(), stage.list_etag());
    let listed = || {
        let list = stage.get(&stage.list_path()).json();
        let channels = list.as_array().expect("a list").iter();
        let mut towns = channels.filter(|channel| channel["id"] == stage.town.as_str());
        towns.next().expect("the channel")["last_post_at"].as_u64()
    };
    stage.clock.advance(1000);
    let edited = stage.patch(&answer, json!({ "message": "an answer" }));
    assert_eq!(edited.json()["edit_at"], 0, "the same text");
    assert_eq!(listed(), edited.json()["update_at"].as_u64());
    assert_ne!(stage.list_etag(), etag);
    assert_eq!(stage.counters(), before);
    stage.clock.advance(1000);
    let newer = stage.server.world().post(&stage.alice, &stage.town, "x");
    assert_eq!(stage.counters(), (stage.create_at(&newer), before.1 + 1));
}

#[test]
fn an_edit_that_is_too_long_changes_nothing() {
    for (version, id) in [
        (
            Version::V11_6,
            "model.post.is_valid.message_length.app_error",
        ),
        (Version::V5_37, "model.post.is_valid.msg.app_error"),
    ] {
        let stage = Stage::of(version);
        let answer = stage.create(json!({})).id();
        let fits = json!({ "message": "é".repeat(16_383) });
        assert_eq!(stage.patch(&answer, fits.clone()).status, 200);
        let refused = stage.patch(&answer, json!({ "message": "é".repeat(16_384) }));
        assert_eq!((refused.status, refused.id().as_str()), (400, id));
        let post = stage.get(&format!("posts/{answer}")).json();
        assert_eq!(post["message"], fits["message"]);
    }
}

#[test]
fn every_edit_leaves_a_row_that_counts_toward_the_thousand() {
    let stage = Stage::new();
    let answer = stage.create(json!({})).id();
    let since = stage.server.world().now();
    for number in 0..1200 {
        stage.clock.advance(1);
        stage.server.world().edit(&answer, &number.to_string());
    }
    let list = stage.get(&format!("channels/{}/posts?since={since}", stage.town));
    let posts = list.json()["posts"].as_object().cloned().expect("posts");
    assert!((999..=1000).contains(&posts.len()), "{}", posts.len());
    let is_former = |post: &Value| post["original_id"] == answer.as_str();
    let mut formers = posts.values().filter(|post| is_former(post));
    assert!(formers.clone().count() >= 999);
    assert!(formers.all(|row| row["message"] == "" && row["delete_at"] == row["update_at"]));
    assert_eq!(stage.posts("page=0"), [answer.as_str()]);
    assert_eq!(stage.server.world().former_texts(&answer).len(), 1200);
}

#[test]
fn an_edit_takes_back_what_happened_to_the_post_since_it_was_read() {
    let stage = Stage::new();
    stage.server.world().knobs.edit_takes_ms = 50;
    let patch_lost = |post: &str, message: &str| {
        let lost = Act::ServeThen(Fault::Close);
        stage.server.once("PUT", "posts", lost);
        let path = format!("posts/{post}/patch");
        stage.lose("PUT", &path, &json!({ "message": message }));
    };
    let later = |post: &str| {
        stage.clock.advance(100);
        stage.get(&format!("posts/{post}"))
    };

    let deleted = stage.create(json!({})).id();
    patch_lost(&deleted, "edited");
    stage.server.world().delete(&deleted);
    assert_eq!(stage.get(&format!("posts/{deleted}")).status, 404);
    assert_eq!(
        later(&deleted).json()["message"],
        "edited",
        "and there again"
    );

    let liked = stage.create(json!({})).id();
    patch_lost(&liked, "edited");
    stage
        .server
        .world()
        .react(&stage.alice, &liked, "octagonal_sign");
    let shown = later(&liked).json();
    assert_eq!(shown["metadata"], json!({}), "the reaction is out of sight");
    let reactions = stage.get(&format!("posts/{liked}/reactions")).json();
    assert_eq!(reactions[0]["emoji_name"], "octagonal_sign");
    assert_eq!(
        stage.server.world().reactions_by(&stage.alice, &liked),
        ["octagonal_sign"]
    );

    let twice = stage.create(json!({})).id();
    patch_lost(&twice, "half");
    stage.server.world().knobs.edit_takes_ms = 0;
    assert_eq!(
        stage.patch(&twice, json!({ "message": "whole" })).status,
        200
    );
    assert_eq!(
        later(&twice).json()["message"],
        "half",
        "the first landed last"
    );
}

#[test]
fn reactions_of_many_posts_are_all_refused_for_one_that_may_not_be_read() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let secret = world.add_channel(&stage.team, "secret", Kind::Private);
    let plain = world.post(&stage.alice, &stage.town, "plain");
    let hidden = world.post(&stage.alice, &secret, "hidden");
    drop(world);
    let ask = |ids: Value| {
        let path = "posts/ids/reactions";
        stage.client.send(&stage.bot.token, "POST", path, ids)
    };
    assert_eq!(ask(json!([plain])).json(), json!({ (&plain): [] }));
    for other in [hidden.as_str(), "zzzzzzzzzzzzzzzzzzzzzzzzzz"] {
        assert_eq!(ask(json!([plain, other])).status, 403);
    }
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
fn a_file_takes_its_time_by_size_and_by_request() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let draft = world.draft(&stage.alice, &stage.town, "slow");
    let post = draft.attach("slow.bin", &[0; 5000]).post();
    let file = world.post_by_id(&post).file_ids[0].clone();
    (world.knobs.file_takes_ms, world.knobs.file_bytes_per_sec) = (300, Some(1000));
    drop(world);
    let path = format!("/api/v4/files/{file}");
    for (range, ms) in [("bytes=0-", 5300), ("bytes=1000-1999", 1300)] {
        let before = stage.clock.elapsed_ms();
        let headers = [("Range".to_owned(), range.to_owned())];
        let token = Some(stage.bot.token.as_str());
        let sent = stage
            .client
            .try_send(token, "GET", &path, &Value::Null, &headers);
        assert_eq!(sent.expect("a response").status, 206);
        assert_eq!(stage.clock.elapsed_ms() - before, ms);
    }
}

#[test]
fn without_tables_of_mime_types_only_the_built_in_ones_are_known() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    world.knobs.mime_tables = false;
    let draft = world.draft(&stage.alice, &stage.town, "files");
    let draft = draft
        .attach("a.md", b"#")
        .attach("b.txt", b"b")
        .attach("c.json", b"{}");
    let post = draft.post();
    drop(world);
    let post = stage.get(&format!("posts/{post}")).json();
    let files = post["metadata"]["files"].as_array().expect("files").iter();
    let types: Vec<&Value> = files.map(|file| &file["mime_type"]).collect();
    assert_eq!(types, ["", "text/plain; charset=utf-8", "application/json"]);
}

#[test]
fn a_quoted_post_is_shown_to_those_who_may_read_it() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let secret = world.add_channel(&stage.team, "secret", Kind::Private);
    world.add_member(&secret, &stage.alice, Joining::Silently);
    let told = world.post(&stage.alice, &secret, "the plan");
    let open = world.post(&stage.alice, &stage.town, "well known");
    let [told, open] = [&told, &open].map(|post| {
        let text = format!("see {}", world.permalink(post));
        world.post(&stage.alice, &stage.town, &text)
    });
    drop(world);
    let embed = |token: &str, post: &str| {
        let list = stage
            .client
            .get(token, &format!("channels/{}/posts?since=1", stage.town));
        let list = list.json();
        list["posts"][post]["metadata"]["embeds"][0]["data"]["post"]["message"].clone()
    };
    let (alice, bot) = (&stage.alice.token, &stage.bot.token);
    assert_eq!(embed(alice, &told), "the plan");
    assert_eq!(embed(bot, &told), Value::Null);
    assert_eq!(embed(bot, &open), "well known");
    let formers = stage.server.world().former_texts(&open);
    assert_eq!(
        formers.len(),
        1,
        "the server noted in the post what it quotes"
    );
}

#[test]
fn an_alert_has_its_text_in_attachments() {
    let stage = Stage::new();
    let alert = json!([{ "title": "disk full", "text": "on db1" }]);
    let post = stage
        .server
        .world()
        .webhook_post(&stage.alice, &stage.town, "", alert);
    let post = stage.get(&format!("posts/{post}")).json();
    assert_eq!(
        (&post["message"], &post["type"]),
        (&json!(""), &json!("slack_attachment"))
    );
    assert_eq!(post["props"]["attachments"][0]["text"], "on db1");
    assert_eq!(
        post["props"]["attachments"][0]["footer"], "",
        "all fields are there"
    );
    assert_eq!(post["metadata"]["embeds"][0]["type"], "message_attachment");
}

#[test]
fn on_5_37_and_in_edits_only_the_answer_waits_for_links() {
    for (version, visible_ms) in [(Version::V5_37, 0), (Version::V11_6, 5000)] {
        let stage = Stage::of(version);
        stage.server.world().knobs.link_delay_ms = 5000;
        let before = stage.clock.elapsed_ms();
        let lost = Act::ServeThen(Fault::Close);
        stage.server.once("POST", "posts", lost.clone());
        let body = json!({ "channel_id": stage.town, "message": "https://a.example" });
        stage.lose("POST", "posts", &body);
        stage.clock.advance(visible_ms);
        let posts = stage.server.world().posts_in(&stage.town);
        assert_eq!(posts.len(), 1, "{version:?}");
        stage.clock.advance(5000 - visible_ms);
        assert_eq!(stage.clock.elapsed_ms() - before, 5000);

        let path = format!("posts/{}/patch", posts[0].id);
        let body = json!({ "message": "https://a.example https://b.example" });
        stage.server.once("PUT", "posts", lost);
        stage.lose("PUT", &path, &body);
        assert_eq!(
            stage.server.world().posts_in(&stage.town)[0].message,
            body["message"]
        );
        let before = stage.clock.elapsed_ms();
        stage.patch(
            &posts[0].id,
            json!({ "message": "https://c.example/ and https://d.example and https://e.example" }),
        );
        assert_eq!(stage.clock.elapsed_ms() - before, 5000, "one link more");
    }
}

#[test]
fn readers_wait_for_slow_links_and_get_through_when_they_ask_again() {
    let stage = Stage::of(Version::V5_37);
    let mut world = stage.server.world();
    world.knobs.client_waits_ms = Some(10_000);
    let draft = world.draft(&stage.alice, &stage.town, "https://slow.example");
    let slow = draft.slow_links_ms(25_000).post();
    let counted = world.channel(&stage.town).total_msg_count;
    drop(world);
    assert_eq!(counted, 1, "it is there");
    let since = format!("channels/{}/posts?since=1", stage.town);
    let thread = format!("posts/{slow}/thread");
    let began = stage.clock.elapsed_ms();
    for path in [&since, &format!("posts/{slow}")] {
        stage.lose("GET", path, &Value::Null);
    }
    assert_eq!(stage.clock.elapsed_ms() - began, 20_000, "given up twice");
    assert_eq!(stage.get(&thread).status, 200);
    assert_eq!(
        stage.clock.elapsed_ms() - began,
        25_000,
        "what was fetched stays"
    );
    assert_eq!(stage.posts("since=1"), [slow]);
    assert_eq!(stage.clock.elapsed_ms() - began, 25_000);
}

#[test]
fn plans_for_several_paths_and_counts_stand_side_by_side() {
    let stage = Stage::new();
    let answer = stage.create(json!({})).id();
    let mut world = stage.server.world();
    world.plan(2, "PUT", "posts/*/patch$", Act::Instead(Fault::Html(502)));
    world.plan(1, "POST", "posts$", Act::Instead(Fault::Html(503)));
    drop(world);
    let reactions = || {
        let path = "posts/ids/reactions";
        let token = &stage.bot.token;
        stage
            .client
            .send(token, "POST", path, json!([answer]))
            .status
    };
    let patch = || stage.patch(&answer, json!({ "message": "x" })).status;
    assert_eq!(
        (patch(), reactions(), patch(), patch()),
        (502, 200, 502, 200)
    );
    assert_eq!(stage.create(json!({})).status, 503);
    assert_eq!(stage.create(json!({})).status, 201);
}

#[test]
fn a_request_that_is_held_up_acts_late_and_may_undo_a_later_one() {
    let stage = Stage::new();
    let answer = stage.create(json!({})).id();
    let patch = format!("posts/{answer}/patch");
    let late = Act::ServeLate(60_000, Fault::Silence(10_000));
    stage.server.once("PUT", "posts", late);
    let before = stage.clock.elapsed_ms();
    stage.lose("PUT", &patch, &json!({ "message": "half" }));
    assert_eq!(
        stage.clock.elapsed_ms() - before,
        10_000,
        "no answer, as long as one waits"
    );
    stage.patch(&answer, json!({ "message": "whole" }));
    let text = || stage.get(&format!("posts/{answer}")).json()["message"].clone();
    assert_eq!(text(), "whole");
    stage.clock.advance(50_000);
    assert_eq!(text(), "half");

    let body = json!({ "channel_id": stage.town, "message": "late" });
    stage
        .server
        .once("POST", "posts", Act::ServeLate(5000, Fault::Reset));
    stage.lose("POST", "posts", &body);
    assert_eq!(stage.server.world().posts_in(&stage.town).len(), 1);
    stage.clock.advance(5000);
    assert_eq!(stage.server.world().posts_in(&stage.town).len(), 2);
}

#[test]
fn a_thread_moves_post_by_post_and_a_poll_may_come_in_between() {
    let stage = Stage::new();
    let mut world = stage.server.world();
    let other = world.add_channel(&stage.team, "other", Kind::Open);
    world.add_member(&other, &stage.bot, Joining::Silently);
    let question = world.post(&stage.alice, &stage.town, "@prxbot why?");
    world.react(&stage.alice, &question, "eyes");
    let prx = json!({ "in_reply_to": question, "part": 0, "of": 1 });
    let draft = world
        .draft(&stage.bot, &stage.town, "because")
        .root(&question);
    let answer = draft.prop("prx", prx.clone()).post();
    let copies = world.move_thread(&question, &other, &stage.alice, 100);
    drop(world);
    let seen = |channel: &str| {
        let posts = stage.server.world().posts_in(channel).into_iter();
        posts.map(|post| post.message).collect::<Vec<_>>()
    };
    assert_eq!(seen(&other), ["@prxbot why?"]);
    assert_eq!(seen(&stage.town).len(), 2);
    stage.clock.advance(100);
    assert_eq!(seen(&other), ["@prxbot why?", "because"]);
    stage.clock.advance(100);
    assert_eq!(
        seen(&other)[2],
        "This thread was moved from another channel"
    );
    assert_eq!(stage.get(&format!("posts/{answer}")).status, 200);
    stage.clock.advance(100);
    assert_eq!(stage.get(&format!("posts/{answer}")).status, 404);
    stage.clock.advance(100);
    assert!(seen(&stage.town)[0].starts_with("A thread with 2 messages has been moved"));

    let world = stage.server.world();
    let [question, answer] = [&copies[0], &copies[1]].map(|copy| world.post_by_id(copy));
    assert_eq!(
        (question.user_id.as_str(), question.kind.as_str()),
        (&*stage.alice, "")
    );
    assert_eq!(
        (&answer.root_id, &answer.props["prx"]),
        (&question.id, &prx)
    );
    assert_eq!(answer.props["from_bot"], "true");
    assert!(question.create_at < answer.create_at);
    assert_eq!(world.reactions_by(&stage.alice, &question.id), ["eyes"]);
}

#[test]
fn only_the_count_tells_of_a_post_from_a_connected_server() {
    let stage = Stage::new();
    stage.clock.advance(3_600_000);
    let mut world = stage.server.world();
    world.share(&stage.town);
    let bea = world.add_remote_user("bea", "north");
    world.add_member(&stage.town, &bea, Joining::Silently);
    let newest = world.post(&stage.alice, &stage.town, "newest");
    drop(world);
    let (before, etag) = (stage.counters(), stage.list_etag());
    let since = stage.create_at(&newest) - 60_000;
    let mut world = stage.server.world();
    let remote = world.remote_post(&bea, &stage.town, "@prxbot hello", 600_000);
    drop(world);
    assert_eq!(stage.counters(), (before.0, before.1 + 1));
    assert_eq!(stage.list_etag(), etag);
    assert_eq!(stage.posts(&format!("since={since}")), [newest.as_str()]);
    assert_eq!(stage.posts("page=0&per_page=2"), [newest, remote.clone()]);
    let channel = stage.get(&format!("channels/{}", stage.town)).json();
    assert_eq!(channel["shared"], true);
    let post = stage.get(&format!("posts/{remote}")).json();
    assert_eq!(post["remote_id"].as_str().map(str::len), Some(26));
    assert_eq!(post["create_at"], post["update_at"]);
    let user = stage.get(&format!("users/{}", bea.id)).json();
    assert_eq!(
        (&user["username"], &user["remote_id"]),
        (&json!("bea:north"), &post["remote_id"])
    );
}

#[test]
fn a_channel_may_refuse_posts_and_nothing_else() {
    let stage = Stage::new();
    let question = stage.server.world().post(&stage.alice, &stage.town, "x");
    let answer = stage.create(json!({})).id();
    stage.server.world().channel_mut(&stage.town).read_only = true;
    assert_eq!(stage.create(json!({})).status, 403);
    let send = |path: &str, body: Value| {
        stage
            .client
            .send(&stage.bot.token, "POST", path, body)
            .status
    };
    assert_eq!(
        send("users/me/typing", json!({ "channel_id": stage.town })),
        403
    );
    let reaction = json!({ "user_id": stage.bot.id, "post_id": question, "emoji_name": "eyes" });
    assert_eq!(send("reactions", reaction), 200);
    assert_eq!(stage.patch(&answer, json!({ "message": "y" })).status, 200);
    assert_eq!(
        stage
            .get(&format!("channels/{}/members/me", stage.town))
            .status,
        200
    );
}

#[test]
fn a_person_without_mfa_is_refused_all_but_his_own_account() {
    let stage = Stage::new();
    stage.server.world().knobs.mfa_required = true;
    let path = format!("channels/{}", stage.town);
    assert_eq!(stage.get(&path).status, 200, "bots are exempt");
    let token = &stage.alice.token;
    assert_eq!(stage.client.get(token, "users/me").status, 200);
    let refused = stage.client.get(token, &path);
    assert_eq!(
        (refused.status, refused.id().as_str()),
        (403, "api.context.mfa_required.app_error")
    );
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
        (Fault::Packed, Some(201)),
        (Fault::Silence(5), None),
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
    assert_eq!(stage.server.world().clear_log().len(), 27);
}

#[test]
fn refusals_for_too_many_requests_come_with_strange_headers() {
    let stage = Stage::new();
    for (name, fault) in Fault::strange_rate_limits() {
        stage.server.once("GET", "users/me", Act::Instead(fault));
        let refused = stage.get("users/me");
        assert_eq!(refused.status, 429, "{name}");
        assert_eq!(refused.body, b"limit exceeded\n", "{name}");
    }
    assert_eq!(stage.get("users/me").status, 200);
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
