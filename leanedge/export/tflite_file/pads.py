"""Pads that the file format can't say of a convolution: as a PAD in front of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leanedge.program.lower_spatial import is_same_padding
from leanedge.program.types import ConvOptions, PadOptions, ProgramOperator, ProgramTensor

if TYPE_CHECKING:
    from leanedge.program.types import Program

__all__ = ["with_separate_pads"]


def with_separate_pads(program: Program) -> Program:
    """The Program with a pad in front of each convolution whose pads are neither none nor TensorFlow's SAME.

    A convolution's own padding is zeros in real numbers, which is what such a pad fills in.
    """
    tensors = dict(program.tensors)
    operators: list[ProgramOperator] = []
    for operator in program.operators:
        options = operator.options
        if not isinstance(options, ConvOptions) or not any(options.pads) or _is_same(program, operator, options):
            operators.append(operator)
            continue
        source = program.tensors[operator.inputs[0]]
        top, bottom, left, right = options.pads
        batch, height, width, channels = source.shape
        shape = (batch, height + top + bottom, width + left + right, channels)
        name = next(
            free for number in range(len(tensors) + 1) if (free := f"{operator.source}.padded{number}") not in tensors
        )
        tensors[name] = ProgramTensor(name, shape, source.dtype, source.quant)
        around = PadOptions(((0, 0), (top, bottom), (left, right), (0, 0)))
        operators.append(ProgramOperator(f"{operator.source}.pad", "pad", (source.name,), (name,), around))
        plain = replace(options, pads=(0, 0, 0, 0))
        operators.append(replace(operator, inputs=(name, *operator.inputs[1:]), options=plain))
    return replace(program, tensors=tensors, operators=tuple(operators))


def _is_same(program: Program, operator: ProgramOperator, options: ConvOptions) -> bool:
    source, weights = (program.tensors[name].shape for name in operator.inputs[:2])
    out = program.tensors[operator.output].shape
    size, result, kernel = ((shape[1], shape[2]) for shape in (source, out, weights))
    return is_same_padding(size, result, kernel, options.strides, options.dilations, options.pads)
