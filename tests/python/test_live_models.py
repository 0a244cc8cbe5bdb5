"""Live modules as people write them: what their code does beside layers, and what is around it."""

import copy
import json
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import secateur as sc
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import live


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


class Code(nn.Module):
    """A module whose code is a function of its layers and the inputs."""

    def __init__(self, code: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.code = code
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.code(self, *args, **kwargs)


def perceptron(hidden: int = 16, classes: int = 8) -> dict[str, nn.Module]:
    return {"body": nn.Linear(4, hidden), "head": nn.Linear(hidden, classes)}


def checked(module: nn.Module, *args: Any) -> dict[str, Any]:
    """The record of a module that is pruned whole, equal to its masked copy."""
    record = live.check(module.eval(), args, live.outputs(module, args), 0.5)
    assert record["status"] == "ok", record
    assert record["left"] == 0, record
    return record


@dataclass
class Output:
    logits: Tensor


class Slotted:
    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


RETURNED: dict[str, Callable[[Tensor], Any]] = {
    "dataclass": Output,
    "nested": lambda logits: (logits.sum(), [Output(logits)]),
    "namespace": lambda logits: SimpleNamespace(logits=logits),
    "mapping": lambda logits: UserDict(logits=logits),
    "slots": Slotted,
    "set": lambda logits: {logits},
    "distribution": lambda logits: Categorical(logits=logits),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_what_is_returned_in_any_object_stays_whole(kind: str) -> None:
    module = Code(lambda m, x: RETURNED[kind](m.head(m.body(x).relu())), **perceptron())
    sc.Pruner(module, torch.randn(3, 4), ratio=0.5).step()
    assert module.body.out_features == 8
    assert module.head.out_features == 8


def test_a_graph_of_a_module_that_was_changed_is_refused() -> None:
    module = Code(lambda m, x: m.head(m.body(x).relu()), **perceptron())
    graph, x = sc.graph(module, torch.randn(3, 4)), torch.randn(3, 4)
    sc.Pruner(module, x, ratio=0.5).step()
    with pytest.raises(sc.SecateurError, match="was changed since it was traced"):
        graph.group("body.weight", 0).prune([0])
    assert module(x).shape == (3, 8)
    graph.refresh()
    graph.group("body.weight", 0).prune([0])
    assert module.body.out_features == 7


def test_the_order_of_memory_is_kept() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    module.to(memory_format=torch.channels_last)
    sc.Pruner(module, torch.randn(2, 3, 8, 8), ratio=0.5).step()
    assert all(module[at].weight.is_contiguous(memory_format=torch.channels_last) for at in (0, 2))


def test_a_module_that_returns_nothing_is_refused() -> None:
    with pytest.raises(sc.SecateurError, match="returns no tensor"):
        sc.graph(Code(lambda m, x: None, **perceptron()), torch.randn(3, 4))


POOLS = (nn.MaxPool1d(2), nn.AdaptiveMaxPool1d(3), nn.AdaptiveAvgPool1d(3))


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: type(pool).__name__)
def test_positions_that_nobody_asked_for_keep_nothing_whole(pool: nn.Module) -> None:
    layers = (nn.Conv1d(3, 8, 3), pool, nn.Conv1d(8, 8, 1), nn.Flatten(), nn.LazyLinear(2))
    module, x = nn.Sequential(*layers), torch.randn(2, 3, 12)
    module(x)
    assert checked(module, x)["groups"] == 2


def test_masked_attention_is_cut_in_heads_and_width() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    module = Code(
        lambda m, x, mask: m.head(m.encoder(m.stem(x), src_key_padding_mask=mask)),
        stem=nn.Linear(8, 32),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        head=nn.Linear(32, 8),
    )
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, 4:] = True
    record = checked(module, torch.randn(2, 6, 8), mask)
    assert not record["warnings"]
    assert record["after"]["parameters"] < 0.3 * record["before"]["parameters"]


