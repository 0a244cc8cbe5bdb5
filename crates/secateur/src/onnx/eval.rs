//! Evaluates shape subgraphs element by element, as expressions over dimensions and literals.

use std::sync::Arc;

use super::proto::NodeProto;
use crate::DType;
use crate::graph::{Graph, Open, ValueId};
use crate::size::{Binary, Expr, ExprId, Scalar, Unary};

/// A small tensor of which every element is an expression.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) dims: Vec<usize>,
    pub(super) exprs: Vec<ExprId>,
    pub(super) dtype: DType,
    /// What may become of its own shape; counted shapes are not evaluated.
    pub(super) open: Open,
}

impl Known {
    fn vector(exprs: Vec<ExprId>) -> Self {
        Known { dims: vec![exprs.len()], exprs, dtype: DType::I64, open: Open::Stated }
    }
}

/// `Shape` and `Size` of a value.
pub(super) fn shape_of(graph: &mut Graph, value: ValueId, node: &NodeProto) -> Option<Known> {
    let rank = graph.value(value).shape.as_ref()?.len();
    let dims = (0..rank).map(|axis| graph.sizes.add(Expr::Dim(value, axis as u32))).collect();
    Some(shape_from(graph, dims, node))
}

/// `Shape` and `Size` of a tensor that is evaluated itself.
pub(super) fn shape_of_known(graph: &mut Graph, known: &Known, node: &NodeProto) -> Known {
    let dims = known.dims.iter().map(|&size| graph.sizes.int(size as i64)).collect();
    shape_from(graph, dims, node)
}

fn shape_from(graph: &mut Graph, mut dims: Vec<ExprId>, node: &NodeProto) -> Known {
    if node.op_type == "Size" {
        let one = graph.sizes.int(1);
        let product = |a, b| graph.sizes.add(Expr::Binary(Binary::Mul, a, b));
        let size = dims.into_iter().fold(one, product);
        return Known {
            dims: Vec::new(),
            exprs: vec![size],
            dtype: DType::I64,
            open: Open::Stated,
        };
    }
    let rank = dims.len() as i64;
    let clamp = |value: i64| {
        let value = if value < 0 { value + rank } else { value };
        value.clamp(0, rank) as usize
    };
    let start = clamp(int(node, "start").unwrap_or(0));
    let end = clamp(int(node, "end").unwrap_or(rank));
    let kept = if start < end { dims.drain(start..end).collect() } else { Vec::new() };
    Known::vector(kept)
}

/// The numbers that a node makes.
pub(super) struct Evaluated {
    pub(super) known: Known,
    /// Whether they may be weights: numbers of a type that holds no sizes, in which sizes have no
    /// part. Their node stays one.
    pub(super) may_be_weights: bool,
}

/// The result of a standard node whose inputs are all known; `None` for one that is not evaluated.
pub(super) fn evaluate(
    graph: &mut Graph,
    node: &NodeProto,
    inputs: &[Option<Arc<Known>>],
) -> Option<Evaluated> {
    let mut evaluator = Evaluator { graph, node, inputs, frozen: Vec::new() };
    let known = evaluator.evaluate()?;
    let may_be_weights = evaluator.may_be_weights(&known);
    if may_be_weights && is_shaped(&node.op_type) {
        return None;
    }
    let frozen = evaluator.frozen;
    graph.frozen.extend(frozen);
    Some(Evaluated { known, may_be_weights })
}

/// The parts of sizes that are split; `None` where that is not evaluated.
pub(super) fn split(
    graph: &mut Graph,
    node: &NodeProto,
    inputs: &[Option<Arc<Known>>],
) -> Option<Vec<Known>> {
    let mut evaluator = Evaluator { graph, node, inputs, frozen: Vec::new() };
    let parts = evaluator.split()?;
    let frozen = evaluator.frozen;
    graph.frozen.extend(frozen);
    Some(parts)
}

/// Whether an operator gives its result a shape that is spelled, or adds its numbers up: as weights,
/// they are followed where they stand.
fn is_shaped(kind: &str) -> bool {
    matches!(kind, "Expand" | "ConstantOfShape" | "Range" | "Reshape") || kind.starts_with("Reduce")
}

struct Evaluator<'e> {
    graph: &'e mut Graph,
    node: &'e NodeProto,
    inputs: &'e [Option<Arc<Known>>],
    /// What must keep its value for the result to hold.
    frozen: Vec<ExprId>,
}

