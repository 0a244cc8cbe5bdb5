//! Matrix products with weights of few bits, packed in blocks.

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, letter, operand, ranked};
use crate::graph::Extent;
use crate::onnx::Decode;
use crate::rule::{Dim, FactorId, Flow, Kind, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};

/// Data `[m…, k]` times a matrix of `n` rows, each of `k / block` blocks of packed integers
/// (operand 1), with a scale per block (2) and a zero point per block (3), plus a bias (5). Where
/// the scale is zero, so is what the integers stand for.
#[derive(Clone, Copy, Debug)]
pub struct PackedMatMul {
    /// Bits per integer.
    pub bits: usize,
    /// Integers per block.
    pub block: usize,
    /// The literals that say `n` and `k`.
    pub sizes: [ExprId; 2],
}

impl Operator for PackedMatMul {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let (data, packed) = (ranked(shapes, 0, 1)?, operand(shapes, 1)?);
        let &[rows, blocks, bytes] = packed else {
            return Err(Error::malformed("packed integers that are not in blocks"));
        };
        let (lead, inner) = data.split_at(data.len() - 1);
        agree("blocks and inner size", inner[0].size.div_ceil(self.block), blocks.size)?;
        let zeros = shapes.get(3).copied().flatten();
        let mut r = Rule::new("packed_matmul");
        let each = lead.iter().enumerate();
        let m: Vec<FactorId> = each.map(|(i, &extent)| r.free(letter(i), extent)).collect();
        let n = r.free("n", rows);
        let together = zeros.is_some_and(|zeros| count(zeros) != rows.size * blocks.size);
        let (k, blocks, along) = self.inner(&mut r, inner[0], blocks, together);
        let bytes = r.fixed("bytes", bytes, PACKED);
        let spell = |last: Dim| m.iter().map(|&factor| factor.into()).chain([last]).collect();
        r.operand(Use::Data, spell(k));
        r.operand(Use::Weight, vec![n.into(), blocks.into(), bytes.into()]);
        r.operand(Use::Affine, pair(n, blocks, operand(shapes, 2)?));
        if shapes.len() > 3 {
            let shape = zeros.unwrap_or_default();
            let columns = if zeros.is_some() && together {
                let columns = count(shape) / rows.size.max(1);
                r.fixed("zeros", Extent::fixed(columns), PACKED)
            } else {
                blocks
            };
            r.operand(Use::Affine, pair(n, columns, shape));
        }
        for shape in shapes.iter().skip(4) {
            r.operand(Use::Affine, shape.map(|_| vec![n.into()]).unwrap_or_default());
        }
        r.macs.push([m.as_slice(), &[n], &along].concat());
        r.result(spell(n.into()));
        let bias = shapes.get(5).copied().flatten().map(|_| 5);
        r.flow = Flow::product([0, 2], bias.into_iter().collect::<Vec<_>>());
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let dim = |operand: usize, axis: usize| {
            let dim = sizes.rule.operands.get(operand).and_then(|operand| operand.dims.get(axis));
            dim.map_or(0, |dim| sizes.dim(dim))
        };
        let inner = sizes.rule.operands[0].dims.len().saturating_sub(1);
        let [n, k] = self.sizes;
        vec![
            Fit::new(Place::Attribute("N"), [n], vec![dim(1, 0)]),
            Fit::new(Place::Attribute("K"), [k], vec![dim(0, inner)]),
        ]
    }
}

const PACKED: &str = "integers are packed along it";

impl PackedMatMul {
    /// The inner axis of the data, the blocks, and what is multiplied along them. Blocks whose zero
    /// points are packed `together` stay.
    fn inner(
        &self,
        r: &mut Rule,
        inner: Extent,
        blocks: Extent,
        together: bool,
    ) -> (Dim, FactorId, Vec<FactorId>) {
        let outer = match together {
            true => r.fixed("blocks", blocks, PACKED),
            false => r.summed("blocks", blocks),
        };
        if blocks.size.checked_mul(self.block) == Some(inner.size) {
            let block = r.fixed("block", Extent::fixed(self.block), PACKED);
            return (Dim::product([outer, block]), outer, vec![outer, block]);
        }
        r.factors[outer.index()].kind = Kind::Fixed(PACKED);
        let k = r.fixed("k", inner, PACKED);
        (k.into(), outer, vec![k])
    }
}

fn count(shape: &[Extent]) -> usize {
    shape.iter().fold(1, |count, extent| count.saturating_mul(extent.size))
}

/// One number per row and column, as a matrix or laid out in a row.
fn pair(rows: FactorId, columns: FactorId, shape: &[Extent]) -> Vec<Dim> {
    match shape.len() {
        0 => Vec::new(),
        1 => vec![Dim::product([rows, columns])],
        _ => vec![rows.into(), columns.into()],
    }
}

/// How ONNX Runtime spells it.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[("MatMulNBits", |cx| {
    if cx.has(4) {
        return Err(Error::unsupported("blocks of reordered groups"));
    }
    if cx.int("weight_prepacked").unwrap_or(0) != 0 {
        return Err(Error::unsupported("weights that are packed for one machine"));
    }
    let size = |name| cx.int(name).and_then(|size| usize::try_from(size).ok());
    let (bits, block) = (size("bits").unwrap_or(4), size("block_size").unwrap_or(0));
    if block == 0 || !matches!(bits, 2 | 4 | 8) {
        return Err(Error::malformed(format!("blocks of {block} integers of {bits} bits")));
    }
    let sizes = [cx.literal("N", 0, 0), cx.literal("K", 0, 0)];
    cx.node(PackedMatMul { bits, block, sizes })
})];
