//! `train` and `finetune`: trains a model, and cuts it meanwhile.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use secateur::select::Pattern;
use secateur::{Error, Model, Result};
use secateur_train::Cpu;
use secateur_train::checkpoint::{self, Checkpoint};
use secateur_train::data::{Dataset, split};
use secateur_train::fit::{CutOptions, Event, FitOptions, State, fit};
use secateur_train::loss::Loss;
use secateur_train::mix::Mixing;
use secateur_train::optimizer::Optimizer;
use secateur_train::schedule::Decay;
use secateur_train::teacher::{Teacher, TeacherOptions};
use secateur_train::trainer::{TrainOptions, Trainer};
use serde_json::json;

use crate::data::Data;
use crate::engine::{self, Judging};
use crate::measuring::Measuring;
use crate::number;
use crate::options::{Choice, Goal, Scoring};
use crate::output::Output;
use crate::place;
use crate::source::Source;

const EXAMPLES: &str = "\
Examples:
  secateur finetune small.onnx -o tuned.onnx --data images/ --epochs 3 --lr 0.001
          train a pruned model on
  secateur train net.onnx -o small.onnx --data fashion/ --eval-data fashion/ --epochs 6 \\
      --macs 50% --prune-every 400 --prune-times 5
          cut it to half of its MACs in five cuts while it trains
  secateur train small.onnx -o student.onnx --data images/ --teacher large.onnx
          learn from another model
  secateur train net.onnx -o out.onnx --data x.npz --checkpoint run/ --resume
          go on where an interrupted run stood";

/// Train a model, and cut it meanwhile.
///
/// A graph that was exported for inference trains with the batch norms and dropouts that are in it:
/// exporters fold batch norms into convolutions, which then train as weights and biases.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    #[command(flatten)]
    source: Source,
    /// Where to write the trained model; may be the model itself.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Print warnings and errors only.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    data: Data,
    /// Samples for evaluation; of a folder of IDX files, its test part.
    #[arg(long, value_name = "PATH", help_heading = "Data", group = "evaluation")]
    eval_data: Option<PathBuf>,
    /// The part of the samples that is held out for evaluation, such as 0.1.
    #[arg(long, value_name = "RATIO", help_heading = "Data", group = "evaluation")]
    eval_split: Option<f64>,
    #[command(flatten)]
    training: Training,
    #[command(flatten)]
    pruning: Pruning,
    #[command(flatten)]
    teaching: Teaching,
    /// Folder for checkpoints.
    #[arg(long, value_name = "FOLDER", help_heading = "Checkpoints")]
    checkpoint: Option<PathBuf>,
    /// Steps between two checkpoints.
    #[arg(long, value_name = "N", default_value_t = 500, help_heading = "Checkpoints")]
    checkpoint_every: u64,
    /// Go on from the last checkpoint, if there is one.
    #[arg(long, requires = "checkpoint", help_heading = "Checkpoints")]
    resume: bool,
    /// Write every step, epoch and cut to this file, one JSON document per line.
    #[arg(long, value_name = "FILE", help_heading = "Checkpoints")]
    log: Option<PathBuf>,
}

type Samples = Arc<dyn Dataset>;

