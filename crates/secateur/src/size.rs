//! Integer and float expressions over sizes: what a shape subgraph computes, element by element.
//!
//! An expression remembers which dimensions and which literals of the source it was made from, so
//! that after pruning it can be evaluated again, and, where the outcome is no longer the size that
//! is needed, solved for the literal that has to change. Knows nothing of operators or formats.

use std::collections::BTreeMap;

use crate::graph::ValueId;

#[cfg(test)]
mod tests;

/// An expression in a [`Sizes`] arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExprId(u32);

/// Where a literal stands in the source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Literal {
    /// Element `index` of the constant tensor `tensor` (a number the format layer gives).
    Constant {
        /// The constant tensor.
        tensor: u32,
        /// The element, row-major.
        index: u32,
    },
    /// Element `index` of an attribute of a source node (0 for a scalar attribute).
    Attribute {
        /// The source node.
        node: u32,
        /// The attribute's name.
        name: &'static str,
        /// The element.
        index: u32,
    },
    /// Element `index` of an attribute that a call gives to the nodes of a function.
    CallAttribute {
        /// The source node.
        node: u32,
        /// The attribute, by its index in the node.
        attribute: u32,
        /// The element.
        index: u32,
    },
}

/// A number that a shape subgraph computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// An integer or a Boolean (0, 1).
    Int(i64),
    /// A floating-point number.
    Float(f64),
}

impl Scalar {
    /// The integer, if it is one.
    pub fn int(self) -> Option<i64> {
        match self {
            Scalar::Int(value) => Some(value),
            Scalar::Float(_) => None,
        }
    }

    /// Whether two numbers are the same; what is not a number is the same as itself.
    pub fn is(self, other: Scalar) -> bool {
        match (self, other) {
            (Scalar::Float(a), Scalar::Float(b)) => a == b || a.is_nan() && b.is_nan(),
            _ => self == other,
        }
    }

    /// The number as a float.
    pub fn float(self) -> f64 {
        match self {
            Scalar::Int(value) => value as f64,
            Scalar::Float(value) => value,
        }
    }
}

/// One-operand functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Ceil,
    Round,
    Reciprocal,
    Not,
    ToInt,
    ToFloat,
    ToBool,
}

/// Two-operand functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Min,
    Max,
    Pow,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
}

/// One expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expr {
    /// A number, and where the source spells it if it does.
    Number(Scalar, Option<Literal>),
    /// The size of one dimension of a value.
    Dim(ValueId, u32),
    /// A function of one expression.
    Unary(Unary, ExprId),
    /// A function of two expressions.
    Binary(Binary, ExprId, ExprId),
    /// `if a then b else c`.
    Select(ExprId, ExprId, ExprId),
}

/// New values for literals.
pub type Patches = BTreeMap<Literal, i64>;

/// The arena of expressions of one graph.
///
/// Expressions are walked by recursion, so that those that are [too large](Sizes::is_too_large)
/// must not be walked: who builds expressions leaves them out.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    exprs: Vec<Expr>,
    bulks: Vec<Bulk>,
}

/// How much there is to walk under an expression, shared parts counted as often as they are used.
#[derive(Clone, Copy, Debug)]
struct Bulk {
    nodes: u32,
    depth: u32,
}

impl Sizes {
    /// Adds an expression.
    pub fn add(&mut self, expr: Expr) -> ExprId {
        let id = ExprId(u32::try_from(self.exprs.len()).unwrap_or(u32::MAX));
        let under = |parts: &[ExprId]| {
            parts.iter().map(|part| self.bulks[part.0 as usize]).fold(
                Bulk { nodes: 1, depth: 1 },
                |all, part| Bulk {
                    nodes: all.nodes.saturating_add(part.nodes),
                    depth: all.depth.max(part.depth.saturating_add(1)),
                },
            )
        };
        let bulk = match expr {
            Expr::Number(..) | Expr::Dim(..) => under(&[]),
            Expr::Unary(_, a) => under(&[a]),
            Expr::Binary(_, a, b) => under(&[a, b]),
            Expr::Select(a, b, c) => under(&[a, b, c]),
        };
        self.bulks.push(bulk);
        self.exprs.push(expr);
        id
    }

    /// Whether an expression is nested too deeply, or has too many parts, to be walked.
    pub fn is_too_large(&self, id: ExprId) -> bool {
        const MAX_DEPTH: u32 = 256;
        const MAX_NODES: u32 = 4096;
        let Bulk { nodes, depth } = self.bulks[id.0 as usize];
        nodes > MAX_NODES || depth > MAX_DEPTH
    }

