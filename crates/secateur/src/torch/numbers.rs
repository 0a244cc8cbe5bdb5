//! Calls that compute with sizes.

use super::import::{Importer, operator, overload};
use super::schema::{Argument, Node};
use crate::Result;
use crate::size::{Binary, Expr, ExprId, Literal, Scalar, Unary};

/// Operators of two integers, by the name that Python or PyTorch has for them.
const BINARY: &[(&str, Binary)] = &[
    ("_operator.add", Binary::Add),
    ("_operator.sub", Binary::Sub),
    ("_operator.mul", Binary::Mul),
    ("_operator.mod", Binary::Mod),
    ("_operator.pow", Binary::Pow),
    ("_operator.truediv", Binary::Div),
    ("torch.sym_max", Binary::Max),
    ("torch.sym_min", Binary::Min),
];

/// The names under which two operands are written.
const OPERANDS: [&str; 2] = ["a", "b"];

/// The number that a call makes; `None` for one that is not known.
pub(super) fn evaluate(
    importer: &mut Importer<'_>,
    index: u32,
    node: &Node,
) -> Result<Option<ExprId>> {
    let name = operator(&node.target);
    if name == "aten.sym_size" && overload(&node.target) == "int" {
        return size_of(importer, node);
    }
    if name == "aten.sym_numel" {
        return element_count(importer, node);
    }
    let operands = operands(importer, index, node)?;
    match (name, operands.as_slice()) {
        ("_operator.neg", &[a]) => Ok(add(importer, Expr::Unary(Unary::Neg, a))),
        ("_operator.floordiv", &[a, b]) => {
            // Truncated as it is floored, where nothing is negative.
            let positive = |expr| importer.graph.scalar(expr).is_some_and(|s| s.float() >= 0.0);
            if positive(a) && positive(b) {
                return Ok(add(importer, Expr::Binary(Binary::Div, a, b)));
            }
            Ok(None)
        }
        (name, &[a, b]) => match BINARY.iter().find(|entry| entry.0 == name) {
            Some(&(_, op)) => {
                let exact = op != Binary::Div || divides(importer, a, b);
                Ok(if exact { add(importer, Expr::Binary(op, a, b)) } else { None })
            }
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// An expression that is small enough, and has a value.
fn add(importer: &mut Importer<'_>, expr: Expr) -> Option<ExprId> {
    let expr = importer.graph.sizes.add(expr);
    let usable = !importer.graph.sizes.is_too_large(expr) && importer.graph.scalar(expr).is_some();
    usable.then_some(expr)
}

fn divides(importer: &Importer<'_>, a: ExprId, b: ExprId) -> bool {
    let int = |expr| importer.graph.scalar(expr).and_then(Scalar::int);
    matches!((int(a), int(b)), (Some(a), Some(b)) if b != 0 && a % b == 0)
}

fn size_of(importer: &mut Importer<'_>, node: &Node) -> Result<Option<ExprId>> {
    let tensor = node.argument("self").map(|argument| &argument.value);
    let axis = node.argument("dim").map(|argument| &argument.value);
    let (Some(Argument::Tensor(name)), Some(Argument::Int(super::schema::Int::Number(axis)))) =
        (tensor, axis)
    else {
        return Ok(None);
    };
    let value = importer.tensor(name)?;
    let Ok(axis) = crate::ops::axis(*axis, importer.graph.shape(value).len()) else {
        return Ok(None);
    };
    Ok(Some(importer.graph.sizes.add(Expr::Dim(value, axis as u32))))
}

fn element_count(importer: &mut Importer<'_>, node: &Node) -> Result<Option<ExprId>> {
    let Some(Argument::Tensor(name)) = node.argument("self").map(|argument| &argument.value) else {
        return Ok(None);
    };
    let value = importer.tensor(name)?;
    if importer.graph.value(value).shape.is_none() {
        return Ok(None);
    }
    let mut product = importer.graph.sizes.int(1);
    for axis in 0..importer.graph.shape(value).len() {
        let size = importer.graph.sizes.add(Expr::Dim(value, axis as u32));
        let Some(larger) = add(importer, Expr::Binary(Binary::Mul, product, size)) else {
            return Ok(None);
        };
        product = larger;
    }
    Ok(Some(product))
}

/// The integers that a call takes; none where it takes something else.
fn operands(importer: &mut Importer<'_>, index: u32, node: &Node) -> Result<Vec<ExprId>> {
    let mut exprs = Vec::new();
    for argument in &node.arguments {
        let Argument::Int(int) = &argument.value else { return Ok(Vec::new()) };
        let Some(name) = OPERANDS.into_iter().find(|name| *name == argument.name) else {
            return Ok(Vec::new());
        };
        exprs.push(importer.expr(int, Literal::Attribute { node: index, name, index: 0 })?);
    }
    Ok(exprs)
}
