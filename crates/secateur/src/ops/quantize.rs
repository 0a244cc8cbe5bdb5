//! Quantization: integers that stand for numbers, by a scale and a zero point.
//!
//! An operator on integers is the one on numbers between two of [`Code`]: each operand is
//! dequantized, and the result is quantized.

use super::contract::Contract;
use super::elementwise::{Elementwise, Zeros};
use super::recurrent::{self, Cell};
use super::reduce::{Along, Reduce, ReduceKind};
use super::reshape::Transpose;
use super::{Operator, Shapes, axis, conv, join, letter, letters, operand, pool};
use crate::graph::{Extent, ValueId};
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Kind, Rule, Use};
use crate::zero::{Spread, Zero};
use crate::{Error, Result};

/// Quantizes or dequantizes the data (operand 0). The other operands, a scale (if there is one) and
/// a zero point, are numbers, or tensors with one number per index, or per block of indices, of the axis.
#[derive(Clone, Debug)]
pub struct Code {
    /// Whether numbers become integers, not integers numbers.
    pub quantizes: bool,
    /// Whether operand 1 is a scale, not a zero point.
    pub scaled: bool,
    /// The axis along which scales and zero points differ.
    pub axis: i64,
    /// Number of indices that share a scale, where those of a block do.
    pub block: Option<usize>,
    /// What stands for zero among the integers.
    pub zero: Zero,
}

impl Code {
    /// How a stored scale or zero point spreads over the integers.
    pub(crate) fn spread(&self, tensor: u32) -> Spread {
        let axis = usize::try_from(self.axis).unwrap_or(0);
        Spread { tensor, axis, block: self.block.unwrap_or(1) }
    }
}

impl Operator for Code {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let mut r = Rule::new(if self.quantizes { "quantize" } else { "dequantize" });
        let (dims, coarse) = self.dims(&mut r, shapes, data)?;
        r.operand(Use::Data, dims.clone());
        for shape in shapes[1..].iter().flatten() {
            let spelled = self.encoding(&r, &dims, &coarse, shape)?;
            r.operand(Use::Encoding, spelled);
        }
        r.result(dims);
        if self.quantizes {
            r.flow = Flow::Product { factors: vec![0], terms: Vec::new(), divisors: vec![1] };
            r.zero = self.zero;
        } else {
            r.flow = Flow::product([0], []);
            r.operands[0].zero = self.zero;
        }
        Ok(r)
    }
}

impl Code {
    /// The axes of the data, and those of what says what blocks of it stand for.
    fn dims(
        &self,
        r: &mut Rule,
        shapes: &Shapes<'_>,
        data: &[Extent],
    ) -> Result<(Vec<Dim>, Vec<Dim>)> {
        const REASON: &str = "it is quantized in blocks";
        let Some(block) = self.block else {
            let dims = letters(r, data);
            return Ok((dims.clone(), dims));
        };
        let along = axis(self.axis, data.len())?;
        let blocks = *operand(shapes, 1)?.get(along).unwrap_or(&Extent::fixed(1));
        if block == 0 || data[along].size.div_ceil(block) != blocks.size {
            let (size, blocks) = (data[along].size, blocks.size);
            return Err(Error::malformed(format!("{size} in {blocks} blocks of {block}")));
        }
        let (mut dims, mut coarse) = (Vec::new(), Vec::new());
        for (index, &extent) in data.iter().enumerate() {
            let name = letter(index);
            if index != along {
                let factor = r.free(name, extent);
                dims.push(factor.into());
                coarse.push(factor.into());
            } else if blocks.size * block == extent.size {
                let outer = r.free(name, blocks);
                let inner = r.fixed("block", Extent::fixed(block), REASON);
                dims.push(Dim::product([outer, inner]));
                coarse.push(outer.into());
            } else {
                dims.push(r.fixed(name, extent, REASON).into());
                coarse.push(r.fixed("blocks", blocks, REASON).into());
            }
        }
        Ok((dims, coarse))
    }

