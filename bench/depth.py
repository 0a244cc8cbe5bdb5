"""Analysis time against depth: small networks of up to 10,000 layers, timed, tabled and plotted.

    cargo build --release --example speed
    python bench/depth.py                        # the table, and the slope of every kind
    python bench/depth.py --plot depth.svg       # needs matplotlib

`slope` is that of the logarithms of time and depth, fitted from 100 layers on: 1 is linear.
Times are CPU seconds of one thread.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import table
from tool import ROOT, ToolError, find_example

DEPTHS = (10, 30, 100, 300, 1000, 3000, 10_000)
STAGES = ("import", "analyze", "group")
WIDTH = 8
GROWTH = 4
DENSE_BLOCK = 16


class Network:
    """A graph in the making; every layer reads the value that the last one made."""

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        self.name, self.random = name, np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = self.random.standard_normal(shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(self, data: str, inputs: int, outputs: int, size: int = 1) -> str:
        weight, bias = self.weight(outputs, inputs, size, size), self.weight(outputs)
        return self.add("Conv", data, weight, bias, pads=[size // 2] * 4)

    def norm(self, data: str, width: int) -> str:
        return self.add("LayerNormalization", data, self.weight(width), self.weight(width))

    def linear(self, data: str, inputs: int, outputs: int) -> str:
        return self.add("MatMul", data, self.weight(inputs, outputs))

    def model(self, output: str) -> onnx.ModelProto:
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, self.name, [self.input], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet(depth: int) -> onnx.ModelProto:
    """Residual blocks of two convolutions, in stages that end in a new width."""
    net, stage = Network("resnet", (1, 3, 4, 4)), max(depth // 8, 1)
    width = WIDTH
    value = net.conv("input", 3, width)
    for layer in range(depth // 2):
        if layer % stage == stage - 1:
            value, width = net.conv(value, width, width + 1), width + 1
        branch = net.add("Relu", net.conv(value, width, width, 3))
        value = net.add("Relu", net.add("Add", net.conv(branch, width, width, 3), value))
    return net.model(net.conv(value, width, 10))


def densenet(depth: int) -> onnx.ModelProto:
    """Blocks in which every layer reads all layers before it, and transitions between them."""
    net, width = Network("densenet", (1, 3, 4, 4)), WIDTH
    value = net.conv("input", 3, width)
    for layer in range(depth):
        new = net.conv(net.add("Relu", value), width, GROWTH)
        value, width = net.add("Concat", value, new, axis=1), width + GROWTH
        if layer % DENSE_BLOCK == DENSE_BLOCK - 1:
            value, width = net.conv(value, width, WIDTH), WIDTH
    return net.model(net.conv(value, width, 10))


def transformer(depth: int) -> onnx.ModelProto:
    """Pre-norm attention and feed-forward layers."""
    heads, tokens = 2, 4
    net = Network("transformer", (1, tokens, 3))
    value = net.linear("input", 3, WIDTH)
    for _ in range(depth):
        data = net.norm(value, WIDTH)
        split = net.ints(1, tokens, heads, WIDTH // heads)
        query, key, values = (
            net.add("Transpose", net.add("Reshape", net.linear(data, WIDTH, WIDTH), split), perm=p)
            for p in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        )
        weights = net.add("Softmax", net.add("MatMul", query, key), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", weights, values), perm=(0, 2, 1, 3))
        joined = net.add("Reshape", mixed, net.ints(1, tokens, WIDTH))
        value = net.add("Add", value, net.linear(joined, WIDTH, WIDTH))
        hidden = net.add("Relu", net.linear(net.norm(value, WIDTH), WIDTH, 2 * WIDTH))
        value = net.add("Add", value, net.linear(hidden, 2 * WIDTH, WIDTH))
    return net.model(net.linear(value, WIDTH, 10))


KINDS: dict[str, Callable[[int], onnx.ModelProto]] = {
    "resnet": resnet,
    "densenet": densenet,
    "transformer": transformer,
}


def build(kind: str, depth: int, cache: Path) -> Path:
    """The file of a network, written on first use."""
    path = cache / f"{kind}-{depth}.onnx"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        onnx.save(KINDS[kind](depth), path)
    return path


def measure(binary: Path, path: Path) -> dict[str, float]:
    """CPU seconds per stage."""
    command = [str(binary), "--analysis", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise ToolError(f"`{path.name}`: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout)["seconds"]


def slope(depths: Sequence[int], seconds: Sequence[float]) -> float:
    points = [(math.log(d), math.log(s)) for d, s in zip(depths, seconds, strict=True) if d >= 100]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) > 1 else math.nan


def plot(results: dict[str, list[dict[str, float]]], depths: Sequence[int], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for kind, rows in results.items():
        axes.loglog(depths, [row["analyze"] + row["group"] for row in rows], "o-", label=kind)
    first = min(rows[0]["analyze"] + rows[0]["group"] for rows in results.values())
    axes.loglog(depths, [first * d / depths[0] for d in depths], "k:", label="linear")
    axes.set_xlabel("layers")
    axes.set_ylabel("analysis and grouping, CPU seconds")
    axes.legend()
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--cache", type=Path, default=ROOT / "target" / "depth")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    try:
        binary = find_example("speed")
        for kind in arguments.kinds:
            files = [build(kind, depth, arguments.cache) for depth in arguments.depths]
            results[kind] = [measure(binary, file) for file in files]
    except ToolError as error:
        sys.exit(str(error))
    header = ["layers", *(f"{kind} {stage}" for kind in results for stage in STAGES)]
    rows = [
        [f"{depth:,}", *(f"{r[i][s] * 1e3:.3g}" for r in results.values() for s in STAGES)]
        for i, depth in enumerate(arguments.depths)
    ]
    slopes = [
        slope(arguments.depths, [r[s] for r in rs]) for rs in results.values() for s in STAGES
    ]
    rows.append(["slope", *(f"{value:.2f}" for value in slopes)])
    print(table.text(header, rows), "\n\nmilliseconds of CPU time")
    if arguments.plot:
        plot(results, arguments.depths, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
