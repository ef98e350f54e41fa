"""Program: what a device runs. Operators in execution order, channels last, static shapes, an arena offset a tensor.

Its integer arithmetic is the TensorFlow Lite 8-bit quantization specification with the rounding of TensorFlow Lite
Micro's reference kernels. A Program is frozen: every step that changes one makes a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.types import TensorQuant

__all__ = [
    "Activation",
    "BatchMatmulOptions",
    "ConcatenationOptions",
    "ConvOptions",
    "DType",
    "Dense",
    "ElementwiseOptions",
    "FullyConnectedOptions",
    "GatherOptions",
    "GeluOptions",
    "Kind",
    "LeakyReluOptions",
    "NoOptions",
    "Options",
    "PadOptions",
    "PoolOptions",
    "Port",
    "Program",
    "ProgramOperator",
    "ProgramTensor",
    "ReduceOptions",
    "ResizeOptions",
    "SoftmaxOptions",
    "SplitOptions",
    "State",
    "StridedSliceOptions",
    "TransposeConvOptions",
    "TransposeOptions",
]

Array = np.ndarray[Any, Any]

DType = Literal["float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"]

Activation = Literal["none", "relu", "relu6", "relu_n1_to_1"]
"""Fused clamp of an operator's result."""

Kind = Literal[
    "conv_2d",
    "depthwise_conv_2d",
    "transpose_conv",
    "fully_connected",
    "batch_matmul",
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "squared_difference",
    "rsqrt",
    "sqrt",
    "exp",
    "log",
    "neg",
    "abs",
    "pow",
    "gelu",
    "sum",
    "reduce_max",
    "reduce_min",
    "equal",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "logical_and",
    "logical_or",
    "logical_not",
    "select",
    "cast",
    "max_pool",
    "average_pool",
    "mean",
    "softmax",
    "logistic",
    "tanh",
    "relu",
    "relu6",
    "relu_n1_to_1",
    "hard_swish",
    "leaky_relu",
    "prelu",
    "pad",
    "reshape",
    "transpose",
    "concatenation",
    "split",
    "strided_slice",
    "resize_nearest",
    "resize_bilinear",
    "gather",
    "quantize",
    "dequantize",
]
"""Every kind of Program operator; the names are TensorFlow Lite's, in lower case.

Tensors an operator reads, in order (constants are tensors too, with `data`):
conv_2d, depthwise_conv_2d (input, weights, bias); transpose_conv (input, weights (O, h, w, I), bias);
fully_connected (input, weights (O, I), bias); element-wise kinds (left, right); prelu (input, slope);
gather (data, indices);
select (condition, where true, where false); the rest one input, concatenation several.
Shapes, axes and permutations are options.
"""


@dataclass(frozen=True)
class NoOptions:
    """Kinds whose shapes say it all: unary element-wise, reshape (to the output's shape), quantize, dequantize."""


@dataclass(frozen=True)
class ConvOptions:
    """conv_2d and depthwise_conv_2d.

    Attributes:
        strides: (vertical, horizontal).
        dilations: (vertical, horizontal).
        pads: (top, bottom, left, right), of zeros; in int8 of the input's zero point.
        activation: Fused clamp.
    """

    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    activation: Activation = "none"


@dataclass(frozen=True)
class TransposeConvOptions:
    """transpose_conv: `pads` (top, bottom, left, right) are cut off the whole, of size (in - 1) stride + kernel."""

    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    activation: Activation = "none"


@dataclass(frozen=True)
class PoolOptions:
    """max_pool and average_pool; padding is never counted in a mean."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    activation: Activation = "none"


@dataclass(frozen=True)
class FullyConnectedOptions:
    """fully_connected over the last axis; the leading axes are kept."""

    activation: Activation = "none"


@dataclass(frozen=True)
class BatchMatmulOptions:
    """batch_matmul: last two axes multiplied; `adjoint_right` swaps those of the right operand first."""

    adjoint_right: bool = False


@dataclass(frozen=True)
class ElementwiseOptions:
    """add, sub, mul, div: NumPy broadcasting."""

    activation: Activation = "none"


@dataclass(frozen=True)
class ReduceOptions:
    """mean, sum, reduce_max, reduce_min over `axes` (sorted, not negative)."""

    axes: tuple[int, ...]
    keep_dims: bool


@dataclass(frozen=True)
class SoftmaxOptions:
    """softmax over the last axis of beta times the input."""

    beta: float = 1.0


@dataclass(frozen=True)
class LeakyReluOptions:
    """leaky_relu: slope below zero."""

    alpha: float


@dataclass(frozen=True)
class GeluOptions:
    """gelu: by the error function, or its approximation by tanh."""

    approximate: bool = False


@dataclass(frozen=True)
class PadOptions:
    """pad: (before, after) for each axis; `value` in real units, or the lowest value of the type when None."""

    pads: tuple[tuple[int, int], ...]
    value: float | None = 0.0
    mode: Literal["constant", "reflect"] = "constant"


@dataclass(frozen=True)
class TransposeOptions:
    """transpose: axis i of the output is axis permutation[i] of the input."""

    permutation: tuple[int, ...]


@dataclass(frozen=True)
class ConcatenationOptions:
    """concatenation along `axis`."""

    axis: int


@dataclass(frozen=True)
class SplitOptions:
    """split into as many equal parts as there are outputs."""

    axis: int


@dataclass(frozen=True)
class StridedSliceOptions:
    """strided_slice: begin, end (one past the last; -1 with a negative stride means before the first), stride."""

    begin: tuple[int, ...]
    end: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class ResizeOptions:
    """resize_nearest and resize_bilinear to the output's height and width."""

    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class GatherOptions:
    """gather along `axis`."""

    axis: int


