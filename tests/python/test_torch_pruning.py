"""Torch-Pruning's surface: its tutorials and scenarios, checked against the masked original."""

import copy
import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("secateur._secateur")
torchvision = pytest.importorskip("torchvision")

import secateur.torch_pruning as tp  # noqa: E402

torch.set_num_threads(1)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def resnet18() -> nn.Module:
    """With statistics of norms that are not those of a fresh model."""
    model = torchvision.models.resnet18(num_classes=10)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return model.eval()


def build(model: nn.Module, inputs: Any, **options: Any) -> tp.DependencyGraph:
    return tp.DependencyGraph().build_dependency(model, example_inputs=inputs, **options)


def masked(model: nn.Module, group: tp.Group) -> nn.Module:
    """A copy that makes zeros where the group will be cut."""
    model = copy.deepcopy(model)
    for dep, idxs in group:
        at = torch.tensor(idxs)
        if dep.target.kind == "parameter":
            parameter = model.get_parameter(dep.target.name)
            parameter.data.index_fill_(dep.target.pruning_dim, at, 0)
        elif dep.handler.makes:
            layer = model.get_submodule(dep.target.name)
            for name, axis in dep.handler.kind.places(layer, makes=True):
                tensor = layer.get_submodule(name.rpartition(".")[0])._parameters.get(
                    name.rpartition(".")[2]
                )
                if tensor is not None:
                    tensor.data.index_fill_(axis, at, 0)
    return model


def run(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        made = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return list(made) if isinstance(made, (tuple, list)) else [made]


def prunes_exactly(model: nn.Module, inputs: Any, group: tp.Group) -> None:
    wanted = run(masked(model, group), inputs)
    whole = run(model, inputs)
    assert any(not torch.allclose(a, b, **TOLERANCE) for a, b in zip(wanted, whole, strict=True))
    group.prune()
    for got, want in zip(run(model, inputs), wanted, strict=True):
        torch.testing.assert_close(got, want, **TOLERANCE)


def names(group: tp.Group) -> list[tuple[str, str]]:
    return [(dep.target.name, dep.handler.name) for dep, _ in group]


# The tutorials


def test_walk_through_of_resnet18() -> None:
    model = resnet18()
    DG = tp.DependencyGraph().build_dependency(model, example_inputs=IMAGE)
    group = DG.get_pruning_group(model.conv1, tp.prune_conv_out_channels, idxs=[2, 6, 9])
    assert names(group) == [
        ("conv1", "prune_conv_out_channels"),
        ("bn1", "prune_batchnorm_out_channels"),
        ("layer1.0.conv1", "prune_conv_in_channels"),
        ("layer1.0.conv2", "prune_conv_out_channels"),
        ("layer1.0.bn2", "prune_batchnorm_out_channels"),
        ("layer1.1.conv1", "prune_conv_in_channels"),
        ("layer1.1.conv2", "prune_conv_out_channels"),
        ("layer1.1.bn2", "prune_batchnorm_out_channels"),
        ("layer2.0.conv1", "prune_conv_in_channels"),
        ("layer2.0.downsample.0", "prune_conv_in_channels"),
    ]
    assert all(idxs == [2, 6, 9] for _, idxs in group)
    assert group[0].dep.target.module is model.conv1
    assert DG.check_pruning_group(group)
    prunes_exactly(model, (IMAGE,), group)
    assert tuple(model.conv1.weight.shape) == (61, 3, 7, 7)
    assert (model.conv1.out_channels, model.bn1.num_features) == (61, 61)
    for block in model.layer1:
        assert (block.conv1.in_channels, block.conv2.out_channels) == (61, 61)
        assert tuple(block.bn2.running_var.shape) == (61,)
    assert model.layer2[0].downsample[0].in_channels == 61


def test_group_prints_its_layers_and_their_indices() -> None:
    model = resnet18()
    group = build(model, IMAGE).get_pruning_group(
        model.conv1, tp.prune_conv_out_channels, idxs=[2, 6, 9]
    )
    lines = str(group).splitlines()
    assert lines[3].startswith(
        "[0] prune_out_channels on conv1 => prune_out_channels on conv1 (Conv2d"
    )
    assert lines[4].startswith(
        "[1] prune_out_channels on conv1 => prune_out_channels on bn1 (Batch"
    )
    assert all(line.endswith("len(idxs)=3") for line in lines[3:-1])
    assert len(lines) == len(group) + 4
    assert group.details().count("idxs=[2, 6, 9]") == len(group) == 10


def test_all_groups_are_scanned_and_pruned_on_the_way() -> None:
    model = resnet18()
    DG = build(model, IMAGE)
    seen = []
    for group in DG.get_all_groups(
        ignored_layers=[model.conv1], root_module_types=[nn.Conv2d, nn.Linear]
    ):
        assert group[0].idxs == list(range(group[0].dep.target.module.out_channels))
        seen.append(group[0].dep.target.name)
        group.prune(idxs=[2, 4, 6])
    assert len(seen) == len(set(seen)) == 11
    assert model.conv1.out_channels == 64
    assert model.layer1[0].conv1.out_channels == 61
    assert (model.layer4[1].conv2.out_channels, model.fc.in_features) == (509, 509)
    assert run(model, (IMAGE,))[0].shape == (1, 10)


def test_five_steps_with_an_ignored_classifier() -> None:
    model = resnet18().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    imp = tp.importance.GroupMagnitudeImportance(p=2)
    ignored_layers = []
    for m in model.modules():
        if isinstance(m, torch.nn.Linear) and m.out_features == 10:
            ignored_layers.append(m)
    iterative_steps = 5
    pruner = tp.pruner.MagnitudePruner(
        model,
        IMAGE,
        importance=imp,
        iterative_steps=iterative_steps,
        pruning_ratio=0.5,
        ignored_layers=ignored_layers,
        optimizer=optimizer,
    )
    base_macs, base_nparams = tp.utils.count_ops_and_params(model, IMAGE)
    widths = []
    for _ in range(iterative_steps):
        pruner.step()
        macs, nparams = tp.utils.count_ops_and_params(model, IMAGE)
        widths.append(model.conv1.out_channels)
        optimizer.zero_grad()
        model(torch.cat([IMAGE, -IMAGE])).square().mean().backward()
        optimizer.step()
    assert widths == [57, 51, 44, 38, 32]
    assert model.layer4[1].conv1.out_channels == 256
    assert (model.fc.in_features, model.fc.out_features) == (256, 10)
    assert macs < 0.3 * base_macs
    assert nparams < 0.3 * base_nparams
    assert pruner.current_step == 5
    assert model.training


def test_steps_beyond_the_last_warn() -> None:
    model = resnet18()
    pruner = tp.pruner.MagnitudePruner(model, IMAGE, tp.importance.MagnitudeImportance())
    pruner.step()
    with pytest.warns(UserWarning, match="all 1 steps were taken"):
        pruner.step()
    assert model.conv1.out_channels == 32


# Structures


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.bn = nn.BatchNorm2d(10)
        self.c = nn.Conv2d(10, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.bn(torch.cat([self.a(x), self.b(x)], 1))))


