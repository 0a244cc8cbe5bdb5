"""Writes the small networks of the pruning literature as ONNX, for the examples of secateur-train.

    python bench/smallnets.py OUT-FOLDER

`mlp.onnx` is TorchPruner's untrained perceptron (784-2024-2024-10, LeakyReLU, PyTorch's default
initialization); `convnet.onnx` its convolutional network for Fashion-MNIST, untrained;
`residual.onnx` an untrained copy of the network behind `models/fashion-cnn.onnx`, with batch norms.
"""

import argparse
import sys
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models"))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 2024),
        nn.LeakyReLU(),
        nn.Linear(2024, 2024),
        nn.LeakyReLU(),
        nn.Linear(2024, 10),
    )


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 4096),
        nn.ReLU(),
        nn.Linear(4096, 10),
    )


def residual() -> nn.Module:
    from train import FashionCnn  # models/train.py

    return FashionCnn()


NETS = {"mlp": mlp, "convnet": convnet, "residual": residual}


def write(name: str, path: Path, seed: int = 0) -> None:
    """Exports a network as it trains: batch norms stay, and the batch is open."""
    torch.manual_seed(seed)
    warnings.simplefilter("ignore")
    torch.onnx.export(
        NETS[name](),
        (torch.zeros(2, 1, 28, 28),),
        str(path),
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=17,
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
    )
    untrain(path)


def untrain(path: Path) -> None:
    """Makes batch norms of a model take their running statistics, as in evaluation.

    Exported for evaluation, tensors that are equal at first would be one.
    """
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in node.attribute:
                if attribute.name == "training_mode":
                    attribute.i = 0
    onnx.save(model, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        write(name, folder / f"{name}.onnx")
        print(folder / f"{name}.onnx")


if __name__ == "__main__":
    main()
