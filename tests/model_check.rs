//! Random histories in simulated time, held against a model of a few lines that says which posts must
//! be answered, which must not, and which may.
//!
//! `PRX_HISTORIES=5000` plays that many, `PRX_SEED=17` one of them; one that fails is shrunk and printed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::history::{
    Event::*, How, Kept, Knobs, Score, Who, check, generate, play, shrink,
};

/// Played by the test: some 15 s of a debug build on two cores.
const HISTORIES: u64 = 120;
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
                    return Err(Box::new((seed, knobs, events, why)));
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
            Err(failed) => {
                let (seed, knobs, events, why) = *failed;
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
        assert!(
            score.must > 5 * count && score.must > score.may,
            "{score:?}"
        );
        assert!(score.must_not > 2 * count, "{score:?}");
    }
}

// What earlier seeds found, shrunk.

fn ask(channel: usize) -> crate::support::history::Event {
    ask_for(channel, false)
}

fn ask_for(channel: usize, long: bool) -> crate::support::history::Event {
    Post {
        who: Who::Ann,
        channel,
        reply: None,
        late_ms: 0,
        in_ms: 0,
        addressed: true,
        long,
    }
}

fn stop(down_secs: u64, kept: Kept) -> crate::support::history::Event {
    Stop {
        down_secs,
        kept,
        scope: None,
        thread_replies: true,
    }
}

#[test]
fn seed_1630_a_direct_channel_that_is_listed_empty_is_still_watched() {
    // One channel less and one more in a second: the list's ETag stood still, and nothing said that
    // it had to be asked for without it.
    let late = Post {
        who: Who::Ann,
        channel: 5,
        reply: None,
        late_ms: 2_000,
        in_ms: 1_000,
        addressed: true,
        long: false,
    };
    check(
        Knobs::default(),
        &[
            Archive {
                channel: 3,
                in_ms: 0,
            },
            late,
        ],
    );
}

#[test]
fn seed_32_a_channel_that_comes_back_does_not_bring_its_history() {
    // How the bot had come in long before was taken for how it came back.
    check(
        Knobs::default(),
        &[
            Run { secs: 2 },
            ask(1),
            Run { secs: 2 },
            Remove {
                channel: 0,
                in_ms: 0,
            },
            Calm,
            ask(0),
            Run { secs: 5 },
            Add {
                channel: 0,
                how: How::Silently,
                in_ms: 0,
            },
        ],
    );
    check(
        Knobs::default(),
        &[
            Run { secs: 2 },
            ask(1),
            Run { secs: 2 },
            Archive {
                channel: 0,
                in_ms: 0,
            },
            Calm,
            Unarchive {
                channel: 0,
                in_ms: 0,
            },
        ],
    );
}

#[test]
fn seed_2341_a_server_that_restarts_after_it_took_the_answer_gets_no_second() {
    // The repeat relied on a pending id that the server had forgotten.
    for after in 1..12 {
        check(
            Knobs::default(),
            &[
                Run { secs: 3 },
                Trouble {
                    after,
                    kind: 3,
                    acted: true,
                },
                ask(0),
                Run { secs: 1 },
                ServerStop { secs: 1 },
            ],
        );
    }
}

#[test]
fn what_a_busy_channel_asked_since_the_bot_was_added_is_answered() {
    // A newer post of another channel in the same list ended the search for how the bot came in.
    let burst = Burst {
        channel: 0,
        count: 250,
        apart_ms: 1,
    };
    check(
        Knobs::default(),
        &[
            Run { secs: 2 },
            Remove {
                channel: 0,
                in_ms: 0,
            },
            Run { secs: 3 },
            stop(3_600, Kept::State),
            Add {
                channel: 0,
                how: How::Added,
                in_ms: 0,
            },
            Run { secs: 1 },
            ask(0),
            Run { secs: 10 },
            burst,
            Run { secs: 300 },
            ask(1),
        ],
    );
}

#[test]
fn half_an_answer_and_an_old_state_do_not_make_one_and_a_half() {
    // An answer begun anew was believed to have no part on the server.
    let long = Post {
        who: Who::Ann,
        channel: 0,
        reply: None,
        late_ms: 0,
        in_ms: 0,
        addressed: true,
        long: true,
    };
    for checkpoints in 0..40 {
        let kill = Kill {
            checkpoints,
            down_secs: 3_600,
        };
        check(
            Knobs {
                max_post_size: 200,
                ..Knobs::default()
            },
            &[
                Run { secs: 2 },
                Copy,
                long.clone(),
                kill,
                Run { secs: 2 },
                stop(5, Kept::Older(1)),
            ],
        );
    }
}

