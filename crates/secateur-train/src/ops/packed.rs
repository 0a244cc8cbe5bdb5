//! Matrix products with weights of few bits, packed in blocks.

use super::{Decode, Inputs, Operator, sizes};
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// Data `[m…, k]` times a matrix of `n` rows, each of `k / block` blocks of packed integers
/// (operand 1), with a scale per block (2) and a zero point per block (3), plus a bias (5).
#[derive(Clone, Copy, Debug)]
pub struct PackedMatMul {
    /// Bits per integer.
    pub bits: usize,
    /// Integers per block.
    pub block: usize,
    /// `n` and `k`.
    pub sizes: [usize; 2],
}

impl Operator for PackedMatMul {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let ([n, k], x) = (self.sizes, inputs.real(0)?);
        let blocks = k.div_ceil(self.block);
        let codes = self.unpacked(inputs.take(1)?.to_ints()?, &x, vec![n, blocks, self.block])?;
        let scale = inputs.real(2)?.reshape([n, blocks, 1]);
        let zero = match inputs.optional(3) {
            Some(Value::Float(zero)) => Real(zero).reshape([n, blocks, 1]),
            Some(packed) => self.unpacked(packed.to_ints()?, &x, vec![n, blocks, 1])?,
            None => {
                let middle = (1 << (self.bits - 1)) as f32;
                Real::of(vec![middle; n * blocks], vec![n, blocks, 1], &x.device())
            }
        };
        let weight = ((codes - zero) * scale).reshape([n, blocks * self.block]).part(1, 0, k);
        let result = x.matmul(weight.transpose())?;
        Ok(vec![match inputs.optional_real(5)? {
            Some(bias) => (result + bias).into(),
            None => result.into(),
        }])
    }
}

impl PackedMatMul {
    /// The integers of packed bytes, whose rows are filled up to whole bytes.
    fn unpacked<B: Engine>(
        &self,
        bytes: Vec<i64>,
        x: &Real<B>,
        shape: Vec<usize>,
    ) -> Result<Real<B>> {
        let each = 8 / self.bits;
        let row = if shape[2] == 1 { shape[1] } else { shape[2] };
        let rows = shape.iter().product::<usize>() / row.max(1);
        let width = row.div_ceil(each);
        if bytes.len() != rows * width {
            let (found, expected) = (bytes.len(), rows * width);
            return Err(Error::malformed(format!("{found} bytes for {expected}")));
        }
        let mask = (1 << self.bits) - 1;
        let code = |at: usize| {
            let (row, column) = (at / row, at % row);
            let byte = bytes[row * width + column / each];
            (byte >> (column % each * self.bits) & mask) as f32
        };
        Ok(Real::of((0..rows * row).map(code).collect(), shape, &x.device()))
    }
}

/// How ONNX Runtime spells it.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[("MatMulNBits", |node| {
    if node.reads(4) || node.int("weight_prepacked", 0) != 0 {
        return Err(Error::unsupported(
            "blocks of reordered groups, and weights packed for one machine",
        ));
    }
    let found = sizes(&[
        node.int("bits", 4),
        node.int("block_size", 0),
        node.int("N", 0),
        node.int("K", 0),
    ])?;
    let (bits, block) = (found[0], found[1]);
    if block == 0 || !matches!(bits, 2 | 4 | 8) {
        return Err(Error::malformed(format!("blocks of {block} integers of {bits} bits")));
    }
    Ok(PackedMatMul { bits, block, sizes: [found[2], found[3]] }.into())
})];
