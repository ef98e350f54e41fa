"""Jobs for the device-side runner, done on this machine or in an emulated board, and the evidence they give."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanedge.errors import MissingProgram, UsageError, ValidationFailed, nearest
from leanedge.resources import cache_root

from .._programs.qemu import GET_COMMAND
from .arm64_root import arm64_root, has_root
from .board import board_view
from .qemu import QEMU, count_plugin
from .wheels import HOST_RUNTIMES, board_wheels, has_board_wheels, made_host_wheels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .board import Emulator

__all__ = [
    "RUNTIMES",
    "Counts",
    "Evidence",
    "Job",
    "JobModel",
    "Latency",
    "Memory",
    "ModelEvidence",
    "run_job",
    "run_job_on_host",
]

RUNNER = Path(__file__).with_name("runner.py")
SCHEMA = 1


@dataclass(frozen=True)
class JobModel:
    """One model of a job.

    Attributes:
        id: Its name in the evidence.
        file: The model file.
        inputs: npz of samples, keys the model's inputs (`x` for a single one); axis 0 is samples and, for a
            model with state, axis 1 is steps. Arrays are in the source model's layout, without a batch axis of 1.
        outputs: npz to write: output name -> (samples, ...) or (samples, steps, ...), or None.
        samples: How many of them to run; None for all.
        count: Inferences whose instructions are counted, after all samples were run (emulation only).
        state: Input -> output that feeds it at the next step.
        initial: npz of first states (zeros where absent), or None.
        input_layouts: Input -> permutation from the source's axes to the model's, batch axis included, or None.
        output_layouts: Output -> permutation from the model's axes back to the source's, or None.
        raw: Leave quantized integer outputs as they are instead of giving real numbers.
    """

    id: str
    file: Path
    inputs: Path
    outputs: Path | None = None
    samples: int | None = None
    count: int = 0
    state: Mapping[str, str] = field(default_factory=dict)
    initial: Path | None = None
    input_layouts: Mapping[str, Sequence[int] | None] = field(default_factory=dict)
    output_layouts: Mapping[str, Sequence[int] | None] = field(default_factory=dict)
    raw: bool = False


@dataclass(frozen=True)
class Job:
    """Models for one runtime, done one after the other in one process.

    Attributes:
        runtime: ``onnxruntime``, ``ai_edge_litert``, ``tflite_runtime`` or ``openvino``.
        models: At least one, ids all different.
        kernels: ``xnnpack`` or ``reference`` for the TFLite runtimes; empty for the runtime's own.
        threads: Threads of the runtime. Counted instructions are repeatable with 1 only: threads that wait, spin.
        memory: Measure the peak resident size; one model a job.
        warmup, repeat: Timed inferences, the models taking turns (for this machine; emulated times mean nothing).
    """

    runtime: str
    models: tuple[JobModel, ...]
    kernels: str = ""
    threads: int = 1
    memory: bool = False
    warmup: int = 0
    repeat: int = 0


@dataclass(frozen=True)
class Memory:
    """Resident bytes: the peak over the first inferences less the size before the runtime was imported (`ram_bytes`).

    `runtime_bytes` is the share that importing the runtime took; `counted` says which pages.
    """

    before_import_bytes: int
    after_import_bytes: int
    peak_bytes: int
    ram_bytes: int
    runtime_bytes: int
    inferences: int
    counted: str
    high_water_reset: bool


@dataclass(frozen=True)
class Latency:
    """Nanoseconds of each timed inference: wall clock, CPU time of the process and of the calling thread."""

    wall_ns: tuple[int, ...]
    process_cpu_ns: tuple[int, ...]
    thread_cpu_ns: tuple[int, ...]


@dataclass(frozen=True)
class Counts:
    """Executed instructions of one inference, and how many of them load or store."""

    instructions: int
    loads: int
    stores: int


@dataclass(frozen=True)
class ModelEvidence:
    """What was seen of one model. `counts` holds one entry a counted inference, `no_counts` why there is none."""

    samples: int
    inferences: int
    load_seconds: float
    memory: Memory | None
    latency: Latency | None
    counts: tuple[Counts, ...]
    no_counts: str

    @property
    def instructions(self) -> int | None:
        """The least of the counted inferences (what is above it is waiting and memory allocation), or None."""
        return min((count.instructions for count in self.counts), default=None)


@dataclass(frozen=True)
class Evidence:
    """What a job showed, and with which versions.

    Attributes:
        where: ``host`` or ``emulator``.
        emulator: QEMU's version and core; empty on the host.
        exact_u8s8: False on an x86 whose unsigned times signed 8-bit products need the exact kernels.
        seconds: Wall time of the whole process.
        models: Model id -> what was seen of it.
    """

    where: str
    emulator: str
    runtime: str
    runtime_version: str
    kernels: str
    threads: int
    python: str
    numpy: str
    machine: str
    cpu: str
    exact_u8s8: bool
    seconds: float
    models: Mapping[str, ModelEvidence]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def run_job_on_host(job: Job, *, timeout_s: float = 600) -> Evidence:
    """Does the job in a new process of this Python, with one difference to an emulated one: nothing is counted.

    tflite_runtime needs another numpy than LeanEdge; it is taken from a folder of its own if get-programs made it.

    Raises:
        ValidationFailed: The runtime refused a model or crashed, samples did not match, or it took too long.
        MissingProgram: The runtime is not installed.
        UsageError: The job itself is wrong.
    """
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    own = made_host_wheels(job.runtime)
    if own is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(own), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="leanedge-job-") as work:
        folder = Path(work)
        evidence, seconds = _run(job, folder, [sys.executable], environment, timeout_s, marks=False, emulated=False)
    reason = "instructions are counted in emulation only"
    return _evidence(job, evidence, seconds, "host", "", {}, reason)


def run_job(job: Job, emulator: Emulator, *, timeout_s: float = 600) -> Evidence:
    """Does the job in an emulated board: qemu-aarch64, the board's own view of its CPU, arm64 wheels.

    Args:
        job: Threads are the runtime's; instructions are counted for models that ask for it.
        emulator: The board's CPU.
        timeout_s: Wall time after which it is stopped.

    Raises:
        ValidationFailed: The runtime refused a model or crashed, samples did not match, or it took too long.
        MissingProgram: The emulator, the root file system or the runtime's wheels were not got yet.
        UsageError: The job itself is wrong.
    """
    qemu = QEMU.find()
    if not has_root():
        raise MissingProgram("no arm64 root file system was made yet", where="arm64-root", hint=f"run `{GET_COMMAND}`")
    root = arm64_root()
    if not has_board_wheels(root, job.runtime):  # a job downloads nothing
        name = f"arm64-{job.runtime}"
        raise MissingProgram(
            f"{job.runtime} for arm64, in the version that is installed here, was not got yet",
            where=name,
            hint=f"run `{GET_COMMAND} {name}`",
        )
    wheels = board_wheels(root, job.runtime)
    view = board_view(emulator, root.folder)
    wanted = any(model.count for model in job.models)
    marks = wanted and not qemu.no_plugins
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(wheels),
        "PYTHONHASHSEED": "0",
        # Compiled modules are kept apart, so that neither the root nor the wheels change.
        "PYTHONPYCACHEPREFIX": str(cache_root() / "arm64-pyc"),
    }
    command = [str(qemu.path), "-L", str(view), "-cpu", emulator.cpu]
    if qemu.libraries:
        environment["LD_LIBRARY_PATH"] = str(qemu.libraries)
        command += ["-U", "LD_LIBRARY_PATH"]
    with tempfile.TemporaryDirectory(prefix="leanedge-job-") as work:
        folder = Path(work)
        counted = folder / "counts.txt"
        if marks:
            command += ["-plugin", f"{count_plugin(qemu)},out={counted}"]
        program = [*command, str(root.python), "-S"]  # site-packages of the root are not wanted
        evidence, seconds = _run(job, folder, program, environment, timeout_s, marks=marks, emulated=True)
        counts = _counts(counted, job) if marks else {}
    version = ".".join(str(number) for number in qemu.version)
    reason = qemu.no_plugins if wanted else "not asked for"
    return _evidence(job, evidence, seconds, "emulator", f"{QEMU.name} {version} -cpu {emulator.cpu}", counts, reason)


def _run(
    job: Job,
    folder: Path,
    program: list[str],
    environment: dict[str, str],
    timeout_s: float,
    *,
    marks: bool,
    emulated: bool,
) -> tuple[dict[str, Any], float]:
    written = folder / "evidence.json"
    (folder / "job.json").write_text(
        json.dumps(_job_json(job, written, marks=marks, emulated=emulated)), encoding="utf-8"
    )
    start = time.monotonic()
    where = f"{job.runtime} {'in emulation' if emulated else 'on this machine'}"
    try:
        done = subprocess.run(
            [*program, str(RUNNER), str(folder / "job.json")],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else error.stderr or ""
        raise ValidationFailed(
            f"stopped after {timeout_s:g} s at {_last_stage(said)}", where=where, hint="give fewer samples or more time"
        ) from error
    except OSError as error:
        raise MissingProgram(
            f"can't be started: {error.strerror}", where=program[0], hint=f"run `{GET_COMMAND}`"
        ) from error
    seconds = time.monotonic() - start
    evidence = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else None
    if done.returncode == 0 and evidence is not None:
        return evidence, seconds
    if evidence is not None and "error" in evidence:
        if evidence["stage"] == "import":
            get = f"run `{GET_COMMAND} host-{job.runtime}`" if job.runtime in HOST_RUNTIMES else "pip install it"
            raise MissingProgram(evidence["error"], where=where, hint=get)
        model = f", model {evidence['model']}" if evidence["model"] else ""
        raise ValidationFailed(evidence["error"], where=f"{where}{model}, {evidence['stage']}")
    raise ValidationFailed(_crash(done.returncode, done.stderr, emulated=emulated), where=where)


def _job_json(job: Job, evidence: Path, *, marks: bool, emulated: bool) -> dict[str, Any]:
    ids = [model.id for model in job.models]
    if not ids or len(set(ids)) != len(ids):
        raise UsageError(f"a job needs models with different ids, not {ids}")
    if job.memory and len(ids) != 1:
        raise UsageError(f"peak memory is measured for one model a job, not {len(ids)}")
    if job.runtime not in RUNTIMES:
        raise UsageError(
            f"unknown runtime {job.runtime!r}", allowed=", ".join(RUNTIMES), hint=nearest(job.runtime, RUNTIMES)
        )
    plain = asdict(job)
    for model in plain["models"]:
        for key in ("file", "inputs", "outputs", "initial"):
            model[key] = str(Path(model[key]).absolute()) if model[key] is not None else None
    return {**plain, "schema": SCHEMA, "evidence": str(evidence), "marks": marks, "emulated": emulated}


RUNTIMES = ("onnxruntime", "ai_edge_litert", "tflite_runtime", "openvino")


def _last_stage(stderr: str) -> str:
    said = [line.removeprefix("runner: ") for line in stderr.splitlines() if line.startswith("runner: ")]
    return said[-1] if said else "the start (before any model was opened)"


def _crash(code: int, stderr: str, *, emulated: bool) -> str:
    """What an exit without evidence means, in words."""
    number = -code if code < 0 else code - 128  # QEMU ends by the program's own signal; a shell would add 128
    stage = _last_stage(stderr)
    said = [line for line in stderr.splitlines() if line and not line.startswith("runner: ")]
    tail = f" ({'; '.join(said[-2:])[-300:]})" if said else ""
    if number == signal.SIGILL:
        which = "the emulated core" if emulated else "this machine"
        return f"illegal instruction at {stage}: the runtime has code that {which} can't execute{tail}"
    if number in {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGKILL}:
        return f"the runtime crashed with {signal.Signals(number).name} at {stage}{tail}"
    return f"ended with exit code {code} at {stage} without evidence{tail}"


def _counts(file: Path, job: Job) -> dict[str, tuple[Counts, ...]]:
    """The plug-in's lines by model, less what an empty region costs."""
    regions: dict[int, list[Counts]] = {}
    for line in file.read_text(encoding="ascii").splitlines():
        region, instructions, loads, stores = (int(word) for word in line.split())
        regions.setdefault(region, []).append(Counts(instructions, loads, stores))
    if 0 not in regions:
        raise ValidationFailed("the counting plug-in wrote no regions", where=str(file))
    empty = min(regions[0], key=lambda count: count.instructions)
    return {
        model.id: tuple(
            Counts(
                count.instructions - empty.instructions,
                max(0, count.loads - empty.loads),
                max(0, count.stores - empty.stores),
            )
            for count in regions.get(place, ())
        )
        for place, model in enumerate(job.models, 1)
    }


def _evidence(
    job: Job,
    raw: dict[str, Any],
    seconds: float,
    where: str,
    emulator: str,
    counts: Mapping[str, tuple[Counts, ...]],
    no_counts: str,
) -> Evidence:
    models = {}
    for model in job.models:
        seen = raw["models"][model.id]
        latency = seen["latency"]
        found = counts.get(model.id, ())
        models[model.id] = ModelEvidence(
            samples=seen["samples"],
            inferences=seen["inferences"],
            load_seconds=seen["load_seconds"],
            memory=Memory(**seen["memory"]) if seen["memory"] else None,
            latency=Latency(**{key: tuple(times) for key, times in latency.items()}) if latency else None,
            counts=found,
            no_counts="" if found else no_counts or "not asked for",
        )
    keys = ("runtime", "runtime_version", "kernels", "threads", "python", "numpy", "machine", "cpu", "exact_u8s8")
    return Evidence(where=where, emulator=emulator, seconds=seconds, models=models, **{key: raw[key] for key in keys})
