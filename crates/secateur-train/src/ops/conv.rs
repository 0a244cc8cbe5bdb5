//! Convolution of 1 to 3 spatial dimensions, grouped, transposed.

pub(crate) mod aten;

use burn_backend::TensorMetadata;
use burn_backend::ops::{ConvOptions, ConvTransposeOptions, DeformConvOptions};
use burn_backend::tensor::FloatTensor;

use super::shape::{crop, pad_constant};
use super::{Decode, Inputs, Operator};
use crate::onnx::Node;
use crate::value::FLOAT;
use crate::{Context, Engine, Error, Result, Value};

/// Strides, dilations and borders of what slides over spatial axes. Empty lists are ones and zeros.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Borders at the near ends, then at the far ends.
    pub pads: Vec<i64>,
    /// Borders that keep `size / stride`: more at the near end where this holds.
    pub same: Option<bool>,
    /// Whether the last partial window counts.
    pub ceil: bool,
}

impl Window {
    /// Reads the attributes that convolutions and pools share.
    pub(crate) fn decode(node: &Node<'_>) -> Result<Self> {
        let (same, pads) = match node.string("auto_pad").as_deref() {
            None | Some("NOTSET" | "") => (None, node.ints("pads")),
            Some("VALID") => (None, None),
            Some("SAME_UPPER") => (Some(false), None),
            Some("SAME_LOWER") => (Some(true), None),
            Some(other) => return Err(Error::malformed(format!("`auto_pad` is `{other}`"))),
        };
        let positive = |name: &str| -> Result<Vec<usize>> {
            let list = super::sizes(&node.ints(name).unwrap_or_default())?;
            match list.contains(&0) {
                true => Err(Error::malformed(format!("`{name}` holds a zero"))),
                false => Ok(list),
            }
        };
        Ok(Window {
            strides: positive("strides")?,
            dilations: positive("dilations")?,
            pads: pads.unwrap_or_default(),
            same,
            ceil: node.int("ceil_mode", 0) != 0,
        })
    }

    /// The stride of a spatial axis.
    pub fn stride(&self, axis: usize) -> usize {
        self.strides.get(axis).copied().unwrap_or(1)
    }

    /// The dilation of a spatial axis.
    pub fn dilation(&self, axis: usize) -> usize {
        self.dilations.get(axis).copied().unwrap_or(1)
    }

    /// The borders of `axes` spatial axes of these sizes.
    ///
    /// # Errors
    /// When the list of borders has another length.
    pub fn borders(&self, sizes: &[usize], kernel: &[usize]) -> Result<Vec<(i64, i64)>> {
        let axes = sizes.len();
        if let Some(lower) = self.same {
            let border = |axis: usize| {
                let stride = self.stride(axis);
                let steps = sizes[axis].div_ceil(stride);
                let spread = self.dilation(axis) * (kernel[axis] - 1) + 1;
                let reach = steps.saturating_sub(1) * stride + spread;
                let total = reach.saturating_sub(sizes[axis]) as i64;
                let (less, more) = (total / 2, total - total / 2);
                if lower { (more, less) } else { (less, more) }
            };
            return Ok((0..axes).map(border).collect());
        }
        if self.pads.is_empty() {
            return Ok(vec![(0, 0); axes]);
        }
        if self.pads.len() != 2 * axes {
            let found = self.pads.len();
            return Err(Error::malformed(format!("{found} borders of {axes} axes")));
        }
        Ok((0..axes).map(|axis| (self.pads[axis], self.pads[axes + axis])).collect())
    }
}

/// A convolution of data `[n, g·i, s…]` with a kernel `[g·o, i, k…]` (transposed: `[g·i, o, k…]`) and
/// a bias `[g·o]`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Number of groups.
    pub groups: usize,
    /// How it slides.
    pub window: Window,
    /// For a transposed one, what the far ends get more.
    pub transposed: Option<Vec<usize>>,
    /// The spatial sizes that a transposed one is cut to, where they are given.
    pub wanted: Vec<usize>,
}

impl Conv {
    pub(crate) fn decode(node: &Node<'_>) -> Result<Self> {
        Ok(Conv {
            groups: groups(node)?,
            window: Window::decode(node)?,
            transposed: None,
            wanted: Vec::new(),
        })
    }
}

impl Operator for Conv {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, weight) = (inputs.take(0)?.float()?, inputs.take(1)?.float()?);
        let bias = inputs.optional(2).map(Value::float).transpose()?;
        let result = match &self.transposed {
            None => self.forward::<B>(x, weight, bias)?,
            Some(extra) => self.backward::<B>(x, weight, bias, extra)?,
        };
        Ok(vec![Value::Float(result)])
    }
}

