from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_report import make_report

from leanedge.figures import Figure, unavailable
from leanedge.names import SCHEMES
from leanedge.report import wording
from leanedge.report.content import STATUSES, Report, Verdict


def test_every_name_has_words() -> None:
    assert set(wording.SCHEME_TITLES) == set(SCHEMES)
    assert set(wording.STATUS_WORDS) == set(STATUSES)


def ms(value: float, **detail: object) -> Figure:
    return Figure(value, "ms", "measured", detail)


@given(st.floats(1e-6, 1e12))
def test_quantities_keep_three_digits(value: float) -> None:
    factors = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}
    number, unit = wording.quantity(value, "bytes").split(" ")
    assert float(number) * factors[unit] == pytest.approx(value, rel=0.006, abs=0.51)
    number, unit = wording.quantity(value, "ms").split(" ")
    assert float(number) * {"µs": 1e-3, "ms": 1, "s": 1e3}[unit] == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (999, "bytes", "999 B"),
        (1000, "bytes", "1.00 KB"),
        (999_999, "bytes", "1.00 MB"),
        (0, "bytes", "0 B"),
        (0.042, "ms", "42.0 µs"),
        (0.9996, "ms", "1.00 ms"),
        (0.00004, "ms", "0.0400 µs"),
        (999.9, "ms", "1.00 s"),
        (2_500_000, "uJ", "2.50 J"),
        (31.44, "dB", "31.4 dB"),
        (-3.2, "ms", "-3.20 ms"),
        (0.12345, "", "0.123"),
        (1.0, "fraction", "100.0 %"),
    ],
)
def test_quantities(value: float, unit: str, text: str) -> None:
    assert wording.quantity(value, unit) == text


@pytest.mark.parametrize(
    ("name", "before", "after", "text"),
    [
        ("latency_ms", 46.0, 20.0, "2.3× faster"),
        ("latency_ms", 20.0, 46.0, "2.3× slower"),
        ("latency_ms", 100.0, 91.0, "9 % faster"),
        ("latency_ms", 100.0, 109.0, "9 % slower"),
        ("latency_ms", 100.0, 100.2, "no change"),
        ("flash_bytes", 100.0, 4.0, "25× smaller"),
        ("energy_uj", 10.0, 5.0, "2.0× less"),
    ],
)
def test_changes(name: str, before: float, after: float, text: str) -> None:
    assert wording.change(name, ms(before), ms(after)) == text


def test_a_change_needs_both_sides() -> None:
    assert wording.change("latency_ms", unavailable("ms", "x"), ms(1)) == ""
    assert wording.change("latency_ms", None, ms(1)) == ""


@pytest.mark.parametrize(
    ("before", "after", "unit", "higher", "text"),
    [
        (0.712, 0.704, "fraction", True, "0.8 points worse"),
        (0.704, 0.712, "fraction", True, "0.8 points better"),
        (0.7, 0.7, "fraction", True, "no change"),
        (2.0, 2.1, "", False, "5.0 % worse"),
        (2.0, 1.9, "", False, "5.0 % better"),
        (30.0, 24.0, "dB", True, "6.00 dB worse"),
        (0.0, 0.5, "", False, "0.500 worse"),
    ],
)
def test_accuracy_changes(before: float, after: float, unit: str, higher: bool, text: str) -> None:
    figures = [Figure(value, unit, "measured") for value in (before, after)]
    assert wording.accuracy_change(*figures, higher_is_better=higher) == text


@pytest.mark.parametrize(
    ("detail", "ends"),
    [
        ({"interval": [9, 11]}, (9, 11)),
        ({"low_ms": 8.0, "high_ms": 13.0, "error": 0.5}, (8, 13)),
        ({"spread_ms": 1.0}, (9.5, 10.5)),
        ({"error": 0.1}, (9, 11)),
        ({"interval": [None, None]}, None),
        ({"error": None}, None),
        ({}, None),
    ],
)
def test_intervals(detail: dict[str, object], ends: tuple[float, float] | None) -> None:
    assert wording.interval(ms(10.0, **detail)) == (ends if ends is None else pytest.approx(ends))


def test_how_a_figure_is_known() -> None:
    figure = Figure(
        10.0,
        "ms",
        "predicted",
        {
            "by": "counted instructions x constant",
            "low_ms": 8.0,
            "high_ms": 13.0,
            "error": 0.09,
            "models": 9,
            "threads": 1,
        },
    )
    assert wording.how_briefly(figure) == (
        "predicted by counted instructions x constant, 8.00 to 13.0 ms, typical error 9 %, 9 models, 1 thread"
    )
    assert wording.how(figure).startswith("predicted; by: counted instructions x constant; low ms: 8.00 ms")
    timed = ms(10.0, where="this machine", runs=31, spread_ms=0.4)
    assert wording.how_briefly(timed) == "measured on this machine, quartiles 9.80 to 10.2 ms, 31 runs"
    assert wording.how_briefly(unavailable("ms", "no clock")) == "unavailable: no clock"
    nested = Figure(3, "bytes", "proved", {"files": {"model.onnx": 3}, "ok": True})
    assert wording.how(nested) == "proved; files: model.onnx 3; ok: yes"


def test_an_excess_is_in_the_unit_of_its_limit(report: Report) -> None:
    lossy = next(row for row in report.candidates if row.status == "too_lossy")
    assert wording.excess(lossy) == "1.9 points beyond the loss allowed"
    error = replace(lossy, figures={"accuracy": Figure(2.0, "", "measured")}, excess={"accuracy": 1.25})
    assert wording.excess(error) == "1.2 % beyond the loss allowed"
    big = next(row for row in report.candidates if row.status == "too_big")
    assert wording.excess(big) == "flash over by 4.53 MB"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "Passed"),
        ({"verdict": Verdict(False)}, "Failed"),
        ({"interrupted": True}, "Interrupted, passed"),
        ({"chosen": None, "verdict": Verdict(False)}, "Nothing fits"),
        ({"chosen": None, "verdict": Verdict(False), "interrupted": True}, "Interrupted"),
    ],
)
def test_headlines(changes: dict[str, object], word: str) -> None:
    assert wording.headline(make_report(**changes))[0] == word


def test_the_float_model_itself_is_said_as_such(report: Report) -> None:
    figures = dict.fromkeys(("latency_ms", "latency_ms_fp32"), report.figures["latency_ms"])
    assert report.chosen is not None
    chosen = replace(report.chosen, scheme="fp32")
    assert wording.headline(replace(report, figures=figures, chosen=chosen))[1] == "Built as fp32."
    assert wording.headline(replace(report, figures=figures))[1] == f"Built for {report.target.title}."


def test_an_accuracy_that_stays_is_said(report: Report) -> None:
    figures = {**report.figures, "accuracy": report.figures["accuracy_fp32"]}
    assert "top1 unchanged, compared" in wording.headline(replace(report, figures=figures))[1]
