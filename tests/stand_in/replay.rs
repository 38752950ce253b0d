//! Sends recorded requests to the stand-in and compares what comes back.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Client, Response};
use crate::support::clock::{SimClock, Time};
use crate::support::mattermost::picture::picture_of;
use crate::support::mattermost::{Mattermost, Version, World};

/// Fields that need only be of the same type.
const LOOSE: [&str; 7] = [
    "request_id",
    "email",
    "mini_preview",
    "invite_id",
    "mention_count",
    "mention_count_root",
    "DiagnosticId",
];

/// Headers that no client of ours reads.
const UNREAD: [&str; 5] = [
    "Content-Security-Policy",
    "Expires",
    "Vary",
    "X-Content-Type-Options",
    "X-Frame-Options",
];

/// Ids are matched one to one:
/// a recorded id stands for the same thing wherever it turns up. Times need only be set or not set.
pub struct Replay {
    pub version: Version,
    folder: PathBuf,
    pub server: Mattermost,
    pub clock: SimClock,
    pub client: Client,
    pub ids: HashMap<String, String>,
    pub times: HashMap<u64, u64>,
    etags: HashMap<String, String>,
    pub covered: BTreeSet<String>,
    pub differences: Vec<String>,
}

impl Replay {
    pub fn new(version: Version, folder: &str) -> Replay {
        let clock = SimClock::new();
        let server = Mattermost::start(version, Time::Sim(clock.clone()));
        Replay {
            version,
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

    /// Another server with nothing on it, and nothing known of the recorded ids.
    pub fn begin_anew(&mut self) {
        self.clock = SimClock::new();
        self.server = Mattermost::start(self.version, Time::Sim(self.clock.clone()));
        self.client = Client::new(&self.server);
        self.ids.clear();
        self.times.clear();
        self.etags.clear();
    }

    /// Something happens a little later.
    pub fn step<T>(&self, happens: impl FnOnce(&mut World) -> T) -> T {
        self.clock.advance(5);
        happens(&mut self.server.world())
    }

    pub fn names(&self) -> BTreeSet<String> {
        let files = std::fs::read_dir(&self.folder).expect("recordings");
        let names = files.map(|file| file.expect("a file").path());
        let names = names.map(|path| path.file_stem().expect("a name").to_string_lossy().into());
        names.collect()
    }

    pub fn recording(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.folder.join(format!("{name}.json"))).ok()?;
        Some(serde_json::from_str(&text).expect("a recording"))
    }

    /// The recorded response's body.
    pub fn recorded(&self, name: &str) -> Value {
        self.recording(name).expect("a recording")["response"]["body"].take()
    }

    /// Says which of the stand-in's ids a recorded one is.
    pub fn bind(&mut self, recorded: &Value, ours: &str) {
        let recorded = recorded.as_str().expect("an id").to_owned();
        self.ids.insert(recorded, ours.to_owned());
    }

    /// Says that the post, file or channel which the recorded request is about is this one here.
    pub fn about(&mut self, name: &str, ours: &str) {
        let Some(recording) = self.recording(name) else {
            return;
        };
        let path = recording["request"]["path"].as_str().expect("a path");
        let mut parts = path.split(['/', '?', '=', '&']);
        let in_path = parts.find(|part| prx::mattermost::is_id(part));
        let id = match in_path {
            Some(id) => json!(id),
            None => recording["request"]["body"]["post_id"].clone(),
        };
        self.bind(&id, ours);
    }

    /// Says that the newest post of a recorded list is this one, so that a recorded `since` is
    /// understood.
    pub fn newest_is(&mut self, name: &str, ours: &str) {
        let recorded = self.recorded(name);
        let newest = recorded["order"][0].clone();
        let create_at = recorded["posts"][newest.as_str().expect("an id")]["create_at"].as_u64();
        self.bind(&newest, ours);
        let here = self.server.world().post_by_id(ours).create_at;
        self.times.insert(create_at.expect("a time"), here);
    }

    /// Says that the recorded `since` is this moment.
    pub fn since_is_now(&mut self, name: &str) {
        let path = self.recording(name).expect("a recording")["request"]["path"].take();
        let since = path.as_str().and_then(|path| path.split_once("since="));
        let since = since.and_then(|(_, since)| since.parse().ok());
        let now = self.server.world().now();
        self.times.insert(since.expect("a time"), now);
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
    pub fn check(&mut self, token: &str, names: &[&str]) {
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
                .filter(|(name, _)| *name != "Content-Type")
                .map(|(name, value)| {
                    let value = value.as_str().expect("text");
                    let etag = self.etags.get(value).map_or(value, |etag| etag);
                    (name.clone(), etag.to_owned())
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
            Value::String(text) if text == "<binary>" => self.compare_bytes(name, recorded, ours),
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
                name if UNREAD.contains(&name) => true,
                "Last-Modified" => {
                    self.etags.insert(value.into(), have.clone());
                    !have.is_empty()
                }
                // Previews are of other sizes.
                "Content-Range" if name == "file-preview-range" => !have.is_empty(),
                "X-Version-Id" => number_of(value) == number_of(&have),
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

    /// A picture is to be of the same format and size, packed bytes are to be packed.
    fn compare_bytes(&mut self, name: &str, recorded: &Value, ours: &Response) {
        let picture = &recorded["body_info"]["picture"];
        let format = picture["format"].as_str().unwrap_or_default();
        if ["PNG", "JPEG", "GIF", "WEBP"].contains(&format) {
            let have = picture_of(&ours.body).map(|picture| {
                let (mut width, mut height) = (picture.width, picture.height);
                if name == "file-rotated-jpg" {
                    // Recorded as it is stored, not as it is shown.
                    (width, height) = (height, width);
                }
                let format = format!("{:?}", picture.format).to_uppercase();
                json!({ "format": format, "width": width, "height": height })
            });
            let mut wanted = picture.clone();
            wanted.as_object_mut().map(|picture| picture.remove("mode"));
            if have.as_ref() != Some(&wanted) {
                self.differ(name, &wanted, &have.unwrap_or_default());
            }
        }
        let is_packed = ours.body.starts_with(&[0x1f, 0x8b]);
        if recorded["headers"].get("Content-Encoding").is_some() != is_packed {
            self.differ(name, &"packed bytes, or not".into(), &is_packed.into());
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
                let order = match name {
                    // With `perPage`, replies come in any order.
                    "thread-patched-newest" => Order::Any,
                    _ if name.starts_with("thread") => Order::Fixed,
                    _ => Order::NewestFirst,
                };
                let (recorded, ours) = (settled(recorded, order), settled(ours, order));
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

/// The version in an `X-Version-Id`; what follows it is the build.
fn number_of(version_id: &str) -> Vec<&str> {
    version_id.split('.').take(3).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Fixed,
    NewestFirst,
    Any,
}

/// A list of posts whose equally old posts are in an order that does not vary.
fn settled(list: &Value, wanted: Order) -> Value {
    let mut list = list.clone();
    let posts = list["posts"].clone();
    let order = list["order"].as_array_mut().expect("an order");
    let key = |id: &Value| {
        let post = &posts[id.as_str().expect("an id")];
        (
            std::cmp::Reverse(post["create_at"].as_u64()),
            post["delete_at"].as_u64(),
        )
    };
    if wanted == Order::NewestFirst {
        assert!(order.is_sorted_by_key(|id| key(id).0), "newest first");
    }
    if wanted != Order::Fixed {
        order.sort_by_key(key);
    }
    list
}
