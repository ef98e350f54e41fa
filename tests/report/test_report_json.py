import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_report import make_report

from leanedge.errors import InputError
from leanedge.figures import Figure
from leanedge.report.content import Check, Report, Verdict
from leanedge.report.json_file import read_report, to_json, write_json


def test_the_required_keys_are_there(report: Report) -> None:
    content = json.loads(to_json(report))
    assert content["schema"] == 1
    assert {"name", "title", "kind"} <= set(content["target"])
    assert {"pattern", "scheme", "runtime"} <= set(content["chosen"])
    assert all(set(each) == {"path", "bytes", "sha256"} for each in content["artifact"]["files"])
    assert content["figures"]["energy_uj"] == {
        "value": None,
        "unit": "uJ",
        "how": "unavailable",
        "detail": {"reason": "the profile states no power for this load"},
    }
    assert len(content["candidates"]) == 25
    assert content["verdict"]["passed"] is True
    assert {"name", "passed", "detail", "rule"} == set(content["verdict"]["checks"][0])


def test_reads_back_the_same(report: Report, tmp_path: Path) -> None:
    write_json(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_nothing_chosen_reads_back(tmp_path: Path) -> None:
    report = make_report(chosen=None, verdict=Verdict(False))
    write_json(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("-inf"), [1.0, float("nan")]])
def test_refuses_numbers_that_json_has_not(bad: object) -> None:
    report = make_report(figures={"accuracy": Figure(1.0, "fraction", "measured", {"spread": bad})})
    with pytest.raises(ValueError, match=r"report\.figures\.accuracy\.detail\.spread.* is -?(nan|inf)"):
        to_json(report)


def test_refuses_what_json_can_not_hold() -> None:
    report = make_report(figures={"accuracy": Figure(1.0, "fraction", "measured", {"where": Path("x")})})
    with pytest.raises(TypeError, match=r"report\.figures\.accuracy\.detail\.where is a PosixPath"):
        to_json(report)


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**60), 2**60), st.text()))
def test_details_survive(value: object) -> None:
    report = make_report(figures={"x": Figure(1.5, "ms", "measured", {"detail": value})})
    assert json.loads(to_json(report))["figures"]["x"]["detail"]["detail"] == value


def test_numpy_values_become_plain() -> None:
    detail = {"n": np.int64(3), "interval": np.array([0.5, 0.75]), "ok": np.bool_(True)}
    report = make_report(figures={"x": Figure(np.float32(0.5), "ms", "measured", detail)})  # type: ignore[arg-type]
    assert json.loads(to_json(report))["figures"]["x"] == {
        "value": 0.5,
        "unit": "ms",
        "how": "measured",
        "detail": {"n": 3, "interval": [0.5, 0.75], "ok": True},
    }


def damaged(tmp_path: Path, change: dict[str, object]) -> Path:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**make_report().to_dict(), **change}), encoding="utf-8")
    return path


def test_refuses_a_newer_schema(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="newer LeanEdge"):
        read_report(damaged(tmp_path, {"schema": 2}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": True}, "no 'schema' number"),
        ({"surprise": 1}, "unknown key.* surprise"),
        ({"candidates": {}}, r"report\.candidates is '{}', not a list"),
        ({"interrupted": "no"}, r"report\.interrupted is 'no', not of type bool"),
        ({"figures": {"x": {"value": 1}}}, r"report\.figures\.x is .* not a figure"),
        ({"tool": {}}, r"report\.tool lacks version"),
    ],
)
def test_refuses_a_damaged_report(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_report(damaged(tmp_path, change))


def test_refuses_what_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(InputError, match="can't be read"):
        read_report(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        read_report(path)
    path.write_text('{"schema": NaN}', encoding="utf-8")
    with pytest.raises(InputError, match="NaN is not a JSON number"):
        read_report(path)


def test_a_verdict_can_not_pass_with_a_failed_check() -> None:
    with pytest.raises(ValueError, match="can't pass"):
        Verdict(True, (Check("outputs", False, "differ"),))
