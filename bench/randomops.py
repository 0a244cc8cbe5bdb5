"""What random models are made of: operators and patterns of them, by name, with weights."""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from randomgraph import CHANNELS, ONE, SIZES, Builder, Dim, Misfit, Shape, Tensor, total

Op = Callable[[Builder], object]
OPS: dict[str, tuple[float, Op]] = {}
ACTIVATIONS = """
Relu Sigmoid Tanh LeakyRelu Elu Selu Softplus Softsign HardSigmoid HardSwish Abs Neg Erf
Gelu Mish Sin Cos Exp Ceil Identity Sqrt Log Reciprocal Clip Pow PRelu Dropout Sign
""".split()  # noqa: SIM905


def op(weight: float) -> Callable[[Op], Op]:
    def register(function: Op) -> Op:
        OPS[function.__name__] = (weight, function)
        return function

    return register


def ends_fixed(t: Tensor) -> bool:
    return t.rank > 1 and t.shape[-1].fixed and t.shape[-1].size > 1


def has_channels(t: Tensor) -> bool:
    return t.rank > 2 and t.shape[1].fixed


# Contractions


@op(6)
def linear(b: Builder) -> Tensor:
    x, n = b.pick(ends_fixed), b.rng.choice(CHANNELS)
    y = b.node("MatMul", [x.name, b.weight(x.shape[-1].size, n)])
    if b.chance(0.6):
        y = b.node("Add", [y, b.weight(n)] if b.chance(0.5) else [b.weight(n), y])
    return b.add(y, (*x.shape[:-1], Dim(n)))


@op(3)
def gemm(b: Builder) -> Tensor:
    x, n = b.pick(lambda t: t.rank == 2 and ends_fixed(t)), b.rng.choice(CHANNELS)
    flip, k = b.chance(0.5), x.shape[1].size
    inputs = [x.name, b.weight(n, k) if flip else b.weight(k, n)]
    if b.chance(0.7):
        inputs.append(b.weight(*b.rng.choice([(n,), (1, n), (1,), (1, 1), ()])))
    y = b.node("Gemm", inputs, transB=int(flip), alpha=b.rng.choice([1.0, 0.5]))
    return b.add(y, (x.shape[0], Dim(n)))


@op(1)
def matmul_left(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 2 and t.shape[-2].fixed)
    m = b.rng.choice(CHANNELS)
    y = b.node("MatMul", [b.weight(m, x.shape[-2].size), x.name])
    return b.add(y, (*x.shape[:-2], Dim(m), x.shape[-1]))


@op(1)
def matmul_batched(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 2 and ends_fixed(t) and t.shape[-3].fixed)
    n, k, h = b.rng.choice(CHANNELS), x.shape[-1].size, x.shape[-3].size
    lead = b.rng.choice([(h,), (1,), (1, h)] if x.rank > 3 else [(h,), (1,)])
    y = b.node("MatMul", [x.name, b.weight(*lead, k, n)])
    return b.add(y, (*x.shape[:-1], Dim(n)))


@op(1.5)
def gram(b: Builder) -> Tensor:
    """A product of activations."""
    x = b.pick(lambda t: t.rank > 2)
    perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    y = b.pick(lambda t: t.rank == x.rank and t.shape[:-2] == x.shape[:-2])
    if x.shape[-1] == y.shape[-2]:
        return b.add(b.node("MatMul", [x.name, y.name]), (*x.shape[:-1], y.shape[-1]))
    if x.shape[-1] == y.shape[-1]:
        flipped = b.node("Transpose", [y.name], perm=perm)
        return b.add(b.node("MatMul", [x.name, flipped]), (*x.shape[:-1], y.shape[-2]))
    if x.shape[-2] == y.shape[-2]:
        flipped = b.node("Transpose", [x.name], perm=perm)
        shape = (*x.shape[:-2], x.shape[-1], y.shape[-1])
        return b.add(b.node("MatMul", [flipped, y.name]), shape)
    raise Misfit


@op(2)
def einsum(b: Builder) -> Tensor:
    """An activation and a weight, or another activation of the same shape, over random letters."""
    x = b.pick(lambda t: 1 < t.rank < 5)
    letters = "abcde"[: x.rank]
    kept = [c for c in letters if b.chance(0.7)] or [letters[0]]
    dims = dict(zip(letters, x.shape, strict=True))
    if b.chance(0.3):
        y = b.pick(lambda t: t.shape == x.shape)
        renamed = "".join(c.upper() if b.chance(0.2) else c for c in letters)
        dims |= dict(zip(renamed, y.shape, strict=True))
        kept += [c for c in renamed if c.isupper()]
        other, inputs = renamed, [x.name, y.name]
    else:
        other = "".join(c for c in letters if dims[c].fixed and b.chance(0.6))
        if b.chance(0.7):
            other += "z"
            dims["z"] = Dim(b.rng.choice(CHANNELS))
            kept.append("z")
        if not other:
            raise Misfit
        other = "".join(b.rng.sample(other, len(other)))
        inputs = [x.name, b.weight(*(dims[c].size for c in other))]
    b.rng.shuffle(kept)
    result = "".join(kept)
    y = b.node("Einsum", inputs, equation=f"{letters},{other}->{result}")
    return b.add(y, [dims[c] for c in result])


