"""Models of one node each, over shapes, attributes, types and versions, for every operator.

`operators.py [NAME…]` runs them on the engine and prints how far it is from ONNX Runtime;
`operators.py --write FOLDER` writes their models.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from onnx import GraphProto, TensorProto, helper, numpy_helper

from engine import Case, Slope, compare, truth

F = np.float32
Rng = np.random.Generator
Cases = Iterator[Case]
CASES: dict[str, Callable[[Rng], Cases]] = {}
MICROSOFT = "com.microsoft"


def operator(*names: str) -> Callable[[Callable], Callable]:
    def register(function: Callable[[Rng, str], Cases]) -> Callable[[Rng, str], Cases]:
        for name in names:
            CASES[name] = lambda rng, name=name: function(rng, name)
        return function

    return register


class Constant:
    """An operand that the model stores."""

    def __init__(self, array: object, dtype: object = None) -> None:
        self.array = np.asarray(array, dtype)


def node(
    kind: str,
    inputs: list,
    opset: int = 20,
    outputs: int | list[bool] = 1,
    domain: str = "",
    standard: bool = False,
    tolerance: float = 1e-5,
    **attributes: object,
) -> Case:
    """One node over arrays; `None` for an omitted operand."""
    if "version" in attributes:
        attributes["opset"] = attributes.pop("version")
    names = ["" if array is None else f"x{i}" for i, array in enumerate(inputs)]
    kept = [True] * outputs if isinstance(outputs, int) else outputs
    results = [f"y{i}" if keep else "" for i, keep in enumerate(kept)]
    stored = [
        numpy_helper.from_array(array.array, name)
        for array, name in zip(inputs, names, strict=True)
        if isinstance(array, Constant)
    ]
    feeds = {
        name: np.asarray(array)
        for array, name in zip(inputs, names, strict=True)
        if array is not None and not isinstance(array, Constant)
    }
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    shown = [helper.make_empty_tensor_value_info(name) for name in results if name]
    graph = helper.make_graph(
        [helper.make_node(kind, names, results, domain=domain, **attributes)],
        "one",
        infos,
        shown,
        stored,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 21 else 10)
    shapes = " ".join(str(list(array.shape)) for array in feeds.values())
    text = " ".join(f"{key}={value}" for key, value in attributes.items())
    name = f"{kind}-{opset} {shapes} {text}"
    return Case(name, model, feeds, standard=standard, tolerance=tolerance)


def normal(rng: Rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(F)


# Elements

DOMAINS = {
    "Acos": (-0.95, 0.95),
    "Asin": (-0.95, 0.95),
    "Atanh": (-0.95, 0.95),
    "Acosh": (1.1, 4),
    "Log": (0.1, 5),
    "Sqrt": (0.1, 5),
    "Tan": (-1.2, 1.2),
    "Reciprocal": (0.3, 3),
}


@operator(
    "Identity",
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Cos",
    "Cosh",
    "Erf",
    "Exp",
    "Floor",
    "IsNaN",
    "IsInf",
    "Log",
    "Neg",
    "Reciprocal",
    "Round",
    "Sign",
    "Sin",
    "Sinh",
    "Sqrt",
    "Tan",
    "Tanh",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Mish",
    "HardSwish",
    "HardSigmoid",
    "LeakyRelu",
    "Elu",
    "Celu",
    "Selu",
    "ThresholdedRelu",
    "Shrink",
    "Gelu",
    "Swish",
)
def unary(rng: Rng, name: str) -> Cases:
    low, high = DOMAINS.get(name, (-3, 3))
    for shape in ((), (7,), (2, 3, 4), (1, 2, 3, 2, 2)):
        x = rng.uniform(low, high, shape).astype(F)
        yield node(name, [x], opset=24 if name == "Swish" else 20)
    x = rng.uniform(low, high, (3, 5)).astype(F)
    if name in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Swish"):
        yield node(name, [x], opset=24 if name == "Swish" else 20, alpha=0.7)
    if name == "Selu":
        yield node(name, [x], alpha=1.2, gamma=0.8)
    if name == "HardSigmoid":
        yield node(name, [x], alpha=0.3, beta=0.4)
    if name == "Shrink":
        yield node(name, [x], bias=0.3, lambd=0.7)
    if name == "Gelu":
        yield node(name, [x], approximate="tanh")
    if name in ("Abs", "Neg", "Sign"):
        yield node(name, [rng.integers(-5, 5, (3, 4))])
    if name == "Round":
        yield node(name, [np.array([0.5, 1.5, 2.5, -0.5, -1.5], F)])
    if name in ("IsNaN", "IsInf"):
        yield node(name, [np.array([np.nan, np.inf, -np.inf, 1], F)])


@operator("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Mean", "Sum", "PRelu")
def binary(rng: Rng, name: str) -> Cases:
    pairs = [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((2, 1, 4), (3, 1)), ((), (2, 2)), ((5,), ())]
    for a, b in pairs:
        if name == "PRelu" and (len(a) < len(b) or (a, b) == ((2, 1, 4), (3, 1))):
            continue
        x, y = normal(rng, *a), normal(rng, *b)
        if name in ("Div", "Pow"):
            x, y = np.abs(x) + F(0.3), y + np.sign(y)
        yield node(name, [np.asarray(x, F), np.asarray(y, F)])
    if name in ("Add", "Sub", "Mul", "Div", "Min", "Max"):
        yield node(name, [rng.integers(-9, 9, (3, 4)), rng.integers(1, 5, (4,))])
    if name in ("Min", "Max", "Mean", "Sum"):
        yield node(name, [normal(rng, 3, 4), normal(rng, 4), normal(rng, 1, 1)])
        yield node(name, [normal(rng, 3, 4)])
    if name == "Pow":
        yield node(name, [normal(rng, 3, 4), np.array(2, F)])
        yield node(name, [normal(rng, 3, 4), np.array(3, np.int64)])


@operator("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def compares(rng: Rng, name: str) -> Cases:
    yield node(name, [rng.integers(0, 3, (3, 4)).astype(F), rng.integers(0, 3, (4,)).astype(F)])
    yield node(name, [rng.integers(0, 3, (3, 4)), rng.integers(0, 3, (3, 1))])


@operator("And", "Or", "Xor")
def logic(rng: Rng, name: str) -> Cases:
    yield node(name, [rng.integers(0, 2, (3, 4)) > 0, rng.integers(0, 2, (4,)) > 0])


@operator("Not")
def negation(rng: Rng, name: str) -> Cases:
    yield node(name, [rng.integers(0, 2, (3, 4)) > 0])


@operator("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")
def bits(rng: Rng, name: str) -> Cases:
    for dtype in (np.uint8, np.uint32) if name == "BitShift" else (np.uint8, np.int32, np.int64):
        x, y = rng.integers(0, 100, (3, 4)).astype(dtype), rng.integers(0, 7, (4,)).astype(dtype)
        if name == "BitShift":
            yield node(name, [x, y], direction="LEFT")
            yield node(name, [x, y], direction="RIGHT")
        else:
            yield node(name, [x] if name == "BitwiseNot" else [x, y])


@operator("Mod")
def modulo(rng: Rng, name: str) -> Cases:
    yield node(name, [rng.integers(-9, 9, (3, 4)), rng.integers(1, 5, (4,))])
    yield node(name, [rng.integers(-9, 9, (3, 4)), np.array([-3, 2, -5, 4])])
    yield node(name, [rng.integers(-9, 9, (3, 4)), np.array([-3, 2, -5, 4])], fmod=1)
    yield node(name, [normal(rng, 3, 4), np.array([1, -0.7, 0.5, -2], F)], fmod=1)


@operator("Where")
def where(rng: Rng, name: str) -> Cases:
    mask = rng.integers(0, 2, (3, 4)) > 0
    yield node(name, [mask, normal(rng, 3, 4), normal(rng, 4)])
    yield node(name, [mask, normal(rng, 2, 3, 4), np.array(0, F)])
    yield node(name, [mask, rng.integers(0, 9, (4,)), rng.integers(0, 9, (3, 1))])


@operator("Clip")
def clip(rng: Rng, name: str) -> Cases:
    x = normal(rng, 3, 4)
    for low, high in ((-0.5, 0.5), (None, 0.2), (-0.3, None), (None, None)):
        bounds = [None if bound is None else np.array(bound, F) for bound in (low, high)]
        yield node(name, [x, *bounds])
    yield node(name, [x], opset=7, min=-0.5, max=0.5)
    yield node(name, [rng.integers(-9, 9, (5,)), np.array(-3), np.array(4)])


@operator("Cast")
def cast(rng: Rng, name: str) -> Cases:
    x = rng.uniform(-100, 100, (3, 4)).astype(F)
    for to in (
        TensorProto.INT64,
        TensorProto.INT32,
        TensorProto.INT8,
        TensorProto.BOOL,
        TensorProto.DOUBLE,
    ):
        yield node(name, [x], to=to)
    yield node(name, [rng.integers(-300, 300, (9,))], to=TensorProto.UINT8)
    yield node(name, [rng.integers(-300, 300, (9,))], to=TensorProto.FLOAT)


@operator("CastLike")
def cast_like(rng: Rng, name: str) -> Cases:
    yield node(name, [normal(rng, 3), np.array([1])])
    yield node(name, [rng.integers(0, 3, (3,)), np.array([1], F)])


@operator("Dropout")
def dropout(rng: Rng, name: str) -> Cases:
    yield node(name, [normal(rng, 3, 4)], outputs=2)
    yield node(name, [normal(rng, 3, 4), np.array(0.3, F)])


# Products


@operator("MatMul")
def matmul(rng: Rng, name: str) -> Cases:
    shapes = [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,))]
    shapes += [((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,))]
    for a, b in shapes:
        yield node(name, [normal(rng, *a), normal(rng, *b)])


@operator("Gemm")
def gemm(rng: Rng, name: str) -> Cases:
    for left, right, bias in itertools.product((0, 1), (0, 1), (None, (), (5,), (3, 1), (3, 5))):
        a = normal(rng, *((4, 3) if left else (3, 4)))
        b = normal(rng, *((5, 4) if right else (4, 5)))
        c = [] if bias is None else [normal(rng, *bias)]
        yield node(name, [a, b, *c], transA=left, transB=right, alpha=0.7, beta=0.3)


@operator("Einsum")
def einsum(rng: Rng, name: str) -> Cases:
    size = dict(zip("bijklmn", (2, 3, 4, 5, 2, 3, 4), strict=True))
    for equation in (
        "ij,jk->ik",
        "bij,bjk->bik",
        "bij,bkj->bik",
        "ij->ji",
        "ij->i",
        "ij,ij->ij",
        "i,j->ij",
        "bij,jk->bik",
        "bijk,bljk->bil",
        "ij,jk,kl->il",
        "bi,bj,b->ij",
        "bij->",
        "ij,jk",
    ):
        terms = equation.split("->")[0].split(",")
        yield node(
            name, [normal(rng, *(size[c] for c in term)) for term in terms], equation=equation
        )
    yield node(name, [normal(rng, 2, 3, 4), normal(rng, 2, 4, 5)], equation="...ij,...jk->...ik")
    yield node(name, [normal(rng, 2, 3, 4), normal(rng, 4, 5)], equation="...i,ij->...j")


@operator("Det")
def det(rng: Rng, name: str) -> Cases:
    for shape in ((1, 1), (2, 2), (3, 3), (2, 4, 4), (2, 2, 5, 5)):
        yield node(name, [normal(rng, *shape)])


# Windows

SPACES = {1: (9,), 2: (7, 8), 3: (5, 6, 5)}


@operator("Conv")
def conv(rng: Rng, name: str) -> Cases:
    for axes, space in SPACES.items():
        for group, stride, dilation, pad in (
            (1, 1, 1, 0),
            (2, 2, 1, 1),
            (4, 1, 2, 2),
            (1, 3, 1, 1),
        ):
            x, w = normal(rng, 2, 4, *space), normal(rng, 4 * 2, 4 // group, *[3, 2, 2][:axes])
            pads = [pad] * axes + [max(pad - 1, 0)] * axes
            attributes = {
                "group": group,
                "strides": [stride] * axes,
                "dilations": [dilation] * axes,
            }
            yield node(name, [x, w, normal(rng, 8)], pads=pads, **attributes)
            yield node(name, [x, w], pads=[pad] * 2 * axes, **attributes)
        for same in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            x, w = normal(rng, 2, 4, *space), normal(rng, 3, 4, *[3, 2, 2][:axes])
            yield node(name, [x, w], auto_pad=same, strides=[2] * axes)


@operator("ConvTranspose")
def conv_transpose(rng: Rng, name: str) -> Cases:
    for axes, space in {1: (5,), 2: (4, 5), 3: (3, 4, 3)}.items():
        for group, stride, dilation, pad, extra in (
            (1, 1, 1, 0, 0),
            (2, 2, 1, 1, 1),
            (4, 1, 2, 1, 0),
        ):
            x, w = normal(rng, 2, 4, *space), normal(rng, 4, 3, *[3] * axes)
            yield node(
                name,
                [x, w, normal(rng, 3 * group)],
                group=group,
                strides=[stride] * axes,
                dilations=[dilation] * axes,
                pads=[pad] * 2 * axes,
                output_padding=[extra] * axes,
            )
        x, w = normal(rng, 2, 4, *space), normal(rng, 4, 3, *[3] * axes)
        for same in ("SAME_UPPER", "SAME_LOWER"):
            yield node(name, [x, w], auto_pad=same, strides=[2] * axes)
        yield node(name, [x, w], strides=[2] * axes, output_shape=[2 * size for size in space])


@operator("DeformConv")
def deform_conv(rng: Rng, name: str) -> Cases:
    for group, places, stride, pad, dilation in ((1, 1, 1, 0, 1), (2, 2, 1, 1, 1), (1, 2, 2, 1, 2)):
        out = [(7 + 2 * pad - 2 * dilation - 1) // stride + 1] * 2
        x, w = normal(rng, 2, 4, 7, 7), normal(rng, 6, 4 // group, 3, 3)
        offset = normal(rng, 2, places * 18, *out)
        mask = rng.uniform(0, 1, (2, places * 9, *out)).astype(F)
        attributes = {"group": group, "offset_group": places, "strides": [stride] * 2}
        attributes |= {"pads": [pad] * 4, "dilations": [dilation] * 2}
        yield node(name, [x, w, offset, normal(rng, 6), mask], opset=19, **attributes)
        yield node(name, [x, w, offset], opset=19, **attributes)


@operator("MaxPool", "AveragePool", "LpPool")
def pool(rng: Rng, name: str) -> Cases:
    for axes, space in SPACES.items():
        x = normal(rng, 2, 3, *space)
        for kernel, stride, pad, ceil in (
            (2, 2, 0, 0),
            (3, 2, 1, 0),
            (3, 2, 1, 1),
            (2, 3, 0, 1),
            (3, 1, 1, 0),
        ):
            attributes = {"kernel_shape": [kernel] * axes, "strides": [stride] * axes}
            attributes |= {"pads": [pad] * 2 * axes}
            if ceil and name != "LpPool":
                attributes["ceil_mode"] = 1
            yield node(name, [x], **attributes)
            if name == "AveragePool":
                yield node(name, [x], count_include_pad=1, **attributes)
            if name == "MaxPool":
                yield node(name, [x], outputs=2, **attributes)
        if name == "LpPool":
            yield node(name, [x], kernel_shape=[2] * axes, p=1)
        if name == "MaxPool" or (name == "AveragePool" and axes < 3):
            yield node(name, [x], kernel_shape=[2] * axes, dilations=[2] * axes)
        for same in ("SAME_UPPER", "SAME_LOWER"):
            yield node(name, [x], kernel_shape=[3] * axes, strides=[2] * axes, auto_pad=same)
    if name == "MaxPool":
        yield node(name, [normal(rng, 2, 3, 7, 8)], outputs=2, kernel_shape=[2, 3], storage_order=1)
        yield node(name, [rng.integers(0, 99, (1, 2, 6, 6)).astype(np.uint8)], kernel_shape=[2, 2])


@operator("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
def whole_pool(rng: Rng, name: str) -> Cases:
    for space in SPACES.values():
        yield node(name, [normal(rng, 2, 3, *space)])


@operator("MaxUnpool")
def max_unpool(rng: Rng, name: str) -> Cases:
    places = np.array([[[[5, 7], [13, 15]], [[16 + 5, 16 + 7], [16 + 13, 16 + 15]]]])
    yield node(name, [normal(rng, 1, 2, 2, 2), places], kernel_shape=[2, 2], strides=[2, 2])


@operator("Col2Im")
def col2im(rng: Rng, name: str) -> Cases:
    yield node(name, [normal(rng, 2, 3 * 4, 9), np.array([4, 4]), np.array([2, 2])])
    attributes = {"pads": [1, 0, 1, 0], "strides": [2, 1], "dilations": [1, 2]}
    yield node(
        name, [normal(rng, 1, 2 * 6, 3 * 2), np.array([5, 6]), np.array([2, 3])], **attributes
    )


@operator("RoiAlign")
def roi_align(rng: Rng, name: str) -> Cases:
    x, rows = normal(rng, 2, 3, 9, 8), np.array([0, 1, 1])
    corners = np.array([[0, 0, 5, 6], [1.5, 2, 7, 8.5], [-1, 3, 3.2, 9]], F)
    for mode, samples, place in itertools.product(
        ("avg", "max"), (0, 2), ("half_pixel", "output_half_pixel")
    ):
        yield node(
            name,
            [x, corners, rows],
            mode=mode,
            sampling_ratio=samples,
            output_height=3,
            output_width=2,
            spatial_scale=0.9,
            coordinate_transformation_mode=place,
        )


@operator("MaxRoiPool")
def max_roi_pool(rng: Rng, name: str) -> Cases:
    regions = np.array([[0, 0, 0, 5, 6], [1, 1, 2, 7, 8], [1, 0, 3, 3, 9]], F)
    yield node(name, [normal(rng, 2, 3, 9, 8), regions], pooled_shape=[3, 2], spatial_scale=0.8)


# Norms


@operator("BatchNormalization")
def batch_norm(rng: Rng, name: str) -> Cases:
    for shape in ((2, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 2, 3)):
        parts = [normal(rng, 3), normal(rng, 3), normal(rng, 3), np.abs(normal(rng, 3))]
        yield node(name, [normal(rng, *shape), *parts], opset=15, epsilon=1e-3)
        if len(shape) > 2:
            yield node(
                name,
                [normal(rng, *shape), *parts],
                opset=15,
                outputs=3,
                training_mode=1,
                standard=True,
            )


@operator("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_norm(rng: Rng, name: str) -> Cases:
    opset = 23 if name == "RMSNormalization" else 17
    for axis in (-1, 1, -2):
        shape = (2, 3, 4)[axis:]
        parts = [normal(rng, 2, 3, 4), normal(rng, *shape)]
        if name == "LayerNormalization":
            yield node(name, [*parts, normal(rng, *shape)], axis=axis, outputs=3, epsilon=1e-3)
        yield node(name, parts, opset=opset, axis=axis)


@operator("InstanceNormalization")
def instance_norm(rng: Rng, name: str) -> Cases:
    for space in SPACES.values():
        yield node(name, [normal(rng, 2, 3, *space), normal(rng, 3), normal(rng, 3)])


@operator("GroupNormalization")
def group_norm(rng: Rng, name: str) -> Cases:
    for space in SPACES.values():
        x = normal(rng, 2, 6, *space)
        yield node(name, [x, normal(rng, 6), normal(rng, 6)], opset=21, num_groups=3)
        yield node(name, [x, normal(rng, 3), normal(rng, 3)], opset=18, num_groups=3)


@operator("LpNormalization")
def lp_norm(rng: Rng, name: str) -> Cases:
    for axis, p in itertools.product((-1, 0, 1), (1, 2)):
        yield node(name, [normal(rng, 2, 3, 4)], opset=22 if axis else 7, axis=axis, p=p)


@operator("MeanVarianceNormalization")
def mean_variance(rng: Rng, name: str) -> Cases:
    yield node(name, [normal(rng, 2, 3, 4, 5)])
    yield node(name, [normal(rng, 2, 3, 4, 5)], axes=[1, 3])


@operator("LRN")
def lrn(rng: Rng, name: str) -> Cases:
    for size in (1, 3, 5):
        yield node(name, [normal(rng, 2, 6, 4, 3)], size=size, alpha=0.3, beta=0.6, bias=1.5)


# Along axes


@operator(
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
)
def reduce(rng: Rng, name: str) -> Cases:
    x = rng.uniform(0.2, 2, (2, 3, 4)).astype(F)
    for axes, keep in itertools.product(([0], [1, -1], [0, 1, 2]), (0, 1)):
        yield node(name, [x, np.array(axes)], keepdims=keep)
        if name != "ReduceSum":
            yield node(name, [x], opset=11, axes=axes, keepdims=keep)
    yield node(name, [x])
    yield node(name, [x, np.array([], np.int64)], noop_with_empty_axes=1, standard=True)


@operator("ArgMax", "ArgMin")
def arg(rng: Rng, name: str) -> Cases:
    x = rng.integers(0, 3, (3, 4, 5)).astype(F)
    for axis, keep, last in itertools.product((0, -1, 1), (0, 1), (0, 1)):
        yield node(name, [x], axis=axis, keepdims=keep, select_last_index=last)


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(rng: Rng, name: str) -> Cases:
    for axis, opset in itertools.product((0, 1, -1), (11, 13)):
        yield node(name, [normal(rng, 2, 3, 4)], opset=opset, axis=axis)
    yield node(name, [normal(rng, 2, 3, 4)], opset=11)


@operator("CumSum")
def cumsum(rng: Rng, name: str) -> Cases:
    for axis, exclusive, reverse in itertools.product((0, -1), (0, 1), (0, 1)):
        yield node(name, [normal(rng, 3, 4), np.array(axis)], exclusive=exclusive, reverse=reverse)
    yield node(name, [rng.integers(0, 9, (3, 4)), np.array(1)])


@operator("TopK")
def topk(rng: Rng, name: str) -> Cases:
    x = rng.permutation(60).reshape(3, 4, 5).astype(F)
    for axis, largest in itertools.product((0, 1, -1), (0, 1)):
        yield node(name, [x, np.array([2])], outputs=2, axis=axis, largest=largest)
    yield node(name, [x.astype(np.int64), np.array([3])], outputs=2)
    for kind, largest in itertools.product((F, np.int64), (0, 1)):
        x = rng.integers(0, 3, (2, 50)).astype(kind)
        yield node(name, [x, np.array([30])], outputs=2, largest=largest, **TIES)


# Places


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile")
def shapes(rng: Rng, name: str) -> Cases:
    x = normal(rng, 2, 3, 4)
    if name == "Reshape":
        for target in ([6, 4], [-1], [0, -1], [2, 1, 12], [0, 0, 2, 2]):
            yield node(name, [x, np.array(target)])
    if name == "Flatten":
        for axis in (0, 1, 2, 3, -1):
            yield node(name, [x], axis=axis)
    if name == "Squeeze":
        yield node(name, [normal(rng, 1, 3, 1), np.array([0])])
        yield node(name, [normal(rng, 1, 3, 1), np.array([-1, 0])])
        yield node(name, [normal(rng, 1, 3, 1)])
        yield node(name, [normal(rng, 1, 3, 1)], opset=11, axes=[2])
    if name == "Unsqueeze":
        yield node(name, [x, np.array([0, -1])])
        yield node(name, [x], opset=11, axes=[1, 3])
    if name == "Transpose":
        for perm in itertools.permutations(range(3)):
            yield node(name, [x], perm=list(perm))
        yield node(name, [x])
    if name == "Expand":
        for target in ([2, 3, 4], [5, 1, 1, 4], [1], [3, 4]):
            yield node(name, [normal(rng, 3, 1), np.array(target)])
    if name == "Tile":
        yield node(name, [x, np.array([2, 1, 3])])


@operator("Concat")
def concat(rng: Rng, name: str) -> Cases:
    for axis in (0, 1, -1):
        shape = [2, 3, 4]
        parts = []
        for size in (1, 3, 2):
            shape[axis] = size
            parts.append(normal(rng, *shape))
        yield node(name, parts, axis=axis)


@operator("Split")
def split(rng: Rng, name: str) -> Cases:
    x = normal(rng, 2, 7, 4)
    yield node(name, [x, np.array([3, 4])], outputs=2, axis=1)
    yield node(name, [x], outputs=3, axis=1, num_outputs=3)
    yield node(name, [normal(rng, 6, 2)], opset=13, outputs=2)
    yield node(name, [x], opset=11, outputs=2, axis=1, split=[2, 5])


@operator("Slice")
def slices(rng: Rng, name: str) -> Cases:
    x = normal(rng, 5, 6, 7)
    for starts, ends, axes, steps in (
        ([1], [3], None, None),
        ([0, -3], [9, -1], [2, 0], None),
        ([-1], [-100], [1], [-2]),
        ([1, 0], [5, 6], [0, 1], [2, 3]),
        ([4], [1], [0], [-1]),
        ([3], [3], [0], [1]),
    ):
        parts = [np.array(starts), np.array(ends)]
        parts += [None if part is None else np.array(part) for part in (axes, steps)]
        yield node(name, [x, *parts])
    yield node(name, [x], opset=9, starts=[1, 2], ends=[4, 5], axes=[0, 2])


@operator("Pad")
def pad(rng: Rng, name: str) -> Cases:
    x = normal(rng, 4, 5, 6)
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield node(name, [x, np.array([1, 0, 2, 0, 3, 1])], opset=19, mode=mode)
        yield node(name, [x, np.array([1, 2]), None, np.array([2])], opset=19, mode=mode)
    yield node(name, [x, np.array([1, -1, 0, 0, 2, -2]), np.array(0.5, F)], opset=19)
    yield node(name, [rng.integers(0, 9, (3, 4)), np.array([1, 0, 0, 2]), np.array(7)])
    yield node(name, [x], opset=7, pads=[1, 0, 2, 0, 3, 1], value=0.3)


@operator("CenterCropPad")
def center_crop_pad(rng: Rng, name: str) -> Cases:
    for size in itertools.product((3, 4, 5, 6, 7), (4, 7)):
        yield node(name, [normal(rng, 5, 6, 2), np.array(size)], axes=[0, 1])


@operator("DepthToSpace", "SpaceToDepth")
def blocks(rng: Rng, name: str) -> Cases:
    x = normal(rng, 2, 12, 4, 6)
    yield node(name, [x], blocksize=2)
    if name == "DepthToSpace":
        yield node(name, [x], blocksize=2, mode="CRD")


@operator("Shape", "Size")
def sizes(rng: Rng, name: str) -> Cases:
    yield node(name, [normal(rng, 2, 3, 4)])
    if name == "Shape":
        yield node(name, [normal(rng, 2, 3, 4)], start=1, end=-1)


@operator("ConstantOfShape", "Range", "EyeLike")
def fills(rng: Rng, name: str) -> Cases:
    if name == "ConstantOfShape":
        yield node(name, [np.array([2, 3])])
        yield node(name, [np.array([2, 3])], value=numpy_helper.from_array(np.array([3])))
    if name == "Range":
        yield node(name, [np.array(2), np.array(11), np.array(3)])
        yield node(name, [np.array(1, F), np.array(0, F), np.array(-0.3, F)])
    if name == "EyeLike":
        for k in (0, 1, -2):
            yield node(name, [normal(rng, 3, 4)], k=k)


@operator("Gather", "GatherElements", "GatherND")
def gather(rng: Rng, name: str) -> Cases:
    x = normal(rng, 4, 5, 6)
    if name == "Gather":
        for axis, shape in itertools.product((0, 1, -1), ((), (3,), (2, 2))):
            yield node(name, [x, np.asarray(rng.integers(-4, 4, shape))], axis=axis)
    if name == "GatherElements":
        for axis in (0, 1, -1):
            yield node(name, [x, rng.integers(-4, 4, (3, 4, 2))], axis=axis)
    if name == "GatherND":
        yield node(name, [x, rng.integers(-4, 4, (3, 2))])
        yield node(name, [x, rng.integers(0, 4, (2, 3, 3))])
        yield node(name, [x, rng.integers(0, 5, (4, 2, 1))], batch_dims=1)


@operator("ScatterElements", "ScatterND")
def scatter(rng: Rng, name: str) -> Cases:
    for how in ("none", "add", "mul", "min", "max"):
        x = normal(rng, 4, 5)
        if name == "ScatterElements":
            index = (
                np.array([[0, 1, 2], [3, 0, 1]])
                if how == "none"
                else np.array([[0, 1, 2], [0, 0, 1]])
            )
            yield node(name, [x, index, normal(rng, 2, 3)], opset=18, reduction=how, axis=0)
            yield (
                node(name, [x, index, normal(rng, 2, 3)], opset=18, reduction=how, axis=1)
                if how != "none"
                else (node(name, [x, index, normal(rng, 2, 3)], opset=18, axis=1))
            )
        else:
            index = np.array([[0], [2]]) if how == "none" else np.array([[1], [1]])
            yield node(name, [x, index, normal(rng, 2, 5)], opset=18, reduction=how)
            yield node(
                name,
                [rng.integers(0, 9, (4, 5)), index, rng.integers(0, 9, (2, 5))],
                opset=18,
                reduction=how,
            )


@operator("OneHot")
def one_hot(rng: Rng, name: str) -> Cases:
    for axis in (-1, 0, 1):
        yield node(
            name, [rng.integers(-3, 5, (3, 4)), np.array(5), np.array([0.5, 2], F)], axis=axis
        )


@operator("NonZero")
def non_zero(rng: Rng, name: str) -> Cases:
    yield node(name, [rng.integers(0, 2, (3, 4)).astype(F)])


@operator("Trilu")
def trilu(rng: Rng, name: str) -> Cases:
    for upper, k in itertools.product((0, 1), (-1, 0, 2)):
        yield node(name, [normal(rng, 2, 4, 5), np.array(k)], upper=upper)


@operator("ReverseSequence")
def reverse_sequence(rng: Rng, name: str) -> Cases:
    yield node(name, [normal(rng, 5, 3, 2), np.array([2, 5, 1])], time_axis=0, batch_axis=1)
    yield node(name, [normal(rng, 3, 5), np.array([2, 5, 1])], time_axis=1, batch_axis=0)


@operator("TensorScatter")
def tensor_scatter(rng: Rng, name: str) -> Cases:
    for mode in ("linear", "circular"):
        first = [1, 3] if mode == "linear" else [3, 4]
        yield node(
            name,
            [normal(rng, 2, 2, 5, 3), normal(rng, 2, 2, 2, 3), np.array(first)],
            opset=24,
            mode=mode,
        )


@operator("Compress")
def compress(rng: Rng, name: str) -> Cases:
    yield node(name, [normal(rng, 3, 4), np.array([True, False, True])], axis=0)
    yield node(name, [normal(rng, 3, 4), np.array([False, True, True, False, True])])


@operator("Unique")
def unique(rng: Rng, name: str) -> Cases:
    for is_sorted in (0, 1):
        yield node(name, [rng.integers(0, 4, 12).astype(F)], outputs=4, sorted=is_sorted)
        yield node(name, [rng.integers(0, 2, (6, 2))], outputs=4, sorted=is_sorted, axis=0)


@operator("NonMaxSuppression")
def non_max_suppression(rng: Rng, name: str) -> Cases:
    for centered in (0, 1):
        boxes = rng.uniform(0, 1, (2, 12, 4)).astype(F)
        scores = rng.uniform(0, 1, (2, 3, 12)).astype(F)
        yield node(
            name,
            [boxes, scores, np.array([4]), np.array([0.3], F), np.array([0.2], F)],
            center_point_box=centered,
        )


# Sampling


@operator("Resize")
def resize(rng: Rng, name: str) -> Cases:
    x = normal(rng, 2, 3, 5, 6)
    modes = (
        "half_pixel",
        "asymmetric",
        "align_corners",
        "pytorch_half_pixel",
        "half_pixel_symmetric",
    )
    for coordinates, mode, sizes in itertools.product(
        modes, ("nearest", "linear", "cubic"), ((7, 9), (3, 4), (10, 3))
    ):
        target = np.array([2, 3, *sizes])
        yield node(
            name,
            [x, None, None, Constant(target)],
            opset=19,
            mode=mode,
            coordinate_transformation_mode=coordinates,
        )
    for scales in ((1.7, 0.6), (2, 2), (0.5, 0.3)):
        scale = Constant(np.array([1, 1, *scales], F))
        yield node(name, [x, None, scale], opset=19, mode="linear")
        for rounding in ("floor", "ceil", "round_prefer_ceil", "round_prefer_floor"):
            yield node(name, [x, None, scale], opset=19, mode="nearest", nearest_mode=rounding)
    for mode, exclude, sizes in itertools.product(("linear", "cubic"), (0, 1), ((3, 4), (2, 9))):
        yield node(
            name,
            [x, None, None, Constant([2, 3, *sizes])],
            opset=19,
            mode=mode,
            antialias=1,
            exclude_outside=exclude,
        )
    yield node(
        name, [x, None, None, Constant([2, 3, 7, 4])], opset=19, mode="cubic", exclude_outside=1
    )
    for policy in ("not_larger", "not_smaller"):
        yield node(
            name,
            [x, None, None, Constant([7, 9])],
            opset=19,
            mode="linear",
            axes=[2, 3],
            keep_aspect_ratio_policy=policy,
        )
    crop = Constant(np.array([0, 0, 0.2, -0.2, 1, 1, 0.7, 1.1], F))
    for mode in ("nearest", "linear"):
        yield node(
            name,
            [x, crop, None, Constant([2, 3, 4, 7])],
            opset=19,
            mode=mode,
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=0.5,
        )


@operator("Upsample")
def upsample(rng: Rng, name: str) -> Cases:
    for mode in ("nearest", "linear"):
        yield node(name, [normal(rng, 2, 3, 4, 5), Constant([1, 1, 2, 3], F)], opset=9, mode=mode)


@operator("GridSample")
def grid_sample(rng: Rng, name: str) -> Cases:
    for mode, outside, corners in itertools.product(
        ("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1)
    ):
        grid = rng.uniform(-1.6, 1.6, (2, 4, 5, 2)).astype(F)
        attributes = {"mode": mode, "padding_mode": outside, "align_corners": corners}
        yield node(name, [normal(rng, 2, 3, 5, 6), grid], opset=20, tolerance=2e-5, **attributes)
        if mode != "cubic":
            grid = rng.uniform(-1.6, 1.6, (1, 3, 4, 2, 3)).astype(F)
            yield node(
                name, [normal(rng, 1, 2, 4, 5, 3), grid], opset=20, tolerance=2e-5, **attributes
            )


@operator("AffineGrid")
def affine_grid(rng: Rng, name: str) -> Cases:
    for corners in (0, 1):
        yield node(name, [normal(rng, 2, 2, 3), np.array([2, 3, 4, 5])], align_corners=corners)
        yield node(name, [normal(rng, 2, 3, 4), np.array([2, 3, 4, 5, 3])], align_corners=corners)


# Signals


@operator("DFT")
def dft(rng: Rng, name: str) -> Cases:
    for shape, axis in (((2, 7, 1), 1), ((2, 8, 2), 1), ((2, 5, 4, 1), 2)):
        x = normal(rng, *shape)
        yield node(name, [x], opset=17, axis=axis)
        yield node(name, [x, None, np.array(axis)], opset=20, standard=True)
        if shape[-1] == 1:
            yield node(name, [x], opset=17, axis=axis, onesided=1)
        else:
            yield node(name, [x], opset=17, axis=axis, inverse=1)
        for length in (4, 11):
            yield node(name, [x, np.array(length)], opset=17, axis=axis)


@operator("STFT")
def stft(rng: Rng, name: str) -> Cases:
    x, window = normal(rng, 2, 20, 1), np.abs(normal(rng, 8))
    for onesided in (0, 1):
        yield node(name, [x, np.array(3), window], opset=17, onesided=onesided)
        yield node(name, [x, np.array(4), None, np.array(8)], opset=17, onesided=onesided)


@operator("HannWindow", "HammingWindow", "BlackmanWindow")
def windows(rng: Rng, name: str) -> Cases:
    for size, periodic in itertools.product((3, 9), (0, 1)):
        yield node(name, [np.array(size)], periodic=periodic)


@operator("MelWeightMatrix")
def mel(rng: Rng, name: str) -> Cases:
    numbers = [np.array(8), np.array(64), np.array(8000), np.array(0, F), np.array(4000, F)]
    yield node(name, numbers)
    numbers = [np.array(20), np.array(32), np.array(16000), np.array(100, F), np.array(7000, F)]
    yield node(name, numbers)


# Recurrence

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@operator("LSTM", "GRU", "RNN")
def recurrent(rng: Rng, name: str) -> Cases:
    q, h, i, t, n = GATES[name], 4, 3, 5, 2
    functions = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[
        name
    ]
    for direction, bias, states, lengths in itertools.product(
        ("forward", "reverse", "bidirectional"), (False, True), (False, True), (False, True)
    ):
        d = 2 if direction == "bidirectional" else 1
        x = [normal(rng, t, n, i), normal(rng, d, q * h, i), normal(rng, d, q * h, h)]
        x.append(normal(rng, d, 2 * q * h) if bias else None)
        x.append(np.array([5, 3], np.int32) if lengths else None)
        x.append(normal(rng, d, n, h) if states else None)
        outputs = 2
        if name == "LSTM":
            x.append(normal(rng, d, n, h) if states else None)
            x.append(normal(rng, d, 3 * h) if bias else None)
            outputs = 3
        attributes = {"hidden_size": h, "direction": direction}
        yield node(name, x, outputs=outputs, **attributes)
        if name == "GRU":
            yield node(name, x, outputs=outputs, linear_before_reset=1, **attributes)
        if name == "LSTM" and not states:
            yield node(name, x, outputs=outputs, input_forget=1, **attributes)
        yield node(name, x, outputs=outputs, clip=0.4, **attributes)
    x = [normal(rng, t, n, i), normal(rng, 1, q * h, i), normal(rng, 1, q * h, h)]
    for function, alpha, beta in (
        ("Relu", 0, 0),
        ("HardSigmoid", 0.3, 0.6),
        ("Softsign", 0, 0),
        ("LeakyRelu", 0.2, 0),
        ("Affine", 0.3, 0.1),
        ("ScaledTanh", 0.9, 0.8),
        ("Elu", 0.7, 0),
        ("Softplus", 0, 0),
        ("ThresholdedRelu", 0.3, 0),
    ):
        names = [*functions[:-1], function]
        attributes = {"activations": names, "hidden_size": h}
        if alpha:
            attributes["activation_alpha"] = [alpha]
        if beta:
            attributes["activation_beta"] = [beta]
        yield node(name, x, outputs=2, **attributes)
    if name != "RNN":
        x = [normal(rng, n, t, i), *x[1:], None, None, normal(rng, n, 1, h)]
        yield node(name, x, outputs=2, hidden_size=h, layout=1, standard=True)


# Attention


@operator("Attention")
def attention(rng: Rng, name: str) -> Cases:
    n, t, s, d, v = 2, 3, 5, 4, 6
    for heads, kv in ((2, 2), (4, 2)):
        for causal, mask, past in itertools.product(
            (0, 1), (None, "bool", "float", "short"), (0, 2)
        ):
            q, k, w = (
                normal(rng, n, heads, t, d),
                normal(rng, n, kv, s, d),
                normal(rng, n, kv, s, v),
            )
            x = [q, k, w]
            shape = (n, 1, t, s + past)
            if mask == "bool":
                held = rng.integers(0, 3, shape) > 0
                held[..., 0] = True
                x.append(held)
            elif mask == "short":
                x.append(normal(rng, t, s + past))
            else:
                x.append(None if mask is None else normal(rng, *shape))
            if past:
                x += [normal(rng, n, kv, past, d), normal(rng, n, kv, past, v)]
            outputs = 3 if past else 1
            yield node(name, x, opset=24, outputs=outputs, is_causal=causal, standard=True)
            yield node(
                name,
                x,
                opset=23,
                outputs=outputs,
                is_causal=causal,
                softcap=1.5,
                scale=0.3,
                standard=True,
            )
        flat = [normal(rng, n, t, heads * d), normal(rng, n, s, kv * d), normal(rng, n, s, kv * v)]
        for mode in range(4):
            yield node(
                name,
                [*flat, normal(rng, t, s)],
                opset=24,
                outputs=[True, False, False, True],
                q_num_heads=heads,
                kv_num_heads=kv,
                qk_matmul_output_mode=mode,
                standard=True,
            )
        yield node(name, flat, opset=23, q_num_heads=heads, kv_num_heads=kv)
        lengths = np.array([3, 5])
        yield node(
            name,
            [*flat, None, None, None, lengths],
            opset=24,
            q_num_heads=heads,
            kv_num_heads=kv,
            standard=True,
        )


@operator("RotaryEmbedding")
def rotary(rng: Rng, name: str) -> Cases:
    for interleaved, width in itertools.product((0, 1), (0, 4)):
        pairs = (width or 8) // 2
        tables = [normal(rng, 10, pairs), normal(rng, 10, pairs)]
        attributes = {"interleaved": interleaved, "rotary_embedding_dim": width}
        places = rng.integers(0, 10, (2, 5))
        yield node(name, [normal(rng, 2, 3, 5, 8), *tables, places], opset=23, **attributes)
        yield node(
            name, [normal(rng, 2, 5, 24), *tables, places], opset=23, num_heads=3, **attributes
        )
        tables = [normal(rng, 2, 5, pairs), normal(rng, 2, 5, pairs)]
        yield node(name, [normal(rng, 2, 3, 5, 8), *tables], opset=23, **attributes)
        tables = [normal(rng, 10, pairs), normal(rng, 10, pairs)]
        attributes |= {"domain": MICROSOFT, "num_heads": 3}
        yield node(name, [normal(rng, 2, 5, 24), places, *tables], **attributes)
        yield node(name, [normal(rng, 2, 5, 24), np.array([3]), *tables], **attributes)


@operator(f"{MICROSOFT}.Attention")
def fused_attention(rng: Rng, name: str) -> Cases:
    n, t, i, heads = 2, 4, 6, 2
    masks = {
        None: None,
        "lengths": np.array([3, 4], np.int32),
        "ends": np.array([3, 4, 1, 0], np.int32),
        "keys": np.array([[1, 1, 1, 0], [1, 1, 0, 1]], np.int32),
        "pairs": rng.integers(0, 2, (n, t, t)).astype(np.int32),
    }
    for (kind, mask), causal in itertools.product(masks.items(), (0, 1)):
        x = [normal(rng, n, t, i), normal(rng, i, 24), normal(rng, 24), mask]
        yield node(
            "Attention", x, domain=MICROSOFT, num_heads=heads, unidirectional=causal, tolerance=5e-5
        )
        if kind is None:
            x += [normal(rng, 2, n, heads, 3, 4)]
            yield node(
                "Attention", x, domain=MICROSOFT, num_heads=heads, unidirectional=causal, outputs=2
            )
    x = [
        normal(rng, n, t, i),
        normal(rng, i, 8 + 8 + 12),
        normal(rng, 28),
        None,
        None,
        normal(rng, n, heads, t, t),
    ]
    yield node(
        "Attention", x, domain=MICROSOFT, num_heads=heads, qkv_hidden_sizes=[8, 8, 12], scale=0.4
    )


@operator("MultiHeadAttention")
def multi_head(rng: Rng, name: str) -> Cases:
    n, t, s, heads = 2, 3, 5, 2
    shared = {"domain": MICROSOFT, "num_heads": heads}
    q, k, v = normal(rng, n, t, 8), normal(rng, n, s, 8), normal(rng, n, s, 12)
    bias, term = normal(rng, 28), normal(rng, n, heads, t, s)
    yield node(name, [q, k, v], **shared)
    yield node(name, [q, k, v, bias], **shared)
    yield node(name, [q, k, v, bias, None, term], scale=0.3, **shared)
    mask = np.array([[1, 1, 1, 0, 1], [1, 1, 0, 0, 0]], np.int32)
    yield node(name, [q, k, v, None, mask], tolerance=5e-5, **shared)
    yield node(name, [q, k, v, None, np.array([3, 5], np.int32)], tolerance=5e-5, **shared)
    past = [normal(rng, n, heads, 2, 4), normal(rng, n, heads, 2, 4)]
    new = [normal(rng, n, t, 8), normal(rng, n, t, 8), normal(rng, n, t, 8)]
    yield node(name, [*new, None, None, None, *past], outputs=3, unidirectional=1, **shared)
    flat = [normal(rng, n, s, 8) for _ in range(3)]
    split = [array.reshape(n, s, heads, 4) for array in flat]
    plain = truth(node(name, flat, **shared))
    yield node(name, [np.stack(split, 3)], **shared)._replace(expected=plain)
    plain = truth(node(name, [q, *flat[1:]], **shared))
    yield node(name, [q, np.stack(split[1:], 3)], **shared)._replace(expected=plain)
    heads_first = [array.transpose(0, 2, 1, 3).copy() for array in split[1:]]
    yield node(name, [q, *heads_first], **shared)._replace(expected=plain)


@operator("GroupQueryAttention")
def group_query(rng: Rng, name: str) -> Cases:
    n, heads, kv, d = 2, 4, 2, 16
    tables = [normal(rng, 20, d // 2), normal(rng, 20, d // 2)]
    shared = {"domain": MICROSOFT, "num_heads": heads, "kv_num_heads": kv, "outputs": 3}
    for turned, interleaved, extra in itertools.product(
        (0, 1), (0, 1), ({}, {"softcap": 2.0}, {"scale": 0.2}, {"local_window_size": 3})
    ):
        if interleaved and not turned:
            continue
        shared |= {"do_rotary": turned, "rotary_interleaved": interleaved}
        more = tables if turned else []
        t = 5
        new = [normal(rng, n, t, heads * d), normal(rng, n, t, kv * d), normal(rng, n, t, kv * d)]
        last, total = np.array([4, 4], np.int32), np.array(5, np.int32)
        yield node(name, [*new, None, None, last, total, *more], **shared, **extra)
        packed = [normal(rng, n, t, (heads + 2 * kv) * d), None, None]
        yield node(name, [*packed, None, None, last, total, *more], **shared, **extra)
        past = [normal(rng, n, kv, 6, d), normal(rng, n, kv, 6, d)]
        new = [normal(rng, n, 1, heads * d), normal(rng, n, 1, kv * d), normal(rng, n, 1, kv * d)]
        last, total = np.array([6, 6], np.int32), np.array(7, np.int32)
        yield node(name, [*new, *past, last, total, *more], **shared, **extra)


# Graphs inside nodes


Info = tuple[str, int, list]


def body(
    nodes: list, inputs: list[Info], outputs: list[Info], stored: tuple | list = ()
) -> GraphProto:
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    results = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs]
    return helper.make_graph(nodes, "body", infos, results, list(stored))


@operator("Loop")
def loop(rng: Rng, name: str) -> Cases:
    """A state that doubles and grows, its squares, and a bound; it reads what stands around it."""
    real, truth_value = TensorProto.FLOAT, TensorProto.BOOL
    graph = body(
        [
            helper.make_node("Mul", ["state", "two"], ["twice"]),
            helper.make_node("Add", ["twice", "x2"], ["next"]),
            helper.make_node("Mul", ["next", "next"], ["square"]),
            helper.make_node("ReduceMax", ["next"], ["most"], keepdims=0),
            helper.make_node("Less", ["most", "bound"], ["goes_on"]),
        ],
        [("i", TensorProto.INT64, []), ("c", truth_value, []), ("state", real, [3])],
        [("goes_on", truth_value, []), ("next", real, [3]), ("square", real, [3])],
        [
            numpy_helper.from_array(np.array(2, F), "two"),
            numpy_helper.from_array(np.array(20, F), "bound"),
        ],
    )
    for trips in (1, 3, 9):
        x = [np.array(trips), np.array(True), np.abs(normal(rng, 3)) + F(0.3)]
        yield node(name, x, outputs=2, body=graph)


@operator("Scan")
def scan(rng: Rng, name: str) -> Cases:
    real = TensorProto.FLOAT
    graph = body(
        [
            helper.make_node("Add", ["state", "part"], ["next"]),
            helper.make_node("Mul", ["next", "part"], ["out"]),
        ],
        [("state", real, [3]), ("part", real, [3])],
        [("next", real, [3]), ("out", real, [3])],
    )
    for axis, back in itertools.product((0, 1), (0, 1)):
        x = normal(rng, 4, 3) if axis == 0 else normal(rng, 3, 4)
        yield node(
            name,
            [normal(rng, 3), x],
            outputs=2,
            body=graph,
            num_scan_inputs=1,
            scan_input_axes=[axis],
            scan_input_directions=[back],
            scan_output_axes=[1],
            scan_output_directions=[back],
        )


# Chance


@operator(
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
)
def chance(rng: Rng, name: str) -> Cases:
    """They run; what they give is nobody's to compare."""
    shape = (
        {} if name.endswith("Like") or name in ("Bernoulli", "Multinomial") else {"shape": [3, 4]}
    )
    inputs = [] if shape else [rng.uniform(0, 1, (3, 4)).astype(F)]
    yield node(name, inputs, **shape)._replace(expected=[None])


