//! Changes of bytes: they mostly break the container.

use super::programs;
use super::random::Random;

pub type Change = fn(&mut Vec<u8>, &mut Random);

/// All changes.
pub const KINDS: &[(&str, Change)] = &[
    ("truncate", |bytes, random| bytes.truncate(random.below(bytes.len()))),
    ("flip a bit", |bytes, random| flip(bytes, random)),
    ("replace a byte", |bytes, random| replace(bytes, random)),
    ("remove bytes", remove),
    ("insert a byte", |bytes, random| bytes.insert(random.below(bytes.len()), random.next() as u8)),
    ("reverse the rest", |bytes, random| {
        let at = random.below(bytes.len());
        bytes[at..].reverse();
    }),
    ("repeat a block", repeat),
    ("swap blocks", swap),
    ("change a length", |bytes, random| change_length(bytes, random)),
    ("change an archive", |bytes, random| programs::change_fields(bytes, random)),
    ("nest groups", nest_groups),
    ("nest messages", nest_messages),
    ("insert a long number", |bytes, random| {
        let at = random.below(bytes.len());
        bytes.splice(at..at, [0xff; 9].into_iter().chain([1]));
    }),
];

fn flip(bytes: &mut [u8], random: &mut Random) {
    let bit = random.below(8);
    if let Some(byte) = random.pick_mut(bytes) {
        *byte ^= 1 << bit;
    }
}

fn replace(bytes: &mut [u8], random: &mut Random) {
    let new = random.next() as u8;
    if let Some(byte) = random.pick_mut(bytes) {
        *byte = new;
    }
}

fn block(bytes: &[u8], random: &mut Random, longest: usize) -> std::ops::Range<usize> {
    let at = random.below(bytes.len());
    at..(at + 1 + random.below(longest)).min(bytes.len())
}

fn remove(bytes: &mut Vec<u8>, random: &mut Random) {
    let block = block(bytes, random, 9);
    bytes.drain(block);
}

fn repeat(bytes: &mut Vec<u8>, random: &mut Random) {
    let block = block(bytes, random, 200);
    let copies = bytes[block.clone()].repeat(1 + random.below(50));
    bytes.splice(block.end..block.end, copies);
}

fn swap(bytes: &mut Vec<u8>, random: &mut Random) {
    let block = block(bytes, random, 64);
    let moved: Vec<u8> = bytes.drain(block).collect();
    let at = random.below(bytes.len() + 1);
    bytes.splice(at..at, moved);
}

/// Changes the byte after one that looks like the tag of a message.
fn change_length(bytes: &mut [u8], random: &mut Random) {
    let start = random.below(bytes.len());
    let is_tag = |&byte: &u8| byte & 7 == 2 && byte < 0x80;
    let found = bytes[start.min(bytes.len())..].iter().position(is_tag);
    let new = random.next() as u8;
    if let Some(length) = found.and_then(|found| bytes.get_mut(start + found + 1)) {
        *length = new;
    }
}

fn nest_groups(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let depth = random.below(3000);
    bytes.splice(at..at, vec![0x0b; depth]);
}

/// Puts the model into itself, as its graph.
fn nest_messages(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(200) {
        let mut outer = vec![0x3a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.append(bytes);
        *bytes = outer;
    }
}
