"""Instructions and cycles of each Cortex-M kernel, for layers of well-known networks and for whole models.

    python -m benchmarks.mcu_kernels                         # layers, on an emulated Cortex-M4
    python -m benchmarks.mcu_kernels --core cortex-m0plus
    python -m benchmarks.mcu_kernels --models kws vww        # files of $LEANEDGE_SHARED/models/mlperf_tiny
    python -m benchmarks.mcu_kernels --models --profile nucleo-l4r5zi      # behind that device's flash and caches

Every kernel's output is compared with the reference. Counts are of executed instructions, cycles of the core's
instruction timings, without wait states unless a profile is named, per multiply-accumulate of the plain layer (per
element where there are none).
Compared with: what CMSIS-NN (TensorFlow Lite Micro of August 2026, GCC 12.2 -O3) takes of the same on a Cortex-M4.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from leanedge.targets.cortex_m.bench import KernelObservation, KernelTrial, run_kernels
from leanedge.targets.cortex_m.flash import FlashModel, flash_model
from leanedge.targets.cortex_m.kernels import KERNELS

from leanedge.compress.types import TensorQuant
from leanedge.export.c_source.kernel import Kernel, Layer
from leanedge.profile import load_profile
from leanedge.program.simplify import simplify
from leanedge.program.simulate import simulate_tensors
from leanedge.program.tflite_file import load_tflite
from leanedge.program.types import (
    ConvOptions,
    Dense,
    ElementwiseOptions,
    FullyConnectedOptions,
    Kind,
    Options,
    PoolOptions,
    Program,
    ProgramOperator,
    ProgramTensor,
)
from leanedge.program.weighted import weighted_layer

Array = np.ndarray[Any, Any]
Trial = tuple[Program, ProgramOperator, Kernel, list[Array], Array]

MODELS = ("kws", "vww", "ic", "ad", "sww")


@dataclass(frozen=True)
class Case:
    """A layer: what it is called, its Program, and what CMSIS-NN takes a multiply-accumulate where that is known."""

    name: str
    program: Program
    cmsis_nn: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", default="cortex-m4")
    parser.add_argument("--compiler", choices=["zig", "gcc"], default="zig")
    parser.add_argument("--models", nargs="*", choices=MODELS, help="whole models; all of them where none is named")
    parser.add_argument("--profile", help="a device: count what waiting for its flash takes too")
    arguments = parser.parse_args()
    flash = flash_model(load_profile(arguments.profile)) if arguments.profile else None
    if arguments.models is None:
        return _layers(arguments.core, arguments.compiler, flash)
    shared = Path(os.environ.get("LEANEDGE_SHARED", "../shared"))
    folder = shared / "models" / "mlperf_tiny"
    if not folder.is_dir():
        print(f"{folder} is no folder; LEANEDGE_SHARED names the one that holds models/mlperf_tiny", file=sys.stderr)
        return 2
    for name in arguments.models or MODELS:
        _model(folder / f"{name}.tflite", arguments, flash)
    return 0


def _layers(core: str, compiler: Any, flash: FlashModel | None) -> int:
    cases = _cases()
    trials: list[Trial] = []
    names: list[tuple[Case, float]] = []
    for number, case in enumerate(cases):
        operator = case.program.operators[0]
        rng = np.random.default_rng(number)
        fed = {
            name: rng.integers(-128, 128, case.program.tensors[name].shape).astype(np.int8)
            for name in operator.inputs
            if case.program.tensors[name].data is None
        }
        wanted = simulate_tensors(case.program, fed)[operator.output]
        for kernel in _offers(case.program, operator, core, f"case{number}"):
            trials.append((case.program, operator, kernel, list(fed.values()), wanted))
            names.append((case, _work(case.program, operator)))
    seen = _run(trials, core, compiler, flash)
    print("| layer | kernel | instr/MAC | cycles/MAC | constants B | scratch B | stack B | CMSIS-NN instr/MAC |")
    print("|---|---|---|---|---|---|---|---|")
    for (case, work), (_, _, kernel, _, _), one in zip(names, trials, seen, strict=True):
        each = f"{one.counts.instructions / work:.3f} | {one.counts.device_cycles / work:.3f}"
        memory = f"{kernel.constant_bytes} | {kernel.scratch_bytes} | {one.stack_bytes}"
        print(f"| {case.name} | {kernel.name} | {each} | {memory} | {case.cmsis_nn} |")
    return 0


def _model(path: Path, arguments: argparse.Namespace, flash: FlashModel | None) -> None:
    """Prints the layers of one model with the kernel of fewest instructions, or of fewest cycles behind a flash."""
    program = simplify(load_tflite(path)).program
    rng = np.random.default_rng(0)
    begun = [port.tensor for port in program.inputs] + [state.read for state in program.states]
    held = simulate_tensors(
        program, {name: rng.integers(-128, 128, program.tensors[name].shape).astype(np.int8) for name in begun}
    )
    trials: list[Trial] = []
    for number, operator in enumerate(program.operators):
        fed = [held[name] for name in operator.inputs if program.tensors[name].data is None]
        for kernel in _offers(program, operator, arguments.core, f"layer{number}"):
            trials.append((program, operator, kernel, fed, held[operator.output]))
    seen = _run(trials, arguments.core, arguments.compiler, flash)
    print(f"\n| {path.stem}: layer | kernel | instructions | instr/MAC | cycles/MAC |\n|---|---|---|---|---|")
    instructions = cycles = 0
    without: list[str] = []
    for operator in program.operators:
        found = [(o, k) for (_, op, k, _, _), o in zip(trials, seen, strict=True) if op is operator]
        if not found:
            without.append(operator.kind)
            continue
        best, kernel = min(
            found, key=lambda pair: pair[0].counts.device_cycles if flash else pair[0].counts.instructions
        )
        work = _work(program, operator)
        instructions, cycles = instructions + best.counts.instructions, cycles + best.counts.device_cycles
        shapes = [program.tensors[name].shape[1:] for name in (operator.inputs[0], operator.output)]
        each = f"{best.counts.instructions / work:.3f} | {best.counts.device_cycles / work:.3f}"
        print(f"| {operator.kind} {shapes[0]} -> {shapes[1]} | {kernel.name} | {best.counts.instructions} | {each} |")
    print(f"| all | | {instructions} | {cycles} cycles | without a kernel here: {', '.join(without) or 'none'} |")


def _offers(program: Program, operator: ProgramOperator, core: str, prefix: str) -> list[Kernel]:
    made = [maker(Layer(program, operator, f"{prefix}_{n}", core)) for n, maker in enumerate(KERNELS)]
    return [kernel for kernel in made if kernel is not None]


def _run(trials: list[Trial], core: str, compiler: Any, flash: FlashModel | None) -> tuple[KernelObservation, ...]:
    """What each did.

    Raises:
        SystemExit: One computed something else than the reference, or wrote where it may not.
    """
    listed = [KernelTrial(program, operator, kernel, [fed]) for program, operator, kernel, fed, _ in trials]
    seen = run_kernels(listed, core, compiler, flash)
    for (_, operator, kernel, _, wanted), one in zip(trials, seen, strict=True):
        if one.faults or not np.array_equal(one.outputs[0][0], wanted):
            raise SystemExit(f"{kernel.name} of {operator.source} is wrong: {one.faults or 'other results'}")
    return seen


def _work(program: Program, operator: ProgramOperator) -> float:
    """Multiply-accumulates of the plain layer, or elements of its output."""
    if operator.kind in ("conv_2d", "depthwise_conv_2d", "fully_connected"):
        return weighted_layer(program, operator).macs
    return program.tensors[operator.output].elements


def _cases() -> list[Case]:
    one, same2 = (0, 0, 0, 0), (0, 1, 0, 1)
    around = (1, 1, 1, 1)
    return [
        Case("1x1 125x64 -> 64", _convolution((25, 5, 64), 64, (1, 1), (1, 1), one), "2.1 to 2.35"),
        Case("1x1 2304x8 -> 16", _convolution((48, 48, 8), 16, (1, 1), (1, 1), one), "2.1 to 2.35"),
        Case("1x1 36x128 -> 128", _convolution((6, 6, 128), 128, (1, 1), (1, 1), one), "2.1 to 2.35"),
        Case("10x4x1 s2 -> 64 (kws)", _convolution((49, 10, 1), 64, (10, 4), (2, 2), (4, 5, 1, 1)), "3.2 to 5.0"),
        Case("3x3x3 s2 -> 8 (vww)", _convolution((96, 96, 3), 8, (3, 3), (2, 2), same2), "3.2 to 5.0"),
        Case("3x3x3 -> 16 (ic)", _convolution((32, 32, 3), 16, (3, 3), (1, 1), around), "3.2 to 5.0"),
        Case("3x3x16 -> 16, 32x32", _convolution((32, 32, 16), 16, (3, 3), (1, 1), around)),
        Case("3x3x32 -> 32, 16x16", _convolution((16, 16, 32), 32, (3, 3), (1, 1), around)),
        Case("3x3x64 -> 64, 8x8", _convolution((8, 8, 64), 64, (3, 3), (1, 1), around)),
        Case("3x3x16 s2 -> 32, 32x32", _convolution((32, 32, 16), 32, (3, 3), (2, 2), same2)),
        Case("depthwise 3x3x64, 25x5", _convolution((25, 5, 64), 0, (3, 3), (1, 1), around), "8.3 to 8.8"),
        Case("depthwise 3x3x64 s2, 12x12", _convolution((12, 12, 64), 0, (3, 3), (2, 2), same2), "8.3 to 8.8"),
        Case("depthwise 3x3x8, 48x48", _convolution((48, 48, 8), 0, (3, 3), (1, 1), around), "8.3 to 8.8"),
        Case("depthwise 3x3x16 s2, 48x48", _convolution((48, 48, 16), 0, (3, 3), (2, 2), same2), "8.3 to 8.8"),
        Case("depthwise 5x5x32, 20x20", _convolution((20, 20, 32), 0, (5, 5), (1, 1), (2, 2, 2, 2))),
        Case("depthwise 5x1x128, 28x1", _convolution((28, 1, 128), 0, (5, 1), (1, 1), one)),
        Case("depthwise 10x1x128, 24x1", _convolution((24, 1, 128), 0, (10, 1), (1, 1), one)),
        Case("fully connected 640 -> 128", _fully_connected(640, 128), "2.2"),
        Case("fully connected 128 -> 128", _fully_connected(128, 128), "2.2"),
        Case("add 16,384", _sum(16384)),
        Case("average pool 25x5x64", _average((25, 5, 64))),
    ]


def _program(
    kind: Kind,
    inputs: list[tuple[tuple[int, ...], TensorQuant]],
    output: tuple[tuple[int, ...], TensorQuant],
    options: Options,
    constants: list[tuple[Array, TensorQuant]],
) -> Program:
    tensors = {f"x{n}": ProgramTensor(f"x{n}", shape, "int8", quant) for n, (shape, quant) in enumerate(inputs)}
    for n, (array, quant) in enumerate(constants):
        dtype: Any = str(array.dtype)
        tensors[f"c{n}"] = ProgramTensor(f"c{n}", array.shape, dtype, quant, Dense(array))
    operator = ProgramOperator(kind, kind, tuple(tensors), ("y",), options)
    return Program({**tensors, "y": ProgramTensor("y", output[0], "int8", output[1])}, (operator,), (), ())


def _quant(scale: Any, zero: int, axis: int | None = None, dtype: Any = "int8") -> TensorQuant:
    scales = np.asarray(scale, np.float32)
    return TensorQuant(dtype, scales, np.full(scales.shape, zero, np.int64), axis)


def _convolution(
    image: tuple[int, int, int],
    outputs: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> Program:
    """With fused ReLU; depthwise where `outputs` is 0."""
    rng = np.random.default_rng(0)
    height, width, depth = image
    channels = outputs or depth
    shape = (outputs, *kernel, depth) if outputs else (1, *kernel, depth)
    scales = 0.005 * 2 ** rng.normal(0, 0.3, channels)
    fan_in = kernel[0] * kernel[1] * (depth if outputs else 1)
    rows = (height + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
    columns = (width + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
    return _program(
        "conv_2d" if outputs else "depthwise_conv_2d",
        [((1, *image), _quant(0.02, -7))],
        ((1, rows, columns, channels), _quant(0.0001 * 32 * np.sqrt(fan_in), -128)),
        ConvOptions(strides, (1, 1), pads, "relu"),
        [
            (rng.integers(-127, 128, shape).astype(np.int8), _quant(scales, 0, 0 if outputs else 3)),
            (rng.integers(-3000, 3000, channels).astype(np.int32), _quant(0.02 * scales, 0, 0, "int32")),
        ],
    )


def _fully_connected(depth: int, outputs: int) -> Program:
    rng = np.random.default_rng(0)
    return _program(
        "fully_connected",
        [((1, depth), _quant(0.02, -7))],
        ((1, outputs), _quant(0.0001 * 32 * np.sqrt(depth), -128)),
        FullyConnectedOptions("relu"),
        [
            (rng.integers(-127, 128, (outputs, depth)).astype(np.int8), _quant(0.005, 0)),
            (rng.integers(-3000, 3000, outputs).astype(np.int32), _quant(0.0001, 0, None, "int32")),
        ],
    )


def _sum(elements: int) -> Program:
    inputs = [((1, elements), _quant(0.039, -128)), ((1, elements), _quant(0.104, 4))]
    return _program("add", inputs, ((1, elements), _quant(0.051, -128)), ElementwiseOptions("relu"), [])


def _average(image: tuple[int, int, int]) -> Program:
    same = _quant(0.05, -7)
    options = PoolOptions(image[:2], image[:2], (0, 0, 0, 0))
    return _program("average_pool", [((1, *image), same)], ((1, 1, 1, image[2]), same), options, [])


if __name__ == "__main__":
    raise SystemExit(main())
