//! Convolution: 1 to 3 spatial dimensions, grouped, depthwise, transposed.

pub(super) mod aten;

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, operand, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Kind, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// A convolution: data `[n, g·i, s…]`, kernel `[g·o, i, k…]` (transposed: `[g·i, o, k…]`), bias
/// `[g·o]`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Number of groups.
    pub groups: usize,
    /// The attribute that says so, and its literal.
    pub literal: (&'static str, ExprId),
    /// The window.
    pub window: Window,
    /// For a transposed convolution, what is added to the far end of each spatial axis.
    pub output_padding: Option<Vec<i64>>,
}

/// Strides, dilations and padding per spatial axis.
#[derive(Clone, Debug)]
pub struct Window {
    /// Strides.
    pub strides: Vec<i64>,
    /// Dilations.
    pub dilations: Vec<i64>,
    /// Padding at the near ends, then at the far ends; `None`: as much as keeps `size / stride`.
    pub pads: Option<Vec<i64>>,
    /// Whether the last partial window counts.
    pub ceil: bool,
}

impl Window {
    /// Reads the attributes that convolutions and pools share.
    pub(crate) fn decode(cx: &Decoder<'_, '_>, spatial: usize) -> Result<Window> {
        let ones = vec![1; spatial];
        let pads = match cx.string("auto_pad").as_deref() {
            None | Some("NOTSET" | "") => {
                Some(cx.ints("pads").unwrap_or_else(|| vec![0; 2 * spatial]))
            }
            Some("VALID") => Some(vec![0; 2 * spatial]),
            Some(_) => None,
        };
        let window = Window {
            strides: cx.ints("strides").unwrap_or_else(|| ones.clone()),
            dilations: cx.ints("dilations").unwrap_or(ones),
            pads,
            ceil: cx.int("ceil_mode").unwrap_or(0) != 0,
        };
        agree("strides and spatial axes", window.strides.len(), spatial)?;
        agree("dilations and spatial axes", window.dilations.len(), spatial)?;
        if let Some(pads) = &window.pads {
            agree("pads and spatial ends", pads.len(), 2 * spatial)?;
        }
        if window.strides.iter().any(|&stride| stride < 1) {
            return Err(Error::malformed("a stride is not positive"));
        }
        Ok(window)
    }

    /// The size of spatial axis `axis` after the window `kernel` ran over `size`.
    pub(crate) fn output(&self, axis: usize, size: Extent, kernel: usize) -> Result<Extent> {
        let (input, stride) = (size.size as i64, self.strides[axis]);
        let spread = self.dilations[axis].saturating_mul(kernel as i64 - 1).saturating_add(1);
        let steps = match &self.pads {
            None => ceil_div(input, stride) - 1,
            Some(pads) => {
                let padding = pads[axis].saturating_add(pads[self.strides.len() + axis]);
                let room = input.saturating_add(padding).saturating_sub(spread);
                if room < 0 {
                    let message = format!("a window of {spread} over {input} with pads {padding}");
                    return Err(Error::malformed(message));
                }
                let last = ceil_div(room, stride).saturating_mul(stride);
                let far = self.ceil && last < input.saturating_add(pads[axis]);
                if far { ceil_div(room, stride) } else { room / stride }
            }
        };
        Ok(Extent { size: positive(steps.saturating_add(1))?, open: size.open })
    }

    /// Whether a window of size `kernel` takes every position of an axis, and nothing else.
    pub(crate) fn is_still(&self, axis: usize, kernel: usize) -> bool {
        let no_border = |pads: &Vec<i64>| pads[axis] == 0 && pads[self.strides.len() + axis] == 0;
        kernel == 1 && self.strides[axis] == 1 && self.pads.as_ref().is_none_or(no_border)
    }

