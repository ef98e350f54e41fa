"""Convolutions of any window as a matrix product: windows are widened straight from the image (implicit im2col).

A padded image is gone through in bands of rows that are copied into scratch with their padding, so that windows need
no border checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ..cores import core_named
from .assembly import shared_function
from .copying import COPY_BYTES, COPY_BYTES_SOURCE
from .gather import gather
from .gemm import Pixels, packed_weights, two_pixel_gemm

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

    from .gemm import WeightBits

__all__ = ["Band", "convolution_int8", "convolution_int16", "in_bands", "least_lead", "segments"]

_MOST_PAIRS = 320
"""Pairs of a window that are written out one by one: about 41 bytes of code each."""

_BAND_BYTES = 2048
"""Scratch that a band of several rows may take; one row of windows is always allowed."""


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
    name, stream = f"{layer.prefix}_convolution", f"{layer.prefix}_stream"
    note = f"{band.rows} rows of {columns} windows x {numbers.weights[0].size} -> {outputs} channels."
    parameters = ("const int8_t *input", "const int32_t *stream", "int8_t *output")
    lines = two_pixel_gemm(weights, window, pixels, core_named(layer.core).fpu)
    product, source = shared_function(f"convolution_int{bits}_{outputs}", parameters, note, lines)
    call = f"{product}({{input0}}, {stream}, {{output0}});"
    if band.copied:
        source = COPY_BYTES_SOURCE + source + in_bands(numbers, band, name, product)
        call = f"{name}({{input0}}, {stream}, {{output0}}, (int8_t *){{scratch}});"
    return Kernel(
        name=f"convolution_int{bits}",
        call=call,
        constants=(Constant(stream, weights.stream, "per four channels: starting sums, weights, multipliers"),),
        source=source,
        scratch_bytes=(band.nbytes + 3) // 4 * 4 if band.copied else 0,
        leads=(least_lead(numbers, band),),
    )


@dataclass(frozen=True)
class Band:
    """Rows of windows that are computed at a time.

    Attributes:
        rows: Of windows.
        input_rows: That they see.
        row_bytes: From a row that they see to the next.
        copied: Whether the rows are a padded copy; else they are the image itself.
    """

    rows: int
    input_rows: int
    row_bytes: int
    copied: bool

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        return self.input_rows * self.row_bytes

    @classmethod
    def of(cls, layer: WeightedLayer) -> Band:
        """All rows of an image without padding; else as many as fit some scratch and divide the image."""
        height, width, depth = layer.input_shape
        if not any(layer.pads):
            return cls(layer.output_shape[0], height, width * depth, False)
        reach = (layer.kernel[0] - 1) * layer.dilations[0] + 1
        row_bytes = (width + layer.pads[2] + layer.pads[3]) * depth

        def band(rows: int) -> Band:
            return cls(rows, (rows - 1) * layer.strides[0] + reach, row_bytes, True)

        whole = layer.output_shape[0]
        choices = [band(rows) for rows in range(1, whole + 1) if whole % rows == 0]
        return max([choices[0], *(choice for choice in choices if choice.nbytes <= _BAND_BYTES)], key=lambda b: b.rows)


def segments(layer: WeightedLayer, row_bytes: int) -> list[tuple[int, int]]:
    """(offset, length) of the runs of bytes that a window consists of."""
    depth, (high, wide) = layer.input_shape[2], layer.kernel
    down, across = layer.dilations
    if across == 1 or wide == 1:
        return [(row * down * row_bytes, wide * depth) for row in range(high)]
    return [(row * down * row_bytes + x * across * depth, depth) for row in range(high) for x in range(wide)]


def in_bands(layer: WeightedLayer, band: Band, name: str, product: str, more: str = "") -> str:
    """C that copies each band with its padding and has it multiplied by `product`, with `more` arguments."""
    height, width, depth = layer.input_shape
    rows, columns, outputs = layer.output_shape
    top, _, left, _ = layer.pads
    step = band.rows * layer.strides[0]
    copy = f"{COPY_BYTES}(row, input + y * {width * depth}, {width * depth});"
    reached = (rows // band.rows - 1) * step + band.input_rows - top
    below = (
        f"            }} else if (y >= {height}) {{\n"
        f"                memset(row, {layer.input_zero}, {width * depth});\n"
        if reached > height
        else ""
    )
    return (
        f"static void {name}(const int8_t *input, const int32_t *stream, int8_t *output, int8_t *rows)\n{{\n"
        f"    memset(rows, {layer.input_zero}, {band.nbytes});\n"
        f"    for (int32_t first = {-top}; first < {rows // band.rows * step - top}; first += {step}) {{\n"
        f"        int8_t *row = rows + {left * depth};\n"
        f"        for (int32_t y = first; y < first + {band.input_rows}; y++) {{\n"
        f"            if (y >= 0 && y < {height}) {{\n"
        f"                {copy}\n{below}"
        f"            }}\n            row += {band.row_bytes};\n        }}\n"
        f"        {product}(rows, stream, output{more});\n"
        f"        output += {band.rows * columns * outputs};\n    }}\n}}\n"
    )


def least_lead(layer: WeightedLayer, band: Band) -> int:
    """Least distance at which no output overwrites what is still to be read."""
    height, width, depth = layer.input_shape
    rows, columns, outputs = layer.output_shape
    down, across = layer.strides
    if band.copied:
        written = [(row * columns * outputs, row * down - layer.pads[0]) for row in range(band.rows, rows, band.rows)]
        distances = [nbytes - max(y, 0) * width * depth for nbytes, y in written]
    else:
        distances = [
            pixel * outputs - (pixel // columns * down * width + pixel % columns * across) * depth
            for pixel in range(2, rows * columns, 2)
        ]
    return max(distances, default=-height * width * depth)
