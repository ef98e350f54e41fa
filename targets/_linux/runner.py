#!/usr/bin/env python3
"""Runs models with one runtime on this machine and writes outputs and evidence: the device's half of the Linux targets.

One file for the host, a board and an emulated board, so that all of them open a model with the same session options.
Needs numpy and one of onnxruntime, ai_edge_litert, tflite_runtime, openvino; Python 3.9 or newer.

    runner.py JOB.json       does a job (its keys: `run_job`), writes the outputs and the evidence that the job names
    runner.py --version      prints what is here as JSON

Exit code 1: the evidence file holds {"error", "model", "stage"} (also on standard error).
On the host ``open_model(runtime, path, threads, kernels)`` gives the very same session in process.
"""

# ruff: noqa: B905 - zip(strict=) needs Python 3.10, and a board may have 3.9
from __future__ import annotations

import gc
import json
import os
import resource
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SCHEMA = 1
MODULES = {
    "onnxruntime": "onnxruntime",
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "openvino": "openvino",
}
TFLITE = ("ai_edge_litert", "tflite_runtime")
KERNELS = {name: ("xnnpack", "reference") if name in TFLITE else ("default",) for name in MODULES}
"""What `kernels` may be for each runtime; the first is what the runtime takes by itself."""

MARK_SYSCALL = 4242  # no Linux architecture has it: the kernel answers ENOSYS, the emulator's plug-in sees it
MARK_START, MARK_STOP, MARK_ARM = 1, 2, 3
COUNT_WARMUP, COUNT_WARMUP_SECONDS = 64, 1.0  # inferences before the counted ones: Python specialises its own code
COUNT_WARMUP_REGION = 1_000_000
PEAK_INFERENCES = 10  # the peak memory is read after so many

ORT_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip


class RunnerError(Exception):
    """The job, the model or the samples can't be used; the message says which and why."""


class Tensor(NamedTuple):
    """An input or output of a model. ``None`` in `shape` is a size that the model leaves open.

    `scale` is 0 unless the tensor is an integer that stands for a real number (TFLite).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scale: float = 0.0
    zero_point: int = 0


class Session(NamedTuple):
    """An open model. `load` sets inputs, `invoke` is one bare inference, `read` copies the outputs."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    load: Callable[[Mapping[str, Any]], None]
    invoke: Callable[[], None]
    read: Callable[[], dict[str, Any]]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """One inference on arrays of the model's own shapes and dtypes, {input: array} -> {output: array}."""
        self.load(feeds)
        self.invoke()
        return self.read()


# --- the runtimes: the only place where session options stand ---


def open_model(runtime: str, path: str | Path, threads: int = 1, kernels: str = "") -> Session:
    """Opens a model file with `runtime` on the CPU; `kernels` as in `KERNELS` (empty: the runtime's own).

    Raises:
        RunnerError: Unknown runtime or kernels, or the runtime refuses the file.
    """
    if runtime not in MODULES:
        raise RunnerError(f"unknown runtime {runtime!r}; there are {', '.join(MODULES)}")
    kernels = kernels or KERNELS[runtime][0]
    if kernels not in KERNELS[runtime]:
        raise RunnerError(f"{runtime} has no {kernels!r} kernels; it has {', '.join(KERNELS[runtime])}")
    if threads < 1:
        raise RunnerError(f"threads must be at least 1, not {threads}")
    if not Path(path).is_file():
        raise RunnerError(f"no model file {path}")
    module = load_runtime(runtime)
    try:
        if runtime == "onnxruntime":
            return _open_onnxruntime(module, str(path), threads)
        if runtime == "openvino":
            return _open_openvino(module, str(path), threads)
        return _open_tflite(module, str(path), threads, kernels)
    except RunnerError:
        raise
    except Exception as error:
        raise RunnerError(f"{runtime} can't open {path}: {error}") from error


def load_runtime(runtime: str) -> Any:
    """The runtime's imported module."""
    try:
        __import__(MODULES[runtime])
    except ImportError as error:
        raise RunnerError(f"the runtime {runtime} can't be imported: {error}") from error
    return sys.modules[MODULES[runtime]]


