"""Penalties on groups, for training that makes their indices small before they are removed.

All slices of an index are taken together, as they are removed together: its norm is that of the
row of a convolution, its bias, its norm's scale and shift, and the columns of the layers that read
it. A penalty is added to the gradients between `backward()` and the optimizer's step, so that
it needs no place in the loss. Under masks, it is the weights underneath that are penalized.

    lasso = sc.GroupLasso(pruner, strength=1e-4, schedule=sc.ramp(1000))
    for x, y in data:
        loss(model(x), y).backward()
        lasso.apply()
        optimizer.step()
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur._indices import HasGraph, graph_of, places
from secateur._masking import place_of, raw
from secateur._secateur import SecateurError
from secateur.pruner import Graph, GroupHandle

Schedule = Callable[[int], float]
"""The factor of the strength at a step, which counts calls of `apply` from 0."""


def constant(step: int) -> float:
    """The same strength at every step."""
    return 1.0


def ramp(steps: int, start: int = 0) -> Schedule:
    """Nothing until step `start`, then a line up to the full strength `steps` steps later."""
    return lambda step: min(max((step - start) / max(steps, 1), 0.0), 1.0)


def cosine(steps: int, start: int = 0) -> Schedule:
    """Nothing until step `start`, then half a cosine up to the full strength."""
    line = ramp(steps, start)
    return lambda step: (1 - math.cos(math.pi * line(step))) / 2


def between(first: int, last: int) -> Schedule:
    """The full strength from step `first` to before step `last`, and nothing else."""
    return lambda step: float(first <= step < last)


@dataclass(frozen=True)
class _Part:
    """One axis of a parameter, and of every position the index of the group, or -1."""

    name: str
    axis: int
    index: Tensor


@dataclass(frozen=True)
class _Member:
    """A group that is penalized."""

    name: str
    size: int
    parts: tuple[_Part, ...]


class _Regularizer:
    """Groups of a live module, found again after it was pruned."""

    def __init__(
        self,
        target: Graph | HasGraph,
        strength: float,
        *,
        schedule: Schedule,
        groups: Sequence[str] | None,
        roles: Sequence[str] | None,
    ) -> None:
        if not 0 <= strength < math.inf:
            raise SecateurError(f"the strength {strength} is no number from 0 on")
        self.graph = graph_of(target)
        self.strength, self.schedule = strength, schedule
        self.groups = None if groups is None else frozenset(groups)
        self.roles = None if roles is None else frozenset(roles)
        self.step = 0
        """How often `apply` was called."""
        self._found: tuple[object, list[_Member]] | None = None
        self._members()

    def factor(self) -> float:
        """What the strength is multiplied with at this step."""
        return self.schedule(self.step)

    def norms(self) -> dict[str, Tensor]:
        """The L2 norm of every index of every group over all of its slices: shape [indices]."""
        with torch.no_grad():
            return {one.name: self._squares(one).sqrt() for one in self._members()}

    def _members(self) -> list[_Member]:
        model = self.graph._model
        if self._found is None or self._found[0] is not model:
            self._found = (model, list(self._find()))
        return self._found[1]

    def _find(self) -> Iterator[_Member]:
        handles = {group.name: group for group in self.graph.groups}
        unknown = sorted((self.groups or frozenset()) - handles.keys())
        if unknown and self._found is None:
            hint = "`graph.groups` lists them"
            raise SecateurError(f"there is no group `{unknown[0]}`\nhint: {hint}")
        for name, group in handles.items():
            if self.groups is None or name in self.groups:
                yield _Member(name, group.size, tuple(self._parts(group)))

    def _parts(self, group: GroupHandle) -> Iterator[_Part]:
        roles = {(one.parameter, one.axis): one.role for one in group.slices}
        for (name, axis), index in places(self.graph, group).items():
            tensor = raw(place_of(self.graph.module, name))
            wanted = self.roles is None or roles.get((name, axis)) in self.roles
            if wanted and isinstance(tensor, nn.Parameter):
                yield _Part(name, axis, index.to(tensor.device))

    def _squares(self, member: _Member) -> Tensor:
        """The sum of the squares of every index: shape [indices]."""
        total: Tensor | None = None
        for part in member.parts:
            weight = self._weight(part)
            others = [axis for axis in range(weight.dim()) if axis != part.axis]
            lines = weight.square().sum(others) if others else weight.square()
            own = part.index >= 0
            if total is None:
                total = torch.zeros(member.size, dtype=lines.dtype, device=lines.device)
            found = lines[own].to(total.device, total.dtype)
            total = total.index_add(0, part.index[own].to(total.device), found)
        return torch.zeros(member.size, device="cpu") if total is None else total

    def _weight(self, part: _Part) -> Tensor:
        weight = raw(place_of(self.graph.module, part.name))
        if weight.shape[part.axis] != len(part.index):
            raise SecateurError(
                f"`{part.name}` was {len(part.index)} wide, and is {weight.shape[part.axis]}\n"
                "hint: `graph.refresh()` after changes of your own"
            )
        return weight

    def _add(self, part: _Part, scale: Tensor) -> None:
        """Adds to a gradient the weight times the number of its index: shape [indices]."""
        weight = self._weight(part)
        if not weight.requires_grad:
            return
        padded = torch.cat([scale, scale.new_zeros(1)])  # which index -1 reads
        line = padded[part.index.to(scale.device)].to(weight.device, weight.dtype)
        shape = [-1 if axis == part.axis else 1 for axis in range(weight.dim())]
        added = weight * line.view(shape)
        if weight.grad is None:
            weight.grad = added
        else:
            weight.grad.add_(added)


class GroupLasso(_Regularizer):
    """Pulls all slices of an index towards zero together, with the same force at any size.

    The penalty is strength * factor * sum over groups and indices of the L2 norm of all slices of
    the index (Yuan and Lin 2006; Wen et al. 2016 for networks; over coupled slices Fang et al.
    2023). With `scaled`, each norm is multiplied with the square root of its number of weights.
    `groups` and `roles` (`"producer"`, `"affine"`, `"consumer"`) restrict it.

    # Raises
    SecateurError: the strength is negative, or a group is not there.
    """

    def __init__(
        self,
        target: Graph | HasGraph,
        strength: float = 1e-4,
        *,
        schedule: Schedule = constant,
        scaled: bool = False,
        groups: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
    ) -> None:
        super().__init__(target, strength, schedule=schedule, groups=groups, roles=roles)
        self.scaled = scaled

    def penalty(self) -> Tensor:
        """The penalty at this step, for a loss of your own: autograd goes through it."""
        total = torch.zeros((), device="cpu")
        for member in self._members():
            squares = self._squares(member)
            rooted = torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)
            total = total.to(rooted) + (rooted * self._weights(member).to(rooted)).sum()
        return self.strength * self.factor() * total

    @torch.no_grad()
    def apply(self) -> None:
        """Adds the penalty's gradient to the parameters' and goes on to the next step.

        An index that is zero stays so: the subgradient there is zero.
        """
        scale = self.strength * self.factor()
        self.step += 1
        if not scale:
            return
        for member in self._members():
            norms = self._squares(member).sqrt()
            inverse = torch.where(norms > 0, scale / norms, 0) * self._weights(member).to(norms)
            for part in member.parts:
                self._add(part, inverse)

    def _weights(self, member: _Member) -> Tensor:
        """What the norms are multiplied with."""
        if not self.scaled:
            return torch.ones(member.size, device="cpu")
        counts = torch.zeros(member.size, device="cpu")
        for part in member.parts:
            own = part.index[part.index >= 0].cpu()
            line = self._weight(part).numel() / len(part.index)
            counts.index_add_(0, own, torch.full(own.shape, line, device="cpu"))
        return counts.sqrt()


class GrowingRegularization(_Regularizer):
    """A weight decay of its own for every index, which grows for those that matter least.

    The penalty is half the sum over groups and indices of decay * squared norm of all slices.
    Every decay begins with `strength`. Every `every` steps it grows by `growth` times the index's
    rank in its group, from 1 for the lowest score to 0 for the highest, up to `ceiling` (Wang et
    al. 2021, "Neural Pruning via Growing Regularization"; by score as in Fang et al. 2023). Scores
    are the norms of indices, or what `scores()` gives by group, like `pruner.scores`. `schedule`
    multiplies the growth. Decays of a group begin anew where its size was changed by pruning.

    # Raises
    SecateurError: a number is negative, or a group is not there.
    """

    def __init__(
        self,
        target: Graph | HasGraph,
        strength: float = 1e-4,
        *,
        growth: float = 1e-4,
        every: int = 100,
        ceiling: float = 1.0,
        scores: Callable[[], Mapping[str, Sequence[float] | Tensor]] | None = None,
        schedule: Schedule = constant,
        groups: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
    ) -> None:
        super().__init__(target, strength, schedule=schedule, groups=groups, roles=roles)
        if growth < 0 or every < 1 or ceiling < strength:
            raise SecateurError(
                f"growth {growth} every {every} steps up to {ceiling} does not grow\n"
                "hint: growth >= 0, every >= 1, ceiling >= strength"
            )
        self.growth, self.every, self.ceiling = growth, every, ceiling
        self.scores = scores
        self.decays: dict[str, Tensor] = {}
        """By group the decay of every index: shape [indices]."""

    def penalty(self) -> Tensor:
        """The penalty at this step, for a loss of your own: autograd goes through it."""
        total = torch.zeros((), device="cpu")
        for member in self._members():
            squares = self._squares(member)
            total = total.to(squares) + (squares * self._decay(member).to(squares)).sum() / 2
        return total

    @torch.no_grad()
    def apply(self) -> None:
        """Adds the penalty's gradient to the parameters', and goes on to the next step."""
        for member in self._members():
            for part in member.parts:
                self._add(part, self._decay(member))
        self.step += 1
        if self.step % self.every == 0:
            self.grow()

    @torch.no_grad()
    def grow(self) -> None:
        """Lets the decays grow once; `apply` does so every `every` steps."""
        scores = self.norms() if self.scores is None else self.scores()
        more = self.growth * self.factor()
        for member in self._members():
            if member.name not in scores:
                continue
            score = torch.as_tensor(scores[member.name], dtype=torch.float32).cpu()
            if score.shape != (member.size,):
                raise SecateurError(
                    f"group `{member.name}` has {member.size} indices, and {len(score)} scores"
                )
            spread = score.max() - score.min()
            rank = (score.max() - score) / spread if spread > 0 else torch.zeros_like(score)
            self.decays[member.name] = (self._decay(member) + more * rank).clamp(max=self.ceiling)

    def _decay(self, member: _Member) -> Tensor:
        decay = self.decays.get(member.name)
        if decay is None or len(decay) != member.size:
            decay = torch.full((member.size,), float(self.strength), device="cpu")
            self.decays[member.name] = decay
        return decay
