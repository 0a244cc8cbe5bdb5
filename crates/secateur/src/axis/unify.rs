//! Unification: makes two axes the same by refining and merging their atoms.
//!
//! Equations wait on a work list. Each step takes one and binds an atom, or replaces it by
//! equations between strictly smaller axes, so it ends. Every equation ends with both sides
//! the same or with both sides pinned, so the kept positions of both sides always agree.

use std::collections::VecDeque;

use super::{Axes, AxisId, Cause, Pin, Shape};

/// The outcome of [`Axes::unify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unified {
    /// Both axes are the same from now on.
    Merged,
    /// Parts of the axes have no common refinement; those are pinned, the others merged.
    Pinned,
    /// The sizes differ (or overflow); nothing was changed.
    SizesDiffer,
}

impl Axes {
    /// Makes two axes of one size the same, index by index.
    ///
    /// - An atom is bound to whatever is on the other side.
    /// - Two sums are cut at the union of their borders.
    /// - A product is cut at the borders of a sum that are multiples of its inner size.
    /// - Two products are peeled from the innermost factor and, where that ends, from the outermost.
    ///
    /// What remains has no common refinement and is pinned as `no common factorization`.
    pub fn unify(&mut self, a: AxisId, b: AxisId, cause: Cause) -> Unified {
        if self.size(a) != self.size(b) || self.size(a) == usize::MAX {
            return Unified::SizesDiffer;
        }
        let mut unifier =
            Unifier { axes: self, cause, work: vec![(a, b)], outcome: Unified::Merged };
        while let Some((a, b)) = unifier.work.pop() {
            unifier.step(a, b);
        }
        unifier.outcome
    }
}

struct Unifier<'a> {
    axes: &'a mut Axes,
    cause: Cause,
    work: Vec<(AxisId, AxisId)>,
    outcome: Unified,
}

