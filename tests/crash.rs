//! Killed with SIGKILL at every point where a crash leaves something behind: each message still gets
//! exactly one answer.
//!
//! The bot is this test binary, started once more (`bot_process`). Its clock is the test's own: it
//! asks over a local connection before every step, and is killed instead of answered. With several
//! answers at work it may be a worker that is killed, or both at once; each of those steps is also
//! played in the test's own process, by workers that follow a script.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prx::commands::run::Session;
use prx::desk::{Desk, Job, News, Processes, WorkerId};
use prx::times::{Clock, Sleep, Step, SystemClock, Times};
use serde_json::Value;

use crate::support::alone;
use crate::support::bot::{ECHO, Stage, binary, binary_path};
use crate::support::clock::EPOCH_MS;
use crate::support::desk::{question, words, writes};
use crate::support::footprint::Process;
use crate::support::mattermost::{Act, Fault, Joining, World};
use crate::support::model::{Model, ModelReply};
use crate::support::wire::lock;

const CONFIG: &str = "PRX_CRASH_CONFIG";
const CONTROL: &str = "PRX_CRASH_CONTROL";
/// Between two looks at whether a worker died; real time.
const LOOK_TIME: Duration = Duration::from_millis(100);
/// A worker that nobody wants has ended after this; real time.
const ORPHAN_TIME: Duration = Duration::from_secs(30);
/// Between two pieces of a growing answer; the test's time.
const PIECE_TIME: Duration = Duration::from_millis(1_500);

/// How long after the kill the next bot starts: point by point in turn.
const DOWN_MS: [u64; 5] = [0, 1_000, 20_000, 40_000, 300_000];
/// So long after the answer is complete, nothing more may come.
const IDLE_MS: u64 = 180_000;
/// An idle bot's pauses are stretched to this.
const IDLE_STEP_MS: u64 = 30_000;
/// Stories that wait for workers.
const SIDE_BY_SIDE: usize = 8;
/// No answer is complete after this: there will be none.
const GIVEN_UP_MS: u64 = 900_000;

// The bot's process.

/// Not a test: the bot, where a test started this binary for it.
#[test]
fn bot_process() {
    let (Ok(config), Ok(control)) = (std::env::var(CONFIG), std::env::var(CONTROL)) else {
        return;
    };
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Debug)
        .init();
    let config = prx::config::load(Some(Path::new(&config)), &|_| None).expect("a config");
    let clock = Rc::new(Remote::connect(&control));
    let times = Times {
        clock: clock.clone(),
        ..Times::default()
    };
    let real = Rc::new(SystemClock::default());
    let workers = Processes::of(&binary_path(), real.clone());
    let desk = RealDesk {
        workers: workers.expect("a socket"),
        real,
        at_work: BTreeSet::new(),
        clock,
    };
    let mut session = Session::start(config, times, Box::new(desk), false, &mut || {})
        .expect("a start")
        .expect("no other instance");
    while !session.step().expect("no reason to exit") {}
}

/// The test's clock, seen from the bot's process. No answer to a question: the end.
struct Remote(Mutex<BufReader<TcpStream>>);

impl Remote {
    fn connect(address: &str) -> Remote {
        let stream = TcpStream::connect(address).expect("the test");
        stream.set_nodelay(true).expect("a socket");
        Remote(Mutex::new(BufReader::new(stream)))
    }

    fn ask(&self, question: &str) -> u64 {
        let mut stream = lock(&self.0);
        let sent = stream
            .get_mut()
            .write_all(format!("{question}\n").as_bytes());
        sent.expect("the test");
        let mut answer = String::new();
        stream.read_line(&mut answer).expect("the test");
        answer.trim().parse().expect("a time")
    }
}

impl Clock for Remote {
    fn now(&self) -> Duration {
        Duration::from_millis(self.ask("now"))
    }

    fn today(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(EPOCH_MS) + self.now()
    }

    fn checkpoint(&self, step: Step) {
        self.ask(&format!("{step:?}"));
    }
}

impl Sleep for Remote {
    fn sleep(&self, duration: Duration) {
        self.ask(&format!("sleep {}", duration.as_micros().div_ceil(1000)));
    }
}

/// Real workers beside a clock that only the test moves: while they are at work it goes on by what
/// they say of a growing answer alone.
struct RealDesk {
    clock: Rc<Remote>,
    real: Rc<SystemClock>,
    workers: Processes,
    at_work: BTreeSet<WorkerId>,
}

impl Desk for RealDesk {
    fn start(&mut self, job: Job) -> io::Result<WorkerId> {
        let worker = self.workers.start(job)?;
        self.at_work.insert(worker);
        Ok(worker)
    }

    fn text(&self, worker: WorkerId) -> &str {
        self.workers.text(worker)
    }

