"""Filed results: damaged ones are made again, makers may run at once or fail, a full or locked disk is said."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leanedge import cache, resources
from leanedge.cache import cached_folder, cached_json, find_json, keep_json
from leanedge.errors import OutputError

KEY = "ab" + "0" * 62


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def writes(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep/part.txt").write_text(text)
        (folder / "whole.txt").write_text(text)

    return make


def never(*_: object) -> None:
    raise AssertionError("made again")


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*") if path.name.startswith((".making", ".damaged"))]


def test_json_is_made_once(root: Path) -> None:
    assert cached_json("k", KEY, lambda: {"a": (1, 2)}) == ({"a": [1, 2]}, False)
    assert cached_json("k", KEY, never) == ({"a": [1, 2]}, True)  # type: ignore[arg-type]
    assert find_json("k", KEY) == {"a": [1, 2]}
    assert find_json("other", KEY) is None
    assert not leftovers(root)


@pytest.mark.parametrize("damage", [b"", b'{"a": [1,', b"\xff\xfe", b"[1]", b"null", b"3"])
def test_damaged_json_is_made_again(root: Path, damage: bytes) -> None:
    keep_json("k", KEY, {"a": 1})
    (path,) = root.rglob("*.json")
    path.write_bytes(damage)
    assert find_json("k", KEY) is None
    assert cached_json("k", KEY, lambda: {"a": 2}) == ({"a": 2}, False)
    assert find_json("k", KEY) == {"a": 2}


def test_what_json_has_not_is_refused_and_not_kept() -> None:
    with pytest.raises(ValueError, match="JSON"):
        keep_json("k", KEY, {"a": float("nan")})
    assert find_json("k", KEY) is None


def test_a_folder_is_made_once(root: Path) -> None:
    path, cached = cached_folder("k", KEY, writes("x"))
    assert not cached
    assert (path / "deep/part.txt").read_text() == "x"
    assert cached_folder("k", KEY, never) == (path, True)
    assert not leftovers(root)


@pytest.mark.parametrize("name", ["whole.txt", "deep/part.txt", ".sizes.json"])
@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_damaged_folder_is_made_again(root: Path, name: str, damage: str) -> None:
    path, _ = cached_folder("k", KEY, writes("x"))
    if damage == "missing":
        (path / name).unlink()
    else:
        (path / name).write_text("")
    again, cached = cached_folder("k", KEY, writes("y"))
    assert (again, cached) == (path, False)
    assert (path / "deep/part.txt").read_text() == (path / "whole.txt").read_text() == "y"
    assert cached_folder("k", KEY, never) == (path, True)
    assert not leftovers(root)


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_maker_that_fails_leaves_nothing(root: Path, error: BaseException) -> None:
    def fails(folder: Path) -> None:
        writes("half")(folder)
        raise error

    with pytest.raises(type(error)):
        cached_folder("k", KEY, fails)
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert not leftovers(root)

    def refuses() -> dict[str, int]:
        raise error

    with pytest.raises(type(error)):
        cached_json("k", KEY, refuses)
    assert find_json("k", KEY) is None


def test_threads_that_make_the_same_get_one_result(root: Path) -> None:
    together = threading.Barrier(8)

    def make(number: int) -> tuple[Path, bool]:
        def fill(folder: Path) -> None:
            writes(str(number))(folder)
            together.wait(30)  # all are made before any is filed

        return cached_folder("k", KEY, fill)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(make, range(8)))
    (path,) = {path for path, _ in found}
    assert (path / "whole.txt").read_text() == (path / "deep/part.txt").read_text()
    assert not leftovers(root)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda number: cached_json("j", KEY, lambda: {"n": number})[0]["n"], range(40)))
    assert set(texts) <= set(range(40))
    assert find_json("j", KEY) in [{"n": number} for number in texts]


def test_processes_that_make_the_same_get_one_result(root: Path, tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from leanedge.cache import cached_folder
number, ready = sys.argv[1], Path(sys.argv[2])
def make(folder):
    (folder / "whole.txt").write_text(number * 1000)
    (ready / number).touch()
    while len(list(ready.iterdir())) < 3:
        time.sleep(0.01)
path, cached = cached_folder("k", "ab" + "0" * 62, make)
print((path / "whole.txt").read_text()[:1], cached)
"""
    ready = tmp_path / "ready"
    ready.mkdir()
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(n), str(ready)], stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    said = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    path, cached = cached_folder("k", KEY, never)
    assert cached
    kept = (path / "whole.txt").read_text()
    assert kept == kept[0] * 1000
    assert said == {f"{kept[0]} False"}
    assert not leftovers(root)


