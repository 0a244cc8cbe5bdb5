//! Attention: softmax over products of queries with keys, times values (Vaswani et al., 2017).

pub mod contrib;

use burn_backend::tensor::Device;

use super::{Decode, Inputs, Operator};
use crate::real::Real;
use crate::value::bool_dtype;
use crate::{Context, Engine, Error, Result, Value};

/// What stands for minus infinity in a sum.
const LOWEST: f64 = -1e30;

/// `[n, t, h·d]` as `[n, h, t, d]`.
pub(crate) fn split_heads<B: Engine>(x: Real<B>, heads: usize) -> Result<Real<B>> {
    match x.shape()[..] {
        [n, t, width] if heads > 0 && width % heads == 0 => {
            Ok(x.reshape([n, t, heads, width / heads]).permute(&[0, 2, 1, 3]))
        }
        _ => Err(Error::malformed(format!("{:?} in {heads} heads", x.shape()))),
    }
}

/// `[n, h, t, d]` as `[n, t, h·d]`.
pub(crate) fn merge_heads<B: Engine>(x: Real<B>) -> Real<B> {
    let (n, h, t, d) = (x.size(0), x.size(1), x.size(2), x.size(3));
    x.permute(&[0, 2, 1, 3]).reshape([n, t, h * d])
}

/// Every head so often that there are `heads`.
fn repeat_heads<B: Engine>(x: Real<B>, heads: usize) -> Result<Real<B>> {
    let (n, kv, t, d) = (x.size(0), x.size(1), x.size(2), x.size(3));
    if kv == heads {
        return Ok(x);
    }
    if !heads.is_multiple_of(kv) {
        return Err(Error::malformed(format!("{heads} heads of queries for {kv} of keys")));
    }
    let each = x.reshape([n, kv, 1, t, d]).expand(vec![n, kv, heads / kv, t, d]);
    Ok(each.reshape([n, heads, t, d]))
}

/// Which keys a query may look at, by position.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sight {
    /// Whether those after it are hidden.
    pub(crate) causal: bool,
    /// How many before it, itself counted, are seen.
    pub(crate) window: Option<usize>,
}

/// A term `[n, 1, t, s]` that hides keys: each batch's first query stands at `offsets`, and keys from
/// `lengths` on are hidden. `None` where nothing is hidden.
pub(crate) fn hidden<B: Engine>(
    sight: Sight,
    (offsets, lengths): (&[i64], &[i64]),
    [t, s]: [usize; 2],
    device: &Device<B>,
) -> Option<Real<B>> {
    let mut term = Vec::with_capacity(offsets.len() * t * s);
    for (&offset, &length) in offsets.iter().zip(lengths) {
        for query in 0..t as i64 {
            let place = query + offset;
            let is_seen = |key: i64| {
                let near = sight.window.is_none_or(|window| key + window as i64 > place);
                key < length && near && (!sight.causal || key <= place)
            };
            term.extend((0..s as i64).map(|k| if is_seen(k) { 0.0 } else { f32::NEG_INFINITY }));
        }
    }
    let hides = term.iter().any(|&number| number != 0.0);
    hides.then(|| Real::of(term, vec![offsets.len(), 1, t, s], device))
}

/// Truth values as what is added to products: nothing, or `number` where they do not hold.
pub(crate) fn term_of<B: Engine>(mask: Value<B>, number: f64) -> Result<Real<B>> {
    Ok(match mask {
        Value::Bool(mask) => {
            let device = Value::<B>::Bool(mask.clone()).device();
            let shape = Value::<B>::Bool(mask.clone()).shape();
            Real::zeros(shape, &device).fill(B::bool_not(mask), number)
        }
        mask => Real(mask.float()?),
    })
}

/// What queries, keys, and what is added to their products give, step by step.
pub(crate) struct Products<B: Engine> {
    /// The products with the scale.
    pub(crate) plain: Real<B>,
    /// The same, bounded softly.
    pub(crate) capped: Real<B>,
    /// The same with all terms.
    pub(crate) biased: Real<B>,
    /// Their shares.
    pub(crate) shares: Real<B>,
}

/// How products become shares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// What products are multiplied by; `None`: by the root of the width.
    pub(crate) scale: Option<f64>,
    /// The bound `c·tanh(x / c)`.
    pub(crate) cap: Option<f64>,
}

/// The shares of keys `[n, h, s, d]` for queries `[n, h, t, d]`.
pub(crate) fn shares<B: Engine>(
    query: Real<B>,
    key: Real<B>,
    measure: Measure,
    terms: Vec<Real<B>>,
) -> Result<Products<B>> {
    let scale = measure.scale.unwrap_or(1.0 / (query.size(3) as f64).sqrt());
    let plain = (query * scale).matmul(key.transpose())?;
    let capped = match measure.cap {
        Some(cap) => (plain.clone() / cap).apply(super::elementwise::Unary::Tanh) * cap,
        None => plain.clone(),
    };
    let Some(term) = terms.into_iter().reduce(|a, b| a + b) else {
        let shares = capped.clone().softmax(3);
        return Ok(Products { biased: capped.clone(), plain, capped, shares });
    };
    let biased = capped.clone() + term.clone();
    let bounded = Real(B::float_clamp_min(term.clone().0, LOWEST.into()));
    let shares = (capped.clone() + bounded).softmax(3);
    // Where no key is seen, there is nothing.
    let last = term.rank() - 1;
    let top = Real::<B>(B::float_max_dim(term.detach().0, last));
    let dead = B::float_lower_equal_elem(
        top.expand(shares.shape()).0,
        f64::from(f32::MIN).next_down().into(),
        bool_dtype::<B>(&shares.device()),
    );
    let shares = shares.fill(dead, 0.0);
    Ok(Products { plain, capped, biased, shares })
}

