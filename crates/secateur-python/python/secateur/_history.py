"""What was cut of a module since it was made, so that a fresh one can be cut alike."""

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur._attributes import Attribute, helpers
from secateur._capture import layers

Keep = Sequence[Sequence[int] | None]


@dataclass
class History:
    """Per tensor, the kept positions of every axis; per attribute, the last number."""

    slices: dict[str, list[list[int] | None]] = field(default_factory=dict)
    attributes: dict[tuple[str, str, int | str | None], int | float] = field(default_factory=dict)

    def add(self, slices: Iterable[tuple[str, Keep]]) -> None:
        """Positions of what was cut before are positions of what was there at first."""
        for name, keep in slices:
            before = self.slices.get(name, [None] * len(keep))
            self.slices[name] = [_then(old, new) for old, new in zip(before, keep, strict=True)]

    def note(self, module: nn.Module, changed: Iterable[tuple[Attribute, int]]) -> None:
        """Attributes are told apart by the place of their module, or of one that holds them."""
        inside = layers(module)
        places = {id(layer): name for name, layer in inside}
        changed = list(changed)
        if any(id(attribute.module) not in places for attribute, _ in changed):
            for name, layer in inside:
                for helper, value in helpers(layer):
                    places.setdefault(id(value), f"{name}{HELPER}{helper}")
        for attribute, number in changed:
            place = places.get(id(attribute.module))
            if place is not None:
                self.attributes[(place, attribute.name, attribute.key)] = number

    def as_json(self) -> dict[str, Any]:
        attributes = [[*key, number] for key, number in self.attributes.items()]
        return {"version": 1, "slices": self.slices, "attributes": attributes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "History":
        attributes = {(p, name, key): n for p, name, key, n in data["attributes"]}
        return cls(slices=data["slices"], attributes=attributes)

    def attributes_of(self, module: nn.Module) -> dict[Attribute, int | float]:
        found = {}
        for (place, name, key), number in self.attributes.items():
            path, _, helper = place.partition(HELPER)
            owner: Any = module.get_submodule(path)
            if helper:
                owner = getattr(owner, helper)
            found[Attribute(owner, name, key)] = number
        return found


HELPER = "@"
HISTORIES: "weakref.WeakKeyDictionary[nn.Module, History]" = weakref.WeakKeyDictionary()


def of(module: nn.Module) -> History:
    return HISTORIES.setdefault(module, History())


def _then(old: list[int] | None, new: Sequence[int] | None) -> list[int] | None:
    if new is None:
        return old
    return list(new) if old is None else [old[index] for index in new]
