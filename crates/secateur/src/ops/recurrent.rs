//! Recurrent layers: LSTM, GRU, and the plain one.

mod aten;

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Kind, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// A recurrent layer: data `[t, n, i]`, kernel `[d, q·h, i]`, recurrent kernel `[d, q·h, h]`, bias
/// `[d, 2·q·h]`, lengths `[n]`, initial states `[d, n, h]`, peepholes `[d, 3·h]`, with `d` directions
/// and `q` gates. It makes the states of all steps `[t, d, n, h]` and the last ones `[d, n, h]`.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// What a unit computes.
    pub cell: Cell,
    /// The order of the axes of data, states and results.
    pub layout: Layout,
    /// Whether a unit whose weights are zero stays at zero.
    pub keeps_zero: bool,
    /// The literal that gives the hidden size.
    pub hidden: Option<ExprId>,
}

/// The order of the axes of a [`Recurrent`] layer's data, states and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Steps, then the batch.
    TimeFirst,
    /// The batch comes first.
    BatchFirst,
    /// Steps of sequences of different lengths follow each other, `[t, i]`; initial states are
    /// given.
    Packed,
}

/// What a unit of a [`Recurrent`] layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Input, output, forget and cell gates, and a cell state.
    Lstm,
    /// Update, reset and hidden gates.
    Gru,
    /// One activation.
    Plain,
}

impl Cell {
    fn name(self) -> &'static str {
        match self {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
            Cell::Plain => "rnn",
        }
    }

    fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Plain => 1,
        }
    }

    /// The activations of one direction by default, and which of them a state goes through.
    fn activations(self) -> (&'static [&'static str], &'static [usize]) {
        match self {
            Cell::Lstm => (&["Sigmoid", "Tanh", "Tanh"], &[1, 2]),
            Cell::Gru => (&["Sigmoid", "Tanh"], &[1]),
            Cell::Plain => (&["Tanh"], &[0]),
        }
    }
}

/// The factors of a rule.
struct Factors {
    t: FactorId,
    n: FactorId,
    d: FactorId,
    h: FactorId,
}

impl Recurrent {
    fn data(&self, f: &Factors, i: FactorId) -> Vec<Dim> {
        match self.layout {
            Layout::TimeFirst => vec![f.t.into(), f.n.into(), i.into()],
            Layout::BatchFirst => vec![f.n.into(), f.t.into(), i.into()],
            Layout::Packed => vec![f.t.into(), i.into()],
        }
    }

    fn state(&self, f: &Factors) -> Vec<Dim> {
        let [n, d, h] = [f.n, f.d, f.h].map(Dim::from);
        if self.layout == Layout::BatchFirst { vec![n, d, h] } else { vec![d, n, h] }
    }

    fn states(&self, f: &Factors) -> Vec<Dim> {
        let [t, n, d, h] = [f.t, f.n, f.d, f.h].map(Dim::from);
        match self.layout {
            Layout::TimeFirst => vec![t, d, n, h],
            Layout::BatchFirst => vec![n, t, d, h],
            Layout::Packed => vec![t, d, h],
        }
    }
}

impl Operator for Recurrent {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let (kernel, loops) = (ranked(shapes, 1, 3)?, ranked(shapes, 2, 3)?);
        let (steps, batch, inputs) = match self.layout {
            Layout::Packed => {
                let data = ranked(shapes, 0, 2)?;
                (data[0], ranked(shapes, 5, 3)?[1], data[1])
            }
            layout => {
                let data = ranked(shapes, 0, 3)?;
                let first = usize::from(layout == Layout::BatchFirst);
                (data[first], data[1 - first], data[2])
            }
        };
        let (gates, hidden) = (self.cell.gates(), loops[2].size);
        agree("rows of the kernel and gates", kernel[1].size, gates.saturating_mul(hidden))?;
        let whole = "gates are parts of one axis";
        let mut r = Rule::new(self.cell.name());
        let t = r.fixed("t", steps, "the recurrence runs along it");
        let n = r.free("n", batch);
        let i = r.summed("i", inputs);
        let d = r.fixed("d", kernel[0], "it is the direction of the recurrence");
        let q = r.fixed("q", Extent::fixed(gates), whole);
        let h = r.factor("h", loops[2], Kind::Inner(&[2]));
        let factors = Factors { t, n, d, h };

