"""Every kernel that each operator may have on a core, tried in emulation: right to the bit, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.cache import code_version, digest, find_json, keep_json
from leanedge.errors import UnsupportedOperator, ValidationFailed
from leanedge.export.c_source.choose import KernelOption
from leanedge.export.c_source.portable import portable_kernel
from leanedge.program.simulate import simulate_tensors
from leanedge.program.types import Program

from .bench import KernelTrial, run_kernels
from .kernels import KERNELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.export.c_source.kernel import Kernel, Layer
    from leanedge.program.types import ProgramOperator

    from .bench import KernelObservation
    from .flash import FlashModel
    from .toolchain import Compiler

__all__ = ["trial_inputs", "try_kernels"]

Array = np.ndarray[Any, Any]


def try_kernels(
    program: Program, layers: Sequence[Layer], core: str, compiler: Compiler, flash: FlashModel | None
) -> list[list[KernelOption]]:
    """Makes every kernel for every operator, runs each in emulation and compares it with the reference.

    Inputs are full-range noise and the extremes. What was tried before with the same code is not tried again.

    Args:
        program: With integer inputs and outputs, in the order that it will run in.
        layers: One an operator (`make_layers`).
        core: Arm's name of the core.
        compiler: ``zig`` or ``gcc``.
        flash: The device's flash, for what waiting for it takes; None counts cycles without waiting.

    Returns:
        For each operator, what it may have.

    Raises:
        UnsupportedOperator: An operator has no kernel at all.
        ValidationFailed: A kernel's outputs differ from the reference, or it writes where it must not.
    """
    made = [_made(layer) for layer in layers]
    how = (core, compiler, repr(flash))
    keys = [[_key(layer, kernel, how) for kernel in group] for layer, group in zip(layers, made, strict=True)]
    known: dict[str, Mapping[str, Any]] = {}
    missing: list[tuple[str, Layer, Kernel]] = []
    for layer, group, names in zip(layers, made, keys, strict=True):
        for kernel, key in zip(group, names, strict=True):
            found = find_json("kernels", key)
            if found is not None:
                known[key] = found
            else:
                missing.append((key, layer, kernel))
    if missing:
        inputs = {id(layer): trial_inputs(program, layer.operator) for _, layer, _ in missing}
        trials = [KernelTrial(program, layer.operator, kernel, inputs[id(layer)]) for _, layer, kernel in missing]
        for (key, layer, kernel), trial, seen in zip(
            missing, trials, run_kernels(trials, core, compiler, flash), strict=True
        ):
            _compare(program, layer.operator, kernel, trial, seen.outputs, seen.faults)
            record = {
                "cycles": seen.counts.device_cycles,
                "instructions": seen.counts.instructions,
                **_code(seen, layer.prefix),
            }
            known[key] = keep_json("kernels", key, record)
    return [
        [KernelOption(kernel, **known[key]) for kernel, key in zip(group, names, strict=True)]
        for group, names in zip(made, keys, strict=True)
    ]


def _code(seen: KernelObservation, prefix: str) -> dict[str, Any]:
    """Bytes of code of its own, and of what other layers may share: functions and files that are linked once."""
    own = (prefix, "trial_")
    shared = {name: nbytes for name, nbytes in seen.functions.items() if not name.startswith(own)}
    return {
        "code_bytes": sum(seen.functions.values()) - sum(shared.values()),
        "shared_bytes": {**shared, **seen.library_bytes},
    }


def _made(layer: Layer) -> list[Kernel]:
    found: list[Kernel] = []
    for number, maker in enumerate((*KERNELS, portable_kernel)):
        # Two makers may offer kernels of one layer; their names must not meet while both are tried.
        kernel = maker(replace(layer, prefix=f"{layer.prefix}_{chr(ord('a') + number)}"))
        if kernel is not None:
            found.append(kernel)
    if not found:
        raise UnsupportedOperator(
            f"there is no C kernel for {layer.operator.kind} of this type and shape",
            where=layer.operator.source,
            allowed="int8 activations and weights, batch 1",
            hint="quantize the model to w8a8 so that no operator stays in float, or change this layer",
        )
    return found


def _key(layer: Layer, kernel: Kernel, how: tuple[str, ...]) -> str:
    tensors = layer.program.tensors
    shapes = [(tensors[name].shape, tensors[name].dtype) for name in (*layer.operator.inputs, *layer.operator.outputs)]
    constants = [(constant.array, constant.alignment) for constant in kernel.constants]
    text = (kernel.source + kernel.call).replace(layer.prefix, "")
    return digest(text, constants, list(kernel.library), kernel.scratch_bytes, shapes, how, code_version())


def trial_inputs(program: Program, operator: ProgramOperator) -> list[list[Array]]:
    """Input sets that show the worst: noise over the full range, all at the lowest, at the highest, in turns."""
    rng = np.random.default_rng(0)
    made: dict[str, list[Array]] = {}
    varying = [name for name in operator.inputs if program.tensors[name].data is None]
    for name in varying:
        tensor = program.tensors[name]
        info = np.iinfo(tensor.dtype)
        made[name] = [
            rng.integers(info.min, info.max, tensor.shape, tensor.dtype, endpoint=True),
            np.full(tensor.shape, info.min, tensor.dtype),
            np.full(tensor.shape, info.max, tensor.dtype),
            np.where(rng.random(tensor.shape) < 0.5, info.min, info.max).astype(tensor.dtype),
        ]
    return [[made[name][number] for name in varying] for number in range(4)]


def _compare(
    program: Program,
    operator: ProgramOperator,
    kernel: Kernel,
    trial: KernelTrial,
    outputs: Sequence[Sequence[Array]],
    faults: Sequence[str],
) -> None:
    if faults:
        raise ValidationFailed(f"the kernel {kernel.name} {faults[0]}", where=operator.source)
    names = dict.fromkeys((*operator.inputs, *operator.outputs))
    alone = Program({name: program.tensors[name] for name in names}, (operator,), (), ())
    varying = [name for name in operator.inputs if program.tensors[name].data is None]
    for number, (arrays, found) in enumerate(zip(trial.inputs, outputs, strict=True)):
        expected = simulate_tensors(alone, dict(zip(varying, arrays, strict=True)))
        for name, array in zip(operator.outputs, found, strict=True):
            if not np.array_equal(expected[name], array):
                at = tuple(int(index) for index in np.argwhere(expected[name] != array)[0])
                raise ValidationFailed(
                    f"the kernel {kernel.name} differs from the reference: {array[at]} instead of {expected[name][at]} "
                    f"at {at} of {name}, input set {number}",
                    where=operator.source,
                )