    fn hear(&mut self) -> Vec<(WorkerId, News)> {
        let heard = self.workers.hear();
        if heard.iter().any(|(_, news)| *news == News::Grew) {
            self.clock.sleep(PIECE_TIME);
        }
        let ended = heard.iter().filter(|(_, news)| *news != News::Grew);
        ended.for_each(|(worker, _)| {
            self.at_work.remove(worker);
        });
        heard
    }

    fn stop(&mut self, worker: WorkerId) {
        self.at_work.remove(&worker);
        self.workers.stop(worker);
    }

    fn stop_all(&mut self) {
        self.at_work.clear();
        self.workers.stop_all();
    }

    fn rest(&mut self, until: Duration) {
        if self.at_work.is_empty() {
            self.clock.sleep(until.saturating_sub(self.clock.now()));
        } else {
            self.workers.rest(self.real.now() + LOOK_TIME);
        }
    }
}

/// What a bot is about to do; the test lets it, or kills it.
enum Event {
    Step,
    Sleep,
}

/// Runs a bot and kills it as soon as `ends` says so, or where the server kills it.
fn run_bot(stage: &Stage, victim: &Victim, mut ends: impl FnMut(Event) -> bool) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(log_path(stage))
        .expect("a log file");
    let child = alone(module_path!(), "bot_process")
        .env(CONFIG, stage.config_path())
        .env(
            CONTROL,
            listener.local_addr().expect("an address").to_string(),
        )
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        .spawn()
        .expect("this binary again");
    *lock(victim) = Some(child);
    let (mut stream, _) = listener.accept().expect("the bot");
    stream.set_nodelay(true).expect("a socket");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            let by_itself = lock(victim).take().map(|mut child| child.wait());
            assert!(
                by_itself.is_none(),
                "the bot ended by itself\n{}",
                read(&log_path(stage))
            );
            return;
        }
        let end = match line.trim().split_once(' ') {
            Some((_, ms)) => {
                stage.clock.advance(ms.parse().expect("a duration"));
                ends(Event::Sleep)
            }
            None if line.trim() == "now" => false,
            None => ends(Event::Step),
        };
        if end {
            kill(victim);
            return;
        }
        // Where the server has just killed it, nobody listens.
        let _ = writeln!(stream, "{}", stage.clock.elapsed_ms());
    }
}

type Victim = Arc<Mutex<Option<Child>>>;

/// kill -9.
fn kill(victim: &Victim) {
    if let Some(mut child) = lock(victim).take() {
        child.kill().expect("a running bot");
        child.wait().expect("a killed bot");
    }
}