impl Evaluator<'_> {
    fn evaluate(&mut self) -> Option<Known> {
        let mut known = self.run()?;
        count(&known.dims)?;
        let sizes = &self.graph.sizes;
        if known.exprs.iter().any(|&e| sizes.is_too_large(e)) || sizes.are_too_many(&known.exprs) {
            return None;
        }
        let decided = self.graph.open(self.frozen.iter().copied());
        let inputs = self.inputs.iter().flatten().map(|input| input.open);
        known.open = inputs.fold(self.shape_open(), Open::max);
        (decided.max(known.open) != Open::Counted).then_some(known)
    }

    fn may_be_weights(&self, known: &Known) -> bool {
        let mut sized = false;
        for &expr in &known.exprs {
            self.graph.sizes.leaves(expr, &mut |leaf| sized |= matches!(leaf, Expr::Dim(..)));
        }
        !(sized || known.dtype.holds_sizes() || known.dims.is_empty())
    }

    /// What may become of the shape of a tensor that is made of a computed size.
    fn shape_open(&self) -> Open {
        let makes = matches!(
            self.node.op_type.as_str(),
            "Range" | "ConstantOfShape" | "Expand" | "NonZero"
        );
        let exprs = self.inputs.iter().flatten().flat_map(|input| &input.exprs);
        if makes { self.graph.open(exprs.copied()) } else { Open::Stated }
    }

    fn run(&mut self) -> Option<Known> {
        if let Some(op) = unary(&self.node.op_type) {
            return self.map(op);
        }
        if let Some(op) = binary(&self.node.op_type) {
            return self.fold(op);
        }
        match self.node.op_type.as_str() {
            "Identity" => self.input(0).cloned(),
            "Cast" => self.cast(),
            "Clip" => self.clip(),
            "Gather" => self.gather(),
            "Concat" => self.concat(),
            "Slice" => self.slice(),
            "Transpose" => self.transpose(),
            "Squeeze" => self.squeeze(),
            "Unsqueeze" => self.unsqueeze(),
            "Reshape" => self.reshape(),
            "Range" => self.range(),
            "ConstantOfShape" => self.constant_of_shape(),
            "Expand" => self.expand(),
            "OneHot" => self.one_hot(),
            "NonZero" => self.non_zero(),
            "Where" => self.select(),
            "ReduceProd" => self.reduce(Binary::Mul),
            "ReduceSum" => self.reduce(Binary::Add),
            "ReduceMax" => self.reduce(Binary::Max),
            "ReduceMin" => self.reduce(Binary::Min),
            _ => None,
        }
    }

    fn input(&self, slot: usize) -> Option<&Known> {
        self.inputs.get(slot)?.as_deref()
    }

    /// The present values of an input that decides on positions; its literals are then frozen.
    fn ints(&mut self, slot: usize) -> Option<Vec<i64>> {
        let exprs = self.input(slot)?.exprs.clone();
        let values = exprs.iter().map(|&expr| self.graph.scalar(expr)?.int()).collect();
        self.frozen.extend(exprs);
        values
    }

    /// Axes named by an attribute or an input.
    fn axes(&mut self, slot: usize, rank: usize) -> Option<Vec<usize>> {
        let axes = match ints(self.node, "axes") {
            Some(axes) => axes,
            None => self.ints(slot)?,
        };
        axes.into_iter().map(|axis| crate::ops::axis(axis, rank).ok()).collect()
    }

    fn map(&mut self, op: Unary) -> Option<Known> {
        let known = self.input(0)?.clone();
        // Floor, ceil and round of an integer are it; as floats they would lose the literal.
        let dtype = if op == Unary::Not { DType::Bool } else { known.dtype };
        let exprs = known.exprs.iter().map(|&e| self.graph.sizes.add(Expr::Unary(op, e))).collect();
        Some(Known { exprs, dtype, ..known })
    }

    fn cast(&mut self) -> Option<Known> {
        let to = super::proto::dtype(i32::try_from(int(self.node, "to")?).ok()?)?;
        let from = self.input(0)?.clone();
        let op = match to {
            DType::Bool => Unary::ToBool,
            to if to.is_int() => Unary::ToInt,
            to if to.is_float() => Unary::ToFloat,
            _ => return None,
        };
        let same = from.dtype.is_int() && to.is_int();
        let cast = |&expr: &ExprId| match same {
            true => expr,
            false => self.graph.sizes.add(Expr::Unary(op, expr)),
        };
        let exprs = from.exprs.iter().map(cast).collect();
        Some(Known { exprs, dtype: to, ..from })
    }

    /// A function of two inputs or, where it takes more, of all of them one after the other.
    fn fold(&mut self, op: Binary) -> Option<Known> {
        if int(self.node, "fmod").unwrap_or(0) != 0 {
            return None;
        }
        let mut inputs = self.inputs.iter();
        let first = inputs.next()?.as_ref()?;
        inputs.try_fold(Known::clone(first), |all, next| self.zip(op, &all, next.as_ref()?))
    }

    /// Bounds that are inputs, or attributes before opset 11.
    fn clip(&mut self) -> Option<Known> {
        let mut known = self.input(0)?.clone();
        for (slot, name, op) in [(1, "min", Binary::Max), (2, "max", Binary::Min)] {
            let attribute = self.node.attribute.iter().find(|attribute| attribute.name == name);
            let bound = match (self.input(slot), attribute) {
                (Some(bound), _) => bound.clone(),
                (None, Some(attribute)) => {
                    let number = Scalar::Float(f64::from(attribute.f?));
                    let exprs = vec![self.graph.sizes.add(Expr::Number(number, None))];
                    Known { dims: Vec::new(), exprs, dtype: known.dtype, open: Open::Stated }
                }
                (None, None) => continue,
            };
            known = self.zip(op, &known, &bound)?;
        }
        Some(known)
    }

    fn zip(&mut self, op: Binary, a: &Known, b: &Known) -> Option<Known> {
        let dims = broadcast(&a.dims, &b.dims)?;
        let compares = !matches!(
            op,
            Binary::Add
                | Binary::Sub
                | Binary::Mul
                | Binary::Div
                | Binary::Mod
                | Binary::Min
                | Binary::Max
                | Binary::Pow
        );
        let dtype = if compares { DType::Bool } else { a.dtype };
        let count = count(&dims)?;
        let mut exprs = Vec::with_capacity(count);
        for index in 0..count {
            let (a, b) = (a.at(&dims, index)?, b.at(&dims, index)?);
            exprs.push(self.graph.sizes.add(Expr::Binary(op, a, b)));
        }
        Some(Known { dims, exprs, dtype, open: Open::Stated })
    }

    fn select(&mut self) -> Option<Known> {
        let [c, a, b] = [0, 1, 2].map(|slot| self.input(slot).cloned());
        let (c, a, b) = (c?, a?, b?);
        let dims = broadcast(&broadcast(&c.dims, &a.dims)?, &b.dims)?;
        let count = count(&dims)?;
        let mut exprs = Vec::with_capacity(count);
        for index in 0..count {
            let parts = (c.at(&dims, index)?, a.at(&dims, index)?, b.at(&dims, index)?);
            exprs.push(self.graph.sizes.add(Expr::Select(parts.0, parts.1, parts.2)));
        }
        Some(Known { dims, exprs, dtype: a.dtype, open: Open::Stated })
    }

    fn gather(&mut self) -> Option<Known> {
        let data = self.input(0)?.clone();
        let indices = self.ints(1)?;
        let shape = self.input(1)?.dims.clone();
        if data.dims.len() != 1 || int(self.node, "axis").unwrap_or(0) > 0 {
            return None;
        }
        let size = data.exprs.len() as i64;
        let pick = |index: i64| {
            let index = if index < 0 { index + size } else { index };
            data.exprs.get(usize::try_from(index).ok()?).copied()
        };
        let exprs = indices.into_iter().map(pick).collect::<Option<_>>()?;
        Some(Known { dims: shape, exprs, dtype: data.dtype, open: Open::Stated })
    }

    fn concat(&mut self) -> Option<Known> {
        let parts: Option<Vec<&Known>> = self.inputs.iter().map(Option::as_deref).collect();
        let parts = parts?;
        let first = parts.first()?;
        let mut dims = first.dims.clone();
        let along = crate::ops::axis(int(self.node, "axis").unwrap_or(0), dims.len()).ok()?;
        let fits = |part: &&Known| {
            let others = |dims: &[usize]| [&dims[..along], &dims[along + 1..]].concat();
            part.dims.len() == dims.len() && others(&part.dims) == others(&dims)
        };
        if !parts.iter().all(fits) {
            return None;
        }
        dims[along] = parts.iter().map(|part| part.dims[along]).sum();
        let rows: usize = dims[..along].iter().product();
        let mut exprs = Vec::new();
        for row in 0..rows {
            for part in &parts {
                let length = part.exprs.len() / rows;
                exprs.extend(&part.exprs[row * length..][..length]);
            }
        }
        Some(Known { dims, dtype: first.dtype, ..Known::vector(exprs) })
    }

    fn split(&mut self) -> Option<Vec<Known>> {
        let data = self.input(0).filter(|data| data.dtype.holds_sizes())?.clone();
        let along = crate::ops::axis(int(self.node, "axis").unwrap_or(0), data.dims.len()).ok()?;
        let (size, count) = (data.dims[along], self.node.output.len());
        if count == 0 {
            return None;
        }
        let lengths: Vec<usize> = match ints(self.node, "split").or_else(|| self.ints(1)) {
            Some(lengths) => {
                lengths.into_iter().map(usize::try_from).collect::<Result<_, _>>().ok()?
            }
            None => {
                let length = size.div_ceil(count);
                (0..count).map(|part| size.saturating_sub(part * length).min(length)).collect()
            }
        };
        if lengths.len() != count
            || lengths.iter().try_fold(0usize, |a, &b| a.checked_add(b))? != size
        {
            return None;
        }
        let inner: usize = data.dims[along + 1..].iter().product();
        let mut start = 0;
        let part = |length: usize| {
            let rows = data.exprs.chunks((size * inner).max(1));
            let cut = start * inner..(start + length) * inner;
            start += length;
            let mut part = data.clone();
            part.dims[along] = length;
            part.exprs = rows.flat_map(|row| &row[cut.clone()]).copied().collect();
            part
        };
        Some(lengths.into_iter().map(part).collect())
    }

    fn slice(&mut self) -> Option<Known> {
        let data = self.input(0)?.clone();
        let rank = data.dims.len();
        let spelled = ints(self.node, "starts").zip(ints(self.node, "ends"));
        let (starts, ends, axes, steps) = match spelled {
            Some((starts, ends)) => (starts, ends, ints(self.node, "axes"), None),
            None => {
                let (starts, ends) = (self.ints(1)?, self.ints(2)?);
                let axes = if self.input(3).is_some() { Some(self.ints(3)?) } else { None };
                let steps = if self.input(4).is_some() { Some(self.ints(4)?) } else { None };
                (starts, ends, axes, steps)
            }
        };
        let mut picked: Vec<Vec<usize>> =
            data.dims.iter().map(|&size| (0..size).collect()).collect();
        for (i, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
            let axis = axes.as_ref().map_or(Some(i as i64), |axes| axes.get(i).copied())?;
            let axis = crate::ops::axis(axis, rank).ok()?;
            let step = steps.as_ref().map_or(Some(1), |steps| steps.get(i).copied())?;
            picked[axis] = positions(data.dims[axis], start, end, step)?;
        }
        data.pick(&picked, &(0..rank).collect::<Vec<_>>())
    }

    fn transpose(&mut self) -> Option<Known> {
        let data = self.input(0)?.clone();
        let rank = data.dims.len();
        let order: Vec<usize> = match ints(self.node, "perm") {
            None => (0..rank).rev().collect(),
            Some(perm) => perm.iter().map(|&a| usize::try_from(a).ok()).collect::<Option<_>>()?,
        };
        let all: Vec<Vec<usize>> = data.dims.iter().map(|&size| (0..size).collect()).collect();
        data.pick(&all, &order)
    }

    fn squeeze(&mut self) -> Option<Known> {
        let data = self.input(0)?.clone();
        let rank = data.dims.len();
        let named = self.input(1).is_some() || ints(self.node, "axes").is_some();
        let axes = match named {
            true => self.axes(1, rank)?,
            false => (0..rank).filter(|&axis| data.dims[axis] == 1).collect(),
        };
        let kept = data.dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
        Some(Known { dims: kept.map(|(_, &size)| size).collect(), ..data })
    }

    fn unsqueeze(&mut self) -> Option<Known> {
        let data = self.input(0)?.clone();
        let count = ints(self.node, "axes")
            .map_or_else(|| self.input(1).map(|k| k.exprs.len()), |a| Some(a.len()))?;
        let rank = data.dims.len() + count;
        let axes = self.axes(1, rank)?;
        let mut rest = data.dims.iter().copied();
        let dims = (0..rank)
            .map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next() })
            .collect::<Option<_>>()?;
        Some(Known { dims, ..data })
    }

    fn reshape(&mut self) -> Option<Known> {
        let data = self.input(0)?.clone();
        let target = self.ints(1)?;
        let total = data.exprs.len();
        let sizes = target.iter().filter(|&&size| size != -1);
        let fixed = sizes.fold(1, |fixed: i64, &size| fixed.saturating_mul(size));
        let size = |&size: &i64| match size {
            -1 if fixed > 0 => Some(total / fixed as usize),
            size => usize::try_from(size).ok(),
        };
        let dims: Vec<usize> = target.iter().map(size).collect::<Option<_>>()?;
        (count(&dims)? == total).then_some(Known { dims, ..data })
    }

    fn range(&mut self) -> Option<Known> {
        let dtype = self.input(0)?.dtype;
        let bound = |slot| match self.input(slot)?.exprs[..] {
            [expr] => self.graph.scalar(expr)?.int(),
            _ => None,
        };
        let (start, limit, step) = (bound(0)?, bound(1)?, bound(2)?);
        for slot in 0..3 {
            self.ints(slot)?;
        }
        let length = limit.checked_sub(start)?.checked_div(step)?.clamp(0, 1 << 20);
        let length = length + i64::from((limit - start) % step != 0 && length >= 0);
        if length > super::import::MAX_KNOWN_INTS as i64 {
            return None;
        }
        let exprs = (0..length).map(|i| self.graph.sizes.int(start + i * step)).collect();
        Some(Known { dtype, ..Known::vector(exprs) })
    }

    fn constant_of_shape(&mut self) -> Option<Known> {
        let attribute = self.node.attribute.iter().find(|attribute| attribute.name == "value")?;
        let tensor = attribute.t.as_ref()?;
        let dtype = super::proto::dtype(tensor.data_type)?;
        let raw = tensor.raw_data.as_deref().filter(|raw| !raw.is_empty());
        let value = match (dtype, raw) {
            (DType::I64, Some(raw)) => i64::from_le_bytes(raw.try_into().ok()?),
            (DType::I64, None) => *tensor.int64_data.first()?,
            (DType::I32, Some(raw)) => i64::from(i32::from_le_bytes(raw.try_into().ok()?)),
            (DType::Bool, Some(raw)) => i64::from(*raw.first()?),
            (DType::I32 | DType::Bool, None) => i64::from(*tensor.int32_data.first()?),
            _ => return None,
        };
        let dims = self.target(0)?;
        let exprs = (0..count(&dims)?).map(|_| self.graph.sizes.int(value)).collect();
        Some(Known { dims, exprs, dtype, open: Open::Stated })
    }

    fn expand(&mut self) -> Option<Known> {
        let data = self.input(0)?.clone();
        let target = self.target(1)?;
        let dims = broadcast(&data.dims, &target)?;
        let exprs = (0..count(&dims)?).map(|i| data.at(&dims, i)).collect::<Option<_>>()?;
        Some(Known { dims, exprs, dtype: data.dtype, open: Open::Stated })
    }

    /// A vector of repeats or of picks: of one index, over a new last axis.
    fn one_hot(&mut self) -> Option<Known> {
        let (index, depth) = (self.ints(0)?, self.ints(1)?);
        let values = self.input(2)?.clone();
        let ([index], [depth], [off, on]) = (&index[..], &depth[..], &values.exprs[..]) else {
            return None;
        };
        let depth = usize::try_from(*depth).ok().and_then(|depth| count(&[depth]))?;
        let index = crate::ops::axis(*index, depth).ok()?;
        let exprs = (0..depth).map(|at| if at == index { *on } else { *off }).collect();
        let mut dims = self.input(0)?.dims.clone();
        if !matches!(int(self.node, "axis"), None | Some(-1)) {
            return None;
        }
        dims.push(depth);
        Some(Known { dims, exprs, dtype: values.dtype, open: Open::Stated })
    }

    /// The positions in a vector at which something is not zero.
    fn non_zero(&mut self) -> Option<Known> {
        let values = self.ints(0)?;
        if self.input(0)?.dims.len() != 1 {
            return None;
        }
        let places = (0..).zip(values).filter(|&(_, value)| value != 0);
        let exprs: Vec<ExprId> = places.map(|(place, _)| self.graph.sizes.int(place)).collect();
        Some(Known { dims: vec![1, exprs.len()], ..Known::vector(exprs) })
    }

    /// A shape of at most as many elements as are evaluated.
    fn target(&mut self, slot: usize) -> Option<Vec<usize>> {
        let exprs = self.input(slot)?.exprs.clone();
        let size = |&expr: &ExprId| usize::try_from(self.graph.scalar(expr)?.int()?).ok();
        let dims: Vec<usize> = exprs.iter().map(size).collect::<Option<_>>()?;
        count(&dims)?;
        self.frozen.extend(exprs);
        Some(dims)
    }

    fn reduce(&mut self, op: Binary) -> Option<Known> {
        let data = self.input(0)?.clone();
        if data.dims.len() > 1 {
            return None;
        }
        let keep = int(self.node, "keepdims").unwrap_or(1) != 0;
        let mut exprs = data.exprs.into_iter();
        let first = exprs.next()?;
        let total = exprs.fold(first, |a, b| self.graph.sizes.add(Expr::Binary(op, a, b)));
        let dims = if keep { vec![1; data.dims.len()] } else { Vec::new() };
        Some(Known { dims, exprs: vec![total], dtype: data.dtype, open: Open::Stated })
    }
}

