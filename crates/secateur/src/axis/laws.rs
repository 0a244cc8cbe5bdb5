//! Laws of the algebra, on random axes and random sequences of operations, against a model
//! that expands every axis into its positions.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const PIN: Pin = Pin { reason: "test", cause: Cause(99) };
const TOTALS: [usize; 6] = [6, 8, 12, 16, 24, 36];

/// How an axis was made: its parts are numbers of earlier axes.
#[derive(Clone, Debug)]
enum Made {
    Atom,
    Sum(Vec<usize>),
    Product(Vec<usize>),
}

/// Everything that was done to the arena, in the order of time.
#[derive(Default)]
struct World {
    axes: Axes,
    ids: Vec<AxisId>,
    made: Vec<Made>,
    unified: Vec<(usize, usize)>,
    pinned: Vec<usize>,
    seen_pinned: Vec<AxisId>,
}

/// A stream of decisions that shrinks to zeros.
struct Choices<'a>(std::slice::Iter<'a, u16>);

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.0.next().map_or(0, |&choice| choice as usize % bound)
    }
}

impl World {
    fn run(choices: &[u16]) -> World {
        let mut choices = Choices(choices.iter());
        let mut world = World::default();
        let total = TOTALS[choices.below(TOTALS.len())];
        for _ in 0..3 + choices.below(4) {
            world.grow(total, 3, &mut choices);
        }
        for step in 0..1 + choices.below(10) {
            world.act(Cause(step as u32), &mut choices);
            world.check_pins();
        }
        world
    }

    fn push(&mut self, id: AxisId, made: Made) -> usize {
        self.ids.push(id);
        self.made.push(made);
        self.ids.len() - 1
    }

    fn size(&self, axis: usize) -> usize {
        self.axes.size(self.ids[axis])
    }

    fn of_size(&self, size: usize) -> Vec<usize> {
        (0..self.ids.len()).filter(|&axis| self.size(axis) == size).collect()
    }

    /// A random tree of the given size, sometimes one that exists.
    fn grow(&mut self, size: usize, depth: usize, choices: &mut Choices) -> usize {
        let known = self.of_size(size);
        let divisors: Vec<_> = (2..size).filter(|&divisor| size.is_multiple_of(divisor)).collect();
        match choices.below(8) {
            0 | 1 if depth < 3 && !known.is_empty() => known[choices.below(known.len())],
            2..=4 if depth > 0 && size > 1 => {
                let at = 1 + choices.below(size - 1);
                let parts = [at, size - at].map(|part| self.grow(part, depth - 1, choices));
                let id = self.axes.sum(&parts.map(|part| self.ids[part]));
                self.push(id, Made::Sum(parts.to_vec()))
            }
            5..=7 if depth > 0 && !divisors.is_empty() => {
                let inner = divisors[choices.below(divisors.len())];
                let factors = [size / inner, inner].map(|f| self.grow(f, depth - 1, choices));
                let id = self.axes.product(&factors.map(|factor| self.ids[factor]));
                self.push(id, Made::Product(factors.to_vec()))
            }
            _ => {
                let id = self.axes.atom(size);
                self.push(id, Made::Atom)
            }
        }
    }

    /// A product of new atoms.
    fn chain(&mut self, size: usize, choices: &mut Choices) -> usize {
        let divisors: Vec<_> = (2..size).filter(|&divisor| size.is_multiple_of(divisor)).collect();
        match choices.below(1 + divisors.len()).checked_sub(1) {
            None => {
                let id = self.axes.atom(size);
                self.push(id, Made::Atom)
            }
            Some(index) => {
                let factors = [divisors[index], size / divisors[index]];
                let factors = factors.map(|factor| self.chain(factor, choices));
                let id = self.axes.product(&factors.map(|factor| self.ids[factor]));
                self.push(id, Made::Product(factors.to_vec()))
            }
        }
    }

