"""One run of a Program, operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.simulate.integer import INTEGER_KERNELS
from leanedge.program.simulate.movement import MOVING_KINDS, move
from leanedge.program.simulate.real import REAL_KINDS, dequantize, quantize, real_kernel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.simulate.integer import Arithmetic
    from leanedge.program.types import Program, ProgramOperator, ProgramTensor

__all__ = ["initial_state", "run_operator", "simulate", "simulate_step", "simulate_tensors"]

Array = np.ndarray[Any, Any]


def simulate(program: Program, inputs: Mapping[str, Array], arithmetic: Arithmetic = "tflm") -> dict[str, Array]:
    """Output -> array, both in the source model's names and layout; states begin at their initial values.

    Args:
        program: Float, integer or mixed.
        inputs: Input -> array.
        arithmetic: Whose reference kernels; they differ in the rounding of fully_connected, logistic and tanh.

    Raises:
        ValueError: An input has another shape than the Program's, or an operator mixes integers and floats in a way
            that no kernel has (hybrid kernels of ``w8a8_dynamic``).
    """
    return simulate_step(program, inputs, initial_state(program), arithmetic)[0]


def initial_state(program: Program) -> dict[str, Array]:
    """State's name -> what it holds before the first run."""
    return {state.name: state.initial for state in program.states}


def simulate_step(
    program: Program, inputs: Mapping[str, Array], state: Mapping[str, Array], arithmetic: Arithmetic = "tflm"
) -> tuple[dict[str, Array], dict[str, Array]]:
    """One run of a streaming model: (outputs, the state that it leaves); arguments as `simulate`."""
    fed = {remembered.read: state[remembered.name] for remembered in program.states}
    for port in program.inputs:
        array = np.asarray(inputs[port.name])
        fed[port.tensor] = array if port.permutation is None else array.transpose(port.permutation)
    tensors = simulate_tensors(program, fed, arithmetic)
    outputs = {}
    for port in program.outputs:
        array = tensors[port.tensor]
        outputs[port.name] = array if port.inverse is None else np.ascontiguousarray(array.transpose(port.inverse))
    return outputs, {remembered.name: tensors[remembered.written] for remembered in program.states}


def simulate_tensors(program: Program, fed: Mapping[str, Array], arithmetic: Arithmetic = "tflm") -> dict[str, Array]:
    """Every tensor of the Program in its own layout and type, given its input tensors and those of its states."""
    held: dict[str, Array] = {}
    for name, tensor in program.tensors.items():
        if tensor.data is not None:
            held[name] = tensor.data.decode()
    for name, array in fed.items():
        tensor = program.tensors[name]
        if array.shape != tensor.shape:
            raise ValueError(f"{name} has shape {tensor.shape}, not {array.shape}")
        held[name] = array.astype(tensor.dtype)
    for operator in program.operators:
        results = run_operator(
            operator,
            [program.tensors[name] for name in operator.inputs],
            [program.tensors[name] for name in operator.outputs],
            [held[name] for name in operator.inputs],
            arithmetic,
        )
        held.update(zip(operator.outputs, results, strict=True))
    return held


def run_operator(
    operator: ProgramOperator,
    inputs: list[ProgramTensor],
    outputs: list[ProgramTensor],
    arrays: list[Array],
    arithmetic: Arithmetic = "tflm",
) -> list[Array]:
    """What one operator makes of `arrays`, the values of `inputs`; one array for each of `outputs`."""
    kernels = INTEGER_KERNELS[arithmetic]
    if operator.kind in MOVING_KINDS:
        return move(operator, inputs, outputs, arrays)
    if operator.kind == "dequantize":
        return [dequantize(arrays[0], inputs[0])]
    if operator.kind == "quantize" and inputs[0].dtype == "float32":
        return [quantize(arrays[0], outputs[0])]
    integer = [tensor.quant is not None for tensor in (*inputs, *outputs)]
    if all(integer) and operator.kind in kernels:
        return [kernels[operator.kind](operator, inputs, outputs, arrays)]
    if not any(integer) and operator.kind in REAL_KINDS:
        return [real_kernel(operator, outputs[0], arrays)]
    types = ", ".join(tensor.dtype for tensor in (*inputs, *outputs))
    raise ValueError(f"{operator.source}: no reference for {operator.kind} of {types}")