fn log_path(stage: &Stage) -> PathBuf {
    stage.folder.path().join("log.txt")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

// The matrix.

/// What a bot is killed over.
struct Scenario {
    name: &'static str,
    /// The provider, in the config.
    provider: fn(&Stage) -> String,
    /// In the config's Mattermost section.
    settings: &'static str,
    knobs: fn(&mut World),
    /// Posts questions; the answers that are due.
    ask: fn(&Stage) -> Vec<Due>,
    /// Whether the first bot of all is the one that is killed.
    first_run: bool,
    /// Whether each answer fits one post.
    single: bool,
    /// Whether the server takes longer for a post than the bot is down.
    acts_late: bool,
    /// Killed at fewer points than this, the matrix has shrunk.
    floor: usize,
}

/// An answer to come.
struct Due {
    question: String,
    channel: String,
    root: String,
    /// The parts of each answer that it may be.
    versions: Vec<Vec<String>>,
}

impl Due {
    fn new(stage: &Stage, channel: &str, question: String, root: &str) -> Due {
        let said = format!("You said: {}", stage.world().post_by_id(&question).message);
        Due::one_of(stage, channel, question, root, &[said])
    }

    fn one_of(stage: &Stage, channel: &str, question: String, root: &str, texts: &[String]) -> Due {
        let longest = stage.world().knobs.max_post_size;
        let parts = |text: &String| prx::reply::parts(text, longest, &Default::default());
        Due {
            question,
            channel: channel.into(),
            root: root.into(),
            versions: texts.iter().map(parts).collect(),
        }
    }

    fn parts(&self) -> usize {
        self.versions[0].len()
    }

    /// A top-level question in `channel`, which is answered in its thread.
    fn asked(stage: &Stage, channel: &str, text: &str) -> Due {
        let question = stage.world().post(&stage.ann.id, channel, text);
        let root = question.clone();
        Due::new(stage, channel, question, &root)
    }
}

fn one(stage: &Stage) -> Vec<Due> {
    vec![Due::asked(stage, &stage.channel, "what is new?")]
}

fn three_parts(stage: &Stage) -> Vec<Due> {
    let lines = "one line of a long question\nand the second line of it\nand the third";
    let due = Due::asked(stage, &stage.channel, lines);
    assert_eq!(due.parts(), 3);
    vec![due]
}

const PLAIN: Scenario = Scenario {
    name: "one message",
    provider: |_| ECHO.into(),
    settings: "",
    knobs: |_| {},
    ask: one,
    first_run: false,
    single: true,
    acts_late: false,
    floor: 25,
};

const SCENARIOS: [Scenario; 9] = [
    PLAIN,
    Scenario {
        name: "three parts",
        knobs: |world| world.knobs.max_post_size = 36,
        ask: three_parts,
        single: false,
        ..PLAIN
    },
    Scenario {
        name: "at the channel's root",
        settings: "thread_replies = false",
        ask: |stage| {
            let question = stage.world().post(&stage.ann.id, &stage.channel, "and so?");
            vec![Due::new(stage, &stage.channel, question, "")]
        },
        ..PLAIN
    },
    Scenario {
        name: "a direct message",
        ask: |stage| {
            let direct = stage.world().direct_channel(&stage.ann.id, &stage.bot.id);
            vec![Due::asked(stage, &direct, "between us")]
        },
        ..PLAIN
    },
    Scenario {
        name: "in a thread",
        ask: |stage| {
            let mut world = stage.world();
            let root = world.post(&stage.eve.id, &stage.channel, "not for the bot");
            let question = world.draft(&stage.ann.id, &stage.channel, "for the bot");
            let question = question.root(&root).post();
            drop(world);
            vec![Due::new(stage, &stage.channel, question, &root)]
        },
        ..PLAIN
    },
    Scenario {
        name: "catching up",
        ask: |stage| {
            let town = stage.world().channel_named(&stage.team, "town-square");
            let mut due = Vec::new();
            for number in 0..5 {
                let channel = [&stage.channel, &town][number % 2];
                due.push(Due::asked(stage, channel, &format!("question {number}")));
                stage.clock.advance(100_000);
            }
            due
        },
        floor: 60,
        ..PLAIN
    },
    Scenario {
        name: "posts that commit 3 s late",
        knobs: |world| (world.knobs.commit_delay_ms, world.knobs.max_post_size) = (3_000, 36),
        ask: three_parts,
        single: false,
        acts_late: true,
        ..PLAIN
    },
    Scenario {
        name: "posts that commit 12 s late",
        knobs: |world| (world.knobs.commit_delay_ms, world.knobs.max_post_size) = (12_000, 36),
        ask: three_parts,
        single: false,
        acts_late: true,
        ..PLAIN
    },
    Scenario {
        name: "the first run",
        ask: |stage| {
            let (ann, channel) = (stage.ann.id.clone(), stage.channel.clone());
            stage.world().post(&ann, &channel, "history");
            stage.clock.advance(5_000);
            stage.mattermost.at(3_000, move |world| {
                world.post(&ann, &channel, "what is new?");
            });
            Vec::new()
        },
        first_run: true,
        ..PLAIN
    },
];

/// The most edits in any story.
static MOST_EDITS: AtomicUsize = AtomicUsize::new(0);
static KILLED_WORKERS: AtomicUsize = AtomicUsize::new(0);

/// Posts of a growing answer, and pieces in which it comes.
const GROWING_PARTS: usize = 3;
const PIECES: usize = 8;

/// What the program of `growing` says when it is started the `try_number`th time.
fn grown(try_number: usize) -> String {
    let piece = |number| {
        let words = " and more words to read".repeat(6);
        format!("Piece {number} of try {try_number} says{words}.")
    };
    let pieces: Vec<String> = (1..=PIECES).map(piece).collect();
    pieces.join("\n")
}

/// A program that says something else each time, in pieces.
fn growing(stage: &Stage) -> String {
    let tries = stage.folder.path().join("tries");
    command(&format!(
        "echo x >> {tries}; n=$(wc -l < {tries}); for i in $(seq {PIECES}); do \
         printf \"Piece %s of try %s says\" $i $n; printf \" and more words to read%.0s\" 1 2 3 4 5 6; \
         echo .; [ $((i % 2)) = 1 ] || sleep 0.26; done",
        tries = tries.display()
    ))
}

/// Three people ask, each in a thread; their answers grow side by side.
fn three_people(stage: &Stage) -> Vec<Due> {
    let channel = &stage.channel;
    let asks = |name: &str| {
        let question = {
            let mut world = stage.world();
            let person = world.add_user(name).id;
            world.join_team(&stage.team, &person);
            world.add_member(channel, &person, Joining::Silently);
            world.post(&person, channel, "tell me more")
        };
        growing_due(stage, question)
    };
    ["bob", "cat", "dan"].map(asks).into()
}

fn growing_due(stage: &Stage, question: String) -> Due {
    let texts: Vec<String> = (1..=12).map(grown).collect();
    let root = question.clone();
    let due = Due::one_of(stage, &stage.channel, question, &root, &texts);
    assert_eq!(due.parts(), GROWING_PARTS);
    due
}

const GROWING: [Scenario; 2] = [
    Scenario {
        name: "a growing answer of three parts",
        provider: growing,
        settings: "stream_mode = \"partial\"",
        knobs: |world| world.knobs.max_post_size = 490,
        ask: |stage| {
            let question = stage
                .world()
                .post(&stage.ann.id, &stage.channel, "tell me more");
            vec![growing_due(stage, question)]
        },
        single: false,
        floor: 8,
        ..PLAIN
    },
    Scenario {
        name: "three growing answers at once",
        provider: growing,
        settings: "stream_mode = \"partial\"\nallowed_users = [\"*\"]\nanswers_at_once = 3",
        knobs: |world| world.knobs.max_post_size = 490,
        ask: three_people,
        single: false,
        floor: 15,
        ..PLAIN
    },
];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Loop,
    /// One of those at work, if there is one.
    Worker,
    Both,
}