@pytest.mark.parametrize("divided", [lambda x: x / x.shape[1], lambda x: x * float(x.shape[1])])
def test_factors_that_follow_a_width_are_approximate(divided: Callable[[Tensor], Tensor]) -> None:
    module = Code(lambda m, x: m.head(divided(m.body(x).relu())), **perceptron())
    exact = sc.Pruner(module, torch.randn(3, 4), ratio=0.5, exact_only=True)
    with pytest.raises(sc.SecateurError, match=r"no group can be cut\nleft alone.*\n.*test_live"):
        exact.step()
    pruner = sc.Pruner(module, torch.randn(3, 4), ratio=0.5)
    pruner.step()
    assert module.body.out_features == 8
    assert "approximate: " in pruner.report()


def test_heads_stay_where_their_width_is_cut() -> None:
    """As in the Set Transformer: `dim_V` follows, `num_heads` does not."""

    def attend(m: Code, x: Tensor) -> Tensor:
        width = m.dim_V // m.num_heads
        q, k = (torch.cat(layer(x).split(width, 2), 0) for layer in (m.query, m.key))
        made = torch.softmax(q @ k.transpose(1, 2), 2) @ k
        return m.head(torch.cat(made.split(x.shape[0], 0), 2))

    module = Code(attend, query=nn.Linear(4, 16), key=nn.Linear(4, 16), head=nn.Linear(16, 2))
    module.dim_V, module.num_heads = 16, 4
    checked(module, torch.randn(3, 6, 4))
    assert (module.dim_V, module.num_heads) == (8, 4)


def test_what_the_example_did_not_run_is_named() -> None:
    branches = nn.ModuleDict({"a": nn.Linear(4, 16), "b": nn.Linear(4, 16)})
    module = Code(
        lambda m, x, mode="a": m.head(m.branch[mode](x).relu()),
        branch=branches,
        head=nn.Linear(16, 3),
    )
    pruner = sc.Pruner(module, torch.randn(3, 4), ratio=0.5)
    pruner.step()
    assert pruner.graph.unread == ["branch.b"]
    report = pruner.report()
    assert "not run on the example inputs, and left as it was: branch.b" in report
    assert f"{sum(p.numel() for p in module.parameters())}" in report


def spelled_mask(layer: nn.Linear, mask: Tensor) -> None:
    prune.custom_from_mask(layer, "weight", mask.expand_as(layer.weight))


def spelled_norm(layer: nn.Linear, mask: Tensor) -> None:
    with torch.no_grad():
        parametrizations.weight_norm(layer).parametrizations.weight.original0.mul_(mask + 1e-4)


def hooked_norm(layer: nn.Linear, mask: Tensor) -> None:
    with torch.no_grad():
        weight_norm(layer).weight_g.mul_(mask + 1e-4)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("derive", [spelled_mask, spelled_norm, hooked_norm])
@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm"])
def test_scores_are_those_of_weights_as_they_are_used(
    derive: Callable[[nn.Linear, Tensor], None], criterion: str
) -> None:
    layers = perceptron()
    mask = torch.arange(16).ge(8).float()[:, None]
    with torch.no_grad():
        layers["body"].bias.zero_()
    derive(layers["body"], mask)
    module = Code(lambda m, x: m.head(m.body(x).relu()), **layers)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    keeps = sc.Pruner(module, torch.randn(3, 4), ratio=0.5, criterion=criterion).select().keeps
    if criterion != "fpgm":  # the median of zeros and others is anywhere
        assert [*keeps.values()] == [list(range(8, 16))]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_weights_of_spectral_norms_are_scored_without_a_step_of_theirs() -> None:
    layers = perceptron()
    parametrizations.spectral_norm(layers["body"])
    module = Code(lambda m, x: m.head(m.body(x).relu()), **layers).train()
    before = module.body.parametrizations.weight[0]._u.clone()
    pruner = sc.Pruner(module, torch.randn(3, 4), ratio=0.5)
    assert [group.name for group in pruner] == ["body.parametrizations.weight.original:0"]
    pruner.select()
    assert torch.equal(before, module.body.parametrizations.weight[0]._u)
    assert module.body.parametrizations.weight[0].training
    pruner.step()
    module(torch.randn(3, 4)).sum().backward()
    assert module.body.parametrizations.weight[0]._u.shape == (8,)


