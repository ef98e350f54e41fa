"""Pads and clamps that the layer before or after does at no cost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from leanedge.program.simplify.rewrite import Note, kept_tensors, producers, readers, without
from leanedge.program.types import (
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    PadOptions,
    PoolOptions,
    TransposeConvOptions,
)
from leanedge.program.weighted import output_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.simplify.intervals import Interval
    from leanedge.program.types import Activation, Program, ProgramOperator

__all__ = ["fuse_activations", "fuse_pads"]

_FUSIBLE: Mapping[str, Activation] = {"relu": "relu", "relu6": "relu6", "relu_n1_to_1": "relu_n1_to_1"}

_CLAMPING = ConvOptions | TransposeConvOptions | PoolOptions | FullyConnectedOptions | ElementwiseOptions


def fuse_pads(program: Program) -> tuple[Program, tuple[Note, ...]]:
    """Pads of the input's zero point become the pads of the convolutions that read them.

    Proof: a convolution's own padding is the zero point too, so each window sees the same numbers. Not so for pools,
    which leave their padding out.
    """
    read, fixed = readers(program), kept_tensors(program)
    for pad in program.operators:
        if not isinstance(pad.options, PadOptions) or pad.output in fixed or not read[pad.output]:
            continue
        convolutions = [operator for operator in read[pad.output] if isinstance(operator.options, ConvOptions)]
        source = program.tensors[pad.inputs[0]]
        if len(convolutions) != len(read[pad.output]) or len(pad.options.pads) != 4 or source.quant is None:
            continue
        around = pad.options.pads
        zero = pad.options.value is not None and int(source.quant.quantize(np.asarray(pad.options.value))) == int(
            source.quant.zero_point
        )
        if pad.options.mode != "constant" or not zero or around[0] != (0, 0) or around[3] != (0, 0):
            continue
        operators = tuple(
            replace(operator, options=_wider(operator.options, around[1], around[2]))
            if operator in convolutions and isinstance(operator.options, ConvOptions)
            else operator
            for operator in program.operators
        )
        note = Note("fused pad", pad.source, f"done by {', '.join(found.source for found in convolutions)}")
        return without(replace(program, operators=operators), {pad.output}, {pad.output: pad.inputs[0]}), (note,)
    return program, ()


def _wider(options: ConvOptions, down: tuple[int, int], across: tuple[int, int]) -> ConvOptions:
    top, bottom, left, right = options.pads
    return replace(options, pads=(top + down[0], bottom + down[1], left + across[0], right + across[1]))


def fuse_activations(program: Program, intervals: Mapping[str, Interval]) -> tuple[Program, tuple[Note, ...]]:
    """Clamps between equal scales that the operator before can do, or that no number it makes would meet.

    Proof: such an operator stores clip(x, low, high) of the operator's own x, and between equal scales a relu
    multiplies by exactly 1. Two clamps in a row are one to the common part of both, which `output_limits` must give
    for a single activation; a clamp is nothing where the interval of what is made lies within it.
    """
    made, read, fixed = producers(program), readers(program), kept_tensors(program)
    for clamp in program.operators:
        before = made.get(clamp.inputs[0]) if clamp.kind in _FUSIBLE else None
        if before is None or clamp.inputs[0] in fixed or not _tied(program, clamp):
            continue
        out = program.tensors[clamp.output]
        low, high = output_limits(_FUSIBLE[clamp.kind], out)
        found = intervals[clamp.inputs[0]]
        if found.low.min() >= low and found.high.max() <= high:
            note = Note("fused activation", clamp.source, "what it reads is within its limits already")
            return without(program, {clamp.output}, {clamp.output: clamp.inputs[0]}), (note,)
        options = before.options
        if len(read[clamp.inputs[0]]) > 1 or not isinstance(options, _CLAMPING):
            continue
        first = output_limits(options.activation, out)
        both = max(low, first[0]), min(high, first[1])
        activation = next((name for name in _FUSIBLE.values() if output_limits(name, out) == both), None)
        if activation is None:
            continue
        fused = replace(before, options=replace(options, activation=activation))
        operators = tuple(fused if operator is before else operator for operator in program.operators)
        note = Note("fused activation", clamp.source, f"done by {before.source}")
        shorter = replace(program, operators=operators)
        return without(shorter, {clamp.output}, {clamp.output: clamp.inputs[0]}), (note,)
    return program, ()


def _tied(program: Program, operator: ProgramOperator) -> bool:
    source, out = program.tensors[operator.inputs[0]].quant, program.tensors[operator.output].quant
    return (
        source is not None
        and out is not None
        and source.dtype == out.dtype
        and np.float32(source.scale) == np.float32(out.scale)
        and int(source.zero_point) == int(out.zero_point)
    )
