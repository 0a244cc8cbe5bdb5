//! Data sets of named arrays, whose rows are samples.

use std::path::{Path, PathBuf};

use secateur::{Error, Result};

use super::file::argument;
use super::labels::count_classes;
use super::raw::RawArray;
use super::{Array, Batch, DataOptions, Dataset, Format, Targets, check_indices, named};

/// Arrays of as many rows each.
#[derive(Debug)]
pub(crate) struct ArrayDataset {
    path: PathBuf,
    inputs: Vec<(String, RawArray)>,
    target: Option<(String, RawArray)>,
    kind: Kind,
}

/// What arrays of targets are called, where nothing is said.
const TARGETS: [&str; 4] = ["y", "labels", "targets", "target"];

/// What the targets are.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Classes(usize),
    Numbers,
    Stored,
}

/// Opens a file of named arrays.
pub(crate) fn open(path: &Path, options: &DataOptions) -> Result<ArrayDataset> {
    let mut arrays = named::read_raw(path)?;
    if Format::detect(path)? == Format::Npy {
        let name = options.inputs.first().map_or("x", String::as_str);
        arrays.iter_mut().for_each(|(stem, _)| name.clone_into(stem));
    }
    let target = take_target(path, &mut arrays, options)?;
    let inputs = take_inputs(path, arrays, options)?;
    check_samples(path, inputs.iter().chain(&target))?;
    let kind = match &target {
        Some((name, array)) => kind_of(array, options)
            .map_err(|error| error.at(format!("`{}`, array `{name}`", path.display())))?,
        None => Kind::Stored,
    };
    Ok(ArrayDataset { path: path.to_owned(), inputs, target, kind })
}

impl Dataset for ArrayDataset {
    fn len(&self) -> usize {
        self.inputs.first().map_or(0, |(_, array)| array.samples())
    }

    fn batch(&self, indices: &[usize], _augment: Option<u64>) -> Result<Batch> {
        check_indices(indices, self.len())?;
        let inputs =
            self.inputs.iter().map(|input| Ok(pixels(&input.1, self.rows(input, indices)?)));
        let target = self.target.as_ref().map(|target| self.rows(target, indices)).transpose()?;
        let target = target.map(|target| match self.kind {
            Kind::Numbers => to_floats(target),
            Kind::Classes(_) | Kind::Stored => target,
        });
        Ok(Batch { inputs: inputs.collect::<Result<_>>()?, target })
    }

    fn classes(&self) -> Option<usize> {
        match self.kind {
            Kind::Classes(count) => Some(count),
            Kind::Numbers | Kind::Stored => None,
        }
    }
}

impl ArrayDataset {
    fn rows(&self, (name, array): &(String, RawArray), indices: &[usize]) -> Result<Array> {
        let rows = array.rows(indices).and_then(|rows| check_finite(&rows, indices).map(|()| rows));
        rows.map_err(|error| error.at(format!("`{}`, array `{name}`", self.path.display())))
    }
}

/// Bytes of three axes or more are pixels: real numbers in 0..1.
fn pixels(stored: &RawArray, rows: Array) -> Array {
    if !stored.is_bytes() || rows.shape().len() < 3 {
        return rows;
    }
    match to_floats(rows) {
        Array::Float(values, shape) => {
            Array::Float(values.into_iter().map(|value| value / 255.0).collect(), shape)
        }
        other => other,
    }
}

fn to_floats(array: Array) -> Array {
    match array {
        Array::Float(values, shape) => Array::Float(values, shape),
        Array::Int(values, shape) => {
            Array::Float(values.into_iter().map(|value| value as f32).collect(), shape)
        }
        Array::Bool(values, shape) => {
            Array::Float(values.into_iter().map(f32::from).collect(), shape)
        }
    }
}

/// Fails if a row has a number that is not finite.
pub(crate) fn check_finite(rows: &Array, indices: &[usize]) -> Result<()> {
    let Array::Float(values, _) = rows else { return Ok(()) };
    let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let row_len = values.len().checked_div(indices.len()).unwrap_or(1).max(1);
    let sample = indices.get(at / row_len).copied().unwrap_or(0);
    let value = values.get(at).copied().unwrap_or(f32::NAN);
    Err(Error::malformed(format!("sample {sample} has the value {value} in 32 bits"))
        .hint("remove the sample, or give it finite values"))
}

fn take_target(
    path: &Path,
    arrays: &mut Vec<(String, RawArray)>,
    options: &DataOptions,
) -> Result<Option<(String, RawArray)>> {
    match &options.target {
        Some(name) => take(path, arrays, name).map(Some),
        None => Ok(TARGETS.iter().find_map(|name| take(path, arrays, name).ok())),
    }
}

fn take_inputs(
    path: &Path,
    mut arrays: Vec<(String, RawArray)>,
    options: &DataOptions,
) -> Result<Vec<(String, RawArray)>> {
    if !options.inputs.is_empty() {
        return options.inputs.iter().map(|name| take(path, &mut arrays, name)).collect();
    }
    if let Ok(x) = take(path, &mut arrays, "x") {
        return Ok(vec![x]);
    }
    if arrays.is_empty() {
        return Err(argument(path, "no arrays that a model could read")
            .hint("save what the model reads as the array `x`"));
    }
    Ok(arrays)
}

fn take(
    path: &Path,
    arrays: &mut Vec<(String, RawArray)>,
    name: &str,
) -> Result<(String, RawArray)> {
    match arrays.iter().position(|(other, _)| other == name) {
        Some(index) => Ok(arrays.remove(index)),
        None => {
            let found: Vec<_> = arrays.iter().map(|(name, _)| format!("`{name}`")).collect();
            let found = if found.is_empty() { "no others".to_owned() } else { found.join(", ") };
            Err(argument(path, format!("no array `{name}`, but {found}"))
                .hint("name the arrays after the model's inputs, and the targets `y`"))
        }
    }
}

/// Fails unless all arrays have the same number of samples, and each sample has elements.
fn check_samples<'a>(
    path: &Path,
    mut arrays: impl Iterator<Item = &'a (String, RawArray)>,
) -> Result<()> {
    let Some((first, array)) = arrays.next() else { return Ok(()) };
    let count = array.samples();
    if array.bytes().is_empty() || array.shape().is_empty() {
        let shape = array.shape();
        return Err(argument(path, format!("no samples in `{first}` of shape {shape:?}"))
            .hint("give arrays whose first axis is that of the samples"));
    }
    for (name, array) in arrays {
        if array.samples() != count || array.bytes().is_empty() {
            let shape = array.shape();
            return Err(argument(
                path,
                format!("`{first}` has {count} samples, `{name}` has the shape {shape:?}"),
            )
            .hint("give arrays of as many samples each"));
        }
    }
    Ok(())
}

fn kind_of(target: &RawArray, options: &DataOptions) -> Result<Kind> {
    match (options.targets, target.all()?) {
        (Targets::Numbers, _) => Ok(Kind::Numbers),
        (_, Array::Int(labels, _)) => {
            Ok(Kind::Classes(count_classes(&labels, target.samples(), options.classes)?))
        }
        (Targets::Classes, other) => {
            Err(Error::argument(format!("{} are no class indices", other.sort()))
                .hint("save the targets as integers"))
        }
        (Targets::Detect, _) => Ok(Kind::Stored),
    }
}
