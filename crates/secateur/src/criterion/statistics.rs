//! Where numbers about slices come from.

use super::distance::Distances;
use super::reduce;
use crate::graph::ParamId;
use crate::tensor::{Keep, TensorView};
use crate::{Error, Result};

/// What is summed, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// `|w|`
    Magnitude,
    /// `w²`
    Square,
    /// `|w · ∂L/∂w|`: what a first-order expansion says that the loss changes.
    Taylor,
    /// `w² · E[(∂L/∂w)²]`: what a second-order expansion says, with the empirical Fisher information
    /// for the Hessian's diagonal.
    Fisher,
}

impl Measure {
    /// The name in error messages and for providers in other languages.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Magnitude => "magnitude",
            Measure::Square => "square",
            Measure::Taylor => "taylor",
            Measure::Fisher => "fisher",
        }
    }
}

/// Measures parameters, for criteria. Weights in a file do; so may a training engine or the hooks
/// of a live model.
pub trait Statistics: Sync {
    /// Whether parameters are measured one after the other: by a provider that would wait for itself.
    fn is_serial(&self) -> bool {
        false
    }

    /// For each of the axes, per position, the sum of the measure over all elements there that are
    /// kept on every axis. Positions that are not kept get zero.
    ///
    /// # Errors
    /// When the parameter cannot be read, or is not finite.
    fn sums(
        &self,
        measure: Measure,
        param: ParamId,
        axes: &[usize],
        kept: &Keep,
    ) -> Result<Vec<Vec<f64>>>;

    /// `Σ_j ‖v_i − v_j‖₂` for each of `members`, where `v_i` holds all kept elements at the
    /// positions `members[i]` of the axis. All members have the same number of positions.
    ///
    /// # Errors
    /// As [`Statistics::sums`].
    fn distances(
        &self,
        param: ParamId,
        axis: usize,
        members: &[Vec<u32>],
        kept: &Keep,
    ) -> Result<Vec<f64>>;
}

/// Reads parameters.
pub trait Weights: Sync {
    /// The elements.
    ///
    /// # Errors
    /// When they cannot be read.
    fn view(&self, param: ParamId) -> Result<TensorView>;

    /// Says that this part of a view's elements is not needed for now.
    fn release(&self, _part: &[u8]) {}
}

impl<W: Weights + ?Sized> Statistics for W {
    fn sums(
        &self,
        measure: Measure,
        param: ParamId,
        axes: &[usize],
        kept: &Keep,
    ) -> Result<Vec<Vec<f64>>> {
        let view = self.view(param)?;
        let sums = reduce::sums(&view, measure, axes, kept, |part| self.release(part));
        sums.and_then(|sums| finite(sums, |sums| sums.iter().flatten().all(|s| s.is_finite())))
    }

    fn distances(
        &self,
        param: ParamId,
        axis: usize,
        members: &[Vec<u32>],
        kept: &Keep,
    ) -> Result<Vec<f64>> {
        let view = self.view(param)?;
        let distances = Distances::new(&view, axis, members, kept)?;
        let sums = distances.sums(|| self.release(&view.data));
        finite(sums, |sums| sums.iter().all(|sum| sum.is_finite()))
    }
}

fn finite<T>(numbers: T, is_finite: impl Fn(&T) -> bool) -> Result<T> {
    if is_finite(&numbers) {
        return Ok(numbers);
    }
    Err(Error::malformed("it holds numbers that are not finite"))
}
