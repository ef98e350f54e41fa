"""Fits raw arrays to the model's inputs: names, shapes, dtypes, finite values, labels, groups, the test mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.data.pixels import normalise_array
from leanedge.data.samples import Samples
from leanedge.data.source import GROUP, LABELS, RESERVED, TEST, Raw, Source
from leanedge.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.graph.model import TensorInfo
    from leanedge.settings import Settings

__all__ = ["cast", "fit", "names_of_inputs"]

Array = np.ndarray[Any, Any]

_SINGLE = "x"
"""The key of a model's only input, where the input's own name is not used."""


def fit(raw: Raw, inputs: Sequence[TensorInfo], settings: Settings, where: str) -> Source:
    """Makes a Source of raw arrays.

    Args:
        raw: Not changed.
        inputs: The model's inputs; those that `settings.state` names are left out of the samples.
        settings: Its `inputs`, `state`, `labels` and `groups` are read.
        where: File or function, for messages.

    Raises:
        DataError: A key is missing, a shape or dtype does not fit, a value is NaN or infinite, lengths differ, a label
            is out of range.
    """
    streaming = bool(settings.state)
    wanted = [info for info in inputs if info.name not in settings.state]
    keys = names_of_inputs(wanted, raw.arrays, where)
    notes = list(raw.notes)
    arrays = {}
    constants = {}
    for info in wanted:
        array, place = raw.arrays[keys[info.name]], f"{where}: {keys[info.name]}"
        if array.ndim == 0:
            constants[info.name] = _constant(array, info, place)
            continue
        array, note = _pixels(array, info, settings, streaming, place)
        notes += note
        arrays[info.name] = cast(_shaped(array, info, streaming, place), info, place)
    if not arrays:
        raise DataError("every input is one constant: there are no samples", where=where, allowed="axis 0 is samples")
    count, leader = len(next(iter(arrays.values()))), keys[next(iter(arrays))]
    for name, array in arrays.items():
        _same_length(array, count, keys[name], leader, where)
    axes = next(iter(arrays.values())).shape[: 2 if streaming else 1]
    for name, array in arrays.items():
        if array.shape[: len(axes)] != axes:
            raise DataError(f"{keys[name]} has {array.shape[1]} steps, {leader} has {axes[1]}", where=where)
    for name, array in constants.items():
        arrays[name] = np.broadcast_to(array, (*axes, *array.shape))
    if count == 0:
        raise DataError("holds no samples", where=where, allowed="axis 0 is samples")
    labels, class_names = _labels(raw, count, leader, settings, where)
    group_key = _group_key(raw, settings, where)
    groups = None
    if group_key is not None:
        _same_length(raw.arrays[group_key], count, group_key, leader, where)
        groups = np.unique(raw.arrays[group_key].reshape(count, -1), axis=0, return_inverse=True)[1].reshape(count)
    used = {*keys.values(), group_key, *RESERVED}
    return Source(
        Samples({info.name: arrays[info.name] for info in wanted}, labels, groups, streaming),
        _test_mask(raw, count, leader, where),
        tuple(key for key in raw.arrays if key not in used),
        class_names,
        tuple(notes),
    )


def names_of_inputs(wanted: Sequence[TensorInfo], arrays: Mapping[str, Any], where: str) -> dict[str, str]:
    """Model input -> the key of the data that holds it: its own name, or ``x`` for a single input.

    Raises:
        DataError: One has no key.
    """
    found = {info.name: info.name for info in wanted if info.name in arrays}
    if len(wanted) == 1 and not found and _SINGLE in arrays:
        found[wanted[0].name] = _SINGLE
    for info in wanted:
        if info.name not in found:
            free = [key for key in arrays if key not in RESERVED and key not in found.values()]
            single = f", or {_SINGLE!r}" if len(wanted) == 1 else ""
            raise DataError(
                f"has no key for the model input {info.name!r}; its keys are {', '.join(arrays) or 'none'}",
                where=where,
                allowed=f"one array an input, named {', '.join(repr(i.name) for i in wanted)}{single}",
                hint=nearest(info.name, free) or "rename the array",
            )
    return found


def cast(array: Array, info: TensorInfo, where: str) -> Array:
    """The array in the input's dtype: only where no value changes, or from float16; finite values only.

    Raises:
        DataError: A value would change, or is NaN or infinite.
    """
    if array.dtype.kind not in "biuf" or info.dtype.kind not in "biuf":
        raise DataError(
            f"holds {array.dtype}, the model takes {info.dtype}", where=where, allowed="numbers and bool",
        )  # fmt: skip
    if array.dtype.kind == "f":
        _finite(array, where)
    if array.dtype == info.dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        made = array.astype(info.dtype)
        if array.dtype != np.float16 or info.dtype.kind != "f":
            changed = made.astype(array.dtype) != array
            if array.dtype.kind == "u" and info.dtype.kind == "i":
                changed |= made < 0  # wraps there and back again
            elif array.dtype.kind == "i" and info.dtype.kind == "u":
                changed |= array < 0
            if changed.any():
                index = tuple(int(i) for i in np.argwhere(changed)[0])
                raise DataError(
                    f"is {array.dtype}, and the model takes {info.dtype}: {int(changed.sum())} of {array.size} values "
                    f"would change, the first {array[index]!s} in sample {index[0]}",
                    where=where,
                    allowed=f"{info.dtype}, or any dtype that casts without loss",
                    hint=f"save it with .astype(np.{info.dtype}) if that is meant",
                )
    return made


def _finite(array: Array, where: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        samples = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
        first = array[samples[0]][bad[samples[0]]].reshape(-1)[0] if array.ndim > 1 else array[samples[0]]
        kind = "NaN" if np.isnan(first) else "an infinite value"
        others = f" (and {len(samples) - 1} more samples)" if len(samples) > 1 else ""
        raise DataError(
            f"sample {samples[0]} holds {kind}{others}", where=where, hint="remove these samples, or repair them"
        )


def _constant(array: Array, info: TensorInfo, where: str) -> Array:
    """A value that is the same for every sample, such as a sampling rate."""
    if any(dim != 1 for dim in info.shape):
        raise DataError(
            "is one number", where=where, allowed=f"shape (n, {', '.join(map(str, info.shape))}): axis 0 is samples"
        )
    return cast(array.reshape(1), info, where).reshape(info.shape)


def _pixels(array: Array, info: TensorInfo, settings: Settings, streaming: bool, where: str) -> tuple[Array, list[str]]:
    """Raw pixels (uint8 for a float input) go through the stated preprocessing; anything else is ready as it is."""
    entry = settings.inputs.get(info.name)
    stated = entry is not None and entry.has_arithmetic
    if info.dtype.kind != "f" or array.dtype != np.uint8:
        ready = [f"{where}: {array.dtype} values are the model's own: inputs.{info.name} is for uint8 pixels only"]
        return array, ready if stated else []
    if entry is None or not stated:
        return array, [f"{where}: uint8 was cast to {info.dtype} as it is, 0 to 255: no preprocessing is stated for it"]
    done = [f"{where}: uint8 went through inputs.{info.name}"]
    if streaming and array.ndim > 2:
        flat = normalise_array(array.reshape(-1, *array.shape[2:]), entry, info, where)
        return flat.reshape(*array.shape[:2], *flat.shape[1:]), done
    return normalise_array(array, entry, info, where), done


def _shaped(array: Array, info: TensorInfo, streaming: bool, where: str) -> Array:
    lead = 2 if streaming else 1
    whole, sample = info.shape, array.shape[lead:]
    short = whole[1:] if whole[:1] == (1,) else None
    if array.ndim >= lead and sample in (whole, short):
        fitted: Array = array.reshape(*array.shape[:lead], *whole)
        return fitted
    names = ("n", "steps")[:lead]
    allowed = [f"({', '.join([*names, *map(str, shape)])})" for shape in (short, whole) if shape is not None]
    raise DataError(
        f"has the shape {array.shape}; the model's input {info.name} takes {whole}",
        where=where,
        allowed=" or ".join(allowed) + ", n samples" + (" of so many steps" if streaming else ""),
        hint=_shape_hint(array.shape, whole, lead),
    )


def _shape_hint(shape: tuple[int, ...], whole: tuple[int, ...], lead: int) -> str:
    sample = shape[lead:]
    plain = whole[1:] if whole[:1] == (1,) else whole
    if lead == 1 and shape in (whole, plain):
        return "this is one sample without its sample axis: x[None]"
    if len(sample) == len(plain) > 1 and sample[-1:] + sample[:-1] == plain:
        return "the channels stand last, the model has them first: np.moveaxis(x, -1, 1)"
    if len(sample) == len(plain) > 1 and sample[1:] + sample[:1] == plain:
        return "the channels stand first, the model has them last: np.moveaxis(x, 1, -1)"
    if len(shape) >= lead and np.prod(sample, dtype=np.int64) == np.prod(whole, dtype=np.int64):
        axes = ", ".join(["len(x)", "x.shape[1]"][:lead] + [str(dim) for dim in plain])
        return f"the number of values is right: x.reshape({axes})"
    if lead == 2:
        return "a streaming model (leanedge.yaml: state) takes sequences of steps"
    return "preprocess the data as the model was trained, or give leanedge.yaml the right inputs.*.shape"


def _same_length(array: Array, count: int, key: str, leader: str, where: str) -> None:
    if array.ndim == 0 or len(array) != count:
        got = "is one value" if array.ndim == 0 else f"has {len(array)} rows"
        raise DataError(f"{key} {got}, {leader} has {count} samples", where=where, allowed="one row a sample")


def _labels(
    raw: Raw, count: int, leader: str, settings: Settings, where: str
) -> tuple[Array | None, tuple[str, ...] | None]:
    names = raw.class_names or settings.labels
    if LABELS not in raw.arrays:
        return None, names
    labels = raw.arrays[LABELS]
    _same_length(labels, count, LABELS, leader, where)
    where = f"{where}: {LABELS}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind in "US":
        return _labels_by_name(labels.astype(str), names, where), names
    if labels.dtype.kind == "f":
        _finite(labels, where)
        return labels.astype(np.float64), names
    if labels.dtype.kind not in "biu":
        raise DataError(f"holds {labels.dtype}", where=where, allowed="integer classes, float targets, class names")
    labels = labels.astype(np.int64)
    if names is not None and labels.ndim == 1:
        wrong = (labels < 0) | (labels >= len(names))
        if wrong.any():
            index = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"label {labels[index]} of sample {index} is out of range ({int(wrong.sum())} such labels)",
                where=where,
                allowed=f"0 to {len(names) - 1}, the {len(names)} classes in leanedge.yaml's labels",
            )
    return labels, names


def _labels_by_name(labels: Array, names: tuple[str, ...] | None, where: str) -> Array:
    if names is None:
        raise DataError(
            "holds class names, and their order is not known",
            where=where,
            hint="list them in leanedge.yaml in the order of the model's classes:  labels: [...]",
        )
    index = {name: number for number, name in enumerate(names)}
    for number, name in enumerate(labels.reshape(-1)):
        if str(name) not in index:
            raise DataError(
                f"label {str(name)!r} of sample {number} is not among the labels in leanedge.yaml",
                where=where,
                allowed=", ".join(names),
                hint=nearest(str(name), names),
            )
    numbers: Array = np.array([index[str(name)] for name in labels.reshape(-1)], np.int64).reshape(labels.shape)
    return numbers


def _group_key(raw: Raw, settings: Settings, where: str) -> str | None:
    if settings.groups is None:
        return GROUP if GROUP in raw.arrays else None
    if settings.groups not in raw.arrays:
        raise DataError(
            f"has no key {settings.groups!r}, which leanedge.yaml's groups asks for",
            where=where,
            allowed=", ".join(raw.arrays),
            hint=nearest(settings.groups, raw.arrays),
        )
    return settings.groups


def _test_mask(raw: Raw, count: int, leader: str, where: str) -> Array | None:
    if TEST not in raw.arrays:
        return None
    mask = raw.arrays[TEST]
    _same_length(mask, count, TEST, leader, where)
    if mask.ndim != 1 or mask.dtype.kind not in "biu" or not np.isin(mask, (0, 1)).all():
        raise DataError(
            f"is {mask.dtype} {mask.shape}", where=f"{where}: {TEST}", allowed="(n,) bool, True for the test set"
        )
    mask = mask.astype(bool)
    if mask.all():
        raise DataError(
            "marks every sample: nothing is left to calibrate on",
            where=f"{where}: {TEST}",
            hint="give this file as --test-data and another as --data",
        )
    return mask if mask.any() else None
