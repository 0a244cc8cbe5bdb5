"""Prints accuracy, parameters and time per image of ONNX files on the held-out slice.

python models/accuracy.py models/fashion-cnn.onnx small.onnx
"""

import argparse
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

SLICE = Path(__file__).parent / "fashion-test.npz"
BATCH = 100


@dataclass(frozen=True)
class Report:
    """What one file achieves: a fraction, float initializer elements, and single-thread time."""

    accuracy: float
    parameters: int
    milliseconds: float


def evaluate(path: Path) -> Report:
    data = np.load(SLICE)
    images = data["images"][:, None].astype(np.float32) / 255
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    session.run(None, {feed: images[:BATCH]})
    start = time.perf_counter()
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    logits = np.concatenate([session.run(None, {feed: batch})[0] for batch in batches])
    elapsed = time.perf_counter() - start
    right = logits.argmax(1) == data["labels"]
    return Report(float(right.mean()), parameters(path), 1000 * elapsed / len(images))


def parameters(path: Path) -> int:
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    initializers = onnx.load(path).graph.initializer
    return sum(prod(tensor.dims) for tensor in initializers if tensor.data_type in floats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    width = max(len(str(path)) for path in files)
    print(f"{'file':{width}}  accuracy  parameters  ms/image")
    for path in files:
        report = evaluate(path)
        print(
            f"{path!s:{width}}  {report.accuracy:8.1%}  {report.parameters:10}"
            f"  {report.milliseconds:8.3f}"
        )


if __name__ == "__main__":
    main()
