//! Products of matrices.

pub(crate) mod aten;

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use super::elementwise::level;
use super::shape::{concat, segment};
use super::{Decode, Inputs, Operator};
use crate::{Context, Engine, Error, Result, Value};

/// The product of the last two axes, with broadcasting over the others; a vector is a row on the
/// left and a column on the right.
#[derive(Clone, Copy, Debug)]
pub struct MatMul;

impl Operator for MatMul {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (a, b) = (inputs.take(0)?, inputs.take(1)?);
        Ok(vec![product(a, b)?])
    }
}

/// As [`MatMul`].
pub(crate) fn product<B: Engine>(a: Value<B>, b: Value<B>) -> Result<Value<B>> {
    let (left, right) = (a.shape(), b.shape());
    if left.is_empty() || right.is_empty() {
        return Err(Error::malformed("a product of matrices with a scalar"));
    }
    let a = if left.len() == 1 { a.reshape(vec![1, left[0]]) } else { a };
    let b = if right.len() == 1 { b.reshape(vec![right[0], 1]) } else { b };
    let (rows, inner) = (a.shape(), b.shape());
    let (k, columns) = (inner[inner.len() - 2], inner[inner.len() - 1]);
    if rows[rows.len() - 1] != k {
        return Err(Error::malformed(format!("a product of {left:?} with {right:?}")));
    }
    let result = match inner.len() {
        // One matrix for all: a single product of all rows.
        2 if rows.len() > 2 => {
            let count = rows[..rows.len() - 1].iter().product();
            let flat = matrices(a.reshape(vec![count, k]), b)?;
            flat.reshape([&rows[..rows.len() - 1], &[columns]].concat())
        }
        _ => {
            let (a, b) = level(a, b);
            matrices(a, b)?
        }
    };
    let mut shape = result.shape();
    if right.len() == 1 {
        shape.pop();
    }
    if left.len() == 1 {
        shape.remove(shape.len() - if right.len() == 1 { 1 } else { 2 });
    }
    Ok(if shape == result.shape() { result } else { result.reshape(shape) })
}

fn matrices<B: Engine>(a: Value<B>, b: Value<B>) -> Result<Value<B>> {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Ok(Value::Float(B::product(a, b))),
        (Value::Int(a), Value::Int(b)) => Ok(Value::Int(B::int_matmul(a, b))),
        (a, b) => Err(Error::malformed(format!("{} with {}", a.sort(), b.sort()))),
    }
}

/// Rows, each times the matrix of its group; operand 2 tells where the rows of every group end.
#[derive(Clone, Copy, Debug)]
pub struct GroupedProduct;

impl Operator for GroupedProduct {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (rows, matrices, ends) = (inputs.take(0)?, inputs.take(1)?, inputs.ints(2)?);
        let (shape, of) = (rows.shape(), matrices.shape());
        let (&[count, _], &[groups, depth, columns]) = (&shape[..], &of[..]) else {
            return Err(Error::malformed(format!("groups of {shape:?} with {of:?}")));
        };
        if ends.len() != groups || ends.last().is_some_and(|&end| end != count as i64) {
            return Err(Error::malformed(format!("{groups} groups that end at {ends:?}")));
        }
        let (mut start, mut products) = (0, Vec::with_capacity(groups));
        for (group, end) in ends.into_iter().enumerate() {
            let end = usize::try_from(end).ok().filter(|end| (start..=count).contains(end));
            let end = end.ok_or_else(|| Error::malformed("groups that are out of order"))?;
            if start < end {
                let matrix = segment(matrices.clone(), 0, group, group + 1);
                let rows = segment(rows.clone(), 0, start, end);
                products.push(product(rows, matrix.reshape(vec![depth, columns]))?);
            }
            start = end;
        }
        Ok(vec![concat(products, 0)?])
    }
}

/// `α·A·B + β·C`, with A and B transposed where asked for.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Whether A is transposed.
    pub left: bool,
    /// Whether B is.
    pub right: bool,
    /// α
    pub alpha: f64,
    /// β
    pub beta: f64,
}