    /// The axes of a scale or a zero point.
    fn encoding(
        &self,
        r: &Rule,
        dims: &[Dim],
        coarse: &[Dim],
        shape: &[Extent],
    ) -> Result<Vec<Dim>> {
        if shape.iter().all(|extent| extent.size == 1) {
            return Ok(vec![Dim::one(); shape.len()]);
        }
        let whole = match shape.len() {
            1 if dims.len() != 1 => {
                let along = axis(self.axis, dims.len())?;
                &dims[along..=along]
            }
            _ => coarse,
        };
        let fits = |(dim, extent): (&Dim, &Extent)| match extent.size {
            size if size == r.extent(dim).size => Some(dim.clone()),
            1 => Some(Dim::one()),
            _ => None,
        };
        let spelled: Option<Vec<Dim>> = whole.iter().zip(shape).map(fits).collect();
        let spelled = spelled.filter(|dims| dims.len() == shape.len() && whole.len() == dims.len());
        spelled.ok_or_else(|| Error::malformed("a scale or zero point of this shape"))
    }
}

/// The smallest and largest of all numbers and zero: what is zero has no part in it.
#[derive(Clone, Copy, Debug)]
pub struct Extremes;

impl Operator for Extremes {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let mut r = Rule::new("extremes");
        let each = data.iter().enumerate();
        let dims = each.map(|(i, &extent)| r.factor(letter(i), extent, Kind::Summed).into());
        let dims = dims.collect();
        r.operand(Use::Data, dims);
        r.result(Vec::new());
        r.flow = Flow::Break;
        Ok(r)
    }
}

/// Where a node has a tensor of integers, and what says what they stand for.
#[derive(Clone, Copy)]
struct Quantized {
    data: usize,
    scale: Option<usize>,
    zero: usize,
    axis: i64,
}

impl Quantized {
    /// Integers at slot `data`, then a scale, then a zero point.
    fn at(data: usize, axis: i64) -> Self {
        Quantized { data, scale: Some(data + 1), zero: data + 2, axis }
    }

    /// The numbers that the integers stand for.
    fn read(self, cx: &mut Decoder<'_, '_>) -> Result<ValueId> {
        let data = cx.input(self.data)?;
        let rank = cx.shape(data)?.len();
        let axis = if rank == 0 { 0 } else { clamp(self.axis, rank) };
        let mut inputs = vec![data];
        if let Some(scale) = self.scale {
            inputs.push(cx.input(scale)?);
        }
        if cx.has(self.zero) {
            inputs.push(cx.input(self.zero)?);
        }
        let zero = cx.zero(self.zero, axis, 1)?;
        let axis = axis as i64;
        match inputs[..] {
            [data] => Ok(data),
            _ => {
                let scaled = self.scale.is_some();
                cx.emit(Code { quantizes: false, scaled, axis, block: None, zero }, &inputs)
            }
        }
    }
}

/// An axis counted from either end, or the nearest one.
fn clamp(axis: i64, rank: usize) -> usize {
    let rank = rank as i64;
    let axis = if axis < 0 { axis + rank } else { axis };
    axis.clamp(0, rank - 1) as usize
}

/// Makes `value`, quantized by the scale and zero point at these slots, the result.
fn quantize(cx: &mut Decoder<'_, '_>, value: ValueId, scale: usize, zero: usize) -> Result<()> {
    let mut inputs = vec![value, cx.input(scale)?];
    if cx.has(zero) {
        inputs.push(cx.input(zero)?);
    }
    let zero = cx.zero(zero, 0, 1)?;
    let code = Code { quantizes: true, scaled: true, axis: 0, block: None, zero };
    let result = cx.emit(code, &inputs)?;
    cx.bind(0, result);
    Ok(())
}

/// How ONNX spells quantization.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("QuantizeLinear", |cx| decode(cx, true)),
    ("DequantizeLinear", |cx| decode(cx, false)),
    ("DynamicQuantizeLinear", decode_dynamic),
    ("MatMulInteger", |cx| {
        let a = Quantized { data: 0, scale: None, zero: 2, axis: -2 }.read(cx)?;
        let b = Quantized { data: 1, scale: None, zero: 3, axis: -1 }.read(cx)?;
        let product = cx.emit(Contract::MatMul, &[a, b])?;
        cx.bind(0, product);
        Ok(())
    }),
    ("ConvInteger", |cx| {
        let conv = conv::payload(cx, 1)?;
        let data = Quantized { data: 0, scale: None, zero: 2, axis: 0 }.read(cx)?;
        let kernel = Quantized { data: 1, scale: None, zero: 3, axis: 0 }.read(cx)?;
        let result = cx.emit(conv, &[data, kernel])?;
        cx.bind(0, result);
        Ok(())
    }),
    ("QLinearMatMul", |cx| {
        let (a, b) = (Quantized::at(0, -2).read(cx)?, Quantized::at(3, -1).read(cx)?);
        let product = cx.emit(Contract::MatMul, &[a, b])?;
        quantize(cx, product, 6, 7)
    }),
    ("QLinearConv", |cx| {
        let conv = conv::payload(cx, 3)?;
        let mut inputs = vec![Quantized::at(0, 0).read(cx)?, Quantized::at(3, 0).read(cx)?];
        if cx.has(8) {
            inputs.push(cx.input(8)?);
        }
        let result = cx.emit(conv, &inputs)?;
        quantize(cx, result, 6, 7)
    }),
];

