//! How PyTorch spells recurrent layers: all layers and directions in one call, with their weights in a
//! list.

use super::{Activation, Cell, Direction, Recurrent, Reset};
use crate::ops::elementwise::{Dropout, Unary};
use crate::ops::index::Gather;
use crate::ops::part::Part;
use crate::ops::shape::{Concat, Reshape, Transpose};
use crate::ops::view::View;
use crate::torch::{Call, Decode};
use crate::{Error, Result, Slot};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.lstm", |call| decode(call, &lstm())),
    ("aten.gru", |call| decode(call, &gru())),
    ("aten.rnn_tanh", |call| decode(call, &plain(Unary::Tanh))),
    ("aten.rnn_relu", |call| decode(call, &plain(Unary::Relu))),
    ("aten.lstm_cell", |call| decode_cell(call, &lstm())),
    ("aten.gru_cell", |call| decode_cell(call, &gru())),
    ("aten.rnn_tanh_cell", |call| decode_cell(call, &plain(Unary::Tanh))),
    ("aten.rnn_relu_cell", |call| decode_cell(call, &plain(Unary::Relu))),
];

fn lstm() -> Kind {
    let tanh = Activation::Plain(Unary::Tanh);
    let gates = vec![Activation::Plain(Unary::Sigmoid), tanh, tanh];
    Kind { cell: Cell::Lstm, activations: gates, order: &[0, 3, 1, 2] }
}

fn gru() -> Kind {
    let gates = [Unary::Sigmoid, Unary::Tanh].map(Activation::Plain).to_vec();
    Kind { cell: Cell::Gru(Reset::After), activations: gates, order: &[1, 0, 2] }
}

fn plain(function: Unary) -> Kind {
    Kind { cell: Cell::Plain, activations: vec![Activation::Plain(function)], order: &[0] }
}

/// What a layer is made of.
struct Kind {
    cell: Cell,
    activations: Vec<Activation>,
    /// The gates in the order of [`Recurrent`], as PyTorch counts them.
    order: &'static [i64],
}

/// Tensors on top of each other.
fn stacked(call: &mut Call<'_, '_>, parts: &[Slot]) -> Slot {
    let unsqueeze = Reshape::Unsqueeze(Some(vec![0]));
    let parts: Vec<Slot> =
        parts.iter().map(|&part| call.emit(unsqueeze.clone(), &[part])).collect();
    joined(call, 0, &parts)
}

fn joined(call: &mut Call<'_, '_>, axis: i64, parts: &[Slot]) -> Slot {
    match parts {
        [part] => *part,
        parts => call.emit(Concat { axis }, parts),
    }
}

impl Kind {
    /// A weight or bias with its gates in order.
    fn arranged(&self, call: &mut Call<'_, '_>, weight: Slot) -> Slot {
        if self.order.len() == 1 {
            return weight;
        }
        let parts = call.integers(&[self.order.len() as i64, -1]);
        let gates = call.emit(View::Unflatten(0), &[weight, parts]);
        let order = call.integers(self.order);
        let gates = call.emit(Gather { axis: 0 }, &[gates, order]);
        call.emit(View::Flatten(0, 1), &[gates])
    }

    /// Kernel, recurrent kernel and bias of all directions of a layer.
    fn weights(&self, call: &mut Call<'_, '_>, params: &[&[Slot]]) -> [Option<Slot>; 3] {
        let mut pick = |index: usize| -> Vec<Slot> {
            params.iter().map(|params| self.arranged(call, params[index])).collect()
        };
        let (kernels, loops) = (pick(0), pick(1));
        let biases = (params[0].len() > 2).then(|| (pick(2), pick(3)));
        let bias = biases.map(|(near, far)| {
            let near = near.into_iter().zip(far);
            let both: Vec<Slot> = near.map(|(near, far)| joined(call, 0, &[near, far])).collect();
            stacked(call, &both)
        });
        [Some(stacked(call, &kernels)), Some(stacked(call, &loops)), bias]
    }
}

