"""Small pieces of C text: identifiers, comments, numbers, initialisers. Names from a model file are never trusted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = [
    "C_TYPES",
    "comment",
    "file_stem",
    "float_literal",
    "identifier",
    "initialiser",
    "numbers",
    "opening",
    "string_literal",
]

Array = np.ndarray[Any, Any]

C_TYPES: Mapping[str, str] = {
    name: f"{name}_t" for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
}
"""Type of a tensor -> the C type of its elements."""

_WIDTH = 112

_RESERVED = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef "
    "stdint stdio stdlib string tgmath time wchar wctype main leanedge_kernels leanedge_fixed_point leanedge_pairs "
    "leanedge_dots"
)
"""Names of C's own headers and of files that stand beside a model's."""


def identifier(text: str, taken: Collection[str] = ()) -> str:
    """The part of a C identifier that says `text`: lower case, ASCII, without underscores at the ends.

    It is meant to follow a prefix, so keywords are let through.

    >>> identifier("features.0/Conv_output")
    'features_0_conv_output'
    >>> identifier("größe", taken=["gr_e"])
    'gr_e_2'
    """
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].strip("_") or "unnamed"
    unique, number = plain, 2
    while unique in taken:
        unique, number = f"{plain}_{number}", number + 1
    return unique


def file_stem(name: str) -> str:
    """A model's name as the start of its C names and the name of its files.

    >>> file_stem("My model (v2)"), file_stem("3d"), file_stem("string")
    ('my_model_v2', 'model_3d', 'string_model')
    """
    stem = identifier(name)
    if stem[0].isdigit():
        stem = f"model_{stem}"
    return f"{stem}_model" if stem in _RESERVED.split() else stem


def comment(text: str, limit: int = 80) -> str:
    """Text of a model file made harmless inside a comment: printable ASCII, no end of comment, no trigraph.

    >>> comment("a */ b ??/ c")
    'a *. b ../ c'
    """
    plain = re.sub(r"[^ -~]", ".", text).replace("\\", ".").replace("*/", "*.").replace("/*", ".*").replace("?", ".")
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def string_literal(text: str) -> str:
    r"""Text as a C string of UTF-8 bytes; everything but plain ASCII is an octal escape.

    >>> print(string_literal('t"?'))
    "t\042\077"
    """
    plain = set(map(ord, " !#$%&'()*+,-./:;<=>@[]^_`{|}~")) | set(range(48, 58)) | set(range(65, 91))
    plain |= set(range(97, 123))
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def float_literal(number: float) -> str:
    """A float32 as a C literal that reads back exactly.

    >>> float_literal(0.1), float_literal(1.0), float_literal(1e-7)
    ('0.1f', '1.0f', '1e-07f')
    """
    return f"{np.float32(number)!s}f"


_PER_LINE = {1: 18, 2: 13, 4: 8, 8: 5}
"""Numbers on a line, by bytes of each: at most 110 characters."""


def numbers(array: Array) -> str:
    """The elements in C order, comma separated, on indented lines."""
    # The literal of INT32_MIN is no int32 in C.
    parts = ["INT32_MIN" if number == -(1 << 31) else str(number) for number in array.ravel().tolist()]
    step = _PER_LINE[array.itemsize]
    return ",\n".join("    " + ", ".join(parts[at : at + step]) for at in range(0, len(parts), step))


def initialiser(fields: Mapping[str, Any]) -> str:
    """The inside of a struct's braces: designated; nested structs on lines of their own.

    >>> print(initialiser({"window": {"rows": 2, "columns": 3}, "low": -128, "sizes": (1, 2)}))
        .window = {
            .rows = 2, .columns = 3},
        .low = -128, .sizes = {1, 2}
    """
    return ",\n".join(_rows(fields, "    "))


def _rows(fields: Mapping[str, Any], indent: str) -> list[str]:
    rows: list[str] = []
    loose: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            rows += _packed(loose, indent)
            loose = []
            rows.append(f"{indent}.{name} = {{\n" + ",\n".join(_rows(value, indent + "    ")) + "}")
        else:
            loose.append(f".{name} = {_value(value)}")
    return rows + _packed(loose, indent)


def _packed(items: Sequence[str], indent: str) -> list[str]:
    """As many items on a line as fit."""
    rows: list[str] = []
    for item in items:
        if rows and len(rows[-1]) + len(item) + 2 <= _WIDTH:
            rows[-1] += f", {item}"
        else:
            rows.append(indent + item)
    return rows


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (tuple, list)):
        return "{" + ", ".join(str(int(part)) for part in value) + "}"
    return str(int(value))


def opening(title: str, made_from: Sequence[str]) -> str:
    """The comment at the top of a generated file, with its licence: none."""
    lines = [
        f"{title}.",
        "",
        f"Made by LeanEdge {__version__}; change the model, not this file.",
        *(comment(line, 110) for line in made_from),
        "SPDX-License-Identifier: 0BSD",
        "This file is yours: use it for any purpose, without condition and without warranty.",
    ]
    return "/* " + "\n".join(f" * {line}".rstrip() for line in lines)[3:] + "\n */\n"
