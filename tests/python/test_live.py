"""Live modules: pruned in place, they compute what their masked copies do, and training goes on."""

import copy
from collections.abc import Callable
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any

import pytest
import secateur as sc
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.utils._pytree as pytree
from einops.layers.torch import Rearrange
from secateur._capture import trace
from secateur._modules import tensors
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional
from torchvision.models import resnet18

import live
import modelzoo

SEED = 0
SMALL = (
    "resnet18",
    "shufflenet_v2_x1_0_64",
    "bert_tiny",
    "llama_tiny",
    "bloom_tiny",
    "vit_small_32",
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)


class Net(nn.Module):
    """A residual net with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 24, 3, padding=1)
        self.outer = nn.Conv2d(24, 16, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.fc(self.drop(x.mean((2, 3))))


class Spelled(nn.Module):
    """Code that no attribute can change."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 12)
        self.second = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).view(-1, 12))


@pytest.mark.parametrize("name", SMALL)
def test_pruned_modules_equal_masked_ones(name: str) -> None:
    record = live.run(name, 0.5)
    assert record["status"] == "ok", record
    assert record["left"] == 0, record["cause"]
    assert record["after"]["parameters"] < 0.6 * record["before"]["parameters"]


def test_a_group_of_resnet18_is_walked_through() -> None:
    model = resnet18().eval()
    x = torch.randn(1, 3, 64, 64)
    graph = sc.graph(model, (x,))
    group = graph.group("conv1.weight", axis=0)
    text = str(group)
    for coupled in ("bn1.running_mean:0", "layer1.0.conv1.weight:1", "layer1.1.bn2.bias:0"):
        assert coupled in text
    group.prune([2, 6, 9])
    assert model.conv1.weight.shape[0] == model.conv1.out_channels == 61
    assert model.layer1[0].conv1.in_channels == 61
    assert model.bn1.num_features == 61
    assert model(x).shape == (1, 1000)


def test_pruning_is_a_cut_of_the_original() -> None:
    model = Net().eval()
    before = copy.deepcopy(model.state_dict())
    sc.graph(model, torch.randn(1, 3, 8, 8)).group("stem.weight", 0).prune([0, 5])
    kept = [index for index in range(16) if index not in (0, 5)]
    assert torch.equal(model.stem.weight, before["stem.weight"][kept])
    assert torch.equal(model.inner.weight, before["inner.weight"][:, kept])
    assert torch.equal(model.norm.running_var, before["norm.running_var"][kept])


def test_the_module_is_as_it_was_but_for_its_sizes() -> None:
    model = Net().train()
    parameters = dict(model.named_parameters())
    seen = []
    model.stem.register_forward_hook(lambda *_: seen.append(1))
    state = torch.get_rng_state()
    sc.Pruner(model, torch.randn(2, 3, 8, 8), ratio=0.5).step()
    torch.set_rng_state(state)
    assert model.training
    assert model.norm.num_batches_tracked == 0
    assert all(parameters[name] is now for name, now in model.named_parameters())
    seen.clear()
    model(torch.randn(2, 3, 8, 8))
    assert seen == [1]


def test_tracing_draws_no_random_numbers_and_computes_nothing() -> None:
    model = Net().train()
    state = torch.get_rng_state()
    before = copy.deepcopy(model.state_dict())
    sc.graph(model, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_step_after_pruning_is_that_of_a_model_built_small(name: str) -> None:
    model = Net().train()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    x, y = torch.randn(8, 3, 8, 8), torch.randint(5, (8,))

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        torch.manual_seed(7)
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    for _ in range(3):
        step(model, optimizer)
        schedule.step()
    sc.Pruner(model, x, ratio=0.5, optimizer=optimizer).step()
    small = copy.deepcopy(model)
    twin = OPTIMIZERS[name](list(small.parameters()))
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for old, new in zip(optimizer.state.values(), twin.state.values(), strict=True):
        assert {k for k in old} == {k for k in new}
    step(model, optimizer)
    step(small, twin)
    for a, b in zip(model.parameters(), small.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)
    for parameter, state in optimizer.state.items():
        for value in state.values():
            assert (
                not isinstance(value, Tensor)
                or value.dim() == 0
                or (value.shape == parameter.shape)
            )
    schedule.step()


class Caching(nn.Module):
    """Code that remembers what it made first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 4)
        self.made: dict[str, Tensor] = {}
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.made:
            self.made["bias"] = torch.ones(4) * 2
        self.last = self.second(self.first(x)) + self.made["bias"]
        return self.last


def test_what_code_notes_while_it_is_traced_is_forgotten() -> None:
    model = Caching()
    sc.Pruner(model, torch.randn(2, 8), ratio=0.5, strict=True).step()
    assert model.made == {}
    assert model.last is None
    assert model.first.out_features == 6


class Recording(nn.Module):
    """Reads what its layers make through hooks that its first run installs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8)])
        self.out = nn.ModuleList([nn.Linear(8, 2), nn.Linear(8, 2)])
        self.hooked = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.hooked:
            self.hooked = True
            for layer in self.layers:
                layer.register_forward_hook(lambda _, __, made: self.seen.append(made))
        self.seen: list[Tensor] = []
        for layer in self.layers:
            x = layer(x).relu()
        read = [out(made) for out, made in zip(self.out, self.seen, strict=True)]
        return torch.cat(read, -1)


