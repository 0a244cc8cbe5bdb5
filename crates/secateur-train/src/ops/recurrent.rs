//! Recurrent layers: LSTM, GRU, and the plain one.

pub(crate) mod aten;

use super::elementwise::Unary;
use super::quantize::rounded;
use super::{Decode, Inputs, Op, Operator};
use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// What a unit of a [`Recurrent`] layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Input, output, forget and cell gates: Hochreiter & Schmidhuber, 1997, with the forget gate and
    /// the peepholes of Gers et al., 2000.
    Lstm,
    /// Update, reset and hidden gates: Cho et al., 2014. Whether the reset comes after the product
    /// with the recurrent kernel.
    Gru(Reset),
    /// One activation.
    Plain,
}

/// Where the reset gate of a GRU acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// On the state.
    Before,
    /// On the product of the state with the recurrent kernel.
    After,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru(_) => 3,
            Cell::Plain => 1,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Cell::Gru(_) => &["Sigmoid", "Tanh"],
            Cell::Plain => &["Tanh"],
        }
    }
}

/// A function that a gate goes through, with a linear one before or after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// An elementwise function.
    Plain(Unary),
    /// `α·x + β`
    Affine(f64, f64),
    /// `α·tanh(β·x)`
    ScaledTanh(f64, f64),
    /// Bounds.
    Clip(f64, f64),
}

impl Activation {
    pub(crate) fn apply<B: Engine>(self, x: Real<B>) -> Real<B> {
        match self {
            Activation::Clip(low, high) => x.clamp(low, high),
            Activation::Plain(function) => x.apply(function),
            Activation::Affine(alpha, beta) => x * alpha + beta,
            Activation::ScaledTanh(alpha, beta) => (x * beta).apply(Unary::Tanh) * alpha,
        }
    }
}

/// Which way one recurrence runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first step to the last.
    Forward,
    /// From the last step to the first.
    Backward,
}

/// A recurrent layer over data `[t, n, i]`, with the operands of ONNX: kernel `[d, q·h, i]`, recurrent
/// kernel `[d, q·h, h]`, bias `[d, 2·q·h]`, lengths `[n]`, initial states, peepholes `[d, 3·h]`.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// What a unit computes.
    pub cell: Cell,
    /// The directions, each with its activations.
    pub directions: Vec<(Direction, Vec<Activation>)>,
    /// Whether the batch is the first axis of data and states.
    pub batch_first: bool,
    /// The bound of what goes into activations.
    pub clip: Option<f64>,
    /// Whether the forget gate is what the input gate leaves.
    pub coupled: bool,
    /// Whether states are rounded to bytes for products.
    pub rounds: bool,
}

/// The operands of one direction.
struct Weights<B: Engine> {
    /// The recurrent kernel, one gate at a time, as `[h, h]` to multiply from the right.
    kernels: Vec<Real<B>>,
    /// Its bias, one gate at a time.
    biases: Option<Vec<Real<B>>>,
    /// Of the input, output and forget gates.
    peepholes: Option<[Real<B>; 3]>,
}

/// The states of all steps, and the last ones.
struct Run<B: Engine> {
    all: Vec<Real<B>>,
    state: Real<B>,
    cell: Real<B>,
}

