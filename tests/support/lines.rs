//! What the program logs while it runs in the test's own process.

use std::cell::RefCell;
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is logged on each test's own thread, from `info` on. To be called in the test.
pub fn keep() {
    struct Keep;
    impl Log for Keep {
        fn enabled(&self, _: &Metadata) -> bool {
            true
        }

        fn log(&self, record: &Record) {
            let line = format!("{} {}", record.level(), record.args());
            LINES.with_borrow_mut(|lines| lines.push(line));
        }

        fn flush(&self) {}
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_boxed_logger(Box::new(Keep)).expect("the only logger");
        log::set_max_level(LevelFilter::Info);
    });
    taken();
}

/// The lines since the last call.
pub fn taken() -> Vec<String> {
    LINES.take()
}
