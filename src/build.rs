//! Makes a plain `cargo build --release` on Linux with glibc smaller: the program aborts on a panic, so that its
//! unwind tables, an eighth of it, are never read; and its relocations can be packed.
//!
//! With flags or a linker of your own it does nothing: you know better, and that linker may know no
//! scripts.

use std::env::var;

const SCRIPT: &str = "SECTIONS
{
  /DISCARD/ : { *(.eh_frame .eh_frame.* .eh_frame_hdr .gcc_except_table .gcc_except_table.*) }
}
INSERT AFTER .text;
";

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    let plain = var("RUSTC_LINKER").is_err() && is("CARGO_ENCODED_RUSTFLAGS", "");
    // The start files of musl refer to their unwind tables, and its older loader unpacks no relocations.
    let is_glibc = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if !plain || !is("PROFILE", "release") || !is_glibc {
        return;
    }
    let script = format!("{}/no-unwinding.ld", var("OUT_DIR").unwrap_or_default());
    if std::fs::write(&script, SCRIPT).is_ok() {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
