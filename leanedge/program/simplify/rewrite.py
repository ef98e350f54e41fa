"""What every simplification needs: who writes and who reads, and a Program without some of its operators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from leanedge.program.types import Program, ProgramOperator

__all__ = ["Note", "kept_tensors", "producers", "readers", "without"]


@dataclass(frozen=True)
class Note:
    """One thing that a simplification did.

    Attributes:
        kind: ``dead channels``, ``constant``, ``fused pad``, ``fused activation``, ``identity``, ``unread``.
        operator: Source of the operator that was changed or removed.
        detail: What was done to it, for people.
    """

    kind: str
    operator: str
    detail: str


def producers(program: Program) -> dict[str, ProgramOperator]:
    """Tensor -> the operator that writes it."""
    return {name: operator for operator in program.operators for name in operator.outputs}


def readers(program: Program) -> dict[str, list[ProgramOperator]]:
    """Tensor -> the operators that read it."""
    found: dict[str, list[ProgramOperator]] = {name: [] for name in program.tensors}
    for operator in program.operators:
        for name in dict.fromkeys(operator.inputs):
            found[name].append(operator)
    return found


def kept_tensors(program: Program) -> frozenset[str]:
    """Tensors that something outside of the operators reads or writes: ports and states."""
    ports = (*program.inputs, *program.outputs)
    states = (name for state in program.states for name in (state.read, state.written))
    return frozenset((*(port.tensor for port in ports), *states))


def without(program: Program, removed: Collection[str], instead: Mapping[str, str]) -> Program:
    """The Program without some operators, whose readers read other tensors.

    Args:
        program: The whole.
        removed: First outputs of operators.
        instead: Tensor that is no longer written -> the tensor that holds the same numbers.

    Returns:
        With only the tensors that are still named.
    """

    def final(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    operators = tuple(
        replace(operator, inputs=tuple(final(name) for name in operator.inputs))
        for operator in program.operators
        if operator.output not in removed
    )
    outputs = tuple(replace(port, tensor=final(port.tensor)) for port in program.outputs)
    states = tuple(replace(state, written=final(state.written)) for state in program.states)
    whole = replace(program, operators=operators, outputs=outputs, states=states)
    used = kept_tensors(whole).union(*((*operator.inputs, *operator.outputs) for operator in operators))
    return replace(whole, tensors={name: tensor for name, tensor in program.tensors.items() if name in used})