    fn act(&mut self, cause: Cause, choices: &mut Choices) {
        let axis = choices.below(self.ids.len());
        let (id, size) = (self.ids[axis], self.size(axis));
        match choices.below(8) {
            0 => {
                self.axes.pin(id, PIN);
                self.pinned.push(axis);
            }
            1 => {
                let (at, before) = (choices.below(size + 1), self.state());
                match self.axes.cut(id, at, cause) {
                    Some((left, right)) => {
                        assert_eq!(self.axes.size(left), at);
                        self.record(axis, [left, right], Made::Sum);
                    }
                    None => assert_eq!(self.state(), before),
                }
            }
            2 => {
                let (inner, before) = (1 + choices.below(size.max(1)), self.state());
                match self.axes.factor(id, inner, cause) {
                    Some((outer, right)) => {
                        assert_eq!(self.axes.size(right), inner);
                        self.record(axis, [outer, right], Made::Product);
                    }
                    None => assert_eq!(self.state(), before),
                }
            }
            _ => {
                let others = self.of_size(size);
                let other = others[choices.below(others.len())];
                self.axes.unify(id, self.ids[other], cause);
                self.unified.push((axis, other));
            }
        }
    }

    fn record(&mut self, whole: usize, parts: [AxisId; 2], how: impl Fn(Vec<usize>) -> Made) {
        let ids = parts.map(|part| self.push(part, Made::Atom));
        let id = self.ids[whole];
        let read = self.push(id, how(ids.to_vec()));
        self.unified.push((whole, read));
    }

    fn state(&self) -> Vec<(Tree, Option<Pin>)> {
        let last = self.ids.iter().max().map_or(0, |id| id.0);
        let known = (0..=last).map(AxisId);
        known.map(|id| (self.axes.tree(id), self.axes.pinned(id))).collect()
    }

    /// Pinned atoms never become free again, whatever they are refined into.
    fn check_pins(&mut self) {
        let pinned = self.pinned.iter().map(|&axis| self.ids[axis]);
        for id in pinned.chain(self.seen_pinned.iter().copied()) {
            let atoms = self.axes.atoms(id);
            assert!(atoms.iter().all(|&atom| self.axes.pinned(atom).is_some()));
        }
        let every = self.ids.iter().flat_map(|&id| self.axes.atoms(id));
        self.seen_pinned.extend(every.filter(|&atom| self.axes.pinned(atom).is_some()));
        self.seen_pinned.sort();
        self.seen_pinned.dedup();
    }

    /// The coordinates of a position in free atoms.
    fn coordinates(&self, axis: usize, position: usize) -> Vec<(AxisId, usize)> {
        let mut found = Vec::new();
        resolve(&self.axes.tree(self.ids[axis]), position, &mut found);
        found.retain(|&(atom, _)| self.axes.pinned(atom).is_none() && self.axes.size(atom) > 1);
        found
    }

    fn kept(&self, axis: usize, keep: &HashMap<AxisId, Vec<u32>>) -> Vec<u32> {
        let tree = self.axes.tree(self.ids[axis]);
        let kept = tree.kept(&|atom| keep.get(&atom).map(Vec::as_slice));
        let kept = kept.unwrap_or_else(|| (0..tree.size() as u32).collect());
        assert_eq!(tree.sized(&|atom| keep.get(&atom).map(Vec::len)), kept.len());
        kept
    }

    /// A random choice of kept indices for every free atom.
    fn random_keep(&self, choices: &mut Choices) -> HashMap<AxisId, Vec<u32>> {
        let mut keep = HashMap::new();
        for &id in &self.ids {
            for atom in self.axes.atoms(id) {
                let size = self.axes.size(atom) as u32;
                if self.axes.pinned(atom).is_none() && !keep.contains_key(&atom) {
                    keep.insert(atom, (0..size).filter(|_| choices.below(2) == 1).collect());
                }
            }
        }
        keep
    }

