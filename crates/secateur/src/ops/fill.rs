//! Tensors made from nothing but a shape.

mod aten;

use super::count;
use super::{Fit, NewSizes, Operator, Place, Shapes, letters};
use crate::graph::{Extent, Open};
use crate::onnx::{Decode, Decoder};
use crate::rule::{Flow, Rule};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// A constant of a computed shape.
#[derive(Clone, Debug)]
pub struct Fill {
    /// The shape.
    pub shape: Vec<Extent>,
    /// Where the source spells it, and how.
    pub target: (Place, Vec<ExprId>),
    /// Whether the constant is zero.
    pub zero: bool,
}

impl Operator for Fill {
    fn rule(&self, _shapes: &Shapes<'_>) -> Result<Rule> {
        let mut r = Rule::new("fill");
        let dims = letters(&mut r, &self.shape);
        r.result(dims);
        r.flow = if self.zero { Flow::product([], []) } else { Flow::Break };
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let want = sizes.result(0);
        let fixed = self.shape.iter().all(|extent| !extent.is_open());
        let exprs = self.target.1.iter().copied().map(Some).collect();
        vec![Fit {
            place: self.target.0,
            exprs,
            whole: fixed.then(|| want.clone()),
            want,
            shape: None,
        }]
    }

    fn target(&self) -> Vec<Option<ExprId>> {
        self.target.1.iter().copied().map(Some).collect()
    }
}

/// Numbers counted from a start to a limit.
#[derive(Clone, Debug)]
pub struct Range {
    /// How many.
    pub length: Extent,
}

impl Operator for Range {
    fn rule(&self, _shapes: &Shapes<'_>) -> Result<Rule> {
        let mut r = Rule::new("range");
        let count = r.fixed("n", self.length, "positions are counted along it");
        r.result(vec![count.into()]);
        r.flow = Flow::Break;
        Ok(r)
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[("ConstantOfShape", decode), ("Range", decode_range)];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if cx.is_computed(0) {
        return count::decode_fill(cx);
    }
    let target = cx.exprs(0)?;
    let mut shape = Vec::new();
    for &expr in &target {
        let (size, open) = cx.eval(expr)?;
        let size = usize::try_from(size).map_err(|_| Error::malformed("a negative size"))?;
        shape.push(Extent { size, open });
    }
    let value = cx.tensor("value")?;
    let zero = value.is_none_or(|value| value.data.iter().all(|&byte| byte == 0));
    cx.node_over(0, Fill { shape, target: (Place::Input(0), target), zero })
}

fn decode_range(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if (0..3).any(|slot| cx.is_computed(slot)) {
        let length = cx.count(&[]);
        (0..3).try_for_each(|slot| cx.keep(slot))?;
        return cx.node_over(0, Range { length });
    }
    let mut open = Open::Stated;
    let mut bounds = [0.0; 3];
    for (slot, bound) in bounds.iter_mut().enumerate() {
        let exprs = cx.exprs(slot)?;
        open = open.max(cx.open(&exprs));
        *bound = cx.value(&exprs).ok_or_else(|| Error::malformed("a bound is not one number"))?;
    }
    let [start, limit, step] = bounds;
    let length = ((limit - start) / step).ceil().max(0.0);
    if !(1.0..1e9).contains(&length) {
        return Err(Error::unsupported(format!("a range of {length} numbers")));
    }
    cx.node_over(0, Range { length: Extent { size: length as usize, open } })
}