def test_concat_shifts_the_indices_of_later_parts() -> None:
    model = Concat().eval()
    group = build(model, IMAGE).get_pruning_group(model.b, tp.prune_conv_out_channels, [0, 5])
    assert {dep.target.name: idxs for dep, idxs in group} == {
        "b": [0, 5],
        "bn": [4, 9],
        "c": [4, 9],
    }
    assert all(group[i].root_idxs == [0, 1] for i in range(len(group)))
    prunes_exactly(model, (IMAGE,), group)
    assert (model.b.out_channels, model.bn.num_features, model.c.in_channels) == (4, 8, 8)


def test_channels_after_a_concat_belong_to_several_layers() -> None:
    model = Concat().eval()
    DG = build(model, IMAGE)
    group = DG.get_pruning_group(model.bn, tp.prune_batchnorm_out_channels, [1, 4, 5])
    found = {dep.target.name: idxs for dep, idxs in group}
    assert found == {"bn": [1, 4, 5], "a": [1], "b": [0, 1], "c": [1, 4, 5]}
    prunes_exactly(model, (IMAGE,), group)
    assert (model.a.out_channels, model.b.out_channels) == (3, 4)


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 1)
        self.b, self.c = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.chunk(self.a(x), 2, dim=1)
        return self.b(left) + self.c(right)


def test_split_keeps_parts_equal() -> None:
    model = Split().eval()
    tp.pruner.MagnitudePruner(
        model, IMAGE, tp.importance.MagnitudeImportance(), pruning_ratio=0.5
    ).step()
    assert (model.a.out_channels, model.b.in_channels, model.c.in_channels) == (6, 3, 3)
    assert run(model, (IMAGE,))[0].shape == (1, 4, 32, 32)


class Flatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.conv(x), 4).flatten(1))


def test_flatten_takes_all_features_of_a_channel() -> None:
    model = Flatten().eval()
    group = build(model, IMAGE).get_pruning_group(model.conv, tp.prune_conv_out_channels, [1, 5])
    _, idxs = group[1]
    assert idxs == [*range(16, 32), *range(80, 96)]
    assert group[1].root_idxs == [0] * 16 + [1] * 16
    prunes_exactly(model, (IMAGE,), group)
    assert (model.conv.out_channels, model.fc.in_features) == (4, 64)


def test_pruning_the_reader_prunes_the_maker() -> None:
    model = Flatten().eval()
    group = build(model, IMAGE).get_pruning_group(model.fc, tp.prune_linear_in_channels, [17])
    assert group[0].dep.handler == tp.prune_linear_in_channels
    assert group[0].idxs == list(range(16, 32))
    assert {dep.target.name: len(idxs) for dep, idxs in group} == {"fc": 16, "conv": 1}
    prunes_exactly(model, (IMAGE,), group)


class Unwrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.position = nn.Parameter(torch.randn(1, 5, 12))
        self.scale = nn.Parameter(torch.randn(12))
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.embed(x) + self.position) * self.scale)


def test_unwrapped_parameters_follow() -> None:
    model, x = Unwrapped().eval(), torch.randn(2, 5, 8)
    DG = build(model, x, unwrapped_parameters={model.position: 2})
    group = DG.get_pruning_group(model.position, tp.prune_parameter_out_channels, [0, 7])
    found = {dep.target.name: idxs for dep, idxs in group}
    assert found == {name: [0, 7] for name in ("position", "embed", "scale", "out")}
    position = model.position
    prunes_exactly(model, (x,), group)
    assert model.position is position
    assert (tuple(position.shape), tuple(model.scale.shape)) == ((1, 5, 10), (10,))


def test_parameters_of_other_models_are_refused() -> None:
    other = nn.Parameter(torch.zeros(3))
    with pytest.raises(tp.SecateurError, match="no such parameter"):
        build(Unwrapped(), torch.randn(2, 5, 8), unwrapped_parameters=[(other, 0)])


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(6, 8)
        self.head1, self.head2 = nn.Linear(8, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        z = F.relu(self.a(x) + self.b(y))
        return {"one": self.head1(z), "two": self.head2(z)}


@pytest.mark.parametrize("form", ["tuple", "list", "dict"])
def test_several_inputs_and_outputs(form: str) -> None:
    model = Several().eval()
    x, y = torch.randn(2, 4), torch.randn(2, 6)
    forms = {"tuple": (x, y), "list": [x, y], "dict": {"x": x, "y": y}}
    DG = build(model, forms[form])
    group = DG.get_pruning_group(model.a, tp.prune_linear_out_channels, [3])
    assert {name for name, _ in names(group)} == {"a", "b", "head1", "head2"}
    wanted = masked(model, group)(x, y)
    group.prune()
    for key, got in model(x, y).items():
        torch.testing.assert_close(got, wanted[key], **TOLERANCE)
    assert (model.b.out_features, model.head2.in_features) == (7, 7)


def test_forward_and_output_functions_are_used() -> None:
    model = Several().eval()
    batch = {"left": torch.randn(2, 4), "right": torch.randn(2, 6)}
    calls = []

    def forward(model: nn.Module, batch: dict[str, Tensor]) -> Any:
        calls.append("forward")
        return model(batch["left"], batch["right"])

    def output(made: dict[str, Tensor]) -> Tensor:
        calls.append("output")
        return made["one"]

    DG = build(model, batch, forward_fn=forward, output_transform=output)
    assert set(calls) == {"forward", "output"}
    group = DG.get_pruning_group(model.b, tp.prune_linear_out_channels, [0, 1])
    assert group[0].dep.target.name == "b"
    group.prune()
    assert (model.a.out_features, model.head1.in_features) == (6, 6)
    assert DG.pruning_history() == [("b", True, [0, 1])]


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.g = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.c = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.g(F.relu(self.a(x)))))


def test_groups_of_convolutions_lose_the_same_channels() -> None:
    model = Grouped().eval()
    group = build(model, IMAGE).get_pruning_group(model.a, tp.prune_conv_out_channels, [1])
    assert {dep.target.name: idxs for dep, idxs in group} == {"a": [1, 5], "g": [1, 5]}
    assert [item.root_idxs for item in group] == [[0, 1], [0, 1]]
    prunes_exactly(model, (IMAGE,), group)
    assert (model.a.out_channels, model.g.in_channels, model.g.groups) == (6, 6, 2)
    assert tuple(model.g.weight.shape) == (12, 3, 3, 3)


def test_pruner_keeps_the_number_of_convolution_groups() -> None:
    model = Grouped().eval()
    imp = tp.importance.MagnitudeImportance()
    tp.pruner.MagnitudePruner(model, IMAGE, imp, out_channel_groups={model.g: 2}).step()
    assert (model.g.groups, model.g.in_channels, model.g.out_channels) == (2, 4, 6)
    assert run(model, (IMAGE,))[0].shape == (1, 4, 32, 32)


