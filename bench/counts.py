"""Compares `secateur inspect` with PyTorch's own counts of MACs and parameters.

    python bench/counts.py

PyTorch counts half of `FlopCounterMode`'s operations for one forward pass. Exporters fold batch
norms into convolutions, so a file holds fewer parameters than the module: `folded` is the module's
count with each folded norm's scale gone and its shift in the convolution's place.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import table
from export import Exporter
from modelzoo import MODELS
from tool import ROOT, ToolError, call_json, find
from zoocase import cases

NAMES = ("resnet18", "resnet50", "mobilenet_v2", "vit_b_16")
TOLERANCE = 0.01


@dataclass(frozen=True)
class Counts:
    """PyTorch's numbers beside the file's, for the same batch."""

    name: str
    module_parameters: int
    folded_parameters: int
    file_parameters: int
    module_macs: int
    file_macs: int

    @property
    def ok(self) -> bool:
        pairs = (
            (self.folded_parameters, self.file_parameters),
            (self.module_macs, self.file_macs),
        )
        return all(abs(got - want) <= TOLERANCE * want for want, got in pairs)


def count(name: str, binary: Path, cache: Path) -> Counts:
    model = next(model for model in MODELS if model.name == name)
    module, example = model.build()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*example)
    case = next(case for case in cases() if case.name == f"{name}-{Exporter.DYNAMO}")
    report = call_json(binary, "inspect", case.file(cache))
    return Counts(
        name,
        parameters(module),
        parameters(module) - sum(map(_scale, module.modules())),
        report["parameters"],
        counter.get_total_flops() // 2,
        report["macs"],
    )


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _scale(module: nn.Module) -> int:
    """In these models every batch norm follows a convolution without bias, and is folded."""
    return module.num_features if isinstance(module, nn.BatchNorm2d) else 0


HEADER = ("model", "torch params", "folded", "secateur", "torch MACs", "secateur", "status ")


def row(counts: Counts) -> list[str]:
    numbers = (
        counts.module_parameters,
        counts.folded_parameters,
        counts.file_parameters,
        counts.module_macs,
        counts.file_macs,
    )
    return [counts.name, *(f"{number:,}" for number in numbers), "ok" if counts.ok else "differ"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(NAMES), help=f"of {', '.join(NAMES)}")
    parser.add_argument("--cache", type=Path, default=ROOT / "target" / "zoo")
    parser.add_argument("--secateur", type=Path, help="the binary (default: the one in target)")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    try:
        binary = find(arguments.secateur)
        found = [count(name, binary, arguments.cache) for name in arguments.models]
    except ToolError as error:
        sys.exit(str(error))
    print(table.text(HEADER, [row(counts) for counts in found]))
    return int(not all(counts.ok for counts in found))


if __name__ == "__main__":
    sys.exit(main())
