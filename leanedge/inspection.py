"""What a model is made of, and what a device's runtimes can't run of it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize import quantize
from leanedge.compress.types import Compressed
from leanedge.data.samples import Samples
from leanedge.errors import InputError, UsageError, ValidationFailed
from leanedge.export.c_source.layers import operator_macs
from leanedge.export.onnx_check import probe_inputs
from leanedge.graph.layers import Layer, describe_layers, peak_activation_bytes
from leanedge.graph.model import TensorInfo
from leanedge.integer_file import integer_artifact, is_tflite, why_not_here, write_integers
from leanedge.load import load_model
from leanedge.profile import load_profile
from leanedge.program.memory import lifetimes, peak_bytes
from leanedge.program.tflite_file import load_tflite
from leanedge.request import find_settings
from leanedge.target import load_target, missing_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leanedge.profile import DeviceProfile, RuntimeEntry
    from leanedge.program.types import Port, Program

__all__ = ["Inspection", "inspect_model"]


@dataclass(frozen=True)
class Inspection:
    """A model in figures.

    Attributes:
        name: File or factory.
        inputs: Model inputs.
        outputs: Model outputs.
        layers: Operators in execution order.
        parameters: Constants, without what a .tflite file keeps beside weights.
        weight_bytes: Their bytes.
        macs: Multiply-accumulates of one inference, over the layers where they are known.
        peak_activation_bytes: Largest sum of values alive at once; in float, of a .tflite file as it stores them.
        opset: Operator set; None for a .tflite file.
        refused: Runtime of the target -> why it can't run the model; empty for one that can.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[Layer, ...]
    parameters: int
    weight_bytes: int
    macs: int
    peak_activation_bytes: int
    opset: int | None
    refused: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        record = asdict(self)
        for key in ("inputs", "outputs"):
            record[key] = [{**tensor, "dtype": str(tensor["dtype"])} for tensor in record[key]]
        return {"schema": 1, **record}


def inspect_model(model: str | None, target: str | None) -> Inspection:
    """Reads a model and, for a target, tries to export it for each of the device's runtimes.

    Raises:
        LeanEdgeError: The model or the target can't be read.
    """
    settings = find_settings(model, None)
    given = model if model is not None else settings.model
    if given is None:
        raise UsageError("no model is given", allowed="leanedge inspect MODEL, or `model:` in leanedge.yaml")
    profile = None if target is None else load_profile(target)
    if is_tflite(given):
        return _inspect_integers(Path(given), profile)
    loaded = load_model(given, settings.input_shapes)
    graph = loaded.graph
    layers = describe_layers(graph)
    entries = profile.runtimes if profile else ()
    refused = {entry.runtime: _why_not(Compressed(graph, "fp32"), entry.target) for entry in entries}
    return Inspection(
        name=loaded.name,
        inputs=graph.inputs,
        outputs=graph.outputs,
        layers=layers,
        parameters=sum(layer.weights for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        macs=sum(layer.macs or 0 for layer in layers),
        peak_activation_bytes=peak_activation_bytes(graph),
        opset=graph.opset,
        refused=refused,
    )


def _why_not(compressed: Compressed, kind: str) -> str:
    target = load_target(kind)
    if absent := missing_modules(target.needs):
        return f"not installed on this machine: {', '.join(absent)}"
    with tempfile.TemporaryDirectory(prefix="leanedge-inspect-") as folder:
        try:
            if compressed.scheme not in target.schemes:  # integers of made-up samples: kernels don't depend on them
                rows = probe_inputs(compressed)
                made = Samples({name: np.stack([row[name] for row in rows]) for name in rows[0]})
                compressed = Compressed(
                    compressed.graph, "w8a8", quant=quantize(compressed.graph, made, "w8a8", target.rules)
                )
            target.export(compressed, Path(folder))
        except (InputError, ValidationFailed) as error:
            return str(error)
    return ""


def _inspect_integers(path: Path, profile: DeviceProfile | None) -> Inspection:
    """An int8 .tflite file, its operators as they are in the file."""
    program = load_tflite(path)
    layers = tuple(_integer_layers(program))
    return Inspection(
        name=path.stem,
        inputs=_interface(program, program.inputs),
        outputs=_interface(program, program.outputs),
        layers=layers,
        parameters=sum(layer.weights for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        macs=sum(layer.macs or 0 for layer in layers),
        peak_activation_bytes=peak_bytes(lifetimes(program)),
        opset=None,
        refused={entry.runtime: _why_not_integers(program, entry) for entry in (profile.runtimes if profile else ())},
    )


def _integer_layers(program: Program) -> Iterator[Layer]:
    seen: set[str] = set()
    for operator in program.operators:
        names = [name for name in operator.inputs if program.tensors[name].data is not None and name not in seen]
        seen.update(names)
        arrays = [data.decode() for name in names if (data := program.tensors[name].data) is not None]
        yield Layer(
            id=operator.source,
            kind="other",
            op_type=operator.kind,
            output_shape=program.tensors[operator.output].shape,
            macs=operator_macs(program, operator),
            weights=sum(array.size for array in arrays),
            weight_bytes=sum(array.nbytes for array in arrays),
        )


def _interface(program: Program, ports: tuple[Port, ...]) -> tuple[TensorInfo, ...]:
    tensors = [(port.name, program.tensors[port.tensor]) for port in ports]
    return tuple(TensorInfo(name, np.dtype(tensor.dtype), tensor.shape) for name, tensor in tensors)


def _why_not_integers(program: Program, entry: RuntimeEntry) -> str:
    if reason := why_not_here(entry):
        return reason
    with tempfile.TemporaryDirectory(prefix="leanedge-inspect-") as folder:
        write_integers(program, Path(folder))
        try:
            load_target(entry.target).open(integer_artifact(program, entry, Path(folder)), 1)
        except (InputError, ValidationFailed) as error:
            return str(error)
    return ""