    /// Whether expressions have too many parts, all together, to be walked again and again, or the
    /// arena is too full for more of them.
    pub fn are_too_many(&self, ids: &[ExprId]) -> bool {
        const MAX_NODES: u32 = 1 << 16;
        const MAX_EXPRS: usize = 1 << 19;
        let nodes = ids.iter().map(|id| self.bulks[id.0 as usize].nodes);
        nodes.fold(0, u32::saturating_add) > MAX_NODES || self.exprs.len() > MAX_EXPRS
    }

    /// Adds an integer that the source does not spell.
    pub fn int(&mut self, value: i64) -> ExprId {
        self.add(Expr::Number(Scalar::Int(value), None))
    }

    /// The expression behind an id.
    pub fn get(&self, id: ExprId) -> Expr {
        self.exprs[id.0 as usize]
    }

    /// How many expressions there are; with [`Sizes::truncate`], a way to take back additions.
    pub fn len(&self) -> usize {
        self.exprs.len()
    }

    /// Whether there is no expression.
    pub fn is_empty(&self) -> bool {
        self.exprs.is_empty()
    }

    /// Takes back the expressions added since `len` was `len`.
    pub fn truncate(&mut self, len: usize) {
        self.exprs.truncate(len);
        self.bulks.truncate(len);
    }

    /// The value of an expression, with `dim` giving dimensions and `patches` replacing literals.
    /// `None` where it is not defined (division by zero, overflow).
    pub fn eval(
        &self,
        id: ExprId,
        dim: &impl Fn(ValueId, u32) -> Option<i64>,
        patches: &Patches,
    ) -> Option<Scalar> {
        match self.get(id) {
            Expr::Number(value, literal) => {
                let patch = literal.and_then(|literal| patches.get(&literal));
                Some(patch.map_or(value, |&new| Scalar::Int(new)))
            }
            Expr::Dim(value, axis) => dim(value, axis).map(Scalar::Int),
            Expr::Unary(op, a) => unary(op, self.eval(a, dim, patches)?),
            Expr::Binary(op, a, b) => {
                binary(op, self.eval(a, dim, patches)?, self.eval(b, dim, patches)?)
            }
            Expr::Select(c, a, b) => {
                let chosen = if self.eval(c, dim, patches)?.float() != 0.0 { a } else { b };
                self.eval(chosen, dim, patches)
            }
        }
    }

    /// Visits the dimensions and literals that an expression is made of.
    pub fn leaves(&self, id: ExprId, visit: &mut impl FnMut(Expr)) {
        match self.get(id) {
            leaf @ (Expr::Number(..) | Expr::Dim(..)) => visit(leaf),
            Expr::Unary(_, a) => self.leaves(a, visit),
            Expr::Binary(_, a, b) => {
                self.leaves(a, visit);
                self.leaves(b, visit);
            }
            Expr::Select(a, b, c) => {
                self.leaves(a, visit);
                self.leaves(b, visit);
                self.leaves(c, visit);
            }
        }
    }

    /// Finds the one literal that, changed, makes the expression equal to `want`, and its new value.
    pub fn solve(
        &self,
        id: ExprId,
        want: i64,
        dim: &impl Fn(ValueId, u32) -> Option<i64>,
        patches: &Patches,
    ) -> Option<(Literal, i64)> {
        match self.get(id) {
            Expr::Number(Scalar::Int(_), Some(literal)) => Some((literal, want)),
            Expr::Unary(Unary::ToInt, a) => self.solve(a, want, dim, patches),
            Expr::Unary(Unary::Neg, a) => self.solve(a, want.checked_neg()?, dim, patches),
            Expr::Binary(op, a, b) => {
                let value = |e| self.eval(e, dim, patches)?.int();
                let left = value(a).and_then(|a| invert_right(op, a, want));
                let right = value(b).and_then(|b| invert_left(op, b, want));
                left.and_then(|want| self.solve(b, want, dim, patches))
                    .or_else(|| right.and_then(|want| self.solve(a, want, dim, patches)))
            }
            Expr::Select(c, a, b) => {
                let chosen = if self.eval(c, dim, patches)?.float() != 0.0 { a } else { b };
                self.solve(chosen, want, dim, patches)
            }
            Expr::Number(..) | Expr::Dim(..) | Expr::Unary(..) => None,
        }
    }
}

