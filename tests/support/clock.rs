//! A clock that moves only when somebody sleeps on it: months in seconds, and the same each time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prx::times::{Clock, Sleep, Step};

use super::wire::lock;

/// The date at which simulated time begins, in milliseconds since 1970.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

type OnCheckpoint = Box<dyn FnMut(Step) + Send>;

/// Simulated time. Clones share it.
#[derive(Clone, Default)]
pub struct SimClock {
    elapsed_ms: Arc<AtomicU64>,
    /// How much of it the machine slept.
    slept_ms: Arc<AtomicU64>,
    on_checkpoint: Arc<Mutex<Option<OnCheckpoint>>>,
}

impl SimClock {
    pub fn new() -> SimClock {
        SimClock::default()
    }

    /// Milliseconds since the clock was made.
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Ordering::SeqCst)
    }

    pub fn advance(&self, ms: u64) {
        self.elapsed_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// The machine sleeps: the program's clock stands still, all others go on.
    pub fn suspend(&self, ms: u64) {
        self.slept_ms.fetch_add(ms, Ordering::SeqCst);
        self.advance(ms);
    }

    /// Moves forward to `elapsed_ms`, never back.
    pub fn advance_to(&self, elapsed_ms: u64) {
        self.elapsed_ms.fetch_max(elapsed_ms, Ordering::SeqCst);
    }

    /// Calls `on_checkpoint` at every step that outlives the process; a panic in it is a crash there.
    pub fn on_checkpoint(&self, on_checkpoint: impl FnMut(Step) + Send + 'static) {
        *lock(&self.on_checkpoint) = Some(Box::new(on_checkpoint));
    }

    pub fn no_checkpoint(&self) {
        *lock(&self.on_checkpoint) = None;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms() - self.slept_ms.load(Ordering::SeqCst))
    }

    fn today(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(EPOCH_MS + self.elapsed_ms())
    }

    fn checkpoint(&self, step: Step) {
        if let Some(on_checkpoint) = lock(&self.on_checkpoint).as_mut() {
            on_checkpoint(step);
        }
    }
}

impl Sleep for SimClock {
    fn sleep(&self, duration: Duration) {
        // Rounded up: a loop of very short sleeps ends too.
        self.advance(duration.as_micros().div_ceil(1000) as u64);
    }
}

/// Where a stand-in server takes its time from.
#[derive(Clone)]
pub enum Time {
    /// The machine's, counted from the moment it was made.
    Real { start: Instant, epoch_ms: u64 },
    /// The test's.
    Sim(SimClock),
}

impl Time {
    pub fn real() -> Time {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Time::Real {
            start: Instant::now(),
            epoch_ms: since_1970.expect("a date after 1970").as_millis() as u64,
        }
    }

    /// Milliseconds since the beginning; never goes back.
    pub fn elapsed_ms(&self) -> u64 {
        match self {
            Time::Real { start, .. } => start.elapsed().as_millis() as u64,
            Time::Sim(clock) => clock.elapsed_ms(),
        }
    }

    /// The date of the beginning, in milliseconds since 1970.
    pub fn epoch_ms(&self) -> u64 {
        match self {
            Time::Real { epoch_ms, .. } => *epoch_ms,
            Time::Sim(_) => EPOCH_MS,
        }
    }

    /// Returns when `elapsed_ms` is reached: at once in simulated time, which moves there.
    pub fn wait_until(&self, elapsed_ms: u64) {
        match self {
            Time::Real { .. } => {
                let left = elapsed_ms.saturating_sub(self.elapsed_ms());
                std::thread::sleep(Duration::from_millis(left));
            }
            Time::Sim(clock) => clock.advance_to(elapsed_ms),
        }
    }
}
