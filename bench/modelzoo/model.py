"""One model of the zoo: how to build it and what to feed it."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Example = tuple[Tensor, ...]
Built = tuple[nn.Module, Example]


class Family(enum.StrEnum):
    """Where a model comes from."""

    CLASSIFICATION = "torchvision classification"
    SEGMENTATION = "torchvision segmentation"
    DETECTION = "torchvision detection"
    TIMM = "timm"
    TRANSFORMERS = "transformers"
    YOLO = "yolo"
    OTHERS = "other libraries"


@dataclass(frozen=True)
class Model:
    """How to build one model, and what to feed its exporter."""

    name: str
    family: Family
    build: Callable[[], Built]
    inputs: tuple[str, ...] = ("input",)
    fast: bool = False
    dynamic: bool = True  # whether the exported graph can serve another batch size
    plain: Callable[[], Built] | None = None  # the same without what exporters may not know


class Outputs(nn.Module):
    """A module of named inputs and outputs as one of tensors in and tensors out."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, tensors, strict=True)))
        return tuple(found[name] for name in self.outputs)


def image(size: int, channels: int = 3, batch: int = 2) -> Example:
    seeded = torch.Generator().manual_seed(0)
    return (torch.randn(batch, channels, size, size, generator=seeded),)
