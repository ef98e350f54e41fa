"""Metrics: their arithmetic against worked numbers, intervals, drops, the rule of choice and its refusals."""

from __future__ import annotations

import doctest
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanedge.metric.score
import leanedge.metric.values
from leanedge.errors import DataError, SettingsError
from leanedge.graph.model import TensorInfo
from leanedge.metric import METRICS, Score, bootstrap, paired_difference, resolve_metric, wilson
from leanedge.metric.values import SQNR_CEILING_DB, macro_f1, one_versus_rest_auc
from leanedge.settings import MetricSettings, Settings, StateSettings

F32 = np.dtype(np.float32)
LOGITS = TensorInfo("logits", F32, (1, 3))
ONE = TensorInfo("p", F32, (1, 1))
VECTOR = TensorInfo("e", F32, (1, 4))
RNG = np.random.default_rng(0)
CLASSES = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def named(name, **more):
    return Settings(metric=MetricSettings(name=name, **more))


def metric(name, labels, *outputs, **more):
    return resolve_metric(named(name, **more), labels, outputs or (LOGITS,))


def one_hot(classes, count=3):
    return np.eye(count, dtype=np.float32)[classes][:, None]


def refusal(kind, made, labels, *outputs, softmax=()) -> str:
    with pytest.raises(kind) as caught:
        resolve_metric(made, labels, outputs or (LOGITS,), softmax)
    return str(caught.value)


@pytest.mark.parametrize("module", [leanedge.metric.score, leanedge.metric.values])
def test_docstring_examples(module):
    found = doctest.testmod(module, extraglobs={"np": np})
    assert found.attempted
    assert not found.failed


# ---- which metric


@pytest.mark.parametrize(
    ("labels", "outputs", "softmax", "class_names", "wanted"),
    [
        (CLASSES, [LOGITS], (), None, "top1"),
        (np.array([0, 1]), [ONE], (), None, "top1"),
        (np.array([3, 70]), [ONE], (), None, "rmse"),
        (np.array([0.5, 1.5]), [ONE], (), None, "rmse"),
        (None, [LOGITS], ("logits",), None, "agreement"),
        (None, [LOGITS], (), ("a", "b", "c"), "agreement"),
        (None, [LOGITS], (), None, "sqnr"),
    ],
)
def test_default(labels, outputs, softmax, class_names, wanted):
    made = resolve_metric(Settings(labels=class_names), labels, outputs, softmax)
    assert made.name == wanted
    assert made.reason
    assert made.against == ("the float model" if labels is None else "labels")


def test_the_output_that_fits_is_read():
    outputs = (TensorInfo("label", np.dtype(np.int64), (1,)), ONE, LOGITS)
    assert metric("top1", CLASSES, *outputs).outputs == ("logits",)
    assert metric("rmse", RNG.normal(size=(10, 1)), VECTOR, ONE).outputs == ("p",)
    assert metric("sqnr", None, *outputs).outputs == ("label", "p", "logits")
    assert metric("top1", CLASSES, LOGITS, TensorInfo("aux", F32, (1, 3)), output="aux").outputs == ("aux",)


def test_state_outputs_are_not_read():
    made = Settings(state={"h": StateSettings(output="e")})
    assert resolve_metric(made, None, [VECTOR, ONE]).outputs == ("p",)


def test_refusals():
    message = refusal(SettingsError, named("top-1"), CLASSES)
    assert "there is no metric 'top-1'" in message
    assert "did you mean 'top1'?" in message
    message = refusal(SettingsError, named("top1", output="logit"), CLASSES)
    assert "the model has no output 'logit'" in message
    assert "did you mean 'logits'?" in message
    for name in ("top1", "f1", "auc", "mae", "rmse"):
        message = refusal(DataError, named(name), None)
        assert f"the metric {name} needs labels, and the data has no y" in message
        assert "agreement, cosine, sqnr" in message
    message = refusal(DataError, Settings(), np.array([0, 1, 3, 4]))
    assert "label 3 of sample 2 is out of range (2 such labels)" in message
    assert "0 to 2: the model's output logits has 3 values" in message
    assert "label -1 of sample 0" in refusal(DataError, Settings(), np.array([-1, 1]))
    message = refusal(DataError, named("top1"), np.eye(3, dtype=np.int64))
    assert "y is int64 (3, 3)" in message
    assert "y.argmax(1)" in message
    assert "y is float64" in refusal(DataError, named("f1"), np.array([0.0, 1.0]))
    assert "no output of numbers" in refusal(DataError, Settings(), None, TensorInfo("s", np.dtype(object), (1,)))


