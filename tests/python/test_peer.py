"""The check of torch-pruning's result tells right from wrong: layers are cut by hand here."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import peer
from export import randomize

EXAMPLE = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


class Small(nn.Module):
    """A convolution, a norm, and the mean into a linear layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = norm
        self.head = nn.Linear(8, 5)

    def forward(self, value: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(value))).mean((2, 3)))


def cut(module: Small, channels: Sequence[int], columns: Sequence[int]) -> Small:
    small = copy.deepcopy(module)
    for layer in (small.conv, small.norm):
        layer.weight = nn.Parameter(layer.weight[channels])
        layer.bias = nn.Parameter(layer.bias[channels])
    if isinstance(small.norm, nn.BatchNorm2d):
        small.norm.running_mean = small.norm.running_mean[channels]
        small.norm.running_var = small.norm.running_var[channels]
    else:
        small.norm.num_channels = len(channels)
    small.head.weight = nn.Parameter(small.head.weight[:, columns])
    return small


@pytest.mark.parametrize(
    ("norm", "columns", "status"),
    [
        (nn.BatchNorm2d(8), [0, 2, 5, 7], "ok"),
        (nn.BatchNorm2d(8), [0, 2, 5, 6], "wrong"),
        (nn.GroupNorm(2, 8), [0, 2, 5, 7], "approximate"),
    ],
)
def test_verdict(norm: nn.Module, columns: list[int], status: str) -> None:
    module = randomize(Small(norm), EXAMPLE)
    assert peer.judge(module, cut(module, [0, 2, 5, 7], columns), EXAMPLE)["status"] == status


class Normed(nn.Module):
    """Two linear layers with a layer norm over what the first makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 5)

    def forward(self, value: Tensor) -> Tensor:
        return self.head(self.norm(self.first(value)))


@pytest.mark.parametrize(("columns", "status"), [([0, 2, 5], "ok"), ([0, 2, 4], "wrong")])
def test_layer_norm_of_the_mask_sees_what_is_left(columns: list[int], status: str) -> None:
    module = randomize(Normed(), EXAMPLE)
    small = copy.deepcopy(module)
    for layer in (small.first, small.norm):
        layer.weight = nn.Parameter(layer.weight[[0, 2, 5]])
        layer.bias = nn.Parameter(layer.bias[[0, 2, 5]])
    small.norm.normalized_shape = (3,)
    small.head.weight = nn.Parameter(small.head.weight[:, columns])
    assert peer.judge(module, small, EXAMPLE)["status"] == status


def test_nothing_pruned_is_told() -> None:
    module = randomize(Small(nn.BatchNorm2d(8)), EXAMPLE)
    assert peer.judge(module, copy.deepcopy(module), EXAMPLE)["status"] == "nothing pruned"


def test_kept_indices_are_read_off_the_values() -> None:
    before = np.random.default_rng(0).standard_normal((6, 4, 3))
    keep = peer.kept(before, before[np.ix_([1, 2, 5], [0, 3], [0, 1, 2])])
    assert [list(index) for index in keep] == [[1, 2, 5], [0, 3], [0, 1, 2]]


def test_values_that_are_no_selection_are_told() -> None:
    before = np.random.default_rng(0).standard_normal((6, 4))
    assert peer.kept(before, before[[1, 2]] + 1) is None


def test_last_layers_are_those_next_to_the_output() -> None:
    module = Small(nn.BatchNorm2d(8))
    assert peer.last_layers(module, EXAMPLE) == [module.head]
