//! The same elements in another shape or order, broadcast, or repeated.

mod aten;

use super::count;
use super::reduce::Along;
use super::{Fit, NewSizes, Op, Operator, Place, Shapes, agree, axis, letter, letters, operand};
use crate::graph::{Extent, Open};
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// The same elements, row-major, in another shape.
#[derive(Clone, Debug)]
pub struct Reshape {
    /// The new shape.
    pub shape: Vec<Extent>,
    /// Where the source spells it; `None` where it follows from the data's shape.
    pub target: Option<Target>,
    /// Axes that the source drops because their size is 1, without naming them, and where it can.
    pub dropped: Option<(Place, Vec<usize>)>,
}

impl Reshape {
    /// A reshape whose target follows from the data's shape.
    pub(super) fn implied(shape: Vec<Extent>) -> Self {
        Reshape { shape, target: None, dropped: None }
    }
}

/// A target shape that the source spells.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it stands.
    pub place: Place,
    /// One expression per axis; `None` for an axis that is inferred.
    pub exprs: Vec<Option<ExprId>>,
    /// Which axes of the data the source leaves open.
    pub open: Vec<bool>,
    /// The first axis that it spells, where it spells a part of the shape: that can only be
    /// changed number by number.
    pub first: usize,
}

/// A reshape that the source spells as picking all elements, in order, by an index tensor of the
/// new shape: `as_strided` as PyTorch exports it.
#[derive(Clone, Debug)]
pub struct PickAll(pub Reshape);

impl Operator for PickAll {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        self.0.rule(&shapes[..1])
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let shape: Vec<usize> =
            sizes.result(0).iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        let positions: Vec<i64> = (0..shape.iter().product::<usize>() as i64).collect();
        let whole = Some(positions.clone());
        let place = Place::Input(1);
        vec![Fit { place, exprs: Vec::new(), want: positions, whole, shape: Some(shape) }]
    }
}

impl Operator for Reshape {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let elements = |shape: &[Extent]| {
            shape.iter().try_fold(1usize, |n, extent| n.checked_mul(extent.size))
        };
        let (from, to) = (elements(data).unwrap_or(0), elements(&self.shape).unwrap_or(1));
        agree("numbers of elements", from, to)?;
        if from == 0 {
            return Err(Error::unsupported("a reshape of no elements"));
        }
        let mut r = Rule::new("reshape");
        let (left, right) = align(&mut r, data, &self.shape);
        r.operand(Use::Data, left);
        r.result(right);
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let want = sizes.result(0);
        if let Some((place, axes)) = &self.dropped {
            return name_dropped(*place, axes, &want);
        }
        let Some(target) = &self.target else { return Vec::new() };
        let end = target.first + target.exprs.len();
        if target.first > 0 || end < want.len() {
            let want = want.get(target.first..end).unwrap_or_default().to_vec();
            let exprs = target.exprs.clone();
            return vec![Fit { place: target.place, exprs, want, whole: None, shape: None }];
        }
        let whole = self.whole(target, sizes, &want);
        vec![Fit { place: target.place, exprs: target.exprs.clone(), want, whole, shape: None }]
    }
}

impl Reshape {
    /// The target spelled anew: open sizes are copied where they stand in place, or inferred.
    fn whole(&self, target: &Target, sizes: &NewSizes<'_>, want: &[i64]) -> Option<Vec<i64>> {
        let data = &sizes.rule.operands[0].dims;
        let result = &sizes.rule.results[0];
        let placed = |factor: FactorId| result.iter().any(|dim| dim.factors().any(|f| f == factor));
        // An open axis of size 1 that merged into another: no axis is known to be a copy.
        let merged = data.iter().flat_map(Dim::factors).any(|factor| !placed(factor));
        let mut inferred = 0;
        let mut one = |index: usize| {
            if !self.shape[index].is_open() {
                return want[index];
            }
            let open = target.open.get(index).copied().unwrap_or(false);
            if open && !merged && data.get(index) == Some(&result[index]) {
                return 0;
            }
            inferred += 1;
            -1
        };
        let whole = (0..want.len()).map(&mut one).collect();
        (inferred <= 1).then_some(whole)
    }
}

/// Where more axes would be dropped than before, the dropped ones have to be named.
fn name_dropped(place: Place, axes: &[usize], result: &[i64]) -> Vec<Fit> {
    if !result.contains(&1) {
        return Vec::new();
    }
    vec![Fit::new(place, [], axes.iter().map(|&axis| axis as i64).collect())]
}

