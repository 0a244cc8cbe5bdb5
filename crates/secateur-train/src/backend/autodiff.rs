//! Gradients of what backends may have a faster way for.

use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn_backend::TensorMetadata;
use burn_backend::backend::AutodiffBackend;
use burn_backend::ops::ConvOptions;
use burn_backend::tensor::FloatTensor;

use super::{Arithmetic, Curve, Engine, Normed, Windows, along};
use crate::real::Real;
use crate::value::FLOAT;

type Found<B, const N: usize> = [Option<FloatTensor<B>>; N];

/// From the gradient of a result to those of its operands, as far as they are wanted.
struct Rule<B: Engine, const N: usize>(Arc<Passed<B, N>>);

type Passed<B, const N: usize> = dyn Fn(FloatTensor<B>, [bool; N]) -> Found<B, N> + Send + Sync;

impl<B: Engine, const N: usize> Clone for Rule<B, N> {
    fn clone(&self) -> Self {
        Rule(Arc::clone(&self.0))
    }
}

impl<B: Engine, const N: usize> std::fmt::Debug for Rule<B, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a rule of {N} operands")
    }
}

#[derive(Debug)]
struct Recorded;

impl<B: Engine, const N: usize> Backward<B, N> for Recorded {
    type State = Rule<B, N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        for (node, grad) in ops.parents.into_iter().zip((ops.state.0)(grad, wanted)) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// A result, and how gradients pass it to the nodes of its operands.
fn record<B: Engine, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    result: FloatTensor<B>,
    rule: impl Fn(FloatTensor<B>, [bool; N]) -> Found<B, N> + Send + Sync + 'static,
) -> FloatTensor<Autodiff<B, C>> {
    match Backward::<B, N>::prepare::<C>(Recorded, nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(Rule(Arc::new(rule)), result),
        OpsKind::UnTracked(prep) => prep.finish(result),
    }
}

impl<B: Engine, C: CheckpointStrategy> Engine for Autodiff<B, C> {
    const ON_HOST: bool = B::ON_HOST;

