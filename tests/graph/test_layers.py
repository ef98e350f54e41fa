"""Costs of layers, checked by hand on nets small enough for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from nets import net

from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.layers import activation_bytes, describe_layers, macs, peak_activation_bytes

if TYPE_CHECKING:
    from leanedge.graph.model import Graph


def graph_of(text: str, **constants: Any) -> Graph:
    return canonicalise(net(text, **constants), "test")


def test_figures_of_a_small_net() -> None:
    graph = graph_of(
        "(float[N,3,8,8] x) => (float[] y) { h = Conv<strides=[2,2]>(x, a, b) r = Relu(h) d = Conv<group=4>(r, w)"
        " p = GlobalAveragePool(d) f = Flatten(p) y = Gemm<transB=1>(f, g, c) }",
        a=(4, 3, 2, 2),
        b=(4,),
        w=(4, 1, 3, 3),
        g=(5, 4),
        c=(5,),
    )
    layers = {layer.op_type: layer for layer in describe_layers(graph)}
    first, linear = layers["Conv"], layers["Gemm"]
    assert [layer.macs for layer in describe_layers(graph)] == [4 * 16 * 12, 4 * 4 * 9, 0, 0, 20]
    assert macs(graph) == 768 + 144 + 20
    assert (linear.output_shape, linear.weights, linear.weight_bytes) == ((1, 5), 25, 100)
    assert first.kind == "conv"
    assert sum(layer.weights for layer in describe_layers(graph)) == 48 + 4 + 36 + 25
    # x and the first convolution's output are alive together; the relu is fused.
    assert activation_bytes(graph)[0] == 4 * (192 + 64)
    assert peak_activation_bytes(graph) == 4 * (192 + 64)


def test_a_residual_is_alive_until_it_is_added() -> None:
    graph = graph_of(
        "(float[1,8] x) => (float[] y) { a = Gemm(x, w) b = Relu(x) c = Gemm(b, v) d = Gemm(c, w2) y = Add(d, a) }",
        w=(8, 16),
        v=(8, 2),
        w2=(2, 16),
    )
    live = activation_bytes(graph)
    assert live == tuple(4 * n for n in (8 + 16, 8 + 16 + 8, 16 + 8 + 2, 16 + 2 + 16, 48))


def test_a_reshape_needs_no_buffer_of_its_own() -> None:
    graph = graph_of(
        "(float[1,4,4] x) => (float[] y) { r = Relu(x) s = Reshape(r, t) y = MatMul(s, w) }", t=[1, 16], w=(16, 2)
    )
    assert activation_bytes(graph) == (128, 64, 72)


def test_recurrent_computed_and_transposed_products() -> None:
    lstm = graph_of(
        "(float[7,1,4] x) => (float[] y) { y, h, c = LSTM<hidden_size=3>(x, w, r) }", w=(1, 12, 4), r=(1, 12, 3)
    )
    assert macs(lstm) == 7 * (12 * 4 + 12 * 3)
    product = graph_of("(float[2,5,3] a, float[2,3,7] b) => (float[] y) { y = MatMul(a, b) }")
    assert macs(product) == 2 * 5 * 3 * 7
    transposed = graph_of("(float[1,5,3,3] x) => (float[] y) { y = ConvTranspose(x, w) }", w=(5, 2, 2, 2))
    assert macs(transposed) == 9 * 5 * 2 * 4
    assert describe_layers(transposed)[0].weights == 40


def test_an_unknown_length_is_not_zero_macs() -> None:
    graph = graph_of(
        "(float[4,3] x, bool[4] keep) => (float[] y) { s = Compress<axis=0>(x, keep) y = MatMul(s, w) }", w=(3, 2)
    )
    assert [layer.macs for layer in describe_layers(graph)] == [0, None]
    assert macs(graph) == 0
    assert np.prod(describe_layers(graph)[1].output_shape or (0,)) == 0
