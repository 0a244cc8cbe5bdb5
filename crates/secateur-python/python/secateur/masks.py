"""Masks on the parameters of a live module: weights that are zero, and stay zero in training.

Masks are parametrizations: the module's code reads the masked weight, and the optimizer goes on
holding the same parameter underneath. Nothing is removed and everything can be undone, so that
weights can be compared before `Pruner` cuts them for good. Several masks on one parameter compose:
each later one chooses among what is left, as `torch.nn.utils.prune.PruningContainer` does.

    masks = sc.mask(model, amount=0.5)              # half of every weight, by magnitude
    train(model)                                    # the zeros stay
    print(sc.sparsity(model))
    masks.unmask()                                  # or `sc.make_permanent(model)`
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur._indices import HasGraph, graph_of
from secateur._masking import (
    Place,
    chosen,
    keep_of,
    mask_of,
    masked,
    place_of,
    put,
    raw,
    read,
    same,
    take_off,
)
from secateur._secateur import SecateurError
from secateur.pruner import Graph, Keeps

Importance = Callable[[Tensor], Tensor]
"""How much every element of a parameter matters: a tensor of the parameter's shape."""
_KEY = re.compile(r"((?:.+\.)?)parametrizations\.(\w+)\.\d+\.keep")


@dataclass
class Masks:
    """What was masked by one call, and how it is undone. As a context, it is undone at the end."""

    before: list[tuple[Place, Tensor | None]] = field(default_factory=list)
    hidden: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def unmask(self) -> None:
        """Takes these masks off: earlier ones and the weights are as they were.

        The last call is undone first. What an optimizer did to hidden weights meanwhile (weight
        decay, the rest of a momentum) is not undone.

        # Raises
        SecateurError: what an earlier mask hid, or a buffer, was cut since; then nothing changes.
        """
        known = [(now.keep, keep) for place, keep in self.before if (now := mask_of(place))]
        known += [(buffer, keep) for buffer, keep, _ in self.hidden]
        if any(keep is not None and now.shape != keep.shape for now, keep in known):
            raise SecateurError(
                "tensors were cut since they were masked\n"
                "hint: `secateur.unmask(module)` takes all masks off"
            )
        for place, keep in reversed(self.before):
            if keep is None:
                take_off(place, permanent=False)
            elif (now := mask_of(place)) is not None:
                now.keep.copy_(keep)
        with torch.no_grad():
            for buffer, keep, values in self.hidden:
                buffer.copy_(torch.where(keep, buffer, values))
        self.before.clear()
        self.hidden.clear()

    def __enter__(self) -> "Masks":
        return self

    def __exit__(self, *_: object) -> None:
        self.unmask()


def mask(
    module: nn.Module,
    names: str | Sequence[str] | None = None,
    *,
    amount: float,
    method: str | Importance = "l1",
    dim: int | None = None,
    scope: str = "local",
    seed: int = 0,
) -> Masks:
    """Masks the least important elements, or slices along `dim`, of parameters.

    `names` are names or globs of parameters (`"conv1.weight"`, `"*.weight"`); without them, every
    parameter of two or more dimensions is meant. `amount` is a fraction (a float in [0, 1]) or a
    number (an int) of what is not masked yet: of every parameter where `scope` is `"local"`, of all
    of them together where it is `"global"`. `method` is `"random"`, `"l1"`, `"l2"`, `"l<n>"` (the
    norm of a slice; one element has only a magnitude, so all norms agree on it) or a callable that
    gives the importance of every element, which slices sum.

    # Raises
    SecateurError: no parameter matches, or an option is out of its range; then nothing has changed.
    """
    places = chosen(module, names)
    if scope not in ("local", "global"):
        raise SecateurError(f"there is no scope `{scope}`\nhint: `local` or `global`")
    draw = torch.Generator().manual_seed(seed)
    units = {name: _Units(read(place), keep_of(place), dim, name) for name, place in places}
    scores = [unit.scores(method, draw) for unit in units.values()]
    pairs = zip(scores, units.values(), strict=True)
    if scope == "local":
        gone = [_lowest(score, unit.left(), amount) for score, unit in pairs]
    else:
        left = torch.cat([unit.left().cpu() for unit in units.values()])
        flat = torch.cat([score.double().cpu() for score in scores])
        gone = list(_lowest(flat, left, amount).split([len(score) for score in scores]))
    keeps = [unit.keep & ~unit.spread(out) for unit, out in zip(units.values(), gone, strict=True)]
    return _put_all(module, [place for _, place in places], keeps)