/// One end of a list of axes that is consumed factor by factor.
struct Side {
    rest: Vec<usize>,
    outer: Vec<Vec<FactorId>>,
    inner: Vec<Vec<FactorId>>,
}

impl Side {
    fn new(shape: &[Extent]) -> Self {
        let none = vec![Vec::new(); shape.len()];
        Side { rest: shape.iter().map(|e| e.size).collect(), outer: none.clone(), inner: none }
    }

    fn last(&self) -> Option<usize> {
        self.rest.iter().rposition(|&size| size > 1)
    }

    fn first(&self) -> Option<usize> {
        self.rest.iter().position(|&size| size > 1)
    }

    fn dims(mut self, r: &mut Rule, shape: &[Extent]) -> Vec<Dim> {
        let mut dims = Vec::new();
        for (index, &size) in self.rest.iter().enumerate() {
            let mut factors = std::mem::take(&mut self.outer[index]);
            if size > 1 {
                let extent = Extent { size, open: shape[index].open };
                factors.push(r.fixed(letter(r.factors.len()), extent, "no common factorization"));
            }
            factors.extend(self.inner[index].iter().rev());
            dims.push(Dim::product(factors));
        }
        dims
    }
}

/// Spells two shapes of equally many elements in common factors, from the innermost axis and, where
/// that ends, from the outermost; what is left between has no common factorization and is fixed.
fn align(r: &mut Rule, from: &[Extent], to: &[Extent]) -> (Vec<Dim>, Vec<Dim>) {
    let (mut left, mut right) = (Side::new(from), Side::new(to));
    let mut take = |left: &mut Side, right: &mut Side, a: usize, b: usize| {
        let (x, y) = (left.rest[a], right.rest[b]);
        let size = x.min(y);
        if x.max(y) % size != 0 {
            return None;
        }
        left.rest[a] /= size;
        right.rest[b] /= size;
        let open = from[a].open.min(to[b].open);
        Some(r.free(letter(r.factors.len()), Extent { size, open }))
    };
    while let (Some(a), Some(b)) = (left.last(), right.last()) {
        let Some(factor) = take(&mut left, &mut right, a, b) else { break };
        left.inner[a].push(factor);
        right.inner[b].push(factor);
    }
    while let (Some(a), Some(b)) = (left.first(), right.first()) {
        let Some(factor) = take(&mut left, &mut right, a, b) else { break };
        left.outer[a].push(factor);
        right.outer[b].push(factor);
    }
    let (mut left, mut right) = (left.dims(r, from), right.dims(r, to));
    add_units(r, (from, &mut left), (to, &mut right));
    (left, right)
}

/// An open axis whose factors do not say so (a batch that is analyzed at size 1) gets a factor of
/// size 1 that does.
fn add_units(
    r: &mut Rule,
    (from, left): (&[Extent], &mut [Dim]),
    (to, right): (&[Extent], &mut [Dim]),
) {
    let unit = |r: &mut Rule, open| r.free(letter(r.factors.len()), Extent { size: 1, open });
    let mut units = Vec::new();
    for (extent, dim) in from.iter().zip(left) {
        if extent.open > r.extent(dim).open {
            let factor = unit(r, extent.open);
            units.push(factor);
            *dim = dim.under(factor);
        }
    }
    let mut units = units.into_iter();
    for (extent, dim) in to.iter().zip(right) {
        if extent.open > r.extent(dim).open {
            let shared = units.next();
            let shared = shared.filter(|f| r.factors[f.index()].extent.open == extent.open);
            let factor = shared.unwrap_or_else(|| unit(r, extent.open));
            *dim = dim.under(factor);
        }
    }
}

/// Axes in another order.
#[derive(Clone, Debug)]
pub struct Transpose {
    /// Which axis of the data stands at each place.
    pub order: Vec<usize>,
}

impl Operator for Transpose {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..data.len()) {
            return Err(Error::malformed(format!("{:?} is no order of axes", self.order)));
        }
        let mut r = Rule::new("transpose");
        let dims = letters(&mut r, data);
        r.operand(Use::Data, dims.clone());
        r.result(self.order.iter().map(|&axis| dims[axis].clone()).collect());
        Ok(r)
    }
}

