"""Waiting for flash: misses counted on code whose reads are known, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from leanedge.targets.cortex_m.bench import KernelTrial, run_kernels
from leanedge.targets.cortex_m.flash import CacheShape, FlashModel, Misses, flash_model
from small_program import copy_program

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.profile import load_profile

SMALL = CacheShape(8, 8, 4)
FLASH = FlashModel(wait_states=5, width_bytes=8, prefetch=False, code=CacheShape(512, 8, 4), data=SMALL)

READ = r"""__attribute__((naked, noinline)) static void read_all(const int8_t *from, int words, int times)
{
    __asm__("push {r4, r5, r6, lr}\n"
            "1: mov r4, r0\n mov r5, r1\n"
            "2: ldr r3, [r4], #4\n subs r5, #1\n bne 2b\n"
            "subs r2, #1\n bne 1b\n pop {r4, r5, r6, pc}\n");
}"""


CONDITIONAL = r"""__attribute__((naked, noinline)) static void read_some(const int8_t *from, int turns)
{
    __asm__("push {r4, r5, r6, lr}\n"
            "1: tst r1, #1\n it ne\n ldrne r3, [r0]\n"
            "b 3f\n 3: adds r4, r4, #1\n tst r1, #2\n ittt ne\n ldrne r3, [r0, #4]\n ldrne r5, [r0, #8]\n"
            "addne r6, #1\n b 4f\n 4: subs r1, #1\n bne 1b\n cmp r1, #0\n itt eq\n ldreq r3, [r0]\n"
            "popeq {r4, r5, r6, pc}\n b 1b\n");
}"""


def stalls(flash: FlashModel, nbytes: int, times: int) -> int:
    program, operator = copy_program()
    weights = Constant("weights", np.zeros(nbytes, np.int8), "zeros", alignment=16)
    kernel = Kernel("read", f"read_all(weights, {nbytes // 4}, {times});", (weights,), READ)
    trial = KernelTrial(program, operator, kernel, [[np.zeros((1, 64), np.int8)]])
    (seen,) = run_kernels([trial], "cortex-m4", flash=flash)
    assert seen.counts.device_cycles == seen.counts.cycles + seen.counts.stall_cycles
    return seen.counts.stall_cycles


def test_constants_that_do_not_stay_are_waited_for_each_time() -> None:
    once, again = (stalls(FLASH, 1024, times) for times in (1, 5))
    assert again - once == 4 * 1024 // 8 * 5
    assert 1024 // 8 * 5 <= once <= 1024 // 8 * 5 + 300  # the code itself is read once


def test_loads_on_a_condition_are_followed_without_harm() -> None:
    program, operator = copy_program()
    weights = Constant("weights", np.zeros(64, np.int8), "zeros", alignment=16)
    kernel = Kernel("read", "read_some(weights, 40);", (weights,), CONDITIONAL)
    trial = KernelTrial(program, operator, kernel, [[np.zeros((1, 64), np.int8)]])
    (plain,), (followed,) = (run_kernels([trial], "cortex-m4", flash=flash) for flash in (None, FLASH))
    assert replace(followed.counts, stall_cycles=0) == plain.counts
    assert followed.counts.stall_cycles > 0


def test_constants_that_stay_are_waited_for_once() -> None:
    assert stalls(FLASH, 64, 5) == stalls(FLASH, 64, 1)


def test_code_that_does_not_stay_is_waited_for_each_time() -> None:
    tiny = replace(FLASH, code=CacheShape(1, 8, 1))
    once, again = (stalls(tiny, 64, times) for times in (1, 11))
    # The inner loop's 8 bytes stay or lie across two lines; the outer loop reads two lines at least in each turn.
    assert again - once >= 10 * 2 * 5
    assert stalls(replace(tiny, prefetch=True), 64, 11) < again


def test_a_miss_costs_the_reads_of_its_line() -> None:
    flash = FlashModel(4, 16, False, CacheShape(64, 32, 4), CacheShape(64, 16, 4))
    assert flash.stall_cycles(Misses(next=3, jump=2, data=10), 1000, 1000) == (3 + 2) * 9 + 10 * 4
    # Prefetched: 32 bytes of code take 32 cycles here, longer than the 9 of the next line.
    assert replace(flash, prefetch=True).stall_cycles(Misses(3, 2, 10), 1000, 1000) == 2 * 9 + 10 * 4


@pytest.mark.parametrize(("board", "shared"), [("nucleo-u575zi-q", True), ("nucleo-l4r5zi", False)])
def test_a_profile_says_what_stands_in_front_of_its_flash(board: str, shared: bool) -> None:
    flash = flash_model(load_profile(board))
    assert flash is not None
    assert (flash.code is flash.data) == shared
    assert flash.code.lines * flash.code.line_bytes == (8192 if shared else 1024)
    assert flash_model(load_profile("nrf52840-dk")) is None