#[test]
fn seed_1782_half_an_answer_is_not_answered_again_by_another_text() {
    // Its first part was posted when an old state was put back, and the next answer grew beside it.
    let by = |who, channel, late_ms, in_ms| Post {
        who,
        channel,
        reply: None,
        late_ms,
        in_ms,
        addressed: true,
        long: false,
    };
    check(
        Knobs {
            seed: 1782,
            poll_secs: 2,
            request_takes_ms: 1,
            commit_delay_ms: 20_000,
            max_post_size: 200,
            at_once: 8,
            grows: true,
            slow_workers: true,
            ..Knobs::default()
        },
        &[
            Run { secs: 20 },
            stop(20, Kept::Older(1)),
            by(Who::Ann, 0, 0, 4_000),
            Kill {
                checkpoints: 38,
                down_secs: 1,
            },
            by(Who::Ann, 6, 0, 0),
            Run { secs: 70 },
            by(Who::Ann, 0, 9_000, 4_000),
            stop(90, Kept::State),
            by(Who::Ann, 4, 0, 0),
            by(Who::Bob, 4, 0, 1),
            Run { secs: 70 },
            Run { secs: 20 },
            Run { secs: 1 },
            stop(20, Kept::Older(2)),
        ],
    );
}

#[test]
fn an_answer_that_was_held_up_is_dropped_when_its_question_is_deleted() {
    // A journaled answer was posted without another look at its question.
    let reply = Post {
        who: Who::Ann,
        channel: 0,
        reply: Some(0),
        late_ms: 0,
        in_ms: 0,
        addressed: true,
        long: false,
    };
    for checkpoints in 0..40 {
        let kill = Kill {
            checkpoints,
            down_secs: 3_600,
        };
        check(
            Knobs::default(),
            &[
                Run { secs: 2 },
                ask(0),
                Run { secs: 3 },
                reply.clone(),
                kill,
                Run { secs: 2 },
                Delete { post: 0, in_ms: 0 },
                Run { secs: 3_700 },
            ],
        );
    }
}

#[test]
fn a_question_deleted_while_it_waited_is_not_answered() {
    let reply = Post {
        who: Who::Ann,
        channel: 0,
        reply: Some(0),
        late_ms: 0,
        in_ms: 0,
        addressed: true,
        long: false,
    };
    for first in 1..8 {
        let mut events = vec![Run { secs: 2 }, ask(0), Run { secs: 3 }, reply.clone()];
        // Back-off makes minutes of these.
        let refused = (first..first + 8).map(|after| Trouble {
            after,
            kind: 8,
            acted: false,
        });
        events.extend(refused);
        events.extend([
            Run { secs: 2 },
            Delete { post: 0, in_ms: 0 },
            Run { secs: 300 },
        ]);
        check(Knobs::default(), &events);
    }
}

#[test]
fn seed_45743_a_late_post_is_found_after_an_outage_that_took_up_the_window() {
    // The lists were asked for without their ETags for a minute in which none could be asked for.
    let late = Post {
        who: Who::Ann,
        channel: 0,
        reply: None,
        late_ms: 9_000,
        in_ms: 0,
        addressed: true,
        long: false,
    };
    let outage = Outage { secs: 100, kind: 0 };
    check(
        Knobs {
            request_takes_ms: 1,
            ..Knobs::default()
        },
        &[
            Run { secs: 1 },
            late,
            ask(1),
            Run { secs: 2 },
            outage,
            Run { secs: 70 },
        ],
    );
}

#[test]
fn a_moved_thread_and_a_late_post_of_a_connected_server_are_known_to_the_model() {
    let connected = || Knobs {
        shared: true,
        ..Knobs::default()
    };
    for (apart_ms, takes_ms) in [(0, 0), (20, 8_000), (300, 8_000), (1_500, 8_000)] {
        let slow = Knobs {
            takes_ms,
            ..Knobs::default()
        };
        let moves = Move {
            post: 0,
            channel: 1,
            in_ms: 0,
            apart_ms,
        };
        check(
            slow,
            &[Run { secs: 5 }, ask(0), Run { secs: 20 }, moves, Calm],
        );
    }
    let remote = Remote {
        ago_ms: 200_000,
        in_ms: 0,
    };
    check(
        connected(),
        &[Run { secs: 400 }, ask(0), Run { secs: 5 }, remote, Calm],
    );
}

#[test]
fn seed_298_a_backlog_behind_late_commits_is_answered_post_by_post() {
    // The model's patience was over while the bot went on answering: three posts of 20 s each.
    let slow = Knobs {
        commit_delay_ms: 20_000,
        max_post_size: 200,
        ..Knobs::default()
    };
    let long = |channel| ask_for(channel, true);
    let mut events = vec![Run { secs: 2 }];
    events.extend((0..16).map(long));
    check(slow, &events);
}
