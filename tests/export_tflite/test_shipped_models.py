"""The example and the shared model, whole: no transposes, integers all the way, nothing of the accuracy lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_micro
from lite import run_lite

from leanedge.compress.quantize.quantize import quantize
from leanedge.data.samples import Samples
from leanedge.export.tflite_file import tflite_bytes
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.run import float_runner
from leanedge.load.onnx_file import load_onnx
from leanedge.program.fill import fill
from leanedge.program.memory import lifetimes, peak_bytes
from leanedge.program.simulate import simulate
from leanedge.program.structure import structure
from leanedge.program.types import Program

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
MODELS = {
    "watch": (ROOT / "examples/watch/model.onnx", ROOT / "examples/watch/samples.npz"),
    "spoken digits": (SHARED / "models/spoken_digits_fp32.onnx", SHARED / "data/spoken_digits.npz"),
}
FEW = 200


def run_tflm(program: Program, sample: Any) -> Any:
    permutation = program.inputs[0].permutation
    interpreter = tflite_micro.runtime.Interpreter.from_bytes(tflite_bytes(program), arena_size=1 << 21)
    interpreter.set_input(np.ascontiguousarray(sample.transpose(permutation)), 0)
    interpreter.invoke()
    return interpreter.get_output(0)


@pytest.mark.parametrize("name", MODELS)
def test_int8_keeps_the_accuracy_and_equals_the_reference(name: str) -> None:
    model, data = MODELS[name]
    if not model.is_file() and name != "watch":
        pytest.skip("the shared model is not here; the watch example is its twin")
    graph = canonicalise(load_onnx(model), str(model))
    (info,) = graph.inputs
    with np.load(data) as arrays:
        samples: Any = arrays["x"].astype(np.float32).reshape(-1, *info.shape)
        labels, test = arrays["y"], arrays["test"].astype(bool)
    known = samples[~test]
    spec = quantize(graph, Samples({info.name: known[:: len(known) // 100]}), "w8a8", "tflite")
    program = fill(structure(graph), spec)
    kinds = [operator.kind for operator in program.operators]
    assert "transpose" not in kinds
    assert kinds[0] == "quantize"
    assert kinds[-1] == "dequantize"
    assert all(program.computes_in_integers(operator) for operator in program.operators[1:-1])
    assert program.arena_bytes == peak_bytes(lifetimes(program))
    step = max(1, int(test.sum()) // FEW)
    chosen = [{info.name: sample} for sample in samples[test][::step]]
    truth = labels[test][::step]
    (output,) = (info.name for info in graph.outputs)
    run = float_runner(graph)
    ours = np.array([simulate(program, sample, "litert")[output] for sample in chosen[:10]])
    theirs = np.array([run_lite(program, sample, reference=True)[output] for sample in chosen[:10]])
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(simulate(program, chosen[0], "tflm")[output], run_tflm(program, chosen[0][info.name]))
    before = np.mean([run(sample)[output].argmax() == label for sample, label in zip(chosen, truth, strict=True)])
    after = np.mean([simulate(program, s)[output].argmax() == label for s, label in zip(chosen, truth, strict=True)])
    assert after >= before - 0.02
