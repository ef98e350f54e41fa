"""Every portable kernel equals `simulate` bit for bit, compiled without a warning by two compilers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "program"))

from built import COMPILERS, Instance, build, portable_source
from int8_cases import CASES

from leanedge.export.c_source.portable import PORTABLE
from leanedge.program.fill import INTEGER_KINDS
from leanedge.program.simulate import simulate
from leanedge.program.types import Program

EACH = 12
"""Programs of each kind."""


def drawn_programs(case: Any, count: int) -> list[Program]:
    """What hypothesis draws, kept: all are then compiled together, as compiling each alone would take minutes."""
    kept: list[Program] = []

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case)
    def keep(drawn: Program) -> None:
        kept.append(drawn)

    keep()
    return kept


def test_every_integer_kind_has_a_portable_kernel() -> None:
    assert set(PORTABLE) == INTEGER_KINDS | {"quantize"}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_kernel_equals_the_reference(compiler: str, tmp_path: Path) -> None:
    programs = [drawn for case in CASES.values() for drawn in drawn_programs(case, EACH)]
    sources = [portable_source(drawn, f"m{number}") for number, drawn in enumerate(programs)]
    library = build(sources, tmp_path, compiler)
    random = np.random.default_rng(5)
    for drawn, source in zip(programs, sources, strict=True):
        inputs = {
            port.name: random.integers(-128, 128, drawn.tensors[port.tensor].shape).astype(np.int8)
            for port in drawn.inputs
        }
        made = Instance(library, source).run(inputs)
        for name, wanted in simulate(drawn, inputs).items():
            np.testing.assert_array_equal(made[name], wanted, str(drawn.operators[0]))