# ---- arithmetic


def test_top1():
    made = metric("top1", CLASSES)
    outputs = {"logits": one_hot(CLASSES)}
    outputs["logits"][:2] = one_hot([2, 2])
    score = made.score(outputs, CLASSES, outputs)
    assert score.value == 0.8
    assert score.n == 10
    assert (score.low, score.high) == wilson(8, 10)
    assert score.correct.tolist() == [False, False] + [True] * 8


def test_top1_of_one_column():
    labels = np.array([0, 1, 1, 0])
    outputs = {"p": np.array([0.2, 0.7, 0.4, 0.6], np.float32).reshape(4, 1, 1)}
    assert metric("top1", labels, ONE).score(outputs, labels, outputs).value == 0.5
    assert metric("top1", labels, ONE, threshold=0.3).score(outputs, labels, outputs).value == 0.75


def test_top1_of_spatial_axes_of_one():
    outputs = {"logits": one_hot(CLASSES).reshape(10, 1, 3, 1, 1)}
    info = TensorInfo("logits", F32, (1, 3, 1, 1))
    assert metric("top1", CLASSES, info).score(outputs, CLASSES, outputs).value == 1


def test_f1_against_a_worked_example():
    predicted, labels = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    # class 0: 1 of 2 and 2; class 1: 1 of 1 and 2; class 2: 2 of 3 and 2
    assert macro_f1(predicted, labels) == pytest.approx((2 / 4 + 2 / 3 + 4 / 5) / 3)
    made = metric("f1", labels)
    outputs = {"logits": one_hot(predicted)}
    score = made.score(outputs, labels, outputs)
    assert score.value == pytest.approx((2 / 4 + 2 / 3 + 4 / 5) / 3)
    assert score.low < score.value < score.high
    assert score.per_sample is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs):
    scores, labels = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    ones, zeros = scores[labels == 1], scores[labels == 0]
    found = one_versus_rest_auc(scores, labels)
    if not len(ones) or not len(zeros):
        assert math.isnan(found)
    else:
        wanted = np.mean([(a > b) + 0.5 * (a == b) for a in ones for b in zeros])
        assert found == pytest.approx(wanted)


def test_auc():
    labels = np.array([0, 0, 1, 1])
    outputs = {"p": np.array([0.1, 0.4, 0.35, 0.8], np.float32).reshape(4, 1, 1)}
    assert metric("auc", labels, ONE).score(outputs, labels, outputs).value == 0.75
    perfect = {"logits": one_hot(CLASSES)}
    assert metric("auc", CLASSES).score(perfect, CLASSES, perfect).value == 1
    with pytest.raises(DataError, match="auc needs samples of two classes"):
        metric("auc", labels, ONE).score(outputs, np.zeros(4, np.int64), outputs)


def test_errors():
    labels = np.array([1.0, 2.0, 3.0])
    outputs = {"p": np.array([1.0, 4.0, 2.0], np.float32).reshape(3, 1, 1)}
    assert metric("mae", labels, ONE).score(outputs, labels, outputs).value == pytest.approx(1.0)
    score = metric("rmse", labels, ONE).score(outputs, labels, outputs)
    assert score.value == pytest.approx(math.sqrt(5 / 3))
    assert score.per_sample == (0, 4, 1)
    assert score.correct is None
    with pytest.raises(DataError, match=r"rmse compares y \(3, 2\) with the output \(3, 1, 1\)"):
        metric("rmse", labels, ONE).score(outputs, np.zeros((3, 2)), outputs)


def test_cosine_against_labels_or_the_float_model():
    outputs = {"e": np.array([[[1, 0, 0, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]], np.float32)}
    targets = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], float)
    made = metric("cosine", targets, VECTOR)
    assert made.against == "labels"
    assert made.score(outputs, targets, outputs).per_sample == pytest.approx((math.sqrt(0.5), 1, 0))
    made = metric("cosine", CLASSES, VECTOR)
    assert made.against == "the float model"
    assert made.score(outputs, CLASSES[:3], {"e": targets[:, None]}).value == pytest.approx((math.sqrt(0.5) + 1) / 3)


def test_agreement_needs_no_labels():
    made = metric("agreement", None)
    reference, outputs = {"logits": one_hot(CLASSES)}, {"logits": one_hot(CLASSES)}
    assert made.score(outputs, None, reference).value == 1
    outputs["logits"][3] = one_hot([1])[0]
    assert made.score(outputs, None, reference).value == 0.9


