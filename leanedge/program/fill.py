"""fill(skeleton, quant) -> Program: constants, integers and the edges between float and integer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.compress.types import TensorQuant
from leanedge.program.memory import plan_memory
from leanedge.program.types import Dense, NoOptions, Port, Program, ProgramOperator, ProgramTensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.types import QuantSpec
    from leanedge.program.skeleton import Skeleton, SkeletonTensor
    from leanedge.program.types import Kind

__all__ = ["FIXED_OUTPUTS", "INTEGER_KINDS", "TIED_KINDS", "fill"]

Array = np.ndarray[Any, Any]
Form = Literal["real", "integer"]

INTEGER_KINDS: frozenset[Kind] = frozenset(
    {
        "conv_2d",
        "depthwise_conv_2d",
        "transpose_conv",
        "fully_connected",
        "batch_matmul",
        "add",
        "sub",
        "mul",
        "maximum",
        "minimum",
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
    }
)
"""Kinds that TensorFlow Lite computes in int8; the others run in float between dequantize and quantize."""

TIED_KINDS: frozenset[Kind] = frozenset(
    {
        "maximum",
        "minimum",
        "max_pool",
        "average_pool",
        "relu6",
        "relu_n1_to_1",
        "pad",
        "reshape",
        "transpose",
        "concatenation",
        "split",
        "strided_slice",
        "resize_nearest",
        "resize_bilinear",
        "gather",
    }
)
"""Kinds whose int8 kernels copy or compare integers as they are: inputs and outputs share scale and zero point."""


def _quant(scale: float, zero_point: int) -> TensorQuant:
    return TensorQuant("int8", np.asarray(scale, np.float32), np.asarray(zero_point, np.int64))


FIXED_OUTPUTS: Mapping[Kind, TensorQuant] = {
    "softmax": _quant(1 / 256, -128),
    "logistic": _quant(1 / 256, -128),
    "tanh": _quant(1 / 128, 0),
}
"""Output quantization that the TensorFlow Lite 8-bit specification prescribes."""

_WEIGHTED: frozenset[Kind] = frozenset({"conv_2d", "depthwise_conv_2d", "transpose_conv", "fully_connected"})


def fill(skeleton: Skeleton, spec: QuantSpec | None) -> Program:
    """Completes a Skeleton.

    Args:
        skeleton: What `structure` made.
        spec: The integers, or None for a float Program. Inputs and outputs stay float32 in any case: a quantize or
            dequantize stands at the edge. An operator is integer where the spec has a quantization for all that it
            reads and writes, does not list it as float, and TensorFlow Lite has an int8 kernel.

    Raises:
        ValueError: The spec lacks a weight of an operator that it quantizes.
    """
    filling = _Filling(skeleton, spec)
    for port in skeleton.inputs:
        filling.declare_input(port.tensor)
    for operator in skeleton.operators:
        filling.add(operator)
    for port in skeleton.outputs:
        filling.source = next(
            (op.source for op in reversed(skeleton.operators) if port.tensor in op.outputs), port.name
        )
        filling.real(port.tensor)
    return plan_memory(_name_ports(filling.program()))


class _Filling:
    """Both forms of each skeleton tensor, made when first asked for."""

    def __init__(self, skeleton: Skeleton, spec: QuantSpec | None) -> None:
        self.skeleton = skeleton
        self.spec = spec
        self.tensors: dict[str, ProgramTensor] = {}
        self.operators: list[ProgramOperator] = []
        self.source = ""
        self._forms: dict[tuple[str, Form], str] = {}
        self._requantized: dict[tuple[str, float, int], str] = {}

    def program(self) -> Program:
        """What was made, with the outputs in float."""
        outputs = tuple(Port(p.name, self._forms[p.tensor, "real"], p.permutation) for p in self.skeleton.outputs)
        inputs = tuple(Port(p.name, self._forms[p.tensor, "real"], p.permutation) for p in self.skeleton.inputs)
        return Program(self.tensors, tuple(self.operators), inputs, outputs)

    def declare_input(self, name: str) -> None:
        tensor = self.skeleton.tensors[name]
        self._forms[name, "real"] = self._new(tensor, None)

    def add(self, operator: ProgramOperator) -> None:
        """Adds an operator in the form that the spec asks for."""
        self.source = operator.source
        if self._is_dynamic(operator):
            self._add_dynamic(operator)
        elif self._is_integer(operator):
            self._add_integer(operator)
        else:
            inputs = tuple(self.real(name) for name in operator.inputs)
            outputs = tuple(self._output(name, "real", None) for name in operator.outputs)
            self.operators.append(replace(operator, inputs=inputs, outputs=outputs))

    def _is_integer(self, operator: ProgramOperator) -> bool:
        spec = self.spec
        if spec is None or operator.kind not in INTEGER_KINDS or operator.source in spec.float_operators:
            return False
        names = (*operator.inputs, *operator.outputs)
        carried = [self.skeleton.tensors[name] for name in names]
        carried = [tensor for tensor in carried if tensor.dtype == "float32" and not tensor.is_constant]
        return bool(carried) and all(self._quant_of(tensor) is not None for tensor in carried)

    def _is_dynamic(self, operator: ProgramOperator) -> bool:
        return (
            self.spec is not None
            and operator.source in self.spec.dynamic_operators
            and operator.kind in ("fully_connected", "conv_2d", "depthwise_conv_2d")
        )

    def _quant_of(self, tensor: SkeletonTensor) -> TensorQuant | None:
        """Quantization of a tensor that the device computes."""
        if tensor.limits is not None:
            low, high = tensor.limits
            scale = np.float32((high - low) / 255.0)
            return _quant(float(scale), round(-128 - low / float(scale)))
        if self.spec is None or tensor.value is None:
            return None
        return self.spec.activations.get(tensor.value)

    def _new(self, tensor: SkeletonTensor, quant: TensorQuant | None, suffix: str = "") -> str:
        name, number = tensor.name + suffix, 2
        while name in self.tensors:
            name, number = f"{tensor.name}{suffix}.{number}", number + 1
        dtype = tensor.dtype if quant is None else quant.dtype
        value = tensor.value if tensor.arrangement is not None else None
        self.tensors[name] = ProgramTensor(name, tensor.shape, dtype, quant, value=value)
        return name

    def _constant(self, tensor: SkeletonTensor, array: Array, quant: TensorQuant | None) -> str:
        name = self._new(tensor, quant, "" if quant is None else f".{quant.dtype}")
        array = np.ascontiguousarray(array)
        array.setflags(write=False)
        self.tensors[name] = replace(self.tensors[name], data=Dense(array), value=None)
        return name

    def real(self, name: str) -> str:
        """The tensor in float (or the index it is), dequantized if only integers are there."""
        found = self._forms.get((name, "real"))
        if found is not None:
            return found
        tensor = self.skeleton.tensors[name]
        if tensor.is_constant:
            made = self._constant(tensor, self._values(tensor), None)
        else:
            made = self._new(tensor, None, ".float")
            self._emit("dequantize", self._forms[name, "integer"], made)
        self._forms[name, "real"] = made
        return made

    def integer(self, name: str) -> str:
        """The tensor in integers of its own quantization, quantized if only floats are there."""
        found = self._forms.get((name, "integer"))
        if found is not None:
            return found
        tensor = self.skeleton.tensors[name]
        if tensor.dtype != "float32":
            return self.real(name)
        quant = self._quant_of(tensor)
        if quant is None:
            raise ValueError(f"{name} has no quantization")
        made = self._new(tensor, quant, ".int8")
        self._emit("quantize", self._forms[name, "real"], made)
        self._forms[name, "integer"] = made
        return made

    def _emit(self, kind: Kind, source: str, target: str) -> None:
        self.operators.append(ProgramOperator(self.source, kind, (source,), (target,), NoOptions()))

    def _values(self, tensor: SkeletonTensor) -> Array:
        """Float (or index) values of a constant, as the Program has them."""
        if tensor.data is not None:
            return tensor.data
        if tensor.constant is None or tensor.arrangement is None:
            raise ValueError(f"{tensor.name} is no constant")
        return tensor.arrangement.apply(self.skeleton.constants[tensor.constant])

    def _output(self, name: str, form: Form, quant: TensorQuant | None) -> str:
        made = self._new(self.skeleton.tensors[name], quant)
        self._forms[name, form] = made
        return made

    def _add_integer(self, operator: ProgramOperator) -> None:
        spec_quant = {
            name: self._quant_of(self.skeleton.tensors[name])
            for name in operator.outputs
            if self.skeleton.tensors[name].dtype == "float32"
        }
        wanted = spec_quant.get(operator.output)
        tied = wanted if operator.kind in TIED_KINDS else None
        activations = [self._operand(name, tied) for name in self._activations(operator)]
        constants = self._layer_constants(operator, activations)
        if constants is None:
            names = iter(activations)
            inputs = tuple(
                self._integer_constant(name, tied)
                if self.skeleton.tensors[name].is_constant and self.skeleton.tensors[name].role == "operand"
                else self.real(name)
                if self.skeleton.tensors[name].dtype != "float32"
                else next(names)
                for name in operator.inputs
            )
        else:
            inputs = (*activations, *constants)
        fixed = FIXED_OUTPUTS.get(operator.kind)
        if fixed is None or wanted is None or _equal(fixed, wanted):
            outputs = tuple(self._output(name, "integer", spec_quant.get(name)) for name in operator.outputs)
            self.operators.append(replace(operator, inputs=inputs, outputs=outputs))
            return
        raw = self._new(self.skeleton.tensors[operator.output], fixed, ".fixed")
        self.operators.append(replace(operator, inputs=inputs, outputs=(raw,)))
        self._emit("quantize", raw, self._output(operator.output, "integer", wanted))

    def _activations(self, operator: ProgramOperator) -> list[str]:
        tensors = [self.skeleton.tensors[name] for name in operator.inputs]
        return [tensor.name for tensor in tensors if tensor.dtype == "float32" and not tensor.is_constant]

    def _operand(self, name: str, tied: TensorQuant | None) -> str:
        """An integer input, requantized where the kernel wants it tied to the output."""
        made = self.integer(name)
        quant = self.tensors[made].quant
        if tied is None or quant is None or _equal(quant, tied):
            return made
        key = (made, float(tied.scale), int(tied.zero_point))
        if key not in self._requantized:
            moved = self._new(self.skeleton.tensors[name], tied, ".requantized")
            self._emit("quantize", made, moved)
            self._requantized[key] = moved
        return self._requantized[key]

    def _integer_constant(self, name: str, tied: TensorQuant | None) -> str:
        """A constant operand: the spec's integers, else its own range (or the output's, where it is tied)."""
        tensor = self.skeleton.tensors[name]
        known = self.spec.constants.get(tensor.constant) if self.spec is not None and tensor.constant else None
        if known is not None and tied is None and known.quant.axis is None and tensor.arrangement is not None:
            return self._constant(tensor, tensor.arrangement.apply(known.integers), known.quant)
        values = self._values(tensor)
        quant = tied or _range_quant(values)
        return self._constant(tensor, quant.quantize(values), quant)

    def _layer_constants(self, operator: ProgramOperator, activations: list[str]) -> tuple[str, ...] | None:
        """Weights and bias of a layer that has them."""
        if operator.kind not in _WEIGHTED:
            return None
        weight = self._weight(operator.inputs[1], operator.kind)
        source, quant = self.tensors[activations[0]].quant, self.tensors[weight].quant
        if source is None or quant is None:
            raise ValueError(f"{operator.source} has no quantization")
        scale = (source.scale.astype(np.float64) * quant.scale.astype(np.float64)).astype(np.float32)
        axis = None if quant.axis is None else 0
        own = TensorQuant("int32", scale, np.zeros(scale.shape, np.int64), axis)
        tensor = self.skeleton.tensors[operator.inputs[2]]
        known = self.spec.constants.get(tensor.constant) if self.spec is not None and tensor.constant else None
        if known is not None:
            bias = self._constant(tensor, known.integers, own)
        else:
            bias = self._constant(tensor, own.quantize(self._values(tensor)), own)
        return weight, bias

    def _weight(self, name: str, kind: Kind) -> str:
        tensor = self.skeleton.tensors[name]
        known = self.spec.constants.get(tensor.constant) if self.spec is not None and tensor.constant else None
        if known is None or tensor.arrangement is None:
            raise ValueError(f"the QuantSpec has no integers for the weight {tensor.constant}")
        quant, integers = known.quant, tensor.arrangement.apply(known.integers)
        if quant.axis is not None:
            quant = replace(quant, axis=tensor.channel_axis)
        elif kind != "fully_connected" and tensor.channel_axis is not None:
            # Convolution kernels want a scale for each channel, be they all the same.
            channels = (tensor.shape[tensor.channel_axis],)
            scale, zero_point = np.broadcast_to(quant.scale, channels), np.broadcast_to(quant.zero_point, channels)
            quant = TensorQuant(quant.dtype, scale.copy(), zero_point.copy(), tensor.channel_axis)
        return self._constant(tensor, integers, quant)

    def _add_dynamic(self, operator: ProgramOperator) -> None:
        """Integer weights, float activations: the kernel finds the range of its input as it runs."""
        inputs = (
            self.real(operator.inputs[0]),
            self._weight(operator.inputs[1], operator.kind),
            self.real(operator.inputs[2]),
        )
        outputs = tuple(self._output(name, "real", None) for name in operator.outputs)
        self.operators.append(replace(operator, inputs=inputs, outputs=outputs))


def _equal(left: TensorQuant, right: TensorQuant) -> bool:
    return bool(np.array_equal(left.scale, right.scale) and np.array_equal(left.zero_point, right.zero_point))


def _range_quant(values: Array) -> TensorQuant:
    """int8 over the values' own range, zero included."""
    low, high = min(float(values.min(initial=0.0)), 0.0), max(float(values.max(initial=0.0)), 0.0)
    scale = float(np.float32((high - low) / 255.0)) or 1.0
    return _quant(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def _name_ports(program: Program) -> Program:
    """Gives inputs and outputs the Graph's names; what had such a name before takes the other's."""
    names: dict[str, str] = {}
    for port in (*program.inputs, *program.outputs):
        if port.tensor != port.name and port.tensor not in names:
            names[port.tensor] = port.name
            if port.name in program.tensors:
                names[port.name] = port.tensor

    def renamed(name: str) -> str:
        return names.get(name, name)

    return Program(
        {renamed(name): replace(tensor, name=renamed(name)) for name, tensor in program.tensors.items()},
        tuple(
            replace(op, inputs=tuple(map(renamed, op.inputs)), outputs=tuple(map(renamed, op.outputs)))
            for op in program.operators
        ),
        tuple(replace(port, tensor=renamed(port.tensor)) for port in program.inputs),
        tuple(replace(port, tensor=renamed(port.tensor)) for port in program.outputs),
    )
