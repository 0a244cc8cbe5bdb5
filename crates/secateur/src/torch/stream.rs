//! JSON that is read part by part: nothing is kept of what is not asked for.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Error, Result};

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(Error::malformed)
}

/// Takes the elements of an array, one after the other; `what` they are is said where one cannot be
/// read.
pub(super) fn each<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    what: &str,
    take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let read = raw.deserialize_seq(Elements { take, what, failed: &mut failed, of: PhantomData });
    failed.map_or(read.map_err(Error::malformed), Err)
}

/// Takes the fields of an object, one after the other.
pub(super) fn each_field<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    take: impl FnMut(Cow<'a, str>, T) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let read = raw.deserialize_map(Fields { take, failed: &mut failed, of: PhantomData });
    failed.map_or(read.map_err(Error::malformed), Err)
}

/// A list of at most so many parts.
pub(super) struct List<T, const MOST: usize>(pub Vec<T>);

impl<'a, T: Deserialize<'a>, const MOST: usize> Deserialize<'a> for List<T, MOST> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_seq(Parts(PhantomData))
    }
}

struct Parts<T, const MOST: usize>(PhantomData<T>);

impl<'a, T: Deserialize<'a>, const MOST: usize> Visitor<'a> for Parts<T, MOST> {
    type Value = List<T, MOST>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(
        self,
        mut parts: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(part) = parts.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::custom(format_args!("a list of more than {MOST} parts")));
            }
            list.push(part);
        }
        list.shrink_to_fit();
        Ok(List(list))
    }
}

/// An object of which one field counts: the first that is not null, read by its kind.
pub(super) struct Union<T>(pub Option<T>);

/// What stands in the field of a [`Union`].
pub(super) trait Variant<'a>: Sized {
    /// The value of a field of this kind; `None` where it is null.
    fn read<A: MapAccess<'a>>(
        kind: &str,
        fields: &mut A,
    ) -> std::result::Result<Option<Self>, A::Error>;
}

impl<'a, T: Variant<'a>> Deserialize<'a> for Union<T> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_map(United(PhantomData))
    }
}

struct United<T>(PhantomData<T>);

impl<'a, T: Variant<'a>> Visitor<'a> for United<T> {
    type Value = Union<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(
        self,
        mut fields: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Key(kind)) = fields.next_key()? {
            if found.is_none() {
                found = T::read(&kind, &mut fields)?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Union(found))
    }
}

/// Stops at the first error, which it keeps; where an element is not as it should be, it counts.
struct Elements<'f, F, T> {
    take: F,
    what: &'f str,
    failed: &'f mut Option<Error>,
    of: PhantomData<T>,
}

impl<'a, T: Deserialize<'a>, F: FnMut(T) -> Result<()>> Visitor<'a> for Elements<'_, F, T> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> std::result::Result<(), A::Error> {
        for count in 0.. {
            let taken = match elements.next_element() {
                Ok(None) => break,
                Ok(Some(element)) => (self.take)(element),
                Err(error) => Err(Error::malformed(error).at(format!("{} {count}", self.what))),
            };
            if let Err(error) = taken {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Stops at the first error, which it keeps; where a value is not as it should be, it names the field.
struct Fields<'f, F, T> {
    take: F,
    failed: &'f mut Option<Error>,
    of: PhantomData<T>,
}

#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a, T, F> Visitor<'a> for Fields<'_, F, T>
where
    T: Deserialize<'a>,
    F: FnMut(Cow<'a, str>, T) -> Result<()>,
{
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut fields: A) -> std::result::Result<(), A::Error> {
        while let Some(Key(name)) = fields.next_key::<Key<'a>>()? {
            let taken = match fields.next_value() {
                Ok(value) => (self.take)(name, value),
                Err(error) => Err(Error::malformed(error).at(format!("`{name}`"))),
            };
            if let Err(error) = taken {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
