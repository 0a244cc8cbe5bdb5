//! The layout of a data file in the making.

use std::collections::BTreeMap;

use super::rope::{Elements, Payload};

/// The data file in the making.
#[derive(Debug)]
pub(super) struct DataFile {
    /// Its name, as the model refers to it.
    pub(super) name: String,
    /// What stands at which offset; ascending, not overlapping.
    pub(super) payloads: Vec<(u64, Payload)>,
    /// The payloads that start at an address, so that tied weights stay one.
    placed: BTreeMap<(usize, u64), Vec<usize>>,
    end: u64,
}

impl DataFile {
    /// An empty data file.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), payloads: Vec::new(), placed: BTreeMap::new(), end: 0 }
    }

    /// Gives `payload` its offset; one that is there already is not stored twice.
    pub(super) fn place(&mut self, payload: Payload) -> u64 {
        let Elements::Dense(data) = &payload.elements else { return self.append(payload) };
        let key = (data.as_ptr() as usize, payload.len);
        let twins = self.placed.get(&key).into_iter().flatten();
        let twin = twins.filter_map(|&index| self.payloads.get(index)).find(|(_, twin)| {
            twin.cut == payload.cut
                && matches!(&twin.elements, Elements::Dense(other) if other.len() == data.len())
        });
        if let Some((offset, _)) = twin {
            return *offset;
        }
        self.placed.entry(key).or_default().push(self.payloads.len());
        self.append(payload)
    }

    fn append(&mut self, payload: Payload) -> u64 {
        const PAGE: u64 = 4096;
        const CACHE_LINE: u64 = 64;
        let alignment = if payload.len >= 1 << 16 { PAGE } else { CACHE_LINE };
        let offset = self.end.next_multiple_of(alignment);
        self.end = offset + payload.len;
        self.payloads.push((offset, payload));
        offset
    }
}
