//! Random histories in simulated time, held against a model of a few lines that says which posts must
//! be answered, which must not, and which may.
//!
//! `PRX_HISTORIES=5000` plays that many, `PRX_SEED=17` one of them; one that fails is shrunk and printed.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use support::history::{Event::*, How, Kept, Knobs, Score, Who, check, generate, play, shrink};

/// Played by the test; about 10 s of a debug build's time on two cores.
const HISTORIES: u64 = 300;
const EVENTS: usize = 60;

#[test]
fn whatever_happens_each_post_is_answered_once_or_rightly_not_at_all() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let only: Option<u64> = number("PRX_SEED");
    let first = only.or(number("PRX_FIRST")).unwrap_or(0);
    let count = only.map_or(number("PRX_HISTORIES").unwrap_or(HISTORIES), |_| 1);
    let next = AtomicU64::new(first);
    let worker = || {
        let mut score = Score::default();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first + count {
                return Ok(score);
            }
            let (knobs, events) = generate(seed, EVENTS);
            match play(&knobs, &events) {
                Ok(played) => score += played,
                Err(why) => {
                    next.store(u64::MAX / 2, Ordering::SeqCst);
                    return Err((seed, knobs, events, why));
                }
            }
        }
    };
    let results = std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.map(|worker| worker.join().expect("a worker that ends"))
    });
    let mut score = Score::default();
    for result in results {
        match result {
            Ok(played) => score += played,
            Err((seed, knobs, events, why)) => {
                let (events, shrunk) = shrink(&knobs, events);
                let shrunk = shrunk.unwrap_or_else(|| "nothing when played again".into());
                let events: Vec<String> = events
                    .iter()
                    .map(|event| format!("        {event:?},\n"))
                    .collect();
                panic!(
                    "seed {seed} (after {} histories): {why}\n--- shrunk: {shrunk}\n--- {knobs:#?}\n[\n{}]",
                    seed - first + 1,
                    events.concat()
                );
            }
        }
    }
    println!("{score:?}");
    // The model must have something to say.
    if only.is_none() && count >= 100 {
        assert!(score.must > 5 * count && score.must > 2 * score.may, "{score:?}");
        assert!(score.must_not > 2 * count, "{score:?}");
    }
}
