"""Lowering of what looks at neighbours: convolutions, pools, resizes. Conv1d and its kin have height 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.model import attribute
from leanedge.program.arrangement import Arrangement
from leanedge.program.lower_elementwise import bias_of, with_activation
from leanedge.program.types import (
    ConvOptions,
    PadOptions,
    PoolOptions,
    ResizeOptions,
    StridedSliceOptions,
    TransposeConvOptions,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from leanedge.graph.operators import Operator
    from leanedge.program.builder import Builder

__all__ = ["is_same_padding", "lower_conv", "lower_conv_transpose", "lower_pool", "lower_resize"]

Array = np.ndarray[Any, Any]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Window:
    """Kernel, strides, dilations (vertical, horizontal) and pads (top, bottom, left, right) as really read."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: Pads


def _pair(numbers: list[int]) -> tuple[int, int]:
    """One number a spatial axis; height 1 where there is one axis."""
    return (1, int(numbers[0])) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))


def _spatial(tensor_shape: tuple[int, ...]) -> tuple[int, int]:
    return _pair(list(tensor_shape[2:]))


def _window(builder: Builder, operator: Operator, node: ir.Node, kernel: list[int]) -> _Window:
    """The window of a conv or pool; refuses all but one and two spatial axes."""
    shape, result = builder.shape(operator.inputs[0]), builder.shape(operator.output)
    axes = len(shape) - 2
    if axes not in (1, 2):
        raise builder.unsupported(operator, f"{axes} spatial axes", "1 or 2 spatial axes")
    strides = list(attribute(node, "strides", [1] * axes))
    dilations = list(attribute(node, "dilations", [1] * axes))
    given = list(attribute(node, "pads", [0] * 2 * axes))
    auto = attribute(node, "auto_pad", "NOTSET")
    pads: list[int] = []
    for axis in range(axes):
        size, out = shape[2 + axis], result[2 + axis]
        needed = (out - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 - size
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            before = max(needed, 0) // 2 if auto == "SAME_UPPER" else -(-max(needed, 0) // 2)
        else:
            before = 0 if auto == "VALID" else given[axis]
        # Rows past the last window are never read: what counts is what the windows reach.
        pads += [before, max(needed - before, 0)]
    if axes == 1:
        pads = [0, 0, *pads]
    return _Window(_pair(kernel), _pair(strides), _pair(dilations), (pads[0], pads[1], pads[2], pads[3]))


def is_same_padding(
    size: tuple[int, int],
    result: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: Pads,
) -> bool:
    """True where TensorFlow's SAME means these pads (top, bottom, left, right)."""
    for axis in range(2):
        if result[axis] != -(-size[axis] // strides[axis]):
            return False
        total = max((result[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 - size[axis], 0)
        if pads[2 * axis : 2 * axis + 2] != (total // 2, total - total // 2):
            return False
    return True


def _padded(builder: Builder, operator: Operator, tensor: str, window: _Window, lowest: bool) -> tuple[str, Pads]:
    """The tensor with a pad operator in front where neither SAME nor VALID says it, and the pads that are left."""
    source, result = builder.shape(operator.inputs[0]), builder.shape(operator.output)
    if not any(window.pads):
        return tensor, window.pads
    same = is_same_padding(
        _spatial(source), _spatial(result), window.kernel, window.strides, window.dilations, window.pads
    )
    if same or not builder.separate_pads:
        return tensor, window.pads
    return _pad(builder, operator, tensor, window.pads, lowest), (0, 0, 0, 0)


def _pad(builder: Builder, operator: Operator, tensor: str, pads: Pads, lowest: bool) -> str:
    batch, height, width, channels = builder.tensors[tensor].shape
    top, bottom, left, right = pads
    shape = (batch, height + top + bottom, width + left + right, channels)
    padded = builder.part(operator.inputs[0], shape, "padded")
    value = None if lowest else 0.0
    builder.emit("pad", [tensor], [padded], PadOptions(((0, 0), (top, bottom), (left, right), (0, 0)), value))
    return padded


def lower_conv(builder: Builder, operator: Operator) -> None:
    """Conv: depthwise where each group has one input channel, else conv_2d (grouped where the weights say so)."""
    node = builder.graph.node_by_name[operator.id]
    if operator.weight is None:
        raise builder.unsupported(operator, "its weights are computed", "constant weights")
    weights = builder.graph.constants[operator.weight]
    window = _window(builder, operator, node, list(weights.shape[2:]))
    outputs, depth = weights.shape[:2]
    groups = int(attribute(node, "group", 1))
    depthwise = groups > 1 and depth == 1
    split = (outputs, depth, *window.kernel)
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    arrangement = Arrangement(split, order, tuple(split[axis] for axis in order))
    weight = builder.constant(operator.weight, arrangement, "weight", channel_axis=3 if depthwise else 0)
    bias = bias_of(builder, operator, outputs)
    tensor, pads = _padded(builder, operator, builder.read(operator.inputs[0]), window, lowest=False)
    activation, output, finish = with_activation(builder, operator, operator.output)
    options = ConvOptions(window.strides, window.dilations, pads, activation)
    builder.emit("depthwise_conv_2d" if depthwise else "conv_2d", [tensor, weight, bias], [output], options)
    finish()


def lower_conv_transpose(builder: Builder, operator: Operator) -> None:
    """ConvTranspose without groups and dilation; cropped by a slice where SAME and VALID don't say it."""
    node = builder.graph.node_by_name[operator.id]
    if operator.weight is None:
        raise builder.unsupported(operator, "its weights are computed", "constant weights")
    weights = builder.graph.constants[operator.weight]
    axes = weights.ndim - 2
    if axes not in (1, 2) or int(attribute(node, "group", 1)) != 1 or set(attribute(node, "dilations", [1])) != {1}:
        raise builder.unsupported(
            operator, "groups, dilation or a third spatial axis", "1 or 2 spatial axes, group 1, dilation 1"
        )
    kernel = _pair(list(weights.shape[2:]))
    strides = _pair(list(attribute(node, "strides", [1] * axes)))
    size, result = _spatial(builder.shape(operator.inputs[0])), _spatial(builder.shape(operator.output))
    full = tuple((size[axis] - 1) * strides[axis] + kernel[axis] for axis in range(2))
    before = _cut_before(node, axes, full, result)
    pads = (before[0], full[0] - result[0] - before[0], before[1], full[1] - result[1] - before[1])
    if min(pads) < 0:
        raise builder.unsupported(
            operator, "output_padding reaches past the last window", "output_padding of at most the end pads"
        )
    outputs = weights.shape[1]
    split = (weights.shape[0], outputs, *kernel)
    arrangement = Arrangement(split, (1, 2, 3, 0), (outputs, *kernel, weights.shape[0]))
    weight = builder.constant(operator.weight, arrangement, "weight", channel_axis=0)
    bias = bias_of(builder, operator, outputs)
    tensor = builder.read(operator.inputs[0])
    activation, output, finish = with_activation(builder, operator, operator.output)
    # TensorFlow's SAME is the transpose of a forward SAME convolution of the result.
    same = is_same_padding(result, size, kernel, strides, (1, 1), pads)
    whole = same or not any(pads) or not builder.separate_pads
    target = output
    if not whole:
        batch, _, _, channels = builder.tensors[output].shape
        target = builder.part(operator.output, (batch, full[0], full[1], channels), "uncropped")
        pads_left = (0, 0, 0, 0)
    else:
        pads_left = pads
    options = TransposeConvOptions(strides, pads_left, activation)
    builder.emit("transpose_conv", [tensor, weight, bias], [target], options)
    if not whole:
        batch, height, width, channels = builder.tensors[output].shape
        begin = (0, pads[0], pads[2], 0)
        end = (batch, pads[0] + height, pads[2] + width, channels)
        builder.emit("strided_slice", [target], [output], StridedSliceOptions(begin, end, (1, 1, 1, 1)))
    finish()


def _cut_before(node: ir.Node, axes: int, full: tuple[int, ...], result: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns ONNX cuts off the start (operator ConvTranspose, attribute pads)."""
    total = [full[axis] - result[axis] for axis in range(2)]
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return total[0] // 2, total[1] // 2
    if auto == "SAME_LOWER" or attribute(node, "output_shape", None):
        return -(-total[0] // 2), -(-total[1] // 2)
    given = list(attribute(node, "pads", [0] * 2 * axes))
    return (0, given[0]) if axes == 1 else (given[0], given[1])


def lower_pool(builder: Builder, operator: Operator) -> None:
    """MaxPool and AveragePool."""
    node = builder.graph.node_by_name[operator.id]
    kernel = list(attribute(node, "kernel_shape", []))
    window = _window(builder, operator, node, kernel)
    if window.dilations != (1, 1):
        raise builder.unsupported(operator, "dilation", "dilation 1")
    if len(operator.outputs) > 1:
        raise builder.unsupported(operator, "the indices of the largest are used", "the pooled values alone")
    tensor = builder.read(operator.inputs[0])
    if operator.kind == "max_pool":
        # Below a clamp at zero, zeros are as low as anything: a plain pad will do.
        lowest = not _never_negative(builder, operator.inputs[0])
        tensor, pads = _padded(builder, operator, tensor, window, lowest)
        kind = "max_pool"
    else:
        tensor, pads = _average_pads(builder, operator, node, tensor, window)
        kind = "average_pool"
    options = PoolOptions(window.kernel, window.strides, pads)
    output = builder.write(operator.output)
    builder.emit("max_pool" if kind == "max_pool" else "average_pool", [tensor], [output], options)


def _average_pads(
    builder: Builder, operator: Operator, node: ir.Node, tensor: str, window: _Window
) -> tuple[str, Pads]:
    """Zeros that are counted are padded in front; those that are not must be TensorFlow's SAME."""
    if not any(window.pads):
        return tensor, window.pads
    if attribute(node, "count_include_pad", 0):
        if attribute(node, "ceil_mode", 0):
            raise builder.unsupported(operator, "count_include_pad with ceil_mode", "one of them")
        return _pad(builder, operator, tensor, window.pads, lowest=False), (0, 0, 0, 0)
    source, result = builder.shape(operator.inputs[0]), builder.shape(operator.output)
    if builder.separate_pads and not is_same_padding(
        _spatial(source), _spatial(result), window.kernel, window.strides, (1, 1), window.pads
    ):
        raise builder.unsupported(
            operator,
            f"pads {window.pads} that are not counted in the mean",
            "no pads, pads of TensorFlow's SAME, or count_include_pad = 1",
        )
    return tensor, window.pads


def _never_negative(builder: Builder, value: str) -> bool:
    from leanedge.graph.operators import find_operators

    for operator in find_operators(builder.graph):
        if value in operator.outputs:
            clamped = operator.activation is not None and operator.activation[0] >= 0
            return clamped or operator.kind in ("sigmoid", "softmax", "hard_sigmoid")
    return False


def lower_resize(builder: Builder, operator: Operator) -> None:
    """Resize of height and width, nearest or bilinear, in the coordinate systems that TensorFlow Lite has."""
    node = builder.graph.node_by_name[operator.id]
    shape, result = builder.shape(operator.inputs[0]), builder.shape(operator.output)
    if len(shape) not in (3, 4) or shape[:2] != result[:2]:
        raise builder.unsupported(operator, "it resizes more than height and width", "height and width")
    mode = attribute(node, "mode", "nearest")
    if mode not in ("nearest", "linear") or attribute(node, "antialias", 0):
        raise builder.unsupported(operator, f"mode {mode!r} or antialias", "nearest or linear, no antialias")
    scales = _scales(builder, node, shape, result)
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(node, "nearest_mode", "round_prefer_floor")
    candidates = [ResizeOptions(), ResizeOptions(half_pixel_centers=True), ResizeOptions(align_corners=True)]
    for options in candidates:
        ways = [
            np.allclose(_onnx_places(size, out, scale, coordinates), _tflite_places(size, out, options), atol=1e-4)
            if mode == "linear"
            else np.array_equal(
                _onnx_nearest(_onnx_places(size, out, scale, coordinates), size, rounding),
                _tflite_nearest(size, out, options),
            )
            for size, out, scale in zip(shape[2:], result[2:], scales, strict=True)
        ]
        if all(ways):
            tensor = builder.read(operator.inputs[0])
            output = builder.write(operator.output)
            builder.emit("resize_nearest" if mode == "nearest" else "resize_bilinear", [tensor], [output], options)
            return
    raise builder.unsupported(
        operator,
        f"{coordinates} with scales {[float(scale) for scale in scales]}"
        + (f" and rounding {rounding}" if mode == "nearest" else ""),
        "half_pixel, align_corners or asymmetric to a size of exactly scale x input",
    )


def _scales(builder: Builder, node: ir.Node, shape: tuple[int, ...], result: tuple[int, ...]) -> list[float]:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    given = builder.graph.constants.get(str(value.name)) if value is not None else None
    if given is not None and given.size == len(shape):
        return [float(scale) for scale in given[2:]]
    return [out / size for size, out in zip(shape[2:], result[2:], strict=True)]


def _onnx_places(size: int, out: int, scale: float, mode: str) -> Array:
    """Coordinates that ONNX reads (operator Resize, coordinate_transformation_mode)."""
    index = np.arange(out, dtype=np.float64)
    if mode == "align_corners":
        places = index * (size - 1) / (out - 1) if out > 1 else index * 0
    elif mode == "asymmetric":
        places = index / scale
    elif mode == "pytorch_half_pixel" and out == 1:
        places = index * 0
    elif mode in ("half_pixel", "pytorch_half_pixel"):
        places = (index + 0.5) / scale - 0.5
    else:
        places = np.full(out, np.nan)
    return np.asarray(places)


def _tflite_places(size: int, out: int, options: ResizeOptions) -> Array:
    index = np.arange(out, dtype=np.float64)
    if options.align_corners:
        return np.asarray(index * (size - 1) / (out - 1) if out > 1 else index * 0)
    if options.half_pixel_centers:
        return np.asarray((index + 0.5) * size / out - 0.5)
    return np.asarray(index * size / out)


def _onnx_nearest(places: Array, size: int, rounding: str) -> Array:
    if np.isnan(places).any():
        return places
    rounded = {
        "floor": np.floor(places),
        "ceil": np.ceil(places),
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
    }[rounding]
    return np.asarray(np.clip(rounded, 0, size - 1))


def _tflite_nearest(size: int, out: int, options: ResizeOptions) -> Array:
    """Indices that TensorFlow Lite's RESIZE_NEAREST_NEIGHBOR reads."""
    places = _tflite_places(size, out, options)
    if options.align_corners:
        rounded = np.floor(places + 0.5)
    else:
        rounded = np.floor(places + 0.5 if options.half_pixel_centers else places)
    return np.asarray(np.clip(rounded, 0, size - 1))
