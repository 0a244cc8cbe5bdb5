//! The plan: a versioned record of what is kept, between deciding and doing.
//!
//! A plan names parameters and nodes as the source does. The kept indices of its groups decide;
//! slices and node changes follow from them and are checked when a plan is replayed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::Replacement;
use crate::group::{GroupId, Groups, Keeps};
use crate::{Error, Result};

/// The version that this crate writes and reads.
pub const VERSION: u32 = 1;

/// What is kept of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Format version: [`VERSION`].
    pub version: u32,
    /// The model that the plan is for.
    pub model: ModelId,
    /// The groups that are cut.
    pub groups: Vec<GroupPlan>,
    /// The parameter axes that are cut.
    pub slices: Vec<SlicePlan>,
    /// The numbers in nodes that follow.
    pub nodes: Vec<NodePlan>,
}

/// What identifies a model up to the values of its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// The file format.
    pub format: String,
    /// SHA-256 over operators, names, shapes and types, in hexadecimal.
    pub structure: String,
    /// Input shapes that analysis was given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shapes: BTreeMap<String, Vec<usize>>,
}

/// A group that is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlan {
    /// The group's name.
    pub name: String,
    /// What its indices are.
    pub kind: String,
    /// Number of indices before.
    pub size: usize,
    /// Kept indices, sorted.
    pub keep: Vec<u32>,
    /// Whether the result equals the original with the removed slices zero.
    pub exact: bool,
}

/// A parameter axis that is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePlan {
    /// The parameter's name.
    pub parameter: String,
    /// The axis.
    pub axis: usize,
    /// Kept positions, sorted.
    pub keep: Vec<u32>,
}

/// Numbers of a node that change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodePlan {
    /// The node's name; of a constant that changes, its name.
    pub node: String,
    /// What changes: `attribute NAME`, `input K` or `value`.
    pub change: String,
    /// The numbers; in the file, what is not finite is text.
    #[serde(with = "numbers")]
    pub values: Vec<f64>,
}

/// What is not a number is the same as itself.
impl PartialEq for NodePlan {
    fn eq(&self, other: &Self) -> bool {
        let same = |(&a, &b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan();
        (&self.node, &self.change) == (&other.node, &other.change)
            && self.values.len() == other.values.len()
            && self.values.iter().zip(&other.values).all(same)
    }
}

/// JSON has no number that is not finite.
mod numbers {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged, expecting = "a number")]
    enum Number {
        Finite(f64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|&value| match value.is_finite() {
            true => Number::Finite(value),
            false => Number::Text(value.to_string()),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let number = |number: Number| match number {
            Number::Finite(value) => Ok(value),
            Number::Text(text) => text.parse().map_err(D::Error::custom),
        };
        Vec::<Number>::deserialize(from)?.into_iter().map(number).collect()
    }
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// When the file cannot be read, is not a plan, or has another version.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::disk::read(path)?;
        let broken = |error: serde_json::Error| {
            Error::malformed(format!("`{}` is not a plan: {error}", path.display()))
                .hint("`secateur prune MODEL -o OUT --plan FILE` writes one")
        };
        #[derive(Deserialize)]
        #[serde(expecting = "an object with a `version`")]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(&text).map_err(broken)?;
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "`{}` has version {version}, this program reads version {VERSION}",
                path.display()
            ))
            .hint("write the plan again with `secateur prune MODEL --plan FILE`"));
        }
        serde_json::from_slice(&text).map_err(broken)
    }

    /// Writes the plan, replacing `path` atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.prepare(path)?.commit()
    }

    /// Writes the plan to the disk, without putting it at `path` yet.
    ///
    /// # Errors
    /// As [`Plan::write`].
    pub fn prepare(&self, path: &Path) -> Result<PreparedPlan> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| Error::io(path, e.into()))?;
        text.push(b'\n');
        let mut file = Replacement::create(path)?;
        file.write(|sink| sink.write_all(&text))?;
        Ok(PreparedPlan(file))
    }

    /// The kept indices by group of this model.
    ///
    /// # Errors
    /// When the plan names a group that the model does not have, or gives it another size.
    pub fn keeps(&self, groups: &Groups) -> Result<Keeps> {
        let names: BTreeMap<&str, GroupId> =
            groups.iter().map(|(id, group)| (group.name.as_str(), id)).collect();
        let mut keeps = Keeps::new();
        for entry in &self.groups {
            let id = names.get(entry.name.as_str()).copied();
            let id = id.filter(|&id| groups.get(id).size == entry.size).ok_or_else(|| {
                Error::plan_mismatch(format!(
                    "the model has no group `{}` of size {}",
                    entry.name, entry.size
                ))
            })?;
            check_keep(entry)?;
            keeps.insert(id, entry.keep.clone());
        }
        Ok(keeps)
    }
}

/// A plan on disk, not yet in its place.
#[derive(Debug)]
pub struct PreparedPlan(Replacement);

impl PreparedPlan {
    /// Puts the plan in its place, replacing what stands there.
    ///
    /// # Errors
    /// When it cannot be put there.
    pub fn commit(self) -> Result<()> {
        self.0.commit()
    }
}

fn check_keep(entry: &GroupPlan) -> Result<()> {
    let sorted = entry.keep.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = entry.keep.last().is_some_and(|&last| (last as usize) < entry.size);
    if sorted && inside {
        return Ok(());
    }
    Err(Error::malformed(format!(
        "the kept indices of group `{}` are not a sorted, non-empty part of 0..{}",
        entry.name, entry.size
    )))
}

#[cfg(test)]
mod tests {
    use super::NodePlan;

    #[test]
    fn numbers_survive_the_file_to_the_last_bit() {
        let mut values: Vec<f64> = (1..2000).map(|n| 1.0 / f64::from(n).sqrt()).collect();
        values.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]);
        let plan = NodePlan { node: String::new(), change: String::new(), values };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<NodePlan>(&text).unwrap(), plan);
    }
}