impl Operator for Recurrent {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.real(0)?;
        if x.rank() != 3 {
            return Err(Error::malformed(format!("a recurrence over {:?}", x.shape())));
        }
        if self.batch_first {
            x = x.permute(&[1, 0, 2]);
        }
        let (kernel, loops) = (inputs.real(1)?, inputs.real(2)?);
        self.check(&x, &kernel, &loops)?;
        let bias = inputs.optional_real(3)?;
        let masks = masks(inputs.optional(4), x.size(0), x.size(1), cx)?;
        let initial = [inputs.optional_real(5)?, inputs.optional_real(6)?];
        let initial = initial.map(|state| state.map(|state| self.turned(state)));
        let peepholes = inputs.optional_real(7)?;
        let mut runs = Vec::new();
        for (index, (direction, activations)) in self.directions.iter().enumerate() {
            let pick = |t: &Option<Real<B>>| t.clone().map(|t| t.at(0, index));
            let hidden = loops.size(2);
            let start = initial.each_ref().map(|state| {
                let zeros = || Real::zeros(vec![x.size(1), hidden], &cx.device);
                pick(state).unwrap_or_else(zeros)
            });
            let weights = (kernel.clone().at(0, index), loops.clone().at(0, index), pick(&bias));
            let (gates, weights) = self.prepare(x.clone(), weights, pick(&peepholes))?;
            let order: Vec<usize> = match direction {
                Direction::Forward => (0..gates.len()).collect(),
                Direction::Backward => (0..gates.len()).rev().collect(),
            };
            runs.push(self.direction(&gates, &weights, activations, &order, (start, &masks))?);
        }
        self.results(runs)
    }
}

impl Recurrent {
    fn check<B: Engine>(&self, x: &Real<B>, kernel: &Real<B>, loops: &Real<B>) -> Result<()> {
        let (hidden, rows) = (loops.size(2), loops.size(2) * self.cell.gates());
        let expected = [self.directions.len(), rows];
        let fits = kernel.shape() == [&expected[..], &[x.size(2)]].concat()
            && loops.shape() == [&expected[..], &[hidden]].concat();
        match fits {
            true => Ok(()),
            false => {
                let (x, kernel, loops) = (x.shape(), kernel.shape(), loops.shape());
                let text = format!("a recurrence over {x:?} with kernels {kernel:?} and {loops:?}");
                Err(Error::malformed(text))
            }
        }
    }

    /// A state `[d, n, h]`, as it is given or returned where the batch comes first, or back.
    fn turned<B: Engine>(&self, state: Real<B>) -> Real<B> {
        if self.batch_first { state.permute(&[1, 0, 2]) } else { state }
    }

    /// What the data gives to the gates, step by step, and what the recurrence needs.
    #[allow(clippy::type_complexity)]
    fn prepare<B: Engine>(
        &self,
        x: Real<B>,
        (kernel, loops, bias): (Real<B>, Real<B>, Option<Real<B>>),
        peepholes: Option<Real<B>>,
    ) -> Result<(Vec<Vec<Real<B>>>, Weights<B>)> {
        let (gates, hidden, steps) = (self.cell.gates(), loops.size(1), x.size(0));
        let gate = |t: &Real<B>, axis: usize, index: usize| {
            t.clone().part(axis, index * hidden, (index + 1) * hidden)
        };
        let (near, far) = match bias.map(|bias| bias.parts::<2>(0)) {
            Some([near, far]) => (Some(near), Some(far)),
            None => (None, None),
        };
        let mut all = x.matmul(kernel.transpose())?;
        if let Some(near) = near {
            all = all + near;
        }
        let step = |at: usize| {
            let now = all.clone().at(0, at);
            (0..gates).map(|index| gate(&now, 1, index)).collect()
        };
        let weights = Weights {
            kernels: (0..gates).map(|index| gate(&loops, 0, index).transpose()).collect(),
            biases: far.map(|far| (0..gates).map(|index| gate(&far, 0, index)).collect()),
            peepholes: peepholes.map(|peepholes| peepholes.parts::<3>(0)),
        };
        Ok(((0..steps).map(step).collect(), weights))
    }

