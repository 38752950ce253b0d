//! What the program costs, where counting tells it: the goals that hold on every machine. `cargo
//! bench` measures the rest.

use crate::support::bot::{ECHO, Stage};
use crate::support::footprint::{Row, counts, size};

fn all_met(rows: &[Row]) {
    for row in rows {
        assert!(
            row.is_met(),
            "{}: measured {:?} {}",
            row.what,
            row.measured,
            row.unit
        );
    }
}

#[test]
fn it_asks_little_opens_little_and_writes_nothing_while_idle() {
    all_met(&counts());
}

/// Only a given binary is meant to be small: the tests' own is a debug build.
#[test]
fn a_given_binary_is_small() {
    if std::env::var_os("PRX_BIN").is_some() {
        all_met(&[size()]);
    }
}

#[test]
fn a_backlog_is_answered_without_a_pause_between_its_pages() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "poll_interval_secs = 60");
    let mut session = stage.start();
    stage.run_for(&mut session, 180);
    drop(session);
    let mut world = stage.world();
    let questions = world.post_many(&stage.ann.id, &stage.channel, 1000, 1);
    drop(world);
    let mut session = stage.start();
    let started = stage.clock.elapsed_ms();
    session.step().expect("no reason to exit");
    while stage.answers(&questions[999]).is_empty() {
        session.step().expect("no reason to exit");
    }
    // The pause after the last page, and one that may come before the first.
    let took = stage.clock.elapsed_ms() - started;
    assert!(took <= 2 * 60_000, "it took {took} ms");
    assert!(
        questions
            .iter()
            .all(|question| stage.answers(question).len() == 1)
    );
}