/// Broadcasting to a shape.
#[derive(Clone, Debug)]
pub struct Expand {
    /// The shape of the result.
    pub shape: Vec<Extent>,
    /// Where the target stands.
    pub place: Place,
    /// Its entries; it may be shorter and have 1 where the data is larger. `None` for an entry that
    /// says in another way that it follows the data.
    pub target: Vec<Option<ExprId>>,
    /// Which entries are 1: they follow the data.
    pub ones: Vec<bool>,
    /// Which axes of the result are open because the data's are.
    pub open: Vec<bool>,
    /// Whether the data is the number zero.
    pub zero: bool,
}

impl Operator for Expand {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let mut r = Rule::new("expand");
        let result = letters(&mut r, &self.shape);
        let skip = result.len().checked_sub(data.len());
        let skip = skip.ok_or_else(|| Error::malformed("an expand to fewer axes"))?;
        let mut dims = Vec::new();
        for (extent, (dim, to)) in data.iter().zip(result.iter().zip(&self.shape).skip(skip)) {
            let whole = extent.size == to.size;
            if !whole {
                agree("size and target", extent.size, 1)?;
            }
            dims.push(if whole { dim.clone() } else { Dim::one() });
        }
        r.operand(Use::Data, dims);
        r.result(result);
        if self.zero {
            r.flow = Flow::product([], []);
        }
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let result = sizes.result(0);
        let skip = result.len() - self.target.len();
        let data = &sizes.rule.operands[0].dims;
        let offset = result.len() - data.len();
        let copied =
            |index: usize| index >= offset && data[index - offset] == sizes.rule.results[0][index];
        let whole = (skip..result.len()).map(|index| match self.shape[index].is_open() {
            false => Some(result[index]),
            true => (self.open[index] && copied(index)).then_some(1),
        });
        let sizes = self.ones.iter().zip(&result[skip..]);
        vec![Fit {
            place: self.place,
            exprs: self.target.clone(),
            want: sizes.map(|(&one, &size)| if one { 1 } else { size }).collect(),
            whole: whole.collect(),
            shape: None,
        }]
    }

    fn target(&self) -> Vec<Option<ExprId>> {
        let missing = self.shape.len() - self.target.len();
        let entries = self.target.iter().zip(&self.ones);
        let entries = entries.map(|(&expr, &one)| expr.filter(|_| !one));
        std::iter::repeat_n(None, missing).chain(entries).collect()
    }
}

/// Repetition of whole axes.
#[derive(Clone, Debug)]
pub struct Tile {
    /// How often each axis is repeated.
    pub repeats: Vec<Extent>,
    /// Where the source spells that, and how.
    pub target: (Place, Vec<ExprId>),
}

impl Operator for Tile {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        agree("repeats and axes", self.repeats.len(), data.len())?;
        let mut r = Rule::new("tile");
        let (mut dims, mut result) = (Vec::new(), Vec::new());
        for (index, (&extent, &times)) in data.iter().zip(&self.repeats).enumerate() {
            let times = r.free(format!("r{}", letter(index)), times);
            let once = r.free(letter(index), extent);
            dims.push(once.into());
            result.push(Dim::product([times, once]));
        }
        r.operand(Use::Data, dims);
        r.result(result);
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let times = sizes.rule.results[0].iter();
        let times = times.filter_map(|dim| dim.factors().next()).map(|f| sizes.factor(f)).collect();
        let (place, exprs) = &self.target;
        let mut fit = Fit::new(*place, exprs.iter().copied(), times);
        fit.whole = fit.whole.filter(|_| self.repeats.iter().all(|times| !times.is_open()));
        vec![fit]
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Reshape", decode_reshape),
    ("Flatten", decode_flatten),
    ("Squeeze", decode_squeeze),
    ("Unsqueeze", decode_unsqueeze),
    ("Transpose", decode_transpose),
    ("Expand", decode_expand),
    ("Tile", decode_tile),
    ("DepthToSpace", decode_depth_to_space),
    ("SpaceToDepth", decode_space_to_depth),
];

fn extent(size: usize, open: Open) -> Extent {
    Extent { size, open }
}

