"""Exact simplifications: the same outputs, number for number, from less work. Each is proved in its docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.program.simplify.channels import remove_dead_channels
from leanedge.program.simplify.folding import fold_constants, remove_unread
from leanedge.program.simplify.fusion import fuse_activations, fuse_pads
from leanedge.program.simplify.identity import merge_quantize, merge_reshapes, remove_identities
from leanedge.program.simplify.intervals import find_intervals
from leanedge.program.simplify.logits import without_final_softmax
from leanedge.program.simplify.rewrite import Note

if TYPE_CHECKING:
    from leanedge.program.types import Program

__all__ = ["Note", "Simplified", "simplify", "without_final_softmax"]


@dataclass(frozen=True, eq=False)
class Simplified:
    """A Program that computes the same, and what was taken out of it.

    Attributes:
        program: The smaller one; without arena offsets.
        notes: In the order in which it was done.
    """

    program: Program
    notes: tuple[Note, ...]


def simplify(program: Program) -> Simplified:
    """All exact simplifications, until none finds anything.

    Order of operators, names of ports, their types and quantization stay; tensors that no operator names any more go.
    """
    notes: list[Note] = []
    while True:
        before = len(notes)
        for step in (fold_constants, remove_unread, remove_identities, merge_reshapes, merge_quantize, fuse_pads):
            program, done = step(program)
            notes.extend(done)
        for measured in (fuse_activations, remove_dead_channels):
            program, done = measured(program, find_intervals(program))
            notes.extend(done)
        if len(notes) == before:
            return Simplified(program, tuple(notes))
