//! `sensitivity`: what removing a part of each group alone does to loss and accuracy.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use plotters::prelude::{
    ChartBuilder, IntoDrawingArea, LineSeries, Palette, Palette99, PathElement, SVGBackend, WHITE,
};
use secateur::{Error, Result, replace_file};
use secateur_train::fit::evaluate;
use secateur_train::sensitivity::{Curve, sensitivity};

use crate::number;
use crate::output::Output;
use crate::score::Score;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  secateur sensitivity model.onnx --data fashion/ --part test --limit 1000
  secateur sensitivity model.onnx --data x.npz --ratios 0.25,0.5,0.75 --plot curves.svg --json";

/// Remove a part of each group alone, and measure loss and accuracy.
///
/// What scores least is set to zero; for exact groups that is what cutting it does.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Sensitivity {
    #[command(flatten)]
    score: Score,
    /// The parts that are removed.
    #[arg(
        long,
        value_name = "RATIOS",
        value_delimiter = ',',
        default_value = "0.1,0.3,0.5,0.7,0.9"
    )]
    ratios: Vec<f64>,
    /// Draw the curves to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Measures.
pub fn run(args: &Sensitivity) -> Result<Output> {
    if let Some(wrong) = args.ratios.iter().find(|ratio| !(0.0..1.0).contains(*ratio)) {
        let error = Error::argument(format!("the ratio {wrong}"));
        return Err(error.hint("give parts from 0 to below 1"));
    }
    let model = args.score.open()?;
    let (mut trainer, scores) = args.score.measure(model)?;
    let data = args.score.data()?;
    let whole = evaluate(&trainer, &data, args.score.batch_size())?;
    let bar = ProgressBar::new(0).with_message("runs");
    let mut watch = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let options = (args.ratios.as_slice(), args.score.batch_size());
    let curves = sensitivity(&mut trainer, &data, &scores, options, &mut watch)?;
    bar.finish_and_clear();
    if let Some(path) = &args.plot {
        let drawn = plot(&curves).map_err(|error| Error::io(path, std::io::Error::other(error)))?;
        replace_file(path, |file| file.write_all(drawn.as_bytes()))?;
    }
    if args.score.json() {
        return Output::json(&serde_json::json!({ "whole": whole, "curves": curves }));
    }
    Ok(Output::text(text(&curves, whole.accuracy.unwrap_or(whole.loss))))
}

/// What is shown: accuracy where there is one, else the loss.
fn shown(curve: &Curve) -> Vec<(f64, f64)> {
    let points = curve.points.iter();
    points.map(|p| (p.ratio, p.evaluation.accuracy.unwrap_or(p.evaluation.loss))).collect()
}

fn text(curves: &[Curve], whole: f64) -> String {
    let ratios: Vec<String> = curves.first().map_or(Vec::new(), |curve| {
        curve.points.iter().map(|p| number::percent(p.ratio)).collect()
    });
    let mut columns = vec![("group", Align::Left), ("size", Align::Right)];
    columns.extend(ratios.iter().map(|ratio| (ratio.as_str(), Align::Right)));
    let mut rows = table::headed(&columns);
    for curve in curves {
        let mut row = vec![curve.group.clone(), curve.size.to_string()];
        row.extend(shown(curve).into_iter().map(|(_, value)| format!("{value:.4}")));
        rows.add_row(row);
    }
    table::align(&mut rows, columns.iter().map(|(_, align)| *align));
    let mut text = format!("Whole model: {whole:.4}. With a part of one group removed:\n\n");
    table::push(&mut text, &mut rows, 0);
    text
}

/// The curves as SVG.
fn plot(curves: &[Curve]) -> std::result::Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut drawn = String::new();
    draw(curves, SVGBackend::with_string(&mut drawn, (960, 600)))?;
    Ok(drawn)
}

fn draw(
    curves: &[Curve],
    backend: SVGBackend<'_>,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let all: Vec<(f64, f64)> = curves.iter().flat_map(shown).collect();
    let least = all.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let most = all.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let margin = ((most - least) * 0.05).max(1e-6);
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(|e| wrong(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..1.0, least - margin..most + margin)
        .map_err(|e| wrong(&e))?;
    let is_share = curves.iter().any(|c| c.points.iter().any(|p| p.evaluation.accuracy.is_some()));
    chart
        .configure_mesh()
        .x_desc("part of the group removed")
        .y_desc(if is_share { "accuracy" } else { "loss" })
        .draw()
        .map_err(|e| wrong(&e))?;
    for (index, curve) in curves.iter().enumerate() {
        let color = Palette99::pick(index);
        let line = LineSeries::new(shown(curve), &color);
        let name = curve.group.clone();
        let drawn = chart.draw_series(line).map_err(|e| wrong(&e))?;
        drawn
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], Palette99::pick(index)));
    }
    chart.configure_series_labels().background_style(WHITE).draw().map_err(|e| wrong(&e))?;
    area.present().map_err(|e| wrong(&e))?;
    Ok(())
}
