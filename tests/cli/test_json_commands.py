"""What `--json` prints of each command that only tells something: nothing else on stdout, and the facts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from leanedge import candidates, cli
from leanedge.load import load_model
from leanedge.profile import list_profiles, load_profile

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
import small_classifier


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["leanedge", *words, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    return json.loads(capsys.readouterr().out)


def test_targets_lists_every_device(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [item["name"] for item in told(capsys, monkeypatch, "targets")] == list(list_profiles())


def test_targets_show_is_the_profile(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = told(capsys, monkeypatch, "targets", "show", "rpi4")
    assert shown["cpu"]["core"] == "cortex-a72"
    assert shown["memory"][0]["source"]


def test_doctor_names_each_thing_and_what_gets_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanedge.doctor._version", lambda name: "" if name == "openvino" else "1.0")
    found = {item["name"]: item for item in told(capsys, monkeypatch, "doctor")}
    assert found["python"]["needed"]
    assert not found["openvino"]["needed"]
    assert found["openvino"]["get"] == "pip install 'leanedge[openvino]'"
    assert {"ziglang", "unicorn", "qemu-aarch64", "arm-none-eabi-gcc", "qemu-system-arm"} <= set(found)


def test_inspect_tells_layers_and_what_a_device_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = small_classifier.write(tmp_path, count=8)
    found = told(capsys, monkeypatch, "inspect", str(model), "--target", "rpi4")
    assert len(found["layers"]) >= 3
    assert found["macs"] == sum(layer["macs"] or 0 for layer in found["layers"])


def test_a_kind_whose_packages_are_absent_is_refused_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = small_classifier.write(tmp_path, count=8)
    graph = load_model(model, {}).graph
    monkeypatch.setattr(candidates, "missing_modules", lambda needs: tuple(n for n in needs if n == "ai_edge_litert"))
    made, refused = candidates.propose(graph, load_profile("rpi4"))
    assert {item.kind for item in made} == {"linux_onnxruntime"}
    lite = [item for item in refused if item.candidate.kind == "linux_tflite"]
    assert lite
    assert all(item.reason == "not installed on this machine: ai_edge_litert" for item in lite)
