"""The parts of channel pruning, each against what it stands for."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from leanedge.compress.prune.channel import _clearly_best
from leanedge.compress.prune.refit import _Problem
from leanedge.compress.prune.regression import find_regressions
from leanedge.compress.prune.saliency import Probe, rank_by_surgery
from leanedge.compress.prune.stages import Stages
from leanedge.compress.prune.statistics import FOLDS, collect
from leanedge.data.samples import Samples
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.model import Graph
from leanedge.graph.run import float_runner, run_all

Array = np.ndarray[Any, Any]


def graph_of(text: str, **shapes: tuple[int, ...]) -> Graph:
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> net {text}')
    for name, shape in shapes.items():
        array = random.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return canonicalise(model, "test")


def samples_of(graph: Graph, count: int, groups: Array | None = None) -> Samples:
    random = np.random.default_rng(1)
    (info,) = graph.inputs
    return Samples({info.name: random.standard_normal((count, *info.shape)).astype(np.float32)}, None, groups)


@pytest.mark.parametrize(
    ("shape", "layer", "weight"),
    [
        ("1,3,9,7", "Conv<pads=[2,1,0,1], strides=[2,1], dilations=[2,1]>(x, w, b)", (4, 3, 3, 2)),
        ("1,3,8,7", 'Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w, b)', (4, 3, 3, 4)),
        ("1,3,8,7", 'Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w, b)', (4, 3, 3, 4)),
        ("1,3,8", 'Conv<auto_pad="VALID", strides=[3]>(x, w, b)', (4, 3, 2)),
        ("1,5", "Gemm(x, w, b)", (5, 4)),
        ("1,5", "Gemm<transB=1>(x, w, b)", (4, 5)),
    ],
)
def test_rows_times_the_matrix_are_the_layer(shape: str, layer: str, weight: tuple[int, ...]) -> None:
    graph = graph_of(f"(float[{shape}] x) => (float[] y) {{ y = {layer} }}", w=weight, b=(4,))
    (regression,) = find_regressions(graph)
    (sample,) = samples_of(graph, 1)
    made = float_runner(graph)(sample)["y"]
    wanted = made.reshape(4, -1).T if made.ndim > 2 else made
    held = regression.positions(sample["x"].shape)
    matrix = regression.matrix(graph.constants["w"])
    found = regression.rows(sample["x"], np.arange(held)) @ matrix + graph.constants["b"]
    assert np.allclose(found, wanted, atol=1e-5)
    assert np.array_equal(regression.weight_of(matrix, weight), graph.constants["w"])


def test_stages_make_what_the_whole_graph_makes() -> None:
    graph = graph_of(
        "(float[1,3,6,6] x) => (float[] y) { h = Conv(x, a) r = Relu(h) p = GlobalAveragePool(r) s = Sigmoid(p)"
        " m = Mul(r, s) k = Conv(m, b) y = Relu(k) }",
        a=(4, 3, 1, 1),
        b=(4, 4, 1, 1),
    )
    samples = samples_of(graph, 3)
    wanted = run_all(float_runner(graph, ["p", "m"]), samples)
    stages = Stages(graph, samples, ["p", "m", "y"])
    for name in ("p", "m", "y"):
        assert np.allclose(np.stack(stages.advance({})), wanted[name], atol=1e-6)


def test_a_clamp_frees_what_it_hides() -> None:
    random = np.random.default_rng(0)
    x, hidden = random.standard_normal((400, 6)).astype(np.float32), random.standard_normal((6, 3))
    raw = x @ hidden + 0.3 * random.standard_normal((400, 3))
    y = raw.astype(np.float32)

    def seen(clamp: tuple[float, float], of: tuple[float, float]) -> float:
        start = np.zeros((4, 3), np.float32)
        matrix, bias = _Problem(x[:, :4], y, None, start, True).solve(1e-3, clamp)
        return float(np.square(np.clip(x[:, :4] @ matrix + bias, *of) - np.clip(y, *of)).mean())

    for clamp in ((0.0, inf), (-inf, 0.5), (0.0, 1.0)):
        assert seen(clamp, clamp) < 0.98 * seen((-inf, inf), clamp)


def test_surgery_is_least_squares_on_what_is_left() -> None:
    graph = graph_of("(float[1,6] x) => (float[] y) { h = Gemm(x, a, c) r = Tanh(h) y = Gemm(r, b, d) }",
                     a=(6, 12), c=(12,), b=(12, 3), d=(3,))  # fmt: skip
    statistics = collect(graph, samples_of(graph, 500))
    (group,) = statistics.groups
    constants, known = graph.constants, statistics.layers
    layers = {r.weight: (r, known[r.operator], r.matrix(constants[r.weight])) for r in statistics.regressions}
    ranking, probe = rank_by_surgery(group, layers)
    assert isinstance(probe, Probe)
    layer = next(layer for r, layer, _ in layers.values() if r.weight == "b")
    assert layer.gram is not None
    left = np.sort(ranking.order[probe.gone :])
    damping = layer.damping * float(np.mean(np.diag(layer.gram)))
    damped = layer.gram + damping * np.eye(12)
    whole = graph.constants["b"]
    gone = ranking.order[: probe.gone]
    wanted = whole[left] + np.linalg.solve(damped[np.ix_(left, left)], damped[np.ix_(left, gone)] @ whole[gone])
    assert np.allclose(probe.matrices["b"][left], wanted, atol=1e-3)
    assert not probe.matrices["b"][gone].any()


def test_groups_of_samples_stay_together() -> None:
    graph = graph_of(
        "(float[1,6] x) => (float[] y) { h = Gemm(x, a) r = Tanh(h) y = Gemm(r, b) }", a=(6, 12), b=(12, 3)
    )
    groups = np.random.default_rng(0).integers(0, 11, 60)
    folds = collect(graph, samples_of(graph, 60, groups)).folds
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert set(folds) == set(range(FOLDS))
    assert sorted(set(collect(graph, samples_of(graph, 60, groups % 2)).folds)) == list(range(FOLDS))


def test_a_later_choice_must_be_clearly_better() -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal(40)
    assert _clearly_best({(0,): 1 + noise, (1,): 0.99 + noise[::-1]}) == (0,)
    assert _clearly_best({(0,): 1 + noise, (1,): 0.5 + noise}) == (1,)
    assert _clearly_best({(0,): 1 + noise, (1,): 1.5 + noise}) == (0,)