impl Known {
    /// The elements at `picked` positions of every axis, with axes in another order.
    fn pick(&self, picked: &[Vec<usize>], order: &[usize]) -> Option<Known> {
        let dims: Vec<usize> =
            order.iter().map(|&axis| Some(picked.get(axis)?.len())).collect::<Option<_>>()?;
        if order.len() != self.dims.len() {
            return None;
        }
        let mut exprs = Vec::new();
        for index in 0..count(&dims)? {
            let mut rest = index;
            let mut place = vec![0; order.len()];
            for (&axis, &size) in order.iter().zip(&dims).rev() {
                place[axis] = picked[axis][rest % size];
                rest /= size;
            }
            let flat = place.iter().zip(&self.dims).fold(0, |flat, (at, size)| flat * size + at);
            exprs.push(*self.exprs.get(flat)?);
        }
        Some(Known { dims, exprs, dtype: self.dtype, open: self.open })
    }

    /// The element that stands at flat position `index` once broadcast to `dims`.
    fn at(&self, dims: &[usize], index: usize) -> Option<ExprId> {
        let (mut rest, mut flat, mut stride) = (index, 0, 1);
        let skip = dims.len().checked_sub(self.dims.len())?;
        for axis in (0..dims.len()).rev() {
            let position = rest % dims[axis];
            rest /= dims[axis];
            if axis >= skip {
                let size = self.dims[axis - skip];
                flat += if size == 1 { 0 } else { position * stride };
                stride *= size;
            }
        }
        self.exprs.get(flat).copied()
    }
}