def test_numbers_of_groups_that_the_code_does_not_make_are_refused() -> None:
    model = Grouped()
    imp = tp.importance.MagnitudeImportance()
    with pytest.raises(tp.SecateurError, match="not tied in 4 groups"):
        tp.pruner.MagnitudePruner(model, IMAGE, imp, in_channel_groups={model.g: 4})


def test_depthwise_convolutions_follow() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    ).eval()
    group = build(model, IMAGE).get_pruning_group(model[1], tp.prune_conv_out_channels, [2, 3])
    assert group[0].dep.handler == tp.prune_depthwise_conv_out_channels
    prunes_exactly(model, (IMAGE,), group)
    assert (model[0].out_channels, model[1].groups, model[3].in_channels) == (6, 6, 6)


def test_single_output_channels_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    with pytest.raises(tp.SecateurError, match=r"axis 0 of `0\.weight` cannot be cut"):
        build(model, IMAGE).get_pruning_group(model[0], tp.prune_conv_out_channels, [0])
    tp.pruner.MagnitudePruner(
        model, IMAGE, tp.importance.MagnitudeImportance(), pruning_ratio=0.5
    ).step()
    assert [layer.out_channels for layer in model if isinstance(layer, nn.Conv2d)] == [1, 3, 2]


def test_overpruning_is_seen_and_refused() -> None:
    model = resnet18()
    DG = build(model, IMAGE)
    group = DG.get_pruning_group(model.conv1, tp.prune_conv_out_channels, list(range(64)))
    assert not DG.check_pruning_group(group)
    with pytest.raises(tp.SecateurError, match="nothing would be left"):
        group.prune()
    assert model.conv1.out_channels == 64


def test_groups_from_before_a_cut_are_refused() -> None:
    model = Flatten()
    DG = build(model, IMAGE)
    first = DG.get_pruning_group(model.conv, tp.prune_conv_out_channels, [0])
    second = DG.get_pruning_group(model.conv, tp.prune_conv_out_channels, [5])
    first.exec()
    with pytest.raises(tp.SecateurError, match="pruned since"):
        second.prune()
    assert model.conv.out_channels == 5


def test_what_cannot_go_says_why() -> None:
    model = Flatten()
    DG = build(model, IMAGE)
    with pytest.raises(tp.SecateurError, match="cannot be cut"):
        DG.get_pruning_group(model.fc, tp.prune_linear_out_channels, [0])
    with pytest.raises(tp.SecateurError, match="no index 6"):
        DG.get_pruning_group(model.conv, tp.prune_conv_out_channels, [6])
    with pytest.raises(TypeError, match="does not prune a `Conv2d`"):
        DG.get_pruning_group(model.conv, tp.prune_linear_out_channels, [0])


# Layers of one's own


class Scaled(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x / x.square().mean(1, keepdim=True).add(1).sqrt()) * self.scale + self.shift


