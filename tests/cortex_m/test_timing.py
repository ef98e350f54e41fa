"""Cycles of short runs of instructions, by hand."""

from __future__ import annotations

import pytest
from leanedge.targets.cortex_m.emulator import Block
from leanedge.targets.cortex_m.timing import count

# Thumb: ldr r2, [r3]; ldr r4, [r5]; muls r6, r7, r6; ldm r0!, {r1, r2, r3, r4}; b .
LDR_R2, LDR_R4, MUL_R6, LDM, BRANCH = "1a68", "2c68", "7e43", "1ec8", "fee7"
MOV_R0, MOV_R1, USE_R0 = "8046", "8946", "8044"  # mov r8, r0; mov r9, r1; add r8, r0


@pytest.mark.parametrize(
    ("core", "code", "cycles"),
    [
        ("cortex-m4", MOV_R0 + MOV_R1, 2),
        ("cortex-m4", LDR_R2, 2),
        ("cortex-m4", LDR_R2 + LDR_R4, 3),
        ("cortex-m4", LDM, 5),
        ("cortex-m4", MUL_R6, 1),
        ("cortex-m4", BRANCH, 3),
        ("cortex-m0plus", LDR_R2 + LDR_R4, 4),
        ("cortex-m0plus", LDM, 5),
        ("cortex-m0plus", BRANCH, 2),
        ("cortex-m7", MOV_R0 + MOV_R1, 1),
        ("cortex-m7", MOV_R0 + USE_R0, 2),
        ("cortex-m7", LDR_R2 + LDR_R4, 2),
        ("cortex-m7", LDR_R2 + MOV_R1, 1),
        ("cortex-m7", LDM, 3),
    ],
)
def test_cycles_of_a_block(core: str, code: str, cycles: int) -> None:
    data = bytes.fromhex(code)
    taken = 10 if code.endswith(BRANCH) else 0
    counts = count([Block(0, len(data), 0, 10, taken)], lambda address, nbytes: data, core)
    assert counts.cycles == 10 * cycles
    assert counts.instructions == 10 * len(data) // 2
