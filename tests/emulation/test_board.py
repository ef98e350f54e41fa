"""What a board shows of its CPU, and the cache that such things are made in."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from boards import CORTEX_A53, CORTEX_A76
from leanedge.targets._linux.board import board_view, cpu_files
from leanedge.targets._programs.made_once import make_once

from leanedge.errors import OutputError, ProfileError
from leanedge.resources import cache_root

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path / "cache"))


def test_cpuinfo_has_a_block_for_each_core() -> None:
    text = cpu_files(replace(CORTEX_A53, cores=2, model="A Board"))["proc/cpuinfo"]
    assert text.count("CPU part\t: 0xd03\n") == 2
    assert "processor\t: 1\n" in text
    assert text.endswith("Model\t: A Board\n")


def test_a_second_level_is_shared_unless_there_is_a_third() -> None:
    system = "sys/devices/system/cpu"
    two, three = cpu_files(CORTEX_A53), cpu_files(CORTEX_A76)
    assert two[f"{system}/cpu1/cache/index2/shared_cpu_list"] == "0-3\n"
    assert f"{system}/cpu1/cache/index3/size" not in two
    assert three[f"{system}/cpu1/cache/index2/shared_cpu_list"] == "1\n"
    assert three[f"{system}/cpu1/cache/index3/size"] == "2048K\n"
    assert three[f"{system}/online"] == "0-3\n"


def test_a_view_links_the_root_and_shows_the_board(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("usr/lib", "home/someone", "proc"):
        (root / name).mkdir(parents=True)
    (root / "usr/lib/libx.so").write_text("x")
    view = board_view(CORTEX_A53, root)
    assert (view / "usr/lib/libx.so").read_text() == "x"
    assert (view / "lib/libx.so").read_text() == "x"  # merged /usr
    assert "0xd03" in (view / "proc/cpuinfo").read_text()
    assert not (view / "home").exists()  # else this machine's own files would be hidden
    assert list((root / "proc").iterdir()) == []
    assert board_view(CORTEX_A53, root) == view
    assert board_view(CORTEX_A76, root) != view


@pytest.mark.parametrize(("field", "value"), [("cpu", "max"), ("cpu", ""), ("cores", 0)])
def test_made_up_cores_are_refused(field: str, value: object) -> None:
    with pytest.raises(ProfileError, match="emulator"):
        replace(CORTEX_A53, **{field: value})  # type: ignore[arg-type]


def test_two_at_once_make_a_thing_once() -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("whole")

    threads = [threading.Thread(target=make_once, args=("thing", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (cache_root() / "thing/file").read_text() == "whole"


def test_a_failed_making_leaves_nothing() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        make_once("thing", fail)
    assert [path.name for path in cache_root().iterdir()] == ["locks"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="LEANEDGE_CACHE"):
        make_once("thing", lambda _: None)
