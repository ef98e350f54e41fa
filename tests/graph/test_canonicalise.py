"""Canonical graphs compute what the model computed, and what can't be handled is refused by name."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from nets import assert_same_outputs, net
from onnx import TensorProto, helper, numpy_helper

from leanedge.errors import ModelError, UnsupportedOperator
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.operators import find_operators

if TYPE_CHECKING:
    from leanedge.graph.model import Graph


def positive(shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def kinds(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.nodes)


def ready(model: onnx.ModelProto, **shapes: tuple[int, ...]) -> Graph:
    """Canonicalised, and proved equal; the model itself is left as it was."""
    before = model.SerializeToString()
    graph = canonicalise(model, "test", shapes)
    assert model.SerializeToString() == before
    assert_same_outputs(model, graph.bytes)
    names = [str(node.name) for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert all(names)
    return graph


BATCH_NORM = {"g": positive(4, 1), "b": (4,), "m": (4,), "v": positive(4, 2)}


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23])
def test_conv_batch_norm_at_every_opset(opset: int) -> None:
    model = net(
        "(float[N,3,8,8] x) => (float[] y) { a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w)"
        " n = BatchNormalization(a, g, b, m, v)"
        " r = Relu(n) p = GlobalAveragePool(r) f = Flatten(p) d = Dropout(f) y = Gemm<transB=1>(d, w2, b2) }",
        opset,
        w=(4, 3, 3, 3),
        w2=(5, 4),
        b2=(5,),
        **BATCH_NORM,
    )
    graph = ready(model)
    assert kinds(graph) == {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Reshape": 1, "Gemm": 1}
    assert graph.opset == max(opset, 17)
    assert graph.inputs[0].shape == (1, 3, 8, 8)
    assert graph.outputs[0].shape == (1, 5)
    assert all(graph.shape(str(node.outputs[0].name)) is not None for node in graph.nodes)


@pytest.mark.parametrize(
    ("text", "w", "left"),
    [
        ("(float[1,3,9] x) => (float[] y) { a = Conv(x, w) y = BatchNormalization(a, g, b, m, v) }", (4, 3, 3), 1),
        (
            "(float[1,4,9] x) => (float[] y) { a = Conv<group=4>(x, w) y = BatchNormalization(a, g, b, m, v) }",
            (4, 1, 3),
            1,
        ),
        (
            "(float[1,4,9] x) => (float[] y) { a = Conv<group=2>(x, w) y = BatchNormalization(a, g, b, m, v) }",
            (4, 2, 3),
            1,
        ),
        (
            "(float[1,3,5,5] x) => (float[] y) { a = ConvTranspose(x, w) y = BatchNormalization(a, g, b, m, v) }",
            (3, 4, 2, 2),
            1,
        ),
        ("(float[1,3] x) => (float[] y) { a = Gemm(x, w) y = BatchNormalization(a, g, b, m, v) }", (3, 4), 1),
        (
            "(float[1,3] x) => (float[] y) { a = Gemm<transB=1>(x, w, b) y = BatchNormalization(a, g, b, m, v) }",
            (4, 3),
            1,
        ),
        ("(float[1,4,5] x) => (float[] y) { y = BatchNormalization<epsilon=0.1>(x, g, b, m, v) }", (1,), 2),
        ("(float[1,4] x) => (float[] y) { y = BatchNormalization(x, g, b, m, v) }", (1,), 2),
    ],
)
def test_batch_norm_disappears(text: str, w: tuple[int, ...], left: int) -> None:
    graph = ready(net(text, w=w, **BATCH_NORM))
    assert "BatchNormalization" not in kinds(graph)
    assert len(graph.nodes) == left


def test_batch_norm_of_a_shared_conv_output_stays_apart() -> None:
    graph = ready(
        net(
            "(float[1,3,5] x) => (float[] y, float[] z)"
            " { a = Conv(x, w) y = BatchNormalization(a, g, b, m, v) z = Relu(a) }",
            w=(4, 3, 1),
            **BATCH_NORM,
        )
    )
    assert kinds(graph) == {"Conv": 1, "Mul": 1, "Add": 1, "Relu": 1}


def test_batch_norm_of_a_conv_that_is_an_output() -> None:
    ready(
        net(
            "(float[1,3,5] x) => (float[] y, float[] a) { a = Conv(x, w) y = BatchNormalization(a, g, b, m, v) }",
            w=(4, 3, 1),
            **BATCH_NORM,
        )
    )


def test_a_shared_weight_is_given_to_each_use() -> None:
    graph = ready(
        net("(float[1,4,6,6] x) => (float[] y) { a = Conv(x, w) b = Relu(a) y = Conv(b, w) }", w=(4, 4, 1, 1))
    )
    used = [str(node.inputs[1].name) for node in graph.nodes if node.op_type == "Conv" and node.inputs[1] is not None]
    assert len(set(used)) == 2


def test_identity_and_constants_disappear() -> None:
    graph = ready(
        net(
            "(float[1,4] x) => (float[] y) { i = Identity(x) c = Constant<value = float[1] {3.0}>() d = Mul(c, c)"
            " s = Shape(x) z = ConstantOfShape(s) j = Add(i, d) k = Add(j, z) y = Identity(k) }"
        )
    )
    assert set(kinds(graph)) <= {"Add"}


def test_integer_and_several_inputs_and_outputs() -> None:
    graph = ready(
        net(
            "(int64[N,5] tokens, float[N,3] x) => (float[] y, float[] z)"
            " { e = Gather(w, tokens) p = ReduceMean<axes=[1],keepdims=0>(e)"
            " y = MatMul(p, w2) z = Relu(x) }",
            w=(10, 6),
            w2=(6, 2),
        )
    )
    assert [info.shape for info in graph.inputs] == [(1, 5), (1, 3)]
    assert [info.shape for info in graph.outputs] == [(1, 2), (1, 3)]


def test_if_subgraph_that_reads_outer_values() -> None:
    scalar = helper.make_tensor_value_info
    then = helper.make_graph([helper.make_node("Relu", ["h"], ["t"])], "then", [], [scalar("t", 1, None)])
    other = helper.make_graph([helper.make_node("Mul", ["h", "k"], ["e"])], "else", [], [scalar("e", 1, None)])
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Gemm", ["x", "w"], ["h"]),
                helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
            ],
            "net",
            [scalar("x", 1, ["N", 3]), scalar("c", TensorProto.BOOL, [])],
            [scalar("y", 1, None)],
            [
                numpy_helper.from_array(np.eye(3, dtype=np.float32), "w"),
                numpy_helper.from_array(np.float32([2.0]), "k"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    graph = ready(model)
    branch = next(o for o in find_operators(graph) if "If" in {graph.node_by_name[n].op_type for n in o.nodes})
    assert branch.kind == "other"
    assert set(branch.inputs) == {"c", "h"}


def test_lstm_and_loop_carried_state_stay() -> None:
    graph = ready(
        net(
            "(float[1,N,4] x, float[1,N,3] h0, float[1,N,3] c0) => (float[] y, float[] h, float[] c)"
            " { y, h, c = LSTM<hidden_size=3>(x, w, r, , , h0, c0) }",
            w=(1, 12, 4),
            r=(1, 12, 3),
        )
    )
    assert kinds(graph) == {"LSTM": 1}


def test_layers_written_as_local_functions_are_inlined() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    net (float[1,4] x) => (float[] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""
    graph = ready(onnx.parser.parse_model(text))
    assert kinds(graph) == {"Add": 1}


def test_dynamic_batch_that_reshape_reads() -> None:
    graph = ready(
        net(
            "(float[N,2,4,4] x) => (float[] y) { s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, ax)"
            " k = Concat<axis=0>(u, rest)"
            " f = Reshape(x, k) y = MatMul(f, w) }",
            zero=np.array(0, np.int64),
            ax=[0],
            rest=[-1],
            w=(32, 3),
        )
    )
    assert kinds(graph) == {"Reshape": 1, "MatMul": 1}


def test_dynamic_axis_is_refused_by_name_and_fixed_by_a_shape() -> None:
    model = net("(float[N,3,H,8] x) => (float[] y) { y = Conv(x, w) }", w=(4, 3, 3, 3))
    with pytest.raises(ModelError, match=r"input x has a dynamic axis 2 \(H\)"):
        canonicalise(model, "net.onnx")
    assert canonicalise(model, "net.onnx", {"x": (3, 6, 8)}).inputs[0].shape == (1, 3, 6, 8)
    assert canonicalise(model, "net.onnx", {"x": (1, 3, 6, 8)}).outputs[0].shape == (1, 4, 4, 6)
    with pytest.raises(ModelError, match="did you mean 'x'"):
        canonicalise(model, "net.onnx", {"xx": (1, 3, 6, 8)})
    with pytest.raises(ModelError, match="axis 3, the model 8"):
        canonicalise(model, "net.onnx", {"x": (1, 3, 6, 9)})
    with pytest.raises(ModelError, match="has 2 axes"):
        canonicalise(model, "net.onnx", {"x": (6, 8)})


def test_nan_weights_are_refused_by_name() -> None:
    w = np.ones((4, 3, 1), np.float32)
    w[1, 1] = np.nan
    model = net("(float[1,3,8] x) => (float[] y) { layer = Conv(x, w) y = Relu(layer) }", w=w)
    with pytest.raises(ModelError, match=r"weight w .*1 NaN values of 12"):
        canonicalise(model, "net.onnx")


def test_infinite_weights_are_refused_and_infinite_bounds_are_not() -> None:
    w = np.ones((3, 4), np.float32)
    w[0, 0] = np.inf
    with pytest.raises(ModelError, match=r"weight w .*infinite"):
        canonicalise(net("(float[1,3] x) => (float[] y) { y = MatMul(x, w) }", w=w), "net.onnx")
    ready(net("(float[1,3] x) => (float[] y) { y = Clip(x, lo, hi) }", lo=np.float32(0), hi=np.float32(np.inf)))
    ready(net("(float[1,3] x) => (float[] y) { y = Add(x, m) }", m=np.float32([0, -np.inf, 0])))


def test_an_operator_that_nobody_has_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperator, match="Frobnicate"):
        canonicalise(net("(float[1,3] x) => (float[] y) { y = mine.Frobnicate(x) }", domain="mine"), "net.onnx")


def test_contradicting_shapes_are_refused() -> None:
    with pytest.raises(ModelError, match="do not fit together"):
        canonicalise(net("(float[1,3] x) => (float[] y) { y = MatMul(x, w) }", w=(4, 2)), "net.onnx")


def test_float16_and_double_models() -> None:
    ready(net("(double[1,3] x) => (double[] y) { y = MatMul(x, w) }", w=np.eye(3)))


def test_equal_models_give_equal_bytes() -> None:
    text = "(float[N,3,8,8] x) => (float[] y) { a = Conv(x, w) y = BatchNormalization(a, g, b, m, v) }"
    assert canonicalise(net(text, w=(4, 3, 3, 3), **BATCH_NORM), "a").sha256 == (
        canonicalise(net(text, w=(4, 3, 3, 3), **BATCH_NORM), "b").sha256
    )
