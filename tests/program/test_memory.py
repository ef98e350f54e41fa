"""The arena plan never overlaps live tensors, is aligned, and knows its peak."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from leanedge.program.memory import ALIGNMENT, Lifetime, lifetimes, peak_bytes, place, plan_memory
from leanedge.program.types import Port, Program, ProgramOperator, ProgramTensor


@st.composite
def many_lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    count = draw(st.integers(0, 12))
    made = []
    for index in range(count):
        first = draw(st.integers(0, 10))
        made.append(Lifetime(f"t{index}", draw(st.integers(0, 200)), first, first + draw(st.integers(0, 6))))
    return made


@given(many_lifetimes())
@settings(deadline=None)
def test_tensors_that_live_together_never_overlap(alive: list[Lifetime]) -> None:
    offsets = place(alive)
    assert set(offsets) == {tensor.name for tensor in alive}
    assert all(offset % ALIGNMENT == 0 for offset in offsets.values())
    for index, one in enumerate(alive):
        for other in alive[index + 1 :]:
            if one.overlaps(other) and one.nbytes and other.nbytes:
                before = offsets[one.name] + one.nbytes <= offsets[other.name]
                after = offsets[other.name] + other.nbytes <= offsets[one.name]
                assert before or after, (one, other, offsets)


@given(many_lifetimes())
@settings(deadline=None)
def test_a_plan_is_at_least_the_peak_and_at_most_everything_side_by_side(alive: list[Lifetime]) -> None:
    offsets = place(alive)
    used = max((offsets[tensor.name] + tensor.nbytes for tensor in alive), default=0)
    assert peak_bytes(alive) <= used <= sum(tensor.nbytes + ALIGNMENT for tensor in alive)


def chain(sizes: list[int]) -> Program:
    tensors = {f"t{i}": ProgramTensor(f"t{i}", (size,), "int8", offset=None) for i, size in enumerate(sizes)}
    operators = tuple(ProgramOperator(f"op{i}", "relu", (f"t{i}",), (f"t{i + 1}",)) for i in range(len(sizes) - 1))
    return Program(tensors, operators, (Port("x", "t0"),), (Port("y", f"t{len(sizes) - 1}"),))


@given(st.lists(st.integers(1, 1000).map(lambda n: n * ALIGNMENT), min_size=2, max_size=12))
@settings(deadline=None)
def test_a_chain_needs_its_largest_pair_and_no_more(sizes: list[int]) -> None:
    planned = plan_memory(chain(sizes))
    pairs = [left + right for left, right in pairwise(sizes)]
    assert planned.arena_bytes == max(pairs)


def test_lifetimes_reach_from_the_writer_to_the_last_reader() -> None:
    tensors = {name: ProgramTensor(name, (4,), "int8") for name in "abcd"}
    operators = (
        ProgramOperator("1", "relu", ("a",), ("b",)),
        ProgramOperator("2", "relu", ("b",), ("c",)),
        ProgramOperator("3", "add", ("a", "c"), ("d",)),
    )
    found = {t.name: t for t in lifetimes(Program(tensors, operators, (Port("x", "a"),), (Port("y", "b"),)))}
    assert (found["a"].first, found["a"].last) == (0, 2)  # an input, read by the last
    assert (found["b"].first, found["b"].last) == (0, 2)  # an output lives to the end
    assert (found["c"].first, found["c"].last) == (1, 2)
    assert (found["d"].first, found["d"].last) == (2, 2)