def _open_onnxruntime(ort: Any, path: str, threads: int) -> Session:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Waiting threads that spin would disturb other processes and blur counted instructions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if x86_without_vnni():
        # There U8S8 products are summed in saturating int16 pairs; this takes the exact kernels instead.
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = tuple(_ort_tensor(node) for node in session.get_inputs())
    outputs = tuple(_ort_tensor(node) for node in session.get_outputs())
    binding = session.io_binding()
    held: dict[str, Any] = {}  # the binding reads these arrays in place

    def load(feeds: Mapping[str, Any]) -> None:
        held.clear()
        for tensor in inputs:
            held[tensor.name] = np.ascontiguousarray(feeds[tensor.name]).reshape(np.shape(feeds[tensor.name]))
            binding.bind_cpu_input(tensor.name, held[tensor.name])
        binding.clear_binding_outputs()  # else the last run's arrays are written again, also for other shapes
        for tensor in outputs:
            binding.bind_output(tensor.name, "cpu")

    def invoke() -> None:
        session.run_with_iobinding(binding)

    def read() -> dict[str, Any]:
        arrays = binding.copy_outputs_to_cpu()
        return {tensor.name: array for tensor, array in zip(outputs, arrays)}

    return Session(inputs, outputs, load, invoke, read)


def _ort_tensor(node: Any) -> Tensor:
    kind = node.type[len("tensor(") : -1] if node.type.startswith("tensor(") else node.type
    if kind not in ORT_DTYPES:
        raise RunnerError(f"tensor {node.name} has type {node.type}; only numbers and bools can be fed")
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Tensor(node.name, ORT_DTYPES[kind], shape)


def x86_without_vnni() -> bool:
    """Whether this CPU is an x86 that lacks 8-bit dot products (AVX-512 VNNI or AVX-VNNI)."""
    if os.uname().machine not in {"x86_64", "i686"}:
        return False
    flags = _cpuinfo("flags").split()
    return "avx512_vnni" not in flags and "avx_vnni" not in flags


def _open_tflite(tflite: Any, path: str, threads: int, kernels: str) -> Session:
    resolvers = tflite.OpResolverType
    with _without_delegate_notice():
        interpreter = tflite.Interpreter(
            model_path=path,
            num_threads=threads,
            experimental_op_resolver_type=resolvers.BUILTIN_REF if kernels == "reference" else resolvers.AUTO,
        )
        interpreter.allocate_tensors()
    in_details, out_details = interpreter.get_input_details(), interpreter.get_output_details()
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:  # a signature's names are the source model's; tensor names may be anything
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        in_names = {detail["index"]: name for name, detail in runner.get_input_details().items()}
        out_names = {detail["index"]: name for name, detail in runner.get_output_details().items()}
    else:
        in_names, out_names = {}, {}
    inputs = tuple(_tflite_tensor(detail, in_names) for detail in in_details)
    outputs = tuple(_tflite_tensor(detail, out_names) for detail in out_details)

    def load(feeds: Mapping[str, Any]) -> None:
        for tensor, detail in zip(inputs, in_details):
            interpreter.set_tensor(detail["index"], feeds[tensor.name])

    def read() -> dict[str, Any]:
        return {tensor.name: interpreter.get_tensor(detail["index"]) for tensor, detail in zip(outputs, out_details)}

    return Session(inputs, outputs, load, interpreter.invoke, read)


@contextmanager
def _without_delegate_notice() -> Iterator[None]:
    """Passes on what the runtime writes to stderr, but for the notice that it uses XNNPACK, which no option stops."""
    with _STDERR, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if b"Created TensorFlow Lite XNNPACK delegate" not in line:
                    os.write(2, line)


_STDERR = threading.Lock()


def _tflite_tensor(detail: Mapping[str, Any], names: Mapping[int, str]) -> Tensor:
    dtype = np.dtype(detail["dtype"]).name
    scale, zero_point = detail["quantization"] if dtype in {"int8", "uint8", "int16"} else (0.0, 0)
    shape = tuple(int(size) for size in detail["shape"])
    return Tensor(names.get(detail["index"], detail["name"]), dtype, shape, float(scale), int(zero_point))


