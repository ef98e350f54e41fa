"""Integer inputs and outputs: what a microcontroller is fed and read in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanedge.program.types import Port, Program, ProgramOperator

__all__ = ["integer_ports"]


def integer_ports(program: Program) -> Program:
    """The Program without the quantize and dequantize at its edges: its ports are the integer tensors behind them.

    An input that one quantize and nothing else reads becomes the integer tensor that it writes; an output
    that a dequantize writes becomes what it reads. Whoever runs the Program quantizes and dequantizes by the ports'
    tensors. Other inputs and outputs stay as they are.
    """
    operators = list(program.operators)
    inputs = tuple(_integer_input(program, operators, port) for port in program.inputs)
    outputs = tuple(_integer_output(program, operators, port) for port in program.outputs)
    used = {port.tensor for port in (*inputs, *outputs)}
    used.update(name for operator in operators for name in (*operator.inputs, *operator.outputs))
    tensors = {name: tensor for name, tensor in program.tensors.items() if name in used}
    return replace(program, tensors=tensors, operators=tuple(operators), inputs=inputs, outputs=outputs)


def _integer_input(program: Program, operators: list[ProgramOperator], port: Port) -> Port:
    readers = [operator for operator in operators if port.tensor in operator.inputs]
    made = [operator.output for operator in readers if operator.kind == "quantize"]
    is_output = any(other.tensor == port.tensor for other in program.outputs)
    if len(made) != 1 or len(readers) != 1 or is_output or program.tensors[port.tensor].dtype != "float32":
        return port
    operators.remove(readers[0])
    return replace(port, tensor=made[0])


def _integer_output(program: Program, operators: list[ProgramOperator], port: Port) -> Port:
    writer = next((operator for operator in operators if port.tensor in operator.outputs), None)
    if writer is None or writer.kind != "dequantize":
        return port
    if not any(port.tensor in operator.inputs for operator in operators):
        operators.remove(writer)
    return replace(port, tensor=writer.inputs[0])
