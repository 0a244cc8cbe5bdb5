"""Groups as lists of layers with the indices that go."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from secateur.torch_pruning.graph import DependencyGraph


@dataclass(frozen=True, eq=False)
class Node:
    """A layer, or a parameter that no known layer holds."""

    name: str
    module: nn.Module | nn.Parameter
    kind: str
    pruning_dim: int

    def __str__(self) -> str:
        if isinstance(self.module, nn.Parameter):
            return f"{self.name} (axis {self.pruning_dim} of {tuple(self.module.shape)})"
        return f"{self.name} ({self.module})"


@dataclass(frozen=True, eq=False)
class Dependency:
    """What `trigger` takes from the source, `handler` has to take from the target."""

    trigger: Callable[..., Any]
    handler: Callable[..., Any]
    source: Node
    target: Node

    @property
    def layer(self) -> nn.Module | nn.Parameter:
        return self.target.module

    @property
    def pruning_fn(self) -> Callable[..., Any]:
        return self.handler

    def is_triggered_by(self, pruning_fn: Callable[..., Any]) -> bool:
        return self.trigger == pruning_fn

    def __call__(self, idxs: Sequence[int]) -> Any:
        """Prunes the target alone."""
        return self.handler(self.target.module, idxs)

    def __str__(self) -> str:
        source = f"{self.trigger.__name__} on {self.source.name}"
        return f"{source} => {self.handler.__name__} on {self.target}"


@dataclass(frozen=True, eq=False)
class GroupItem:
    """A dependency and the indices that go; `root_idxs` says with which index of the root."""

    dep: Dependency
    idxs: list[int]
    root_idxs: list[int]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.dep, self.idxs))

    def __getitem__(self, at: int) -> Any:
        return (self.dep, self.idxs)[at]


@dataclass
class Waiting:
    """Groups of one step that the model's code has not followed yet, and why."""

    groups: list["Group"] = field(default_factory=list)
    why: str = ""


class Group:
    """Everything that goes with some indices of a layer; the first item is that layer, the root."""

    def __init__(
        self,
        graph: "DependencyGraph",
        items: Sequence[GroupItem],
        chosen: Mapping[str, set[int]],
        sizes: Mapping[str, int],
    ) -> None:
        self._graph = graph
        self.items = list(items)
        self.chosen = chosen
        self.sizes = sizes
        """Indices that go, and how many there are, by the names of the core's groups."""
        self.waiting: Waiting | None = None

    @property
    def root(self) -> GroupItem:
        return self.items[0]

    def prune(self, idxs: Sequence[int] | None = None, record_history: bool = True) -> None:
        """Prunes all layers of the group in place, or other indices of its root.

        # Raises
        SecateurError: nothing would be left, the graph was pruned since, or the model's code
        cannot follow; then nothing has changed.
        """
        group = self if idxs is None else self._graph._narrowed(self, idxs)
        group.waiting = self.waiting
        self._graph._prune(group, record_history=record_history)

    def exec(self) -> None:
        """An older name of `prune`."""
        self.prune()

    __call__ = exec

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> GroupItem:
        return self.items[at]

    def __iter__(self) -> Iterator[GroupItem]:
        return iter(self.items)

    def _listed(self, of: Callable[[GroupItem], str]) -> str:
        rule = "-" * 32
        lines = [f"[{i}] {item.dep}, {of(item)}" for i, item in enumerate(self.items)]
        return "\n".join([rule, f"{'Pruning Group':^32}", rule, *lines, rule])

    def __str__(self) -> str:
        return self._listed(lambda item: f"len(idxs)={len(item.idxs)}")

    def details(self) -> str:
        """The layers with all of their indices."""
        return self._listed(lambda item: f"idxs={item.idxs}")
