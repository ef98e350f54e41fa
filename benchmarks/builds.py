"""Builds every workload for every device and prints one row each: `python -m benchmarks.builds [--target T] [name...]`.

Row: model, chosen, metric before and after on the test set with its 95 % interval, bytes, latency, the emulated check.
On `host`, latency is measured and a second table gives the time of fp32 over that of the best int8 file for each
runtime, all in one run, and whether the chosen one was the fastest that met the drop.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import leanedge
from benchmarks.workloads import NAMES, UnavailableWorkload, default_cache, load
from benchmarks.workloads.__main__ import write_settings
from leanedge.errors import LeanEdgeError

if TYPE_CHECKING:
    from leanedge.report.content import CandidateRow, Report

TARGETS = ("rpi4", "host")
INTEGER = ("w8a8", "w8a8_dynamic", "mixed")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=[name for name in NAMES if name != "vad_plain"], metavar="name")
    parser.add_argument("--target", action="append", help="a device; may be given again; default: rpi4 and host")
    parser.add_argument("--output", type=Path, help="where the output folders stay; default: nowhere")
    parser.add_argument("--max-drop", type=float, default=None)
    arguments = parser.parse_args()
    failed = False
    rows: list[str] = []
    ratios: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.output or Path(scratch)
        for target in arguments.target or TARGETS:
            for name in arguments.names:
                start = time.monotonic()
                try:
                    workload = load(name)
                    folder = default_cache() / name
                    settings = write_settings(workload, folder)
                    result = leanedge.build(
                        target=target, settings=settings, output=out / target / name, max_drop=arguments.max_drop
                    )
                except (UnavailableWorkload, LeanEdgeError) as error:
                    failed = True
                    rows.append(f"| {name} | {target} | {type(error).__name__}: {' '.join(str(error).split())} |")
                    print(rows[-1], flush=True)
                    continue
                failed |= result.exit_code != 0
                rows.append(row(name, result.report, time.monotonic() - start))
                print(rows[-1], flush=True)
                if target == "host":
                    ratios += ratio_rows(name, result.report)
    print(
        "\n| model | target | chosen | metric: fp32, chosen [95 %] | bytes: fp32, chosen | latency | proof | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|", *rows, sep="\n")
    if ratios:
        print("\n| model on host | runtime | fp32 ms | best int8 ms | fp32 / int8 | |\n|---|---|---|---|---|---|")
        print(*ratios, sep="\n")
    return int(failed)


def row(name: str, report: Report, seconds: float) -> str:
    figures = report.figures
    if report.chosen is None:
        why = report.verdict.checks[0].detail
        return f"| {name} | {report.target.name} | nothing fits: {why} | | | | | {seconds:.0f} |"
    after, before = figures["accuracy"], figures["accuracy_fp32"]
    low, high = after.detail["interval"]
    shown = f"[{low:.4g}, {high:.4g}]" if low is not None else ""
    metric = f"{report.data.metric} {before.value:.4g}, {after.value:.4g} {shown}"
    if "flash_bytes_fp32" in figures:
        size = f"{_value(report, 'flash_bytes_fp32'):,.0f}, {_value(report, 'flash_bytes'):,.0f}"
    else:  # an image for a microcontroller; there is none in float
        size = f"image {_value(report, 'flash_bytes'):,.0f}, RAM {_value(report, 'ram_bytes'):,.0f}"
    latency = figures["latency_ms"]
    speed = "unavailable"
    if latency.value is not None:
        base = _value(report, "latency_ms_fp32")
        speed = f"{latency.value:.3g} ms {latency.how}" + ("" if math.isnan(base) else f", {base / latency.value:.2f}x")
    words = {True: "passed", False: "FAILED", None: "not checked"}
    proof = ", ".join(
        f"{check.name.removeprefix('emulator.')} {words[check.passed]}"
        for check in report.verdict.checks
        if check.name.startswith("emulator.") or check.passed is False
    )
    overall = "passed" if report.verdict.passed else "FAILED"
    return (
        f"| {name} | {report.target.name} | {report.chosen.id} | {metric} | {size} | {speed} | {overall}: {proof} "
        f"| {seconds:.0f} |"
    )


def _value(report: Report, name: str) -> float:
    figure = report.figures.get(name)
    return figure.value if figure is not None and figure.value is not None else float("nan")


def _latency(candidate: CandidateRow) -> float:
    figure = candidate.figures.get("latency_ms")
    return figure.value if figure is not None and figure.value is not None else float("inf")


def ratio_rows(name: str, report: Report) -> list[str]:
    """For each runtime fp32 over the fastest int8 of the same channels; last, whether the choice was the fastest."""
    rows = []
    made = [candidate for candidate in report.candidates if candidate.figures]
    dense = [candidate for candidate in made if candidate.pattern == "dense"]
    for runtime in dict.fromkeys(candidate.runtime for candidate in dense):
        own = [candidate for candidate in dense if candidate.runtime == runtime]
        floats = [candidate for candidate in own if candidate.scheme == "fp32"]
        integers = sorted((c for c in own if c.scheme in INTEGER), key=_latency)
        if floats and integers:
            before, after = _latency(floats[0]), _latency(integers[0])
            rows.append(
                f"| {name} | {runtime} | {before:.3f} | {after:.3f} ({integers[0].scheme}) | {before / after:.2f} "
                f"| {integers[0].status} |"
            )
    fits = [candidate for candidate in made if candidate.status in ("chosen", "fits")]
    if report.chosen is not None and fits:
        fastest = min(fits, key=_latency)
        chosen = next(candidate for candidate in fits if candidate.status == "chosen")
        said = "the fastest" if chosen is fastest else f"fastest is {fastest.id}"
        tied = ", tied with it" if chosen is not fastest and fastest.id in chosen.tied_with else ""
        rows.append(f"| {name} | chosen: {chosen.id} | | {_latency(chosen):.3f} | | {said}{tied} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())
