"""Random int8 Programs of many operators: branches, views, states, tensors read twice, several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanedge.compress.types import TensorQuant
from leanedge.program.types import (
    ConcatenationOptions,
    ConvOptions,
    Dense,
    ElementwiseOptions,
    Kind,
    LeakyReluOptions,
    NoOptions,
    Options,
    PadOptions,
    PoolOptions,
    Port,
    Program,
    ProgramOperator,
    ProgramTensor,
    SplitOptions,
    State,
    StridedSliceOptions,
    TransposeOptions,
)

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def _quant(scale: Any, zero: Any = 0, axis: int | None = None, dtype: Any = "int8") -> TensorQuant:
    return TensorQuant(dtype, np.asarray(scale, np.float32), np.asarray(zero, np.int64), axis)


ACTIVATIONS = _quant(0.05, -3)


class Drawing:
    """A Program while it grows."""

    def __init__(self, seed: int, states: bool = True) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: dict[str, ProgramTensor] = {}
        self.operators: list[ProgramOperator] = []
        self.images: list[str] = []
        self.states: list[State] = []
        rows, columns, channels = (int(self.random.integers(low, 8)) for low in (2, 2, 1))
        inputs = [self.new((1, rows, columns, channels)) for _ in range(self.random.integers(1, 3))]
        self.images = list(inputs)
        remembered = [self.new((1, rows, columns, channels)) for _ in range(self.random.integers(0, 3) * states)]
        self.images += remembered
        for _ in range(self.random.integers(1, 12)):
            self.grow()
        for number, name in enumerate(remembered):
            read = self.tensors[name]
            like = [other for other in self.images if self.tensors[other].shape == read.shape]
            self.unary(str(self.random.choice(like)))
            initial = self.random.integers(-128, 128, read.shape).astype(np.int8)
            if number:
                initial[...] = 7
            self.states.append(State(f"s{number}", name, self.images[-1], initial))
        written = {state.written for state in self.states}
        read_by = {name for operator in self.operators for name in operator.inputs}
        ends = [name for name in self.images if name not in read_by and name not in inputs + remembered]
        some = [name for name in self.images if self.random.random() < 0.15 and name not in inputs + remembered]
        outputs = sorted({*ends, *some} - written) or [self.unary(self.pick())]
        self.program = Program(
            {**self.tensors},
            tuple(self.operators),
            tuple(Port(f"in{n}", name) for n, name in enumerate(inputs)),
            tuple(Port(f"out{n}", name) for n, name in enumerate(outputs)),
            tuple(self.states),
        )

    def new(self, shape: Shape) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = ProgramTensor(name, tuple(map(int, shape)), "int8", ACTIVATIONS)
        return name

    def constant(self, array: Array, quant: TensorQuant) -> str:
        name = f"t{len(self.tensors)}"
        dtype: Any = str(array.dtype)
        self.tensors[name] = ProgramTensor(name, array.shape, dtype, quant, Dense(array))
        return name

    def add(self, kind: Kind, inputs: list[str], outputs: list[str], options: Options | None = None) -> str:
        source = f"node {len(self.operators)}"
        self.operators.append(ProgramOperator(source, kind, tuple(inputs), tuple(outputs), options or NoOptions()))
        self.images += [name for name in outputs if len(self.tensors[name].shape) == 4]
        return outputs[0]

    def pick(self) -> str:
        return str(self.random.choice(self.images[-4:] if self.random.random() < 0.7 else self.images))

    def shape(self, name: str) -> tuple[int, int, int, int]:
        one, rows, columns, channels = self.tensors[name].shape
        return one, rows, columns, channels

    def unary(self, source: str) -> str:
        return self.add("leaky_relu", [source], [self.new(self.shape(source))], LeakyReluOptions(0.3))

    def grow(self) -> None:
        source = self.pick()
        one, rows, columns, channels = self.shape(source)
        choice = self.random.integers(0, 11)
        if choice == 0:
            self.unary(source)
        elif choice in (1, 2):
            outputs = int(self.random.integers(1, 7))
            kernel = int(self.random.integers(1, 3)) if min(rows, columns) > 1 else 1
            weights = self.random.integers(-127, 128, (outputs, kernel, kernel, channels)).astype(np.int8)
            scales = self.random.uniform(0.002, 0.01, outputs).astype(np.float32)
            names = [
                self.constant(weights, _quant(scales, np.zeros(outputs), 0)),
                self.constant(
                    self.random.integers(-900, 900, outputs).astype(np.int32),
                    _quant(scales * ACTIVATIONS.scale, np.zeros(outputs), 0, "int32"),
                ),
            ]
            pads = (0, kernel - 1, 0, kernel - 1)
            options = ConvOptions((1, 1), (1, 1), pads, "none")
            self.add("conv_2d", [source, *names], [self.new((one, rows, columns, outputs))], options)
        elif choice in (3, 4):
            like = [name for name in self.images if self.shape(name) == self.shape(source)]
            other = str(self.random.choice(like))
            kind: Kind = "add" if choice == 3 else "sub"
            self.add(kind, [source, other], [self.new(self.shape(source))], ElementwiseOptions())
        elif choice == 5 and rows > 1 and columns > 1:
            options_pool = PoolOptions((2, 2), (1, 1), (0, 0, 0, 0))
            self.add("max_pool", [source], [self.new((one, rows - 1, columns - 1, channels))], options_pool)
        elif choice == 6 and rows * columns * channels < 300:
            pads_all = ((0, 0), (1, 0), (0, 1), (0, 0))
            self.add("pad", [source], [self.new((one, rows + 1, columns + 1, channels))], PadOptions(pads_all))
        elif choice == 7:
            axis = int(self.random.integers(1, 4))
            shape = list(self.shape(source))
            like = [name for name in self.images if _same_but(self.shape(name), shape, axis)]
            parts = [source, *(str(self.random.choice(like)) for _ in range(self.random.integers(0, 2)))]
            shape[axis] = sum(self.shape(name)[axis] for name in parts)
            if np.prod(shape) < 600:
                self.add("concatenation", parts, [self.new(tuple(shape))], ConcatenationOptions(axis))
        elif choice == 8:
            axis = int(self.random.integers(1, 4))
            if self.shape(source)[axis] % 2 == 0:
                half = tuple(size // 2 if place == axis else size for place, size in enumerate(self.shape(source)))
                self.add("split", [source], [self.new(half), self.new(half)], SplitOptions(axis))
        elif choice == 9:
            begin = (0, int(self.random.integers(0, rows)), 0, 0)
            part = (one, rows - begin[1], columns, channels)
            options_slice = StridedSliceOptions(begin, self.shape(source), (1, 1, 1, 1))
            self.add("strided_slice", [source], [self.new(part)], options_slice)
        else:
            order = (0, 2, 1, 3)
            self.add("transpose", [source], [self.new((one, columns, rows, channels))], TransposeOptions(order))
            flat = self.add("reshape", [self.images[-1]], [self.new((1, rows * columns * channels))])
            self.add("reshape", [flat], [self.new((one, rows, columns, channels))])


def _same_but(shape: Shape, other: list[int], axis: int) -> bool:
    return all(size == other[place] for place, size in enumerate(shape) if place != axis)


def random_program(seed: int, states: bool = True) -> Program:
    return Drawing(seed, states).program
