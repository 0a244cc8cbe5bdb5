"""Cuts the tensors of a live module in place, all or nothing.

Knows nothing of groups and scores: it is told what is kept of every tensor, and which program the
module must make afterwards.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur import _attributes, _sharded
from secateur._attributes import Attribute, Number, Sizes
from secateur._capture import StoppedError, Trace
from secateur._modules import layers, modes_of, set_modes, tensors
from secateur._secateur import Changes, SecateurError

Keep = Sequence[Sequence[int] | None]
Undo = Callable[[], None]
Sort = tuple[str, str]
"""The class and the name of an attribute."""
Choice = dict[Sort, int | None]
"""Which of their numbers the attributes of a sort take, if any, where it is not the first."""
MAX_SORTS = 5
MAX_TRIALS = 60
MAX_RUNS = 6  # of code that has to run on real tensors


class Trial(NamedTuple):
    """What attributes become that calls spell, and which others follow."""

    choice: Choice
    sized: frozenset[Sort] = frozenset()


class Failure(NamedTuple):
    """How many calls are right (-1: unknown), and what is wrong with the next one."""

    right: int
    error: SecateurError

    def after(self, trial: Trial) -> str:
        return f"{self.right} {self.error} {trial.choice} {sorted(trial.sized)}"


ORDERS = (torch.channels_last, torch.channels_last_3d)


@dataclass
class Learned:
    """What searches found: what was right, and which trials did not help against which failures."""

    choice: Choice = field(default_factory=dict)
    vain: set[str] = field(default_factory=set)


@dataclass
class Cut:
    """What is done, and how it is undone."""

    undo: list[Undo] = field(default_factory=list)
    sizes: dict[str, Sizes] = field(default_factory=dict)
    changed: dict[Attribute, int | float] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)  # numbers that do not follow, and need not
    anew: set[str] = field(default_factory=set)  # optimizers of which some state is lost

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
        shard, tensor = tensor, _sharded.whole(tensor)
        for axis, positions in enumerate(keep):
            if positions is None:
                continue
            key = (tensor.device, tuple(positions))
            if key not in indices:
                indices[key] = torch.tensor(positions, dtype=torch.int64, device=tensor.device)
            tensor = tensor.index_select(axis, indices[key])
        for order in ORDERS:
            if not shard.is_contiguous() and shard.is_contiguous(memory_format=order):
                tensor = tensor.contiguous(memory_format=order)
        return _sharded.spread(tensor, shard)

    try:
        with torch.inference_mode(False), torch.no_grad():
            for name, keep in slices:
                before = stored[name].shape
                _cut_tensor(stored[name], keep, kept, done)
                done.sizes[name] = before, stored[name].shape
                for optimizer in optimizers:
                    _cut_state(optimizer, stored[name], before, keep, kept, done)
            forget_derived(module)
    except BaseException:  # also where someone interrupts
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
        _sharded.set_data(tensor, data)
        tensor.grad = grad

    done.undo.append(lambda: put(data, grad))
    put(new, new_grad)


def _cut_state(
    optimizer: Optimizer,
    tensor: Tensor,
    sizes: torch.Size,
    keep: Keep,
    kept: Callable[[Tensor, Keep], Tensor],
    done: Cut,
) -> None:
    """Whatever an optimizer remembers of a parameter that had these sizes, by element or by row.

    Where it remembers something else, such as a history of all parameters, it begins anew.
    """

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(one) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(map(cut, value))
        if not isinstance(value, Tensor) or value.numel() == 1:
            return value
        along = zip(value.shape, sizes, keep, strict=True)
        return kept(value, [_kept_along(size, whole, k) for size, whole, k in along])

    if isinstance(optimizer, torch.optim.LBFGS):
        history, count = dict(optimizer.state), optimizer._numel_cache
        optimizer.state.clear()
        optimizer._numel_cache = None  # of all parameters
        done.anew.add(type(optimizer).__name__)
        done.undo.append(lambda: optimizer.state.update(history))
        done.undo.append(lambda: setattr(optimizer, "_numel_cache", count))
        return
    state = optimizer.state.get(tensor)
    if not state:
        return
    before = dict(state)
    done.undo.append(lambda: state.update(before))
    try:
        state.update(cut(before))
    except ValueError:  # something of other sizes
        done.anew.add(type(optimizer).__name__)
        state.clear()


def _kept_along(size: int, whole: int, keep: Sequence[int] | None) -> Sequence[int] | None:
    """What is kept along an axis that is as long as the parameter's, or 1 where it is summed up."""
    if size not in (1, whole):
        raise ValueError
    return None if size == 1 else keep