def test_copies_and_modules_around_know_what_was_cut(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8)), nn.ReLU()
        )

    x, whole = torch.randn(3, 4), make()
    sc.Pruner(whole[0], x, ratio=0.25).step()
    sc.Pruner(whole, x, ratio=0.25).step()
    torch.save(whole, tmp_path / "module.pt")
    for known in (copy.deepcopy(whole), torch.load(tmp_path / "module.pt", weights_only=False)):
        sc.save(known, tmp_path / "module.safetensors")
        loaded = sc.load(tmp_path / "module.safetensors", make)
        assert torch.equal(loaded(x), whole(x))
        assert loaded[0][0].out_features == 9
    sc.save(whole[0], tmp_path / "inner.safetensors")
    inner = sc.load(tmp_path / "inner.safetensors", lambda: make()[0])
    assert torch.equal(inner(x), whole[0](x))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adafactor": torch.optim.Adafactor,
    "lbfgs": torch.optim.LBFGS,
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_by_row_is_cut_and_a_history_begins_anew(kind: str) -> None:
    module = Code(lambda m, x: m.head(m.body(x).relu()), **perceptron())
    x, optimizer = torch.randn(3, 4), OPTIMIZERS[kind](module.parameters())

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = module(x).square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    row = optimizer.state[module.body.weight].get("row_var")
    kept = sc.Pruner(module, x, ratio=0.5, optimizer=optimizer).step().keeps["body.weight:0"]
    if row is not None:
        assert torch.equal(optimizer.state[module.body.weight]["row_var"], row[kept])
    optimizer.step(loss)
    assert module.body.weight.isfinite().all()


def test_wrappers_of_data_parallelism_are_looked_into() -> None:
    module = nn.DataParallel(Code(lambda m, x: m.head(m.body(x).relu()), **perceptron()))
    sc.Pruner(module, torch.randn(3, 4), ratio=0.5).step()
    assert module.module.body.out_features == 8
    with pytest.raises(sc.SecateurError, match="ScriptModule"):
        sc.graph(torch.jit.script(nn.Linear(4, 4)), torch.randn(3, 4))


def packed(m: Code, x: Tensor, lengths: Tensor) -> Tensor:
    rows = pack_padded_sequence(m.table(x), lengths, batch_first=True, enforce_sorted=False)
    made, (last, _) = m.layer(rows)
    padded, _ = pad_packed_sequence(made, batch_first=True)
    return m.head(padded.amax(1) + torch.cat([*last[-2:]], 1))


def test_sequences_of_different_lengths_are_followed() -> None:
    layer = nn.LSTM(12, 8, 2, batch_first=True, bidirectional=True)
    module = Code(packed, table=nn.Embedding(20, 12), layer=layer, head=nn.Linear(16, 3))
    checked(module, torch.randint(20, (3, 7)), torch.tensor([5, 7, 2]))
    assert (module.table.embedding_dim, layer.hidden_size) == (6, 4)


def filled(x: Tensor, mask: Tensor) -> Tensor:
    x[mask] = 0
    return x


def cells(m: Code, x: Tensor) -> Tensor:
    h = x.new_zeros(x.shape[0], m.lstm.hidden_size)
    c, g = torch.zeros_like(h), x.new_zeros(x.shape[0], m.gru.hidden_size)
    for step in x.unbind(1):
        h, c = m.lstm(step, (h, c))
        g = m.gru(h, g)
    return m.head(g)


def masked_experts(m: Code, x: Tensor) -> Tensor:
    first = x[:, 0] > 0
    made = x.new_zeros(x.shape[0], m.one.out_features)
    made[first] = m.one(x[first])
    made[~first] = m.two(x[~first])
    return m.head(made.relu())


def test_caches_that_a_module_takes_back_are_no_results() -> None:
    def code(m: Code, x: Tensor) -> dict[str, Tensor]:
        made = m.body(x)
        return {"logits": m.head(made.relu()), "past_key_values": made}

    module = Code(code, **perceptron())
    sc.Pruner(module, torch.randn(3, 4), ratio=0.5).step()
    assert module.body.out_features == 8


