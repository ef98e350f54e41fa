"""What comes before a final softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.errors import ModelError
from leanedge.program.simplify.rewrite import producers, without

if TYPE_CHECKING:
    from leanedge.program.types import Program

__all__ = ["without_final_softmax"]


def without_final_softmax(program: Program) -> Program:
    """The Program whose outputs are the logits, in their own quantization, in place of each final softmax.

    The softmax keeps the order of the logits, so the class found is the same, save for classes that it rounds to
    equal shares.

    Raises:
        ModelError: No output comes straight from a softmax.
    """
    made = producers(program)
    final = [
        made[port.tensor] for port in program.outputs if port.tensor in made and made[port.tensor].kind == "softmax"
    ]
    if not final:
        raise ModelError("no output is a softmax", hint="leave the option out: the outputs are as they come already")
    return without(program, {operator.output for operator in final}, {op.output: op.inputs[0] for op in final})