fn decode_reshape(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let exprs = cx.exprs(1)?;
    let zero_copies = cx.int("allowzero").unwrap_or(0) == 0;
    let mut shape = Vec::new();
    let mut kept = Vec::new();
    let mut inferred = None;
    for (index, &expr) in exprs.iter().enumerate() {
        let (size, open) = cx.eval(expr)?;
        kept.push(match size {
            -1 => None,
            0 if zero_copies && index < data.len() => Some(cx.size_of(0, index)?),
            _ => Some(expr),
        });
        shape.push(match size {
            -1 => {
                inferred = Some(index);
                Extent::fixed(1)
            }
            0 if zero_copies => *data.get(index).ok_or_else(|| {
                Error::malformed(format!("entry {index} of the target copies no axis"))
            })?,
            size => extent(
                usize::try_from(size)
                    .map_err(|_| Error::malformed(format!("a target size of {size}")))?,
                open,
            ),
        });
    }
    if let Some(index) = inferred {
        let elements = |shape: &[Extent]| {
            shape.iter().try_fold(1usize, |n, e| n.checked_mul(e.size)).unwrap_or(0)
        };
        let (all, rest) = (elements(&data), elements(&shape));
        if rest == 0 || all % rest != 0 {
            return Err(cx.mismatch(format!("{all} elements cannot be laid out in {rest}s")));
        }
        shape[index] = extent(all / rest, inferred_open(&data, &shape));
    }
    // A target that is replaced as a whole copies sizes by 0, so `allowzero` must go.
    let place = if zero_copies { Place::Input(1) } else { Place::InputFor(1, "allowzero") };
    let open = data.iter().map(|extent| extent.is_open()).collect();
    let target = Some(Target { place, exprs: kept, open, first: 0 });
    cx.node_over(1, Reshape { shape, target, dropped: None })
}

/// What may become of an axis that is inferred from the data and the rest of the target: it stays
/// where the axes that are open in the data are those that are open in the target.
fn inferred_open(data: &[Extent], target: &[Extent]) -> Open {
    let open = |shape: &[Extent]| -> (usize, usize) {
        let open = shape.iter().filter(|extent| extent.is_open());
        (open.clone().count(), open.map(|extent| extent.size).product())
    };
    let (from, to) = (open(data), open(target));
    if from.0 <= to.0 && from.1 == to.1 {
        return Open::Stated;
    }
    most_open(data).max(most_open(target))
}

fn most_open(shape: &[Extent]) -> Open {
    shape.iter().map(|extent| extent.open).max().unwrap_or(Open::Stated)
}

fn decode_flatten(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let at = cx.int("axis").unwrap_or(1);
    let at = if at == data.len() as i64 { data.len() } else { axis(at, data.len())? };
    let product = |part: &[Extent]| {
        let size = part.iter().try_fold(1usize, |n, e| n.checked_mul(e.size)).unwrap_or(0);
        extent(size, most_open(part))
    };
    let shape = vec![product(&data[..at]), product(&data[at..])];
    cx.node(Reshape::implied(shape))
}

/// The axes that squeeze and unsqueeze name, as an attribute or as an input.
fn named_axes(cx: &mut Decoder<'_, '_>) -> Result<Option<Vec<i64>>> {
    match cx.ints("axes") {
        Some(axes) => Ok(Some(axes)),
        None if cx.has(1) => cx.known(1).map(Some),
        None => Ok(None),
    }
}

fn decode_squeeze(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let place = if cx.opset() < 13 { Place::Attribute("axes") } else { Place::Input(1) };
    let (axes, named) = match named_axes(cx)? {
        Some(axes) => {
            (axes.iter().map(|&a| axis(a, data.len())).collect::<Result<Vec<_>>>()?, true)
        }
        None => ((0..data.len()).filter(|&axis| data[axis].size == 1).collect(), false),
    };
    let may_drop = |extent: Extent| extent.is_counted() || extent.size == 1 && extent.is_open();
    if !named && data.iter().any(|&extent| may_drop(extent)) {
        return Err(Error::unsupported("an open axis that is dropped where its size is 1"));
    }
    let keep = data.iter().enumerate().filter(|(index, _)| !axes.contains(index));
    let shape = keep.map(|(_, &extent)| extent).collect();
    let dropped = (!named).then_some((place, axes));
    cx.node_over(1, Reshape { dropped, ..Reshape::implied(shape) })
}

fn decode_unsqueeze(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let axes = named_axes(cx)?.ok_or_else(|| Error::malformed("no axes"))?;
    let rank = data.len() + axes.len();
    let axes = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
    let mut rest = data.into_iter();
    let next = |index| match axes.contains(&index) {
        true => Extent::fixed(1),
        false => rest.next().unwrap_or(Extent::fixed(1)),
    };
    let shape = (0..rank).map(next).collect();
    cx.node_over(1, Reshape::implied(shape))
}

fn decode_transpose(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let rank = cx.input_shape(0)?.len();
    let order = match cx.ints("perm") {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
    };
    cx.node(Transpose { order })
}

