"""MACs and parameters agree with PyTorch's."""

from pathlib import Path

import pytest

import counts
import tool

pytestmark = pytest.mark.xdist_group("zoo")


def test_resnet18_counts_agree_with_pytorch(binary: Path) -> None:
    found = counts.count("resnet18", binary, tool.ROOT / "target" / "zoo")
    assert found.ok, counts.row(found)
