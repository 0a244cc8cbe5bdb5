//! The weights of a `.pt2` file, for criteria.

use super::TorchFile;
use crate::Result;
use crate::criterion::Weights;
use crate::graph::{Graph, ParamId};
use crate::tensor::TensorView;

/// The parameters of an imported graph, where the file stores them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TorchWeights<'a> {
    pub(crate) file: &'a TorchFile,
    pub(crate) graph: &'a Graph,
}

impl Weights for TorchWeights<'_> {
    fn view(&self, id: ParamId) -> Result<TensorView> {
        self.file.view(self.graph.param(id).tensor)
    }

    fn release(&self, part: &[u8]) {
        self.file.archive.release(part);
    }
}
