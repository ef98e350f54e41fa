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
from int16_cases import KINDS_16, as_int16

from leanedge.export.c_source import CSource, emit, make_kernels, make_layers, portable_kernel
from leanedge.export.c_source.portable import PORTABLE
from leanedge.program.arena import ArenaPlan
from leanedge.program.fill import INTEGER_KINDS
from leanedge.program.simulate import simulate
from leanedge.program.simulate.movement import pad_value
from leanedge.program.types import (
    ConvOptions,
    Kind,
    PadOptions,
    PoolOptions,
    Port,
    Program,
    ProgramOperator,
    ProgramTensor,
)

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


def all_programs(count: int) -> list[Program]:
    """Programs of one operator of every kind, of int8 and of int16 where TensorFlow Lite Micro has it, and mixed."""
    narrow = {kind: drawn_programs(case, count) for kind, case in CASES.items()}
    wide = [as_int16(drawn) for kind in KINDS_16 for drawn in narrow[kind]]
    wide = [drawn for drawn in wide if drawn.operators[0].kind != "pad" or not unequal_bytes(drawn)]
    return [*(drawn for programs in narrow.values() for drawn in programs), *wide, *wide_programs(), *requantizations()]


def unequal_bytes(drawn: Program) -> bool:
    """Whether a pad writes int16 numbers whose two bytes differ: these have no kernel."""
    options = drawn.operators[0].options
    assert isinstance(options, PadOptions)
    return pad_value(options, drawn.tensors[drawn.operators[0].inputs[0]]) not in (0, -1)


def requantizations() -> list[Program]:
    """quantize between types."""
    quants = {
        "int8": quant(0.1, -9),
        "uint8": quant(0.07, 130, None, "uint8"),
        "int16": quant(0.0005, 0, None, "int16"),
    }
    made = []
    for source, out in (("int8", "int16"), ("int16", "int8"), ("uint8", "int8"), ("int8", "uint8"), ("uint8", "uint8")):
        tensors = {"i0": ProgramTensor("i0", (1, 300), source, quants[source])}  # type: ignore[arg-type]
        tensors["o0"] = ProgramTensor("o0", (1, 300), out, quants[out])  # type: ignore[arg-type]
        operator = ProgramOperator("op", "quantize", ("i0",), ("o0",))
        made.append(Program(tensors, (operator,), (Port("i0", "i0"),), (Port("o0", "o0"),)))
    return made


def random_inputs(drawn: Program, random: np.random.Generator) -> dict[str, Any]:
    """Numbers over the whole range of each input's type."""
    tensors = {port.name: drawn.tensors[port.tensor] for port in drawn.inputs}
    return {
        name: random.integers(np.iinfo(one.dtype).min, np.iinfo(one.dtype).max + 1, one.shape).astype(one.dtype)
        for name, one in tensors.items()
    }


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_kernel_equals_the_reference(compiler: str, tmp_path: Path) -> None:
    programs = all_programs(EACH)
    sources = [portable_source(drawn, f"m{number}") for number, drawn in enumerate(programs)]
    library = build(sources, tmp_path, compiler)
    random = np.random.default_rng(5)
    for drawn, source in zip(programs, sources, strict=True):
        inputs = random_inputs(drawn, random)
        made = Instance(library, source).run(inputs)
        for name, wanted in simulate(drawn, inputs).items():
            np.testing.assert_array_equal(made[name], wanted, str(drawn.operators[0]))


def overlapping(drawn: Program, name: str, place: int, distance: int) -> CSource:
    """The operator with its input `place` at that distance from its output."""
    operator, at = drawn.operators[0], 4096
    offsets = dict.fromkeys(operator.outputs, at)
    free = 2 * at
    for number, port in enumerate(drawn.inputs):
        offsets[port.tensor] = at + distance if number == place else free
        free += drawn.tensors[port.tensor].nbytes
    kernels = make_kernels(make_layers(drawn, name), [portable_kernel])
    return emit(drawn, kernels, name, plan=ArenaPlan(offsets, {}, free, free, 1))


def test_outputs_may_overlap_inputs_from_the_least_lead_on_and_no_earlier(tmp_path: Path) -> None:
    tried: list[tuple[Program, CSource, bool]] = []
    programs = all_programs(EACH // 2)
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
        inputs = random_inputs(drawn, random)
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
