"""What a report says, as frozen data; ``report.json``, ``.html``, ``.md`` and ``.xml`` are views of it.

The fields are those of ``report.json``, with the same names and nesting (``docs/report.md`` explains each).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args

import numpy as np

from leanedge.export.folder import FileEntry
from leanedge.figures import Figure  # noqa: TC001  read_report looks at these types at run time
from leanedge.names import How, Pattern, Scheme  # noqa: TC001

__all__ = [
    "SCHEMA",
    "STATUSES",
    "ArtifactInfo",
    "BudgetInfo",
    "CandidateRow",
    "Check",
    "Chosen",
    "DataInfo",
    "FileEntry",
    "LayerRow",
    "MemoryInfo",
    "MemoryStep",
    "ModelInfo",
    "Report",
    "Status",
    "TargetInfo",
    "TensorInfo",
    "ToolInfo",
    "Verdict",
]

SCHEMA = 1

Status = Literal[
    "chosen", "fits", "too_slow", "too_big", "too_much_energy", "too_lossy", "refused", "failed", "not_tried"
]
"""What became of a candidate. ``too_big`` is flash or RAM; ``refused``: not offered on this device or for this model;
``failed``: it could not be made or its runtime could not run it; ``not_tried``: the build was interrupted before it."""

STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class ToolInfo:
    """What made the report: LeanEdge's version, and package or program -> version of all that took part."""

    version: str
    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = "leanedge"


@dataclass(frozen=True)
class TargetInfo:
    """The device: the profile's name, its title for people, and the target kind of the chosen runtime."""

    name: str
    title: str
    kind: str


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the model; a dynamic axis is its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ModelInfo:
    """The model that was given.

    Attributes:
        name: File name or factory.
        sha256: Of its bytes.
        inputs: What it takes.
        outputs: What it gives.
        parameters: Number of float parameters.
        macs: Multiply-accumulates of one inference, None where a shape is not known.
    """

    name: str
    sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    macs: int | None


