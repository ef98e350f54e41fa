"""Architectures whose latency on a Raspberry Pi is published, as ONNX with random weights.

Instructions of a dense network do not depend on its weights, so random ones count the same. Each function's text says
which paper or model-zoo configuration it follows. Detection networks end at the class scores and box codes of each
feature map: the non-maximum suppression that published figures include is data-dependent and left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NETWORKS", "build"]


class Net:
    """Builds an NCHW ONNX graph operator by operator; values are known by name, shapes are kept beside."""

    def __init__(self, name: str, size: int, *, torch_padding: bool = False) -> None:
        self.name = name
        self.torch_padding = torch_padding
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": (1, 3, size, size)}
        self.outputs: list[str] = []

    def op(self, kind: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        self.shapes[output] = shape
        return output

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def channels(self, x: str) -> int:
        return self.shapes[x][1]

    def _pads(self, extent: int, kernel: int, stride: int) -> tuple[int, int, int]:
        """Padding before and after, and the output's extent: TensorFlow's SAME, or torch's symmetric half kernel."""
        if self.torch_padding:
            before = after = kernel // 2
            return before, after, (extent + before + after - kernel) // stride + 1
        out = math.ceil(extent / stride)
        total = max((out - 1) * stride + kernel - extent, 0)
        return total // 2, total - total // 2, out

    def _window(self, x: str, kernel: tuple[int, int], stride: int, valid: bool) -> tuple[list[int], list[int]]:
        _, _, height, width = self.shapes[x]
        if valid:
            return [0, 0, 0, 0], [(height - kernel[0]) // stride + 1, (width - kernel[1]) // stride + 1]
        top, bottom, out_height = self._pads(height, kernel[0], stride)
        left, right, out_width = self._pads(width, kernel[1], stride)
        return [top, left, bottom, right], [out_height, out_width]

    def conv(
        self,
        x: str,
        out: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        act: str = "",
        groups: int = 1,
        valid: bool = False,
    ) -> str:
        window = (kernel, kernel) if isinstance(kernel, int) else kernel
        pads, extent = self._window(x, window, stride, valid)
        inner = self.channels(x) // groups
        deviation = math.sqrt(2 / (inner * window[0] * window[1]))
        weight = self.random.normal(0, deviation, (out, inner, *window)).astype(np.float32)
        bias = self.random.normal(0, 0.05, out).astype(np.float32)
        y = self.op(
            "Conv",
            [x, self.constant(weight), self.constant(bias)],
            (1, out, *extent),
            kernel_shape=list(window),
            strides=[stride, stride],
            pads=pads,
            group=groups,
        )
        return self.act(y, act)

    def depthwise(self, x: str, kernel: int, stride: int = 1, act: str = "") -> str:
        return self.conv(x, self.channels(x), kernel, stride, act, groups=self.channels(x))

    def act(self, x: str, kind: str) -> str:
        shape = self.shapes[x]
        if kind == "relu":
            return self.op("Relu", [x], shape)
        if kind == "relu6":
            return self.op("Clip", [x, self.constant(np.float32(0)), self.constant(np.float32(6))], shape)
        if kind == "sigmoid":
            return self.op("Sigmoid", [x], shape)
        if kind == "silu":
            return self.mul(x, self.act(x, "sigmoid"))
        if kind == "hard_swish":
            return self.op("HardSwish", [x], shape)
        assert not kind
        return x

    def add(self, x: str, y: str) -> str:
        return self.op("Add", [x, y], self.shapes[x])

    def mul(self, x: str, y: str) -> str:
        return self.op("Mul", [x, y], self.shapes[x])

    def concat(self, parts: list[str], axis: int = 1) -> str:
        shape = list(self.shapes[parts[0]])
        shape[axis] = sum(self.shapes[part][axis] for part in parts)
        return self.op("Concat", parts, tuple(shape), axis=axis)

    def split(self, x: str) -> tuple[str, str]:
        half = self.channels(x) // 2
        first, second = (
            self.op(
                "Slice",
                [x, *(self.constant(np.array([v])) for v in (start, start + half, 1))],
                (1, half, *self.shapes[x][2:]),
            )
            for start in (0, half)
        )
        return first, second

    def max_pool(self, x: str, kernel: int, stride: int, valid: bool = False, ceil: bool = False) -> str:
        pads, extent = self._window(x, (kernel, kernel), stride, valid)
        if ceil:  # torch's ceil_mode: one more window where one fits partly
            extent = [math.ceil((size - kernel) / stride) + 1 for size in self.shapes[x][2:]]
        return self.op(
            "MaxPool",
            [x],
            (*self.shapes[x][:2], *extent),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=pads,
            ceil_mode=int(ceil),
        )

    def mean(self, x: str) -> str:
        return self.op("GlobalAveragePool", [x], (*self.shapes[x][:2], 1, 1))

    def average_pool(self, x: str, kernel: int) -> str:
        pads, extent = self._window(x, (kernel, kernel), 1, valid=False)
        return self.op(
            "AveragePool",
            [x],
            (*self.shapes[x][:2], *extent),
            kernel_shape=[kernel] * 2,
            pads=pads,
            strides=[1, 1],
            count_include_pad=1,
        )

    def up(self, x: str) -> str:
        """Nearest neighbour, twice the size."""
        batch, channels, height, width = self.shapes[x]
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.op(
            "Resize",
            [x, "", scales],
            (batch, channels, 2 * height, 2 * width),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        return self.op("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", [x], tuple(self.shapes[x][axis] for axis in order), perm=list(order))

    def matmul(self, x: str, y: str) -> str:
        return self.op("MatMul", [x, y], (*self.shapes[x][:-1], self.shapes[y][-1]))

    def softmax(self, x: str, axis: int = -1) -> str:
        return self.op("Softmax", [x], self.shapes[x], axis=axis)

    def classify(self, x: str, classes: int) -> None:
        x = self.reshape(self.mean(x), (1, self.channels(x)))
        inner = self.shapes[x][1]
        weight = self.random.normal(0, math.sqrt(1 / inner), (classes, inner)).astype(np.float32)
        bias = self.random.normal(0, 0.05, classes).astype(np.float32)
        y = self.op("Gemm", [x, self.constant(weight), self.constant(bias)], (1, classes), transB=1)
        self.outputs.append(self.softmax(y))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shapes["x"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[name]) for name in self.outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _round(channels: float) -> int:
    """To a multiple of 8, never more than a tenth less."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


# ---- MobileNet v1 (arXiv 1704.04861), v2 (arXiv 1801.04381), v3 (arXiv 1905.02244)


def _mobilenet_v1(net: Net, act: str = "relu6") -> str:
    x = net.conv("x", 32, 3, 2, act)
    for out, stride in [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]:
        x = net.conv(net.depthwise(x, 3, stride, act), out, act=act)
    return x


_V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def _mobilenet_v2(net: Net) -> tuple[str, str]:
    """The last feature map (1280 channels) and the expansion of its 14th block, which detectors tap."""
    x = net.conv("x", 32, 3, 2, "relu6")
    tap = ""
    for expansion, out, repeats, first_stride in _V2:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            y = net.conv(x, net.channels(x) * expansion, act="relu6") if expansion > 1 else x
            if (out, index) == (160, 0):
                tap = y
            y = net.conv(net.depthwise(y, 3, stride, "relu6"), out)
            x = net.add(x, y) if stride == 1 and net.channels(x) == out else y
    return net.conv(x, 1280, act="relu6"), tap


def mobilenet_v1(classes: int = 1001) -> onnx.ModelProto:
    net = Net("mobilenet_v1_224", 224)
    net.classify(_mobilenet_v1(net), classes)
    return net.model()


def mobilenet_v2(classes: int = 1001, torch: bool = False) -> onnx.ModelProto:
    net = Net("mobilenet_v2_224", 224, torch_padding=torch)
    net.classify(_mobilenet_v2(net)[0], classes)
    return net.model()


# kernel, expansion, out, squeeze-and-excite, h-swish, stride
_V3_LARGE = [
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1),
    (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1),
    (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1), (5, 672, 80, 1, 1, 2), (5, 480, 80, 1, 1, 1), (5, 480, 80, 1, 1, 1),
]  # fmt: skip
_V3_SMALL = [
    (3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1),
    (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1), (5, 288, 48, 1, 1, 2), (5, 288, 48, 1, 1, 1),
    (5, 288, 48, 1, 1, 1),
]  # fmt: skip


def _mobilenet_v3(net: Net, large: bool) -> tuple[str, str]:
    """As detectors use it (section 6.3 of the paper): channels of the last stage halved."""
    x = net.conv("x", 16, 3, 2, "hard_swish")
    tap = ""
    for kernel, expansion, out, excite, swish, stride in _V3_LARGE if large else _V3_SMALL:
        act = "hard_swish" if swish else "relu"
        y = net.conv(x, expansion, act=act) if expansion != net.channels(x) else x
        if stride == 2:
            tap = y
        y = net.depthwise(y, kernel, stride, act)
        if excite:
            gate = net.conv(net.mean(y), _round(expansion / 4), act="relu")
            gate = net.conv(gate, expansion)
            gate = net.op("HardSigmoid", [gate], net.shapes[gate], alpha=1 / 6, beta=0.5)
            y = net.mul(y, gate)
        y = net.conv(y, out)
        x = net.add(x, y) if stride == 1 and net.channels(x) == out else y
    return net.conv(x, 480 if large else 288, act="hard_swish"), tap


# ---- SSD and SSDLite, as the TensorFlow object detection model zoo configures them (91 classes, 6 feature maps)


def _ssd(net: Net, maps: list[str], lite: bool) -> onnx.ModelProto:
    x = maps[-1]
    for out in (512, 256, 256, 128):
        x = net.conv(x, out // 2, act="relu6")
        x = net.conv(net.depthwise(x, 3, 2, "relu6"), out, act="relu6") if lite else net.conv(x, out, 3, 2, "relu6")
        maps.append(x)
    for index, feature in enumerate(maps):
        anchors = 3 if index == 0 else 6
        for out, act in ((4 * anchors, ""), (91 * anchors, "sigmoid")):
            if lite:
                y = net.conv(net.depthwise(feature, 3, 1, "relu6"), out, act=act)
            else:
                y = net.conv(feature, out, 3, act=act)
            net.outputs.append(y)
    return net.model()


def ssd_mobilenet_v2(lite: bool) -> onnx.ModelProto:
    net = Net("ssdlite_mobilenet_v2_300" if lite else "ssd_mobilenet_v2_300", 300)
    last, tap = _mobilenet_v2(net)
    return _ssd(net, [tap, last], lite)


def ssdlite_mobilenet_v3(large: bool) -> onnx.ModelProto:
    net = Net(f"ssdlite_mobilenet_v3_{'large' if large else 'small'}_320", 320)
    last, tap = _mobilenet_v3(net, large)
    return _ssd(net, [tap, last], lite=True)


# ---- EfficientDet-lite: EfficientNet-lite (no squeeze-and-excite, ReLU6, stem and head not scaled), BiFPN with plain
# sums (arXiv 1911.09070), separable convolutions; sizes from the public configuration (hparams_config of the authors)

_EFFICIENTNET = [
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 3, 80, 2), (6, 5, 3, 112, 1), (6, 5, 4, 192, 2),
    (6, 3, 1, 320, 1),
]  # fmt: skip


def _efficientnet_lite(net: Net, width: float, depth: float) -> list[str]:
    """The feature maps at strides 8, 16 and 32."""
    x = net.conv("x", 32, 3, 2, "relu6")
    maps: dict[int, str] = {}
    total = 2
    for stage, (expansion, kernel, repeats, out, first_stride) in enumerate(_EFFICIENTNET):
        scaled = repeats if stage in (0, len(_EFFICIENTNET) - 1) else math.ceil(depth * repeats)
        for index in range(scaled):
            stride = first_stride if index == 0 else 1
            total *= stride
            filters = _round(width * out)
            y = net.conv(x, net.channels(x) * expansion, act="relu6") if expansion > 1 else x
            y = net.conv(net.depthwise(y, kernel, stride, "relu6"), filters)
            x = net.add(x, y) if stride == 1 and net.channels(x) == filters else y
        maps[total] = x
    return [maps[8], maps[16], maps[32]]


def efficientdet_lite(size: int, width: float, depth: float, filters: int, cells: int, towers: int) -> onnx.ModelProto:
    net = Net(f"efficientdet_lite_{size}_{filters}", size)
    c3, c4, c5 = _efficientnet_lite(net, width, depth)
    p6 = net.max_pool(net.conv(c5, filters), 3, 2)
    levels = [c3, c4, c5, p6, net.max_pool(p6, 3, 2)]

    def sized(x: str) -> str:
        return x if net.channels(x) == filters else net.conv(x, filters)

    def node(*inputs: str) -> str:
        x = inputs[0]
        for other in inputs[1:]:
            x = net.add(x, other)
        return net.conv(net.depthwise(net.act(x, "relu6"), 3), filters)

    def fit(x: str, like: str) -> str:
        """Twice the size, cut by one where the level below is odd."""
        y = net.up(x)
        height, width_ = net.shapes[like][2:]
        if net.shapes[y][2:] != (height, width_):
            ends = net.constant(np.array([height, width_]))
            starts, axes = net.constant(np.array([0, 0])), net.constant(np.array([2, 3]))
            y = net.op("Slice", [y, starts, ends, axes], (1, filters, height, width_))
        return y

    for _ in range(cells):
        middle = [levels[4]]
        for level in (3, 2, 1):
            middle.insert(0, node(sized(levels[level]), fit(middle[0], levels[level])))
        lowest = node(sized(levels[0]), fit(middle[0], levels[0]))
        fresh = [lowest]
        for level in (1, 2, 3):
            fresh.append(node(sized(levels[level]), middle[level - 1], net.max_pool(fresh[-1], 3, 2)))
        fresh.append(node(sized(levels[4]), net.max_pool(fresh[-1], 3, 2)))
        levels = fresh
    for level in levels:
        for out, act in ((9 * 90, "sigmoid"), (9 * 4, "")):
            x = level
            for _ in range(towers):
                x = net.conv(net.depthwise(x, 3), filters, act="relu6")
            net.outputs.append(net.conv(net.depthwise(x, 3), out, act=act))
    return net.model()


# ---- Classifiers of torchvision: ResNet (arXiv 1512.03385, stride in the 3x3), SqueezeNet 1.0 (arXiv 1602.07360),
# GoogLeNet with batch norm (arXiv 1409.4842; its 5x5 branch is a 3x3 there), Inception v3 (arXiv 1512.00567)


def resnet(blocks: list[int], bottleneck: bool) -> onnx.ModelProto:
    net = Net(f"resnet_{sum(blocks)}", 224, torch_padding=True)
    x = net.max_pool(net.conv("x", 64, 7, 2, "relu"), 3, 2)
    for stage, repeats in enumerate(blocks):
        inner = 64 << stage
        out = inner * 4 if bottleneck else inner
        for index in range(repeats):
            stride = 2 if stage and index == 0 else 1
            if bottleneck:
                y = net.conv(net.conv(net.conv(x, inner, act="relu"), inner, 3, stride, "relu"), out)
            else:
                y = net.conv(net.conv(x, inner, 3, stride, "relu"), out, 3)
            short = x if stride == 1 and net.channels(x) == out else net.conv(x, out, 1, stride)
            x = net.act(net.add(y, short), "relu")
    net.classify(x, 1000)
    return net.model()


def squeezenet() -> onnx.ModelProto:
    net = Net("squeezenet_1_0", 224, torch_padding=True)
    x = net.conv("x", 96, 7, 2, "relu", valid=True)
    for squeeze, expand in [(0, 0), (16, 64), (16, 64), (32, 128), (0, 0), (32, 128), (48, 192), (48, 192), (64, 256),
                            (0, 0), (64, 256)]:  # fmt: skip
        if not squeeze:
            x = net.max_pool(x, 3, 2, valid=True, ceil=True)
            continue
        x = net.conv(x, squeeze, act="relu")
        x = net.concat([net.conv(x, expand, act="relu"), net.conv(x, expand, 3, act="relu")])
    x = net.mean(net.conv(x, 1000, act="relu"))
    net.outputs.append(net.reshape(x, (1, 1000)))
    return net.model()


_GOOGLENET = [
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), (), (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), (),
    (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
]  # fmt: skip


def googlenet() -> onnx.ModelProto:
    net = Net("googlenet", 224, torch_padding=True)
    x = net.max_pool(net.conv("x", 64, 7, 2, "relu"), 3, 2, valid=True, ceil=True)
    x = net.conv(net.conv(x, 64, act="relu"), 192, 3, act="relu")
    x = net.max_pool(x, 3, 2, valid=True, ceil=True)
    pools = 0
    for sizes in _GOOGLENET:
        if not sizes:
            pools += 1
            x = net.max_pool(x, 3 if pools == 1 else 2, 2, valid=True, ceil=True)
            continue
        one, three_in, three, five_in, five, pool = sizes
        x = net.concat(
            [
                net.conv(x, one, act="relu"),
                net.conv(net.conv(x, three_in, act="relu"), three, 3, act="relu"),
                net.conv(net.conv(x, five_in, act="relu"), five, 3, act="relu"),
                net.conv(net.max_pool(x, 3, 1), pool, act="relu"),
            ]
        )
    net.classify(x, 1000)
    return net.model()


def inception_v3() -> onnx.ModelProto:
    net = Net("inception_v3", 299, torch_padding=True)

    def chain(x: str, *steps: tuple[int, int | tuple[int, int]]) -> str:
        for out, kernel in steps:
            x = net.conv(x, out, kernel, act="relu")
        return x

    x = net.conv("x", 32, 3, 2, "relu", valid=True)
    x = net.conv(net.conv(x, 32, 3, 1, "relu", valid=True), 64, 3, act="relu")
    x = net.max_pool(x, 3, 2, valid=True)
    x = net.conv(net.conv(x, 80, act="relu"), 192, 3, 1, "relu", valid=True)
    x = net.max_pool(x, 3, 2, valid=True)
    for pool in (32, 64, 64):
        x = net.concat(
            [
                chain(x, (64, 1)),
                chain(x, (48, 1), (64, 5)),
                chain(x, (64, 1), (96, 3), (96, 3)),
                chain(net.average_pool(x, 3), (pool, 1)),
            ]
        )
    double = net.conv(chain(x, (64, 1), (96, 3)), 96, 3, 2, "relu", valid=True)
    x = net.concat([net.conv(x, 384, 3, 2, "relu", valid=True), double, net.max_pool(x, 3, 2, valid=True)])
    for c in (128, 160, 160, 192):
        x = net.concat(
            [
                chain(x, (192, 1)),
                chain(x, (c, 1), (c, (1, 7)), (192, (7, 1))),
                chain(x, (c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7))),
                chain(net.average_pool(x, 3), (192, 1)),
            ]
        )
    three = net.conv(chain(x, (192, 1)), 320, 3, 2, "relu", valid=True)
    seven = net.conv(chain(x, (192, 1), (192, (1, 7)), (192, (7, 1))), 192, 3, 2, "relu", valid=True)
    x = net.concat([three, seven, net.max_pool(x, 3, 2, valid=True)])
    for _ in range(2):
        three = chain(x, (384, 1))
        double = chain(x, (448, 1), (384, 3))
        x = net.concat(
            [
                chain(x, (320, 1)),
                net.concat([chain(three, (384, (1, 3))), chain(three, (384, (3, 1)))]),
                net.concat([chain(double, (384, (1, 3))), chain(double, (384, (3, 1)))]),
                chain(net.average_pool(x, 3), (192, 1)),
            ]
        )
    net.classify(x, 1000)
    return net.model()


# ---- YOLO11 (Ultralytics, 80 classes, 640x640): the block structure of its public model description


def yolo11(width: float) -> onnx.ModelProto:
    net = Net(f"yolo11_{width}", 640, torch_padding=True)

    def wide(channels: int) -> int:
        return math.ceil(min(channels, 1024) * width / 8) * 8

    def conv(x: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        return net.conv(x, out, kernel, stride, "silu", groups)

    def bottleneck(x: str, hidden: int) -> str:
        return net.add(x, conv(conv(x, hidden, 3), net.channels(x), 3))

    def c3k(x: str) -> str:
        out = net.channels(x)
        left, right = conv(x, out // 2), conv(x, out // 2)
        for _ in range(2):
            left = bottleneck(left, out // 2)
        return conv(net.concat([left, right]), out)

    def c3k2(x: str, out: int, nested: bool, ratio: float = 0.5) -> str:
        inner = int(out * ratio)
        first, second = net.split(conv(x, 2 * inner))
        third = c3k(second) if nested else bottleneck(second, inner // 2)
        return conv(net.concat([first, second, third]), out)

    def attention(x: str) -> str:
        dim, height, width_ = net.shapes[x][1:]
        heads = dim // 64
        key = 32
        qkv = net.conv(x, dim + 2 * key * heads)
        parts = net.reshape(qkv, (heads, 2 * key + 64, height * width_))

        def part(start: int, end: int) -> str:
            bounds = [net.constant(np.array([value])) for value in (start, end, 1)]
            return net.op("Slice", [parts, *bounds], (heads, end - start, height * width_))

        query, keys, value = part(0, key), part(key, 2 * key), part(2 * key, 2 * key + 64)
        scores = net.matmul(net.transpose(query, 0, 2, 1), keys)
        scores = net.softmax(net.mul(scores, net.constant(np.float32(key**-0.5))))
        mixed = net.reshape(net.matmul(value, net.transpose(scores, 0, 2, 1)), (1, dim, height, width_))
        place = net.depthwise(net.reshape(value, (1, dim, height, width_)), 3)
        return net.conv(net.add(mixed, place), dim)

    x = conv(conv("x", wide(64), 3, 2), wide(128), 3, 2)
    x = conv(c3k2(x, wide(256), False, 0.25), wide(256), 3, 2)
    p3 = c3k2(x, wide(512), False, 0.25)
    p4 = c3k2(conv(p3, wide(512), 3, 2), wide(512), True)
    x = c3k2(conv(p4, wide(1024), 3, 2), wide(1024), True)
    pooled = [conv(x, wide(1024) // 2)]
    for _ in range(3):
        pooled.append(net.max_pool(pooled[-1], 5, 1))
    x = conv(net.concat(pooled), wide(1024))
    first, second = net.split(conv(x, wide(1024)))
    second = net.add(second, attention(second))
    grown = conv(second, 2 * net.channels(second))
    second = net.add(second, net.conv(grown, net.channels(second)))
    p5 = conv(net.concat([first, second]), wide(1024))
    up4 = c3k2(net.concat([net.up(p5), p4]), wide(512), False)
    out3 = c3k2(net.concat([net.up(up4), p3]), wide(256), False)
    out4 = c3k2(net.concat([conv(out3, wide(256), 3, 2), up4]), wide(512), False)
    out5 = c3k2(net.concat([conv(out4, wide(512), 3, 2), p5]), wide(1024), True)
    box, scores = max(16, wide(256) // 4, 64), max(wide(256), 80)
    rows = []
    for level in (out3, out4, out5):
        cells = net.shapes[level][2] * net.shapes[level][3]
        boxes = net.conv(conv(conv(level, box, 3), box, 3), 64)
        y = conv(conv(level, net.channels(level), 3, groups=net.channels(level)), scores)
        y = net.conv(conv(conv(y, scores, 3, groups=scores), scores), 80)
        rows.append(net.reshape(net.concat([boxes, y]), (1, 144, cells)))
    every = net.concat(rows, axis=2)
    count = net.shapes[every][2]
    bins = net.op("Slice", [every, *(net.constant(np.array([v])) for v in (0, 64, 1))], (1, 64, count))
    classes = net.op("Slice", [every, *(net.constant(np.array([v])) for v in (64, 144, 1))], (1, 80, count))
    spread = net.softmax(net.transpose(net.reshape(bins, (1, 4, 16, count)), 0, 2, 1, 3), axis=1)
    net.outputs += [net.conv(spread, 1), net.act(classes, "sigmoid")]
    return net.model()


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mobilenet_v1_224": mobilenet_v1,
    "mobilenet_v2_224": mobilenet_v2,
    "mobilenet_v2_224_torch": lambda: mobilenet_v2(1000, torch=True),
    "ssdlite_mobilenet_v2_300": lambda: ssd_mobilenet_v2(lite=True),
    "ssd_mobilenet_v2_300": lambda: ssd_mobilenet_v2(lite=False),
    "ssdlite_mobilenet_v3_small_320": lambda: ssdlite_mobilenet_v3(large=False),
    "ssdlite_mobilenet_v3_large_320": lambda: ssdlite_mobilenet_v3(large=True),
    "efficientdet_lite0_320": lambda: efficientdet_lite(320, 1.0, 1.0, 64, 3, 3),
    "efficientdet_lite1_384": lambda: efficientdet_lite(384, 1.0, 1.1, 88, 4, 3),
    "efficientdet_lite2_448": lambda: efficientdet_lite(448, 1.1, 1.2, 112, 5, 3),
    "efficientdet_lite3_512": lambda: efficientdet_lite(512, 1.2, 1.4, 160, 6, 4),
    "efficientdet_lite3x_640": lambda: efficientdet_lite(640, 1.2, 1.4, 200, 6, 4),
    "efficientdet_lite4_640": lambda: efficientdet_lite(640, 1.4, 1.8, 224, 7, 4),
    "resnet18": lambda: resnet([2, 2, 2, 2], bottleneck=False),
    "resnet50": lambda: resnet([3, 4, 6, 3], bottleneck=True),
    "squeezenet_1_0": squeezenet,
    "googlenet": googlenet,
    "inception_v3": inception_v3,
    "yolo11n_640": lambda: yolo11(0.25),
    "yolo11s_640": lambda: yolo11(0.5),
}
"""Name -> builder, as `pi_latency.py` refers to them."""


def build(name: str) -> onnx.ModelProto:
    """The network as a checked ONNX model, the same bytes each time."""
    model = NETWORKS[name]()
    onnx.checker.check_model(model)
    return model
