//! `verify`: whether a pruned model computes what it should.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use secateur::group::Keeps;
use secateur::plan::Plan;
use secateur::{Error, Model, Result};
use secateur_train::Cpu;
use secateur_train::data::read_arrays;
use secateur_train::verify::{Verdict, differing, verify};
use serde::Serialize;

use crate::apply;
use crate::output::Output;
use crate::progress::Spinner;
use crate::source::Source;

const EXAMPLES: &str = "\
Examples:
  secateur verify model.onnx small.onnx
          what was kept is read off the weights
  secateur verify model.onnx small.onnx --plan plan.json --inputs samples.npz
          with the plan that `prune --plan` or `apply` had, and on samples
  secateur verify model.onnx --plan plan.json
          what the plan would make";

/// The difference that counts as none, by the largest number in an output.
const TOLERANCE: f64 = 1e-4;

/// Operators of which a rounding may change a result by a whole step.
const ROUNDING: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Ceil",
    "DynamicQuantizeLinear",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "NonMaxSuppression",
    "NonZero",
    "QuantizeLinear",
    "Round",
    "Sign",
    "TopK",
    "Unique",
];

/// Check that a pruned model computes what the original does with the removed slices zero.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    #[command(flatten)]
    source: Source,
    /// The pruned model. Default: what the plan makes of the model.
    #[arg(value_name = "PRUNED", required_unless_present = "plan")]
    pruned: Option<PathBuf>,
    /// The plan that it was pruned with. Default: what its weights tell.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Arrays by the names of inputs (`.npz`, `.safetensors`). Default: random ones.
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Seed of random inputs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The largest difference that is none, by the largest number in an output.
    #[arg(long, value_name = "NUMBER", default_value_t = TOLERANCE, value_parser = tolerance)]
    tolerance: f64,
}

/// Verifies.
pub fn run(args: &Verify) -> Result<Output> {
    let (model, keeps) = args.open()?;
    let inputs = args.inputs.as_deref().map(read_arrays).transpose()?.unwrap_or_default();
    let _spinner = Spinner::new("running both models");
    let folder = tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), e))?;
    let made = folder.path().join("pruned");
    if args.plan.is_some() {
        model.write_pruned(&keeps, &made, &mut |_| ())?;
    }
    let pruned = args.pruned.as_deref().unwrap_or(&made);
    let options = (args.seed, args.tolerance);
    let verdict = verify::<Cpu>(&model, pruned, &keeps, &inputs, options, &Default::default())?;
    let verified = Verified::new(&model, &keeps, &verdict, args.tolerance)?;
    if let (Some(pruned), Some(_)) = (&args.pruned, &args.plan) {
        let [wanted, found] = [&made, pruned].map(|path| Model::open(path, &model.id().shapes));
        if let Some(name) = differing(&wanted?, &found?)? {
            return Err(Error::malformed(format!("`{name}` is not what the plan makes of it"))
                .hint("where the model was trained since it was pruned, it has to differ"));
        }
    }
    let output = match args.source.json {
        true => Output::json(&verified)?,
        false => Output::text(verified.to_string()),
    };
    Ok(output.warn(verified.warning().into_iter().collect()))
}

fn tolerance(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "give a number from 0 on, such as 1e-4".to_string())
}

impl Verify {
    /// The original model, and what was kept of it.
    fn open(&self) -> Result<(Model, Keeps)> {
        if let Some(plan) = &self.plan {
            let plan = Plan::read(plan)?;
            let model = apply::open(&self.source, &plan)?;
            let keeps = model.replay(&plan)?;
            return Ok((model, keeps));
        }
        let model = self.source.open()?;
        let pruned = self.pruned.as_deref().map(|path| Model::open(path, &model.id().shapes));
        let keeps = pruned.transpose()?.map(|pruned| model.kept_in(&pruned)).transpose()?;
        Ok((model, keeps.unwrap_or_default()))
    }
}

/// Verifies what was just written.
///
/// # Errors
/// When the models differ where they should not, or cannot be run.
pub fn check(model: &Model, keeps: &Keeps, pruned: &Path, seed: u64) -> Result<Verified> {
    let _spinner = Spinner::new("running both models");
    let verdict = verify::<Cpu>(model, pruned, keeps, &[], (seed, TOLERANCE), &Default::default())?;
    Verified::new(model, keeps, &verdict, TOLERANCE)
}

/// What running the model and its mask has told.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    equal: bool,
    error: f64,
    effect: f64,
    tolerance: f64,
    /// The approximate groups that were cut.
    approximate: Vec<String>,
    /// The first node whose result differs.
    node: Option<String>,
    #[serde(skip)]
    outputs: usize,
    #[serde(skip)]
    is_cut: bool,
}

impl Verified {
    fn new(model: &Model, keeps: &Keeps, verdict: &Verdict, tolerance: f64) -> Result<Self> {
        let groups = keeps.keys().map(|&id| model.groups().get(id));
        let approximate = groups.filter(|group| !group.is_exact());
        let verified = Verified {
            equal: verdict.is_equal(tolerance),
            error: verdict.error,
            effect: verdict.effect,
            tolerance,
            approximate: approximate.map(|group| group.name.clone()).collect(),
            node: verdict.parted.as_ref().map(|(node, _)| node.clone()),
            outputs: verdict.outputs,
            is_cut: !keeps.is_empty(),
        };
        if verified.equal || !verified.approximate.is_empty() {
            return Ok(verified);
        }
        let kind = |node: &String| {
            let graph = model.graph();
            let mut nodes = graph.node_ids().map(|id| graph.node(id));
            nodes.find(|other| other.name == *node).map(|node| node.kind.clone())
        };
        let kind = verified.node.as_ref().and_then(kind).unwrap_or_default();
        let at = verdict.parted.as_ref();
        let at = at.map_or(String::new(), |(node, error)| {
            format!(", first at node `{node}` ({kind}) by {error:.1e}")
        });
        let error = format!("the pruned model differs by {:.1e}{at}", verified.error);
        Err(Error::malformed(error).hint(match ROUNDING.contains(&kind.as_str()) {
            true => {
                "rounding decides on what this node makes of equal numbers: verify on samples \
                     (`--inputs`), or with another --seed"
            }
            false => {
                "compare with the plan that made it; where it was trained since, it has to differ"
            }
        }))
    }

    /// What makes an answer worth little.
    pub fn warning(&self) -> Option<String> {
        let is_dead = self.is_cut && self.effect == 0.0;
        let text = "on these inputs the mask changes no output, so that being equal to it says \
                    little: verify on samples (`secateur verify --inputs`)";
        is_dead.then(|| text.to_string())
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.equal {
            true => f.write_str("Equal to the mask: ")?,
            false => {
                const SHOWN: usize = 3;
                let more = self.approximate.len().saturating_sub(SHOWN);
                let more = (more > 0).then(|| format!("and {more} more"));
                let names = self.approximate.iter().take(SHOWN).cloned().chain(more);
                let names = names.collect::<Vec<_>>().join(", ");
                write!(f, "Not equal to the mask, as approximate groups were cut ({names}): ")?;
            }
        }
        let Verified { error, effect, outputs, .. } = self;
        write!(f, "error {error:.1e} in {outputs} outputs, effect of the mask {effect:.1e}.")
    }
}
