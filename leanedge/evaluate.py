"""Makes one candidate for real, runs it in its own runtime on the selection set, and says what it loses.

A pure function of (graph, sets, candidate, seed), so that results are cached by the hash of these.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from leanedge.cache import cached_folder, code_version, digest
from leanedge.compress.prune.channel import prune_channels
from leanedge.compress.prune.statistics import Statistics, collect
from leanedge.compress.quantize import quantize_best
from leanedge.compress.types import Compressed, Masks
from leanedge.errors import InputError, OutputError, UnsupportedOperator, ValidationFailed
from leanedge.graph.model import Graph
from leanedge.graph.operators import find_operators
from leanedge.graph.run import float_runner, run_all
from leanedge.metric import Score
from leanedge.state import stream
from leanedge.target import Artifact, load_target

if TYPE_CHECKING:
    from pathlib import Path

    from leanedge.candidates import Candidate
    from leanedge.data.samples import Samples, Sets
    from leanedge.metric import Metric

__all__ = ["Evaluation", "Workbench", "evaluate", "make", "pruned", "runtime_versions"]

Array = np.ndarray[Any, Any]

_COLLECTING = threading.Lock()
"""Candidates are made in threads; only one of them collects."""

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class Workbench:
    """What every candidate is made from and judged against.

    Attributes:
        graph: The model in float.
        sets: Calibration, selection and test samples.
        steps: The calibration set as single steps, state inputs included (the set itself where there is no state).
        metric: What accuracy means here.
        state: Streaming models: input -> output that feeds it.
        initial: State input -> its value before the first step.
        seed: Of everything random.
        max_drop: Largest loss allowed, in the metric's unit for drops.
    """

    graph: Graph
    sets: Sets
    steps: Samples
    metric: Metric
    state: Mapping[str, str]
    initial: Mapping[str, Array]
    seed: int
    max_drop: float

    @cached_property
    def key(self) -> str:
        """Hash of all that a candidate's result depends on, besides the candidate."""
        chosen = self.sets.selection
        return digest(
            self.graph.sha256,
            dict(self.steps.inputs),
            dict(chosen.inputs),
            chosen.labels,
            repr(self.metric),
            dict(self.state),
            dict(self.initial),
            self.seed,
            code_version(),
            runtime_versions(),
        )

    @cached_property
    def reference(self) -> Mapping[str, Array]:
        """The float model's outputs on the selection set."""
        return self.run(float_runner(self.graph), self.sets.selection)

    @cached_property
    def statistics(self) -> Statistics:
        """What every cut starts from: collected once, as it takes a run over the calibration set."""
        return collect(self.graph, self.steps)

    @cached_property
    def reference_score(self) -> Score:
        """The float model's score on the selection set."""
        return self.metric.score(self.reference, self.sets.selection.labels, self.reference)

    def run(self, run: Run, samples: Samples) -> dict[str, Array]:
        """Outputs of every sample; of every step of every sequence for a streaming model."""
        return stream(run, samples, self.state, self.initial) if self.state else run_all(run, samples)


@dataclass(frozen=True)
class Evaluation:
    """A candidate that was made.

    Attributes:
        candidate: Which.
        artifact: Its files, in the cache: copy, don't change.
        score: On the selection set, in its own runtime.
        drop: Loss against the float model, in the metric's unit for ``--max-drop``; negative is a gain.
        drop_error: Standard error of `drop`, both scores being of the same samples; 0 where it is not known.
        channels: Operator -> [channels kept, channels before], where something was cut.
        weight_bits: Operator -> bits of its weights.
        activation_bits: Operator -> bits of its output (32 where it stays in float).
        from_cache: Whether it was made in an earlier run.
    """

    candidate: Candidate
    artifact: Artifact
    score: Score
    drop: float
    drop_error: float
    channels: Mapping[str, tuple[int, int]]
    weight_bits: Mapping[str, int]
    activation_bits: Mapping[str, int]
    from_cache: bool

    def keeps(self, max_drop: float) -> bool:
        """Whether its loss is within `max_drop` by at least twice its standard error, or no loss was seen at all.

        Without the margin the choice among many would pick those that the selection set happens to flatter.
        """
        return self.drop <= 0 or self.cautious_drop <= max_drop

    @property
    def cautious_drop(self) -> float:
        """The loss that the selection set can't rule out: two standard errors above the one it shows."""
        return self.drop + 2 * self.drop_error

    @property
    def file_bytes(self) -> int:
        """Size of the model's files."""
        return sum((self.artifact.folder / name).stat().st_size for name in self.artifact.files)


