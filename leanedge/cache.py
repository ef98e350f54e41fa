"""What was computed once is not computed again: results filed by the hash of all that made them."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import OutputError
from leanedge.resources import CACHE_ELSEWHERE, cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "cached_folder",
    "cached_json",
    "code_version",
    "digest",
    "find_json",
    "keep_json",
    "results_root",
    "today",
]


def results_root() -> Path:
    """Where results are filed; programs and root file systems have folders of their own beside it."""
    return cache_root() / "results"


def today() -> str:
    """Now, as cached evidence is dated."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def digest(*parts: Any) -> str:
    """SHA-256 over text, bytes, numbers, arrays and containers: other values, types or nesting, another digest.

    A list and a tuple of the same items count as the same, a dict's order does not count.

    Raises:
        TypeError: Anything else, arrays of objects included.
    """
    hasher = hashlib.sha256()
    _feed(hasher, parts)
    return hasher.hexdigest()


def _feed(hasher: hashlib._Hash, part: Any) -> None:
    if isinstance(part, np.ndarray):
        if part.dtype.hasobject:
            raise TypeError("an array of objects has no digest")
        hasher.update(f"array{part.dtype.descr}{part.shape}".encode())
        hasher.update(part.tobytes())
    elif isinstance(part, bytes):
        hasher.update(b"bytes%d:" % len(part))
        hasher.update(part)
    elif isinstance(part, dict):
        hasher.update(b"dict%d:" % len(part))
        for key in sorted(part, key=repr):
            _feed(hasher, key)
            _feed(hasher, part[key])
    elif isinstance(part, (list, tuple)):
        hasher.update(b"list%d:" % len(part))
        for item in part:
            _feed(hasher, item)
    elif isinstance(part, (set, frozenset)):
        hasher.update(b"set%d:" % len(part))
        for item in sorted(part, key=repr):
            _feed(hasher, item)
    elif part is None or isinstance(part, (str, int, float, bool, np.generic)):
        hasher.update(f"{type(part).__name__}:{part!r};".encode())
    else:
        raise TypeError(f"{type(part).__name__} has no digest")


@lru_cache(maxsize=1)
def code_version() -> str:
    """Hash of LeanEdge's own sources: a change of the code makes every earlier result another one."""
    from leanedge import resources

    hasher = hashlib.sha256()
    for folder in (Path(__file__).parent, resources.folder("targets")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".c", ".h"):
                _feed(hasher, (path.relative_to(folder).as_posix(), path.read_bytes()))
    return hasher.hexdigest()


def cached_json(kind: str, key: str, make: Callable[[], Mapping[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The JSON result filed under `kind` and `key`, made if it isn't there.

    Returns:
        The result, and whether it came from the cache.

    Raises:
        OutputError: The cache can't be written.
    """
    found = find_json(kind, key)
    if found is not None:
        return found, True
    return keep_json(kind, key, make()), False


def find_json(kind: str, key: str) -> dict[str, Any] | None:
    """The JSON result filed under `kind` and `key`, or None."""
    try:
        found = json.loads(_json_path(kind, key).read_text())
    except (OSError, ValueError):
        return None  # absent, or cut short when the machine lost power: made again
    return found if isinstance(found, dict) else None


def keep_json(kind: str, key: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Files `content` under `kind` and `key`, and gives it back as JSON has it.

    Raises:
        OutputError: The cache can't be written.
    """
    text = json.dumps(dict(content), allow_nan=False)
    _write_beside(_json_path(kind, key), text.encode())
    found: dict[str, Any] = json.loads(text)
    return found


def _json_path(kind: str, key: str) -> Path:
    return results_root() / kind / key[:2] / f"{key}.json"


def cached_folder(kind: str, key: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """The folder filed under `kind` and `key`; `make` fills a temporary one that is then renamed.

    Returns:
        The folder (not to be changed), and whether it came from the cache.

    Raises:
        OutputError: The cache can't be written.
    """
    path = results_root() / kind / key[:2] / key
    if _is_whole(path):
        return path, True
    with _explained():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".making-", dir=path.parent))
        try:
            make(beside)
            sizes = {file.relative_to(beside).as_posix(): file.stat().st_size for file in _files(beside)}
            (beside / _SIZES).write_text(json.dumps(sizes))
            _file(beside, path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return path, False


_SIZES = ".sizes.json"
"""Size of every file of a cached folder, written last: what lost its end with the machine's power is made again."""


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != _SIZES]


def _is_whole(path: Path) -> bool:
    try:
        sizes = json.loads((path / _SIZES).read_text())
        return bool(all((path / name).stat().st_size == size for name, size in sizes.items()))
    except (OSError, ValueError, AttributeError):
        return False


def _file(beside: Path, path: Path) -> None:
    """Renames the finished folder; a damaged one in its place goes, a whole one of another process stays."""
    try:
        beside.rename(path)
    except OSError:
        if _is_whole(path):
            return
        if not path.is_dir():
            raise
        damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=path.parent))
        with suppress(FileNotFoundError):  # another process was first
            path.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
        if not _is_whole(path):
            beside.rename(path)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns an OSError of writing the cache into an OutputError; what a maker reads elsewhere keeps its error."""
    try:
        yield
    except OSError as error:
        root = str(results_root())
        # A failed write has no file name: with a full disk there is nothing else that it could be.
        name = str(error.filename or "")
        ours = name and (name.startswith(root) or root.startswith(name))
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and not ours:
            raise
        raise OutputError(
            f"the cache can't be written: {(error.strerror or str(error)).lower()}", where=root, hint=CACHE_ELSEWHERE
        ) from error


def _write_beside(path: Path, data: bytes) -> None:
    with _explained():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".making-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
