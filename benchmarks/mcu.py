"""Firmware of int8 models beside TensorFlow Lite Micro with CMSIS-NN: `python -m benchmarks.mcu [model...]`.

Instructions are counted in emulation and repeat exactly; cycles are by the core's timings, without and with waiting for
the board's flash; RAM and flash are of the linked image. Every image's outputs are compared with PyPI's tflite-micro,
bit for bit, on `--inputs` made inputs (extremes, smooth waves, noise). TFLM's figures are those published with the
models (`ANCHORS`), not run here.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from leanedge.targets.cortex_m.firmware import make_firmware
from leanedge.targets.cortex_m.flash import flash_model
from leanedge.targets.cortex_m.image import run_image

from leanedge.as_is import made_inputs
from leanedge.profile import load_profile
from leanedge.program.integer_ports import integer_ports
from leanedge.program.simplify import simplify
from leanedge.program.tflite_file import load_tflite
from leanedge.target import BuildOptions, Optimize

if TYPE_CHECKING:
    from leanedge.program.types import Program

Array = np.ndarray[Any, Any]

BOARDS = {
    "cortex-m4": "nucleo-l4r5zi",
    "cortex-m7": "nucleo-f746zg",
    "cortex-m33": "nucleo-u575zi-q",
    "cortex-m0plus": "nucleo-g0b1re",
}
"""A board of each core."""

ANCHORS: dict[str, dict[str, int]] = {
    "kws": {"cortex-m4": 7_699_892, "cortex-m7": 7_763_298, "cortex-m33": 7_803_105, "cortex-m0plus": 29_011_318},
    "vww": {"cortex-m4": 24_101_962, "cortex-m7": 24_483_907, "cortex-m33": 24_542_119, "cortex-m0plus": 86_879_045},
    "ic": {"cortex-m4": 29_863_358, "cortex-m7": 29_937_855, "cortex-m33": 29_931_254, "cortex-m0plus": 97_571_234},
    "ad": {"cortex-m4": 582_339, "cortex-m7": 582_640, "cortex-m33": 582_565, "cortex-m0plus": 1_763_118},
    "sww": {"cortex-m4": 2_225_930, "cortex-m7": 2_187_253, "cortex-m33": 2_219_920, "cortex-m0plus": 9_319_816},
}
"""Executed instructions of one inference with TensorFlow Lite Micro and CMSIS-NN (sources of August 2026, GCC 12.2)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(ANCHORS), metavar="model")
    parser.add_argument("--core", action="append", choices=list(BOARDS), help="may be given again; default: all")
    parser.add_argument("--optimize", action="append", choices=get_args(Optimize), help="default: speed and size")
    parser.add_argument("--compiler", action="append", choices=("zig", "gcc"), help="default: zig")
    parser.add_argument("--inputs", type=int, default=200)
    arguments = parser.parse_args()
    shared = os.environ.get("LEANEDGE_SHARED")
    if not shared:
        parser.error("set LEANEDGE_SHARED to the folder that holds models/mlperf_tiny")
    print(
        "| model | core | for | compiler | instructions | of TFLM's | cycles | with flash waits | RAM B | arena B "
        "| stack B, painted | image B | equal to TFLM on | build s |"
    )
    print("|" + "---|" * 14)
    failed = False
    modes = itertools.product(
        arguments.core or BOARDS, arguments.optimize or ("speed", "size"), arguments.compiler or ("zig",)
    )
    combinations = list(modes)
    for name in arguments.models:
        path = Path(shared) / "models" / "mlperf_tiny" / f"{name}.tflite"
        data = path.read_bytes()
        program = simplify(integer_ports(load_tflite(path))).program
        samples = made_inputs(program, arguments.inputs)
        expected = tflm_outputs(data, program, list(samples))
        for core, optimize, compiler in combinations:
            failed |= not row(name, program, core, optimize, compiler, list(samples), expected)
    return int(failed)


def row(
    name: str,
    program: Program,
    core: str,
    optimize: Optimize,
    compiler: Any,
    samples: list[dict[str, Array]],
    expected: list[list[bytes]],
) -> bool:
    """Prints one row; True where all outputs are equal."""
    profile = load_profile(BOARDS[core])
    start = time.monotonic()
    made = make_firmware(program, name, profile, BuildOptions(optimize), compiler=compiler)
    seconds = time.monotonic() - start
    if made.image is None:
        short = "; ".join(f"{item.memory} by {item.bytes:,} B" for item in made.shortages)
        print(f"| {name} | {core} | {optimize} | {compiler} | does not fit {BOARDS[core]}: {short} |", flush=True)
        return True
    inputs = [[sample[port.name].tobytes() for port in program.inputs] for sample in samples]
    run = run_image(made.image, inputs[:1], flash_model(profile))
    found = run_image(made.image, inputs).outputs
    equal = sum(list(ours) == theirs for ours, theirs in zip(found, expected, strict=True))
    counts, tflm = run.counts, ANCHORS[name][core]
    print(
        f"| {name} | {core} | {optimize} | {compiler} | {counts.instructions:,} | {counts.instructions / tflm:.2f} "
        f"| {counts.cycles:,} | {counts.device_cycles:,} | {made.ram_bytes:,} | {made.source.plan.arena_bytes:,} "
        f"| {made.image.stack_bytes}, {run.stack_bytes} | {made.flash_bytes:,} | {equal} of {len(expected)} "
        f"| {seconds:.0f} |",
        flush=True,
    )
    return equal == len(expected)


def tflm_outputs(data: bytes, program: Program, samples: list[dict[str, Array]]) -> list[list[bytes]]:
    """What tflite-micro makes of the file as it was given, one sample after another."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(data)
    rows = []
    for sample in samples:
        for index, port in enumerate(program.inputs):
            interpreter.set_input(sample[port.name], index)
        interpreter.invoke()
        rows.append([interpreter.get_output(index).tobytes() for index in range(len(program.outputs))])
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
