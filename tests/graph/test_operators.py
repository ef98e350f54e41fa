"""Operators: every node in exactly one, with what was fused into it."""

from __future__ import annotations

import math

import numpy as np
from nets import net

from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.operators import Operator, find_operators

SIX = {"zero": np.float32(0), "six": np.float32(6)}


def operators(text: str, **constants: object) -> tuple[Operator, ...]:
    graph = canonicalise(net(text, **constants), "test")  # type: ignore[arg-type]
    found = find_operators(graph)
    assert sorted(name for o in found for name in o.nodes) == sorted(str(n.name) for n in graph.nodes)
    assert len({o.id for o in found}) == len(found)
    made = {info.name for info in graph.inputs}
    for operator in found:  # each reads only what was made before it
        assert set(operator.inputs) <= made
        made.update(operator.outputs)
    assert graph.output_names <= made
    return found


def test_activation_is_fused_into_the_layer_that_alone_feeds_it() -> None:
    conv, add = operators(
        "(float[1,3,5,5] x) => (float[] y) { a = Conv(x, w, b) r = Relu(a) s = Add(r, x) y = Clip(s, zero, six) }",
        w=(3, 3, 1, 1),
        b=(3,),
        **SIX,
    )
    assert (conv.kind, conv.activation, conv.channel_axis, len(conv.nodes)) == ("conv", (0.0, math.inf), 0, 2)
    assert (add.kind, add.activation, add.inputs) == ("add", (0.0, 6.0), ("r", "x"))
    assert conv.weight == "w"
    assert conv.bias == "b"


def test_activation_of_a_value_that_others_read_is_not_fused() -> None:
    found = operators("(float[1,3,5,5] x) => (float[] y, float[] a) { a = Conv(x, w) y = Relu(a) }", w=(3, 3, 1, 1))
    assert [o.kind for o in found] == ["conv", "clip"]


def test_linear_takes_its_bias_and_activation() -> None:
    (linear,) = operators(
        "(float[1,7,3] x) => (float[] y) { a = MatMul(x, w) b = Add(k, a) y = Relu(b) }", w=(3, 5), k=(5,)
    )
    assert (linear.kind, linear.weight, linear.bias, linear.channel_axis) == ("linear", "w", "k", 1)
    assert linear.activation == (0.0, math.inf)
    assert linear.outputs == ("y",)


def test_gemm_either_way_round_and_one_that_is_not_a_layer() -> None:
    first, second, third = operators(
        "(float[1,3] x) => (float[] y) { a = Gemm(x, w, b) c = Gemm<transB=1>(a, w2) y = Gemm<alpha=2.0>(c, w3) }",
        w=(3, 5),
        b=(5,),
        w2=(4, 5),
        w3=(4, 4),
    )
    assert (first.kind, first.channel_axis, first.bias) == ("linear", 1, "b")
    assert (second.kind, second.channel_axis, second.bias) == ("linear", 0, None)
    assert third.kind == "other"


def test_split_has_several_outputs_and_computed_matmul_is_no_layer() -> None:
    found = operators(
        "(float[1,4,6] x) => (float[] y) { a, b = Split<axis=2>(x, sizes)"
        " t = Transpose<perm=[0,2,1]>(b) y = MatMul(a, t) }",
        sizes=[3, 3],
    )
    assert [o.kind for o in found] == ["split", "transpose", "matmul"]
    assert found[0].outputs == ("a", "b")
    assert found[2].weight is None


def test_clip_with_computed_bounds_is_other() -> None:
    found = operators("(float[1,4] x, float top) => (float[] y) { y = Clip(x, zero, top) }", zero=np.float32(0))
    assert found[0].kind == "other"


def test_foreign_domain_is_other() -> None:
    from leanedge.graph.operators import KIND_OF_NODE

    model = net("(float[1,4] x) => (float[] y) { y = com.microsoft.Gelu(x) }", domain="com.microsoft")
    assert find_operators(canonicalise(model, "test"))[0].kind == "other"
    assert "Gelu" not in KIND_OF_NODE
