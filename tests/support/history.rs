//! Random histories of people, servers and kills, played to the bot in simulated time, and the model
//! of what it must have answered in the end.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use prx::commands::run::Session;
use prx::desk::Job;
use prx::exit::Exit;
use serde_json::Value;

use super::bot::Stage;
use super::clock::EPOCH_MS;
use super::desk::{self, Script};
use super::mattermost::{Account, Act, Fault, Joining, Kind, World};
use super::random::Random;
use super::wire::{Request, lock};

/// Posts that are older than this when the bot comes back may be too old (`catch_up_secs` is 24 h).
const OLD_MS: u64 = 23 * 3_600_000;
/// A deleted post may still be answered this long after: its answer was on the way.
const ON_THE_WAY_MS: u64 = 30_000;
/// Long enough for everything that the bot puts off: closed channels, back-off, doubtful posts.
const CALM_SECS: u64 = 130;
/// From one post answered to the next: a server that commits late holds everything up, and a backlog
/// takes as long as its posts are many.
const PATIENCE_SECS: u64 = 600;
/// A worker that takes this long ends after the next copy was read.
const SLOW_MS: u64 = 8_000;

/// What does not change during a history.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub seed: u64,
    pub poll_secs: u64,
    pub request_takes_ms: u64,
    pub commit_delay_ms: u64,
    pub mention_only: bool,
    pub max_post_size: usize,
    pub edits_move_last_post_at: bool,
    /// The channel of the first configuration; `None`: all.
    pub scope: Option<usize>,
    /// The first channel is connected with another server.
    pub shared: bool,
    /// `answers_at_once`.
    pub at_once: u64,
    /// Answers grow in their post.
    pub grows: bool,
    /// Workers take their time, and die.
    pub slow_workers: bool,
    /// Else how long each takes.
    pub takes_ms: u64,
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs {
            seed: 0,
            poll_secs: 1,
            request_takes_ms: 0,
            commit_delay_ms: 0,
            mention_only: false,
            max_post_size: 16383,
            edits_move_last_post_at: true,
            scope: None,
            shared: false,
            at_once: 4,
            grows: false,
            slow_workers: false,
            takes_ms: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Allowed.
    Ann,
    /// Allowed.
    Bob,
    /// Not allowed.
    Eve,
    /// Another bot, though its account is allowed.
    Robot,
    /// A webhook made by Ann.
    Webhook,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Added,
    Joined,
    Silently,
}

/// What a restart finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    State,
    /// The state file as it was at this one of the copies so far.
    Older(usize),
    Nothing,
}

/// Numbers of channels and posts wrap around, so that events can be left out.
/// `in_ms`: how long after the event before it happens, so that it may fall into the middle of a round.
#[derive(Clone, Debug)]
pub enum Event {
    Post {
        who: Who,
        channel: usize,
        reply: Option<usize>,
        late_ms: u64,
        in_ms: u64,
        addressed: bool,
        long: bool,
    },
    Edit {
        post: usize,
        in_ms: u64,
        flips: bool,
    },
    Delete {
        post: usize,
        in_ms: u64,
    },
    /// By somebody else, or by the author, whose reaction stops an answer that is being made.
    React {
        post: usize,
        in_ms: u64,
        stops: bool,
    },
    /// A post's thread is moved to another channel, its posts so far apart.
    Move {
        post: usize,
        channel: usize,
        in_ms: u64,
        apart_ms: u64,
    },
    /// A post that comes late from the connected server.
    Remote {
        ago_ms: u64,
        in_ms: u64,
    },
    /// Many posts by a person who is not allowed.
    Burst {
        channel: usize,
        count: u64,
        apart_ms: u64,
    },
    Remove {
        channel: usize,
        in_ms: u64,
    },
    Add {
        channel: usize,
        how: How,
        in_ms: u64,
    },
    LeaveTeam {
        team: usize,
        in_ms: u64,
    },
    JoinTeam {
        team: usize,
        in_ms: u64,
    },
    Archive {
        channel: usize,
        in_ms: u64,
    },
    Unarchive {
        channel: usize,
        in_ms: u64,
    },
    Run {
        secs: u64,
    },
    /// No trouble for so long that the bot has seen everything.
    Calm,
    /// The request after so many suffers; of a `kind` from 9 on, only posts are counted.
    Trouble {
        after: u64,
        kind: u8,
        acted: bool,
    },
    /// Requests suffer at random.
    Storm {
        secs: u64,
        permille: u64,
    },
    /// Every request suffers.
    Outage {
        secs: u64,
        kind: u8,
    },
    /// Nothing listens.
    ServerStop {
        secs: u64,
    },
    Kill {
        checkpoints: u64,
        down_secs: u64,
    },
    /// Ends the process between two rounds.
    Stop {
        down_secs: u64,
        kept: Kept,
        scope: Option<Option<usize>>,
        thread_replies: bool,
    },
    /// Of the state file.
    Copy,
}
use Event::*;

