//! How PyTorch spells contractions.

use super::{Contract, equation};
use crate::graph::ValueId;
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.linear", |cx| {
        let mut operands = vec![Some(cx.tensor("input")?), Some(cx.tensor("weight")?)];
        operands.extend(cx.optional("bias")?.map(Some));
        cx.node_over(Contract::Linear, operands)
    }),
    ("aten.matmul", |cx| product(cx, ["self", "other"])),
    ("aten.mm", |cx| product(cx, ["self", "mat2"])),
    ("aten.bmm", |cx| product(cx, ["self", "mat2"])),
    ("aten.mv", |cx| product(cx, ["self", "vec"])),
    ("aten.dot", |cx| product(cx, ["self", "tensor"])),
    ("aten.vdot", |cx| product(cx, ["self", "other"])),
    ("aten.addmm", |cx| {
        let operands = [cx.tensor("mat1")?, cx.tensor("mat2")?, cx.tensor("self")?];
        cx.node(Contract::Gemm { transpose_a: false, transpose_b: false }, &operands)
    }),
    ("aten.baddbmm", |cx| {
        let operands = [cx.tensor("batch1")?, cx.tensor("batch2")?];
        let made = cx.emit(Contract::MatMul, &operands)?;
        let term = cx.tensor("self")?;
        added(cx, made, Some(term))
    }),
    ("aten.addmv", |cx| {
        let operands = [cx.tensor("mat")?, cx.tensor("vec")?];
        let made = cx.emit(Contract::MatMul, &operands)?;
        let term = cx.tensor("self")?;
        added(cx, made, Some(term))
    }),
    ("aten._trilinear", decode_trilinear),
    ("aten.bilinear", |cx| {
        let operands = [cx.tensor("input1")?, cx.tensor("weight")?, cx.tensor("input2")?];
        let data = cx.shape(operands[0])?.len();
        let lead = data.checked_sub(1).ok_or_else(|| Error::malformed("data without an axis"))?;
        let lead: String = ('a'..'t').take(lead).collect();
        let text = format!("{lead}x,zxy,{lead}y->{lead}z");
        let ranks = [data, 3, data];
        let made = cx.emit(equation(&text, &ranks)?, &operands)?;
        let term = cx.optional("bias")?;
        added(cx, made, term)
    }),
    ("aten.einsum", decode_einsum),
];

/// The result, with a term that is added, if there is one.
fn added(cx: &mut Decoder<'_, '_>, made: ValueId, term: Option<ValueId>) -> Result<()> {
    match term {
        Some(term) => cx.node(Elementwise { zeros: Zeros::AllKept, results: 1 }, &[made, term]),
        None => {
            cx.bind(0, made);
            Ok(())
        }
    }
}

fn product(cx: &mut Decoder<'_, '_>, names: [&str; 2]) -> Result<()> {
    let operands = [cx.tensor(names[0])?, cx.tensor(names[1])?];
    cx.node(Contract::MatMul, &operands)
}

/// A product of three tensors, each spread over axes that it lacks, summed up along some.
fn decode_trilinear(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let mut terms = Vec::new();
    let (mut operands, mut ranks) = (Vec::new(), Vec::new());
    let mut rank = 0;
    for place in 1..4 {
        let operand = cx.tensor(["i1", "i2", "i3"][place - 1])?;
        let lacks = cx.ints(["expand1", "expand2", "expand3"][place - 1])?.unwrap_or_default();
        ranks.push(cx.shape(operand)?.len());
        rank = ranks[place - 1] + lacks.len();
        operands.push(Some(operand));
        terms.push(lacks);
    }
    let summed = cx.ints("sumdim")?.unwrap_or_default();
    let letters = |without: &[i64]| -> String {
        let axes = ('a'..='z').enumerate().take(rank);
        axes.filter(|(axis, _)| !without.contains(&(*axis as i64))).map(|(_, name)| name).collect()
    };
    let terms = terms.iter().map(|lacks| letters(lacks)).collect::<Vec<_>>().join(",");
    let text = format!("{terms}->{}", letters(&summed));
    cx.node_over(equation(&text, &ranks)?, operands)
}

fn decode_einsum(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let text = cx.string("equation").ok_or_else(|| Error::malformed("no `equation`"))?;
    let operands = cx.tensors("tensors")?;
    let ranks = operands.iter().map(|operand| match operand {
        Some(value) => cx.shape(*value).map(|shape| shape.len()),
        None => Err(Error::malformed("an omitted operand")),
    });
    let contract = equation(text, &ranks.collect::<Result<Vec<usize>>>()?)?;
    cx.node_over(contract, operands)
}