@operator("Scatter")
def old_scatter(rng: Rng, name: str) -> Cases:
    yield node(
        name, [normal(rng, 4, 5), np.array([[0, 1, 2], [3, 0, 1]]), normal(rng, 2, 3)], opset=9
    )


# What ONNX Runtime adds


@operator("GemmFastGelu", "BiasDropout", "TransposeMatMul")
def from_parts(rng: Rng, name: str) -> Cases:
    x, w, b = normal(rng, 2, 3, 4), normal(rng, 4, 5), normal(rng, 5)
    if name == "GemmFastGelu":
        expected = truth(node("Gelu", [x @ w + b], approximate="tanh"))
        yield node(name, [x, w, b], domain=MICROSOFT)._replace(expected=expected)
    elif name == "BiasDropout":
        skip, bias = normal(rng, 2, 3, 4), normal(rng, 4)
        yield node(name, [x, bias, skip], domain=MICROSOFT)._replace(expected=[x + bias + skip])
    else:
        expected = [F(0.5) * x.transpose(0, 2, 1) @ w[:3]]
        yield node(name, [x, w[:3].copy()], domain=MICROSOFT, transA=1, alpha=0.5)._replace(
            expected=expected
        )


@operator("BiasGelu", "FastGelu", "QuickGelu")
def biased(rng: Rng, name: str) -> Cases:
    x, bias = normal(rng, 2, 3, 8), normal(rng, 8)
    if name == "QuickGelu":
        yield node(name, [x], domain=MICROSOFT, alpha=1.3)
    else:
        yield node(name, [x, bias], domain=MICROSOFT)
    if name == "FastGelu":
        yield node(name, [x], domain=MICROSOFT)