def test_sqnr_is_of_the_worst_output():
    made = metric("sqnr", None, LOGITS, ONE)
    reference = {"logits": np.full((5, 1, 3), 10.0), "p": np.full((5, 1, 1), 1.0)}
    outputs = {"logits": reference["logits"] + 1, "p": reference["p"] + 0.01}
    score = made.score(outputs, None, reference)
    assert score.value == pytest.approx(20)
    assert score.detail == pytest.approx({"logits": 20, "p": 40})
    exact = made.score(reference, None, reference)
    assert exact.value == SQNR_CEILING_DB
    assert made.drop(exact, score) == pytest.approx(10, abs=1e-4)


def test_sqnr_of_infinities_and_zeros():
    made = metric("sqnr", None, ONE)
    reference = {"p": np.array([1.0, -np.inf, 2.0]).reshape(3, 1, 1)}
    assert made.score(reference, None, reference).value == SQNR_CEILING_DB
    finite = {"p": np.array([1.0, 5.0, 2.0]).reshape(3, 1, 1)}
    assert made.score(finite, None, reference).value == -SQNR_CEILING_DB
    zero = {"p": np.zeros((3, 1, 1))}
    assert made.score(finite, None, zero).value == -SQNR_CEILING_DB


def test_nan_output_is_refused():
    outputs = {"logits": one_hot(CLASSES)}
    outputs["logits"][3, 0, 1] = np.nan
    with pytest.raises(DataError, match="output logits: the model gives NaN"):
        metric("top1", CLASSES).score(outputs, CLASSES, outputs)


def test_labels_absent_at_scoring():
    outputs = {"logits": one_hot(CLASSES)}
    with pytest.raises(DataError, match="top1 needs labels"):
        metric("top1", CLASSES).score(outputs, None, outputs)


# ---- streaming

STREAM = Settings(state={"h": StateSettings(output="hn")})


def test_streaming_labels_of_every_step_or_of_the_last():
    steps = np.array([[0, 1, 2], [2, 1, 0]])
    outputs = {"logits": one_hot(steps.reshape(-1)).reshape(2, 3, 1, 3)}
    every = resolve_metric(STREAM, steps, [LOGITS])
    assert every.score(outputs, steps, outputs).value == 1
    wrong = steps.copy()
    wrong[0, 0] = 2
    score = every.score(outputs, wrong, outputs)
    assert score.per_sample == pytest.approx((2 / 3, 1))
    assert score.n == 2
    assert score.low <= score.value <= score.high
    last = resolve_metric(STREAM, steps[:, -1], [LOGITS])
    assert last.score(outputs, np.array([2, 1]), outputs).value == 0.5


def test_streaming_of_one_column():
    outputs = {"p": np.array([[0.9, 0.1], [0.2, 0.3]], np.float32).reshape(2, 2, 1, 1)}
    other = {"p": np.array([[0.9, 0.8], [0.2, 0.3]], np.float32).reshape(2, 2, 1, 1)}
    made = resolve_metric(named("agreement").with_options(state={"h": StateSettings(output="hn")}), None, [ONE])
    assert made.score(outputs, None, other).per_sample == (0.5, 1)
    labels = np.array([[1, 0], [0, 1]])
    for name in ("f1", "auc"):
        made = resolve_metric(named(name).with_options(state={"h": StateSettings(output="hn")}), labels, [ONE])
        assert 0 < made.score(outputs, labels, outputs).value <= 1


def test_streaming_rmse_of_every_step():
    targets = np.array([[1.0, 2.0], [3.0, 4.0]])
    made = resolve_metric(STREAM, targets, [ONE])
    outputs = {"p": targets.reshape(2, 2, 1, 1) + 0.5}
    assert made.score(outputs, targets, outputs).value == pytest.approx(0.5)


# ---- drops and comparison


def score(value, each=None):
    return Score(value, 4, None, None, each)


def test_drop_in_points_or_relative_percent():
    assert metric("top1", CLASSES).drop(score(0.9), score(0.88)) == pytest.approx(2)
    assert metric("top1", CLASSES).drop(score(0.88), score(0.9)) == pytest.approx(-2)
    labels = np.array([0.5])
    assert metric("rmse", labels, ONE).drop(score(2.0), score(2.1)) == pytest.approx(5)
    assert metric("mae", labels, ONE).drop(score(2.0), score(1.9)) == pytest.approx(-5)
    assert metric("mae", labels, ONE).drop(score(0.0), score(0.0)) == 0
    with pytest.raises(DataError, match="relative percent has no meaning"):
        metric("mae", labels, ONE).drop(score(0.0), score(0.1))


