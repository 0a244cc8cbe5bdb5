//! The backends that programs run on.

use burn_autodiff::Autodiff;
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_backend::Backend;
use burn_backend::ops::ConvOptions;
use burn_backend::tensor::FloatTensor;

use crate::convolve;

/// The backend that is built in: plain Rust on the CPU.
pub type Cpu = burn_flex::Flex;

/// What a program runs on: a backend, and how it convolves over two axes.
pub trait Engine: Backend {
    /// A convolution without bias.
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        Self::conv2d(x, weight, None, options)
    }

    /// The gradients of data and kernel, as far as they are wanted.
    fn convolve_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2] {
        let dx = wanted[0].then(|| {
            Self::conv2d_x_backward(x.clone(), weight.clone(), grad.clone(), options.clone())
        });
        let dw = wanted[1].then(|| Self::conv2d_weight_backward(x, weight, grad, options));
        [dx, dw]
    }
}

impl Engine for Cpu {
    fn convolve_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2] {
        convolve::backward(&x, &weight, &grad, &options, wanted)
    }
}

#[derive(Debug)]
struct Convolution;

impl<B: Engine> Backward<B, 2> for Convolution {
    type State = (NodeId, NodeId, ConvOptions<2>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [data, kernel] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, options) = ops.state;
        let x = checkpointer.retrieve_node_output::<B::FloatTensorPrimitive>(x);
        let weight = checkpointer.retrieve_node_output::<B::FloatTensorPrimitive>(weight);
        let wanted = [data.is_some(), kernel.is_some()];
        let found = B::convolve_backward(x, weight, grad, options, wanted);
        for (node, grad) in [data, kernel].into_iter().zip(found) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: Engine, C: CheckpointStrategy> Engine for Autodiff<B, C> {
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        match Backward::<B, 2>::prepare::<C>(Convolution, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), options.clone());
                prep.finish(
                    state,
                    B::convolve(x.into_primitive(), weight.into_primitive(), options),
                )
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::convolve(x.into_primitive(), weight.into_primitive(), options))
            }
        }
    }
}
