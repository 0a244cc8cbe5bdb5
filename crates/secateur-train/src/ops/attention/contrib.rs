//! Attention as ONNX Runtime spells it: projected inside, over many heads, over grouped heads.

use super::{
    Measure, Sight, hidden, join, merge_heads, repeat_heads, shares, split_heads, term_of,
};
use crate::onnx::Node;
use crate::ops::rotary::{Turn, counted};
use crate::ops::{Decode, Inputs, Operator, sizes};
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// What the three spellings share.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    /// The number of heads of queries.
    pub heads: usize,
    /// What products are multiplied by; the root of the width where it is not given.
    pub scale: Option<f64>,
    /// What is added where a mask hides a key.
    pub filter: f64,
    /// Whether later keys are hidden.
    pub causal: bool,
}

impl Common {
    fn decode(node: &Node<'_>) -> Result<Self> {
        let heads = node.int("num_heads", 0);
        let found = usize::try_from(heads).ok().filter(|&heads| heads > 0);
        Ok(Common {
            heads: found.ok_or_else(|| Error::malformed(format!("{heads} heads")))?,
            scale: Some(node.float("scale", 0.0)).filter(|&scale| scale != 0.0),
            filter: node.float("mask_filter_value", -10000.0),
            causal: node.int("unidirectional", 0) != 0,
        })
    }

    /// The result `[n, t, h·d]` of heads, and the products with all terms.
    fn attend<B: Engine>(
        &self,
        [query, key, value]: [Real<B>; 3],
        mut terms: Vec<Real<B>>,
    ) -> Result<[Real<B>; 2]> {
        let [n, t, s] = [query.size(0), query.size(2), key.size(2)];
        let sight = Sight { causal: self.causal, window: None };
        let offsets = vec![s as i64 - t as i64; n];
        let lengths = vec![s as i64; n];
        terms.extend(hidden(sight, (&offsets, &lengths), [t, s], &query.device()));
        let products = shares(query, key, Measure { scale: self.scale, cap: None }, terms)?;
        Ok([merge_heads(products.shares.matmul(value)?), products.biased])
    }

    /// What a mask adds: `[n]` lengths, `[2·n]` ends and starts, `[3·n + 2]` lengths first, or ones
    /// and zeros per key, per query and key, or per head too.
    fn masked<B: Engine>(&self, mask: Value<B>, n: usize, t: usize, s: usize) -> Result<Real<B>> {
        let (shape, values, device) = (mask.shape(), mask.clone().to_ints()?, mask.device());
        let seen: Vec<bool> = match shape[..] {
            [count] if count == n || count == 3 * n + 2 => {
                let lengths = &values[..n];
                lengths.iter().flat_map(|&length| (0..s as i64).map(move |k| k < length)).collect()
            }
            [count] if count == 2 * n => {
                let bounds = values[..n].iter().zip(&values[n..]);
                let keys = |(&end, &start)| (0..s as i64).map(move |k| k >= start && k < end);
                bounds.flat_map(keys).collect()
            }
            _ => values.iter().map(|&value| value > 0).collect(),
        };
        let shape = match shape[..] {
            [_] => vec![n, 1, 1, s],
            [n, s] => vec![n, 1, 1, s],
            [n, t, s] => vec![n, 1, t, s],
            [n, 1, rows, columns] if rows >= s && columns >= s => {
                let whole = Value::of_bools(seen, vec![n, 1, rows, columns], &device);
                let part = term_of(whole, self.filter)?.part(2, s - t, s);
                return Ok(part.part(3, 0, s));
            }
            _ => return Err(Error::malformed(format!("a mask of {shape:?}"))),
        };
        term_of(Value::of_bools(seen, shape, &device), self.filter)
    }
}

/// Queries, keys and values from one product with data: operands are data, kernel, bias, mask,
/// earlier keys and values in one tensor, and a term.
#[derive(Clone, Debug)]
pub struct FusedAttention {
    /// What all spellings share.
    pub common: Common,
    /// The widths of queries, keys and values, unless they are a third each.
    pub widths: Option<Vec<i64>>,
}

impl Operator for FusedAttention {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, kernel) = (inputs.real(0)?, inputs.real(1)?);
        let mut all = x.matmul(kernel)?;
        if let Some(bias) = inputs.optional_real(2)? {
            all = all + bias;
        }
        let widths = match &self.widths {
            Some(widths) => sizes(widths)?,
            None => vec![all.size(2) / 3; 3],
        };
        let [a, b, c] = widths[..] else { return Err(Error::malformed("not three widths")) };
        let part = |from: usize, width: usize| {
            split_heads(all.clone().part(2, from, from + width), self.common.heads)
        };
        let (query, mut key, mut value) = (part(0, a)?, part(a, b)?, part(a + b, c)?);
        if let Some(past) = inputs.optional_real(4)? {
            key = join(Some(past.clone().at(0, 0)), key)?;
            value = join(Some(past.at(0, 1)), value)?;
        }
        let mut terms = Vec::new();
        if let Some(mask) = inputs.optional(3) {
            terms.push(self.common.masked(mask, query.size(0), query.size(2), key.size(2))?);
        }
        terms.extend(inputs.optional_real(5)?);
        let [result, _] = self.common.attend([query, key.clone(), value.clone()], terms)?;
        let mut results = vec![result.into()];
        if key.shape() == value.shape() {
            results.push(Real::stack(vec![key, value], 0)?.into());
        }
        Ok(results)
    }
}

