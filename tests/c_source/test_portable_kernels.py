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
from int8_cases import CASES, program, quant

from leanedge.export.c_source import CSource, emit, make_kernels, make_layers, portable_kernel
from leanedge.export.c_source.portable import PORTABLE
from leanedge.program.arena import ArenaPlan
from leanedge.program.fill import INTEGER_KINDS
from leanedge.program.simulate import simulate
from leanedge.program.types import ConvOptions, Kind, PoolOptions, Program

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


def wide_programs() -> list[Program]:
    """More channels than a kernel holds at once; dilation; groups."""
    random, shape, source = np.random.default_rng(9), (1, 6, 5, 37), quant(0.05, -7)

    def conv(kind: Kind, weights: tuple[int, ...], options: ConvOptions, channels: int = 37) -> Program:
        outputs = weights[3] if kind == "depthwise_conv_2d" else weights[0]
        scales = random.uniform(0.001, 0.01, outputs).astype(np.float32)
        axis = 3 if kind == "depthwise_conv_2d" else 0
        constants = [
            (random.integers(-127, 128, weights).astype(np.int8), quant(scales, np.zeros(outputs), axis)),
            (random.integers(-999, 999, outputs).astype(np.int32), quant(scales * 0.05, np.zeros(outputs), 0, "int32")),
        ]
        out = ((1, 6, 5, outputs), quant(0.1, 3))
        return program(kind, [((1, 6, 5, channels), source)], [out], options, constants)  # type: ignore[arg-type]

    pool = PoolOptions((3, 2), (1, 1), (1, 1, 0, 1))
    return [
        conv("depthwise_conv_2d", (1, 3, 3, 37), ConvOptions((1, 1), (1, 1), (1, 1, 1, 1))),
        conv("depthwise_conv_2d", (1, 3, 3, 74), ConvOptions((1, 1), (2, 2), (2, 2, 2, 2))),
        conv("conv_2d", (9, 3, 3, 37), ConvOptions((1, 1), (2, 2), (2, 2, 2, 2))),
        conv("conv_2d", (6, 3, 3, 2), ConvOptions((1, 1), (1, 1), (1, 1, 1, 1)), channels=4),
        *(program(kind, [(shape, source)], [(shape, source)], pool) for kind in ("max_pool", "average_pool")),
    ]


def test_every_integer_kind_has_a_portable_kernel() -> None:
    assert set(PORTABLE) == INTEGER_KINDS | {"quantize"}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_kernel_equals_the_reference(compiler: str, tmp_path: Path) -> None:
    programs = [drawn for case in CASES.values() for drawn in drawn_programs(case, EACH)] + wide_programs()
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


def overlapping(drawn: Program, name: str, place: int, distance: int) -> CSource:
    """The operator with its input `place` at that distance from its output."""
    operator, at = drawn.operators[0], 4096
    offsets = {operator.output: at}
    free = 2 * at
    for number, port in enumerate(drawn.inputs):
        offsets[port.tensor] = at + distance if number == place else free
        free += drawn.tensors[port.tensor].nbytes
    kernels = make_kernels(make_layers(drawn, name), [portable_kernel])
    return emit(drawn, kernels, name, plan=ArenaPlan(offsets, {}, free, free, 1))


def test_outputs_may_overlap_inputs_from_the_least_lead_on_and_no_earlier(tmp_path: Path) -> None:
    tried: list[tuple[Program, CSource, bool]] = []
    programs = [drawn for case in CASES.values() for drawn in drawn_programs(case, EACH // 2)] + wide_programs()
    for drawn in programs:
        (kernel,) = make_kernels(make_layers(drawn, "m"), [portable_kernel]).values()
        for place, lead in enumerate(kernel.leads):
            if lead is not None:
                for more in (0, 1, 5, -1):
                    name = f"m{len(tried)}"
                    tried.append((drawn, overlapping(drawn, name, place, lead + more), more >= 0))
    library = build([source for _, source, _ in tried], tmp_path, "gcc", ("-O0",))
    random = np.random.default_rng(3)
    spoiled: dict[str, int] = {}
    for drawn, source, safe in tried:
        inputs = {
            port.name: random.integers(-128, 128, drawn.tensors[port.tensor].shape).astype(np.int8)
            for port in drawn.inputs
        }
        made = Instance(library, source).run(inputs)
        for name, wanted in simulate(drawn, inputs).items():
            if safe:
                np.testing.assert_array_equal(made[name], wanted, str(drawn.operators[0]))
            elif not np.array_equal(made[name], wanted):
                spoiled[drawn.operators[0].kind] = spoiled.get(drawn.operators[0].kind, 0) + 1
    for kind in (
        "conv_2d",
        "depthwise_conv_2d",
        "fully_connected",
        "max_pool",
        "average_pool",
        "add",
        "logistic",
    ):
        assert spoiled.get(kind, 0) > 0, f"the leads of {kind} are greater than they need be"
