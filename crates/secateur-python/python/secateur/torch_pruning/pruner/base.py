"""The pruner: turns ratios of layers into scopes for the core, and scores groups for it."""

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur._secateur import SecateurError
from secateur.torch_pruning._positions import Lie
from secateur.torch_pruning.function import BasePruningFunc
from secateur.torch_pruning.graph import (
    ROOTS,
    DependencyGraph,
    History,
    Inputs,
    traced,
)
from secateur.torch_pruning.group import Group, Waiting
from secateur.torch_pruning.pruner._scopes import Scope, Selector

Ratios = Mapping[Any, float]
Scheduler = Callable[[float, int], Sequence[float]]
HEADS = ("heads", "queries-per-head")
PROTECTED = 1e300
"""A score above all others."""


def linear_scheduler(pruning_ratio: float, steps: int) -> list[float]:
    """The ratio after no step, after one, and so on."""
    return [pruning_ratio * step / steps for step in range(steps + 1)]


class BasePruner:
    """Prunes a model to a ratio, in one or several steps.

    pruner = MagnitudePruner(model, x, importance=MagnitudeImportance(p=2), pruning_ratio=0.5,
                             iterative_steps=5, ignored_layers=[model.fc])
    for _ in range(5):
        pruner.step()
        ...

    Ratios are fractions of the channels that a group had at first. Heads of attention and groups
    of convolutions are found by themselves; `num_heads` and the numbers of channel groups are
    checked against what is found, and `num_heads` follows when heads go. With `optimizer`, its
    state is cut along.

    # Raises
    SecateurError: the model does not run on the inputs, or an option says something that the
    model's code does not.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Inputs,
        importance: Callable[[Group], Tensor | None],
        global_pruning: bool = False,
        pruning_ratio: float = 0.5,
        pruning_ratio_dict: Ratios | None = None,
        max_pruning_ratio: float = 1.0,
        iterative_steps: int = 1,
        iterative_pruning_ratio_scheduler: Scheduler = linear_scheduler,
        ignored_layers: Sequence[Any] | None = None,
        round_to: int | None = None,
        isomorphic: bool = False,
        in_channel_groups: Mapping[nn.Module, int] | None = None,
        out_channel_groups: Mapping[nn.Module, int] | None = None,
        num_heads: dict[nn.Module, int] | None = None,
        prune_num_heads: bool = False,
        prune_head_dims: bool = True,
        head_pruning_ratio: float = 0.0,
        head_pruning_ratio_dict: Ratios | None = None,
        customized_pruners: Mapping[Any, BasePruningFunc] | None = None,
        unwrapped_parameters: Mapping[nn.Parameter, int] | Iterable[Any] | None = None,
        root_module_types: Sequence[type] = ROOTS,
        forward_fn: Callable[..., Any] | None = None,
        output_transform: Callable[..., Any] | None = None,
        channel_groups: Mapping[nn.Module, int] | None = None,
        ch_sparsity: float | None = None,
        ch_sparsity_dict: Ratios | None = None,
        *,
        optimizer: Optimizer | Sequence[Optimizer] = (),
    ) -> None:
        self.model = model
        self.importance = importance
        self.global_pruning = global_pruning
        self.isomorphic = isomorphic
        self.pruning_ratio = pruning_ratio if ch_sparsity is None else ch_sparsity
        self.max_pruning_ratio = max_pruning_ratio
        self.iterative_steps = iterative_steps
        self.iterative_pruning_ratio_scheduler = iterative_pruning_ratio_scheduler
        self.ignored_layers = list(ignored_layers or ())
        self.root_module_types = tuple(root_module_types)
        self.prune_num_heads = prune_num_heads
        self.prune_head_dims = prune_head_dims
        self.head_pruning_ratio = head_pruning_ratio
        self.num_heads = {} if num_heads is None else num_heads
        self.current_step = 0
        ratios = pruning_ratio_dict if ch_sparsity_dict is None else ch_sparsity_dict
        self.round_to = round_to
        self.pruning_ratio_dict = dict(ratios or {})
        self.head_pruning_ratio_dict = dict(head_pruning_ratio_dict or {})
        self._check_ratios()
        make = functools.partial(Selector, ratio=0.0, optimizer=optimizer)
        self._selector = traced(make, model, example_inputs, forward_fn, output_transform)
        self.DG = DependencyGraph().adopt(
            self._selector.graph,
            model,
            unwrapped_parameters=unwrapped_parameters,
            customized_pruners=customized_pruners,
            ignored=[layer for layer in self.ignored_layers if not isinstance(layer, nn.Module)],
        )
        self._sizes = {name: group.size for name, group in self.DG.positions.groups.items()}
        self._own = self._own_scopes()
        self._check_groups({**(out_channel_groups or {}), **(channel_groups or {})}, makes=True)
        self._check_groups(in_channel_groups or {}, makes=False)
        self._first_heads = self._found_heads()
        self._check_heads()

    # Checks

    def _check_ratios(self) -> None:
        ratios = [self.pruning_ratio, self.head_pruning_ratio, self.max_pruning_ratio]
        ratios += [*self.pruning_ratio_dict.values(), *self.head_pruning_ratio_dict.values()]
        for ratio in ratios:
            if not 0.0 <= ratio <= 1.0:
                raise SecateurError(f"a ratio of {ratio} is not in 0..=1")
        if self.iterative_steps < 1:
            raise SecateurError(f"{self.iterative_steps} steps prune nothing")
        known = set(map(id, self.model.modules()))
        for key in (*self.pruning_ratio_dict, *self.head_pruning_ratio_dict, *self.num_heads):
            for layer in key if isinstance(key, tuple) else (key,):
                if id(layer) not in known:
                    raise SecateurError(f"the model has no layer `{layer}`")

    def _check_groups(self, layers: Mapping[nn.Module, int], *, makes: bool) -> None:
        """Whether the channels of layers are tied in as many groups as the caller says."""
        for layer, count in layers.items():
            place = self.DG._place(layer, self.DG._function(layer, makes))
            lies = [self.DG.positions.of(n)[place] for n in self.DG.positions.at.get(place, ())]
            tied = (_is_tied(lie.indices, count) for lie in lies)
            heads = isinstance(layer, nn.MultiheadAttention)  # some count their heads here
            if count > 1 and lies and not heads and not any(tied):
                raise SecateurError(
                    f"the channels of `{place[0]}` are not tied in {count} groups by the model's "
                    "code\nhint: leave the numbers of groups out: they are found"
                )

    def _found_heads(self) -> dict[nn.Module, int]:
        """The heads that a layer makes, by the model's code."""
        found = {}
        for layer in self.num_heads:
            place = self.DG._place(layer, self.DG._function(layer, True))
            groups = [self.DG.positions.groups[n] for n in self.DG.positions.at.get(place, ())]
            sizes = [group.size for group in groups if group.kind in HEADS]
            if sizes:
                found[layer] = math.prod(sizes)
        return found

    def _check_heads(self) -> None:
        for layer, found in self._first_heads.items():
            if self.num_heads[layer] != found:
                given = f"`num_heads` says {self.num_heads[layer]}"
                raise SecateurError(f"the model's code makes {found} heads of `{layer}`, {given}")
        self._given_heads = dict(self.num_heads)

    # Scopes

    def _own_scopes(self) -> list[tuple[set[int], float]]:
        """Layers with a ratio of their own, by identity."""
        scopes = []
        for key, ratio in self.pruning_ratio_dict.items():
            layers = key if isinstance(key, tuple) else (key,)
            scopes.append(({id(m) for layer in layers for m in layer.modules()}, ratio))
        return scopes

    def _groups(self) -> dict[str, Group]:
        """The groups that may be cut, by the names that the core gives them."""
        groups = {}
        # PyTorch's attention is as wide inside as what it is given: its heads get narrower along.
        roots = (*self.root_module_types, nn.MultiheadAttention)
        for group in self.DG.get_all_groups(self.ignored_layers, roots):
            (name,) = group.chosen
            groups[name] = group
        kinds = {name: self.DG.positions.groups[name].kind for name in groups}
        heads = self._head_groups(kinds)
        inner = [name for name in groups if kinds[name] not in HEADS]
        if not self.prune_head_dims:
            inner = [name for name in inner if kinds[name] != "head-width"]
        crossed = self._crossed(inner, kinds)
        cut = {*heads, *(name for name in inner if name not in crossed)}
        return {name: group for name, group in groups.items() if name in cut}

    def _head_groups(self, kinds: Mapping[str, str]) -> list[str]:
        """Heads; of grouped-query attention, the queries of each."""
        if not self.prune_num_heads:
            return []
        queries = [name for name, kind in kinds.items() if kind == "queries-per-head"]
        shared = {place for name in queries for place in self.DG.positions.of(name)}
        heads = [name for name, kind in kinds.items() if kind == "heads"]
        return [*queries, *(n for n in heads if shared.isdisjoint(self.DG.positions.of(n)))]

    def _crossed(self, names: Sequence[str], kinds: Mapping[str, str]) -> set[str]:
        """Groups whose channels are cut by another: of a product, one factor is.

        It is the innermost (channels inside of groups), but where whole groups are a layer's
        output channels.
        """
        crossed = set()
        for outer in names:
            for inner in self._inside(outer, names):
                plain = (isinstance(lie.indices, range) for lie in self._lies(outer))
                free = kinds[outer] == "conv-groups" and any(plain)
                crossed.add(inner if free else outer)
        return crossed

    def _lies(self, name: str) -> Iterable[Lie]:
        return self.DG.positions.of(name).values()

    def _inside(self, outer: str, names: Iterable[str]) -> Iterator[str]:
        lies, at = self.DG.positions.of(outer), self.DG.positions.at
        near = {name for place in lies for name in at[place]} - {outer}
        for name in near.intersection(names):
            inner = self.DG.positions.of(name)
            if any(_is_inside(lies[place], inner[place]) for place in lies.keys() & inner.keys()):
                yield name

    def _ratio(self, ratio: float, step: int | None = None) -> float:
        """What is to be gone after a step, of what was there at first."""
        schedule = self.iterative_pruning_ratio_scheduler(ratio, self.iterative_steps)
        return min(schedule[self.current_step if step is None else step], self.max_pruning_ratio)

    def _scopes(self, groups: Mapping[str, Group]) -> list[Scope]:
        kinds = {name: self.DG.positions.groups[name].kind for name in groups}
        heads = [name for name in groups if kinds[name] in HEADS]
        scopes, taken = self._head_scopes(heads, groups), set(heads)
        for layers, ratio in self._own:
            names = [n for n in groups if n not in taken and _is_made_in(groups[n], layers)]
            taken.update(names)
            scopes.append(self._scope(names, ratio, "global" if self.global_pruning else "uniform"))
        ranked = "global" if self.global_pruning else "uniform"
        ranked = "isomorphic" if self.isomorphic else ranked
        rest = [name for name in groups if name not in taken]
        scopes.append(self._scope(rest, self.pruning_ratio, ranked))
        return scopes

    def _head_scopes(self, heads: Sequence[str], groups: Mapping[str, Group]) -> list[Scope]:
        ranked = "global" if self.global_pruning else "uniform"
        own: dict[float, list[str]] = {}
        for name in heads:
            ratio = self.head_pruning_ratio
            for layer, special in self.head_pruning_ratio_dict.items():
                if _is_made_in(groups[name], set(map(id, layer.modules()))):
                    ratio = special
            own.setdefault(ratio, []).append(name)
        return [self._scope(names, ratio, ranked, heads=True) for ratio, names in own.items()]

    def _scope(
        self, names: Sequence[str], ratio: float, ranked: str, *, heads: bool = False
    ) -> Scope:
        multiple = 1 if heads else self.round_to or 1
        if ranked == "uniform":
            ratios = {name: self._left_to_go([name], ratio) for name in names}
            return Scope(names, ranked, ratio_for=ratios, multiple_of=multiple)
        if ranked == "isomorphic":
            before = 1 - self._ratio(ratio, self.current_step - 1)
            left = 1 - self._ratio(ratio)
            ratio = max(0.0, 1 - left / before) if before else 0.0
            return Scope(names, ranked, ratio=ratio, multiple_of=multiple)
        ratio = self._left_to_go(names, ratio)
        return Scope(names, ranked, ratio=ratio, multiple_of=multiple)

    def _left_to_go(self, names: Sequence[str], ratio: float) -> float:
        """The fraction of the indices that are left that goes in this step."""
        now = sum(self.DG.positions.groups[name].size for name in names)
        first = sum(self._sizes.setdefault(n, self.DG.positions.groups[n].size) for n in names)
        kept = max(len(names), math.floor(first * (1 - self._ratio(ratio)) + 1e-9))
        return max(0.0, 1 - kept / now) if now else 0.0

    # Scores

    def estimate_importance(self, group: Group) -> Tensor | None:
        """One score per index of the group's root."""
        return self.importance(group)

    def _scores(self, groups: Mapping[str, Group]) -> dict[str, list[float]]:
        found = {}
        with torch.no_grad():
            for name, group in groups.items():
                score = self.estimate_importance(group)
                if score is not None:
                    found[name] = self._protected(name, self._by_index(name, group, score))
        return found

    def _by_index(self, name: str, group: Group, score: Tensor) -> list[float]:
        """The mean of the channels that go together."""
        if tuple(score.shape) != (len(group[0].idxs),):
            text = f"{len(group[0].idxs)} scores are needed for `{group[0].dep.target.name}`"
            raise SecateurError(f"{text}, the importance gives {tuple(score.shape)}")
        place = self.DG._place_of(group[0])
        lie = self.DG.positions.of(name)[place].indices
        size = len(lie)
        at = torch.tensor([lie[index % size] for index in group[0].idxs], device="cpu")
        total = torch.zeros(group.sizes[name], dtype=torch.float64, device="cpu")
        values = score.detach().to("cpu", torch.float64)
        return total.scatter_reduce(0, at, values, "mean", include_self=False).tolist()

    def _protected(self, name: str, scores: list[float]) -> list[float]:
        """Keeps what no step may cut from going before anything else is gone."""
        least = math.ceil(self._sizes.get(name, len(scores)) * (1 - self.max_pruning_ratio) - 1e-9)
        if least <= 0:
            return scores
        order = sorted(range(len(scores)), key=scores.__getitem__)
        kept = set(order[max(0, len(order) - least) :])
        return [PROTECTED if index in kept else s for index, s in enumerate(scores)]

    # Steps

    def step(self, interactive: bool = False) -> Iterator[Group] | None:
        """Takes the next step; when interactive, gives the groups that are to be pruned instead.

        Groups that the model's code cannot follow are left alone. In interactive steps, those that
        it follows only together are pruned with the last of them, and a warning names those that
        it does not follow at all.

        # Raises
        SecateurError: the importance cannot score what is to be cut.
        """
        self.current_step += 1
        if self.current_step > self.iterative_steps:
            text = f"all {self.iterative_steps} steps were taken: nothing is pruned"
            warnings.warn(text, stacklevel=2)
            return iter(()) if interactive else None
        if interactive:
            return self._proposed()
        scores, scopes, groups = self._plan()
        if not scores:
            warnings.warn("nothing is pruned: no group can be, or has a score", stacklevel=2)
            return None
        roots = {name: self._root(name, group) for name, group in groups.items()}
        self._note(self._selector.cut(scopes, scores), roots)
        self._follow_heads()
        return None

    def _root(self, name: str, group: Group) -> tuple[tuple[str, bool, list[int]], Any]:
        place = self.DG._place_of(group[0])
        return self.DG._entry(group[0]), self.DG.positions.of(name)[place].indices

    def _plan(self) -> tuple[dict[str, list[float]], list[Scope], dict[str, Group]]:
        groups = self._groups()
        return self._scores(groups), self._scopes(groups), groups

    def _proposed(self) -> Iterator[Group]:
        scores, scopes, groups = self._plan()
        self._selector.scopes, self._selector.given = scopes, scores
        waiting = Waiting()
        try:
            for name, keep in self._selector.select().keeps.items():
                gone = set(range(groups[name].sizes[name])).difference(keep)
                if gone:
                    group = self.DG._group(self.DG._place_of(groups[name][0]), {name: gone})
                    group.waiting = waiting
                    yield group
                    self._follow_heads()
        finally:
            if waiting.groups:
                names = ", ".join(group.root.dep.target.name for group in waiting.groups)
                warnings.warn(f"left alone: {names}\n{waiting.why}", stacklevel=2)

    def _note(self, keeps: Mapping[str, Sequence[int]], roots: Mapping[str, Any]) -> None:
        """Adds what was cut at once to the history, as if it were cut one after the other."""
        lost: dict[tuple[str, bool], set[int]] = {}
        for name, keep in keeps.items():
            (layer, makes, idxs), lie = roots[name]
            kept, before = set(keep), lost.setdefault((layer, makes), set())
            gone = [p for p in idxs if lie[p % len(lie)] not in kept and p not in before]
            now = [p - sum(other < p for other in before) for p in gone]
            before.update(gone)
            if now:
                self.DG._history.append((layer, makes, now))

    def _follow_heads(self) -> None:
        """Heads that are left, for code that writes them back into attributes."""
        found = self._found_heads()
        for layer, first in self._first_heads.items():  # a single one is no group any more
            self.num_heads[layer] = self._given_heads[layer] * found.get(layer, 1) // first

    def update_regularizer(self) -> None:
        """Takes notice of what was pruned; pruners without regularization have nothing to do."""

    def regularize(self, model: nn.Module, loss: Any = None) -> None:
        """Adds to the gradients, between `loss.backward()` and the optimizer's step."""

    def reset(self) -> None:
        """Begins with the first step again."""
        self.current_step = 0

    def pruning_history(self) -> History:
        return self.DG.pruning_history()

    def load_pruning_history(self, pruning_history: History) -> None:
        self.DG.load_pruning_history(pruning_history)

    def report(self) -> str:
        """What the model cost when pruning began, what it costs now, and what was left alone."""
        return self._selector.report()


def _is_tied(indices: Sequence[int | None], count: int) -> bool:
    width, rest = divmod(len(indices), count)
    return rest == 0 and all(indices[at] == indices[at % width] for at in range(len(indices)))


def _is_made_in(group: Group, layers: set[int]) -> bool:
    """Whether a layer that makes the group is among these."""
    graph = group._graph
    made = (dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler))
    return any(id(layer) in layers for layer in made)


def _is_inside(outer: Lie, inner: Lie) -> bool:
    if not (outer.is_product and inner.is_product):
        return False
    pairs = zip(outer.indices, inner.indices, strict=True)
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    return bool(both) and _stride(a for a, _ in both) > _stride(b for _, b in both)


def _stride(indices: Iterable[int]) -> int:
    """After how many positions the index changes first."""
    found = list(indices)
    return next((at for at, index in enumerate(found) if index != found[0]), len(found))


MetaPruner = MagnitudePruner = BasePruner
