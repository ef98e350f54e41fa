"""Finds folders: those that ship beside the code, in a checkout and in a wheel alike, and the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from leanedge.errors import OutputError

__all__ = ["CACHE_ELSEWHERE", "cache_root", "folder"]

CACHE_ELSEWHERE = "set LEANEDGE_CACHE to a folder that you may write to, on a disk with space"
"""What to do where the cache can't be had."""

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `name` (``targets`` or ``device_profiles``): in the package when installed, else in the checkout."""
    installed = _PACKAGE / name
    checkout = _PACKAGE.parent / name
    # In a checkout leanedge/targets holds only the __init__.py that points here.
    return checkout if checkout.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file() else installed


def cache_root() -> Path:
    """``$LEANEDGE_CACHE``, else ``$XDG_CACHE_HOME/leanedge``, else ``~/.cache/leanedge``.

    Raises:
        OutputError: None of them is set and the user has no home.
    """
    if named := os.environ.get("LEANEDGE_CACHE"):
        return Path(named).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "leanedge"
    try:
        return Path.home() / ".cache" / "leanedge"
    except RuntimeError as error:
        raise OutputError("the user has no home folder for the cache", hint=CACHE_ELSEWHERE) from error
