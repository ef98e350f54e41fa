"""``<name>.h``: the public interface, usable from C99 and C++."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.layers import operator_macs
from leanedge.export.c_source.pixels import pixel_offset, pixel_tables
from leanedge.export.c_source.text import comment, float_literal, numbers, opening, string_literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.export.c_source.interface import Interface, ModelNotes, PortName
    from leanedge.export.c_source.kernel import Kernel
    from leanedge.program.arena import ArenaPlan
    from leanedge.program.types import Program

__all__ = ["ABI", "header_text"]

ABI = 1
"""Version of the functions and macros of the generated header; another one means that callers must change."""


def header_text(
    program: Program, kernels: Sequence[Kernel], plan: ArenaPlan, interface: Interface, notes: ModelNotes
) -> str:
    """``<name>.h``."""
    stem, upper = interface.stem, interface.upper
    guard = f"{upper}_H"
    macs = sum(operator_macs(program, operator) for operator in program.operators)
    flash = sum(kernel.constant_bytes for kernel in kernels)
    parts = [
        opening(f"Model {stem}", notes.made_from),
        f"#ifndef {guard}\n#define {guard}\n",
        "#include <stdint.h>\n",
        f"#define {upper}_ABI {ABI}\n#define {upper}_MODEL_SHA256 {string_literal(notes.model_sha256)}\n"
        f"#define {upper}_ARENA_BYTES {plan.arena_bytes}\n#define {upper}_ARENA_ALIGNMENT {plan.alignment}\n"
        f"#define {upper}_WEIGHT_BYTES {flash}\n#define {upper}_MACS {macs}\n",
        _placement(upper),
        *(_port(interface, port, "in") for port in interface.inputs),
        *(_port(interface, port, "out") for port in interface.outputs),
        _labels(interface, notes),
        '#ifdef __cplusplus\nextern "C" {\n#endif\n',
        f"/* One instance; several may run side by side, each with an arena of its own. */\n"
        f"typedef struct {{\n    uint8_t *arena;\n}} {stem}_model;\n",
        f"/* Before all else. `arena`: {upper}_ARENA_BYTES bytes, aligned to {upper}_ARENA_ALIGNMENT, which stay the\n"
        f" * instance's own; see {upper}_ARENA. */\nvoid {stem}_init({stem}_model *model, void *arena);\n",
        f"/* Computes the outputs. The inputs must be written before each run: their memory is used again. */\n"
        f"void {stem}_run({stem}_model *model);\n",
        f"/* Back to the state before the first run. */\nvoid {stem}_reset({stem}_model *model);\n",
        *(_access(stem, port, written=True) for port in interface.inputs),
        *(_access(stem, port, written=False) for port in interface.outputs),
        *(_quantize(interface, port) for port in interface.inputs if port.tensor.quant is not None),
        *(_dequantize(interface, port) for port in interface.outputs if port.tensor.quant is not None),
        *(
            _pixels(interface, port, notes)
            for port in interface.inputs
            if port.port.name in notes.pixels and port.tensor.dtype == "int8"  # the tables are of bytes
        ),
        "#ifdef __cplusplus\n}\n#endif\n",
        f"#endif /* {guard} */\n",
    ]
    return "\n".join(part for part in parts if part)


def _placement(upper: str) -> str:
    return f"""\
/* Where things lie. Define these before, or on the command line, to place them: for example
 * -D'LEANEDGE_ARENA_SECTION=__attribute__((section(".dtcm")))'. */
#ifndef LEANEDGE_ALIGNED
#define LEANEDGE_ALIGNED(bytes) __attribute__((aligned(bytes)))
#endif
#ifndef LEANEDGE_WEIGHTS_SECTION
#define LEANEDGE_WEIGHTS_SECTION
#endif
#ifndef LEANEDGE_ARENA_SECTION
#define LEANEDGE_ARENA_SECTION
#endif
#define {upper}_WEIGHTS(bytes) LEANEDGE_ALIGNED(bytes) LEANEDGE_WEIGHTS_SECTION
/* Defines an arena: static {upper}_ARENA(arena); */
#define {upper}_ARENA(identifier) \\
    uint8_t identifier[{upper}_ARENA_BYTES] LEANEDGE_ALIGNED({upper}_ARENA_ALIGNMENT) LEANEDGE_ARENA_SECTION
