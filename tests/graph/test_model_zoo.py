"""Whole published architectures, from the `onnx` package: they ship without weights, and get random ones here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import assert_cut_is_exact, assert_same_outputs
from onnx import numpy_helper

from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.groups import find_groups
from leanedge.graph.operators import find_operators
from leanedge.load.onnx_file import check_model

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def with_random_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its ConstantOfShape weights drawn at random and its last softmax taken off."""
    random = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    reader = {name: (node.op_type, at) for node in model.graph.node for at, name in enumerate(node.input)}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            shape, (op, position) = shapes[node.input[0]], reader[node.output[0]]
            if len(shape) > 1:
                array = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
            elif op == "BatchNormalization" and position in (1, 4):
                array = random.uniform(0.5, 1.5, shape)
            else:
                array = random.standard_normal(shape) * 0.1
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
        else:
            nodes.append(node)
    if nodes[-1].op_type == "Softmax":
        model.graph.output[0].name = nodes.pop().input[0]
        model.graph.output[0].type.tensor_type.ClearField("shape")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = 8
    return onnx.version_converter.convert_version(model, 11)


@pytest.mark.parametrize(
    ("name", "convs"),
    [("squeezenet", 26), ("shufflenet", 49), ("inception_v1", 57), ("inception_v2", 69), ("densenet121", 121)],
)
def test_published_architecture(name: str, convs: int) -> None:
    model = with_random_weights(onnx.load(LIGHT / f"light_{name}.onnx"))
    check_model(model, name)
    graph = canonicalise(model, name)
    assert_same_outputs(model, graph.bytes, tolerance=1e-4 if name == "densenet121" else 1e-5, seeds=1)
    operators = find_operators(graph)
    assert sum(operator.kind == "conv" for operator in operators) == convs
    assert {node.op_type for node in graph.nodes} & {"BatchNormalization", "Dropout", "Sum", "ConstantOfShape"} == set()
    assert {graph.node_by_name[o.id].op_type for o in operators if o.kind == "other"} <= {"LRN"}
    assert all(graph.shape(str(value.name)) for node in graph.nodes for value in node.outputs)


@pytest.mark.parametrize(("name", "groups"), [("squeezenet", 25), ("shufflenet", 0), ("inception_v1", 55)])
def test_published_architecture_is_cut(name: str, groups: int) -> None:
    graph = canonicalise(with_random_weights(onnx.load(LIGHT / f"light_{name}.onnx")), name)
    assert len(find_groups(graph)) == groups
    assert_cut_is_exact(graph)
