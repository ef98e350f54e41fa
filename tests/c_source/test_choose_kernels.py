"""The choice of kernels against all choices there are, on small Programs with made-up costs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanedge.compress.types import TensorQuant
from leanedge.export.c_source.choose import SLACK, KernelOption, choose_kernels, ram_at
from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.arena import plan_arena
from leanedge.program.types import Port, Program, ProgramOperator, ProgramTensor

if TYPE_CHECKING:
    from leanedge.target import Optimize

QUANT = TensorQuant("int8", np.asarray(0.5, np.float32), np.asarray(0, np.int64))


def chain(sizes: list[int]) -> Program:
    """Unary operators one after another, on tensors of so many bytes."""
    names = [f"t{number}" for number in range(len(sizes))]
    tensors = {
        name: ProgramTensor(name, (1, 1, 1, size), "int8", QUANT) for name, size in zip(names, sizes, strict=True)
    }
    operators = tuple(
        ProgramOperator(f"op{number}", "relu", (names[number],), (names[number + 1],))
        for number in range(len(sizes) - 1)
    )
    return Program(tensors, operators, (Port("in", names[0]),), (Port("out", names[-1]),))


def option(name: str, cycles: int, flash: int, scratch: int = 0, shared: dict[str, int] | None = None) -> KernelOption:
    constants = (Constant(name, np.zeros(flash, np.int8), "made up"),) if flash else ()
    return KernelOption(Kernel(name, "f();", constants, scratch_bytes=scratch), cycles, cycles, 0, shared or {})


def flash_of(chosen: tuple[KernelOption, ...] | list[KernelOption]) -> int:
    shared = {key: size for each in chosen for key, size in each.shared_bytes.items()}
    return sum(each.flash_bytes for each in chosen) + sum(shared.values())


choices = st.lists(
    st.lists(
        st.tuples(st.integers(100, 5000), st.integers(0, 400), st.integers(0, 60).map(lambda words: 4 * words)),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=40)
@given(choices, st.integers(0, 1200), st.sampled_from([300, 600, None]))
def test_the_fastest_within_the_limits_as_brute_force_finds_it(
    groups: list[list[tuple[int, int, int]]], flash_limit: int, ram_limit: int | None
) -> None:
    program = chain([64] * (len(groups) + 1))
    options = [
        [option(f"k{number}_{which}", *costs) for which, costs in enumerate(group)]
        for number, group in enumerate(groups)
    ]
    fitting = [
        combination
        for combination in itertools.product(*options)
        if flash_of(combination) <= flash_limit
        and (
            ram_limit is None
            or all(ram_at(program, index, each.kernel) <= ram_limit for index, each in enumerate(combination))
        )
    ]
    chosen = choose_kernels(program, options, "speed", flash_limit, ram_limit)
    if not fitting:
        assert chosen is None
        return
    assert chosen is not None
    least = min(sum(each.cycles for each in combination) for combination in fitting)
    assert sum(each.cycles for each in chosen) <= least * SLACK["speed"] + 1
    assert flash_of(chosen) <= flash_limit


def test_code_that_layers_share_counts_once() -> None:
    program = chain([64, 64, 64, 64])
    own = [option(f"own{number}", 1000, 300) for number in range(3)]
    loop = [option(f"loop{number}", 1100, 20, shared={"leanedge_loop": 500}) for number in range(3)]
    chosen = choose_kernels(program, [[a, b] for a, b in zip(own, loop, strict=True)], "size")
    assert chosen is not None
    assert [each.kernel.name for each in chosen] == ["loop0", "loop1", "loop2"]
    one = choose_kernels(chain([64, 64]), [[own[0], loop[0]]], "size")
    assert one is not None
    assert one[0].kernel.name == "own0"


def test_shared_code_is_paid_for_before_kernels_are_exchanged() -> None:
    """One by one, no loop can be given up for its layer's own code: the choice itself must know what they share."""
    own = [option(f"own{number}", 1000, 100) for number in range(3)]
    loop = [option(f"loop{number}", 1000, 20, shared={"leanedge_loop": 500}) for number in range(3)]
    chosen = choose_kernels(chain([64, 64, 64, 64]), [[a, b] for a, b in zip(own, loop, strict=True)], "size")
    assert chosen is not None
    assert [each.kernel.name for each in chosen] == ["own0", "own1", "own2"]


@pytest.mark.parametrize(("optimize", "expected"), [("speed", "unrolled"), ("size", "loop")])
def test_flash_is_saved_where_it_is_worth_the_cycles(optimize: Optimize, expected: str) -> None:
    chosen = choose_kernels(chain([64, 64]), [[option("unrolled", 1000, 400), option("loop", 1200, 100)]], optimize)
    assert chosen is not None
    assert chosen[0].kernel.name == expected


def test_scratch_is_saved_where_it_costs_few_cycles() -> None:
    options = [[option("wide", 1000, 100, scratch=400), option("narrow", 1050, 100, scratch=40)]]
    chosen = choose_kernels(chain([400, 400]), options, "speed")
    assert chosen is not None
    assert chosen[0].kernel.name == "narrow"


def test_ram_is_a_lower_bound_of_what_the_planner_needs() -> None:
    program = chain([64, 128, 32])
    kernels = {0: Kernel("a", "f();", scratch_bytes=16, leads=(0,)), 1: Kernel("b", "f();", leads=(None,))}
    bound = max(ram_at(program, index, kernel) for index, kernel in kernels.items())
    assert bound <= plan_arena(program, kernels).arena_bytes
    assert ram_at(program, 0, kernels[0]) == 128 + 16
    assert ram_at(program, 1, kernels[1]) == 128 + 32
