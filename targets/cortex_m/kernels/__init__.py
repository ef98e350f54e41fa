"""Kernels that are generated for one layer and one core, with their inner blocks in assembly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compact import convolution_int8_compact, convolution_int8_in_ram
from .convolution import convolution_int8, convolution_int16
from .depthwise import (
    depthwise_bytes,
    depthwise_bytes_strips,
    depthwise_compact,
    depthwise_planes,
    depthwise_strips,
)
from .elementwise import product_int8, sum_int8, sum_int8_tables
from .fully_connected import (
    fully_connected_int8,
    fully_connected_int8_compact,
    fully_connected_int8_no_scratch,
    fully_connected_int16,
)
from .lookup import lookup
from .pointwise import pointwise_int8, pointwise_int16
from .pooling import pooling
from .thumb1_gemm import five_windows, one_window
from .winograd import winograd_2x2, winograd_4x4, winograd_4x4_compact

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import KernelMaker

__all__ = ["KERNELS"]

KERNELS: tuple[KernelMaker, ...] = (
    pointwise_int16,
    pointwise_int8,
    convolution_int16,
    convolution_int8,
    convolution_int8_compact,
    convolution_int8_in_ram,
    fully_connected_int16,
    fully_connected_int8,
    fully_connected_int8_compact,
    fully_connected_int8_no_scratch,
    depthwise_planes,
    depthwise_strips,
    depthwise_compact,
    depthwise_bytes,
    depthwise_bytes_strips,
    winograd_4x4,
    winograd_4x4_compact,
    winograd_2x2,
    pooling,
    five_windows,
    one_window,
    sum_int8,
    sum_int8_tables,
    product_int8,
    lookup,
)
"""Each is asked for each layer; the order breaks ties."""
