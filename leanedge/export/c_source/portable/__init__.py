"""Makers of the portable C99 kernels (``targets/_c/kernels``): one for every integer kind of a Program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.export.c_source.portable.elementwise import make_add, make_mul, make_pick, make_prelu
from leanedge.export.c_source.portable.lookup import make_lookup
from leanedge.export.c_source.portable.movement import (
    make_concatenation,
    make_copy,
    make_gather,
    make_pad,
    make_resize_bilinear,
    make_resize_nearest,
    make_split,
    make_strided_copy,
)
from leanedge.export.c_source.portable.products import make_batch_matmul, make_fully_connected
from leanedge.export.c_source.portable.reductions import make_mean, make_softmax
from leanedge.export.c_source.portable.windows import make_conv, make_pool, make_transpose_conv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.export.c_source.kernel import Kernel, KernelMaker, Layer
    from leanedge.program.types import Kind

__all__ = ["PORTABLE", "portable_kernel"]

PORTABLE: Mapping[Kind, KernelMaker] = {
    "conv_2d": make_conv,
    "depthwise_conv_2d": make_conv,
    "transpose_conv": make_transpose_conv,
    "fully_connected": make_fully_connected,
    "batch_matmul": make_batch_matmul,
    "add": make_add,
    "sub": make_add,
    "mul": make_mul,
    "maximum": make_pick,
    "minimum": make_pick,
    "prelu": make_prelu,
    "max_pool": make_pool,
    "average_pool": make_pool,
    "mean": make_mean,
    "softmax": make_softmax,
    "logistic": make_lookup,
    "tanh": make_lookup,
    "relu": make_lookup,
    "relu6": make_lookup,
    "relu_n1_to_1": make_lookup,
    "hard_swish": make_lookup,
    "leaky_relu": make_lookup,
    "quantize": make_lookup,
    "pad": make_pad,
    "reshape": make_copy,
    "transpose": make_strided_copy,
    "strided_slice": make_strided_copy,
    "concatenation": make_concatenation,
    "split": make_split,
    "gather": make_gather,
    "resize_nearest": make_resize_nearest,
    "resize_bilinear": make_resize_bilinear,
}
"""Kind -> its maker."""


def portable_kernel(layer: Layer) -> Kernel | None:
    """The portable kernel of a layer; None where its kind, types or shapes have none."""
    maker = PORTABLE.get(layer.operator.kind)
    return None if maker is None else maker(layer)