def _open_openvino(openvino: Any, path: str, threads: int) -> Session:
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # else float models run in bf16 where the CPU has it
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    inputs = tuple(_openvino_tensor(port, port.get_node().get_friendly_name()) for port in compiled.inputs)
    outputs = tuple(
        _openvino_tensor(port, port.get_node().get_friendly_name().split("/sink_port_")[0]) for port in compiled.outputs
    )
    request = compiled.create_infer_request()
    held: list[Any] = []

    def load(feeds: Mapping[str, Any]) -> None:
        held.clear()
        for place, tensor in enumerate(inputs):
            array = np.asarray(feeds[tensor.name])
            held.append(openvino.Tensor(np.ascontiguousarray(array).reshape(array.shape)))
            request.set_input_tensor(place, held[-1])

    def invoke() -> None:
        request.infer()

    def read() -> dict[str, Any]:
        return {tensor.name: np.array(request.get_output_tensor(i).data) for i, tensor in enumerate(outputs)}

    return Session(inputs, outputs, load, invoke, read)


def _openvino_tensor(port: Any, friendly: str) -> Tensor:
    # A port may carry several names (of nodes that were folded away); the model's own name is the friendly one.
    names = port.get_names()
    name = friendly if friendly in names or not names else min(names)
    shape = tuple(int(size.get_length()) if size.is_static else None for size in port.get_partial_shape())
    return Tensor(name, np.dtype(port.get_element_type().to_dtype()).name, shape)


# --- samples to tensors and back ---


def to_model(sample: Any, tensor: Tensor, transpose: Sequence[int] | None) -> tuple[Any, bool]:
    """One sample (no sample axis, source layout) as the array that the model takes.

    A batch axis of 1 is added where the model has one and the sample has not, `transpose` (a permutation of the axes,
    batch axis included) is applied, axes of size 1 are matched, and the dtype is cast if nothing is lost (float16
    widens; real samples for a quantized tensor are quantized by its scale and zero point, halves away from zero).

    Returns:
        The array and whether a batch axis was added.

    Raises:
        RunnerError: Shape or dtype can't be matched.
    """
    for batched, array in ((False, sample), (True, sample[None])):  # of these ranks only one can fit
        turned = _turned(array, transpose)
        if turned is not None and _fits(turned.shape, tensor.shape):
            return _cast(turned, tensor), batched
    turned = _turned(sample, transpose)
    if turned is not None and None not in tensor.shape and _without_ones(turned.shape) == _without_ones(tensor.shape):
        shape = tuple(size or 0 for size in tensor.shape)
        return _cast(turned.reshape(shape), tensor), shape[:1] == (1,) and sample.shape[:1] != (1,)
    turned_by = f" after transposing by {list(transpose)}" if transpose is not None else ""
    raise RunnerError(
        f"input {tensor.name}: a sample of shape {tuple(sample.shape)}{turned_by} does not match the model's "
        f"{[size if size is not None else '?' for size in tensor.shape]}, with or without a batch axis of 1"
    )


def from_model(array: Any, tensor: Tensor, transpose: Sequence[int] | None, batched: bool, raw: bool = False) -> Any:
    """A model's output in the source layout, its batch axis dropped if one was added to the inputs.

    Quantized integers become float32 ``(q - zero_point) * scale`` unless `raw`.
    """
    if tensor.scale and not raw:
        array = (array.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale)
    if transpose is not None:
        if len(transpose) != array.ndim:
            raise RunnerError(
                f"output {tensor.name} has shape {array.shape}; its layout {list(transpose)} has another rank"
            )
        array = array.transpose(transpose)
    return array[0] if batched and array.shape[:1] == (1,) else array


def _turned(array: Any, transpose: Sequence[int] | None) -> Any:
    """The array with its axes permuted, or None when the permutation is for another rank."""
    if transpose is None:
        return array
    return array.transpose(transpose) if len(transpose) == array.ndim else None


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(want is None or size == want for size, want in zip(shape, wanted))


def _without_ones(shape: Sequence[int | None]) -> list[int | None]:
    return [size for size in shape if size != 1]


def _cast(array: Any, tensor: Tensor) -> Any:
    dtype = np.dtype(tensor.dtype)
    if array.dtype == dtype:
        return np.ascontiguousarray(array).reshape(array.shape)
    if tensor.scale and array.dtype.kind == "f":
        steps = array.astype(np.float32) / np.float32(tensor.scale)
        steps = np.trunc(steps + np.copysign(np.float32(0.5), steps)) + tensor.zero_point
        limits = np.iinfo(dtype)
        return np.clip(steps, limits.min, limits.max).astype(dtype)
    cast = array.astype(dtype)
    if not (np.can_cast(array.dtype, dtype, "safe") or np.array_equal(cast.astype(array.dtype), array)):
        raise RunnerError(f"input {tensor.name}: samples of {array.dtype} can't become {dtype} without loss")
    return cast


