"""Damages .tflite files in every way at hand and loads each: only clear errors may come out, soon, in little memory.

    python -m benchmarks.fuzz_tflite --files 100000 [--seed 0] [--processes 2] [model.tflite ...]

Without models it damages files of its own making (and the reference models under LEANEDGE_SHARED, where that is set).
Each file is loaded under a limit of seconds, each process under a limit of memory. What loads is then simplified,
planned, written back and run, for a sample of them. Prints how often each thing came out; exits with 1 after any crash,
whose files are kept under --keep.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.types import TensorQuant
from leanedge.errors import InputError
from leanedge.export.tflite_file import tflite_bytes
from leanedge.program.memory import plan_memory
from leanedge.program.simplify import simplify
from leanedge.program.simulate import simulate
from leanedge.program.tflite_file import load_tflite
from leanedge.program.types import (
    ConcatenationOptions,
    ConvOptions,
    Dense,
    ElementwiseOptions,
    FullyConnectedOptions,
    PadOptions,
    PoolOptions,
    Port,
    Program,
    ProgramOperator,
    ProgramTensor,
    ReduceOptions,
    SoftmaxOptions,
    SplitOptions,
    State,
    StridedSliceOptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECONDS = 2.0
"""Limit of one file: of the processor's time, for what else the machine does is no fault of the file."""
MEMORY_BYTES = 3 << 30
"""Limit of address space of a process, the interpreter and its libraries included."""
SIMPLIFY_EVERY = 20
"""One in so many files, if it loads, goes through what comes next."""
LARGEST_RUN = 200_000
"""Elements of a model that is run before and after its simplification."""


def made_files() -> list[bytes]:
    """Small files with most operators, one of them with states."""
    return [tflite_bytes(_image_net()), tflite_bytes(_streaming_net())]


def _quant(scale: Any, zero: Any = 0, axis: int | None = None, dtype: Any = "int8") -> TensorQuant:
    return TensorQuant(dtype, np.asarray(scale, np.float32), np.asarray(zero, np.int64), axis)


def _image_net() -> Program:
    numbers = np.random.default_rng(0)
    tensors: dict[str, ProgramTensor] = {}
    operators: list[ProgramOperator] = []

    def tensor(name: str, shape: tuple[int, ...], scale: float = 0.1, zero: int = 3) -> str:
        tensors[name] = ProgramTensor(name, shape, "int8", _quant(scale, zero))
        return name

    def constants(name: str, shape: tuple[int, ...], axis: int) -> list[str]:
        count = shape[axis]
        scales, zeros = np.full(count, 0.01), np.zeros(count)
        weights = Dense(numbers.integers(-127, 128, shape).astype(np.int8))
        bias = Dense(numbers.integers(-99, 99, count).astype(np.int32))
        tensors[f"{name}_w"] = ProgramTensor(f"{name}_w", shape, "int8", _quant(scales, zeros, axis), weights)
        bias_quant = _quant(scales / 10, zeros, 0, "int32")
        tensors[f"{name}_b"] = ProgramTensor(f"{name}_b", (count,), "int32", bias_quant, bias)
        return [f"{name}_w", f"{name}_b"]

    def emit(kind: Any, inputs: list[str], outputs: list[str], options: Any = None) -> None:
        extra = {} if options is None else {"options": options}
        operators.append(ProgramOperator(f"{kind}{len(operators)}", kind, tuple(inputs), tuple(outputs), **extra))

    same = ConvOptions((1, 1), (1, 1), (1, 1, 1, 1), "relu")
    tensor("x", (1, 6, 6, 2))
    emit("conv_2d", ["x", *constants("conv", (4, 3, 3, 2), 0)], [tensor("a", (1, 6, 6, 4))], same)
    emit("depthwise_conv_2d", ["a", *constants("deep", (1, 3, 3, 4), 3)], [tensor("b", (1, 6, 6, 4))], same)
    emit("add", ["a", "b"], [tensor("c", (1, 6, 6, 4))], ElementwiseOptions())
    emit("split", ["c"], [tensor("d", (1, 6, 6, 2)), tensor("e", (1, 6, 6, 2))], SplitOptions(3))
    emit("concatenation", ["e", "d"], [tensor("f", (1, 6, 6, 4))], ConcatenationOptions(3))
    emit("pad", ["f"], [tensor("g", (1, 8, 6, 4))], PadOptions(((0, 0), (1, 1), (0, 0), (0, 0))))
    emit("max_pool", ["g"], [tensor("h", (1, 4, 3, 4))], PoolOptions((2, 2), (2, 2), (0, 0, 0, 0)))
    emit(
        "strided_slice",
        ["h"],
        [tensor("i", (1, 2, 3, 4))],
        StridedSliceOptions((0, 0, 0, 0), (1, 4, 3, 4), (1, 2, 1, 1)),
    )
    emit("hard_swish", ["i"], [tensor("j", (1, 2, 3, 4))])
    emit("mean", ["j"], [tensor("k", (1, 4))], ReduceOptions((1, 2), False))
    emit("fully_connected", ["k", *constants("fc", (3, 4), 0)], [tensor("l", (1, 3))], FullyConnectedOptions())
    emit("softmax", ["l"], [tensor("y", (1, 3), 1 / 256, -128)], SoftmaxOptions())
    return Program(tensors, tuple(operators), (Port("x", "x"),), (Port("y", "y"),))


