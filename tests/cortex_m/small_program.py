"""A Program of one operator over int8 tensors, for kernels whose arithmetic does not matter."""

from __future__ import annotations

from leanedge.program.types import NoOptions, Program, ProgramOperator, ProgramTensor


def copy_program(elements: int = 64) -> tuple[Program, ProgramOperator]:
    tensors = {name: ProgramTensor(name, (1, elements), "int8", offset=0) for name in ("x", "y")}
    operator = ProgramOperator("copy", "reshape", ("x",), ("y",), NoOptions())
    return Program(tensors, (operator,), (), ()), operator