# --- a job ---


class Feeder:
    """Gives the feeds of each sample and step of one model, and carries its state from step to step."""

    def __init__(self, session: Session, model: Mapping[str, Any]) -> None:
        self.session = session
        self.model = model
        self.state = dict(model["state"])
        names = [tensor.name for tensor in session.inputs]
        outputs = {tensor.name for tensor in session.outputs}
        for source, target in self.state.items():
            if source not in names or target not in outputs:
                raise RunnerError(f"state {source}: {target} is not an input and an output; inputs are {names}")
        self.fed = [tensor for tensor in session.inputs if tensor.name not in self.state]
        self.streaming = bool(self.state)
        self.initial = _samples(model["initial"]) if model["initial"] else {}
        self.batched = False

    def arrays(self, samples: Mapping[str, Any]) -> dict[str, Any]:
        """The fed inputs' arrays among those of an npz file (`x` stands for a single input); axis 0 is samples."""
        keys = {t.name: "x" if len(self.fed) == 1 and t.name not in samples else t.name for t in self.fed}
        missing = [name for name, key in keys.items() if key not in samples]
        if missing:
            raise RunnerError(f"the samples have no array for input {', '.join(missing)}; they have {list(samples)}")
        found = {name: samples[key] for name, key in keys.items()}
        scalars = [name for name, array in found.items() if not array.ndim]
        if scalars:
            raise RunnerError(f"the array for input {', '.join(scalars)} has no sample axis")
        lengths = {name: len(array) for name, array in found.items()}
        if len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise RunnerError(f"inputs must have the same number of samples, at least one: {lengths}")
        return found

    def steps(self, sample: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The feeds of one sample without the state: one, or one a step of a streaming model."""
        if not self.streaming:
            return [self._feeds(sample)]
        stepped = {t.name for t in self.fed if sample[t.name].ndim and self._matches(sample[t.name][0], t)}
        counts = {name: len(sample[name]) for name in stepped}
        if len(set(counts.values())) != 1:
            raise RunnerError(f"streaming samples need one number of steps in axis 1, found {counts or 'no sequence'}")
        number = next(iter(counts.values()))
        return [
            self._feeds({name: array[step] if name in stepped else array for name, array in sample.items()})
            for step in range(number)
        ]

    def first_state(self) -> dict[str, Any]:
        """The state at a sample's first step: the job's `initial` arrays, else zeros."""
        given = self.initial
        state = {}
        for tensor in self.session.inputs:
            if tensor.name not in self.state:
                continue
            if tensor.name in given:
                turn = self.model["input_layouts"].get(tensor.name)
                array = given[tensor.name]
                state[tensor.name] = _cast(array.transpose(turn) if turn is not None else array, tensor)
            else:
                shape = tuple(1 if size is None else size for size in tensor.shape)  # an open size is the batch's
                state[tensor.name] = np.full(shape, tensor.zero_point, tensor.dtype)
        return state

    def advance(self, state: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """The next step's state."""
        following = {}
        for source, target in self.state.items():
            if outputs[target].dtype != state[source].dtype:
                raise RunnerError(
                    f"state {source} is {state[source].dtype}, its output {target} {outputs[target].dtype}"
                )
            following[source] = outputs[target]
        return following

    def first_feeds(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the first inference on these samples takes, the state included."""
        return {**self.first_state(), **self.steps({name: array[0] for name, array in arrays.items()})[0]}

    def outputs(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs as they are returned: source layout, no batch axis."""
        layouts = self.model["output_layouts"]
        raw = bool(self.model["raw"])
        return {
            tensor.name: from_model(outputs[tensor.name], tensor, layouts.get(tensor.name), self.batched, raw)
            for tensor in self.session.outputs
        }

    def _feeds(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        feeds = {}
        for tensor in self.fed:
            array, batched = to_model(sample[tensor.name], tensor, self.model["input_layouts"].get(tensor.name))
            feeds[tensor.name] = array
            self.batched = self.batched or batched
        return feeds

    def _matches(self, sample: Any, tensor: Tensor) -> bool:
        try:
            to_model(sample, tensor, self.model["input_layouts"].get(tensor.name))
        except RunnerError:
            return False
        return True


def run_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Does a job, writes each model's outputs and returns the evidence.

    A job has: `schema` 1, `runtime`, `kernels` (see `KERNELS`; empty for the runtime's own), `threads`, `evidence`
    (path; `main` writes it), `memory` (bool: measure the peak; only with one model, in a process of its own), `marks`
    (bool: mark the counted inferences for the plug-in), `emulated` (bool), `warmup` and `repeat` (timed inferences of
    each model, the models taking turns), and `models`, each with:
    `id`, `file`, `inputs` (npz; axis 0 is samples, then for streaming models axis 1 is steps), `outputs` (npz to
    write, or null), `samples` (how many of them to run, or null for all), `count` (inferences to mark), `state`
    ({input: output}), `initial` (npz of first states, or null), `input_layouts` and `output_layouts` ({name:
    permutation or null}), `raw` (bool: leave quantized integer outputs as they are).

    Raises:
        JobFailed: Anything that stopped it.
    """
    progress = {"model": "", "stage": "import"}
    try:
        evidence = _do_job(job, progress)
    except Exception as error:
        stage = f"{progress['model']}, " if progress["model"] else ""
        text = str(error) if isinstance(error, RunnerError) else f"{type(error).__name__}: {error}"
        raise JobFailed({"error": text, "model": progress["model"], "stage": progress["stage"]}, stage) from error
    return evidence


class JobFailed(RunnerError):
    """A job stopped; `evidence` is the JSON that says where."""

    def __init__(self, evidence: dict[str, Any], stage: str) -> None:
        super().__init__(f"{stage}{evidence['stage']}: {evidence['error']}")
        self.evidence = evidence


def _do_job(job: Mapping[str, Any], progress: dict[str, str]) -> dict[str, Any]:
    models = job["models"]
    if job["schema"] != SCHEMA:
        raise RunnerError(f"job schema {job['schema']} is not this runner's {SCHEMA}")
    if job["memory"] and len(models) != 1:
        raise RunnerError(f"peak memory is measured for one model a process, not {len(models)}")
    meter, first = None, {}
    if job["memory"]:
        # Only one sample may be resident while the peak is measured, and it belongs to the start.
        first = {name: array[:1].copy() for name, array in _samples(models[0]["inputs"]).items() if array.ndim}
        meter = MemoryMeter(bool(job["emulated"]))
    module = load_runtime(job["runtime"])
    if meter:
        meter.imported()
    evidence: dict[str, Any] = {
        **machine(),
        "schema": SCHEMA,
        "runtime": job["runtime"],
        "runtime_version": _version(job["runtime"], module),
        "kernels": job["kernels"] or KERNELS[job["runtime"]][0],
        "threads": job["threads"],
        "models": {},
    }
    opened = []
    for model in models:
        progress.update(model=model["id"], stage="open")
        _say(f"{model['id']}: open")
        start = time.perf_counter()
        session = open_model(job["runtime"], model["file"], job["threads"], job["kernels"])
        seconds = time.perf_counter() - start
        progress["stage"] = "run"
        _say(f"{model['id']}: run")
        memory = _measure_memory(session, model, first, meter) if meter else None
        result = _run_model(session, model)
        result["load_seconds"] = seconds
        result["memory"], result["latency"] = memory, None
        result["inputs"] = [tensor._asdict() for tensor in session.inputs]
        result["outputs"] = [tensor._asdict() for tensor in session.outputs]
        evidence["models"][model["id"]] = result
        if job["repeat"] or (job["marks"] and model["count"]):
            opened.append((model, session))
    progress.update(model="", stage="time")
    if job["repeat"]:
        for name, times in _time_in_turn(opened, job["warmup"], job["repeat"]).items():
            evidence["models"][name]["latency"] = times
    if job["marks"]:
        progress["stage"] = "count"
        _say("all: count")
        _mark_inferences(opened, [model["id"] for model in models])
    return evidence


def _measure_memory(
    session: Session, model: Mapping[str, Any], samples: Mapping[str, Any], meter: MemoryMeter
) -> dict[str, Any]:
    meter.opened()
    feeder = Feeder(session, model)
    feeds = feeder.first_feeds(feeder.arrays(samples))
    for _ in range(PEAK_INFERENCES):
        session.run(feeds)
    return meter.peak()


def _run_model(session: Session, model: Mapping[str, Any]) -> dict[str, Any]:
    feeder = Feeder(session, model)
    arrays = feeder.arrays(_samples(model["inputs"]))
    total = len(next(iter(arrays.values())))
    limit = total if model["samples"] is None else min(total, model["samples"])
    collected: dict[str, list[Any]] = {tensor.name: [] for tensor in session.outputs}
    invocations = 0
    for index in range(limit):
        state = feeder.first_state()
        per_step: dict[str, list[Any]] = {name: [] for name in collected}
        for feeds in feeder.steps({name: array[index] for name, array in arrays.items()}):
            outputs = session.run({**state, **feeds})
            invocations += 1
            state = feeder.advance(state, outputs)
            for name, array in feeder.outputs(outputs).items():
                per_step[name].append(array)
        for name, found in per_step.items():
            collected[name].append(np.stack(found) if feeder.streaming else found[0])
    if model["outputs"] and limit:
        np.savez(model["outputs"], **{name: _stack(name, found) for name, found in collected.items()})
    session.load(feeder.first_feeds(arrays))  # what is timed and counted later
    return {"samples": limit, "inferences": invocations}


def _samples(path: str) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _stack(name: str, found: Sequence[Any]) -> Any:
    shapes = {array.shape for array in found}
    if len(shapes) > 1:
        raise RunnerError(
            f"output {name} has another shape for each sample: {sorted(shapes)[:3]}; run samples of one shape"
        )
    return np.stack(found)


def _time_in_turn(
    opened: Sequence[tuple[Mapping[str, Any], Session]], warmup: int, repeat: int
) -> dict[str, dict[str, list[int]]]:
    """Wall and CPU nanoseconds of each inference, the models taking turns so that all meet the same disturbances."""
    times: dict[str, dict[str, list[int]]] = {}
    for model, _ in opened:
        times[model["id"]] = {"wall_ns": [], "process_cpu_ns": [], "thread_cpu_ns": []}
    for turn in range(warmup + repeat):
        for model, session in opened:
            process, thread, wall = time.process_time_ns(), time.thread_time_ns(), time.perf_counter_ns()
            session.invoke()
            wall_end, thread_end, process_end = time.perf_counter_ns(), time.thread_time_ns(), time.process_time_ns()
            if turn >= warmup:
                found = times[model["id"]]
                found["wall_ns"].append(wall_end - wall)
                found["thread_cpu_ns"].append(thread_end - thread)
                found["process_cpu_ns"].append(process_end - process)
    return times


def _mark_inferences(opened: Sequence[tuple[Mapping[str, Any], Session]], order: Sequence[str]) -> None:
    """Marks each model's inferences for the plug-in: region 0 is an empty one, region n the n-th model of the job."""
    import ctypes  # only counted jobs pay for it
    from functools import partial

    call = ctypes.CDLL(None).syscall

    def marks(region: int) -> tuple[Callable[[], int], Callable[[], int]]:
        words = [ctypes.c_long(word) for word in (MARK_SYSCALL, MARK_START, MARK_STOP, region)]
        return partial(call, words[0], words[1], words[3]), partial(call, words[0], words[2], words[3])

    call(ctypes.c_long(MARK_SYSCALL), ctypes.c_long(MARK_ARM), ctypes.c_long(0))
    _between(*marks(0), lambda: None, COUNT_WARMUP)
    gc.disable()  # a collection inside a counted inference would blur it
    for model, session in opened:
        began = time.monotonic()
        for _ in range(COUNT_WARMUP):
            _between(*marks(COUNT_WARMUP_REGION), session.invoke, 1)
            if time.monotonic() - began > COUNT_WARMUP_SECONDS:
                break
        _between(*marks(order.index(model["id"]) + 1), session.invoke, model["count"])
    gc.enable()


def _between(start: Callable[[], int], stop: Callable[[], int], invoke: Callable[[], None], times: int) -> None:
    for _ in range(times):
        start()
        invoke()
        stop()


# --- memory ---


class MemoryMeter:
    """Resident memory at the runtime's import, after opening a model and at its peak, in bytes.

    Under emulation the process also holds the emulator and its translated code, so only pages of the emulated
    program's own mappings are counted, at these moments; a peak between them is found by the process's high-water mark
    less the emulator's share at the end.
    """

    def __init__(self, emulated: bool) -> None:
        self.emulated = emulated
        self.before, self.after, self.moments = 0, 0, [0]
        gc.collect()
        self.resettable = _reset_peak()
        self.before = self._now()

    def imported(self) -> None:
        """The runtime has just been imported."""
        self.after = self._now()

    def opened(self) -> None:
        """The model has just been opened."""
        self.moments.append(self._now())

    def peak(self) -> dict[str, Any]:
        """What was found, read right after the last inference."""
        end = self._now()
        status = _status()
        high = status["VmHWM"] - (status["VmRSS"] - end if self.emulated else 0)
        peak = max([*self.moments, end, high])
        return {
            "before_import_bytes": self.before,
            "after_import_bytes": self.after,
            "peak_bytes": peak,
            "ram_bytes": peak - self.before,
            "runtime_bytes": self.after - self.before,
            "inferences": PEAK_INFERENCES,
            "counted": "pages of the emulated program" if self.emulated else "pages of the process",
            "high_water_reset": self.resettable,
        }

    def _now(self) -> int:
        return _guest_resident() if self.emulated else _status()["VmRSS"]


def _reset_peak() -> bool:
    """Sets the process's high-water mark back to what is resident now, where the kernel lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status() -> dict[str, int]:
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in {"VmHWM", "VmRSS"}:
            found[name] = int(value.split()[0]) * 1024
    return found


def _guest_resident() -> int:
    """Resident bytes of the emulated program's mappings.

    The emulator shows the program its own mappings in /proc/self/maps; /proc/thread-self/smaps is the real process's.
    Both have the same addresses but for one constant shift, found by the interpreter's first mapping.
    """
    guest = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        words = line.split(None, 5)
        low, high = (int(word, 16) for word in words[0].split("-"))
        guest.append((low, high, words[5] if len(words) > 5 else ""))
    real: list[tuple[int, int, str, int]] = []
    head = (0, 0, "")
    for line in Path("/proc/thread-self/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split(None, 5)
        if not words[0].endswith(":"):
            low, high = (int(word, 16) for word in words[0].split("-"))
            head = (low, high, words[5] if len(words) > 5 else "")
        elif words[0] == "Rss:":
            real.append((*head, int(words[1]) * 1024))
    anchor = next((low, path) for low, _, path in guest if path.startswith("/"))
    shifts = [low - anchor[0] for low, _, path, _ in real if path == anchor[1]]
    if not shifts:
        raise RunnerError("the emulator hides its real mappings: peak memory can't be told apart from its own")
    total = 0
    for low, high, _, resident in real:
        inside = sum(max(0, min(high, end + shifts[0]) - max(low, start + shifts[0])) for start, end, _ in guest)
        total += resident * inside // (high - low)
    return total


# --- what is here ---


def machine() -> dict[str, Any]:
    """Python, numpy and the CPU as the operating system names it."""
    part = _cpuinfo("CPU part")  # on Arm, where the model name is rarely more than the word ARMv8
    return {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "numpy": np.__version__,
        "machine": os.uname().machine,
        "cpu": f"part {part} of implementer {_cpuinfo('CPU implementer')}" if part else _cpuinfo("model name"),
        "exact_u8s8": not x86_without_vnni(),
    }


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _version(runtime: str, module: Any) -> str:
    package = sys.modules[MODULES[runtime].split(".")[0]]
    version = getattr(package, "__version__", None) or getattr(module, "__version__", None)
    return str(version).split("-")[0] if version else "unknown"


def versions() -> dict[str, Any]:
    """What `--version` prints: `machine()` and each runtime's version, null where it is not installed."""
    from importlib import metadata  # costs a third of a second under emulation

    found: dict[str, str | None] = {}
    for runtime in MODULES:
        try:
            found[runtime] = metadata.version(runtime)
        except metadata.PackageNotFoundError:
            found[runtime] = None
    return {"schema": SCHEMA, **machine(), "runtimes": found}


def _say(text: str) -> None:
    """Where the runner is: the last such line tells where a crash of the runtime happened."""
    sys.stderr.write(f"runner: {text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: runner.py JOB.json | --version\n")
        return 2
    if arguments[0] == "--version":
        sys.stdout.write(json.dumps(versions()) + "\n")
        return 0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        target = Path(job["evidence"])
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(json.dumps({"error": f"the job can't be read: {error!r}", "model": "", "stage": "job"}) + "\n")
        return 1
    try:
        evidence = run_job(job)
    except JobFailed as failed:
        evidence = failed.evidence
        sys.stderr.write(json.dumps(evidence) + "\n")
    target.write_text(json.dumps(evidence, indent=1), encoding="utf-8")
    return 1 if "error" in evidence else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
