"""Bands of rows of an image, copied with their padding, for kernels that check no borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.kernel import Constant

from .assembly import once
from .copying import COPY_BYTES, COPY_BYTES_SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.program.weighted import WeightedLayer

__all__ = ["Band", "in_bands", "least_lead"]

_BAND_BYTES = 2048
"""Scratch that a band of several rows may take; one row of windows is always allowed."""

_TABLE = (
    *("zero", "bytes", "offset of the first pixel", "first row", "bands", "rows", "new rows", "image rows"),
    *("image row bytes", "row bytes", "new bytes", "kept bytes", "output bytes"),
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
        down = layer.strides[0]
        reach = max((layer.kernel[0] - 1) * layer.dilations[0] + 1, down)
        row_bytes = (width + layer.pads[2] + layer.pads[3]) * depth

        def band(rows: int) -> Band:
            return cls(rows, (rows - 1) * down + reach, row_bytes, True)

        whole = layer.output_shape[0]
        choices = [band(rows) for rows in range(1, whole + 1) if whole % rows == 0]
        return max([choices[0], *(choice for choice in choices if choice.nbytes <= _BAND_BYTES)], key=lambda b: b.rows)

    def table(self, layer: WeightedLayer, name: str) -> Constant:
        """What the function of `in_bands` reads."""
        height, width, depth = layer.input_shape
        rows, columns, outputs = layer.output_shape
        top, _, left, _ = layer.pads
        new = self.rows * layer.strides[0]
        words = [
            *(layer.input_zero, self.nbytes, left * depth, -top, rows // self.rows, self.input_rows, new, height),
            *(width * depth, self.row_bytes, new * self.row_bytes, (self.input_rows - new) * self.row_bytes),
            self.rows * columns * outputs,
        ]
        return Constant(name, np.array(words, np.int32), ", ".join(_TABLE))


def in_bands(product: str, more: Sequence[tuple[str, str]] = ()) -> tuple[str, str]:
    """(name, source) of C that copies each band of rows with its padding and has it multiplied by `product`.

    The function takes (input, stream, output, table of bands, rows, ...). Rows that the next band sees too are kept,
    so that outputs may overwrite the image close behind what was read of it.

    Args:
        product: A function of (rows, stream, output, ...).
        more: (type with a trailing space or star, name) of the parameters in the dots.
    """
    name = f"{product}_in_bands"
    parameters = "".join(f", {kind}{parameter}" for kind, parameter in more)
    arguments = "".join(f", {parameter}" for _, parameter in more)
    return name, COPY_BYTES_SOURCE + once(
        name,
        f"""/* Multiplies bands of rows, copied with their padding. */
static __attribute__((noinline)) void {name}(
    const int8_t *input, const int32_t *stream, int8_t *output, const int32_t *bands, int8_t *rows{parameters})
{{
    int8_t *row = rows + bands[2];
    int32_t y = bands[3], end = y + bands[5];
    memset(rows, (int)bands[0], (uint32_t)bands[1]);
    for (int32_t left = bands[4]; left > 0; --left) {{
        for (; y < end; ++y, row += bands[9]) {{
            if (y >= 0 && y < bands[7])
                {COPY_BYTES}(row, input + y * bands[8], (uint32_t)bands[8]);
            else
                memset(row, (int)bands[0], (uint32_t)bands[8]);
        }}
        {product}(rows, stream, output{arguments});
        output += bands[12];
        {COPY_BYTES}(rows, rows + bands[10], (uint32_t)bands[11]);
        row -= bands[10];
        end += bands[6];
    }}
}}
""",
    )


def least_lead(layer: WeightedLayer, band: Band) -> int:
    """Least distance at which no output overwrites what is still to be read."""
    height, width, depth = layer.input_shape
    rows, columns, outputs = layer.output_shape
    down, across = layer.strides
    if band.copied:
        # After each band but the last: what was written, and the first row that is not yet copied.
        written = [
            (done * columns * outputs, (done - band.rows) * down - layer.pads[0] + band.input_rows)
            for done in range(band.rows, rows, band.rows)
        ]
        distances = [nbytes - max(y, 0) * width * depth for nbytes, y in written if y < height]
    else:
        distances = [
            pixel * outputs - (pixel // columns * down * width + pixel % columns * across) * depth
            for pixel in range(2, rows * columns, 2)
        ]
    return max(distances, default=-height * width * depth)
