"""The numbers in modules that describe the sizes of their tensors, and how they follow.

Knows nothing of groups: it is told which arguments of which calls change.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from secateur._capture import Call
from secateur._derived import weight_sizes
from secateur._modules import layers

Number = tuple[Call, str, int, int]
"""An integer that a call is given: the call, the argument, what it is and what it becomes."""

Sizes = tuple[Sequence[int], Sequence[int]]
"""The shape of a tensor before and after it is cut."""


@dataclass(eq=False, slots=True)
class Attribute:
    """A number, or a number in a container, of a module or of an object that it holds."""

    module: Any
    name: str
    key: int | str | None  # in a sequence or a dictionary

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attribute) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[int, str, int | str | None]:
        return id(self.module), self.name, self.key

    def get(self) -> int:
        value = self.module.__dict__[self.name]
        return value if self.key is None else value[self.key]

    def set(self, number: int | float) -> None:
        attributes = self.module.__dict__
        value = attributes[self.name]
        if self.key is None:
            attributes[self.name] = number
        elif isinstance(value, dict):
            items = tuple(value.items())
            attributes[self.name] = value = type(value)(items)
            value[self.key] = number
            if attributes.get(f"_{self.name}") == items:  # as layers of einops have them, too
                attributes[f"_{self.name}"] = tuple(value.items())
        else:
            numbers = list(value)
            numbers[self.key] = number
            attributes[self.name] = type(value)(numbers)

    def __str__(self) -> str:
        place = "" if self.key is None else f"[{self.key!r}]"
        return f"{type(self.module).__name__}.{self.name}{place}"


Found = list[tuple[Attribute, int]]
"""Attributes, and what they are or become."""


def _held(module: Any) -> Found:
    """All integers that a module or a helper holds, but for flags, places and PyTorch's own."""
    found = []
    for name, value in module.__dict__.items():
        if name == "training" or name.startswith(LIMITS) or name.endswith(PLACES):
            continue
        if type(value) is int:
            found.append((Attribute(module, name, None), value))
        elif isinstance(value, (tuple, list, dict)) and 0 < len(value) < 16:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            integers = ((key, one) for key, one in items if type(one) is int)
            found += [(Attribute(module, name, key), one) for key, one in integers]
    return found


def helpers(module: Any) -> Iterator[tuple[str, Any]]:
    """Objects that a module holds by name and that are none: configurations, geometries."""
    for name, value in module.__dict__.items() if isinstance(module, nn.Module) else ():
        if name.startswith("_") or not hasattr(value, "__dict__"):
            continue
        if not callable(value) and not isinstance(value, Tensor):
            yield name, value


def spelled(changed: Iterable[Number]) -> dict[Attribute, list[int]]:
    """The attributes that spell arguments that change, and what they may become.

    They are those of the innermost of the modules that the call is made in that has one of the
    argument's value, and numbers of heads that divide it. PyTorch's own layers spell what they
    are given: of their calls, the modules around them say nothing. What they say of their tensors
    is left out. Where calls disagree, as one of them has the attribute's value by chance, there
    are several numbers; the first is the present one, where another attribute is a likelier one or
    the name is that of something else.
    """
    found: dict[Attribute, list[int]] = {}
    known: dict[int, _Own] = {}
    shared: dict[int, Found] = {}

    def own(module: nn.Module) -> _Own:
        if id(module) not in known:
            layer = _own_names(module)
            held = _held(module)
            for _, helper in helpers(module):
                if id(helper) not in shared:
                    shared[id(helper)] = _held(helper)
                held += shared[id(helper)]
            known[id(module)] = _Own.of((at, n) for at, n in held if at.name not in layer)
        return known[id(module)]

    def innermost(modules: Sequence[nn.Module], rule: Rule, was: int, becomes: int) -> Found:
        for module in reversed(modules):
            ruled = rule(own(module), was, becomes)
            if ruled or type(module).__module__.startswith("torch.nn."):
                return ruled
        return []

    heads: dict[Attribute, list[int]] = {}
    doubtful: set[Attribute] = set()
    for modules, was, becomes in {(call.modules, was, now): None for call, _, was, now in changed}:
        equal = innermost(modules, _Own.equal_to, was, becomes)
        for attribute, number in equal:
            found.setdefault(attribute, []).append(number)
        spelling = {id(attribute.module) for attribute, _ in equal}
        for attribute, number in innermost(modules, _Own.heads_of, was, becomes):
            heads.setdefault(attribute, []).append(number)
            if id(attribute.module) in spelling:
                doubtful.add(attribute)
    doubtful -= found.keys()
    doubtful |= {attribute for attribute in found if _is_other(attribute)}
    for attribute, numbers in heads.items():
        found.setdefault(attribute, []).extend(numbers)
    for attribute in doubtful:
        found[attribute].insert(0, attribute.get())
    return {attribute: list(dict.fromkeys(numbers)) for attribute, numbers in found.items()}


