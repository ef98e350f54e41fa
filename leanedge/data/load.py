"""Loads data of every format and fits it to the model."""

from __future__ import annotations

import inspect
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.data.fit import fit
from leanedge.data.idx_file import find_idx_pairs, is_idx_name, read_idx_pairs
from leanedge.data.image_folder import read_image_folder
from leanedge.data.npz_file import read_npz
from leanedge.data.pixels import require_stated
from leanedge.data.python_source import read_python
from leanedge.entry_point import callers_code, find_function, is_entry_point
from leanedge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.data.source import Raw, Source
    from leanedge.graph.model import TensorInfo
    from leanedge.settings import Settings

__all__ = ["load_data"]

_FORMATS = "an .npz file, a folder of images, a folder or pattern of idx files, module:function"


def load_data(source: object, inputs: Sequence[TensorInfo], settings: Settings, where: str = "data") -> Source:
    """Reads `source` and fits it to the model.

    Args:
        source: Path (or text) of an .npz file, an image folder, an idx file, a folder or glob pattern of idx files;
            ``module:function``, called without arguments; a dict of arrays; a DataLoader, generator or other iterable
            of samples or batches.
        inputs: The model's inputs, `Graph.inputs`.
        settings: Its `inputs`, `state`, `labels`, `groups` and `seed` are read.
        where: What a Python object is called in messages.

    Raises:
        DataError: What was found does not fit, or can't be read.
        MissingProgram: Images, and Pillow is not installed.
    """
    found = source
    if isinstance(source, str) and is_entry_point(source) and not Path(source).exists():
        found, where = find_function(source, DataError, source), source
    elif isinstance(source, str | Path):
        return fit(_read_path(Path(source), inputs, settings), inputs, settings, str(source))
    if inspect.isroutine(found):
        try:
            with callers_code():
                found = found()
        except Exception as error:  # any code of the user's runs here; its own error is the message
            raise DataError(f"raised {type(error).__name__}: {error}", where=where) from error
    with callers_code():
        raw = read_python(found, inputs, settings, where)
    return fit(raw, inputs, settings, where)


def _read_path(path: Path, inputs: Sequence[TensorInfo], settings: Settings) -> Raw:
    if has_magic(str(path)) and not path.exists():
        return _read_idx([p for p in path.parent.glob(path.name) if p.is_file()], str(path), inputs, settings)
    if path.is_dir():
        files = [p for p in path.iterdir() if p.is_file() and is_idx_name(p.name)]
        return _read_idx(files, str(path), inputs, settings) if files else read_image_folder(path, inputs, settings)
    if is_idx_name(path.name) and path.is_file():
        partner = path.name.replace("images", "labels").replace("idx3", "idx1")
        others = [p for p in (path.with_name(partner),) if p.is_file() and p != path]
        return _read_idx([path, *others], str(path), inputs, settings)
    if path.suffix == ".npz" or not path.exists():
        return read_npz(path)
    raise DataError(f"its format {path.suffix or 'without a suffix'} is not known", where=str(path), allowed=_FORMATS)


def _read_idx(paths: Sequence[Path], where: str, inputs: Sequence[TensorInfo], settings: Settings) -> Raw:
    wanted = [info for info in inputs if info.name not in settings.state]
    if len(wanted) != 1 or settings.state:
        raise DataError("idx files are for models of one input without state", where=where, allowed="an .npz file")
    raw = read_idx_pairs(find_idx_pairs(paths, where), wanted[0].name)
    if raw.arrays[wanted[0].name].ndim == 3:  # uint8 images, as in an image folder: stated, never guessed
        require_stated(settings.inputs.get(wanted[0].name), wanted[0], where, resizes=False)
    return raw
