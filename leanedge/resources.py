"""Finds the folders that ship beside the code, in a checkout and in a wheel alike."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder"]

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `name` (``targets`` or ``device_profiles``): in the package when installed, else in the checkout."""
    installed = _PACKAGE / name
    checkout = _PACKAGE.parent / name
    # In a checkout leanedge/targets holds only the __init__.py that points here.
    return checkout if checkout.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file() else installed
