//! The binary: everything it does is in the library, where the tests can reach it.

fn main() -> std::process::ExitCode {
    prx::cli::main()
}
