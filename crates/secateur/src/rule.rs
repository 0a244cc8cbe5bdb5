//! Dimension rules: which axes of an operator's operands and results are the same.
//!
//! A rule names *factors* and spells every axis with them, as in einsum, einops and Shardy:
//!
//! ```text
//! flatten    [n, c, h, w] -> [n, c h w]           free: n c h w
//! concat     [n, a], [n, b] -> [n, a ++ b]        free: n a b
//! ```
//!
//! A factor's [`Kind`] says what cutting it means; the rule's [`Flow`] says where zeros go. One
//! rule gives the shapes of the results, the coupling of the axes, and the cost.

use std::borrow::Cow;
use std::fmt;

use crate::graph::Extent;
use crate::zero::Zero;

/// A factor of a [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactorId(u32);

impl FactorId {
    /// The position in the rule's list.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What cutting a factor means for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `f(cut x) = cut f(x)`.
    Free,
    /// `f(cut x) = f(x with the cut part zero)`.
    Summed,
    /// In a result, and summed over inside the operator, in a product of these operands:
    /// `f(cut x) = cut f(x with the cut part of one of them zero)`.
    Inner(&'static [usize]),
    /// Cut together, shapes agree, but values may change; why.
    Coupled(&'static str),
    /// Never cut; why.
    Fixed(&'static str),
}

/// A name, a size and a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// One letter or a short word.
    pub name: Cow<'static, str>,
    /// The size.
    pub extent: Extent,
    /// What cutting it means.
    pub kind: Kind,
}

/// What an operand is to its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    /// An activation.
    Data,
    /// A kernel or matrix of a contraction.
    Weight,
    /// An offset, a scale or a statistic, one number per channel.
    Affine,
    /// A table that rows are read from.
    Table,
    /// What the numbers of a quantized tensor stand for: a scale, a zero point.
    Encoding,
}

/// Where zeros of the operands appear in the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Elements are moved: zero where every operand that has the factor is.
    Carry,
    /// Elements of the first operand are moved: zero where it is.
    First,
    /// A product plus terms: zero where one of `factors` is and all of `terms` are; not defined
    /// where one of `divisors` is zero.
    Product {
        /// Operands that are multiplied.
        factors: Vec<usize>,
        /// Operands that are added.
        terms: Vec<usize>,
        /// Operands that are divided by.
        divisors: Vec<usize>,
    },
    /// Zeros do not survive.
    Break,
    /// Not defined at zero: a logarithm, a reciprocal.
    Pole,
}

impl Flow {
    /// `a · b · … + c + …`
    pub fn product(factors: impl Into<Vec<usize>>, terms: impl Into<Vec<usize>>) -> Self {
        Flow::Product { factors: factors.into(), terms: terms.into(), divisors: Vec::new() }
    }

    /// Whether a result vanishes; `operands[i]` says whether operand `i` does (`None`: it does not
    /// have the factor).
    pub fn vanishes(&self, operands: &[Option<bool>]) -> bool {
        let zero = |&i: &usize| operands.get(i).copied().flatten() == Some(true);
        match self {
            Flow::Carry => operands.contains(&Some(true)) && !operands.contains(&Some(false)),
            Flow::Product { factors, terms, divisors } => {
                (factors.is_empty() || factors.iter().any(zero))
                    && terms.iter().all(zero)
                    && !divisors.iter().any(zero)
            }
            Flow::First => operands.first() == Some(&Some(true)),
            Flow::Break | Flow::Pole => false,
        }
    }

    /// How many operands, from the first on, results hold elements of as they are.
    pub fn moved(&self) -> usize {
        match self {
            Flow::Carry => usize::MAX,
            Flow::First => 1,
            Flow::Product { .. } | Flow::Break | Flow::Pole => 0,
        }
    }

    /// Whether a result is not defined, with `operands` as for [`Flow::vanishes`].
    pub fn is_undefined(&self, operands: &[Option<bool>]) -> bool {
        match self {
            Flow::Carry | Flow::First | Flow::Break => false,
            Flow::Product { divisors, .. } => {
                divisors.iter().any(|&i| operands.get(i).copied().flatten() == Some(true))
            }
            Flow::Pole => operands.contains(&Some(true)),
        }
    }
}

/// One axis in factors: segments laid end to end, each a row-major product; an empty product is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dim(Spelling);

/// Most axes are one factor, and take no memory of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spelling {
    Factor(FactorId),
    /// At least two factors.
    Product(Vec<FactorId>),
    /// Anything else.
    Segments(Vec<Vec<FactorId>>),
}