    fn transposed(&self, axis: usize, size: Extent, kernel: usize, extra: i64) -> Result<Extent> {
        let (input, stride) = (size.size as i64, self.strides[axis]);
        let spread = self.dilations[axis].saturating_mul(kernel as i64 - 1).saturating_add(1);
        let output = match &self.pads {
            None => input.saturating_mul(stride),
            Some(pads) => (input - 1)
                .saturating_mul(stride)
                .saturating_add(spread)
                .saturating_add(extra)
                .saturating_sub(pads[axis].saturating_add(pads[self.strides.len() + axis])),
        };
        Ok(Extent { size: positive(output)?, open: size.open })
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    a / b + i64::from(a % b > 0)
}

fn positive(size: i64) -> Result<usize> {
    usize::try_from(size)
        .ok()
        .filter(|&size| size > 0)
        .ok_or_else(|| Error::malformed(format!("a spatial size of {size}")))
}

/// Factors for windows: the data's axes, the kernel's, the result's. They are fixed, but for axes
/// of the data on which a window of size 1 takes every position.
pub(crate) fn spatial_factors(
    rule: &mut Rule,
    data: &[Extent],
    kernel: &[Extent],
    result: &[Extent],
    is_still: impl Fn(usize) -> bool,
) -> [Vec<FactorId>; 3] {
    const REASON: &str = "a window slides over it";
    let name = |axis: usize| *["h", "w", "d"].get(axis).unwrap_or(&"s");
    let still = |axis: usize| is_still(axis) && data[axis].size == result[axis].size;
    let from: Vec<FactorId> = (0..data.len())
        .map(|axis| match still(axis) {
            true => rule.free(name(axis), data[axis]),
            false => rule.fixed(name(axis), data[axis], REASON),
        })
        .collect();
    let window = kernel.iter().enumerate();
    let window =
        window.map(|(axis, &size)| rule.fixed(format!("k{}", name(axis)), size, REASON)).collect();
    let to = (0..data.len())
        .map(|axis| match still(axis) {
            true => from[axis],
            false => rule.fixed(format!("{}'", name(axis)), result[axis], REASON),
        })
        .collect();
    [from, window, to]
}

pub(crate) fn dims(lead: Vec<Dim>, rest: &[FactorId]) -> Vec<Dim> {
    lead.into_iter().chain(rest.iter().map(|&factor| factor.into())).collect()
}

impl Operator for Conv {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let (data, kernel) = (ranked(shapes, 0, 3)?, operand(shapes, 1)?);
        agree("ranks of data and kernel", data.len(), kernel.len())?;
        agree("kernel and spatial axes", kernel.len() - 2, self.window.strides.len())?;
        let groups = self.groups;
        if groups == 0 || data[1].size % groups != 0 {
            let message = format!("{} channels in {groups} groups", data[1].size);
            return Err(Error::malformed(message));
        }
        let inner = data[1].size / groups;
        let outputs = match self.output_padding {
            None => {
                agree("channels of data and kernel", inner, kernel[1].size)?;
                if kernel[0].size % groups != 0 {
                    let message = format!("{} kernels in {groups} groups", kernel[0].size);
                    return Err(Error::malformed(message));
                }
                kernel[0].size / groups
            }
            Some(_) => {
                agree("channels of data and kernel", data[1].size, kernel[0].size)?;
                kernel[1].size
            }
        };
        let spatial = self.output_shape(&data[2..], &kernel[2..])?;

        let mut r =
            Rule::new(if self.output_padding.is_some() { "conv_transpose" } else { "conv" });
        let n = r.free("n", data[0]);
        let g = r.free("g", Extent::fixed(groups));
        let o = r.free("o", Extent::fixed(outputs));
        let i = r.summed("i", Extent::fixed(inner));
        let [s, k, t] = spatial_factors(&mut r, &data[2..], &kernel[2..], &spatial, |axis| {
            self.window.is_still(axis, kernel[axis + 2].size)
        });
        r.operand(Use::Data, dims(vec![n.into(), Dim::product([g, i])], &s));
        let lead = match self.output_padding {
            None => vec![Dim::product([g, o]), i.into()],
            Some(_) => vec![Dim::product([g, i]), o.into()],
        };
        r.operand(Use::Weight, dims(lead, &k));
        let mut terms = Vec::new();
        if let Some(bias) = shapes.get(2) {
            let dims = bias.map(|_| vec![Dim::product([g, o])]);
            terms.extend(dims.is_some().then_some(2));
            r.operand(Use::Affine, dims.unwrap_or_default());
        }
        let cost = [vec![n, g, o, i], k, if self.output_padding.is_some() { s } else { t.clone() }];
        r.macs.push(cost.concat());
        r.result(dims(vec![n.into(), Dim::product([g, o])], &t));
        r.flow = Flow::product([0, 1], terms);
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let Some(groups) = sizes.rule.results[0][1].factors().next() else { return Vec::new() };
        let want = vec![sizes.factor(groups)];
        vec![Fit::new(Place::Attribute(self.literal.0), [self.literal.1], want)]
    }
}

