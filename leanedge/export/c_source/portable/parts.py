"""What the makers share: a layer's tensors, its operands as C, its parameters as a constant struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.export.c_source.text import initialiser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.types import DType, ProgramTensor

__all__ = [
    "Operand",
    "all_int8",
    "all_of",
    "inputs_of",
    "is_image",
    "operand",
    "output_of",
    "portable",
    "scale_of",
    "width_of",
    "window_fields",
    "zero_of",
]

Array = np.ndarray[Any, Any]

Operand = tuple[str, tuple[Constant, ...]]
"""An operand as C text, and the array that it needs where it is constant."""


def inputs_of(layer: Layer) -> list[ProgramTensor]:
    """The tensors that the layer reads."""
    return [layer.program.tensors[name] for name in layer.operator.inputs]


def output_of(layer: Layer) -> ProgramTensor:
    """Its first output."""
    return layer.program.tensors[layer.operator.output]


def all_of(layer: Layer, dtype: DType, count: int | None = None) -> bool:
    """Whether the first `count` inputs (all by default) and the outputs are of that type."""
    names = (*layer.operator.inputs[:count], *layer.operator.outputs)
    return all(layer.program.tensors[name].dtype == dtype for name in names)


def all_int8(layer: Layer, count: int | None = None) -> bool:
    """Whether the first `count` inputs (all by default) and the outputs are int8."""
    return all_of(layer, "int8", count)


def width_of(layer: Layer, count: int | None = None) -> Literal[8, 16] | None:
    """8 or 16 where the first `count` inputs (all by default) and the outputs are all int8 or all int16."""
    if all_of(layer, "int8", count):
        return 8
    return 16 if all_of(layer, "int16", count) else None


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
    output: str = "{output0}",
) -> Kernel:
    """A kernel that calls ``function(&parameters, operands..., output)``."""
    name = f"{layer.prefix}_parameters"
    arguments = ", ".join((f"&{name}", *(text for text, _ in operands), output))
    return Kernel(
        name="portable",
        call=f"{function}({arguments});",
        constants=(*constants, *(array for _, arrays in operands for array in arrays)),
        source=f"static const {struct} {name} = {{\n{initialiser(fields)}}};\n",
        library=library,
        leads=leads,
    )


def is_image(layer: Layer) -> bool:
    """Whether input and output are one image each."""
    return all(len(t.shape) == 4 and t.shape[0] == 1 for t in (inputs_of(layer)[0], output_of(layer)))


def window_fields(
    source: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilations: tuple[int, int] = (1, 1),
) -> dict[str, int]:
    """A `leanedge_window`; `source` and `out` are (rows, columns, channels)."""
    return {
        "input_rows": source[0],
        "input_columns": source[1],
        "input_channels": source[2],
        "output_rows": out[0],
        "output_columns": out[1],
        "output_channels": out[2],
        "kernel_rows": kernel[0],
        "kernel_columns": kernel[1],
        "stride_rows": strides[0],
        "stride_columns": strides[1],
        "dilation_rows": dilations[0],
        "dilation_columns": dilations[1],
        "pad_top": pads[0],
        "pad_left": pads[2],
    }