def mask_with(module: nn.Module, keeps: Mapping[str, Tensor | Callable[[Tensor], Tensor]]) -> Masks:
    """Masks parameters with masks of your own, by name or glob.

    A mask is a tensor of the parameter's shape, or a callable that makes one from the weight; what
    is nonzero stays.

    # Raises
    SecateurError: no parameter matches, or a mask has another shape; then nothing has changed.
    """
    places: list[Place] = []
    found: list[Tensor] = []
    for pattern, given in keeps.items():
        for name, place in chosen(module, pattern):
            weight = read(place)
            keep = given(weight) if callable(given) else given
            if keep.shape != weight.shape:
                raise SecateurError(
                    f"the mask of `{name}` has the shape {list(keep.shape)}, and the parameter "
                    f"{list(weight.shape)}"
                )
            places.append(place)
            found.append(keep.to(weight.device) != 0)
    return _put_all(module, places, found)


def mask_pattern(
    module: nn.Module,
    names: str | Sequence[str] | None = None,
    *,
    keep: int = 2,
    of: int = 4,
    dim: int = 1,
) -> Masks:
    """Masks all but the `keep` largest of every `of` neighbors along `dim`: 2:4 by default.

    Without `names`, parameters of two or more dimensions whose size along `dim` is no multiple of
    `of` are left whole (first convolutions, depthwise ones).

    # Raises
    SecateurError: no parameter fits, or one that was named does not; then nothing has changed.
    """
    if not 0 < keep < of:
        raise SecateurError(f"the pattern {keep}:{of} is none\nhint: 0 < keep < of")
    places: list[Place] = []
    keeps: list[Tensor] = []
    for name, place in chosen(module, names):
        weight = read(place)
        if weight.dim() > dim and weight.shape[dim] % of == 0:
            places.append(place)
            keeps.append(_pattern(weight, keep, of, dim))
        elif names is not None:
            size = f"shape {list(weight.shape)}"
            raise SecateurError(f"`{name}` ({size}) has no multiple of {of} along dimension {dim}")
    if not places:
        raise SecateurError(f"no parameter has a multiple of {of} along dimension {dim}")
    return _put_all(module, places, keeps)


def mask_groups(target: Graph | HasGraph, keeps: Keeps) -> Masks:
    """Hides all that pruning to these indices would remove; nothing changes its shape.

    Where every group is exact, the masked module computes what the pruned one does. Parameters are
    masked; removed elements of floating buffers (running statistics) are set to zero, and are back
    after `unmask()`.

        with sc.mask_groups(graph, {"conv1.weight:0": [0, 2]}):
            expected = module(x)

    # Raises
    SecateurError: a group or an index is not there; then nothing has changed.
    """
    graph = graph_of(target)
    named = {name: list(keep) for name, keep in keeps.items()}
    places: list[Place] = []
    found: list[Tensor] = []
    buffers: list[tuple[Tensor, Tensor]] = []
    for name, keep in graph._model.changes(named).slices():
        place = place_of(graph.module, name)
        tensor = read(place)
        kept = _outer(tensor, keep)
        if isinstance(raw(place), nn.Parameter):
            places.append(place)
            found.append(kept)
        elif tensor.is_floating_point():
            buffers.append((tensor, kept))
    masks = _put_all(graph.module, places, found)
    with torch.no_grad():
        for buffer, kept in buffers:
            masks.hidden.append((buffer, kept, buffer.clone()))
            buffer.masked_fill_(~kept, 0)
    return masks


def unmask(module: nn.Module, names: str | Sequence[str] | None = None) -> None:
    """Takes all masks off these parameters: they read what they hold underneath."""
    for place in masked(module, names):
        take_off(place, permanent=False)


def make_permanent(module: nn.Module, names: str | Sequence[str] | None = None) -> None:
    """Writes the zeros into these parameters, which keep their identity, and takes masks off."""
    for place in masked(module, names):
        take_off(place, permanent=True)