/// What the model says of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Exactly once.
    Must,
    /// At most once: the design leaves it open.
    May(&'static str),
    Not(&'static str),
    /// Written where the bot's configuration did not reach, or before its first run: history if it
    /// is to be seen when the bot gets there.
    Early,
}
use Verdict::*;

const HISTORY: &str = "it is from before the bot's time";
const ABSENT: &str = "the bot was not in the channel";
const UNWANTED: &str = "it is not for the bot";
const CAME_ALONG: &str = "its answer came along";

struct Asked {
    id: String,
    place: usize,
    root: Option<usize>,
    text: String,
    created: u64,
    visible: u64,
    deleted: Option<u64>,
    verdict: Verdict,
    /// Nobody whom the bot answers wrote it.
    denied: bool,
    /// Its thread was moved, and with it its answers, which are others from then on.
    moved: bool,
}

struct Place {
    id: String,
    team: Option<usize>,
    direct: bool,
    member: bool,
    archived: bool,
    /// When the bot came in.
    entered: u64,
    /// The bot came back without a post that says so: from when on it answers is for it to find.
    unsettled: bool,
    /// The bot ran long enough to notice that it was out.
    seen_out: bool,
    /// It was read under the configuration before, and is under the present one.
    continues: bool,
    /// No state knows it.
    fresh: bool,
}

/// The model.
struct Truth {
    bot: String,
    mention_only: bool,
    people: [Account; 5],
    /// The program is never stopped, nor in trouble, from this moment on.
    steady_since: Option<u64>,
    teams: Vec<String>,
    places: Vec<Place>,
    posts: Vec<Asked>,
    scope: Option<usize>,
    /// The state file says that the bot has begun in this scope.
    settled: bool,
    /// The bot was started in this scope.
    tried: bool,
    /// Since when the bot does not run.
    down_since: Option<u64>,
}

/// The first team's default channel.
const HALL: usize = 2;
const DIRECT: usize = 5;
/// Channels that events name.
const PLACES: usize = 7;

impl Truth {
    fn covers(&self, place: usize) -> bool {
        self.scope.is_none_or(|scope| scope == place)
    }

    /// What a new post is to the bot.
    fn judge(&self, wanted: bool, place: usize, created: u64) -> Verdict {
        let at = &self.places[place];
        if !wanted {
            Not(UNWANTED)
        } else if !at.member {
            Not(ABSENT)
        } else if !self.covers(place) || !(self.settled || at.continues) {
            Early
        } else if at.unsettled {
            May("the bot came back without a post that says so")
        } else if created == at.entered {
            May("it is of the millisecond in which the bot came")
        } else {
            Must
        }
    }

    /// The posts that must be answered and are not yet may be missed from here on.
    fn excuse(&mut self, world: &World, why: &'static str, which: impl Fn(&Asked) -> bool) {
        for post in self.posts.iter_mut().filter(|post| post.verdict == Must) {
            if which(post) && !is_answered(world, &self.bot, &post.id) {
                post.verdict = May(why);
            }
        }
    }

    fn leave(&mut self, world: &World, place: usize) {
        self.places[place].member = false;
        self.places[place].seen_out = false;
        self.excuse(world, "the bot left before it answered", |post| {
            post.place == place
        });
    }

    fn enter(&mut self, now: u64, place: usize, silently: bool) {
        let at = &mut self.places[place];
        (at.member, at.entered) = (true, now);
        if silently {
            at.unsettled = true;
            let unseen = !at.seen_out;
            for post in self.posts.iter_mut().filter(|post| post.place == place) {
                let hidden = post.verdict == Not(ABSENT) && (unseen || post.visible >= now);
                // With the first run while it was out, an earlier entry is the only one to be found.
                if hidden || post.verdict == Not(HISTORY) {
                    post.verdict = May("nothing says that the bot was out");
                }
            }
        }
    }

    fn delete(&mut self, world: &World, now: u64, number: usize) {
        for (at, post) in self.posts.iter_mut().enumerate() {
            if at != number && post.root != Some(number) {
                continue;
            }
            let uncommitted_reply = at != number && post.visible > now;
            if !uncommitted_reply && post.deleted.is_none() {
                post.deleted = Some(now);
            }
            let unseen = self.down_since.is_some_and(|since| post.visible > since);
            if !matches!(post.verdict, Must | May(_) | Early)
                || is_answered(world, &self.bot, &post.id)
            {
            } else if uncommitted_reply {
                post.verdict = May("its thread is gone");
            } else if post.visible > now || (unseen && post.verdict == Must) {
                post.verdict = Not("it was deleted before the bot could see it");
            } else {
                post.verdict = May("it was deleted before it was answered");
            }
        }
    }

    /// Another configuration, or a state file that knows nothing.
    fn rescope(&mut self, world: &World, scope: Option<usize>, forgets: bool) {
        let before = self.scope;
        self.scope = scope;
        for place in 0..self.places.len() {
            let stays = self.covers(place) && before.is_none_or(|before| before == place);
            let settled = self.settled;
            let at = &mut self.places[place];
            let whole = at.member && !at.archived && !at.unsettled;
            at.seen_out = false;
            at.continues = !forgets && stays && whole && (settled || at.continues);
            if !at.continues {
                let why = "the configuration or the state was lost";
                self.excuse(world, why, |post| post.place == place);
            }
        }
        (self.settled, self.tried) = (false, false);
    }

    /// The bot is started. `knows`: the state file says that it has begun in this scope. `scope`: the
    /// one that the file is of, if there is a file.
    fn start(&mut self, world: &World, now: u64, knows: bool, scope: Option<&str>) {
        for place in &mut self.places {
            place.fresh = scope.is_none_or(|scope| !scope.is_empty() && scope != place.id);
        }
        self.down_since = None;
        self.excuse(world, "it is too old", |post| now > post.created + OLD_MS);
        let first = !std::mem::replace(&mut self.tried, true) && !knows;
        for at in 0..self.posts.len() {
            let place = self.posts[at].place;
            if self.posts[at].verdict == Early && self.covers(place) {
                let history = first && self.places[place].fresh && self.posts[at].visible <= now;
                self.posts[at].verdict = if history {
                    Not(HISTORY)
                } else {
                    May("the bot was just starting")
                };
            }
        }
        self.settled |= knows;
    }

    fn begun(&mut self) {
        self.settled = true;
        for at in 0..self.posts.len() {
            if self.posts[at].verdict == Early && self.covers(self.posts[at].place) {
                self.posts[at].verdict = May("the bot was just starting");
            }
        }
    }

    /// The state file is from before a change that it does not know of.
    fn lose_track(&mut self, world: &World) {
        self.excuse(world, "the state is from another time", |_| true);
        for place in &mut self.places {
            place.unsettled = true;
        }
        for post in &mut self.posts {
            if matches!(post.verdict, Early | Not(HISTORY | ABSENT)) {
                post.verdict = May("the state is from another time");
            }
        }
    }
}

/// Whether all parts of an answer are committed.
fn is_answered(world: &World, bot: &str, question: &str) -> bool {
    let answers = world.own_answers(bot, question);
    // As the last part says: the rest of one that the state knew nothing of was given up.
    let of = answers.iter().map(part).max().map(|(_, of)| of);
    of.is_some_and(|of| answers.len() as u64 >= of)
}

fn part(answer: &super::mattermost::Post) -> (u64, u64) {
    let prx = &answer.props["prx"];
    let number = |name: &str, or| prx.get(name).and_then(Value::as_u64).unwrap_or(or);
    (number("part", 0), number("of", 1))
}

/// How many posts there were of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub must: u64,
    pub must_not: u64,
    pub may: u64,
    pub may_answered: u64,
    pub kills: u64,
    pub faults: u64,
    pub requests: u64,
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Score) {
        self.must += other.must;
        self.must_not += other.must_not;
        self.may += other.may;
        self.may_answered += other.may_answered;
        self.kills += other.kills;
        self.faults += other.faults;
        self.requests += other.requests;
    }
}

/// What requests are to suffer.
#[derive(Default)]
struct Troubles {
    next: Vec<(u64, u8, bool)>,
    storm: Option<(u64, u64)>,
    outage: Option<(u64, u8)>,
    random: Random,
    suffered: u64,
}

impl Troubles {
    fn act(&mut self, now: u64, request: &Request) -> Act {
        let edits = request.method == "PUT" && request.target.ends_with("/patch");
        let writes = edits || request.method == "POST" && request.target.ends_with("/posts");
        for (after, kind, _) in &mut self.next {
            *after = after.saturating_sub(u64::from(*kind < 9 || writes));
        }
        let due = self
            .next
            .iter()
            .position(|(after, kind, _)| *after == 0 && (*kind < 9 || writes));
        let due = due
            .map(|at| self.next.remove(at))
            .map(|(_, kind, acted)| (kind, acted));
        let outage = self
            .outage
            .filter(|(until, _)| now < *until)
            .map(|(_, kind)| (kind, false));
        let storm = self.storm.filter(|(until, _)| now < *until);
        let storm = storm.filter(|(_, permille)| self.random.below(1000) < *permille);
        let storm = storm.map(|_| (self.random.below(9) as u8, self.random.below(2) == 0));
        let Some((kind, acted)) = outage.or(due).or(storm) else {
            return Act::Serve;
        };
        self.suffered += 1;
        let fault = match kind % 9 {
            0 => Fault::Error(500, "app.post.save.app_error"),
            1 => Fault::Html(502),
            2 => Fault::Close,
            3 => Fault::Reset,
            4 => Fault::Truncated,
            5 => Fault::BrokenJson,
            6 => Fault::CloseAfter,
            7 => Fault::RateLimited(2),
            _ => Fault::Error(401, "api.context.session_expired.app_error"),
        };
        // A server that refuses does not act, and what breaks off must have begun.
        let acted = matches!(kind % 9, 4 | 6) || (acted && kind % 9 < 7);
        if edits && matches!(kind % 9, 1..4) && self.random.one_in(2) {
            Act::ServeLate(self.random.pick(&[500, 8_000, 50_000]), fault)
        } else if acted {
            Act::ServeThen(fault)
        } else {
            Act::Instead(fault)
        }
    }
}

