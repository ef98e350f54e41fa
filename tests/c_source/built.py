"""Many generated models in one shared library, run through ctypes with a poisoned arena."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from leanedge.export.c_source import CSource, emit, make_kernels, make_layers, portable_kernel
from leanedge.program.types import Program

Array = np.ndarray[Any, Any]

COMPILERS = {"gcc": ("gcc",), "zig": (sys.executable, "-m", "ziglang", "cc")}
STRICT = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Wdouble-promotion",
    "-Wconversion",
    "-Werror",
    "-pedantic",
    "-ffreestanding",
)


def portable_source(program: Program, name: str) -> CSource:
    return emit(program, make_kernels(make_layers(program, name), [portable_kernel]), name)


def build(sources: list[CSource], folder: Path, compiler: str, flags: tuple[str, ...] = ("-O1",)) -> ctypes.CDLL:
    """One library of all models; the models are one translation unit, as each start of a compiler costs time."""
    models, kernels = [], set()
    for source in sources:
        for file, text in source.files.items():
            (folder / file).write_text(text)
        stem = source.interface.stem
        models += [f'#include "{stem}.c"\n#include "{stem}_weights.c"\n']
        kernels.update(set(source.sources) - {f"{stem}.c", f"{stem}_weights.c"})
    (folder / "models.c").write_text("".join(models))
    command = [
        *COMPILERS[compiler],
        *STRICT,
        *flags,
        "-fPIC",
        "-shared",
        "-o",
        "models.so",
        "models.c",
        *sorted(kernels),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return ctypes.CDLL(str(folder / "models.so"))


class Instance:
    """A model with an arena of its own, every byte of which was random before, and guards at both ends."""

    GUARD = 64

    def __init__(self, library: ctypes.CDLL, source: CSource, seed: int = 0) -> None:
        self.library, self.source = library, source
        size = source.plan.arena_bytes
        room = np.random.default_rng(seed).integers(0, 256, size + 2 * self.GUARD + 16, dtype=np.uint8)
        start = -room.ctypes.data % 16 + self.GUARD
        self.room, self.before = room, room.copy()
        self.start, self.arena = start, room[start : start + size]
        self.struct = ctypes.c_void_p(0)
        self._call("init", ctypes.c_void_p(self.arena.ctypes.data))

    def _call(self, what: str, *arguments: Any) -> None:
        getattr(self.library, f"{self.source.interface.stem}_{what}")(ctypes.byref(self.struct), *arguments)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        for port in self.source.interface.inputs:
            array = np.ascontiguousarray(inputs[port.port.name]).view(np.uint8).ravel()
            self.arena[port.offset : port.offset + array.size] = array
        self._call("run")
        end = self.start + self.source.plan.arena_bytes
        for guard in (slice(0, self.start), slice(end, None)):
            np.testing.assert_array_equal(self.room[guard], self.before[guard])
        return {
            port.port.name: self.arena[port.offset : port.offset + port.tensor.nbytes]
            .view(port.tensor.dtype)
            .reshape(port.tensor.shape)
            .copy()
            for port in self.source.interface.outputs
        }

    def reset(self) -> None:
        self._call("reset")
