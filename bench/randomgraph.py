"""Random small ONNX models that ONNX Runtime runs at every batch size and number of tokens.

A model grows from its inputs: each step picks tensors that it has and adds an operator, or a
pattern of several, that fits them. Sizes come from a short list, so that unrelated axes are often
equal, and equal the batch. The same seed gives the same model.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = (1, 2, 3, 4, 6, 8, 12)
CHANNELS = (2, 4, 4, 6, 6, 8, 8, 12)
MAX_ELEMENTS = 6000


@dataclass(frozen=True)
class Dim:
    """`size · batch^b · tokens^t`: what a dimension is at every input size."""

    size: int
    batch: int = 0
    tokens: int = 0

    @property
    def fixed(self) -> bool:
        return not self.batch and not self.tokens

    def at(self, batch: int, tokens: int) -> int:
        return self.size * batch**self.batch * tokens**self.tokens

    def __mul__(self, other: "Dim") -> "Dim":
        return Dim(self.size * other.size, self.batch + other.batch, self.tokens + other.tokens)


ONE = Dim(1)
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)


def total(shape: Sequence[Dim]) -> Dim:
    result = ONE
    for dim in shape:
        result = result * dim
    return result


class Misfit(Exception):
    """The operator does not fit the tensors that were picked."""


@dataclass
class Model:
    proto: onnx.ModelProto
    inputs: dict[str, Shape]
    ids: dict[str, int]  # integer inputs and their vocabularies
    sizes: tuple[int, int]  # batch and tokens to analyze at


@dataclass
class Builder:
    rng: random.Random
    dtype: type
    open: bool
    batch: int
    tokens: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)
    pool: list[Tensor] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    weights: dict[tuple[int, ...], list[str]] = field(default_factory=dict)
    literals: dict[tuple, str] = field(default_factory=dict)
    count: int = 0

    # Names, stored tensors, nodes

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: object) -> str:
        """Adds a node; returns its first result."""
        return self.results(op, inputs, outputs, **attributes)[0]

    def results(
        self, op: str, inputs: Sequence[str], count: int, **attributes: object
    ) -> list[str]:
        names = [self.name(op.lower() + "_") for _ in range(count)]
        node = helper.make_node(op, list(inputs), names, name=names[0], **attributes)
        self.nodes.append(node)
        return names

    def add(self, name: str, shape: Sequence[Dim]) -> Tensor:
        tensor = Tensor(name, tuple(shape))
        if tensor.shape and self.elements(tensor.shape) > MAX_ELEMENTS:
            raise Misfit
        self.pool.append(tensor)
        return tensor

    def elements(self, shape: Sequence[Dim]) -> int:
        return prod(dim.at(max(self.batch, 3), max(self.tokens, 7)) for dim in shape)

    def store(self, array: np.ndarray, prefix: str = "w") -> str:
        """A stored tensor: an initializer, a `Constant`, or one of them behind an `Identity`."""
        name = self.name(prefix)
        tensor = numpy_helper.from_array(array, name)
        if self.chance(0.1):
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
        else:
            self.stored.append(tensor)
        return self.node("Identity", [name]) if self.chance(0.05) else name

    def weight(self, *shape: int) -> str:
        """Random numbers, none of them zero; now and then those that another node has too."""
        known = self.weights.setdefault(shape, [])
        if known and self.chance(0.15):
            return self.rng.choice(known)
        flipped = self.weights.get(shape[::-1], [])
        if len(shape) == 2 and flipped and self.chance(0.1):
            return self.node("Transpose", [self.rng.choice(flipped)], perm=[1, 0])
        numbers = np.random.default_rng(self.rng.randrange(2**32))
        array = numbers.uniform(0.3, 1.2, shape) * numbers.choice([-1.0, 1.0], shape)
        fan_in = prod(shape[1:]) if len(shape) > 2 else prod(shape[:1]) if len(shape) == 2 else 1
        name = self.store((array / max(fan_in, 1) ** 0.5).astype(self.dtype))
        known.append(name)
        return name

    def number(self, value: float) -> str:
        shape = self.rng.choice([(), (), (1,), (1, 1)])
        return self.store(np.full(shape, value, self.dtype), "c")

    def ints(self, values: Sequence[int], scalar: bool = False) -> str:
        """Integers, often those of another node."""
        key = (tuple(values), scalar)
        if key in self.literals and self.chance(0.6):
            return self.literals[key]
        array = np.array(values[0] if scalar else values, np.int64)
        self.literals[key] = self.store(array, "i")
        return self.literals[key]

    # Choices

    def pick(self, fits: Callable[[Tensor], bool]) -> Tensor:
        """A tensor of the pool; mostly a late one that nothing reads yet."""
        found = [tensor for tensor in self.pool if fits(tensor)]
        if not found:
            raise Misfit
        fresh = [tensor for tensor in found if tensor.name not in self.used]
        if fresh and self.chance(0.7):
            found = fresh
        late = found[-3:] if self.chance(0.6) else found
        chosen = self.rng.choice(late)
        self.used.add(chosen.name)
        return chosen

    def divisor(self, size: int) -> int:
        return self.rng.choice([d for d in range(1, size + 1) if size % d == 0])

    def axis(self, rank: int, axis: int) -> int:
        return axis - rank if self.chance(0.4) else axis

    # Shapes that a node reads

    def size(self, dim: Dim) -> str | None:
        """A computed vector of one element: the size of a live axis that is always `dim`."""
        found = [(t, i) for t in self.pool for i, other in enumerate(t.shape) if other == dim]
        if not found:
            return None
        tensor, axis = self.rng.choice(found[-6:])
        if self.chance(0.3):
            return self.node("Shape", [tensor.name], start=axis, end=axis + 1)
        shape = self.node("Shape", [tensor.name])
        if self.chance(0.5):
            return self.node("Gather", [shape, self.ints([axis])], axis=0)
        scalar = self.node("Gather", [shape, self.ints([axis], scalar=True)], axis=0)
        return self.node("Unsqueeze", [scalar, self.ints([0])])

    def entry(self, dim: Dim) -> str:
        """A vector of one element that is `dim`, as a literal where possible, or computed."""
        if dim.fixed and self.chance(0.5):
            return self.ints([dim.size])
        direct = self.size(dim)
        if direct and self.chance(0.7):
            return direct
        factor = self.rng.choice([2, 3, 4])
        if larger := self.size(Dim(dim.size * factor, dim.batch, dim.tokens)):
            return self.node("Div", [larger, self.ints([factor])])
        if dim.fixed or dim.size > 1:
            rest = self.size(Dim(1, dim.batch, dim.tokens)) if not dim.fixed else None
            divisor = self.divisor(dim.size)
            if rest:
                return self.node("Mul", [rest, self.ints([dim.size])])
            if (part := self.size(Dim(dim.size // divisor, dim.batch, dim.tokens))) is not None:
                return self.node("Mul", [part, self.ints([divisor])])
        if dim.batch and dim.tokens:
            batch, tokens = self.size(Dim(1, 1)), self.size(Dim(dim.size, 0, 1))
            if batch and tokens and dim.batch == dim.tokens == 1:
                return self.node("Mul", [batch, tokens])
        if direct:
            return direct
        if dim.fixed:
            return self.ints([dim.size])
        raise Misfit

    def spell(self, shape: Sequence[Dim], source: Shape | None = None) -> str:
        """A tensor with the numbers of a shape. With `source`, the target of its reshape."""
        entries: list[int | None] = [dim.size if dim.fixed else None for dim in shape]
        if source is not None:
            for index, dim in enumerate(shape):
                if index < len(source) and source[index] == dim and self.chance(0.4):
                    entries[index] = 0
            missing = [i for i, entry in enumerate(entries) if entry is None]
            if not missing and self.chance(0.4):
                missing = [self.rng.randrange(len(shape))] if shape else []
            if missing and self.chance(0.6):
                entries[self.rng.choice(missing)] = -1
        if all(entry is not None for entry in entries) and self.chance(0.7):
            return self.ints([entry or 0 for entry in entries])
        parts = []
        if source is not None and self.chance(0.2):
            same = [a == b for a, b in zip(shape, source, strict=False)]
            shared = (*same, False).index(False)
            if 0 < shared < len(shape):
                whole = self.node("Shape", [self.source(source)])
                parts.append(self.node("Slice", [whole, self.ints([0]), self.ints([shared])]))
                entries, shape = entries[shared:], shape[shared:]
                entries = [None if entry == 0 else entry for entry in entries]
        for entry, dim in zip(entries, shape, strict=True):
            literal = entry is not None and (entry < 1 or self.chance(0.4))
            parts.append(self.ints([entry]) if literal else self.entry(dim))
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, axis=0)

    def source(self, shape: Shape) -> str:
        """A live tensor of this shape."""
        found = [tensor.name for tensor in self.pool if tensor.shape == shape]
        if not found:
            raise Misfit
        return self.rng.choice(found)

    def reshape(self, tensor: Tensor, shape: Sequence[Dim]) -> Tensor:
        if total(tensor.shape) != total(shape) or not shape:
            raise Misfit
        target = self.spell(shape, tensor.shape)
        return Tensor(self.node("Reshape", [tensor.name, target]), tuple(shape))


def build(seed: int, dtype: type = np.float64) -> Model:
    """The model of a seed, in the given precision."""
    from randomops import OPS  # which imports this module

    rng = random.Random(seed)
    is_open = rng.random() < 0.5
    batch, tokens = rng.choice([1, 1, 2, 4, 6, 8]), rng.choice([16, 4, 6, 8, 12, 1])
    b = Builder(rng, dtype, is_open, batch, tokens)
    inputs, ids = _inputs(b)
    steps, tries = rng.randint(4, 16), 0
    names, weights = list(OPS), [weight for weight, _ in OPS.values()]
    while steps and tries < 150:
        tries += 1
        undo = (len(b.nodes), len(b.stored), len(b.pool), dict(b.literals), dict(b.weights))
        lists = {shape: list(names) for shape, names in b.weights.items()}
        try:
            OPS[rng.choices(names, weights)[0]][1](b)
            steps -= 1
        except Misfit:
            del b.nodes[undo[0] :], b.stored[undo[1] :], b.pool[undo[2] :]
            b.literals, b.weights = undo[3], lists
    return Model(_finish(b, inputs, ids), inputs, ids, (batch, tokens))


def _inputs(b: Builder) -> tuple[dict[str, Shape], dict[str, int]]:
    batch = Dim(1, 1) if b.open else Dim(b.batch)
    tokens = Dim(1, 0, 1) if b.open and b.chance(0.6) else Dim(b.tokens)
    channels = Dim(b.rng.choice(CHANNELS))
    inputs: dict[str, Shape] = {}
    ids: dict[str, int] = {}
    for _ in range(b.rng.choice([1, 1, 1, 2, 2, 3])):
        kind = b.rng.choice(["image", "image", "sequence", "sequence", "vector", "ids"])
        name = b.name("x")
        if b.chance(0.3):
            channels = Dim(b.rng.choice(CHANNELS))
        if kind == "image":
            side = Dim(b.rng.choice([2, 4, 4, 6, 8]))
            inputs[name] = (batch, channels, side, side)
        elif kind == "sequence":
            inputs[name] = (batch, tokens, channels)
        elif kind == "vector":
            inputs[name] = (batch, channels)
        else:
            inputs[name], ids[name] = (batch, tokens), b.rng.choice([4, 8, 12])
            rows = b.weight(ids[name], channels.size)
            b.add(b.node("Gather", [rows, name]), (batch, tokens, channels))
            continue
        b.pool.append(Tensor(name, inputs[name]))
    return inputs, ids


def _finish(b: Builder, inputs: dict[str, Shape], ids: dict[str, int]) -> onnx.ModelProto:
    """Makes outputs of what nothing reads, mostly behind one more layer that frees its channels."""
    read = {name for node in b.nodes for name in node.input}
    ends = [t for t in b.pool if t.name not in read and t.name not in inputs] or b.pool[-1:]
    outputs = []
    for tensor in ends[-4:]:
        last = tensor.shape[-1] if tensor.shape else ONE
        if last.fixed and last.size > 1 and b.chance(0.7):
            name = b.node("MatMul", [tensor.name, b.weight(last.size, 3)])
            tensor = Tensor(name, (*tensor.shape[:-1], Dim(3)))
        elif tensor.rank > 2 and tensor.shape[1].fixed and b.chance(0.7):
            name = b.node("ReduceSum", [tensor.name, b.ints([1])], keepdims=0)
            tensor = Tensor(name, tensor.shape[:1] + tensor.shape[2:])
        outputs.append(tensor)
    made = {t.name: t for t in b.pool if t.name in read and t.name not in inputs}
    if made and b.chance(0.15):
        outputs.append(b.rng.choice(list(made.values())))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(b.dtype))
    graph = helper.make_graph(
        b.nodes,
        "random",
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name in ids else kind, [_declare(d) for d in shape]
            )
            for name, shape in inputs.items()
        ],
        [
            helper.make_tensor_value_info(t.name, kind, [_declare(d) for d in t.shape])
            for t in {t.name: t for t in outputs}.values()
        ],
        b.stored,
    )
    opset = 12 if b.chance(0.3) and _spell_attributes(graph) else 21
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model) if b.chance(0.5) else model


NEW = {"Gelu", "HardSwish", "Mish", "GroupNormalization", "LayerNormalization", "Resize"}
OLD = {"Squeeze": "axes", "Unsqueeze": "axes", "Split": "split"}


def _spell_attributes(graph: onnx.GraphProto) -> bool:
    """Turns axes and sizes into attributes, as up to opset 12. No change where that cannot be."""
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    found: list[tuple[onnx.NodeProto, str, list[int]]] = []
    for node in graph.node:
        newer = {attribute.name for attribute in node.attribute} & {"start", "end", "num_outputs"}
        wide = node.op_type == "Pad" and len(node.input) > 3
        if node.op_type in NEW or newer or wide or node.op_type.endswith("Softmax"):
            return False
        reduces = node.op_type.startswith("Reduce")
        if (reduces or node.op_type in OLD) and len(node.input) > 1:
            if node.input[1] not in stored:
                return False
            values = stored[node.input[1]].tolist()
            found.append((node, OLD.get(node.op_type, "axes"), values))
    for node, name, values in found:
        del node.input[1:]
        node.attribute.append(helper.make_attribute(name, values))
    return True


def _declare(dim: Dim) -> int | str | None:
    names = {(1, 1, 0): "batch", (1, 0, 1): "tokens"}
    return dim.size if dim.fixed else names.get((dim.size, dim.batch, dim.tokens))
