//! Whether a training step has room in memory.

use std::collections::{BTreeMap, BTreeSet};

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::ops::Op;
use crate::trainer::Trainer;
use crate::{Engine, Error, Result};

const ELEMENT: u64 = size_of::<f32>() as u64;

/// Refuses batches that are known not to have room; of a graphics card's memory nothing is known.
///
/// # Errors
/// When a step needs more memory than there is.
pub(crate) fn check<B: Engine>(trainer: &Trainer<B>, samples: usize) -> Result<()> {
    if B::ON_HOST { refuse(needed(trainer, samples), free()) } else { Ok(()) }
}

fn refuse(needed: u64, free: u64) -> Result<()> {
    if needed <= free {
        return Ok(());
    }
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let (needed, free) = (gigabytes(needed), gigabytes(free));
    let text = format!("a training step needs {needed} of memory at least, and {free} are free");
    Err(Error::argument(text).hint("give smaller batches"))
}

/// What a step is known to hold at its end: what gradients of trained weights are computed from, these
/// gradients, and the optimizer's state.
fn needed<B: Engine>(trainer: &Trainer<B>, samples: usize) -> u64 {
    let (program, graph) = (trainer.program(), trainer.model().graph());
    let shapes: BTreeMap<&str, _> =
        graph.values.iter().map(|value| (value.name.as_str(), value.shape.as_deref())).collect();
    let sizes = trainer.parameters().iter().map(|parameter| {
        program.stored[parameter.stored].view.dims.iter().product::<usize>() as u64
    });
    let trained: BTreeSet<_> =
        trainer.parameters().iter().map(|p| program.stored[p.stored].slot).collect();
    let reads = program.body.steps.iter().filter_map(|step| {
        let products = matches!(step.op, Op::Conv(_) | Op::MatMul(_) | Op::Gemm(_));
        let weight = step.inputs.get(1).copied().flatten();
        let is_trained = products && weight.is_some_and(|slot| trained.contains(&slot));
        step.inputs.first().copied().flatten().filter(|_| is_trained)
    });
    let reads: BTreeSet<_> = reads.collect();
    let first = graph.inputs.first().and_then(|&id| graph.shape(id).first());
    let present = first.map_or(1, |extent| extent.size).max(1);
    let elements = |slot: &crate::Slot| {
        let shape = shapes.get(program.names[slot.index()].as_str()).copied().flatten()?;
        Some(shape.iter().map(|extent| extent.size as u64).product::<u64>())
    };
    let held: u64 = reads.iter().filter_map(elements).sum();
    let copies = 1 + trainer.options().optimizer.states().len() as u64;
    let weights = sizes.sum::<u64>() * copies;
    (held.saturating_mul(samples as u64) / present as u64 + weights).saturating_mul(ELEMENT)
}

/// What may be allocated, in this machine or container.
fn free() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let system = System::new_with_specifics(memory);
    let limits = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    (system.available_memory() + system.free_swap()).min(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_refused_with_both_numbers() {
        assert!(refuse(5, 5).is_ok());
        let error = refuse(7_000_000_000, 2_500_000_000).unwrap_err().to_string();
        assert!(error.contains("7.0 GB") && error.contains("2.5 GB"), "{error}");
        assert!(free() > 1 << 20);
    }
}
