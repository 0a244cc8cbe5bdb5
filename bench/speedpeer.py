"""Prunes one model with torch-pruning and prints what that took, as JSON.

    python bench/speedpeer.py resnet18

`graph` is CPU seconds for building its dependency graph, `prune` those for constructing its
magnitude pruner and one step of it at a ratio of one half; `peak` is the most memory the process
held, `start` what it held before, both in bytes. One thread.
"""

import json
import resource
import sys
import time

import torch
import torch_pruning
from torch import Tensor, nn

from speedmodels import named


class SplitC2f(nn.Module):
    """YOLO's C2f with two convolutions in place of one whose result is taken apart.

    torch-pruning cannot follow the chunk of an unmodified C2f.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.left, self.right = (_half(block.cv1, part) for part in range(2))
        self.last, self.inner = block.cv2, block.m
        self.f, self.i, self.type = block.f, block.i, block.type

    def forward(self, data: Tensor) -> Tensor:
        parts = [self.left(data), self.right(data)]
        for layer in self.inner:
            parts.append(layer(parts[-1]))
        return self.last(torch.cat(parts, 1))


def _half(conv: nn.Module, part: int) -> nn.Module:
    """An ultralytics convolution with norm, of one half of the output channels."""
    old = conv.conv
    new = type(conv)(old.in_channels, old.out_channels // 2, old.kernel_size[0])
    new.conv.weight.data = old.weight.data.chunk(2)[part].clone()
    return new


def adapted(model: nn.Module) -> nn.Module:
    """The model as torch-pruning can take it."""
    layers = getattr(model, "model", None)
    if isinstance(layers, nn.Sequential):
        for index, layer in enumerate(layers):
            if type(layer).__name__ == "C2f":
                layers[index] = SplitC2f(layer)
    return model


def outputs(model: nn.Module) -> list[nn.Module]:
    """The layers whose results are the model's own: they must keep their size."""
    layers = getattr(model, "model", None)
    if isinstance(layers, nn.Sequential):
        return [layers[-1]]
    return [[module for module in model.modules() if isinstance(module, nn.Linear)][-1]]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    torch.set_num_threads(1)
    model, example = named(sys.argv[1]).build()
    model = adapted(model).eval()
    start = time.process_time()
    held = peak()
    torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
    graph = time.process_time() - start
    start = time.process_time()
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=outputs(model),
    )
    pruner.step()
    prune = time.process_time() - start
    print(json.dumps({"graph": graph, "prune": prune, "start": held, "peak": peak()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
