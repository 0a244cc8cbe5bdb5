"""Masks: PyTorch's pruning tutorial, training under masks, and the way back."""

import copy
from collections.abc import Callable

import pytest
import secateur as sc
import torch
import torch.nn.functional as F
from secateur import masks
from secateur.masks import (
    load_masked,
    make_permanent,
    mask,
    mask_groups,
    mask_pattern,
    mask_with,
    sparsity,
    unmask,
)
from torch import Tensor, nn
from torch.nn.utils import prune

torch.set_num_threads(1)


class LeNet(nn.Module):
    """The network of PyTorch's pruning tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


def lenet() -> LeNet:
    torch.manual_seed(0)
    return LeNet()


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    module = nn.Sequential(*layers)
    with torch.no_grad():
        module[1].running_mean.normal_()
        module[1].bias.normal_()
    return module


def train(module: nn.Module, steps: int = 3, *, decay: float = 0.0) -> None:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(module(torch.randn(8, 3, 8, 8)), torch.randint(10, (8,))).backward()
        optimizer.step()


def zero_positions(module: nn.Module, name: str) -> Tensor:
    path, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(path), attribute) == 0


@pytest.mark.parametrize("amount", [0.3, 0.25, 3, 1.0, 0])
def test_smallest_weights_are_those_that_pytorch_finds(amount: float) -> None:
    ours, theirs = lenet(), lenet()
    mask(ours, "conv1.weight", method="l1", amount=amount)
    prune.l1_unstructured(theirs.conv1, "weight", amount=amount)
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight)


@pytest.mark.parametrize("amount", [0.3, 3])
def test_random_weights_are_as_many_as_pytorch_takes(amount: float) -> None:
    ours, theirs = lenet(), lenet()
    mask(ours, "conv1.*", method="random", amount=amount)
    for name in ("weight", "bias"):
        prune.random_unstructured(theirs.conv1, name=name, amount=amount)
        zeros = zero_positions(theirs, f"conv1.{name}").sum()
        assert zero_positions(ours, f"conv1.{name}").sum() == zeros


@pytest.mark.parametrize(("method", "n"), [("l1", 1), ("l2", 2), ("linf", float("inf"))])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_slices_are_those_that_pytorch_finds(method: str, n: float, dim: int) -> None:
    ours, theirs = lenet(), lenet()
    mask(ours, "conv2.weight", method=method, amount=0.5, dim=dim)
    prune.ln_structured(theirs.conv2, name="weight", amount=0.5, n=n, dim=dim)
    assert torch.equal(ours.conv2.weight, theirs.conv2.weight)
    assert sparsity(ours, "conv2.weight").total > 0.3


def test_random_slices_are_whole_and_as_many_as_pytorch_takes() -> None:
    ours, theirs = lenet(), lenet()
    mask(ours, "conv2.weight", method="random", amount=0.25, dim=0)
    prune.random_structured(theirs.conv2, name="weight", amount=0.25, dim=0)
    zeros = [zero_positions(m, "conv2.weight").flatten(1) for m in (ours, theirs)]
    assert zeros[0].all(1).sum() == zeros[1].all(1).sum() == zeros[0].any(1).sum()


def test_global_pruning_takes_what_pytorch_takes() -> None:
    ours, theirs = lenet(), lenet()
    layers = ("conv1", "conv2", "fc1", "fc2", "fc3")
    mask(ours, amount=0.2, scope="global")
    prune.global_unstructured(
        [(getattr(theirs, layer), "weight") for layer in layers],
        pruning_method=prune.L1Unstructured,
        amount=0.2,
    )
    for layer in layers:
        assert torch.equal(getattr(ours, layer).weight, getattr(theirs, layer).weight), layer
    assert sparsity(ours).total == pytest.approx(0.2, abs=1e-4)
    assert sparsity(ours).of("conv1.weight") != pytest.approx(0.2, abs=1e-3)


def test_custom_mask_is_a_tensor_or_a_callable() -> None:
    module = lenet()
    every_other = torch.ones(84, 120)
    every_other.view(-1)[::2] = 0
    mask_with(module, {"fc2.weight": every_other, "fc3.bias": lambda bias: bias.abs() > 0.05})
    assert torch.equal(zero_positions(module, "fc2.weight"), every_other == 0)
    hidden = module.fc3.parametrizations.bias.original.abs() <= 0.05
    assert torch.equal(zero_positions(module, "fc3.bias"), hidden) and hidden.any()


def test_masks_of_your_own_add_to_those_that_are_there() -> None:
    module = lenet()
    rows, columns = torch.ones(10, 84), torch.ones(10, 84)
    rows[:5], columns[:, :42] = 0, 0
    mask_with(module, {"fc3.weight": rows})
    mask_with(module, {"fc3.weight": columns})
    assert torch.equal(zero_positions(module, "fc3.weight"), rows * columns == 0)


def test_own_importance_decides() -> None:
    module = lenet()
    mask(module, "fc3.weight", method=lambda weight: -weight, amount=10)
    weight = module.fc3.parametrizations.weight.original
    assert weight[zero_positions(module, "fc3.weight")].min() > weight.quantile(0.97)


def test_own_importance_is_summed_over_slices() -> None:
    module = lenet()
    rank = torch.arange(10.0)[:, None].expand(10, 84)
    mask(module, "fc3.weight", method=lambda _: rank, amount=4, dim=0)
    assert zero_positions(module, "fc3.weight").all(1).tolist() == [True] * 4 + [False] * 6


@pytest.mark.parametrize("second", ["unstructured", "structured"])
def test_later_masks_choose_among_what_is_left(second: str) -> None:
    ours, theirs = lenet(), lenet()
    mask(ours, "conv2.weight", method="l2", amount=0.5, dim=0)
    prune.ln_structured(theirs.conv2, "weight", amount=0.5, n=2, dim=0)
    if second == "structured":
        mask(ours, "conv2.weight", method="l1", amount=0.5, dim=0)
        prune.ln_structured(theirs.conv2, "weight", amount=0.5, n=1, dim=0)
    else:
        mask(ours, "conv2.weight", amount=0.5)
        prune.l1_unstructured(theirs.conv2, "weight", amount=0.5)
    assert torch.equal(ours.conv2.weight, theirs.conv2.weight)
    assert sparsity(ours).of("conv2.weight") == 0.75


def test_masks_come_off_one_after_another() -> None:
    module = lenet()
    first = mask(module, "fc3.weight", amount=0.5)
    after_first = module.fc3.weight.clone()
    second = mask(module, "fc3.weight", amount=0.5)
    assert sparsity(module).of("fc3.weight") == 0.75
    second.unmask()
    assert torch.equal(module.fc3.weight, after_first)
    first.unmask()
    assert torch.equal(module.fc3.weight, lenet().fc3.weight)
    assert type(module.fc3) is nn.Linear


def test_unmasked_module_is_the_original_to_the_order_of_its_parameters() -> None:
    module = lenet()
    kept = dict(module.named_parameters())
    with mask(module, "*", amount=0.5):
        assert sparsity(module, "*").total == pytest.approx(0.5, abs=1e-3)
    assert list(module.state_dict()) == list(lenet().state_dict())
    for name, parameter in module.named_parameters():
        assert parameter is kept[name]
        assert torch.equal(parameter, lenet().get_parameter(name))


def test_permanent_zeros_stay_in_the_same_parameter() -> None:
    module = lenet()
    weight = module.fc1.weight
    mask(module, amount=0.5)
    zeros = zero_positions(module, "fc1.weight")
    make_permanent(module, "fc1.weight")
    assert module.fc1.weight is weight and torch.equal(weight == 0, zeros)
    assert sparsity(module).of("fc2.weight") == 0.5
    unmask(module)
    assert sparsity(module).of("fc2.weight") == 0 and sparsity(module).of("fc1.weight") == 0.5


def test_masked_weights_stay_zero_in_training_and_their_gradients_are_zero() -> None:
    module = small()
    mask(module, amount=0.5)
    zeros = zero_positions(module, "0.weight")
    before = module[0].weight.detach().clone()
    train(module, decay=0.1)
    assert torch.equal(zero_positions(module, "0.weight"), zeros)
    original = module[0].parametrizations.weight.original
    assert not original.grad[zeros].any() and original.grad[~zeros].all()
    assert not torch.equal(module[0].weight, before)


def test_prune_tune_and_unprune_gives_hidden_weights_back() -> None:
    module = small()
    first = module[0].weight.detach().clone()
    masks_on = mask(module, amount=0.5, scope="global")
    zeros = zero_positions(module, "0.weight")
    assert zeros.any()
    train(module)
    tuned = module[0].weight.detach().clone()
    masks_on.unmask()
    assert torch.equal(module[0].weight[zeros], first[zeros])
    assert torch.equal(module[0].weight[~zeros], tuned[~zeros])
    assert not torch.equal(tuned[~zeros], first[~zeros])


def test_infinite_hidden_weights_do_not_leak() -> None:
    module = nn.Linear(2, 1, bias=False)
    module.weight.data = torch.tensor([[torch.inf, 1.0]])
    mask_with(module, {"weight": torch.tensor([[0, 1]])})
    module(torch.ones(1, 2)).sum().backward()
    assert module.weight.tolist() == [[0, 1]]
    assert module.parametrizations.weight.original.grad.tolist() == [[0, 1]]


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 4), (1, 2)])
def test_pattern_keeps_the_largest_of_each_block(keep: int, of: int) -> None:
    module = lenet()
    mask_pattern(module, "fc1.weight", keep=keep, of=of)
    original = module.fc1.parametrizations.weight.original.detach().abs().view(120, -1, of)
    kept = module.fc1.weight.detach().view(120, -1, of) != 0
    assert (kept.sum(-1) == keep).all()
    smallest = original.masked_fill(~kept, torch.inf).amin(-1)
    assert (smallest >= original.masked_fill(kept, 0).amax(-1)).all()


def test_pattern_runs_along_any_dimension_and_skips_what_does_not_divide() -> None:
    module = lenet()
    mask_pattern(module, dim=0)
    kept = (module.conv2.weight != 0).unflatten(0, (4, 4))
    assert (kept.sum(1) == 2).all()
    assert sparsity(module).of("conv1.weight") == sparsity(module).of("fc3.weight") == 0


def test_state_dict_comes_back_with_its_masks() -> None:
    module = lenet()
    mask(module, amount=0.5)
    fresh = LeNet()
    load_masked(fresh, module.state_dict())
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(fresh(x), module(x))
    unmask(fresh)
    assert torch.equal(fresh.fc1.weight, lenet().fc1.weight)


def test_masked_module_can_be_copied() -> None:
    module = lenet()
    mask(module, amount=0.5)
    twin = copy.deepcopy(module)
    unmask(module)
    mask(twin, "fc3.bias", amount=0.5)
    assert sparsity(twin).total == pytest.approx(0.5, abs=1e-3)
    assert sparsity(module, "*").total == 0


def test_tied_weights_are_masked_wherever_they_are_read() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    with mask(module, amount=0.5):
        assert torch.equal(module[0].weight, module[1].weight)
        assert int((module[1].weight == 0).sum()) == 8
    assert module[0].weight is module[1].weight
    mask(module, "0.weight", amount=0.5)
    make_permanent(module)
    assert module[0].weight is module[1].weight and int((module[0].weight == 0).sum()) == 8


def test_recurrent_layers_read_masked_weights() -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(4, 4, num_layers=2), torch.randn(5, 2, 4)
    usual = layer(x)[0]
    emptied = copy.deepcopy(layer)
    with torch.no_grad():
        for name, parameter in emptied.named_parameters():
            if "weight_hh" in name:
                parameter.zero_()
    with mask(layer, "weight_hh*", amount=1.0):
        masked = layer(x)[0]
        assert copy.deepcopy(layer)(x)[0].equal(masked)
    assert torch.equal(masked, emptied(x)[0]) and not torch.equal(masked, usual)
    assert torch.equal(layer(x)[0], usual) and not layer._forward_pre_hooks


def test_masks_go_on_top_of_other_parametrizations() -> None:
    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    usual = layer.weight.detach().clone()
    mask(layer, "weight", amount=0.5)
    assert int((layer.weight == 0).sum()) == 8
    with pytest.raises(sc.SecateurError, match="cannot be written through `_WeightNorm`"):
        make_permanent(layer)
    unmask(layer)
    assert torch.equal(layer.weight, usual)


def test_masked_groups_compute_what_pruned_ones_do() -> None:
    module, x = small().eval(), torch.randn(2, 3, 8, 8)
    usual, keeps = module(x), {"0.weight:0": [0, 2, 7]}
    graph = sc.Graph(copy.deepcopy(module), (x,))
    graph.apply(keeps)
    state = copy.deepcopy(module.state_dict())
    with mask_groups(sc.Graph(module, (x,)), keeps):
        expected = module(x)
        assert module[0].weight.shape[0] == 8 and not module[1].running_mean[1]
    assert torch.allclose(graph.module(x), expected, atol=1e-6)
    assert not torch.allclose(expected, usual, atol=1e-2)
    assert torch.equal(module(x), usual)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_masked_groups_train_as_pruned_ones_do() -> None:
    module, x = small(), torch.randn(2, 3, 8, 8)
    pruned = sc.Graph(copy.deepcopy(module), (x,))
    keeps = {"0.weight:0": [1, 4]}
    pruned.apply(keeps)
    mask_groups(sc.Graph(module, (x,)), keeps)
    train(module)
    train(pruned.module)
    got, expected = module.eval()(x), pruned.module.eval()(x)
    assert torch.allclose(got, expected, atol=1e-5)


def test_running_statistics_learned_under_a_mask_stay() -> None:
    module, x = small(), torch.randn(2, 3, 8, 8)
    before = module[1].running_mean.clone()
    masks_on = mask_groups(sc.Graph(module, (x,)), {"0.weight:0": [1, 4]})
    train(module)
    masks_on.unmask()
    after = module[1].running_mean
    assert torch.equal(after[[0, 2, 3]], before[[0, 2, 3]])
    assert (after[[1, 4]] != before[[1, 4]]).all()


def test_groups_of_a_masked_module_reach_its_masks() -> None:
    module, x = small().eval(), torch.randn(2, 3, 8, 8)
    mask(module, "0.weight", amount=0.5)
    graph = sc.Graph(module, (x,))
    (group,) = graph.groups
    cut = dict(graph._model.changes({group.name: [0, 3]}).slices())
    assert cut["0.parametrizations.weight.0.keep"] == [[0, 3], None, None, None]
    assert cut["0.parametrizations.weight.original"] == [[0, 3], None, None, None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: mask(m, "conv9.*", amount=0.5), "no parameter matches `conv9.*`"),
        (lambda m: mask(m, amount=1.5), "the fraction 1.5 is above 1"),
        (lambda m: mask(m, amount=-1), "neither a fraction nor a number"),
        (lambda m: mask(m, "fc3.bias", amount=11), "11 are to be masked, and 10 are left"),
        (lambda m: mask(m, amount=0.5, method="l"), "there is no method `l`"),
        (lambda m: mask(m, amount=0.5, scope="all"), "there is no scope `all`"),
        (lambda m: mask(m, "fc3.weight", amount=0.5, dim=2), "has no dimension 2"),
        (lambda m: mask_with(m, {"fc3.bias": torch.ones(3)}), "has the shape [3]"),
        (lambda m: mask_pattern(m, "conv1.weight"), "no multiple of 4 along dimension 1"),
        (lambda m: mask_pattern(m, keep=4), "the pattern 4:4 is none"),
        (lambda m: sparsity(m).of("fc9"), "there is no parameter `fc9`"),
    ],
)
def test_wrong_options_are_named_and_change_nothing(
    call: Callable[[nn.Module], object], message: str
) -> None:
    module = lenet()
    with pytest.raises(sc.SecateurError) as caught:
        call(module)
    assert message in str(caught.value)
    assert type(module.fc3) is nn.Linear and list(module.state_dict()) == list(lenet().state_dict())


def test_report_of_sparsity_adds_up() -> None:
    module = lenet()
    mask(module, "fc3.weight", amount=0.5)
    report = masks.sparsity(module)
    assert report.zeros == 420 and report.elements == sum(
        parameter.numel() for parameter in lenet().parameters() if parameter.dim() > 1
    )
    assert "fc3.weight             420 of          840   50.00%" in str(report)


def test_masks_under_masks_that_were_cut_since_are_not_put_back() -> None:
    module, x = small().eval(), torch.randn(2, 3, 8, 8)
    mask(module, amount=0.3)
    outer = mask(module, amount=0.3)
    sc.Pruner(module, x, ratio=0.5).step()
    with pytest.raises(sc.SecateurError, match="cut since they were masked"):
        outer.unmask()
    unmask(module)
    assert sparsity(module).zeros == 0
