"""What one layer runs in C: a kernel made for it, and the makers that a target kind offers.

A target kind has a table of makers. Each is asked for each layer and returns what it would emit, or None where it does
not apply; the cheapest by counted cost under the budget is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.types import Program, ProgramOperator

__all__ = ["Constant", "Kernel", "KernelMaker", "Layer"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that a kernel is wanted for.

    Attributes:
        program: The whole, for its tensors.
        operator: The layer.
        prefix: A C identifier that no other layer has; every name that the kernel defines starts with it.
        core: Arm's name of the core (``cortex-m4``, ``cortex-m0plus``, ...); empty for portable C.
    """

    program: Program
    operator: ProgramOperator
    prefix: str
    core: str = ""


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash, as the kernel reads it.

    Attributes:
        name: C identifier; the layer's prefix and what it is.
        array: Of an integer type of 8, 16 or 32 bits; emitted flat, in C order.
        note: What is in which order, for who reads the C: one line.
        alignment: In bytes.
    """

    name: str
    array: Array
    note: str
    alignment: int = 4


@dataclass(frozen=True, eq=False)
class Kernel:
    """C for one layer.

    Attributes:
        name: As tables and reports show it: ``pointwise_int16``, ``winograd_4x4``, ``portable``.
        call: One C statement; ``{input0}``, ``{input1}``, ... (numbered as in the operator, constants counted too) are
            `const int8_t *` (or the tensor's own type),
            ``{output0}`` is a pointer to where the result goes, ``{scratch}`` is a `void *` aligned to 4 bytes.
        constants: Arrays that it reads.
        source: Static C functions (inline assembly included) that `call` uses; may be empty.
        library: Files of ``targets/_c/kernels`` that it needs, shared by all layers.
        scratch_bytes: Working memory that it needs while it runs.
        leads: For each input that is not constant: the least `input address - output address` in bytes at which the
            two regions may overlap (0: may run in place; negative: the output may even begin after the input does),
            or None where they may not overlap.
        exact: The regions may overlap at exactly these leads only, not at greater ones: a kernel that goes through the
            image a few channels at a time may write where it read, but not elsewhere in what it has still to read.
    """

    name: str
    call: str
    constants: tuple[Constant, ...] = ()
    source: str = ""
    library: tuple[str, ...] = ()
    scratch_bytes: int = 0
    leads: tuple[int | None, ...] = ()
    exact: bool = False

    @property
    def constant_bytes(self) -> int:
        """Flash that its arrays take."""
        return sum(constant.array.nbytes for constant in self.constants)

    def statement(self, pointers: Mapping[str, str]) -> str:
        """`call` with ``{input0}``, ``{output0}``, ``{scratch}``, ... replaced; other braces are C.

        >>> Kernel("copy", "copy({input0}, {output0});").statement({"input0": "a", "output0": "b"})
        'copy(a, b);'
        """
        return re.sub(r"\{(input\d+|output\d+|scratch)\}", lambda found: pointers[found[1]], self.call).strip()


KernelMaker = Callable[[Layer], Kernel | None]
