//! Which tensors share memory: a program of values has none, so what is written through one tensor is
//! made again for all that show it.

use super::builder::Builder;
use crate::ops::Op;
use crate::ops::part::{Part, Put};
use crate::ops::shape::Transpose;
use crate::ops::view::View as Shown;
use crate::{Error, Result, Slot};

/// A tensor of the source program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorId(usize);

/// How a tensor is written through one that shows it.
#[derive(Clone, Debug)]
pub(crate) enum Back {
    /// All of its elements are shown in order.
    Reshape,
    /// All of its elements are shown, with axes in this order.
    Permute(Vec<i64>),
    /// A part is shown; its operands after the first are those of the view.
    Put(Part),
    /// Elements are shown more than once.
    Repeated,
    /// It may be a copy, which depends on strides.
    Perhaps,
}

/// What shows a part of another tensor's memory, or all of it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) of: TensorId,
    pub(crate) op: Op,
    /// Operands after the first.
    pub(crate) rest: Vec<Option<Slot>>,
    pub(crate) back: Back,
}

struct Tensor {
    slot: Slot,
    /// How often its memory had been written when the slot was made.
    version: u32,
    root: TensorId,
    view: Option<View>,
}

/// All tensors of a program.
#[derive(Default)]
pub(crate) struct Memory {
    tensors: Vec<Tensor>,
    /// How often each tensor's memory was written; counts at roots.
    versions: Vec<u32>,
}

impl Memory {
    /// A tensor with memory of its own.
    pub(crate) fn own(&mut self, slot: Slot) -> TensorId {
        let id = TensorId(self.tensors.len());
        self.tensors.push(Tensor { slot, version: 0, root: id, view: None });
        self.versions.push(0);
        id
    }

    /// A tensor that shows another, which has just been read.
    pub(crate) fn view(&mut self, slot: Slot, view: View) -> TensorId {
        let root = self.tensors[view.of.0].root;
        let id = TensorId(self.tensors.len());
        let version = self.versions[root.0];
        self.tensors.push(Tensor { slot, version, root, view: Some(view) });
        self.versions.push(0);
        id
    }

    /// What a tensor holds now.
    pub(crate) fn read(&mut self, id: TensorId, builder: &mut Builder) -> Result<Slot> {
        let tensor = &self.tensors[id.0];
        let version = self.versions[tensor.root.0];
        let Some(view) = tensor.view.clone().filter(|_| tensor.version != version) else {
            return Ok(tensor.slot);
        };
        if matches!(view.back, Back::Perhaps) {
            return Err(Error::unsupported("it reads what may share memory that was written"));
        }
        let whole = self.read(view.of, builder)?;
        let slot = builder.emit(view.op, [vec![Some(whole)], view.rest].concat());
        (self.tensors[id.0].slot, self.tensors[id.0].version) = (slot, version);
        Ok(slot)
    }

    /// Writes a tensor, and with it all that share its memory.
    pub(crate) fn write(&mut self, id: TensorId, slot: Slot, builder: &mut Builder) -> Result<()> {
        let mut written = vec![(id, slot)];
        let (mut id, mut slot) = (id, slot);
        while let Some(view) = self.tensors[id.0].view.clone() {
            let whole = self.read(view.of, builder)?;
            slot = put(&view, whole, slot, builder)?;
            id = view.of;
            written.push((id, slot));
        }
        self.versions[id.0] += 1;
        for (written, slot) in written {
            self.tensors[written.0].slot = slot;
            self.tensors[written.0].version = self.versions[id.0];
        }
        Ok(())
    }
}

/// The whole with what is shown of it replaced.
fn put(view: &View, whole: Slot, part: Slot, builder: &mut Builder) -> Result<Slot> {
    Ok(match &view.back {
        Back::Reshape => builder.emit(Shown::Like, vec![Some(part), Some(whole)]),
        Back::Permute(order) => {
            let mut inverse = vec![0; order.len()];
            for (new, &old) in order.iter().enumerate() {
                let place = inverse.get_mut(usize::try_from(old).unwrap_or(usize::MAX));
                *place.ok_or_else(|| Error::malformed("no order of axes"))? = new as i64;
            }
            builder.emit(Transpose { order: inverse }, vec![Some(part)])
        }
        Back::Put(shown) => {
            let operands = [vec![Some(whole), Some(part)], view.rest.clone()].concat();
            builder.emit(Put(*shown), operands)
        }
        Back::Repeated => {
            return Err(Error::unsupported("it writes memory that is shown more than once"));
        }
        Back::Perhaps => {
            return Err(Error::unsupported("it writes what may share memory, or may be a copy"));
        }
    })
}
