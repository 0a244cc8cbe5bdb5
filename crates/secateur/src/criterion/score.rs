//! Measures every slice once, and turns the numbers into scores.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{Criterion, Measure, ScoreOptions, Statistic, Statistics};
use crate::Result;
use crate::axis::Tree;
use crate::graph::{Graph, ParamId};
use crate::group::{Group, GroupId, Groups, Keeps, Slice};
use crate::tensor::Keep;

/// One score per index of every group that has them; higher means keep. An index that is removed
/// already has the score `-∞`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    groups: Vec<Option<Vec<f64>>>,
    missing: &'static str,
}

impl Scores {
    /// Scores from elsewhere, by position of the group; `missing` says why a group has none.
    pub fn new(groups: Vec<Option<Vec<f64>>>, missing: &'static str) -> Self {
        Self { groups, missing }
    }

    /// The scores of a group, one per index.
    pub fn get(&self, group: GroupId) -> Option<&[f64]> {
        self.groups.get(group.index())?.as_deref()
    }

    /// Why groups without scores have none.
    pub fn missing(&self) -> &'static str {
        self.missing
    }
}

/// Scores every group. With `kept`, as if all else were removed already.
///
/// # Errors
/// When a parameter cannot be read or holds numbers that are not finite.
pub fn score<S: Statistics + ?Sized>(
    graph: &Graph,
    groups: &Groups,
    statistics: &S,
    options: &ScoreOptions,
    kept: Option<&Keeps>,
) -> Result<Scores> {
    let scorer = Scorer { graph, groups, options, kept };
    let criterion = options.criterion;
    let slices = (criterion.slices)(graph, groups, options.roles.as_ref());
    let measured = match criterion.statistic {
        Statistic::Noise => scorer.noise(&slices),
        Statistic::Sum(measure) => scorer.sums(statistics, measure, &slices)?,
        Statistic::Distances => scorer.distances(statistics, &slices)?,
    };
    let finish = |((id, _), slices): ((GroupId, _), Vec<Vec<f64>>)| scorer.finish(id, slices);
    let groups = groups.iter().zip(measured).map(finish).collect();
    Ok(Scores { groups, missing: criterion.missing })
}

struct Scorer<'a> {
    graph: &'a Graph,
    groups: &'a Groups,
    options: &'a ScoreOptions,
    kept: Option<&'a Keeps>,
}

/// Per group and slice, one number per index.
type Measured = Vec<Vec<Vec<f64>>>;

