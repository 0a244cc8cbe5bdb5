//! Elements put in computed places: windows laid back, pools undone, sequences reversed, caches.

use burn_std::IndexingUpdateOp;

use super::conv::Window;
use super::index::select;
use super::shape::{concat, permute, segment};
use super::{Decode, Inputs, Operator, axis, sizes};
use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// Columns `[n, c·k, l]` added up where the windows that they are lie in an image; operands 1 and 2
/// give the sizes of image and windows.
#[derive(Clone, Debug)]
pub struct Col2Im {
    /// How windows slide.
    pub window: Window,
}

impl Operator for Col2Im {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.real(0)?;
        let (image, kernel) = (sizes(&inputs.ints(1)?)?, sizes(&inputs.ints(2)?)?);
        let (each, space) = (kernel.iter().product::<usize>(), image.iter().product::<usize>());
        let shape = x.shape();
        if shape.len() != 3 || kernel.len() != image.len() || each == 0 || shape[1] % each != 0 {
            return Err(Error::malformed(format!("windows {kernel:?} of {shape:?}")));
        }
        let borders = self.window.borders(&image, &kernel)?;
        let places = self.places(&image, &kernel, &borders);
        if places.len() != each * shape[2] {
            let (found, expected) = (shape[2], places.len() / each);
            return Err(Error::malformed(format!("{found} windows of {expected}")));
        }
        let (n, c) = (shape[0], shape[1] / each);
        let columns = x.reshape([n * c, places.len()]);
        let result = added(columns, places, space + 1)?.part(1, 0, space);
        Ok(vec![result.reshape([&[n, c], &image[..]].concat()).into()])
    }
}

/// Columns added up at places of rows of `size`.
fn added<B: Engine>(columns: Real<B>, places: Vec<i64>, size: usize) -> Result<Real<B>> {
    let (rows, count, device) = (columns.size(0), places.len(), columns.device());
    let places = Value::<B>::of_ints(places, vec![count], &device).int()?;
    let zeros = Real::<B>::zeros(vec![rows, size], &device);
    let add = IndexingUpdateOp::Add;
    Ok(Real(B::float_select_assign(zeros.0, 1, places, columns.0, add)))
}

impl Col2Im {
    /// Where every element of every window lies, the window last; beyond the image, one place after
    /// it.
    fn places(&self, image: &[usize], kernel: &[usize], borders: &[(i64, i64)]) -> Vec<i64> {
        let axes = image.len();
        let steps: Vec<usize> = (0..axes)
            .map(|axis| {
                let spread = (self.window.dilation(axis) * (kernel[axis] - 1) + 1) as i64;
                let room = image[axis] as i64 + borders[axis].0 + borders[axis].1 - spread;
                (room.max(-1) / self.window.stride(axis) as i64 + 1).max(0) as usize
            })
            .collect();
        let (each, all) = (kernel.iter().product::<usize>(), steps.iter().product::<usize>());
        let space: usize = image.iter().product();
        let place = |at: usize| {
            let (mut element, mut window) = (at / all, at % all);
            let (mut place, mut stride) = (0, 1);
            for axis in (0..axes).rev() {
                let offset = (element % kernel[axis] * self.window.dilation(axis)) as i64;
                let start = (window % steps[axis] * self.window.stride(axis)) as i64;
                let at = start + offset - borders[axis].0;
                if at < 0 || at >= image[axis] as i64 {
                    return space as i64;
                }
                place += at * stride;
                stride *= image[axis] as i64;
                element /= kernel[axis];
                window /= steps[axis];
            }
            place
        };
        (0..each * all).map(place).collect()
    }
}

/// Maxima put back where they were, as operand 1 says; operand 2 gives the shape.
#[derive(Clone, Debug)]
pub struct MaxUnpool {
    /// Window sizes.
    pub kernel: Vec<usize>,
    /// How the pool slid.
    pub window: Window,
}

impl Operator for MaxUnpool {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, places) = (inputs.real(0)?, inputs.ints(1)?);
        let shape = x.shape();
        let borders = self.window.borders(&shape[2..], &self.kernel)?;
        let size = |axis: usize| {
            let (near, far) = borders[axis];
            let whole = (shape[axis + 2] - 1) * self.window.stride(axis) + self.kernel[axis];
            (whole as i64 - near - far).max(0) as usize
        };
        let space: Vec<usize> = (0..shape.len() - 2).map(size).collect();
        let own = [&shape[..2], &space].concat();
        let target = inputs.optional(2).map(Value::to_ints).transpose()?;
        let target =
            target.map(|target| sizes(&target)).transpose()?.unwrap_or_else(|| own.clone());
        let count: usize = target.iter().product();
        if places.iter().any(|&place| place < 0 || place >= count as i64) {
            return Err(Error::malformed("a place beyond the result"));
        }
        let flat = x.reshape([1, shape.iter().product()]);
        Ok(vec![added(flat, places, count)?.reshape(target).into()])
    }
}

