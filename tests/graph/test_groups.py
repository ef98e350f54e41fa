"""Channel groups: cutting channels that nobody listens to changes no output, in every net that can be built."""

# ruff: noqa: E501 -- one net a line reads better than a net in pieces

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import assert_cut_is_exact, net

from leanedge.errors import UsageError
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.groups import cut, find_groups, why_frozen

if TYPE_CHECKING:
    from leanedge.graph.model import Graph

Array = np.ndarray[Any, Any]


def graph_of(text: str, opset: int = 17, **constants: Any) -> Graph:
    return canonicalise(net(text, opset, **constants), "test")


W = {
    "a": (8, 3, 3, 3),
    "a2": (8, 3, 3, 3),
    "d": (8, 1, 3, 3),
    "b": (6, 8, 1, 1),
    "e": (8, 8, 1, 1),
    "f": (4, 6, 1, 1),
    "bias": (8,),
}
IMAGE = "(float[1,3,6,6] x) => (float[] y)"


def sized(text: str, opset: int = 17, **more: Any) -> tuple[Graph, dict[str, int]]:
    used = {
        name: value for name, value in {**W, **more}.items() if any(f"{c}{name}{e}" in text for c in " (" for e in ",)")
    }
    graph = graph_of(f"{IMAGE} {{ {text} }}", opset, **used)
    groups = find_groups(graph)
    assert_cut_is_exact(graph, 1)
    assert_cut_is_exact(graph, 2)
    made = {str(node.name): str(node.outputs[0].name) for node in graph.nodes}
    return graph, {made[g.id.split("#")[0]] + g.id[len(g.id.split("#")[0]) :]: g.size for g in groups}


def test_chain() -> None:
    graph, sizes = sized("h = Conv(x, a, bias) r = Relu(h) k = Conv(r, b) y = Conv(k, f)")
    assert sizes == {"h": 8, "k": 6}
    (first, second) = find_groups(graph)
    assert [(m.constant, m.axis, m.role) for m in first.members] == [
        ("a", 0, "producer"),
        ("bias", 0, "through"),
        ("b", 1, "consumer"),
    ]
    assert (first.unit, second.unit) == (1, 1)


