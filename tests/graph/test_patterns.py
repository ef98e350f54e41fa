"""Every rewrite fires where it should, stays away where it would be wrong, and changes no output."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from nets import assert_same_outputs, net

from leanedge.graph.canonicalise import canonicalise

if TYPE_CHECKING:
    from leanedge.graph.model import Graph

BOUNDS = {"three": np.float32(3), "six": np.float32(6), "zero": np.float32(0), "sixth": np.float32([1 / 6])}
SHIFTED = "s = Add(x, three) c = Clip(s, zero, six)"


def rewritten(text: str, opset: int = 17, **constants: object) -> tuple[Graph, dict[str, int]]:
    used = {
        name: value
        for name, value in constants.items()
        if name in text.replace("(", " ").replace(",", " ").replace(")", " ").split()
    }
    model = net(text, opset, **used)  # type: ignore[arg-type]
    graph = canonicalise(model, "test")
    assert_same_outputs(model, graph.bytes)
    return graph, dict(Counter(node.op_type for node in graph.nodes))


@pytest.mark.parametrize(
    "body",
    [
        f"{SHIFTED} d = Div(c, six) y = Mul(x, d)",
        f"{SHIFTED} d = Div(c, six) y = Mul(d, x)",
        f"{SHIFTED} d = Mul(c, sixth) y = Mul(x, d)",
        f"{SHIFTED} d = Mul(x, c) y = Div(d, six)",
        f"{SHIFTED} d = Mul(c, x) y = Mul(sixth, d)",
        "s = Add(three, x) c = Clip(s, zero, six) d = Mul(c, x) y = Div(d, six)",
        "h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, h)",
        "h = HardSigmoid<alpha=0.1666666, beta=0.5>(x) y = Mul(h, x)",
    ],
)
def test_hard_swish_in_every_order(body: str) -> None:
    assert rewritten(f"(float[1,3,5,5] x) => (float[] y) {{ {body} }}", **BOUNDS)[1] == {"HardSwish": 1}


def test_hard_swish_after_a_layer_and_before_one() -> None:
    body = f"x = Conv(i, w) {SHIFTED} d = Mul(x, c) e = Div(d, six) y = Conv(e, w2)"
    kinds = rewritten(f"(float[1,3,5,5] i) => (float[] y) {{ {body} }}", w=(4, 3, 1, 1), w2=(2, 4, 3, 3), **BOUNDS)[1]
    assert kinds == {"Conv": 2, "HardSwish": 1}


def test_hard_sigmoid_alone() -> None:
    body = f"x = Conv(i, w) {SHIFTED} y = Div(c, six)"
    kinds = rewritten(f"(float[1,3,5,5] i) => (float[] y) {{ {body} }}", w=(4, 3, 1, 1), **BOUNDS)[1]
    assert kinds == {"Conv": 1, "HardSigmoid": 1}


@pytest.mark.parametrize(
    "body",
    [
        "h = HardSigmoid<alpha=0.2, beta=0.5>(x) y = Mul(x, h)",
        "z = Relu(x) h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(z, h)",
        "s = Add(x, six) c = Clip(s, zero, six) d = Mul(x, c) y = Div(d, six)",
        "s = Add(x, three) c = Clip(s, zero, three) d = Mul(x, c) y = Div(d, six)",
        f"{SHIFTED} d = Mul(x, c) y = Div(six, d)",
        f"{SHIFTED} d = Mul(x, c) e = Div(d, six) y = Add(e, c)",
    ],
)
def test_what_only_looks_like_hard_swish(body: str) -> None:
    assert "HardSwish" not in rewritten(f"(float[1,3,5,5] x) => (float[] y) {{ {body} }}", **BOUNDS)[1]


def test_a_gate_that_something_else_reads_stays() -> None:
    body = "h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, h) z = Relu(h)"
    kinds = rewritten(f"(float[1,3,5,5] x) => (float[] y, float[] z) {{ {body} }}")[1]
    assert kinds == {"HardSigmoid": 1, "Mul": 1, "Relu": 1}


CHANNEL = {"a": (4, 1, 1), "b": (4, 1, 1), "k": np.float32(1.7)}


@pytest.mark.parametrize(
    "layer",
    ["Conv(x, w)", "Conv<group=2>(x, w2)", "Conv(x, w, c)", "ConvTranspose(x, wt)", "ConvTranspose(x, wt, c)"],
)
@pytest.mark.parametrize(
    "tail", ["m = Mul(l, a) y = Add(m, b)", "m = Sub(b, l) y = Div(m, k)", "m = Mul(k, l) y = Sub(m, b)"]
)
def test_channel_constants_fold_into_convolutions(layer: str, tail: str) -> None:
    kinds = rewritten(
        f"(float[1,4,5,5] x) => (float[] y) {{ l = {layer} {tail} }}",
        w=(4, 4, 3, 3),
        w2=(4, 2, 3, 3),
        wt=(4, 4, 3, 3),
        c=(4,),
        **CHANNEL,
    )[1]
    assert sum(kinds.values()) == 1


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("l = Gemm(x, w) m = Mul(l, a) y = Add(m, b)", {"Gemm": 1}),
        ("l = Gemm<transB=1>(x, w, b) m = Div(l, k) y = Sub(m, a)", {"Gemm": 1}),
        ("l = Gemm<alpha=0.5>(x, w) y = Mul(l, a)", {"Gemm": 1, "Mul": 1}),
        ("l = MatMul(x, w) m = Mul(l, a) y = Add(m, b)", {"MatMul": 1, "Add": 1}),
        ("l = MatMul(x, w) m = Add(l, b) y = Mul(m, a)", {"MatMul": 1, "Add": 1}),
    ],
)
def test_constants_fold_into_linear_layers(body: str, left: dict[str, int]) -> None:
    kinds = rewritten(f"(float[1,4] x) => (float[] y) {{ {body} }}", w=(4, 4), a=(4,), b=(4,), k=np.float32(1.7))[1]
    assert kinds == left


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("m = Mul(x, a) n = Add(m, b) o = Mul(n, c) y = Add(o, d)", {"Mul": 1, "Add": 1}),
        ("m = Add(x, b) y = Add(m, d)", {"Add": 1}),
        ("m = Sub(b, x) y = Sub(d, m)", {"Add": 1}),
        ("m = Div(k, x) y = Mul(m, a)", {"Div": 1, "Mul": 1}),
        ("m = Mul(x, row) y = Mul(m, a)", {"Mul": 2}),
        ("m = Mul(x, a) y = Add(m, row)", {"Mul": 1, "Add": 1}),
    ],
)
def test_affine_steps_merge(body: str, left: dict[str, int]) -> None:
    kinds = rewritten(
        f"(float[1,4,3,5] x) => (float[] y) {{ {body} }}",
        a=(4, 1, 1),
        b=(4, 1, 1),
        c=(4, 1, 1),
        d=(4, 1, 1),
        row=(1, 5),
        k=np.float32(1.7),
    )[1]
    assert kinds == left


def test_a_spatial_constant_does_not_fold_into_a_convolution() -> None:
    kinds = rewritten("(float[1,4,4,4] x) => (float[] y) { l = Conv(x, w) y = Mul(l, row) }", w=(4, 4, 1, 1), row=(4,))[
        1
    ]
    assert kinds == {"Conv": 1, "Mul": 1}


def test_padding_moves_into_the_convolution() -> None:
    text = "(float[1,3,5,6] x) => (float[] y) { p = Pad(x, pads) y = Conv<pads=[0,1,0,1], strides=[2,1]>(p, w) }"
    graph, kinds = rewritten(text, pads=[0, 0, 1, 2, 0, 0, 0, 1], w=(4, 3, 3, 3))
    assert kinds == {"Conv": 1}
    assert list(graph.nodes[0].attributes["pads"].value) == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("pad", "pads"),
    [
        ('Pad<mode="reflect">(x, pads)', [0, 0, 1, 1, 0, 0, 1, 1]),
        ("Pad(x, pads)", [0, 1, 1, 1, 0, 0, 1, 1]),
        ("Pad(x, pads)", [0, 0, -1, 1, 0, 0, 1, 1]),
        ("Pad(x, pads, one)", [0, 0, 1, 1, 0, 0, 1, 1]),
    ],
)
def test_other_padding_stays(pad: str, pads: list[int]) -> None:
    channels = 3 + pads[1]
    text = f"(float[1,3,5,6] x) => (float[] y) {{ p = {pad} y = Conv(p, w) }}"
    assert rewritten(text, pads=pads, w=(4, channels, 3, 3), one=np.float32(1))[1] == {"Pad": 1, "Conv": 1}


def test_sum_of_two_is_add() -> None:
    assert rewritten("(float[1,4] x) => (float[] y) { a = Relu(x) y = Sum(a, x) }")[1] == {"Relu": 1, "Add": 1}
    assert "Sum" in rewritten("(float[1,4] x) => (float[] y) { a = Relu(x) b = Neg(x) y = Sum(a, x, b) }")[1]