/// How it is trained.
#[derive(Args, Debug)]
#[command(next_help_heading = "Training")]
struct Training {
    /// How often all samples are seen.
    #[arg(long, value_name = "N", default_value_t = 1)]
    epochs: usize,
    /// Samples per step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch_size: usize,
    /// How gradients move weights.
    #[arg(long, value_name = "NAME", default_value = "adamw", value_parser = optimizers())]
    optimizer: Optimizer,
    /// The highest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 0.001)]
    lr: f64,
    /// How the learning rate falls.
    #[arg(long, value_name = "NAME", default_value = "cosine", value_parser = decays())]
    lr_schedule: Decay,
    /// Steps in which the learning rate rises first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// SGD: what stays of the last direction.
    #[arg(long, value_name = "PART", default_value_t = 0.9)]
    momentum: f64,
    /// SGD: look ahead.
    #[arg(long)]
    nesterov: bool,
    /// What is taken from weights in every step, times the learning rate.
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    weight_decay: f64,
    /// The largest norm of all gradients together.
    #[arg(long, value_name = "NORM")]
    clip: Option<f64>,
    #[command(flatten)]
    judging: Judging,
    /// Cross-entropy: the part of the target that goes to all classes alike.
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    label_smoothing: f64,
    /// Train on weighted sums of two samples, with parts from Beta(ALPHA, ALPHA) (Zhang 2018).
    #[arg(long, value_name = "ALPHA", conflicts_with = "cutmix")]
    mixup: Option<f64>,
    /// Train on images with rectangles of other ones, of areas from Beta(ALPHA, ALPHA) (Yun 2019).
    #[arg(long, value_name = "ALPHA")]
    cutmix: Option<f64>,
    /// Stop after so many epochs without a better loss in the evaluation.
    #[arg(long, value_name = "EPOCHS", requires = "evaluation")]
    patience: Option<usize>,
    /// Parameters with names like this stay as they are. Repeatable.
    #[arg(long, value_name = "PATTERN")]
    freeze: Vec<String>,
}

/// What is cut during training.
#[derive(Args, Debug)]
struct Pruning {
    #[command(flatten)]
    target: Option<Goal>,
    /// Steps between two cuts.
    #[arg(long, value_name = "N", default_value_t = 200, help_heading = "Target")]
    prune_every: u64,
    /// The number of cuts.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Target")]
    prune_times: usize,
    /// Lower the rates of dropouts by the part of their units that is cut.
    #[arg(long, help_heading = "Target")]
    scale_dropout: bool,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    measuring: Measuring,
}

/// What is learned from another model.
#[derive(Args, Debug)]
#[command(next_help_heading = "Distillation")]
struct Teaching {
    /// A model whose outputs are learned, too.
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,
    /// What the logits of both are divided by.
    #[arg(long, value_name = "T", default_value_t = 4.0, requires = "teacher")]
    temperature: f64,
    /// The part of the loss that the teacher's outputs have.
    #[arg(long, value_name = "PART", default_value_t = 0.9, requires = "teacher")]
    teacher_weight: f64,
    /// Values that shall be alike: the student's and the teacher's. Repeatable.
    #[arg(long, value_name = "VALUE=VALUE", value_parser = pair, requires = "teacher")]
    feature: Vec<(String, String)>,
    /// What the difference of features is multiplied with.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "teacher")]
    feature_weight: f64,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (left, right) = text.split_once('=').unwrap_or((text, text));
    Ok((left.to_string(), right.to_string()))
}

fn optimizers() -> impl TypedValueParser<Value = Optimizer> {
    let named = |name: String| Optimizer::named(&name).ok_or("no such optimizer");
    PossibleValuesParser::new(Optimizer::NAMES).try_map(named)
}

fn decays() -> impl TypedValueParser<Value = Decay> {
    let named = |name: String| Decay::named(&name).ok_or("no such schedule");
    PossibleValuesParser::new(Decay::NAMES).try_map(named)
}

