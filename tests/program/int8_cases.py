"""Programs of one integer operator, drawn by hypothesis: shapes, strides, paddings, scales, zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from leanedge.compress.types import TensorQuant
from leanedge.program.types import (
    Activation,
    BatchMatmulOptions,
    ConcatenationOptions,
    ConvOptions,
    Dense,
    ElementwiseOptions,
    FullyConnectedOptions,
    GatherOptions,
    Kind,
    LeakyReluOptions,
    NoOptions,
    Options,
    PadOptions,
    PoolOptions,
    Port,
    Program,
    ProgramOperator,
    ProgramTensor,
    ReduceOptions,
    ResizeOptions,
    SoftmaxOptions,
    SplitOptions,
    StridedSliceOptions,
    TransposeConvOptions,
    TransposeOptions,
)

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

ZERO_POINTS = st.one_of(st.integers(-128, 127), st.sampled_from([-128, 0, 127]))
POWERS = st.floats(-0.5, 0.5)


def quant(scale: Any, zero_point: Any, axis: int | None = None, dtype: Any = "int8") -> TensorQuant:
    return TensorQuant(dtype, np.asarray(scale, np.float32), np.asarray(zero_point, np.int64), axis)


def quants(low: float = -3.0, high: float = 0.0) -> st.SearchStrategy[TensorQuant]:
    return st.builds(lambda power, zero: quant(10**power, zero), st.floats(low, high), ZERO_POINTS)


def program(
    kind: Kind,
    inputs: list[tuple[Shape, TensorQuant]],
    outputs: list[tuple[Shape, TensorQuant]],
    options: Options | None = None,
    constants: list[tuple[Array, TensorQuant | None]] | None = None,
) -> Program:
    tensors = {f"i{n}": ProgramTensor(f"i{n}", shape, q.dtype, q) for n, (shape, q) in enumerate(inputs)}
    ports = tuple(Port(name, name) for name in tensors)
    for n, (array, q) in enumerate(constants or []):
        dtype: Any = str(array.dtype)
        tensors[f"c{n}"] = ProgramTensor(f"c{n}", array.shape, dtype, q, Dense(array))
    made = {f"o{n}": ProgramTensor(f"o{n}", shape, q.dtype, q) for n, (shape, q) in enumerate(outputs)}
    operator = ProgramOperator("op", kind, tuple(tensors), tuple(made), options or NoOptions())
    return Program({**tensors, **made}, (operator,), ports, tuple(Port(name, name) for name in made))


def _out(draw: Any, scale: float) -> TensorQuant:
    """Scales around the one that fills the range, so that little saturates."""
    return quant(scale * 10 ** draw(POWERS), draw(ZERO_POINTS))


def _random(draw: Any) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32)))


def _along(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, tuple[int, int]]:
    """(size of the output, pads) along one axis, as TensorFlow has them."""
    span = (kernel - 1) * dilation + 1
    if not same:
        return (size - span) // stride + 1, (0, 0)
    out = -(-size // stride)
    total = max((out - 1) * stride + span - size, 0)
    return out, (total // 2, total - total // 2)


def _image_windows(draw: Any, dilated: bool = False) -> Any:
    """An image and a window over it: (image's shape, kernel, strides, dilations, output's shape but channels, pads)."""
    height, width, channels = draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(1, 6))
    same = draw(st.booleans())
    kernel = draw(st.integers(1, min(height, 4))), draw(st.integers(1, min(width, 4)))
    strides = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilations = (1, 1)
    if dilated:
        fitting = [one for one in (1, 2, 3) if same or (max(kernel) - 1) * one < min(height, width)]
        dilations = (draw(st.sampled_from(fitting or [1])),) * 2
    rows, down = _along(height, kernel[0], strides[0], dilations[0], same)
    columns, across = _along(width, kernel[1], strides[1], dilations[1], same)
    return (1, height, width, channels), kernel, strides, dilations, (1, rows, columns), (*down, *across)


ACTIVATIONS: list[Activation] = ["none", "relu", "relu6", "relu_n1_to_1"]


@st.composite
def conv(draw: Any, kind: Kind) -> Program:
    shape, kernel, strides, dilations, out, pads = _image_windows(draw, dilated=True)
    random, source = _random(draw), draw(quants())
    channels = shape[3]
    outputs = channels * draw(st.integers(1, 2)) if kind == "depthwise_conv_2d" else draw(st.integers(1, 8))
    size = (1, *kernel, outputs) if kind == "depthwise_conv_2d" else (outputs, *kernel, channels)
    scales = (10 ** random.uniform(-3, -1, outputs)).astype(np.float32)
    weights = (random.integers(-127, 128, size).astype(np.int8), quant(scales, np.zeros(outputs), size.index(outputs)))
    weights = (weights[0], quant(scales, np.zeros(outputs), 3 if kind == "depthwise_conv_2d" else 0))
    bias_scale = source.scale * scales
    bias = (random.integers(-3000, 3000, outputs).astype(np.int32), quant(bias_scale, np.zeros(outputs), 0, "int32"))
    fan_in = kernel[0] * kernel[1] * (1 if kind == "depthwise_conv_2d" else channels)
    result = _out(draw, float(source.scale) * float(scales.mean()) * np.sqrt(fan_in) * 60)
    options = ConvOptions(strides, dilations, pads, draw(st.sampled_from(ACTIVATIONS)))
    return program(kind, [(shape, source)], [((*out, outputs), result)], options, [weights, bias])


@st.composite
def transpose_conv(draw: Any) -> Program:
    height, width, channels, outputs = (draw(st.integers(1, 5)) for _ in range(4))
    kh, kw, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    random, source = _random(draw), draw(quants())
    scales = (10 ** random.uniform(-3, -1, outputs)).astype(np.float32)
    weights = random.integers(-127, 128, (outputs, kh, kw, channels)).astype(np.int8)
    bias = random.integers(-3000, 3000, outputs).astype(np.int32)
    result = _out(draw, float(source.scale) * float(scales.mean()) * np.sqrt(kh * kw * channels) * 60)
    whole = (height - 1) * stride + kh, (width - 1) * stride + kw
    pads, shape = (0, 0, 0, 0), (1, *whole, outputs)
    if draw(st.booleans()) and kh >= stride and kw >= stride:  # TensorFlow's SAME
        cut = whole[0] - height * stride, whole[1] - width * stride
        pads = (cut[0] // 2, cut[0] - cut[0] // 2, cut[1] // 2, cut[1] - cut[1] // 2)
        shape = (1, height * stride, width * stride, outputs)
    constants: list[Any] = [
        (weights, quant(scales, np.zeros(outputs), 0)),
        (bias, quant(source.scale * scales, np.zeros(outputs), 0, "int32")),
    ]
    options = TransposeConvOptions((stride, stride), pads)
    return program("transpose_conv", [((1, height, width, channels), source)], [(shape, result)], options, constants)


@st.composite
def fully_connected(draw: Any) -> Program:
    inputs, outputs = draw(st.integers(1, 80)), draw(st.integers(1, 20))
    random, source = _random(draw), draw(quants())
    # A file can't say "per channel" of one channel.
    if outputs > 1 and draw(st.booleans()):
        weight = quant(10 ** random.uniform(-3, -1, outputs), np.zeros(outputs), 0)
        bias = quant(source.scale * weight.scale, np.zeros(outputs), 0, "int32")
    else:
        weight = quant(10 ** draw(st.floats(-3, -1)), 0)
        bias = quant(source.scale * weight.scale, 0, None, "int32")
    result = _out(draw, float(source.scale) * float(weight.scale.mean()) * np.sqrt(inputs) * 60)
    constants: list[Any] = [
        (random.integers(-127, 128, (outputs, inputs)).astype(np.int8), weight),
        (random.integers(-3000, 3000, outputs).astype(np.int32), bias),
    ]
    options = FullyConnectedOptions(draw(st.sampled_from(ACTIVATIONS[:3])))
    return program("fully_connected", [((1, inputs), source)], [((1, outputs), result)], options, constants)


@st.composite
def batch_matmul(draw: Any) -> Program:
    rows, inner, columns = (draw(st.integers(1, 8)) for _ in range(3))
    left, right = draw(quants()), draw(quants())
    result = _out(draw, float(left.scale) * float(right.scale) * np.sqrt(inner) * 4000)
    inputs = [((1, 2, rows, inner), left), ((1, 2, inner, columns), right)]
    return program("batch_matmul", inputs, [((1, 2, rows, columns), result)], BatchMatmulOptions())


@st.composite
def elementwise(draw: Any, kind: Kind) -> Program:
    shape = (1, draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 8)))
    other = draw(st.sampled_from([shape, (1, 1, 1, shape[3]), (1, 1, 1, 1), (1, shape[1], 1, 1)]))
    left, right = draw(quants(-2)), draw(quants(-2))
    product = float(left.scale) * float(right.scale) * 100
    result = _out(draw, product if kind == "mul" else float(left.scale) + float(right.scale))
    options = ElementwiseOptions(draw(st.sampled_from(ACTIVATIONS[:3])))
    return program(kind, [(shape, left), (other, right)], [(shape, result)], options)


@st.composite
def pool(draw: Any, kind: Kind) -> Program:
    shape, kernel, strides, _, out, pads = _image_windows(draw)
    source = draw(quants())
    options = PoolOptions(kernel, strides, pads, draw(st.sampled_from(ACTIVATIONS[:3])))
    return program(kind, [(shape, source)], [((*out, shape[3]), source)], options)


@st.composite
def mean(draw: Any) -> Program:
    shape = (1, *(draw(st.integers(1, 11)) for _ in range(3)))
    axes = draw(st.sampled_from([(1, 2), (1,), (2,), (3,), (1, 2, 3)]))
    keep = draw(st.booleans())
    out = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes)
    source = draw(quants(-2))
    result = source if draw(st.booleans()) else _out(draw, float(source.scale) / 2)
    return program("mean", [(shape, source)], [(out, result)], ReduceOptions(axes, keep))


@st.composite
def unary(draw: Any, kind: Kind, fixed: TensorQuant | None = None, tied: bool = False) -> Program:
    shape = (1, draw(st.integers(1, 20)), 16)
    source = draw(quants(-2.5, -0.5))
    result = fixed or (source if tied else _out(draw, float(source.scale)))
    options: Options = LeakyReluOptions(draw(st.floats(0, 0.9))) if kind == "leaky_relu" else NoOptions()
    return program(kind, [(shape, source)], [(shape, result)], options)


@st.composite
def softmax(draw: Any) -> Program:
    shape = (draw(st.integers(1, 20)), draw(st.integers(2, 40)))
    return program("softmax", [(shape, draw(quants()))], [(shape, quant(1 / 256, -128))], SoftmaxOptions())


@st.composite
def prelu(draw: Any) -> Program:
    channels = draw(st.integers(1, 8))
    shape, source = (1, 4, 5, channels), draw(quants(-2))
    slopes = _random(draw).integers(-128, 128, (1, 1, channels)).astype(np.int8)
    constants: list[Any] = [(slopes, draw(quants(-3, -1)))]
    return program("prelu", [(shape, source)], [(shape, _out(draw, float(source.scale)))], None, constants)


@st.composite
def resize(draw: Any, kind: Kind) -> Program:
    height, width, channels, rows, columns = (draw(st.integers(1, 8)) for _ in range(5))
    options = draw(st.sampled_from([ResizeOptions(), ResizeOptions(False, True), ResizeOptions(True, False)]))
    source = draw(quants())
    return program(kind, [((1, height, width, channels), source)], [((1, rows, columns, channels), source)], options)


@st.composite
def pad(draw: Any) -> Program:
    shape = tuple(draw(st.integers(1, 5)) for _ in range(4))
    pads = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape)
    source = draw(quants())
    value = draw(st.sampled_from([0.0, None, 5 * float(source.scale)]))
    out = tuple(size + before + after for size, (before, after) in zip(shape, pads, strict=True))
    return program("pad", [(shape, source)], [(out, source)], PadOptions(pads, value))


@st.composite
def concatenation(draw: Any) -> Program:
    axis, source = draw(st.integers(1, 3)), draw(quants())
    sizes = [draw(st.integers(1, 5)), draw(st.integers(1, 5))]
    shapes = [tuple(size if place == axis else 3 for place in range(4)) for size in (*sizes, sum(sizes))]
    inputs = [(shape, source) for shape in shapes[:2]]
    return program("concatenation", inputs, [(shapes[2], source)], ConcatenationOptions(axis))


@st.composite
def transpose(draw: Any) -> Program:
    shape = tuple(draw(st.integers(1, 5)) for _ in range(4))
    order = tuple(draw(st.permutations(range(4))))
    source = draw(quants())
    out = tuple(shape[axis] for axis in order)
    return program("transpose", [(shape, source)], [(out, source)], TransposeOptions(order))


@st.composite
def split(draw: Any) -> Program:
    parts, axis, source = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(quants())
    shape = tuple(2 * parts if place == axis else 3 for place in range(4))
    part = tuple(2 if place == axis else 3 for place in range(4))
    return program("split", [(shape, source)], [(part, source)] * parts, SplitOptions(axis))


@st.composite
def strided_slice(draw: Any) -> Program:
    shape = tuple(draw(st.integers(2, 6)) for _ in range(4))
    begin, end, strides = [], [], []
    for size in shape:
        stride, start = draw(st.sampled_from([1, 2, -1])), draw(st.integers(0, size - 1))
        begin.append(start)
        end.append(draw(st.integers(start + 1, size)) if stride > 0 else draw(st.integers(-1, start - 1)))
        strides.append(stride)
    out = tuple(len(range(*bounds)) for bounds in zip(begin, end, strides, strict=True))
    source = draw(quants())
    options = StridedSliceOptions(tuple(begin), tuple(end), tuple(strides))
    return program("strided_slice", [(shape, source)], [(out, source)], options)


@st.composite
def gather(draw: Any) -> Program:
    axis, source = draw(st.integers(0, 2)), draw(quants())
    shape = (5, 6, 3)
    indices = _random(draw).integers(0, shape[axis], 4).astype(np.int32)
    out = tuple(4 if place == axis else size for place, size in enumerate(shape))
    return program("gather", [(shape, source)], [(out, source)], GatherOptions(axis), [(indices, None)])


@st.composite
def pick(draw: Any, kind: Kind) -> Program:
    source = draw(quants())
    return program(kind, [((1, 32), source), ((1, 32), source)], [((1, 32), source)])


CASES: dict[Kind, st.SearchStrategy[Program]] = {
    "conv_2d": conv("conv_2d"),
    "depthwise_conv_2d": conv("depthwise_conv_2d"),
    "transpose_conv": transpose_conv(),
    "fully_connected": fully_connected(),
    "batch_matmul": batch_matmul(),
    "add": elementwise("add"),
    "sub": elementwise("sub"),
    "mul": elementwise("mul"),
    "maximum": pick("maximum"),
    "minimum": pick("minimum"),
    "max_pool": pool("max_pool"),
    "average_pool": pool("average_pool"),
    "mean": mean(),
    "softmax": softmax(),
    "logistic": unary("logistic", quant(1 / 256, -128)),
    "tanh": unary("tanh", quant(1 / 128, 0)),
    "relu": unary("relu"),
    "relu6": unary("relu6", tied=True),
    "relu_n1_to_1": unary("relu_n1_to_1", tied=True),
    "hard_swish": unary("hard_swish"),
    "leaky_relu": unary("leaky_relu"),
    "prelu": prelu(),
    "pad": pad(),
    "transpose": transpose(),
    "concatenation": concatenation(),
    "split": split(),
    "strided_slice": strided_slice(),
    "resize_nearest": resize("resize_nearest"),
    "resize_bilinear": resize("resize_bilinear"),
    "gather": gather(),
    "quantize": unary("quantize"),
}
"""Every kind that has an int8 kernel; reshape and dequantize stand in whole models."""
