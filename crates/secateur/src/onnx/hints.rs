//! Concrete sizes for the symbolic dimensions of a model's inputs: given, learned or guessed.

use std::collections::{BTreeMap, BTreeSet};

use super::proto::{self, Dimension, ValueInfoProto};
use crate::graph::{Extent, Open};
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// Input shapes that the user gave, by input name.
pub type Hints = BTreeMap<String, Vec<usize>>;

/// What to do where sizes that were guessed may be to blame.
pub fn guess_remedy(guessed: &Hints) -> Option<String> {
    let (name, shape) = guessed.first_key_value()?;
    let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    Some(format!(
        "input `{name}` was taken as {shape}: give sizes that it is used with, \
         `--shape {name}=SIZES`"
    ))
}

const INPUTS: &str = "`secateur inspect` lists the inputs";

/// The declared extent of a dimension, where it is a number or a known symbol.
pub(super) fn extent(dim: &Dimension, symbols: &BTreeMap<String, usize>) -> Option<Extent> {
    match dim.extent.as_ref()? {
        proto::Extent::Value(size) => {
            usize::try_from(*size).ok().filter(|&size| size > 0).map(Extent::fixed)
        }
        proto::Extent::Param(name) => {
            symbols.get(name).map(|&size| Extent { size, open: Open::Symbolic })
        }
    }
}

pub(super) struct InputShapes<'h> {
    hints: &'h Hints,
    unused: BTreeSet<&'h str>,
    symbols: BTreeMap<String, usize>,
    guesses: usize,
    guessed: Vec<(String, Vec<usize>)>,
}

impl<'h> InputShapes<'h> {
    pub(super) fn new(hints: &'h Hints) -> Self {
        InputShapes {
            hints,
            unused: hints.keys().map(String::as_str).collect(),
            symbols: BTreeMap::new(),
            guesses: 0,
            guessed: Vec::new(),
        }
    }

    /// Takes the values of symbols from the hints.
    pub(super) fn learn(&mut self, inputs: &[&ValueInfoProto]) -> Result<()> {
        for input in inputs {
            let Some(hint) = self.hints.get(&input.name) else { continue };
            self.unused.remove(input.name.as_str());
            let Some(dims) = dims(input) else { continue };
            if dims.len() != hint.len() {
                return Err(Error::argument(format!(
                    "input `{}` has {} axes, the given shape has {}",
                    input.name,
                    dims.len(),
                    hint.len()
                ))
                .hint(INPUTS));
            }
            for (axis, (dim, &size)) in dims.iter().zip(hint).enumerate() {
                match &dim.extent {
                    Some(proto::Extent::Value(declared))
                        if *declared > 0 && *declared != size as i64 =>
                    {
                        return Err(Error::argument(format!(
                            "axis {axis} of input `{}` is {declared}, the given shape says {size}",
                            input.name
                        ))
                        .hint(INPUTS));
                    }
                    Some(proto::Extent::Param(name)) if is_symbol(name) => {
                        let known = self.symbols.insert(name.clone(), size);
                        if let Some(other) = known.filter(|&known| known != size) {
                            return Err(Error::argument(format!(
                                "axis {axis} of input `{}` is `{name}`, for which the given shapes \
                                 say {other} and {size}",
                                input.name
                            ))
                            .hint("give one size to each symbol that `secateur inspect` lists"));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The shape of an input: given, else declared with symbols learned or guessed. `None` for an
    /// input that is no tensor.
    pub(super) fn shape(&mut self, input: &ValueInfoProto) -> Result<Option<Vec<Extent>>> {
        let hint = self.hints.get(&input.name);
        let is_tensor = input.r#type.as_ref().is_some_and(|t| t.tensor_type.is_some());
        let Some(dims) = dims(input) else {
            let given = hint.map(|hint| hint.iter().map(|&size| open(size)).collect());
            if given.is_none() && is_tensor {
                let text = format!("input `{}` does not declare its number of axes", input.name);
                let flag = format!("--shape {}=1x3x224x224", input.name);
                return Err(Error::argument(text).hint(format!("give it: `{flag}`")));
            }
            return Ok(given);
        };
        let guesses = self.guesses;
        let mut shape = Vec::new();
        for (axis, dim) in dims.iter().enumerate() {
            let given = hint.map(|hint| hint[axis]);
            shape.push(match &dim.extent {
                // Some exporters write an open size as 0 or -1.
                Some(proto::Extent::Value(size)) if *size > 0 => {
                    Extent::fixed(usize::try_from(*size).unwrap_or(usize::MAX))
                }
                Some(proto::Extent::Param(name)) if is_symbol(name) => {
                    let known = given.or(self.symbols.get(name).copied());
                    let size = known.unwrap_or_else(|| self.guess(name, axis, dims));
                    self.symbols.insert(name.clone(), size);
                    open(size)
                }
                _ => open(given.unwrap_or_else(|| self.guess("", axis, dims))),
            });
        }
        if guesses < self.guesses {
            self.guessed.push((input.name.clone(), shape.iter().map(|e| e.size).collect()));
        }
        Ok(Some(shape))
    }

    /// A usual size: one sample, images of 224 × 224 pixels with 3 channels, 16 tokens. Channels are
    /// last where a last axis of 1, 3 or 4 is declared.
    fn guess(&mut self, symbol: &str, axis: usize, dims: &[Dimension]) -> usize {
        self.guesses += 1;
        let symbol = symbol.to_lowercase();
        let last = dims.last().and_then(|dim| dim.extent.as_ref());
        let is_last = matches!(last, Some(proto::Extent::Value(1 | 3 | 4)));
        match (axis, dims.len()) {
            _ if symbol.contains("batch") => 1,
            (0, _) => 1,
            (1, 4) if !is_last => 3,
            (_, 4) => 224,
            _ => 16,
        }
    }

    /// The symbols' sizes, and the inputs with guessed ones as they were taken.
    pub(super) fn finish(self) -> Result<(BTreeMap<String, usize>, Hints)> {
        if let Some(name) = self.unused.first() {
            return Err(Error::argument(format!("the model has no input `{name}`")).hint(INPUTS));
        }
        Ok((self.symbols, self.guessed.into_iter().collect()))
    }
}

/// Whether equal names stand for equal sizes; some exporters write `?` for every open one.
fn is_symbol(name: &str) -> bool {
    !matches!(name, "" | "?")
}

fn open(size: usize) -> Extent {
    Extent { size, open: Open::Symbolic }
}

fn dims(input: &ValueInfoProto) -> Option<&[Dimension]> {
    Some(&input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim)
}