@operator("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_norm(rng: Rng, name: str) -> Cases:
    x, skip, bias = normal(rng, 2, 3, 8), normal(rng, 2, 3, 8), normal(rng, 8)
    scale, offset = normal(rng, 8), normal(rng, 8)
    outputs = [True, False, False, True]
    if name == "SkipLayerNormalization":
        yield node(name, [x, skip, scale, offset], domain=MICROSOFT, epsilon=1e-5)
        yield node(name, [x, skip, scale, offset, bias], domain=MICROSOFT, outputs=outputs)
    else:
        yield node(name, [x, skip, scale], domain=MICROSOFT, epsilon=1e-5)
        yield node(name, [x, skip, scale, bias], domain=MICROSOFT, outputs=outputs)


@operator("EmbedLayerNormalization")
def embed_norm(rng: Rng, name: str) -> Cases:
    ids = rng.integers(0, 9, (2, 5)).astype(np.int32)
    segments = rng.integers(0, 2, (2, 5)).astype(np.int32)
    tables = [normal(rng, 9, 8), normal(rng, 6, 8), normal(rng, 2, 8)]
    affine = [normal(rng, 8), normal(rng, 8)]
    mask = rng.integers(0, 2, (2, 5)).astype(np.int32)
    mask = np.sort(mask, axis=1)[:, ::-1].copy()
    yield node(name, [ids, segments, *tables, *affine], domain=MICROSOFT, outputs=2)
    yield node(name, [ids, None, *tables[:2], None, *affine, mask], domain=MICROSOFT, outputs=2)


@operator("BiasAdd", "BiasSoftmax", "BiasSplitGelu", "GroupNorm", "SkipGroupNorm")
def unspoken(rng: Rng, name: str) -> Cases:
    """What the runtime has no code for on this machine, from its parts."""
    x, bias = normal(rng, 2, 6, 8), normal(rng, 8)
    if name == "BiasAdd":
        skip = normal(rng, 2, 6, 8)
        yield node(name, [x, bias, skip], domain=MICROSOFT)._replace(expected=[x + bias + skip])
    elif name == "BiasSoftmax":
        expected = truth(node("Softmax", [x + bias], axis=-1))
        yield node(name, [x, bias], domain=MICROSOFT, axis=2)._replace(expected=expected)
    elif name == "BiasSplitGelu":
        left, right = np.split(x + bias, 2, axis=-1)
        gate = truth(node("Gelu", [right]))[0]
        yield node(name, [x, bias], domain=MICROSOFT)._replace(expected=[left * gate])
    else:
        yield from group_norms(rng, name)


def group_norms(rng: Rng, name: str) -> Cases:
    scale, offset, skip, bias = (
        normal(rng, 6),
        normal(rng, 6),
        normal(rng, 2, 6, 3, 4),
        normal(rng, 6),
    )
    for last, activation in itertools.product((0, 1), (0, 1)):
        x = normal(rng, 2, 6, 3, 4)
        added = name == "SkipGroupNorm"
        total = x + skip + bias[:, None, None] if added else x
        norm = truth(node("GroupNormalization", [total, scale, offset], opset=21, num_groups=3))[0]
        norm = norm / (1 + np.exp(-norm)) if activation else norm
        turn = (lambda a: a.transpose(0, 2, 3, 1).copy()) if last else (lambda a: a)
        more = [turn(skip), bias] if added else []
        attributes = {"groups": 3, "channels_last": last, "activation": activation}
        case = node(
            name, [turn(x), scale, offset, *more], domain=MICROSOFT, outputs=1 + added, **attributes
        )
        yield case._replace(expected=[turn(norm), turn(total)][: 1 + added])


@operator("FusedMatMul")
def fused_matmul(rng: Rng, name: str) -> Cases:
    for left, right in itertools.product((0, 1), (0, 1)):
        a = normal(rng, 2, *((4, 3) if left else (3, 4)))
        b = normal(rng, 2, *((5, 4) if right else (4, 5)))
        yield node(name, [a, b], domain=MICROSOFT, transA=left, transB=right, alpha=0.7)
    a, b = normal(rng, 3, 2, 4), normal(rng, 2, 4, 5)
    yield node(name, [a, b], domain=MICROSOFT, transBatchA=1)


@operator("FusedConv")
def fused_conv(rng: Rng, name: str) -> Cases:
    x, w, b = normal(rng, 1, 4, 6, 6), normal(rng, 5, 4, 3, 3), normal(rng, 5)
    for activation, numbers in (
        ("Relu", []),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.5, 1.0]),
        ("HardSigmoid", [0.3, 0.4]),
    ):
        attributes = {"activation_params": numbers} if numbers else {}
        yield node(
            name, [x, w, b], domain=MICROSOFT, activation=activation, pads=[1] * 4, **attributes
        )
    yield node(
        name, [x, w, b, normal(rng, 1, 5, 6, 6)], domain=MICROSOFT, activation="Relu", pads=[1] * 4
    )


