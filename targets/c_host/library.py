"""Generated C built for this machine as a shared library, and run on whole data sets through ctypes."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from leanedge.targets._programs.host_compiler import compiler_command

from leanedge.cache import cached_folder, digest
from leanedge.errors import ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from leanedge.export.c_source import CSource

__all__ = ["FLAGS", "Library", "compile_library", "open_library"]

Array = np.ndarray[Any, Any]

FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Wdouble-promotion", "-Werror", "-fPIC", "-shared")
"""How the generated files are compiled here; a warning is an error in them."""

_BATCH = """\
#include "{stem}.h"

#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT void leanedge_host_init(void *arena)
{{
    {stem}_model model;
    {stem}_init(&model, arena);
}}

EXPORT void leanedge_host_reset(void *arena)
{{
    {stem}_model model = {{(uint8_t *)arena}};
    {stem}_reset(&model);
}}

EXPORT void leanedge_host_run(void *arena, int64_t count, const char *const *inputs, char *const *outputs)
{{
    {stem}_model model = {{(uint8_t *)arena}};
    for (int64_t n = 0; n < count; ++n) {{
{copies}
    }}
}}
"""


@dataclass(frozen=True)
class Library:
    """A loaded model.

    Attributes:
        source: What it was built from.
        handle: The shared library.
    """

    source: CSource
    handle: ctypes.CDLL

    def new_arena(self, fill: int = 0) -> Array:
        """An arena of its own, every byte `fill`, for one instance."""
        # One alignment more, so that the aligned part can be cut out.
        alignment = self.source.plan.alignment
        room = np.full(self.source.plan.arena_bytes + alignment, fill, np.uint8)
        start = -room.ctypes.data % alignment
        arena = room[start : start + self.source.plan.arena_bytes]
        self.handle.leanedge_host_init(ctypes.c_void_p(arena.ctypes.data))
        return arena

    def reset(self, arena: Array) -> None:
        """The state before the first run."""
        self.handle.leanedge_host_reset(ctypes.c_void_p(arena.ctypes.data))

    def run_many(self, inputs: Mapping[str, Array], arena: Array | None = None) -> dict[str, Array]:
        """Outputs of many samples, one after another.

        Args:
            inputs: Input -> (samples, *shape) in the C's own type and layout.
            arena: An instance's arena; a new one by default.

        Raises:
            ValueError: An input has another shape or type.
        """
        ports = self.source.interface
        arena = self.new_arena() if arena is None else arena
        count = len(next(iter(inputs.values()))) if inputs else 1
        fed = []
        for port in ports.inputs:
            array = inputs[port.port.name]
            wanted = (count, *port.tensor.shape)
            if array.shape != wanted or array.dtype != port.tensor.dtype:
                raise ValueError(
                    f"{port.port.name} is {array.dtype} of shape {array.shape}, not {port.tensor.dtype} of {wanted}"
                )
            fed.append(np.ascontiguousarray(array))
        made = [np.empty((count, *port.tensor.shape), port.tensor.dtype) for port in ports.outputs]
        self.handle.leanedge_host_run(
            ctypes.c_void_p(arena.ctypes.data), ctypes.c_int64(count), _pointers(fed), _pointers(made)
        )
        return {port.port.name: array for port, array in zip(ports.outputs, made, strict=True)}

    def run(self, inputs: Mapping[str, Array], arena: Array | None = None) -> dict[str, Array]:
        """Outputs of one sample; `inputs` without an axis of samples."""
        many = self.run_many({name: array[None] for name, array in inputs.items()}, arena)
        return {name: array[0] for name, array in many.items()}


def _pointers(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def compile_library(source: CSource, folder: Path, compiler: Sequence[str] = (), flags: Sequence[str] = FLAGS) -> Path:
    """Writes the files to `folder` and builds them there.

    Returns:
        The shared library.

    Raises:
        MissingProgram: There is no compiler.
        ValidationFailed: The compiler refuses the files.
    """
    command = [*(compiler or compiler_command())]
    for name, text in {**source.files, "host_batch.c": _batch_text(source)}.items():
        (folder / name).write_text(text, encoding="utf-8")
    library = folder / f"lib{source.interface.stem}.so"
    done = subprocess.run(
        [*command, *flags, "-o", library.name, *source.sources, "host_batch.c"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValidationFailed(
            f"{' '.join(command)} refuses the generated C:\n{done.stderr.strip()[-2000:]}", where=str(folder)
        )
    return library


def open_library(source: CSource) -> Library:
    """Builds the files, or finds that the very same were built before, and loads them."""
    compiler = compiler_command()
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    key = digest(dict(source.files), _batch_text(source), compiler, version, FLAGS)

    def produce(folder: Path) -> None:
        compile_library(source, folder, compiler)

    folder, _ = cached_folder("c_host", key, produce)
    return Library(source, ctypes.CDLL(str(folder / f"lib{source.interface.stem}.so")))


def _batch_text(source: CSource) -> str:
    interface = source.interface
    stem, upper = interface.stem, interface.upper

    def size(name: str) -> str:
        return f"sizeof({upper}_{name.upper()}_TYPE) * {upper}_{name.upper()}_ELEMENTS"

    lines = [
        f"memcpy({stem}_{port.name}(&model), inputs[{place}] + (size_t)n * {size(port.name)}, {size(port.name)});"
        for place, port in enumerate(interface.inputs)
    ]
    lines.append(f"{stem}_run(&model);")
    lines += [
        f"memcpy(outputs[{place}] + (size_t)n * {size(port.name)}, {stem}_{port.name}(&model), {size(port.name)});"
        for place, port in enumerate(interface.outputs)
    ]
    return _BATCH.format(stem=stem, copies="\n".join(f"        {line}" for line in lines))