def test_a_full_disk_is_said_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        writes("half")(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write() raises it: without a name

    with pytest.raises(OutputError, match="no space left on device") as caught:
        cached_folder("k", KEY, full)
    assert caught.value.exit_code == 2
    assert "LEANEDGE_CACHE" in str(caught.value)
    assert str(root) in str(caught.value)
    assert not [path for path in root.rglob("*") if path.is_file()]

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            os.close(self.handle)

        def __init__(self, handle: int, mode: str) -> None:
            self.handle = handle

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.os, "fdopen", Full)
    with pytest.raises(OutputError, match="LEANEDGE_CACHE"):
        keep_json("k", KEY, {"a": 1})
    assert not leftovers(root)


def test_a_cache_that_can_not_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file/below/it"):
        monkeypatch.setenv("LEANEDGE_CACHE", str(place))
        with pytest.raises(OutputError, match="LEANEDGE_CACHE"):
            cached_folder("k", KEY, never)
        with pytest.raises(OutputError, match="LEANEDGE_CACHE"):
            keep_json("k", KEY, {})


def test_a_read_only_cache_is_said_but_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = cached_folder("k", KEY, writes("x"))
    keep_json("k", KEY, {"a": 1})

    def locked(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))  # root may write where others may not

    monkeypatch.setattr(Path, "mkdir", locked)
    assert cached_folder("k", KEY, never) == (path, True)
    assert find_json("k", KEY) == {"a": 1}
    other = "cd" + KEY[2:]
    with pytest.raises(OutputError, match="read-only file system"):
        cached_folder("k", other, never)
    with pytest.raises(OutputError, match="read-only file system"):
        keep_json("k", other, {})


def test_a_locked_parent_of_a_cache_that_is_not_there_yet_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "new"))

    monkeypatch.setenv("LEANEDGE_CACHE", str(tmp_path / "new/deeper/cache"))
    monkeypatch.setattr(Path, "mkdir", locked)
    with pytest.raises(OutputError, match="permission denied"):
        keep_json("k", KEY, {})


def test_an_error_of_what_a_maker_reads_is_not_the_caches(tmp_path: Path) -> None:
    def reads(folder: Path) -> None:
        (tmp_path / "absent.onnx").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        cached_folder("k", KEY, reads)


def test_without_a_home_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEANEDGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OutputError, match="LEANEDGE_CACHE"):
        cached_json("k", KEY, never)  # type: ignore[arg-type]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEANEDGE_CACHE", "/a")
    assert resources.cache_root() == Path("/a")
    monkeypatch.setenv("LEANEDGE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert resources.cache_root() == Path("/b/leanedge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resources.cache_root() == tmp_path / ".cache/leanedge"


def test_another_file_name_or_folder_is_another_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(files: dict[str, str]) -> str:
        package = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(text)
        monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
        monkeypatch.setattr("leanedge.resources.folder", lambda name: package / "targets")
        return cache.code_version.__wrapped__()

    first = version({"a.py": "x", "b/c.py": "y"})
    assert version({"a.py": "x", "b/c.py": "y"}) == first
    assert version({"a.py": "x", "b/c.py": "y", "notes.md": "z"}) == first
    assert version({"a.py": "x", "d/c.py": "y"}) != first
    assert version({"a.py": "xb/c.py", "c.py": "y"}) != first
    assert version({"a.py": "x", "b/c.py": "z"}) != first


def test_the_refusal_of_a_full_disk_is_not_filed_as_the_candidates(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
    import small_classifier

    import leanedge

    model, samples = small_classifier.write(tmp_path, count=120)

    def full(*_: object) -> None:
        raise OutputError("no space left on device", hint="free some")

    with monkeypatch.context() as patch:
        patch.setattr("leanedge.evaluate.make", full)
        with pytest.raises(OutputError, match="no space left"):
            leanedge.build(model, target="host", data=samples, output=tmp_path / "out")
    assert not [path for path in root.rglob("refusal.json") if "no space" in json.loads(path.read_text())[1]]
    assert not (tmp_path / "out").exists()