const EACH: [Who; 3] = [Who::Loop, Who::Worker, Who::Both];

/// Where somebody is killed, counted from 1.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// Before a request is sent, after its response came, before and after the state file is replaced.
    Step(usize),
    /// The server has the request, and acts, when the bot is gone.
    Request(usize),
}

/// One story: a bot that is killed at each of `points` in turn, and one that is not. Where only a
/// worker is killed, it is the same bot that goes on.
struct Story<'a> {
    scenario: &'a Scenario,
    who: Who,
    points: Vec<Point>,
    /// Whether the state file is deleted at the restart.
    forgets: bool,
}

impl Story<'_> {
    /// Plays the story: how many of its points were reached.
    fn play(&self) -> usize {
        let scenario = self.scenario;
        let stage = Stage::simulated();
        (scenario.knobs)(&mut stage.world());
        stage.configure(&(scenario.provider)(&stage), scenario.settings);
        if !scenario.first_run {
            let mut session = stage.start();
            stage.run_for(&mut session, 3);
            drop(session);
            stage.clock.advance(600_000);
        }
        let mut due = (scenario.ask)(&stage);
        let victim = Victim::default();
        let told = format!("{}, {:?} at {:?}", scenario.name, self.who, self.points);
        let mut workers = Vec::new();
        let mut reached = 0;
        for (number, point) in self.points.iter().enumerate() {
            let (Point::Step(at) | Point::Request(at)) = *point;
            if self.who == Who::Worker {
                reached += usize::from(self.recover(&stage, &victim, &due, Some(at)));
                break;
            }
            if !self.kill_at(&stage, &victim, *point, &due, &mut workers) {
                break;
            }
            reached += 1;
            stage.clock.advance(DOWN_MS[(at + number) % DOWN_MS.len()]);
            if self.forgets {
                let _ = fs::remove_file(stage.state_path());
            }
        }
        let floor_is_known = !scenario.first_run || stage.state_path().exists();
        if reached == self.points.len() && self.who != Who::Worker {
            self.recover(&stage, &victim, &due, None);
        }
        if scenario.first_run {
            let questions = stage.world().posts_in(&stage.channel);
            let question = questions
                .iter()
                .find(|post| post.message == "what is new?")
                .expect("a question");
            let answers = stage.answers(&question.id).len();
            let most = if floor_is_known { 1..=1 } else { 0..=1 };
            assert!(
                most.contains(&answers),
                "{told}: {answers} answers\n{}",
                read(&log_path(&stage))
            );
            if answers == 1 {
                let root = question.id.clone();
                due.push(Due::new(&stage, &stage.channel, root.clone(), &root));
            }
        }
        check(&stage, &due, self.forgets, &told);
        wait_for_end(|| workers.iter().copied().filter(is_worker).count(), &told);
        reached
    }

    /// Runs a bot into `point`; false: it was idle before it got there. Notes its workers.
    fn kill_at(
        &self,
        stage: &Stage,
        victim: &Victim,
        point: Point,
        due: &[Due],
        workers: &mut Vec<u32>,
    ) -> bool {
        let (mut steps, mut killed, mut idle) = (0, false, 0);
        let requests = Arc::new(AtomicUsize::new(0));
        if let Point::Request(at) = point {
            let (requests, victim) = (requests.clone(), victim.clone());
            stage.mattermost.on_request(move |_, _| {
                if requests.fetch_add(1, Ordering::SeqCst) + 1 == at {
                    kill(&victim);
                    Act::ServeThen(Fault::Close)
                } else {
                    Act::Serve
                }
            });
        }
        let begun = stage.clock.elapsed_ms();
        run_bot(stage, victim, |event| match event {
            Event::Step => {
                steps += 1;
                killed = matches!(point, Point::Step(at) if steps == at);
                if killed {
                    *workers = workers_of(victim);
                }
                if killed && self.who == Who::Both {
                    kill_one(workers, steps);
                }
                killed
            }
            Event::Sleep => {
                let early = stage.clock.elapsed_ms() < begun + 6_000;
                idle += usize::from(complete(stage, due) && !early);
                idle > 2
            }
        });
        // What the server was asked last is done before time goes on.
        drop(stage.world());
        stage.mattermost.serve_all();
        killed || matches!(point, Point::Request(at) if requests.load(Ordering::SeqCst) >= at)
    }

    /// Runs a bot until it has long had nothing more to do; at a step one of its workers is killed:
    /// whether it came to that while answers were due.
    fn recover(
        &self,
        stage: &Stage,
        victim: &Victim,
        due: &[Due],
        worker_dies_at: Option<usize>,
    ) -> bool {
        let begun = stage.clock.elapsed_ms();
        let mut complete_since = None;
        let (mut steps, mut pauses, mut reached) = (0, 0, false);
        run_bot(stage, victim, |event| {
            let Event::Sleep = event else {
                steps += 1;
                if worker_dies_at == Some(steps) {
                    reached = !complete(stage, due);
                    kill_one(&workers_of(victim), steps);
                }
                return false;
            };
            let now = stage.clock.elapsed_ms();
            pauses += 1;
            if (self.forgets && pauses > 3) || (complete(stage, due) && now > begun + 4_000) {
                let since = *complete_since.get_or_insert(now);
                // Not while the bot itself does not know yet.
                if !read(&stage.state_path()).contains("\"answers\"") {
                    stage.clock.advance(IDLE_STEP_MS);
                }
                let is_over = now > since + IDLE_MS;
                if is_over {
                    wait_for_end(|| workers_of(victim).len(), self.scenario.name);
                }
                return is_over;
            }
            now > begun + GIVEN_UP_MS
        });
        reached
    }
}