def load_masked(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Loads the `state_dict()` of a masked module into one built from its code, masks included.

    # Raises
    SecateurError: it has a mask on a parameter that the module does not have.
    """
    for key, keep in state.items():
        if found := _KEY.fullmatch(key):
            place = place_of(module, f"{found[1]}{found[2]}")
            if mask_of(place) is None:
                put(place, keep.clone())
    module.load_state_dict(state)


@dataclass(frozen=True)
class Sparsity:
    """How many elements of every parameter are zero: rows of name, zeros, elements."""

    rows: tuple[tuple[str, int, int], ...]

    @property
    def zeros(self) -> int:
        return sum(zeros for _, zeros, _ in self.rows)

    @property
    def elements(self) -> int:
        return sum(elements for _, _, elements in self.rows)

    @property
    def total(self) -> float:
        """The share of all elements that is zero."""
        return self.zeros / max(self.elements, 1)

    def of(self, name: str) -> float:
        """The share of the elements of one parameter that is zero."""
        found = [zeros / elements for row, zeros, elements in self.rows if row == name]
        if not found:
            raise SecateurError(f"there is no parameter `{name}`")
        return found[0]

    def __str__(self) -> str:
        rows = [*self.rows, ("all", self.zeros, self.elements)]
        width = max(len(name) for name, _, _ in rows)
        lines = [
            f"{name:<{width}}  {zeros:>12,} of {elements:>12,}  {zeros / max(elements, 1):>7.2%}"
            for name, zeros, elements in rows
        ]
        return "\n".join(lines)


def sparsity(module: nn.Module, names: str | Sequence[str] | None = None) -> Sparsity:
    """Counts zeros as the module's code reads its parameters, masks or not."""
    rows = []
    for name, place in chosen(module, names, least=2 if names is None else 0):
        weight = read(place)
        rows.append((name, int((weight == 0).sum()), weight.numel()))
    return Sparsity(tuple(rows))


class _Units:
    """What of a parameter is masked together: its elements, or its slices along `dim`."""

    def __init__(self, weight: Tensor, keep: Tensor, dim: int | None, name: str) -> None:
        if dim is not None and not -weight.dim() <= dim < weight.dim():
            raise SecateurError(f"`{name}` (shape {list(weight.shape)}) has no dimension {dim}")
        self.weight, self.keep = weight, keep
        self.dim = None if dim is None else dim % weight.dim()

    def left(self) -> Tensor:
        """Which units are not masked yet: a flat tensor of booleans."""
        return self.keep.flatten() if self.dim is None else self._rows(self.keep).any(1)

    def scores(self, method: str | Importance, draw: torch.Generator) -> Tensor:
        """How much every unit matters: a flat tensor."""
        if callable(method):
            given = method(self.weight)
            return given.flatten() if self.dim is None else self._rows(given).sum(1)
        if method == "random":
            count = self.weight.numel() if self.dim is None else self.weight.shape[self.dim]
            return torch.rand(count, generator=draw, device="cpu").to(self.weight.device)
        norm = _norm(method)
        if self.dim is None:
            return self.weight.abs().flatten()
        return torch.linalg.vector_norm(self._rows(self.weight), norm, dim=1)

    def spread(self, units: Tensor) -> Tensor:
        """A flag per unit as flags of elements."""
        units = units.to(self.weight.device)
        if self.dim is None:
            return units.view(self.weight.shape)
        shape = [-1 if axis == self.dim else 1 for axis in range(self.weight.dim())]
        return units.view(shape).expand(self.weight.shape)

    def _rows(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(self.dim or 0, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]


def _norm(method: str) -> float:
    try:
        norm = float(method.removeprefix("l")) if method.startswith("l") else math.nan
    except ValueError:
        norm = math.nan
    if math.isnan(norm):
        raise SecateurError(
            f"there is no method `{method}`\nhint: `random`, `l1`, `l2`, `linf`, or a callable"
        )
    return norm


def _lowest(scores: Tensor, left: Tensor, amount: float) -> Tensor:
    """Flags of the lowest scores among those that are left."""
    count = _count(amount, int(left.sum()))
    open_scores = scores.masked_fill(~left, math.inf)
    gone = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    gone[torch.topk(open_scores, count, largest=False).indices] = True
    return gone


def _count(amount: float, size: int) -> int:
    """A number of units from a number or a fraction, rounded as PyTorch rounds it."""
    if isinstance(amount, bool) or not (isinstance(amount, (int, float)) and amount >= 0):
        raise SecateurError(f"the amount {amount} is neither a fraction nor a number")
    if isinstance(amount, float):
        if not amount <= 1:
            raise SecateurError(f"the fraction {amount} is above 1\nhint: an int is a number")
        return round(amount * size)
    if amount > size:
        raise SecateurError(f"{amount} are to be masked, and {size} are left")
    return amount


def _pattern(weight: Tensor, keep: int, of: int, dim: int) -> Tensor:
    moved = weight.movedim(dim, -1).abs()
    blocks = moved.unflatten(-1, (-1, of))
    flags = torch.zeros_like(blocks, dtype=torch.bool)
    flags.scatter_(-1, blocks.topk(keep, dim=-1).indices, True)
    return flags.flatten(-2).movedim(-1, dim)


def _outer(tensor: Tensor, keep: Sequence[Sequence[int] | None]) -> Tensor:
    """Flags of the elements that are kept on every axis."""
    flags = torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
    for axis, positions in enumerate(keep):
        if positions is not None:
            line = torch.zeros(tensor.shape[axis], dtype=torch.bool, device=tensor.device)
            line[list(positions)] = True
            flags &= line.view([-1 if other == axis else 1 for other in range(tensor.dim())])
    return flags


def _put_all(module: nn.Module, places: Sequence[Place], keeps: Sequence[Tensor]) -> Masks:
    """Puts masks on parameters, wherever they are read."""
    masks = Masks()
    for place, keep in zip(places, keeps, strict=True):
        for one in same(module, place):
            now = mask_of(one)
            masks.before.append((one, None if now is None else now.keep.clone()))
            put(one, keep)
    return masks