    #[allow(clippy::type_complexity)]
    fn direction<B: Engine>(
        &self,
        gates: &[Vec<Real<B>>],
        weights: &Weights<B>,
        activations: &[Activation],
        order: &[usize],
        (start, masks): ([Real<B>; 2], &Option<Vec<Real<B>>>),
    ) -> Result<Run<B>> {
        let [mut state, mut cell] = start;
        let mut all: Vec<Option<Real<B>>> = vec![None; gates.len()];
        for &at in order {
            let old = [state.clone(), cell.clone()];
            let [mut new, mut inner] = self.step(&gates[at], weights, activations, old.clone())?;
            let mut shown = new.clone();
            if let Some(mask) = masks.as_ref().map(|masks| &masks[at]) {
                let stay = |new: Real<B>, old: Real<B>| old.clone() + (new - old) * mask.clone();
                shown = shown * mask.clone();
                let [before, within] = old;
                (new, inner) = (stay(new, before), stay(inner, within));
            }
            all[at] = Some(shown);
            (state, cell) = (new, inner);
        }
        Ok(Run { all: all.into_iter().flatten().collect(), state, cell })
    }

    /// The next state, and the next cell state.
    fn step<B: Engine>(
        &self,
        gates: &[Real<B>],
        weights: &Weights<B>,
        activations: &[Activation],
        [state, cell]: [Real<B>; 2],
    ) -> Result<[Real<B>; 2]> {
        let looped = |index: usize, state: &Real<B>| -> Result<Real<B>> {
            let state = if self.rounds { rounded(state.clone())? } else { state.clone() };
            let product = state.matmul(weights.kernels[index].clone())?;
            Ok(match &weights.biases {
                Some(biases) => product + biases[index].clone(),
                None => product,
            })
        };
        let gate = |index: usize| Ok::<_, Error>(gates[index].clone() + looped(index, &state)?);
        let through = |x: Real<B>, which: usize| activations[which].apply(self.bounded(x));
        match self.cell {
            Cell::Plain => Ok([through(gate(0)?, 0), cell]),
            Cell::Gru(reset) => {
                let update = through(gate(0)?, 0);
                let kept = through(gate(1)?, 0);
                let looped = match reset {
                    Reset::Before => looped(2, &(kept * state.clone()))?,
                    Reset::After => kept * looped(2, &state)?,
                };
                let new = through(gates[2].clone() + looped, 1);
                Ok([new.clone() + update * (state - new), cell])
            }
            Cell::Lstm => {
                let peep = |x: Real<B>, which: usize, cell: &Real<B>| match &weights.peepholes {
                    Some(peepholes) => x + peepholes[which].clone() * cell.clone(),
                    None => x,
                };
                let input = through(peep(gate(0)?, 0, &cell), 0);
                let forget = match self.coupled {
                    true => -input.clone() + 1.0,
                    false => through(peep(gate(2)?, 2, &cell), 0),
                };
                let new = forget * cell + input * through(gate(3)?, 1);
                let output = through(peep(gate(1)?, 1, &new), 0);
                Ok([output * activations[2].apply(new.clone()), new])
            }
        }
    }

    fn bounded<B: Engine>(&self, x: Real<B>) -> Real<B> {
        match self.clip {
            Some(clip) => x.clamp(-clip, clip),
            None => x,
        }
    }

    fn results<B: Engine>(&self, runs: Vec<Run<B>>) -> Result<Vec<Value<B>>> {
        let (mut all, mut states, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs {
            all.push(Real::stack(run.all, 0)?);
            states.push(run.state);
            cells.push(run.cell);
        }
        let mut all = Real::stack(all, 1)?;
        if self.batch_first {
            all = all.permute(&[2, 0, 1, 3]);
        }
        let mut results = vec![all.into(), self.turned(Real::stack(states, 0)?).into()];
        if self.cell == Cell::Lstm {
            results.push(self.turned(Real::stack(cells, 0)?).into());
        }
        Ok(results)
    }
}

/// Per step, 1 where a sequence has not ended.
fn masks<B: Engine>(
    lengths: Option<Value<B>>,
    steps: usize,
    batch: usize,
    cx: &Context<B>,
) -> Result<Option<Vec<Real<B>>>> {
    let Some(lengths) = lengths.map(Value::to_ints).transpose()? else { return Ok(None) };
    if lengths.len() != batch {
        let found = lengths.len();
        return Err(Error::malformed(format!("{found} lengths of {batch} sequences")));
    }
    if lengths.iter().all(|&length| length == steps as i64) {
        return Ok(None);
    }
    let mask = |at: usize| {
        let runs = lengths.iter().map(|&length| f32::from((at as i64) < length)).collect();
        Real::of(runs, vec![batch, 1], &cx.device)
    };
    Ok(Some((0..steps).map(mask).collect()))
}

/// How ONNX spells recurrent layers.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("LSTM", |node| decode(node, Cell::Lstm).map(Op::from)),
    ("GRU", |node| {
        let after = node.int("linear_before_reset", 0) != 0;
        decode(node, Cell::Gru(if after { Reset::After } else { Reset::Before })).map(Op::from)
    }),
    ("RNN", |node| decode(node, Cell::Plain).map(Op::from)),
];