    fn arithmetic(
        kind: Arithmetic,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (nodes, shapes) = ([a.node(), b.node()], [a.shape(), b.shape()]);
        let tracked = [a.is_tracked(), b.is_tracked()];
        let (a, b) = (a.into_primitive(), b.into_primitive());
        // Sums and differences need none of them, so that the result may take the place of one.
        let (left, right) = match kind {
            Arithmetic::Add | Arithmetic::Sub => (None, None),
            Arithmetic::Mul => (tracked[1].then(|| a.clone()), tracked[0].then(|| b.clone())),
            Arithmetic::Div => (tracked[1].then(|| a.clone()), Some(b.clone())),
        };
        let result = B::arithmetic(kind, a, b);
        record::<B, C, _>(nodes, result, move |grad, wanted| {
            let times = |x, y| B::arithmetic(Arithmetic::Mul, x, y);
            let by = |x, y| B::arithmetic(Arithmetic::Div, x, y);
            let grad = || grad.clone();
            let found = match (kind, left.clone(), right.clone()) {
                (Arithmetic::Mul, a, b) => {
                    [b.map(|b| times(grad(), b)), a.map(|a| times(grad(), a))]
                }
                (Arithmetic::Div, a, Some(b)) => {
                    let other = |a| B::float_neg(by(times(grad(), a), times(b.clone(), b.clone())));
                    [wanted[0].then(|| by(grad(), b.clone())), a.map(other)]
                }
                (Arithmetic::Sub, ..) => {
                    [wanted[0].then(grad), wanted[1].then(|| B::float_neg(grad()))]
                }
                _ => [wanted[0].then(grad), wanted[1].then(grad)],
            };
            let mut shapes = shapes.iter();
            found.map(|grad| {
                let shape = shapes.next()?;
                grad.map(|grad| B::sum_to(grad, shape.as_slice()))
            })
        })
    }

    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [a.node(), b.node()];
        let (left, right) = (a.is_tracked(), b.is_tracked());
        let (a, b) = (a.into_primitive(), b.into_primitive());
        let shapes = [a.shape(), b.shape()];
        let kept = (right.then(|| a.clone()), left.then(|| b.clone()));
        record::<B, C, _>(nodes, B::product(a, b), move |grad, _| {
            let (a, b) = kept.clone();
            let [da, db] = [
                b.map(|b| B::product(grad.clone(), B::float_transpose(b))),
                a.map(|a| B::product(B::float_transpose(a), grad)),
            ];
            let fit = |grad, at: usize| B::sum_to(grad, shapes[at].as_slice());
            [da.map(|da| fit(da, 0)), db.map(|db| fit(db, 1))]
        })
    }

    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let (data, kernel) = (x.clone().into_primitive(), weight.clone().into_primitive());
        let result = B::convolve(data.clone(), kernel.clone(), options.clone());
        record::<B, C, _>([x.node(), weight.node()], result, move |grad, wanted| {
            B::convolve_backward(data.clone(), kernel.clone(), grad, options.clone(), wanted)
        })
    }

    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        axis: usize,
    ) -> FloatTensor<Self> {
        let (data, factor) = (x.clone().into_primitive(), scale.clone().into_primitive());
        let result = B::affine(data.clone(), factor.clone(), shift.clone().into_primitive(), axis);
        record::<B, C, _>([x.node(), scale.node(), shift.node()], result, move |grad, wanted| {
            let shape = along(grad.shape().as_slice(), axis);
            let size = vec![shape[axis]];
            let total = |x: FloatTensor<B>| Real::<B>(B::sum_to(x, &shape)).reshape(size.clone()).0;
            let none = B::float_zeros(size.clone().into(), &grad.device(), FLOAT);
            [
                wanted[0].then(|| B::affine(grad.clone(), factor.clone(), none, axis)),
                wanted[1]
                    .then(|| total(B::arithmetic(Arithmetic::Mul, grad.clone(), data.clone()))),
                wanted[2].then(|| total(grad.clone())),
            ]
        })
    }

    fn batch_normalize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        epsilon: f64,
    ) -> Normed<FloatTensor<Self>> {
        let (data, factor) = (x.clone().into_primitive(), scale.clone().into_primitive());
        let Normed { output, mean, variance } = B::batch_normalize(
            data.clone(),
            factor.clone(),
            offset.clone().into_primitive(),
            epsilon,
        );
        // The statistics move running ones, which no gradient does.
        let lift = Self::from_inner;
        let statistics = (mean.clone(), variance.clone());
        let output =
            record::<B, C, _>([x.node(), scale.node(), offset.node()], output, move |grad, _| {
                let (data, factor) = (data.clone(), factor.clone());
                B::batch_normalize_backward(data, factor, grad, statistics.clone(), epsilon)
                    .map(Some)
            });
        Normed { output, mean: lift(mean), variance: lift(variance) }
    }

    /// No gradient passes the means and factors.
    fn normalize(x: FloatTensor<Self>, epsilon: f64, centered: bool) -> [FloatTensor<Self>; 3] {
        let [normed, mean, factor] = B::normalize(x.clone().into_primitive(), epsilon, centered);
        let (rows, scale) = (normed.clone(), factor.clone());
        let normed = record::<B, C, _>([x.node()], normed, move |grad, _| {
            [Some(B::normalize_backward(rows.clone(), scale.clone(), grad, centered))]
        });
        [normed, Self::from_inner(mean), Self::from_inner(factor)]
    }

    fn largest(x: FloatTensor<Self>, windows: &Windows) -> FloatTensor<Self> {
        let (data, windows) = (x.clone().into_primitive(), *windows);
        let result = B::largest(data.clone(), &windows);
        record::<B, C, _>([x.node()], result, move |grad, _| {
            [Some(B::largest_backward(data.clone(), grad, &windows))]
        })
    }

    /// Keeps the result, which what comes next mostly keeps as well, and not the data.
    fn rectify(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = x.node();
        let result = B::rectify(x.into_primitive());
        let output = result.clone();
        record::<B, C, _>([node], result, move |grad, _| {
            [Some(B::rectify_backward(output.clone(), grad))]
        })
    }

    fn curve(kind: Curve, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let data = x.clone().into_primitive();
        record::<B, C, _>([x.node()], B::curve(kind, data.clone()), move |grad, _| {
            [Some(B::curve_backward(kind, data.clone(), grad))]
        })
    }
}
