"""Trains the two shipped models on Fashion-MNIST; writes them, and a slice of test data.

python models/train.py            # both, a few minutes each on two CPU cores
python models/train.py cnn
"""

import argparse
import gzip
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "bench"))
from export import Exporter, export, trim_metadata  # noqa: E402

DATA = Path("/usr/share/datasets/fashion-mnist")  # Debian: apt install dataset-fashion-mnist
CLASSES = 10


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels // reduction, 1)
        self.up = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.up(F.relu(self.down(pooled))))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, expansion: int = 3) -> None:
        super().__init__()
        hidden = channels * expansion
        self.body = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            SqueezeExcite(hidden, reduction=8),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FashionCnn(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.Sequential(
            Residual(width, width),
            Residual(width, width),
            Residual(width, 2 * width, stride=2),
            Residual(2 * width, 2 * width),
            InvertedResidual(2 * width),
        )
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class FashionVit(nn.Module):
    def __init__(self, width: int = 64, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 7 * 7 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        token = self.class_token.expand(x.shape[0], -1, -1)
        tokens = torch.cat([token, tokens], 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


@dataclass(frozen=True)
class Recipe:
    """How to train one model: epochs, the peak of the learning rate, augmentation in pixels."""

    build: Callable[[], nn.Module]
    epochs: int
    rate: float
    shift: int


RECIPES = {
    "cnn": Recipe(FashionCnn, epochs=9, rate=4e-3, shift=2),
    "vit": Recipe(FashionVit, epochs=12, rate=2e-3, shift=0),
}


def load(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images as bytes `[n, 1, 28, 28]` and labels `[n]` of `train` or `t10k`, packed or not."""

    def read(name: str) -> bytes:
        packed = folder / f"{name}.gz"
        plain = folder / name
        return gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()

    images = read(f"{split}-images-idx3-ubyte")[16:]
    labels = read(f"{split}-labels-idx1-ubyte")[8:]
    pixels = torch.frombuffer(bytearray(images), dtype=torch.uint8).reshape(-1, 1, 28, 28)
    return pixels, torch.frombuffer(bytearray(labels), dtype=torch.uint8).long()


def augment(batch: Tensor, shift: int) -> Tensor:
    """Flips half of the images and moves all of them by the same few pixels."""
    flip = torch.rand(len(batch), 1, 1, 1) < 0.5
    batch = torch.where(flip, batch.flip(3), batch)
    row, column = torch.randint(2 * shift + 1, (2,)).tolist()
    padded = F.pad(batch, (shift, shift, shift, shift))
    return padded[:, :, row : row + 28, column : column + 28]


def train(model: nn.Module, data: tuple[Tensor, Tensor], recipe: Recipe) -> None:
    images, labels = data
    size = 128
    steps = recipe.epochs * (len(images) // size)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        model.train()
        start, total = time.perf_counter(), 0.0
        batches = torch.randperm(len(images)).split(size)[: len(images) // size]
        for batch in batches:
            pixels = augment(images[batch] / 255, recipe.shift)
            loss = F.cross_entropy(model(pixels), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch + 1}/{recipe.epochs}  loss {total / len(batches):.4f}  {seconds:.0f} s"
        )


@torch.no_grad()
def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    model.eval()
    images, labels = data
    right = sum(
        (model(x / 255).argmax(1) == y).sum().item()
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(RECIPES), help="cnn, vit (default: both)")
    parser.add_argument("--data", type=Path, default=DATA, help=f"IDX files (default: {DATA})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    training, test = load(arguments.data, "train"), load(arguments.data, "t10k")
    images, labels = (part[:1000].numpy() for part in test)
    np.savez_compressed(
        HERE / "fashion-test.npz", images=images[:, 0], labels=labels.astype(np.uint8)
    )
    for name in arguments.models:
        recipe = RECIPES[name]
        torch.manual_seed(arguments.seed)
        model = recipe.build()
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters")
        train(model, training, recipe)
        print(f"{name}: test accuracy {accuracy(model, test):.4f} on {len(test[1])} images")
        path = HERE / f"fashion-{name}.onnx"
        export(model.eval(), (torch.zeros(2, 1, 28, 28),), path, Exporter.DYNAMO, dynamic=(0,))
        trim_metadata(path)


if __name__ == "__main__":
    main()