/// What ends the process at a checkpoint.
struct Killed;

struct Play<'a> {
    knobs: &'a Knobs,
    stage: Stage,
    session: Option<Session>,
    truth: Arc<Mutex<Truth>>,
    troubles: Arc<Mutex<Troubles>>,
    thread_replies: bool,
    /// When a stopped bot starts again.
    start_at: u64,
    down_after_kill: u64,
    server_up: bool,
    /// How often the bot's knowledge became another than a copy's; see `Truth::lose_track`.
    epoch: Arc<Mutex<u64>>,
    copies: Vec<(Vec<u8>, u64)>,
    kills: u64,
    restless: bool,
    /// Growing posts may be left: the state that knew of them was lost, the bot left their channel, or
    /// their thread was moved.
    forgot: bool,
    /// When each round began.
    rounds: Vec<u64>,
    /// The first request that was made when a rest ended before its time, and when: it was due before.
    overslept: Arc<Mutex<Option<(u64, String)>>>,
    /// Workers whose starts were looked at, and what was wrong with one.
    started: usize,
    wrong: Option<String>,
}

/// Workers that write for up to half a minute, with pauses; some begin anew, fail or die. Every word
/// names its worker and how many words there are.
fn workers(seed: u64) -> impl FnMut(&Job) -> Option<Script> + Send + 'static {
    let mut random = Random(seed.wrapping_mul(31) | 1);
    let mut generation = 0;
    move |_| {
        generation += 1;
        let ms = random.pick(&[0, 0, 1_000, 3_000, 8_000, 30_000]);
        let (pieces, each) = (random.pick(&[1, 2, 8]), random.pick(&[5, 30]));
        let mut script = Script::new();
        if random.one_in(6) {
            script.push((0, desk::Play::Text("void ".repeat(60))));
            script.push((ms / 2, desk::Play::StartOver));
        }
        let word = format!("g{generation}x{} ", pieces * each);
        let mut at: Vec<u64> = (0..pieces)
            .map(|_| ms / 2 + random.below(ms / 2 + 1))
            .collect();
        at.sort();
        let texts = at.into_iter();
        script.extend(texts.map(|at| (at, desk::Play::Text(word.repeat(each)))));
        script.push((ms, desk::Play::Done));
        let end = match random.below(12) {
            0 => desk::Play::Dies(true),
            1 => desk::Play::Dies(false),
            2 => desk::Play::TimesOut,
            3 => desk::Play::Fails("Sorry, the script says so."),
            _ => return Some(script),
        };
        // Before, between or after all that it had to tell.
        let place = random.below(script.len() as u64 + 1) as usize;
        let at = script.get(place).map_or(ms, |(at, _)| *at);
        script.insert(place, (at, end));
        Some(script)
    }
}

/// Whether a post is in the thread of `root`, or at the channel's root.
fn is_in_thread(post: &super::mattermost::Post, root: &str) -> bool {
    post.root_id.is_empty() || post.root_id == root
}

fn is_growing(post: &super::mattermost::Post) -> bool {
    let prx = post.props.get("prx");
    prx.is_some_and(|prx| prx["growing_for"].is_string())
}

/// Whether an answer is what one worker wrote, and all of that if it is `whole`. It may end with the
/// mark of a stop, or with what is said where the rest was lost.
fn is_of_one_generation(text: &str, whole: bool) -> bool {
    let (text, whole) = match text.find("*(Stopped.)*").or(text.find("Sorry, ")) {
        Some(end) => (&text[..end], false),
        None => (text, whole),
    };
    let mut words = text.split_whitespace().peekable();
    let count = |word: &&str| word.strip_prefix('g')?.split_once('x')?.1.parse().ok();
    let Some(first) = words.next_if(|word| count(word).is_some()) else {
        return words.all(|word| count(&word).is_none());
    };
    let rest: Vec<&str> = words.collect();
    let is_all = !whole || count(&first) == Some(rest.len() + 1);
    is_all && rest.iter().all(|word| *word == first)
}

/// Plays a history: what it came to, or what the bot did wrong.
pub fn play(knobs: &Knobs, events: &[Event]) -> Result<Score, String> {
    let mut play = Play::new(knobs, events);
    play.start();
    for event in events {
        play.event(event);
    }
    play.finish()
}

/// As `play`, for a test of one history.
pub fn check(knobs: Knobs, events: &[Event]) {
    if let Err(why) = play(&knobs, events) {
        panic!("{why}");
    }
}