@pytest.mark.parametrize(
    ("text", "sizes", "more"),
    [
        # depthwise with and without multiplier
        ("h = Conv(x, a) k = Conv<group=8, pads=[1,1,1,1]>(h, d, bias) y = Conv(k, b)", {"h": 8}, {}),
        ("h = Conv(x, a) k = Conv<group=8>(h, d2) y = Conv(k, w)", {"h": 8}, {"d2": (16, 1, 3, 3), "w": (2, 16, 1, 1)}),
        # residual: one group for the whole stream
        ("h = Conv(x, a) k = Conv(h, e) s = Add(h, k) l = Conv(s, e2) t = Add(l, s) y = Conv(t, b)", {"h": 8}, {"e2": (8, 8, 1, 1)}),
        # squeeze and excitation
        (
            "h = Conv(x, a) p = GlobalAveragePool(h) q = Conv(p, b) r = Relu(q) u = Conv(r, w) g = HardSigmoid(u)"
            " m = Mul(h, g) y = Conv(m, b2)",
            {"h": 8, "q": 6},
            {"w": (8, 6, 1, 1), "b2": (2, 8, 1, 1)},
        ),
        # concat of two, of one with itself, and with the model's input
        ("h = Conv(x, a) k = Conv(x, a2) c = Concat<axis=1>(h, k) y = Conv(c, w)", {"h": 8, "k": 8}, {"w": (2, 16, 1, 1)}),
        ("h = Conv(x, a) c = Concat<axis=1>(h, h) y = Conv(c, w)", {"h": 8}, {"w": (2, 16, 1, 1)}),
        (
            "h = Conv<pads=[1,1,1,1]>(x, a) c = Concat<axis=1>(x, h) y = Conv(c, w)",
            {"h": 8},
            {"w": (2, 11, 1, 1)},
        ),
        ("h = Conv(x, a) k = Conv(x, a2) c = Concat<axis=2>(h, k) y = Conv(c, b)", {"h": 8}, {}),
        # grouped convolution: each group goes whole
        ("h = Conv(x, a) k = Conv<group=4>(h, w) r = Relu(k) y = Conv(r, v)", {"h": 4}, {"w": (12, 2, 3, 3), "v": (2, 12, 1, 1)}),
        # split, slice, gather of halves
        ("h = Conv(x, a) k, l = Split<axis=1>(h, n) p = Conv(k, w) q = Conv(l, v) y = Add(p, q)", {"h": 3, "h#2": 5}, {"n": [3, 5], "w": (2, 3, 1, 1), "v": (2, 5, 1, 1)}),
        ("h = Conv(x, a) k, l = Split<axis=1>(h) m = Mul(k, l) y = Conv(m, w)", {"h": 4}, {"w": (2, 4, 1, 1)}),
        (
            "h = Conv(x, a) k = Slice(h, s, t, one) y = Conv(k, w)",
            {"h": 4},
            {"s": [2], "t": [6], "one": [1], "w": (2, 4, 1, 1)},
        ),
        ("h = Conv(x, a) k = Slice(h, s, t, ax) y = Conv(k, b)", {"h": 8}, {"s": [1, 0], "t": [-1, 2], "ax": [2, 3]}),
        # constants that follow the channels
        ("h = Conv(x, a) r = Relu(h) m = Mul(r, c) n = Add(c2, m) k = PRelu(n, s) y = Conv(k, b)", {"h": 8}, {"c": (8, 1, 1), "c2": (1, 8, 1, 1), "s": (8, 1, 1)}),
        ("h = Conv(x, a) k = InstanceNormalization(h, bias, s) y = Conv(k, b)", {"h": 8}, {"s": (8,)}),
        # shapes
        ("h = Conv(x, a) k = MaxPool<kernel_shape=[2,2]>(h) l = Flatten(k) y = Gemm(l, w)", {"h": 8}, {"w": (72, 3)}),
        ("h = Conv(x, a) k = Reshape(h, s) t = Transpose<perm=[0,2,1]>(k) m = MatMul(t, w) y = Relu(m)", {"h": 8}, {"s": [1, 8, 16], "w": (8, 2)}),
        ("h = Conv(x, a) k = ReduceMean<axes=[2,3], keepdims=0>(h) y = Gemm<transB=1>(k, w)", {"h": 8}, {"w": (3, 8)}),
        ("h = Conv(x, a) t = Transpose<perm=[0,2,3,1]>(h) l = Flatten(t) y = Gemm(l, w)", {"h": 8}, {"w": (128, 2)}),
        ("h = Conv(x, a) k = Pad(h, p) y = Conv(k, w)", {"h": 8}, {"p": [0, 0, 1, 1, 0, 2, 0, 0], "w": (2, 10, 1, 1)}),
        ("h = Conv(x, a) k = Resize<mode=\"nearest\">(h, , , z) y = Conv(k, b)", {"h": 8}, {"z": [1, 8, 8, 8]}),
        ("h = Conv(x, a) k = DepthToSpace<blocksize=2>(h) y = Conv(k, w)", {"h": 2}, {"w": (3, 2, 1, 1)}),
        ("h = Conv(x, a) k = DepthToSpace<blocksize=2, mode=\"CRD\">(h) y = Conv(k, w)", {"h": 2}, {"w": (3, 2, 1, 1)}),
        ("h = Conv(x, a) k = ConvTranspose(h, w, v) y = Conv(k, u)", {"h": 8, "k": 5}, {"w": (8, 5, 2, 2), "v": (5,), "u": (2, 5, 1, 1)}),
        ("h = Conv(x, a) k = ConvTranspose<group=8>(h, w) y = Conv(k, u)", {"h": 8}, {"w": (8, 2, 2, 2), "u": (2, 16, 1, 1)}),
        # channel shuffle: what trades places goes together
        ("h = Conv(x, a) k = Reshape(h, s) l = Transpose<perm=[0,2,1,3,4]>(k) m = Reshape(l, t) y = Conv(m, b)", {"h": 4}, {"s": [1, 2, 4, 4, 4], "t": [1, 8, 4, 4]}),
        # frozen: outputs, softmax or mean over channels, unknown operators
        ("h = Conv(x, a) k = Softmax<axis=1>(h) y = Conv(k, b)", {}, {}),
        ("h = Conv(x, a) k = Softmax<axis=2>(h) y = Conv(k, b)", {"h": 8}, {}),
        ("h = Conv(x, a) k = ReduceMean<axes=[1]>(h) y = Mul(h, k)", {}, {}),
        ("h = Conv(x, a) k = LRN<size=3>(h) y = Conv(k, b)", {}, {}),
        ("h = Conv(x, a) k = Add(h, sum) y = Conv(k, b)", {"h": 8}, {"sum": (4,)}),
        ("h = Conv(x, u) k = Conv<group=3>(x, w) s = Mul(h, k) y = Conv(s, v)", {}, {"u": (9, 3, 3, 3), "w": (9, 1, 3, 3), "v": (2, 9, 1, 1)}),
    ],
)  # fmt: skip
def test_structures(text: str, sizes: dict[str, int], more: dict[str, Any]) -> None:
    _, found = sized(text, **more)
    assert found == sizes


