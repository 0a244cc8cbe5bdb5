//! Contractions: linear layers, matrix products, einsum.

mod aten;

use super::{Operator, Shapes, agree, letter, operand, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Rule, Use};
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// A product of operands summed over the axes that the result lacks.
#[derive(Clone, Debug)]
pub enum Contract {
    /// `a · b` with numpy's broadcasting over leading axes; the weight is a parameter if one is.
    MatMul,
    /// `alpha a · b + beta c` with either matrix transposed.
    Gemm {
        /// Whether `a` is `[k, m]`.
        transpose_a: bool,
        /// Whether `b` is `[n, k]`.
        transpose_b: bool,
    },
    /// Data `[…, k]`, weight `[n, k]` or `[k]`, bias `[n]`.
    Linear,
    /// Letters per operand and for the result.
    Einsum {
        /// One letter per axis of each operand.
        operands: Vec<Vec<char>>,
        /// One letter per axis of the result.
        result: Vec<char>,
    },
}

impl Operator for Contract {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        match self {
            Contract::MatMul => matmul(shapes),
            Contract::Gemm { transpose_a, transpose_b } => gemm(shapes, *transpose_a, *transpose_b),
            Contract::Linear => linear(shapes),
            Contract::Einsum { operands, result } => einsum(shapes, operands, result),
        }
    }
}

fn matmul(shapes: &Shapes<'_>) -> Result<Rule> {
    let (a, b) = (ranked(shapes, 0, 1)?, ranked(shapes, 1, 1)?);
    let inner = b[b.len().saturating_sub(2)];
    agree("inner sizes of the product", a[a.len() - 1].size, inner.size)?;
    let lead_a = &a[..a.len().saturating_sub(2)];
    let lead_b = &b[..b.len().saturating_sub(2)];

    let mut r = Rule::new("matmul");
    let (dims_a, dims_b, lead) = broadcast(&mut r, lead_a, lead_b)?;
    let m = (a.len() > 1).then(|| r.free("m", a[a.len() - 2]));
    let n = (b.len() > 1).then(|| r.free("n", b[b.len() - 1]));
    let k = r.summed("k", inner);
    let axes = |lead: Vec<Dim>, rest: [Option<FactorId>; 2]| {
        lead.into_iter().chain(rest.into_iter().flatten().map(Dim::from)).collect::<Vec<_>>()
    };
    r.operand(Use::Weight, axes(dims_a, [m, Some(k)]));
    r.operand(Use::Weight, axes(dims_b, [Some(k), n]));
    let result = axes(lead, [m, n]);
    r.macs.push(result.iter().flat_map(Dim::factors).chain([k]).collect());
    r.result(result);
    r.flow = Flow::product([0, 1], []);
    Ok(r)
}

/// Aligns two shapes at the end; an axis of size 1 is spelled 1 where the other is larger.
fn broadcast(r: &mut Rule, a: &[Extent], b: &[Extent]) -> Result<(Vec<Dim>, Vec<Dim>, Vec<Dim>)> {
    let rank = a.len().max(b.len());
    let (mut dims_a, mut dims_b, mut result) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..rank {
        let left = (index + a.len()).checked_sub(rank).map(|i| a[i]);
        let right = (index + b.len()).checked_sub(rank).map(|i| b[i]);
        let extent = wider(left, right)?;
        let factor = r.free(letter(index), extent);
        let spell =
            |side: Extent| if side.size == extent.size { factor.into() } else { Dim::one() };
        dims_a.extend(left.map(spell));
        dims_b.extend(right.map(spell));
        result.push(factor.into());
    }
    Ok((dims_a, dims_b, result))
}

fn wider(a: Option<Extent>, b: Option<Extent>) -> Result<Extent> {
    match (a, b) {
        (Some(a), Some(b)) if a.size == b.size => {
            Ok(Extent { size: a.size, open: a.open.max(b.open) })
        }
        (Some(a), Some(b)) if a.size == 1 => Ok(b),
        (Some(a), Some(b)) if b.size == 1 => Ok(a),
        (Some(a), Some(b)) => {
            agree("broadcast sizes", a.size, b.size).map(|()| Extent::fixed(a.size))
        }
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Ok(Extent::fixed(1)),
    }
}

