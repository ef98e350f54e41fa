"""The counting plug-in against programs whose instructions were counted by hand."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from a64_programs import one_loop, threads
from leanedge.targets._linux.qemu import QEMU, count_plugin

if TYPE_CHECKING:
    from pathlib import Path


def counted(program: Path) -> tuple[int, int, int]:
    """Runs it and returns region 7's instructions, loads and stores."""
    qemu, out = QEMU.get(), program.with_suffix(".txt")
    environment = {**os.environ, **({"LD_LIBRARY_PATH": str(qemu.libraries)} if qemu.libraries else {})}
    plugin = f"{count_plugin(qemu)},out={out}"
    command = [qemu.path, "-cpu", "cortex-a72", "-plugin", plugin, program]
    subprocess.run(command, env=environment, check=True, timeout=60)
    (line,) = out.read_text().splitlines()
    region, *found = (int(word) for word in line.split())
    assert region == 7
    return found[0], found[1], found[2]


@pytest.mark.parametrize("times", [1, 1000, 70_000])
def test_instructions_loads_and_stores_are_exact(tmp_path: Path, times: int) -> None:
    expected = one_loop(tmp_path / "loop", times)
    assert counted(tmp_path / "loop") == expected


def test_no_thread_is_lost(tmp_path: Path) -> None:
    least = threads(tmp_path / "threads", count=4, times=1_000_000)
    instructions, _, _ = counted(tmp_path / "threads")
    assert least <= instructions <= least + 500


def test_a_plug_in_that_cannot_write_says_so(tmp_path: Path) -> None:
    one_loop(tmp_path / "loop", 1)
    (tmp_path / "loop.txt").mkdir()
    with pytest.raises(subprocess.CalledProcessError):
        counted(tmp_path / "loop")