/// Attention of ONNX: queries, keys, values, a mask, earlier keys and values, and how many keys of
/// each batch are none of its own padding. It makes the result, all keys and values, and one step of
/// the products.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// The number of heads of queries and of keys, where these stand in one axis with their width.
    pub heads: Option<[usize; 2]>,
    /// What products are multiplied by; the root of the width where it is not given.
    pub scale: Option<f64>,
    /// A soft bound of products.
    pub cap: Option<f64>,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// Which step of the products is returned.
    pub shown: Shown,
}

/// A step of the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shown {
    Plain,
    Capped,
    Biased,
    Shares,
}

impl Operator for Attention {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut query = inputs.real(0)?;
        let (mut key, mut value) = (inputs.real(1)?, inputs.real(2)?);
        let flat = query.rank() == 3;
        if flat {
            let [heads, kv] = self.heads.ok_or_else(|| Error::malformed("no number of heads"))?;
            query = split_heads(query, heads)?;
            (key, value) = (split_heads(key, kv)?, split_heads(value, kv)?);
        }
        if [query.rank(), key.rank(), value.rank()] != [4; 3] {
            return Err(Error::malformed(format!("attention over {:?}", query.shape())));
        }
        let past = inputs.optional_real(4)?;
        let offset = past.as_ref().map_or(0, |past| past.size(2)) as i64;
        key = join(past, key)?;
        value = join(inputs.optional_real(5)?, value)?;
        let (batch, t, s) = (query.size(0), query.size(2), key.size(2));
        let lengths = inputs.optional(6).map(Value::to_ints).transpose()?;
        let offsets = match &lengths {
            Some(lengths) => lengths.iter().map(|&length| length - t as i64).collect(),
            None => vec![offset; batch],
        };
        let lengths = lengths.unwrap_or_else(|| vec![s as i64; batch]);
        let sight = Sight { causal: self.causal, window: None };
        let mut terms = Vec::new();
        if let Some(mask) = inputs.optional(3) {
            terms.push(widened(term_of(mask, f64::NEG_INFINITY)?, s)?);
        }
        terms.extend(hidden(sight, (&offsets, &lengths), [t, s], &cx.device));
        let measure = Measure { scale: self.scale, cap: self.cap };
        let heads = query.size(1);
        let products = shares(query, repeat_heads(key.clone(), heads)?, measure, terms)?;
        let result = products.shares.clone().matmul(repeat_heads(value.clone(), heads)?)?;
        let result = if flat { merge_heads(result) } else { result };
        let shown = match self.shown {
            Shown::Plain => products.plain,
            Shown::Capped => products.capped,
            Shown::Biased => products.biased,
            Shown::Shares => products.shares,
        };
        Ok(vec![result.into(), key.into(), value.into(), shown.into()])
    }
}

/// Earlier tokens before new ones.
pub(crate) fn join<B: Engine>(past: Option<Real<B>>, new: Real<B>) -> Result<Real<B>> {
    match past {
        Some(past) => Real::join(vec![past, new], 2),
        None => Ok(new),
    }
}

/// A mask whose last axis may be shorter than there are keys; those after it are hidden.
fn widened<B: Engine>(mask: Real<B>, keys: usize) -> Result<Real<B>> {
    let last = mask.rank().saturating_sub(1);
    let mut shape = mask.shape();
    let width = shape.last().copied().unwrap_or(1);
    if width >= keys || width == 1 && keys > 1 && shape.len() < 2 {
        return Ok(mask);
    }
    shape[last] = keys - width;
    let count = shape.iter().product();
    let rest = Real::of(vec![f32::NEG_INFINITY; count], shape, &mask.device());
    Real::join(vec![mask, rest], last)
}

/// How ONNX spells attention.
pub(crate) const ONNX: &[(&str, Decode)] = &[("Attention", |node| {
    let heads = |name: &str| usize::try_from(node.int(name, 0)).ok().filter(|&count| count > 0);
    let shown = match node.int("qk_matmul_output_mode", 0) {
        0 => Shown::Plain,
        1 => Shown::Capped,
        2 => Shown::Biased,
        3 => Shown::Shares,
        other => return Err(Error::malformed(format!("`qk_matmul_output_mode` is {other}"))),
    };
    Ok(Attention {
        heads: heads("q_num_heads").zip(heads("kv_num_heads")).map(|(q, kv)| [q, kv]),
        scale: node.has("scale").then(|| node.float("scale", 1.0)),
        cap: Some(node.float("softcap", 0.0)).filter(|&cap| cap > 0.0),
        causal: node.int("is_causal", 0) != 0,
        shown,
    }
    .into())
})];