impl Dim {
    /// An axis of size 1 that is broadcast or inserted.
    pub fn one() -> Self {
        Dim(Spelling::Segments(vec![Vec::new()]))
    }

    /// A row-major product, last fastest.
    pub fn product(factors: impl Into<Vec<FactorId>>) -> Self {
        let factors = factors.into();
        match factors[..] {
            [] => Dim::one(),
            [factor] => factor.into(),
            _ => Dim(Spelling::Product(factors)),
        }
    }

    /// Segments laid end to end.
    pub fn sum(factors: impl IntoIterator<Item = FactorId>) -> Self {
        Dim::segmented(factors.into_iter().map(|factor| vec![factor]).collect())
    }

    /// Products laid end to end.
    pub fn segmented(mut segments: Vec<Vec<FactorId>>) -> Self {
        match segments.len() {
            1 => Dim::product(segments.remove(0)),
            _ => Dim(Spelling::Segments(segments)),
        }
    }

    /// The one factor that it is; `None` for anything else.
    pub fn as_factor(&self) -> Option<FactorId> {
        match self.0 {
            Spelling::Factor(factor) => Some(factor),
            Spelling::Product(_) | Spelling::Segments(_) => None,
        }
    }

    /// The segments, each a product.
    pub fn segments(&self) -> impl Iterator<Item = &[FactorId]> {
        let (one, many) = match &self.0 {
            Spelling::Factor(factor) => (Some(std::slice::from_ref(factor)), &[][..]),
            Spelling::Product(factors) => (Some(factors.as_slice()), &[][..]),
            Spelling::Segments(segments) => (None, segments.as_slice()),
        };
        one.into_iter().chain(many.iter().map(Vec::as_slice))
    }

    /// All factors.
    pub fn factors(&self) -> impl Iterator<Item = FactorId> {
        self.segments().flatten().copied()
    }

    /// A product with a factor before it.
    pub fn under(&self, outer: FactorId) -> Self {
        let mut segments = self.segments();
        let first = segments.next().unwrap_or_default();
        let rest = segments.map(<[FactorId]>::to_vec);
        Dim::segmented(std::iter::once([&[outer], first].concat()).chain(rest).collect())
    }
}

impl From<FactorId> for Dim {
    fn from(factor: FactorId) -> Self {
        Dim(Spelling::Factor(factor))
    }
}

/// One operand of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// What it is to the operator.
    pub role: Use,
    /// Its axes; empty for an omitted operand and for a scalar.
    pub dims: Vec<Dim>,
    /// What the operator takes for zero in it. One that moves elements takes any number.
    pub zero: Zero,
}

/// How the axes of an operator's operands and results relate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The operator's name.
    pub name: &'static str,
    /// All factors.
    pub factors: Vec<Factor>,
    /// One entry per operand of the node.
    pub operands: Vec<Operand>,
    /// One entry per result.
    pub results: Vec<Vec<Dim>>,
    /// Where zeros go.
    pub flow: Flow,
    /// What stands for zero in the results of an operator that computes.
    pub zero: Zero,
    /// Multiply-accumulates: a sum of products of factor sizes.
    pub macs: Vec<Vec<FactorId>>,
}

impl Rule {
    /// An empty rule that moves elements.
    pub fn new(name: &'static str) -> Self {
        Rule {
            name,
            factors: Vec::new(),
            operands: Vec::new(),
            results: Vec::new(),
            flow: Flow::Carry,
            zero: Zero::PLAIN,
            macs: Vec::new(),
        }
    }

    /// Adds a factor.
    pub fn factor(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        extent: Extent,
        kind: Kind,
    ) -> FactorId {
        let id = FactorId(u32::try_from(self.factors.len()).unwrap_or(u32::MAX));
        self.factors.push(Factor { name: name.into(), extent, kind });
        id
    }

    /// Adds a factor that may be cut freely.
    pub fn free(&mut self, name: impl Into<Cow<'static, str>>, extent: Extent) -> FactorId {
        self.factor(name, extent, Kind::Free)
    }

    /// Adds a factor that is summed over.
    pub fn summed(&mut self, name: impl Into<Cow<'static, str>>, extent: Extent) -> FactorId {
        self.factor(name, extent, Kind::Summed)
    }

    /// Adds a factor that is never cut.
    pub fn fixed(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        extent: Extent,
        reason: &'static str,
    ) -> FactorId {
        self.factor(name, extent, Kind::Fixed(reason))
    }