def test_hooks_that_code_installs_while_it_is_traced_are_taken_back() -> None:
    model, x = Recording(), torch.rand(3, 4)
    pruner = sc.Pruner(model, x, ratio=0.5)
    assert not any(layer._forward_hooks for layer in model.layers)
    pruner.step()
    assert not pruner.left
    assert [layer.out_features for layer in model.layers] == [4, 4]
    assert model(x).shape == model(x).shape == (3, 4)


class Experts(nn.Module):
    """A mixture of experts whose rows are sorted by expert, as in transformers."""

    def __init__(self, count: int = 4, width: int = 16, inner: int = 24) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, width), nn.Linear(width, 3)
        self.router = nn.Linear(width, count)
        self.up = nn.Parameter(torch.randn(count, 2 * inner, width))
        self.down = nn.Parameter(torch.randn(count, width, inner))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        shares, picks = self.router(x).softmax(-1).topk(2)
        experts, order = picks.flatten().sort()
        ends = torch.histc(experts.float(), len(self.up), 0, len(self.up) - 1).cumsum(0).int()
        token = order // 2
        gate, up = functional.grouped_mm(x[token], self.up.mT, offs=ends).chunk(2, -1)
        made = functional.grouped_mm(functional.silu(gate) * up, self.down.mT, offs=ends)
        made = made * shares.flatten()[order, None]
        return self.head(torch.zeros_like(x).index_add(0, token, made))


def test_mixtures_of_experts_are_cut_inside_and_around() -> None:
    model, x = Experts(), torch.randn(10, 6)
    graph = sc.graph(model, x)
    assert [(group.size, group.exact) for group in graph.groups] == [(16, True), (24, True)]
    assert not graph.warnings
    record = live.check(model, (x,), live.outputs(model, (x,)), 0.5)
    assert (record["status"], record["exact_groups"], record["left"]) == ("ok", 2, 0)
    assert model.up.shape == (4, 24, 8)
    assert model.down.shape == (4, 8, 12)


class Noting(nn.Module):
    """Code that makes a buffer when it first reads it, and notes what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.seen: list[Tensor] = []
        self._cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        if "scale" not in self._buffers:
            self.register_buffer("scale", torch.full(hidden.shape[1:], 2.0))
        self.seen.append(hidden)
        self._cache.setdefault("hidden", hidden)
        return self.last(hidden * self.scale)


def test_what_code_notes_in_its_module_while_it_is_traced_is_taken_back() -> None:
    model, x = Noting(), torch.rand(3, 4)
    sc.Pruner(model, x, ratio=0.5).step()
    assert not model._buffers and not model.seen and not model._cache
    assert model(x).shape == (3, 2)
    assert model.scale.shape == (4,)
    sc.Pruner(model, x, ratio=0.5).step()
    assert model.scale.shape == (2,)
    assert len(model.seen) == 1


def test_gradients_are_cut_with_their_parameters() -> None:
    model = Net().train()
    x = torch.randn(4, 3, 8, 8)
    model(x).sum().backward()
    gradient = model.inner.weight.grad.clone()
    sc.graph(model, x).group("inner.weight", 0).prune(list(range(12)))
    assert torch.equal(model.inner.weight.grad, gradient[12:])


def test_code_that_cannot_follow_leaves_all_as_it_was() -> None:
    model = Spelled()
    before = copy.deepcopy(model.state_dict())
    graph = sc.graph(model, torch.randn(2, 8))
    with pytest.raises(sc.SecateurError, match=r"test_live\.py:\d+.*\n?.*keep"):
        graph.group("first.weight", 0).prune([0])
    assert model.first.out_features == 12
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(sc.SecateurError):
        sc.Pruner(model, torch.randn(2, 8), ratio=0.5, strict=True).step()
    assert model(torch.randn(2, 8)).shape == (2, 4)


def test_what_code_cannot_follow_is_pruned_when_exported() -> None:
    model = Spelled().eval()
    x = torch.randn(2, 8)
    pruned = sc.prune_exported(model, (x,), ratio=0.5)
    assert pruned.first.weight.shape == (6, 8)
    assert pruned(x).shape == (2, 4)
    pruned(x).sum().backward()
    assert pruned.first.weight.grad is not None
    assert model.first.weight.shape == (12, 8)


class Either(nn.Module):
    """Code that follows one of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 16)
        self.third = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.first.out_features < 12 and self.second.out_features < 16:
            raise RuntimeError("too small")
        return self.third(self.second(self.first(x)))