fn gemm(shapes: &Shapes<'_>, transpose_a: bool, transpose_b: bool) -> Result<Rule> {
    let (a, b) = (ranked(shapes, 0, 2)?, ranked(shapes, 1, 2)?);
    let (rows, inner) = if transpose_a { (a[1], a[0]) } else { (a[0], a[1]) };
    let (depth, columns) = if transpose_b { (b[1], b[0]) } else { (b[0], b[1]) };
    agree("inner sizes of the product", inner.size, depth.size)?;
    let mut r = Rule::new("gemm");
    let m = r.free("m", rows);
    let n = r.free("n", columns);
    let k = r.summed("k", inner);
    let matrix = |transposed, a: FactorId, b: FactorId| {
        if transposed { vec![b.into(), a.into()] } else { vec![a.into(), b.into()] }
    };
    r.operand(Use::Weight, matrix(transpose_a, m, k));
    r.operand(Use::Weight, matrix(transpose_b, k, n));
    let mut terms = Vec::new();
    if let Some(bias) = shapes.get(2) {
        let result = [(m, rows), (n, columns)];
        let bias = bias.unwrap_or_default();
        let skip = 2usize.saturating_sub(bias.len());
        let spell = |(&side, (factor, extent)): (&Extent, &(FactorId, Extent))| {
            if side.size == extent.size { (*factor).into() } else { Dim::one() }
        };
        terms.extend((shapes[2].is_some()).then_some(2));
        r.operand(Use::Affine, bias.iter().zip(&result[skip..]).map(spell).collect());
    }
    r.macs.push(vec![m, n, k]);
    r.result(vec![m.into(), n.into()]);
    r.flow = Flow::product([0, 1], terms);
    Ok(r)
}

fn linear(shapes: &Shapes<'_>) -> Result<Rule> {
    let (data, weight) = (ranked(shapes, 0, 1)?, ranked(shapes, 1, 1)?);
    let (lead, inner) = (&data[..data.len() - 1], data[data.len() - 1]);
    agree("features of data and weight", inner.size, weight[weight.len() - 1].size)?;
    let mut r = Rule::new("linear");
    let lead = super::letters(&mut r, lead);
    let n = (weight.len() > 1).then(|| r.free("n", weight[0]));
    let k = r.summed("k", inner);
    let with = |lead: &[Dim], last: Option<FactorId>| -> Vec<Dim> {
        lead.iter().cloned().chain(last.map(Dim::from)).collect()
    };
    r.operand(Use::Data, with(&lead, Some(k)));
    r.operand(Use::Weight, n.into_iter().chain([k]).map(Dim::from).collect());
    let mut terms = Vec::new();
    if let Some(Some(bias)) = shapes.get(2) {
        let whole =
            bias.len() == 1 && n.is_some_and(|n| r.factors[n.index()].extent.size == bias[0].size);
        terms.push(2);
        r.operand(
            Use::Affine,
            bias.iter().map(|_| if whole { with(&[], n).remove(0) } else { Dim::one() }).collect(),
        );
    }
    let result = with(&lead, n);
    r.macs.push(result.iter().flat_map(Dim::factors).chain([k]).collect());
    r.result(result);
    r.flow = Flow::product([0, 1], terms);
    Ok(r)
}

fn einsum(shapes: &Shapes<'_>, operands: &[Vec<char>], result: &[char]) -> Result<Rule> {
    let mut r = Rule::new("einsum");
    let mut known: Vec<(char, FactorId)> = Vec::new();
    for (letter, extent) in label_sizes(shapes, operands)? {
        let factor = match result.contains(&letter) {
            true => r.free(letter.to_string(), extent),
            false => r.summed(letter.to_string(), extent),
        };
        known.push((letter, factor));
    }
    let find = |letter: &char| {
        let found = known.iter().find(|(known, _)| known == letter);
        found.map(|&(_, f)| f).ok_or_else(|| Error::malformed("a letter from nowhere"))
    };
    for (index, letters) in operands.iter().enumerate() {
        let axes = letters.iter().zip(operand(shapes, index)?);
        let spell = |(letter, extent): (&char, &Extent)| {
            let factor = find(letter)?;
            let whole = r.factors[factor.index()].extent.size == extent.size;
            Ok(if whole { factor.into() } else { Dim::one() })
        };
        let dims = axes.map(spell).collect::<Result<_>>()?;
        r.operand(Use::Weight, dims);
    }
    let dims = result.iter().map(|letter| Ok(find(letter)?.into())).collect::<Result<_>>()?;
    r.result(dims);
    r.macs.push(known.iter().map(|&(_, factor)| factor).collect());
    r.flow = Flow::product((0..operands.len()).collect::<Vec<_>>(), []);
    Ok(r)
}