@operator("FusedGemm")
def fused_gemm(rng: Rng, name: str) -> Cases:
    x = [normal(rng, 3, 4), normal(rng, 5, 4), normal(rng, 5)]
    yield node(name, x, domain=MICROSOFT, activation="Relu", transB=1, alpha=0.5)
    yield node(name, x, domain=MICROSOFT, activation="LeakyRelu", activation_alpha=0.2, transB=1)


@operator("MatMulNBits")
def packed(rng: Rng, name: str) -> Cases:
    for bits, k, zeros in itertools.product((4, 8), (32, 40), (False, True)):
        n, block = 6, 16
        blocks = -(-k // block)
        weight = rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
        scale = np.abs(normal(rng, n * blocks))
        x = [normal(rng, 2, 3, k), Constant(weight), Constant(scale)]
        if zeros:
            x.append(Constant(rng.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)))
        yield node(name, x, domain=MICROSOFT, K=k, N=n, bits=bits, block_size=block)


# Integers

KINDS = {np.uint8: (0, 256), np.int8: (-128, 128), np.uint16: (0, 65536), np.int16: (-32768, 32768)}


def ints(rng: Rng, dtype: type, *shape: int) -> np.ndarray:
    return np.asarray(rng.integers(*KINDS[dtype], shape)).astype(dtype)


