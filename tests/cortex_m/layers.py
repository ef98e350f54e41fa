"""Programs of one int8 layer, and what kernels made for them compute under emulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from leanedge.targets.cortex_m.bench import KernelObservation, KernelTrial, run_kernels

from leanedge.compress.types import TensorQuant
from leanedge.export.c_source.kernel import Kernel, KernelMaker, Layer
from leanedge.program.simulate import simulate_tensors
from leanedge.program.types import (
    Activation,
    ConvOptions,
    Dense,
    FullyConnectedOptions,
    Kind,
    Options,
    Program,
    ProgramOperator,
    ProgramTensor,
)

Array = np.ndarray[Any, Any]


def quant(scale: Any, zero_point: Any, axis: int | None = None, dtype: Any = "int8") -> TensorQuant:
    scale = np.asarray(scale, np.float32)
    return TensorQuant(dtype, scale, np.broadcast_to(np.asarray(zero_point, np.int64), scale.shape), axis)


def one_layer(
    kind: Kind,
    inputs: Sequence[tuple[tuple[int, ...], TensorQuant]],
    output: tuple[tuple[int, ...], TensorQuant],
    options: Options,
    constants: Sequence[tuple[Array, TensorQuant | None]] = (),
) -> Program:
    tensors = {f"x{n}": ProgramTensor(f"x{n}", shape, "int8", q) for n, (shape, q) in enumerate(inputs)}
    for n, (array, q) in enumerate(constants):
        dtype: Any = str(array.dtype)
        tensors[f"c{n}"] = ProgramTensor(f"c{n}", array.shape, dtype, q, Dense(array))
    operator = ProgramOperator("layer", kind, tuple(tensors), ("y",), options)
    return Program({**tensors, "y": ProgramTensor("y", output[0], "int8", output[1])}, (operator,), (), ())


def conv(
    image: tuple[int, int, int],
    outputs: int,
    *,
    kernel: tuple[int, int] = (1, 1),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    activation: Activation = "relu",
    zero: int = -128,
    largest: int = 127,
    spread: float = 0.3,
    seed: int = 0,
) -> Program:
    """A conv_2d with random weights up to `largest` and per-channel scales within a factor of about 2^spread."""
    rng = np.random.default_rng(seed)
    height, width, depth = image
    fan_in = kernel[0] * kernel[1] * depth
    weights = rng.integers(-largest, largest + 1, (outputs, *kernel, depth)).astype(np.int8)
    scales = 0.005 * 2 ** (rng.normal(size=outputs) * spread)
    rows = (height + pads[0] + pads[1] - (kernel[0] - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (width + pads[2] + pads[3] - (kernel[1] - 1) * dilations[1] - 1) // strides[1] + 1
    source = quant(0.02, int(rng.integers(-128, 128)))
    return one_layer(
        "conv_2d",
        [((1, height, width, depth), source)],
        ((1, rows, columns, outputs), quant(0.02 * 0.005 * largest * np.sqrt(fan_in) / 4, zero)),
        ConvOptions(strides, dilations, pads, activation),
        [
            (weights, quant(scales, 0, 0)),
            (rng.integers(-3000, 3000, outputs).astype(np.int32), quant(0.02 * scales, 0, 0, "int32")),
        ],
    )


def fully_connected(
    depth: int, outputs: int, *, rows: int = 1, activation: Activation = "none", zero: int = 3, seed: int = 0
) -> Program:
    rng = np.random.default_rng(seed)
    return one_layer(
        "fully_connected",
        [((rows, depth), quant(0.02, int(rng.integers(-128, 128))))],
        ((rows, outputs), quant(0.02 * 0.005 * 127 * np.sqrt(depth) / 4, zero)),
        FullyConnectedOptions(activation),
        [
            (rng.integers(-127, 128, (outputs, depth)).astype(np.int8), quant(0.005, 0)),
            (rng.integers(-3000, 3000, outputs).astype(np.int32), quant(0.0001, 0, None, "int32")),
        ],
    )


def made(program: Program, makers: Sequence[KernelMaker], core: str, prefix: str) -> list[Kernel]:
    """What the makers offer for the program's layer."""
    offers = [maker(Layer(program, program.operators[0], f"{prefix}_{n}", core)) for n, maker in enumerate(makers)]
    return [offer for offer in offers if offer is not None]


def input_sets(program: Program) -> list[list[Array]]:
    """Random, all least, and random of the extremes only."""
    rng = np.random.default_rng(1)
    tensors = [program.tensors[name] for name in program.operators[0].inputs]
    shapes = [tensor.shape for tensor in tensors if tensor.data is None]
    return [
        [rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes],
        [np.full(shape, -128, np.int8) for shape in shapes],
        [np.where(rng.random(shape) < 0.5, -128, 127).astype(np.int8) for shape in shapes],
    ]


def assert_exact(offers: Sequence[tuple[Program, Kernel]], core: str) -> list[KernelObservation]:
    """Runs every kernel, apart and as near to its inputs as it says it may be; all must equal the reference."""
    trials = []
    for program, kernel in offers:
        sets = input_sets(program)
        arity = len(sets[0])
        placements: list[tuple[int | None, ...]] = [(None,) * arity]
        for number, lead in enumerate(kernel.leads):
            if lead is not None:
                placements.append(tuple(lead if n == number else None for n in range(arity)))
        trials += [KernelTrial(program, program.operators[0], kernel, sets, leads) for leads in placements]
    seen = run_kernels(trials, core)
    for trial, observation in zip(trials, seen, strict=True):
        what = f"{trial.kernel.name} on {core}, leads {trial.leads}, {trial.operator.options}"
        assert not observation.faults, f"{what}: {observation.faults}"
        for arrays, (result,) in zip(trial.inputs, observation.outputs, strict=True):
            names = [name for name in trial.operator.inputs if trial.program.tensors[name].data is None]
            expected = simulate_tensors(trial.program, dict(zip(names, arrays, strict=True)))["y"]
            np.testing.assert_array_equal(result, expected, err_msg=what)
    return list(seen)


def depthwise(
    image: tuple[int, int, int],
    *,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] | None = None,
    multiplier: int = 1,
    activation: Activation = "relu",
    zero: int = -128,
    largest: int = 127,
    spread: float = 0.3,
    seed: int = 0,
) -> Program:
    """A depthwise_conv_2d as `conv`; without `pads` its output is as large as its input over the stride."""
    rng = np.random.default_rng(seed)
    height, width, depth = image
    outputs = depth * multiplier
    if pads is None:
        pads = (*_same(height, kernel[0], strides[0], dilations[0]), *_same(width, kernel[1], strides[1], dilations[1]))
    weights = rng.integers(-largest, largest + 1, (1, *kernel, outputs)).astype(np.int8)
    scales = 0.005 * 2 ** (rng.normal(size=outputs) * spread)
    rows = (height + pads[0] + pads[1] - (kernel[0] - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (width + pads[2] + pads[3] - (kernel[1] - 1) * dilations[1] - 1) // strides[1] + 1
    return one_layer(
        "depthwise_conv_2d",
        [((1, height, width, depth), quant(0.02, int(rng.integers(-128, 128))))],
        ((1, rows, columns, outputs), quant(0.02 * 0.005 * largest * np.sqrt(kernel[0] * kernel[1]) / 4, zero)),
        ConvOptions(strides, dilations, pads, activation),
        [
            (weights, quant(scales, 0, 3)),
            (rng.integers(-3000, 3000, outputs).astype(np.int32), quant(0.02 * scales, 0, 0, "int32")),
        ],
    )


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
