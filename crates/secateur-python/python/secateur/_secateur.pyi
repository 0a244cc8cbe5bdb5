"""
The Rust half of the package.
"""

from _typeshed import Incomplete, SupportsGetItem
from os import PathLike
from typing import Any, SupportsFloat, SupportsIndex, final

@final
class Changes:
    """
    What keeping indices of groups means for tensors and for the module's code.
    """
    def compare(self, /, program: str, loose: bool) -> tuple[int, str | None, list[str]]:
        """
        How far `program`, which may have failed later on, is the trace of the same code once its
        tensors are cut: how many of the first calls are right, what is wrong, and which numbers do
        not follow that need not. Those that are no integers have to where all groups that are cut
        are exact, unless `loose`.
        """
    def heads(self, /) -> list[tuple[str, int, int]]:
        """
        The heads that change: a parameter that makes or reads them, how many they are and become.
        Of grouped queries, those that share keys, the queries of each, and all queries.
        """
    def numbers(self, /) -> list[tuple[int, str, int, int]]:
        """
        The integers that calls are given and that follow: the index of the call, the argument, what
        it is and what it becomes.
        """
    def slices(self, /) -> list[tuple[str, list[list[int] | None]]]:
        """
        What is kept of every parameter that is cut: name, and per axis the positions or `None`.
        """

@final
class Entry:
    """
    What was asked of a group, and what becomes of it.
    """
    @property
    def asked(self, /) -> float:
        """
        The fraction to remove.
        """
    @property
    def group(self, /) -> str:
        """
        The group.
        """
    @property
    def reached(self, /) -> float:
        """
        The fraction that is removed.
        """
    @property
    def why(self, /) -> str | None:
        """
        Why it is left alone, or loses fewer indices than asked.
        """

@final
class Footprint:
    """
    What a model costs.
    """
    @property
    def bytes(self, /) -> int:
        """
        Bytes of weights.
        """
    @property
    def macs(self, /) -> int:
        """
        Multiply-accumulates of one forward pass.
        """
    @property
    def parameters(self, /) -> int:
        """
        Stored numbers that are read as weights.
        """

@final
class Group:
    """
    A dimension that can be cut.
    """
    @property
    def couplings(self, /) -> list[str]:
        """
        Why pruning changes more than the removed slices do; empty for an exact group.
        """
    @property
    def exact(self, /) -> bool:
        """
        Whether the pruned model computes what the original does with the removed slices zero.
        """
    @property
    def kind(self, /) -> str:
        """
        What its indices are.
        """
    @property
    def name(self, /) -> str:
        """
        Unique in the model.
        """
    @property
    def size(self, /) -> int:
        """
        Number of indices.
        """
    @property
    def slices(self, /) -> list[Slice]:
        """
        Every parameter axis that carries it.
        """

@final
class Model:
    """
    A traced module, analyzed.
    """
    def __new__(cls, /, program: str) -> Model:
        """
        Analyzes a program, in the JSON of a `.pt2` file.
        """
    def changes(self, /, keeps: dict[str, SupportsGetItem[int, SupportsIndex]]) -> Changes:
        """
        What keeping these indices of groups means for tensors and for the module's code.
        """
    def cost(self, /, keeps: dict[str, SupportsGetItem[int, SupportsIndex]] = ...) -> Footprint:
        """
        What the model costs once it keeps these indices.
        """
    def coverage(self, /) -> float:
        """
        The share of the parameters that some group governs.
        """
    def groups(self, /) -> list[Group]:
        """
        The dimensions that can be cut.
        """
    def places(self, /, group: str) -> list[tuple[str, int, list[int | None]]]:
        """
        Every parameter axis that carries a group, and the group's index at each of its positions.
        """
    def plan(self, /, keeps: dict[str, SupportsGetItem[int, SupportsIndex]]) -> str:
        """
        The plan that keeps these indices, as JSON.
        """
    def replay(self, /, plan: str) -> dict[str, list[int]]:
        """
        The kept indices of a plan that was made for this model.
        """
    def scores(self, /, options: Incomplete, statistics: Any) -> dict[str, list[float]]:
        """
        The scores of all groups, by name.
        """
    def select(self, /, options: Incomplete, statistics: Any, scores: dict[str, SupportsGetItem[int, SupportsFloat | SupportsIndex]] | None = None) -> Selection:
        """
        Decides which indices stay. `statistics(measure, parameter, axes, kept)` gives sums, per
        axis, as lists of numbers; `scores`, by group, takes their place.
        """
    def unread(self, /) -> list[str]:
        """
        The parameters that no call reads, sorted.
        """
    def warnings(self, /) -> list[str]:
        """
        What could not be followed.
        """
    def why(self, /, parameter: str, axis: SupportsIndex) -> list[str]:
        """
        Why an axis of a parameter can or cannot be cut.
        """

@final
class Selection:
    """
    What was selected.
    """
    @property
    def after(self, /) -> Footprint:
        """
        The model once it is cut.
        """
    @property
    def before(self, /) -> Footprint:
        """
        The model as it is.
        """
    @property
    def entries(self, /) -> list[Entry]:
        """
        One entry per group, in order.
        """
    @property
    def keeps(self, /) -> dict[str, list[int]]:
        """
        Kept indices of every group that is cut.
        """

@final
class Slice:
    """
    One parameter axis that carries a group.
    """
    @property
    def axis(self, /) -> int:
        """
        The axis.
        """
    @property
    def parameter(self, /) -> str:
        """
        The parameter.
        """
    @property
    def role(self, /) -> str:
        """
        What the parameter does with it.
        """
    @property
    def tree(self, /) -> str:
        """
        What the axis is made of.
        """

def criteria() -> list[tuple[str, str]]:
    """
    The names of the criteria, with a line about each.
    """

def known_operators() -> list[str]:
    """
    The ATen operators that are followed.
    """

def main(arguments: SupportsGetItem[int, str]) -> int:
    """
    Runs the `secateur` command; the first argument is its own name. Returns the exit status.
    """

def prune_file(source: str | PathLike[str], output: str | PathLike[str], options: Incomplete) -> Selection:
    """
    Prunes a model file: what `secateur prune` does.
    """

def __getattr__(name: str) -> Incomplete: ...
