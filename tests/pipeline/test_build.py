"""The main job, from a model and samples to a proved artifact, on a small model made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import small_classifier

import leanedge
from leanedge import resources
from leanedge.errors import DataError, ProfileError, UsageError
from leanedge.report.terminal import silent_steps
from leanedge.revalidate import revalidate


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_results(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of this module only; the emulator's root stays where `tools/get-programs` put it."""
    monkeypatch.setattr("leanedge.cache.results_root", lambda: cache)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small_classifier.write(tmp_path_factory.mktemp("model"))


def test_a_build_for_an_emulated_board_passes_and_says_how_each_figure_is_known(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    result = leanedge.build(inputs[0], target="rpi4", data=inputs[1], output=tmp_path / "out")

    assert result.exit_code == 0, result.summary()
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["verdict"]["passed"]
    checks = {check["name"]: check["passed"] for check in report["verdict"]["checks"]}
    assert checks["test.accuracy"] is True
    assert any(name.startswith("emulator.") and passed for name, passed in checks.items()), checks
    figures = report["figures"]
    assert figures["flash_bytes"]["how"] == "proved"
    assert figures["flash_bytes"]["value"] == sum(file["bytes"] for file in report["artifact"]["files"])
    assert figures["latency_ms"]["how"] == "predicted"
    assert figures["accuracy"]["how"] == "measured"
    assert figures["accuracy"]["detail"]["n"] == report["data"]["sets"]["test"]
    for name in ("report.html", "report.md", "report.xml", "manifest.json", "plan.json"):
        assert (tmp_path / "out" / name).is_file(), name
    made = [row for row in report["candidates"] if row["status"] not in ("refused", "not_tried", "failed")]
    assert {row["scheme"] for row in made} >= {"fp32", "fp16", "w8a8"}
    assert {row["runtime"] for row in made} >= {"onnxruntime", "ai_edge_litert"}
    assert all(row["reason"] for row in report["candidates"] if row["status"] not in ("chosen", "fits"))


def test_a_plan_builds_the_same_bytes_again(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "first")
    monkeypatch.setattr("leanedge.cache.results_root", lambda: tmp_path / "another-cache")
    plan = tmp_path / "first/plan.json"
    again = leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "again", plan=plan)

    assert again.report.artifact == first.report.artifact
    for name in ("plan.json", "samples.npz", "rules.json", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes(), name


def test_a_plan_of_another_model_or_device_is_refused(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "first")
    plan = tmp_path / "first/plan.json"
    other = json.loads(plan.read_text())
    for key, value, word in (("model_sha256", "0" * 64, "another model"), ("target", "rpi4", "another target")):
        changed = tmp_path / f"{key}.json"
        changed.write_text(json.dumps({**other, key: value}))
        with pytest.raises(UsageError, match=word):
            leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "again", plan=changed)
    assert not (tmp_path / "again").exists()