def test_of_groups_that_are_not_followed_together_some_are_left_alone() -> None:
    model = Either()
    pruner = sc.Pruner(model, torch.randn(2, 8), ratio=0.5)
    pruner.step()
    assert list(pruner.left) == ["first.weight:0"]
    assert (model.first.out_features, model.second.out_features) == (12, 8)


class Deriving(nn.Module):
    """Code that keeps what it derives from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 4)
        self.frozen = nn.Dropout().eval()
        self.scale = nn.Parameter(torch.randn(12))
        self.derived: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        scale = self.derived.setdefault(str(x.device), self.scale.exp())
        return self.second(self.first(x) * scale)


class UntilMoved(Deriving):
    def _apply(self, *args: Any, **kwargs: Any) -> nn.Module:
        self.derived = {}
        return super()._apply(*args, **kwargs)


class UntilModeIsSet(Deriving):
    def train(self, mode: bool = True) -> nn.Module:
        self.derived = {}
        return super().train(mode)


class UntilTrained(Deriving):
    def train(self, mode: bool = True) -> nn.Module:
        if mode:
            self.derived = {}
        return super().train(mode)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [UntilMoved, UntilModeIsSet, UntilTrained])
def test_what_code_derives_from_tensors_is_derived_again(
    kind: type[nn.Module], *, training: bool
) -> None:
    model, x = kind().train(training), torch.randn(2, 8)
    model.frozen.eval()
    model(x)
    sc.Pruner(model, x, ratio=0.5, strict=True).step()
    assert model.training is training
    assert not model.frozen.training
    assert torch.equal(model(x), model.second(model.first(x) * model.scale.exp()))


class Attention(nn.Module):
    """Self-attention whose width is that of what it is given, by chance or as its code wants it."""

    def __init__(self, heads: int, *, tied: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, 8
        self.width = 8 * heads
        self.layer_idx = self.num_layers = self.max_length = heads  # by chance
        self.tied = tied
        self.qkv, self.proj = nn.Linear(8 * heads, 24 * heads), nn.Linear(8 * heads, 8 * heads)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).reshape(b, n, c if self.tied else self.width)
        return x + self.proj(mixed)


def attending(heads: int, *, tied: bool = False) -> nn.Module:
    inner = 8 * heads
    return nn.Sequential(nn.Linear(5, inner), Attention(heads, tied=tied), nn.Linear(inner, 3))


@pytest.mark.parametrize("heads", [2, 3])
def test_heads_and_the_embedding_are_cut_apart(heads: int) -> None:
    model = attending(heads)
    pruner = sc.Pruner(model, torch.randn(2, 4, 5), ratio=0.5)
    pruner.step()
    left = heads - heads // 2
    assert not pruner.left
    assert model[0].out_features == 4 * heads
    assert (model[1].num_heads, model[1].head_dim, model[1].width) == (left, 8, 8 * left)
    assert model[1].layer_idx == model[1].num_layers == model[1].max_length == heads


def test_heads_and_the_embedding_are_cut_together_where_code_wants_it() -> None:
    model = attending(3, tied=True)
    pruner = sc.Pruner(model, torch.randn(2, 4, 5), ratio=0.5)
    pruner.step()
    assert not pruner.left
    assert model[0].out_features == 16
    assert (model[1].num_heads, model[1].head_dim) == (2, 8)


class Geometry:
    """What code outside of modules remembers."""

    def __init__(self, width: int) -> None:
        self.width = width


class Helped(nn.Module):
    """Code that asks another object for a size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 4)
        self.geometry = Geometry(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).view(-1, 1, self.geometry.width))