    /// Unified axes keep the same positions, and sums and products keep what their parts keep.
    fn check_kept(&self, choices: &mut Choices) {
        let keep = self.random_keep(choices);
        let kept: Vec<_> = (0..self.ids.len()).map(|axis| self.kept(axis, &keep)).collect();
        for &(a, b) in &self.unified {
            assert_eq!(kept[a], kept[b]);
        }
        let stays = |axis: usize, position: usize| kept[axis].contains(&(position as u32));
        let row = |axis: usize| (0..self.size(axis)).map(move |position| stays(axis, position));
        for (axis, made) in self.made.iter().enumerate() {
            let expected: Vec<bool> = match made {
                Made::Atom => continue,
                Made::Sum(parts) => parts.iter().flat_map(|&part| row(part)).collect(),
                Made::Product(factors) => row(factors[0])
                    .flat_map(|outer| row(factors[1]).map(move |inner| outer && inner))
                    .collect(),
            };
            assert_eq!(row(axis).collect::<Vec<_>>(), expected);
        }
    }

    /// Equality of positions as the definitions alone have it: through unified axes, through
    /// segments, and of products whose coordinates are equal.
    fn position_classes(&self) -> Classes {
        let mut classes = Classes::default();
        for &(a, b) in &self.unified {
            (0..self.size(a)).for_each(|position| classes.union((a, position), (b, position)));
        }
        for (axis, made) in self.made.iter().enumerate() {
            if let Made::Sum(parts) = made {
                let positions = parts.iter().flat_map(|&p| (0..self.size(p)).map(move |i| (p, i)));
                positions.enumerate().for_each(|(i, part)| classes.union((axis, i), part));
            }
        }
        while self.close_products(&mut classes) {}
        classes
    }

    fn close_products(&self, classes: &mut Classes) -> bool {
        let mut changed = false;
        let mut by_coordinates = HashMap::new();
        for (axis, made) in self.made.iter().enumerate() {
            let Made::Product(factors) = made else { continue };
            let [outer, inner] = factors[..] else { continue };
            for position in 0..self.size(axis) {
                let (o, i) = (position / self.size(inner), position % self.size(inner));
                let key = (classes.find((outer, o)), classes.find((inner, i)));
                let first = *by_coordinates.entry(key).or_insert((axis, position));
                changed |= classes.find(first) != classes.find((axis, position));
                classes.union(first, (axis, position));
            }
        }
        changed
    }
}

fn resolve(tree: &Tree, position: usize, found: &mut Vec<(AxisId, usize)>) {
    match tree {
        Tree::Atom { atom, .. } => found.push((*atom, position)),
        Tree::Sum(parts) => {
            let mut position = position;
            for part in parts {
                if position < part.size() {
                    return resolve(part, position, found);
                }
                position -= part.size();
            }
        }
        Tree::Product(factors) => {
            let mut inner = tree.size();
            for factor in factors {
                inner /= factor.size();
                resolve(factor, position / inner % factor.size(), found);
            }
        }
    }
}

type Position = (usize, usize);

#[derive(Default)]
struct Classes(HashMap<Position, Position>);

impl Classes {
    fn find(&self, position: Position) -> Position {
        self.0.get(&position).map_or(position, |&next| self.find(next))
    }

    fn union(&mut self, a: Position, b: Position) {
        let (a, b) = (self.find(a), self.find(b));
        if a != b {
            self.0.insert(a, b);
        }
    }
}

fn choices() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 0..160)
}