impl Play<'_> {
    fn new<'a>(knobs: &'a Knobs, events: &[Event]) -> Play<'a> {
        let stage = Stage::simulated();
        let mut world = stage.world();
        // Not the seed that the world has by itself: its ids would come again.
        world.seed(knobs.seed + 1);
        world.knobs.request_takes_ms = knobs.request_takes_ms;
        world.knobs.commit_delay_ms = knobs.commit_delay_ms;
        world.knobs.max_post_size = knobs.max_post_size;
        world.knobs.edits_move_last_post_at = knobs.edits_move_last_post_at;
        world.knobs.log_requests = false;
        let bob = world.add_user("bob");
        let robot = world.add_bot("robot");
        let (bot, ann) = (stage.bot.clone(), stage.ann.clone());
        let bea = world.add_remote_user("bea", "north");
        if knobs.shared {
            world.share(&stage.channel);
        }
        let team2 = world.add_team("second");
        let teams = vec![stage.team.clone(), team2.clone()];
        let den = world.add_channel(&stage.team, "den", Kind::Private);
        let side = world.add_channel(&team2, "side", Kind::Open);
        let hall = world.channel_named(&stage.team, "town-square");
        let hall2 = world.channel_named(&team2, "town-square");
        world.add_member(&den, &bot, Joining::AddedBy(&ann));
        world.join_team(&team2, &bot);
        world.add_member(&side, &bot, Joining::Joined);
        let place = |id: &str, team: Option<usize>| Place {
            id: id.into(),
            team,
            direct: false,
            member: true,
            archived: false,
            entered: 0,
            unsettled: false,
            seen_out: false,
            continues: false,
            fresh: true,
        };
        let places = vec![
            place(&stage.channel, Some(0)),
            place(&den, Some(0)),
            place(&hall, Some(0)),
            place(&side, Some(1)),
            place(&hall2, Some(1)),
            // Opened by the first who writes there.
            Place {
                direct: true,
                ..place("", None)
            },
            place("", None),
        ];
        if knobs.slow_workers {
            stage.desk.script(workers(knobs.seed));
        } else if knobs.takes_ms > 0 {
            stage.desk.takes(knobs.takes_ms);
        }
        // History that must stay history.
        world.post(&ann, &stage.channel, "@prxbot before everything");
        world.post(&ann, &side, "@prxbot before everything");
        drop(world);
        stage.clock.advance(600_000);
        let truth = Truth {
            bot: bot.id.clone(),
            mention_only: knobs.mention_only,
            people: [ann, bob, stage.eve.clone(), robot, bea],
            steady_since: None,
            teams,
            places,
            posts: Vec::new(),
            scope: knobs.scope,
            settled: false,
            tried: false,
            down_since: Some(0),
        };
        let troubles = Arc::new(Mutex::new(Troubles {
            random: Random(knobs.seed | 1),
            ..Troubles::default()
        }));
        let asked = troubles.clone();
        let desk = stage.desk.clone();
        let overslept = Arc::<Mutex<Option<(u64, String)>>>::default();
        let late = overslept.clone();
        stage.mattermost.on_request(move |request, world| {
            // The counts of connected channels are looked at between polls if somebody wakes up then.
            let is_count = request.method == "GET" && request.target.contains("/v4/channels/");
            if is_count {
                desk.stir_over();
            } else if desk.is_stirred() {
                let what = format!("{} {}", request.method, request.target);
                lock(&late).get_or_insert((world.now(), what));
            }
            lock(&asked).act(world.now(), request)
        });
        let truth = Arc::new(Mutex::new(truth));
        let restless = events.iter().any(|event| {
            matches!(
                event,
                Trouble { .. }
                    | Storm { .. }
                    | Outage { .. }
                    | ServerStop { .. }
                    | Kill { .. }
                    | Stop { .. }
            )
        });
        if !restless {
            let settled = EPOCH_MS + stage.clock.elapsed_ms() + 60_000;
            lock(&truth).steady_since = Some(settled);
        }
        Play {
            knobs,
            stage,
            session: None,
            truth,
            troubles,
            thread_replies: true,
            start_at: 0,
            down_after_kill: 0,
            server_up: true,
            epoch: Arc::default(),
            copies: Vec::new(),
            kills: 0,
            restless,
            // Nor can it take away what it left behind in a channel that it is out of, or what came
            // along with a thread.
            forgot: events.iter().any(|event| {
                matches!(
                    event,
                    Remove { .. } | LeaveTeam { .. } | Archive { .. } | Move { .. }
                )
            }),
            rounds: Vec::new(),
            overslept,
            started: 0,
            wrong: None,
        }
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        lock(&self.truth)
    }

    fn now(&self) -> u64 {
        EPOCH_MS + self.stage.clock.elapsed_ms()
    }

    fn event(&mut self, event: &Event) {
        let bump = self.epoch.clone();
        let bump = move || *lock(&bump) += 1;
        match *event {
            Post {
                who,
                channel,
                reply,
                late_ms,
                in_ms,
                addressed,
                long,
            } => self.later(in_ms, move |world, truth| {
                post(
                    world,
                    truth,
                    who,
                    channel % PLACES,
                    reply,
                    late_ms,
                    addressed,
                    long,
                );
            }),
            Edit { post, in_ms, flips } => {
                self.on_post(in_ms, post, move |world, truth, number| {
                    let flips = flips && truth.mention_only;
                    let asked = &mut truth.posts[number];
                    asked.text = match (flips, asked.text.strip_prefix("@prxbot ")) {
                        (true, Some(rest)) => rest.to_owned(),
                        (true, None) => format!("@prxbot {}", asked.text),
                        _ => format!("{} edited", asked.text),
                    };
                    if flips
                        && !is_answered(world, &truth.bot, &asked.id)
                        && asked.verdict != Not(HISTORY)
                        && !asked.denied
                    {
                        asked.verdict = match asked.verdict {
                            verdict @ Not(why) if why == ABSENT => verdict,
                            _ => May("it was addressed at one time and not at another"),
                        };
                    }
                    world.edit(&truth.posts[number].id, &truth.posts[number].text);
                })
            }
            Delete { post, in_ms } => self.on_post(in_ms, post, move |world, truth, number| {
                let now = world.now();
                truth.delete(world, now, number);
                world.delete(&truth.posts[number].id);
            }),
            React { post, in_ms, stops } => {
                self.on_post(in_ms, post, move |world, truth, number| {
                    let post = &truth.posts[number].id;
                    if stops {
                        let author = world.post_by_id(post).user_id;
                        world.react(&author, post, "x");
                    } else {
                        world.react(&truth.people[2].id, post, "eyes");
                    }
                });
            }
            Move {
                post,
                channel,
                in_ms,
                apart_ms,
            } => {
                // An answer of a moment may be posted before the copied one is there.
                let is_seen = apart_ms == 0 || (!self.restless && self.knobs.takes_ms >= SLOW_MS);
                self.on_post(in_ms, post, move |world, truth, number| {
                    move_thread(world, truth, number, channel % DIRECT, (apart_ms, is_seen));
                });
            }
            Remote { ago_ms, in_ms } if self.knobs.shared => {
                self.later(in_ms, move |world, truth| {
                    remote(world, truth, ago_ms);
                })
            }
            Remote { .. } => {}
            Burst {
                channel,
                count,
                apart_ms,
            } => self.later(0, move |world, truth| {
                let place = &truth.places[channel % PLACES];
                if !place.id.is_empty() && !place.archived {
                    world.post_many(&truth.people[2].id, &place.id, count, apart_ms);
                }
            }),
            Remove { channel, in_ms } => self.later(in_ms, move |world, truth| {
                let number = channel % DIRECT;
                let place = &truth.places[number];
                if place.member && !place.archived {
                    world.remove_member(&place.id, &truth.bot, &truth.people[0].id);
                    truth.leave(world, number);
                }
            }),
            Add {
                channel,
                how,
                in_ms,
            } => self.later(in_ms, move |world, truth| {
                let number = channel % DIRECT;
                let place = &truth.places[number];
                let team = &truth.teams[place.team.expect("not a direct channel")];
                if place.member
                    || place.archived
                    || !world.team_mut(team).members.contains(&truth.bot)
                {
                    return;
                }
                let how_told = match how {
                    How::Added => Joining::AddedBy(&truth.people[0].id),
                    How::Joined => Joining::Joined,
                    How::Silently => Joining::Silently,
                };
                world.add_member(&place.id, &truth.bot, how_told);
                truth.enter(world.now(), number, how == How::Silently);
                if how == How::Silently {
                    bump();
                }
            }),
            LeaveTeam { team, in_ms } => self.later(in_ms, move |world, truth| {
                let team = team % 2;
                if !world
                    .team_mut(&truth.teams[team])
                    .members
                    .contains(&truth.bot)
                {
                    return;
                }
                world.leave_team(&truth.teams[team], &truth.bot);
                for number in 0..DIRECT {
                    if truth.places[number].team == Some(team) {
                        truth.leave(world, number);
                    }
                }
            }),
            JoinTeam { team, in_ms } => self.later(in_ms, move |world, truth| {
                let team = team % 2;
                if world
                    .team_mut(&truth.teams[team])
                    .members
                    .contains(&truth.bot)
                {
                    return;
                }
                world.join_team(&truth.teams[team], &truth.bot);
                // `hall` and `hall2`, which are never archived.
                truth.enter(world.now(), if team == 0 { 2 } else { 4 }, false);
            }),
            Archive { channel, in_ms } => self.later(in_ms, move |world, truth| {
                let number = [0, 1, 3][channel % 3];
                if truth.places[number].archived {
                    return;
                }
                world.archive(&truth.places[number].id, &truth.people[0].id);
                truth.places[number].archived = true;
                truth.excuse(world, "its channel was archived", |post| {
                    post.place == number
                });
            }),
            Unarchive { channel, in_ms } => self.later(in_ms, move |world, truth| {
                let number = [0, 1, 3][channel % 3];
                if !truth.places[number].archived {
                    return;
                }
                world.unarchive(&truth.places[number].id, &truth.people[0].id);
                truth.places[number].archived = false;
                truth.places[number].unsettled = true;
                bump();
            }),
            Run { secs } => self.run(secs * 1000),
            Calm => {
                self.calm();
                self.run(CALM_SECS * 1000);
                // The bot tells an entry of long ago by what the lists have shown since: something.
                self.later(0, |world, truth| {
                    world.post(&truth.people[2].id, &truth.places[HALL].id, "so quiet here");
                });
                self.run(15_000);
                self.settle();
            }
            Trouble { after, kind, acted } => lock(&self.troubles).next.push((after, kind, acted)),
            Storm { secs, permille } => {
                let until = self.now() + secs * 1000;
                lock(&self.troubles).storm = Some((until, permille));
            }
            Outage { secs, kind } => {
                let until = self.now() + secs * 1000;
                lock(&self.troubles).outage = Some((until, kind));
            }
            ServerStop { secs } => {
                self.stage.mattermost.stop();
                self.server_up = false;
                self.run(secs * 1000);
                self.stage.mattermost.restart();
                self.server_up = true;
            }
            Kill {
                checkpoints,
                down_secs,
            } => {
                let mut left = checkpoints;
                self.down_after_kill = down_secs * 1000;
                self.stage.clock.on_checkpoint(move |_| {
                    if left == 0 {
                        resume_unwind(Box::new(Killed));
                    }
                    left -= 1;
                });
            }
            Stop {
                down_secs,
                kept,
                scope,
                thread_replies,
            } => self.stop(down_secs * 1000, kept, scope, thread_replies),
            Copy => self.copy(),
        }
    }

    /// Does `action` in `in_ms`, in the middle of whatever the bot does then.
    fn later(&self, in_ms: u64, action: impl FnOnce(&mut World, &mut Truth) + Send + 'static) {
        let truth = self.truth.clone();
        self.stage
            .mattermost
            .at(in_ms, move |world| action(world, &mut lock(&truth)));
    }

    /// The same with a post that is there and was not deleted.
    fn on_post(
        &self,
        in_ms: u64,
        post: usize,
        action: impl FnOnce(&mut World, &mut Truth, usize) + Send + 'static,
    ) {
        self.later(in_ms, move |world, truth| {
            let there = truth.posts.iter().enumerate();
            let there: Vec<usize> = there
                .filter(|(_, post)| post.deleted.is_none() && post.created <= world.now())
                .map(|(at, _)| at)
                .collect();
            // The newest ones are the most interesting.
            if let Some(&number) = there.iter().rev().nth(post % 8) {
                action(world, truth, number);
            }
        });
    }

    fn stop(
        &mut self,
        down_ms: u64,
        kept: Kept,
        scope: Option<Option<usize>>,
        thread_replies: bool,
    ) {
        self.session = None;
        self.copy();
        let world = self.stage.world();
        let mut truth = lock(&self.truth);
        truth.down_since.get_or_insert(world.now());
        // A post that the bot sent may still be on its way to where a state of old cannot expect it.
        let settle_ms = if kept == Kept::State {
            0
        } else {
            self.knobs.commit_delay_ms + 1000
        };
        self.start_at = world.now() + down_ms.max(settle_ms);
        self.thread_replies = thread_replies;
        self.forgot |= kept == Kept::Nothing;
        if let Some(scope) = scope
            && scope != truth.scope
        {
            truth.rescope(&world, scope, false);
            *lock(&self.epoch) += 1;
        }
        match kept {
            Kept::State => {}
            Kept::Nothing => {
                let _ = std::fs::remove_file(self.stage.state_path());
                let same = truth.scope;
                truth.rescope(&world, same, true);
                *lock(&self.epoch) += 1;
            }
            Kept::Older(number) if !self.copies.is_empty() => {
                let (bytes, epoch) =
                    &self.copies[self.copies.len() - 1 - number % self.copies.len()];
                std::fs::write(self.stage.state_path(), bytes).expect("a state file");
                if *epoch != *lock(&self.epoch) {
                    truth.lose_track(&world);
                    *lock(&self.epoch) += 1;
                }
            }
            Kept::Older(_) => {}
        }
        drop((world, truth));
        self.run(0);
    }

    fn copy(&mut self) {
        if self.truth().settled
            && let Ok(bytes) = std::fs::read(self.stage.state_path())
        {
            self.copies.push((bytes, *lock(&self.epoch)));
        }
    }

    /// Whether the state file says that the bot has begun in the scope.
    fn has_begun(&self) -> bool {
        let Some(state) = self.state() else {
            return false;
        };
        let scope = self.truth();
        let scope = scope.scope.map_or("", |place| &scope.places[place].id);
        state["begun"] == true && state["scope"] == scope
    }

    fn state(&self) -> Option<Value> {
        let bytes = std::fs::read(self.stage.state_path()).ok()?;
        Some(serde_json::from_slice(&bytes).expect("a state file that is whole"))
    }

    fn start(&mut self) {
        let (knows, state) = (self.has_begun(), self.state());
        let of = state.as_ref().and_then(|state| state["scope"].as_str());
        let world = self.stage.world();
        let mut truth = lock(&self.truth);
        truth.start(&world, world.now(), knows, of);
        let scope = truth.scope.map_or(String::new(), |place| {
            format!("channel_id = \"{}\"\n", truth.places[place].id)
        });
        let allowed = format!(
            "allowed_users = [\"{}\", \"{}\", \"{}\", \"{}\"]\n",
            truth.people[0].id, truth.people[1].id, truth.people[3].id, truth.people[4].id
        );
        drop((world, truth));
        let more = format!(
            "{scope}{allowed}thread_replies = {}\nmention_only = {}\npoll_interval_secs = {}\n\
             answers_at_once = {}\nstream_mode = \"{}\"\n",
            self.thread_replies,
            self.knobs.mention_only,
            self.knobs.poll_secs,
            self.knobs.at_once,
            if self.knobs.grows { "partial" } else { "off" },
        );
        self.stage.configure("default_provider = \"echo\"", &more);
        self.stage.desk.stir(None);
        match catch_unwind(AssertUnwindSafe(|| self.stage.try_start())) {
            Ok(Ok(session)) => {
                self.session = Some(session.expect("no other instance"));
                self.stage.desk.stir(Some(self.now()));
            }
            Ok(Err(exit)) => self.ended(exit),
            Err(payload) => self.killed(payload),
        }
    }

    fn ended(&mut self, exit: Exit) {
        assert!(matches!(exit, Exit::Token(_)), "{exit:?}");
        self.session = None;
        self.down(30_000);
    }

    fn killed(&mut self, payload: Box<dyn std::any::Any + Send>) {
        if !payload.is::<Killed>() {
            resume_unwind(payload);
        }
        self.kills += 1;
        self.session = None;
        self.stage.clock.no_checkpoint();
        self.down(self.down_after_kill);
    }

    fn down(&mut self, ms: u64) {
        let now = self.now();
        self.truth().down_since.get_or_insert(now);
        self.start_at = now + ms;
    }

    /// Lets time pass, and the bot work if it runs.
    fn run(&mut self, ms: u64) {
        let until = self.now() + ms;
        loop {
            if self.session.is_some() {
                if self.now() >= until {
                    return;
                }
                self.step();
            } else if self.server_up && self.start_at <= until.max(self.now()) {
                let wait = self.start_at.saturating_sub(self.now());
                self.pass(wait);
                self.start();
            } else {
                self.pass(until.saturating_sub(self.now()));
                return;
            }
        }
    }

    /// What is to happen while the bot does not run, happens while it does not run.
    fn pass(&self, ms: u64) {
        self.stage.clock.advance(ms);
        drop(self.stage.world());
    }

    fn step(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        self.rounds.push(EPOCH_MS + self.stage.clock.elapsed_ms());
        match catch_unwind(AssertUnwindSafe(|| session.step())) {
            Ok(Ok(_)) => {}
            Ok(Err(exit)) => self.ended(exit),
            Err(payload) => self.killed(payload),
        }
        if !self.truth().settled && self.has_begun() {
            self.truth().begun();
        }
        self.look_at_starts();
    }

    /// As many at work as may be, and of a conversation one.
    fn look_at_starts(&mut self) {
        let starts = self.stage.desk.starts_after(self.started);
        self.started += starts.len();
        let truth = lock(&self.truth);
        let conversation = |id: &String| {
            let post = truth.posts.iter().find(|post| post.id == *id)?;
            let place = &truth.places[post.place];
            let root = post.root.map(|root| &truth.posts[root].id);
            let own = self.thread_replies.then_some(&post.id);
            let thread = root.or(own).filter(|_| !place.direct);
            Some(thread.unwrap_or(&place.id).clone())
        };
        for start in starts {
            let asked = conversation(&start.post);
            let twice = start
                .beside
                .iter()
                .any(|other| conversation(other) == asked);
            if twice || start.beside.len() as u64 >= self.knobs.at_once {
                self.wrong
                    .get_or_insert(format!("at work at a time: {start:?}"));
            }
        }
    }

    /// From here on nothing goes wrong.
    fn calm(&mut self) {
        self.stage.clock.no_checkpoint();
        let mut troubles = lock(&self.troubles);
        (troubles.storm, troubles.outage) = (None, None);
        troubles.next.clear();
        drop(troubles);
        // Not before an answer that a state of old cannot expect is there.
        let soon = self.now() + self.knobs.commit_delay_ms + 1000;
        self.start_at = self.start_at.min(soon);
    }

    fn settle(&mut self) {
        let mut truth = self.truth();
        let lists = truth.scope.is_none() && truth.places[HALL].member;
        for place in &mut truth.places {
            place.unsettled = false;
            place.seen_out = !place.member && lists;
        }
    }

    fn finish(mut self) -> Result<Score, String> {
        self.calm();
        // All that is still to happen, and all that became visible.
        self.run(20_000);
        let mut end = self.now() + PATIENCE_SECS * 1000;
        let mut left = self.missing().len();
        while self.now() < end && left > 0 {
            self.run(10_000);
            let now_left = self.missing().len();
            if now_left < left {
                end = self.now() + PATIENCE_SECS * 1000;
            }
            left = now_left;
        }
        self.run(70_000);
        self.verdict()
    }

    fn missing(&self) -> Vec<String> {
        let (world, truth) = (self.stage.world(), lock(&self.truth));
        let missing = truth
            .posts
            .iter()
            .filter(|post| post.verdict == Must && !is_answered(&world, &truth.bot, &post.id));
        missing.map(describe).collect()
    }

    fn verdict(&self) -> Result<Score, String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        if let Some((at, what)) = &*lock(&self.overslept) {
            return Err(format!("due before {}: {what}", at - EPOCH_MS));
        }
        if let Some(post) = self.missing().first() {
            return Err(format!("unanswered: {post}"));
        }
        let (world, truth) = (self.stage.world(), lock(&self.truth));
        let mut score = Score {
            kills: self.kills,
            requests: world.request_count,
            ..Score::default()
        };
        score.faults = lock(&self.troubles).suffered;
        let mut answered = Vec::new();
        for post in &truth.posts {
            let mut answers = world.own_answers(&truth.bot, &post.id);
            let place = &truth.places[post.place].id;
            let root = post.root.map_or(&post.id, |root| &truth.posts[root].id);
            let is_here =
                |it: &super::mattermost::Post| it.channel_id == *place && is_in_thread(it, root);
            answers.retain(|answer| !post.moved || is_here(answer));
            let mut parts: Vec<u64> = answers.iter().map(|answer| part(answer).0).collect();
            parts.sort();
            if parts.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(format!(
                    "answered twice, parts {parts:?}: {}",
                    describe(post)
                ));
            }
            let texts: Vec<&str> = answers.iter().map(|it| it.message.as_str()).collect();
            let text = texts.join(" ");
            let whole = is_answered(&world, &truth.bot, &post.id);
            if self.knobs.slow_workers && !is_of_one_generation(&text, whole) {
                return Err(format!("not one answer: {text:.80}: {}", describe(post)));
            }
            if !answers.iter().all(is_here) {
                return Err(format!("answered in the wrong place: {}", describe(post)));
            }
            let first = answers.iter().map(|answer| answer.create_at).min();
            match post.verdict {
                Not(_) if first.is_some() => {
                    return Err(format!(
                        "answered at {}: {}",
                        first.unwrap_or_default() - EPOCH_MS,
                        describe(post)
                    ));
                }
                Not(_) => score.must_not += 1,
                Must => score.must += 1,
                _ => {
                    score.may += 1;
                    score.may_answered += u64::from(first.is_some());
                }
            }
            if let (Some(first), Some(deleted)) = (first, post.deleted)
                && first > deleted + ON_THE_WAY_MS + self.knobs.commit_delay_ms
            {
                return Err(format!(
                    "answered at {} though deleted long before: {}",
                    first - EPOCH_MS,
                    describe(post)
                ));
            }
            answered.extend(first.map(|first| (post, first)));
        }
        let of_posts = truth
            .posts
            .iter()
            .map(|post| world.own_answers(&truth.bot, &post.id).len());
        let of_posts: usize = of_posts.sum();
        let own = truth.places.iter().filter(|place| !place.id.is_empty());
        let own = own.flat_map(|place| world.posts_in(&place.id));
        let forgot = self.forgot;
        let own = own
            .filter(|post| !(forgot && is_growing(post)))
            .filter(|post| post.user_id == truth.bot && post.kind.is_empty() && post.delete_at == 0)
            .count();
        if own > of_posts {
            return Err(format!(
                "{} posts of the bot answer nothing that was asked",
                own - of_posts
            ));
        }
        self.check_order(&answered)?;
        check_typing(&world, &truth)?;
        Ok(score)
    }

    /// What a round found to be answered in one thread, it answers oldest first. Told only of histories
    /// without trouble: an answer that was begun goes before all others.
    fn check_order(&self, answered: &[(&Asked, u64)]) -> Result<(), String> {
        if self.restless {
            return Ok(());
        }
        for (later, later_at) in answered {
            let round = self.rounds.partition_point(|begun| begun <= later_at);
            let Some(begun) = round.checked_sub(1).map(|round| self.rounds[round]) else {
                continue;
            };
            let older = |post: &Asked| {
                post.verdict == Must
                    && post.root.is_some()
                    && post.root == later.root
                    && post.created < later.created
                    && post.visible < begun
            };
            if let Some((older, _)) = answered
                .iter()
                .find(|(post, at)| older(post) && at > later_at)
            {
                return Err(format!(
                    "answered before an older one, {}: {}",
                    describe(older),
                    describe(later)
                ));
            }
        }
        Ok(())
    }
}

