"""A small convolutional classifier with made-up weights, and samples labelled by itself: its own accuracy is 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5


def classifier(seed: int = 0, channels: int = 16) -> onnx.ModelProto:
    """Conv, Relu, depthwise Conv, Relu, Conv, Relu, mean, Gemm on (1, 1, 12, 10)."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> TensorProto:
        fan_in = int(np.prod(shape[1:])) or 1
        return numpy_helper.from_array((rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32), name)

    c = channels
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="first_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="depthwise", group=c, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="depthwise_relu"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], name="pointwise", strides=[2, 2]),
        helper.make_node("Relu", ["c3"], ["r3"], name="pointwise_relu"),
        helper.make_node("GlobalAveragePool", ["r3"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["logits"], name="head", transB=1),
    ]
    constants = [
        weight("w1", c, 1, 3, 3),
        weight("b1", c),
        weight("w2", c, 1, 3, 3),
        weight("b2", c),
        weight("w3", 2 * c, c, 1, 1),
        weight("b3", 2 * c),
        weight("w4", CLASSES, 2 * c),
        weight("b4", CLASSES),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 12, 10])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(model: onnx.ModelProto, count: int = 400, seed: int = 1) -> dict[str, np.ndarray]:
    """Smooth random images, and the model's own classes as labels."""
    import onnxruntime

    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 1, 4, 5))
    images = np.repeat(np.repeat(coarse, 3, axis=2), 2, axis=3) + 0.3 * rng.standard_normal((count, 1, 12, 10))
    images = images.astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": images})[0]
    return {"image": images, "y": logits.argmax(1).astype(np.int64)}


def write(folder: Path, count: int = 400) -> tuple[Path, Path]:
    """Writes model.onnx and samples.npz and gives their paths."""
    model = classifier()
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "samples.npz", **samples(model, count))
    return folder / "model.onnx", folder / "samples.npz"
