"""Accuracy against multiply-accumulates left after one-shot channel pruning.

    python -m benchmarks.prune                     # all workloads that can be had, levels 0.25, 0.5 and 0.7
    python -m benchmarks.prune watch --each        # each way to choose beside the one that is taken

Calibration: 200 samples that are not test samples. No label is read before the accuracy is measured on the test set.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workloads import NAMES, UnavailableWorkload, load
from leanedge.compress.prune.channel import CHOICES, prune_channels
from leanedge.compress.prune.statistics import collect
from leanedge.data.samples import Samples
from leanedge.errors import UnsupportedOperator
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.layers import macs
from leanedge.graph.run import float_runner, run_all
from leanedge.load.onnx_file import load_onnx

if TYPE_CHECKING:
    from leanedge.graph.model import Graph

Array = np.ndarray[Any, Any]

LEVELS = (0.25, 0.5, 0.7)
IMAGE_NETS = {"lite0": 100}
"""Calibration samples where 200 would take minutes."""
MOST_TESTED = 2000


def outputs(graph: Graph, samples: Samples) -> Array:
    """(samples, values) of the first output."""
    made = next(iter(run_all(float_runner(graph), samples).values()))
    return made.reshape(len(made), -1).astype(np.float64)


def workload(name: str) -> tuple[Graph, Samples, Samples]:
    """The graph, calibration samples and test samples."""
    made = load(name)
    data = np.load(made.samples)
    if made.state:
        raise UnavailableWorkload("streaming models are pruned on single steps, which `leanedge build` makes")
    shapes = {key: tuple(given["shape"]) for key, given in made.inputs.items() if "shape" in given}
    graph = canonicalise(load_onnx(Path(made.model)), name, shapes)
    arrays = {}
    for info in graph.inputs:
        array = data[info.name if info.name in data.files else "x"]
        arrays[info.name] = array.reshape(len(array), *info.shape).astype(info.dtype)
    count = len(next(iter(arrays.values())))
    test = data["test"].astype(bool) if "test" in data.files else np.arange(count) % 2 == 0
    labels, groups = (data[key] if key in data.files else None for key in ("y", "group"))
    samples = Samples(arrays, labels, groups)
    tested = np.flatnonzero(test)
    calibration = np.random.default_rng(0).permutation(np.flatnonzero(~test))[: IMAGE_NETS.get(name, 200)]
    return graph, samples.take(np.sort(calibration)), samples.take(tested[:: max(1, len(tested) // MOST_TESTED)])


def measure(name: str, levels: tuple[float, ...], each: bool, multiple: int) -> None:
    """Prints the rows of one workload."""
    graph, calibration, test = workload(name)
    reference = outputs(graph, test)

    def row(what: str, made: Array, left: float, seconds: float) -> None:
        error = np.square(made - reference).mean() / reference.var(0).mean()
        agreed = (made.argmax(1) == reference.argmax(1)).mean()
        right = "" if test.labels is None or test.labels.ndim > 1 else f"{(made.argmax(1) == test.labels).mean():.4f}"
        print(f"| {name} | {what} | {left:.3f} | {right} | {agreed:.4f} | {error:.4f} | {seconds:.1f} |", flush=True)

    row("dense", reference, 1.0, 0.0)
    started = time.process_time()
    try:
        statistics = collect(graph, calibration)
        rankings = statistics.rankings
    except UnsupportedOperator as error:
        print(f"| {name} | refused: {error.message} | | | | | |")
        return
    gathered = time.process_time() - started
    print(f"| {name} | {len(rankings['obs'])} groups, statistics and ranking | | | | | {gathered:.1f} |")
    for level in levels:
        for choices in [CHOICES, *([(choice,) for choice in CHOICES] if each else [])]:
            started = time.process_time()
            pruned, _ = prune_channels(graph, statistics, level, multiple, choices)
            seconds = time.process_time() - started
            what = f"{level:g}" if len(choices) > 1 else f"{level:g} {' '.join(choices[0])}"
            row(what, outputs(pruned, test), macs(pruned) / macs(graph), seconds)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", default=["digits_spoken", "watch", "fashion", "ocr_cls"], metavar="workload"
    )
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS)
    parser.add_argument("--multiple", type=int, default=8)
    parser.add_argument("--each", action="store_true", help="each way to choose, besides the one that is taken")
    arguments = parser.parse_args()
    print("| workload | level | MACs left | accuracy | same class as dense | error / variance | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"no workload {name!r}: there are {', '.join(NAMES)}")
        try:
            measure(name, tuple(arguments.levels), arguments.each, arguments.multiple)
        except UnavailableWorkload as error:
            print(f"| {name} | not measured: {error} | | | | | |")


if __name__ == "__main__":
    main()
