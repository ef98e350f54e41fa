"""What a reader starts from: the README and an example of use."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from leanedge.export.c_source.layers import operator_macs
from leanedge.export.c_source.model_file import is_free
from leanedge.export.c_source.text import comment, opening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.export.c_source.interface import Interface, ModelNotes
    from leanedge.export.c_source.kernel import Kernel
    from leanedge.program.arena import ArenaPlan
    from leanedge.program.types import Program

__all__ = ["example_text", "readme_text"]


def example_text(interface: Interface, notes: ModelNotes) -> str:
    """``example_main.c``: fills the inputs, runs once, finds the largest output."""
    stem, upper = interface.stem, interface.upper
    fills = "\n".join(
        f"""\
    for (int32_t i = 0; i < {upper}_{port.name.upper()}_ELEMENTS; ++i) {{
        {stem}_{port.name}(&model)[i] = 0; /* your sensor's value */
    }}"""
        for port in interface.inputs
    )
    output = interface.outputs[0]
    name = output.name.upper()
    return f"""\
{opening(f"How {stem} is used", notes.made_from)}
#include "{stem}.h"

static {upper}_ARENA(arena);

int main(void)
{{
    {stem}_model model;
    {stem}_init(&model, arena);

{fills}
    {stem}_run(&model);

    const {output.c_type} *const output = {stem}_{output.name}(&model);
    int32_t largest = 0;
    for (int32_t i = 1; i < {upper}_{name}_ELEMENTS; ++i) {{
        largest = output[i] > output[largest] ? i : largest;
    }}
    return largest;
}}
"""


def readme_text(
    program: Program,
    kernels: Sequence[Kernel],
    plan: ArenaPlan,
    interface: Interface,
    notes: ModelNotes,
    sources: Sequence[str],
) -> str:
    """``README.md``: figures, how to compile `sources`, the layers."""
    stem, upper = interface.stem, interface.upper
    rows = [
        f"| {index} | {operator.kind} | {_cell(operator.source)} | "
        f"{'none: the same memory' if is_free(program, operator, plan) else kernel.name} | "
        f"{operator_macs(program, operator)} | {kernel.constant_bytes} |"
        for index, (operator, kernel) in enumerate(zip(program.operators, kernels, strict=True))
    ]
    made = "".join(f"- {_cell(line)}\n" for line in notes.made_from)
    return f"""\
# {stem}

C99 for one model: no heap, no operating system, nothing but `stdint.h` and `stddef.h`.
{made}
| figure | value |
|---|---|
| arena (RAM) | {plan.arena_bytes} bytes, aligned to {plan.alignment}; {plan.proof} |
| weights and tables (flash) | {sum(kernel.constant_bytes for kernel in kernels)} bytes |
| multiply-accumulates | {sum(operator_macs(program, operator) for operator in program.operators)} |

## Use

Add these files to your build, `-std=c99 -O2` or better:

{textwrap.fill(" ".join(sources), 110, initial_indent="    ", subsequent_indent="    ")}

and follow `example_main.c`: `{stem}_init` once with an arena, then for each inference write the inputs, call
`{stem}_run` and read the outputs before the next inputs are written. `{stem}_quantize_...` and `{stem}_dequantize_...`
convert from and to real numbers. `LEANEDGE_ARENA_SECTION` and `LEANEDGE_WEIGHTS_SECTION` place the arena and the
weights. Instances share nothing that is written: two of them, each with `{upper}_ARENA_BYTES` of its own, may run at
the same time.

These files are yours, under 0BSD: use them for any purpose, without condition.

## Layers

| | kind | from | kernel | MACs | bytes in flash |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def _cell(text: str) -> str:
    """Text of a model file inside a Markdown table."""
    return comment(text).replace("|", "/").replace("`", "'").replace("<", "(").replace(">", ")").replace("[", "(")
