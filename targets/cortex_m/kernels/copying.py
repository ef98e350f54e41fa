"""Copies of bytes in assembly, shared by the kernels: they may not rely on a C library's."""

from __future__ import annotations

from .assembly import naked_function, once

__all__ = ["COPY_BYTES", "COPY_BYTES_SOURCE"]

COPY_BYTES = "leanedge_copy_bytes"
"""C function (target, source, bytes): neither address needs to be aligned."""

_REGISTERS = ("r3", "r4", "r5", "r6", "r7", "r8", "r12", "lr")

COPY_BYTES_SOURCE = once(
    COPY_BYTES,
    naked_function(
        COPY_BYTES,
        ("int8_t *target", "const int8_t *source", "uint32_t bytes"),
        "Copies bytes, 32 at a time.",
        [
            "push {r4-r8, lr}",
            "subs r2, r2, #32",
            "blo 2f",
            "1:",
            *(f"ldr {register}, [r1, #{4 * n}]" for n, register in enumerate(_REGISTERS)),
            *(f"str {register}, [r0, #{4 * n}]" for n, register in enumerate(_REGISTERS)),
            "add r1, r1, #32",
            "add r0, r0, #32",
            "subs r2, r2, #32",
            "bhs 1b",
            "2:",
            "adds r2, r2, #28",
            "bmi 4f",
            "3:",
            "ldr r3, [r1], #4",
            "str r3, [r0], #4",
            "subs r2, r2, #4",
            "bpl 3b",
            "4:",
            "adds r2, r2, #4",
            "beq 6f",
            "5:",
            "ldrb r3, [r1], #1",
            "strb r3, [r0], #1",
            "subs r2, r2, #1",
            "bne 5b",
            "6:",
            "pop {r4-r8, pc}",
        ],
    ),
)
