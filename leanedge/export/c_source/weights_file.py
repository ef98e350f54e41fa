"""Arrays in flash: ``<name>_weights.c`` and its header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.export.c_source.text import C_TYPES, comment, numbers, opening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.export.c_source.interface import Interface, ModelNotes
    from leanedge.export.c_source.kernel import Constant

__all__ = ["weights_header_text", "weights_text"]


def weights_text(constants: Sequence[Constant], interface: Interface, notes: ModelNotes) -> str:
    """``<name>_weights.c``."""
    stem = interface.stem
    blocks = [
        f"/* {comment(constant.note, 100)} */\n"
        f"const {_declaration(constant)} {interface.upper}_WEIGHTS({constant.alignment}) = {{\n"
        f"{numbers(constant.array)}}};\n"
        for constant in constants
    ]
    includes = f'#include "{stem}_weights.h"\n\n#include "{stem}.h"\n'
    return "\n".join([opening(f"Weights of {stem}", notes.made_from), includes, *blocks])


def weights_header_text(constants: Sequence[Constant], interface: Interface, notes: ModelNotes) -> str:
    """``<name>_weights.h``."""
    guard = f"{interface.upper}_WEIGHTS_H"
    lines = [f"extern const {_declaration(constant)};" for constant in constants]
    return "\n".join(
        [
            opening(f"Weights of {interface.stem}, private to {interface.stem}.c", notes.made_from),
            f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n",
            *lines,
            f"\n#endif /* {guard} */\n" if lines else f"#endif /* {guard} */\n",
        ]
    )


def _declaration(constant: Constant) -> str:
    return f"{C_TYPES[str(constant.array.dtype)]} {constant.name}[{constant.array.size}]"
