"""From a float model and samples to firmware that is proved in emulation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_classifier

import leanedge
from leanedge.errors import UnsupportedOperator
from leanedge.report.terminal import silent_steps
from leanedge.revalidate import revalidate

LABELS = ("rest", "walk", "run", "jump", "fall")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_results(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of this module only; programs stay where `tools/get-programs` put them."""
    monkeypatch.setattr("leanedge.cache.results_root", lambda: cache)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model of few channels, its samples, and settings that name the classes and how pixels become values."""
    folder = tmp_path_factory.mktemp("model")
    model = small_classifier.classifier(channels=4)
    onnx.save(model, folder / "steps.onnx")
    np.savez(folder / "samples.npz", **small_classifier.samples(model, 200))
    text = f"schema: 1\nlabels: [{', '.join(LABELS)}]\ninputs: {{image: {{scale: 0.5, mean: 1.0}}}}\n"
    (folder / "leanedge.yaml").write_text(text)
    return {"model": folder / "steps.onnx", "data": folder / "samples.npz", "settings": folder / "leanedge.yaml"}


@pytest.fixture(scope="module")
def built(inputs: dict[str, Any], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a build for a Cortex-M4 board."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanedge.cache.results_root", lambda: cache)
        folder = tmp_path_factory.mktemp("built") / "out"
        result = leanedge.build(**inputs, target="nucleo-l4r5zi", output=folder)
    assert result.exit_code == 0, result.summary()
    return folder


def test_a_build_says_how_each_figure_is_known(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    assert report["verdict"]["passed"]
    assert all(check["passed"] for check in report["verdict"]["checks"])
    assert "emulator.generated_c.outputs" in {check["name"] for check in report["verdict"]["checks"]}
    hows = {name: figure["how"] for name, figure in report["figures"].items()}
    expected = {
        "accuracy": "measured",
        "flash_bytes": "proved",
        "ram_bytes": "proved",
        "arena_bytes": "proved",
        "stack_bytes": "proved",
        "instructions": "measured",
        "cycles": "predicted",
        "latency_ms": "predicted",
    }
    assert {name: hows[name] for name in expected} == expected
    assert (built / "firmware.bin").stat().st_size == report["figures"]["flash_bytes"]["value"]
    assert report["layers"]
    assert report["memory"]["steps"]


def test_the_header_names_classes_model_and_device(built: Path) -> None:
    header = (built / "c/steps.h").read_text()
    for label in LABELS:
        assert f'"{label}"' in header
    assert json.loads((built / "report.json").read_text())["model"]["sha256"] in header
    assert "leanedge build steps.onnx --target nucleo-l4r5zi --optimize speed" in header
    assert "#define STEPS_INPUT_PIXEL_SCALE {0.5" in header
    assert str(built.parent) not in "".join(path.read_text() for path in (built / "c").iterdir())


def test_a_plan_builds_the_same_firmware_again(
    inputs: dict[str, Any], built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanedge.cache.results_root", lambda: tmp_path / "another-cache")
    again = leanedge.build(**inputs, target="nucleo-l4r5zi", output=tmp_path / "again", plan=built / "plan.json")
    for file in again.report.artifact.files:
        assert (tmp_path / "again" / file.path).read_bytes() == (built / file.path).read_bytes(), file.path
    assert (tmp_path / "again/manifest.json").read_bytes() == (built / "manifest.json").read_bytes()


@pytest.mark.parametrize("on", ["host", "emulator"])
def test_what_was_built_is_validated_again(built: Path, on: str) -> None:
    verdict = revalidate(built, on, silent_steps())
    assert verdict.passed
    assert any(check.name.startswith(on) for check in verdict.checks)


def test_a_changed_image_is_found_by_its_hash_and_by_its_outputs(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(built, folder)
    image = bytearray((folder / "firmware.elf").read_bytes())
    weights = (built / "firmware.bin").read_bytes()[-64:]
    at = image.rindex(weights)
    image[at : at + 64] = bytes(byte ^ 0x55 for byte in weights)
    (folder / "firmware.elf").write_bytes(image)
    verdict = revalidate(folder, "emulator", silent_steps())
    assert {check.name for check in verdict.checks if check.passed is False} == {
        "files",
        "emulator.generated_c.outputs",
    }


def test_a_candidate_without_a_kernel_is_refused_and_the_others_stand(
    inputs: dict[str, Any], built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanedge import pricing

    real = pricing.build_artifact

    def without(artifact: Any, profile: Any, options: Any) -> Any:
        if any("dense" in line for line in options.made_from):
            raise UnsupportedOperator("there is no C kernel for this", where="first")
        return real(artifact, profile, options)

    monkeypatch.setattr(pricing, "build_artifact", without)
    result = leanedge.build(**inputs, target="nucleo-l4r5zi", output=tmp_path / "out")
    row = next(row for row in result.report.candidates if row.pattern == "dense")
    assert row.status == "refused"
    assert "there is no C kernel" in row.reason
    assert result.report.chosen is not None

    monkeypatch.setattr(pricing, "build_artifact", lambda *_: without(None, None, pricing_options()))
    with pytest.raises(UnsupportedOperator):
        leanedge.build(**inputs, target="nucleo-l4r5zi", output=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def pricing_options() -> Any:
    from leanedge.target import BuildOptions

    return BuildOptions(made_from=("w8a8, dense.",))
