"""Skeleton: a Program without scales. What `structure` makes and `fill` completes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.arrangement import Arrangement
    from leanedge.program.types import DType, Port, ProgramOperator

__all__ = ["Role", "Skeleton", "SkeletonTensor"]

Array = np.ndarray[Any, Any]

Role = Literal["activation", "weight", "bias", "operand", "index"]
"""What a tensor is to quantization. An ``operand`` is a constant of an element-wise kind, an ``index`` is never
quantized."""


@dataclass(frozen=True, eq=False)
class SkeletonTensor:
    """One tensor, as it would be in float.

    Attributes:
        name: Unique.
        shape: In the Program's layout.
        dtype: ``float32``, or the type of an index.
        role: What it is to quantization.
        value: Graph value whose quantization it has.
        arrangement: From that value's array to this one; None where it holds only a part or an edited copy.
        constant: Initializer that it holds (`arrangement` says how), or None.
        data: Values of a constant that the lowering made up, in real units.
        limits: Smallest and largest real value of a tensor that the lowering made up and whose range is known.
        channel_axis: Axis of the output channel of a ``weight``, in `shape`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType = "float32"
    role: Role = "activation"
    value: str | None = None
    arrangement: Arrangement | None = None
    constant: str | None = None
    data: Array | None = None
    limits: tuple[float, float] | None = None
    channel_axis: int | None = None

    @property
    def is_constant(self) -> bool:
        """True where its values are known before anything runs."""
        return self.constant is not None or self.data is not None


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Fused, laid out and ordered operators.

    Attributes:
        tensors: By name.
        operators: In execution order.
        inputs: The Graph's inputs.
        outputs: The Graph's outputs.
        constants: Initializer -> float values in the Graph's layout, those that are used.
    """

    tensors: Mapping[str, SkeletonTensor]
    operators: tuple[ProgramOperator, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: Mapping[str, Array]