def _is_other(attribute: Attribute) -> bool:
    """Whether a name is that of a number of other things than channels.

    Configurations hold numbers of all sorts: of theirs, a name has to say channels.
    """
    name = attribute.name
    if any(word in name for word in CHANNELS):
        return False
    return not isinstance(attribute.module, nn.Module) or any(word in name for word in OTHERS)


def heads(module: nn.Module, changed: Iterable[tuple[str, int, int]]) -> dict[Attribute, int]:
    """The attributes that are named after heads and hold how many there are of a parameter that
    makes or reads them, in the module around its layer; of those that become several numbers, none.
    """
    inside = dict(layers(module))
    found: dict[Attribute, set[int]] = {}
    for parameter, was, becomes in changed:
        around = inside.get(".".join(parameter.split(".")[:-2]))
        for owner in () if around is None else (around, *(one for _, one in helpers(around))):
            for attribute, value in _held(owner):
                if value == was and _counts_heads(attribute.name):
                    found.setdefault(attribute, set()).add(becomes)
    return {at: next(iter(numbers)) for at, numbers in found.items() if len(numbers) == 1}


def _counts_heads(name: str) -> bool:
    return ("head" in name or "groups" in name) and not any(word in name for word in WIDTHS)


def sized(module: nn.Module, sizes: Mapping[str, Sizes]) -> dict[Attribute, int]:
    """The attributes that hold a size of a tensor in their module.

    Of sizes that become several others, they say nothing.
    """
    changes: dict[str, dict[int, set[int]]] = {}
    for name, (before, after) in sizes.items():
        path = name
        while path:
            path = path.rpartition(".")[0]
            of_path = changes.setdefault(path, {})
            for was, becomes in zip(before, after, strict=True):
                if was != becomes:
                    of_path.setdefault(was, set()).add(becomes)
    found = {}
    for path, layer in layers(module):
        if path not in changes:
            continue
        known = _own_names(layer)
        for attribute, was in _held(layer):
            becomes = changes[path].get(was, set())
            if attribute.name not in known and len(becomes) == 1:
                found[attribute] = next(iter(becomes))
    return found