impl Conv {
    fn forward<B: Engine>(
        &self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> Result<FloatTensor<B>> {
        let (sizes, kernel) = (x.shape().to_vec(), weight.shape().to_vec());
        check(&sizes, &kernel)?;
        if sizes[1] != kernel[1] * self.groups || kernel[0] % self.groups != 0 {
            let (channels, groups) = (sizes[1], self.groups);
            let text = format!("{channels} channels in {groups} groups for a kernel of {kernel:?}");
            return Err(Error::malformed(text));
        }
        let axes = sizes.len() - 2;
        let mut borders = self.window.borders(&sizes[2..], &kernel[2..])?;
        let mut x = x;
        // Burn's gradients of three axes know no borders that differ.
        let differ =
            |border: &(i64, i64)| border.0 < 0 || border.1 < 0 || axes == 3 && border.0 != border.1;
        if borders.iter().any(differ) {
            let all = [vec![(0, 0); 2], borders.clone()].concat();
            x = pad_constant(Value::<B>::Float(x), &all, 0.0)?.float()?;
            borders = vec![(0, 0); borders.len()];
        }
        let borders: Vec<(usize, usize)> =
            borders.iter().map(|&(near, far)| (near as usize, far as usize)).collect();
        match borders.len() {
            1 => Ok(self.flat::<B>(x, weight, bias, borders[0])?),
            2 => Ok(plane::<B>(x, weight, bias, self.options(&borders))),
            3 => Ok(B::conv3d(x, weight, bias, self.options(&borders))),
            axes => Err(Error::unsupported(format!("convolution over {axes} spatial axes"))),
        }
    }

    /// A convolution over one axis, as one over two: burn's own has wrong gradients where a stride
    /// leaves a rest.
    fn flat<B: Engine>(
        &self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
        border: (usize, usize),
    ) -> Result<FloatTensor<B>> {
        let tall = |t: FloatTensor<B>| {
            let [a, b, c] = t.shape().dims();
            B::float_reshape(t, vec![a, b, 1, c].into())
        };
        let options = ConvOptions::new_with_padding(
            [1, self.window.stride(0)],
            [(0, 0), border],
            [1, self.window.dilation(0)],
            self.groups,
        );
        let result = plane::<B>(tall(x), tall(weight), bias, options);
        let [n, c, _, size] = result.shape().dims();
        Ok(B::float_reshape(result, vec![n, c, size].into()))
    }

    fn options<const N: usize>(&self, borders: &[(usize, usize)]) -> ConvOptions<N> {
        ConvOptions::new_with_padding(
            std::array::from_fn(|axis| self.window.stride(axis)),
            std::array::from_fn(|axis| borders[axis]),
            std::array::from_fn(|axis| self.window.dilation(axis)),
            self.groups,
        )
    }

    /// The transposed convolution, with its borders cut off afterwards.
    fn backward<B: Engine>(
        &self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
        extra: &[usize],
    ) -> Result<FloatTensor<B>> {
        let (sizes, kernel) = (x.shape().to_vec(), weight.shape().to_vec());
        check(&sizes, &kernel)?;
        if sizes[1] != kernel[0] || kernel[0] % self.groups != 0 {
            let text = format!("{} channels for a kernel of {kernel:?}", sizes[1]);
            return Err(Error::malformed(text));
        }
        let axes = sizes.len() - 2;
        let extra = |axis: usize| extra.get(axis).copied().unwrap_or(0);
        let whole = |axis: usize| {
            let spread = self.window.dilation(axis) * (kernel[axis + 2] - 1) + 1;
            (sizes[axis + 2] - 1) * self.window.stride(axis) + spread + extra(axis)
        };
        let borders: Vec<(i64, i64)> = match self.window.same {
            Some(_) | None if !self.wanted.is_empty() => {
                let border = |axis: usize| {
                    let wanted = self.wanted.get(axis).copied().unwrap_or(0);
                    let total = whole(axis).checked_sub(wanted).ok_or_else(|| {
                        Error::unsupported(format!("`output_shape` of {:?}", self.wanted))
                    })?;
                    let (less, more) = ((total / 2) as i64, total.div_ceil(2) as i64);
                    Ok(if self.window.same == Some(false) { (less, more) } else { (more, less) })
                };
                (0..axes).map(border).collect::<Result<_>>()?
            }
            None => self.window.borders(&sizes[2..], &kernel[2..])?,
            Some(lower) => {
                let border = |axis: usize| {
                    let wanted = sizes[axis + 2] * self.window.stride(axis);
                    let total = whole(axis) as i64 - wanted as i64;
                    let (less, more) = (total / 2, total - total / 2);
                    if lower { (more, less) } else { (less, more) }
                };
                (0..axes).map(border).collect()
            }
        };
        let full = match axes {
            1 => B::conv_transpose1d(x, weight, bias, self.transpose_options(&extra)),
            2 => B::conv_transpose2d(x, weight, bias, self.transpose_options(&extra)),
            3 => B::conv_transpose3d(x, weight, bias, self.transpose_options(&extra)),
            _ => return Err(Error::unsupported(format!("convolution over {axes} spatial axes"))),
        };
        let cut: Vec<(i64, i64)> = borders.iter().map(|&(near, far)| (-near, -far)).collect();
        crop(Value::<B>::Float(full), &[vec![(0, 0); 2], cut].concat())?.float()
    }

    fn transpose_options<const N: usize>(
        &self,
        extra: &impl Fn(usize) -> usize,
    ) -> ConvTransposeOptions<N> {
        ConvTransposeOptions::new(
            std::array::from_fn(|axis| self.window.stride(axis)),
            [0; N],
            std::array::from_fn(extra),
            std::array::from_fn(|axis| self.window.dilation(axis)),
            self.groups,
        )
    }
}

/// A convolution whose places are moved by operand 2 and weighed by operand 4: Zhu et al., "Deformable
/// ConvNets v2", 2019. Operands 0, 1 and 3 are data, kernel and bias.
#[derive(Clone, Debug)]
pub struct DeformConv {
    /// Number of groups.
    pub groups: usize,
    /// How many groups of channels have places of their own.
    pub places: usize,
    /// How it slides.
    pub window: Window,
}

impl Operator for DeformConv {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.take(0)?;
        let (weight, offset) = (inputs.take(1)?.float()?, inputs.take(2)?.float()?);
        let bias = inputs.optional(3).map(Value::float).transpose()?;
        let mask = inputs.optional(4).map(Value::float).transpose()?;
        let (sizes, kernel) = (x.shape(), weight.shape().to_vec());
        check(&sizes, &kernel)?;
        if sizes.len() != 4 {
            return Err(Error::unsupported("a deformed convolution of other than 2 spatial axes"));
        }
        let mut borders = self.window.borders(&sizes[2..], &kernel[2..])?;
        if borders.iter().any(|&(near, far)| near != far || near < 0) {
            let all = [vec![(0, 0); 2], borders.clone()].concat();
            x = pad_constant(crop(x, &all)?, &all, 0.0)?;
            borders = vec![(0, 0); 2];
        }
        let options = DeformConvOptions::new(
            std::array::from_fn(|axis| self.window.stride(axis)),
            std::array::from_fn(|axis| borders[axis].0 as usize),
            std::array::from_fn(|axis| self.window.dilation(axis)),
            self.groups,
            self.places,
        );
        let x = x.float()?;
        Ok(vec![Value::Float(B::deform_conv2d(x, offset, weight, mask, bias, options))])
    }
}