impl Unifier<'_> {
    fn step(&mut self, a: AxisId, b: AxisId) {
        let (a, b) = (self.axes.find(a), self.axes.find(b));
        debug_assert_eq!(self.size(a), self.size(b));
        if a == b || self.size(a) <= 1 {
            return;
        }
        if !self.axes.spend(0) {
            return self.fail([a, b]);
        }
        match (self.axes.shape(a), self.axes.shape(b)) {
            (Shape::Atom, Shape::Atom) => self.axes.join(a, b, self.cause),
            (Shape::Atom, _) => self.axes.bind(a, b, self.cause),
            (_, Shape::Atom) => self.axes.bind(b, a, self.cause),
            (Shape::Sum(left), Shape::Sum(right)) => {
                let (left, right) = (left.clone(), right.clone());
                self.axes.join(a, b, self.cause);
                self.sums(&left, &right);
            }
            (Shape::Product(_), Shape::Product(_)) => self.products(a, b),
            (Shape::Sum(_), Shape::Product(_)) => self.sum_with_product(a, b),
            (Shape::Product(_), Shape::Sum(_)) => self.sum_with_product(b, a),
        }
    }

    fn size(&self, axis: AxisId) -> usize {
        self.axes.size(axis)
    }

    fn fail(&mut self, axes: impl IntoIterator<Item = AxisId>) {
        self.outcome = Unified::Pinned;
        for axis in axes {
            self.axes.pin(axis, Pin { reason: "no common factorization", cause: self.cause });
        }
    }

    /// Equates two rows of segments of the same total size, piece by piece.
    fn sums(&mut self, left: &[AxisId], right: &[AxisId]) {
        let mut left: Vec<_> = left.iter().rev().copied().collect();
        let mut right: Vec<_> = right.iter().rev().copied().collect();
        while let (Some(&a), Some(&b)) = (left.last(), right.last()) {
            let covered = if !self.axes.spend(1) {
                None
            } else if self.size(a) >= self.size(b) {
                self.cover(&mut left, &mut right)
            } else {
                self.cover(&mut right, &mut left)
            };
            if covered.is_none() {
                return self.fail(left.into_iter().chain(right));
            }
        }
    }

    /// Equates the next segment of `long` with as much of `short`, or opens it if it is a
    /// longer sum. `None` where `short` has no border at its end; then nothing is taken.
    fn cover(&mut self, long: &mut Vec<AxisId>, short: &mut Vec<AxisId>) -> Option<()> {
        let (head, other) = (*long.last()?, *short.last()?);
        let whole = self.size(head) == self.size(other);
        match self.axes.shape(head).segments() {
            Some(parts) if !whole => {
                long.pop();
                long.extend(parts.iter().rev());
            }
            _ => {
                let parts = self.take(short, self.size(head))?;
                let sum = self.axes.sum(&parts);
                long.pop();
                self.work.push((head, sum));
            }
        }
        Some(())
    }

    /// Removes segments of exactly `size` from the end of a reversed row, refining the one
    /// that crosses the border. `None` where it cannot be cut; then the row stands for the
    /// same axis as before.
    fn take(&mut self, row: &mut Vec<AxisId>, size: usize) -> Option<Vec<AxisId>> {
        let mut taken = Vec::new();
        let mut missing = size;
        while missing > 0 {
            let next = row.pop()?;
            if !self.axes.spend(1) {
                row.push(next);
                row.extend(taken.into_iter().rev());
                return None;
            }
            if self.size(next) <= missing {
                missing -= self.size(next);
                taken.push(next);
            } else if let Some(parts) = self.axes.shape(next).segments() {
                row.extend(parts.iter().rev());
            } else if let Some((before, after)) = self.axes.cut(next, missing, self.cause) {
                row.extend([after, before]);
            } else {
                row.push(next);
                row.extend(taken.into_iter().rev());
                return None;
            }
        }
        Some(taken)
    }

    /// `s₁ ++ s₂ ++ … = outer × inner`: groups the segments between borders that are multiples
    /// of the inner size, reads every group as `pieceᵢ × inner`, so `outer = piece₁ ++ piece₂ ++ …`.
    fn sum_with_product(&mut self, sum: AxisId, product: AxisId) {
        let mut outer = self.axes.flatten(product, Shape::factors);
        let Some(inner) = outer.pop() else { return };
        let groups = self.aligned(sum, self.size(inner));
        if groups.len() < 2 {
            return self.fail([sum, product]);
        }
        self.axes.bind(product, sum, self.cause);
        let mut pieces = Vec::new();
        for group in groups {
            let group = self.axes.sum(&group);
            pieces.push(self.axes.atom(self.size(group) / self.size(inner)));
            let product = self.axes.product(&[pieces[pieces.len() - 1], inner]);
            self.work.push((group, product));
        }
        let (outer, pieces) = (self.axes.product(&outer), self.axes.sum(&pieces));
        self.work.push((outer, pieces));
    }

    /// The segments of a sum, grouped between the borders that are multiples of `unit`; nothing
    /// where there are too many.
    fn aligned(&mut self, sum: AxisId, unit: usize) -> Vec<Vec<AxisId>> {
        let mut groups = Vec::new();
        let mut group = Vec::new();
        let mut end = 0;
        let mut stack = vec![sum];
        while let Some(axis) = stack.pop() {
            if !self.axes.spend(1) {
                return Vec::new();
            }
            if let Some(parts) = self.axes.shape(axis).segments() {
                stack.extend(parts.iter().rev());
                continue;
            }
            let segment = self.axes.find(axis);
            end += self.size(segment);
            group.push(segment);
            if end.is_multiple_of(unit) {
                groups.push(std::mem::take(&mut group));
            }
        }
        groups
    }

    fn products(&mut self, a: AxisId, b: AxisId) {
        let mut left = VecDeque::from(self.axes.flatten(a, Shape::factors));
        let mut right = VecDeque::from(self.axes.flatten(b, Shape::factors));
        self.axes.join(a, b, self.cause);
        for end in [End::Inner, End::Outer] {
            while self.peel(&mut left, &mut right, end).is_some() {}
        }
        if !left.is_empty() {
            self.fail(left.into_iter().chain(right));
        }
    }

    /// Equates what two products have in common at one end, the greatest common divisor of
    /// the factors there, and leaves the rest of these factors. `None` where it is 1.
    fn peel(
        &mut self,
        left: &mut VecDeque<AxisId>,
        right: &mut VecDeque<AxisId>,
        end: End,
    ) -> Option<()> {
        let (a, b) = (end.peek(left)?, end.peek(right)?);
        let common = gcd(self.size(a), self.size(b));
        let shared = match common {
            1 => return None,
            _ if common == self.size(a) => a,
            _ if common == self.size(b) => b,
            _ => self.axes.atom(common),
        };
        for factors in [left, right] {
            self.divide(factors, shared, end)?;
        }
        Some(())
    }

    /// Replaces the factor at one end by what remains of it without `shared`.
    fn divide(&mut self, factors: &mut VecDeque<AxisId>, shared: AxisId, end: End) -> Option<()> {
        let factor = end.pop(factors)?;
        let rest = self.size(factor) / self.size(shared);
        if rest == 1 {
            self.work.push((factor, shared));
            return Some(());
        }
        let rest = self.axes.atom(rest);
        let product = self.axes.product(&end.order(rest, shared));
        end.push(factors, rest);
        self.work.push((factor, product));
        Some(())
    }
}

/// An end of a product.
#[derive(Clone, Copy)]
enum End {
    Inner,
    Outer,
}

impl End {
    fn peek(self, factors: &VecDeque<AxisId>) -> Option<AxisId> {
        match self {
            End::Inner => factors.back().copied(),
            End::Outer => factors.front().copied(),
        }
    }

    fn pop(self, factors: &mut VecDeque<AxisId>) -> Option<AxisId> {
        match self {
            End::Inner => factors.pop_back(),
            End::Outer => factors.pop_front(),
        }
    }

    fn push(self, factors: &mut VecDeque<AxisId>, factor: AxisId) {
        match self {
            End::Inner => factors.push_back(factor),
            End::Outer => factors.push_front(factor),
        }
    }

    /// Two factors in row-major order, `last` at this end.
    fn order(self, rest: AxisId, last: AxisId) -> [AxisId; 2] {
        match self {
            End::Inner => [rest, last],
            End::Outer => [last, rest],
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}
