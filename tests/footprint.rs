//! What the program costs, where counting tells it: the goals that hold on every machine. `cargo
//! bench` measures the rest.

mod support;

use support::footprint::{Row, counts, size};

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
