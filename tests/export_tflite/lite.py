"""Runs a Program's file with LiteRT, in the source model's names and layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from leanedge.export.tflite_file import tflite_bytes

if TYPE_CHECKING:
    from leanedge.program.types import Program

Array = np.ndarray[Any, Any]


def run_lite(
    program: Program, sample: dict[str, Array], reference: bool = False, fp16: bool = False
) -> dict[str, Array]:
    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter = Interpreter(
        model_content=tflite_bytes(program, fp16), num_threads=1, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    fed = {
        port.name: sample[port.name] if port.permutation is None else sample[port.name].transpose(port.permutation)
        for port in program.inputs
    }
    made = interpreter.get_signature_runner("serving_default")(**fed)
    return {
        port.name: made[port.name] if port.inverse is None else made[port.name].transpose(port.inverse)
        for port in program.outputs
    }
