"""Trained networks: both sides of the table are made of one selection."""

import pretrained
import torch
from torch import nn

from tool import find


def test_files_and_modules_lose_the_same() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Conv2d(40, 40, 3), nn.ReLU(), nn.Flatten())
    module = nn.Sequential(*layers, nn.Linear(640, 5)).eval()
    inputs = (torch.randn(6, 3, 8, 8),)
    subject = pretrained.Subject(module, inputs, lambda scores: scores.argmax(1))
    (whole, right), *rows = pretrained.rows(subject, find(), [0.25])
    assert right
    assert whole[2] == "0"
    (live, is_live_right), (program, is_program_right) = rows
    assert (live[1], program[1]) == ("live", ".pt2")
    assert is_live_right
    assert is_program_right
    assert live[2] == "2"
    columns = (0, 2, 4, 5, 6, 7)
    assert [live[at] for at in columns] == [program[at] for at in columns]


def test_photographs_are_seen_whole_and_in_corners() -> None:
    image = pretrained.Image.new("L", (40, 20))
    sizes = [view.size for view in pretrained._views(image)]
    assert sizes == [(40, 20), *4 * [(30, 15)]]
