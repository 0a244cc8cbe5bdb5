//! `why`: what ties two parameter axes together, and why an axis can or cannot be cut.

use clap::Args;
use secateur::Result;
use secateur::why;
use serde_json::json;

use crate::output::Output;
use crate::parameter;
use crate::source::Source;

const EXAMPLES: &str = "\
Examples:
  secateur why model.onnx layer1.0.conv1.weight:0
          what the axis is made of, and why it can or cannot be cut
  secateur why model.onnx layer1.0.conv2.weight:0 layer1.1.conv2.weight:0
          the nodes that tie two axes, so that they are only cut together";

/// Explain why an axis can or cannot be cut, or what ties two axes.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Why {
    #[command(flatten)]
    source: Source,
    /// An axis of a parameter as it is stored, as `groups --verbose` lists them.
    #[arg(value_name = "PARAM:AXIS")]
    axis: String,
    /// Another axis: explain what ties the two.
    #[arg(value_name = "PARAM:AXIS")]
    other: Option<String>,
}

/// Explains.
pub fn run(args: &Why) -> Result<Output> {
    let model = args.source.open()?;
    let axis = parameter::find(model.graph(), &args.axis)?;
    let Some(other) = &args.other else {
        let explanation = why::explain(&model, axis);
        return match args.source.json {
            true => Output::json(&explanation),
            false => Ok(Output::text(explanation.to_string())),
        };
    };
    let other = parameter::find(model.graph(), other)?;
    let tie = why::tie(&model, axis, other);
    if args.source.json {
        return Output::json(&json!({ "tied": tie.is_some(), "tie": tie }));
    }
    Ok(Output::text(match tie {
        Some(tie) => tie.to_string(),
        None => {
            format!("{} and {} are independent", args.axis, args.other.as_deref().unwrap_or(""))
        }
    }))
}
