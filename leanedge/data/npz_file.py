"""Reads .npz files; nothing in them is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from leanedge.data.source import Raw
from leanedge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_npz"]


def read_npz(path: Path) -> Raw:
    """Every array of the file.

    Raises:
        DataError: Not there, not an .npz file, cut short, or it holds Python objects.
    """
    allowed = "a file written by np.savez or np.savez_compressed"
    if not path.exists():
        raise DataError("there is no such file", where=str(path), hint="check the path")
    try:
        with path.open("rb") as handle:  # np.load leaves a damaged file open
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError("is one array, not an .npz file", where=str(path), allowed=allowed)
            arrays = {}
            for key in file.files:
                try:
                    arrays[key] = file[key]
                except ValueError as error:
                    raise DataError(
                        f"key {key!r} can't be read: {error}",
                        where=str(path),
                        allowed="plain arrays; Python objects are never unpickled",
                        hint="save it with a numeric or text dtype",
                    ) from error
            return Raw(arrays)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"is not an .npz file, or is cut short: {reason}", where=str(path), allowed=allowed) from error
