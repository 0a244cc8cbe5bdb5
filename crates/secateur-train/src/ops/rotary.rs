//! Rotary embedding: pairs of features are turned by the position of their token (Su et al., 2021).

use super::attention::{merge_heads, split_heads};
use super::{Decode, Inputs, Operator};
use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// How features are turned.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Whether the two features of a pair are neighbors; else they stand half of the turned ones
    /// apart.
    pub interleaved: bool,
    /// How many features are turned; 0 for all.
    pub width: usize,
}

/// Data `[n, t, h·d]` or `[n, h, t, d]`, tables of cosines and sines, and positions.
#[derive(Clone, Copy, Debug)]
pub struct Rotary {
    /// How features are turned.
    pub turn: Turn,
    /// The number of heads of data with three axes; 0 for what the tables give.
    pub heads: usize,
    /// The operands that hold both tables and the positions.
    pub slots: [usize; 3],
}

impl Operator for Rotary {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.real(0)?;
        let [cos, sin, places] = self.slots;
        let tables = [inputs.real(cos)?, inputs.real(sin)?];
        let flat = x.rank() == 3;
        if flat {
            let heads = match self.heads {
                0 => x.size(2) / (2 * tables[0].size(tables[0].rank() - 1)).max(1),
                heads => heads,
            };
            x = split_heads(x, heads)?;
        }
        let tables = match inputs.optional(places) {
            None => tables,
            Some(places) => picked(tables, places, [x.size(0), x.size(2)])?,
        };
        let x = self.turn.apply(x, tables)?;
        Ok(vec![if flat { merge_heads(x) } else { x }.into()])
    }
}

/// The tables' rows for every token; one position alone is that of the first token.
fn picked<B: Engine>(
    tables: [Real<B>; 2],
    places: Value<B>,
    [n, t]: [usize; 2],
) -> Result<[Real<B>; 2]> {
    let mut places = places.to_ints()?;
    if let [first] = places[..]
        && (n, t) != (1, 1)
    {
        places = (0..n).flat_map(|_| first..first + t as i64).collect();
    }
    if places.len() == t && n > 1 {
        places = places.repeat(n);
    }
    let rows = tables[0].size(0) as i64;
    if places.len() != n * t || places.iter().any(|&place| !(0..rows).contains(&place)) {
        return Err(Error::malformed(format!("positions of {n} × {t} tokens in {rows} rows")));
    }
    let [cos, sin] = tables;
    let pick = |table: Real<B>| {
        let width = table.size(1);
        Ok::<_, Error>(table.rows(0, places.clone())?.reshape([n, t, width]))
    };
    Ok([pick(cos)?, pick(sin)?])
}

/// Positions counted up from each batch's first one.
pub(crate) fn counted<B: Engine>(
    tables: [Real<B>; 2],
    firsts: &[i64],
    t: usize,
) -> Result<[Real<B>; 2]> {
    let places: Vec<i64> = firsts.iter().flat_map(|&first| first..first + t as i64).collect();
    let device = tables[0].device();
    picked(tables, Value::of_ints(places, vec![firsts.len(), t], &device), [firsts.len(), t])
}

impl Turn {
    /// Turns data `[n, h, t, d]` by tables `[n, t, pairs]`.
    pub(crate) fn apply<B: Engine>(self, x: Real<B>, tables: [Real<B>; 2]) -> Result<Real<B>> {
        let [n, h, t, d] = [x.size(0), x.size(1), x.size(2), x.size(3)];
        let pairs = tables[0].size(tables[0].rank() - 1);
        let width = if self.width == 0 { 2 * pairs } else { self.width };
        if width != 2 * pairs || width > d {
            return Err(Error::malformed(format!("{pairs} pairs turned in a width of {d}")));
        }
        let rest = x.clone().part(3, width, d);
        let turned = x.part(3, 0, width);
        let lift = |table: Real<B>| {
            let [n, t] = [table.size(0), table.size(1)];
            table.reshape([n, 1, t, pairs])
        };
        let [cos, sin] = tables.map(lift);
        let [a, b] = match self.interleaved {
            false => turned.parts(3),
            true => {
                let apart = turned.reshape([n, h, t, pairs, 2]);
                [apart.clone().at(4, 0), apart.at(4, 1)]
            }
        };
        let left = a.clone() * cos.clone() - b.clone() * sin.clone();
        let right = a * sin + b * cos;
        let turned = match self.interleaved {
            false => Real::join(vec![left, right], 3)?,
            true => Real::stack(vec![left, right], 4)?.reshape([n, h, t, width]),
        };
        if width == d { Ok(turned) } else { Real::join(vec![turned, rest], 3) }
    }
}

/// How ONNX spells it.
pub(crate) const ONNX: &[(&str, Decode)] =
    &[("RotaryEmbedding", |node| Ok(decode(node, [1, 2, 3]).into()))];

/// How ONNX Runtime spells it.
pub(crate) const CONTRIB: &[(&str, Decode)] =
    &[("RotaryEmbedding", |node| Ok(decode(node, [2, 3, 1]).into()))];

fn decode(node: &Node<'_>, slots: [usize; 3]) -> Rotary {
    let count = |name: &str| usize::try_from(node.int(name, 0)).unwrap_or(0);
    let width = count("rotary_embedding_dim");
    let turn = Turn { interleaved: node.int("interleaved", 0) != 0, width };
    Rotary { turn, heads: count("num_heads"), slots }
}
