"""What data decide in a run: numbers that code may read, and the sizes of results.

Noted of a run on real tensors, they stand in where tensors without memory do not tell: so code that
asks for numbers runs on such tensors, too, and takes the same way whatever was cut meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from secateur._shapes import like

MAX_BYTES = 1 << 19  # that a tensor of integers or truth values may have to be real
Place = tuple[str, str]
"""An operator, and the line of code that calls it."""


class Decision(NamedTuple):
    """The results of a call, and the sizes of what it was given."""

    given: Sequence[torch.Size]
    results: Sequence[Any]  # tensors without memory for numbers that no code reads

    def recalled(self, given: Sequence[torch.Size], results: Sequence[Any] | None) -> Any:
        """The results again, but for those that have other sizes now.

        `None` where they may be others, as nothing is known of them and the call is given others.
        """
        sized = any(isinstance(result, Tensor) for result in self.results)
        if results is None and sized and self.given != given:
            return None
        news = results if results is not None else [None] * len(self.results)
        return tuple(_recalled(was, now) for was, now in zip(self.results, news, strict=True))


class Decisions:
    """Those of one run, in the order of calls; of tensors without memory where `known`."""

    def __init__(self, known: "Decisions | None" = None) -> None:
        self.made: dict[Place, list[Decision]] = defaultdict(list) if known is None else known.made
        self._next: dict[Place, Iterator[Decision]] = {}

    def note(self, place: Place, given: Sequence[torch.Size], results: Sequence[Any]) -> None:
        self.made[place].append(Decision(given, [_noted(result) for result in results]))

    def next(self, place: Place) -> Decision | None:
        """What the next call in this place decided."""
        if place not in self._next:
            self._next[place] = iter(self.made.get(place, ()))
        return next(self._next[place], None)


def is_known(tensor: object) -> bool:
    """Whether numbers are real where tensors are without memory."""
    if not isinstance(tensor, Tensor) or tensor.is_floating_point() or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= MAX_BYTES


def _noted(result: Any) -> Any:
    if not isinstance(result, Tensor):
        return result
    return result.detach().clone() if is_known(result) else like(result)


def _recalled(was: Any, now: Any) -> Any:
    if not isinstance(was, Tensor):
        return was if now is None else now
    if was.is_meta:
        return like(was) if now is None else now
    is_other = now is not None and (not now.is_meta or now.shape != was.shape)
    return now if is_other else was.clone()
