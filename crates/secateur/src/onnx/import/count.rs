//! Sizes that are counted from data: made up, so that what follows them can be analyzed.

use std::sync::Arc;

use super::Importer;
use crate::graph::{Extent, Open, Origin, Value, ValueId};
use crate::onnx::eval::Known;
use crate::onnx::proto::NodeProto;
use crate::size::Expr;
use crate::{DType, Result};

/// The first that is made up: larger than what is evaluated element by element, than most literals
/// and than the limits that detectors set to what they count.
const FIRST: usize = 10_007;

/// Most numbers that are computed from data and read as parts of a shape.
const MAX_PARTS: usize = 8;

impl<'a> Importer<'a> {
    /// A size that hardly anything else has, of what is counted among the elements of these axes. It is
    /// prime, so that no literal divides it: where a number in the source fits it nevertheless, the
    /// source computes that number from it.
    pub(in crate::onnx) fn count(&mut self, among: &[Extent]) -> Extent {
        let last = self.graph.counts.last_key_value();
        let next = last.map_or(FIRST, |(last, _)| last.saturating_add(2));
        let size = (next..).step_by(2).find(|&size| is_prime(size)).unwrap_or(next);
        let most = among.iter().map(|&extent| self.graph.most(extent));
        let most = most.fold(1, usize::saturating_mul);
        self.graph.counts.insert(size, most);
        Extent { size, open: Open::Counted }
    }

    /// The inputs of a `Concat` of sizes and of numbers that are computed from data, which are taken
    /// for sizes that are counted.
    pub(super) fn parts_of_shape(
        &mut self,
        node: &'a NodeProto,
    ) -> Result<Option<Vec<Option<Arc<Known>>>>> {
        let sizes = |known: &&Arc<Known>| known.dtype.holds_sizes() && known.dims.len() == 1;
        let known = node.input.iter().filter_map(|name| self.known(name)).filter(sizes).count();
        if node.op_type != "Concat" || known == 0 || known == node.input.len() {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for name in node.input.iter() {
            let part = match self.known(name).cloned() {
                Some(known) => Some(known),
                None => self.part(name)?,
            };
            let Some(part) = part else { return Ok(None) };
            parts.push(Some(part));
        }
        Ok(Some(parts))
    }

    /// A few numbers that are computed from data, as sizes.
    fn part(&mut self, name: &'a str) -> Result<Option<Arc<Known>>> {
        let Some(value) = self.data(name, None)? else { return Ok(None) };
        let [length] = *self.graph.shape(value) else { return Ok(None) };
        if length.is_open() || length.size > MAX_PARTS {
            return Ok(None);
        }
        if let Some(part) = self.parts.get(&value) {
            return Ok(Some(Arc::clone(part)));
        }
        let whole = self.graph.sizes.add(Expr::Dim(value, 0));
        self.graph.frozen.insert(whole);
        let exprs = (0..length.size).map(|_| {
            let counted = self.counted_value(name);
            self.graph.sizes.add(Expr::Dim(counted, 0))
        });
        let (exprs, dims) = (exprs.collect(), vec![length.size]);
        let part = Arc::new(Known { dims, exprs, dtype: DType::I64, open: Open::Stated });
        self.parts.insert(value, Arc::clone(&part));
        Ok(Some(part))
    }

    /// A value of which nothing is read but its size.
    fn counted_value(&mut self, name: &str) -> ValueId {
        let shape = Some(vec![self.count(&[])]);
        let name = name.to_string();
        self.graph.add_value(Value { name, dtype: None, shape, origin: Origin::Input })
    }

    /// Whether an input of a node is of a size that is counted, or is computed from such sizes.
    pub(in crate::onnx) fn is_counted(&self, name: &str) -> bool {
        let Some(binding) = self.find(name) else { return false };
        let known = binding.known.iter().flat_map(|known| known.exprs.iter().copied());
        let shape = binding.value.map(|value| self.graph.shape(value)).unwrap_or_default();
        shape.iter().any(|extent| extent.is_counted()) || self.graph.open(known) == Open::Counted
    }
}

fn is_prime(odd: usize) -> bool {
    (3..)
        .step_by(2)
        .take_while(|factor| factor * factor <= odd)
        .all(|factor| !odd.is_multiple_of(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_products() {
        let primes: Vec<usize> = (10_001..10_080).step_by(2).filter(|&n| is_prime(n)).collect();
        assert_eq!(primes, [10_007, 10_009, 10_037, 10_039, 10_061, 10_067, 10_069, 10_079]);
    }
}
