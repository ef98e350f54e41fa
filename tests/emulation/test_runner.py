"""The device-side runner on this machine: sessions, samples to tensors, jobs, state, errors."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leanedge.targets._linux import runner
from leanedge.targets._linux.job import RUNTIMES, Job, JobModel, run_job_on_host
from leanedge.targets._linux.runner import RunnerError, Tensor
from tiny_models import conv_onnx, conv_tflite, dense_int8_tflite, samples, step_onnx

from leanedge.errors import MissingProgram, UsageError, ValidationFailed

NCHW_TO_NHWC, NHWC_TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
ROUNDING = 2e-6  # float32 sums of 18 products of size 1, in another order


def expected() -> np.ndarray:
    """The convolution net's outputs by definition, (5, 4, 8, 8)."""
    from tiny_models import weights

    made = weights()
    padded = np.pad(samples(), ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("nchwij,ocij->nohw", windows, made["w"]) + made["b"][:, None, None], 0)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def run_one(folder: Path, runtime: str, file: Path, inputs: Path, **settings: object) -> dict[str, np.ndarray]:
    kernels = str(settings.pop("kernels", ""))
    model = JobModel("m", file, inputs, folder / "out.npz", **settings)
    run_job_on_host(Job(runtime, (model,), kernels=kernels))
    with np.load(folder / "out.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_runs_on_every_python_that_boards_have() -> None:
    ast.parse(Path(runner.__file__).read_text(), feature_version=(3, 9))
    found = subprocess.run(
        [sys.executable, runner.__file__, "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(found)["runtimes"]["onnxruntime"] is not None


def test_jobs_and_runner_know_the_same_runtimes() -> None:
    assert set(RUNTIMES) == set(runner.MODULES)


@pytest.mark.parametrize(
    ("runtime", "kernels"),
    [("onnxruntime", ""), ("openvino", ""), ("ai_edge_litert", "xnnpack"), ("ai_edge_litert", "reference")],
)
def test_each_runtime_gives_the_net_its_outputs_in_source_layout(tmp_path: Path, runtime: str, kernels: str) -> None:
    inputs = saved(tmp_path / "in.npz", x=samples())
    if runtime in runner.TFLITE:
        layouts = {"input_layouts": {"x": NCHW_TO_NHWC}, "output_layouts": {"y": NHWC_TO_NCHW}}
        found = run_one(tmp_path, runtime, conv_tflite(tmp_path / "m.tflite"), inputs, kernels=kernels, **layouts)
    else:
        found = run_one(tmp_path, runtime, conv_onnx(tmp_path / "m.onnx"), inputs)
    np.testing.assert_allclose(found["y"], expected(), atol=ROUNDING * 10, rtol=0)


def test_in_process_session_equals_the_job(tmp_path: Path) -> None:
    file = conv_onnx(tmp_path / "m.onnx")
    session = runner.open_model("onnxruntime", file)
    assert session.inputs == (Tensor("x", "float32", (1, 2, 8, 8)),)
    job = run_one(tmp_path, "onnxruntime", file, saved(tmp_path / "in.npz", x=samples()))["y"]
    for sample, output in zip(samples(), job, strict=True):
        assert np.array_equal(session.run({"x": sample[None]})["y"][0], output)


def test_samples_with_the_batch_axis_keep_it(tmp_path: Path) -> None:
    found = run_one(
        tmp_path, "onnxruntime", conv_onnx(tmp_path / "m.onnx"), saved(tmp_path / "in.npz", x=samples()[:, None])
    )
    assert found["y"].shape == (5, 1, 4, 8, 8)
    np.testing.assert_allclose(found["y"][:, 0], expected(), atol=ROUNDING * 10, rtol=0)


def test_quantized_tensors_take_and_give_real_numbers(tmp_path: Path) -> None:
    file = dense_int8_tflite(tmp_path / "d.tflite")
    real = np.random.default_rng(3).uniform(-5, 5, (4, 6)).astype(np.float32)
    integers = np.clip(np.floor(real / np.float32(0.05) + np.float32(0.5)) + 3, -128, 127).astype(np.int8)
    given_real = run_one(tmp_path, "ai_edge_litert", file, saved(tmp_path / "in.npz", x=real))["y"]
    raw = run_one(tmp_path, "ai_edge_litert", file, saved(tmp_path / "in.npz", x=integers), raw=True)["y"]
    assert raw.dtype == np.int8
    assert given_real.dtype == np.float32
    np.testing.assert_allclose(given_real, (raw.astype(np.float32) + 5) * np.float32(0.0973), rtol=1e-6)
    assert len(np.unique(raw)) > 3  # not all saturated


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=20),
    st.floats(0.00390625, 1, width=32),
    st.integers(-128, 127),
)
def test_quantizing_a_sample_errs_by_half_a_step_at_most(values: list[float], scale: float, zero_point: int) -> None:
    tensor = Tensor("x", "int8", (len(values),), scale, zero_point)
    real = np.array(values, np.float32)
    integers, _ = runner.to_model(real, tensor, None)
    back = runner.from_model(integers, tensor, None, batched=False)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    np.testing.assert_allclose(back, np.clip(real, low, high), atol=scale * 0.5001, rtol=1e-5)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(), st.randoms())