        r.operand(Use::Data, self.data(&factors, i));
        r.operand(Use::Weight, vec![d.into(), Dim::product([q, h]), i.into()]);
        r.operand(Use::Weight, vec![d.into(), Dim::product([q, h]), h.into()]);
        for (slot, shape) in shapes.iter().enumerate().skip(3) {
            let dims = match slot {
                _ if shape.is_none() => Vec::new(),
                3 => {
                    let sides = r.fixed("2", Extent::fixed(2), whole);
                    vec![d.into(), Dim::product([sides, q, h])]
                }
                4 => vec![n.into()],
                5 | 6 => self.state(&factors),
                _ => {
                    let peepholes = r.fixed("p", Extent::fixed(3), whole);
                    vec![d.into(), Dim::product([peepholes, h])]
                }
            };
            r.operand(if slot == 4 { Use::Data } else { Use::Affine }, dims);
        }
        r.result(self.states(&factors));
        r.result(self.state(&factors));
        if self.cell == Cell::Lstm {
            r.result(self.state(&factors));
        }
        let runs = if self.layout == Layout::Packed { vec![t] } else { vec![t, n] };
        let products = [[d, q, h, i], [d, q, h, h]];
        r.macs = products.map(|product| [&runs[..], &product].concat()).to_vec();
        r.flow = self.flow(shapes);
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let last = sizes.result(0).last().copied();
        let fit =
            |(literal, size)| Fit::new(Place::Attribute("hidden_size"), [literal], vec![size]);
        self.hidden.zip(last).map(fit).into_iter().collect()
    }
}

impl Recurrent {
    /// A unit is zero where its weights, bias and initial states are; its lengths and peepholes
    /// do not matter.
    fn flow(&self, shapes: &Shapes<'_>) -> Flow {
        if !self.keeps_zero {
            return Flow::Break;
        }
        let given = |&slot: &usize| shapes.get(slot).copied().flatten().is_some();
        Flow::product([], [1, 2, 3, 5, 6].into_iter().filter(given).collect::<Vec<_>>())
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("LSTM", |cx| decode(cx, Cell::Lstm)),
    ("GRU", |cx| decode(cx, Cell::Gru)),
    ("RNN", |cx| decode(cx, Cell::Plain)),
];

/// Whether an input is an initial state: layers share the zeros that they start from.
pub(crate) fn is_state(kind: &str, slot: u32) -> bool {
    matches!(slot, 5 | 6) && ONNX.iter().any(|entry| entry.0 == kind)
}

fn decode(cx: &mut Decoder<'_, '_>, cell: Cell) -> Result<()> {
    let slots = if cell == Cell::Lstm { 8 } else { 6 };
    if cx.input_count() > slots {
        return Err(Error::malformed(format!("{} inputs, not {slots}", cx.input_count())));
    }
    let rows = cx.input_shape(1)?.get(1).map_or(0, |extent| extent.size);
    let layer = payload(cx, cell, rows)?;
    cx.node(layer)
}

/// The layer that a node's attributes spell, with a kernel of `rows` rows.
pub(crate) fn payload(cx: &mut Decoder<'_, '_>, cell: Cell, rows: usize) -> Result<Recurrent> {
    let hidden = match cx.int("hidden_size") {
        None => None,
        Some(size) => {
            let wanted = usize::try_from(size).unwrap_or(0).saturating_mul(cell.gates());
            agree("`hidden_size` times gates and rows of the kernel", wanted, rows)?;
            Some(cx.literal("hidden_size", 0, size))
        }
    };
    let batch_first = cx.int("layout").unwrap_or(0) != 0;
    let layout = if batch_first { Layout::BatchFirst } else { Layout::TimeFirst };
    let keeps_zero = keeps_zero(cell, &cx.strings("activations"));
    Ok(Recurrent { cell, layout, keeps_zero, hidden })
}

/// Whether the activations that a state goes through keep zero, in every direction. `names` is
/// empty where they are the default ones.
fn keeps_zero(cell: Cell, names: &[String]) -> bool {
    const KEEPING: [&str; 7] =
        ["Tanh", "Relu", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "Elu", "Softsign"];
    let (default, states) = cell.activations();
    let names: Vec<&str> = match names {
        [] => default.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    let keeps = |name: &&str| KEEPING.iter().any(|keeping| keeping.eq_ignore_ascii_case(name));
    names
        .chunks(default.len())
        .all(|one| states.iter().all(|&place| one.get(place).is_some_and(keeps)))
}