def test_numbers_in_other_objects_follow(tmp_path: Path) -> None:
    model, x = Helped(), torch.randn(2, 8)
    sc.Pruner(model, x, ratio=0.5, strict=True).step()
    assert model.geometry.width == 6
    sc.save(model, tmp_path / "small.safetensors")
    assert torch.equal(sc.load(tmp_path / "small.safetensors", Helped)(x), model(x))


class Detecting(nn.Module):
    """Code that makes as many calls as data say."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 12), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        scores = self.head(self.body(x).relu()).flatten()
        found = scores[scores > 0]
        while len(found) % 7:
            found = torch.cat((found, torch.zeros(1)))
        return [scores * 2, found]


def test_calls_that_data_decide_on_may_be_others() -> None:
    model, x = Detecting(), torch.randn(60, 8)
    pruner = sc.Pruner(model, x, ratio=0.5, strict=True)
    assert any("counted" in warning for warning in pruner.graph.warnings)
    pruner.step()
    assert model.body.out_features == 6
    assert len(model(x)) == 2


class Recurrent(nn.Module):
    """A recurrent layer between others."""

    def __init__(self, layer: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.layer = layer(6, 8, **options)
        self.head = nn.Linear(8 * (1 + self.layer.bidirectional), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_cut(layer: type[nn.RNNBase], options: dict[str, Any]) -> None:
    model, x = Recurrent(layer, **options), torch.randn(4, 2, 6)
    record = live.check(model, (x,), live.outputs(model, (x,)), 0.5)
    assert record["status"] == "ok", record
    assert record["left"] == 0
    assert model.layer.hidden_size == 4


@pytest.mark.parametrize("dim", [0, 2])
def test_normalized_weights_are_cut(dim: int) -> None:
    inner = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 8, 3, padding=1), dim=dim)
    model, x = nn.Sequential(nn.Conv1d(3, 4, 3), inner, nn.Conv1d(8, 2, 1)), torch.randn(2, 3, 9)
    record = live.check(model, (x,), live.outputs(model, (x,)), 0.5)
    assert record["status"] == "ok", record
    assert not record["warnings"]
    assert inner.out_channels == 4


def test_dropout_keeps_its_strength_where_it_is_asked_for() -> None:
    model = Net()
    sc.Pruner(model, torch.randn(1, 3, 8, 8), ratio=0.5, scale_dropout=True).step()
    assert model.drop.p == pytest.approx(0.25)


def test_steps_end_where_one_step_does() -> None:
    one, several = Net().eval(), Net().eval()
    several.load_state_dict(one.state_dict())
    x = torch.randn(1, 3, 8, 8)
    sc.Pruner(one, x, ratio=0.5).step()
    pruner = sc.Pruner(several, x, ratio=0.5, steps=4)
    for _ in range(4):
        pruner.step()
    sizes = [[tuple(p.shape) for p in model.parameters()] for model in (one, several)]
    assert sizes[0] == sizes[1]
    with pytest.raises(sc.SecateurError, match="all 4 steps"):
        pruner.step()


def test_a_module_that_is_kept_keeps_what_it_makes_and_reads() -> None:
    model = Net().eval()
    sc.Pruner(model, torch.randn(1, 3, 8, 8), ratio=0.5, keep=["fc"]).step()
    assert model.fc.in_features == 16
    assert model.inner.out_channels == 12
    with pytest.raises(sc.SecateurError, match="nothing"):
        sc.Pruner(model, torch.randn(1, 3, 8, 8), ratio=0.5, keep=["nowhere"]).step()


def test_proposals_can_be_changed_before_they_are_applied() -> None:
    model = Net().eval()
    pruner = sc.Pruner(model, torch.randn(1, 3, 8, 8), ratio=0.5)
    proposals = [one for one in pruner.propose() if one.group.name == "inner.weight:0"]
    proposals[0].removed = [0, 1, 2]
    pruner.step(proposals)
    assert model.inner.out_channels == 21
    assert model.stem.out_channels == 16


def test_gradients_decide_where_the_criterion_wants_them() -> None:
    model = Net().eval()
    x = torch.randn(4, 3, 8, 8)
    pruner = sc.Pruner(model, x, ratio=0.5, criterion="taylor")
    with pytest.raises(sc.SecateurError, match="gradient"):
        pruner.scores()
    model(x).square().sum().backward()
    inner = (model.inner.weight * model.inner.weight.grad).abs().sum((1, 2, 3))
    outer = (model.outer.weight * model.outer.weight.grad).abs().sum((0, 2, 3))
    wanted = inner + outer
    found = torch.tensor(pruner.scores()["inner.weight:0"])
    assert torch.allclose(found / found.mean(), wanted / wanted.mean(), rtol=1e-3)
    pruner.accumulate()
    pruner.accumulate()
    again = torch.tensor(pruner.scores()["inner.weight:0"])
    assert torch.allclose(found / found.mean(), again / again.mean(), rtol=1e-4)


def test_saved_modules_are_cut_and_filled_again(tmp_path: Path) -> None:
    model = Net().eval()
    x = torch.randn(2, 3, 8, 8)
    for _ in range(2):
        sc.Pruner(model, x, ratio=0.3).step()
    path = tmp_path / "small.safetensors"
    sc.save(model, path)
    loaded = sc.load(path, Net).eval()
    assert loaded.inner.out_channels == model.inner.out_channels < 24
    assert torch.equal(loaded(x), model(x))
    sc.save(loaded, path)
    assert torch.equal(sc.load(path, Net).eval()(x), model(x))
    with pytest.raises(sc.SecateurError, match="does not fit"):
        sc.load(path, Spelled)
    path.write_bytes(b"no tensors")
    with pytest.raises(sc.SecateurError, match="cannot be read"):
        sc.load(path, Net)


def test_heads_of_transformers_are_found_by_themselves() -> None:
    model = next(model for model in modelzoo.MODELS if model.name == "bert_tiny")
    module, example = model.build()
    module.eval()
    kinds = {group.kind for group in sc.graph(module, example).groups}
    assert {"heads", "features", "head-width"} <= kinds


def _groups(graph: sc.Graph) -> dict[str, object]:
    slices = {
        group.name: sorted((s.parameter, s.axis, s.role) for s in group.slices)
        for group in graph.groups
    }
    return {g.name: (g.kind, g.size, g.exact, slices[g.name]) for g in graph.groups}


@pytest.mark.parametrize("name", ["resnet18", "bert_tiny", "llama_tiny"])
def test_exported_programs_have_the_groups_of_traces(name: str) -> None:
    model = next(model for model in modelzoo.MODELS if model.name == name)
    module, example = model.build()
    module.eval()
    twin = copy.deepcopy(module)
    exported = sc.graph(module, example, capture="export")
    assert _groups(exported) == _groups(sc.graph(twin, example))
    pruner = sc.Pruner(exported, ratio=0.5)
    pruner.step()
    assert not pruner.left
    sc.Pruner(twin, example, ratio=0.5).step()
    wanted, got = live.outputs(twin, example), live.outputs(module, example)
    for a, b in zip(wanted, got, strict=True):
        assert (a == b).all()


class Tied(nn.Module):
    """Two layers of one weight, and dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.same = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.same.weight = self.inner.weight
        self.read = nn.Linear(8, 12)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.read(self.same(self.inner(x))))
        return self.out(self.drop(x)) * torch.tensor([1.0, 2.0, 3.0, 4.0])


