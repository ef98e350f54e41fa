"""Jobs in emulated boards: each runtime once, on three cores, against this machine. A start costs seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from boards import CORTEX_A53, CORTEX_A72, CORTEX_A76
from leanedge.targets._linux import arm64_root
from leanedge.targets._linux.job import Evidence, Job, JobModel, run_job, run_job_on_host
from leanedge.targets._linux.qemu import QEMU, count_plugin
from leanedge.targets._linux.wheels import board_wheels
from leanedge.targets._programs.get_programs import main as get_programs
from tiny_models import conv_onnx, conv_tflite, dense_int8_tflite, samples, step_onnx

from leanedge.errors import MissingProgram, UsageError, ValidationFailed

NCHW_TO_NHWC, NHWC_TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
ROUNDING = 2e-6  # float32 sums of 18 products of size 1, in another order
COUNT_SPREAD = {"onnxruntime": 0.01, "ai_edge_litert": 0, "tflite_runtime": 0}  # its outputs are allocated in Python


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    assert get_programs([]) == 0


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def outputs(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def assert_counted(evidence: Evidence) -> None:
    for seen in evidence.models.values():
        found = [count.instructions for count in seen.counts]
        assert seen.no_counts == ""
        assert seen.instructions is not None
        assert seen.instructions == min(found) > 1000
        assert max(found) - min(found) <= COUNT_SPREAD[evidence.runtime] * min(found), found
        assert all(0 < count.loads + count.stores < count.instructions for count in seen.counts)


def conv_and_dense(folder: Path, place: str) -> tuple[JobModel, ...]:
    real = np.random.default_rng(3).uniform(-5, 5, (4, 6)).astype(np.float32)
    return (
        JobModel(
            "conv",
            conv_tflite(folder / "c.tflite"),
            saved(folder / "c.npz", x=samples()),
            folder / f"{place}-conv.npz",
            count=3,
            input_layouts={"x": NCHW_TO_NHWC},
            output_layouts={"y": NHWC_TO_NCHW},
        ),
        JobModel(
            "dense",
            dense_int8_tflite(folder / "d.tflite"),
            saved(folder / "d.npz", x=real),
            folder / f"{place}-dense.npz",
            count=3,
            raw=True,
        ),
    )


def test_onnxruntime_on_a_cortex_a53(tmp_path: Path) -> None:
    steps = np.random.default_rng(4).normal(size=(2, 3, 3)).astype(np.float32)

    def models(place: str) -> tuple[JobModel, ...]:
        inputs, sequences = saved(tmp_path / "c.npz", x=samples()), saved(tmp_path / "s.npz", x=steps)
        return (
            JobModel("conv", conv_onnx(tmp_path / "c.onnx"), inputs, tmp_path / f"{place}-conv.npz", count=4),
            JobModel(
                "step",
                step_onnx(tmp_path / "s.onnx"),
                sequences,
                tmp_path / f"{place}-step.npz",
                state={"h": "h_next"},
                count=4,
            ),
        )

    evidence = run_job(Job("onnxruntime", models("board")), CORTEX_A53)
    host = run_job_on_host(Job("onnxruntime", models("host")))
    assert (evidence.machine, evidence.runtime_version) == ("aarch64", host.runtime_version)
    assert evidence.cpu == "part 0xd03 of implementer 0x41"
    assert "cortex-a53" in evidence.emulator
    assert_counted(evidence)
    for model in ("conv", "step"):
        board, here = outputs(tmp_path / f"board-{model}.npz"), outputs(tmp_path / f"host-{model}.npz")
        assert board.keys() == here.keys()
        for name, array in board.items():
            np.testing.assert_allclose(array, here[name], atol=ROUNDING, rtol=1e-6)
    assert outputs(tmp_path / "board-step.npz")["h_next"].shape == (2, 3, 3)


def test_ai_edge_litert_on_a_cortex_a72(tmp_path: Path) -> None:
    evidence = run_job(Job("ai_edge_litert", conv_and_dense(tmp_path, "board")), CORTEX_A72)
    host = run_job_on_host(Job("ai_edge_litert", conv_and_dense(tmp_path, "host")))
    assert evidence.runtime_version == host.runtime_version
    assert_counted(evidence)
    board, here = (outputs(tmp_path / f"{place}-conv.npz")["y"] for place in ("board", "host"))
    np.testing.assert_allclose(board, here, atol=ROUNDING * 10, rtol=0)
    board, here = (outputs(tmp_path / f"{place}-dense.npz")["y"] for place in ("board", "host"))
    assert board.dtype == np.int8
    assert np.array_equal(board, here)


def test_tflite_runtime_on_a_cortex_a76(tmp_path: Path) -> None:
    evidence = run_job(Job("tflite_runtime", conv_and_dense(tmp_path, "board"), kernels="reference"), CORTEX_A76)
    host = run_job_on_host(Job("tflite_runtime", conv_and_dense(tmp_path, "host"), kernels="reference"))
    assert (host.machine, host.runtime_version) == ("x86_64", evidence.runtime_version)
    assert evidence.numpy.startswith("1.")
    assert evidence.kernels == "reference"
    assert_counted(evidence)
    board, here = (outputs(tmp_path / f"{place}-conv.npz")["y"] for place in ("board", "host"))
    np.testing.assert_allclose(board, here, atol=ROUNDING * 10, rtol=0)
    board, here = (outputs(tmp_path / f"{place}-dense.npz")["y"] for place in ("board", "host"))
    assert np.array_equal(board, here)


def test_peak_memory_of_the_program_without_the_emulator(tmp_path: Path) -> None:
    def job(place: str) -> Job:
        inputs = saved(tmp_path / "c.npz", x=samples())
        model = JobModel("m", conv_onnx(tmp_path / "c.onnx"), inputs, tmp_path / f"{place}.npz", samples=1)
        return Job("onnxruntime", (model,), memory=True)

    board = run_job(job("board"), CORTEX_A72).models["m"].memory
    here = run_job_on_host(job("host")).models["m"].memory
    assert board is not None
    assert here is not None
    assert board.counted != here.counted
    # Other machine code, same program: far nearer to each other than to the emulator's own 100 MB.
    assert 0.5 < board.ram_bytes / here.ram_bytes < 2
    assert board.runtime_bytes < board.ram_bytes < board.peak_bytes


def test_a_damaged_model_and_a_made_up_core_are_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"\0" * 64)
    model = JobModel("m", bad, saved(tmp_path / "in.npz", x=samples()))
    with pytest.raises(ValidationFailed, match="in emulation, model m, open: ai_edge_litert can't open"):
        run_job(Job("ai_edge_litert", (model,)), CORTEX_A72)


def test_a_root_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = JobModel("m", conv_onnx(tmp_path / "c.onnx"), saved(tmp_path / "in.npz", x=samples()))
    monkeypatch.setenv(arm64_root.ROOT_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(MissingProgram, match="no such folder"):
        run_job(Job("onnxruntime", (model,)), CORTEX_A72)
    monkeypatch.delenv(arm64_root.ROOT_VARIABLE)
    monkeypatch.setattr("leanedge.targets._linux.job.has_board_wheels", lambda root, runtime: False)
    with pytest.raises(MissingProgram, match="get_programs arm64-onnxruntime"):
        run_job(Job("onnxruntime", (model,)), CORTEX_A72)
    monkeypatch.setattr("leanedge.targets._linux.job.has_root", lambda: False)
    with pytest.raises(MissingProgram, match="no arm64 root file system was made yet"):
        run_job(Job("onnxruntime", (model,)), CORTEX_A72)


def test_a_folder_that_is_no_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = JobModel("m", conv_onnx(tmp_path / "c.onnx"), saved(tmp_path / "in.npz", x=samples()))
    monkeypatch.setenv(arm64_root.ROOT_VARIABLE, str(tmp_path / "absent"))
    (tmp_path / "absent").mkdir()
    with pytest.raises(MissingProgram, match=r"no usr/bin/python3\.N"):
        run_job(Job("onnxruntime", (model,)), CORTEX_A72)


def test_a_root_of_ones_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = arm64_root.arm64_root()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "usr").symlink_to(made.folder / "usr")
    (mine / "lib").symlink_to(made.folder / "lib")
    monkeypatch.setenv(arm64_root.ROOT_VARIABLE, str(mine))
    own = arm64_root.arm64_root()
    assert own.folder == mine
    assert (own.python_version, own.glibc) == (made.python_version, made.glibc)


def test_the_runtime_that_has_no_arm64_wheels_is_refused() -> None:
    with pytest.raises(UsageError, match="ai_edge_litert"):
        board_wheels(arm64_root.arm64_root(), "openvino")


def test_without_the_emulator_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingProgram, match="get_programs qemu-aarch64"):
        QEMU.find()


def test_the_plug_in_compiles_without_warnings(tmp_path: Path) -> None:
    source = Path(arm64_root.__file__).with_name("count_plugin.c")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wdouble-promotion", "-Werror", "-fPIC", "-shared"]
    for api in (1, 2, 3):
        command = ["cc", *flags, f"-DPLUGIN_API={api}", "-o", str(tmp_path / "count.so"), str(source)]
        assert subprocess.run(command, check=False).returncode == 0
    assert count_plugin(QEMU.find()).is_file()


def test_get_programs_checks_without_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get_programs(["--check", "qemu-aarch64"]) == 0
    assert "counts instructions" in capsys.readouterr().out
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path))
    assert get_programs(["--check", "arm64-root", "arm64-onnxruntime"]) == 5
    assert capsys.readouterr().out.count("MISSING") == 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit, match="2"):
        get_programs(["qemu-arm"])
