"""The arena plan, checked byte by byte by following what each byte holds, and by running the C on random graphs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from built import Instance, build, portable_source
from graphs import ACTIVATIONS, random_program
from hypothesis import given, settings
from hypothesis import strategies as st

from leanedge.export.c_source import Kernel, make_kernels, make_layers, portable_kernel
from leanedge.program.arena import ArenaPlan, plan_arena
from leanedge.program.simulate import initial_state, simulate_step
from leanedge.program.simulate.movement import MOVING_KINDS, move
from leanedge.program.types import (
    ConcatenationOptions,
    ElementwiseOptions,
    LeakyReluOptions,
    Port,
    Program,
    ProgramOperator,
    ProgramTensor,
    SplitOptions,
    State,
)

Array = np.ndarray[Any, Any]


class Follower:
    """Follows a run of abstract values, a number for each byte, and refuses a read of anything else."""

    def __init__(self, program: Program, kernels: dict[int, Kernel], plan: ArenaPlan) -> None:
        self.program, self.plan = program, plan
        self.memory = np.zeros(plan.arena_bytes, np.int64)
        self.values: dict[str, Array] = {}
        self.count = 0
        last_read = {name: index for index, op in enumerate(program.operators) for name in op.inputs}
        for name in (*(port.tensor for port in program.inputs), *(state.read for state in program.states)):
            self.write(name, self.fresh(name))
        for index, operator in enumerate(program.operators):
            for name in operator.inputs:
                self.check(name)
            if index in plan.scratch:
                start = plan.scratch[index]
                assert start + kernels[index].scratch_bytes <= plan.arena_bytes
                self.memory[start : start + kernels[index].scratch_bytes] = -1
                for name in (*operator.inputs,):
                    self.check(name)
            results = self.results(operator)
            for output, result in zip(operator.outputs, results, strict=True):
                self.check_overlaps(index, operator, output, kernels[index], last_read, result)
                self.write(output, result)
        for port in program.outputs:
            self.check(port.tensor)
        for state in program.states:
            self.check(state.written)

    def fresh(self, name: str) -> Array:
        size = self.program.tensors[name].nbytes
        self.count += size
        return np.arange(self.count - size + 1, self.count + 1).reshape(self.program.tensors[name].shape)

    def results(self, operator: ProgramOperator) -> list[Array]:
        """What moves keeps its numbers; what calculates makes new ones."""
        names = (*operator.inputs, *operator.outputs)
        if operator.kind in MOVING_KINDS and operator.kind != "pad":
            tensors = [self.program.tensors[name] for name in names]
            count = len(operator.inputs)
            return move(operator, tensors[:count], tensors[count:], [self.values[name] for name in operator.inputs])
        return [self.fresh(name) for name in operator.outputs]

    def span(self, name: str) -> slice:
        start = self.plan.offsets[name]
        assert start % self.plan.alignment == 0
        return slice(start, start + self.program.tensors[name].nbytes)

    def write(self, name: str, values: Array) -> None:
        self.values[name] = values
        span = self.span(name)
        assert span.stop <= self.plan.arena_bytes
        self.memory[span] = values.ravel()

    def check(self, name: str) -> None:
        if self.program.tensors[name].data is None:
            np.testing.assert_array_equal(self.memory[self.span(name)], self.values[name].ravel(), name)

    def check_overlaps(
        self,
        index: int,
        operator: ProgramOperator,
        output: str,
        kernel: Kernel,
        last_read: dict[str, int],
        result: Array,
    ) -> None:
        out = self.span(output)
        assert index not in self.plan.scratch or not overlap(
            out, slice(self.plan.scratch[index], self.plan.scratch[index] + kernel.scratch_bytes)
        )
        inputs = [name for name in operator.inputs if self.program.tensors[name].data is None]
        for place, name in enumerate(inputs):
            source = self.span(name)
            if not overlap(source, out):
                continue
            same = self.memory.copy()
            same[out] = result.ravel()
            if np.array_equal(same[source], self.memory[source]):
                continue  # a view: writing changes nothing of the input
            distance, lead = source.start - out.start, kernel.leads[place]
            assert lead is not None
            assert distance >= lead
            assert not kernel.exact or distance == lead
            assert last_read[name] == index


def overlap(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)


def with_scratch(kernels: dict[int, Kernel], seed: int) -> dict[int, Kernel]:
    """The kernels, some with scratch, some with other leads: the plan must follow whatever they say."""
    from dataclasses import replace

    random = np.random.default_rng(seed)
    made = {}
    for index, kernel in kernels.items():
        leads = tuple(None if random.random() < 0.2 else lead for lead in kernel.leads)
        if random.random() < 0.3:
            leads = tuple(int(random.integers(-40, 40)) if lead is not None else None for lead in leads)
        scratch = int(random.integers(1, 60)) if random.random() < 0.3 else 0
        made[index] = replace(kernel, leads=leads, scratch_bytes=scratch, exact=bool(random.random() < 0.3))
    return made


@given(st.integers(0, 2**32), st.sampled_from([1, 4, 16]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_no_byte_is_lost_before_its_last_read(seed: int, alignment: int) -> None:
    program = random_program(seed)
    kernels = make_kernels(make_layers(program, "m"), [portable_kernel])
    if seed % 2:
        kernels = with_scratch(kernels, seed)
    plan = plan_arena(program, kernels, alignment)
    assert plan.lower_bound <= plan.arena_bytes
    Follower(program, kernels, plan)


@pytest.mark.parametrize("compiler", ["gcc"])
def test_random_graphs_with_states_equal_the_reference_step_by_step(compiler: str, tmp_path: Path) -> None:
    programs = [random_program(seed) for seed in range(120)]
    assert sum(bool(program.states) for program in programs) > 40
    sources = [portable_source(drawn, f"m{number}") for number, drawn in enumerate(programs)]
    library = build(sources, tmp_path, compiler)
    random = np.random.default_rng(1)
    for number, (drawn, source) in enumerate(zip(programs, sources, strict=True)):
        instance, state = Instance(library, source, seed=number), initial_state(drawn)
        for step in range(4):
            if step == 3:
                instance.reset()
                state = initial_state(drawn)
            inputs = {
                port.name: random.integers(-128, 128, drawn.tensors[port.tensor].shape).astype(np.int8)
                for port in drawn.inputs
            }
            wanted, state = simulate_step(drawn, inputs, state)
            made = instance.run(inputs)
            for name in wanted:
                np.testing.assert_array_equal(made[name], wanted[name], f"program {number}, step {step}")


def residual_chain(sizes: list[int]) -> Program:
    tensors = {f"t{n}": ProgramTensor(f"t{n}", (size,), "int8") for n, size in enumerate(sizes)}
    operators = tuple(ProgramOperator(f"op{n}", "relu", (f"t{n}",), (f"t{n + 1}",)) for n in range(len(sizes) - 1))
    return Program(tensors, operators, (Port("x", "t0"),), (Port("y", f"t{len(sizes) - 1}"),))


@given(st.lists(st.integers(1, 900), min_size=2, max_size=10))
@settings(max_examples=50, deadline=None)
def test_a_chain_is_planned_optimally_and_the_bound_says_so(sizes: list[int]) -> None:
    plan = plan_arena(residual_chain(sizes), {})
    rounded = [-(-size // 4) * 4 for size in sizes]
    assert plan.optimal
    assert plan.arena_bytes == max(left + right for left, right in pairwise(rounded))


def test_in_place_layers_take_the_larger_of_input_and_output() -> None:
    kernel = Kernel("k", "", leads=(0,))
    plan = plan_arena(residual_chain([100, 40, 100, 100]), {0: kernel, 1: Kernel("k", "", leads=(None,)), 2: kernel})
    assert plan.arena_bytes == 140
    assert plan.offsets["t2"] == plan.offsets["t3"]


def test_an_output_is_never_overwritten_by_the_last_layer() -> None:
    tensors = {name: ProgramTensor(name, (64,), "int8") for name in "abc"}
    operators = (ProgramOperator("1", "relu", ("a",), ("b",)), ProgramOperator("2", "relu", ("b",), ("c",)))
    program = Program(tensors, operators, (Port("x", "a"),), (Port("y", "b"), Port("z", "c")))
    kernels = {index: Kernel("k", "", leads=(0,)) for index in range(2)}
    plan = plan_arena(program, kernels)
    assert abs(plan.offsets["b"] - plan.offsets["c"]) >= 64


def test_parts_put_together_in_another_order_are_not_views() -> None:
    tensors = {name: ProgramTensor(name, (1, 2, 4, 4), "int8") for name in ("left", "right")}
    tensors |= {name: ProgramTensor(name, (1, 4, 4, 4), "int8") for name in ("whole", "exchanged")}
    operators = (
        ProgramOperator("1", "split", ("whole",), ("left", "right"), SplitOptions(1)),
        ProgramOperator("2", "concatenation", ("right", "left"), ("exchanged",), ConcatenationOptions(1)),
    )
    program = Program(tensors, operators, (Port("x", "whole"),), (Port("y", "exchanged"),))
    kernels = make_kernels(make_layers(program, "m"), [portable_kernel])
    plan = plan_arena(program, kernels)
    Follower(program, kernels, plan)
    assert plan.arena_bytes == 128


def delay_line() -> Program:
    """Two states, the second of which takes the old value of the first."""
    shape = (1, 1, 1, 8)
    names = ("x", "now", "first", "second", "y", "again")
    operators = (
        ProgramOperator("1", "leaky_relu", ("x",), ("now",), LeakyReluOptions(0.9)),
        ProgramOperator("2", "add", ("now", "second"), ("y",), ElementwiseOptions()),
        ProgramOperator("3", "reshape", ("first",), ("again",)),
    )
    zeros = np.zeros(shape, np.int8)
    return Program(
        {name: ProgramTensor(name, shape, "int8", ACTIVATIONS) for name in names},
        operators,
        (Port("x", "x"),),
        (Port("y", "y"),),
        (State("first", "first", "now", zeros), State("second", "second", "again", zeros + 3)),
    )


def test_a_state_passes_its_old_value_on(tmp_path: Path) -> None:
    program = delay_line()
    source = portable_source(program, "delay")
    instance, state = Instance(build([source], tmp_path, "gcc"), source), initial_state(program)
    for step in range(5):
        inputs = {"x": np.full((1, 1, 1, 8), 11 * step, np.int8)}
        wanted, state = simulate_step(program, inputs, state)
        np.testing.assert_array_equal(instance.run(inputs)["y"], wanted["y"])