def test_exported_programs_know_tied_weights_constants_and_dropout() -> None:
    model = Tied()
    options = {"capture": "export", "scale_dropout": True, "strict": True}
    sc.Pruner(model, torch.randn(2, 8), ratio=0.5, **options).step()
    assert model.same.weight is model.inner.weight
    assert model.read.weight.shape == (6, 8)
    assert model.out.in_features == 6
    assert model.drop.p == pytest.approx(0.25)
    with pytest.raises(sc.SecateurError, match=r"test_live\.py:\d+"):
        sc.graph(Spelled(), torch.randn(2, 8), capture="export").group("first.weight", 0).prune([0])
    with pytest.raises(sc.SecateurError, match="no capture"):
        sc.graph(model, torch.randn(2, 8), capture="fx")


def test_a_graph_is_pruned_without_another_trace() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    graph = sc.graph(model, torch.randn(1, 3, 8, 8), optimizer=optimizer)
    pruner = sc.Pruner(graph, ratio=0.5)
    assert pruner.graph is graph
    pruner.step()
    assert model.inner.out_channels == 12
    assert graph.group("inner.weight", 0).size == 12
    with pytest.raises(TypeError, match="has its inputs"):
        sc.Pruner(graph, torch.randn(1, 3, 8, 8), ratio=0.5)