/// Trains.
pub fn run(args: &Train) -> Result<Output> {
    let start = Instant::now();
    let (mut trainer, state) = args.start()?;
    place::check_output(trainer.model(), &args.output)?;
    args.check_frozen(&trainer)?;
    let (data, evaluation) = args.data()?;
    args.teach(&mut trainer)?;
    let mut log = args.log.as_deref().map(Log::create).transpose()?;
    let shown = Shown::new(args.quiet || args.source.json);
    let before = trainer.model().cost().now();
    let mut watch = |event: &Event<'_>| {
        shown.tell(event);
        log.iter_mut().for_each(|log| log.tell(event));
    };
    let state = fit(&mut trainer, &data, evaluation.as_ref(), &args.options(), state, &mut watch)?;
    shown.end();
    log.map(Log::finish).transpose()?;
    let saved = trainer.save(&args.output)?;
    if let Some(folder) = &args.checkpoint {
        checkpoint::write(folder, &trainer, &state)?;
    }
    let found = state.epochs.last().and_then(|epoch| epoch.evaluation);
    let after = trainer.model().cost().now();
    if args.source.json {
        return Output::json(&json!({
            "steps": trainer.steps(),
            "epochs": state.epochs,
            "cuts": state.cuts,
            "evaluation": found,
            "parameters": { "before": before.parameters, "after": after.parameters },
            "macs": { "before": before.macs, "after": after.macs },
            "output": args.output.display().to_string(),
            "bytes": saved.bytes,
            "milliseconds": start.elapsed().as_millis() as u64,
        }));
    }
    let mut text = String::new();
    if !args.quiet {
        let time = number::duration(start.elapsed().as_millis() as f64);
        text = format!("Trained {} steps in {time}", trainer.steps());
        if let Some(found) = found {
            text += &format!(": loss {:.4}", found.loss);
            let accuracy = found.accuracy.map(number::percent);
            text += &accuracy.map_or(String::new(), |share| format!(", accuracy {share}"));
        }
        let (small, large) = (number::count(after.parameters), number::count(before.parameters));
        text += &format!(".\nParameters: {large} -> {small}\n");
        text += &format!("MACs: {} -> {}\n", number::count(before.macs), number::count(after.macs));
        text += &format!("Wrote {} ({})", args.output.display(), number::bytes(saved.bytes));
    }
    Ok(Output::text(text))
}

impl Train {
    /// The trainer, and where its run stands.
    fn start(&self) -> Result<(Trainer<Cpu>, State)> {
        let last = match (&self.checkpoint, self.resume) {
            (Some(folder), true) => Checkpoint::last(folder)?,
            _ => None,
        };
        let options = self.train_options()?;
        let source = self.source.open()?;
        let Some(last) = last else {
            return Ok((engine::trainer(source, options)?, State::default()));
        };
        let now = source.cost().now();
        let cost = [now.parameters, now.bytes, now.macs];
        if last.original().is_some_and(|original| original != cost) {
            let text = format!("the checkpoints are not of `{}`", source.path().display());
            return Err(Error::argument(text).hint("name another folder with `--checkpoint`"));
        }
        let model = Model::open(&last.model(), &self.source.hints()?)?;
        let mut trainer = engine::trainer(model, options)?;
        let state = last.restore(&mut trainer)?;
        Ok((trainer, state))
    }

    /// Samples to train on, and to evaluate on.
    fn data(&self) -> Result<(Samples, Option<Samples>)> {
        let data = self.data.open(self.seed())?;
        Ok(match (&self.eval_data, self.eval_split) {
            (Some(path), _) => (data, Some(self.data.open_other(path)?)),
            (None, Some(fraction)) => {
                let (held, rest) = split(data, fraction, self.seed());
                (rest, Some(held))
            }
            (None, None) => (data, None),
        })
    }

    fn teach(&self, trainer: &mut Trainer<Cpu>) -> Result<()> {
        let Teaching { teacher, temperature, teacher_weight, feature, feature_weight } =
            &self.teaching;
        let Some(path) = teacher else { return Ok(()) };
        let options = TeacherOptions {
            temperature: *temperature,
            weight: *teacher_weight,
            features: feature.clone(),
            feature_weight: *feature_weight,
        };
        let model = Model::open(path, &self.source.hints()?)?;
        trainer.learn_from(Teacher::new(&model, options, &Default::default())?)
    }

    fn seed(&self) -> u64 {
        self.pruning.scoring.seed()
    }

    fn train_options(&self) -> Result<TrainOptions> {
        let training = &self.training;
        let optimizer = match training.optimizer {
            Optimizer::Sgd { .. } => {
                Optimizer::Sgd { momentum: training.momentum, nesterov: training.nesterov }
            }
            other => other,
        };
        let loss = match training.judging.loss {
            Loss::CrossEntropy { .. } => Loss::CrossEntropy { smoothing: training.label_smoothing },
            other => other,
        };
        training.freeze.iter().try_for_each(|text| Pattern::new(text).map(drop))?;
        let patterns = training.freeze.clone();
        Ok(TrainOptions {
            loss,
            optimizer,
            decay: training.weight_decay,
            clip: training.clip,
            seed: self.seed(),
            scale_dropout: self.pruning.scale_dropout,
            frozen: Arc::new(move |name| {
                patterns.iter().any(|text| Pattern::new(text).is_ok_and(|p| p.matches(name)))
            }),
        })
    }

