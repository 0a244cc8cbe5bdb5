"""Makes an untrained network better by removing units, here and as TorchPruner does it.

    cargo build --release -p secateur-train --example untrained
    python bench/untrained.py FOLDER [--seeds 3] [--orders 5] [--without-theirs]

The experiment of Ancona, Öztireli and Gross ("Shapley Value as Principled Metric for Structured
Network Pruning", 2020, section 4.4): a perceptron 784-2024-2024-10 with LeakyReLU and PyTorch's
default initialization; the Shapley values of the hidden units on 1000 images of the training part,
the outermost layer first; units with negative values go. Both sides start from the same weights
(the images are drawn differently). What comes out varies a lot with the images and the orders.

TorchPruner is not packaged. Its procedure is repeated here with PyTorch: the activations of a layer
are computed once, and for every unit of every order all layers behind it run on them again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import smallnets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models"))
import train as shipped  # noqa: E402

UNTRAINED = ROOT / "target" / "release" / "examples" / "untrained"
SAMPLES = 1000
LAYERS = (3, 1)
"""Of the perceptron, the outermost first."""


def shapley(net: nn.Sequential, layer: int, batch: tuple[Tensor, Tensor], orders: int) -> Tensor:
    """How much the loss rises when a unit goes after others in random orders, in the mean."""
    images, labels = batch
    inside = net[: layer + 1](images)
    count = inside.shape[1]
    found = torch.zeros(count)
    whole = F.cross_entropy(net[layer + 1 :](inside), labels, reduction="none")
    for _ in range(orders):
        left, before = inside.clone(), whole
        for unit in torch.randperm(count).tolist():
            left[:, unit] = 0
            now = F.cross_entropy(net[layer + 1 :](left), labels, reduction="none")
            found[unit] += (now - before).mean() / orders
            before = now
    return found


def keep(net: nn.Sequential, layer: int, kept: Tensor) -> None:
    """Slices a layer, and the next."""
    for number, axis in ((layer, 0), (layer + 2, 1)):
        linear = net[number]
        linear.weight = nn.Parameter(linear.weight.index_select(axis, kept))
        if axis == 0:
            linear.bias = nn.Parameter(linear.bias.index_select(0, kept))


@torch.no_grad()
def theirs(folder: Path, seed: int, orders: int) -> dict[str, float]:
    torch.manual_seed(seed)
    net = smallnets.mlp()
    test = shipped.load(folder, "t10k")
    before = shipped.accuracy(net, test)
    images, labels = shipped.load(folder, "train")
    drawn = torch.randperm(len(images))[:SAMPLES]
    seconds = 0.0
    for layer in LAYERS:
        start = time.perf_counter()
        found = shapley(net, layer, (images[drawn] / 255, labels[drawn]), orders)
        seconds += time.perf_counter() - start
        keep(net, layer, (found >= 0).nonzero().flatten())
    parameters = sum(p.numel() for p in net.parameters())
    after = shipped.accuracy(net, test)
    return {"before": before, "after": after, "parameters": parameters, "seconds": seconds}


def ours(folder: Path, seed: int, orders: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "mlp.onnx"
        smallnets.write("mlp", path, seed)
        command = [UNTRAINED, path, folder, folder, str(orders), str(seed)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="IDX files, such as MNIST's or Fashion-MNIST's")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--orders", type=int, default=5, metavar="N", help="of Shapley's units")
    parser.add_argument("--without-theirs", action="store_true")
    args = parser.parse_args()
    print(f"{'seed':>4} {'side':12} {'before':>7} {'after':>7} {'parameters':>11} {'seconds':>8}")
    for seed in range(args.seeds):
        sides = {"ours": ours} if args.without_theirs else {"ours": ours, "TorchPruner": theirs}
        for name, run in sides.items():
            found = run(args.folder, seed, args.orders)
            row = f"{seed:4} {name:12} {found['before']:7.2%} {found['after']:7.2%}"
            print(f"{row} {found['parameters']:11} {found['seconds']:8.1f}", flush=True)


if __name__ == "__main__":
    main()