fn decode_expand(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if cx.is_computed(1) {
        return count::decode_expand(cx);
    }
    let data = cx.input_shape(0)?;
    let target = cx.exprs(1)?;
    let rank = data.len().max(target.len());
    let mut shape = Vec::new();
    let (mut ones, mut open) = (Vec::new(), Vec::new());
    for index in 0..rank {
        let from = (index + data.len()).checked_sub(rank).map(|i| data[i]);
        let to = match (index + target.len()).checked_sub(rank) {
            None => Extent::fixed(1),
            Some(i) => {
                let (size, open) = cx.eval(target[i])?;
                ones.push(size == 1);
                let size = usize::try_from(size);
                extent(size.map_err(|_| Error::malformed("a negative size"))?, open)
            }
        };
        open.push(from.is_some_and(Extent::is_open));
        shape.push(match from {
            Some(from) if from.size == to.size => extent(from.size, from.open.max(to.open)),
            Some(from) if to.size == 1 => from,
            Some(from) if from.size != 1 => {
                let text = format!("size {} cannot be expanded to {}", from.size, to.size);
                return Err(cx.mismatch(text));
            }
            _ => to,
        });
    }
    let zero = cx.number(0) == Some(0.0);
    let target = target.into_iter().map(Some).collect();
    cx.node_over(1, Expand { shape, place: Place::Input(1), target, ones, open, zero })
}

fn decode_tile(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let target = cx.exprs(1)?;
    let repeats = target
        .iter()
        .map(|&expr| {
            let (times, open) = cx.eval(expr)?;
            let times = usize::try_from(times);
            Ok(extent(times.map_err(|_| Error::malformed("a negative repeat"))?, open))
        })
        .collect::<Result<Vec<_>>>()?;
    cx.node_over(1, Tile { repeats, target: (Place::Input(1), target) })
}

/// Pixel shuffle and its inverse are a reshape, a transpose and a reshape; two axes between are
/// blocks.
fn shuffled(split: Vec<Extent>, blocks: [i64; 2], order: &[usize], shape: Vec<Extent>) -> [Op; 4] {
    let along = Along::new("blocks", "blocks of one size are moved", 0);
    [
        Reshape::implied(split).into(),
        Along { axes: blocks.to_vec(), keeps_zero: true, ..along }.into(),
        Transpose { order: order.to_vec() }.into(),
        Reshape::implied(shape).into(),
    ]
}

fn shuffle(
    cx: &mut Decoder<'_, '_>,
    split: Vec<Extent>,
    blocks: [i64; 2],
    order: &[usize],
    shape: Vec<Extent>,
) -> Result<()> {
    let mut value = cx.input(0)?;
    for op in shuffled(split, blocks, order, shape) {
        value = cx.emit(op, &[value])?;
    }
    cx.bind(0, value);
    Ok(())
}

fn block(cx: &mut Decoder<'_, '_>) -> Result<(usize, [Extent; 4])> {
    let size = cx.int("blocksize").and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| (1..1 << 16).contains(size));
    let size = size.ok_or_else(|| Error::malformed("no usable `blocksize`"))?;
    let shape = cx.input_shape(0)?;
    let shape = shape.try_into().map_err(|_| Error::malformed("not four axes"))?;
    Ok((size, shape))
}

fn decode_depth_to_space(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (size, [n, c, h, w]) = block(cx)?;
    let depth = extent(c.size / (size * size), c.open);
    agree("channels and blocks", depth.size * size * size, c.size)?;
    let r = Extent::fixed(size);
    let times = |e: Extent| extent(e.size.saturating_mul(size), e.open);
    let shape = vec![n, depth, times(h), times(w)];
    match cx.string("mode").as_deref() {
        Some("CRD") => shuffle(cx, vec![n, depth, r, r, h, w], [2, 3], &[0, 1, 4, 2, 5, 3], shape),
        _ => shuffle(cx, vec![n, r, r, depth, h, w], [1, 2], &[0, 3, 4, 1, 5, 2], shape),
    }
}

fn decode_space_to_depth(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (size, [n, c, h, w]) = block(cx)?;
    let part = |e: Extent| extent(e.size / size, e.open);
    let r = Extent::fixed(size);
    let depth = extent(c.size.saturating_mul(size * size), c.open);
    let split = vec![n, c, part(h), r, part(w), r];
    shuffle(cx, split, [3, 5], &[0, 3, 5, 1, 2, 4], vec![n, depth, part(h), part(w)])
}
