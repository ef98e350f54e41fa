"""Predicted latency and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanedge.cost.energy import predict_energy
from leanedge.cost.flash import artifact_bytes, runtime_bytes
from leanedge.cost.latency import dtypes_of, find_cell, predict_latency
from leanedge.cost.ram import measured_ram
from leanedge.errors import ProfileError
from leanedge.figures import Figure, unavailable
from leanedge.names import SCHEMES
from leanedge.profile import DeviceProfile, LatencyCell, Power, list_profiles, load_profile
from leanedge.target import Artifact

if TYPE_CHECKING:
    from pathlib import Path

FP32 = LatencyCell(
    runtime="onnxruntime", dtype="fp32", threads=2, ns_per_instruction=0.5, low=0.8, high=1.25, error=0.1, models=9,
    borrowed=None, decides=True, source="made up for the test",
)  # fmt: skip
INT8 = FP32.model_copy(
    update={"dtype": "int8", "ns_per_instruction": 0.2, "models": 2, "decides": False, "borrowed": "the interval"}
)


def _profile(*cells: LatencyCell, power: Power | None = None) -> DeviceProfile:
    host = load_profile("host")
    cpu = host.cpu.model_copy(update={"cores": 2})
    return host.model_copy(update={"name": "board", "cpu": cpu, "latency": cells, "power": power})


def test_instructions_times_the_constant() -> None:
    figure = predict_latency(_profile(FP32, INT8), "onnxruntime", "fp32", 100_000_000)
    assert figure.value == pytest.approx(50)
    assert figure.how == "predicted"
    assert figure.unit == "ms"
    assert figure.detail["low_ms"] == pytest.approx(40)
    assert figure.detail["high_ms"] == pytest.approx(62.5)
    assert figure.detail["cells"] == ["board onnxruntime fp32 x2"]
    assert figure.detail["models"] == 9
    assert figure.detail["error"] == 0.1
    assert figure.detail["decides"] is True
    assert figure.detail["borrowed"] is None


def test_what_is_borrowed_is_said() -> None:
    figure = predict_latency(_profile(FP32, INT8), "onnxruntime", "w8a8", 100_000_000)
    assert figure.value == pytest.approx(20)
    assert figure.detail["borrowed"] == "the interval"
    assert figure.detail["decides"] is False


def test_a_scheme_of_two_dtypes_lies_between_their_constants() -> None:
    profile = _profile(FP32, INT8)
    figure = predict_latency(profile, "onnxruntime", "mixed", 100_000_000)
    assert figure.value == pytest.approx(1e2 * (0.5 * 0.2) ** 0.5)
    assert figure.detail["low_ms"] == predict_latency(profile, "onnxruntime", "w8a8", 10**8).detail["low_ms"]
    assert figure.detail["high_ms"] == predict_latency(profile, "onnxruntime", "fp32", 10**8).detail["high_ms"]
    assert figure.detail["models"] == 2
    assert figure.detail["decides"] is False


@given(st.integers(min_value=1, max_value=10**12), st.sampled_from(SCHEMES))
def test_the_prediction_lies_in_its_interval(instructions: int, scheme: Any) -> None:
    figure = predict_latency(_profile(FP32, INT8), "onnxruntime", scheme, instructions)
    assert figure.value is not None
    assert 0 < figure.detail["low_ms"] <= figure.value <= figure.detail["high_ms"]


def test_no_constant_is_no_latency_with_the_reason() -> None:
    empty = predict_latency(_profile(), "onnxruntime", "fp32", 1)
    assert empty.how == "unavailable"
    assert "no published latency" in empty.detail["reason"]
    threads = predict_latency(_profile(FP32, INT8), "onnxruntime", "fp32", 1, threads=4)
    assert threads.value is None
    assert "fp32 x4 (it has: fp32 x2, int8 x2)" in threads.detail["reason"]
    runtime = predict_latency(_profile(FP32), "openvino", "fp32", 1)
    assert "it has: none" in runtime.detail["reason"]
    half = predict_latency(_profile(FP32), "onnxruntime", "mixed", 1)
    assert half.value is None


def test_every_scheme_has_its_dtypes() -> None:
    for scheme in SCHEMES:
        assert dtypes_of(scheme)


@pytest.mark.parametrize("name", list_profiles())
def test_shipped_cells_predict(name: str) -> None:
    profile = load_profile(name)
    for cell in profile.latency:
        assert find_cell(profile, cell.runtime, cell.dtype, cell.threads) == cell
        figure = predict_latency(
            profile, cell.runtime, "fp32" if cell.dtype == "fp32" else "w8a8", 10**8, threads=cell.threads
        )
        assert figure.value == pytest.approx(100 * cell.ns_per_instruction)
        # A core issues a few instructions a cycle at most, and a fit that says more is wrong.
        assert profile.cpu.clock_hz is not None
        cycles = cell.ns_per_instruction * 1e-9 * profile.cpu.clock_hz * cell.threads
        assert 0.2 < cycles < 6, f"{figure.detail['cells']}: {cycles:.2f} cycles an instruction and thread"


def test_energy_needs_a_sourced_power() -> None:
    latency = predict_latency(_profile(FP32), "onnxruntime", "fp32", 100_000_000)
    without = predict_energy(_profile(FP32), latency)
    assert without.value is None
    assert "power" in without.detail["reason"]
    board = _profile(FP32, power=Power(load_watts=6.0, source="made up for the test"))
    energy = predict_energy(board, latency)
    assert energy.value == pytest.approx(300_000)  # 50 ms at 6 W are 0.3 J
    assert energy.how == "predicted"
    assert energy.detail["low_uj"] == pytest.approx(240_000)
    assert energy.detail["high_uj"] == pytest.approx(375_000)
    nothing = predict_energy(board, unavailable("ms", "not counted"))
    assert nothing.value is None
    assert "not counted" in nothing.detail["reason"]
    assert "low_uj" not in predict_energy(board, Figure(50, "ms", "measured")).detail


def test_flash_is_the_files(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x" * 100)
    (tmp_path / "weights.bin").write_bytes(b"x" * 23)
    (tmp_path / "notes.txt").write_bytes(b"not shipped")
    artifact = Artifact(
        kind="linux_onnxruntime", runtime="onnxruntime", folder=tmp_path, files=("model.onnx", "weights.bin"),
        input_layouts={}, output_layouts={},
    )  # fmt: skip
    figure = artifact_bytes(artifact)
    assert figure.value == 123
    assert figure.how == "proved"
    assert figure.detail["files"] == {"model.onnx": 100, "weights.bin": 23}


def test_the_runtime_s_size_is_the_profile_s() -> None:
    here = load_profile("host")
    assert runtime_bytes(here, "onnxruntime").value == here.runtime("onnxruntime").installed_bytes
    entry = here.runtimes[0].model_copy(update={"installed_bytes": None})
    unknown = runtime_bytes(here.model_copy(update={"runtimes": (entry,)}), entry.runtime)
    assert unknown.value is None
    with pytest.raises(ProfileError, match="no runtime"):
        runtime_bytes(here, "nothing")


@dataclass(frozen=True)
class Seen:
    ram_bytes: int = 30_000_000
    runtime_bytes: int = 20_000_000
    inferences: int = 10
    counted: str = "resident pages"


def test_ram_shows_the_runtime_s_share() -> None:
    figure = measured_ram(Seen(), "emulator")
    assert figure.value == 30_000_000
    assert figure.how == "measured"
    assert figure.detail["model_bytes"] == 10_000_000
    assert figure.detail["where"] == "emulator"
