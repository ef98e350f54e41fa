"""Element-wise kernels on emulated cores, against the reference: many scales, odd lengths, ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers import assert_exact, made, one_layer, quant
from leanedge.targets.cortex_m.kernels.elementwise import product_int8, sum_int8, sum_int8_tables
from leanedge.targets.cortex_m.kernels.lookup import lookup

from leanedge.program.types import ElementwiseOptions, LeakyReluOptions, NoOptions

MAKERS = (sum_int8, sum_int8_tables)


def total(elements, scales=(0.02, 0.031, 0.043), zeros=(-128, 4, -9), kind="add", activation="none"):
    shape = (1, elements)
    inputs = [(shape, quant(scale, zero)) for scale, zero in zip(scales[:2], zeros, strict=False)]
    return one_layer(kind, inputs, (shape, quant(scales[2], zeros[2])), ElementwiseOptions(activation))


@st.composite
def totals(draw):
    scale = 10 ** draw(st.floats(-3, 0))
    factors = draw(st.sampled_from([(1, 1), (1, 2), (0.5, 1), (0.37, 1.1), (0.01, 1.3), (5.1, 9.7)]))
    return total(
        draw(st.integers(1, 40)),
        (scale, scale * factors[0], scale * factors[1]),
        draw(st.tuples(*[st.sampled_from([-128, -1, 0, 3, 127])] * 3)),
        draw(st.sampled_from(["add", "sub"])),
        draw(st.sampled_from(["none", "relu", "relu6"])),
    )


@given(st.lists(totals(), min_size=10, max_size=10))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_sum(programs):
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, MAKERS, "cortex-m4", f"s{n}")]
    assert {kernel.name for _, kernel in offers} >= {"sum_int8_tables"}
    assert_exact(offers, "cortex-m4")


@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m33"])
def test_residual_sum(core):
    program = total(4096 + 3)
    offers = [(program, kernel) for kernel in made(program, MAKERS, core, "s")]
    assert [kernel.name for _, kernel in offers] == ["sum_int8", "sum_int8_tables"]
    fewest = min(seen.counts.instructions for seen in assert_exact(offers, core))
    assert fewest / 4099 < 6


def test_ties_everywhere_need_the_tables():
    program = total(64, (0.02, 0.02, 0.04), (0, 0, 0))
    kernels = made(program, MAKERS, "cortex-m4", "s")
    assert [kernel.name for kernel in kernels] == ["sum_int8_tables"]
    assert_exact([(program, kernel) for kernel in kernels], "cortex-m4")


def test_broadcasting_and_constants_are_left_to_others():
    inputs = [((1, 4), quant(0.1, 0)), ((1, 1), quant(0.1, 0))]
    assert not made(one_layer("add", inputs, ((1, 4), quant(0.2, 0)), ElementwiseOptions()), MAKERS, "cortex-m4", "s")
    one = one_layer(
        "add",
        inputs[:1],
        ((1, 4), quant(0.2, 0)),
        ElementwiseOptions(),
        [(np.zeros((1, 4), np.int8), quant(0.1, 0))],
    )
    assert not made(one, MAKERS, "cortex-m4", "s")


def product(shape, repeated, scales=(0.02, 0.031, 0.043), zeros=(-128, 4, -9), activation="none"):
    inputs = [(shape, quant(scales[0], zeros[0])), (repeated, quant(scales[1], zeros[1]))]
    return one_layer("mul", inputs, (shape, quant(scales[2], zeros[2])), ElementwiseOptions(activation))


@st.composite
def products(draw):
    shape = (1, draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(2, 9)))
    scale = 10 ** draw(st.floats(-3, 0))
    return product(
        shape,
        draw(st.sampled_from([shape, (1, 1, 1, shape[3])])),
        (scale, 0.1, scale * draw(st.sampled_from([0.001, 0.1, 1.0, 5.7]))),
        draw(st.tuples(*[st.sampled_from([-128, -1, 0, 3, 127])] * 3)),
        draw(st.sampled_from(["none", "relu", "relu6"])),
    )


@given(st.lists(products(), min_size=10, max_size=10))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_product(programs):
    programs = [*programs, product((1, 37), (1, 37))]
    offers = [(p, k) for n, p in enumerate(programs) for k in made(p, (product_int8,), "cortex-m4", f"m{n}")]
    assert_exact(offers, "cortex-m4")


def test_products_of_other_shapes_are_left_to_others():
    for repeated in ((1, 1, 1), (1, 4, 1)):
        assert not made(product((1, 4, 3), repeated), (product_int8,), "cortex-m4", "m")


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
def test_functions_of_one_number(core):
    kinds = [("tanh", 33, 1 / 128, 0), ("logistic", 16, 1 / 256, -128), ("hard_swish", 5, 0.05, 3)]
    programs = [
        one_layer(kind, [((1, n), quant(0.03, -7))], ((1, n), quant(scale, zero)), NoOptions())
        for kind, n, scale, zero in kinds
    ]
    leaky = [((1, 500), quant(0.03, -7))], ((1, 500), quant(0.02, 9)), LeakyReluOptions(0.1)
    programs.append(one_layer("leaky_relu", *leaky))
    offers = [(p, k) for n, p in enumerate(programs) for k in made(p, (lookup,), core, f"l{n}")]
    assert len(offers) == 4
    assert assert_exact(offers, core)[-1].counts.instructions < 500 * 3.4
    assert not made(total(4), (lookup,), core, "l")
