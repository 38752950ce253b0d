//! What the program logs while it runs in the test's own process.

use std::cell::RefCell;
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

/// What one test's thread keeps.
struct Kept {
    from: LevelFilter,
    /// The libraries' lines too.
    all: bool,
    lines: Vec<String>,
}

thread_local! {
    static KEPT: RefCell<Kept> = const {
        RefCell::new(Kept { from: LevelFilter::Off, all: false, lines: Vec::new() })
    };
}

/// The process's only logger; each thread has its own lines.
struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata) -> bool {
        let own = metadata.target().starts_with("prx");
        KEPT.with_borrow(|kept| metadata.level() <= kept.from && (own || kept.all))
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let own = record.target().starts_with("prx");
        let target = if own { "" } else { record.target() };
        let line = format!("{} {target}{}", record.level(), record.args());
        KEPT.with_borrow_mut(|kept| kept.lines.push(line));
    }

    fn flush(&self) {}
}

/// From now on keeps what the program logs on the caller's thread, from this level on.
pub fn keep(from: LevelFilter) {
    begin(from, false);
}

/// From now on keeps every line on the caller's thread; a library's begins with its name.
pub fn keep_all() {
    begin(LevelFilter::Trace, true);
}

fn begin(from: LevelFilter, all: bool) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).expect("the only logger");
        log::set_max_level(LevelFilter::Trace);
    });
    let lines = Vec::new();
    KEPT.set(Kept { from, all, lines });
}

/// The lines since the last call.
pub fn taken() -> Vec<String> {
    KEPT.with_borrow_mut(|kept| std::mem::take(&mut kept.lines))
}
