//! Prunes a model by half and says what was removed.
//!
//! ```sh
//! cargo run --example prune -- models/fashion-cnn.onnx small.onnx
//! ```

use std::path::Path;

use secateur::criterion::ScoreOptions;
use secateur::select::{SelectOptions, Target};
use secateur::{Error, Model, Result};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(input), Some(output)) = (args.next(), args.next()) else {
        return Err(Error::argument("usage: prune MODEL.onnx OUTPUT.onnx"));
    };
    let model = Model::open(Path::new(&input), &Default::default())?;

    let options = SelectOptions { target: Target::Ratio(0.5), ..SelectOptions::default() };
    let selection = model.select(&options, &ScoreOptions::default())?;
    for (&group, keep) in &selection.keeps {
        let group = model.groups().get(group);
        println!("{:40} {:12} {:4} -> {:4}", group.name, group.kind, group.size, keep.len());
    }
    model.write_pruned(&selection.keeps, Path::new(&output), &mut |_| ())?;

    let (before, after) = (selection.before, selection.after);
    println!("parameters {} -> {}", before.parameters, after.parameters);
    println!("MACs {} -> {}", before.macs, after.macs);
    Ok(())
}
