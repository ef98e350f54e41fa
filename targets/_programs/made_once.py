"""The user's cache folder: things made once, beside and then renamed, under a lock."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanedge.errors import OutputError
from leanedge.resources import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["key_of", "locked", "make_once"]


def key_of(*parts: Any) -> str:
    """Twelve hex digits that stand for the JSON of `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds the lock `name` of the cache: another process that wants it waits."""
    folder = _made(cache_root() / "locks")
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by a crash
        yield


def make_once(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder `name`, made by ``make(empty folder)`` if it is not there yet.

    `make` works in a folder beside it that gets the final name only when `make` returned, so that what stands under
    `name` is always whole. Two processes never make it at once.

    Raises:
        OutputError: The cache folder can't be written.
    """
    final = cache_root() / name
    if final.is_dir():
        return final
    with locked(name.replace("/", "-")):
        if final.is_dir():  # another process made it while this one waited
            return final
        _made(final.parent)
        draft = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            draft.chmod(0o755)
            make(draft)
            draft.rename(final)
        finally:
            if draft.exists():
                shutil.rmtree(draft)
    return final


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache folder can't be written ({error.strerror})",
            where=str(folder),
            hint="free or fix it, or set LEANEDGE_CACHE to a folder that you can write",
        ) from error
    return folder
