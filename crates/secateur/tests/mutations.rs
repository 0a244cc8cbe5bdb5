//! No file makes the reader panic or take much memory: every one is read, pruned and written, or
//! refused.
//!
//! Mutants are seeded. `cargo run --release --example mutate` runs a million of them, each against
//! the clock too.

#![allow(clippy::unwrap_used, clippy::panic)]

mod mutate;

use std::sync::{LazyLock, Mutex, PoisonError};

use prost::Message;

use mutate::allocator::{Counting, limit, peak};
use mutate::bases::Bases;
use mutate::random::Random;
use mutate::run::{Folder, Stage};
use mutate::{bytes, message, mutant, pack_once, programs};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static BASES: LazyLock<Bases> = LazyLock::new(Bases::all);
static PROGRAMS: LazyLock<Bases> = LazyLock::new(Bases::programs);

/// One at a time, since memory is counted for all threads.
static ONE: Mutex<()> = Mutex::new(());

const MUTANTS: u64 = 400;

fn survive(folder: &Folder, file: &[u8], origin: &str, random: &mut Random) -> Stage {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut end = Ok(Stage::Refused);
    let taken = peak(|| end = folder.run(file, random));
    let limit = limit(file.len());
    assert!(taken <= limit, "{origin}: {taken} bytes, of at most {limit}");
    end.unwrap_or_else(|text| panic!("{origin}: {text}"))
}

fn survive_seeds(bases: &Bases, shard: u64) {
    let folder = Folder::new();
    let mut reached = Vec::new();
    for seed in shard * MUTANTS..(shard + 1) * MUTANTS {
        let mut random = Random::new(seed);
        let mutant = mutant(bases, &mut random);
        let origin = format!("seed {seed}, {}", mutant.origin);
        reached.push(survive(&folder, &mutant.bytes, &origin, &mut random));
    }
    // Were all refused at once, nothing would be tested.
    for stage in Stage::ALL {
        let count = reached.iter().filter(|&&other| other == stage).count();
        assert!(count > 10 || stage == Stage::Planned, "{count} came to {stage:?}");
    }
}

macro_rules! shards {
    ($($name:ident = $bases:ident $number:literal)*) => {$(
        #[test]
        fn $name() {
            survive_seeds(&$bases, $number);
        }
    )*};
}

shards! {
    mutants_0 = BASES 0
    mutants_1 = BASES 1
    mutants_2 = BASES 2
    mutants_3 = BASES 3
    mutants_4 = BASES 4
    mutants_5 = BASES 5
    programs_0 = PROGRAMS 0
    programs_1 = PROGRAMS 1
    programs_2 = PROGRAMS 2
}

#[test]
fn every_change_of_messages_is_survived() {
    let folder = Folder::new();
    for &(name, change) in message::KINDS {
        let mut changed = 0;
        for seed in 0..12 {
            let mut random = Random::new(seed);
            let base = BASES.pick_model(&mut random);
            let mut model = base.clone();
            change(&mut model, &BASES, &mut random);
            changed += usize::from(model != base);
            let origin = format!("{name}, seed {seed}");
            survive(&folder, &model.encode_to_vec(), &origin, &mut random);
        }
        assert!(changed > 0, "{name} changes nothing");
    }
}

#[test]
fn every_change_of_programs_is_survived() {
    let folder = Folder::new();
    for &(name, change) in programs::KINDS {
        let mut changed = 0;
        for seed in 0..12 {
            let mut random = Random::new(seed);
            let base = PROGRAMS.pick_program(&mut random);
            let mut entries = base.to_vec();
            change(&mut entries, &PROGRAMS, &mut random);
            changed += usize::from(entries != base);
            let origin = format!("{name}, seed {seed}");
            survive(&folder, &pack_once(entries), &origin, &mut random);
        }
        assert!(changed > 0, "{name} changes nothing");
    }
}

#[test]
fn every_change_of_bytes_is_survived() {
    let folder = Folder::new();
    for &(name, change) in bytes::KINDS {
        for seed in 0..12 {
            let mut random = Random::new(seed);
            let bases = if seed % 2 == 0 { &BASES } else { &PROGRAMS };
            let base = bases.pick(&mut random);
            let mut file = base.bytes.clone();
            change(&mut file, &mut random);
            survive(&folder, &file, &format!("{name}, seed {seed}, {}", base.name), &mut random);
        }
    }
}
