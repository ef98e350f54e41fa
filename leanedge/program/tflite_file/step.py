"""One operator of the file on its way into the Program: what its conversion reads, checks and writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.types import TensorQuant
from leanedge.errors import InputError, ModelError, UnsupportedOperator
from leanedge.program.tflite_file.read import LARGEST_TENSOR
from leanedge.program.types import Dense, NoOptions, ProgramOperator, ProgramTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.program.tflite_file.read import FileOperator, FileSubgraph, FileTensor
    from leanedge.program.types import Activation, DType, Kind, Options, State

__all__ = ["ACTIVATION_TYPES", "Loading", "Step"]

Array = np.ndarray[Any, Any]

ACTIVATION_TYPES = ("int8", "int16")
"""Types that operators calculate with."""

_FUSED: tuple[Activation, ...] = ("none", "relu", "relu_n1_to_1", "relu6")
"""By number, as the schema's ActivationFunctionType has them."""

_SAME, _VALID = 0, 1
"""The schema's Padding."""

LARGEST_WINDOW = 1 << 16
"""Strides, dilations and sizes of windows."""

QUANTIZE_FULLY = (
    "convert with full integer quantization: a representative dataset, and "
    "inference_input_type and inference_output_type int8"
)


@dataclass
class Loading:
    """What has been loaded so far; lives only inside `load_tflite`.

    Attributes:
        where: The file, for messages.
        graph: The subgraph that runs.
        names: Tensor's index in the file -> the Program's tensor.
        tensors: The Program's, by name.
        operators: The Program's.
        states: The Program's.
    """

    where: str
    graph: FileSubgraph
    names: dict[int, str] = field(default_factory=dict)
    tensors: dict[str, ProgramTensor] = field(default_factory=dict)
    operators: list[ProgramOperator] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def free_name(self, wanted: str) -> str:
        """The name wanted, or the nearest that no tensor has."""
        name, number = wanted, 2
        while name in self.tensors:
            name, number = f"{wanted}.{number}", number + 1
        return name

    def add(self, index: int) -> ProgramTensor:
        """Adds a tensor of the file to the Program."""
        tensor = self.graph.tensors[index]
        name = self.free_name(tensor.name or f"tensor_{index}")
        quant = self._quant(tensor, index)
        data = None if tensor.data is None else Dense(tensor.data)
        self.tensors[name] = ProgramTensor(name, tensor.shape, tensor.dtype, quant, data)  # type: ignore[arg-type]
        self.names[index] = name
        return self.tensors[name]

    def _quant(self, tensor: FileTensor, index: int) -> TensorQuant | None:
        dtype, scales, zeros = tensor.dtype, tensor.scales, tensor.zero_points
        if not scales.size or dtype not in ("int8", "uint8", "int16", "int32", "int64"):
            return None
        what = f"tensor {index} ({tensor.name})"
        # Kernels hold a scale relative to others in 31 bits and a zero point in the tensor's type.
        if not np.all(np.isfinite(scales) & (scales > 1e-30) & (scales < 1e30)):
            raise ModelError(f"{what} has a scale that is no positive number", where=self.where)
        info = np.iinfo(dtype)
        if zeros.min() < info.min or zeros.max() > info.max:
            raise ModelError(f"{what} has a zero point outside of {dtype}", where=self.where)
        if scales.size == 1:
            return TensorQuant(dtype, scales.reshape(()), zeros.reshape(()))  # type: ignore[arg-type]
        if not 0 <= tensor.axis < len(tensor.shape) or tensor.shape[tensor.axis] != scales.size:
            raise ModelError(
                f"{what} has {scales.size} scales along axis {tensor.axis} of its shape {tensor.shape}",
                where=self.where,
            )
        return TensorQuant(dtype, scales, zeros, tensor.axis)  # type: ignore[arg-type]