def test_layouts_there_and_back(shape: list[int], keep_batch: bool, random: object) -> None:
    order = list(range(1, len(shape) + 1))
    random.shuffle(order)  # type: ignore[attr-defined]
    there = (0, *order)
    back = tuple(int(place) for place in np.argsort(there))
    sample = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    tensor = Tensor("x", "float32", tuple((1, *shape)[axis] for axis in there))
    array, batched = runner.to_model(sample[None] if keep_batch else sample, tensor, there)
    assert array.shape == tensor.shape
    assert batched is not keep_batch
    assert np.array_equal(runner.from_model(array, tensor, back, batched), sample[None] if keep_batch else sample)


@pytest.mark.parametrize(
    ("dtype", "value", "fits"),
    [("float16", 0.5, True), ("int64", 7, True), ("float64", 0.5, True), ("float64", 0.1, False)],
)
def test_dtypes_are_cast_without_loss_or_not_at_all(dtype: str, value: float, fits: bool) -> None:
    sample, tensor = np.full(3, value, dtype), Tensor("x", "float32", (3,))
    if fits:
        assert runner.to_model(sample, tensor, None)[0].dtype == np.float32
    else:
        with pytest.raises(RunnerError, match="without loss"):
            runner.to_model(sample, tensor, None)


def test_state_goes_from_step_to_step_and_starts_again(tmp_path: Path) -> None:
    steps = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
    first = np.array([[10, 20, 30]], np.float32)
    found = run_one(
        tmp_path,
        "onnxruntime",
        step_onnx(tmp_path / "s.onnx"),
        saved(tmp_path / "in.npz", x=steps),
        state={"h": "h_next"},
        initial=saved(tmp_path / "first.npz", h=first),
    )
    sums = first + np.cumsum(steps, axis=1)
    before = np.concatenate([np.broadcast_to(first, (2, 1, 3)), sums[:, :-1]], axis=1)
    assert np.array_equal(found["h_next"], sums)
    assert np.array_equal(found["y"], steps + 2 * before)


def test_evidence_has_memory_times_and_versions(tmp_path: Path) -> None:
    model = JobModel("m", conv_onnx(tmp_path / "m.onnx"), saved(tmp_path / "in.npz", x=samples()), samples=2, count=1)
    evidence = run_job_on_host(Job("onnxruntime", (model,), memory=True, warmup=1, repeat=3))
    seen = evidence.models["m"]
    assert (seen.samples, seen.inferences) == (2, 2)
    assert seen.memory is not None
    assert 0 < seen.memory.runtime_bytes < seen.memory.ram_bytes < seen.memory.peak_bytes
    assert seen.latency is not None
    assert len(seen.latency.wall_ns) == 3
    assert min(seen.latency.wall_ns) > 0
    assert seen.instructions is None
    assert "emulation" in seen.no_counts
    assert evidence.runtime_version[0].isdigit()
    json.dumps(evidence.to_dict())


def test_large_sample_files_do_not_count_as_model_memory(tmp_path: Path) -> None:
    file = conv_onnx(tmp_path / "m.onnx")

    def ram_bytes(count: int) -> int:
        inputs = saved(tmp_path / "in.npz", x=np.zeros((count, 2, 8, 8), np.float32))
        memory = (
            run_job_on_host(Job("onnxruntime", (JobModel("m", file, inputs, samples=1),), memory=True))
            .models["m"]
            .memory
        )
        assert memory is not None
        return memory.ram_bytes

    assert abs(ram_bytes(100_000) - ram_bytes(10)) < 5_000_000  # the samples are 51 MB


def test_models_of_a_job_are_kept_apart(tmp_path: Path) -> None:
    inputs = saved(tmp_path / "in.npz", x=samples())
    file = conv_onnx(tmp_path / "m.onnx")
    models = tuple(
        JobModel(name, file, inputs, tmp_path / f"{name}.npz", samples=n) for name, n in (("a", 1), ("b", 3))
    )
    evidence = run_job_on_host(Job("onnxruntime", models))
    assert [seen.samples for seen in evidence.models.values()] == [1, 3]
    with np.load(tmp_path / "b.npz") as arrays:
        assert len(arrays["y"]) == 3


