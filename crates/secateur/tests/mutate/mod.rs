//! Mutated models: seeded changes of bytes, of messages and of programs, and what is done with each.
//!
//! Shared by `tests/mutations.rs`, `examples/mutate.rs` and the targets in `fuzz/`.

#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(dead_code)] // No includer uses all of it.

pub mod allocator;
pub mod bases;
pub mod bytes;
pub mod message;
#[path = "../program/mod.rs"]
pub mod program;
pub mod programs;
pub mod random;
pub mod run;

use prost::Message;
use secateur::onnx::proto::ModelProto;

use bases::{Base, Bases, Content};
use random::Random;

/// A mutated model.
pub struct Mutant {
    /// The file.
    pub bytes: Vec<u8>,
    /// Where it comes from, and the names of its mutations.
    pub origin: String,
}

/// The mutant that random numbers decide: of what the file says, of its bytes, or of both.
pub fn mutant(bases: &Bases, random: &mut Random) -> Mutant {
    let base = bases.pick(random);
    let mut changes = Vec::new();
    let mut bytes = match random.below(8) {
        0 | 1 => base.bytes.clone(),
        _ => change_content(base, bases, random, &mut changes),
    };
    if changes.is_empty() || random.one_in(8) {
        change_bytes(&mut bytes, random, &mut changes);
    }
    Mutant { bytes, origin: format!("{}: {}", base.name, changes.join(", ")) }
}

fn change_content(
    base: &Base,
    bases: &Bases,
    random: &mut Random,
    changes: &mut Vec<&str>,
) -> Vec<u8> {
    match &base.content {
        Content::Onnx(model) => change_messages(model, bases, random, changes),
        Content::Program(entries) => change_program(entries, bases, random, changes),
    }
}

fn change_program(
    entries: &[program::Entry],
    bases: &Bases,
    random: &mut Random,
    changes: &mut Vec<&str>,
) -> Vec<u8> {
    let mut entries = entries.to_vec();
    for _ in 0..1 + random.below(4) {
        let (name, change) = programs::KINDS[random.below(programs::KINDS.len())];
        change(&mut entries, bases, random);
        changes.push(name);
    }
    pack_once(entries)
}

/// An archive has each name once.
pub fn pack_once(mut entries: Vec<program::Entry>) -> Vec<u8> {
    let mut names = std::collections::BTreeSet::new();
    entries.retain(|(name, _)| names.insert(name.clone()));
    program::pack(&entries)
}

fn change_messages(
    model: &ModelProto,
    bases: &Bases,
    random: &mut Random,
    changes: &mut Vec<&str>,
) -> Vec<u8> {
    let mut model = model.clone();
    for _ in 0..1 + random.below(4) {
        let (name, change) = message::KINDS[random.below(message::KINDS.len())];
        change(&mut model, bases, random);
        changes.push(name);
    }
    model.encode_to_vec()
}

fn change_bytes(bytes: &mut Vec<u8>, random: &mut Random, changes: &mut Vec<&str>) {
    for _ in 0..1 + random.below(4) {
        let (name, change) = bytes::KINDS[random.below(bytes::KINDS.len())];
        change(bytes, random);
        changes.push(name);
    }
}
