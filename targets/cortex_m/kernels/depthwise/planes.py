"""Assembly and C that spread a group of channels over planes of vertical pairs, padding included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..assembly import add_constant, move_constant, shared_function
from .plan import GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .plan import Plan

__all__ = ["gather_functions"]

_POST_INDEXED, _FAR = 255, 4095
"""Furthest that a load moves its pointer, and furthest byte that it reaches."""


def gather_functions(plan: Plan) -> list[str]:
    """``<prefix>_gather`` and what it calls."""
    kinds = {plan.kind_of_pair(pair) for pair in range(plan.pairs_of(plan.view.out_rows))}
    made: dict[str, tuple[str, str]] = {}
    for kind in ("both", "high", "low"):
        if kind in kinds:
            made[kind] = _gather_function(plan, kind)
    names = {kind: name for kind, (name, _) in made.items()}
    return [*(source for _, source in made.values()), _gather_source(plan, kinds, names)]


def _gather_function(plan: Plan, kind: str) -> tuple[str, str]:
    """Spreads pairs of rows of the image over the planes of a group of channels."""
    view = plan.view
    pointers = {"both": ("r0", "r1"), "low": ("r0",), "high": ("r1",)}[kind]
    planes = ("r2", "r3", "r12", "lr")[: plan.lanes]
    lines = ["push {r4-r11, lr}"]
    lines += ["sub sp, sp, #8", "str r2, [sp]"] if kind == "both" else []
    lines.append("mov r2, r1")
    for number in range(1, plan.lanes):
        lines += add_constant(planes[number], "r2", 4 * number * plan.plane_words, planes[number])
    lines += add_constant("r1", "r0", view.row_bytes, "r1") if kind == "both" else ["mov r1, r0"] * (kind == "high")
    lines += [] if kind == "both" else move_constant("r10", _pad_bytes(plan))
    lines += ["1:"] if kind == "both" else []
    columns = plan.gathered
    short = view.column_bytes <= _POST_INDEXED
    loop = 4 if short else min(4, _FAR // view.column_bytes + 1)
    moved = 0
    if columns > (2 * loop if short else loop):
        lines += [f"mov r11, #{columns // loop}", "2:", *_gather_columns(plan, pointers, planes, loop)]
        lines += [] if short else [x for p in pointers for x in add_constant(p, p, loop * view.column_bytes, "r4")]
        lines += ["subs r11, r11, #1", "bne 2b"]
        moved = columns // loop * loop
    lines += _gather_columns(plan, pointers, planes, columns - moved)
    if kind == "both":
        passed = columns if short else moved
        for pointer in pointers:
            lines += add_constant(pointer, pointer, 2 * view.row_bytes - passed * view.column_bytes, "r4")
        for plane in planes:
            lines += add_constant(plane, plane, 4 * (plan.width - columns), "r4")
        lines += ["ldr r11, [sp]", "subs r11, r11, #1", "str r11, [sp]", "bne.w 1b", "add sp, sp, #8"]
    lines.append("pop {r4-r11, pc}")
    what = {"both": "`pairs` pairs of rows", "low": "The last row over padding", "high": "The first row under padding"}
    note = f"{what[kind]} into {plan.lanes} plane{'s' if plan.lanes > 1 else ''} of {plan.plane_words} words."
    parameters = ["const int8_t *row", "int32_t *planes"] + ["int32_t pairs"] * (kind == "both")
    return shared_function(f"gather_{kind}", parameters, note, lines)


def _pad_bytes(plan: Plan) -> int:
    return (plan.pad & 0xFF) * 0x01010101 if plan.lanes == GROUP else plan.pad & 0xFFFFFFFF


def _gather_columns(plan: Plan, pointers: Sequence[str], planes: Sequence[str], columns: int) -> list[str]:
    """Two pixels of both rows at a time, so that loads follow each other."""
    lines: list[str] = []
    step = plan.view.column_bytes
    load = "ldr" if plan.lanes == GROUP else "ldrsb"
    for start in range(0, columns, 2):
        pixels = range(start, min(start + 2, columns))
        words = []
        for number, pixel in enumerate(pixels):
            pair = []
            for row, pointer in enumerate(("r0", "r1")):
                if pointer not in pointers:
                    pair.append("r10")
                    continue
                register = f"r{4 + 2 * number + row}"
                place = f"[{pointer}], #{step}" if step <= _POST_INDEXED else f"[{pointer}, #{pixel * step}]"
                lines.append(f"{load} {register}, {place}")
                pair.append(register)
            words.append(pair)
        for low, high in words:
            own = low if low != "r10" else high
            if plan.lanes == 1:
                lines += [f"pkhbt {own}, {low}, {high}, lsl #16", f"str {own}, [{planes[0]}], #4"]
                continue
            lines += [
                f"pkhbt r8, {low}, {high}, lsl #16",
                f"pkhtb {own}, {high}, {low}, asr #16",
                "sxtb16 r9, r8",
                f"str r9, [{planes[0]}], #4",
                "sxtb16 r8, r8, ror #8",
                f"str r8, [{planes[1]}], #4",
                f"sxtb16 r9, {own}",
                f"str r9, [{planes[2]}], #4",
                f"sxtb16 {own}, {own}, ror #8",
                f"str {own}, [{planes[3]}], #4",
            ]
    return lines


def _gather_source(plan: Plan, kinds: set[str], names: Mapping[str, str]) -> str:
    """The C function that goes through pairs of rows, padding included."""
    p, view = plan.prefix, plan.view
    cases = []
    if "both" in kinds:
        cases.append(
            f"(row >= 0 && row + 1 < {view.rows}) {{\n"
            f"            done = ({view.rows} - row) / 2;\n"
            f"            done = done < count ? done : count;\n"
            f"            {names['both']}(image + row * {view.row_bytes}, planes + {view.left}, done);\n"
            "        }"
        )
    if "high" in kinds:
        cases.append(f"(row == -1) {{\n            {names['high']}(image, planes + {view.left});\n        }}")
    if "low" in kinds:
        last = view.rows - 1
        cases.append(
            f"(row == {last}) {{\n"
            f"            {names['low']}(image + {last * view.row_bytes}, planes + {view.left});\n        }}"
        )
    if "none" in kinds:
        cases.append(
            "(1) {\n"
            f"            for (int32_t plane = 0; plane < {plan.lanes}; ++plane)\n"
            f"                for (int32_t column = 0; column < {plan.width}; ++column)\n"
            f"                    planes[plane * {plan.plane_words} + column] = {plan.pad_word:#x};\n"
            "        }"
        )
    chain = "if " + " else if ".join(cases)
    return f"""/* Pairs of rows from number `pair` on into the planes' rows from `planes` on. */
static void {p}_gather(const int8_t *image, int32_t *planes, int32_t pair, int32_t count)
{{
    while (count > 0) {{
        const int32_t row = 2 * pair - {view.top};
        int32_t done = 1;
        {chain}
        planes += done * {plan.width};
        pair += done;
        count -= done;
    }}
}}
"""
