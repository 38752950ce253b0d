//! A desk in the test's own process: workers that take simulated time, and say what a script tells.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prx::desk::report::Failure;
use prx::desk::{Desk, Job, News, WorkerId};
use prx::provider::{self, Answer, Class, Fact, Listener, Question};
use prx::times::Sleep;

use super::random::Random;
use super::wire::lock;

/// What a worker does, and how long after its start, in milliseconds of the test's clock.
pub type Script = Vec<(u64, Play)>;

/// One thing that a worker does.
#[derive(Clone, Debug)]
pub enum Play {
    /// It has written this much more.
    Text(String),
    /// All that it wrote is void.
    StartOver,
    /// It is done, with all that it wrote.
    Done,
    /// It is done, with all of this but the text, which it wrote.
    DoneAs(Answer),
    /// There is no answer, as this sentence tells.
    Fails(&'static str),
    /// It ends without a word; the flag: as a death that counts.
    Dies(bool),
    TimesOut,
}

/// A worker's whole work: `text` after `ms`.
pub fn says(text: &str, ms: u64) -> Script {
    vec![(ms, Play::Text(text.to_owned())), (ms, Play::Done)]
}

/// A text of so many words, all of one generation.
pub fn words(mark: &str, count: usize) -> String {
    let words: Vec<String> = (0..count).map(|number| format!("{mark}{number}")).collect();
    words.join(" ")
}

/// A worker that writes `text` evenly over `secs`.
pub fn writes(text: &str, secs: u64) -> Script {
    let pieces = secs.max(1) * 4;
    let letters: Vec<char> = text.chars().collect();
    let each = letters.len().div_ceil(pieces as usize).max(1);
    let mut script: Script = letters
        .chunks(each)
        .enumerate()
        .map(|(number, piece)| (number as u64 * 250, Play::Text(piece.iter().collect())))
        .collect();
    script.push((secs * 1000, Play::Done));
    script
}

/// A worker that was started.
#[derive(Clone, Debug)]
pub struct Start {
    pub post: String,
    pub at_ms: u64,
    /// The posts to whose answers others were at work.
    pub beside: Vec<String>,
    /// The last message that it was told.
    pub asked: String,
}

type Author = Box<dyn FnMut(&Job) -> Option<Script> + Send>;

/// What a test tells its desk, and what it learns from it. Clones share it.
#[derive(Clone, Default)]
pub struct Control(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    author: Option<Author>,
    starts: Vec<Start>,
    stopped: usize,
    /// Who is to be killed, by the place among those at work, and when.
    killings: Vec<(usize, Duration)>,
    killed: usize,
    /// So many starts fail.
    refused: usize,
    /// Starts fail while so many are at work.
    room: Option<usize>,
    /// Has rests end before their time now and then.
    stirs: Option<Random>,
    /// The last rest did.
    stirred: bool,
}

impl Control {
    /// Has every worker do what `author` says; nothing: what the configured provider says, at once.
    pub fn script(&self, author: impl FnMut(&Job) -> Option<Script> + Send + 'static) {
        self.inner().author = Some(Box::new(author));
    }

    /// Has every worker repeat the question, after `ms`.
    pub fn takes(&self, ms: u64) {
        self.script(move |job| Some(says(&format!("You said: {}", question(job)), ms)));
    }

    /// Ends one of those at work as kill -9 does, at this time of the test's clock: the desk hears of
    /// it when it is asked the next time.
    pub fn kill(&self, which: usize, at_ms: u64) {
        let killing = (which, Duration::from_millis(at_ms));
        self.inner().killings.push(killing);
    }

    /// How many were killed.
    pub fn killed(&self) -> usize {
        self.inner().killed
    }

    /// Lets so many starts fail.
    pub fn refuse(&self, count: usize) {
        self.inner().refused = count;
    }

    /// Lets starts fail while so many are at work.
    pub fn has_room_for(&self, count: usize) {
        self.inner().room = Some(count);
    }

    /// From here on every fourth rest ends before its time, or none.
    pub fn stir(&self, seed: Option<u64>) {
        let mut inner = self.inner();
        (inner.stirs, inner.stirred) = (seed.map(Random), false);
    }

    /// Whether the last rest ended before its time: nothing is due.
    pub fn is_stirred(&self) -> bool {
        self.inner().stirred
    }

    /// Something is to be done all the same.
    pub fn stir_over(&self) {
        self.inner().stirred = false;
    }

    pub fn starts(&self) -> Vec<Start> {
        self.inner().starts.clone()
    }

    /// All but the first `count`.
    pub fn starts_after(&self, count: usize) -> Vec<Start> {
        self.inner().starts[count..].to_vec()
    }

