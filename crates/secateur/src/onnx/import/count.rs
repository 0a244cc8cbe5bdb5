//! Sizes that are counted from data: made up, so that what follows them can be analyzed.

use super::Importer;
use crate::graph::{Extent, Open};

/// The first that is made up: larger than what is evaluated element by element, than most literals
/// and than the limits that detectors set to what they count.
const FIRST: usize = 10_007;

impl Importer<'_> {
    /// A size that nothing else has, of what is counted among the elements of these axes. It is
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
