"""The contract that a target kind fulfils: one folder in ``targets/``, holding a `TARGET` of this type.

A kind is what several devices share (an operating system, a runtime); what one device has is in its profile.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from leanedge import resources
from leanedge.errors import InputError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from leanedge.compress.types import Compressed
    from leanedge.data.samples import Samples
    from leanedge.export.c_source.pixels import PixelRule
    from leanedge.figures import Figure
    from leanedge.names import Pattern, Scheme
    from leanedge.profile import DeviceProfile

__all__ = [
    "Artifact",
    "BuildOptions",
    "Built",
    "BuiltLayer",
    "Evidence",
    "Observation",
    "Optimize",
    "Pair",
    "Shortage",
    "Target",
    "Trace",
    "Trial",
    "load_target",
    "missing_modules",
]


@dataclass(frozen=True)
class Artifact:
    """The files of one exported candidate and how to feed them.

    Attributes:
        kind: The target kind that wrote it.
        runtime: The runtime it is for, as the runner names it (``onnxruntime``, ``ai_edge_litert``, ...).
        folder: Where the files are.
        files: Names in `folder`, the model file first.
        input_layouts: For each input of the source model, the permutation that takes the source's axes to the
            artifact's, or None when they are the same.
        output_layouts: For each output, the permutation that takes the artifact's axes back to the source's, or None.
        state: Input name -> output name that feeds it at the next step (streaming models).
        integer_outputs: Outputs before which every operator runs in an integer kernel, so that they can be
            compared bit for bit.
    """

    kind: str
    runtime: str
    folder: Path
    files: tuple[str, ...]
    input_layouts: Mapping[str, tuple[int, ...] | None]
    output_layouts: Mapping[str, tuple[int, ...] | None]
    state: Mapping[str, str] = field(default_factory=dict)
    integer_outputs: tuple[str, ...] = ()

    @property
    def model_path(self) -> Path:
        """The model file itself."""
        return self.folder / self.files[0]

    def to_json(self) -> str:
        """What has to be known to run it again, without its folder: ``artifact.json``."""
        record = {**asdict(self), "folder": "", "schema": 1}
        return json.dumps(record, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: Path) -> Artifact:
        """Reads `to_json`'s text; `folder` is where its files are now.

        Raises:
            ValueError: Not such a text, or of a newer schema.
        """
        record = json.loads(text)
        if not isinstance(record, dict) or record.pop("schema", None) != 1:
            raise ValueError("not an artifact.json of schema 1")
        layouts = {
            key: {name: None if turn is None else tuple(turn) for name, turn in record[key].items()}
            for key in ("input_layouts", "output_layouts")
        }
        lists = {key: tuple(record[key]) for key in ("files", "integer_outputs")}
        return cls(**{**record, **layouts, **lists, "folder": folder})


@dataclass(frozen=True)
class Trial:
    """Artifacts to be run in a process of their own, on this machine or in an emulated device.

    Attributes:
        artifacts: Id -> artifact; all for one runtime.
        runtime: The runtime, as the runner names it.
        samples: What each artifact is run on.
        where: ``host`` or ``emulator``.
        initial: State input -> its first value, for streaming models; zeros where it is not given.
        threads: Threads of the runtime.
        kernels: ``xnnpack`` or ``reference`` for the TFLite runtimes; empty for the runtime's own.
        count: Count the executed instructions of one inference (emulation only).
        memory: Measure the peak resident size; one artifact a trial.
    """

    artifacts: Mapping[str, Artifact]
    runtime: str
    samples: Samples
    where: Literal["host", "emulator"]
    initial: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    threads: int = 1
    kernels: str = ""
    count: bool = False
    memory: bool = False


@dataclass(frozen=True)
class Observation:
    """What one artifact showed.

    Attributes:
        outputs: Output -> (samples, *shape), or (samples, steps, *shape) for a streaming model.
        instructions: Executed by one inference, or None.
        ram: Peak resident size over 10 inferences less the size before the runtime was imported, or None.
    """

    outputs: Mapping[str, np.ndarray[Any, Any]]
    instructions: int | None = None
    ram: Figure | None = None


@dataclass(frozen=True)
class Trace:
    """What a trial showed, and with which versions.

    Attributes:
        observations: Artifact id -> what it showed.
        versions: ``runtime``, ``emulator`` (empty on this machine), ``kernels``, ``machine``, ``python``.
        no_counts: Why instructions are not known; empty when they are.
    """

    observations: Mapping[str, Observation]
    versions: Mapping[str, str]
    no_counts: str = ""


@dataclass(frozen=True)
class Pair:
    """A runtime and its kernels on the device, and those of this machine whose outputs they must equal."""

    device_runtime: str
    device_kernels: str
    host_runtime: str
    host_kernels: str


Optimize = Literal["speed", "balanced", "size"]
"""What the kernels of a build are chosen for."""


@dataclass(frozen=True)
class BuildOptions:
    """How an artifact is made into what a device's memory holds.

    Attributes:
        optimize: What kernels are chosen for.
        flash_bytes: The most flash, beside what the device has; None is no limit.
        ram_bytes: The most RAM, beside what the device has; None is no limit.
        name: The model's, from which names in the C are made.
        made_from: Lines for the top of each generated file; no times and no paths, so that its bytes are the same.
        model_sha256: Of the model that was given, hexadecimal.
        labels: Names of the classes, in the order of the first output.
        pixels: Input -> how a pixel (0 to 255) becomes its value.
    """

    optimize: Optimize = "speed"
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    name: str = "model"
    made_from: tuple[str, ...] = ()
    model_sha256: str = ""
    labels: tuple[str, ...] = ()
    pixels: Mapping[str, PixelRule] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltLayer:
    """An operator as it was built.

    Attributes:
        id: The operator.
        kind: What it computes.
        macs: Multiply-accumulates of one inference.
        weight_bytes: Bytes of its constants as stored.
        weight_bits: Bits of a stored weight, None without weights.
        activation_bits: Bits of its output.
        kernel: The kernel's name.
        instructions: Executed in one inference.
        cycles: Predicted for one inference.
        live_bytes: Tensors and scratch alive while it runs.
    """

    id: str
    kind: str
    macs: int
    weight_bytes: int
    weight_bits: int | None
    activation_bits: int
    kernel: str
    instructions: int
    cycles: int
    live_bytes: int


@dataclass(frozen=True)
class Evidence:
    """Something that was checked while an artifact was built.

    Attributes:
        name: Short and stable, as a check of the verdict is named.
        passed: Whether it held.
        detail: What was compared and found.
        rule: By which rule.
    """

    name: str
    passed: bool
    detail: str
    rule: str


@dataclass(frozen=True)
class Shortage:
    """A memory of the device that does not suffice.

    Attributes:
        figure: ``flash_bytes`` or ``ram_bytes``.
        excess_bytes: What is missing.
        limit_bytes: What there is.
        operator: The one at which the memory is fullest.
    """

    figure: Literal["flash_bytes", "ram_bytes"]
    excess_bytes: int
    limit_bytes: int
    operator: str


@dataclass(frozen=True)
class Built:
    """What a device's memory will hold.

    Attributes:
        artifact: With all files that ship.
        figures: ``latency_ms``, ``ram_bytes``, ``flash_bytes``, ``energy_uj`` and what more the kind knows, by name.
        layers: Its operators in execution order.
        notes: What the reader must know: what was not proved on hardware.
        evidence: What was checked on the way.
        shortages: What of the device's memory does not suffice; empty where it fits.
    """

    artifact: Artifact
    figures: Mapping[str, Figure]
    layers: tuple[BuiltLayer, ...]
    notes: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    shortages: tuple[Shortage, ...] = ()


@dataclass(frozen=True)
class Target:
    """A target kind as plain data and functions.

    Attributes:
        kind: Its folder's name.
        runtimes: Runtimes that execute its artifacts, the one that decides first.
        rules: Which quantization rules its integer kernels demand (a key of `compress.quantize.rules.RULES`).
        schemes: Schemes it can export.
        patterns: Patterns it gains speed from, not merely tolerates.
        needs: Python modules that must be importable on this machine to export and check.
        export: ``(compressed, folder) -> Artifact``: writes the files; raises UnsupportedOperator when an
            operator can't be expressed.
        open: ``(artifact, threads) -> run``, with ``run({input: array}) -> {output: array}`` on this machine,
            arrays in the source model's layout. Batch 1, one step.
        run: ``(trial, profile) -> Trace``: runs artifacts in a process of their own; raises MissingProgram when the
            emulator or the runtime is absent, ValidationFailed when the runtime refuses or crashes.
        pairs: Runtimes that a device may have for its artifacts, each with what must agree with it here.
        prefix: ``(artifact, tensor, folder) -> Artifact``: the same model ending at an inner tensor, to find where
            two runs part.
        one_at_a_time: Its runtime must not be used by two threads of a process at once.
        build: ``(artifact, profile, options, folder) -> Built``: compiles and links what the device runs and counts
            it in emulation; None where the artifact's files are what the device gets.
        room: ``profile -> {"flash_bytes": ..., "ram_bytes": ...}``: the memory that `build` may fill; None without it.
        boundaries: Inner tensors at which `prefix` can end, in execution order, the model's outputs last.
    """

    kind: str
    runtimes: tuple[str, ...]
    rules: str
    schemes: tuple[Scheme, ...]
    patterns: tuple[Pattern, ...]
    needs: tuple[str, ...]
    export: Callable[[Compressed, Path], Artifact]
    open: Callable[[Artifact, int], Callable[[Mapping[str, np.ndarray[Any, Any]]], dict[str, np.ndarray[Any, Any]]]]
    run: Callable[[Trial, DeviceProfile], Trace]
    pairs: tuple[Pair, ...]
    prefix: Callable[[Artifact, str, Path], Artifact]
    boundaries: Callable[[Artifact], tuple[str, ...]]
    one_at_a_time: bool = False
    build: Callable[[Artifact, DeviceProfile, BuildOptions, Path], Built] | None = None
    room: Callable[[DeviceProfile], Mapping[str, int]] | None = None


def load_target(kind: str) -> Target:
    """The target of that kind, found by its folder's name in ``targets/``.

    Raises:
        InputError: There is no such folder.
    """
    kinds = sorted(path.parent.name for path in resources.folder("targets").glob("[!_]*/__init__.py"))
    if kind not in kinds:
        raise InputError(f"unknown target kind {kind!r}", allowed=", ".join(kinds), hint=nearest(kind, kinds))
    target: Target = importlib.import_module(f"leanedge.targets.{kind}").TARGET
    return target


def missing_modules(needs: Sequence[str]) -> tuple[str, ...]:
    """Which of the modules can't be found (nothing is imported)."""
    return tuple(name for name in needs if importlib.util.find_spec(name) is None)
