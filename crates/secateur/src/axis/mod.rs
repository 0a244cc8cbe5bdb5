//! The axis algebra: which dimensions of a model are the same, and what they are made of.
//!
//! An axis is a tree over *atoms*: an atom, a sum (segments end to end) or a product
//! (row-major, last fastest). [`Axes::unify`] makes two axes the same, as in type inference:
//! it refines atoms until both sides have one form and merges them. Where no common form
//! exists, both sides are pinned, which is always sound.
//!
//! This module knows nothing of graphs, operators or tensors: a [`Cause`] is an opaque number.
//!
//! ```
//! use secateur::axis::{Axes, Cause};
//!
//! let mut axes = Axes::new();
//! let (channels, pixels, features) = (axes.atom(64), axes.atom(49), axes.atom(64 * 49));
//! let flat = axes.product(&[channels, pixels]);
//! axes.unify(flat, features, Cause(0));
//! assert_eq!(axes.atoms(features), [channels, pixels]);
//! ```

mod tree;
mod unify;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

pub use tree::Tree;
pub use unify::Unified;

/// An axis or a part of one: an index into the [`Axes`] that made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AxisId(u32);

impl AxisId {
    /// The axis at this position.
    pub(crate) fn new(index: usize) -> Self {
        AxisId(index as u32)
    }

    /// The position in the arena, dense from zero.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for AxisId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0)
    }
}

/// Hashes [`AxisId`]s, which no one chooses: they are dense.
pub(crate) type HashAxis = BuildHasherDefault<AxisHasher>;

#[derive(Default)]
pub(crate) struct AxisHasher(u64);

impl Hasher for AxisHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    fn write_u32(&mut self, number: u32) {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(GOLDEN);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Who caused a merge, a refinement or a pin: the caller's number for a graph node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cause(pub u32);

/// Why an atom must keep all of its indices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin {
    /// What requires every index, in words.
    pub reason: &'static str,
    /// The node that requires it.
    pub cause: Cause,
}

/// What an unbound axis is made of.
#[derive(Clone, Debug)]
enum Shape {
    Atom,
    /// At least two parts, each of size at least 1.
    Sum(Arc<[AxisId]>),
    /// At least two factors, each of size at least 2.
    Product(Arc<[AxisId]>),
}

impl Shape {
    fn segments(&self) -> Option<&[AxisId]> {
        match self {
            Shape::Sum(parts) => Some(parts),
            Shape::Atom | Shape::Product(_) => None,
        }
    }

    fn factors(&self) -> Option<&[AxisId]> {
        match self {
            Shape::Product(factors) => Some(factors),
            Shape::Atom | Shape::Sum(_) => None,
        }
    }

    fn children(&self) -> &[AxisId] {
        match self {
            Shape::Atom => &[],
            Shape::Sum(children) | Shape::Product(children) => children,
        }
    }
}

/// What is left of a list.
enum Few {
    None,
    One(AxisId),
    Many(Arc<[AxisId]>),
}

/// Invariant: children are strictly smaller than their parent and a link joins equal sizes.
/// Both are checked where slots are made and bound. So no axis can contain itself: the
/// occurs check of unification is the equality of sizes.
#[derive(Clone, Debug)]
struct Slot {
    size: usize,
    shape: Shape,
    /// Set at most once: the axis that this one was bound to, which stands for it from then on.
    link: Option<(AxisId, Cause)>,
    /// On a sum or product: every leaf below is pinned.
    pin: Option<Pin>,
    /// Bounds the length of the chains of links that end here.
    rank: u8,
}

/// The most leaves that a tree may have once [`Axes::seal`] ran.
const MAX_LEAVES: u32 = 1 << 16;

/// The most segments that all unifications together may look at; then they pin.
const MAX_EFFORT: usize = 1 << 20;

/// The arena of all axes of one model, a union-find over their trees.
///
/// Trees share their parts, so that one of 60 axes can have more leaves than fit into memory. What
/// walks a tree leaf by leaf runs after `seal`, or within a bounded effort.
///
/// Sizes saturate at `usize::MAX`; an axis of that size is never unified. Axes of size 0 and 1
/// cannot be cut and are never merged. An [`AxisId`] is valid only in the arena that made it.
#[derive(Clone, Debug, Default)]
pub struct Axes {
    slots: Vec<Slot>,
    /// What [`Axes::attempt`] restores on failure; empty while none is running.
    trail: Vec<(AxisId, Slot)>,
    attempts: u32,
    /// Segments that unification has looked at.
    effort: usize,
}

impl Axes {
    /// An empty arena.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many axes were made: more than any [`AxisId::index`].
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A new independent axis of `size` indices.
    pub fn atom(&mut self, size: usize) -> AxisId {
        self.add(size, Shape::Atom)
    }

