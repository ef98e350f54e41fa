"""Assembly functions as C text: naked functions whose registers are fixed by hand, for GCC and Clang alike."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["add_constant", "load_words", "move_constant", "naked_function", "once", "shared_function"]


def naked_function(name: str, parameters: Sequence[str], note: str, lines: Iterable[str]) -> str:
    """A static C function of nothing but assembly: it saves registers and returns by itself.

    ``used`` keeps compilers from changing how it is called: they can't see that it reads its arguments.

    Args:
        name: C identifier.
        parameters: In C, words: the first four arrive in r0 to r3, more on the stack.
        note: What it does, for a comment.
        lines: Instructions, numeric local labels, and comments of C.
    """
    listed = ",\n".join(f"    __attribute__((unused)) {parameter}" for parameter in parameters)
    body = "\n".join(map(_written, (".syntax unified", *lines)))
    return (
        f"/* {note} */\n"
        f"static __attribute__((naked, noinline, used)) void {name}(\n{listed})\n"
        f"{{\n    __asm__ volatile(\n{body});\n}}\n"
    )


def shared_function(stem: str, parameters: Sequence[str], note: str, lines: Iterable[str]) -> tuple[str, str]:
    """(name, source) of a naked function that layers share whose instructions are the same: they name it."""
    listed = list(lines)
    name = f"leanedge_{stem}_{zlib.crc32(chr(10).join(listed).encode()):08x}"
    return name, once(name, naked_function(name, parameters, note, listed))


def once(name: str, text: str) -> str:
    """Text that a translation unit has once, however many layers bring it along: layers of one shape share code."""
    guard = f"LEANEDGE_HAS_{name.upper()}"
    return f"#ifndef {guard}\n#define {guard}\n{text}#endif\n"


def load_words(pointer: str, registers: Sequence[str]) -> str:
    """Consecutive words at `pointer`, which ends behind them; registers in rising order."""
    if len(registers) == 1:
        return f"ldr {registers[0]}, [{pointer}], #4"
    return f"ldm {pointer}!, {{{', '.join(registers)}}}"


def add_constant(target: str, source: str, number: int, spare: str) -> list[str]:
    """Adds a number of any size: target = source + number; `spare` is lost where the number is large."""
    if number == 0:
        return [] if target == source else [f"mov {target}, {source}"]
    if abs(number) < 4096:
        return [f"{'add' if number > 0 else 'sub'} {target}, {source}, #{abs(number)}"]
    return [*move_constant(spare, number), f"add {target}, {source}, {spare}"]


def move_constant(target: str, number: int) -> list[str]:
    """Sets a register to a number of any size."""
    bits = number & 0xFFFFFFFF
    lines = [f"movw {target}, #{bits & 0xFFFF}"]
    return lines if bits < 0x10000 else [*lines, f"movt {target}, #{bits >> 16}"]


def _written(line: str) -> str:
    if line.startswith("/*"):
        return f"        {line}"
    return f'        "{line if line.endswith(":") else "    " + line}\\n"'