def test_losses_that_are_still_around_do_no_harm() -> None:
    module = Code(lambda m, x: m.head(m.body(x).relu()), **perceptron())
    x, held = torch.randn(3, 4), []
    optimizer = torch.optim.Adam(module.parameters())
    pruner = sc.Pruner(module, x, ratio=0.5, steps=2, optimizer=optimizer)
    for step in range(6):
        loss = module(x).square().sum()
        held.append(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 2:
            pruner.step() if pruner.taken < 2 else None
    assert module.body.out_features == 8


def test_steps_trace_in_the_mode_of_the_first_trace() -> None:
    layers = {"body": nn.Linear(4, 16), "norm": nn.BatchNorm1d(16), "head": nn.Linear(16, 8)}
    module = Code(lambda m, x: m.head(functional.dropout(m.norm(m.body(x)))), **layers)
    pruner = sc.Pruner(module.train(), torch.randn(3, 4), ratio=0.5)
    module.eval()
    pruner.step()
    assert module.body.out_features == 8
    assert not module.norm.training


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_ratios_of_steps_are_parts_of_what_was_there_first(steps: int) -> None:
    layers = {"body": nn.Linear(4, 64), "middle": nn.Linear(64, 16), "head": nn.Linear(16, 8)}
    module = Code(lambda m, x: m.head(m.middle(m.body(x).relu()).relu()), **layers)
    options = {"ratio": 0.5, "ratio_for": {"body*": 0.75}, "max_ratio": 0.7}
    pruner = sc.Pruner(module, torch.randn(3, 4), steps=steps, **options)
    for _ in range(steps):
        pruner.step()
    assert (module.body.out_features, module.middle.out_features) == (20, 8)


def test_statistics_of_gradients_are_cut_along() -> None:
    layers = {"body": nn.Linear(4, 6), "head": nn.Linear(6, 2)}
    module, x = Code(lambda m, x: m.head(m.body(x).relu()), **layers), torch.randn(9, 4)
    pruner = sc.Pruner(module, x, ratio=0.5, criterion="taylor")
    module(x).square().sum().backward()
    pruner.accumulate()
    (before,) = pruner.scores().values()
    pruner.graph.group("body.weight", 0).prune([0, 3])
    module.zero_grad()
    (after,) = pruner.scores().values()
    parts = torch.tensor(after) / torch.tensor([before[i] for i in (1, 2, 4, 5)])
    torch.testing.assert_close(parts, parts[:1].expand(4))
    next(module.parameters()).grad = torch.full_like(next(module.parameters()), float("nan"))
    with pytest.warns(UserWarning, match="not finite"):
        pruner.accumulate()


def test_optimizers_inside_of_others_and_state_in_containers_are_cut() -> None:
    class Around(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups, {})
            self.inner = inner

        def step(self) -> None:
            for group in self.param_groups:
                for one in group["params"]:
                    history = self.state[one].setdefault("history", [])
                    history.append(one.grad.clone())
            self.inner.step()

    module, x = Code(lambda m, x: m.head(m.body(x).relu()), **perceptron()), torch.randn(3, 4)
    optimizer = Around(torch.optim.AdamW(module.parameters()))
    pruner = sc.Pruner(module, x, ratio=0.5, optimizer=optimizer)
    module(x).square().sum().backward()
    optimizer.step()
    pruner.step()
    module(x).square().sum().backward()
    optimizer.step()
    weight = module.body.weight
    assert [one.shape for one in optimizer.state[weight]["history"]] == [(8, 4), (8, 4)]
    assert optimizer.inner.state[weight]["exp_avg"].shape == (8, 4)
    others = nn.Linear(2, 2).parameters()
    with pytest.raises(sc.SecateurError, match="knows none of the module's parameters"):
        sc.Pruner(module, x, ratio=0.5, optimizer=torch.optim.SGD(others))
    with pytest.raises(TypeError, match="no optimizer"):
        sc.Pruner(module, x, ratio=0.5, optimizer=["adam"])


def test_steps_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    layers = {"body": nn.Linear(4, 64), "middle": nn.Linear(64, 32), "head": nn.Linear(32, 8)}
    module = Code(lambda m, x: m.head(m.middle(m.body(x).relu()).relu()), **layers)
    x, whole = torch.randn(3, 4), copy.deepcopy(module)
    pruner = sc.Pruner(module, x, params=0.3, steps=4)
    pruner.step()
    sc.save(module, tmp_path / "module.safetensors")
    (tmp_path / "pruner.json").write_text(json.dumps(pruner.state_dict()))
    again = sc.load(tmp_path / "module.safetensors", lambda: copy.deepcopy(whole))
    resumed = sc.Pruner(again, x, params=0.3, steps=4)
    resumed.load_state_dict(json.loads((tmp_path / "pruner.json").read_text()))
    for _ in range(3):
        pruner.step()
        resumed.step()
    assert torch.equal(module(x), again(x))
    assert resumed.report() == pruner.report()


def test_proposals_of_what_is_not_there_are_refused() -> None:
    module = Code(lambda m, x: m.head(m.body(x).relu()), **perceptron())
    pruner = sc.Pruner(module, torch.randn(3, 4), ratio=0.5)
    (proposal,) = pruner.propose()
    proposal.removed = [99]
    with pytest.raises(sc.SecateurError, match="has no index 99"):
        pruner.step([proposal])
    assert pruner.taken == 0


def test_a_failed_step_bars_nothing() -> None:
    module = Code(lambda m, x: m.head(m.body(x).view(-1, 16)), **perceptron())
    pruner = sc.Pruner(module, torch.randn(3, 4), ratio=0.5)
    with pytest.raises(sc.SecateurError, match="no group can be cut"):
        pruner.step()
    module.code = lambda m, x: m.head(m.body(x).relu())
    pruner.graph.refresh()
    pruner.step()
    assert module.body.out_features == 8


def test_a_module_that_was_changed_since_says_so() -> None:
    module = Code(lambda m, x: m.head(m.body(x).relu()), **perceptron())
    pruner = sc.Pruner(module, torch.randn(3, 4), ratio=0.5)
    module.body = nn.Linear(4, 12)
    with pytest.raises(sc.SecateurError, match="changed since it was traced"):
        pruner.step()


def test_numbers_of_other_things_stay_where_the_code_does_not_need_them() -> None:
    module = Code(lambda m, x: m.head(m.body(x).view(-1, m.dim)), **perceptron())
    module.dim = module.image_size = module.num_classes = 16
    module.heads = 4
    sc.Pruner(module, torch.randn(3, 4), ratio=0.5).step()
    assert (module.dim, module.image_size, module.num_classes, module.heads) == (8, 16, 16, 4)
    module = Code(lambda m, x: m.head(m.body(x).view(-1, m.image_size)), **perceptron())
    module.image_size = 16
    sc.Pruner(module, torch.randn(3, 4), ratio=0.5).step()
    assert module.image_size == 8


def test_what_is_saved_is_loaded_whatever_its_tensors_were_called_when_it_was_cut(
    tmp_path: Path,
) -> None:
    def made(classes: int = 8) -> Code:
        return Code(lambda m, x: m.head(m.body(x).relu()), **perceptron(classes=classes))

    module, x = made(), torch.randn(3, 4)
    prune.l1_unstructured(module.body, "weight", 0.3)
    sc.Pruner(module, x, ratio=0.5).step()
    prune.remove(module.body, "weight")
    module.head = nn.Linear(8, 5)
    module.to(torch.bfloat16)
    sc.save(module, tmp_path / "small.safetensors")
    again = sc.load(tmp_path / "small.safetensors", lambda: made(5))
    assert torch.equal(again(x.bfloat16()), module(x.bfloat16()))
    assert (again.head.in_features, again.body.out_features) == (8, 8)
    with pytest.raises(sc.SecateurError, match="does not fit"):
        sc.load(tmp_path / "small.safetensors", lambda: made(4))


def detected(m: Code, x: Tensor) -> list[Tensor]:
    features = m.body(x).relu()
    scores, boxes = m.scores(features).softmax(1), m.boxes(features)
    best, labels = scores.max(1)
    kept = torch.zeros_like(best, dtype=torch.bool)
    for label in torch.unique(labels).tolist():
        of = torch.where(labels == label)[0]
        kept[of[best[of].argsort(descending=True)[: int(best[of].sum().item()) + 2]]] = True
    large = boxes.abs().amax(1) > 0.1
    if boxes.numel() > (20 if boxes.device.type == "cpu" else 10**6) and bool(large.any()):
        kept &= large
    order = torch.randperm(int(kept.sum()))
    found = m.refine(features[kept])[order]
    return [found.sum(0), boxes]


def test_code_that_reads_what_layers_make_is_followed_as_the_example_decides() -> None:
    layers = {
        "body": nn.Linear(6, 16),
        "scores": nn.Linear(16, 3),
        "boxes": nn.Linear(16, 4),
        "refine": nn.Sequential(nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 2)),
    }
    module = Code(detected, **layers)
    record = checked(module, torch.randn(40, 6))
    assert (module.body.out_features, module.refine[0].out_features) == (8, 5)
    assert record["groups"] == 2