def forget_derived(module: nn.Module) -> None:
    """Lets modules drop what they derived from their tensors.

    They do so when these are moved, or when the mode is set: some in one mode alone.
    """
    modes = modes_of(module)
    for layer, mode in modes:
        if type(layer).train is not nn.Module.train:
            layer.train(not mode)
            layer.train(mode)
        moves = type(layer)._apply is not nn.Module._apply and not isinstance(layer, nn.RNNBase)
        if moves and not any(map(_sharded.is_sharded, layer.parameters())):
            layer._apply(lambda tensor: tensor)
    set_modes(modes)


def follow(
    module: nn.Module,
    done: Cut,
    before: Trace,
    changes: Changes,
    capture: Callable[[nn.Module], Trace],
    *,
    learned: Learned,
    loose: bool,
    scale_dropout: bool,
) -> Trace:
    """Lets the module's attributes follow, and checks that it makes the program that it should.

    Attributes that calls are given follow; where that is not enough, others that describe sizes of
    tensors, as code may only compare them. An attribute may have the value of a size by chance:
    where the program is another one, sorts of attributes take another of their numbers, or are
    left as they are, one to three at a time. Where all groups that are cut are exact, numbers that
    are no sizes have to follow, too, unless `loose`.

    # Raises
    SecateurError: its code cannot follow; all is then as it was. It has the `modules` in which the
    code went wrong.
    """
    made: Trace | None = None
    try:
        numbers = [
            (before.calls[call], name, was, now) for call, name, was, now in changes.numbers()
        ]
        spelled = _attributes.spelled(numbers)
        for attribute, number in _attributes.heads(module, changes.heads()).items():
            others = spelled.get(attribute, [attribute.get()])
            spelled[attribute] = list(dict.fromkeys((number, *others)))
        candidates = _Candidates(module, before, done.sizes, spelled)
        set_attributes(_groups_of(numbers), done)
        inside = [layer for _, layer in layers(module)]
        for layer in inside:
            set_attributes(_attributes.described(layer), done)

        def tried(trial: Trial) -> Failure | None:
            nonlocal made
            attempt = Cut()
            set_attributes(candidates.numbers(trial), attempt)
            right, error = -1, None
            try:
                made = _retrace(module, capture)
                right, wrong, done.loose = changes.compare(made.text, loose)
                error = SecateurError(wrong) if wrong else None
            except SecateurError as stopped:
                error = stopped
                if program := getattr(error.__cause__, "program", ""):
                    right, _, _ = changes.compare(program, loose)
            if error:
                attempt.rollback()
                return Failure(right, error)
            done.undo += attempt.undo
            done.changed.update(attempt.changed)
            return None

        failure = _search(candidates, learned, tried)
        if failure:
            calls = before.calls[failure.right : failure.right + 1] if failure.right >= 0 else ()
            failure.error.modules = [module for call in calls for module in call.modules]
            raise failure.error
        if scale_dropout:
            set_attributes(_dropout_rates(before, made), done)
        for layer in inside:
            if isinstance(layer, nn.RNNBase):
                layer.flatten_parameters()  # as cuDNN reads them
        return made
    except BaseException:  # also where someone interrupts
        done.rollback()
        raise


def _dropout_rates(before: Trace, made: Trace) -> dict[Attribute, float]:
    """Rates times the share of the units that is left, as TorchPruner has it."""
    rates: dict[Attribute, float] = {}
    for (module, was), (_, now) in zip(before.dropouts, made.dropouts, strict=True):
        if was != now:
            rates[Attribute(module, "p", None)] = module.p * now / was
    return rates


def _sort(attribute: Attribute) -> Sort:
    return type(attribute.module).__name__, attribute.name