class Elementwise(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class ScaledPruner(tp.BasePruningFunc):
    """A pruner as Torch-Pruning asks for; only its name is needed here."""


@pytest.mark.parametrize("kind", [Scaled, Elementwise])
def test_layers_of_ones_own_follow(kind: type) -> None:
    model = nn.Sequential(nn.Linear(4, 8), kind(8), nn.Linear(8, 3)).eval()
    x, pruner = torch.randn(2, 4), ScaledPruner()
    DG = build(model, x, customized_pruners={kind: pruner})
    group = DG.get_pruning_group(model[1], pruner.prune_out_channels, [0, 6])
    assert group[0].dep.target.module is model[1]
    assert group[0].dep.handler == pruner.prune_out_channels
    assert DG.is_out_channel_pruning_fn(group[0].dep.handler)
    group.prune()
    assert tuple(model[1].scale.shape) == tuple(model[1].shift.shape) == (6,)
    assert (model[0].out_features, model[2].in_features) == (6, 6)
    assert run(model, (x,))[0].shape == (2, 3)


def test_layers_of_ones_own_need_no_pruner() -> None:
    model = nn.Sequential(nn.Linear(4, 8), Elementwise(8), nn.Linear(8, 3)).eval()
    x = torch.randn(2, 4)
    group = build(model, x).get_pruning_group(model[0], tp.prune_linear_out_channels, [1])
    assert [name for name, _ in names(group)] == ["0", "1.scale", "1.shift", "2"]
    prunes_exactly(model, (x,), group)


def test_customized_pruners_have_a_base() -> None:
    with pytest.raises(TypeError, match="no `BasePruningFunc`"):
        build(Flatten(), IMAGE, customized_pruners={nn.Linear: object()})


# Attention


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = 4, 6, 6**-0.5
        self.into = nn.Linear(8, 24)
        self.qkv, self.proj, self.out = nn.Linear(24, 72), nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        batch, length, _ = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        made = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        made = made.transpose(1, 2).flatten(2)
        return self.out(x + self.proj(made))


def attention_pruner(**options: Any) -> tuple[Attention, Any]:
    model = Attention().eval()
    pruner = tp.pruner.MetaPruner(
        model,
        torch.randn(2, 5, 8),
        tp.importance.MagnitudeImportance(),
        num_heads={model.qkv: 4},
        **options,
    )
    return model, pruner


def test_heads_are_cut_whole_and_counted() -> None:
    model, pruner = attention_pruner(
        prune_num_heads=True, prune_head_dims=False, head_pruning_ratio=0.5
    )
    pruner.step()
    assert (model.num_heads, model.head_dim, pruner.num_heads[model.qkv]) == (2, 6, 2)
    assert (model.qkv.out_features, model.proj.in_features) == (36, 12)
    assert model.into.out_features == 12
    assert run(model, (torch.randn(2, 5, 8),))[0].shape == (2, 5, 3)


def test_width_of_heads_is_cut_by_default() -> None:
    model, pruner = attention_pruner()
    pruner.step()
    assert (model.num_heads, model.head_dim, pruner.num_heads[model.qkv]) == (4, 3, 4)
    assert (model.qkv.out_features, model.proj.in_features) == (36, 12)


def test_heads_of_a_layer_have_a_ratio_of_their_own() -> None:
    model = Attention().eval()
    pruner = tp.pruner.MetaPruner(
        model,
        torch.randn(2, 5, 8),
        tp.importance.MagnitudeImportance(),
        pruning_ratio=0.0,
        prune_num_heads=True,
        head_pruning_ratio_dict={model.qkv: 0.25},
    )
    pruner.step()
    assert (model.num_heads, model.head_dim, model.into.out_features) == (3, 6, 24)


def test_numbers_of_heads_that_the_code_does_not_make_are_refused() -> None:
    model, imp = Attention(), tp.importance.MagnitudeImportance()
    with pytest.raises(tp.SecateurError, match="makes 4 heads"):
        tp.pruner.MetaPruner(model, torch.randn(2, 5, 8), imp, num_heads={model.qkv: 8})


def test_channels_of_qkv_take_their_heads_along() -> None:
    model, x = Attention().eval(), torch.randn(2, 5, 8)
    group = build(model, x).get_pruning_group(model.qkv, tp.prune_linear_out_channels, [2])
    assert group[0].idxs == [2 + 6 * part for part in range(12)]
    assert {dep.target.name: len(idxs) for dep, idxs in group} == {"qkv": 12, "proj": 4}
    group.prune()
    assert model.head_dim == 5
    assert run(model, (x,))[0].shape == (2, 5, 3)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.out(x + self.norm(x))


def test_embeddings_are_roots() -> None:
    model, ids = Tagger().eval(), torch.arange(10).view(2, 5)
    DG = build(model, ids)
    group = DG.get_pruning_group(model.embed, tp.prune_embedding_out_channels, [0, 3])
    assert names(group) == [
        ("embed", "prune_embedding_out_channels"),
        ("norm", "prune_layernorm_out_channels"),
        ("out", "prune_linear_in_channels"),
    ]
    group.prune()
    assert (model.embed.embedding_dim, model.norm.normalized_shape) == (6, (6,))
    assert model.out.in_features == 6
    assert run(model, (ids,))[0].shape == (2, 5, 3)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(4, 8)
        self.mha = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        return self.out(x + self.mha(x, x, x)[0])


def test_attention_layers_are_roots() -> None:
    model = Attending().eval()
    DG = build(model, torch.randn(2, 5, 4))
    group = DG.get_pruning_group(model.mha, tp.prune_multihead_attention_out_channels, [0, 3])
    assert sorted(names(group)) == [
        ("into", "prune_linear_out_channels"),
        ("mha", "prune_multihead_attention_in_channels"),
        ("mha.out_proj", "prune_linear_out_channels"),
        ("out", "prune_linear_in_channels"),
    ]
    assert all(idxs == [0, 3] for _, idxs in group)


# Functions on one layer

DIRECT: list[tuple[Any, nn.Module, dict[str, tuple[int, ...]]]] = [
    (tp.prune_conv_out_channels, nn.Conv2d(4, 8, 3), {"weight": (6, 4, 3, 3), "bias": (6,)}),
    (tp.prune_conv_in_channels, nn.Conv2d(4, 8, 3), {"weight": (8, 2, 3, 3), "bias": (8,)}),
    (tp.prune_conv_out_channels, nn.Conv1d(4, 8, 3, groups=2), {"weight": (6, 2, 3)}),
    (tp.prune_conv_in_channels, nn.Conv1d(8, 4, 3, groups=2), {"weight": (4, 3, 3)}),
    (tp.prune_conv_out_channels, nn.ConvTranspose2d(4, 8, 2), {"weight": (4, 6, 2, 2)}),
    (tp.prune_conv_in_channels, nn.ConvTranspose2d(4, 8, 2), {"weight": (2, 8, 2, 2)}),
    (tp.prune_depthwise_conv_out_channels, nn.Conv2d(8, 8, 3, groups=8), {"weight": (6, 1, 3, 3)}),
    (tp.prune_conv_out_channels, nn.Conv2d(8, 8, 3, groups=8), {"weight": (6, 1, 3, 3)}),
    (tp.prune_linear_out_channels, nn.Linear(4, 8), {"weight": (6, 4), "bias": (6,)}),
    (tp.prune_linear_in_channels, nn.Linear(4, 8), {"weight": (8, 2), "bias": (8,)}),
    (tp.prune_batchnorm_out_channels, nn.BatchNorm2d(8), {"weight": (6,), "running_var": (6,)}),
    (tp.prune_instancenorm_out_channels, nn.InstanceNorm2d(8, affine=True), {"weight": (6,)}),
    (tp.prune_layernorm_out_channels, nn.LayerNorm((2, 8)), {"weight": (2, 6), "bias": (2, 6)}),
    (tp.prune_groupnorm_out_channels, nn.GroupNorm(2, 8), {"weight": (6,)}),
    (tp.prune_prelu_out_channels, nn.PReLU(8), {"weight": (6,)}),
    (tp.prune_embedding_out_channels, nn.Embedding(5, 8), {"weight": (5, 6)}),
    (
        tp.prune_multihead_attention_out_channels,
        nn.MultiheadAttention(8, 2),
        {"in_proj_weight": (18, 6), "in_proj_bias": (18,)},
    ),
]
INPUTS = {
    nn.Conv2d: lambda layer: torch.randn(2, layer.in_channels, 5, 5),
    nn.Conv1d: lambda layer: torch.randn(2, layer.in_channels, 5),
    nn.ConvTranspose2d: lambda layer: torch.randn(2, layer.in_channels, 5, 5),
    nn.Linear: lambda layer: torch.randn(2, layer.in_features),
    nn.BatchNorm2d: lambda layer: torch.randn(2, layer.num_features, 5, 5),
    nn.InstanceNorm2d: lambda layer: torch.randn(2, layer.num_features, 5, 5),
    nn.LayerNorm: lambda layer: torch.randn(2, *layer.normalized_shape),
    nn.GroupNorm: lambda layer: torch.randn(2, layer.num_channels, 5),
    nn.PReLU: lambda layer: torch.randn(2, layer.num_parameters, 5),
    nn.Embedding: lambda layer: torch.tensor([0, 4]),
}


@pytest.mark.parametrize(
    ("function", "layer", "shapes"),
    DIRECT,
    ids=[f"{function.name}-{type(layer).__name__}" for function, layer, _ in DIRECT],
)
def test_functions_prune_one_layer(
    function: Callable[..., Any], layer: nn.Module, shapes: dict[str, tuple[int, ...]]
) -> None:
    layer = copy.deepcopy(layer)
    weight = next(layer.parameters())
    weight.grad = torch.ones_like(weight)
    assert function(layer, [1, 5] if shapes_left(function, layer) == 8 else [1, 3]) is layer
    assert {name: tuple(getattr(layer, name).shape) for name in shapes} == shapes
    assert weight.grad.shape == weight.shape
    if isinstance(layer, nn.MultiheadAttention):
        x = torch.randn(3, 2, layer.embed_dim)
        assert layer(x, x, x)[0].shape == (3, 2, 6)
    else:
        assert layer(INPUTS[type(layer)](layer)).shape[0] == 2


def shapes_left(function: Any, layer: nn.Module) -> int | None:
    return function.of(layer).kind.channels(layer, makes=function.makes)


def test_functions_keep_the_right_channels() -> None:
    layer, x = nn.Conv2d(4, 8, 3), torch.randn(2, 4, 5, 5)
    wanted = layer(x)[:, [0, 1, 3, 4, 5, 6]]
    tp.prune_conv_out_channels(layer, [2, 7])
    torch.testing.assert_close(layer(x), wanted, **TOLERANCE)
    assert layer.out_channels == 6
    wanted = F.conv2d(x[:, 1:], layer.weight[:, 1:], layer.bias)
    tp.prune_conv_in_channels(layer, [0])
    torch.testing.assert_close(layer(x[:, 1:]), wanted, **TOLERANCE)


def test_functions_prune_parameters() -> None:
    parameter = nn.Parameter(torch.arange(8.0).view(1, 8, 1))
    assert tp.prune_parameter_out_channels(parameter, [0, 5]) is parameter
    assert parameter.flatten().tolist() == [1, 2, 3, 4, 6, 7]


def test_functions_refuse_what_leaves_no_layer() -> None:
    with pytest.raises(tp.SecateurError, match="groups of the layer has to lose as many"):
        tp.prune_conv_out_channels(nn.Conv2d(4, 8, 1, groups=2), [0, 1])
    with pytest.raises(tp.SecateurError, match="has to lose the same channels"):
        tp.prune_conv_in_channels(nn.Conv2d(8, 8, 1, groups=2), [0, 5])
    with pytest.raises(tp.SecateurError, match="heads has to lose as many"):
        tp.prune_multihead_attention_out_channels(nn.MultiheadAttention(8, 2), [0, 1])
    with pytest.raises(tp.SecateurError, match="nothing would be left"):
        tp.prune_linear_out_channels(nn.Linear(2, 2), [0, 1])
    with pytest.raises(tp.SecateurError, match="no index 9"):
        tp.prune_linear_out_channels(nn.Linear(2, 2), [9])
    with pytest.raises(TypeError, match="does not prune a `Linear`"):
        tp.prune_conv_out_channels(nn.Linear(2, 2), [0])


# Importance


def tiny() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten(2)
    ).eval()


