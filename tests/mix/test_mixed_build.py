"""A model with a place that int8 breaks: a mixed one is built, and the fully integer row stands beside it."""

from __future__ import annotations

import json
from pathlib import Path

import fragile
import pytest
import yaml

import leanedge
from leanedge import resources


@pytest.mark.parametrize("kind", ["linux_onnxruntime", "linux_tflite"])
def test_few_operators_in_float_save_a_model_that_int8_breaks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path / "cache"))
    board = yaml.safe_load((resources.folder("device_profiles") / "x86-avx2.yaml").read_text())
    board["runtimes"] = [entry for entry in board["runtimes"] if entry["target"] == kind]
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(board))
    model, samples = fragile.write(tmp_path)

    result = leanedge.build(model, target=tmp_path / "board.yaml", data=samples, max_drop=5, output=tmp_path / "out")

    assert result.exit_code == 0, result.summary()
    chosen = result.report.chosen
    assert chosen is not None
    assert chosen.scheme == "mixed"
    rows = {row.id: row for row in result.report.candidates}
    runtime = chosen.runtime
    integer = rows[f"w8a8/dense/{runtime}"]
    assert integer.status in ("too_lossy", "failed")
    assert integer.reason
    assert "making" not in integer.reason  # no name of a temporary folder
    if integer.status == "too_lossy":
        assert integer.excess["accuracy"] > 5

    plan = json.loads((tmp_path / "out/plan.json").read_text())
    assert 1 <= len(plan["float_operators"]) <= 4
    assert "expand" in plan["float_operators"]
    layers = {layer.id: layer for layer in result.report.layers}
    for name in plan["float_operators"]:
        assert layers[name].in_float, name
        assert layers[name].weight_bits == 32
    integers = [layer for layer in result.report.layers if layer.weight_bits == 8]
    assert integers
    assert not any(layer.in_float for layer in integers)
    # It is smaller than float, or it would not have been chosen.
    size, whole = (
        rows[chosen.id].figures["flash_bytes"].value,
        rows[f"fp32/dense/{runtime}"].figures["flash_bytes"].value,
    )
    assert size is not None
    assert whole is not None
    assert size < whole
