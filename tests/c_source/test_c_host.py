"""The reference target: a quantized model as C on this machine, bit for bit what the Program computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanedge.compress.quantize.quantize import quantize
from leanedge.compress.types import Compressed
from leanedge.data.samples import Samples
from leanedge.errors import MissingProgram, UnsupportedOperator
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.run import float_runner
from leanedge.load.onnx_file import load_onnx
from leanedge.program.fill import fill
from leanedge.program.simulate import simulate
from leanedge.program.structure import structure
from leanedge.target import Artifact, Trial, load_target

ROOT = Path(__file__).resolve().parents[2]
TARGET = load_target("c_host")


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compressed, Artifact, Any, Any]:
    graph = canonicalise(load_onnx(ROOT / "examples/fashion/model.onnx"), "fashion")
    (info,) = graph.inputs
    with np.load(ROOT / "examples/fashion/samples.npz") as arrays:
        samples, labels = arrays["x"].astype(np.float32).reshape(-1, *info.shape), arrays["y"]
    spec = quantize(graph, Samples({info.name: samples[:100]}), "w8a8", "tflite")
    compressed = Compressed(graph, "w8a8", quant=spec)
    folder = tmp_path_factory.mktemp("artifact")
    return compressed, TARGET.export(compressed, folder), samples, labels


def test_outputs_equal_the_reference_and_keep_the_accuracy(fashion: Any) -> None:
    compressed, artifact, samples, labels = fashion
    program = fill(structure(compressed.graph), compressed.quant)
    (info,), (out,) = compressed.graph.inputs, compressed.graph.outputs
    run = TARGET.open(artifact, 1)
    for sample in samples[:3]:
        np.testing.assert_array_equal(
            run({info.name: sample})[out.name], simulate(program, {info.name: sample})[out.name]
        )

    from leanedge.targets.c_host.session import open_many

    few = slice(100, 700)
    made = open_many(artifact)({info.name: samples[few]})[out.name]
    reference = np.concatenate([float_runner(compressed.graph)({info.name: s})[out.name] for s in samples[few]])
    right = labels[few] == made.reshape(len(made), -1).argmax(axis=1)
    right_before = labels[few] == reference.argmax(axis=1)
    assert right.mean() > right_before.mean() - 0.01


def test_the_artifact_is_found_again_and_run_as_a_trial(fashion: Any) -> None:
    compressed, artifact, samples, _ = fashion
    again = Artifact.from_json(artifact.to_json(), artifact.folder)
    assert all((again.folder / name).is_file() for name in again.files)
    (info,), (out,) = compressed.graph.inputs, compressed.graph.outputs
    profile: Any = None
    trial = Trial({"one": again}, "c_host", Samples({info.name: samples[:4]}), "host")
    trace = TARGET.run(trial, profile)
    run = TARGET.open(again, 1)
    np.testing.assert_array_equal(
        trace.observations["one"].outputs[out.name], np.stack([run({info.name: s})[out.name] for s in samples[:4]])
    )


def test_the_model_ends_at_an_inner_tensor(fashion: Any, tmp_path: Path) -> None:
    compressed, artifact, samples, _ = fashion
    (info,) = compressed.graph.inputs
    inner = TARGET.boundaries(artifact)[2]
    prefix = TARGET.prefix(artifact, inner, tmp_path / "prefix")
    assert TARGET.open(prefix, 1)({info.name: samples[0]})[inner].size > 10


def test_an_emulator_is_refused(fashion: Any) -> None:
    from types import SimpleNamespace

    profile: Any = SimpleNamespace(name="board")
    with pytest.raises(MissingProgram, match="needs no emulator"):
        TARGET.run(Trial({}, "c_host", Samples({}), "emulator"), profile)


def test_a_model_in_float_is_refused(fashion: Any, tmp_path: Path) -> None:
    compressed = fashion[0]
    with pytest.raises(UnsupportedOperator, match="computes in float"):
        TARGET.export(Compressed(compressed.graph, "fp32"), tmp_path)
