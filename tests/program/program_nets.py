"""Small int8 networks drawn at random, rich in what can be simplified: filters of zeros, biases that saturate, pads."""

from __future__ import annotations

from typing import Any

import numpy as np
from int8_cases import quant

from leanedge.program.types import (
    ConcatenationOptions,
    ConvOptions,
    Dense,
    ElementwiseOptions,
    FullyConnectedOptions,
    NoOptions,
    PadOptions,
    PoolOptions,
    Port,
    Program,
    ProgramOperator,
    ProgramTensor,
    ReduceOptions,
)

__all__ = ["Net", "random_net"]

Array = np.ndarray[Any, Any]


class Net:
    """Adds operators one by one; every method gives the name of the tensor it writes."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: dict[str, ProgramTensor] = {}
        self.operators: list[ProgramOperator] = []
        self.inputs: list[str] = []

    def tensor(self, shape: tuple[int, ...], scale: float, zero: int, data: Array | None = None) -> str:
        name = f"t{len(self.tensors)}"
        kept = None if data is None else Dense(data)
        self.tensors[name] = ProgramTensor(name, shape, "int8", quant(scale, zero), kept)
        return name

    def input(self, shape: tuple[int, ...]) -> str:
        name = self.tensor(shape, 0.05, int(self.random.integers(-20, 20)))
        self.inputs.append(name)
        return name

    def emit(self, kind: Any, inputs: list[str], shape: tuple[int, ...], options: Any = None, like: str = "") -> str:
        tied = self.tensors[like].quant if like else None
        if tied is not None:
            name = self.tensor(shape, float(tied.scale), int(tied.zero_point))
        else:
            name = self.tensor(
                shape, float(10 ** self.random.uniform(-1.5, -0.5)), int(self.random.integers(-128, 100))
            )
        self.operators.append(
            ProgramOperator(f"op{len(self.operators)}", kind, tuple(inputs), (name,), options or NoOptions())
        )
        return name

    def constants(self, source: str, weights: Array, bias: Array, axis: int) -> list[str]:
        number = len(self.tensors)
        scales = (10 ** self.random.uniform(-3, -1.5, len(bias))).astype(np.float32)
        found = self.tensors[source].quant
        assert found is not None
        zeros = np.zeros(len(bias))
        names = [f"w{number}", f"b{number}"]
        bias_quant = quant(found.scale * scales, zeros, 0, "int32")
        self.tensors[names[0]] = ProgramTensor(
            names[0], weights.shape, "int8", quant(scales, zeros, axis), Dense(weights)
        )
        self.tensors[names[1]] = ProgramTensor(names[1], bias.shape, "int32", bias_quant, Dense(bias))
        return names

    def weights(self, shape: tuple[int, ...], axis: int) -> tuple[Array, Array]:
        """Some outputs of zeros, some inputs of zeros, some biases so large that only one number comes out."""
        array = self.random.integers(-127, 128, shape).astype(np.int8)
        array[self.random.random(shape) < 0.3] = 0
        moved = np.moveaxis(array, axis, 0)
        moved[self.random.random(shape[axis]) < 0.3] = 0
        if axis == 0:
            array[..., self.random.random(shape[-1]) < 0.2] = 0
        bias = self.random.integers(-3000, 3000, shape[axis]).astype(np.int32)
        saturated = self.random.random(shape[axis]) < 0.2
        bias[saturated] = self.random.choice([-(10**7), 10**7], int(saturated.sum()))
        return array, bias

    def conv(self, source: str, outputs: int) -> str:
        _, height, width, channels = self.tensors[source].shape
        size = int(self.random.choice([1, 3]))
        pad = int(self.random.integers(0, 2)) if size == 3 and min(height, width) >= 3 else size // 2
        weights, bias = self.weights((outputs, size, size, channels), 0)
        shape = (1, height + 2 * pad - size + 1, width + 2 * pad - size + 1, outputs)
        options = ConvOptions((1, 1), (1, 1), (pad,) * 4, str(self.random.choice(["none", "relu", "relu6"])))  # type: ignore[arg-type]
        return self.emit("conv_2d", [source, *self.constants(source, weights, bias, 0)], shape, options)

    def depthwise(self, source: str) -> str:
        _, height, width, channels = self.tensors[source].shape
        multiplier = int(self.random.choice([1, 1, 2]))
        weights, bias = self.weights((1, 3, 3, channels * multiplier), 3)
        shape = (1, height, width, channels * multiplier)
        options = ConvOptions((1, 1), (1, 1), (1, 1, 1, 1), "relu")
        return self.emit("depthwise_conv_2d", [source, *self.constants(source, weights, bias, 3)], shape, options)

    def fully_connected(self, source: str, outputs: int) -> str:
        weights, bias = self.weights((outputs, self.tensors[source].shape[1]), 0)
        inputs = [source, *self.constants(source, weights, bias, 0)]
        return self.emit("fully_connected", inputs, (1, outputs), FullyConnectedOptions("none"))

    def image_layer(self, source: str) -> str:
        """One layer more on an image, of the same height and width or a little less."""
        shape = self.tensors[source].shape
        kind = str(self.random.choice(["conv", "depthwise", "pad", "add", "concat", "unary", "pool", "constant"]))
        if kind == "depthwise":
            return self.depthwise(source)
        if kind == "pad":
            found = self.tensors[source].quant
            assert found is not None
            value = float(self.random.choice([0.0, 5 * float(found.scale)]))
            pads = ((0, 0), (1, 0), (0, 1), (0, 0))
            out = (1, shape[1] + 1, shape[2] + 1, shape[3])
            return self.conv(self.emit("pad", [source], out, PadOptions(pads, value), source), 6)
        if kind == "add":
            sides = [self.conv_same(source, 5), self.conv_same(source, 5)]
            one = str(self.random.choice(["add", "sub", "mul"]))
            return self.emit(one, sides, (*shape[:3], 5), ElementwiseOptions("relu"))
        if kind == "concat":
            left, right = self.conv_same(source, 4), self.conv_same(source, 3)
            sides = [left, self.emit("quantize", [right], (*shape[:3], 3), None, left)]
            return self.emit("concatenation", sides, (*shape[:3], 7), ConcatenationOptions(3), left)
        if kind == "unary":
            one = str(self.random.choice(["relu", "hard_swish", "leaky_none", "quantize"]))
            return self.emit(
                "relu" if one == "leaky_none" else one, [source], shape, None, source if one == "relu" else ""
            )
        if kind == "pool" and min(shape[1:3]) >= 2:
            one = str(self.random.choice(["max_pool", "average_pool"]))
            out = (1, shape[1] - 1, shape[2] - 1, shape[3])
            return self.emit(one, [source], out, PoolOptions((2, 2), (1, 1), (0, 0, 0, 0)), source)
        if kind == "constant":
            data = self.random.integers(-128, 128, (1, 1, 1, shape[3])).astype(np.int8)
            other = self.emit("relu", [self.tensor(data.shape, 0.1, 3, data)], data.shape)
            return self.emit("add", [source, other], shape, ElementwiseOptions())
        return self.conv(source, 7)

    def conv_same(self, source: str, outputs: int) -> str:
        _, height, width, channels = self.tensors[source].shape
        weights, bias = self.weights((outputs, 1, 1, channels), 0)
        inputs = [source, *self.constants(source, weights, bias, 0)]
        return self.emit(
            "conv_2d", inputs, (1, height, width, outputs), ConvOptions((1, 1), (1, 1), (0, 0, 0, 0), "relu")
        )

    def program(self, *outputs: str) -> Program:
        ports = (tuple(Port(name, name) for name in names) for names in (self.inputs, outputs))
        return Program(self.tensors, tuple(self.operators), *ports)


def random_net(seed: int) -> Program:
    """An image, three to six layers, then a mean or a flattening, a fully connected layer, a softmax."""
    net = Net(seed)
    last = net.conv(net.input((1, 6, 5, 3)), 6)
    for _ in range(int(net.random.integers(2, 6))):
        last = net.image_layer(last)
    shape = net.tensors[last].shape
    if net.random.random() < 0.5:
        features = net.emit("mean", [last], (1, shape[3]), ReduceOptions((1, 2), False))
    else:
        features = net.emit("reshape", [last], (1, shape[1] * shape[2] * shape[3]), None, last)
    hidden = net.fully_connected(net.fully_connected(features, 8), 4)
    return net.program(hidden)
