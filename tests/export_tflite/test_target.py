"""The target kind linux_tflite: exports every scheme, checks it at once, opens it in the source's layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kind_models import Net, samples_of, spec_of

from leanedge.compress.types import Compressed
from leanedge.errors import UnsupportedOperator, ValidationFailed
from leanedge.export.onnx_check import sqnr_db
from leanedge.graph.model import Graph
from leanedge.graph.run import float_runner
from leanedge.target import load_target

TARGET = load_target("linux_tflite")


def watch_like() -> Graph:
    """A small network of 1-D convolutions with two outputs, one of them not flat."""
    net = Net(4)
    x = net.node("Relu", net.node("Conv", net.input((1, 6, 32)), net.weight(8, 6, 5), pads=[2, 2], strides=[2]))
    y = net.node("ReduceMean", x, axes=[2], keepdims=0)
    return net.graph(net.linear(y, 8, 4), x)


def compressed(graph: Graph, scheme: Any) -> Compressed:
    return Compressed(graph, scheme, quant=None if scheme in ("fp32", "fp16") else spec_of(graph, scheme))


@pytest.mark.parametrize("scheme", TARGET.schemes)
def test_every_scheme_is_exported_and_runs_in_the_sources_layout(scheme: Any, tmp_path: Path) -> None:
    graph = watch_like()
    artifact = TARGET.export(compressed(graph, scheme), tmp_path)
    assert artifact.runtime == "ai_edge_litert"
    assert artifact.files == ("model.tflite",)
    assert artifact.input_layouts == {"x": (0, 2, 1)}
    assert list(artifact.output_layouts.values()) == [None, (0, 2, 1)]
    whole = scheme in ("w8a8", "w8a8_pt", "mixed")  # nothing was asked to stay in float
    assert artifact.integer_outputs == (tuple(info.name for info in graph.outputs) if whole else ())
    sample = next(iter(samples_of(graph, 1)))
    found, expected = TARGET.open(artifact, 1)(sample), float_runner(graph)(sample)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == np.float32
        assert sqnr_db(array, found[name]) > {"fp32": 100, "fp16": 50}.get(scheme, 22)


def test_an_operator_left_in_float_ends_what_is_compared_bit_for_bit(tmp_path: Path) -> None:
    from leanedge.compress.quantize.quantize import quantize

    graph = watch_like()
    last = graph.nodes[-1].name
    spec = quantize(graph, samples_of(graph), "mixed", "tflite", float_operators=frozenset([str(last)]))
    artifact = TARGET.export(Compressed(graph, "mixed", quant=spec), tmp_path)
    assert artifact.integer_outputs == (graph.outputs[1].name,)


def test_a_softmax_is_not_compared_bit_for_bit_between_machines(tmp_path: Path) -> None:
    net = Net()
    logits = net.linear(net.input((1, 8)), 8, 4)
    graph = net.graph(net.node("Softmax", logits, axis=-1), logits)
    artifact = TARGET.export(compressed(graph, "w8a8"), tmp_path)
    assert artifact.integer_outputs == (logits,)


def test_a_prefix_gives_an_inner_tensor(tmp_path: Path) -> None:
    artifact = TARGET.export(compressed(watch_like(), "w8a8"), tmp_path / "whole")
    names = TARGET.boundaries(artifact)
    assert names[-2:] == tuple(artifact.output_layouts)
    short = TARGET.prefix(artifact, names[2], tmp_path / "short")
    found = TARGET.open(short, 1)({"x": np.ones((1, 6, 32), np.float32)})
    assert list(found) == [names[2]]


def test_wrong_integers_are_caught_and_the_file_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels read what the file says; a reference that disagrees by one integer step must fail."""
    import leanedge.program.simulate.integer as integer

    right = integer._finish

    def wrong(accumulated: Any, out: Any, activation: Any = "none") -> Any:
        return right(accumulated + (np.arange(accumulated.size) == 0).reshape(accumulated.shape), out, activation)

    monkeypatch.setattr(integer, "_finish", wrong)
    with pytest.raises(ValidationFailed, match="differs from the reference arithmetic"):
        TARGET.export(compressed(watch_like(), "w8a8"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_float_file_that_computes_something_else_is_not_emitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = watch_like()
    other = graph.with_constants({name: array * 1.01 for name, array in graph.constants.items() if array.ndim == 3})
    import leanedge.export.tflite_check as check

    monkeypatch.setattr(check, "float_runner", lambda _graph, exact: float_runner(other, exact=exact))
    with pytest.raises(ValidationFailed, match="differs from the float model by up to"):
        TARGET.export(compressed(graph, "fp32"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_expressed_is_refused(tmp_path: Path) -> None:
    net = Net()
    made = net.node("LSTM", net.input((3, 1, 4)), net.weight(1, 8, 4), net.weight(1, 8, 2), outputs=3, hidden_size=2)
    with pytest.raises(UnsupportedOperator, match="LSTM can't be expressed in TensorFlow Lite"):
        TARGET.export(compressed(net.graph(made[0]), "fp32"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_runtime_refuses_is_a_failed_validation(tmp_path: Path) -> None:
    artifact = TARGET.export(compressed(watch_like(), "fp32"), tmp_path)
    artifact.model_path.write_bytes(b"not a flatbuffer")
    with pytest.raises(ValidationFailed, match="its runtime refuses it"):
        TARGET.open(replace(artifact), 1)
