//! Calls that compute with sizes: integers are tensors without axes.

use secateur::torch::{Argument, Node};

use super::Compiler;
use crate::ops::elementwise::{Binary, Unary};
use crate::ops::shape::{Reshape, Shape};
use crate::ops::{self, Op};
use crate::{Error, Result, Slot};

/// Operators of two integers, by the name that Python or PyTorch has for them.
const BINARY: &[(&str, Binary)] = &[
    ("_operator.add", Binary::Add),
    ("_operator.sub", Binary::Sub),
    ("_operator.mul", Binary::Mul),
    ("_operator.mod", Binary::Mod),
    ("_operator.pow", Binary::Pow),
    ("torch.sym_max", Binary::Max),
    ("torch.sym_min", Binary::Min),
];

/// The integer that a call makes.
pub(super) fn evaluate(compiler: &mut Compiler<'_>, node: &Node) -> Result<Slot> {
    match node.operator() {
        "aten.sym_size" => size_of(compiler, node),
        "aten.sym_numel" => {
            let data = tensor(compiler, node)?;
            Ok(compiler.builder.emit(Shape::Count, vec![Some(data)]))
        }
        "aten.item" | "aten._local_scalar_dense" => {
            let data = tensor(compiler, node)?;
            let flat = compiler.builder.emit(ops::view::View::Scalar, vec![Some(data)]);
            Ok(compiler.builder.emit(ops::elementwise::Cast::Int, vec![Some(flat)]))
        }
        operator => of_integers(compiler, node, operator),
    }
}

fn tensor(compiler: &mut Compiler<'_>, node: &Node) -> Result<Slot> {
    let Some(Argument::Tensor(name)) = node.given("self") else {
        return Err(Error::unsupported("its operand is no tensor"));
    };
    let id = compiler.tensor(name)?;
    compiler.memory.read(id, &mut compiler.builder)
}

fn size_of(compiler: &mut Compiler<'_>, node: &Node) -> Result<Slot> {
    let (Some(Argument::Tensor(name)), Some(Argument::Int(secateur::torch::Int::Number(axis)))) =
        (node.given("self"), node.given("dim"))
    else {
        return Err(Error::unsupported("an axis that is computed"));
    };
    let rank = compiler.meta(name).map(|meta| meta.sizes().len());
    let rank = rank.ok_or_else(|| Error::unsupported("the shape of its operand is not known"))?;
    let axis = ops::axis(*axis, rank)? as i64;
    let data = tensor(compiler, node)?;
    let size = compiler.builder.emit(Shape::Sizes(axis, axis + 1), vec![Some(data)]);
    Ok(compiler.builder.emit(Reshape::Squeeze(None), vec![Some(size)]))
}

fn of_integers(compiler: &mut Compiler<'_>, node: &Node, operator: &str) -> Result<Slot> {
    let mut operands = Vec::new();
    for (_, argument) in node.arguments() {
        let Argument::Int(int) = argument else {
            return Err(Error::unsupported("an operand that is no integer"));
        };
        operands.push(Some(compiler.int(int)?));
    }
    let mut emit = |op: Op, operands: &[Option<Slot>]| compiler.builder.emit(op, operands.to_vec());
    match operator {
        "_operator.neg" => Ok(emit(Unary::Neg.into(), &operands)),
        "_operator.floordiv" if operands.len() == 2 => {
            let rest = emit(Binary::Mod.into(), &operands);
            let whole = emit(Binary::Sub.into(), &[operands[0], Some(rest)]);
            Ok(emit(Binary::Div.into(), &[Some(whole), operands[1]]))
        }
        operator => match BINARY.iter().find(|entry| entry.0 == operator) {
            Some(&(_, op)) => Ok(emit(op.into(), &operands)),
            None => Err(Error::unsupported("it is not known")),
        },
    }
}