fn decode(cx: &mut Decoder<'_, '_>, quantizes: bool) -> Result<()> {
    let rank = cx.input_shape(0)?.len();
    let spread = cx.input_shape(1)?.iter().any(|extent| extent.size != 1);
    let along = match spread {
        true => axis(cx.int("axis").unwrap_or(1), rank)?,
        false => 0,
    };
    let block = cx.int("block_size").filter(|&block| block != 0);
    let block = block.map(|block| usize::try_from(block).unwrap_or(0));
    let zero = cx.zero(2, along, block.unwrap_or(1))?;
    cx.node(Code { quantizes, scaled: true, axis: along as i64, block, zero })
}

/// The scale and the zero point follow from the range of all elements and zero.
fn decode_dynamic(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input(0)?;
    let (scale, point) = (cx.emit(Extremes, &[data])?, cx.emit(Extremes, &[data])?);
    let zero = Zero::Computed(point);
    let code = Code { quantizes: true, scaled: true, axis: 0, block: None, zero };
    let result = cx.emit(code, &[data, scale, point])?;
    for (slot, value) in [result, scale, point].into_iter().enumerate() {
        cx.bind(slot, value);
    }
    Ok(())
}

/// How ONNX Runtime spells more of it.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[
    ("QuantizeLinear", |cx| decode(cx, true)),
    ("DequantizeLinear", |cx| decode(cx, false)),
    ("QLinearAdd", |cx| decode_binary(cx, Zeros::AllKept)),
    ("QLinearMul", |cx| decode_binary(cx, Zeros::AnyKept)),
    ("QLinearSigmoid", |cx| decode_unary(cx, Zeros::Lost)),
    ("QLinearLeakyRelu", |cx| decode_unary(cx, Zeros::FirstKept)),
    ("QLinearWhere", |cx| {
        let operands = [cx.input(0)?, Quantized::at(1, 0).read(cx)?, Quantized::at(4, 0).read(cx)?];
        let chosen = cx.emit(Elementwise { zeros: Zeros::BranchesKept, results: 1 }, &operands)?;
        quantize(cx, chosen, 7, 8)
    }),
    ("QLinearSoftmax", |cx| {
        let rank = cx.input_shape(0)?.len();
        let first = axis(cx.int("axis").unwrap_or(-1), rank)?;
        let modern = cx.int("opset").is_none_or(|opset| opset >= 13);
        let last = if modern { first + 1 } else { rank };
        let axes = (first..last).map(|axis| axis as i64).collect();
        let along = Along { axes, ..Along::new("softmax", "softmax runs along it", 0) };
        let data = Quantized::at(0, 0).read(cx)?;
        let result = cx.emit(along, &[data])?;
        quantize(cx, result, 3, 4)
    }),
    ("QLinearConcat", |cx| {
        let along = cx.int("axis").unwrap_or(0);
        let operands = (2..cx.input_count()).step_by(3);
        let operands =
            operands.map(|slot| Quantized::at(slot, 0).read(cx)).collect::<Result<Vec<_>>>()?;
        let result = cx.emit(join::Concat { axis: along }, &operands)?;
        quantize(cx, result, 0, 1)
    }),
    ("QLinearAveragePool", |cx| {
        if cx.int("channels_last").unwrap_or(0) != 0 {
            return Err(Error::unsupported("`channels_last`"));
        }
        let pool = pool::payload(cx, pool::PoolKind::Mean)?;
        let data = Quantized::at(0, 0).read(cx)?;
        let result = cx.emit(pool, &[data])?;
        quantize(cx, result, 3, 4)
    }),
    ("QLinearGlobalAveragePool", |cx| {
        let rank = cx.input_shape(0)?.len() as i64;
        let axes = match cx.int("channels_last").unwrap_or(0) {
            0 => (2..rank).collect(),
            _ => (1..rank - 1).collect(),
        };
        let data = Quantized::at(0, 0).read(cx)?;
        let mean = Reduce { kind: ReduceKind::Mean, axes: Some(axes), keep: true };
        let result = cx.emit(mean, &[data])?;
        quantize(cx, result, 3, 4)
    }),
    ("QGemm", decode_gemm),
    ("DynamicQuantizeLSTM", decode_lstm),
    ("MatMulIntegerToFloat", |cx| {
        let a = Quantized { data: 0, scale: Some(2), zero: 4, axis: -2 }.read(cx)?;
        let b = Quantized { data: 1, scale: Some(3), zero: 5, axis: -1 }.read(cx)?;
        decode_product(cx, a, b, 6)
    }),
    ("DynamicQuantizeMatMul", |cx| {
        let a = cx.input(0)?;
        cx.emit(Extremes, &[a])?;
        let b = Quantized { data: 1, scale: Some(2), zero: 3, axis: -1 }.read(cx)?;
        decode_product(cx, a, b, 4)
    }),
];