impl Operator for Gemm {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (a, b) = (inputs.take(0)?.float()?, inputs.take(1)?.float()?);
        let a = if self.left { B::float_transpose(a) } else { a };
        let b = if self.right { B::float_transpose(b) } else { b };
        let mut result = product(Value::<B>::Float(a), Value::Float(b))?;
        if self.alpha != 1.0 {
            result = Value::Float(B::float_mul_scalar(result.float()?, self.alpha.into()));
        }
        if let Some(c) = inputs.optional(2)
            && self.beta != 0.0
        {
            let (c, level) = level(c, result);
            let mut c = c.float()?;
            if self.beta != 1.0 {
                c = B::float_mul_scalar(c, self.beta.into());
            }
            result = Value::Float(B::float_add(level.float()?, c));
        }
        Ok(vec![result])
    }
}

/// A sum of products by Einstein's notation, without repeated letters in one term.
#[derive(Clone, Debug)]
pub struct Einsum {
    /// The letters of every operand; `.` stands for all axes of an ellipsis.
    pub terms: Vec<Vec<char>>,
    /// The letters of the result.
    pub result: Vec<char>,
}

impl Einsum {
    /// Reads an equation.
    ///
    /// # Errors
    /// When it is not one, or asks for a diagonal.
    pub fn parse(equation: &str) -> Result<Self> {
        let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let text = text.replace("...", ".");
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left.to_string(), Some(right.to_string())),
            None => (text.clone(), None),
        };
        let terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
        let wrong = || Error::unsupported(format!("the equation `{equation}`"));
        for term in terms.iter().chain(right.as_ref().map(|r| r.chars().collect()).iter()) {
            let mut sorted = term.clone();
            sorted.sort_unstable();
            let repeats = sorted.windows(2).any(|pair| pair[0] == pair[1]);
            if repeats || term.iter().any(|c| !c.is_ascii_alphabetic() && *c != '.') {
                return Err(wrong());
            }
        }
        let result = match right {
            Some(right) => right.chars().collect(),
            None => {
                let mut all: Vec<char> = terms.iter().flatten().copied().collect();
                all.sort_unstable();
                let once = |c: &char| all.iter().filter(|other| *other == c).count() == 1;
                let mut result: Vec<char> =
                    all.iter().copied().filter(|c| once(c) || *c == '.').collect();
                result.dedup();
                result
            }
        };
        let known = |c: &char| terms.iter().flatten().any(|other| other == c);
        if !result.iter().all(known) {
            return Err(wrong());
        }
        Ok(Einsum { terms, result })
    }

    /// The letters with every ellipsis spelled out, one digit per axis.
    fn spelled(&self, ranks: &[usize]) -> Result<(Vec<Vec<char>>, Vec<char>)> {
        let mut dots = 0;
        for (term, &rank) in self.terms.iter().zip(ranks) {
            let letters = term.iter().filter(|c| **c != '.').count();
            let rest = rank.checked_sub(letters).filter(|&rest| rest == 0 || term.contains(&'.'));
            let rest = rest
                .ok_or_else(|| Error::malformed(format!("{rank} axes for the letters {term:?}")))?;
            dots = dots.max(rest);
        }
        let digit = |index: usize| char::from_digit(index as u32, 36).unwrap_or('?');
        let spell = |term: &[char], count: usize| -> Vec<char> {
            let axes = |c: &char| match c {
                '.' => (dots - count..dots).map(digit).collect(),
                c => vec![*c],
            };
            term.iter().flat_map(axes).collect()
        };
        let term = |(term, rank): (&Vec<char>, &usize)| {
            spell(term, rank - term.iter().filter(|c| **c != '.').count())
        };
        let terms = self.terms.iter().zip(ranks).map(term).collect();
        Ok((terms, spell(&self.result, dots)))
    }
}

impl Operator for Einsum {
    fn run<B: Engine>(&self, _: &mut Context<B>, inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let values = inputs.rest();
        if values.len() != self.terms.len() {
            let (found, expected) = (values.len(), self.terms.len());
            return Err(Error::malformed(format!("{found} operands for {expected} terms")));
        }
        let ranks: Vec<usize> = values.iter().map(Value::rank).collect();
        let (terms, wanted) = self.spelled(&ranks)?;
        let mut operands = terms.into_iter().zip(values);
        let (mut letters, value) = operands.next().ok_or_else(|| Error::malformed("no operand"))?;
        let mut value = value.float()?;
        let rest: Vec<(Vec<char>, Value<B>)> = operands.collect();
        for (index, (other, right)) in rest.iter().enumerate() {
            let later = |c: &char| {
                wanted.contains(c) || rest[index + 1..].iter().any(|(term, _)| term.contains(c))
            };
            let right = right.clone().float()?;
            (letters, value) = contract::<B>((&letters, value), (other, right), &later)?;
        }
        let (letters, value) = sum_out::<B>(&letters, value, &|c| wanted.contains(c));
        let order: Vec<usize> = wanted
            .iter()
            .map(|c| letters.iter().position(|other| other == c).unwrap_or_default())
            .collect();
        Ok(vec![Value::Float(B::float_permute(value, &order))])
    }
}

