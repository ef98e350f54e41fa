"""Kinds that only move numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.export.c_source.leads import sequential_lead
from leanedge.export.c_source.portable.parts import all_int8, inputs_of, operand, output_of, portable
from leanedge.program.simulate.integer import bilinear_places
from leanedge.program.simulate.movement import nearest_places, pad_value
from leanedge.program.types import (
    ConcatenationOptions,
    GatherOptions,
    PadOptions,
    ResizeOptions,
    SplitOptions,
    StridedSliceOptions,
    TransposeOptions,
)

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.export.c_source.portable.parts import Operand
    from leanedge.program.types import ProgramTensor

__all__ = [
    "make_concatenation",
    "make_copy",
    "make_gather",
    "make_pad",
    "make_resize_bilinear",
    "make_resize_nearest",
    "make_split",
    "make_strided_copy",
]

Array = np.ndarray[Any, Any]

_COPY_AXES, _PAD_AXES = 6, 4


def make_copy(layer: Layer) -> Kernel | None:
    """reshape: a copy, and no work at all where the plan puts both at one address."""
    source = inputs_of(layer)[0]
    text, constants = operand(layer, 0)
    call = f"leanedge_copy_rows(1, {source.nbytes}, {text}, {source.nbytes}, {{output0}}, {source.nbytes});"
    return Kernel(
        name="portable",
        call=call,
        constants=constants,
        library=("copy_rows.c",),
        leads=(0,) if source.data is None else (),
    )


def make_strided_copy(layer: Layer) -> Kernel | None:
    """Kernels of transpose and strided_slice; None for more than six axes."""
    source, options = inputs_of(layer)[0], layer.operator.options
    places = np.arange(source.elements).reshape(source.shape)
    steps = np.array(places.strides) // places.itemsize
    if isinstance(options, TransposeOptions):
        axes = [(source.shape[axis], int(steps[axis])) for axis in options.permutation]
        start = 0
    else:
        assert isinstance(options, StridedSliceOptions)
        sizes = output_of(layer).shape
        axes = [(size, int(step) * by) for size, step, by in zip(sizes, steps, options.strides, strict=True)]
        start = int(np.dot(steps, options.begin))
    size = np.dtype(source.dtype).itemsize
    axes = _merged([*((count, step * size) for count, step in axes), (size, 1)])
    start *= size
    if len(axes) > _COPY_AXES:
        return None
    axes = [(1, 0)] * (_COPY_AXES - len(axes)) + axes
    first = np.full(1, start)
    for count, step in axes:
        first = (first[:, None] + np.arange(count)[None, :] * step).ravel()
    fields = {
        "sizes": tuple(count for count, _ in axes),
        "strides": tuple(step for _, step in axes),
        "start": start,
    }
    return portable(
        layer,
        "leanedge_strided_copy_int8",
        "leanedge_strided_copy",
        fields,
        ("strided_copy_int8.c",),
        operands=(_bytes(operand(layer, 0)),),
        leads=_leads(layer, sequential_lead(first, source.nbytes)),
        output=_OUTPUT_BYTES,
    )


def _merged(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(size, stride) of each axis, neighbours made one where they follow each other in memory."""
    merged: list[tuple[int, int]] = []
    for size, step in axes:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * step:
            merged[-1] = (merged[-1][0] * size, step)
        else:
            merged.append((size, step))
    return merged


_OUTPUT_BYTES = "(int8_t *){output0}"
"""Kernels that only move elements move their bytes, whatever the type."""


def _bytes(operand: Operand) -> Operand:
    return f"(const int8_t *){operand[0]}", operand[1]


def _byte_lead(first: Array, source: ProgramTensor) -> int:
    """The lead of a kernel that copies element after element, byte after byte."""
    width = np.dtype(source.dtype).itemsize
    places = np.ravel(first)[:, None] * width + np.arange(width)[None, :]
    return sequential_lead(places, source.nbytes)


def _leads(layer: Layer, lead: int) -> tuple[int | None, ...]:
    """The lead of the first input, if it is not constant."""
    return () if inputs_of(layer)[0].data is not None else (lead,)


def make_concatenation(layer: Layer) -> Kernel | None:
    """concatenation, one copy an input; nothing is copied of an input that the plan put inside the output."""
    out, options = output_of(layer), layer.operator.options
    assert isinstance(options, ConcatenationOptions)
    size = np.dtype(out.dtype).itemsize
    rows = int(np.prod(out.shape[: options.axis]))
    stride = int(np.prod(out.shape[options.axis :])) * size
    calls: list[str] = []
    constants: list[Constant] = []
    at = 0
    for place, tensor in enumerate(inputs_of(layer)):
        text, arrays = operand(layer, place)
        constants.extend(arrays)
        width = int(np.prod(tensor.shape[options.axis :])) * size
        calls.append(f"leanedge_copy_rows({rows}, {width}, {text}, {width}, (uint8_t *){{output0}} + {at}, {stride});")
        at += width
    return Kernel(
        name="portable",
        call=_block(calls),
        constants=tuple(constants),
        library=("copy_rows.c",),
        leads=tuple(None for tensor in inputs_of(layer) if tensor.data is None),
    )


def make_split(layer: Layer) -> Kernel | None:
    """split, one copy an output; nothing is copied to an output that the plan put inside the input."""
    source, options = inputs_of(layer)[0], layer.operator.options
    assert isinstance(options, SplitOptions)
    size = np.dtype(source.dtype).itemsize
    rows = int(np.prod(source.shape[: options.axis]))
    stride = int(np.prod(source.shape[options.axis :])) * size
    width = stride // len(layer.operator.outputs)
    calls = [
        f"leanedge_copy_rows({rows}, {width}, (const uint8_t *){{input0}} + {place * width}, {stride}, "
        f"{{output{place}}}, {width});"
        for place in range(len(layer.operator.outputs))
    ]
    return Kernel(name="portable", call=_block(calls), library=("copy_rows.c",), leads=(None,))


