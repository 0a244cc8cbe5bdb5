//! Measures the stages of pruning in memory, in CPU seconds, and the memory bandwidth beside them.
//!
//! ```sh
//! cargo run --release --example speed -- MODEL.onnx
//! cargo run --release --example speed -- --analysis MODEL.onnx
//! ```
//!
//! Prints one JSON object; with `--analysis`, only of the stages that do not touch weights.
//! `bench/speed.py` and `bench/depth.py` run it on many models.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use secateur::analysis::Analysis;
use secateur::criterion::{self, ScoreOptions, Weights};
use secateur::graph::ParamId;
use secateur::group::{Groups, Keeps};
use secateur::onnx::{OnnxFile, import};
use secateur::select::{self, SelectOptions, Target};
use secateur::tensor::{Cut, TensorView};
use secateur::{Error, Model, Result, refit};
use serde_json::{Value, json};

/// Runs of the stages that do not touch weights; the least time counts.
const RUNS: usize = 5;
/// Bytes that bandwidth is measured on: more than any cache holds.
const BANDWIDTH_BYTES: usize = 256 << 20;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let measured = match args[..] {
        ["--analysis", path] => analysis(path.as_ref()),
        [path] => pruning(path.as_ref()),
        _ => Err(Error::argument("usage: speed [--analysis] MODEL.onnx")),
    };
    println!("{}", measured?);
    Ok(())
}

/// The stages up to groups.
fn analysis(path: &Path) -> Result<Value> {
    let hints = Default::default();
    let (file, open) = least(|| OnnxFile::open(path));
    let file = file?;
    let (imported, import) = least(|| import(&file, &hints));
    let imported = imported?;
    let mut graphs = vec![imported.graph; RUNS];
    let (analyzed, analyze) = least(|| {
        let mut graph = graphs.pop().unwrap_or_default();
        let mut analysis = Analysis::new(&graph);
        refit::pin_unfollowable(&mut graph, &mut analysis);
        (graph, analysis)
    });
    let (groups, group) = least(|| Groups::new(&analyzed.0, &analyzed.1));
    let seconds = json!({ "open": open, "import": import, "analyze": analyze, "group": group });
    Ok(json!({ "seconds": seconds, "groups": groups.len(), "nodes": analyzed.0.nodes.len() }))
}

/// All stages, with the weights in memory.
fn pruning(path: &Path) -> Result<Value> {
    let mut measured = analysis(path)?;
    let model = Model::open(path, &Default::default())?;
    let (graph, groups) = (model.graph(), model.groups());
    let tensors = tensors(&model)?;
    black_box(tensors.iter().map(|(_, view)| sum(&view.data)).fold(0, u64::wrapping_add));

    let weights = InMemory(model.weights());
    let options = ScoreOptions::default();
    let (scores, score) = least(|| criterion::score(graph, groups, &weights, &options, None));
    let scores = scores?;
    let options = SelectOptions { target: Target::Ratio(0.5), ..SelectOptions::default() };
    let (selection, select) = least(|| {
        select::select(graph, groups, &model.cost(), &mut |_| Ok(scores.clone()), &options)
    });
    let keeps = selection?.keeps;
    let mut slices: Vec<Vec<u8>> = tensors.iter().map(|(_, view)| view.data.to_vec()).collect();
    let (sliced, slice) = least(|| cut(&model, &keeps, &tensors, &mut slices));
    sliced?;

    let read: usize = tensors.iter().map(|(_, view)| view.data.len()).sum();
    let written: usize = slices.iter().map(Vec::len).sum();
    let (read_rate, write_rate) = bandwidth();
    measured["seconds"]["score"] = json!(score);
    measured["seconds"]["select"] = json!(select);
    measured["seconds"]["slice"] = json!(slice);
    measured["bytes"] = json!({ "read": read, "written": written });
    measured["bytes_per_second"] = json!({ "read": read_rate, "written": write_rate });
    Ok(measured)
}

/// Weights that stay in memory after they were read.
struct InMemory<'a>(Box<dyn Weights + 'a>);

impl Weights for InMemory<'_> {
    fn view(&self, param: ParamId) -> Result<TensorView> {
        self.0.view(param)
    }
}

/// Every stored tensor that is read as data, once, with a parameter that it is.
fn tensors(model: &Model) -> Result<Vec<(ParamId, TensorView)>> {
    let graph = model.graph();
    let mut params: Vec<ParamId> = graph.param_ids().collect();
    params.sort_by_key(|&id| graph.param(id).tensor);
    params.dedup_by_key(|id| graph.param(*id).tensor);
    params.into_iter().map(|id| Ok((id, model.weights().view(id)?))).collect()
}

/// Puts what is kept of every tensor into memory that is there already.
fn cut(
    model: &Model,
    keeps: &Keeps,
    tensors: &[(ParamId, TensorView)],
    slices: &mut [Vec<u8>],
) -> Result<()> {
    let changes = model.changes(keeps)?;
    for ((id, view), slice) in tensors.iter().zip(slices) {
        match changes.params.get(id) {
            None => slice.copy_from_slice(&view.data),
            Some(keep) => {
                let cut = Cut::keep(view.dtype, &view.dims, keep)?;
                slice.truncate(cut.byte_len());
                cut.fill(&view.data, slice)?;
            }
        }
    }
    Ok(())
}

/// Bytes per CPU second: read from memory, and written to it.
fn bandwidth() -> (f64, f64) {
    let mut buffer = vec![1_u8; BANDWIDTH_BYTES];
    let (_, read) = least(|| sum(&buffer));
    let (_, write) = least(|| black_box(&mut buffer).fill(black_box(2)));
    (BANDWIDTH_BYTES as f64 / read, BANDWIDTH_BYTES as f64 / write)
}

fn sum(bytes: &[u8]) -> u64 {
    let (chunks, _) = bytes.as_chunks::<64>();
    let mut lanes = [0_u64; 8];
    for chunk in chunks {
        let (words, _) = chunk.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    black_box(lanes.into_iter().fold(0, u64::wrapping_add))
}

/// The result of the last of several runs, and the least CPU seconds of one.
fn least<T>(mut run: impl FnMut() -> T) -> (T, f64) {
    let (mut result, mut least) = timed(&mut run);
    for _ in 1..RUNS {
        let seconds;
        (result, seconds) = timed(&mut run);
        least = least.min(seconds);
    }
    (result, least)
}

/// The result of a run, and the CPU seconds that all threads spent on it.
fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = cpu_time();
    let result = black_box(run());
    (result, (cpu_time() - start).as_secs_f64())
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
