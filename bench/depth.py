"""Models of any depth with tiny weights, for the time that analysis takes.

    python bench/depth.py resnet 10000 deep.onnx
    python bench/depth.py transformer 1000 deep.onnx

A layer is a residual block of two convolutions (`resnet`), a convolution whose result is
concatenated to its input (`densenet`, in blocks of 16 with a transition after each), or attention
and a feed-forward network, both residual (`transformer`).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
WIDTH = 8
GROWTH = 4
BLOCK = 16
HEADS = 2
TOKENS = 4


class Graph:
    """Nodes and weights in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.random = np.random.default_rng(0)

    def weight(self, *dims: int) -> str:
        scale = float(np.prod(dims[1:])) ** -0.5
        return self.store(self.random.standard_normal(dims, dtype=np.float32) * scale)

    def sizes(self, *values: int) -> str:
        return self.store(np.array(values, dtype=np.int64))

    def store(self, array: np.ndarray) -> str:
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int) -> str:
        return self.node("Conv", x, self.weight(outputs, inputs, 1, 1), self.weight(outputs))

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self.node("MatMul", x, self.weight(inputs, outputs))
        return self.node("Add", product, self.weight(outputs))

    def norm(self, x: str) -> str:
        return self.node("LayerNormalization", x, self.weight(WIDTH), self.weight(WIDTH))


def resnet(graph: Graph, x: str, layers: int) -> str:
    x = graph.conv(x, 3, WIDTH)
    for _ in range(layers):
        y = graph.node("Relu", graph.conv(x, WIDTH, WIDTH))
        x = graph.node("Relu", graph.node("Add", x, graph.conv(y, WIDTH, WIDTH)))
    return pooled(graph, x, WIDTH)


def densenet(graph: Graph, x: str, layers: int) -> str:
    x, width = graph.conv(x, 3, WIDTH), WIDTH
    for layer in range(layers):
        y = graph.conv(graph.node("Relu", x), width, GROWTH)
        x, width = graph.node("Concat", x, y, axis=1), width + GROWTH
        if layer % BLOCK == BLOCK - 1:
            x, width = graph.conv(x, width, WIDTH), WIDTH
    return pooled(graph, x, width)


def pooled(graph: Graph, x: str, width: int) -> str:
    flat = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    return graph.linear(flat, width, 2)


def transformer(graph: Graph, x: str, layers: int) -> str:
    x = graph.linear(x, 3, WIDTH)
    for _ in range(layers):
        x = graph.node("Add", x, attention(graph, graph.norm(x)))
        hidden = graph.node("Gelu", graph.linear(graph.norm(x), WIDTH, 2 * WIDTH))
        x = graph.node("Add", x, graph.linear(hidden, 2 * WIDTH, WIDTH))
    return graph.linear(graph.norm(x), WIDTH, 2)


def attention(graph: Graph, x: str) -> str:
    split = graph.sizes(1, TOKENS, HEADS, WIDTH // HEADS)
    query, key, value = (
        graph.node("Reshape", graph.linear(x, WIDTH, WIDTH), split) for _ in range(3)
    )
    query, value = (graph.node("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    key = graph.node("Transpose", key, perm=[0, 2, 3, 1])
    weights = graph.node("Softmax", graph.node("MatMul", query, key), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    return graph.linear(graph.node("Reshape", mixed, graph.sizes(1, TOKENS, WIDTH)), WIDTH, WIDTH)


INPUTS = {"resnet": (1, 3, 4, 4), "densenet": (1, 3, 4, 4), "transformer": (1, TOKENS, 3)}
KINDS: dict[str, Callable[[Graph, str, int], str]] = {
    "resnet": resnet,
    "densenet": densenet,
    "transformer": transformer,
}


def build(kind: str, layers: int) -> onnx.ModelProto:
    """A model of `layers` layers, with random weights that are the same every time."""
    graph = Graph()
    output = KINDS[kind](graph, "x", layers)
    shape = (1, TOKENS, 2) if kind == "transformer" else (1, 2)
    proto = helper.make_graph(
        graph.nodes,
        f"{kind}_{layers}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, INPUTS[kind])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        graph.initializers,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(proto, opset_imports=[opset], ir_version=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("layers", type=int)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    onnx.save(build(arguments.kind, arguments.layers), arguments.out)


if __name__ == "__main__":
    main()
