"""Reads data from Python: a dict of arrays, a DataLoader, any iterable of samples or batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.data.source import LABELS, MOST_BYTES, MOST_ITEMS, RESERVED, Raw
from leanedge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.graph.model import TensorInfo
    from leanedge.settings import Settings

__all__ = ["read_python"]

Array = np.ndarray[Any, Any]

_FORMS = "a dict of arrays, or an iterable (DataLoader, generator, list) of x, (x, y), (x1, x2, y) or dicts"


def read_python(source: object, inputs: Sequence[TensorInfo], settings: Settings, where: str) -> Raw:
    """Collects what the object holds or yields.

    Args:
        source: A mapping key -> array of all samples; or an iterable whose items are a sample or a batch (told apart
            by the input's rank): an array, a tuple with one array for each input and perhaps y, or a dict of these.
        inputs: The model's inputs; those that `settings.state` names are left out.
        settings: Its `state` is read.
        where: For messages.

    Raises:
        DataError: Another type, no items, items that differ, an exception in the caller's code.
    """
    wanted = [info for info in inputs if info.name not in settings.state]
    if isinstance(source, Mapping):
        return Raw({str(key): _array(value) for key, value in source.items()})
    if not isinstance(source, Iterable) or isinstance(source, str | bytes | np.ndarray):
        raise DataError(f"gave {type(source).__name__}", where=where, allowed=_FORMS)
    rows: dict[str, list[Array]] = {}
    size = 0
    note: tuple[str, ...] = ()
    iterator = iter(source)
    number = -1
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            break
        except Exception as error:  # any code of the user's runs here; its own error is the message
            raise DataError(f"item {number + 1} raised {type(error).__name__}: {error}", where=where) from error
        number += 1
        row = _row(item, wanted, f"{where}: item {number}")
        if rows and row.keys() != rows.keys():
            raise DataError(f"item {number} has {sorted(row)}, others {sorted(rows)}", where=where)
        for key, array in _as_batch(row, wanted, bool(settings.state), f"{where}: item {number}").items():
            rows.setdefault(key, []).append(array)
            size += array.nbytes
        if size > MOST_BYTES or number + 1 == MOST_ITEMS:
            note = (f"{where}: only the first {number + 1} items were taken, {size >> 20} MiB",)
            break
    if not rows:
        raise DataError("yielded nothing", where=where, allowed=_FORMS, hint="a generator can be read only once")
    return Raw({key: _joined(key, parts, where) for key, parts in rows.items()}, notes=note)


def _row(item: object, wanted: Sequence[TensorInfo], where: str) -> dict[str, Array]:
    if isinstance(item, Mapping):
        return {str(key): _array(value) for key, value in item.items()}
    values = list(item) if isinstance(item, tuple | list) else [item]
    names = [info.name for info in wanted]
    if len(values) == len(names) + 1:
        names.append(LABELS)
    if len(values) != len(names):
        raise DataError(
            f"has {len(values)} parts, the model {len(wanted)} inputs", where=where, allowed=_FORMS,
        )  # fmt: skip
    return {name: _array(value) for name, value in zip(names, values, strict=True)}


def _as_batch(row: Mapping[str, Array], wanted: Sequence[TensorInfo], streaming: bool, where: str) -> dict[str, Array]:
    """The item with a sample axis first: a batch has one already, which the rank of the input tells."""
    steps = 1 if streaming else 0
    sizes = set()
    made = dict(row)
    keys = {info.name: info.name if info.name in row else "x" for info in wanted}
    for info in wanted:
        if keys[info.name] not in row:
            raise DataError(f"has no {info.name!r}", where=where, allowed="one array an input, by its name")
        array = row[keys[info.name]]
        shapes = [info.shape] + ([info.shape[1:]] if info.shape[:1] == (1,) else [])
        if array.ndim >= steps and array.shape[steps:] in shapes:
            made[keys[info.name]] = array[None]
        elif array.ndim >= steps + 1 and array.shape[steps + 1 :] in shapes:
            sizes.add(len(array))
        else:
            raise DataError(
                f"{info.name} has the shape {array.shape}",
                where=where,
                allowed=" or ".join(str(shape) for shape in shapes)
                + (" with a steps axis before it" if streaming else "")
                + ", or a batch of these",
            )
    for key in row:
        if key not in keys.values() and not (sizes and row[key].ndim and len(row[key]) in sizes):
            if sizes and key in RESERVED:
                raise DataError(f"{key} has the shape {row[key].shape}, the batch {sizes}", where=where)
            made[key] = row[key][None]
    return made


def _joined(key: str, parts: Sequence[Array], where: str) -> Array:
    try:
        return np.concatenate(parts)
    except ValueError as error:
        shapes = sorted({part.shape[1:] for part in parts})
        raise DataError(
            f"{key} differs in shape between items: {', '.join(map(str, shapes[:4]))}",
            where=where,
            allowed="samples (or sequences) of one shape",
        ) from error


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):  # a torch tensor, perhaps one that carries gradients or is on another device
        value = value.detach().cpu()
    return np.asarray(value)
