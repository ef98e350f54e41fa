"""Reads idx files, plain or gzipped: the format of MNIST and its successors (yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.data.source import LABELS, TEST, Raw
from leanedge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["find_idx_pairs", "is_idx_name", "read_idx", "read_idx_pairs"]

Array = np.ndarray[Any, Any]

_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_TEST_PREFIXES = ("t10k", "test")


def is_idx_name(name: str) -> bool:
    """True for names such as ``train-images-idx3-ubyte.gz``.

    >>> is_idx_name("t10k-labels-idx1-ubyte.gz"), is_idx_name("notes.gz")
    (True, False)
    """
    stem = name.lower().removesuffix(".gz")
    return "-idx" in stem or ".idx" in stem


def find_idx_pairs(paths: Sequence[Path], where: str) -> list[tuple[Path, Path | None]]:
    """Each images file with its labels file: the name with ``images`` replaced by ``labels``, idx3 by idx1.

    Raises:
        DataError: No images file.
    """
    by_key = {_key(path.name): path for path in sorted(paths) if is_idx_name(path.name)}
    pairs = [(path, by_key.get(key.replace("images", "labels"))) for key, path in by_key.items() if "images" in key]
    if not pairs:
        raise DataError(
            "has no idx file of images",
            where=where,
            allowed="names such as train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz",
        )
    return pairs


def read_idx_pairs(pairs: Sequence[tuple[Path, Path | None]], key: str) -> Raw:
    """All pairs as one: images under `key`, labels, and a test mask when names say ``t10k`` or ``test`` beside others.

    Raises:
        DataError: A file is damaged, or images and labels differ in number.
    """
    images: list[Array] = []
    labels: list[Array] = []
    test: list[Array] = []
    for image_path, label_path in pairs:
        found = read_idx(image_path)
        if images and found.shape[1:] != images[0].shape[1:]:
            raise DataError(f"its images are {found.shape[1:]}, others {images[0].shape[1:]}", where=str(image_path))
        images.append(found)
        test.append(np.full(len(found), image_path.name.lower().startswith(_TEST_PREFIXES)))
        if label_path is not None:
            labels.append(read_idx(label_path))
            if len(labels[-1]) != len(found):
                raise DataError(
                    f"has {len(labels[-1])} labels, {image_path.name} {len(found)} images", where=str(label_path)
                )
    if labels and len(labels) != len(images):
        lone = next(path for path, label_path in pairs if label_path is None)
        raise DataError("has no labels file, others have", where=str(lone))
    arrays = {key: np.concatenate(images)}
    if labels:
        arrays[LABELS] = np.concatenate(labels)
    mask = np.concatenate(test)
    if mask.any() and not mask.all():
        arrays[TEST] = mask
    return Raw(arrays, notes=(f"{', '.join(path.name for path, _ in pairs)}: {len(mask)} images",))


def read_idx(path: Path) -> Array:
    """One file as an array in the machine's byte order.

    Raises:
        DataError: Not there, not idx, cut short, or longer than it says.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"can't be read: {error}", where=str(path)) from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES:
        raise DataError("is not an idx file", where=str(path), allowed="two zero bytes, a type, a number of axes")
    rank = data[3]
    if len(data) < 4 + 4 * rank:
        raise DataError("is cut short in its header", where=str(path))
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    dtype = np.dtype(_DTYPES[data[2]])
    size = math.prod(shape) * dtype.itemsize
    if len(data) - 4 - 4 * rank != size:
        raise DataError(
            f"says {shape} of {dtype.name}, {size} bytes, and holds {len(data) - 4 - 4 * rank}", where=str(path)
        )
    return np.frombuffer(data, dtype, offset=4 + 4 * rank).reshape(shape).astype(dtype.newbyteorder("="))


def _key(name: str) -> str:
    return name.lower().removesuffix(".gz").replace("idx3", "idx").replace("idx1", "idx").replace("idx4", "idx")
