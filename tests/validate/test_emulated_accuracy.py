"""The metric of emulated outputs: equal, one sample off, many off, NaN, and outputs without a batch axis."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from leanedge.data.samples import Samples
from leanedge.metric import Metric
from leanedge.proof import _emulated_accuracy
from leanedge.report.content import Check
from leanedge.validate import Emulation

LABELS = np.arange(10) % 2
LOGITS = np.eye(2, dtype=np.float32)[LABELS][:, None]  # (10, 1, 2): all right


def check(found: np.ndarray) -> Check:
    metric = Metric("top1", "fraction", True, True, ("y",), "", "labels")
    bench: Any = SimpleNamespace(metric=metric, sets=SimpleNamespace(test=Samples({"x": np.zeros((10, 1))}, LABELS)))
    emulation = Emulation((), {}, {}, {"ort": ({"y": LOGITS[:8]}, {"y": found})})
    (only,) = _emulated_accuracy(bench, emulation, {"y": LOGITS})
    assert only.name == "emulator.ort.accuracy"
    return only


@pytest.mark.parametrize(("wrong", "passed"), [(0, True), (1, True), (2, False)])
def test_one_sample_may_fall_to_the_other_side(wrong: int, passed: bool) -> None:
    found = LOGITS[:8].copy()
    found[:wrong] = found[:wrong, :, ::-1]
    assert check(found).passed is passed


def test_a_dropped_batch_axis_is_no_difference() -> None:
    assert check(LOGITS[:8, 0]).passed is True


def test_nan_fails() -> None:
    found = LOGITS[:8].copy()
    found[3, 0, 1] = np.nan
    assert check(found).passed is False
    assert "y: NaN in emulation" in check(found).detail


@pytest.mark.parametrize(("angle", "passed"), [(0.1, True), (0.3, False)])
def test_a_cosine_keeps_the_loss_that_is_allowed_at_all(angle: float, passed: bool) -> None:
    """Cosines have no edge that one sample could fall over: 0.5 points keep a limit of 1, 4.5 do not."""
    metric = Metric("cosine", "fraction", True, True, ("y",), "", "the float model")
    samples = SimpleNamespace(test=Samples({"x": np.zeros((4, 1))}))
    bench: Any = SimpleNamespace(metric=metric, sets=samples, max_drop=1.0)
    here = np.tile(np.array([1.0, 0.0], np.float32), (4, 1))[:, None]
    there = np.tile(np.array([np.cos(angle), np.sin(angle)], np.float32), (4, 1))[:, None]
    emulation = Emulation((), {}, {}, {"ort": ({"y": here}, {"y": there})})
    (only,) = _emulated_accuracy(bench, emulation, {"y": here})
    assert only.passed is passed
    assert "one sample" not in only.rule
