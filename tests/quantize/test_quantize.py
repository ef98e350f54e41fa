"""Whole graphs: what gets which scale, what stays in float, and how much is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from quantizable import Net, encoder, mobile, motion, normal

from leanedge.compress.quantize import equalize, quantize, quantize_best
from leanedge.compress.quantize.placement import place
from leanedge.compress.quantize.rules import RULES, rules_named
from leanedge.compress.quantize.sensitivity import rank_operators
from leanedge.compress.quantize.simulate import output_noise, simulated_runner
from leanedge.compress.types import QuantSpec
from leanedge.data.samples import Samples
from leanedge.errors import DataError, UsageError
from leanedge.graph.model import Graph
from leanedge.graph.operators import find_operators
from leanedge.graph.run import float_runner


def db(graph: Graph, spec: QuantSpec, samples: Samples) -> float:
    rows = list(samples)
    wanted = [float_runner(graph)(row) for row in rows]
    return -10 * math.log10(output_noise(graph, wanted, simulated_runner(graph, spec), rows))


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("make", [mobile, motion])
def test_convolutional_nets_keep_their_outputs(make: object, rules: str) -> None:
    graph = make()  # type: ignore[operator]
    spec = quantize(graph, normal(graph), "w8a8", rules)
    assert not spec.float_operators
    assert db(graph, spec, normal(graph, seed=2)) > 28


@pytest.mark.parametrize("rules", RULES)
def test_every_weighted_operator_has_integers_of_the_right_kind(rules: str) -> None:
    graph = mobile()
    spec = quantize(graph, normal(graph), "w8a8", rules)
    for operator in find_operators(graph):
        if not operator.has_channels:
            continue
        weight, bias = spec.constants[str(operator.weight)], spec.constants[str(operator.bias)]
        assert weight.integers.dtype == np.int8
        assert weight.integers.min() >= -127
        assert weight.integers.shape == graph.constants[str(operator.weight)].shape
        assert np.all(weight.quant.zero_point == 0)
        per_channel = operator.kind in RULES[rules].per_channel
        assert weight.quant.axis == (operator.channel_axis if per_channel else None)
        assert bias.integers.dtype == np.int32
        scale = spec.activations[operator.inputs[0]].scale * weight.quant.scale
        assert np.array_equal(bias.quant.scale, np.broadcast_to(scale, bias.quant.scale.shape))


def test_per_tensor_scheme_has_one_scale_a_weight() -> None:
    graph = mobile()
    spec = quantize(graph, normal(graph), "w8a8_pt", "onnxruntime")
    assert {spec.constants[str(o.weight)].quant.axis for o in find_operators(graph) if o.has_channels} == {None}


def test_clip_is_implied_by_the_range() -> None:
    graph = mobile(clip=0.5)
    spec = quantize(graph, normal(graph), "w8a8", "onnxruntime")
    clipped = [o.output for o in find_operators(graph) if o.activation is not None]
    assert len(clipped) == 3
    for value in clipped:
        low, high = spec.activations[value].range
        assert low == 0.0
        assert high <= 0.5 + 1e-6


def test_tflite_ties_and_fixed_scales() -> None:
    net = Net()
    x = net.conv(net.input("x", (1, 3, 8, 8)), (3, 4))
    a = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    b = net.node("AveragePool", net.conv(net.inputs[0].name, (3, 4)), kernel_shape=[2, 2], strides=[2, 2])
    both = net.node("Concat", a, b, axis=1)
    s = net.node("Sigmoid", net.conv(both, (8, 4), 1))
    mixed = net.node("Concat", s, both, axis=1)
    out = net.node("Softmax", net.node("Flatten", mixed), axis=-1)
    graph = net.graph(out, net.node("Tanh", both))
    spec = quantize(graph, normal(graph), "w8a8", "tflite")
    scales = {name: (float(quant.scale), int(quant.zero_point)) for name, quant in spec.activations.items()}
    assert scales[x] == scales[a] == scales[b] == scales[both]
    assert scales[s] == (1 / 256, -128)
    assert scales[mixed] == scales[both]  # the sigmoid's own scale is fixed: the exporter requantizes that input
    assert scales[out] == (1 / 256, -128)
    assert (1 / 128, 0) in scales.values()
    free = quantize(graph, normal(graph), "w8a8", "onnxruntime").activations
    assert float(free[a].scale) == float(free[x].scale)
    assert float(free[both].scale) != float(free[a].scale)


def test_what_gains_nothing_stays_in_float() -> None:
    net = Net()
    x = net.node("Mul", net.input("x", (1, 3, 8, 8)), net.constant(np.float32([2.0])))  # before any integers
    y = net.conv(x, (3, 4))
    relu = net.node("Relu", y)  # of integers, on the same scale: loses nothing
    graph = net.graph(net.node("Add", y, relu))  # read by nobody in integers
    spec = quantize(graph, normal(graph), "w8a8", "onnxruntime")
    placement = place(graph, RULES["onnxruntime"])
    kinds = {o.kind for o in placement.operators if o.id in spec.float_operators}
    assert kinds == {"mul", "add"}
    assert set(spec.activations) == {x, y, relu}
    assert spec.activations[y].scale == spec.activations[relu].scale


def test_float_neighbours_take_the_unrounded_value() -> None:
    """A residual stream that a linear layer reads in integers stays float for everyone else."""
    graph = encoder()
    spec = quantize(graph, normal(graph), "w8a8", "onnxruntime")
    by_id = {o.id: o for o in find_operators(graph)}
    assert all(by_id[name].kind != "linear" for name in spec.float_operators)
    for operator in by_id.values():
        if operator.kind == "linear" and operator.output not in graph.output_names:
            reads = [r for r in by_id.values() if operator.output in r.inputs]
            if all(r.id in spec.float_operators for r in reads):
                assert operator.output not in spec.activations
    assert db(graph, spec, normal(graph, seed=2)) > 28


def test_what_feeds_a_logarithm_stays_in_float() -> None:
    net = Net()
    x = net.conv(net.input("x", (1, 1, 16, 16)), (1, 4))
    power = net.node("Add", net.node("Mul", x, x), net.constant(np.float32([1e-7])))
    y = net.node("Relu", net.conv(net.node("Log", power), (4, 8)))
    graph = net.graph(net.conv(y, (8, 2)))
    spec = quantize(graph, normal(graph), "w8a8", "onnxruntime")
    kinds = [o.kind for o in find_operators(graph) if o.id not in spec.float_operators]
    assert kinds == ["conv", "conv"]
    assert db(graph, spec, normal(graph, seed=2)) > 25


def test_a_shared_bias_is_given_to_each_layer() -> None:
    net = Net()
    bias = net.weight(6)
    x = net.input("x", (1, 5, 6))
    first = net.node("Add", net.node("MatMul", x, net.weight(6, 6)), bias)
    second = net.node("Add", net.node("MatMul", first, net.weight(6, 6)), bias)
    graph = net.graph(second)
    spec = quantize(graph, normal(graph), "w8a8", "onnxruntime")
    biases = [o.bias for o in find_operators(graph) if o.kind == "linear"]
    assert len(set(biases)) == 2
    assert not spec.float_operators


def test_bias_correction_and_covariance_rounding_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same scales with nearest rounding: a net whose inputs are far from zero mean."""
    from leanedge.compress.quantize import static

    gains = []
    for seed in range(4):
        graph = mobile(seed, clip=6.0)
        full = db(graph, quantize(graph, normal(graph), "w8a8_pt", "onnxruntime"), normal(graph, seed=2))
        with monkeypatch.context() as patch:
            patch.setattr(static, "_corrected", lambda *arguments: dict(arguments[4]))
            plain = db(graph, quantize(graph, normal(graph), "w8a8_pt", "onnxruntime"), normal(graph, seed=2))
        gains.append(full - plain)
    assert np.mean(gains) > 1.0


