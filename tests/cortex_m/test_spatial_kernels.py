"""Kernels that go through images in planes and tiles, on emulated cores, against the reference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from layers import assert_exact, conv, depthwise, made, one_layer, quant
from leanedge.targets.cortex_m.kernels.depthwise import (
    depthwise_bytes,
    depthwise_bytes_strips,
    depthwise_compact,
    depthwise_planes,
    depthwise_strips,
)
from leanedge.targets.cortex_m.kernels.pooling import pooling
from leanedge.targets.cortex_m.kernels.winograd import winograd_2x2, winograd_4x4, winograd_4x4_compact

from leanedge.program.types import PoolOptions, ReduceOptions

DSP_CORES = ["cortex-m4", "cortex-m7", "cortex-m33"]
DEPTHWISE = (depthwise_planes, depthwise_strips, depthwise_compact)
BYTES = (depthwise_bytes, depthwise_bytes_strips)
WINOGRAD = (winograd_4x4, winograd_4x4_compact, winograd_2x2)

ACTIVATIONS = st.sampled_from(
    [("relu", -128), ("relu", -90), ("none", 5), ("none", -128), ("relu6", -128), ("relu_n1_to_1", 10)]
)
# Every example is a compilation: shrinking would take minutes, and the message says enough.
TRIES = settings(
    max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)


def _numbers(draw):
    activation, zero = draw(ACTIVATIONS)
    return {
        "activation": activation,
        "zero": zero,
        "largest": draw(st.sampled_from([1, 20, 127])),
        "spread": draw(st.sampled_from([0.0, 0.3, 2.0])),
        "seed": draw(st.integers(0, 1000)),
    }


@st.composite
def depthwise_layers(draw):
    small = [(3, 3), (3, 3), (3, 3), (1, 3), (3, 1), (5, 1), (2, 2), (1, 1), (3, 2)]
    kernel = draw(st.sampled_from([*small, (5, 5), (4, 4), (1, 7), (7, 1), (3, 5)]))
    rows, columns = (st.integers(max(size, 5), 20) for size in kernel)
    pads = draw(st.sampled_from([None, None, (0, 0, 0, 0), (1, 0, 0, 1), (2, 1, 1, 0)]))
    wide = draw(st.one_of(columns, st.just(50)))
    narrow = kernel[1] == 1 and draw(st.booleans())
    return depthwise(
        (draw(rows), 1 if narrow else wide, draw(st.integers(1, 10))),
        kernel=kernel,
        strides=draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (1, 2)])),
        dilations=draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 1), (1, 2), (3, 3)])) if pads is None else (1, 1),
        pads=pads,
        multiplier=draw(st.sampled_from([1, 1, 1, 2])),
        **_numbers(draw),
    )


@st.composite
def winograd_layers(draw):
    size = st.integers(3, 14)
    return conv(
        (draw(size), draw(size), draw(st.integers(1, 9))),
        draw(st.integers(1, 21)),
        kernel=(3, 3),
        pads=draw(st.sampled_from([(1, 1, 1, 1), (0, 0, 0, 0), (0, 1, 1, 0), (2, 2, 1, 2)])),
        **_numbers(draw),
    )


@given(st.lists(depthwise_layers(), min_size=10, max_size=10))
@TRIES
def test_any_depthwise_layer(programs):
    offers = [
        (program, kernel)
        for n, program in enumerate(programs)
        for kernel in made(program, DEPTHWISE, "cortex-m4", f"p{n}")
    ]
    assert len(offers) >= len(programs)
    assert_exact(offers, "cortex-m4")


@pytest.mark.parametrize("core", DSP_CORES)
def test_depthwise_of_usual_shapes(core):
    programs = [
        depthwise((25, 5, 8)),
        depthwise((24, 24, 4), strides=(2, 2)),
        depthwise((6, 6, 27), activation="none", zero=4),
        depthwise((30, 1, 8), kernel=(3, 1), pads=(0, 0, 0, 0), activation="none", zero=-3),
        depthwise((9, 8, 3), multiplier=3),
        depthwise((3, 40, 110)),
        depthwise((5, 5, 4), kernel=(1, 1)),
        depthwise((7, 90, 60), kernel=(1, 3)),
        depthwise((14, 15, 8), dilations=(2, 2)),
        depthwise((30, 1, 8), kernel=(5, 1), dilations=(3, 1), activation="none", zero=3),
        depthwise((24, 1, 8), kernel=(10, 1), pads=(0, 0, 0, 0), activation="none", zero=11),
        depthwise((49, 40, 1), kernel=(10, 8), strides=(2, 2), multiplier=4),
    ]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, DEPTHWISE, core, f"p{n}")]
    assert {kernel.name for _, kernel in offers} == {"depthwise_planes", "depthwise_strips", "depthwise_compact"}
    assert_exact(offers, core)


def test_depthwise_runs_in_place_at_strides_1_and_2():
    for program in (depthwise((12, 12, 8)), depthwise((12, 12, 8), strides=(2, 2))):
        kernels = made(program, DEPTHWISE[:2], "cortex-m4", "p")
        assert len(kernels) == 2
        assert all(kernel.leads == (0,) and kernel.exact for kernel in kernels)


def test_layers_of_one_kernel_size_share_the_compact_depthwise_function():
    shapes = [((12, 12, 8), (1, 1)), ((9, 7, 27), (2, 2)), ((3, 3, 64), (1, 1))]
    programs = [depthwise(shape, strides=strides) for shape, strides in shapes]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, DEPTHWISE[2:], "cortex-m4", f"p{n}")]
    assert len(offers) == 3
    assert len({kernel.source for _, kernel in offers}) == 1
    assert_exact(offers, "cortex-m4")


def test_depthwise_is_shorter_than_published_ones():
    programs = {"s1": depthwise((24, 24, 8)), "s2": depthwise((48, 48, 4), strides=(2, 2))}
    offers = [(p, kernel) for name, p in programs.items() for kernel in made(p, DEPTHWISE[:1], "cortex-m4", name)]
    plain, _, halved, _ = assert_exact(offers, "cortex-m4")
    assert plain.counts.instructions / (24 * 24 * 8 * 9) < 1.5
    assert halved.counts.instructions / (24 * 24 * 4 * 9) < 2.15


def test_depthwise_of_large_windows_takes_about_one_instruction_a_multiplication():
    program = depthwise((20, 20, 8), kernel=(5, 5))
    offers = [(program, kernel) for kernel in made(program, DEPTHWISE[:1], "cortex-m4", "p")]
    assert assert_exact(offers, "cortex-m4")[0].counts.instructions / (20 * 20 * 8 * 25) < 1.2


@given(st.lists(depthwise_layers(), min_size=10, max_size=10))
@TRIES
def test_any_depthwise_layer_on_a_core_without_dsp(programs):
    offers = [
        (program, kernel)
        for n, program in enumerate(programs)
        for kernel in made(program, BYTES, "cortex-m0plus", f"p{n}")
    ]
    assert len(offers) >= len(programs)
    assert_exact(offers, "cortex-m0plus")


def test_depthwise_without_dsp_takes_six_instructions_a_multiplication():
    programs = [depthwise((24, 24, 8)), depthwise((24, 24, 8), strides=(2, 2)), depthwise((9, 6, 7), multiplier=2)]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, BYTES, "cortex-m0plus", f"p{n}")]
    assert [kernel.name for _, kernel in offers] == ["depthwise_bytes", "depthwise_bytes_strips"] * 3
    seen = assert_exact(offers, "cortex-m0plus")
    assert seen[0].counts.instructions / (24 * 24 * 8 * 9) < 6.0


@given(st.lists(winograd_layers(), min_size=6, max_size=6))
@TRIES
def test_any_convolution_by_winograd(programs):
    offers = [
        (program, kernel)
        for n, program in enumerate(programs)
        for kernel in made(program, WINOGRAD, "cortex-m4", f"p{n}")
    ]
    assert len(offers) == 3 * len(programs)
    assert_exact(offers, "cortex-m4")


@pytest.mark.parametrize("core", DSP_CORES)
def test_winograd_of_many_channels(core):
    programs = [
        conv((8, 8, 64), 20, kernel=(3, 3), pads=(1, 1, 1, 1), activation="none", zero=4),
        conv((8, 16, 16), 24, kernel=(3, 3), pads=(1, 1, 1, 1)),
    ]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, WINOGRAD, core, f"p{n}")]
    assert len(offers) == 6
    assert_exact(offers, core)


def test_winograd_is_shorter_than_published_ones():
    program = conv((16, 16, 16), 16, kernel=(3, 3), pads=(1, 1, 1, 1))
    offers = [(program, kernel) for kernel in made(program, WINOGRAD, "cortex-m4", "p")]
    counts = {
        kernel.name: seen.counts.instructions / (16 * 16 * 16 * 16 * 9)
        for (_, kernel), seen in zip(offers, assert_exact(offers, "cortex-m4")[::2], strict=True)
    }
    assert counts["winograd_4x4"] < 0.42
    assert counts["winograd_2x2"] < 0.68


def test_winograd_needs_sums_that_fit_beside_its_factors():
    few, many = (conv((4, 4, 500), 4, kernel=(3, 3), largest=largest) for largest in (1, 127))
    assert [kernel.name for kernel in made(few, WINOGRAD, "cortex-m4", "p")] == [
        "winograd_4x4",
        "winograd_4x4_compact",
        "winograd_2x2",
    ]
    assert [kernel.name for kernel in made(many, WINOGRAD, "cortex-m4", "p")] == ["winograd_2x2"]


def pool(kind, image, kernel, strides, *, activation="none", pads=(0, 0, 0, 0)):
    height, width, channels = image
    rows = (height + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
    columns = (width + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
    same = quant(0.05, -7)
    options = PoolOptions(kernel, strides, pads, activation)
    return one_layer(kind, [((1, *image), same)], ((1, rows, columns, channels), same), options)


def mean(image, *, axes=(1, 2)):
    shape = (1, image[2]) if axes == (1, 2) else (1, image[0], image[1])
    return one_layer("mean", [((1, *image), quant(0.05, 9))], (shape, quant(0.02, -5)), ReduceOptions(axes, False))


@pytest.mark.parametrize("core", DSP_CORES)
def test_pooling_and_means(core):
    programs = [
        pool("average_pool", (25, 5, 64), (25, 5), (25, 5)),
        pool("average_pool", (8, 8, 64), (8, 8), (8, 8), activation="relu"),
        pool("average_pool", (9, 7, 6), (3, 3), (1, 1)),
        pool("average_pool", (20, 20, 8), (18, 19), (1, 1)),
        pool("max_pool", (8, 8, 16), (2, 2), (2, 2)),
        pool("max_pool", (9, 7, 6), (3, 2), (2, 1), activation="relu6"),
        mean((20, 20, 12)),
        mean((3, 3, 301)),
    ]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, (pooling,), core, f"p{n}")]
    assert len(offers) == len(programs)
    seen = assert_exact(offers, core)
    assert seen[0].counts.instructions < 1.0 * 25 * 5 * 64


@pytest.mark.parametrize(
    "program",
    [
        pool("max_pool", (4, 4, 4), (3, 3), (1, 1), pads=(1, 1, 1, 1)),
        pool("average_pool", (4, 4, 3), (2, 2), (2, 2)),
        mean((4, 4, 4), axes=(3,)),
    ],
)
def test_pooling_leaves_padding_few_channels_and_other_axes_to_portable_c(program):
    assert not made(program, (pooling,), "cortex-m4", "p")


@pytest.mark.parametrize(
    "program",
    [
        conv((6, 6, 4), 4),
        conv((6, 6, 4), 4, kernel=(3, 3), strides=(2, 2)),
        conv((9, 9, 4), 4, kernel=(3, 3), dilations=(2, 2)),
        conv((9, 9, 4), 4, kernel=(5, 5)),
        depthwise((6, 6, 4)),
    ],
)
def test_winograd_is_for_3x3_windows_of_stride_1_alone(program):
    assert not made(program, WINOGRAD, "cortex-m4", "p")


def test_a_core_without_dsp_is_offered_none():
    assert not made(depthwise((6, 6, 4)), DEPTHWISE, "cortex-m0plus", "p")
    assert not made(conv((6, 6, 4), 4, kernel=(3, 3)), WINOGRAD, "cortex-m0plus", "p")
