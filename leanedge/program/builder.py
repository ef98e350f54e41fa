"""Builder: what the lowering of each operator writes to while a Skeleton is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.arrangement import Arrangement, same_order
from leanedge.program.refusal import unsupported
from leanedge.program.skeleton import SkeletonTensor
from leanedge.program.types import NoOptions, ProgramOperator, TransposeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator
    from leanedge.program.skeleton import Role
    from leanedge.program.types import DType, Kind, Options

__all__ = ["Builder"]

Array = np.ndarray[Any, Any]

_DTYPES = ("float32", "uint8", "int8", "int32", "int64", "bool")
"""Types that a Graph value may have; 8-bit ones are numbers (images), not quantized values."""


class Builder:
    """What the lowering of each operator writes to; lives only inside `structure`."""

    def __init__(
        self, graph: Graph, layouts: Mapping[str, Arrangement], separate_pads: bool, split_hard_swish: bool
    ) -> None:
        self.graph = graph
        self.layouts = layouts
        self.separate_pads = separate_pads
        self.split_hard_swish = split_hard_swish
        self.tensors: dict[str, SkeletonTensor] = {}
        self.operators: list[ProgramOperator] = []
        self.constants: dict[str, Array] = {}
        self.source = ""
        self._held: dict[str, list[str]] = {}

    def shape(self, value: str) -> tuple[int, ...]:
        """Static shape of a Graph value in the Graph's layout."""
        found = self.graph.shape(value)
        if found is None:
            raise ValueError(f"{value} has no static shape")
        return found

    def layout(self, value: str) -> Arrangement:
        """The arrangement chosen for a Graph value."""
        return self.layouts.get(value) or Arrangement.same(self.shape(value))

    def emit(self, kind: Kind, inputs: Sequence[str], outputs: Sequence[str], options: Options | None = None) -> None:
        """Adds an operator."""
        self.operators.append(
            ProgramOperator(self.source, kind, tuple(inputs), tuple(outputs), options if options else NoOptions())
        )

    def new(self, name: str, shape: tuple[int, ...], **fields: Any) -> str:
        """Adds a tensor under `name`, or the nearest free name."""
        unique, number = name, 2
        while unique in self.tensors:
            unique, number = f"{name}.{number}", number + 1
        self.tensors[unique] = SkeletonTensor(unique, shape, **fields)
        return unique

    def part(self, value: str, shape: tuple[int, ...], suffix: str) -> str:
        """A tensor quantized as `value` that is not the whole of it, or holds it moved or clamped."""
        return self.new(f"{value}.{suffix}", shape, value=value, dtype=self.dtype(value))

    def inner(self, output: str, shape: tuple[int, ...], suffix: str, limits: tuple[float, float] | None = None) -> str:
        """A float tensor that the lowering makes up on the way to `output`."""
        return self.new(f"{output}.{suffix}", shape, limits=limits)

    def dtype(self, value: str) -> DType:
        """Type of a Graph value in the Program."""
        found = self.graph.values[value].dtype
        name = "float32" if found is None else str(np.dtype(found.numpy()))
        if name not in _DTYPES:
            raise unsupported(self.graph, self.source, f"tensor {value} is {name}", ", ".join(_DTYPES))
        return name  # type: ignore[return-value]

    def write(self, value: str) -> str:
        """The tensor that will hold a Graph value, in its chosen arrangement."""
        arrangement = self.layout(value)
        name = self.new(value, arrangement.shape, value=value, arrangement=arrangement, dtype=self.dtype(value))
        self._held.setdefault(value, []).append(name)
        return name

    def write_as(self, value: str, arrangement: Arrangement) -> tuple[str, Callable[[], None]]:
        """A tensor to write a Graph value to in `arrangement`, and what to call when its operator is emitted."""
        if self.layout(value) == arrangement:
            return self.write(value), lambda: None
        name = self.new(
            f"{value}.unmoved", arrangement.shape, value=value, arrangement=arrangement, dtype=self.dtype(value)
        )

        def finish() -> None:
            self.move(value, name, arrangement, self.shape(value), self.layout(value), self.write(value))

        return name, finish

    def read(self, value: str, arrangement: Arrangement | None = None) -> str:
        """The tensor that holds a Graph value in `arrangement` (its chosen one by default), moved if it must be."""
        if value in self.graph.constants:
            array = self.graph.constants[value]
            arrangement = arrangement or Arrangement.same(array.shape)
            role: Role = "operand" if array.dtype == np.float32 else "index"
            return self.constant(value, arrangement, role)
        arrangement = arrangement or self.layout(value)
        for name in self._held[value]:
            if self.tensors[name].arrangement == arrangement:
                return name
        held = self.tensors[self._held[value][0]]
        name = self.new(f"{value}.moved", arrangement.shape, value=value, arrangement=arrangement, dtype=held.dtype)
        if held.arrangement is None:
            raise ValueError(f"{held.name} has no arrangement")
        self.move(value, held.name, held.arrangement, self.shape(value), arrangement, name)
        self._held[value].append(name)
        return name

    def constant(self, initializer: str, arrangement: Arrangement, role: Role, channel_axis: int | None = None) -> str:
        """A tensor that holds an initializer; the same one for the same use."""
        for name, tensor in self.tensors.items():
            if (tensor.constant, tensor.arrangement, tensor.role) == (initializer, arrangement, role):
                return name
        array = self.graph.constants[initializer]
        self.constants[initializer] = array
        dtype = str(array.dtype)
        if dtype not in _DTYPES:
            raise unsupported(self.graph, self.source, f"constant {initializer} is {dtype}", "float32, int32, int64")
        return self.new(
            initializer,
            arrangement.shape,
            constant=initializer,
            arrangement=arrangement,
            role=role,
            channel_axis=channel_axis,
            dtype=dtype,
        )

    def made_up(self, name: str, array: Array, role: Role = "operand", value: str | None = None) -> str:
        """A constant that the Graph has not; quantized as `value` where that is given."""
        dtype: Any = str(array.dtype)
        return self.new(name, array.shape, data=array, role=role, dtype=dtype, value=value)

    def unsupported(self, operator: Operator, why: str, allowed: str = "") -> Exception:
        """The refusal of an operator, to be raised."""
        return unsupported(self.graph, operator.id, why, allowed)

    def move(
        self,
        value: str,
        tensor: str,
        source: Arrangement,
        shape: tuple[int, ...],
        target: Arrangement,
        output: str,
    ) -> None:
        """Emits the reshapes and the transpose that take a tensor from one arrangement of an array to another.

        Args:
            value: Graph value that lends name and quantization.
            tensor: What is moved.
            source: Its arrangement.
            shape: The array's shape in the Graph, which both arrangements start from.
            target: The arrangement wanted.
            output: The tensor to be written.
        """
        if same_order(source, shape, target, shape):
            self.emit("reshape", [tensor], [output])
            return
        # The finer split of the two: an arrangement that moves nothing can be split at will.
        split = source.split if source.moves else target.split
        if target.moves and target.split != split:
            middle = self.part(value, shape, "plain")
            self.move(value, tensor, source, shape, Arrangement.same(shape), middle)
            self.move(value, middle, Arrangement.same(shape), shape, target, output)
            return
        before = source.order if source.moves else tuple(range(len(split)))
        after = target.order if target.moves else tuple(range(len(split)))
        axes = tuple(split[axis] for axis in before)
        if self.tensors[tensor].shape != axes:
            reshaped = self.part(value, axes, "split")
            self.emit("reshape", [tensor], [reshaped])
            tensor = reshaped
        permutation = tuple(before.index(axis) for axis in after)
        moved_shape = tuple(axes[axis] for axis in permutation)
        moved = output if moved_shape == target.shape else self.part(value, moved_shape, "transposed")
        self.emit("transpose", [tensor], [moved], TransposeOptions(permutation))
        if moved != output:
            self.emit("reshape", [moved], [output])