@op(6)
def conv(b: Builder) -> Tensor:
    x = b.pick(has_channels)
    c, space = x.shape[1].size, x.rank - 2
    groups = b.rng.choice([1, 1, 1, c, b.divisor(c)])
    out = groups * b.rng.choice([1, 1, 2, 3]) if groups > 1 else b.rng.choice(CHANNELS)
    kernel = b.rng.choice([1, 3])
    inputs = [x.name, b.weight(out, c // groups, *[kernel] * space)]
    if b.chance(0.6):
        inputs.append(b.weight(out))
    y = b.node("Conv", inputs, group=groups, pads=[kernel // 2] * 2 * space)
    return b.add(y, (x.shape[0], Dim(out), *x.shape[2:]))


@op(1)
def conv_transpose(b: Builder) -> Tensor:
    x = b.pick(lambda t: has_channels(t) and all(d.size <= 4 for d in t.shape[2:]))
    c, space = x.shape[1].size, x.rank - 2
    groups = b.rng.choice([1, 1, c, b.divisor(c)])
    each = b.rng.choice([1, 2, 4])
    inputs = [x.name, b.weight(c, each, *[2] * space)]
    if b.chance(0.6):
        inputs.append(b.weight(groups * each))
    y = b.node("ConvTranspose", inputs, group=groups, strides=[2] * space)
    return b.add(y, (x.shape[0], Dim(groups * each), *(Dim(2) * d for d in x.shape[2:])))


# Normalization


@op(2)
def batch_norm(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1 and t.shape[1].fixed)
    c = x.shape[1].size
    var = b.node("Abs", [b.weight(c)]) if b.chance(0.1) else b.store(np.ones(c, b.dtype))
    inputs = [x.name, b.weight(c), b.weight(c), b.weight(c), var]
    return b.add(b.node("BatchNormalization", inputs), x.shape)


@op(1)
def layer_norm(b: Builder) -> Tensor:
    x = b.pick(ends_fixed)
    axis = -2 if x.rank > 2 and x.shape[-2].fixed and b.chance(0.3) else -1
    sizes = [d.size for d in x.shape[axis:]]
    inputs = [x.name, b.weight(*sizes)] + ([b.weight(*sizes)] if b.chance(0.6) else [])
    return b.add(b.node("LayerNormalization", inputs, axis=axis), x.shape)


@op(1)
def rms_norm(b: Builder) -> Tensor:
    x = b.pick(ends_fixed)
    square = b.node("Mul", [x.name, x.name]) if b.chance(0.5) else _power(b, x.name, 2.0)
    mean = b.node("ReduceMean", [square, b.ints([-1])], keepdims=1)
    root = b.node("Sqrt", [b.node("Add", [mean, b.number(0.1)])])
    y = b.node("Div", [x.name, root])
    if b.chance(0.7):
        y = b.node("Mul", [y, b.weight(x.shape[-1].size)])
    return b.add(y, x.shape)


@op(1)
def group_norm(b: Builder) -> Tensor:
    x = b.pick(lambda t: has_channels(t) and t.shape[1].size > 1)
    c, n = x.shape[1].size, x.shape[0]
    groups = b.divisor(c)
    if b.chance(0.3):
        y = b.node("GroupNormalization", [x.name, b.weight(c), b.weight(c)], num_groups=groups)
        return b.add(y, x.shape)
    rest = Dim(1)
    for dim in (Dim(c // groups), *x.shape[2:]):
        rest = rest * dim
    split = b.reshape(x, (n, Dim(groups), rest))
    ones = b.store(np.ones(groups, b.dtype)) if b.chance(0.5) else b.weight(groups)
    normed = b.node("InstanceNormalization", [split.name, ones, b.weight(groups)])
    y = b.reshape(Tensor(normed, split.shape), x.shape)
    space = [1] * (x.rank - 2)
    scaled = b.node("Mul", [y.name, b.weight(c, *space)])
    return b.add(b.node("Add", [scaled, b.weight(c, *space)]), x.shape)


@op(0.7)
def instance_norm(b: Builder) -> Tensor:
    x = b.pick(has_channels)
    c = x.shape[1].size
    y = b.node("InstanceNormalization", [x.name, b.weight(c), b.weight(c)])
    return b.add(y, x.shape)


# Elementwise


def _power(b: Builder, x: str, power: float) -> str:
    return b.node("Pow", [x, b.number(power)])


def _positive(b: Builder, x: str, shape: Shape) -> str:
    """At least one half, by a number or by a vector that may be cut."""
    last = shape[-1] if shape else ONE
    if last.fixed and b.chance(0.3):
        offset = b.node("Abs", [b.weight(last.size)])
        return b.node("Add", [b.node("Abs", [x]), b.node("Add", [offset, b.number(0.5)])])
    return b.node("Add", [b.node("Abs", [x]), b.number(b.rng.choice([0.5, 1.0]))])


@op(5)
def activation(b: Builder) -> Tensor:
    x = b.pick(lambda t: True)
    kind, y = b.rng.choice(ACTIVATIONS), x.name
    match kind:
        case "Exp" | "Sin" | "Cos":
            y = b.node(kind, [b.node("Tanh", [y])])
        case "Sqrt" | "Log" | "Reciprocal":
            y = b.node(kind, [_positive(b, y, x.shape)])
        case "Clip":
            bounds = [b.rng.choice(["", _scalar(b, low)]) for low in [b.rng.choice([-1, 0, 0.1])]]
            high = b.rng.choice([6.0, 1.0])
            y = b.node("Clip", [y, *bounds, _scalar(b, high)])
        case "Pow":
            y = _power(b, y, b.rng.choice([2.0, 3.0, 2.0, 1.0]))
        case "PRelu":
            c = x.shape[-1] if x.shape else ONE
            y = b.node("PRelu", [y, b.weight(c.size if c.fixed and b.chance(0.7) else 1)])
        case "Ceil" | "Sign":
            y = b.node(kind, [y])
        case _:
            y = b.node(kind, [y])
    return b.add(y, x.shape)


def _scalar(b: Builder, value: float) -> str:
    return b.store(np.array(value, b.dtype), "c")


def _broadcasts(x: Shape, y: Shape) -> Shape | None:
    rank = max(len(x), len(y))
    pairs = zip((ONE,) * (rank - len(x)) + x, (ONE,) * (rank - len(y)) + y, strict=True)
    result = []
    for a, c in pairs:
        if a != c and ONE not in (a, c):
            return None
        result.append(c if a == ONE else a)
    return tuple(result)


def _combine(b: Builder, kind: str, x: str, y: str, shape: Shape) -> str:
    match kind:
        case "Div":
            return b.node("Div", [x, _positive(b, y, shape)])
        case "Where":
            return b.node("Where", [b.node("Greater", [x, y]), x, y])
        case _:
            return b.node(kind, [x, y])


BINARY = ("Add", "Add", "Add", "Mul", "Mul", "Sub", "Max", "Min", "Div", "Where", "Mean")


@op(5)
def binary(b: Builder) -> Tensor:
    """Two activations of shapes that broadcast."""
    x = b.pick(lambda t: t.rank > 0)
    y = b.pick(lambda t: _broadcasts(x.shape, t.shape) is not None)
    shape = _broadcasts(x.shape, y.shape)
    if b.chance(0.3):
        x, y = y, x
    return b.add(_combine(b, b.rng.choice(BINARY), x.name, y.name, y.shape), shape)


@op(3)
def binary_stored(b: Builder) -> Tensor:
    """An activation and a stored tensor of any shape that broadcasts."""
    x = b.pick(lambda t: t.rank > 0)
    sizes = [d.size if d.fixed and b.chance(0.6) else 1 for d in x.shape]
    sizes = sizes[b.rng.randint(0, x.rank) :]
    if b.chance(0.1):
        sizes = [1, *sizes] if len(sizes) == x.rank else sizes
    shape = _broadcasts(x.shape, tuple(map(Dim, sizes)))
    kind, w = b.rng.choice(BINARY), b.weight(*sizes)
    pair = (x.name, w) if b.chance(0.7) else (w, x.name)
    if kind == "Div" and pair[1] == w and b.chance(0.5):
        return b.add(b.node("Div", pair), shape)
    own = tuple(map(Dim, sizes)) if pair[1] == w else x.shape
    return b.add(_combine(b, kind, *pair, own), shape)


@op(4)
def residual(b: Builder) -> Tensor:
    x = b.pick(lambda t: ends_fixed(t) or has_channels(t))
    if has_channels(x) and b.chance(0.5):
        c = x.shape[1].size
        kernel = b.weight(c, c, *[1] * (x.rank - 2))
        y = b.node("Conv", [x.name, kernel])
    elif ends_fixed(x):
        hidden, c = b.rng.choice(CHANNELS), x.shape[-1].size
        y = b.node("Relu", [b.node("MatMul", [x.name, b.weight(c, hidden)])])
        y = b.node("MatMul", [y, b.weight(hidden, c)])
    else:
        raise Misfit
    return b.add(b.node("Add", [x.name, y]), x.shape)


@op(1.5)
def squeeze_excite(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank == 4 and t.shape[1].fixed)
    c, hidden = x.shape[1].size, b.rng.choice(CHANNELS)
    pooled = b.node("GlobalAveragePool", [x.name])
    gate = b.node("Relu", [b.node("Conv", [pooled, b.weight(hidden, c, 1, 1)])])
    gate = b.node("Conv", [gate, b.weight(c, hidden, 1, 1), b.weight(c)])
    gate = b.node(b.rng.choice(["Sigmoid", "HardSigmoid", "Tanh"]), [gate])
    return b.add(b.node("Mul", [x.name, gate]), x.shape)


@op(0.7)
def weight_norm(b: Builder) -> Tensor:
    """A layer whose weight is computed from stored ones."""
    x, n = b.pick(ends_fixed), b.rng.choice(CHANNELS)
    direction = b.weight(x.shape[-1].size, n)
    norm = b.node("ReduceL2", [direction, b.ints([0])], keepdims=1)
    if b.chance(0.7):
        norm = b.node("Max", [norm, b.number(0.001)])
    weight = b.node("Mul", [b.node("Div", [direction, norm]), b.weight(n)])
    return b.add(b.node("MatMul", [x.name, weight]), (*x.shape[:-1], Dim(n)))


@op(0.5)
def branch(b: Builder) -> Tensor:
    """A condition whose branches read a tensor and a weight from outside."""
    x = b.pick(ends_fixed)
    w, kind = b.weight(x.shape[-1].size), helper.np_dtype_to_tensor_dtype(np.dtype(b.dtype))
    graphs = {}
    for name, kind_of in (("then_branch", "Mul"), ("else_branch", "Add")):
        result = b.name("branch_")
        node = helper.make_node(kind_of, [x.name, w], [result], name=result)
        info = helper.make_tensor_value_info(result, kind, [None] * x.rank)
        graphs[name] = helper.make_graph([node], name, [], [info])
    condition = b.store(np.array(b.chance(0.5)), "c")
    return b.add(b.node("If", [condition], **graphs), x.shape)


@op(0.7)
def fill(b: Builder) -> Tensor:
    """A constant of a computed shape."""
    x = b.pick(lambda t: t.rank > 0)
    value = numpy_helper.from_array(np.array([0.5], b.dtype))
    y = b.node("ConstantOfShape", [b.spell(x.shape)], value=value)
    return b.add(b.node(b.rng.choice(["Add", "Mul"]), [x.name, y]), x.shape)


@op(0.7)
def count(b: Builder) -> Tensor:
    """Positions that are counted up to a size, as an index into a table."""
    x = b.pick(lambda t: t.rank == 3 and ends_fixed(t) and t.shape[1].fixed)
    if x.shape[1].size > 16:
        raise Misfit
    length = b.node("Squeeze", [b.entry(x.shape[1]), b.ints([0])])
    places = b.node("Range", [b.ints([0], True), length, b.ints([1], True)])
    rows = b.node("Gather", [b.weight(16, x.shape[2].size), places], axis=0)
    return b.add(b.node("Add", [x.name, rows]), x.shape)


# Reductions and operators along an axis


@op(1)
def softmax(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 0)
    kind = b.rng.choice(["Softmax", "Softmax", "LogSoftmax"])
    return b.add(b.node(kind, [x.name], axis=b.axis(x.rank, b.rng.randrange(x.rank))), x.shape)


REDUCTIONS = "ReduceMean ReduceMean ReduceSum ReduceSum ReduceMax ReduceMin ReduceL2 ReduceL1 "
REDUCTIONS += "ReduceSumSquare ReduceLogSumExp ReduceProd"


@op(3)
def reduce(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1)
    axes = sorted(b.rng.sample(range(x.rank), b.rng.choice([1, 1, 2])))
    keep = b.chance(0.5)
    spelled = b.ints([b.axis(x.rank, axis) for axis in axes])
    y = b.node(b.rng.choice(REDUCTIONS.split()), [x.name, spelled], keepdims=int(keep))
    kept = [(ONE if i in axes else d) for i, d in enumerate(x.shape) if keep or i not in axes]
    return b.add(y, kept)


@op(0.3)
def argmax(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1 and not _has_ties(b, t.name))
    axis = b.rng.randrange(x.rank)
    y = b.node("ArgMax", [x.name], axis=axis, keepdims=1)
    kind = 11 if b.dtype == np.float64 else 1
    shape = [ONE if i == axis else d for i, d in enumerate(x.shape)]
    return b.add(b.node("Cast", [y], to=kind), shape)


def _has_ties(b: Builder, name: str) -> bool:
    """Whether steps made elements equal, so that rounding behind them decides on an order."""
    makers = {output: node for node in b.nodes for output in node.output}
    stack, seen = [name], set()
    while stack:
        node = makers.get(stack.pop())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            stack += node.input
            if node.op_type in ("Sign", "Ceil"):
                return True
    return False


@op(0.5)
def cumsum(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1)
    axis = b.ints([b.rng.randrange(x.rank)], scalar=True)
    return b.add(b.node("CumSum", [x.name, axis]), x.shape)


@op(0.5)
def topk(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1 and t.shape[-1].fixed and t.shape[-1].size > 2)
    y = b.node("TopK", [x.name, b.ints([2])], outputs=2)
    return b.add(y, (*x.shape[:-1], Dim(2)))


@op(1)
def pool(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank == 4 and all(d.fixed and d.size > 1 for d in t.shape[2:]))
    kind = b.rng.choice(["MaxPool", "AveragePool"])
    if b.chance(0.5):
        y = b.node(kind, [x.name], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return b.add(y, x.shape)
    if any(d.size % 2 for d in x.shape[2:]):
        raise Misfit
    y = b.node(kind, [x.name], kernel_shape=[2, 2], strides=[2, 2])
    return b.add(y, (*x.shape[:2], *(Dim(d.size // 2) for d in x.shape[2:])))


@op(0.7)
def global_pool(b: Builder) -> Tensor:
    x = b.pick(has_channels)
    y = b.node(b.rng.choice(["GlobalAveragePool", "GlobalMaxPool"]), [x.name])
    return b.add(y, (*x.shape[:2], *[ONE] * (x.rank - 2)))


# Shapes


@op(3)
def transpose(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1)
    order = b.rng.sample(range(x.rank), x.rank)
    return b.add(b.node("Transpose", [x.name], perm=order), [x.shape[i] for i in order])


@op(3)
def reshape_split(b: Builder) -> Tensor:
    x = b.pick(lambda t: 0 < t.rank < 6 and any(d.size > 1 for d in t.shape))
    axis = b.rng.choice([i for i, d in enumerate(x.shape) if d.size > 1])
    dim = x.shape[axis]
    part = b.divisor(dim.size)
    pair = [Dim(part), Dim(dim.size // part, dim.batch, dim.tokens)]
    if b.chance(0.5):
        pair.reverse()
    return b.add(
        b.reshape(x, (*x.shape[:axis], *pair, *x.shape[axis + 1 :])).name,
        (*x.shape[:axis], *pair, *x.shape[axis + 1 :]),
    )


@op(2)
def reshape_merge(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1)
    axis = b.rng.randrange(x.rank - 1)
    shape = (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])
    return b.add(b.reshape(x, shape).name, shape)


@op(0.7)
def reshape_any(b: Builder) -> Tensor:
    """The same elements in a shape that has nothing to do with the old one."""
    x = b.pick(lambda t: t.rank > 1 and all(d.fixed for d in t.shape[1:]))
    size = 1
    for dim in x.shape[1:]:
        size *= dim.size
    part = b.divisor(size)
    more = b.divisor(size // part)
    rest = b.rng.choice([(size,), (part, size // part), (part, more, size // part // more)])
    shape = (x.shape[0], *map(Dim, rest))
    return b.add(b.reshape(x, shape).name, shape)


@op(1)
def flatten(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1)
    axis = b.rng.choice([1, 1, 1, x.rank - 1, x.rank, 0])
    halves = [ONE, ONE]
    for index, dim in enumerate(x.shape):
        halves[index >= axis] = halves[index >= axis] * dim
    return b.add(b.node("Flatten", [x.name], axis=axis), halves)


@op(1.5)
def squeeze(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 1 and ONE in t.shape)
    ones = [i for i, d in enumerate(x.shape) if d == ONE]
    chosen = b.rng.sample(ones, b.rng.randint(1, len(ones)))
    inputs = [x.name, b.ints([b.axis(x.rank, axis) for axis in chosen])]
    if b.chance(0.3) and all(d.fixed for d in x.shape):
        inputs, chosen = [x.name], ones
    return b.add(b.node("Squeeze", inputs), [d for i, d in enumerate(x.shape) if i not in chosen])


@op(1.5)
def unsqueeze(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank < 5)
    axis = b.rng.randint(0, x.rank)
    y = b.node("Unsqueeze", [x.name, b.ints([b.axis(x.rank + 1, axis)])])
    return b.add(y, (*x.shape[:axis], ONE, *x.shape[axis:]))


@op(1.5)
def expand(b: Builder) -> Tensor:
    x = b.pick(lambda t: 0 < t.rank < 5)
    shape = [_stretch(b, d) if d == ONE and b.chance(0.7) else d for d in x.shape]
    target = [ONE if b.chance(0.3) and d == x.shape[i] else d for i, d in enumerate(shape)]
    if b.chance(0.2):
        shape, target = [Dim(2), *shape], [Dim(2), *target]
    elif b.chance(0.2) and shape[0] == x.shape[0] and len(target) > 1:
        target = target[1:]
    spelled = b.spell(target)
    if b.chance(0.2):
        spelled = _guard(b, spelled)
    return b.add(b.node("Expand", [x.name, spelled]), shape)


def _guard(b: Builder, target: str) -> str:
    """A target with its -1 made 1, as PyTorch's `expand` is exported."""
    one = numpy_helper.from_array(np.array([1], np.int64))
    ones = b.node("ConstantOfShape", [b.node("Shape", [target])], value=one)
    negative = b.node("Mul", [ones, b.ints([-1])])
    return b.node("Where", [b.node("Equal", [target, negative]), ones, target])


@op(0.7)
def expand_as(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 0)
    y = b.pick(lambda t: _broadcasts(x.shape, t.shape) == t.shape)
    return b.add(b.node("Expand", [x.name, b.node("Shape", [y.name])]), y.shape)


@op(0.7)
def reshape_as(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 0)
    y = b.pick(lambda t: t.rank > 0 and total(t.shape) == total(x.shape))
    return b.add(b.node("Reshape", [x.name, b.node("Shape", [y.name])]), y.shape)


@op(0.7)
def by_size(b: Builder) -> Tensor:
    """A size that is read as a number."""
    x, y = b.pick(lambda t: True), b.pick(lambda t: t.rank > 0)
    axis = b.rng.randrange(y.rank)
    size = b.node("Shape", [y.name], start=axis, end=axis + 1)
    if b.chance(0.3):
        size = b.node("ReduceProd", [b.node("Shape", [y.name])], keepdims=1)
    if x.rank == 0:
        raise Misfit
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(b.dtype))
    return b.add(b.node("Div", [x.name, b.node("Cast", [size], to=kind)]), x.shape)


@op(0.7)
def positions(b: Builder) -> Tensor:
    """The first rows of a stored table, as many as there are tokens."""
    x = b.pick(
        lambda t: t.rank == 3 and ends_fixed(t) and (t.shape[1].size, t.shape[1].batch) < (17, 1)
    )
    if x.shape[1].tokens and x.shape[1].size > 1:
        raise Misfit
    table = b.weight(16, x.shape[2].size)
    rows = b.node("Slice", [table, b.ints([0]), b.entry(x.shape[1]), b.ints([0])])
    return b.add(b.node("Add", [x.name, rows]), x.shape)


def _stretch(b: Builder, dim: Dim) -> Dim:
    known = [d for t in b.pool for d in t.shape if d.size < 13 and d.batch + d.tokens < 2]
    return b.rng.choice([Dim(b.rng.choice(SIZES)), *known[-6:]])


@op(0.7)
def tile(b: Builder) -> Tensor:
    x = b.pick(lambda t: 0 < t.rank < 5)
    times = [b.rng.choice([1, 1, 1, 2, 3]) for _ in x.shape]
    shape = [Dim(n) * d for n, d in zip(times, x.shape, strict=True)]
    return b.add(b.node("Tile", [x.name, b.ints(times)]), shape)


@op(2.5)
def concat(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 0)
    axis = b.rng.randrange(x.rank)

    def beside(t: Tensor) -> bool:
        same = t.rank == x.rank and t.shape[axis].fixed == x.shape[axis].fixed
        return same and all(t.shape[i] == d or i == axis for i, d in enumerate(x.shape))

    parts = [x, *(b.pick(beside) for _ in range(b.rng.choice([1, 1, 2])))]
    if x.shape[axis].fixed:
        along = Dim(sum(t.shape[axis].size for t in parts))
    else:
        parts = [t for t in parts if t.shape == x.shape]
        d = x.shape[axis]
        along = Dim(d.size * len(parts), d.batch, d.tokens)
    y = b.node("Concat", [t.name for t in parts], axis=b.axis(x.rank, axis))
    return b.add(y, (*x.shape[:axis], along, *x.shape[axis + 1 :]))


@op(2)
def split(b: Builder) -> None:
    x = b.pick(lambda t: any(d.fixed and d.size > 1 for d in t.shape))
    axis = b.rng.choice([i for i, d in enumerate(x.shape) if d.fixed and d.size > 1])
    size = x.shape[axis].size
    count = b.rng.choice([2, 2, 3, 4])
    if count > size:
        raise Misfit
    if b.chance(0.5):
        part = -(-size // count)
        sizes = [min(part, size - i * part) for i in range(count)]
        if min(sizes) < 1:
            raise Misfit
        extra = {"num_outputs": count}
        inputs = [x.name]
    else:
        borders = sorted(b.rng.sample(range(1, size), count - 1))
        sizes = [high - low for low, high in zip([0, *borders], [*borders, size], strict=True)]
        inputs, extra = [x.name, b.spell([Dim(n) for n in sizes])], {}
    names = b.results("Split", inputs, count, axis=b.axis(x.rank, axis), **extra)
    for name, part in zip(names, sizes, strict=True):
        b.add(name, (*x.shape[:axis], Dim(part), *x.shape[axis + 1 :]))


@op(3)
def slice_(b: Builder) -> Tensor:
    x = b.pick(lambda t: any(d.fixed and d.size > 1 for d in t.shape))
    choices = [i for i, d in enumerate(x.shape) if d.fixed and d.size > 1]
    axes = sorted(b.rng.sample(choices, min(len(choices), b.rng.choice([1, 1, 1, 2]))))
    shape, starts, ends, steps = list(x.shape), [], [], []
    for axis in axes:
        size = x.shape[axis].size
        low = b.rng.choice([0, 0, b.rng.randrange(size)])
        high = b.rng.choice([size, b.rng.randint(low + 1, size)])
        step = b.rng.choice([1, 1, 1, 2, 3])
        if b.chance(0.1):
            starts.append(b.rng.choice([-1, size - 1]))
            ends.append(b.rng.choice([-(2**31), -size - 1]))
            steps.append(-1)
            continue
        shape[axis] = Dim(len(range(low, high, step)))
        starts.append(low - size if b.chance(0.3) else low)
        far = [high, 2**31 - 1, 2**63 - 1] if high == size else [high, high - size]
        ends.append(b.rng.choice(far))
        steps.append(step)
    end = b.ints(ends)
    if ends == [x.shape[axes[0]].size] or (len(axes) == 1 and 0 < ends[0] < 13 and b.chance(0.4)):
        end = b.entry(Dim(ends[0]))
    inputs = [x.name, b.ints(starts), end, b.ints([b.axis(x.rank, a) for a in axes])]
    inputs += [b.ints(steps)] if steps != [1] * len(steps) or b.chance(0.5) else []
    return b.add(b.node("Slice", inputs), shape)


@op(1)
def halves(b: Builder) -> None:
    """Two slices at a computed middle, as `chunk` is exported."""
    x = b.pick(lambda t: any(d.fixed and d.size % 2 == 0 for d in t.shape))
    axis = b.rng.choice([i for i, d in enumerate(x.shape) if d.fixed and d.size % 2 == 0])
    size = b.node("Gather", [b.node("Shape", [x.name]), b.ints([axis])], axis=0)
    middle = b.node("Div", [size, b.ints([2])])
    end = b.rng.choice([b.ints([2**63 - 1]), b.node("Mul", [middle, b.ints([2])]), size])
    shape = (*x.shape[:axis], Dim(x.shape[axis].size // 2), *x.shape[axis + 1 :])
    along = b.ints([axis])
    b.add(b.node("Slice", [x.name, b.ints([0]), middle, along]), shape)
    b.add(b.node("Slice", [x.name, middle, end, along]), shape)


@op(1)
def pad(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank > 0)
    axis, mode = b.rng.randrange(x.rank), b.rng.choice(["constant", "constant", "edge", "reflect"])
    dim, near, far = x.shape[axis], b.rng.choice([0, 1, 2]), b.rng.choice([0, 1])
    if not dim.fixed or (mode == "reflect" and dim.size < 3):
        raise Misfit
    if b.chance(0.5):
        inputs = [b.ints([near, far]), "", b.ints([b.axis(x.rank, axis)])]
    else:
        pads = [near if i == axis else 0 for i in range(x.rank)]
        inputs = [b.ints(pads + [far if i == axis else 0 for i in range(x.rank)])]
    if mode == "constant" and len(inputs) == 3 and b.chance(0.5):
        inputs[1] = _scalar(b, b.rng.choice([0.0, 0.0, 1.0]))
    y = b.node("Pad", [x.name, *inputs], mode=mode)
    return b.add(y, (*x.shape[:axis], Dim(dim.size + near + far), *x.shape[axis + 1 :]))


@op(1)
def gather(b: Builder) -> Tensor:
    """A constant index, or several."""
    x = b.pick(lambda t: any(d.fixed for d in t.shape))
    axis = b.rng.choice([i for i, d in enumerate(x.shape) if d.fixed])
    size = x.shape[axis].size
    if b.chance(0.5):
        index, picked = b.ints([b.rng.randrange(-size, size)], scalar=True), []
    else:
        index = b.ints([b.rng.randrange(size) for _ in range(b.rng.choice([1, 2, 4]))])
        picked = [Dim(len(_values(b, index)))]
    y = b.node("Gather", [x.name, index], axis=b.axis(x.rank, axis))
    return b.add(y, (*x.shape[:axis], *picked, *x.shape[axis + 1 :]))


def _values(b: Builder, name: str) -> list[int]:
    for key, known in b.literals.items():
        if known == name:
            return list(key[0])
    raise Misfit


@op(0.7)
def embed(b: Builder) -> Tensor:
    """Rows of a stored table at constant positions, added to the tokens."""
    x = b.pick(lambda t: t.rank == 3 and t.shape[1].fixed and ends_fixed(t))
    n, c = x.shape[1].size, x.shape[2].size
    rows = b.node("Gather", [b.weight(12, c), b.ints([i % 12 for i in range(n)])], axis=0)
    return b.add(b.node("Add", [x.name, rows]), x.shape)


@op(0.7)
def resize(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank == 4 and all(d.fixed and d.size < 7 for d in t.shape[2:]))
    shape = (*x.shape[:2], *(Dim(2) * d for d in x.shape[2:]))
    mode = b.rng.choice(["nearest", "linear"])
    if b.chance(0.5):
        scales = b.store(np.array([1, 1, 2, 2], np.float32), "s")
        return b.add(b.node("Resize", [x.name, "", scales], mode=mode), shape)
    return b.add(b.node("Resize", [x.name, "", "", b.spell(shape)], mode=mode), shape)


@op(1)
def shuffle_pixels(b: Builder) -> Tensor:
    if b.chance(0.5):
        x = b.pick(lambda t: t.rank == 4 and t.shape[1].fixed and t.shape[1].size % 4 == 0)
        n, c, h, w = x.shape
        mode = b.rng.choice(["DCR", "CRD"])
        y = b.node("DepthToSpace", [x.name], blocksize=2, mode=mode)
        return b.add(y, (n, Dim(c.size // 4), Dim(2) * h, Dim(2) * w))
    x = b.pick(lambda t: t.rank == 4 and all(d.fixed and d.size % 2 == 0 for d in t.shape[1:]))
    n, c, h, w = x.shape
    y = b.node("SpaceToDepth", [x.name], blocksize=2)
    return b.add(y, (n, Dim(4) * c, Dim(h.size // 2), Dim(w.size // 2)))


@op(1)
def shuffle_channels(b: Builder) -> Tensor:
    x = b.pick(lambda t: has_channels(t) and t.shape[1].size > 3)
    c = x.shape[1].size
    groups = b.divisor(c)
    parts = (x.shape[0], Dim(groups), Dim(c // groups), *x.shape[2:])
    split = b.reshape(x, parts)
    order = [0, 2, 1, *range(3, x.rank + 1)]
    moved = Tensor(b.node("Transpose", [split.name], perm=order), tuple(parts[i] for i in order))
    return b.add(b.reshape(moved, x.shape).name, x.shape)


# Attention


def _heads(b: Builder, x: Tensor, heads: int, width: int) -> Tensor:
    n, t, _ = x.shape
    y = b.reshape(x, (n, t, Dim(heads), Dim(width)))
    name = b.node("Transpose", [y.name], perm=[0, 2, 1, 3])
    return Tensor(name, (n, Dim(heads), t, Dim(width)))


def _rotate(b: Builder, x: Tensor) -> Tensor:
    width = x.shape[-1].size
    if width % 2 or not x.shape[2].fixed:
        return x
    half, along = b.ints([width // 2]), b.ints([3])
    low = b.node("Slice", [x.name, b.ints([0]), half, along])
    high = b.node("Slice", [x.name, half, b.ints([2**63 - 1]), along])
    turned = b.node("Concat", [b.node("Neg", [high]), low], axis=-1)
    table = (x.shape[2].size, width)
    left = b.node("Mul", [x.name, b.weight(*table)])
    return Tensor(b.node("Add", [left, b.node("Mul", [turned, b.weight(*table)])]), x.shape)


@op(2)
def attention(b: Builder) -> Tensor:
    x = b.pick(lambda t: t.rank == 3 and ends_fixed(t))
    n, t, c = x.shape
    kv, repeat, width = b.rng.choice([1, 2, 4]), b.rng.choice([1, 1, 2]), b.rng.choice([2, 4])
    heads = kv * repeat
    sizes = [heads * width, kv * width, kv * width]
    if b.chance(0.4):
        merged = b.node("MatMul", [x.name, b.weight(c.size, sum(sizes))])
        if b.chance(0.5):
            merged = b.node("Add", [merged, b.weight(sum(sizes))])
        parts = b.results("Split", [merged, b.ints(sizes)], 3, axis=-1)
    else:
        parts = [b.node("MatMul", [x.name, b.weight(c.size, size)]) for size in sizes]
    q, k, v = (
        _heads(b, Tensor(part, (n, t, Dim(size))), size // width, width)
        for part, size in zip(parts, sizes, strict=True)
    )
    if b.chance(0.3):
        q, k = _rotate(b, q), _rotate(b, k)
    if repeat > 1:
        k, v = (_repeat(b, tensor, repeat) for tensor in (k, v))
    mixed = _attend(b, q, k, v)
    back = (n, t, Dim(heads), Dim(width))
    moved = Tensor(b.node("Transpose", [mixed.name], perm=[0, 2, 1, 3]), back)
    flat = b.reshape(moved, (n, t, Dim(heads * width)))
    y = b.node("MatMul", [flat.name, b.weight(heads * width, c.size)])
    return b.add(b.node("Add", [x.name, y]) if b.chance(0.6) else y, x.shape)


def _repeat(b: Builder, x: Tensor, times: int) -> Tensor:
    """Every key head once per query head."""
    n, h, t, w = x.shape
    wide = (n, h, Dim(times), t, w)
    y = b.node("Unsqueeze", [x.name, b.ints([2])])
    y = b.node("Expand", [y, b.spell(wide)])
    return b.reshape(Tensor(y, wide), (n, Dim(times) * h, t, w))


def _attend(b: Builder, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    flipped = b.node("Transpose", [k.name], perm=[0, 1, 3, 2])
    scores = b.node("MatMul", [q.name, flipped])
    match b.rng.choice(["number", "size", "none"]):
        case "number":
            scores = b.node("Mul", [scores, b.number(0.5)])
        case "size":
            kind = 11 if b.dtype == np.float64 else 1
            size = b.node("Shape", [q.name], start=3, end=4)
            root = b.node("Sqrt", [b.node("Cast", [size], to=kind)])
            scores = b.node("Div", [scores, root])
    weights = b.node("Softmax", [scores], axis=-1)
    return Tensor(b.node("MatMul", [weights, v.name]), q.shape)


@op(1.5)
def counted(b: Builder) -> Tensor:
    """All of an axis, counted from data: nobody but the model knows that it is all."""
    x = b.pick(lambda t: t.rank > 0)
    axis = b.rng.randrange(x.rank)
    others = [i for i in range(x.rank) if i != axis]
    line = b.node("ReduceSum", [x.name, b.ints(others)], keepdims=0) if others else x.name
    true = b.node("Equal", [line, line])
    kind = b.rng.choice(["NonZero", "NonZero", "Compress", "Slice", "TopK", "Expand", "Reshape"])
    if kind == "Compress":
        return b.add(b.node("Compress", [x.name, true], axis=axis), x.shape)
    if kind == "NonZero":
        places = b.node("Squeeze", [b.node("NonZero", [true]), b.ints([0])])
        return b.add(b.node("Gather", [x.name, places], axis=b.axis(x.rank, axis)), x.shape)
    ones = b.node("Cast", [true], to=TensorProto.INT64)
    end = b.node("ReduceSum", [ones, b.ints([0])], keepdims=1)
    if kind in ("Expand", "Reshape"):
        sizes = [end if i == axis else b.entry(dim) for i, dim in enumerate(x.shape)]
        target = b.node("Concat", sizes, axis=0)
        return b.add(b.node(kind, [x.name, target]), x.shape)
    if kind == "Slice":
        inputs = [x.name, b.ints([0]), end, b.ints([axis])]
        return b.add(b.node("Slice", inputs), x.shape)
    return b.add(b.node("TopK", [x.name, end], 2, axis=b.axis(x.rank, axis)), x.shape)
