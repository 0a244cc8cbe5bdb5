//! Scaled dot-product attention as one operator.

mod aten;
mod contrib;

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Kind, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;
pub(crate) use contrib::CONTRIB;

/// The first operand that only guides attention: lengths, paddings, rotary tables.
const GUIDES: usize = 6;

/// Queries, keys, values (operands 0–2), a mask or bias of the scores (3), earlier keys and values
/// (4, 5) and what guides it (from 6 on). Queries, keys and values are `[b, heads, t, width]`, or
/// `[b, t, heads·width]` where the heads are given. It makes the mixed values, all keys, all values,
/// and scores.
#[derive(Clone, Debug)]
pub struct Attention {
    /// The heads of queries and of keys and values, for operands of three axes.
    pub heads: Option<[Heads; 2]>,
    /// Whether the scale is given; else it follows the head width.
    pub scaled: bool,
    /// Whether a query sees only the keys before it.
    pub causal: bool,
    /// What is known of the widths of a head.
    pub width: Width,
    /// Number of results.
    pub results: usize,
}

/// A number of heads, and the literal that says so.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The number.
    pub count: usize,
    /// The attribute.
    pub name: &'static str,
    /// The literal.
    pub literal: ExprId,
}

impl Heads {
    /// Reads an attribute.
    fn decode(cx: &mut Decoder<'_, '_>, name: &'static str) -> Self {
        let count = cx.int(name).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        Heads { count, name, literal: cx.literal(name, 0, 0) }
    }
}

/// The widths of a head of keys and of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// They differ.
    Separate,
    /// The source knows one for both.
    Shared,
    /// The source knows one for both, and turns pairs of it by the position.
    Turned,
}

/// Queries, keys or values.
struct Side {
    batch: Extent,
    heads: Extent,
    tokens: Extent,
    width: Extent,
}

/// The factors of a rule.
struct Factors {
    b: FactorId,
    kv: FactorId,
    rep: FactorId,
    t: FactorId,
    s: FactorId,
    past: Option<FactorId>,
    d: FactorId,
    e: FactorId,
}

impl Factors {
    /// The tokens of all keys, earlier ones first.
    fn keys(&self) -> Dim {
        Dim::sum(self.past.into_iter().chain([self.s]))
    }

    fn cache(&self, width: FactorId) -> Vec<Dim> {
        vec![self.b.into(), self.kv.into(), self.keys(), width.into()]
    }

    fn scores(&self) -> [Dim; 4] {
        [self.b.into(), Dim::product([self.kv, self.rep]), self.t.into(), self.keys()]
    }

    /// Queries, keys, values or the result in `rank` axes.
    fn spell(&self, rank: usize, heads: &[FactorId], t: FactorId, width: FactorId) -> Vec<Dim> {
        if rank == 3 {
            let merged: Vec<FactorId> = heads.iter().copied().chain([width]).collect();
            return vec![self.b.into(), t.into(), Dim::product(merged)];
        }
        vec![self.b.into(), Dim::product(heads), t.into(), width.into()]
    }
}

impl Attention {
    fn sides(&self, shapes: &Shapes<'_>) -> Result<[Side; 3]> {
        let side = |index: usize| {
            let heads = self.heads.map(|heads| heads[index.min(1)].count);
            match (ranked(shapes, index, 3)?, heads) {
                (&[batch, heads, tokens, width], _) => Ok(Side { batch, heads, tokens, width }),
                (&[batch, tokens, c], Some(heads)) if heads > 0 && c.size % heads == 0 => {
                    let width = Extent { size: c.size / heads, ..c };
                    Ok(Side { batch, heads: Extent::fixed(heads), tokens, width })
                }
                _ => Err(Error::malformed("operands are not divided into heads")),
            }
        };
        let sides = [side(0)?, side(1)?, side(2)?];
        let [q, k, v] = &sides;
        agree("widths of queries and keys", q.width.size, k.width.size)?;
        agree("heads of keys and values", k.heads.size, v.heads.size)?;
        if k.heads.size == 0 || q.heads.size % k.heads.size != 0 {
            let message = format!("{} heads over {} key heads", q.heads.size, k.heads.size);
            return Err(Error::malformed(message));
        }
        Ok(sides)
    }

    fn factors(&self, r: &mut Rule, [q, k, v]: [Side; 3], shapes: &Shapes<'_>) -> Result<Factors> {
        let b = match shapes.len() > GUIDES {
            true => r.fixed("b", q.batch, "attention is guided along it"),
            false => r.free("b", q.batch),
        };
        let kv = r.free("kv", k.heads);
        let rep = r.free("rep", Extent::fixed(q.heads.size / k.heads.size));
        let t = match self.causal {
            true => r.fixed("t", q.tokens, "a query sees only the keys before it"),
            false => r.free("t", q.tokens),
        };
        let reason = "softmax runs along it";
        let s = r.fixed("s", k.tokens, reason);
        let past = match shapes.get(4).copied().flatten() {
            None => None,
            Some(_) => Some(r.fixed("p", ranked(shapes, 4, 4)?[2], reason)),
        };
        let d = r.factor("d", q.width, self.width_kind(past.is_some()));
        let e = match self.width {
            Width::Separate => r.free("e", v.width),
            Width::Shared | Width::Turned => d,
        };
        Ok(Factors { b, kv, rep, t, s, past, d, e })
    }

