"""Functions of one int8, by a table of 256 bytes made with the reference arithmetic itself: exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.export.c_source.portable.parts import all_int8, inputs_of, output_of
from leanedge.program.simulate.integer import INTEGER_KERNELS

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer

__all__ = ["make_lookup"]


def make_lookup(layer: Layer) -> Kernel | None:
    """Any unary int8 kind."""
    if not all_int8(layer):
        return None
    source, out = inputs_of(layer)[0], output_of(layer)
    inputs = np.arange(-128, 128, dtype=np.int8)
    table = INTEGER_KERNELS["tflm"][layer.operator.kind](layer.operator, [source], [out], [inputs])
    name = f"{layer.prefix}_table"
    return Kernel(
        name="portable",
        call=f"leanedge_lookup_int8({name}, {source.elements}, {{input0}}, {{output0}});",
        constants=(Constant(name, table, f"{layer.operator.kind} of -128 to 127"),),
        library=("lookup_int8.c",),
        leads=(0,),
    )