def test_conv1d_and_sequence_model() -> None:
    graph = graph_of(
        "(float[1,5,16] x) => (float[] y) { h = Conv<pads=[1,1]>(x, a, c) r = Relu(h) k = Conv<group=8>(r, d) s = Conv(k, e)"
        " m = ReduceMean<axes=[2], keepdims=0>(s) y = Gemm(m, w) }",
        a=(8, 5, 3),
        c=(8,),
        d=(8, 1, 3),
        e=(6, 8, 1),
        w=(6, 3),
    )
    assert [(g.size, len(g.members)) for g in find_groups(graph)] == [(8, 4), (6, 2)]
    assert_cut_is_exact(graph)


def test_transformer_feed_forward() -> None:
    graph = graph_of(
        "(float[1,7,6] x) => (float[] y) { h = MatMul(x, a) i = Add(h, b) d = Div(i, k) e = Erf(d) o = Add(e, one) m = Mul(i, o)"
        " n = Mul(m, half) p = MatMul(n, c) q = Add(p, e2) r = Add(q, x) y = LayerNormalization(r, g, g2) }",
        a=(6, 10),
        b=(10,),
        c=(10, 6),
        e2=(6,),
        g=(6,),
        g2=(6,),
        k=np.float32(1.4142),
        one=np.float32(1),
        half=np.float32(0.5),
    )
    groups = find_groups(graph)
    assert [g.size for g in groups] == [10]
    assert_cut_is_exact(graph)
    assert "model output" in why_frozen(graph) or "LayerNormalization" in why_frozen(graph)


def test_a_constant_that_two_layers_share_is_cut_for_both() -> None:
    graph = graph_of(
        f"{IMAGE} {{ h = Conv(x, a) r = Relu(h) m = Mul(r, c) k = Conv(m, e) q = Relu(k) n = Mul(q, c) y = Conv(n, b) }}",
        **{name: W[name] for name in "aeb"},
        c=(8, 1, 1),
    )
    assert [g.size for g in find_groups(graph)] == [8]
    assert_cut_is_exact(graph)


def test_model_outputs_and_state_are_frozen() -> None:
    graph = graph_of(
        "(float[1,4] x, float[1,6] s) => (float[] y, float[] t) { h = Gemm(x, a) k = Gemm(s, b) m = Add(h, k) t = Tanh(m)"
        " g = Gemm(t, c) r = Relu(g) y = Gemm(r, d) }",
        a=(4, 6),
        b=(6, 6),
        c=(6, 5),
        d=(5, 2),
    )
    assert [g.size for g in find_groups(graph)] == [5]
    assert_cut_is_exact(graph)


def test_what_cant_be_kept_is_refused() -> None:
    graph, _ = sized("h = Conv(x, a) y = Conv(h, b)")
    (group,) = find_groups(graph)
    with pytest.raises(UsageError, match="no channel group nobody"):
        cut(graph, {"nobody": np.array([0])})
    for wrong in ([], [8], [-1]):
        with pytest.raises(UsageError, match="out of range"):
            cut(graph, {group.id: np.array(wrong, np.int64)})


def test_nothing_to_cut_says_why() -> None:
    reason = why_frozen(graph_of(f"{IMAGE} {{ y = Conv(x, a) }}", a=W["a"]))
    assert reason == "y: is a model output"
    reason = why_frozen(graph_of("(float[1,4] x) => (float[] y) { y = Relu(x) }"))
    assert reason == "no layer makes channels that another one reads"
    reason = why_frozen(graph_of(f"{IMAGE} {{ h = Conv(x, a) k = LRN<size=3>(h) y = Conv(k, b) }}", a=W["a"], b=W["b"]))
    assert "LRN" in reason


