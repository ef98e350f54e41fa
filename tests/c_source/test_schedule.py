"""The order of operators: valid, no worse than it was, and the best of all where they can all be tried."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from graphs import random_program
from hypothesis import given, settings
from hypothesis import strategies as st

from leanedge.export.c_source import make_kernels, make_layers, portable_kernel
from leanedge.program.arena import plan_arena
from leanedge.program.schedule import order_peak, reordered, schedule
from leanedge.program.simulate import simulate
from leanedge.program.types import Port, Program, ProgramOperator, ProgramTensor


def is_valid(program: Program, order: tuple[int, ...]) -> bool:
    written = {port.tensor for port in program.inputs} | {state.read for state in program.states}
    written |= {name for name, tensor in program.tensors.items() if tensor.data is not None}
    for index in order:
        if not written.issuperset(program.operators[index].inputs):
            return False
        written.update(program.operators[index].outputs)
    return True


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_an_order_is_valid_and_no_worse(seed: int) -> None:
    program = random_program(seed)
    kernels = make_kernels(make_layers(program, "m"), [portable_kernel])
    order = schedule(program, kernels)
    assert sorted(order) == list(range(len(program.operators)))
    assert is_valid(program, order)
    moved = {place: kernels[index] for place, index in enumerate(order)}
    assert order_peak(reordered(program, order), moved) <= order_peak(program, kernels)


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_no_order_of_a_small_graph_is_better(seed: int) -> None:
    program = random_program(seed, states=False)
    count = len(program.operators)
    if count > 6:
        return
    found = order_peak(reordered(program, schedule(program)))
    every = (order for order in permutations(range(count)) if is_valid(program, order))
    assert found == min(order_peak(reordered(program, order)) for order in every)


def two_branches() -> Program:
    """Both wide tensors first, then both reductions, as a breadth-first exporter would write it."""
    sizes = {"x": 100, "wide1": 1000, "wide2": 1000, "narrow1": 10, "narrow2": 10, "y": 10}
    tensors = {name: ProgramTensor(name, (size,), "int8") for name, size in sizes.items()}
    operators = (
        ProgramOperator("1", "relu", ("x",), ("wide1",)),
        ProgramOperator("2", "relu", ("x",), ("wide2",)),
        ProgramOperator("3", "relu", ("wide1",), ("narrow1",)),
        ProgramOperator("4", "relu", ("wide2",), ("narrow2",)),
        ProgramOperator("5", "add", ("narrow1", "narrow2"), ("y",)),
    )
    return Program(tensors, operators, (Port("x", "x"),), (Port("y", "y"),))


def test_branches_are_run_one_after_the_other() -> None:
    program = two_branches()
    assert order_peak(program) == 2100
    order = schedule(program)
    assert order_peak(reordered(program, order)) == 1110
    assert plan_arena(reordered(program, order), {}).arena_bytes < 1120 < plan_arena(program, {}).arena_bytes


def test_an_order_that_is_no_better_is_left_alone() -> None:
    program = two_branches()
    best = reordered(program, (0, 2, 1, 3, 4))
    assert schedule(best) == (0, 1, 2, 3, 4)


def test_another_order_computes_the_same() -> None:
    for seed in range(40):
        program = random_program(seed, states=False)
        order = schedule(program)
        if order == tuple(range(len(order))):
            continue
        inputs: dict[str, Any] = {
            port.name: np.random.default_rng(seed).integers(-128, 128, program.tensors[port.tensor].shape)
            for port in program.inputs
        }
        after = simulate(reordered(program, order), inputs)
        for name, wanted in simulate(program, inputs).items():
            np.testing.assert_array_equal(after[name], wanted)
        return
    raise AssertionError("no random graph has a better order")