def test_best_ranges_are_no_worse_than_min_max_on_what_they_see() -> None:
    from leanedge.compress.quantize.calibrate import calibrate

    graph = mobile()
    samples = list(normal(graph, 64))
    placement = place(graph, RULES["onnxruntime"])
    run = float_runner(graph, extra=[v for v in placement.quantized if v in placement.producer])
    made = [{**row, **run(row)} for row in samples]
    chosen, plain = (calibrate(graph, placement, samples, method) for method in ("best", "minmax"))
    smaller = 0
    for value in placement.quantized:
        data = np.stack([row[value] for row in made])
        errors = [
            float(((q[value].dequantize(q[value].quantize(data)) - data).astype(float) ** 2).sum())
            for q in (chosen, plain)
        ]
        assert errors[0] <= errors[1] * 1.03  # the histogram's own coarseness
        smaller += errors[0] < errors[1] * 0.99
    assert smaller >= 2


@pytest.mark.parametrize("scheme", ["w8a8", "w8a8_pt"])
def test_equalization_is_exact_and_pays(scheme: str) -> None:
    gains = []
    for seed in range(4):
        graph = mobile(seed)
        other = equalize(graph, normal(graph), scheme, "onnxruntime")  # type: ignore[arg-type]
        assert other is not graph
        rows = list(normal(graph, seed=2))
        for row in rows[:5]:
            want, found = float_runner(graph)(row), float_runner(other)(row)
            for name, array in want.items():
                assert found[name] == pytest.approx(array, rel=1e-4, abs=1e-4)
        specs = [quantize(g, normal(g), scheme, "onnxruntime") for g in (graph, other)]  # type: ignore[arg-type]
        gains.append(db(other, specs[1], normal(graph, seed=2)) - db(graph, specs[0], normal(graph, seed=2)))
    assert np.mean(gains) > 0.5


