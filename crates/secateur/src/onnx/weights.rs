//! The weights of an ONNX file, for criteria.

use super::{OnnxFile, TensorRef};
use crate::criterion::Weights;
use crate::graph::{Graph, ParamId};
use crate::tensor::TensorView;
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
    fn view(&self, param: ParamId) -> Result<TensorView> {
        let param = self.graph.param(param);
        let at = self.tensors.get(param.tensor as usize);
        let at = at.ok_or_else(|| Error::argument(format!("`{}` is not stored", param.name)))?;
        self.file.resolve(*at)
    }

    fn release(&self, part: &[u8]) {
        self.file.release(part);
    }
}
