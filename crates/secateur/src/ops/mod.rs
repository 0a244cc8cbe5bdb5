//! The closed set of operators. One file per family holds all that is known of it: what it
//! carries, how sources spell it, its dimension rule, its cost, and the literals that follow sizes.
//!
//! There is no default rule: an operator that no file here knows is [`Op::Opaque`].

pub mod attention;
pub mod contract;
pub mod conv;
pub mod count;
pub mod elementwise;
pub mod fill;
pub mod gather;
pub mod join;
pub mod norm;
pub mod ort;
pub mod packed;
pub mod pad;
pub mod pool;
pub mod quantize;
pub mod recurrent;
pub mod reduce;
pub mod reshape;
pub mod resize;
pub mod rotary;
#[cfg(test)]
pub(crate) mod tests;
pub mod written;

use std::borrow::Cow;

use crate::graph::Extent;
use crate::rule::{Dim, FactorId, Rule};
use crate::size::ExprId;
use crate::{Error, Result};

/// The operand shapes that a rule is made for; `None` for an omitted operand.
pub type Shapes<'a> = [Option<&'a [Extent]>];

/// What every operator family provides.
pub trait Operator {
    /// The dimension rule for operands of these shapes.
    ///
    /// # Errors
    /// When the shapes do not fit the operator.
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule>;

    /// The literals of the source that follow sizes, and what they have to be.
    fn fits(&self, _sizes: &NewSizes<'_>) -> Vec<Fit> {
        Vec::new()
    }

    /// A float attribute that is absent, and what it stands for, where its default follows a size
    /// that changes: written, so that it does not.
    fn held(&self, _sizes: &NewSizes<'_>) -> Option<(&'static str, f64)> {
        None
    }

    /// For an operator that makes a tensor of a spelled shape: the expressions of its axes. An
    /// axis spelled by a dimension of another value follows that dimension.
    fn target(&self) -> Vec<Option<ExprId>> {
        Vec::new()
    }
}

macro_rules! operators {
    ($($(#[$doc:meta])* $name:ident($payload:ty)),* $(,)?) => {
        /// An operator with its payload.
        #[derive(Clone, Debug)]
        pub enum Op {
            $($(#[$doc])* $name($payload),)*
            /// An operator that Secateur does not know: everything it touches is pinned.
            Opaque,
        }

        impl Op {
            /// The family's implementation; `None` for an opaque operator.
            pub fn operator(&self) -> Option<&dyn Operator> {
                match self {
                    $(Op::$name(payload) => Some(payload),)*
                    Op::Opaque => None,
                }
            }
        }

        $(impl From<$payload> for Op {
            fn from(payload: $payload) -> Self {
                Op::$name(payload)
            }
        })*
    };
}

operators! {
    /// Convolution, 1 to 3 dimensions, grouped, transposed.
    Conv(conv::Conv),
    /// Convolution that reads beside its window.
    Deform(conv::Deform),
    /// A product summed over shared axes: linear, matmul, einsum.
    Contract(contract::Contract),
    /// A product with weights of few bits.
    PackedMatMul(packed::PackedMatMul),
    /// Normalization with statistics of the data or stored ones.
    Norm(norm::Norm),
    /// Pooling over windows.
    Pool(pool::Pool),
    /// Reduction of whole axes.
    Reduce(reduce::Reduce),
    /// An operator that runs along one axis: softmax, sort, cumulative sum.
    Along(reduce::Along),
    /// Elementwise with broadcasting.
    Elementwise(elementwise::Elementwise),
    /// The same elements in another shape.
    Reshape(reshape::Reshape),
    /// A reshape by picking all elements in order.
    PickAll(reshape::PickAll),
    /// Axes in another order.
    Transpose(reshape::Transpose),
    /// Broadcasting to a shape.
    Expand(reshape::Expand),
    /// Repetition of whole axes.
    Tile(reshape::Tile),
    /// Segments laid end to end.
    Concat(join::Concat),
    /// Segments taken apart.
    Split(join::Split),
    /// One segment of an axis.
    Slice(join::Slice),
    /// Rows picked by index.
    Gather(gather::Gather),
    /// Elements picked from or put at computed places.
    Pick(gather::Pick),
    /// Constant or mirrored borders.
    Pad(pad::Pad),
    /// Interpolation.
    Resize(resize::Resize),
    /// Scaled dot-product attention.
    Attention(attention::Attention),
    /// An operator of which no number follows a size.
    Written(written::Written),
    /// Pairs of features turned by position.
    Rotary(rotary::Rotary),
    /// A recurrent layer.
    Recurrent(recurrent::Recurrent),
    /// Numbers to integers that stand for them, or back.
    Code(quantize::Code),
    /// The range of all numbers.
    Extremes(quantize::Extremes),
    /// A constant of a computed shape.
    Fill(fill::Fill),
    /// Numbers counted from a start to a limit.
    Range(fill::Range),
    /// One row per index.
    OneHot(gather::OneHot),
}

/// Where a size-dependent vector of numbers stands in a source node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An input.
    Input(u32),
    /// An attribute.
    Attribute(&'static str),
    /// An input that is absent; giving it makes the attribute void.
    InputFor(u32, &'static str),
}

/// Numbers in the source that have to be equal to new sizes.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Where the numbers stand.
    pub place: Place,
    /// How the source computes each; `None` for an entry that follows by itself.
    pub exprs: Vec<Option<ExprId>>,
    /// What each has to be.
    pub want: Vec<i64>,
    /// What to write when all have to be replaced; `None` where that cannot be.
    pub whole: Option<Vec<i64>>,
    /// The shape of what is written, where that is no vector.
    pub shape: Option<Vec<usize>>,
}

impl Fit {
    /// A vector of numbers that may be replaced as a whole.
    pub fn new(place: Place, exprs: impl IntoIterator<Item = ExprId>, want: Vec<i64>) -> Self {
        let exprs = exprs.into_iter().map(Some).collect();
        Fit { place, exprs, whole: Some(want.clone()), want, shape: None }
    }
}

/// A rule with the sizes that its factors have after pruning.
pub struct NewSizes<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// One size per factor.
    pub factors: &'a [usize],
}

impl NewSizes<'_> {
    /// The new size of a factor.
    pub fn factor(&self, factor: FactorId) -> i64 {
        self.factors[factor.index()] as i64
    }

    /// The new size of the factor of this name; 1 where there is none.
    pub fn named(&self, name: &str) -> i64 {
        let index = self.rule.factors.iter().position(|factor| factor.name == name);
        index.and_then(|index| self.factors.get(index)).map_or(1, |&size| size as i64)
    }

    /// The new size of an axis.
    pub fn dim(&self, dim: &Dim) -> i64 {
        self.segments(dim).into_iter().fold(0, i64::saturating_add)
    }

    /// The new shape of a result.
    pub fn result(&self, index: usize) -> Vec<i64> {
        self.rule.results.get(index).into_iter().flatten().map(|dim| self.dim(dim)).collect()
    }

    /// The new sizes of the segments of an axis.
    pub fn segments(&self, dim: &Dim) -> Vec<i64> {
        let product = |factors: &[FactorId]| {
            factors.iter().map(|&f| self.factor(f)).fold(1, i64::saturating_mul)
        };
        dim.segments().map(product).collect()
    }
}

/// The shape of operand `index`.
pub(crate) fn operand<'a>(shapes: &Shapes<'a>, index: usize) -> Result<&'a [Extent]> {
    let missing = || Error::malformed(format!("operand {index} is missing"));
    shapes.get(index).copied().flatten().ok_or_else(missing)
}

