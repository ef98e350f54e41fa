"""Operators of constants, and operators that nothing reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leanedge.program.simplify.rewrite import Note, kept_tensors, without
from leanedge.program.simulate import run_operator
from leanedge.program.types import Dense

if TYPE_CHECKING:
    from leanedge.program.types import Program

__all__ = ["fold_constants", "remove_unread"]


def fold_constants(program: Program) -> tuple[Program, tuple[Note, ...]]:
    """Operators that read constants alone become what the reference computes of them.

    Proof: the reference runs them here as it would each time. What the Program gives out is never a constant.
    """
    tensors, fixed = dict(program.tensors), kept_tensors(program)
    notes, removed = [], set()
    for operator in program.operators:
        inputs = [tensors[name] for name in operator.inputs]
        data = [tensor.data for tensor in inputs if tensor.data is not None]
        if len(data) < len(inputs) or fixed.intersection(operator.outputs):
            continue
        outputs = [tensors[name] for name in operator.outputs]
        if any(tensor.quant is None and tensor.dtype == "float32" for tensor in (*inputs, *outputs)):
            continue  # sums of floats depend on the device
        made = run_operator(operator, inputs, outputs, [constant.decode() for constant in data])
        for tensor, array in zip(outputs, made, strict=True):
            tensors[tensor.name] = replace(tensor, data=Dense(array))
        removed.add(operator.output)
        notes.append(Note("constant", operator.source, f"{operator.kind} of constants"))
    return without(replace(program, tensors=tensors), removed, {}), tuple(notes)


def remove_unread(program: Program) -> tuple[Program, tuple[Note, ...]]:
    """Without operators whose outputs nothing reads.

    Proof: an operator does nothing but write its outputs.
    """
    needed = set(kept_tensors(program))
    notes, removed = [], set()
    for operator in reversed(program.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
        else:
            removed.add(operator.output)
            notes.append(Note("unread", operator.source, f"nothing reads what {operator.kind} makes"))
    return without(program, removed, {}), tuple(notes)
