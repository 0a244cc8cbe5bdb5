//! JSON that is read part by part: nothing is kept of what is not asked for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Error, Result};

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(Error::malformed)
}

/// Takes the elements of an array, one after the other.
pub(super) fn each<'a>(
    raw: &'a RawValue,
    take: impl FnMut(&'a RawValue) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let read = raw.deserialize_seq(Elements { take, failed: &mut failed });
    failed.map_or(read.map_err(Error::malformed), Err)
}

/// Takes the fields of an object, one after the other.
pub(super) fn each_field<'a>(
    raw: &'a RawValue,
    take: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let read = raw.deserialize_map(Fields { take, failed: &mut failed });
    failed.map_or(read.map_err(Error::malformed), Err)
}

/// Stops at the first error, which it keeps.
struct Elements<'f, F> {
    take: F,
    failed: &'f mut Option<Error>,
}

impl<'a, F: FnMut(&'a RawValue) -> Result<()>> Visitor<'a> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> std::result::Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            if let Err(error) = (self.take)(element) {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

struct Fields<'f, F> {
    take: F,
    failed: &'f mut Option<Error>,
}

#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a, F: FnMut(Cow<'a, str>, &'a RawValue) -> Result<()>> Visitor<'a> for Fields<'_, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut fields: A) -> std::result::Result<(), A::Error> {
        while let Some((Key(name), value)) = fields.next_entry::<Key<'a>, &'a RawValue>()? {
            if let Err(error) = (self.take)(name, value) {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
