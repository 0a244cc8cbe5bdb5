//! Pooling over windows, and over all of space.

pub(crate) mod aten;

use burn_backend::TensorMetadata;
use burn_backend::ops::ConvOptions;
use burn_backend::tensor::FloatTensor;

use super::conv::Window;
use super::shape::pad_constant;
use super::{Decode, Inputs, Operator};
use crate::backend::Windows;
use crate::onnx::Node;
use crate::{Context, Engine, Error, Result, Value};

/// What is taken of each window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean; whether borders count as zeros.
    Mean(bool),
    /// The p-norm.
    Lp(f64),
}

/// A pool over windows of data `[n, c, s…]`; over all of space where the kernel is empty.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What is taken.
    pub kind: PoolKind,
    /// Window sizes.
    pub kernel: Vec<usize>,
    /// How it slides.
    pub window: Window,
    /// Whether the positions of maxima are a result.
    pub placed: bool,
    /// Whether they count along the first axis of space first.
    pub columns: bool,
}

impl Operator for Pool {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        if let (PoolKind::Max, Value::Int(ints)) = (self.kind, x.clone()) {
            let floats = Value::<B>::Int(ints).to_float();
            let results = self.run(cx, Inputs::new(vec![Some(Value::Float(floats))]))?;
            return Ok(results.into_iter().map(|result| Value::Int(result.to_int())).collect());
        }
        let shape = x.shape();
        if shape.len() < 3 {
            return Err(Error::malformed(format!("a pool over {shape:?}")));
        }
        if self.kernel.is_empty() {
            return Ok(vec![Value::Float(self.over_space::<B>(x, &shape)?)]);
        }
        if self.kernel.len() != shape.len() - 2 {
            return Err(Error::malformed(format!("a window {:?} over {shape:?}", self.kernel)));
        }
        let places = match self.kind {
            PoolKind::Max if self.placed => Some(self.places(&x, cx)?),
            _ => None,
        };
        let result = match self.kind {
            PoolKind::Max => self.slide(x, f32::NEG_INFINITY, true)?,
            PoolKind::Mean(true) => self.mean_with_borders(x)?,
            PoolKind::Mean(false) => self.mean(x)?,
            PoolKind::Lp(p) => {
                let x = B::float_powf_scalar(B::float_abs(x.float()?), p.into());
                let mean = self.slide(Value::<B>::Float(x), 0.0, false)?.float()?;
                let sum = B::float_mul_scalar(mean, self.area().into());
                Value::Float(B::float_powf_scalar(sum, (1.0 / p).into()))
            }
        };
        Ok([result].into_iter().chain(places).collect())
    }
}

impl Pool {
    /// A pool over all of space.
    pub(crate) fn whole(kind: PoolKind) -> Self {
        Pool { kind, kernel: Vec::new(), window: Window::default(), columns: false, placed: false }
    }

    pub(crate) fn decode(node: &Node<'_>, kind: PoolKind) -> Result<Self> {
        let kernel = super::sizes(&node.ints("kernel_shape").unwrap_or_default())?;
        if kernel.is_empty() || kernel.contains(&0) {
            return Err(Error::malformed(format!("`kernel_shape` is {kernel:?}")));
        }
        let columns = node.int("storage_order", 0) != 0;
        let placed = node.outputs() > 1;
        Ok(Pool { kind, kernel, window: Window::decode(node)?, columns, placed })
    }

    fn area(&self) -> f64 {
        self.kernel.iter().product::<usize>() as f64
    }

    /// One number per channel.
    fn over_space<B: Engine>(&self, x: Value<B>, shape: &[usize]) -> Result<FloatTensor<B>> {
        let space: usize = shape[2..].iter().product();
        let x = x.reshape(vec![shape[0], shape[1], space]).float()?;
        let pooled = match self.kind {
            PoolKind::Max => B::float_max_dim(x, 2),
            PoolKind::Mean(_) => B::float_mean_dim(x, 2),
            PoolKind::Lp(p) => {
                let sum = B::float_sum_dim(B::float_powf_scalar(B::float_abs(x), p.into()), 2);
                B::float_powf_scalar(sum, (1.0 / p).into())
            }
        };
        let shape = [&shape[..2], &vec![1; shape.len() - 2]].concat();
        Value::<B>::Float(pooled).reshape(shape).float()
    }

    /// A mean that counts no borders: the sum over windows by the number of elements in them.
    fn mean<B: Engine>(&self, x: Value<B>) -> Result<Value<B>> {
        let shape = x.shape();
        let borders = self.window.borders(&shape[2..], &self.kernel)?;
        let plain = borders.iter().all(|&border| border == (0, 0)) && !self.window.ceil;
        if plain {
            return self.slide(x, 0.0, false);
        }
        let device = x.device();
        let ones = vec![1.0; shape[2..].iter().product()];
        let ones = Value::<B>::of_floats(ones, [&[1, 1], &shape[2..]].concat(), &device);
        let (sum, count) = (self.slide(x, 0.0, false)?, self.slide(ones, 0.0, false)?);
        Ok(Value::Float(B::float_div(sum.float()?, count.float()?)))
    }