/// Attention over many heads: operands are queries, keys, values, a bias for all three, a padding
/// mask, a term, and earlier keys and values.
#[derive(Clone, Copy, Debug)]
pub struct MultiHead {
    /// What all spellings share.
    pub common: Common,
}

impl Operator for MultiHead {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let sides = self.sides(&mut inputs)?;
        let [query, key, value] = sides;
        let past = [inputs.optional_real(6)?, inputs.optional_real(7)?];
        let [keys, values] = past;
        let (key, value) = (join(keys, key)?, join(values, value)?);
        let mut terms = Vec::new();
        if let Some(mask) = inputs.optional(4) {
            terms.push(self.common.masked(mask, query.size(0), query.size(2), key.size(2))?);
        }
        terms.extend(inputs.optional_real(5)?);
        let operands = [query, key.clone(), value.clone()];
        let [result, products] = self.common.attend(operands, terms)?;
        Ok(vec![result.into(), key.into(), value.into(), products.into()])
    }
}

impl MultiHead {
    /// Queries, keys and values in heads.
    fn sides<B: Engine>(&self, inputs: &mut Inputs<B>) -> Result<[Real<B>; 3]> {
        let heads = self.common.heads;
        let query = inputs.real(0)?;
        let (key, value) = (inputs.optional_real(1)?, inputs.optional_real(2)?);
        let bias = inputs.optional_real(3)?;
        let packed = |x: Real<B>, index: usize| x.at(3, index).permute(&[0, 2, 1, 3]);
        let sides = match (query.rank(), key, value) {
            (5, None, None) => [0, 1, 2].map(|index| packed(query.clone(), index)),
            (_, Some(both), None) if both.rank() == 5 => {
                let [key, value] = [0, 1].map(|index| packed(both.clone(), index));
                [split_heads(query, heads)?, key, value]
            }
            (_, Some(key), Some(value)) => {
                let split = |x: Real<B>| if x.rank() == 4 { Ok(x) } else { split_heads(x, heads) };
                [split_heads(query, heads)?, split(key)?, split(value)?]
            }
            _ => return Err(Error::malformed("no values")),
        };
        let Some(bias) = bias else { return Ok(sides) };
        let mut at = 0;
        let mut biased = |side: Real<B>| {
            let width = side.size(3);
            let part = bias.clone().part(0, at, at + heads * width);
            at += heads * width;
            side + part.reshape([heads, 1, width])
        };
        Ok(sides.map(&mut biased))
    }
}

/// Attention over grouped heads, whose keys and values are put behind earlier ones: operands are
/// queries (or all three), keys, values, earlier keys and values, each batch's last position, the
/// number of all tokens, tables of cosines and sines, positions, a term.
#[derive(Clone, Copy, Debug)]
pub struct GroupQuery {
    /// What all spellings share.
    pub common: Common,
    /// The number of heads of keys.
    pub kv: usize,
    /// How many tokens before a query are seen.
    pub window: Option<usize>,
    /// A soft bound of products.
    pub cap: Option<f64>,
    /// How queries and keys are turned.
    pub turn: Option<Turn>,
}