"""


def _port(interface: Interface, port: PortName, way: str) -> str:
    tensor, prefix = port.tensor, f"{interface.upper}_{port.name.upper()}"
    what = {"in": "Input", "out": "Output"}[way]
    lines = [
        f'/* {what} "{comment(port.port.name)}"{_layout(port)}. */',
        f"#define {prefix}_TYPE {port.c_type}",
        f"#define {prefix}_RANK {len(tensor.shape)}",
        f"#define {prefix}_SHAPE {{{', '.join(map(str, tensor.shape)) or '1'}}}",
        f"#define {prefix}_ELEMENTS {tensor.elements}",
    ]
    if tensor.quant is not None:
        lines += [
            f"#define {prefix}_SCALE {float_literal(float(tensor.quant.scale))}",
            f"#define {prefix}_ZERO_POINT {_signed(int(tensor.quant.zero_point))}",
        ]
    return "\n".join(lines) + "\n"


def _signed(number: int) -> str:
    return f"({number})" if number < 0 else str(number)


def _layout(port: PortName) -> str:
    permutation = port.port.permutation
    if permutation is None or list(permutation) == sorted(permutation):
        return ""
    return f": the model's axes in the order {', '.join(map(str, permutation))}"


def _labels(interface: Interface, notes: ModelNotes) -> str:
    if not notes.labels:
        return ""
    lines = ", \\\n    ".join(string_literal(label) for label in notes.labels)
    return (
        f"/* Names of the classes: static const char *const labels[] = {interface.upper}_LABELS; */\n"
        f"#define {interface.upper}_LABEL_COUNT {len(notes.labels)}\n"
        f"#define {interface.upper}_LABELS {{ \\\n    {lines} \\\n}}\n"
    )


def _access(stem: str, port: PortName, written: bool) -> str:
    const = "" if written else "const "
    return (
        f"static inline {const}{port.c_type} *{stem}_{port.name}({'' if written else 'const '}{stem}_model *model)\n"
        f"{{\n    return ({const}{port.c_type} *)(void *)(model->arena + {port.offset});\n}}\n"
    )


def _quantize(interface: Interface, port: PortName) -> str:
    prefix = f"{interface.upper}_{port.name.upper()}"
    info = np.iinfo(port.tensor.dtype)
    return f"""\
/* A real number as an integer of this input: rounded half away from zero, saturated. */
static inline {port.c_type} {interface.stem}_quantize_{port.name}(float real)
{{
    const float quotient = real / {prefix}_SCALE;
    if (!(quotient > -131072.0f)) {{
        return {info.min};
    }}
    if (quotient > 131072.0f) {{
        return {info.max};
    }}
    int32_t whole = (int32_t)quotient;
    const float rest = quotient - (float)whole;
    whole += {prefix}_ZERO_POINT + (rest >= 0.5f) - (rest <= -0.5f);
    whole = whole < {info.min} ? {info.min} : whole;
    return ({port.c_type})(whole > {info.max} ? {info.max} : whole);
}}
"""


def _dequantize(interface: Interface, port: PortName) -> str:
    prefix = f"{interface.upper}_{port.name.upper()}"
    return f"""\
/* What an integer of this output means. */
static inline float {interface.stem}_dequantize_{port.name}({port.c_type} integer)
{{
    return {prefix}_SCALE * (float)(integer - {prefix}_ZERO_POINT);
}}
"""


def _pixels(interface: Interface, port: PortName, notes: ModelNotes) -> str:
    rule = notes.pixels[port.port.name]
    tables = pixel_tables(rule, port.tensor)
    offset = pixel_offset(tables)
    name = f"{interface.stem}_{port.name}_from_pixel"
    color = f", channels in the order {comment(rule.color)}" if rule.color else ""
    prefix = f"{interface.upper}_{port.name.upper()}_PIXEL"
    stated = "".join(
        f"#define {prefix}_{what} {{{', '.join(float_literal(number) for number in values)}}}\n"
        for what, values in (("SCALE", rule.scale), ("MEAN", rule.mean), ("STD", rule.std))
    )
    stated = (
        "/* A pixel (0 to 255) is (pixel x scale - mean) / std of the model, each one number or one a channel. */\n"
        f"{stated}#define {prefix}_COLOR {string_literal(rule.color)}\n\n"
    )
    if offset is not None:
        return f"""\
{stated}\
/* A raw pixel (0 to 255) as an integer of this input: all of the normalisation is this offset{color}. */
#define {prefix}_OFFSET {_signed(offset)}
static inline int8_t {name}(uint8_t pixel)
{{
    return (int8_t)(pixel + {prefix}_OFFSET);
}}
"""
    one = "(void)channel; /* all channels alike */\n    return table[pixel];"
    return f"""\
{stated}\
/* A raw pixel (0 to 255) of a channel as an integer of this input: the normalisation is no mere offset here{color}. */
static inline int8_t {name}(uint8_t pixel, int32_t channel)
{{
    static const int8_t table[{tables.size}] = {{
{_indented(numbers(tables))}}};
    {"return table[channel * 256 + pixel];" if len(tables) > 1 else one}
}}
"""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