def _rank(rank: int, folder: str) -> None:
    place = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    torch.manual_seed(SEED)
    model = Net().train()
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(rank)
    x, y = torch.randn(4, 3, 8, 8), torch.randint(5, (4,))

    def step(pruner: sc.Pruner | None = None) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(parallel(x), y).backward()
        if pruner:
            pruner.accumulate()
        optimizer.step()

    step()
    pruner = sc.Pruner(parallel, x, ratio=0.5, criterion="taylor", optimizer=optimizer)
    step(pruner)
    pruner.step()
    step()
    torch.save([p.detach() for p in model.parameters()], f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_ranks_make_the_same_plan(tmp_path: Path) -> None:
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert first[0].shape[0] == 8
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _whole(values: object) -> object:
    return pytree.tree_map_only(DTensor, lambda tensor: tensor.full_tensor(), values)


def _shard(rank: int, folder: str) -> None:
    """Trains a sharded module and, from the state before pruning, a whole one beside it."""
    place = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model, twin = Net().eval(), Net().eval()
    mesh = init_device_mesh("cpu", (2,))
    for layer in (model.stem, model.inner, model):
        fully_shard(layer, mesh=mesh)
    x, y = torch.randn(8, 3, 8, 8), torch.randint(5, (8,))
    part = slice(4 * rank, 4 * rank + 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, part: slice) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()

    for _ in range(2):
        step(model, optimizer, part)
    same = torch.optim.AdamW(twin.parameters(), lr=0.01)
    twin.load_state_dict(_whole(model.state_dict()))
    same.load_state_dict(copy.deepcopy(_whole(optimizer.state_dict())))
    for sharded, whole in zip(model.parameters(), twin.parameters(), strict=True):
        whole.grad = sharded.grad.full_tensor()
    parameters = list(model.parameters())
    with torch.no_grad():
        model(x)  # leaves parameters gathered
    for module, own in ((model, optimizer), (twin, same)):
        pruner = sc.Pruner(module, x, ratio=0.3, criterion="taylor", optimizer=own)
        pruner.accumulate()
        pruner.step()
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert model.inner.weight.shape == (17, 11, 3, 3)
    for sharded, whole in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(sharded.full_tensor(), whole)
        assert torch.equal(sharded.grad.full_tensor(), whole.grad)
    for _ in range(2):
        step(model, optimizer, part)
        step(twin, same, slice(None))
    for sharded, whole in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(sharded.full_tensor(), whole, rtol=1e-5, atol=1e-6)
    with pytest.raises(sc.SecateurError, match="another axis than the first"):
        other = nn.Linear(8, 8, bias=False)
        sc.graph(fully_shard(other, mesh=mesh, shard_placement_fn=lambda _: Shard(1)), x)
    dist.destroy_process_group()


def test_sharded_modules_are_cut_as_whole_ones_are(tmp_path: Path) -> None:
    multiprocessing.spawn(_shard, (str(tmp_path),), nprocs=2)


def test_names_of_tensors_are_those_of_the_module() -> None:
    model = Net()
    names = set(tensors(model))
    slices = {
        s.parameter for g in sc.graph(model, torch.randn(1, 3, 8, 8)).groups for s in g.slices
    }
    assert slices <= names


class ByChance(nn.Module):
    """Has the width of a layer three times, and means it once."""

    def __init__(self) -> None:
        super().__init__()
        self.width = self.first = self.second = 16
        self.inner, self.out = nn.Linear(32, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.split([self.first, self.second], dim=-1)
        return self.out(self.inner(x).view(-1, self.width)) + first + second


class Widths(nn.Module):
    """Means all widths that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = 12, 20, 24
        widths = (16, self.one, self.two, self.three, 4)
        self.layers = nn.ModuleList(starmap(nn.Linear, pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        for layer, width in zip(self.layers, (self.one, self.two, self.three, 4), strict=True):
            x = layer(x).view(-1, width)
        return x


def test_attributes_that_hold_a_size_by_chance_are_found_one_group_after_the_other() -> None:
    model = nn.Sequential(ByChance(), Widths())
    pruner = sc.Pruner(model, torch.randn(2, 32), ratio=0.5)
    pruner.step()
    assert not pruner.left
    assert (model[0].width, model[0].first, model[0].second) == (8, 16, 16)
    assert (model[1].one, model[1].two, model[1].three) == (6, 10, 12)


class Comparing(nn.Module):
    """Code that compares what it is given with an attribute, and may give it to a call, too."""

    def __init__(self, out: int, *, spelled: bool = False) -> None:
        super().__init__()
        self.num_channels = 12
        self.spelled = spelled
        self.conv = nn.Conv2d(12, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.spelled:
            x = x.reshape(len(x), self.num_channels, *x.shape[2:])
        if x.shape[1] != self.num_channels:
            raise ValueError("other channels")
        return self.conv(x)


def test_attributes_that_code_only_compares_follow() -> None:
    model = nn.Sequential(nn.Conv2d(3, 12, 1), Comparing(4))
    pruner = sc.Pruner(model, torch.randn(2, 3, 8, 8), ratio=0.5)
    pruner.step()
    assert not pruner.left
    assert (model[1].num_channels, model[1].conv.in_channels) == (6, 6)


def test_attributes_follow_where_a_module_of_the_same_kind_spells_them() -> None:
    model = nn.Sequential(nn.Conv2d(3, 12, 1), Comparing(12, spelled=True), Comparing(4))
    pruner = sc.Pruner(model, torch.randn(2, 3, 8, 8), ratio=0.5)
    pruner.step()
    assert not pruner.left
    assert [layer.num_channels for layer in model[1:]] == [6, 6]


class Tokens(nn.Module):
    """Code that asks for numbers of its tokens, and may write what it computed over them."""

    def __init__(self, *, written: bool) -> None:
        super().__init__()
        self.table, self.outer = nn.Embedding(20, 8), nn.Linear(8, 4)
        self.written = written

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        tokens = tokens.clone()
        if self.written:
            tokens[x[..., 0] == x[..., 0]] = 1
        return self.outer(x if bool((tokens > 0).all()) else x[:, 1:])


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_tokens_are_known_without_running_on_weights(
    *, written: bool, first: int
) -> None:
    tokens = torch.tensor([[first, 3, 2, 5]])
    found = trace(Tokens(written=written), (tokens,), {})
    assert (found.decisions is not None) is written
    assert ("aten.slice" in found.text) == (not (first or written))


class Scaled(nn.Module):
    """Attention whose scale may follow the width of its heads."""

    def __init__(self, *, scale: float | None) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        mapped = torch.vmap(functional.linear, (0, None))(mixed, self.value.weight)
        return mapped @ x.transpose(1, 2)


def test_what_pytorch_takes_apart_is_one_call() -> None:
    found = trace(Scaled(scale=None), (torch.rand(2, 5, 8),), {})
    targets = [line.split('"')[0] for line in found.text.split('"target":"torch.ops.aten.')[1:]]
    whole = ["linear.default"] * 3 + ["scaled_dot_product_attention.default"]
    assert targets[:4] == whole
    assert targets[-1] == "matmul.default"
    assert "linear.default" not in targets[4:]  # but where functions are mapped


class Turned(nn.Module):
    """Asks for a copy of its heads in order, which one head is as it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x).unflatten(-1, (-1, 4)).transpose(1, 2).contiguous()
        return self.outer(x.transpose(1, 2).flatten(2))


def test_a_copy_that_sizes_of_one_spare_is_one_call() -> None:
    model, x = Turned(), torch.rand(2, 5, 8)
    found = trace(model, (x,), {})
    assert found.text.count("aten.contiguous.default") == 1
    pruner = sc.Pruner(model, x, ratio=0.5)
    pruner.step()
    assert not pruner.left
    assert model.inner.out_features == model.outer.in_features == 4


def test_attention_layers_are_followed_as_they_are_written() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.rand(2, 5, 8)
    found = trace(layer, (x, x, x), {"need_weights": False})
    assert found.text.count("aten.linear.default") == 2
    assert found.text.count("aten.scaled_dot_product_attention.default") == 1
    found = trace(layer, (x, x, x), {})
    assert found.text.count("aten.linear.default") == 2


def test_a_scale_that_would_follow_the_width_of_heads_is_refused() -> None:
    x = torch.rand(2, 5, 8)
    keeps = {"query.weight:0": [0, 1, 2, 5]}
    fixed, following = Scaled(scale=0.5), Scaled(scale=None)
    sc.graph(fixed, (x,)).apply(keeps)
    assert fixed.query.out_features == fixed.key.out_features == 4
    with pytest.raises(sc.SecateurError, match="`scale`"):
        sc.graph(following, (x,)).apply(keeps)


class Einops(nn.Module):
    """Attention as einops and `einsum` spell it, with positions that are a mere attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = torch.rand(5, 16)
        self.embed, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.to_qkv = nn.Linear(16, 24, bias=False)
        self.split = Rearrange("b n (h d) -> b h n d", h=2)
        self.merge = nn.Sequential(Rearrange("b h n d -> b n (h d)"), nn.Linear(8, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.positions
        q, k, v = map(self.split, self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        mixed = torch.einsum("b h i d, b h j d -> b h i j", q, k).softmax(-1)
        x = x + self.merge(torch.einsum("b h i j, b h j d -> b h i d", mixed, v))
        return self.head(x)


def test_what_einops_and_einsum_spell_follows(tmp_path: Path) -> None:
    model, x = Einops(), torch.rand(2, 5, 6)
    check = live.check(copy.deepcopy(model), (x,), live.outputs(model, (x,)), 0.5)
    assert (check["status"], check["left"]) == ("ok", 0)
    sc.Pruner(model, x, ratio=0.5, strict=True).step()
    assert model.positions.shape == (5, 8)
    assert model.split.axes_lengths == {"h": 1}  # of one head, `einsum` makes other calls
    sc.save(model, tmp_path / "small.safetensors")

    def same() -> Einops:
        torch.manual_seed(SEED)
        return Einops()

    assert torch.equal(sc.load(tmp_path / "small.safetensors", same)(x), model(x))


class Shuffled(nn.Module):
    """A layer of groups, and code that shuffles them by an attribute of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = 4
        self.first = nn.Conv2d(8, 24, 1, groups=4)
        self.second = nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x.view(len(x), self.groups, x.shape[1] // self.groups, *x.shape[2:])
        return self.second(x.transpose(1, 2).flatten(1, 2))


def test_groups_that_code_shuffles_follow() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Shuffled())
    group = sc.graph(model, torch.randn(2, 3, 4, 4)).group("0.weight:0#0")
    assert (group.kind, group.size) == ("conv-groups", 4)
    group.prune([1, 2])
    assert (model[1].groups, model[1].first.groups) == (2, 2)


class Contested(nn.Module):
    """A width, which other code has by chance, and which that code takes from its input."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.all_head_size = 4, 32
        self.reduce = nn.Conv1d(32, 32, 1, groups=32)
        self.key, self.value, self.out = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        x = self.reduce(x.transpose(1, 2)).reshape(batch, width, tokens).transpose(1, 2)
        heads = [
            layer(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for layer in (self.key, self.value)
        ]
        mixed = (heads[0] @ heads[0].transpose(2, 3)).softmax(-1) @ heads[1]
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, self.all_head_size))


def test_of_two_numbers_for_an_attribute_the_right_one_is_found() -> None:
    model = nn.Sequential(nn.Linear(6, 32), Contested(), nn.Linear(32, 3))
    graph = sc.graph(model, torch.rand(2, 5, 6))
    named = {group.name: group for group in graph.groups}
    heads = next(name for name, group in named.items() if group.kind == "heads")
    width = next(name for name, group in named.items() if group.size == 32)
    graph.apply({width: range(12), heads: [0, 2]})
    assert (model[1].heads, model[1].all_head_size) == (2, 16)
    assert model[1].reduce.in_channels == 12


class Translating(nn.Module):
    """PyTorch's transformer, which compares the width of its inputs with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 32)
        self.body = nn.Transformer(32, 4, 1, 1, 48, batch_first=True)
        self.head = nn.Linear(32, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.body(self.table(source), self.table(target)))


def test_encoders_and_decoders_are_cut_as_wide_as_their_heads() -> None:
    tokens = torch.arange(12).reshape(2, 6)
    model = Translating().eval()
    pruner = sc.Pruner(model, (tokens, tokens + 2), ratio=0.5)
    pruner.step()
    assert not pruner.left
    assert (model.table.embedding_dim, model.body.d_model) == (16, 16)
    attention = model.body.decoder.layers[0].multihead_attn
    assert (attention.num_heads, attention.embed_dim) == (2, 16)
    assert model(tokens, tokens + 2).isfinite().all()
