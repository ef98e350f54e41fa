"""Fits the latency constants of the Raspberry Pi profiles: published latencies over counted instructions.

    python -m benchmarks.pi_latency ROWS.csv [--networks a,b] [--write]

ROWS.csv has the columns device, cpu, runtime, threads, model, dtype, latency_ms, source. Each architecture in it that
`pi_networks.py` can rebuild is exported by LeanEdge with random weights and run once in the emulated board with the
same family of runtime; the counting plug-in counts, one thread. Counts are kept in the cache folder.
Prints every row with its count, each cell's constant and leave-one-model-out error, and what thin cells borrow;
``--write`` puts the constants into device_profiles/*.yaml.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from leanedge.targets._linux.job import Job, JobModel, run_job
from leanedge.targets._linux.trial import emulator_of

from benchmarks.pi_fit import Cell, Constant, Point, constants, fit
from benchmarks.pi_networks import build
from benchmarks.pi_rows import Row, ncnn_ratios, select
from leanedge import resources
from leanedge.cache import cached_json, digest
from leanedge.compress.quantize import quantize
from leanedge.compress.types import Compressed
from leanedge.data.samples import Samples
from leanedge.export.onnx_file import export_onnx
from leanedge.export.tflite_file import export_tflite
from leanedge.graph.canonicalise import canonicalise
from leanedge.profile import load_profile
from leanedge.program.fill import fill
from leanedge.program.structure import structure

STAND_IN = {"vim3": "rpi4"}
"""Boards without a profile and the profile whose core counts for them."""

RUNTIMES = (("onnxruntime", "onnx"), ("ai_edge_litert", "tflite"), ("tflite_runtime", "tflite"))
DEVICES = ("rpi3", "rpi4", "rpi5")
THREADS = (1, 2, 3, 4)
SCALED = ("rpi-zero-2w", "Raspberry Pi Zero 2 W (1.0 GHz)", "rpi3", "Raspberry Pi 3B+ (1.4 GHz)")
"""A device without rows of its own, and the one whose constants it takes, times the ratio of their ncnn latencies."""


def artifact(network: str, dtype: str, form: str, folder: Path) -> tuple[Path, Path]:
    """Exports the network; returns the model file and one random sample."""
    graph = canonicalise(build(network), network)
    shape = graph.inputs[0].shape
    sample = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    path, inputs = folder / f"model.{form}", folder / "sample.npz"
    np.savez(inputs, x=sample[:, 0])
    rules = "onnxruntime" if form == "onnx" else "tflite"
    spec = quantize(graph, Samples({"x": sample}), "w8a8", rules) if dtype == "int8" else None
    if form == "onnx":
        export_onnx(Compressed(graph, "w8a8" if spec else "fp32", quant=spec), path)
    else:
        export_tflite(fill(structure(graph), spec), path)
    return path, inputs


def count(network: str, dtype: str, runtime: str, board: str) -> dict[str, Any]:
    """Instructions of one inference with one thread on that board's core, and the runtime's version."""
    form = dict(RUNTIMES)[runtime]
    emulator = emulator_of(load_profile(STAND_IN.get(board, board)))

    def make() -> dict[str, Any]:
        print(f"  counting {network} {dtype} {runtime} on {emulator.cpu} ...", flush=True)
        with tempfile.TemporaryDirectory(prefix="pi-latency-") as work:
            path, inputs = artifact(network, dtype, form, Path(work))
            layout = {"x": (0, 2, 3, 1)} if form == "tflite" else {}
            model = JobModel(id="m", file=path, inputs=inputs, samples=1, count=1, input_layouts=layout)
            evidence = run_job(Job(runtime=runtime, models=(model,)), emulator, timeout_s=7200)
        seen = evidence.models["m"]
        if seen.instructions is None:
            raise SystemExit(f"nothing counted: {seen.no_counts}")
        return {"instructions": seen.instructions, "version": evidence.runtime_version}

    key = digest(network, build(network).SerializeToString(deterministic=True), dtype, runtime, str(emulator), 1)
    return cached_json("pi-latency", key, make)[0]


def counted(rows: list[Row]) -> tuple[list[Point], dict[str, str]]:
    """The rows as points, one for each runtime of ours with those kernels, and the versions counted with."""
    points, versions = [], {}
    for row in rows:
        for runtime in row.runtimes:
            found = count(row.network, row.dtype, runtime, row.board)
            versions[runtime] = found["version"]
            cell = Cell(row.board, runtime, row.dtype, row.threads)
            points.append(Point(cell, row.network, row.latency_ms, found["instructions"]))
    return points, versions


def scaled(found: list[Constant], file: Path) -> list[Constant]:
    """Constants of the device without rows, from those of the device that differs from it in clock and memory."""
    name, slow, base, fast = SCALED
    ratios = ncnn_ratios(file, slow, fast)
    constants_ = []
    for constant in found:
        cell = constant.cell
        if cell.device != base:
            continue
        ends = [ratios[cell.dtype, threads] for threads in ((1, 4) if cell.threads in (2, 3) else (cell.threads,))]
        logs = [math.log(ratio) for end in ends for ratio in end]
        move, spread = median(logs), float(np.std(logs, ddof=1))
        reach = math.hypot(math.log(constant.high), 1.7 * spread)
        said = (
            f"constant of {cell} times {math.exp(move):.2f}, the median ratio of ncnn's published {cell.dtype} "
            f"latencies on both boards ({len(logs)} rows, standard deviation {100 * spread:.0f} %)"
        )
        said += f"; there: {constant.borrowed}" if constant.borrowed else ""
        constants_.append(
            Constant(
                cell=cell._replace(device=name),
                ns_per_instruction=constant.ns_per_instruction * math.exp(move),
                low=math.exp(-reach),
                high=math.exp(reach),
                error=None,
                models=0,
                borrowed=said,
            )
        )
    return constants_


def show(points: list[Point], found: list[Constant]) -> None:
    """Every row with its count, then the cells."""
    print("\n| cell | network | latency ms | M instructions | ns/instruction | left-out error |")
    print("|---|---|---|---|---|---|")
    for cell in dict.fromkeys(point.cell for point in points):
        own = [point for point in points if point.cell == cell]
        errors = fit(own).errors
        for point in own:
            error = f"{100 * errors[point.network]:+.0f} %" if point.network in errors else "-"
            print(
                f"| {cell} | {point.network} | {point.latency_ms:.2f} | {point.instructions / 1e6:.1f} "
                f"| {math.exp(point.log_ns):.3f} | {error} |"
            )
    print("\n| cell | ns/instruction | 90 % interval | models | median error | decides | borrowed |")
    print("|---|---|---|---|---|---|---|")
    for constant in found:
        error = f"{100 * constant.error:.0f} %" if constant.error is not None else "-"
        print(
            f"| {constant.cell} | {constant.ns_per_instruction:.4f} | x{constant.low:.2f} to x{constant.high:.2f} "
            f"| {constant.models} | {error} | {'yes' if constant.decides else 'no'} | {constant.borrowed or ''} |"
        )


def yaml_block(found: list[Constant], rows: list[Row], versions: dict[str, str]) -> str:
    """The ``latency:`` section of a profile."""
    lines = ["latency:"]
    for constant in found:
        cell = constant.cell
        own = sorted({row.source for row in rows if row.board == cell.device and cell.runtime in row.runtimes
                      and (row.dtype, row.threads) == (cell.dtype, cell.threads)})  # fmt: skip
        source = f"benchmarks/pi_latency.py, counted with {cell.runtime} {versions.get(cell.runtime, '')}".rstrip()
        if own:
            source += f"; published: {'; '.join(own)}"
        error = "null" if constant.error is None else f"{constant.error:.3f}"
        lines += [
            f"  - runtime: {cell.runtime}",
            f"    dtype: {cell.dtype}",
            f"    threads: {cell.threads}",
            f"    ns_per_instruction: {constant.ns_per_instruction:.4f}",
            f"    low: {constant.low:.3f}",
            f"    high: {constant.high:.3f}",
            f"    error: {error}",
            f"    models: {constant.models}",
            f"    borrowed: {f'{chr(34)}{constant.borrowed}{chr(34)}' if constant.borrowed else 'null'}",
            f"    decides: {'true' if constant.decides else 'false'}",
            f'    source: "{source}"',
        ]
    return "\n".join(lines) + "\n"


def write(device: str, block: str) -> None:
    """Replaces the profile's last key, ``latency``, and checks that the file still loads."""
    path = resources.folder("device_profiles") / f"{device}.yaml"
    text = path.read_text(encoding="utf-8")
    head = text[: text.index("\nlatency:") + 1]
    path.write_text(head + block, encoding="utf-8")
    load_profile(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--networks", default="", help="only these, comma-separated")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows, left_out = select(options.rows)
    if options.networks:
        rows = [row for row in rows if row.network in options.networks.split(",")]
    print(f"{len(rows)} rows used; left out: " + "; ".join(f"{n} {why}" for why, n in left_out.most_common()))
    points, versions = counted(rows)
    wanted = [
        Cell(device, runtime, dtype, threads)
        for device in DEVICES
        for runtime, _ in RUNTIMES
        for dtype in ("fp32", "int8")
        for threads in THREADS
    ]
    found = constants(points, wanted)
    found += scaled(found, options.rows)
    show(points, found)
    if options.write:
        for device in (*DEVICES, SCALED[0]):
            write(device, yaml_block([c for c in found if c.cell.device == device], rows, versions))


if __name__ == "__main__":
    main()
