"""Times a training step and inference of the engine beside PyTorch, with as many threads.

    cargo build --release --workspace --example steps
    python bench/trainspeed.py [--threads 2] [--only NAME]

Each side runs in a process of its own, one after the other; the least of several steps counts.
Losses and optimizer: cross-entropy, SGD with momentum. Memory is the most that the process holds
during the steps, less what it held before the first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import smallnets
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

ROOT = Path(__file__).resolve().parent.parent
STEPS = ROOT / "target" / "release" / "examples" / "steps"


class Block(nn.Module):
    """A pre-norm transformer block, with attention spelled out."""

    def __init__(self, width: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.norms[1](x))


class Transformer(nn.Module):
    """Four blocks of width 256 over 64 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(64, 256)
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x)).mean(1))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


CASES = {
    "LeNet": (lenet, (128, 1, 28, 28), 30),
    "ResNet-18 at 32": (lambda: resnet18(num_classes=10), (64, 3, 32, 32), 8),
    "ResNet-18 at 224": (lambda: resnet18(num_classes=10), (8, 3, 224, 224), 4),
    "transformer": (Transformer, (32, 64, 64), 8),
    "fashion-cnn": (smallnets.residual, (128, 1, 28, 28), 8),
}


def theirs(name: str, threads: int) -> dict[str, float]:
    make, shape, count = CASES[name]
    torch.set_num_threads(threads)
    model, x = make(), torch.rand(shape) * 2 - 1
    y = torch.arange(shape[0]) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = forward = float("inf")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak()
    for _ in range(count):
        model.train()
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        step = min(step, time.perf_counter() - start)
        model.eval()
        with torch.no_grad():
            start = time.perf_counter()
            model(x)
            forward = min(forward, time.perf_counter() - start)
    return {"step": step * 1e3, "forward": forward * 1e3, "memory": peak() - before}


def peak() -> float:
    """The most memory that this process held so far, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def export(name: str, path: Path) -> None:
    make, shape, _ = CASES[name]
    warnings.simplefilter("ignore")
    torch.onnx.export(
        make(),
        (torch.zeros(shape),),
        str(path),
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=17,
    )
    smallnets.untrain(path)


def measured(command: list[str], threads: int) -> dict[str, float]:
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", metavar="NAME")
    parser.add_argument("--side", choices=CASES, help="run PyTorch's side of one case")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(theirs(args.side, args.threads)))
        return
    print(f"{'':18}{'PyTorch step':>14}{'ours':>10}{'ratio':>7}", end="")
    print(f"{'forward':>12}{'ours':>10}{'ratio':>7}{'memory':>12}{'ours':>10}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in CASES if args.only in name):
            path = Path(folder) / "model.onnx"
            export(name, path)
            _, shape, count = CASES[name]
            sizes = "x".join(map(str, shape))
            ours = measured([str(STEPS), str(path), sizes, "10", str(count)], args.threads)
            own = [sys.executable, __file__, "--side", name, "--threads", str(args.threads)]
            peer = measured(own, args.threads)
            row = f"{name:18}"
            for key, unit, width in (("step", "ms", 11), ("forward", "ms", 9), ("memory", "MB", 9)):
                ratio = ours[key] / peer[key]
                row += f"{peer[key]:{width}.1f} {unit}{ours[key]:7.1f} {unit}{ratio:6.2f}x"
            print(row, flush=True)


if __name__ == "__main__":
    main()