/// "Typing" is shown where somebody waits whom the bot answers, and nowhere else.
fn check_typing(world: &World, truth: &Truth) -> Result<(), String> {
    for typing in &world.typing {
        let is_for = |post: &Asked| {
            let root = post.root.map_or(&post.id, |root| &truth.posts[root].id);
            let there = typing.channel_id == truth.places[post.place].id
                && (typing.parent_id.is_empty() || typing.parent_id == *root);
            there && !post.denied && post.visible <= typing.at_ms
        };
        if !truth.posts.iter().any(is_for) {
            return Err(format!("typed for nobody: {typing:?}"));
        }
    }
    Ok(())
}

fn describe(post: &Asked) -> String {
    let at = |ms: u64| ms - EPOCH_MS;
    format!(
        "{:?} in channel {}, written at {}, to be seen at {}, deleted {:?}, {:?}",
        post.text.chars().take(30).collect::<String>(),
        post.place,
        at(post.created),
        at(post.visible),
        post.deleted.map(at),
        post.verdict
    )
}

#[allow(clippy::too_many_arguments)] // The fields of `Event::Post`.
fn post(
    world: &mut World,
    truth: &mut Truth,
    who: Who,
    place: usize,
    reply: Option<usize>,
    late_ms: u64,
    addressed: bool,
    long: bool,
) {
    let now = world.now();
    let (bot, ann, eve) = (
        truth.bot.clone(),
        truth.people[0].id.clone(),
        truth.people[2].id.clone(),
    );
    if truth.places[place].archived {
        return;
    }
    if truth.places[place].id.is_empty() {
        truth.places[place].id = if place == DIRECT {
            world.direct_channel(&ann, &bot)
        } else {
            world.group_channel(&[&ann, &eve, &bot])
        };
    }
    let there = truth.posts.iter().enumerate().filter(|(_, post)| {
        post.place == place && post.root.is_none() && post.deleted.is_none() && post.visible < now
    });
    let there: Vec<usize> = there.map(|(at, _)| at).collect();
    let root = reply
        .and_then(|reply| there.iter().rev().nth(reply % 4))
        .copied();
    let who_id = match who {
        Who::Ann | Who::Webhook => &ann,
        Who::Bob => &truth.people[1].id,
        Who::Eve => &eve,
        Who::Robot => &truth.people[3].id,
    };
    let mut text = format!(
        "{}question {}",
        if addressed { "@prxbot " } else { "" },
        truth.posts.len()
    );
    if long {
        text.push_str(&" and more of the same".repeat(20));
    }
    let mut draft = world
        .draft(who_id, &truth.places[place].id, &text)
        .visible_after_ms(late_ms);
    if let Some(root) = root {
        draft = draft.root(&truth.posts[root].id);
    }
    if who == Who::Webhook {
        draft = draft.prop("from_webhook", "true");
    }
    let id = draft.post();
    let for_bot = addressed || !truth.mention_only || truth.places[place].direct;
    let wanted = matches!(who, Who::Ann | Who::Bob) && for_bot;
    let verdict = truth.judge(wanted, place, now);
    truth.posts.push(Asked {
        id,
        place,
        root,
        text,
        created: now,
        visible: now + late_ms,
        deleted: None,
        verdict,
        denied: !matches!(who, Who::Ann | Who::Bob),
        moved: false,
    });
}

