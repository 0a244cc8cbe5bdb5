"""Groups of a live module, and their pruning in place."""

import functools
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur import _apply, _distributed, _history
from secateur._capture import Trace, trace
from secateur._export import export
from secateur._modules import in_modes, join, layers, modes_of, tensors
from secateur._secateur import Footprint, Group, Model, SecateurError, Selection
from secateur._statistics import Gathered, Statistics

Keeps = Mapping[str, Sequence[int]]
Capture = Literal["trace", "export"]
NOT_RUN = "not run on the example inputs, and left as it was"
CHANGED = "the module was changed since it was traced\nhint: call `refresh()` of the graph"
CAPTURES = {"trace": trace, "export": export}
_DIGITS = re.compile(r"\d+")


class GroupHandle:
    """A group of a live module. Printed, it lists the slices that are cut together."""

    def __init__(self, graph: "Graph", group: Group) -> None:
        self.graph = graph
        self.name = group.name
        self.kind = group.kind
        self.size = group.size
        self.exact = group.exact
        self.couplings = group.couplings
        self.slices = group.slices

    def prune(self, indices: Sequence[int]) -> None:
        """Removes these indices, here and wherever they are coupled.

        # Raises
        SecateurError: an index is not there, none would be left, or the module's code cannot
        follow; then nothing has changed.
        """
        self.graph.apply({self.name: self.without(indices)})

    def without(self, indices: Sequence[int]) -> list[int]:
        """The other indices.

        # Raises
        SecateurError: an index is not there, or none would be left.
        """
        gone = set(indices)
        outside = sorted(index for index in gone if not 0 <= index < self.size)
        if outside:
            raise SecateurError(f"group `{self.name}` has no index {outside[0]}")
        kept = [index for index in range(self.size) if index not in gone]
        if not kept:
            raise SecateurError(f"nothing would be left of group `{self.name}`")
        return kept

    def __str__(self) -> str:
        exactness = "exact" if self.exact else "approximate: " + "; ".join(self.couplings[:3])
        lines = [f"{self.name}: {self.size} {self.kind}, {exactness}"]
        width = max(len(f"{s.parameter}:{s.axis}") for s in self.slices)
        for one in self.slices:
            place = f"{one.parameter}:{one.axis}"
            lines.append(f"  {place:<{width}}  {one.role:<9} {one.tree}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<group {self.name}: {self.size} {self.kind}>"


class _Done(NamedTuple):
    """What was cut, and what the module is then."""

    cut: _apply.Cut
    trace: Trace
    slices: list[tuple[str, _apply.Keep]]


class Graph:
    """The dependencies of a live module, from one run on example inputs.

    They are found in the calls of the run, or, where `capture` is `"export"`, in the program that
    `torch.export` makes of it, which takes longer.
    """

    def __init__(
        self,
        module: nn.Module,
        args: Sequence[Any] | Tensor,
        kwargs: Mapping[str, Any] | None = None,
        *,
        optimizer: Optimizer | Sequence[Optimizer] = (),
        scale_dropout: bool = False,
        capture: Capture = "trace",
    ) -> None:
        if capture not in CAPTURES:
            raise SecateurError(f"there is no capture `{capture}`\nhint: `trace` or `export`")
        self.capture = capture
        self.wrapped = module
        self.module = _distributed.unwrapped(module)
        self.inputs = (_tuple(args), dict(kwargs or {}))
        self.optimizers = _optimizers(optimizer, self.module)
        self.scale_dropout = scale_dropout
        self.gathered: list[dict[str, Gathered]] = []  # what pruners noted of gradients
        self.loose: list[str] = []  # where code computes other numbers from sizes since a cut
        self._learned = _apply.Learned()
        self.refresh()

    def refresh(self) -> None:
        """Traces the module again, after it was changed by other means."""
        self._modes = modes_of(self.module)
        self._is_renewed = False
        self._trace = CAPTURES[self.capture](self.module, *self.inputs)
        self._model = Model(self._trace.text)

    @property
    def unread(self) -> list[str]:
        """Parameters that the example run did not reach, or whole modules of them."""
        unread = self._model.unread()
        gone, found = set(unread), []
        for path, layer in layers(self.module) if unread else ():
            inside = {join(path, name) for name, _ in layer.named_parameters()}
            if inside and inside <= gone:
                found.append(path)
                gone -= inside
        return [*found, *(name for name in unread if name in gone)]

    @functools.cached_property
    def _model(self) -> Model:
        return Model(self._trace.text)

    def _traced(self, module: nn.Module) -> Trace:
        """Traces the module as it was traced before, in the mode of then."""
        how = {"like": self._trace} if self.capture == "trace" else {}
        with in_modes(self._modes):
            return CAPTURES[self.capture](module, *self.inputs, **how)

    @property
    def groups(self) -> list[GroupHandle]:
        """All groups, in the order of the module."""
        return [GroupHandle(self, group) for group in self._model.groups()]

    def group(self, name: str, axis: int | None = None) -> GroupHandle:
        """The group of this name, or the one that an axis of a parameter carries.

        # Raises
        SecateurError: there is none, or the axis carries several.
        """
        found = [
            group
            for group in self._model.groups()
            if group.name == name
            or any((s.parameter, s.axis) == (name, axis) for s in group.slices)
        ]
        if len(found) == 1:
            return GroupHandle(self, found[0])
        if found:
            names = ", ".join(f"`{group.name}`" for group in found)
            raise SecateurError(f"`{name}` carries several groups: {names}\nhint: name one")
        if axis is None:
            raise SecateurError(f"there is no group `{name}`\nhint: `graph.groups` lists them")
        reasons = "; ".join(self._model.why(name, axis))
        raise SecateurError(f"axis {axis} of `{name}` cannot be cut: {reasons}")

    def cost(self) -> Footprint:
        """Parameters, multiply-accumulates and bytes."""
        return self._model.cost()

    @property
    def coverage(self) -> float:
        """The share of the parameters that some group governs."""
        return self._model.coverage()

    @property
    def warnings(self) -> list[str]:
        """What could not be followed, and is left whole."""
        return self._model.warnings()

    def apply(self, keeps: Keeps, *, loose: bool = False) -> None:
        """Keeps these indices of groups, and all of the others.

        Where all groups that are cut are exact, numbers that are no integers have to follow, such
        as the scale of attention, unless `loose`; else `Graph.loose` tells those that do not.

        # Raises
        SecateurError: the module's code cannot follow; then nothing has changed.
        """
        named = _distributed.agreed(keeps, self._trace.text)
        with _distributed.rebuilt(self.wrapped):
            try:
                done = self._cut(named, loose=loose)
            except SecateurError:
                if not self._renewed():
                    raise
                done = self._cut(named, loose=loose)
        if done:
            if done.cut.anew:
                names = ", ".join(sorted(done.cut.anew))
                warnings.warn(f"state of {names} is of other sizes, and begins anew", stacklevel=2)
            self.loose += (text for text in done.cut.loose if text not in self.loose)
            _history.add(self.module, done.slices, done.cut.changed)
            for name, keep in done.slices:
                for gathered in self.gathered:
                    if name in gathered:
                        gathered[name].cut(keep)
            self._trace = done.trace
            self._learned.vain.clear()
            del self._model

    def _renewed(self) -> bool:
        """Whether the uncut module makes other calls than when it was traced, which are then known.

        Code may have noted what it computed once, where it is not taken back.
        """
        if self._is_renewed:
            return False
        self._is_renewed = True
        fresh = self._traced(self.module)
        if fresh.text == self._trace.text or fresh.kinds != self._trace.kinds:
            return False
        self._trace = fresh
        del self._model
        return True

    def check_unchanged(self, stored: Mapping[str, Tensor]) -> None:
        """Whether the module's tensors are those that were traced, or what they became since.

        # Raises
        SecateurError: they are not.
        """
        for name, kind in self._trace.kinds.items():
            if name not in stored or (stored[name].shape, stored[name].dtype) != kind:
                raise SecateurError(CHANGED)

    def check(self, keeps: Keeps, *, loose: bool = False) -> None:
        """Whether the module's code follows, as `apply` wants it; nothing is changed.

        # Raises
        SecateurError: it cannot.
        """
        if done := self._cut(keeps, loose=loose):
            done.cut.rollback()

    def _cut(self, keeps: Keeps, *, loose: bool) -> "_Done | None":
        named = {name: list(keep) for name, keep in keeps.items()}
        changes = self._model.changes(named)
        slices = changes.slices()
        if not slices:
            return None
        try:
            cut = _apply.cut(self.module, slices, self.optimizers)
        except (IndexError, KeyError) as error:
            raise SecateurError(CHANGED) from error
        made = _apply.follow(
            self.module,
            cut,
            self._trace,
            changes,
            self._traced,
            learned=self._learned,
            loose=loose,
            scale_dropout=self.scale_dropout,
        )
        return _Done(cut, made, slices)

    def __str__(self) -> str:
        groups = self.groups
        lines = [str(group) for group in groups]
        share = f"{self.coverage:.1%} of {self.cost().parameters:,} parameters"
        return "\n".join([*lines, f"{len(groups)} groups govern {share}"])


def graph(
    module: nn.Module,
    args: Sequence[Any] | Tensor,
    kwargs: Mapping[str, Any] | None = None,
    *,
    optimizer: Optimizer | Sequence[Optimizer] = (),
    scale_dropout: bool = False,
    capture: Capture = "trace",
) -> Graph:
    """Finds the dependencies of a module by running it once, without arithmetic.

    g = secateur.graph(resnet18(), (torch.randn(1, 3, 224, 224),))
    print(g.group("conv1.weight", axis=0))
    g.group("conv1.weight", axis=0).prune([2, 6, 9])
    """
    return Graph(
        module, args, kwargs, optimizer=optimizer, scale_dropout=scale_dropout, capture=capture
    )


class Options(TypedDict, total=False):
    """How much is removed, and where. Exactly one of the first four is given."""

    ratio: float  # the fraction of the indices to remove
    macs: float  # what remains: a number, or a fraction of what is there
    params: float
    size: float
    criterion: str  # `secateur.criteria()` lists them
    scope: str  # what is ranked together: "uniform", "global" or "isomorphic"
    keep: Sequence[str]  # patterns of groups, parameters and layers that are never cut
    ratio_for: Mapping[str, float]  # ratios for those that match a pattern
    kinds: Sequence[str]  # kinds of groups that are cut
    exact_only: bool
    multiple_of: int
    max_ratio: float  # the largest fraction that any group may lose
    roles: Sequence[str]  # roles of the slices that count
    aggregation: str  # across the slices of a group
    normalization: str  # across the indices of a group
    seed: int


DEFAULTS: Mapping[str, Any] = {
    "ratio": None,
    "macs": None,
    "params": None,
    "size": None,
    "criterion": "l2",
    "scope": "uniform",
    "keep": (),
    "ratio_for": {},
    "kinds": None,
    "exact_only": False,
    "multiple_of": 1,
    "max_ratio": 1.0,
    "steps": 1,
    "stage": None,
    "schedule": "linear",
    "roles": None,
    "aggregation": "mean",
    "normalization": None,
    "seed": 0,
}


OF_GRAPHS = ("args", "kwargs", "optimizer", "scale_dropout", "capture")


def options_of(options: Options) -> dict[str, Any]:
    """The options of a step, as the core reads them."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"there is no option `{unknown[0]}`")
    found = {**DEFAULTS, **options}
    lists = {name: list(found[name]) for name in ("keep", "kinds", "roles") if found[name]}
    return {**found, **lists, "keep": list(found["keep"]), "ratio_for": dict(found["ratio_for"])}


class Cost(NamedTuple):
    """What a module costs."""

    macs: int
    parameters: int
    bytes: int


class Proposal:
    """What a step would remove of a group. `removed` may be changed before it is applied."""

    def __init__(self, group: GroupHandle, removed: list[int]) -> None:
        self.group = group
        self.removed = removed

    @property
    def keep(self) -> list[int]:
        return self.group.without(self.removed)


class Pruner:
    """Prunes a live module to a target, in one or several steps.

    Exactly one of `ratio` (fraction of the indices to remove), `macs`, `params` and `size`
    (what remains: a number, or a fraction) says how much. Everything else has a default.

        pruner = secateur.Pruner(model, (x,), ratio=0.5, optimizer=optimizer)
        pruner.step()
        print(pruner.report())

    A `Graph` in place of the module, its inputs and optimizers is pruned without another trace:

        pruner = secateur.Pruner(graph, ratio=0.5)

    # Raises
    SecateurError: the module does not run on the inputs, or an option is out of its range.
    """

    @overload
    def __init__(
        self, graph: Graph, /, *, steps: int = 1, strict: bool = False, **options: Unpack[Options]
    ) -> None: ...

    @overload
    def __init__(
        self,
        module: nn.Module,
        args: Sequence[Any] | Tensor,
        kwargs: Mapping[str, Any] | None = None,
        *,
        steps: int = 1,
        strict: bool = False,
        optimizer: Optimizer | Sequence[Optimizer] = (),
        scale_dropout: bool = False,
        capture: Capture = "trace",
        **options: Unpack[Options],
    ) -> None: ...

    def __init__(
        self,
        module: nn.Module | Graph,
        *inputs: Any,
        steps: int = 1,
        strict: bool = False,
        **options: Any,
    ) -> None:
        graphs = {name: options.pop(name) for name in OF_GRAPHS if name in options}
        self.options = options_of(options)
        if not isinstance(module, Graph):
            module = Graph(module, *inputs, **graphs)
        elif inputs or graphs:
            raise TypeError("a `Graph` has its inputs and optimizers")
        self.graph = module
        self.strict = strict
        self._loose = not (strict or self.options["exact_only"])
        self.left: dict[str, str] = {}
        self._ratios: dict[str, float] = {}
        self.steps = steps
        self.taken = 0
        self.first: Footprint | Cost = self.graph.cost()
        groups = self.graph.groups if steps > 1 else ()
        self._sizes = {group.name: group.size for group in groups}
        self._stored = _stored(self.module)
        self._gathered: dict[str, Gathered] = {}
        self.graph.gathered.append(self._gathered)

    @property
    def module(self) -> nn.Module:
        return self.graph.module

    def _statistics(self) -> Statistics:
        # Ranks measure in any order, so what they share is exchanged before.
        average = _distributed.averaged
        stored = _distributed.measurable(self.module)
        if isinstance(stored, dict):  # parameters that are sharded are gathered one at a time
            self.graph.check_unchanged(stored)
        gathered = {name: self._gathered[name].shared(average) for name in sorted(self._gathered)}
        return Statistics(stored, gathered)

    def scores(self) -> dict[str, list[float]]:
        """How much every index of every group matters, by the criterion."""
        return self.graph._model.scores(self.options, self._statistics())

    def accumulate(self) -> None:
        """Notes the gradients at hand, for the criteria that want them. After `loss.backward()`.

        If some are not finite, as of a `GradScaler` that looks for its scale, it warns instead.
        """
        known = {n: one for n, one in self.module.named_parameters() if one.grad is not None}
        if not all(bool(one.grad.isfinite().all()) for one in known.values()):
            warnings.warn("gradients that are not finite are not accumulated", stacklevel=2)
            return
        for name, parameter in known.items():
            gathered = self._gathered.get(name)
            if gathered is None or gathered.taylor.shape != parameter.shape:
                gathered = self._gathered[name] = Gathered(parameter)
            gathered.add(parameter, parameter.grad)

    def select(self, scores: Mapping[str, Sequence[float]] | None = None) -> Selection:
        """What the next step would keep; nothing is changed. `scores` replace the criterion's."""
        given = None if scores is None else {name: list(s) for name, s in scores.items()}
        options = {**self.options, **self._goal()}
        named = (_of_module(self.module, pattern) for pattern in options["keep"])
        options["keep"] = [*named, *map(_escaped, self.left)]
        ratios = {_escaped(name): ratio for name, ratio in self._ratios.items()}
        options["ratio_for"] = {**options["ratio_for"], **ratios}
        return self.graph._model.select(options, self._statistics(), given)

    def _goal(self) -> dict[str, Any]:
        """Where the next step ends: ratios are parts of what was there before the first."""
        if self.steps == 1:
            return {}
        part = (self.taken + 1) / self.steps
        goal: dict[str, Any] = {"stage": (part, self._sizes)}
        for name, start in (
            ("macs", self.first.macs),
            ("params", self.first.parameters),
            ("size", self.first.bytes),
        ):
            amount = self.options[name]
            if amount is not None:
                last = amount if isinstance(amount, int) else int(amount * start)
                goal[name] = int(start + (last - start) * part)
        return goal

    def propose(self) -> list[Proposal]:
        """What the next step would remove, group by group, to look at and to change."""
        selection = self.select()
        handles = {group.name: group for group in self.graph.groups}
        found = []
        for name, keep in selection.keeps.items():
            kept = set(keep)
            gone = [index for index in range(handles[name].size) if index not in kept]
            found.append(Proposal(handles[name], gone))
        return found

    def step(self, proposals: Sequence[Proposal] | None = None) -> Selection | None:
        """Prunes in place: the next of `steps` steps, or what was proposed.

        # Raises
        SecateurError: nothing can be cut, the target cannot be reached, or the module's code
        cannot follow; then nothing has changed.
        """
        if self.taken == self.steps:
            raise SecateurError(f"all {self.steps} steps were taken\nhint: make a new `Pruner`")
        unread = () if self.taken else self.graph.unread
        selection = None
        if proposals is None:
            left = dict(self.left)
            try:
                selection = self._select_and_apply()
            except BaseException:
                self.left = left
                raise
        else:
            keeps = {one.group.name: one.keep for one in proposals if one.removed}
            self.graph.apply(keeps, loose=self._loose)
        self._gathered.clear()
        if unread:
            warnings.warn(f"{NOT_RUN}: {', '.join(unread)}", stacklevel=2)
        self.taken += 1
        return selection

    def _select_and_apply(self) -> Selection:
        """Leaves groups alone that the module's code cannot follow, unless `strict`."""
        self._ratios.clear()
        while True:
            try:
                selection = self.select()
            except SecateurError as error:
                if self.left:  # those are what is kept
                    none = str(error).startswith("no group can be cut")
                    what = "no group can be cut" if none else str(error)
                    raise SecateurError("\n".join([what, *_left(self.left)])) from error
                if self.graph.groups:
                    raise
                raise SecateurError(
                    f"{error}\nhint: `graph.group(PARAMETER, AXIS)` tells what keeps an axis whole"
                ) from error
            try:
                self.graph.apply(selection.keeps, loose=self._loose)
                return selection
            except SecateurError as error:
                if self.strict or not self._adapt(selection.keeps, error):
                    raise

    def _refusal(self, keeps: Keeps) -> SecateurError | None:
        """Why the code cannot follow, if it cannot."""
        try:
            self.graph.check(keeps, loose=self._loose)
            return None
        except SecateurError as error:
            return error

    def _adapt(self, keeps: Keeps, why: SecateurError) -> bool:
        """Finds what the code can follow instead: whether there is anything else to try.

        Sorts of groups that are cut where the code went wrong are told from the others, then sorts
        are halved until they are followed; one of each sort speaks for it.
        """
        groups = {group.name: group for group in self.graph.groups}
        sorts: dict[str, list[str]] = {}
        for name in keeps:
            group = groups[name]
            sorts.setdefault(f"{group.kind} {group.size} {_DIGITS.sub('', name)}", []).append(name)
        followed: dict[str, Sequence[int]] = {}
        unable: dict[str, str] = {}

        def refusal(more: Keeps) -> SecateurError | None:
            why = self._refusal({**followed, **more})
            if why is None:
                followed.update(more)
            return why

        def settle(parts: list[list[str]], *, known: SecateurError | None = None) -> None:
            names = [name for part in parts for name in part]
            why = known or refusal({name: keeps[name] for name in names})
            if why is None:
                return
            if len(parts) > 1:
                near = self._near(why, parts, groups)
                far = [part for part in parts if part not in near]
                if not near or not far:
                    far, near = parts[: len(parts) // 2], parts[len(parts) // 2 :]
                settle(far)
                settle(near)
            elif len(names) > 1 and refusal({names[0]: keeps[names[0]]}) is None:
                settle([[name] for name in names[1:]])
            else:
                unable.update(dict.fromkeys(names, str(why)))

        choice = dict(self.graph._learned.choice)
        settle(list(sorts.values()), known=why)
        again = list(unable) if self.graph._trace.meta else ()
        for name in again:  # others may have to be cut with it
            if refusal({name: keeps[name]}) is None:
                del unable[name]
        tied, part = 0, (self.taken + 1) / self.steps
        stuck = [group for name, group in groups.items() if name in unable]
        for widths, heads, count in self._tied(keeps, stuck):
            more = {**dict.fromkeys(widths, range(count)), **{one: keeps[one] for one in heads}}
            ratios = {name: (1 - count / self._whole(groups[name])) / part for name in widths}
            is_new = self._ratios.keys().isdisjoint(widths) and max(ratios.values()) < 1
            if is_new and refusal(more) is None:
                self._ratios.update(ratios)
                unable = {one: why for one, why in unable.items() if one not in more}
                tied += 1
        self.left.update(unable)
        return bool(unable or tied) or self.graph._learned.choice != choice

    def _whole(self, group: GroupHandle) -> int:
        """How many indices a group had before the first step."""
        return self._sizes.get(group.name, group.size)

    def _near(
        self,
        why: SecateurError,
        parts: Sequence[list[str]],
        groups: Mapping[str, GroupHandle],
    ) -> list[list[str]]:
        """The parts with groups that are cut in the innermost module, of those in which the code
        went wrong, that any group is cut in.
        """
        paths = {id(layer): path for path, layer in layers(self.module)}
        for module in reversed(getattr(why, "modules", ())):
            path = paths[id(module)]
            inside = f"{path}." if path else ""
            near = [
                part
                for part in parts
                if any(s.parameter.startswith(inside) for name in part for s in groups[name].slices)
            ]
            if near:
                return near
        return []

    def _tied(
        self, keeps: Keeps, groups: Sequence[GroupHandle]
    ) -> Iterator[tuple[list[str], list[str], int]]:
        """Groups that are equally wide, heads that are so together, and a number that fits all.

        Code may compute one width from another: of what its input has, and what its layers make.
        """
        sizes = {name: tensor.shape for name, tensor in tensors(self.module).items()}
        places = {group.name: _modules_of(group) for group in groups}
        seen: set[tuple[str, ...]] = set()
        for group in groups:
            near = [one for one in groups if places[one.name] & places[group.name]]
            widths = [one.name for one in near if one.size == group.size]
            heads = [
                other
                for other in near
                if other.kind in ("heads", "head-width")
                and other.size < group.size
                and any(sizes[s.parameter][s.axis] == group.size for s in other.slices)
            ]
            counts = {len(keeps[one.name]) * group.size / one.size for one in heads}
            counts = counts or {float(len(keeps[group.name]))}
            if len(counts) == 1 and (count := counts.pop()).is_integer():
                names = [one.name for one in heads]
                if len(widths) > 1 and (*widths, *names) not in seen:
                    seen.add((*widths, *names))
                    yield widths, names, int(count)
                if heads:
                    yield [group.name], names, int(count)

    def __iter__(self) -> Iterator[GroupHandle]:
        return iter(self.graph.groups)

    def state_dict(self) -> dict[str, Any]:
        """Where several steps stand, of numbers and names alone, for checkpoints.

        With `secateur.save` and the optimizer's own state, an interrupted run goes on:

            module = secateur.load(path, make)
            pruner = secateur.Pruner(module, args, steps=10, ratio=0.5, optimizer=optimizer)
            pruner.load_state_dict(state)
        """
        first = {name: getattr(self.first, name) for name in Cost._fields}
        return {"taken": self.taken, "first": first, "sizes": self._sizes, "stored": self._stored}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.taken = state["taken"]
        self.first = Cost(**state["first"])
        self._sizes = dict(state["sizes"])
        self._stored = tuple(state["stored"])

    def report(self) -> str:
        """What the module cost when pruning began, and what it costs now."""
        (parameters, size), (parameters_now, size_now) = self._stored, _stored(self.module)
        rows = [
            ("parameters", parameters, parameters_now),
            ("MACs", self.first.macs, self.graph.cost().macs),
            ("bytes", size, size_now),
        ]
        lines = [f"{'':10}  {'before':>15}  {'after':>15}   change"]
        for name, old, new in rows:
            change = (new - old) / old if old else 0.0
            lines.append(f"{name:10}  {old:>15,}  {new:>15,}  {change:>7.1%}")
        lines += [f"not followed: {warning}" for warning in self.graph.warnings]
        lines += [f"approximate: {text}" for text in self.graph.loose]
        if unread := self.graph.unread:
            lines.append(f"{NOT_RUN}: {', '.join(unread)}")
        return "\n".join([*lines, *_left(self.left)])


def _modules_of(group: GroupHandle) -> set[str]:
    """The modules around the layers that a group is cut in."""
    return {".".join(part.parameter.split(".")[:-2]) for part in group.slices}


def _of_module(module: nn.Module, pattern: str) -> str:
    """Where a pattern is a module's name, all that is in it."""
    names = {name for name, _ in module.named_modules()}
    return f"{_escaped(pattern)}.*" if pattern in names else pattern


def _escaped(name: str) -> str:
    """A pattern that matches a name and nothing else."""
    return "".join(f"[{c}]" if c in "*?[]{}!" else c for c in name)


def _left(left: Mapping[str, str]) -> list[str]:
    """What is left alone, and why: a text for every reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in left.items():
        reasons.setdefault(why, []).append(name)
    return [
        f"left alone, as the code cannot follow: {', '.join(names)}\n{textwrap.indent(why, '  ')}"
        for why, names in reasons.items()
    ]


def _stored(module: nn.Module) -> tuple[int, int]:
    """How many parameters a module has, and how many bytes they and its buffers take."""
    parameters = list(module.parameters())
    tensors = [*parameters, *module.buffers()]
    count = sum(parameter.numel() for parameter in parameters)
    return count, sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _optimizers(
    given: Optimizer | Sequence[Optimizer] | None, module: nn.Module
) -> list[Optimizer]:
    """The optimizers, and those that they are around."""
    waiting = [given] if isinstance(given, Optimizer) else list(given or ())
    found: list[Optimizer] = []
    while waiting:
        one = waiting.pop(0)
        if not hasattr(one, "param_groups") or not hasattr(one, "state"):
            raise TypeError(f"`optimizer` is no optimizer: {one!r}")
        if not any(one is other for other in found):
            found.append(one)
            waiting += (inner for inner in vars(one).values() if isinstance(inner, Optimizer))
    known = set(map(id, module.parameters()))
    groups = [group for one in found for group in one.param_groups]
    if found and not any(id(own) in known for group in groups for own in group["params"]):
        raise SecateurError(
            "the optimizer knows none of the module's parameters\n"
            "hint: give the one that was made with `module.parameters()`"
        )
    return found


def _tuple(args: Sequence[Any] | Tensor) -> tuple[Any, ...]:
    return (args,) if isinstance(args, torch.Tensor) else tuple(args)
