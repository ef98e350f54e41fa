"""Small ONNX graphs, one for each way that an operator can come, made of nothing but nodes and seeded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from leanedge.compress.quantize.quantize import quantize
from leanedge.compress.types import QuantSpec
from leanedge.data.samples import Samples
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.model import Graph

Array = np.ndarray[Any, Any]


class Net:
    """Adds nodes one by one; every method gives the name of the value it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []

    def input(self, shape: tuple[int, ...], name: str = "x", dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant(self.random.standard_normal(shape) * (scale or 1 / np.sqrt(fan_in)))

    def node(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(
            helper.make_node(op, inputs, names, name=f"{op}{len(self.nodes)}", domain=domain, **attributes)
        )
        return names[0] if outputs == 1 else names

    def conv(self, x: str, channels: int, into: int, kernel: int = 3, bias: bool = True, **attributes: Any) -> str:
        attributes.setdefault("pads", [kernel // 2] * 4)
        attributes = {name: value for name, value in attributes.items() if value is not None}
        group = attributes.get("group", 1)
        inputs = [x, self.weight(into, channels // group, kernel, kernel)]
        if bias:
            inputs.append(self.weight(into, scale=0.1))
        return str(self.node("Conv", *inputs, **attributes))

    def linear(self, x: str, columns: int, into: int, transposed: bool = True) -> str:
        shape = (into, columns) if transposed else (columns, into)
        weight = self.constant(self.random.standard_normal(shape) / np.sqrt(columns))
        return str(self.node("Gemm", x, weight, self.weight(into, scale=0.1), transB=int(transposed)))

    def graph(self, *outputs: str, opset: int = 17) -> Graph:
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        return canonicalise(onnx.shape_inference.infer_shapes(model), "net")


def samples_of(graph: Graph, count: int = 24, seed: int = 1) -> Samples:
    """Normal floats, and small integers."""
    random = np.random.default_rng(seed)
    inputs = {}
    for info in graph.inputs:
        shape = (count, *info.shape)
        if info.dtype.kind == "f":
            inputs[info.name] = random.standard_normal(shape).astype(info.dtype)
        else:
            inputs[info.name] = random.integers(0, 4, shape).astype(info.dtype)
    return Samples(inputs)


def spec_of(graph: Graph, scheme: Any = "w8a8") -> QuantSpec:
    return quantize(graph, samples_of(graph), scheme, "tflite")


def _image(net: Net, channels: int = 6, size: tuple[int, int] = (9, 7)) -> str:
    return net.conv(net.input((1, 3, *size)), 3, channels)


def _conv(**options: Any) -> Any:
    def make(net: Net) -> str:
        return net.conv(net.input((1, 4, 9, 8)), 4, 8, **options)

    return make


def _unary(op: str, **attributes: Any) -> Any:
    return lambda net: net.node(op, _image(net), **attributes)


def _pool(op: str, **attributes: Any) -> Any:
    return lambda net: net.node(op, _image(net), **attributes)


def _clip(low: float | None, high: float | None) -> Any:
    def make(net: Net) -> str:
        bounds = [net.constant(bound) if bound is not None else "" for bound in (low, high)]
        return str(net.node("Clip", _image(net), *bounds))

    return make


def _lone_clip(low: float, high: float) -> Any:
    def make(net: Net) -> str:
        x = net.node("MaxPool", _image(net), kernel_shape=[2, 2])
        return str(net.node("Clip", x, net.constant(low), net.constant(high)))

    return make


def _binary(op: str, *shape: int, constant: bool = True, first: bool = False) -> Any:
    def make(net: Net) -> str:
        # Behind a pool, so that a constant can't be folded into the convolution.
        x = net.node("MaxPool", _image(net), kernel_shape=[1, 2]) if constant else _image(net)
        values = np.abs(net.random.standard_normal(shape)) + 0.5
        y = net.constant(values) if constant else net.conv("x", 3, 6, kernel=1, pads=[0] * 4)
        return str(net.node(op, y, x) if first else net.node(op, x, y))

    return make


def _broadcast(net: Net) -> str:
    """Squeeze and excite: an image times one number a channel."""
    x = _image(net)
    y = net.node("GlobalAveragePool", x)
    y = net.node("Sigmoid", net.conv(y, 6, 6, kernel=1, pads=[0] * 4))
    return str(net.node("Mul", x, y))


def _resize(mode: str, sizes: list[int] | None = None, **attributes: Any) -> Any:
    def make(net: Net) -> str:
        x = _image(net, 4, (6, 5))
        if sizes is not None:
            return str(net.node("Resize", x, "", "", net.constant(sizes, np.int64), mode=mode, **attributes))
        return str(net.node("Resize", x, "", net.constant([1, 1, 2, 2]), mode=mode, **attributes))

    return make


def _transposed(**attributes: Any) -> Any:
    kernel = attributes.pop("kernel", 3)

    def make(net: Net) -> str:
        x = _image(net, 4, (5, 4))
        weight = net.constant(net.random.standard_normal((4, 6, kernel, kernel)) / 6)
        return str(net.node("ConvTranspose", x, weight, net.weight(6, scale=0.1), **attributes))

    return make


def _conv1d(net: Net) -> str:
    x = net.input((1, 6, 32))
    x = net.node("Conv", x, net.weight(8, 6, 5), net.weight(8, scale=0.1), pads=[2, 2], strides=[2])
    x = net.node("Relu", x)
    x = net.node("Conv", x, net.weight(8, 1, 3), net.weight(8, scale=0.1), pads=[1, 1], group=8)
    return str(net.node("MaxPool", x, kernel_shape=[2], strides=[2]))


def _split(net: Net) -> list[str]:
    sizes = net.constant([2, 4], np.int64)
    return list(net.node("Split", _image(net), sizes, outputs=2, axis=1))


def _slice(starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Any:
    def make(net: Net) -> str:
        bounds = [net.constant(numbers, np.int64) for numbers in (starts, ends, axes, steps)]
        return str(net.node("Slice", _image(net), *bounds))

    return make


def _pad(pads: list[int], value: float = 0.0, **attributes: Any) -> Any:
    def make(net: Net) -> str:
        return str(net.node("Pad", _image(net), net.constant(pads, np.int64), net.constant(value), **attributes))

    return make


def _head(net: Net) -> str:
    x = net.node("Relu", _image(net, 4, (4, 3)))
    x = net.node("Reshape", x, net.constant([1, -1], np.int64))
    return net.linear(net.node("Relu", net.linear(x, 48, 10)), 10, 5, transposed=False)


def _tokens(net: Net) -> str:
    """An attention-like block on (1, time, channels)."""
    x = net.input((1, 6, 8))
    query = net.node("Add", net.node("MatMul", x, net.weight(8, 8)), net.weight(8, scale=0.1))
    keys = net.node("Transpose", net.node("MatMul", x, net.weight(8, 8)), perm=[0, 2, 1])
    shares = net.node("Softmax", net.node("MatMul", query, keys), axis=-1)
    return str(net.node("Add", net.node("MatMul", shares, x), x))


KINDS: dict[str, Any] = {
    "conv": _conv(),
    "conv no bias": _conv(bias=False),
    "conv valid": _conv(pads=[0] * 4),
    "conv stride": _conv(strides=[2, 2]),
    "conv stride same": _conv(strides=[2, 2], pads=[0, 0, 1, 1]),
    "conv asymmetric": _conv(pads=[2, 0, 1, 1]),
    "conv dilated": _conv(dilations=[2, 2], pads=[2] * 4),
    "conv auto pad": _conv(auto_pad="SAME_UPPER", pads=None, strides=[2, 2]),
    "conv grouped": _conv(group=2),
    "depthwise": lambda net: net.conv(net.input((1, 8, 9, 8)), 8, 8, group=8),
    "depthwise multiplier": lambda net: net.conv(net.input((1, 4, 9, 8)), 4, 8, group=4, strides=[2, 1]),
    "depthwise 5x5 stride": lambda net: net.conv(net.input((1, 8, 9, 8)), 8, 8, kernel=5, group=8, strides=[2, 2]),
    "conv relu": lambda net: net.node("Relu", _image(net)),
    "conv relu6": _clip(0.0, 6.0),
    "conv clip -1 1": _clip(-1.0, 1.0),
    "conv clip 0.1 0.8": _clip(0.1, 0.8),
    "conv clip low": _clip(0.2, None),
    "relu6 alone": _lone_clip(0.0, 6.0),
    "clip alone": _lone_clip(-0.5, 0.7),
    "conv1d": _conv1d,
    "conv transpose": _transposed(),
    "conv transpose same": _transposed(kernel=4, strides=[2, 2], pads=[1] * 4),
    "conv transpose crop": _transposed(strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    "linear head": _head,
    "add": _binary("Add", constant=False),
    "add channel constant": _binary("Add", 6, 1, 1),
    "add scalar": _binary("Add", 1),
    "sub": _binary("Sub", constant=False),
    "sub from constant": _binary("Sub", 6, 1, 1, first=True),
    "mul": _binary("Mul", constant=False),
    "mul channel constant": _binary("Mul", 1, 6, 1, 1),
    "div by constant": _binary("Div", 1, 6, 1, 1),
    "squeeze and excite": _broadcast,
    "max pool": _pool("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "max pool pads": _pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "max pool pads of negatives": lambda net: net.node(
        "MaxPool",
        net.node("Sub", _image(net, 6, (8, 8)), net.constant(5.0)),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1] * 4,
    ),
    "max pool ceil": _pool("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "max pool after relu": lambda net: net.node(
        "MaxPool", net.node("Relu", _image(net, 6, (8, 8))), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    ),
    "average pool": _pool("AveragePool", kernel_shape=[3, 2], strides=[2, 1]),
    "average pool same": _pool("AveragePool", kernel_shape=[3, 3], pads=[1] * 4),
    "average pool counted": _pool("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    "global average pool": _unary("GlobalAveragePool"),
    "mean no dims": _unary("ReduceMean", axes=[2, 3], keepdims=0),
    "mean width": _unary("ReduceMean", axes=[3], keepdims=0),
    "mean channels": _unary("ReduceMean", axes=[1], keepdims=1),
    "softmax channels": _unary("Softmax", axis=1),
    "softmax width": _unary("Softmax", axis=-1),
    "sigmoid": _unary("Sigmoid"),
    "tanh": _unary("Tanh"),
    "hard swish": _unary("HardSwish"),
    "hard sigmoid": _unary("HardSigmoid"),
    "hard sigmoid of six": _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    "leaky relu": _unary("LeakyRelu", alpha=0.1),
    "prelu": lambda net: net.node("PRelu", _image(net), net.constant(np.linspace(0.05, 0.4, 6).reshape(6, 1, 1))),
    "concat": lambda net: net.node("Concat", _image(net), net.conv("x", 3, 2), axis=1),
    "split equal": lambda net: list(net.node("Split", _image(net), outputs=3, axis=1)),
    "split": _split,
    "slice": _slice([1, -6], [5, -1], [1, 2], [1, 2]),
    "slice backwards": _slice([-1], [-100], [3], [-1]),
    "pad": _pad([0, 1, 2, 0, 0, 0, 1, 1]),
    "pad value": _pad([0, 0, 1, 1, 0, 0, 1, 1], 0.5),
    "pad reflect": _pad([0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"),
    "resize nearest": _resize("nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "resize nearest half": _resize("nearest", coordinate_transformation_mode="half_pixel"),
    "resize bilinear": _resize("linear", coordinate_transformation_mode="half_pixel"),
    "resize bilinear corners": _resize("linear", [1, 4, 11, 9], coordinate_transformation_mode="align_corners"),
    "resize bilinear asymmetric": _resize("linear", coordinate_transformation_mode="asymmetric"),
    "transpose": _unary("Transpose", perm=[0, 2, 1, 3]),
    "to channels last": _unary("Transpose", perm=[0, 2, 3, 1]),
    "reshape": lambda net: net.node("Reshape", _image(net), net.constant([1, 9, 42], np.int64)),
    "gather": lambda net: net.node("Gather", _image(net), net.constant([2, 0, -1], np.int64), axis=1),
    "attention": _tokens,
}
"""Name -> what makes it: takes a `Net`, gives the name (or names) of its outputs."""


def graph_of(name: str) -> Graph:
    """The graph of an entry of `KINDS`."""
    net = Net(seed=len(name))
    made = KINDS[name](net)
    return net.graph(*([made] if isinstance(made, str) else made))