/// Moves the thread of a post: what was answered in it needs nothing more, what was not is asked anew.
/// `is_seen`: whether what was answered is sure to be seen as that.
fn move_thread(
    world: &mut World,
    truth: &mut Truth,
    number: usize,
    to: usize,
    (apart_ms, is_seen): (u64, bool),
) {
    let now = world.now();
    let root = truth.posts[number].root.unwrap_or(number);
    let (from, target) = (truth.posts[root].place, &truth.places[to]);
    let is_there = truth.posts[root].deleted.is_none() && truth.posts[root].visible < now;
    if from >= DIRECT || from == to || !is_there || truth.places[from].archived || target.archived {
        return;
    }
    let root_id = truth.posts[root].id.clone();
    let target = target.id.clone();
    let thread: Vec<String> = std::iter::once(root_id.clone())
        .chain(world.replies_to(&root_id).into_iter().map(|reply| reply.id))
        .collect();
    let edited = thread.iter().any(|id| world.post_by_id(id).edit_at > 0);
    let numbers: Vec<Option<usize>> = thread
        .iter()
        .map(|id| truth.posts.iter().position(|post| post.id == *id))
        .collect();
    let verdicts: Vec<Verdict> = numbers
        .iter()
        .flatten()
        .map(|&number| {
            let post = &truth.posts[number];
            let answers = world.own_answers(&truth.bot, &post.id);
            let in_thread = answers.iter().all(|answer| !answer.root_id.is_empty());
            match post.verdict {
                Not(why @ (UNWANTED | CAME_ALONG)) => Not(why),
                May(why) => May(why),
                _ if edited => May("a post of its thread was edited"),
                _ if answers.is_empty() => truth.judge(true, to, now),
                _ if in_thread && is_seen && is_answered(world, &truth.bot, &post.id) => {
                    Not(CAME_ALONG)
                }
                _ => May("its answer was on the way, or elsewhere"),
            }
        })
        .collect();
    truth.delete(world, now, root);
    let copies = world.move_thread(&root_id, &target, &truth.people[0].id, apart_ms);
    let gone = now + (copies.len() as u64 + 1) * apart_ms;
    let new_root = truth.posts.len();
    let there = numbers
        .iter()
        .zip(&copies)
        .zip((0..).map(|step| now + step * apart_ms));
    let there = there.filter_map(|((number, copy), at)| number.map(|number| (number, copy, at)));
    for ((number, copy, created), verdict) in there.zip(verdicts) {
        let old = &mut truth.posts[number];
        old.deleted = Some(gone);
        if apart_ms > 0 && matches!(old.verdict, Not(why) if why != UNWANTED) {
            old.verdict = May("its thread is being moved");
        }
        truth.posts[number].moved = true;
        let asked = Asked {
            id: copy.clone(),
            place: to,
            root: (number != root).then_some(new_root),
            text: truth.posts[number].text.clone(),
            created,
            visible: created,
            deleted: None,
            verdict,
            denied: truth.posts[number].denied,
            moved: false,
        };
        truth.posts.push(asked);
    }
}

