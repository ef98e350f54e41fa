"""Metric: which number says how good outputs are, from which output, against what."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.entry_point import callers_code
from leanedge.errors import DataError
from leanedge.metric import values
from leanedge.metric.score import RESAMPLES, Score, bootstrap, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["METRICS", "Metric", "MetricKind", "check_classes"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class MetricKind:
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


METRICS: Mapping[str, MetricKind] = {
    "top1": MetricKind("fraction", True, True, "classes"),
    "f1": MetricKind("fraction", True, True, "classes"),
    "auc": MetricKind("fraction", True, True, "classes"),
    "mae": MetricKind("", False, False, "targets"),
    "rmse": MetricKind("", False, False, "targets"),
    "cosine": MetricKind("fraction", True, True, "perhaps"),
    "agreement": MetricKind("fraction", True, True, "none"),
    "sqnr": MetricKind("dB", True, False, "none"),
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
        function: The ``module:function`` itself: ``({output: (n, ...)}, labels or None) -> float``.
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
            interval: False spares the bootstrap: the ends are then None where it would be needed.
            seed: Of the bootstrap.

        Returns:
            For ``top1`` and ``agreement`` a Wilson interval, for the others one by bootstrap over samples.

        Raises:
            DataError: The labels don't fit the metric or the output; an output is NaN; the caller's function fails.
        """
        for name in self.outputs:
            if outputs[name].dtype.kind == "f" and np.isnan(outputs[name]).any():
                raise DataError("the model gives NaN", where=f"output {name}", hint="check the model on these samples")
        if self.function is not None:
            return self._by_function(self.function, outputs, labels, interval, seed)
        if self.name == "sqnr":
            return self._sqnr(outputs, reference, interval, seed)
        output = outputs[self.outputs[0]]
        wanted = reference[self.outputs[0]] if self.against == "the float model" else labels
        if wanted is None:
            raise DataError(f"{self.name} needs labels", where="y", hint="add y to the data, or choose another metric")
        lead = 2 if self.streaming else 1
        if self.streaming and self.against == "labels" and not (wanted.ndim > 1 and wanted.shape[1] == output.shape[1]):
            output, lead = output[:, -1], 1
        if self.name in ("f1", "auc"):
            return self._over_set(values.class_scores(output, lead), wanted, interval, seed)
        each = self._each(output, wanted, lead)
        root = math.sqrt if self.name == "rmse" else float
        if self.name in ("top1", "agreement") and np.isin(each, (0, 1)).all():
            ends: tuple[float | None, float | None] = wilson(int(each.sum()), len(each))
        else:
            ends = _interval(lambda index: root(float(each[index].mean())), len(each), seed, interval)
        return Score(root(float(each.mean())), len(each), *ends, tuple(each.tolist()))

    def drop(self, reference: Score, score: Score) -> float:
        """How much worse `score` is than `reference`; negative when better.

        Percentage points for fractional metrics; relative percent of the reference for the others. For ``sqnr`` the
        noise's amplitude in percent of the signal's (40 dB is 1 %), of which the float model has none.

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

    def drop_error(self, reference: Score, score: Score) -> float:
        """Standard error of `drop` for two scores of the same samples, in the same unit; 0 without per-sample values.

        The differences sample by sample, so that what is hard for both models cancels out.
        """
        if reference.per_sample is None or score.per_sample is None or reference.n < 2 or reference.value == 0:
            return 0.0
        change = np.asarray(score.per_sample) - np.asarray(reference.per_sample)
        error = float(change.std(ddof=1)) / math.sqrt(reference.n)
        if self.name == "rmse":  # of a root: first order
            error /= 2 * reference.value
        return 100 * error / (1.0 if self.fractional else abs(reference.value))

    def worst_allowed(self, reference: Score, max_drop: float) -> float:
        """The value at which `drop` is `max_drop`."""
        if self.name == "sqnr":
            noise = max_drop / 100 + 10 ** (-reference.value / 20)
            return -20 * math.log10(noise)
        worse = max_drop / 100 * (1.0 if self.fractional else abs(reference.value))
        return reference.value - worse if self.higher_is_better else reference.value + worse

    def _each(self, output: Array, wanted: Array, lead: int) -> Array:
        """(n,) what each sample contributes."""
        if self.name in ("top1", "agreement"):
            ours = values.class_scores(output, lead)
            if self.name == "agreement":
                wanted = values.predicted_classes(values.class_scores(wanted, lead), self.threshold)
            else:
                check_classes(self.name, self.outputs[0], ours.shape, wanted)
            right = values.predicted_classes(ours, self.threshold) == wanted
            return np.asarray(right.reshape(len(right), -1).mean(axis=1))
        ours, target = output.astype(np.float64), self._like(output, wanted)
        if self.name == "mae":
            return values.absolute_errors(ours, target)
        return values.squared_errors(ours, target) if self.name == "rmse" else values.cosine_similarities(ours, target)

    def _like(self, output: Array, wanted: Array) -> Array:
        """The targets in the output's shape: equal but for axes of size 1."""
        if [size for size in wanted.shape if size != 1] != [size for size in output.shape if size != 1]:
            raise DataError(
                f"{self.name} compares y {wanted.shape} with the output {output.shape}",
                where=f"y, output {self.outputs[0]}",
                allowed="equal shapes, but for axes of size 1",
                hint="name the output in leanedge.yaml:  metric: {name: ..., output: ...}",
            )
        return np.asarray(wanted.reshape(output.shape), np.float64)

    def _over_set(self, scores: Array, labels: Array, interval: bool, seed: int) -> Score:
        check_classes(self.name, self.outputs[0], scores.shape, labels)

        def statistic(index: Array | slice) -> float:
            columns, true = scores[index].reshape(-1, scores.shape[-1]), labels[index].reshape(-1)
            if self.name == "auc":
                return values.one_versus_rest_auc(columns, true)
            return values.macro_f1(values.predicted_classes(columns, self.threshold), true)

        value = statistic(slice(None))
        if math.isnan(value):
            raise DataError(
                "auc needs samples of two classes at least", where="y", hint="give more samples, or use top1"
            )
        return Score(value, len(labels), *_interval(statistic, len(labels), seed, interval))

    def _by_function(
        self,
        function: Callable[..., Any],
        outputs: Mapping[str, Array],
        labels: Array | None,
        interval: bool,
        seed: int,
    ) -> Score:
        count = len(outputs[self.outputs[0]])

        def statistic(index: Array | slice) -> float:
            part = {name: outputs[name][index] for name in self.outputs}
            try:
                with callers_code():
                    return float(function(part, None if labels is None else labels[index]))
            except Exception as error:  # any code of the user's runs here; its own error is the message
                raise DataError(f"raised {type(error).__name__}: {error}", where=self.name) from error

        value = statistic(slice(None))
        if not math.isfinite(value):
            raise DataError(f"gave {value}", where=self.name, allowed="a finite number")
        return Score(value, count, *_interval(statistic, count, seed, interval, _FUNCTION_RESAMPLES))

    def _sqnr(self, outputs: Mapping[str, Array], reference: Mapping[str, Array], interval: bool, seed: int) -> Score:
        """The lowest SQNR of the outputs; each in the detail."""
        energies = {}
        for name in self.outputs:
            ours, theirs = outputs[name].astype(np.float64), reference[name].astype(np.float64)
            noise = np.subtract(ours, theirs, out=np.zeros_like(ours), where=ours != theirs)  # equal infinities too
            signal = np.where(np.isfinite(theirs), theirs, 0.0)
            axes = tuple(range(1, ours.ndim))
            energies[name] = ((signal**2).sum(axis=axes), (noise**2).sum(axis=axes))
        each = {name: values.sqnr_db(signal.sum(), noise.sum()) for name, (signal, noise) in energies.items()}
        worst = min(each, key=lambda name: each[name])
        signal, noise = energies[worst]

        def statistic(index: Array) -> float:
            return values.sqnr_db(signal[index].sum(), noise[index].sum())

        return Score(each[worst], len(signal), *_interval(statistic, len(signal), seed, interval), None, each)


def check_classes(metric: str, output: str, shape: tuple[int, ...], labels: Array) -> None:
    """Raises DataError unless the labels are classes of an output's scores of this shape, (n, ..., classes)."""
    if labels.dtype.kind != "i" or labels.shape != shape[:-1]:
        raise DataError(
            f"{metric} takes integer classes of shape {shape[:-1]}, y is {labels.dtype} {labels.shape}",
            where=f"y, output {output}",
            hint="y.argmax(1) makes classes of one-hot rows; for float targets choose rmse or mae",
        )
    classes = max(2, shape[-1])  # one value tells two classes apart
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        raise DataError(
            f"label {labels[wrong][0]} of sample {np.argwhere(wrong)[0][0]} is out of range "
            f"({int(wrong.sum())} such labels)",
            where="y",
            allowed=f"0 to {classes - 1}: the model's output {output} has {shape[-1]} values",
            hint="labels count from 0",
        )


def _interval(
    statistic: Callable[[Array], float], n: int, seed: int, wanted: bool, resamples: int = RESAMPLES
) -> tuple[float | None, float | None]:
    return bootstrap(statistic, n, seed, resamples) if wanted else (None, None)