/// A convolution over two axes, with its bias.
fn plane<B: Engine>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    options: ConvOptions<2>,
) -> FloatTensor<B> {
    let result = B::convolve(x, weight, options);
    match bias {
        None => result,
        Some(bias) => {
            let channels = bias.shape().num_elements();
            let ones = B::float_ones(vec![channels].into(), &bias.device(), FLOAT);
            B::affine(result, ones, B::float_reshape(bias, vec![channels].into()), 1)
        }
    }
}

fn check(sizes: &[usize], kernel: &[usize]) -> Result<()> {
    if sizes.len() < 3 || sizes.len() != kernel.len() || kernel.contains(&0) {
        let text = format!("a convolution of {sizes:?} with a kernel of {kernel:?}");
        return Err(Error::malformed(text));
    }
    Ok(())
}

/// How ONNX spells convolutions.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Conv", |node| Ok(Conv::decode(node)?.into())),
    ("DeformConv", |node| {
        let places = super::sizes(&[node.int("offset_group", 1)])?[0];
        Ok(DeformConv { groups: groups(node)?, places, window: Window::decode(node)? }.into())
    }),
    ("ConvTranspose", |node| {
        let extra = super::sizes(&node.ints("output_padding").unwrap_or_default())?;
        let window = Window::decode(node)?;
        let mut wanted = super::sizes(&node.ints("output_shape").unwrap_or_default())?;
        let axes = node.ints("kernel_shape").map_or(wanted.len(), |kernel| kernel.len());
        wanted.drain(..wanted.len().saturating_sub(axes));
        Ok(Conv { groups: groups(node)?, window, transposed: Some(extra), wanted }.into())
    }),
];

fn groups(node: &Node<'_>) -> Result<usize> {
    let groups = node.int("group", 1);
    let found = usize::try_from(groups).ok().filter(|&groups| groups > 0);
    found.ok_or_else(|| Error::malformed(format!("{groups} groups")))
}
