"""LeanEdge's quantizer against `onnxruntime.quantization.quantize_static`: real models, same calibration data.

    python -m benchmarks.quantize [watch fashion ...] [--calibration 100] [--samples 500]

Both make a QDQ file with uint8 activations and per-channel int8 weights; the other one with min-max ranges and its
documented preprocessing. Both files run in ONNX Runtime by the options that LeanEdge ships, on the same test samples.
Printed: SQNR of the outputs against fp32 (dB, mean over outputs; test samples taken together), accuracy where labelled
with the 95 % interval of the paired difference to the other and McNemar's exact p, and the time each took.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from leanedge.targets._linux.runner import open_model

from benchmarks.workloads import NAMES, UnavailableWorkload, Workload, load
from leanedge.compress.quantize import quantize_best
from leanedge.compress.types import Compressed
from leanedge.data.samples import Samples
from leanedge.export.onnx_check import sqnr_db
from leanedge.export.onnx_file import export_onnx
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.run import float_runner
from leanedge.load.onnx_file import load_onnx
from leanedge.settings import StateSettings
from leanedge.state import initial_state, steps_of

if TYPE_CHECKING:
    from leanedge.graph.model import Graph

Array = np.ndarray[Any, Any]
DEFAULT = ("watch", "fashion", "digits_spoken", "ocr_cls", "pitch", "content", "lite0")


def read(workload: Workload, calibration: int, test: int) -> tuple[Graph, Samples, Samples]:
    """The float graph, calibration samples and test samples (none shared; groups never split)."""
    shapes = {name: tuple(entry["shape"]) for name, entry in workload.inputs.items() if "shape" in entry}
    graph = canonicalise(load_onnx(workload.model), str(workload.model), shapes)
    with np.load(workload.samples) as file:
        arrays = {key: file[key] for key in file.files}
    held_out = arrays.pop("test")
    labels, _ = arrays.pop("y", None), arrays.pop("group", None)
    if set(arrays) == {"x"}:
        arrays = {graph.inputs[0].name: arrays["x"]}
    streaming = workload.state is not None
    generator = np.random.default_rng(0)
    parts = []
    for mask, count in ((~held_out, calibration), (held_out, test)):
        rows = np.flatnonzero(mask)
        rows = np.sort(generator.choice(rows, min(count, len(rows)), replace=False))
        inputs = {}
        for info in graph.inputs:
            if info.name in arrays:
                lead = (len(rows), arrays[info.name].shape[1]) if streaming else (len(rows),)
                inputs[info.name] = arrays[info.name][rows].astype(info.dtype).reshape(*lead, *info.shape)
        samples = Samples(inputs, None if labels is None else labels[rows], None, streaming)
        if workload.state:
            state = {name: StateSettings(output=output) for name, output in workload.state.items()}
            samples = steps_of(graph, samples, workload.state, initial_state(graph, state))
            samples = samples.take(np.sort(generator.choice(len(samples), min(count, len(samples)), replace=False)))
        parts.append(samples)
    return graph, parts[0], parts[1]


def theirs(graph: Graph, samples: list[dict[str, Array]], path: Path) -> None:
    """onnxruntime.quantization's static QDQ file, per channel, min-max."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as reference
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.rows, None)

    logging.getLogger().setLevel(logging.ERROR)
    source, prepared = path.with_suffix(".float.onnx"), path.with_suffix(".prepared.onnx")
    onnx.save(graph.proto, source)
    try:
        quant_pre_process(str(source), str(prepared))
    except Exception as error:  # its symbolic shape inference refuses some graphs; it then says to go without
        print(f"    quant_pre_process: {str(error).splitlines()[0][:90]}; without it")
        prepared = source
    options: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "per_channel": True,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "calibrate_method": CalibrationMethod.MinMax,
    }
    try:
        reference(str(prepared), str(path), Reader(), **options)
    except ValueError as error:  # its adjustment of weight scales for int32 biases fails on some graphs
        print(f"    quantize_static: {str(error).splitlines()[0][:90]}; without that adjustment")
        off = {"QDQDisableWeightAdjustForInt32Bias": True}
        reference(str(prepared), str(path), Reader(), extra_options=off, **options)