/// The workers of a bot that runs.
fn workers_of(victim: &Victim) -> Vec<u32> {
    let bot = lock(victim)
        .as_ref()
        .map(|child| Process::Other(child.id()));
    let children = bot.iter().flat_map(Process::children);
    children.map(|child| child.id()).filter(is_worker).collect()
}

fn is_worker(process: &u32) -> bool {
    read(Path::new(&format!("/proc/{process}/cmdline"))).starts_with("prx answer\0")
}

/// Kills one of these, if there is one.
fn kill_one(workers: &[u32], which: usize) {
    if let Some(worker) = workers.get(which % workers.len().max(1)) {
        KILLED_WORKERS.fetch_add(1, Ordering::SeqCst);
        signal("KILL", *worker);
    }
}

/// Waits until no worker is left.
fn wait_for_end(left: impl Fn() -> usize, told: &str) {
    let end = Instant::now() + ORPHAN_TIME;
    while left() > 0 {
        assert!(Instant::now() < end, "{told}: a worker is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Each answer is there once, whole, of one try and in its place, and nothing else is.
fn check(stage: &Stage, due: &[Due], forgets: bool, told: &str) {
    let world = stage.world();
    let log = || read(&log_path(stage));
    let mut posts = 0;
    for due in due {
        let answers = world.own_answers(&stage.bot.id, &due.question);
        posts += answers.len();
        if forgets && answers.is_empty() {
            continue;
        }
        let texts: Vec<&String> = answers.iter().map(|post| &post.message).collect();
        let is_one = |parts: &&Vec<String>| parts.iter().eq(texts.iter().copied());
        let version = due.versions.iter().find(is_one);
        assert!(version.is_some(), "{told}: {texts:#?}\n{}", log());
        let times = answers.iter().map(|post| post.create_at);
        assert!(times.is_sorted(), "{told}: the parts' order\n{}", log());
        for post in &answers {
            assert_eq!(post.channel_id, due.channel, "{told}");
            assert_eq!(post.root_id, due.root, "{told}");
        }
    }
    let mut channels: BTreeMap<&str, ()> = BTreeMap::new();
    channels.insert(&stage.channel, ());
    channels.extend(due.iter().map(|due| (due.channel.as_str(), ())));
    let all = channels
        .keys()
        .flat_map(|channel| world.posts_in(channel))
        .filter(|post| post.user_id == stage.bot.id && post.kind.is_empty())
        .count();
    assert_eq!(all, posts, "{told}: posts by the bot in all\n{}", log());
    let edits = world.log.iter().filter(|call| call.method == "PUT");
    MOST_EDITS.fetch_max(edits.count(), Ordering::SeqCst);
    let state: Value =
        serde_json::from_str(&read(&stage.state_path())).expect("a whole state file");
    assert!(state.get("answers").is_none(), "{told}: {state}\n{}", log());
}

/// Whether the server shows every answer whole.
fn complete(stage: &Stage, due: &[Due]) -> bool {
    let world = stage.world();
    due.iter().all(|due| {
        let answers = world.own_answers(&stage.bot.id, &due.question);
        answers.len() >= due.parts()
    })
}

/// Plays a scenario once for each point that its run comes through: how many there are. That the
/// server acts when the bot is gone makes a difference only where it acts late.
fn matrix(scenario: &Scenario, forgets: bool) -> usize {
    let through = |point: fn(usize) -> Point| {
        let reached = |at: &usize| {
            let story = Story {
                scenario,
                who: Who::Loop,
                points: vec![point(*at)],
                forgets,
            };
            story.play() == 1
        };
        (1..).take_while(reached).count()
    };
    let requests = scenario.acts_late.then(|| through(Point::Request));
    through(Point::Step) + requests.unwrap_or_default()
}

/// Plays a scenario in which somebody else is killed at every `apart`th step in turn; several stories
/// side by side, since they wait for their workers: how many points there are.
fn killed_in_turn(scenario: &Scenario, apart: usize) -> usize {
    let plays = |number: usize| {
        let story = Story {
            scenario,
            who: EACH[number % EACH.len()],
            points: vec![Point::Step(1 + number * apart)],
            forgets: false,
        };
        story.play()
    };
    let mut count = 0;
    for first in (0..).step_by(SIDE_BY_SIDE) {
        let reached: usize = std::thread::scope(|scope| {
            let numbers = first..first + SIDE_BY_SIDE;
            let runs: Vec<_> = numbers
                .map(|number| scope.spawn(move || plays(number)))
                .collect();
            let reached = runs
                .into_iter()
                .map(|run| run.join().expect("a story that holds"));
            reached.sum()
        });
        count += reached;
        if reached == 0 {
            break;
        }
    }
    count
}

/// Plays each scenario, side by side: how many points each has.
fn side_by_side(
    scenarios: impl Iterator<Item = &'static Scenario>,
    play: impl Fn(&Scenario) -> usize + Copy + Send,
) -> Vec<(&'static Scenario, usize)> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = scenarios
            .map(|scenario| scope.spawn(move || (scenario, play(scenario))))
            .collect();
        runs.into_iter()
            .map(|run| run.join().expect("a scenario that holds"))
            .collect()
    })
}

/// The second bot is killed as well, at every `apart`th point of its run.
fn killed_twice(scenario: &Scenario, apart: usize) -> usize {
    let mut count = 0;
    for first in (1..).step_by(apart) {
        for second in (1..).step_by(apart) {
            let story = Story {
                scenario,
                who: Who::Loop,
                points: vec![Point::Step(first), Point::Step(second)],
                forgets: false,
            };
            match story.play() {
                0 => return count,
                1 => break,
                _ => count += 1,
            }
        }
    }
    count
}

#[test]
fn a_bot_killed_at_any_point_answers_each_message_once() {
    let counts = side_by_side(SCENARIOS.iter(), |scenario| matrix(scenario, false));
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    println!("crash matrix: {all} points");
    for (scenario, count) in counts {
        println!("  {}: {count}", scenario.name);
        assert!(count >= scenario.floor, "{}: {count} points", scenario.name);
    }
}

#[test]
fn whoever_is_killed_while_answers_grow_each_of_them_is_finished_once_and_no_worker_is_left() {
    let counts = side_by_side(GROWING.iter(), |scenario| killed_in_turn(scenario, 5));
    for (scenario, count) in counts {
        println!("crash matrix, {}: {count} points", scenario.name);
        assert!(count >= scenario.floor, "{}: {count} points", scenario.name);
    }
    let edits = MOST_EDITS.load(Ordering::SeqCst);
    assert!(edits >= 3, "{edits} edits: nothing has grown");
    let killed = KILLED_WORKERS.load(Ordering::SeqCst);
    assert!(killed >= 8, "{killed} workers were killed");
}

#[test]
fn without_its_state_file_a_killed_bot_answers_no_message_twice() {
    let single = SCENARIOS
        .iter()
        .filter(|scenario| scenario.single && !scenario.first_run);
    let counts = side_by_side(single, |scenario| matrix(scenario, true));
    let count: usize = counts.iter().map(|(_, count)| count).sum();
    println!("crash matrix without state: {count} points");
    assert!(count >= 150, "{count} points");
}

#[test]
fn a_bot_killed_twice_answers_each_message_once() {
    let count = killed_twice(&SCENARIOS[1], 8) + killed_twice(&SCENARIOS[7], 11);
    println!("crash matrix, killed twice: {count} points");
    assert!(count >= 40, "{count} points");
}

// Several answers at once, in simulated time.

/// All three are answered within this.
const BUSY_MS: u64 = 25_000;
/// Nothing more comes after this, also where a request was under way.
const OVER_SECS: u64 = 150;

/// The questions, and what an answer to one of them is like in each of so many tries.
const ASKED: [&str; 3] = ["ape", "bee", "cat"];
const TRIES: usize = 12;

fn told(question: &str, try_number: usize) -> String {
    words(&format!("{question}{try_number}_"), 50)
}

/// A bot with three questions, each in a thread; the workers take some seconds.
fn asked_at_once(settings: &str) -> (Stage, Vec<Due>) {
    let stage = Stage::simulated();
    stage.world().knobs.max_post_size = 300;
    let all = "answers_at_once = 3\npoll_interval_secs = 30";
    stage.configure(ECHO, &format!("{all}\n{settings}"));
    stage.run_for(&mut stage.start(), 3);
    stage.clock.advance(600_000);
    let mut tries = 0;
    stage.desk.script(move |job| {
        tries += 1;
        let asked = question(job);
        let secs = [8, 2, 5][tries % 3];
        Some(writes(&told(&asked, tries), secs))
    });
    let ask = |text: &str| {
        stage.clock.advance(1);
        let question = stage.ask(text);
        let texts: Vec<String> = (1..=TRIES).map(|number| told(text, number)).collect();
        let root = question.clone();
        let due = Due::one_of(&stage, &stage.channel, question, &root, &texts);
        assert!(due.parts() > 1);
        due
    };
    let due = ASKED.map(ask).into();
    (stage, due)
}

/// Somebody is killed at a step; where it is both, the bot a few steps after its worker. Whether there
/// was somebody to be killed; nothing if there was no such step.
fn strike(settings: &str, who: Who, at: u64) -> Option<bool> {
    let (stage, due) = asked_at_once(settings);
    let (desk, clock) = (stage.desk.clone(), stage.clock.clone());
    let is_reached = Arc::new(AtomicBool::new(false));
    let (reached, busy_until) = (is_reached.clone(), clock.elapsed_ms() + BUSY_MS);
    let last = if who == Who::Both {
        at + 1 + at % 4
    } else {
        at
    };
    let of_bot = stage.live_until(OVER_SECS, move |step| {
        if step == at && clock.elapsed_ms() < busy_until {
            reached.store(true, Ordering::SeqCst);
            if who != Who::Loop {
                desk.kill(at as usize, clock.elapsed_ms());
            }
        }
        let in_vain = who != Who::Loop && step > at + 5 && desk.killed() == 0;
        in_vain || (who != Who::Worker && step >= last)
    });
    if !is_reached.load(Ordering::SeqCst) {
        return None;
    }
    if who != Who::Loop && stage.desk.killed() == 0 {
        return Some(false);
    }
    if of_bot {
        stage.clock.advance(DOWN_MS[at as usize % DOWN_MS.len()]);
        let mut session = stage.start();
        stage.run_for(&mut session, OVER_SECS);
    }
    let told = format!("{who:?} at step {at} with {settings:?}");
    check(&stage, &due, false, &told);
    Some(true)
}

#[test]
fn whoever_is_killed_at_any_step_of_three_answers_at_once_each_of_them_is_posted_once() {
    let counts: Vec<_> = std::thread::scope(|scope| {
        let settings = ["", "stream_mode = \"partial\""].into_iter();
        let rows = settings.flat_map(|settings| EACH.map(|who| (settings, who)));
        let count = |settings, who| {
            let strikes = (1..).map_while(move |at| strike(settings, who, at));
            strikes.filter(|hit| *hit).count()
        };
        let runs: Vec<_> = rows
            .map(|(settings, who)| (settings, who, scope.spawn(move || count(settings, who))))
            .collect();
        let counts = runs.into_iter();
        counts
            .map(|(settings, who, run)| (settings, who, run.join().expect("a story that holds")))
            .collect()
    });
    for (settings, who, count) in counts {
        println!("three at once, {who:?}, {settings:?}: {count} points");
        assert!(count >= 12, "{who:?}, {settings:?}: {count} points");
    }
}

// The built binary, in real time.

const QUICK: &str = "poll_interval_secs = 0.05";

/// Waits for the bot's first look at the server, from which on questions are answered.
fn wait_for_first_look(stage: &Stage) {
    stage.wait("a first look", |_| {
        read(&stage.state_path()).contains(&stage.channel)
    });
}

/// Sends a signal, by its name.
fn signal(name: &str, process: u32) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status();
    assert!(status.expect("a shell").success(), "kill -{name} {process}");
}

