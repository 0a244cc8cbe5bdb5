"""Cuts the shipped residual network while it trains, beside three other ways to get a small one.

    cargo build --release
    python bench/onthefly.py [--data FOLDER] [--epochs 4] [--left 0.5 0.25] [--plot curves.svg]
    python bench/onthefly.py --left 0.25 --only ours torch-pruning --seed 1

An untrained copy of the network behind `models/fashion-cnn.onnx`, Fashion-MNIST, AdamW, the same
rates, batches and epochs for all, weights decay but norms and biases don't, and norms of weights
and of the scales after them say what matters:

dense          trained whole
ours           cut meanwhile by `secateur train`, in five cuts over the first half of training
scratch        what came of that, with new random weights, trained from the start
torch-pruning  cut by torch-pruning in PyTorch, with the same criterion, at the same times, to the
               same MACs; as new parameters need a new optimizer, its state starts anew

All but the last are trained by Secateur. Prints the accuracy on the test images after each epoch.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import smallnets
import torch
import torch.nn.functional as F
import torch_pruning as tp
from onnx import numpy_helper
from torch import nn

import tool

sys.path.insert(0, str(tool.ROOT / "models"))
import train as shipped

BATCH, RATE, DECAY, CUTS = 128, 4e-3, 0.05, 5
EXAMPLE = torch.zeros(1, 1, 28, 28)
SIDES = ("dense", "ours", "scratch", "torch-pruning")


Curve = tuple[list[float], float]
"""Accuracies after the epochs, and the share of the MACs that is left."""


def ours(binary: Path, model: Path, out: Path, args: argparse.Namespace, *more: str) -> Curve:
    """One run of `secateur train`."""
    command = ["train", model, "-o", out, "--data", args.data, "--eval-data", args.data]
    command += ["--epochs", str(args.epochs), "--batch-size", str(BATCH), "--lr", str(RATE)]
    command += ["--weight-decay", str(DECAY), "--warmup", "100", "--flip", *more]
    found = tool.call_json(binary, *command, "--seed", str(args.seed))
    accuracies = [epoch["evaluation"]["accuracy"] for epoch in found["epochs"]]
    return accuracies, found["macs"]["after"] / found["macs"]["before"]


def cuts(args: argparse.Namespace, samples: int) -> int:
    """Steps between two cuts."""
    return args.epochs * (samples // BATCH) // (2 * CUTS)


def renewed(model: Path, out: Path, seed: int) -> Path:
    """A model with the random weights that PyTorch gives new layers of its shapes."""
    torch.manual_seed(seed)
    proto = onnx.load(str(model))
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        held = [weights[name] for name in node.input if name in weights]
        if node.op_type in ("Conv", "Gemm"):
            weight = torch.empty(list(held[0].dims))
            nn.init.kaiming_uniform_(weight, a=5**0.5)
            new = [weight]
            if len(held) > 1:
                bound = weight[0].numel() ** -0.5
                new.append(torch.empty(list(held[1].dims)).uniform_(-bound, bound))
        elif node.op_type == "BatchNormalization":
            new = [torch.full(list(t.dims), x) for t, x in zip(held, (1.0, 0, 0, 1), strict=True)]
        else:
            continue
        for tensor, values in zip(held, new, strict=True):
            array = values.numpy().astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, str(out))
    return out


def pruner(ratio: float, model: nn.Module) -> tp.pruner.BasePruner:
    return tp.pruner.BasePruner(
        model,
        EXAMPLE,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        iterative_steps=CUTS,
        ignored_layers=[model.head],
    )


def macs(model: nn.Module) -> float:
    return tp.utils.count_ops_and_params(model.eval(), EXAMPLE)[0]


def fit(left: float) -> tuple[float, float]:
    """torch-pruning's ratio that leaves about this share of the MACs, and what it leaves."""
    whole = macs(smallnets.residual())

    def share(ratio: float) -> float:
        model = smallnets.residual()
        steps = pruner(ratio, model)
        for _ in range(CUTS):
            steps.step()
        return macs(model) / whole

    low, high = 0.0, 0.95
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > left else (low, middle)
    return min(((ratio, share(ratio)) for ratio in (low, high)), key=lambda x: abs(x[1] - left))


def theirs(args: argparse.Namespace, ratio: float) -> list[float]:
    """Accuracies of torch-pruning's side."""
    training, test = (shipped.load(args.data, part) for part in ("train", "t10k"))
    torch.manual_seed(args.seed)
    model = smallnets.residual()
    cutter = pruner(ratio, model)
    images, labels = training
    steps = args.epochs * (len(images) // BATCH)
    every = cuts(args, len(images))

    def optimizer() -> torch.optim.Optimizer:
        weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
        groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, RATE, weight_decay=DECAY)

    moves, done, accuracies = optimizer(), 0, []
    for _ in range(args.epochs):
        order = torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]
        model.train()
        for batch in order:
            warm = min((done + 1) / 100, 1)
            part = max(done - 100, 0) / (steps - 100)
            rate = RATE * warm * (1 + np.cos(np.pi * part)) / 2
            for group in moves.param_groups:
                group["lr"] = rate
            flip = torch.rand(len(batch), 1, 1, 1) < 0.5
            pixels = images[batch] / 255
            pixels = torch.where(flip, pixels.flip(3), pixels)
            moves.zero_grad()
            F.cross_entropy(model(pixels), labels[batch]).backward()
            moves.step()
            done += 1
            if done % every == 0 and done // every <= CUTS:
                cutter.step()
                moves = optimizer()
                model.train()
        accuracies.append(shipped.accuracy(model, test))
    return accuracies


def plot(rows: dict[str, list[float]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for name, accuracies in rows.items():
        axes.plot(range(1, len(accuracies) + 1), accuracies, marker="o", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy on the test images")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=shipped.DATA)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--left", type=float, nargs="+", default=[0.5, 0.25], help="of the MACs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--plot", type=Path, help="also draw the curves")
    parser.add_argument("--secateur", type=Path)
    args = parser.parse_args()
    binary = tool.find(args.secateur)
    tool.TIMEOUT = 24 * 3600
    rows: dict[str, list[float]] = {}

    def show(name: str, curve: Curve) -> None:
        accuracies, left = curve
        rows[name] = accuracies
        print(f"{name:18}", *(f"{x:7.2%}" for x in accuracies), f"{left:7.1%}", flush=True)

    heads = (f"epoch {epoch + 1}" for epoch in range(args.epochs))
    print(f"{'':18}", *heads, "   MACs")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = folder / "residual.onnx"
        smallnets.write("residual", model, args.seed)
        if "dense" in args.only:
            show("dense", ours(binary, model, folder / "dense.onnx", args))
        for left in args.left:
            ratio, reached = fit(left)
            small = folder / "small.onnx"
            every = str(cuts(args, 60000))
            budget = f"{math.ceil(reached * 1000) / 10}%"
            target = ["--macs", budget, "--prune-every", every, "--prune-times", str(CUTS)]
            target += ["--criterion", "l2", "--roles", "producer,consumer,affine"]
            if "ours" in args.only or "scratch" in args.only:
                curve = ours(binary, model, small, args, *target)
                show(f"ours {left:.0%}", curve)
                if "scratch" in args.only:
                    new = renewed(small, folder / "new.onnx", args.seed)
                    accuracies, _ = ours(binary, new, folder / "scratch.onnx", args)
                    show(f"scratch {left:.0%}", (accuracies, curve[1]))
            if "torch-pruning" in args.only:
                show(f"torch-pruning {left:.0%}", (theirs(args, ratio), reached))
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