def outputs(run: Any, samples: list[dict[str, Array]]) -> dict[str, Array]:
    rows = [run(sample) for sample in samples]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def mean_sqnr(reference: dict[str, Array], found: dict[str, Array]) -> float:
    return float(np.mean([sqnr_db(reference[name], found[name]) for name in reference]))


def mcnemar(ours: Array, other: Array) -> tuple[float, float, float, float]:
    """Difference in percentage points, its 95 % interval (paired bootstrap), and McNemar's exact two-sided p."""
    difference = ours.astype(float) - other.astype(float)
    generator = np.random.default_rng(0)
    resampled = [difference[generator.integers(0, len(difference), len(difference))].mean() for _ in range(2000)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    tail = sum(math.comb(better + worse, k) for k in range(min(better, worse) + 1)) / 2 ** (better + worse)
    return 100 * float(difference.mean()), 100 * float(low), 100 * float(high), min(1.0, 2 * tail)


def compare(name: str, calibration: int, test: int) -> tuple[float, float]:
    """Prints one workload's rows; returns both SQNRs."""
    workload = load(name)
    graph, calibrate, judge = read(workload, calibration, test)
    rows, tests = [dict(row) for row in calibrate], [dict(row) for row in judge]
    wanted = outputs(float_runner(graph), tests)
    sqnr: dict[str, float] = {}
    right: dict[str, Array] = {}
    if judge.labels is not None:
        right["fp32"] = _right(graph, wanted, judge.labels)
    with tempfile.TemporaryDirectory(prefix="leanedge-quantize-") as folder:
        for who in ("ours", "theirs"):
            path = Path(folder) / f"{who}.onnx"
            start = time.process_time()
            if who == "ours":
                made, spec = quantize_best(graph, calibrate, "w8a8", "onnxruntime")
                export_onnx(Compressed(made, "w8a8", quant=spec), path)
            else:
                theirs(graph, rows, path)
            seconds = time.process_time() - start
            session = open_model("onnxruntime", path, 1)
            found = outputs(session.run, tests)
            best = min(_seconds(session, tests[0]) for _ in range(5))
            sqnr[who] = mean_sqnr(wanted, found)
            each = " ".join(f"{sqnr_db(wanted[key], found[key]):.2f}" for key in wanted) if len(wanted) > 1 else ""
            if right:
                right[who] = _right(graph, found, judge.labels)
            accuracy = (
                f"accuracy {100 * right[who].mean():6.2f} (fp32 {100 * right['fp32'].mean():.2f})" if right else ""
            )
            print(
                f"{name:14s} {who:7s} SQNR {sqnr[who]:6.2f} dB {each and f'({each})'} {accuracy} "
                f"made in {seconds:.1f} CPU s, runs in {best * 1e3:.3f} ms",
                flush=True,
            )
    if right:
        points, low, high, p = mcnemar(right["ours"], right["theirs"])
        print(
            f"{'':14s} ours - theirs {points:+.2f} points [{low:+.2f}, {high:+.2f}], "
            f"McNemar p = {p:.2f}, n = {len(tests)}"
        )
    return sqnr["ours"], sqnr["theirs"]


def _right(graph: Graph, found: dict[str, Array], labels: Array | None) -> Array:
    assert labels is not None
    scores = found[graph.outputs[0].name].reshape(len(labels), -1)
    answer: Array = scores.argmax(axis=1) == labels
    return answer


def _seconds(session: Any, sample: dict[str, Array]) -> float:
    session.load(sample)
    start = time.perf_counter()
    for _ in range(10):
        session.invoke()
    return (time.perf_counter() - start) / 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=DEFAULT, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--calibration", type=int, default=100)
    parser.add_argument("--samples", type=int, default=500)
    arguments = parser.parse_args()
    found = {}
    for name in arguments.names:
        try:
            found[name] = compare(name, arguments.calibration, arguments.samples)
        except UnavailableWorkload as error:
            print(f"{name:14s} not measured: {error}")
    print(f"\n{'workload':14s} {'ours':>7s} {'theirs':>7s}  dB")
    for name, (ours, other) in found.items():
        print(f"{name:14s} {ours:7.2f} {other:7.2f}  {ours - other:+.2f}")
    if found:
        ours, other = (float(np.mean(column)) for column in zip(*found.values(), strict=True))
        print(f"{'mean':14s} {ours:7.2f} {other:7.2f}  {ours - other:+.2f}")


if __name__ == "__main__":
    main()