fn command(script: &str) -> String {
    format!("default_provider = \"command\"\nprovider_command = [\"sh\", \"-c\", '{script}']")
}

#[test]
fn a_killed_bot_leaves_no_lock_and_a_second_one_makes_no_request() {
    let stage = Stage::real();
    stage.configure(ECHO, "poll_interval_secs = 3600");
    let mut first = stage.spawn();
    wait_for_first_look(&stage);
    let requests = stage.world().request_count;
    let second = binary()
        .arg("--config")
        .arg(stage.config_path())
        .arg("-v")
        .output()
        .expect("the binary");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(0), "{said}");
    assert!(
        said.contains(&format!("another instance (process {})", first.child.id())),
        "{said}"
    );
    assert_eq!(stage.world().request_count, requests);
    // Cron would send every word by mail.
    let second = stage.run(&[], "");
    assert_eq!((second.code, second.stderr.as_str()), (Some(0), ""));

    first.kill();
    let question = stage.ask("anybody there?");
    let _third = stage.spawn();
    stage.wait_for_answer(&question);
}

#[test]
fn a_provider_that_outlives_the_bot_does_not_hold_its_lock() {
    let stage = Stage::real();
    let pid_path = stage.folder.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 600", pid_path.display());
    stage.configure(&command(&script), QUICK);
    let mut bot = stage.spawn();
    wait_for_first_look(&stage);
    let question = stage.ask("wait for me");
    stage.wait("the provider", |_| read(&pid_path).ends_with('\n'));
    bot.kill();
    let provider: u32 = read(&pid_path).trim().parse().expect("a process id");
    let alive = Path::new("/proc").join(provider.to_string()).exists();

    stage.configure(ECHO, QUICK);
    let _next = stage.spawn();
    stage.wait_for_answer(&question);
    signal("KILL", provider);
    assert!(alive, "the provider ended with the bot: nothing was tried");
}

