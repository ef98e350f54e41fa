"""What was computed once is not computed again: results filed by the hash of all that made them."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "cache_root",
    "cached_folder",
    "cached_json",
    "code_version",
    "digest",
    "find_json",
    "keep_json",
    "results_root",
    "today",
]


def cache_root() -> Path:
    """``$LEANEDGE_CACHE``, else ``$XDG_CACHE_HOME/leanedge``, else ``~/.cache/leanedge``."""
    if named := os.environ.get("LEANEDGE_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "leanedge"


def results_root() -> Path:
    """Where results are filed; programs and root file systems have folders of their own beside it."""
    return cache_root() / "results"


def today() -> str:
    """Now, as cached evidence is dated."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def digest(*parts: Any) -> str:
    """SHA-256 over values that are equal exactly when their digests are: text, bytes, numbers, arrays, containers."""
    hasher = hashlib.sha256()
    _feed(hasher, parts)
    return hasher.hexdigest()


def _feed(hasher: hashlib._Hash, part: Any) -> None:
    if isinstance(part, np.ndarray):
        array = np.ascontiguousarray(part)
        hasher.update(f"array{array.dtype.str}{array.shape}".encode())
        hasher.update(array.tobytes())
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
        _feed(hasher, sorted(part, key=repr))
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
                hasher.update(path.name.encode())
                hasher.update(path.read_bytes())
    return hasher.hexdigest()


def cached_json(kind: str, key: str, make: Callable[[], Mapping[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The JSON result filed under `kind` and `key`, made if it isn't there.

    Returns:
        The result, and whether it came from the cache.
    """
    found = find_json(kind, key)
    if found is not None:
        return found, True
    return keep_json(kind, key, make()), False


def find_json(kind: str, key: str) -> dict[str, Any] | None:
    """The JSON result filed under `kind` and `key`, or None."""
    try:
        found: dict[str, Any] = json.loads(_json_path(kind, key).read_text())
    except (OSError, ValueError):
        return None  # absent, or cut short by a full disk: made again
    return found


def keep_json(kind: str, key: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Files `content` under `kind` and `key`, and gives it back as JSON has it."""
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
    """
    path = results_root() / kind / key[:2] / key
    if path.is_dir():
        return path, True
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".making-", dir=path.parent))
    try:
        make(beside)
        try:
            beside.rename(path)
        except OSError:
            if not path.is_dir():  # else another process made the same thing first
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path, False


def _write_beside(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".making-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
