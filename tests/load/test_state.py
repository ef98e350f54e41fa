"""Streaming: the state is carried, reset between sequences, and handed to calibration step by step."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from leanedge.data.samples import Samples
from leanedge.errors import SettingsError
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.run import float_runner
from leanedge.settings import Settings, StateSettings
from leanedge.state import initial_state, steps_of, stream

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 1, 2)).astype(np.float32)


def accumulator():
    """y = x + h and hn = y: a running sum, easy to follow by hand; count (int64) grows by one a step."""
    nodes = [
        helper.make_node("Add", ["x", "h"], ["sum"]),
        helper.make_node("Identity", ["sum"], ["hn"]),
        helper.make_node("Mul", ["sum", "two"], ["y"]),
        helper.make_node("Add", ["count", "one"], ["counted"]),
    ]
    values = [
        helper.make_tensor_value_info(name, kind, dims)
        for name, kind, dims in (
            ("x", TensorProto.FLOAT, [1, 2]),
            ("h", TensorProto.FLOAT, [1, 2]),
            ("count", TensorProto.INT64, [1]),
            ("y", TensorProto.FLOAT, [1, 2]),
            ("hn", TensorProto.FLOAT, [1, 2]),
            ("counted", TensorProto.INT64, [1]),
        )
    ]
    constants = [
        helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(nodes, "g", values[:3], values[3:], constants)
    return canonicalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "test")


GRAPH = accumulator()


def settings(**state):
    return Settings(state={name: StateSettings(**entry) for name, entry in state.items()})


GOOD = settings(h={"output": "hn", "reset": 0.5}, count={"output": "counted"})


def test_initial_state():
    found = initial_state(GRAPH, GOOD.state)
    assert found["h"].tolist() == [[0.5, 0.5]]
    assert found["h"].dtype == np.float32
    assert found["count"].tolist() == [0]
    assert found["count"].dtype == np.int64
    assert initial_state(GRAPH, {}) == {}


def test_stream_carries_and_resets():
    samples = Samples({"x": X}, streaming=True)
    found = stream(float_runner(GRAPH), samples, GOOD.state_links, initial_state(GRAPH, GOOD.state))
    np.testing.assert_allclose(found["y"], 2 * (np.cumsum(X, axis=1) + 0.5), rtol=1e-5)
    assert found["counted"].reshape(3, 5).tolist() == [[1, 2, 3, 4, 5]] * 3


def test_steps_have_the_state_of_their_place():
    samples = Samples({"x": X}, np.array([7, 8, 9]), None, streaming=True)
    steps = steps_of(GRAPH, samples, GOOD.state_links, initial_state(GRAPH, GOOD.state))
    assert not steps.streaming
    assert len(steps) == 15
    assert set(steps.inputs) == {"x", "h", "count"}
    before = np.cumsum(X, axis=1) - X + 0.5
    np.testing.assert_allclose(steps.inputs["h"].reshape(3, 5, 1, 2), before, rtol=1e-4, atol=1e-5)
    assert steps.inputs["count"].reshape(-1).tolist() == [0, 1, 2, 3, 4] * 3
    assert steps.labels.tolist() == [7] * 5 + [8] * 5 + [9] * 5
    assert steps.groups.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    run = float_runner(GRAPH)
    whole = stream(run, samples, GOOD.state_links, initial_state(GRAPH, GOOD.state))["y"]
    assert np.array_equal(np.stack([run(step)["y"] for step in steps]), whole.reshape(15, 1, 2))


def test_steps_with_labels_of_every_step_and_groups():
    samples = Samples({"x": X}, np.arange(15).reshape(3, 5), np.array([4, 4, 6]), streaming=True)
    steps = steps_of(GRAPH, samples, GOOD.state_links, initial_state(GRAPH, GOOD.state))
    assert steps.labels.tolist() == list(range(15))
    assert steps.groups.tolist() == [4] * 10 + [6] * 5


def test_without_state_steps_are_the_samples():
    samples = Samples({"x": X[:, 0]})
    assert steps_of(GRAPH, samples, {}, {}) is samples


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"hh": {"output": "hn"}}, "leanedge.yaml: state.hh: the model has no input 'hh'"),
        ({"h": {"output": "hnn"}}, "leanedge.yaml: state.h: the model has no output 'hnn'"),
        ({"h": {"output": "counted"}}, "the output counted is int64 (1,), the input float32 (1, 2)"),
        ({"count": {"output": "counted", "reset": 0.5}}, "reset 0.5 is no int64"),
        ({"x": {"output": "y"}, "h": {"output": "hn"}, "count": {"output": "counted"}}, "every input is state"),
    ],
)
def test_refusals(state, says):
    made = settings(**state)
    with pytest.raises(SettingsError) as caught:
        initial_state(GRAPH, made.state)
    assert says in str(caught.value)


def test_refusals_name_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'hn'") as caught:
        initial_state(GRAPH, settings(h={"output": "hnn"}).state)
    assert "allowed: y, hn, counted" in str(caught.value)