@dataclass
class Step:
    """One operator being loaded."""

    loading: Loading
    operator: FileOperator

    @property
    def what(self) -> str:
        """How messages name it."""
        return f"operator {self.operator.index} ({self.operator.code})"

    @property
    def source(self) -> str:
        """Its id in the Program."""
        return f"op{self.operator.index}_{self.operator.code.lower()}"

    def refusal(self, why: str, allowed: str = "", hint: str = "") -> UnsupportedOperator:
        """The refusal of the operator, to be raised."""
        return UnsupportedOperator(f"{self.what}: {why}", where=self.loading.where, allowed=allowed, hint=hint)

    def damage(self, why: str) -> ModelError:
        """What no converter writes, to be raised."""
        return ModelError(
            f"{self.what}: {why}", where=self.loading.where, hint="the file is damaged: convert the model again"
        )

    def describe(self, index: int) -> str:
        """How messages name a tensor of the file."""
        tensor = self.loading.graph.tensors[index]
        return f"tensor {index} ({tensor.name}, {tensor.dtype} {list(tensor.shape)})"

    def count(self, inputs: Sequence[int], outputs: int = 1) -> None:
        """Checks how many tensors are read and written."""
        if len(self.operator.inputs) not in inputs or len(self.operator.outputs) != outputs:
            raise self.damage(f"reads {len(self.operator.inputs)} tensors, writes {len(self.operator.outputs)}")

    def present(self, place: int) -> bool:
        """True where the input is not left out."""
        return place < len(self.operator.inputs) and self.operator.inputs[place] >= 0

    def file_tensor(self, place: int) -> FileTensor:
        """The input at that place as the file has it."""
        if not self.present(place):
            raise self.damage(f"lacks its input {place}")
        return self.loading.graph.tensors[self.operator.inputs[place]]

    def read(self, place: int, types: Sequence[str] = ACTIVATION_TYPES) -> ProgramTensor:
        """An input that carries data, of one of those types and quantized as a whole where it is integer."""
        index = self.operator.inputs[place] if self.present(place) else -1
        if index < 0:
            raise self.damage(f"lacks its input {place}")
        if index in self.loading.names:
            tensor = self.loading.tensors[self.loading.names[index]]
        elif self.loading.graph.tensors[index].data is not None:
            tensor = self.loading.add(index)
        else:
            raise self._unwritten(index)
        self._check(tensor, index, types)
        return tensor

    def _unwritten(self, index: int) -> InputError:
        tensor = self.loading.graph.tensors[index]
        if tensor.variable:
            return self.refusal(
                f"keeps its state in the variable {self.describe(index)}",
                "states by VAR_HANDLE, READ_VARIABLE and ASSIGN_VARIABLE",
                "convert with tf.Variable states, or with the state as an input and an output",
            )
        if tensor.dtype not in ACTIVATION_TYPES:
            return self._type(index, ACTIVATION_TYPES)
        return self.damage(f"reads {self.describe(index)}, which nothing has written before")

    def _type(self, index: int, types: Sequence[str]) -> UnsupportedOperator:
        return self.refusal(f"{self.describe(index)} is not of a type it may have", ", ".join(types), QUANTIZE_FULLY)

    def _check(self, tensor: ProgramTensor, index: int, types: Sequence[str]) -> None:
        if tensor.dtype not in types:
            raise self._type(index, types)
        if tensor.dtype == "float32":
            return
        if tensor.quant is None:
            raise self.refusal(f"{self.describe(index)} has no quantization", "a scale and a zero point")
        if tensor.quant.axis is not None:
            raise self.refusal(f"{self.describe(index)} is quantized per channel", "per-channel weights alone")
        if tensor.dtype == "int16" and int(tensor.quant.zero_point):
            raise self.refusal(f"{self.describe(index)} has a zero point", "int16 with zero point 0")
        if not tensor.elements:
            raise self.damage(f"{self.describe(index)} is empty")

    def constant(self, place: int, types: Sequence[str]) -> Array:
        """The values of an input that must be constant."""
        tensor = self.file_tensor(place)
        if tensor.data is None or tensor.dtype not in types:
            raise self.refusal(
                f"{self.describe(self.operator.inputs[place])} is not constant of {' or '.join(types)}",
                hint="convert with static shapes, weights frozen",
            )
        return tensor.data

    def integers(self, place: int) -> tuple[int, ...]:
        """The values of a small constant of indices."""
        values = self.constant(place, ("int32", "int64"))
        if values.size > 16:
            raise self.damage(f"{self.describe(self.operator.inputs[place])} is too long")
        return tuple(int(value) for value in values.reshape(-1))

    def weights(self, place: int, axis: int, rank: int) -> ProgramTensor:
        """Constant int8 weights, quantized symmetrically, as a whole or along `axis`."""
        self.constant(place, ("int8",))
        index = self.operator.inputs[place]
        tensor = self._held(index)
        if tensor.quant is None:
            raise self.refusal(f"{self.describe(index)} has no quantization", "a scale, or one a channel")
        if np.any(tensor.quant.zero_point):
            raise self.refusal(f"{self.describe(index)} has a zero point", "weights with zero point 0")
        if tensor.quant.axis not in (None, axis):
            raise self.refusal(f"{self.describe(index)} has scales along axis {tensor.quant.axis}", f"axis {axis}")
        if len(tensor.shape) != rank or not tensor.elements:
            raise self.damage(f"{self.describe(index)} has not {rank} axes")
        return tensor

    def _held(self, index: int) -> ProgramTensor:
        """The Program's tensor for a constant of the file."""
        name = self.loading.names.get(index)
        return self.loading.add(index) if name is None else self.loading.tensors[name]

    def bias(
        self, place: int, source: ProgramTensor, weights: ProgramTensor, channels: int, wide: bool = False
    ) -> ProgramTensor:
        """The bias, or zeros where the file has none; `wide` where int16 activations need one of int64."""
        assert source.quant is not None
        assert weights.quant is not None
        scale = source.quant.scale * weights.quant.scale
        zero, axis = np.zeros(scale.shape, np.int64), None if weights.quant.axis is None else 0
        if not self.present(place):
            made: Any = "int32" if source.dtype == "int8" else "int64"
            name = self.loading.free_name(f"{self.source}.bias")
            zeros = Dense(np.zeros(channels, made))
            self.loading.tensors[name] = ProgramTensor(
                name, (channels,), made, TensorQuant(made, scale, zero, axis), zeros
            )
            return self.loading.tensors[name]
        types = ("int32",) if source.dtype == "int8" else ("int64",) if wide else ("int32", "int64")
        values = self.constant(place, types)
        index = self.operator.inputs[place]
        if values.shape != (channels,):
            raise self.damage(f"{self.describe(index)} is no bias of {channels} channels")
        tensor = self._held(index)
        if tensor.quant is None:
            dtype: Any = tensor.dtype
            tensor = ProgramTensor(tensor.name, tensor.shape, dtype, TensorQuant(dtype, scale, zero, axis), tensor.data)
            self.loading.tensors[tensor.name] = tensor
        return tensor

    def write(self, shape: tuple[int, ...], types: Sequence[str], place: int = 0) -> ProgramTensor:
        """The output at that place, which must have that shape and one of those types."""
        index = self.operator.outputs[place] if place < len(self.operator.outputs) else -1
        if index < 0:
            raise self.damage(f"lacks its output {place}")
        if index in self.loading.names or self.loading.graph.tensors[index].data is not None:
            raise self.damage(f"writes {self.describe(index)}, which is written already")
        if self.loading.graph.tensors[index].shape != shape:
            raise self.damage(f"{self.describe(index)} should have the shape {list(shape)}")
        tensor = self.loading.add(index)
        self._check(tensor, index, types)
        return tensor

    def emit(
        self,
        kind: Kind,
        inputs: Sequence[ProgramTensor],
        outputs: Sequence[ProgramTensor],
        options: Options | None = None,
        suffix: str = "",
    ) -> None:
        """Adds an operator to the Program."""
        self.loading.operators.append(
            ProgramOperator(
                self.source + suffix,
                kind,
                tuple(tensor.name for tensor in inputs),
                tuple(tensor.name for tensor in outputs),
                options or NoOptions(),
            )
        )

    def made_up(self, like: ProgramTensor, shape: tuple[int, ...]) -> ProgramTensor:
        """A tensor that the file has not, quantized as another."""
        name = self.loading.free_name(f"{self.source}.whole")
        dtype: DType = like.dtype
        self.loading.tensors[name] = ProgramTensor(name, shape, dtype, like.quant)
        return self.loading.tensors[name]

    def same_scale(self, *tensors: ProgramTensor) -> None:
        """Checks that all are quantized alike, as operators that only move or compare numbers need it."""
        first = tensors[0].quant
        assert first is not None
        for other in tensors[1:]:
            assert other.quant is not None
            alike = abs(float(other.quant.scale) / float(first.scale) - 1) < 1e-5
            if not alike or int(other.quant.zero_point) != int(first.zero_point) or other.dtype != tensors[0].dtype:
                raise self.refusal(
                    f"{tensors[0].name} and {other.name} have unequal scales, zero points or types",
                    "equal ones, as TensorFlow Lite's quantization specification wants them here",
                    "convert the model again with a current converter",
                )

    def factor(self, sources: Sequence[ProgramTensor], out: ProgramTensor, limit: float, by: float = 1.0) -> None:
        """Checks that by x product of the sources' scales / the output's stays below a limit.

        Above it, sums shifted to the left would leave 32 bits, and every output but one number would saturate anyway.
        """
        assert out.quant is not None
        real = by / float(out.quant.scale)
        for tensor in sources:
            assert tensor.quant is not None
            real *= float(tensor.quant.scale.max())
        if real >= limit:
            raise self.refusal(
                f"the scales of {', '.join(tensor.name for tensor in sources)} are {real:g} times that of {out.name}",
                f"below {limit:g} times",
                "the file is damaged, or its scales were not calibrated",
            )

    def scale_within(self, tensor: ProgramTensor, low: float, high: float) -> None:
        """Checks a scale that the kernel's fixed-point format must hold."""
        assert tensor.quant is not None
        if not low <= float(tensor.quant.scale) < high:
            raise self.refusal(f"{tensor.name} has scale {float(tensor.quant.scale):g}", f"from {low:g} to {high:g}")

    def number(self, name: str) -> int:
        """A whole number among the options."""
        value = self.operator.options[name]
        assert isinstance(value, int)
        return int(value)

    def pair(self, height: str, width: str) -> tuple[int, int]:
        """Two positive options, vertical and horizontal."""
        found = self.number(height), self.number(width)
        if not 1 <= min(found) <= max(found) <= LARGEST_WINDOW:
            raise self.damage(f"{height} and {width} are {found}")
        return found

    def activation(self) -> Activation:
        """The fused activation."""
        number = self.number("FusedActivationFunction")
        if not 0 <= number < len(_FUSED):
            raise self.refusal(f"fused activation {number}", ", ".join(_FUSED))
        return _FUSED[number]

    def image(self, tensor: ProgramTensor) -> tuple[int, int, int, int]:
        """The shape of an image."""
        if len(tensor.shape) != 4:
            raise self.damage(f"{tensor.name} has the shape {tensor.shape}: no image")
        batch, height, width, channels = tensor.shape
        return batch, height, width, channels

    def window(
        self, size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """Size of what a sliding window makes, and its pads (top, bottom, left, right)."""
        padding = self.number("Padding")
        if padding not in (_SAME, _VALID):
            raise self.damage(f"padding {padding}")
        made: list[int] = []
        pads: list[int] = []
        for axis in range(2):
            span = (kernel[axis] - 1) * dilations[axis] + 1
            if padding == _SAME:
                out = -(-size[axis] // strides[axis])
                total = max((out - 1) * strides[axis] + span - size[axis], 0)
            else:
                out, total = (size[axis] - span) // strides[axis] + 1, 0
            if out < 1 or size[axis] + total < span:
                raise self.damage(f"a window of {kernel} does not fit into {size}")
            made.append(out)
            pads.extend((total // 2, total - total // 2))
        if (size[0] + pads[0] + pads[1]) * (size[1] + pads[2] + pads[3]) > LARGEST_TENSOR:
            raise self.damage(f"a window of {kernel} needs too much padding")
        return (made[0], made[1]), (pads[0], pads[1], pads[2], pads[3])
