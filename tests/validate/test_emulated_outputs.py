"""The real emulator: integer kernels are equal bit for bit, float kernels within the tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
import two_sides
from leanedge.targets._programs.get_programs import main as get_programs

from leanedge.profile import load_profile
from leanedge.validate import emulate


@pytest.mark.parametrize(("kind", "scheme"), [("linux_onnxruntime", "w8a8"), ("linux_tflite", "fp32")])
def test_this_machine_and_the_board_agree(kind: str, scheme: str, tmp_path: Path) -> None:
    assert get_programs([]) == 0
    graph, samples = two_sides.classifier()
    artifact, proving = two_sides.exported(graph, samples, kind, scheme, tmp_path)
    found = emulate(artifact, proving, load_profile("rpi4"))
    assert [check.passed for check in found.checks] == [True] * len(found.checks), found.checks
    words = "equal bit for bit" if scheme == "w8a8" else "largest difference"
    assert all(words in check.detail for check in found.checks)
    assert all(count > 1000 for count in found.instructions.values())
    assert set(found.outputs) == set(found.versions)
