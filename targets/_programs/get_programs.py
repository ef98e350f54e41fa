"""Gets the programs that emulation needs, without root rights: ``python -m leanedge.targets._programs.get_programs``.

``--check`` only says what is there. Names limit it to some; without names all are got. One line for each; exit code 5
when one is missing and can't be had (what not every machine can have is optional).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.errors import LeanEdgeError, MissingProgram

from .._linux import qemu as linux_qemu
from .._linux.arm64_root import arm64_root, has_root
from .._linux.wheels import (
    HOST_RUNTIMES,
    RUNTIMES,
    board_wheels,
    has_board_wheels,
    host_wheels,
    made_host_wheels,
)
from ..cortex_m import qemu as cortex_m_qemu
from ..cortex_m.gcc import Gcc, find_gcc, get_gcc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .qemu import Qemu, QemuProgram

__all__ = ["PROGRAMS", "Program", "main"]


@dataclass(frozen=True)
class Program:
    """Something to get: `get` makes it (or finds it) and `check` finds it; both return where it is.

    `optional`: not every machine can have it, and what needs it says so.
    """

    get: Callable[[], str]
    check: Callable[[], str]
    optional: bool = False


def _qemu(program: QemuProgram) -> Program:
    def line(qemu: Qemu) -> str:
        version = ".".join(str(number) for number in qemu.version)
        return f"{qemu.path} ({version}{', ' + qemu.no_plugins if qemu.no_plugins else ', counts instructions'})"

    return Program(lambda: line(program.get()), lambda: line(program.find()))


def _plugin(program: QemuProgram, plugin: Callable[[Qemu], Path]) -> Program:
    return Program(lambda: str(plugin(program.get())), lambda: str(plugin(program.find())))


def _gcc(gcc: Gcc) -> str:
    return f"{gcc.path} ({gcc.version})"


def _root_check() -> str:
    if not has_root():
        raise MissingProgram("not made yet")
    return str(arm64_root().folder)


def _wheels(runtime: str) -> Program:
    def check() -> str:
        if not has_root() or not has_board_wheels(arm64_root(), runtime):
            raise MissingProgram("not made yet")
        return str(board_wheels(arm64_root(), runtime))

    return Program(lambda: str(board_wheels(arm64_root(), runtime)), check)


def _host_wheels(runtime: str) -> Program:
    def check() -> str:
        folder = made_host_wheels(runtime)
        if folder is None:
            raise MissingProgram("not made yet")
        return str(folder)

    return Program(lambda: str(host_wheels(runtime)), check, optional=True)


PROGRAMS = {
    linux_qemu.QEMU.name: _qemu(linux_qemu.QEMU),
    "count-plugin": _plugin(linux_qemu.QEMU, linux_qemu.count_plugin),
    "arm64-root": Program(lambda: str(arm64_root().folder), _root_check),
    **{f"arm64-{runtime}": _wheels(runtime) for runtime in RUNTIMES},
    **{f"host-{runtime}": _host_wheels(runtime) for runtime in HOST_RUNTIMES},
    cortex_m_qemu.QEMU.name: _qemu(cortex_m_qemu.QEMU),
    "cortex-m-count-plugin": _plugin(cortex_m_qemu.QEMU, cortex_m_qemu.count_plugin),
    "arm-none-eabi-gcc": Program(lambda: _gcc(get_gcc()), lambda: _gcc(find_gcc())),
}
"""In the order in which they are got."""


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="get-programs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is there")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PROGRAMS)}; none means all")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in PROGRAMS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PROGRAMS)}")
    missing = 0
    for name in options.names or PROGRAMS:
        program = PROGRAMS[name]
        try:
            line = f"ready    {name}: {program.check() if options.check else program.get()}"
        except LeanEdgeError as error:
            missing += not program.optional
            line = f"{'without ' if program.optional else 'MISSING '} {name}: {error}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return MissingProgram.exit_code if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
