"""Channels that nobody needs, or that hold one number whatever the input: taken out of all they run through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.fixed_point import INT32_MAX, INT32_MIN
from leanedge.program.simplify.borders import border_sums
from leanedge.program.simplify.rewrite import Note, kept_tensors, readers
from leanedge.program.types import (
    ConcatenationOptions,
    ConvOptions,
    Dense,
    PadOptions,
    ReduceOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leanedge.program.simplify.intervals import Interval
    from leanedge.program.types import Program, ProgramOperator, ProgramTensor

__all__ = ["remove_dead_channels"]

Array = np.ndarray[Any, Any]

_CHANNEL_BY_CHANNEL = frozenset(
    {
        "add",
        "sub",
        "mul",
        "maximum",
        "minimum",
        "max_pool",
        "average_pool",
        "logistic",
        "tanh",
        "relu",
        "relu6",
        "relu_n1_to_1",
        "hard_swish",
        "leaky_relu",
        "resize_nearest",
        "resize_bilinear",
        "quantize",
    }
)
"""Kinds whose every output channel is made of that same channel of each input."""


def remove_dead_channels(program: Program, intervals: Mapping[str, Interval]) -> tuple[Program, tuple[Note, ...]]:
    """The Program without the channels that no output depends on, or that hold one number whatever the input.

    Needs run from the outputs back. A conv_2d or a fully_connected needs a channel of its input only where one of its
    own needed outputs has a weight for it that is not 0, and where the channel either varies or can't become part of
    the bias. Kinds that work channel by channel (a depthwise convolution, a pool, an addition) tie channels together:
    one is kept in all of them or in none, until nothing changes any more. What is needed only grows, so this ends.

    Proof: each sum that is kept has the same value. A channel that holds v adds sum(w) x (v - zero point) wherever all
    taps of w that are not 0 lie inside of the image, at every position of the output: then that product goes into
    the bias, which is checked to stay within its type. Where a tap reaches into the padding at some positions only,
    it is not one number, and the channel stays. A channel whose weights are all 0 adds 0.
    """
    needs = _Needs(program, intervals)
    needs.settle()
    smaller = {name: kept for name, kept in needs.kept.items() if not kept.all()}
    if not smaller:
        return program, ()
    return _Cut(program, intervals, needs.kept, readers(program)).program()


class _Needs:
    """Which channels of each tensor are needed; lives only inside `remove_dead_channels`."""

    def __init__(self, program: Program, intervals: Mapping[str, Interval]) -> None:
        self.program = program
        self.intervals = intervals
        self.kept: dict[str, Array] = {
            name: np.zeros(tensor.shape[-1] if tensor.shape else 1, bool) for name, tensor in program.tensors.items()
        }
        for name in kept_tensors(program):
            self.kept[name][:] = True
        self._foldable: dict[str, Array] = {}
        self._changed = False

    def settle(self) -> None:
        """Lets needs run back until none is added."""
        self._changed = True
        while self._changed:
            self._changed = False
            for operator in reversed(self.program.operators):
                self._run(operator)

    def _need(self, name: str, channels: Array) -> None:
        if np.any(channels & ~self.kept[name]):
            self.kept[name] = self.kept[name] | channels
            self._changed = True

    def _need_all(self, name: str) -> None:
        self._need(name, np.ones(self.kept[name].size, bool))

    def _run(self, operator: ProgramOperator) -> None:
        out = operator.output
        for name in operator.outputs:
            if not self.kept[name].any():  # a tensor has one channel at least
                self._need(name, np.arange(self.kept[name].size) == 0)
        if not self.program.computes_in_integers(operator):
            for name in (*operator.inputs, *operator.outputs):
                self._need_all(name)
        elif operator.kind in ("conv_2d", "fully_connected") and _groups(self.program, operator) == 1:
            self._need(operator.inputs[0], self._weighed(operator))
        elif operator.kind == "depthwise_conv_2d":
            self._tie_depthwise(operator.inputs[0], out)
        elif isinstance(operator.options, ConcatenationOptions) and _along_channels(self.program, operator):
            self._tie_parts(operator)
        elif operator.kind == "reshape":
            self._tie_reshape(operator.inputs[0], out)
        elif _by_channel(self.program, operator):
            for name in operator.inputs:
                self._tie(name, out)
        else:
            for name in (*operator.inputs, *operator.outputs):
                self._need_all(name)

    def _weighed(self, operator: ProgramOperator) -> Array:
        """The input channels that a layer's needed outputs depend on."""
        weights = _values(self.program, operator.inputs[1])
        rows = weights[self.kept[operator.output]]
        weighed = np.any(rows != 0, axis=tuple(range(weights.ndim - 1)))
        if operator.output not in self._foldable:
            self._foldable[operator.output] = _foldable(self.program, operator, self.intervals)
        return np.asarray(weighed & ~self._foldable[operator.output])

    def _tie(self, left: str, right: str) -> None:
        """The same channels of both, except where one has a single channel for all."""
        if self.kept[left].size == self.kept[right].size:
            self._need(left, self.kept[right])
            self._need(right, self.kept[left])
        else:
            self._need_all(left)

    def _tie_depthwise(self, source: str, out: str) -> None:
        channels = self.kept[source].size
        self._need(source, np.asarray(self.kept[out].reshape(channels, -1).any(axis=1)))
        self._need(out, np.repeat(self.kept[source], self.kept[out].size // channels))

    def _tie_parts(self, operator: ProgramOperator) -> None:
        start = 0
        whole = np.zeros(self.kept[operator.output].size, bool)
        for name in operator.inputs:
            size = self.kept[name].size
            self._need(name, self.kept[operator.output][start : start + size])
            whole[start : start + size] = self.kept[name]
            start += size
        self._need(operator.output, whole)

    def _tie_reshape(self, source: str, out: str) -> None:
        """A channel of the input is every n-th of a last axis that holds whole rows of channels."""
        before, after = self.kept[source], self.kept[out]
        if after.size % before.size or not self.program.tensors[source].shape:
            self._need_all(source)
            self._need_all(out)
            return
        self._need(source, np.asarray(after.reshape(-1, before.size).any(axis=0)))
        self._need(out, np.tile(before, after.size // before.size))


def _values(program: Program, name: str) -> Array:
    data = program.tensors[name].data
    assert data is not None
    return data.decode()


def _groups(program: Program, operator: ProgramOperator) -> int:
    source, weights = (program.tensors[name].shape for name in operator.inputs[:2])
    return source[-1] // weights[-1]


def _along_channels(program: Program, operator: ProgramOperator) -> bool:
    options = operator.options
    return isinstance(options, ConcatenationOptions) and options.axis == len(program.tensors[operator.output].shape) - 1


def _by_channel(program: Program, operator: ProgramOperator) -> bool:
    options, last = operator.options, len(program.tensors[operator.inputs[0]].shape) - 1
    if isinstance(options, ReduceOptions):
        return operator.kind == "mean" and last not in options.axes
    if isinstance(options, PadOptions):
        return options.pads[-1] == (0, 0)
    return operator.kind in _CHANNEL_BY_CHANNEL or isinstance(options, ConcatenationOptions)


def _foldable(program: Program, operator: ProgramOperator, intervals: Mapping[str, Interval]) -> Array:
    """Bool (input channels,): constant, and adding one number to each output wherever that is."""
    interval = intervals[operator.inputs[0]]
    constant: Array = interval.constant.copy()
    source, out = program.tensors[operator.inputs[0]], program.tensors[operator.output]
    assert source.quant is not None
    weights = _values(program, operator.inputs[1])
    options = operator.options
    if isinstance(options, ConvOptions) and any(options.pads):
        for channel in np.flatnonzero(constant & (interval.low != int(source.quant.zero_point))):
            seen = border_sums(weights[..., channel].astype(np.int64), options, source, out)
            constant[channel] = bool((seen == seen[:1]).all())
    bias = program.tensors[operator.inputs[2]]
    total = np.abs(_values(program, bias.name).astype(np.int64)) + np.abs(_added(weights, interval, source)).sum(axis=1)
    if total.max() > INT32_MAX:
        constant[:] = False
    return constant


def _added(weights: Array, interval: Interval, source: ProgramTensor) -> Array:
    """(outputs, input channels): what a constant channel adds where no window reaches into padding."""
    assert source.quant is not None
    sums = weights.astype(np.int64).sum(axis=tuple(range(1, weights.ndim - 1)))
    return np.asarray(sums * np.where(interval.constant, interval.low - int(source.quant.zero_point), 0))


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}.{number}" for number in count(2))


@dataclass(frozen=True)
class _Cut:
    """Makes the smaller Program."""

    before: Program
    intervals: Mapping[str, Interval]
    kept: Mapping[str, Array]
    readers: Mapping[str, list[ProgramOperator]]

    def program(self) -> tuple[Program, tuple[Note, ...]]:
        """The smaller Program and what was done to each layer."""
        tensors = dict(self.before.tensors)
        notes = []
        for name, tensor in self.before.tensors.items():
            if tensor.data is None and not self.kept[name].all():
                channels = int(self.kept[name].sum())
                tensors[name] = replace(tensor, shape=(*tensor.shape[:-1], channels))
        operators = list(self.before.operators)
        for place, operator in enumerate(self.before.operators):
            if operator.kind in ("conv_2d", "depthwise_conv_2d", "fully_connected"):
                names, note = self._layer(operator, tensors)
                operators[place] = replace(operator, inputs=names)
                if note is not None:
                    notes.append(note)
            else:
                names = tuple(self._operand(operator, name, tensors) for name in operator.inputs)
                operators[place] = replace(operator, inputs=names)
        used = kept_tensors(self.before).union(*((*operator.inputs, *operator.outputs) for operator in operators))
        tensors = {name: tensor for name, tensor in tensors.items() if name in used}
        return replace(self.before, tensors=tensors, operators=tuple(operators)), tuple(notes)

    def _layer(
        self, operator: ProgramOperator, tensors: dict[str, ProgramTensor]
    ) -> tuple[tuple[str, ...], Note | None]:
        source, weights, bias = (self.before.tensors[name] for name in operator.inputs)
        inputs, outputs = self.kept[source.name], self.kept[operator.output]
        if inputs.all() and outputs.all():
            return operator.inputs, None
        array, sums = _values(self.before, weights.name), _values(self.before, bias.name)
        folded = 0
        if operator.kind == "depthwise_conv_2d":
            array, axis = array[..., outputs], 3
        else:
            added = _added(array, self.intervals[source.name], source)[:, ~inputs]
            total = sums.astype(np.int64) + added.sum(axis=1)
            assert total[outputs].min() >= INT32_MIN
            assert total[outputs].max() <= INT32_MAX
            sums, folded = total.astype(sums.dtype), int(np.any(added[outputs], axis=0).sum())
            array, axis = array[outputs][..., inputs], 0
        names = (
            source.name,
            self._constant(weights, array, axis, outputs, operator, tensors),
            self._constant(bias, sums[outputs], 0, outputs, operator, tensors),
        )
        detail = f"{int(inputs.sum())} of {inputs.size} input channels, {int(outputs.sum())} of {outputs.size} outputs"
        if folded:
            detail += f"; {folded} constant inputs are in the bias"
        return names, Note("dead channels", operator.source, detail)

    def _operand(self, operator: ProgramOperator, name: str, tensors: dict[str, ProgramTensor]) -> str:
        """The name of a constant operand, cut like the others."""
        tensor = self.before.tensors[name]
        if tensor.data is None or self.kept[name].all():
            return name
        array = tensor.data.decode()[..., self.kept[name]]
        return self._constant(tensor, array, len(tensor.shape) - 1, self.kept[name], operator, tensors)

    def _constant(
        self,
        tensor: ProgramTensor,
        array: Array,
        axis: int,
        channels: Array,
        operator: ProgramOperator,
        tensors: dict[str, ProgramTensor],
    ) -> str:
        """A constant of this operator alone, for another may still want the whole of it."""
        name = tensor.name
        if len(self.readers[name]) > 1:
            name = next(free for free in _numbered(f"{name}.{operator.source}") if free not in tensors)
        quant = tensor.quant
        if quant is not None and quant.axis == axis:
            quant = replace(quant, scale=quant.scale[channels], zero_point=quant.zero_point[channels])
        array = np.ascontiguousarray(array)
        tensors[name] = replace(tensor, name=name, shape=array.shape, quant=quant, data=Dense(array))
        return name