    /// Adds an operand.
    pub fn operand(&mut self, role: Use, dims: Vec<Dim>) -> usize {
        self.operands.push(Operand { role, dims, zero: Zero::PLAIN });
        self.operands.len() - 1
    }

    /// Adds a result.
    pub fn result(&mut self, dims: Vec<Dim>) {
        self.results.push(dims);
    }

    /// The extent of an axis.
    pub fn extent(&self, dim: &Dim) -> Extent {
        let segment = |product: &[FactorId]| {
            product.iter().map(|f| self.factors[f.index()].extent).fold(Extent::fixed(1), |a, b| {
                Extent { size: a.size.saturating_mul(b.size), open: a.open.max(b.open) }
            })
        };
        dim.segments().map(segment).fold(Extent::fixed(0), |a, b| Extent {
            size: a.size.saturating_add(b.size),
            open: a.open.max(b.open),
        })
    }

    /// The shapes of the results.
    pub fn result_shapes(&self) -> Vec<Vec<Extent>> {
        let shape = |dims: &Vec<Dim>| dims.iter().map(|dim| self.extent(dim)).collect();
        self.results.iter().map(shape).collect()
    }

    /// Checks the rule against its own notation and the operands' shapes.
    ///
    /// # Errors
    /// The first contradiction found, in words.
    pub fn check(&self, operands: &[Option<&[Extent]>]) -> Result<(), String> {
        if operands.len() != self.operands.len() {
            return Err(format!("{} operands for a rule over {}", operands.len(), self));
        }
        for (index, (operand, shape)) in self.operands.iter().zip(operands).enumerate() {
            let Some(shape) = shape else { continue };
            let spelled = operand.dims.iter().map(|d| self.extent(d).size);
            let given = shape.iter().map(|e| e.size);
            if !spelled.clone().eq(given.clone()) {
                let (spelled, given): (Vec<_>, Vec<_>) = (spelled.collect(), given.collect());
                return Err(format!("operand {index} is {given:?}, its rule says {spelled:?}"));
            }
        }
        self.check_kinds()
    }

    fn check_kinds(&self) -> Result<(), String> {
        let operands = self.operands.iter().flat_map(|operand| &operand.dims);
        let (in_operands, in_results) =
            (self.marked(operands), self.marked(self.results.iter().flatten()));
        for (index, factor) in self.factors.iter().enumerate() {
            match factor.kind {
                Kind::Summed if in_results[index] => {
                    return Err(format!("summed factor `{}` is in a result", factor.name));
                }
                _ if !in_results[index] && !in_operands[index] => {
                    return Err(format!("factor `{}` is nowhere", factor.name));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Which factors are in these axes.
    fn marked<'d>(&self, dims: impl Iterator<Item = &'d Dim>) -> Vec<bool> {
        let mut marked = vec![false; self.factors.len()];
        dims.flat_map(Dim::factors).for_each(|factor| marked[factor.index()] = true);
        marked
    }

    fn show_dims(&self, f: &mut fmt::Formatter<'_>, dims: &[Dim]) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in dims.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            for (segment, product) in dim.segments().enumerate() {
                if segment > 0 {
                    f.write_str(" ++ ")?;
                }
                let names: Vec<&str> =
                    product.iter().map(|id| &*self.factors[id.index()].name).collect();
                f.write_str(if names.is_empty() { "1" } else { "" })?;
                f.write_str(&names.join(" "))?;
            }
        }
        f.write_str("]")
    }

    fn show_list(&self, f: &mut fmt::Formatter<'_>, lists: &[&[Dim]]) -> fmt::Result {
        for (index, dims) in lists.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            self.show_dims(f, dims)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name)?;
        self.show_list(f, &self.operands.iter().map(|o| o.dims.as_slice()).collect::<Vec<_>>())?;
        f.write_str(" -> ")?;
        self.show_list(f, &self.results.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let mut kinds: Vec<(&str, Vec<&str>)> =
            ["free", "summed", "inner", "coupled", "fixed"].map(|name| (name, Vec::new())).into();
        for factor in &self.factors {
            let kind = match factor.kind {
                Kind::Free => 0,
                Kind::Summed => 1,
                Kind::Inner(_) => 2,
                Kind::Coupled(_) => 3,
                Kind::Fixed(_) => 4,
            };
            kinds[kind].1.push(&factor.name);
        }
        for (name, factors) in kinds.iter().filter(|(_, factors)| !factors.is_empty()) {
            write!(f, "   {name}: {}", factors.join(" "))?;
        }
        Ok(())
    }
}
