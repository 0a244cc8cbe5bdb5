//! The model that a verb works on, and the shapes that it is analyzed at.

use std::path::PathBuf;

use clap::Args;
use secateur::onnx::Hints;
use secateur::{Error, Model, Result};

/// The model and how to show it.
#[derive(Args, Debug)]
pub struct Source {
    /// Model file (ONNX, or a PyTorch program: .pt2).
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,
    /// Shape of an input whose sizes are open, such as `x=1x3x224x224`. Repeatable.
    #[arg(long = "shape", value_name = "NAME=SIZES", value_parser = shape)]
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

impl Source {
    /// The shapes by input.
    pub fn hints(&self) -> Result<Hints> {
        let mut hints = Hints::new();
        for (name, sizes) in &self.shapes {
            if hints.insert(name.clone(), sizes.clone()).is_some() {
                return Err(Error::argument(format!("`--shape` is given twice for `{name}`"))
                    .hint("give one shape per input"));
            }
        }
        Ok(hints)
    }

    /// Opens the model.
    pub fn open(&self) -> Result<Model> {
        Model::open(&self.path, &self.hints()?)
    }
}

/// Names may hold `=` and sizes not, so the last `=` divides.
fn shape(text: &str) -> std::result::Result<(String, Vec<usize>), String> {
    let (name, sizes) =
        text.rsplit_once('=').ok_or("expected NAME=SIZES, such as x=1x3x224x224")?;
    let size = |size: &str| match size.trim().parse() {
        Ok(0) | Err(_) => Err(format!("`{size}` is not a size; expected such as x=1x3x224x224")),
        Ok(size) => Ok(size),
    };
    let sizes = sizes.split(['x', ',']).map(size).collect::<std::result::Result<_, _>>()?;
    Ok((name.to_string(), sizes))
}

/// Sizes as they are written after `--shape NAME=`.
pub fn sizes(sizes: &[usize]) -> String {
    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
    sizes.join("x")
}

/// The shapes of inputs with open sizes, as the analysis has them: MACs depend on them.
pub fn open_shapes(model: &Model) -> Hints {
    let graph = model.graph();
    let inputs = graph.inputs.iter().map(|&input| graph.value(input));
    let open = inputs.filter_map(|input| {
        let shape = input.shape.as_ref()?;
        let open = shape.iter().any(|extent| extent.is_open());
        open.then(|| (input.name.clone(), shape.iter().map(|extent| extent.size).collect()))
    });
    open.collect()
}

/// The shapes that MACs are counted at, such as `x=1x3x224x224`; empty where all are declared.
pub fn assumed(model: &Model) -> String {
    let shapes = open_shapes(model);
    let shapes: Vec<_> = shapes.iter().map(|(name, s)| format!("{name}={}", sizes(s))).collect();
    shapes.join(" ")
}
