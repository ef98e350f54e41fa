"""Many samples at once: a Program whose batch is wider, where every operator treats the batch as independent rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.simulate.run import initial_state, simulate, simulate_step
from leanedge.program.types import (
    ConcatenationOptions,
    PadOptions,
    Program,
    ReduceOptions,
    SplitOptions,
    StridedSliceOptions,
    TransposeOptions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.simulate.integer import Arithmetic
    from leanedge.program.types import ProgramOperator

__all__ = ["simulate_samples", "simulate_sequence"]

Array = np.ndarray[Any, Any]

_ELEMENTS = 1 << 16
"""Of the largest tensor of a batch. Above it, arrays leave the cache and a batch is slower than its samples alone."""


def simulate_samples(
    program: Program, inputs: Mapping[str, Array], arithmetic: Arithmetic = "tflm"
) -> dict[str, Array]:
    """Output -> (n, *shape of the output without its batch of 1); each sample by itself, states at their beginning.

    Args:
        program: With a batch of 1.
        inputs: Input -> (n, *shape of the input without its batch of 1).
        arithmetic: As `simulate`.

    Raises:
        ValueError: As `simulate`; unequal numbers of samples; a batch other than 1.
    """
    counts = {len(array) for array in inputs.values()}
    ports = (*program.inputs, *program.outputs)
    if len(counts) != 1 or any(program.tensors[port.tensor].shape[:1] != (1,) for port in ports):
        raise ValueError(f"{counts} samples, and a batch of {program.tensors[ports[0].tensor].shape[:1]}")
    [count] = counts
    largest = max(tensor.elements for tensor in program.tensors.values() if tensor.data is None)
    size = max(1, min(count, _ELEMENTS // largest)) if _rows_are_independent(program) else 1
    parts: list[dict[str, Array]] = []
    for start in range(0, count, size):
        rows = {name: array[start : start + size] for name, array in inputs.items()}
        parts.append(
            simulate(_with_batch(program, min(size, count - start)) if size > 1 else program, rows, arithmetic)
        )
    return {port.name: np.concatenate([part[port.name] for part in parts]) for port in program.outputs}


def simulate_sequence(
    program: Program, inputs: Mapping[str, Array], arithmetic: Arithmetic = "tflm"
) -> dict[str, Array]:
    """Output -> (steps, *shape of the output): one run after the other, the states carried on from the first.

    Args:
        program: A streaming model.
        inputs: Input -> (steps, *shape of the input).
        arithmetic: As `simulate`.
    """
    state = initial_state(program)
    made = []
    for step in range(len(next(iter(inputs.values())))):
        outputs, state = simulate_step(
            program, {name: array[step] for name, array in inputs.items()}, state, arithmetic
        )
        made.append(outputs)
    return {port.name: np.stack([outputs[port.name] for outputs in made]) for port in program.outputs}


def _with_batch(program: Program, count: int) -> Program:
    tensors = {
        name: tensor if tensor.data is not None else replace(tensor, shape=(count, *tensor.shape[1:]))
        for name, tensor in program.tensors.items()
    }
    return replace(program, tensors=tensors)


_INDEPENDENT = frozenset(
    {
        "conv_2d",
        "depthwise_conv_2d",
        "transpose_conv",
        "fully_connected",
        "add",
        "sub",
        "mul",
        "maximum",
        "minimum",
        "max_pool",
        "average_pool",
        "softmax",
        "logistic",
        "tanh",
        "relu",
        "relu6",
        "relu_n1_to_1",
        "hard_swish",
        "leaky_relu",
        "prelu",
        "reshape",
        "resize_nearest",
        "resize_bilinear",
        "quantize",
        "dequantize",
    }
)
"""Kinds that never look from one row of the batch to another, whatever their options."""


def _rows_are_independent(program: Program) -> bool:
    named = {name for operator in program.operators for name in (*operator.inputs, *operator.outputs)}
    carried = [program.tensors[name] for name in named if program.tensors[name].data is None]
    ports = (*program.inputs, *program.outputs)
    return (
        not program.states
        and all(len(tensor.shape) > 1 and tensor.shape[0] == 1 for tensor in carried)
        and all(port.permutation is None or port.permutation[0] == 0 for port in ports)
        and all(_is_independent(program, operator) for operator in program.operators)
    )


def _is_independent(program: Program, operator: ProgramOperator) -> bool:
    options = operator.options
    if isinstance(options, TransposeOptions):
        return options.permutation[0] == 0
    if isinstance(options, ReduceOptions):
        return 0 not in options.axes
    if isinstance(options, ConcatenationOptions):
        return options.axis != 0 and all(program.tensors[name].data is None for name in operator.inputs)
    if isinstance(options, SplitOptions):
        return options.axis != 0
    if isinstance(options, PadOptions):
        return options.pads[0] == (0, 0)
    if isinstance(options, StridedSliceOptions):
        return False  # its bounds name the batch
    constants = [program.tensors[name] for name in operator.inputs[1:] if program.tensors[name].data is not None]
    weighted = operator.kind in ("conv_2d", "depthwise_conv_2d", "transpose_conv", "fully_connected")
    rows = all(len(one.shape) < len(program.tensors[operator.output].shape) or one.shape[0] == 1 for one in constants)
    return operator.kind in _INDEPENDENT and (weighted or rows)
