//! A file of any bytes.
//!
//! ```sh
//! cargo +nightly fuzz run read
//! RUSTC_BOOTSTRAP=1 cargo fuzz run read --sanitizer none    # with a stable compiler
//! ```

#![no_main]

#[path = "../../crates/secateur/tests/mutate/mod.rs"]
mod mutate;

use libfuzzer_sys::fuzz_target;
use mutate::random::Random;
use mutate::run::Folder;

fuzz_target!(|bytes: &[u8]| {
    thread_local!(static FOLDER: Folder = Folder::new());
    // The same file is always treated the same.
    let seed = bytes.iter().fold(0, |sum: u64, &byte| sum.wrapping_mul(31) + u64::from(byte));
    FOLDER.with(|folder| folder.run(bytes, &mut Random::new(seed)).unwrap());
});
