from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from leanedge.errors import OutputError
from leanedge.export import folder as folder_module
from leanedge.export.folder import check_folder, list_files, write_folder, write_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

HASHES = {"model": "ab" * 32}


def fill(text: str, *, extra: str = "") -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "model.onnx").write_text(text)
        (folder / "report.json").write_text("{}")
        if extra:
            (folder / extra).write_text("x")
        write_manifest(folder, versions={"leanedge": "0.1.0"}, seeds={"split": 7}, hashes=HASHES)

    return build


def content(folder: Path) -> dict[str, str]:
    return {each.relative_to(folder).as_posix(): each.read_text() for each in folder.rglob("*") if each.is_file()}


def test_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "dist" / "rpi4"
    assert write_folder(target, fill("one", extra="old.bin")) == target
    assert content(target)["sub/model.onnx"] == "one"
    write_folder(target, fill("two"))
    assert set(content(target)) == {"sub/model.onnx", "report.json", "manifest.json"}
    assert content(target)["sub/model.onnx"] == "two"
    assert [each.name for each in target.parent.iterdir()] == ["rpi4"]


def test_the_folder_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert write_folder(tmp_path / "out", fill("x")).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_manifest_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    first, second = (write_folder(tmp_path / name, fill("same")) for name in ("a", "b"))
    (second / "report.json").write_text('{"created": "later"}')
    write_manifest(second, versions={"leanedge": "0.1.0"}, seeds={"split": 7}, hashes=HASHES)
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()
    manifest = json.loads((first / "manifest.json").read_text())
    assert manifest["files"] == [
        {
            "path": "sub/model.onnx",
            "bytes": 4,
            "sha256": "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5",
        }
    ]
    assert manifest["reports"] == ["report.json"]


def test_list_files_is_sorted_and_leaves_out_reports(tmp_path: Path) -> None:
    for name in ("b", "a", "manifest.json", "report.html"):
        (tmp_path / name).write_text(name)
    assert [each.path for each in list_files(tmp_path)] == ["a", "b"]


class Broken(Exception):
    pass


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, MemoryError])
def test_a_failed_build_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    target = write_folder(tmp_path / "out", fill("old"))
    before = content(target)

    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(error):
        write_folder(target, build)
    assert content(target) == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_a_failed_swap_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = write_folder(tmp_path / "out", fill("old"))
    before, rename = content(target), Path.rename

    def fail_on_the_new(self: Path, destination: Path) -> Path:
        if self.name.endswith(".building"):
            raise error
        return rename(self, destination)

    monkeypatch.setattr(Path, "rename", fail_on_the_new)
    with pytest.raises(type(error)):
        write_folder(target, fill("new"))
    assert content(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_build_removes_the_parents_it_made(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise Broken

    with pytest.raises(Broken):
        write_folder(tmp_path / "a" / "b" / "out", build)
    assert not list(tmp_path.iterdir())


def test_a_really_full_disk(tmp_path: Path) -> None:
    target = write_folder(tmp_path / "out", fill("old"))
    before = content(target)

    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        Path("/dev/full").write_text("x" * 100_000)

    with pytest.raises(OutputError, match="no space left") as caught:
        write_folder(target, build)
    assert "MB are free" in str(caught.value)
    assert content(target) == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("where", ["mkdtemp", "manifest"])
def test_a_full_disk_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "mkdtemp":
        monkeypatch.setattr(folder_module.tempfile, "mkdtemp", full)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        write_folder(tmp_path / "new" / "out", fill("x"))
    assert not list(tmp_path.iterdir())


def test_errors_of_other_files_stay_what_they_are(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (tmp_path / "absent.npz").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        write_folder(tmp_path / "out", build)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [check_folder, lambda target: write_folder(target, fill("x"))])
def test_refuses_a_folder_of_others(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not written by LeanEdge"):
        write(tmp_path)
    assert content(tmp_path) == {"thesis.tex": "years of work"}


def test_refuses_when_someone_put_files_beside_ours(tmp_path: Path) -> None:
    target = write_folder(tmp_path / "out", fill("old"))
    (target / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write: notes\.txt"):
        write_folder(target, fill("new"))
    assert content(target)["notes.txt"] == "mine"


def test_refuses_what_appears_during_the_build(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def build(folder: Path) -> None:
        target.mkdir()
        (target / "mine").write_text("mine")

    with pytest.raises(OutputError, match="not written by LeanEdge"):
        write_folder(target, build)
    assert content(tmp_path) == {"out/mine": "mine"}


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    check_folder(tmp_path / "out")
    assert content(write_folder(tmp_path / "out", fill("x")))["sub/model.onnx"] == "x"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_folder(tmp_path / "link", fill("x"))
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real")["sub/model.onnx"] == "x"


@pytest.mark.parametrize("write", [check_folder, lambda target: write_folder(target, fill("x"))])
def test_refuses_a_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="this is a file"):
        write(tmp_path / "out")
    with pytest.raises(OutputError, match="can't be made"):
        write(tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_an_unwritable_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(folder_module.tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match="can't be written") as caught:
        check_folder(tmp_path / "out")
    assert caught.value.exit_code == 2
    assert str(tmp_path) in caught.value.hint


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b" / "out")
    assert not list(tmp_path.iterdir())


def test_the_root_is_no_output() -> None:
    with pytest.raises(OutputError, match="root folder"):
        check_folder(Path("/"))
