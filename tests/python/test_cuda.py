"""Modules on CUDA devices are cut, masked and scored as their twins on the CPU are."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import secateur as sc
import torch
from test_live import SMALL, Net
from torch import Tensor, nn
from torch.nn import functional

import live

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SAMPLES, CLASSES = 16, 5


@pytest.fixture(autouse=True)
def exact() -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False


def twins() -> tuple[nn.Module, nn.Module]:
    """The same network on the CPU and on the device."""
    module = Net()
    return module, copy.deepcopy(module).cuda()


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 3, 8, 8), torch.randint(CLASSES, (SAMPLES,))


def assert_equal(module: nn.Module, there: nn.Module) -> None:
    other = there.state_dict()
    for name, tensor in module.state_dict().items():
        assert other[name].is_cuda, name
        assert torch.equal(tensor, other[name].cpu()), name


@pytest.mark.parametrize("name", SMALL)
def test_pruned_modules_equal_masked_ones(name: str) -> None:
    record = live.run(name, 0.5, "cuda")
    assert record["status"] == "ok", record


def test_the_same_is_cut_as_on_the_cpu() -> None:
    module, there = twins()
    x, _ = data()
    for net, given in ((module, x), (there, x.cuda())):
        sc.Pruner(net, given, ratio=0.5).step()
    assert module.inner.out_channels == 12
    assert_equal(module, there)


def test_a_module_on_two_devices_is_cut_on_both() -> None:
    module, there = twins()

    class Apart(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net
            net.fc.cpu()

        def forward(self, x: Tensor) -> Tensor:
            net = self.net
            x = torch.relu(net.norm(net.stem(x)))
            x = x + net.outer(torch.relu(net.inner(x)))
            return net.fc(net.drop(x.mean((2, 3))).cpu())

    x, _ = data()
    sc.Pruner(module, x, ratio=0.5).step()
    apart = Apart(there)
    sc.Pruner(apart, x.cuda(), ratio=0.5).step()
    assert torch.equal(module.fc.weight, there.fc.weight)
    assert torch.equal(module.outer.weight, there.outer.weight.cpu())
    assert apart(x.cuda()).shape == (SAMPLES, CLASSES)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_cut(layer: type[nn.RNNBase]) -> None:
    module = nn.ModuleDict({"rnn": layer(6, 16, bidirectional=True), "fc": nn.Linear(32, CLASSES)})

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Tensor) -> Tensor:
            return self.inner["fc"](self.inner["rnn"](x)[0])

    here, x = Reader(), torch.randn(7, 3, 6)
    there = copy.deepcopy(here).cuda()
    sc.Pruner(here, x, ratio=0.5).step()
    sc.Pruner(there, x.cuda(), ratio=0.5).step()
    assert module["rnn"].hidden_size == 8
    assert torch.allclose(here(x), there(x.cuda()).cpu(), rtol=1e-3, atol=1e-5)
    there(x.cuda()).sum().backward()


def test_a_default_device_is_no_other_result() -> None:
    module, there = twins()
    batches = [data()]
    options = {"method": "shapley", "samples": 2}
    here = sc.attribute(module, "inner", batches, functional.cross_entropy, **options)
    with torch.device("cuda"):
        found = sc.attribute(there, "inner", batches, functional.cross_entropy, **options)
        sc.mask(there, amount=0.5, method="random")
        sc.GrowingRegularization(sc.graph(there, batches[0][0].cuda())).apply()
    assert torch.allclose(here, found.cpu(), rtol=1e-3, atol=1e-5)


def test_random_numbers_of_devices_are_not_drawn() -> None:
    _, there = twins()
    x = data()[0].cuda()
    state = torch.cuda.get_rng_state()
    sc.Pruner(there.train(), x, ratio=0.5).step()
    assert torch.equal(state, torch.cuda.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_training_in_mixed_precision_goes_on(dtype: torch.dtype) -> None:
    _, module = twins()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)
    x, y = (tensor.cuda() for tensor in data())

    def step(optimizer: torch.optim.Optimizer, module: nn.Module) -> float:
        optimizer.zero_grad()
        torch.manual_seed(7)
        with torch.autocast("cuda", dtype):
            loss = functional.cross_entropy(module(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    for _ in range(5):
        step(optimizer, module)
    sc.Pruner(module, x, ratio=0.5, optimizer=optimizer).step()
    small = copy.deepcopy(module)
    twin = torch.optim.AdamW(small.parameters(), lr=1e-2, fused=True)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert step(optimizer, module) == pytest.approx(step(twin, small), rel=1e-3)
    for parameter, other in zip(module.parameters(), small.parameters(), strict=True):
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
        assert torch.allclose(parameter, other, rtol=1e-3, atol=1e-4)
    losses = [step(optimizer, module) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", ["apoz", "sensitivity", "taylor", "shapley", "weight_norm"])
def test_attributions_are_those_of_the_cpu(method: str) -> None:
    module, there = twins()
    batches = [data()]
    here, found = (
        sc.attribute(net, "inner", batches, functional.cross_entropy, method=method)
        for net in (module, there)
    )
    assert torch.allclose(here, found.cpu(), rtol=1e-3, atol=1e-5)


def _lasso(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    functional.cross_entropy(module(x), y).backward()
    sc.GroupLasso(sc.graph(module, x), 0.1).apply()
    return [parameter.grad for parameter in module.parameters()]


def _taylor(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    pruner = sc.Pruner(module, x, ratio=0.5, criterion="taylor")
    functional.cross_entropy(module(x), y).backward()
    pruner.accumulate()
    return [torch.tensor(scores) for scores in pruner.scores().values()]


def _masks(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    sc.mask(module, amount=0.5, scope="global")
    return [module(x)]


@pytest.mark.parametrize("measure", [_lasso, _taylor, _masks])
def test_what_is_measured_is_that_of_the_cpu(measure: Callable[..., Any]) -> None:
    module, there = (net.eval() for net in twins())
    x, y = data()
    pairs = zip(measure(module, x, y), measure(there, x.cuda(), y.cuda()), strict=True)
    for here, found in pairs:
        assert torch.allclose(here, found.cpu(), rtol=1e-3, atol=1e-5)


def test_saved_modules_are_filled_again_elsewhere(tmp_path: Path) -> None:
    _, there = twins()
    x, _ = data()
    sc.Pruner(there.eval(), x.cuda(), ratio=0.5).step()
    path = tmp_path / "small.safetensors"
    sc.save(there, path)
    loaded = sc.load(path, Net).eval()
    assert torch.allclose(loaded(x), there(x.cuda()).cpu(), rtol=1e-4, atol=1e-5)
    assert_equal(loaded, sc.load(path, lambda: Net().cuda()))
