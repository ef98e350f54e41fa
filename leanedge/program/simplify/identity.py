"""Operators that change nothing, or that one operator does instead of two."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.simplify.rewrite import Note, kept_tensors, producers, readers, without
from leanedge.program.simulate import run_operator
from leanedge.program.types import (
    ConcatenationOptions,
    NoOptions,
    PadOptions,
    PoolOptions,
    StridedSliceOptions,
    TransposeOptions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.types import Program, ProgramOperator, ProgramTensor

__all__ = ["merge_quantize", "merge_reshapes", "remove_identities"]

Array = np.ndarray[Any, Any]


def remove_identities(program: Program) -> tuple[Program, tuple[Note, ...]]:
    """Without operators whose output is their input, number for number and shape for shape.

    Proof: a reshape to the same shape, a transpose that keeps the order, a pad by nothing, a slice of all, a split
    into one and a concatenation of one copy their input; so do a pool of one pixel at a time without a clamp (a mean
    of one number is that number) and a resize to the same size (each place is a pixel's own). A quantize between
    equal scales and zero points multiplies by 2^30 x 2^(1 - 31) = 1: both of its roundings are exact. Clamps are for
    `fusion`.

    An operator stays where its input or its output must be a tensor of its own: an output of the Program that would
    become one of its inputs, its constants, its states or another output.
    """
    made, fixed = producers(program), kept_tensors(program)
    instead: dict[str, str] = {}
    notes = []
    for operator in program.operators:
        if len(operator.outputs) != 1 or not _changes_nothing(program, operator):
            continue
        source = instead.get(operator.inputs[0], operator.inputs[0])
        if operator.output in fixed and (source in fixed or source not in made):
            continue
        if operator.output in fixed:
            fixed |= {source}
        instead[operator.output] = source
        notes.append(Note("identity", operator.source, f"{operator.kind} that changes nothing"))
    return without(program, instead.keys(), instead), tuple(notes)


def _changes_nothing(program: Program, operator: ProgramOperator) -> bool:
    source, out = program.tensors[operator.inputs[0]], program.tensors[operator.output]
    if source.shape != out.shape or source.dtype != out.dtype or not _same_quant(source, out):
        return False
    options = operator.options
    if isinstance(options, TransposeOptions):
        moved = [axis for axis in options.permutation if source.shape[axis] > 1]
        return moved == sorted(moved)
    if isinstance(options, ConcatenationOptions):
        return len(operator.inputs) == 1
    if isinstance(options, PadOptions):
        return not any(sum(pair) for pair in options.pads)
    if isinstance(options, StridedSliceOptions):
        return all(stride == 1 for stride, size in zip(options.strides, source.shape, strict=True) if size > 1)
    if isinstance(options, PoolOptions):
        # The output's size says that nothing is padded.
        return options.kernel == options.strides == (1, 1) and options.activation == "none"
    return operator.kind in ("reshape", "split", "quantize", "resize_nearest", "resize_bilinear")


def _same_quant(left: ProgramTensor, right: ProgramTensor) -> bool:
    if left.quant is None or right.quant is None:
        return left.quant is right.quant
    return bool(
        left.quant.axis is None
        and right.quant.axis is None
        and np.float32(left.quant.scale) == np.float32(right.quant.scale)
        and int(left.quant.zero_point) == int(right.quant.zero_point)
    )


def merge_reshapes(program: Program) -> tuple[Program, tuple[Note, ...]]:
    """One reshape in place of several in a row, and in place of a transpose that only moves axes of size 1.

    Proof: a reshape keeps the order of the numbers in memory; so does a transpose that keeps the order of the axes
    larger than 1.
    """
    made = producers(program)
    operators = []
    notes = []
    for operator in program.operators:
        changed = operator
        if isinstance(operator.options, TransposeOptions):
            shape = program.tensors[operator.inputs[0]].shape
            moved = [axis for axis in operator.options.permutation if shape[axis] > 1]
            if moved == sorted(moved):
                changed = replace(operator, kind="reshape", options=NoOptions())
                notes.append(Note("identity", operator.source, "transpose that moves nothing is a reshape"))
        before = made.get(changed.inputs[0]) if changed.kind == "reshape" else None
        if before is not None and before.kind == "reshape":
            changed = replace(changed, inputs=before.inputs)
            notes.append(Note("identity", operator.source, f"reads past the reshape {before.source}"))
        operators.append(changed)
        if changed is not operator:
            made.update(dict.fromkeys(changed.outputs, changed))
    return replace(program, operators=tuple(operators)), tuple(notes)


def merge_quantize(program: Program) -> tuple[Program, tuple[Note, ...]]:
    """One quantize in place of two in a row, or none, where that gives the same number for every possible input.

    Proof: by trying all 256 or 65,536 numbers that the first one can read.
    """
    made, read, fixed = producers(program), readers(program), kept_tensors(program)
    for last in program.operators:
        first = made.get(last.inputs[0]) if last.kind == "quantize" else None
        if first is None or first.kind != "quantize" or program.tensors[first.inputs[0]].dtype not in _EVERY:
            continue
        source, out = program.tensors[first.inputs[0]], program.tensors[last.output]
        numbers = _EVERY[source.dtype]
        middle = _one(program, first, source, numbers)
        both = _one(program, last, program.tensors[last.inputs[0]], middle)
        alone = len(read[first.output]) == 1 and first.output not in fixed
        removed = {last.output, *([first.output] if alone else [])}
        own = last.output not in fixed or (source.name in made and source.name not in fixed)
        if source.dtype == out.dtype and _same_quant(source, out) and own and np.array_equal(both, numbers):
            note = Note("identity", last.source, f"gives back what {first.source} was given")
            return without(program, removed, {last.output: source.name}), (note,)
        short = replace(last, inputs=first.inputs)
        if np.array_equal(both, _one(program, short, source, numbers)):
            operators = tuple(short if operator is last else operator for operator in program.operators)
            note = Note("identity", last.source, f"reads past the quantize {first.source}")
            return without(replace(program, operators=operators), removed - {last.output}, {}), (note,)
    return program, ()


_EVERY: Mapping[str, Array] = {
    "int8": np.arange(-128, 128, dtype=np.int8),
    "uint8": np.arange(256, dtype=np.uint8),
    "int16": np.arange(-32768, 32768).astype(np.int16),
}
"""All numbers of a type."""


def _one(program: Program, operator: ProgramOperator, source: ProgramTensor, numbers: Array) -> Array:
    inputs = [replace(source, shape=numbers.shape)]
    outputs = [replace(program.tensors[operator.output], shape=numbers.shape)]
    return run_operator(operator, inputs, outputs, [numbers])[0]
