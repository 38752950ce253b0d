//! A Mattermost that runs in the test's own process: held to recordings of real servers, with their
//! traps, on real sockets, and with faults that a test may put between it and the client.
//!
//! A test changes its `world()`, plans what happens `at` a later time, bends `world().knobs`, and says
//! `on_request` or `once` what becomes of requests.

mod api;
mod fault;
mod files;
mod moves;
pub mod picture;
mod reactions;
mod render;
mod world;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::clock::Time;
use super::wire::{Reply, Request, Wire, lock};
use api::{Answer, Served};
pub use fault::{Act, Fault};
pub use world::*;

/// Which server is played: where the two differ, it answers as the recordings of that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)] // The versions' own names.
pub enum Version {
    V5_37,
    V11_6,
}

impl Version {
    pub fn number(self) -> &'static str {
        match self {
            Version::V5_37 => "5.37.0",
            Version::V11_6 => "11.6.0",
        }
    }

    /// The `X-Version-Id` header.
    fn id(self) -> &'static str {
        match self {
            Version::V5_37 => "5.37.0..73accf65631fdcdf9e399e7a273fff9e.false",
            Version::V11_6 => {
                "11.6.0..e6852870cac5a90dce6cbeed205b6f02f613522ea351c69d13dea029b73dd1fb.false"
            }
        }
    }

    /// `GET config/client`, as recorded.
    fn client_config(self) -> Value {
        let recording = match self {
            Version::V5_37 => include_str!("../recordings/5.37/client-config.json"),
            Version::V11_6 => include_str!("../recordings/11.6/client-config.json"),
        };
        let mut recording: Value = serde_json::from_str(recording).expect("a recording");
        recording["response"]["body"].take()
    }
}

type OnRequest = Box<dyn FnMut(&Request, &mut World) -> Act + Send>;

/// The running server; it ends when dropped.
pub struct Mattermost {
    shared: Arc<Shared>,
    wire: Wire,
}

struct Shared {
    world: Mutex<World>,
    on_request: Mutex<Option<OnRequest>>,
}

impl Mattermost {
    pub fn start(version: Version, time: Time) -> Mattermost {
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(version, time)),
            on_request: Mutex::new(None),
        });
        let served = shared.clone();
        Mattermost {
            wire: Wire::start(move |request| served.handle(request)),
            shared,
        }
    }

    /// What a client is given as the server's address.
    pub fn url(&self) -> String {
        self.wire.url()
    }

    /// The server's state, with all that was due by now done. The server waits while this is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = lock(&self.shared.world);
        world.settle();
        world
    }

    /// Does `action` once `ms` have passed, seen from now.
    pub fn at(&self, ms: u64, action: impl FnOnce(&mut World) + Send + 'static) {
        self.world().at(ms, action);
    }

    /// Asked before every request what is to become of it. Takes the place of an earlier one.
    pub fn on_request(&self, on_request: impl FnMut(&Request, &mut World) -> Act + Send + 'static) {
        *lock(&self.shared.on_request) = Some(Box::new(on_request));
    }

    /// No faults from here on.
    pub fn serve_all(&self) {
        *lock(&self.shared.on_request) = None;
        self.world().plans.clear();
    }

    /// The next request whose method and path (without `/api/v4/`) begin so suffers `act`; the rest
    /// is served.
    pub fn once(&self, method: &'static str, path: &'static str, act: Act) {
        self.serve_all();
        self.world().plan(1, method, path, act);
    }

    /// Answers requests as the server does, for another way to reach it (TLS, a proxy).
    pub fn handler(&self) -> impl Fn(Request) -> Reply + Send + Sync + 'static {
        let shared = self.shared.clone();
        move |request| shared.handle(request)
    }

    /// Drops the open connections, as a server or a proxy does with idle ones.
    pub fn drop_connections(&self) {
        self.wire.drop_connections();
    }

    /// Refuses connections, drops the open ones, and forgets what is only in a server's memory.
    pub fn stop(&self) {
        self.wire.stop();
        self.world().forget();
    }

    /// Listens again on the same port.
    pub fn restart(&self) {
        self.wire.restart();
        self.world().forget();
    }
}

