//! What the tests stand on: servers that run in their own process, and a clock they hold.
// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod bot;
pub mod clock;
pub mod desk;
pub mod footprint;
pub mod history;
pub mod lines;
pub mod mattermost;
pub mod model;
pub mod net;
pub mod random;
pub mod soak;
pub mod wire;

/// Whether this process ignores a signal, given by its number, and so do the programs that it starts.
pub fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("hexadecimal");
    mask >> (signal - 1) & 1 == 1
}

/// Says, past the capture of a passing test's output, what this machine does not allow to be tested.
pub fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {why}");
}
