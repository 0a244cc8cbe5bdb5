"""Quantizes a model file with ONNX Runtime's tools in one of many ways, by a seed."""

import logging
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

Inputs = dict[str, np.ndarray]
SIGNED, UNSIGNED = QuantType.QInt8, QuantType.QUInt8


class Unquantized(Exception):
    """The tools refuse the model."""


class Batches(CalibrationDataReader):
    def __init__(self, batches: Sequence[Inputs]) -> None:
        self.rest = iter(batches)

    def get_next(self) -> Inputs | None:
        return next(self.rest, None)


def quantize(source: Path, out: Path, seed: int, batches: Sequence[Inputs]) -> None:
    """Dynamic or static, between float operators or as integer ones, per tensor or per channel.

    Weights take 7 bits: sums of products of 8 bits overflow on processors without VNNI.

    # Raises
    `Unquantized` where the tools fail.
    """
    name_nodes(source)
    rng = random.Random(seed)
    layout = rng.choice([None, QuantFormat.QDQ, QuantFormat.QOperator])
    weights, activations = rng.choice([SIGNED, UNSIGNED]), rng.choice([SIGNED, UNSIGNED])
    per_channel = rng.random() < 0.5
    logging.getLogger().setLevel(logging.ERROR)
    try:
        if layout is None:
            quantize_dynamic(
                source, out, weight_type=weights, per_channel=per_channel, reduce_range=True
            )
            return
        quantize_static(
            source,
            out,
            Batches(batches),
            quant_format=layout,
            weight_type=weights,
            activation_type=activations if layout is QuantFormat.QDQ else UNSIGNED,
            per_channel=per_channel,
            reduce_range=True,
        )
    except Exception as error:  # the tools raise whatever their parts do
        raise Unquantized(str(error)) from error


def name_nodes(path: Path) -> None:
    """Names the nodes that have no name: the tools tell them apart by it."""
    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.save(model, path)
