"""The output folder: written whole or not at all, and the manifest that says what is in it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["MANIFEST", "REPORTS", "FileEntry", "check_folder", "list_files", "write_folder", "write_manifest"]

MANIFEST = "manifest.json"
REPORTS = ("report.html", "report.json", "report.md", "report.xml")
"""Files that hold times or measurements, so that they have no hash in the manifest."""

_SCHEMA = 1
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_BAD_NAME = {errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.EEXIST}


@dataclass(frozen=True)
class FileEntry:
    """A file of the output: its path in the folder (with ``/``), size and SHA-256 (hexadecimal)."""

    path: str
    bytes: int
    sha256: str


def list_files(folder: Path, *, without: tuple[str, ...] = (MANIFEST, *REPORTS)) -> tuple[FileEntry, ...]:
    """Every file under `folder` by path, apart from the top-level names in `without`."""
    entries = []
    for path in sorted(folder.rglob("*"), key=lambda each: each.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in without:
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
            entries.append(FileEntry(name, path.stat().st_size, digest.hexdigest()))
    return tuple(entries)


def write_manifest(
    folder: Path, *, versions: Mapping[str, str], seeds: Mapping[str, int], hashes: Mapping[str, str]
) -> Path:
    """Writes ``manifest.json``; call it last, when every other file stands.

    The same arguments and files give the same bytes: no time, no path of this machine, keys sorted.

    Args:
        folder: The output folder, or the temporary one that becomes it.
        versions: Package or program -> version, ``leanedge`` among them.
        seeds: What was seeded -> seed.
        hashes: What went in (``model``, ``data``, ``profile``, ``plan``, ...) -> SHA-256.
    """
    manifest = {
        "schema": _SCHEMA,
        "tool": "leanedge",
        "versions": dict(versions),
        "seeds": dict(seeds),
        "inputs": dict(hashes),
        "files": [{"path": each.path, "bytes": each.bytes, "sha256": each.sha256} for each in list_files(folder)],
        "reports": [name for name in REPORTS if (folder / name).is_file()],
    }
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    return path


def check_folder(target: Path) -> None:
    """Raises OutputError now if `write_folder` could not put its result at `target` after a long build.

    Leaves nothing behind, not even the parent folders.
    """
    target = _resolved(target)
    with _parent_of(target, keep=False) as parent, _explained(target, None):
        _beside(target, parent, "check").rmdir()


def write_folder(target: Path, build: Callable[[Path], None]) -> Path:
    """Calls `build` on an empty temporary folder beside `target`, then renames that folder to `target`.

    An output that is already there stays as it is until the new one is whole, and whenever anything fails, Ctrl-C
    included. It is replaced only if it is empty or holds nothing but what LeanEdge wrote.

    Args:
        target: The folder to write; missing parents are made, and removed again on failure.
        build: Fills the folder that it is given.

    Returns:
        The written folder, absolute.

    Raises:
        OutputError: The folder or its parent can't be written, the disk is full, or it holds other files.
    """
    target = _resolved(target)
    with _parent_of(target, keep=True) as parent:
        with _explained(target, None):
            new = _beside(target, parent, "building")
        try:
            with _explained(target, new):
                build(new)
            _refuse_foreign(target)  # again: the build took a while
            with _explained(target, None):
                new.chmod(0o777 & ~_umask())  # a temporary folder is for its owner alone
                _swap(new, target)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return target


def _swap(new: Path, target: Path) -> None:
    """Renames `new` to `target`; what stood there is deleted last, and put back when anything comes between."""
    if not target.exists():
        new.rename(target)
        return
    old = _beside(target, target.parent, "old")
    try:
        target.rename(old)  # onto an empty folder, which is allowed and keeps the name free of races
        new.rename(target)
    except BaseException:
        if not target.exists() and old.exists():
            old.rename(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path, parent: Path, purpose: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=f".{purpose}", dir=parent))


def _resolved(target: Path) -> Path:
    # A link to a folder stays a link: what it points to is swapped.
    try:
        target = target.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise OutputError(f"the path can't be followed: {error}", where=str(target)) from error
    if not target.name:
        raise OutputError(
            "the root folder can't be replaced", where=str(target), hint="give a folder of its own with -o"
        )
    return target


@contextmanager
def _parent_of(target: Path, *, keep: bool) -> Iterator[Path]:
    """Makes the parents of `target`; those that it made are removed after a failure, or always unless `keep`."""
    with _explained(target, None):
        _refuse_foreign(target)
    made: list[Path] = []
    whole = False
    try:
        with _explained(target, None):
            for parent in reversed([each for each in target.parents if not each.exists()]):
                parent.mkdir()
                made.append(parent)
        yield target.parent
        whole = keep
    finally:
        if not whole:
            for parent in reversed(made):
                with suppress(OSError):  # another run may have put something there
                    parent.rmdir()


def _refuse_foreign(target: Path) -> None:
    """Replacing a folder deletes what is in it, so it must be empty or hold only what a manifest lists."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise OutputError("this is a file, not a folder", where=str(target), hint="give another folder with -o")
    found = {each.relative_to(target).as_posix() for each in target.rglob("*") if not each.is_dir()}
    if not found:
        return
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        ours = manifest["tool"] == "leanedge"
        listed = {MANIFEST, *REPORTS, *(each["path"] for each in manifest["files"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise OutputError(
            "the folder is not empty and was not written by LeanEdge, so it is not replaced",
            where=str(target),
            allowed="a new folder, an empty one, or one that LeanEdge wrote",
            hint="give another folder with -o, or empty this one",
        )
    if foreign := sorted(found - listed):
        raise OutputError(
            f"the folder holds {len(foreign)} file(s) that LeanEdge did not write: {', '.join(foreign[:5])}",
            where=str(target),
            allowed="only the files that its manifest.json lists, as all are replaced",
            hint="move them elsewhere, or give another folder with -o",
        )


@contextmanager
def _explained(target: Path, inside: Path | None) -> Iterator[None]:
    """Turns an OSError of writing the output into an OutputError.

    Args:
        target: The output, for the message.
        inside: The folder being built: other errors than a full disk count only for paths in it, as a build also
            reads files and runs programs. None: every path is the output's.
    """
    try:
        yield
    except OSError as error:
        named = str(error.filename or "")
        if error.errno in _FULL:
            raise OutputError(
                f"no space left on the disk{f' while writing {named}' if named else ''}",
                where=str(target),
                hint=f"free some space ({_free(target)}) or give a folder on another disk with -o; "
                "nothing was changed there",
            ) from error
        if inside is not None and not named.startswith(str(inside)):
            raise
        if error.errno in _FORBIDDEN:
            raise OutputError(
                f"the folder can't be written: {error.strerror}",
                where=str(target),
                hint=f"give a folder you may write to with -o, or change the rights of {_nearest_parent(target)}",
            ) from error
        if error.errno in _BAD_NAME:
            raise OutputError(
                f"the folder can't be made: {error.strerror}",
                where=str(target),
                allowed="a path whose parents are folders",
                hint="give another folder with -o",
            ) from error
        raise


def _nearest_parent(target: Path) -> Path:
    return next(each for each in target.parents if each.exists())


def _free(target: Path) -> str:
    parent = _nearest_parent(target)
    return f"{shutil.disk_usage(parent).free / 1e6:.1f} MB are free at {parent}"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
