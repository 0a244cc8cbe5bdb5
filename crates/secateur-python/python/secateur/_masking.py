"""Masks as parametrizations: where they sit, how they are put on and taken off.

Knows nothing of how masks are chosen, nor of groups.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur._secateur import SecateurError

Place = tuple[nn.Module, str]
"""A module and the name of one of its tensors."""


class Mask(nn.Module):
    """A parametrization that reads a weight as zero where `keep`, a boolean buffer, is false."""

    keep: Tensor

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight. Hidden elements get no gradient, whatever they hold."""
        return torch.where(self.keep, weight, torch.zeros_like(weight))

    def extra_repr(self) -> str:
        return f"{int(self.keep.numel() - self.keep.sum())} of {self.keep.numel()} masked"


def chosen(
    module: nn.Module, names: str | Sequence[str] | None, *, least: int = 2
) -> list[tuple[str, Place]]:
    """Parameters by name, each once."""
    every = list(_parameters(module))
    if names is None:
        found = [(name, place) for name, place in every if raw(place).dim() >= least]
    else:
        patterns = [names] if isinstance(names, str) else list(names)
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name, _ in every):
                known = ", ".join(f"`{name}`" for name, _ in every[:8])
                raise SecateurError(f"no parameter matches `{pattern}`\nhint: there are {known}")
        found = [(n, place) for n, place in every if any(fnmatchcase(n, p) for p in patterns)]
    if not found:
        raise SecateurError("there is no parameter of two dimensions\nhint: give `names`")
    return found


def _parameters(module: nn.Module) -> Iterator[tuple[str, Place]]:
    """All parameters, masked or not, under the names they have without masks."""
    seen: set[int] = set()
    for path, place in _places(module):
        if id(raw(place)) not in seen:
            seen.add(id(raw(place)))
            yield path, place


def _places(module: nn.Module) -> Iterator[tuple[str, Place]]:
    """Every attribute that holds a parameter; tied ones several times."""
    for path, owner in module.named_modules():
        if isinstance(owner, parametrize.ParametrizationList) or ".parametrizations" in f".{path}":
            continue
        masked = getattr(owner, "parametrizations", None)
        masked = masked if isinstance(masked, nn.ModuleDict) else {}
        for name in [*owner._parameters, *masked]:
            place = (owner, name)
            if isinstance(raw(place), nn.Parameter):
                yield f"{path}.{name}" if path else name, place


def place_of(module: nn.Module, name: str) -> Place:
    path, _, attribute = name.rpartition(".")
    try:
        place = (module.get_submodule(path), attribute)
        if isinstance(raw(place), Tensor):
            return place
    except AttributeError:
        pass
    raise SecateurError(f"the module has no tensor `{name}`\nhint: `graph.refresh()` after changes")


def raw(place: Place) -> Tensor | None:
    """The tensor underneath all parametrizations; the first, where they have several."""
    owner, name = place
    if parametrize.is_parametrized(owner, name):
        listed = owner.parametrizations[name]
        return listed.original if listed.is_tensor else listed.original0
    return getattr(owner, name)


def read(place: Place) -> Tensor:
    """The tensor as the module's code reads it."""
    with torch.no_grad():
        return getattr(*place).detach()


def mask_of(place: Place) -> Mask | None:
    owner, name = place
    if not parametrize.is_parametrized(owner, name):
        return None
    return next((one for one in owner.parametrizations[name] if isinstance(one, Mask)), None)


def keep_of(place: Place) -> Tensor:
    found = mask_of(place)
    if found is not None:
        return found.keep.clone()
    return torch.ones_like(read(place), dtype=torch.bool)


def masked(module: nn.Module, names: str | Sequence[str] | None) -> list[Place]:
    found = [place for _, place in _places(module) if mask_of(place) is not None]
    if names is None:
        return found
    wanted = {id(raw(place)) for _, place in chosen(module, names)}
    return [place for place in found if id(raw(place)) in wanted]


def same(module: nn.Module, place: Place) -> list[Place]:
    """All places that hold the same parameter."""
    tensor = raw(place)
    return [other for _, other in _places(module) if raw(other) is tensor]


def put(place: Place, keep: Tensor) -> None:
    """Puts a mask on, or adds it to the mask that is there."""
    now = mask_of(place)
    if now is not None:
        now.keep.logical_and_(keep)
        return
    owner, name = place
    owner.__dict__.setdefault(_ORDER, [*owner._parameters])
    _own_class(owner)
    parametrize.register_parametrization(owner, name, Mask(keep.clone().to(read(place).device)))
    if isinstance(owner, nn.RNNBase) and not hasattr(owner, _HOOKS):
        hooks = (
            owner.register_forward_pre_hook(_read_flat),
            owner.register_forward_hook(_forget_flat, always_call=True),
        )
        owner.__dict__[_HOOKS] = hooks


def take_off(place: Place, *, permanent: bool) -> None:
    """Takes the mask off; where `permanent`, its zeros are written into the parameter.

    # Raises
    SecateurError: zeros cannot be written through another parametrization.
    """
    found = mask_of(place)
    if found is None:
        return
    owner, name = place
    listed = owner.parametrizations[name]
    if permanent:
        if len(listed) > 1:
            kinds = ", ".join(f"`{type(one).__name__}`" for one in listed if one is not found)
            raise SecateurError(
                f"zeros cannot be written through {kinds} of `{name}`\n"
                "hint: `torch.nn.utils.parametrize.remove_parametrizations` first"
            )
        with torch.no_grad():
            listed.original.masked_fill_(~found.keep, 0)
    del listed[next(index for index, one in enumerate(listed) if one is found)]
    if not len(listed):
        _remove(owner, name)


def _remove(owner: nn.Module, name: str) -> None:
    """Takes an empty parametrization away; the parameter keeps its identity and place."""
    _own_class(owner)
    parametrize.remove_parametrizations(owner, name, leave_parametrized=False)
    for one in owner.__dict__[_ORDER]:
        if one in owner._parameters:
            owner._parameters[one] = owner._parameters.pop(one)
    if not parametrize.is_parametrized(owner):
        del owner.__dict__[_ORDER]
    if not isinstance(owner, nn.RNNBase):
        return
    if not any(mask_of((owner, other)) for other in owner._flat_weights_names):
        for hook in owner.__dict__.pop(_HOOKS, ()):
            hook.remove()
    _forget_flat(owner)


def _own_class(owner: nn.Module) -> None:
    """PyTorch puts a property on the module's class, which deep copies of the module share."""
    if parametrize.is_parametrized(owner):
        shared = type(owner)
        own = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
        owner.__class__ = type(shared.__name__, shared.__bases__, own)


_HOOKS = "_secateur_hooks"
_ORDER = "_secateur_order"  # of the parameters of a module, which an optimizer's state goes by


def _read_flat(module: nn.Module, _args: object) -> None:
    """Recurrent layers read a list of their weights, which has to be of masked ones."""
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


def _forget_flat(module: nn.Module, *_: object) -> None:
    module._flat_weights = [raw((module, name)) for name in module._flat_weights_names]
