"""Finds what a ``package.module:name`` entry point names; the current directory is importable while it is looked up."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanedge.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leanedge.errors import InputError

__all__ = ["callers_code", "find_function", "is_entry_point"]

_SHAPE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_entry_point(text: str) -> bool:
    """True for ``package.module:name``.

    >>> is_entry_point("my.data:load"), is_entry_point("data/x.npz")
    (True, False)
    """
    return _SHAPE.fullmatch(text) is not None


@contextlib.contextmanager
def callers_code() -> Iterator[None]:
    """What the caller's own code prints goes to stderr: stdout is the command's result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def find_function(text: str, error_type: type[InputError], where: str) -> Callable[..., Any]:
    """Imports the module and returns the function.

    Raises:
        InputError: As `error_type`: the module can't be imported, or has no such function.
    """
    module_name, name = text.split(":")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        with callers_code():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise error_type(
                f"there is no module {error.name!r}",
                where=where,
                hint=f"install it, or run from its folder (now {folder})",
            ) from error
        raise error_type(f"{module_name} needs {error.name!r}, which is not installed", where=where) from error
    except Exception as error:  # any code of the user's runs here; its own error is the message
        raise error_type(f"importing {module_name} failed: {type(error).__name__}: {error}", where=where) from error
    finally:
        sys.path.remove(folder)
    function = getattr(module, name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise error_type(
            f"{module_name} has no function {name!r}",
            where=where,
            allowed=", ".join(names[:20]) or "a module with a function",
            hint=nearest(name, names),
        )
    return function  # type: ignore[no-any-return]  # callable() narrows it only at run time
