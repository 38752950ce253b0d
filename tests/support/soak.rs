//! A bot that answers for simulated months, killed and troubled at random: what it cost at the
//! beginning and at the end.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prx::commands::run::Session;
use prx::desk::Job;

use super::bot::Stage;
use super::desk::{Play, Script};
use super::mattermost::{Act, Fault};
use super::random::Random;

/// What a worker says, in two pieces.
const WHOLE: [&str; 2] = ["Between 28 ", "and 31 days."];
const DAY_MS: u64 = 24 * 3_600_000;

/// The bot's costs while it answered one tenth of the messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    pub messages: u64,
    pub requests: u64,
    /// The largest the state file was, in bytes.
    pub state_bytes: u64,
    /// The most ids that were in it.
    pub state_ids: u64,
}

/// What a soak came to.
#[derive(Clone, Debug, Default)]
pub struct Soak {
    pub days: u64,
    pub kills: u64,
    pub faults: u64,
    /// Workers that were started, and those of them that died.
    pub workers: u64,
    pub deaths: u64,
    pub unanswered: u64,
    pub answered_twice: u64,
    /// Answers of which something is missing, and such as say that there is none.
    pub spoilt: u64,
    pub apologies: u64,
    pub tenths: Vec<Costs>,
}

struct Killed;

/// Asks `messages` questions in `channels` channels over about `days` days, in bursts with long
/// silences between them: the bot is killed in the middle of one burst in ten, one request in a
/// hundred suffers, and of the workers one in two takes its time and one in eight dies. Each question
/// must be answered once.
pub fn soak(seed: u64, messages: u64, days: u64, channels: usize) -> Soak {
    let stage = Stage::simulated();
    stage.configure("default_provider = \"echo\"", "poll_interval_secs = 5");
    let mut random = Random(seed | 1);
    let mut world = stage.world();
    world.knobs.log_requests = false;
    let mut places = vec![stage.channel.clone()];
    for number in 1..channels {
        let channel = world.add_channel(
            &stage.team,
            &format!("soak-{number}"),
            super::mattermost::Kind::Open,
        );
        world.join(&channel, &stage.bot);
        places.push(channel);
    }
    drop(world);
    let mut troubles = Random(seed.wrapping_mul(77) | 1);
    let suffered = Arc::<AtomicU64>::default();
    let counted = suffered.clone();
    stage.mattermost.on_request(move |_, _| {
        if troubles.below(100) > 0 {
            return Act::Serve;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        match troubles.below(4) {
            0 => Act::Instead(Fault::Html(502)),
            1 => Act::ServeThen(Fault::Close),
            2 => Act::ServeThen(Fault::Truncated),
            _ => Act::Instead(Fault::RateLimited(1)),
        }
    });
    let workers = Arc::<AtomicU64>::default();
    let deaths = Arc::<AtomicU64>::default();
    stage
        .desk
        .script(hard_workers(seed, workers.clone(), deaths.clone()));
    let mut session = Some(stage.start());
    work(&stage, &mut session, 20);
    let mut soak = Soak::default();
    let mut questions = Vec::new();
    let mut costs = Costs::default();
    let began = stage.world().request_count;
    let mut requests = began;
    while (questions.len() as u64) < messages {
        let burst = 1 + random.below(8);
        for _ in 0..burst {
            let place = &places[random.below(places.len() as u64) as usize];
            let mut world = stage.world();
            let draft = world.draft(&stage.ann, place, "how long is a month?");
            questions.push(
                draft
                    .visible_after_ms(random.below(3) * random.below(5_000))
                    .post(),
            );
        }
        costs.messages += burst;
        if random.below(10) == 0 {
            let mut left = random.below(40);
            stage.clock.on_checkpoint(move |_| {
                if left == 0 {
                    resume_unwind(Box::new(Killed));
                }
                left -= 1;
            });
        }
        soak.kills += work(&stage, &mut session, 20 + random.below(60));
        let state = std::fs::read(stage.state_path()).expect("a state file");
        costs.state_bytes = costs.state_bytes.max(state.len() as u64);
        costs.state_ids = costs.state_ids.max(ids(&state));
        // The silence: nothing would happen in it but polls.
        let apart = days * DAY_MS / messages * burst;
        stage.clock.advance(apart.saturating_sub(50_000));
        if (questions.len() as u64) * 10 >= messages * (soak.tenths.len() as u64 + 1) {
            let now = stage.world().request_count;
            costs.requests = now - requests;
            requests = now;
            soak.tenths.push(std::mem::take(&mut costs));
        }
    }
    stage.mattermost.serve_all();
    work(&stage, &mut session, 400);
    let world = stage.world();
    for question in &questions {
        match &world.own_answers(&stage.bot, question)[..] {
            [] => soak.unanswered += 1,
            [answer] if answer.message == WHOLE.concat() => {}
            [answer] if answer.message.contains("stopped trying") => soak.apologies += 1,
            [_] => soak.spoilt += 1,
            _ => soak.answered_twice += 1,
        }
    }
    soak.faults = suffered.load(Ordering::SeqCst);
    soak.workers = workers.load(Ordering::SeqCst);
    soak.deaths = deaths.load(Ordering::SeqCst);
    soak.days = stage.clock.elapsed_ms() / DAY_MS;
    soak
}

/// Workers of which some answer at once and some take up to half a minute, and some die on the way.
fn hard_workers(
    seed: u64,
    workers: Arc<AtomicU64>,
    deaths: Arc<AtomicU64>,
) -> impl FnMut(&Job) -> Option<Script> + Send + 'static {
    let mut random = Random(seed.wrapping_mul(31) | 1);
    move |_| {
        workers.fetch_add(1, Ordering::SeqCst);
        let ms = random.pick(&[0, 0, 0, 2_000, 8_000, 30_000]);
        let end = if random.one_in(8) {
            deaths.fetch_add(1, Ordering::SeqCst);
            Play::Dies(random.one_in(2))
        } else {
            Play::Done
        };
        let first = (ms / 2, Play::Text("Between 28 ".into()));
        Some(vec![
            first,
            (ms, Play::Text("and 31 days.".into())),
            (ms, end),
        ])
    }
}

/// Lets the bot work for `secs`, and starts it again when it is killed: how often it was.
fn work(stage: &Stage, session: &mut Option<Session>, secs: u64) -> u64 {
    let until = stage.clock.elapsed_ms() + secs * 1000;
    let mut kills = 0;
    while stage.clock.elapsed_ms() < until {
        let step = catch_unwind(AssertUnwindSafe(|| match session {
            Some(session) => drop(session.step().expect("no reason to exit")),
            None => *session = Some(stage.start()),
        }));
        if let Err(payload) = step {
            if !payload.is::<Killed>() {
                resume_unwind(payload);
            }
            *session = None;
            stage.clock.no_checkpoint();
            kills += 1;
        }
    }
    kills
}

/// How many ids of posts a state file holds.
fn ids(state: &[u8]) -> u64 {
    let state: serde_json::Value =
        serde_json::from_slice(state).expect("a state file that is whole");
    let channels = state["channels"].as_object().into_iter().flatten();
    let handled =
        channels.map(|(_, channel)| channel["handled"].as_object().map_or(0, |ids| ids.len()));
    handled.sum::<usize>() as u64
}
