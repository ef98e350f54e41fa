"""Bad input: a clear message, the documented exit code, and nothing written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from leanedge import cli

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
import small_classifier


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with model.onnx and samples.npz, which is the current one."""
    small_classifier.write(tmp_path, count=120)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    """Exit code and standard error of the command."""
    monkeypatch.setattr(sys, "argv", ["leanedge", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    code = stopped.value.code
    return int(code) if code is not None else 0, captured.err


def change_model(folder: Path, name: str, value: float) -> None:
    model = onnx.load(folder / "model.onnx")
    tensor = next(item for item in model.graph.initializer if item.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] = value
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, folder / "model.onnx")


def change_data(folder: Path, **arrays: np.ndarray) -> None:
    with np.load(folder / "samples.npz") as found:
        kept = dict(found)
    np.savez(folder / "samples.npz", **{**kept, **arrays})


def truncate(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[: len(data) // 2])


CASES = {
    "truncated model": (truncate, (), ("model.onnx", "cut short")),
    "text as model": (lambda f: (f / "model.onnx").write_text("hello"), (), ("model.onnx", "not an ONNX model")),
    "NaN weight": (lambda f: change_model(f, "w3", np.nan), (), ("w3", "pointwise", "NaN")),
    "wrong shape": (
        lambda f: change_data(f, image=np.zeros((120, 1, 12, 11), np.float32)),
        (),
        ("image", "(1, 1, 12, 10)", "(120, 1, 12, 11)"),
    ),
    "label out of range": (lambda f: change_data(f, y=np.full(120, 5)), (), ("label 5", "0 to 4")),
    "one sample": (
        lambda f: np.savez(f / "samples.npz", image=np.zeros((1, 1, 12, 10), np.float32), y=np.zeros(1, np.int64)),
        (),
        ("1 sample",),
    ),
    "NaN sample": (
        lambda f: change_data(f, image=np.full((120, 1, 12, 10), np.nan, np.float32)),
        (),
        ("image", "NaN"),
    ),
    "budget of zero": (lambda f: None, ("--budget", "latency=0ms"), ("latency", "above zero")),
    "unknown budget": (lambda f: None, ("--budget", "latncy=5ms"), ("latncy", "'latency'")),
    "unknown target": (lambda f: None, ("--target", "rpi44"), ("rpi44", "did you mean 'rpi4'")),
    "unknown objective": (lambda f: None, ("--objective", "speed"), ("speed", "latency")),
    "missing model": (lambda f: (f / "model.onnx").unlink(), (), ("model.onnx",)),
    "missing data": (lambda f: (f / "samples.npz").unlink(), (), ("samples.npz",)),
    "output under a file": (lambda f: (f / "taken").write_text("x"), ("-o", "taken/out"), ("taken",)),
    "output holds other files": (
        lambda f: ((f / "mine").mkdir(), (f / "mine/thesis.txt").write_text("x")),
        ("-o", "mine"),
        ("mine", "not written by LeanEdge"),
    ),
    "negative drop": (lambda f: None, ("--max-drop", "-1"), ("max-drop",)),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named_and_ends_with_2(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, words, expected = CASES[case]
    spoil(folder)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    code, message = run(capsys, monkeypatch, "build", "model.onnx", "--data", "samples.npz", *words)
    assert code == 2, message
    for word in expected:
        assert word in message, message
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


def test_a_typo_in_a_profile_names_file_line_and_nearest_key(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanedge import resources

    text = (resources.folder("device_profiles") / "rpi4.yaml").read_text()
    lines = text.splitlines()
    number = next(index for index, line in enumerate(lines, 1) if line.startswith("memory:"))
    (folder / "board.yaml").write_text(text.replace("\nmemory:", "\nmemry:"))
    code, message = run(capsys, monkeypatch, "build", "model.onnx", "--data", "samples.npz", "--target", "./board.yaml")
    assert code == 2
    assert f"board.yaml:{number}" in message
    assert "did you mean 'memory'?" in message


def test_a_full_disk_is_said_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import shutil

    def full(source: object, target: object) -> None:
        Path(str(target)).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    code, message = run(
        capsys, monkeypatch, "build", "model.onnx", "--data", "samples.npz", "--target", "host", "-o", "out/here"
    )
    assert code == 2, message
    assert "no space left" in message
    assert not (folder / "out").exists()


def test_ctrl_c_in_the_middle_ends_with_130_and_keeps_the_old_output(folder: Path) -> None:
    (folder / "out").mkdir()
    environment = {**os.environ, "LEANEDGE_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    words = ["build", "model.onnx", "--data", "samples.npz", "--target", "host", "-o", "out"]
    command = [sys.executable, "-m", "leanedge", *words]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not any((folder / "cache").rglob("evaluation.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    written = folder / "out/report.json"
    assert written.is_file()
    assert '"interrupted": true' in written.read_text()
    assert (folder / "out/manifest.json").is_file()


def test_json_is_alone_on_stdout(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    words = ["leanedge", "build", "model.onnx", "--data", "samples.npz", "--target", "host", "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    assert stopped.value.code == 0
    assert json.loads(captured.out)["schema"] == 1


def test_help_is_light() -> None:
    """`leanedge --help` must not import numpy or onnx; what is imported decides how long it takes."""
    program = "import sys; sys.argv = ['leanedge', '--help']\nfrom leanedge.cli import main\n"
    program += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    program += (
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'torch', 'pydantic'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exit codes" in done.stdout