def first_group(model: nn.Module, idxs: Sequence[int]) -> tp.Group:
    nn.init.uniform_(model[1].weight, 0.5, 1.5)
    return build(model, IMAGE).get_pruning_group(model[0], tp.prune_conv_out_channels, idxs)


def parts(model: nn.Module, of: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """What the three layers of the first group say, by hand."""
    one, norm, two = (of(model[at].weight) for at in (0, 1, 3))
    return [one.flatten(1).sum(1), norm, two.sum((0, 2, 3))]


@pytest.mark.parametrize("p", [1, 2])
def test_magnitude_is_the_mean_of_the_layers_over_its_mean(p: int) -> None:
    model = tiny()
    group = first_group(model, range(6))
    wanted = sum(parts(model, lambda w: w.detach().abs() ** p)) / 3
    got = tp.importance.GroupMagnitudeImportance(p=p)(group)
    torch.testing.assert_close(got, wanted / wanted.mean())
    raw = tp.importance.MagnitudeImportance(p=p, normalizer=None)
    torch.testing.assert_close(raw(first_group_again(model, [5, 1])), wanted[[1, 5]])


def first_group_again(model: nn.Module, idxs: Sequence[int]) -> tp.Group:
    return build(model, IMAGE).get_pruning_group(model[0], tp.prune_conv_out_channels, idxs)


def test_reductions_and_normalizers() -> None:
    model = tiny()
    group = first_group(model, range(6))
    layers = torch.stack(parts(model, lambda w: w.detach() ** 2))
    wanted = {
        "sum": layers.sum(0),
        "max": layers.amax(0),
        "prod": layers.prod(0),
        "first": layers[0],
        "gate": layers[-1],
        None: layers,
    }
    for reduction, want in wanted.items():
        imp = tp.importance.MagnitudeImportance(group_reduction=reduction, normalizer=None)
        torch.testing.assert_close(imp(group), want)
    one = layers[0]
    normalized = {
        "sum": one / one.sum(),
        "max": one / one.max(),
        "standarization": (one - one.min()) / (one.max() - one.min()),
        "gaussian": (one - one.mean()) / one.std(),
        "sentinel_0.5": one / one.sort().values[3],
        "lamp": torch.stack([x / one[one >= x].sum() for x in one]),
    }
    for normalizer, want in normalized.items():
        imp = tp.importance.MagnitudeImportance(group_reduction="first", normalizer=normalizer)
        torch.testing.assert_close(imp(group), want)
    with pytest.raises(tp.SecateurError, match="no reduction `median`"):
        tp.importance.MagnitudeImportance(group_reduction="median")
    with pytest.raises(tp.SecateurError, match="no normalizer `l3`"):
        tp.importance.MagnitudeImportance(normalizer="l3")


def test_scales_of_norms_and_random_numbers() -> None:
    model = tiny()
    group = first_group(model, range(6))
    scale = model[1].weight.detach()
    torch.testing.assert_close(tp.importance.BNScaleImportance()(group), scale / scale.mean())
    assert tp.importance.RandomImportance()(group).unique().numel() == 6
    lamp = tp.importance.LAMPImportance()(group)
    assert lamp.max() == 1
    distances = tp.importance.FPGMImportance(group_reduction="first", normalizer=None)(group)
    rows = model[0].weight.detach().flatten(1)
    torch.testing.assert_close(distances, torch.cdist(rows, rows).sum(1), rtol=1e-4, atol=1e-4)


def test_taylor_takes_the_gradients_at_hand() -> None:
    model = tiny()
    group = first_group(model, range(6))
    imp = tp.importance.GroupTaylorImportance(normalizer=None)
    with pytest.raises(tp.SecateurError, match=r"no layer .* has gradients"):
        imp(group)
    model(IMAGE).square().mean().backward()
    layers = parts(model, lambda w: (w.detach() * w.grad).abs())
    torch.testing.assert_close(imp(group), sum(layers) / 3)
    several = tp.importance.TaylorImportance(normalizer=None, multivariable=True)
    layers = [layer.abs() for layer in parts(model, lambda w: w.detach() * w.grad)]
    torch.testing.assert_close(several(group), sum(layers) / 3)


def test_hessian_takes_the_mean_of_squared_gradients() -> None:
    model = tiny()
    group = first_group(model, range(6))
    imp = tp.importance.GroupHessianImportance(normalizer=None)
    squares = [torch.zeros_like(model[at].weight) for at in (0, 1, 3)]
    imp.zero_grad()
    for sample in (IMAGE, 2 * IMAGE):
        model.zero_grad()
        model(sample).square().mean().backward()
        imp.accumulate_grad(model)
        for square, at in zip(squares, (0, 1, 3), strict=True):
            square += model[at].weight.grad.square() / 2
    model.zero_grad()
    known = {id(model[at].weight): s for s, at in zip(squares, (0, 1, 3), strict=True)}
    wanted = sum(parts(model, lambda w: w.detach() ** 2 * known[id(w)])) / 3
    torch.testing.assert_close(imp(group), wanted)


@pytest.mark.parametrize("kind", ["Taylor", "Hessian"])
def test_pruners_by_gradients(kind: str) -> None:
    model = resnet18()
    imp = getattr(tp.importance, f"Group{kind}Importance")()
    pruner = tp.pruner.MagnitudePruner(
        model, IMAGE, imp, global_pruning=True, pruning_ratio=0.3, ignored_layers=[model.fc]
    )
    before = sum(group.sizes[name] for name, group in pruner._groups().items())
    loss = F.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([1, 2]))
    loss.backward()
    if kind == "Hessian":
        imp.zero_grad()
        imp.accumulate_grad(model)
    pruner.step()
    after = sum(group.sizes[name] for name, group in pruner._groups().items())
    assert after == round(0.7 * before)
    assert all(p.grad is None or p.grad.shape == p.shape for p in model.parameters())
    assert run(model, (IMAGE,))[0].shape == (1, 10)