/// An LSTM whose weights are integers, a column per unit and gate. Data and state are quantized by
/// their range.
fn decode_lstm(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let rows = cx.input_shape(1)?.last().map_or(0, |extent| extent.size);
    let layer = recurrent::payload(cx, Cell::Lstm, rows)?;
    let mut inputs = vec![Some(cx.input(0)?)];
    for (slot, scale) in [(1, 8), (2, 10)] {
        let weight = Quantized { data: slot, scale: Some(scale), zero: scale + 1, axis: 0 };
        let weight = weight.read(cx)?;
        inputs.push(Some(cx.emit(Transpose { order: vec![0, 2, 1] }, &[weight])?));
    }
    for slot in 3..8 {
        inputs.push(cx.optional(slot)?);
    }
    let (data, start) = (inputs[0], inputs[5]);
    let results = cx.emit_all(layer, inputs)?;
    for value in data.into_iter().chain(start).chain(results.first().copied()) {
        cx.emit(Extremes, &[value])?;
    }
    for (slot, value) in results.into_iter().enumerate() {
        cx.bind(slot, value);
    }
    Ok(())
}

fn decode_binary(cx: &mut Decoder<'_, '_>, zeros: Zeros) -> Result<()> {
    let operands = [Quantized::at(0, 0).read(cx)?, Quantized::at(3, 0).read(cx)?];
    let result = cx.emit(Elementwise { zeros, results: 1 }, &operands)?;
    quantize(cx, result, 6, 7)
}

fn decode_unary(cx: &mut Decoder<'_, '_>, zeros: Zeros) -> Result<()> {
    let data = Quantized::at(0, 0).read(cx)?;
    let result = cx.emit(Elementwise { zeros, results: 1 }, &[data])?;
    quantize(cx, result, 3, 4)
}

/// A matrix product of numbers, with a bias at slot `bias`.
fn decode_product(cx: &mut Decoder<'_, '_>, a: ValueId, b: ValueId, bias: usize) -> Result<()> {
    let mut result = cx.emit(Contract::MatMul, &[a, b])?;
    if cx.has(bias) {
        let bias = cx.input(bias)?;
        result = cx.emit(Elementwise { zeros: Zeros::AllKept, results: 1 }, &[result, bias])?;
    }
    cx.bind(0, result);
    Ok(())
}

fn decode_gemm(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let flag = |name| cx.int(name).unwrap_or(0) != 0;
    let (transpose_a, transpose_b) = (flag("transA"), flag("transB"));
    let columns = if transpose_b { 0 } else { 1 };
    let mut inputs = vec![Quantized::at(0, 0).read(cx)?, Quantized::at(3, columns).read(cx)?];
    if cx.has(6) {
        inputs.push(cx.input(6)?);
    }
    let result = cx.emit(Contract::Gemm { transpose_a, transpose_b }, &inputs)?;
    if cx.has(7) {
        return quantize(cx, result, 7, 8);
    }
    cx.bind(0, result);
    Ok(())
}
