"""Programs lowered from a Graph, whose operators share their sources, are simplified as exactly as loaded ones."""

from __future__ import annotations

import numpy as np
import pytest
from kind_models import KINDS, graph_of, samples_of, spec_of

from leanedge.program.fill import fill
from leanedge.program.simplify import simplify
from leanedge.program.simulate import simulate
from leanedge.program.structure import structure


@pytest.mark.parametrize("name", KINDS)
def test_a_lowered_program_gives_the_same_numbers(name: str) -> None:
    graph = graph_of(name)
    sample = next(iter(samples_of(graph, 1, seed=5)))
    for spec in (None, spec_of(graph)):
        program = fill(structure(graph, separate_pads=False), spec)
        found = simplify(program)
        before, after = simulate(program, sample), simulate(found.program, sample)
        assert before.keys() == after.keys()
        for output, array in before.items():
            np.testing.assert_array_equal(after[output], array)
