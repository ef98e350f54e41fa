"""Re-opens an exported ONNX file with the runtime it is for and compares it with its reference at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize.placement import place
from leanedge.compress.quantize.rules import rules_named
from leanedge.errors import ValidationFailed
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from leanedge.compress.types import Compressed
    from leanedge.graph.model import TensorInfo

__all__ = ["check_onnx", "integer_outputs", "probe_inputs", "sqnr_db"]

Array = np.ndarray[Any, Any]
_PROBES = 3
_LEAST_DB = {"fp32": 60.0, "fp16": 30.0}
"""Least SQNR against the float graph: float runtimes differ by the order of sums, fp16 storage by 2^-11 a weight."""

_LEAST_DB_INTEGER = 15.0
"""Least SQNR of an integer file against its own text read literally (each quantizer and float operator by itself, no
fusion). A kernel that misreads a scale, a zero point or an axis leaves less than 10 dB; rounding differences of one
step in some values, passed on through the network, leave 25 and more."""


def sqnr_db(reference: Array, found: Array) -> float:
    """Signal to quantization noise ratio in dB: 10 log10 of sum(reference^2) / sum((reference - found)^2)."""
    real = reference.astype(np.float64)
    noise = float(((real - found) ** 2).sum())
    signal = float((real**2).sum())
    if noise == 0.0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def check_onnx(compressed: Compressed, path: Path, run: Callable[[Mapping[str, Array]], dict[str, Array]]) -> None:
    """Compares `run`, the file opened by its real runtime, with the reference on made-up inputs.

    Raises:
        ValidationFailed: An output is missing, has another shape, is not finite, or is further from the reference
            than the scheme's arithmetic explains.
    """
    graph = compressed.graph
    literal = compressed.scheme not in _LEAST_DB
    reference = _literal_runner(path) if literal else float_runner(graph, exact=True)
    least = _LEAST_DB.get(compressed.scheme, _LEAST_DB_INTEGER)
    rows = [(reference(probe), run(probe)) for probe in probe_inputs(compressed)]
    for info in graph.outputs:
        if any(info.name not in found for _, found in rows):
            raise ValidationFailed(f"output {info.name} is missing", where=str(path))
        pairs = [(wanted[info.name], found[info.name]) for wanted, found in rows]
        for wanted, found in pairs:
            if wanted.shape != found.shape:
                raise ValidationFailed(
                    f"output {info.name} has shape {found.shape}, the model's is {wanted.shape}", where=str(path)
                )
        if info.dtype.kind != "f":
            continue  # classes and counts may flip where two values are close
        wanted_all = np.concatenate([wanted.ravel() for wanted, _ in pairs])
        found_all = np.concatenate([found.ravel() for _, found in pairs])
        kept = np.isfinite(wanted_all)  # a masked value is -inf in the reference too
        if not np.array_equal(np.isfinite(found_all), kept):
            raise ValidationFailed(f"output {info.name} is not finite where the reference is", where=str(path))
        near = sqnr_db(wanted_all[kept], found_all[kept])
        if near < least and float(np.abs(wanted_all[kept] - found_all[kept]).max(initial=0.0)) > 1e-6:
            raise ValidationFailed(
                f"output {info.name} is {near:.1f} dB from the reference, {least:.0f} dB is the least for "
                f"{compressed.scheme}",
                where=str(path),
                hint="the runtime computes something else than the file says: try another scheme or runtime version",
            )


def probe_inputs(compressed: Compressed) -> list[dict[str, Array]]:
    """Inputs for the check, the same each time: random around the middle of what calibration saw, small integers."""
    generator = np.random.default_rng(0)
    return [
        {info.name: _probe(compressed, info, generator) for info in compressed.graph.inputs} for _ in range(_PROBES)
    ]


def _probe(compressed: Compressed, info: TensorInfo, generator: np.random.Generator) -> Array:
    if info.dtype.kind == "b":
        return np.ones(info.shape, np.bool_)
    if info.dtype.kind != "f":
        return generator.integers(0, 2, info.shape).astype(info.dtype)
    quant = compressed.quant.activations.get(info.name) if compressed.quant is not None else None
    low, high = quant.range if quant is not None else (-2.0, 2.0)
    spread = generator.normal(0.0, (high - low) / 8, info.shape)
    return np.clip((low + high) / 2 + spread, low, high).astype(info.dtype)


def _literal_runner(path: Path) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(sample)), strict=True))

    return run


def integer_outputs(compressed: Compressed) -> tuple[str, ...]:
    """Outputs before which every operator runs in an integer kernel: those that may be compared bit for bit."""
    spec, graph = compressed.quant, compressed.graph
    if spec is None or spec.dynamic_operators:
        return ()
    placement = place(graph, rules_named(spec.rules), spec.float_operators)
    exact: dict[str, bool] = {info.name: info.name in spec.activations for info in graph.inputs}
    for operator in placement.operators:
        here = operator.id in placement.integer and all(exact.get(value, False) for value in operator.inputs)
        for value in operator.outputs:
            exact[value] = here
    return tuple(info.name for info in graph.outputs if exact.get(info.name, False))
