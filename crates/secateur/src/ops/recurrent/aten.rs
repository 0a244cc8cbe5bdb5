//! How PyTorch spells recurrent layers: all layers and directions in one call, with their weights
//! in a list.

use super::{Cell, Layout, Recurrent};
use crate::graph::{Extent, Open, ValueId};
use crate::ops::join::{Concat, Cut, Slice};
use crate::ops::reshape::{Reshape, Transpose};
use crate::ops::{Place, agree};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.lstm", |cx| decode(cx, Cell::Lstm)),
    ("aten.gru", |cx| decode(cx, Cell::Gru)),
    ("aten.rnn_tanh", |cx| decode(cx, Cell::Plain)),
    ("aten.rnn_relu", |cx| decode(cx, Cell::Plain)),
    ("aten.lstm_cell", |cx| decode_cell(cx, Cell::Lstm)),
    ("aten.gru_cell", |cx| decode_cell(cx, Cell::Gru)),
    ("aten.rnn_tanh_cell", |cx| decode_cell(cx, Cell::Plain)),
    ("aten.rnn_relu_cell", |cx| decode_cell(cx, Cell::Plain)),
];

/// A tensor with a first axis of size 1.
fn unsqueezed(cx: &mut Decoder<'_, '_>, value: ValueId) -> Result<ValueId> {
    let shape = [vec![Extent::fixed(1)], cx.shape(value)?].concat();
    cx.emit(Reshape::implied(shape), &[value])
}

/// Row `index` of a tensor's first axis, as an axis of size 1.
fn row(cx: &mut Decoder<'_, '_>, value: ValueId, index: usize) -> Result<ValueId> {
    let size = cx.shape(value)?.first().map_or(0, |extent| extent.size);
    if size == 1 {
        return Ok(value);
    }
    let exprs = [cx.constant(index as i64), cx.constant(index as i64 + 1)];
    let bound = |index: usize| (index as i64, index);
    let cut = Cut {
        axis: 0,
        start: bound(index),
        end: bound(index + 1),
        step: 1,
        exprs,
        open: Open::Stated,
    };
    let places = [Place::Attribute("none"); 2];
    cx.emit(Slice { cuts: vec![cut], places }, &[value])
}

/// Both halves of a bias, end to end: `[1, 2·q·h]`.
fn biases(cx: &mut Decoder<'_, '_>, pair: &[ValueId]) -> Result<ValueId> {
    let joined = cx.emit(Concat { axis: 0 }, pair)?;
    unsqueezed(cx, joined)
}

/// The initial states: of an LSTM two, in a list.
fn states(cx: &mut Decoder<'_, '_>, cell: Cell) -> Result<Vec<ValueId>> {
    match cell {
        Cell::Lstm => Ok(cx.tensors("hx")?.into_iter().flatten().collect()),
        _ => Ok(vec![cx.tensor("hx")?]),
    }
}

/// One step of one layer: data `[n, i]`, states `[n, h]`.
fn decode_cell(cx: &mut Decoder<'_, '_>, cell: Cell) -> Result<()> {
    let states = states(cx, cell)?;
    let data = cx.tensor("input")?;
    if cx.shape(data)?.len() != 2 {
        return Err(Error::unsupported("data without a batch axis"));
    }
    let bias = match (cx.optional("b_ih")?, cx.optional("b_hh")?) {
        (Some(one), Some(other)) => Some(biases(cx, &[one, other])?),
        _ => None,
    };
    let mut operands = Vec::new();
    for operand in [data, cx.tensor("w_ih")?, cx.tensor("w_hh")?] {
        operands.push(Some(unsqueezed(cx, operand)?));
    }
    operands.extend([bias, None]);
    for state in states {
        operands.push(Some(unsqueezed(cx, state)?));
    }
    let op = Recurrent { cell, layout: Layout::TimeFirst, keeps_zero: true, hidden: None };
    let results = cx.emit_all(op, operands)?;
    for (slot, &state) in results[1..].iter().enumerate() {
        let shape = cx.shape(state)?[1..].to_vec();
        let state = cx.emit(Reshape::implied(shape), &[state])?;
        cx.bind(slot, state);
    }
    Ok(())
}

fn decode(cx: &mut Decoder<'_, '_>, cell: Cell) -> Result<()> {
    let packed = cx.overload() == "data";
    let params: Vec<ValueId> = cx.tensors("params")?.into_iter().flatten().collect();
    let states = states(cx, cell)?;
    let biased = cx.flag("has_biases", true);
    let layers = usize::try_from(cx.int("num_layers", 1)?).unwrap_or(0);
    let directions = if cx.flag("bidirectional", false) { 2 } else { 1 };
    let each = if biased { 4 } else { 2 };
    agree("weights and layers", params.len(), layers.saturating_mul(directions * each))?;
    let batch_first = cx.flag("batch_first", false);
    let mut data = cx.tensor(if packed { "data" } else { "input" })?;
    if !packed && cx.shape(data)?.len() != 3 {
        return Err(Error::unsupported("data without a batch axis"));
    }
    let layout = if packed { Layout::Packed } else { Layout::TimeFirst };
    if batch_first {
        data = cx.emit(Transpose { order: vec![1, 0, 2] }, &[data])?;
    }
    let mut last: [Vec<ValueId>; 2] = [Vec::new(), Vec::new()];
    for (layer, weights) in params.chunks(directions * each).enumerate() {
        let mut outputs = Vec::new();
        for (direction, weights) in weights.chunks(each).enumerate() {
            let mut operands = vec![Some(data)];
            for &weight in &weights[..2] {
                operands.push(Some(unsqueezed(cx, weight)?));
            }
            let bias = (each == 4).then(|| biases(cx, &weights[2..])).transpose()?;
            operands.extend([bias, None]);
            for &state in &states {
                operands.push(Some(row(cx, state, layer * directions + direction)?));
            }
            let op = Recurrent { cell, layout, keeps_zero: true, hidden: None };
            let results = cx.emit_all(op, operands)?;
            let mut shape = cx.shape(results[0])?;
            shape.remove(1); // of one direction
            outputs.push(cx.emit(Reshape::implied(shape), &results[..1])?);
            for (last, &state) in last.iter_mut().zip(&results[1..]) {
                last.push(state);
            }
        }
        data = match outputs[..] {
            [output] => output,
            _ => cx.emit(Concat { axis: -1 }, &outputs)?,
        };
    }
    if batch_first {
        data = cx.emit(Transpose { order: vec![1, 0, 2] }, &[data])?;
    }
    cx.bind(0, data);
    for (slot, states) in last.iter().enumerate().filter(|(_, states)| !states.is_empty()) {
        let states = match states[..] {
            [state] => state,
            _ => cx.emit(Concat { axis: 0 }, states)?,
        };
        cx.bind(slot + 1, states);
    }
    Ok(())
}
