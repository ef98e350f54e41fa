"""A model of two layers in hand-written C, as the exporter would write it, and what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from leanedge.targets.cortex_m.image import Buffer, ModelSources

if TYPE_CHECKING:
    from pathlib import Path

HEADER = """#include <stdint.h>
extern uint8_t arena[256];
void model_run(void);
"""

SOURCE = """#include "model.h"
#include <string.h>
static const int8_t factors[8] = {{1, 2, 3, 4, 5, 6, 7, 8}};
static uint32_t runs = 7;
uint8_t arena[256] __attribute__((aligned(16)));
static __attribute__((noinline)) void scale(void)
{{
    for (int i = 0; i < 64; i++) {{
        ((int8_t *)arena)[64 + i] = (int8_t)(((const int8_t *)arena)[i] * factors[i & 7]);
    }}
}}
static __attribute__((noinline)) void turn(void)
{{
    volatile int8_t copy[{frame}];
    for (int i = 0; i < 64; i++) {{
        copy[i] = ((const int8_t *)arena)[64 + i];
    }}
    for (int i = 0; i < 64; i++) {{
        ((int8_t *)arena)[63 - i] = copy[i];
    }}
    {extra}
}}
void model_run(void)
{{
    runs++;
    scale();
    turn();
}}
"""


def small_model(folder: Path, *, frame: int = 64, extra: str = "", **changes: object) -> ModelSources:
    (folder / "model.h").write_text(HEADER)
    (folder / "model.c").write_text(SOURCE.format(frame=frame, extra=extra))
    fields: dict[str, object] = {
        "files": (folder / "model.c",),
        "include": (folder,),
        "header": "model.h",
        "invoke": "model_run();",
        "inputs": (Buffer("arena", 64),),
        "outputs": (Buffer("arena", 64),),
        "layers": (("first", "scale"), ("second", "turn")),
    }
    return ModelSources(**{**fields, **changes})  # type: ignore[arg-type]


def small_model_output(given: bytes) -> bytes:
    factors = np.tile(np.arange(1, 9, dtype=np.int8), 8)
    return (np.frombuffer(given, np.int8) * factors)[::-1].tobytes()
