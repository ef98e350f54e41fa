"""The kernels of a whole Program, and what is said of each layer in the C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.errors import UnsupportedOperator
from leanedge.export.c_source.kernel import Layer
from leanedge.export.c_source.text import comment, file_stem
from leanedge.program.types import BatchMatmulOptions, ConvOptions, PoolOptions, TransposeConvOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.export.c_source.kernel import Kernel, KernelMaker
    from leanedge.program.types import Program, ProgramOperator

__all__ = ["describe", "make_kernels", "make_layers", "operator_macs"]


def make_layers(program: Program, name: str, core: str = "") -> tuple[Layer, ...]:
    """Each operator as a Layer, with a prefix that starts with the model's name.

    Args:
        program: In its order of execution.
        name: The model's name; any text.
        core: Arm's name of the core; empty for portable C.
    """
    stem = file_stem(name)
    digits = len(str(max(len(program.operators) - 1, 0)))
    return tuple(
        Layer(program, operator, f"{stem}_{index:0{digits}}_{operator.kind}", core)
        for index, operator in enumerate(program.operators)
    )


def make_kernels(layers: Sequence[Layer], makers: Sequence[KernelMaker]) -> dict[int, Kernel]:
    """Operator index -> kernel of the first maker that has one.

    Raises:
        UnsupportedOperator: No maker has a kernel for a layer.
    """
    kernels = {}
    for index, layer in enumerate(layers):
        kernel = next((made for made in (maker(layer) for maker in makers) if made is not None), None)
        if kernel is None:
            operator = layer.operator
            names = (*operator.inputs, *operator.outputs)
            shapes = ", ".join(
                f"{'x'.join(map(str, tensor.shape))} {tensor.dtype}"
                for tensor in (layer.program.tensors[name] for name in names)
            )
            raise UnsupportedOperator(
                f"there is no C kernel for {operator.kind} of {shapes}",
                where=operator.source,
                allowed="batch 1, int8 activations, constant int8 weights, at most four axes after merging",
                hint="quantize the model to w8a8 so that no operator stays in float, or change this layer",
            )
        kernels[index] = kernel
    return kernels


def operator_macs(program: Program, operator: ProgramOperator) -> int:
    """Multiply-accumulates of the plain operator, padding included; 0 for kinds that have none."""
    tensors = [program.tensors[name] for name in operator.inputs]
    out = program.tensors[operator.output]
    if operator.kind in ("conv_2d", "fully_connected"):
        return out.elements * (tensors[1].elements // tensors[1].shape[0])
    if operator.kind == "depthwise_conv_2d":
        return out.elements * (tensors[1].elements // tensors[1].shape[-1])
    if operator.kind == "transpose_conv":
        return tensors[0].elements * (tensors[1].elements // tensors[1].shape[-1])
    if isinstance(operator.options, BatchMatmulOptions):
        return out.elements * tensors[0].shape[-1]
    return 0


def describe(program: Program, operator: ProgramOperator, kernel: Kernel) -> tuple[str, str]:
    """Two lines about a layer: where it comes from; shapes, window, kernel and work."""
    inputs = [program.tensors[name] for name in operator.inputs if program.tensors[name].data is None]
    outputs = [program.tensors[name] for name in operator.outputs]
    shapes = " -> ".join(
        ", ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in side) for side in (inputs, outputs)
    )
    parts = [shapes, *_window(program, operator), f"kernel {kernel.name}"]
    macs = operator_macs(program, operator)
    if macs:
        parts.append(f"{macs} MACs")
    if kernel.scratch_bytes:
        parts.append(f"{kernel.scratch_bytes} bytes of scratch")
    return f'{operator.kind} "{comment(operator.source, 60)}"', comment("; ".join(parts), 200)


def _window(program: Program, operator: ProgramOperator) -> list[str]:
    options = operator.options
    if isinstance(options, PoolOptions):
        kernel = options.kernel
    elif isinstance(options, (ConvOptions, TransposeConvOptions)):
        kernel = program.tensors[operator.inputs[1]].shape[1:3]  # type: ignore[assignment]
    else:
        return []
    return [f"window {kernel[0]}x{kernel[1]}, stride {options.strides[0]}x{options.strides[1]}"]
