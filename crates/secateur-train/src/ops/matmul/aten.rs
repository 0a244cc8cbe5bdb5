//! How PyTorch spells products of matrices.

use super::{Einsum, Gemm, GroupedProduct, MatMul};
use crate::ops::reduce::{Reduce, Reduction};
use crate::torch::{Call, Decode, Sort};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.linear", |call| {
        let gemm = Gemm { left: false, right: true, alpha: 1.0, beta: 1.0 };
        let operands =
            vec![Some(call.float("input")?), Some(call.float("weight")?), call.optional("bias")?];
        call.make_over(gemm, operands)
    }),
    ("aten.matmul", |call| product(call, ["self", "other"])),
    ("aten.mm", |call| product(call, ["self", "mat2"])),
    ("aten.bmm", |call| product(call, ["self", "mat2"])),
    ("aten._grouped_mm", |call| {
        let Some(ends) = call.optional("offs")? else { return product(call, ["self", "mat2"]) };
        if call.has("bias") {
            return Err(Error::unsupported("a bias of every group"));
        }
        let operands = [call.float("self")?, call.float("mat2")?, ends];
        call.make(GroupedProduct, &operands)
    }),
    ("aten.mv", |call| product(call, ["self", "vec"])),
    ("aten.dot", |call| product(call, ["self", "tensor"])),
    ("aten.vdot", |call| product(call, ["self", "other"])),
    ("aten.addmm", |call| sum(call, ["mat1", "mat2"])),
    ("aten.addmv", |call| sum(call, ["mat", "vec"])),
    ("aten.baddbmm", |call| sum(call, ["batch1", "batch2"])),
    ("aten.addbmm", |call| {
        let (alpha, beta) = (call.number_or("alpha", 1.0)?, call.number_or("beta", 1.0)?);
        if (alpha, beta) != (1.0, 1.0) {
            return Err(Error::unsupported("factors of the terms"));
        }
        let operands = [call.float("batch1")?, call.float("batch2")?];
        let each = call.emit(MatMul, &operands);
        let reduce = Reduce { kind: Reduction::Sum, axes: Some(vec![0]), keep: false, none: false };
        let all = call.emit(reduce, &[each]);
        let term = call.float("self")?;
        call.make(crate::ops::elementwise::Binary::Add, &[term, all])
    }),
    ("aten.einsum", |call| {
        let equation = call.text("equation").unwrap_or_default();
        let operands = call.tensors("tensors")?;
        if call.sorts("tensors")?.iter().any(|sort| *sort != Some(Sort::Float)) {
            return Err(Error::unsupported("a product of integers"));
        }
        call.make_over(Einsum::parse(equation)?, operands)
    }),
];

fn product(call: &mut Call<'_, '_>, names: [&str; 2]) -> Result<()> {
    let sort = call.sort(names[0])?;
    let operands = [call.operand(names[0], sort)?, call.operand(names[1], sort)?];
    call.make(MatMul, &operands)
}

fn sum(call: &mut Call<'_, '_>, names: [&str; 2]) -> Result<()> {
    let (alpha, beta) = (call.number_or("alpha", 1.0)?, call.number_or("beta", 1.0)?);
    let operands = [call.float(names[0])?, call.float(names[1])?, call.float("self")?];
    call.make(Gemm { left: false, right: false, alpha, beta }, &operands)
}
