//! The backends that programs run on.

mod autodiff;

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use burn_backend::ops::ConvOptions;
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorMetadata};

use crate::cpu::{binary, convolve, map, matmul, norm, pool};
use crate::optimizer::{AdamStep, SgdStep};
use crate::real::Real;

/// The backend that is built in: plain Rust on the CPU.
pub type Cpu = burn_flex::Flex;

/// Graphics cards: which, and how they are spoken to, the device says.
#[cfg(feature = "wgpu")]
pub type Gpu = burn_wgpu::Wgpu;
/// NVIDIA's graphics cards; the device says which.
#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
pub type Gpu = burn_cuda::Cuda;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl Engine for Gpu {
    const ON_HOST: bool = false;
}

/// Arithmetic of two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

impl Arithmetic {
    fn plain<B: Backend>(self, a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Arithmetic::Add => B::float_add(a, b),
            Arithmetic::Sub => B::float_sub(a, b),
            Arithmetic::Mul => B::float_mul(a, b),
            Arithmetic::Div => B::float_div(a, b),
        }
    }
}

/// Smooth functions of single elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// The error function.
    Erf,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x · sigmoid(α·x)`
    Swish(f64),
    /// With the error function (Hendrycks and Gimpel, 2016).
    Gelu,
    /// With the hyperbolic tangent in its place.
    GeluTanh,
}

impl Curve {
    pub(crate) fn plain<B: Engine>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let gated = |gate: Real<B>| (gate * Real(x.clone())).0;
        match self {
            Curve::Erf => B::float_erf(x),
            Curve::Sigmoid => B::sigmoid(x),
            Curve::Gelu => B::gelu(x),
            Curve::Swish(alpha) => gated(sigmoid(Real::<B>(x.clone()) * alpha)),
            Curve::GeluTanh => gated(sigmoid(bent(Real::<B>(x.clone())))),
        }
    }

    /// Its derivative.
    pub(crate) fn slope<B: Engine>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let x = Real::<B>(x);
        let bell = |x: Real<B>| Real::<B>(B::float_exp((-x.square()).0));
        // x·sigmoid(u(x)), with the derivative of u.
        let gated = |x: Real<B>, u: Real<B>, slope: Real<B>| {
            let gate = sigmoid(u);
            gate.clone() + x * slope * gate.clone() * (-gate + 1.0)
        };
        let found = match self {
            Curve::Erf => bell(x) * FRAC_2_SQRT_PI,
            Curve::Sigmoid => {
                let gate = sigmoid(x);
                gate.clone() * (-gate + 1.0)
            }
            Curve::Gelu => {
                let inner = x.clone() * FRAC_1_SQRT_2;
                let share = Real::<B>(B::float_erf(inner.clone().0)) * 0.5 + 0.5;
                share + x * bell(inner) * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0)
            }
            Curve::Swish(alpha) => gated(x.clone(), x.clone() * alpha, x * 0.0 + alpha),
            Curve::GeluTanh => {
                let slope = x.clone().square() * (3.0 * GELU_CUBE * GELU_SCALE) + GELU_SCALE;
                gated(x.clone(), bent(x), slope)
            }
        };
        found.0
    }
}

/// The tangent in GELU is that of half of `GELU_SCALE · (x + GELU_CUBE·x³)`.
pub(crate) const GELU_SCALE: f64 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
pub(crate) const GELU_CUBE: f64 = 0.044715;

fn bent<B: Engine>(x: Real<B>) -> Real<B> {
    (x.clone() + x.clone().square() * x * GELU_CUBE) * GELU_SCALE
}

fn sigmoid<B: Engine>(x: Real<B>) -> Real<B> {
    Real(B::sigmoid(x.0))
}

/// Windows that slide over the last two axes.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Their size.
    pub kernel: [usize; 2],
    /// From one to the next.
    pub stride: [usize; 2],
    /// Between two elements of one.
    pub dilation: [usize; 2],
    /// Borders at the near ends, and at the far ends.
    pub near: [usize; 2],
    /// The same at the far ends.
    pub far: [usize; 2],
    /// The number of windows.
    pub result: [usize; 2],
}

/// What a normalization by the batch's statistics returns.
#[derive(Clone, Debug)]
pub struct Normed<T> {
    /// The result.
    pub output: T,
    /// The mean of every channel.
    pub mean: T,
    /// The variance of every channel, of as many elements as there are.
    pub variance: T,
}

/// What a program runs on: a backend, and what takes most of the time in models, which a backend may
/// have a faster way for. Gradients come with it.
pub trait Engine: Backend {
    /// Whether tensors lie in the machine's own memory.
    const ON_HOST: bool = true;

    /// Arithmetic of tensors of as many axes, either of which may be repeated along axes of the other.
    fn arithmetic(
        kind: Arithmetic,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        kind.plain::<Self>(a, b)
    }

    /// Sums over the axes that a tensor of this shape, of as many axes, is repeated along to that of
    /// `x`.
    fn sum_to(x: FloatTensor<Self>, shape: &[usize]) -> FloatTensor<Self> {
        summed::<Self>(x, shape)
    }

    /// Products of matrices with as many axes; sizes of 1 in front of the last two are repeated.
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }

    /// A convolution over two axes, without bias.
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

    /// `x·scale + shift`, with numbers `[c]` for every index of an axis.
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        axis: usize,
    ) -> FloatTensor<Self> {
        let shape = along(&x.shape().to_vec(), axis);
        let lift = |t: FloatTensor<Self>| Self::float_reshape(t, shape.clone().into());
        Self::float_add(Self::float_mul(x, lift(scale)), lift(shift))
    }

    /// `x` normalized by the mean and variance of every channel of `[n, c, s…]`, then scaled and moved.
    fn batch_normalize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        epsilon: f64,
    ) -> Normed<FloatTensor<Self>> {
        let shape = x.shape();
        let flat = Self::float_reshape(x, halves(shape.as_slice(), 1).to_vec().into());
        let normed = Self::batch_norm_train(flat, scale, offset, epsilon);
        let output = Self::float_reshape(normed.output, shape);
        Normed { output, mean: normed.mean, variance: normed.variance }
    }

    /// The gradients of data, scale and offset.
    fn batch_normalize_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        (mean, variance): (FloatTensor<Self>, FloatTensor<Self>),
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        let sizes = x.shape().to_vec();
        let count = (sizes.iter().product::<usize>() / sizes[1].max(1)) as f64;
        let shape = along(&sizes, 1);
        let lift = |t: FloatTensor<Self>| Real::<Self>(t).reshape(shape.clone());
        let total = |x: Real<Self>| {
            let axes = (0..sizes.len()).filter(|&axis| axis != 1);
            axes.fold(x, |x, axis| x.sum(axis))
        };
        let spread = (lift(variance) + epsilon).sqrt();
        let (normed, grad) = ((Real(x) - lift(mean)) / spread.clone(), Real(grad));
        let (offset, own) = (total(grad.clone()), total(grad.clone() * normed.clone()));
        let tilted = grad - offset.clone() * (1.0 / count) - normed * own.clone() * (1.0 / count);
        let flat = |x: Real<Self>| x.reshape(vec![sizes[1]]).0;
        [(tilted * (lift(scale) / spread)).0, flat(own), flat(offset)]
    }

    /// The rows of a matrix normalized, about their mean or about zero; also their means, and what
    /// they are multiplied by.
    fn normalize(x: FloatTensor<Self>, epsilon: f64, centered: bool) -> [FloatTensor<Self>; 3] {
        Real::<Self>(x).normalize(epsilon, centered).map(|part| part.0)
    }

    /// The gradient of the data, from the normalized rows and what they were multiplied by.
    fn normalize_backward(
        normed: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        centered: bool,
    ) -> FloatTensor<Self> {
        let (normed, grad) = (Real::<Self>(normed), Real::<Self>(grad));
        let tilt = (grad.clone() * normed.clone()).mean(1);
        let plain = grad.clone().mean(1);
        let grad = if centered { grad - plain } else { grad };
        ((grad - normed * tilt) * Real(factor)).0
    }

    /// The largest element of every window over the last two axes; borders do not count.
    fn largest(x: FloatTensor<Self>, windows: &Windows) -> FloatTensor<Self> {
        let x = bordered::<Self>(x, windows);
        Self::max_pool2d(x, windows.kernel, windows.stride, [0, 0], windows.dilation, false)
    }

    /// The gradient of the data.
    fn largest_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        windows: &Windows,
    ) -> FloatTensor<Self> {
        let [_, _, height, width] = x.shape().dims();
        let x = bordered::<Self>(x, windows);
        let &Windows { kernel, stride, dilation, near, .. } = windows;
        let device = x.device();
        let dtype = burn_backend::get_device_settings::<Self>(&device).int_dtype;
        let places = Self::max_pool2d_with_indices(
            x.clone(),
            kernel,
            stride,
            [0, 0],
            dilation,
            false,
            dtype,
        );
        let grads = Self::max_pool2d_with_indices_backward(
            x,
            kernel,
            stride,
            [0, 0],
            dilation,
            false,
            grad,
            places.indices,
        );
        let grad = Real::<Self>(grads.x_grad);
        grad.part(2, near[0], near[0] + height).part(3, near[1], near[1] + width).0
    }

    /// The positive part of every element.
    fn rectify(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::relu(x)
    }

    /// The gradient of the data, from the result.
    fn rectify_backward(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::relu_backward(output, grad)
    }

    /// A function of every element.
    fn curve(kind: Curve, x: FloatTensor<Self>) -> FloatTensor<Self> {
        kind.plain::<Self>(x)
    }

    /// The gradient of the data.
    fn curve_backward(
        kind: Curve,
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_mul(grad, kind.slope::<Self>(x))
    }

    /// One step of gradient descent: the parameter, and its velocity.
    fn sgd(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: SgdStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (param, velocity) = (Real::<Self>(param), Real::<Self>(velocity));
        let grad = Real::<Self>(grad) + param.clone() * step.decay;
        let velocity = velocity * step.momentum + grad.clone();
        let way = match step.nesterov {
            true => grad + velocity.clone() * step.momentum,
            false => velocity.clone(),
        };
        ((param - way * step.rate).0, velocity.0)
    }

    /// One step of Adam: the parameter, and the running means of gradients and of their squares.
    fn adam(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        [mean, square]: [FloatTensor<Self>; 2],
        step: AdamStep,
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 2]) {
        let (mean, square) = (Real::<Self>(mean), Real::<Self>(square));
        let param = Real::<Self>(param);
        let grad = Real::<Self>(grad) + param.clone() * step.decay;
        let (first, second) = step.betas;
        let mean = mean * first + grad.clone() * (1.0 - first);
        let square = square * second + grad.square() * (1.0 - second);
        let way = mean.clone() / (square.clone().sqrt() * step.root + step.epsilon);
        ((param * step.shrink - way * step.rate).0, [mean.0, square.0])
    }
}

impl Engine for Cpu {
    fn arithmetic(
        kind: Arithmetic,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        binary::arithmetic(kind, a, b, |a, b| kind.plain::<Self>(a, b))
    }

    fn sum_to(x: FloatTensor<Self>, shape: &[usize]) -> FloatTensor<Self> {
        let large = x.shape().to_vec();
        if large == shape {
            return x;
        }
        match binary::repeats(shape, &large) {
            Some(sizes) => {
                Real::<Self>::of(binary::total(&x, sizes), shape.to_vec(), &x.device()).0
            }
            None => summed::<Self>(x, shape),
        }
    }

    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        matmul::product(&a, &b)
    }

    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        convolve::forward(&x, &weight, &options)
    }

    fn convolve_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2] {
        convolve::backward(&x, &weight, &grad, &options, wanted)
    }

    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        axis: usize,
    ) -> FloatTensor<Self> {
        let sizes = halves(x.shape().as_slice(), axis);
        map::affine(x, &scale, &shift, sizes)
    }

    fn batch_normalize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        epsilon: f64,
    ) -> Normed<FloatTensor<Self>> {
        let sizes = halves(x.shape().as_slice(), 1);
        let [output, mean, variance] = norm::batch(&x, &scale, &offset, (sizes, epsilon));
        Normed { output, mean, variance }
    }

    fn batch_normalize_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        (mean, variance): (FloatTensor<Self>, FloatTensor<Self>),
        epsilon: f64,
    ) -> [FloatTensor<Self>; 3] {
        let sizes = halves(x.shape().as_slice(), 1);
        norm::batch_backward(&x, &scale, &grad, [&mean, &variance], (sizes, epsilon))
    }

    fn normalize(x: FloatTensor<Self>, epsilon: f64, centered: bool) -> [FloatTensor<Self>; 3] {
        norm::rows(&x, epsilon, centered)
    }

    fn normalize_backward(
        normed: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        centered: bool,
    ) -> FloatTensor<Self> {
        norm::rows_backward(&normed, &factor, &grad, centered)
    }

    fn largest(x: FloatTensor<Self>, windows: &Windows) -> FloatTensor<Self> {
        pool::largest(&x, windows)
    }

    fn largest_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        windows: &Windows,
    ) -> FloatTensor<Self> {
        pool::largest_backward(&x, &grad, windows)
    }

    fn rectify(x: FloatTensor<Self>) -> FloatTensor<Self> {
        map::rectify(x)
    }

    fn rectify_backward(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        map::rectify_backward(&output, grad)
    }

    fn curve(kind: Curve, x: FloatTensor<Self>) -> FloatTensor<Self> {
        map::curve(kind, &x)
    }

    fn curve_backward(
        kind: Curve,
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        map::curve_backward(kind, &x, grad)
    }

    fn sgd(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: SgdStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        map::sgd(param, &grad, velocity, step)
    }

    fn adam(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        state: [FloatTensor<Self>; 2],
        step: AdamStep,
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 2]) {
        map::adam(param, &grad, state, step)
    }
}

/// As [`Engine::sum_to`], axis by axis.
fn summed<B: Engine>(x: FloatTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    let large = x.shape().to_vec();
    let axes = (0..shape.len()).filter(|&axis| shape[axis] != large[axis]);
    axes.fold(Real::<B>(x), |x, axis| x.sum(axis)).0
}

/// The shape of numbers for every index of an axis, as they broadcast.
fn along(sizes: &[usize], axis: usize) -> Vec<usize> {
    let mut shape = vec![1; sizes.len()];
    shape[axis] = sizes[axis];
    shape
}

/// The elements before an axis, on it, and behind it.
fn halves(sizes: &[usize], axis: usize) -> [usize; 3] {
    [sizes[..axis].iter().product(), sizes[axis], sizes[axis + 1..].iter().product()]
}

/// With borders that are smaller than everything.
fn bordered<B: Engine>(x: FloatTensor<B>, windows: &Windows) -> FloatTensor<B> {
    let [n, c, height, width] = x.shape().dims();
    let &Windows { near, far, .. } = windows;
    if near == [0, 0] && far == [0, 0] {
        return x;
    }
    let shape = [n, c, height + near[0] + far[0], width + near[1] + far[1]];
    let device = x.device();
    let least = Real::<B>::zeros(shape.to_vec(), &device) + f64::NEG_INFINITY;
    let inside = [0..n, 0..c, near[0]..near[0] + height, near[1]..near[1] + width];
    let inside: Vec<burn_std::Slice> = inside.into_iter().map(Into::into).collect();
    B::float_slice_assign(least.0, &inside, x)
}