/// The positions that a slice of an axis picks.
fn positions(size: usize, start: i64, end: i64, step: i64) -> Option<Vec<usize>> {
    let size = size as i64;
    let place = |value: i64| if value < 0 { value.saturating_add(size) } else { value };
    let picked: Vec<i64> = if step > 0 {
        let (start, end) = (place(start).clamp(0, size), place(end).clamp(0, size));
        (start..end).step_by(usize::try_from(step).ok()?).collect()
    } else {
        let (start, end) = (place(start).clamp(-1, size - 1), place(end).clamp(-1, size - 1));
        let step = usize::try_from(step.checked_neg()?).ok().filter(|&step| step > 0)?;
        (end + 1..=start).rev().step_by(step).collect()
    };
    picked.into_iter().map(|index| usize::try_from(index).ok()).collect()
}

/// The number of elements, if that and each size are small enough to evaluate.
pub(super) fn count(dims: &[usize]) -> Option<usize> {
    const MAX: usize = super::import::MAX_KNOWN_INTS;
    if dims.iter().any(|&size| size > MAX) {
        return None;
    }
    let count = dims.iter().try_fold(1usize, |n, &size| n.checked_mul(size))?;
    (count <= MAX).then_some(count)
}

fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| {
        (axis + dims.len()).checked_sub(rank).map_or(1, |index| dims[index])
    };
    let one = |axis| match (at(a, axis), at(b, axis)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    };
    (0..rank).map(one).collect()
}

fn int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name)?.i
}

fn ints(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    node.attribute.iter().find(|a| a.name == name).map(|attribute| attribute.ints.clone())
}

fn unary(kind: &str) -> Option<Unary> {
    Some(match kind {
        "Neg" => Unary::Neg,
        "Abs" => Unary::Abs,
        "Sqrt" => Unary::Sqrt,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Reciprocal" => Unary::Reciprocal,
        "Not" => Unary::Not,
        _ => return None,
    })
}

fn binary(kind: &str) -> Option<Binary> {
    Some(match kind {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Mod" => Binary::Mod,
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        "Pow" => Binary::Pow,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "And" => Binary::And,
        "Or" => Binary::Or,
        _ => return None,
    })
}
