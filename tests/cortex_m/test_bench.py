"""The kernel bench on kernels whose outputs, instructions and faults are known beforehand."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from leanedge.targets.cortex_m.bench import KernelTrial, run_kernels
from leanedge.targets.cortex_m.cores import CORES
from leanedge.targets.cortex_m.emulator import EmulationFault
from small_program import copy_program

from leanedge.export.c_source.kernel import Constant, Kernel

WEIGHTS = np.arange(1, 9, dtype=np.int8)

SCALE = """static void {0}_scale(const int8_t *x, int8_t *y)
{{
    for (int i = 0; i < 64; i++) {{
        y[i] = (int8_t)(x[i] * {0}_w[i & 7]);
    }}
}}"""


def scaling(prefix: str) -> Kernel:
    constants = (Constant(f"{prefix}_w", WEIGHTS, "factors"),)
    return Kernel("scaling", f"{prefix}_scale({{input0}}, {{output0}});", constants, SCALE.format(prefix))


def kernel(statement: str, **rest: object) -> Kernel:
    return Kernel("tried", statement, **rest)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def samples() -> list[list[np.ndarray]]:
    return [[np.random.default_rng(seed).integers(-128, 128, (1, 64), np.int8)] for seed in range(3)]


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("core", CORES)
def test_outputs_are_those_of_the_c_code(
    core: str, compiler: Literal["zig", "gcc"], samples: list[list[np.ndarray]]
) -> None:
    program, operator = copy_program()
    first, second = (
        KernelTrial(program, operator, scaling("a"), samples),
        KernelTrial(program, operator, scaling("b"), samples[:1]),
    )
    seen = run_kernels([first, second], core, compiler)
    for one, trial in zip(seen, (first, second), strict=True):
        assert one.faults == ()
        for (given,), (found,) in zip(trial.inputs, one.outputs, strict=True):
            np.testing.assert_array_equal(found, (given * np.tile(WEIGHTS, 8)).astype(np.int8))
    assert seen[0].counts == seen[1].counts
    assert seen[0].counts.by_class["store"] >= 64


ASSEMBLY = r"""__attribute__((naked)) static void counted(void)
{
    __asm__("push {r3, r4, r5, lr}\n movs r4, #10\n"
            "1: ldr r0, [sp]\n muls r0, r4\n str r0, [sp]\n subs r4, #1\n bne 1b\n"
            "pop {r3, r4, r5, pc}\n");
}"""


def test_instructions_are_exact_by_class_and_cycles_by_the_manual(samples: list[list[np.ndarray]]) -> None:
    program, operator = copy_program()
    empty = kernel("(void)0;")
    loop = kernel("counted();", source=ASSEMBLY)
    trials = [KernelTrial(program, operator, one, samples[:1]) for one in (empty, loop)]
    plain, seen = run_kernels(trials, "cortex-m4")
    # ldr and mul and str and subs and bne, ten times; push, movs, pop; and the call, where it stayed one.
    assert seen.counts.by_class["load"] - plain.counts.by_class["load"] in (11, 12)
    assert seen.counts.by_class["multiply"] == 10
    assert seen.counts.by_class["store"] - plain.counts.by_class["store"] in (11, 12)
    # The loop: 10 x (2 + 1 + 1 + 1 + 1) + 9 x 2 for the taken branches.
    assert 78 <= seen.counts.cycles - plain.counts.cycles <= 94
    assert seen.stack_bytes >= 16


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("{output0}[64] = (int8_t)~{output0}[64];", "0 bytes past the end of output0"),
        ("((int8_t *){input0})[3] ^= 1;", "input0 at byte 3, which it may only read"),
        ("((uint8_t *){scratch})[8] ^= 1;", "0 bytes past the end of scratch"),
        ("{output0}[-1] = (int8_t)~{output0}[-1];", "1 bytes before output0"),
    ],
)
def test_a_write_outside_is_found_and_placed(statement: str, said: str, samples: list[list[np.ndarray]]) -> None:
    program, operator = copy_program()
    (seen,) = run_kernels(
        [KernelTrial(program, operator, kernel(statement, scratch_bytes=8), samples[:1])], "cortex-m4"
    )
    assert len(seen.faults) == 1
    assert said in seen.faults[0]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("*(volatile int8_t *)0x30000000 = 1;", "wrote 1 bytes at 0x30000000, where no memory is"),
        ("*(volatile int8_t *)0x10 = 1;", "which flash does not allow"),
        ('__asm__ volatile("mov r4, #1" ::: "memory");', "returned with r4 changed"),
    ],
)
def test_a_crash_names_the_kernel(statement: str, said: str, samples: list[list[np.ndarray]]) -> None:
    program, operator = copy_program()
    with pytest.raises(EmulationFault, match="tried for copy") as raised:
        run_kernels([KernelTrial(program, operator, kernel(statement), samples[:1])], "cortex-m4")
    assert said in str(raised.value)


CROOKED = r"""__attribute__((naked, noinline)) static void crooked(int8_t *to)
{
    __asm__("adds r0, #1\n INSTRUCTION\n bx lr");
}"""


@pytest.mark.parametrize(
    ("core", "instruction", "faults"),
    [
        ("cortex-m4", "ldr r1, [r0]", False),
        ("cortex-m4", "ldrd r1, r2, [r0]", True),
        ("cortex-m4", "ldm r0, {r1, r2}", True),
        ("cortex-m4", "strd r1, r2, [r0, #4]", True),
        ("cortex-m4", r"adds r0, #3\n ldrd r1, r2, [r0]", False),
        ("cortex-m33", "vldr s0, [r0]", True),
        ("cortex-m0plus", "ldrh r1, [r0]", True),
        ("cortex-m0plus", "str r1, [r0]", True),
        ("cortex-m0plus", "ldrb r1, [r0]", False),
    ],
)
def test_what_a_core_faults_on_for_alignment_is_a_fault(
    core: str, instruction: str, faults: bool, samples: list[list[np.ndarray]]
) -> None:
    program, operator = copy_program()
    source = CROOKED.replace("INSTRUCTION", instruction)
    trial = KernelTrial(program, operator, kernel("crooked({output0});", source=source), samples[:1])
    if faults:
        with pytest.raises(EmulationFault, match="which is not aligned in crooked"):
            run_kernels([trial], core)
    else:
        run_kernels([trial], core)


def test_library_files_come_along(samples: list[list[np.ndarray]]) -> None:
    program, operator = copy_program()
    moving = kernel("leanedge_move_bytes({input0}, {output0}, 64);", library=("move_bytes.c",))
    (seen,) = run_kernels([KernelTrial(program, operator, moving, samples[:1])], "cortex-m0plus")
    np.testing.assert_array_equal(seen.outputs[0][0], samples[0][0])


def test_overlap_is_placed_as_asked(samples: list[list[np.ndarray]]) -> None:
    """Copying upwards byte by byte stands an input behind the output, and not one before it."""
    program, operator = copy_program()
    copy = kernel("for (int i = 0; i < 64; i++) { *(volatile int8_t *)&{output0}[i] = {input0}[i]; }")
    trials = [KernelTrial(program, operator, copy, samples[:1], leads=(lead,)) for lead in (0, 5, -5)]
    for one, right in zip(run_kernels(trials, "cortex-m4"), (True, True, False), strict=True):
        assert one.faults == ()
        assert np.array_equal(one.outputs[0][0], samples[0][0]) == right
