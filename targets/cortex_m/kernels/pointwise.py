"""1x1 convolutions of stride 1 (and fully_connected of several rows): every window is a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import WeightedLayer, weighted_layer

from ..cores import core_named
from .assembly import shared_function
from .gather import gather
from .gemm import Pixels, packed_weights, two_pixel_gemm

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer

    from .gemm import WeightBits

__all__ = ["pointwise_int8", "pointwise_int16"]


def pointwise_int16(layer: Layer) -> Kernel | None:
    """Weights widened to 16 bits in flash: the fewest instructions."""
    return _pointwise(layer, 16)


def pointwise_int8(layer: Layer) -> Kernel | None:
    """Two channels' weights in each 16 bits: half the flash, about one instruction in eight more."""
    return _pointwise(layer, 8)


def _pointwise(layer: Layer, bits: WeightBits) -> Kernel | None:
    numbers = _as_pointwise(layer)
    if numbers is None:
        return None
    rows, columns, outputs = numbers.output_shape
    depth, count = numbers.input_shape[2], rows * columns
    window = gather([(0, depth)])
    weights = packed_weights(numbers, window.pairs, bits)
    if weights is None or count < 2 or depth > 1024 or outputs > 2000:
        return None
    stream = f"{layer.prefix}_stream"
    lines = two_pixel_gemm(weights, window, Pixels(count, count, depth, count * depth), core_named(layer.core).fpu)
    note = f"{count} pixels x {depth} -> {outputs} channels, two pixels and four channels at a time."
    parameters = ("const int8_t *input", "const int32_t *stream", "int8_t *output")
    stem = f"pointwise_int{bits}_{depth}_{outputs}"
    name, source = shared_function(stem, parameters, note, lines)
    return Kernel(
        name=f"pointwise_int{bits}",
        call=f"{name}({{input0}}, {stream}, {{output0}});",
        constants=(Constant(stream, weights.stream, "per four channels: starting sums, weights, multipliers"),),
        source=source,
        leads=(max((pixel * (outputs - depth) for pixel in range(2, count, 2)), default=-count * depth),),
    )


def _as_pointwise(layer: Layer) -> WeightedLayer | None:
    """The layer's numbers if each output pixel depends on the same input pixel only."""
    if not core_named(layer.core).dsp or layer.operator.kind not in ("conv_2d", "fully_connected"):
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    plain = numbers.kernel == (1, 1) and numbers.strides == (1, 1) and not any(numbers.pads)
    return numbers if plain and numbers.weights.shape[-1] == numbers.input_shape[2] else None
