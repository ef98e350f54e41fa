"""A classifier with one place that int8 breaks: `expand` adds a large value that `contract` takes away again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, CHANNELS = 4, 24
LARGE = 100.0


def classifier(bias: np.ndarray) -> onnx.ModelProto:
    """Two convolutions, expand, contract, mean and a linear layer, on (1, 3, 8, 8)."""
    rng = np.random.default_rng(4)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) * np.sqrt(2 / int(np.prod(shape[1:])))

    small, large = weight(CHANNELS, CHANNELS), LARGE * weight(CHANNELS, CHANNELS)
    unit = np.eye(CHANNELS)
    constants = {
        "w1": weight(CHANNELS, 3, 3, 3),
        "w2": weight(CHANNELS, CHANNELS, 3, 3),
        "w_expand": np.concatenate([small + large, large])[..., None, None],  # (x small + x large, x large)
        "w_contract": np.concatenate([unit, -unit], axis=1)[..., None, None],  # their difference: x small
        "w_head": weight(CLASSES, CHANNELS),
        "b_head": bias,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="first_relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="second_relu"),
        helper.make_node("Conv", ["r2", "w_expand"], ["both"], name="expand"),
        helper.make_node("Conv", ["both", "w_contract"], ["left"], name="contract"),
        helper.make_node("GlobalAveragePool", ["left"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w_head", "b_head"], ["y"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "fragile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(folder: Path, count: int = 600) -> tuple[Path, Path]:
    """Writes model.onnx and samples.npz, labelled by the model itself, and gives their paths."""
    rng = np.random.default_rng(8)
    images = (2 * rng.standard_normal((count, 3, 1, 1)) + rng.standard_normal((count, 3, 8, 8))).astype(np.float32)
    middle = np.median(_outputs(classifier(np.zeros(CLASSES)), images), axis=0)
    model = classifier(-middle)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "samples.npz", x=images, y=_outputs(model, images).argmax(1).astype(np.int64))
    return folder / "model.onnx", folder / "samples.npz"


def _outputs(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": images})[0])
