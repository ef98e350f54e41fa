"""docs/report.md names every field of report.json, and no other."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from leanedge.export.folder import REPORTS
from leanedge.report import content

TEXT = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")

SECTIONS: dict[str, type] = {
    "report": content.Report,
    "tool": content.ToolInfo,
    "target": content.TargetInfo,
    "model": content.ModelInfo,
    "tensor": content.TensorInfo,
    "data": content.DataInfo,
    "budget": content.BudgetInfo,
    "chosen": content.Chosen,
    "artifact": content.ArtifactInfo,
    "candidate": content.CandidateRow,
    "layer": content.LayerRow,
    "memory": content.MemoryInfo,
    "verdict": content.Verdict,
    "check": content.Check,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_documented(section: str) -> None:
    body = re.split(r"^#+ ", TEXT.split(f"\n### {section}\n")[1], flags=re.M)[0]
    table = body.split("| --- | --- |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) == {each.name for each in fields(SECTIONS[section])}


def test_there_is_no_other_section() -> None:
    assert set(re.findall(r"^### (.*)$", TEXT, re.M)) == set(SECTIONS)


def test_every_status_is_documented() -> None:
    table = TEXT.split("| status | meaning |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)`", table, re.M)) == content.STATUSES


def test_every_report_file_is_documented() -> None:
    for name in REPORTS:
        assert f"`{name}`" in TEXT