@dataclass
class _Candidates:
    """The attributes that may follow."""

    module: nn.Module
    before: Trace
    sizes: Mapping[str, Sizes]
    spelled: Mapping[Attribute, Sequence[int]]

    @functools.cached_property
    def sized(self) -> dict[Attribute, int]:
        """Those that no call spells, as code may only compare them."""
        found = _attributes.sized(self.module, self.sizes)
        return {at: number for at, number in found.items() if at not in self.spelled}

    def numbers(self, trial: Trial) -> dict[Attribute, int]:
        """What attributes become in a trial."""
        found = {}
        for attribute, numbers in self.spelled.items():
            rank = trial.choice.get(_sort(attribute), 0)
            if rank is not None:
                found[attribute] = numbers[min(rank, len(numbers) - 1)]
        if trial.sized:
            found.update((at, n) for at, n in self.sized.items() if _sort(at) in trial.sized)
        return found

    def ranks(self, near: Set[int] | None = None) -> dict[Sort, int]:
        """How many numbers sorts have, of those whose modules are `near`."""
        ranks: dict[Sort, int] = {}
        for attribute, numbers in self.spelled.items():
            if near is None or id(attribute.module) in near:
                sort = _sort(attribute)
                ranks[sort] = max(ranks.get(sort, 0), len(numbers))
        return ranks

    def moves(self, best: Trial, call: int) -> Iterator[Trial]:
        """The trials next to one that goes wrong at a call: of what the code around it can read.

        Sorts take another of their numbers, attributes follow that no call spells, or sorts are
        left as they are: one, or up to three of a few.
        """
        around = self.before.calls[max(call - 1, 0) : call + 1] if call >= 0 else ()
        modules = [module for one in around for module in one.modules]
        held = (helper for module in modules for _, helper in _attributes.helpers(module))
        near = {*map(id, modules), *map(id, held)}
        ranks = self.ranks(near if around else None)
        ordered = sorted(ranks)
        others = [sort for sort in ordered if ranks[sort] > 1]
        if len(others) > 1:
            yield Trial({**best.choice, **dict.fromkeys(others, 1)}, best.sized)
        for sort in others:
            for rank in range(ranks[sort]):
                if rank != best.choice.get(sort, 0):
                    yield Trial({**best.choice, sort: rank}, best.sized)
        for one in around:  # code may also call methods of what is inside
            near.update(id(layer) for inner in one.modules[-1:] for _, layer in layers(inner))
        sized = {_sort(at) for at in self.sized if not around or id(at.module) in near}
        sized -= best.sized
        if sized:
            yield Trial(best.choice, best.sized | sized)
        if len(sized) > 1:
            yield from (Trial(best.choice, best.sized | {sort}) for sort in sorted(sized))
        unlike = [sort for sort in ordered if best.choice.get(sort, 0) is not None]
        for count in (1, 2, 3) if len(unlike) <= MAX_SORTS else (1,):
            for left in itertools.combinations(unlike, count):
                yield Trial({**best.choice, **dict.fromkeys(left)}, best.sized)
        for sort in unlike if sized else ():
            yield Trial({**best.choice, sort: None}, best.sized | sized)


def _search(
    candidates: _Candidates, learned: Learned, tried: Callable[[Trial], Failure | None]
) -> Failure | None:
    """Finds a choice with which all calls are right; else, how far any gets.

    What was right before and all first numbers come first. Then what the code reads where it went
    wrong is varied: whatever gets further is kept.
    """
    ranks = candidates.ranks()
    known = {sort: choice for sort, choice in learned.choice.items() if sort in ranks}
    if known and tried(Trial(known)) is None:
        return None
    best = Trial({})
    if (reached := tried(best)) is None:
        return None
    trials, moves = 0, candidates.moves(best, reached.right)
    most = MAX_TRIALS if candidates.before.meta else MAX_RUNS
    while trials < most and (move := next(moves, None)):
        if reached.after(move) in learned.vain:
            continue
        trials += 1
        failure = tried(move)
        if failure is None:
            learned.choice.update(move.choice)
            return None
        if failure.right > reached.right:
            best, reached = move, failure
            moves = candidates.moves(best, reached.right)
        else:
            learned.vain.add(reached.after(move))
    return reached


def set_attributes(attributes: Mapping[Attribute, int | float], done: Cut) -> None:
    """Writes numbers into modules."""
    for attribute, number in attributes.items():
        old = attribute.get()
        if old != number:
            done.undo.append(lambda attribute=attribute, old=old: attribute.set(old))
            attribute.set(number)
            done.changed[attribute] = number


def _groups_of(numbers: Iterable[Number]) -> dict[Attribute, int]:
    """Numbers of groups: those of the innermost module that has such an attribute."""
    found = {}
    for call, name, was, becomes in numbers:
        attribute = {"groups": "groups", "group": "num_groups"}.get(name)
        for module in reversed(call.modules if attribute else ()):
            if module.__dict__.get(attribute) == was:
                found[Attribute(module, attribute, None)] = becomes
                break
    return found


def _retrace(module: nn.Module, capture: Callable[[nn.Module], Trace]) -> Trace:
    try:
        return capture(module)
    except SecateurError as error:
        line = f"{error.line}: " if isinstance(error, StoppedError) and error.line else ""
        raise SecateurError(
            f"{line}the module's code does not run on the pruned tensors: "
            f"{error.__cause__ or error}\nhint: keep the groups whose sizes it spells "
            "(`keep=[...]`), or prune the exported program: `secateur.prune_exported(...)`"
        ) from error
