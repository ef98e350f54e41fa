"""Streaming models: what a Program remembers between runs is what TensorFlow Lite Micro remembers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tflite
import tflite_micro
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from int8_cases import quant
from program_nets import Net

from leanedge.errors import InputError
from leanedge.export.tflite_file import tflite_bytes
from leanedge.export.tflite_file.encode import FileWriter
from leanedge.program.memory import plan_memory
from leanedge.program.simplify import simplify
from leanedge.program.simulate import initial_state, simulate, simulate_sequence, simulate_step
from leanedge.program.tflite_file import load_tflite
from leanedge.program.types import (
    ConcatenationOptions,
    ElementwiseOptions,
    Program,
    State,
    StridedSliceOptions,
)

Array = np.ndarray[Any, Any]

OP = tflite.BuiltinOperator


def streaming() -> Program:
    """The last four frames go through a layer; their sum so far is kept too."""
    net = Net(4)
    frame = net.input((1, 1, 3))
    frames, total = net.tensor((1, 3, 3), 0.05, 0), net.tensor((1, 5), 0.1, 3)
    net.tensors[frames] = replace(net.tensors[frames], quant=net.tensors[frame].quant)
    four = net.emit("concatenation", [frames, frame], (1, 4, 3), ConcatenationOptions(1), frame)
    newest = net.emit("strided_slice", [four], (1, 3, 3), StridedSliceOptions((0, 1, 0), (1, 4, 3), (1, 1, 1)), frame)
    flat = net.emit("reshape", [four], (1, 12), None, frame)
    made = net.fully_connected(flat, 5)
    net.tensors[made] = replace(net.tensors[made], quant=quant(0.3, 2))
    summed = net.emit("add", [total, made], (1, 5), ElementwiseOptions(), total)
    initial = np.arange(-4, 5, dtype=np.int8).reshape(1, 3, 3)
    states = (
        State("frames", frames, newest, initial),
        State("total", total, summed, np.full((1, 5), 3, np.int8)),
    )
    return replace(net.program(made, summed), states=states)


def steps_of_tflm(data: bytes, frames: list[Array], outputs: int) -> list[list[Array]]:
    interpreter = tflite_micro.runtime.Interpreter.from_bytes(data, arena_size=1 << 16)
    made = []
    for frame in frames:
        interpreter.set_input(frame, 0)
        interpreter.invoke()
        made.append([np.array(interpreter.get_output(place)) for place in range(outputs)])
    return made


def steps_of_ours(program: Program, frames: list[Array]) -> list[list[Array]]:
    state, made = initial_state(program), []
    for frame in frames:
        outputs, state = simulate_step(program, {program.inputs[0].name: frame}, state)
        made.append(list(outputs.values()))
    return made


def frames_for(shape: tuple[int, ...]) -> list[Array]:
    random = np.random.default_rng(2)
    return [random.integers(-128, 128, shape).astype(np.int8) for _ in range(7)]


def assert_equal(ours: list[list[Array]], theirs: list[list[Array]]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        for one, two in zip(mine, other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_streaming_file_equals_tflm_step_by_step() -> None:
    program = streaming()
    data = tflite_bytes(program)
    loaded = load_tflite(data)
    assert [state.name for state in loaded.states] == ["frames", "total"]
    frames = frames_for((1, 1, 3))
    ours = steps_of_ours(loaded, frames)
    assert len({step[0].tobytes() for step in ours}) == 7
    assert_equal(ours, steps_of_tflm(data, frames, 2))
    assert_equal(ours, steps_of_ours(program, frames))
    assert tflite_bytes(loaded) == tflite_bytes(load_tflite(tflite_bytes(loaded)))
    assert_equal(steps_of_ours(simplify(loaded).program, frames), ours)


def test_a_single_run_begins_at_the_initial_state() -> None:
    program = streaming()
    [frame] = frames_for((1, 1, 3))[:1]
    alone = simulate(program, {program.inputs[0].name: frame})
    assert_equal([list(alone.values())], steps_of_ours(program, [frame]))


def test_a_sequence_is_its_steps_in_a_row() -> None:
    program = streaming()
    frames = frames_for((1, 1, 3))
    made = simulate_sequence(program, {program.inputs[0].name: np.stack(frames)})
    for place, outputs in enumerate(zip(*steps_of_ours(program, frames), strict=True)):
        np.testing.assert_array_equal(made[program.outputs[place].name], np.stack(outputs))


def test_states_share_memory_with_nothing() -> None:
    planned = plan_memory(streaming())
    spans = {
        name: (tensor.offset, tensor.offset + tensor.nbytes)
        for name, tensor in planned.tensors.items()
        if tensor.offset is not None
    }
    for state in planned.states:
        start, end = spans[state.read]
        others = [span for name, span in spans.items() if name != state.read]
        assert all(other[1] <= start or end <= other[0] for other in others)
        start, end = spans[state.written]
        written = [operator.output for operator in planned.operators].index(state.written)
        later = [spans[operator.output] for operator in planned.operators[written + 1 :]]
        assert all(other[1] <= start or end <= other[0] for other in later)


class Variables:
    """A file with one variable, operators written by hand: (frame) -> outputs."""

    def __init__(self, initialized: bool = True) -> None:
        self.writer = FileWriter()
        self.quant = quant(0.1, 5)
        self.initialized = initialized
        self.frame = self.tensor("frame")
        self.handle = self.variable()

    def tensor(self, name: str, data: Array | None = None) -> int:
        return self.writer.tensor(name, (1, 4), "int8", self.quant, data)

    def variable(self) -> int:
        handle = self.writer.tensor("handle", (), "resource")
        fields = [(tflite.VarHandleOptionsAddSharedName, self.writer.builder.CreateString("kept"))]
        table = self.writer.table(tflite.VarHandleOptionsStart, tflite.VarHandleOptionsEnd, *fields)
        if self.initialized and not hasattr(self, "handle"):
            once = [(tflite.CallOnceOptionsAddInitSubgraphIndex, 1)]
            options = self.writer.table(tflite.CallOnceOptionsStart, tflite.CallOnceOptionsEnd, *once)
            self.writer.operator(OP.CALL_ONCE, 1, [], [], (tflite.BuiltinOptions.CallOnceOptions, options))
        self.writer.operator(OP.VAR_HANDLE, 1, [], [handle], (tflite.BuiltinOptions.VarHandleOptions, table))
        return handle

    def read(self, name: str) -> int:
        made = self.tensor(name)
        self.writer.operator(OP.READ_VARIABLE, 1, [self.handle], [made])
        return made

    def assign(self, value: int) -> None:
        self.writer.operator(OP.ASSIGN_VARIABLE, 1, [self.handle, value], [])

    def add(self, left: int, right: int, name: str) -> int:
        made = self.tensor(name)
        table = self.writer.table(tflite.AddOptionsStart, tflite.AddOptionsEnd)
        self.writer.operator(OP.ADD, 2, [left, right], [made], (tflite.BuiltinOptions.AddOptions, table))
        return made

    def data(self, *outputs: int, initialize: Any = None) -> bytes:
        self.writer.subgraph("main", [self.frame], list(outputs))
        if self.initialized:
            handle = self.variable()
            if initialize is None:
                values = self.tensor("initial", np.array([[1, -2, 3, 100]], np.int8))
                self.writer.operator(OP.ASSIGN_VARIABLE, 1, [handle, values], [])
            else:
                initialize(self, handle)
            self.writer.subgraph("initialize", [], [])
        return self.writer.finish([("frame", self.frame)], [(f"y{place}", place) for place in outputs], "by hand")


def delayed() -> bytes:
    """The variable is the input of the run before."""
    one = Variables()
    read = one.read("before")
    one.assign(one.frame)
    return one.data(one.add(read, one.frame, "sum"))


def read_twice() -> bytes:
    one = Variables()
    first = one.read("before")
    summed = one.add(first, one.frame, "sum")
    one.assign(summed)
    return one.data(one.add(one.read("after"), one.frame, "twice"))


def assigned_twice() -> bytes:
    one = Variables()
    read = one.read("before")
    one.assign(one.add(read, one.frame, "sum"))
    last = one.add(read, read, "double")
    one.assign(last)
    return one.data(last)


def never_assigned() -> bytes:
    one = Variables()
    return one.data(one.add(one.read("before"), one.frame, "sum"))


def not_initialized() -> bytes:
    one = Variables(initialized=False)
    summed = one.add(one.read("before"), one.frame, "sum")
    one.assign(summed)
    return one.data(summed)


@pytest.mark.parametrize("make", [delayed, read_twice, assigned_twice, never_assigned, not_initialized])
def test_variables_read_and_written_in_any_order_equal_tflm(make: Any) -> None:
    data = make()
    frames = frames_for((1, 4))
    ours = steps_of_ours(load_tflite(data), frames)
    assert_equal(ours, steps_of_tflm(data, frames, 1))
    assert_equal(steps_of_ours(load_tflite(tflite_bytes(load_tflite(data))), frames), ours)


def computed_at_first() -> bytes:
    one = Variables()
    summed = one.add(one.read("before"), one.frame, "sum")

    def initialize(made: Variables, handle: int) -> None:
        values = made.tensor("initial", np.zeros((1, 4), np.int8))
        made.writer.operator(OP.ASSIGN_VARIABLE, 1, [handle, made.add(values, values, "sum")], [])

    one.assign(summed)
    return one.data(summed, initialize=initialize)


def of_another_shape() -> bytes:
    one = Variables()
    summed = one.add(one.read("before"), one.frame, "sum")

    def initialize(made: Variables, handle: int) -> None:
        values = made.writer.tensor("initial", (1, 5), "int8", made.quant, np.zeros((1, 5), np.int8))
        made.writer.operator(OP.ASSIGN_VARIABLE, 1, [handle, values], [])

    one.assign(summed)
    return one.data(summed, initialize=initialize)


@pytest.mark.parametrize(
    ("make", "message"),
    [(computed_at_first, "its subgraph runs ADD"), (of_another_shape, "begins with another shape")],
)
def test_variables_that_begin_otherwise_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_tflite(make())


@pytest.mark.parametrize("make", [lambda: tflite_bytes(streaming()), delayed, assigned_twice])
def test_litert_keeps_the_same_states(make: Any) -> None:
    loaded = load_tflite(make())
    frames = frames_for(loaded.tensors[loaded.inputs[0].tensor].shape)
    interpreter = Interpreter(
        model_content=tflite_bytes(loaded), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    made = []
    for frame in frames:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
        interpreter.invoke()
        made.append([interpreter.get_tensor(found["index"]) for found in interpreter.get_output_details()])
    assert_equal(steps_of_ours(loaded, frames), made)