/// The path after `/api/v4/`, and the query.
pub fn api_path(request: &Request) -> &str {
    let target = request.target.as_str();
    target
        .split_once("/api/v4/")
        .map_or(target, |(_, path)| path)
}

impl Shared {
    fn handle(&self, request: Request) -> Reply {
        let mut world = lock(&self.world);
        let takes_ms = world.knobs.request_takes_ms;
        if takes_ms > 0 {
            let until = world.elapsed_ms() + takes_ms;
            world.time.wait_until(until);
        }
        world.settle();
        world.request_count += 1;
        let user = api::user_of(&world, &request);
        let act = match lock(&self.on_request).as_mut() {
            Some(on_request) => on_request(&request, &mut world),
            None => Act::Serve,
        };
        let act = match act {
            Act::Serve => fault::planned(&mut world.plans, &request),
            act => act,
        };
        let fault = match act {
            Act::Instead(fault) => return self.suffer(world, &request, user, fault),
            Act::ServeLate(ms, fault) => {
                let (late, by) = (request.clone(), user.clone());
                world.at(ms, move |world| {
                    // What comes later of it is on its way by itself.
                    api::serve(world, &late, by.as_deref());
                });
                return self.suffer(world, &request, user, fault);
            }
            Act::ServeThen(fault) => Some(fault),
            Act::Serve => None,
        };
        if let Some(refusal) = rate_limited(&mut world) {
            let reply = finish(&world, refusal);
            log(&mut world, &request, user, &reply);
            return reply;
        }
        let answer = match api::serve(&mut world, &request, user.as_deref()) {
            Served::Answer(answer) => answer,
            Served::Later(..) if fault.as_ref().is_some_and(|fault| !fault.needs_answer()) => {
                return self.suffer(world, &request, user, fault.expect("one that needs none"));
            }
            Served::Later(at_ms, answer) => {
                let now = world.elapsed_ms();
                let patience = world.knobs.client_waits_ms;
                let gives_up_ms = patience.map(|ms| now + ms).filter(|until| *until < at_ms);
                world = self.wait_until(world, gives_up_ms.unwrap_or(at_ms));
                if gives_up_ms.is_some() {
                    return self.logged(world, &request, user, Reply::Close);
                }
                answer(&mut world)
            }
        };
        let mut reply = finish(&world, answer);
        if let Some(fault) = fault {
            world = self.wait_out(world, &fault);
            reply = fault.reply(Some(reply), world.now());
        }
        let reply = rewritten(&world, reply);
        self.logged(world, &request, user, reply)
    }

    /// A fault in place of an answer.
    fn suffer(
        &self,
        world: MutexGuard<'_, World>,
        request: &Request,
        user: Option<String>,
        fault: Fault,
    ) -> Reply {
        let world = self.wait_out(world, &fault);
        let reply = rewritten(&world, fault.reply(None, world.now()));
        self.logged(world, request, user, reply)
    }

    fn logged(
        &self,
        mut world: MutexGuard<'_, World>,
        request: &Request,
        user: Option<String>,
        reply: Reply,
    ) -> Reply {
        log(&mut world, request, user, &reply);
        reply
    }

    /// Lets the time pass for which a fault says nothing.
    fn wait_out<'a>(
        &'a self,
        world: MutexGuard<'a, World>,
        fault: &Fault,
    ) -> MutexGuard<'a, World> {
        match fault {
            Fault::Silence(ms) => {
                let until = world.elapsed_ms() + ms;
                self.wait_until(world, until)
            }
            _ => world,
        }
    }

    /// Lets others go on until then.
    fn wait_until<'a>(
        &'a self,
        world: MutexGuard<'a, World>,
        elapsed_ms: u64,
    ) -> MutexGuard<'a, World> {
        let time = world.time.clone();
        drop(world);
        time.wait_until(elapsed_ms);
        let mut world = lock(&self.world);
        world.settle();
        world
    }
}

