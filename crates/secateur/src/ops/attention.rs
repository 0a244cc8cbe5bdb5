//! Scaled dot-product attention as one operator.

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Kind, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};

/// Queries, keys, values (operands 0–2) and a mask: `[b, heads, t, width]`, or `[b, t, heads·width]`
/// where the heads are given.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Number of query heads and of key/value heads, with the literals that say so, for operands of
    /// three axes.
    pub heads: Option<[(usize, ExprId); 2]>,
    /// Whether the scale is given; else it follows the head width.
    pub scaled: bool,
}

impl Operator for Attention {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let [q, k, v] = [ranked(shapes, 0, 3)?, ranked(shapes, 1, 3)?, ranked(shapes, 2, 3)?];
        let split = |shape: &[Extent], heads: usize| -> Result<[Extent; 4]> {
            match (self.heads, shape) {
                (None, &[b, h, t, d]) => Ok([b, h, t, d]),
                (Some(_), &[b, t, c]) if heads > 0 && c.size % heads == 0 => {
                    Ok([b, Extent::fixed(heads), t, Extent::fixed(c.size / heads)])
                }
                _ => Err(Error::malformed("operands are not divided into heads")),
            }
        };
        let [q_heads, kv_heads] = self.heads.map_or([0, 0], |heads| heads.map(|(n, _)| n));
        let [b, heads, t, width] = split(q, q_heads)?;
        let [_, kv, s, key_width] = split(k, kv_heads)?;
        let [_, value_heads, _, value_width] = split(v, kv_heads)?;
        agree("widths of queries and keys", width.size, key_width.size)?;
        agree("heads of keys and values", kv.size, value_heads.size)?;
        if kv.size == 0 || heads.size % kv.size != 0 {
            let message = format!("{} heads over {} key heads", heads.size, kv.size);
            return Err(Error::malformed(message));
        }
        let mut r = Rule::new("attention");
        let scale = Kind::Coupled("its size sets the scale");
        let b = r.free("b", b);
        let g = r.free("kv", kv);
        let p = r.free("rep", Extent::fixed(heads.size / kv.size));
        let t = r.free("t", t);
        let s = r.fixed("s", s, "softmax runs along it");
        let d = r.factor("d", width, if self.scaled { Kind::Summed } else { scale });
        let e = r.free("e", value_width);
        let spell = |heads: &[FactorId], tokens: FactorId, width: FactorId| -> Vec<Dim> {
            let heads = heads.to_vec();
            match self.heads {
                None => vec![b.into(), Dim::product(heads), tokens.into(), width.into()],
                Some(_) => {
                    let merged = heads.into_iter().chain([width]).collect::<Vec<_>>();
                    vec![b.into(), tokens.into(), Dim::product(merged)]
                }
            }
        };
        r.operand(Use::Data, spell(&[g, p], t, d));
        r.operand(Use::Data, spell(&[g], s, d));
        r.operand(Use::Data, spell(&[g], s, e));
        if shapes.len() > 3 {
            let mask = shapes[3].unwrap_or_default();
            let full = [b.into(), Dim::product([g, p]), t.into(), s.into()];
            let skip = full.len().checked_sub(mask.len());
            let skip = skip.ok_or_else(|| Error::malformed("a mask of this rank"))?;
            let axes = mask.iter().zip(&full[skip..]);
            let dims =
                axes.map(
                    |(extent, dim): (&Extent, &Dim)| {
                        if extent.size == r.extent(dim).size { dim.clone() } else { Dim::one() }
                    },
                );
            let dims = dims.collect();
            r.operand(Use::Data, dims);
        }
        r.result(spell(&[g, p], t, e));
        r.macs = vec![vec![b, g, p, t, s, d], vec![b, g, p, t, s, e]];
        r.flow = Flow::product([2], []);
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let Some([(_, query), (_, key)]) = self.heads else { return Vec::new() };
        let of = |operand: usize, count: usize| -> i64 {
            let factors = &sizes.rule.operands[operand].dims[2].0[0];
            factors[..count].iter().map(|&factor| sizes.factor(factor)).product()
        };
        vec![
            Fit::new(Place::Attribute("q_num_heads"), [query], vec![of(0, 2)]),
            Fit::new(Place::Attribute("kv_num_heads"), [key], vec![of(1, 1)]),
        ]
    }
}

/// How ONNX spells it (opset 23).
pub(crate) const ONNX: &[(&str, Decode)] = &[("Attention", decode)];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if (4..7).any(|slot| cx.has(slot)) || cx.output_count() > 1 {
        return Err(Error::unsupported("attention with a cache"));
    }
    let rank = cx.input_shape(0)?.len();
    let heads = match rank {
        3 => {
            let count = |name| cx.int(name).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            let (query, key) = (count("q_num_heads"), count("kv_num_heads"));
            let query = (query, cx.literal("q_num_heads", 0, query as i64));
            Some([query, (key, cx.literal("kv_num_heads", 0, key as i64))])
        }
        _ => None,
    };
    let scaled = cx.float("scale").is_some();
    cx.node(Attention { heads, scaled })
}