/// `x` with `a op x = want`.
fn invert_right(op: Binary, a: i64, want: i64) -> Option<i64> {
    match op {
        Binary::Add => want.checked_sub(a),
        Binary::Sub => a.checked_sub(want),
        Binary::Mul => exact_div(want, a),
        Binary::Div => exact_div(a, want),
        _ => None,
    }
}

/// `x` with `x op b = want`.
fn invert_left(op: Binary, b: i64, want: i64) -> Option<i64> {
    match op {
        Binary::Add => want.checked_sub(b),
        Binary::Sub => want.checked_add(b),
        Binary::Mul => exact_div(want, b),
        Binary::Div => want.checked_mul(b),
        _ => None,
    }
}

fn exact_div(a: i64, b: i64) -> Option<i64> {
    (a.checked_rem(b)? == 0).then(|| a / b)
}

/// Applies a one-operand function.
pub fn unary(op: Unary, a: Scalar) -> Option<Scalar> {
    use Scalar::{Float, Int};
    Some(match (op, a) {
        (Unary::Neg, Int(a)) => Int(a.checked_neg()?),
        (Unary::Neg, Float(a)) => Float(-a),
        (Unary::Abs, Int(a)) => Int(a.checked_abs()?),
        (Unary::Abs, Float(a)) => Float(a.abs()),
        (Unary::Sqrt, a) => Float(a.float().sqrt()),
        (Unary::Floor, a) => Float(a.float().floor()),
        (Unary::Ceil, a) => Float(a.float().ceil()),
        (Unary::Round, a) => Float(a.float().round_ties_even()),
        (Unary::Reciprocal, a) => Float(1.0 / a.float()),
        (Unary::Not, a) => Int(i64::from(a.float() == 0.0)),
        (Unary::ToInt, Int(a)) => Int(a),
        (Unary::ToInt, Float(a)) => Int(a.is_finite().then_some(a as i64)?),
        (Unary::ToFloat, a) => Float(a.float()),
        (Unary::ToBool, a) => Int(i64::from(a.float() != 0.0)),
    })
}

/// Applies a two-operand function. Integer division truncates, as ONNX and C do.
pub fn binary(op: Binary, a: Scalar, b: Scalar) -> Option<Scalar> {
    match (a, b) {
        (Scalar::Int(a), Scalar::Int(b)) => integer(op, a, b).map(Scalar::Int),
        _ => float(op, a.float(), b.float()),
    }
}

fn integer(op: Binary, a: i64, b: i64) -> Option<i64> {
    match op {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div => a.checked_div(b),
        // Of the divisor's sign, as ONNX and Python have it; C's is another operator.
        Binary::Mod => a
            .checked_rem(b)
            .map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
        Binary::Min => Some(a.min(b)),
        Binary::Max => Some(a.max(b)),
        Binary::Pow => a.checked_pow(u32::try_from(b).ok()?),
        Binary::Equal => Some(i64::from(a == b)),
        Binary::Less => Some(i64::from(a < b)),
        Binary::LessOrEqual => Some(i64::from(a <= b)),
        Binary::Greater => Some(i64::from(a > b)),
        Binary::GreaterOrEqual => Some(i64::from(a >= b)),
        Binary::And => Some(i64::from(a != 0 && b != 0)),
        Binary::Or => Some(i64::from(a != 0 || b != 0)),
    }
}

fn float(op: Binary, a: f64, b: f64) -> Option<Scalar> {
    use Scalar::{Float, Int};
    Some(match op {
        Binary::Add => Float(a + b),
        Binary::Sub => Float(a - b),
        Binary::Mul => Float(a * b),
        Binary::Div => Float(a / b),
        Binary::Mod => Float(a % b),
        Binary::Min => Float(a.min(b)),
        Binary::Max => Float(a.max(b)),
        Binary::Pow => Float(a.powf(b)),
        Binary::Equal => Int(i64::from(a == b)),
        Binary::Less => Int(i64::from(a < b)),
        Binary::LessOrEqual => Int(i64::from(a <= b)),
        Binary::Greater => Int(i64::from(a > b)),
        Binary::GreaterOrEqual => Int(i64::from(a >= b)),
        Binary::And => Int(i64::from(a != 0.0 && b != 0.0)),
        Binary::Or => Int(i64::from(a != 0.0 || b != 0.0)),
    })
}
