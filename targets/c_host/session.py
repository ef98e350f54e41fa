"""An artifact opened: real numbers in the source model's layout in and out, the generated C in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source import emit, make_kernels, make_layers, portable_kernel
from leanedge.program.integer_ports import integer_ports
from leanedge.program.schedule import reordered, schedule
from leanedge.program.simplify import simplify
from leanedge.program.simulate.real import dequantize, quantize
from leanedge.program.tflite_file import load_tflite

from .library import open_library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from leanedge.export.c_source import CSource
    from leanedge.program.types import ProgramTensor
    from leanedge.target import Artifact

__all__ = ["emit_file", "moved", "open_artifact", "open_many", "to_integers", "to_reals"]

Array = np.ndarray[Any, Any]
Run = "Callable[[Mapping[str, Array]], dict[str, Array]]"


def emit_file(path: Path) -> CSource:
    """The C of a .tflite file, with portable kernels."""
    program = simplify(integer_ports(load_tflite(path))).program
    program = reordered(program, schedule(program))
    return emit(program, make_kernels(make_layers(program, "model"), [portable_kernel]), "model")


def open_artifact(artifact: Artifact, threads: int) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function that runs one sample, arrays in the source model's layout.

    Args:
        artifact: Of this kind.
        threads: The generated C has one, whatever is asked for.

    Raises:
        MissingProgram: There is no C compiler.
    """
    many = open_many(artifact)

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        made = many({name: np.asarray(array)[None] for name, array in sample.items()})
        return {name: array[0] for name, array in made.items()}

    return run


def open_many(artifact: Artifact) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function that runs many samples in one call: an axis of samples stands before the model's own axes."""
    library = open_library(emit_file(artifact.model_path))
    interface = library.source.interface
    arena = library.new_arena()  # one for all calls: a streaming model remembers

    def run(samples: Mapping[str, Array]) -> dict[str, Array]:
        fed = {}
        for port in interface.inputs:
            turned = moved(samples[port.port.name], artifact.input_layouts[port.port.name])
            fed[port.port.name] = to_integers(port.tensor, turned)
        made = library.run_many(fed, arena)
        return {
            port.port.name: moved(to_reals(port.tensor, made[port.port.name]), artifact.output_layouts[port.port.name])
            for port in interface.outputs
        }

    return run


def to_integers(tensor: ProgramTensor, array: Array) -> Array:
    """What the C takes: floats quantized, integers as they are."""
    return quantize(array, tensor) if array.dtype.kind == "f" else array.astype(tensor.dtype)


def to_reals(tensor: ProgramTensor, array: Array) -> Array:
    """What the C's integers mean."""
    return array if tensor.quant is None else dequantize(array, tensor)


def moved(array: Array, permutation: tuple[int, ...] | None) -> Array:
    """Moves all axes but the first, that of samples."""
    return array if permutation is None else array.transpose(0, *(axis + 1 for axis in permutation))