def make(candidate: Candidate, bench: Workbench) -> Compressed:
    """Prunes and quantizes; rounding happens here and nowhere later.

    Raises:
        UnsupportedOperator: The scheme or the pattern can't be had for this graph.
    """
    graph, masks = pruned(candidate, bench)
    made = Compressed(graph, candidate.scheme, candidate.pattern, candidate.level, None, masks)
    if candidate.scheme in ("fp32", "fp16"):
        return made
    rules = load_target(candidate.kind).rules
    kept = frozenset(candidate.float_operators)
    equalized, quant = quantize_best(graph, bench.steps, candidate.scheme, rules, float_operators=kept)
    return replace(made, graph=equalized, quant=quant)


def evaluate(candidate: Candidate, bench: Workbench) -> Evaluation:
    """Makes, exports, re-opens and scores the candidate, or finds that it was done before.

    Raises:
        UnsupportedOperator: It can't be made or exported.
        ValidationFailed: The exported file does not do what the model does.
    """

    def produce(folder: Path) -> None:
        try:
            fill(folder)
        except OutputError:
            raise  # of this machine's disk, not of the candidate
        except (InputError, ValidationFailed) as error:
            # A refusal is a result too: it isn't tried again.
            where = error.where.replace(f"{folder}/", "")  # a temporary folder, soon to be renamed
            (folder / "refusal.json").write_text(
                json.dumps([type(error).__name__, error.message, where, error.allowed, error.hint])
            )

    def fill(folder: Path) -> None:
        compressed = make(candidate, bench)
        target = load_target(candidate.kind)
        artifact = target.export(compressed, folder)
        artifact = replace(artifact, runtime=candidate.runtime, state=dict(bench.state))
        outputs = bench.run(target.open(artifact, 1), bench.sets.selection)
        score = bench.metric.score(outputs, bench.sets.selection.labels, bench.reference)
        record = {
            "score": asdict(replace(score, per_sample=None)),
            "drop": bench.metric.drop(bench.reference_score, score),
            "drop_error": bench.metric.drop_error(bench.reference_score, score),
            **_what_changed(compressed),
        }
        (folder / "artifact.json").write_text(artifact.to_json())
        (folder / "evaluation.json").write_text(json.dumps(record))

    folder, from_cache = cached_folder("candidates", digest(bench.key, asdict(candidate)), produce)
    if (folder / "refusal.json").is_file():
        kind, message, where, allowed, hint = json.loads((folder / "refusal.json").read_text())
        error_type = ValidationFailed if kind == "ValidationFailed" else UnsupportedOperator
        raise error_type(message, where=where, allowed=allowed, hint=hint)
    record = json.loads((folder / "evaluation.json").read_text())
    return Evaluation(
        candidate,
        Artifact.from_json((folder / "artifact.json").read_text(), folder),
        Score(**record["score"]),
        record["drop"],
        record["drop_error"],
        {name: (kept, before) for name, (kept, before) in record["channels"].items()},
        record["weight_bits"],
        record["activation_bits"],
        from_cache,
    )


def pruned(candidate: Candidate, bench: Workbench) -> tuple[Graph, Masks]:
    """The candidate's float graph and what was cut from it, from the cache where an earlier candidate made it.

    Raises:
        UnsupportedOperator: Nothing can be cut.
    """
    if candidate.pattern == "dense":
        return bench.graph, Masks()
    level = candidate.level
    key = digest(bench.graph.sha256, dict(bench.steps.inputs), level, bench.seed, code_version())

    def produce(folder: Path) -> None:
        with _COLLECTING:
            statistics = bench.statistics
            _ = statistics.rankings  # found when first asked for: by one thread, not by each
        graph, masks = prune_channels(bench.graph, statistics, level)
        (folder / "graph.onnx").write_bytes(graph.bytes)
        (folder / "masks.json").write_text(json.dumps(asdict(masks)))

    folder, _ = cached_folder("pruned", key, produce)
    masks = json.loads((folder / "masks.json").read_text())
    return Graph(ir.load(folder / "graph.onnx")), Masks(
        {name: (tuple(kept), before) for name, (kept, before) in masks["channels"].items()}
    )


def _what_changed(compressed: Compressed) -> dict[str, Any]:
    quant = compressed.quant
    plain = 16 if compressed.scheme == "fp16" else 32
    weights, activations = {}, {}
    for operator in find_operators(compressed.graph):
        stored = quant.constants.get(operator.weight) if quant and operator.weight else None
        if operator.weight:
            weights[operator.id] = stored.integers.dtype.itemsize * 8 if stored else plain
        computed = quant is not None and operator.output in quant.activations
        dynamic = quant is not None and operator.id in quant.dynamic_operators
        activations[operator.id] = 8 if computed or dynamic else 32
    return {
        "channels": {name: [len(kept), before] for name, (kept, before) in compressed.masks.channels.items()},
        "weight_bits": weights,
        "activation_bits": activations,
    }


def runtime_versions() -> dict[str, str]:
    """Versions of what makes and runs artifacts on this machine."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("numpy", "onnx", "onnxruntime", "ai-edge-litert", "openvino"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
