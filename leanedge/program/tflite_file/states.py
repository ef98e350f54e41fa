"""Variables of streaming models (VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE, CALL_ONCE) -> states of the Program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import ModelError
from leanedge.program.types import Dense, NoOptions, ProgramOperator, ProgramTensor, State

if TYPE_CHECKING:
    from leanedge.program.tflite_file.read import FileOperator, FileSubgraph
    from leanedge.program.tflite_file.step import Loading, Step

__all__ = ["StateLoader"]

Array = np.ndarray[Any, Any]


@dataclass
class _Variable:
    """One variable while the file is read.

    Attributes:
        initial: Values that CALL_ONCE gives it; None where it begins as real zeros.
        remembered: The tensor that holds what the last run left, once one was read.
        current: The tensor that holds its value now, or None before the first read or write of a run.
    """

    initial: Array | None = None
    remembered: str | None = None
    current: str | None = None


class StateLoader:
    """Lives only inside `load_tflite`: follows each variable through the operators."""

    def __init__(self, loading: Loading, subgraphs: tuple[FileSubgraph, ...]) -> None:
        self._loading = loading
        self._subgraphs = subgraphs
        self._handles: dict[int, str] = {}
        self._variables: dict[str, _Variable] = {}

    def takes(self, step: Step) -> bool:
        """True where the operator was one of variables, and is dealt with."""
        code = step.operator.code
        if code == "VAR_HANDLE":
            self._handle(step.operator, self._handles)
        elif code == "READ_VARIABLE":
            self._read(step)
        elif code == "ASSIGN_VARIABLE":
            self._assign(step)
        elif code == "CALL_ONCE":
            self._initialize(step)
        else:
            return False
        return True

    def _handle(self, operator: FileOperator, handles: dict[int, str]) -> None:
        if len(operator.outputs) != 1:
            raise ModelError(f"operator {operator.index} (VAR_HANDLE) has not one output", where=self._loading.where)
        name = f"{operator.options['Container']}/{operator.options['SharedName']}".lstrip("/")
        handles[operator.outputs[0]] = name
        self._variables.setdefault(name, _Variable())

    def _variable(self, step: Step, handles: dict[int, str]) -> _Variable:
        handle = step.operator.inputs[0] if step.operator.inputs else -1
        if handle not in handles:
            raise step.damage("its first input is no variable")
        return self._variables[handles[handle]]

    def _read(self, step: Step) -> None:
        variable = self._variable(step, self._handles)
        if len(step.operator.outputs) != 1 or step.operator.outputs[0] < 0:
            raise step.damage("has not one output")
        index = step.operator.outputs[0]
        if variable.current is None:
            tensor = step.write(self._loading.graph.tensors[index].shape, ("int8", "int16"))
            variable.remembered = variable.current = tensor.name
            return
        self._loading.names[index] = variable.current
        self._alike(step, variable.current, index)

    def _alike(self, step: Step, name: str, index: int) -> None:
        """Checks that a tensor of the file and one of the Program hold the same kind of numbers."""
        held, tensor = self._loading.tensors[name], self._loading.graph.tensors[index]
        if held.quant is None or (held.shape, held.dtype) != (tensor.shape, tensor.dtype):
            raise step.damage(f"{step.describe(index)} is a variable of {held.dtype} {list(held.shape)}")
        same = tensor.scales.size == 1 and abs(float(tensor.scales[0]) / float(held.quant.scale) - 1) < 1e-5
        if not same or int(tensor.zero_points[0]) != int(held.quant.zero_point):
            raise step.refusal(f"{step.describe(index)} is quantized otherwise than its variable", "equal scales")

    def _assign(self, step: Step) -> None:
        step.count((2,), 0)
        variable = self._variable(step, self._handles)
        value = step.read(1)
        if variable.remembered is not None:
            self._alike(step, variable.remembered, step.operator.inputs[1])
        variable.current = value.name

    def _initialize(self, step: Step) -> None:
        number = step.number("InitSubgraphIndex")
        if not 1 <= number < len(self._subgraphs):
            raise step.damage(f"calls subgraph {number}, of {len(self._subgraphs)}")
        graph, handles = self._subgraphs[number], dict[int, str]()
        for operator in graph.operators:
            if operator.code == "VAR_HANDLE":
                self._handle(operator, handles)
                continue
            if operator.code != "ASSIGN_VARIABLE" or len(operator.inputs) != 2 or operator.inputs[0] not in handles:
                raise step.refusal(f"its subgraph runs {operator.code}", "VAR_HANDLE, ASSIGN_VARIABLE of a constant")
            data = graph.tensors[operator.inputs[1]].data if operator.inputs[1] >= 0 else None
            if data is None:
                raise step.refusal("its subgraph assigns what is not constant", "constants")
            self._variables[handles[operator.inputs[0]]].initial = data

    def finish(self) -> None:
        """Adds the Program's states, after the last operator."""
        written: set[str] = set()
        for name, variable in self._variables.items():
            if variable.remembered is None:
                continue
            assert variable.current is not None
            read = self._loading.tensors[variable.remembered]
            initial = self._initial(name, variable, read)
            if variable.current == variable.remembered:  # nothing assigns it: a constant
                self._loading.tensors[read.name] = ProgramTensor(
                    read.name, read.shape, read.dtype, read.quant, Dense(initial)
                )
                continue
            current = variable.current
            made = {tensor for operator in self._loading.operators for tensor in operator.outputs}
            if current not in made or current in written:
                current = self._copied(current)
            written.add(current)
            self._loading.states.append(State(name, read.name, current, initial))

    def _initial(self, name: str, variable: _Variable, read: ProgramTensor) -> Array:
        assert read.quant is not None
        if variable.initial is None:
            return np.full(read.shape, int(read.quant.zero_point), read.dtype)
        if variable.initial.shape != read.shape or str(variable.initial.dtype) != read.dtype:
            raise ModelError(f"the variable {name} begins with another shape or type", where=self._loading.where)
        return variable.initial

    def _copied(self, name: str) -> str:
        """A tensor of its own for what a state is to hold, as `State` wants it."""
        tensor = self._loading.tensors[name]
        copy = self._loading.free_name(f"{name}.kept")
        self._loading.tensors[copy] = ProgramTensor(copy, tensor.shape, tensor.dtype, tensor.quant)
        sources = {operator.source for operator in self._loading.operators}
        source = next(f"keep{number}" for number in range(len(sources) + 1) if f"keep{number}" not in sources)
        self._loading.operators.append(ProgramOperator(source, "reshape", (name,), (copy,), NoOptions()))
        return copy