impl Conv {
    fn output_shape(&self, data: &[Extent], kernel: &[Extent]) -> Result<Vec<Extent>> {
        let one = |axis: usize| match &self.output_padding {
            None => self.window.output(axis, data[axis], kernel[axis].size),
            Some(extra) => {
                let extra = extra.get(axis).copied().unwrap_or(0);
                self.window.transposed(axis, data[axis], kernel[axis].size, extra)
            }
        };
        (0..data.len()).map(one).collect()
    }
}

/// A convolution that reads beside its window: offsets `[n, 2·kernel, s'…]` (operand 2), bias (3)
/// and a factor per place (4).
#[derive(Clone, Debug)]
pub struct Deform {
    /// The convolution.
    pub conv: Conv,
    /// Number of groups of channels that have offsets of their own.
    pub offset_groups: i64,
}

impl Operator for Deform {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        const REASON: &str = "it is read at computed positions";
        let bias = shapes.get(3).copied().flatten();
        let plain = [shapes.first().copied().flatten(), shapes.get(1).copied().flatten(), bias];
        let mut r = self.conv.rule(&plain[..if bias.is_some() { 3 } else { 2 }])?;
        r.name = "deform_conv";
        if self.offset_groups != 1 {
            for factor in r.factors.iter_mut().filter(|f| matches!(&*f.name, "g" | "i")) {
                factor.kind = Kind::Fixed("groups of channels have offsets of their own");
            }
        }
        let (lead, places) = (r.operands[0].dims[0].clone(), r.results[0][2..].to_vec());
        let affine = r.operands.split_off(2).pop().map_or(Vec::new(), |operand| operand.dims);
        for (slot, shape) in shapes.iter().enumerate().skip(2) {
            if slot == 3 {
                r.operand(Use::Affine, affine.clone());
                continue;
            }
            let mut dims = Vec::new();
            if shape.is_some() {
                let channels = ranked(shapes, slot, 3)?[1];
                let channels = r.fixed(format!("c{slot}"), channels, REASON);
                dims = [vec![lead.clone(), channels.into()], places.clone()].concat();
            }
            r.operand(Use::Data, dims);
        }
        r.flow = Flow::product([0, 1], bias.map(|_| 3).into_iter().collect::<Vec<_>>());
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        self.conv.fits(sizes)
    }
}

/// How ONNX spells convolutions.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Conv", decode),
    ("ConvTranspose", decode),
    ("DeformConv", |cx| {
        let conv = payload(cx, 1)?;
        let offset_groups = cx.int("offset_group").unwrap_or(1);
        cx.node(Deform { conv, offset_groups })
    }),
];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let conv = payload(cx, 1)?;
    cx.node(conv)
}

/// The convolution that a node's attributes spell, with its kernel at slot `kernel`.
pub(crate) fn payload(cx: &mut Decoder<'_, '_>, kernel: usize) -> Result<Conv> {
    let rank = cx.input_shape(kernel)?.len();
    let spatial = rank.checked_sub(2).ok_or_else(|| Error::malformed("a kernel without axes"))?;
    let literal = ("group", cx.literal("group", 0, 1));
    let output_padding = (cx.kind() == "ConvTranspose")
        .then(|| cx.ints("output_padding").unwrap_or_else(|| vec![0; spatial]));
    if output_padding.is_some() && cx.ints("output_shape").is_some() {
        return Err(Error::unsupported("`output_shape`"));
    }
    let groups = usize::try_from(cx.int("group").unwrap_or(1)).unwrap_or(0);
    let window = Window::decode(cx, spatial)?;
    Ok(Conv { groups, literal, window, output_padding })
}
