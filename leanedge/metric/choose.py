"""The rule that chooses a model's metric, and checks it against the labels and the outputs before anything runs."""

from __future__ import annotations

import hashlib
import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.entry_point import find_function, is_entry_point
from leanedge.errors import DataError, SettingsError, nearest
from leanedge.metric.metric import METRICS, Metric, check_classes
from leanedge.metric.values import class_shape

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from leanedge.graph.model import Graph, TensorInfo
    from leanedge.settings import MetricSettings, Settings

__all__ = ["resolve_metric", "softmax_outputs"]

Array = np.ndarray[Any, Any]

_WHERE = "leanedge.yaml: metric"


def resolve_metric(
    settings: Settings, labels: Array | None, outputs: Sequence[TensorInfo], softmax: Collection[str] = ()
) -> Metric:
    """The metric that leanedge.yaml names, or the one that the labels call for.

    Without a name: integer labels -> ``top1``; float labels (or integers beyond 1 for an output of one number) ->
    ``rmse``; none -> ``agreement`` with the float model when the model is known to be a classifier (leanedge.yaml lists
    `labels`, or the output is a softmax), else ``sqnr`` of every output.

    Args:
        settings: Its `metric`, `labels` and `state` are read.
        labels: Of the data, all sets together, or None.
        outputs: The model's outputs, `Graph.outputs`.
        softmax: Outputs that a softmax makes, `softmax_outputs`.

    Raises:
        SettingsError: An unknown metric or output; a function without the right arguments.
        DataError: The metric needs labels of another kind; a label is out of range.
    """
    stated, streaming = settings.metric, bool(settings.state)
    free = [info for info in outputs if info.name not in settings.state_links.values()]
    chosen = _named_output(stated, outputs) or [info for info in free if info.dtype.kind in "fiub"]
    if not chosen:
        raise DataError("the model has no output of numbers", where="metric", allowed="an output of numbers")
    name, reason = (stated.name, "stated in leanedge.yaml") if stated else _default(settings, labels, chosen, softmax)
    if stated and is_entry_point(name):
        return _own(stated, chosen, labels, streaming)
    if name not in METRICS:
        raise SettingsError(
            f"there is no metric {name!r}",
            where=_WHERE,
            allowed=", ".join(METRICS) + ", module:function",
            hint=nearest(name, METRICS),
        )
    kind = METRICS[name]
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
    read = chosen if name == "sqnr" else [_fitting(kind.labels, chosen, labels)]
    if kind.labels == "classes" and labels is not None:
        every_step = streaming and labels.ndim > 1
        shape = (len(labels), *(labels.shape[1:2] if every_step else ()), *read[0].shape)
        check_classes(name, read[0].name, class_shape(shape, 2 if every_step else 1), labels)
    return Metric(
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


def softmax_outputs(graph: Graph) -> frozenset[str]:
    """Outputs of the graph that a softmax makes: their model is a classifier."""
    makers = {name: graph.producer[name].op_type for name in graph.output_names if name in graph.producer}
    return frozenset(name for name, maker in makers.items() if maker in ("Softmax", "LogSoftmax"))


def _named_output(stated: MetricSettings | None, outputs: Sequence[TensorInfo]) -> list[TensorInfo]:
    if stated is None or stated.output is None:
        return []
    found = [info for info in outputs if info.name == stated.output]
    if not found:
        names = [info.name for info in outputs]
        raise SettingsError(
            f"the model has no output {stated.output!r}",
            where=f"{_WHERE}.output",
            allowed=", ".join(names),
            hint=nearest(stated.output, names),
        )
    return found


def _default(
    settings: Settings, labels: Array | None, outputs: Sequence[TensorInfo], softmax: Collection[str]
) -> tuple[str, str]:
    if labels is not None and labels.dtype.kind == "i":
        if all(math.prod(info.shape) == 1 for info in outputs) and int(labels.max()) > 1:
            return "rmse", "the labels are numbers beyond 1 and the output is one number"
        return "top1", "the labels are integers"
    if labels is not None:
        return "rmse", "the labels are floats"
    if settings.labels is not None or any(info.name in softmax for info in outputs):
        return "agreement", "there are no labels: top-1 agreement with the float model"
    return "sqnr", "there are no labels: signal to quantization noise ratio of each output against the float model"


def _fitting(takes: str, outputs: Sequence[TensorInfo], labels: Array | None) -> TensorInfo:
    """The first output that the metric can read with these labels; the first of all when none can."""
    if labels is None:
        return outputs[0]
    for info in outputs:
        size = math.prod(info.shape)
        if takes == "classes" and info.dtype.kind == "f" and int(labels.max()) < max(2, size):
            return info
        if takes in ("targets", "perhaps") and size == math.prod(labels.shape[1:]):
            return info
    return outputs[0]


def _own(stated: MetricSettings, outputs: Sequence[TensorInfo], labels: Array | None, streaming: bool) -> Metric:
    function = find_function(stated.name, SettingsError, _WHERE)
    try:
        inspect.signature(function).bind({}, labels)
    except TypeError as error:
        raise SettingsError(
            f"{stated.name} can't be called: {error}",
            where=_WHERE,
            allowed="function({output: (n, ...)}, labels or None) -> float",
        ) from error
    source = inspect.getsourcefile(function)
    return Metric(
        stated.name,
        stated.unit,
        stated.higher_is_better,
        stated.unit == "fraction",
        tuple(info.name for info in outputs),
        "stated in leanedge.yaml",
        "labels" if labels is not None else "the float model",
        streaming,
        stated.threshold,
        hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else "",
        function,
    )
