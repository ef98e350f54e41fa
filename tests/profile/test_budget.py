"""Budgets: parsing, its refusals, and the excess of an estimate."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanedge.budget import KEYS, UNITS, Budget, Estimate, format_amount, parse_amount, parse_budget
from leanedge.errors import UsageError
from leanedge.figures import Figure, unavailable

AMOUNTS = st.integers(min_value=1, max_value=10**6)


def _estimate(**values: float) -> Estimate:
    """One of each figure: 1 unless given."""
    return Estimate(**{name: Figure(values.get(name, 1.0), "unit", "measured") for name in UNITS})


def test_the_issue_s_example() -> None:
    budget = parse_budget("latency=20ms,ram=64MB,flash=8MB,energy=5mJ")
    assert budget == Budget(latency_ms=20, ram_bytes=64_000_000, flash_bytes=8_000_000, energy_uj=5000)


def test_budget_and_estimate_have_the_same_fields_in_the_same_order() -> None:
    *limited, more = (f.name for f in fields(Estimate))
    assert more == "more"
    assert [f.name for f in fields(Budget)] == limited == list(UNITS) == list(KEYS.values())


def test_k_is_1000_and_ki_is_1024() -> None:
    assert parse_budget("ram=1KB").ram_bytes == 1000
    assert parse_budget("ram=1KiB").ram_bytes == 1024
    assert parse_budget("flash=2MB").flash_bytes == 2_000_000
    assert parse_budget("flash=2MiB").flash_bytes == 2 << 20


def test_nothing_asked_nothing_limited() -> None:
    assert parse_budget("") == Budget()
    assert parse_budget("").excess(_estimate(latency_ms=1e9)) == {}


@given(st.sampled_from(sorted(KEYS)), AMOUNTS, st.data())
def test_any_unit_of_a_key_means_the_same_amount(key: str, amount: int, data: st.DataObject) -> None:
    field = KEYS[key]
    unit = data.draw(st.sampled_from(sorted(UNITS[field])))
    value = getattr(parse_budget(f"{key}={amount}{unit}"), field)
    assert value == pytest.approx(amount * UNITS[field][unit], rel=1e-12)


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), AMOUNTS, min_size=1), st.randoms())
def test_order_and_spaces_do_not_matter(amounts: dict[str, int], random: object) -> None:
    unit = {"latency": "ms", "ram": "B", "flash": "B", "energy": "uJ"}
    parts = [f"{key}={amount}{unit[key]}" for key, amount in amounts.items()]
    shuffled = sorted(parts, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert parse_budget(",".join(parts)) == parse_budget(" , ".join(part.replace("=", " = ") for part in shuffled))


@given(AMOUNTS, AMOUNTS, st.sampled_from(sorted(UNITS)))
def test_excess_is_what_is_above_the_limit_and_nothing_else(limit: int, cost: int, field: str) -> None:
    excess = Budget(**{field: limit}).excess(_estimate(**{field: cost}))
    assert excess == ({field: cost - limit} if cost > limit else {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latncy=20ms", "unknown key 'latncy'(.|\n)*did you mean 'latency'"),
        ("ram=64mb", "unknown unit 'mb'(.|\n)*did you mean 'MB'"),
        ("latency=20", "no unit"),
        ("latency=20MB", "unknown unit 'MB'"),
        ("latency", "no amount"),
        ("latency=ms", "not an amount"),
        ("latency=0ms", "can never be met"),
        ("ram=-1MB", "can never be met"),
        ("ram=1e400MB", "can never be met"),
        ("ram=nanMB", "not an amount"),
        ("ram=1MB,ram=2MB", "given twice"),
        ("ram=1MB,,flash=2MB", "empty entry"),
        ("ram=1 000MB", "not an amount"),
    ],
)
def test_what_can_not_be_a_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        parse_budget(text)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_budget_of_nothing_is_refused_from_python_too(value: float) -> None:
    with pytest.raises(UsageError, match="above zero"):
        Budget(latency_ms=value)


def test_a_limit_on_a_figure_that_is_not_known_is_an_error_with_the_reason() -> None:
    estimate = Estimate(
        latency_ms=unavailable("ms", "the device has no constants"),
        ram_bytes=Figure(1, "bytes", "measured"),
        flash_bytes=Figure(1, "bytes", "proved"),
        energy_uj=unavailable("uJ", "no power figure"),
    )
    assert Budget(ram_bytes=2).excess(estimate) == {}
    with pytest.raises(UsageError, match=r"latency_ms can't be checked(.|\n)*no constants(.|\n)*leave latency out"):
        Budget(latency_ms=5).excess(estimate)


def test_amounts_read_well() -> None:
    assert format_amount(8_388_608, "flash_bytes") == "8.39 MB"
    assert format_amount(0.25, "latency_ms") == "250 us"
    assert format_amount(0.5, "ram_bytes") == "0.5 B"
    assert parse_amount("1.5 s", "latency_ms") == 1500
