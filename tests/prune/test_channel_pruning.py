"""Channel pruning end to end, on small nets made here: exact where it can be, close where it must be."""

# ruff: noqa: E501 -- one net a line reads better than a net in pieces

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from leanedge.compress.prune.channel import CHOICES, prune_channels
from leanedge.compress.prune.statistics import Statistics, collect
from leanedge.data.samples import Samples
from leanedge.errors import UnsupportedOperator, UsageError
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.groups import find_groups
from leanedge.graph.layers import macs
from leanedge.graph.model import Graph
from leanedge.graph.operators import find_operators
from leanedge.graph.run import float_runner, run_all

Array = np.ndarray[Any, Any]


def graph_of(text: str, seed: int = 0, **constants: Any) -> Graph:
    random = np.random.default_rng(seed)
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> net {text}')
    for name, value in constants.items():
        array = np.asarray(value)
        if isinstance(value, tuple):
            size = max(1, int(np.prod(value[1:])))
            array = (random.standard_normal(value) * np.sqrt(2 / size)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return canonicalise(model, "test")


def images(graph: Graph, count: int, seed: int = 0) -> Samples:
    """Smooth random inputs: neighbours are alike, as in real data."""
    random = np.random.default_rng(seed)
    (info,) = graph.inputs
    noise = random.standard_normal((count, *info.shape)).astype(np.float32)
    for axis in range(3, noise.ndim):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)) / np.float32(1.7)
    return Samples({info.name: noise})


def error(before: Graph, after: Graph, samples: Samples) -> float:
    """Mean squared error of the outputs as a fraction of their variance."""
    total, spread = 0.0, 0.0
    one, other = run_all(float_runner(before), samples), run_all(float_runner(after), samples)
    for name, reference in one.items():
        assert reference.shape == other[name].shape
        total += float(np.square(reference - other[name]).mean())
        spread += float(np.square(reference - reference.mean(0)).mean())
    return total / spread


def residual_net(seed: int = 0) -> Graph:
    return graph_of(
        "(float[1,3,10,10] x) => (float[] y) { h = Conv<pads=[1,1,1,1]>(x, a, a0) r = Relu(h)"
        " d = Conv<group=24, pads=[1,1,1,1], strides=[2,2]>(r, b, b0) s = Relu(d) p = Conv(s, c, c0)"
        " e = Conv<pads=[1,1,1,1]>(p, f, f0) t = Relu(e) g = Conv(t, k, k0) u = Add(g, p) v = Relu(u)"
        " m = GlobalAveragePool(v) q = Flatten(m) y = Gemm(q, w, w0) }",
        seed,
        a=(24, 3, 3, 3),
        a0=(24,),
        b=(24, 1, 3, 3),
        b0=(24,),
        c=(16, 24, 1, 1),
        c0=(16,),
        f=(32, 16, 3, 3),
        f0=(32,),
        k=(16, 32, 1, 1),
        k0=(16,),
        w=(16, 5),
        w0=(5,),
    )


@pytest.fixture(scope="module")
def gathered() -> Statistics:
    graph = residual_net()
    return collect(graph, images(graph, 60))


@pytest.mark.parametrize("level", [0.25, 0.5, 0.7])
def test_macs_come_down_to_the_level(gathered: Statistics, level: float) -> None:
    graph = residual_net()
    pruned, masks = prune_channels(graph, gathered, level, multiple=1)
    assert macs(pruned) / macs(graph) == pytest.approx(1 - level, abs=0.04)
    assert [(i.name, i.shape) for i in pruned.outputs] == [(i.name, i.shape) for i in graph.outputs]
    assert {str(n.name) for n in pruned.nodes} == {str(n.name) for n in graph.nodes}
    for operator in find_operators(graph):
        if operator.has_channels:
            weight = str(operator.weight)
            size = graph.constants[weight].shape[operator.channel_axis or 0]
            kept, before = masks.channels.get(operator.id, (tuple(range(size)), size))
            assert before == size
            assert len(kept) == pruned.constants[weight].shape[operator.channel_axis or 0]
            assert all(0 <= a < b < size for a, b in pairwise(kept))
            assert all(type(index) is int for index in kept)


