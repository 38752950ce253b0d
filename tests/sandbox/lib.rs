//! Nothing: the sandbox is this package's example, `tests/support/sandbox.rs`.