    /// Segments laid end to end. Empty parts are dropped; a single part is returned as it is.
    pub fn sum(&mut self, parts: &[AxisId]) -> AxisId {
        let sizes = parts.iter().map(|&part| self.size(part));
        let size = sizes.fold(0, usize::saturating_add);
        match self.without(parts, 0) {
            Few::None => self.atom(0),
            Few::One(part) => part,
            Few::Many(parts) => self.add(size, Shape::Sum(parts)),
        }
    }

    /// A row-major product, the last factor fastest. Factors of size 1 are dropped; a single
    /// factor is returned as it is. No factors make an atom of size 1, an empty factor one of
    /// size 0.
    pub fn product(&mut self, factors: &[AxisId]) -> AxisId {
        let sizes = || factors.iter().map(|&factor| self.size(factor));
        let empty = sizes().any(|size| size == 0);
        let size = sizes().fold(1, usize::saturating_mul);
        if empty {
            return self.atom(0);
        }
        match self.without(factors, 1) {
            Few::None => self.atom(1),
            Few::One(factor) => factor,
            Few::Many(factors) => self.add(size, Shape::Product(factors)),
        }
    }

    /// The axes that are not of this size.
    fn without(&self, axes: &[AxisId], size: usize) -> Few {
        let others = axes.iter().copied().filter(|&axis| self.size(axis) != size);
        match (others.clone().next(), others.clone().count()) {
            (None, _) => Few::None,
            (Some(only), 1) => Few::One(only),
            (_, count) if count == axes.len() => Few::Many(axes.into()),
            _ => Few::Many(others.collect()),
        }
    }

    /// The number of indices.
    pub fn size(&self, axis: AxisId) -> usize {
        self.slot(axis).size
    }

    /// Requires every index of the axis to stay: pins every leaf of its tree, now and after
    /// any refinement. The first pin of an atom wins.
    pub fn pin(&mut self, axis: AxisId, pin: Pin) {
        let mut stack = vec![axis];
        while let Some(axis) = stack.pop() {
            let root = self.find(axis);
            if self.slot(root).pin.is_none() {
                self.slot_mut(root).pin = Some(pin);
                stack.extend(self.shape(root).children().iter().rev());
            }
        }
    }

    /// Pins every axis whose tree has too many leaves to be walked, and makes it an atom. Nothing is
    /// unified afterwards.
    pub(crate) fn seal(&mut self, pin: Pin) {
        let mut roots: Vec<AxisId> = (0..self.slots.len() as u32).map(AxisId).collect();
        roots.retain(|&axis| self.slot(axis).link.is_none());
        // Parts come before what is made of them.
        roots.sort_by_key(|&axis| self.size(axis));
        let mut leaves = vec![1u32; self.slots.len()];
        for root in roots {
            let children = self.shape(root).children().iter();
            let count = children.map(|&child| leaves[self.find(child).index()]);
            leaves[root.index()] = count.fold(0, u32::saturating_add).max(1);
            if leaves[root.index()] > MAX_LEAVES {
                self.pin(root, pin);
                self.slots[root.index()].shape = Shape::Atom;
                leaves[root.index()] = 1;
            }
        }
    }

    /// Notes that unification looked at segments; `false` once it has looked at too many.
    fn spend(&mut self, segments: usize) -> bool {
        self.effort = self.effort.saturating_add(segments);
        self.effort <= MAX_EFFORT
    }

    /// The segments before and from position `at`; refines the axis so that it has a border
    /// there. `None`, and no change, where a product has no border at `at` or `at` is too large.
    pub fn cut(&mut self, axis: AxisId, at: usize, cause: Cause) -> Option<(AxisId, AxisId)> {
        let rest = self.size(axis).checked_sub(at)?;
        if at == 0 {
            return Some((self.atom(0), axis));
        }
        if rest == 0 {
            return Some((axis, self.atom(0)));
        }
        let (left, right) = (self.atom(at), self.atom(rest));
        let whole = self.sum(&[left, right]);
        self.attempt(axis, whole, cause).then_some((left, right))
    }

    /// The axis as `outer × inner`, returned in this order; refines the axis where needed.
    /// `None`, and no change, where the tree cannot be read that way.
    pub fn factor(&mut self, axis: AxisId, inner: usize, cause: Cause) -> Option<(AxisId, AxisId)> {
        let size = self.size(axis);
        if inner == 0 || !size.is_multiple_of(inner) {
            return None;
        }
        if inner == 1 || size == 0 {
            return Some((axis, self.atom(inner)));
        }
        if inner == size {
            return Some((self.atom(1), axis));
        }
        let (outer, inner) = (self.atom(size / inner), self.atom(inner));
        let whole = self.product(&[outer, inner]);
        self.attempt(axis, whole, cause).then_some((outer, inner))
    }