@pytest.mark.parametrize(
    "scale",
    [
        lambda q: torch.tensor(q.shape[-1], dtype=q.dtype).sqrt(),
        lambda q: q.new_tensor(q.shape[-1]).sqrt(),
        lambda q: torch.full((1,), q.shape[-1]).sqrt().item(),
        lambda q: q.new_ones(q.shape[-1]).sum().item(),
        lambda q: 2.0 if torch.ones(q.shape[-1]).sum() > 12 else 3.0,
    ],
)
def test_numbers_that_code_makes_of_widths_are_compared(scale: Callable[[Tensor], Any]) -> None:
    def code(m: Code, x: Tensor) -> Tensor:
        q, k = m.q(x), m.k(x)
        if x.abs().max().item() > 1e9:  # numbers of data are read, too
            return q
        return m.out((q @ k.mT / scale(q)).softmax(-1) @ m.v(x))

    layers = {name: nn.Linear(8, 16) for name in "qkv"}
    module = Code(code, **layers, out=nn.Linear(16, 2))
    pruner = sc.Pruner(module, torch.randn(2, 5, 8), ratio=0.5, exact_only=True)
    pruner.step()
    assert list(pruner.left) == ["q.weight:0"]
    assert (module.q.out_features, module.v.out_features) == (16, 8)