/// Reads the attributes of a recurrent layer.
pub(crate) fn decode(node: &Node<'_>, cell: Cell) -> Result<Recurrent> {
    let directions = match node.string("direction").as_deref() {
        None | Some("forward") => vec![Direction::Forward],
        Some("reverse") => vec![Direction::Backward],
        Some("bidirectional") => vec![Direction::Forward, Direction::Backward],
        Some(other) => return Err(Error::malformed(format!("`direction` is `{other}`"))),
    };
    let mut activations = activations(node, cell, directions.len())?.into_iter();
    let count = cell.activations().len();
    let each = |way| (way, activations.by_ref().take(count).collect::<Vec<_>>());
    Ok(Recurrent {
        cell,
        directions: directions.into_iter().map(each).collect(),
        batch_first: node.int("layout", 0) != 0,
        clip: node.has("clip").then(|| node.float("clip", 0.0)).filter(|&clip| clip > 0.0),
        coupled: node.int("input_forget", 0) != 0,
        rounds: false,
    })
}

fn activations(node: &Node<'_>, cell: Cell, directions: usize) -> Result<Vec<Activation>> {
    let names = match node.strings("activations") {
        Some(names) if !names.is_empty() => names,
        _ => cell.activations().repeat(directions).into_iter().map(str::to_owned).collect(),
    };
    let expected = cell.activations().len() * directions;
    if names.len() != expected {
        return Err(Error::malformed(format!("{} activations for {expected}", names.len())));
    }
    let mut alphas = node.floats("activation_alpha").unwrap_or_default().into_iter();
    let mut betas = node.floats("activation_beta").unwrap_or_default().into_iter();
    names.iter().map(|name| named(name, || alphas.next(), || betas.next())).collect()
}

/// An activation by name, which takes as many numbers as it has.
pub(crate) fn named(
    name: &str,
    mut alpha: impl FnMut() -> Option<f64>,
    mut beta: impl FnMut() -> Option<f64>,
) -> Result<Activation> {
    let mut alpha = |default: f64| alpha().unwrap_or(default);
    let mut beta = |default: f64| beta().unwrap_or(default);
    Ok(Activation::Plain(match name.to_lowercase().as_str() {
        "relu" => Unary::Relu,
        "tanh" => Unary::Tanh,
        "sigmoid" => Unary::Sigmoid,
        "softsign" => Unary::Softsign,
        "softplus" => Unary::Softplus,
        "gelu" => Unary::Gelu,
        "hardswish" => Unary::HardSwish,
        "leakyrelu" => Unary::LeakyRelu(alpha(0.01)),
        "thresholdedrelu" => Unary::ThresholdedRelu(alpha(1.0)),
        "elu" => Unary::Elu(alpha(1.0)),
        "hardsigmoid" => Unary::HardSigmoid(alpha(0.2), beta(0.5)),
        "affine" => return Ok(Activation::Affine(alpha(1.0), beta(0.0))),
        "scaledtanh" => return Ok(Activation::ScaledTanh(alpha(1.0), beta(1.0))),
        _ => return Err(Error::unsupported(format!("the activation `{name}`"))),
    }))
}