/// The tree with random parts hidden behind fresh atoms.
fn coarsen(axes: &mut Axes, tree: &Tree, choices: &mut Choices) -> AxisId {
    if choices.below(3) == 1 {
        return axes.atom(tree.size());
    }
    match tree {
        Tree::Atom { atom, .. } => *atom,
        Tree::Sum(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| coarsen(axes, part, choices)).collect();
            axes.sum(&parts)
        }
        Tree::Product(factors) => {
            let factors: Vec<_> = factors.iter().map(|f| coarsen(axes, f, choices)).collect();
            axes.product(&factors)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equated_positions_have_equal_free_coordinates(choices in choices()) {
        let world = World::run(&choices);
        let classes = world.position_classes();
        let mut first = HashMap::new();
        for axis in 0..world.ids.len() {
            for position in 0..world.size(axis) {
                let coordinates = world.coordinates(axis, position);
                let class = classes.find((axis, position));
                let known = first.entry(class).or_insert_with(|| coordinates.clone());
                prop_assert_eq!(known, &coordinates);
            }
        }
    }

    #[test]
    fn any_choice_of_kept_indices_agrees_on_all_axes(choices in choices(), keep in choices()) {
        let world = World::run(&choices);
        world.check_kept(&mut Choices(keep.iter()));
    }

    #[test]
    fn products_of_many_factors_agree_on_kept_indices(choices in choices(), keep in choices()) {
        let mut choices = Choices(choices.iter());
        let mut world = World::default();
        let rows: Vec<_> = (0..4).map(|_| world.chain(72, &mut choices)).collect();
        for pair in rows.windows(2) {
            world.axes.unify(world.ids[pair[0]], world.ids[pair[1]], Cause(0));
            world.unified.push((pair[0], pair[1]));
        }
        world.check_kept(&mut Choices(keep.iter()));
    }

    #[test]
    fn position_tables_agree_with_coordinates(choices in choices()) {
        let world = World::run(&choices);
        for &id in &world.ids {
            let tree = world.axes.tree(id);
            let tables: Vec<_> =
                tree.atoms().into_iter().map(|atom| (atom, tree.positions(atom))).collect();
            for position in 0..tree.size() {
                let mut found = Vec::new();
                resolve(&tree, position, &mut found);
                found.retain(|&(atom, _)| world.axes.size(atom) > 1);
                found.sort();
                let mut listed: Vec<_> = tables
                    .iter()
                    .flat_map(|(atom, tables)| tables.iter().map(move |t| (*atom, t[position])))
                    .filter(|&(_, index)| index != u32::MAX)
                    .map(|(atom, index)| (atom, index as usize))
                    .collect();
                listed.sort();
                prop_assert_eq!(found, listed);
            }
            prop_assert_eq!(tree.atoms(), world.axes.atoms(id));
            let size_of = |atom: AxisId| (atom.index() > 3).then_some(atom.index() % 5);
            prop_assert_eq!(tree.sized(&size_of), world.axes.sized(id, &size_of));
            for &atom in &world.ids {
                let listed = tree.atoms().contains(&atom);
                prop_assert_eq!(tree.contains(atom), listed);
                prop_assert!(!listed || world.axes.contains(id, atom));
            }
        }
    }

    #[test]
    fn equal_operations_give_equal_arenas(choices in choices()) {
        let (one, two) = (World::run(&choices), World::run(&choices));
        prop_assert_eq!(format!("{:?}", one.axes), format!("{:?}", two.axes));
    }

    #[test]
    fn coarser_views_of_one_tree_merge_without_pins(choices in choices()) {
        let mut choices = Choices(choices.iter());
        let mut world = World::default();
        let total = TOTALS[choices.below(TOTALS.len())];
        let fine = world.grow(total, 3, &mut choices);
        let fine = world.axes.tree(world.ids[fine]);
        for _ in 0..4 {
            let one = coarsen(&mut world.axes, &fine, &mut choices);
            let two = coarsen(&mut world.axes, &fine, &mut choices);
            prop_assert_eq!(world.axes.unify(one, two, Cause(0)), Unified::Merged);
        }
    }

    #[test]
    fn sums_of_atoms_always_merge(choices in choices()) {
        let mut choices = Choices(choices.iter());
        let mut axes = Axes::new();
        let mut row = |axes: &mut Axes| {
            let cut = 1 + choices.below(35);
            let parts = [cut, 36 - cut].map(|size| axes.atom(size));
            axes.sum(&parts)
        };
        for _ in 0..6 {
            let (one, two) = (row(&mut axes), row(&mut axes));
            prop_assert_eq!(axes.unify(one, two, Cause(0)), Unified::Merged);
        }
    }
}
