//! Checkpoints: a model, its weights in training, the optimizer's state, and where the run stands.
//!
//! A checkpoint is a folder `step-N` that appears whole or not at all. The last two are kept.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use burn_backend::tensor::{Device, FloatTensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView as Packed};
use serde::{Deserialize, Serialize};

use crate::fit::State;
use crate::trainer::Trainer;
use crate::{Engine, Error, Result, Value};

/// The version of the format that is written and read.
const VERSION: u32 = 1;
/// How many checkpoints are kept.
const KEPT: usize = 2;

#[derive(Serialize, Deserialize)]
struct Progress {
    version: u32,
    steps: u64,
    model: String,
    /// What cuts have multiplied the rates of dropouts with.
    dropouts: Vec<f64>,
    state: State,
}

/// Writes a checkpoint.
///
/// # Errors
/// When the folder cannot be written; earlier checkpoints stay.
pub fn write<B: Engine>(folder: &Path, trainer: &Trainer<B>, state: &State) -> Result<()> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| Error::io(&path, error)
    };
    fs::create_dir_all(folder).map_err(io(folder))?;
    let draft =
        tempfile::Builder::new().prefix(".draft-").tempdir_in(folder).map_err(io(folder))?;
    let extension = trainer.model().path().extension().and_then(|e| e.to_str()).unwrap_or("onnx");
    let model = format!("model.{extension}");
    trainer.save(&draft.path().join(&model))?;
    let tensors = draft.path().join("tensors.safetensors");
    fs::write(&tensors, pack(trainer)?).map_err(io(&tensors))?;
    let progress = Progress {
        version: VERSION,
        steps: trainer.steps(),
        model,
        dropouts: trainer.dropouts().to_vec(),
        state: state.clone(),
    };
    let text = serde_json::to_vec_pretty(&progress).map_err(Error::malformed)?;
    let path = draft.path().join("state.json");
    fs::write(&path, text).map_err(io(&path))?;
    for entry in fs::read_dir(draft.path()).map_err(io(draft.path()))?.flatten() {
        let path = entry.path();
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(io(&path))?;
    }
    let target = folder.join(format!("step-{}", trainer.steps()));
    if target.exists() {
        fs::remove_dir_all(&target).map_err(io(&target))?;
    }
    fs::rename(draft.path(), &target).map_err(io(&target))?;
    let mut all = list(folder);
    all.sort_unstable();
    for (_, old) in all.iter().rev().skip(KEPT) {
        // One that stays is only in the way.
        let _ = fs::remove_dir_all(old);
    }
    Ok(())
}

/// Checkpoints, with their numbers of steps.
fn list(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok();
    entries.filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect()
}

fn pack<B: Engine>(trainer: &Trainer<B>) -> Result<Vec<u8>> {
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut add = |name: String, value: Value<B>| -> Result<()> {
        let shape = value.shape();
        let bytes = value.to_floats()?.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.insert(name, (shape, bytes));
        Ok(())
    };
    for (tensor, value) in trainer.program().stored.iter().zip(trainer.values()) {
        if matches!(value, Value::Float(_)) {
            add(format!("value/{}", tensor.name), value.clone())?;
        }
    }
    let kinds = trainer.options().optimizer.states();
    for (name, state) in trainer.state() {
        for (kind, tensor) in kinds.iter().zip(state) {
            add(format!("{kind}/{name}"), Value::Float(tensor.clone()))?;
        }
    }
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        Ok((
            name.as_str(),
            Packed::new(Dtype::F32, shape.clone(), bytes).map_err(Error::malformed)?,
        ))
    });
    let views: Vec<(&str, Packed<'_>)> = views.collect::<Result<_>>()?;
    safetensors::serialize(views, None).map_err(Error::malformed)
}

/// The last checkpoint of a folder.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    progress: Progress,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step {}", self.steps)
    }
}

impl Checkpoint {
    /// The last checkpoint of a folder, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last(folder: &Path) -> Result<Option<Self>> {
        let Some((_, folder)) = list(folder).into_iter().max() else { return Ok(None) };
        let path = folder.join("state.json");
        let text = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        let progress: Progress = serde_json::from_slice(&text)
            .map_err(|error| Error::malformed(format!("`{}`: {error}", path.display())))?;
        if progress.version != VERSION {
            let text = format!("`{}` has version {}", path.display(), progress.version);
            return Err(Error::unsupported(text).hint("start anew, without `--resume`"));
        }
        Ok(Some(Checkpoint { folder, progress }))
    }

    /// Its model.
    pub fn model(&self) -> PathBuf {
        self.folder.join(&self.progress.model)
    }

    /// The number of steps that were made.
    pub fn steps(&self) -> u64 {
        self.progress.steps
    }

    /// What the run's model cost before the first cut, as in [`State`].
    pub fn original(&self) -> Option<[u64; 3]> {
        self.progress.state.original
    }

    /// Brings a trainer of its model to where the run stood.
    ///
    /// # Errors
    /// When the tensors cannot be read or do not fit.
    pub fn restore<B: Engine>(&self, trainer: &mut Trainer<B>) -> Result<State> {
        let path = self.folder.join("tensors.safetensors");
        let bytes = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        let wrong = |error| Error::malformed(format!("`{}`: {error}", path.display()));
        let tensors = SafeTensors::deserialize(&bytes).map_err(wrong)?;
        let mut values = BTreeMap::new();
        let mut states: HashMap<(String, String), FloatTensor<B>> = HashMap::new();
        for (name, view) in tensors.tensors() {
            let value = unpack::<B>(&view, trainer.device())?;
            match name.split_once('/') {
                Some(("value", name)) => drop(values.insert(name.to_string(), value)),
                Some((kind, name)) => {
                    states.insert((name.to_string(), kind.to_string()), value.float()?);
                }
                None => {}
            }
        }
        let kinds = trainer.options().optimizer.states();
        let mut state: BTreeMap<String, Vec<FloatTensor<B>>> = BTreeMap::new();
        for stored in &trainer.program().stored {
            let found =
                kinds.iter().map(|kind| states.remove(&(stored.name.clone(), (*kind).to_string())));
            if let Some(found) = found.collect::<Option<Vec<_>>>()
                && !found.is_empty()
            {
                state.insert(stored.name.clone(), found);
            }
        }
        let missing = state.is_empty() && self.progress.steps > 0 && !kinds.is_empty();
        if !states.is_empty() || missing {
            let text = "the run of the checkpoint had another optimizer";
            return Err(Error::argument(text)
                .hint("give the same `--optimizer`, or start anew, without `--resume`"));
        }
        trainer.set_values(values)?;
        trainer.restore(self.progress.steps, self.progress.dropouts.clone(), state);
        Ok(self.progress.state.clone())
    }
}

fn unpack<B: Engine>(view: &Packed<'_>, device: &Device<B>) -> Result<Value<B>> {
    if view.dtype() != Dtype::F32 {
        return Err(Error::malformed("a checkpoint's tensor is not of 32 bits"));
    }
    let words = view.data().as_chunks::<4>().0.iter();
    let numbers = words.map(|word| f32::from_le_bytes(*word)).collect();
    Ok(Value::of_floats(numbers, view.shape().to_vec(), device))
}
