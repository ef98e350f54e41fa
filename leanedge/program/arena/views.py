"""Tensors that are the same bytes as a part of another, so that no kernel need copy them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.program.types import ConcatenationOptions, SplitOptions, StridedSliceOptions, TransposeOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.program.types import Program, ProgramOperator

__all__ = ["find_views", "relations"]


def find_views(program: Program, alignment: int) -> dict[str, tuple[str, int]]:
    """View -> (what it is a part of, its byte offset there); what it is a part of may be a view in turn.

    reshape, transposes that move no number, contiguous slices and splits view their input; the inputs of a contiguous
    concatenation view its output. A view starts at a multiple of `alignment`. No output of the Program shares memory
    with what a state's next value is copied to.
    """
    parents: dict[str, tuple[str, int]] = {}
    remembered = {state.read for state in program.states}
    outputs = {port.tensor for port in program.outputs}
    members: dict[str, set[str]] = {}

    def link(view: str, whole: str, offset: int) -> None:
        # The topmost owner of a view joins the whole only if it is the very same bytes, else it would reach beyond.
        top, at = view, 0
        while top in parents:
            top, step = parents[top]
            at += step
        same = at == 0 and program.tensors[top].nbytes == program.tensors[view].nbytes
        host = _top(parents, whole)
        if not same or offset % alignment or top == host:
            return
        together = members.get(top, {top}) | members.get(host, {host})
        if not (together & remembered and together & outputs):
            parents[top], members[host] = (whole, offset), together

    for operator in program.operators:
        for view, whole, offset in relations(program, operator):
            link(view, whole, offset)
    return parents


def relations(program: Program, operator: ProgramOperator) -> tuple[tuple[str, str, int], ...]:
    """(view, whole, byte offset) of what an operator's tensors could share; constants are left out.

    Where all its tensors lie so, there is nothing to do.
    """
    tensors, source, out = program.tensors, operator.inputs[0], operator.output
    if operator.kind == "concatenation":
        parts = _parts(program, operator, operator.inputs, out)
        return tuple((name, out, offset) for name, offset in parts if tensors[name].data is None)
    if tensors[source].data is not None:
        return ()
    if operator.kind == "split":
        return tuple((name, source, offset) for name, offset in _parts(program, operator, operator.outputs, source))
    if operator.kind == "strided_slice":
        offset = _slice_offset(program, operator)
        return () if offset is None else ((out, source, offset),)
    return ((out, source, 0),) if _moves_nothing(program, operator) else ()


def _top(parents: dict[str, tuple[str, int]], name: str) -> str:
    while name in parents:
        name = parents[name][0]
    return name


def _parts(program: Program, operator: ProgramOperator, parts: Sequence[str], whole: str) -> list[tuple[str, int]]:
    """Where each part of a concatenation or split lies; nothing where the parts are interleaved."""
    options = operator.options
    assert isinstance(options, (ConcatenationOptions, SplitOptions))
    if int(np.prod(program.tensors[whole].shape[: options.axis])) != 1:
        return []
    sizes = [program.tensors[name].nbytes for name in parts]
    return [(name, sum(sizes[:place])) for place, name in enumerate(parts)]


def _moves_nothing(program: Program, operator: ProgramOperator) -> bool:
    if operator.kind == "reshape":
        return True
    if not isinstance(operator.options, TransposeOptions):
        return False
    shape = program.tensors[operator.inputs[0]].shape
    kept = [axis for axis in operator.options.permutation if shape[axis] > 1]
    return kept == sorted(kept)


def _slice_offset(program: Program, operator: ProgramOperator) -> int | None:
    """Byte offset of a slice that is one run of its input."""
    source, out = program.tensors[operator.inputs[0]], program.tensors[operator.output]
    options = operator.options
    assert isinstance(options, StridedSliceOptions)
    places = np.arange(source.elements).reshape(source.shape)
    index = tuple(
        slice(begin, None if end < 0 else end, stride)
        for begin, end, stride in zip(options.begin, options.end, options.strides, strict=True)
    )
    taken = places[index].ravel()
    if not np.array_equal(taken, np.arange(taken[0], taken[0] + out.elements)):
        return None
    return int(taken[0]) * np.dtype(source.dtype).itemsize
