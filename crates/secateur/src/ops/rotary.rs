//! Rotary embedding: pairs of features are turned by the position of their token.

use super::reshape::Reshape;
use super::{Fit, NewSizes, Operator, Place, Shapes, agree, ranked};
use crate::graph::{Extent, ValueId};
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};

/// Data `[b, t, heads, width]` (or `[b, heads, t, width]`), tables of cosines and sines `[rows, pairs]`
/// with positions `[b, t]`, or tables `[b, t, pairs]` without. Of each width the first `2·pairs`
/// features are turned.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// Whether heads stand before tokens.
    pub heads_first: bool,
    /// Whether the two features of a pair are neighbors; else they stand half of the turned ones
    /// apart.
    pub interleaved: bool,
    /// The literals that give the number of heads and of turned features.
    pub literals: [Option<ExprId>; 2],
}

impl Rotary {
    /// The factors of batch, tokens and pairs, and the axes of the data.
    fn data(&self, r: &mut Rule, shapes: &Shapes<'_>) -> Result<([FactorId; 3], Vec<Dim>)> {
        let (data, table) = (ranked(shapes, 0, 4)?, ranked(shapes, 1, 2)?);
        agree("axes of the data", data.len(), 4)?;
        let half = table[table.len() - 1];
        let pairs = half.size;
        let rest = pairs.checked_mul(2).and_then(|turned| data[3].size.checked_sub(turned));
        let rest = rest.ok_or_else(|| {
            Error::malformed(format!("{pairs} pairs in a width of {}", data[3].size))
        })?;
        let (heads, tokens) = if self.heads_first { (1, 2) } else { (2, 1) };
        let b = r.free("b", data[0]);
        let t = match table.len() == 3
            || shapes.get(3).copied().flatten().is_some_and(|ids| ids.len() == 2)
        {
            true => r.free("t", data[tokens]),
            false => r.fixed("t", data[tokens], "positions are counted along it"),
        };
        let h = r.free("h", data[heads]);
        let p = r.free("p", half);
        let mut width = match self.interleaved {
            true => vec![vec![p, r.fixed("2", Extent::fixed(2), "it is a pair")]],
            false => vec![vec![p], vec![p]],
        };
        if rest > 0 {
            width.push(vec![r.free("rest", Extent { size: rest, ..data[3] })]);
        }
        let mut dims: Vec<Dim> = vec![b.into(), t.into(), h.into(), Dim::segmented(width)];
        if self.heads_first {
            dims.swap(1, 2);
        }
        Ok(([b, t, p], dims))
    }
}

impl Operator for Rotary {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let mut r = Rule::new("rotary");
        let ([b, t, p], data) = self.data(&mut r, shapes)?;
        r.operand(Use::Data, data.clone());
        for slot in [1, 2] {
            let table = ranked(shapes, slot, 2)?;
            let dims = match table {
                [rows, _] => {
                    let name = if slot == 1 { "cos" } else { "sin" };
                    vec![r.fixed(name, *rows, "rows are picked by position").into(), p.into()]
                }
                _ => vec![b.into(), t.into(), p.into()],
            };
            r.operand(Use::Table, dims);
        }
        if let Some(positions) = shapes.get(3) {
            let positions = positions.unwrap_or_default();
            let dims = match positions {
                [batch, _] if batch.size == 1 && r.extent(&b.into()).size != 1 => {
                    vec![Dim::one(), t.into()]
                }
                [_, _] => vec![b.into(), t.into()],
                _ => positions.iter().map(|_| Dim::one()).collect(),
            };
            r.operand(Use::Data, dims);
        }
        r.result(data);
        r.flow = Flow::product([0], []);
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let names = ["num_heads", "rotary_embedding_dim"];
        let wanted = [sizes.named("h"), 2 * sizes.named("p")];
        let fit = |((literal, name), want): ((Option<ExprId>, &'static str), i64)| {
            Some(Fit::new(Place::Attribute(name), [literal?], vec![want]))
        };
        self.literals.into_iter().zip(names).zip(wanted).filter_map(fit).collect()
    }
}

/// How ONNX spells it (opset 23).
pub(crate) const ONNX: &[(&str, Decode)] = &[("RotaryEmbedding", |cx| {
    let inputs = [cx.input(1)?, cx.input(2)?];
    let positions = cx.optional(3)?;
    decode(cx, inputs, positions)
})];

/// How ONNX Runtime spells it.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[("RotaryEmbedding", |cx| {
    let inputs = [cx.input(2)?, cx.input(3)?];
    let positions = cx.optional(1)?;
    decode(cx, inputs, positions)
})];

fn decode(
    cx: &mut Decoder<'_, '_>,
    tables: [ValueId; 2],
    positions: Option<ValueId>,
) -> Result<()> {
    let [heads, turned] = ["num_heads", "rotary_embedding_dim"].map(|name| {
        let value = cx.int(name).filter(|&value| value != 0)?;
        Some((usize::try_from(value).ok()?, cx.literal(name, 0, value)))
    });
    let mut data = cx.input(0)?;
    let shape = cx.shape(data)?.to_vec();
    let flat = shape.len() == 3;
    if let [b, t, c] = shape[..] {
        let pairs = ranked(&[Some(cx.shape(tables[0])?)], 0, 2)?.last().map_or(0, |e| e.size);
        let count = match heads {
            Some((count, _)) => count,
            None => c.size / pairs.saturating_mul(2).max(1),
        };
        if count == 0 || c.size % count != 0 {
            return Err(Error::malformed(format!("{} features in {count} heads", c.size)));
        }
        let split = vec![b, t, Extent::fixed(count), Extent { size: c.size / count, ..c }];
        data = cx.emit(Reshape::implied(split), &[data])?;
    }
    let literals = [heads, turned].map(|number| number.map(|(_, literal)| literal));
    let op = Rotary {
        heads_first: !flat,
        interleaved: cx.int("interleaved").unwrap_or(0) != 0,
        literals,
    };
    let inputs: Vec<ValueId> = [data].into_iter().chain(tables).chain(positions).collect();
    let mut turned = cx.emit(op, &inputs)?;
    if flat {
        turned = cx.emit(Reshape::implied(shape), &[turned])?;
    }
    cx.bind(0, turned);
    Ok(())
}