def _streaming_net() -> Program:
    names = {"x": (1, 1, 4), "before": (1, 3, 4), "all": (1, 4, 4), "after": (1, 3, 4)}
    tensors = {name: ProgramTensor(name, shape, "int8", _quant(0.1)) for name, shape in names.items()}
    operators = (
        ProgramOperator("join", "concatenation", ("before", "x"), ("all",), ConcatenationOptions(1)),
        ProgramOperator(
            "last", "strided_slice", ("all",), ("after",), StridedSliceOptions((0, 1, 0), (1, 4, 4), (1, 1, 1))
        ),
    )
    state = State("frames", "before", "after", np.ones((1, 3, 4), np.int8))
    return Program(tensors, operators, (Port("x", "x"),), (Port("y", "all"),), (state,))


EXTREMES = (0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC)


def damage(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """One to eight edits: bits, bytes, words, offsets, pieces moved, repeated, dropped, or taken from other files."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        if len(made) < 16:
            break
        rng.choice(_EDITS)(made, others, rng)
    return bytes(made)


def _bit(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _word(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng) & ~3
    value = rng.choice((*EXTREMES, rng.getrandbits(32), len(data), len(data) - 4))
    data[place : place + 4] = struct.pack("<I", value)


def _offset(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    """A word that could be an offset or a length, moved a little."""
    place = _place(data, rng) & ~3
    [value] = struct.unpack_from("<I", data, min(place, len(data) - 4))
    moved = value + rng.choice((-64, -8, -4, -2, -1, 1, 2, 4, 8, 64))
    data[place : place + 4] = struct.pack("<I", moved & 0xFFFFFFFF)


def _slot(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    """A half word, as the tables of fields hold them."""
    place = _place(data, rng) & ~1
    data[place : place + 2] = struct.pack("<H", rng.choice((0, 4, 6, 8, 12, 0xFFFF, rng.getrandbits(16))))


def _truncate(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    del data[rng.randrange(8, len(data)) :]


def _drop(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng)
    del data[place : place + rng.randrange(1, 65)]


def _repeat(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    place = _place(data, rng)
    data[place:place] = data[place : place + rng.randrange(1, 65)]


def _splice(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    start, size = rng.randrange(len(other)), rng.randrange(1, 257)
    place = _place(data, rng)
    data[place : place + size] = other[start : start + size]


def _place(data: bytearray, rng: random.Random) -> int:
    """Any byte; mostly one of the tables, which stand at both ends of a file, before and after the weights."""
    near = rng.random()
    span = min(len(data), 4096)
    if near < 0.45:
        return rng.randrange(span)
    if near < 0.9:
        return len(data) - 1 - rng.randrange(span)
    return rng.randrange(len(data))


_EDITS: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _bit,
    _byte,
    _word,
    _offset,
    _offset,
    _slot,
    _truncate,
    _drop,
    _repeat,
    _splice,
)


class TooSlow(BaseException):
    """Raised by the alarm; no handler of ordinary errors may catch it."""


def _too_slow(signum: int, frame: Any) -> None:
    raise TooSlow


def outcome(data: bytes, further: bool) -> str:
    """What becomes of one file: ``loaded``, a kind of clear error, or ``CRASH`` and what it was."""
    try:
        program = load_tflite(data)
        if further:
            simplified = simplify(program).program
            tflite_bytes(plan_memory(simplified))
            if not _same_numbers(program, simplified):
                return "CRASH simplified to other numbers"
    except InputError as error:
        return f"{type(error).__name__}"
    except TooSlow:
        return f"CRASH more than {SECONDS} s"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"CRASH {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:80]}"
    return "simplified" if further else "loaded"


def _same_numbers(program: Program, simplified: Program) -> bool:
    """True where both give the same outputs for random inputs, or would take too long to run."""
    if sum(tensor.elements for tensor in program.tensors.values()) > LARGEST_RUN:
        return True
    numbers = np.random.default_rng(0)
    inputs = {
        port.name: numbers.integers(-100, 100, tensor.shape).astype(tensor.dtype)
        for port in program.inputs
        for tensor in [program.tensors[port.tensor]]
    }
    before, after = simulate(program, inputs), simulate(simplified, inputs)
    return all(np.array_equal(array, after[name]) for name, array in before.items())


def _work(job: tuple[list[bytes], int, int, Path]) -> tuple[Counter[str], float]:
    files, seed, count, keep = job
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, _too_slow)
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        data = damage(rng.choice(files), files, rng)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        start = time.process_time()
        made = outcome(data, number % SIMPLIFY_EVERY == 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - start)
        found[made] += 1
        if made.startswith("CRASH") and found[made] <= 3:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{seed}_{number}.tflite").write_bytes(data)
    return found, slowest


def main() -> int:
    """Runs it all; 1 after any crash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_crashes"))
    options = parser.parse_args()
    files = [path.read_bytes() for path in options.models]
    shared = os.environ.get("LEANEDGE_SHARED")
    if not files:
        files = made_files()
        # Small files first and twice: more of each damaged file is then table than weights.
        files += (
            files + [path.read_bytes() for path in sorted(Path(shared).glob("models/*/*.tflite"))] if shared else []
        )
    share = -(-options.files // 10)
    jobs = [(files, options.seed * 1000 + part, share, options.keep) for part in range(10)]
    start = time.perf_counter()
    total: Counter[str] = Counter()
    slowest = 0.0
    with ProcessPoolExecutor(options.processes) as pool:
        for found, worst in pool.map(_work, jobs):
            total += found
            slowest = max(slowest, worst)
    seconds = time.perf_counter() - start
    print(f"{total.total()} files from {len(files)} in {seconds:.0f} s, the slowest {slowest:.2f} s")
    for name, number in total.most_common():
        print(f"{number:8d}  {name}")
    return 1 if any(name.startswith("CRASH") for name in total) else 0


if __name__ == "__main__":
    sys.exit(main())
