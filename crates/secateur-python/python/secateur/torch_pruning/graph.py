"""The dependency graph of a module: finds what has to go with some channels of a layer.

A view of `secateur.Graph`, in the terms of layers and their channels.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from secateur._modules import in_modes
from secateur._secateur import SecateurError
from secateur.pruner import Graph
from secateur.torch_pruning import _layers
from secateur.torch_pruning._positions import Lie, Place, Positions
from secateur.torch_pruning.function import (
    FUNCTIONS,
    BasePruningFunc,
    PruningFunction,
    pruning_dim,
)
from secateur.torch_pruning.group import Dependency, Group, GroupItem, Node

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
Key = tuple[str, int]
"""A group of the core, and one of its indices."""
History = list[tuple[str, bool, list[int]]]
Made = TypeVar("Made")
ROOTS: tuple[type, ...] = (_ConvNd, nn.Linear)


class Called(nn.Module):
    """A module that is run by a function of the caller's, or whose output is reduced by one."""

    def __init__(
        self, model: nn.Module, run: Callable[..., Any] | None, output: Callable[..., Any] | None
    ) -> None:
        super().__init__()
        self.model = model
        self.run = run
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        made = self.run(self.model, *args) if self.run else self.model(*args, **kwargs)
        return self.output(made) if self.output else made


