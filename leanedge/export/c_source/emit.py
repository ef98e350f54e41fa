"""emit(program, kernels, name) -> C files: model, weights, public header, the kernels used, an example, a README."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge import resources
from leanedge.export.c_source.header import header_text
from leanedge.export.c_source.interface import ModelNotes, name_interface
from leanedge.export.c_source.model_file import is_free, model_text
from leanedge.export.c_source.pages import example_text, readme_text
from leanedge.export.c_source.states import initial_constants, state_library
from leanedge.export.c_source.weights_file import weights_header_text, weights_text
from leanedge.program.arena import plan_arena

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leanedge.export.c_source.interface import Interface
    from leanedge.export.c_source.kernel import Kernel
    from leanedge.program.arena import ArenaPlan
    from leanedge.program.types import Program

__all__ = ["CSource", "emit"]


@dataclass(frozen=True)
class CSource:
    """The files of one model.

    Attributes:
        interface: Its public names.
        files: Name -> text; the example is ``example_main.c``.
        sources: The C files to be compiled into a firmware (all but the example).
        plan: Where each tensor lies.
        constant_bytes: Flash that the arrays take; parameters and code come on top.
    """

    interface: Interface
    files: Mapping[str, str]
    sources: tuple[str, ...]
    plan: ArenaPlan
    constant_bytes: int


def emit(
    program: Program,
    kernels: Mapping[int, Kernel],
    name: str,
    notes: ModelNotes | None = None,
    plan: ArenaPlan | None = None,
) -> CSource:
    """Writes nothing: the texts of all files. The same arguments give the same texts.

    Args:
        program: With integer inputs and outputs (`integer_ports`), in its order of execution.
        kernels: Operator index -> its kernel (`make_kernels`).
        name: Of the model; any text, the C names are made from it.
        notes: What the files say beyond the Program.
        plan: Where each tensor lies; `plan_arena`'s by default.
    """
    notes = notes or ModelNotes()
    plan = plan or plan_arena(program, kernels)
    interface = name_interface(program, plan, name)
    ordered = [kernels[index] for index in range(len(program.operators))]
    stem = interface.stem
    initial = initial_constants(program, stem)
    working = [
        kernel
        for operator, kernel in zip(program.operators, ordered, strict=True)
        if not is_free(program, operator, plan)
    ]
    constants = [constant for kernel in working for constant in kernel.constants] + list(initial.values())
    library = _library([*state_library(program), *(file for kernel in working for file in kernel.library)])
    files = {
        f"{stem}.c": model_text(program, ordered, plan, interface, notes, initial),
        f"{stem}.h": header_text(program, ordered, plan, interface, notes),
        f"{stem}_weights.c": weights_text(constants, interface, notes),
        f"{stem}_weights.h": weights_header_text(constants, interface, notes),
        **library,
        "example_main.c": example_text(interface, notes),
    }
    sources = tuple(file for file in files if file.endswith(".c") and file != "example_main.c")
    files["README.md"] = readme_text(program, ordered, plan, interface, notes, sources)
    return CSource(interface, files, sources, plan, sum(constant.array.nbytes for constant in constants))


def _library(names: Iterable[str]) -> dict[str, str]:
    """The files of ``targets/_c/kernels`` named, and what they include, by name."""
    folder = resources.folder("targets") / "_c" / "kernels"
    found: dict[str, str] = {}
    wanted = sorted(set(names))
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = (folder / name).read_text(encoding="utf-8")
            wanted.extend(re.findall(r'^#include "([^"]+)"', found[name], re.MULTILINE))
    return dict(sorted(found.items()))