    /// How many workers were stopped while they were at work.
    pub fn stopped(&self) -> usize {
        self.inner().stopped
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

/// The text of the question that a worker is asked.
pub fn question(job: &Job) -> String {
    let last = job.conversation.last();
    last.map_or(String::new(), |message| message.content.clone())
}

/// A worker: what it wrote, and whether it tells meanwhile.
#[derive(Default)]
struct Written {
    post: String,
    text: String,
    grows: bool,
}

/// The desk.
pub struct TestDesk {
    clock: Rc<dyn Sleep>,
    control: Control,
    last: WorkerId,
    /// What is still to happen, by the time at which it does and its number.
    queue: BTreeMap<(Duration, u64), (WorkerId, Play)>,
    at_work: BTreeMap<WorkerId, Written>,
    number: u64,
    /// What the configured provider said, at once.
    said: Vec<(WorkerId, News)>,
    facts: Vec<Fact>,
}

impl TestDesk {
    pub fn new(clock: Rc<dyn Sleep>, control: Control) -> TestDesk {
        TestDesk {
            clock,
            control,
            last: 0,
            queue: BTreeMap::new(),
            at_work: BTreeMap::new(),
            number: 0,
            said: Vec::new(),
            facts: Vec::new(),
        }
    }

    fn ask(&mut self, job: &Job) -> News {
        struct Ear<'a>(&'a dyn Sleep, &'a mut Vec<Fact>);
        impl Listener for Ear<'_> {
            fn text(&mut self, _: &str) {}
            fn start_over(&mut self) {}
            fn learned(&mut self, fact: Fact) {
                self.1.push(fact);
            }
            fn note(&mut self, _: &str) {}
            fn wait(&mut self, duration: Duration) {
                self.0.sleep(duration);
            }
        }
        let known = self.facts.clone();
        let question = Question {
            conversation: &job.conversation,
            images: &[],
            model: job.model.as_deref(),
            bot_name: &job.bot_name,
            several_speakers: job.several_speakers,
            time_left: job.time_left,
        };
        let mut ear = Ear(&*self.clock, &mut self.facts);
        match provider::ask(&job.provider, &known, &question, &mut ear) {
            Ok(answer) => News::Done(answer),
            Err(error) => News::Failed(Failure {
                class: error.class,
                person: error.for_person().to_owned(),
                line: error.to_string(),
            }),
        }
    }

    /// Notes the deaths of those that are to be killed.
    fn kill(&mut self) {
        let killings = std::mem::take(&mut self.control.inner().killings);
        for (which, at) in killings {
            let place = which % self.at_work.len().max(1);
            if let Some(worker) = self.at_work.keys().nth(place) {
                self.number += 1;
                let death = (*worker, Play::Dies(true));
                self.queue.insert((at, self.number), death);
                self.control.inner().killed += 1;
            }
        }
    }

    fn happen(&mut self, worker: WorkerId, play: Play) -> Option<News> {
        let written = self.at_work.get_mut(&worker)?;
        let text = &mut written.text;
        let end = match play {
            Play::Text(more) => {
                text.push_str(&more);
                return written.grows.then_some(News::Grew);
            }
            Play::StartOver => {
                text.clear();
                return written.grows.then_some(News::Grew);
            }
            Play::Done => News::Done(Answer {
                text: std::mem::take(text),
                by: "a script".into(),
                ..Answer::default()
            }),
            Play::DoneAs(answer) => News::Done(Answer {
                text: std::mem::take(text),
                ..answer
            }),
            Play::Fails(person) => News::Failed(Failure {
                class: Class::Refused,
                person: person.into(),
                line: "a script".into(),
            }),
            Play::Dies(counts) => News::Died("signal 9".into(), counts),
            Play::TimesOut => News::TimedOut,
        };
        self.at_work.remove(&worker);
        Some(end)
    }
}

impl Desk for TestDesk {
    fn start(&mut self, job: Job) -> io::Result<WorkerId> {
        let now = self.clock.now();
        let mut inner = self.control.inner();
        let full = inner.room.is_some_and(|room| self.at_work.len() >= room);
        if full || inner.refused > 0 {
            inner.refused = inner.refused.saturating_sub(1);
            return Err(io::Error::from_raw_os_error(11));
        }
        inner.starts.push(Start {
            post: job.post.to_string(),
            at_ms: now.as_millis() as u64,
            beside: self.at_work.values().map(|it| it.post.clone()).collect(),
            asked: question(&job),
        });
        let script = inner.author.as_mut().and_then(|author| author(&job));
        drop(inner);
        self.last += 1;
        let worker = Written {
            post: job.post.to_string(),
            text: String::new(),
            grows: job.grow,
        };
        self.at_work.insert(self.last, worker);
        match script {
            Some(script) => {
                for (ms, play) in script {
                    self.number += 1;
                    let due = now + Duration::from_millis(ms);
                    self.queue.insert((due, self.number), (self.last, play));
                }
            }
            None => {
                let said = self.ask(&job);
                self.said.push((self.last, said));
            }
        }
        Ok(self.last)
    }

    fn text(&self, worker: WorkerId) -> &str {
        let written = self.at_work.get(&worker).filter(|it| it.grows);
        written.map_or("", |written| &written.text)
    }

    fn hear(&mut self) -> Vec<(WorkerId, News)> {
        let now = self.clock.now();
        let mut heard = std::mem::take(&mut self.said);
        heard
            .iter()
            .for_each(|(worker, _)| drop(self.at_work.remove(worker)));
        self.kill();
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= now
        {
            let (worker, play) = entry.remove();
            let news = self.happen(worker, play);
            heard.extend(news.map(|news| (worker, news)));
        }
        heard
    }

    fn stop(&mut self, worker: WorkerId) {
        let was_at_work = self.at_work.remove(&worker).is_some();
        self.control.inner().stopped += usize::from(was_at_work);
        self.queue.retain(|_, (of, _)| *of != worker);
    }

    fn stop_all(&mut self) {
        self.at_work.clear();
        self.queue.clear();
    }

    fn rest(&mut self, until: Duration) {
        let next = self.queue.first_key_value().map(|((due, _), _)| *due);
        let until = next.map_or(until, |due| due.min(until));
        let mut left = until.saturating_sub(self.clock.now());
        let mut inner = self.control.inner();
        let most = left.as_millis() as u64;
        let stirs = inner.stirs.as_mut().filter(|_| most > 0);
        let early = stirs.and_then(|it| it.one_in(4).then(|| it.below(most)));
        let early = early.map(Duration::from_millis);
        inner.stirred = early.is_some();
        left = early.unwrap_or(left);
        drop(inner);
        self.clock.sleep(left);
    }
}