@operator("QuantizeLinear", "DequantizeLinear")
def quantize(rng: Rng, name: str) -> Cases:
    scale = F(0.05)
    for dtype in KINDS:
        x = normal(rng, 3, 4) * 5 if name == "QuantizeLinear" else ints(rng, dtype, 3, 4)
        zero = Constant(np.array(3, dtype))
        yield node(name, [x, Constant(scale), zero], opset=21)
        if dtype in (np.uint8, np.int8):
            yield node(name, [x, Constant(scale), zero], opset=10)
        zeros, scales = (
            Constant(np.arange(4).astype(dtype)),
            Constant(np.abs(normal(rng, 4)) + F(0.05)),
        )
        yield node(name, [x, scales, zeros], opset=21, axis=1)
        zeros = Constant(ints(rng, dtype, 3, 2) // 4)
        scales = Constant(np.abs(normal(rng, 3, 2)) + F(0.05))
        yield node(name, [x, scales, zeros], opset=21, axis=1, block_size=2)
    if name == "QuantizeLinear":
        yield node(name, [normal(rng, 3, 4) * 9, Constant(scale)])
        yield node(
            name, [normal(rng, 3, 4) * 9, Constant(scale)], opset=21, output_dtype=TensorProto.INT16
        )
    else:
        yield node(name, [rng.integers(-999, 999, (3, 4)).astype(np.int32), Constant(scale)])


@operator("DynamicQuantizeLinear")
def dynamic(rng: Rng, name: str) -> Cases:
    for offset in (-5, 0, 5):
        yield node(name, [normal(rng, 3, 4) + F(offset)], outputs=3)


@operator("MatMulInteger", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
def integer_matmul(rng: Rng, name: str) -> Cases:
    for left, right, many in itertools.product(
        (np.uint8, np.int8), (np.uint8, np.int8), (False, True)
    ):
        if name == "MatMulIntegerToFloat" and left != right:
            continue
        # Sums of products of 8 bits overflow on processors without VNNI.
        a, b = ints(rng, left, 2, 3, 6), ints(rng, right, 6, 5) // 2
        az, bz = (
            Constant(np.array(7, left)),
            Constant(ints(rng, right, 5) if many else np.array(3, right)),
        )
        scale = Constant(np.abs(normal(rng, 5)) / 50 if many else F(0.02))
        if name == "MatMulInteger":
            yield node(name, [a, b, az, bz])
        elif name == "QLinearMatMul":
            out = [Constant(F(0.9)), Constant(np.array(5, left))]
            yield node(
                name,
                [
                    a,
                    Constant(F(0.03)),
                    az,
                    Constant(b.array if isinstance(b, Constant) else b),
                    scale,
                    bz,
                    *out,
                ],
            )
        elif name == "MatMulIntegerToFloat":
            yield node(
                name,
                [a, Constant(b), Constant(F(0.03)), scale, az, bz, normal(rng, 5)],
                domain=MICROSOFT,
            )
        elif left == np.uint8:
            yield node(name, [normal(rng, 2, 3, 6), Constant(b), scale, bz], domain=MICROSOFT)
            yield node(
                name,
                [normal(rng, 2, 3, 6), Constant(b), scale, bz, Constant(normal(rng, 5))],
                domain=MICROSOFT,
            )


@operator("ConvInteger", "QLinearConv")
def integer_conv(rng: Rng, name: str) -> Cases:
    for right, group, many in itertools.product((np.uint8, np.int8), (1, 2), (False, True)):
        x, w = ints(rng, np.uint8, 2, 4, 6, 7), ints(rng, right, 6, 4 // group, 3, 3)
        zero = Constant(np.zeros(6, right) if many else np.array(2, right))
        attributes = {"group": group, "pads": [1, 0, 1, 1], "strides": [2, 1]}
        if name == "ConvInteger":
            yield node(
                name,
                [x, w, Constant(np.array(9, np.uint8)), Constant(np.array(2, right))],
                **attributes,
            )
        else:
            scale = Constant(np.abs(normal(rng, 6)) / 50 if many else F(0.02))
            bias = Constant(rng.integers(-500, 500, 6).astype(np.int32))
            yield node(
                name,
                [
                    x,
                    Constant(F(0.02)),
                    Constant(np.array(9, np.uint8)),
                    Constant(w),
                    scale,
                    zero,
                    Constant(F(0.5)),
                    Constant(np.array(100, np.uint8)),
                    bias,
                ],
                **attributes,
            )


def codes(rng: Rng, dtype: type, *shape: int) -> list:
    return [
        ints(rng, dtype, *shape),
        Constant(F(rng.uniform(0.01, 0.05))),
        Constant(np.array(rng.integers(-9, 9) if dtype == np.int8 else 120, dtype)),
    ]


@operator(
    "QLinearAdd",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
    "QLinearWhere",
    "QLinearConcat",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QGemm",
)
def linear(rng: Rng, name: str) -> Cases:
    shared = {"domain": MICROSOFT}
    for dtype in (np.uint8, np.int8):
        result = codes(rng, dtype, 1)[1:]
        if name in ("QLinearAdd", "QLinearMul"):
            yield node(
                name, [*codes(rng, dtype, 2, 3, 4), *codes(rng, dtype, 2, 3, 4), *result], **shared
            )
            yield node(
                name, [*codes(rng, dtype, 2, 3, 4), *codes(rng, dtype, 4), *result], **shared
            )
        elif name == "QLinearSigmoid":
            yield node(
                name,
                [*codes(rng, dtype, 3, 4), Constant(F(1 / 256)), Constant(np.array(0, dtype))],
                **shared,
            )
        elif name == "QLinearLeakyRelu":
            yield node(name, [*codes(rng, dtype, 3, 4), *result], alpha=0.2, **shared)
        elif name == "QLinearSoftmax":
            zero = np.array(0 if dtype == np.uint8 else -128, dtype)
            yield node(
                name,
                [*codes(rng, dtype, 3, 8), Constant(F(1 / 256)), Constant(zero)],
                axis=-1,
                version=13,
                **shared,
            )
        elif name == "QLinearWhere":
            mask = rng.integers(0, 2, (3, 4)) > 0
            yield node(
                name, [mask, *codes(rng, dtype, 3, 4), *codes(rng, dtype, 3, 4), *result], **shared
            )
        elif name == "QLinearConcat":
            yield node(
                name,
                [*result, *codes(rng, dtype, 2, 3), *codes(rng, dtype, 2, 5)],
                axis=1,
                **shared,
            )
        elif name == "QLinearAveragePool":
            x = [*codes(rng, dtype, 1, 3, 6, 6), *result]
            yield node(name, x, kernel_shape=[2, 2], strides=[2, 2], **shared)
            yield node(name, x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1, **shared)
        elif name == "QLinearGlobalAveragePool":
            yield node(name, [*codes(rng, dtype, 2, 3, 6, 6), *result], channels_last=0, **shared)
            yield node(name, [*codes(rng, dtype, 2, 6, 6, 3), *result], channels_last=1, **shared)
        elif dtype == np.uint8:
            for flip in (0, 1):
                b = codes(rng, dtype, *((5, 6) if flip else (6, 5)))
                b[0] = Constant(b[0])
                bias = Constant(rng.integers(-500, 500, 5).astype(np.int32))
                yield node(
                    name, [*codes(rng, dtype, 3, 6), *b, bias, *result], transB=flip, **shared
                )
                yield node(
                    name, [*codes(rng, dtype, 3, 6), *b, bias], transB=flip, alpha=0.5, **shared
                )


@operator("DynamicQuantizeLSTM")
def dynamic_lstm(rng: Rng, name: str) -> Cases:
    h, i, t, n = 4, 6, 5, 2
    for direction in ("forward", "reverse", "bidirectional"):
        d = 2 if direction == "bidirectional" else 1
        x = [
            normal(rng, t, n, i),
            Constant(ints(rng, np.int8, d, i, 4 * h)),
            Constant(ints(rng, np.int8, d, h, 4 * h)),
        ]
        x += [normal(rng, d, 8 * h), None, None, None, None]
        for _ in range(2):
            x += [Constant(np.abs(normal(rng, d)) / 100), Constant(np.zeros(d, np.int8))]
        yield node(
            name,
            x,
            domain=MICROSOFT,
            outputs=3,
            hidden_size=h,
            direction=direction,
            tolerance=2e-2,
        )


def cases(names: list[str] | None = None, seed: int = 0) -> Iterator[Case]:
    for name in names or CASES:
        yield from CASES[name](np.random.default_rng(seed))


TIES = {"sorted": 1}
"""Said where elements are equal, which a step to either side tells apart."""
KINKS = {"Round", "Range", "OneHot", "Unique", "MelWeightMatrix", "Floor", "Ceil"}
KINKS |= {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
"""Operators with no gradients worth a name, or steps at the numbers of the cases."""
ROUNDED = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
CONSTANTS = {
    "Resize": {"x1", "x2"},
    "Upsample": {"x1"},
    "Pad": {"x2"},
    "RoiAlign": {"x1"},
    "MaxRoiPool": {"x1"},
}
"""Operands that are read as constants."""


def differentiable(case: Case) -> bool:
    """Whether difference quotients of a case tell its gradients."""
    kind = case.name.split("-", 1)[0]
    words = ("clip=", "training_mode=1", *(f"{key}={value}" for key, value in TIES.items()))
    return kind not in KINKS | ROUNDED and not any(word in case.name for word in words)


def slopes_of(case: Case, found: list[Slope]) -> list[Slope]:
    """Those of operands that have gradients."""
    constants = CONSTANTS.get(case.name.split("-", 1)[0], set())
    return [slope for slope in found if slope.operand not in constants]


def passes(case: Case, found: float | str) -> bool:
    return not isinstance(found, str) and found <= case.tolerance


def write(folder: Path) -> None:
    """The models of all cases as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases()):
        path = folder / f"{case.name.split('-')[0]}_{number}.onnx"
        path.write_bytes(case.model.SerializeToString())


def main() -> None:
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]))
        return
    worst: dict[str, list] = {}
    for case, found in compare(list(cases(sys.argv[1:]))):
        kind = case.name.split("-", 1)[0]
        worst.setdefault(kind, []).append(found if isinstance(found, float) else -1)
        if not passes(case, found):
            print(f"{case.name}\n    {found}", flush=True)
    total = sum(map(len, worst.values()))
    most = max(max(found) for found in worst.values())
    print(f"{total} models of {len(worst)} operators, worst {most:.1e}")


if __name__ == "__main__":
    main()
