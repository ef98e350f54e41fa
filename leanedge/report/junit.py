"""``report.xml``: the verdict's checks as JUnit test cases, which CI systems show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from leanedge.report import wording
from leanedge.report.content import Check

if TYPE_CHECKING:
    from pathlib import Path

    from leanedge.report.content import Report

__all__ = ["to_junit", "write_junit"]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(report: Report, path: Path) -> None:
    """Writes report.xml at `path`."""
    path.write_text(to_junit(report), encoding="utf-8")


def to_junit(report: Report) -> str:
    """One test case a check: failed, skipped when it was not checked, or passed.

    When the verdict failed though no check did (nothing fits, or a check that was required could not be made), a
    test case ``verdict`` fails with that reason.
    """
    checks = list(report.verdict.checks)
    if not report.verdict.passed and not any(check.passed is False for check in checks):
        checks.append(
            Check("verdict", False, " ".join(wording.headline(report)) + f" {wording.checks_sentence(report.verdict)}")
        )
    suite = ET.Element(
        "testsuite",
        name=_legal(f"leanedge {report.target.name}"),
        tests=str(len(checks)),
        failures=str(sum(check.passed is False for check in checks)),
        errors="0",
        skipped=str(sum(check.passed is None for check in checks)),
    )
    if report.created:
        suite.set("timestamp", _legal(report.created))
    for check in checks:
        case = ET.SubElement(
            suite, "testcase", classname=_legal(f"leanedge.{report.target.name}"), name=_legal(check.name)
        )
        detail = _legal(f"{check.detail} ({check.rule})" if check.rule else check.detail)
        if check.passed:
            ET.SubElement(case, "system-out").text = detail
        else:
            ET.SubElement(case, "failure" if check.passed is False else "skipped", message=detail)
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _legal(text: str) -> str:
    """XML has no way to write control characters."""
    return _NOT_XML.sub("\ufffd", text)
