"""Runs .tflite files with TensorFlow Lite Micro and with LiteRT's reference kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tflite_micro
from ai_edge_litert.interpreter import Interpreter, OpResolverType

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NOT_IN_TFLM", "litert", "tflm"]

Array = np.ndarray[Any, Any]

NOT_IN_TFLM = frozenset({"relu_n1_to_1"})
"""Kinds that it has not; LiteRT alone is their oracle."""


def tflm(data: bytes, arrays: Mapping[str, Array], outputs: int) -> list[Array]:
    """The outputs of one run; `arrays` in the order of the file's inputs."""
    interpreter = tflite_micro.runtime.Interpreter.from_bytes(data, arena_size=1 << 20)
    for place, array in enumerate(arrays.values()):
        interpreter.set_input(array, place)
    interpreter.invoke()
    return [np.array(interpreter.get_output(place)) for place in range(outputs)]


def litert(data: bytes, arrays: Mapping[str, Array]) -> list[Array]:
    """The same of LiteRT; `arrays` and the results by the names and in the order of the file's ports."""
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    made = runner(**arrays)
    return [made[name] for name in made]
