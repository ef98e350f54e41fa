"""Functions of one int8 by a table of 256 bytes, on any core: three instructions each, and a quarter for the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.export.c_source.portable.lookup import make_lookup

from .assembly import shared_function

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer

__all__ = ["lookup"]

_KINDS = ("logistic", "tanh", "relu", "relu6", "relu_n1_to_1", "hard_swish", "leaky_relu", "quantize")
_BODY = 16


def lookup(layer: Layer) -> Kernel | None:
    """Any unary kind of int8."""
    portable = make_lookup(layer) if layer.operator.kind in _KINDS else None
    if portable is None:
        return None
    # The index is the input's byte as a number without sign: one instruction fewer.
    table = Constant(f"{layer.prefix}_table", np.roll(portable.constants[0].array, 128), "of 0 to 127, -128 to -1", 1)
    parameters = ("const int8_t *input", "int8_t *output", "const int8_t *table", "uint32_t count")
    name, source = shared_function("lookup", parameters, "output = table[input]", _INSTRUCTIONS)
    count = layer.program.tensors[layer.operator.output].elements
    return Kernel(
        name="lookup",
        call=f"{name}({{input0}}, {{output0}}, {table.name}, {count});",
        constants=(table,),
        source=source,
        leads=(0,),
    )


def _four(at: int) -> list[str]:
    registers = [(f"r{4 + n}", at + n) for n in range(4)]
    lines = [f"ldrb {r}, [r0, #{n}]" for r, n in registers] + [f"ldrb {r}, [r2, {r}]" for r, _ in registers]
    return [*lines, *(f"strb {r}, [r1, #{n}]" for r, n in registers)]


_INSTRUCTIONS = [
    "push {r4-r7, lr}",
    f"subs r3, #{_BODY}",
    "blo 2f",
    "1:",
    *(line for at in range(0, _BODY, 4) for line in _four(at)),
    f"adds r0, #{_BODY}",
    f"adds r1, #{_BODY}",
    f"subs r3, #{_BODY}",
    "bhs 1b",
    "2:",
    f"adds r3, #{_BODY}",
    "beq 4f",
    "3:",
    "ldrb r4, [r0]",
    "ldrb r4, [r2, r4]",
    "strb r4, [r1]",
    "adds r0, #1",
    "adds r1, #1",
    "subs r3, #1",
    "bne 3b",
    "4:",
    "pop {r4-r7, pc}",
]
