//! Determinants.

use super::{Decode, Inputs, Operator};
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// The determinants of the matrices on the last two axes, by elimination.
#[derive(Clone, Copy, Debug)]
pub struct Det;

impl Operator for Det {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.real(0)?;
        let shape = x.shape();
        let [lead @ .., n, columns] = &shape[..] else {
            return Err(Error::malformed(format!("determinants of {shape:?}")));
        };
        if n != columns {
            return Err(Error::malformed(format!("determinants of {shape:?}")));
        }
        let count: usize = lead.iter().product();
        let all = x.reshape([count, *n, *n]);
        let one = |index| determinant(all.clone().at(0, index), cx);
        let found = (0..count).map(one).collect::<Result<Vec<_>>>()?;
        Ok(vec![Real::join(found, 0)?.reshape(lead.to_vec()).into()])
    }
}

fn determinant<B: Engine>(mut matrix: Real<B>, cx: &Context<B>) -> Result<Real<B>> {
    let mut product = Real::of(vec![1.0], vec![1], &cx.device);
    while matrix.size(0) > 0 {
        let n = matrix.size(0);
        let column = matrix.clone().part(1, 0, 1).to_vec()?;
        let place =
            |best: usize, at: usize| if column[at].abs() > column[best].abs() { at } else { best };
        let pivot = (0..n).fold(0, place);
        let mut order: Vec<i64> = (0..n as i64).collect();
        order.swap(0, pivot);
        let sorted = if pivot == 0 { matrix } else { matrix.rows(0, order)? };
        let first = sorted.clone().part(0, 0, 1);
        let head = first.clone().part(1, 0, 1);
        product = product * head.clone().reshape([1]) * if pivot == 0 { 1.0 } else { -1.0 };
        if n == 1 || column[pivot] == 0.0 {
            break;
        }
        let below = sorted.part(0, 1, n);
        let factors = below.clone().part(1, 0, 1) / head;
        matrix = below.part(1, 1, n) - factors * first.part(1, 1, n);
    }
    Ok(product)
}

/// How ONNX spells it.
pub(crate) const ONNX: &[(&str, Decode)] = &[("Det", |_| Ok(Det.into()))];
