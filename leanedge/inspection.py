"""What a model is made of, and what a device's runtimes can't run of it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanedge.compress.types import Compressed
from leanedge.errors import InputError, UsageError
from leanedge.graph.layers import Layer, describe_layers, peak_activation_bytes
from leanedge.load import load_model
from leanedge.profile import load_profile
from leanedge.request import find_settings
from leanedge.target import load_target, missing_modules

if TYPE_CHECKING:
    from leanedge.graph.model import TensorInfo

__all__ = ["Inspection", "inspect_model"]


@dataclass(frozen=True)
class Inspection:
    """A model in figures.

    Attributes:
        name: File or factory.
        inputs: Model inputs.
        outputs: Model outputs.
        layers: Operators in execution order.
        parameters: Float constants.
        weight_bytes: Their bytes.
        macs: Multiply-accumulates of one inference, over the layers where they are known.
        peak_activation_bytes: Largest sum of values alive at once, in float.
        opset: Operator set.
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
    opset: int
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
    loaded = load_model(given, settings.input_shapes)
    graph = loaded.graph
    layers = describe_layers(graph)
    refused: dict[str, str] = {}
    if target is not None:
        for entry in load_profile(target).runtimes:
            refused[entry.runtime] = _why_not(Compressed(graph, "fp32"), entry.target)
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
            target.export(compressed, Path(folder))
        except InputError as error:
            return str(error)
    return ""