def test_more_is_lost_with_every_level_and_refitting_is_what_saves_it(gathered: Statistics) -> None:
    graph, fresh = residual_net(), images(residual_net(), 40, seed=9)
    errors = [error(graph, prune_channels(graph, gathered, level)[0], fresh) for level in (0.2, 0.4, 0.7)]
    assert errors[0] < 0.05
    assert errors == sorted(errors)
    pruned, masks = prune_channels(graph, gathered, 0.4)
    assert error(graph, _sliced(graph, pruned, masks.channels), fresh) > 4 * errors[1]


def _sliced(graph: Graph, pruned: Graph, kept: Any) -> Graph:
    """The same cut with the weights as they were: every constant of `pruned` from `graph`, sliced."""
    outputs = {o.output: o for o in find_operators(graph)}
    found = {}
    for operator in find_operators(graph):
        if not operator.has_channels:
            continue
        weight = graph.constants[str(operator.weight)]
        small = pruned.constants[str(operator.weight)]
        own = (
            np.array(kept[operator.id][0])
            if operator.id in kept
            else np.arange(weight.shape[operator.channel_axis or 0])
        )
        weight = np.take(weight, own, operator.channel_axis or 0)
        across = 1 - (operator.channel_axis or 0)
        if weight.shape[across] != small.shape[across]:
            source = operator.inputs[0]
            while source not in outputs or outputs[source].id not in kept:
                source = outputs[source].inputs[0]
            weight = np.take(weight, np.array(kept[outputs[source].id][0]), across)
        found[str(operator.weight)] = weight
        if operator.bias:
            found[operator.bias] = graph.constants[operator.bias][own]
    return pruned.with_constants(found)


def test_channels_that_say_nothing_new_go_first_and_without_loss() -> None:
    # 12 channels, but only 6 different ones: the rest are copies, scaled.
    random = np.random.default_rng(3)
    half = random.standard_normal((6, 3, 3, 3)).astype(np.float32)
    copies = random.permutation(12)
    a = np.concatenate([half, half * np.float32(0.7)])[copies]
    graph = graph_of(
        "(float[1,3,8,8] x) => (float[] y) { h = Conv(x, a, a0) r = Relu(h) y = Conv(r, b, b0) }",
        a=a,
        a0=np.zeros(12, np.float32),
        b=(5, 12, 3, 3),
        b0=(5,),
    )
    statistics = collect(graph, images(graph, 40))
    pruned, masks = prune_channels(graph, statistics, 0.5, multiple=1, choices=(("obs", "global"),))
    ((kept, _),) = masks.channels.values()
    assert sorted(copies[list(kept)] % 6) == list(range(6))
    assert error(graph, pruned, images(graph, 20, seed=5)) < 1e-3
    # Energy alone can't see that, but refitting makes good what it keeps of each pair.
    by_energy, _ = prune_channels(graph, statistics, 0.5, multiple=1, choices=(("energy", "global"),))
    assert error(graph, by_energy, images(graph, 20, seed=5)) > 1e-2


def test_dead_channels_go_for_free() -> None:
    a = np.random.default_rng(0).standard_normal((16, 3, 1, 1)).astype(np.float32)
    a[[1, 4, 5, 9]] = 0
    bias = np.zeros(16, np.float32)
    bias[[4, 9]] = -1.0, 2.0  # dead below the relu; constant above it: that goes into the next bias
    graph = graph_of(
        "(float[1,3,6,6] x) => (float[] y) { h = Conv(x, a, a0) r = Relu(h) y = Conv(r, b, b0) }",
        a=a,
        a0=bias,
        b=(5, 16, 1, 1),
        b0=(5,),
    )
    statistics = collect(graph, images(graph, 30))
    for measure in ("obs", "energy"):
        pruned, masks = prune_channels(graph, statistics, 0.25, multiple=1, choices=((measure, "global"),))  # type: ignore[arg-type]
        ((kept, _),) = masks.channels.values()
        assert set(range(16)) - set(kept) == {1, 4, 5, 9}
        assert error(graph, pruned, images(graph, 10, seed=5)) < 1e-9


NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv1d, dilated, strided": (
        "(float[1,4,40] x) => (float[] y) { h = Conv<pads=[2,2], dilations=[2], strides=[2]>(x, a) r = Relu(h)"
        " k = Conv<auto_pad=\"SAME_UPPER\", strides=[2], dilations=[1]>(r, b) s = HardSwish(k)"
        " m = ReduceMean<axes=[2], keepdims=0>(s) y = Gemm<transB=1>(m, w) }",
        {"a": (16, 4, 3), "b": (24, 16, 4), "w": (3, 24)},
    ),
    "transformer feed-forward": (
        "(float[1,9,12] x) => (float[] y) { h = MatMul(x, a) i = Add(h, b) g = Sigmoid(i) m = Mul(i, g) p = MatMul(m, c)"
        " q = Add(p, d) y = Add(q, x) }",
        {"a": (12, 48), "b": (48,), "c": (48, 12), "d": (12,)},
    ),
    "no bias at all": (
        "(float[1,6,12] x) => (float[] y) { h = MatMul(x, a) i = Relu(h) p = MatMul(i, c) y = Add(p, x) }",
        {"a": (12, 48), "c": (48, 12)},
    ),
    "concat of branches": (
        "(float[1,3,8,8] x) => (float[] y) { h = Conv<pads=[1,1,1,1]>(x, a) i = Relu(h) j = Conv(x, b) k = Relu(j)"
        " c = Concat<axis=1>(i, k) y = Conv(c, w) }",
        {"a": (12, 3, 3, 3), "b": (12, 3, 1, 1), "w": (4, 24, 1, 1)},
    ),
    "transposed convolution": (
        "(float[1,3,8,8] x) => (float[] y) { h = Conv(x, a) i = Relu(h) k = ConvTranspose<strides=[2,2]>(i, b, c) l = Relu(k)"
        " y = Conv(l, w) }",
        {"a": (16, 3, 3, 3), "b": (16, 12, 2, 2), "c": (12,), "w": (4, 12, 1, 1)},
    ),
    "grouped convolution": (
        "(float[1,3,8,8] x) => (float[] y) { h = Conv(x, a) i = Relu(h) k = Conv<group=8>(i, b) l = Relu(k) y = Conv(l, w) }",
        {"a": (16, 3, 3, 3), "b": (16, 2, 3, 3), "w": (4, 16, 1, 1)},
    ),
    "squeeze and excite": (
        "(float[1,3,8,8] x) => (float[] y) { h = Conv(x, a) i = Relu(h) p = GlobalAveragePool(i) q = Conv(p, b) r = Relu(q)"
        " s = Conv(r, c) t = HardSigmoid(s) u = Mul(i, t) y = Conv(u, w) }",
        {"a": (16, 3, 3, 3), "b": (8, 16, 1, 1), "c": (16, 8, 1, 1), "w": (4, 16, 1, 1)},
    ),
    "flatten into linear": (
        "(float[1,3,8,8] x) => (float[] y) { h = Conv(x, a) i = Relu(h) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(i)"
        " f = Flatten(p) j = Gemm(f, b) k = Relu(j) y = Gemm(k, w) }",
        {"a": (16, 3, 3, 3), "b": (144, 20), "w": (20, 3)},
    ),
    "two outputs, one an integer": (
        "(float[1,8] x) => (float[] y, int64[] z) { h = Gemm(x, a) r = Relu(h) y = Gemm(r, b) z = ArgMax<axis=1>(y) }",
        {"a": (8, 32), "b": (32, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_every_structure_can_be_pruned(name: str) -> None:
    text, constants = NETS[name]
    graph = graph_of(text, **constants)
    pruned, masks = prune_channels(graph, collect(graph, images(graph, 80)), 0.3, multiple=1)
    assert masks.channels
    assert macs(pruned) / macs(graph) < 0.8
    assert error(graph, pruned, images(graph, 20, seed=7)) < 0.25


def test_counts_are_multiples(gathered: Statistics) -> None:
    graph = residual_net()
    pruned, _ = prune_channels(graph, gathered, 0.5, multiple=4)
    assert all(group.size % 4 == 0 for group in find_groups(pruned))
    assert len({group.size for group in find_groups(pruned)}) > 1


@pytest.mark.parametrize("choice", [*CHOICES, ("energy", "uniform")])
def test_an_eighth_stays_however_much_is_asked(gathered: Statistics, choice: Any) -> None:
    graph = residual_net()
    pruned, masks = prune_channels(graph, gathered, 0.99, multiple=1, choices=(choice,))
    assert all(8 * len(kept) >= before for kept, before in masks.channels.values())
    assert {group.size for group in find_groups(pruned)} == {3, 2, 4}


def test_the_same_twice_gives_the_same_bytes() -> None:
    made = [prune_channels(g, collect(g, images(g, 30)), 0.5)[0].sha256 for g in (residual_net(), residual_net())]
    assert made[0] == made[1]


def test_arguments_are_not_changed(gathered: Statistics) -> None:
    graph = residual_net()
    before = graph.sha256, gathered.graph.sha256, [r.costs.sum() for r in gathered.rankings["obs"]]
    prune_channels(graph, gathered, 0.5)
    assert before == (graph.sha256, gathered.graph.sha256, [r.costs.sum() for r in gathered.rankings["obs"]])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_samples_do_no_harm(count: int) -> None:
    graph = residual_net()
    pruned, _ = prune_channels(graph, collect(graph, images(graph, count)), 0.3)
    assert error(graph, pruned, images(graph, 30, seed=4)) < 1.0


def test_streaming_state_is_an_input_like_any_other() -> None:
    graph = graph_of(
        "(float[1,4] x, float[1,6] s) => (float[] y, float[] t) { h = Gemm(x, a) k = Gemm(s, b) m = Add(h, k) t = Tanh(m)"
        " g = Gemm(t, c, c0) r = Relu(g) y = Gemm(r, d, d0) }",
        a=(4, 6),
        b=(6, 6),
        c=(6, 32),
        c0=(32,),
        d=(32, 2),
        d0=(2,),
    )
    random = np.random.default_rng(0)
    steps = Samples({n: random.standard_normal((50, 1, w)).astype(np.float32) for n, w in (("x", 4), ("s", 6))})
    pruned, masks = prune_channels(graph, collect(graph, steps), 0.3)
    assert [i.shape for i in pruned.inputs] == [(1, 4), (1, 6)]
    assert len(masks.channels) == 1
    assert error(graph, pruned, steps) < 0.3


@pytest.mark.parametrize(
    ("text", "constants", "reason"),
    [
        ("(float[1,3,8,8] x) => (float[] y) { y = Conv(x, a) }", {"a": (8, 3, 3, 3)}, "y: is a model output"),
        ("(float[1,3,8] x) => (float[] y) { y = Relu(x) }", {}, "no layer makes channels"),
        (
            "(float[1,3,8,8] x) => (float[] y) { h = Conv(x, a) n = LRN<size=3>(h) y = Conv(n, b) }",
            {"a": (8, 3, 3, 3), "b": (4, 8, 1, 1)},
            "no rule says how channels pass LRN",
        ),
    ],
)
def test_nothing_to_cut_is_refused_with_the_reason(text: str, constants: dict[str, Any], reason: str) -> None:
    graph = graph_of(text, **constants)
    with pytest.raises(UnsupportedOperator, match="nothing to cut") as caught:
        collect(graph, images(graph, 3))
    assert reason in str(caught.value)


def test_groups_too_small_for_the_multiple_are_refused(gathered: Statistics) -> None:
    graph = graph_of(
        "(float[1,3,8,8] x) => (float[] y) { h = Conv(x, a) y = Conv(h, b) }", a=(2, 3, 1, 1), b=(2, 2, 1, 1)
    )
    statistics = collect(graph, images(graph, 5))
    assert macs(prune_channels(graph, statistics, 0.3, multiple=1)[0]) < macs(graph)
    with pytest.raises(UsageError, match="level"):
        prune_channels(graph, statistics, 1.0)
    with pytest.raises(UsageError, match="multiple 0"):
        prune_channels(graph, statistics, 0.5, multiple=0)
    with pytest.raises(UsageError, match="another graph"):
        prune_channels(residual_net(), statistics, 0.5)