/// The size under each letter, in order of appearance; an axis of size 1 is broadcast.
fn label_sizes(shapes: &Shapes<'_>, operands: &[Vec<char>]) -> Result<Vec<(char, Extent)>> {
    let mut sizes: Vec<(char, Extent)> = Vec::new();
    for (index, letters) in operands.iter().enumerate() {
        let shape = operand(shapes, index)?;
        agree("letters and axes", letters.len(), shape.len())?;
        for (&letter, &extent) in letters.iter().zip(shape) {
            match sizes.iter_mut().find(|(known, _)| *known == letter) {
                None => sizes.push((letter, extent)),
                Some((_, known)) if known.size == 1 => *known = extent,
                Some((_, known)) if extent.size == 1 || known.size == extent.size => {}
                Some((_, known)) => agree("sizes under one letter", known.size, extent.size)?,
            }
        }
    }
    Ok(sizes)
}

/// How ONNX spells contractions.
pub(crate) const ONNX: &[(&str, Decode)] =
    &[("MatMul", |cx| cx.node(Contract::MatMul)), ("Gemm", decode_gemm), ("Einsum", decode_einsum)];

fn decode_gemm(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let flag = |name| cx.int(name).unwrap_or(0) != 0;
    let (transpose_a, transpose_b) = (flag("transA"), flag("transB"));
    cx.node(Contract::Gemm { transpose_a, transpose_b })
}

fn decode_einsum(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let text = cx.string("equation").unwrap_or_default();
    let ranks = (0..cx.input_count()).map(|slot| Ok(cx.input_shape(slot)?.len()));
    let contract = equation(&text, &ranks.collect::<Result<Vec<usize>>>()?)?;
    cx.node(contract)
}

/// The contraction that an equation spells over operands of these ranks.
fn equation(text: &str, ranks: &[usize]) -> Result<Contract> {
    let equation = text.replace(' ', "");
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    agree("einsum terms and inputs", terms.len(), ranks.len())?;
    let unnamed = |(term, rank): (&&str, &usize)| {
        rank.saturating_sub(term.replace("...", "").chars().count())
    };
    let rest: Vec<usize> = terms.iter().zip(ranks).map(unnamed).collect();
    let operands: Vec<Vec<char>> =
        terms.iter().zip(&rest).map(|(term, &rest)| labels(term, rest)).collect();
    let dotted = terms.iter().zip(&rest).filter(|(term, _)| term.contains("..."));
    let most = dotted.map(|(_, &rest)| rest).max().unwrap_or(0);
    let result = match right {
        Some(right) => labels(right, most),
        None => implied(&operands, most),
    };
    Ok(Contract::Einsum { operands, result })
}

/// The labels of a term, of which `...` stands for the last `rest` of the unnamed axes.
fn labels(term: &str, rest: usize) -> Vec<char> {
    let Some((before, after)) = term.split_once("...") else { return term.chars().collect() };
    before.chars().chain(unnamed(rest)).chain(after.chars()).collect()
}

/// Labels for unnamed axes, counted from the end.
fn unnamed(count: usize) -> impl Iterator<Item = char> {
    const FIRST: u32 = '₀' as u32;
    (0..count as u32).rev().filter_map(|index| char::from_u32(FIRST.saturating_add(index)))
}

/// The labels of a result that is not spelled: the unnamed axes, then what appears once, sorted.
fn implied(operands: &[Vec<char>], most: usize) -> Vec<char> {
    let mut all: Vec<char> = operands.iter().flatten().copied().collect();
    all.sort_unstable();
    let unnamed: Vec<char> = unnamed(most).collect();
    let once = all.chunk_by(|a, b| a == b).filter_map(|same| match same {
        [one] if !unnamed.contains(one) => Some(*one),
        _ => None,
    });
    unnamed.iter().copied().chain(once).collect()
}
