"""Re-opens an exported .tflite file with LiteRT and compares it with its references at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import ValidationFailed
from leanedge.export.onnx_check import probe_inputs, sqnr_db
from leanedge.graph.run import float_runner
from leanedge.program.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from leanedge.compress.types import Compressed
    from leanedge.program.types import Kind, Program

__all__ = ["check_tflite", "integer_outputs"]

Array = np.ndarray[Any, Any]
Runner = "Callable[[Mapping[str, Array]], dict[str, Array]]"

FP32_TOLERANCE = 1e-4
"""Largest difference of a float file from the float graph, as a part of the output's largest magnitude (at least 1).
Both sum float32 products, in other orders: on networks of 50 layers 1e-6 to 1e-5 was seen."""

LEAST_DB = {"fp16": 30.0, "w8a8_dynamic": 15.0}
"""Least SQNR against the float graph: fp16 storage rounds each weight by 2^-11 of it, dynamic quantization each weight
and input by 2^-8 of the largest; a swapped axis or scale leaves less than 5 dB."""

LEAST_DB_INTEGER = 15.0
"""Least SQNR of LiteRT's default kernels (XNNPACK rounds otherwise) against the reference kernels' arithmetic."""


FLOAT_INSIDE: frozenset[Kind] = frozenset({"softmax"})
"""int8 kinds that LiteRT's default kernels look up in a table of float exponentials, which differ between machines'
math libraries: an x86 and an arm64 build were one step apart in 2 of 378 values. The reference kernels are exact."""


def integer_outputs(program: Program, but: frozenset[Kind] = FLOAT_INSIDE) -> tuple[str, ...]:
    """Outputs before which everything runs in integer kernels, the quantize and dequantize at the edges apart.

    Args:
        program: What is exported.
        but: Kinds that don't count as integer.
    """
    remembered = {state.read: True for state in program.states}
    while True:
        exact = {port.tensor: True for port in program.inputs} | remembered
        for operator in program.operators:
            inputs = [name for name in operator.inputs if program.tensors[name].data is None]
            integer = operator.kind in ("quantize", "dequantize") or program.computes_in_integers(operator)
            integer = integer and operator.kind not in but
            for name in operator.outputs:
                exact[name] = integer and all(exact[source] for source in inputs)
        left = {state.read: exact[state.written] for state in program.states}
        if left == remembered:
            break
        remembered = {name: was and left[name] for name, was in remembered.items()}
    return tuple(port.name for port in program.outputs if exact[port.tensor] and port.tensor not in _inputs(program))


def _inputs(program: Program) -> set[str]:
    return {port.tensor for port in program.inputs}


def check_tflite(
    compressed: Compressed,
    program: Program,
    path: Path,
    run: Callable[[Mapping[str, Array]], dict[str, Array]],
    run_reference: Callable[[Mapping[str, Array]], dict[str, Array]],
) -> None:
    """Compares the file, opened by LiteRT, with what it must compute, on made-up inputs.

    Float files are compared with the float graph. Integer files are compared with `simulate`: with LiteRT's reference
    kernels bit for bit where everything is integer, with its default kernels by SQNR.

    Args:
        compressed: What was exported.
        program: What was written.
        path: The file, for messages.
        run: The file with LiteRT's default kernels.
        run_reference: The file with LiteRT's reference kernels.

    Raises:
        ValidationFailed: An output is missing, has another shape, is not finite, or differs by more than that.
    """
    probes = probe_inputs(compressed)
    infos = [info for info in compressed.graph.outputs if info.dtype.kind == "f"]
    floats = compressed.quant is None or bool(compressed.quant.dynamic_operators)
    found = [run(probe) for probe in (probes if floats else probes[:1])]
    _check_shapes(compressed, found[0], path)
    if floats:
        reference = float_runner(compressed.graph, exact=True)
        wanted = [reference(probe) for probe in probes]
        for info in infos:
            _check_near(info.name, _stack(wanted, info.name), _stack(found, info.name), compressed.scheme, path)
        return
    wanted = [simulate(program, probes[0], "litert")]  # slow next to a runtime: one will do
    for info in infos:
        near = sqnr_db(wanted[0][info.name], found[0][info.name])
        if near < LEAST_DB_INTEGER:
            raise _far(info.name, near, LEAST_DB_INTEGER, "the reference kernels' arithmetic", path)
    _check_bits(program, wanted[0], run_reference(probes[0]), path)


def _check_shapes(compressed: Compressed, found: Mapping[str, Array], path: Path) -> None:
    for info in compressed.graph.outputs:
        if info.name not in found:
            raise ValidationFailed(f"output {info.name} is missing", where=str(path))
        if found[info.name].shape != info.shape:
            raise ValidationFailed(
                f"output {info.name} has shape {found[info.name].shape}, the model's is {info.shape}", where=str(path)
            )


def _stack(rows: list[dict[str, Array]], name: str) -> Array:
    return np.stack([row[name] for row in rows])


def _check_near(name: str, wanted: Array, found: Array, scheme: str, path: Path) -> None:
    finite = np.isfinite(wanted)
    if not np.array_equal(np.isfinite(found), finite):
        raise ValidationFailed(f"output {name} is not finite where the float model is", where=str(path))
    if scheme == "fp32":
        worst = float(np.abs(wanted[finite] - found[finite]).max(initial=0.0))
        allowed = FP32_TOLERANCE * max(1.0, float(np.abs(wanted[finite]).max(initial=0.0)))
        if worst > allowed:
            raise ValidationFailed(
                f"output {name} differs from the float model by up to {worst:.3g}, {allowed:.3g} is allowed",
                where=str(path),
                hint="the lowering is wrong for an operator of this model: build for onnxruntime, and report it",
            )
        return
    near, least = sqnr_db(wanted[finite], found[finite]), LEAST_DB[scheme]
    if near < least:
        raise _far(name, near, least, "the float model", path)


def _far(name: str, near: float, least: float, reference: str, path: Path) -> ValidationFailed:
    return ValidationFailed(
        f"output {name} is {near:.1f} dB from {reference}, {least:.0f} dB is the least",
        where=str(path),
        hint="the runtime computes something else than the file says: try another scheme or runtime version",
    )


def _check_bits(program: Program, wanted: Mapping[str, Array], found: Mapping[str, Array], path: Path) -> None:
    for name in integer_outputs(program, but=frozenset()):
        different = int((wanted[name] != found[name]).sum())
        if different:
            raise ValidationFailed(
                f"output {name} differs from the reference arithmetic in {different} of {wanted[name].size} values",
                where=str(path),
                allowed="equality bit for bit, every operator before it being integer",
                hint="another version of ai-edge-litert may round otherwise: install the one in constraints.txt",
            )