/// A question of the connected server's.
fn remote(world: &mut World, truth: &mut Truth, ago_ms: u64) {
    let created = world.now() - ago_ms;
    let place = &truth.places[0];
    if place.archived {
        return;
    }
    let text = format!("@prxbot question {}", truth.posts.len());
    let id = world.remote_post(&truth.people[4].id, &place.id, &text, ago_ms);
    let known = |since: u64| created > since && place.entered == 0;
    let verdict = match truth.judge(true, 0, created) {
        Must if truth.steady_since.is_some_and(known) => Must,
        _ => May("nobody knows what is history"),
    };
    truth.posts.push(Asked {
        id,
        place: 0,
        root: None,
        text,
        created,
        visible: world.now(),
        deleted: None,
        verdict,
        denied: false,
        moved: false,
    });
}

/// The history of a seed.
pub fn generate(seed: u64, count: usize) -> (Knobs, Vec<Event>) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        random.next();
    }
    let r = &mut random;
    let commits_late = r.one_in(4);
    let peaceful = r.one_in(6);
    // A history of everything leaves the bot too many excuses.
    let (moves, resets) = (r.one_in(2), r.one_in(3));
    let knobs = Knobs {
        seed,
        poll_secs: r.pick(&[1, 1, 2, 5]),
        // Not 0: an answer is never of its question's own millisecond.
        request_takes_ms: r.pick(&[1, 1, 20, 150, 900]),
        commit_delay_ms: if commits_late {
            r.pick(&[300, 3_000, 12_000, 20_000])
        } else {
            0
        },
        mention_only: r.one_in(4),
        max_post_size: r.pick(&[16383, 200]),
        edits_move_last_post_at: r.one_in(2),
        scope: r.pick(&[None, None, None, None, Some(0), Some(1)]),
        shared: r.one_in(3),
        at_once: r.pick(&[1, 2, 4, 8]),
        grows: r.one_in(3),
        slow_workers: r.one_in(2),
        takes_ms: r.pick(&[0, 0, SLOW_MS]),
    };
    let mut events = Vec::new();
    if !r.one_in(4) {
        events.push(Run { secs: 3 });
    }
    while events.len() < count {
        let in_ms = r.pick(&[0, 0, 1, 300, 1_000, 4_000]);
        let channel = r.below(PLACES as u64) as usize;
        let event = match r.below(if peaceful { 76 } else { 100 }) {
            0..36 => Post {
                who: r.pick(&[
                    Who::Ann,
                    Who::Ann,
                    Who::Ann,
                    Who::Ann,
                    Who::Bob,
                    Who::Bob,
                    Who::Eve,
                    Who::Robot,
                    Who::Webhook,
                ]),
                channel: if r.one_in(2) { 0 } else { channel },
                reply: if r.one_in(4) {
                    Some(r.below(4) as usize)
                } else {
                    None
                },
                late_ms: if r.one_in(3) {
                    r.pick(&[1, 150, 2_000, 9_000, 15_000])
                } else {
                    0
                },
                in_ms,
                addressed: !r.one_in(4),
                long: r.one_in(6),
            },
            36..39 => Edit {
                post: r.below(8) as usize,
                in_ms,
                flips: r.one_in(3),
            },
            39..42 => Delete {
                post: r.below(8) as usize,
                in_ms,
            },
            42 => React {
                post: r.below(8) as usize,
                in_ms,
                stops: r.one_in(2),
            },
            43 if r.one_in(2) => Remote {
                ago_ms: r.pick(&[1_000, 59_000, 70_000, 200_000]),
                in_ms,
            },
            43 => Move {
                post: r.below(8) as usize,
                channel,
                in_ms,
                apart_ms: r.pick(&[0, 20, 300, 1_500]),
            },
            44 if r.one_in(3) => Burst {
                channel,
                count: r.pick(&[3, 250, 250, 1_100]),
                apart_ms: r.pick(&[1, 5]),
            },
            44 => Run { secs: 1 },
            45..58 if !moves => Run {
                secs: r.pick(&[1, 2]),
            },
            45..48 => Remove { channel, in_ms },
            48..53 => Add {
                channel,
                how: r.pick(&[How::Added, How::Added, How::Joined, How::Silently]),
                in_ms,
            },
            53 if r.one_in(2) => LeaveTeam {
                team: channel,
                in_ms,
            },
            53..55 => JoinTeam {
                team: channel,
                in_ms,
            },
            55 => Archive { channel, in_ms },
            56..58 => Unarchive { channel, in_ms },
            58..74 => Run {
                secs: r.pick(&[1, 1, 1, 2, 5, 20, 70]),
            },
            74..76 if r.one_in(4) => Calm,
            74..76 => Copy,
            76..79 => Trouble {
                after: r.below(12) + 1,
                kind: r.below(9) as u8,
                acted: r.one_in(2),
            },
            79..82 => Trouble {
                after: r.below(3) + 1,
                kind: 9 + r.below(9) as u8,
                acted: !r.one_in(3),
            },
            82 => Storm {
                secs: r.pick(&[3, 10, 60]),
                permille: r.pick(&[100, 300, 700]),
            },
            83 => Outage {
                secs: r.pick(&[1, 10, 100, 3_000]),
                kind: r.below(8) as u8,
            },
            84 | 85 if !commits_late => {
                if r.one_in(2) {
                    // The server goes away with the answer that it took.
                    events.extend([
                        Trouble {
                            after: 1,
                            kind: 9 + r.pick(&[2, 3, 4]),
                            acted: true,
                        },
                        Post {
                            who: Who::Ann,
                            channel: 0,
                            reply: None,
                            late_ms: 0,
                            in_ms,
                            addressed: true,
                            long: false,
                        },
                        Run { secs: 1 },
                    ]);
                }
                ServerStop {
                    secs: r.pick(&[1, 10, 100]),
                }
            }
            84..93 => Kill {
                checkpoints: if r.one_in(2) {
                    r.below(12)
                } else {
                    r.below(60)
                },
                down_secs: r.pick(&[0, 0, 1, 5, 30, 3_600]),
            },
            _ => Stop {
                down_secs: r.pick(&[0, 0, 0, 1, 1, 20, 20, 90, 90, 3_600, 20_000, 100_000]),
                kept: match r.below(8) {
                    0 if resets => Kept::Nothing,
                    1..4 if resets => Kept::Older(r.below(3) as usize),
                    _ => Kept::State,
                },
                scope: if resets && r.one_in(4) {
                    Some(r.pick(&[None, None, Some(0), Some(1)]))
                } else {
                    None
                },
                thread_replies: !r.one_in(4),
            },
        };
        events.push(event);
    }
    (knobs, events)
}

/// Leaves out what is not needed for the history to fail: what is left, and how it fails.
pub fn shrink(knobs: &Knobs, mut events: Vec<Event>) -> (Vec<Event>, Option<String>) {
    let mut failure = play(knobs, &events).err();
    if failure.is_none() {
        return (events, None);
    }
    let mut size = events.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < events.len() {
            let mut fewer = events.clone();
            fewer.drain(at..(at + size).min(events.len()));
            match play(knobs, &fewer) {
                Err(why) => (events, failure) = (fewer, Some(why)),
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    (events, failure)
}
