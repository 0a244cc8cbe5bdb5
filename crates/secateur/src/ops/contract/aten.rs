//! How PyTorch spells contractions.

use super::{Contract, equation};
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
        cx.node(Elementwise { zeros: Zeros::AllKept, results: 1 }, &[made, term])
    }),
    ("aten.einsum", decode_einsum),
];

fn product(cx: &mut Decoder<'_, '_>, names: [&str; 2]) -> Result<()> {
    let operands = [cx.tensor(names[0])?, cx.tensor(names[1])?];
    cx.node(Contract::MatMul, &operands)
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