impl Operator for GroupQuery {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let [mut query, mut key, value] = self.sides(&mut inputs)?;
        let past = [inputs.optional_real(3)?, inputs.optional_real(4)?];
        let (lasts, total) = (inputs.ints(5)?, inputs.ints(6)?.first().copied().unwrap_or(0));
        let (n, t) = (query.size(0), query.size(2));
        if lasts.len() != n {
            return Err(Error::malformed(format!("{} positions of {n} batches", lasts.len())));
        }
        let first = total == t as i64;
        let begin = |&last: &i64| if first { 0 } else { last + 1 - t as i64 };
        let begins: Vec<i64> = lasts.iter().map(begin).collect();
        if let Some(turn) = self.turn {
            let tables = [inputs.real(7)?, inputs.real(8)?];
            let firsts: Vec<i64> = begins.iter().map(|&begin| begin.max(0)).collect();
            let tables = counted(tables, &firsts, t)?;
            query = turn.apply(query, tables.clone())?;
            key = turn.apply(key, tables)?;
        }
        let size = past[0].as_ref().map_or(0, |past| past.size(2)).max(total.max(0) as usize);
        let [keys, values] = past;
        let key = cached(keys, key, &begins, size)?;
        let value = cached(values, value, &begins, size)?;
        let lengths: Vec<i64> = lasts.iter().map(|&last| last + 1).collect();
        let sight = Sight { causal: true, window: self.window };
        let mut terms: Vec<Real<B>> = inputs.optional_real(10)?.into_iter().collect();
        if let Some(term) = terms.pop() {
            let width = term.size(3).min(size);
            let rest = vec![term.size(0), term.size(1), term.size(2), size - width];
            let term = match size == width {
                true => term.part(3, 0, width),
                false => Real::join(vec![term, Real::zeros(rest, &cx.device)], 3)?,
            };
            terms.push(term);
        }
        terms.extend(hidden(sight, (&begins, &lengths), [t, size], &cx.device));
        let measure = Measure { scale: self.common.scale, cap: self.cap };
        let heads = self.common.heads;
        let products = shares(query, repeat_heads(key.clone(), heads)?, measure, terms)?;
        let result = products.shares.matmul(repeat_heads(value.clone(), heads)?)?;
        Ok(vec![merge_heads(result).into(), key.into(), value.into(), products.biased.into()])
    }
}

impl GroupQuery {
    fn sides<B: Engine>(&self, inputs: &mut Inputs<B>) -> Result<[Real<B>; 3]> {
        let (heads, kv, query) = (self.common.heads, self.kv, inputs.real(0)?);
        let (key, value) = (inputs.optional_real(1)?, inputs.optional_real(2)?);
        if let (Some(key), Some(value)) = (key, value) {
            return Ok([
                split_heads(query, heads)?,
                split_heads(key, kv)?,
                split_heads(value, kv)?,
            ]);
        }
        let all = split_heads(query, heads + 2 * kv)?;
        let part = |from: usize, to: usize| all.clone().part(1, from, to);
        Ok([part(0, heads), part(heads, heads + kv), part(heads + kv, heads + 2 * kv)])
    }
}

/// New tokens put behind each batch's earlier ones, in a place for `size`.
fn cached<B: Engine>(
    past: Option<Real<B>>,
    new: Real<B>,
    begins: &[i64],
    size: usize,
) -> Result<Real<B>> {
    let t = new.size(2);
    let batch = |(index, &begin): (usize, &i64)| {
        let begin = usize::try_from(begin).unwrap_or(0);
        let new = new.clone().part(0, index, index + 1);
        let mut parts = Vec::new();
        if let Some(past) = past.clone().filter(|_| begin > 0) {
            parts.push(past.part(0, index, index + 1).part(2, 0, begin));
        }
        if parts.iter().map(|part| part.size(2)).sum::<usize>() != begin || begin + t > size {
            return Err(Error::malformed(format!("{t} tokens behind {begin} in {size}")));
        }
        let mut shape = new.shape();
        shape[2] = size - begin - t;
        let (rest, device) = (shape[2], new.device());
        parts.push(new);
        if rest > 0 {
            parts.push(Real::zeros(shape, &device));
        }
        Real::join(parts, 2)
    };
    Real::join(begins.iter().enumerate().map(batch).collect::<Result<Vec<_>>>()?, 0)
}

/// How ONNX Runtime spells attention.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[
    ("Attention", |node| {
        if node.int("do_rotary", 0) != 0 || node.int("past_present_share_buffer", 0) != 0 {
            return Err(Error::unsupported("`do_rotary` and `past_present_share_buffer`"));
        }
        let widths = node.ints("qkv_hidden_sizes").filter(|widths| !widths.is_empty());
        Ok(FusedAttention { common: Common::decode(node)?, widths }.into())
    }),
    ("MultiHeadAttention", |node| {
        if node.reads(8) || node.reads(9) {
            return Err(Error::unsupported("a cache in a shared buffer"));
        }
        Ok(MultiHead { common: Common::decode(node)? }.into())
    }),
    ("GroupQueryAttention", |node| {
        if node.reads(9) || (11..16).any(|index| node.reads(index)) {
            return Err(Error::unsupported("given positions, sinks, or a quantized cache"));
        }
        if node.int("smooth_softmax", 0) > 0 {
            return Err(Error::unsupported("`smooth_softmax`"));
        }
        let interleaved = node.int("rotary_interleaved", 0) != 0;
        let turn = Turn { interleaved, width: 0 };
        Ok(GroupQuery {
            common: Common::decode(node)?,
            kv: usize::try_from(node.int("kv_num_heads", 0)).unwrap_or(0),
            window: usize::try_from(node.int("local_window_size", -1)).ok(),
            cap: Some(node.float("softcap", 0.0)).filter(|&cap| cap > 0.0),
            turn: (node.int("do_rotary", 0) != 0).then_some(turn),
        }
        .into())
    }),
];
