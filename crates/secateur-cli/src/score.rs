//! `score`: how much every index of every group matters.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use secateur::criterion::Scores;
use secateur::group::GroupId;
use secateur::{Error, Model, Result, replace_file};
use secateur_train::Cpu;
use secateur_train::attribution::attribute;
use secateur_train::data::Dataset;
use secateur_train::fit::Ranking;
use secateur_train::scoring::{Snapshot, scores};
use secateur_train::trainer::{TrainOptions, Trainer};
use serde_json::{Map, json};

use crate::data::Data;
use crate::engine::{self, Judging};
use crate::measuring::{Measuring, is_measured};
use crate::options::Scoring;
use crate::output::Output;
use crate::progress::Spinner;
use crate::source::Source;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  secateur score model.onnx --criterion l2
  secateur score model.onnx --data fashion/ --criterion shapley -o scores.json";

/// Score the indices of groups, by weights or on data.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Score {
    #[command(flatten)]
    source: Source,
    /// Write all scores to this file, as JSON: per group, one number per index.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    measuring: Measuring,
}

/// Scores.
pub fn run(args: &Score) -> Result<Output> {
    let (trainer, scores) = args.measure(args.open()?)?;
    let model = trainer.into_model();
    let document = document(&model, &scores, args.scoring.criterion.name());
    if let Some(path) = &args.output {
        let text = serde_json::to_string_pretty(&document).map_err(Error::malformed)?;
        replace_file(path, |file| file.write_all(text.as_bytes()))?;
    }
    if args.source.json {
        return Output::json(&document);
    }
    Ok(Output::text(text(&model, &scores)))
}

impl Score {
    /// The model.
    pub fn open(&self) -> Result<Model> {
        self.source.open()
    }

    /// The samples.
    pub fn data(&self) -> Result<Arc<dyn Dataset>> {
        self.data.open(self.scoring.seed())
    }

    /// Samples that run at once.
    pub fn batch_size(&self) -> usize {
        self.measuring.score_batch
    }

    /// Whether to print JSON.
    pub fn json(&self) -> bool {
        self.source.json
    }

    /// The model, ready to run, and its scores.
    pub fn measure(&self, model: Model) -> Result<(Trainer<Cpu>, Scores)> {
        let _spinner = Spinner::new("scoring");
        let options = self.scoring.options();
        let ranking = self.measuring.ranking(self.scoring.criterion, &options);
        let train = TrainOptions { loss: self.judging.loss, ..TrainOptions::default() };
        let mut trainer = engine::trainer(model, train)?;
        let samples = (self.measuring.score_samples, self.measuring.score_batch, options.seed);
        let mut batches: Box<dyn Iterator<Item = _>> = match is_measured(&ranking) {
            true => Box::new(engine::batches(&self.data()?, samples)?),
            false => Box::new(std::iter::empty()),
        };
        let found = match &ranking {
            Ranking::Attribution(options) => attribute(&trainer, &mut batches, None, options)?,
            Ranking::Criterion(options) => {
                let snapshot = Snapshot::new(&mut trainer, &mut batches)?;
                scores(&trainer, &snapshot, options, None)?
            }
        };
        Ok((trainer, found))
    }
}

fn document(model: &Model, scores: &Scores, criterion: &str) -> serde_json::Value {
    let of = |id: GroupId| scores.get(id).map(<[f64]>::to_vec);
    let groups: Map<String, serde_json::Value> =
        model.groups().iter().map(|(id, group)| (group.name.clone(), json!(of(id)))).collect();
    json!({ "criterion": criterion, "groups": groups })
}

fn text(model: &Model, scores: &Scores) -> String {
    let columns = [
        ("group", Align::Left),
        ("size", Align::Right),
        ("least", Align::Right),
        ("mean", Align::Right),
        ("most", Align::Right),
    ];
    let mut table = table::headed(&columns);
    for (id, group) in model.groups().iter() {
        let Some(found) = scores.get(id) else { continue };
        let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
        let least = found.iter().copied().fold(f64::INFINITY, f64::min);
        let most = found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let number = |x: f64| format!("{x:.4e}");
        table.add_row([
            group.name.clone(),
            group.size.to_string(),
            number(least),
            number(mean),
            number(most),
        ]);
    }
    table::align(&mut table, columns.iter().map(|(_, align)| *align));
    let mut text = String::new();
    table::push(&mut text, &mut table, 0);
    let missing = model.groups().iter().filter(|(id, _)| scores.get(*id).is_none()).count();
    if missing > 0 {
        text += &format!("\n{missing} groups have no scores: {}\n", scores.missing());
    }
    text
}