def traced_module(
    model: nn.Module,
    example_inputs: Inputs,
    forward_fn: Callable[..., Any] | None,
    output_transform: Callable[..., Any] | None,
) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """What is traced, and on which arguments."""
    module = model
    if forward_fn or output_transform:
        module = Called(model, forward_fn, output_transform)
    if forward_fn or isinstance(example_inputs, Tensor):
        return module, (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return module, (), dict(example_inputs)
    return module, tuple(example_inputs), {}


def traced(
    make: Callable[..., Made],
    model: nn.Module,
    example_inputs: Inputs,
    forward_fn: Callable[..., Any] | None = None,
    output_transform: Callable[..., Any] | None = None,
) -> Made:
    """What is made of the module and its arguments: those of a list, or where it does not run on
    these, the list."""
    module, args, kwargs = traced_module(model, example_inputs, forward_fn, output_transform)
    with evaluated(model):
        try:
            return make(module, args, kwargs)
        except SecateurError:
            if forward_fn or not isinstance(example_inputs, (list, tuple)):
                raise
            with contextlib.suppress(SecateurError):
                return make(module, (example_inputs,), {})
            raise


@contextlib.contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Modes are those of evaluation, so that traces agree whatever the module is doing."""
    with in_modes([(layer, False) for layer in module.modules()]):
        yield


class DependencyGraph:
    """What depends on what in a module.

    DG = DependencyGraph().build_dependency(model, example_inputs=torch.randn(1, 3, 224, 224))
    group = DG.get_pruning_group(model.conv1, prune_conv_out_channels, idxs=[2, 6, 9])
    if DG.check_pruning_group(group):
        group.prune()
    """

    graph: Graph
    model: nn.Module

    def __init__(self) -> None:
        self.customized: dict[Any, BasePruningFunc] = {}
        self.unwrapped: dict[int, int] = {}
        self._ignored: list[Any] = []
        self._history: History = []
        self._positions: Positions | None = None

    def build_dependency(
        self,
        model: nn.Module,
        example_inputs: Inputs,
        forward_fn: Callable[..., Any] | None = None,
        output_transform: Callable[..., Any] | None = None,
        unwrapped_parameters: Mapping[nn.Parameter, int] | Iterable[Any] | None = None,
        customized_pruners: Mapping[Any, BasePruningFunc] | None = None,
        ignored_layers: Sequence[nn.Module] | None = None,
        ignored_params: Sequence[nn.Parameter] | None = None,
        verbose: bool = True,
        *,
        optimizer: Optimizer | Sequence[Optimizer] = (),
    ) -> "DependencyGraph":
        """Runs the model once, without arithmetic, and finds what depends on what.

        `verbose` is accepted: nothing is printed. Parameters outside of layers are found by
        themselves; `unwrapped_parameters` says which axis `prune_parameter_out_channels` means.

        # Raises
        SecateurError: the model does not run on the inputs, or has no such parameter.
        """
        make = functools.partial(Graph, optimizer=optimizer)
        graph = traced(make, model, example_inputs, forward_fn, output_transform)
        return self.adopt(
            graph,
            model,
            unwrapped_parameters=unwrapped_parameters,
            customized_pruners=customized_pruners,
            ignored=[*(ignored_layers or ()), *(ignored_params or ())],
        )

    def adopt(
        self,
        graph: Graph,
        model: nn.Module,
        *,
        unwrapped_parameters: Mapping[nn.Parameter, int] | Iterable[Any] | None,
        customized_pruners: Mapping[Any, BasePruningFunc] | None,
        ignored: Sequence[Any],
    ) -> "DependencyGraph":
        """Takes a graph that is there, of the model or of a module around it."""
        self.graph, self.model = graph, model
        self._prefix = "" if graph.module is model else "model."
        self._ignored = list(ignored)
        for layer, pruner in (customized_pruners or {}).items():
            self.register_customized_layer(layer, pruner)
        self._unwrap(unwrapped_parameters or {})
        return self

    def _unwrap(self, parameters: Mapping[nn.Parameter, int] | Iterable[Any]) -> None:
        pairs = parameters.items() if isinstance(parameters, Mapping) else parameters
        for parameter, dim in pairs:
            self._name(parameter)
            self.unwrapped[id(parameter)] = dim % parameter.dim()

    def register_customized_layer(
        self, layer_type_or_instance: Any, layer_pruner: BasePruningFunc
    ) -> None:
        """Lets the two methods of a pruner name the channels of a layer of one's own."""
        if not isinstance(layer_pruner, BasePruningFunc):
            raise TypeError(f"{layer_pruner!r} is no `BasePruningFunc`")
        self.customized[layer_type_or_instance] = layer_pruner

    @property
    def positions(self) -> Positions:
        """The groups of the core, as the module is now."""
        if self._positions is None or self._positions.model is not self.graph._model:
            self._positions = Positions(self.graph)
        return self._positions

    def get_pruning_group(
        self, module: nn.Module | nn.Parameter, pruning_fn: Any, idxs: Sequence[int]
    ) -> Group:
        """Everything that has to go with these channels of a layer.

        Channels that the model's code ties to them (of other heads, other groups of a
        convolution) are added.

        # Raises
        TypeError: the function does not prune such a layer.
        SecateurError: an index is not there, or cannot go.
        """
        place = self._place(module, pruning_fn)
        return self._group(place, self._chosen(place, idxs))

    def get_all_groups(
        self,
        ignored_layers: Sequence[Any] = (),
        root_module_types: Sequence[type] = ROOTS,
    ) -> Iterator[Group]:
        """All groups that some layer of these types makes, each with all of its indices.

        A group is left out if a layer that makes it, or that works on it channel by channel, is
        ignored. Groups may be pruned on the way.
        """
        for name in list(self.positions.groups):
            root = self._root(name, tuple(root_module_types))
            if root is not None and not self._is_ignored(name, ignored_layers):
                yield self._whole(name, root)

    def _whole(self, name: str, root: Place) -> Group:
        size = self.positions.groups[name].size
        return self._group(root, {name: set(range(size))})

    def check_pruning_group(self, group: Group) -> bool:
        """Whether something is left everywhere."""
        return all(len(gone) < group.sizes[name] for name, gone in group.chosen.items())

    def is_out_channel_pruning_fn(self, fn: Any) -> bool:
        if isinstance(fn, PruningFunction):
            return fn.makes
        return any(fn == pruner.prune_out_channels for pruner in self.customized.values())

    def is_in_channel_pruning_fn(self, fn: Any) -> bool:
        if isinstance(fn, PruningFunction):
            return not fn.makes or fn.kind.reads is None
        return any(fn == pruner.prune_in_channels for pruner in self.customized.values())

    def get_out_channels(self, module: Any) -> int | None:
        return self._channels(module, makes=True)

    def get_in_channels(self, module: Any) -> int | None:
        return self._channels(module, makes=False)

    def _channels(self, module: Any, *, makes: bool) -> int | None:
        if isinstance(module, nn.Parameter):
            return module.shape[self._dim(module)]
        if self._customized(module):
            name, axis = self._custom_place(module, makes=makes)
            return self.positions.tensors[name].shape[axis]
        kind = _layers.kind_of(module)
        return None if kind is None else kind.channels(module, makes=makes)

    def pruning_history(self) -> History:
        """Layer, whether its output was pruned, and the indices, of all that was pruned."""
        return self._history

    def load_pruning_history(self, pruning_history: History) -> None:
        """Prunes a fresh model as another was pruned."""
        for name, makes, idxs in pruning_history:
            if ":" in name:
                parameter, _, axis = name.rpartition(":")
                place = (self._prefix + parameter, int(axis))
                group = self._group(place, self._chosen(place, idxs))
            else:
                module = self.model.get_submodule(name)
                group = self.get_pruning_group(module, self._function(module, makes), idxs)
            group.prune()

    def _function(self, module: nn.Module, makes: bool) -> Any:
        pruner = self._customized(module)
        if pruner:
            return pruner.prune_out_channels if makes else pruner.prune_in_channels
        kind = _layers.kind_of(module)
        if kind is None:
            raise SecateurError(f"a `{type(module).__name__}` has no channels of its own")
        return FUNCTIONS[kind.name, makes or kind.reads is None]

    # Names and places

    def _name(self, tensor: Tensor) -> str:
        name = self.positions.names.get(id(tensor))
        if name is None:
            sizes = tuple(tensor.shape)
            raise SecateurError(f"the model has no such parameter, of sizes {sizes}")
        return name

    def _shown(self, name: str) -> str:
        return name.removeprefix(self._prefix)

    def _dim(self, parameter: nn.Parameter) -> int:
        dim = self.unwrapped.get(id(parameter))
        return pruning_dim(parameter) if dim is None else dim

    def _customized(self, module: Any) -> BasePruningFunc | None:
        pruner = self.customized.get(module)
        return pruner or self.customized.get(type(module))

    def _place(self, module: Any, fn: Any) -> Place:
        if not isinstance(fn, PruningFunction):
            pruner = self._customized(module)
            if pruner is None or fn not in (pruner.prune_out_channels, pruner.prune_in_channels):
                raise TypeError(f"{fn!r} does not prune a `{type(module).__name__}`")
            return self._custom_place(module, makes=fn == pruner.prune_out_channels)
        function = fn.of(module)
        if isinstance(module, nn.Parameter):
            return self._name(module), self._dim(module)
        places = function.kind.places(module, makes=function.makes)
        if not places:
            raise SecateurError(f"`{type(module).__name__}` has no parameters to prune")
        return self._name(_layers.tensor(module, places[0][0])), places[0][1]

    def _custom_place(self, module: nn.Module, *, makes: bool) -> Place:
        """The first axis with groups that a layer of one's own makes, or reads."""
        found: dict[bool, Place] = {}
        for parameter in module.parameters():
            name = self._name(parameter)
            for axis in range(parameter.dim()):
                for group in self.positions.at.get((name, axis), ()):
                    reads = self.positions.of(group)[name, axis].role == "consumer"
                    found.setdefault(not reads, (name, axis))
        if not found:
            raise SecateurError(f"nothing of the `{type(module).__name__}` can be cut")
        return found.get(makes) or next(iter(found.values()))

    def _owner(self, parameter: str) -> tuple[str, nn.Module]:
        """The layer that holds a parameter: the outermost customized one, or the innermost."""
        layers = self.positions.layers
        path = parameter.split(".")
        for end in range(len(path)) if self.customized else ():
            name = ".".join(path[:end])
            if self._customized(layers[name]):
                return name, layers[name]
        name = ".".join(path[:-1])
        return name, layers[name]

    def _node(self, place: Place, role: str) -> tuple[Node, Any]:
        """The layer that an axis belongs to, and the function that prunes it there."""
        parameter, axis = place
        name, owner = self._owner(parameter)
        pruner = self._customized(owner)
        if pruner:
            handler = pruner.prune_in_channels if role == "consumer" else pruner.prune_out_channels
            return Node(self._shown(name), owner, "customized", axis), handler
        kind = _layers.kind_of(owner)
        inner = parameter.rpartition(".")[2]
        for makes in (True, False) if kind else ():
            if (inner, axis) in kind.places(owner, makes=makes):
                function = FUNCTIONS[kind.name, makes or kind.reads is None]
                return Node(self._shown(name), owner, kind.name, axis), function
        stored = self.positions.tensors[parameter]
        return Node(self._shown(parameter), stored, "parameter", axis), FUNCTIONS["parameter", True]

    # Groups

    def _root(self, name: str, types: tuple[type, ...]) -> Place | None:
        """The first axis on which a layer of these types makes a group."""
        for place, lie in self.positions.of(name).items():
            if lie.role == "producer" or nn.Parameter in types:
                node, _ = self._node(place, lie.role)
                layers = (node.module, self._owner(place[0])[1])
                if any(isinstance(layer, types) for layer in layers) and any(
                    index is not None for index in lie.indices
                ):
                    return place
        return None

    def _is_ignored(self, name: str, layers: Sequence[Any]) -> bool:
        ignored = set()
        for layer in (*layers, *self._ignored):
            inside = layer.modules() if isinstance(layer, nn.Module) else (layer,)
            ignored.update(map(id, inside))
        stored = self.positions.tensors
        for place, lie in self.positions.of(name).items():
            makes = lie.role != "consumer" and id(self._owner(place[0])[1]) in ignored
            if makes or id(stored[place[0]]) in ignored:
                return True
        return False

    def _chosen(
        self, place: Place, idxs: Iterable[int], only: Iterable[str] | None = None
    ) -> dict[str, set[int]]:
        """The indices of the core's groups that lie at some channels of a layer.

        Where several groups lie at one channel (heads and their width), those that take the
        fewest channels along are chosen.
        """
        names = self.positions.at.get(place, [])
        if not names:
            raise SecateurError(self._why_not(place, None))
        lies = {n: self.positions.of(n)[place] for n in names if only is None or n in only}
        missing = self._folded(place, idxs)
        chosen: dict[str, set[int]] = {}
        while missing:
            name = min(lies, key=lambda name: _growth(lies[name], missing), default=None)
            lie = lies.pop(name) if name else Lie("", [], False)
            found = _indices(lie, missing) if name else set()
            if not found:
                raise SecateurError(self._why_not(place, min(missing)))
            chosen[name] = found
            missing -= set(lie.positions(found))
        return chosen

    def _why_not(self, place: Place, position: int | None) -> str:
        why = "; ".join(self.graph._model.why(*place)) or "one index always stays"
        where = f"axis {place[1]} of `{self._shown(place[0])}`"
        part = where if position is None else f"index {position} of {where}"
        return f"{part} cannot be cut: {why}"

    def _folded(self, place: Place, idxs: Iterable[int]) -> set[int]:
        """The positions of channels on an axis."""
        size, whole = self._sizes(place)
        found = {int(index) for index in idxs}
        for index in found:
            if not 0 <= index < whole:
                where = f"axis {place[1]} of `{self._shown(place[0])}`"
                raise SecateurError(f"there is no index {index} among the {whole} of {where}")
        return {index % size for index in found}

    def _sizes(self, place: Place) -> tuple[int, int]:
        """Positions on an axis, and the channels that they stand for.

        Of a convolution in groups, an axis holds the channels of one group.
        """
        size = self.positions.tensors[place[0]].shape[place[1]]
        owner = self._owner(place[0])[1]
        inner = (place[0].rpartition(".")[2], place[1])
        kind = _layers.kind_of(owner)
        if isinstance(owner, _ConvNd) and kind is not None:
            for makes in (True, False):
                if inner in kind.places(owner, makes=makes):
                    return size, kind.channels(owner, makes=makes) or size
        return size, size

    def _narrowed(self, group: Group, idxs: Sequence[int]) -> Group:
        """The same group, for other indices of its root."""
        place = self._place_of(group.root)
        return self._group(place, self._chosen(place, idxs, only=group.chosen))

    def _place_of(self, item: GroupItem) -> Place:
        target = item.dep.target
        if isinstance(target.module, Tensor):
            return self._name(target.module), target.pruning_dim
        return self._place(target.module, item.dep.handler)

    def _group(self, place: Place, chosen: Mapping[str, set[int]]) -> Group:
        found: dict[Place, dict[int, Key]] = {place: {}}
        roles: dict[Place, str] = {}
        for name, indices in chosen.items():
            for other, lie in self.positions.of(name).items():
                roles.setdefault(other, lie.role)
                at = lie.positions(indices)
                found.setdefault(other, {}).update({p: (name, lie.indices[p]) for p in at})
        sizes = {name: self.positions.groups[name].size for name in chosen}
        return Group(self, list(self._items(found, roles)), chosen, sizes)

    def _items(
        self, found: Mapping[Place, Mapping[int, Key]], roles: Mapping[Place, str]
    ) -> Iterator[GroupItem]:
        root: Node | None = None
        trigger: Any = None
        order: dict[Key, list[int]] = {}
        seen: set[tuple[int, Any]] = set()
        for place, keys in found.items():
            node, handler = self._node(place, roles[place])
            at = (id(node.module), handler if node.kind != "parameter" else place[1])
            if at in seen:
                continue
            seen.add(at)
            idxs, listed = self._tiled(place, keys)
            if root is None:
                root, trigger = node, handler
                for ordinal, key in enumerate(listed):
                    order.setdefault(key, []).append(ordinal)
            yield GroupItem(Dependency(trigger, handler, root, node), idxs, _rooted(listed, order))

    def _tiled(self, place: Place, keys: Mapping[int, Key]) -> tuple[list[int], list[Key]]:
        """The channels that stand at positions."""
        size, whole = self._sizes(place)
        at = sorted(keys)
        idxs = [p + start for start in range(0, whole, size) for p in at]
        return idxs, [keys[p % size] for p in idxs]

    def _prune(self, group: Group, *, record_history: bool) -> None:
        now = {name: self.positions.groups[name].size for name in group.chosen}
        if now != group.sizes:
            raise SecateurError("the graph was pruned since this group was made: get it again")
        if not self.check_pruning_group(group):
            raise SecateurError(f"nothing would be left of `{group.root.dep.target.name}`")
        waiting = group.waiting
        tries = [[group]]
        if waiting and waiting.groups:
            tries.append([*waiting.groups, group])
        for groups in tries:
            entries = [self._entry(one.root) for one in groups]
            try:
                self._apply(_kept(groups), loose=waiting is not None)
            except SecateurError as error:
                if waiting is None:
                    raise
                waiting.why = str(error)
                continue
            if len(groups) > 1:
                waiting.groups.clear()
            self._history += entries if record_history else ()
            return
        waiting.groups.append(group)

    def _apply(self, keeps: Mapping[str, Sequence[int]], *, loose: bool) -> None:
        with evaluated(self.model), torch.no_grad():
            self.graph.apply(keeps, loose=loose)

    def _entry(self, root: GroupItem) -> tuple[str, bool, list[int]]:
        target, handler = root.dep.target, root.dep.handler
        if isinstance(target.module, Tensor):
            return f"{target.name}:{target.pruning_dim}", True, list(root.idxs)
        return target.name, self.is_out_channel_pruning_fn(handler), list(root.idxs)


def _kept(groups: Iterable[Group]) -> dict[str, list[int]]:
    return {
        name: _rest(group.sizes[name], gone)
        for group in groups
        for name, gone in group.chosen.items()
    }


def _rest(size: int, gone: set[int]) -> list[int]:
    return [index for index in range(size) if index not in gone]


def _indices(lie: Lie, positions: Iterable[int]) -> set[int]:
    return {index for p in positions if (index := lie.indices[p]) is not None}


def _growth(lie: Lie, missing: set[int]) -> float:
    """How many channels go for each of those that are asked for."""
    met = [p for p in missing if lie.indices[p] is not None]
    return len(lie.positions(_indices(lie, met))) / len(met) if met else float("inf")


def _rooted(listed: Sequence[Key], order: Mapping[Key, Sequence[int]]) -> list[int]:
    """With which index of the root each goes; several of one sort are spread over the root's."""
    counts: dict[Key, int] = {}
    for key in listed:
        counts[key] = counts.get(key, 0) + 1
    seen: dict[Key, int] = {}
    rooted = []
    for key in listed:
        nth = seen[key] = seen.get(key, -1) + 1
        rooted.append(order[key][nth * len(order[key]) // counts[key]])
    return rooted


def first_size(example_inputs: Inputs) -> int:
    """The size of the first axis of the first input."""
    for leaf in pytree.tree_leaves(example_inputs):
        if isinstance(leaf, Tensor) and leaf.dim():
            return leaf.shape[0]
    return 1