def _block(calls: list[str]) -> str:
    return calls[0] if len(calls) == 1 else "\n".join(["{", *(f"    {call}" for call in calls), "}"])


def make_pad(layer: Layer) -> Kernel | None:
    """pad; None where more than four axes remain when those that are not padded are merged, or the bytes differ."""
    source, options = inputs_of(layer)[0], layer.operator.options
    assert isinstance(options, PadOptions)
    reflects, width = options.mode == "reflect", np.dtype(source.dtype).itemsize
    if reflects and width > 1:
        sizes, pads = [*source.shape, width], [*options.pads, (0, 0)]
    else:
        sizes = [*source.shape[:-1], source.shape[-1] * width]
        pads = [*options.pads[:-1], (options.pads[-1][0] * width, options.pads[-1][1] * width)]
    value = 0 if reflects else int(pad_value(options, source))
    axes: list[tuple[int, int, int]] = []
    for size, (before, after) in zip(sizes, pads, strict=True):
        if axes and before == after == 0 == axes[-1][1] == axes[-1][2]:
            axes[-1] = (axes[-1][0] * size, 0, 0)
        else:
            axes.append((size, before, after))
    if len(axes) > _PAD_AXES or (width > 1 and value not in (0, -1)):
        return None
    axes = [(1, 0, 0)] * (_PAD_AXES - len(axes)) + axes
    places = np.arange(source.nbytes).reshape(sizes)
    first = np.pad(places, pads, mode="reflect") if reflects else np.pad(places, pads, constant_values=source.nbytes)
    fields = {
        "sizes": tuple(size for size, _, _ in axes),
        "before": tuple(before for _, before, _ in axes),
        "after": tuple(after for _, _, after in axes),
        "value": value,
        "reflect": reflects,
    }
    return portable(
        layer,
        "leanedge_pad_int8",
        "leanedge_pad",
        fields,
        ("pad_int8.c",),
        operands=(_bytes(operand(layer, 0)),),
        leads=_leads(layer, sequential_lead(first, source.nbytes)),
        output=_OUTPUT_BYTES,
    )


def make_gather(layer: Layer) -> Kernel | None:
    """Kernel of gather by int32 indices, constant or not."""
    source, indices = inputs_of(layer)
    options = layer.operator.options
    assert isinstance(options, GatherOptions)
    if indices.dtype != "int32":
        return None
    size = np.dtype(source.dtype).itemsize
    places = np.arange(source.elements).reshape(source.shape)
    leads: tuple[int | None, ...] = tuple(None for tensor in (source, indices) if tensor.data is None)
    if indices.data is not None:
        first = np.take(places, indices.data.decode(), axis=options.axis)
        leads = _leads(layer, _byte_lead(first, source))
    fields = {
        "outer": int(np.prod(source.shape[: options.axis])),
        "size": source.shape[options.axis],
        "inner": int(np.prod(source.shape[options.axis + 1 :])) * size,
        "count": indices.elements,
    }
    return portable(
        layer,
        "leanedge_gather_int8",
        "leanedge_gather",
        fields,
        ("gather_int8.c",),
        operands=(_bytes(operand(layer, 0)), operand(layer, 1)),
        leads=leads,
        output=_OUTPUT_BYTES,
    )


def make_resize_nearest(layer: Layer) -> Kernel | None:
    """resize_nearest of one image."""
    source, out, options = inputs_of(layer)[0], output_of(layer), layer.operator.options
    assert isinstance(options, ResizeOptions)
    if source.shape[0] != 1:
        return None
    tables = [nearest_places(source.shape[axis], out.shape[axis], options) for axis in (1, 2)]
    places = np.arange(source.elements).reshape(source.shape)
    first = places[:, tables[0]][:, :, tables[1]]
    return _resize(layer, "leanedge_resize_nearest", "resize_nearest_int8.c", tables, "that is copied", first)


def make_resize_bilinear(layer: Layer) -> Kernel | None:
    """resize_bilinear of one image."""
    source, out, options = inputs_of(layer)[0], output_of(layer), layer.operator.options
    assert isinstance(options, ResizeOptions)
    if not all_int8(layer) or source.shape[0] != 1:
        return None
    tables = [np.stack(bilinear_places(source.shape[axis], out.shape[axis], options), axis=1) for axis in (1, 2)]
    places = np.arange(source.elements).reshape(source.shape)
    first = places[:, tables[0][:, 0]][:, :, tables[1][:, 0]]
    note = "before, after, weight of the latter in 1/1024"
    return _resize(layer, "leanedge_resize_bilinear", "resize_bilinear_int8.c", tables, note, first)


def _resize(layer: Layer, struct: str, file: str, tables: list[Array], note: str, first: Array) -> Kernel:
    source, out = inputs_of(layer)[0], output_of(layer)
    size = np.dtype(source.dtype).itemsize
    rows = Constant(f"{layer.prefix}_rows", tables[0].astype(np.int16), f"rows: {note}")
    columns = Constant(f"{layer.prefix}_columns", tables[1].astype(np.int16), f"columns: {note}")
    fields = {
        "input_columns": source.shape[2],
        "output_rows": out.shape[1],
        "output_columns": out.shape[2],
        "channels": out.shape[3] * size,
        "rows": rows.name,
        "columns": columns.name,
    }
    return portable(
        layer,
        f"{struct}_int8",
        struct,
        fields,
        (file,),
        constants=(rows, columns),
        operands=(_bytes(operand(layer, 0)),),
        leads=_leads(layer, _byte_lead(first, source)),
        output=_OUTPUT_BYTES,
    )