def test_equalization_through_layer_normalization_is_exact() -> None:
    graph = encoder()
    other = equalize(graph, normal(graph), "w8a8", "onnxruntime")
    assert other is graph  # the normalization's output is read by a residual too
    net = Net()
    gain = net.constant(np.exp(net.random.normal(0, 1.5, 16)).astype(np.float32))
    x = net.node("LayerNormalization", net.input("x", (1, 5, 16)), gain, net.weight(16), axis=-1)
    graph = net.graph(net.node("Add", net.node("MatMul", x, net.weight(16, 8)), net.weight(8)))
    other = equalize(graph, normal(graph), "w8a8", "onnxruntime")
    assert other is not graph
    row = next(iter(normal(graph)))
    for name, array in float_runner(graph)(row).items():
        assert float_runner(other)(row)[name] == pytest.approx(array, rel=1e-4, abs=1e-5)


def test_no_equalization_through_a_finite_clip_nor_to_a_float_reader() -> None:
    graph = mobile(clip=6.0)
    first = find_operators(graph)[0]
    other = equalize(graph, normal(graph), "w8a8_pt", "onnxruntime")
    assert np.array_equal(graph.constants[str(first.weight)], other.constants[str(first.weight)])
    net = Net()
    x = net.conv(net.input("x", (1, 3, 8, 8)), (3, 4))
    graph = net.graph(net.conv(net.node("Tanh", x), (4, 4)), x)
    assert equalize(graph, normal(graph), "w8a8_pt", "onnxruntime") is graph


def test_the_better_of_plain_and_equalized_is_taken() -> None:
    graph = mobile()
    made, spec = quantize_best(graph, normal(graph), "w8a8_pt", "onnxruntime")
    plain = quantize(graph, normal(graph), "w8a8_pt", "onnxruntime")
    assert db(made, spec, normal(graph)) >= db(graph, plain, normal(graph)) - 1e-9


def test_dynamic_needs_no_samples_and_takes_tables() -> None:
    graph = encoder()
    spec = quantize(graph, normal(graph, 1), "w8a8_dynamic", "onnxruntime")
    linear = {o.id for o in find_operators(graph) if o.kind == "linear"}
    assert spec.dynamic_operators == linear
    assert not spec.activations
    tables = [c for c in spec.constants.values() if c.integers.shape == (200, 32)]
    assert len(tables) == 1
    assert tables[0].quant.scale.shape == (200,)


def test_mixed_leaves_the_named_operators_in_float() -> None:
    graph = mobile()
    worst = rank_operators(graph, normal(graph), "onnxruntime")[0][0]
    spec = quantize(graph, normal(graph), "mixed", "onnxruntime", float_operators=frozenset({worst}))
    assert worst in spec.float_operators
    operator = next(o for o in find_operators(graph) if o.id == worst)
    assert operator.weight not in spec.constants


def test_the_ranking_finds_the_operator_that_was_made_hard() -> None:
    graph = mobile()
    hard = find_operators(graph)[2]
    weight = graph.constants[str(hard.weight)].copy()
    weight[:, 0] *= 60  # one input channel swamps the scale of every row
    graph = graph.with_constants({str(hard.weight): weight})
    ranked = rank_operators(graph, normal(graph), "onnxruntime")
    assert ranked[0][0] == hard.id
    assert [loss for _, loss in ranked] == sorted((loss for _, loss in ranked), reverse=True)
    assert {name for name, _ in ranked} == {o.id for o in find_operators(graph) if o.has_channels}


def test_the_same_samples_give_the_same_integers() -> None:
    graph = mobile()
    first, second = (quantize(graph, normal(graph), "w8a8", "onnxruntime") for _ in range(2))
    assert first.constants.keys() == second.constants.keys()
    for name, constant in first.constants.items():
        assert np.array_equal(constant.integers, second.constants[name].integers)
        assert np.array_equal(constant.quant.scale, second.constants[name].quant.scale)


def test_errors_name_what_is_wrong() -> None:
    graph = mobile()
    with pytest.raises(UsageError, match="no quantization rules 'tflit'"):
        rules_named("tflit")
    with pytest.raises(UsageError, match="no operator 'nope'"):
        quantize(graph, normal(graph), "mixed", "onnxruntime", float_operators=frozenset({"nope"}))
    with pytest.raises(UsageError, match="fp16 is not quantized"):
        quantize(graph, normal(graph), "fp16", "onnxruntime")
    with pytest.raises(DataError, match="no calibration samples"):
        quantize(graph, normal(graph, 0), "w8a8", "onnxruntime")
    with pytest.raises(DataError, match="input x has no calibration data"):
        quantize(graph, Samples({"y": np.zeros((1, 1))}), "w8a8", "onnxruntime")
    bad = normal(graph, 3)
    bad.inputs["x"][1] = np.nan
    with pytest.raises(DataError, match="calibration sample 1"):
        quantize(graph, bad, "w8a8", "onnxruntime")
