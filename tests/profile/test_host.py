"""This machine as a profile: from made-up /proc and /sys trees, and for real."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from leanedge import host
from leanedge.errors import ProfileError
from leanedge.profile import load_profile

if TYPE_CHECKING:
    from pathlib import Path


def _machine(root: Path, cpuinfo: str, memory_kib: int = 2048, limit: str | None = None) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    (root / "proc/meminfo").write_text(f"MemTotal:  {memory_kib} kB\nMemFree: 1 kB\n")
    cache = root / "sys/devices/system/cpu/cpu0/cache"
    for index, (level, kind, size, shared) in enumerate(
        [(1, "Data", "32K", "0"), (1, "Instruction", "48K", "0"), (2, "Unified", "1M", "0-1,4-5")]
    ):
        folder = cache / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in {
            "level": level, "type": kind, "size": size, "coherency_line_size": 64, "shared_cpu_list": shared,
        }.items():  # fmt: skip
            (folder / name).write_text(f"{text}\n")
    if limit is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(limit + "\n")
    return root


def test_a_made_up_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    text = (
        "processor : 0\nmodel name\t: Made Up\nflags\t\t: avx2 fma avx512_vnni\n\nprocessor : 1\nmodel name : other\n"
    )
    profile = host.detect_host(_machine(tmp_path, text))
    assert profile.title == "this machine: Made Up"
    assert profile.cpu.features == ("avx2", "avx512_vnni", "fma")
    assert profile.cpu.clock_hz is None
    assert profile.region_bytes("ram") == 2048 * 1024
    assert [(c.level, c.kind, c.bytes, c.shared_by) for c in profile.caches] == [
        (1, "data", 32768, 1), (1, "instruction", 49152, 1), (2, "unified", 1 << 20, 4),
    ]  # fmt: skip
    assert "openvino" in [entry.runtime for entry in profile.runtimes]
    assert "avx512_vnni" in profile.runtimes[0].gains[0].why


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    profile = host.detect_host(_machine(tmp_path, "Features : fp asimd\n", limit="1000000"))
    assert profile.region_bytes("ram") == 1_000_000
    assert profile.cpu.isa == "aarch64"
    assert "openvino" not in [entry.runtime for entry in profile.runtimes]


def test_no_limit_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    profile = host.detect_host(_machine(tmp_path, "flags : avx2\n", limit="max"))
    assert profile.region_bytes("ram") == 2048 * 1024


def test_a_machine_that_can_not_be_a_target_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ProfileError, match="riscv64"):
        host.detect_host(_machine(tmp_path, "hart : 0\n"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(ProfileError, match="x86_64"):
        host.detect_host(tmp_path / "nothing")


def test_this_very_machine() -> None:
    profile = load_profile("host")
    assert profile.name == "host"
    assert profile.threads == len(os.sched_getaffinity(0))
    assert profile.latency == ()
    size = profile.runtime("onnxruntime").installed_bytes
    assert size is not None
    assert size > 1_000_000


def test_features_that_are_missing_are_named() -> None:
    here = load_profile("host")
    assert host.missing_features(here, here) == ()
    other = "rpi4" if here.cpu.isa == "x86_64" else "x86-avx2"
    assert host.missing_features(load_profile(other), here) == (load_profile(other).cpu.isa,)
    fewer = here.model_copy(update={"cpu": here.cpu.model_copy(update={"features": ()})})
    assert host.missing_features(here, fewer) == here.cpu.features
