//! `verify`: whether a pruned model computes what it should.

use std::path::{Path, PathBuf};

use clap::Args;
use secateur::group::Keeps;
use secateur::plan::Plan;
use secateur::{Error, Model, Result};
use secateur_train::Cpu;
use secateur_train::data::read_arrays;
use secateur_train::verify::{Verdict, verify};
use serde_json::json;

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
pub const TOLERANCE: f64 = 1e-4;

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
    /// The largest difference that is none.
    #[arg(long, value_name = "NUMBER", default_value_t = TOLERANCE)]
    tolerance: f64,
}

/// Verifies.
pub fn run(args: &Verify) -> Result<Output> {
    let (model, keeps) = args.open()?;
    let inputs = args.inputs.as_deref().map(read_arrays).transpose()?.unwrap_or_default();
    let _spinner = Spinner::new("running both models");
    let folder = tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), e))?;
    let made = folder.path().join("pruned");
    let pruned = match &args.pruned {
        Some(path) => path.as_path(),
        None => {
            model.write_pruned(&keeps, &made, &mut |_| ())?;
            &made
        }
    };
    let options = (args.seed, args.tolerance);
    let verdict = verify::<Cpu>(&model, pruned, &keeps, &inputs, options, &Default::default())?;
    finish(&model, &keeps, &verdict, (args.tolerance, args.source.json))
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
pub fn check(model: &Model, keeps: &Keeps, pruned: &Path, seed: u64) -> Result<String> {
    let _spinner = Spinner::new("running both models");
    let verdict = verify::<Cpu>(model, pruned, keeps, &[], (seed, TOLERANCE), &Default::default())?;
    finish(model, keeps, &verdict, (TOLERANCE, false)).map(|output| output.text)
}

fn finish(
    model: &Model,
    keeps: &Keeps,
    verdict: &Verdict,
    (tolerance, json): (f64, bool),
) -> Result<Output> {
    let approximate: Vec<&str> = keeps
        .keys()
        .map(|&id| model.groups().get(id))
        .filter(|group| !group.is_exact())
        .map(|group| group.name.as_str())
        .collect();
    let equal = verdict.is_equal(tolerance);
    let (error, effect) = (verdict.error, verdict.effect);
    if !equal && approximate.is_empty() {
        let at = verdict.parted.as_ref();
        let at =
            at.map_or(String::new(), |(node, e)| format!(", first at node `{node}` by {e:.1e}"));
        return Err(Error::malformed(format!("the pruned model differs by {error:.1e}{at}")).hint(
            "compare with the plan that made it; where it was trained since, it has to differ",
        ));
    }
    if json {
        return Output::json(&json!({
            "equal": equal, "error": error, "effect": effect, "tolerance": tolerance,
            "approximate": approximate,
            "node": verdict.parted.as_ref().map(|(node, _)| node),
        }));
    }
    let shown = format!(
        "error {error:.1e} in {} outputs, effect of the mask {effect:.1e}",
        verdict.outputs
    );
    Ok(Output::text(match equal {
        true => format!("Equal to the mask: {shown}."),
        false => {
            let names = approximate.join(", ");
            format!("Not equal to the mask, as approximate groups were cut ({names}): {shown}.")
        }
    }))
}
