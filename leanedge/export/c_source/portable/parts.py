"""What the makers share: a layer's tensors, its operands as C, its parameters as a constant struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.export.c_source.text import initialiser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.types import ProgramTensor

__all__ = ["Operand", "all_int8", "inputs_of", "operand", "output_of", "portable", "scale_of", "zero_of"]

Array = np.ndarray[Any, Any]

Operand = tuple[str, tuple[Constant, ...]]
"""An operand as C text, and the array that it needs where it is constant."""


def inputs_of(layer: Layer) -> list[ProgramTensor]:
    """The tensors that the layer reads."""
    return [layer.program.tensors[name] for name in layer.operator.inputs]


def output_of(layer: Layer) -> ProgramTensor:
    """Its first output."""
    return layer.program.tensors[layer.operator.output]


def all_int8(layer: Layer, count: int | None = None) -> bool:
    """Whether the first `count` inputs (all by default) and the outputs are int8."""
    names = (*layer.operator.inputs[:count], *layer.operator.outputs)
    return all(layer.program.tensors[name].dtype == "int8" for name in names)


def scale_of(tensor: ProgramTensor) -> float:
    """Scale of a tensor that is quantized per tensor, rounded to float32."""
    assert tensor.quant is not None
    return float(np.float32(tensor.quant.scale))


def zero_of(tensor: ProgramTensor) -> int:
    """Zero point of a tensor that is quantized per tensor."""
    assert tensor.quant is not None
    return int(tensor.quant.zero_point)


def operand(layer: Layer, place: int) -> Operand:
    """Input `place` as C: where it lies in the arena, or an array in flash."""
    tensor = inputs_of(layer)[place]
    if tensor.data is None:
        return f"{{input{place}}}", ()
    name = f"{layer.prefix}_operand{place}"
    return name, (Constant(name, tensor.data.decode(), f"operand {place} of shape {list(tensor.shape)}"),)


def portable(
    layer: Layer,
    function: str,
    struct: str,
    fields: Mapping[str, Any],
    library: tuple[str, ...],
    *,
    operands: tuple[Operand, ...] = (("{input0}", ()),),
    constants: tuple[Constant, ...] = (),
    leads: tuple[int | None, ...],
) -> Kernel:
    """A kernel that calls ``function(&parameters, operands..., output)``."""
    name = f"{layer.prefix}_parameters"
    arguments = ", ".join((f"&{name}", *(text for text, _ in operands), "{output0}"))
    return Kernel(
        name="portable",
        call=f"{function}({arguments});",
        constants=(*constants, *(array for _, arrays in operands for array in arrays)),
        source=f"static const {struct} {name} = {{\n{initialiser(fields)}}};\n",
        library=library,
        leads=leads,
    )