def test_test_labels_of_another_kind_are_refused_before_anything_is_made(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AssertionError("candidates are made")

    monkeypatch.setattr("leanedge.pipeline._make", fails)
    with np.load(inputs[1]) as file:
        arrays = {name: file[name] for name in file.files}
    out_of_range = {**arrays, "y": np.full(len(arrays["y"]), 99)}
    with pytest.raises(DataError, match="label 99"):
        leanedge.build(inputs[0], target="host", data=arrays, test_data=out_of_range, output=tmp_path / "out")
    without = {name: array for name, array in arrays.items() if name != "y"}
    with pytest.raises(DataError, match="test data has no labels"):
        leanedge.build(inputs[0], target="host", data=arrays, test_data=without, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_runtime_of_another_kind_is_refused(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    text = (resources.folder("device_profiles") / "rpi4.yaml").read_text()
    profile = tmp_path / "board.yaml"
    profile.write_text(text.replace("target: linux_onnxruntime", "target: linux_tflite", 1))
    with pytest.raises(ProfileError, match="onnxruntime does not run") as caught:
        leanedge.build(inputs[0], target=profile, data=inputs[1], output=tmp_path / "out")
    assert "tflite_runtime" in caught.value.allowed


def test_a_runtime_that_fails_while_it_runs_refuses_the_candidate(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanedge.targets._linux import runner

    monkeypatch.setattr("leanedge.cache.results_root", lambda: tmp_path / "another-cache")
    real = runner.open_model

    def broken(runtime: str, *rest: object) -> runner.Session:
        session = real(runtime, *rest)
        if runtime != "ai_edge_litert":
            return session

        def invoke() -> None:
            raise RuntimeError("node 3 failed to invoke")

        return session._replace(invoke=invoke)

    monkeypatch.setattr("leanedge.targets._linux.session.open_model", broken)
    result = leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "out")
    rows = [row for row in result.to_dict()["candidates"] if row["runtime"] == "ai_edge_litert"]
    assert all(row["status"] in ("failed", "refused", "not_tried") for row in rows)
    assert any("node 3 failed to invoke" in row["reason"] for row in rows)
    assert result.report.chosen is not None


def test_a_second_build_repeats_nothing(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leanedge.build(inputs[0], target="rpi4", data=inputs[1], output=tmp_path / "out")

    def fails(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    for name in ("leanedge.evaluate.make", "leanedge.proof.emulate", "leanedge.targets._linux.trial.run_job"):
        monkeypatch.setattr(name, fails)
    result = leanedge.build(inputs[0], target="rpi4", data=inputs[1], output=tmp_path / "out")
    assert result.exit_code == 0
    assert any("cached" in check.detail for check in result.report.verdict.checks)


def test_nothing_fits_is_an_answer_that_says_by_how_much(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    result = leanedge.build(inputs[0], target="host", data=inputs[1], budget="flash=200B", output=tmp_path / "out")

    assert result.exit_code == 3
    assert result.artifact is None
    assert result.report.chosen is None
    rows = [row for row in result.report.candidates if row.figures]
    assert rows
    for row in rows:
        size = row.figures["flash_bytes"].value
        assert size is not None
        assert row.excess["flash_bytes"] == size - 200


def test_the_budget_decides(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    dense = leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "free", max_drop=0)
    sizes = sorted(
        row.figures["flash_bytes"].value or 0 for row in dense.report.candidates if row.figures and row.scheme != "fp32"
    )
    limit = sizes[len(sizes) // 2]
    bound = leanedge.build(
        inputs[0], target="host", data=inputs[1], budget=f"flash={limit:.0f}B", max_drop=100, output=tmp_path / "bound"
    )
    assert bound.exit_code in (0, 4)
    assert (bound.report.figures["flash_bytes"].value or 0) <= limit


def test_without_an_emulator_the_artifact_stands_and_says_so(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanedge.errors import MissingProgram

    def missing(*_: object, **__: object) -> None:
        raise MissingProgram("qemu-aarch64 is not on PATH", hint="get it")

    monkeypatch.setattr("leanedge.targets._linux.trial.run_job", missing)
    monkeypatch.setattr("leanedge.cache.results_root", lambda: tmp_path / "cache")
    result = leanedge.build(inputs[0], target="rpi4", data=inputs[1], output=tmp_path / "out")
    assert result.exit_code == 0
    assert result.artifact is not None
    left = [check for check in result.report.verdict.checks if check.passed is None]
    assert left
    assert all("not checked" in check.detail for check in left)
    latency = result.report.figures["latency_ms"]
    assert (latency.value, latency.how) == (None, "unavailable")

    strict = leanedge.build(
        inputs[0], target="rpi4", data=inputs[1], output=tmp_path / "strict", require_validation=True
    )
    assert strict.exit_code == 4


def test_validate_sees_a_changed_file_and_changed_outputs(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "out")
    assert revalidate(tmp_path / "out", "host", silent_steps()).passed

    samples = dict(np.load(tmp_path / "out/samples.npz"))
    samples["output:logits"] = samples["output:logits"] + 1
    np.savez_compressed(tmp_path / "out/samples.npz", **samples)
    verdict = revalidate(tmp_path / "out", "host", silent_steps())
    assert [check.name for check in verdict.checks if check.passed is False] == ["files", "host.outputs"]


def test_a_model_in_memory_and_arrays_build_too(tmp_path: Path) -> None:
    model = small_classifier.classifier()
    data = small_classifier.samples(model)
    result = leanedge.build(model, target="host", data=data, output=tmp_path / "out")
    assert result.exit_code == 0
    assert result.to_dict()["model"]["name"]
    assert "accuracy" in result.to_dict()["figures"]


def test_the_original_is_not_changed(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    before = onnx.load(inputs[0]).SerializeToString()
    leanedge.build(inputs[0], target="host", data=inputs[1], output=tmp_path / "out")
    assert onnx.load(inputs[0]).SerializeToString() == before