/// The initial states: of an LSTM two, in a list.
fn states(call: &mut Call<'_, '_>, cell: Cell) -> Result<Vec<Slot>> {
    match cell {
        Cell::Lstm => Ok(call.tensors("hx")?.into_iter().flatten().collect()),
        _ => Ok(vec![call.tensor("hx")?]),
    }
}

/// One step of one layer.
fn decode_cell(call: &mut Call<'_, '_>, kind: &Kind) -> Result<()> {
    if call.rank("input")? != 2 {
        return Err(Error::unsupported("data without a batch axis"));
    }
    let states = states(call, kind.cell)?;
    let mut params = vec![call.tensor("w_ih")?, call.tensor("w_hh")?];
    params.extend(call.optional("b_ih")?);
    params.extend(call.optional("b_hh")?);
    let x = call.float("input")?;
    let mut operands = vec![Some(stacked(call, &[x]))];
    operands.extend(kind.weights(call, &[&params]));
    operands.push(None);
    for state in &states {
        operands.push(Some(stacked(call, &[*state])));
    }
    let made = call.emit_several(1 + states.len(), kind.layer(1), operands);
    for (index, &state) in made[1..].iter().enumerate() {
        let state = call.emit(Reshape::Squeeze(Some(vec![0])), &[state]);
        call.bind(index, state);
    }
    Ok(())
}

fn decode(call: &mut Call<'_, '_>, kind: &Kind) -> Result<()> {
    if call.overload() != "input" {
        return Err(Error::unsupported("sequences of different lengths"));
    }
    if call.rank("input")? != 3 {
        return Err(Error::unsupported("data without a batch axis"));
    }
    let params: Vec<Slot> = call.tensors("params")?.into_iter().flatten().collect();
    let states = states(call, kind.cell)?;
    let directions = if call.flag("bidirectional", false) { 2 } else { 1 };
    let each = if call.flag("has_biases", true) { 4 } else { 2 };
    let layers = usize::try_from(call.int("num_layers", 1)?).unwrap_or(0);
    if params.len() != layers * directions * each || layers == 0 {
        return Err(Error::unsupported("weights that are projected"));
    }
    let rate = call.number_or("dropout", 0.0)?;
    let first = call.flag("batch_first", false);
    let mut x = call.float("input")?;
    if first {
        x = call.emit(Transpose { order: vec![1, 0, 2] }, &[x]);
    }
    let mut last = vec![Vec::new(); states.len()];
    for layer in 0..layers {
        if layer > 0 && rate > 0.0 {
            x = call.emit(Dropout { rate, scale: 1.0 }, &[x]);
        }
        let own = &params[layer * directions * each..(layer + 1) * directions * each];
        let weights = kind.weights(call, &own.chunks(each).collect::<Vec<_>>());
        let mut operands = [vec![Some(x)], weights.to_vec(), vec![None]].concat();
        for &state in &states {
            let (start, end) = (layer * directions, (layer + 1) * directions);
            let bounds = [call.integer(start as i64), call.integer(end as i64)];
            operands.push(Some(call.emit(Part::Slice(0, 1), &[state, bounds[0], bounds[1]])));
        }
        let made = call.emit_all(kind.layer(directions), operands);
        x = call.emit(Transpose { order: vec![0, 2, 1, 3] }, &[made[0]]);
        x = call.emit(View::Flatten(2, 3), &[x]);
        last.iter_mut().zip(&made[1..]).for_each(|(last, &state)| last.push(state));
    }
    if first {
        x = call.emit(Transpose { order: vec![1, 0, 2] }, &[x]);
    }
    call.bind(0, x);
    for (index, states) in last.iter().enumerate() {
        let states = joined(call, 0, states);
        call.bind(index + 1, states);
    }
    Ok(())
}

impl Kind {
    fn layer(&self, directions: usize) -> Recurrent {
        let ways = [Direction::Forward, Direction::Backward].into_iter().take(directions);
        Recurrent {
            cell: self.cell,
            directions: ways.map(|way| (way, self.activations.clone())).collect(),
            batch_first: false,
            clip: None,
            coupled: false,
            rounds: false,
        }
    }
}