@pytest.mark.parametrize("name", METRICS)
def test_unit_and_drop_unit(name):
    labels = np.array([0.5]) if METRICS[name].labels == "targets" else np.array([1])
    made = metric(name, labels, ONE)
    assert made.drop_unit == ("percentage points" if made.unit == "fraction" else "percent")


def test_paired_difference():
    first = score(0.5, (1, 0, 1, 0) * 50)
    second = score(0.75, (1, 1, 1, 0) * 50)
    difference, low, high = paired_difference(first, second)
    assert difference == 0.25
    assert 0.15 < low < 0.25 < high < 0.35
    assert paired_difference(first, first) == (0, 0, 0)
    with pytest.raises(DataError, match="sample by sample"):
        paired_difference(first, score(0.5))
    with pytest.raises(DataError, match="sample by sample"):
        paired_difference(first, score(0.5, (1,)))


# ---- intervals


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(pair):
    right, n = pair
    low, high = wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert (high == 1) == (right == n)
    assert (low == 0) == (right == 0)


def test_intervals_cover_the_truth_about_95_times_of_100():
    rng = np.random.default_rng(1)
    hits = sum(low <= 0.8 <= high for low, high in (wilson(int(rng.binomial(100, 0.8)), 100) for _ in range(1000)))
    assert 920 <= hits <= 980
    covered = 0
    for seed in range(200):
        draws = np.random.default_rng(seed).normal(3, 1, 100)
        low, high = bootstrap(lambda index, draws=draws: float(draws[index].mean()), 100, seed, 300)
        covered += low <= 3 <= high
    assert 180 <= covered <= 199


def test_bootstrap_without_a_value():
    assert bootstrap(lambda index: math.nan, 5, 0, 10) == (None, None)


def test_interval_can_be_spared_and_is_seeded():
    made = metric("f1", CLASSES)
    outputs = {"logits": RNG.normal(size=(10, 1, 3)).astype(np.float32)}
    spared = made.score(outputs, CLASSES, outputs, interval=False)
    assert (spared.low, spared.high) == (None, None)
    assert made.score(outputs, CLASSES, outputs, seed=4) == made.score(outputs, CLASSES, outputs, seed=4)


@pytest.mark.parametrize("name", ["top1", "f1", "sqnr"])
def test_scores_go_through_json(name):
    made = metric(name, CLASSES)
    outputs = {"logits": RNG.normal(size=(10, 1, 3)).astype(np.float32)}
    score = made.score(outputs, CLASSES, outputs)
    assert Score(**json.loads(json.dumps(asdict(score)))) == score


# ---- functions of one's own


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "leanedge_test_metric.py"
    path.write_text(
        "def mean(outputs, labels):\n    return outputs['logits'].mean()\n"
        "def broken(outputs, labels):\n    raise KeyError('no')\n"
        "def nan(outputs, labels):\n    return float('nan')\n"
        "def one(outputs):\n    return 1\n"
    )
    return path


def test_own_function(own):
    made = metric("leanedge_test_metric:mean", None, unit="fraction", higher_is_better=False)
    outputs = {"logits": np.arange(30, dtype=np.float32).reshape(10, 1, 3)}
    found = made.score(outputs, None, outputs)
    assert found.value == 14.5
    assert found.low < 14.5 < found.high
    assert made.fractional
    assert made.drop(score(0.1), score(0.2)) == pytest.approx(10)
    assert "0x" not in repr(made)
    own.write_text(own.read_text() + "\n")
    assert metric("leanedge_test_metric:mean", None, unit="fraction", higher_is_better=False) != made


def test_own_function_refusals(own):
    outputs = {"logits": np.zeros((10, 1, 3), np.float32)}
    with pytest.raises(DataError, match="leanedge_test_metric:broken: raised KeyError"):
        metric("leanedge_test_metric:broken", None).score(outputs, None, outputs)
    with pytest.raises(DataError, match="gave nan"):
        metric("leanedge_test_metric:nan", None).score(outputs, None, outputs)
    message = refusal(SettingsError, named("leanedge_test_metric:one"), None)
    assert "can't be called" in message
    assert "function({output: (n, ...)}, labels or None) -> float" in message
    assert "did you mean 'mean'?" in refusal(SettingsError, named("leanedge_test_metric:meen"), None)
