//! The weights of an ONNX file, for criteria.

use super::codes::{encoded, encoded_zero, norms, numbers};
use super::{OnnxFile, TensorRef};
use crate::DType;
use crate::criterion::Weights;
use crate::graph::{Graph, ParamId};
use crate::tensor::TensorView;
use crate::zero::{Spread, Zero};
use crate::{Error, Result};

/// The parameters of an imported graph, where the file stores them.
#[derive(Clone, Copy, Debug)]
pub struct StoredWeights<'a> {
    /// The file.
    pub file: &'a OnnxFile,
    /// Stored tensors, by number.
    pub tensors: &'a [TensorRef],
    /// The graph that was read from the file.
    pub graph: &'a Graph,
}

impl Weights for StoredWeights<'_> {
    /// Of a quantized parameter, the numbers that it stands for; of a byte that packs several, their
    /// norm.
    fn view(&self, id: ParamId) -> Result<TensorView> {
        let param = self.graph.param(id);
        let at = self.tensors.get(param.tensor as usize);
        let at = *at.ok_or_else(|| Error::argument(format!("`{}` is not stored", param.name)))?;
        let view = self.file.resolve(at)?;
        if let Some(packed) = self.graph.zeros.packed(id) {
            let stored = |tensor: u32| encoded(self.file, self.tensors, Spread::whole(tensor));
            let zero = packed.zero.map(stored).transpose()?;
            return norms(&view, packed.bits, &stored(packed.scale)?.small, zero.map(|z| z.small));
        }
        let (zero, scale) = (self.graph.zeros.of(param.value), self.graph.zeros.scale(id));
        let coded = matches!(view.dtype, DType::F8 | DType::Packed4);
        if view.dtype.size() > Some(2) || (!coded && scale.is_none() && zero == Zero::PLAIN) {
            return Ok(view);
        }
        let zero = encoded_zero(self.file, self.tensors, zero)?;
        let scale = scale.map(|scale| encoded(self.file, self.tensors, scale)).transpose()?;
        numbers(&view, self.file.data_type(at)?, zero.as_ref(), scale.as_ref())
    }

    fn release(&self, view: &TensorView) {
        self.file.release(view);
    }
}
