from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from made_up_report import make_report

from leanedge.report.content import Check, Report, Verdict
from leanedge.report.junit import to_junit, write_junit
from leanedge.report.markdown import to_markdown, write_markdown

if TYPE_CHECKING:
    from pathlib import Path


def test_checks_become_test_cases(report: Report, tmp_path: Path) -> None:
    write_junit(report, tmp_path / "report.xml")
    suite = ET.parse(tmp_path / "report.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "0", "1")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [check.name for check in report.verdict.checks]
    assert {case.get("classname") for case in cases} == {"leanedge.rpi4"}
    assert [case.find("skipped") is not None for case in cases] == [False] * 4 + [True]
    assert cases[0].findtext("system-out") == "32 samples, 32 000 values equal (bit for bit)"


def test_a_failure_is_a_failure() -> None:
    report = make_report(verdict=Verdict(False, (Check("outputs", False, "3 of 10 differ", "bit for bit"),)))
    root = ET.fromstring(to_junit(report))
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "3 of 10 differ (bit for bit)"
    assert len(root.findall("testsuite/testcase")) == 1


def test_a_verdict_that_fails_without_a_failed_check_is_a_failure_too() -> None:
    report = make_report(verdict=Verdict(False, (Check("emulator", None, "not installed"),)))
    suite = ET.fromstring(to_junit(report)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")
    assert suite.findall("testcase")[-1].find("failure") is not None


@pytest.mark.parametrize("name", ["a\x00b\x1b[31m", "<&\"'>]]>", "\ud800", "日本 🙂"])
def test_any_name_is_valid_xml(name: str) -> None:
    report = make_report(verdict=Verdict(True, (Check(name, True, name, name), Check(name, None, name))))
    root = ET.fromstring(to_junit(report).encode("utf-8"))
    assert len(root.findall("testsuite/testcase")) == 2


def test_markdown_holds_the_result(report: Report, tmp_path: Path) -> None:
    write_markdown(report, tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# mobilenet\\_v2.onnx for Raspberry Pi 4 Model B, 4 GB\n\n**Passed.**")
    assert "| latency | 46.0 ms | 20.2 ms | 2.3× faster | predicted by counted instructions x constant" in text
    assert "| energy | – | unavailable |" in text
    assert "| not checked | on the device |" in text
    assert "| w8a8 | dense | openvino | – | – | – | – | refused: the profile rpi4 has no runtime 'openvino' |" in text
    assert "top1 measured | latency predicted | flash proved | RAM measured" in text


def test_markdown_tables_keep_their_columns() -> None:
    hostile = "a|b\n| c |\r\n<script>`*_[x](http://y)"
    rows = tuple(replace(row, reason=hostile, runtime=hostile, excess={}) for row in make_report().candidates)
    verdict = Verdict(False, (Check(hostile, False, hostile, hostile),))
    text = to_markdown(make_report(candidates=rows, verdict=verdict, notes=(hostile,)))
    assert "<script>" not in text
    assert "[x](" not in text
    lines = text.splitlines()
    widths = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert widths == {5, 6, 9}
    assert sum(line.startswith("| ") for line in lines) == 7 + 3 + 27


def test_nothing_fits_in_markdown() -> None:
    text = to_markdown(make_report(chosen=None, verdict=Verdict(False)))
    assert "**Nothing fits.**" in text
    assert "how it is known" not in text
