//! The names that a node reads or makes: one text for all of them, since a file may hold millions.

use std::fmt;
use std::ops::Index;

use bytes::{Buf, BufMut};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};

/// A list of names; a repeated `string` field of a message.
///
/// ```
/// use secateur::onnx::Names;
///
/// let mut names = Names::from_iter(["x", "", "weight"]);
/// assert_eq!(names.len(), 3);
/// assert_eq!(&names[2], "weight");
/// names.edit(|names| names.swap(0, 2));
/// assert_eq!(names, Names::from_iter(["weight", "", "x"]));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names {
    text: String,
    /// Where each name ends in the text.
    ends: Vec<u32>,
}

impl Names {
    /// The number of names.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A name.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }

    /// The first name.
    pub fn first(&self) -> Option<&str> {
        self.get(0)
    }

    /// The name, where there is one only.
    pub fn only(&self) -> Option<&str> {
        self.first().filter(|_| self.len() == 1)
    }

    /// All names, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator + Clone {
        (0..self.len()).map(|index| &self[index])
    }

    /// Changes the names as a list.
    pub fn edit<T>(&mut self, change: impl FnOnce(&mut Vec<String>) -> T) -> T {
        let mut names = self.iter().map(str::to_string).collect();
        let result = change(&mut names);
        *self = names.into_iter().collect();
        result
    }

    /// Adds a name. A message holds less than 4 GiB of them.
    pub fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    pub(super) fn merge(
        &mut self,
        wire: WireType,
        buf: &mut impl Buf,
        cx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut name = String::new();
        encoding::string::merge(wire, &mut name, buf, cx)?;
        self.push(&name);
        Ok(())
    }

    pub(super) fn encode(&self, tag: u32, buf: &mut impl BufMut) {
        for name in self.iter() {
            encoding::encode_key(tag, WireType::LengthDelimited, buf);
            encoding::encode_varint(name.len() as u64, buf);
            buf.put_slice(name.as_bytes());
        }
    }

    pub(super) fn encoded_len(&self, tag: u32) -> usize {
        let lengths = self.iter().map(|name| encoding::encoded_len_varint(name.len() as u64));
        encoding::key_len(tag) * self.len() + lengths.sum::<usize>() + self.text.len()
    }
}

impl Index<usize> for Names {
    type Output = str;

    fn index(&self, index: usize) -> &str {
        self.get(index).unwrap_or_default()
    }
}

impl<T: AsRef<str>> FromIterator<T> for Names {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut all = Names::default();
        names.into_iter().for_each(|name| all.push(name.as_ref()));
        all
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
