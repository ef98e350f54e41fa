"""What accuracy means for one model: its metric, scores with intervals, and the drop that ``--max-drop`` bounds."""

from leanedge.metric.choose import resolve_metric, softmax_outputs
from leanedge.metric.metric import METRICS, Metric
from leanedge.metric.score import Score, bootstrap, paired_difference, wilson

__all__ = [
    "METRICS",
    "Metric",
    "Score",
    "bootstrap",
    "paired_difference",
    "resolve_metric",
    "softmax_outputs",
    "wilson",
]
