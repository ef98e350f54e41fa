"""Small float graphs and samples that the quantization and ONNX export tests share; weights are seeded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from leanedge.data.samples import Samples
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.model import Graph

Array = np.ndarray[Any, Any]


class Net:
    """Builds an ONNX graph node by node; each method returns the name of the value it made."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.domains: list[str] = []

    def input(self, name: str, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, spread: float = 0.0) -> str:
        """Normal weights, output channels of unlike size where `spread` > 0."""
        fan_in = max(1, int(np.prod(shape[1:])))
        array = self.random.normal(size=shape) / np.sqrt(fan_in)
        if spread:
            array *= np.exp(self.random.normal(0, spread, shape[0])).reshape(-1, *[1] * (len(shape) - 1))
        return self.constant(array.astype(np.float32))

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """One node; with several outputs the names are ``<first>``, ``<first>_1``, ..."""
        name = f"{kind.lower()}{len(self.nodes)}"
        made = [name] + [f"{name}_{index}" for index in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, inputs, made, name=name, **attributes))
        return name

    def conv(self, value: str, channels: tuple[int, int], kernel: int = 3, rank: int = 2, **options: Any) -> str:
        """(in, out) channels, "same" padding for stride 1; `group`, `strides`, `spread` as options."""
        spread, group = options.pop("spread", 0.0), options.get("group", 1)
        weight = self.weight(channels[1], channels[0] // group, *[kernel] * rank, spread=spread)
        bias = self.constant(self.random.normal(0, 0.3, channels[1]).astype(np.float32))
        return self.node("Conv", value, weight, bias, pads=[kernel // 2] * 2 * rank, **options)

    def graph(self, *outputs: str, opset: int = 17) -> Graph:
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        body = helper.make_graph(self.nodes, "net", self.inputs, made, self.constants)
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        return canonicalise(inferred, "net")


def normal(graph: Graph, count: int = 48, seed: int = 1) -> Samples:
    """Normal values for float inputs, ids below 50 for integer ones."""
    random = np.random.default_rng(seed)
    inputs = {}
    for info in graph.inputs:
        shape = (count, *info.shape)
        array = random.normal(size=shape) if info.dtype.kind == "f" else random.integers(0, 50, shape)
        inputs[info.name] = array.astype(info.dtype)
    return Samples(inputs)


def mobile(seed: int = 0, clip: float | None = None) -> Graph:
    """conv, depthwise, pointwise, residual, mean, linear; ReLU, or Clip(0, `clip`)."""
    net = Net(seed)

    def act(value: str) -> str:
        if clip is None:
            return net.node("Relu", value)
        low, high = net.constant(np.float32(0)), net.constant(np.float32(clip))
        return net.node("Clip", value, low, high)

    x = act(net.conv(net.input("x", (1, 3, 12, 12)), (3, 16), spread=0.8))
    y = act(net.conv(x, (16, 16), group=16, spread=0.8))
    y = net.conv(y, (16, 16), 1)
    x = net.node("Add", x, y)
    x = act(net.conv(x, (16, 24), strides=[2, 2], spread=0.8))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.graph(net.node("Gemm", x, net.weight(5, 24), net.weight(5), transB=1))


def motion(seed: int = 0) -> Graph:
    """Conv1d, max pool, ReduceMean, Gemm."""
    net = Net(seed)
    x = net.node("Relu", net.conv(net.input("x", (1, 6, 32)), (6, 12), rank=1))
    x = net.node("MaxPool", x, kernel_shape=[2], strides=[2])
    x = net.node("Relu", net.conv(x, (12, 12), rank=1, group=12))
    x = net.node("ReduceMean", x, axes=[2], keepdims=0)
    return net.graph(net.node("Gemm", x, net.weight(4, 12), net.weight(4), transB=1))


def encoder(seed: int = 0) -> Graph:
    """Embedding, one attention head, LayerNormalization, MLP with Gelu-like Tanh, on 7 integer ids."""
    net = Net(seed)
    width = 32
    x = net.node("Gather", net.weight(200, width), net.input("ids", (1, 7), TensorProto.INT64))

    def linear(value: str, wide: int, out: int) -> str:
        return net.node("Add", net.node("MatMul", value, net.weight(wide, out)), net.weight(out))

    query, key, value = (linear(x, width, width) for _ in range(3))
    scores = net.node("MatMul", query, net.node("Transpose", key, perm=[0, 2, 1]))
    mixed = net.node("MatMul", net.node("Softmax", scores, axis=-1), value)
    x = net.node("Add", x, linear(mixed, width, width))
    gain = net.constant(np.exp(net.random.normal(0, 1.0, width)).astype(np.float32))
    x = net.node("LayerNormalization", x, gain, net.weight(width), axis=-1)
    y = linear(net.node("Tanh", linear(x, width, 2 * width)), 2 * width, width)
    x = net.node("ReduceMean", net.node("Add", x, y), axes=[1], keepdims=0)
    return net.graph(net.node("Gemm", x, net.weight(3, width), net.weight(3), transB=1))