/// The first steps of every sequence in reverse; operand 1 says how many.
#[derive(Clone, Copy, Debug)]
pub struct ReverseSequence {
    /// The axis of sequences.
    pub batch: i64,
    /// The axis of steps.
    pub time: i64,
}

impl Operator for ReverseSequence {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, lengths) = (inputs.take(0)?, inputs.ints(1)?);
        let rank = x.rank();
        let (batch, time) = (axis(self.batch, rank)?, axis(self.time, rank)?);
        let rest = (0..rank).filter(|axis| ![batch, time].contains(axis));
        let order: Vec<usize> = [batch, time].into_iter().chain(rest).collect();
        let x = permute(x, &order);
        let shape = x.shape();
        let (n, t) = (shape[0], shape[1] as i64);
        if lengths.len() != n || lengths.iter().any(|&length| length > t) {
            return Err(Error::malformed(format!("lengths {lengths:?} of {n} × {t} steps")));
        }
        let place = |(row, &length): (usize, &i64)| {
            let step = move |at| if at < length { length - 1 - at } else { at };
            (0..t).map(move |at| row as i64 * t + step(at))
        };
        let picks: Vec<i64> = lengths.iter().enumerate().flat_map(place).collect();
        let count = picks.len();
        let picks = Value::<B>::of_ints(picks, vec![count], &cx.device).int()?;
        let flat = x.reshape([&[count], &shape[2..]].concat());
        let back = select(flat, 0, picks).reshape(shape);
        let mut inverse = vec![0; rank];
        order.iter().enumerate().for_each(|(new, &old)| inverse[old] = new);
        Ok(vec![permute(back, &inverse)])
    }
}

/// New steps put in a cache, each batch's from the place that operand 2 gives.
#[derive(Clone, Copy, Debug)]
pub struct TensorScatter {
    /// The axis of steps.
    pub axis: i64,
    /// Whether they go on at the start.
    pub circular: bool,
}

impl Operator for TensorScatter {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (cache, new) = (inputs.take(0)?, inputs.take(1)?);
        let shape = cache.shape();
        let along = axis(self.axis, shape.len())?;
        let (size, count) = (shape[along] as i64, new.shape()[along] as i64);
        let firsts = inputs.optional(2).map(Value::to_ints).transpose()?;
        let firsts = firsts.unwrap_or_else(|| vec![0; shape[0]]);
        let both = concat(vec![cache, new], along as i64)?;
        let mut rows = Vec::new();
        for (row, &first) in firsts.iter().enumerate() {
            let mut picks: Vec<i64> = (0..size).collect();
            for step in 0..count {
                let place = first + step;
                let place = if self.circular { place.rem_euclid(size) } else { place };
                let found = usize::try_from(place).ok().and_then(|place| picks.get_mut(place));
                *found.ok_or_else(|| Error::argument(format!("step {place} of {size}")))? =
                    size + step;
            }
            let picks = Value::<B>::of_ints(picks, vec![shape[along]], &cx.device).int()?;
            rows.push(select(segment(both.clone(), 0, row, row + 1), along, picks));
        }
        Ok(vec![concat(rows, 0)?])
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Col2Im", |node| Ok(Col2Im { window: Window::decode(node)? }.into())),
    ("MaxUnpool", max_unpool),
    ("ReverseSequence", |node| {
        Ok(ReverseSequence { batch: node.int("batch_axis", 1), time: node.int("time_axis", 0) }
            .into())
    }),
    ("TensorScatter", |node| {
        let circular = node.string("mode").as_deref() == Some("circular");
        Ok(TensorScatter { axis: node.int("axis", -2), circular }.into())
    }),
];

fn max_unpool(node: &Node<'_>) -> Result<super::Op> {
    let kernel = sizes(&node.ints("kernel_shape").unwrap_or_default())?;
    Ok(MaxUnpool { kernel, window: Window::decode(node)? }.into())
}
