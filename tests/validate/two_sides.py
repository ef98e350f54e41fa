"""Artifacts of small models, and a target whose "emulator" runs them with one altered weight."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

from leanedge.compress.quantize import quantize_best
from leanedge.compress.types import Compressed
from leanedge.data.samples import Samples
from leanedge.graph.model import Graph
from leanedge.graph.run import run_all
from leanedge.load import load_model
from leanedge.state import stream
from leanedge.target import Artifact, Observation, Target, Trace, Trial, load_target
from leanedge.validate import Proving, makers_of, tolerance_for

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
import small_classifier

KINDS = ("linux_onnxruntime", "linux_tflite")


def constant(name: str, array: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(array.astype(np.float32), name)


def model_of(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: list[Any]) -> onnx.ModelProto:
    """An ONNX model of float tensors."""

    def info(shapes: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    graph = helper.make_graph(nodes, "small", info(inputs), info(outputs), weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def classifier() -> tuple[Graph, Samples]:
    """The pipeline's classifier; of its samples the first is all zeros, so that its weights don't matter there."""
    model = small_classifier.classifier()
    images = small_classifier.samples(model, 24)["image"][:, None]
    images[0] = 0.0
    return load_model(model, {}).graph, Samples({"image": images})


def two_branches(depth: int = 12) -> tuple[Graph, Samples]:
    """left = conv(x); right = `depth` convolutions that run after it; left + right, and a classifier."""
    rng = np.random.default_rng(5)
    weights = [
        constant("left_w", rng.standard_normal((4, 4, 1, 1)) / 2),
        constant("head_w", rng.standard_normal((3, 4))),
    ]
    nodes = [helper.make_node("Conv", ["x", "left_w"], ["left"], name="left")]
    value = "x"
    for place in range(depth):
        weights.append(constant(f"right{place}_w", np.linalg.qr(rng.standard_normal((4, 4)))[0].reshape(4, 4, 1, 1)))
        made = f"right{place}"
        nodes.append(helper.make_node("Conv", [value, f"{made}_w"], [made], name=made))
        value = made
    nodes += [
        helper.make_node("Add", ["left", value], ["sum"], name="sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "head_w"], ["y"], name="head", transB=1),
    ]
    model = model_of(nodes, {"x": [1, 4, 6, 6]}, {"y": [1, 3]}, weights)
    return load_model(model, {}).graph, Samples({"x": rng.standard_normal((6, 1, 4, 6, 6)).astype(np.float32)})


def deep(depth: int = 24) -> tuple[Graph, Samples]:
    """`depth` convolutions, each with a clamp."""
    rng = np.random.default_rng(6)
    nodes, weights, value = [], [], "x"
    for place in range(depth):
        weights.append(constant(f"w{place}", rng.standard_normal((4, 4, 1, 1)) * 0.8))
        nodes.append(helper.make_node("Conv", [value, f"w{place}"], [f"c{place}"], name=f"conv{place}"))
        nodes.append(helper.make_node("LeakyRelu", [f"c{place}"], [f"r{place}"], name=f"clamp{place}", alpha=0.9))
        value = f"r{place}"
    model = model_of(nodes, {"x": [1, 4, 3, 3]}, {value: [1, 4, 3, 3]}, weights)
    return load_model(model, {}).graph, Samples({"x": rng.standard_normal((4, 1, 4, 3, 3)).astype(np.float32)})


def streaming() -> tuple[Graph, Samples, dict[str, str], dict[str, np.ndarray]]:
    """after = tanh(x W + before U): U does nothing at the first step, where the state is zero."""
    rng = np.random.default_rng(7)
    weights = [constant("w", rng.standard_normal((3, 4))), constant("u", rng.standard_normal((4, 4)) / 2)]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["fed"], name="feed"),
        helper.make_node("MatMul", ["before", "u"], ["kept"], name="keep"),
        helper.make_node("Add", ["fed", "kept"], ["sum"], name="sum"),
        helper.make_node("Tanh", ["sum"], ["after"], name="squash"),
    ]
    model = model_of(nodes, {"x": [1, 3], "before": [1, 4]}, {"after": [1, 4]}, weights)
    samples = Samples({"x": rng.standard_normal((3, 5, 1, 3)).astype(np.float32)}, streaming=True)
    return load_model(model, {}).graph, samples, {"before": "after"}, {"before": np.zeros((1, 4), np.float32)}


def exported(graph: Graph, samples: Samples, kind: str, scheme: Any, folder: Path) -> tuple[Artifact, Proving]:
    """The artifact of a graph, and what to prove it with."""
    target = load_target(kind)
    compressed = Compressed(graph, scheme)
    if scheme == "w8a8":
        equalized, quant = quantize_best(graph, samples, scheme, target.rules)
        compressed = Compressed(equalized, scheme, quant=quant)
    folder.mkdir(parents=True, exist_ok=True)
    artifact = target.export(compressed, folder)
    rules = {
        info.name: tolerance_for(graph, info.name, artifact.integer_outputs, scheme == "w8a8") for info in graph.outputs
    }
    return artifact, Proving(samples, {}, rules, makers_of(graph))


def in_process(kind: str, alter: Callable[[Path], None], folder: Path) -> Target:
    """The target of that kind, but its trials run in this process; those "in emulation" run files that were altered."""
    target = load_target(kind)
    versions = {"runtime": "fake 1.0", "kernels": "fake"}
    made = iter(range(100_000))

    def observe(artifact: Artifact, trial: Trial) -> Observation:
        assert bool(artifact.state) == trial.samples.streaming
        if trial.where == "emulator":
            elsewhere = folder / f"altered{next(made)}"
            elsewhere.mkdir(parents=True)
            (elsewhere / artifact.files[0]).write_bytes(artifact.model_path.read_bytes())
            artifact = replace(artifact, folder=elsewhere)
            alter(artifact.model_path)
        run = target.open(artifact, 1)
        if trial.samples.streaming:
            return Observation(stream(run, trial.samples, artifact.state, trial.initial))
        return Observation(run_all(run, trial.samples))

    def run(trial: Trial, profile: object) -> Trace:
        return Trace({name: observe(artifact, trial) for name, artifact in trial.artifacts.items()}, versions)

    return replace(target, run=run)


def alter_weight(path: Path, name: str) -> None:
    """Halves and negates the constant `name` in a model file, however it is stored; nothing when it isn't there."""
    (_alter_onnx if path.suffix == ".onnx" else _alter_tflite)(path, name)


def _alter_onnx(path: Path, name: str) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in (name, f"{name}:q", f"{name}:fp16"):
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((array / -2).astype(array.dtype), tensor.name))
    onnx.save(model, path)


def _alter_tflite(path: Path, name: str) -> None:
    types = {tflite.TensorType.INT8: np.int8, tflite.TensorType.FLOAT16: np.float16}
    data = bytearray(path.read_bytes())
    model = tflite.Model.GetRootAs(data, 0)
    subgraph = model.Subgraphs(0)
    for place in range(subgraph.TensorsLength()):
        tensor = subgraph.Tensors(place)
        if (
            tensor.Name().decode() in (name, f"{name}.float16", f"{name}.int8")
            and model.Buffers(tensor.Buffer()).DataLength()
        ):
            values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(types.get(tensor.Type(), np.float32))
            values[:] = (values / -2).astype(values.dtype)  # in place: a view of `data`
    path.write_bytes(data)