@dataclass(frozen=True)
class DataInfo:
    """The samples that were used.

    Attributes:
        sets: ``calibration``, ``selection``, ``test`` -> number of samples.
        seed: Seed of the split.
        metric: ``top1``, ``mae``, ... or ``module:function``.
        unit: The metric's unit, ``fraction`` for those shown in percent.
        higher_is_better: False for errors.
        same_data: True when there were too few samples for three sets.
        notes: What a reader must know of the data.
    """

    sets: Mapping[str, int]
    seed: int
    metric: str
    unit: str
    higher_is_better: bool = True
    same_data: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BudgetInfo:
    """What was asked for.

    Attributes:
        limits: Figure name (``latency_ms``, ``flash_bytes``, ``ram_bytes``, ``energy_uj``) -> largest value.
        max_drop: Largest loss of accuracy: points of a percent for a fraction, else percent of the metric's value.
        worst_accuracy: The metric's value at that loss on the selection set, or None when it was not measured.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    max_drop: float | None = None
    worst_accuracy: float | None = None


@dataclass(frozen=True)
class Chosen:
    """The candidate that was built, and why, in words."""

    id: str
    pattern: Pattern
    level: float
    scheme: Scheme
    runtime: str
    why: str


@dataclass(frozen=True)
class ArtifactInfo:
    """The files that go to the device, the model file first."""

    files: tuple[FileEntry, ...] = ()


@dataclass(frozen=True)
class CandidateRow:
    """A candidate and what became of it.

    Attributes:
        id: Unique among the candidates.
        pattern: What is cut.
        level: Fraction of the cuttable MACs that is removed, 0 for dense.
        scheme: How numbers are stored and computed.
        runtime: What runs it.
        status: What became of it.
        reason: Why, in words; never empty for what is not chosen and does not fit.
        figures: Name -> figure, the names of the report's `figures`; `accuracy` is on the selection set.
        excess: Figure name -> by how much it is over its limit, in that figure's unit; for `accuracy`, the loss
            beyond the one allowed, in the unit of `BudgetInfo.max_drop`.
        tied_with: Ids of candidates that are no further away than the measured spread.
    """

    id: str
    pattern: Pattern
    level: float
    scheme: Scheme
    runtime: str
    status: Status
    reason: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    excess: Mapping[str, float] = field(default_factory=dict)
    tied_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerRow:
    """An operator of the chosen model.

    Attributes:
        id: The operator's id.
        kind: ``conv2d``, ``linear``, ...
        macs: Multiply-accumulates of one inference, None where a shape is not known.
        weight_bytes: Bytes of its constants as stored, 0 without any.
        weight_bits: Bits of a stored weight, None without weights.
        activation_bits: Bits of its output.
        scheme: The scheme of this operator.
        channels: Output channels that are left, None where nothing can be cut.
        channels_before: Output channels of the given model.
        in_float: True when it computes in float.
        kernel: What executes it; empty where the runtime picks.
        instructions: Executed in one inference, None where they are not counted for each operator.
        cycles: Predicted for one inference, or None.
    """

    id: str
    kind: str
    macs: int | None
    weight_bytes: int
    weight_bits: int | None
    activation_bits: int
    scheme: str
    channels: int | None = None
    channels_before: int | None = None
    in_float: bool = False
    kernel: str = ""
    instructions: int | None = None
    cycles: int | None = None


@dataclass(frozen=True)
class MemoryStep:
    """Bytes of all tensors that are alive while an operator runs."""

    id: str
    live_bytes: int


@dataclass(frozen=True)
class MemoryInfo:
    """Memory over the execution steps, in order.

    Attributes:
        what: What is counted, in words ("activations, from the Program's order").
        how: How it is known.
        steps: One a step; none when it is not known.
    """

    what: str = ""
    how: How = "unavailable"
    steps: tuple[MemoryStep, ...] = ()


@dataclass(frozen=True)
class Check:
    """One check of the verdict.

    Attributes:
        name: Short and stable, it names the JUnit test case.
        passed: None when it was not checked.
        detail: What was compared and found; for None, why not and what would make it possible.
        rule: By which rule ("bit for bit", "within 2e-5 of full scale", ...).
    """

    name: str
    passed: bool | None
    detail: str
    rule: str = ""


@dataclass(frozen=True)
class Verdict:
    """The outcome: passed only if no check failed (one that was not checked may still make it fail)."""

    passed: bool
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        if self.passed and any(check.passed is False for check in self.checks):
            raise ValueError("a verdict can't pass while a check failed")


@dataclass(frozen=True)
class Report:
    """Everything that the report says.

    Attributes:
        tool: What made it.
        target: The device.
        model: The model that was given.
        data: The samples.
        budget: What was asked for.
        chosen: What was built, None when nothing fits.
        artifact: The files for the device.
        figures: ``accuracy``, ``accuracy_fp32``, ``latency_ms``, ``latency_ms_fp32``, ``flash_bytes``,
            ``flash_bytes_fp32``, ``ram_bytes``, ``ram_bytes_fp32``, ``runtime_bytes``, ``energy_uj``, ... Accuracies
            are on the test set. An accuracy's `detail` has ``n`` and ``interval`` [low, high] (95 %).
        candidates: All of them, best first, refused ones last.
        layers: The chosen model's operators in execution order.
        memory: Memory over the steps.
        verdict: The outcome.
        notes: What the reader must know beside that.
        interrupted: True when the build was stopped and this is the best complete candidate so far.
        commands: What was run, ready to be run again.
        created: ISO 8601 date and time.
        schema: Version of this structure.
    """

    tool: ToolInfo
    target: TargetInfo
    model: ModelInfo
    data: DataInfo
    budget: BudgetInfo
    chosen: Chosen | None
    artifact: ArtifactInfo
    figures: Mapping[str, Figure]
    candidates: tuple[CandidateRow, ...]
    layers: tuple[LayerRow, ...]
    memory: MemoryInfo
    verdict: Verdict
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    commands: tuple[str, ...] = ()
    created: str = ""
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json: plain values only.

        Raises:
            ValueError: A number is NaN or infinite; the message says which.
            TypeError: A detail holds something that JSON can't.
        """
        return {"schema": self.schema, **_plain(self, "report")}


def _plain(value: object, where: str) -> Any:
    """`value` as JSON values; numpy numbers and arrays become numbers and lists."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: an unknown number is None or an unavailable figure")
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name), f"{where}.{each.name}") for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}, which a report can't hold")
