"""What compression hands on: a graph, its integers and what was cut. Frozen; rounding happens once, here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.graph.model import Graph
    from leanedge.names import Pattern, Scheme

__all__ = ["Array", "Compressed", "Masks", "QuantSpec", "QuantizedConstant", "TensorQuant"]

Array = np.ndarray[Any, Any]
IntegerType = Literal["int8", "uint8", "int16", "int32", "int64"]


@dataclass(frozen=True)
class TensorQuant:
    """Real value = scale x (integer - zero_point).

    Attributes:
        dtype: Type of the integers. Activations are stored as int8; U8 is the same scale with zero point + 128.
        scale: float32, shape () per tensor or (channels,) per channel.
        zero_point: int64, the same shape as `scale`.
        axis: The channel axis of a per-channel tensor (in the Graph's own layout), else None.
    """

    dtype: IntegerType
    scale: Array
    zero_point: Array
    axis: int | None = None

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value of a per-tensor quantization."""
        info = np.iinfo(self.dtype)
        scale, zero = float(self.scale), int(self.zero_point)
        return scale * (info.min - zero), scale * (info.max - zero)

    def quantize(self, real: Array) -> Array:
        """Rounds half to even and saturates, as ONNX QuantizeLinear does; `real` in the Graph's layout."""
        info = np.iinfo(self.dtype)
        scale, zero = self.broadcast(real.ndim)
        # float32 holds the sums below 2^24 exactly, and what lies above saturates; int32 needs the wider type.
        offset = zero if self.dtype == "int32" else zero.astype(np.float32)
        integers: Array = np.clip(np.rint(real / scale) + offset, info.min, info.max).astype(self.dtype)
        return integers

    def dequantize(self, integers: Array) -> Array:
        """float32 values of `integers`, each rounded once."""
        scale, zero = self.broadcast(integers.ndim)
        if self.dtype == "int32":
            return ((integers.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)
        # float32 holds these differences exactly.
        real: Array = (integers.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)
        return real

    def broadcast(self, rank: int) -> tuple[Array, Array]:
        """Scale and zero point shaped to broadcast against a tensor of that rank."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


@dataclass(frozen=True)
class QuantizedConstant:
    """A weight or bias as its final integers, in the Graph's layout."""

    integers: Array
    quant: TensorQuant


@dataclass(frozen=True)
class QuantSpec:
    """Every integer of a compressed model.

    Attributes:
        scheme: The scheme it realises.
        rules: The quantization rules it obeys (a key of `compress.quantize.rules.RULES`).
        activations: Graph value -> its quantization. A value that is not here stays in float.
        constants: Initializer -> integers. Weights int8 (axis of the output channel, symmetric), biases int32
            with scale = input scale x weight scale.
        float_operators: Ids of operators (`graph.operators`) that compute in float.
        dynamic_operators: Ids of operators whose input range is found at run time (``w8a8_dynamic``).
    """

    scheme: Scheme
    rules: str
    activations: Mapping[str, TensorQuant] = field(default_factory=dict)
    constants: Mapping[str, QuantizedConstant] = field(default_factory=dict)
    float_operators: frozenset[str] = frozenset()
    dynamic_operators: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Masks:
    """What was cut: operator id -> (kept channels, channels before). The Graph is already the smaller one."""

    channels: Mapping[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Compressed:
    """A model ready to be exported.

    Attributes:
        graph: The (possibly pruned and refitted) float graph, names unchanged.
        scheme: Its scheme; ``fp32`` and ``fp16`` have no `quant`.
        pattern: What was cut.
        level: Fraction of the cuttable MACs that was removed, 0 for dense.
        quant: The integers, or None.
        masks: What was cut where.
    """

    graph: Graph
    scheme: Scheme
    pattern: Pattern = "dense"
    level: float = 0.0
    quant: QuantSpec | None = None
    masks: Masks = field(default_factory=Masks)