    /// The representative: two axes with the same one have been made the same.
    pub fn find(&self, axis: AxisId) -> AxisId {
        let mut root = axis;
        while let Some((next, _)) = self.slot(root).link {
            root = next;
        }
        root
    }

    /// The distinct leaves of size over 1, in order of first appearance.
    pub fn atoms(&self, axis: AxisId) -> Vec<AxisId> {
        if let Shape::Atom = self.shape(axis) {
            let is_divisible = self.size(axis) > 1;
            return if is_divisible { vec![self.find(axis)] } else { Vec::new() };
        }
        let mut seen: HashSet<AxisId, HashAxis> = HashSet::default();
        let mut atoms = Vec::new();
        let mut stack = vec![axis];
        while let Some(axis) = stack.pop() {
            let root = self.find(axis);
            if self.size(root) <= 1 || !seen.insert(root) {
                continue;
            }
            match self.shape(root).children() {
                [] => atoms.push(root),
                children => stack.extend(children.iter().rev()),
            }
        }
        atoms
    }

    /// Whether `atom`, a leaf, is one of [`Axes::atoms`].
    pub fn contains(&self, axis: AxisId, atom: AxisId) -> bool {
        let atom = self.find(atom);
        let mut stack = vec![axis];
        while let Some(axis) = stack.pop() {
            let root = self.find(axis);
            if self.size(root) <= 1 {
                continue;
            }
            if root == atom {
                return true;
            }
            stack.extend(self.shape(root).children());
        }
        false
    }

    /// The pin of an atom. Ask it of leaves: a sum or product may answer `None` although each
    /// of its leaves is pinned.
    pub fn pinned(&self, atom: AxisId) -> Option<Pin> {
        self.slot(self.find(atom)).pin
    }

    /// Who bound this axis to another one or to a tree, if anyone did.
    pub fn refined_by(&self, axis: AxisId) -> Option<Cause> {
        self.slot(axis).link.map(|(_, cause)| cause)
    }

    fn add(&mut self, size: usize, shape: Shape) -> AxisId {
        debug_assert!(
            size == usize::MAX || shape.children().iter().all(|&child| self.size(child) < size)
        );
        let id = AxisId(self.slots.len() as u32);
        self.slots.push(Slot { size, shape, link: None, pin: None, rank: 0 });
        id
    }

    fn slot(&self, axis: AxisId) -> &Slot {
        &self.slots[axis.index()]
    }

    fn slot_mut(&mut self, axis: AxisId) -> &mut Slot {
        if self.attempts > 0 {
            self.trail.push((axis, self.slot(axis).clone()));
        }
        &mut self.slots[axis.index()]
    }

    /// What the representative is made of.
    fn shape(&self, axis: AxisId) -> &Shape {
        &self.slot(self.find(axis)).shape
    }

    /// The leaves of the nested sums (or products) at the top of the tree, as representatives.
    fn flatten(&self, axis: AxisId, open: impl Fn(&Shape) -> Option<&[AxisId]>) -> Vec<AxisId> {
        let mut flat = Vec::new();
        let mut stack = vec![axis];
        while let Some(axis) = stack.pop() {
            match open(self.shape(axis)) {
                Some(children) => stack.extend(children.iter().rev()),
                None => flat.push(self.find(axis)),
            }
        }
        flat
    }

    /// Lets `to` stand for `from`: distinct representatives of one size.
    fn bind(&mut self, from: AxisId, to: AxisId, cause: Cause) {
        debug_assert!(from != to && self.size(from) == self.size(to));
        if let Some(pin) = self.slot(from).pin {
            self.pin(to, pin);
        }
        let rank = self.slot(to).rank.max(self.slot(from).rank + 1);
        self.slot_mut(to).rank = rank;
        self.slot_mut(from).link = Some((to, cause));
    }

    /// Binds the representative with the shorter chains to the other. With the direction
    /// prescribed only from atoms to trees and from products to sums, ranks stay logarithmic.
    fn join(&mut self, a: AxisId, b: AxisId, cause: Cause) {
        if self.slot(a).rank > self.slot(b).rank {
            self.bind(b, a, cause);
        } else {
            self.bind(a, b, cause);
        }
    }

    /// Unifies, or changes nothing where that would pin.
    fn attempt(&mut self, a: AxisId, b: AxisId, cause: Cause) -> bool {
        let (slots, trail) = (self.slots.len(), self.trail.len());
        self.attempts += 1;
        let merged = self.unify(a, b, cause) == Unified::Merged;
        self.attempts -= 1;
        if !merged {
            for (axis, slot) in self.trail.drain(trail..).rev() {
                self.slots[axis.index()] = slot;
            }
            self.slots.truncate(slots);
        }
        if self.attempts == 0 {
            self.trail.clear();
        }
        merged
    }
}
