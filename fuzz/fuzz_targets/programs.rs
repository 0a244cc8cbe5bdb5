//! A PyTorch program that was changed value by value: the bytes are the numbers that decide.
//!
//! ```sh
//! cargo +nightly fuzz run programs
//! RUSTC_BOOTSTRAP=1 cargo fuzz run programs --sanitizer none    # with a stable compiler
//! ```

#![no_main]

#[path = "../../crates/secateur/tests/mutate/mod.rs"]
mod mutate;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mutate::bases::Bases;
use mutate::mutant;
use mutate::random::Random;
use mutate::run::Folder;

static BASES: LazyLock<Bases> = LazyLock::new(Bases::programs);

fuzz_target!(|bytes: &[u8]| {
    thread_local!(static FOLDER: Folder = Folder::new());
    let mut random = Random::scripted(bytes);
    let mutant = mutant(&BASES, &mut random);
    FOLDER.with(|folder| folder.run(&mutant.bytes, &mut random).unwrap());
});
