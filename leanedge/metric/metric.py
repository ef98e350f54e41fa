"""Metric: which number says how good outputs are, from which output, against what; and the rule that chooses one."""

from __future__ import annotations

import hashlib
import inspect
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.entry_point import find_function, is_entry_point
from leanedge.errors import DataError, SettingsError, nearest
from leanedge.metric import values
from leanedge.metric.score import RESAMPLES, Score, bootstrap, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from leanedge.graph.model import Graph, TensorInfo
    from leanedge.settings import Settings

__all__ = ["METRICS", "Metric", "resolve_metric", "softmax_outputs"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Kind:
    """A row of the table of metrics.

    Attributes:
        unit: Of the value.
        higher_is_better: Direction.
        fractional: 0 to 1, so that a drop is in percentage points.
        labels: What y must be: ``classes``, ``targets``, ``perhaps`` (float targets if there are, else the float
            model's outputs), or ``none`` (always against the float model's outputs).
    """

    unit: str
    higher_is_better: bool
    fractional: bool
    labels: str


METRICS: Mapping[str, _Kind] = {
    "top1": _Kind("fraction", True, True, "classes"),
    "f1": _Kind("fraction", True, True, "classes"),
    "auc": _Kind("fraction", True, True, "classes"),
    "mae": _Kind("", False, False, "targets"),
    "rmse": _Kind("", False, False, "targets"),
    "cosine": _Kind("fraction", True, True, "perhaps"),
    "agreement": _Kind("fraction", True, True, "none"),
    "sqnr": _Kind("dB", True, False, "none"),
}
"""Every metric by name; besides these, ``module:function``."""

_FUNCTION_RESAMPLES = 200  # of the caller's own function, whose cost is not known


@dataclass(frozen=True)
class Metric:
    """How good outputs are. Equal metrics have equal `repr`, which serves as part of cache keys.

    Attributes:
        name: A key of `METRICS`, or ``module:function``.
        unit: Of `Score.value`: ``fraction``, ``dB``, or the target's own (empty).
        higher_is_better: Direction.
        fractional: A drop is in percentage points; else in relative percent.
        outputs: The outputs that it reads.
        reason: Why this metric, in words for the report.
        against: ``labels`` or ``the float model``.
        streaming: Outputs have a steps axis: labels of one axis are of the last step, of two axes of every step.
        threshold: For one column: the value above which a sample is of class 1.
        code_sha256: Of a ``module:function``'s module, else empty.
    """

    name: str
    unit: str
    higher_is_better: bool
    fractional: bool
    outputs: tuple[str, ...]
    reason: str
    against: str
    streaming: bool = False
    threshold: float = 0.5
    code_sha256: str = ""
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    @property
    def drop_unit(self) -> str:
        """What a drop is counted in."""
        return "percentage points" if self.fractional else "percent"

    def score(
        self,
        outputs: Mapping[str, Array],
        labels: Array | None,
        reference: Mapping[str, Array],
        interval: bool = True,
        seed: int = 0,
    ) -> Score:
        """Scores the outputs of one set of samples.

        Args:
            outputs: Output -> (n, *its shape), or (n, steps, *its shape) for a streaming model.
            labels: The set's labels, or None.
            reference: The float model's outputs on the same samples, in the same form.
            interval: False spares the bootstrap: the ends are then NaN where it would be needed.
            seed: Of the bootstrap.

        Returns:
            For ``top1`` and ``agreement`` a Wilson interval, for the others one by bootstrap over samples.

        Raises:
            DataError: The labels don't fit the metric or the output; an output is NaN; a function of the caller's fails.
        """
        for name in self.outputs:
            if np.isnan(outputs[name]).any():
                raise DataError("the model gives NaN", where=f"output {name}", hint="check the model on these samples")
        if self.function is not None:
            return self._by_function(outputs, labels, interval, seed)
        if self.name == "sqnr":
            return self._sqnr(outputs, reference, interval, seed)
        name = self.outputs[0]
        output, wanted = outputs[name], labels
        if self.against == "the float model":
            wanted = reference[name]
        if wanted is None:
            raise DataError(f"{self.name} needs labels", where="y", hint="add y to the data, or choose another metric")
        if self.streaming and self.against == "labels":
            output = output if wanted.ndim > 1 and wanted.shape[1] == output.shape[1] else output[:, -1]
        if self.name in ("f1", "auc"):
            return self._over_set(output, wanted, interval, seed)
        each = self._each(output, wanted)
        value = float(each.mean())
        root = math.sqrt if self.name == "rmse" else float
        if np.isin(each, (0, 1)).all() and self.name in ("top1", "agreement"):
            low, high = wilson(int(each.sum()), len(each))
        elif interval:
            low, high = bootstrap(lambda index: root(float(each[index].mean())), len(each), seed)
        else:
            low = high = math.nan
        return Score(root(value), len(each), low, high, tuple(each.tolist()))

    def drop(self, reference: Score, score: Score) -> float:
        """How much worse `score` is than `reference`; negative when better.

        Percentage points for fractional metrics; relative percent of the reference for the others. For ``sqnr`` the
        noise's amplitude in percent of the signal's (40 dB is 1 %), for which the float model has none.

        Raises:
            DataError: The reference is 0, so that there is no relative change.
        """
        if self.name == "sqnr":
            return float(100 * (10 ** (-score.value / 20) - 10 ** (-reference.value / 20)))
        worse = reference.value - score.value if self.higher_is_better else score.value - reference.value
        if self.fractional:
            return 100 * worse
        if worse == 0:
            return 0.0
        if reference.value == 0:
            raise DataError(
                f"the float model's {self.name} is 0, so a change in relative percent has no meaning",
                where="metric",
                hint="choose another metric in leanedge.yaml, such as cosine",
            )
        return 100 * worse / abs(reference.value)

    def _each(self, output: Array, wanted: Array) -> Array:
        """(n,) what each sample contributes."""
        if self.name == "agreement":
            theirs = values.predicted_classes(values.class_scores(wanted), self.threshold)
            ours = values.predicted_classes(values.class_scores(output), self.threshold)
            return np.asarray((ours == theirs).reshape(len(ours), -1).mean(axis=1))
        if self.name == "top1":
            ours = values.predicted_classes(self._scores(output, wanted), self.threshold)
            return np.asarray((ours == wanted.reshape(ours.shape)).reshape(len(ours), -1).mean(axis=1))
        target = self._like(output, wanted)
        table = {
            "mae": values.absolute_errors, "rmse": values.squared_errors, "cosine": values.cosine_similarities,
        }  # fmt: skip
        return table[self.name](output.astype(np.float64), target)

    def _over_set(self, output: Array, labels: Array, interval: bool, seed: int) -> Score:
        scores = self._scores(output, labels)
        if scores.ndim > 2:
            scores, labels = scores.reshape(-1, scores.shape[-1]), labels.reshape(-1)

        def statistic(index: Array | slice) -> float:
            if self.name == "auc":
                return values.one_versus_rest_auc(scores[index], labels[index])
            return values.macro_f1(values.predicted_classes(scores[index], self.threshold), labels[index])

        value = statistic(slice(None))
        if math.isnan(value):
            raise DataError(
                "auc needs samples of two classes at least", where="y", hint="give more samples, or use top1"
            )
        low, high = bootstrap(statistic, len(labels), seed) if interval else (math.nan, math.nan)
        return Score(value, len(labels), low, high)

    def _by_function(self, outputs: Mapping[str, Array], labels: Array | None, interval: bool, seed: int) -> Score:
        function = self.function
        assert function is not None
        count = len(next(iter(outputs.values())))

        def statistic(index: Array | slice) -> float:
            part = {name: array[index] for name, array in outputs.items()}
            try:
                return float(function(part, None if labels is None else labels[index]))
            except Exception as error:  # any code of the user's runs here; its own error is the message
                raise DataError(f"raised {type(error).__name__}: {error}", where=self.name) from error

        value = statistic(slice(None))
        if not math.isfinite(value):
            raise DataError(f"gave {value}", where=self.name, allowed="a finite number")
        low, high = bootstrap(statistic, count, seed, _FUNCTION_RESAMPLES) if interval else (math.nan, math.nan)
        return Score(value, count, low, high)

    def _sqnr(self, outputs: Mapping[str, Array], reference: Mapping[str, Array], interval: bool, seed: int) -> Score:
        """The lowest SQNR of the outputs; each in the detail."""
        energies = {}
        for name in self.outputs:
            ours, theirs = outputs[name].astype(np.float64), reference[name].astype(np.float64)
            axes = tuple(range(1, ours.ndim))
            energies[name] = ((theirs**2).sum(axis=axes), ((ours - theirs) ** 2).sum(axis=axes))
        each = {name: values.sqnr_db(signal.sum(), noise.sum()) for name, (signal, noise) in energies.items()}
        worst = min(each, key=lambda name: each[name])
        signal, noise = energies[worst]
        low = high = math.nan
        if interval:
            low, high = bootstrap(
                lambda index: values.sqnr_db(signal[index].sum(), noise[index].sum()), len(signal), seed
            )
        return Score(each[worst], len(signal), low, high, None, each)

    def _scores(self, output: Array, labels: Array) -> Array:
        """(n, ..., classes), with the labels checked against it."""
        scores = values.class_scores(output)
        classes = max(2, scores.shape[-1])
        if labels.dtype.kind != "i" or labels.shape != scores.shape[:-1]:
            raise DataError(
                f"{self.name} takes integer classes of shape {scores.shape[:-1]}, y is {labels.dtype} {labels.shape}",
                where=f"y, output {self.outputs[0]}",
                hint="y.argmax(1) makes classes of one-hot rows; for float targets choose rmse or mae",
            )
        wrong = (labels < 0) | (labels >= classes)
        if wrong.any():
            index = int(np.argwhere(wrong)[0][0])
            raise DataError(
                f"label {labels[wrong][0]} of sample {index} is out of range ({int(wrong.sum())} such labels)",
                where="y",
                allowed=f"0 to {classes - 1}: the model's output {self.outputs[0]} has {scores.shape[-1]} values",
                hint="labels count from 0",
            )
        return scores

    def _like(self, output: Array, wanted: Array) -> Array:
        """The targets in the output's shape: equal but for axes of size 1."""
        if wanted.size != output.size or _without_ones(wanted) != _without_ones(output):
            raise DataError(
                f"{self.name} compares y {wanted.shape} with the output {output.shape}",
                where=f"y, output {self.outputs[0]}",
                allowed="equal shapes, but for axes of size 1",
                hint="name the output in leanedge.yaml:  metric: {name: ..., output: ...}",
            )
        return np.asarray(wanted.reshape(output.shape), np.float64)


def resolve_metric(
    settings: Settings, labels: Array | None, outputs: Sequence[TensorInfo], softmax: Collection[str] = ()
) -> Metric:
    """The metric that leanedge.yaml names, or the one that the labels call for.

    Without a name: integer labels -> ``top1``; float labels -> ``rmse``; none -> ``agreement`` with the float model
    when the model is known to be a classifier (leanedge.yaml lists `labels`, or the output is a softmax), else
    ``sqnr`` of every output.

    Args:
        settings: Its `metric`, `labels` and `state` are read.
        labels: Of the data, all sets together, or None.
        outputs: The model's outputs, `Graph.outputs`.
        softmax: Outputs that a softmax makes, `softmax_outputs`.

    Raises:
        SettingsError: An unknown metric or output; a function without the right arguments.
        DataError: The metric needs labels of another kind; a label is out of range.
    """
    stated = settings.metric
    free = [info for info in outputs if info.name not in settings.state_links.values()]
    name, reason = (stated.name, "stated in leanedge.yaml") if stated else _default(settings, labels, free, softmax)
    if stated and stated.output is not None and stated.output not in {info.name for info in outputs}:
        names = [info.name for info in outputs]
        raise SettingsError(
            f"the model has no output {stated.output!r}",
            where="leanedge.yaml: metric.output",
            allowed=", ".join(names),
            hint=nearest(stated.output, names),
        )
    chosen = [info for info in outputs if stated and info.name == stated.output] or free
    streaming = bool(settings.state)
    if is_entry_point(name):
        return _own(name, settings, chosen, labels, reason)
    if name not in METRICS:
        raise SettingsError(
            f"there is no metric {name!r}",
            where="leanedge.yaml: metric",
            allowed=", ".join(METRICS) + ", module:function",
            hint=nearest(name, METRICS),
        )
    kind = METRICS[name]
    numeric = [info for info in chosen if info.dtype.kind in "fiub"]
    if not numeric:
        raise DataError("the model has no output of numbers", where="metric", allowed="an output of numbers")
    against = "labels"
    if kind.labels == "none" or (kind.labels == "perhaps" and (labels is None or labels.dtype.kind != "f")):
        against = "the float model"
    elif labels is None:
        raise DataError(
            f"the metric {name} needs labels, and the data has no y",
            where="y",
            allowed="without labels: agreement, cosine, sqnr, module:function",
            hint="add y to the data",
        )
    read = numeric if name == "sqnr" else [_fitting(name, numeric, labels)]
    metric = Metric(
        name,
        kind.unit,
        kind.higher_is_better,
        kind.fractional,
        tuple(info.name for info in read),
        reason,
        against,
        streaming,
        stated.threshold if stated else 0.5,
    )
    if kind.labels == "classes" and labels is not None:
        steps = labels.shape[1:] if streaming and labels.ndim > 1 else (1,) if streaming else ()
        metric._scores(np.zeros((len(labels), *steps, *read[0].shape))[:, -1 if streaming and labels.ndim == 1 else ...],
                       labels)  # fmt: skip
    return metric


def softmax_outputs(graph: Graph) -> frozenset[str]:
    """Outputs of the graph that a softmax makes: their model is a classifier."""
    return frozenset(
        name for name in graph.output_names
        if name in graph.producer and graph.producer[name].op_type in ("Softmax", "LogSoftmax")
    )  # fmt: skip


def _default(
    settings: Settings, labels: Array | None, outputs: Sequence[TensorInfo], softmax: Collection[str]
) -> tuple[str, str]:
    if labels is not None and labels.dtype.kind == "i":
        return "top1", "the labels are integers"
    if labels is not None:
        return "rmse", "the labels are floats"
    if settings.labels is not None or any(info.name in softmax for info in outputs):
        return "agreement", "there are no labels: top-1 agreement with the float model"
    return "sqnr", "there are no labels: signal to quantization noise ratio of each output against the float model"


def _fitting(name: str, outputs: Sequence[TensorInfo], labels: Array | None) -> TensorInfo:
    """The first output that the metric can read with these labels; the first of all when none can."""
    if labels is None or len(outputs) == 1:
        return outputs[0]
    for info in outputs:
        size = math.prod(info.shape)
        if METRICS[name].labels == "classes" and info.dtype.kind == "f" and size > max(1, int(labels.max())):
            return info
        if METRICS[name].labels in ("targets", "perhaps") and size == math.prod(labels.shape[1:]):
            return info
    return outputs[0]


def _own(name: str, settings: Settings, outputs: Sequence[TensorInfo], labels: Array | None, reason: str) -> Metric:
    stated = settings.metric
    assert stated is not None
    function = find_function(name, SettingsError, "leanedge.yaml: metric")
    try:
        inspect.signature(function).bind({}, labels)
    except TypeError as error:
        raise SettingsError(
            f"{name} can't be called: {error}",
            where="leanedge.yaml: metric",
            allowed="function({output: (n, ...)}, labels or None) -> float",
        ) from error
    source = inspect.getsourcefile(function)
    code = b""
    if source is not None:
        with open(source, "rb") as file:
            code = file.read()
    return Metric(
        name,
        stated.unit,
        stated.higher_is_better,
        stated.unit == "fraction",
        tuple(info.name for info in outputs),
        reason,
        "labels" if labels is not None else "the float model",
        bool(settings.state),
        stated.threshold,
        hashlib.sha256(code).hexdigest(),
        function,
    )


def _without_ones(array: Array) -> tuple[int, ...]:
    return tuple(size for size in array.shape if size != 1)