impl Scorer<'_> {
    fn criterion(&self) -> &'static Criterion {
        self.options.criterion
    }

    /// The kept positions of every axis of a parameter.
    fn keep(&self, param: ParamId) -> Keep {
        let trees = self.groups.trees(param).iter();
        let Some(kept) = self.kept else { return trees.map(|_| None).collect() };
        let indices = |atom| kept.get(&self.groups.of_atom(atom)?).map(Vec::as_slice);
        trees.map(|tree| tree.kept(&indices)).collect()
    }

    fn tree(&self, slice: Slice) -> &Tree {
        &self.groups.trees(slice.param)[slice.axis]
    }

    fn at(&self, param: ParamId) -> String {
        format!("parameter `{}`", self.graph.param(param).name)
    }

    /// The numbers of a group depend on the seed and its position only, so they stay the same in
    /// every step of an iterative schedule.
    fn noise(&self, slices: &[Vec<Slice>]) -> Measured {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let noise = |((id, group), slices): ((GroupId, &Group), &Vec<Slice>)| {
            let offset = (id.index() as u64 + 1).wrapping_mul(GOLDEN);
            let mut rng = fastrand::Rng::with_seed(self.options.seed.wrapping_add(offset));
            let draw = |_| (0..group.size).map(|_| rng.f64()).collect();
            slices.iter().take(1).map(draw).collect()
        };
        self.groups.iter().zip(slices).map(noise).collect()
    }

    /// Every parameter is read once for all of its axes.
    fn sums<S: Statistics + ?Sized>(
        &self,
        statistics: &S,
        measure: Measure,
        slices: &[Vec<Slice>],
    ) -> Result<Measured> {
        let mut wanted: BTreeMap<ParamId, BTreeSet<usize>> = BTreeMap::new();
        for slice in slices.iter().flatten() {
            wanted.entry(slice.param).or_default().insert(slice.axis);
        }
        let wanted: Vec<(ParamId, Vec<usize>)> =
            wanted.into_iter().map(|(param, axes)| (param, axes.into_iter().collect())).collect();
        let sum = |(param, axes): &(ParamId, Vec<usize>)| {
            let sums = statistics.sums(measure, *param, axes, &self.keep(*param));
            let sums = sums.map_err(|error| error.at(self.at(*param)))?;
            let keyed = axes.iter().zip(sums).map(|(&axis, sums)| ((*param, axis), sums));
            Ok(keyed.collect::<Vec<_>>())
        };
        let sums = match statistics.is_serial() {
            true => wanted.iter().map(sum).collect::<Result<Vec<_>>>()?,
            false => wanted.par_iter().map(sum).collect::<Result<Vec<_>>>()?,
        };
        let sums: BTreeMap<(ParamId, usize), Vec<f64>> = sums.into_iter().flatten().collect();
        let of_slice = |group: &Group, slice: &Slice| {
            let sums = sums.get(&(slice.param, slice.axis)).map(Vec::as_slice);
            gather(self.tree(*slice), group, sums.unwrap_or_default())
        };
        let of_group = |((_, group), slices): ((GroupId, &Group), &Vec<Slice>)| {
            slices.iter().map(|slice| of_slice(group, slice)).collect()
        };
        Ok(self.groups.iter().zip(slices).map(of_group).collect())
    }

    /// One slice after the other: each takes all cores.
    fn distances<S: Statistics + ?Sized>(
        &self,
        statistics: &S,
        slices: &[Vec<Slice>],
    ) -> Result<Measured> {
        let of_slice = |id: GroupId, group: &Group, slice: &Slice| {
            let alive = self.alive(id, group.size);
            let keep = self.keep(slice.param);
            let tables = self.tree(*slice).positions(group.atom);
            let all = members(&tables, group.size, keep[slice.axis].as_deref());
            let members: Vec<Vec<u32>> = alive.iter().map(|&i| all[i as usize].clone()).collect();
            let sums = statistics.distances(slice.param, slice.axis, &members, &keep);
            let mut wide = vec![0.0; group.size];
            for (&index, sum) in alive.iter().zip(sums.map_err(|e| e.at(self.at(slice.param)))?) {
                wide[index as usize] = sum;
            }
            Ok(wide)
        };
        let of_group = |((id, group), slices): ((GroupId, &Group), &Vec<Slice>)| {
            slices.iter().map(|slice| of_slice(id, group, slice)).collect()
        };
        self.groups.iter().zip(slices).map(of_group).collect()
    }

    /// The indices that are not removed yet.
    fn alive(&self, group: GroupId, size: usize) -> Vec<u32> {
        let kept = self.kept.and_then(|kept| kept.get(&group));
        kept.cloned().unwrap_or_else(|| (0..size as u32).collect())
    }

    fn finish(&self, id: GroupId, mut slices: Vec<Vec<f64>>) -> Option<Vec<f64>> {
        if slices.is_empty() {
            return None;
        }
        let criterion = self.criterion();
        slices.iter_mut().flatten().for_each(|number| *number = (criterion.index)(*number));
        let size = self.groups.get(id).size;
        let alive = self.alive(id, size);
        let aggregate = |&index: &u32| self.options.aggregation.apply(&slices, index as usize);
        let mut scores: Vec<f64> = alive.iter().map(aggregate).collect();
        (criterion.group)(&mut scores);
        self.options.normalization.unwrap_or(criterion.normalization).apply(&mut scores);
        let mut wide = vec![f64::NEG_INFINITY; size];
        for (&index, score) in alive.iter().zip(scores) {
            wide[index as usize] = score;
        }
        Some(wide)
    }
}

/// Sums per index what stands at its positions.
fn gather(tree: &Tree, group: &Group, sums: &[f64]) -> Vec<f64> {
    let mut gathered = vec![0.0; group.size];
    tree.visit_positions(group.atom, 0, &mut |at, index| {
        gathered[index as usize] += sums.get(at).copied().unwrap_or_default();
    });
    gathered
}

/// The kept positions of every index, in one order for all.
fn members(tables: &[Vec<u32>], size: usize, kept: Option<&[u32]>) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); size];
    for table in tables {
        let len = table.len() as u32;
        let mut visit = |position: u32| match table.get(position as usize) {
            Some(&index) if index != u32::MAX => members[index as usize].push(position),
            _ => {}
        };
        match kept {
            Some(kept) => kept.iter().for_each(|&position| visit(position)),
            None => (0..len).for_each(visit),
        }
    }
    members
}
