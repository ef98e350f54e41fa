"""An image as depthwise kernels go through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from leanedge.program.weighted import WeightedLayer

__all__ = ["View"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class View:
    """An image whose rows are paired: of the layer itself, or of its transpose for windows one row high.

    Attributes:
        rows: Height of the input.
        columns: Width of the input.
        row_bytes: From a row of the input to the next.
        column_bytes: From a column of the input to the next.
        out_rows: Height of the output.
        out_columns: Width of the output.
        out_row_bytes: From a row of the output to the next.
        out_column_bytes: From a column of the output to the next.
        stride: Vertical and horizontal.
        dilation: The same.
        top: Rows of padding before the first.
        left: Columns of padding before the first.
        weights: (kernel height, kernel width, channels).
    """

    rows: int
    columns: int
    row_bytes: int
    column_bytes: int
    out_rows: int
    out_columns: int
    out_row_bytes: int
    out_column_bytes: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    top: int
    left: int
    weights: Array

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the window, in weights."""
        return int(self.weights.shape[0]), int(self.weights.shape[1])

    @property
    def span(self) -> tuple[int, int]:
        """Height and width of the window, in pixels."""
        height, width = self.kernel
        return (height - 1) * self.dilation[0] + 1, (width - 1) * self.dilation[1] + 1

    @classmethod
    def of(cls, numbers: WeightedLayer) -> View:
        """The layer's own view, or its transpose where only columns can be paired."""
        height, width, channels = numbers.input_shape
        out_height, out_width, outputs = numbers.output_shape
        top, _, left, _ = numbers.pads
        view = cls(
            height,
            width,
            width * channels,
            channels,
            out_height,
            out_width,
            out_width * outputs,
            outputs,
            numbers.strides,
            numbers.dilations,
            top,
            left,
            numbers.weights,
        )
        return view.transposed() if numbers.kernel[0] == 1 else view

    def transposed(self) -> View:
        """Rows and columns exchanged."""
        return View(
            self.columns,
            self.rows,
            self.column_bytes,
            self.row_bytes,
            self.out_columns,
            self.out_rows,
            self.out_column_bytes,
            self.out_row_bytes,
            (self.stride[1], self.stride[0]),
            (self.dilation[1], self.dilation[0]),
            self.left,
            self.top,
            self.weights.transpose(1, 0, 2),
        )