class _Own(NamedTuple):
    """The numbers that a module and its helpers hold of their own."""

    by_value: dict[int, list[Attribute]]
    heads: Found

    @classmethod
    def of(cls, held: Iterable[tuple[Attribute, int]]) -> "_Own":
        found = cls({}, [])
        for attribute, value in held:
            found.by_value.setdefault(value, []).append(attribute)
            if "head" in attribute.name and _counts_heads(attribute.name):
                found.heads.append((attribute, value))
        return found

    def equal_to(self, was: int, becomes: int) -> Found:
        return [(attribute, becomes) for attribute in self.by_value.get(was, ())]

    def heads_of(self, was: int, becomes: int) -> Found:
        """Of a batch of heads, the heads."""
        return [
            (attribute, value * becomes // was)
            for attribute, value in self.heads
            if value > 1 and was % value == 0 and (value * becomes) % was == 0
        ]


Rule = Callable[[_Own, int, int], Found]
"""The attributes that spell a number that changes, and what they become."""

WIDTHS = ("dim", "size", "width", "channels", "features")
"""What the name of a width has."""

CHANNELS = (
    *("dim", "width", "channel", "feature", "hidden", "d_", "n_embd", "embed_", "inner", "ffn"),
    *("intermediate", "head", "model", "planes", "units"),
)
"""What the name of a number of channels has."""

OTHERS = (
    *("batch", "block", "class", "context", "image", "img", "label", "length", "patch", "position"),
    *("resolution", "seq", "step", "token", "vocab", "window"),
)
"""What the name of a number of something else has."""

PLACES = ("_id", "_idx", "_index", "layer", "layers", "depth")
"""How the names of places end, such as those of a layer or of a token, and of numbers of layers."""

LIMITS = ("_", "max_")
"""How the names of limits begin, such as that of a sequence, and of what is private."""

GEOMETRY = frozenset(("kernel_size", "stride", "padding", "dilation", "output_padding"))
"""What is no size of channels."""


def _own_names(module: nn.Module) -> frozenset[str]:
    """What is described by a layer's own tensors and calls, or is no size at all."""
    names = GEOMETRY.union(attribute.name for attribute in described(module))
    grouped = isinstance(module, (nn.modules.conv._ConvNd, nn.GroupNorm))
    return names | {"groups", "num_groups"} if grouped else names


def described(module: nn.Module) -> dict[Attribute, int]:
    """What the attributes of PyTorch's own layers are, by the tensors that they describe."""
    if not module._parameters and not module._buffers:
        return {}
    found = {name: number for name, number in _described(module) if name in module.__dict__}
    result = {}
    for name, number in found.items():
        value = module.__dict__[name]
        if isinstance(value, tuple):
            sizes = number if isinstance(number, tuple) else (number,)
            result.update({Attribute(module, name, i): size for i, size in enumerate(sizes)})
        elif isinstance(number, int):
            result[Attribute(module, name, None)] = number
    return result


def _described(module: nn.Module) -> Iterator[tuple[str, Any]]:
    sizes = weight_sizes(module)
    match module:
        case nn.Linear():
            yield from (("out_features", sizes[0]), ("in_features", sizes[1]))
        case nn.Bilinear():
            names = ("out_features", "in1_features", "in2_features")
            yield from zip(names, sizes, strict=True)
        case nn.modules.conv._ConvNd():
            groups = module.groups
            lead, rest = ("in", "out") if module.transposed else ("out", "in")
            yield from ((f"{lead}_channels", sizes[0]), (f"{rest}_channels", sizes[1] * groups))
        case nn.modules.batchnorm._NormBase():
            table = module.running_mean
            if sizes or table is not None:
                yield "num_features", sizes[0] if sizes else table.shape[0]
        case nn.GroupNorm() if sizes:
            yield "num_channels", sizes[0]
        case nn.LayerNorm() | nn.RMSNorm() if sizes:
            yield "normalized_shape", sizes
        case nn.Embedding() | nn.EmbeddingBag():
            yield from (("num_embeddings", sizes[0]), ("embedding_dim", sizes[1]))
        case nn.PReLU():
            yield "num_parameters", sizes[0]
        case nn.MultiheadAttention():
            joint = module.in_proj_weight
            keys = joint if joint is not None else module.k_proj_weight
            values = joint if joint is not None else module.v_proj_weight
            yield "embed_dim", module.out_proj.weight.shape[0]
            yield from (("kdim", keys.shape[1]), ("vdim", values.shape[1]))
        case nn.RNNBase():
            yield from _recurrent(module)
        case _:
            return


def _recurrent(module: nn.RNNBase) -> Iterator[tuple[str, Any]]:
    yield "input_size", module.weight_ih_l0.shape[1]
    yield "hidden_size", module.weight_hh_l0.shape[1]
    if module.proj_size:
        yield "proj_size", module.weight_hr_l0.shape[0]