def bad_jobs(folder: Path) -> dict[str, tuple[Job, type[Exception], str]]:
    good = JobModel("m", conv_onnx(folder / "m.onnx"), saved(folder / "in.npz", x=samples()))
    text = folder / "text.onnx"
    text.write_text("not a model")
    cut = folder / "cut.tflite"
    cut.write_bytes(conv_tflite(folder / "m.tflite").read_bytes()[:100])
    stateful = JobModel("m", step_onnx(folder / "s.onnx"), saved(folder / "h.npz", x=np.zeros((2, 3, 3), np.float32)))
    shape = saved(folder / "shape.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    name = saved(folder / "name.npz", z=samples(), y=np.zeros(5))
    return {
        "corrupt onnx": (Job("onnxruntime", (replace(good, file=text),)), ValidationFailed, "can't open"),
        "cut tflite": (Job("ai_edge_litert", (replace(good, file=cut),)), ValidationFailed, "can't open"),
        "no file": (Job("onnxruntime", (replace(good, file=folder / "none"),)), ValidationFailed, "no model file"),
        "wrong shape": (Job("onnxruntime", (replace(good, inputs=shape),)), ValidationFailed, r"\(3, 8, 8\)"),
        "wrong name": (Job("onnxruntime", (replace(good, inputs=name),)), ValidationFailed, "no array for input x"),
        "wrong rank of layout": (
            Job("onnxruntime", (replace(good, output_layouts={"y": (0, 1)}, input_layouts={"x": None}),)),
            ValidationFailed,
            "another rank",
        ),
        "unknown state": (
            Job("onnxruntime", (replace(stateful, state={"h": "nowhere"}),)),
            ValidationFailed,
            "nowhere",
        ),
        "state forgotten": (Job("onnxruntime", (stateful,)), ValidationFailed, "no array for input h"),
        "unknown runtime": (Job("onnxruntim", (good,)), UsageError, "onnxruntime"),
        "unknown kernels": (Job("onnxruntime", (good,), kernels="xnnpack"), ValidationFailed, "no 'xnnpack' kernels"),
        "no threads": (Job("onnxruntime", (good,), threads=0), ValidationFailed, "threads"),
        "same id": (Job("onnxruntime", (good, good)), UsageError, "different ids"),
        "memory of two": (Job("onnxruntime", (good, replace(good, id="n")), memory=True), UsageError, "one model"),
        "absent runtime": (Job("tflite_runtime", (good,)), MissingProgram, "tflite_runtime"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "corrupt onnx", "cut tflite", "no file", "wrong shape", "wrong name", "wrong rank of layout", "unknown state",
        "state forgotten", "unknown runtime", "unknown kernels", "no threads", "same id", "memory of two",
        "absent runtime",
    ],
)  # fmt: skip
def test_bad_jobs_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path / "cache"))  # no tflite_runtime there
    job, kind, message = bad_jobs(tmp_path)[case]
    with pytest.raises(kind, match=message):
        run_job_on_host(job)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "illegal instruction at m: open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV at m: open"),
        ("import os; os._exit(7)", "exit code 7 at m: open"),
        ("import time; time.sleep(600)", "stopped after 2 s at m: open"),
    ],
)
def test_a_crash_of_the_runtime_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text(
        f"class OpResolverType:\n    AUTO = 0\ndef Interpreter(**options):\n    {body}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path / "cache"))  # no true tflite_runtime there
    model = JobModel("m", conv_tflite(tmp_path / "m.tflite"), saved(tmp_path / "in.npz", x=samples()))
    with pytest.raises(ValidationFailed, match=message):
        run_job_on_host(Job("tflite_runtime", (model,)), timeout_s=2 if "sleep" in body else 60)


def test_the_command_line_reports_errors_as_json(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"evidence": ')
    done = subprocess.run(
        [sys.executable, runner.__file__, str(tmp_path / "job.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "can't be read" in json.loads(done.stderr)["error"]


@pytest.mark.parametrize(
    ("flags", "exact_kernels"), [("avx2 avx512f", True), ("avx2 avx512_vnni", False), ("avx2 avx_vnni", False)]
)
def test_an_x86_that_saturates_takes_the_exact_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, exact_kernels: bool
) -> None:
    import onnxruntime

    entries = {}

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key: str, value: str) -> None:
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(runner, "_cpuinfo", lambda key: flags)
    runner.open_model("onnxruntime", conv_onnx(tmp_path / "m.onnx"))
    assert ("session.x64quantprecision" in entries) is exact_kernels
    assert entries["session.intra_op.allow_spinning"] == "0"
