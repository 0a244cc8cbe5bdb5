//! What the backend that is built in does not do fast: loops over memory, on all cores.

pub(crate) mod binary;
pub(crate) mod convolve;
pub(crate) mod map;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod pool;
mod thin;

use std::mem::MaybeUninit;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use burn_std::TensorData;

/// Elements of one task.
const BLOCK: usize = 1 << 14;

/// The elements of a tensor that is dense and row-major.
fn floats(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<f32>()[start..start + tensor.shape().num_elements()]
}

fn tensor(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// The elements of a dense tensor, which becomes the only one that has them.
fn own(tensor: &mut FlexTensor) -> &mut [f32] {
    let (start, count) = (tensor.layout().start_offset(), tensor.shape().num_elements());
    &mut tensor.storage_mut::<f32>()[start..start + count]
}

/// So many elements, in memory that nobody zeroes first.
///
/// # Safety
/// `set` sets all of them.
unsafe fn made(count: usize, set: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(count);
    set(&mut values.spare_capacity_mut()[..count]);
    // SAFETY: the elements are set, as the caller says.
    unsafe { values.set_len(count) };
    values
}

/// Zeros in memory that was not set. Zeros of the system would be paged in twice: to be read, and to be
/// written.
fn zeroed(values: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    values.fill(MaybeUninit::new(0.0));
    // SAFETY: all of them were just set, and both have one layout.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [f32]) }
}

/// Elements as places to set, for what sets them to nothing but numbers.
fn open(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: both have one layout, and only this module's functions write to it: numbers.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) }
}
