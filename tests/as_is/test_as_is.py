"""An int8 .tflite file is built as it is: simplified exactly, fitted to the device, proved equal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_lite_models as small

import leanedge
from leanedge import cli, resources
from leanedge.program.simulate import initial_state, simulate_step
from leanedge.report.terminal import silent_steps
from leanedge.revalidate import revalidate
from leanedge.several import worst_exit_code

MODELS = {"classifier": small.classifier, "streaming": small.streaming}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_results(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of this module only; programs stay where `tools/get-programs` put them."""
    monkeypatch.setattr("leanedge.cache.results_root", lambda: cache)


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(MODELS[request.param](), tmp_path_factory.mktemp("model") / f"{request.param}.tflite")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(small.classifier(), tmp_path_factory.mktemp("model") / "classifier.tflite")


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """Exit code, and what was printed."""
    monkeypatch.setattr(sys, "argv", ["leanedge", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out + captured.err


def checks_of(report: dict[str, Any]) -> dict[str, Any]:
    return {check["name"]: check["passed"] for check in report["verdict"]["checks"]}


@pytest.mark.parametrize("target", ["nucleo-l4r5zi", "nucleo-g0b1re"])
def test_firmware_of_it_is_proved_equal_to_the_file(model: Path, target: str, tmp_path: Path) -> None:
    result = leanedge.build(model, target=target, output=tmp_path / "out")

    assert result.exit_code == 0, result.summary()
    report = json.loads((tmp_path / "out/report.json").read_text())
    checks = checks_of(report)
    names = ("simplified.outputs", "kernels.outputs", "stack", "host.outputs", "emulator.generated_c.outputs")
    assert checks == dict.fromkeys(names, True)
    hows = {name: report["figures"][name]["how"] for name in ("flash_bytes", "ram_bytes", "stack_bytes")}
    assert set(hows.values()) == {"proved"}
    assert report["figures"]["instructions"]["how"] == "measured"
    assert report["artifact"]["files"][0]["path"] == "model.tflite"
    kept = dict(np.load(tmp_path / "out/samples.npz"))
    program = MODELS[model.stem]()
    state = initial_state(program)
    for number in range(len(kept[f"input:{program.inputs[0].name}"])):
        fed = {port.name: kept[f"input:{port.name}"][number] for port in program.inputs}
        made, state = simulate_step(program, fed, state)
        for port in program.outputs:
            quant = program.tensors[port.tensor].quant
            assert quant is not None
            np.testing.assert_array_equal(kept[f"output:{port.name}"][number], quant.dequantize(made[port.name]))


def test_this_machines_runtime_gives_the_reference_arithmetic(model: Path, tmp_path: Path) -> None:
    result = leanedge.build(model, target="host", output=tmp_path / "out")
    assert result.exit_code == 0, result.summary()
    assert checks_of(result.to_dict()) == {"simplified.outputs": True, "host.outputs": True}
    assert revalidate(tmp_path / "out", "host", silent_steps()).passed


def test_an_emulated_linux_board_takes_it(classifier: Path, tmp_path: Path) -> None:
    result = leanedge.build(classifier, target="rpi4", output=tmp_path / "out")
    assert result.exit_code == 0, result.summary()
    assert checks_of(result.to_dict())["emulator.ai_edge_litert.outputs"] is True


def test_logits_leaves_out_the_softmax(classifier: Path, tmp_path: Path) -> None:
    result = leanedge.build(classifier, target="nucleo-g0b1re", output=tmp_path / "out", logits=True)
    assert result.exit_code == 0, result.summary()
    assert "softmax" not in {layer.kind for layer in result.report.layers}
    whole = leanedge.build(classifier, target="nucleo-g0b1re", output=tmp_path / "whole")
    assert "softmax" in {layer.kind for layer in whole.report.layers}


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def no_file(path: Path) -> None:
    path.unlink()


def floats(path: Path) -> None:
    from leanedge.program.types import Dense, FullyConnectedOptions, Port, Program, ProgramOperator, ProgramTensor

    tensors = {
        "x": ProgramTensor("x", (1, 4), "float32", None, None),
        "w": ProgramTensor("w", (3, 4), "float32", None, Dense(np.ones((3, 4), np.float32))),
        "b": ProgramTensor("b", (3,), "float32", None, Dense(np.ones(3, np.float32))),
        "y": ProgramTensor("y", (1, 3), "float32", None, None),
    }
    layer = ProgramOperator("layer", "fully_connected", ("x", "w", "b"), ("y",), FullyConnectedOptions("none"))
    small.write(Program(tensors, (layer,), (Port("x", "x"),), (Port("y", "y"),)), path)


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (damaged, (), "damaged"),
        (no_file, (), "can't be read: No such file"),
        (floats, (), "float"),
        (None, ("--data", "samples.npz"), "takes no data"),
        (None, ("--plan", "plan.json"), "a plan chooses patterns and schemes"),
    ],
)
def test_what_can_not_be_built_as_it_is_is_said(
    change: Any,
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = small.write(small.classifier(), tmp_path / "model.tflite")
    monkeypatch.chdir(tmp_path)
    if change is not None:
        change(path)
    code, text = command(capsys, monkeypatch, "build", path, "-t", "nucleo-l4r5zi", "-o", tmp_path / "out", *words)
    assert code == 2
    assert said in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_a_softmax_that_is_not_there_can_not_be_left_out(tmp_path: Path) -> None:
    path = small.write(small.streaming(), tmp_path / "model.tflite")
    with pytest.raises(leanedge.errors.ModelError, match="no output is a softmax"):
        leanedge.build(path, target="nucleo-g0b1re", output=tmp_path / "out", logits=True)


def tiny_board(path: Path, flash_bytes: int, ram_bytes: int) -> Path:
    text = (resources.folder("device_profiles") / "nucleo-g0b1re.yaml").read_text()
    text = text.replace("name: nucleo-g0b1re", "name: tiny").replace("bytes: 524288", f"bytes: {flash_bytes}")
    path.write_text(text.replace("bytes: 131072", f"bytes: {ram_bytes}"))
    return path


def test_too_little_memory_is_an_answer_by_how_much_and_where(classifier: Path, tmp_path: Path) -> None:
    board = tiny_board(tmp_path / "board.yaml", 1024, 128)
    result = leanedge.build(classifier, target=board, output=tmp_path / "out")
    assert result.exit_code == 3
    assert result.artifact is None
    row = result.report.candidates[0]
    assert row.status == "too_big"
    for name, limit in (("flash_bytes", 1024), ("ram_bytes", 128)):
        assert row.excess[name] == (row.figures[name].value or 0) - limit > 0
    assert row.figures["latency_ms"].value is None
    said = result.report.verdict.checks[-1].detail
    assert "over the device's 1,024, fullest at" in said
    assert "these would hold it: nucleo-g0b1re, rp2040" in said


def test_a_limit_on_a_figure_of_an_image_that_does_not_fit_is_no_error(classifier: Path, tmp_path: Path) -> None:
    board = tiny_board(tmp_path / "board.yaml", 1024, 131072)
    result = leanedge.build(classifier, target=board, output=tmp_path / "out", budget="latency=1us,ram=100B")
    assert result.exit_code == 3
    assert set(result.report.candidates[0].excess) == {"flash_bytes", "ram_bytes"}


def test_several_devices_give_one_table_and_the_worst_exit_code(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = tiny_board(tmp_path / "board.yaml", 1024, 128)
    words = ("build", classifier, "-t", f"nucleo-g0b1re,{board},host", "-o", tmp_path / "out")
    code, text = command(capsys, monkeypatch, *words)
    assert code == 3
    table = text.splitlines()[-4:]
    assert [line.split()[0] for line in table] == ["target", "nucleo-g0b1re", "tiny", "host"]
    assert [line.rsplit("  ", 1)[1].strip() for line in table] == ["verdict", "Passed", "Nothing fits", "Passed"]
    assert (tmp_path / "out/nucleo-g0b1re/firmware.elf").is_file()

    monkeypatch.setattr(sys, "argv", ["leanedge", *map(str, words), "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    found = json.loads(capsys.readouterr().out)
    assert [(item["target"], item["exit_code"]) for item in found] == [("nucleo-g0b1re", 0), ("tiny", 3), ("host", 0)]
    assert found[0]["report"]["verdict"]["passed"]


def test_an_error_for_one_device_leaves_the_others(classifier: Path, tmp_path: Path) -> None:
    budget = "latency=1s"  # not known for a board that is neither this machine nor emulated
    outcomes = leanedge.build_many(classifier, ["x86-avx2", "host"], output=tmp_path / "out", budget=budget)
    assert [outcome.exit_code for outcome in outcomes] == [2, 0]
    assert "can't be checked" in str(outcomes[0].error)
    assert worst_exit_code(outcomes) == 2
    with pytest.raises(leanedge.errors.UsageError, match="can't be checked"):
        leanedge.build_many(classifier, ["x86-avx2"], output=tmp_path / "out", budget=budget)


@pytest.mark.parametrize("targets", [["host", "hots"], ["host", "host"]])
def test_devices_are_checked_before_anything_is_built(targets: list[str], classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(leanedge.errors.InputError, match=r"unknown target|given twice"):
        leanedge.build_many(classifier, targets, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inspect_lists_operators_and_who_runs_them(
    classifier: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = command(capsys, monkeypatch, "inspect", classifier, "-t", "nucleo-l4r5zi")
    assert code == 0
    rows = [line.split() for line in text.splitlines()]
    assert sorted({row[2] for row in rows if row[0].isdigit() and row[1] != "operators,"}) == [
        "fully_connected",
        "softmax",
    ]
    assert "generated_c: runs it" in text
    assert f"{12 * 8 + 8 * 5} MACs" in text

    code, text = command(capsys, monkeypatch, "inspect", classifier, "-t", "host")
    assert "onnxruntime: can't run it: onnxruntime does not read .tflite files" in text
    assert "ai_edge_litert: runs it" in text


def test_inspect_names_the_operator_that_has_no_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanedge.targets.c_host import session

    from leanedge.errors import UnsupportedOperator

    def refuses(*_: object) -> None:
        raise UnsupportedOperator("there is no C kernel for softmax", where="op7_softmax")

    monkeypatch.setattr(session, "make_kernels", refuses)
    path = small.write(small.classifier(), tmp_path / "model.tflite")
    code, text = command(capsys, monkeypatch, "inspect", path, "-t", "nucleo-l4r5zi")
    assert code == 0
    assert "generated_c: can't run it: op7_softmax: there is no C kernel for softmax" in text


def test_a_float_model_is_inspected_for_a_board_of_integers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
    import small_classifier

    onnx.save(small_classifier.classifier(channels=4), tmp_path / "model.onnx")
    code, text = command(capsys, monkeypatch, "inspect", tmp_path / "model.onnx", "-t", "nucleo-l4r5zi")
    assert code == 0
    assert text.endswith("generated_c: runs it\n")
