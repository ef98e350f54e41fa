"""The arithmetic of each metric: arrays in, per-sample values or one number out."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "SQNR_CEILING_DB",
    "absolute_errors",
    "class_scores",
    "class_shape",
    "cosine_similarities",
    "macro_f1",
    "one_versus_rest_auc",
    "predicted_classes",
    "sqnr_db",
    "squared_errors",
]

Array = np.ndarray[Any, Any]

SQNR_CEILING_DB = 150.0
"""Equal outputs have no noise; float32 itself carries less than this."""


def class_scores(output: Array, lead: int = 1) -> Array:
    """(n, ..., classes) from any output: axes of size 1 dropped, but the first `lead` and a lone last one.

    >>> class_scores(np.zeros((5, 1, 10))).shape, class_scores(np.zeros((5, 1, 1))).shape
    ((5, 10), (5, 1))
    """
    return output.reshape(class_shape(output.shape, lead))


def class_shape(shape: tuple[int, ...], lead: int = 1) -> tuple[int, ...]:
    """The shape of `class_scores`."""
    return (*shape[:lead], *(tuple(size for size in shape[lead:] if size != 1) or (1,)))


def predicted_classes(scores: Array, threshold: float) -> Array:
    """(n, ...) classes: the highest column; for one column, 1 above the threshold."""
    if scores.shape[-1] == 1:
        return np.asarray(scores[..., 0] > threshold, np.int64)
    return np.asarray(np.argmax(scores, axis=-1), np.int64)


def macro_f1(predicted: Array, labels: Array) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN); classes that neither array holds are left out.

    >>> round(macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1])), 4)
    0.6667
    """
    count = int(max(predicted.max(), labels.max())) + 1
    true = np.bincount(labels[predicted == labels], minlength=count)
    total = np.bincount(predicted, minlength=count) + np.bincount(labels, minlength=count)
    return float((2 * true[total > 0] / total[total > 0]).mean())


def one_versus_rest_auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve (Mann-Whitney, ties count half); for more classes the mean of each against the rest.

    Args:
        scores: (n,) of class 1, or (n, classes).
        labels: (n,) classes.

    Returns:
        NaN when a class (both, for two) has no sample or no other.

    >>> one_versus_rest_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    columns = scores.reshape(len(scores), -1)
    if columns.shape[1] == 1:
        return _auc(columns[:, 0], labels == 1)
    if columns.shape[1] == 2:
        return _auc(columns[:, 1] - columns[:, 0], labels == 1)
    found = [_auc(columns[:, index], labels == index) for index in np.unique(labels)]
    return float(np.mean(found))


def _auc(scores: Array, positive: Array) -> float:
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    del values
    rank = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores
    return float((rank[place][positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def absolute_errors(output: Array, target: Array) -> Array:
    """(n,) mean absolute error of each sample."""
    return np.asarray(np.abs(output - target).reshape(len(output), -1).mean(axis=1))


def squared_errors(output: Array, target: Array) -> Array:
    """(n,) mean squared error of each sample."""
    return np.asarray(((output - target) ** 2).reshape(len(output), -1).mean(axis=1))


def cosine_similarities(output: Array, target: Array) -> Array:
    """(n,) cosine of the angle between the two, each flattened; 1 where both are zero, 0 where one is.

    >>> cosine_similarities(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])).round(4).tolist()
    [0.7071]
    """
    a = output.reshape(len(output), -1).astype(np.float64)
    b = target.reshape(len(target), -1).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    both_zero = (np.abs(a).sum(axis=1) == 0) & (np.abs(b).sum(axis=1) == 0)
    return np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1), np.where(both_zero, 1.0, 0.0))


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantization noise ratio of two energies, in decibels, within +-`SQNR_CEILING_DB`."""
    if noise <= 0:
        return SQNR_CEILING_DB
    if signal <= 0 or noise == np.inf:
        return -SQNR_CEILING_DB
    return float(np.clip(10 * (np.log10(signal) - np.log10(noise)), -SQNR_CEILING_DB, SQNR_CEILING_DB))