class Builder:
    """Draws a random small image net: each step reads values that are already there."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.values: list[tuple[str, int, int]] = [("x", 4, 6)]  # name, channels, side

    def pick(self) -> tuple[str, int, int]:
        return self.draw(st.sampled_from(self.values[-4:]))

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def put(self, expression: str, channels: int, side: int) -> None:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        self.values.append((name, channels, side))

    def conv(self, source: tuple[str, int, int] | None = None, channels: int | None = None) -> None:
        name, inputs, side = source or self.pick()
        outputs = channels or self.draw(st.sampled_from([4, 6, 8]))
        bias = f", {self.constant((outputs,))}" if self.draw(st.booleans()) else ""
        self.put(f"Conv<pads=[1,1,1,1]>({name}, {self.constant((outputs, inputs, 3, 3))}{bias})", outputs, side)

    def depthwise(self) -> None:
        name, channels, side = self.pick()
        self.put(
            f"Conv<group={channels}, pads=[1,1,1,1]>({name}, {self.constant((channels, 1, 3, 3))})", channels, side
        )

    def grouped(self) -> None:
        name, channels, side = self.pick()
        self.put(f"Conv<group=2>({name}, {self.constant((8, channels // 2, 1, 1))})", 8, side)

    def residual(self) -> None:
        source = self.pick()
        self.conv(source, source[1])
        self.put(f"{self.draw(st.sampled_from(['Add', 'Mul', 'Max']))}({source[0]}, {self.values[-1][0]})", *source[1:])

    def concat(self) -> None:
        first = self.pick()
        second = self.draw(st.sampled_from([v for v in self.values if v[2] == first[2]]))
        self.put(f"Concat<axis=1>({first[0]}, {second[0]})", first[1] + second[1], first[2])

    def split(self) -> None:
        name, channels, side = self.pick()
        at = self.draw(st.integers(1, channels - 1))
        made = f"v{len(self.lines)}", f"w{len(self.lines)}"
        self.lines.append(f"{made[0]}, {made[1]} = Split<axis=1>({name}, {self.constant([at, channels - at])})")
        self.values += [(made[0], at, side), (made[1], channels - at, side)] if at > 1 and channels - at > 1 else []
        if not (at > 1 and channels - at > 1):
            self.conv((made[0], at, side))
            self.conv((made[1], channels - at, side))

    def pointwise(self) -> None:
        name, channels, side = self.pick()
        slope = self.constant((channels, 1, 1))
        step = self.draw(
            st.sampled_from(
                ["Relu({})", "Sigmoid({})", f"PRelu({{}}, {slope})", f"Mul({{}}, {slope})", "HardSwish({})"]
            )
        )
        self.put(step.format(name), channels, side)

    def excite(self) -> None:
        name, channels, side = self.pick()
        self.put(f"GlobalAveragePool({name})", channels, 1)
        pooled = self.values.pop()
        self.put(f"Conv({pooled[0]}, {self.constant((channels, channels, 1, 1))})", channels, 1)
        gate = self.values.pop()
        self.put(f"Mul({name}, {gate[0]})", channels, side)

    def pool(self) -> None:
        name, channels, side = self.pick()
        self.put(f"AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>({name})", channels, side)

    def pad(self) -> None:
        name, channels, side = self.pick()
        self.put(f"Pad({name}, {self.constant([0, 1, 0, 0, 0, 1, 0, 0])})", channels + 2, side)

    def shuffle(self) -> None:
        name, channels, side = self.pick()
        shape = self.constant([1, channels, side * side])
        back = self.constant([1, channels, side, side])
        self.lines.append(f"f{len(self.lines)} = Reshape({name}, {shape})")
        self.put(f"Reshape(f{len(self.lines) - 1}, {back})", channels, side)

    def finish(self) -> Graph:
        name, channels, side = self.values[-1]
        if self.draw(st.booleans()):
            self.lines.append(f"p = GlobalAveragePool({name})")
            name, side = "p", 1
        self.lines.append(f"q = Flatten({name})")
        self.lines.append(f"y = Gemm(q, {self.constant((channels * side * side, 3))})")
        text = f"(float[1,4,6,6] x) => (float[] y) {{ {' '.join(self.lines)} }}"
        used = {name: value for name, value in self.constants.items() if any(f"{name}{end}" in text for end in ",)")}
        return canonicalise(net(text, **used), "test")


STEPS = [
    "conv",
    "conv",
    "depthwise",
    "grouped",
    "residual",
    "concat",
    "split",
    "pointwise",
    "excite",
    "pool",
    "pad",
    "shuffle",
]


@st.composite
def nets(draw: Any) -> Graph:
    builder = Builder(draw)
    builder.conv()
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=7)):
        if step == "grouped" and builder.values[-1][1] % 2:
            continue
        getattr(builder, step)()
    return builder.finish()


@settings(max_examples=120, deadline=None, derandomize=True)
@given(nets(), st.integers(0, 1000))
def test_cutting_what_nobody_hears_changes_nothing(graph: Graph, seed: int) -> None:
    assert_cut_is_exact(graph, seed)


def test_a_constant_that_an_unknown_node_reads_is_not_cut() -> None:
    graph = graph_of(
        "(float[1,3,6,6] x, bool[8,1,1] q) => (float[] y, float[] z)"
        " { h = Conv(x, a) r = Relu(h) m = Mul(r, c) y = Conv(m, b) z = Where(q, c, zero) }",
        a=W["a"],
        b=W["b"],
        c=(8, 1, 1),
        zero=np.float32(0),
    )
    assert find_groups(graph) == ()
    assert "c: is a constant that other nodes read" in why_frozen(graph)


def test_channels_in_the_middle_of_what_is_flattened() -> None:
    graph, sizes = sized("h = Conv(x, a) t = Transpose<perm=[0,2,1,3]>(h) l = Flatten(t) y = Gemm(l, w)", w=(128, 2))
    assert sizes == {"h": 8}
    consumer = next(m for m in find_groups(graph)[0].members if m.role == "consumer")
    wanted = np.arange(128).reshape(4, 8, 4).transpose(1, 0, 2).reshape(8, 16)
    assert np.array_equal(consumer.indices, wanted)
