"""Reads a folder of images: one folder a class, or below ``train`` and ``test`` one folder a class each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.data.pixels import image_to_input, pillow, require_stated
from leanedge.data.source import LABELS, MOST_BYTES, TEST, Raw
from leanedge.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from leanedge.graph.model import TensorInfo
    from leanedge.settings import Settings

__all__ = ["SUFFIXES", "read_image_folder"]

Array = np.ndarray[Any, Any]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_TRAIN, _TEST = ("train",), ("test", "val")


def read_image_folder(folder: Path, inputs: Sequence[TensorInfo], settings: Settings) -> Raw:
    """Decodes the images as the settings of the model's image input state it.

    Args:
        folder: Holds one folder a class; or ``train`` and ``test`` (or ``val``) with these; or images without classes.
        inputs: The model's inputs, of which exactly one may be left when states are taken away.
        settings: `inputs` states the preprocessing, `labels` the order of classes (else by name).

    Returns:
        Arrays by the input's name, labels where there are classes, a test mask where there are two parts. More than
        `MOST_BYTES` of values are not decoded: an equal share of every class is, drawn with the settings' seed.

    Raises:
        DataError: No images, a damaged one, preprocessing not stated, a class that is not among the labels.
        MissingProgram: Pillow is not installed.
    """
    where = str(folder)
    wanted = [info for info in inputs if info.name not in settings.state]
    if len(wanted) != 1 or settings.state:
        raise DataError(
            "is a folder of images, and the model has " + (f"{len(wanted)} inputs" if len(wanted) != 1 else "state"),
            where=where,
            allowed="an .npz file with one array an input",
        )
    info = wanted[0]
    entry = require_stated(settings.inputs.get(info.name), info, where, resizes=True)
    files, labels, test, names = _list(folder, settings.labels)
    notes = []
    image_bytes = int(np.prod(info.shape)) * info.dtype.itemsize
    most = max(1, MOST_BYTES // image_bytes)
    if len(files) > most:
        chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(files))[:most])
        notes.append(f"{where}: {most} of {len(files)} images were drawn, {MOST_BYTES >> 20} MiB of values")
        files, labels, test = [files[i] for i in chosen], labels[chosen], test[chosen]
    module = pillow()
    values = np.empty((len(files), *info.shape[1:]), info.dtype)
    for index, path in enumerate(files):
        try:
            with module.open(path) as image:
                values[index] = image_to_input(image, entry, info, str(path))
        except (OSError, SyntaxError, ValueError, module.DecompressionBombError) as error:
            raise DataError(f"can't be decoded: {error}", where=str(path), hint="remove it or repair it") from error
    arrays: dict[str, Array] = {info.name: values}
    if names is not None:
        arrays[LABELS] = labels
    if test.any() and not test.all():
        arrays[TEST] = test
    return Raw(arrays, names, tuple(notes))


def _list(folder: Path, labels: tuple[str, ...] | None) -> tuple[list[Path], Array, Array, tuple[str, ...] | None]:
    """Files, class of each, test or not, class names."""
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    parts = {path.name.lower(): path for path in below}
    train = next((parts[name] for name in _TRAIN if name in parts), None)
    test = next((parts[name] for name in _TEST if name in parts), None)
    roots = [(train, False), (test, True)] if train is not None and test is not None else [(folder, False)]
    classes = [
        (path, is_test)
        for root, is_test in roots
        if root is not None
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    ]
    if not classes:
        files = [path for root, _ in roots if root is not None for path in _images(root)]
        if not files:
            raise DataError(
                "holds no images and no idx files",
                where=str(folder),
                allowed="one folder a class, with " + " ".join(sorted(SUFFIXES)),
            )
        marks = [is_test for root, is_test in roots if root is not None for _ in _images(root)]
        return files, np.zeros(len(files), np.int64), np.array(marks), None
    names = labels or tuple(sorted({path.name for path, _ in classes}))
    found: list[Path] = []
    numbers: list[int] = []
    marks = []
    for path, is_test in classes:
        if path.name not in names:
            raise DataError(
                f"the folder {path.name!r} is no class",
                where=str(path),
                allowed=", ".join(names),
                hint=nearest(path.name, names) or "correct leanedge.yaml's labels, or move the folder away",
            )
        images = _images(path)
        if not images:
            raise DataError("holds no images", where=str(path), allowed=" ".join(sorted(SUFFIXES)))
        found += images
        numbers += [names.index(path.name)] * len(images)
        marks += [is_test] * len(images)
    return found, np.array(numbers, np.int64), np.array(marks), names


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
