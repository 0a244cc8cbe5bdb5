//! What a pruned model kept, read off its weights.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::graph::ParamId;
use crate::group::{GroupId, Keeps};
use crate::model::Model;
use crate::tensor::TensorView;
use crate::{Error, Result};

/// The index of the original axis that each index of a pruned one came from, where it is known.
type Origins = Vec<Option<u32>>;

impl Model {
    /// What `pruned`, made of this model, kept: an element that stands once in a tensor tells where
    /// its slices stood.
    ///
    /// # Errors
    /// When a file cannot be read, or when the weights do not tell: they were trained since then, or
    /// too many of them are alike.
    pub fn kept_in(&self, pruned: &Model) -> Result<Keeps> {
        let (graph, other) = (self.graph(), pruned.graph());
        if graph.param_ids().count() != other.param_ids().count() {
            return Err(self.unlike(pruned, "has other parameters"));
        }
        let mut found: BTreeMap<GroupId, BTreeSet<u32>> = BTreeMap::new();
        let (weights, weights_of_pruned) = (self.weights(), pruned.weights());
        for id in graph.param_ids() {
            let (shape, small) = (&graph.param(id).shape, &other.param(id).shape);
            if shape.len() != small.len() || small.iter().zip(shape).any(|(a, b)| a > b) {
                let text = format!("has `{}` in shape {small:?}", graph.param(id).label);
                return Err(self.unlike(pruned, &text));
            }
            if shape == small {
                continue;
            }
            let origins = origins(&weights.view(id)?, &weights_of_pruned.view(id)?);
            let origins = origins.ok_or_else(|| {
                let label = &graph.param(id).label;
                self.unlike(pruned, &format!("has other elements in `{label}`"))
            })?;
            self.add_kept(id, &origins, &mut found);
        }
        let whole = |(id, kept): &(GroupId, Vec<u32>)| kept.len() < self.groups().get(*id).size;
        let listed = found.into_iter().map(|(id, kept)| (id, kept.into_iter().collect()));
        let keeps: Keeps = listed.filter(whole).collect();
        self.check_kept(pruned, &keeps)?;
        Ok(keeps)
    }

    /// Adds the indices of groups that stand at positions of a parameter that were kept.
    fn add_kept(
        &self,
        param: ParamId,
        origins: &[Origins],
        found: &mut BTreeMap<GroupId, BTreeSet<u32>>,
    ) {
        for (tree, origins) in self.groups().trees(param).iter().zip(origins) {
            let kept: BTreeSet<usize> =
                origins.iter().flatten().map(|&position| position as usize).collect();
            for atom in tree.atoms() {
                let Some(group) = self.groups().of_atom(atom) else { continue };
                let indices = found.entry(group).or_default();
                tree.visit_positions(atom, 0, &mut |position, index| {
                    if kept.contains(&position) {
                        indices.insert(index);
                    }
                });
            }
        }
    }

    /// Whether what was found makes the shapes of the pruned model.
    fn check_kept(&self, pruned: &Model, keeps: &Keeps) -> Result<()> {
        let indices = |atom| keeps.get(&self.groups().of_atom(atom)?).map(Vec::as_slice);
        for id in self.graph().param_ids() {
            let param = self.graph().param(id);
            let trees = self.groups().trees(id).iter().zip(&param.shape);
            let sizes = trees
                .map(|(tree, &size)| tree.kept(&indices).map_or(size, |kept| kept.len()))
                .collect::<Vec<_>>();
            if sizes != pruned.graph().param(id).shape {
                let text = format!("does not tell what was kept of `{}`", param.label);
                return Err(self.unlike(pruned, &text));
            }
        }
        Ok(())
    }

    fn unlike(&self, pruned: &Model, what: &str) -> Error {
        let (own, other) = (self.path().display(), pruned.path().display());
        Error::plan_mismatch(format!("`{other}` {what}, against `{own}`"))
            .hint("give the plan that it was pruned with; `--plan` of `prune` writes it")
    }
}

/// Where the indices of every axis of `small` stood in `large`; `None` where an element has no place
/// or two.
fn origins(large: &TensorView, small: &TensorView) -> Option<Vec<Origins>> {
    let size = large.dtype.size().filter(|_| large.dtype == small.dtype);
    let Some(size) = size else {
        // Elements that share a byte, or texts: others have to tell.
        return Some(small.dims.iter().map(|&size| vec![None; size]).collect());
    };
    let mut places: HashMap<&[u8], Option<usize>> = HashMap::new();
    for (place, element) in large.data.chunks_exact(size).enumerate() {
        places.entry(element).and_modify(|held| *held = None).or_insert(Some(place));
    }
    let mut origins: Vec<Origins> = small.dims.iter().map(|&size| vec![None; size]).collect();
    for (at, element) in small.data.chunks_exact(size).enumerate() {
        let &place = places.get(element)?;
        let Some(mut place) = place else { continue };
        let mut at = at;
        for (axis, origins) in origins.iter_mut().enumerate().rev() {
            let (wide, narrow) = (large.dims[axis], small.dims[axis]);
            let (index, origin) = (at % narrow, (place % wide) as u32);
            (at, place) = (at / narrow, place / wide);
            if *origins[index].get_or_insert(origin) != origin {
                return None;
            }
        }
    }
    Some(origins)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::DType;

    fn view(dims: &[usize], elements: &[f32]) -> TensorView {
        let data: Vec<u8> = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorView::new(DType::F32, dims.to_vec(), Bytes::from(data)).unwrap()
    }

    #[test]
    fn elements_that_stand_once_tell_where_slices_stood() {
        let large = view(&[3, 3], &[1.0, 2.0, 0.0, 4.0, 5.0, 0.0, 7.0, 8.0, 9.0]);
        let small = view(&[2, 2], &[2.0, 0.0, 8.0, 9.0]);
        let expected = vec![vec![Some(0), Some(2)], vec![Some(1), Some(2)]];
        assert_eq!(origins(&large, &small), Some(expected));
    }

    #[test]
    fn equal_elements_tell_nothing_and_other_ones_are_refused() {
        let large = view(&[3], &[1.0, 1.0, 2.0]);
        assert_eq!(origins(&large, &view(&[2], &[1.0, 2.0])), Some(vec![vec![None, Some(2)]]));
        assert_eq!(origins(&large, &view(&[2], &[1.0, 3.0])), None);
        let square = view(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(origins(&square, &view(&[1, 2], &[1.0, 4.0])), None);
    }
}
