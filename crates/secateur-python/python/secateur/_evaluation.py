"""Runs a module from the output of a layer onwards, with that output changed.

One full run of a batch notes what every PyTorch function returned. Later runs return that again for
all functions before the point, and compute only what follows it: the module's own code runs, so no
tracing, no `forward_partial` and no fixed control flow is needed. What is not a PyTorch function
before the point (a custom `autograd.Function`, a scripted submodule) is computed again.

Points are found at the level of PyTorch's functions, like `relu` or `batch_norm`, and not of ATen
calls: functions are seen above autograd, in modules and in code alike. Knows nothing of scores.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from secateur._capture import _quiet
from secateur._secateur import SecateurError

Inputs = tuple[tuple[Any, ...], Mapping[str, Any]]
Edit = Callable[[Tensor, int], Tensor]
"""What a point's output becomes: of the output, and of which call of the layer it is."""

NORMS = frozenset(("batch_norm", "instance_norm"))
"""Norms that treat every unit by itself; others mix units, so that no point lies behind them."""
ACTIVATIONS = (
    frozenset(("relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "gelu"))
    | frozenset(("silu", "mish", "sigmoid", "logsigmoid", "tanh", "softplus", "softsign"))
    | frozenset(("tanhshrink", "softshrink", "hardshrink", "hardtanh", "hardswish", "hardsigmoid"))
    | frozenset(("threshold", "clamp", "clip"))
)
PASSED = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"))
"""What does nothing in evaluation mode."""


@dataclass
class _Called:
    """One call of a function: its name, and the tensors that it reads and makes."""

    name: str
    read: list[Tensor]
    made: list[Tensor]

    def reads(self, tensor: Tensor) -> bool:
        return any(one is tensor for one in self.read)

    def makes(self, tensor: Tensor) -> bool:
        return any(one is tensor for one in self.made)


@dataclass(frozen=True)
class Point:
    """The place of a tensor: the function call that makes it, and which of its outputs it is."""

    call: int
    leaf: int
    name: str


@dataclass(frozen=True)
class Points:
    """The places of a layer's output, once per call of the layer, in a run of so many calls."""

    each: tuple[Point, ...]
    total: int

    @property
    def by_call(self) -> dict[int, tuple[int, int]]:
        """By function call: which call of the layer it is, and which output."""
        return {point.call: (number, point.leaf) for number, point in enumerate(self.each)}


class Moved(Exception):
    """The module called other functions than when the points were found: find them again."""


class _Observer(TorchFunctionMode):
    """Notes all calls of functions. What they read and make is kept, so that identities hold."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Called] = []

    def __torch_function__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append(_Called(_name(func), _tensors((args, kwargs)), _tensors(out)))
        return out


def points(module: nn.Module, layer: nn.Module, inputs: Inputs, *, best: bool) -> Points:
    """Where the output of a layer is made, once per call of the layer.

    With `best`, behind the norm and the activation that follow it: as long as one function alone
    reads the value, and treats every unit by itself.

    # Raises
    SecateurError: the layer does not run, or its output is made by no PyTorch function.
    """
    observer = _Observer()
    outputs: list[tuple[Tensor, int]] = []

    def note(_layer: nn.Module, _args: object, out: object) -> None:
        made = _tensors(out)
        if made:
            outputs.append((made[0], len(observer.calls)))

    hook = layer.register_forward_hook(note)
    try:
        with torch.no_grad(), observer:
            returned = _tensors(module(*inputs[0], **inputs[1]))
    finally:
        hook.remove()
    if not outputs:
        raise SecateurError(f"the layer `{type(layer).__name__}` does not run, or makes no tensor")
    found = [_maker(observer.calls, tensor, end) for tensor, end in outputs]
    if best:
        found = [_followed(observer.calls, call, returned) for call in found]
    each = tuple(Point(call, leaf, observer.calls[call].name) for call, leaf in found)
    return Points(each, len(observer.calls))


def _maker(calls: Sequence[_Called], tensor: Tensor, end: int) -> tuple[int, int]:
    for index in reversed(range(end)):
        for leaf, made in enumerate(calls[index].made):
            if made is tensor:
                return index, leaf
    raise SecateurError("the layer's output is made by no PyTorch function: it is passed through")


def _followed(
    calls: Sequence[_Called], start: tuple[int, int], returned: Sequence[Tensor]
) -> tuple[int, int]:
    """The last norm or activation of the chain that begins with a value."""
    best = index, leaf = start
    while True:
        value = calls[index].made[leaf]
        readers = [
            later
            for later in range(index + 1, len(calls))
            if calls[later].reads(value) and calls[later].made
        ]
        alone = len(readers) == 1 or (readers and calls[readers[0]].makes(value))
        if not alone or calls[readers[0]].read[0] is not value:
            return best
        reader = calls[readers[0]]
        own = reader.name in NORMS or reader.name in ACTIVATIONS
        same = len(reader.made) == 1 and reader.made[0].shape == value.shape
        outside = any(one is value for one in returned) and not reader.makes(value)
        if outside or not same or not (own or reader.name in PASSED):
            return best
        index, leaf = readers[0], 0
        if own:
            best = index, leaf


@dataclass
class _Tape:
    """What the functions before the first point returned, and that point's own output."""

    returned: list[Any] = field(default_factory=list)
    point: Any = None
    versions: list[tuple[Tensor, int]] = field(default_factory=list)
    copies: dict[int, Tensor] = field(default_factory=dict)  # by identity, as of the point

    def written(self) -> list[Tensor]:
        """What is written after the point was reached, of what was made before it."""
        found = {id(t): t for t, version in self.versions if t._version != version}
        return list(found.values())


class _Recorder(TorchFunctionMode):
    """Runs everything, and keeps a tape of what comes before the first point."""

    def __init__(self, points: Points, copied: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.at = points.by_call
        self.names = {point.call: point.name for point in points.each}
        self.first = min(self.at)
        self.copied = copied
        self.count = 0
        self.moved = False
        self.tape = _Tape()
        self.values: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        index, self.count = self.count, self.count + 1
        out = func(*args, **(kwargs or {}))
        if index < self.first:
            self.tape.returned.append(out)
        elif index == self.first:
            self._reach(out)
        if index in self.at and not self._has_moved(func, index):
            self.values.append(_tensors(out)[self.at[index][1]].detach().clone())
        return out

    def _has_moved(self, func: Any, index: int) -> bool:
        """Whether this is not the function of the point. The run goes on, as code may cache."""
        self.moved |= _name(func) != self.names[index]
        return self.moved

    def _reach(self, out: object) -> None:
        self.tape.point = out
        for index, returned in enumerate(self.tape.returned):
            for tensor in _tensors(returned):
                self.tape.versions.append((tensor, tensor._version))
                if index in self.copied:
                    self.tape.copies[id(tensor)] = tensor.clone()


class _Replayer(TorchFunctionMode):
    """Returns what is on the tape, then an edited point, then computes."""

    def __init__(
        self, points: Points, tape: _Tape | None, values: list[Tensor], edit: Edit
    ) -> None:
        super().__init__()
        self.at = points.by_call
        self.first = min(self.at) if tape else -1
        self.tape, self.edit = tape or _Tape(), edit
        self.count = 0
        self.fresh = {key: copy.clone() for key, copy in self.tape.copies.items()}
        if tape:
            number, leaf = self.at[self.first]
            self.value = edit(values[number], number)
            self.fresh[id(_tensors(tape.point)[leaf])] = self.value

    def __torch_function__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        index, self.count = self.count, self.count + 1
        if index < self.first:
            return self._again(self.tape.returned[index])
        if index == self.first:
            return self._again(self.tape.point)
        out = func(*args, **(kwargs or {}))
        return self._edited(out, *self.at[index]) if index in self.at else out

    def _again(self, out: object) -> Any:
        if isinstance(out, Tensor):
            return self.fresh.get(id(out), out)
        if any(id(tensor) in self.fresh for tensor in _tensors(out)):
            return pytree.tree_map_only(Tensor, lambda t: self.fresh.get(id(t), t), out)
        return out

    def _edited(self, out: object, number: int, leaf: int) -> Any:
        leaves, spec = pytree.tree_flatten(out)
        places = [place for place, one in enumerate(leaves) if isinstance(one, Tensor)]
        leaves[places[leaf]] = self.edit(leaves[places[leaf]], number)
        return pytree.tree_unflatten(leaves, spec)


class Batch:
    """One batch, recorded: it runs again from the points onwards as often as one likes.

    # Raises
    Moved: the points were found in a run of other function calls.
    """

    def __init__(self, module: nn.Module, inputs: Inputs, points: Points) -> None:
        self.module, self.inputs, self.points = module, inputs, points
        recorder, self.output = self._record()
        written = {id(tensor) for tensor in recorder.tape.written()}
        if written:
            copied = frozenset(
                index
                for index, out in enumerate(recorder.tape.returned)
                if any(id(tensor) in written for tensor in _tensors(out))
            )
            recorder, self.output = self._record(copied)
        self.tape = recorder.tape
        self.values = recorder.values
        """What the points make: one tensor per call of the layer."""

    @cached_property
    def skips(self) -> bool:
        """Whether what comes before the points need not be computed again.

        It is whether a run from there onwards gives what the full run gave.
        """
        try:
            with torch.no_grad():
                again = _tensors(self._run(lambda value, _: value.clone(), self.tape))
        except Exception:  # code that asks for what the tape does not hold raises anything
            return False
        pairs = zip(_tensors(self.output), again, strict=True)
        return all(torch.allclose(a, b, 1e-4, 1e-5, equal_nan=True) for a, b in pairs)

    def run(self, edit: Edit) -> Any:
        """The module's output where the points' outputs are edited."""
        return self._run(edit, self.tape if self.skips else None)

    def _run(self, edit: Edit, tape: _Tape | None) -> Any:
        args, kwargs = self._inputs()
        with _Replayer(self.points, tape, self.values, edit):
            return self.module(*args, **kwargs)

    def _record(self, copied: frozenset[int] = frozenset()) -> tuple[_Recorder, Any]:
        recorder = _Recorder(self.points, copied)
        args, kwargs = self._inputs()
        with torch.no_grad(), recorder:
            out = self.module(*args, **kwargs)
        if recorder.moved or recorder.count != self.points.total:
            raise Moved
        return recorder, out

    def _inputs(self) -> Inputs:
        """Copies, which the module may write to."""
        return pytree.tree_map_only(Tensor, torch.clone, self.inputs)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; modes and the state of random number generators are as they were after."""
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        with _quiet():
            yield
    finally:
        for one, mode in modes:
            one.training = mode


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _name(func: Any) -> str:
    """The name of a function; in-place ones have that of the others."""
    return getattr(func, "__name__", "").removesuffix("_")
