//! Resolved axes: what an axis is made of, as a value that no longer needs the arena.

use std::collections::HashSet;
use std::fmt;
use std::iter::repeat_n;

use super::{Axes, AxisId, Shape};

/// A resolved axis. Sums and products alternate, so the depth is logarithmic in the size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tree {
    /// An independent dimension.
    Atom {
        /// The representative.
        atom: AxisId,
        /// The number of indices.
        size: usize,
    },
    /// Segments end to end.
    Sum(Vec<Tree>),
    /// A row-major product, the last factor fastest.
    Product(Vec<Tree>),
}

impl Axes {
    /// What the axis is made of now. Nested sums are one sum, nested products one product.
    pub fn tree(&self, axis: AxisId) -> Tree {
        match self.shape(axis) {
            Shape::Atom => Tree::Atom { atom: self.find(axis), size: self.size(axis) },
            Shape::Sum(_) => Tree::Sum(self.trees(self.flatten(axis, Shape::segments))),
            Shape::Product(_) => Tree::Product(self.trees(self.flatten(axis, Shape::factors))),
        }
    }

    /// As [`Tree::sized`] of [`Axes::tree`], without making the tree.
    pub fn sized(&self, axis: AxisId, size_of: &impl Fn(AxisId) -> Option<usize>) -> usize {
        let sized = |&child: &AxisId| self.sized(child, size_of);
        match self.shape(axis) {
            Shape::Atom if self.size(axis) <= 1 => self.size(axis),
            Shape::Atom => size_of(self.find(axis)).unwrap_or_else(|| self.size(axis)),
            Shape::Sum(parts) => parts.iter().map(sized).fold(0, usize::saturating_add),
            Shape::Product(factors) => factors.iter().map(sized).fold(1, usize::saturating_mul),
        }
    }

    fn trees(&self, axes: Vec<AxisId>) -> Vec<Tree> {
        axes.into_iter().map(|axis| self.tree(axis)).collect()
    }
}

impl Tree {
    /// The number of indices.
    pub fn size(&self) -> usize {
        self.sized(&|_| None)
    }

    /// The number of indices once atoms have new sizes; `None` leaves one unchanged.
    pub fn sized(&self, size_of: &impl Fn(AxisId) -> Option<usize>) -> usize {
        match self {
            &Tree::Atom { size, .. } if size <= 1 => size,
            &Tree::Atom { atom, size } => size_of(atom).unwrap_or(size),
            Tree::Sum(parts) => {
                parts.iter().map(|part| part.sized(size_of)).fold(0, usize::saturating_add)
            }
            Tree::Product(factors) => {
                factors.iter().map(|f| f.sized(size_of)).fold(1, usize::saturating_mul)
            }
        }
    }