def test_importance_may_be_any_function_of_a_group() -> None:
    model = resnet18()
    asked = []

    def last_first(group: tp.Group) -> Tensor:
        asked.append(group[0].dep.target.name)
        return -torch.arange(len(group[0].idxs), dtype=torch.float32)

    kept = model.conv1.weight.detach()[:48].clone()
    pruner = tp.pruner.MagnitudePruner(model, IMAGE, importance=last_first, pruning_ratio=0.25)
    pruner.step()
    assert asked[0] == "conv1"
    assert torch.equal(model.conv1.weight, kept)


def test_importance_of_another_length_is_refused() -> None:
    model = resnet18()
    pruner = tp.pruner.MagnitudePruner(model, IMAGE, importance=lambda group: torch.ones(3))
    with pytest.raises(tp.SecateurError, match=r"64 scores are needed for `conv1`.*gives \(3,\)"):
        pruner.step()
    assert model.conv1.out_channels == 64


def test_importance_follows_customized_target_types() -> None:
    model = tiny()
    group = first_group(model, range(6))
    imp = tp.importance.MagnitudeImportance(p=1, normalizer=None, target_types=[nn.BatchNorm2d])
    torch.testing.assert_close(imp(group), model[1].weight.detach())
    assert tp.importance.MagnitudeImportance(target_types=[nn.Linear])(group) is None


# Pruners


def magnitude_pruner(model: nn.Module, **options: Any) -> Any:
    imp = tp.importance.MagnitudeImportance()
    return tp.pruner.MagnitudePruner(model, IMAGE, importance=imp, **options)


def test_ratios_of_layers() -> None:
    model = resnet18()
    ratios = {
        model.layer1[0].conv1: 0.25,
        (model.layer2, model.layer3[0].conv1): 0.75,
        model.layer4: 0.0,
    }
    magnitude_pruner(model, pruning_ratio_dict=ratios, pruning_ratio=0.5).step()
    assert model.conv1.out_channels == 32
    assert model.layer1[0].conv1.out_channels == 48
    assert model.layer2[1].conv2.out_channels == 32
    assert model.layer3[0].conv1.out_channels == 64
    assert model.layer3[1].conv1.out_channels == 128
    assert model.layer4[0].conv1.out_channels == 512
    assert run(model, (IMAGE,))[0].shape == (1, 10)


def test_tuples_of_layers_are_ranked_together_when_pruning_globally() -> None:
    model = resnet18()
    first, second = model.layer1[0].conv1, model.layer1[1].conv1
    first.weight.data.mul_(100)
    imp = tp.importance.MagnitudeImportance(normalizer=None)
    tp.pruner.MagnitudePruner(
        model,
        IMAGE,
        imp,
        global_pruning=True,
        pruning_ratio=0.1,
        pruning_ratio_dict={(first, second): 0.25},
    ).step()
    assert (first.out_channels, second.out_channels) == (64, 32)


def test_global_pruning_ranks_all_groups_together() -> None:
    model = resnet18()
    model.layer4[0].conv1.weight.data.mul_(1e-3)
    imp = tp.importance.MagnitudeImportance(normalizer=None, group_reduction="first")
    pruner = tp.pruner.MagnitudePruner(
        model, IMAGE, imp, global_pruning=True, pruning_ratio=0.1, iterative_steps=2
    )
    before = sum(group.sizes[name] for name, group in pruner._groups().items())
    for _ in range(2):
        pruner.step()
    after = sum(group.sizes[name] for name, group in pruner._groups().items())
    assert after == round(0.9 * before)
    assert model.layer4[0].conv1.out_channels < 512 - 200


def test_no_group_loses_more_than_the_largest_ratio() -> None:
    model = resnet18()
    model.layer4[0].conv1.weight.data.mul_(1e-3)
    imp = tp.importance.MagnitudeImportance(normalizer=None, group_reduction="first")
    pruner = tp.pruner.MagnitudePruner(
        model,
        IMAGE,
        imp,
        global_pruning=True,
        pruning_ratio=0.2,
        max_pruning_ratio=0.25,
        iterative_steps=2,
    )
    pruner.step()
    pruner.step()
    assert model.layer4[0].conv1.out_channels == 384
    assert model.conv1.out_channels >= 48


def test_isomorphic_groups_are_ranked_together() -> None:
    model = resnet18()
    model.conv1.weight.data.mul_(1e-3)
    model.layer1[0].conv1.weight.data.mul_(1e-3)
    imp = tp.importance.MagnitudeImportance(normalizer=None, group_reduction="first")
    tp.pruner.MagnitudePruner(
        model, IMAGE, imp, global_pruning=True, isomorphic=True, pruning_ratio=0.03
    ).step()
    inner = [block.conv1 for layer in (model.layer1, model.layer2) for block in layer]
    assert [conv.out_channels for conv in inner] == [64 - round(0.03 * 1920), 64, 128, 128]
    assert model.conv1.out_channels == 62
    assert run(model, (IMAGE,))[0].shape == (1, 10)


def test_widths_are_rounded() -> None:
    model = resnet18()
    magnitude_pruner(model, pruning_ratio=0.3, round_to=8, ignored_layers=[model.conv1]).step()
    convs = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and name != "conv1"]
    assert all(conv.out_channels % 8 == 0 for conv in convs)
    assert model.conv1.out_channels == 64
    assert model.layer1[0].conv1.out_channels == 48


def test_schedulers_say_what_is_gone_after_each_step() -> None:
    model = resnet18()
    pruner = magnitude_pruner(
        model,
        pruning_ratio=0.5,
        iterative_steps=2,
        iterative_pruning_ratio_scheduler=lambda ratio, steps: [0.0, 0.4, ratio],
    )
    pruner.step()
    assert model.layer2[0].conv1.out_channels == 76
    pruner.step()
    assert model.layer2[0].conv1.out_channels == 64


def test_root_types_choose_the_groups() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8192, 6), nn.Linear(6, 2))
    magnitude_pruner(model, root_module_types=[nn.Linear]).step()
    assert (model[0].out_channels, model[2].out_features) == (8, 3)


def test_interactive_steps_show_what_goes() -> None:
    model = resnet18()
    pruner = magnitude_pruner(model, pruning_ratio=0.5, ignored_layers=[model.fc])
    seen = 0
    for group in pruner.step(interactive=True):
        dep, idxs = group[0]
        width = dep.target.module.out_channels
        assert dep.handler == tp.prune_conv_out_channels
        assert len(idxs) == width // 2
        seen += 1
        if dep.target.module is model.conv1:
            group.prune(idxs=[0, 1])
        elif dep.target.module is not model.layer1[0].conv1:
            group.prune()
            assert dep.target.module.out_channels == width // 2
    assert seen == 12
    assert (model.conv1.out_channels, model.layer1[0].conv1.out_channels) == (62, 64)
    assert model.layer4[1].conv2.out_channels == 256
    assert run(model, (IMAGE,))[0].shape == (1, 10)


