"""Cuts the tensors of a live module in place, all or nothing.

Knows nothing of groups and scores: it is told what is kept of every tensor, and which program the
module must make afterwards.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur import _attributes
from secateur._attributes import Attribute
from secateur._capture import Trace, tensors, trace
from secateur._secateur import SecateurError

Keep = Sequence[Sequence[int] | None]
Undo = Callable[[], None]
Sort = tuple[str, str]
MAX_SORTS = 5
FREE = frozenset(("stride", "storage_offset", "train", "dropout_p"))


@dataclass
class Cut:
    """What is done, and how it is undone."""

    undo: list[Undo] = field(default_factory=list)
    changed: dict[Attribute, int | float] = field(default_factory=dict)

    def rollback(self) -> None:
        for step in reversed(self.undo):
            step()
        self.undo.clear()


def cut(
    module: nn.Module,
    slices: Iterable[tuple[str, Keep]],
    optimizers: Sequence[Optimizer] = (),
) -> Cut:
    """Slices parameters, buffers, gradients and the state of optimizers.

    Parameters keep their identity.
    """
    done = Cut()
    stored = tensors(module)
    indices: dict[tuple[torch.device, tuple[int, ...]], Tensor] = {}

    def kept(tensor: Tensor, keep: Keep) -> Tensor:
        for axis, positions in enumerate(keep):
            if positions is None:
                continue
            key = (tensor.device, tuple(positions))
            if key not in indices:
                indices[key] = torch.tensor(positions, dtype=torch.int64, device=tensor.device)
            tensor = tensor.index_select(axis, indices[key])
        return tensor

    try:
        with torch.no_grad():
            for name, keep in slices:
                _cut_tensor(stored[name], keep, kept, done)
                for optimizer in optimizers:
                    _cut_state(optimizer, stored[name], keep, kept, done)
            forget_derived(module)
    except Exception:
        done.rollback()
        raise
    return done


def _cut_tensor(
    tensor: Tensor, keep: Keep, kept: Callable[[Tensor, Keep], Tensor], done: Cut
) -> None:
    data, grad = tensor.data, tensor.grad
    new, new_grad = kept(data, keep), None if grad is None else kept(grad, keep)

    def put(data: Tensor, grad: Tensor | None) -> None:
        tensor.grad = None
        tensor.data = data
        tensor.grad = grad

    done.undo.append(lambda: put(data, grad))
    put(new, new_grad)


def _cut_state(
    optimizer: Optimizer,
    tensor: Tensor,
    keep: Keep,
    kept: Callable[[Tensor, Keep], Tensor],
    done: Cut,
) -> None:
    """Whatever an optimizer remembers of a parameter, element by element."""
    state = optimizer.state.get(tensor)
    if not state:
        return
    before = dict(state)
    size = [len(k) if k is not None else None for k in keep]

    def is_like(value: object) -> bool:
        if not isinstance(value, Tensor) or value.dim() != tensor.dim():
            return False
        fits = zip(value.shape, tensor.shape, size, strict=True)
        return all(whole == now if k is None else whole > now for whole, now, k in fits)

    for name, value in before.items():
        if is_like(value):
            state[name] = kept(value, keep)
    done.undo.append(lambda: state.update(before))


def forget_derived(module: nn.Module) -> None:
    """Lets modules drop what they derived from their tensors, as they do when these are moved."""
    for layer in module.modules():
        if type(layer)._apply is not nn.Module._apply:
            layer._apply(lambda tensor: tensor)


def follow(
    module: nn.Module,
    done: Cut,
    before: Trace,
    wanted: Mapping[str, Any],
    inputs: tuple[Sequence[Any], Mapping[str, Any]],
    *,
    exact: bool,
    wrong: set[Sort],
    scale_dropout: bool,
) -> Trace:
    """Lets the module's attributes follow, and checks that it makes the wanted program.

    An attribute may have the value of a size by chance: where the program is another one, sorts of
    attributes are left as they are, one to three at a time. `wrong` remembers which.

    # Raises
    SecateurError: its code cannot follow; all is then as it was.
    """
    old_nodes = before.program["graph_module"]["graph"]["nodes"]
    new_nodes = wanted["graph_module"]["graph"]["nodes"]
    first: Exception | None = None
    try:
        spelled = _attributes.spelled(old_nodes, new_nodes, before.calls)
        set_attributes(_groups_of(old_nodes, new_nodes, before), done)
        for layer in module.modules():
            set_attributes(_attributes.described(layer), done)
        for left in _trials({_sort(attribute) for attribute in spelled}, wrong):
            numbers = Cut()
            followed = {at: number for at, number in spelled.items() if _sort(at) not in left}
            set_attributes(followed, numbers)
            try:
                made = _retrace(module, inputs, before, new_nodes, old_nodes)
                _compare(made, wanted, before, exact=exact)
            except SecateurError as error:
                first = first or error
                numbers.rollback()
                continue
            done.undo += numbers.undo
            done.changed.update(numbers.changed)
            if scale_dropout:
                set_attributes(_dropout_rates(before, made), done)
            wrong.update(left)
            return made
        raise first or SecateurError("the module's code cannot follow")
    except Exception:
        done.rollback()
        raise


def _dropout_rates(before: Trace, made: Trace) -> dict[Attribute, float]:
    """Rates times the share of the units that is left, as TorchPruner has it."""
    rates: dict[Attribute, float] = {}
    for (module, old), (_, new) in zip(before.dropouts, made.dropouts, strict=True):
        was, now = _elements(before, old), _elements(made, new)
        if was != now:
            rates[Attribute(module, "p", None)] = module.p * now / was
    return rates


def _elements(traced: Trace, name: str) -> int:
    values = traced.program["graph_module"]["graph"]["tensor_values"]
    return math.prod(size["as_int"] for size in values[name]["sizes"])


def _sort(attribute: Attribute) -> Sort:
    return type(attribute.module).__name__, attribute.name


def _trials(sorts: set[Sort], wrong: set[Sort]) -> Iterator[set[Sort]]:
    """What to leave as it is: what is known, nothing, then one sort, and up to three of a few."""
    known = sorts & wrong
    if known:
        yield known
    yield set()
    ordered = sorted(sorts)
    for count in (1, 2, 3) if len(ordered) <= MAX_SORTS else (1,):
        yield from map(set, itertools.combinations(ordered, count))


def set_attributes(attributes: Mapping[Attribute, int | float], done: Cut) -> None:
    """Writes numbers into modules."""
    for attribute, number in attributes.items():
        old = attribute.get()
        if old != number:
            done.undo.append(lambda attribute=attribute, old=old: attribute.set(old))
            attribute.set(number)
            done.changed[attribute] = number


def _groups_of(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], traced: Trace
) -> dict[Attribute, int]:
    """Numbers of groups: those of the innermost module that has such an attribute."""
    found = {}
    for old, new, call in zip(before, after, traced.calls, strict=True):
        for name, attribute in (("groups", "groups"), ("group", "num_groups")):
            was, becomes = _int(old, name), _int(new, name)
            if was is None or was == becomes:
                continue
            for module in reversed(call.modules):
                if module.__dict__.get(attribute) == was:
                    found[Attribute(module, attribute, None)] = becomes
                    break
    return found


def _int(node: dict[str, Any], name: str) -> int | None:
    for argument in node["inputs"]:
        if argument["name"] == name:
            return argument["arg"].get("as_int")
    return None


def _retrace(
    module: nn.Module,
    inputs: tuple[Sequence[Any], Mapping[str, Any]],
    before: Trace,
    new_nodes: Sequence[dict[str, Any]],
    old_nodes: Sequence[dict[str, Any]],
) -> Trace:
    try:
        return trace(module, *inputs, meta=before.meta)
    except SecateurError as error:
        line = _first_changed(before, old_nodes, new_nodes)
        raise SecateurError(
            f"the module's code does not run on the pruned tensors: {error.__cause__ or error}\n"
            f"hint: sizes are spelled near {line}; keep what they spell (`keep=[...]`), or prune "
            "the exported program: `secateur.prune_exported(...)`"
        ) from error


def _first_changed(
    before: Trace, old_nodes: Sequence[dict[str, Any]], new_nodes: Sequence[dict[str, Any]]
) -> str:
    for old, new, call in zip(old_nodes, new_nodes, before.calls, strict=True):
        if any(True for _ in _attributes.changed_arguments(old, new)):
            return call.line
    return "a call with sizes of its own"


def _compare(made: Trace, wanted: Mapping[str, Any], before: Trace, *, exact: bool) -> None:
    new, old = made.program["graph_module"]["graph"], wanted["graph_module"]["graph"]
    read = {name for node in new["nodes"] for name in _read(node)}
    read.update(output["as_tensor"]["name"] for output in new["outputs"])
    if len(new["nodes"]) != len(old["nodes"]):
        raise _differs("the module makes other calls than before", before, 0)
    for index, (got, want) in enumerate(zip(new["nodes"], old["nodes"], strict=True)):
        if _plain(got["target"]) != _plain(want["target"]):
            raise _differs(f"`{want['target']}` became `{got['target']}`", before, index)
        for name in read.intersection(_names(want)):
            sizes = [[s["as_int"] for s in g["tensor_values"][name]["sizes"]] for g in (new, old)]
            if sizes[0] != sizes[1]:
                text = f"`{want['target']}` makes sizes {sizes[0]}, and {sizes[1]} are needed"
                raise _differs(text, before, index)
        for argument in _other_arguments(got, want, exact=exact):
            text = f"the argument `{argument}` of `{want['target']}` does not follow"
            raise _differs(text, before, index)


def _plain(target: str) -> str:
    """A reshape may have to copy."""
    return target.replace(".view_copy.", ".view.")


def _names(node: Mapping[str, Any]) -> list[str]:
    names = []
    for output in node["outputs"]:
        if "as_tensor" in output:
            names.append(output["as_tensor"]["name"])
        names += [one["name"] for one in output.get("as_tensors", ())]
    return names


def _read(node: Mapping[str, Any]) -> list[str]:
    names = []
    for argument in node["inputs"]:
        value = argument["arg"]
        if "as_tensor" in value:
            names.append(value["as_tensor"]["name"])
        listed = value.get("as_optional_tensors", ())
        names += [one["as_tensor"]["name"] for one in listed if "as_tensor" in one]
    return names


def _other_arguments(got: Mapping[str, Any], want: Mapping[str, Any], *, exact: bool) -> list[str]:
    """Numbers that are not what they have to be; large ones mean "to the end"."""
    other = []
    large = 1 << 31
    for a, b in zip(got["inputs"], want["inputs"], strict=True):
        if a["arg"] == b["arg"] or a["name"] in FREE:
            continue
        kind, value = next(iter(a["arg"].items()))
        wanted = b["arg"].get(kind)
        if kind == "as_int" and a["name"] == "end" and value >= large:
            continue
        counts = kind in ("as_int", "as_ints") or (kind == "as_float" and exact)
        if counts and value != wanted:
            other.append(a["name"])
    return other


def _differs(text: str, before: Trace, index: int) -> SecateurError:
    line = before.calls[index].line if index < len(before.calls) else ""
    return SecateurError(
        f"{line}: {text}\n"
        "hint: keep the groups around it (`keep=[...]`), or prune the exported program: "
        "`secateur.prune_exported(...)`"
    )