    /// A mean that counts borders, but not what a last partial window reaches beyond them.
    fn mean_with_borders<B: Engine>(&self, x: Value<B>) -> Result<Value<B>> {
        let shape = x.shape();
        let borders = self.window.borders(&shape[2..], &self.kernel)?;
        let borders = [vec![(0, 0); 2], borders].concat();
        let padded = pad_constant(x, &borders, 0.0)?;
        let window = Window { pads: Vec::new(), same: None, ..self.window.clone() };
        Pool { window, kind: PoolKind::Mean(false), ..self.clone() }.mean(padded)
    }

    /// Where the largest elements of windows stand among all elements.
    fn places<B: Engine>(&self, x: &Value<B>, cx: &Context<B>) -> Result<Value<B>> {
        let shape = x.shape();
        let (lead, space) = shape.split_at(2);
        let borders = self.window.borders(space, &self.kernel)?;
        let mut steps = Vec::new();
        for (axis, &size) in space.iter().enumerate() {
            let far = borders[axis].1 + self.reach(axis, size, borders[axis])?;
            let spread = self.window.dilation(axis) * (self.kernel[axis] - 1) + 1;
            let room = size as i64 + borders[axis].0 + far - spread as i64;
            steps.push(room as usize / self.window.stride(axis) + 1);
        }
        let values = x.clone().to_floats()?;
        let (size, windows) = (space.iter().product::<usize>(), steps.iter().product::<usize>());
        let mut places = Vec::with_capacity(lead[0] * lead[1] * windows);
        for plane in values.chunks(size.max(1)) {
            let first = places.len() / windows * size;
            let window = |window| self.largest(plane, space, (&steps, window), &borders);
            places.extend((0..windows).map(|at| (first + window(at)) as i64));
        }
        Ok(Value::of_ints(places, [lead, &steps].concat(), &cx.device))
    }

    /// Where the largest element of a window stands in its plane.
    fn largest(
        &self,
        plane: &[f32],
        space: &[usize],
        (steps, window): (&[usize], usize),
        borders: &[(i64, i64)],
    ) -> usize {
        let mut best: Option<(f32, usize)> = None;
        for element in 0..self.kernel.iter().product() {
            let (mut element, mut window) = (element, window);
            let (mut place, mut named, mut stride) = (Some(0), 0, 1);
            for axis in (0..space.len()).rev() {
                let offset = element % self.kernel[axis] * self.window.dilation(axis);
                let start = window % steps[axis] * self.window.stride(axis);
                let at = (start + offset) as i64 - borders[axis].0;
                let at = usize::try_from(at).ok().filter(|&at| at < space[axis]);
                place = place.zip(at).map(|(place, at)| place + at * stride);
                let before: usize = space[..axis].iter().product();
                named += at.unwrap_or(0) * if self.columns { before } else { stride };
                stride *= space[axis];
                element /= self.kernel[axis];
                window /= steps[axis];
            }
            if let Some(value) = place.map(|place| plane[place])
                && best.is_none_or(|(old, _)| value > old)
            {
                best = Some((value, named));
            }
        }
        best.map_or(0, |(_, place)| place)
    }

    /// The largest element, or the mean with `border` around, of every window.
    fn slide<B: Engine>(&self, x: Value<B>, border: f32, largest: bool) -> Result<Value<B>> {
        let shape = x.shape();
        let spatial = &shape[2..];
        let mut borders = self.window.borders(spatial, &self.kernel)?;
        for (axis, border) in borders.iter_mut().enumerate() {
            border.1 += self.reach(axis, spatial[axis], *border)?;
        }
        let inside = borders.iter().all(|&(near, far)| near >= 0 && far >= 0);
        if largest && inside && borders.len() == 2 {
            return Ok(Value::Float(self.largest_of::<B>(x.float()?, &borders)));
        }
        let all = [vec![(0, 0); 2], borders].concat();
        let x = match all.iter().all(|&border| border == (0, 0)) {
            true => x,
            false => pad_constant(x, &all, border)?,
        };
        self.pooled(x, largest)
    }

    /// The largest element of every window over two axes.
    fn largest_of<B: Engine>(&self, x: FloatTensor<B>, borders: &[(i64, i64)]) -> FloatTensor<B> {
        let shape = x.shape().to_vec();
        let each = |of: &dyn Fn(usize) -> usize| [of(0), of(1)];
        let spread = |axis: usize| self.window.dilation(axis) * (self.kernel[axis] - 1) + 1;
        let near = each(&|axis| borders[axis].0 as usize);
        let far = each(&|axis| borders[axis].1 as usize);
        let windows = Windows {
            kernel: each(&|axis| self.kernel[axis]),
            stride: each(&|axis| self.window.stride(axis)),
            dilation: each(&|axis| self.window.dilation(axis)),
            result: each(&|axis| {
                let room = shape[axis + 2] + near[axis] + far[axis] - spread(axis);
                room / self.window.stride(axis) + 1
            }),
            near,
            far,
        };
        B::largest(x, &windows)
    }