    /// What is named to be frozen has to be there.
    fn check_frozen(&self, trainer: &Trainer<Cpu>) -> Result<()> {
        let params = &trainer.model().graph().params;
        let names = || params.iter().map(|param| param.name.as_str()).collect();
        self.training.freeze.iter().try_for_each(|text| Pattern::new(text)?.check(names()))
    }

    fn options(&self) -> FitOptions {
        let (training, pruning) = (&self.training, &self.pruning);
        let cut = pruning.target.as_ref().map(|target| CutOptions {
            select: pruning.choice.options(target.plain()),
            ranking: pruning
                .measuring
                .ranking(pruning.scoring.criterion, &pruning.scoring.options()),
            every: pruning.prune_every,
            times: pruning.prune_times,
            growth: pruning.choice.schedule,
            batches: pruning.measuring.score_samples.div_ceil(training.batch_size.max(1)),
        });
        FitOptions {
            epochs: training.epochs,
            batch_size: training.batch_size,
            rate: training.lr,
            decay: training.lr_schedule,
            warmup: training.warmup,
            seed: self.seed(),
            patience: training.patience,
            mixing: training.mixup.map(Mixing::Mixup).or(training.cutmix.map(Mixing::CutMix)),
            cut,
            checkpoint: self
                .checkpoint
                .clone()
                .map(|folder| (folder, self.checkpoint_every.max(1))),
        }
    }
}

/// A log of JSON lines.
struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    error: Option<std::io::Error>,
}

impl Log {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| Error::io(path, error))?;
        Ok(Log { path: path.to_owned(), file: BufWriter::new(file), error: None })
    }

    fn tell(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Step(record) => json!({ "step": record }),
            Event::Epoch(record) => json!({ "epoch": record }),
            Event::Cut(record) => json!({ "cut": record }),
            Event::Saved(step) => json!({ "checkpoint": step }),
        };
        let flush = !matches!(event, Event::Step(_));
        let written = writeln!(self.file, "{line}");
        let written = if flush { written.and_then(|()| self.file.flush()) } else { written };
        self.error = self.error.take().or(written.err());
    }

    fn finish(mut self) -> Result<()> {
        let flushed = self.file.flush().err();
        match self.error.or(flushed) {
            None => Ok(()),
            Some(error) => Err(Error::io(&self.path, error)),
        }
    }
}

/// What is shown on stderr meanwhile: a bar on a terminal, a line per epoch and cut elsewhere.
struct Shown {
    bar: ProgressBar,
    quiet: bool,
}

impl Shown {
    fn new(quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps, {msg}, {elapsed} gone, {eta} left",
        );
        let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
        bar.enable_steady_tick(Duration::from_millis(200));
        Shown { bar, quiet }
    }

    fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Step(record) => {
                self.bar.set_length(record.steps);
                self.bar.set_position(record.step);
                let accuracy = record.accuracy.map(number::percent).unwrap_or_default();
                self.bar.set_message(format!("loss {:.4} {accuracy}", record.loss));
            }
            Event::Epoch(record) => {
                let shown = |loss: f64, accuracy: Option<f64>| {
                    let accuracy = accuracy.map(|share| format!(", {}", number::percent(share)));
                    format!("loss {loss:.4}{}", accuracy.unwrap_or_default())
                };
                let mut line =
                    format!("epoch {}: {}", record.epoch, shown(record.loss, record.accuracy));
                if let Some(found) = record.evaluation {
                    line += &format!("; evaluation {}", shown(found.loss, found.accuracy));
                }
                self.line(&line);
            }
            Event::Cut(record) => {
                let change = |(before, after)| number::change(before, after);
                let (parameters, macs) = (change(record.parameters), change(record.macs));
                self.line(&format!(
                    "step {}: cut, parameters {parameters}, MACs {macs}",
                    record.step
                ));
            }
            Event::Saved(_) => {}
        }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        self.bar.suspend(|| {
            // There is nowhere to tell that stderr is closed.
            let _ = writeln!(anstream::stderr(), "{text}");
        });
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
