"""What was cut of a module since it was made, so that a fresh one can be cut alike.

Every layer has the record of its own tensors and attributes, in an attribute of plain lists: so
copies have it, and modules that the layer is put into or taken out of.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from secateur._attributes import Attribute, helpers
from secateur._modules import join, layers

Keep = Sequence[Sequence[int] | None]
Record = dict[str, Any]

RECORD = "_secateur"
HELPER = "@"


def _record(layer: nn.Module) -> Record:
    """Per tensor, the kept positions of every axis; of attributes, the place and last number."""
    return layer.__dict__.setdefault(RECORD, {"slices": {}, "attributes": []})


def add(
    module: nn.Module,
    slices: Iterable[tuple[str, Keep]],
    changed: Mapping[Attribute, int | float],
) -> None:
    """Positions of what was cut before are positions of what was there at first."""
    for name, keep in slices:
        path, _, own = name.rpartition(".")
        of_layer = _record(module.get_submodule(path))["slices"]
        before = of_layer.get(own, [None] * len(keep))
        of_layer[own] = [_then(old, new) for old, new in zip(before, keep, strict=True)]
    if not changed:
        return
    inside = layers(module)
    owners = {id(layer): (layer, "") for _, layer in inside}
    for _, layer in inside:
        for helper, value in helpers(layer):
            owners.setdefault(id(value), (layer, helper))
    for attribute, number in changed.items():
        if id(attribute.module) not in owners:
            continue
        layer, helper = owners[id(attribute.module)]
        place = [helper, attribute.name, attribute.key]
        others = [one for one in _record(layer)["attributes"] if one[:3] != place]
        _record(layer)["attributes"] = [*others, [*place, number]]


def as_json(module: nn.Module) -> Record:
    """All that was cut of the module, by the names that its tensors have now."""
    slices: dict[str, Any] = {}
    attributes = []
    for path, layer in layers(module):
        record = layer.__dict__.get(RECORD, {"slices": {}, "attributes": []})
        slices |= {join(path, own): keep for own, keep in record["slices"].items()}
        for helper, *rest in record["attributes"]:
            attributes.append([f"{path}{HELPER}{helper}" if helper else path, *rest])
    return {"version": 1, "slices": slices, "attributes": attributes}


def attributes(module: nn.Module, record: Record) -> dict[Attribute, int | float]:
    """The attributes of a module that a record names, and what they become."""
    found = {}
    for place, name, key, number in record["attributes"]:
        path, _, helper = place.partition(HELPER)
        owner: Any = module.get_submodule(path)
        if helper:
            owner = getattr(owner, helper)
        found[Attribute(owner, name, key)] = number
    return found


def _then(old: list[int] | None, new: Sequence[int] | None) -> list[int] | None:
    if new is None:
        return old
    return list(new) if old is None else [old[index] for index in new]