    /// How far the last partial window reaches beyond the border.
    fn reach(&self, axis: usize, size: usize, border: (i64, i64)) -> Result<i64> {
        let stride = self.window.stride(axis) as i64;
        let spread = (self.window.dilation(axis) * (self.kernel[axis] - 1) + 1) as i64;
        let room = size as i64 + border.0 + border.1 - spread;
        if room < 0 {
            let text = format!("a window of {spread} over {size} with borders {border:?}");
            return Err(Error::malformed(text));
        }
        let over = room % stride;
        if !self.window.ceil || over == 0 {
            return Ok(0);
        }
        let start = room - over + stride;
        Ok(if start < size as i64 + border.0 { stride - over } else { 0 })
    }

    /// Pools over what needs no borders any more, two axes at a time at most.
    fn pooled<B: Engine>(&self, x: Value<B>, largest: bool) -> Result<Value<B>> {
        let shape = x.shape();
        let (n, c) = (shape[0], shape[1]);
        match self.kernel.len() {
            1 => {
                let flat = x.reshape(vec![n, c, 1, shape[2]]);
                let flat = self.plane(flat, [None, Some(0)], largest)?;
                let size = flat.shape()[3];
                Ok(flat.reshape(vec![n, c, size]))
            }
            2 => self.plane(x, [Some(0), Some(1)], largest),
            3 => {
                let flat = x.reshape(vec![n, c * shape[2], shape[3], shape[4]]);
                let flat = self.plane(flat, [Some(1), Some(2)], largest)?;
                let [h, w] = [flat.shape()[2], flat.shape()[3]];
                let deep = flat.reshape(vec![n, c, shape[2], h * w]);
                let deep = self.plane(deep, [Some(0), None], largest)?;
                let size = deep.shape()[2];
                Ok(deep.reshape(vec![n, c, size, h, w]))
            }
            axes => Err(Error::unsupported(format!("a pool over {axes} spatial axes"))),
        }
    }

    /// Pools `[n, c, h, w]` with the windows of two of its axes.
    fn plane<B: Engine>(
        &self,
        x: Value<B>,
        axes: [Option<usize>; 2],
        largest: bool,
    ) -> Result<Value<B>> {
        let x = x.float()?;
        let kernel = axes.map(|axis| axis.map_or(1, |axis| self.kernel[axis]));
        let stride = axes.map(|axis| axis.map_or(1, |axis| self.window.stride(axis)));
        let dilation = axes.map(|axis| axis.map_or(1, |axis| self.window.dilation(axis)));
        if !largest && dilation != [1, 1] {
            return dilated_mean(x, kernel, stride, dilation);
        }
        Ok(Value::Float(match largest {
            true => B::max_pool2d(x, kernel, stride, [0, 0], dilation, false),
            false => B::avg_pool2d(x, kernel, stride, [0, 0], true, false),
        }))
    }
}

/// The mean over dilated windows, as a convolution.
fn dilated_mean<B: Engine>(
    x: FloatTensor<B>,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> Result<Value<B>> {
    let [n, c, h, w] = x.shape().dims();
    let area = kernel[0] * kernel[1];
    let shape = vec![1, 1, kernel[0], kernel[1]];
    let weights =
        Value::<B>::of_floats(vec![1.0 / area as f32; area], shape, &x.device()).float()?;
    let x = B::float_reshape(x, vec![n * c, 1, h, w].into());
    let options = ConvOptions::new(stride, [0, 0], dilation, 1);
    let mean = B::conv2d(x, weights, None, options);
    let [_, _, rows, columns] = mean.shape().dims();
    Ok(Value::<B>::Float(mean).reshape(vec![n, c, rows, columns]))
}

/// How ONNX spells pools.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("MaxPool", |node| windowed(node, PoolKind::Max)),
    ("AveragePool", |node| windowed(node, PoolKind::Mean(node.int("count_include_pad", 0) != 0))),
    ("LpPool", |node| windowed(node, PoolKind::Lp(node.int("p", 2) as f64))),
    ("GlobalMaxPool", |_| Ok(Pool::whole(PoolKind::Max).into())),
    ("GlobalAveragePool", |_| Ok(Pool::whole(PoolKind::Mean(false)).into())),
    ("GlobalLpPool", |node| Ok(Pool::whole(PoolKind::Lp(node.int("p", 2) as f64)).into())),
];

fn windowed(node: &Node<'_>, kind: PoolKind) -> Result<super::Op> {
    Ok(Pool::decode(node, kind)?.into())
}