def test_step_removes_exactly_what_it_proposes() -> None:
    model = resnet18()
    other = copy.deepcopy(model)
    magnitude_pruner(model, pruning_ratio=0.5).step()
    for group in magnitude_pruner(other, pruning_ratio=0.5).step(interactive=True):
        group.prune()
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["MagnitudePruner", "MetaPruner", "BasePruner"])
def test_older_names_of_the_pruner(name: str) -> None:
    model = resnet18()
    getattr(tp.pruner, name)(
        model, IMAGE, importance=tp.importance.RandomImportance(), ch_sparsity=0.25
    ).step()
    assert model.conv1.out_channels == 48


def test_unknown_options_and_values_are_refused() -> None:
    imp = tp.importance.MagnitudeImportance()
    with pytest.raises(TypeError, match="sparsity_level"):
        tp.pruner.MagnitudePruner(resnet18(), IMAGE, imp, sparsity_level=2)
    with pytest.raises(tp.SecateurError, match="a ratio of 50"):
        tp.pruner.MagnitudePruner(resnet18(), IMAGE, imp, pruning_ratio=50)
    with pytest.raises(tp.SecateurError, match="the model has no layer"):
        tp.pruner.MagnitudePruner(resnet18(), IMAGE, imp, pruning_ratio_dict={nn.ReLU(): 0.5})
    with pytest.raises(tp.SecateurError, match="layer_wise"):
        tp.utils.count_ops_and_params(resnet18(), IMAGE, layer_wise=True)


def test_pruners_with_nothing_to_cut_say_so() -> None:
    model = Flatten()
    pruner = magnitude_pruner(model, ignored_layers=[model.conv])
    with pytest.warns(UserWarning, match="nothing is pruned"):
        pruner.step()


class Together(nn.Module):
    """Attention whose code has one width of heads for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 32) for _ in range(3))
        self.out = nn.Linear(32, 3)
        self.num_heads, self.head_dim = 4, 8

    def forward(self, x: Tensor) -> Tensor:
        made = (layer(x) for layer in (self.query, self.key, self.value))
        split = (one.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for one in made)
        return self.out(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


def test_interactive_groups_that_code_follows_only_together_are_pruned_with_the_last() -> None:
    model, x = Together(), torch.randn(2, 5, 8)
    pruner = tp.pruner.MagnitudePruner(
        model, x, tp.importance.MagnitudeImportance(), pruning_ratio=0.5, ignored_layers=[model.out]
    )
    for group in pruner.step(interactive=True):
        group.prune()
    assert model.query.out_features == model.value.out_features == model.out.in_features == 16
    assert (model.num_heads, model.head_dim) == (4, 4)
    assert model(x).shape == (2, 5, 3)


@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_attention_of_pytorch_gets_narrower_with_what_it_is_given(ratio: float) -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.Sequential(nn.Linear(10, 32), layer, nn.Linear(32, 5)).eval()
    x = torch.randn(2, 7, 10)
    tp.pruner.MagnitudePruner(
        model,
        x,
        tp.importance.MagnitudeImportance(),
        pruning_ratio=ratio,
        ignored_layers=[model[2]],
    ).step()
    width = model[0].out_features
    assert width == layer.self_attn.embed_dim == layer.self_attn.out_proj.in_features
    assert width == (16 if ratio == 0.5 else 20)
    assert model(x).shape == (2, 7, 5)


def test_importances_can_be_taken_apart() -> None:
    class Doubled(tp.importance.GroupMagnitudeImportance):
        def __call__(self, group: tp.Group) -> Tensor:
            scores, roots = [], []
            for item in group:
                if item.dep.pruning_fn is tp.prune_conv_out_channels:
                    scores.append(item.dep.layer.weight.flatten(1).abs().sum(1)[item.idxs])
                    roots.append(item.root_idxs)
            return self._normalize(self._reduce(scores, roots), self.normalizer)

        def _normalize(self, group_importance: Tensor, normalizer: Any) -> Tensor:
            return 2 * super()._normalize(group_importance, normalizer)

    model = resnet18()
    group = build(model, IMAGE).get_pruning_group(
        model.layer1[0].conv1, tp.prune_conv_out_channels, idxs=list(range(64))
    )
    scores = Doubled(p=1)(group)
    weights = model.layer1[0].conv1.weight.flatten(1).abs().sum(1)
    torch.testing.assert_close(scores, 2 * weights / weights.mean())


def test_heads_are_rounded_by_no_number_of_channels() -> None:
    model = Together()
    pruner = tp.pruner.MagnitudePruner(
        model,
        torch.randn(2, 5, 8),
        tp.importance.MagnitudeImportance(),
        pruning_ratio=0.0,
        num_heads={model.query: 4},
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=0.75,
        round_to=8,
    )
    pruner.step()
    assert model.query.out_features == 8
    assert pruner.num_heads[model.query] == 1


def test_a_list_may_be_one_argument() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, xs: list[Tensor]) -> Tensor:
            return self.head(self.body(torch.stack(xs)).relu())

    model, xs = Listed(), [torch.randn(4), torch.randn(4), torch.randn(4)]
    assert tp.utils.count_ops_and_params(model, xs)[1] == 58
    group = build(model, xs).get_pruning_group(model.body, tp.prune_linear_out_channels, [0])
    group.prune()
    assert model(xs).shape == (3, 2)


def test_modules_are_where_torch_pruning_has_them() -> None:
    from secateur.torch_pruning.dependency import DependencyGraph
    from secateur.torch_pruning.pruner.function import prune_conv_out_channels
    from secateur.torch_pruning.pruner.importance import MagnitudeImportance

    assert DependencyGraph is tp.DependencyGraph
    assert prune_conv_out_channels is tp.prune_conv_out_channels
    assert prune_conv_out_channels.__name__ == "prune_out_channels"
    assert MagnitudeImportance is tp.importance.MagnitudeImportance


class Spelled(nn.Module):
    """Spells a number of channels where no attribute holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1)
        self.c = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        spelled = self.a(x).view(x.shape[0], 2 * 4, 32, 32)
        return self.c(F.relu(self.b(spelled)))


def test_what_the_code_spells_is_left_alone_and_reported() -> None:
    model = Spelled().eval()
    pruner = magnitude_pruner(model)
    pruner.step()
    assert (model.a.out_channels, model.b.out_channels) == (8, 3)
    assert "left alone, as the code cannot follow: a.weight:0" in pruner.report()
    group = pruner.DG.get_pruning_group(model.a, tp.prune_conv_out_channels, [0])
    with pytest.raises(tp.SecateurError, match="in forward"):
        group.prune()
    assert tuple(model.a.weight.shape) == (8, 3, 1, 1)


# Regularization


