"""Convolutions of any window as a matrix product: windows are widened straight from the image (implicit im2col).

A padded image is gone through in bands of rows that are copied into scratch with their padding, so that windows need
no border checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ..cores import core_named
from .assembly import shared_function
from .bands import Band, in_bands, least_lead
from .gather import gather
from .gemm import Pixels, packed_weights, two_pixel_gemm

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

    from .gemm import WeightBits

__all__ = ["convolution_int8", "convolution_int16", "segments"]

_MOST_PAIRS = 320
"""Pairs of a window that are written out one by one: about 41 bytes of code each."""


def convolution_int16(layer: Layer) -> Kernel | None:
    """Weights widened to 16 bits in flash: the fewest instructions."""
    return _convolution(layer, 16)


def convolution_int8(layer: Layer) -> Kernel | None:
    """Two channels' weights in each 16 bits: half the flash."""
    return _convolution(layer, 8)


def _convolution(layer: Layer, bits: WeightBits) -> Kernel | None:
    if layer.operator.kind != "conv_2d" or not core_named(layer.core).dsp:
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    rows, columns, outputs = numbers.output_shape
    pointwise = numbers.kernel == (1, 1) and numbers.strides == (1, 1) and not any(numbers.pads)
    grouped = numbers.weights.shape[3] != numbers.input_shape[2]
    if pointwise or grouped or outputs > 2000 or rows * columns < 2:
        return None
    band = Band.of(numbers)
    window = gather(segments(numbers, band.row_bytes))
    if len(window.pairs) > _MOST_PAIRS:
        return None
    weights = packed_weights(numbers, window.pairs, bits)
    if weights is None:
        return None
    depth, (down, across) = numbers.input_shape[2], numbers.strides
    pixels = Pixels(band.rows * columns, columns, across * depth, down * band.row_bytes)
    stream = f"{layer.prefix}_stream"
    note = f"{band.rows} rows of {columns} windows x {numbers.weights[0].size} -> {outputs} channels."
    parameters = ("const int8_t *input", "const int32_t *stream", "int8_t *output")
    lines = two_pixel_gemm(weights, window, pixels, core_named(layer.core).fpu)
    product, source = shared_function(f"convolution_int{bits}_{outputs}", parameters, note, lines)
    call = f"{product}({{input0}}, {stream}, {{output0}});"
    constants = [Constant(stream, weights.stream, "per four channels: starting sums, weights, multipliers")]
    if band.copied:
        constants.append(band.table(numbers, f"{layer.prefix}_bands"))
        outer, more = in_bands(product)
        source += more
        call = f"{outer}({{input0}}, {stream}, {{output0}}, {constants[1].name}, {{scratch}});"
    return Kernel(
        name=f"convolution_int{bits}",
        call=call,
        constants=tuple(constants),
        source=source,
        scratch_bytes=(band.nbytes + 3) // 4 * 4 if band.copied else 0,
        leads=(least_lead(numbers, band),),
    )


def segments(layer: WeightedLayer, row_bytes: int) -> list[tuple[int, int]]:
    """(offset, length) of the runs of bytes that a window consists of."""
    depth, (high, wide) = layer.input_shape[2], layer.kernel
    down, across = layer.dilations
    if across == 1 or wide == 1:
        return [(row * down * row_bytes, wide * depth) for row in range(high)]
    return [(row * down * row_bytes + x * across * depth, depth) for row in range(high) for x in range(wide)]