@pytest.mark.parametrize("read", [lambda x: x.tolist(), lambda x: list(x.detach().numpy())])
def test_numbers_that_leave_pytorch_stay_whole(read: Callable[[Tensor], list[float]]) -> None:
    def code(m: Code, x: Tensor) -> Tensor:
        scores = read(m.router(x).mean(0))
        made = m.body(x).relu()
        return m.head(made) * (1 + scores.index(max(scores)))

    module = Code(code, router=nn.Linear(4, 6), **perceptron())
    pruner = sc.Pruner(module, torch.randn(9, 4), ratio=0.5)
    pruner.step()
    assert (module.router.out_features, module.body.out_features) == (6, 8)


def test_rows_that_the_example_does_not_reach_stay() -> None:
    layers = {"table": nn.Embedding(20, 16), **perceptron()}
    module = Code(
        lambda m, x: m.head(m.body(m.table(x) + m.rows[:, : x.shape[1]]).relu()), **layers
    )
    module.body = nn.Linear(16, 16)
    module.rows = nn.Parameter(torch.randn(1, 64, 16))
    graph = sc.graph(module, torch.randint(20, (2, 8)))
    assert not any(group.name.startswith("rows:1") for group in graph.groups)
    assert any("other inputs" in why for why in graph._model.why("rows", 1))
    sc.Pruner(graph, ratio=0.5).step()
    assert module.rows.shape == (1, 64, 8)
    assert module(torch.randint(20, (2, 50))).shape == (2, 50, 8)


def test_numbers_of_heads_follow_that_no_call_spells() -> None:
    def code(m: Code, x: Tensor) -> Tensor:
        q = m.q(x).unflatten(-1, (-1, 4)).transpose(1, 2)
        k, v = (one(x).unflatten(-1, (-1, 4)).transpose(1, 2) for one in (m.k, m.v))
        if m.config.repeats:
            k, v = (one.repeat_interleave(m.num_queries_per_head, 1) for one in (k, v))
        grouped = not m.config.repeats
        mixed = functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
        return m.out(mixed.transpose(1, 2).flatten(2))

    kinds = ["heads", "queries-per-head"]
    layers = {"q": nn.Linear(8, 32), "k": nn.Linear(8, 8), "v": nn.Linear(8, 8)}
    inner = Code(code, **layers, out=nn.Linear(32, 2))
    inner.config = SimpleNamespace(repeats=False, num_heads=8, num_key_heads=2, num_positions=8)
    inner.num_queries_per_head = 4
    module, x = nn.Sequential(inner), torch.randn(2, 5, 8)
    sc.Pruner(module, x, ratio=0.5, kinds=kinds).step()
    assert inner.q.out_features == 8
    assert (inner.num_queries_per_head, inner.config.num_heads) == (2, 2)
    assert (inner.config.num_key_heads, inner.config.num_positions) == (1, 8)
    whole = module(x)
    inner.config.repeats = True
    torch.testing.assert_close(module(x), whole)