type Term<'a, B> = (&'a [char], FloatTensor<B>);

/// Sums over the letters that are not kept.
fn sum_out<B: Engine>(
    letters: &[char],
    value: FloatTensor<B>,
    kept: &dyn Fn(&char) -> bool,
) -> (Vec<char>, FloatTensor<B>) {
    let mut value = value;
    let mut shape = value.shape().to_vec();
    for (axis, letter) in letters.iter().enumerate() {
        if !kept(letter) {
            value = B::float_sum_dim(value, axis);
            shape[axis] = 1;
        }
    }
    let left: Vec<usize> = (0..letters.len()).filter(|&axis| kept(&letters[axis])).collect();
    let sizes = left.iter().map(|&axis| shape[axis]).collect::<Vec<_>>();
    let value = B::float_reshape(value, sizes.into());
    (left.iter().map(|&axis| letters[axis]).collect(), value)
}

/// One product of matrices: letters of both that stay are its batch, those of both that do not are
/// summed over.
fn contract<B: Engine>(
    (left, a): Term<'_, B>,
    (right, b): Term<'_, B>,
    later: &dyn Fn(&char) -> bool,
) -> Result<(Vec<char>, FloatTensor<B>)> {
    let (left, a) = sum_out::<B>(left, a, &|c| right.contains(c) || later(c));
    let (right, b) = sum_out::<B>(right, b, &|c| left.contains(c) || later(c));
    let (shape_a, shape_b) = (a.shape().to_vec(), b.shape().to_vec());
    let size = |c: &char| -> Result<usize> {
        let of = |letters: &[char], shape: &[usize]| {
            letters.iter().position(|other| other == c).map_or(1, |axis| shape[axis])
        };
        let (x, y) = (of(&left, &shape_a), of(&right, &shape_b));
        match x == y || x == 1 || y == 1 {
            true => Ok(x.max(y)),
            false => Err(Error::malformed(format!("`{c}` is {x} and {y}"))),
        }
    };
    let both = |c: &&char| right.contains(c);
    let batch: Vec<char> = left.iter().filter(both).filter(|c| later(c)).copied().collect();
    let summed: Vec<char> = left.iter().filter(both).filter(|c| !later(c)).copied().collect();
    let rows: Vec<char> = left.iter().filter(|c| !right.contains(c)).copied().collect();
    let columns: Vec<char> = right.iter().filter(|c| !left.contains(c)).copied().collect();
    let count = |letters: &[char]| letters.iter().try_fold(1, |n, c| Ok::<_, Error>(n * size(c)?));
    let arrange = |letters: &[char], value: FloatTensor<B>, order: [&[char]; 3]| {
        let all = order.concat();
        let axes: Vec<usize> = all
            .iter()
            .map(|c| letters.iter().position(|other| other == c).unwrap_or_default())
            .collect();
        let value = B::float_permute(value, &axes);
        let sizes = all.iter().map(size).collect::<Result<Vec<_>>>()?;
        let value = B::float_expand(value, sizes.into());
        let flat = order.iter().map(|part| count(part)).collect::<Result<Vec<_>>>()?;
        Ok::<_, Error>(B::float_reshape(value, flat.into()))
    };
    let a = arrange(&left, a, [&batch, &rows, &summed])?;
    let b = arrange(&right, b, [&batch, &summed, &columns])?;
    let letters = [batch, rows, columns].concat();
    let sizes = letters.iter().map(size).collect::<Result<Vec<_>>>()?;
    Ok((letters, B::float_reshape(B::product(a, b), sizes.into())))
}

/// How ONNX spells products.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("MatMul", |_| Ok(MatMul.into())),
    ("Gemm", |node| {
        Ok(Gemm {
            left: node.int("transA", 0) != 0,
            right: node.int("transB", 0) != 0,
            alpha: node.float("alpha", 1.0),
            beta: node.float("beta", 1.0),
        }
        .into())
    }),
    ("Einsum", |node| {
        let equation = node.string("equation").unwrap_or_default();
        Ok(Einsum::parse(&equation)?.into())
    }),
];
