"""Padded rows of an image for kernels whose shape is in a table: layers share this code too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .assembly import once
from .copying import COPY_BYTES, COPY_BYTES_SOURCE

if TYPE_CHECKING:
    from leanedge.program.weighted import WeightedLayer

    from .convolution import Band

__all__ = ["BANDS_FIELDS", "band_words", "in_shared_bands"]

BANDS_FIELDS = (
    *("zero", "band bytes", "left bytes", "first row", "end", "step"),
    *("rows", "height", "row bytes", "band row bytes", "output bytes"),
)
"""What `band_words` are, in order."""


def band_words(layer: WeightedLayer, band: Band) -> list[int]:
    """The table that the function of `in_shared_bands` reads."""
    height, width, depth = layer.input_shape
    rows, columns, outputs = layer.output_shape
    top, _, left, _ = layer.pads
    step = band.rows * layer.strides[0]
    return [
        *(layer.input_zero, band.nbytes, left * depth, -top, rows // band.rows * step - top, step),
        *(band.input_rows, height, width * depth, band.row_bytes, band.rows * columns * outputs),
    ]


def in_shared_bands(product: str, scratch: bool) -> tuple[str, str]:
    """(name, source) of C that copies each band of rows with its padding and has it multiplied by `product`.

    The function takes (input, stream, output, table of bands, shape, rows), and what `product` has as fifth argument.

    Args:
        product: A function of (rows, stream, output, shape), and scratch.
        scratch: Whether `product` has scratch.
    """
    name = f"{product}_in_bands"
    parameter, argument = (", int32_t *scratch", ", scratch") if scratch else ("", "")
    return name, COPY_BYTES_SOURCE + once(
        name,
        f"""/* Bands of rows, copied with their padding. */
static __attribute__((noinline)) void {name}(
    const int8_t *input, const int32_t *stream, int8_t *output, const int32_t *bands, const int32_t *shape,
    int8_t *rows{parameter})
{{
    memset(rows, (int)bands[0], (uint32_t)bands[1]);
    for (int32_t first = bands[3]; first < bands[4]; first += bands[5]) {{
        int8_t *row = rows + bands[2];
        for (int32_t y = first; y < first + bands[6]; ++y) {{
            if (y >= 0 && y < bands[7])
                {COPY_BYTES}(row, input + y * bands[8], (uint32_t)bands[8]);
            else
                memset(row, (int)bands[0], (uint32_t)bands[8]);
            row += bands[9];
        }}
        {product}(rows, stream, output, shape{argument});
        output += bands[10];
    }}
}}
""",
    )