/// The shape of operand `index`, which must have `rank` axes or more.
pub(crate) fn ranked<'a>(shapes: &Shapes<'a>, index: usize, rank: usize) -> Result<&'a [Extent]> {
    let shape = operand(shapes, index)?;
    if shape.len() < rank {
        let found = shape.len();
        return Err(Error::malformed(format!("operand {index} has {found} axes, not {rank}")));
    }
    Ok(shape)
}

/// Fails unless two sizes that have to agree do.
pub(crate) fn agree(what: &str, a: usize, b: usize) -> Result<()> {
    if a == b {
        return Ok(());
    }
    Err(Error::malformed(format!("{what} do not agree: {a} and {b}")))
}

/// A number counted from the end where it is negative, as an axis of `rank` axes.
pub(crate) fn axis(value: i64, rank: usize) -> Result<usize> {
    let rank_i = rank as i64;
    let axis = if value < 0 { value + rank_i } else { value };
    if (0..rank_i).contains(&axis) {
        return Ok(axis as usize);
    }
    Err(Error::malformed(format!("axis {value} of a tensor with {rank} axes")))
}

/// A name for axis `index`, for printing.
pub(crate) fn letter(index: usize) -> Cow<'static, str> {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
    match LETTERS.get(index..index + 1) {
        Some(letter) => letter.into(),
        None => format!("x{index}").into(),
    }
}

/// Free factors named `a`, `b`, … for every axis of a shape, and the axes they spell.
pub(crate) fn letters(rule: &mut Rule, shape: &[Extent]) -> Vec<Dim> {
    shape.iter().enumerate().map(|(i, &extent)| rule.free(letter(i), extent).into()).collect()
}

/// The axes of a shape before and after what runs along some of them: those for which `after` tells
/// a size are fixed on both sides.
pub(crate) fn changed(
    rule: &mut Rule,
    before: &[Extent],
    after: impl Fn(usize) -> Option<Extent>,
    reason: &'static str,
) -> [Vec<Dim>; 2] {
    let dims = before.iter().enumerate().map(|(i, &extent)| match after(i) {
        Some(after) => {
            let from = rule.fixed(letter(i), extent, reason);
            (Dim::from(from), Dim::from(rule.fixed(letter(i) + "'", after, reason)))
        }
        None => {
            let factor = Dim::from(rule.free(letter(i), extent));
            (factor.clone(), factor)
        }
    });
    let (from, to) = dims.unzip();
    [from, to]
}