    /// What cutting the width of queries and keys means. Where there are earlier keys, those of
    /// this step do not decide alone whether all are zero.
    fn width_kind(&self, past: bool) -> Kind {
        match self.width {
            Width::Turned => Kind::Fixed("pairs of it are turned by the position"),
            _ if past => Kind::Inner(&[0]),
            Width::Separate if self.results < 2 => Kind::Summed,
            _ => Kind::Inner(&[0, 1]),
        }
    }

    /// A result is zero where all values (and, where they are results, all keys) are.
    fn flow(&self, past: bool) -> Flow {
        match (self.results, past) {
            (0 | 1, false) => Flow::product([], [2]),
            (0 | 1, true) => Flow::product([], [2, 5]),
            (2 | 3, false) => Flow::product([], [1, 2]),
            (2 | 3, true) => Flow::product([], [1, 2, 4, 5]),
            _ => Flow::Break,
        }
    }
}

/// The axes of a mask that is broadcast to the scores.
fn mask(r: &Rule, shape: &[Extent], scores: &[Dim]) -> Result<Vec<Dim>> {
    let skip = scores.len().checked_sub(shape.len());
    let skip = skip.ok_or_else(|| Error::malformed("a mask of this rank"))?;
    let spell = |(extent, dim): (&Extent, &Dim)| match extent.size == r.extent(dim).size {
        true => dim.clone(),
        false => Dim::one(),
    };
    Ok(shape.iter().zip(&scores[skip..]).map(spell).collect())
}

impl Operator for Attention {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let sides = self.sides(shapes)?;
        let mut r = Rule::new("attention");
        let f = self.factors(&mut r, sides, shapes)?;
        let rank = |index: usize| shapes[index].map_or(0, <[Extent]>::len);
        let (query, key) = ([f.kv, f.rep], [f.kv]);
        r.operand(Use::Data, f.spell(rank(0), &query, f.t, f.d));
        r.operand(Use::Data, f.spell(rank(1), &key, f.s, f.d));
        r.operand(Use::Data, f.spell(rank(2), &key, f.s, f.e));
        for (slot, shape) in shapes.iter().enumerate().skip(3) {
            let dims = match (slot, shape) {
                (_, None) => Vec::new(),
                (3, Some(shape)) => mask(&r, shape, &f.scores())?,
                (4 | 5, Some(_)) => {
                    let past = f.past.ok_or_else(|| Error::malformed("values without keys"))?;
                    let width = if slot == 4 { f.d } else { f.e };
                    f.spell(4, &key, past, width)
                }
                (_, Some(shape)) => {
                    let axes = shape.iter().enumerate();
                    let reason = "attention is guided by it";
                    axes.map(|(i, &e)| r.fixed(format!("g{slot}{i}"), e, reason).into()).collect()
                }
            };
            r.operand(Use::Data, dims);
        }
        r.result(f.spell(rank(0), &query, f.t, f.e));
        if self.results > 1 {
            r.result(f.cache(f.d));
            r.result(f.cache(f.e));
        }
        if self.results > 3 {
            r.result(f.scores().to_vec());
        }
        for tokens in f.past.into_iter().chain([f.s]) {
            let scores = [f.b, f.kv, f.rep, f.t, tokens];
            r.macs.extend([f.d, f.e].map(|width| [&scores[..], &[width]].concat()));
        }
        r.flow = self.flow(f.past.is_some());
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let Some([query, key]) = self.heads else { return Vec::new() };
        let (kv, rep) = (sizes.named("kv"), sizes.named("rep"));
        let fit = |heads: Heads, count| {
            Fit::new(Place::Attribute(heads.name), [heads.literal], vec![count])
        };
        vec![fit(query, kv * rep), fit(key, kv)]
    }

    fn held(&self, sizes: &NewSizes<'_>) -> Option<(&'static str, f64)> {
        let width = sizes.rule.factors.iter().find(|factor| factor.name == "d")?.extent.size;
        let changed = !self.scaled && sizes.named("d") != width as i64;
        changed.then(|| ("scale", 1.0 / (width as f64).sqrt()))
    }
}

/// How ONNX spells it (opset 23).
pub(crate) const ONNX: &[(&str, Decode)] = &[("Attention", decode)];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if cx.has(6) {
        return Err(Error::unsupported("lengths of padded keys"));
    }
    let heads = match cx.input_shape(0)?.len() {
        3 => Some(["q_num_heads", "kv_num_heads"].map(|name| Heads::decode(cx, name))),
        _ => None,
    };
    let op = Attention {
        heads,
        scaled: cx.float("scale").is_some(),
        causal: cx.int("is_causal").unwrap_or(0) != 0,
        width: Width::Separate,
        results: cx.result_slots(),
    };
    cx.node(op)
}
