"""Exported ONNX files: what ONNX Runtime fuses, and that the integers are the QuantSpec's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantizable import Net, encoder, mobile, motion, normal

from leanedge.compress.quantize import quantize
from leanedge.compress.types import Compressed, QuantSpec
from leanedge.errors import OutputError, UnsupportedOperator, UsageError, ValidationFailed
from leanedge.export.onnx_check import check_onnx, integer_outputs, sqnr_db
from leanedge.export.onnx_file import export_onnx, onnx_model
from leanedge.export.onnx_prefix import boundaries, write_prefix
from leanedge.export.onnx_qdq import clamp_implied
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.model import Graph
from leanedge.graph.operators import find_operators
from leanedge.graph.run import float_runner
from leanedge.target import load_target

INTEGER_NODES = {
    "QLinearConv",
    "QGemm",
    "QLinearAdd",
    "QLinearMul",
    "QLinearConcat",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
}


def session(data: bytes | Path, optimised: Path | None = None, literal: bool = False) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if literal:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return ort.InferenceSession(str(data) if isinstance(data, Path) else data, options)


def fused(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Node types of the graph as ONNX Runtime will run it."""
    session(model.SerializeToString(), folder / "optimised.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def run(graph: Graph, made: ort.InferenceSession, row: dict[str, Any]) -> dict[str, Any]:
    names = [info.name for info in graph.outputs]
    return dict(zip(names, made.run(names, row), strict=True))


def w8a8(graph: Graph, scheme: Any = "w8a8", **options: Any) -> Compressed:
    return Compressed(graph, scheme, quant=quantize(graph, normal(graph), scheme, "onnxruntime", **options))


def two(net: Net, channels: int = 8) -> tuple[str, str]:
    """Two convolutions of one input: integers on both."""
    x = net.input("x", (1, 3, 8, 8))
    return net.conv(x, (3, channels)), net.conv(x, (3, channels))


def _slice(net: Net, a: str) -> str:
    starts, ends, axes = (net.constant(np.int64([v])) for v in (1, 7, 2))
    return net.node("Slice", a, starts, ends, axes)


def _pad(net: Net, a: str) -> str:
    return net.node("Pad", a, net.constant(np.int64([0, 0, 1, 1, 0, 0, 1, 1])))


def _resize(net: Net, a: str) -> str:
    scales = net.constant(np.float32([1, 1, 2, 2]))
    return net.node("Resize", a, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric")


BETWEEN: dict[str, tuple[Any, dict[str, int], int]] = {
    # name: (what lies between the convolutions, the nodes it must become, channels behind it)
    "add": (lambda n, a, b: n.node("Add", a, b), {"QLinearAdd": 1}, 8),
    "add_relu": (lambda n, a, b: n.node("Relu", n.node("Add", a, b)), {"QLinearAdd": 1}, 8),
    "mul": (lambda n, a, b: n.node("Mul", a, b), {"QLinearMul": 1}, 8),
    "add_scalar": (
        lambda n, a, b: n.node("Add", n.node("Mul", a, b), n.constant(np.float32(1.5))),
        {"QLinearAdd": 1},
        8,
    ),
    "swish": (lambda n, a, b: n.node("Mul", a, n.node("Sigmoid", a)), {"QLinearSigmoid": 1, "QLinearMul": 1}, 8),
    "leaky_relu": (lambda n, a, b: n.node("LeakyRelu", a, alpha=0.1), {"QLinearLeakyRelu": 1}, 8),
    "concat": (lambda n, a, b: n.node("Concat", a, b, axis=1), {"QLinearConcat": 1}, 16),
    "average": (
        lambda n, a, b: n.node("AveragePool", a, kernel_shape=[2, 2], strides=[2, 2]),
        {"QLinearAveragePool": 1},
        8,
    ),
    "maximum": (lambda n, a, b: n.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), {}, 8),
    "relu_of_two_readers": (lambda n, a, b: n.node("Add", n.node("Relu", a), a), {"QLinearAdd": 1, "Clip": 1}, 8),
    "squeeze_excite": (
        lambda n, a, b: n.node("Mul", a, n.node("Sigmoid", n.node("ReduceMean", a, axes=[2, 3]))),
        {"QLinearGlobalAveragePool": 1, "QLinearSigmoid": 1, "QLinearMul": 1},
        8,
    ),
    "transpose": (lambda n, a, b: n.node("Transpose", a, perm=[0, 1, 3, 2]), {}, 8),
    "slice": (lambda n, a, b: _slice(n, a), {"Slice": 1}, 8),
    "pad": (lambda n, a, b: _pad(n, a), {}, 8),
    "resize": (lambda n, a, b: _resize(n, a), {"Resize": 1}, 8),
    "clip": (lambda n, a, b: n.node("Clip", a, n.constant(np.float32(-0.3)), n.constant(np.float32(0.4))), {}, 8),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_each_kind_becomes_integer_kernels(name: str, tmp_path: Path) -> None:
    between, wanted, channels = BETWEEN[name]
    net = Net()
    a, b = two(net)
    graph = net.graph(net.conv(between(net, a, b), (channels, 5)))
    compressed = w8a8(graph)
    model = onnx_model(compressed)
    found = fused(model, tmp_path)
    assert not compressed.quant.float_operators  # type: ignore[union-attr]
    assert found["QuantizeLinear"] == 1  # the input
    assert found["DequantizeLinear"] == 1  # the output
    assert found["Conv"] == 0
    assert {kind: count for kind, count in found.items() if kind in wanted} == wanted
    others = set(found) - INTEGER_NODES - set(wanted)
    assert others <= {"QuantizeLinear", "DequantizeLinear", "Transpose", "NhwcMaxPool", "Reshape"}
    # The kernels compute what the file says, read literally: one step of the output at most.
    step = float(compressed.quant.activations[graph.outputs[0].name].scale)  # type: ignore[union-attr]
    literal, real = session(model.SerializeToString(), literal=True), session(model.SerializeToString())
    for row in list(normal(graph, 6, seed=3)):
        want, got, exact = run(graph, literal, row), run(graph, real, row), float_runner(graph)(row)
        for key in want:
            assert np.abs(want[key] - got[key]).max() <= 1.001 * step
            assert sqnr_db(exact[key], got[key]) > 20


def integer_conv(compressed: Compressed, row: dict[str, Any]) -> np.ndarray[Any, Any]:
    """One 1x1 convolution with ReLU by numpy in exact integers, requantized in float32 as ONNX Runtime does."""
    graph, spec = compressed.graph, compressed.quant
    assert spec is not None
    (operator,) = find_operators(graph)
    before, after = spec.activations[operator.inputs[0]], spec.activations[operator.output]
    weight, bias = spec.constants[str(operator.weight)], spec.constants[str(operator.bias)]
    x = before.quantize(row[operator.inputs[0]]).astype(np.int64) - before.zero_point
    total = np.einsum("oi,nihw->nohw", weight.integers[:, :, 0, 0].astype(np.int64), x)
    total += bias.integers.astype(np.int64).reshape(1, -1, 1, 1)
    factor = (bias.quant.scale / np.float32(after.scale)).reshape(1, -1, 1, 1)
    integers = np.clip(np.rint(total.astype(np.float32) * factor) + int(after.zero_point), -128, 127)
    return after.dequantize(integers.astype(np.int8))


def test_a_convolution_is_bit_equal_to_integer_arithmetic() -> None:
    net = Net()
    x = net.conv(net.input("x", (1, 5, 9, 9)), (5, 12), 1, spread=1.0)
    graph = net.graph(net.node("Relu", x))
    compressed = w8a8(graph)
    real = session(onnx_model(compressed).SerializeToString())
    name = graph.outputs[0].name
    different = total = 0
    for row in list(normal(graph, 20, seed=4)):
        got, want = run(graph, real, row)[name], integer_conv(compressed, row)
        step = float(compressed.quant.activations[name].scale)  # type: ignore[union-attr]
        assert np.abs(got - want).max() <= 1.001 * step
        different += int((np.abs(got - want) > step / 2).sum())
        total += got.size
    assert different <= total * 1e-4  # the factor's last bit, at exact halves


@pytest.mark.parametrize("make", [mobile, motion])
def test_whole_nets_run_in_integer_kernels_only(make: Any, tmp_path: Path) -> None:
    graph = make()
    compressed = w8a8(graph)
    found = fused(onnx_model(compressed), tmp_path)
    assert found["QLinearConv"] == sum(o.kind == "conv" for o in find_operators(graph))
    assert found["QGemm"] == 1
    assert found["DequantizeLinear"] == 0  # QGemm hands out float
    assert set(found) <= INTEGER_NODES | {"QuantizeLinear", "Transpose", "NhwcMaxPool", "MaxPool", "Reshape", "Squeeze"}
    assert integer_outputs(compressed) == (graph.outputs[0].name,)


def test_linear_layers_of_rank_three_are_fused(tmp_path: Path) -> None:
    graph = encoder()
    linear = sum(o.kind == "linear" for o in find_operators(graph))
    found = fused(onnx_model(w8a8(graph)), tmp_path)
    assert found["QGemm"] == linear
    assert found["Gemm"] == 0
    assert found["MatMul"] + found["FusedMatMul"] == 2  # the products of two activations
    assert integer_outputs(w8a8(graph)) == ()


def test_the_file_holds_the_integers_of_the_spec() -> None:
    compressed = w8a8(mobile())
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx_model(compressed).graph.initializer}
    assert compressed.quant is not None
    for name, constant in compressed.quant.constants.items():
        assert np.array_equal(stored[f"{name}:q"], constant.integers)
        assert stored[f"{name}:q"].dtype == constant.integers.dtype
        assert name not in stored
    for name, quant in compressed.quant.activations.items():
        assert stored[f"{name}:scale"] == quant.scale
        assert stored[f"{name}:zero"].dtype == np.uint8
        assert int(stored[f"{name}:zero"]) == int(quant.zero_point) + 128


def test_dynamic_is_fused_and_near(tmp_path: Path) -> None:
    graph = encoder()
    compressed = w8a8(graph, "w8a8_dynamic")
    model = onnx_model(compressed)
    found = fused(model, tmp_path)
    linear = sum(o.kind == "linear" for o in find_operators(graph))
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == linear
    real = session(model.SerializeToString())
    for row in list(normal(graph, 10, seed=5)):
        for key, want in float_runner(graph)(row).items():
            assert sqnr_db(want, run(graph, real, row)[key]) > 25
    assert len(model.SerializeToString()) < 0.5 * len(graph.bytes)


def test_dynamic_linear_by_numpy() -> None:
    """A Gemm with transB and ReLU, against the definition of DynamicQuantizeLinear."""
    net = Net()
    x = net.node("Gemm", net.input("x", (1, 24)), net.weight(7, 24), net.weight(7), transB=1)
    graph = net.graph(net.node("Relu", x))
    compressed = w8a8(graph, "w8a8_dynamic")
    (operator,) = find_operators(graph)
    weight = compressed.quant.constants[str(operator.weight)]  # type: ignore[union-attr]
    real = session(onnx_model(compressed).SerializeToString())
    for row in list(normal(graph, 10, seed=6)):
        values = row["x"]
        low, high = min(values.min(), 0), max(values.max(), 0)
        scale = np.float32((high - low) / 255)
        zero = np.clip(np.rint(-low / scale), 0, 255)
        integers = np.clip(np.rint(values / scale) + zero, 0, 255) - zero
        want = integers @ weight.integers.astype(float).T * scale * weight.quant.scale
        want = np.maximum(want + graph.constants[str(operator.bias)], 0)
        assert run(graph, real, row)[graph.outputs[0].name] == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_fp16_halves_the_constants_and_keeps_what_it_cannot_hold() -> None:
    graph = mobile()
    name = str(find_operators(graph)[1].weight)
    graph = graph.with_constants({name: graph.constants[name] * np.float32(1e6)})
    model = onnx_model(Compressed(graph, "fp16"))
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored[name] == TensorProto.FLOAT
    other = str(find_operators(graph)[2].weight)
    assert stored[f"{other}:fp16"] == TensorProto.FLOAT16
    assert other not in stored
    row = next(iter(normal(graph)))
    got, want = session(model.SerializeToString()).run(None, row)[0], float_runner(graph)(row)[graph.outputs[0].name]
    assert sqnr_db(want, got) > 50


def test_fp32_is_the_graph() -> None:
    graph = mobile()
    assert onnx_model(Compressed(graph, "fp32")).SerializeToString(deterministic=True) == graph.bytes


@pytest.mark.parametrize("scheme", ["fp32", "fp16", "w8a8", "w8a8_pt", "w8a8_dynamic"])
def test_equal_inputs_give_equal_bytes(scheme: Any, tmp_path: Path) -> None:
    files = []
    for number in range(2):
        graph = encoder()
        compressed = Compressed(graph, scheme) if scheme in ("fp32", "fp16") else w8a8(graph, scheme)
        export_onnx(compressed, tmp_path / f"{number}.onnx")
        files.append((tmp_path / f"{number}.onnx").read_bytes())
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.onnx", "1.onnx"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_mixed_runs_the_named_operator_in_float(number: int, tmp_path: Path) -> None:
    """ONNX Runtime would quantize the float weights of a layer between integers by itself."""
    graph = mobile()
    operator = find_operators(graph)[number]
    compressed = w8a8(graph, "mixed", float_operators=frozenset({operator.id}))
    found = fused(onnx_model(compressed), tmp_path)
    assert found["Conv"] + found["FusedConv"] == 1
    assert found["LeakyRelu"] == 0  # fused into it
    assert found["QLinearConv"] == 3


def test_a_transposed_convolution_keeps_its_float_weights(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", (1, 3, 8, 8)), (3, 8))
    x = net.node("ConvTranspose", x, net.weight(8, 6, 2, 2), strides=[2, 2])
    graph = net.graph(net.conv(x, (6, 2)))
    compressed = w8a8(graph)
    found = fused(onnx_model(compressed), tmp_path)
    assert found["ConvTranspose"] == 1
    assert found["QLinearConv"] == 2
    assert found["DequantizeLinear"] == 2  # its input and the output; none for its weights


def branches() -> Graph:
    """A convolution, an If on a mean, an LSTM; two inputs (one integer) and three outputs."""
    net = Net()
    x = net.node("Relu", net.conv(net.input("x", (1, 3, 10)), (3, 4), rank=1))
    ids = net.input("ids", (1, 10), TensorProto.INT64)
    test = net.node("Greater", net.node("ReduceMean", x, keepdims=0), net.constant(np.float32(0.3)))
    arms = []
    for number, kind in enumerate(("Neg", "Exp")):
        out = helper.make_tensor_value_info(f"arm{number}", TensorProto.FLOAT, None)
        node = helper.make_node(kind, [x], [f"arm{number}"], name=f"inner{number}")
        arms.append(helper.make_graph([node], f"g{number}", [], [out]))
    chosen = net.node("If", test, then_branch=arms[0], else_branch=arms[1])
    steps = net.node("Transpose", x, perm=[2, 0, 1])
    random = net.random
    weights = [net.constant(random.normal(0, 0.3, shape).astype(np.float32)) for shape in ((1, 20, 4), (1, 20, 5))]
    sequence = net.node("LSTM", steps, *weights, outputs=3, hidden_size=5)
    last = net.node(
        "Gemm", net.node("Squeeze", f"{sequence}_1", net.constant(np.int64([0]))), net.weight(3, 5), transB=1
    )
    table = net.node("Gather", net.weight(60, 6), ids)
    return net.graph(chosen, last, net.conv(net.node("Transpose", table, perm=[0, 2, 1]), (6, 2), rank=1))


@pytest.mark.parametrize("kind", ["linux_onnxruntime", "linux_openvino"])
@pytest.mark.parametrize("scheme", ["fp32", "fp16", "w8a8", "w8a8_dynamic"])
def test_control_flow_recurrence_and_several_inputs_build(scheme: Any, kind: str, tmp_path: Path) -> None:
    graph = branches()
    target = load_target(kind)
    compressed = Compressed(graph, scheme) if scheme in ("fp32", "fp16") else w8a8(graph, scheme)
    artifact = target.export(compressed, tmp_path / "out")
    opened = target.open(artifact, 1)
    row = next(iter(normal(graph, seed=7)))
    want, got = float_runner(graph)(row), opened(row)
    assert got.keys() == want.keys()
    for key in want:
        assert sqnr_db(want[key], got[key]) > 22


@pytest.mark.parametrize("kind", ["linux_onnxruntime", "linux_openvino"])
@pytest.mark.parametrize("make", [mobile, motion, encoder])
def test_targets_export_every_scheme(make: Any, kind: str, tmp_path: Path) -> None:
    target, graph = load_target(kind), make()
    least = {"fp32": 80, "fp16": 50, "w8a8": 25, "w8a8_pt": 20, "w8a8_dynamic": 25}
    for scheme, limit in least.items():
        made: Any = Compressed(graph, scheme) if scheme in ("fp32", "fp16") else w8a8(graph, scheme)  # type: ignore[arg-type]
        artifact = target.export(made, tmp_path / scheme)
        assert artifact.files == ("model.onnx",)
        assert artifact.runtime in target.runtimes
        opened = target.open(artifact, 1)
        rows = list(normal(graph, 8, seed=8))
        want = np.stack([float_runner(graph)(row)[graph.outputs[0].name] for row in rows])
        got = np.stack([opened(row)[graph.outputs[0].name] for row in rows])
        assert sqnr_db(want, got) > limit, scheme


def test_a_file_that_computes_something_else_is_not_emitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, graph = load_target("linux_onnxruntime"), mobile()
    compressed = w8a8(graph)
    good = target.open(target.export(compressed, tmp_path / "good"), 1)

    def scaled(sample: Any) -> dict[str, Any]:
        return {key: 1.5 * value for key, value in good(sample).items()}

    with pytest.raises(ValidationFailed, match="dB from the reference"):
        check_onnx(compressed, tmp_path / "good" / "model.onnx", scaled)
    with pytest.raises(ValidationFailed, match="not finite"):
        check_onnx(compressed, tmp_path / "good" / "model.onnx", lambda s: {k: v * np.nan for k, v in good(s).items()})
    with pytest.raises(ValidationFailed, match="has shape"):
        check_onnx(compressed, tmp_path / "good" / "model.onnx", lambda s: {k: v[0] for k, v in good(s).items()})
    with pytest.raises(ValidationFailed, match="is missing"):
        check_onnx(compressed, tmp_path / "good" / "model.onnx", lambda s: {})

    def spoil(made: Compressed, path: Path) -> None:
        path.write_bytes(b"not a model")

    monkeypatch.setitem(target.export.__globals__, "export_onnx", spoil)
    with pytest.raises(ValidationFailed, match="its runtime refuses it"):
        target.export(compressed, tmp_path / "bad")
    assert not list((tmp_path / "bad").iterdir())


def test_prefixes_end_at_the_named_tensor_and_agree(tmp_path: Path) -> None:
    target, graph = load_target("linux_onnxruntime"), mobile()
    artifact = target.export(w8a8(graph), tmp_path / "whole")
    names = target.boundaries(artifact)
    assert names[-1] == graph.outputs[0].name
    assert len(names) == len(set(names))
    assert sum(name.endswith(":q") for name in names) >= 6
    row = next(iter(normal(graph)))
    for name in names:
        part = target.prefix(artifact, name, tmp_path / "part")
        made = target.open(part, 1)(row)
        assert list(made) == [name]
    whole = target.open(artifact, 1)(row)
    assert np.array_equal(made[names[-1]], whole[names[-1]])
    with pytest.raises(UsageError, match="no tensor"):
        write_prefix(artifact.model_path, "nope", tmp_path / "x.onnx")
    assert boundaries(artifact.model_path) == names


def test_clamp_implied() -> None:
    graph = mobile()
    spec = quantize(graph, normal(graph), "w8a8", "onnxruntime")
    relu = next(o for o in find_operators(graph) if o.activation is not None)
    assert clamp_implied(spec.activations[relu.output], relu.activation)
    assert not clamp_implied(spec.activations[graph.inputs[0].name], relu.activation)


def test_a_clamp_that_saturation_does_not_imply_is_done_in_integers(tmp_path: Path) -> None:
    """TFLite's rules tie the inputs of a concatenation, so a ReLU's range may reach below 0."""
    net = Net()
    a, b = two(net)
    graph = net.graph(net.conv(net.node("Concat", net.node("Relu", a), b, axis=1), (16, 5)))
    made = quantize(graph, normal(graph), "w8a8", "tflite")
    compressed = Compressed(graph, "w8a8", quant=made)
    model = onnx_model(compressed)
    assert fused(model, tmp_path)["Clip"] == 1
    row = next(iter(normal(graph, seed=9)))
    got = session(model.SerializeToString()).run(None, row)[0]
    assert sqnr_db(float_runner(graph)(row)[graph.outputs[0].name], got) > 25


def test_errors(tmp_path: Path) -> None:
    graph = mobile()
    with pytest.raises(UsageError, match="needs its integers"):
        onnx_model(Compressed(graph, "w8a8"))
    with pytest.raises(OutputError, match="can't be written"):
        export_onnx(Compressed(graph, "fp32"), tmp_path / "missing" / "model.onnx")
    net = Net()
    x = net.conv(net.input("x", (1, 3, 8, 8)), (3, 4))
    old = net.graph(x, opset=17)
    proto = onnx.ModelProto()
    proto.CopyFrom(old.proto)
    proto.opset_import[0].version = 12
    import onnx_ir as ir

    older = Graph(ir.from_proto(proto))
    with pytest.raises(UnsupportedOperator, match="opset 12"):
        onnx_model(Compressed(older, "w8a8", quant=QuantSpec("w8a8", "onnxruntime")))


def test_external_shapes_of_a_canonical_model_do_not_matter() -> None:
    """A graph without inferred inner shapes is exported all the same."""
    graph = motion()
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.graph.value_info[:]
    other = canonicalise(proto, "net")
    assert onnx_model(w8a8(other)).SerializeToString() == onnx_model(w8a8(graph)).SerializeToString()
