"""PyTorch programs (`.pt2`): modules of the fixtures, and every verb on one of them."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import export
import live
import make
import tool
import torchexact

STATIC, BATCH = (), (0,)
CASES = [
    ("residual_add", BATCH),
    ("flatten_conv_linear", BATCH),
    ("channel_shuffle", STATIC),
    ("c2f", BATCH),
    ("uneven_split", STATIC),
    ("chunk_gate", STATIC),
    ("grouped_transposed_conv", STATIC),
    ("unet_resize_concat", STATIC),
    ("squeeze_excite", STATIC),
    ("convnext_block", BATCH),
    ("tied_embeddings", BATCH),
    ("fused_qkv_attention", STATIC),
    ("fused_qkv_attention", BATCH),
    ("grouped_query_attention", BATCH),
    ("rotary_attention", STATIC),
    ("window_attention", BATCH),
    ("rms_norm_swiglu", BATCH),
    ("lstm", STATIC),
    ("gru", STATIC),
]


def module(name: str, seed: int = 0) -> nn.Module:
    fixture = make.FIXTURES[name]
    torch.manual_seed(seed)
    return export.randomize(fixture.build(), fixture.example, seed)


def save(path: Path, name: str, dynamic: tuple[int, ...] = STATIC, seed: int = 0) -> Path:
    export.export_program(module(name, seed), make.FIXTURES[name].example, path, dynamic=dynamic)
    return path


@pytest.mark.parametrize(("name", "dynamic"), CASES)
def test_pruned_computes_what_masked_computes(
    name: str, dynamic: tuple[int, ...], binary: Path, tmp_path: Path
) -> None:
    result = torchexact.check(save(tmp_path / "model.pt2", name, dynamic), binary)
    assert not result.problems
    assert result.cut > 0, "nothing was pruned"


class Transforms(nn.Module):
    """Fourier transforms of pixels, windows that are added up, and group norms without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, padding=1)
        self.norm = nn.GroupNorm(4, 12, affine=False)
        self.spread, self.last = nn.Conv2d(12, 6 * 4, 1, groups=2), nn.Conv2d(6, 5, 1)
        self.register_buffer("filter", torch.rand(8, 9, 5, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        spectrum = torch.fft.rfft2(x, norm="ortho")[..., :5] * torch.view_as_complex(self.filter)
        x = torch.fft.irfft2(spectrum, s=(9, 8), norm="ortho") + torch.fft.fft(x).real
        x = self.spread(self.norm(self.second(x)))
        x = nn.functional.fold(x.flatten(2), (18, 16), 2, stride=2)
        return self.last(x)


class Overwriting(nn.Module):
    """A convolution of some channels in their place, shifted ones, and rows put one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.part = nn.Conv2d(3, 12, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.rows, self.last = nn.Linear(12, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        pixels = x.flatten(2)
        some = self.part.in_channels
        x[:, :some] = self.part(x[:, :some])
        x[:, some:, 1:] = x[:, some:, :-1].clone()
        pixels = pixels.relu_().transpose(1, 2)
        rows = pixels.new_zeros(len(pixels), 4, self.rows.out_features)
        for place in range(4):
            rows[:, place] += self.rows(pixels[:, place] + x.mean((2, 3)))
        return self.last(rows)


@pytest.mark.parametrize(("kind", "groups", "exact"), [(Transforms, 5, 2), (Overwriting, 3, 3)])
def test_channels_are_followed_through_transforms_and_writes(
    kind: type[nn.Module], groups: int, exact: int, binary: Path, tmp_path: Path
) -> None:
    example = (torch.rand(2, 3, 9, 8),)
    model = export.randomize(kind(), example)
    usual = live.outputs(model, example)
    export.export_program(model, example, tmp_path / "model.pt2")
    result = torchexact.check(tmp_path / "model.pt2", binary)
    assert not result.problems
    assert (result.groups, result.cut) == (groups, exact)
    check = live.check(model, example, usual, 0.5)
    assert (check["status"], check["left"], check["warnings"]) == ("ok", 0, [])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_are_cut(dtype: torch.dtype, binary: Path, tmp_path: Path) -> None:
    path, example = tmp_path / "model.pt2", (make.TOKENS.to(dtype),)
    export.export_program(module("rms_norm_swiglu").to(dtype), example, path)
    result = torchexact.check(path, binary)
    assert not result.problems
    assert result.cut > 0
    assert result.report["after"]["bytes"] < result.report["before"]["bytes"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("programs") / "model.pt2", "residual_add", BATCH)


def test_inspect_groups_and_why_read_programs(program: Path, binary: Path) -> None:
    weights = dict(module("residual_add").named_parameters())
    found = tool.call_json(binary, "inspect", program)
    assert found["parameters"] >= sum(weight.numel() for weight in weights.values())
    groups = tool.call_json(binary, "groups", program)["groups"]
    assert groups
    name = next(name for name, weight in weights.items() if weight.dim() == 4)
    assert name in tool.call(binary, "why", program, f"{name}:0")


def test_plan_is_applied_to_another_checkpoint(program: Path, binary: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other.pt2", "residual_add", BATCH, seed=1)
    plan, small, masked = (tmp_path / name for name in ("plan.json", "small.pt2", "masked.pt2"))
    given = ("--ratio=0.5", "--exact-only", "--plan", plan)
    tool.call(binary, "prune", program, "-o", tmp_path / "first.pt2", *given)
    tool.call(binary, "apply", plan, other, "-o", small)
    tool.call(binary, "mask", other, "-o", masked, "--plan", plan)
    inputs = ((torch.randn(3, *make.IMAGE.shape[1:]),), {})
    first, pruned, zeroed = (
        torchexact.run(torchexact.load(path), inputs)
        for path in (tmp_path / "first.pt2", small, masked)
    )
    np.testing.assert_allclose(pruned[0], zeroed[0], atol=1e-4)
    assert np.abs(first[0] - pruned[0]).max() > 1e-3, "both checkpoints compute the same"
    assert small.stat().st_size < other.stat().st_size


def test_pruned_program_is_exported_to_onnx(program: Path, binary: Path, tmp_path: Path) -> None:
    small, model = tmp_path / "small.pt2", tmp_path / "small.onnx"
    tool.call(binary, "prune", program, "-o", small, "--ratio=0.5")
    pruned = torchexact.load(small)
    with export.quiet():
        torch.onnx.export(pruned, dynamo=True).save(str(model))
    session = onnxruntime.InferenceSession(model)
    image = torch.randn(3, *make.IMAGE.shape[1:])
    (wanted,) = torchexact.run(pruned, ((image,), {}))
    (got,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_checkpoint_that_is_no_program_gets_a_hint(binary: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(module("residual_add").state_dict(), path)
    with pytest.raises(tool.ToolError, match=r"torch\.export\.save"):
        tool.call(binary, "inspect", path)
