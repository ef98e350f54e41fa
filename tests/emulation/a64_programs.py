"""Hand-assembled A64 programs whose executed instructions are known by counting them on paper."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BASE, HEADERS, DATA = 0x400000, 120, 0x1000
SVC = 0xD4000001
MARK, FUTEX, CLONE, EXIT = 4242, 98, 220, 93
# VM FS FILES SIGHAND THREAD SYSVSEM: the flags that make a thread; CHILD_CLEARTID wakes who waits for its end
THREAD_FLAGS = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000

LDR, STR, LDP, PRFM = 0xF94003EA, 0xF90003EA, 0xA94037EC, 0xF98003E0  # x10 [sp], x10 [sp], x12 x13 [sp], [sp]
LD1, STR_Q, LDXR, STXR = 0x4C4073E0, 0x3D8003E0, 0xC85F7FEA, 0xC80E7FEA  # v0.16b [sp], q0 [sp], x10 [sp], w14 x10 [sp]
ADD = 0x9100056B  # add x11, x11, #1


def mov(register: int, value: int) -> list[int]:
    """Two instructions: movz, movk."""
    return [0xD2800000 | (value & 0xFFFF) << 5 | register, 0xF2A00000 | (value >> 16 & 0xFFFF) << 5 | register]


def call(number: int, *arguments: int) -> list[int]:
    """A system call: 2 instructions an argument, 3 for the call."""
    return [word for register, value in enumerate(arguments) for word in mov(register, value)] + mov(8, number) + [SVC]


def loop(times: int, body: list[int]) -> list[int]:
    """2 + times x (body + 2) instructions."""
    back = -(len(body) + 1)
    return [*mov(9, times), *body, 0xF1000529, 0x54000001 | (back & 0x7FFFF) << 5]  # subs x9, x9, #1; b.ne


def one_loop(path: Path, times: int) -> tuple[int, int, int]:
    """A loop between two marks; returns the instructions, loads and stores between them."""
    body = [LDR, STR, ADD, LDP, PRFM, LD1, STR_Q, LDXR, STXR]
    words = call(MARK, 3, 0) + call(MARK, 1, 7) + loop(times, body) + call(MARK, 2, 7) + call(EXIT, 0)
    _write(path, words)
    return 2 + times * (len(body) + 2) + 7, times * 4, times * 3


def threads(path: Path, count: int, times: int) -> int:
    """A loop in each of `count` threads at once, between two marks.

    Returns the least instructions between them: waiting for the threads adds a few dozen.
    """
    work = loop(times, [ADD]) + call(EXIT, 0)
    words = call(MARK, 3, 0) + call(MARK, 1, 7)
    for number in range(count):
        flag, stack = BASE + DATA + 8 * number, BASE + DATA + 0x1000 * (number + 1)
        start = call(CLONE, THREAD_FLAGS, stack, 0, 0, flag)
        words += [*start, 0xB5000000 | (len(work) + 1) << 5, *work]  # cbnz x0: the parent goes on behind the work
    main = call(MARK, 3, 0) + call(MARK, 1, 7)
    least = len(words) - len(main) - count * len(work) + count * (2 + times * 3 + 5)
    for number in range(count):
        wait = call(FUTEX, BASE + DATA + 8 * number, 0)
        wait[4:4] = [0xB9400002, 0x34000002 | 7 << 5, *mov(3, 0)]  # ldr w2, [x0]; cbz w2: ended
        words += [*wait, 0x14000000 | (-len(wait) & 0x3FFFFFF)]  # b: look again
    words += call(MARK, 2, 7) + call(EXIT, 0)
    _write(path, words)
    return least


def _write(path: Path, words: list[int]) -> None:
    """A static ELF of one segment that can be read, written and executed, 64 KB of it data behind the code."""
    code = struct.pack(f"<{len(words)}I", *words)
    image = code.ljust(DATA - HEADERS, b"\0") + struct.pack("<Q", 1) * 16
    size = HEADERS + len(image)
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, size, size + 0x10000, 0x1000)
    path.write_bytes(header + image)
    path.chmod(0o755)