Options = (
    NoOptions
    | ConvOptions
    | TransposeConvOptions
    | PoolOptions
    | FullyConnectedOptions
    | BatchMatmulOptions
    | ElementwiseOptions
    | ReduceOptions
    | SoftmaxOptions
    | LeakyReluOptions
    | GeluOptions
    | PadOptions
    | TransposeOptions
    | ConcatenationOptions
    | SplitOptions
    | StridedSliceOptions
    | ResizeOptions
    | GatherOptions
)


@dataclass(frozen=True, eq=False)
class Dense:
    """Constant values stored as they are."""

    array: Array
    pattern: Literal["dense"] = "dense"

    def decode(self) -> Array:
        """The values, exactly."""
        return self.array

    @property
    def stored_bytes(self) -> int:
        """Bytes in the device's flash or file."""
        return int(self.array.nbytes)


@dataclass(frozen=True, eq=False)
class ProgramTensor:
    """One tensor.

    Attributes:
        name: Unique in the Program; the Graph value's name where it holds that value.
        shape: Static; images are (batch, height, width, channels).
        dtype: Type of what is stored.
        quant: What its integers mean, `axis` in this tensor's own shape; None for real numbers and indices.
        data: Its values if it is constant.
        offset: Byte offset in the arena; None for a constant.
        value: Graph value it holds, or None for constants and tensors that the lowering made up.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    quant: TensorQuant | None = None
    data: Dense | None = None
    offset: int | None = None
    value: str | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that its decoded values take."""
        return self.elements * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class ProgramOperator:
    """One operator.

    Attributes:
        source: Id of the Graph operator it came from (`graph.operators`); for a quantize or dequantize, of the
            operator it was put in for. Of a .tflite file: ``op<index>_<code>``, unique.
        kind: What it computes.
        inputs: Tensor names.
        outputs: Tensor names.
        options: Of the type that belongs to `kind`.
    """

    source: str
    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Options = field(default_factory=NoOptions)

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0]


@dataclass(frozen=True)
class Port:
    """An input or output of the Program.

    Attributes:
        name: The Graph's input or output.
        tensor: The Program's tensor; of the same rank.
        permutation: tensor = value.transpose(permutation); None when the axes are the same.
    """

    name: str
    tensor: str
    permutation: tuple[int, ...] | None = None

    @property
    def inverse(self) -> tuple[int, ...] | None:
        """Value = tensor.transpose(inverse)."""
        return None if self.permutation is None else tuple(int(axis) for axis in np.argsort(self.permutation))


@dataclass(frozen=True, eq=False)
class State:
    """What a streaming model remembers from one run to the next.

    When a run begins, `read` holds what was remembered; when it ends, the values of `written` are copied there.

    Attributes:
        name: Unique among the states.
        read: A tensor that no operator writes and that is no input. Its memory is its own all the time.
        written: A tensor of the same shape, type and quantization that an operator writes; of no other state.
        initial: What `read` holds before the first run, and after a reset.
    """

    name: str
    read: str
    written: str
    initial: Array


@dataclass(frozen=True, eq=False)
class Program:
    """Operators in execution order, and the tensors they read and write.

    Attributes:
        tensors: By name.
        operators: In execution order.
        inputs: What is given to a run.
        outputs: What a run gives.
        states: What is kept between runs; none for most models.
    """

    tensors: Mapping[str, ProgramTensor]
    operators: tuple[ProgramOperator, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()

    @property
    def arena_bytes(self) -> int:
        """Peak of the arena: the end of the tensor that reaches furthest."""
        return max((t.offset + t.nbytes for t in self.tensors.values() if t.offset is not None), default=0)

    @property
    def constant_bytes(self) -> int:
        """Bytes of all weights and other constants as they are stored."""
        return sum(t.data.stored_bytes for t in self.tensors.values() if t.data is not None)

    def computes_in_integers(self, operator: ProgramOperator) -> bool:
        """True where every tensor that carries data through the operator is integer."""
        names = (*operator.inputs, *operator.outputs)
        return not any(self.tensors[name].dtype in ("float32", "float16") for name in names)
