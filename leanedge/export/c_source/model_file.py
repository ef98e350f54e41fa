"""``<name>.c``: parameters of each layer, then run() as one call a layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from leanedge.export.c_source.layers import describe
from leanedge.export.c_source.states import reset_lines, state_library, update_lines
from leanedge.export.c_source.text import C_TYPES, comment, identifier, opening
from leanedge.program.arena.views import relations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.export.c_source.interface import Interface, ModelNotes
    from leanedge.export.c_source.kernel import Constant, Kernel
    from leanedge.program.arena import ArenaPlan
    from leanedge.program.types import Program, ProgramOperator

__all__ = ["is_free", "model_text"]

_WIDTH = 110


def model_text(
    program: Program,
    kernels: Sequence[Kernel],
    plan: ArenaPlan,
    interface: Interface,
    notes: ModelNotes,
    initial: Mapping[str, Constant],
) -> str:
    """``<name>.c``.

    Args:
        program: In its order of execution.
        kernels: One an operator, in that order.
        plan: Where each tensor lies.
        interface: Public names.
        notes: What the top of the file says.
        initial: State -> its first values, where they are an array.
    """
    stem = interface.stem
    names = _tensor_names(program, interface)
    includes = [f'#include "{stem}.h"', "", f'#include "{stem}_weights.h"']
    if any(word in kernel.source + kernel.call for kernel in kernels for word in ("memcpy(", "memset(")):
        includes.insert(0, "#include <string.h>\n")
    includes += [f'#include "{file}"' for file in sorted(_headers(program, kernels, plan))]
    if any(re.search(r"\bmem(set|cpy|move|cmp)\(", kernel.source + kernel.call) for kernel in kernels):
        includes.append("#include <string.h>")
    places = [
        f'    {names[tensor]} = {plan.offsets[tensor]}, /* {_shape(program, tensor)} "{comment(tensor, 60)}" */'
        for tensor in names
    ]
    parameters = []
    for index, (operator, kernel) in enumerate(zip(program.operators, kernels, strict=True)):
        if kernel.source and not is_free(program, operator, plan):
            parameters.append(f"/* {index}: {describe(program, operator, kernel)[0]} */\n{kernel.source.strip()}\n")
    steps = [
        _step(program, index, operator, kernels[index], plan, names) for index, operator in enumerate(program.operators)
    ]
    updates = update_lines(program, plan, names)
    idle = not updates and all(is_free(program, operator, plan) for operator in program.operators)
    return "\n".join(
        [
            opening(f"Model {stem}: {len(program.operators)} layers in {plan.arena_bytes} bytes", notes.made_from),
            *includes,
            "",
            f"/* Where each tensor lies in the arena, in bytes: {plan.proof}. */",
            "enum {",
            *places,
            "};",
            "",
            *parameters,
            f"void {stem}_init({stem}_model *model, void *arena)",
            "{",
            "    model->arena = (uint8_t *)arena;",
            f"    {stem}_reset(model);",
            "}",
            "",
            f"void {stem}_reset({stem}_model *model)",
            "{",
            *reset_lines(program, initial, names),
            "}",
            "",
            f"void {stem}_run({stem}_model *model)",
            "{",
            "    (void)model; /* every output is where it was written */"
            if idle
            else "    uint8_t *const arena = model->arena;",
            "\n".join(steps),
            *updates,
            "}",
            "",
        ]
    )


def is_free(program: Program, operator: ProgramOperator, plan: ArenaPlan) -> bool:
    """Whether the plan has put an operator's outputs where they need not be computed."""
    shared = relations(program, operator)
    covered = {name for view, whole, _ in shared for name in (view, whole)}
    whole_operator = covered.issuperset((*operator.inputs, *operator.outputs))
    return (
        bool(shared)
        and whole_operator
        and all(plan.offsets[view] == plan.offsets[whole] + offset for view, whole, offset in shared)
    )


def _headers(program: Program, kernels: Sequence[Kernel], plan: ArenaPlan) -> set[str]:
    files = set(state_library(program))
    for operator, kernel in zip(program.operators, kernels, strict=True):
        if not is_free(program, operator, plan):
            files.update(kernel.library)
    return {file for file in files if file.endswith(".h")} | ({"leanedge_kernels.h"} if files else set())


def _tensor_names(program: Program, interface: Interface) -> dict[str, str]:
    """Tensor -> its enumerator, in the order of first use."""
    order = [port.tensor for port in program.inputs] + [state.read for state in program.states]
    order += [name for operator in program.operators for name in (*operator.inputs, *operator.outputs)]
    order += [port.tensor for port in program.outputs]
    names: dict[str, str] = {}
    for tensor in order:
        if tensor not in names and program.tensors[tensor].data is None:
            made = identifier(f"{interface.stem}_at_{identifier(tensor)}".lower(), [n.lower() for n in names.values()])
            names[tensor] = made.upper()
    return names


def _shape(program: Program, tensor: str) -> str:
    found = program.tensors[tensor]
    return f"{found.dtype} {'x'.join(map(str, found.shape)) or 'scalar'}"


def _step(
    program: Program,
    index: int,
    operator: ProgramOperator,
    kernel: Kernel,
    plan: ArenaPlan,
    names: Mapping[str, str],
) -> str:
    title, work = describe(program, operator, kernel)
    if is_free(program, operator, plan):
        return f"\n    /* {index}: {title}\n     * {work.partition('; kernel')[0]}; the same memory: nothing to do. */"
    fields = {
        f"input{n}": f"(const {_address(program, name, names)}"
        for n, name in enumerate(operator.inputs)
        if program.tensors[name].data is None
    }
    fields |= {f"output{n}": f"({_address(program, name, names)}" for n, name in enumerate(operator.outputs)}
    if index in plan.scratch:
        fields["scratch"] = f"(void *)(arena + {plan.scratch[index]})"
    call = kernel.statement(fields)
    lines = "\n".join(f"    {part}" for line in call.splitlines() for part in _folded(line))
    return f"\n    /* {index}: {title}\n     * {work}. */\n{lines}"


def _folded(line: str) -> list[str]:
    """A call that is too long for a line, as one line an argument.

    >>> _folded("f(" + "a" * 60 + ", (int)(b, c), " + "d" * 50 + ");")[2]
    '    (int)(b, c),'
    """
    head, bracket, rest = line.partition("(")
    if len(line) <= _WIDTH or not bracket or not rest.endswith(");"):
        return [line]
    indent, depth, parts = " " * (len(line) - len(line.lstrip()) + 4), 0, [""]
    for character in rest[:-2]:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [f"{head}(", *(f"{indent}{part.strip()}," for part in parts[:-1]), f"{indent}{parts[-1].strip()});"]


def _address(program: Program, tensor: str, names: Mapping[str, str]) -> str:
    return f"{C_TYPES[program.tensors[tensor].dtype]} *)(arena + {names[tensor]})"
