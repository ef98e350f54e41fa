"""The file itself: bytes, names, versions, fp16 storage, whole or not at all, and its shortened form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tflite
from kind_models import Net, graph_of, samples_of, spec_of
from lite import run_lite

from leanedge.errors import OutputError, UsageError
from leanedge.export.onnx_check import sqnr_db
from leanedge.export.tflite_file import export_tflite, tflite_bytes
from leanedge.export.tflite_prefix import boundaries, write_prefix
from leanedge.graph.model import Graph
from leanedge.graph.run import float_runner
from leanedge.program.fill import fill
from leanedge.program.structure import structure

VERSIONS_OF_2_14 = {
    "ADD": 5,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 4,
    "CONV_2D": 8,
    "DEPTHWISE_CONV_2D": 7,
    "DEQUANTIZE": 6,
    "FULLY_CONNECTED": 12,
    "HARD_SWISH": 1,
    "LOGISTIC": 3,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MUL": 7,
    "PAD": 4,
    "QUANTIZE": 3,
    "RESHAPE": 1,
    "SOFTMAX": 3,
}
"""Newest version of each operator that TensorFlow Lite 2.14 registers (core/kernels/register.cc)."""


def small_net() -> Graph:
    net = Net()
    x = net.node("Relu", net.conv(net.input((1, 3, 8, 8), "image"), 3, 6, strides=[2, 2]))
    x = net.node("Add", net.node("HardSwish", net.conv(x, 6, 6, group=6)), x)
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.graph(net.node("Softmax", net.linear(x, 6, 4), axis=-1))


def read(data: bytes) -> tflite.Model:
    return tflite.Model.GetRootAs(data, 0)


def test_equal_programs_give_equal_bytes() -> None:
    graph = small_net()
    spec = spec_of(graph)
    assert tflite_bytes(fill(structure(graph), spec)) == tflite_bytes(fill(structure(graph), spec))
    assert tflite_bytes(fill(structure(graph), None)) == tflite_bytes(fill(structure(small_net()), None))


def test_ports_have_the_graphs_names_in_tensors_and_signature() -> None:
    graph = small_net()
    for spec in (None, spec_of(graph)):
        model = read(tflite_bytes(fill(structure(graph), spec)))
        subgraph, signature = model.Subgraphs(0), model.SignatureDefs(0)
        assert signature.SignatureKey() == b"serving_default"
        output = graph.outputs[0].name.encode()
        assert signature.Inputs(0).Name() == subgraph.Tensors(subgraph.Inputs(0)).Name() == b"image"
        assert signature.Outputs(0).Name() == subgraph.Tensors(subgraph.Outputs(0)).Name() == output
        assert subgraph.Tensors(subgraph.Inputs(0)).Type() == tflite.TensorType.FLOAT32
        assert subgraph.Tensors(subgraph.Outputs(0)).Type() == tflite.TensorType.FLOAT32
        names = [subgraph.Tensors(index).Name() for index in range(subgraph.TensorsLength())]
        assert len(set(names) - {b"shape", b"pads", b"axes"}) >= len(names) - 3


def test_buffers_are_aligned_and_the_first_is_empty() -> None:
    data = tflite_bytes(fill(structure(small_net()), None))
    model = read(data)
    assert model.Buffers(0).DataLength() == 0
    for index in range(1, model.BuffersLength()):
        table = model.Buffers(index)._tab
        assert table.Vector(table.Offset(4)) % 16 == 0


@pytest.mark.parametrize("scheme", ["float", "int8"])
def test_operator_versions_are_in_reach_of_tflite_runtime(scheme: str) -> None:
    graph = small_net()
    model = read(tflite_bytes(fill(structure(graph), spec_of(graph) if scheme == "int8" else None)))
    names = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        name = names[code.BuiltinCode()]
        assert 1 <= code.Version() <= VERSIONS_OF_2_14[name]
        assert code.DeprecatedBuiltinCode() == min(code.BuiltinCode(), 127)


def test_convolutions_have_a_scale_for_each_channel_and_linear_layers_one() -> None:
    graph = small_net()
    program = fill(structure(graph), spec_of(graph))
    for operator in program.operators:
        if operator.kind in ("conv_2d", "depthwise_conv_2d"):
            weights, bias = (program.tensors[name] for name in operator.inputs[1:])
            assert weights.quant is not None
            assert bias.quant is not None
            assert weights.quant.axis == (0 if operator.kind == "conv_2d" else 3)
            assert weights.quant.scale.shape == bias.quant.scale.shape == (bias.shape[0],)
        if operator.kind == "fully_connected":
            assert program.tensors[operator.inputs[1]].quant.scale.shape == ()  # type: ignore[union-attr]


def test_fp16_halves_the_weights_and_hardly_changes_the_result() -> None:
    graph = small_net()
    program = fill(structure(graph), None)
    full, half = tflite_bytes(program), tflite_bytes(program, fp16=True)
    weights = sum(
        program.tensors[operator.inputs[1]].nbytes
        for operator in program.operators
        if operator.kind in ("conv_2d", "depthwise_conv_2d", "fully_connected")
    )
    types = [read(half).Subgraphs(0).Tensors(i).Type() for i in range(read(half).Subgraphs(0).TensorsLength())]
    assert types.count(tflite.TensorType.FLOAT16) == 3
    stored = [
        sum(model.Buffers(i).DataLength() for i in range(model.BuffersLength())) for model in map(read, (full, half))
    ]
    assert stored[0] - stored[1] == weights // 2
    sample = next(iter(samples_of(graph, 1)))
    expected = float_runner(graph)(sample)[graph.outputs[0].name]
    found = run_lite(program, sample, fp16=True)[graph.outputs[0].name]
    assert sqnr_db(expected, found) > 50
    assert not np.array_equal(expected, found)


def test_a_weight_too_large_for_fp16_stays_float32() -> None:
    net = Net()
    graph = net.graph(net.node("MatMul", net.input((1, 2)), net.constant([[1e6, 0], [0, 1]])))
    program = fill(structure(graph), None)
    assert tflite_bytes(program, fp16=True) == tflite_bytes(program)


def test_equal_constants_are_stored_once() -> None:
    net = Net()
    x = net.input((1, 4, 5, 5))
    for _ in range(3):
        x = net.node("Conv", x, net.constant(np.ones((4, 4, 3, 3))), pads=[1, 1, 1, 1])
    model = read(tflite_bytes(fill(structure(net.graph(x)), None)))
    assert model.BuffersLength() == 3  # the empty one, the weights, the zero bias


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    program = fill(structure(small_net()), None)
    (tmp_path / "model.tflite").mkdir()
    with pytest.raises(OutputError, match="can't be written"):
        export_tflite(program, tmp_path / "model.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]
    export_tflite(program, tmp_path / "new" / "model.tflite")
    assert (tmp_path / "new" / "model.tflite").read_bytes() == tflite_bytes(program)


def test_a_file_can_be_ended_at_each_inner_tensor(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    from leanedge.program.simulate import simulate_tensors

    graph = graph_of("linear head")
    program = fill(structure(graph), spec_of(graph))
    path, short = tmp_path / "model.tflite", tmp_path / "short.tflite"
    export_tflite(program, path)
    sample = next(iter(samples_of(graph, 1)))["x"].transpose(0, 2, 3, 1)
    ours = simulate_tensors(program, {"x": sample})
    names = boundaries(path)
    assert names == tuple(operator.output for operator in program.operators)
    for name in names:
        write_prefix(path, name, short)
        interpreter = Interpreter(model_path=str(short), num_threads=1)
        interpreter.allocate_tensors()
        (details,) = interpreter.get_output_details()
        assert details["name"] == name
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
        interpreter.invoke()
        apart = np.abs(interpreter.get_tensor(details["index"]).astype(np.float32) - ours[name])
        assert float(apart.max()) <= 1.0
    with pytest.raises(UsageError, match="no tensor 'nothing'"):
        write_prefix(path, "nothing", short)