def with_gradients(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return model


def test_scales_of_norms_are_made_sparse() -> None:
    model = with_gradients(tiny())
    model[1].weight.data.copy_(torch.tensor([1.0, -1, 2, -2, 3, 4]))
    imp = tp.importance.BNScaleImportance()
    pruner = tp.pruner.BNScalePruner(model, IMAGE, imp, reg=0.5)
    pruner.regularize(model)
    assert model[1].weight.grad.tolist() == [0.5, -0.5, 0.5, -0.5, 0.5, 0.5]
    assert not model[0].weight.grad.any()
    with_gradients(model)
    lasso = tp.pruner.BNScalePruner(model, IMAGE, imp, reg=0.5, group_lasso=True)
    lasso.regularize(model)
    torch.testing.assert_close(model[1].weight.grad, 0.5 * model[1].weight.detach().sign())


def test_group_norms_push_the_smallest_most() -> None:
    model = with_gradients(tiny())
    imp = tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.GroupNormPruner(model, IMAGE, imp, reg=0.1, alpha=4)
    score = imp(first_group_again(model, range(6)))
    pruner.regularize(model)
    norm = score.sqrt()
    factor = 0.1 * 16 ** ((norm.max() - norm) / (norm.max() - norm.min()))
    for at, shape in ((0, (-1, 1, 1, 1)), (1, (-1,)), (3, (1, -1, 1, 1))):
        weight = model[at].weight
        torch.testing.assert_close(weight.grad, factor.view(shape) * weight.detach())


def test_regularization_grows() -> None:
    model = with_gradients(tiny())
    pruner = tp.pruner.GrowingRegPruner(
        model, IMAGE, tp.importance.MagnitudeImportance(), reg=0.1, delta_reg=0.2
    )
    pruner.regularize(model)
    torch.testing.assert_close(model[0].weight.grad, 0.1 * model[0].weight.detach())
    pruner.update_reg()
    (strength,) = pruner.group_reg.values()
    torch.testing.assert_close(strength.min(), torch.tensor(0.1))
    torch.testing.assert_close(strength.max(), torch.tensor(0.3))


@pytest.mark.parametrize("name", ["BNScalePruner", "GroupNormPruner", "GrowingRegPruner"])
def test_sparse_training_and_pruning_take_turns(name: str) -> None:
    model = resnet18().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    imp = tp.importance.BNScaleImportance() if "BN" in name else tp.importance.MagnitudeImportance()
    pruner = getattr(tp.pruner, name)(
        model,
        IMAGE,
        importance=imp,
        iterative_steps=2,
        pruning_ratio=0.5,
        ignored_layers=[model.fc],
        optimizer=optimizer,
    )
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
        before = model.bn1.weight.grad.clone()
        pruner.regularize(model)
        assert not torch.equal(model.bn1.weight.grad, before)
        optimizer.step()
        pruner.step()
        pruner.update_regularizer()
    assert model.conv1.out_channels == 32
    assert run(model.eval(), (IMAGE,))[0].shape == (1, 10)


# Saving


def test_a_fresh_module_takes_what_was_saved() -> None:
    model = resnet18()
    magnitude_pruner(model, pruning_ratio=0.5).step()
    file = io.BytesIO()
    tp.save(tp.state_dict(model), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    fresh = torchvision.models.resnet18(num_classes=10).eval()
    assert tp.load_state_dict(fresh, state) is fresh
    assert fresh.layer1[0].conv1.out_channels == 32
    torch.testing.assert_close(run(fresh, (IMAGE,)), run(model, (IMAGE,)))
    wrong = torchvision.models.resnet34(num_classes=10)
    with pytest.raises(tp.SecateurError, match="has no tensor"):
        tp.load_state_dict(wrong, state)
    with pytest.raises(tp.SecateurError, match="no state of a pruned module"):
        tp.load_state_dict(fresh, model.state_dict())


def test_attributes_of_modules_are_saved() -> None:
    model, pruner = attention_pruner(
        prune_num_heads=True, prune_head_dims=False, head_pruning_ratio=0.5
    )
    pruner.step()
    fresh = tp.load_state_dict(Attention(), tp.state_dict(model)).eval()
    x = torch.randn(2, 5, 8)
    assert (fresh.num_heads, fresh.qkv.out_features) == (2, 36)
    torch.testing.assert_close(fresh(x), model(x))


@pytest.mark.parametrize("interactive", [True, False])
def test_history_prunes_a_fresh_model_alike(interactive: bool) -> None:
    model = resnet18()
    fresh = copy.deepcopy(model)
    pruner = magnitude_pruner(model, pruning_ratio=0.5, iterative_steps=2)
    for _ in range(2):
        for group in pruner.step(interactive=interactive) or ():
            group.prune()
    history = pruner.pruning_history()
    assert history[0][:2] == ("conv1", True)
    DG = build(fresh, IMAGE)
    DG.load_pruning_history(history)
    for mine, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_history_of_heads_and_their_width() -> None:
    model, pruner = attention_pruner(
        prune_num_heads=True, prune_head_dims=True, head_pruning_ratio=0.5
    )
    fresh = copy.deepcopy(model)
    pruner.step()
    assert (model.num_heads, model.head_dim) == (2, 3)
    build(fresh, torch.randn(2, 5, 8)).load_pruning_history(pruner.pruning_history())
    for mine, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, theirs)


# Counting


def test_counts_are_of_one_sample() -> None:
    model = Flatten()
    macs = 3 * 6 * 9 * 32 * 32 + 96 * 5
    params = 3 * 6 * 9 + 6 + 96 * 5 + 5
    for batch in (1, 4):
        found = tp.utils.count_ops_and_params(model, torch.randn(batch, 3, 32, 32))
        assert found == (macs, params)
    assert tp.utils.count_params(model) == params


def test_changed_lines_of_a_model_are_shown() -> None:
    model = Flatten()
    with pytest.raises(tp.SecateurError, match="before_pruning"):
        tp.utils.print_tool.after_pruning(model)
    tp.utils.print_tool.before_pruning(model)
    layer = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    build(model, torch.randn(1, 3, 32, 32)).get_pruning_group(
        layer, tp.prune_conv_out_channels, [0]
    ).prune()
    text = tp.utils.print_tool.after_pruning(model, do_print=False)
    assert "Conv2d(3, 6, " in text
    assert ") => " in text
    assert "Conv2d(3, 5, " in text


def test_speed_is_measured() -> None:
    model, x = Flatten(), torch.randn(2, 3, 32, 32)
    mean, deviation = tp.utils.benchmark.measure_latency(model, x, repeat=3, warmup=1)
    assert mean > 0 <= deviation
    runs = []
    found = tp.utils.benchmark.measure_throughput(
        model, x, repeat=2, warmup=1, run_fn=lambda m, x: runs.append(m(x))
    )
    assert found > 0
    assert len(runs) == 3
    assert tp.utils.benchmark.measure_fps(model, (x,), repeat=1, warmup=0) > 0


def test_modes_and_gradients_are_as_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Dropout(), nn.Conv2d(8, 2, 1))
    model.train()
    model[1].eval()
    DG = build(model, IMAGE)
    model.eval()
    model[2].train()
    DG.get_pruning_group(model[0], tp.prune_conv_out_channels, [0]).prune()
    assert [layer.training for layer in model] == [False, False, True, False]
    assert model[3].in_channels == 7
