"""What a streaming model keeps from run to run: its reset, and the copies at the end of each run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.errors import UnsupportedOperator
from leanedge.export.c_source.kernel import Constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.program.arena import ArenaPlan
    from leanedge.program.types import Program, State

__all__ = ["initial_constants", "reset_lines", "state_library", "update_lines"]


def state_library(program: Program) -> tuple[str, ...]:
    """Files of ``targets/_c/kernels`` that the copies need."""
    return ("move_bytes.c",) if program.states else ()


def initial_constants(program: Program, stem: str) -> dict[str, Constant]:
    """State -> its values before the first run, where they are not all the same byte."""
    found = {}
    for number, state in enumerate(program.states):
        if _byte(state) is None:
            name = f"{stem}_initial_{number}"
            found[state.name] = Constant(name, np.ascontiguousarray(state.initial), "a state before the first run")
    return found


def _byte(state: State) -> int | None:
    values = np.ascontiguousarray(state.initial).view(np.uint8).ravel()
    return int(values[0]) if (values == values[0]).all() else None


def reset_lines(program: Program, constants: Mapping[str, Constant], names: Mapping[str, str]) -> list[str]:
    """The body of reset()."""
    if not program.states:
        return ["    (void)model; /* this model keeps nothing from one run to the next */"]
    lines = []
    for state in program.states:
        size, place = program.tensors[state.read].nbytes, f"model->arena + {names[state.read]}"
        if state.name in constants:
            lines.append(f"    leanedge_move_bytes({constants[state.name].name}, {place}, {size});")
        else:
            lines += [
                f"    for (int32_t i = 0; i < {size}; ++i) {{",
                f"        ({place})[i] = {_byte(state)};",
                "    }",
            ]
    return lines


def update_lines(program: Program, plan: ArenaPlan, names: Mapping[str, str]) -> list[str]:
    """The end of run(): each state's new values go where the next run reads them."""
    states = [state for state in _ordered(program, plan) if plan.offsets[state.written] != plan.offsets[state.read]]
    if not states:
        return []
    return [
        "",
        "    /* What the next run starts from. */",
        *(
            f"    leanedge_move_bytes(arena + {names[state.written]}, arena + {names[state.read]}, "
            f"{program.tensors[state.read].nbytes});"
            for state in states
        ),
    ]


def _ordered(program: Program, plan: ArenaPlan) -> Sequence[State]:
    """The states so that none is overwritten before another has been computed from it."""

    def reads_from(state: State, other: State) -> bool:
        start, size = plan.offsets[state.written], program.tensors[state.written].nbytes
        place = plan.offsets[other.read]
        return start < place + program.tensors[other.read].nbytes and place < start + size

    waiting, ordered = list(program.states), []
    while waiting:
        free = [
            state for state in waiting if not any(reads_from(other, state) for other in waiting if other is not state)
        ]
        if not free:
            raise UnsupportedOperator(
                f"states {', '.join(state.name for state in waiting)} are exchanged with each other",
                allowed="states of which at least one is not the old value of another",
                hint="give one of them a copy of its own, for example by adding 0",
            )
        ordered.append(free[0])
        waiting.remove(free[0])
    return ordered