    /// The positions of the axis that stay when atoms keep the given indices (sorted; `None`
    /// keeps all). Sorted; `None` when nothing is removed.
    pub fn kept<'k>(&self, keep: &impl Fn(AxisId) -> Option<&'k [u32]>) -> Option<Vec<u32>> {
        if !self.has(&|atom| keep(atom).is_some()) {
            return None;
        }
        let mut positions = Vec::new();
        self.survivors(keep, 0, &mut positions);
        (positions.len() < self.size()).then_some(positions)
    }

    /// Adds the positions that stay, from `start` on.
    fn survivors<'k>(
        &self,
        keep: &impl Fn(AxisId) -> Option<&'k [u32]>,
        start: u32,
        positions: &mut Vec<u32>,
    ) {
        match self {
            &Tree::Atom { atom, size } => match keep(atom) {
                Some(kept) if size > 1 => positions.extend(kept.iter().map(|index| start + index)),
                _ => positions.extend(start..start + size as u32),
            },
            Tree::Sum(parts) => {
                let mut start = start;
                for part in parts {
                    part.survivors(keep, start, positions);
                    start += part.size() as u32;
                }
            }
            Tree::Product(factors) => {
                let product = factors.iter().fold(vec![0], |outer, factor| {
                    let (mut inner, size) = (Vec::new(), factor.size() as u32);
                    factor.survivors(keep, 0, &mut inner);
                    outer.iter().flat_map(|o| inner.iter().map(move |i| o * size + i)).collect()
                });
                positions.extend(product.iter().map(|position| start + position));
            }
        }
    }

    /// Where each index of the atom sits: tables from the positions of the axis to the atom's
    /// indices, `u32::MAX` where the table does not reach. An atom that stands in several segments
    /// shares a table; one that is multiplied by itself has one for each factor.
    pub fn positions(&self, atom: AxisId) -> Vec<Vec<u32>> {
        match self {
            &Tree::Atom { atom: leaf, size } if leaf == atom => vec![(0..size as u32).collect()],
            Tree::Atom { .. } => Vec::new(),
            Tree::Sum(parts) => self.segment_positions(parts, atom),
            Tree::Product(factors) => self.factor_positions(factors, atom),
        }
    }

    /// Tells every position of the axis that an index of the atom sits at, from `start` on, with that
    /// index.
    pub fn visit_positions(&self, atom: AxisId, start: usize, visit: &mut impl FnMut(usize, u32)) {
        match self {
            &Tree::Atom { atom: leaf, size } if leaf == atom => {
                (start..start + size).zip(0..).for_each(|(at, index)| visit(at, index));
            }
            Tree::Atom { .. } => {}
            Tree::Sum(parts) => {
                let mut start = start;
                for part in parts {
                    part.visit_positions(atom, start, visit);
                    start += part.size();
                }
            }
            Tree::Product(factors) => {
                for table in self.factor_positions(factors, atom) {
                    let held = (start..).zip(table).filter(|&(_, index)| index != u32::MAX);
                    held.for_each(|(at, index)| visit(at, index));
                }
            }
        }
    }

    fn segment_positions(&self, parts: &[Tree], atom: AxisId) -> Vec<Vec<u32>> {
        let mut tables: Vec<Vec<u32>> = Vec::new();
        let mut start = 0;
        for part in parts {
            let end = start + part.size();
            for (number, table) in part.positions(atom).into_iter().enumerate() {
                if number == tables.len() {
                    tables.push(vec![u32::MAX; self.size()]);
                }
                tables[number][start..end].copy_from_slice(&table);
            }
            start = end;
        }
        tables
    }

    fn factor_positions(&self, factors: &[Tree], atom: AxisId) -> Vec<Vec<u32>> {
        let mut tables = Vec::new();
        let (size, mut outer) = (self.size(), 1);
        for factor in factors {
            for table in factor.positions(atom) {
                let inner = size / (outer * table.len());
                let row = table.iter().flat_map(|&index| repeat_n(index, inner));
                tables.push(repeat_n((), outer).flat_map(|()| row.clone()).collect());
            }
            outer *= factor.size();
        }
        tables
    }

    /// The distinct leaves of size over 1, in order of first appearance.
    pub fn atoms(&self) -> Vec<AxisId> {
        let mut atoms = Vec::new();
        self.collect_leaves(&mut atoms);
        let mut sorted = atoms.clone();
        sorted.sort_unstable();
        if !sorted.is_sorted_by(|a, b| a < b) {
            let mut seen = HashSet::with_capacity(atoms.len());
            atoms.retain(|&atom| seen.insert(atom));
        }
        atoms
    }

    fn collect_leaves(&self, leaves: &mut Vec<AxisId>) {
        match self {
            &Tree::Atom { atom, size } if size > 1 => leaves.push(atom),
            Tree::Atom { .. } => {}
            Tree::Sum(children) | Tree::Product(children) => {
                children.iter().for_each(|child| child.collect_leaves(leaves));
            }
        }
    }

    /// Whether `atom`, a representative, is one of [`Tree::atoms`].
    pub fn contains(&self, atom: AxisId) -> bool {
        self.has(&|leaf| leaf == atom)
    }

    /// Whether one of [`Tree::atoms`] is such.
    fn has(&self, is_such: &impl Fn(AxisId) -> bool) -> bool {
        match self {
            &Tree::Atom { atom, size } => size > 1 && is_such(atom),
            Tree::Sum(children) | Tree::Product(children) => {
                children.iter().any(|child| child.has(is_such))
            }
        }
    }

    /// The tree in the notation of the rules, such as `3 × h × 64` or `(a ++ b) × 49`, with
    /// the caller's names for the atoms. A leaf of size 1 is `1`.
    pub fn describe(&self, name: &impl Fn(AxisId) -> String) -> String {
        match self {
            Tree::Atom { size: 1, .. } => "1".to_string(),
            &Tree::Atom { atom, .. } => name(atom),
            Tree::Sum(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| part.describe(name)).collect();
                parts.join(" ++ ")
            }
            Tree::Product(factors) => {
                let factors: Vec<_> = factors.iter().map(|f| f.describe_factor(name)).collect();
                factors.join(" × ")
            }
        }
    }

    fn describe_factor(&self, name: &impl Fn(AxisId) -> String) -> String {
        match self {
            Tree::Sum(_) => format!("({})", self.describe(name)),
            Tree::Atom { .. } | Tree::Product(_) => self.describe(name),
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(&|atom| atom.to_string()))
    }
}
