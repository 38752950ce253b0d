//! What the tests stand on: servers that run in their own process, and a clock they hold.

pub mod bot;
pub mod clock;
pub mod desk;
#[allow(dead_code)] // The benchmark uses the rest.
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

/// Runs one test of `module` (its `module_path!()`) and nothing else, in a process of its own.
pub fn alone(module: &str, test: &str) -> std::process::Command {
    let module = module.split_once("::").expect("a module of the tests").1;
    let program = std::env::current_exe().expect("this binary");
    let mut command = std::process::Command::new(program);
    command.args(["--exact", "--nocapture", "--test-threads=1"]);
    command.arg(format!("{module}::{test}"));
    command
}

/// Says, past the capture of a passing test's output, what this machine does not allow to be tested.
pub fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {why}");
}
