//! Pooling over windows.

mod aten;

use super::conv::{Window, dims, spatial_factors};
use super::{Operator, Shapes, agree, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Flow, Kind, Rule, Use};
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// A pool over windows of data `[n, c, s…]`.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What is taken of each window.
    pub kind: PoolKind,
    /// Window sizes.
    pub kernel: Vec<usize>,
    /// The window.
    pub window: Window,
    /// The positions of the maxima, as a second result.
    pub indices: Indices,
}

/// What becomes of the positions of the maxima: they count elements of the whole tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indices {
    /// They are not a result.
    None,
    /// They are a result that nothing reads.
    Unread,
    /// Something reads them.
    Read,
}

/// What is taken of each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean.
    Mean,
    /// The p-norm.
    Lp,
}

impl Operator for Pool {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = ranked(shapes, 0, 3)?;
        agree("kernel and spatial axes", self.kernel.len(), data.len() - 2)?;
        let sizes = self.kernel.iter().enumerate();
        let result = sizes
            .map(|(axis, &kernel)| self.window.output(axis, data[axis + 2], kernel))
            .collect::<Result<Vec<Extent>>>()?;
        let mut r = Rule::new("pool");
        let kind = if self.indices != Indices::None {
            Kind::Fixed("positions are counted over it")
        } else {
            Kind::Free
        };
        let n = r.factor("n", data[0], kind);
        let c = r.factor("c", data[1], kind);
        let [s, _, t] = spatial_factors(&mut r, &data[2..], &[], &result, |axis| {
            self.indices == Indices::None && self.window.is_still(axis, self.kernel[axis])
        });
        r.operand(Use::Data, dims(vec![n.into(), c.into()], &s));
        r.result(dims(vec![n.into(), c.into()], &t));
        if self.indices != Indices::None {
            r.result(dims(vec![n.into(), c.into()], &t));
            r.flow = Flow::Break;
        }
        Ok(r)
    }
}

/// How ONNX spells pools over windows.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("MaxPool", |cx| decode(cx, PoolKind::Max)),
    ("AveragePool", |cx| decode(cx, PoolKind::Mean)),
    ("LpPool", |cx| decode(cx, PoolKind::Lp)),
];

fn decode(cx: &mut Decoder<'_, '_>, kind: PoolKind) -> Result<()> {
    let pool = payload(cx, kind)?;
    cx.node(pool)
}

/// The pool that a node's attributes spell.
pub(crate) fn payload(cx: &Decoder<'_, '_>, kind: PoolKind) -> Result<Pool> {
    let kernel = cx.ints("kernel_shape").ok_or_else(|| Error::malformed("no `kernel_shape`"))?;
    let kernel = kernel
        .into_iter()
        .map(|size| usize::try_from(size).map_err(|_| Error::malformed("a negative kernel size")))
        .collect::<Result<Vec<_>>>()?;
    let window = Window::decode(cx, kernel.len())?;
    let indices = match cx.output_count() {
        0 | 1 => Indices::None,
        _ if cx.is_read(1) => Indices::Read,
        _ => Indices::Unread,
    };
    Ok(Pool { kind, kernel, window, indices })
}