/// The headers that every answer has, as a proxy in front leaves them.
fn finish(world: &World, mut answer: Answer) -> Reply {
    for (name, value) in &mut answer.headers {
        if name == "Etag" {
            match world.knobs.weaken {
                Weaken::No => {}
                Weaken::Prefix => *value = format!("W/{value}"),
                Weaken::Quoted => *value = format!("W/\"{value}\""),
            }
        }
    }
    if answer.by_handler {
        answer
            .headers
            .push(("X-Version-Id".into(), world.version.id().into()));
    }
    if let Some(limit) = world.knobs.rate_limit.filter(|limit| !limit.silent) {
        answer.headers.extend(bucket_headers(world, limit));
    }
    let proxy_now = world
        .now()
        .saturating_add_signed(world.knobs.date_offset_ms);
    answer.headers.push(("Date".into(), date(proxy_now)));
    // As Go's server does with what outgrows its buffer.
    if answer.body.len() > 2048 {
        answer
            .headers
            .push(("Transfer-Encoding".into(), "chunked".into()));
    }
    Reply::Full {
        status: answer.status,
        headers: answer.headers,
        body: answer.body,
    }
}

/// A whole answer of JSON as `knobs.rewrite` makes it.
fn rewritten(world: &World, mut reply: Reply) -> Reply {
    if let (Some(rewrite), Reply::Full { body, .. }) = (&world.knobs.rewrite, &mut reply)
        && let Ok(mut value) = serde_json::from_slice::<Value>(body)
    {
        rewrite(&mut value);
        *body = value.to_string().into_bytes();
    }
    reply
}

fn date(ms: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}

fn log(world: &mut World, request: &Request, user: Option<String>, reply: &Reply) {
    if !world.knobs.log_requests {
        return;
    }
    let logged = Logged {
        at_ms: world.now(),
        method: request.method.clone(),
        target: request.target.clone(),
        status: match reply {
            Reply::Full { status, .. } => *status,
            _ => 0,
        },
        user: user.map_or(String::new(), |id| world.user(&id).username.clone()),
        body: String::from_utf8_lossy(&request.body).into_owned(),
        conditional: request.headers.contains_key("if-none-match"),
        answer_bytes: match reply {
            Reply::Full { body, .. } => body.len(),
            _ => 0,
        },
    };
    world.log.push(logged);
}

/// One bucket for all clients, which leaks `per_sec` requests a second.
fn rate_limited(world: &mut World) -> Option<Answer> {
    let limit = world.knobs.rate_limit?;
    let (now, each_ms) = (world.elapsed_ms(), 1000 / limit.per_sec);
    let empty_at = world.bucket_empty_at.max(now) + each_ms;
    if empty_at - now <= each_ms * (limit.max_burst + 1) {
        world.bucket_empty_at = empty_at;
        return None;
    }
    let mut headers = vec![("Content-Type", "text/plain; charset=utf-8".into())];
    if !limit.silent {
        headers.push(("Retry-After", each_ms.div_ceil(1000).to_string()));
    }
    let headers = headers.into_iter();
    Some(Answer {
        status: 429,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        body: b"limit exceeded\n".into(),
        by_handler: false,
    })
}

/// What every answer says of the bucket: how many requests fit into it, and the seconds until it is
/// empty.
fn bucket_headers(world: &World, limit: RateLimit) -> Vec<(String, String)> {
    let (size, each_ms) = (limit.max_burst + 1, 1000 / limit.per_sec);
    let full_ms = world.bucket_empty_at.saturating_sub(world.elapsed_ms());
    let left = size.saturating_sub(full_ms.div_ceil(each_ms));
    let headers = [
        ("X-Ratelimit-Limit", size),
        ("X-Ratelimit-Remaining", left),
        ("X-Ratelimit-Reset", full_ms.div_ceil(1000)),
    ];
    headers
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .into()
}
