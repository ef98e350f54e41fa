"""`leanedge validate` on whole and damaged folders: a failed check or a clear refusal, never a traceback."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import two_sides

from leanedge import cli
from leanedge.export.folder import write_manifest
from leanedge.graph.run import run_all
from leanedge.profile import load_profile
from leanedge.revalidate import keep_for_revalidation
from leanedge.target import load_target

KIND = "linux_onnxruntime"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build writes for validation."""
    folder = tmp_path_factory.mktemp("built")
    graph, samples = two_sides.classifier()
    artifact, proving = two_sides.exported(graph, samples, KIND, "w8a8", folder)
    run = load_target(KIND).open(artifact, 1)
    keep_for_revalidation(folder, artifact, proving, lambda taken: run_all(run, taken), load_profile("rpi4"))
    write_manifest(folder, versions={"leanedge": "0"}, seeds={}, hashes={})
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


def validate(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, on: str = "host"
) -> tuple[int, Any, str]:
    """Exit code, the JSON on stdout (None without any) and what stands on stderr."""
    monkeypatch.setattr(sys, "argv", ["leanedge", "validate", str(folder), "--on", on, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    seen = capsys.readouterr()
    assert "Traceback" not in seen.out + seen.err
    assert "internal error" not in seen.err
    return int(stopped.value.code or 0), json.loads(seen.out) if seen.out else None, seen.err


def checks(verdict: Any) -> dict[str, Any]:
    return {check["name"]: check["passed"] for check in verdict["checks"]}


def resign(folder: Path) -> None:
    """A manifest that fits what is in the folder now."""
    (folder / "manifest.json").unlink()
    write_manifest(folder, versions={"leanedge": "0"}, seeds={}, hashes={})


def test_a_whole_folder_passes(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, verdict, _ = validate(folder, capsys, monkeypatch)
    assert code == 0
    assert verdict["passed"] is True
    assert checks(verdict) == {"files": True, "host.outputs": True}


@pytest.mark.parametrize("name", ["model.onnx", "samples.npz", "rules.json", "artifact.json", "profile.json"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_a_file_cut_short_is_refused_or_fails_a_check(
    name: str, part: float, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(part * len(data))])
    code, verdict, error = validate(folder, capsys, monkeypatch)
    if name == "model.onnx":
        assert code == 4
        assert checks(verdict) == {"files": False, "host.outputs": False}
    else:
        assert code == 2
        assert verdict is None
        assert str(folder) in error


@pytest.mark.parametrize("name", ["model.onnx", "samples.npz", "rules.json", "artifact.json", "profile.json"])
def test_changed_bytes_never_pass(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((folder / name).read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 40):
        data[place] ^= 0x55
    (folder / name).write_bytes(data)
    assert validate(folder, capsys, monkeypatch)[0] in (2, 4)


@pytest.mark.parametrize("name", ["samples.npz", "rules.json", "artifact.json", "profile.json", "manifest.json"])
def test_a_missing_file_is_named(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / name).unlink()
    code, _, error = validate(folder, capsys, monkeypatch)
    assert code == 2
    assert f"{name} is missing" in error


def test_a_missing_model_fails_both_checks(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.onnx").unlink()
    code, verdict, _ = validate(folder, capsys, monkeypatch)
    assert (code, checks(verdict)) == (4, {"files": False, "host.outputs": False})


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"files": 3}', '{"files": [3]}', '{"files": [{}]}', "\x00"])
def test_a_damaged_manifest_fails_the_files_check_only(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "manifest.json").write_text(text)
    code, verdict, _ = validate(folder, capsys, monkeypatch)
    assert (code, checks(verdict)) == (4, {"files": False, "host.outputs": True})


def test_a_manifest_that_lists_nothing_is_no_pass(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "manifest.json").write_text('{"files": []}')
    code, verdict, _ = validate(folder, capsys, monkeypatch)
    assert code == 4
    assert "not in the manifest: artifact.json, model.onnx" in verdict["checks"][0]["detail"]


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def no_arrays(kind: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with np.load(folder / "samples.npz") as arrays:
            kept = {name: arrays[name] for name in arrays.files if not name.startswith(kind)}
        np.savez(folder / "samples.npz", **kept)

    return spoil


CASES = {
    "no rules": (edit("rules.json", lambda rules: rules["tolerances"].clear()), "rules are none, not logits"),
    "no samples": (no_arrays("input:"), "inputs are none, not image"),
    "no expected outputs": (no_arrays("output:"), "outputs are none, not logits"),
    "a rule that is no number": (
        edit("rules.json", lambda rules: rules["tolerances"]["logits"].update(relative="wide")),
        "wide",
    ),
    "rules that are a list": (edit("rules.json", lambda rules: rules.update(tolerances=[1])), "damaged"),
    "an unknown kind": (edit("artifact.json", lambda it: it.update(kind="linux_tflit")), "did you mean 'linux_tflite'"),
    "a folder that is no kind": (edit("artifact.json", lambda it: it.update(kind="_linux")), "unknown target kind"),
    "a kind with a dot": (edit("artifact.json", lambda it: it.update(kind="..errors")), "unknown target kind"),
    "an unknown runtime": (edit("artifact.json", lambda it: it.update(runtime="onnxrun")), "onnxrun"),
    "no files": (edit("artifact.json", lambda it: it.update(files=[])), "nothing to check"),
    "a newer artifact": (edit("artifact.json", lambda it: it.update(schema=2)), "schema 1"),
    "an unknown key of the artifact": (edit("artifact.json", lambda it: it.update(colour=1)), "colour"),
    "layouts that are a list": (edit("artifact.json", lambda it: it.update(input_layouts=[1])), "damaged"),
    "an unknown key of the profile": (edit("profile.json", lambda it: it.update(memry=1)), "memry"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_folder_that_makes_no_sense_is_refused(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, words = CASES[case]
    spoil(folder)
    resign(folder)
    code, _, error = validate(folder, capsys, monkeypatch)
    assert code == 2, error
    assert words in error


def test_outputs_that_are_not_those_of_the_build_fail(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(folder / "samples.npz") as arrays:
        kept = dict(arrays)
    kept["output:logits"] = kept["output:logits"][:, :, :4]
    np.savez(folder / "samples.npz", **kept)
    resign(folder)
    code, verdict, _ = validate(folder, capsys, monkeypatch)
    assert (code, checks(verdict)) == (4, {"files": True, "host.outputs": False})


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_what_is_no_output_folder_is_refused(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    code, _, error = validate(tmp_path / place, capsys, monkeypatch)
    assert code == 2
    assert "is not an output folder of leanedge build" in error


def test_an_unknown_place_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, error = validate(folder, capsys, monkeypatch, on="moon")
    assert code == 2
    assert "allowed: host, emulator" in error
