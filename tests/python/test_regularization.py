"""Penalties on groups: against autograd of what they say they are."""

import copy
from collections.abc import Callable

import pytest
import secateur as sc
import torch
import torch.nn.functional as F
from secateur import regularization
from secateur.masks import mask
from secateur.regularization import GroupLasso, GrowingRegularization
from torch import Tensor, nn

torch.set_num_threads(1)


class Net(nn.Module):
    """A residual sum, a concatenation that is flattened, and a first layer in both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.side = nn.Conv2d(4, 3, 1)
        self.head = nn.Linear(7 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.body(x)
        return self.head(torch.cat((F.relu(self.side(x)), x), 1).flatten(1))


X = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def net() -> Net:
    torch.manual_seed(0)
    module = Net()
    with torch.no_grad():
        module.norm.bias.normal_()
    return module


def slices(module: Net) -> dict[str, list[list[Tensor]]]:
    """All slices of every index by hand, by the names of the two groups."""
    head = module.head.weight.view(3, 7, 9)
    residual = [
        [
            module.stem.weight[i],
            module.stem.bias[i],
            module.norm.weight[i],
            module.norm.bias[i],
            module.body.weight[i],
            module.body.weight[:, i],
            module.side.weight[:, i],
            head[:, 3 + i],
        ]
        for i in range(4)
    ]
    side = [[module.side.weight[i], module.side.bias[i], head[:, i]] for i in range(3)]
    return {"stem.weight:0": residual, "side.weight:0": side}


def norm(parts: list[Tensor]) -> Tensor:
    return torch.stack([part.square().sum() for part in parts]).sum().sqrt()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in module.named_parameters()
    }


def loss(module: nn.Module) -> Tensor:
    return F.cross_entropy(module(X), Y)


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name


def test_norms_are_over_all_slices_of_an_index() -> None:
    module = net()
    norms = GroupLasso(sc.Graph(module, (X,))).norms()
    expected = slices(module)
    assert norms.keys() == expected.keys()
    for name, units in expected.items():
        assert torch.allclose(norms[name], torch.stack([norm(parts) for parts in units]))


@pytest.mark.parametrize("scaled", [False, True])
def test_group_lasso_adds_the_gradient_of_the_explicit_penalty(scaled: bool) -> None:
    module, explicit = net(), net()
    lasso = GroupLasso(sc.Graph(module, (X,)), 0.3, scaled=scaled)
    loss(module).backward()
    lasso.apply()
    penalty = torch.zeros(())
    for units in slices(explicit).values():
        for parts in units:
            count = sum(part.numel() for part in parts)
            penalty = penalty + norm(parts) * (count**0.5 if scaled else 1)
    (loss(explicit) + 0.3 * penalty).backward()
    assert_same(gradients(module), gradients(explicit))
    assert torch.allclose(lasso.penalty(), 0.3 * penalty)


def test_penalty_can_stand_in_the_loss_instead() -> None:
    module, other = net(), net()
    lasso = GroupLasso(sc.Graph(module, (X,)), 0.3)
    loss(module).backward()
    lasso.apply()
    (loss(other) + GroupLasso(sc.Graph(other, (X,)), 0.3).penalty()).backward()
    assert_same(gradients(module), gradients(other))


def test_growing_regularization_adds_the_gradient_of_the_explicit_penalty() -> None:
    module, explicit = net(), net()
    growing = GrowingRegularization(sc.Graph(module, (X,)), 0.1, growth=0.5)
    growing.grow()
    decays = {name: decay.clone() for name, decay in growing.decays.items()}
    assert all(len(decay.unique()) > 1 for decay in decays.values())
    penalty = torch.zeros(())
    for name, units in slices(explicit).items():
        for decay, parts in zip(decays[name], units, strict=True):
            penalty = penalty + decay / 2 * norm(parts).square()
    assert torch.allclose(growing.penalty(), penalty)
    loss(module).backward()
    growing.apply()
    (loss(explicit) + penalty).backward()
    assert_same(gradients(module), gradients(explicit))


def test_decays_grow_by_rank_to_the_ceiling_every_few_steps() -> None:
    module = net()
    scores = {"stem.weight:0": [0.0, 1.0, 3.0, 4.0]}
    growing = GrowingRegularization(
        sc.Graph(module, (X,)), 0.5, growth=1.0, every=2, ceiling=2.0, scores=lambda: scores
    )
    seen = []
    for _ in range(5):
        growing.apply()
        seen.append(growing.decays["stem.weight:0"].tolist())
    assert seen[0] == [0.5] * 4
    assert seen[1] == seen[2] == [1.5, 1.25, 0.75, 0.5]
    assert seen[3] == seen[4] == [2.0, 2.0, 1.0, 0.5]
    assert growing.decays["side.weight:0"].tolist() == [0.5] * 3


def test_growth_may_follow_the_scores_of_a_pruner() -> None:
    pruner = sc.Pruner(net(), (X,), ratio=0.5)
    growing = GrowingRegularization(pruner, 0.0, growth=1.0, scores=pruner.scores)
    growing.grow()
    for name, scores in pruner.scores().items():
        lowest = min(range(len(scores)), key=scores.__getitem__)
        assert growing.decays[name][lowest] == 1 and growing.decays[name].min() == 0


def test_roles_and_groups_restrict_the_penalty() -> None:
    module = net()
    graph = sc.Graph(module, (X,))
    GroupLasso(graph, 1.0, groups=["side.weight:0"], roles=["producer"]).apply()
    touched = {name for name, gradient in gradients(module).items() if gradient.any()}
    assert touched == {"side.weight"}
    row = module.side.weight.detach().flatten(1)
    expected = row / row.norm(dim=1, keepdim=True)
    assert torch.allclose(module.side.weight.grad.flatten(1), expected, atol=1e-6)


def test_frozen_parameters_get_no_gradient() -> None:
    module = net()
    module.stem.weight.requires_grad_(False)
    GroupLasso(sc.Graph(module, (X,)), 1.0).apply()
    assert module.stem.weight.grad is None and module.stem.bias.grad is not None


@pytest.mark.parametrize("masked_first", [False, True])
def test_masked_parameters_are_penalized_underneath(masked_first: bool) -> None:
    module, usual = net(), net()
    graph = None if masked_first else sc.Graph(module, (X,))
    mask(module, "side.weight", amount=0.5)
    GroupLasso(graph or sc.Graph(module, (X,)), 1.0).apply()
    GroupLasso(sc.Graph(usual, (X,)), 1.0).apply()
    got = module.side.parametrizations.weight.original.grad
    assert torch.allclose(got, usual.side.weight.grad) and got.all()


def test_index_that_is_zero_stays_zero() -> None:
    module = net()
    with torch.no_grad():
        for parts in slices(module)["side.weight:0"][1]:
            parts.zero_()
    lasso = GroupLasso(sc.Graph(module, (X,)), 1.0)
    lasso.apply()
    assert not module.side.weight.grad[1].any() and module.side.weight.grad[0].all()
    lasso.penalty().backward()
    assert all(gradient.isfinite().all() for gradient in gradients(module).values())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (regularization.constant, [1, 1, 1, 1, 1]),
        (regularization.ramp(2, start=1), [0, 0, 0.5, 1, 1]),
        (regularization.cosine(4), [0, 0.146447, 0.5, 0.853553, 1]),
        (regularization.between(1, 3), [0, 1, 1, 0, 0]),
        (lambda step: 2.0 * step, [0, 2, 4, 6, 8]),
    ],
)
def test_schedule_multiplies_the_strength_step_by_step(
    schedule: Callable[[int], float], expected: list[float]
) -> None:
    module = net()
    graph = sc.Graph(module, (X,))
    GroupLasso(graph, 0.5).apply()
    full = module.stem.bias.grad.clone()
    lasso = GroupLasso(graph, 0.5, schedule=schedule)
    for factor in expected:
        module.zero_grad()
        assert lasso.penalty().item() == pytest.approx(
            factor * GroupLasso(graph, 0.5).penalty().item(), abs=1e-5
        )
        lasso.apply()
        got = module.stem.bias.grad
        assert torch.allclose(torch.zeros(4) if got is None else got, factor * full, atol=1e-5)
    assert lasso.step == 5


def test_schedule_multiplies_the_growth() -> None:
    scores = {"side.weight:0": [0.0, 1.0, 2.0]}
    growing = GrowingRegularization(
        sc.Graph(net(), (X,)),
        0.0,
        growth=1.0,
        every=1,
        scores=lambda: scores,
        schedule=regularization.between(2, 3),
    )
    for expected in ([0, 0, 0], [1, 0.5, 0], [1, 0.5, 0]):
        growing.apply()
        assert growing.decays["side.weight:0"].tolist() == expected


def test_training_with_the_lasso_makes_indices_smaller_than_without() -> None:
    sums = []
    for strength in (0.0, 0.2):
        module = net()
        lasso = GroupLasso(sc.Graph(module, (X,)), strength)
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        for _ in range(30):
            optimizer.zero_grad()
            loss(module).backward()
            lasso.apply()
            optimizer.step()
        sums.append(sum(float(norms.sum()) for norms in lasso.norms().values()))
    assert sums[1] < 0.7 * sums[0]


@pytest.mark.parametrize("kind", [GroupLasso, GrowingRegularization])
def test_groups_are_found_again_after_pruning(kind: type) -> None:
    module = net()
    pruner = sc.Pruner(module, (X,), ratio=0.5)
    regularizer = kind(pruner, 0.1)
    regularizer.apply()
    pruner.step()
    module.zero_grad()
    regularizer.apply()
    fresh = copy.deepcopy(module)
    fresh.zero_grad()
    kind(sc.Graph(fresh, (X,)), 0.1).apply()
    assert_same(gradients(module), gradients(fresh))
    sizes = {group.name: group.size for group in pruner}
    assert {name: len(norms) for name, norms in regularizer.norms().items()} == sizes
    assert sum(sizes.values()) < 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: GroupLasso(g, -1.0), "the strength -1.0 is no number from 0 on"),
        (lambda g: GroupLasso(g, groups=["tail"]), "there is no group `tail`"),
        (lambda g: GrowingRegularization(g, every=0), "does not grow"),
        (lambda g: GrowingRegularization(g, 2.0), "ceiling >= strength"),
        (
            lambda g: GrowingRegularization(g, scores=lambda: {"side.weight:0": [1.0]}).grow(),
            "group `side.weight:0` has 3 indices, and 1 scores",
        ),
    ],
)
def test_wrong_options_are_named(call: Callable[[sc.Graph], object], message: str) -> None:
    with pytest.raises(sc.SecateurError) as caught:
        call(sc.Graph(net(), (X,)))
    assert message in str(caught.value)


def test_changes_by_others_are_named() -> None:
    module = net()
    lasso = GroupLasso(sc.Graph(module, (X,)))
    module.side = nn.Conv2d(4, 5, 1)
    with pytest.raises(sc.SecateurError, match=r"`side\.weight` was 3 wide, and is 5"):
        lasso.apply()