#[test]
fn a_message_that_ends_its_worker_each_time_gets_an_apology_and_others_an_answer() {
    let stage = Stage::real();
    let script = "if grep -q poison; then kill -9 $PPID; fi; echo fine";
    stage.configure(&command(script), QUICK);
    let bot = stage.spawn();
    wait_for_first_look(&stage);
    let poison = stage.ask("poison");
    let other = stage.ask("and this?");
    let apology = stage.wait_for_answer(&poison);
    assert!(apology.contains("I have stopped trying"), "{apology}");
    assert_eq!(stage.wait_for_answer(&other), "fine");
    let later = stage.ask("and that?");
    assert_eq!(stage.wait_for_answer(&later), "fine");
    assert_eq!(stage.answers(&poison).len(), 1);
    let log = bot.log();
    let deaths = log.lines().filter(|line| line.contains("signal 9"));
    assert_eq!(deaths.count(), 3, "{log}");
}

#[test]
fn signals_end_the_process_and_lose_nothing() {
    for name in ["TERM", "INT", "HUP"] {
        let stage = Stage::real();
        let model = Model::start();
        let (release, held) = mpsc::channel();
        model.then(ModelReply::Held(held, Box::new(ModelReply::text("late"))));
        let top = format!("default_provider = \"custom:{}/v1\"", model.url());
        stage.configure(&format!("{top}\ndefault_model = \"m\""), QUICK);
        let mut bot = stage.spawn();
        wait_for_first_look(&stage);
        let question = stage.ask("think about it");
        stage.wait("the model", |_| !model.requests().is_empty());
        if is_ignored(name, bot.child.id()) {
            crate::support::skipped(&format!("SIG{name} is ignored by what started the tests"));
            continue;
        }
        signal(name, bot.child.id());
        assert_eq!(bot.wait(), None, "SIG{name} ends it: {}", bot.log());
        drop(release);
        let _next = stage.spawn();
        assert_eq!(stage.wait_for_answer(&question), "Hello!", "SIG{name}");
        let second = stage.ask("and then?");
        stage.wait_for_answer(&second);
        assert_eq!(stage.answers(&question).len(), 1, "SIG{name}");
    }
}

/// Whether the process ignores a signal, as under `nohup`.
fn is_ignored(name: &str, process: u32) -> bool {
    let number = match name {
        "HUP" => 1,
        "INT" => 2,
        _ => 15,
    };
    let status = read(&PathBuf::from(format!("/proc/{process}/status")));
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}

#[test]
fn a_bot_that_stood_still_while_the_server_dropped_it_goes_on() {
    let stage = Stage::real();
    stage.configure(ECHO, QUICK);
    let bot = stage.spawn();
    wait_for_first_look(&stage);
    let before = stage.ask("before");
    stage.wait_for_answer(&before);
    signal("STOP", bot.child.id());
    stage.mattermost.stop();
    stage.mattermost.restart();
    let during = stage.ask("during");
    signal("CONT", bot.child.id());
    stage.wait_for_answer(&during);
    let after = stage.ask("after");
    stage.wait_for_answer(&after);
    for question in [before, during, after] {
        assert_eq!(stage.answers(&question).len(), 1);
    }
}
