"""Functions of one int8, by a table of 256 bytes made with the reference arithmetic itself: exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.export.c_source.portable.parts import inputs_of, output_of
from leanedge.export.c_source.portable.wide import make_wide_function
from leanedge.program.simulate.integer import INTEGER_KERNELS

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer

__all__ = ["make_lookup"]


def make_lookup(layer: Layer) -> Kernel | None:
    """Any unary kind of 8 bits, signed or not; those of 16 bits calculate."""
    source, out = inputs_of(layer)[0], output_of(layer)
    if "int16" in (source.dtype, out.dtype):
        return make_wide_function(layer)
    if source.dtype not in ("int8", "uint8") or out.dtype not in ("int8", "uint8"):
        return None
    inputs = np.arange(-128, 128, dtype=np.int8).view(source.dtype)
    table = INTEGER_KERNELS["tflm"][layer.operator.kind](layer.operator, [source], [out], [inputs]).view(np.int8)
    name = f"{layer.prefix}_table"
    return Kernel(
        name="portable",
        call=f"leanedge_lookup_int8({name}, {source.elements}, (const int8_t *){{input0}}, (int8_t *){{output0}});"
        if "uint8" in (source.dtype, out.dtype)
        else f"leanedge_lookup_int8({name}, {source.elements}, {{input0}}, {{output0}});",
        constants=(Constant(name, table, f"{layer.operator.kind} of -128 to 127"),),
        library=("lookup_int8.c",),
        leads=(0,),
    )