def test_what_code_computes_once_is_traced_again() -> None:
    known: dict[int, Tensor] = {}

    def code(m: Code, x: Tensor) -> Tensor:
        if x.shape[0] not in known:
            known[x.shape[0]] = torch.linspace(0, 1, x.shape[0])
        return m.head(m.body(x).relu()) * known[x.shape[0]][:, None]

    module = Code(code, **perceptron())
    sc.Pruner(module, torch.randn(3, 4), ratio=0.5).step()
    assert module.body.out_features == 8


OPERATORS: dict[str, tuple[Callable[..., Any], dict[str, nn.Module], tuple[Any, ...]]] = {
    "cells": (
        cells,
        {"lstm": nn.LSTMCell(4, 8), "gru": nn.GRUCell(8, 6), "head": nn.Linear(6, 2)},
        (torch.randn(3, 5, 4),),
    ),
    "bags": (
        lambda m, x, offsets: m.head(m.bag(x, offsets).relu()),
        {"bag": nn.EmbeddingBag(20, 8), "head": nn.Linear(8, 2)},
        (torch.randint(20, (9,)), torch.tensor([0, 4, 5])),
    ),
    "distances": (
        lambda m, x, y: torch.cdist(m.body(x), m.body(y)).relu(),
        {"body": nn.Linear(4, 8, bias=False)},
        (torch.randn(3, 5, 4), torch.randn(3, 6, 4)),
    ),
    "losses": (
        lambda m, x, y: (
            functional.mse_loss(m.body(x), m.other(x), reduction="sum"),
            functional.cross_entropy(m.head(m.body(x)), y),
        ),
        {"body": nn.Linear(4, 8), "other": nn.Linear(4, 8), "head": nn.Linear(8, 5)},
        (torch.randn(3, 4), torch.randint(5, (3,))),
    ),
    "masks": (
        masked_experts,
        {"one": nn.Linear(4, 8), "two": nn.Linear(4, 8), "head": nn.Linear(8, 2)},
        (torch.randn(6, 4),),
    ),
    "bilinear": (
        lambda m, x, y: m.head(m.mix(m.one(x), m.two(y)).relu()),
        {
            "one": nn.Linear(4, 6),
            "two": nn.Linear(4, 10),
            "mix": nn.Bilinear(6, 10, 8),
            "head": nn.Linear(8, 2),
        },
        (torch.randn(3, 4), torch.randn(3, 4)),
    ),
    "diagonals": (
        lambda m, x: m.head(
            m.body(x).transpose(1, 2).diag_embed().sum(3).transpose(1, 2)
            + m.body(x[:, :3]).diagonal(0, 0, 1).transpose(0, 1)[:, None]
        ),
        {"body": nn.Linear(4, 8), "head": nn.Linear(8, 2)},
        (torch.randn(3, 5, 4),),
    ),
    "medians": (
        lambda m, x: m.head(m.body(x).median(1).values + m.body(x).count_nonzero(1)),
        {"body": nn.Linear(4, 8), "head": nn.Linear(8, 2)},
        (torch.randn(3, 5, 4),),
    ),
    "filled": (
        lambda m, x: m.head(filled(m.body(x), (x[..., :1] > 0).repeat(1, 1, m.body.out_features))),
        {"body": nn.Linear(4, 8), "head": nn.Linear(8, 2)},
        (torch.randn(3, 5, 4),),
    ),
    "distances of many": (
        lambda m, x: m.head(torch.cdist(m.body(x), m.body(x))),
        {"body": nn.Linear(4, 8), "head": nn.Linear(30, 2)},
        (torch.randn(30, 4),),
    ),
    "spectral": (
        lambda m, x: m.head(m.body(x).relu()),
        {"body": parametrizations.spectral_norm(nn.Linear(4, 8)), "head": nn.Linear(8, 2)},
        (torch.randn(3, 4),),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_wild_code_are_followed(name: str) -> None:
    code, layers, args = OPERATORS[name]
    record = checked(Code(code, **layers), *args)
    assert not record["warnings"]
    assert record["groups"] > 0
